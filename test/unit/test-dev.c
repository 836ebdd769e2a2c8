/* SPDX-License-Identifier: Apache-2.0 */
/* core/dev.h as kernels/dev-host.c implements it, and numa/hostmem.h below. */
#include "kernels/dev-host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "kernels/codec/sum.h"
#include "kernels/workers.h"
#include "numa/hostmem.h"
#include "test/test.h"
#include "test/unit/dev-bench.h"

static void test_nth_copy_fails(void **state)
{
	uint32_t sums[5][TILES];
	struct syn_copy vec[5];
	struct syn_copy_done done[5];

	for (unsigned int i = 0; i < 5; i++)
		vec[i] = copy_page(i, sums[i]);
	syn_dev_host_fail_copy(bench.dev, 3);
	assert_int_equal(bench.dev->ops->copy(bench.dev, vec, 5), 0);
	reap_exactly(done, 5);
	done_sort(done, 5);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(done[i].status, i == 2 ? -EIO : 0);
}

static void test_lost_device(void **state)
{
	uint32_t sums[TILES];
	struct syn_copy copy = copy_page(0, sums);
	struct syn_copy_done done;

	syn_dev_host_lose(bench.dev);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(bench.dev->ops->copy(bench.dev, &copy, 1), 0);
		reap_exactly(&done, 1);
		assert_int_equal(done.status, -EIO);
	}
}

static void test_delay(void **state)
{
	uint32_t sums[TILES];
	struct syn_copy copy = copy_page(0, sums);
	struct syn_copy_done done;
	uint64_t began_ns;

	syn_dev_host_set_delay(bench.dev, 20000000);
	began_ns = syn_now_ns();
	assert_int_equal(bench.dev->ops->copy(bench.dev, &copy, 1), 0);
	reap_exactly(&done, 1);
	assert_true(syn_now_ns() - began_ns >= 20000000);
	assert_int_equal(done.status, 0);
}

/* The copies that were submitted are made before close returns. */
static void test_close_waits(void **state)
{
	struct syn_dev *dev;
	struct syn_mem mem;
	uint32_t sums[4];
	struct syn_copy vec[4];

	assert_int_equal(maker.open(&dev, 0, &bench.keeper), 0);
	syn_dev_host_set_delay(dev, 5000000);
	assert_int_equal(
		dev->ops->mem_new(dev, 3, SYN_TIER_HOST, EXTENT_BYTES, &mem),
		0);
	fill(bytes_of(&mem), 4096, 7);
	for (unsigned int i = 0; i < 4; i++)
		vec[i] = (struct syn_copy){ .src = &mem,
					    .dst = &bench.host,
					    .dst_off = i * 4096,
					    .bytes = 4096,
					    .tile_bytes = 4096,
					    .sums = &sums[i] };
	assert_int_equal(dev->ops->copy(dev, vec, 4), 0);
	dev->ops->close(dev);
	for (unsigned int i = 0; i < 4; i++)
		assert_memory_equal(bytes_of(&bench.host) + i * 4096,
				    bytes_of(&mem), 4096);
	bench.dev->ops->mem_free(bench.dev, &mem);
}

/* Copies that are cut and shared are whole when close returns, too. */
static void test_close_while_busy(void **state)
{
	static uint32_t sums[32][EXTENT_BYTES / TILE_BYTES];
	struct syn_copy vec[32];
	struct syn_mem mem;
	struct syn_dev *dev;

	fill(bytes_of(&bench.hbm), EXTENT_BYTES, 11);
	assert_int_equal(maker.open(&dev, 4, NULL), 0);
	assert_int_equal(bench.dev->ops->mem_new(bench.dev, 3, SYN_TIER_HOST,
						 32 * EXTENT_BYTES, &mem),
			 0);
	for (unsigned int i = 0; i < 32; i++)
		vec[i] = (struct syn_copy){ .src = &bench.hbm,
					    .dst = &mem,
					    .dst_off = i * EXTENT_BYTES,
					    .bytes = EXTENT_BYTES,
					    .tile_bytes = TILE_BYTES,
					    .sums = sums[i] };
	assert_int_equal(dev->ops->copy(dev, vec, 32), 0);
	dev->ops->close(dev);
	for (unsigned int i = 0; i < 32; i++) {
		assert_memory_equal(bytes_of(&mem) + i * EXTENT_BYTES,
				    bytes_of(&bench.hbm), EXTENT_BYTES);
		assert_memory_equal(sums[i], sums[0], sizeof(sums[0]));
	}
	bench.dev->ops->mem_free(bench.dev, &mem);
}

static void test_number_of_workers(void **state)
{
	struct syn_dev_host_config some = { .node = -1 };
	cpu_set_t cpus;
	struct syn_dev *dev;

	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	for (unsigned int nr = 0; nr < 4; nr++) {
		int want = nr ? (int)nr
			      : syn_min(CPU_COUNT(&cpus), (int)SYN_WORKERS_MAX);
		int before;

		/* Those of the last turn may be in /proc still. */
		do
			before = test_count_threads();
		while (usleep(1000), before != test_count_threads());
		some.workers = nr;
		assert_int_equal(syn_dev_host_open(&dev, &some), 0);
		assert_int_equal(test_count_threads(), before + want);
		dev->ops->close(dev);
	}
}

static void test_extents_are_zeroed_sealed_and_private(void **state)
{
	static const unsigned char zero[EXTENT_BYTES];
	struct stat st;

	assert_int_equal(fstat(bench.hbm.fd, &st), 0);
	assert_int_equal(st.st_size, EXTENT_BYTES);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fcntl(bench.hbm.fd, F_GET_SEALS),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_true(fcntl(bench.hbm.fd, F_GETFD) & FD_CLOEXEC);
	assert_memory_equal(bytes_of(&bench.hbm), zero, EXTENT_BYTES);
}

/* Huge pages that the system does not have are no error. */
static void test_huge_pages_are_optional(void **state)
{
	struct syn_hostmem mem;

	assert_int_equal(
		syn_hostmem_init(&mem, "test", 4u << 20, SYN_HOSTMEM_HUGE, -1),
		0);
	memset(mem.addr, 1, 4u << 20);
	syn_hostmem_deinit(&mem);
	assert_int_equal(mem.fd, -1);
	assert_int_equal(syn_hostmem_init(&mem, "test", 0, 0, -1), -EINVAL);
}

static void test_lock_beyond_the_limit(void **state)
{
	struct syn_hostmem mem;
	struct rlimit none = { 0 };
	struct rlimit old;
	int r;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	none.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	r = syn_hostmem_init(&mem, "test", 1u << 20, SYN_HOSTMEM_LOCK, -1);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
	/* Root may lock what it likes. */
	if (!r)
		syn_hostmem_deinit(&mem);
	else
		assert_int_equal(r, -ENOMEM);
	assert_true(!r || geteuid() != 0);
}

/* The keeper has one extent, under 8 what nobody can write; under 9 it is busy. */
static struct taken {
	int fd;
	unsigned int nr_dropped;
} taken;

static int take_one(void *ctx, uint32_t id)
{
	const struct taken *t = ctx;
	char path[32];

	switch (id) {
	case 7:
		return fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
	case 8:
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", t->fd);
		return open(path, O_RDONLY | O_CLOEXEC);
	case 9:
		return -EMFILE;
	default:
		return -ENOENT;
	}
}

static void drop_one(void *ctx, uint32_t id)
{
	struct taken *t = ctx;

	t->nr_dropped++;
}

static int adopt(struct syn_dev *dev, uint32_t id, uint64_t bytes,
		 struct syn_mem *ret)
{
	return dev->ops->mem_adopt(dev, id, SYN_TIER_HOST, bytes, ret);
}

/* Memory is lost when the keeper has none; not when there is no memory for it. */
static void test_lost_extents(void **state)
{
	const struct syn_dev_host_config config = {
		.workers = 1,
		.take = take_one,
		.drop = drop_one,
		.keep_ctx = &taken,
	};
	int before = test_count_fds();
	struct syn_mem mem;
	struct syn_dev *dev;

	taken = (struct taken){ .fd = bench.host.fd };
	assert_int_equal(syn_dev_host_open(&dev, &config), 0);
	assert_int_equal(adopt(dev, 9, EXTENT_BYTES, &mem), -EMFILE);
	for (unsigned int n = 1; n < 3; n++) {
		syn_fault_arm(n);
		assert_int_equal(adopt(dev, 7, EXTENT_BYTES, &mem), -ENOMEM);
		assert_true(syn_fault_disarm());
	}
	assert_int_equal(taken.nr_dropped, 0);
	assert_int_equal(adopt(dev, 6, EXTENT_BYTES, &mem), -ENOENT);
	assert_int_equal(adopt(dev, 7, EXTENT_BYTES / 2, &mem), -ENOENT);
	assert_int_equal(adopt(dev, 8, EXTENT_BYTES, &mem), -EIO);
	assert_int_equal(taken.nr_dropped, 3);
	dev->ops->close(dev);
	assert_int_equal(test_count_fds(), before);
}

/* What the extent of a device that is gone held is there again. */
static void test_adopted_extent(void **state)
{
	const struct syn_dev_host_config config = {
		.workers = 1,
		.take = take_one,
		.keep_ctx = &taken,
	};
	struct syn_mem mem;
	struct syn_dev *dev;
	int before = test_count_fds();

	taken = (struct taken){ .fd = bench.host.fd };
	fill(bench.host.addr, EXTENT_BYTES, 23);
	assert_int_equal(syn_dev_host_open(&dev, &config), 0);
	assert_int_equal(adopt(dev, 7, EXTENT_BYTES, &mem), 0);
	assert_int_equal(mem.id, 7);
	assert_int_equal(mem.bytes, EXTENT_BYTES);
	assert_memory_equal(bytes_of(&mem), bytes_of(&bench.host),
			    EXTENT_BYTES);
	bytes_of(&mem)[5]++;
	assert_memory_equal(bytes_of(&mem), bytes_of(&bench.host),
			    EXTENT_BYTES);
	dev->ops->mem_free(dev, &mem);
	dev->ops->close(dev);
	assert_int_equal(test_count_fds(), before);
}

static int open_and_use(void)
{
	static const struct syn_dev_host_config plain = {
		.lock_memory = true,
		.huge_pages = true,
		.workers = 3,
	};
	struct syn_copy_done done;
	struct syn_dev *dev;
	struct syn_mem mem;
	uint32_t sum;
	int r;

	r = syn_dev_host_open(&dev, &plain);
	if (r)
		return r;
	r = dev->ops->mem_new(dev, 1, SYN_TIER_HOST, 2u << 20, &mem);
	if (!r) {
		struct syn_copy copy = { .src = &mem,
					 .dst = &mem,
					 .dst_off = 4096,
					 .bytes = 4096,
					 .tile_bytes = 4096,
					 .sums = &sum };

		r = dev->ops->copy(dev, &copy, 1);
		while (!r && !dev->ops->reap(dev, &done, 1))
			(void)usleep(100);
		dev->ops->mem_free(dev, &mem);
	}
	dev->ops->close(dev);
	return r;
}

static void test_fail_nth(void **state)
{
	int before = test_count_fds();
	unsigned int nr_failed = 0;
	unsigned int nth = 0;
	bool hit;

	do {
		int r;

		syn_fault_arm(++nth);
		r = open_and_use();
		hit = syn_fault_disarm();
		/* Failing to get huge pages is made good. */
		assert_true(hit || !r);
		nr_failed += r < 0;
		assert_int_equal(test_count_fds(), before);
	} while (hit);
	assert_true(nr_failed >= 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dev_test(test_nth_copy_fails),
		dev_test(test_lost_device),
		dev_test(test_delay),
		dev_test(test_close_waits),
		dev_test(test_close_while_busy),
		dev_test(test_number_of_workers),
		dev_test(test_extents_are_zeroed_sealed_and_private),
		cmocka_unit_test(test_huge_pages_are_optional),
		cmocka_unit_test(test_lock_beyond_the_limit),
		dev_test(test_adopted_extent),
		dev_test(test_lost_extents),
		cmocka_unit_test(test_fail_nth),
	};

	test_watchdog();
	return dev_contract() + cmocka_run_group_tests(tests, NULL, NULL) ? 1
									  : 0;
}
