/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call of a worker that takes over that can fail, the N-th first, until it
 * serves: either nobody notices, or it says why it cannot, and then the program
 * before it goes on with every session, page and byte.
 *
 *	test-takeover [--step N] SYNAPSED
 *
 * SYNAPSED asks before each such call, see test/sys/crash-arm.c.  With --step every
 * Nth of them fails, the last one among these.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/io/swapfile.h"
#include "test/sys/crash.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define ENGINES	   3u
#define SLOTS	   16u
#define PAGES	   40u /* of the first engine, on three tiers; the others' fewer */
#define SEED	   100u
#define MANY	   100000u /* more calls than there are to fail */
#define SWAP_BYTES (16ull << 20)

/**
 * struct takeover - all of it.
 * @crash:	shared with the workers.
 * @d:		the daemon.
 * @e:		who goes on.
 * @worker_fds:	of a worker, with all that is there ...
 * @keeper_fds:	... and of the keeper.
 * @said:	bytes of the log that were read.
 */
static struct takeover {
	struct crash_table *crash;
	struct test_daemon d;
	struct engine e[ENGINES];
	int worker_fds;
	int keeper_fds;
	off_t said;
} t;

static uint64_t step = 1;

static void engines_open(void)
{
	for (uint32_t i = 0; i < ENGINES; i++) {
		assert_int_equal(engine_open(&t.e[i], t.d.socket, SLOTS), 0);
		assert_int_equal(engine_grow(&t.e[i], PAGES >> 2 * i,
					     (uint64_t)SEED << i),
				 0);
	}
	assert_int_equal(engine_seal(&t.e[0], 0, 7), 0);
}

static void engines_check(void)
{
	for (uint32_t i = 0; i < ENGINES; i++)
		for (uint32_t n = 0; n < t.e[i].nr; n++)
			assert_int_equal(engine_check(&t.e[i], n), 0);
	assert_int_equal(engine_find(&t.e[1], 7, SEED), 0);
}

static void engines_close(void)
{
	for (uint32_t i = 0; i < ENGINES; i++) {
		assert_int_equal(engine_release(&t.e[i]), 0);
		engine_close(&t.e[i]);
	}
}

/* Since it was last asked; some line says that a program cannot take over. */
static bool log_refuses(void)
{
	char text[8192];
	ssize_t n = pread(t.d.log_fd, text, sizeof(text) - 1, t.said);

	assert_true(n >= 0);
	text[n] = '\0';
	t.said += n;
	return strstr(text, "cannot take over") != NULL;
}

static bool fds_settle(void)
{
	sleep_ms(1);
	return proc_fds(t.d.worker) == t.worker_fds &&
	       proc_fds(t.d.keeper) == t.keeper_fds;
}

/* One upgrade, of which the @nth call fails.  False: it has fewer. */
static bool upgrade(uint64_t nth, uint32_t *ret_refused)
{
	static const uint64_t none[4];
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;
	pid_t old = t.d.worker;
	bool refused;

	syn_store_relaxed(&t.crash->fails, nth);
	/* Who carries it out does not answer any more. */
	(void)ctl_order(t.d.socket, SYN_CTL_UPGRADE, none, &reply);
	daemon_wait_worker(&t.d, old);
	ctl_status(t.d.socket, &status);
	assert_int_equal(status.nr_sessions, ENGINES);
	assert_int_equal(status.sum_failures, 0);
	refused = log_refuses();
	*ret_refused += refused;
	if (t.worker_fds)
		test_wait(fds_settle(), 20);
	(void)ctl_fsck(t.d.socket);
	return !t.crash->spared;
}

static void test_takeover(void **state)
{
	uint32_t refused = 0;
	uint64_t calls;
	uint64_t nth;
	uint32_t tried = 0;

	(void)state;
	test_patience(240);
	engines_open();
	/* Without a failure: how many can be, and what descriptors there are then. */
	assert_false(upgrade(MANY, &refused));
	assert_int_equal(refused, 0);
	calls = MANY - t.crash->spared;
	engines_check();
	sleep_ms(50);
	t.worker_fds = proc_fds(t.d.worker);
	t.keeper_fds = proc_fds(t.d.keeper);
	for (nth = calls; (int64_t)nth > 0; nth -= step, tried++)
		assert_true(upgrade(nth, &refused));
	/* There may be a few more by now. */
	for (; upgrade(calls + 1, &refused); calls++)
		tried++;
	engines_check();
	engines_close();
	daemon_wait_quiet(&t.d);
	print_message("%" PRIu64 " calls can fail: %u tried, %u refused\n",
		      calls, tried, refused);
	assert_true(refused > tried / 2);
}

/* ---- the daemon --------------------------------------------------------- */

static char table[] = "/tmp/synapse-takeover-XXXXXX";
static char swap[] = "/tmp/synapse-swap-XXXXXX";

static struct crash_table *table_new(void)
{
	int fd = mkstemp(table);
	void *map;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct crash_table)), 0);
	map = mmap(NULL, sizeof(struct crash_table), PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	(void)close(fd);
	assert_int_equal(setenv(CRASH_ENV, table, 1), 0);
	return map;
}

/* False: there can be none here. */
static bool swap_new(void)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int fd = mkstemp(swap);

	assert_true(fd >= 0);
	(void)close(fd);
	return !syn_swapfile_init(swap, SWAP_BYTES, true, why);
}

static int setup(void **state)
{
	const char *args[] = {
		"--hbm", "16M", "--host", "24M", NULL, NULL, NULL
	};

	(void)state;
	t.crash = table_new();
	if (swap_new()) {
		args[4] = "--nvme-file";
		args[5] = swap;
	}
	daemon_start(&t.d, args);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	daemon_stop(&t.d);
	(void)unlink(table);
	(void)unlink(swap);
	return 0;
}

static void usage(void)
{
	(void)fprintf(stderr, "usage: test-takeover [--step N] SYNAPSED\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "step", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_takeover, setup, teardown),
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 's')
			usage();
		step = strtoull(optarg, NULL, 10);
	}
	if (optind != argc - 1 || !step)
		usage();
	daemon_program = argv[optind];
	return test_main(tests);
}
