/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon inside the test's own process: the server on a thread of its own. */
#ifndef SYN_TEST_SYS_INPROC_H
#define SYN_TEST_SYS_INPROC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/server/server.h"

struct syn_dev;
struct syn_mm;

/**
 * struct inproc - device, memory manager, server.
 * @dir:	its directory.
 * @socket:	its socket.
 * @listen_fd:	listens there.
 * @tenant:	the only one.
 * @dev:	the host-emulated device.
 * @kept:	plain memory, core's ...
 * @server_kept: ... and the server's.
 * @mm:		the memory manager.
 * @config:	of the server; may be changed before inproc_open().
 * @server:	the server.
 * @thread:	runs it, while @runs.
 * @runs:	between inproc_start() and inproc_stop().
 */
struct inproc {
	char dir[64];
	char socket[96];
	int listen_fd;
	struct syn_server_tenant tenant;
	struct syn_dev *dev;
	void *kept;
	void *server_kept;
	struct syn_mm *mm;
	struct syn_server_config config;
	struct syn_server *server;
	pthread_t thread;
	bool runs;
};

/* Everything below the server. */
int inproc_init(struct inproc *p, uint64_t hbm_bytes, uint64_t host_bytes);
void inproc_deinit(struct inproc *p);

int inproc_start(struct inproc *p);
/* Returns what syn_server_run() returned. */
int inproc_stop(struct inproc *p);
/* inproc_stop() and inproc_deinit(); returns what the first does. */
int inproc_end(struct inproc *p);

#endif
