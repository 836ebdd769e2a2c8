/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call that can fail, the N-th first, from the server's start to a
 * session's end: the other clients stay served, and nothing is left.
 */
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/mm.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"
#include "test/sys/inproc.h"

#define MANY 2000u /* more calls than there are to fail */

static unsigned int nr_kept;

static int keep(void *ctx, uint32_t kind, uint32_t id, const int *fds,
		unsigned int nr_fds)
{
	(void)ctx;
	(void)kind;
	(void)id;
	(void)fds;
	(void)nr_fds;
	if (syn_fault())
		return -EMFILE;
	(void)__atomic_add_fetch(&nr_kept, 1, __ATOMIC_RELAXED);
	return 0;
}

static void drop(void *ctx, uint32_t kind, uint32_t id)
{
	(void)ctx;
	(void)kind;
	(void)id;
	(void)__atomic_sub_fetch(&nr_kept, 1, __ATOMIC_RELAXED);
}

static void test_server_new(void **state)
{
	struct inproc p;
	unsigned int nth = 0;
	int r;

	(void)state;
	assert_int_equal(inproc_init(&p, 8u << 20, 8u << 20), 0);
	do {
		int fds = test_count_fds();

		syn_fault_arm(++nth);
		r = syn_server_new(&p.server, &p.config);
		(void)syn_fault_disarm();
		if (!r)
			p.server = syn_server_free(p.server);
		assert_int_equal(test_count_fds(), fds);
	} while (r && nth < MANY);
	assert_true(nth > 5);
	assert_int_equal(r, 0);
	inproc_deinit(&p);
}

static int session_main(const char *path)
{
	struct engine e;
	int r = engine_open(&e, path, 4);

	if (r)
		return r;
	r = engine_grow(&e, 8, 1);
	for (uint32_t i = 0; i < e.nr && !r; i++)
		r = engine_check(&e, i);
	if (!r)
		r = engine_release(&e);
	engine_close(&e);
	return r;
}

/*
 * In a child: what fails is then the server's own, and a session that was cut
 * off in the middle leaves nothing pinned for longer than its process lives.
 */
static int session(const char *path)
{
	int status;
	pid_t pid = fork_child();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)syn_fault_disarm();
		(void)alarm(30);
		_exit(-session_main(path));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool quiet(const struct inproc *p, int fds)
{
	struct syn_ctl_status status;
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];

	ctl_status(p->socket, &status);
	ctl_tiers(p->socket, tier);
	/* These two connections are about to be closed on the other side. */
	sleep_ms(2);
	return !status.nr_sessions && !status.nr_pages &&
	       !status.nr_quarantined &&
	       __atomic_load_n(&nr_kept, __ATOMIC_RELAXED) == 0 &&
	       test_count_fds() ==
		       fds + (int)(tier[0].nr_extents + tier[1].nr_extents);
}

static void test_session(void **state)
{
	struct inproc p;
	struct engine other;
	unsigned int nth = 0;
	unsigned int failed = 0;
	bool hit;
	int fds;
	int r;

	(void)state;
	assert_int_equal(inproc_init(&p, 8u << 20, 8u << 20), 0);
	p.config.keep = keep;
	p.config.drop = drop;
	assert_int_equal(inproc_start(&p), 0);
	fds = test_count_fds();
	do {
		syn_fault_arm(++nth);
		r = session(p.socket);
		hit = syn_fault_disarm();
		failed += r != 0;
		test_wait(quiet(&p, fds), 20);
	} while (hit && nth < MANY);
	assert_false(hit);
	assert_int_equal(r, 0);
	assert_true(failed > 20);
	print_message("%u calls could fail, %u ended the session\n", nth - 1,
		      failed);
	/* And it serves as before. */
	assert_int_equal(engine_open(&other, p.socket, 4), 0);
	assert_int_equal(engine_grow(&other, 8, 1), 0);
	engine_close(&other);
	assert_int_equal(inproc_end(&p), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_new),
		cmocka_unit_test(test_session),
	};

	return test_main(tests);
}
