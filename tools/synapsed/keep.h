/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker has kept by another process.
 *
 * What is kept outlives the worker that put it.  The next one begins once the
 * process is gone, takes everything, and goes on where the other was; or it
 * refuses.  Then another one tries again, if that may pass; or every session is told
 * so and another begins with nothing.
 *
 * Of an upgrade the next one is another program.  If it refuses or dies before it is
 * ready, the program before it may go on; but not once it has replaced something:
 * what was kept is then laid out as only it can read, and it is followed by itself.
 */
#ifndef SYN_TOOLS_SYNAPSED_KEEP_H
#define SYN_TOOLS_SYNAPSED_KEEP_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/server/server.h"
#include "tools/synapsed/config.h"
#include "tools/synapsed/hold.h"
#include "tools/synapsed/listen.h"

/* What is kept, besides what ipc/server/server.h has. */
#define SYN_KEEP_EXTENT 16u
#define SYN_KEEP_DEVICE 17u /* a GPU's file; its id is the minor number */
#define SYN_KEEP_MEMORY 18u /* kept memory, made by the first worker; id 0 */

struct syn_keep;

/**
 * struct syn_keep_ops - what a worker asks of who keeps.
 * @begin:	once, before all else: what this worker begins with.  Says itself
 *		what is wrong.
 * @ready:	this worker serves.
 * @refuse:	it cannot go on where the other was; why, and one line, which
 *		clients are told.
 * @put:	0 once duplicates of all of @fds have been acknowledged.
 * @replace:	as @put, in the place of what is kept: all of it, or nothing.
 * @drop:	they may be closed.
 * @upgrade:	0: this worker is to stop, and another program takes over.
 * @end:	this worker ends, and nobody is to go on.
 */
struct syn_keep_ops {
	int (*begin)(struct syn_keep *keep);
	int (*ready)(struct syn_keep *keep);
	void (*refuse)(struct syn_keep *keep, int error, const char *reason);
	int (*put)(struct syn_keep *keep, uint32_t kind, uint32_t id,
		   const int *fds, unsigned int nr_fds);
	int (*replace)(struct syn_keep *keep, uint32_t kind, uint32_t id,
		       const int *fds, unsigned int nr_fds);
	void (*drop)(struct syn_keep *keep, uint32_t kind, uint32_t id);
	int (*upgrade)(struct syn_keep *keep);
	void (*end)(struct syn_keep *keep);
};

/**
 * struct syn_keep - the worker's end; all but the first is @begin's to fill in.
 * @ops:	see there.
 * @lifeline_fd: readable when who keeps is gone; -1: it cannot be.
 * @epoch:	number of this worker.
 * @keeper_pid:	for people.
 * @heir:	another worker was here before.
 * @config:	checked.
 * @listener:	the tenants' listening sockets.
 * @hold:	while it takes over: what another worker had put and this one has
 *		not taken yet.
 */
struct syn_keep {
	const struct syn_keep_ops *ops;
	int lifeline_fd;
	uint64_t epoch;
	uint32_t keeper_pid;
	bool heir;
	struct syn_config config;
	struct syn_listener listener[SYN_TENANTS_MAX];
	struct syn_hold hold;
};

/*
 * Whether another worker may come further: descriptors or memory were short, or the
 * disk was still busy with what the dead one had asked of it.
 */
static inline bool syn_keep_error_passes(int error)
{
	return error == -ENOMEM || error == -ENOBUFS || error == -EMFILE ||
	       error == -ENFILE || error == -EAGAIN || error == -EBUSY;
}

#endif
