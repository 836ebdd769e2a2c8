/* SPDX-License-Identifier: Apache-2.0 */
/* A table of descriptors. */
#include "tools/synapsed/hold.h"

#include <stdio.h>
#include <sys/socket.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/conn.h"
#include "ipc/server/server.h"

#define HOLD_FIRST 64u

void syn_hold_close(int *fds)
{
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		syn_closep(&fds[i]);
}

static int hold_grow(struct syn_hold *hold)
{
	size_t max = hold->max ? 2 * hold->max : HOLD_FIRST;
	struct syn_held *more = syn_alloc(max, sizeof(*more));

	if (!more)
		return -ENOMEM;
	if (hold->nr)
		memcpy(more, hold->held, hold->nr * sizeof(*more));
	free(hold->held);
	hold->held = more;
	hold->max = max;
	return 0;
}

int syn_hold_add(struct syn_hold *hold, uint32_t kind, uint32_t id,
		 const int *fds)
{
	struct syn_held *held;
	int r = 0;

	if (hold->nr == hold->max)
		r = hold_grow(hold);
	if (r)
		return r;
	held = &hold->held[hold->nr++];
	held->kind = kind;
	held->id = id;
	memcpy(held->fd, fds, sizeof(held->fd));
	return 0;
}

static struct syn_held *hold_find(const struct syn_hold *hold, uint32_t kind,
				  uint32_t id)
{
	for (size_t i = 0; i < hold->nr; i++)
		if (hold->held[i].kind == kind && hold->held[i].id == id)
			return &hold->held[i];
	return NULL;
}

int syn_hold_take(struct syn_hold *hold, uint32_t kind, uint32_t id,
		  int *ret_fds)
{
	struct syn_held *held = hold_find(hold, kind, id);

	if (!held)
		return -ENOENT;
	memcpy(ret_fds, held->fd, sizeof(held->fd));
	*held = hold->held[--hold->nr];
	return 0;
}

int syn_hold_replace(struct syn_hold *hold, uint32_t kind, uint32_t id,
		     const int *fds)
{
	struct syn_held *held = hold_find(hold, kind, id);

	if (!held)
		return -ENOENT;
	syn_hold_close(held->fd);
	memcpy(held->fd, fds, sizeof(held->fd));
	return 0;
}

void syn_hold_drop(struct syn_hold *hold, uint32_t kind, uint32_t id)
{
	int fds[SYN_FDS_MAX];

	if (syn_hold_take(hold, kind, id, fds) == 0)
		syn_hold_close(fds);
}

void syn_hold_end(struct syn_hold *hold, const char *reason)
{
	struct syn_msg_bye bye = {
		.msg = { .type = SYN_MSG_BYE,
			 .size = sizeof(bye),
			 .error = -ESHUTDOWN },
	};

	(void)snprintf(bye.reason, sizeof(bye.reason), "%s", reason);
	for (size_t i = 0; i < hold->nr; i++) {
		struct syn_held *held = &hold->held[i];
		int sock = held->fd[SYN_SERVER_FD_SOCKET];

		if (held->kind == SYN_SERVER_KEEP_SESSION) {
			(void)syn_conn_send(sock, &bye.msg, NULL, 0);
			/* The client's other duplicates must not matter. */
			(void)shutdown(sock, SHUT_RDWR);
		}
		syn_hold_close(held->fd);
	}
	free(hold->held);
	*hold = (struct syn_hold){ 0 };
}
