/* SPDX-License-Identifier: Apache-2.0 */
/* The bands of a sequence become its output and LSE, and shares of parts. */
#ifndef SYN_KERNELS_ATTEND_MERGE_CUH
#define SYN_KERNELS_ATTEND_MERGE_CUH

#include "kernels/attend/part.cuh"

#define MERGERS SYN_ATTEND_MERGERS

/**
 * struct merged - of some bands.
 * @value:	sums by channel, four a vector.
 * @sm:		weights.
 */
template <int DIM> struct merged {
	float4 value[DIM / 4];
	struct softmax sm;
};

/* Bands [@first, @end) of query head @i; this thread's channels. */
template <int DIM>
static __device__ void bands_add(const struct syn_attend_work *work, uint32_t i,
				 uint32_t first, uint32_t end, merged<DIM> *ret)
{
	const uint32_t heads = work->kv_heads * work->group;
	const uint32_t vector = threadIdx.x % (DIM / 4);
	const float2 *sums = (const float2 *)work->sums + i;
	const float4 *values = (const float4 *)work->values + vector;
	float4 value = { 0, 0, 0, 0 };
	struct softmax sm = { -INFINITY, 0 };

	for (uint32_t k = first; k < end; k++)
		sm.max = fmaxf(sm.max, sums[(uint64_t)k * heads].x);
#pragma unroll 8
	for (uint32_t k = first; k < end; k++) {
		const uint64_t at = (uint64_t)k * heads;
		const float factor = power_of_2(sums[at].x - sm.max);

		sm.weight += factor * sums[at].y;
		value_add(&value, factor, &values[(at + i) * (DIM / 4)]);
	}
	ret->value[vector] = value;
	if (vector == 0)
		ret->sm = sm;
}

/* All of them, in order. */
template <int DIM>
static __device__ float4 merged_add(const merged<DIM> *all, struct softmax *ret)
{
	float4 value = { 0, 0, 0, 0 };

	*ret = { -INFINITY, 0 };
	for (uint32_t k = 0; k < MERGERS; k++)
		ret->max = fmaxf(ret->max, all[k].sm.max);
	for (uint32_t k = 0; k < MERGERS; k++) {
		const float factor =
			all[k].sm.weight > 0
				? power_of_2(all[k].sm.max - ret->max)
				: 0;

		ret->weight += factor * all[k].sm.weight;
		value_add(&value, factor,
			  &all[k].value[threadIdx.x % (DIM / 4)]);
	}
	return value;
}

/*
 * A block: a query head of a sequence.  Groups of threads, one for four
 * channels, take bands that follow each other.
 */
template <int DIM>
static __device__ void bands_merge(const struct syn_attend_work *work)
{
	__shared__ merged<DIM> all[MERGERS];
	const uint32_t heads = work->kv_heads * work->group;
	const uint32_t n = blockIdx.x / heads, i = blockIdx.x % heads;
	const uint32_t group = threadIdx.x / (DIM / 4);
	const struct syn_attend_seq seq = work->batch.seqs[n];
	const uint32_t first = work->first[n], end = work->first[n + 1];
	const bool fits = end <= work->max_bands;
	const uint32_t each = (end - first + MERGERS - 1) / MERGERS;
	const uint32_t from = min(first + group * each, end);
	float4 *out = (float4 *)work->batch.out + blockIdx.x * (DIM / 4);
	struct softmax sm;
	float4 value, sum = { 0, 0, 0, 0 };
	float lse;

	bands_add<DIM>(work, i, from, fits ? min(from + each, end) : from,
		       &all[group]);
	__syncthreads();
	value = merged_add<DIM>(all, &sm);
	lse = sm.max + log2f(sm.weight);
	if (!fits)
		lse = sm.weight = value.x = value.y = value.z = value.w = NAN;
	if (seq.nr)
		value_add(&sum, 1 / sm.weight, &value);
	if (threadIdx.x < DIM / 4)
		out[threadIdx.x] = sum;
	if (threadIdx.x)
		return;
	work->batch.lse[blockIdx.x] = lse * LN_2;
	((float2 *)work->totals)[blockIdx.x] = make_float2(sm.max, sm.weight);
}

/*
 * Blocks for a sequence: what bands said of parts is divided by all of them.
 * A thread stays with a query head, if there are not too many.
 */
static __device__ void shares_divide(const struct syn_attend_work *work)
{
	const uint32_t heads = work->kv_heads * work->group;
	const uint32_t width = min(heads, blockDim.x);
	const uint32_t rows = blockDim.x / width;
	const uint32_t row = threadIdx.x / width;
	const uint32_t n = blockIdx.x / SYN_ATTEND_SHARERS;
	const struct syn_attend_seq seq = work->batch.seqs[n];
	const uint32_t parts = strip_parts(seq.nr) * SYN_ATTEND_WARPS;
	const float2 *sums =
		(const float2 *)work->sums + (uint64_t)work->first[n] * heads;
	const float2 *totals =
		(const float2 *)work->totals + (uint64_t)n * heads;
	float *shares = work->batch.shares + (uint64_t)seq.share * heads;

	if (row == rows || work->first[n + 1] > work->max_bands)
		return;
	for (uint32_t head = threadIdx.x % width; head < heads; head += width) {
		const float2 all = totals[head];
		const float unit = 1 / all.y;

#pragma unroll 4
		for (uint32_t i = blockIdx.x % SYN_ATTEND_SHARERS * rows + row;
		     i < seq.nr; i += SYN_ATTEND_SHARERS * rows) {
			const float2 band =
				sums[(uint64_t)(i / parts) * heads + head];

			shares[(uint64_t)i * heads + head] *=
				power_of_2(band.x - all.x) * unit;
		}
	}
}

#endif
