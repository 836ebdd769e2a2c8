/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What lat.bpf.c leaves in its maps for synapse-lat. */
#ifndef SYN_BPF_LAT_H
#define SYN_BPF_LAT_H

#include <stdint.h>

/* Bucket 0: below 2^LAT_SHIFT ns; i: from 2^(LAT_SHIFT + i - 1) to twice that;
 * the last one has all that is longer. */
#define SYN_LAT_BUCKETS 32u
#define SYN_LAT_SHIFT	10u

#define SYN_LAT_FAULTS_MAX 65536u /* under way at once */
#define SYN_LAT_KEYS_MAX   8192u  /* histograms */

/**
 * struct syn_lat_fault_key - one fault under way.
 * @worker:	process that serves it: sessions are numbered anew in each.
 * @session:	who wants the page.
 * @page:	page record.
 */
struct syn_lat_fault_key {
	uint32_t worker;
	uint32_t session;
	uint32_t page;
};

/**
 * struct syn_lat_fault - since when, and of what kind.
 * @begin_ns:	of fault_begin, CLOCK_MONOTONIC.
 * @swap_begin_ns: of swap_in_begin; 0: the disk is not asked now.
 * @swap_ns:	spent between swap_in_begin and swap_in_end so far.
 * @tier:	SYN_TIER_* that had the page.
 * @cause:	SYN_CAUSE_*.
 */
struct syn_lat_fault {
	uint64_t begin_ns;
	uint64_t swap_begin_ns;
	uint64_t swap_ns;
	uint32_t tier;
	uint32_t cause;
};

/**
 * struct syn_lat_key - the faults that are counted together.
 * @worker:	process that served them.
 * @session:	who wanted the page.
 * @tier:	SYN_TIER_* that had it.
 * @cause:	SYN_CAUSE_*.
 */
struct syn_lat_key {
	uint32_t worker;
	uint32_t session;
	uint32_t tier;
	uint32_t cause;
};

/**
 * struct syn_lat_hist - how long they took; only ever grows.
 * @failed:	ended without the page; in no bucket.
 * @fault_ns:	sum over @fault.
 * @swap_ns:	sum over @swap.
 * @fault:	faults that brought the page, by time.
 * @swap:	those of them that read the disk, by the time of that part.
 *
 * How many there are is the sum of the buckets, so that a reader in the middle
 * of an update never sees the two differ.
 */
struct syn_lat_hist {
	uint64_t failed;
	uint64_t fault_ns;
	uint64_t swap_ns;
	uint64_t fault[SYN_LAT_BUCKETS];
	uint64_t swap[SYN_LAT_BUCKETS];
};

#endif
