/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: accepted, attached, told, ended, gone. */
#ifndef SYN_IPC_SERVER_PEER_H
#define SYN_IPC_SERVER_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct syn_msg_hello;
struct syn_peer;
struct syn_server;
struct syn_session_config;

/* Takes @sock of @tenant; on failure it is closed after a BYE. */
int syn_peer_new(struct syn_server *server, uint32_t tenant, int sock,
		 uint64_t now_ns);

/* Refuses @sock with a reason and closes it. */
void syn_peer_refuse(int sock, int error, const char *reason);

/*
 * Makes a control connection of the peer, or a session with segments and
 * rings; sends WELCOME.  On failure *ret_why says why and nothing is left.
 */
int syn_peer_attach_control(struct syn_peer *peer, uint32_t version,
			    const char **ret_why);
int syn_peer_attach_engine(struct syn_peer *peer,
			   const struct syn_msg_hello *hello, uint32_t version,
			   const char **ret_why);

/*
 * Sends what waits for the socket: extents, the reply, retired extents.
 * -EAGAIN: the socket is full; epoll will tell.  Another -errno: the peer has
 * been ended.
 */
int syn_peer_tell(struct syn_peer *peer);

/* Toggles what has happened to the session since the last call. */
void syn_peer_notice(struct syn_peer *peer);

/* Wakes the client, whether it says that it sleeps or not. */
void syn_peer_wake(struct syn_peer *peer);

/*
 * The connection is over: a BYE with @reason unless that is NULL, leases end,
 * and a session goes to quarantine.
 */
void syn_peer_end(struct syn_peer *peer, int error, const char *reason);

/* The process has @exited, or nothing of its session is in quarantine. */
void syn_peer_gone(struct syn_peer *peer, bool exited);

/*
 * For the files that make and end a connection: epoll tells of @fd as @wake;
 * it does not, and @fd is closed; the peer changes its list; nobody need keep
 * its session any more.
 */
int syn_peer_watch(struct syn_peer *peer, int fd, uint32_t events,
		   uint32_t wake);
void syn_peer_unwatch(struct syn_peer *peer, int *fd);
void syn_peer_move(struct syn_peer *peer, uint32_t state);
void syn_peer_unkeep(struct syn_peer *peer);

/* Without descriptors and in no list; NULL: no memory. */
struct syn_peer *syn_peer_alloc(struct syn_server *server, uint32_t tenant,
				uint64_t now_ns);
/* Both rings as the segments have them. */
void syn_peer_rings_init(struct syn_peer *peer);
/* All but its domain. */
void syn_peer_session_config(const struct syn_peer *peer,
			     struct syn_session_config *ret);

/* Frees what has ended in this turn. */
void syn_peer_bury(struct syn_server *server);

#endif
