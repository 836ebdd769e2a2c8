/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client against a real synapsed: pages written, moved down, brought
 * back, found by another process; no descriptor more at the end.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include <synapse/client.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "test/sys/harness.h"

#define SLOTS	   16u
#define PAGES	   96u /* six times what fits */
#define NR_THREADS 4
#define NR_ROUNDS  50
#define WAIT_NS	   20000000000u

static const char *const args[] = { "--hbm",	   "8M",      "--host", "64M",
				    "--log-level", "warning", NULL };

static const struct syn_component components[2] = {
	{ .role = SYN_ROLE_K,
	  .dtype = SYN_DTYPE_F16,
	  .heads = 2,
	  .dim = 64,
	  .codec = SYN_CODEC_RAW16 },
	{ .role = SYN_ROLE_V,
	  .dtype = SYN_DTYPE_F16,
	  .heads = 2,
	  .dim = 64,
	  .codec = SYN_CODEC_RAW16 },
};

static struct test_daemon daemon_;
static struct syn_client *client;
static struct syn_window *window;
static struct syn_space space;
static int nr_fds;

static int open_client(uint32_t slots)
{
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_space_opts geometry = SYN_OPTS(struct syn_space_opts);
	struct syn_window_opts share = SYN_OPTS(struct syn_window_opts);
	int r;

	attach.path = daemon_.socket;
	r = syn_attach(&attach, &client, NULL);
	if (r)
		return r;
	geometry.model[0] = 1;
	geometry.tokens = TEST_TOKENS;
	geometry.nr_components = 2;
	geometry.components = components;
	r = syn_space_define(client, &geometry, &space);
	if (!r && space.page_bytes != TEST_PAGE_BYTES)
		r = -EPROTO;
	share.slots = slots;
	return r ? r : syn_window_open(client, &space, &share, &window);
}

static int setup(void **state)
{
	daemon_start(&daemon_, args);
	nr_fds = test_count_fds();
	return open_client(SLOTS);
}

static int teardown(void **state)
{
	client = syn_detach(client);
	if (test_count_fds() != nr_fds)
		return -1;
	daemon_wait_quiet(&daemon_);
	daemon_stop(&daemon_);
	return 0;
}

/* ---- pages whose bytes tell which they are ------------------------------ */

static void page_fill(void *addr, uint32_t n)
{
	uint32_t *words = addr;

	for (uint32_t i = 0; i < TEST_PAGE_BYTES / 4; i++)
		words[i] = n * 2654435761u + i;
}

static bool page_is(const void *addr, uint32_t n)
{
	const uint32_t *words = addr;

	for (uint32_t i = 0; i < TEST_PAGE_BYTES / 4; i++)
		if (words[i] != n * 2654435761u + i)
			return false;
	return true;
}

static void key_of(uint32_t n, uint64_t *ret)
{
	ret[0] = 0x6b6579;
	ret[1] = n;
}

static void page_make(uint32_t n, uint64_t *ret)
{
	const uint32_t tokens = TEST_TOKENS;
	void *addr;

	assert_int_equal(syn_lease(window, 1, WAIT_NS, ret), 0);
	assert_int_equal(syn_pin(client, ret, 1, &addr), 0);
	page_fill(addr, n);
	syn_unpin(client, 0, ret, 1);
	assert_int_equal(syn_commit(client, ret, &tokens, 1), 0);
}

static void pages_make(uint64_t *pages, bool sealed)
{
	for (uint32_t n = 0; n < PAGES; n++) {
		uint64_t key[2];

		page_make(n, &pages[n]);
		key_of(n, key);
		if (sealed)
			assert_int_equal(syn_seal(client, pages[n], key, 0, 0),
					 0);
	}
}

/* In batches that fit, so that every page comes back at least once. */
static bool pages_check(const uint64_t *pages)
{
	for (uint32_t n = 0; n < PAGES; n += SLOTS / 2) {
		void *addr[SLOTS / 2];
		bool good = true;

		if (syn_load(client, pages + n, SLOTS / 2, WAIT_NS, addr))
			return false;
		for (uint32_t i = 0; i < SLOTS / 2; i++)
			good = good && page_is(addr[i], n + i);
		syn_unpin(client, 0, pages + n, SLOTS / 2);
		if (!good)
			return false;
	}
	return true;
}

/* ---- tests -------------------------------------------------------------- */

static void test_pages_move_and_come_back(void **state)
{
	static uint64_t pages[PAGES];
	struct syn_ctl_status status;

	pages_make(pages, false);
	assert_true(pages_check(pages));
	assert_true(pages_check(pages));
	ctl_status(daemon_.socket, &status);
	assert_true(status.demotions >= PAGES - SLOTS);
	assert_true(status.loads >= PAGES - SLOTS);
	assert_int_equal(status.sum_failures, 0);
	assert_int_equal(syn_release(client, pages, PAGES), 0);
	ctl_status(daemon_.socket, &status);
	assert_int_equal(status.nr_pages, 0);
}

/* Another process: exit status 0 when all is as it must be. */
static int find_and_check(void)
{
	static uint64_t keys[PAGES + 1][2];
	static uint64_t pages[PAGES + 1];
	int before = test_count_fds();
	uint32_t miss = 99;

	for (uint32_t n = 0; n <= PAGES; n++)
		key_of(n, keys[n]);
	if (open_client(SLOTS))
		return 1;
	if (syn_lookup(window, (const uint64_t(*)[2])keys, PAGES + 1, pages,
		       &miss) != (int)PAGES ||
	    miss != SYN_MISS_NEVER)
		return 2;
	if (!pages_check(pages))
		return 3;
	if (syn_release(client, pages, PAGES))
		return 4;
	if (syn_detach(client))
		return 5;
	return test_count_fds() == before ? 0 : 6;
}

/* Processes that were forked wait until the pages are there. */
static void test_found_by_another_process(void **state)
{
	static uint64_t pages[PAGES];
	int status;
	int go[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(go), 0);
	pid = fork_child();
	assert_true(pid >= 0);
	if (!pid) {
		(void)close(go[1]);
		client = syn_detach(client);
		_exit(read(go[0], &c, 1) == 1 ? find_and_check() : 99);
	}
	pages_make(pages, true);
	assert_int_equal(write(go[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	(void)close(go[0]);
	(void)close(go[1]);
	assert_true(pages_check(pages));
	assert_int_equal(syn_release(client, pages, PAGES), 0);
}

/* The same key twice: the first stays the one that is found. */
static void test_seal_of_a_key_twice(void **state)
{
	uint64_t key[2];
	uint64_t pages[2];
	uint64_t found;
	void *addr;

	key_of(7, key);
	page_make(1, &pages[0]);
	page_make(2, &pages[1]);
	assert_int_equal(syn_seal(client, pages[0], key, 0, 0), 0);
	assert_int_equal(syn_seal(client, pages[1], key, 0, 0), SYN_E_DUP);
	assert_int_equal(
		syn_lookup(window, (const uint64_t(*)[2])key, 1, &found, NULL),
		1);
	assert_int_equal(syn_load(client, &found, 1, WAIT_NS, &addr), 0);
	assert_true(page_is(addr, 1));
	syn_unpin(client, 0, &found, 1);
	assert_int_equal(syn_pin(client, &pages[1], 1, &addr), 0);
	assert_true(page_is(addr, 2));
	syn_unpin(client, 0, &pages[1], 1);
}

/* Not visible before the work that writes it is done. */
static void test_ready_point(void **state)
{
	uint64_t key[2];
	uint64_t page;
	uint64_t found;
	uint64_t work;
	uint32_t timeline;
	uint32_t miss;

	assert_int_equal(syn_timeline_new(client, &timeline), 0);
	work = syn_timeline_issue(client, timeline);
	key_of(3, key);
	page_make(3, &page);
	assert_int_equal(syn_seal(client, page, key, timeline, work), 0);
	assert_int_equal(
		syn_lookup(window, (const uint64_t(*)[2])key, 1, &found, &miss),
		0);
	assert_int_equal(miss, SYN_MISS_NOT_READY);
	syn_timeline_done(client, timeline, work);
	assert_int_equal(
		syn_lookup(window, (const uint64_t(*)[2])key, 1, &found, &miss),
		1);
}

static void test_full_of_pins(void **state)
{
	uint64_t pages[SLOTS];
	uint64_t one;

	assert_int_equal(syn_lease(window, SLOTS, WAIT_NS, pages), 0);
	/* None is committed, so none can be moved. */
	assert_int_equal(syn_lease(window, 1, 1000000, &one),
			 SYN_E_BACKPRESSURE);
	assert_int_equal(syn_lease(window, SLOTS + 1, 0, pages), -E2BIG);
	assert_int_equal(syn_release(client, pages, 1), 0);
	assert_int_equal(syn_lease(window, 1, WAIT_NS, &one), 0);
	assert_int_equal(syn_release(client, pages, 1), -ESTALE);
}

static uint64_t shared_pages[PAGES];

static void *load_often(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	for (unsigned int i = 0; i < NR_ROUNDS; i++) {
		uint32_t n = (uint32_t)rand_r(&seed) % (PAGES - 2);
		void *addr[2];

		if (syn_load(client, &shared_pages[n], 2, SYN_FOREVER, addr))
			return arg;
		if (!page_is(addr[0], n) || !page_is(addr[1], n + 1))
			return arg;
		syn_unpin(client, 0, &shared_pages[n], 2);
	}
	return NULL;
}

/* Threads of one client that need more pages than there are slots. */
static void test_threads_load(void **state)
{
	pthread_t threads[NR_THREADS];

	pages_make(shared_pages, false);
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, load_often,
						(void *)(i + 1)),
				 0);
	for (int i = 0; i < NR_THREADS; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(syn_release(client, shared_pages, PAGES), 0);
}

static void test_child_is_refused(void **state)
{
	uint64_t page;
	int status;
	pid_t pid;
	void *addr;

	page_make(5, &page);
	pid = fork_child();
	assert_true(pid >= 0);
	if (!pid) {
		if (syn_pin(client, &page, 1, &addr) != -ECHILD ||
		    syn_release(client, &page, 1) != -ECHILD)
			_exit(1);
		_exit(syn_detach(client) ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* The child's detach has ended nothing. */
	assert_int_equal(syn_pin(client, &page, 1, &addr), 0);
	assert_true(page_is(addr, 5));
	syn_unpin(client, 0, &page, 1);
	assert_int_equal(syn_release(client, &page, 1), 0);
}

/* The socket, two eventfds; extents are mapped, not held open. */
static void test_descriptors_stay_few(void **state)
{
	static uint64_t pages[PAGES];

	assert_int_equal(test_count_fds(), nr_fds + 3);
	pages_make(pages, false);
	assert_true(pages_check(pages));
	assert_int_equal(test_count_fds(), nr_fds + 3);
	assert_int_equal(syn_release(client, pages, PAGES), 0);
}

/* Every call that may fail in this process, failing once. */
static void test_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;

	client = syn_detach(client);
	do {
		int r;

		syn_fault_arm(++nth);
		client = NULL;
		r = open_client(2);
		hit = syn_fault_disarm();
		assert_true(hit || !r);
		client = syn_detach(client);
		assert_int_equal(test_count_fds(), nr_fds);
	} while (hit);
	assert_true(nth > 10);
}

/* Who holds a page goes on reading it; all else says that it is over. */
static void test_daemon_is_killed(void **state)
{
	uint32_t events[4];
	uint64_t page;
	void *addr;

	daemon_start(&daemon_, args);
	nr_fds = test_count_fds();
	assert_int_equal(open_client(SLOTS), 0);
	page_make(9, &page);
	assert_int_equal(syn_pin(client, &page, 1, &addr), 0);
	assert_int_equal(kill(daemon_.keeper, SIGKILL), 0);
	assert_int_equal(syn_lease(window, SLOTS, SYN_FOREVER, &page),
			 -ESHUTDOWN);
	assert_true(page_is(addr, 9));
	assert_true(syn_poll(client, events, 4) >= 1);
	assert_string_not_equal(syn_client_reason(client), "");
	assert_int_equal(syn_load(client, &page, 1, 0, NULL), -ESHUTDOWN);
	client = syn_detach(client);
	assert_int_equal(test_count_fds(), nr_fds);
	(void)unlink(daemon_.socket);
	daemon_gone(&daemon_, SIGKILL);
}

static void test_example(void **state)
{
	int status;
	pid_t pid;

	/* An interpreter does not load what a sanitizer has gone through. */
	if (!TEST_EXAMPLE_RUNS)
		skip();
	pid = fork_child();
	assert_true(pid >= 0);
	if (!pid) {
		(void)setenv("SYNAPSE_SOCKET", daemon_.socket, 1);
		(void)setenv("LD_LIBRARY_PATH", TEST_LIBRARY_DIR, 1);
		(void)unsetenv("LD_PRELOAD");
		(void)execlp("python3", "python3", TEST_EXAMPLE, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define e2e_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		e2e_test(test_pages_move_and_come_back),
		e2e_test(test_found_by_another_process),
		e2e_test(test_seal_of_a_key_twice),
		e2e_test(test_ready_point),
		e2e_test(test_full_of_pins),
		e2e_test(test_threads_load),
		e2e_test(test_child_is_refused),
		e2e_test(test_descriptors_stay_few),
		e2e_test(test_fail_nth),
		cmocka_unit_test(test_daemon_is_killed),
		e2e_test(test_example),
	};

	return test_main(tests);
}
