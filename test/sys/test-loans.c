/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of another uid takes all loans that it may have, asks for one more,
 * ends some that are none, and dies with all of them out.
 */
#include <signal.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define OTHER_UID 65534
/* Slots do not end before loans do. */
#define SLOTS (SYN_LOANS_MAX + SYN_BATCH_MAX)
#define PAGES (2 * SLOTS)

static uint64_t pages[PAGES];

/* Once there is room. */
static int ask(struct raw_client *c, const struct syn_sqe *sqe, const void *in,
	       void *out, size_t each)
{
	int r;

	do {
		r = raw_ask(c, sqe, in, in ? sqe->nr * each : 0, out,
			    out ? sqe->nr * each : 0)
			    .res;
	} while (r == SYN_E_BACKPRESSURE);
	return r;
}

/* Twice as many full pages as there are slots: the first half leaves. */
static int pages_fill(struct raw_client *c)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = SYN_BATCH_MAX };
	struct syn_sqe commit = { .op = SYN_OP_COMMIT, .nr = SYN_BATCH_MAX };
	int r = 0;

	lease.object = c->window.window;
	for (uint32_t at = 0; at < PAGES && !r; at += SYN_BATCH_MAX) {
		struct syn_vec_commit full[SYN_BATCH_MAX] = { 0 };

		r = ask(c, &lease, NULL, pages + at, sizeof(pages[0]));
		for (uint32_t i = 0; i < SYN_BATCH_MAX; i++)
			full[i] = (struct syn_vec_commit){ pages[at + i],
							   TEST_TOKENS, 0 };
		if (!r)
			r = ask(c, &commit, full, NULL, sizeof(full[0]));
	}
	return r;
}

static int loans_take(struct raw_client *c)
{
	const struct syn_sqe fault = { .op = SYN_OP_FAULT,
				       .nr = SYN_BATCH_MAX };
	int r = 0;

	for (uint32_t at = 0; at < SYN_LOANS_MAX && !r; at += SYN_BATCH_MAX) {
		struct syn_vec_fault out[SYN_BATCH_MAX];
		uint64_t in[SYN_BATCH_MAX];

		memcpy(in, pages + at, sizeof(in));
		r = ask(c, &fault, in, out, sizeof(in[0]));
		for (uint32_t i = 0; i < SYN_BATCH_MAX && !r; i++)
			if (out[i].res != SYN_FAULT_LOAN)
				r = -ENOENT;
	}
	return r;
}

static int loan_end(struct raw_client *c, uint32_t loan)
{
	const struct syn_sqe loaded = { .op = SYN_OP_LOADED, .nr = 1 };
	const struct syn_vec_loaded vec = { .loan = loan };

	return raw_ask(c, &loaded, &vec, sizeof(vec), NULL, 0).res;
}

static int hold_loans(const char *path)
{
	const struct syn_sqe fault = { .op = SYN_OP_FAULT, .nr = 1 };
	static struct raw_client c;
	struct syn_vec_fault out;
	int r;

	if (getuid() == 0 && (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0))
		return -EPERM;
	r = raw_attach_pages(&c, path, PAGES);
	if (!r)
		r = raw_window(&c, SLOTS);
	if (!r)
		r = pages_fill(&c);
	if (!r)
		r = loans_take(&c);
	if (r)
		return r;
	if (raw_ask(&c, &fault, &pages[SYN_LOANS_MAX], sizeof(pages[0]), &out,
		    sizeof(out))
		    .res != SYN_E_BACKPRESSURE)
		return -EPROTO;
	if (loan_end(&c, SYN_LOANS_MAX) != -ESTALE ||
	    loan_end(&c, UINT32_MAX) != -ESTALE)
		return -EPROTO;
	return 0;
}

static void test_all_and_one_more(void **state)
{
	struct syn_ctl_client clients[SYN_CTL_BATCH];
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;
	pid_t pid = child_of(hold_loans, daemon_of_test.socket);

	(void)state;
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_CLIENTS, 0,
				 clients, SYN_CTL_BATCH, sizeof(clients[0]),
				 &reply),
			 0);
	assert_int_equal(reply.nr, 1);
	assert_int_equal(clients[0].nr_loans, SYN_LOANS_MAX);
	/* A neighbour has all it needs meanwhile. */
	assert_int_equal(engine_work(daemon_of_test.socket, 8, 16, 20, 3), 0);
	child_kill(pid, SIGKILL);
	daemon_wait_quiet(&daemon_of_test);
	ctl_status(daemon_of_test.socket, &status);
	assert_int_equal(status.worker_pid, daemon_of_test.worker);
	assert_int_equal(status.nr_pages, 0);
}

int main(void)
{
	static const char *const args[] = { "--hbm", "64M",	      "--host",
					    "128M",  "--socket-mode", "0666",
					    NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_and_one_more),
	};

	test_watchdog();
	return daemon_run_tests(tests, args);
}
