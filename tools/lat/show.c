/* SPDX-License-Identifier: Apache-2.0 */
/* Intervals for people. */
#include "tools/lat/show.h"

#include <inttypes.h>

#include "core/base/base.h"
#include "tools/ctl/record.h"
#include "tools/lat/options.h"

#define SHOW_BAR  32
#define SHOW_TIME 16

static void word_copy(const char *word, uint32_t value, char *ret)
{
	if (word)
		(void)snprintf(ret, SYN_LAT_WORD_MAX, "%s", word);
	else
		(void)snprintf(ret, SYN_LAT_WORD_MAX, "%" PRIu32, value);
}

void syn_lat_cause_word(uint32_t cause, char *ret)
{
	static const char *const words[] = {
		[SYN_CAUSE_RECLAIM] = "reclaim",
		[SYN_CAUSE_FOUND] = "found",
		[SYN_CAUSE_RESTART] = "restart",
	};

	word_copy(cause < syn_array_size(words) ? words[cause] : NULL, cause,
		  ret);
}

void syn_lat_tier_word(uint32_t tier, char *ret)
{
	word_copy(syn_form_word(SYN_FORM_TIER, tier), tier, ret);
}

/* Three digits and a unit. */
static void time_text(uint64_t ns, char *ret)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	double value = (double)ns;
	unsigned int unit = 0;

	while (value >= 1000 && unit + 1 < syn_array_size(units)) {
		value /= 1000;
		unit++;
	}
	(void)snprintf(ret, SHOW_TIME, "%.*f%s",
		       unit == 0 || value >= 100 ? 0
		       : value >= 10		 ? 1
						 : 2,
		       value, units[unit]);
}

static void client_print(FILE *out, const struct syn_lat_interval *interval,
			 const struct syn_lat_key *key)
{
	const struct syn_lat_client *client = syn_lat_daemon_client(
		interval->daemon, key->worker, key->session);

	(void)fprintf(out, "session %" PRIu32, key->session);
	if (client)
		(void)fprintf(out, " %s[%" PRIu32 "]", client->name,
			      client->pid);
}

static void key_print(FILE *out, const struct syn_lat_interval *interval,
		      const struct syn_lat_key *key)
{
	const char *before = "";
	char word[SYN_LAT_WORD_MAX];

	if (interval->by & SYN_LAT_BY_CLIENT) {
		client_print(out, interval, key);
		before = ", ";
	}
	if (interval->by & SYN_LAT_BY_CAUSE) {
		syn_lat_cause_word(key->cause, word);
		(void)fprintf(out, "%s%s", before, word);
		before = ", ";
	}
	if (interval->by & SYN_LAT_BY_TIER) {
		syn_lat_tier_word(key->tier, word);
		(void)fprintf(out, "%sfrom %s", before, word);
	}
}

static void sums_print(FILE *out, const char *what, const uint64_t *buckets,
		       uint64_t sum_ns)
{
	uint64_t count = syn_lat_sum(buckets);
	char mean[SHOW_TIME], half[SHOW_TIME], most[SHOW_TIME];

	if (!count)
		return;
	time_text(sum_ns / count, mean);
	time_text(syn_lat_quantile_ns(buckets, 500), half);
	time_text(syn_lat_quantile_ns(buckets, 990), most);
	(void)fprintf(out, "  %s %" PRIu64 ", mean %s, p50 < %s, p99 < %s\n",
		      what, count, mean, half, most);
}

static void bucket_print(FILE *out, const struct syn_lat_hist *hist,
			 unsigned int bucket, uint64_t most, bool swap)
{
	char from[SHOW_TIME], to[SHOW_TIME];
	int bar = (int)(hist->fault[bucket] * SHOW_BAR / most);

	time_text(syn_lat_bucket_from_ns(bucket), from);
	time_text(syn_lat_bucket_from_ns(bucket + 1), to);
	(void)fprintf(out, "  %7s - %-7s %10" PRIu64, from,
		      bucket + 1 < SYN_LAT_BUCKETS ? to : "",
		      hist->fault[bucket]);
	if (swap)
		(void)fprintf(out, " %10" PRIu64, hist->swap[bucket]);
	(void)fprintf(out, " |%.*s%*s|\n", bar,
		      "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@", SHOW_BAR - bar, "");
}

/* From the first bucket with something in it to the last. */
static void buckets_print(FILE *out, const struct syn_lat_hist *hist)
{
	bool swap = syn_lat_sum(hist->swap) != 0;
	unsigned int first = SYN_LAT_BUCKETS;
	unsigned int last = 0;
	uint64_t most = 1;

	for (unsigned int i = 0; i < SYN_LAT_BUCKETS; i++) {
		if (!hist->fault[i] && !hist->swap[i])
			continue;
		first = syn_min(first, i);
		last = i;
		most = syn_max(most, hist->fault[i]);
	}
	if (first == SYN_LAT_BUCKETS)
		return;
	(void)fprintf(out, "  %17s %10s", "TIME", "FAULTS");
	(void)fprintf(out, swap ? " %10s\n" : "\n", "SWAP-IN");
	for (unsigned int i = first; i <= last; i++)
		bucket_print(out, hist, i, most, swap);
}

static void entry_print(FILE *out, const struct syn_lat_interval *interval,
			const struct syn_lat_entry *entry)
{
	const struct syn_lat_hist *hist = &entry->hist;

	key_print(out, interval, &entry->key);
	if (hist->failed)
		(void)fprintf(out, ", %" PRIu64 " failed", hist->failed);
	(void)fputc('\n', out);
	sums_print(out, "faults", hist->fault, hist->fault_ns);
	sums_print(out, "swap-in", hist->swap, hist->swap_ns);
	buckets_print(out, hist);
}

int syn_lat_show_text(FILE *out, const struct syn_lat_interval *interval)
{
	const struct syn_lat_counts *counts = &interval->counts;
	time_t now = time(NULL);
	struct tm local;
	char clock[SHOW_TIME] = "";

	if (localtime_r(&now, &local))
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	(void)fprintf(out,
		      "%s  %.0f faults/s, %" PRIu64 " unfinished, %" PRIu64
		      " lost, %" PRIu64 " missed\n",
		      clock,
		      (double)counts->ended * 1e9 /
			      (double)syn_max(interval->length_ns, 1ul),
		      counts->unfinished, counts->lost, counts->missed);
	for (size_t i = 0; i < interval->nr; i++)
		entry_print(out, interval, &interval->entries[i]);
	(void)fputc('\n', out);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
