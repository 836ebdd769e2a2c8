/* SPDX-License-Identifier: Apache-2.0 */
/* numa/limit.h on trees of files that look like the kernel's. */
#include "numa/limit.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "test/test.h"

#define MIB ((uint64_t)1024 * 1024)

static char root[64];

static int setup(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/synapse-limit-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A file below the root, with its directories. */
static void put(const char *path, const char *text)
{
	char full[512];
	FILE *file;

	(void)snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = full + strlen(root) + 1;
	     (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(full, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void expect(uint64_t bytes, const char *cgroup)
{
	struct syn_limit limit;

	assert_int_equal(syn_limit_read(root, &limit), 0);
	assert_int_equal(limit.bytes, bytes);
	assert_string_equal(limit.cgroup, cgroup);
}

static void test_none(void **state)
{
	(void)state;
	expect(SYN_LIMIT_NONE, "");
	put("/proc/self/cgroup", "0::/a/b\n");
	expect(SYN_LIMIT_NONE, "");
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	expect(SYN_LIMIT_NONE, "");
}

static void test_version_2(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/a/b/c\n");
	put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
	put("/sys/fs/cgroup/a/b/memory.max", "104857600\n");
	put("/sys/fs/cgroup/a/memory.max", "209715200\n");
	expect(100 * MIB, "/a/b");
	put("/sys/fs/cgroup/a/memory.max", "52428800\n");
	expect(50 * MIB, "/a");
	put("/sys/fs/cgroup/a/b/c/memory.max", "4096\n");
	expect(4096, "/a/b/c");
}

/* In a namespace the own cgroup is the root, and what is above is unseen. */
static void test_namespace(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/\n");
	put("/sys/fs/cgroup/memory.max", "104857600\n");
	expect(100 * MIB, "/");
	put("/proc/self/cgroup", "0::/../other\n");
	expect(100 * MIB, "/");
}

static void test_version_1(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "9:name=systemd:/x\n5:cpu,memory:/a/b\n");
	put("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
	    "9223372036854771712\n");
	expect(SYN_LIMIT_NONE, "");
	put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "104857600\n");
	expect(100 * MIB, "/a");
	put("/proc/self/cgroup", "5:cpu,memoryless:/a/b\n");
	expect(SYN_LIMIT_NONE, "");
}

static void test_hybrid(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "4:memory:/v1\n0::/v2\n");
	put("/sys/fs/cgroup/memory/v1/memory.limit_in_bytes", "2097152\n");
	put("/sys/fs/cgroup/v2/memory.max", "1048576\n");
	expect(1 * MIB, "/v2");
	put("/sys/fs/cgroup/v2/memory.max", "3145728\n");
	expect(2 * MIB, "/v1");
}

static void test_nonsense(void **state)
{
	static const char *const bad[] = {
		"",
		"\n",
		"much\n",
		"12x\n",
		"-1\n",
		"12",
		"99999999999999999999999\n",
	};
	struct syn_limit limit;

	(void)state;
	put("/proc/self/cgroup", "0::/a\n");
	for (size_t i = 0; i < syn_array_size(bad); i++) {
		put("/sys/fs/cgroup/a/memory.max", bad[i]);
		assert_int_equal(syn_limit_read(root, &limit), -EBADMSG);
	}
	put("/proc/self/cgroup", "memory\n");
	assert_int_equal(syn_limit_read(root, &limit), -EBADMSG);
}

static void test_here(void **state)
{
	struct syn_limit limit;

	(void)state;
	assert_int_equal(syn_limit_read("", &limit), 0);
	assert_true(limit.bytes > 0);
}

static void test_fail_nth(void **state)
{
	int fds = test_count_fds();
	bool failed = true;

	(void)state;
	put("/proc/self/cgroup", "0::/a\n");
	put("/sys/fs/cgroup/a/memory.max", "4096\n");
	for (unsigned int nth = 1; failed; nth++) {
		struct syn_limit limit;
		int r;

		syn_fault_arm(nth);
		r = syn_limit_read(root, &limit);
		failed = syn_fault_disarm();
		assert_int_equal(r, failed ? -EMFILE : 0);
		assert_int_equal(test_count_fds(), fds);
		assert_true(nth < 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_version_2, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_namespace, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_version_1, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_hybrid, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test(test_here),
		cmocka_unit_test_setup_teardown(test_fail_nth, setup, teardown),
	};

	return test_main(tests);
}
