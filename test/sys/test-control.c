/* SPDX-License-Identifier: Apache-2.0 */
/* Questions and orders of synapsectl, and who may give them. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/harness.h"

#define OTHER_UID 65534

static void test_status(void **state)
{
	struct syn_ctl_status before;
	struct syn_ctl_status after;
	struct raw_client c;

	(void)state;
	ctl_status(daemon_of_test.socket, &before);
	assert_int_equal(before.keeper_pid, daemon_of_test.keeper);
	assert_int_equal(before.worker_pid, daemon_of_test.worker);
	assert_int_equal(before.epoch, 1);
	assert_int_equal(before.draining, 0);
	assert_true(before.uptime_ns > 0);
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	ctl_status(daemon_of_test.socket, &after);
	assert_int_equal(after.attaches, before.attaches + 1);
	assert_int_equal(after.nr_sessions, before.nr_sessions + 1);
	raw_close(&c);
	daemon_wait_quiet(&daemon_of_test);
	ctl_status(daemon_of_test.socket, &after);
	assert_int_equal(after.detaches + after.reaped,
			 before.detaches + before.reaped + 1);
}

/* Four leases. */
static void client_with_pages(struct raw_client *c, uint64_t handles[4])
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 4, .cookie = 1 };

	assert_int_equal(raw_attach(c, daemon_of_test.socket), 0);
	assert_int_equal(raw_window(c, 8), 0);
	lease.object = c->window.window;
	assert_int_equal(
		raw_ask(c, &lease, NULL, 0, handles, 4 * sizeof(handles[0]))
			.res,
		0);
}

static void test_tiers_and_pages(void **state)
{
	struct syn_ctl_page pages[SYN_CTL_BATCH];
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];
	struct syn_msg_ctl_reply reply;
	uint64_t handles[4];
	struct raw_client c;

	(void)state;
	client_with_pages(&c, handles);
	ctl_tiers(daemon_of_test.socket, tier);
	assert_int_equal(tier[0].tier, SYN_TIER_HBM);
	assert_int_equal(tier[0].budget_bytes, 16u << 20);
	assert_int_equal(tier[1].tier, SYN_TIER_HOST);
	assert_int_equal(tier[1].budget_bytes, 32u << 20);
	assert_true(tier[0].used_bytes >= 4 * TEST_PAGE_BYTES);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_PAGES, 0, pages,
				 SYN_CTL_BATCH, sizeof(pages[0]), &reply),
			 0);
	assert_int_equal(reply.nr, 4);
	assert_int_equal(reply.next, 0);
	assert_int_equal(pages[0].state, SYN_PAGE_OPEN);
	raw_close(&c);
}

static void test_clients_are_paged(void **state)
{
	struct syn_ctl_client clients[SYN_CTL_BATCH];
	struct syn_msg_ctl_reply reply;
	struct raw_client c[3];
	bool found = false;

	(void)state;
	daemon_wait_quiet(&daemon_of_test);
	for (int i = 0; i < 3; i++)
		assert_int_equal(raw_attach(&c[i], daemon_of_test.socket), 0);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_CLIENTS, 0,
				 clients, SYN_CTL_BATCH, sizeof(clients[0]),
				 &reply),
			 0);
	assert_int_equal(reply.nr, 3);
	assert_int_equal(reply.next, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(clients[i].pid, getpid());
		assert_int_equal(clients[i].uid, getuid());
		assert_int_equal(clients[i].state, SYN_CLIENT_LIVE);
		assert_string_equal(clients[i].name, "raw");
		if (clients[i].session == c[1].welcome.session)
			found = true;
	}
	assert_true(found);
	for (int i = 0; i < 3; i++)
		raw_close(&c[i]);
}

static void test_drain(void **state)
{
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;
	struct raw_client c;

	(void)state;
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_DRAIN, 1, NULL,
				 0, 0, &reply),
			 0);
	ctl_status(daemon_of_test.socket, &status);
	assert_int_equal(status.draining, 1);
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), -ESHUTDOWN);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_DRAIN, 0, NULL,
				 0, 0, &reply),
			 0);
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	raw_close(&c);
}

static int fsck_how(uint64_t cursor, uint64_t how,
		    struct syn_msg_ctl_reply *ret)
{
	return ctl_ask_at(daemon_of_test.socket, SYN_CTL_FSCK, cursor, how,
			  NULL, 0, sizeof(struct syn_ctl_fsck), ret);
}

static int fsck_at(uint64_t cursor, struct syn_msg_ctl_reply *ret)
{
	return fsck_how(cursor, 0, ret);
}

/* In several steps, as there may be many pages; nothing changes meanwhile. */
static void test_fsck(void **state)
{
	struct syn_msg_ctl_reply reply;
	uint64_t handles[4];
	struct raw_client c;

	(void)state;
	client_with_pages(&c, handles);
	assert_true(ctl_fsck(daemon_of_test.socket));
	assert_int_equal(fsck_at(0, &reply), 0);
	assert_int_equal(reply.next, 1);
	raw_close(&c);
	daemon_wait_quiet(&daemon_of_test);
}

/* Nobody goes on with what another one has begun anew, or ended. */
static void test_fsck_begun_anew(void **state)
{
	struct syn_msg_ctl_reply reply;

	(void)state;
	assert_int_equal(fsck_at(0, &reply), 0);
	assert_int_equal(fsck_at(reply.next, &reply), 0);
	assert_int_equal(reply.next, 2);
	assert_true(ctl_fsck(daemon_of_test.socket));
	assert_int_equal(fsck_at(reply.next, &reply), -ESTALE);
	assert_int_equal(fsck_at(0, &reply), 0);
	assert_int_equal(fsck_at(2, &reply), -ESTALE);
}

/* What takes several steps else, and is told to somebody else than who began. */
static void test_fsck_at_once(void **state)
{
	struct syn_msg_ctl_reply reply;

	(void)state;
	assert_int_equal(fsck_at(0, &reply), 0);
	assert_int_equal(reply.next, 1);
	assert_int_equal(fsck_how(0, 1, &reply), 0);
	assert_int_equal(reply.next, 0);
	assert_true(reply.val == 0);
	assert_int_equal(fsck_at(1, &reply), -ESTALE);
	assert_int_equal(fsck_how(0, 2, &reply), -EINVAL);
}

/* A session that comes while it walks: what was counted is not compared. */
static void test_fsck_sees_change(void **state)
{
	struct syn_msg_ctl_reply reply;
	struct raw_client c;

	(void)state;
	assert_int_equal(fsck_at(0, &reply), 0);
	assert_true(reply.val == 0);
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	while (reply.next)
		assert_int_equal(fsck_at(reply.next, &reply), 0);
	assert_true(reply.val == SYN_FSCK_MOVED);
	raw_close(&c);
}

static void test_bad_orders(void **state)
{
	struct syn_msg_ctl_reply reply;

	(void)state;
	assert_int_equal(
		ctl_ask(daemon_of_test.socket, 0, 0, NULL, 0, 0, &reply),
		-EOPNOTSUPP);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_UPGRADE + 1, 0,
				 NULL, 0, 0, &reply),
			 -EOPNOTSUPP);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_STATUS, 1, NULL,
				 0, 0, &reply),
			 -EINVAL);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_UPGRADE, 1,
				 NULL, 0, 0, &reply),
			 -EINVAL);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_DRAIN, 2, NULL,
				 0, 0, &reply),
			 -EINVAL);
	assert_int_equal(ctl_ask(daemon_of_test.socket, SYN_CTL_EVICT, 5, NULL,
				 0, 0, &reply),
			 0);
	assert_int_equal(reply.val, 0);
}

static void test_bad_messages_end_it(void **state)
{
	struct syn_msg_hello hello;
	union {
		struct syn_msg msg;
		struct syn_msg_bye bye;
		struct syn_msg_welcome welcome;
	} m;
	int fds[SYN_FDS_MAX];
	int sock;

	(void)state;
	assert_int_equal(syn_conn_connect(daemon_of_test.socket, &sock), 0);
	raw_hello(&hello);
	hello.kind = SYN_KIND_CONTROL;
	assert_int_equal(syn_conn_send(sock, &hello.msg, NULL, 0), 0);
	assert_int_equal(syn_conn_recv(sock, &m, sizeof(m), fds),
			 sizeof(m.welcome));
	assert_int_equal(m.msg.nr_fds, 0);
	assert_int_equal(m.welcome.client_bytes, 0);
	assert_int_equal(syn_conn_send(sock, &hello.msg, NULL, 0), 0);
	assert_int_equal(syn_conn_recv(sock, &m, sizeof(m), fds),
			 sizeof(m.bye));
	assert_int_equal(m.msg.type, SYN_MSG_BYE);
	assert_int_equal(m.msg.error, -EPROTO);
	(void)close(sock);
}

/* In a child, because a uid once given up does not come back. */
static int other_user(const char *path)
{
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;

	if (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0)
		return TEST_SKIP;
	if (ctl_ask(path, SYN_CTL_STATUS, 0, &status, 1, sizeof(status),
		    &reply))
		return 1;
	for (uint32_t op = SYN_CTL_TIERS; op <= SYN_CTL_UPGRADE; op++)
		if (ctl_ask(path, op, 0, NULL, 0, 0, &reply) != -EACCES)
			return 2;
	return 0;
}

static void test_other_user(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (getuid() != 0)
		skip();
	assert_int_equal(chmod(daemon_of_test.dir, 0755), 0);
	pid = fork_child();
	if (pid == 0)
		_exit(other_user(daemon_of_test.socket));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	static const char *const args[] = {
		"--hbm", "16M",		"--host",  "32M", "--socket-mode",
		"0666",	 "--max-pages", "4194304", NULL
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_tiers_and_pages),
		cmocka_unit_test(test_clients_are_paged),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_fsck),
		cmocka_unit_test(test_fsck_begun_anew),
		cmocka_unit_test(test_fsck_at_once),
		cmocka_unit_test(test_fsck_sees_change),
		cmocka_unit_test(test_bad_orders),
		cmocka_unit_test(test_bad_messages_end_it),
		cmocka_unit_test(test_other_user),
	};

	test_watchdog();
	return daemon_run_tests(tests, args);
}
