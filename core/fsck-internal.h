/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of fsck share: the walk, and what it counts on its way. */
#ifndef SYN_CORE_FSCK_INTERNAL_H
#define SYN_CORE_FSCK_INTERNAL_H

#include "core/fsck.h"
#include "core/lists.h"

/* Work, as of syn_fsck_step(). */
#define SYN_FSCK_RECORD 256 /* a record that is used */
#define SYN_FSCK_LOOK	2   /* one that is not */
#define SYN_FSCK_GLANCE 16  /* at one member of a record elsewhere */

struct syn_fsck_pool {
	uint64_t going;
	uint64_t moves;
	uint64_t users;
	uint64_t slots;
	uint64_t cached;
	uint64_t cutting;
	uint64_t list[SYN_LISTS];
};

struct syn_fsck_window {
	uint32_t charged;
	uint32_t going;
	uint32_t moves;
	uint32_t lru;
};

struct syn_fsck_session {
	uint32_t leases;
	uint32_t gone;
	uint32_t held;
	struct syn_fsck_window window[SYN_WINDOWS_MAX][SYN_PLANES];
};

/* @base: of its frames in @owned; @loose: as of an extent. */
struct syn_fsck_extent {
	uint32_t base;
	uint32_t nr_frames;
	uint32_t loose;
};

/**
 * struct syn_fsck - a walk.
 * @mm:		over whose records.
 * @changes:	@mm's when it began.
 * @changed:	they are not what they were: what is counted does not add up.
 * @stage:	what is looked at ...
 * @at:		... and at which record it goes on.
 * @left:	work left in this step.
 * @link:	free lists: the next record of one, ...
 * @nr_links:	... and how many there were.
 * @chained:	@link is valid.
 * @what:	the record that is looked at; what is found is said of it.
 * @nr_found:	things found.
 * @finding:	the first of them.
 *
 * The other members are counted on the way.
 */
struct syn_fsck {
	const struct syn_mm *mm;
	uint64_t changes;
	bool changed;
	uint32_t stage;
	uint64_t at;
	int64_t left;
	uint32_t link;
	uint64_t nr_links;
	bool chained;
	struct syn_ctl_fsck what;
	uint64_t nr_found;
	struct syn_ctl_fsck finding[SYN_FSCK_MAX];

	struct syn_fsck_pool *pool;
	struct syn_fsck_session *session;
	struct syn_fsck_extent *extent;
	uint64_t *owned; /* one bit for each frame */
	uint64_t *runs;	 /* one bit for 16 words of sums */
	uint64_t nvme_used[SYN_DOMAINS_MAX];
	uint32_t nr_members[SYN_DOMAINS_MAX];
	uint64_t nr_free[SYN_FSCK_MANAGER + 1]; /* records, by object */
	uint64_t nr_pages;
	uint64_t nr_sealed;
	uint64_t nr_keyed;
	uint64_t nr_indexed;
	uint64_t nr_lessees;
	uint64_t nr_reached; /* lessees on the lists of pages */
	uint64_t nr_sessions;
	uint64_t nr_waiting;
	uint64_t waiting_bytes;
	uint64_t nr_retired; /* used slots of the swap file without a page */
};

/* What is found from now on is found of this record. */
void syn_fsck_look(struct syn_fsck *f, uint32_t object, uint64_t index);
/* Of @part of it. */
void syn_fsck_part(struct syn_fsck *f, uint32_t part);

/* Returns whether they are the same, and notes it if they are not. */
bool syn_fsck_same(struct syn_fsck *f, uint32_t field, uint64_t expected,
		   uint64_t found);
/* The same for what was counted; true if nobody can know. */
bool syn_fsck_counted(struct syn_fsck *f, uint32_t field, uint64_t expected,
		      uint64_t found);
/* Notes that it refers to @index, which is not there; false. */
bool syn_fsck_missing(struct syn_fsck *f, uint64_t index);

/* The frame belongs to what is looked at. */
void syn_fsck_own(struct syn_fsck *f, const struct syn_extent *ext,
		  uint32_t frame);
bool syn_fsck_owned(const struct syn_fsck *f, const struct syn_extent *ext,
		    uint32_t frame);
/* So do @words of sums; false: they are another's, or not there. */
bool syn_fsck_own_sums(struct syn_fsck *f, uint32_t run, uint32_t words);

/* The extent of a slot of @pool; NULL: there is no such slot. */
struct syn_extent *syn_fsck_slot(const struct syn_pool *pool, uint32_t slot,
				 uint32_t *ret_frame);

/* The session of that index; NULL: there is none. */
struct syn_session *syn_fsck_session_at(const struct syn_mm *mm,
					uint32_t session);

/* Its window on @pool's space; NULL: it has none. */
const struct syn_window *syn_fsck_window_of(const struct syn_session *s,
					    const struct syn_pool *pool);
/* What is counted of it. */
struct syn_fsck_window *syn_fsck_count_of(struct syn_fsck *f,
					  const struct syn_window *w);

/* Stages: one record each; false: that was all. */
bool syn_fsck_pages(struct syn_fsck *f);
bool syn_fsck_departures(struct syn_fsck *f);
bool syn_fsck_lessees(struct syn_fsck *f);
bool syn_fsck_moves(struct syn_fsck *f);
bool syn_fsck_swaps(struct syn_fsck *f);
bool syn_fsck_quarantine(struct syn_fsck *f);
bool syn_fsck_sessions(struct syn_fsck *f);
bool syn_fsck_buckets(struct syn_fsck *f);
bool syn_fsck_free_lists(struct syn_fsck *f);
bool syn_fsck_free_sums(struct syn_fsck *f);
bool syn_fsck_extents(struct syn_fsck *f);
bool syn_fsck_pools(struct syn_fsck *f);
bool syn_fsck_totals(struct syn_fsck *f);

#endif
