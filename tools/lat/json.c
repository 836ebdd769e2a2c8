/* SPDX-License-Identifier: Apache-2.0 */
/* Intervals for programs. */
#include "tools/lat/show.h"

#include <json-c/json.h>

#include "core/base/base.h"
#include "tools/lat/options.h"

static void add(struct json_object *to, const char *member,
		struct json_object *value)
{
	if (to)
		(void)json_object_object_add(to, member, value);
}

static void add_number(struct json_object *to, const char *member,
		       uint64_t value)
{
	add(to, member, json_object_new_uint64(value));
}

static struct json_object *bucket_of(const uint64_t *buckets, unsigned int i)
{
	struct json_object *bucket = json_object_new_object();

	add_number(bucket, "from_ns", syn_lat_bucket_from_ns(i));
	if (i + 1 < SYN_LAT_BUCKETS)
		add_number(bucket, "to_ns", syn_lat_bucket_from_ns(i + 1));
	else
		add(bucket, "to_ns", NULL);
	add_number(bucket, "count", buckets[i]);
	return bucket;
}

/* Buckets with nothing in them are left out. */
static void add_times(struct json_object *to, const uint64_t *buckets,
		      uint64_t sum_ns)
{
	struct json_object *list = json_object_new_array();
	uint64_t count = syn_lat_sum(buckets);

	for (unsigned int i = 0; list && i < SYN_LAT_BUCKETS; i++)
		if (buckets[i])
			(void)json_object_array_add(list,
						    bucket_of(buckets, i));
	add_number(to, "count", count);
	add_number(to, "sum_ns", sum_ns);
	add_number(to, "p50_ns", syn_lat_quantile_ns(buckets, 500));
	add_number(to, "p90_ns", syn_lat_quantile_ns(buckets, 900));
	add_number(to, "p99_ns", syn_lat_quantile_ns(buckets, 990));
	add(to, "histogram", list);
}

static void add_client(struct json_object *to,
		       const struct syn_lat_interval *interval,
		       const struct syn_lat_key *key)
{
	const struct syn_lat_client *client = syn_lat_daemon_client(
		interval->daemon, key->worker, key->session);

	add_number(to, "worker_pid", key->worker);
	add_number(to, "session", key->session);
	add(to, "pid", client ? json_object_new_uint64(client->pid) : NULL);
	add(to, "name", client ? json_object_new_string(client->name) : NULL);
}

static struct json_object *entry_of(const struct syn_lat_interval *interval,
				    const struct syn_lat_entry *entry)
{
	struct json_object *object = json_object_new_object();
	struct json_object *swap = NULL;
	char word[SYN_LAT_WORD_MAX];

	if (interval->by & SYN_LAT_BY_CLIENT)
		add_client(object, interval, &entry->key);
	syn_lat_cause_word(entry->key.cause, word);
	if (interval->by & SYN_LAT_BY_CAUSE)
		add(object, "cause", json_object_new_string(word));
	syn_lat_tier_word(entry->key.tier, word);
	if (interval->by & SYN_LAT_BY_TIER)
		add(object, "tier", json_object_new_string(word));
	add_number(object, "failed", entry->hist.failed);
	add_times(object, entry->hist.fault, entry->hist.fault_ns);
	if (syn_lat_sum(entry->hist.swap)) {
		swap = json_object_new_object();
		add_times(swap, entry->hist.swap, entry->hist.swap_ns);
	}
	add(object, "swap_in", swap);
	return object;
}

static struct json_object *interval_of(const struct syn_lat_interval *interval)
{
	struct json_object *object = json_object_new_object();
	struct json_object *list = json_object_new_array();
	const struct syn_lat_counts *counts = &interval->counts;
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	add_number(object, "time_ns",
		   (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	add_number(object, "interval_ns", interval->length_ns);
	add_number(object, "begun", counts->begun);
	add_number(object, "ended", counts->ended);
	add_number(object, "unfinished", counts->unfinished);
	add_number(object, "lost", counts->lost);
	add_number(object, "missed", counts->missed);
	for (size_t i = 0; list && i < interval->nr; i++)
		(void)json_object_array_add(
			list, entry_of(interval, &interval->entries[i]));
	add(object, "faults", list);
	return object;
}

int syn_lat_show_json(FILE *out, const struct syn_lat_interval *interval)
{
	struct json_object *object = interval_of(interval);
	const char *text = NULL;
	int r = 0;

	if (object)
		text = json_object_to_json_string_ext(
			object, JSON_C_TO_STRING_PLAIN |
					JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		r = -ENOMEM;
	else if (fprintf(out, "%s\n", text) < 0 || fflush(out) != 0)
		r = -EIO;
	(void)json_object_put(object);
	return r;
}
