/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a window, read by the kernels of an engine.
 *
 * A page that is pinned is canonical or as it is stored: its address tells, see
 * syn_planes_have() in synapse/client.h.  Either way it is tiles, of 128 tokens
 * of a head and component; syn_page_tile() finds one, and the others read it.
 *
 * They give floats.  A raw element is what it is.  One of an h4 tile is the sum
 * of step 2 in Documentation/arithmetic.rst, not rounded to the element type:
 * whoever rounds it (fp16: first brought to between -65504 and 65504) has the
 * bits of the decoded page.  No flag of the compiler changes them.
 *
 * CUDA C++17.  syn_layout_init() makes a layout; kernels have it best as a
 * parameter.  No state.
 */
#ifndef SYNAPSE_PAGE_CUH
#define SYNAPSE_PAGE_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include <synapse/abi.h>
#include <synapse/codec.h>

/**
 * struct syn_tile - a tile that lies somewhere.
 * @at:		its first byte, a multiple of 16.
 * @codec:	SYN_CODEC_*, of these bytes.
 * @component:	what it is of.
 */
struct syn_tile {
	const unsigned char *at;
	uint32_t codec;
	struct syn_component component;
};

/*
 * The tile of (@layer, @block, @head, component @i) of the page at @page.
 * @stored: it is in a slot of pages as they are stored.
 */
static __host__ __device__ __forceinline__ struct syn_tile
syn_page_tile(const struct syn_layout *l, const void *page, bool stored,
	      uint32_t layer, uint32_t block, uint32_t head, uint32_t i)
{
	uint64_t at =
		stored ? syn_layout_stored_at(l, layer, block, head, i)
		       : syn_layout_canonical_at(l, layer, block, head, i);
	uint32_t codec = stored ? syn_layout_codec(l, layer, i)
				: (uint32_t)SYN_CODEC_RAW16;

	return { (const unsigned char *)page + at, codec, l->component[i] };
}

/* ---- parts -------------------------------------------------------------- */

/**
 * struct syn_tile_run - neighbouring halfwords, read at once.
 * @bits:	as they lie.
 */
template <uint32_t NR> struct alignas(2 * NR) syn_tile_run {
	uint16_t bits[NR];
};

static __device__ __forceinline__ float syn_tile_float(uint16_t bits, bool f16)
{
	return f16 ? __half2float(__ushort_as_half(bits))
		   : __uint_as_float((uint32_t)bits << 16);
}

/* From here on, @t is an h4 tile. */
static __device__ __forceinline__ uint32_t
syn_tile_mean_bytes(const struct syn_tile *t)
{
	return t->component.role == SYN_ROLE_K ? t->component.dim * 2 : 0;
}

static __device__ __forceinline__ float syn_tile_scale(const struct syn_tile *t,
						       uint32_t token)
{
	const uint16_t *scales =
		(const uint16_t *)(t->at + syn_tile_mean_bytes(t));

	return __fmul_rn(syn_tile_float(scales[token], true), SYN_H4_SCALE_INV);
}

static __device__ __forceinline__ const unsigned char *
syn_tile_codes(const struct syn_tile *t, uint32_t token)
{
	return t->at + syn_tile_mean_bytes(t) + SYN_TILE_TOKENS * 2 +
	       token * t->component.dim / 2;
}

/* The sizes of levels, a byte each and the first one lowest. */
static __device__ constexpr uint64_t syn_tile_levels(void)
{
	const int level[] = { SYN_H4_LEVELS };
	uint64_t r = 0;

	for (int i = 0; i < 8; i++)
		r |= (uint64_t)level[i] << 8 * i;
	return r;
}

/* Level of a code; higher bits of @code do not count. */
static __device__ __forceinline__ int syn_tile_level(uint32_t code)
{
	constexpr uint64_t levels = syn_tile_levels();
	uint32_t k = code & 8 ? code & 7 : ~code & 7;
	int level = __byte_perm((uint32_t)levels, levels >> 32, k) & 0xff;

	return code & 8 ? level : -level;
}

/* @sum: of the transform, in @channel. */
static __device__ __forceinline__ float syn_tile_scaled(int sum, float scale,
							uint32_t channel)
{
	uint64_t signs = channel < 64 ? SYN_H4_SIGNS_0 : SYN_H4_SIGNS_1;
	bool negative = signs >> channel % 64 & 1;

	return __fmul_rn(scale, (float)(negative ? -sum : sum));
}

static __device__ __forceinline__ uint32_t syn_tile_lane(void)
{
	uint32_t lane;

	asm("mov.u32 %0, %%laneid;" : "=r"(lane));
	return lane;
}

/* ---- an element --------------------------------------------------------- */

static __device__ __forceinline__ float
syn_tile_raw_element(const struct syn_tile *t, uint32_t token, uint32_t channel)
{
	const uint16_t *x = (const uint16_t *)t->at;

	return syn_tile_float(x[token * t->component.dim + channel],
			      t->component.dtype == SYN_DTYPE_F16);
}

static __device__ __forceinline__ float
syn_tile_h4_element(const struct syn_tile *t, uint32_t token, uint32_t channel)
{
	const unsigned char *codes = syn_tile_codes(t, token);
	float x;
	int sum = 0;

	for (uint32_t k = 0; k < t->component.dim; k++) {
		int level = syn_tile_level(codes[k / 2] >> (k % 2 * 4));

		sum += __popc(k & channel) & 1 ? -level : level;
	}
	x = syn_tile_scaled(sum, syn_tile_scale(t, token), channel);
	if (t->component.role == SYN_ROLE_K)
		x = __fadd_rn(x,
			      syn_tile_float(((const uint16_t *)t->at)[channel],
					     true));
	return x;
}

/*
 * One element, for any thread.  Of an h4 tile it costs what all of its token
 * cost, 64 or 128 codes read and summed: for more than a few take rows.
 */
static __device__ __forceinline__ float
syn_tile_element(const struct syn_tile *t, uint32_t token, uint32_t channel)
{
	if (t->codec == SYN_CODEC_H4)
		return syn_tile_h4_element(t, token, channel);
	return syn_tile_raw_element(t, token, channel);
}

/* ---- a token, by a warp ------------------------------------------------- */

template <uint32_t DIM>
static __device__ __forceinline__ void
syn_tile_raw_row(const struct syn_tile *t, uint32_t token, float ret[DIM / 32])
{
	using run = syn_tile_run<DIM / 32>;
	const bool f16 = t->component.dtype == SYN_DTYPE_F16;
	const run x = ((const run *)t->at)[token * 32 + syn_tile_lane()];

#pragma unroll
	for (uint32_t k = 0; k < DIM / 32; k++)
		ret[k] = syn_tile_float(x.bits[k], f16);
}

/*
 * The transform of a token.  This lane's channels two by two: the first of a
 * pair, and 2^16 times the other.  No sum has more than 15 bits.
 */
template <uint32_t DIM>
static __device__ __forceinline__ void
syn_tile_transform(const unsigned char *codes, int ret[DIM / 64])
{
	const uint32_t lane = syn_tile_lane();
	const uint32_t own =
		DIM == 128 ? ((const uint16_t *)codes)[lane] : codes[lane];

#pragma unroll
	for (uint32_t k = 0; k < DIM / 64; k++) {
		int a = syn_tile_level(own >> 8 * k);
		int b = syn_tile_level(own >> (8 * k + 4));

		ret[k] = a + b + (a - b) * 65536;
	}
	if (DIM == 128) {
		int a = ret[0], b = ret[DIM / 64 - 1];

		ret[0] = a + b;
		ret[DIM / 64 - 1] = a - b;
	}
#pragma unroll
	for (uint32_t h = 1; h < 32; h *= 2) {
#pragma unroll
		for (uint32_t k = 0; k < DIM / 64; k++) {
			int other = __shfl_xor_sync(0xffffffffu, ret[k], h);

			ret[k] = other + (lane & h ? -ret[k] : ret[k]);
		}
	}
}

template <uint32_t DIM>
static __device__ __forceinline__ void
syn_tile_h4_row(const struct syn_tile *t, uint32_t token, float ret[DIM / 32])
{
	using run = syn_tile_run<DIM / 32>;
	const uint32_t lane = syn_tile_lane();
	const float scale = syn_tile_scale(t, token);
	int pairs[DIM / 64];

	syn_tile_transform<DIM>(syn_tile_codes(t, token), pairs);
#pragma unroll
	for (uint32_t k = 0; k < DIM / 32; k++) {
		int pair = pairs[k / 2];
		int sum = k % 2 ? (pair + 32768) >> 16 : (int16_t)pair;

		ret[k] = syn_tile_scaled(sum, scale, lane * (DIM / 32) + k);
	}
	if (t->component.role == SYN_ROLE_K) {
		const run mean = ((const run *)t->at)[lane];

#pragma unroll
		for (uint32_t k = 0; k < DIM / 32; k++)
			ret[k] = __fadd_rn(ret[k],
					   syn_tile_float(mean.bits[k], true));
	}
}

/*
 * A token, by all 32 lanes of a warp, with the same arguments.  Lane n gets
 * channels n * DIM / 32 and up.  DIM: of the component, 64 or 128.
 * Of an h4 tile it is 5 or 10 shuffles.
 */
template <uint32_t DIM>
static __device__ __forceinline__ void
syn_tile_row(const struct syn_tile *t, uint32_t token, float ret[DIM / 32])
{
	static_assert(DIM == 64 || DIM == 128, "DIM");

	if (t->codec == SYN_CODEC_H4)
		syn_tile_h4_row<DIM>(t, token, ret);
	else
		syn_tile_raw_row<DIM>(t, token, ret);
}

#endif
