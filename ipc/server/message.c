/* SPDX-License-Identifier: Apache-2.0 */
/* HELLO, spaces, windows, orders: what comes over the socket. */
#include "ipc/server/message.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/socket.h>

#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/control.h"
#include "ipc/server/kept.h"
#include "ipc/server/peer.h"
#include "ipc/server/state.h"

/* Messages of one client in one turn, so that others have theirs. */
#define MESSAGE_TURN_MAX 16

union message {
	struct syn_msg msg;
	struct syn_msg_hello hello;
	struct syn_msg_bye bye;
	struct syn_msg_space space;
	struct syn_msg_window window;
	struct syn_msg_coded coded;
	struct syn_msg_ctl ctl;
	unsigned char room[512]; /* a larger one is refused as too large */
};

static int refuse(int error, const char **ret_why, const char *why)
{
	*ret_why = why;
	return error;
}

static int hello_check_shape(const struct syn_msg_hello *hello,
			     const char **ret_why)
{
	if (hello->msg.size != sizeof(*hello))
		return refuse(-EPROTO, ret_why, "HELLO of another size");
	if (hello->msg.error || hello->pad0)
		return refuse(-EPROTO, ret_why, "HELLO with padding not zero");
	if (!memchr(hello->name, '\0', sizeof(hello->name)))
		return refuse(-EPROTO, ret_why, "HELLO whose name has no end");
	if (hello->version_min > hello->version_max)
		return refuse(-EPROTO, ret_why,
			      "HELLO with an empty range of "
			      "versions");
	if (hello->version_min > SYN_ABI_VERSION_MAX ||
	    hello->version_max < SYN_ABI_VERSION_MIN)
		return refuse(-EPROTONOSUPPORT, ret_why,
			      "no ABI version in common");
	if (hello->sqe_size != sizeof(struct syn_sqe) ||
	    hello->cqe_size != sizeof(struct syn_cqe) ||
	    hello->loan_size != sizeof(struct syn_loan))
		return refuse(-EPROTO, ret_why,
			      "a ring entry or loan has another size here");
	return 0;
}

static int hello_check_wants(const struct syn_server *server,
			     const struct syn_msg_hello *hello,
			     const char **ret_why)
{
	uint64_t extents = syn_server_extents(server);

	if (!(hello->features & SYN_FEATURE_RAW16))
		return refuse(-EOPNOTSUPP, ret_why, "no codec in common");
	if (!(hello->features & extents) && extents == SYN_FEATURE_CUDA)
		return refuse(-EOPNOTSUPP, ret_why,
			      "the daemon's memory is a GPU's, and this client "
			      "has no CUDA");
	if (!(hello->features & extents))
		return refuse(-EOPNOTSUPP, ret_why,
			      "no kind of extent in "
			      "common");
	if (!hello->nr_pages || hello->nr_pages > SYN_PAGES_MAX)
		return refuse(-EINVAL, ret_why, "nr_pages out of range");
	if (!hello->nr_timelines || hello->nr_timelines > SYN_TIMELINES_MAX)
		return refuse(-EINVAL, ret_why, "nr_timelines out of range");
	if (!hello->job_ranks || hello->job_rank >= hello->job_ranks)
		return refuse(-EINVAL, ret_why, "job_rank out of range");
	return 0;
}

static int hello_engine(struct syn_peer *peer,
			const struct syn_msg_hello *hello, uint32_t version,
			const char **ret_why)
{
	const struct syn_server *server = peer->server;
	int r;

	r = hello_check_wants(server, hello, ret_why);
	if (r)
		return r;
	if (server->head->draining)
		return refuse(-ESHUTDOWN, ret_why,
			      "the daemon takes no new sessions");
	if (server->nr_live + server->nr_ended >= server->max_engines)
		return refuse(-EUSERS, ret_why, "too many clients");
	return syn_peer_attach_engine(peer, hello, version, ret_why);
}

static int hello_control(struct syn_peer *peer, uint32_t version,
			 const char **ret_why)
{
	const struct syn_server *server = peer->server;
	uint32_t nr = syn_server_admin(server, peer) ? server->nr_admin
						     : server->nr_control;

	if (nr >= SYN_SERVER_CONTROL_MAX)
		return refuse(-EUSERS, ret_why, "too many control connections");
	return syn_peer_attach_control(peer, version, ret_why);
}

/* For logs and tables: what a terminal might take for an order is replaced. */
static void name_copy(char *to, const char *from)
{
	size_t i;

	for (i = 0; from[i]; i++)
		to[i] = isprint((unsigned char)from[i]) ? from[i] : '?';
	to[i] = '\0';
}

static int message_hello(struct syn_peer *peer,
			 const struct syn_msg_hello *hello,
			 const char **ret_why)
{
	uint32_t version;
	int r;

	if (hello->msg.type != SYN_MSG_HELLO)
		return refuse(-EPROTO, ret_why,
			      "the first message is not HELLO");
	r = hello_check_shape(hello, ret_why);
	if (r)
		return r;
	name_copy(peer->name, hello->name);
	version = syn_min((uint32_t)hello->version_max,
			  (uint32_t)SYN_ABI_VERSION_MAX);
	if (hello->kind == SYN_KIND_ENGINE)
		return hello_engine(peer, hello, version, ret_why);
	if (hello->kind == SYN_KIND_CONTROL)
		return hello_control(peer, version, ret_why);
	return refuse(-EINVAL, ret_why, "HELLO of an unknown kind");
}

static void reply_set(struct syn_peer *peer, struct syn_msg *reply,
		      uint16_t type, uint32_t bytes, int error)
{
	*reply =
		(struct syn_msg){ .type = type, .size = bytes, .error = error };
	memcpy(peer->reply, reply, bytes);
	peer->reply_bytes = bytes;
}

/* A codec, or a way to read it, that this client does not know. */
static bool space_is_beyond(const struct syn_peer *peer,
			    const struct syn_msg_space *space)
{
	if (space->flags & SYN_SPACE_F_CODED &&
	    !(peer->features & SYN_FEATURE_CODED))
		return true;
	if (peer->features & SYN_FEATURE_H4)
		return false;
	for (uint32_t i = 0; i < SYN_COMPONENTS_MAX; i++)
		if (space->component[i].codec == SYN_CODEC_H4)
			return true;
	return false;
}

static void message_space(struct syn_peer *peer,
			  const struct syn_msg_space *space)
{
	struct syn_msg_space_reply reply = { 0 };
	const char *why = "what it wants is not in use in this session";
	int r = -EOPNOTSUPP;

	if (!space_is_beyond(peer, space))
		r = syn_mm_space_define(peer->server->config.mm, space, &reply,
					&why);
	if (r) {
		syn_debug("session %u: space refused: %s", peer->id, why);
		memset(&reply, 0, sizeof(reply));
	}
	reply_set(peer, &reply.msg, SYN_MSG_SPACE_REPLY, sizeof(reply), r);
}

static void message_window(struct syn_peer *peer,
			   const struct syn_msg_window *window)
{
	struct syn_msg_window_reply reply = { 0 };
	int r = -EINVAL;

	if (!window->flags && window->device)
		r = -ENODEV;
	else if (!window->flags)
		r = syn_mm_window_open(peer->session, window->space,
				       window->slots, &reply);
	if (r == -EEXIST && peer->again)
		r = syn_mm_window_again(peer->session, window->space,
					window->slots, &reply);
	if (r)
		memset(&reply, 0, sizeof(reply));
	reply_set(peer, &reply.msg, SYN_MSG_WINDOW_REPLY, sizeof(reply), r);
}

static void message_coded(struct syn_peer *peer,
			  const struct syn_msg_coded *coded)
{
	struct syn_msg_coded_reply reply = { 0 };
	int r = -ENODEV;

	if (!coded->device)
		r = syn_mm_window_open_coded(peer->session, coded->space,
					     coded->slots, coded->coded_slots,
					     &reply);
	if (r == -EEXIST && peer->again)
		r = syn_mm_window_again_coded(peer->session, coded->space,
					      coded->slots, coded->coded_slots,
					      &reply);
	if (r)
		memset(&reply, 0, sizeof(reply));
	reply_set(peer, &reply.msg, SYN_MSG_CODED_REPLY, sizeof(reply), r);
}

static int bye_check(struct syn_peer *peer, const union message *m,
		     const char **ret_why)
{
	if (m->msg.size != sizeof(m->bye))
		return refuse(-EPROTO, ret_why, "BYE of another size");
	peer->said_bye = true;
	syn_peers_said_bye(peer);
	return refuse(-ESHUTDOWN, ret_why, NULL);
}

static int message_engine(struct syn_peer *peer, const union message *m,
			  const char **ret_why)
{
	switch (m->msg.type) {
	case SYN_MSG_SPACE:
		if (m->msg.size != sizeof(m->space))
			return refuse(-EPROTO, ret_why,
				      "SPACE of another size");
		message_space(peer, &m->space);
		break;
	case SYN_MSG_WINDOW:
		if (m->msg.size != sizeof(m->window))
			return refuse(-EPROTO, ret_why,
				      "WINDOW of another size");
		message_window(peer, &m->window);
		break;
	case SYN_MSG_CODED:
		if (m->msg.size != sizeof(m->coded))
			return refuse(-EPROTO, ret_why,
				      "CODED of another size");
		message_coded(peer, &m->coded);
		break;
	case SYN_MSG_BYE:
		return bye_check(peer, m, ret_why);
	default:
		return refuse(-EPROTO, ret_why,
			      "a message that a session may not send");
	}
	if (m->msg.error)
		return refuse(-EPROTO, ret_why, "a request with an error");
	peer->again = false;
	/* Failing otherwise, it has ended the peer already. */
	(void)syn_peer_tell(peer);
	return 0;
}

static int message_control(struct syn_peer *peer, const union message *m,
			   const char **ret_why)
{
	int r;

	if (m->msg.type == SYN_MSG_BYE)
		return bye_check(peer, m, ret_why);
	if (m->msg.type != SYN_MSG_CTL || m->msg.size != sizeof(m->ctl) ||
	    m->msg.error)
		return refuse(-EPROTO, ret_why,
			      "a message that a control connection may not "
			      "send");
	r = syn_control_answer(peer, &m->ctl);
	return r ? refuse(r, ret_why, "its answers are not read") : 0;
}

/* 0, or -errno with the reason (NULL: none is due) when the peer must end. */
static int message_handle(struct syn_peer *peer, const union message *m,
			  const char **ret_why)
{
	switch (peer->state) {
	case SYN_PEER_HALF:
		return message_hello(peer, &m->hello, ret_why);
	case SYN_PEER_LIVE:
		return message_engine(peer, m, ret_why);
	case SYN_PEER_CONTROL:
		return message_control(peer, m, ret_why);
	}
	return 0;
}

/*
 * That a message is about to be taken is kept before it is, so that another
 * worker finds it in the socket or knows that it was.
 */
static int message_take(struct syn_peer *peer, union message *m, int *fds)
{
	char byte;
	int r;

	if (recv(peer->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
	    (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	syn_peers_take(peer);
	syn_failpoint();
	r = syn_conn_recv(peer->sock, m, sizeof(*m), fds);
	syn_peers_taken(peer);
	syn_failpoint();
	return r;
}

static int message_receive(struct syn_peer *peer, union message *m,
			   const char **ret_why)
{
	int fds[SYN_FDS_MAX];
	int r;

	memset(m, 0, sizeof(*m));
	r = message_take(peer, m, fds);
	if (r == 0)
		return refuse(-ESHUTDOWN, ret_why, NULL);
	if (r == -EPROTO)
		return refuse(r, ret_why,
			      "a message with the wrong magic, size or number "
			      "of descriptors");
	if (r < 0)
		return refuse(r, ret_why, NULL);
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		syn_closep(&fds[i]);
	if (m->msg.nr_fds)
		return refuse(-EPROTO, ret_why,
			      "a message with descriptors, which none takes");
	return 0;
}

void syn_message_read(struct syn_peer *peer)
{
	const char *why = NULL;
	union message m;
	int r = 0;

	for (int i = 0; i < MESSAGE_TURN_MAX; i++) {
		if (peer->state >= SYN_PEER_ENDED || peer->reply_bytes)
			return;
		r = message_receive(peer, &m, &why);
		if (r == -EAGAIN || r == -EINTR)
			return;
		if (!r)
			r = message_handle(peer, &m, &why);
		if (r)
			break;
	}
	if (r)
		syn_peer_end(peer, r, why);
}
