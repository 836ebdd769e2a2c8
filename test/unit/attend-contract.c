/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels/attend, in whatever form: against attention in double precision over
 * what the stored bytes stand for.
 */
#include "test/unit/attend-contract.h"

#include <errno.h>
#include <math.h>

#include <synapse/codec.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/element.h"
#include "kernels/codec/h4.h"
#include "test/test.h"

#define DIM_MAX	  ATTEND_DIM_MAX
#define HEADS	  ATTEND_HEADS
#define GROUP_MAX SYN_ATTEND_GROUP_MAX
#define PARTS	  ATTEND_PARTS
#define TILE	  ATTEND_TILE

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

struct attend_bench attend_bench;

static struct attend_bench *const b = &attend_bench;

static void element_put(uint16_t *at, double x)
{
	syn_element_store((void *)at, b->shape.dtype, (float)x);
}

static double element_get(const uint16_t *at)
{
	return syn_element_load((const void *)at, b->shape.dtype);
}

/* ---- what there is ------------------------------------------------------ */

static struct syn_component component(unsigned int which)
{
	return (struct syn_component){
		.role = which ? SYN_ROLE_V : SYN_ROLE_K,
		.dtype = b->shape.dtype,
		.heads = 1,
		.dim = b->shape.dim,
		.codec = SYN_CODEC_H4,
	};
}

/* Keys have a mean, some tokens are looked at more than others. */
static void tile_fill(unsigned int which, uint32_t part, uint32_t head)
{
	const uint32_t dim = b->shape.dim;
	uint16_t *to = b->raw[which][part][head];

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
	const uint32_t dim = b->shape.dim;
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
	const uint32_t elements = SYN_TILE_TOKENS * b->shape.dim;
	const struct syn_component c = component(which);
	uint16_t *raw = b->raw[which][part][head];
	double *number = b->number[which][part][head];
	uint16_t error;

	tile_fill(which, part, head);
	if (coded) {
		assert_int_equal(syn_h4_encode(b->stored[which][part][head],
					       raw, &c, &error),
				 0);
		tile_numbers(b->stored[which][part][head], !which, number);
		return;
	}
	for (uint32_t i = 0; i < elements; i++)
		number[i] = element_get(&raw[i]);
}

static struct syn_attend_tiles tiles_at(unsigned int which, uint32_t part,
					bool coded)
{
	return (struct syn_attend_tiles){
		.at = coded ? (uintptr_t)b->stored[which][part]
			    : (uintptr_t)b->raw[which][part],
		.head = coded ? TILE : sizeof(b->raw[0][0][0]),
		.token = 2 * b->shape.dim,
		.codec = coded ? SYN_CODEC_H4 : SYN_CODEC_RAW16,
	};
}

void attend_bench_make(uint16_t dtype, uint16_t dim, uint16_t group,
		       unsigned int coded, uint32_t last)
{
	b->shape = (struct syn_attend_shape){
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
		b->parts[p] = (struct syn_attend_part){
			.k = tiles_at(0, p, k),
			.v = tiles_at(1, p, v),
			.nr_tokens = p + 1 < PARTS ? SYN_TILE_TOKENS : last,
		};
	}
	for (uint32_t i = 0; i < HEADS * group * dim; i++)
		element_put(&b->q[i], next_normal());
}

/* One sequence, all parts. */
static struct syn_attend_batch batch_of(struct attend_answer *answer)
{
	memset(answer, 0xa5, sizeof(*answer));
	b->seqs[0] = (struct syn_attend_seq){
		.nr = PARTS,
		.last = b->parts[PARTS - 1].nr_tokens,
	};
	return (struct syn_attend_batch){
		.q = b->q,
		.parts = b->parts,
		.seqs = b->seqs,
		.nr_seqs = 1,
		.out = answer->out,
		.lse = answer->lse,
		.shares = answer->shares,
	};
}

static void attend(struct attend_answer *answer)
{
	const struct syn_attend_batch batch = batch_of(answer);

	assert_int_equal(attend_form->run(&b->shape, &batch), 0);
}

/* ---- what must come out ------------------------------------------------- */

/**
 * struct wanted - of one query head, in double precision.
 * @out:	see struct syn_attend_batch, and so on.
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
	const uint32_t dim = b->shape.dim, head = i / b->shape.group;
	double sum = 0;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t p = 0; p < PARTS; p++) {
		const double *k = b->number[0][p][head];
		const double *v = b->number[1][p][head];

		for (uint32_t t = 0; t < b->parts[p].nr_tokens; t++) {
			double x = 0;

			for (uint32_t d = 0; d < dim; d++)
				x += element_get(&b->q[i * dim + d]) *
				     k[t * dim + d];
			x = exp(b->shape.scale * x);
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

static void check(const struct attend_answer *answer)
{
	const double close = attend_form->close;
	const uint32_t dim = b->shape.dim;
	const uint32_t heads = HEADS * b->shape.group;

	for (uint32_t i = 0; i < heads; i++) {
		double off = 0, all = 0, shares = 0;
		struct wanted wanted;

		want(i, &wanted);
		for (uint32_t d = 0; d < dim; d++) {
			double x = answer->out[i * dim + d];

			off += (x - wanted.out[d]) * (x - wanted.out[d]);
			all += wanted.out[d] * wanted.out[d];
		}
		assert_true(sqrt(off / all) < close);
		assert_true(fabs(answer->lse[i] - wanted.lse) < close * 10);
		for (uint32_t p = 0; p < PARTS; p++) {
			double share = answer->shares[p * heads + i];

			assert_true(fabs(share - wanted.shares[p]) < close);
			shares += share;
		}
		assert_true(fabs(shares - 1) < close);
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
		attend_bench_make(
			i & 1 ? SYN_DTYPE_BF16 : SYN_DTYPE_F16,
			i & 2 ? 64 : 128,
			(uint16_t)(i % 3 == 2 ? GROUP_MAX : 1 + i % 3),
			coded[i / 4 % 4], last[i % 3]);
		attend(&b->answers[0]);
		check(&b->answers[0]);
	}
}

/* What decoding rounds to fp16 is all that differs. */
static void test_equals_decoding_first(void **state)
{
	const uint32_t heads = HEADS * 4;

	(void)state;
	for (uint16_t dim = 64; dim <= DIM_MAX; dim *= 2) {
		double off = 0, all = 0;

		attend_bench_make(SYN_DTYPE_F16, dim, 4, 0x1f1f, 90);
		attend(&b->answers[0]);
		for (uint32_t i = 0; i < 2 * PARTS * HEADS; i++) {
			const struct syn_component c = component(i % 2);
			uint32_t p = i / 2 % PARTS, h = i / 2 / PARTS;

			syn_h4_decode(b->raw[i % 2][p][h],
				      b->stored[i % 2][p][h], &c);
			b->parts[p].k = tiles_at(0, p, false);
			b->parts[p].v = tiles_at(1, p, false);
		}
		attend(&b->answers[1]);
		for (uint32_t i = 0; i < heads * dim; i++) {
			double x = b->answers[1].out[i];

			off += (b->answers[0].out[i] - x) *
			       (b->answers[0].out[i] - x);
			all += x * x;
		}
		assert_true(off > 0 && sqrt(off / all) < 1e-3);
	}
}

/* Where an engine has them: [token][head], keys and values by turns. */
static void test_strides(void **state)
{
	const uint32_t row = 2 * DIM_MAX, token = 2 * HEADS * row;

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, DIM_MAX, 4, 0, 100);
	attend(&b->answers[0]);
	for (uint32_t i = 0; i < 2 * PARTS * HEADS * SYN_TILE_TOKENS; i++) {
		uint32_t t = i % SYN_TILE_TOKENS,
			 h = i / SYN_TILE_TOKENS % HEADS;
		uint32_t p = i / SYN_TILE_TOKENS / HEADS % PARTS;
		uint32_t which = i / SYN_TILE_TOKENS / HEADS / PARTS;

		memcpy(b->there[p] + t * token + (2 * h + which) * row,
		       &b->raw[which][p][h][t * DIM_MAX], row);
	}
	for (uint32_t p = 0; p < PARTS; p++) {
		b->parts[p].k = (struct syn_attend_tiles){
			.at = (uintptr_t)b->there[p],
			.head = 2 * row,
			.token = token,
			.codec = SYN_CODEC_RAW16,
		};
		b->parts[p].v = b->parts[p].k;
		b->parts[p].v.at += row;
	}
	attend(&b->answers[1]);
	assert_memory_equal(&b->answers[0], &b->answers[1],
			    sizeof(b->answers[0]));
}

/*
 * Bit by bit, alone and behind one that ends within its second part: what both
 * have in common is theirs alone.
 */
static void test_neighbours_do_not_matter(void **state)
{
	enum { GROUP = 3, QUERY = HEADS * GROUP * 64 };
	struct syn_attend_batch batch;

	(void)state;
	attend_bench_make(SYN_DTYPE_BF16, 64, GROUP, 0x0a0a, 9);
	attend(&b->answers[0]);
	memcpy(&b->q[QUERY], b->q, QUERY * sizeof(*b->q));
	batch = batch_of(&b->answers[1]);
	b->seqs[1] = b->seqs[0];
	b->seqs[0] = (struct syn_attend_seq){ .nr = 2, .last = 7, .share = 5 };
	batch.nr_seqs = 2;
	assert_int_equal(attend_form->run(&b->shape, &batch), 0);
	assert_memory_equal(b->answers[0].out, &b->answers[1].out[QUERY],
			    QUERY * sizeof(float));
	assert_memory_equal(b->answers[0].lse,
			    &b->answers[1].lse[HEADS * GROUP],
			    HEADS * GROUP * sizeof(float));
	assert_memory_equal(b->answers[0].shares, b->answers[1].shares,
			    PARTS * HEADS * GROUP * sizeof(float));
	assert_true(b->answers[1].lse[0] < b->answers[0].lse[0]);
}

/* The end of a sequence is its own, not that of its last part. */
static void test_ends_early(void **state)
{
	struct syn_attend_batch batch;

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, DIM_MAX, 2, 0x1010, 40);
	attend(&b->answers[0]);
	b->parts[PARTS - 1].nr_tokens = SYN_TILE_TOKENS;
	batch = batch_of(&b->answers[1]);
	b->seqs[0].last = 40;
	batch.shares = NULL;
	assert_int_equal(attend_form->run(&b->shape, &batch), 0);
	assert_memory_equal(b->answers[0].out, b->answers[1].out,
			    HEADS * 2 * DIM_MAX * sizeof(float));
	assert_memory_equal(b->answers[0].lse, b->answers[1].lse,
			    HEADS * 2 * sizeof(float));
}

static void test_no_tokens(void **state)
{
	struct syn_attend_batch batch;

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, 64, 1, 0, 1);
	batch = batch_of(&b->answers[0]);
	b->seqs[0].nr = 0;
	assert_int_equal(attend_form->run(&b->shape, &batch), 0);
	for (uint32_t i = 0; i < HEADS; i++) {
		assert_true(isinf(b->answers[0].lse[i]) &&
			    b->answers[0].lse[i] < 0);
		for (uint32_t d = 0; d < 64; d++)
			assert_true(b->answers[0].out[i * 64 + d] == 0);
	}
}

/* A score so large that only the largest counts; none is lost to overflow. */
static void test_large_scores(void **state)
{
	(void)state;
	attend_bench_make(SYN_DTYPE_F16, 64, 2, 0x1f1f, 50);
	b->shape.scale = 1000;
	attend(&b->answers[0]);
	for (uint32_t i = 0; i < 2 * HEADS; i++) {
		double shares = 0;

		assert_true(isfinite(b->answers[0].lse[i]));
		for (uint32_t p = 0; p < PARTS; p++)
			shares += b->answers[0].shares[p * 2 * HEADS + i];
		assert_true(fabs(shares - 1) < attend_form->close);
	}
}

static void test_shape_refused(void **state)
{
	struct syn_attend_batch batch;
	struct syn_attend_shape shape;

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, 64, 1, 0, 1);
	batch = batch_of(&b->answers[0]);
	shape = b->shape;
#define REFUSED(change, back)                                                  \
	do {                                                                   \
		change;                                                        \
		assert_int_equal(attend_form->run(&shape, &batch), -EINVAL);   \
		back;                                                          \
	} while (0)
	REFUSED(shape.dim = 96, shape.dim = 64);
	REFUSED(shape.dtype = SYN_DTYPE_F32, shape.dtype = SYN_DTYPE_F16);
	REFUSED(shape.kv_heads = 0, shape.kv_heads = HEADS);
	REFUSED(shape.group = 0, shape.group = 1);
	REFUSED(shape.group = GROUP_MAX + 1, shape.group = 1);
	REFUSED(shape.scale = NAN, shape.scale = 1);
	REFUSED(batch.lse = NULL, batch.lse = b->answers[0].lse);
#undef REFUSED
}

int attend_contract(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_attention),
		cmocka_unit_test(test_equals_decoding_first),
		cmocka_unit_test(test_strides),
		cmocka_unit_test(test_neighbours_do_not_matter),
		cmocka_unit_test(test_ends_early),
		cmocka_unit_test(test_no_tokens),
		cmocka_unit_test(test_large_scores),
		cmocka_unit_test(test_shape_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
