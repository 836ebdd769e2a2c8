/* SPDX-License-Identifier: Apache-2.0 */
/* Kept records of the server. */
#include "ipc/server/kept.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "ipc/server/server.h"
#include "ipc/server/state.h"

uint64_t syn_server_kept_bytes(uint32_t max_sessions)
{
	return sizeof(struct syn_rec_server) +
	       (uint64_t)max_sessions * sizeof(struct syn_rec_peer);
}

void syn_peers_format(struct syn_server *server)
{
	struct syn_rec_server *head = server->head;

	memset(head, 0, syn_server_kept_bytes(server->config.max_sessions));
	*head = (struct syn_rec_server){
		.version = SYN_PEERS_VERSION,
		.peer_bytes = sizeof(struct syn_rec_peer),
		.max_sessions = server->config.max_sessions,
		.next_id = 1,
	};
	syn_commit(&head->magic, SYN_PEERS_MAGIC);
}

int syn_peers_check(const struct syn_server *server, const char **ret_why)
{
	const struct syn_rec_server *head = server->head;

	*ret_why = "no server has written its records";
	if (head->magic != SYN_PEERS_MAGIC)
		return -EPROTO;
	*ret_why = "the records of sessions are of another version";
	if (head->version != SYN_PEERS_VERSION ||
	    head->peer_bytes != sizeof(struct syn_rec_peer))
		return -EPROTO;
	*ret_why = "there were other limits";
	if (head->max_sessions != server->config.max_sessions)
		return -EINVAL;
	return 0;
}

struct syn_rec_peer *syn_peers_record(const struct syn_server *server,
				      uint32_t i)
{
	struct syn_rec_peer *first = (void *)(server->head + 1);

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
	syn_commit(&rec->state, SYN_REC_PEER_LIVE);
	peer->rec = rec;
	syn_failpoint();
	peer->server->head->next_id++;
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
