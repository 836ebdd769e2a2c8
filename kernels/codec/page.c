/* SPDX-License-Identifier: Apache-2.0 */
/* Whole pages through a codec. */
#include "kernels/codec/page.h"

#include <errno.h>

#include "core/base/base.h"
#include "kernels/codec/h4.h"
#include "kernels/codec/sum.h"

#define H4_RAW_MAX (SYN_TILE_TOKENS * 128u * 2)

/**
 * struct walk - the tiles of a page, one after the other.
 * @l:		how they are stored.
 * @tile:	index of this one.
 * @per_layer:	tiles of a layer.
 * @canonical:	offset among the canonical bytes.
 * @stored:	offset among the stored ones.
 */
struct walk {
	const struct syn_layout *l;
	uint32_t tile;
	uint32_t per_layer;
	size_t canonical;
	size_t stored;
};

static uint32_t walk_layer(const struct walk *w)
{
	return w->tile / w->per_layer;
}

static uint32_t walk_component(const struct walk *w)
{
	return w->tile % w->l->nr_components;
}

static uint32_t walk_codec(const struct walk *w)
{
	return syn_layout_codec(w->l, walk_layer(w), walk_component(w));
}

static uint32_t walk_raw_bytes(const struct walk *w)
{
	return syn_tile_raw_bytes(&w->l->component[walk_component(w)]);
}

static uint32_t walk_stored_bytes(const struct walk *w)
{
	return syn_layout_tile_bytes(w->l, walk_layer(w), walk_component(w));
}

static void walk_next(struct walk *w)
{
	w->canonical += walk_raw_bytes(w);
	w->stored += walk_stored_bytes(w);
	w->tile++;
}

/* A page has some hundred tiles: stepping over them is cheap beside one. */
static void walk_begin(struct walk *ret, const struct syn_layout *l,
		       uint32_t first)
{
	*ret = (struct walk){
		.l = l,
		.per_layer = l->blocks * l->heads * l->nr_components,
	};
	while (ret->tile < first)
		walk_next(ret);
}

static int tile_encode(const struct walk *w, void *dst, const void *src,
		       uint32_t *ret_raw_sum, uint32_t *ret_stored_sum,
		       uint16_t *ret_error)
{
	_Alignas(64) unsigned char copy[H4_RAW_MAX];
	uint32_t bytes = walk_raw_bytes(w);
	int r;

	if (walk_codec(w) != SYN_CODEC_H4) {
		syn_sum_copy(dst, src, bytes, bytes, ret_raw_sum);
		*ret_stored_sum = *ret_raw_sum;
		*ret_error = 0;
		return 0;
	}
	syn_sum_copy(copy, src, bytes, bytes, ret_raw_sum);
	r = syn_h4_encode(dst, copy, &w->l->component[walk_component(w)],
			  ret_error);
	if (r < 0)
		return r;
	*ret_stored_sum = syn_sum(dst, walk_stored_bytes(w));
	return 0;
}

int syn_page_encode(void *dst, const void *src, const struct syn_layout *l,
		    uint32_t first, uint32_t nr, uint32_t *ret_raw_sums,
		    uint32_t *ret_stored_sums, uint16_t *ret_error)
{
	struct walk w;
	int r;

	for (walk_begin(&w, l, first); w.tile < first + nr; walk_next(&w)) {
		r = tile_encode(&w, (char *)dst + w.stored,
				(const char *)src + w.canonical,
				&ret_raw_sums[w.tile], &ret_stored_sums[w.tile],
				&ret_error[w.tile]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int tile_decode(const struct walk *w, void *dst, const void *src,
		       uint32_t want)
{
	_Alignas(64) unsigned char copy[H4_RAW_MAX];
	uint32_t bytes = walk_stored_bytes(w);
	uint32_t sum;

	if (walk_codec(w) != SYN_CODEC_H4) {
		syn_sum_copy(dst, src, bytes, bytes, &sum);
		return sum == want ? 0 : -EILSEQ;
	}
	syn_sum_copy(copy, src, bytes, bytes, &sum);
	if (sum != want)
		return -EILSEQ;
	syn_h4_decode(dst, copy, &w->l->component[walk_component(w)]);
	return 0;
}

int syn_page_decode(void *dst, const void *src, const struct syn_layout *l,
		    uint32_t first, uint32_t nr, const uint32_t *stored_sums,
		    uint32_t *ret_tile)
{
	struct walk w;
	int r;

	for (walk_begin(&w, l, first); w.tile < first + nr; walk_next(&w)) {
		r = tile_decode(&w, (char *)dst + w.canonical,
				(const char *)src + w.stored,
				stored_sums[w.tile]);
		if (r < 0) {
			*ret_tile = w.tile;
			return r;
		}
	}
	return 0;
}

int syn_page_copy(void *dst, const void *src, const struct syn_layout *l,
		  const uint32_t *stored_sums, uint32_t *ret_tile)
{
	const uint32_t nr = syn_layout_tiles(l);
	struct walk w;

	for (walk_begin(&w, l, 0); w.tile < nr; walk_next(&w)) {
		uint32_t bytes = walk_stored_bytes(&w);
		uint32_t sum;

		syn_sum_copy((char *)dst + w.stored,
			     (const char *)src + w.stored, bytes, bytes, &sum);
		if (sum != stored_sums[w.tile]) {
			*ret_tile = w.tile;
			return -EILSEQ;
		}
	}
	return 0;
}
