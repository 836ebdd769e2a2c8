/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon went to sleep on a ring with an entry in it: what came between
 * its two last looks was taken for entries of a client that reaps nothing.
 *
 * Requests are sent as the daemon is about to sleep, 20 us after the last one,
 * give or take some; each must be answered.
 */
#include "core/base/base.h"
#include "test/sys/harness.h"

#define NR_REQUESTS 200000u
#define GAP_MIN_NS  15000u
#define GAP_STEP_NS 61u
#define GAP_STEPS   320u
#define SPIN_MAX_NS 1000000u

static void spin_ns(uint64_t ns)
{
	uint64_t until_ns = syn_now_ns() + ns;

	while (syn_now_ns() < until_ns)
		syn_cpu_relax();
}

/* A client that slept here would give the daemon time to sleep as well. */
static void spin_for_answer(const struct raw_client *c)
{
	uint64_t until_ns = syn_now_ns() + SPIN_MAX_NS;

	while (syn_ring_waiting(&c->cq) <= 0 && syn_now_ns() < until_ns)
		syn_cpu_relax();
}

static void test_every_gap_is_answered(void **state)
{
	struct syn_sqe sqe = { .op = SYN_OP_NOP };
	struct test_daemon d;
	struct raw_client c;
	struct syn_cqe cqe;

	(void)state;
	daemon_start(&d, NULL);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	for (uint32_t i = 0; i < NR_REQUESTS; i++) {
		spin_ns(GAP_MIN_NS + i % GAP_STEPS * GAP_STEP_NS);
		sqe.cookie = i;
		raw_submit(&c, &sqe, NULL, 0);
		spin_for_answer(&c);
		if (!raw_reap(&c, &cqe, NULL, 0, 5000))
			fail_msg("request %u was never answered", i);
		assert_int_equal(cqe.cookie, i);
	}
	raw_close(&c);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_gap_is_answered),
	};

	return test_main(tests);
}
