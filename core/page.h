/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages: where one is, whose account its slot is on, which lists it is in.
 *
 * Every change of a page's flags goes through syn_page_change(), which keeps
 * what is derived of them: lists, and the counts of slots that are about to
 * come free.
 *
 * A resident page's slot is charged to one session that leases it, or to
 * nobody: then it is on its pool's list `cached` and may be taken for anyone
 * who is within its guarantee.
 */
#ifndef SYN_CORE_PAGE_H
#define SYN_CORE_PAGE_H

#include "core/lists.h"

/*
 * A fresh page of @window's space, OPEN and resident, charged to it.  The
 * caller has made sure of a record and a slot.  SYN_NONE: no room for sums.
 */
uint32_t syn_page_new(struct syn_mm *mm, struct syn_window *window);

/*
 * A sealed page of @pool's space that @slot of the swap file holds; on no list
 * yet.  SYN_NONE: no record left, or no room for its sums.
 */
uint32_t syn_page_restore(struct syn_mm *mm, struct syn_pool *pool,
			  const struct syn_disk_head *head, uint32_t slot);

void syn_page_change(struct syn_mm *mm, uint32_t page, uint32_t set,
		     uint32_t clear);

/* Writes the entries of all lessees from the page's state. */
void syn_page_publish(struct syn_mm *mm, uint32_t page);
/* The entry of one lessee. */
uint64_t syn_page_pte(const struct syn_rec_page *pg, uint32_t generation);

/*
 * Slot to and from the page, with its charge.  Taken, it is one of @window's
 * pool, whichever the page was in before.
 */
void syn_page_slot_take(struct syn_mm *mm, uint32_t page,
			struct syn_window *window);
void syn_page_slot_free(struct syn_mm *mm, uint32_t page);
/*
 * Takes the slot, and what was on its way into it, from the page without freeing
 * it; returns it.
 */
uint32_t syn_page_slot_detach(struct syn_mm *mm, uint32_t page);

/* @session: index or SYN_NONE16; its window has room. */
void syn_page_charge(struct syn_mm *mm, uint32_t page, uint16_t session);
/* The charged session has given up its lease: somebody else's, or nobody's. */
void syn_page_recharge(struct syn_mm *mm, uint32_t page);
/* The ready point of a sealed page has passed; the second notes it. */
bool syn_page_passed(const struct syn_mm *mm, uint32_t page);
bool syn_page_ready(struct syn_mm *mm, uint32_t page);

/* Its sums, space->nr_tiles of them. */
uint32_t *syn_page_sums(struct syn_mm *mm, uint32_t page);
/* What its tiles have lost, as many; nothing is there while it is raw. */
uint16_t *syn_page_errors(const struct syn_mm *mm, uint32_t page);
/* Stores @sums, or compares: -EILSEQ and the first bad tile. */
int syn_page_verify(struct syn_mm *mm, uint32_t page, const uint32_t *sums,
		    uint32_t *ret_tile);

/* Frees its host frame, its slot in the swap file. */
void syn_page_host_free(struct syn_mm *mm, uint32_t page);
void syn_page_nvme_free(struct syn_mm *mm, uint32_t page);
/* Takes its key away. */
void syn_page_unkey(struct syn_mm *mm, uint32_t page);

/* The highest tier that has its bytes, SYN_TIER_*; 0: none has. */
uint32_t syn_page_tier(const struct syn_rec_page *pg);

/*
 * Its bytes are gone: @tile of the copy in @tier did not verify, or that was not
 * to be had.  @cause: SYN_WHY_CHECKSUM or SYN_WHY_DEVICE.
 */
void syn_page_lost(struct syn_mm *mm, uint32_t page, uint32_t tile,
		   uint32_t tier, uint32_t cause);

/*
 * A lease, copy or loan on it has ended: it dies if nobody leases it and it
 * has no key, and is freed once nobody can touch it.  False: it was freed.
 */
bool syn_page_settle(struct syn_mm *mm, uint32_t page);

/*
 * A page of a worker that is gone, whose record is in order and whose frames are
 * used: it takes its places.  When all have, it is settled.
 */
void syn_page_adopt(struct syn_mm *mm, uint32_t page);
void syn_page_adopt_settle(struct syn_mm *mm, uint32_t page);

/*
 * Drops a page that is evictable.  @why: SYN_WHY_*; @session: id of the one for
 * whom, or SYN_NONE.
 */
void syn_page_evict(struct syn_mm *mm, uint32_t page, uint32_t why,
		    uint32_t session);

#endif
