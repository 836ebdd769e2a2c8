/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeper and worker say to one another, over a SOCK_SEQPACKET pair.
 *
 *	keeper -> worker	START, once; ACK, for each PUT
 *	worker -> keeper	READY, once; PUT with a descriptor; DROP
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
#define SYN_KEEP_START 256
#define SYN_KEEP_READY 257
#define SYN_KEEP_PUT   258
#define SYN_KEEP_DROP  259
#define SYN_KEEP_ACK   260

/* Kinds of descriptors, besides those of ipc/server/server.h. */
#define SYN_KEEP_EXTENT 16u

/**
 * struct syn_keep_msg - READY, PUT, DROP and ACK.
 * @msg:	header; its error is the ACK's answer.
 * @kind:	of the descriptor.
 * @id:		of the descriptor; unique among its kind.
 */
struct syn_keep_msg {
	struct syn_msg msg;
	uint32_t kind;
	uint32_t id;
};

/**
 * struct syn_keep_start - what a worker begins with.
 * @msg:	header; descriptors: the listening socket, the kept memory.
 * @epoch:	number of this worker.
 * @kept_bytes:	size of the kept memory.
 * @socket_dev:	device and ...
 * @socket_ino:	... inode of the socket's file, to remove no other.
 * @keeper_pid:	for people.
 * @pad0:	zero.
 * @config:	checked.
 */
struct syn_keep_start {
	struct syn_msg msg;
	uint64_t epoch;
	uint64_t kept_bytes;
	uint64_t socket_dev;
	uint64_t socket_ino;
	uint32_t keeper_pid;
	uint32_t pad0;
	struct syn_config config;
};

/* The worker's calls. */
int syn_keep_ready(int sock);
/* 0 once the keeper has acknowledged; -EPIPE when it is gone. */
int syn_keep_put(int sock, uint32_t kind, uint32_t id, int fd);
void syn_keep_drop(int sock, uint32_t kind, uint32_t id);

#endif
