/* SPDX-License-Identifier: Apache-2.0 */
/* Host extents full of stored pages, with their sums and what they decode to. */
#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"
#include "tools/bench/gpu.h"

#define STOCK_TILES (SYN_STOCK_PAIRS * SYN_PAIR_TILES)
#define STOCK_BYTES ((uint64_t)SYN_STOCK_PAIRS * SYN_PAIR_BYTES)
#define STOCK_DIM   128u
/* Encoded at once; a page of that many pairs has the limit's tiles at most. */
#define PAGE_PAIRS 32u
#define PAGE_TILES (PAGE_PAIRS * SYN_PAIR_TILES)
#define HEADS_MAX  8u

void syn_stock_layout(uint32_t pairs, struct syn_layout *ret)
{
	uint16_t heads = (uint16_t)syn_min(pairs, HEADS_MAX);
	const struct syn_component components[] = {
		{ .role = SYN_ROLE_K,
		  .dtype = SYN_DTYPE_F16,
		  .heads = heads,
		  .dim = STOCK_DIM,
		  .codec = SYN_CODEC_H4 },
		{ .role = SYN_ROLE_V,
		  .dtype = SYN_DTYPE_F16,
		  .heads = heads,
		  .dim = STOCK_DIM,
		  .codec = SYN_CODEC_H4 },
	};

	(void)syn_layout_init(ret, pairs / heads * SYN_TILE_TOKENS, 1,
			      SYN_PAIR_TILES, components, 0, 0);
}

/* @stored: all pairs, @stock->pair_bytes each. */
static int pairs_encode(struct syn_stock *stock, unsigned char *stored)
{
	uint32_t raw_sums[PAGE_TILES];
	uint16_t error[PAGE_TILES];
	struct syn_layout layout;
	int r = 0;

	syn_stock_layout(PAGE_PAIRS, &layout);
	for (uint32_t i = 0; i < SYN_STOCK_PAIRS && !r; i += PAGE_PAIRS)
		r = syn_page_encode(stored + (uint64_t)i * stock->pair_bytes,
				    stock->elements +
					    (uint64_t)i * SYN_PAIR_BYTES,
				    &layout, 0, PAGE_TILES, raw_sums,
				    stock->sums + i * SYN_PAIR_TILES, error);
	return r;
}

/* Random elements, and in HBM at rig->plain what is stored of them. */
static int pairs_make(struct syn_rig *rig, struct syn_stock *stock)
{
	uint64_t bytes = (uint64_t)SYN_STOCK_PAIRS * stock->pair_bytes;
	/* The rig's pinned memory is a buffer here, random as before. */
	unsigned char *stored = rig->pinned;
	int r;

	r = syn_rig_fill(rig, rig->plain, STOCK_BYTES, false, 2);
	if (!r)
		r = syn_rig_copy(rig, rig->engine, (uintptr_t)rig->pinned,
				 rig->plain, STOCK_BYTES);
	if (!r)
		r = syn_rig_wait(rig, rig->engine);
	if (r)
		return r;
	memcpy(stock->elements, rig->pinned, STOCK_BYTES);
	if (stock->codec == SYN_CODEC_RAW16) {
		syn_sum_tiles(stock->elements, STOCK_BYTES, SYN_TILE_BYTES,
			      stock->sums);
		return 0;
	}
	r = pairs_encode(stock, stored);
	if (!r)
		r = syn_rig_copy(rig, rig->engine, rig->plain,
				 (uintptr_t)stored, bytes);
	return r ? r : syn_rig_wait(rig, rig->engine);
}

/* The same pairs again and again, to the end of each extent. */
static int extents_fill(struct syn_rig *rig, struct syn_stock *stock)
{
	uint64_t all = (uint64_t)SYN_STOCK_PAIRS * stock->pair_bytes;
	uint64_t used = (uint64_t)stock->per_extent * stock->pair_bytes;
	int r = 0;

	for (uint32_t i = 0; i < stock->host.nr; i++) {
		uint64_t at = stock->host.at + i * stock->host.extent;

		for (uint64_t off = 0; off < used && !r; off += all)
			r = syn_rig_copy(rig, rig->engine, at + off, rig->plain,
					 syn_min(all, used - off));
	}
	return r ? r : syn_rig_wait(rig, rig->engine);
}

int syn_stock_open(struct syn_rig *rig, uint32_t codec, uint32_t nr_extents,
		   struct syn_stock *ret)
{
	struct syn_stock stock = { .codec = codec };
	struct syn_layout pair;
	int r = -ENOMEM;

	syn_stock_layout(1, &pair);
	stock.pair_bytes = codec == SYN_CODEC_H4
				   ? (uint32_t)syn_layout_bytes(&pair)
				   : SYN_PAIR_BYTES;
	stock.per_extent = (uint32_t)(SYN_HOST_EXTENT / stock.pair_bytes);
	stock.elements = malloc(STOCK_BYTES);
	stock.sums = syn_alloc(STOCK_TILES, sizeof(*stock.sums));
	if (stock.elements && stock.sums)
		r = syn_region_open(rig, SYN_TIER_HOST, SYN_HOST_EXTENT,
				    nr_extents, &stock.host);
	if (!r)
		r = pairs_make(rig, &stock);
	if (!r)
		r = extents_fill(rig, &stock);
	if (r)
		syn_stock_close(&stock);
	else
		*ret = stock;
	return r;
}

void syn_stock_close(struct syn_stock *stock)
{
	syn_region_close(&stock->host);
	free(stock->elements);
	free(stock->sums);
}

/* ---- pages -------------------------------------------------------------- */

static uint32_t pages_per_extent(const struct syn_stock *stock, uint32_t pairs)
{
	return stock->per_extent / pairs;
}

uint32_t syn_stock_pages(const struct syn_stock *stock, uint32_t pairs)
{
	return stock->host.nr * pages_per_extent(stock, pairs);
}

/* The first of the pairs that page @i repeats. */
static uint32_t page_pair(const struct syn_stock *stock, uint32_t pairs,
			  uint32_t i)
{
	return i % pages_per_extent(stock, pairs) * pairs % SYN_STOCK_PAIRS;
}

void syn_stock_page(const struct syn_stock *stock, uint32_t pairs, uint32_t i,
		    struct syn_gpu_page *ret)
{
	uint32_t per_extent = pages_per_extent(stock, pairs);
	uint64_t bytes = (uint64_t)pairs * stock->pair_bytes;

	*ret = (struct syn_gpu_page){
		.src = stock->host.at + i / per_extent * stock->host.extent +
		       i % per_extent * bytes,
		.bytes = bytes,
		.codec = stock->codec,
		.nr_tiles = pairs * SYN_PAIR_TILES,
		.sums = stock->sums +
			page_pair(stock, pairs, i) * SYN_PAIR_TILES,
	};
}

const unsigned char *syn_stock_elements(const struct syn_stock *stock,
					uint32_t pairs, uint32_t i)
{
	return stock->elements +
	       (uint64_t)page_pair(stock, pairs, i) * SYN_PAIR_BYTES;
}
