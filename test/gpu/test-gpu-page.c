/* SPDX-License-Identifier: Apache-2.0 */
/* synapse/page.cuh: a kernel reads of pages what the CPU decodes. */
#include "kernels/codec/element.h"
#include "kernels/codec/h4.h"
#include "kernels/codec/page.h"
#include "test/gpu/bench.h"

/* page-kernels.cu, compiled; meson.build makes it. */
extern const uint64_t syn_test_page_image[];

#define LAYERS	 5u
#define BLOCKS	 2u
#define HEADS	 3u
#define TILES	 (LAYERS * BLOCKS * HEADS * 3)
#define ELEMENTS (TILES * SYN_TILE_TOKENS * 128)

#define PAGE_AT	  0
#define FLOATS_AT (16u << 20)
#define MEM_BYTES (64ull << 20)
#define THREADS	  128u

static CUmodule module;
static unsigned char stored[ELEMENTS * 2];
static uint16_t decoded[ELEMENTS];
static float rows[ELEMENTS];

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

/* Keys and values, and a third component that stays raw. */
static void layout_of(struct syn_layout *ret, uint16_t dtype, uint32_t dim)
{
	const struct syn_component c[] = {
		{ SYN_ROLE_K, dtype, HEADS, dim, SYN_CODEC_H4, 0 },
		{ SYN_ROLE_V, dtype, HEADS, dim, SYN_CODEC_H4, 0 },
		{ SYN_ROLE_LATENT, dtype, HEADS, dim, SYN_CODEC_RAW16, 0 },
	};

	assert_int_equal(syn_layout_init(ret, BLOCKS * SYN_TILE_TOKENS, LAYERS,
					 syn_array_size(c), c, 1, 2),
			 0);
}

static uint32_t elements_of(const struct syn_layout *l)
{
	return syn_layout_tiles(l) * SYN_TILE_TOKENS * l->component[0].dim;
}

static void fill(const struct syn_layout *l, uint16_t *to)
{
	const struct syn_component *c = &l->component[0];

	for (uint32_t i = 0; i < elements_of(l); i++)
		syn_element_store((unsigned char *)&to[i], c->dtype,
				  next_normal() + (float)(i % c->dim % 5));
}

/* What kernel @name reads of the page at PAGE_AT; in host memory. */
static const float *kernel_run(const char *name, const struct syn_layout *l,
			       bool is_stored)
{
	const struct syn_cuda_api *api = bench.gpu->api;
	uint64_t page = bench.hbm.at + PAGE_AT, ret = bench.hbm.at + FLOATS_AT;
	uint32_t flag = is_stored;
	void *params[] = { (void *)(uintptr_t)l, &page, &flag, &ret };
	CUfunction kernel;

	bench_poison(ret, elements_of(l) * 4ull);
	assert_int_equal(api->cuModuleGetFunction(&kernel, module, name), 0);
	assert_int_equal(api->cuLaunchKernel(kernel, syn_layout_tiles(l), 1, 1,
					     THREADS, 1, 1, 0, bench.stream,
					     params, NULL),
			 0);
	bench_copy(bench.host.at + FLOATS_AT, ret, elements_of(l) * 4ull);
	return bench_host(FLOATS_AT);
}

static void page_put(const void *page, uint64_t bytes)
{
	memcpy(bench_host(PAGE_AT), page, bytes);
	bench_copy(bench.hbm.at + PAGE_AT, bench.host.at + PAGE_AT, bytes);
}

/* Both ways to read give the same floats, and these round to @want. */
static void check_page(const struct syn_layout *l, bool is_stored,
		       const uint16_t *want)
{
	uint32_t nr = elements_of(l);
	uint16_t x;

	memcpy(rows, kernel_run("page_rows", l, is_stored), nr * 4ull);
	assert_memory_equal(kernel_run("page_elements", l, is_stored), rows,
			    nr * 4ull);
	for (uint32_t i = 0; i < nr; i++) {
		syn_element_store((unsigned char *)&x, l->component[0].dtype,
				  rows[i]);
		assert_int_equal(x, want[i]);
	}
}

static void check_layout(uint16_t dtype, uint32_t dim)
{
	uint16_t *canonical = bench_host(FLOATS_AT);
	struct syn_layout l;
	struct sums sums;
	uint32_t tile;

	layout_of(&l, dtype, dim);
	fill(&l, canonical);
	assert_int_equal(syn_page_encode(stored, canonical, &l, 0, TILES,
					 sums.raw, sums.stored, sums.error),
			 0);
	assert_int_equal(syn_page_decode(decoded, stored, &l, 0, TILES,
					 sums.stored, &tile),
			 0);
	page_put(stored, syn_layout_bytes(&l));
	check_page(&l, true, decoded);
	page_put(decoded, elements_of(&l) * 2ull);
	check_page(&l, false, decoded);
}

static void test_what_the_cpu_decodes(void **state)
{
	for (uint32_t dim = 64; dim <= 128; dim *= 2) {
		check_layout(SYN_DTYPE_F16, dim);
		check_layout(SYN_DTYPE_BF16, dim);
	}
}

/* Any codes, and any scale and mean that is a number, of either sign. */
static void tile_fill(unsigned char *at, const struct syn_component *c)
{
	uint32_t bytes = syn_tile_h4_bytes(c);
	uint32_t halves = (bytes - SYN_TILE_TOKENS * c->dim / 2) / 2;

	for (uint32_t k = 0; k < bytes; k++)
		at[k] = (unsigned char)next_random();
	for (uint32_t k = 0; k < halves; k++)
		if ((at[2 * k + 1] & 0x7c) == 0x7c)
			at[2 * k + 1] &= 0xdf;
}

static void test_tiles_that_nobody_encoded(void **state)
{
	for (uint32_t n = 0; n < 4; n++) {
		uint32_t dim = n & 1 ? 128 : 64;
		uint16_t dtype = n & 2 ? SYN_DTYPE_F16 : SYN_DTYPE_BF16;
		unsigned char *at = stored;
		uint16_t *to = decoded;
		struct syn_layout l;

		layout_of(&l, dtype, dim);
		l.nr_components = 2;
		l.raw_head = l.raw_tail = 0;
		for (uint32_t t = 0; t < syn_layout_tiles(&l); t++) {
			const struct syn_component *c = &l.component[t % 2];

			tile_fill(at, c);
			syn_h4_decode(to, at, c);
			at += syn_tile_h4_bytes(c);
			to += SYN_TILE_TOKENS * dim;
		}
		page_put(stored, syn_layout_bytes(&l));
		check_page(&l, true, decoded);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_cpu_decodes),
		cmocka_unit_test(test_tiles_that_nobody_encoded),
	};
	int r;

	bench_open(MEM_BYTES, MEM_BYTES);
	if (bench.gpu->api->cuModuleLoadData(&module, syn_test_page_image))
		return 1;
	r = test_main(tests);
	(void)bench.gpu->api->cuModuleUnload(module);
	bench_close();
	return r;
}
