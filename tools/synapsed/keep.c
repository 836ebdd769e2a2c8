/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's half of the keeper's protocol. */
#include "tools/synapsed/keep.h"

#include <stdio.h>

#include "core/base/base.h"
#include "ipc/conn.h"

static int keep_send(int sock, uint16_t type, uint32_t kind, uint32_t id,
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
static int keep_receive(int sock, uint16_t type, struct syn_keep_msg *ret,
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

/* What is acknowledged. */
static int keep_ask(int sock, uint16_t type, uint32_t kind, uint32_t id,
		    const int *fds, unsigned int nr_fds)
{
	struct syn_keep_msg ack;
	int none[SYN_FDS_MAX];
	int r;

	r = keep_send(sock, type, kind, id, fds, nr_fds);
	return r ? r : keep_receive(sock, SYN_KEEP_ACK, &ack, none);
}

int syn_keep_ready(int sock)
{
	return keep_send(sock, SYN_KEEP_READY, 0, 0, NULL, 0);
}

void syn_keep_refuse(int sock, const char *reason)
{
	struct syn_keep_refused m = {
		.msg = { .type = SYN_KEEP_REFUSED, .size = sizeof(m) },
	};

	(void)snprintf(m.reason, sizeof(m.reason), "%s", reason);
	/* Fails only when the keeper is gone, and nobody is to be told. */
	(void)syn_conn_send(sock, &m.msg, NULL, 0);
}

static int keep_take_one(int sock, uint32_t i, struct syn_hold *hold)
{
	struct syn_keep_msg held;
	int fds[SYN_FDS_MAX];
	int r;

	r = keep_send(sock, SYN_KEEP_TAKE, 0, i, NULL, 0);
	if (!r)
		r = keep_receive(sock, SYN_KEEP_HELD, &held, fds);
	if (r)
		return r;
	r = syn_hold_add(hold, held.kind, held.id, fds);
	if (r)
		syn_hold_close(fds);
	return r;
}

int syn_keep_take(int sock, uint32_t nr, struct syn_hold *ret)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < nr && !r; i++)
		r = keep_take_one(sock, i, ret);
	return r;
}

int syn_keep_upgrade(int sock)
{
	return keep_ask(sock, SYN_KEEP_UPGRADE, 0, 0, NULL, 0);
}

int syn_keep_put(int sock, uint32_t kind, uint32_t id, const int *fds,
		 unsigned int nr_fds)
{
	return keep_ask(sock, SYN_KEEP_PUT, kind, id, fds, nr_fds);
}

int syn_keep_replace(int sock, uint32_t kind, uint32_t id, const int *fds,
		     unsigned int nr_fds)
{
	return keep_ask(sock, SYN_KEEP_REPLACE, kind, id, fds, nr_fds);
}

void syn_keep_drop(int sock, uint32_t kind, uint32_t id)
{
	/* Fails only when the keeper is gone, and its descriptors with it. */
	(void)keep_send(sock, SYN_KEEP_DROP, kind, id, NULL, 0);
}
