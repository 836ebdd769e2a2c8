/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's extents: mapped when announced, unmapped when given up. */
#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/client-internal.h"

/* An extent that was announced and does not come is the daemon's mistake. */
#define EXTENT_WAIT_NS 5000000000u

static struct syn_extent *extent_find(struct syn_client *c, uint32_t id)
{
	for (unsigned int i = 0; i < c->nr_extents; i++)
		if (c->extent[i].msg.extent == id)
			return &c->extent[i];
	return NULL;
}

/* The first word that is not all ones ends it; slots behind may be mapped. */
static uint32_t slots_full(const struct syn_plane *p)
{
	uint32_t full = 0;

	while (full < p->range && p->mapped[full / 64] == UINT64_MAX)
		full += 64;
	if (full < p->range)
		full += (uint32_t)__builtin_ctzll(~p->mapped[full / 64]);
	return syn_min(full, p->range);
}

static void slots_set(struct syn_plane *p, const struct syn_msg_extent *msg,
		      bool mapped)
{
	for (uint32_t i = 0; i < msg->nr_frames; i++) {
		uint32_t slot = SYN_SLOT_INDEX(msg->first_slot) + i;
		uint64_t bit = 1ull << (slot % 64);
		uint64_t word = syn_load_relaxed(&p->mapped[slot / 64]);

		syn_store_release(&p->mapped[slot / 64],
				  mapped ? word | bit : word & ~bit);
	}
	syn_store_release(&p->full, slots_full(p));
}

static bool extent_is_sane(const struct syn_msg_extent *msg)
{
	uint64_t used;

	if (!msg->nr_frames || !msg->frame_bytes)
		return false;
	if (syn_mul_overflow(msg->nr_frames, msg->frame_bytes, &used) ||
	    used > msg->bytes)
		return false;
	if (msg->tier == SYN_TIER_HOST)
		return true;
	return msg->tier == SYN_TIER_HBM && msg->window < SYN_WINDOWS_MAX;
}

/* Its slots; NULL: there are no such. */
static struct syn_plane *extent_plane(struct syn_window *w,
				      const struct syn_msg_extent *msg)
{
	uint32_t first = SYN_SLOT_INDEX(msg->first_slot);
	struct syn_plane *p;

	if (msg->first_slot > SYN_PTE_SLOT(UINT32_MAX))
		return NULL;
	p = &w->plane[msg->first_slot / SYN_SLOT_CODED];
	if (msg->frame_bytes != p->stride || first >= p->range ||
	    msg->nr_frames > p->range - first)
		return NULL;
	return p;
}

static int extent_place(struct syn_client *c, struct syn_extent *e,
			struct syn_window *w)
{
	struct syn_plane *p = extent_plane(w, &e->msg);
	int r;

	if (!p)
		return -EPROTO;
	r = c->device->ops->place(c->device, &e->map,
				  syn_window_slot(w, e->msg.first_slot));
	if (!r)
		slots_set(p, &e->msg, true);
	return r;
}

int syn_extent_place_locked(struct syn_client *c, uint32_t window)
{
	for (unsigned int i = 0; i < c->nr_extents; i++) {
		struct syn_extent *e = &c->extent[i];
		int r;

		if (e->msg.tier != SYN_TIER_HBM || e->msg.window != window ||
		    e->map.placed || e->state != SYN_EXTENT_MAPPED)
			continue;
		r = extent_place(c, e, &c->window[window]);
		if (r)
			return r;
	}
	return 0;
}

/* Nobody reaches for a slot that is being unmapped. */
static void extent_unmap(struct syn_client *c, struct syn_extent *e)
{
	if (e->map.placed)
		slots_set(extent_plane(&c->window[e->msg.window], &e->msg),
			  &e->msg, false);
	c->device->ops->unmap(c->device, &e->map);
}

static int extent_reserve(struct syn_client *c)
{
	unsigned int max = c->max_extents ? 2 * c->max_extents : 16;
	struct syn_extent *table;

	if (c->nr_extents < c->max_extents)
		return 0;
	table = syn_alloc(max, sizeof(*table));
	if (!table)
		return -ENOMEM;
	if (c->nr_extents)
		memcpy(table, c->extent, c->nr_extents * sizeof(*table));
	free(c->extent);
	c->extent = table;
	c->max_extents = max;
	return 0;
}

/* A new one has its number: the daemon knows already that the old one is gone. */
static void extent_take_back(struct syn_client *c, uint32_t id)
{
	struct syn_extent *e = extent_find(c, id);

	if (e && e->state == SYN_EXTENT_GONE)
		*e = c->extent[--c->nr_extents];
}

/* By another worker, which cannot know whether the one before it did. */
static bool extent_is_told_again(struct syn_client *c,
				 const struct syn_msg_extent *msg)
{
	const struct syn_extent *e = extent_find(c, msg->extent);

	return e->state == SYN_EXTENT_MAPPED &&
	       !memcmp(&e->msg, msg, sizeof(*msg));
}

int syn_extent_add_locked(struct syn_client *c,
			  const struct syn_msg_extent *msg, int fd)
{
	struct syn_extent e = { .msg = *msg };
	/* A mapping holds its file; many extents must not need many fds. */
	syn_cleanup(syn_closep) int file = fd;
	struct syn_window *w;
	int r;

	if (!extent_is_sane(msg))
		return -EPROTO;
	extent_take_back(c, msg->extent);
	if (extent_find(c, msg->extent))
		return extent_is_told_again(c, msg) ? 0 : -EPROTO;
	r = extent_reserve(c);
	if (r)
		return r;
	r = c->device->ops->map(c->device, msg, file, &e.map);
	if (r)
		return r;
	w = &c->window[msg->window];
	if (msg->tier == SYN_TIER_HBM && w->client) {
		r = extent_place(c, &e, w);
		if (r) {
			c->device->ops->unmap(c->device, &e.map);
			return r;
		}
	}
	c->extent[c->nr_extents++] = e;
	return 0;
}

static void extent_leave(struct syn_client *c, struct syn_extent *e)
{
	extent_unmap(c, e);
	e->state = SYN_EXTENT_GONE;
}

/* It was given up, and the worker that was told so is gone: tell again. */
static int extent_forgotten(struct syn_client *c, uint32_t id)
{
	int r = extent_reserve(c);

	if (!r)
		c->extent[c->nr_extents++] = (struct syn_extent){
			.msg = { .extent = id },
			.state = SYN_EXTENT_GONE,
		};
	return r;
}

int syn_extent_retire_locked(struct syn_client *c, uint32_t id)
{
	struct syn_extent *e = extent_find(c, id);

	if (!e)
		return extent_forgotten(c, id);
	/* Asked before by another worker: it is told as soon as it can be. */
	if (e->state != SYN_EXTENT_MAPPED)
		return 0;
	e->state = SYN_EXTENT_LEAVING;
	if (!e->users)
		extent_leave(c, e);
	return 0;
}

void syn_extent_tell_locked(struct syn_client *c)
{
	unsigned int i = 0;

	while (i < c->nr_extents) {
		const struct syn_sqe sqe = {
			.op = SYN_OP_RETIRED,
			.object = c->extent[i].msg.extent,
		};

		if (c->extent[i].state != SYN_EXTENT_GONE) {
			i++;
			continue;
		}
		if (!syn_request_tell_locked(c, &sqe))
			return;
		c->extent[i] = c->extent[--c->nr_extents];
	}
}

static bool extent_take_locked(struct syn_client *c, uint32_t id,
			       struct syn_extent *ret)
{
	struct syn_extent *e = extent_find(c, id);

	if (!e || e->state == SYN_EXTENT_GONE)
		return false;
	e->users++;
	*ret = *e;
	return true;
}

int syn_extent_get(struct syn_client *c, uint32_t id, struct syn_extent *ret)
{
	uint64_t deadline_ns = syn_deadline_ns(EXTENT_WAIT_NS);

	for (;;) {
		bool found;
		int r;

		(void)pthread_mutex_lock(&c->lock);
		found = extent_take_locked(c, id, ret);
		(void)pthread_mutex_unlock(&c->lock);
		if (found)
			return 0;
		r = syn_inbox_wait(c);
		if (r)
			return r;
		if (syn_now_ns() > deadline_ns)
			return -EPROTO;
	}
}

void syn_extent_put(struct syn_client *c, uint32_t id)
{
	struct syn_extent *e;

	(void)pthread_mutex_lock(&c->lock);
	e = extent_find(c, id);
	if (!--e->users && e->state == SYN_EXTENT_LEAVING) {
		extent_leave(c, e);
		syn_extent_tell_locked(c);
	}
	(void)pthread_mutex_unlock(&c->lock);
}

int syn_slot_wait(struct syn_window *w, uint32_t slot)
{
	uint64_t deadline_ns = 0;

	while (!syn_window_has_slot(w, slot)) {
		int r = syn_inbox_wait(w->client);

		if (r)
			return r;
		if (!deadline_ns)
			deadline_ns = syn_deadline_ns(EXTENT_WAIT_NS);
		if (SYN_SLOT_INDEX(slot) >= syn_window_plane(w, slot)->range ||
		    syn_now_ns() > deadline_ns)
			return -EPROTO;
	}
	return 0;
}

void syn_extent_free_all(struct syn_client *c, bool forked)
{
	for (unsigned int i = 0; i < c->nr_extents && !forked; i++)
		if (c->extent[i].state != SYN_EXTENT_GONE)
			c->device->ops->unmap(c->device, &c->extent[i].map);
	free(c->extent);
	c->extent = NULL;
	c->nr_extents = 0;
}
