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

#endif
