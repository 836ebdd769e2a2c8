/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoded keys and values, as they are stored: products of digits and levels
 * in bytes, summed in 32 bits and so exact.
 *
 * Rows below 8 are made with the high digit, those from 8 on with the low one.
 * A level is 2 u - 127, u a byte, so a sum of products with levels is twice the
 * one with bytes, less 127 times the sum of what they are multiplied with.
 */
#ifndef SYN_KERNELS_ATTEND_CODED_CUH
#define SYN_KERNELS_ATTEND_CODED_CUH

#include "kernels/attend/raw.cuh"
#include "kernels/cuda/levels.cuh"

/* Weights are two digits of base 256; and a number in the last bits of a float. */
#define WEIGHT_MOST 65280.0f
#define WEIGHT_ZERO 12582912.0f

/* Rows of @a by columns of @b, bytes, and @c. */
#define BYTES_PRODUCT(name, types)                                             \
	static __device__ __forceinline__ void name(                           \
		int ret[4], const uint32_t a[4], uint32_t b0, uint32_t b1,     \
		const int c[4])                                                \
	{                                                                      \
		asm("mma.sync.aligned.m16n8k32.row.col.s32." types ".s32 "     \
		    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "           \
		    "{%10, %11, %12, %13};"                                    \
		    : "=r"(ret[0]), "=r"(ret[1]), "=r"(ret[2]), "=r"(ret[3])   \
		    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0),     \
		      "r"(b1), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));    \
	}

BYTES_PRODUCT(query_product, "s8.u8")  /* those of @a with a sign */
BYTES_PRODUCT(weight_product, "u8.u8") /* without */

/* ---- in shared memory --------------------------------------------------- */

/**
 * struct coded_tile - a tile on its way through a warp.
 * @mean:	of keys.
 * @scales:	of tokens.
 * @codes:	rows, in order; of the eight vectors of 128 bytes, those of
 *		tokens 32 further are in other places, for the lanes that take
 *		them are in other banks then.
 */
template <int DIM> struct coded_tile {
	uint4 mean[DIM / 8];
	uint4 scales[SYN_TILE_TOKENS / 8];
	uint4 codes[SYN_TILE_TOKENS * DIM / 32];
};

static_assert(sizeof(coded_tile<128>) == SYN_ATTEND_TILE_BYTES(128), "work.h");

/* NR vectors. */
template <int NR>
static __device__ __forceinline__ void vectors_fetch(uint4 *to, const char *at)
{
	if (threadIdx.x % 32 < NR)
		vector_begin(to + threadIdx.x % 32, at + threadIdx.x % 32 * 16);
}

/* Begins to fetch a tile, which is a group. */
template <int DIM, bool KEYS>
static __device__ __forceinline__ void coded_fetch(coded_tile<DIM> *to,
						   const char *at)
{
	constexpr uint32_t ROUNDS = SYN_TILE_TOKENS * DIM / 32 / 32;
	const uint32_t lane = threadIdx.x % 32;

	if (KEYS)
		vectors_fetch<DIM / 8>(to->mean, at);
	at += KEYS ? DIM * 2 : 0;
	vectors_fetch<SYN_TILE_TOKENS / 8>(to->scales, at);
	at += SYN_TILE_TOKENS * 2;
#pragma unroll
	for (uint32_t i = 0; i < ROUNDS; i++)
		vector_begin(&to->codes[i * 32 + (lane ^ i * 4 / ROUNDS * 2)],
			     at + (i * 32 + lane) * 16);
	vectors_begun();
}

/* Until all tiles are there but the last LATER ones. */
template <int LATER> static __device__ __forceinline__ void coded_wait(void)
{
	vectors_wait<LATER>();
	__syncwarp();
}

/* NR words of token 32 @quad + @t, from byte @at of its row on. */
template <int DIM, int NR>
static __device__ __forceinline__ void coded_row(const coded_tile<DIM> *tile,
						 uint32_t quad, uint32_t t,
						 uint32_t at, uint32_t ret[NR])
{
	constexpr uint32_t ROW = DIM / 2, PER_LINE = 128 / ROW;
	const uint32_t in_line = t % PER_LINE * ROW + at;
	const char *from = (const char *)tile->codes + quad * 32 * ROW +
			   (in_line ^ quad * 32) + t / PER_LINE * 128;

	if constexpr (NR == 4) {
		uint4 v = *(const uint4 *)from;

		ret[0] = v.x;
		ret[1] = v.y;
		ret[2] = v.z;
		ret[3] = v.w;
	} else if constexpr (NR == 2) {
		uint2 v = *(const uint2 *)from;

		ret[0] = v.x;
		ret[1] = v.y;
	} else {
		ret[0] = *(const uint32_t *)from;
	}
}

static __device__ __forceinline__ float2 scale_pair(uint32_t bits)
{
	__half2 h;

	memcpy(&h, &bits, 4);
	return __half22float2(h);
}

/* The scales of a lane's tokens in product @j. */
template <int DIM>
static __device__ __forceinline__ float2 scale_of(const coded_tile<DIM> *tile,
						  int j)
{
	const uint32_t *of = (const uint32_t *)tile->scales;

	return scale_pair(of[lane_quad() * 16 + j]);
}

/*
 * The levels, in shared memory, twice: what a lane reads there stays in its
 * registers, while what is the same for all of them is made anew for every use.
 */
static __device__ __forceinline__ struct levels *levels_shared(void)
{
	__shared__ struct levels levels[2];

	return levels;
}

/* By all threads of a block, before anything else. */
static __device__ __forceinline__ void levels_prepare(void)
{
	if (threadIdx.x < 2)
		levels_shared()[threadIdx.x] = levels_make();
	__syncthreads();
}

static __device__ __forceinline__ struct levels levels_get(void)
{
	return levels_shared()[threadIdx.x % 2];
}

/* ---- keys --------------------------------------------------------------- */

/* The row's query by the mean, which is in all columns. */
template <int DIM>
static __device__ __forceinline__ float mean_score(const uint4 *mean,
						   const query<DIM> *query)
{
	const uint4 *q = (const uint4 *)query->mean[lane_row()] + lane_quad();
	float one[4] = {}, two[4] = {};

#pragma unroll
	for (int i = 0; i < DIM / 32; i++) {
		uint32_t a[4], b[4];

		vector_get(q + 4 * i, a);
		vector_get(mean + lane_quad() + 4 * i, b);
		raw_product<true>(one, a, b[0], b[1], one);
		raw_product<true>(two, a, b[2], b[3], two);
	}
	return (one[0] + two[2]) * query->mean_unit[lane_row()];
}

/* Of loops that are not unrolled any further, for their code has to be small. */
#define KEY_TURNS   4
#define VALUE_TURNS 4 /* of 32 tokens, as many as a product takes */

/* The last of @x make room, for what comes next. */
template <int NR, int ROOM>
static __device__ __forceinline__ void moved_up(float x[NR])
{
#pragma unroll
	for (int i = 0; i + ROOM < NR; i++)
		x[i] = x[i + ROOM];
}

/* Scores of all tokens; a lane has DIM / 4 channels of what goes in. */
template <int DIM>
static __device__ __forceinline__ void coded_scores(const coded_tile<DIM> *k,
						    const query<DIM> *query,
						    float ret[PRODUCTS][2])
{
	const float mean = mean_score<DIM>(k->mean, query);
	const int zero = 127 * query->sum[lane_row()];
	const float unit = query->unit[lane_row()];
	const struct levels levels = levels_get();
	const uint4 *digits = (const uint4 *)query->digits[lane_row()] +
			      lane_quad() * (DIM / 32);
	uint32_t a[DIM / 32][4];

#pragma unroll
	for (int i = 0; i < DIM / 32; i++)
		vector_get(digits + i, a[i]);
#pragma unroll 1
	for (int turn = 0; turn < KEY_TURNS; turn++) {
		moved_up<PRODUCTS * 2, PRODUCTS * 2 / KEY_TURNS>(ret[0]);
#pragma unroll
		for (int n = 0; n < PRODUCTS / KEY_TURNS; n++) {
			const int j = turn * (PRODUCTS / KEY_TURNS) + n;
			float *x = ret[PRODUCTS - PRODUCTS / KEY_TURNS + n];
			const float2 alpha = scale_of(k, j);
			uint32_t b[DIM / 32];
			int c[4] = {};

			coded_row<DIM, DIM / 32>(k, lane_row() / 2,
						 2 * j + lane_row() % 2,
						 lane_quad() * (DIM / 8), b);
#pragma unroll
			for (int i = 0; i < DIM / 32; i++) {
				uint32_t u[2];

				eight_levels(&levels, b[i], u);
				query_product(c, a[i], u[0], u[1], c);
			}
			x[0] = 2 * (128 * c[0] + c[2]) - zero;
			x[1] = 2 * (128 * c[1] + c[3]) - zero;
			x[0] = x[0] * (unit * alpha.x) + mean;
			x[1] = x[1] * (unit * alpha.y) + mean;
		}
	}
}

/* ---- values ------------------------------------------------------------- */

/* Rows of four bytes, given and taken: byte i of row k is byte k of row i. */
static __device__ __forceinline__ void bytes_turn(const uint32_t x[4],
						  uint32_t ret[4])
{
	uint32_t a = __byte_perm(x[0], x[1], 0x5140);
	uint32_t b = __byte_perm(x[2], x[3], 0x5140);
	uint32_t c = __byte_perm(x[0], x[1], 0x7362);
	uint32_t d = __byte_perm(x[2], x[3], 0x7362);

	ret[0] = __byte_perm(a, b, 0x5410);
	ret[1] = __byte_perm(a, b, 0x7632);
	ret[2] = __byte_perm(c, d, 0x5410);
	ret[3] = __byte_perm(c, d, 0x7632);
}

/* Digits of four weights, the numbers in the last bits of @w. */
static __device__ __forceinline__ void
weight_digits(const float w[2][2], uint32_t *ret_high, uint32_t *ret_low)
{
	uint32_t a = __byte_perm(__float_as_uint(w[0][0]),
				 __float_as_uint(w[0][1]), 0x5140);
	uint32_t b = __byte_perm(__float_as_uint(w[1][0]),
				 __float_as_uint(w[1][1]), 0x5140);

	*ret_low = __byte_perm(a, b, 0x5410);
	*ret_high = __byte_perm(a, b, 0x7632);
}

/*
 * Weights times scales, none of which is negative, in units of which the largest
 * is the most: numbers in the last bits.  Returns the unit.
 */
template <int DIM>
static __device__ __forceinline__ float weights_scale(const coded_tile<DIM> *v,
						      float w[PRODUCTS][2])
{
	float most = 0, unit;

#pragma unroll
	for (int j = 0; j < PRODUCTS; j++) {
		const float2 alpha = scale_of(v, j);

		w[j][0] *= alpha.x;
		w[j][1] *= alpha.y;
		most = fmaxf(most, fmaxf(w[j][0], w[j][1]));
	}
	most = max_of_lanes<4>(most);
	unit = most > 0 ? __fdividef(WEIGHT_MOST, most) : 0;
#pragma unroll
	for (int j = 0; j < PRODUCTS; j++) {
		w[j][0] = fmaf(w[j][0], unit, WEIGHT_ZERO);
		w[j][1] = fmaf(w[j][1], unit, WEIGHT_ZERO);
	}
	return most / WEIGHT_MOST;
}

/*
 * The levels of a lane's tokens @t to @t + 3, by channel: eight of the 64 from
 * 64 @half on.
 */
template <int DIM>
static __device__ __forceinline__ void
levels_turned(const struct levels *levels, const coded_tile<DIM> *v,
	      uint32_t half, uint32_t t, uint32_t ret[8])
{
	uint32_t u[4][2];

#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t codes;

		coded_row<DIM, 1>(v, lane_quad(), t + i,
				  half * 32 + lane_row() * 4, &codes);
		eight_levels(levels, codes, u[i]);
	}
#pragma unroll
	for (int k = 0; k < 2; k++) {
		const uint32_t x[4] = { u[0][k], u[1][k], u[2][k], u[3][k] };

		bytes_turn(x, ret + 4 * k);
	}
}

/* ... of all tokens, by the digits of their weights, which go round once. */
template <int DIM>
static __device__ __forceinline__ void
values_product(const struct levels *levels, const coded_tile<DIM> *v,
	       uint32_t half, uint32_t a[VALUE_TURNS][4], int ret[8][4])
{
#pragma unroll 1
	for (uint32_t turn = 0; turn < VALUE_TURNS; turn++) {
		const uint32_t first[4] = { a[0][0], a[0][1], a[0][2],
					    a[0][3] };
		uint32_t b[2][8];

		levels_turned<DIM>(levels, v, half, 8 * turn, b[0]);
		levels_turned<DIM>(levels, v, half, 8 * turn + 4, b[1]);
#pragma unroll
		for (int i = 0; i < 8; i++)
			weight_product(ret[i], first, b[0][i], b[1][i], ret[i]);
#pragma unroll
		for (int i = 0; i < VALUE_TURNS * 4; i++)
			a[i / 4][i % 4] = i / 4 + 1 < VALUE_TURNS
						  ? a[i / 4 + 1][i % 4]
						  : first[i % 4];
	}
}

/*
 * Adds weighted values, not rotated back, to @sum, where they are as those of
 * raw_values() are: number 16 r + 8 e + i is channel 64 r + 16 (l % 4) + 8 e + i.
 */
template <int DIM>
static __device__ __forceinline__ void
coded_values(const coded_tile<DIM> *v, float w[PRODUCTS][2], float sum[DIM / 4])
{
	const float unit = weights_scale(v, w) * H4_SCALE_INV;
	const struct levels levels = levels_get();
	uint32_t a[VALUE_TURNS][4];
	int all[4] = {}, zero;

#pragma unroll
	for (int s = 0; s < VALUE_TURNS; s++) {
		weight_digits(w + 4 * s, &a[s][0], &a[s][1]);
		weight_digits(w + 4 * s + 2, &a[s][2], &a[s][3]);
		weight_product(all, a[s], 0x01010101u, 0x01010101u, all);
	}
	zero = 127 * (256 * all[0] + all[2]);
#pragma unroll
	for (int r = 0; r < DIM / 64; r++) {
		int c[8][4] = {};

		values_product<DIM>(&levels, v, r, a, c);
#pragma unroll
		for (int i = 0; i < 16; i++) {
			const int x =
				256 * c[i % 8][i / 8] + c[i % 8][2 + i / 8];

			sum[16 * r + i] += unit * (float)(2 * x - zero);
		}
	}
}

#endif
