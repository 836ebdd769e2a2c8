/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two shared segments of a session, one per writer: their layout, their
 * descriptors and the daemon's mappings.
 */
#ifndef SYN_IPC_SERVER_SEGMENT_H
#define SYN_IPC_SERVER_SEGMENT_H

#include <stdint.h>

#include <synapse/abi.h>

/**
 * struct syn_segments - both segments as the daemon sees them.
 * @geometry:	offsets and sizes, as WELCOME tells them.
 * @client:	what the client writes; read only here.
 * @daemon:	what the daemon writes.
 * @client_fd:	for the keeper and the client; -1 once closed.
 * @daemon_fd:	for the keeper; -1 once closed.
 * @shared_fd:	@daemon_fd opened read-only, for the client; -1 once closed.
 */
struct syn_segments {
	struct syn_msg_welcome geometry;
	unsigned char *client;
	unsigned char *daemon;
	int client_fd;
	int daemon_fd;
	int shared_fd;
};

int syn_segments_init(struct syn_segments *seg, uint32_t nr_pages,
		      uint32_t nr_timelines);
/*
 * Those of another process, mapped; takes both descriptors.  -EPROTO: they are
 * not as @geometry says.
 */
int syn_segments_adopt(struct syn_segments *seg,
		       const struct syn_msg_welcome *geometry, int client_fd,
		       int daemon_fd);
/* The mappings stay. */
void syn_segments_close_fds(struct syn_segments *seg);
/* Takes one that was never initialised but zeroed, or failed to be. */
void syn_segments_deinit(struct syn_segments *seg);

#endif
