/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of the socket and the rings: one control thread that
 * accepts clients, serves their requests from the memory manager, and notices
 * how they end.  Knows nothing of devices, files or configuration.
 *
 * A server has no globals, so a test may run several, each on its own thread.
 */
#ifndef SYN_IPC_SERVER_SERVER_H
#define SYN_IPC_SERVER_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#include "core/mm.h"

struct syn_server;

/* Listening sockets, the main one included. */
#define SYN_SERVER_TENANTS_MAX 16u
#define SYN_SERVER_DIR_BYTES   108u

/* What tells domains apart. */
#define SYN_SERVER_BY_SOCKET 1u
#define SYN_SERVER_BY_UID    2u
#define SYN_SERVER_BY_CGROUP 4u

/**
 * struct syn_server_tenant - a socket that clients come through.
 * @listen_fd:	listens and does not block; the caller's.
 * @dir:	canonical path of its directory; no two have the same.
 * @quota:	by tier, of each domain that comes through it.
 */
struct syn_server_tenant {
	int listen_fd;
	char dir[SYN_SERVER_DIR_BYTES];
	struct syn_quota quota[SYN_QUOTA_TIERS];
};

/*
 * What a session shares with its client is kept together, under its id: in this
 * order its connection, both segments, the daemon's ends of both doorbells, and
 * the pidfd.  A pidfd that is kept needs no number, which may be used again.
 */
#define SYN_SERVER_KEEP_SESSION 1u

#define SYN_SERVER_FD_SOCKET 0u
#define SYN_SERVER_FD_CLIENT 1u
#define SYN_SERVER_FD_DAEMON 2u
#define SYN_SERVER_FD_BELL   3u
#define SYN_SERVER_FD_WAKE   4u
#define SYN_SERVER_FD_PID    5u
#define SYN_SERVER_FDS	     6u

/**
 * struct syn_server_config - what a server is made of.
 * @tenants:		1 to SYN_SERVER_TENANTS_MAX; copied.
 * @nr_tenants:		see there.
 * @domain_by:		SYN_SERVER_BY_*.  The socket alone: its domain exists
 *			from the start, and its minimum is kept free for it.
 * @mm:			the memory manager; outlives the server.
 * @dev_uuid:		of the GPU; all zero: extents are memfds.
 * @dev_event_fd:	readable while copies have completed; -1: none.
 * @disk_event_fd:	readable while swap I/O has completed; -1: none.
 * @lifeline_fd:	the server ends when it becomes readable; -1: none.
 * @epoch:		number of the worker, told to clients.
 * @keeper_pid:		for people.
 * @admin_uid:		may give orders, besides root.
 * @max_sessions:	as given to the memory manager.
 * @max_fds:		descriptors this process may hold.
 * @hello_timeout_ns:	for the first message of a client, 0: 5 s.
 * @keep:		takes duplicates of all of @fds or of none, and has
 *			acknowledged them on return.  NULL: nobody keeps.
 * @drop:		the duplicates may be closed.
 * @take:		what is kept: SYN_FDS_MAX descriptors, the server's own
 *			from now on, -1 after the last.  -ENOENT: nothing.  NULL:
 *			this server begins with nobody.
 * @leave:		0: another process will go on; this server is to stop.
 *			NULL: none can.
 * @keep_ctx:		first argument of all four.
 * @kept:		memory of syn_server_kept_bytes(); with @take what the
 *			server before this one left in it.  Outlives the server.
 */
struct syn_server_config {
	const struct syn_server_tenant *tenants;
	uint32_t nr_tenants;
	uint32_t domain_by;
	struct syn_mm *mm;
	uint8_t dev_uuid[16];
	int dev_event_fd;
	int disk_event_fd;
	int lifeline_fd;
	uint64_t epoch;
	uint32_t keeper_pid;
	uid_t admin_uid;
	uint32_t max_sessions;
	uint32_t max_fds;
	uint64_t hello_timeout_ns;
	int (*keep)(void *ctx, uint32_t kind, uint32_t id, const int *fds,
		    unsigned int nr_fds);
	void (*drop)(void *ctx, uint32_t kind, uint32_t id);
	int (*take)(void *ctx, uint32_t kind, uint32_t id, int *ret_fds);
	int (*leave)(void *ctx);
	void *keep_ctx;
	void *kept;
};

/* What is kept, and its size. */
void syn_server_kept_records(uint32_t max_sessions, struct syn_records *ret);
uint64_t syn_server_kept_bytes(uint32_t max_sessions);

int syn_server_new(struct syn_server **ret,
		   const struct syn_server_config *config);

/*
 * With @take, before it runs: the sessions of a server whose process is gone go
 * on here.  Begins before syn_mm_adopted(), which it calls.  -errno with one line
 * when that cannot be.
 */
int syn_server_adopt(struct syn_server *server, const char **ret_why);

/*
 * Serves until syn_server_stop() or the lifeline; then every session has been
 * told and ended.  0, or -errno when the loop cannot go on.  Blocks SIGPIPE in
 * the thread that calls it.
 *
 * SYN_SERVER_LEFT: another process goes on with everybody, by an order that
 * @leave of the configuration took.  Nothing has been told or ended, and nothing
 * is to be freed.
 */
#define SYN_SERVER_LEFT 1
int syn_server_run(struct syn_server *server);

/* From any thread or signal handler. */
void syn_server_stop(struct syn_server *server);

/* Not while it runs.  Takes NULL, returns NULL. */
struct syn_server *syn_server_free(struct syn_server *server);

#endif
