/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The swap file: pages go out from host frames and come in to host frames.
 *
 * Each request is written down before it is submitted, and its page carries
 * SYN_PAGE_F_IO until it has ended: the frame and the slot stay where they are.
 * A page that is read in keeps its slot, so that its frame can be had again
 * without a write.
 *
 * Out, EIO: the slot is never used again, another one is tried later.  In, EIO
 * or other bytes than were written: the page is lost and its slot never used
 * again.  Full: what is in a tier above too, then what nobody leases, makes
 * room; else the page stays where it is.
 */
#ifndef SYN_CORE_SWAP_H
#define SYN_CORE_SWAP_H

#include "core/mm-internal.h"

#define SYN_SWAP_E_FULL	 1 /* no slot can be had */
#define SYN_SWAP_E_LATER 2 /* enough is under way, or the disk failed */

/*
 * At the start: every sealed page that the file holds is there again.  -errno
 * when the file cannot be read.
 */
int syn_swap_start(struct syn_mm *mm);

/* At adoption, when it is known who has which slot, and before any can be had. */
void syn_swap_adopt(struct syn_mm *mm);
/* An extent on segment @segment of the file, none of whose slots can be had yet. */
int syn_swap_segment_new(struct syn_mm *mm, struct syn_pool *pool,
			 uint32_t segment, uint64_t seq,
			 struct syn_extent **ret);

/*
 * 0: the write has begun.  The page has a host copy and no request out.
 * @session: id, for whom room is made, or SYN_NONE.
 */
int syn_swap_out(struct syn_mm *mm, uint32_t page, bool durable,
		 uint32_t session);

/*
 * 0: the read into @frame has begun, and the frame is the page's.  The page has
 * a slot, no host copy and no request out.  @session: id, for whom.
 */
int syn_swap_in(struct syn_mm *mm, uint32_t page, uint32_t frame,
		uint32_t session);

/* Begins at most @nr writes of the coldest pages of a host pool, as above. */
uint32_t syn_swap_clean(struct syn_mm *mm, struct syn_pool *pool, uint32_t nr,
			uint32_t session);

/* Takes completions; true if there were any. */
bool syn_swap_poll(struct syn_mm *mm);

/* Waits until the disk has finished everything: for the very end. */
void syn_swap_quiesce(struct syn_mm *mm);

#endif
