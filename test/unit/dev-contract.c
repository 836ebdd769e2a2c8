/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of core/dev.h, for a device of any make. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "kernels/codec/sum.h"
#include "test/unit/dev-bench.h"

static void test_copies_and_sums(void **state)
{
	static uint32_t sums[PAGES][TILES];
	struct syn_copy vec[PAGES];
	struct syn_copy_done done[PAGES];
	uint32_t want[TILES];

	hbm_fill(1);
	for (unsigned int i = 0; i < PAGES; i++)
		vec[i] = copy_page(i, sums[i]);
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, PAGES), 0);
	reap_exactly(done, PAGES);
	done_sort(done, PAGES);
	for (unsigned int i = 0; i < PAGES; i++) {
		const unsigned char *src = bench.shadow + i * PAGE_BYTES;

		assert_int_equal(done[i].cookie, 100 + i);
		assert_int_equal(done[i].status, 0);
		assert_memory_equal(bytes_of(&bench.host) + vec[i].dst_off, src,
				    PAGE_BYTES);
		syn_sum_tiles(src, PAGE_BYTES, TILE_BYTES, want);
		assert_memory_equal(sums[i], want, sizeof(want));
	}
}

/* Back into HBM; the sums are of what the host frame holds. */
static void test_copies_up(void **state)
{
	static unsigned char back[EXTENT_BYTES];
	static uint32_t sums[PAGES][TILES];
	struct syn_copy vec[PAGES];
	struct syn_copy_done done[PAGES];
	uint32_t want[TILES];

	fill(bytes_of(&bench.host), EXTENT_BYTES, 2);
	for (unsigned int i = 0; i < PAGES; i++) {
		vec[i] = copy_page(i, sums[i]);
		vec[i].src = &bench.host;
		vec[i].dst = &bench.hbm;
	}
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, PAGES), 0);
	reap_exactly(done, PAGES);
	maker.read(&bench.hbm, 0, back, EXTENT_BYTES);
	for (unsigned int i = 0; i < PAGES; i++) {
		const unsigned char *src =
			bytes_of(&bench.host) + vec[i].src_off;

		assert_int_equal(done[i].status, 0);
		assert_memory_equal(back + vec[i].dst_off, src, PAGE_BYTES);
		syn_sum_tiles(src, PAGE_BYTES, TILE_BYTES, want);
		assert_memory_equal(sums[i], want, sizeof(want));
	}
}

#define ROUNDS 40u

/* Page 0 of HBM goes down again and again while others come up. */
static void test_both_ways_at_once(void **state)
{
	static uint32_t sums[ROUNDS][2][TILES];
	static unsigned char back[PAGE_BYTES];
	struct syn_copy vec[2 * ROUNDS];
	struct syn_copy_done done[2 * ROUNDS];

	hbm_fill(3);
	fill(bytes_of(&bench.host), EXTENT_BYTES, 4);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct syn_copy *down = &vec[2 * i];
		struct syn_copy *up = &vec[2 * i + 1];

		*down = copy_page(0, sums[i][0]);
		*up = copy_page(1 + i % (PAGES - 1), sums[i][1]);
		up->src = &bench.host;
		up->dst = &bench.hbm;
		up->src_off = 0;
		up->dst_off = (1 + i % (PAGES - 1)) * PAGE_BYTES;
	}
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, 2 * ROUNDS), 0);
	reap_exactly(done, 2 * ROUNDS);
	for (unsigned int i = 0; i < 2 * ROUNDS; i++)
		assert_int_equal(done[i].status, 0);
	assert_memory_equal(bytes_of(&bench.host) + vec[0].dst_off,
			    bench.shadow, PAGE_BYTES);
	for (unsigned int i = 0; i < PAGES; i++) {
		maker.read(&bench.hbm, i * PAGE_BYTES, back, PAGE_BYTES);
		assert_memory_equal(back,
				    i ? bytes_of(&bench.host) : bench.shadow,
				    PAGE_BYTES);
	}
	for (unsigned int i = 1; i < ROUNDS; i++)
		assert_memory_equal(sums[i], sums[0], sizeof(sums[0]));
}

/* The descriptor stays readable until the last completion is taken. */
static void test_event_is_a_level(void **state)
{
	uint32_t sums[3][TILES];
	struct syn_copy vec[3];
	struct syn_copy_done done[3];

	assert_false(event_is_up(0));
	for (unsigned int i = 0; i < 3; i++)
		vec[i] = copy_page(i, sums[i]);
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, 3), 0);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(event_is_up(-1));
		assert_int_equal(bench.dev->ops->reap(bench.dev, &done[i], 1),
				 1);
	}
	assert_false(event_is_up(0));
	done_sort(done, 3);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(done[i].cookie, 100 + i);
	assert_int_equal(bench.dev->ops->reap(bench.dev, done, 1), 0);
}

/* All or none, and none when too many wait to be reaped. */
static void test_bounded_queue(void **state)
{
	static struct syn_copy vec[600];
	static struct syn_copy_done done[600];
	static uint32_t sums[600];

	for (unsigned int i = 0; i < 600; i++) {
		vec[i] = copy_page(0, &sums[i]);
		vec[i].dst_off = i * 64;
		vec[i].bytes = vec[i].tile_bytes = 64;
		vec[i].cookie = i;
	}
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, 600), 0);
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, 600), -EAGAIN);
	reap_exactly(done, 600);
	done_sort(done, 600);
	for (unsigned int i = 0; i < 600; i++)
		assert_int_equal(done[i].cookie, i);
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, 600), 0);
	reap_exactly(done, 600);
}

static void test_copies_stay_inside(void **state)
{
	uint32_t sums[TILES];
	struct syn_copy good = copy_page(0, sums);
	struct syn_copy bad[2];

	bad[0] = good;
	bad[1] = good;
	bad[1].src_off = EXTENT_BYTES - PAGE_BYTES + 4;
	assert_int_equal(bench.dev->ops->copy(bench.dev, bad, 2), -EINVAL);
	bad[1] = good;
	bad[1].dst_off = UINT64_MAX - 100;
	assert_int_equal(bench.dev->ops->copy(bench.dev, bad, 2), -EINVAL);
	bad[1] = good;
	bad[1].tile_bytes = 0;
	assert_int_equal(bench.dev->ops->copy(bench.dev, bad, 2), -EINVAL);
	bad[1].tile_bytes = PAGE_BYTES - 4; /* does not divide */
	assert_int_equal(bench.dev->ops->copy(bench.dev, bad, 2), -EINVAL);
	bad[1].bytes = bad[1].tile_bytes = 6; /* no whole words */
	assert_int_equal(bench.dev->ops->copy(bench.dev, bad, 2), -EINVAL);
	assert_false(event_is_up(20));
}

/* Fresh memory is zero, also when somebody wrote into what it is made of. */
static void test_fresh_extents_are_zero(void **state)
{
	static const unsigned char zero[EXTENT_BYTES];
	static unsigned char back[EXTENT_BYTES];

	for (unsigned int i = 0; i < 20; i++) {
		uint32_t tier = i % 2 ? SYN_TIER_HOST : SYN_TIER_HBM;
		struct syn_mem mem;

		assert_int_equal(bench.dev->ops->mem_new(bench.dev, 3, tier,
							 EXTENT_BYTES, &mem),
				 0);
		maker.read(&mem, 0, back, EXTENT_BYTES);
		assert_memory_equal(back, zero, EXTENT_BYTES);
		fill(back, EXTENT_BYTES, i);
		maker.write(&mem, 0, back, EXTENT_BYTES);
		bench.dev->ops->mem_free(bench.dev, &mem);
	}
}

static void test_keeper_has_all(void **state)
{
	assert_int_equal(bench.hbm.id, 1);
	assert_int_equal(bench.host.id, 2);
	assert_int_equal(bench.hbm.bytes, EXTENT_BYTES);
	assert_true(fcntl(bench.hbm.fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(bench.host.fd, F_GETFD) & FD_CLOEXEC);
	assert_non_null(bench.host.addr);
	assert_int_equal(bench.keeper.nr_kept, 2);
	assert_int_equal(bench.keeper.last_id, 2);
}

static void test_keeper_may_refuse(void **state)
{
	struct syn_mem mem = { .fd = 77 };
	int before = test_count_fds();

	bench.keeper.error = -EPIPE;
	assert_int_equal(bench.dev->ops->mem_new(bench.dev, 4, SYN_TIER_HBM,
						 EXTENT_BYTES, &mem),
			 -EPIPE);
	assert_int_equal(mem.fd, 77);
	/* A backend may free behind our back, but it does. */
	while (test_count_fds() != before)
		(void)usleep(1000);
}

/* Whole granules, or nothing. */
static void test_granules(void **state)
{
	struct syn_mem mem;

	assert_true(bench.dev->granule >= 4096);
	assert_int_equal(EXTENT_BYTES % bench.dev->granule, 0);
	assert_int_equal(bench.dev->ops->mem_new(bench.dev, 4, SYN_TIER_HBM,
						 bench.dev->granule + 2048,
						 &mem),
			 -EINVAL);
}

int dev_contract(void)
{
	const struct CMUnitTest tests[] = {
		dev_test(test_copies_and_sums),
		dev_test(test_copies_up),
		dev_test(test_both_ways_at_once),
		dev_test(test_event_is_a_level),
		dev_test(test_bounded_queue),
		dev_test(test_copies_stay_inside),
		dev_test(test_fresh_extents_are_zero),
		dev_test(test_keeper_has_all),
		dev_test(test_keeper_may_refuse),
		dev_test(test_granules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
