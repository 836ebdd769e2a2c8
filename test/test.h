/* SPDX-License-Identifier: Apache-2.0 */
/* What every test program begins with: cmocka, a watchdog, a count of fds. */
#ifndef SYN_TEST_TEST_H
#define SYN_TEST_TEST_H

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

/* What meson takes for "skipped". */
#define TEST_SKIP 77

/* A test asserts no upper bound on time; this ends one that hangs. */
#define TEST_WATCHDOG_S 60

static inline void test_watchdog(void)
{
	const char *longer_s = getenv("SYN_TEST_WATCHDOG_S");

	(void)alarm(longer_s ? (unsigned int)atoi(longer_s) : TEST_WATCHDOG_S);
}

/* A longer test than most, or one of several parts: so much from now on. */
static inline void test_patience(unsigned int seconds)
{
	if (!getenv("SYN_TEST_WATCHDOG_S"))
		(void)alarm(seconds);
}

/* A child that ends with the test, which may have hung and be ended. */
static inline pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* Without "." and "..". */
static inline int test_count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int nr = 0;

	if (!dir)
		return -1;
	while (readdir(dir))
		nr++;
	(void)closedir(dir);
	return nr - 2;
}

/* The descriptors this process holds, without the one that counts them. */
static inline int test_count_fds(void)
{
	return test_count_entries("/proc/self/fd") - 1;
}

/* A thread that was joined may count for a moment. */
static inline int test_count_threads(void)
{
	return test_count_entries("/proc/self/task");
}

/* The last line of main(): runs the group under the watchdog. */
#define test_main(tests)                                                       \
	(test_watchdog(), cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0)

#endif
