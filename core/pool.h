/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: equal frames of one tier and domain.
 *
 * HBM: one pool per (domain, space), or two: the second has frames of the stored
 * size, for encoded pages that are read as they are stored; which of the two a
 * page is in is decided each time it gets a frame.  Slots are numbered through
 * the pool, the same in every session that has a window on it.  It is grown when
 * a window opens, so that it always holds the sum of the guarantees.
 *
 * Host: one pool per (domain, frame size), grown when a page needs a frame.
 * One that finds no room asks for it: others do not grow into what comes free
 * before it has had its turn (core/shrink.h makes it come free).
 *
 * NVMe: one pool per frame size for all domains, whose extents are segments of
 * the swap file; core/swap.h grows it.
 */
#ifndef SYN_CORE_POOL_H
#define SYN_CORE_POOL_H

#include "core/mm-internal.h"

/* Bytes of an extent of @tier, unless its frames are larger. */
uint64_t syn_pool_unit(uint32_t tier, uint64_t budget_bytes);

/*
 * The pool of a plane of a space in a domain; made, with those below it, if
 * missing.  The pools of both planes have the same ones below.
 */
int syn_pool_get(struct syn_mm *mm, uint32_t domain, uint32_t space,
		 uint32_t plane, struct syn_pool **ret);
/* Frees every pool that has neither users nor extents. */
void syn_pool_reap(struct syn_mm *mm);

/* HBM: makes room for @slots more guaranteed ones, or -EDQUOT; 0: what it lacks. */
int syn_pool_guarantee(struct syn_mm *mm, struct syn_pool *pool,
		       uint32_t slots);
/* HBM: takes a guarantee back and retires what is empty and surplus. */
void syn_pool_ungarantee(struct syn_mm *mm, struct syn_pool *pool,
			 uint32_t slots);
/* Retires empty extents beyond what the guarantees need (host: all). */
void syn_pool_trim(struct syn_mm *mm, struct syn_pool *pool);

/* HBM: holds an extent more than the guarantees need. */
bool syn_pool_surplus(const struct syn_pool *pool);

/* Where a slot or host frame is. */
struct syn_extent *syn_pool_slot(const struct syn_pool *pool, uint32_t slot,
				 uint32_t *ret_frame);

/* nr_free is not 0. */
uint32_t syn_pool_slot_take(struct syn_mm *mm, struct syn_pool *pool,
			    uint32_t page);
void syn_pool_slot_give(struct syn_mm *mm, struct syn_pool *pool,
			uint32_t slot);
/* The slot has no page any more but is not free either. */
void syn_pool_slot_detach(const struct syn_pool *pool, uint32_t slot);

/* Counts and tells that a slot waits for @session, or does so no more. */
void syn_pool_quarantined(struct syn_mm *mm, const struct syn_pool *pool,
			  uint32_t session, uint32_t slot, bool enter);

/* The pool of an extent that was kept, made if missing. */
int syn_pool_adopt(struct syn_mm *mm, const struct syn_rec_extent *rec,
		   struct syn_pool **ret);
/* HBM: what was lost of the guarantees is made anew, now or when it is needed. */
void syn_pool_adopt_guarantee(struct syn_mm *mm, struct syn_pool *pool);

/* NVMe: the pool of a frame size, made if missing. */
int syn_pool_nvme(struct syn_mm *mm, uint64_t frame_bytes,
		  struct syn_pool **ret);

/* Where pages of the HBM pool @pool go, stored with @codec; may be NULL. */
static inline struct syn_pool *syn_pool_below(const struct syn_pool *pool,
					      uint32_t tier, uint32_t codec)
{
	return pool->below[tier - SYN_TIER_HOST][codec];
}

/*
 * A host frame, or SYN_NONE: no free one and no room to grow.
 */
uint32_t syn_pool_frame_take(struct syn_mm *mm, struct syn_pool *pool);
void syn_pool_frame_give(struct syn_mm *mm, uint32_t frame);

/*
 * NVMe: a slot, charged to @domain.  -EDQUOT: its quota refuses.  -ENOSPC: there
 * is no free one.
 */
int syn_pool_nvme_take(struct syn_mm *mm, struct syn_pool *pool,
		       uint32_t domain, uint32_t *ret);
void syn_pool_nvme_give(struct syn_mm *mm, uint32_t domain, uint32_t slot);

#endif
