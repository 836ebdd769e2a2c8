/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels/dev-cuda.h on a GPU: the contract of core/dev.h with host memory of
 * the driver and with registered memory, deaths, leaks, a GPU that is lost.
 *
 * Whoever has called CUDA must not fork, so the tests of processes come first.
 */
#include "kernels/dev-cuda.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/gpu-internal.h"
#include "test/gpu/driver.h"
#include "test/test.h"
#include "test/unit/dev-bench.h"

#define GPU_BYTES (8u << 20) /* of an extent in the tests here */

/* The process's own view of the GPU, beside the device's. */
static struct syn_gpu *own_gpu;
static struct syn_gpu_copier *own_copier;
static bool registered;
/* Room for host extents that are made ahead. */
static uint64_t ahead_bytes = 1u << 30;

static int own_open(void)
{
	int r = syn_gpu_open(&own_gpu, NULL);

	return r ? r : syn_gpu_copier_open(own_gpu, &own_copier);
}

static int cuda_open(struct syn_dev **ret, unsigned int workers,
		     struct keeper *keeper)
{
	const struct syn_dev_cuda_config config = {
		.workers = workers,
		.node = -1,
		.host_bytes = ahead_bytes,
		.registered = registered,
		.encode = true,
		.keep = keeper ? keep : NULL,
		.drop = keeper ? drop : NULL,
		.keep_ctx = keeper,
	};

	return syn_dev_cuda_open(ret, &config, NULL);
}

static void own_copy(uint64_t dst, uint64_t src, uint64_t bytes)
{
	const struct syn_gpu_span span = { dst, src, bytes };

	assert_int_equal(syn_gpu_copier_begin(own_copier, &span, 1), 0);
	assert_int_equal(syn_gpu_copier_wait(own_copier), 0);
}

/* As a client would: by the descriptor alone. */
static void mem_import(const struct syn_mem *mem, struct syn_gpu_mem *ret)
{
	assert_true(mem->handle);
	assert_int_equal(syn_gpu_mem_import(own_gpu, mem->tier, mem->fd,
					    mem->bytes, ret),
			 0);
	assert_int_equal(syn_gpu_mem_map(own_gpu, ret, 0), 0);
}

static void cuda_write(const struct syn_mem *mem, uint64_t at, const void *from,
		       uint64_t bytes)
{
	struct syn_gpu_mem view;

	if (mem->tier == SYN_TIER_HOST) {
		memcpy((char *)mem->addr + at, from, bytes);
		return;
	}
	mem_import(mem, &view);
	own_copy(view.at + at, (uintptr_t)from, bytes);
	syn_gpu_mem_free(own_gpu, &view);
}

static void cuda_read(const struct syn_mem *mem, uint64_t at, void *to,
		      uint64_t bytes)
{
	struct syn_gpu_mem view;

	if (mem->tier == SYN_TIER_HOST) {
		memcpy(to, (const char *)mem->addr + at, bytes);
		return;
	}
	mem_import(mem, &view);
	own_copy((uintptr_t)to, view.at + at, bytes);
	syn_gpu_mem_free(own_gpu, &view);
}

const struct dev_maker maker = {
	.open = cuda_open,
	.write = cuda_write,
	.read = cuda_read,
};

/* ---- processes ---------------------------------------------------------- */

/* Runs @body in a child that may call CUDA; its exit code, or -signal. */
static int in_child(int (*body)(void *ctx), void *ctx)
{
	pid_t pid = fork_child();
	int status;

	if (pid == 0)
		_exit(body(ctx));
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Of the device's own calls; nothing of cmocka works in a child. */
#define child_check(what)                                                      \
	do {                                                                   \
		if (!(what)) {                                                 \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__,         \
				      __LINE__, #what);                        \
			return 1;                                              \
		}                                                              \
	} while (0)

static int probe_body(void *ctx)
{
	struct syn_gpu *gpu;
	int r = syn_gpu_open(&gpu, NULL);

	(void)ctx;
	if (r == -ENODEV || r == -ENOSYS)
		return TEST_SKIP;
	return r ? 1 : 0;
}

/**
 * struct handover - two extents that outlive who made them.
 * @sock:	the maker sends the descriptors through the first.
 * @fd:		of each tier, as the keeper got it.
 */
struct handover {
	int sock[2];
	int fd[2];
};

static int fds_send(int sock, const int *fds)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = { 0 };
	char byte = 1;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

static void fds_receive(int sock, int *ret)
{
	char control[CMSG_SPACE(2 * sizeof(int))];
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };

	assert_int_equal(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC), 1);
	assert_non_null(CMSG_FIRSTHDR(&msg));
	memcpy(ret, CMSG_DATA(CMSG_FIRSTHDR(&msg)), 2 * sizeof(int));
}

/* Makes both extents, fills them, hands them over, and is killed. */
static int maker_body(void *ctx)
{
	static unsigned char bytes[GPU_BYTES];
	const struct handover *over = ctx;
	struct syn_dev *dev;
	struct syn_mem mem[2];
	int fds[2];

	child_check(own_open() == 0);
	child_check(cuda_open(&dev, 1, NULL) == 0);
	for (uint32_t i = 0; i < 2; i++) {
		child_check(dev->ops->mem_new(dev, i, SYN_TIER_HBM + i,
					      GPU_BYTES, &mem[i]) == 0);
		child_check(mem[i].handle);
		fill(bytes, GPU_BYTES, 40 + i);
		cuda_write(&mem[i], 0, bytes, GPU_BYTES);
		fds[i] = mem[i].fd;
	}
	child_check(fds_send(over->sock[1], fds) == 0);
	(void)raise(SIGKILL);
	return 1;
}

/* Imports what the dead one made. */
static int importer_body(void *ctx)
{
	static unsigned char want[GPU_BYTES];
	static unsigned char got[GPU_BYTES];
	const struct handover *over = ctx;

	child_check(own_open() == 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct syn_gpu_mem view;

		child_check(syn_gpu_mem_import(own_gpu, SYN_TIER_HBM + i,
					       over->fd[i], GPU_BYTES,
					       &view) == 0);
		child_check(syn_gpu_mem_map(own_gpu, &view, 0) == 0);
		own_copy((uintptr_t)got, view.at, GPU_BYTES);
		fill(want, GPU_BYTES, 40 + i);
		child_check(memcmp(got, want, GPU_BYTES) == 0);
		if (i)
			child_check(memcmp((void *)(uintptr_t)view.at, want,
					   GPU_BYTES) == 0);
		syn_gpu_mem_free(own_gpu, &view);
	}
	return 0;
}

static void test_bytes_outlive_the_maker(void **state)
{
	struct handover over;

	(void)state;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, over.sock),
		0);
	assert_int_equal(in_child(maker_body, &over), -SIGKILL);
	fds_receive(over.sock[0], over.fd);
	assert_int_equal(in_child(importer_body, &over), 0);
	for (unsigned int i = 0; i < 2; i++) {
		(void)close(over.fd[i]);
		(void)close(over.sock[i]);
	}
}

/* ---- a GPU that is lost ------------------------------------------------- */

static const char stray_ptx[] =
	".version 7.0\n.target sm_70\n.address_size 64\n"
	".visible .entry stray()\n{\n"
	"	.reg .u64 %a;\n	mov.u64 %a, 16;\n"
	"	st.global.u32 [%a], 0;\n	ret;\n}\n";

/* A kernel that writes where nothing is: the context is lost for good. */
static int context_break(void)
{
	const struct syn_cuda_api *api = own_gpu->api;
	struct syn_gpu_scope scope;
	CUfunction stray;
	CUmodule module;
	CUresult result;

	if (syn_gpu_enter(own_gpu, &scope))
		return -EIO;
	result = api->cuModuleLoadData(&module, stray_ptx);
	if (!result)
		result = api->cuModuleGetFunction(&stray, module, "stray");
	if (!result)
		result = api->cuLaunchKernel(stray, 1, 1, 1, 1, 1, 1, 0, NULL,
					     NULL, NULL);
	if (result)
		return -EIO;
	result = api->cuStreamSynchronize(NULL);
	syn_gpu_leave(&scope);
	return result ? 0 : -EIO;
}

static int copy_status(struct syn_dev *dev, const struct syn_mem *src,
		       const struct syn_mem *dst)
{
	struct syn_copy_done done;
	uint32_t sum;
	struct syn_copy copy = {
		.src = src,
		.dst = dst,
		.bytes = 4096,
		.tile_bytes = 4096,
		.sums = &sum,
	};
	int r = dev->ops->copy(dev, &copy, 1);

	while (!r && !dev->ops->reap(dev, &done, 1))
		(void)usleep(100);
	return r ? r : done.status;
}

static int lost_body(void *ctx)
{
	struct syn_mem mem[2];
	struct syn_mem more;
	struct syn_dev *dev;

	(void)ctx;
	child_check(own_open() == 0);
	child_check(cuda_open(&dev, 1, NULL) == 0);
	for (uint32_t i = 0; i < 2; i++)
		child_check(dev->ops->mem_new(dev, i, SYN_TIER_HBM + i,
					      GPU_BYTES, &mem[i]) == 0);
	memset(mem[1].addr, 0x77, GPU_BYTES);
	child_check(copy_status(dev, &mem[0], &mem[1]) == 0);
	child_check(context_break() == 0);
	for (int i = 0; i < 3; i++) {
		child_check(copy_status(dev, &mem[0], &mem[1]) == -EIO);
		child_check(copy_status(dev, &mem[1], &mem[0]) == -EIO);
		child_check(copy_status(dev, &mem[1], &mem[1]) == -EIO);
		child_check(dev->ops->mem_new(dev, 3, SYN_TIER_HBM, GPU_BYTES,
					      &more) == -EIO);
		child_check(dev->ops->mem_new(dev, 3, SYN_TIER_HOST, GPU_BYTES,
					      &more) == -EIO);
	}
	/* What the host tier has still serves. */
	child_check(((unsigned char *)mem[1].addr)[GPU_BYTES - 1] == 0x77);
	for (int i = 0; i < 2; i++)
		dev->ops->mem_free(dev, &mem[i]);
	dev->ops->close(dev);
	return 0;
}

static void test_lost_gpu(void **state)
{
	(void)state;
	/* Its stray write is what compute-sanitizer is there to find. */
	if (getenv("SYN_TEST_MEMCHECK"))
		skip();
	assert_int_equal(in_child(lost_body, NULL), 0);
}

/* ---- leaks -------------------------------------------------------------- */

static void mem_cycle(struct syn_dev *dev, uint32_t tier)
{
	struct syn_mem mem;

	assert_int_equal(dev->ops->mem_new(dev, 9, tier, GPU_BYTES, &mem), 0);
	dev->ops->mem_free(dev, &mem);
}

/* What was freed before is gone once this has been made. */
static uint64_t room_beside_one(struct syn_dev *dev, int *ret_nr_fds)
{
	struct syn_mem mem;
	uint64_t room;

	assert_int_equal(
		dev->ops->mem_new(dev, 9, SYN_TIER_HBM, GPU_BYTES, &mem), 0);
	assert_int_equal(syn_gpu_room(own_gpu, &room), 0);
	*ret_nr_fds = test_count_fds();
	dev->ops->mem_free(dev, &mem);
	return room;
}

static void test_memory_is_flat(void **state)
{
	uint64_t before;
	int nr_fds;
	int now_fds;

	(void)state;
	/* A spare that is a memfd holds a descriptor at times. */
	ahead_bytes = 0;
	assert_int_equal(dev_teardown(NULL), 0);
	assert_int_equal(dev_setup(NULL), 0);
	mem_cycle(bench.dev, SYN_TIER_HOST);
	before = room_beside_one(bench.dev, &nr_fds);
	for (uint32_t i = 0; i < 200; i++)
		mem_cycle(bench.dev, SYN_TIER_HBM + i % 2);
	assert_int_equal(room_beside_one(bench.dev, &now_fds), before);
	assert_int_equal(now_fds, nr_fds);
	ahead_bytes = 1u << 30;
}

/* Extents come and go beside a spare, which never takes what they need. */
static void test_spare(void **state)
{
	static const unsigned char zero[GPU_BYTES];
	struct syn_mem mem[4];
	struct syn_dev *dev;
	int nr_fds = test_count_fds();

	(void)state;
	ahead_bytes = 4 * GPU_BYTES;
	assert_int_equal(cuda_open(&dev, 1, NULL), 0);
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < 4; i++) {
			uint64_t bytes = GPU_BYTES / (1 + (i + round) % 2);

			assert_int_equal(dev->ops->mem_new(dev, i,
							   SYN_TIER_HOST, bytes,
							   &mem[i]),
					 0);
			assert_int_equal(mem[i].bytes, bytes);
			assert_memory_equal(mem[i].addr, zero, bytes);
			memset(mem[i].addr, 0x5a, bytes);
			if (round % 2)
				(void)usleep(2000);
		}
		for (unsigned int i = 0; i < 4; i++)
			dev->ops->mem_free(dev, &mem[i]);
	}
	dev->ops->close(dev);
	ahead_bytes = 1u << 30;
	assert_int_equal(test_count_fds(), nr_fds);
}

static int open_and_use(void)
{
	struct syn_mem hbm;
	struct syn_mem host;
	struct syn_dev *dev;
	int r;

	r = cuda_open(&dev, 2, NULL);
	if (r)
		return r;
	r = dev->ops->mem_new(dev, 1, SYN_TIER_HBM, GPU_BYTES, &hbm);
	if (r)
		goto close_dev;
	r = dev->ops->mem_new(dev, 2, SYN_TIER_HOST, GPU_BYTES, &host);
	if (r)
		goto free_hbm;
	r = copy_status(dev, &hbm, &host);
	dev->ops->mem_free(dev, &host);
free_hbm:
	dev->ops->mem_free(dev, &hbm);
close_dev:
	dev->ops->close(dev);
	return r;
}

static void test_fail_nth(void **state)
{
	unsigned int nr_failed = 0;
	unsigned int nth = 0;
	uint64_t before;
	uint64_t after;
	int nr_fds;
	bool hit;

	(void)state;
	assert_int_equal(open_and_use(), 0);
	nr_fds = test_count_fds();
	assert_int_equal(syn_gpu_room(own_gpu, &before), 0);
	do {
		int r;

		syn_fault_arm(++nth);
		r = open_and_use();
		hit = syn_fault_disarm();
		assert_true(hit || !r);
		nr_failed += r < 0;
		assert_int_equal(test_count_fds(), nr_fds);
	} while (hit);
	assert_int_equal(syn_gpu_room(own_gpu, &after), 0);
	assert_int_equal(after, before);
	assert_true(nr_failed >= 10);
}

static void test_open_says_why(void **state)
{
	struct syn_dev_cuda_config config = { .node = -1, .workers = 1 };
	struct syn_dev_cuda_about about;
	struct syn_dev *dev = NULL;

	(void)state;
	config.uuid = "GPU-nonsense";
	assert_int_equal(syn_dev_cuda_open(&dev, &config, &about), -EINVAL);
	config.uuid = "GPU-00000000-0000-0000-0000-000000000000";
	assert_int_equal(syn_dev_cuda_open(&dev, &config, &about), -ENODEV);
	assert_null(dev);
	config.uuid = NULL;
	assert_int_equal(syn_dev_cuda_open(&dev, &config, &about), 0);
	assert_memory_equal(dev->uuid, syn_gpu_info(own_gpu)->uuid,
			    sizeof(dev->uuid));
	assert_int_equal(dev->granule, SYN_GPU_GRANULE);
	dev->ops->close(dev);
	config.uuid = about.uuid;
	assert_int_equal(syn_dev_cuda_open(&dev, &config, &about), 0);
	dev->ops->close(dev);
	assert_true(syn_dev_cuda_built());
	assert_true(about.bytes > 1ull << 30);
	assert_true(about.node >= 0);
}

/* From HBM to itself, or encoded on the way up: nobody could. */
static void test_refuses(void **state)
{
	uint32_t sums[TILES];
	struct syn_copy copy = copy_page(0, sums);

	(void)state;
	copy.dst = &bench.hbm;
	copy.dst_off = 0;
	assert_int_equal(bench.dev->ops->copy(bench.dev, &copy, 1), -EINVAL);
	assert_false(event_is_up(20));
}

static int run_processes(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_outlive_the_maker),
		cmocka_unit_test(test_lost_gpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

static int run_here(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_says_why),
		dev_test(test_refuses),
		dev_test(test_memory_is_flat),
		cmocka_unit_test(test_spare),
		cmocka_unit_test(test_fail_nth),
	};

	return dev_contract() + dev_contract_encode() +
	       cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	int failed;

	test_watchdog();
	syn_log_set_level(SYN_LOG_ERROR);
	if (in_child(probe_body, NULL) == TEST_SKIP)
		return TEST_SKIP;
	failed = run_processes();
	if (!driver_take() || own_open())
		return 1;
	failed += run_here();
	registered = true;
	failed += run_here();
	return failed ? 1 : 0;
}
