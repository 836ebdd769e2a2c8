/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets and nodes that this machine, or its cgroup, does not have. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "numa/topology.h"
#include "test/sys/harness.h"

#define MIB ((uint64_t)1024 * 1024)

static struct syn_numa machine;

static int group_setup(void **state)
{
	(void)state;
	syn_numa_read(&machine);
	return 0;
}

/* --check-config with one option more; what it wrote is in @log. */
static int check(const char *flag, const char *value, char *log, size_t max)
{
	const char *const args[] = { "--check-config",
				     "--hbm",
				     "16M",
				     "--host",
				     "32M",
				     flag,
				     value,
				     NULL };

	return daemon_run(args, log, max);
}

static void expect_refusal(const char *flag, const char *value,
			   const char *what)
{
	char log[4096];
	int status = check(flag, value, log, sizeof(log));

	if (!strstr(log, what))
		print_message("%s %s: got %s", flag, value, log);
	assert_int_equal(status, 1 << 8);
	assert_non_null(strstr(log, what));
	/* One line. */
	assert_ptr_equal(strchr(log, '\n'), log + strlen(log) - 1);
}

static void expect_line(const char *flag, const char *value, const char *line)
{
	char log[4096];

	assert_int_equal(check(flag, value, log, sizeof(log)), 0);
	if (!strstr(log, line))
		print_message("%s %s: got %s", flag, value, log);
	assert_non_null(strstr(log, line));
}

static void test_values(void **state)
{
	(void)state;
	expect_refusal("--hbm-node", "64", "a node from 0 to 63");
	expect_refusal("--hbm-node", "one", "expected \"auto\" or a node");
	expect_refusal("--hbm-node", "-1", "expected \"auto\" or a node");
	expect_refusal("--hbm-node", "", "expected \"auto\" or a node");
	expect_refusal("--host-nodes", "64", "as in 0,1");
	expect_refusal("--host-nodes", "0,", "as in 0,1");
	expect_refusal("--host-nodes", "0,,1", "as in 0,1");
	expect_refusal("--host-nodes", "0,0", "as in 0,1");
	expect_refusal("--host-nodes", "0 1", "as in 0,1");
	expect_refusal("--host", "0%", "a share from 1% to 100%");
	expect_refusal("--host", "101%", "a share from 1% to 100%");
	expect_refusal("--host", "50%%", "a share from 1% to 100%");
	expect_refusal("--host", "%", "a share from 1% to 100%");
}

static void test_no_such_node(void **state)
{
	char text[16];
	int node = 0;

	(void)state;
	while ((machine.memory | machine.cpus) >> node & 1)
		node++;
	(void)snprintf(text, sizeof(text), "%d", node);
	expect_refusal("--hbm-node", text, "[hbm] node: ");
	expect_refusal("--host-nodes", text, "[host] nodes: ");
}

static void test_nodes_taken(void **state)
{
	int node = __builtin_ctzll(machine.memory);
	char text[16];
	char line[32];

	(void)state;
	(void)snprintf(text, sizeof(text), "%d", node);
	(void)snprintf(line, sizeof(line), "\nnode = %d\n", node);
	expect_line("--hbm-node", text, line);
	expect_line("--hbm-node", "auto", "\nnode = auto\n");
	(void)snprintf(line, sizeof(line), "\nnodes = %d\n", node);
	expect_line("--host-nodes", text, line);
	expect_line("--host-nodes", "auto", "\nnodes = auto\n");
}

/* What is printed is bytes: of which limit, the file cannot say. */
static void test_share(void **state)
{
	unsigned long long tenth;
	unsigned long long half;
	char log[4096];

	(void)state;
	assert_int_equal(check("--host", "10%", log, sizeof(log)), 0);
	assert_int_equal(
		sscanf(strstr(log, "[host]"), "[host]\nbudget = %lluM", &tenth),
		1);
	assert_int_equal(check("--host", "50%", log, sizeof(log)), 0);
	assert_int_equal(
		sscanf(strstr(log, "[host]"), "[host]\nbudget = %lluM", &half),
		1);
	assert_true(half >= 5 * tenth && half <= 5 * tenth + 5);
	expect_refusal("--host", "100%", "[hbm] budget and [host] budget: ");
}

static void test_too_much(void **state)
{
	struct syn_numa_memory memory;
	char figure[96];

	(void)state;
	assert_int_equal(syn_numa_memory(&machine, machine.memory, &memory), 0);
	(void)snprintf(figure, sizeof(figure),
		       "this machine's %llu MiB together, got 16 + 1048576 MiB",
		       (unsigned long long)(memory.total / MIB));
	expect_refusal("--host", "1T", figure);
}

/* One line for each node in use. */
static void test_log(void **state)
{
	static const char *const args[] = { "--hbm", "16M", "--host", "16M",
					    NULL };
	struct test_daemon d;
	char log[4096];
	ssize_t n;

	(void)state;
	daemon_start(&d, args);
	n = pread(d.log_fd, log, sizeof(log) - 1, 0);
	assert_true(n > 0);
	log[n] = '\0';
	assert_non_null(strstr(log, "HBM and host memory, "));
	assert_non_null(strstr(log, "info: node "));
	daemon_stop(&d);
}

/* ---- cgroups ------------------------------------------------------------ */

static const struct {
	const char *mount;
	const char *file;
} hierarchies[] = {
	{ "/sys/fs/cgroup/memory", "memory.limit_in_bytes" },
	{ "/sys/fs/cgroup", "memory.max" },
};

static bool file_put(const char *dir, const char *name, const char *text)
{
	size_t len = strlen(text);
	char path[256];
	bool good;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	good = write(fd, text, len) == (ssize_t)len;
	(void)close(fd);
	return good;
}

/* A cgroup of 64 MiB of our own; false where we may not make one. */
static bool cgroup_make(char *dir, size_t max)
{
	for (size_t i = 0; i < syn_array_size(hierarchies); i++) {
		(void)snprintf(dir, max, "%s/synapse-test-%d",
			       hierarchies[i].mount, (int)getpid());
		if (mkdir(dir, 0755))
			continue;
		if (file_put(dir, hierarchies[i].file, "67108864"))
			return true;
		(void)rmdir(dir);
	}
	return false;
}

static void test_cgroup(void **state)
{
	char dir[128];
	int status;
	pid_t pid;

	(void)state;
	if (!cgroup_make(dir, sizeof(dir)))
		skip();
	pid = fork_child();
	if (pid == 0) {
		if (!file_put(dir, "cgroup.procs", "0"))
			_exit(TEST_SKIP);
		expect_refusal("--host", "60M",
			       "'s 64 MiB together, got 16 + "
			       "60 MiB");
		expect_refusal("--host", "60M", "cgroup /");
		expect_refusal("--host", "1%", "1% of 64 MiB is less than");
		expect_line("--host", "48M", "[host]\nbudget = 48M\n");
		expect_line("--host", "50%", "[host]\nbudget = 32M\n");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	test_wait(rmdir(dir) == 0, 5);
	if (status == TEST_SKIP << 8)
		skip();
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_no_such_node),
		cmocka_unit_test(test_nodes_taken),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_cgroup),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, NULL) ? 1 : 0;
}
