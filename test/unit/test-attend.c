/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels/attend: against attention in double precision over what the stored
 * bytes stand for.
 */
#include <errno.h>
#include <math.h>

#include <synapse/codec.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/attend/attend.h"
#include "kernels/codec/element.h"
#include "kernels/codec/h4.h"
#include "test/test.h"

#define DIM_MAX	  128u
#define HEADS	  2u
#define GROUP_MAX SYN_ATTEND_GROUP_MAX
#define PARTS	  5u
#define TILE	  (SYN_TILE_TOKENS * DIM_MAX)
#define QUERIES	  (HEADS * GROUP_MAX)

static uint64_t seed = 88172645463325252u;

static double next_normal(void)
{
	double u[2];

	for (int i = 0; i < 2; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		u[i] = ((double)(seed >> 32) + 0.5) / 4294967296.0;
	}
	return sqrt(-2 * log(u[0])) * cos(2 * M_PI * u[1]);
}

/**
 * struct bench - a sequence, stored, and what it stands for.
 * @shape:	its shape.
 * @raw:	tiles of keys and of values as elements, by part and head.
 * @stored:	the same, encoded.
 * @number:	what both stand for, without rounding.
 * @parts:	where they are.
 * @q:		queries.
 */
static struct bench {
	struct syn_attend_shape shape;
	uint16_t raw[2][PARTS][HEADS][TILE];
	unsigned char stored[2][PARTS][HEADS][TILE];
	double number[2][PARTS][HEADS][TILE];
	struct syn_attend_part parts[PARTS];
	uint16_t q[QUERIES * DIM_MAX];
} bench;

/**
 * struct answer - of one sequence.
 * @out:	see struct syn_attend_seq, and so on.
 * @lse:	see there.
 * @shares:	see there.
 */
struct answer {
	float out[QUERIES * DIM_MAX];
	float lse[QUERIES];
	float shares[PARTS * QUERIES];
};

static struct answer answers[3];

static void element_put(uint16_t *at, double x)
{
	syn_element_store((void *)at, bench.shape.dtype, (float)x);
}

static double element_get(const uint16_t *at)
{
	return syn_element_load((const void *)at, bench.shape.dtype);
}

/* ---- what there is ------------------------------------------------------ */

static struct syn_component component(unsigned int which)
{
	return (struct syn_component){
		.role = which ? SYN_ROLE_V : SYN_ROLE_K,
		.dtype = bench.shape.dtype,
		.heads = 1,
		.dim = bench.shape.dim,
		.codec = SYN_CODEC_H4,
	};
}

/* Keys have a mean, some tokens are looked at more than others. */
static void tile_fill(unsigned int which, uint32_t part, uint32_t head)
{
	const uint32_t dim = bench.shape.dim;
	uint16_t *to = bench.raw[which][part][head];

	for (uint32_t t = 0; t < SYN_TILE_TOKENS; t++) {
		double size = which ? 1 : t % 37 == part ? 2.5 : 0.7;

		for (uint32_t i = 0; i < dim; i++)
			element_put(to++, size * next_normal() +
						  (which ? 0 : i % 5 * 0.2));
	}
}

/* In double precision what the definition has in fp32, nothing rounded. */
static void tile_numbers(const unsigned char *stored, bool keys, double *to)
{
	const uint32_t dim = bench.shape.dim;
	const unsigned char *scale = stored + (keys ? 2 * dim : 0);
	const unsigned char *codes = scale + 2 * SYN_TILE_TOKENS;
	static const int level[] = { 5, 15, 25, 37, 49, 63, 81, 107 };
	static const uint64_t sign[] = { 0xe220a8397b1dcdafu,
					 0x6e789e6aa1b965f4u };

	for (uint32_t t = 0; t < SYN_TILE_TOKENS; t++) {
		for (uint32_t i = 0; i < dim; i++) {
			double sum = 0;

			for (uint32_t k = 0; k < dim; k++) {
				unsigned int c = codes[t * dim / 2 + k / 2] >>
							 (k % 2 * 4) &
						 15;
				int x = c & 8 ? level[c & 7] : -level[7 - c];

				sum += __builtin_popcount(i & k) & 1 ? -x : x;
			}
			if (sign[i / 64] >> (i % 64) & 1)
				sum = -sum;
			to[t * dim + i] =
				sum * syn_f16_load(scale + 2 * t) / 256 +
				(keys ? syn_f16_load(stored + 2 * i) : 0);
		}
	}
}

static void tile_make(unsigned int which, uint32_t part, uint32_t head,
		      bool coded)
{
	const uint32_t elements = SYN_TILE_TOKENS * bench.shape.dim;
	const struct syn_component c = component(which);
	uint16_t *raw = bench.raw[which][part][head];
	double *number = bench.number[which][part][head];
	uint16_t error;

	tile_fill(which, part, head);
	if (coded) {
		assert_int_equal(syn_h4_encode(bench.stored[which][part][head],
					       raw, &c, &error),
				 0);
		tile_numbers(bench.stored[which][part][head], !which, number);
		return;
	}
	for (uint32_t i = 0; i < elements; i++)
		number[i] = element_get(&raw[i]);
}

static struct syn_attend_tiles tiles_at(unsigned int which, uint32_t part,
					bool coded)
{
	return (struct syn_attend_tiles){
		.at = coded ? (uintptr_t)bench.stored[which][part]
			    : (uintptr_t)bench.raw[which][part],
		.head = coded ? TILE : sizeof(bench.raw[0][0][0]),
		.token = 2 * bench.shape.dim,
		.codec = coded ? SYN_CODEC_H4 : SYN_CODEC_RAW16,
	};
}

/* Bit p of @coded: the keys of part p are encoded; of @coded >> 8: values. */
static void bench_make(uint16_t dtype, uint16_t dim, uint16_t group,
		       unsigned int coded, uint32_t last)
{
	bench.shape = (struct syn_attend_shape){
		.dtype = dtype,
		.dim = dim,
		.kv_heads = HEADS,
		.group = group,
		.scale = 1 / sqrtf(dim),
	};
	for (uint32_t p = 0; p < PARTS; p++) {
		bool k = coded >> p & 1, v = coded >> (8 + p) & 1;

		for (uint32_t h = 0; h < HEADS; h++) {
			tile_make(0, p, h, k);
			tile_make(1, p, h, v);
		}
		bench.parts[p] = (struct syn_attend_part){
			.k = tiles_at(0, p, k),
			.v = tiles_at(1, p, v),
			.nr_tokens = p + 1 < PARTS ? SYN_TILE_TOKENS : last,
		};
	}
	for (uint32_t i = 0; i < HEADS * group * dim; i++)
		element_put(&bench.q[i], next_normal());
}

static struct syn_attend_seq seq_of(struct answer *answer)
{
	memset(answer, 0xa5, sizeof(*answer));
	return (struct syn_attend_seq){
		.q = bench.q,
		.parts = bench.parts,
		.nr_parts = PARTS,
		.out = answer->out,
		.lse = answer->lse,
		.shares = answer->shares,
	};
}

/* ---- what must come out ------------------------------------------------- */

/**
 * struct wanted - of one query head, in double precision.
 * @out:	see struct syn_attend_seq, and so on.
 * @lse:	see there.
 * @shares:	see there.
 */
struct wanted {
	double out[DIM_MAX];
	double lse;
	double shares[PARTS];
};

static void want(uint32_t i, struct wanted *ret)
{
	const uint32_t dim = bench.shape.dim, head = i / bench.shape.group;
	double sum = 0;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t p = 0; p < PARTS; p++) {
		const double *k = bench.number[0][p][head];
		const double *v = bench.number[1][p][head];

		for (uint32_t t = 0; t < bench.parts[p].nr_tokens; t++) {
			double x = 0;

			for (uint32_t d = 0; d < dim; d++)
				x += element_get(&bench.q[i * dim + d]) *
				     k[t * dim + d];
			x = exp(bench.shape.scale * x);
			sum += x;
			ret->shares[p] += x;
			for (uint32_t d = 0; d < dim; d++)
				ret->out[d] += x * v[t * dim + d];
		}
	}
	ret->lse = log(sum);
	for (uint32_t p = 0; p < PARTS; p++)
		ret->shares[p] /= sum;
	for (uint32_t d = 0; d < dim; d++)
		ret->out[d] /= sum;
}

#define CLOSE 1e-5

static void check(const struct answer *answer)
{
	const uint32_t dim = bench.shape.dim;
	const uint32_t heads = HEADS * bench.shape.group;

	for (uint32_t i = 0; i < heads; i++) {
		double off = 0, all = 0, shares = 0;
		struct wanted wanted;

		want(i, &wanted);
		for (uint32_t d = 0; d < dim; d++) {
			double x = answer->out[i * dim + d];

			off += (x - wanted.out[d]) * (x - wanted.out[d]);
			all += wanted.out[d] * wanted.out[d];
		}
		assert_true(sqrt(off / all) < CLOSE);
		assert_true(fabs(answer->lse[i] - wanted.lse) < CLOSE * 10);
		for (uint32_t p = 0; p < PARTS; p++) {
			double share = answer->shares[p * heads + i];

			assert_true(fabs(share - wanted.shares[p]) < CLOSE);
			shares += share;
		}
		assert_true(fabs(shares - 1) < CLOSE);
	}
}

/* ---- tests -------------------------------------------------------------- */

/* Raw, encoded, and keys and values each as they happen to be. */
static void test_is_attention(void **state)
{
	static const unsigned int coded[] = { 0, 0x1f1f, 0x1f00, 0x0515 };
	static const uint32_t last[] = { SYN_TILE_TOKENS, 1, 77 };

	(void)state;
	for (unsigned int i = 0; i < 24; i++) {
		struct syn_attend_seq seq = seq_of(&answers[0]);

		bench_make(i & 1 ? SYN_DTYPE_BF16 : SYN_DTYPE_F16,
			   i & 2 ? 64 : 128,
			   (uint16_t)(i % 3 == 2 ? GROUP_MAX : 1 + i % 3),
			   coded[i / 4 % 4], last[i % 3]);
		assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
		check(&answers[0]);
	}
}

/* What decoding rounds to fp16 is all that differs. */
static void test_equals_decoding_first(void **state)
{
	const uint32_t heads = HEADS * 4;

	(void)state;
	for (uint16_t dim = 64; dim <= DIM_MAX; dim *= 2) {
		struct syn_attend_seq seq = seq_of(&answers[0]);
		double off = 0, all = 0;

		bench_make(SYN_DTYPE_F16, dim, 4, 0x1f1f, 90);
		assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
		for (uint32_t i = 0; i < 2 * PARTS * HEADS; i++) {
			const struct syn_component c = component(i % 2);
			uint32_t p = i / 2 % PARTS, h = i / 2 / PARTS;

			syn_h4_decode(bench.raw[i % 2][p][h],
				      bench.stored[i % 2][p][h], &c);
			bench.parts[p].k = tiles_at(0, p, false);
			bench.parts[p].v = tiles_at(1, p, false);
		}
		seq = seq_of(&answers[1]);
		assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
		for (uint32_t i = 0; i < heads * dim; i++) {
			double x = answers[1].out[i];

			off += (answers[0].out[i] - x) *
			       (answers[0].out[i] - x);
			all += x * x;
		}
		assert_true(off > 0 && sqrt(off / all) < 1e-3);
	}
}

/* Where an engine has them: [token][head], keys and values by turns. */
static void test_strides(void **state)
{
	const uint32_t row = 2 * DIM_MAX, token = 2 * HEADS * row;
	static unsigned char there[PARTS]
				  [SYN_TILE_TOKENS * 4 * HEADS * DIM_MAX];
	struct syn_attend_seq seq = seq_of(&answers[0]);

	(void)state;
	bench_make(SYN_DTYPE_F16, DIM_MAX, 4, 0, 100);
	assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
	for (uint32_t i = 0; i < 2 * PARTS * HEADS * SYN_TILE_TOKENS; i++) {
		uint32_t t = i % SYN_TILE_TOKENS,
			 h = i / SYN_TILE_TOKENS % HEADS;
		uint32_t p = i / SYN_TILE_TOKENS / HEADS % PARTS;
		uint32_t which = i / SYN_TILE_TOKENS / HEADS / PARTS;

		memcpy(there[p] + t * token + (2 * h + which) * row,
		       &bench.raw[which][p][h][t * DIM_MAX], row);
	}
	for (uint32_t p = 0; p < PARTS; p++) {
		bench.parts[p].k = (struct syn_attend_tiles){
			.at = (uintptr_t)there[p],
			.head = 2 * row,
			.token = token,
			.codec = SYN_CODEC_RAW16,
		};
		bench.parts[p].v = bench.parts[p].k;
		bench.parts[p].v.at += row;
	}
	seq = seq_of(&answers[1]);
	assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
	assert_memory_equal(&answers[0], &answers[1], sizeof(answers[0]));
}

/* Bit by bit, alone and behind a shorter one. */
static void test_neighbours_do_not_matter(void **state)
{
	struct syn_attend_seq alone = seq_of(&answers[0]), two[2];

	(void)state;
	bench_make(SYN_DTYPE_BF16, 64, 3, 0x0a0a, 9);
	two[0] = seq_of(&answers[2]);
	two[0].nr_parts = 2;
	two[0].shares = NULL;
	two[1] = seq_of(&answers[1]);
	assert_int_equal(syn_attend(&bench.shape, &alone, 1), 0);
	assert_int_equal(syn_attend(&bench.shape, two, 2), 0);
	assert_memory_equal(&answers[0], &answers[1], sizeof(answers[0]));
	assert_true(answers[2].lse[0] < answers[0].lse[0]);
}

static void test_no_tokens(void **state)
{
	struct syn_attend_seq seq = seq_of(&answers[0]);

	(void)state;
	bench_make(SYN_DTYPE_F16, 64, 1, 0, 1);
	seq.nr_parts = 0;
	assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
	for (uint32_t i = 0; i < HEADS; i++) {
		assert_true(isinf(answers[0].lse[i]) && answers[0].lse[i] < 0);
		for (uint32_t d = 0; d < 64; d++)
			assert_true(answers[0].out[i * 64 + d] == 0);
	}
}

/* A score so large that only the largest counts; none is lost to overflow. */
static void test_large_scores(void **state)
{
	struct syn_attend_seq seq = seq_of(&answers[0]);

	(void)state;
	bench_make(SYN_DTYPE_F16, 64, 2, 0x1f1f, 50);
	bench.shape.scale = 1000;
	assert_int_equal(syn_attend(&bench.shape, &seq, 1), 0);
	for (uint32_t i = 0; i < 2 * HEADS; i++) {
		double shares = 0;

		assert_true(isfinite(answers[0].lse[i]));
		for (uint32_t p = 0; p < PARTS; p++)
			shares += answers[0].shares[p * 2 * HEADS + i];
		assert_true(fabs(shares - 1) < CLOSE);
	}
}

static void test_refused(void **state)
{
	struct syn_attend_seq seq = seq_of(&answers[0]);
	struct syn_attend_shape shape;

	(void)state;
	bench_make(SYN_DTYPE_F16, 64, 1, 0, 1);
	shape = bench.shape;
#define REFUSED(change, back)                                                  \
	do {                                                                   \
		change;                                                        \
		assert_int_equal(syn_attend(&shape, &seq, 1), -EINVAL);        \
		back;                                                          \
	} while (0)
	REFUSED(shape.dim = 96, shape.dim = 64);
	REFUSED(shape.dtype = SYN_DTYPE_F32, shape.dtype = SYN_DTYPE_F16);
	REFUSED(shape.kv_heads = 0, shape.kv_heads = HEADS);
	REFUSED(shape.group = 0, shape.group = 1);
	REFUSED(shape.group = GROUP_MAX + 1, shape.group = 1);
	REFUSED(shape.scale = NAN, shape.scale = 1);
	REFUSED(bench.parts[4].nr_tokens = 0, bench.parts[4].nr_tokens = 1);
	REFUSED(bench.parts[4].nr_tokens = SYN_TILE_TOKENS + 1,
		bench.parts[4].nr_tokens = 1);
	REFUSED(bench.parts[2].k.codec = SYN_CODEC_NR,
		bench.parts[2].k.codec = SYN_CODEC_RAW16);
	REFUSED(bench.parts[2].v.token++, bench.parts[2].v.token--);
	REFUSED(seq.lse = NULL, seq.lse = answers[0].lse);
#undef REFUSED
	syn_fault_arm(1);
	assert_int_equal(syn_attend(&shape, &seq, 1), -ENOMEM);
	assert_true(syn_fault_disarm());
	assert_int_equal(syn_attend(&shape, &seq, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_attention),
		cmocka_unit_test(test_equals_decoding_first),
		cmocka_unit_test(test_strides),
		cmocka_unit_test(test_neighbours_do_not_matter),
		cmocka_unit_test(test_no_tokens),
		cmocka_unit_test(test_large_scores),
		cmocka_unit_test(test_refused),
	};

	return test_main(tests);
}
