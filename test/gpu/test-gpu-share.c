/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes on one GPU: they share a sealed prefix, and together have four
 * times the pages that HBM holds.  Every byte is compared.
 */
#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define HBM	    "8M"
#define SLOTS	    60u
#define PREFIX	    256u /* pages of 64 KiB: 16 MiB */
#define OWN	    128u /* of each: 8 MiB, and there are two */
#define ROUNDS	    600u
#define PREFIX_SEED 1000u

static const char *const daemon_args[] = { "--device", "cuda", "--hbm", HBM,
					   "--host",   "64M",  NULL };

/**
 * struct half - one of the two.
 * @seed:	of its own pages.
 * @writes:	it writes the prefix, ...
 * @pipe:	... and says so here.
 */
struct half {
	uint64_t seed;
	bool writes;
	int pipe[2];
};

static int prefix_write(struct engine *e)
{
	int r = engine_grow(e, PREFIX, PREFIX_SEED);

	for (uint32_t i = 0; i < PREFIX && !r; i++)
		r = engine_seal(e, i, i + 1);
	return r ? r : engine_release(e);
}

static int half_work(struct engine *e, struct half *half)
{
	uint64_t seed = half->seed;
	char go = 1;
	int r = 0;

	if (half->writes)
		r = prefix_write(e);
	if (r)
		return r;
	if (half->writes && write(half->pipe[1], &go, 1) != 1)
		return -EIO;
	if (!half->writes && read(half->pipe[0], &go, 1) != 1)
		return -EIO;
	r = engine_grow(e, OWN, half->seed);
	for (uint32_t i = 0; i < ROUNDS && !r; i++) {
		uint64_t which = engine_random(&seed) % (OWN + PREFIX);

		if (which < OWN)
			r = engine_check(e, (uint32_t)which);
		else
			r = engine_find(e, which - OWN + 1,
					PREFIX_SEED + which - OWN);
	}
	return r ? r : engine_release(e);
}

static int half_run(void *arg)
{
	static struct engine e;
	int r = engine_open_on(&e, &gpu_engine_device, daemon_of_test.socket,
			       SLOTS);

	if (r)
		return r;
	r = half_work(&e, arg);
	engine_close(&e);
	return r;
}

static void test_two_share_a_prefix_and_overflow(void **state)
{
	struct half half[2] = { { .seed = 50000, .writes = true },
				{ .seed = 70000 } };
	struct syn_ctl_status status;
	pid_t pid[2];

	(void)state;
	test_patience(120);
	assert_int_equal(pipe(half[0].pipe), 0);
	memcpy(half[1].pipe, half[0].pipe, sizeof(half[0].pipe));
	for (int i = 0; i < 2; i++)
		pid[i] = gpu_fork(half_run, &half[i]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(gpu_join(pid[i]), 0);
	(void)close(half[0].pipe[0]);
	(void)close(half[0].pipe[1]);
	ctl_status(daemon_of_test.socket, &status);
	print_message("%llu pages left HBM by copy, %llu without, %llu loaded, "
		      "%llu found by key, %llu sums failed\n",
		      (unsigned long long)status.demotions,
		      (unsigned long long)status.free_demotions,
		      (unsigned long long)status.loads,
		      (unsigned long long)status.lookup_hits,
		      (unsigned long long)status.sum_failures);
	assert_true(status.demotions >= PREFIX + 2 * OWN - 2 * SLOTS);
	assert_true(status.loads > 0);
	assert_true(status.lookup_hits > 0);
	assert_int_equal(status.sum_failures, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_share_a_prefix_and_overflow),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
