/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kept records of the server: who is attached, for the worker that comes after.
 *
 * A record is published before the client is sent what makes its session, when its
 * descriptors are held already; before that the next worker finds descriptors of
 * nobody, and closes them.  Until all of it has been sent the session is new: then
 * the next worker finds out whether its client knows of it (ipc/server/adopt.c), and
 * otherwise nothing can have been asked yet.  It says that a session has ended before
 * anything of it ends, and it is free once core has forgotten the session, and
 * before the descriptors are dropped.
 *
 * Records grow by the rule of core/base/records.h, which raises
 * SYN_PEERS_REVISION; any other change changes SYN_PEERS_VERSION.
 */
#ifndef SYN_IPC_SERVER_KEPT_H
#define SYN_IPC_SERVER_KEPT_H

#include <stdint.h>

#include <synapse/abi.h>

#include "core/base/records.h"

struct syn_peer;
struct syn_server;

#define SYN_PEERS_MAGIC	   0x7372656570414e53ull /* "SNApeers" in memory order */
#define SYN_PEERS_VERSION  2u
#define SYN_PEERS_REVISION 1u

/* The arrays; a new one comes last. */
enum {
	SYN_PEERS_HEAD,
	SYN_PEERS_PEER,
	SYN_PEERS_ARRAYS,
};

/**
 * struct syn_rec_server - the head.
 * @records:	of all; its magic is written last.
 * @next_id:	of sessions.
 * @draining:	refuse new engines.
 */
struct syn_rec_server {
	struct syn_records records;
	uint32_t next_id;
	uint32_t draining;
};
SYN_ABI_SIZE(struct syn_rec_server, 416);

#define SYN_REC_PEER_FREE  0u
#define SYN_REC_PEER_LIVE  1u
#define SYN_REC_PEER_ENDED 2u
#define SYN_REC_PEER_NEW   3u

/* See struct syn_peer. */
struct syn_rec_peer {
	uint32_t state; /* SYN_REC_PEER_* */
	uint32_t id;
	uint32_t tenant;
	uint32_t said_bye;
	uint32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t taking; /* what @asked is once a message has been taken */
	uint32_t asked;	 /* messages taken since HELLO */
	uint32_t pad0;
	uint64_t features;
	uint64_t since_ns;
	char name[SYN_NAME_BYTES];
	struct syn_msg_welcome geometry;
};
SYN_ABI_SIZE(struct syn_rec_peer, 240);

/* Nobody is attached: writes the head. */
void syn_peers_format(struct syn_server *server);
/* 0, or -errno with one line: another server has written it, or none. */
int syn_peers_check(const struct syn_server *server, const char **ret_why);
/* Record @i, or NULL after the last. */
struct syn_rec_peer *syn_peers_record(const struct syn_server *server,
				      uint32_t i);

/* There is a free record for each session that may be. */
void syn_peers_publish(struct syn_peer *peer);
/* The client knows of it. */
void syn_peers_live(struct syn_peer *peer);
/* A message is about to be taken from the socket; it has been. */
void syn_peers_take(struct syn_peer *peer);
void syn_peers_taken(struct syn_peer *peer);
void syn_peers_said_bye(struct syn_peer *peer);
void syn_peers_ended(struct syn_peer *peer);
void syn_peers_forget(struct syn_peer *peer);

#endif
