/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to synapsectl: at most SYN_CTL_BATCH records each. */
#include "ipc/server/control.h"

#include "core/fsck.h"
#include "ipc/conn.h"
#include "ipc/server/kept.h"
#include "ipc/server/peer.h"
#include "ipc/server/state.h"

struct answer {
	struct syn_msg_ctl_reply reply;
	union {
		struct syn_ctl_status status;
		struct syn_ctl_tier tier[SYN_CTL_BATCH];
		struct syn_ctl_client client[SYN_CTL_BATCH];
		struct syn_ctl_page page[SYN_CTL_BATCH];
		struct syn_ctl_domain domain[SYN_CTL_BATCH];
		struct syn_ctl_why why[SYN_CTL_BATCH];
		struct syn_ctl_fsck fsck[SYN_FSCK_MAX];
	} u;
};

static void answer_records(struct answer *a, uint32_t nr, uint32_t bytes)
{
	a->reply.nr = nr;
	a->reply.record_bytes = bytes;
	a->reply.msg.size += nr * bytes;
}

static void control_status(const struct syn_server *server, struct answer *a)
{
	struct syn_ctl_status *status = &a->u.status;

	syn_mm_stat(server->config.mm, status);
	status->epoch = server->config.epoch;
	status->uptime_ns = syn_now_ns() - server->started_ns;
	status->keeper_pid = server->config.keeper_pid;
	status->worker_pid = (uint32_t)getpid();
	status->nr_sessions = server->nr_live + server->nr_ended;
	status->draining = server->head->draining;
	status->backpressure += server->backpressure;
	status->attaches = server->attaches;
	status->detaches = server->detaches;
	status->reaped = server->reaped;
	answer_records(a, 1, sizeof(*status));
}

/*
 * Sessions after number @cursor.  Those in quarantine stand in another list,
 * so the smallest ids are picked from both; a batch is small.
 */
static struct syn_peer *client_after(const struct syn_server *server,
				     uint64_t cursor)
{
	const struct syn_list *const lists[] = { &server->live,
						 &server->ended };
	struct syn_peer *found = NULL;
	struct syn_peer *peer;

	for (size_t i = 0; i < syn_array_size(lists); i++)
		syn_list_for_each (peer, lists[i], link)
			if (peer->id > cursor &&
			    (!found || peer->id < found->id))
				found = peer;
	return found;
}

static void control_clients(const struct syn_server *server, uint64_t cursor,
			    struct answer *a)
{
	const uint64_t now_ns = syn_now_ns();
	struct syn_ctl_client *record;
	struct syn_peer *peer;
	uint32_t nr = 0;

	while ((peer = client_after(server, cursor))) {
		if (nr == SYN_CTL_BATCH) {
			a->reply.next = cursor;
			break;
		}
		record = &a->u.client[nr++];
		memset(record, 0, sizeof(*record));
		syn_mm_stat_client(peer->session, now_ns, record);
		record->state = peer->state == SYN_PEER_LIVE
					? SYN_CLIENT_LIVE
					: SYN_CLIENT_QUARANTINE;
		cursor = peer->id;
	}
	answer_records(a, nr, sizeof(*record));
}

static bool op_known(uint32_t op)
{
	return op >= SYN_CTL_STATUS && op <= SYN_CTL_UPGRADE;
}

static bool op_paged(uint32_t op)
{
	return op == SYN_CTL_CLIENTS || op == SYN_CTL_PAGES ||
	       op == SYN_CTL_DOMAINS || op == SYN_CTL_FSCK;
}

static int order_check(const struct syn_peer *peer,
		       const struct syn_msg_ctl *ctl)
{
	static const uint8_t nr_args[] = {
		[SYN_CTL_STATUS] = 0,  [SYN_CTL_TIERS] = 0,
		[SYN_CTL_CLIENTS] = 0, [SYN_CTL_PAGES] = 0,
		[SYN_CTL_EVICT] = 1,   [SYN_CTL_DRAIN] = 1,
		[SYN_CTL_WHY] = 3,     [SYN_CTL_DOMAINS] = 0,
		[SYN_CTL_QUOTA] = 4,   [SYN_CTL_FSCK] = 1,
		[SYN_CTL_UPGRADE] = 0,
	};

	if (!op_known(ctl->op))
		return -EOPNOTSUPP;
	if (ctl->pad0)
		return -EINVAL;
	for (uint32_t i = nr_args[ctl->op]; i < syn_array_size(ctl->arg); i++)
		if (ctl->arg[i])
			return -EINVAL;
	if (!op_paged(ctl->op) && ctl->cursor)
		return -EINVAL;
	if ((ctl->op == SYN_CTL_DRAIN || ctl->op == SYN_CTL_FSCK) &&
	    ctl->arg[0] > 1)
		return -EINVAL;
	if (ctl->op != SYN_CTL_STATUS && !syn_server_admin(peer->server, peer))
		return -EACCES;
	return 0;
}

static void control_domains(const struct syn_server *server, uint64_t cursor,
			    struct answer *a)
{
	unsigned int nr =
		syn_mm_stat_domains(server->config.mm, cursor, a->u.domain,
				    SYN_CTL_BATCH, &a->reply.next);

	answer_records(a, nr, sizeof(a->u.domain[0]));
}

static void control_why(const struct syn_server *server,
			const struct syn_msg_ctl *ctl, struct answer *a)
{
	const struct syn_why_ask ask = {
		.key = { ctl->arg[0], ctl->arg[1] },
		.space = (uint32_t)(ctl->arg[2] >> 32),
		.domain = (uint32_t)ctl->arg[2],
	};
	int nr = syn_mm_why(server->config.mm, &ask, a->u.why, SYN_CTL_BATCH);

	if (nr < 0)
		a->reply.msg.error = nr;
	else
		answer_records(a, (uint32_t)nr, sizeof(a->u.why[0]));
}

/* What was refused may fit now. */
static void control_quota(struct syn_server *server,
			  const struct syn_msg_ctl *ctl, struct answer *a)
{
	const struct syn_quota quota = {
		.min = ctl->arg[1],
		.high = ctl->arg[2],
		.max = ctl->arg[3],
	};

	a->reply.msg.error = syn_mm_quota_set(server->config.mm,
					      (uint32_t)(ctl->arg[0] >> 32),
					      (uint32_t)ctl->arg[0], &quota);
	server->retry_due = true;
}

/* Somebody else may have begun a walk since. */
static int fsck_find(struct syn_server *server, uint64_t cursor)
{
	if (cursor)
		return server->fsck && cursor == server->fsck_steps ? 0
								    : -ESTALE;
	server->fsck = syn_fsck_free(server->fsck);
	server->fsck_steps = 0;
	return syn_fsck_new(server->config.mm, &server->fsck);
}

/* One step, or all of them; what was found comes with the last. */
static void control_fsck(struct syn_server *server,
			 const struct syn_msg_ctl *ctl, struct answer *a)
{
	int64_t work = ctl->arg[0] ? SYN_FSCK_ALL : SYN_FSCK_STEP;
	const struct syn_ctl_fsck *at;
	uint32_t nr;
	bool more;

	a->reply.msg.error = fsck_find(server, ctl->cursor);
	if (a->reply.msg.error)
		return;
	more = syn_fsck_step(server->fsck, work);
	a->reply.val = syn_fsck_found(server->fsck);
	if (more) {
		a->reply.next = ++server->fsck_steps;
		return;
	}
	nr = syn_fsck_findings(server->fsck, &at);
	memcpy(a->u.fsck, at, nr * sizeof(*at));
	answer_records(a, nr, sizeof(*at));
	server->fsck = syn_fsck_free(server->fsck);
}

/* Everybody stays, and this connection ends with the process. */
static void control_upgrade(struct syn_server *server, struct answer *a)
{
	const struct syn_server_config *config = &server->config;
	int r = config->leave ? config->leave(config->keep_ctx) : -EOPNOTSUPP;

	a->reply.msg.error = r;
	server->leaving = !r;
	server->stopping |= !r;
}

static void control_execute(struct syn_server *server,
			    const struct syn_msg_ctl *ctl, struct answer *a)
{
	struct syn_mm *mm = server->config.mm;

	switch (ctl->op) {
	case SYN_CTL_STATUS:
		control_status(server, a);
		break;
	case SYN_CTL_TIERS:
		answer_records(a,
			       syn_mm_stat_tiers(mm, a->u.tier, SYN_CTL_BATCH),
			       sizeof(a->u.tier[0]));
		break;
	case SYN_CTL_CLIENTS:
		control_clients(server, ctl->cursor, a);
		break;
	case SYN_CTL_PAGES:
		answer_records(a,
			       syn_mm_stat_pages(mm, ctl->cursor, a->u.page,
						 SYN_CTL_BATCH, &a->reply.next),
			       sizeof(a->u.page[0]));
		break;
	case SYN_CTL_EVICT:
		a->reply.val = syn_mm_evict(mm, ctl->arg[0]);
		server->retry_due = true;
		break;
	case SYN_CTL_DRAIN:
		server->head->draining = (uint32_t)ctl->arg[0];
		a->reply.val = server->nr_live + server->nr_ended;
		break;
	case SYN_CTL_WHY:
		control_why(server, ctl, a);
		break;
	case SYN_CTL_DOMAINS:
		control_domains(server, ctl->cursor, a);
		break;
	case SYN_CTL_QUOTA:
		control_quota(server, ctl, a);
		break;
	case SYN_CTL_FSCK:
		control_fsck(server, ctl, a);
		break;
	case SYN_CTL_UPGRADE:
		control_upgrade(server, a);
		break;
	}
}

int syn_control_answer(struct syn_peer *peer, const struct syn_msg_ctl *ctl)
{
	struct answer a;

	memset(&a, 0, sizeof(a));
	a.reply.msg.type = SYN_MSG_CTL_REPLY;
	a.reply.msg.size = sizeof(a.reply);
	a.reply.op = ctl->op;
	a.reply.msg.error = order_check(peer, ctl);
	if (!a.reply.msg.error)
		control_execute(peer->server, ctl, &a);
	return syn_conn_send(peer->sock, &a.reply.msg, NULL, 0);
}
