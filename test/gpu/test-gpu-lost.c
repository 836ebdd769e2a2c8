/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper has no descriptor of an extent of HBM any more, or one that the driver
 * did not give: its pages are lost, the GPU is not, and what is in host memory
 * goes on.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define SLOTS 32u /* all of an extent */
#define PAGES 64u /* half of them in host memory */
#define SEED  815u

static const char *const daemon_args[] = { "--device", "cuda", "--hbm", "4M",
					   "--host",   "16M",  NULL };

/**
 * struct talk - between a test and its engine.
 * @d:		the daemon.
 * @go:		the test: the worker has died.
 * @done:	the engine: it has its pages.
 */
struct talk {
	struct test_daemon d;
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

/* Some pages are there and some are lost, for which there is a positive answer. */
static int engine_looks(struct engine *e)
{
	uint32_t lost = 0;
	int r = 0;

	for (uint32_t i = 0; i < e->nr && !r; i++) {
		r = engine_check(e, i);
		lost += r == -EBUSY;
		r = r == -EBUSY ? 0 : r;
	}
	return r || (lost && lost < e->nr) ? r : -ENOMSG;
}

/* It gives its pages back and has others, all of which are there. */
static int engine_begins_anew(struct engine *e)
{
	int r = engine_release(e);

	e->nr = 0;
	if (!r)
		r = engine_grow(e, PAGES, SEED);
	for (uint32_t i = 0; i < e->nr && !r; i++)
		r = engine_check(e, i);
	return r ? r : engine_release(e);
}

static int engine_main(void *arg)
{
	static struct engine e;
	const struct talk *talk = arg;
	int r;

	r = engine_open_on(&e, &gpu_engine_device, talk->d.socket, SLOTS);
	if (!r)
		r = engine_grow(&e, PAGES, SEED);
	if (!r)
		r = say(talk->done[1]);
	if (!r)
		r = hear(talk->go[0]);
	if (!r)
		r = engine_looks(&e);
	if (!r)
		r = engine_begins_anew(&e);
	engine_close(&e);
	return r;
}

/* @fd: what the keeper has instead of the first extent; -1: nothing. */
static void lose(int fd)
{
	struct syn_ctl_status status;
	struct talk talk;
	pid_t old;
	pid_t pid;

	daemon_start(&talk.d, daemon_args);
	assert_int_equal(pipe(talk.go), 0);
	assert_int_equal(pipe(talk.done), 0);
	pid = gpu_fork(engine_main, &talk);
	(void)close(talk.done[1]);
	assert_int_equal(hear(talk.done[0]), 0);
	old = talk.d.worker;
	assert_true(daemon_put_extent(&talk.d, 0, fd));
	assert_int_equal(kill(old, SIGKILL), 0);
	daemon_wait_worker(&talk.d, old);
	ctl_status(talk.d.socket, &status);
	if (status.nr_sessions != 1)
		daemon_log_print(&talk.d);
	assert_int_equal(status.nr_sessions, 1);
	assert_true(status.sum_failures > 0);
	assert_int_equal(say(talk.go[1]), 0);
	assert_int_equal(gpu_join(pid), 0);
	daemon_wait_quiet(&talk.d);
	daemon_stop(&talk.d);
	(void)close(talk.go[0]);
	(void)close(talk.go[1]);
	(void)close(talk.done[0]);
}

static void test_no_descriptor(void **state)
{
	(void)state;
	test_patience(120);
	lose(-1);
}

static void test_other_descriptor(void **state)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	test_patience(120);
	assert_true(fd >= 0);
	lose(fd);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_descriptor),
		cmocka_unit_test(test_other_descriptor),
	};

	if (!gpu_is_there())
		return TEST_SKIP;
	return test_main(tests);
}
