/* SPDX-License-Identifier: Apache-2.0 */
/* The demo engine's arithmetic, each instruction set against plain doubles. */
#include "test/test.h"

#include <math.h>
#include <string.h>

#include "tools/infer/simd.h"

#define T	    SYN_PAGE_TOKENS
#define D	    SYN_HEAD_DIM
#define P	    SYN_SIMD_PANEL
#define COLUMNS_MAX 256

static const struct syn_simd *simds[3];
static unsigned int nr_simds;

static uint32_t seed = 1;

/* From -1 to 1. */
static float draw(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (float)(int32_t)seed / 2147483648.0f;
}

static float *drawn(size_t nr)
{
	float *x = syn_simd_floats(nr);

	assert_non_null(x);
	for (size_t i = 0; i < nr; i++)
		x[i] = draw();
	return x;
}

static void check_multiply(const struct syn_simd *simd, unsigned int rows,
			   unsigned int columns, unsigned int depth)
{
	unsigned int padded = (rows + 7) & ~7u;
	float *a = drawn((size_t)rows * depth);
	float *b = drawn((size_t)columns * depth);
	float *tiles = drawn((size_t)padded * depth);
	float *panels = drawn((size_t)columns * depth);
	float *c = drawn((size_t)padded * columns);

	syn_simd_pack(a, rows, depth, tiles);
	syn_simd_pack_panels(b, columns, depth, panels);
	simd->multiply(tiles, panels, padded, columns, depth, c);
	for (unsigned int r = 0; r < padded; r++) {
		for (unsigned int n = 0; n < columns; n++) {
			double sum = 0;

			for (unsigned int d = 0; r < rows && d < depth; d++)
				sum += (double)a[r * depth + d] *
				       (double)b[n * depth + d];
			assert_float_equal(c[r * columns + n], (float)sum,
					   1e-4);
		}
	}
	free(a);
	free(b);
	free(tiles);
	free(panels);
	free(c);
}

static void test_multiply(void **state)
{
	for (unsigned int i = 0; i < nr_simds; i++) {
		check_multiply(simds[i], 1, 64, 5);
		check_multiply(simds[i], 13, 96, 130);
		check_multiply(simds[i], 128, 32, 256);
	}
}

/**
 * struct heads - one head's attention over some pages, in doubles and not.
 * @half:	keys, then values of each page.
 * @x:		the same as floats.
 * @q:		queries, [column][D].
 * @panels:	the same in panels.
 * @max:	what syn_simd_page streams, and the four that follow.
 * @sum:	see there.
 * @mass:	see there.
 * @out:	see there.
 * @work:	see there.
 */
struct heads {
	uint16_t half[2][2][T * D];
	float x[2][2][T * D];
	float *q;
	float *panels;
	float *max;
	float *sum;
	float *mass;
	float *out;
	float *work;
};

static void heads_init(struct heads *h, const struct syn_simd *simd)
{
	for (unsigned int p = 0; p < 2; p++) {
		for (unsigned int kv = 0; kv < 2; kv++) {
			float *x = drawn(T * D);

			simd->to_half(x, h->half[p][kv], T * D);
			simd->from_half(h->half[p][kv], h->x[p][kv], T * D);
			free(x);
		}
	}
	h->q = drawn(COLUMNS_MAX * D);
	h->panels = drawn(COLUMNS_MAX * D);
	h->max = drawn(COLUMNS_MAX);
	h->sum = syn_simd_floats(COLUMNS_MAX);
	h->mass = syn_simd_floats(COLUMNS_MAX);
	h->out = syn_simd_floats(COLUMNS_MAX * D);
	h->work = drawn(SYN_SIMD_WORK);
	for (unsigned int c = 0; c < COLUMNS_MAX; c++)
		h->max[c] = -INFINITY;
}

static void heads_deinit(struct heads *h)
{
	free(h->q);
	free(h->panels);
	free(h->max);
	free(h->sum);
	free(h->mass);
	free(h->out);
	free(h->work);
}

/* Column @c over all of page 0 and the first @seen tokens of page 1. */
static void check_column(const struct heads *h, unsigned int c,
			 unsigned int seen)
{
	double weight[2 * T];
	double sum = 0;

	for (unsigned int t = 0; t < T + seen; t++) {
		double score = 0;

		for (unsigned int d = 0; d < D; d++)
			score += (double)h->x[t / T][0][t % T * D + d] *
				 (double)h->q[c * D + d];
		weight[t] = exp(score);
		sum += weight[t];
	}
	for (unsigned int d = 0; d < D; d++) {
		double value = 0;

		for (unsigned int t = 0; t < T + seen; t++)
			value += weight[t] / sum *
				 (double)h->x[t / T][1][t % T * D + d];
		assert_float_equal(h->out[c * D + d] / h->sum[c], (float)value,
				   2e-5);
	}
}

static void check_page(const struct syn_simd *simd, unsigned int queries,
		       unsigned int group, unsigned int first)
{
	static struct heads h;
	unsigned int columns = (queries * group + P - 1) / P * P;
	struct syn_simd_page page = { .nr_columns = columns };

	heads_init(&h, simd);
	syn_simd_pack_panels(h.q, queries * group, D, h.panels);
	page.q = h.panels;
	page.max = h.max;
	page.sum = h.sum;
	page.mass = h.mass;
	page.out = h.out;
	page.work = h.work;
	page.group = group;
	page.k = h.half[0][0];
	page.v = h.half[0][1];
	page.nr_tokens = T;
	simd->page(&page);
	page.k = h.half[1][0];
	page.v = h.half[1][1];
	page.nr_tokens = first + queries;
	page.causal = 1;
	page.first = first;
	simd->page(&page);
	for (unsigned int c = 0; c < queries * group; c++)
		check_column(&h, c, first + c / group + 1);
	heads_deinit(&h);
}

static void test_page(void **state)
{
	for (unsigned int i = 0; i < nr_simds; i++) {
		check_page(simds[i], 128, 2, 0);
		check_page(simds[i], 1, 2, 77);
		check_page(simds[i], 1, 2, 0);
		check_page(simds[i], 19, 4, 109);
		check_page(simds[i], 61, 1, 3);
	}
}

static void test_gate(void **state)
{
	float gate[64];
	float up[64];

	for (unsigned int i = 0; i < nr_simds; i++) {
		for (int n = 0; n < 64; n++) {
			gate[n] = (float)(n - 32) * 4;
			up[n] = 3;
		}
		simds[i]->gate(gate, up, 64);
		for (int n = 0; n < 64; n++) {
			double x = (n - 32) * 4;
			double y = 3 * x / (1 + exp(-x));

			assert_true(fabs((double)up[n] - y) <=
				    2e-6 * fabs(y) + 1e-30);
		}
	}
}

static double half_value(unsigned int half)
{
	unsigned int exponent = half >> 10 & 31;
	double fraction = half & 1023;

	if (!exponent)
		return ldexp(fraction, -24);
	return ldexp(1024 + fraction, (int)exponent - 25);
}

/* All finite halves, and the points half way between them. */
static void check_half(const struct syn_simd *simd, unsigned int sign)
{
	float x[16] = { 0 };
	uint16_t back[16] = { 0 };
	float scale = sign ? -1.0f : 1.0f;

	for (unsigned int h = 0; h < 0x7c00; h++) {
		double here = half_value(h);
		double next = half_value(h + 1);

		back[0] = (uint16_t)(sign | h);
		simd->from_half(back, x, 16);
		assert_true((double)x[0] == (double)scale * here);
		x[0] = scale * (float)here;
		x[1] = scale * (float)((here + next) / 2);
		x[2] = scale * nextafterf((float)((here + next) / 2), 0);
		simd->to_half(x, back, 16);
		assert_int_equal(back[0], sign | h);
		assert_int_equal(back[1], sign | (h + (h & 1)));
		assert_int_equal(back[2], sign | h);
	}
}

static void test_half(void **state)
{
	const float wild[16] = { INFINITY, -INFINITY, 1e9f, NAN };
	uint16_t half[16];
	float x[16];

	for (unsigned int i = 0; i < nr_simds; i++) {
		check_half(simds[i], 0);
		check_half(simds[i], 0x8000);
		simds[i]->to_half(wild, half, 16);
		assert_int_equal(half[0], 0x7c00);
		assert_int_equal(half[1], 0xfc00);
		assert_int_equal(half[2], 0x7c00);
		simds[i]->from_half(half, x, 16);
		assert_true(isinf(x[0]) && x[0] > 0);
		assert_true(isinf(x[1]) && x[1] < 0);
		assert_true(isnan(x[3]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_multiply),
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_gate),
		cmocka_unit_test(test_half),
	};

	nr_simds = syn_simd_all(simds, 3);
	return test_main(tests);
}
