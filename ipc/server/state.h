/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's objects as its own files see them.  Everything here belongs to
 * the control thread.
 */
#ifndef SYN_IPC_SERVER_STATE_H
#define SYN_IPC_SERVER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/abi.h>

#include "core/base/list.h"
#include "ipc/ring.h"
#include "ipc/server/cred.h"
#include "ipc/server/segment.h"
#include "ipc/server/server.h"

struct syn_rec_peer;
struct syn_rec_server;
struct syn_fsck;
struct syn_session;

/* Control connections at once: of those who may order, and of those who not. */
#define SYN_SERVER_CONTROL_MAX 16u

#define SYN_PEER_HALF	 0 /* accepted; has not said HELLO */
#define SYN_PEER_CONTROL 1 /* asks questions, gives orders */
#define SYN_PEER_LIVE	 2 /* an engine with rings and pages */
#define SYN_PEER_ENDED	 3 /* over, but its process may still touch frames */
#define SYN_PEER_DEAD	 4 /* to be freed at the end of the turn */

/* What woke the loop; the low bits of the word epoll returns. */
#define SYN_WAKE_SOCKET 0u
#define SYN_WAKE_PID	1u
#define SYN_WAKE_BELL	2u
#define SYN_WAKE_MASK	3u

/**
 * struct syn_peer - one connection, from accept until its process is gone.
 * @link:	in one of the server's lists: half, control, live, ended, dead.
 * @active:	in the server's list while its ring is polled.
 * @waiting:	in the server's list while requests of it are parked.
 * @refused:	in the server's list while it was refused room and may come back.
 * @server:	owner.
 * @state:	SYN_PEER_*.
 * @said_bye:	the client ended the session in good order.
 * @again:	its next question may be one that another worker carried out and
 *		did not answer.
 * @events:	what epoll tells of the socket; EPOLLOUT while it was full.
 * @sock:	the connection; does not block.
 * @pid_fd:	the process; readable once it has exited.
 * @bell_fd:	eventfd the client writes.  Never read: epoll reports edges.
 * @wake_fd:	write end of the pipe that wakes the client; the client has the
 *		read end only, so it cannot make this end block.
 * @cred:	from the kernel.
 * @tenant:	index of the socket it came through.
 * @id:		session id, 0 for others.
 * @features:	in use.
 * @name:	printable.
 * @since_ns:	when it was accepted; then when it attached; then when it ended.
 * @worked_ns:	when its ring last had a request.
 * @refused_ns:	when it was last refused room.
 * @rec:	its kept record; NULL before WELCOME, and of others.
 * @session:	the memory manager's half.
 * @seg:	the shared segments; mapped until the process is gone.
 * @sq:		consumer side of submissions.
 * @cq:		producer side of completions.
 * @cq_room:	free completion entries, as of the last look at the client's index.
 * @nr_filled:	completions filled and not yet published.
 * @parked:	requests that wait, oldest first.
 * @nr_parked:	their number; a completion entry is reserved for each.
 * @parked_slots: in-flight entries that they hold, one bit each.
 * @reply_bytes: bytes of @reply that wait for room in the socket.
 * @reply:	answer to a socket message; no other is read meanwhile.
 */
struct syn_peer {
	struct syn_list link;
	struct syn_list active;
	struct syn_list waiting;
	struct syn_list refused;
	struct syn_server *server;
	uint32_t state;
	bool said_bye;
	bool again;
	uint32_t events;
	int sock;
	int pid_fd;
	int bell_fd;
	int wake_fd;
	struct syn_cred cred;
	uint32_t tenant;
	uint32_t id;
	uint64_t features;
	char name[SYN_NAME_BYTES];
	uint64_t since_ns;
	uint64_t worked_ns;
	uint64_t refused_ns;
	struct syn_rec_peer *rec;
	struct syn_session *session;
	struct syn_segments seg;
	struct syn_ring sq;
	struct syn_ring cq;
	uint32_t cq_room;
	uint32_t nr_filled;
	struct syn_list parked;
	uint32_t nr_parked;
	uint64_t parked_slots;
	uint32_t reply_bytes;
	_Alignas(8) unsigned char reply[64];
};

/**
 * struct syn_server - the loop and its peers.
 * @config:	as given.
 * @tenant:	@config's.
 * @head:	of the kept records.
 * @epoll_fd:	all descriptors below.
 * @stop_fd:	eventfd: stop.
 * @spare_fd:	given up to refuse a client when descriptors run out; -1 while
 *		it could not be had again.
 * @listening:	the listening sockets are in the epoll set.
 * @stopping:	leave the loop.
 * @leaving:	and leave everybody to another process.
 * @spin:	more than one CPU is ours, so polling a ring can pay.
 * @retry_due:	something moved: try parked requests again.
 * @half:	peers by state, in order of arrival.
 * @control:	see @half.
 * @live:	see @half.
 * @ended:	see @half.
 * @dead:	see @half.
 * @active:	peers whose rings are polled.
 * @waiting:	peers with parked requests, next to be tried first.
 * @refused:	peers that were refused room and may come back, latest last.
 * @nr_refused:	entries of @refused.
 * @nr_half:	entries of @half.
 * @nr_control:	entries of @control whose peer may not give orders.
 * @nr_admin:	entries of @control whose peer may.
 * @nr_live:	entries of @live.
 * @nr_ended:	entries of @ended.
 * @max_half:	limit of @nr_half.
 * @max_engines: limit of @nr_live + @nr_ended.
 * @started_ns:	when it was made.
 * @retry_at_ns: when parked requests are tried again at the latest.
 * @mm_next_ns:	when the memory manager wants to be polled.
 * @swept_ns:	when clients were last told of notices and extents.
 * @sweep_at_ns: when they must be told again; UINT64_MAX: nothing to tell.
 * @attaches:	sessions begun.
 * @detaches:	sessions ended while their process lived, or in good order.
 * @reaped:	sessions ended by the death of their process.
 * @backpressure: requests that waited until their time was up.
 * @fsck:	the walk that synapsectl goes on with, or NULL; whoever begins one
 *		ends another's ...
 * @fsck_steps: ... by which it notices.
 */
struct syn_server {
	struct syn_server_config config;
	struct syn_server_tenant tenant[SYN_SERVER_TENANTS_MAX];
	struct syn_rec_server *head;
	int epoll_fd;
	int stop_fd;
	int spare_fd;
	bool listening;
	bool stopping;
	bool leaving;
	bool spin;
	bool retry_due;
	struct syn_list half;
	struct syn_list control;
	struct syn_list live;
	struct syn_list ended;
	struct syn_list dead;
	struct syn_list active;
	struct syn_list waiting;
	struct syn_list refused;
	uint32_t nr_refused;
	uint32_t nr_half;
	uint32_t nr_control;
	uint32_t nr_admin;
	uint32_t nr_live;
	uint32_t nr_ended;
	uint32_t max_half;
	uint32_t max_engines;
	uint64_t started_ns;
	uint64_t retry_at_ns;
	uint64_t mm_next_ns;
	uint64_t swept_ns;
	uint64_t sweep_at_ns;
	uint64_t attaches;
	uint64_t detaches;
	uint64_t reaped;
	uint64_t backpressure;
	struct syn_fsck *fsck;
	uint64_t fsck_steps;
};

/* How extents reach clients: SYN_FEATURE_CUDA or SYN_FEATURE_HOST_CPU. */
static inline uint64_t syn_server_extents(const struct syn_server *server)
{
	for (unsigned int i = 0; i < sizeof(server->config.dev_uuid); i++)
		if (server->config.dev_uuid[i])
			return SYN_FEATURE_CUDA;
	return SYN_FEATURE_HOST_CPU;
}

/* What this side can do. */
static inline uint64_t syn_server_features(const struct syn_server *server)
{
	return SYN_FEATURE_RAW16 | SYN_FEATURE_H4 | SYN_FEATURE_CODED |
	       syn_server_extents(server);
}

static inline bool syn_server_admin(const struct syn_server *server,
				    const struct syn_peer *peer)
{
	return peer->cred.uid == 0 ||
	       peer->cred.uid == server->config.admin_uid;
}

#endif
