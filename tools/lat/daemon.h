/* SPDX-License-Identifier: Apache-2.0 */
/* Which processes are the daemon, and who its clients are. */
#ifndef SYN_TOOLS_LAT_DAEMON_H
#define SYN_TOOLS_LAT_DAEMON_H

#include <stdint.h>
#include <sys/types.h>

#include <synapse/abi.h>

struct syn_lat_daemon;

/**
 * struct syn_lat_client - a session, living or not.
 * @worker:	process that serves or served it.
 * @session:	its number there.
 * @pid:	the client's process.
 * @name:	what it calls itself; printable.
 */
struct syn_lat_client {
	uint32_t worker;
	uint32_t session;
	uint32_t pid;
	char name[SYN_NAME_BYTES];
};

/* Asks nobody yet.  @socket NULL: the default.  @pid 0: to be asked for. */
int syn_lat_daemon_new(const char *socket, pid_t pid,
		       struct syn_lat_daemon **ret);
/* Takes NULL, returns NULL. */
struct syn_lat_daemon *syn_lat_daemon_free(struct syn_lat_daemon *daemon);

/*
 * Looks who is there now.  *ret_keeper: the process whose children serve; systemd
 * is one whose other children run other programs.  *ret_runs: one that runs the
 * daemon's program.  -errno: nobody answers, or the process is gone.
 */
int syn_lat_daemon_look(struct syn_lat_daemon *daemon, pid_t *ret_keeper,
			pid_t *ret_runs);

/* NULL when it was never seen; valid until the next look. */
const struct syn_lat_client *
syn_lat_daemon_client(const struct syn_lat_daemon *daemon, uint32_t worker,
		      uint32_t session);

/* The last refusal in the daemon's words, or the socket, or "". */
const char *syn_lat_daemon_reason(const struct syn_lat_daemon *daemon);

#endif
