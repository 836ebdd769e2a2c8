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
#define CRASHES_MORE  10u  /* times as many, until every failpoint killed */
#define CRASHES_WALK  400u /* of one walk */
#define CRASH_NTH     10u /* failpoints passed before one kills: 2^10 at most */
#define CRASH_ADOPT   11u /* the same in an adoption */
#define CRASH_PATIENT 300u /* turns until another one is waited for */
#define CRASH_CHOICE  6u /* failpoints of which the one that killed least ... */
#define CRASH_TRIES   8u /* ... is tried so often */
#define CRASH_LOSES   12u /* one of so many extents */
#define CRASH_SEED    0x2545f4914f6cdd1dull
#define VISITORS      4u

static struct walk walk;
static uint64_t armed_at; /* the number of deaths then */
static const struct syn_failpoint *target;
static uint64_t target_nr;
static uint32_t target_tries;

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t nr_crashes(void)
{
	return env_number("SYN_TEST_CRASHES", CRASHES);
}

static size_t nr_points(void)
{
	return (size_t)(__stop_syn_failpoints - __start_syn_failpoints);
}

/* Of a few the one that killed least. */
static const struct syn_failpoint *point_rare(void)
{
	const struct syn_failpoint *best = NULL;
	uint32_t i;

	for (i = 0; i < CRASH_CHOICE; i++) {
		uint32_t n = walk_random(&walk, (uint32_t)nr_points());
		const struct syn_failpoint *point = &__start_syn_failpoints[n];

		if (!best || point->nr < best->nr)
			best = point;
	}
	return best;
}

/* Of those of one file, or one function. */
static const struct syn_failpoint *point_least_of(const char *where)
{
	const struct syn_failpoint *best = NULL;
	size_t i;

	for (i = 0; i < nr_points(); i++) {
		const struct syn_failpoint *point = &__start_syn_failpoints[i];

		if ((strstr(point->file, where) ||
		     strstr(point->func, where)) &&
		    (!best || point->nr < best->nr ||
		     (point->nr == best->nr && walk_random(&walk, 2))))
			best = point;
	}
	return best;
}

static uint64_t point_least(void)
{
	return point_least_of("")->nr;
}

static void target_choose(void)
{
	if (target && target->nr == target_nr && target_tries++ < CRASH_TRIES)
		return;
	target = walk_random(&walk, 2) ? point_rare() : point_least_of("");
	target_nr = target->nr;
	target_tries = 0;
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
	target_choose();
	if (walk_random(&walk, 2))
		crash_arm(target, 1 + walk_random(&walk, 3));
	else
		arm_any(CRASH_NTH);
}

static bool tells(const struct world *w)
{
	uint32_t i;

	for (i = 0; i < w->config.max_sessions; i++)
		if (w->mm->rec_session[i].telling)
			return true;
	return false;
}

/* Some die, too: two deaths meet, so that the places are chosen well. */
static void adopting(struct world *w)
{
	static const char *const rare[] = { "core/adopt.c", "syn_move_redo",
					    "entry_adopt", "swap_wipe" };
	uint32_t how = walk_random(&walk, 9);

	if (walk.config.lossy && w->mm && tells(w))
		crash_arm(point_least_of("extent_tell_again"), 1);
	else if (how < 2)
		crash_arm(target, 1);
	else if (how < 6)
		crash_arm(point_least_of(rare[how - 2]), 1);
	else if (how == 6)
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

/* Their domains begin and end with them. */
static void walk_visitors(void)
{
	struct client c;
	uint32_t i;

	for (i = 0; i < VISITORS; i++) {
		crash_arm(point_least_of("core/domain.c"), 1);
		client_open(&c, &walk.world, 100 + i);
		client_close(&c);
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
	crash_arm(point_least_of("core/space.c"), 1);
	walk_begin(&walk);
	crash_lose_some(config->lossy ? CRASH_LOSES : 0);
	walk_turns(crashes);
	crash_lose_some(0);
	walk_leave(&walk);
	walk_visitors();
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
	PRINT(lost);
	PRINT(astray);
#undef PRINT
}

/* All of it was under way at some death, and each failpoint killed. */
static void check_counts(void)
{
	const uint64_t *count = (const uint64_t *)&crash_count;
	size_t i;

	for (i = 0; i < sizeof(crash_count) / sizeof(*count); i++)
		assert_true(count[i] > 0);
	assert_true(point_least() > 0);
}

static bool walks_enough(void)
{
	uint64_t nr = nr_crashes();

	return crash_count.deaths >= nr &&
	       (point_least() || crash_count.deaths >= CRASHES_MORE * nr);
}

static void test_walk_crashes(void **state)
{
	uint64_t seed = env_number("SYN_TEST_SEED", CRASH_SEED) | 1;
	uint32_t n;

	for (n = (uint32_t)env_number("SYN_TEST_WALK", 0); !walks_enough();
	     n += (uint32_t)env_number("SYN_TEST_STEP", 1)) {
		struct walk_config config =
			configs[n % syn_array_size(configs)];

		config.seed = seed + 2ull * n;
		config.mortal = true;
		print_message("walk %u, seed %llu, %llu deaths\n", n,
			      (unsigned long long)config.seed,
			      (unsigned long long)crash_count.deaths);
		walk_crash(&config, CRASHES_WALK);
	}
	print_counts();
	check_counts();
}

/* ---- the beginning ------------------------------------------------------ */

#define FOUND 8u /* pages in the swap file */

static uint32_t begin_world(struct world *w, struct client *c,
			    struct syn_simdisk *sim, uint32_t nth)
{
	struct syn_mm_config config = {
		.hbm_bytes = 16 * MIB,
		.host_bytes = 16 * MIB,
		.max_pages = 128,
		.max_sessions = 4,
		.codec = SYN_CODEC_RAW16,
	};

	crash_adopting = NULL;
	crash_adopted = NULL;
	crash_arm(NULL, nth);
	crash_world_open(w, &config, sim, 1);
	crash_arm(NULL, 0);
	client_open(c, w, 1);
	return client_window(c, world_space(w, 128, 1, 256), 16);
}

/* The swap file stays. */
static void begin_end(struct world *w, struct client *c)
{
	client_close(c);
	world_settle(w);
	assert_null(syn_mm_free(w->mm));
	w->disk->ops->close(w->disk);
	free(w->kept);
	crash_world_close(w);
}

static void begin_check(struct client *c, uint32_t window)
{
	uint64_t found;
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < FOUND; i++) {
		assert_int_equal(client_lookup(c, window, i + 1, &found, &miss),
				 1);
		assert_int_equal(client_check(c, found, i), 0);
	}
}

/* A worker that dies while it reads the swap file has kept nothing yet. */
static void deaths_at_the_beginning(void)
{
	struct syn_simdisk *sim;
	struct world w;
	struct client c;
	uint64_t deaths;
	uint32_t window;
	uint32_t nth = 0;
	uint32_t i;

	assert_int_equal(syn_simdisk_new(&sim, 2 * MIB, 4, 1), 0);
	window = begin_world(&w, &c, sim, 0);
	for (i = 0; i < FOUND; i++)
		assert_int_equal(
			client_persist(&c, client_sealed(&c, window, i, i + 1)),
			0);
	begin_end(&w, &c);
	do {
		deaths = crash_count.deaths;
		window = begin_world(&w, &c, sim, ++nth);
		begin_check(&c, window);
		begin_end(&w, &c);
	} while (crash_count.deaths > deaths);
	assert_true(nth > FOUND);
	assert_null(syn_simdisk_free(sim));
}

static void test_deaths_at_the_beginning(void **state)
{
	uint64_t n;

	for (n = 0; n < nr_crashes(); n += CRASHES)
		deaths_at_the_beginning();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deaths_at_the_beginning),
		cmocka_unit_test(test_walk_crashes),
	};

	return test_main(tests);
}
