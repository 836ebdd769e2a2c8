/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces and windows: asked for on the socket, answered there. */
#include <poll.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/client-internal.h"
#include "ipc/client/opts.h"
#include "ipc/client/trace.h"
#include "ipc/conn.h"

/* Slots of HBM that pages of a wrapped window pass through, by default. */
#define WRAP_PASSING 64u
/* Rows begin where the widest load of a GPU can. */
#define WRAP_ALIGN 16u

/* One question at a time, because answers do not say to which they belong. */
static int ask_begin_locked(struct syn_client *c)
{
	while (c->asking && !c->ended) {
		c->nr_waiting++;
		(void)pthread_cond_wait(&c->turn, &c->lock);
		c->nr_waiting--;
	}
	if (c->ended)
		return -ESHUTDOWN;
	c->asking = true;
	c->answered = false;
	return 0;
}

static int ask_send_locked(struct syn_client *c, struct syn_msg *msg)
{
	struct pollfd fd = { .fd = c->sock, .events = POLLOUT };
	int r;

	for (;;) {
		r = syn_conn_send(c->sock, msg, NULL, 0);
		if (r != -EAGAIN)
			break;
		(void)poll(&fd, 1, -1);
	}
	/* The peer's end is found out, with its reason, by reading. */
	if (r == -EPIPE || r == -ECONNRESET) {
		syn_inbox_read_locked(c);
		r = -ESHUTDOWN;
	}
	if (!r)
		c->nr_asked++;
	return r;
}

/*
 * A worker took the question, died, and had not answered.  What it did answer is
 * in the socket: it was sent before another worker wrote its @epoch.
 */
static bool ask_is_lost_locked(struct syn_client *c, uint64_t epoch)
{
	if (syn_load_acquire(&c->ctl->epoch) == epoch)
		return false;
	syn_inbox_read_locked(c);
	return !c->answered && !c->ended &&
	       syn_load_relaxed(&c->ctl->asked) == c->nr_asked;
}

static int ask_locked(struct syn_client *c, struct syn_msg *msg,
		      uint16_t answer_type)
{
	uint64_t epoch;
	int r;

	c->answer_type = answer_type;
	do {
		epoch = syn_load_acquire(&c->ctl->epoch);
		r = ask_send_locked(c, msg);
		while (!r && !c->answered && !ask_is_lost_locked(c, epoch))
			r = syn_wait_turn_locked(c);
	} while (!r && !c->answered);
	return r ? r : c->answer.msg.error;
}

static void ask_end_locked(struct syn_client *c)
{
	c->asking = false;
	if (c->nr_waiting)
		(void)pthread_cond_broadcast(&c->turn);
}

static int space_message(const struct syn_space_opts *opts,
			 struct syn_msg_space *ret)
{
	if (!opts->nr_components || opts->nr_components > SYN_COMPONENTS_MAX ||
	    !opts->components || opts->coded > 1)
		return -EINVAL;
	*ret = (struct syn_msg_space){
		.msg = { .type = SYN_MSG_SPACE, .size = sizeof(*ret) },
		.model = { opts->model[0], opts->model[1] },
		.tokens = opts->tokens,
		.layers_per_page =
			opts->layers_per_page ? opts->layers_per_page : 1,
		.nr_components = opts->nr_components,
		.raw_head = opts->raw_head,
		.raw_tail = opts->raw_tail,
		.flags = opts->coded ? SYN_SPACE_F_CODED : 0,
	};
	memcpy(ret->component, opts->components,
	       opts->nr_components * sizeof(*opts->components));
	return 0;
}

static bool space_allows_h4(const struct syn_msg_space *msg)
{
	for (uint32_t i = 0; i < msg->nr_components; i++)
		if (msg->component[i].codec == SYN_CODEC_H4)
			return true;
	return false;
}

static int layouts_reserve(struct syn_client *c)
{
	unsigned int max = c->max_layouts ? 2 * c->max_layouts : 4;
	struct syn_space_layout *table;

	if (c->nr_layouts < c->max_layouts)
		return 0;
	table = syn_alloc(max, sizeof(*table));
	if (!table)
		return -ENOMEM;
	if (c->nr_layouts)
		memcpy(table, c->layout, c->nr_layouts * sizeof(*table));
	free(c->layout);
	c->layout = table;
	c->max_layouts = max;
	return 0;
}

static const struct syn_space_layout *layout_find(const struct syn_client *c,
						  uint32_t space)
{
	for (unsigned int i = 0; i < c->nr_layouts; i++)
		if (c->layout[i].space == space)
			return &c->layout[i];
	return NULL;
}

static bool layout_fits(const struct syn_layout *l,
			const struct syn_space *space)
{
	return syn_layout_tiles(l) == space->nr_tiles &&
	       (uint64_t)space->nr_tiles * syn_tile_raw_bytes(l->component) ==
		       space->page_bytes;
}

/*
 * What a loan of such a page will be decoded by, and where its tiles are.  A
 * geometry that h4 does not fit is never stored so.  -EPROTO: decoded pages
 * would not be as the daemon says that pages are.
 */
static int layout_keep_locked(struct syn_client *c,
			      const struct syn_msg_space *msg,
			      const struct syn_space *space)
{
	struct syn_space_layout own = {
		.space = space->id,
		.h4 = c->features & SYN_FEATURE_H4 && space_allows_h4(msg),
		.coded = msg->flags & SYN_SPACE_F_CODED,
	};
	int r;

	if (layout_find(c, space->id) ||
	    syn_layout_init(&own.layout, msg->tokens, msg->layers_per_page,
			    msg->nr_components, msg->component, msg->raw_head,
			    msg->raw_tail))
		return 0;
	if (!layout_fits(&own.layout, space))
		return own.h4 ? -EPROTO : 0;
	r = layouts_reserve(c);
	if (!r)
		c->layout[c->nr_layouts++] = own;
	return r;
}

static int space_ask_locked(struct syn_client *c, struct syn_msg_space *msg,
			    struct syn_space *ret)
{
	const struct syn_msg_space_reply *answer = &c->answer.space;
	struct syn_space space;
	int r;

	r = ask_begin_locked(c);
	if (r)
		return r;
	r = ask_locked(c, &msg->msg, SYN_MSG_SPACE_REPLY);
	if (!r && (!answer->nr_tiles || answer->nr_tiles > SYN_TILES_MAX ||
		   answer->page_bytes % answer->nr_tiles))
		r = -EPROTO;
	space = (struct syn_space){
		.id = answer->space,
		.nr_tiles = answer->nr_tiles,
		.page_bytes = answer->page_bytes,
		.identity = answer->identity,
	};
	ask_end_locked(c);
	if (!r)
		r = layout_keep_locked(c, msg, &space);
	if (!r)
		*ret = space;
	return r;
}

int syn_space_define(struct syn_client *client,
		     const struct syn_space_opts *opts, struct syn_space *ret)
{
	SYN_KEEP_ERRNO;
	struct syn_space_opts own;
	struct syn_msg_space msg;
	int r = syn_client_check(client);

	if (!r)
		r = SYN_OPTS_READ(&own, opts);
	if (!r)
		r = space_message(&own, &msg);
	if (!r && msg.flags && !(client->features & SYN_FEATURE_CODED))
		r = -EOPNOTSUPP;
	if (r)
		return r;
	(void)pthread_mutex_lock(&client->lock);
	r = space_ask_locked(client, &msg, ret);
	(void)pthread_mutex_unlock(&client->lock);
	if (!r)
		syn_trace_space(client, &msg, ret);
	return r;
}

/* As the daemon says it is, for @page_bytes a slot. */
static bool plane_is_sane(const struct syn_plane *p, uint64_t page_bytes)
{
	uint64_t bytes;

	return p->slots && p->slots <= p->range && p->range <= SYN_SLOT_CODED &&
	       p->stride >= page_bytes &&
	       p->stride % (uint64_t)sysconf(_SC_PAGESIZE) == 0 &&
	       !syn_mul_overflow(p->range, p->stride, &bytes) &&
	       bytes <= INT64_MAX;
}

static int plane_make(struct syn_client *c, struct syn_plane *p)
{
	int r;

	p->mapped = syn_alloc(syn_div_up(p->range, 64), sizeof(*p->mapped));
	if (!p->mapped)
		return -ENOMEM;
	r = c->device->ops->reserve(c->device, p->range * p->stride, &p->base);
	if (r)
		free(p->mapped);
	return r;
}

static void plane_free(struct syn_client *c, struct syn_plane *p, bool forked)
{
	if (!forked)
		c->device->ops->unreserve(c->device, p->base,
					  p->range * p->stride);
	free(p->mapped);
}

/* @w: as opened, its planes as the daemon says. */
static int window_setup(struct syn_client *c, struct syn_window *w, uint32_t id)
{
	int r;

	if (id >= SYN_WINDOWS_MAX || c->window[id].client ||
	    !plane_is_sane(&w->plane[0], w->space.page_bytes) ||
	    (w->coded &&
	     !plane_is_sane(&w->plane[1], syn_layout_bytes(&w->layout))))
		return -EPROTO;
	r = plane_make(c, &w->plane[0]);
	if (!r && w->coded) {
		r = plane_make(c, &w->plane[1]);
		if (r)
			plane_free(c, &w->plane[0], false);
	}
	if (r)
		return r;
	w->client = c;
	c->window[id] = *w;
	return syn_extent_place_locked(c, id);
}

int syn_window_setup_locked(struct syn_client *c,
			    const struct syn_msg_window_reply *msg)
{
	struct syn_window w = c->opening;

	w.plane[0] = (struct syn_plane){
		.stride = msg->stride,
		.range = msg->range_slots,
		.slots = msg->slots,
	};
	return window_setup(c, &w, msg->window);
}

int syn_window_setup_coded_locked(struct syn_client *c,
				  const struct syn_msg_coded_reply *msg)
{
	struct syn_window w = c->opening;

	w.plane[0] = (struct syn_plane){
		.stride = msg->stride,
		.range = msg->range_slots,
		.slots = msg->slots,
	};
	w.plane[1] = (struct syn_plane){
		.stride = msg->coded_stride,
		.range = msg->coded_range,
		.slots = msg->coded_slots,
	};
	return window_setup(c, &w, msg->window);
}

/*
 * The GPU is opened in the context of the thread that opens the first window:
 * the engine's.  The daemon has named it before it answered anything.
 */
static int window_device_locked(struct syn_client *c)
{
	if (!(c->features & SYN_FEATURE_CUDA) || c->device != syn_device_host())
		return 0;
	if (!c->has_uuid)
		return -EPROTO;
	return syn_device_cuda_open(c->uuid, &c->device);
}

static int window_send_locked(struct syn_client *c,
			      const struct syn_msg_coded *want)
{
	struct syn_msg_window msg = {
		.msg = { .type = SYN_MSG_WINDOW, .size = sizeof(msg) },
		.space = want->space,
		.slots = want->slots,
		.device = want->device,
	};

	return ask_locked(c, &msg.msg, SYN_MSG_WINDOW_REPLY);
}

static int window_send_coded_locked(struct syn_client *c,
				    const struct syn_msg_coded *want)
{
	struct syn_msg_coded msg = *want;

	msg.msg =
		(struct syn_msg){ .type = SYN_MSG_CODED, .size = sizeof(msg) };
	return ask_locked(c, &msg.msg, SYN_MSG_CODED_REPLY);
}

static int window_ask_locked(struct syn_client *c,
			     const struct syn_msg_coded *want,
			     const struct syn_window *opening,
			     struct syn_window **ret)
{
	int r;

	r = ask_begin_locked(c);
	if (r)
		return r;
	c->opening = *opening;
	r = opening->coded ? window_send_coded_locked(c, want)
			   : window_send_locked(c, want);
	if (!r)
		r = c->opened;
	if (!r)
		*ret = &c->window[opening->coded ? c->answer.coded.window
						 : c->answer.window.window];
	ask_end_locked(c);
	return r;
}

/* What the client knows of the space, and whether it can have such a window. */
static int window_space_locked(struct syn_client *c,
			       const struct syn_msg_coded *want,
			       struct syn_window *opening)
{
	const struct syn_space_layout *layout =
		layout_find(c, opening->space.id);

	if (layout) {
		opening->layout = layout->layout;
		opening->h4 = layout->h4;
		opening->coded = layout->coded;
	} else if (opening->wrap.slots) {
		return -EINVAL;
	}
	return opening->coded == !!want->coded_slots ? 0 : -EINVAL;
}

/* @opening: its space, and what the caller chose. */
static int window_open(struct syn_client *client, struct syn_msg_coded *want,
		       struct syn_window *opening, struct syn_window **ret)
{
	int r;

	if (!want->slots || !opening->space.nr_tiles)
		return -EINVAL;
	want->space = opening->space.id;
	(void)pthread_mutex_lock(&client->lock);
	r = window_space_locked(client, want, opening);
	if (!r)
		r = window_device_locked(client);
	if (!r)
		r = window_ask_locked(client, want, opening, ret);
	(void)pthread_mutex_unlock(&client->lock);
	return r;
}

int syn_window_open(struct syn_client *client, const struct syn_space *space,
		    const struct syn_window_opts *opts, struct syn_window **ret)
{
	SYN_KEEP_ERRNO;
	struct syn_window opening = { .space = *space };
	struct syn_window_opts own;
	struct syn_msg_coded want;
	int r = syn_client_check(client);

	if (!r)
		r = SYN_OPTS_READ(&own, opts);
	if (r)
		return r;
	opening.fidelity = own.fidelity;
	want = (struct syn_msg_coded){ .slots = own.slots,
				       .coded_slots = own.coded_slots,
				       .device = own.device };
	return window_open(client, &want, &opening, ret);
}

int syn_window_wrap(struct syn_client *client, const struct syn_space *space,
		    const struct syn_wrap_opts *opts, struct syn_window **ret)
{
	SYN_KEEP_ERRNO;
	struct syn_window opening = { .space = *space };
	struct syn_msg_coded want;
	int r = syn_client_check(client);

	if (!r)
		r = SYN_OPTS_READ(&opening.wrap, opts);
	if (r)
		return r;
	if (!opening.wrap.slots || !opening.wrap.base ||
	    opening.wrap.token % WRAP_ALIGN || opening.wrap.stride % WRAP_ALIGN)
		return -EINVAL;
	opening.fidelity = opening.wrap.fidelity;
	want = (struct syn_msg_coded){
		.slots = opening.wrap.passing ? opening.wrap.passing
					      : WRAP_PASSING,
		.device = opening.wrap.device,
	};
	return window_open(client, &want, &opening, ret);
}

static void plane_tell(const struct syn_plane *p, struct syn_planes *ret)
{
	ret->base = p->base;
	ret->stride = p->stride;
	ret->range = p->range;
	ret->slots = p->slots;
}

void syn_window_planes(const struct syn_window *window, struct syn_planes *ret)
{
	plane_tell(&window->plane[0], ret);
}

void syn_window_coded(const struct syn_window *window, struct syn_planes *ret)
{
	plane_tell(&window->plane[1], ret);
}

/* The daemon names it right behind its welcome. */
int syn_client_gpu(struct syn_client *client, uint8_t ret_uuid[SYN_UUID_BYTES])
{
	SYN_KEEP_ERRNO;
	int r = syn_client_check(client);

	if (r)
		return r;
	if (!(client->features & SYN_FEATURE_CUDA))
		return -ENODEV;
	(void)pthread_mutex_lock(&client->lock);
	r = syn_wait_locked(client, &client->has_uuid);
	if (!r)
		memcpy(ret_uuid, client->uuid, sizeof(client->uuid));
	(void)pthread_mutex_unlock(&client->lock);
	return r;
}

void syn_window_free_all(struct syn_client *c, bool forked)
{
	for (unsigned int i = 0; i < SYN_WINDOWS_MAX; i++) {
		struct syn_window *w = &c->window[i];

		if (!w->client)
			continue;
		plane_free(c, &w->plane[0], forked);
		if (w->coded)
			plane_free(c, &w->plane[1], forked);
		w->client = NULL;
	}
}
