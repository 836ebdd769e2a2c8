/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/codec/page.h: pages through a codec, tile by tile. */
#include "kernels/codec/page.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/base.h"
#include "kernels/codec/h4.h"
#include "kernels/codec/sum.h"
#include "test/test.h"

#define DIM	  64u
#define LAYERS	  4u
#define TILES	  (LAYERS * 2 * 2 * 3)
#define RAW_BYTES (SYN_TILE_TOKENS * DIM * 2)

/* Keys and values as h4, and a third component that never is. */
static const struct syn_component components[] = {
	{ SYN_ROLE_K, SYN_DTYPE_F16, 2, DIM, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_V, SYN_DTYPE_F16, 2, DIM, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_LATENT, SYN_DTYPE_BF16, 2, DIM, SYN_CODEC_RAW16, 0 },
};

static struct syn_layout layout;
static unsigned char canonical[TILES * RAW_BYTES];
static unsigned char stored[2][TILES * RAW_BYTES];
static unsigned char decoded[2][TILES * RAW_BYTES];

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

static uint64_t seed = 88172645463325252u;

static uint32_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static int setup(void **state)
{
	uint16_t *x = (void *)canonical;

	assert_int_equal(syn_layout_init(&layout, 2 * SYN_TILE_TOKENS, LAYERS,
					 syn_array_size(components), components,
					 1, 1),
			 0);
	assert_int_equal(syn_layout_tiles(&layout), TILES);
	/* Between 1 and 4, of either sign. */
	for (uint32_t i = 0; i < sizeof(canonical) / 2; i++)
		x[i] = (uint16_t)(0x3c00 + (next_random() & 0x87ff));
	memset(stored, 0, sizeof(stored));
	memset(decoded, 0, sizeof(decoded));
	return 0;
}

static int encode(unsigned int to, uint32_t first, uint32_t nr,
		  struct sums *sums)
{
	return syn_page_encode(stored[to], canonical, &layout, first, nr,
			       sums->raw, sums->stored, sums->error);
}

static void test_tiles_lie_where_the_layout_says(void **state)
{
	unsigned char tile[RAW_BYTES];
	struct sums sums;
	size_t at = 0;

	assert_int_equal(encode(0, 0, TILES, &sums), 0);
	for (uint32_t t = 0; t < TILES; t++) {
		uint32_t i = t % 3;
		uint32_t layer = t / (2 * 2 * 3);
		const unsigned char *from = canonical + t * RAW_BYTES;
		uint32_t head = t / 3 % 2, block = t / (2 * 3) % 2;
		uint32_t bytes = syn_layout_tile_bytes(&layout, layer, i);
		bool floor = i == 0 && (layer == 0 || layer == LAYERS - 1);
		uint16_t error = 0;

		assert_int_equal(
			syn_layout_stored_at(&layout, layer, block, head, i),
			at);
		assert_int_equal(
			syn_layout_canonical_at(&layout, layer, block, head, i),
			from - canonical);
		assert_int_equal(sums.raw[t], syn_sum(from, RAW_BYTES));
		if (floor || i == 2) {
			assert_int_equal(bytes, RAW_BYTES);
			assert_memory_equal(stored[0] + at, from, bytes);
		} else {
			assert_int_equal(syn_h4_encode(tile, from,
						       &components[i], &error),
					 0);
			assert_memory_equal(stored[0] + at, tile, bytes);
			assert_true(error > 0);
		}
		assert_int_equal(sums.error[t], error);
		assert_int_equal(sums.stored[t],
				 syn_sum(stored[0] + at, bytes));
		at += bytes;
	}
	assert_int_equal(at, syn_layout_bytes(&layout));
}

static void check_offsets(const struct syn_layout *l)
{
	uint32_t per_layer = l->blocks * l->heads * l->nr_components;
	uint64_t canonical_at = 0, stored_at = 0;

	for (uint32_t t = 0; t < syn_layout_tiles(l); t++) {
		uint32_t layer = t / per_layer, i = t % l->nr_components;
		uint32_t head = t / l->nr_components % l->heads;
		uint32_t block = t / l->nr_components / l->heads % l->blocks;

		assert_int_equal(
			syn_layout_canonical_at(l, layer, block, head, i),
			canonical_at);
		assert_int_equal(syn_layout_stored_at(l, layer, block, head, i),
				 stored_at);
		canonical_at += syn_tile_raw_bytes(&l->component[i]);
		stored_at += syn_layout_tile_bytes(l, layer, i);
	}
	assert_int_equal(stored_at, syn_layout_bytes(l));
}

/* Floors of any height, also those that meet, and components in any order. */
static void test_offsets_of_any_tile(void **state)
{
	for (uint32_t n = 0; n < LAYERS * LAYERS * 3 * 2; n++) {
		uint32_t head = n % LAYERS + 1, tail = n / LAYERS % LAYERS;
		uint32_t first = n / LAYERS / LAYERS % 3;
		bool wide = n / (LAYERS * LAYERS * 3);
		struct syn_component c[3];
		struct syn_layout l;

		for (uint32_t i = 0; i < 3; i++) {
			c[i] = components[(first + i) % 3];
			c[i].dim = wide ? 128 : 64;
			c[i].heads = 3;
		}
		assert_int_equal(syn_layout_init(&l, 3 * SYN_TILE_TOKENS,
						 LAYERS, 3, c, head, tail),
				 0);
		check_offsets(&l);
		assert_int_equal(syn_layout_init(&l, SYN_TILE_TOKENS, LAYERS, 1,
						 c, head - 1, tail + 1),
				 0);
		check_offsets(&l);
	}
}

static void test_decoding_is_the_inverse(void **state)
{
	struct sums sums;
	size_t at = 0;
	uint32_t bad;

	assert_int_equal(encode(0, 0, TILES, &sums), 0);
	assert_int_equal(syn_page_decode(decoded[0], stored[0], &layout, 0,
					 TILES, sums.stored, &bad),
			 0);
	for (uint32_t t = 0; t < TILES; t++) {
		uint32_t layer = t / (2 * 2 * 3);
		unsigned char *want = decoded[1] + t * RAW_BYTES;

		if (syn_layout_codec(&layout, layer, t % 3) == SYN_CODEC_H4)
			syn_h4_decode(want, stored[0] + at, &components[t % 3]);
		else
			memcpy(want, canonical + t * RAW_BYTES, RAW_BYTES);
		at += syn_layout_tile_bytes(&layout, layer, t % 3);
	}
	assert_memory_equal(decoded[0], decoded[1], sizeof(decoded[0]));
}

/* Ranges in any order write what the whole page writes, and nothing else. */
static void test_ranges(void **state)
{
	static const uint32_t cut[] = { 0, 1, 7, 12, 13, 30, TILES };
	struct sums whole, parts;
	uint32_t bad;

	assert_int_equal(encode(0, 0, TILES, &whole), 0);
	for (uint32_t i = syn_array_size(cut) - 1; i-- > 0;)
		assert_int_equal(encode(1, cut[i], cut[i + 1] - cut[i], &parts),
				 0);
	assert_memory_equal(stored[0], stored[1], sizeof(stored[0]));
	assert_memory_equal(&whole, &parts, sizeof(whole));
	assert_int_equal(encode(1, 5, 0, &parts), 0);
	assert_int_equal(syn_page_decode(decoded[0], stored[0], &layout, 0,
					 TILES, whole.stored, &bad),
			 0);
	for (uint32_t i = syn_array_size(cut) - 1; i-- > 0;)
		assert_int_equal(syn_page_decode(decoded[1], stored[0], &layout,
						 cut[i], cut[i + 1] - cut[i],
						 whole.stored, &bad),
				 0);
	assert_memory_equal(decoded[0], decoded[1], sizeof(decoded[0]));
	memset(decoded[1], 0xa5, sizeof(decoded[1]));
	assert_int_equal(syn_page_decode(decoded[1], stored[0], &layout, 3, 2,
					 whole.stored, &bad),
			 0);
	for (size_t i = 0; i < sizeof(decoded[1]); i++)
		if (i / RAW_BYTES < 3 || i / RAW_BYTES >= 5)
			assert_int_equal(decoded[1][i], 0xa5);
}

static void test_a_flipped_bit_is_found(void **state)
{
	struct sums sums;
	size_t at = 0;

	assert_int_equal(encode(0, 0, TILES, &sums), 0);
	for (uint32_t t = 0; t < TILES; t++) {
		uint32_t bytes =
			syn_layout_tile_bytes(&layout, t / (2 * 2 * 3), t % 3);
		size_t byte = at + next_random() % bytes;
		unsigned char bit = (unsigned char)(1u << (t % 8));
		uint32_t bad = TILES;

		stored[0][byte] ^= bit;
		assert_int_equal(syn_page_decode(decoded[0], stored[0], &layout,
						 0, TILES, sums.stored, &bad),
				 -EILSEQ);
		assert_int_equal(bad, t);
		assert_int_equal(syn_page_decode(decoded[0], stored[0], &layout,
						 0, t, sums.stored, &bad),
				 0);
		stored[0][byte] ^= bit;
		at += bytes;
	}
}

/* In an h4 tile it stops the page; under the floor it is only bytes. */
/* What is read as it is stored arrives as it is stored, or not at all. */
static void test_stored_bytes_are_copied(void **state)
{
	const uint64_t bytes = syn_layout_bytes(&layout);
	uint32_t tile = TILES;
	struct sums sums;

	(void)state;
	assert_int_equal(encode(0, 0, TILES, &sums), 0);
	memset(stored[1], 0x5a, sizeof(stored[1]));
	assert_int_equal(syn_page_copy(stored[1], stored[0], &layout,
				       sums.stored, &tile),
			 0);
	assert_memory_equal(stored[1], stored[0], bytes);
	assert_int_equal(stored[1][bytes], 0x5a);
	stored[0][bytes - 1] ^= 1;
	assert_int_equal(syn_page_copy(stored[1], stored[0], &layout,
				       sums.stored, &tile),
			 -EILSEQ);
	assert_int_equal(tile, TILES - 1);
	stored[0][0] ^= 128;
	assert_int_equal(syn_page_copy(stored[1], stored[0], &layout,
				       sums.stored, &tile),
			 -EILSEQ);
	assert_int_equal(tile, 0);
}

static void test_not_finite(void **state)
{
	uint16_t *x = (void *)canonical;
	struct sums sums;

	x[0] = 0x7c00;
	assert_int_equal(encode(0, 0, TILES, &sums), 0);
	x[RAW_BYTES / 2] = 0x7c00;
	assert_int_equal(encode(0, 0, 1, &sums), 0);
	assert_int_equal(encode(0, 1, 1, &sums), -EDOM);
	assert_int_equal(encode(0, 0, TILES, &sums), -EDOM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_tiles_lie_where_the_layout_says,
				       setup),
		cmocka_unit_test(test_offsets_of_any_tile),
		cmocka_unit_test_setup(test_decoding_is_the_inverse, setup),
		cmocka_unit_test_setup(test_ranges, setup),
		cmocka_unit_test_setup(test_a_flipped_bit_is_found, setup),
		cmocka_unit_test_setup(test_stored_bytes_are_copied, setup),
		cmocka_unit_test_setup(test_not_finite, setup),
	};

	return test_main(tests);
}
