/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of tiles in HBM: their sums, and what encoding them gives. */
#include <errno.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/slice.h"

/**
 * struct asking - a call that is being filled in.
 * @l:		whose.
 * @function:	that answers.
 * @tiles:	of a slice; it grows, so that the first burst begins soon.
 * @slice:	that is filled; NULL: none.
 * @answer:	for the tiles that come next; NULL: a new one is needed.
 * @next:	that one, but for its tiles.
 */
struct asking {
	struct syn_gpu_loader *l;
	CUfunction function;
	unsigned int tiles;
	struct syn_gpu_slice *slice;
	struct syn_gpu_answer *answer;
	struct syn_gpu_answer next;
};

static int slice_send(struct asking *a)
{
	if (!a->slice)
		return a->l->error;
	a->slice = NULL;
	a->answer = NULL;
	return syn_gpu_slice_submit(a->l, a->function, 0);
}

/* Of the following tiles; all of @next but how many. */
static void ask_for(struct asking *a, const struct syn_gpu_answer *next)
{
	a->answer = NULL;
	a->next = *next;
}

static void answer_new(struct asking *a)
{
	struct syn_gpu_slice *slice = a->slice;

	a->answer = &slice->answers[slice->nr_answers++];
	*a->answer = a->next;
	a->answer->first = slice->nr_tiles;
	a->answer->nr = 0;
}

/* How many times @tiles a job may have, up to @want; there is room for them. */
static int ask_room(struct asking *a, uint32_t tiles, uint32_t want,
		    uint32_t *ret)
{
	int r = a->l->error;

	if (a->slice && a->slice->nr_tiles + tiles > a->tiles) {
		a->tiles = syn_min(2 * a->tiles, SYN_GPU_TILES);
		r = slice_send(a);
	}
	if (r)
		return r;
	if (!a->slice) {
		a->slice = syn_gpu_slice_open(a->l);
		a->slice->near = true;
	}
	want = syn_min(want, SYN_GPU_STRIP);
	*ret = syn_min(want, (a->tiles - a->slice->nr_tiles) / tiles);
	return 0;
}

static void ask(struct asking *a, const struct syn_gpu_strip *strip)
{
	uint32_t nr = strip->nr_heads * strip->nr_columns;

	if (!a->answer)
		answer_new(a);
	syn_gpu_slice_strip(a->slice, strip);
	a->answer->nr += nr;
	if (a->next.raw_sums)
		a->next.raw_sums += nr;
	if (a->next.stored_sums) {
		a->next.stored_sums += nr;
		a->next.errors += nr;
	}
}

/* The rest of the slice, and the answers. */
static int asked(struct asking *a, int r)
{
	if (!r)
		r = slice_send(a);
	syn_gpu_slices_wait(a->l, a->l->next - 1);
	return r ? r : a->l->error;
}

/* Tiles from @at on, one after the other. */
static int tiles_sum(struct asking *a, uint64_t at, uint64_t nr, uint32_t bytes)
{
	const struct syn_gpu_place steps = { .head = bytes };
	const struct syn_gpu_column column = {
		.kind = SYN_GPU_SUM | SYN_GPU_TELL,
		.raw = bytes,
		.stored = bytes,
	};
	const uint32_t most = syn_max(SYN_GPU_STRIP_BYTES / bytes, 1u);
	struct syn_gpu_strip strip = {
		.place = at,
		.steps = &steps,
		.columns = &column,
		.nr_columns = 1,
		.in = true,
	};

	for (; nr; nr -= strip.nr_heads) {
		int r = ask_room(a, 1, (uint32_t)syn_min(nr, (uint64_t)most),
				 &strip.nr_heads);

		if (r)
			return r;
		ask(a, &strip);
		strip.place += (uint64_t)strip.nr_heads * bytes;
	}
	return 0;
}

int syn_gpu_sum(struct syn_gpu_loader *l, uint64_t at, uint64_t bytes,
		uint64_t tile_bytes, uint32_t *ret_sums)
{
	struct asking a = { .l = l,
			    .function = l->load,
			    .tiles = SYN_GPU_TILES_FIRST };
	struct syn_gpu_scope scope;
	int status = 0;
	int r;

	if (!bytes || !tile_bytes || bytes % tile_bytes || tile_bytes % 4 ||
	    tile_bytes > UINT32_MAX || at % 4)
		return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	ask_for(&a, &(struct syn_gpu_answer){ .raw_sums = ret_sums,
					      .status = &status });
	r = asked(&a,
		  tiles_sum(&a, at, bytes / tile_bytes, (uint32_t)tile_bytes));
	syn_gpu_leave(&scope);
	return r ? r : status;
}

/* ---- pages -------------------------------------------------------------- */

/**
 * struct asked_page - a page whose tiles are here and there.
 * @layout:	theirs.
 * @place:	where they are apart ...
 * @stored:	... and where they lie one after the other.
 * @codec:	in which they do.
 * @raw:	what is done with those that are raw.
 * @in:		from @place to @stored, else the other way.
 */
struct asked_page {
	const struct syn_layout *layout;
	const struct syn_gpu_place *place;
	uint64_t stored;
	uint32_t codec;
	uint16_t raw;
	bool in;
};

/* The heads of a block.  *@stored is where the first is, then the next block. */
static int block_ask(struct asking *a, const struct asked_page *page,
		     const struct syn_gpu_column *columns, uint64_t at,
		     uint64_t *stored)
{
	const struct syn_layout *l = page->layout;
	struct syn_gpu_strip strip = {
		.steps = page->place,
		.columns = columns,
		.nr_columns = l->nr_components,
		.in = page->in,
	};

	for (uint32_t head = 0; head < l->heads; head += strip.nr_heads) {
		int r = ask_room(a, strip.nr_columns, l->heads - head,
				 &strip.nr_heads);

		if (r)
			return r;
		strip.place = at + head * page->place->head;
		strip.stored = *stored;
		ask(a, &strip);
		for (uint32_t i = 0; i < strip.nr_columns; i++)
			*stored += (uint64_t)strip.nr_heads * columns[i].stored;
	}
	return 0;
}

static int page_ask(struct asking *a, const struct asked_page *page)
{
	const struct syn_gpu_place *place = page->place;
	const struct syn_layout *l = page->layout;
	uint64_t stored = page->stored;
	int r = 0;

	for (uint32_t layer = 0; layer < l->layers; layer++) {
		struct syn_gpu_column columns[SYN_COMPONENTS_MAX];

		syn_gpu_columns_of(l, layer, page->codec, page->raw, columns);
		for (uint32_t block = 0; block < l->blocks && !r; block++)
			r = block_ask(a, page, columns,
				      place->base + layer * place->layer +
					      block * place->block,
				      &stored);
	}
	return r;
}

/* ---- moving ------------------------------------------------------------- */

static int pages_move(struct syn_gpu_loader *l,
		      const struct syn_gpu_spread *pages, unsigned int nr,
		      bool in)
{
	struct asking a = { .l = l,
			    .function = in ? l->encode : l->load,
			    .tiles = SYN_GPU_TILES_FIRST };
	struct syn_gpu_scope scope;
	int status = 0;
	int r;

	for (unsigned int i = 0; i < nr; i++)
		if (pages[i].slot % 16 ||
		    !syn_gpu_place_can_be(&pages[i].place, pages[i].layout))
			return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	/* Nobody asks for the sums. */
	ask_for(&a, &(struct syn_gpu_answer){ .status = &status });
	for (unsigned int i = 0; i < nr && !r; i++)
		r = page_ask(&a,
			     &(struct asked_page){
				     .layout = pages[i].layout,
				     .place = &pages[i].place,
				     .stored = pages[i].slot,
				     .codec = SYN_CODEC_RAW16,
				     .raw = in ? SYN_GPU_GATHER
					       : SYN_GPU_SPREAD | SYN_GPU_TELL,
				     .in = in,
			     });
	r = asked(&a, r);
	syn_gpu_leave(&scope);
	return r ? r : status;
}

int syn_gpu_spread(struct syn_gpu_loader *l, const struct syn_gpu_spread *pages,
		   unsigned int nr)
{
	return pages_move(l, pages, nr, false);
}

int syn_gpu_gather(struct syn_gpu_loader *l, const struct syn_gpu_spread *pages,
		   unsigned int nr)
{
	return pages_move(l, pages, nr, true);
}

/* ---- encoding ----------------------------------------------------------- */

static int page_encode(struct asking *a, struct syn_gpu_encoding *page)
{
	page->status = 0;
	ask_for(a, &(struct syn_gpu_answer){ .raw_sums = page->raw_sums,
					     .stored_sums = page->stored_sums,
					     .errors = page->errors,
					     .status = &page->status });
	return page_ask(a, &(struct asked_page){
				   .layout = page->layout,
				   .place = &page->place,
				   .stored = page->dst,
				   .codec = SYN_CODEC_H4,
				   .raw = SYN_GPU_GATHER,
				   .in = true,
			   });
}

int syn_gpu_encode(struct syn_gpu_loader *l, struct syn_gpu_encoding *pages,
		   unsigned int nr)
{
	struct asking a = { .l = l,
			    .function = l->encode,
			    .tiles = SYN_GPU_TILES_FIRST };
	struct syn_gpu_scope scope;
	int r;

	for (unsigned int i = 0; i < nr; i++)
		if (pages[i].dst % 16 ||
		    !syn_gpu_place_can_be(&pages[i].place, pages[i].layout))
			return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	for (unsigned int i = 0; i < nr && !r; i++)
		r = page_encode(&a, &pages[i]);
	r = asked(&a, r);
	for (unsigned int i = 0; i < nr && r; i++)
		pages[i].status = r;
	syn_gpu_leave(&scope);
	return r;
}
