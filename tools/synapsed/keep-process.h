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
 */
#ifndef SYN_TOOLS_SYNAPSED_KEEP_PROCESS_H
#define SYN_TOOLS_SYNAPSED_KEEP_PROCESS_H

#include <stdint.h>

#include <synapse/abi.h>

#include "tools/synapsed/config.h"
#include "tools/synapsed/keep.h"

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

/**
 * struct syn_keep_listen - a listening socket, in the order of the tenants.
 * @msg:	header; descriptor: the socket.
 * @dev:	see struct syn_listener.
 * @ino:	see there.
 * @dir:	see there.
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
 * @msg:	header; its error: why.
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
 * struct syn_keep_process - a process of ours keeps.
 * @keep:	what the worker knows of it.
 * @sock:	to the keeper.
 */
struct syn_keep_process {
	struct syn_keep keep;
	int sock;
};

void syn_keep_process_init(struct syn_keep_process *process, int sock);

#endif
