/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4 in plain C: the definition in Documentation/arithmetic.rst, step
 * by step.  What the other forms are compared with.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/base.h"
#include "kernels/codec/element.h"
#include "kernels/codec/h4-form.h"

#define TOKENS SYN_TILE_TOKENS
#define LANES  16u

static const int thresholds[] = { H4_THRESHOLDS };

/**
 * struct tile - where the parts of an encoded tile are.
 * @mean:	of each channel, fp16; NULL for values.
 * @scale:	of each token, fp16.
 * @codes:	two a byte, the even channel in the low half.
 */
struct tile {
	unsigned char *mean;
	unsigned char *scale;
	unsigned char *codes;
};

static struct tile tile_parts(void *at, const struct syn_component *c)
{
	struct tile tile = { NULL, at, NULL };

	if (c->role == SYN_ROLE_K) {
		tile.mean = at;
		tile.scale = tile.mean + c->dim * 2;
	}
	tile.codes = tile.scale + TOKENS * 2;
	return tile;
}

/* The order in which 16 partial sums become one. */
static float lanes_fold(float *lane)
{
	for (uint32_t half = LANES / 2; half; half /= 2)
		for (uint32_t i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

void syn_h4_transform(float *x, uint32_t dim)
{
	static const uint32_t halves[] = { 64, 32, 16, 4, 2, 1, 8 };

	for (uint32_t k = 0; k < syn_array_size(halves); k++) {
		uint32_t half = halves[k];

		for (uint32_t i = 0; i < dim; i++) {
			float a = x[i], b;

			if (i & half || half >= dim)
				continue;
			b = x[i | half];
			x[i] = a + b;
			x[i | half] = a - b;
		}
	}
}

static void int_transform(int *x, uint32_t dim)
{
	for (uint32_t half = dim / 2; half; half /= 2) {
		for (uint32_t i = 0; i < dim; i++) {
			int a = x[i], b = x[i | half];

			if (i & half)
				continue;
			x[i] = a + b;
			x[i | half] = a - b;
		}
	}
}

/* @at counts 32nds of a level. */
static unsigned int code_of(int at)
{
	int whole = at >> H4_FRACTION;
	int size = whole < 0 ? ~whole : whole;
	unsigned int code = 8;

	for (unsigned int i = 0; i < syn_array_size(thresholds); i++)
		code += size >= thresholds[i];
	return whole < 0 ? code ^ 15 : code;
}

/**
 * struct token - one while it is encoded.
 * @x:		less the mean, and from then on.
 * @power:	its sum of squares.
 * @unit:	a 32nd of a level, in the transform of @x; 0: all of it is.
 * @dot:	the sum of 32nds times levels.
 * @square:	the sum of the squares of the levels.
 * @scale:	as stored.
 */
struct token {
	float x[H4_DIM_MAX];
	float power;
	float unit;
	int32_t dot;
	int32_t square;
	float scale;
};

static void token_power(struct token *t, uint32_t dim)
{
	float lane[LANES];

	for (uint32_t i = 0; i < LANES; i++)
		lane[i] = t->x[i] * t->x[i];
	for (uint32_t i = LANES; i < dim; i++)
		lane[i % LANES] = fmaf(t->x[i], t->x[i], lane[i % LANES]);
	t->power = lanes_fold(lane);
	t->unit = t->power >= H4_TINY ? sqrtf(t->power) * H4_UNIT : 0;
}

static void token_codes(struct token *t, uint32_t dim, unsigned char *ret_codes)
{
	float gain = t->unit != 0 ? 1 / t->unit : 0;

	t->dot = 0;
	t->square = 0;
	for (uint32_t i = 0; i < dim; i++) {
		int at = (int)rintf(t->x[i] * gain);
		unsigned int code = code_of(at);
		int level = syn_h4_level(code);

		t->dot += at * level;
		t->square += level * level;
		if (i & 1)
			ret_codes[i / 2] |= (unsigned char)(code << 4);
		else
			ret_codes[i / 2] = (unsigned char)code;
	}
}

/* Unbiased for keys, least squares for values. */
static void token_scale(struct token *t, uint32_t dim, bool keys,
			void *ret_scale)
{
	float dot = (float)t->dot * t->unit;

	if (t->unit == 0)
		t->scale = 0;
	else if (keys)
		t->scale = H4_SCALE * (t->power / dot);
	else
		t->scale = H4_SCALE / (float)dim * (dot / (float)t->square);
	syn_f16_store(ret_scale, t->scale);
	t->scale = syn_f16_load(ret_scale);
}

/* The square of what is lost: all of it where there is no scale. */
static float token_loss(const struct token *t, uint32_t dim)
{
	float scale = t->scale * H4_SCALE_INV;
	float dot = (float)t->dot * t->unit;

	return (t->power - 2 * (scale * dot)) +
	       scale * scale * ((float)t->square * (float)dim);
}

static void mean_encode(const struct tile *tile, const unsigned char *src,
			const struct syn_component *c, float *ret_mean)
{
	for (uint32_t i = 0; i < c->dim; i++) {
		float sum = 0;

		ret_mean[i] = 0;
		if (!tile->mean)
			continue;
		for (uint32_t t = 0; t < TOKENS; t++)
			sum += syn_element_load(src + (t * c->dim + i) * 2,
						c->dtype);
		syn_f16_store(tile->mean + i * 2, sum * (1.0f / TOKENS));
		ret_mean[i] = syn_f16_load(tile->mean + i * 2);
	}
}

static int plain_encode(void *dst, const void *src,
			const struct syn_component *c, uint16_t *ret_error)
{
	struct tile tile = tile_parts(dst, c);
	const unsigned char *from = src;
	float mean[H4_DIM_MAX];
	float loss[LANES] = { 0 };
	float power[LANES] = { 0 };
	uint32_t dim = c->dim;

	mean_encode(&tile, src, c, mean);
	for (uint32_t i = 0; i < TOKENS; i++) {
		struct token t;

		for (uint32_t k = 0; k < dim; k++, from += 2)
			t.x[k] = syn_element_load(from, c->dtype) - mean[k];
		token_power(&t, dim);
		if (!isfinite(t.power))
			return -EDOM;
		for (uint32_t k = 0; k < dim; k++)
			t.x[k] = syn_h4_negative(k) ? -t.x[k] : t.x[k];
		syn_h4_transform(t.x, dim);
		token_codes(&t, dim, tile.codes + i * dim / 2);
		token_scale(&t, dim, tile.mean, tile.scale + i * 2);
		loss[i % LANES] += token_loss(&t, dim);
		power[i % LANES] += t.power;
	}
	return syn_h4_error(lanes_fold(loss), lanes_fold(power), ret_error);
}

static void plain_decode(void *dst, const void *src,
			 const struct syn_component *c)
{
	struct tile tile = tile_parts((void *)(uintptr_t)src, c);
	unsigned char *to = dst;
	uint32_t dim = c->dim;

	for (uint32_t i = 0; i < TOKENS; i++) {
		const unsigned char *codes = tile.codes + i * dim / 2;
		float scale = syn_f16_load(tile.scale + i * 2) * H4_SCALE_INV;
		int x[H4_DIM_MAX];

		for (uint32_t k = 0; k < dim; k++)
			x[k] = syn_h4_level(codes[k / 2] >> (k % 2 * 4) & 15);
		int_transform(x, dim);
		for (uint32_t k = 0; k < dim; k++, to += 2) {
			float value =
				scale *
				(float)(syn_h4_negative(k) ? -x[k] : x[k]);

			if (tile.mean)
				value += syn_f16_load(tile.mean + k * 2);
			syn_element_store(to, c->dtype, value);
		}
	}
}

const struct syn_h4_form syn_h4_plain = { "plain", plain_encode, plain_decode };
