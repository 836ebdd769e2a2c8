/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on histograms. */
#include "tools/lat/table.h"

#include "core/base/base.h"
#include "tools/lat/options.h"

uint64_t syn_lat_sum(const uint64_t *buckets)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < SYN_LAT_BUCKETS; i++)
		sum += buckets[i];
	return sum;
}

uint64_t syn_lat_hist_ended(const struct syn_lat_hist *hist)
{
	return hist->failed + syn_lat_sum(hist->fault);
}

uint64_t syn_lat_bucket_from_ns(unsigned int bucket)
{
	if (bucket >= SYN_LAT_BUCKETS)
		return UINT64_MAX;
	return bucket ? 1ull << (SYN_LAT_SHIFT + bucket - 1) : 0;
}

uint64_t syn_lat_quantile_ns(const uint64_t *buckets, unsigned int permille)
{
	uint64_t all = syn_lat_sum(buckets);
	uint64_t below = 0;

	for (unsigned int i = 0; i < SYN_LAT_BUCKETS && all; i++) {
		below += buckets[i];
		if (below * 1000 >= all * permille)
			return syn_lat_bucket_from_ns(i + 1);
	}
	return 0;
}

static int number_compare(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

static int key_compare(const struct syn_lat_key *a, const struct syn_lat_key *b)
{
	int r = number_compare(a->worker, b->worker);

	if (!r)
		r = number_compare(a->session, b->session);
	if (!r)
		r = number_compare(a->tier, b->tier);
	if (!r)
		r = number_compare(a->cause, b->cause);
	return r;
}

static int entry_compare(const void *a, const void *b)
{
	return key_compare(&((const struct syn_lat_entry *)a)->key,
			   &((const struct syn_lat_entry *)b)->key);
}

void syn_lat_sort(struct syn_lat_entry *entries, size_t nr)
{
	if (nr)
		qsort(entries, nr, sizeof(*entries), entry_compare);
}

static bool hist_is_after(const struct syn_lat_hist *now,
			  const struct syn_lat_hist *before)
{
	for (unsigned int i = 0; i < SYN_LAT_BUCKETS; i++)
		if (now->fault[i] < before->fault[i] ||
		    now->swap[i] < before->swap[i])
			return false;
	return now->failed >= before->failed;
}

static void hist_sub(struct syn_lat_hist *from, const struct syn_lat_hist *what)
{
	from->failed -= what->failed;
	from->fault_ns -= what->fault_ns;
	from->swap_ns -= what->swap_ns;
	for (unsigned int i = 0; i < SYN_LAT_BUCKETS; i++) {
		from->fault[i] -= what->fault[i];
		from->swap[i] -= what->swap[i];
	}
}

static void hist_add(struct syn_lat_hist *to, const struct syn_lat_hist *what)
{
	to->failed += what->failed;
	to->fault_ns += what->fault_ns;
	to->swap_ns += what->swap_ns;
	for (unsigned int i = 0; i < SYN_LAT_BUCKETS; i++) {
		to->fault[i] += what->fault[i];
		to->swap[i] += what->swap[i];
	}
}

size_t syn_lat_news(const struct syn_lat_entry *before, size_t nr_before,
		    const struct syn_lat_entry *now, size_t nr_now,
		    struct syn_lat_entry *ret)
{
	size_t nr = 0;
	size_t at = 0;

	for (size_t i = 0; i < nr_now; i++) {
		ret[nr] = now[i];
		while (at < nr_before &&
		       key_compare(&before[at].key, &now[i].key) < 0)
			at++;
		if (at < nr_before &&
		    !key_compare(&before[at].key, &now[i].key) &&
		    hist_is_after(&now[i].hist, &before[at].hist))
			hist_sub(&ret[nr].hist, &before[at].hist);
		if (syn_lat_hist_ended(&ret[nr].hist))
			nr++;
	}
	return nr;
}

static void key_reduce(struct syn_lat_key *key, unsigned int by)
{
	if (!(by & SYN_LAT_BY_CAUSE))
		key->cause = 0;
	if (!(by & SYN_LAT_BY_TIER))
		key->tier = 0;
	if (!(by & SYN_LAT_BY_CLIENT)) {
		key->session = 0;
		key->worker = 0;
	}
}

size_t syn_lat_fold(struct syn_lat_entry *entries, size_t nr, unsigned int by)
{
	size_t left = 0;

	for (size_t i = 0; i < nr; i++)
		key_reduce(&entries[i].key, by);
	syn_lat_sort(entries, nr);
	for (size_t i = 0; i < nr; i++) {
		if (left &&
		    !key_compare(&entries[left - 1].key, &entries[i].key))
			hist_add(&entries[left - 1].hist, &entries[i].hist);
		else
			entries[left++] = entries[i];
	}
	return left;
}
