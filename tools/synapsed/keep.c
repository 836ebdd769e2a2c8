/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's half of the keeper's protocol. */
#include "tools/synapsed/keep.h"

#include "core/base/base.h"
#include "ipc/conn.h"

static int keep_send(int sock, uint16_t type, uint32_t kind, uint32_t id,
		     int fd)
{
	struct syn_keep_msg m = {
		.msg = { .type = type, .size = sizeof(m) },
		.kind = kind,
		.id = id,
	};

	return syn_conn_send(sock, &m.msg, &fd, fd < 0 ? 0 : 1);
}

int syn_keep_ready(int sock)
{
	return keep_send(sock, SYN_KEEP_READY, 0, 0, -1);
}

int syn_keep_put(int sock, uint32_t kind, uint32_t id, int fd)
{
	struct syn_keep_msg ack;
	int fds[SYN_FDS_MAX];
	int r;

	r = keep_send(sock, SYN_KEEP_PUT, kind, id, fd);
	if (r)
		return r;
	do {
		r = syn_conn_recv(sock, &ack, sizeof(ack), fds);
	} while (r == -EINTR);
	if (r < 0)
		return r;
	if (r != (int)sizeof(ack) || ack.msg.type != SYN_KEEP_ACK)
		return -EPIPE;
	return ack.msg.error;
}

void syn_keep_drop(int sock, uint32_t kind, uint32_t id)
{
	/* Fails only when the keeper is gone, and its descriptors with it. */
	(void)keep_send(sock, SYN_KEEP_DROP, kind, id, -1);
}
