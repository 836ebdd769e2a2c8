/* SPDX-License-Identifier: Apache-2.0 */
/* Leases and what is done with leased pages. */
#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/client-internal.h"
#include "ipc/client/trace.h"

/* A page may have left before it is sealed; its sums need it back. */
#define SEAL_LOAD_NS 10000000000u

static int pages_check(struct syn_client *c, const uint64_t *pages,
		       unsigned int nr)
{
	int r = syn_client_check(c);

	for (unsigned int i = 0; i < nr && !r; i++)
		r = syn_page_check(c, pages[i]);
	return r;
}

static int pages_release(struct syn_client *c, const uint64_t *pages,
			 unsigned int nr)
{
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_RELEASE },
		.in = pages,
		.in_each = sizeof(*pages),
		.nr = nr,
	};

	return syn_batch_run(c, &batch);
}

/* Pages are this window's from now on, if they are this client's at all. */
static int pages_take(struct syn_window *w, const uint64_t *pages,
		      unsigned int nr)
{
	struct syn_client *c = w->client;
	uint8_t id = (uint8_t)(w - c->window);

	for (unsigned int i = 0; i < nr; i++) {
		uint32_t index = SYN_HANDLE_INDEX(pages[i]);

		if (index >= c->nr_pages)
			return -EPROTO;
		syn_store_relaxed(&c->window_of[index], id);
	}
	return 0;
}

/* Pieces that did come are given back if one does not. */
static void lease_undo(struct syn_client *c, uint64_t *pages, unsigned int nr)
{
	unsigned int got = 0;

	for (unsigned int i = 0; i < nr; i++)
		if (pages[i])
			pages[got++] = pages[i];
	if (got)
		(void)pages_release(c, pages, got);
	memset(pages, 0, nr * sizeof(*pages));
}

/* @pages is zeroed, and again after a failure. */
static int lease_try(struct syn_window *w, unsigned int nr, uint64_t *pages,
		     uint64_t *ret_hint_ns)
{
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_LEASE,
			 .object = (uint64_t)(w - w->client->window) },
		.out = pages,
		.out_each = sizeof(*pages),
		.nr = nr,
	};
	int r = syn_batch_run(w->client, &batch);

	if (!r)
		r = pages_take(w, pages, nr);
	if (r)
		lease_undo(w->client, pages, nr);
	else
		/* New extents are announced before the lease that needs them. */
		syn_inbox_look(w->client);
	*ret_hint_ns = batch.hint_ns;
	return r;
}

int syn_lease(struct syn_window *window, unsigned int nr, uint64_t timeout_ns,
	      uint64_t *ret_pages)
{
	SYN_KEEP_ERRNO;
	syn_cleanup(syn_freep) uint64_t *many = NULL;
	uint64_t few[SYN_BATCH_MAX] = { 0 };
	uint64_t *pages = few;
	uint64_t deadline_ns;
	uint64_t hint_ns;
	int r = syn_client_check(window->client);

	if (r || !nr)
		return r;
	if (nr > window->plane[0].slots)
		return -E2BIG;
	if (nr > SYN_BATCH_MAX) {
		many = syn_alloc(nr, sizeof(*many));
		if (!many)
			return -ENOMEM;
		pages = many;
	}
	deadline_ns = syn_deadline_ns(timeout_ns);
	do {
		r = lease_try(window, nr, pages, &hint_ns);
	} while (r == SYN_E_BACKPRESSURE &&
		 syn_backoff(window->client, hint_ns, deadline_ns));
	if (r)
		return r;
	memcpy(ret_pages, pages, nr * sizeof(*pages));
	syn_trace_pages(window->client, SYN_TRACE_LEASE, window->space.id,
			pages, nr);
	return 0;
}

int syn_commit(struct syn_client *client, const uint64_t *pages,
	       const uint32_t *tokens, unsigned int nr)
{
	SYN_KEEP_ERRNO;
	struct syn_vec_commit vec[SYN_BATCH_MAX];
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_COMMIT },
		.in = vec,
		.in_each = sizeof(vec[0]),
	};
	int r = pages_check(client, pages, nr);

	for (unsigned int at = 0; at < nr && !r; at += batch.nr) {
		batch.nr = syn_min(nr - at, SYN_BATCH_MAX);
		for (unsigned int i = 0; i < batch.nr; i++)
			vec[i] = (struct syn_vec_commit){
				.handle = pages[at + i],
				.tokens = tokens[at + i],
			};
		r = syn_batch_run(client, &batch);
	}
	if (!r)
		syn_trace_commit(client, pages, tokens, nr);
	return r;
}

/*
 * The process that wrote the page makes its sums; nobody else can know.  None
 * are wanted of a page that was encoded: *ret_nr is 0 where it lies so.
 */
static int seal_sums(struct syn_client *c, uint64_t page,
		     const struct syn_window *w, uint32_t *ret_sums,
		     uint32_t *ret_nr)
{
	const struct syn_space *space = &w->space;
	struct syn_planes coded;
	void *addr;
	int r = syn_load(c, &page, 1, SEAL_LOAD_NS, &addr);

	if (r == SYN_E_BACKPRESSURE)
		return -EAGAIN;
	if (r)
		return r;
	syn_window_coded(w, &coded);
	*ret_nr = syn_planes_have(&coded, addr) ? 0 : space->nr_tiles;
	if (*ret_nr)
		r = c->device->ops->sum(c->device, addr, space->page_bytes,
					space->page_bytes / space->nr_tiles,
					ret_sums);
	syn_pin_drop(c, &page, 1);
	return r;
}

int syn_seal(struct syn_client *client, uint64_t page, const uint64_t key[2],
	     uint32_t timeline, uint64_t value)
{
	SYN_KEEP_ERRNO;
	uint32_t sums[SYN_TILES_MAX];
	struct syn_request req = {
		.sqe = { .op = SYN_OP_SEAL,
			 .object = page,
			 .arg = { key[0], key[1], value, timeline } },
		.in = sums,
	};
	const struct syn_window *w;
	int r = pages_check(client, &page, 1);

	if (r)
		return r;
	if (timeline >= client->nr_timelines)
		return -EINVAL;
	w = syn_page_window(client, SYN_HANDLE_INDEX(page));
	if (!w->client)
		return -ESTALE;
	/* What a device does behind our back must be there to be summed. */
	if (client->device->behind)
		r = syn_timeline_reach(client, timeline, value,
				       syn_deadline_ns(SEAL_LOAD_NS));
	if (!r)
		r = seal_sums(client, page, w, sums, &req.sqe.nr);
	if (r)
		return r;
	req.in_bytes = req.sqe.nr * sizeof(sums[0]);
	r = syn_request_run(client, &req, 1);
	if (!r)
		r = req.res;
	if (r >= 0)
		syn_trace_seal(client, page, key, r == SYN_E_DUP);
	return r;
}

/* The prefix goes on only while whole pieces are found. */
static int lookup_pieces(struct syn_window *w, const uint64_t (*keys)[2],
			 unsigned int nr, uint64_t *pages, uint64_t *ret_miss,
			 unsigned int *found)
{
	while (*found < nr) {
		unsigned int want = syn_min(nr - *found, SYN_BATCH_MAX);
		struct syn_request req = {
			.sqe = { .op = SYN_OP_LOOKUP,
				 .nr = want,
				 .object = (uint64_t)(w - w->client->window),
				 .arg = { w->fidelity } },
			.in = keys + *found,
			.in_bytes = want * sizeof(*keys),
			.out = pages + *found,
			.out_bytes = want * sizeof(*pages),
		};
		int r = syn_request_run(w->client, &req, 1);

		if (!r && req.outcome)
			r = -EPROTO;
		if (r || req.res < 0)
			return r ? r : req.res;
		if ((unsigned int)req.res > want)
			return -EPROTO;
		r = pages_take(w, pages + *found, (unsigned int)req.res);
		if (r)
			return r;
		*found += (unsigned int)req.res;
		*ret_miss = req.val[0];
		if ((unsigned int)req.res < want)
			break;
	}
	return 0;
}

int syn_lookup(struct syn_window *window, const uint64_t (*keys)[2],
	       unsigned int nr, uint64_t *ret_pages, uint32_t *ret_miss)
{
	SYN_KEEP_ERRNO;
	uint64_t miss = SYN_MISS_NONE;
	unsigned int found = 0;
	int r = syn_client_check(window->client);

	if (nr > INT32_MAX)
		return -EINVAL;
	if (r)
		return r;
	r = lookup_pieces(window, keys, nr, ret_pages, &miss, &found);
	if (r) {
		if (found)
			(void)pages_release(window->client, ret_pages, found);
		return r;
	}
	syn_trace_lookup(window->client, window->space.id, keys, nr, ret_pages,
			 found);
	if (ret_miss)
		*ret_miss = (uint32_t)miss;
	return (int)found;
}

int syn_advise(struct syn_client *client, const uint64_t *pages,
	       unsigned int nr, uint32_t advice)
{
	SYN_KEEP_ERRNO;
	struct syn_vec_advise vec[SYN_BATCH_MAX];
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_ADVISE },
		.in = vec,
		.in_each = sizeof(vec[0]),
	};
	int r = pages_check(client, pages, nr);

	for (unsigned int at = 0; at < nr && !r; at += batch.nr) {
		batch.nr = syn_min(nr - at, SYN_BATCH_MAX);
		for (unsigned int i = 0; i < batch.nr; i++)
			vec[i] = (struct syn_vec_advise){
				.handle = pages[at + i],
				.advice = advice,
			};
		r = syn_batch_run(client, &batch);
	}
	return r;
}

/* Asking again costs nothing for pages that are on disk already. */
int syn_persist(struct syn_client *client, const uint64_t *pages,
		unsigned int nr, uint64_t timeout_ns)
{
	SYN_KEEP_ERRNO;
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_PERSIST },
		.in = pages,
		.in_each = sizeof(*pages),
		.nr = nr,
	};
	uint64_t deadline_ns;
	int r = pages_check(client, pages, nr);

	if (r)
		return r;
	deadline_ns = syn_deadline_ns(timeout_ns);
	do {
		r = syn_batch_run(client, &batch);
	} while (r == SYN_E_BACKPRESSURE &&
		 syn_backoff(client, batch.hint_ns, deadline_ns));
	return r;
}

int syn_report(struct syn_client *client, const struct syn_vec_share *shares,
	       unsigned int nr)
{
	SYN_KEEP_ERRNO;
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_REPORT },
		.in = shares,
		.in_each = sizeof(*shares),
		.nr = nr,
	};
	int r = syn_client_check(client);

	if (!r)
		r = syn_batch_run(client, &batch);
	if (!r)
		syn_trace_report(client, shares, nr);
	return r;
}

int syn_release(struct syn_client *client, const uint64_t *pages,
		unsigned int nr)
{
	SYN_KEEP_ERRNO;
	int r = pages_check(client, pages, nr);

	for (unsigned int i = 0; i < nr && !r; i++) {
		uint32_t word = syn_load_acquire(
			&client->pin[SYN_HANDLE_INDEX(pages[i])]);

		if (SYN_PIN_COUNT(word))
			r = -EBUSY;
	}
	if (r)
		return r;
	syn_shares_leave(client, pages, nr);
	r = pages_release(client, pages, nr);
	if (!r)
		syn_trace_pages(client, SYN_TRACE_RELEASE, 0, pages, nr);
	return r;
}
