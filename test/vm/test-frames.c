/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon on two nodes: every frame is where the configuration says, as
 * the kernel's own count of the worker's pages tells.  Skips on one node.
 */
#include <fcntl.h>
#include <stdio.h>

#include "core/base/base.h"
#include "numa/hostmem.h"
#include "numa/topology.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define MIB   ((uint64_t)1024 * 1024)
#define SLOTS 64u

/**
 * struct frames - pages of the worker's extents, by node.
 * @hbm:	pages of HBM extents.
 * @host:	pages of host extents.
 */
struct frames {
	uint64_t hbm[2];
	uint64_t host[2];
};

static struct syn_numa machine;

static void need_two_nodes(void)
{
	syn_numa_read(&machine);
	if (!machine.binds || machine.memory != 3)
		skip();
}

/* "7f.. bind:1 file=/memfd:synapse-host-3\040(deleted) ... N1=2048 ..." */
static void frames_line(char *line, struct frames *ret)
{
	uint64_t *to;
	char *save;

	if (strstr(line, "memfd:synapse-hbm-"))
		to = ret->hbm;
	else if (strstr(line, "memfd:synapse-host-"))
		to = ret->host;
	else
		return;
	for (char *word = strtok_r(line, " \n", &save); word;
	     word = strtok_r(NULL, " \n", &save)) {
		unsigned long long nr;
		int node;

		if (sscanf(word, "N%d=%llu", &node, &nr) != 2)
			continue;
		assert_in_range(node, 0, 1);
		to[node] += nr;
	}
}

static struct frames frames_of(pid_t worker)
{
	struct frames frames = { 0 };
	char line[1024];
	char path[64];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/numa_maps", (int)worker);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		frames_line(line, &frames);
	(void)fclose(file);
	print_message("node 0: %d HBM, %d host; node 1: %d HBM, %d host\n",
		      (int)frames.hbm[0], (int)frames.host[0],
		      (int)frames.hbm[1], (int)frames.host[1]);
	return frames;
}

/* Threads of @pid that may run on exactly the CPUs of @node. */
static unsigned int threads_on(pid_t pid, int node)
{
	char want[64];
	char line[256];
	char path[300];
	unsigned int nr = 0;
	struct dirent *entry;
	FILE *file;
	DIR *dir;

	(void)snprintf(path, sizeof(path),
		       "/sys/devices/system/node/node%d/cpulist", node);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	(void)fclose(file);
	(void)snprintf(want, sizeof(want), "Cpus_allowed_list:\t%.32s", line);
	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status",
			       (int)pid, entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			nr += strcmp(line, want) == 0;
		if (file)
			(void)fclose(file);
	}
	(void)closedir(dir);
	return nr;
}

static uint64_t tier_pages(const struct test_daemon *d, unsigned int tier)
{
	struct syn_ctl_tier tiers[SYN_QUOTA_TIERS];

	ctl_tiers(d->socket, tiers);
	return tiers[tier].extent_bytes / 4096;
}

/* An engine that overflows into host memory, all of it on @node. */
static void expect_all_on(const char *const *args, int node)
{
	struct test_daemon d;
	struct frames frames;
	struct engine e;

	daemon_start(&d, args);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, ENGINE_PAGES_MAX, 5), 0);
	for (uint32_t i = 0; i < e.nr; i++)
		assert_int_equal(engine_check(&e, i), 0);
	frames = frames_of(d.worker);
	assert_int_equal(frames.hbm[!node], 0);
	assert_int_equal(frames.host[!node], 0);
	assert_int_equal(frames.hbm[node], tier_pages(&d, 0));
	assert_int_equal(frames.host[node], tier_pages(&d, 1));
	assert_true(frames.host[node] > SLOTS * TEST_PAGE_BYTES / 4096);
	assert_true(threads_on(d.worker, node) > 0);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static void test_nearest_node(void **state)
{
	static const char *const args[] = { "--hbm",  "8M",	    "--host",
					    "32M",    "--hbm-node", "1",
					    "--lock", "no",	    NULL };

	(void)state;
	need_two_nodes();
	expect_all_on(args, 1);
}

static void test_first_node(void **state)
{
	static const char *const args[] = {
		"--hbm",	"8M",  "--host", "32M", "--hbm-node", "0",
		"--host-nodes", "0,1", "--lock", "yes", NULL
	};

	(void)state;
	need_two_nodes();
	expect_all_on(args, 0);
}

/* HBM on one node, host memory on the other, because that was asked for. */
static void test_apart(void **state)
{
	static const char *const args[] = {
		"--hbm", "8M",		 "--host", "32M", "--hbm-node",
		"0",	 "--host-nodes", "1",	   NULL
	};
	struct test_daemon d;
	struct frames frames;
	struct engine e;

	(void)state;
	need_two_nodes();
	daemon_start(&d, args);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, ENGINE_PAGES_MAX, 6), 0);
	frames = frames_of(d.worker);
	assert_true(frames.hbm[0] > 0 && frames.host[1] > 0);
	assert_int_equal(frames.hbm[1], 0);
	assert_int_equal(frames.host[0], 0);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_stop(&d);
}

/* Leaves @room of node 1. */
static void hog_init(struct syn_hostmem *hog, uint64_t room)
{
	struct syn_numa_memory memory;

	assert_int_equal(syn_numa_memory(&machine, 2, &memory), 0);
	assert_true(memory.room > room);
	assert_int_equal(syn_hostmem_init(hog, "hog",
					  (memory.room - room) / 4096 * 4096, 0,
					  1),
			 0);
}

static void test_spills_when_allowed(void **state)
{
	static const char *const args[] = {
		"--hbm", "8M",		 "--host", "64M", "--hbm-node",
		"1",	 "--host-nodes", "0,1",	   NULL
	};
	struct syn_hostmem hog;
	struct test_daemon d;
	struct frames frames;
	struct engine e[4];

	(void)state;
	need_two_nodes();
	daemon_start(&d, args);
	hog_init(&hog, 40 * MIB);
	/* HBM first: it has no other node to go to. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(engine_open(&e[i], d.socket, SLOTS / 2), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(engine_grow(&e[i], ENGINE_PAGES_MAX - 16, i),
				 0);
	frames = frames_of(d.worker);
	assert_int_equal(frames.hbm[0], 0);
	assert_true(frames.host[0] > 0);
	assert_true(frames.host[1] > 0);
	for (int i = 0; i < 4; i++) {
		for (uint32_t k = 0; k < e[i].nr; k += 7)
			assert_int_equal(engine_check(&e[i], k), 0);
		engine_close(&e[i]);
	}
	daemon_stop(&d);
	syn_hostmem_deinit(&hog);
}

static bool log_has(const struct test_daemon *d, const char *what)
{
	char log[8192];
	ssize_t n = pread(d->log_fd, log, sizeof(log) - 1, 0);

	log[n > 0 ? n : 0] = '\0';
	return strstr(log, what);
}

/* Leases and commits until refused, or @max; the refusal is in *ret. */
static uint32_t fill(struct raw_client *c, uint32_t max, struct syn_cqe *ret)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1, .cookie = 1 };
	struct syn_sqe commit = { .op = SYN_OP_COMMIT, .nr = 1, .cookie = 2 };
	uint32_t nr;

	lease.object = c->window.window;
	for (nr = 0; nr < max; nr++) {
		struct syn_vec_commit vec = { .tokens = TEST_TOKENS };

		*ret = raw_ask(c, &lease, NULL, 0, &vec.handle,
			       sizeof(vec.handle));
		if (ret->res)
			break;
		assert_int_equal(
			raw_ask(c, &commit, &vec, sizeof(vec), NULL, 0).res, 0);
	}
	return nr;
}

/* One node only: refused with a hint, said in the log; then there is room. */
static void test_refused_when_not(void **state)
{
	static const char *const args[] = { "--hbm",	  "8M", "--host", "64M",
					    "--hbm-node", "1",	NULL };
	struct syn_hostmem hog;
	struct test_daemon d;
	struct frames frames;
	struct raw_client c;
	struct syn_cqe cqe = { 0 };
	uint32_t nr;

	(void)state;
	need_two_nodes();
	daemon_start(&d, args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	hog_init(&hog, 28 * MIB);
	nr = fill(&c, 1000, &cqe);
	assert_true(nr >= SLOTS && nr < 1000);
	assert_int_equal(cqe.res, SYN_E_BACKPRESSURE);
	assert_true(cqe.val[0] > 0);
	test_wait(log_has(&d, "node 1: no room for 8 MiB more of host"), 10);
	frames = frames_of(d.worker);
	assert_int_equal(frames.hbm[0] + frames.host[0], 0);
	syn_hostmem_deinit(&hog);
	assert_true(fill(&c, 16, &cqe) > 0);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static void expect_config(const char *nodes, const char *host, int status,
			  const char *what)
{
	const char *const args[] = {
		"--check-config", "--hbm", "16M",	   "--hbm-node", "1",
		"--host",	  host,	   "--host-nodes", nodes,	 NULL
	};
	char log[4096];

	assert_int_equal(daemon_run(args, log, sizeof(log)), status);
	print_message("%s", log);
	assert_non_null(strstr(log, what));
}

static void test_budgets(void **state)
{
	struct syn_numa_memory memory;
	char want[128];

	(void)state;
	need_two_nodes();
	assert_int_equal(syn_numa_memory(&machine, 2, &memory), 0);
	(void)snprintf(want, sizeof(want),
		       "[host] budget: expected no more than node 1's %llu "
		       "MiB, got 500 MiB",
		       (unsigned long long)(memory.total / MIB));
	expect_config("auto", "500M", 1 << 8, want);
	expect_config("1", "500M", 1 << 8, want);
	(void)snprintf(want, sizeof(want),
		       "[hbm] budget and [host] budget: expected no more than "
		       "node 1's %llu MiB together, got 16 + %llu MiB",
		       (unsigned long long)(memory.total / MIB),
		       (unsigned long long)(memory.total / MIB));
	expect_config("1", "100%", 1 << 8, want);
	expect_config("0,1", "500M", 0, "[host]\nbudget = 500M\nnodes = 0,1\n");
	(void)snprintf(want, sizeof(want), "[host]\nbudget = %lluM\n",
		       (unsigned long long)(memory.total / 2 / MIB));
	expect_config("auto", "50%", 0, want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nearest_node),
		cmocka_unit_test(test_first_node),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_spills_when_allowed),
		cmocka_unit_test(test_refused_when_not),
		cmocka_unit_test(test_budgets),
	};

	return test_main(tests);
}
