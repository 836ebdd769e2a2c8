/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a submission to its completion.
 *
 * An entry is copied once; the copy is recorded as taken before the ring's
 * head moves, and only the copy is looked at afterwards.  The answer is filled
 * in, the record marked as answered, then the completion is published.  Record
 * and copy are kept, so a worker that takes over finds what was not answered.
 *
 * A request parks in two cases.  It waits when the memory manager may have
 * room soon, or for the disk.  It is held when its answer is known but an extent
 * it refers to could not be sent.
 *
 * Who waits for room is served in order.  Requests of one session keep theirs;
 * sessions take turns, whoever was answered behind the others; and what has
 * just been freed is first offered to those who wait, whoever asks meanwhile.
 */
#include "ipc/server/request.h"

#include "core/base/failpoint.h"
#include "core/base/fault.h"
#include "core/base/trace.h"
#include "core/mm.h"
#include "ipc/server/peer.h"
#include "ipc/server/state.h"

/* Submissions of one client in one pass, so that others have their turn. */
#define REQUEST_PASS_MAX 32

/* Longest time a request waits. */
#define REQUEST_PATIENCE_NS 100000000u

/*
 * A hint: this, and more for each session that was refused in the last second.
 * With ten times as much for each, those who had been refused slept too long,
 * and the others took what came free: see Documentation/benchmarks.
 */
#define REQUEST_HINT_NS	     1000000u
#define REQUEST_HINT_EACH_NS 100000u
#define REQUEST_HINT_MAX_NS  1000000000u

/* __builtin_prefetch() writes nothing of the sort without -mprfchw. */
#if defined(__x86_64__)
#define prefetch_for_write(p)                                                  \
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)(p)))
#else
#define prefetch_for_write(p) __builtin_prefetch((p), 1)
#endif

/**
 * struct request - one submission between its two copies.
 * @link:	in the peer's list while parked.
 * @held:	answered, and waits for the socket.
 * @seq:	its free-running submission index.
 * @out_bytes:	used bytes of @out.
 * @since_ns:	when it was parked.
 * @sqe:	the copy that was validated.
 * @cqe:	the answer.
 * @in:		copy of its side array, as much as the op uses, kept.
 * @out:	the answer's side array.
 */
struct request {
	struct syn_list link;
	bool held;
	uint32_t seq;
	uint32_t out_bytes;
	uint64_t since_ns;
	struct syn_sqe sqe;
	struct syn_cqe cqe;
	unsigned char *in;
	_Alignas(8) unsigned char out[SYN_VEC_BYTES];
};

static struct syn_inflight *request_record(const struct syn_peer *peer,
					   uint32_t seq)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;
	struct syn_inflight *record =
		(void *)(peer->seg.daemon + g->inflight_off);

	return record + (seq & peer->sq.mask);
}

static unsigned char *request_vec(const struct syn_peer *peer, uint32_t seq)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;

	return peer->seg.daemon + g->inflight_off +
	       SYN_SQ_ENTRIES * sizeof(struct syn_inflight) +
	       (size_t)(seq & peer->sq.mask) * SYN_VEC_BYTES;
}

/**
 * struct op_rule - what a well-formed request of one op has.
 * @min_nr:	least entries of its vector.
 * @max_nr:	most entries.
 * @in_bytes:	of an entry that comes in; 0: none.
 * @out_bytes:	of an entry that goes out; 0: none.
 * @object:	uses the object word.
 * @nr_args:	leading argument words that it uses.
 * @waits:	wants room and may wait for it, in its turn.
 * @extents:	its answer may name an extent.
 * @frees:	may make room for another.
 */
struct op_rule {
	uint16_t min_nr;
	uint16_t max_nr;
	uint16_t in_bytes;
	uint16_t out_bytes;
	bool object;
	uint8_t nr_args;
	bool waits;
	bool extents;
	bool frees;
};

static const struct op_rule op_rules[SYN_OP_NR] = {
	[SYN_OP_NOP] = { 0 },
	[SYN_OP_LEASE] = { .min_nr = 1,
			   .max_nr = SYN_BATCH_MAX,
			   .out_bytes = sizeof(uint64_t),
			   .object = true,
			   .waits = true,
			   .extents = true },
	[SYN_OP_COMMIT] = { .min_nr = 1,
			    .max_nr = SYN_BATCH_MAX,
			    .in_bytes = sizeof(struct syn_vec_commit),
			    .frees = true },
	[SYN_OP_SEAL] = { .max_nr = SYN_TILES_MAX,
			  .in_bytes = sizeof(uint32_t),
			  .object = true,
			  .nr_args = 4,
			  .frees = true },
	[SYN_OP_LOOKUP] = { .min_nr = 1,
			    .max_nr = SYN_BATCH_MAX,
			    .in_bytes = sizeof(struct syn_vec_key),
			    .out_bytes = sizeof(uint64_t),
			    .object = true,
			    .nr_args = 1,
			    .extents = true },
	[SYN_OP_FAULT] = { .min_nr = 1,
			   .max_nr = SYN_BATCH_MAX,
			   .in_bytes = sizeof(uint64_t),
			   .out_bytes = sizeof(struct syn_vec_fault),
			   .waits = true,
			   .extents = true },
	[SYN_OP_LOADED] = { .min_nr = 1,
			    .max_nr = SYN_BATCH_MAX,
			    .in_bytes = sizeof(struct syn_vec_loaded),
			    .frees = true },
	[SYN_OP_RELEASE] = { .min_nr = 1,
			     .max_nr = SYN_BATCH_MAX,
			     .in_bytes = sizeof(uint64_t),
			     .frees = true },
	[SYN_OP_REPORT] = { .min_nr = 1,
			    .max_nr = SYN_BATCH_MAX,
			    .in_bytes = sizeof(struct syn_vec_share) },
	[SYN_OP_RETIRED] = { .object = true, .frees = true },
	[SYN_OP_ADVISE] = { .min_nr = 1,
			    .max_nr = SYN_BATCH_MAX,
			    .in_bytes = sizeof(struct syn_vec_advise),
			    .frees = true },
	[SYN_OP_PERSIST] = { .min_nr = 1,
			     .max_nr = SYN_BATCH_MAX,
			     .in_bytes = sizeof(uint64_t) },
};

static int request_check(const struct syn_sqe *sqe)
{
	const struct op_rule *rule;

	if (sqe->op >= SYN_OP_NR)
		return -EOPNOTSUPP;
	rule = &op_rules[sqe->op];
	if (sqe->flags || sqe->pad0)
		return -EINVAL;
	if (sqe->nr < rule->min_nr || sqe->nr > rule->max_nr)
		return -EINVAL;
	if (sqe->object && !rule->object)
		return -EINVAL;
	for (unsigned int i = rule->nr_args; i < syn_array_size(sqe->arg); i++)
		if (sqe->arg[i])
			return -EINVAL;
	return 0;
}

static int commit_check(const struct syn_vec_commit *vec, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if (vec[i].pad0)
			return -EINVAL;
	return 0;
}

static int advise_check(const struct syn_vec_advise *vec, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if (vec[i].pad0)
			return -EINVAL;
	return 0;
}

/* Calls the memory manager with copies only. */
static int request_dispatch(struct syn_peer *peer, struct request *req)
{
	struct syn_session *session = peer->session;
	const struct syn_sqe *sqe = &req->sqe;
	const void *in = req->in;
	void *out = req->out;
	int r;

	switch (sqe->op) {
	case SYN_OP_LEASE:
		return syn_mm_lease(session, sqe->object, sqe->nr, out,
				    &req->cqe.val[0]);
	case SYN_OP_COMMIT:
		r = commit_check(in, sqe->nr);
		return r ? r : syn_mm_commit(session, in, sqe->nr);
	case SYN_OP_SEAL:
		return syn_mm_seal(session, sqe, in);
	case SYN_OP_LOOKUP:
		return syn_mm_lookup(session, sqe->object, sqe->arg[0], in,
				     sqe->nr, out, &req->cqe.val[0]);
	case SYN_OP_FAULT:
		return syn_mm_fault(session, in, sqe->nr, out,
				    &req->cqe.val[0]);
	case SYN_OP_LOADED:
		return syn_mm_loaded(session, in, sqe->nr);
	case SYN_OP_RELEASE:
		return syn_mm_release(session, in, sqe->nr);
	case SYN_OP_REPORT:
		return syn_mm_report(session, in, sqe->nr);
	case SYN_OP_RETIRED:
		return syn_mm_retired(session, sqe->object);
	case SYN_OP_ADVISE:
		r = advise_check(in, sqe->nr);
		return r ? r : syn_mm_advise(session, in, sqe->nr);
	case SYN_OP_PERSIST:
		return syn_mm_persist(session, in, sqe->nr);
	}
	return 0; /* NOP: the table lets no other op through */
}

static void peer_content(struct syn_peer *peer)
{
	if (syn_list_empty(&peer->refused))
		return;
	syn_list_del(&peer->refused);
	peer->server->nr_refused--;
}

/*
 * When to come back, given how many others will.  Who has not been seen for as
 * long as the longest hint is not one of them.
 */
static uint64_t peer_hint(struct syn_peer *peer)
{
	struct syn_server *server = peer->server;
	const uint64_t now_ns = syn_now_ns();

	peer_content(peer);
	peer->refused_ns = now_ns;
	syn_list_add_tail(&server->refused, &peer->refused);
	server->nr_refused++;
	for (;;) {
		struct syn_peer *oldest = syn_container_of(
			server->refused.next, struct syn_peer, refused);

		if (oldest->refused_ns + REQUEST_HINT_MAX_NS >= now_ns)
			break;
		peer_content(oldest);
	}
	return syn_min(REQUEST_HINT_NS + (uint64_t)server->nr_refused *
						 REQUEST_HINT_EACH_NS,
		       (uint64_t)REQUEST_HINT_MAX_NS);
}

/*
 * Fills the answer; SYN_MM_E_WAIT leaves the request as it was.  With an answer
 * the request is at hand until it has been published or held.
 */
static int request_execute(struct syn_peer *peer, struct request *req)
{
	const struct syn_sqe *sqe = &req->sqe;
	const struct op_rule *rule = &op_rules[sqe->op];
	int r;

	req->cqe = (struct syn_cqe){ .cookie = sqe->cookie };
	req->out_bytes = 0;
	syn_mm_begin(peer->session, req->seq);
	r = request_dispatch(peer, req);
	if (r == SYN_MM_E_WAIT) {
		syn_mm_end(peer->server->config.mm);
		return r;
	}
	req->cqe.res = r;
	if (sqe->op == SYN_OP_LOOKUP) {
		if (r > 0)
			req->out_bytes = (uint32_t)r * rule->out_bytes;
		return 0;
	}
	if (r == SYN_E_BACKPRESSURE)
		req->cqe.val[0] = peer_hint(peer);
	else if (rule->waits)
		peer_content(peer);
	if (r > 0)
		req->cqe.flags = SYN_CQE_F_OUTCOME;
	else if (r == 0)
		req->out_bytes = sqe->nr * rule->out_bytes;
	if (r == 0 && rule->frees)
		peer->server->retry_due = true;
	return 0;
}

/* A completion entry is free: one was reserved when the request was taken. */
static void request_post(struct syn_peer *peer, struct request *req)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;
	struct syn_inflight *record = request_record(peer, req->seq);
	uint32_t at = peer->cq.own + peer->nr_filled;

	memcpy(syn_ring_entry(&peer->cq, at), &req->cqe, sizeof(req->cqe));
	memcpy(peer->seg.daemon + g->cq_vec_off +
		       (size_t)(at & peer->cq.mask) * SYN_VEC_BYTES,
	       req->out, req->out_bytes);
	record->at = at;
	syn_commit(&record->state, SYN_INFLIGHT_ANSWERED);
	peer->nr_filled++;
}

/* No room came in time. */
static void request_refuse(struct syn_peer *peer, struct request *req)
{
	const uint64_t hint_ns = peer_hint(peer);

	SYN_PROBE(backpressure, peer->id, req->sqe.op, hint_ns);
	peer->server->backpressure++;
	req->out_bytes = 0;
	req->cqe = (struct syn_cqe){ .cookie = req->sqe.cookie,
				     .res = SYN_E_BACKPRESSURE,
				     .flags = SYN_CQE_F_OUTCOME,
				     .val = { hint_ns } };
	request_post(peer, req);
}

/*
 * The client has read these lines in the last round and holds copies of them.
 * To have them back before the next answer is written is a third of a round
 * trip.
 */
static void request_expect(const struct syn_peer *peer)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;
	const uint32_t at = peer->cq.own;

	prefetch_for_write(syn_ring_entry(&peer->cq, at));
	prefetch_for_write(peer->seg.daemon + g->cq_vec_off +
			   (size_t)(at & peer->cq.mask) * SYN_VEC_BYTES);
}

static void request_publish(struct syn_peer *peer)
{
	uint32_t nr = peer->nr_filled;

	peer->nr_filled = 0;
	/* Less than nothing only if the client has taken its index back. */
	peer->cq_room -= syn_min(nr, peer->cq_room);
	if (!nr)
		return;
	syn_failpoint();
	if (syn_ring_publish(&peer->cq, nr)) {
		syn_failpoint();
		syn_peer_wake(peer);
	}
	request_expect(peer);
}

static void request_unpark(struct syn_peer *peer, struct request *req)
{
	syn_list_del(&req->link);
	peer->nr_parked--;
	peer->parked_slots &= ~(1ull << (req->seq & peer->sq.mask));
	free(req);
	if (syn_list_empty(&peer->parked))
		syn_list_del(&peer->waiting);
}

/* The answer is known, and so is kept in place of the question. */
static void request_hold(struct syn_peer *peer, struct request *req)
{
	struct syn_inflight *record = request_record(peer, req->seq);

	memcpy(req->in, req->out, req->out_bytes);
	record->cqe = req->cqe;
	record->out_bytes = req->out_bytes;
	syn_commit(&record->state, SYN_INFLIGHT_HELD);
	req->held = true;
}

/*
 * Without memory to park in, a request that waits for room is refused as if
 * there were none; an answer that cannot be held ends the session, because
 * the client would never learn what it was given.
 */
static int request_park(struct syn_peer *peer, struct request *req, bool held)
{
	struct request *parked = syn_alloc(1, sizeof(*parked));

	if (!parked && held) {
		syn_peer_end(peer, -ENOMEM, "no memory to hold an answer");
		return -ENOMEM;
	}
	if (!parked) {
		request_refuse(peer, req);
		return 0;
	}
	memcpy(parked, req, sizeof(*parked));
	if (held)
		request_hold(peer, parked);
	parked->since_ns = syn_now_ns();
	if (syn_list_empty(&peer->parked))
		syn_list_add_tail(&peer->server->waiting, &peer->waiting);
	syn_list_add_tail(&peer->parked, &parked->link);
	peer->nr_parked++;
	peer->parked_slots |= 1ull << (req->seq & peer->sq.mask);
	return 0;
}

/*
 * Extents before the answer that names them.  -EAGAIN: the socket is full;
 * another -errno: the peer has been ended.
 */
static int request_settle(struct syn_peer *peer, struct request *req)
{
	int r;

	if (op_rules[req->sqe.op].extents) {
		r = syn_peer_tell(peer);
		if (r)
			return r;
	}
	request_post(peer, req);
	return 0;
}

static bool request_waits_for_room(const struct request *req)
{
	return !req->held && op_rules[req->sqe.op].waits;
}

/*
 * Whether a request that wants room has to stand behind others: those of its
 * session, or anybody's while something has been freed and not been offered to
 * them.  All are tried in their turn as soon as the ring is quiet.
 */
static bool request_queues(const struct syn_peer *peer)
{
	const struct request *req;

	if (peer->server->retry_due && !syn_list_empty(&peer->server->waiting))
		return true;
	syn_list_for_each (req, &peer->parked, link)
		if (request_waits_for_room(req))
			return true;
	return false;
}

/* Copies entry @index of the ring; it belongs to the client again after. */
static void request_take(struct syn_peer *peer, struct request *req)
{
	const struct syn_msg_welcome *g = &peer->seg.geometry;
	const uint32_t slot = peer->sq.own & peer->sq.mask;
	struct syn_inflight *record = request_record(peer, slot);
	struct syn_sqe *sqe = &req->sqe;

	memcpy(sqe, syn_ring_entry(&peer->sq, slot), sizeof(*sqe));
	req->held = false;
	req->seq = peer->sq.own;
	req->in = request_vec(peer, slot);
	req->out_bytes = 0;
	req->cqe = (struct syn_cqe){ .cookie = sqe->cookie };
	req->cqe.res = request_check(sqe);
	if (!req->cqe.res)
		memcpy(req->in,
		       peer->seg.client + g->sq_vec_off +
			       (size_t)slot * SYN_VEC_BYTES,
		       (size_t)sqe->nr * op_rules[sqe->op].in_bytes);
	record->sqe = *sqe;
	record->seq = req->seq;
	syn_commit(&record->state, SYN_INFLIGHT_TAKEN);
	syn_failpoint();
	syn_ring_consume(&peer->sq, 1);
}

/* 0, or -errno when the peer has been ended. */
static int request_do(struct syn_peer *peer, struct request *req)
{
	int r = request_execute(peer, req);

	if (r == SYN_MM_E_WAIT)
		return request_park(peer, req, false);
	r = request_settle(peer, req);
	if (r == -EAGAIN)
		r = request_park(peer, req, true);
	syn_mm_end(peer->server->config.mm);
	return r;
}

static int request_serve(struct syn_peer *peer, struct request *req)
{
	if (req->cqe.res) {
		request_post(peer, req);
		return 0;
	}
	if (op_rules[req->sqe.op].waits && request_queues(peer))
		return request_park(peer, req, false);
	return request_do(peer, req);
}

int syn_request_look(struct syn_peer *peer)
{
	uint32_t used = peer->cq.own - syn_load_acquire(peer->cq.theirs);

	if (used > SYN_CQ_ENTRIES)
		return -EPROTO;
	peer->cq_room = SYN_CQ_ENTRIES - used;
	return 0;
}

/*
 * Completion entries for new requests.  The client's index is on a line that
 * it writes all the time, so it is read only when the last look is used up.
 */
static int request_room(struct syn_peer *peer, uint32_t want)
{
	if (peer->cq_room < want + peer->nr_parked && syn_request_look(peer))
		return -EPROTO;
	if (peer->cq_room < peer->nr_parked)
		return 0;
	return (int)syn_min(peer->cq_room - peer->nr_parked, want);
}

int syn_request_pass(struct syn_peer *peer, uint64_t now_ns)
{
	int waiting = syn_ring_waiting(&peer->sq);
	int done = 0;

	if (waiting <= 0)
		return waiting;
	peer->worked_ns = now_ns;
	waiting = request_room(
		peer, syn_min((uint32_t)waiting, (uint32_t)REQUEST_PASS_MAX));
	if (waiting < 0)
		return waiting;
	while (done < waiting) {
		struct request req;

		/* An entry's record is free once its request is answered. */
		if (peer->parked_slots &
		    (1ull << (peer->sq.own & peer->sq.mask)))
			break;
		request_take(peer, &req);
		if (request_serve(peer, &req))
			return done; /* ended; nothing left to publish to */
		done++;
	}
	request_publish(peer);
	return done;
}

/* ---- parked requests ---------------------------------------------------- */

/* The oldest that need not wait longer is executed; NULL: there is none. */
static struct request *parked_execute(struct syn_peer *peer)
{
	struct request *req;
	bool room = true;

	syn_list_for_each (req, &peer->parked, link) {
		bool waits = request_waits_for_room(req);

		if (req->held || (waits && !room))
			continue;
		if (request_execute(peer, req) != SYN_MM_E_WAIT)
			return req;
		room = room && !waits;
	}
	return NULL;
}

/* One parked request: 1 answered, 0 none could be, -errno: peer ended. */
static int peer_retry(struct syn_peer *peer)
{
	struct request *req = parked_execute(peer);
	int r;

	if (!req)
		return 0;
	r = request_settle(peer, req);
	if (r == -EAGAIN)
		request_hold(peer, req);
	syn_mm_end(peer->server->config.mm);
	if (r)
		return r == -EAGAIN ? 1 : r;
	request_unpark(peer, req);
	request_publish(peer);
	return 1;
}

/* A ring that was left for want of room may go on. */
static void peer_resume(struct syn_peer *peer)
{
	if (syn_list_empty(&peer->active))
		syn_list_add_tail(&peer->server->active, &peer->active);
	syn_ring_awake(&peer->sq);
}

void syn_request_retry(struct syn_server *server)
{
	struct syn_list round;
	struct syn_peer *peer;

	/* Whoever was answered goes to the end of the next round. */
	syn_list_init(&round);
	while (!syn_list_empty(&server->waiting)) {
		peer = syn_container_of(server->waiting.next, struct syn_peer,
					waiting);
		syn_list_del(&peer->waiting);
		syn_list_add_tail(&round, &peer->waiting);
		if (peer_retry(peer) <= 0)
			continue;
		peer_resume(peer);
		if (syn_list_empty(&peer->waiting))
			continue;
		syn_list_del(&peer->waiting);
		syn_list_add_tail(&server->waiting, &peer->waiting);
	}
	while (!syn_list_empty(&round)) {
		peer = syn_container_of(round.next, struct syn_peer, waiting);
		syn_list_del(&peer->waiting);
		syn_list_add_tail(&server->waiting, &peer->waiting);
	}
}

void syn_request_unhold(struct syn_peer *peer)
{
	struct request *req;
	struct request *tmp;
	bool posted = false;

	syn_list_for_each_safe (req, tmp, &peer->parked, link) {
		if (!req->held)
			continue;
		request_post(peer, req);
		request_unpark(peer, req);
		posted = true;
	}
	request_publish(peer);
	if (posted)
		peer_resume(peer);
}

static uint64_t peer_expire(struct syn_peer *peer, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	struct request *req;
	struct request *tmp;

	syn_list_for_each_safe (req, tmp, &peer->parked, link) {
		uint64_t due_ns = req->since_ns + REQUEST_PATIENCE_NS;

		if (req->held)
			continue;
		if (due_ns > now_ns) {
			next_ns = due_ns; /* the rest is younger */
			break;
		}
		request_refuse(peer, req);
		request_unpark(peer, req);
	}
	if (peer->nr_filled)
		peer_resume(peer);
	request_publish(peer);
	return next_ns;
}

uint64_t syn_request_expire(struct syn_server *server, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	struct syn_peer *peer;
	struct syn_peer *tmp;

	syn_list_for_each_safe (peer, tmp, &server->waiting, waiting) {
		uint64_t due_ns = peer_expire(peer, now_ns);

		next_ns = syn_min(next_ns, due_ns);
	}
	return next_ns;
}

/* ---- of another worker -------------------------------------------------- */

bool syn_request_is_answered(const struct syn_peer *peer, uint32_t seq)
{
	const struct syn_inflight *record = request_record(peer, seq);

	return record->seq == seq && (record->state == SYN_INFLIGHT_ANSWERED ||
				      record->state == SYN_INFLIGHT_HELD);
}

/* Filled and not published: they follow the last that was. */
static uint32_t answers_filled(const struct syn_peer *peer)
{
	const struct syn_inflight *record;
	uint32_t nr = 0;
	uint32_t i;

	for (i = 0; i < SYN_SQ_ENTRIES; i++) {
		record = request_record(peer, i);
		nr += record->state == SYN_INFLIGHT_ANSWERED &&
		      record->at - peer->cq.own < SYN_CQ_ENTRIES;
	}
	return nr;
}

/* As it was taken; false: it was answered, or never taken. */
static bool request_recall(const struct syn_peer *peer, uint32_t seq,
			   struct request *ret)
{
	const struct syn_inflight *record = request_record(peer, seq);

	if (record->seq != seq || (record->state != SYN_INFLIGHT_TAKEN &&
				   record->state != SYN_INFLIGHT_HELD))
		return false;
	ret->seq = seq;
	ret->sqe = record->sqe;
	ret->in = request_vec(peer, seq);
	ret->out_bytes = 0;
	ret->held = record->state == SYN_INFLIGHT_HELD;
	if (!ret->held) {
		ret->cqe = (struct syn_cqe){ .cookie = record->sqe.cookie,
					     .res = request_check(&ret->sqe) };
		return true;
	}
	ret->cqe = record->cqe;
	ret->out_bytes = syn_min(record->out_bytes, (uint32_t)SYN_VEC_BYTES);
	memcpy(ret->out, ret->in, ret->out_bytes);
	return true;
}

void syn_request_redo(struct syn_peer *peer, uint32_t seq)
{
	struct request req;

	peer->nr_filled = answers_filled(peer);
	if (request_recall(peer, seq, &req) && !request_serve(peer, &req))
		request_publish(peer);
}

int syn_request_adopt(struct syn_peer *peer)
{
	struct request req;
	uint32_t seq;
	int r = 0;

	peer->nr_filled = answers_filled(peer);
	request_publish(peer);
	/* A record of what comes next may be there: the head had not moved. */
	for (seq = peer->sq.own - SYN_SQ_ENTRIES; seq != peer->sq.own && !r;
	     seq++) {
		if (peer->parked_slots & 1ull << (seq & peer->sq.mask) ||
		    !request_recall(peer, seq, &req))
			continue;
		if (req.held)
			r = request_park(peer, &req, true);
		else
			r = request_serve(peer, &req);
	}
	if (!r)
		request_publish(peer);
	return r;
}

void syn_request_drop(struct syn_peer *peer)
{
	struct request *req;
	struct request *tmp;

	syn_list_for_each_safe (req, tmp, &peer->parked, link)
		request_unpark(peer, req);
	peer->nr_filled = 0;
	peer_content(peer);
}
