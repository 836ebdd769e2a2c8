/* SPDX-License-Identifier: Apache-2.0 */
/* Submissions of a ring: taken, checked, answered, or parked until room. */
#ifndef SYN_IPC_SERVER_REQUEST_H
#define SYN_IPC_SERVER_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

struct syn_peer;
struct syn_server;

/*
 * Serves a bounded number of the peer's submissions and publishes the answers.
 * Returns how many were taken, or -EPROTO for impossible indices.
 */
int syn_request_pass(struct syn_peer *peer, uint64_t now_ns);

/* Looks at what the client has reaped; -EPROTO for an impossible index. */
int syn_request_look(struct syn_peer *peer);

/* Something moved: tries what is parked, one request a session in turn. */
void syn_request_retry(struct syn_server *server);

/* The socket has room again: answers that waited for it. */
void syn_request_unhold(struct syn_peer *peer);

/*
 * Answers BACKPRESSURE to what has been parked for too long; returns when the
 * next of them is due, UINT64_MAX: none.
 */
uint64_t syn_request_expire(struct syn_server *server, uint64_t now_ns);

/*
 * What another worker took and did not answer, of a peer that goes on; 0, or
 * -errno when the peer has been ended.  Before that of all peers the one request
 * that was being carried out is carried out again, if its answer is not known.
 */
bool syn_request_is_answered(const struct syn_peer *peer, uint32_t seq);
void syn_request_redo(struct syn_peer *peer, uint32_t seq);
int syn_request_adopt(struct syn_peer *peer);

/* Forgets what is parked. */
void syn_request_drop(struct syn_peer *peer);

#endif
