/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: a lessee record on a page, and its entry in the page table of the
 * session.  The entry's generation grows each time it is used again, so an
 * old handle finds nothing.
 */
#ifndef SYN_CORE_LEASE_H
#define SYN_CORE_LEASE_H

#include "core/mm-internal.h"

/* Entries and records for @nr more leases. */
bool syn_lease_room(const struct syn_session *session, uint32_t nr);

/* There is room.  Publishes the entry; returns the lessee. */
uint32_t syn_lease_new(struct syn_session *session, uint32_t page,
		       uint32_t window, uint32_t flags);

/* Puts a record on its page. */
void syn_lease_link(struct syn_mm *mm, uint32_t lessee);

/* -ESTALE: @handle is no lease of @session. */
int syn_lease_find(const struct syn_session *session, uint64_t handle,
		   uint32_t *ret_lessee);
uint64_t syn_lease_handle(const struct syn_mm *mm, uint32_t lessee);

/* The client's pin word; seq_cst, so that it pairs with LEAVING. */
uint32_t syn_lease_pins(const struct syn_mm *mm, uint32_t lessee);

/* The entry becomes NONE; the record stays on its page as GONE. */
void syn_lease_end(struct syn_mm *mm, uint32_t lessee);
/* Takes a GONE record from its page and frees it. */
void syn_lease_free(struct syn_mm *mm, uint32_t lessee);

/*
 * A lessee of a worker that is gone takes its places; then, when pages are what
 * they will be, all entries of a session are written anew.
 */
void syn_lease_adopt(struct syn_mm *mm, uint32_t lessee);
void syn_lease_adopt_entries(struct syn_session *session);

#endif
