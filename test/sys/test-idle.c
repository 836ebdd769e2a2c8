/* SPDX-License-Identifier: Apache-2.0 */
/* An idle daemon does not run, however many clients are attached. */
#include <stdio.h>
#include <sys/resource.h>

#include "core/base/base.h"
#include "test/sys/harness.h"

#define NR_CLIENTS 256
#define SETTLE_MS  500
#define WATCH_MS   3000

static unsigned long line_value(const char *path, const char *what)
{
	unsigned long sum = 0;
	unsigned long value;
	char line[256];
	FILE *file = fopen(path, "re");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (strstr(line, what) &&
		    sscanf(strchr(line, ':'), ":%lu", &value) == 1)
			sum += value;
	(void)fclose(file);
	return sum;
}

/* Of all threads, voluntary and not. */
static unsigned long switches_of(pid_t pid)
{
	char path[300];
	unsigned long sum = 0;
	struct dirent *entry;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/status",
			       (int)pid, entry->d_name);
		sum += line_value(path, "ctxt_switches");
	}
	(void)closedir(dir);
	return sum;
}

static void test_idle(void **state)
{
	const struct syn_sqe nop = { .op = SYN_OP_NOP, .cookie = 1 };
	static struct raw_client c[NR_CLIENTS];
	static const char *const args[] = { "--hbm", "64M", "--host", "64M",
					    NULL };
	struct test_daemon d;
	unsigned long worker;
	unsigned long keeper;

	(void)state;
	daemon_start(&d, args);
	for (int i = 0; i < NR_CLIENTS; i++) {
		assert_int_equal(raw_attach(&c[i], d.socket), 0);
		if (i < 8)
			assert_int_equal(raw_window(&c[i], 16), 0);
		assert_int_equal(raw_ask(&c[i], &nop, NULL, 0, NULL, 0).res, 0);
	}
	sleep_ms(SETTLE_MS);
	worker = switches_of(d.worker);
	keeper = switches_of(d.keeper);
	assert_true(worker > 0);
	sleep_ms(WATCH_MS);
	assert_int_equal(switches_of(d.worker), worker);
	assert_int_equal(switches_of(d.keeper), keeper);
	/* And it still answers every one. */
	for (int i = 0; i < NR_CLIENTS; i++) {
		assert_int_equal(raw_ask(&c[i], &nop, NULL, 0, NULL, 0).res, 0);
		raw_close(&c[i]);
	}
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle),
	};
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		if (limit.rlim_max < 4 * NR_CLIENTS + 64)
			return TEST_SKIP;
	}
	return test_main(tests);
}
