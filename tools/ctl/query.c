/* SPDX-License-Identifier: Apache-2.0 */
/* The control session: HELLO, then CTL and CTL_REPLY in turn. */
#include "tools/ctl/query.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/conn.h"

#define QUERY_SOCKET	 "/run/synapse/synapse.sock"
#define QUERY_TIMEOUT_S	 5
#define QUERY_RECORD_MAX 256u
#define QUERY_BUF_BYTES                                                        \
	(sizeof(struct syn_msg_ctl_reply) + SYN_CTL_BATCH * QUERY_RECORD_MAX)

struct syn_query {
	int sock;
	char reason[SYN_REASON_BYTES];
	_Alignas(8) unsigned char buf[QUERY_BUF_BYTES];
};

/* A daemon that hangs must not hang us. */
static int query_set_timeout(int sock)
{
	const struct timeval tv = { .tv_sec = QUERY_TIMEOUT_S };

	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return -errno;
	return 0;
}

static void query_take_bye(struct syn_query *query)
{
	struct syn_msg_bye bye;

	memcpy(&bye, query->buf, sizeof(bye));
	bye.reason[sizeof(bye.reason) - 1] = '\0';
	memcpy(query->reason, bye.reason, sizeof(query->reason));
}

/* One message of @type into query->buf; its bytes, or -errno. */
static int query_recv(struct syn_query *query, uint16_t type)
{
	int fds[SYN_FDS_MAX];
	struct syn_msg msg;
	int nr;

	nr = syn_conn_recv(query->sock, query->buf, sizeof(query->buf), fds);
	if (nr == -EAGAIN)
		return -ETIMEDOUT;
	if (nr < 0)
		return nr;
	if (nr == 0)
		return -ECONNRESET;
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		(void)syn_close(fds[i]);
	memcpy(&msg, query->buf, sizeof(msg));
	if (msg.type == SYN_MSG_BYE && (size_t)nr >= sizeof(struct syn_msg_bye))
		query_take_bye(query);
	if (msg.error < 0)
		return msg.error;
	if (msg.type != type)
		return msg.type == SYN_MSG_BYE ? -ESHUTDOWN : -EPROTO;
	return nr;
}

static int query_hello(struct syn_query *query)
{
	struct syn_msg_hello hello = {
		.msg = { .type = SYN_MSG_HELLO, .size = sizeof(hello) },
		.version_min = SYN_ABI_VERSION_MIN,
		.version_max = SYN_ABI_VERSION_MAX,
		.kind = SYN_KIND_CONTROL,
		.sqe_size = sizeof(struct syn_sqe),
		.cqe_size = sizeof(struct syn_cqe),
		.loan_size = sizeof(struct syn_loan),
		.nr_pages = 1,
		.nr_timelines = 1,
		.job_ranks = 1,
		.name = "synapsectl",
	};
	int r;

	r = syn_conn_send(query->sock, &hello.msg, NULL, 0);
	/* A refusal may be waiting although our message did not get through. */
	if (r < 0 && r != -EPIPE)
		return r;
	r = query_recv(query, SYN_MSG_WELCOME);
	return r < 0 ? r : 0;
}

int syn_query_open(const char *path, struct syn_query **ret, char *ret_reason)
{
	struct syn_query *query;
	int r;

	ret_reason[0] = '\0';
	if (!path)
		path = getenv("SYNAPSE_SOCKET");
	if (!path || !*path)
		path = QUERY_SOCKET;
	query = syn_alloc(1, sizeof(*query));
	if (!query)
		return -ENOMEM;
	query->sock = -1;
	r = syn_conn_connect(path, &query->sock);
	if (r < 0) {
		(void)snprintf(ret_reason, SYN_REASON_BYTES, "%s", path);
		goto close_query;
	}
	r = query_set_timeout(query->sock);
	if (r == 0)
		r = query_hello(query);
	if (r < 0) {
		memcpy(ret_reason, query->reason, SYN_REASON_BYTES);
		goto close_query;
	}
	*ret = query;
	return 0;

close_query:
	syn_query_close(query);
	return r;
}

struct syn_query *syn_query_close(struct syn_query *query)
{
	if (query) {
		(void)syn_close(query->sock);
		free(query);
	}
	return NULL;
}

static int query_check(const struct syn_msg_ctl_reply *reply, size_t bytes,
		       uint32_t op, size_t record_bytes)
{
	if (bytes < sizeof(*reply) || reply->op != op)
		return -EPROTO;
	if (reply->nr == 0)
		return 0;
	if (reply->nr > SYN_CTL_BATCH || reply->record_bytes != record_bytes)
		return -EPROTO;
	if (bytes != sizeof(*reply) + reply->nr * record_bytes)
		return -EPROTO;
	return 0;
}

int syn_query_ask(struct syn_query *query, uint32_t op, uint64_t cursor,
		  const uint64_t *args, size_t record_bytes,
		  struct syn_answer *ret)
{
	struct syn_msg_ctl ctl = {
		.msg = { .type = SYN_MSG_CTL, .size = sizeof(ctl) },
		.op = op,
		.cursor = cursor,
	};
	struct syn_msg_ctl_reply reply;
	int r;

	if (args)
		memcpy(ctl.arg, args, sizeof(ctl.arg));
	r = syn_conn_send(query->sock, &ctl.msg, NULL, 0);
	if (r < 0)
		return r;
	r = query_recv(query, SYN_MSG_CTL_REPLY);
	if (r < 0)
		return r;
	memcpy(&reply, query->buf, sizeof(reply));
	if (query_check(&reply, (size_t)r, op, record_bytes) < 0)
		return -EPROTO;
	*ret = (struct syn_answer){
		.nr = reply.nr,
		.next = reply.next,
		.val = reply.val,
		.records = query->buf + sizeof(reply),
	};
	return 0;
}

const char *syn_query_reason(const struct syn_query *query)
{
	return query->reason;
}
