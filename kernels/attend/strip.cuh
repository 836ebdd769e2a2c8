/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A strip: some parts of a sequence, by a warp.  Parts of a kind follow each
 * other; first those with raw values, then those with encoded ones, which are
 * rotated back and added to the others.
 */
#ifndef SYN_KERNELS_ATTEND_STRIP_CUH
#define SYN_KERNELS_ATTEND_STRIP_CUH

#include "kernels/attend/coded.cuh"

/**
 * struct place - what a warp has in shared memory.
 * @ring:	raw tiles on their way.
 * @k:		encoded keys on their way.
 * @v:		encoded values.
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
	};
	struct syn_attend_part parts[SYN_ATTEND_STRIP_MAX];
	float2 kept[SYN_ATTEND_STRIP_MAX][ROWS];
};

template <int DIM> static __device__ __forceinline__ place<DIM> *place_of(void)
{
	extern __shared__ uint4 memory[];

	return (place<DIM> *)memory + threadIdx.x / 32;
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

static __device__ __forceinline__ bool has_row(const struct strip *s)
{
	return s->first_row + lane_row() < s->work->group;
}

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

/* A lane a part and row: weights, relative to the largest score of all. */
template <int DIM>
static __device__ __forceinline__ void shares_store(const struct strip *s,
						    const struct softmax *sm)
{
	const uint32_t i = threadIdx.x % 32 / ROWS, row = threadIdx.x % ROWS;
	const struct syn_attend_work *work = s->work;
	const float max = __shfl_sync(ALL, sm->max, row * 4);
	const uint64_t at =
		((uint64_t)(s->share + i) * work->kv_heads + s->head) *
			work->group +
		s->first_row + row;
	float2 kept;

	static_assert(SYN_ATTEND_STRIP_MAX * ROWS == 32, "a lane each");
	__syncwarp();
	if (!work->batch.shares || i >= s->nr ||
	    s->first_row + row >= work->group)
		return;
	kept = place_of<DIM>()->kept[i][row];
	work->batch.shares[at] = kept.y * power_of_2(kept.x - max);
}

/* ---- a part ------------------------------------------------------------- */

template <bool K_CODED, bool V_CODED>
static __device__ __forceinline__ bool
part_is(const struct syn_attend_part *part)
{
	return (part->k.codec == SYN_CODEC_H4) == K_CODED &&
	       (part->v.codec == SYN_CODEC_H4) == V_CODED;
}

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

/*
 * Sums go to @values, of the first row; what is there already, if there is
 * anything, @factor times.  All lanes see them then.
 */
template <int DIM>
static __device__ __forceinline__ void
raw_store(const struct strip *s, const float sum[DIM / 16][4], bool has_before,
	  float factor, float *values)
{
	const float of[2] = { __shfl_sync(ALL, factor, lane_quad() * 8),
			      __shfl_sync(ALL, factor, lane_quad() * 8 + 4) };
	const uint32_t row = lane_quad() * 2;

#pragma unroll
	for (int n = 0; n < DIM / 16 * 4; n++) {
		const uint32_t channel = n / 16 * 64 + lane_row() * 8 +
					 n / 4 % 4 * 2 + n / 2 % 2;
		float *at = values + (row + n % 2) * DIM + channel;

		if (s->first_row + row + n % 2 < s->work->group)
			*at = sum[n / 4][n % 4] +
			      (has_before ? *at * of[n % 2] : 0);
	}
	__syncwarp();
}

/* ... rotated back. */
template <int DIM>
static __device__ __forceinline__ void
coded_store(const struct strip *s, float sum[DIM / 4], bool has_before,
	    float factor, float *values)
{
	values += lane_row() * DIM;
	transform_lanes<DIM / 4, 4>(sum);
#pragma unroll
	for (int n = 0; n < DIM / 4 && has_row(s); n++) {
		const uint32_t channel =
			n / 16 * 64 + lane_quad() * 16 + n % 16;

		values[channel] = sum[n] * sign_of(channel) +
				  (has_before ? values[channel] * factor : 0);
	}
	__syncwarp();
}

/* ---- its parts ---------------------------------------------------------- */

/*
 * Parts with raw values.  If their keys are raw, too, chunks follow each other
 * through a part and into the next one.  Returns whether there was any.
 */
template <int DIM, bool F16, bool K_CODED>
static __device__ __forceinline__ bool
strip_raw(const struct strip *s, const query<DIM> *query, struct softmax *sm,
	  bool has_before, float *values)
{
	raw_ring<DIM> *ring = &place_of<DIM>()->ring;
	uint32_t i = part_find<DIM, K_CODED, false>(s, 0);
	struct raw_tile k = { NULL, 0, 0 };
	const float before_max = sm->max;
	float sum[DIM / 16][4] = {};

	if (i == s->nr)
		return has_before;
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
	raw_store<DIM>(s, sum, has_before, power_of_2(before_max - sm->max),
		       values);
	return true;
}

/*
 * Parts with encoded values.  If their keys are encoded, too, values come in
 * while keys are looked at, and meanwhile the next part's keys.
 */
template <int DIM, bool F16, bool K_CODED>
static __device__ __forceinline__ bool
strip_coded(const struct strip *s, const query<DIM> *query, struct softmax *sm,
	    bool has_before, float *values)
{
	uint32_t i = part_find<DIM, K_CODED, true>(s, 0);
	const struct raw_tile none = { NULL, 0, 0 };
	const float before_max = sm->max;
	float sum[DIM / 4] = {};

	if (i == s->nr)
		return has_before;
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
	coded_store<DIM>(s, sum, has_before, power_of_2(before_max - sm->max),
			 values);
	return true;
}

/* Its parts, kind by kind, each with loops of its own that fit registers. */
template <int DIM, bool F16>
static __device__ __forceinline__ void
strip_parts_add(const struct strip *s, const query<DIM> *query,
		struct softmax *sm, float *ret_values)
{
	bool any = false;

	any = strip_raw<DIM, F16, false>(s, query, sm, any, ret_values);
	any = strip_raw<DIM, F16, true>(s, query, sm, any, ret_values);
	any = strip_coded<DIM, F16, false>(s, query, sm, any, ret_values);
	(void)strip_coded<DIM, F16, true>(s, query, sm, any, ret_values);
}

/* ---- which one ---------------------------------------------------------- */

/* The sequence that strip @i is of. */
static __device__ __forceinline__ uint32_t
strip_seq(const struct syn_attend_work *work, uint32_t i)
{
	uint32_t low = 0, high = work->batch.nr_seqs;

	while (high - low > 1) {
		uint32_t middle = (low + high) / 2;

		if (work->first[middle] <= i)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Strip @i of the call, which is of sequence @n; what it has to know. */
template <int DIM>
static __device__ __forceinline__ struct strip
strip_begin(const struct syn_attend_work *work, uint32_t i, uint32_t n,
	    uint32_t head, uint32_t take)
{
	const struct syn_attend_seq seq = work->batch.seqs[n];
	const uint32_t parts = strip_parts(seq.nr);
	const uint32_t first = (i - work->first[n]) * parts;
	const uint32_t nr = min(parts, seq.nr - first);
	const uint64_t *from =
		(const uint64_t *)(work->batch.parts + seq.first + first);
	uint64_t *to = (uint64_t *)place_of<DIM>()->parts;

	__syncwarp();
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

template <int DIM, bool F16>
static __device__ __forceinline__ void
strip_attend(const struct syn_attend_work *work, uint32_t i, uint32_t head,
	     uint32_t take)
{
	const uint32_t n = strip_seq(work, i);
	const struct strip s = strip_begin<DIM>(work, i, n, head, take);
	const uint64_t first =
		((uint64_t)i * work->kv_heads + head) * work->group +
		s.first_row;
	const query<DIM> *query = query_of<DIM>(work, n, head, take);
	struct softmax sm = { -INFINITY, 0 };

	strip_parts_add<DIM, F16>(&s, query, &sm, work->values + first * DIM);
	shares_store<DIM>(&s, &sm);
	if (has_row(&s) && !lane_quad())
		((float2 *)work->sums)[first + lane_row()] =
			make_float2(sm.max, sm.weight);
}

/*
 * Warps take strips in turn.  Those of a block take four in a row of the same
 * head, so that they read the same queries.
 */
template <int DIM, bool F16>
static __device__ void strips_attend(const struct syn_attend_work *work)
{
	const uint32_t each = work->kv_heads * work->takes;
	const uint32_t strips =
		min(work->first[work->batch.nr_seqs], work->max_strips);
	const uint32_t rows =
		(strips + SYN_ATTEND_WARPS - 1) / SYN_ATTEND_WARPS;

	levels_prepare();
	for (uint64_t i = blockIdx.x; i < (uint64_t)rows * each;
	     i += gridDim.x) {
		const uint32_t strip = (uint32_t)(i / each) * SYN_ATTEND_WARPS +
				       threadIdx.x / 32;
		const uint32_t which = (uint32_t)(i % each);

		if (strip < strips)
			strip_attend<DIM, F16>(work, strip, which / work->takes,
					       which % work->takes);
	}
}

#endif
