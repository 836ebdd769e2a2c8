/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: sockets with quotas of their own, and who finds whose pages. */
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define OTHER_UID 65534
#define NAME	  0x7e4a47
#define SEED	  4711
#define EXTENT	  (2ull << 20)

static char dir[] = "/tmp/synapse-tenant-XXXXXX";
static char conf[64];
static char tenant_dir[2][64];
static char tenant[2][96];
static struct test_daemon d;

static void conf_write(const char *domain)
{
	FILE *file = fopen(conf, "we");

	assert_non_null(file);
	(void)fprintf(file,
		      "[daemon]\nsocket_mode = 0666\ndomain = %s\n"
		      "[hbm]\nbudget = 16M\n[host]\nbudget = 16M\n"
		      "[quota]\nhost_high = 4M\n"
		      "[tenant a]\nsocket = %s\nsocket_mode = 0666\n"
		      "hbm_max = 4M\nhost_max = 6M\n"
		      "[tenant b]\nsocket = %s\nhbm_min = 4M\n"
		      "host_high = none\n",
		      domain, tenant[0], tenant[1]);
	assert_int_equal(fclose(file), 0);
}

static void start(const char *domain)
{
	const char *const args[] = { "--config", conf, NULL };

	conf_write(domain);
	daemon_start(&d, args);
}

static int group_setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	(void)snprintf(conf, sizeof(conf), "%s/conf", dir);
	for (int i = 0; i < 2; i++) {
		(void)snprintf(tenant_dir[i], sizeof(tenant_dir[i]), "%s/%c",
			       dir, 'a' + i);
		(void)snprintf(tenant[i], sizeof(tenant[i]), "%s/s",
			       tenant_dir[i]);
		assert_int_equal(mkdir(tenant_dir[i], 0755), 0);
		assert_int_equal(chmod(tenant_dir[i], 0755), 0);
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	(void)unlink(conf);
	/* The daemon has left nothing in them. */
	assert_int_equal(rmdir(tenant_dir[0]), 0);
	assert_int_equal(rmdir(tenant_dir[1]), 0);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

/* The only domain that came through the socket in @of. */
static struct syn_ctl_domain domain_of(const char *of)
{
	struct syn_ctl_domain all[SYN_CTL_BATCH];
	struct syn_ctl_domain ret = { 0 };
	struct syn_msg_ctl_reply reply;
	size_t len = strlen(of);
	int nr = 0;

	assert_int_equal(ctl_ask(d.socket, SYN_CTL_DOMAINS, 0, all,
				 SYN_CTL_BATCH, sizeof(all[0]), &reply),
			 0);
	for (uint32_t i = 0; i < reply.nr; i++) {
		if (strncmp(all[i].name, of, len) != 0 ||
		    all[i].name[len] != ':')
			continue;
		ret = all[i];
		nr++;
	}
	assert_int_equal(nr, 1);
	return ret;
}

static int quota_ask(const char *path, const uint64_t arg[4])
{
	struct syn_msg_ctl_reply reply;

	return ctl_order(path, SYN_CTL_QUOTA, arg, &reply);
}

static void test_quotas_are_the_sockets(void **state)
{
	struct syn_ctl_domain a;
	struct raw_client c[3];

	(void)state;
	start("socket,uid,cgroup");
	assert_int_equal(raw_attach(&c[0], d.socket), 0);
	assert_int_equal(raw_attach(&c[1], tenant[0]), 0);
	assert_int_equal(raw_attach(&c[2], tenant[1]), 0);
	a = domain_of(tenant_dir[0]);
	assert_int_equal(a.uid, getuid());
	assert_int_equal(a.nr_sessions, 1);
	assert_int_equal(a.tier[0].max, 4 << 20);
	assert_int_equal(a.tier[1].max, 6 << 20);
	assert_int_equal(a.tier[1].high, 4 << 20);
	assert_int_equal(domain_of(tenant_dir[1]).tier[0].min, 4 << 20);
	assert_true(domain_of(tenant_dir[1]).tier[1].high == SYN_QUOTA_NONE);
	assert_int_equal(domain_of(d.dir).tier[1].high, 4 << 20);
	/* Two extents, and the first page of a third. */
	assert_int_equal(raw_window(&c[1], 2 * EXTENT / TEST_PAGE_BYTES + 1),
			 -EDQUOT);
	assert_int_equal(domain_of(tenant_dir[0]).refused, 1);
	assert_int_equal(raw_window(&c[1], 2 * EXTENT / TEST_PAGE_BYTES), 0);
	assert_int_equal(domain_of(tenant_dir[0]).tier[0].used, 2 * EXTENT);
	/* What is kept free for b is not for others, but for b. */
	assert_int_equal(raw_window(&c[0], 5 * EXTENT / TEST_PAGE_BYTES),
			 -EDQUOT);
	assert_int_equal(raw_window(&c[0], 4 * EXTENT / TEST_PAGE_BYTES), 0);
	assert_int_equal(raw_window(&c[2], 2 * EXTENT / TEST_PAGE_BYTES), 0);
	for (int i = 0; i < 3; i++)
		raw_close(&c[i]);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static void test_orders(void **state)
{
	struct syn_ctl_domain a;
	struct raw_client c;
	uint64_t arg[4];

	(void)state;
	start("socket,uid,cgroup");
	assert_int_equal(raw_attach(&c, tenant[0]), 0);
	assert_int_equal(raw_window(&c, 2 * EXTENT / TEST_PAGE_BYTES), 0);
	a = domain_of(tenant_dir[0]);
	memcpy(arg,
	       (const uint64_t[]){ SYN_QUOTA_AT(a.domain, SYN_TIER_HBM), 0,
				   SYN_QUOTA_NONE, EXTENT },
	       sizeof(arg));
	assert_int_equal(quota_ask(d.socket, arg), -EBUSY);
	assert_int_equal(domain_of(tenant_dir[0]).tier[0].max, 4 << 20);
	arg[3] = 3 * EXTENT;
	assert_int_equal(quota_ask(d.socket, arg), 0);
	assert_int_equal(domain_of(tenant_dir[0]).tier[0].max, 3 * EXTENT);
	arg[1] = 16 << 20;
	assert_int_equal(quota_ask(d.socket, arg), -EINVAL);
	arg[3] = SYN_QUOTA_NONE;
	arg[1]++;
	assert_int_equal(quota_ask(d.socket, arg), -ENOSPC);
	arg[0] = SYN_QUOTA_AT(255, SYN_TIER_HBM);
	assert_int_equal(quota_ask(d.socket, arg), -ENOENT);
	arg[0] = SYN_QUOTA_AT(a.domain, 9);
	assert_int_equal(quota_ask(d.socket, arg), -EINVAL);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* In a child: an exit code. */
static int look_for_it(const char *path)
{
	struct engine e;
	int r = engine_open(&e, path, 8);

	if (r)
		return 1;
	r = engine_find(&e, NAME, SEED);
	engine_close(&e);
	return r == 0 ? 2 : r == -ENOENT ? 3 : 4;
}

#define FOUND	  2
#define NOT_FOUND 3

struct stranger {
	const char *path;
	uid_t uid;
	const char *cgroup; /* directory to enter first, or NULL */
};

static int stranger_run(const struct stranger *s)
{
	char procs[512];
	FILE *file;

	if (s->cgroup) {
		(void)snprintf(procs, sizeof(procs), "%s/cgroup.procs",
			       s->cgroup);
		file = fopen(procs, "we");
		if (!file || fprintf(file, "0\n") < 0 || fclose(file))
			return TEST_SKIP;
	}
	if (s->uid != getuid() && (setgid(s->uid) < 0 || setuid(s->uid) < 0))
		return TEST_SKIP;
	return look_for_it(s->path);
}

static int stranger(const struct stranger *s)
{
	int status;
	pid_t pid = fork_child();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(stranger_run(s));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void sealed(struct engine *e, const char *path)
{
	assert_int_equal(engine_open(e, path, 8), 0);
	assert_int_equal(engine_grow(e, 1, SEED), 0);
	assert_int_equal(engine_seal(e, 0, NAME), 0);
	assert_int_equal(engine_find(e, NAME, SEED), 0);
}

static void test_other_socket_or_user(void **state)
{
	struct stranger who = { .path = tenant[0], .uid = getuid() };
	struct engine e;

	(void)state;
	start("socket,uid,cgroup");
	sealed(&e, tenant[0]);
	assert_int_equal(stranger(&who), FOUND);
	who.path = d.socket;
	assert_int_equal(stranger(&who), NOT_FOUND);
	who.path = tenant[1];
	assert_int_equal(stranger(&who), NOT_FOUND);
	who.path = tenant[0];
	who.uid = OTHER_UID;
	if (getuid() == 0)
		assert_int_equal(stranger(&who), NOT_FOUND);
	engine_close(&e);
	daemon_stop(&d);
	if (getuid() != 0)
		skip();
}

/* The uid does not count: the socket alone says who belongs together. */
static void test_domain_by_socket(void **state)
{
	struct stranger who = { .path = tenant[0], .uid = OTHER_UID };
	struct engine e;

	(void)state;
	start("socket");
	/* They are there before anybody comes. */
	assert_int_equal(domain_of(tenant_dir[1]).nr_sessions, 0);
	assert_int_equal(domain_of(tenant_dir[1]).tier[0].min, 4 << 20);
	sealed(&e, tenant[0]);
	if (getuid() == 0)
		assert_int_equal(stranger(&who), FOUND);
	who.path = d.socket;
	who.uid = getuid();
	assert_int_equal(stranger(&who), NOT_FOUND);
	engine_close(&e);
	daemon_stop(&d);
}

/* A directory in the unified hierarchy, or false. */
static bool cgroup_make(char *ret, size_t max)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	bool made = false;

	while (mounts && !made && (m = getmntent(mounts))) {
		if (strcmp(m->mnt_type, "cgroup2") != 0)
			continue;
		(void)snprintf(ret, max, "%s/synapse-test-%d", m->mnt_dir,
			       (int)getpid());
		made = mkdir(ret, 0755) == 0;
	}
	if (mounts)
		(void)endmntent(mounts);
	return made;
}

static void test_other_cgroup(void **state)
{
	struct stranger who = { .path = tenant[0], .uid = getuid() };
	char cgroup[256];
	struct engine e;
	int by_cgroup;
	int by_uid;

	(void)state;
	if (!cgroup_make(cgroup, sizeof(cgroup)))
		skip();
	who.cgroup = cgroup;
	start("socket,uid,cgroup");
	sealed(&e, tenant[0]);
	by_cgroup = stranger(&who);
	engine_close(&e);
	daemon_stop(&d);
	start("socket,uid");
	sealed(&e, tenant[0]);
	by_uid = stranger(&who);
	engine_close(&e);
	daemon_stop(&d);
	test_wait(rmdir(cgroup) == 0, 5);
	if (by_cgroup == TEST_SKIP)
		skip();
	assert_int_equal(by_cgroup, NOT_FOUND);
	assert_int_equal(by_uid, FOUND);
}

/* Each worker listens on all of them, and none is left behind. */
static void test_sockets_outlive_the_worker(void **state)
{
	struct raw_client c;
	pid_t old;

	(void)state;
	start("socket");
	old = d.worker;
	assert_int_equal(kill(d.worker, SIGKILL), 0);
	daemon_wait_worker(&d, old);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(raw_attach(&c, tenant[i]), 0);
		raw_close(&c);
	}
	assert_int_equal(kill(d.keeper, SIGKILL), 0);
	daemon_gone(&d, SIGKILL);
	test_wait(access(tenant[0], F_OK) < 0 && access(tenant[1], F_OK) < 0,
		  5);
}

/* However it is spelt. */
static void test_one_directory(void **state)
{
	const char *args[] = { "--config", conf, "--socket", NULL, NULL };
	char again[128];
	char log[4096];

	(void)state;
	conf_write("socket");
	(void)snprintf(again, sizeof(again), "%s/../a/other", tenant_dir[1]);
	args[3] = again;
	assert_int_equal(daemon_run(args, log, sizeof(log)), 1 << 8);
	assert_non_null(strstr(log, "expected a directory of its own"));
	assert_true(access(again, F_OK) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quotas_are_the_sockets),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_other_socket_or_user),
		cmocka_unit_test(test_domain_by_socket),
		cmocka_unit_test(test_other_cgroup),
		cmocka_unit_test(test_sockets_outlive_the_worker),
		cmocka_unit_test(test_one_directory),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, group_teardown) ? 1
									  : 0;
}
