/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's half of the keeper's protocol. */
#include "tools/synapsed/keep.h"

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

int syn_keep_ready(int sock)
{
	return keep_send(sock, SYN_KEEP_READY, 0, 0, NULL, 0);
}

int syn_keep_put(int sock, uint32_t kind, uint32_t id, const int *fds,
		 unsigned int nr_fds)
{
	struct syn_keep_msg ack;
	int none[SYN_FDS_MAX];
	int r;

	r = keep_send(sock, SYN_KEEP_PUT, kind, id, fds, nr_fds);
	if (r)
		return r;
	do {
		r = syn_conn_recv(sock, &ack, sizeof(ack), none);
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
	(void)keep_send(sock, SYN_KEEP_DROP, kind, id, NULL, 0);
}
