/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one connection. */
#include "ipc/server/peer.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/base/failpoint.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/base/trace.h"
#include "core/dev.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/kept.h"
#include "ipc/server/request.h"
#include "ipc/server/state.h"

/*
 * A client that does not read holds at most this much of the kernel's memory,
 * and the descriptors in it.
 */
#define PEER_SNDBUF_BYTES 32768

/* Descriptors nobody reads are at the system's limit: look again then. */
#define PEER_REFS_RETRY_NS 1000000u

static void bye_send(int sock, int error, const char *reason)
{
	struct syn_msg_bye bye = {
		.msg = { .type = SYN_MSG_BYE,
			 .size = sizeof(bye),
			 .error = error },
	};

	(void)snprintf(bye.reason, sizeof(bye.reason), "%s", reason);
	(void)syn_conn_send(sock, &bye.msg, NULL, 0);
}

/*
 * Unread bytes would turn the peer's next read into an error that hides the
 * BYE; after the shutdown no more can come.  A duplicate elsewhere does not
 * keep the connection alive.
 */
static int sock_end(int sock)
{
	char scratch[64];

	(void)shutdown(sock, SHUT_RDWR);
	while (recv(sock, scratch, sizeof(scratch), MSG_DONTWAIT) > 0)
		;
	return syn_close(sock);
}

void syn_peer_refuse(int sock, int error, const char *reason)
{
	syn_debug("client refused: %s", reason);
	bye_send(sock, error, reason);
	(void)sock_end(sock);
}

int syn_peer_watch(struct syn_peer *peer, int fd, uint32_t events,
		   uint32_t wake)
{
	struct epoll_event event = {
		.events = events,
		.data.u64 = (uint64_t)(uintptr_t)peer | wake,
	};

	if (syn_fault())
		return -ENOMEM;
	if (epoll_ctl(peer->server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	return 0;
}

void syn_peer_unwatch(struct syn_peer *peer, int *fd)
{
	if (*fd < 0)
		return;
	/* A duplicate may live on in the keeper, so closing is not enough. */
	(void)epoll_ctl(peer->server->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);
	*fd = syn_close(*fd);
}

static uint32_t *peer_counter(struct syn_peer *peer)
{
	struct syn_server *server = peer->server;

	switch (peer->state) {
	case SYN_PEER_HALF:
		return &server->nr_half;
	case SYN_PEER_CONTROL:
		return syn_server_admin(server, peer) ? &server->nr_admin
						      : &server->nr_control;
	case SYN_PEER_LIVE:
		return &server->nr_live;
	case SYN_PEER_ENDED:
		return &server->nr_ended;
	}
	return NULL;
}

void syn_peer_move(struct syn_peer *peer, uint32_t state)
{
	struct syn_server *server = peer->server;
	struct syn_list *const lists[] = { &server->half, &server->control,
					   &server->live, &server->ended,
					   &server->dead };
	uint32_t *counter = peer_counter(peer);

	if (counter)
		(*counter)--;
	syn_list_del(&peer->link);
	peer->state = state;
	syn_list_add_tail(lists[state], &peer->link);
	counter = peer_counter(peer);
	if (counter)
		(*counter)++;
}

static struct syn_peer *peer_free(struct syn_peer *peer)
{
	syn_peer_unwatch(peer, &peer->sock);
	syn_peer_unwatch(peer, &peer->pid_fd);
	free(peer);
	return NULL;
}

struct syn_peer *syn_peer_alloc(struct syn_server *server, uint32_t tenant,
				uint64_t now_ns)
{
	struct syn_peer *peer = syn_alloc(1, sizeof(*peer));

	if (!peer)
		return NULL;
	peer->server = server;
	peer->state = SYN_PEER_DEAD;
	peer->events = EPOLLIN | EPOLLRDHUP;
	peer->tenant = tenant;
	peer->since_ns = now_ns;
	peer->sock = -1;
	peer->pid_fd = -1;
	peer->bell_fd = -1;
	peer->wake_fd = -1;
	syn_list_init(&peer->link);
	syn_list_init(&peer->active);
	syn_list_init(&peer->waiting);
	syn_list_init(&peer->refused);
	syn_list_init(&peer->parked);
	return peer;
}

int syn_peer_new(struct syn_server *server, uint32_t tenant, int sock,
		 uint64_t now_ns)
{
	const int bytes = PEER_SNDBUF_BYTES;
	struct syn_peer *peer;
	int r = -ENOMEM;

	peer = syn_peer_alloc(server, tenant, now_ns);
	if (!peer)
		goto refuse;
	r = syn_cred_get(sock, &peer->cred, &peer->pid_fd);
	if (r)
		goto free_peer;
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	r = syn_peer_watch(peer, peer->pid_fd, EPOLLIN, SYN_WAKE_PID);
	if (r)
		goto free_peer;
	r = syn_peer_watch(peer, sock, peer->events, SYN_WAKE_SOCKET);
	if (r)
		goto free_peer;
	peer->sock = sock;
	syn_peer_move(peer, SYN_PEER_HALF);
	return 0;

free_peer:
	peer_free(peer);
refuse:
	syn_peer_refuse(sock, r, "the daemon cannot take this client now");
	return r;
}

void syn_peer_unkeep(struct syn_peer *peer)
{
	const struct syn_server_config *config = &peer->server->config;

	if (config->drop)
		config->drop(config->keep_ctx, SYN_SERVER_KEEP_SESSION,
			     peer->id);
}

/* ---- while it lives ----------------------------------------------------- */

void syn_peer_wake(struct syn_peer *peer)
{
	const uint64_t one = 1;

	/* A full pipe is readable, and that is all that counts. */
	(void)!write(peer->wake_fd, &one, sizeof(one));
}

static void notice_count(struct syn_peer *peer, uint32_t bits)
{
	struct syn_daemon_ctl *ctl = (void *)peer->seg.daemon;

	syn_store_seq_cst(&ctl->notices, SYN_NOTICE_COUNT(ctl->notices, bits));
	if (syn_load_seq_cst(peer->cq.sleeps))
		syn_peer_wake(peer);
}

void syn_peer_notice(struct syn_peer *peer)
{
	uint32_t bits = syn_mm_notices(peer->session);

	if (bits)
		notice_count(peer, bits);
}

static int tell_extents(struct syn_peer *peer, bool *told)
{
	struct syn_msg_extent msg = { 0 };
	const struct syn_mem *mem;
	int r;

	while (syn_mm_extent_next(peer->session, &msg, &mem)) {
		msg.msg.type = SYN_MSG_EXTENT;
		msg.msg.size = sizeof(msg);
		syn_failpoint();
		r = syn_conn_send(peer->sock, &msg.msg, &mem->fd, 1);
		if (r)
			return r;
		syn_failpoint();
		syn_mm_extent_told(peer->session, msg.extent);
		*told = true;
	}
	return 0;
}

static int tell_reply(struct syn_peer *peer)
{
	int r;

	if (!peer->reply_bytes)
		return 0;
	syn_failpoint();
	r = syn_conn_send(peer->sock, (struct syn_msg *)peer->reply, NULL, 0);
	syn_failpoint();
	if (!r)
		peer->reply_bytes = 0;
	return r;
}

static int tell_retired(struct syn_peer *peer, bool *told)
{
	struct syn_msg_retire msg = {
		.msg = { .type = SYN_MSG_RETIRE, .size = sizeof(msg) },
	};
	int r;

	while (syn_mm_retire_next(peer->session, &msg.extent)) {
		syn_failpoint();
		r = syn_conn_send(peer->sock, &msg.msg, NULL, 0);
		if (r)
			return r;
		syn_failpoint();
		syn_mm_retire_told(peer->session, msg.extent);
		*told = true;
	}
	return 0;
}

/* No message is read while the answer to the last one waits for room. */
static int peer_rewatch(struct syn_peer *peer, bool full)
{
	struct epoll_event event = {
		.events = EPOLLRDHUP,
		.data.u64 = (uint64_t)(uintptr_t)peer | SYN_WAKE_SOCKET,
	};

	event.events |= peer->reply_bytes ? 0u : (uint32_t)EPOLLIN;
	event.events |= full ? (uint32_t)EPOLLOUT : 0u;
	if (event.events == peer->events)
		return 0;
	if (epoll_ctl(peer->server->epoll_fd, EPOLL_CTL_MOD, peer->sock,
		      &event) < 0)
		return -errno;
	peer->events = event.events;
	return 0;
}

int syn_peer_tell(struct syn_peer *peer)
{
	bool told = false;
	bool refs;
	int changed;
	int r;

	r = tell_extents(peer, &told);
	if (!r)
		r = tell_reply(peer);
	if (!r)
		r = tell_retired(peer, &told);
	if (told)
		notice_count(peer, SYN_NOTICE_SOCKET);
	refs = r == -ETOOMANYREFS;
	if (refs) {
		peer->server->sweep_at_ns =
			syn_min(peer->server->sweep_at_ns,
				syn_now_ns() + PEER_REFS_RETRY_NS);
		r = -EAGAIN;
	}
	changed = peer_rewatch(peer, r == -EAGAIN && !refs);
	if (changed)
		r = changed;
	if (r && r != -EAGAIN)
		syn_peer_end(peer, r, "the connection broke");
	return r;
}

/* ---- the end ------------------------------------------------------------ */

static void session_close(struct syn_peer *peer, int error)
{
	syn_request_drop(peer);
	syn_list_del(&peer->active);
	syn_list_del(&peer->waiting);
	syn_mm_session_end(peer->session);
	syn_peer_unwatch(peer, &peer->bell_fd);
	syn_closep(&peer->wake_fd);
	SYN_PROBE(detach, peer->id, error);
	/* What it gave back may be what another waits for. */
	peer->server->retry_due = true;
}

void syn_peer_end(struct syn_peer *peer, int error, const char *reason)
{
	if (peer->state >= SYN_PEER_ENDED)
		return;
	if (peer->state == SYN_PEER_LIVE)
		syn_peers_ended(peer);
	if (reason) {
		syn_debug("session %u, process %d: %s", peer->id,
			  (int)peer->cred.pid, reason);
		bye_send(peer->sock, error, reason);
	}
	syn_failpoint();
	(void)epoll_ctl(peer->server->epoll_fd, EPOLL_CTL_DEL, peer->sock,
			NULL);
	peer->sock = sock_end(peer->sock);
	if (peer->state != SYN_PEER_LIVE) {
		syn_peer_move(peer, SYN_PEER_DEAD);
		return;
	}
	syn_failpoint();
	notice_count(peer, SYN_NOTICE_SOCKET);
	syn_peer_wake(peer);
	session_close(peer, error);
	peer->since_ns = syn_now_ns();
	peer->server->sweep_at_ns =
		syn_min(peer->server->sweep_at_ns, peer->since_ns);
	syn_peer_move(peer, SYN_PEER_ENDED);
}

void syn_peer_gone(struct syn_peer *peer, bool exited)
{
	syn_peer_end(peer, 0, NULL);
	if (peer->state != SYN_PEER_ENDED)
		return;
	if (exited && !peer->said_bye)
		peer->server->reaped++;
	else
		peer->server->detaches++;
	syn_failpoint();
	syn_mm_session_exited(peer->session);
	peer->session = NULL;
	syn_peers_forget(peer);
	syn_failpoint();
	syn_peer_unkeep(peer);
	syn_segments_deinit(&peer->seg);
	peer->server->retry_due = true;
	syn_peer_move(peer, SYN_PEER_DEAD);
}

void syn_peer_bury(struct syn_server *server)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;

	syn_list_for_each_safe (peer, tmp, &server->dead, link) {
		syn_list_del(&peer->link);
		peer_free(peer);
	}
}
