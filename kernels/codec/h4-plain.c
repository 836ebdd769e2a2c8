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
#include "kernels/codec/h4-form.h"

#define TOKENS SYN_TILE_TOKENS
#define LANES  16u

static const int levels[] = { H4_LEVELS };
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

static float float_of(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static uint32_t bits_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static float f16_load(const void *at)
{
	uint16_t h;
	uint32_t sign, rest;

	memcpy(&h, at, sizeof(h));
	sign = (uint32_t)(h & 0x8000) << 16;
	rest = h & 0x7fff;
	if (rest >= 0x7c00)
		return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
	/* The exponent is moved by a multiplication, also of a subnormal. */
	return float_of(sign |
			bits_of(float_of(rest << 13) * float_of(0x77800000)));
}

/* To the nearest, ties to even. */
static void f16_store(void *at, float x)
{
	uint32_t sign = bits_of(x) >> 16 & 0x8000;
	uint32_t rest = bits_of(x) & 0x7fffffff;
	uint16_t h;

	if (rest > 0x7f800000)
		rest = 0x7e00;
	else if (rest >= 0x477ff000) /* half a step above 65504 */
		rest = 0x7c00;
	else if (rest < 0x38800000) /* subnormal: units of 2^-24 */
		rest = bits_of(float_of(rest) + 0.5f) - bits_of(0.5f);
	else
		rest = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
	h = (uint16_t)(sign | rest);
	memcpy(at, &h, sizeof(h));
}

static float bf16_load(const void *at)
{
	uint16_t h;

	memcpy(&h, at, sizeof(h));
	return float_of((uint32_t)h << 16);
}

/* What is decoded is finite. */
static void bf16_store(void *at, float x)
{
	uint32_t bits = bits_of(x);
	uint16_t h = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);

	memcpy(at, &h, sizeof(h));
}

static float element_load(const unsigned char *at, uint16_t dtype)
{
	return dtype == SYN_DTYPE_F16 ? f16_load(at) : bf16_load(at);
}

static void element_store(unsigned char *at, uint16_t dtype, float x)
{
	if (dtype != SYN_DTYPE_F16) {
		bf16_store(at, x);
		return;
	}
	if (x > H4_F16_MAX)
		x = H4_F16_MAX;
	if (x < -H4_F16_MAX)
		x = -H4_F16_MAX;
	f16_store(at, x);
}

/* The order in which 16 partial sums become one. */
static float lanes_fold(float *lane)
{
	for (uint32_t half = LANES / 2; half; half /= 2)
		for (uint32_t i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

/* The distances of butterflies, in the order that the definition gives. */
static void float_transform(float *x, uint32_t dim)
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

static int level_of(unsigned int code)
{
	return code & 8 ? levels[code & 7] : -levels[7 - (code & 7)];
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
		int level = level_of(code);

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
	f16_store(ret_scale, t->scale);
	t->scale = f16_load(ret_scale);
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
			sum += element_load(src + (t * c->dim + i) * 2,
					    c->dtype);
		f16_store(tile->mean + i * 2, sum * (1.0f / TOKENS));
		ret_mean[i] = f16_load(tile->mean + i * 2);
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
			t.x[k] = element_load(from, c->dtype) - mean[k];
		token_power(&t, dim);
		if (!isfinite(t.power))
			return -EDOM;
		for (uint32_t k = 0; k < dim; k++)
			t.x[k] = syn_h4_negative(k) ? -t.x[k] : t.x[k];
		float_transform(t.x, dim);
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
		float scale = f16_load(tile.scale + i * 2) * H4_SCALE_INV;
		int x[H4_DIM_MAX];

		for (uint32_t k = 0; k < dim; k++)
			x[k] = level_of(codes[k / 2] >> (k % 2 * 4) & 15);
		int_transform(x, dim);
		for (uint32_t k = 0; k < dim; k++, to += 2) {
			float value =
				scale *
				(float)(syn_h4_negative(k) ? -x[k] : x[k]);

			if (tile.mean)
				value += f16_load(tile.mean + k * 2);
			element_store(to, c->dtype, value);
		}
	}
}

const struct syn_h4_form syn_h4_plain = { "plain", plain_encode, plain_decode };
