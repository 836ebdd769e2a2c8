/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quarantine: what waits until a session can not touch it any more.
 *
 * A session's timelines say how far its work has come.  A *drain* is a
 * snapshot of all `issued`; it has passed when every `done` has reached it.
 * Drains are numbered per session and pass in order; a few may wait at once,
 * and who comes later joins the youngest, whose snapshot is then taken anew:
 * that is later than needed but never too early.
 *
 * Two things wait: GONE lessees, which keep their page's slot from being used
 * again, and slots that belong to no page, because the loan into them failed.
 * When a session has ended without saying goodbye properly (loans or pins
 * out), only the exit of its process ends their wait.
 */
#ifndef SYN_CORE_QUARANTINE_H
#define SYN_CORE_QUARANTINE_H

#include "core/mm-internal.h"

/* False: nothing is outstanding.  True: wait for *ret_epoch. */
bool syn_drain_begin(struct syn_session *session, uint16_t *ret_epoch);
bool syn_drain_done(const struct syn_session *session, uint16_t epoch);

/*
 * Ends a lease.  @wait: its session may still touch the page until drain
 * @epoch has passed.  The page may be gone afterwards.
 */
void syn_quarantine_lease(struct syn_mm *mm, uint32_t lessee, bool wait,
			  uint16_t epoch);

/*
 * @page loses its slot, the loan into which failed: it is free, or in quarantine
 * on @session's account.  There are SYN_LOANS_MAX entries for each session, and
 * loans and entries together never exceed that.
 */
void syn_quarantine_slot(struct syn_session *session, uint32_t page);

/* Looks at all drains that wait; true if one passed. */
bool syn_quarantine_poll(struct syn_mm *mm);
/*
 * Slots that a worker that is gone has kept are used, those of sessions that are
 * not there excepted; then, when pages have their places, they and GONE lessees
 * wait for a drain that begins now.
 */
void syn_quarantine_adopt_slots(struct syn_mm *mm);
void syn_quarantine_adopt(struct syn_mm *mm);

/* The process has exited: everything of @session comes free. */
void syn_quarantine_end(struct syn_session *session);

#endif
