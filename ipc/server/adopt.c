/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions of a server whose process is gone.
 *
 * Their records say who they were, their descriptors are held, and both
 * segments are as the other server left them.  First all of them are there
 * again, so that core can settle what was under way; then the one request that
 * was being carried out is carried out, unless its answer is known; then the
 * others that were taken.  The epoch tells a client that all this has happened.
 */
#include "ipc/server/server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/kept.h"
#include "ipc/server/peer.h"
#include "ipc/server/request.h"
#include "ipc/server/state.h"
#include "ipc/server/tenant.h"

/* ---- one session -------------------------------------------------------- */

static void peer_recall(struct syn_peer *peer, struct syn_rec_peer *rec)
{
	peer->rec = rec;
	peer->id = rec->id;
	peer->features = rec->features;
	peer->said_bye = rec->said_bye;
	peer->cred = (struct syn_cred){
		.pid = (pid_t)rec->pid,
		.uid = (uid_t)rec->uid,
		.gid = (gid_t)rec->gid,
	};
	memcpy(peer->name, rec->name, sizeof(peer->name));
	peer->name[sizeof(peer->name) - 1] = '\0';
}

/* -ENOENT: nobody holds its descriptors. */
static int peer_take(struct syn_peer *peer)
{
	const struct syn_server_config *config = &peer->server->config;
	int fds[SYN_FDS_MAX];
	int r;

	r = config->take(config->keep_ctx, SYN_SERVER_KEEP_SESSION, peer->id,
			 fds);
	if (r)
		return r;
	peer->sock = fds[SYN_SERVER_FD_SOCKET];
	peer->bell_fd = fds[SYN_SERVER_FD_BELL];
	peer->wake_fd = fds[SYN_SERVER_FD_WAKE];
	peer->pid_fd = fds[SYN_SERVER_FD_PID];
	return syn_segments_adopt(&peer->seg, &peer->rec->geometry,
				  fds[SYN_SERVER_FD_CLIENT],
				  fds[SYN_SERVER_FD_DAEMON]);
}

/*
 * Whether the client of a session that is new was sent WELCOME: then it has the other
 * end of the pipe that wakes it, which else died with the worker.  Nobody can
 * tell whether it was sent DEVICE, too.
 */
static bool peer_was_told(const struct syn_peer *peer)
{
	if (peer->rec->state != SYN_REC_PEER_NEW)
		return true;
	return !(peer->features & SYN_FEATURE_CUDA) &&
	       !syn_conn_poll(peer->wake_fd, 0);
}

static int peer_join(struct syn_peer *peer)
{
	struct syn_session_config config;

	syn_peer_session_config(peer, &config);
	return syn_mm_session_adopt(peer->server->config.mm, &config,
				    &peer->session);
}

static int peer_watch(struct syn_peer *peer)
{
	int r;

	r = syn_peer_watch(peer, peer->pid_fd, EPOLLIN, SYN_WAKE_PID);
	if (!r)
		r = syn_peer_watch(peer, peer->sock, peer->events,
				   SYN_WAKE_SOCKET);
	if (!r)
		r = syn_peer_watch(peer, peer->bell_fd, EPOLLIN | EPOLLET,
				   SYN_WAKE_BELL);
	return r;
}

/* Core has forgotten it, its descriptors are not held, or its client knows nothing. */
static void peer_drop(struct syn_peer *peer)
{
	syn_warning("session %u cannot go on", peer->id);
	syn_peers_forget(peer);
	syn_failpoint();
	syn_peer_unkeep(peer);
	if (peer->sock >= 0)
		syn_peer_refuse(syn_steal_fd(&peer->sock), -ESHUTDOWN,
				"the session was lost; attach again");
	syn_peer_unwatch(peer, &peer->bell_fd);
	syn_closep(&peer->wake_fd);
	syn_segments_deinit(&peer->seg);
	syn_peer_move(peer, SYN_PEER_DEAD);
}

static int peer_adopt(struct syn_server *server, struct syn_rec_peer *rec)
{
	struct syn_peer *peer;
	int r;

	peer = syn_peer_alloc(server, rec->tenant, rec->since_ns);
	if (!peer)
		return -ENOMEM;
	peer_recall(peer, rec);
	r = peer_take(peer);
	if (!r && !peer_was_told(peer))
		r = -ENOENT;
	if (!r)
		r = peer_join(peer);
	if (r == -ENOENT || r == -EPROTO) {
		peer_drop(peer);
		return 0;
	}
	if (!r)
		r = peer_watch(peer);
	syn_peer_move(peer, SYN_PEER_LIVE);
	if (r)
		return r;
	if (rec->state == SYN_REC_PEER_NEW)
		syn_peers_live(peer);
	syn_failpoint();
	server->head->next_id = syn_max(server->head->next_id, rec->id + 1);
	syn_peer_rings_init(peer);
	return 0;
}

static int peers_adopt(struct syn_server *server)
{
	struct syn_rec_peer *rec;
	uint32_t i = 0;
	int r = 0;

	while (!r && (rec = syn_peers_record(server, i++)))
		if (rec->state != SYN_REC_PEER_FREE)
			r = peer_adopt(server, rec);
	return r;
}

/* ---- what was under way ------------------------------------------------- */

static struct syn_peer *peer_find(struct syn_server *server, uint32_t id)
{
	struct syn_peer *peer;

	syn_list_for_each (peer, &server->live, link)
		if (peer->id == id)
			return peer;
	return NULL;
}

/*
 * The request that was being carried out, if it must be carried out again: its
 * peer and its index.
 */
static struct syn_peer *hand_find(struct syn_server *server, uint32_t *ret_seq)
{
	struct syn_mm *mm = server->config.mm;
	struct syn_peer *peer;
	uint32_t session;
	uint64_t cookie;

	if (!syn_mm_at_hand(mm, &session, &cookie))
		return NULL;
	*ret_seq = (uint32_t)cookie;
	peer = peer_find(server, session);
	if (!peer || !syn_request_is_answered(peer, *ret_seq))
		return peer;
	syn_mm_end(mm);
	return NULL;
}

/* It had ended, or was about to. */
static bool peer_is_over(const struct syn_peer *peer)
{
	return peer->rec->state == SYN_REC_PEER_ENDED ||
	       syn_mm_session_ended(peer->session);
}

/*
 * A question that was taken and not answered is asked again, by a client that
 * sees that it was taken before this epoch.
 */
static void questions_count(struct syn_peer *peer)
{
	struct syn_daemon_ctl *ctl = (void *)peer->seg.daemon;
	char byte;

	/* It is still there, or was the last thing that was done. */
	if (peer->rec->taking != peer->rec->asked &&
	    recv(peer->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
		syn_peers_taken(peer);
	peer->again = true;
	syn_store_relaxed(&ctl->asked, peer->rec->asked);
}

/*
 * The client is woken in case its worker died before it did that.  A bell that
 * was ever rung is readable, so epoll tells of its ring at once.
 */
static void peer_go_on(struct syn_server *server, struct syn_peer *peer)
{
	struct syn_daemon_ctl *ctl = (void *)peer->seg.daemon;

	if (syn_request_adopt(peer))
		return; /* ended */
	questions_count(peer);
	syn_commit(&ctl->epoch, server->config.epoch);
	syn_failpoint();
	syn_peer_wake(peer);
}

static void peers_go_on(struct syn_server *server, struct syn_peer *hand,
			uint32_t seq)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;

	syn_list_for_each_safe (peer, tmp, &server->live, link)
		if (peer_is_over(peer))
			syn_peer_end(peer, -ESHUTDOWN, NULL);
	syn_failpoint();
	if (hand && hand->state == SYN_PEER_LIVE)
		syn_request_redo(hand, seq);
	syn_list_for_each_safe (peer, tmp, &server->live, link)
		peer_go_on(server, peer);
	server->retry_due = true;
	server->sweep_at_ns = 0;
}

int syn_server_adopt(struct syn_server *server, const char **ret_why)
{
	struct syn_peer *hand;
	uint32_t seq = 0;
	int r;

	r = syn_peers_check(server, ret_why);
	if (r)
		return r;
	*ret_why = "its sessions could not be taken over";
	r = peers_adopt(server);
	if (r)
		return r;
	hand = hand_find(server, &seq);
	syn_mm_clock(server->config.mm, syn_now_ns());
	syn_failpoint();
	r = syn_mm_adopted(server->config.mm);
	if (!r)
		r = syn_tenant_domains(server);
	if (r)
		return r;
	peers_go_on(server, hand, seq);
	syn_info("%u sessions go on", server->nr_live);
	return 0;
}
