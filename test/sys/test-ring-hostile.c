/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of another uid that sends anything it can into its ring, its
 * tables and its doorbells, while a neighbour keeps working and compares every
 * byte.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define OTHER_UID	65534
#define NR_SUBMISSIONS	1000000u
#define HOSTILE_SLOTS	16u
#define HOSTILE_PAGES	128u /* or it would take every page record there is */
#define NEIGHBOUR_SLOTS 24u
#define KNOWN_HANDLES	64u

/* The same worker throughout: nothing a client did has ended it. */
static void daemon_unharmed(void)
{
	struct syn_ctl_status status;

	ctl_status(daemon_of_test.socket, &status);
	assert_int_equal(status.worker_pid, daemon_of_test.worker);
	assert_int_equal(status.epoch, 1);
}

static void other_user_be(void)
{
	if (getuid() == 0 && (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0))
		_exit(99);
}

/* Runs @fn as another user where we may; it must return 0. */
static void other_user_run(int (*fn)(void))
{
	int status;
	pid_t pid = fork_child();

	assert_true(pid >= 0);
	if (pid == 0) {
		other_user_be();
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- the neighbour ------------------------------------------------------ */

/* Works until @pipe_fd is closed; the exit code tells what went wrong. */
static int neighbour_main(int pipe_fd)
{
	struct pollfd fd = { .fd = pipe_fd, .events = POLLIN };
	static struct engine e;
	uint64_t seed = 4711;
	uint32_t rounds = 0;
	int r;

	r = engine_open(&e, daemon_of_test.socket, NEIGHBOUR_SLOTS);
	if (!r)
		r = engine_grow(&e, 2 * NEIGHBOUR_SLOTS, 1);
	for (; !r && poll(&fd, 1, 0) == 0; rounds++) {
		uint32_t i = (uint32_t)(engine_random(&seed) % e.nr);

		r = engine_check(&e, i);
		if (r || rounds % 50)
			continue;
		r = engine_release(&e);
		if (!r)
			r = engine_grow(&e, 2 * NEIGHBOUR_SLOTS, seed);
	}
	engine_close(&e);
	print_message("neighbour: %u pages compared, %d\n", rounds, r);
	return r ? -r : !rounds;
}

static pid_t neighbour_start(int *ret_pipe_fd)
{
	int pipe_fds[2];
	pid_t pid;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork_child();
	if (pid == 0) {
		(void)close(pipe_fds[1]);
		_exit(neighbour_main(pipe_fds[0]));
	}
	(void)close(pipe_fds[0]);
	*ret_pipe_fd = pipe_fds[1];
	return pid;
}

static void neighbour_stop(pid_t pid, int pipe_fd)
{
	int status;

	(void)close(pipe_fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- mutated submissions ------------------------------------------------ */

/**
 * struct mutator - the state of the generator.
 * @seed:	of everything.
 * @window:	ours.
 * @known:	handles we were given at some time; some are stale.
 * @nr_known:	how many were given, ever.
 * @spoilt:	pins and timelines hold anything.
 * @answers:	completions with 0 or a count.
 * @errors:	completions with an error.
 */
struct mutator {
	uint64_t seed;
	uint64_t window;
	uint64_t known[KNOWN_HANDLES];
	unsigned int nr_known;
	bool spoilt;
	unsigned int answers;
	unsigned int errors;
};

static uint64_t one_in(struct mutator *m, uint64_t n)
{
	return engine_random(&m->seed) % n == 0;
}

static uint64_t handle_any(struct mutator *m)
{
	uint64_t handle = m->known[engine_random(&m->seed) % KNOWN_HANDLES];

	if (one_in(m, 16))
		return engine_random(&m->seed);
	if (one_in(m, 16))
		return SYN_HANDLE(SYN_HANDLE_GENERATION(handle) + 1,
				  SYN_HANDLE_INDEX(handle));
	return handle;
}

/* Entries that are right for the op, mostly. */
static void vector_make(struct mutator *m, const struct syn_sqe *sqe,
			uint64_t *vec)
{
	for (uint32_t i = 0; i < SYN_VEC_BYTES / sizeof(*vec); i++)
		vec[i] = engine_random(&m->seed);
	for (uint32_t i = 0; i < 64; i++) {
		if (one_in(m, 64))
			continue;
		switch (sqe->op) {
		case SYN_OP_COMMIT:
			vec[2 * i] = handle_any(m);
			vec[2 * i + 1] = one_in(m, 4) ? 200 : TEST_TOKENS;
			break;
		case SYN_OP_REPORT:
			vec[2 * i] = handle_any(m);
			break;
		case SYN_OP_LOOKUP:
			vec[2 * i] = i % 8;
			vec[2 * i + 1] = 1;
			break;
		case SYN_OP_FAULT:
		case SYN_OP_RELEASE:
			vec[i] = handle_any(m);
			break;
		case SYN_OP_LOADED:
			vec[i] = engine_random(&m->seed) % 70 |
				 (one_in(m, 3) ? (uint64_t)-EIO << 32 : 0);
			break;
		}
	}
}

static void sqe_make(struct mutator *m, struct syn_sqe *sqe)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->op = (uint16_t)(engine_random(&m->seed) % SYN_OP_NR);
	sqe->cookie = engine_random(&m->seed);
	sqe->nr = (uint32_t)(engine_random(&m->seed) % 4) + 1;
	if (sqe->op == SYN_OP_NOP || sqe->op == SYN_OP_RETIRED)
		sqe->nr = 0;
	if (sqe->op == SYN_OP_LEASE || sqe->op == SYN_OP_LOOKUP)
		sqe->object = m->window;
	if (sqe->op == SYN_OP_RETIRED)
		sqe->object = engine_random(&m->seed) % 100;
	if (sqe->op == SYN_OP_SEAL) {
		sqe->object = handle_any(m);
		sqe->arg[0] = engine_random(&m->seed) % 8;
		sqe->arg[1] = 1;
		sqe->arg[2] = engine_random(&m->seed) % 3;
		sqe->arg[3] = engine_random(&m->seed) % 5;
		sqe->nr = one_in(m, 4) ? 0 : TEST_TILES;
	}
	/* One or more bytes of it may be anything. */
	while (one_in(m, 3))
		((unsigned char *)
			 sqe)[engine_random(&m->seed) % sizeof(*sqe)] ^=
			(unsigned char)engine_random(&m->seed);
}

/*
 * Words that only we write, and that the daemon must not trust.  They are set
 * right again before the next batch, or nothing of ours could ever be moved
 * and all the rest would be waiting.
 */
static void tables_spoil(struct mutator *m, struct raw_client *c)
{
	uint32_t *pin = (void *)(c->mine + c->welcome.pin_off);
	uint64_t *timeline = (void *)(c->mine + c->welcome.timeline_off);

	if (m->spoilt) {
		memset(pin, 0, 64 * sizeof(*pin));
		memset(timeline, 0, 32 * sizeof(*timeline));
		m->spoilt = false;
	}
	if (!one_in(m, 256))
		return;
	for (int i = 0; i < 64; i++)
		pin[i] = (uint32_t)engine_random(&m->seed);
	for (int i = 0; i < 32; i++)
		timeline[i] = engine_random(&m->seed);
	m->spoilt = true;
}

static void answer_take(struct mutator *m, const struct syn_cqe *cqe,
			const uint64_t *out)
{
	if (cqe->res < 0) {
		m->errors++;
		return;
	}
	m->answers++;
	/* Handles or not: good enough to be tried as such. */
	if (cqe->flags == 0 && SYN_HANDLE_GENERATION(out[0]))
		for (int i = 0; i < 4; i++)
			m->known[m->nr_known++ % KNOWN_HANDLES] = out[i];
}

/* -1: the daemon ended the session. */
static int batch_run(struct mutator *m, struct raw_client *c, unsigned int nr)
{
	uint64_t vec[SYN_VEC_BYTES / sizeof(uint64_t)];
	struct syn_sqe sqe;
	struct syn_cqe cqe;
	unsigned int reaped = 0;

	tables_spoil(m, c);
	for (unsigned int i = 0; i < nr; i++) {
		sqe_make(m, &sqe);
		vector_make(m, &sqe, vec);
		raw_submit(c, &sqe, vec, sizeof(vec));
	}
	while (reaped < nr) {
		uint64_t out[4];

		if (!raw_reap(c, &cqe, out, sizeof(out), 20000)) {
			if (raw_read(c, SYN_MSG_BYE, NULL, 0))
				print_message("ended: %s\n", c->bye.reason);
			return -1;
		}
		answer_take(m, &cqe, out);
		reaped++;
	}
	return 0;
}

static int mutate_session(struct mutator *m, unsigned int submissions)
{
	struct raw_client c;
	int r = 0;

	if (raw_attach_pages(&c, daemon_of_test.socket, HOSTILE_PAGES) ||
	    raw_window(&c, HOSTILE_SLOTS))
		return 1;
	m->window = c.window.window;
	while (submissions && !r) {
		unsigned int nr = (unsigned int)(m->seed % 64) + 1;

		nr = syn_min(nr, submissions);
		r = batch_run(m, &c, nr);
		submissions -= nr;
	}
	if (!r)
		raw_close(&c);
	return r ? 2 : 0;
}

static int mutate(void)
{
	struct mutator m = { .seed = 20 };
	int r = 0;

	/* Several sessions, so that their ends are part of it. */
	for (int i = 0; i < 10 && !r; i++)
		r = mutate_session(&m, NR_SUBMISSIONS / 10);
	print_message("mutated: %u answers, %u errors\n", m.answers, m.errors);
	return r ? r : m.answers && m.errors ? 0 : 3;
}

static void test_mutated_submissions(void **state)
{
	pid_t neighbour;
	int pipe_fd;

	(void)state;
	neighbour = neighbour_start(&pipe_fd);
	other_user_run(mutate);
	neighbour_stop(neighbour, pipe_fd);
	daemon_unharmed();
}

/* ---- what ends a session ------------------------------------------------ */

static void ring_bell(struct raw_client *c)
{
	const uint64_t one = 1;

	(void)!write(c->bell_fd, &one, sizeof(one));
}

static void expect_ended(struct raw_client *c)
{
	assert_int_equal(raw_wait_bye(c), -EPROTO);
	assert_true(strlen(c->bye.reason) > 0);
	raw_close(c);
}

static void test_impossible_indices(void **state)
{
	static const uint32_t tails[] = { 65, 66, 1000, 0x80000000u,
					  0xffffffffu };
	const struct syn_sqe nop = { .op = SYN_OP_NOP };
	struct syn_client_ctl *ctl;
	struct raw_client c;

	(void)state;
	for (size_t i = 0; i < syn_array_size(tails); i++) {
		assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
		ctl = (void *)c.mine;
		syn_store_seq_cst(&ctl->sq_tail, tails[i]);
		ring_bell(&c);
		expect_ended(&c);
		/* Completions that were never published. */
		assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
		ctl = (void *)c.mine;
		syn_store_seq_cst(&ctl->cq_head, tails[i] - 64);
		raw_submit(&c, &nop, NULL, 0);
		ring_bell(&c);
		expect_ended(&c);
	}
	daemon_unharmed();
}

/* Reaping nothing stops only oneself. */
static void test_completions_not_reaped(void **state)
{
	const struct syn_sqe nop = { .op = SYN_OP_NOP, .cookie = 5 };
	const struct syn_daemon_ctl *theirs;
	struct raw_client c;
	struct syn_cqe cqe;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	theirs = (const void *)c.theirs;
	for (int i = 0; i < 64; i++)
		raw_submit(&c, &nop, NULL, 0);
	test_wait(syn_load_acquire(&theirs->cq_tail) == 64, 20);
	for (int i = 0; i < 64; i++)
		raw_submit(&c, &nop, NULL, 0);
	sleep_ms(50);
	assert_int_equal(syn_load_acquire(&theirs->cq_tail), 64);
	assert_int_equal(engine_work(daemon_of_test.socket, 8, 16, 20, 3), 0);
	for (int i = 0; i < 64; i++)
		assert_true(raw_reap(&c, &cqe, NULL, 0, 20000));
	ring_bell(&c);
	for (int i = 0; i < 64; i++)
		assert_true(raw_reap(&c, &cqe, NULL, 0, 20000));
	raw_close(&c);
}

static void test_bad_requests(void **state)
{
	static const struct {
		struct syn_sqe sqe;
		int error;
	} bad[] = {
		{ { .op = SYN_OP_NR }, -EOPNOTSUPP },
		{ { .op = 0xffff }, -EOPNOTSUPP },
		{ { .op = SYN_OP_NOP, .flags = 1 }, -EINVAL },
		{ { .op = SYN_OP_NOP, .nr = 1 }, -EINVAL },
		{ { .op = SYN_OP_NOP, .object = 1 }, -EINVAL },
		{ { .op = SYN_OP_NOP, .arg = { 1 } }, -EINVAL },
		{ { .op = SYN_OP_NOP, .arg = { 0, 0, 0, 1 } }, -EINVAL },
		{ { .op = SYN_OP_NOP, .pad0 = 1 }, -EINVAL },
		{ { .op = SYN_OP_LEASE, .nr = 0 }, -EINVAL },
		{ { .op = SYN_OP_LEASE, .nr = 65 }, -EINVAL },
		{ { .op = SYN_OP_LEASE, .nr = 1, .object = 16 }, -EINVAL },
		{ { .op = SYN_OP_LEASE, .nr = 1, .object = 1ull << 32 },
		  -EINVAL },
		{ { .op = SYN_OP_COMMIT, .nr = 0xffffffffu }, -EINVAL },
		{ { .op = SYN_OP_SEAL, .nr = 513 }, -EINVAL },
		{ { .op = SYN_OP_LOOKUP, .nr = 1, .arg = { 0, 1 } }, -EINVAL },
		{ { .op = SYN_OP_LOADED, .nr = 65 }, -EINVAL },
		{ { .op = SYN_OP_RELEASE }, -EINVAL },
		{ { .op = SYN_OP_REPORT, .nr = 100 }, -EINVAL },
		{ { .op = SYN_OP_RETIRED, .object = 1ull << 40 }, -ENOENT },
	};
	struct raw_client c;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	for (size_t i = 0; i < syn_array_size(bad); i++) {
		struct syn_cqe cqe = raw_ask(&c, &bad[i].sqe, NULL, 0, NULL, 0);

		if (cqe.res != bad[i].error)
			print_message("request %zu: %d\n", i, cqe.res);
		assert_int_equal(cqe.res, bad[i].error);
		assert_int_equal(cqe.flags, 0);
	}
	raw_close(&c);
}

/* Handles of another session, and of a page given back. */
static void test_foreign_and_stale(void **state)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1 };
	static const uint16_t ops[] = { SYN_OP_COMMIT, SYN_OP_FAULT,
					SYN_OP_REPORT, SYN_OP_RELEASE };
	struct syn_sqe seal = { .op = SYN_OP_SEAL,
				.nr = TEST_TILES,
				.arg = { 1, 1 } };
	struct raw_client owner;
	struct raw_client thief;
	uint64_t page;

	(void)state;
	assert_int_equal(raw_attach(&owner, daemon_of_test.socket), 0);
	assert_int_equal(raw_attach(&thief, daemon_of_test.socket), 0);
	assert_int_equal(raw_window(&owner, 4), 0);
	assert_int_equal(raw_window(&thief, 4), 0);
	lease.object = owner.window.window;
	assert_int_equal(
		raw_ask(&owner, &lease, NULL, 0, &page, sizeof(page)).res, 0);
	for (int turn = 0; turn < 2; turn++) {
		struct raw_client *c = turn ? &owner : &thief;

		for (size_t i = 0; i < syn_array_size(ops); i++) {
			struct syn_sqe sqe = { .op = ops[i], .nr = 1 };
			uint64_t vec[2] = { page, 0 };

			assert_int_equal(
				raw_ask(c, &sqe, vec, sizeof(vec), NULL, 0).res,
				-ESTALE);
		}
		seal.object = page;
		assert_int_equal(raw_ask(c, &seal, NULL, 0, NULL, 0).res,
				 -ESTALE);
		if (!turn) {
			struct syn_sqe release = { .op = SYN_OP_RELEASE,
						   .nr = 1 };

			assert_int_equal(raw_ask(&owner, &release, &page,
						 sizeof(page), NULL, 0)
						 .res,
					 0);
		}
	}
	raw_close(&owner);
	raw_close(&thief);
}

/* ---- doorbells ---------------------------------------------------------- */

/* Anything that could make the daemon's end block, if it were shared. */
static void doorbells_spoil(struct raw_client *c)
{
	char path[40];
	char full[4096] = { 0 };
	int fd;

	(void)fcntl(c->bell_fd, F_SETFL, 0);
	(void)fcntl(c->wake_fd, F_SETFL, 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", c->wake_fd);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	while (fd >= 0 && write(fd, full, sizeof(full)) > 0)
		;
	(void)syn_close(fd);
}

static int spoil(void)
{
	const struct syn_sqe nop = { .op = SYN_OP_NOP };
	struct syn_client_ctl *ctl;
	struct raw_client c;
	struct syn_cqe cqe;

	if (raw_attach(&c, daemon_of_test.socket))
		return 1;
	doorbells_spoil(&c);
	/* It is told that we sleep whenever it answers. */
	ctl = (void *)c.mine;
	for (int i = 0; i < 10000; i++) {
		raw_submit(&c, &nop, NULL, 0);
		syn_store_seq_cst(&ctl->cq_sleeps, 1u);
		while (syn_ring_waiting(&c.cq) <= 0)
			syn_cpu_relax();
		if (!raw_reap(&c, &cqe, NULL, 0, 20000))
			return 2;
	}
	/* Nobody at the other end at all. */
	c.wake_fd = syn_close(c.wake_fd);
	for (int i = 0; i < 10; i++) {
		raw_submit(&c, &nop, NULL, 0);
		syn_store_seq_cst(&ctl->cq_sleeps, 1u);
		while (syn_ring_waiting(&c.cq) <= 0)
			syn_cpu_relax();
		syn_ring_consume(&c.cq, 1);
	}
	raw_close(&c);
	return 0;
}

static void test_doorbells(void **state)
{
	(void)state;
	other_user_run(spoil);
	assert_int_equal(engine_work(daemon_of_test.socket, 8, 16, 20, 3), 0);
	daemon_unharmed();
}

int main(void)
{
	static const char *const args[] = {
		"--hbm", "16M",		"--host", "16M", "--socket-mode",
		"0666",	 "--max-pages", "1024",	  NULL
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_impossible_indices),
		cmocka_unit_test(test_completions_not_reaped),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_foreign_and_stale),
		cmocka_unit_test(test_doorbells),
		cmocka_unit_test(test_mutated_submissions),
	};

	test_watchdog();
	test_patience(300);
	return daemon_run_tests(tests, args);
}
