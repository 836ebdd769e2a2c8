/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/codec/h4.h: every form gives the bits that the definition gives. */
#include "kernels/codec/h4-plain.c"

#include "kernels/codec/h4.h"
#include "kernels/codec/sum.h"
#include "test/test.h"

#define ELEMENTS_MAX (SYN_TILE_TOKENS * H4_DIM_MAX)
#define STORED_MAX   (2 * H4_DIM_MAX + 256 + ELEMENTS_MAX / 2)
#define GUARD	     64u

static uint16_t tile[ELEMENTS_MAX];
static uint16_t decoded[2][ELEMENTS_MAX + GUARD];
static unsigned char stored[2][STORED_MAX + GUARD];

static uint64_t seed = 88172645463325252u;

static uint32_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static double next_uniform(void)
{
	return (next_random() + 0.5) / 4294967296.0;
}

static double next_normal(void)
{
	double radius = sqrt(-2 * log(next_uniform()));

	return radius * cos(2 * M_PI * next_uniform());
}

static void put(uint16_t *at, uint16_t dtype, double x)
{
	if (dtype == SYN_DTYPE_F16)
		syn_f16_store(at, (float)x);
	else
		syn_bf16_store(at, (float)x);
}

/* What test and documentation call component @i of 8. */
static struct syn_component component(unsigned int i)
{
	return (struct syn_component){
		.role = i & 1 ? SYN_ROLE_V : SYN_ROLE_K,
		.dtype = i & 2 ? SYN_DTYPE_BF16 : SYN_DTYPE_F16,
		.heads = 1,
		.dim = i & 4 ? 64 : 128,
		.codec = SYN_CODEC_H4,
	};
}

#define COMPONENTS 8u

static const struct syn_h4_form *forms[SYN_H4_FORMS_MAX];
static unsigned int nr_forms;

/* Encodes @tile with @form, and decodes it when that worked. */
static int both_ways(const struct syn_h4_form *form,
		     const struct syn_component *c, unsigned int to,
		     uint16_t *ret_error)
{
	int r;

	memset(stored[to], 0xa5, sizeof(stored[to]));
	memset(decoded[to], 0xa5, sizeof(decoded[to]));
	r = form->encode(stored[to], tile, c, ret_error);
	if (r == 0)
		form->decode(decoded[to], stored[to], c);
	return r;
}

static void check_forms(const struct syn_component *c)
{
	uint16_t want_error = 0;
	int want = both_ways(&syn_h4_plain, c, 0, &want_error);

	for (unsigned int i = 1; i < nr_forms; i++) {
		uint16_t error = 0;

		assert_int_equal(both_ways(forms[i], c, 1, &error), want);
		if (want)
			continue;
		assert_int_equal(error, want_error);
		assert_memory_equal(stored[1], stored[0], sizeof(stored[0]));
		assert_memory_equal(decoded[1], decoded[0], sizeof(decoded[0]));
	}
}

/* One of some kinds of row, so that rows of a tile differ in all respects. */
static double element_any(uint32_t row, uint32_t channel, int scale)
{
	double x = next_normal() * ldexp(1, scale);

	switch (row % 7) {
	case 0: /* one large element */
		return channel == row % 61 ? 40 * x : x;
	case 1:
		return 0;
	case 2: /* the same everywhere */
		return ldexp(1, scale);
	case 3: /* small beside the others */
		return x / 1024;
	case 4: /* ties of many kinds */
		return (double)(next_random() % 5) * ldexp(1, scale);
	default:
		return x;
	}
}

static void fill_any(const struct syn_component *c, int scale, double offset)
{
	uint32_t shift = next_random() % 7;

	for (uint32_t i = 0; i < SYN_TILE_TOKENS * c->dim; i++) {
		uint32_t channel = i % c->dim;
		double mean = channel % 3 ? 0 : offset * ldexp(1, scale);

		put(&tile[i], c->dtype,
		    mean + element_any(i / c->dim + shift, channel, scale));
	}
}

static void test_forms_agree_on_tiles_of_all_scales(void **state)
{
	for (unsigned int i = 0; i < COMPONENTS; i++) {
		struct syn_component c = component(i);

		for (int scale = -26; scale <= 17; scale++) {
			fill_any(&c, scale, scale % 3 ? 0 : 8);
			check_forms(&c);
		}
	}
	/* bf16 only: from what no scale can hold to what is not finite. */
	for (int scale = -140; scale < 127; scale += 3) {
		struct syn_component c = component(2 | (scale & 5));

		fill_any(&c, scale, 0);
		check_forms(&c);
	}
}

/* Every pattern of 16 bits, also of those that are no numbers. */
static void test_forms_agree_on_any_bits(void **state)
{
	for (unsigned int i = 0; i < COMPONENTS; i++) {
		struct syn_component c = component(i);
		uint16_t most = c.dtype == SYN_DTYPE_F16 ? 0x7bff : 0x4700;

		for (unsigned int round = 0; round < 8; round++) {
			for (uint32_t k = 0; k < ELEMENTS_MAX; k++) {
				tile[k] = (uint16_t)next_random();
				if (round && (tile[k] & 0x7fff) > most)
					tile[k] ^= 0x4000;
			}
			check_forms(&c);
		}
	}
}

/* Stored tiles that no encoder wrote: any codes, any finite scale and mean. */
static void test_forms_decode_any_tile(void **state)
{
	for (unsigned int round = 0; round < 64; round++) {
		struct syn_component c = component(round % COMPONENTS);
		uint32_t codes = SYN_TILE_TOKENS * c.dim / 2;
		uint32_t halves = (syn_tile_h4_bytes(&c) - codes) / 2;

		for (uint32_t i = 0; i < STORED_MAX; i++)
			stored[0][i] = (unsigned char)next_random();
		for (uint32_t i = 0; i < halves; i++)
			if ((stored[0][2 * i + 1] & 0x7c) == 0x7c ||
			    round % 16 < 8)
				stored[0][2 * i + 1] &= 0xdf;
		syn_h4_plain.decode(decoded[0], stored[0], &c);
		for (unsigned int i = 1; i < nr_forms; i++) {
			forms[i]->decode(decoded[1], stored[0], &c);
			assert_memory_equal(decoded[1], decoded[0],
					    syn_tile_raw_bytes(&c));
		}
	}
}

/* One element that is not finite, anywhere, and the tile stays raw. */
static void test_not_finite(void **state)
{
	static const uint16_t bad[2][3] = { { 0x7c00, 0xfc00, 0x7e01 },
					    { 0x7f80, 0xff80, 0x7fc1 } };

	for (unsigned int i = 0; i < 120; i++) {
		struct syn_component c = component(i % COMPONENTS);
		uint32_t at = next_random() % (SYN_TILE_TOKENS * c.dim);

		fill_any(&c, 0, 0);
		tile[at] = bad[c.dtype == SYN_DTYPE_BF16][i % 3];
		for (unsigned int k = 0; k < nr_forms; k++) {
			uint16_t error;

			assert_int_equal(both_ways(forms[k], &c, 0, &error),
					 -EDOM);
		}
	}
}

/* Numbers that are finite, but whose mean or scale fp16 cannot hold. */
static void test_too_large(void **state)
{
	for (unsigned int i = 0; i < COMPONENTS; i++) {
		struct syn_component c = component(i);

		if (c.dtype != SYN_DTYPE_BF16)
			continue;
		for (uint32_t k = 0; k < SYN_TILE_TOKENS * c.dim; k++)
			put(&tile[k], c.dtype, k % 3 ? 3e5 : 2e5);
		for (unsigned int k = 0; k < nr_forms; k++) {
			uint16_t error;

			assert_int_equal(both_ways(forms[k], &c, 0, &error),
					 -EDOM);
		}
	}
}

static void check_decoded(const struct syn_component *c, double want)
{
	uint16_t bits;

	put(&bits, c->dtype, want);
	for (uint32_t i = 0; i < SYN_TILE_TOKENS * c->dim; i++)
		assert_int_equal(decoded[0][i] & 0x7fff, bits);
}

static void test_zeroes(void **state)
{
	uint16_t error;

	memset(tile, 0, sizeof(tile));
	for (unsigned int i = 0; i < COMPONENTS * nr_forms; i++) {
		struct syn_component c = component(i % COMPONENTS);

		assert_int_equal(
			both_ways(forms[i / COMPONENTS], &c, 0, &error), 0);
		assert_int_equal(error, 0);
		check_decoded(&c, 0);
	}
}

/* The mean of keys is all there is; values spread over all levels. */
static void test_constant(void **state)
{
	uint16_t error;

	for (unsigned int i = 0; i < COMPONENTS * nr_forms; i++) {
		struct syn_component c = component(i % COMPONENTS);

		for (uint32_t k = 0; k < ELEMENTS_MAX; k++)
			put(&tile[k], c.dtype, 1.5);
		assert_int_equal(
			both_ways(forms[i / COMPONENTS], &c, 0, &error), 0);
		if (c.role == SYN_ROLE_K) {
			assert_int_equal(error, 0);
			check_decoded(&c, 1.5);
		} else {
			assert_in_range(error, 1, 65536 / 5);
		}
	}
}

/* Decoding saturates: nothing finite becomes infinite. */
static void test_largest_of_fp16(void **state)
{
	uint16_t error;

	for (unsigned int i = 0; i < 4 * nr_forms; i++) {
		struct syn_component c = component(i % 2 + i / 2 % 2 * 4);

		for (uint32_t k = 0; k < ELEMENTS_MAX; k++)
			tile[k] = 0x7bff | (uint16_t)(next_random() & 0x8000);
		assert_int_equal(both_ways(forms[i / 4], &c, 0, &error), 0);
		for (uint32_t k = 0; k < SYN_TILE_TOKENS * c.dim; k++)
			assert_in_range(decoded[0][k] & 0x7fff, 0x7000, 0x7bff);
	}
}

static void test_nothing_beyond_the_tile(void **state)
{
	for (unsigned int i = 0; i < COMPONENTS * nr_forms; i++) {
		struct syn_component c = component(i % COMPONENTS);
		uint32_t bytes = syn_tile_h4_bytes(&c);
		uint32_t nr = SYN_TILE_TOKENS * c.dim;
		uint16_t error;

		fill_any(&c, 0, 0);
		assert_int_equal(
			both_ways(forms[i / COMPONENTS], &c, 0, &error), 0);
		for (uint32_t k = 0; k < GUARD; k++) {
			assert_int_equal(stored[0][bytes + k], 0xa5);
			assert_int_equal(decoded[0][nr + k], 0xa5a5);
		}
	}
}

/* Inputs and answers of the table in Documentation/arithmetic.rst. */
static const struct {
	uint32_t stored;
	uint16_t error;
	uint32_t decoded;
} golden[COMPONENTS] = {
	{ 0x30881daa, 6096, 0x0a12b68a }, { 0x2bf4beee, 6083, 0x3773383f },
	{ 0x5b1e30d7, 6098, 0x41bbf4a7 }, { 0x81f9da17, 6084, 0xc564913e },
	{ 0x662d5c2c, 6013, 0x43d75596 }, { 0xd96e687b, 5993, 0xc7342ca8 },
	{ 0x3bdfca44, 6017, 0x60d8bea5 }, { 0xcef0c1bf, 5989, 0x94d8e93e },
};

static void fill_golden(const struct syn_component *c)
{
	bool f16 = c->dtype == SYN_DTYPE_F16;

	for (uint32_t i = 0; i < SYN_TILE_TOKENS * c->dim; i++) {
		uint32_t hash = i * 2654435761u;

		put(&tile[i], c->dtype,
		    f16 ? ((double)(hash >> 20) - 2048) / 512
			: ((double)(hash >> 24) - 128) / 32);
	}
}

static void test_golden(void **state)
{
	for (unsigned int i = 0; i < COMPONENTS; i++) {
		struct syn_component c = component(i);
		uint16_t error;

		fill_golden(&c);
		assert_int_equal(syn_h4_encode(stored[0], tile, &c, &error), 0);
		syn_h4_decode(decoded[0], stored[0], &c);
		assert_int_equal(syn_sum(stored[0], syn_tile_h4_bytes(&c)),
				 golden[i].stored);
		assert_int_equal(error, golden[i].error);
		assert_int_equal(syn_sum(decoded[0], syn_tile_raw_bytes(&c)),
				 golden[i].decoded);
	}
}

/* A threshold is half way between its neighbours, and levels are odd. */
static void test_levels(void **state)
{
	for (unsigned int i = 0; i < syn_array_size(thresholds); i++) {
		int level = syn_h4_level(8 + i);

		assert_int_equal(thresholds[i] * 2,
				 level + syn_h4_level(9 + i));
		assert_int_equal(level % 2, 1);
		assert_int_equal(syn_h4_level(7 - i), -level);
	}
	assert_int_equal(code_of(0), 8);
	assert_int_equal(code_of(-1), 7);
	assert_int_equal(code_of(10 * 32 - 1), 8);
	assert_int_equal(code_of(10 * 32), 9);
	assert_int_equal(code_of(-10 * 32), 7);
	assert_int_equal(code_of(-10 * 32 - 1), 6);
	assert_int_equal(code_of(32767), 15);
	assert_int_equal(code_of(-32768), 0);
}

/* Squares of what was lost and of what there was, over many tiles. */
struct loss {
	double lost;
	double all;
};

static void loss_add(struct loss *loss, const struct syn_component *c)
{
	uint16_t error;

	assert_int_equal(syn_h4_encode(stored[0], tile, c, &error), 0);
	syn_h4_decode(decoded[0], stored[0], c);
	for (uint32_t i = 0; i < SYN_TILE_TOKENS * c->dim; i++) {
		double x = syn_f16_load(&tile[i]);
		double lost = x - syn_f16_load(&decoded[0][i]);

		loss->lost += lost * lost;
		loss->all += x * x;
	}
}

static void check_loss(const struct loss *loss, double want, double within)
{
	double is = sqrt(loss->lost / loss->all);

	if (fabs(is / want - 1) > within)
		fail_msg("lost %.4f, not %.4f", is, want);
}

#define TILES 32u

static double next_laplace(void)
{
	double u = next_uniform() - 0.5;

	return (u < 0 ? 1 : -1) * log(1 - 2 * fabs(u)) / M_SQRT2;
}

/* The figures of the research: unit variance, normal and Laplace. */
static void test_loss_of_unit_variance(void **state)
{
	for (unsigned int i = 0; i < 4; i++) {
		struct syn_component c = component(i & 1);
		struct loss loss = { 0 };

		for (unsigned int t = 0; t < TILES; t++) {
			for (uint32_t k = 0; k < ELEMENTS_MAX; k++)
				put(&tile[k], c.dtype,
				    i & 2 ? next_laplace() : next_normal());
			loss_add(&loss, &c);
		}
		check_loss(&loss, i & 2 ? 0.0949 : 0.0958, 0.02);
	}
}

/* Values: norms of tokens and channels vary, heavy tails of five degrees. */
static void test_loss_of_values(void **state)
{
	struct syn_component c = component(1);
	struct loss loss = { 0 };
	double spread[H4_DIM_MAX];

	for (uint32_t k = 0; k < c.dim; k++)
		spread[k] = exp(0.3 * next_normal());
	for (uint32_t t = 0; t < TILES * SYN_TILE_TOKENS; t++) {
		uint32_t row = t % SYN_TILE_TOKENS;
		double norm = exp(0.4 * next_normal());

		for (uint32_t k = 0; k < c.dim; k++) {
			double chi = 0;

			for (unsigned int i = 0; i < 5; i++)
				chi += pow(next_normal(), 2);
			put(&tile[row * c.dim + k], c.dtype,
			    norm * spread[k] * next_normal() / sqrt(chi / 5) /
				    1.29);
		}
		if (row == SYN_TILE_TOKENS - 1)
			loss_add(&loss, &c);
	}
	check_loss(&loss, 0.0946, 0.02);
}

/**
 * struct keys - a source of keys after rotary embedding.
 * @mean:	of each channel before it, some of them far out.
 * @spread:	of each channel.
 * @state:	of each channel, correlated from token to token.
 */
struct keys {
	double mean[H4_DIM_MAX];
	double spread[H4_DIM_MAX];
	double state[H4_DIM_MAX];
};

static void keys_init(struct keys *keys)
{
	static const uint32_t far[] = { 58, 52, 44, 18 };

	memset(keys, 0, sizeof(*keys));
	for (uint32_t k = 0; k < H4_DIM_MAX; k++) {
		keys->mean[k] = 0.6 * next_normal();
		keys->spread[k] = 0.8 * exp(0.35 * next_normal());
	}
	for (uint32_t i = 0; i < syn_array_size(far); i++) {
		double sign = next_random() & 1 ? 1 : -1;

		keys->mean[far[i]] = sign * (8 + 2 * (double)(i % 3));
		keys->spread[far[i]] = 2;
		sign = next_random() & 1 ? 1 : -1;
		keys->mean[far[i] + 64] = sign * (6 + (double)i);
		keys->spread[far[i] + 64] = 1.6;
	}
}

static void keys_token(struct keys *keys, uint16_t *ret, double position)
{
	double x[H4_DIM_MAX];

	for (uint32_t k = 0; k < H4_DIM_MAX; k++) {
		keys->state[k] = 0.6 * keys->state[k] + 0.8 * next_normal();
		x[k] = keys->mean[k] + keys->spread[k] * keys->state[k];
	}
	for (uint32_t k = 0; k < 64; k++) {
		double angle = position * pow(500000, -(double)k / 64);

		put(&ret[k], SYN_DTYPE_F16,
		    x[k] * cos(angle) - x[k + 64] * sin(angle));
		put(&ret[k + 64], SYN_DTYPE_F16,
		    x[k] * sin(angle) + x[k + 64] * cos(angle));
	}
}

static void test_loss_of_keys(void **state)
{
	struct syn_component c = component(0);
	double sum = 0;

	for (unsigned int i = 0; i < 8; i++) {
		struct loss loss = { 0 };
		struct keys keys;

		keys_init(&keys);
		for (uint32_t t = 0; t < TILES * SYN_TILE_TOKENS; t++) {
			uint32_t row = t % SYN_TILE_TOKENS;

			keys_token(&keys, &tile[row * c.dim], 1000 + t);
			if (row == SYN_TILE_TOKENS - 1)
				loss_add(&loss, &c);
		}
		sum += sqrt(loss.lost / loss.all);
	}
	if (fabs(sum / 8 / 0.0502 - 1) > 0.05)
		fail_msg("lost %.4f, not 0.0502", sum / 8);
}

/*
 * The scale of keys keeps the product of a token with itself, that of values
 * leaves nothing of the token in what is lost.  The error is what is lost.
 */
static void test_scales_and_error(void **state)
{
	for (unsigned int i = 0; i < COMPONENTS; i++) {
		struct syn_component c = component(i & 5);
		double with_x = 0, with_y = 0, lost = 0, all = 0;
		uint16_t error;

		for (uint32_t k = 0; k < ELEMENTS_MAX; k++)
			put(&tile[k], c.dtype, next_normal());
		assert_int_equal(syn_h4_encode(stored[0], tile, &c, &error), 0);
		syn_h4_decode(decoded[0], stored[0], &c);
		for (uint32_t k = 0; k < SYN_TILE_TOKENS * c.dim; k++) {
			bool keys = c.role == SYN_ROLE_K;
			double mean =
				keys ? syn_f16_load(stored[0] + k % c.dim * 2)
				     : 0;
			double x = syn_f16_load(&tile[k]) - mean;
			double y = syn_f16_load(&decoded[0][k]) - mean;

			with_x += x * (x - y);
			with_y += y * (x - y);
			lost += (x - y) * (x - y);
			all += x * x;
		}
		assert_true(fabs(c.role == SYN_ROLE_K ? with_x : with_y) <
			    1e-3 * all);
		assert_true(fabs(error / 65536.0 / sqrt(lost / all) - 1) <
			    5e-3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms_agree_on_tiles_of_all_scales),
		cmocka_unit_test(test_forms_agree_on_any_bits),
		cmocka_unit_test(test_forms_decode_any_tile),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_largest_of_fp16),
		cmocka_unit_test(test_nothing_beyond_the_tile),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_loss_of_unit_variance),
		cmocka_unit_test(test_loss_of_values),
		cmocka_unit_test(test_loss_of_keys),
		cmocka_unit_test(test_scales_and_error),
	};

	nr_forms = syn_h4_forms(forms);
	return test_main(tests);
}
