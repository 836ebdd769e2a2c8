/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries, made ready once for all bands; and how many bands there are.
 */
#ifndef SYN_KERNELS_ATTEND_QUERY_CUH
#define SYN_KERNELS_ATTEND_QUERY_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "kernels/attend/work.h"
#include "kernels/codec/h4-form.h"

#define ALL  0xffffffffu /* lanes */
#define ROWS SYN_ATTEND_ROWS

#define LOG2_E 1.44269504f
#define LN_2   0.693147181f

/* Digits are of base 128 and have a sign. */
#define QUERY_MOST 16256.0f

/**
 * struct query - query heads of a KV head, some of them zero.
 * @raw:	elements as they are; of eight, the second and third pair have
 *		changed places, as a product takes them.
 * @digits:	of the rotated ones, four high ones and four low ones by turns:
 *		128 high + low is the element in steps of @unit.
 * @mean:	elements in fp16, in the order of @raw and in units of
 *		@mean_unit: what means are multiplied with.
 * @unit:	and all that a product with levels needs to be a score, in
 *		powers of 2.
 * @mean_unit:	likewise, of a product with a mean.
 * @sum:	of 128 high + low.
 */
template <int DIM> struct query {
	uint16_t raw[ROWS][DIM];
	int8_t digits[ROWS][DIM / 4][2][4];
	__half mean[ROWS][DIM];
	float unit[ROWS];
	float mean_unit[ROWS];
	int32_t sum[ROWS];
};

static_assert(sizeof(query<128>) == SYN_ATTEND_QUERY_BYTES(128), "work.h");
static_assert(sizeof(query<64>) == SYN_ATTEND_QUERY_BYTES(64), "work.h");

template <int DIM>
static __device__ __forceinline__ query<DIM> *
query_of(const struct syn_attend_work *work, uint32_t seq, uint32_t head,
	 uint32_t take)
{
	return (query<DIM> *)work->queries +
	       ((uint64_t)seq * work->kv_heads + head) * work->takes + take;
}

template <bool F16>
static __device__ __forceinline__ float element_of(uint16_t bits)
{
	return F16 ? __half2float(__ushort_as_half(bits))
		   : __bfloat162float(__ushort_as_bfloat16(bits));
}

/* -1 for a channel that is negated, else 1. */
static __device__ __forceinline__ float sign_of(uint32_t channel)
{
	uint64_t bits = channel < 64 ? H4_SIGNS_0 : H4_SIGNS_1;

	return bits >> (channel % 64) & 1 ? -1.0f : 1.0f;
}

/* The transform of NR numbers that a lane has, natural order. */
template <int NR>
static __device__ __forceinline__ void transform_lane(float x[NR])
{
#pragma unroll
	for (int half = 1; half < NR; half *= 2) {
#pragma unroll
		for (int i = 0; i < NR; i++) {
			float a = x[i], b = x[i ^ half];

			if (i & half)
				continue;
			x[i] = a + b;
			x[i ^ half] = a - b;
		}
	}
}

/* ... and of all that LANES lanes have together. */
template <int NR, int LANES>
static __device__ __forceinline__ void transform_lanes(float x[NR])
{
	transform_lane<NR>(x);
#pragma unroll
	for (int half = 1; half < LANES; half *= 2) {
		bool second = threadIdx.x & half;

#pragma unroll
		for (int i = 0; i < NR; i++) {
			float other = __shfl_xor_sync(ALL, x[i], half);

			x[i] = second ? other - x[i] : x[i] + other;
		}
	}
}

/* ---- a query ------------------------------------------------------------ */

template <int LANES>
static __device__ __forceinline__ float max_of_lanes(float x)
{
#pragma unroll
	for (int half = 1; half < LANES; half *= 2)
		x = fmaxf(x, __shfl_xor_sync(ALL, x, half));
	return x;
}

/* Of channel @i among the elements. */
static __device__ __forceinline__ uint32_t place_of(uint32_t i)
{
	return (i & ~6u) | (i & 2) << 1 | (i & 4) >> 1;
}

/* Row @row, by a warp; lane l has the channels from l * NR on. */
template <int DIM, bool F16>
static __device__ void query_make(const struct syn_attend_work *work,
				  const uint16_t *q, uint32_t row,
				  query<DIM> *to)
{
	constexpr int NR = DIM / 32;
	const uint32_t first = threadIdx.x % 32 * NR;
	const float scale = work->scale * LOG2_E;
	float x[NR], most = 0, mean_unit = 0;
	int sum = 0;

#pragma unroll
	for (int i = 0; i < NR; i++) {
		uint16_t bits = q ? q[first + i] : 0;

		x[i] = element_of<F16>(bits);
		to->raw[row][place_of(first + i)] = bits;
		mean_unit = fmaxf(mean_unit, fabsf(x[i]));
	}
	mean_unit = max_of_lanes<32>(mean_unit);
#pragma unroll
	for (int i = 0; i < NR; i++) {
		to->mean[row][place_of(first + i)] =
			__float2half_rn(mean_unit > 0 ? x[i] / mean_unit : 0);
		x[i] *= sign_of(first + i);
	}
	transform_lanes<NR, 32>(x);
#pragma unroll
	for (int i = 0; i < NR; i++)
		most = fmaxf(most, fabsf(x[i]));
	most = max_of_lanes<32>(most);
#pragma unroll
	for (int i = 0; i < NR; i++) {
		int n = most > 0 ? __float2int_rn(x[i] / most * QUERY_MOST) : 0;
		int high = (n + 64) >> 7;

		to->digits[row][(first + i) / 4][0][(first + i) % 4] =
			(int8_t)high;
		to->digits[row][(first + i) / 4][1][(first + i) % 4] =
			(int8_t)(n - high * 128);
		sum += n;
	}
	sum = (int)__reduce_add_sync(ALL, (unsigned int)sum);
	if (threadIdx.x % 32)
		return;
	to->unit[row] = most / QUERY_MOST * scale * H4_SCALE_INV;
	to->mean_unit[row] = mean_unit * scale;
	to->sum[row] = sum;
}

/* ---- bands -------------------------------------------------------------- */

/* So many bands are told of at once: no more parts than a block has threads. */
#define TOLD 16u

static_assert(TOLD * SYN_ATTEND_WARPS * SYN_ATTEND_STRIP_MAX <= ROWS * 32,
	      "a thread a part");

/* Parts of a strip of a sequence of @nr. */
static __device__ __forceinline__ uint32_t strip_parts(uint32_t nr)
{
	return min(max(nr / SYN_ATTEND_STRIPS_MIN, 1u), SYN_ATTEND_STRIP_MAX);
}

static __device__ __forceinline__ uint32_t bands_of(uint32_t nr)
{
	const uint32_t parts = strip_parts(nr) * SYN_ATTEND_WARPS;

	return (nr + parts - 1) / parts;
}

/* By a block: the first band of sequence @n. */
static __device__ uint32_t bands_before(const struct syn_attend_work *work,
					uint32_t n)
{
	__shared__ uint32_t sum;

	if (threadIdx.x == 0)
		sum = 0;
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
		atomicAdd(&sum, bands_of(work->batch.seqs[i].nr));
	__syncthreads();
	return sum;
}

template <bool K_CODED, bool V_CODED>
static __device__ __forceinline__ bool
part_is(const struct syn_attend_part *part)
{
	return (part->k.codec == SYN_CODEC_H4) == K_CODED &&
	       (part->v.codec == SYN_CODEC_H4) == V_CODED;
}

/* Bands of sequence @n from band @b on, of which band @first is its first one. */
static __device__ void bands_tell_some(const struct syn_attend_work *work,
				       uint32_t n, uint32_t first, uint32_t b)
{
	__shared__ uint32_t others;
	const struct syn_attend_seq seq = work->batch.seqs[n];
	const uint32_t parts = strip_parts(seq.nr) * SYN_ATTEND_WARPS;
	const uint32_t i = threadIdx.x, part = b * parts + i;

	if (i == 0)
		others = 0;
	__syncthreads();
	if (i < TOLD * parts && part < seq.nr &&
	    !part_is<true, true>(work->batch.parts + seq.first + part))
		atomicOr(&others, 1u << i / parts);
	__syncthreads();
	if (i < TOLD && b + i < bands_of(seq.nr) &&
	    first + b + i < work->max_bands)
		work->bands[first + b + i] =
			n | (others >> i & 1 ? 0 : SYN_ATTEND_CODED);
	__syncthreads();
}

/* Number @i of @of blocks: what bands sequence @n has. */
static __device__ void bands_tell(const struct syn_attend_work *work,
				  uint32_t n, uint32_t i, uint32_t of)
{
	const uint32_t nr = bands_of(work->batch.seqs[n].nr);
	const uint32_t first = bands_before(work, n);

	if (i == 0 && threadIdx.x == 0) {
		work->first[n] = first;
		if (n + 1 == work->batch.nr_seqs)
			work->first[n + 1] = first + nr;
	}
	for (uint32_t b = i * TOLD; b < nr; b += of * TOLD)
		bands_tell_some(work, n, first, b);
}

/* ---- a block ------------------------------------------------------------ */

/* Eight query heads, a warp each; and bands of their sequence. */
template <int DIM, bool F16>
static __device__ void queries_make(const struct syn_attend_work *work)
{
	const uint32_t row = threadIdx.x / 32;
	const uint32_t take = blockIdx.x % work->takes;
	const uint32_t head = blockIdx.x / work->takes % work->kv_heads;
	const uint32_t seq = blockIdx.x / work->takes / work->kv_heads;
	const uint32_t i = take * ROWS + row;
	const uint16_t *q = (const uint16_t *)work->batch.q;

	q += ((uint64_t)(seq * work->kv_heads + head) * work->group + i) * DIM;
	query_make<DIM, F16>(work, i < work->group ? q : NULL, row,
			     query_of<DIM>(work, seq, head, take));
	bands_tell(work, seq, head * work->takes + take,
		   work->kv_heads * work->takes);
}

#endif
