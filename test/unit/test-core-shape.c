/* SPDX-License-Identifier: Apache-2.0 */
/* Frames fill whole granules of a device, at any size of a page. */
#include "core/shape.h"

#include <stdio.h>

#include "test/unit/core-harness.h"

#define KIB	4096u /* pages are in steps of it */
#define GRANULE (2 * MIB)
#define LARGEST (64 * MIB)

static bool fills(uint64_t frame, uint64_t most)
{
	uint64_t run = frame;

	while (run % GRANULE && run <= most)
		run += frame;
	return run <= most;
}

/* Nothing left over, nothing smaller would do. */
static void check_shape(uint64_t page, uint64_t extent)
{
	uint64_t most = syn_max(extent, syn_align_up(page, GRANULE));
	struct syn_shape again;
	struct syn_shape s;
	uint64_t frame;

	syn_shape_window(GRANULE, extent, page, &s);
	assert_int_equal(s.frame_bytes % SYN_FRAME_ALIGN, 0);
	assert_true(s.frame_bytes >= page);
	assert_true(s.extent_frames >= 1);
	assert_int_equal(s.extent_frames * s.frame_bytes, s.extent_bytes);
	assert_int_equal(s.extent_bytes % GRANULE, 0);
	assert_true(s.extent_bytes <= most);
	for (frame = syn_align_up(page, SYN_FRAME_ALIGN); frame < s.frame_bytes;
	     frame += SYN_FRAME_ALIGN)
		assert_false(fills(frame, most));
	syn_shape_window(GRANULE, extent, s.frame_bytes, &again);
	assert_int_equal(again.frame_bytes, s.frame_bytes);
	assert_int_equal(again.extent_bytes, s.extent_bytes);
	assert_int_equal(again.extent_frames, s.extent_frames);
}

static void test_every_page(void **state)
{
	(void)state;
	for (uint64_t page = KIB; page <= LARGEST; page += KIB)
		check_shape(page, 64 * MIB);
	/* Small budgets have small extents; odd sizes are the hard ones. */
	for (uint64_t extent = 2 * MIB; extent < 64 * MIB; extent *= 2)
		for (uint64_t page = KIB; page <= LARGEST; page += 34 * KIB)
			check_shape(page, extent);
	check_shape(4, 64 * MIB);
	check_shape(KIB + 4, 64 * MIB);
}

/* Sizes that real models have waste nothing, others less than a sixteenth. */
static void test_known_pages(void **state)
{
	static const struct {
		uint64_t page;
		uint64_t frame;
		uint32_t nr;
	} want[] = {
		{ 4 * 1024, 4 * 1024, 16384 },
		{ 64 * 1024, 64 * 1024, 1024 },
		{ 512 * 1024, 512 * 1024, 128 },
		{ 7 * 64 * 1024, 7 * 64 * 1024, 128 },
		{ 31 * 4 * 1024, 31 * 4 * 1024, 512 },
		{ 33 * 4 * 1024, 34 * 4 * 1024, 256 },
		{ 14 * MIB, 14 * MIB, 4 },
		{ 64 * MIB, 64 * MIB, 1 },
		{ 64 * MIB - 4096, 64 * MIB, 1 },
		{ 2 * MIB + 4096, 2 * MIB + 131072, 16 },
	};
	struct syn_shape s;

	(void)state;
	for (size_t i = 0; i < syn_array_size(want); i++) {
		syn_shape_window(GRANULE, 64 * MIB, want[i].page, &s);
		assert_int_equal(s.frame_bytes, want[i].frame);
		assert_int_equal(s.extent_frames, want[i].nr);
	}
}

/* Where any page can be mapped, extents are as large as they may be. */
static void test_no_granule(void **state)
{
	struct syn_shape s;

	(void)state;
	syn_shape_window(4096, 2 * MIB, 12288, &s);
	assert_int_equal(s.frame_bytes, 12288);
	assert_int_equal(s.extent_bytes, 2 * MIB);
	assert_int_equal(s.extent_frames, 170);
}

/* Every extent of @c's window could be mapped in granules, and is full. */
static void check_extents(const struct client *c, uint64_t stride)
{
	uint32_t nr_hbm = 0;

	for (uint32_t i = 0; i < c->nr_extents; i++) {
		const struct syn_msg_extent *m = &c->extent[i].msg;

		if (m->tier != SYN_TIER_HBM)
			continue;
		nr_hbm++;
		assert_int_equal(m->frame_bytes, stride);
		assert_int_equal(m->first_slot * stride % GRANULE, 0);
		assert_int_equal(m->nr_frames * stride, m->bytes);
	}
	assert_true(nr_hbm >= 2);
}

/* @dim odd: a page is @dim times 4 KiB, its slots may be further apart. */
static void check_world(uint32_t dim)
{
	struct syn_mm_config config = {
		.hbm_bytes = 32 * MIB,
		.host_bytes = 64 * MIB,
		.max_pages = 1024,
		.max_sessions = 8,
		.codec = SYN_CODEC_RAW16,
	};
	struct syn_shape shape;
	uint64_t handles[64];
	struct world w;
	struct client c;
	uint32_t space;
	uint32_t slots;
	uint32_t nr;

	world_open_granule(&w, &config, NULL, GRANULE);
	space = world_space(&w, 1024, 1, dim);
	syn_shape_window(GRANULE, 4 * MIB, 4096ull * dim, &shape);
	slots = 2 * shape.extent_frames;
	nr = syn_min(slots + slots / 2 + 1, 64u);
	client_open(&c, &w, 0);
	(void)client_window(&c, space, slots);
	for (uint32_t i = 0; i < nr; i++)
		handles[i] = client_full(&c, 0, i);
	check_extents(&c, shape.frame_bytes);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(client_check(&c, handles[i], i), 0);
	client_close(&c);
	world_close(&w);
}

static void test_worlds(void **state)
{
	static const uint32_t dims[] = { 16, 31, 33, 63, 129, 255, 513, 769 };

	(void)state;
	for (size_t i = 0; i < syn_array_size(dims); i++)
		check_world(dims[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_page),
		cmocka_unit_test(test_known_pages),
		cmocka_unit_test(test_no_granule),
		cmocka_unit_test(test_worlds),
	};

	return test_main(tests);
}
