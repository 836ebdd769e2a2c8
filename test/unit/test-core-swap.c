/* SPDX-License-Identifier: Apache-2.0 */
/* Pages in the swap file: out, in, found again, lost. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/disk.h"
#include "core/page.h"

#define PAGES 200u
#define SLOTS 16u

struct swap_world {
	struct syn_simdisk *sim;
	struct world world;
	struct client client;
	uint32_t space;
	uint32_t codec;
	uint32_t nr_segments;
};

static void swap_join(struct swap_world *s)
{
	struct syn_mm_config config = {
		.hbm_bytes = 4 * MIB,
		.host_bytes = 2 * MIB,
		.max_pages = 512,
		.max_sessions = 4,
		.low_permille = 100,
		.high_permille = 250,
		.codec = s->codec,
	};

	world_open_swap(&s->world, &config, s->sim);
	/* 32 KiB a page: 64 frames of host memory, 56 slots in a segment. */
	s->space = world_space(&s->world, 64, 2, 64);
	client_open(&s->client, &s->world, 1);
	(void)client_window(&s->client, s->space, SLOTS);
}

static void swap_leave(struct swap_world *s)
{
	client_close(&s->client);
	world_close(&s->world);
}

static int setup(void **state)
{
	struct swap_world *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->codec = SYN_CODEC_RAW16;
	s->nr_segments = 8;
	assert_int_equal(syn_simdisk_new(&s->sim, 2 * MIB, 8, 7), 0);
	swap_join(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct swap_world *s = *state;

	swap_leave(s);
	assert_null(syn_simdisk_free(s->sim));
	free(s);
	return 0;
}

/* While the disk is left alone after a failure, refusals are right. */
static uint64_t full_at_last(struct client *c, uint32_t seed)
{
	uint64_t handle;
	uint32_t n = 0;
	int r;

	while ((r = client_lease(c, 0, 1, &handle)) == SYN_E_BACKPRESSURE) {
		assert_true(n++ < 1000);
		(void)world_poll(c->world);
	}
	assert_int_equal(r, 0);
	client_write(c, handle, seed);
	assert_int_equal(client_commit(c, handle, 64), 0);
	return handle;
}

static int check_at_last(struct client *c, uint64_t handle, uint32_t seed)
{
	uint32_t n = 0;
	int r;

	while ((r = client_check(c, handle, seed)) == SYN_E_BACKPRESSURE) {
		assert_true(n++ < 1000);
		(void)world_poll(c->world);
	}
	return r;
}

/* ---- out and in --------------------------------------------------------- */

/* More than HBM and host memory together: every byte comes back. */
static void test_out_and_in(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle[PAGES];
	uint32_t turn;
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		handle[i] = client_full(&s->client, 0, i * 77);
	world_audit(&s->world);
	assert_true(world_tier(&s->world, SYN_TIER_NVME).in_bytes);
	for (turn = 0; turn < 3; turn++)
		for (i = 0; i < PAGES; i++)
			assert_int_equal(
				client_check(&s->client, handle[i], i * 77), 0);
	world_audit(&s->world);
	assert_true(world_tier(&s->world, SYN_TIER_NVME).out_bytes >=
		    2 * (PAGES - 100) * 32768ull);
}

/* Read back from the file, a page is not written again. */
static void test_clean(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle[PAGES];
	uint64_t written;
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		handle[i] = client_full(&s->client, 0, i);
	for (i = 0; i < 2 * PAGES; i++)
		assert_int_equal(
			client_check(&s->client, handle[i % PAGES], i % PAGES),
			0);
	world_settle(&s->world);
	written = world_tier(&s->world, SYN_TIER_NVME).in_bytes;
	assert_true(written && written <= PAGES * 32768ull);
}

static void test_released_is_free(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle[PAGES];
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		handle[i] = client_full(&s->client, 0, i);
	for (i = 0; i < PAGES; i++)
		assert_int_equal(client_release(&s->client, handle[i]), 0);
	world_settle(&s->world);
	assert_int_equal(world_stat(&s->world).nr_pages, 0);
	assert_int_equal(world_tier(&s->world, SYN_TIER_NVME).used_bytes, 0);
}

/* A batch that wants more than host memory holds gets what there is. */
static void test_batch_larger_than_host(void **state)
{
	struct swap_world *s = *state;
	struct syn_vec_fault answer[SLOTS];
	uint64_t handle[PAGES];
	uint32_t loans = 0;
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		handle[i] = client_full(&s->client, 0, i);
	assert_int_equal(client_fault(&s->client, handle, SLOTS, answer), 0);
	for (i = 0; i < SLOTS; i++) {
		if (answer[i].res != SYN_FAULT_LOAN)
			continue;
		loans++;
		assert_int_equal(client_execute(&s->client, answer[i].loan), 0);
		assert_int_equal(client_loaded(&s->client, answer[i].loan, 0),
				 0);
	}
	assert_true(loans);
}

/* ---- after a restart ---------------------------------------------------- */

static void test_found_again(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle;
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < 40; i++) {
		handle = client_sealed(&s->client, 0, i * 3, i + 1);
		if (i % 2)
			assert_int_equal(client_persist(&s->client, handle), 0);
	}
	swap_leave(s);
	swap_join(s);
	for (i = 0; i < 40; i++) {
		int r = client_lookup(&s->client, 0, i + 1, &handle, &miss);

		if (i % 2) {
			assert_int_equal(r, 1);
			assert_int_equal(
				client_check(&s->client, handle, i * 3), 0);
		}
	}
	world_audit(&s->world);
}

/* In whichever segments they are. */
static void test_all_found_again(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle;
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < PAGES; i++) {
		handle = client_sealed(&s->client, 0, i * 3, i + 1);
		assert_int_equal(client_persist(&s->client, handle), 0);
		assert_int_equal(client_release(&s->client, handle), 0);
	}
	swap_leave(s);
	swap_join(s);
	for (i = 0; i < PAGES; i++) {
		assert_int_equal(
			client_lookup(&s->client, 0, i + 1, &handle, &miss), 1);
		assert_int_equal(client_check(&s->client, handle, i * 3), 0);
	}
}

static void test_other_domain_finds_nothing(void **state)
{
	struct swap_world *s = *state;
	struct client other;
	uint64_t handle = client_sealed(&s->client, 0, 5, 1);
	uint64_t miss;

	assert_int_equal(client_persist(&s->client, handle), 0);
	swap_leave(s);
	swap_join(s);
	client_open(&other, &s->world, 2);
	(void)client_window(&other, s->space, 4);
	assert_int_equal(client_lookup(&other, 0, 1, &handle, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	client_close(&other);
	assert_int_equal(client_lookup(&s->client, 0, 1, &handle, &miss), 1);
}

/* Durable pages outlive a power cut, whatever else it takes. */
static void test_power_cut(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle;
	uint64_t miss;
	uint32_t turn;
	uint32_t i;

	for (turn = 0; turn < 20; turn++) {
		uint32_t key = 1000 * turn;

		for (i = 0; i < PAGES; i++)
			(void)client_full(&s->client, 0, i);
		for (i = 0; i < 8; i++) {
			handle = client_sealed(&s->client, 0, key + i,
					       key + i + 1);
			assert_int_equal(client_persist(&s->client, handle), 0);
		}
		syn_simdisk_cut(s->sim);
		client_close(&s->client);
		/* What is under way never ends. */
		s->world.mm->nr_swaps = 0;
		assert_null(syn_mm_free(s->world.mm));
		s->world.dev->ops->close(s->world.dev);
		s->world.disk->ops->close(s->world.disk);
		free(s->world.kept);
		swap_join(s);
		for (i = 0; i < 8; i++) {
			assert_int_equal(client_lookup(&s->client, 0,
						       key + i + 1, &handle,
						       &miss),
					 1);
			assert_int_equal(
				client_check(&s->client, handle, key + i), 0);
		}
		(void)syn_mm_evict(s->world.mm, UINT64_MAX);
	}
}

static void test_persist_refusals(void **state)
{
	struct swap_world *s = *state;
	uint64_t full = client_full(&s->client, 0, 1);
	uint64_t one = client_sealed(&s->client, 0, 2, 9);
	uint64_t dup = client_full(&s->client, 0, 2);
	struct syn_disk *disk = s->world.mm->disk;

	assert_int_equal(client_seal(&s->client, dup, 9, 0), SYN_E_DUP);
	assert_int_equal(client_persist(&s->client, full), -ENOKEY);
	assert_int_equal(client_persist(&s->client, dup), -ENOKEY);
	assert_int_equal(client_persist(&s->client, one + (1ull << 32)),
			 -ESTALE);
	s->world.mm->disk = NULL;
	assert_int_equal(client_persist(&s->client, one), -ENODEV);
	s->world.mm->disk = disk;
	assert_int_equal(syn_mm_persist(s->client.session, &one, 0), -EINVAL);
	assert_int_equal(
		syn_mm_persist(s->client.session, &one, SYN_BATCH_MAX + 1),
		-EINVAL);
	assert_int_equal(client_persist(&s->client, one), 0);
}

/* Pinned, it is resident all the while. */
static void test_persist_pinned(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle = client_sealed(&s->client, 0, 4, 1);
	uint32_t *at;

	assert_int_equal(client_pin(&s->client, handle, &at), 0);
	assert_int_equal(client_persist(&s->client, handle), 0);
	assert_int_equal(client_state(&s->client, handle), SYN_PTE_RESIDENT);
	assert_int_equal(*at, 4);
	client_unpin(&s->client, handle);
}

static uint64_t swapped_page(struct swap_world *s, uint64_t key)
{
	uint64_t handle = client_sealed(&s->client, 0, 123, key);
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		assert_int_equal(client_release(&s->client,
						client_full(&s->client, 0, i)),
				 0);
	for (i = 0; i < PAGES; i++)
		(void)client_full(&s->client, 0, i);
	world_settle(&s->world);
	assert_true(
		syn_page_is(client_page(&s->client, handle), SYN_PAGE_F_NVME));
	assert_false(syn_page_is(client_page(&s->client, handle),
				 SYN_PAGE_F_HBM | SYN_PAGE_F_HOST));
	return handle;
}

/* ---- whose slots go ----------------------------------------------------- */

/* At its maximum a domain drops its own pages, and nobody else's. */
static void test_own_quota(void **state)
{
	struct swap_world *s = *state;
	const struct syn_quota quota = { 0, SYN_QUOTA_NONE, 20 * 32768 };
	uint64_t handle[10];
	struct client other;
	uint32_t domain;
	uint64_t miss;
	uint32_t i;
	uint32_t n;

	client_open(&other, &s->world, 2);
	(void)client_window(&other, s->space, SLOTS);
	for (i = 0; i < 10; i++) {
		handle[i] = client_sealed(&other, 0, i, i + 1);
		assert_int_equal(client_persist(&other, handle[i]), 0);
		assert_int_equal(client_release(&other, handle[i]), 0);
	}
	domain = s->client.session->cfg.domain;
	assert_int_equal(
		syn_mm_quota_set(s->world.mm, domain, SYN_TIER_NVME, &quota),
		0);
	for (i = 0; i < 60; i++) {
		uint64_t own = client_sealed(&s->client, 0, i, 100 + i);

		/* The one extent of host memory has to change hands first. */
		for (n = 0; n < 1000 && client_persist(&s->client, own); n++) {
			world_settle(&s->world);
			client_extents(&other);
		}
		assert_true(n < 1000);
		assert_int_equal(client_release(&s->client, own), 0);
		world_audit(&s->world);
	}
	for (i = 0; i < 10; i++)
		assert_int_equal(
			client_lookup(&other, 0, i + 1, &handle[i], &miss), 1);
	assert_int_equal(client_lookup(&s->client, 0, 100, &handle[0], &miss),
			 0);
	assert_int_equal(client_lookup(&s->client, 0, 159, &handle[0], &miss),
			 1);
	client_close(&other);
}

/* Full of slots of one size that nobody needs, it takes those of another. */
static void test_other_size(void **state)
{
	struct swap_world *s = *state;
	struct client other;
	uint64_t handle;
	uint64_t miss;
	uint32_t i;
	uint32_t n;

	for (i = 0; i < 440; i++) {
		handle = client_sealed(&s->client, 0, i, i + 1);
		assert_int_equal(client_persist(&s->client, handle), 0);
		assert_int_equal(client_release(&s->client, handle), 0);
	}
	world_settle(&s->world);
	client_open(&other, &s->world, 1);
	(void)client_window(&other, world_space(&s->world, 128, 2, 64), 8);
	for (i = 0; i < 120; i++) {
		for (n = 0; client_lease(&other, 0, 1, &handle); n++) {
			assert_true(n < 1000);
			world_settle(&s->world);
			client_extents(&s->client);
			client_extents(&other);
		}
		client_write(&other, handle, i);
		assert_int_equal(client_commit(&other, handle, 128), 0);
	}
	world_audit(&s->world);
	assert_int_equal(client_lookup(&s->client, 0, 1, &handle, &miss), 0);
	client_close(&other);
}

/* What was written without a promise has none after a restart. */
static void test_restart_promises_nothing(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle = swapped_page(s, 5);
	uint64_t miss;

	assert_false(syn_page_is(client_page(&s->client, handle),
				 SYN_PAGE_F_DURABLE));
	swap_leave(s);
	swap_join(s);
	assert_int_equal(client_lookup(&s->client, 0, 5, &handle, &miss), 1);
	assert_false(syn_page_is(client_page(&s->client, handle),
				 SYN_PAGE_F_DURABLE));
	assert_int_equal(client_persist(&s->client, handle), 0);
	assert_true(syn_page_is(client_page(&s->client, handle),
				SYN_PAGE_F_DURABLE));
	swap_leave(s);
	swap_join(s);
	assert_int_equal(client_lookup(&s->client, 0, 5, &handle, &miss), 1);
	assert_true(syn_page_is(client_page(&s->client, handle),
				SYN_PAGE_F_DURABLE));
}

/* ---- a disk that fails -------------------------------------------------- */

static void write_fails(struct swap_world *s, int error)
{
	uint32_t nth;
	uint32_t i;

	for (nth = 1; nth < 60; nth += 2) {
		uint64_t handle[PAGES];

		syn_simdisk_fail(s->sim, nth, error);
		for (i = 0; i < PAGES; i++)
			handle[i] = full_at_last(&s->client, i + nth);
		syn_simdisk_fail(s->sim, 0, 0);
		for (i = 0; i < PAGES; i++) {
			assert_int_equal(
				check_at_last(&s->client, handle[i], i + nth),
				0);
			assert_int_equal(client_release(&s->client, handle[i]),
					 0);
		}
		world_settle(&s->world);
		world_audit(&s->world);
	}
	assert_int_equal(world_stat(&s->world).sum_failures, 0);
}

/* Whichever write fails, no page is lost. */
static void test_no_space(void **state)
{
	struct swap_world *s = *state;

	write_fails(s, -ENOSPC);
	assert_int_equal(world_stat(&s->world).swap_retired, 0);
	assert_int_equal(world_tier(&s->world, SYN_TIER_NVME).used_bytes, 0);
}

/* Nor then; and a slot where the medium failed is not used again. */
static void test_write_fails(void **state)
{
	struct swap_world *s = *state;
	uint64_t retired;

	write_fails(s, -EIO);
	retired = world_stat(&s->world).swap_retired;
	assert_true(retired);
	assert_int_equal(world_tier(&s->world, SYN_TIER_NVME).used_bytes,
			 retired * 32768);
}

/* A read that fails is a miss, once; the slot is not used again. */
static void test_read_fails(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle = swapped_page(s, 5);
	uint64_t miss;

	world_settle(&s->world);
	syn_simdisk_fail(s->sim, 1, -EIO);
	assert_int_equal(client_check(&s->client, handle, 123), SYN_E_LOST);
	assert_int_equal(world_stat(&s->world).swap_retired, 1);
	assert_int_equal(client_lookup(&s->client, 0, 5, &handle, &miss), 0);
	assert_int_equal(miss, SYN_MISS_LOST);
}

/* Whatever bit flips: what is read is right, or it is a miss. */
static void test_flips(void **state)
{
	struct swap_world *s = *state;
	uint64_t random = 88172645463325252u;
	uint32_t turn;
	uint32_t lost = 0;
	uint32_t gone = 0;

	for (turn = 0; turn < 60; turn++) {
		uint64_t handle;
		uint64_t miss;
		uint32_t i;

		for (i = 0; i < 20; i++) {
			handle = client_sealed(&s->client, 0, turn + i, i + 1);
			assert_int_equal(client_persist(&s->client, handle), 0);
		}
		swap_leave(s);
		for (i = 0; i < 200; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			syn_simdisk_flip(s->sim, random % (8 * 2 * MIB) +
							 8 * SYN_DISK_BLOCK);
		}
		swap_join(s);
		for (i = 0; i < 20; i++) {
			int r;

			if (client_lookup(&s->client, 0, i + 1, &handle,
					  &miss) != 1) {
				gone++;
				continue;
			}
			r = client_check(&s->client, handle, turn + i);
			assert_true(!r || r == SYN_E_LOST);
			lost += r == SYN_E_LOST;
		}
		client_close(&s->client);
		(void)syn_mm_evict(s->world.mm, UINT64_MAX);
		client_open(&s->client, &s->world, 1);
		(void)client_window(&s->client, s->space, SLOTS);
	}
	print_message("%u lost, %u gone\n", lost, gone);
	assert_true(lost);
}

/* Everything is full: refusals, no loss, and room again afterwards. */
static void test_all_full(void **state)
{
	struct swap_world *s = *state;
	uint64_t handle[1000];
	uint32_t nr = 0;
	uint32_t i;
	int r = 0;

	while (nr < syn_array_size(handle)) {
		r = client_lease(&s->client, 0, 1, &handle[nr]);
		if (r)
			break;
		client_write(&s->client, handle[nr], nr);
		assert_int_equal(client_commit(&s->client, handle[nr], 64), 0);
		nr++;
	}
	assert_true(r == SYN_E_BACKPRESSURE || r == -EDQUOT);
	/* HBM, host memory and seven or eight segments of 56. */
	assert_true(nr > 450);
	world_audit(&s->world);
	assert_int_equal(client_release(&s->client, handle[0]), 0);
	for (i = 1; i < nr; i++) {
		r = client_check(&s->client, handle[i], i);
		assert_true(!r || r == SYN_E_BACKPRESSURE);
		assert_int_equal(client_release(&s->client, handle[i]), 0);
	}
	world_settle(&s->world);
	assert_int_equal(world_stat(&s->world).nr_pages, 0);
}

#define SWAP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		SWAP_TEST(test_out_and_in),
		SWAP_TEST(test_clean),
		SWAP_TEST(test_released_is_free),
		SWAP_TEST(test_batch_larger_than_host),
		SWAP_TEST(test_found_again),
		SWAP_TEST(test_all_found_again),
		SWAP_TEST(test_other_domain_finds_nothing),
		SWAP_TEST(test_power_cut),
		SWAP_TEST(test_persist_refusals),
		SWAP_TEST(test_persist_pinned),
		SWAP_TEST(test_own_quota),
		SWAP_TEST(test_other_size),
		SWAP_TEST(test_restart_promises_nothing),
		SWAP_TEST(test_no_space),
		SWAP_TEST(test_write_fails),
		SWAP_TEST(test_read_fails),
		SWAP_TEST(test_flips),
		SWAP_TEST(test_all_full),
	};

	return test_main(tests);
}
