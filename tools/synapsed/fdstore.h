/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd's descriptor store: what is in it comes back to the next main process
 * of the service.
 *
 * A set of descriptors that was put together is one place in the store: a socket
 * with a message in its queue that carries all of them.  Nobody takes it from
 * there, who comes only looks.  So a set is there or is not, in its order, and
 * systemd needs few descriptors and names for many sessions.
 *
 * A name is KIND-ID-SERIAL.  Of two sets of one kind and id the later one counts,
 * which has the higher serial number.
 */
#ifndef SYN_TOOLS_SYNAPSED_FDSTORE_H
#define SYN_TOOLS_SYNAPSED_FDSTORE_H

#include <stddef.h>
#include <stdint.h>

#include "tools/synapsed/hold.h"

/*
 * All names with what parts them: systemd hands them over in one variable of the
 * environment, and the kernel starts no program with a longer one than 128 KiB.
 */
#define SYN_FDSTORE_NAMES_BYTES 120000u

/**
 * struct syn_stored - a set in the store.
 * @kind:	what it is, see tools/synapsed/keep.h.
 * @id:		unique among its kind.
 * @serial:	of all sets that were ever stored.
 */
struct syn_stored {
	uint32_t kind;
	uint32_t id;
	uint64_t serial;
};

/**
 * struct syn_fdstore - all of them; zeroed: none.
 * @set:	each, in no order.
 * @nr:		their number.
 * @max:	room.
 * @serial:	the last one given.
 * @names_bytes: what their names take.
 */
struct syn_fdstore {
	struct syn_stored *set;
	size_t nr;
	size_t max;
	uint64_t serial;
	size_t names_bytes;
};

/* Once: what systemd hands over, into @ret_hold.  What does not count is let go. */
int syn_fdstore_take(struct syn_fdstore *store, struct syn_hold *ret_hold);

/*
 * 0 once systemd has all of @fds; they replace a set of the same kind and id.
 * -ENOSPC: it had no room; -E2BIG: their names have none; -ETIMEDOUT: it does not
 * answer, and is to drop them.
 */
int syn_fdstore_put(struct syn_fdstore *store, uint32_t kind, uint32_t id,
		    const int *fds, unsigned int nr_fds);
void syn_fdstore_drop(struct syn_fdstore *store, uint32_t kind, uint32_t id);

#endif
