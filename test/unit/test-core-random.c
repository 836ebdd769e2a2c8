/* SPDX-License-Identifier: Apache-2.0 */
/* Long walks, in worlds that are short of this or of that. */
#include "test/unit/core-walk.h"

#define WALK_OPS 200000u

static void walk_print(const struct walk *k)
{
	struct syn_ctl_status stat = world_stat(&k->world);

	print_message(
		"seed %llu: %llu demotions, %llu free, %llu loads, "
		"%llu evictions, %llu refusals, %llu deaths, "
		"%llu quotas, %llu windows refused, %llu walks\n",
		(unsigned long long)k->config.seed,
		(unsigned long long)stat.demotions,
		(unsigned long long)stat.free_demotions,
		(unsigned long long)stat.loads,
		(unsigned long long)stat.evictions,
		(unsigned long long)stat.backpressure,
		(unsigned long long)k->deaths, (unsigned long long)k->quotas,
		(unsigned long long)k->refused, (unsigned long long)k->fscks);
	assert_true(stat.demotions && stat.loads && k->found && k->deaths);
	assert_true(k->fscks);
	assert_int_equal(stat.sum_failures, 0);
	assert_int_equal(!k->read_coded, !k->config.coded);
	assert_true(!k->config.coded || k->read_coded < k->loads);
}

static void walk_run_as(uint64_t seed, uint32_t ops, uint32_t nr_domains,
			uint64_t host_bytes, uint32_t nr_segments, bool coded)
{
	static struct walk walk;
	const struct walk_config config = {
		.seed = seed,
		.nr_domains = nr_domains,
		.host_bytes = host_bytes,
		.nr_segments = nr_segments,
		.coded = coded,
	};
	struct syn_mm_config mm_config;
	uint32_t i;

	test_patience(TEST_WATCHDOG_S);
	walk_prepare(&walk, &config, &mm_config);
	world_open_swap(&walk.world, &mm_config, walk.sim);
	walk_begin(&walk);
	for (i = 0; i < ops; i++)
		walk_turn(&walk, i);
	walk_print(&walk);
	if (walk.sim && !coded && nr_domains == 1 && host_bytes == 2 * MIB)
		assert_true(world_tier(&walk.world, SYN_TIER_NVME).out_bytes);
	walk_leave(&walk);
	walk_end(&walk);
}

static void walk_run(uint64_t seed, uint32_t ops, uint32_t nr_domains,
		     uint64_t host_bytes, uint32_t nr_segments)
{
	walk_run_as(seed, ops, nr_domains, host_bytes, nr_segments, false);
}

static void test_walk(void **state)
{
	walk_run(0x9e3779b97f4a7c15, WALK_OPS / 2, 1, 32 * MIB, 0);
}

/* The host tier holds less than the clients want. */
static void test_walk_short(void **state)
{
	walk_run(0x2545f4914f6cdd1d, WALK_OPS / 2, 1, 2 * MIB, 0);
}

/* What it does not hold goes to the swap file. */
static void test_walk_swap(void **state)
{
	walk_run(0xda942042e4dd58b5, WALK_OPS / 2, 1, 2 * MIB, 8);
	walk_run(0x5851f42d4c957f2d, WALK_OPS / 2, 3, 8 * MIB, 8);
}

/* That is short, too. */
static void test_walk_swap_short(void **state)
{
	walk_run(0x853c49e6748fea9b, WALK_OPS / 2, 1, 2 * MIB, 1);
	/* Once wrote the same pages for ever, each into another's slot. */
	walk_run(21368498286009, WALK_OPS / 2, 2, 3 * MIB, 1);
}

/* Domains take extents from each other, while their quotas change. */
static void test_walk_domains(void **state)
{
	walk_run(0xd1342543de82ef95, WALK_OPS, 2, 6 * MIB, 0);
	walk_run(0xaf251af3b0f025b5, WALK_OPS / 2, 3, 8 * MIB, 0);
}

/* Pages change their frames' size, as they are encoded or stay raw. */
static void test_walk_coded(void **state)
{
	walk_run_as(0x14057b7ef767814f, WALK_OPS / 2, 1, 16 * MIB, 0, true);
	walk_run_as(0xc2b2ae3d27d4eb4f, WALK_OPS / 2, 2, 3 * MIB, 8, true);
}

/* Other walks each time, under the setup that asks for it. */
static void test_walk_more(void **state)
{
	uint64_t seed = syn_now_ns() | 1;
	uint32_t i;

	if (!getenv("SYN_TEST_STRESS"))
		skip();
	for (i = 0; i < 40; i++)
		walk_run_as(seed + 2ull * i, WALK_OPS / 2, 1 + i % 3,
			    (2 + i % 4) * MIB, i % 5, i / 5 % 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_walk_short),
		cmocka_unit_test(test_walk_swap),
		cmocka_unit_test(test_walk_swap_short),
		cmocka_unit_test(test_walk_domains),
		cmocka_unit_test(test_walk_coded),
		cmocka_unit_test(test_walk_more),
	};

	return test_main(tests);
}
