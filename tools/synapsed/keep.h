/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeper and worker say to one another, over a SOCK_SEQPACKET pair.
 *
 *	keeper -> worker	START, once; LISTEN, for each tenant; HELD, for
 *				each TAKE; ACK, for each PUT, REPLACE and UPGRADE
 *	worker -> keeper	TAKE, for each thing held; then READY or REFUSED,
 *				once; PUT and REPLACE with descriptors; DROP;
 *				UPGRADE
 *
 * The worker asks for one thing at a time and waits for its answer; the keeper
 * never waits for the worker.  End of file is the death of the other.
 *
 * What is held outlives the worker that put it.  The next one is started once
 * the process is gone, takes everything, and goes on where the other was; or it
 * refuses, and then every session is told so and another begins with nothing.
 *
 * Of an upgrade the next one is another program.  If it refuses or dies before it is
 * ready, the program before it goes on; but not once it has sent REPLACE: what was
 * kept is then laid out as only it can read, and it is followed by itself.
 */
#ifndef SYN_TOOLS_SYNAPSED_KEEP_H
#define SYN_TOOLS_SYNAPSED_KEEP_H

#include <stdint.h>

#include <synapse/abi.h>

#include "ipc/server/server.h"
#include "tools/synapsed/config.h"
#include "tools/synapsed/hold.h"

/* Types of messages; apart from those of the wire, which share the header. */
#define SYN_KEEP_START	 256
#define SYN_KEEP_READY	 257
#define SYN_KEEP_PUT	 258
#define SYN_KEEP_DROP	 259
#define SYN_KEEP_ACK	 260
#define SYN_KEEP_LISTEN	 261
#define SYN_KEEP_TAKE	 262
#define SYN_KEEP_HELD	 263
#define SYN_KEEP_REFUSED 264
#define SYN_KEEP_UPGRADE 265
#define SYN_KEEP_REPLACE 266

/* What is kept, besides what ipc/server/server.h has. */
#define SYN_KEEP_EXTENT 16u
#define SYN_KEEP_DEVICE 17u /* a GPU's file; its id is the minor number */
#define SYN_KEEP_MEMORY 18u /* kept memory, made by the first worker; id 0 */

/**
 * struct syn_keep_listen - a listening socket, in the order of the tenants.
 * @msg:	header; descriptor: the socket.
 * @dev:	device and ...
 * @ino:	... inode of its file, to remove no other.
 * @dir:	canonical path of its directory.
 */
struct syn_keep_listen {
	struct syn_msg msg;
	uint64_t dev;
	uint64_t ino;
	char dir[SYN_CONFIG_TEXT_BYTES];
};

/**
 * struct syn_keep_msg - all that is neither START, LISTEN nor REFUSED.
 * @msg:	header; its error is the answer of ACK and HELD.
 * @kind:	what the descriptors are.
 * @id:		unique among its kind; of TAKE: which of those that are held.
 */
struct syn_keep_msg {
	struct syn_msg msg;
	uint32_t kind;
	uint32_t id;
};

/**
 * struct syn_keep_refused - this worker cannot go on where another was.
 * @msg:	header.
 * @reason:	one line, which clients are told.
 */
struct syn_keep_refused {
	struct syn_msg msg;
	char reason[SYN_REASON_BYTES];
};

/**
 * struct syn_keep_start - what a worker begins with.
 * @msg:	header.
 * @epoch:	number of this worker.
 * @keeper_pid:	for people.
 * @nr_held:	things to take over; 0: this worker begins with nothing.
 * @config:	checked; an older keeper's is shorter, and ends with zero here.
 */
struct syn_keep_start {
	struct syn_msg msg;
	uint64_t epoch;
	uint32_t keeper_pid;
	uint32_t nr_held;
	struct syn_config config;
};

/**
 * struct syn_keep - the worker's end.
 * @sock:	to the keeper.
 * @hold:	while it takes over: what another worker had put and this one has
 *		not taken yet.
 */
struct syn_keep {
	int sock;
	struct syn_hold hold;
};

/* The worker's calls. */
int syn_keep_ready(int sock);
void syn_keep_refuse(int sock, const char *reason);
/* All @nr that are held, into @ret. */
int syn_keep_take(int sock, uint32_t nr, struct syn_hold *ret);
/* 0: this worker is to stop, and another program takes over. */
int syn_keep_upgrade(int sock);
/* 0 once the keeper has acknowledged; -EPIPE when it is gone. */
int syn_keep_put(int sock, uint32_t kind, uint32_t id, const int *fds,
		 unsigned int nr_fds);
/* As syn_keep_put(), in the place of what is held: all of it, or nothing. */
int syn_keep_replace(int sock, uint32_t kind, uint32_t id, const int *fds,
		     unsigned int nr_fds);
void syn_keep_drop(int sock, uint32_t kind, uint32_t id);

#endif
