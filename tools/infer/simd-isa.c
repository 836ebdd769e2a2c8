/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instruction set's arithmetic.  Compiled once for each, with
 * SYN_SIMD_ISA naming the table and SYN_SIMD_LANES the floats of a register.
 */
#include <math.h>
#include <string.h>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "tools/infer/simd.h"

#define LANES	SYN_SIMD_LANES
#define PANEL	SYN_SIMD_PANEL
#define TOKENS	SYN_PAGE_TOKENS
#define DIM	SYN_HEAD_DIM
#define INLINE	static inline __attribute__((always_inline))
#define COLUMNS (2 * LANES) /* of a register block: two vectors wide */
#if SYN_SIMD_LANES == 16
#define ROWS 8 /* 16 accumulators of 32 registers */
#else
#define ROWS 4 /* 8 accumulators of 16 registers */
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

INLINE vec vec_load(const float *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

INLINE void vec_store(float *p, vec v)
{
	memcpy(p, &v, sizeof(v));
}

INLINE vec vec_set(float x)
{
	return x - (vec){ 0 };
}

INLINE vec vec_max(vec a, vec b)
{
	ivec more = a > b;

	return (vec)(((ivec)a & more) | ((ivec)b & ~more));
}

/*
 * 2^n * e^r with |r| <= ln 2 / 2 and a Taylor polynomial for e^r, whose first
 * missing term is below 2^-27.  0 below -87, where floats become denormal.
 */
INLINE vec vec_exp(vec x)
{
	const vec round = vec_set(12582912.0f); /* 1.5 * 2^23 */
	const ivec keep = x > -87.0f;
	ivec n;
	vec y;

	x = -vec_max(-x, vec_set(-88.0f));
	x = vec_max(x, vec_set(-87.0f));
	y = x * 1.44269504f + round;
	n = (ivec)y - (ivec)round;
	y = y - round;
	x = x - y * 0.693359375f; /* ln 2 in two parts, the first exact */
	x = x + y * 2.12194440e-4f;
	y = x * (1.0f / 5040) + 1.0f / 720;
	y = y * x + 1.0f / 120;
	y = y * x + 1.0f / 24;
	y = y * x + 1.0f / 6;
	y = y * x + 0.5f;
	y = y * x + 1.0f;
	y = y * x + 1.0f;
	y *= (vec)((n + 127) << 23);
	return (vec)((ivec)y & keep);
}

/*
 * A register block: ROWS x COLUMNS sums over @depth.  The steps are constants
 * where this is inlined, so that addresses cost nothing.
 */
INLINE void block_sums(unsigned int depth, const float *a, size_t a_row,
		       size_t a_step, const float *b, size_t b_step,
		       vec ret[ROWS][2])
{
	vec sum[ROWS][2];

#pragma GCC unroll 8
	for (int r = 0; r < ROWS; r++) {
		sum[r][0] = (vec){ 0 };
		sum[r][1] = (vec){ 0 };
	}
	for (unsigned int d = 0; d < depth; d++) {
		vec b0 = vec_load(b + d * b_step);
		vec b1 = vec_load(b + d * b_step + LANES);

#pragma GCC unroll 8
		for (int r = 0; r < ROWS; r++) {
			vec x = vec_set(a[(size_t)r * a_row + d * a_step]);

			sum[r][0] += x * b0;
			sum[r][1] += x * b1;
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < ROWS; r++) {
		ret[r][0] = sum[r][0];
		ret[r][1] = sum[r][1];
	}
}

/* Rows outside, so that a panel of @b stays in the first cache. */
static void isa_multiply(const float *a, const float *b, unsigned int rows,
			 unsigned int columns, unsigned int depth, float *c)
{
	for (unsigned int n = 0; n < columns; n += COLUMNS) {
		const float *panel =
			b + (size_t)(n / PANEL) * depth * PANEL + n % PANEL;

		for (unsigned int m = 0; m < rows; m += ROWS) {
			const float *tile = a +
					    (size_t)(m / SYN_SIMD_ROWS) *
						    depth * SYN_SIMD_ROWS +
					    m % SYN_SIMD_ROWS;
			vec sum[ROWS][2];

			block_sums(depth, tile, 1, SYN_SIMD_ROWS, panel, PANEL,
				   sum);
			for (unsigned int r = 0; r < ROWS; r++) {
				float *row = c + (size_t)(m + r) * columns + n;

				vec_store(row, sum[r][0]);
				vec_store(row + LANES, sum[r][1]);
			}
		}
	}
}

/* score[token][column of the panel]; @nr_tokens is a multiple of ROWS. */
static void panel_scores(const float *k, const float *q, unsigned int nr_tokens,
			 float *score)
{
	for (unsigned int n = 0; n < PANEL; n += COLUMNS) {
		for (unsigned int t = 0; t < nr_tokens; t += ROWS) {
			vec sum[ROWS][2];

			block_sums(DIM, k + (size_t)t * DIM, DIM, 1, q + n,
				   PANEL, sum);
			for (unsigned int r = 0; r < ROWS; r++) {
				float *row =
					score + (size_t)(t + r) * PANEL + n;

				vec_store(row, sum[r][0]);
				vec_store(row + LANES, sum[r][1]);
			}
		}
	}
}

/* Column c of the panel sees @first + c / @group, and nothing after it. */
static void panel_mask(float *score, unsigned int nr_tokens, unsigned int first,
		       unsigned int group)
{
	for (unsigned int t = first + 1; t < nr_tokens; t++) {
		unsigned int blind = (t - first) * group;

		for (unsigned int c = 0; c < blind && c < PANEL; c++)
			score[(size_t)t * PANEL + c] = -INFINITY;
	}
}

/*
 * Scores become weights; the columns' maxima and sums move on.  @ret_keep gets
 * the factor by which what was summed before must shrink.
 */
INLINE void lanes_softmax(float *score, unsigned int nr_tokens, float *max,
			  float *sum, float *mass, float *ret_keep)
{
	vec before = vec_load(max);
	vec top = before;
	vec all = { 0 };
	vec keep;

	for (unsigned int t = 0; t < nr_tokens; t++)
		top = vec_max(top, vec_load(score + (size_t)t * PANEL));
	for (unsigned int t = 0; t < nr_tokens; t++) {
		float *p = score + (size_t)t * PANEL;
		vec weight = vec_exp(vec_load(p) - top);

		vec_store(p, weight);
		all += weight;
	}
	keep = vec_exp(before - top);
	vec_store(ret_keep, keep);
	vec_store(max, top);
	vec_store(mass, all);
	vec_store(sum, vec_load(sum) * keep + all);
}

/* out[column][dim] = out * keep[column] + weights * values */
static void panel_values(const float *weight, const float *v,
			 unsigned int nr_tokens, const float *keep, float *out)
{
	for (unsigned int n = 0; n < DIM; n += COLUMNS) {
		for (unsigned int c = 0; c < PANEL; c += ROWS) {
			vec sum[ROWS][2];

			block_sums(nr_tokens, weight + c, 1, PANEL, v + n, DIM,
				   sum);
			for (unsigned int r = 0; r < ROWS; r++) {
				float *o = out + (size_t)(c + r) * DIM + n;
				vec f = vec_set(keep[c + r]);

				vec_store(o, vec_load(o) * f + sum[r][0]);
				vec_store(o + LANES,
					  vec_load(o + LANES) * f + sum[r][1]);
			}
		}
	}
}

static void isa_from_half(const uint16_t *half, float *ret, size_t nr);

static void panel_page(const struct syn_simd_page *page, unsigned int panel,
		       unsigned int nr_tokens, const float *k, const float *v,
		       float *score)
{
	size_t column = (size_t)panel * PANEL;
	unsigned int first = page->first + panel * PANEL / page->group;
	float keep[PANEL];

	if (page->causal) {
		unsigned int last = first + (PANEL - 1) / page->group;

		nr_tokens = nr_tokens <= last ? nr_tokens : last + 1;
	}
	panel_scores(k, page->q + column * DIM, (nr_tokens + 7) & ~7u, score);
	if (page->causal)
		panel_mask(score, nr_tokens, first, page->group);
	for (unsigned int n = 0; n < PANEL; n += LANES)
		lanes_softmax(score + n, nr_tokens, page->max + column + n,
			      page->sum + column + n, page->mass + column + n,
			      keep + n);
	panel_values(score, v, nr_tokens, keep, page->out + column * DIM);
}

static void isa_page(const struct syn_simd_page *page)
{
	float *k = page->work;
	float *v = k + TOKENS * DIM;
	float *score = v + TOKENS * DIM;
	size_t nr = (size_t)page->nr_tokens * DIM;
	size_t padded = (((size_t)page->nr_tokens + 7) & ~(size_t)7) * DIM;

	isa_from_half(page->k, k, nr);
	memset(k + nr, 0, (padded - nr) * sizeof(*k));
	isa_from_half(page->v, v, nr);
	for (unsigned int p = 0; p < page->nr_columns / PANEL; p++)
		panel_page(page, p, page->nr_tokens, k, v, score);
}

static void isa_gate(const float *gate, float *up, size_t nr)
{
	for (size_t i = 0; i < nr; i += LANES) {
		vec x = vec_load(gate + i);
		vec y = x / (1.0f + vec_exp(-x)) * vec_load(up + i);

		vec_store(up + i, y);
	}
}

#if defined(__F16C__)

static void isa_from_half(const uint16_t *half, float *ret, size_t nr)
{
	for (size_t i = 0; i < nr; i += 8) {
		__m128i h = _mm_loadu_si128((const __m128i *)(half + i));

		_mm256_storeu_ps(ret + i, _mm256_cvtph_ps(h));
	}
}

static void isa_to_half(const float *x, uint16_t *ret, size_t nr)
{
	for (size_t i = 0; i < nr; i += 8) {
		__m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x + i),
					    _MM_FROUND_TO_NEAREST_INT);

		_mm_storeu_si128((__m128i *)(ret + i), h);
	}
}

#else

/* The exponent moves by a multiplication, which also renormalises denormals. */
static void isa_from_half(const uint16_t *half, float *ret, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		uint32_t sign = (uint32_t)(half[i] & 0x8000) << 16;
		uint32_t bits = (uint32_t)(half[i] & 0x7fff) << 13;
		float x;

		memcpy(&x, &bits, sizeof(x));
		x *= 0x1p112f;
		memcpy(&bits, &x, sizeof(x));
		if ((half[i] & 0x7c00) == 0x7c00)
			bits |= 0x7f800000;
		bits |= sign;
		memcpy(ret + i, &bits, sizeof(bits));
	}
}

static uint16_t half_round(float x)
{
	float y = fabsf(x);
	uint32_t bits;
	uint32_t sign;

	memcpy(&sign, &x, sizeof(sign));
	sign = sign >> 16 & 0x8000;
	if (!(y <= 3.4028235e38f))
		return (uint16_t)(sign | (y > 0 ? 0x7c00 : 0x7e00));
	if (y >= 65520.0f)
		return (uint16_t)(sign | 0x7c00);
	if (y < 0x1p-14f) {
		/* Adding 0.5 leaves a denormal's bits at the bottom. */
		y += 0.5f;
		memcpy(&bits, &y, sizeof(bits));
		return (uint16_t)(sign | (bits - 0x3f000000));
	}
	memcpy(&bits, &y, sizeof(bits));
	bits += 0xfff + (bits >> 13 & 1);
	return (uint16_t)(sign | (bits - 0x38000000) >> 13);
}

static void isa_to_half(const float *x, uint16_t *ret, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		ret[i] = half_round(x[i]);
}

#endif

const struct syn_simd SYN_SIMD_ISA = {
	.name = SYN_SIMD_NAME,
	.multiply = isa_multiply,
	.page = isa_page,
	.gate = isa_gate,
	.from_half = isa_from_half,
	.to_half = isa_to_half,
};
