/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loans: a client brings an absent page into a slot.  Recorded in the table
 * that the client reads, before they are answered.
 */
#ifndef SYN_CORE_LOAD_H
#define SYN_CORE_LOAD_H

#include "core/mm-internal.h"

/* The session has ended: its loans are void, their slots in quarantine. */
void syn_load_void(struct syn_session *session);

/*
 * The loan into the slot of @page, which is FILLING, is out still: false if there
 * is none.  When all such pages are known, the other loans of a session are over;
 * and what nobody was told of is taken back.
 */
bool syn_load_adopt(struct syn_mm *mm, uint32_t page);
void syn_load_adopt_rest(struct syn_session *session);
void syn_load_untell(struct syn_session *session, uint64_t loans);

#endif
