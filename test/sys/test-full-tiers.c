/* SPDX-License-Identifier: Apache-2.0 */
/* Everything full: a refusal with a hint, never a hang; then room again. */
#include <stdio.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

/* 64 pages above, 128 below. */
static const char *const daemon_args[] = { "--hbm", "4M", "--host", "8M",
					   NULL };
#define SLOTS 32u

/* Leases and commits one by one until refused; the refusal is in *ret. */
static uint32_t fill(struct raw_client *c, uint64_t *pages, uint32_t max,
		     struct syn_cqe *ret)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1, .cookie = 1 };
	struct syn_sqe commit = { .op = SYN_OP_COMMIT, .nr = 1, .cookie = 2 };
	uint32_t nr = 0;

	lease.object = c->window.window;
	while (nr < max) {
		struct syn_vec_commit vec = { .tokens = TEST_TOKENS };

		*ret = raw_ask(c, &lease, NULL, 0, &pages[nr],
			       sizeof(pages[nr]));
		if (ret->res)
			break;
		vec.handle = pages[nr++];
		assert_int_equal(
			raw_ask(c, &commit, &vec, sizeof(vec), NULL, 0).res, 0);
	}
	return nr;
}

static void expect_backpressure(const struct syn_cqe *cqe)
{
	assert_int_equal(cqe->res, SYN_E_BACKPRESSURE);
	assert_int_equal(cqe->flags, SYN_CQE_F_OUTCOME);
	assert_true(cqe->val[0] > 0);
}

static void test_refused_then_served(void **state)
{
	struct syn_sqe release = { .op = SYN_OP_RELEASE, .nr = 16 };
	struct syn_ctl_status status;
	struct test_daemon d;
	struct raw_client c[2];
	uint64_t pages[2][512];
	uint32_t nr[2];
	struct syn_cqe cqe;

	(void)state;
	daemon_start(&d, daemon_args);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(raw_attach(&c[i], d.socket), 0);
		assert_int_equal(raw_window(&c[i], SLOTS), 0);
	}
	for (int i = 0; i < 2; i++) {
		nr[i] = fill(&c[i], pages[i], 512, &cqe);
		expect_backpressure(&cqe);
		assert_true(nr[i] >= SLOTS);
	}
	print_message("full with %u + %u pages\n", nr[0], nr[1]);
	assert_true(nr[0] + nr[1] > 2 * SLOTS);
	ctl_status(d.socket, &status);
	assert_true(status.backpressure > 0);
	assert_true(status.demotions > 0);
	assert_int_equal(raw_ask(&c[0], &release, pages[0],
				 16 * sizeof(uint64_t), NULL, 0)
				 .res,
			 0);
	/* What one gives back, the other may have. */
	assert_true(fill(&c[1], pages[1] + nr[1], 4, &cqe) > 0);
	raw_close(&c[0]);
	raw_close(&c[1]);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Pinned and unfinished pages do not move, so the window is simply full. */
static void test_unfinished_pages_stay(void **state)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = SLOTS };
	struct syn_sqe release = { .op = SYN_OP_RELEASE, .nr = SLOTS };
	struct test_daemon d;
	struct raw_client c;
	uint64_t pages[SLOTS];
	struct syn_cqe cqe;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	lease.object = c.window.window;
	assert_int_equal(raw_ask(&c, &lease, NULL, 0, pages, sizeof(pages)).res,
			 0);
	lease.nr = 1;
	cqe = raw_ask(&c, &lease, NULL, 0, NULL, 0);
	expect_backpressure(&cqe);
	assert_int_equal(
		raw_ask(&c, &release, pages, sizeof(pages), NULL, 0).res, 0);
	lease.nr = SLOTS;
	assert_int_equal(raw_ask(&c, &lease, NULL, 0, pages, sizeof(pages)).res,
			 0);
	/* More than the window is no matter of waiting. */
	lease.nr = SLOTS + 1;
	assert_int_equal(raw_ask(&c, &lease, NULL, 0, NULL, 0).res, -E2BIG);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Requests that wait are answered in their order, all of them. */
static void test_many_wait(void **state)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1 };
	struct test_daemon d;
	struct raw_client c;
	uint64_t pages[512];
	struct syn_cqe cqe;
	bool seen[40] = { false };

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	(void)fill(&c, pages, 512, &cqe);
	expect_backpressure(&cqe);
	lease.object = c.window.window;
	for (uint64_t i = 0; i < 40; i++) {
		lease.cookie = i;
		raw_submit(&c, &lease, NULL, 0);
	}
	for (uint64_t i = 0; i < 40; i++) {
		assert_true(raw_reap(&c, &cqe, NULL, 0, 20000));
		assert_true(cqe.cookie < 40 && !seen[cqe.cookie]);
		seen[cqe.cookie] = true;
		expect_backpressure(&cqe);
	}
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* After the crowd has left, every byte that stayed is right. */
static void test_bytes_survive(void **state)
{
	struct test_daemon d;
	struct engine e;
	struct raw_client c;
	uint64_t pages[512];
	struct syn_cqe cqe;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, 3 * SLOTS, 77), 0);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	assert_true(fill(&c, pages, 512, &cqe) > 0);
	expect_backpressure(&cqe);
	raw_close(&c);
	for (uint32_t i = 0; i < e.nr; i++)
		assert_int_equal(engine_check(&e, i), 0);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_then_served),
		cmocka_unit_test(test_unfinished_pages_stay),
		cmocka_unit_test(test_many_wait),
		cmocka_unit_test(test_bytes_survive),
	};

	return test_main(tests);
}
