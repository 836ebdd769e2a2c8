/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: a page leaves HBM.
 *
 * First its entries show LEAVING, then the pin counts are read: any count, and
 * it is restored.  All zero: once the lessees' timelines have drained, a page
 * with a copy below just gives its slot up, another is copied to a host frame
 * and summed, or encoded on the way.  A page that was summed before must have
 * the same sums, or it is lost.
 *
 * A fault that comes meanwhile takes LEAVING back: the copy only reads the
 * slot, and the page is immutable; what was copied stays as a duplicate.
 */
#ifndef SYN_CORE_MOVE_H
#define SYN_CORE_MOVE_H

#include "core/mm-internal.h"

#define SYN_MOVE_E_PINNED 1 /* in use, or used by somebody who is gone */
#define SYN_MOVE_E_FULL	  2 /* the host tier is full */
#define SYN_MOVE_E_LATER  3 /* enough is moving, or the device failed */

/*
 * 0: its slot is free or will be.  @page is on an LRU list.  @session: id, for
 * whom room is made, or SYN_NONE.
 */
int syn_move_out(struct syn_mm *mm, uint32_t page, uint32_t session);

/* Begins a copy into host memory; the page stays resident, as it is immutable. */
int syn_move_copy(struct syn_mm *mm, uint32_t page, uint32_t session);

/* Takes LEAVING back: the page is resident as before. */
void syn_move_cancel(struct syn_mm *mm, uint32_t page);

/*
 * Reaps completions, looks at drains, goes on with the pages that have
 * drained; true if anything moved.
 */
bool syn_move_poll(struct syn_mm *mm);

/* Waits until the device has finished every copy: for the very end. */
void syn_move_quiesce(struct syn_mm *mm);

/* Does what a worker that is gone meant to do. */
void syn_move_redo(struct syn_mm *mm);

#endif
