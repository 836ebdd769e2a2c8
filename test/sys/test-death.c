/* SPDX-License-Identifier: Apache-2.0 */
/* Who dies, who stops, who hangs up: what is left and who is told. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define SLOTS 16u

static const char *const daemon_args[] = { "--hbm", "16M", "--host", "32M",
					   NULL };

/* Leases more pages than fit, so that some are below; pins a few. */
static int hold_leases_and_pins(const char *path)
{
	static struct engine e;
	void *addr;
	int r;

	r = engine_open(&e, path, SLOTS);
	if (r)
		return r;
	r = engine_grow(&e, 3 * SLOTS, 100);
	if (r)
		return r;
	r = engine_seal(&e, 0, 7);
	for (uint32_t i = 0; i < 4 && !r; i++) {
		uint32_t last = e.nr - 1 - i;

		r = syn_load(e.client, &e.page[last], 1, SYN_FOREVER, &addr);
	}
	return r > 0 ? -EBUSY : r;
}

static unsigned int loans_of_all(const char *path)
{
	struct syn_ctl_client clients[SYN_CTL_BATCH];
	struct syn_msg_ctl_reply reply;
	unsigned int nr = 0;

	assert_int_equal(ctl_ask(path, SYN_CTL_CLIENTS, 0, clients,
				 SYN_CTL_BATCH, sizeof(clients[0]), &reply),
			 0);
	for (uint32_t i = 0; i < reply.nr; i++)
		nr += clients[i].nr_loans;
	return nr;
}

/* Bare: asks for loans and never ends them. */
static int hold_loans(const char *path)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = SLOTS, .cookie = 1 };
	struct syn_sqe fault = { .op = SYN_OP_FAULT, .nr = 4, .cookie = 2 };
	struct syn_sqe commit = { .op = SYN_OP_COMMIT,
				  .nr = SLOTS,
				  .cookie = 3 };
	struct syn_vec_commit full[SLOTS] = { 0 };
	struct syn_vec_fault out[4];
	static struct raw_client c;
	uint64_t pages[SLOTS];
	struct syn_cqe cqe;

	if (raw_attach(&c, path) || raw_window(&c, SLOTS))
		return -EIO;
	lease.object = c.window.window;
	if (raw_ask(&c, &lease, NULL, 0, pages, sizeof(pages)).res)
		return -EIO;
	for (uint32_t i = 0; i < SLOTS; i++)
		full[i] = (struct syn_vec_commit){ pages[i], TEST_TOKENS, 0 };
	if (raw_ask(&c, &commit, full, sizeof(full), NULL, 0).res)
		return -EIO;
	/* The next leases push the first pages out. */
	lease.nr = SLOTS / 2;
	do {
		uint64_t more[SLOTS];

		cqe = raw_ask(&c, &lease, NULL, 0, more,
			      SLOTS / 2 * sizeof(more[0]));
	} while (cqe.res == SYN_E_BACKPRESSURE);
	if (cqe.res)
		return -EIO;
	lease.nr = SLOTS / 4;
	do {
		cqe = raw_ask(&c, &fault, pages, 4 * sizeof(pages[0]), out,
			      sizeof(out));
	} while (cqe.res == SYN_E_BACKPRESSURE);
	if (cqe.res)
		return -EIO;
	for (int i = 0; i < 4; i++)
		if (out[i].res == SYN_FAULT_LOAN)
			return 0;
	return -ENOENT;
}

static void test_client_killed(void **state)
{
	struct syn_ctl_status status;
	struct test_daemon d;
	struct engine e;
	pid_t a;
	pid_t b;

	(void)state;
	daemon_start(&d, daemon_args);
	a = child_of(hold_leases_and_pins, d.socket);
	b = child_of(hold_loans, d.socket);
	assert_true(loans_of_all(d.socket) > 0);
	ctl_status(d.socket, &status);
	assert_true(status.nr_pages > 3 * SLOTS);
	child_kill(a, SIGKILL);
	child_kill(b, SIGKILL);
	daemon_wait_quiet(&d);
	ctl_status(d.socket, &status);
	assert_int_equal(status.nr_pages, 1);
	assert_int_equal(status.nr_sealed, 1);
	assert_int_equal(status.reaped, 2);
	assert_int_equal(status.detaches, 0);
	/* What was sealed is found, byte for byte. */
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_find(&e, 7, 100), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static int hang_up(const char *path)
{
	static struct engine e;
	int r = engine_open(&e, path, SLOTS);

	if (!r)
		r = engine_grow(&e, SLOTS, 5);
	if (r)
		return r;
	/* The library has no call for this, but a broken engine may do it. */
	for (int fd = 3; fd < 64; fd++)
		if (shutdown(fd, SHUT_RDWR) == 0)
			return 0;
	return -ENOENT;
}

/* The connection ends, the process stays: leases end, frames come back. */
static void test_socket_closed(void **state)
{
	struct test_daemon d;
	pid_t pid;

	(void)state;
	daemon_start(&d, daemon_args);
	pid = child_of(hang_up, d.socket);
	daemon_wait_quiet(&d);
	assert_int_equal(kill(pid, 0), 0);
	child_kill(pid, SIGKILL);
	daemon_stop(&d);
}

static pid_t *heir;

/* The connection is passed on to another process, which keeps it. */
static int pass_on(const char *path)
{
	static struct engine e;
	int r = engine_open(&e, path, SLOTS);
	pid_t pid;

	if (!r)
		r = engine_grow(&e, SLOTS, 5);
	if (r)
		return r;
	pid = fork_child();
	if (pid == 0)
		for (;;)
			(void)pause();
	*heir = pid;
	return pid < 0 ? -EAGAIN : 0;
}

/* The client is who has connected, whoever holds the socket later. */
static void test_socket_passed_on(void **state)
{
	struct syn_ctl_status status;
	struct test_daemon d;
	pid_t pid;

	(void)state;
	heir = mmap(NULL, sizeof(*heir), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(heir, MAP_FAILED);
	daemon_start(&d, daemon_args);
	pid = child_of(pass_on, d.socket);
	child_kill(pid, SIGKILL);
	daemon_wait_quiet(&d);
	ctl_status(d.socket, &status);
	assert_int_equal(status.reaped, 1);
	assert_true(*heir > 0);
	assert_int_equal(kill(*heir, 0), 0);
	child_kill(*heir, SIGKILL);
	daemon_stop(&d);
	assert_int_equal(munmap(heir, sizeof(*heir)), 0);
}

/* A client that stands still holds nobody up. */
static void test_client_stopped(void **state)
{
	struct test_daemon d;
	pid_t a;
	pid_t b;

	(void)state;
	daemon_start(&d, daemon_args);
	a = child_of(hold_leases_and_pins, d.socket);
	b = child_of(hold_loans, d.socket);
	assert_int_equal(kill(a, SIGSTOP), 0);
	assert_int_equal(kill(b, SIGSTOP), 0);
	assert_int_equal(engine_work(d.socket, SLOTS, 2 * SLOTS, 200, 9), 0);
	child_kill(a, SIGKILL);
	child_kill(b, SIGKILL);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Workers that always die are not started for ever. */
static void test_worker_dies_often(void **state)
{
	struct test_daemon d;
	siginfo_t info;

	(void)state;
	daemon_start(&d, daemon_args);
	for (int i = 0; i < 5; i++) {
		pid_t old = d.worker;

		if (i)
			daemon_wait_worker(&d, 0);
		old = d.worker;
		/* SIGKILL would be somebody's wish. */
		assert_int_equal(kill(old, SIGSEGV), 0);
		if (i < 4)
			daemon_wait_worker(&d, old);
	}
	assert_int_equal(
		waitid(P_PID, (id_t)d.keeper, &info, WEXITED | WNOWAIT), 0);
	daemon_gone(&d, 1 << 8);
}

static void test_keeper_killed(void **state)
{
	struct test_daemon d;
	struct raw_client c;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(kill(d.keeper, SIGKILL), 0);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	assert_true(strlen(c.bye.reason) > 0);
	raw_close(&c);
	daemon_gone(&d, SIGKILL);
}

static void test_stop_tells(void **state)
{
	struct test_daemon d;
	struct raw_client c;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	daemon_stop(&d);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	raw_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client_killed),
		cmocka_unit_test(test_socket_closed),
		cmocka_unit_test(test_socket_passed_on),
		cmocka_unit_test(test_client_stopped),
		cmocka_unit_test(test_worker_dies_often),
		cmocka_unit_test(test_keeper_killed),
		cmocka_unit_test(test_stop_tells),
	};

	return test_main(tests);
}
