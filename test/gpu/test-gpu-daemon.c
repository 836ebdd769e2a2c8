/* SPDX-License-Identifier: Apache-2.0 */
/* synapsed on a GPU: starts, demotes, holds the GPU's file, comes back. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "kernels/cuda/gpu.h"
#include "test/sys/harness.h"

#define SLOTS 32u /* an extent of 2 MiB */
#define PAGES (3 * SLOTS)
#define BATCH 16u

/* Whether @pid has a descriptor of /dev/nvidiaN. */
static bool holds_gpu(pid_t pid)
{
	char path[320];
	char target[64];
	bool found = false;
	struct dirent *entry;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		unsigned int minor;
		ssize_t len;

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid,
			       entry->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		found |= sscanf(target, "/dev/nvidia%u", &minor) == 1;
	}
	(void)closedir(dir);
	return found;
}

static void lease_and_commit(struct raw_client *c, uint64_t *ret_handles)
{
	const struct syn_sqe lease = { .op = SYN_OP_LEASE,
				       .nr = BATCH,
				       .object = c->window.window };
	const struct syn_sqe commit = { .op = SYN_OP_COMMIT, .nr = BATCH };
	struct syn_vec_commit vec[BATCH] = { 0 };
	struct syn_cqe cqe;

	do
		cqe = raw_ask(c, &lease, NULL, 0, ret_handles,
			      BATCH * sizeof(*ret_handles));
	while (cqe.res == SYN_E_BACKPRESSURE);
	assert_int_equal(cqe.res, 0);
	for (uint32_t i = 0; i < BATCH; i++) {
		vec[i].handle = ret_handles[i];
		vec[i].tokens = TEST_TOKENS;
	}
	assert_int_equal(raw_ask(c, &commit, vec, sizeof(vec), NULL, 0).res, 0);
}

/* Three times what fits: two thirds have gone down by copy engine. */
static void test_pages_go_down(void **state)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];
	uint64_t handles[PAGES];
	struct raw_client c;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	for (uint32_t i = 0; i < PAGES; i += BATCH)
		lease_and_commit(&c, handles + i);
	ctl_tiers(daemon_of_test.socket, tier);
	assert_true(tier[1].used_bytes >=
		    (uint64_t)(PAGES - SLOTS) * TEST_PAGE_BYTES);
	raw_close(&c);
	daemon_wait_quiet(&daemon_of_test);
}

static void test_keeper_holds_the_gpu(void **state)
{
	pid_t old = daemon_of_test.worker;

	(void)state;
	assert_true(holds_gpu(daemon_of_test.keeper));
	assert_int_equal(kill(old, SIGKILL), 0);
	daemon_wait_worker(&daemon_of_test, old);
	assert_true(holds_gpu(daemon_of_test.keeper));
	test_pages_go_down(state);
}

static void test_more_than_it_has(void **state)
{
	char socket[128];
	const char *const args[] = { "--device", "cuda", "--hbm", "60T",
				     "--socket", socket, NULL };
	char log[4096];

	(void)state;
	(void)snprintf(socket, sizeof(socket), "%s/other", daemon_of_test.dir);
	assert_int_equal(daemon_run(args, log, sizeof(log)), 1 << 8);
	assert_non_null(strstr(log, "[hbm] budget: expected no more than the"));
}

/* In a child: this process forks daemons, so it must not call CUDA. */
static bool gpu_is_there(void)
{
	pid_t pid = fork_child();
	struct syn_gpu *gpu;
	int status = 0;

	if (pid == 0)
		_exit(syn_gpu_open(&gpu, NULL) ? 1 : 0);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

int main(void)
{
	static const char *const args[] = { "--device",	   "cuda",   "--hbm",
					    "8M",	   "--host", "64M",
					    "--log-level", "info",   NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_go_down),
		cmocka_unit_test(test_keeper_holds_the_gpu),
		cmocka_unit_test(test_more_than_it_has),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, args);
}
