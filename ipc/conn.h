/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages with descriptors over a Unix SOCK_SEQPACKET socket, and shared
 * segments.  Every descriptor is owned or closed: a message that carries
 * another number than it announces is an error and leaves none behind.
 */
#ifndef SYN_IPC_CONN_H
#define SYN_IPC_CONN_H

#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

/* Listens at @path with @mode; -EADDRINUSE if a daemon answers there. */
int syn_conn_listen(const char *path, unsigned int mode, int *ret_fd);
int syn_conn_connect(const char *path, int *ret_fd);

/*
 * Sends @msg (msg->size bytes; magic and nr_fds are filled in).  The caller
 * keeps its descriptors.  -EAGAIN: no room and the socket does not block.
 */
int syn_conn_send(int sock, struct syn_msg *msg, const int *fds,
		  unsigned int nr_fds);

/*
 * Receives one message into @buf.  @fds has SYN_FDS_MAX entries and gets the
 * descriptors, close-on-exec, -1 after the last.  Returns its bytes, 0 at the
 * end of the connection, -EAGAIN, -EPROTO for a truncated, short or badly
 * announced message.
 */
int syn_conn_recv(int sock, void *buf, size_t max, int *fds);
/* The same, of a message that stays where it is; does not wait for one. */
int syn_conn_peek(int sock, void *buf, size_t max, int *fds);

/* Which of @events have come to @fd, and errors; 0: none yet.  Does not wait. */
int syn_conn_poll(int fd, short events);

/* A sealed memfd of @bytes, mode 0600, of zeroes. */
int syn_conn_segment_new(const char *name, uint64_t bytes, int *ret_fd);

/*
 * Maps a shared segment.  @writable false: read only.  -EPROTO when the file
 * is smaller than @bytes, or could be made so.
 */
int syn_conn_segment_map(int fd, uint64_t bytes, int writable, void **ret);

#endif
