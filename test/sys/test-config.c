/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: what is taken, what is refused, and with which words. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "kernels/dev-cuda.h"
#include "test/sys/harness.h"
#include "tools/synapsed/config.h"
#include "tools/synapsed/tenant.h"

#define OTHER_UID 65534

static char dir[] = "/tmp/synapse-config-XXXXXX";
static char path[64];

static int group_setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

static void file_write(const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* --check-config on @text: the wait status, and what it wrote. */
static int check(const char *text, char *ret_log, size_t max)
{
	const char *const args[] = { "--check-config", "--config", path, NULL };

	file_write(text);
	return daemon_run(args, ret_log, max);
}

/* @what must be in the one line that is written, after file and @line. */
static void expect_refusal(const char *text, int line, const char *what)
{
	char log[4096];
	char where[128];
	int status = check(text, log, sizeof(log));

	(void)snprintf(where, sizeof(where), "%s:%d: ", path, line);
	if (!strstr(log, where) || !strstr(log, what))
		print_message("%s: got %s", text, log);
	assert_int_equal(status, 1 << 8);
	assert_non_null(strstr(log, where));
	assert_non_null(strstr(log, what));
	assert_ptr_equal(strchr(log, '\n'), log + strlen(log) - 1);
}

static void test_good(void **state)
{
	char log[4096];

	(void)state;
	assert_int_equal(check("; a comment\n"
			       "[daemon]\n"
			       "socket = /tmp/x/y.sock\n"
			       "socket_mode = 0600\n"
			       "log_level = debug\n"
			       "max_sessions = 10\n"
			       "max_pages = 1000\n"
			       "[hbm]\n"
			       "budget = 8M ; inline\n"
			       "device = host\n"
			       "[host]\n"
			       "budget = 16384K\n"
			       "lock = no\n"
			       "huge_pages = yes\n"
			       "[nvme]\n"
			       "file = /var/lib/synapse/swap\n"
			       "[ladder]\n"
			       "host = h4\n"
			       "[reclaim]\n"
			       "low = 5%\n"
			       "high = 50%\n",
			       log, sizeof(log)),
			 0);
	assert_non_null(strstr(log, "file = /var/lib/synapse/swap\n"));
	assert_non_null(strstr(log, "host = h4\n"));
	assert_non_null(strstr(log, "socket = /tmp/x/y.sock\n"));
	assert_non_null(strstr(log, "socket_mode = 0600\n"));
	assert_non_null(strstr(log, "log_level = debug\n"));
	assert_non_null(strstr(log, "max_sessions = 10\n"));
	assert_non_null(strstr(log, "budget = 8M\n"));
	assert_non_null(strstr(log, "budget = 16M\n"));
	assert_non_null(strstr(log, "huge_pages = yes\n"));
	assert_non_null(strstr(log, "low = 5%\n"));
	/* What it prints is a file that gives the same. */
	{
		char again[4096];

		assert_int_equal(check(log, again, sizeof(again)), 0);
		assert_string_equal(log, again);
	}
}

static void test_lines(void **state)
{
	char longer[600];

	(void)state;
	expect_refusal("[daemon]\nsokcet = /x\n", 2, "sokcet: unknown key");
	expect_refusal("\n[demon]\nsocket = /x\n", 3, "[demon]: expected");
	expect_refusal("socket = /x\n", 1, "[]: expected");
	expect_refusal("[hbm]\nbudget\n", 2, "expected \"[section]\" or");
	expect_refusal("[hbm\nbudget = 8M\n", 1, "expected \"[section]\" or");
	expect_refusal("[hbm]\nbudget = 8M\nbudget = 9M\n", 3,
		       "budget: expected once");
	expect_refusal("[hbm]\nbudget = 8M\n  9M\n", 3,
		       "budget: expected once");
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, "[daemon]\nsocket = ", 18);
	longer[sizeof(longer) - 1] = '\0';
	expect_refusal(longer, 2, "longer than");
}

static void test_values(void **state)
{
	static const struct {
		const char *text;
		const char *what;
	} bad[] = {
		{ "[hbm]\nbudget = much", "expected a size" },
		{ "[hbm]\nbudget = 8X", "expected a size" },
		{ "[hbm]\nbudget = 8MB", "expected a size" },
		{ "[hbm]\nbudget = -8M", "expected a size" },
		{ "[hbm]\nbudget = 1.5G", "expected a size" },
		{ "[hbm]\nbudget =", "expected a size" },
		{ "[hbm]\nbudget = 1M", "from 4M" },
		{ "[hbm]\nbudget = 99999T", "to 64T" },
		{ "[hbm]\nbudget = 99999999999999999999999", "expected" },
		{ "[hbm]\ndevice = gpu", "expected \"host\", \"cuda\" or" },
		{ "[hbm]\ndevice = CUDA", "expected \"host\", \"cuda\" or" },
		{ "[hbm]\ndevice = GPU-0", "a GPU's UUID" },
		{ "[hbm]\ndevice = GPU-01234567-89ab-cdef-0123-456789abcde",
		  "a GPU's UUID" },
		{ "[hbm]\ndevice = GPU-01234567-89ab-cdef-0123-456789abcdef0",
		  "a GPU's UUID" },
		{ "[hbm]\ndevice = GPU-01234567-89ab-cdef-0123-456789ABCDEF",
		  "a GPU's UUID" },
		{ "[hbm]\ndevice = GPU-0123456789ab-cdef-0123-4567-89abcdef",
		  "a GPU's UUID" },
		{ "[host]\nlock = maybe", "expected \"yes\" or \"no\"" },
		{ "[host]\nhuge_pages = 1", "expected \"yes\" or \"no\"" },
		{ "[ladder]\nhost = h9", "expected \"raw16\" or \"h4\"" },
		{ "[ladder]\nhost =", "expected \"raw16\" or \"h4\"" },
		{ "[reclaim]\nlow = 10", "expected a share" },
		{ "[reclaim]\nlow = 101%", "expected a share" },
		{ "[daemon]\nlog_level = loud", "expected \"error\"" },
		{ "[daemon]\nsocket_mode = 0999", "octal" },
		{ "[daemon]\nsocket_mode = 7777", "octal" },
		{ "[daemon]\nsocket_mode = rw", "octal" },
		{ "[daemon]\nmax_sessions = 0", "from 1 to 65536" },
		{ "[daemon]\nmax_sessions = 70000", "from 1 to 65536" },
		{ "[daemon]\nmax_pages = 10K", "a number from 64" },
		{ "[daemon]\nsocket =", "a path of 1 to 107" },
		{ "[daemon]\nsocket = /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		  "a path of 1 to 107" },
	};

	(void)state;
	for (size_t i = 0; i < syn_array_size(bad); i++)
		expect_refusal(bad[i].text, 2, bad[i].what);
}

/* [quota] and [tenant NAME]; the mistake is in the last line. */
static void test_tenants(void **state)
{
	static const struct {
		const char *text;
		const char *what;
	} bad[] = {
		{ "[daemon]\ndomain = uid", "expected \"socket\"" },
		{ "[quota]\nhbm_min = much", "or \"none\"" },
		{ "[quota]\nhbm_most = 1M",
		  "hbm_most: unknown key in [quota]" },
		{ "[quota]\nsocket = /x/s", "socket: unknown key in [quota]" },
		{ "[quota]\nhbm_min = 1M\nhbm_min = 1M",
		  "hbm_min: expected once" },
		{ "[quota]\nhbm_min = 2M\nhbm_max = 1M",
		  "hbm_max: expected min <= high <= max" },
		{ "[quota]\nhost_max = 1M\nhost_min = 2M",
		  "host_min: expected min <= high <= max" },
		{ "[quota]\nnvme_high = 2M\nnvme_max = 1M",
		  "nvme_max: expected min <= high <= max" },
		{ "[quota]\nhbm_min = 2M\nhbm_high = 1M",
		  "hbm_high: expected min <= high <= max" },
		{ "[tenant a]", "socket: expected in [tenant a]" },
		{ "[tenant ]", "expected [tenant NAME]" },
		{ "[tenant]", "expected [tenant NAME]" },
		{ "[tenant a b]", "expected [tenant NAME]" },
		{ "[tenant abcdefghijklmnopqrstuvwxyz012345]",
		  "expected [tenant NAME]" },
		{ "[tenant a]\nbudget = 1M", "budget: unknown key" },
		{ "[tenant a]\nsocket = /x/a/s\n[tenant b]\n"
		  "socket = /x/a/t",
		  "socket: expected in a directory of its own" },
		{ "[quota]\nhbm_max = 1M\n[tenant a]\nsocket = /x/a/s\n"
		  "hbm_min = 2M",
		  "hbm_min: expected min <= high <= max" },
	};

	(void)state;
	for (size_t i = 0; i < syn_array_size(bad); i++) {
		int line = 1;

		for (const char *at = bad[i].text; *at; at++)
			line += *at == '\n';
		expect_refusal(bad[i].text, line, bad[i].what);
	}
}

static void test_too_many_tenants(void **state)
{
	char text[2048] = "";
	size_t used = 0;

	(void)state;
	for (unsigned int i = 1; i <= SYN_TENANTS_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "[tenant t%u]\nsocket = /x/t%u/s\n", i,
					 i);
	expect_refusal(text, 2 * (int)SYN_TENANTS_MAX - 1, "15 at most");
	*strstr(text, "[tenant t16]") = '\0';
	{
		char log[8192];

		assert_int_equal(check(text, log, sizeof(log)), 0);
	}
}

/* A tenant has what [quota] says unless it says better, wherever it stands. */
static void test_tenants_inherit(void **state)
{
	char again[4096];
	char log[4096];
	char *tenant;

	(void)state;
	assert_int_equal(check("[daemon]\ndomain = socket,uid\n"
			       "[tenant a]\nsocket = /x/a/s\n"
			       "host_max = 8M\nnvme_max = 0\n"
			       "[quota]\nhost_min = 2M\nhost_max = 4M\n",
			       log, sizeof(log)),
			 0);
	assert_non_null(strstr(log, "domain = socket,uid\n"));
	tenant = strstr(log, "[tenant a]\nsocket = /x/a/s\n");
	assert_non_null(tenant);
	assert_non_null(strstr(tenant, "hbm_min = none\n"));
	assert_non_null(strstr(tenant, "host_min = 2M\n"));
	assert_non_null(strstr(tenant, "host_max = 8M\n"));
	assert_non_null(strstr(tenant, "nvme_max = 0\n"));
	assert_int_equal(check(log, again, sizeof(again)), 0);
	assert_string_equal(log, again);
}

static void expect_log(const char *const *args, int status, const char *what)
{
	char log[4096];

	assert_int_equal(daemon_run(args, log, sizeof(log)), status);
	if (!strstr(log, what))
		print_message("got %s", log);
	assert_non_null(strstr(log, what));
}

static void test_all_together(void **state)
{
	char log[4096];

	(void)state;
	assert_int_equal(
		check("[reclaim]\nlow = 50%\nhigh = 50%\n", log, sizeof(log)),
		1 << 8);
	assert_non_null(strstr(log, "expected less than high"));
	/* None is what there is without: an empty one is no mistake. */
	assert_int_equal(check("[nvme]\nfile =\n", log, sizeof(log)), 0);
	assert_non_null(strstr(log, "[nvme]\nfile = \n"));
	assert_int_equal(check("[hbm]\nbudget = 60T\n", log, sizeof(log)),
			 1 << 8);
	assert_non_null(strstr(log, "no more than this machine's"));
	assert_int_equal(check("[hbm]\nbudget = 8M\n[tenant a]\n"
			       "socket = /x/a/s\nhbm_min = 9M\n",
			       log, sizeof(log)),
			 1 << 8);
	assert_non_null(strstr(log, "[tenant a] hbm_min: expected no more"));
	/* A share of the machine is known by then. */
	assert_int_equal(check("[host]\nbudget = 10%\n[tenant a]\n"
			       "socket = /x/a/s\nhost_min = 60T\n",
			       log, sizeof(log)),
			 1 << 8);
	assert_non_null(strstr(log, "[tenant a] host_min: expected no more"));
	assert_int_equal(check("[daemon]\nsocket = /x/a/s\n"
			       "[tenant a]\nsocket = /x/a/t\n",
			       log, sizeof(log)),
			 1 << 8);
	assert_non_null(strstr(log, "[tenant a] socket: expected in another"));
}

/* A GPU's HBM is none of the host's, so only who opens it can refuse it. */
static void test_gpu_device(void **state)
{
	static const char *const names[] = {
		"cuda", "GPU-01234567-89ab-cdef-0123-456789abcdef"
	};
	char text[128];
	char log[4096];

	(void)state;
	for (size_t i = 0; i < syn_array_size(names); i++) {
		int status;

		(void)snprintf(text, sizeof(text),
			       "[hbm]\nbudget = 60T\ndevice = %s\n", names[i]);
		status = check(text, log, sizeof(log));
		if (!syn_dev_cuda_built()) {
			assert_int_equal(status, 1 << 8);
			assert_non_null(strstr(log, names[i]));
			assert_non_null(strstr(log, "no CUDA backend"));
			continue;
		}
		assert_int_equal(status, 0);
		(void)snprintf(text, sizeof(text), "device = %s\n", names[i]);
		assert_non_null(strstr(log, text));
	}
	if (syn_dev_cuda_built()) {
		assert_int_equal(check("[hbm]\ndevice = cuda\n"
				       "[host]\nbudget = 60T\n",
				       log, sizeof(log)),
				 1 << 8);
		assert_non_null(strstr(log, "[host] budget: expected no more"));
	}
}

/* Nobody falls back to ordinary memory. */
static void test_no_such_gpu(void **state)
{
	char socket[128];
	const char *const args[] = { "--config", path, "--socket", socket,
				     NULL };
	char log[4096];

	(void)state;
	file_write("[hbm]\n"
		   "device = GPU-00000000-0000-0000-0000-000000000000\n");
	(void)snprintf(socket, sizeof(socket), "%s/sock", dir);
	assert_int_equal(daemon_run(args, log, sizeof(log)), 1 << 8);
	if (!syn_dev_cuda_built())
		assert_non_null(strstr(log, "no CUDA backend"));
	else
		assert_non_null(strstr(log, "[hbm] device: GPU-00000000-"));
}

static void test_precedence(void **state)
{
	const char *const args[] = { "--check-config", "--config", path,
				     "--host",	       "11M",	   NULL };

	(void)state;
	file_write("[hbm]\nbudget = 7M\n[host]\nbudget = 7M\n"
		   "[daemon]\nmax_pages = 777\n");
	assert_int_equal(setenv("SYNAPSE_HBM_BUDGET", "9M", 1), 0);
	assert_int_equal(setenv("SYNAPSE_HOST_BUDGET", "9M", 1), 0);
	expect_log(args, 0, "[hbm]\nbudget = 9M\n");
	expect_log(args, 0, "[host]\nbudget = 11M\n");
	expect_log(args, 0, "max_pages = 777\n");
	assert_int_equal(setenv("SYNAPSE_HOST_BUDGET", "lots", 1), 0);
	expect_log(args, 1 << 8, "SYNAPSE_HOST_BUDGET: \"lots\": expected");
	assert_int_equal(unsetenv("SYNAPSE_HBM_BUDGET"), 0);
	assert_int_equal(unsetenv("SYNAPSE_HOST_BUDGET"), 0);
}

static void test_command_line(void **state)
{
	(void)state;
	expect_log((const char *const[]){ "--help", NULL }, 0, "usage:");
	expect_log((const char *const[]){ "--version", NULL }, 0, SYN_VERSION);
	expect_log((const char *const[]){ "--wrong", NULL }, 2 << 8, "wrong");
	expect_log((const char *const[]){ "extra", NULL }, 2 << 8, "extra");
	expect_log((const char *const[]){ "--hbm", "x", NULL }, 1 << 8,
		   "--hbm: \"x\": expected a size");
}

static void test_files(void **state)
{
	static const char *const missing[] = { "--config", "/nowhere/x.conf",
					       NULL };
	const char *const directory[] = { "--config", dir, NULL };
	const char *const nowhere[] = { "--socket", "/nowhere/at/all/s", NULL };

	(void)state;
	expect_log(missing, 1 << 8, "/nowhere/x.conf: No such file");
	expect_log(directory, 1 << 8, dir);
	expect_log(nowhere, 1 << 8, "/nowhere/at/all: no such directory");
}

/* In a child, because a uid once given up does not come back. */
static void test_unreadable(void **state)
{
	const char *const args[] = { "--check-config", "--config", path, NULL };
	int status;
	pid_t pid;

	(void)state;
	if (getuid() != 0)
		skip();
	file_write("[hbm]\nbudget = 8M\n");
	assert_int_equal(chmod(path, 0600), 0);
	pid = fork_child();
	if (pid == 0) {
		char log[1024];

		if (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0)
			_exit(3);
		/* The tree may lie where only its owner can go. */
		if (access(TEST_SYNAPSED, X_OK))
			_exit(77);
		_exit(daemon_run(args, log, sizeof(log)) == 1 << 8 &&
				      strstr(log, "Permission denied")
			      ? 0
			      : 1);
	}
	assert_int_equal(chmod(dir, 0755), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status == 77 << 8)
		skip();
	assert_int_equal(status, 0);
}

static void test_socket_in_use(void **state)
{
	static const char *const budgets[] = { "--hbm", "16M", "--host", "16M",
					       NULL };
	const char *args[] = { "--socket", NULL,  "--hbm", "16M",
			       "--host",   "16M", NULL };
	struct test_daemon d;

	(void)state;
	daemon_start(&d, budgets);
	args[1] = d.socket;
	expect_log(args, 1 << 8, "a daemon answers there already");
	/* It has taken nothing from the one that runs. */
	daemon_wait_worker(&d, 0);
	daemon_stop(&d);
}

/* A file that a killed daemon has left is no obstacle. */
static void test_stale_socket(void **state)
{
	static const char *const args[] = { "--hbm", "16M",	      "--host",
					    "16M",   "--socket-mode", "0640",
					    NULL };
	const char *stale[] = { "--socket", NULL,  "--hbm", "16M",
				"--host",   "16M", NULL };
	struct test_daemon d;
	struct stat st;
	char log[4096];
	char other[128];
	pid_t pid;

	(void)state;
	daemon_start(&d, args);
	assert_int_equal(stat(d.socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	(void)snprintf(other, sizeof(other), "%s/other", d.dir);
	/* A hard link outlives the daemon: nobody listens behind it. */
	assert_int_equal(link(d.socket, other), 0);
	assert_int_equal(kill(d.keeper, SIGTERM), 0);
	assert_int_equal(waitpid(d.keeper, NULL, 0), d.keeper);
	assert_int_equal(access(other, F_OK), 0);
	stale[1] = other;
	pid = fork_child();
	if (pid == 0)
		_exit(daemon_run(stale, log, sizeof(log)) == 0 ? 0 : 1);
	{
		struct syn_msg_ctl_reply reply;
		struct syn_ctl_status status = { 0 };

		test_wait(ctl_ask(other, SYN_CTL_STATUS, 0, &status, 1,
				  sizeof(status), &reply) == 0,
			  20);
		assert_int_equal(kill((pid_t)status.keeper_pid, SIGTERM), 0);
	}
	{
		int status;

		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	assert_int_equal(rmdir(d.dir), 0);
	(void)close(d.log_fd);
}

/* What a service manager hears. */
static void test_notify(void **state)
{
	static const char *const args[] = { "--hbm", "16M", "--host", "16M",
					    NULL };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct test_daemon d;
	char text[64];
	ssize_t n;
	int sock;

	(void)state;
	if (!SYN_HAVE_SYSTEMD)
		skip();
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(sock >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/n", dir);
	assert_int_equal(bind(sock, (const void *)&addr, sizeof(addr)), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", addr.sun_path, 1), 0);
	daemon_start(&d, args);
	n = recv(sock, text, sizeof(text) - 1, 0);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "READY=1");
	daemon_stop(&d);
	n = recv(sock, text, sizeof(text) - 1, 0);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "STOPPING=1");
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	assert_int_equal(unlink(addr.sun_path), 0);
	(void)close(sock);
}

/* ---- the manual --------------------------------------------------------- */

static void text_read(const char *name, char *to, size_t max)
{
	char file_path[512];
	FILE *file;
	size_t n;

	(void)snprintf(file_path, sizeof(file_path), "%s/%s", TEST_MAN, name);
	file = fopen(file_path, "re");
	assert_non_null(file);
	n = fread(to, 1, max - 1, file);
	to[n] = '\0';
	(void)fclose(file);
}

/* One table drives it all, and the manual says the same. */
static void test_manual(void **state)
{
	const struct syn_option *options;
	char conf[16384];
	char daemon[16384];
	size_t nr;

	(void)state;
	text_read("synapse.conf.5.rst", conf, sizeof(conf));
	text_read("synapsed.8.rst", daemon, sizeof(daemon));
	options = syn_config_options(&nr);
	for (size_t i = 0; i < nr; i++) {
		char entry[256];
		char flag[64];

		(void)snprintf(entry, sizeof(entry),
			       "**%s** (*--%s*, **%s**, %s)\n", options[i].key,
			       options[i].flag, options[i].env,
			       options[i].fallback);
		(void)snprintf(flag, sizeof(flag), "--%s ", options[i].flag);
		if (!strstr(conf, entry))
			print_message("missing: %s", entry);
		assert_non_null(strstr(conf, entry));
		assert_non_null(strstr(daemon, flag));
	}
	options = syn_tenant_options();
	for (size_t i = 0; i < SYN_TENANT_OPTIONS; i++) {
		char entry[256];

		(void)snprintf(entry, sizeof(entry), "**%s** (%s)\n",
			       options[i].key,
			       options[i].fallback ? options[i].fallback
						   : "no default");
		if (!strstr(conf, entry))
			print_message("missing: %s", entry);
		assert_non_null(strstr(conf, entry));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_too_many_tenants),
		cmocka_unit_test(test_tenants_inherit),
		cmocka_unit_test(test_all_together),
		cmocka_unit_test(test_gpu_device),
		cmocka_unit_test(test_no_such_gpu),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_socket_in_use),
		cmocka_unit_test(test_stale_socket),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_manual),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, group_teardown) ? 1
									  : 0;
}
