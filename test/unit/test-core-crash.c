/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk of core-random with a worker that dies: at every failpoint, also while
 * it adopts, with pins, loans, copies, requests to the swap file and seals under
 * way.  Clients notice nothing.
 *
 * SYN_TEST_CRASHES says how many deaths, SYN_TEST_SEED where it begins.
 */
#include "test/unit/core-crash.h"
#include "test/unit/core-walk.h"

#include "core/base/base.h"

#define CRASHES	      4000u
#define CRASHES_WALK  1000u /* of one walk */
#define CRASH_NTH     1500u /* failpoints passed before one kills, at most */
#define CRASH_PATIENT 400u  /* turns until another one is waited for */
#define CRASH_SEED    0x2545f4914f6cdd1dull

static struct walk walk;
static uint64_t armed_at; /* the number of deaths then */

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t nr_crashes(void)
{
	return env_number("SYN_TEST_CRASHES", CRASHES);
}

/* One of those that killed least, from a place in the table on. */
static const struct syn_failpoint *point_rarest(void)
{
	size_t nr = (size_t)(__stop_syn_failpoints - __start_syn_failpoints);
	size_t first = walk_random(&walk, (uint32_t)nr);
	const struct syn_failpoint *best = &__start_syn_failpoints[first];
	size_t i;

	for (i = 0; i < nr; i++) {
		const struct syn_failpoint *point =
			&__start_syn_failpoints[(first + i) % nr];

		if (point->nr < best->nr)
			best = point;
	}
	return best;
}

static void arm_any(void)
{
	crash_arm(NULL, 1 + walk_random(&walk, CRASH_NTH));
}

static void arm_next(void)
{
	armed_at = crash_count.deaths;
	if (walk_random(&walk, 2))
		crash_arm(point_rarest(), 1 + walk_random(&walk, 3));
	else
		arm_any();
}

static void adopted(struct world *w)
{
	/* It was the old worker's. */
	walk.fsck = NULL;
	arm_next();
}

static void walk_turns(uint64_t crashes)
{
	uint64_t until = crash_count.deaths + crashes;
	uint32_t since = 0;
	uint32_t n;

	arm_next();
	for (n = 0; crash_count.deaths < until; n++) {
		since = armed_at == crash_count.deaths ? since + 1 : 0;
		if (since && since % CRASH_PATIENT == 0)
			arm_any();
		walk_turn(&walk, n);
	}
	crash_arm(NULL, 0);
}

static void walk_crash(const struct walk_config *config, uint64_t crashes)
{
	struct syn_mm_config mm_config;

	test_patience(TEST_WATCHDOG_S);
	walk_prepare(&walk, config, &mm_config);
	crash_world_open(&walk.world, &mm_config, walk.sim, config->seed);
	walk_begin(&walk);
	crash_adopted = adopted;
	crash_again_permille = 200;
	walk_turns(crashes);
	assert_int_equal(world_stat(&walk.world).sum_failures, 0);
	walk_end(&walk);
	crash_world_close(&walk.world);
}

/* Short of HBM, of host memory, of slots; with and without codes and quotas. */
static const struct walk_config configs[] = {
	{ .nr_domains = 1, .host_bytes = 2 * MIB },
	{ .nr_domains = 1, .host_bytes = 2 * MIB, .nr_segments = 8 },
	{ .nr_domains = 2, .host_bytes = 3 * MIB, .nr_segments = 1 },
	{ .nr_domains = 1, .host_bytes = 16 * MIB, .coded = true },
	{ .nr_domains = 2,
	  .host_bytes = 3 * MIB,
	  .nr_segments = 8,
	  .coded = true },
};

static void print_counts(void)
{
	const struct syn_failpoint *p;

	for (p = __start_syn_failpoints; p < __stop_syn_failpoints; p++)
		print_message("%8llu %s:%d %s\n", (unsigned long long)p->nr,
			      p->file, p->line, p->func);
#define PRINT(what)                                                            \
	print_message("%12llu %s\n", (unsigned long long)crash_count.what, #what)
	PRINT(deaths);
	PRINT(adopting);
	PRINT(again);
	PRINT(answered);
	PRINT(pins);
	PRINT(loans);
	PRINT(moves);
	PRINT(copies);
	PRINT(swaps);
	PRINT(seals);
	PRINT(quarantined);
	PRINT(redos);
	PRINT(gone);
#undef PRINT
}

static void test_walk_crashes(void **state)
{
	uint64_t seed = env_number("SYN_TEST_SEED", CRASH_SEED) | 1;
	uint32_t n;

	for (n = 0; crash_count.deaths < nr_crashes(); n++) {
		struct walk_config config =
			configs[n % syn_array_size(configs)];

		config.seed = seed;
		print_message("walk %u, seed %llu\n", n,
			      (unsigned long long)seed);
		walk_crash(&config, CRASHES_WALK);
		seed += 2;
	}
	print_counts();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk_crashes),
	};

	return test_main(tests);
}
