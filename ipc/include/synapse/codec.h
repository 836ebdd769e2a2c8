/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored pages: how the bytes of a page lie in a tier below HBM.
 *
 * A page is stored tile by tile, in the order of its canonical bytes: for each
 * layer, for each block of SYN_TILE_TOKENS tokens, for each head, for each
 * component.  With codec raw16 the stored bytes are the canonical ones.  With
 * h4 a tile of keys or values is stored as Documentation/arithmetic.rst says;
 * every other tile, and the keys of the layers under the floor, stay raw.
 *
 * Sizes and constants only, no state.  Includes libc only; valid C and C++.
 */
#ifndef SYNAPSE_CODEC_H
#define SYNAPSE_CODEC_H

#include <stdint.h>
#include <string.h>

#include <synapse/abi.h>

/* Kernels call some of this, too. */
#ifdef __CUDACC__
#define SYN_HOST_DEVICE __host__ __device__
#else
#define SYN_HOST_DEVICE
#endif

/* The sizes of h4's levels: odd integers. */
#define SYN_H4_LEVELS 5, 15, 25, 37, 49, 63, 81, 107

/* A stored scale is in units of 2^-8 of a level: none of fp16 is too large. */
#define SYN_H4_SCALE	 256.0f
#define SYN_H4_SCALE_INV 0x1p-8f

/* Bit i: channel i is negated.  The first outputs of splitmix64 from seed 0. */
#define SYN_H4_SIGNS_0 0xe220a8397b1dcdafu
#define SYN_H4_SIGNS_1 0x6e789e6aa1b965f4u

/**
 * struct syn_layout - how the pages of one space are stored.
 * @layers:		layers of a page.
 * @blocks:		blocks of SYN_TILE_TOKENS tokens.
 * @heads:		heads of every component.
 * @nr_components:	used entries of @component.
 * @raw_head:		so many first layers keep their keys raw ...
 * @raw_tail:		... and so many last ones.
 * @component:		as in struct syn_msg_space.
 */
struct syn_layout {
	uint32_t layers;
	uint32_t blocks;
	uint32_t heads;
	uint32_t nr_components;
	uint32_t raw_head;
	uint32_t raw_tail;
	struct syn_component component[SYN_COMPONENTS_MAX];
};

/* Canonical bytes of a tile: two bytes an element. */
static inline SYN_HOST_DEVICE uint32_t
syn_tile_raw_bytes(const struct syn_component *c)
{
	return SYN_TILE_TOKENS * c->dim * 2;
}

/*
 * Bytes of an h4 tile: a mean for each channel (keys), a scale for each token,
 * both fp16, then four bits an element.
 */
static inline SYN_HOST_DEVICE uint32_t
syn_tile_h4_bytes(const struct syn_component *c)
{
	uint32_t mean = c->role == SYN_ROLE_K ? c->dim * 2 : 0;

	return mean + SYN_TILE_TOKENS * 2 + SYN_TILE_TOKENS * c->dim / 2;
}

/* SYN_CODEC_* of the tiles of component @i in @layer of an h4 page. */
static inline SYN_HOST_DEVICE uint32_t
syn_layout_codec(const struct syn_layout *l, uint32_t layer, uint32_t i)
{
	const struct syn_component *c = &l->component[i];

	if (c->codec != SYN_CODEC_H4)
		return SYN_CODEC_RAW16;
	if (c->role == SYN_ROLE_K &&
	    (layer < l->raw_head || layer + l->raw_tail >= l->layers))
		return SYN_CODEC_RAW16;
	return SYN_CODEC_H4;
}

/* Stored bytes of one of those tiles. */
static inline SYN_HOST_DEVICE uint32_t
syn_layout_tile_bytes(const struct syn_layout *l, uint32_t layer, uint32_t i)
{
	const struct syn_component *c = &l->component[i];

	return syn_layout_codec(l, layer, i) == SYN_CODEC_H4
		       ? syn_tile_h4_bytes(c)
		       : syn_tile_raw_bytes(c);
}

/* Tiles of a page. */
static inline uint32_t syn_layout_tiles(const struct syn_layout *l)
{
	return l->layers * l->blocks * l->heads * l->nr_components;
}

/* Stored bytes of an h4 page. */
static inline uint64_t syn_layout_bytes(const struct syn_layout *l)
{
	uint64_t sum = 0;
	uint32_t layer;
	uint32_t i;

	for (layer = 0; layer < l->layers; layer++)
		for (i = 0; i < l->nr_components; i++)
			sum += syn_layout_tile_bytes(l, layer, i);
	return sum * l->blocks * l->heads;
}

/* Of the layers before @layer, those in which component @i is raw. */
static inline SYN_HOST_DEVICE uint32_t
syn_layout_raw_layers(const struct syn_layout *l, uint32_t layer, uint32_t i)
{
	uint32_t head = layer < l->raw_head ? layer : l->raw_head;
	uint32_t tail = l->layers - l->raw_tail;

	if (l->component[i].codec != SYN_CODEC_H4)
		return layer;
	if (l->component[i].role != SYN_ROLE_K)
		return 0;
	if (tail < l->raw_head)
		tail = l->raw_head;
	return head + (layer > tail ? layer - tail : 0);
}

/*
 * Where the tile of (@layer, @block, @head, component @i) begins in an h4 page.
 * A few operations for each component.
 */
static inline SYN_HOST_DEVICE uint64_t
syn_layout_stored_at(const struct syn_layout *l, uint32_t layer, uint32_t block,
		     uint32_t head, uint32_t i)
{
	uint64_t before = 0; /* of a head and block, in the layers before */
	uint64_t here = 0;   /* of a head and block, in this one */
	uint64_t at = 0;
	uint32_t k;

	for (k = 0; k < l->nr_components; k++) {
		const struct syn_component *c = &l->component[k];
		uint64_t raw = syn_layout_raw_layers(l, layer, k);

		before += raw * syn_tile_raw_bytes(c) +
			  (layer - raw) * syn_tile_h4_bytes(c);
		if (k == i)
			at = here;
		here += syn_layout_tile_bytes(l, layer, k);
	}
	at += here * (block * l->heads + head);
	return at + before * l->blocks * l->heads;
}

/* The same in a canonical page. */
static inline SYN_HOST_DEVICE uint64_t
syn_layout_canonical_at(const struct syn_layout *l, uint32_t layer,
			uint32_t block, uint32_t head, uint32_t i)
{
	uint64_t tile = (uint64_t)layer * l->blocks + block;

	tile = (tile * l->heads + head) * l->nr_components + i;
	return tile * syn_tile_raw_bytes(&l->component[0]);
}

/*
 * Whether a space can be stored as h4: whole tiles, keys or values of 16 bits
 * in a dimension that has a Hadamard matrix here, the same heads everywhere,
 * tiles of one size.
 */
static inline int syn_layout_init(struct syn_layout *ret, uint32_t tokens,
				  uint32_t layers, uint32_t nr_components,
				  const struct syn_component *components,
				  uint32_t raw_head, uint32_t raw_tail)
{
	struct syn_layout l;
	uint32_t i;

	if (!tokens || tokens % SYN_TILE_TOKENS || !nr_components ||
	    nr_components > SYN_COMPONENTS_MAX || raw_head > layers ||
	    raw_tail > layers)
		return -1;
	memset(&l, 0, sizeof(l));
	l.layers = layers;
	l.blocks = tokens / SYN_TILE_TOKENS;
	l.heads = components[0].heads;
	l.nr_components = nr_components;
	l.raw_head = raw_head;
	l.raw_tail = raw_tail;
	for (i = 0; i < nr_components; i++) {
		const struct syn_component *c = &components[i];

		l.component[i] = *c;
		if (c->heads != l.heads || c->dim != components[0].dim ||
		    (c->dtype != SYN_DTYPE_F16 && c->dtype != SYN_DTYPE_BF16))
			return -1;
		if (c->codec != SYN_CODEC_H4)
			continue;
		if ((c->role != SYN_ROLE_K && c->role != SYN_ROLE_V) ||
		    (c->dim != 64 && c->dim != 128))
			return -1;
	}
	if ((uint64_t)layers * l.blocks * l.heads * nr_components >
	    SYN_TILES_MAX)
		return -1;
	*ret = l;
	return 0;
}

#endif
