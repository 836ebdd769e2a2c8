/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeper and worker say to one another, over a SOCK_SEQPACKET pair.
 *
 *	keeper -> worker	START, once; LISTEN, for each tenant; ACK, for
 *				each PUT
 *	worker -> keeper	READY, once; PUT with descriptors; DROP
 *
 * The worker asks for one thing at a time and waits for its ACK; the keeper
 * never waits for the worker.  End of file is the death of the other.
 */
#ifndef SYN_TOOLS_SYNAPSED_KEEP_H
#define SYN_TOOLS_SYNAPSED_KEEP_H

#include <stdint.h>

#include <synapse/abi.h>

#include "ipc/server/server.h"
#include "tools/synapsed/config.h"

/* Types of messages; apart from those of the wire, which share the header. */
#define SYN_KEEP_START	256
#define SYN_KEEP_READY	257
#define SYN_KEEP_PUT	258
#define SYN_KEEP_DROP	259
#define SYN_KEEP_ACK	260
#define SYN_KEEP_LISTEN 261

/* What is kept, besides what ipc/server/server.h has. */
#define SYN_KEEP_EXTENT 16u
#define SYN_KEEP_DEVICE 17u /* a GPU's file; its id is the minor number */

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
 * struct syn_keep_msg - READY, PUT, DROP and ACK.
 * @msg:	header; its error is the ACK's answer.
 * @kind:	what the descriptors are.
 * @id:		unique among its kind.
 */
struct syn_keep_msg {
	struct syn_msg msg;
	uint32_t kind;
	uint32_t id;
};

/**
 * struct syn_keep_start - what a worker begins with.
 * @msg:	header; descriptor: the kept memory.
 * @epoch:	number of this worker.
 * @kept_bytes:	size of the kept memory.
 * @keeper_pid:	for people.
 * @pad0:	zero.
 * @config:	checked.
 */
struct syn_keep_start {
	struct syn_msg msg;
	uint64_t epoch;
	uint64_t kept_bytes;
	uint32_t keeper_pid;
	uint32_t pad0;
	struct syn_config config;
};

/* The worker's calls. */
int syn_keep_ready(int sock);
/* 0 once the keeper has acknowledged; -EPIPE when it is gone. */
int syn_keep_put(int sock, uint32_t kind, uint32_t id, const int *fds,
		 unsigned int nr_fds);
void syn_keep_drop(int sock, uint32_t kind, uint32_t id);

#endif
