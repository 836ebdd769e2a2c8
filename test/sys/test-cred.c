/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end, and a pidfd of it on a kernel that has none. */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/server/cred.h"
#include "test/test.h"

static bool exited(int pid_fd)
{
	struct pollfd fd = { .fd = pid_fd, .events = POLLIN };

	return poll(&fd, 1, 0) == 1;
}

static void test_self(void **state)
{
	struct syn_cred cred;
	int pair[2];
	int pid_fd;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(syn_cred_get(pair[0], &cred, &pid_fd), 0);
	assert_int_equal(cred.pid, getpid());
	assert_int_equal(cred.uid, getuid());
	assert_int_equal(cred.gid, getgid());
	assert_false(exited(pid_fd));
	(void)close(pid_fd);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

static void test_without_peer_pidfd(void **state)
{
	int pid_fd = -1;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		/* Not even if the test fails does it stay. */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)pause();
	}
	assert_int_equal(syn_cred_pidfd(pid, &pid_fd), 0);
	assert_false(exited(pid_fd));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(exited(pid_fd));
	(void)close(pid_fd);
	/* Nobody of that number is left. */
	assert_int_equal(syn_cred_pidfd(pid, &pid_fd), -ESRCH);
}

static void test_domains(void **state)
{
	const struct syn_cred a = { .pid = 1, .uid = 10, .gid = 1 };
	const struct syn_cred b = { .pid = 2, .uid = 10, .gid = 2 };
	const struct syn_cred c = { .pid = 1, .uid = 11, .gid = 1 };

	(void)state;
	assert_int_equal(syn_cred_domain(&a), syn_cred_domain(&b));
	assert_int_not_equal(syn_cred_domain(&a), syn_cred_domain(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_without_peer_pidfd),
		cmocka_unit_test(test_domains),
	};

	return test_main(tests);
}
