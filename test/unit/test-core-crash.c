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
#define CRASHES_WALK  400u /* of one walk */
#define CRASH_NTH     10u /* failpoints passed before one kills: 2^10 at most */
#define CRASH_PATIENT 100u /* turns until another one is waited for */
#define CRASH_CHOICE  6u
#define CRASH_ADOPT   12u /* as CRASH_NTH, in an adoption */
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

/*
 * Of a few that were passed, the one that killed least: the rarest of all would
 * be waited for in vain most of the time.
 */
static const struct syn_failpoint *point_rare(void)
{
	size_t nr = (size_t)(__stop_syn_failpoints - __start_syn_failpoints);
	const struct syn_failpoint *best = NULL;
	uint32_t i;

	for (i = 0; i < CRASH_CHOICE; i++) {
		const struct syn_failpoint *point =
			&__start_syn_failpoints[walk_random(&walk,
							    (uint32_t)nr)];

		if (point->passed && (!best || point->nr < best->nr))
			best = point;
	}
	return best;
}

/* Soon mostly, and sometimes late. */
static void arm_any(uint32_t log2)
{
	crash_arm(NULL,
		  1 + walk_random(&walk, 1u << walk_random(&walk, log2 + 1)));
}

static void arm_next(void)
{
	armed_at = crash_count.deaths;
	if (walk_random(&walk, 2))
		crash_arm(point_rare(), 1 + walk_random(&walk, 3));
	else
		arm_any(CRASH_NTH);
}

/* Some die, too. */
static void adopting(struct world *w)
{
	uint32_t how = walk_random(&walk, 8);

	if (how < 2)
		crash_arm(point_rare(), 1);
	else if (how == 2)
		arm_any(CRASH_ADOPT);
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
			arm_any(CRASH_NTH);
		walk_turn(&walk, n);
	}
}

static void walk_crash(const struct walk_config *config, uint64_t crashes)
{
	struct syn_mm_config mm_config;

	test_patience(TEST_WATCHDOG_S);
	walk_prepare(&walk, config, &mm_config);
	crash_world_open(&walk.world, &mm_config, walk.sim, config->seed);
	crash_adopting = adopting;
	crash_adopted = adopted;
	arm_next();
	walk_begin(&walk);
	walk_turns(crashes);
	walk_leave(&walk);
	crash_arm(NULL, 0);
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
	{ .nr_domains = 1,
	  .host_bytes = 2 * MIB,
	  .nr_segments = 4,
	  .lossy = true },
	{ .nr_domains = 2,
	  .host_bytes = 4 * MIB,
	  .nr_segments = 4,
	  .coded = true,
	  .lossy = true },
};

static void print_counts(void)
{
	const struct syn_failpoint *p;

	for (p = __start_syn_failpoints; p < __stop_syn_failpoints; p++)
		print_message("%8llu %s:%d %s\n", (unsigned long long)p->nr,
			      p->file, p->line, p->func);
#define PRINT(what)                                                            \
	print_message("%12llu %s\n", (unsigned long long)crash_count.what,     \
		      #what)
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
		config.mortal = true;
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
