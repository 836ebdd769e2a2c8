/* SPDX-License-Identifier: Apache-2.0 */
/* Kept records of the server. */
#include "ipc/server/kept.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "ipc/server/server.h"
#include "ipc/server/state.h"

void syn_server_kept_records(uint32_t max_sessions, struct syn_records *ret)
{
	*ret = (struct syn_records){
		.magic = SYN_PEERS_MAGIC,
		.version = SYN_PEERS_VERSION,
		.revision = SYN_PEERS_REVISION,
		.nr_arrays = SYN_PEERS_ARRAYS,
		.array = {
			[SYN_PEERS_HEAD] = { 1, sizeof(struct syn_rec_server) },
			[SYN_PEERS_PEER] = { max_sessions,
					     sizeof(struct syn_rec_peer) },
		},
	};
}

uint64_t syn_server_kept_bytes(uint32_t max_sessions)
{
	struct syn_records records;

	syn_server_kept_records(max_sessions, &records);
	return syn_records_bytes(&records);
}

void syn_peers_format(struct syn_server *server)
{
	struct syn_rec_server *head = server->head;

	memset(head, 0, syn_server_kept_bytes(server->config.max_sessions));
	syn_server_kept_records(server->config.max_sessions, &head->records);
	head->records.magic = 0;
	head->next_id = 1;
	syn_commit(&head->records.magic, SYN_PEERS_MAGIC);
}

int syn_peers_check(const struct syn_server *server, const char **ret_why)
{
	struct syn_misfit misfit = { .what = "" };
	struct syn_records want;
	int r;

	syn_server_kept_records(server->config.max_sessions, &want);
	r = syn_records_check(&server->head->records, syn_records_bytes(&want),
			      &want, &misfit);
	*ret_why = misfit.what;
	return r > 0 ? -EPROTO : r;
}

struct syn_rec_peer *syn_peers_record(const struct syn_server *server,
				      uint32_t i)
{
	char *base = (char *)server->head;
	struct syn_rec_peer *first =
		(void *)(base + syn_records_at(&server->head->records,
					       SYN_PEERS_PEER));

	return i < server->config.max_sessions ? first + i : NULL;
}

static struct syn_rec_peer *record_free(const struct syn_server *server)
{
	struct syn_rec_peer *rec;
	uint32_t i = 0;

	while ((rec = syn_peers_record(server, i++)) &&
	       rec->state != SYN_REC_PEER_FREE)
		;
	return rec;
}

void syn_peers_publish(struct syn_peer *peer)
{
	struct syn_rec_peer *rec = record_free(peer->server);

	*rec = (struct syn_rec_peer){
		.id = peer->id,
		.tenant = peer->tenant,
		.pid = (uint32_t)peer->cred.pid,
		.uid = (uint32_t)peer->cred.uid,
		.gid = (uint32_t)peer->cred.gid,
		.features = peer->features,
		.since_ns = peer->since_ns,
		.geometry = peer->seg.geometry,
	};
	memcpy(rec->name, peer->name, sizeof(rec->name));
	syn_commit(&rec->state, SYN_REC_PEER_NEW);
	peer->rec = rec;
	peer->server->head->next_id++;
}

void syn_peers_live(struct syn_peer *peer)
{
	syn_commit(&peer->rec->state, SYN_REC_PEER_LIVE);
}

void syn_peers_take(struct syn_peer *peer)
{
	if (peer->rec)
		syn_commit(&peer->rec->taking, peer->rec->asked + 1);
}

void syn_peers_taken(struct syn_peer *peer)
{
	if (peer->rec)
		syn_commit(&peer->rec->asked, peer->rec->taking);
}

void syn_peers_said_bye(struct syn_peer *peer)
{
	if (peer->rec)
		syn_commit(&peer->rec->said_bye, 1u);
}

void syn_peers_ended(struct syn_peer *peer)
{
	syn_commit(&peer->rec->state, SYN_REC_PEER_ENDED);
}

void syn_peers_forget(struct syn_peer *peer)
{
	syn_commit(&peer->rec->state, SYN_REC_PEER_FREE);
	peer->rec = NULL;
}
