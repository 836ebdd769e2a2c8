/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker is killed: another one imports memory of both tiers again, and an
 * engine with pages in HBM and below goes on.
 */
#include <signal.h>
#include <stdio.h>

#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define SLOTS  32u
#define PAGES  64u /* half of them in host memory */
#define SEED   815u
#define DEATHS 5

static const char *const daemon_args[] = { "--device", "cuda", "--hbm", "4M",
					   "--host",   "16M",  NULL };

/**
 * struct talk - between a test and its engine.
 * @go:		the test: the next round.
 * @done:	the engine: it is done.
 */
struct talk {
	int go[2];
	int done[2];
};

static int say(int fd)
{
	char byte = 1;

	return write(fd, &byte, 1) == 1 ? 0 : -EIO;
}

static int hear(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 1 ? 0 : -EIO;
}

/* Every page after every death, and one more. */
static int engine_rounds(struct engine *e, const struct talk *talk)
{
	int r = 0;

	for (int round = 0; round < DEATHS && !r; round++) {
		r = hear(talk->go[0]);
		for (uint32_t i = 0; i < e->nr && !r; i++)
			r = engine_check(e, i);
		if (!r)
			r = engine_grow(e, 1, SEED);
		if (!r)
			r = say(talk->done[1]);
	}
	return r;
}

static int engine_main(void *arg)
{
	static struct engine e;
	const struct talk *talk = arg;
	int r;

	r = engine_open_on(&e, &gpu_engine_device, daemon_of_test.socket,
			   SLOTS);
	if (!r)
		r = engine_grow(&e, PAGES, SEED);
	if (!r)
		r = say(talk->done[1]);
	if (!r)
		r = engine_rounds(&e, talk);
	if (!r)
		r = engine_release(&e);
	engine_close(&e);
	return r;
}

static void test_engine_goes_on(void **state)
{
	struct talk talk;
	pid_t pid;

	(void)state;
	test_patience(240);
	assert_int_equal(pipe(talk.go), 0);
	assert_int_equal(pipe(talk.done), 0);
	pid = gpu_fork(engine_main, &talk);
	(void)close(talk.done[1]);
	assert_int_equal(hear(talk.done[0]), 0);
	for (int round = 0; round < DEATHS; round++) {
		pid_t old = daemon_of_test.worker;
		uint64_t began_ns = syn_now_ns();

		assert_int_equal(kill(old, SIGKILL), 0);
		daemon_wait_worker(&daemon_of_test, old);
		print_message("another worker after %.0f ms\n",
			      (double)(syn_now_ns() - began_ns) / 1e6);
		assert_int_equal(say(talk.go[1]), 0);
		assert_int_equal(hear(talk.done[0]), 0);
	}
	assert_int_equal(gpu_join(pid), 0);
	(void)close(talk.go[0]);
	(void)close(talk.go[1]);
	(void)close(talk.done[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_engine_goes_on),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
