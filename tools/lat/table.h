/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms that only grow, and what was new in them in an interval. */
#ifndef SYN_TOOLS_LAT_TABLE_H
#define SYN_TOOLS_LAT_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "bpf/lat.h"

/**
 * struct syn_lat_entry - a histogram and whose it is.
 * @key:	sorted by it, member by member.
 * @hist:	all since the tracing began, or what came in an interval.
 */
struct syn_lat_entry {
	struct syn_lat_key key;
	struct syn_lat_hist hist;
};

/* Faults that ended, failed ones too. */
uint64_t syn_lat_hist_ended(const struct syn_lat_hist *hist);

/* Sum of SYN_LAT_BUCKETS @buckets. */
uint64_t syn_lat_sum(const uint64_t *buckets);
/* From where a bucket counts; of SYN_LAT_BUCKETS: UINT64_MAX, it has no end. */
uint64_t syn_lat_bucket_from_ns(unsigned int bucket);
/* The end of the bucket below which @permille of all are; 0 when there is none. */
uint64_t syn_lat_quantile_ns(const uint64_t *buckets, unsigned int permille);

void syn_lat_sort(struct syn_lat_entry *entries, size_t nr);

/*
 * What @now has more than @before, into @ret (room for @nr_now), entries without
 * news left out; both sorted by key, and so is @ret.  One that has less than
 * before was dropped and began again.  Returns how many.
 */
size_t syn_lat_news(const struct syn_lat_entry *before, size_t nr_before,
		    const struct syn_lat_entry *now, size_t nr_now,
		    struct syn_lat_entry *ret);

/*
 * Adds up, in place, the entries that are alike in @by (SYN_LAT_BY_*); other
 * members of their keys become 0.  Returns how many are left, sorted by key.
 */
size_t syn_lat_fold(struct syn_lat_entry *entries, size_t nr, unsigned int by);

#endif
