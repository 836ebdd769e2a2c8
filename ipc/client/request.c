/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on the ring: submit, wait, reap. */
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "ipc/client/client-internal.h"

/* How long a reaper watches the ring before it sleeps. */
#define REQUEST_SPIN_NS 20000u
/* A sleeper looks at the socket this often even if nothing wakes it. */
#define REQUEST_LOOK_MS 1000
/* Pieces of a batch in flight at once. */
#define REQUEST_PIECES 8u

#define BACKOFF_MIN_NS 10000u
#define BACKOFF_MAX_NS 999999999u

bool syn_backoff(struct syn_client *c, uint64_t hint_ns, uint64_t deadline_ns)
{
	uint64_t now_ns = syn_now_ns();
	uint64_t sleep_ns = syn_max(hint_ns, (uint64_t)BACKOFF_MIN_NS);
	struct timespec ts = { 0 };

	syn_store_relaxed(&c->retry_ns, hint_ns);
	if (now_ns >= deadline_ns)
		return false;
	sleep_ns = syn_min(sleep_ns, (uint64_t)BACKOFF_MAX_NS);
	sleep_ns = syn_min(sleep_ns, deadline_ns - now_ns);
	ts.tv_nsec = (long)sleep_ns;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	return true;
}

void syn_client_end_locked(struct syn_client *c, const char *reason)
{
	if (c->ended)
		return;
	memcpy(c->reason, reason, strnlen(reason, sizeof(c->reason) - 1));
	c->ended = true;
	c->events |= 1u << SYN_EVENT_SHUTDOWN;
	syn_store_release(c->state, SYN_CLIENT_ENDED);
	memset(c->request, 0, sizeof(c->request));
	(void)pthread_cond_broadcast(&c->turn);
}

/* Shows the daemon what has been filled, and wakes it if it sleeps. */
static void request_publish_locked(struct syn_client *c)
{
	const uint64_t one = 1;
	uint32_t nr = c->nr_filled;

	if (!nr)
		return;
	c->nr_filled = 0;
	c->sq_room -= nr;
	if (!syn_ring_publish(&c->sq, nr))
		return;
	c->rang = true;
	/* A full counter wakes as well. */
	(void)!write(c->wake, &one, sizeof(one));
}

static bool request_has_room(struct syn_client *c)
{
	if (c->sq_room <= c->nr_filled)
		c->sq_room = syn_ring_room(&c->sq);
	return c->idle && c->sq_room > c->nr_filled;
}

/*
 * Fills the next entry; there is room.  A cookie is {count, index}, so that
 * an answer to an earlier request cannot be taken for this one's.
 */
static void request_fill_locked(struct syn_client *c, struct syn_request *req,
				const struct syn_sqe *sqe)
{
	uint32_t at = c->sq.own + c->nr_filled;
	unsigned int index = (unsigned int)__builtin_ctzll(c->idle);
	struct syn_sqe *entry = syn_ring_entry(&c->sq, at);

	c->idle &= ~(1ull << index);
	c->request[index] = req;
	c->cookie[index] = c->nr_sent++ * SYN_SQ_ENTRIES + index;
	if (req && req->in_bytes)
		memcpy(c->sq_vec + (size_t)(at & c->sq.mask) * SYN_VEC_BYTES,
		       req->in, req->in_bytes);
	*entry = *sqe;
	entry->cookie = c->cookie[index];
	c->nr_filled++;
}

static bool request_try_locked(struct syn_client *c, struct syn_request *req,
			       const struct syn_sqe *sqe)
{
	if (c->ended || !request_has_room(c))
		return false;
	request_fill_locked(c, req, sqe);
	request_publish_locked(c);
	return true;
}

bool syn_request_tell_locked(struct syn_client *c, const struct syn_sqe *sqe)
{
	return request_try_locked(c, NULL, sqe);
}

bool syn_request_post_locked(struct syn_client *c, struct syn_request *req)
{
	return request_try_locked(c, req, &req->sqe);
}

/* The daemon's side array is ours until the entry is consumed. */
static void request_finish(struct syn_request *req, const struct syn_cqe *cqe,
			   const unsigned char *vec)
{
	size_t bytes = req->out_bytes;

	req->res = cqe->res;
	req->outcome = cqe->flags & SYN_CQE_F_OUTCOME;
	req->val[0] = cqe->val[0];
	req->val[1] = cqe->val[1];
	if (req->sqe.op == SYN_OP_LOOKUP && req->res >= 0)
		bytes = syn_min(bytes, (size_t)req->res * sizeof(uint64_t));
	if (bytes && !req->outcome && req->res >= 0)
		memcpy(req->out, vec, bytes);
	req->done = true;
}

static int reap_one_locked(struct syn_client *c, uint32_t at)
{
	struct syn_cqe cqe =
		*(const struct syn_cqe *)syn_ring_entry(&c->cq, at);
	unsigned int index = cqe.cookie % SYN_SQ_ENTRIES;

	if (c->idle >> index & 1 || c->cookie[index] != cqe.cookie)
		return -EPROTO;
	if (c->request[index])
		request_finish(c->request[index], &cqe,
			       c->cq_vec + (size_t)(at & c->cq.mask) *
						   SYN_VEC_BYTES);
	c->request[index] = NULL;
	c->idle |= 1ull << index;
	return 0;
}

void syn_reap_locked(struct syn_client *c)
{
	int nr;

	if (c->reaping || c->ended)
		return;
	nr = syn_ring_waiting(&c->cq);
	for (int i = 0; i < nr; i++) {
		if (reap_one_locked(c, c->cq.own + (uint32_t)i)) {
			nr = -EPROTO;
			break;
		}
	}
	if (nr < 0) {
		syn_client_end_locked(c, "the daemon broke the protocol");
		return;
	}
	if (!nr)
		return;
	syn_ring_consume(&c->cq, (uint32_t)nr);
	if (c->nr_waiting)
		(void)pthread_cond_broadcast(&c->turn);
	syn_extent_tell_locked(c);
}

static bool reaper_spin(const struct syn_client *c)
{
	uint64_t until_ns = syn_now_ns() + REQUEST_SPIN_NS;

	do {
		for (int i = 0; i < 32; i++) {
			if (syn_ring_waiting(&c->cq))
				return true;
			syn_cpu_relax();
		}
	} while (syn_now_ns() < until_ns);
	return false;
}

/* True when the socket should be looked at. */
static bool reaper_sleep(struct syn_client *c, int timeout_ms)
{
	struct pollfd fds[2] = {
		{ .fd = c->woken, .events = POLLIN },
		{ .fd = c->sock, .events = POLLIN },
	};
	uint64_t count;
	int nr;

	if (!syn_ring_sleep(&c->cq))
		return false;
	nr = poll(fds, 2, timeout_ms);
	syn_ring_awake(&c->cq);
	if (nr <= 0)
		return true;
	if (fds[0].revents & POLLIN)
		(void)!read(c->woken, &count, sizeof(count));
	return fds[1].revents;
}

/* Waits until something has happened, as the reaper or behind it. */
static void wait_turn_locked(struct syn_client *c, int timeout_ms)
{
	bool look = false;
	bool spin = c->spins && !c->rang && c->idle != UINT64_MAX;

	if (c->reaping) {
		c->nr_waiting++;
		(void)pthread_cond_wait(&c->turn, &c->lock);
		c->nr_waiting--;
		return;
	}
	c->reaping = true;
	c->rang = false;
	(void)pthread_mutex_unlock(&c->lock);
	if (!spin || !reaper_spin(c))
		look = reaper_sleep(c, timeout_ms);
	(void)pthread_mutex_lock(&c->lock);
	c->reaping = false;
	if (look)
		syn_inbox_read_locked(c);
	syn_reap_locked(c);
	/* Somebody else must be the reaper if this one is served. */
	if (c->nr_waiting)
		(void)pthread_cond_broadcast(&c->turn);
}

int syn_wait_turn_locked(struct syn_client *c)
{
	if (c->ended)
		return -ESHUTDOWN;
	wait_turn_locked(c, REQUEST_LOOK_MS);
	return 0;
}

int syn_wait_locked(struct syn_client *c, const bool *done)
{
	int r = 0;

	syn_reap_locked(c);
	while (!*done && !r)
		r = syn_wait_turn_locked(c);
	return r;
}

/*
 * An answered entry may be a moment away from being free, and nothing wakes
 * for that: look again soon.
 */
static int request_put_locked(struct syn_client *c, struct syn_request *req)
{
	while (!request_has_room(c)) {
		request_publish_locked(c);
		syn_reap_locked(c);
		if (c->ended)
			return -ESHUTDOWN;
		if (!request_has_room(c))
			wait_turn_locked(c, 1);
	}
	if (c->ended)
		return -ESHUTDOWN;
	request_fill_locked(c, req, &req->sqe);
	return 0;
}

int syn_request_run(struct syn_client *c, struct syn_request *req,
		    unsigned int nr)
{
	int r = 0;

	(void)pthread_mutex_lock(&c->lock);
	for (unsigned int i = 0; i < nr && !r; i++)
		r = request_put_locked(c, &req[i]);
	request_publish_locked(c);
	for (unsigned int i = 0; i < nr && !r; i++)
		r = syn_wait_locked(c, &req[i].done);
	(void)pthread_mutex_unlock(&c->lock);
	return r;
}

static void batch_piece(const struct syn_batch *batch, unsigned int from,
			struct syn_request *ret)
{
	unsigned int nr = syn_min(batch->nr - from, SYN_BATCH_MAX);

	*ret = (struct syn_request){ .sqe = batch->sqe };
	ret->sqe.nr = nr;
	if (batch->in) {
		ret->in = (const char *)batch->in + from * batch->in_each;
		ret->in_bytes = nr * batch->in_each;
	}
	if (batch->out) {
		ret->out = (char *)batch->out + from * batch->out_each;
		ret->out_bytes = nr * batch->out_each;
	}
}

/* The first answer that was no success, or 0. */
static int batch_result(struct syn_batch *batch, const struct syn_request *req,
			unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (req[i].res >= 0 && !req[i].outcome)
			continue;
		batch->hint_ns = req[i].val[0];
		return req[i].res ? req[i].res : -EPROTO;
	}
	return 0;
}

int syn_batch_run(struct syn_client *c, struct syn_batch *batch)
{
	struct syn_request req[REQUEST_PIECES];
	unsigned int at = 0;
	int r = 0;

	while (at < batch->nr && !r) {
		unsigned int nr = 0;

		for (; nr < REQUEST_PIECES && at < batch->nr; nr++) {
			batch_piece(batch, at, &req[nr]);
			at += req[nr].sqe.nr;
		}
		r = syn_request_run(c, req, nr);
		if (!r)
			r = batch_result(batch, req, nr);
	}
	return r;
}
