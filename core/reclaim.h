/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim: who has to leave HBM.
 *
 * A window's pages are in LRU order with a second chance: a page that was
 * pinned since it was last looked at goes back to the hot end.  Each call
 * looks at a bounded number of pages.
 *
 * A pool without windows is emptied, and one with a surplus when somebody else
 * needs the room.
 *
 * A window takes from its own pages only, and within its guarantee from those
 * of its pool that are charged to nobody.
 */
#ifndef SYN_CORE_RECLAIM_H
#define SYN_CORE_RECLAIM_H

#include "core/mm-internal.h"

/*
 * 0: @nr slots can be taken now.  SYN_MM_E_WAIT: some are on their way.
 * SYN_E_BACKPRESSURE: neither.  @nr is at most the window's slots.
 */
int syn_reclaim_room(struct syn_window *window, uint32_t nr);

/* After slots were taken: keeps the watermarks. */
void syn_reclaim_balance(struct syn_window *window);
bool syn_reclaim_poll(struct syn_mm *mm);

/*
 * Drops at most @max keyed pages that nobody leases; returns how many.  @why and
 * @session as for syn_page_evict().
 */
uint64_t syn_reclaim_evict(struct syn_mm *mm, uint64_t max, uint32_t why,
			   uint32_t session);

/* What every request for slots does with a refusal. */
int syn_reclaim_refuse(struct syn_session *session, int r, uint16_t op,
		       uint64_t *ret_hint_ns);

#endif
