/* SPDX-License-Identifier: Apache-2.0 */
/* Few descriptors: the daemon refuses, and those who are in go on. */
#include <stdio.h>
#include <sys/resource.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/harness.h"

#define NR_ATTEMPTS 2000
#define NR_CONTROLS 40

static struct raw_client clients[NR_ATTEMPTS];

static void client_works(struct raw_client *c)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1, .cookie = 1 };
	uint64_t page;

	assert_int_equal(raw_window(c, 2), 0);
	assert_true(c->nr_extents > 0);
	lease.object = c->window.window;
	assert_int_equal(raw_ask(c, &lease, NULL, 0, &page, sizeof(page)).res,
			 0);
}

static void test_attach_until_full(void **state)
{
	static const char *const args[] = { "--hbm", "64M", "--host", "16M",
					    NULL };
	struct syn_ctl_status status;
	struct test_daemon d;
	int nr = 0;

	(void)state;
	daemon_start_limited(&d, args, 1024);
	for (int i = 0; i < NR_ATTEMPTS; i++) {
		int r = raw_attach(&clients[nr], d.socket);

		if (!r) {
			nr++;
			continue;
		}
		assert_true(r == -EUSERS || r == -EMFILE);
		assert_true(strlen(clients[nr].bye.reason) > 0);
	}
	print_message("%d of %d attached\n", nr, NR_ATTEMPTS);
	assert_true(nr >= 100);
	assert_true(nr < NR_ATTEMPTS);
	ctl_status(d.socket, &status);
	assert_int_equal(status.nr_sessions, nr);
	assert_int_equal(status.worker_pid, d.worker);
	/* There are descriptors left for their memory. */
	client_works(&clients[0]);
	client_works(&clients[nr / 2]);
	client_works(&clients[nr - 1]);
	for (int i = 0; i < nr; i++)
		raw_close(&clients[i]);
	daemon_wait_quiet(&d);
	assert_int_equal(raw_attach(&clients[0], d.socket), 0);
	client_works(&clients[0]);
	raw_close(&clients[0]);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static int control_open(const char *path, int *ret_sock)
{
	union {
		struct syn_msg msg;
		struct syn_msg_welcome welcome;
		struct syn_msg_bye bye;
	} m;
	struct syn_msg_hello hello;
	int fds[SYN_FDS_MAX];
	int sock;
	int r;

	assert_int_equal(syn_conn_connect(path, &sock), 0);
	raw_hello(&hello);
	hello.kind = SYN_KIND_CONTROL;
	r = syn_conn_send(sock, &hello.msg, NULL, 0);
	assert_true(!r || r == -EPIPE);
	r = syn_conn_recv(sock, &m, sizeof(m), fds);
	assert_true(r > 0);
	if (m.msg.type == SYN_MSG_WELCOME) {
		*ret_sock = sock;
		return 0;
	}
	(void)close(sock);
	return m.msg.error;
}

/* Not one descriptor left: whoever comes is still told. */
static void test_accept_without_descriptors(void **state)
{
	static const char *const args[] = { "--hbm", "16M", "--host", "16M",
					    NULL };
	struct test_daemon d;
	int socks[NR_CONTROLS];
	int nr = 0;
	int refused = 0;

	(void)state;
	daemon_start_limited(&d, args, 32);
	for (int i = 0; i < NR_CONTROLS; i++) {
		int r = control_open(d.socket, &socks[nr]);

		if (!r)
			nr++;
		else if (r == -EMFILE)
			refused++;
	}
	print_message("%d control connections, %d refused\n", nr, refused);
	assert_true(nr > 0);
	assert_true(refused > 0);
	for (int i = 0; i < nr; i++)
		(void)close(socks[i]);
	test_wait(control_open(d.socket, &socks[0]) == 0, 20);
	(void)close(socks[0]);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_until_full),
		cmocka_unit_test(test_accept_without_descriptors),
	};
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		if (limit.rlim_max < 1024)
			return TEST_SKIP;
	}
	return test_main(tests);
}
