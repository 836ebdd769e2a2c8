/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers that die at failpoints, one after the other, while clients come, fault,
 * seal, find and go.  No client may notice more than that its handshake ended,
 * and in the end nothing is left, lost or wrong.  First each failpoint once, with
 * a client that comes by most of them; then many, with many.
 *
 *	campaign-crash [--deaths N] [--seed N] [--nvme FILE] SYNAPSED
 *
 * SYNAPSED was built with failpoints, see test/sys/crash-arm.c.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "test/sys/crash.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define CLIENTS	 4u
#define SLOTS	 16u
#define PAGES	 40u
#define CHECKS	 30u
#define PATIENCE 400u /* ms until a worker that does not die is killed */
#define ARGS_MAX 12

#define SWEEP_PASSES 2u

/**
 * struct campaign - all of it.
 * @deaths:	to be reached.
 * @seed:	printed, and given to the workers.
 * @nvme:	swap file, NULL: none.
 * @crash:	shared with the workers.
 * @stop:	clients are to end; shared.
 * @rounds:	sessions that came to their end; shared.
 * @killed:	workers that did not die by themselves.
 */
struct campaign {
	uint64_t deaths;
	uint64_t seed;
	const char *nvme;
	struct crash_table *crash;
	bool *stop;
	uint64_t *rounds;
	uint64_t killed;
	struct test_daemon d;
};

/* ---- clients ------------------------------------------------------------ */

static bool handshake_ended(int error)
{
	return error == -ESHUTDOWN || error == -ECONNRESET || error == -EPIPE;
}

/* One that was under way ends with its worker; a session does not. */
static int client_open(struct engine *e, const char *path)
{
	int r = -ESHUTDOWN;

	for (int i = 0; i < 200 && handshake_ended(r); i++) {
		if (i)
			sleep_ms(5);
		r = engine_attach(e, path);
	}
	return r ? r : engine_begin(e, SLOTS);
}

static int client_work(struct engine *e, uint64_t *seed, uint64_t name)
{
	int r;

	r = engine_grow(e, PAGES, *seed);
	for (uint32_t i = 0; i < CHECKS && !r; i++)
		r = engine_check(e, (uint32_t)(engine_random(seed) % e->nr));
	for (uint32_t i = 0; i < 4 && !r; i++)
		r = engine_seal(e, i, name + i);
	for (uint32_t i = 0; i < 4 && !r; i++)
		r = engine_find(e, name + i, e->seed[i]);
	return r;
}

static int client_round(struct campaign *c, uint64_t *seed, uint64_t name)
{
	struct engine e;
	int r;

	r = client_open(&e, c->d.socket);
	if (r) {
		(void)fprintf(stderr, "no session: %s\n", strerror(-r));
		return r;
	}
	r = client_work(&e, seed, name);
	/* Every other one leaves its pages to the daemon. */
	if (!r && name & 4)
		r = engine_release(&e);
	if (r && e.client)
		(void)fprintf(stderr, "%s: %s\n", strerror(-r),
			      syn_client_reason(e.client));
	engine_close(&e);
	(void)__atomic_add_fetch(c->rounds, 1, __ATOMIC_RELAXED);
	return r;
}

static pid_t client_fork(struct campaign *c, uint32_t i)
{
	uint64_t seed = c->seed + i;
	uint64_t name = (uint64_t)(i + 1) << 32;
	pid_t pid = fork();
	int r = 0;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	while (!syn_load_relaxed(c->stop) && !r) {
		r = client_round(c, &seed, name);
		name += 4;
	}
	_exit(-r);
}

/* ---- deaths ------------------------------------------------------------- */

/* One that waits for a place where nobody comes by dies all the same. */
static void worker_await_death(struct campaign *c, const pid_t *client)
{
	uint64_t before = syn_load_relaxed(&c->crash->nr_deaths);
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;

	for (uint32_t ms = 0; ms < PATIENCE; ms += 5) {
		if (syn_load_relaxed(&c->crash->nr_deaths) != before)
			return;
		sleep_ms(5);
	}
	for (uint32_t i = 0; i < CLIENTS; i++) {
		pid_t gone = waitpid(client[i], NULL, WNOHANG);

		if (gone)
			daemon_log_print(&c->d);
		assert_int_equal(gone, 0);
	}
	if (ctl_ask(c->d.socket, SYN_CTL_STATUS, 0, &status, 1, sizeof(status),
		    &reply) ||
	    kill((pid_t)status.worker_pid, SIGKILL))
		return;
	c->killed++;
}

static void clients_join(const pid_t *client)
{
	for (uint32_t i = 0; i < CLIENTS; i++) {
		int status;

		assert_int_equal(waitpid(client[i], &status, 0), client[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static void report(const struct campaign *c, double seconds)
{
	const struct crash_table *crash = c->crash;
	uint64_t never = 0;

	for (uint64_t i = 0; i < crash->nr_points; i++) {
		if (crash->point[i].nr)
			continue;
		never++;
		print_message("  never: %s\n", crash->point[i].name);
	}
	print_message("seed %" PRIu64 ": %" PRIu64 " deaths at %" PRIu64
		      " of %" PRIu64 " failpoints, %" PRIu64
		      " workers killed besides, %" PRIu64 " sessions, %.0f s\n",
		      c->seed, crash->nr_deaths, crash->nr_points - never,
		      crash->nr_points, c->killed, syn_load_relaxed(c->rounds),
		      seconds);
}

static void campaign_start(struct campaign *c)
{
	const char *args[ARGS_MAX] = { "--hbm", "16M", "--host", "24M" };

	if (c->nvme) {
		args[4] = "--nvme-file";
		args[5] = c->nvme;
	}
	daemon_start(&c->d, args);
}

/* Whoever serves, or is about to. */
static void worker_kill(struct campaign *c)
{
	pid_t old;

	daemon_wait_worker(&c->d, 0);
	old = c->d.worker;
	(void)kill(old, SIGKILL);
	daemon_wait_worker(&c->d, old);
}

/* ---- one after the other ------------------------------------------------ */

static void client_once(struct campaign *c, uint64_t name)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		uint64_t seed = name;

		_exit(-client_round(c, &seed, name));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* True if a worker died there. */
static bool point_try(struct campaign *c, uint64_t point, uint64_t nth)
{
	uint64_t before = c->crash->point[point].nr;

	c->crash->nth = nth;
	c->crash->chosen = point + 1;
	worker_kill(c);
	client_once(c, (point * SWEEP_PASSES + nth) << 3 | 4);
	c->crash->chosen = 0;
	/* What the last client gave back may still be settled. */
	daemon_wait_worker(&c->d, 0);
	(void)ctl_fsck(c->d.socket);
	return c->crash->point[point].nr > before;
}

/* Every point that a client and its end come by, in every pass. */
static void sweep_run(struct campaign *c)
{
	struct engine e;
	uint64_t died = 0;

	campaign_start(c);
	assert_int_equal(engine_open(&e, c->d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, 1), 0);
	for (uint64_t i = 0; i < c->crash->nr_points; i++) {
		test_patience(120);
		for (uint64_t nth = 1; nth <= SWEEP_PASSES; nth++)
			died += point_try(c, i, nth);
	}
	worker_kill(c);
	for (uint32_t i = 0; i < e.nr; i++)
		assert_int_equal(engine_check(&e, i), 0);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(&c->d);
	print_message("%" PRIu64 " deaths, %u passes of %" PRIu64
		      " failpoints\n",
		      died, SWEEP_PASSES, c->crash->nr_points);
	assert_true(died > c->crash->nr_points / 2);
	daemon_stop(&c->d);
}

/* ---- many --------------------------------------------------------------- */

static void campaign_run(struct campaign *c)
{
	uint64_t began_ns = syn_now_ns();
	pid_t client[CLIENTS];
	uint64_t last = 0;

	campaign_start(c);
	for (uint32_t i = 0; i < CLIENTS; i++)
		client[i] = client_fork(c, i);
	/* The first worker was not armed. */
	syn_store_relaxed(&c->crash->armed, 1u);
	while (syn_load_relaxed(&c->crash->nr_deaths) + c->killed < c->deaths) {
		worker_await_death(c, client);
		if (syn_load_relaxed(c->rounds) > last) {
			last = syn_load_relaxed(c->rounds);
			test_patience(120);
		}
	}
	syn_store_relaxed(&c->crash->armed, 0u);
	worker_kill(c);
	syn_store_relaxed(c->stop, true);
	clients_join(client);
	daemon_wait_quiet(&c->d);
	report(c, (double)(syn_now_ns() - began_ns) / 1e9);
	daemon_stop(&c->d);
}

/* ---- start -------------------------------------------------------------- */

static void *shared_new(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static struct crash_table *crash_new(char *path)
{
	int fd = mkstemp(path);
	void *map;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct crash_table)), 0);
	map = mmap(NULL, sizeof(struct crash_table), PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	(void)close(fd);
	assert_int_equal(setenv(CRASH_ENV, path, 1), 0);
	return map;
}

static struct campaign campaign;

static int setup(void **state)
{
	static char path[32];

	(void)snprintf(path, sizeof(path), "/tmp/synapse-crash-XXXXXX");
	*state = path;
	campaign.stop = shared_new(sizeof(*campaign.stop));
	campaign.rounds = shared_new(sizeof(*campaign.rounds));
	campaign.crash = crash_new(path);
	campaign.crash->seed = campaign.seed;
	return 0;
}

static int teardown(void **state)
{
	(void)unlink(*state);
	return 0;
}

static void test_each_failpoint(void **state)
{
	(void)state;
	sweep_run(&campaign);
}

static void test_many_failpoints(void **state)
{
	(void)state;
	test_patience(120);
	campaign_run(&campaign);
	assert_true(*campaign.rounds > 0);
	assert_true(campaign.crash->nr_deaths > 0);
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: campaign-crash [--deaths N] [--seed N] "
			      "[--nvme FILE] SYNAPSED\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "deaths", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 's' },
		{ "nvme", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_failpoint, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_many_failpoints, setup,
						teardown),
	};
	int option;

	campaign.deaths = 150;
	campaign.seed = syn_now_ns();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'd')
			campaign.deaths = strtoull(optarg, NULL, 10);
		else if (option == 's')
			campaign.seed = strtoull(optarg, NULL, 10);
		else if (option == 'n')
			campaign.nvme = optarg;
		else
			return usage();
	}
	if (optind != argc - 1)
		return usage();
	daemon_program = argv[optind];
	return test_main(tests);
}
