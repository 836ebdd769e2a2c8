/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call of a worker that takes over that can fail, until it serves: either
 * nobody notices, or it says why it cannot; then another worker, in an upgrade that
 * of the program before, goes on with every session, page and byte.  And every
 * failpoint of a handshake, and of a request.
 *
 *	test-takeover [--step N] SYNAPSED
 *
 * SYNAPSED asks before each such call, see test/sys/crash-fail.c.  With --step every
 * Nth of them fails, the last one among these.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

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
#define LOCKED_MS  3500u /* a worker waits for 3 s */

/**
 * struct takeover - all of it.
 * @crash:	shared with the workers.
 * @d:		the daemon.
 * @e:		who goes on.
 * @worker_fds:	of a worker, with all that is there ...
 * @keeper_fds:	... and of the keeper.
 * @said:	bytes of the log that were read.
 * @epoch:	of the worker that serves.
 * @swap:	it has a swap file.
 */
static struct takeover {
	struct crash_table *crash;
	struct test_daemon d;
	struct engine e[ENGINES];
	int worker_fds;
	int keeper_fds;
	off_t said;
	uint64_t epoch;
	bool swap;
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

/* Whether the log has had @what since this was last asked. */
static bool log_says(const char *what)
{
	char text[8192];
	ssize_t n = pread(t.d.log_fd, text, sizeof(text) - 1, t.said);

	assert_true(n >= 0);
	text[n] = '\0';
	t.said += n;
	return strstr(text, what);
}

static bool fds_settle(void)
{
	sleep_ms(1);
	return proc_fds(t.d.worker) == t.worker_fds &&
	       proc_fds(t.d.keeper) == t.keeper_fds;
}

/* Who carries it out does not answer any more. */
static void worker_upgrade(void)
{
	static const uint64_t none[4];
	struct syn_msg_ctl_reply reply;

	(void)ctl_order(t.d.socket, SYN_CTL_UPGRADE, none, &reply);
}

static void worker_kill(void)
{
	assert_int_equal(kill(t.d.worker, SIGKILL), 0);
}

/*
 * Another worker takes over, of which the @nth call fails, and then one more.
 * False: it has fewer.
 */
static bool takeover(void (*how)(void), uint64_t nth, uint32_t *ret_refused)
{
	struct syn_ctl_status status;
	pid_t old = t.d.worker;
	bool refused;

	syn_store_relaxed(&t.crash->fails, nth);
	how();
	daemon_wait_worker(&t.d, old);
	ctl_status(t.d.socket, &status);
	if (status.nr_sessions != ENGINES)
		daemon_log_print(&t.d);
	assert_int_equal(status.nr_sessions, ENGINES);
	assert_int_equal(status.sum_failures, 0);
	refused = status.epoch > t.epoch + 1;
	t.epoch = status.epoch;
	/* Whoever could not take over has said so. */
	assert_true(log_says("error: ") || !refused);
	*ret_refused += refused;
	if (t.worker_fds)
		test_wait(fds_settle(), 20);
	(void)ctl_fsck(t.d.socket);
	return !t.crash->spared;
}

/* From the last one down. */
static void takeovers(void (*how)(void), uint64_t calls)
{
	uint32_t refused = 0;
	uint32_t tried = 0;
	uint64_t nth;

	for (nth = calls; (int64_t)nth > 0; nth -= step, tried++)
		assert_true(takeover(how, nth, &refused));
	/* There may be a few more by now. */
	for (; takeover(how, calls + 1, &refused); calls++)
		tried++;
	engines_check();
	print_message("%" PRIu64 " calls can fail: %u tried, %u refused\n",
		      calls, tried, refused);
	assert_true(refused > tried / 2);
}

/* @how another one comes to take over. */
static void takeovers_try(void (*how)(void))
{
	uint32_t refused = 0;
	uint64_t calls;

	test_patience(240);
	engines_open();
	engines_check();
	/* Without a failure: how many can be, and what descriptors there are then. */
	assert_false(takeover(how, MANY, &refused));
	calls = MANY - t.crash->spared;
	engines_check();
	sleep_ms(50);
	t.worker_fds = proc_fds(t.d.worker);
	t.keeper_fds = proc_fds(t.d.keeper);
	takeovers(how, calls);
	engines_close();
	daemon_wait_quiet(&t.d);
}

static void test_upgrade(void **state)
{
	(void)state;
	takeovers_try(worker_upgrade);
}

/* Without a swap file: one that gives errors is not there again the next time. */
static void test_death(void **state)
{
	(void)state;
	takeovers_try(worker_kill);
}

/* ---- handshakes --------------------------------------------------------- */

static bool point_greets(const struct crash_point *point)
{
	return strstr(point->name, " syn_peer_attach_engine") ||
	       strstr(point->name, " syn_peers_publish") ||
	       strstr(point->name, " syn_peers_live");
}

/* Another worker serves, which dies at this failpoint, or one before it has. */
static void worker_arm(uint64_t point)
{
	pid_t old = t.d.worker;

	crash_table_arm(t.crash, point, 1);
	worker_kill();
	daemon_wait_worker(&t.d, old);
}

/* Who was told of its session has it, and nobody else; whether @c was told. */
static bool handshake_try(struct raw_client *c, uint64_t point)
{
	const struct syn_sqe nop = { .op = SYN_OP_NOP };
	struct syn_ctl_status status;
	pid_t old;
	int r;

	worker_arm(point);
	old = t.d.worker;
	r = raw_attach(c, t.d.socket);
	daemon_wait_worker(&t.d, old);
	assert_int_equal(t.crash->armed, CRASH_OFF);
	ctl_status(t.d.socket, &status);
	assert_int_equal(status.nr_sessions, !r);
	if (!r)
		assert_int_equal(raw_ask(c, &nop, NULL, 0, NULL, 0).res, 0);
	return !r;
}

/* A worker dies at each failpoint of a handshake. */
static void test_handshake(void **state)
{
	struct raw_client c;
	uint32_t tried = 0;
	uint32_t told = 0;

	(void)state;
	test_patience(120);
	for (uint64_t i = 0; i < t.crash->nr_points; i++) {
		if (!point_greets(&t.crash->point[i]))
			continue;
		tried++;
		if (handshake_try(&c, i)) {
			told++;
			raw_close(&c);
		}
		daemon_wait_quiet(&t.d);
	}
	print_message(
		"%u deaths in a handshake, %u of clients that were told\n",
		tried, told);
	assert_true(told >= 3 && tried - told >= 3);
}

/* ---- requests ----------------------------------------------------------- */

/* It is answered once, whoever takes it, and has given one page. */
static void request_try(struct raw_client *c)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE,
				 .nr = 1,
				 .object = c->window.window };
	struct syn_sqe release = { .op = SYN_OP_RELEASE, .nr = 1 };
	struct syn_ctl_status status;
	uint64_t page = 0;

	assert_int_equal(raw_ask(c, &lease, NULL, 0, &page, sizeof(page)).res,
			 0);
	assert_true(page != 0);
	ctl_status(t.d.socket, &status);
	assert_int_equal(status.nr_pages, 1);
	assert_int_equal(raw_ask(c, &release, &page, sizeof(page), NULL, 0).res,
			 0);
	assert_int_equal(syn_ring_waiting(&c->cq), 0);
}

/* A worker dies at each failpoint of a request on its way through the server. */
static void test_request(void **state)
{
	struct raw_client c;
	uint64_t deaths;

	(void)state;
	test_patience(240);
	assert_int_equal(raw_attach(&c, t.d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	deaths = t.crash->nr_deaths;
	for (uint64_t i = 0; i < t.crash->nr_points; i++) {
		if (!strstr(t.crash->point[i].name, "request.c"))
			continue;
		worker_arm(i);
		request_try(&c);
		t.crash->armed = CRASH_OFF;
		daemon_wait_worker(&t.d, 0);
		request_try(&c);
	}
	deaths = t.crash->nr_deaths - deaths;
	print_message("%u deaths in a request\n", (unsigned int)deaths);
	assert_true(deaths > 3);
	raw_close(&c);
	daemon_wait_quiet(&t.d);
}

/* ---- the daemon --------------------------------------------------------- */

static char table[32];
static char swap[32];

static struct crash_table *table_new(void)
{
	int fd;

	(void)snprintf(table, sizeof(table), "/tmp/synapse-crash-XXXXXX");
	fd = mkstemp(table);
	assert_true(fd >= 0);
	(void)close(fd);
	return crash_table_new(table);
}

/* False: there can be none here. */
static bool swap_new(void)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int fd;

	(void)snprintf(swap, sizeof(swap), "/tmp/synapse-swap-XXXXXX");
	fd = mkstemp(swap);
	assert_true(fd >= 0);
	(void)close(fd);
	return !syn_swapfile_init(swap, SWAP_BYTES, true, why);
}

static int setup(void **state)
{
	const char *args[] = { "--hbm", "16M", "--host", "24M", NULL };

	(void)state;
	t = (struct takeover){ .crash = table_new(), .epoch = 1 };
	daemon_start(&t.d, args);
	return 0;
}

static int setup_swap(void **state)
{
	const char *args[] = { "--hbm",	      "16M", "--host", "24M",
			       "--nvme-file", swap,  NULL };

	(void)state;
	t = (struct takeover){
		.crash = table_new(),
		.epoch = 1,
		.swap = swap_new(),
	};
	if (!t.swap)
		args[4] = NULL;
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

/* ---- its disk ------------------------------------------------------------ */

/* A disk may be busy with a dead worker's requests for longer than one waits. */
static void test_busy_disk(void **state)
{
	struct syn_ctl_status status;
	int fd;

	(void)state;
	if (!t.swap)
		skip();
	test_patience(120);
	engines_open();
	assert_int_equal(kill(t.d.keeper, SIGSTOP), 0);
	worker_kill();
	fd = open(swap, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	test_wait(flock(fd, LOCK_EX | LOCK_NB) == 0, 20);
	assert_int_equal(kill(t.d.keeper, SIGCONT), 0);
	sleep_ms(LOCKED_MS);
	(void)close(fd);
	daemon_wait_worker(&t.d, t.d.worker);
	ctl_status(t.d.socket, &status);
	assert_int_equal(status.nr_sessions, ENGINES);
	assert_int_equal(status.epoch, 3);
	engines_check();
	engines_close();
	daemon_wait_quiet(&t.d);
}

/* Nobody who takes over has to read what is known; the pages there are good. */
static void test_blind_disk(void **state)
{
	struct syn_ctl_status status;

	(void)state;
	if (!t.swap)
		skip();
	test_patience(120);
	engines_open();
	t.crash->disk.blind = 1;
	for (uint64_t epoch = 2; epoch < 5; epoch++) {
		daemon_kill_worker(&t.d);
		ctl_status(t.d.socket, &status);
		assert_int_equal(status.epoch, epoch);
		assert_int_equal(status.nr_sessions, ENGINES);
		engines_check();
		(void)ctl_fsck(t.d.socket);
		assert_true(log_says("its first block: "));
	}
	engines_close();
	daemon_wait_quiet(&t.d);
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
		cmocka_unit_test_setup_teardown(test_upgrade, setup_swap,
						teardown),
		cmocka_unit_test_setup_teardown(test_death, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handshake, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_busy_disk, setup_swap,
						teardown),
		cmocka_unit_test_setup_teardown(test_blind_disk, setup_swap,
						teardown),
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
