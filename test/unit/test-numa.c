/* SPDX-License-Identifier: Apache-2.0 */
/* numa/: nodes, memory on them, threads on them; more of it on two nodes. */
#include "numa/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "numa/hostmem.h"
#include "numa/place.h"
#include "test/test.h"

#define MEM_BYTES (3u << 20)

static struct syn_numa machine;

static int group_setup(void **state)
{
	(void)state;
	syn_numa_read(&machine);
	return 0;
}

/* The lowest node with memory. */
static int some_node(void)
{
	return __builtin_ctzll(machine.memory);
}

/* Another one; the test is skipped where there is none. */
static int other_node(void)
{
	uint64_t rest = machine.memory & (machine.memory - 1);

	if (!machine.binds || !rest)
		skip();
	return __builtin_ctzll(rest);
}

/* ---- topology ----------------------------------------------------------- */

static void test_machine(void **state)
{
	struct syn_numa_memory all;
	uint64_t sum = 0;

	(void)state;
	assert_true(machine.memory != 0);
	assert_true(machine.home >= 0 && machine.home < SYN_NUMA_NODES);
	assert_true(machine.cpus >> machine.home & 1);
	assert_int_equal(syn_numa_memory(&machine, machine.memory, &all), 0);
	assert_true(all.total > 0 && all.room < all.total);
	for (int i = 0; i < SYN_NUMA_NODES; i++) {
		struct syn_numa_memory one;

		if (!(machine.memory >> i & 1))
			continue;
		assert_int_equal(syn_numa_memory(&machine, 1ull << i, &one), 0);
		assert_true(one.total > 0);
		sum += one.total;
		if (machine.binds)
			assert_int_equal(machine.distance[i][i], 10);
	}
	assert_true(sum <= all.total);
}

/* Nodes 1, 3 and 4 have memory; 5 has CPUs only; 0 and 2 are gaps. */
static const struct syn_numa sparse = {
	.memory = 1u << 1 | 1u << 3 | 1u << 4,
	.cpus = 1u << 1 | 1u << 5,
	.home = 5,
	.distance = {
		[1] = { [1] = 10, [3] = 30, [4] = 20 },
		[3] = { [1] = 30, [3] = 10, [4] = 30 },
		[5] = { [1] = 40, [3] = 17, [4] = 17 },
	},
};

static void expect_order(int node, uint64_t nodes, const int *want,
			 unsigned int nr)
{
	int order[SYN_NUMA_NODES];

	assert_int_equal(syn_numa_order(&sparse, node, nodes, order), nr);
	assert_memory_equal(order, want, nr * sizeof(*want));
}

static void test_order(void **state)
{
	(void)state;
	expect_order(1, ~0ull, (const int[]){ 1, 4, 3 }, 3);
	expect_order(5, ~0ull, (const int[]){ 3, 4, 1 }, 3);
	expect_order(3, 1u << 1 | 1u << 4, (const int[]){ 1, 4 }, 2);
	expect_order(1, 1u << 0 | 1u << 5, NULL, 0);
	assert_int_equal(syn_numa_nearest(&sparse, 1), 1);
	assert_int_equal(syn_numa_nearest(&sparse, 5), 3);
}

static void file_write(char *path, const char *text)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static void test_memory_format(void **state)
{
	static const char node[] = "Node 3 MemTotal:       64000 kB\n"
				   "Node 3 MemFree:        10000 kB\n"
				   "Node 3 MemUsed:        54000 kB\n"
				   "Node 3 Active(file):    2000 kB\n"
				   "Node 3 Inactive(file):  4000 kB\n";
	static const char all[] = "MemTotal:       64000 kB\n"
				  "MemFree:          500 kB\n"
				  "MemAvailable:   20000 kB\n";
	char path[] = "/tmp/synapse-meminfo-XXXXXX";
	char path_all[] = "/tmp/synapse-meminfo-XXXXXX";
	char path_bad[] = "/tmp/synapse-meminfo-XXXXXX";
	struct syn_numa_memory memory;

	(void)state;
	file_write(path, node);
	assert_int_equal(syn_numa_memory_of(path, &memory), 0);
	assert_int_equal(memory.total, 64000 * 1024);
	/* And half of the files' pages. */
	assert_int_equal(memory.room, (10000 + 3000) * 1024);
	file_write(path_all, all);
	assert_int_equal(syn_numa_memory_of(path_all, &memory), 0);
	assert_int_equal(memory.total, 64000 * 1024);
	assert_int_equal(memory.room, 20000 * 1024);
	file_write(path_bad, "nothing of the kind\n");
	assert_int_equal(syn_numa_memory_of(path_bad, &memory), -EBADMSG);
	assert_int_equal(syn_numa_memory_of("/nowhere/meminfo", &memory),
			 -ENOENT);
	(void)unlink(path);
	(void)unlink(path_all);
	(void)unlink(path_bad);
}

static void test_reserve_format(void **state)
{
	static const char text[] = "Node 0, zone      DMA\n"
				   "  per-node stats\n"
				   "      nr_inactive_anon 8\n"
				   "  pages free     1000\n"
				   "        min      1\n"
				   "        high     10\n"
				   "    pagesets\n"
				   "    cpu: 0\n"
				   "              count: 0\n"
				   "              high:  300\n"
				   "Node 1, zone    DMA32\n"
				   "        high     200\n"
				   "Node 1, zone   Normal\n"
				   "        high     3000\n";
	char path[] = "/tmp/synapse-zoneinfo-XXXXXX";
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t reserve;

	(void)state;
	file_write(path, text);
	assert_int_equal(syn_numa_reserve_of(path, 1, &reserve), 0);
	assert_int_equal(reserve, 10 * page);
	assert_int_equal(syn_numa_reserve_of(path, 2, &reserve), 0);
	assert_int_equal(reserve, 3200 * page);
	assert_int_equal(syn_numa_reserve_of(path, 3, &reserve), 0);
	assert_int_equal(reserve, 3210 * page);
	assert_int_equal(syn_numa_reserve_of("/nowhere/zoneinfo", 3, &reserve),
			 -ENOENT);
	(void)unlink(path);
}

static void test_format(void **state)
{
	char text[64];

	(void)state;
	syn_numa_format(1u << 3, text, sizeof(text));
	assert_string_equal(text, "node 3");
	syn_numa_format(1u << 3 | 1u << 1 | 1ull << 63, text, sizeof(text));
	assert_string_equal(text, "nodes 1,3,63");
	syn_numa_format(~0ull, text, 12);
	assert_string_equal(text, "nodes 0,1,2");
}

/* ---- threads ------------------------------------------------------------ */

static void test_bind_thread(void **state)
{
	int other = other_node();
	cpu_set_t before;
	cpu_set_t now;
	int want;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	want = machine.cpus >> other & 1 ? 0 : SYN_NUMA_E_NO_CPU;
	assert_int_equal(syn_numa_bind_thread(&machine, other), want);
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	if (!want) {
		unsigned int cpu;
		unsigned int node;

		assert_int_equal(getcpu(&cpu, &node), 0);
		assert_int_equal(node, other);
		assert_true(CPU_COUNT(&now) < CPU_COUNT(&before));
		/* What is left has no CPU of the first: it stays. */
		assert_int_equal(syn_numa_bind_thread(&machine, some_node()),
				 SYN_NUMA_E_NO_CPU);
		assert_int_equal(getcpu(&cpu, &node), 0);
		assert_int_equal(node, other);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void test_bind_nothing(void **state)
{
	cpu_set_t before;
	cpu_set_t now;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	assert_int_equal(syn_numa_bind_thread(&machine, -1), 0);
	if (syn_is_pow2(machine.memory | machine.cpus))
		assert_int_equal(syn_numa_bind_thread(&machine, 0), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	assert_true(CPU_EQUAL(&before, &now));
}

/* ---- memory ------------------------------------------------------------- */

static void test_bound(void **state)
{
	int fds = test_count_fds();

	(void)state;
	if (!machine.binds)
		skip();
	for (int node = 0; node < SYN_NUMA_NODES; node++) {
		struct syn_hostmem mem;

		if (!(machine.memory >> node & 1))
			continue;
		assert_int_equal(
			syn_hostmem_init(&mem, "test", MEM_BYTES, 0, node), 0);
		assert_int_equal(mem.node, node);
		assert_int_equal(syn_hostmem_verify(&mem, node), 0);
		assert_int_equal(syn_hostmem_verify(&mem, node + 1), -EXDEV);
		assert_int_equal(*((char *)mem.addr + MEM_BYTES - 1), 0);
		syn_hostmem_deinit(&mem);
	}
	assert_int_equal(test_count_fds(), fds);
}

static uint64_t huge_free(int node)
{
	unsigned long long nr = 0;
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path),
		       "/sys/devices/system/node/node%d/hugepages/"
		       "hugepages-2048kB/free_hugepages",
		       node);
	file = fopen(path, "re");
	if (!file)
		return 0;
	assert_int_equal(fscanf(file, "%llu", &nr), 1);
	(void)fclose(file);
	return nr;
}

/* On the right node, whether there are huge pages on it or not. */
static void test_huge(void **state)
{
	struct syn_hostmem mem;

	(void)state;
	(void)other_node();
	for (int node = 0; node < SYN_NUMA_NODES; node++) {
		bool huge;

		if (!(machine.memory >> node & 1))
			continue;
		huge = huge_free(node) >= 2;
		assert_int_equal(syn_hostmem_init(&mem, "test", 4u << 20,
						  SYN_HOSTMEM_HUGE, node),
				 0);
		if (huge)
			assert_int_equal(mem.page_bytes, 2u << 20);
		assert_int_equal(syn_hostmem_verify(&mem, node), 0);
		print_message("node %d: %s pages\n", node,
			      mem.page_bytes > 4096 ? "huge" : "small");
		syn_hostmem_deinit(&mem);
	}
}

static void test_no_such_node(void **state)
{
	struct syn_hostmem mem;
	int fds = test_count_fds();

	(void)state;
	if (!machine.binds)
		skip();
	for (int node = 0; node < SYN_NUMA_NODES; node++)
		if (!((machine.memory | machine.cpus) >> node & 1))
			assert_int_equal(syn_hostmem_init(&mem, "test",
							  MEM_BYTES, 0, node),
					 -EINVAL);
	assert_int_equal(
		syn_hostmem_init(&mem, "test", MEM_BYTES, 0, SYN_NUMA_NODES),
		-EINVAL);
	assert_int_equal(syn_hostmem_init(&mem, "test", MEM_BYTES, 0, -2),
			 -EINVAL);
	assert_int_equal(test_count_fds(), fds);
}

/* Unbound memory is not there before somebody touches it. */
static void test_verify_absent(void **state)
{
	struct syn_hostmem mem;

	(void)state;
	if (!machine.binds)
		skip();
	assert_int_equal(syn_hostmem_init(&mem, "test", MEM_BYTES, 0, -1), 0);
	assert_int_equal(mem.node, -1);
	assert_int_equal(syn_hostmem_verify(&mem, some_node()), -ENOENT);
	syn_hostmem_deinit(&mem);
}

/* One page in the middle elsewhere is found. */
static void test_verify_one_page(void **state)
{
	int other = other_node();
	struct syn_hostmem mem;
	void *page;
	int status;

	(void)state;
	assert_int_equal(
		syn_hostmem_init(&mem, "test", MEM_BYTES, 0, some_node()), 0);
	page = (char *)mem.addr + MEM_BYTES - 4096;
	assert_int_equal(move_pages(0, 1, &page, &other, &status, MPOL_MF_MOVE),
			 0);
	assert_int_equal(status, other);
	assert_int_equal(syn_hostmem_verify(&mem, some_node()), -EXDEV);
	syn_hostmem_deinit(&mem);
}

/* Whoever maps it, from whatever node: the policy is the file's. */
static void test_policy_is_the_files(void **state)
{
	int other = other_node();
	struct syn_hostmem mem;
	void *again;
	int status = -1;

	(void)state;
	assert_int_equal(syn_hostmem_init(&mem, "test", MEM_BYTES, 0, other),
			 0);
	assert_int_equal(fallocate(mem.fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   0, MEM_BYTES),
			 0);
	again = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		     mem.fd, 0);
	assert_ptr_not_equal(again, MAP_FAILED);
	*(char *)again = 1;
	assert_int_equal(move_pages(0, 1, &again, NULL, &status, 0), 0);
	assert_int_equal(status, other);
	assert_int_equal(munmap(again, MEM_BYTES), 0);
	syn_hostmem_deinit(&mem);
}

/* More than the node has free: refused, though others have room; no kill. */
static void test_full_node(void **state)
{
	int other = other_node();
	struct syn_numa_memory memory;
	struct syn_hostmem mem;

	(void)state;
	assert_int_equal(syn_numa_memory(&machine, 1ull << other, &memory), 0);
	if (memory.total > (uint64_t)4 << 30)
		skip(); /* would take too much of a machine that is in use */
	assert_int_equal(syn_hostmem_init(&mem, "test", memory.total & ~4095ull,
					  0, other),
			 -ENOMEM);
	assert_int_equal(syn_hostmem_init(&mem, "test", MEM_BYTES, 0, other),
			 0);
	syn_hostmem_deinit(&mem);
}

static void test_fail_nth(void **state)
{
	int fds = test_count_fds();
	bool failed = true;

	(void)state;
	if (!machine.binds)
		skip();
	for (unsigned int nth = 1; failed; nth++) {
		struct syn_hostmem mem;
		int r;

		syn_fault_arm(nth);
		r = syn_hostmem_init(&mem, "test", MEM_BYTES, 0, some_node());
		failed = syn_fault_disarm();
		assert_true(failed ? r < 0 : r == 0);
		if (!r)
			syn_hostmem_deinit(&mem);
		assert_int_equal(test_count_fds(), fds);
		assert_true(nth < 20);
	}
}

/* ---- places ------------------------------------------------------------- */

static unsigned int nr_lines;
static char last_line[256];

static void sink(enum syn_log_level level, const char *line)
{
	(void)level;
	nr_lines++;
	(void)snprintf(last_line, sizeof(last_line), "%s", line);
}

static void test_place_anywhere(void **state)
{
	struct syn_place place;
	struct syn_hostmem mem;

	(void)state;
	syn_place_init(&place, &machine, "memory", -1, 0);
	assert_int_equal(syn_place_new(&place, &mem, "test", MEM_BYTES, 0), 0);
	assert_int_equal(mem.node, -1);
	syn_hostmem_deinit(&mem);
}

static void test_place_near(void **state)
{
	struct syn_place place;
	struct syn_hostmem mem;

	(void)state;
	for (int node = 0; node < SYN_NUMA_NODES; node++) {
		if (!(machine.memory >> node & 1))
			continue;
		syn_place_init(&place, &machine, "memory", node, 0);
		assert_int_equal(
			syn_place_new(&place, &mem, "test", MEM_BYTES, 0), 0);
		assert_int_equal(mem.node, node);
		syn_hostmem_deinit(&mem);
	}
}

/* Said once, however often it is asked for, and again after a success. */
static void test_place_no_room(void **state)
{
	int other = other_node();
	struct syn_place place;
	struct syn_hostmem mem;
	struct syn_numa_memory memory;

	(void)state;
	syn_log_set_sink(sink);
	nr_lines = 0;
	syn_place_init(&place, &machine, "memory", other, 1ull << other);
	assert_int_equal(syn_numa_memory(&machine, 1ull << other, &memory), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(syn_place_new(&place, &mem, "test",
					       memory.total & ~4095ull, 0),
				 -ENOMEM);
	assert_int_equal(nr_lines, 1);
	assert_non_null(strstr(last_line, "no room for"));
	assert_int_equal(syn_place_new(&place, &mem, "test", MEM_BYTES, 0), 0);
	syn_hostmem_deinit(&mem);
	assert_int_equal(
		syn_place_new(&place, &mem, "test", memory.total & ~4095ull, 0),
		-ENOMEM);
	assert_int_equal(nr_lines, 2);
	syn_log_set_sink(NULL);
}

/* Three extents fill the near node, and the fourth goes to the far one. */
static void test_place_next_node(void **state)
{
	int near = other_node();
	struct syn_numa_memory memory;
	struct syn_place place;
	struct syn_hostmem mem[4];
	uint64_t bytes;
	int far = -1;

	(void)state;
	assert_int_equal(syn_numa_memory(&machine, 1ull << near, &memory), 0);
	bytes = syn_min(memory.room, (uint64_t)1 << 30) / 16 * 5 & ~4095ull;
	if (memory.room > (uint64_t)4 << 30)
		skip(); /* would take too much of a machine that is in use */
	syn_place_init(&place, &machine, "memory", near, machine.memory);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(
			syn_place_new(&place, &mem[i], "test", bytes, 0), 0);
		if (mem[i].node != near)
			far = i;
	}
	assert_int_equal(mem[0].node, near);
	assert_int_equal(far, 3);
	for (int i = 0; i < 4; i++)
		syn_hostmem_deinit(&mem[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_memory_format),
		cmocka_unit_test(test_reserve_format),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_bind_thread),
		cmocka_unit_test(test_bind_nothing),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_no_such_node),
		cmocka_unit_test(test_verify_absent),
		cmocka_unit_test(test_verify_one_page),
		cmocka_unit_test(test_policy_is_the_files),
		cmocka_unit_test(test_full_node),
		cmocka_unit_test(test_fail_nth),
		cmocka_unit_test(test_place_anywhere),
		cmocka_unit_test(test_place_near),
		cmocka_unit_test(test_place_no_room),
		cmocka_unit_test(test_place_next_node),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, NULL) ? 1 : 0;
}
