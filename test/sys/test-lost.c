/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper has no descriptor of an extent any more when a worker dies. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"
#include "tools/synapsed/keep-process.h"

#define SLOTS 16u /* an extent's */
#define PAGES (2 * SLOTS)
#define SEED  100u

static const char *const daemon_args[] = { "--hbm", "16M", "--host", "32M",
					   NULL };

/* The end of its socket that the worker has: the last word of its arguments. */
static int worker_sock(const struct test_daemon *d)
{
	char path[64];
	char text[256];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)d->worker);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 1);
	(void)close(fd);
	text[n] = '\0';
	while (n > 1 && text[n - 2])
		n--;
	return atoi(&text[n - 1]);
}

/* What the keeper is told in the worker's name; false: we may not. */
static bool keeper_drops(const struct test_daemon *d, uint32_t extent)
{
	struct syn_keep_msg drop = {
		.msg = { .type = SYN_KEEP_DROP, .size = sizeof(drop) },
		.kind = SYN_KEEP_EXTENT,
		.id = extent,
	};
	int before = proc_fds(d->keeper);
	int pid_fd = (int)syscall(SYS_pidfd_open, d->worker, 0);
	int sock;

	assert_true(pid_fd >= 0);
	sock = (int)syscall(SYS_pidfd_getfd, pid_fd, worker_sock(d), 0);
	(void)close(pid_fd);
	if (sock < 0)
		return false;
	assert_int_equal(syn_conn_send(sock, &drop.msg, NULL, 0), 0);
	(void)close(sock);
	test_wait(proc_fds(d->keeper) == before - 1, 20);
	return true;
}

static void worker_kill(struct test_daemon *d)
{
	pid_t old = d->worker;

	assert_int_equal(kill(old, SIGKILL), 0);
	daemon_wait_worker(d, old);
	(void)ctl_fsck(d->socket);
}

static uint64_t hbm_bytes(const struct test_daemon *d)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];

	ctl_tiers(d->socket, tier);
	return tier[0].extent_bytes;
}

static uint32_t count_lost(struct engine *e)
{
	uint32_t lost = 0;

	for (uint32_t i = 0; i < e->nr; i++) {
		void *addr;

		if (!engine_check(e, i))
			continue;
		assert_int_equal(
			syn_load(e->client, &e->page[i], 1, SYN_FOREVER, &addr),
			SYN_E_LOST);
		lost++;
	}
	return lost;
}

/* Its pages are lost, all others go on, and its memory comes back. */
static void lose(struct test_daemon *d, uint32_t extent)
{
	struct engine other;
	struct engine e;
	void *pinned;

	assert_int_equal(engine_open(&e, d->socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	assert_int_equal(engine_seal(&e, PAGES - 1, 7), 0);
	assert_int_equal(
		syn_load(e.client, &e.page[PAGES - 1], 1, SYN_FOREVER, &pinned),
		0);
	if (!keeper_drops(d, extent))
		skip();
	worker_kill(d);
	/* It is mapped as long as somebody uses it. */
	(void)syn_poll(e.client, NULL, 0);
	assert_true(
		page_matches(pinned, e.space.page_bytes, e.seed[PAGES - 1]));
	syn_unpin(e.client, e.timeline, &e.page[PAGES - 1], 1);
	assert_in_range(count_lost(&e), 1, PAGES - 1);
	assert_int_equal(engine_open(&other, d->socket, SLOTS), 0);
	assert_int_equal(engine_grow(&other, PAGES, SEED), 0);
	assert_int_equal(count_lost(&other), 0);
	engine_close(&other);
	worker_kill(d);
	assert_int_equal(engine_release(&e), 0);
	e.nr = 0;
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	assert_int_equal(count_lost(&e), 0);
	test_wait((syn_poll(e.client, NULL, 0), hbm_bytes(d)) == 2u << 20, 20);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(d);
}

/* The window's, which is made first, and that of the pages below. */
static void test_lost(void **state)
{
	(void)state;
	for (uint32_t extent = 0; extent < 2; extent++) {
		struct test_daemon d;

		daemon_start(&d, daemon_args);
		lose(&d, extent);
		daemon_stop(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost),
	};

	return test_main(tests);
}
