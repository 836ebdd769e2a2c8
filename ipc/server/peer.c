/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one connection. */
#include "ipc/server/peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/base/trace.h"
#include "core/dev.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/request.h"
#include "ipc/server/state.h"
#include "ipc/server/tenant.h"

/*
 * A client that does not read holds at most this much of the kernel's memory,
 * and the descriptors in it.
 */
#define PEER_SNDBUF_BYTES 32768

/* One page is room for 512 wakes, and one would do. */
#define PEER_PIPE_BYTES 4096

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

static int peer_watch(struct syn_peer *peer, int fd, uint32_t events,
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

static void peer_unwatch(struct syn_peer *peer, int *fd)
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

static void peer_move(struct syn_peer *peer, uint32_t state)
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
	peer_unwatch(peer, &peer->sock);
	peer_unwatch(peer, &peer->pid_fd);
	free(peer);
	return NULL;
}

int syn_peer_new(struct syn_server *server, uint32_t tenant, int sock,
		 uint64_t now_ns)
{
	const int bytes = PEER_SNDBUF_BYTES;
	struct syn_peer *peer;
	int r = -ENOMEM;

	peer = syn_alloc(1, sizeof(*peer));
	if (!peer)
		goto refuse;
	peer->server = server;
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
	r = syn_cred_get(sock, &peer->cred, &peer->pid_fd);
	if (r)
		goto free_peer;
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	r = peer_watch(peer, peer->pid_fd, EPOLLIN, SYN_WAKE_PID);
	if (r)
		goto free_peer;
	peer->events = EPOLLIN | EPOLLRDHUP;
	r = peer_watch(peer, sock, peer->events, SYN_WAKE_SOCKET);
	if (r)
		goto free_peer;
	peer->sock = sock;
	syn_list_add_tail(&server->half, &peer->link);
	server->nr_half++;
	return 0;

free_peer:
	peer_free(peer);
refuse:
	syn_peer_refuse(sock, r, "the daemon cannot take this client now");
	return r;
}

int syn_peer_attach_control(struct syn_peer *peer, uint32_t version,
			    const char **ret_why)
{
	struct syn_msg_welcome welcome = {
		.msg = { .type = SYN_MSG_WELCOME, .size = sizeof(welcome) },
		.version = version,
		.epoch = peer->server->config.epoch,
	};
	int r;

	r = syn_conn_send(peer->sock, &welcome.msg, NULL, 0);
	if (r) {
		*ret_why = "WELCOME could not be sent";
		return r;
	}
	peer_move(peer, SYN_PEER_CONTROL);
	return 0;
}

/* ---- attach ------------------------------------------------------------- */

static int channels_new(struct syn_peer *peer, int *ret_wake_read_fd)
{
	int pipe_fds[2];

	if (syn_fault())
		return -EMFILE;
	peer->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (peer->bell_fd < 0)
		return -errno;
	if (syn_fault())
		return -EMFILE;
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* More room than asked for does no harm. */
	(void)fcntl(pipe_fds[1], F_SETPIPE_SZ, PEER_PIPE_BYTES);
	peer->wake_fd = pipe_fds[1];
	*ret_wake_read_fd = pipe_fds[0];
	return 0;
}

static void rings_init(struct syn_peer *peer)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;
	struct syn_client_ctl *client = (void *)peer->seg.client;
	struct syn_daemon_ctl *daemon = (void *)peer->seg.daemon;

	peer->sq = (struct syn_ring){
		.mine = &daemon->sq_head,
		.theirs = &client->sq_tail,
		.sleeps = &daemon->sq_sleeps,
		.entries = peer->seg.client + g->sqe_off,
		.entry_bytes = sizeof(struct syn_sqe),
		.mask = SYN_SQ_ENTRIES - 1,
	};
	peer->cq = (struct syn_ring){
		.mine = &daemon->cq_tail,
		.theirs = &client->cq_head,
		.sleeps = &client->cq_sleeps,
		.entries = peer->seg.daemon + g->cqe_off,
		.entry_bytes = sizeof(struct syn_cqe),
		.mask = SYN_CQ_ENTRIES - 1,
	};
	/* Nobody polls the ring until the first bell. */
	daemon->sq_sleeps = 1;
	daemon->epoch = peer->server->config.epoch;
}

static int session_open(struct syn_peer *peer, uint32_t domain, uint64_t now_ns)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;
	struct syn_session_config config = {
		.id = peer->id,
		.pid = (uint32_t)peer->cred.pid,
		.uid = (uint32_t)peer->cred.uid,
		.domain = domain,
		.nr_pages = g->nr_pages,
		.nr_timelines = g->nr_timelines,
		.pte = (void *)(peer->seg.daemon + g->pte_off),
		.pin = (const void *)(peer->seg.client + g->pin_off),
		.timeline = (const void *)(peer->seg.client + g->timeline_off),
		.loan = (void *)(peer->seg.daemon + g->loan_off),
		.sums = (void *)(peer->seg.daemon + g->sums_off),
		.now_ns = now_ns,
	};

	memcpy(config.name, peer->name, sizeof(config.name));
	return syn_mm_session_new(peer->server->config.mm, &config,
				  &peer->session);
}

static void session_unkeep(struct syn_peer *peer)
{
	const struct syn_server_config *config = &peer->server->config;

	if (config->drop)
		config->drop(config->keep_ctx, SYN_SERVER_KEEP_SESSION,
			     peer->id);
}

static int session_keep(struct syn_peer *peer)
{
	const struct syn_server_config *config = &peer->server->config;
	const int fds[SYN_SERVER_FDS] = {
		[SYN_SERVER_FD_SOCKET] = peer->sock,
		[SYN_SERVER_FD_CLIENT] = peer->seg.client_fd,
		[SYN_SERVER_FD_DAEMON] = peer->seg.daemon_fd,
		[SYN_SERVER_FD_BELL] = peer->bell_fd,
		[SYN_SERVER_FD_WAKE] = peer->wake_fd,
		[SYN_SERVER_FD_PID] = peer->pid_fd,
	};

	if (!config->keep)
		return 0;
	return config->keep(config->keep_ctx, SYN_SERVER_KEEP_SESSION, peer->id,
			    fds, syn_array_size(fds));
}

static int welcome_send(struct syn_peer *peer, uint32_t version,
			int wake_read_fd)
{
	const int fds[] = { peer->seg.client_fd, peer->seg.shared_fd,
			    peer->bell_fd, wake_read_fd };
	struct syn_msg_welcome welcome = peer->seg.geometry;

	welcome.msg = (struct syn_msg){ .type = SYN_MSG_WELCOME,
					.size = sizeof(welcome) };
	welcome.version = version;
	welcome.session = peer->id;
	welcome.epoch = peer->server->config.epoch;
	welcome.features = peer->features;
	return syn_conn_send(peer->sock, &welcome.msg, fds,
			     syn_array_size(fds));
}

/* The socket is empty but for WELCOME, so there is room. */
static int device_send(struct syn_peer *peer)
{
	struct syn_msg_device device = {
		.msg = { .type = SYN_MSG_DEVICE, .size = sizeof(device) },
	};

	if (!(peer->features & SYN_FEATURE_CUDA))
		return 0;
	memcpy(device.uuid, peer->server->config.dev_uuid, sizeof(device.uuid));
	return syn_conn_send(peer->sock, &device.msg, NULL, 0);
}

int syn_peer_attach_engine(struct syn_peer *peer,
			   const struct syn_msg_hello *hello, uint32_t version,
			   const char **ret_why)
{
	const uint64_t now_ns = syn_now_ns();
	struct syn_server *server = peer->server;
	const char *why = "its domain is not to be had";
	int wake_read_fd = -1;
	uint32_t domain;
	int r;

	r = syn_tenant_domain(peer, &domain, &why);
	if (r)
		goto fail;
	why = "its segments could not be made";
	peer->id = server->next_id;
	peer->features = hello->features & syn_server_features(server);
	r = syn_segments_init(&peer->seg, hello->nr_pages, hello->nr_timelines);
	if (r)
		goto fail;
	rings_init(peer);
	why = "its doorbells could not be made";
	r = channels_new(peer, &wake_read_fd);
	if (r)
		goto close_channels;
	why = "there is no room for another session";
	r = session_open(peer, domain, now_ns);
	if (r)
		goto close_channels;
	why = "the keeper could not take its descriptors";
	r = session_keep(peer);
	if (r)
		goto end_session;
	why = "WELCOME could not be sent";
	r = peer_watch(peer, peer->bell_fd, EPOLLIN | EPOLLET, SYN_WAKE_BELL);
	if (!r)
		r = welcome_send(peer, version, wake_read_fd);
	if (!r)
		r = device_send(peer);
	if (r)
		goto drop;
	syn_close(wake_read_fd);
	syn_segments_close_fds(&peer->seg);
	peer->since_ns = now_ns;
	server->next_id++;
	server->attaches++;
	peer_move(peer, SYN_PEER_LIVE);
	SYN_PROBE(attach, peer->id, peer->cred.pid, peer->cred.uid);
	syn_debug("session %u: attached, process %d, %s", peer->id,
		  (int)peer->cred.pid, peer->name);
	return 0;

drop:
	session_unkeep(peer);
end_session:
	syn_mm_session_exited(peer->session);
	peer->session = NULL;
close_channels:
	syn_close(wake_read_fd);
	peer_unwatch(peer, &peer->bell_fd);
	syn_closep(&peer->wake_fd);
	syn_segments_close_fds(&peer->seg);
	syn_segments_deinit(&peer->seg);
fail:
	*ret_why = why;
	return r;
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
		r = syn_conn_send(peer->sock, &msg.msg, &mem->fd, 1);
		if (r)
			return r;
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
	r = syn_conn_send(peer->sock, (struct syn_msg *)peer->reply, NULL, 0);
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
		r = syn_conn_send(peer->sock, &msg.msg, NULL, 0);
		if (r)
			return r;
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
	peer_unwatch(peer, &peer->bell_fd);
	syn_closep(&peer->wake_fd);
	SYN_PROBE(detach, peer->id, error);
	/* What it gave back may be what another waits for. */
	peer->server->retry_due = true;
}

void syn_peer_end(struct syn_peer *peer, int error, const char *reason)
{
	if (peer->state >= SYN_PEER_ENDED)
		return;
	if (reason) {
		syn_debug("session %u, process %d: %s", peer->id,
			  (int)peer->cred.pid, reason);
		bye_send(peer->sock, error, reason);
	}
	(void)epoll_ctl(peer->server->epoll_fd, EPOLL_CTL_DEL, peer->sock,
			NULL);
	peer->sock = sock_end(peer->sock);
	if (peer->state != SYN_PEER_LIVE) {
		peer_move(peer, SYN_PEER_DEAD);
		return;
	}
	notice_count(peer, SYN_NOTICE_SOCKET);
	syn_peer_wake(peer);
	session_close(peer, error);
	peer->since_ns = syn_now_ns();
	peer->server->sweep_at_ns =
		syn_min(peer->server->sweep_at_ns, peer->since_ns);
	peer_move(peer, SYN_PEER_ENDED);
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
	syn_mm_session_exited(peer->session);
	peer->session = NULL;
	session_unkeep(peer);
	syn_segments_deinit(&peer->seg);
	peer->server->retry_due = true;
	peer_move(peer, SYN_PEER_DEAD);
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
