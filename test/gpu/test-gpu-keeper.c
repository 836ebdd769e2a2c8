/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker is killed: memory of both tiers stays behind the descriptors that
 * the keeper holds, and a process that comes later imports it and finds every
 * byte.  (How a worker goes on from there is test-gpu-adopt.c's matter.)
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define SLOTS	     32u
#define PAGES	     64u /* half of them in host memory */
#define SEED	     4711u
#define EXTENT_BYTES (2ull << 20)

static const char *const daemon_args[] = { "--device", "cuda", "--hbm", "4M",
					   "--host",   "16M",  NULL };

/* One client writes pages, says so, and stays until it is killed. */
static int writer(void *arg)
{
	static struct engine e;
	const int *say = arg;
	char go = 1;
	int r;

	r = engine_open_on(&e, &gpu_engine_device, daemon_of_test.socket,
			   SLOTS);
	if (!r)
		r = engine_grow(&e, PAGES, SEED);
	if (!r && write(*say, &go, 1) != 1)
		r = -EIO;
	while (!r)
		(void)pause();
	return r;
}

/* Which of the pages is at @at; PAGES: none. */
static uint32_t page_at(const void *at)
{
	for (uint32_t i = 0; i < PAGES; i++)
		if (page_matches(at, TEST_PAGE_BYTES, SEED + i))
			return i;
	return PAGES;
}

static void extent_search(const unsigned char *bytes, uint64_t nr, bool *found)
{
	for (uint64_t at = 0; at + TEST_PAGE_BYTES <= nr; at += TEST_PAGE_BYTES)
		found[page_at(bytes + at)] = true;
}

/* As HBM or as host memory, whichever it is. */
static int extent_read(int fd, uint32_t tier, uint64_t bytes, bool *found)
{
	const struct syn_cuda_api *api = gpu_api();
	struct syn_gpu_mem mem;
	unsigned char *copy;
	int r;

	r = syn_gpu_mem_import(gpu_of_test(), tier, fd, bytes, &mem);
	if (r)
		return r;
	r = syn_gpu_mem_map(gpu_of_test(), &mem, 0);
	if (!r) {
		copy = malloc(bytes);
		r = syn_cuda_errno(api,
				   api->cuMemcpyAsync((uintptr_t)copy, mem.at,
						      bytes, gpu_stream()),
				   "cuMemcpyAsync");
		if (!r)
			r = syn_cuda_errno(
				api, api->cuStreamSynchronize(gpu_stream()),
				"cuStreamSynchronize");
		if (!r)
			extent_search(copy, bytes, found);
		free(copy);
	}
	syn_gpu_mem_free(gpu_of_test(), &mem);
	return r;
}

/* All that the stopped keeper holds and the driver knows. */
static int reader(void *arg)
{
	bool found[PAGES + 1] = { false };
	int keeper = (int)syscall(SYS_pidfd_open, daemon_of_test.keeper, 0);
	unsigned int imported = 0;

	(void)arg;
	for (int i = 0; i < 256; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, keeper, i, 0);

		if (fd < 0)
			continue;
		if (!extent_read(fd, SYN_TIER_HBM, EXTENT_BYTES, found) ||
		    !extent_read(fd, SYN_TIER_HOST, EXTENT_BYTES, found))
			imported++;
		(void)close(fd);
	}
	(void)printf("%u extents imported\n", imported);
	for (uint32_t i = 0; i < PAGES; i++)
		if (!found[i])
			return -ENOENT;
	return 0;
}

static void test_memory_outlives_the_worker(void **state)
{
	int say[2];
	pid_t pid;
	char go;

	(void)state;
	test_patience(120);
	assert_int_equal(pipe(say), 0);
	pid = gpu_fork(writer, &say[1]);
	assert_int_equal(read(say[0], &go, 1), 1);
	/* The next worker would free what nobody leases any more. */
	assert_int_equal(kill(daemon_of_test.keeper, SIGSTOP), 0);
	assert_int_equal(kill(daemon_of_test.worker, SIGKILL), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(gpu_join(pid), -EINTR);
	assert_int_equal(gpu_join(gpu_fork(reader, NULL)), 0);
	assert_int_equal(kill(daemon_of_test.keeper, SIGCONT), 0);
	daemon_wait_worker(&daemon_of_test, daemon_of_test.worker);
	(void)close(say[0]);
	(void)close(say[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_outlives_the_worker),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
