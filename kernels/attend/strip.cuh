/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A strip: some parts of a sequence, by a warp.  Parts of a kind follow each
 * other; first those with raw values, then those with encoded ones, which are
 * rotated back and added to the others.
 *
 * A band: strips that follow each other, by a block, whose sums become one.
 */
#ifndef SYN_KERNELS_ATTEND_STRIP_CUH
#define SYN_KERNELS_ATTEND_STRIP_CUH

#include "kernels/attend/coded.cuh"

/**
 * struct place - what a warp has in shared memory.
 * @ring:	raw tiles on their way.
 * @k:		encoded keys on their way.
 * @v:		encoded values.
 * @sums:	when there are no tiles: weighted values by row, four channels a
 *		vector and one vector of space.
 * @parts:	of the strip.
 * @kept:	of them, for shares: the largest score then, and the weight.
 */
template <int DIM> struct place {
	union {
		raw_ring<DIM> ring;
		struct {
			coded_tile<DIM> k;
			coded_tile<DIM> v;
		};
		float4 sums[ROWS][DIM / 4 + 1];
	};
	struct syn_attend_part parts[SYN_ATTEND_STRIP_MAX];
	float2 kept[SYN_ATTEND_STRIP_MAX][ROWS];
};

template <int DIM>
static __device__ __forceinline__ place<DIM> *place_of_warp(uint32_t warp)
{
	extern __shared__ uint4 memory[];

	return (place<DIM> *)memory + warp;
}

template <int DIM> static __device__ __forceinline__ place<DIM> *place_of(void)
{
	return place_of_warp<DIM>(threadIdx.x / 32);
}

/**
 * struct strip - what a warp is at.
 * @work:	the call.
 * @nr:		parts.
 * @last:	of the last one so many tokens.
 * @head:	KV head.
 * @first_row:	query head of the KV head that is the first row.
 * @share:	number of the first part among the shares.
 */
struct strip {
	const struct syn_attend_work *work;
	uint32_t nr;
	uint32_t last;
	uint32_t head;
	uint32_t first_row;
	uint32_t share;
};

/* ---- shares ------------------------------------------------------------- */

/* What there is of part @i, and the largest score so far. */
template <int DIM>
static __device__ __forceinline__ void
share_keep(uint32_t i, const struct softmax *sm, float weight)
{
	if (!lane_quad())
		place_of<DIM>()->kept[i][lane_row()] =
			make_float2(sm->max, weight);
}

/* A lane a part and row: weights, relative to the largest score of the band. */
template <int DIM>
static __device__ __forceinline__ void shares_store(const struct strip *s,
						    float max)
{
	const uint32_t i = threadIdx.x % 32 / ROWS, row = threadIdx.x % ROWS;
	const struct syn_attend_work *work = s->work;
	const uint64_t at =
		((uint64_t)(s->share + i) * work->kv_heads + s->head) *
			work->group +
		s->first_row + row;
	float2 kept;

	static_assert(SYN_ATTEND_STRIP_MAX * ROWS == 32, "a lane each");
	if (!work->batch.shares || i >= s->nr ||
	    s->first_row + row >= work->group)
		return;
	kept = place_of<DIM>()->kept[i][row];
	work->batch.shares[at] = kept.y * power_of_2(kept.x - max);
}

/* ---- a part ------------------------------------------------------------- */

/* The first part from @i on that is so; @s->nr: none. */
template <int DIM, bool K_CODED, bool V_CODED>
static __device__ __forceinline__ uint32_t part_find(const struct strip *s,
						     uint32_t i)
{
	while (i < s->nr &&
	       !part_is<K_CODED, V_CODED>(&place_of<DIM>()->parts[i]))
		i++;
	return i;
}

template <int DIM>
static __device__ __forceinline__ uint32_t part_tokens(const struct strip *s,
						       uint32_t i)
{
	return i + 1 < s->nr ? place_of<DIM>()->parts[i].nr_tokens : s->last;
}

static __device__ __forceinline__ const char *
tile_at(const struct syn_attend_tiles *tiles, uint32_t head)
{
	return (const char *)(tiles->at + head * tiles->head);
}

/* Of part @i, raw; nothing if there is no such part. */
template <int DIM>
static __device__ __forceinline__ struct raw_tile
raw_keys(const struct strip *s, uint32_t i)
{
	const struct syn_attend_tiles *k = &place_of<DIM>()->parts[i].k;

	if (i == s->nr)
		return { NULL, 0, 0 };
	return { tile_at(k, s->head), k->token, part_tokens<DIM>(s, i) };
}

template <int DIM>
static __device__ __forceinline__ struct raw_tile
raw_values_of(const struct strip *s, uint32_t i)
{
	const struct syn_attend_tiles *v = &place_of<DIM>()->parts[i].v;

	return { tile_at(v, s->head), v->token, part_tokens<DIM>(s, i) };
}

template <int DIM>
static __device__ __forceinline__ void keys_fetch(const struct strip *s,
						  uint32_t i)
{
	place<DIM> *place = place_of<DIM>();

	coded_fetch<DIM, true>(&place->k, tile_at(&place->parts[i].k, s->head));
}

template <int DIM>
static __device__ __forceinline__ void values_fetch(const struct strip *s,
						    uint32_t i)
{
	place<DIM> *place = place_of<DIM>();

	coded_fetch<DIM, false>(&place->v,
				tile_at(&place->parts[i].v, s->head));
}

/* Scores of all tokens become weights; returns the factor of those before. */
template <int DIM>
static __device__ __forceinline__ float
part_weights(const struct strip *s, uint32_t i, struct softmax *sm,
	     float x[PRODUCTS][2])
{
	float weight;
	float factor = softmax_add(sm, part_tokens<DIM>(s, i), x, &weight);

	share_keep<DIM>(i, sm, weight);
	return factor;
}

/* What there is of raw values, each row's @factor times. */
template <int DIM>
static __device__ __forceinline__ void raw_scale(float factor,
						 float sum[DIM / 16][4])
{
	const float of[2] = { __shfl_sync(ALL, factor, lane_quad() * 8),
			      __shfl_sync(ALL, factor, lane_quad() * 8 + 4) };

#pragma unroll
	for (int n = 0; n < DIM / 16 * 4; n++)
		sum[n / 4][n % 4] *= of[n % 2];
}

/* Raw values, weighted, where there are no tiles any more. */
template <int DIM>
static __device__ __forceinline__ void raw_store(const float sum[DIM / 16][4])
{
	place<DIM> *place = place_of<DIM>();

	__syncwarp();
#pragma unroll
	for (int i = 0; i < DIM / 8; i++) {
		const float(*x)[4] = sum + i / 4 * 4 + i % 2 * 2;
		const uint32_t row = lane_quad() * 2 + i / 2 % 2;
		const uint32_t at = i / 4 * 16 + lane_row() * 2 + i % 2;
		const int odd = i / 2 % 2;

		place->sums[row][at] = make_float4(x[0][odd], x[0][odd + 2],
						   x[1][odd], x[1][odd + 2]);
	}
}

/* ... encoded ones, rotated back. */
template <int DIM>
static __device__ __forceinline__ void coded_store(float sum[DIM / 4])
{
	place<DIM> *place = place_of<DIM>();

	transform_lanes<DIM / 4, 4>(sum);
#pragma unroll
	for (int n = 0; n < DIM / 4; n++)
		sum[n] *= sign_of(n / 16 * 64 + lane_quad() * 16 + n % 16);
	__syncwarp();
#pragma unroll
	for (int n = 0; n < DIM / 4; n += 4)
		place->sums[lane_row()]
			   [n / 16 * 16 + lane_quad() * 4 + n % 16 / 4] =
			make_float4(sum[n], sum[n + 1], sum[n + 2], sum[n + 3]);
}

/*
 * What there is of another kind is set aside while tiles are where it was; in
 * memory of this thread, for this is seldom: indices that are not known make it
 * so.
 */
template <int DIM>
static __device__ __forceinline__ void sums_set_aside(float aside[DIM / 4])
{
	const place<DIM> *place = place_of<DIM>();

	__syncwarp();
#pragma unroll 1
	for (uint32_t i = 0; i < DIM / 4; i++)
		aside[i] = ((const float *)
				    place->sums[i % ROWS])[i / ROWS * 32 +
							   threadIdx.x % 32];
	__syncwarp();
}

/* ... and added to what came, each row's @factor times. */
template <int DIM>
static __device__ __forceinline__ void sums_add(const float aside[DIM / 4],
						float factor)
{
	place<DIM> *place = place_of<DIM>();

	__syncwarp();
#pragma unroll 1
	for (uint32_t i = 0; i < DIM / 4; i++) {
		float of = __shfl_sync(ALL, factor, i % ROWS * 4);

		((float *)place
			 ->sums[i % ROWS])[i / ROWS * 32 + threadIdx.x % 32] +=
			aside[i] * of;
	}
}

/* ---- its parts ---------------------------------------------------------- */

/*
 * Parts with raw values.  If their keys are raw, too, chunks follow each other
 * through a part and into the next one.  @has_before: there are sums of other
 * parts.  Returns whether there are any now.
 */
template <int DIM, bool F16, bool K_CODED>
static __device__ __forceinline__ bool
strip_raw(const struct strip *s, const query<DIM> *query, struct softmax *sm,
	  bool has_before)
{
	raw_ring<DIM> *ring = &place_of<DIM>()->ring;
	uint32_t i = part_find<DIM, K_CODED, false>(s, 0);
	struct raw_tile k = { NULL, 0, 0 };
	const float before_max = sm->max;
	float sum[DIM / 16][4] = {}, aside[DIM / 4];

	if (i == s->nr)
		return has_before;
	if (has_before)
		sums_set_aside<DIM>(aside);
	if (!K_CODED) {
		k = raw_keys<DIM>(s, i);
		raw_begin<DIM>(ring, &k);
	}
	while (i < s->nr) {
		const struct raw_tile v = raw_values_of<DIM>(s, i);
		float x[PRODUCTS][2];

		if (K_CODED) {
			keys_fetch<DIM>(s, i);
			coded_wait<0>();
			coded_scores<DIM>(&place_of<DIM>()->k, query, x);
			__syncwarp();
			raw_begin<DIM>(ring, &v);
		} else {
			raw_scores<DIM, F16>(ring, &k, &v, query,
					     s->work->scale * LOG2_E, x);
		}
		raw_scale<DIM>(part_weights<DIM>(s, i, sm, x), sum);
		i = part_find<DIM, K_CODED, false>(s, i + 1);
		if (!K_CODED)
			k = raw_keys<DIM>(s, i);
		raw_values<DIM, F16>(ring, &v, &k, x, sum);
	}
	raw_store<DIM>(sum);
	if (has_before)
		sums_add<DIM>(aside, power_of_2(before_max - sm->max));
	return true;
}

/*
 * Parts with encoded values.  If their keys are encoded, too, values come in
 * while keys are looked at, and meanwhile the next part's keys.
 */
template <int DIM, bool F16, bool K_CODED>
static __device__ __forceinline__ bool
strip_coded(const struct strip *s, const query<DIM> *query, struct softmax *sm,
	    bool has_before)
{
	uint32_t i = part_find<DIM, K_CODED, true>(s, 0);
	const struct raw_tile none = { NULL, 0, 0 };
	const float before_max = sm->max;
	float sum[DIM / 4] = {}, aside[DIM / 4];

	if (i == s->nr)
		return has_before;
	if (has_before)
		sums_set_aside<DIM>(aside);
	if (K_CODED) {
		keys_fetch<DIM>(s, i);
		values_fetch<DIM>(s, i);
	}
	while (i < s->nr) {
		const uint32_t next = part_find<DIM, K_CODED, true>(s, i + 1);
		float x[PRODUCTS][2], factor;

		if (K_CODED) {
			coded_wait<1>();
			coded_scores<DIM>(&place_of<DIM>()->k, query, x);
			__syncwarp();
			if (next < s->nr)
				keys_fetch<DIM>(s, next);
			else
				vectors_begun();
		} else {
			raw_ring<DIM> *ring = &place_of<DIM>()->ring;
			const struct raw_tile k = raw_keys<DIM>(s, i);

			raw_begin<DIM>(ring, &k);
			raw_scores<DIM, F16>(ring, &k, &none, query,
					     s->work->scale * LOG2_E, x);
			values_fetch<DIM>(s, i);
		}
		factor = part_weights<DIM>(s, i, sm, x);
#pragma unroll
		for (int n = 0; n < DIM / 4; n++)
			sum[n] *= factor;
		coded_wait<K_CODED ? 1 : 0>();
		coded_values<DIM>(&place_of<DIM>()->v, x, sum);
		__syncwarp();
		if (K_CODED && next < s->nr)
			values_fetch<DIM>(s, next);
		i = next;
	}
	coded_store<DIM>(sum);
	if (has_before)
		sums_add<DIM>(aside, power_of_2(before_max - sm->max));
	return true;
}

/*
 * Its parts, kind by kind, each with loops of its own that fit registers.
 * @CODED: all of them are encoded; what a kernel could do else costs it a fifth of
 * its speed, even if it never does.
 */
template <int DIM, bool F16, bool CODED>
static __device__ __forceinline__ struct softmax
strip_attend(const struct strip *s, const query<DIM> *query)
{
	struct softmax sm = { -INFINITY, 0 };
	bool any = false;

	if (!CODED) {
		any = strip_raw<DIM, F16, false>(s, query, &sm, any);
		any = strip_raw<DIM, F16, true>(s, query, &sm, any);
		any = strip_coded<DIM, F16, false>(s, query, &sm, any);
	}
	(void)strip_coded<DIM, F16, true>(s, query, &sm, any);
	return sm;
}

/*
 * This warp's strip of band @i, which is of sequence @n; it may have no parts.
 */
template <int DIM>
static __device__ __forceinline__ struct strip
strip_begin(const struct syn_attend_work *work, uint32_t i, uint32_t n,
	    uint32_t head, uint32_t take)
{
	const struct syn_attend_seq seq = work->batch.seqs[n];
	const uint32_t parts = strip_parts(seq.nr);
	const uint32_t number =
		(i - work->first[n]) * SYN_ATTEND_WARPS + threadIdx.x / 32;
	const uint32_t first = min(number * parts, seq.nr);
	const uint32_t nr = min(parts, seq.nr - first);
	const uint64_t *from =
		(const uint64_t *)(work->batch.parts + seq.first + first);
	uint64_t *to = (uint64_t *)place_of<DIM>()->parts;

	for (uint32_t k = threadIdx.x % 32;
	     k < nr * sizeof(*work->batch.parts) / 8; k += 32)
		to[k] = from[k];
	__syncwarp();
	return {
		.work = work,
		.nr = nr,
		.last = first + nr == seq.nr
				? seq.last
				: place_of<DIM>()->parts[nr - 1].nr_tokens,
		.head = head,
		.first_row = take * ROWS,
		.share = seq.share + first,
	};
}

/* ---- bands -------------------------------------------------------------- */

/**
 * struct band - what the warps of a block tell each other.
 * @sm:		of each row, by warp.
 */
struct band {
	struct softmax sm[ROWS][SYN_ATTEND_WARPS];
};

static __device__ __forceinline__ float band_max(const struct band *band,
						 uint32_t row)
{
	float max = -INFINITY;

#pragma unroll
	for (uint32_t w = 0; w < SYN_ATTEND_WARPS; w++)
		max = fmaxf(max, band->sm[row][w].max);
	return max;
}

/* Sums of its strips, in their order: a thread a vector and row. */
template <int DIM>
static __device__ __forceinline__ void
band_store(const struct strip *s, const struct band *band, uint64_t first)
{
	const uint32_t rows = min(ROWS, s->work->group - s->first_row);
	float2 *sums = (float2 *)s->work->sums + first;
	float4 *values = (float4 *)s->work->values + first * (DIM / 4);

	for (uint32_t i = threadIdx.x; i < rows * (DIM / 4);
	     i += SYN_ATTEND_WARPS * 32) {
		const uint32_t row = i / (DIM / 4);
		const float max = band_max(band, row);
		float4 value = { 0, 0, 0, 0 };
		float weight = 0;

		for (uint32_t w = 0; w < SYN_ATTEND_WARPS; w++) {
			const struct softmax sm = band->sm[row][w];
			const float factor = power_of_2(sm.max - max);

			if (sm.weight == 0)
				continue; /* no parts, and no sums */
			weight += factor * sm.weight;
			value_add(&value, factor,
				  &place_of_warp<DIM>(w)
					   ->sums[row][i % (DIM / 4)]);
		}
		values[i] = value;
		if (i % (DIM / 4) == 0)
			sums[row] = make_float2(max, weight);
	}
}

/* Band @i, which is of sequence @n. */
template <int DIM, bool F16, bool CODED>
static __device__ __forceinline__ void
band_attend(const struct syn_attend_work *work, uint32_t i, uint32_t n,
	    uint32_t head, uint32_t take)
{
	__shared__ struct band band;
	const struct strip s = strip_begin<DIM>(work, i, n, head, take);
	const uint64_t first =
		((uint64_t)i * work->kv_heads + head) * work->group +
		s.first_row;
	const struct softmax sm = strip_attend<DIM, F16, CODED>(
		&s, query_of<DIM>(work, n, head, take));

	if (!lane_quad())
		band.sm[lane_row()][threadIdx.x / 32] = sm;
	__syncthreads();
	band_store<DIM>(&s, &band, first);
	shares_store<DIM>(&s, band_max(&band, threadIdx.x % ROWS));
	__syncthreads();
}

/* Blocks take bands in turn, and leave those that are for the other kernel. */
template <int DIM, bool F16, bool CODED>
static __device__ void bands_attend(const struct syn_attend_work *work)
{
	const uint32_t each = work->kv_heads * work->takes;
	const uint64_t nr =
		(uint64_t)each *
		min(work->first[work->batch.nr_seqs], work->max_bands);
	const uint64_t step = 32ull * gridDim.x;

	levels_prepare();
	for (uint64_t i = blockIdx.x; i < nr; i += step) {
		const uint64_t own = i + threadIdx.x % 32 * gridDim.x;
		const uint32_t band = own < nr ? work->bands[own / each]
					       : !CODED * SYN_ATTEND_CODED;
		uint32_t left = __ballot_sync(ALL, !(band & SYN_ATTEND_CODED) ==
							   !CODED);

		while (left) {
			const int k = __ffs(left) - 1;
			const uint64_t at = i + k * gridDim.x;
			const uint32_t which = (uint32_t)(at % each);

			left &= left - 1;
			band_attend<DIM, F16, CODED>(
				work, (uint32_t)(at / each),
				__shfl_sync(ALL, band, k) & ~SYN_ATTEND_CODED,
				which / work->takes, which % work->takes);
		}
	}
}

#endif
