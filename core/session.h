/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions and their windows, as the rest of core sees them. */
#ifndef SYN_CORE_SESSION_H
#define SYN_CORE_SESSION_H

#include "core/mm-internal.h"

/*
 * One of the leases of @session from entry *@at on, SYN_NONE when there is no
 * more.  @at begins at 0.
 */
uint32_t syn_session_lease(const struct syn_session *session, uint32_t *at);

/* Frees what is derived of it. */
void syn_session_release(struct syn_session *session);

/* When extents are open it must know them; and who has ended, has ended. */
void syn_session_adopt_windows(struct syn_session *session);
void syn_session_adopt_end(struct syn_session *session);

#endif
