/* SPDX-License-Identifier: Apache-2.0 */
/* Pages into slices: which way each goes, tile by tile. */
#include "kernels/cuda/load.h"

#include <errno.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/slice.h"

/*
 * What can be copied until an engine's kernel lets bursts in.  With half of it,
 * loads take 2 % longer; twice as much leaves the GPU's cache, and loads of
 * small pages take 10 % longer.
 */
#define STAGING_BYTES	  (64u << 20)
#define STAGING_BYTES_MIN (1u << 20)

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
#define PULL_TILES  2048u

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
 * @tiles:	of a slice, at most.
 * @most:	what @tiles grows to.
 * @strip:	tiles of a job, at most.
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
	unsigned int tiles;
	unsigned int most;
	unsigned int strip;
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

static uint16_t kind_of(const struct syn_component *c, uint32_t codec,
			uint16_t raw)
{
	if (codec != SYN_CODEC_H4)
		return raw;
	return SYN_GPU_H4 | (c->role == SYN_ROLE_K ? SYN_GPU_KEYS : 0) |
	       (c->dtype == SYN_DTYPE_F16 ? SYN_GPU_F16 : 0) |
	       (c->dim == 128 ? SYN_GPU_DIM128 : 0);
}

void syn_gpu_columns_of(const struct syn_layout *layout, uint32_t layer,
			uint32_t codec, uint16_t raw,
			struct syn_gpu_column *ret)
{
	for (uint32_t i = 0; i < layout->nr_components; i++) {
		const struct syn_component *c = &layout->component[i];
		bool coded = codec == SYN_CODEC_H4 &&
			     syn_layout_codec(layout, layer, i) == SYN_CODEC_H4;

		ret[i] = (struct syn_gpu_column){
			.kind = kind_of(
				c, coded ? SYN_CODEC_H4 : SYN_CODEC_RAW16, raw),
			.raw = syn_tile_raw_bytes(c),
			.stored = coded ? syn_tile_h4_bytes(c)
					: syn_tile_raw_bytes(c),
		};
	}
}

/* ---- what can be -------------------------------------------------------- */

static bool page_is_direct(const struct syn_gpu_page *page)
{
	return page->as_stored ||
	       (page->codec == SYN_CODEC_RAW16 &&
		(!page->layout ||
		 place_is_canonical(&page->place, page->layout)));
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
	    (page->codec != SYN_CODEC_RAW16 && page->codec != SYN_CODEC_H4) ||
	    (page->as_stored && page->codec != SYN_CODEC_H4))
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
		(uint64_t)layout->nr_components *
				syn_tile_raw_bytes(&layout->component[0]) <=
			l->slice_bytes);
}

/* ---- which way ---------------------------------------------------------- */

/* What a burst can take from where it is. */
static bool page_can_be_pulled(const struct syn_gpu_page *page)
{
	const struct syn_layout *layout = page->layout;

	if (page->as_stored)
		return false;
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
	if (!ld->slice)
		return ld->l->error;
	ld->slice = NULL;
	ld->tiles = syn_min(2 * ld->tiles, ld->most);
	return syn_gpu_slice_submit(ld->l, ld->l->load, ld->blocks);
}

/* How many times @tiles, of @bytes altogether, the slice has room for. */
static uint32_t slice_fits(const struct loading *ld, uint32_t tiles,
			   uint64_t bytes)
{
	uint64_t most = ld->way == WAY_STAGE  ? ld->l->slice_bytes
			: ld->way == WAY_PULL ? UINT64_MAX
					      : SYN_GPU_PAST_BYTES;
	uint64_t used = ld->slice->staged + ld->slice->past;
	uint64_t nr = (ld->tiles - ld->slice->nr_tiles) / tiles;

	if (used >= most)
		return 0;
	return (uint32_t)syn_min(nr, (most - used) / bytes);
}

/*
 * The same, once there is room: as many as a job may have, up to @want.  What
 * has no room in an empty slice is alone in one.
 */
static int slice_room(struct loading *ld, uint32_t tiles, uint64_t bytes,
		      uint32_t want, uint32_t *ret)
{
	int r;

	if (ld->slice && ld->slice->nr_tiles && !slice_fits(ld, tiles, bytes)) {
		r = slice_send(ld);
		if (r)
			return r;
	}
	if (!ld->slice) {
		ld->slice = syn_gpu_slice_open(ld->l);
		ld->slice->near = ld->near;
	}
	want = syn_min(want, ld->strip);
	want = syn_min(want, slice_fits(ld, tiles, bytes));
	*ret = syn_max(want, 1u);
	return ld->l->error;
}

/* From where a burst takes @bytes that come next and go to @dst. */
static uint64_t bytes_bring(struct loading *ld, uint64_t dst, uint64_t bytes)
{
	struct syn_gpu_slice *slice = ld->slice;
	uint64_t src = ld->src;

	ld->src += bytes;
	if (ld->way == WAY_STAGE)
		return syn_gpu_slice_stage(ld->l, slice, src, bytes);
	slice->past += bytes;
	if (ld->way == WAY_PULL)
		return src;
	syn_gpu_slice_copy(ld->l, dst, src, bytes);
	return dst;
}

/* The sums of the @nr tiles that come next. */
static void sums_add(struct loading *ld, uint32_t nr)
{
	memcpy(ld->slice->sums + ld->slice->nr_tiles, ld->page->sums + ld->tile,
	       nr * sizeof(*ld->page->sums));
	ld->tile += nr;
}

/* Tiles of equal size, to where they lie one after the other. */
static int page_add_plain(struct loading *ld)
{
	const struct syn_gpu_page *page = ld->page;
	const uint64_t bytes = page->bytes / page->nr_tiles;
	const struct syn_gpu_place steps = {
		.head = bytes,
		.token = bytes / SYN_GPU_ROWS,
	};
	const struct syn_gpu_column column = {
		.kind = ld->way == WAY_PULL ? SYN_GPU_SPREAD : SYN_GPU_SUM,
		.raw = (uint32_t)bytes,
		.stored = (uint32_t)bytes,
	};
	const uint32_t most =
		(uint32_t)syn_max(SYN_GPU_STRIP_BYTES / bytes, (uint64_t)1);

	while (ld->tile < page->nr_tiles) {
		uint64_t at = page->place.base + ld->tile * bytes;
		struct syn_gpu_strip strip = {
			.place = at,
			.steps = &steps,
			.columns = &column,
			.nr_columns = 1,
			.page = ld->record,
		};
		int r = slice_room(ld, 1, bytes,
				   syn_min(most, page->nr_tiles - ld->tile),
				   &strip.nr_heads);

		if (r)
			return r;
		strip.stored = bytes_bring(ld, at, strip.nr_heads * bytes);
		sums_add(ld, strip.nr_heads);
		syn_gpu_slice_strip(ld->slice, &strip);
	}
	return 0;
}

/* Where what comes next goes, of a page that goes as it is stored. */
static uint64_t page_stored_at(const struct loading *ld)
{
	return ld->page->place.base + (ld->src - ld->page->src);
}

/* The heads of a block, the first of which goes to @at. */
static int page_add_block(struct loading *ld,
			  const struct syn_gpu_column *columns, uint64_t at)
{
	const struct syn_layout *layout = ld->page->layout;
	const struct syn_gpu_place *place = &ld->page->place;
	const uint32_t nr = layout->nr_components;
	struct syn_gpu_strip strip = {
		.steps = place,
		.columns = columns,
		.nr_columns = nr,
		.page = ld->record,
	};
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < nr; i++)
		bytes += columns[i].stored;
	for (uint32_t head = 0; head < layout->heads; head += strip.nr_heads) {
		int r = slice_room(ld, nr, bytes, layout->heads - head,
				   &strip.nr_heads);

		if (r)
			return r;
		strip.place = at + head * place->head;
		strip.stored = bytes_bring(ld, page_stored_at(ld),
					   strip.nr_heads * bytes);
		sums_add(ld, strip.nr_heads * nr);
		syn_gpu_slice_strip(ld->slice, &strip);
	}
	return 0;
}

/* Tiles of any size that are only summed, where they are. */
static void columns_in_place(struct syn_gpu_column *columns, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		columns[i].kind = SYN_GPU_SUM;
		columns[i].raw = columns[i].stored;
	}
}

static int page_add_layer(struct loading *ld, uint32_t layer)
{
	const struct syn_layout *layout = ld->page->layout;
	const struct syn_gpu_place *place = &ld->page->place;
	struct syn_gpu_column columns[SYN_COMPONENTS_MAX];
	int r = 0;

	syn_gpu_columns_of(layout, layer, ld->page->codec, SYN_GPU_SPREAD,
			   columns);
	if (ld->page->as_stored)
		columns_in_place(columns, layout->nr_components);
	for (uint32_t block = 0; block < layout->blocks && !r; block++)
		r = page_add_block(ld, columns,
				   place->base + layer * place->layer +
					   block * place->block);
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
	if (!page->layout || (ld->way == WAY_DIRECT && !page->as_stored))
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
		.tiles = pull ? SYN_GPU_TILES_FIRST : SYN_GPU_TILES,
		.most = blocks ? PULL_TILES : SYN_GPU_TILES,
		.strip = blocks ? 1 : SYN_GPU_STRIP,
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
				stream, l->slices[ticket % SYN_GPU_UNITS].done,
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
