/* SPDX-License-Identifier: Apache-2.0 */
/* From HELLO to WELCOME: what a session is made of. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "core/base/failpoint.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/base/trace.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/kept.h"
#include "ipc/server/peer.h"
#include "ipc/server/state.h"
#include "ipc/server/tenant.h"

/* One page is room for 512 wakes, and one would do. */
#define ATTACH_PIPE_BYTES 4096

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
	(void)fcntl(pipe_fds[1], F_SETPIPE_SZ, ATTACH_PIPE_BYTES);
	peer->wake_fd = pipe_fds[1];
	*ret_wake_read_fd = pipe_fds[0];
	return 0;
}

void syn_peer_rings_init(struct syn_peer *peer)
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
		.own = daemon->sq_head,
	};
	peer->cq = (struct syn_ring){
		.mine = &daemon->cq_tail,
		.theirs = &client->cq_head,
		.sleeps = &client->cq_sleeps,
		.entries = peer->seg.daemon + g->cqe_off,
		.entry_bytes = sizeof(struct syn_cqe),
		.mask = SYN_CQ_ENTRIES - 1,
		.own = daemon->cq_tail,
	};
}

static void ctl_init(struct syn_peer *peer)
{
	struct syn_daemon_ctl *daemon = (void *)peer->seg.daemon;

	/* Nobody polls the ring until the first bell. */
	daemon->sq_sleeps = 1;
	daemon->epoch = peer->server->config.epoch;
}

void syn_peer_session_config(const struct syn_peer *peer,
			     struct syn_session_config *ret)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;

	*ret = (struct syn_session_config){
		.id = peer->id,
		.pid = (uint32_t)peer->cred.pid,
		.uid = (uint32_t)peer->cred.uid,
		.nr_pages = g->nr_pages,
		.nr_timelines = g->nr_timelines,
		.pte = (void *)(peer->seg.daemon + g->pte_off),
		.pin = (const void *)(peer->seg.client + g->pin_off),
		.timeline = (const void *)(peer->seg.client + g->timeline_off),
		.loan = (void *)(peer->seg.daemon + g->loan_off),
		.sums = (void *)(peer->seg.daemon + g->sums_off),
		.now_ns = peer->since_ns,
	};
	memcpy(ret->name, peer->name, sizeof(ret->name));
}

static int session_open(struct syn_peer *peer, uint32_t domain)
{
	struct syn_session_config config;

	syn_peer_session_config(peer, &config);
	config.domain = domain;
	return syn_mm_session_new(peer->server->config.mm, &config,
				  &peer->session);
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
	syn_peer_move(peer, SYN_PEER_CONTROL);
	return 0;
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
	peer->id = server->head->next_id;
	peer->features = hello->features & syn_server_features(server);
	r = syn_segments_init(&peer->seg, hello->nr_pages, hello->nr_timelines);
	if (r)
		goto fail;
	ctl_init(peer);
	syn_peer_rings_init(peer);
	why = "its doorbells could not be made";
	r = channels_new(peer, &wake_read_fd);
	if (r)
		goto close_channels;
	why = "there is no room for another session";
	peer->since_ns = now_ns;
	r = session_open(peer, domain);
	if (r)
		goto close_channels;
	why = "the keeper could not take its descriptors";
	syn_failpoint();
	r = session_keep(peer);
	if (r)
		goto end_session;
	syn_failpoint();
	syn_peers_publish(peer);
	why = "WELCOME could not be sent";
	r = syn_peer_watch(peer, peer->bell_fd, EPOLLIN | EPOLLET,
			   SYN_WAKE_BELL);
	if (!r)
		r = welcome_send(peer, version, wake_read_fd);
	syn_failpoint();
	if (!r)
		r = device_send(peer);
	if (r)
		goto forget;
	syn_close(wake_read_fd);
	syn_segments_close_fds(&peer->seg);
	syn_peers_live(peer);
	server->attaches++;
	syn_peer_move(peer, SYN_PEER_LIVE);
	SYN_PROBE(attach, peer->id, peer->cred.pid, peer->cred.uid);
	syn_debug("session %u: attached, process %d, %s", peer->id,
		  (int)peer->cred.pid, peer->name);
	return 0;

forget:
	syn_peers_forget(peer);
	syn_peer_unkeep(peer);
end_session:
	syn_mm_session_exited(peer->session);
	peer->session = NULL;
close_channels:
	syn_close(wake_read_fd);
	syn_peer_unwatch(peer, &peer->bell_fd);
	syn_closep(&peer->wake_fd);
	syn_segments_close_fds(&peer->seg);
	syn_segments_deinit(&peer->seg);
fail:
	*ret_why = why;
	return r;
}
