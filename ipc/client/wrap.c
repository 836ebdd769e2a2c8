/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows over memory of the engine's own: pages pass through a few slots of
 * the daemon's, from where they are spread and where they are gathered.
 */
#include "core/base/base.h"
#include "ipc/client/client-internal.h"

/* So many pass at once, if there are as many slots. */
#define WRAP_PIECE 32u

static unsigned int wrap_piece(const struct syn_window *w)
{
	return syn_min(WRAP_PIECE, w->plane[0].slots);
}

static struct syn_spread wrap_spread(const struct syn_window *w, uint32_t slot,
				     void *addr)
{
	const struct syn_wrap_opts *o = &w->wrap;

	return (struct syn_spread){
		.layout = &w->layout,
		.slot = addr,
		.at = (char *)o->base + slot * o->stride,
		.layer = o->layer,
		.block = o->block,
		.head = o->head,
		.component = o->component,
		.token = o->token,
	};
}

static int wrap_check(const struct syn_window *w, const uint32_t *slots,
		      unsigned int nr)
{
	int r = syn_client_check(w->client);

	for (unsigned int i = 0; i < nr && !r; i++)
		if (slots[i] >= w->wrap.slots)
			r = -EINVAL;
	return r;
}

static uint64_t wrap_left_ns(uint64_t deadline_ns)
{
	uint64_t now_ns = syn_now_ns();

	if (deadline_ns == 0 || deadline_ns == SYN_FOREVER)
		return deadline_ns;
	return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

/* ---- in ----------------------------------------------------------------- */

/* All of the piece, or none. */
static int fetch_piece(struct syn_window *w, const uint64_t *pages,
		       const uint32_t *slots, unsigned int nr,
		       uint64_t deadline_ns)
{
	struct syn_device *dev = w->client->device;
	struct syn_spread spread[WRAP_PIECE];
	void *addr[WRAP_PIECE];
	int r;

	r = syn_load(w->client, pages, nr, wrap_left_ns(deadline_ns), addr);
	if (r)
		return r;
	for (unsigned int i = 0; i < nr; i++)
		spread[i] = wrap_spread(w, slots[i], addr[i]);
	r = dev->ops->spread(dev, spread, nr);
	syn_pin_drop(w->client, pages, nr);
	return r;
}

/* A piece that is not to be had as a whole is tried page by page. */
static unsigned int fetch_some(struct syn_window *w, const uint64_t *pages,
			       const uint32_t *slots, unsigned int nr,
			       uint64_t deadline_ns, int *ret_status)
{
	int r = fetch_piece(w, pages, slots, nr, deadline_ns);
	unsigned int bad = 0;

	if (!r || nr == 1) {
		for (unsigned int i = 0; i < nr && ret_status; i++)
			ret_status[i] = r;
		return r ? 1 : 0;
	}
	for (unsigned int i = 0; i < nr; i++)
		bad += fetch_some(w, pages + i, slots + i, 1, deadline_ns,
				  ret_status ? ret_status + i : NULL);
	return bad;
}

int syn_fetch(struct syn_window *window, const uint64_t *pages,
	      const uint32_t *slots, unsigned int nr, uint64_t timeout_ns,
	      int *ret_status)
{
	SYN_KEEP_ERRNO;
	uint64_t deadline_ns = syn_deadline_ns(timeout_ns);
	unsigned int bad = 0;
	int r = wrap_check(window, slots, nr);

	if (r)
		return r;
	for (unsigned int at = 0, n; at < nr; at += n) {
		n = syn_min(nr - at, wrap_piece(window));

		bad += fetch_some(window, pages + at, slots + at, n,
				  deadline_ns,
				  ret_status ? ret_status + at : NULL);
	}
	return (int)bad;
}

/* ---- out ---------------------------------------------------------------- */

static int store_write(struct syn_window *w, uint64_t page, uint32_t slot)
{
	struct syn_client *c = w->client;
	uint32_t tokens = w->layout.blocks * SYN_TILE_TOKENS;
	struct syn_spread spread;
	void *addr;
	int r = syn_pin(c, &page, 1, &addr);

	if (r)
		return r > 0 ? -EPROTO : r; /* an open page is resident */
	spread = wrap_spread(w, slot, addr);
	r = c->device->ops->gather(c->device, &spread, 1);
	if (!r)
		r = syn_commit(c, &page, &tokens, 1);
	syn_pin_drop(c, &page, 1);
	return r;
}

static int store_one(struct syn_window *w, uint32_t slot, const uint64_t key[2],
		     uint32_t timeline, uint64_t value, uint64_t deadline_ns)
{
	uint64_t page;
	int r;

	r = syn_lease(w, 1, wrap_left_ns(deadline_ns), &page);
	if (r)
		return r;
	r = store_write(w, page, slot);
	if (!r)
		r = syn_seal(w->client, page, key, timeline, value);
	(void)syn_release(w->client, &page, 1);
	return r;
}

int syn_store(struct syn_window *window, const uint32_t *slots,
	      const uint64_t (*keys)[2], unsigned int nr, uint32_t timeline,
	      uint64_t value, uint64_t timeout_ns, int *ret_status)
{
	SYN_KEEP_ERRNO;
	uint64_t deadline_ns = syn_deadline_ns(timeout_ns);
	unsigned int bad = 0;
	int r = wrap_check(window, slots, nr);

	if (!r && timeline >= window->client->nr_timelines)
		r = -EINVAL;
	/* What is gathered must have been written. */
	if (!r)
		r = syn_timeline_reach(window->client, timeline, value,
				       deadline_ns);
	if (r)
		return r;
	for (unsigned int i = 0; i < nr; i++) {
		r = store_one(window, slots[i], keys[i], timeline, value,
			      deadline_ns);
		if (ret_status)
			ret_status[i] = r;
		bad += r && r != SYN_E_DUP;
	}
	return (int)bad;
}
