/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that somebody holds for another: the keeper for its worker, and
 * a new worker while it takes over.
 */
#ifndef SYN_TOOLS_SYNAPSED_HOLD_H
#define SYN_TOOLS_SYNAPSED_HOLD_H

#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

/**
 * struct syn_held - descriptors that were put together.
 * @kind:	what they are, see tools/synapsed/keep.h.
 * @id:		unique among its kind.
 * @fd:		each; -1 after the last.
 */
struct syn_held {
	uint32_t kind;
	uint32_t id;
	int fd[SYN_FDS_MAX];
};

/**
 * struct syn_hold - all of them; zeroed: none.
 * @held:	each, in no order.
 * @nr:		their number.
 * @max:	room.
 */
struct syn_hold {
	struct syn_held *held;
	size_t nr;
	size_t max;
};

void syn_hold_close(int *fds);

/* Takes @fds, SYN_FDS_MAX of them, when it succeeds. */
int syn_hold_add(struct syn_hold *hold, uint32_t kind, uint32_t id,
		 const int *fds);
/* They are the caller's from now on.  -ENOENT. */
int syn_hold_take(struct syn_hold *hold, uint32_t kind, uint32_t id,
		  int *ret_fds);
/* What was there is closed; takes @fds when it succeeds.  -ENOENT. */
int syn_hold_replace(struct syn_hold *hold, uint32_t kind, uint32_t id,
		     const int *fds);
void syn_hold_drop(struct syn_hold *hold, uint32_t kind, uint32_t id);

/* Tells every session that it is over, and forgets everything. */
void syn_hold_end(struct syn_hold *hold, const char *reason);

#endif
