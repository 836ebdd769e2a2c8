/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding copies of core/dev.h, alone and among others, on any device. */
#include <errno.h>
#include <string.h>

#include <synapse/abi.h>
#include <synapse/codec.h>

#include "core/base/base.h"
#include "core/dev.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"
#include "test/test.h"
#include "test/unit/dev-bench.h"

#define ENCODE_TILES 16u
#define ENCODE_BYTES (ENCODE_TILES * SYN_TILE_TOKENS * 128 * 2)

/* Two layers, the keys of the first stay raw; 512 KiB, so it is cut. */
static const struct syn_layout layout = {
	.layers = 2,
	.blocks = 1,
	.heads = 4,
	.nr_components = 2,
	.raw_head = 1,
	.component = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, 4, 128, SYN_CODEC_H4, 0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, 4, 128, SYN_CODEC_H4, 0 },
	},
};

/* Halves from 0.5 to 1 of either sign. */
static void fill_halves(unsigned char *to, size_t bytes, unsigned int seed)
{
	fill(to, bytes, seed);
	for (size_t i = 1; i < bytes; i += 2)
		to[i] = (unsigned char)((to[i] & 0x83) | 0x38);
}

static void hbm_fill_halves(unsigned int seed)
{
	fill_halves(bench.shadow, EXTENT_BYTES, seed);
	maker.write(&bench.hbm, 0, bench.shadow, EXTENT_BYTES);
}

/**
 * struct page - a page that is encoded or copied, and what became of it.
 * @copy:	as submitted.
 * @shadow:	of its source.
 * @nr_done:	completions seen.
 * @sums:	see struct syn_copy, as the two below.
 */
struct page {
	struct syn_copy copy;
	const unsigned char *shadow;
	unsigned int nr_done;
	uint32_t sums[ENCODE_TILES];
	uint32_t stored_sums[ENCODE_TILES];
	uint16_t error[ENCODE_TILES];
};

static void page_encode_init(struct page *page, const struct syn_mem *src,
			     const unsigned char *shadow,
			     const struct syn_mem *dst)
{
	memset(page, 0, sizeof(*page));
	page->shadow = shadow;
	page->copy = (struct syn_copy){
		.cookie = (uintptr_t)page,
		.src = src,
		.dst = dst,
		.bytes = ENCODE_BYTES,
		.tile_bytes = ENCODE_BYTES / ENCODE_TILES,
		.sums = page->sums,
		.encode = &layout,
		.stored_sums = page->stored_sums,
		.error = page->error,
	};
}

/* The same page, encoded here and in one piece, is stored at @dst. */
static void page_check(const struct page *page)
{
	static unsigned char stored[ENCODE_BYTES];
	static unsigned char back[2][ENCODE_BYTES];
	const struct syn_layout *l = page->copy.encode;
	const unsigned char *src = page->shadow;
	const unsigned char *dst = bytes_of(page->copy.dst);
	static struct page want;
	uint32_t tile;

	src += page->copy.src_off;
	dst += page->copy.dst_off;
	assert_int_equal(syn_page_encode(stored, src, l, 0, ENCODE_TILES,
					 want.sums, want.stored_sums,
					 want.error),
			 0);
	assert_memory_equal(dst, stored, syn_layout_bytes(l));
	assert_memory_equal(page->sums, want.sums, sizeof(want.sums));
	assert_memory_equal(page->stored_sums, want.stored_sums,
			    sizeof(want.stored_sums));
	assert_memory_equal(page->error, want.error, sizeof(want.error));
	for (int i = 0; i < 2; i++)
		assert_int_equal(syn_page_decode(back[i], i ? stored : dst, l,
						 0, ENCODE_TILES,
						 page->stored_sums, &tile),
				 0);
	assert_memory_equal(back[0], back[1], ENCODE_BYTES);
	/* The keys of layer 0 are every other tile of its eight. */
	for (tile = 0; tile < 8; tile += 2)
		assert_memory_equal(back[0] + tile * page->copy.tile_bytes,
				    src + tile * page->copy.tile_bytes,
				    page->copy.tile_bytes);
	assert_int_equal(page->error[0], 0);
	assert_in_range(page->error[1], 1, 65535);
}

static void test_encodes(void **state)
{
	struct syn_copy_done done;
	struct page page;

	hbm_fill_halves(3);
	memset(bytes_of(&bench.host), 0xa5, EXTENT_BYTES);
	page_encode_init(&page, &bench.hbm, bench.shadow, &bench.host);
	page.copy.src_off = ENCODE_BYTES;
	page.copy.dst_off = 4096;
	assert_int_equal(bench.dev->ops->copy(bench.dev, &page.copy, 1), 0);
	reap_exactly(&done, 1);
	assert_int_equal(done.status, 0);
	page_check(&page);
	/* And not a byte beside it. */
	assert_int_equal(bytes_of(&bench.host)[4095], 0xa5);
	assert_int_equal(
		bytes_of(&bench.host)[4096 + syn_layout_bytes(&layout)], 0xa5);
}

/* A NaN in any encoded tile refuses the page, in a raw one it is just bytes. */
static void test_not_finite(void **state)
{
	const unsigned char nan = 0x7e;
	struct syn_copy_done done;
	struct page page;

	hbm_fill_halves(4);
	for (uint32_t tile = 0; tile < ENCODE_TILES; tile++) {
		uint32_t at = (tile + 1) * 32768 - 1;
		uint32_t codec = syn_layout_codec(&layout, tile / 8, tile % 2);

		maker.write(&bench.hbm, at, &nan, 1);
		page_encode_init(&page, &bench.hbm, bench.shadow, &bench.host);
		assert_int_equal(bench.dev->ops->copy(bench.dev, &page.copy, 1),
				 0);
		reap_exactly(&done, 1);
		assert_int_equal(done.status,
				 codec == SYN_CODEC_H4 ? -EDOM : 0);
		maker.write(&bench.hbm, at, bench.shadow + at, 1);
	}
}

static void test_encode_stays_inside(void **state)
{
	struct syn_layout other = layout;
	struct syn_copy bad[9];
	struct page page;

	page_encode_init(&page, &bench.hbm, bench.shadow, &bench.host);
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		bad[i] = page.copy;
	other.layers = 4;
	bad[0].encode = &other; /* of a larger page */
	bad[1].bytes /= 2;	/* half a page */
	bad[2].tile_bytes /= 2; /* half a tile */
	bad[3].stored_sums = NULL;
	bad[4].error = NULL;
	bad[5].dst_off = EXTENT_BYTES - syn_layout_bytes(&layout) + 4;
	bad[6].src_off = EXTENT_BYTES - ENCODE_BYTES + 4;
	bad[7].bytes = 0;
	bad[8].encode = NULL;
	bad[8].dst_off = EXTENT_BYTES - ENCODE_BYTES + 4;
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		assert_int_equal(bench.dev->ops->copy(bench.dev, &bad[i], 1),
				 -EINVAL);
	assert_false(event_is_up(20));
	/* What is written has to fit, not what is read. */
	page.copy.dst_off = EXTENT_BYTES - syn_layout_bytes(&layout);
	assert_int_equal(bench.dev->ops->copy(bench.dev, &page.copy, 1), 0);
	reap_exactly(&(struct syn_copy_done){ 0 }, 1);
}

/* ---- many at once ------------------------------------------------------- */

#define MIX_PAGES     24u
#define MIX_COPIES    200u
#define MIX_SRC_BYTES (8 * ENCODE_BYTES)

/* An encoded page, or so many words from anywhere. */
static void mix_init(struct page *page, const struct syn_mem *src,
		     const unsigned char *shadow, const struct syn_mem *dst,
		     unsigned int *seed)
{
	unsigned int r;

	fill((unsigned char *)&r, sizeof(r), (*seed)++);
	page_encode_init(page, src, shadow, dst);
	page->copy.src_off = r % 4 * ENCODE_BYTES;
	if (r & 0x10000)
		return;
	page->copy.encode = NULL;
	page->copy.tile_bytes = 4 + (r >> 4) % 8000 * 4;
	page->copy.bytes =
		page->copy.tile_bytes * (1 + (r >> 20) % ENCODE_TILES);
}

static void mix_check(const struct page *page)
{
	const unsigned char *src = page->shadow;
	const unsigned char *dst = bytes_of(page->copy.dst);
	uint32_t want[ENCODE_TILES];

	if (page->copy.encode) {
		page_check(page);
		return;
	}
	src += page->copy.src_off;
	dst += page->copy.dst_off;
	assert_memory_equal(dst, src, page->copy.bytes);
	syn_sum_tiles(src, page->copy.bytes, page->copy.tile_bytes, want);
	assert_memory_equal(page->sums, want,
			    page->copy.bytes / page->copy.tile_bytes * 4);
}

/* Copies of all kinds under way at once; each ends once, and is right. */
static void test_mixed(void **state)
{
	static unsigned char shadow[MIX_SRC_BYTES];
	static struct page page[MIX_PAGES];
	struct syn_dev *mine = bench.dev;
	struct syn_mem src;
	struct syn_mem dst;
	unsigned int left = MIX_COPIES;
	unsigned int seed = 1;

	assert_int_equal(maker.open(&bench.dev, 4, NULL), 0);
	assert_int_equal(
		mine->ops->mem_new(mine, 3, SYN_TIER_HBM, MIX_SRC_BYTES, &src),
		0);
	assert_int_equal(mine->ops->mem_new(mine, 4, SYN_TIER_HOST,
					    MIX_PAGES * ENCODE_BYTES, &dst),
			 0);
	fill_halves(shadow, MIX_SRC_BYTES, 5);
	maker.write(&src, 0, shadow, MIX_SRC_BYTES);
	for (unsigned int i = 0; i < MIX_PAGES; i++) {
		mix_init(&page[i], &src, shadow, &dst, &seed);
		page[i].copy.dst_off = i * ENCODE_BYTES;
		assert_int_equal(
			bench.dev->ops->copy(bench.dev, &page[i].copy, 1), 0);
	}
	for (unsigned int under_way = MIX_PAGES; under_way; under_way--) {
		uint64_t dst_off;
		struct syn_copy_done done;
		struct page *got;

		assert_true(event_is_up(-1));
		assert_int_equal(bench.dev->ops->reap(bench.dev, &done, 1), 1);
		assert_int_equal(done.status, 0);
		got = (struct page *)(uintptr_t)done.cookie;
		assert_int_equal(got->nr_done++, 0);
		mix_check(got);
		if (!left)
			continue;
		left--;
		under_way++;
		dst_off = got->copy.dst_off;
		mix_init(got, &src, shadow, &dst, &seed);
		got->copy.dst_off = dst_off;
		assert_int_equal(bench.dev->ops->copy(bench.dev, &got->copy, 1),
				 0);
	}
	assert_false(event_is_up(0));
	bench.dev->ops->close(bench.dev);
	bench.dev = mine;
	mine->ops->mem_free(mine, &src);
	mine->ops->mem_free(mine, &dst);
}

int dev_contract_encode(void)
{
	const struct CMUnitTest tests[] = {
		dev_test(test_encodes),
		dev_test(test_not_finite),
		dev_test(test_encode_stays_inside),
		dev_test(test_mixed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
