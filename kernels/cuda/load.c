/* SPDX-License-Identifier: Apache-2.0 */
/* Pages into slices: which way each goes, tile by tile. */
#include "kernels/cuda/load.h"

#include <errno.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/slice.h"

/* With half of it, loads take 2 % longer. */
#define STAGING_BYTES	  (64u << 20)
#define STAGING_BYTES_MIN (1u << 20)

/* What goes past the ring, straight to its place, of a slice. */
#define DIRECT_BYTES (32u << 20)

/*
 * The copy engine takes some microseconds for a run of any size.  Shorter runs
 * than this, on average, are read by blocks over the link: as many as keep it
 * busy, and few, as they sit on their multiprocessors for long.
 */
#define PULL_RUN_BYTES (48u << 10)

/*
 * So little is pulled as well, for what it takes until it is there: a burst by
 * itself is sooner done than a copy and a burst that waits for it.
 */
#define PULL_LITTLE_BYTES (256u << 10)

#define PULL_BLOCKS 128u
#define PULL_JOBS   2048u

/**
 * enum way - how a page's tiles get to their place.
 * @WAY_STAGE:	copied into the ring, from where a burst takes them.
 * @WAY_DIRECT:	copied to their place, and summed there.
 * @WAY_PULL:	taken by a burst from where they are.
 */
enum way { WAY_STAGE, WAY_DIRECT, WAY_PULL };

/**
 * struct loading - a call that is being filled in.
 * @l:		whose.
 * @slice:	that is filled; NULL: none.
 * @blocks:	as of syn_gpu_slice_submit().
 * @jobs:	of a slice, at most.
 * @most:	what @jobs grows to.
 * @near:	as of struct syn_gpu_slice.
 * @page:	that is added.
 * @record:	its word.
 * @way:	of the page.
 * @tile:	number of the tile that comes next.
 * @src:	where that is stored.
 */
struct loading {
	struct syn_gpu_loader *l;
	struct syn_gpu_slice *slice;
	unsigned int blocks;
	unsigned int jobs;
	unsigned int most;
	bool near;
	struct syn_gpu_page *page;
	uint16_t record;
	enum way way;
	uint32_t tile;
	uint64_t src;
};

/* ---- places ------------------------------------------------------------- */

struct syn_gpu_place syn_gpu_place_canonical(const struct syn_layout *layout,
					     uint64_t base)
{
	uint64_t tile = syn_tile_raw_bytes(&layout->component[0]);
	struct syn_gpu_place place = { .base = base };

	place.token = tile / SYN_TILE_TOKENS;
	place.component = tile;
	place.head = place.component * layout->nr_components;
	place.block = place.head * layout->heads;
	place.layer = place.block * layout->blocks;
	return place;
}

static bool place_is_canonical(const struct syn_gpu_place *place,
			       const struct syn_layout *layout)
{
	const struct syn_gpu_place want =
		syn_gpu_place_canonical(layout, place->base);

	return place->token == want.token &&
	       (layout->nr_components == 1 ||
		place->component == want.component) &&
	       (layout->heads == 1 || place->head == want.head) &&
	       (layout->blocks == 1 || place->block == want.block) &&
	       (layout->layers == 1 || place->layer == want.layer);
}

bool syn_gpu_place_can_be(const struct syn_gpu_place *place,
			  const struct syn_layout *layout)
{
	uint64_t row = syn_tile_raw_bytes(&layout->component[0]) / SYN_GPU_ROWS;
	uint64_t bits = place->base | place->token | row;

	if (layout->nr_components > 1)
		bits |= place->component;
	if (layout->heads > 1)
		bits |= place->head;
	if (layout->blocks > 1)
		bits |= place->block;
	if (layout->layers > 1)
		bits |= place->layer;
	return bits % 16 == 0 && place->token <= UINT32_MAX;
}

uint32_t syn_gpu_kind_of(const struct syn_component *c, uint32_t codec,
			 uint32_t raw)
{
	if (codec != SYN_CODEC_H4)
		return raw;
	return SYN_GPU_H4 | (c->role == SYN_ROLE_K ? SYN_GPU_KEYS : 0) |
	       (c->dtype == SYN_DTYPE_F16 ? SYN_GPU_F16 : 0) |
	       (c->dim == 128 ? SYN_GPU_DIM128 : 0);
}

/* ---- what can be -------------------------------------------------------- */

static bool page_is_direct(const struct syn_gpu_page *page)
{
	return page->codec == SYN_CODEC_RAW16 &&
	       (!page->layout ||
		place_is_canonical(&page->place, page->layout));
}

static uint64_t page_want_bytes(const struct syn_gpu_page *page)
{
	if (page->codec == SYN_CODEC_H4)
		return syn_layout_bytes(page->layout);
	return (uint64_t)page->nr_tiles *
	       syn_tile_raw_bytes(&page->layout->component[0]);
}

static bool page_can_be(const struct syn_gpu_loader *l,
			const struct syn_gpu_page *page)
{
	const struct syn_layout *layout = page->layout;

	if (!page->nr_tiles || !page->sums || page->src % 4 ||
	    (page->codec != SYN_CODEC_RAW16 && page->codec != SYN_CODEC_H4))
		return false;
	if (!layout)
		return page->codec == SYN_CODEC_RAW16 && page->bytes &&
		       page->bytes % (4ull * page->nr_tiles) == 0 &&
		       page->bytes / page->nr_tiles <= UINT32_MAX;
	if (page->nr_tiles != syn_layout_tiles(layout) ||
	    page->bytes != page_want_bytes(page))
		return false;
	return page_is_direct(page) ||
	       (page->src % 16 == 0 &&
		syn_gpu_place_can_be(&page->place, layout) &&
		syn_tile_raw_bytes(&layout->component[0]) <= l->slice_bytes);
}

/* ---- which way ---------------------------------------------------------- */

/* What a burst can take from where it is. */
static bool page_can_be_pulled(const struct syn_gpu_page *page)
{
	const struct syn_layout *layout = page->layout;

	if (!layout)
		return (page->src | page->place.base) % 16 == 0 &&
		       page->bytes / page->nr_tiles % (16 * SYN_GPU_ROWS) == 0;
	return page->src % 16 == 0 &&
	       syn_gpu_place_can_be(&page->place, layout);
}

static bool pages_are_pulled(const struct syn_gpu_page *pages, unsigned int nr)
{
	uint64_t bytes = 0;
	unsigned int runs = 0;

	for (unsigned int i = 0; i < nr; i++) {
		uint64_t end = i ? pages[i - 1].src + pages[i - 1].bytes : 0;

		/* Frames may be larger than pages: as a slice has it. */
		runs += !i || pages[i].src < end || pages[i].src - end >= 4096;
		bytes += pages[i].bytes;
		if (!page_can_be_pulled(&pages[i]))
			return false;
	}
	return bytes <= PULL_LITTLE_BYTES || bytes / runs < PULL_RUN_BYTES;
}

/* ---- tiles -------------------------------------------------------------- */

static int slice_send(struct loading *ld)
{
	struct syn_gpu_slice *slice = ld->slice;

	if (!slice)
		return ld->l->error;
	ld->slice = NULL;
	ld->jobs = syn_min(2 * ld->jobs, ld->most);
	return syn_gpu_slice_submit(ld->l, slice, ld->l->load, ld->blocks);
}

/* Makes sure that a tile of @bytes has room. */
static int slice_room(struct loading *ld, uint32_t bytes)
{
	struct syn_gpu_loader *l = ld->l;
	uint64_t most = ld->way == WAY_STAGE  ? l->slice_bytes
			: ld->way == WAY_PULL ? UINT64_MAX
					      : DIRECT_BYTES;
	int r;

	if (ld->slice && ld->slice->nr_jobs &&
	    (ld->slice->nr_jobs >= ld->jobs ||
	     ld->slice->staged + bytes > most)) {
		r = slice_send(ld);
		if (r)
			return r;
	}
	if (!ld->slice) {
		ld->slice = syn_gpu_slice_open(l);
		ld->slice->near = ld->near;
	}
	return l->error;
}

/* @token: from a row to the next at @dst. */
static int tile_add(struct loading *ld, uint32_t kind, uint32_t bytes,
		    uint64_t dst, uint64_t token)
{
	struct syn_gpu_slice *slice;
	uint64_t src = ld->src;
	int r = slice_room(ld, bytes);

	if (r)
		return r;
	slice = ld->slice;
	if (ld->way == WAY_STAGE) {
		src = syn_gpu_slice_stage(ld->l, slice, src, bytes);
	} else if (ld->way == WAY_DIRECT) {
		syn_gpu_slice_copy(ld->l, dst, src, bytes);
		slice->staged += bytes;
		src = dst;
	}
	slice->jobs[slice->nr_jobs++] = (struct syn_gpu_job){
		.src = src,
		.dst = dst,
		.bytes = bytes,
		.token = (uint32_t)token,
		.sum = ld->page->sums[ld->tile++],
		.page = ld->record,
		.kind = (uint16_t)kind,
	};
	ld->src += bytes;
	return 0;
}

/* Tiles of equal size, to where they lie one after the other. */
static int page_add_plain(struct loading *ld)
{
	const struct syn_gpu_page *page = ld->page;
	uint32_t bytes = (uint32_t)(page->bytes / page->nr_tiles);
	uint32_t kind = ld->way == WAY_PULL ? SYN_GPU_SPREAD : SYN_GPU_SUM;
	int r = 0;

	for (uint32_t i = 0; i < page->nr_tiles && !r; i++)
		r = tile_add(ld, kind, bytes,
			     page->place.base + (uint64_t)i * bytes,
			     bytes / SYN_GPU_ROWS);
	return r;
}

/**
 * struct column - a component of a layer.
 * @kind:	of its tiles.
 * @bytes:	of each, stored.
 */
struct column {
	uint32_t kind;
	uint32_t bytes;
};

static void columns_of(const struct syn_gpu_page *page, uint32_t layer,
		       struct column *ret)
{
	const struct syn_layout *layout = page->layout;

	for (uint32_t i = 0; i < layout->nr_components; i++) {
		const struct syn_component *c = &layout->component[i];
		uint32_t codec = page->codec == SYN_CODEC_H4
					 ? syn_layout_codec(layout, layer, i)
					 : SYN_CODEC_RAW16;

		ret[i].kind = syn_gpu_kind_of(c, codec, SYN_GPU_SPREAD);
		ret[i].bytes = codec == SYN_CODEC_H4 ? syn_tile_h4_bytes(c)
						     : syn_tile_raw_bytes(c);
	}
}

static int page_add_layer(struct loading *ld, uint32_t layer)
{
	const struct syn_layout *layout = ld->page->layout;
	const struct syn_gpu_place *place = &ld->page->place;
	const uint32_t nr = layout->nr_components;
	struct column column[SYN_COMPONENTS_MAX];
	int r = 0;

	columns_of(ld->page, layer, column);
	for (uint32_t block = 0; block < layout->blocks; block++) {
		uint64_t at = place->base + layer * place->layer +
			      block * place->block;

		for (uint32_t head = 0; head < layout->heads;
		     head++, at += place->head)
			for (uint32_t i = 0; i < nr && !r; i++)
				r = tile_add(ld, column[i].kind,
					     column[i].bytes,
					     at + i * place->component,
					     place->token);
	}
	return r;
}

static int page_add(struct loading *ld, struct syn_gpu_page *page, bool pull)
{
	struct syn_gpu_loader *l = ld->l;
	int r = 0;

	/* The oldest page may be one of the slice that is filled. */
	if (l->rec_tail - l->rec_head == SYN_GPU_RECORDS) {
		if (l->records[l->rec_head % SYN_GPU_RECORDS].slice == l->next)
			r = slice_send(ld);
		if (r)
			return r;
		syn_gpu_slices_wait(
			l, l->records[l->rec_head % SYN_GPU_RECORDS].slice);
	}
	ld->page = page;
	ld->record = syn_gpu_record_new(l, page);
	ld->tile = 0;
	ld->src = page->src;
	ld->way = pull			 ? WAY_PULL
		  : page_is_direct(page) ? WAY_DIRECT
					 : WAY_STAGE;
	if (!page->layout || ld->way == WAY_DIRECT)
		r = page_add_plain(ld);
	for (uint32_t i = 0; ld->tile < page->nr_tiles && !r; i++)
		r = page_add_layer(ld, i);
	l->records[ld->record].slice = l->next;
	return r;
}

/* @pull: bursts take tiles from where they are, by @blocks; 0: from HBM. */
static int pages_begin(struct syn_gpu_loader *l, struct syn_gpu_page *pages,
		       unsigned int nr, bool pull, unsigned int blocks)
{
	struct loading ld = {
		.l = l,
		.blocks = blocks,
		.jobs = pull ? SYN_GPU_JOBS_FIRST : SYN_GPU_JOBS,
		.most = blocks ? PULL_JOBS : SYN_GPU_JOBS,
		.near = pull && !blocks,
	};
	int r = l->error;

	for (unsigned int i = 0; i < nr; i++)
		pages[i].status = -EIO;
	for (unsigned int i = 0; i < nr && !r; i++)
		r = page_add(&ld, &pages[i], pull);
	if (!ld.slice && !r)
		ld.slice = syn_gpu_slice_open(l);
	return r ? r : slice_send(&ld);
}

/* ---- the interface ------------------------------------------------------ */

int syn_gpu_loader_open(struct syn_gpu *gpu, uint64_t staging_bytes,
			struct syn_gpu_loader **ret)
{
	struct syn_gpu_loader *l = syn_alloc(1, sizeof(*l));
	struct syn_gpu_scope scope;
	int r;

	if (!l)
		return -ENOMEM;
	l->gpu = gpu;
	r = syn_gpu_enter(gpu, &scope);
	if (r) {
		free(l);
		return r;
	}
	if (!staging_bytes)
		staging_bytes = STAGING_BYTES;
	r = syn_gpu_slices_new(
		l, syn_max(staging_bytes, (uint64_t)STAGING_BYTES_MIN));
	if (r)
		syn_gpu_slices_free(l);
	syn_gpu_leave(&scope);
	if (r)
		free(l);
	else
		*ret = l;
	return r;
}

void syn_gpu_loader_close(struct syn_gpu_loader *l)
{
	struct syn_gpu_scope scope;

	if (!l)
		return;
	if (!syn_gpu_enter(l->gpu, &scope)) {
		syn_gpu_slices_wait(l, l->next - 1);
		syn_gpu_slices_free(l);
		syn_gpu_leave(&scope);
	}
	free(l);
}

int syn_gpu_load_begin(struct syn_gpu_loader *l, struct syn_gpu_page *pages,
		       unsigned int nr, uint64_t *ret_ticket)
{
	struct syn_gpu_scope scope;
	bool pull;
	int r;

	for (unsigned int i = 0; i < nr; i++)
		if (!page_can_be(l, &pages[i]))
			return -EINVAL;
	pull = pages_are_pulled(pages, nr);
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	r = pages_begin(l, pages, nr, pull, pull ? PULL_BLOCKS : 0);
	syn_gpu_leave(&scope);
	if (!r)
		*ret_ticket = l->next - 1;
	return r;
}

int syn_gpu_load_order(struct syn_gpu_loader *l, uint64_t ticket, void *stream)
{
	const struct syn_cuda_api *api = l->gpu->api;
	struct syn_gpu_scope scope;
	int r;

	if (l->error)
		return l->error;
	if (ticket <= l->ended)
		return 0;
	if (ticket >= l->next)
		return -EINVAL;
	if (syn_fault())
		return -EIO;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	r = syn_gpu_stream_is_free(l->gpu, stream);
	if (!r)
		r = syn_cuda_errno(
			api,
			api->cuStreamWaitEvent(
				stream, l->slices[ticket % SYN_GPU_SLICES].done,
				0),
			"cuStreamWaitEvent");
	syn_gpu_leave(&scope);
	return r;
}

bool syn_gpu_load_done(struct syn_gpu_loader *l, uint64_t ticket)
{
	struct syn_gpu_scope scope;

	if (ticket > l->ended && !syn_gpu_enter(l->gpu, &scope)) {
		syn_gpu_slices_poll(l, ticket);
		syn_gpu_leave(&scope);
	}
	return ticket <= l->ended;
}

int syn_gpu_load_wait(struct syn_gpu_loader *l, uint64_t ticket)
{
	struct syn_gpu_scope scope;
	int r;

	if (ticket >= l->next)
		return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	syn_gpu_slices_wait(l, ticket);
	syn_gpu_leave(&scope);
	return l->error;
}

int syn_gpu_decode(struct syn_gpu_loader *l, struct syn_gpu_page *pages,
		   unsigned int nr)
{
	struct syn_gpu_scope scope;
	int r;

	for (unsigned int i = 0; i < nr; i++)
		if (!page_can_be(l, &pages[i]) ||
		    !page_can_be_pulled(&pages[i]))
			return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	r = pages_begin(l, pages, nr, true, 0);
	syn_gpu_slices_wait(l, l->next - 1);
	syn_gpu_leave(&scope);
	return r;
}
