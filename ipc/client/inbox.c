/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon sends on the socket: answers, extents, the end. */
#include <poll.h>
#include <stdio.h>

#include "core/base/base.h"
#include "ipc/client/client-internal.h"
#include "ipc/conn.h"

#define INBOX_WAIT_MS 10

/* No message of this version is longer. */
union inbox_message {
	struct syn_msg msg;
	struct syn_msg_bye bye;
	struct syn_msg_space_reply space;
	struct syn_msg_window_reply window;
	struct syn_msg_coded_reply coded;
	struct syn_msg_extent extent;
	struct syn_msg_retire retire;
	struct syn_msg_device device;
};

static void inbox_end(struct syn_client *c, int error)
{
	char line[SYN_REASON_BYTES];

	(void)snprintf(line, sizeof(line), "the session cannot go on: %s",
		       strerrordesc_np(-error) ? strerrordesc_np(-error)
					       : "unknown error");
	syn_client_end_locked(c, line);
}

static int inbox_bye(struct syn_client *c, struct syn_msg_bye *bye)
{
	bye->reason[sizeof(bye->reason) - 1] = '\0';
	syn_client_end_locked(c, bye->reason[0] ? bye->reason
						: "the daemon said goodbye");
	return 0;
}

static int inbox_answer(struct syn_client *c, const struct syn_msg *msg,
			size_t bytes)
{
	if (!c->asking || c->answered || msg->type != c->answer_type)
		return -EPROTO;
	memcpy(&c->answer, msg, bytes);
	if (msg->type == SYN_MSG_WINDOW_REPLY && !msg->error)
		c->opened = syn_window_setup_locked(c, &c->answer.window);
	if (msg->type == SYN_MSG_CODED_REPLY && !msg->error)
		c->opened = syn_window_setup_coded_locked(c, &c->answer.coded);
	c->answered = true;
	(void)pthread_cond_broadcast(&c->turn);
	return 0;
}

static int inbox_device(struct syn_client *c, const struct syn_msg_device *msg)
{
	if (!(c->features & SYN_FEATURE_CUDA) || c->has_uuid || msg->device ||
	    msg->pad0)
		return -EPROTO;
	memcpy(c->uuid, msg->uuid, sizeof(c->uuid));
	c->has_uuid = true;
	return 0;
}

/* Descriptors that are left over in @fds are closed by the caller. */
static int inbox_dispatch(struct syn_client *c, union inbox_message *m,
			  size_t bytes, int *fds)
{
	switch (m->msg.type) {
	case SYN_MSG_BYE:
		if (bytes != sizeof(m->bye))
			return -EPROTO;
		return inbox_bye(c, &m->bye);
	case SYN_MSG_SPACE_REPLY:
		if (bytes != sizeof(m->space))
			return -EPROTO;
		return inbox_answer(c, &m->msg, bytes);
	case SYN_MSG_WINDOW_REPLY:
		if (bytes != sizeof(m->window))
			return -EPROTO;
		return inbox_answer(c, &m->msg, bytes);
	case SYN_MSG_CODED_REPLY:
		if (bytes != sizeof(m->coded))
			return -EPROTO;
		return inbox_answer(c, &m->msg, bytes);
	case SYN_MSG_EXTENT:
		if (bytes != sizeof(m->extent) || m->msg.nr_fds != 1)
			return -EPROTO;
		return syn_extent_add_locked(c, &m->extent,
					     syn_steal_fd(&fds[0]));
	case SYN_MSG_DEVICE:
		if (bytes != sizeof(m->device))
			return -EPROTO;
		return inbox_device(c, &m->device);
	case SYN_MSG_RETIRE:
		if (bytes != sizeof(m->retire))
			return -EPROTO;
		return syn_extent_retire_locked(c, m->retire.extent);
	default:
		return -EPROTO;
	}
}

/* Returns 1 when there may be more. */
static int inbox_read_one(struct syn_client *c)
{
	union inbox_message m;
	int fds[SYN_FDS_MAX];
	int n = syn_conn_recv(c->sock, &m, sizeof(m), fds);
	int r;

	if (n == -EAGAIN)
		return 0;
	if (n == 0) {
		syn_client_end_locked(c, "the daemon has gone");
		return 0;
	}
	if (n < 0) {
		inbox_end(c, n);
		return 0;
	}
	r = inbox_dispatch(c, &m, (size_t)n, fds);
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		syn_closep(&fds[i]);
	if (r)
		inbox_end(c, r);
	return !r;
}

void syn_inbox_read_locked(struct syn_client *c)
{
	/* Before reading: what is sent meanwhile is counted once more. */
	syn_store_relaxed(&c->inbox_seen, syn_load_acquire(&c->ctl->notices));
	while (!c->ended && inbox_read_one(c))
		;
	syn_extent_tell_locked(c);
}

void syn_inbox_look(struct syn_client *c)
{
	uint32_t notices = syn_load_acquire(&c->ctl->notices);

	if (!SYN_NOTICE_SINCE(syn_load_relaxed(&c->inbox_seen), notices,
			      SYN_NOTICE_SOCKET))
		return;
	(void)pthread_mutex_lock(&c->lock);
	syn_inbox_read_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
}

int syn_inbox_wait(struct syn_client *c)
{
	struct pollfd fd = { .fd = c->sock, .events = POLLIN };
	int r = 0;

	(void)poll(&fd, 1, INBOX_WAIT_MS);
	(void)pthread_mutex_lock(&c->lock);
	syn_inbox_read_locked(c);
	if (c->ended)
		r = -ESHUTDOWN;
	(void)pthread_mutex_unlock(&c->lock);
	return r;
}
