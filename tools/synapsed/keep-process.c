/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's half of the keeper's protocol. */
#include "tools/synapsed/keep-process.h"

#include <poll.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "ipc/conn.h"

#define START_LEAST_BYTES                                                      \
	(offsetof(struct syn_keep_start, config) + SYN_CONFIG_LEAST_BYTES)

static int sock_of(struct syn_keep *keep)
{
	return syn_container_of(keep, struct syn_keep_process, keep)->sock;
}

static int process_send(int sock, uint16_t type, uint32_t kind, uint32_t id,
			const int *fds, unsigned int nr_fds)
{
	struct syn_keep_msg m = {
		.msg = { .type = type, .size = sizeof(m) },
		.kind = kind,
		.id = id,
	};

	return syn_conn_send(sock, &m.msg, fds, nr_fds);
}

/* The answer to what was just sent, with its descriptors in @fds. */
static int process_receive(int sock, uint16_t type, struct syn_keep_msg *ret,
			   int *fds)
{
	int r;

	do {
		r = syn_conn_recv(sock, ret, sizeof(*ret), fds);
	} while (r == -EINTR);
	if (r < 0)
		return r;
	if (r != (int)sizeof(*ret) || ret->msg.type != type)
		return -EPIPE;
	return ret->msg.error;
}

/* What is acknowledged; -EPIPE when the keeper is gone. */
static int process_ask(int sock, uint16_t type, uint32_t kind, uint32_t id,
		       const int *fds, unsigned int nr_fds)
{
	struct syn_keep_msg ack;
	int none[SYN_FDS_MAX];
	int r;

	r = process_send(sock, type, kind, id, fds, nr_fds);
	return r ? r : process_receive(sock, SYN_KEEP_ACK, &ack, none);
}

/* ---- the beginning ------------------------------------------------------ */

static int listen_receive(int sock, struct syn_listener *ret)
{
	struct syn_keep_listen listen;
	int fds[SYN_FDS_MAX];
	int r;

	r = syn_conn_recv(sock, &listen, sizeof(listen), fds);
	if (r < 0)
		return r;
	if (r != (int)sizeof(listen) || listen.msg.type != SYN_KEEP_LISTEN ||
	    listen.msg.nr_fds != 1)
		return -EPROTO;
	ret->fd = fds[0];
	ret->dev = listen.dev;
	ret->ino = listen.ino;
	memcpy(ret->dir, listen.dir, sizeof(ret->dir));
	return 0;
}

/*
 * An older keeper's is shorter, and what it does not have is zero.  -EMSGSIZE: a
 * newer one's.
 */
static int start_receive(int sock, struct syn_keep_start *ret)
{
	int fds[SYN_FDS_MAX];
	int r;

	*ret = (struct syn_keep_start){ 0 };
	r = syn_conn_recv(sock, ret, sizeof(*ret), fds);
	if (r < 0)
		return ret->msg.size > sizeof(*ret) ? -EMSGSIZE : r;
	if (r < (int)START_LEAST_BYTES || ret->msg.type != SYN_KEEP_START ||
	    ret->msg.nr_fds)
		return -EPROTO;
	return 0;
}

static int held_take(int sock, uint32_t i, struct syn_hold *hold)
{
	struct syn_keep_msg held;
	int fds[SYN_FDS_MAX];
	int r;

	r = process_send(sock, SYN_KEEP_TAKE, 0, i, NULL, 0);
	if (!r)
		r = process_receive(sock, SYN_KEEP_HELD, &held, fds);
	if (r)
		return r;
	r = syn_hold_add(hold, held.kind, held.id, fds);
	if (r)
		syn_hold_close(fds);
	return r;
}

static int process_take(struct syn_keep *keep, int sock)
{
	struct syn_keep_start start;
	uint32_t i;
	int r;

	r = start_receive(sock, &start);
	/* Who could not read it may be one. */
	keep->heir = start.nr_held || !start.msg.type;
	if (r)
		return r;
	keep->epoch = start.epoch;
	keep->keeper_pid = start.keeper_pid;
	keep->config = start.config;
	for (i = 0; i < keep->config.nr_tenants && !r; i++)
		r = listen_receive(sock, &keep->listener[i]);
	for (i = 0; i < start.nr_held && !r; i++)
		r = held_take(sock, i, &keep->hold);
	return r;
}

static int process_begin(struct syn_keep *keep)
{
	int r = process_take(keep, sock_of(keep));

	if (r == -EMSGSIZE)
		syn_error("the keeper is a newer program's");
	else if (r)
		syn_error("the keeper's message: %s", strerror(-r));
	return r;
}

/* ---- while it lives ----------------------------------------------------- */

static int process_ready(struct syn_keep *keep)
{
	return process_send(sock_of(keep), SYN_KEEP_READY, 0, 0, NULL, 0);
}

static void process_refuse(struct syn_keep *keep, int error, const char *reason)
{
	struct syn_keep_refused m = {
		.msg = { .type = SYN_KEEP_REFUSED,
			 .size = sizeof(m),
			 .error = error },
	};

	(void)snprintf(m.reason, sizeof(m.reason), "%s", reason);
	/* Fails only when the keeper is gone, and nobody is to be told. */
	(void)syn_conn_send(sock_of(keep), &m.msg, NULL, 0);
}

static int process_put(struct syn_keep *keep, uint32_t kind, uint32_t id,
		       const int *fds, unsigned int nr_fds)
{
	return process_ask(sock_of(keep), SYN_KEEP_PUT, kind, id, fds, nr_fds);
}

static int process_replace(struct syn_keep *keep, uint32_t kind, uint32_t id,
			   const int *fds, unsigned int nr_fds)
{
	return process_ask(sock_of(keep), SYN_KEEP_REPLACE, kind, id, fds,
			   nr_fds);
}

static void process_drop(struct syn_keep *keep, uint32_t kind, uint32_t id)
{
	/* Fails only when the keeper is gone, and its descriptors with it. */
	(void)process_send(sock_of(keep), SYN_KEEP_DROP, kind, id, NULL, 0);
}

static int process_upgrade(struct syn_keep *keep)
{
	return process_ask(sock_of(keep), SYN_KEEP_UPGRADE, 0, 0, NULL, 0);
}

/* The keeper removes the sockets' files; when it was killed, nobody else can. */
static void process_end(struct syn_keep *keep)
{
	int r = syn_conn_poll(sock_of(keep), 0);
	uint32_t i;

	if (r < 0 || !(r & POLLHUP))
		return;
	for (i = 0; i < keep->config.nr_tenants; i++)
		syn_listener_unlink(&keep->config.tenant[i],
				    &keep->listener[i]);
}

static const struct syn_keep_ops process_ops = {
	.begin = process_begin,
	.ready = process_ready,
	.refuse = process_refuse,
	.put = process_put,
	.replace = process_replace,
	.drop = process_drop,
	.upgrade = process_upgrade,
	.end = process_end,
};

void syn_keep_process_init(struct syn_keep_process *process, int sock)
{
	*process = (struct syn_keep_process){
		.keep.ops = &process_ops,
		.keep.lifeline_fd = sock,
		.sock = sock,
	};
	for (uint32_t i = 0; i < SYN_TENANTS_MAX; i++)
		process->keep.listener[i].fd = -1;
}
