/* SPDX-License-Identifier: Apache-2.0 */
/* Decode attention in plain C, see attend.h. */
#include "kernels/attend/attend.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/element.h"
#include "kernels/codec/h4-form.h"

#define TOKENS SYN_TILE_TOKENS
#define DIM    H4_DIM_MAX

/**
 * struct query - one head's.
 * @x:		as it is.
 * @turned:	the same, signs and rotation applied: what levels are multiplied
 *		with.
 */
struct query {
	float x[DIM];
	float turned[DIM];
};

/**
 * struct sum - of the values of a part, each times its weight.
 * @max:	largest score.
 * @weight:	sum of the weights, exp(score - @max).
 * @raw:	of raw values.
 * @coded:	of encoded ones, not rotated back.
 */
struct sum {
	float max;
	float weight;
	float raw[DIM];
	float coded[DIM];
};

/* ---- the rotation ------------------------------------------------------- */

static void signs(float *x, uint32_t dim)
{
	for (uint32_t i = 0; i < dim; i++)
		if (syn_h4_negative(i))
			x[i] = -x[i];
}

static void query_load(const struct syn_attend_shape *shape,
		       const unsigned char *at, struct query *ret)
{
	for (uint32_t i = 0; i < shape->dim; i++)
		ret->x[i] = syn_element_load(at + 2 * i, shape->dtype);
	memcpy(ret->turned, ret->x, shape->dim * sizeof(*ret->x));
	signs(ret->turned, shape->dim);
	syn_h4_transform(ret->turned, shape->dim);
}

/* ---- a part ------------------------------------------------------------- */

static const unsigned char *tile_of(const struct syn_attend_tiles *tiles,
				    uint32_t head)
{
	return (const unsigned char *)(uintptr_t)(tiles->at +
						  head * tiles->head);
}

static float coded_level(const unsigned char *codes, uint32_t i)
{
	return (float)syn_h4_level(codes[i / 2] >> (i % 2 * 4) & 15);
}

static void scores_raw(const struct syn_attend_shape *shape,
		       const struct syn_attend_part *part, uint32_t nr_tokens,
		       uint32_t head, const struct query *q, float *ret)
{
	const unsigned char *row = tile_of(&part->k, head);

	for (uint32_t t = 0; t < nr_tokens; t++, row += part->k.token) {
		float dot = 0;

		for (uint32_t i = 0; i < shape->dim; i++)
			dot += q->x[i] *
			       syn_element_load(row + 2 * i, shape->dtype);
		ret[t] = shape->scale * dot;
	}
}

static void scores_coded(const struct syn_attend_shape *shape,
			 const struct syn_attend_part *part, uint32_t nr_tokens,
			 uint32_t head, const struct query *q, float *ret)
{
	const unsigned char *mean = tile_of(&part->k, head);
	const unsigned char *scale = mean + 2 * shape->dim;
	const unsigned char *codes = scale + 2 * TOKENS;
	float of_mean = 0;

	for (uint32_t i = 0; i < shape->dim; i++)
		of_mean += q->x[i] * syn_f16_load(mean + 2 * i);
	for (uint32_t t = 0; t < nr_tokens; t++) {
		float dot = 0;

		for (uint32_t i = 0; i < shape->dim; i++)
			dot += q->turned[i] * coded_level(codes, i);
		dot *= syn_f16_load(scale + 2 * t) * H4_SCALE_INV;
		ret[t] = shape->scale * (dot + of_mean);
		codes += shape->dim / 2;
	}
}

/* In place: scores become weights. */
static void weights(float *x, uint32_t nr, struct sum *to)
{
	to->max = -INFINITY;
	to->weight = 0;
	for (uint32_t t = 0; t < nr; t++)
		to->max = fmaxf(to->max, x[t]);
	for (uint32_t t = 0; t < nr; t++) {
		x[t] = expf(x[t] - to->max);
		to->weight += x[t];
	}
}

static void values_raw(const struct syn_attend_shape *shape,
		       const struct syn_attend_part *part, uint32_t nr_tokens,
		       uint32_t head, const float *weight, float *to)
{
	const unsigned char *row = tile_of(&part->v, head);

	for (uint32_t t = 0; t < nr_tokens; t++, row += part->v.token)
		for (uint32_t i = 0; i < shape->dim; i++)
			to[i] += weight[t] *
				 syn_element_load(row + 2 * i, shape->dtype);
}

static void values_coded(const struct syn_attend_shape *shape,
			 const struct syn_attend_part *part, uint32_t nr_tokens,
			 uint32_t head, const float *weight, float *to)
{
	const unsigned char *scale = tile_of(&part->v, head);
	const unsigned char *codes = scale + 2 * TOKENS;

	for (uint32_t t = 0; t < nr_tokens; t++) {
		float w = weight[t] *
			  (syn_f16_load(scale + 2 * t) * H4_SCALE_INV);

		for (uint32_t i = 0; i < shape->dim; i++)
			to[i] += w * coded_level(codes, i);
		codes += shape->dim / 2;
	}
}

/* @nr_tokens of the part's. */
static void part_attend(const struct syn_attend_shape *shape,
			const struct syn_attend_part *part, uint32_t nr_tokens,
			uint32_t head, const struct query *q, struct sum *ret)
{
	float x[TOKENS];

	memset(ret, 0, sizeof(*ret));
	if (part->k.codec == SYN_CODEC_H4)
		scores_coded(shape, part, nr_tokens, head, q, x);
	else
		scores_raw(shape, part, nr_tokens, head, q, x);
	weights(x, nr_tokens, ret);
	if (part->v.codec == SYN_CODEC_H4)
		values_coded(shape, part, nr_tokens, head, x, ret->coded);
	else
		values_raw(shape, part, nr_tokens, head, x, ret->raw);
}

/* ---- a sequence --------------------------------------------------------- */

static uint32_t heads_of(const struct syn_attend_shape *shape)
{
	return (uint32_t)shape->kv_heads * shape->group;
}

/* Query head @i of sequence @n. */
static void parts_merge(const struct syn_attend_shape *shape,
			const struct syn_attend_batch *batch, uint32_t n,
			uint32_t i, const struct sum *sums)
{
	const struct syn_attend_seq *seq = &batch->seqs[n];
	const size_t heads = heads_of(shape), at = n * heads + i;
	float *out = batch->out + at * shape->dim;
	float coded[DIM] = { 0 };
	float max = -INFINITY, weight = 0;

	memset(out, 0, shape->dim * sizeof(*out));
	for (uint32_t p = 0; p < seq->nr; p++)
		max = fmaxf(max, sums[p].max);
	for (uint32_t p = 0; p < seq->nr; p++) {
		float factor = expf(sums[p].max - max);

		weight += factor * sums[p].weight;
		for (uint32_t k = 0; k < shape->dim; k++) {
			out[k] += factor * sums[p].raw[k];
			coded[k] += factor * sums[p].coded[k];
		}
	}
	batch->lse[at] = max + logf(weight);
	if (!seq->nr)
		return;
	syn_h4_transform(coded, shape->dim);
	signs(coded, shape->dim);
	for (uint32_t k = 0; k < shape->dim; k++)
		out[k] = (out[k] + coded[k]) / weight;
	for (uint32_t p = 0; p < seq->nr && batch->shares; p++)
		batch->shares[(seq->share + p) * heads + i] =
			sums[p].weight * expf(sums[p].max - max) / weight;
}

static void seq_attend(const struct syn_attend_shape *shape,
		       const struct syn_attend_batch *batch, uint32_t n,
		       struct sum *sums)
{
	const struct syn_attend_seq *seq = &batch->seqs[n];
	const struct syn_attend_part *parts = batch->parts + seq->first;
	const uint32_t heads = heads_of(shape);
	const unsigned char *q = batch->q;

	q += (size_t)n * heads * 2 * shape->dim;
	for (uint32_t i = 0; i < heads; i++, q += 2 * shape->dim) {
		struct query query;

		query_load(shape, q, &query);
		for (uint32_t p = 0; p < seq->nr; p++)
			part_attend(shape, &parts[p],
				    p + 1 < seq->nr ? parts[p].nr_tokens
						    : seq->last,
				    i / shape->group, &query, &sums[p]);
		parts_merge(shape, batch, n, i, sums);
	}
}

/* ---- the interface ------------------------------------------------------ */

bool syn_attend_shape_can_be(const struct syn_attend_shape *shape)
{
	return (shape->dtype == SYN_DTYPE_F16 ||
		shape->dtype == SYN_DTYPE_BF16) &&
	       (shape->dim == 64 || shape->dim == 128) && shape->kv_heads &&
	       shape->group && shape->group <= SYN_ATTEND_GROUP_MAX &&
	       isfinite(shape->scale);
}

static bool tiles_can_be(const struct syn_attend_tiles *tiles)
{
	return tiles->at && tiles->at % 2 == 0 && tiles->head % 2 == 0 &&
	       (tiles->codec == SYN_CODEC_H4 ||
		(tiles->codec == SYN_CODEC_RAW16 && tiles->token % 2 == 0));
}

static bool seq_can_be(const struct syn_attend_batch *batch,
		       const struct syn_attend_seq *seq)
{
	const struct syn_attend_part *parts = batch->parts + seq->first;

	for (uint32_t p = 0; p < seq->nr; p++)
		if (!parts[p].nr_tokens || parts[p].nr_tokens > TOKENS ||
		    !tiles_can_be(&parts[p].k) || !tiles_can_be(&parts[p].v))
			return false;
	return !seq->nr ||
	       (seq->last && seq->last <= parts[seq->nr - 1].nr_tokens);
}

static bool batch_can_be(const struct syn_attend_batch *batch)
{
	for (uint32_t n = 0; n < batch->nr_seqs; n++)
		if (!seq_can_be(batch, &batch->seqs[n]))
			return false;
	return batch->q && batch->out && batch->lse;
}

int syn_attend(const struct syn_attend_shape *shape,
	       const struct syn_attend_batch *batch)
{
	uint32_t longest = 1;
	struct sum *sums;

	if (!syn_attend_shape_can_be(shape) || !batch_can_be(batch))
		return -EINVAL;
	for (uint32_t n = 0; n < batch->nr_seqs; n++)
		longest = syn_max(longest, batch->seqs[n].nr);
	sums = syn_alloc(longest, sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	for (uint32_t n = 0; n < batch->nr_seqs; n++)
		seq_attend(shape, batch, n, sums);
	free(sums);
	return 0;
}
