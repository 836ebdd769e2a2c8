/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills clients while their kernels write over leased frames, again and again,
 * and looks at what is left: everything back within a second of the process's
 * end, no write into a frame that somebody else has leased since, and as much
 * free memory on the GPU as before.
 *
 * campaign-gpu-kill [--kills N] [--limit-ms N]
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define AT_ONCE	     4u
#define SLOTS	     16u
#define CANARY_SLOTS 48u
#define SCRIBBLED    8u
#define SCRIBBLE     0xdeadbeefu
#define LOOK_US	     5000u
/* Contexts of the driver come and go in pieces. */
#define MEMORY_SLACK (64ull << 20)

static const char *const daemon_args[] = { "--device", "cuda", "--hbm", "8M",
					   "--host",   "16M",  NULL };

/**
 * struct shared - what children and parent tell each other.
 * @going:	by victim: its kernels write.
 * @canary:	the canary has made its first round.
 * @stop:	the canary shall end.
 * @rounds:	of the canary.
 * @free_before: bytes of the GPU before the first victim, ...
 * @free_after:	... and after the last.
 */
static struct shared {
	uint32_t going[AT_ONCE];
	uint32_t canary;
	uint32_t stop;
	uint32_t rounds;
	uint64_t free_before;
	uint64_t free_after;
} * shared;

static int victim(void *arg)
{
	static struct engine e;
	uint32_t *going = arg;
	void *addr[SCRIBBLED];
	int r;

	r = engine_open_on(&e, &gpu_engine_device, daemon_of_test.socket,
			   SLOTS);
	if (!r)
		r = engine_grow(&e, SLOTS, (uint64_t)getpid());
	if (!r)
		r = syn_load(e.client, e.page, SCRIBBLED, SYN_FOREVER, addr);
	for (uint32_t i = 0; i < SCRIBBLED && !r; i++)
		r = gpu_scribble(addr[i], e.space.page_bytes, SCRIBBLE);
	syn_store_release(going, 1);
	while (!r)
		(void)pause();
	return r;
}

/* Frames that come free are leased here, filled, and looked at for a while. */
static int canary_round(struct engine *e, uint64_t seed)
{
	int r = engine_grow(e, CANARY_SLOTS, seed);

	for (int look = 0; look < 2 && !r; look++) {
		(void)usleep(LOOK_US);
		for (uint32_t i = 0; i < CANARY_SLOTS && !r; i++)
			r = engine_check(e, i);
	}
	return r ? r : engine_release(e);
}

static int canary(void *arg)
{
	static struct engine e;
	int r;

	(void)arg;
	r = engine_open_on(&e, &gpu_engine_device, daemon_of_test.socket,
			   CANARY_SLOTS);
	while (!r && !syn_load_acquire(&shared->stop)) {
		r = canary_round(&e, shared->rounds * 1000003ull);
		shared->rounds++;
		if (!shared->free_before)
			shared->free_before = gpu_free_bytes();
		syn_store_release(&shared->canary, 1);
	}
	shared->free_after = gpu_free_bytes();
	engine_close(&e);
	return r;
}

/* Only the canary's session is left, and no frame waits for anybody. */
static bool is_quiet(void)
{
	struct syn_ctl_status status;

	ctl_status(daemon_of_test.socket, &status);
	return status.nr_sessions == 1 && !status.nr_quarantined;
}

static uint64_t kill_all(const pid_t *pid)
{
	struct pollfd fd[AT_ONCE];
	uint64_t began_ns;

	for (uint32_t i = 0; i < AT_ONCE; i++) {
		fd[i] = (struct pollfd){
			.fd = (int)syscall(SYS_pidfd_open, pid[i], 0),
			.events = POLLIN,
		};
		assert_true(fd[i].fd >= 0);
		assert_int_equal(kill(pid[i], SIGKILL), 0);
	}
	for (uint32_t i = 0; i < AT_ONCE; i++)
		while (poll(&fd[i], 1, -1) != 1)
			;
	began_ns = syn_now_ns();
	while (!is_quiet())
		(void)usleep(200);
	began_ns = syn_now_ns() - began_ns;
	(void)ctl_fsck(daemon_of_test.socket);
	for (uint32_t i = 0; i < AT_ONCE; i++) {
		assert_int_equal(gpu_join(pid[i]), -EINTR);
		(void)close(fd[i].fd);
	}
	return began_ns;
}

/* Four at once; returns how long the last of what they had took to come back. */
static uint64_t kill_round(void)
{
	pid_t pid[AT_ONCE];

	for (uint32_t i = 0; i < AT_ONCE; i++) {
		shared->going[i] = 0;
		pid[i] = gpu_fork(victim, &shared->going[i]);
	}
	for (uint32_t i = 0; i < AT_ONCE; i++)
		test_wait(syn_load_acquire(&shared->going[i]), 60);
	return kill_all(pid);
}

static uint64_t campaign(unsigned int kills)
{
	uint64_t slowest_ns = 0;
	pid_t pid = gpu_fork(canary, NULL);

	test_wait(syn_load_acquire(&shared->canary), 60);
	for (unsigned int i = 0; i < kills; i += AT_ONCE)
		slowest_ns = syn_max(slowest_ns, kill_round());
	syn_store_release(&shared->stop, 1);
	assert_int_equal(gpu_join(pid), 0);
	return slowest_ns;
}

static bool arguments_read(int argc, char **argv, unsigned int *kills,
			   unsigned int *limit_ms)
{
	static const struct option options[] = {
		{ "kills", required_argument, NULL, 'k' },
		{ "limit-ms", required_argument, NULL, 'l' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c != 'k' && c != 'l')
			return false;
		*(c == 'k' ? kills : limit_ms) = (unsigned int)atoi(optarg);
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	unsigned int kills = 20;
	unsigned int limit_ms = 0;
	uint64_t slowest_ns;
	bool good;

	if (!arguments_read(argc, argv, &kills, &limit_ms)) {
		(void)fputs("usage: campaign-gpu-kill [--kills N] "
			    "[--limit-ms N]\n",
			    stderr);
		return 2;
	}
	test_patience(60 + 4 * kills);
	if (!gpu_is_there())
		return TEST_SKIP;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	daemon_start(&daemon_of_test, daemon_args);
	slowest_ns = campaign(kills);
	good = shared->free_after + MEMORY_SLACK >= shared->free_before &&
	       (!limit_ms || slowest_ns <= limit_ms * 1000000ull);
	(void)printf(
		"%u clients killed while their kernels wrote, %u rounds of "
		"the canary\n"
		"all of theirs back at most %.2f ms after the last had "
		"exited\n"
		"free on the GPU before %.1f MiB, after %.1f MiB\n%s\n",
		kills, shared->rounds, (double)slowest_ns / 1e6,
		(double)shared->free_before / 1048576,
		(double)shared->free_after / 1048576, good ? "ok" : "BAD");
	daemon_stop(&daemon_of_test);
	return good ? 0 : 1;
}
