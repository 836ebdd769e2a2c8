/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/cuda: codec h4 on a GPU gives the bits that the CPU gives. */
#include <math.h>

#include "kernels/codec/element.h"
#include "kernels/codec/h4-form.h"
#include "kernels/codec/h4.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"
#include "test/gpu/bench.h"

#define TILES	  SYN_TILES_MAX
#define RAW_MAX	  (TILES * SYN_TILE_TOKENS * H4_DIM_MAX * 2)
#define HBM_BYTES (64ull << 20)
#define SHAPES	  8u

static struct syn_gpu_loader *loader;

/* In HBM: raw tiles, stored ones, decoded ones.  Host memory likewise. */
#define RAW_AT	   0
#define STORED_AT  (20u << 20)
#define DECODED_AT (40u << 20)

static unsigned char *stored; /* as the CPU has it */
static unsigned char *decoded;

/**
 * struct sums - what encoding tells of each tile.
 * @raw:	sum of the canonical bytes.
 * @stored:	sum of the stored ones.
 * @error:	what is lost.
 */
struct sums {
	uint32_t raw[TILES];
	uint32_t stored[TILES];
	uint16_t error[TILES];
};

static struct sums on_cpu, on_gpu;

static struct syn_component component(unsigned int i)
{
	return (struct syn_component){
		.role = i & 1 ? SYN_ROLE_V : SYN_ROLE_K,
		.dtype = i & 2 ? SYN_DTYPE_BF16 : SYN_DTYPE_F16,
		.heads = 16,
		.dim = i & 4 ? 64 : 128,
		.codec = SYN_CODEC_H4,
	};
}

static void layout_of(struct syn_layout *ret, const struct syn_component *c,
		      uint32_t layers)
{
	assert_int_equal(
		syn_layout_init(ret, SYN_TILE_TOKENS, layers, 1, c, 0, 0), 0);
}

static uint64_t raw_bytes(const struct syn_layout *l)
{
	return (uint64_t)syn_layout_tiles(l) *
	       syn_tile_raw_bytes(&l->component[0]);
}

/* ---- elements ----------------------------------------------------------- */

static uint16_t put(uint16_t dtype, float x)
{
	uint16_t r;

	if (dtype == SYN_DTYPE_F16)
		syn_f16_store(&r, x);
	else
		syn_bf16_store(&r, x);
	return r;
}

/* Any bits that are a number, and whose square fp32 has. */
static uint16_t any_finite(uint16_t dtype)
{
	uint16_t most = dtype == SYN_DTYPE_F16 ? 0x7bff : 0x4700;
	uint16_t x = (uint16_t)next_random();

	return (x & 0x7fff) > most ? x ^ 0x4000 : x;
}

#define FILLS 7u

static uint16_t element(unsigned int fill, const struct syn_component *c,
			uint32_t i, int scale)
{
	uint32_t channel = i % c->dim, row = i / c->dim;

	switch (fill) {
	case 0: /* like life: means of channels, one far out */
		return put(c->dtype, next_normal() +
					     (float)(channel % 5) * 0.3f +
					     (channel == 58 ? 12.0f : 0));
	case 1:
		return any_finite(c->dtype);
	case 2: /* subnormal of fp16, or nearly so, and of both signs */
		return next_random() & 0x83ff;
	case 3: /* the same, in a row, in a tile */
		return put(c->dtype, row % 3 ? 1.5f : ldexpf(1, scale));
	case 4: /* the largest of fp16; of 64 all would be too much at times */
		if (c->dim == 64 && next_random() & 1)
			return put(c->dtype, 1);
		return put(c->dtype, next_random() & 1 ? 65504.0f : -65504.0f);
	case 5: /* zeros of both signs, and little besides */
		return next_random() % 50 ? next_random() & 0x8000
					  : put(c->dtype, next_normal());
	default: /* from what no scale can hold, row by row */
		return put(c->dtype, ldexpf(next_normal(),
					    (int)(row % 40) - 26 + scale % 2));
	}
}

static void fill(const struct syn_layout *l, unsigned int how)
{
	const struct syn_component *c = &l->component[0];
	uint16_t *x = bench_host(RAW_AT);
	uint32_t per_tile = SYN_TILE_TOKENS * c->dim;

	for (uint32_t t = 0; t < syn_layout_tiles(l); t++)
		for (uint32_t i = 0; i < per_tile; i++)
			*x++ = element(how, c, i, (int)(t % 31) - 15);
}

/* ---- both ways, both sides ---------------------------------------------- */

static int encode_gpu(const struct syn_layout *l)
{
	struct syn_gpu_encoding page = {
		.layout = l,
		.place = syn_gpu_place_canonical(l, bench.hbm.at + RAW_AT),
		.dst = bench.hbm.at + STORED_AT,
		.raw_sums = on_gpu.raw,
		.stored_sums = on_gpu.stored,
		.errors = on_gpu.error,
		.status = 1,
	};

	memset(&on_gpu, 0xa5, sizeof(on_gpu));
	bench_poison(bench.hbm.at + STORED_AT, DECODED_AT - STORED_AT);
	bench_copy(bench.hbm.at + RAW_AT, bench.host.at + RAW_AT, raw_bytes(l));
	assert_int_equal(syn_gpu_encode(loader, &page, 1), 0);
	return page.status;
}

/* What lies at STORED_AT in HBM, to host memory at DECODED_AT. */
static int decode_gpu(const struct syn_layout *l, const uint32_t *sums)
{
	struct syn_gpu_page page = {
		.src = bench.hbm.at + STORED_AT,
		.bytes = syn_layout_bytes(l),
		.codec = SYN_CODEC_H4,
		.layout = l,
		.nr_tiles = syn_layout_tiles(l),
		.sums = sums,
		.place = syn_gpu_place_canonical(l, bench.hbm.at + DECODED_AT),
		.status = 1,
	};

	bench_poison(bench.hbm.at + DECODED_AT, HBM_BYTES - DECODED_AT);
	assert_int_equal(syn_gpu_decode(loader, &page, 1), 0);
	bench_copy(bench.host.at + DECODED_AT, bench.hbm.at + DECODED_AT,
		   HBM_BYTES - DECODED_AT);
	return page.status;
}

static void check_poison(const unsigned char *from, const unsigned char *to)
{
	for (; from < to; from++)
		assert_int_equal(*from, 0xa5);
}

static void check_both(const struct syn_layout *l)
{
	uint32_t nr = syn_layout_tiles(l);
	uint32_t bad;

	assert_int_equal(syn_page_encode(stored, bench_host(RAW_AT), l, 0, nr,
					 on_cpu.raw, on_cpu.stored,
					 on_cpu.error),
			 0);
	assert_int_equal(encode_gpu(l), 0);
	assert_memory_equal(on_gpu.raw, on_cpu.raw, nr * 4);
	assert_memory_equal(on_gpu.stored, on_cpu.stored, nr * 4);
	assert_memory_equal(on_gpu.error, on_cpu.error, nr * 2);
	bench_copy(bench.host.at + STORED_AT, bench.hbm.at + STORED_AT,
		   DECODED_AT - STORED_AT);
	assert_memory_equal(bench_host(STORED_AT), stored, syn_layout_bytes(l));
	check_poison((unsigned char *)bench_host(STORED_AT) +
			     syn_layout_bytes(l),
		     bench_host(DECODED_AT));

	assert_int_equal(
		syn_page_decode(decoded, stored, l, 0, nr, on_cpu.stored, &bad),
		0);
	assert_int_equal(decode_gpu(l, on_cpu.stored), 0);
	assert_memory_equal(bench_host(DECODED_AT), decoded, raw_bytes(l));
	check_poison((unsigned char *)bench_host(DECODED_AT) + raw_bytes(l),
		     bench_host(HBM_BYTES));
}

/* 3 * 10^8 elements. */
static void test_random_tiles(void **state)
{
	for (unsigned int i = 0; i < SHAPES; i++) {
		struct syn_component c = component(i);
		struct syn_layout l;

		layout_of(&l, &c, TILES / c.heads);
		for (unsigned int how = 0; how < FILLS; how++) {
			fill(&l, how);
			check_both(&l);
		}
	}
}

/* The table in Documentation/arithmetic.rst. */
static const struct {
	uint32_t stored;
	uint16_t error;
	uint32_t decoded;
} golden[SHAPES] = {
	{ 0x30881daa, 6096, 0x0a12b68a }, { 0x2bf4beee, 6083, 0x3773383f },
	{ 0x5b1e30d7, 6098, 0x41bbf4a7 }, { 0x81f9da17, 6084, 0xc564913e },
	{ 0x662d5c2c, 6013, 0x43d75596 }, { 0xd96e687b, 5993, 0xc7342ca8 },
	{ 0x3bdfca44, 6017, 0x60d8bea5 }, { 0xcef0c1bf, 5989, 0x94d8e93e },
};

static void test_golden(void **state)
{
	for (unsigned int i = 0; i < SHAPES; i++) {
		struct syn_component c = component(i);
		uint16_t *x = bench_host(RAW_AT);
		struct syn_layout l;
		uint32_t sum;

		c.heads = 1;
		layout_of(&l, &c, 1);
		for (uint32_t e = 0; e < SYN_TILE_TOKENS * c.dim; e++) {
			uint32_t hash = e * 2654435761u;

			x[e] = put(c.dtype,
				   i & 2 ? ((float)(hash >> 24) - 128) / 32
					 : ((float)(hash >> 20) - 2048) / 512);
		}
		assert_int_equal(encode_gpu(&l), 0);
		assert_int_equal(on_gpu.stored[0], golden[i].stored);
		assert_int_equal(on_gpu.error[0], golden[i].error);
		assert_int_equal(decode_gpu(&l, on_gpu.stored), 0);
		assert_int_equal(syn_gpu_sum(loader, bench.hbm.at + DECODED_AT,
					     raw_bytes(&l), raw_bytes(&l),
					     &sum),
				 0);
		assert_int_equal(sum, golden[i].decoded);
	}
}

/* Stored tiles that no encoder wrote: any codes, any finite scale and mean. */
static void test_decode_any_tile(void **state)
{
	for (unsigned int i = 0; i < SHAPES; i++) {
		struct syn_component c = component(i);
		unsigned char *at = bench_host(STORED_AT);
		struct syn_layout l;
		uint32_t bytes = syn_tile_h4_bytes(&c);
		uint32_t halves = (bytes - SYN_TILE_TOKENS * c.dim / 2) / 2;

		layout_of(&l, &c, TILES / c.heads);
		for (uint32_t t = 0; t < TILES; t++, at += bytes) {
			for (uint32_t k = 0; k < bytes; k++)
				at[k] = (unsigned char)next_random();
			for (uint32_t k = 0; k < halves; k++)
				if ((at[2 * k + 1] & 0x7c) == 0x7c || t % 2)
					at[2 * k + 1] &= 0xdf;
			if (t % 5 == 0) /* scales of nothing, of both signs */
				for (uint32_t k = 0; k < halves; k += 3)
					at[2 * k] = at[2 * k + 1] &= 0x80;
			on_cpu.stored[t] = syn_sum(at, bytes);
			syn_h4_plain.decode(
				decoded + t * syn_tile_raw_bytes(&c), at, &c);
		}
		bench_copy(bench.hbm.at + STORED_AT, bench.host.at + STORED_AT,
			   syn_layout_bytes(&l));
		assert_int_equal(decode_gpu(&l, on_cpu.stored), 0);
		assert_memory_equal(bench_host(DECODED_AT), decoded,
				    raw_bytes(&l));
	}
}

/* One element that is not finite, anywhere, and only that tile is refused. */
static void test_not_finite(void **state)
{
	static const uint16_t bad[2][3] = { { 0x7c00, 0xfc00, 0x7e01 },
					    { 0x7f80, 0xff80, 0x7fc1 } };

	for (unsigned int i = 0; i < 6 * SHAPES; i++) {
		struct syn_component c = component(i % SHAPES);
		uint32_t per_tile = SYN_TILE_TOKENS * c.dim;
		uint16_t *x = bench_host(RAW_AT);
		struct syn_layout l;
		uint32_t at, t;

		layout_of(&l, &c, 1);
		fill(&l, 0);
		at = next_random() % (per_tile * c.heads);
		x[at] = bad[i >> 1 & 1][i / SHAPES % 3];
		assert_int_equal(encode_gpu(&l), -EDOM);
		for (t = 0; t < c.heads; t++) {
			uint16_t error = 0;
			int r = syn_h4_encode(stored, x + t * per_tile, &c,
					      &error);

			assert_int_equal(r, t == at / per_tile ? -EDOM : 0);
			if (!r)
				assert_int_equal(on_gpu.error[t], error);
		}
	}
}

/* Numbers that are finite, but whose mean or scale fp16 cannot hold. */
static void test_too_large(void **state)
{
	for (unsigned int i = 2; i < SHAPES; i += i % 4 == 2 ? 1 : 3) {
		struct syn_component c = component(i);
		uint16_t *x = bench_host(RAW_AT);
		struct syn_layout l;

		layout_of(&l, &c, 1);
		for (uint32_t k = 0; k < raw_bytes(&l) / 2; k++)
			x[k] = put(c.dtype, k % 3 ? 3e5f : 2e5f);
		assert_int_equal(encode_gpu(&l), -EDOM);
	}
}

/* Keys of the outer layers, and a third component, stay as they are. */
static void test_raw_tiles_among_others(void **state)
{
	for (unsigned int i = 0; i < SHAPES; i += 2) {
		struct syn_component c[3] = { component(i), component(i + 1),
					      component(i) };
		struct syn_layout l;

		c[0].heads = c[1].heads = c[2].heads = 3;
		c[2].role = SYN_ROLE_LATENT;
		c[2].codec = SYN_CODEC_RAW16;
		assert_int_equal(
			syn_layout_init(&l, 2 * SYN_TILE_TOKENS, 5, 3, c, 1, 1),
			0);
		for (unsigned int how = 0; how < 2; how++) {
			fill(&l, how);
			check_both(&l);
		}
	}
}

/* Rows that are apart, as an engine has them: [token][head][component]. */
static void test_encode_from_strides(void **state)
{
	struct syn_component c[2] = { component(0), component(1) };
	const uint32_t row = c[0].dim * 2;
	struct syn_gpu_encoding page = { .status = 1 };
	struct syn_layout l;

	c[0].heads = c[1].heads = 4;
	assert_int_equal(syn_layout_init(&l, SYN_TILE_TOKENS, 4, 2, c, 1, 0),
			 0);
	fill(&l, 0);
	assert_int_equal(syn_page_encode(stored, bench_host(RAW_AT), &l, 0,
					 syn_layout_tiles(&l), on_cpu.raw,
					 on_cpu.stored, on_cpu.error),
			 0);
	page = (struct syn_gpu_encoding){
		.layout = &l,
		.place = { .base = bench.hbm.at + RAW_AT,
			   .layer = raw_bytes(&l) / 4,
			   .head = 2 * row,
			   .component = row,
			   .token = 8 * row },
		.dst = bench.hbm.at + STORED_AT,
		.raw_sums = on_gpu.raw,
		.stored_sums = on_gpu.stored,
		.errors = on_gpu.error,
		.status = 1,
	};
	for (uint32_t i = 0; i < raw_bytes(&l) / row; i++) {
		uint32_t token = i % 128, tile = i / 128 % 8, layer = i / 1024;

		memcpy(decoded + (layer * 1024 + token * 8 + tile) * row,
		       (char *)bench_host(RAW_AT) + i * row, row);
	}
	memcpy(bench_host(RAW_AT), decoded, raw_bytes(&l));
	bench_copy(bench.hbm.at + RAW_AT, bench.host.at + RAW_AT,
		   raw_bytes(&l));
	assert_int_equal(syn_gpu_encode(loader, &page, 1), 0);
	assert_int_equal(page.status, 0);
	assert_memory_equal(on_gpu.raw, on_cpu.raw, 4 * syn_layout_tiles(&l));
	assert_memory_equal(on_gpu.stored, on_cpu.stored,
			    4 * syn_layout_tiles(&l));
	bench_copy(bench.host.at + STORED_AT, bench.hbm.at + STORED_AT,
		   syn_layout_bytes(&l));
	assert_memory_equal(bench_host(STORED_AT), stored,
			    syn_layout_bytes(&l));
}

/* Tiles of any size that is a multiple of 4, at any multiple of 4. */
static void test_sums(void **state)
{
	static const uint32_t sizes[] = { 4,	 36,	 2048,	  4400,
					  32768, 131072, 1000004, 1u << 20 };
	uint32_t want[TILES], sums[TILES];
	uint32_t *x = bench_host(RAW_AT);

	for (uint32_t i = 0; i < (4u << 20); i++)
		x[i] = next_random();
	bench_copy(bench.hbm.at + RAW_AT, bench.host.at + RAW_AT, 16u << 20);
	for (uint32_t i = 0; i < syn_array_size(sizes); i++) {
		uint32_t off = i % 2 * 4;
		uint32_t nr = syn_min((15u << 20) / sizes[i], TILES);

		syn_sum_tiles((char *)x + off, (size_t)nr * sizes[i], sizes[i],
			      want);
		assert_int_equal(syn_gpu_sum(loader, bench.hbm.at + off,
					     (uint64_t)nr * sizes[i], sizes[i],
					     sums),
				 0);
		assert_memory_equal(sums, want, nr * 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_random_tiles),
		cmocka_unit_test(test_decode_any_tile),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_raw_tiles_among_others),
		cmocka_unit_test(test_encode_from_strides),
		cmocka_unit_test(test_sums),
	};
	int r;

	bench_open(HBM_BYTES, HBM_BYTES);
	stored = calloc(1, RAW_MAX);
	decoded = calloc(1, RAW_MAX);
	if (!stored || !decoded || syn_gpu_loader_open(bench.gpu, 0, &loader))
		return 1;
	r = test_main(tests);
	syn_gpu_loader_close(loader);
	bench_close();
	free(stored);
	free(decoded);
	return r;
}
