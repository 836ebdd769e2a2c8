/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end, and a pidfd of it on a kernel that has none. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
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
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
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

/* What the kernel says of this process, from the line of the v2 hierarchy. */
static void own_cgroup(char *ret, size_t max)
{
	char line[4096];
	FILE *file = fopen("/proc/self/cgroup", "re");

	assert_non_null(file);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "0::", 3))
			(void)snprintf(ret, max, "%s", line + 3);
	}
	(void)fclose(file);
}

static void test_cgroup(void **state)
{
	char want[4096];
	char got[16384];
	int pid_fd = -1;
	pid_t pid;

	(void)state;
	own_cgroup(want, sizeof(want));
	assert_int_equal(syn_cred_pidfd(getpid(), &pid_fd), 0);
	assert_int_equal(syn_cred_cgroup(getpid(), pid_fd, got, sizeof(got)),
			 0);
	assert_string_equal(got, want);
	assert_int_equal(syn_cred_cgroup(getpid(), pid_fd, got, 4),
			 -ENAMETOOLONG);
	(void)close(pid_fd);
	/* A dead process's number may be another one's; a zombie has none. */
	pid = fork_child();
	if (pid == 0) {
		for (;;)
			(void)pause();
	}
	assert_int_equal(syn_cred_pidfd(pid, &pid_fd), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT), 0);
	assert_int_equal(syn_cred_cgroup(getpid(), pid_fd, got, sizeof(got)),
			 -ESRCH);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(syn_cred_cgroup(pid, pid_fd, got, sizeof(got)),
			 -ESRCH);
	(void)close(pid_fd);
}

static void on_alarm(int signo)
{
	(void)signo;
}

/* A daemon has signals; whoever attaches meanwhile does not hear of them. */
static void test_signals(void **state)
{
	const struct itimerval often = { { 0, 50 }, { 0, 50 } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	char got[16384];
	int pid_fd;
	int r = 0;

	(void)state;
	assert_int_equal(syn_cred_pidfd(getpid(), &pid_fd), 0);
	(void)signal(SIGALRM, on_alarm);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	for (int i = 0; i < 4000 && !r; i++)
		r = syn_cred_cgroup(getpid(), pid_fd, got, sizeof(got));
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	(void)signal(SIGALRM, SIG_DFL);
	test_watchdog();
	assert_int_equal(r, 0);
	(void)close(pid_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_without_peer_pidfd),
		cmocka_unit_test(test_cgroup),
		cmocka_unit_test(test_signals),
	};

	return test_main(tests);
}
