/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels/cuda: the loader on a GPU that the test plays.  Copies are done at
 * once; bursts when the loader waits for them or when the test says so, in
 * their order: what they need and was used again too early is not there then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/sum.h"
#include "kernels/cuda/gpu-internal.h"
#include "kernels/cuda/slice.h"
#include "test/test.h"

#define PAGE	  32768u
#define TILES	  2u
#define LOAD	  16u /* pages: too many bytes for a burst to take them itself */
#define SMALL_MAX (SYN_GPU_UNITS - SYN_GPU_SLICE_UNITS + 1u)
#define LOADS	  (2 * SYN_GPU_UNITS)
#define BURSTS	  4096u

/* ---- the GPU ------------------------------------------------------------ */

struct burst {
	CUdeviceptr jobs;
	unsigned int nr;
	struct syn_gpu_report report;
};

/**
 * struct played - what was given to the GPU.
 * @burst:	to do.
 * @nr:		how many ...
 * @done:	... and those that are done.
 * @looks:	times that somebody asked whether an event is done ...
 * @waits:	... and waited for one that was not.
 */
static struct played {
	struct burst burst[BURSTS];
	unsigned int nr;
	unsigned int done;
	unsigned int looks;
	unsigned int waits;
} played;

/* Done when so many bursts are. */
struct CUevent_st {
	unsigned int at;
};

static void *bytes_at(CUdeviceptr at)
{
	return (void *)(uintptr_t)at;
}

static void tile_move(const struct syn_gpu_job *job, uint32_t k)
{
	const uint32_t row = job->bytes / SYN_GPU_ROWS;
	CUdeviceptr src = job->src + k * job->src_step;
	CUdeviceptr dst = job->dst + k * job->dst_step;

	for (uint32_t i = 0; i < SYN_GPU_ROWS; i++)
		memcpy(bytes_at(dst + (uint64_t)i * job->token),
		       bytes_at(src + (uint64_t)i * row), row);
}

static void job_run(const struct syn_gpu_job *job,
		    const struct syn_gpu_report *report)
{
	for (uint32_t k = 0; k < job->nr; k++) {
		const void *src = bytes_at(job->src + k * job->src_step);
		uint32_t want = report->sums[job->tile + k * job->tile_step];

		if (job->kind == SYN_GPU_SPREAD)
			tile_move(job, k);
		else
			assert_int_equal(job->kind, SYN_GPU_SUM);
		if (syn_sum(src, job->bytes) != want)
			report->failed[job->page] = 1;
	}
}

static void played_run(unsigned int until)
{
	for (; played.done < until; played.done++) {
		const struct burst *burst = &played.burst[played.done];
		const struct syn_gpu_job *jobs = bytes_at(burst->jobs);

		for (unsigned int i = 0; i < burst->nr; i++)
			job_run(&jobs[i], &burst->report);
	}
}

/* ---- its driver --------------------------------------------------------- */

static CUresult play_push(CUcontext context)
{
	(void)context;
	return CUDA_SUCCESS;
}

static CUresult play_pop(CUcontext *ret)
{
	*ret = NULL;
	return CUDA_SUCCESS;
}

static CUresult play_mode(CUstreamCaptureMode *mode)
{
	(void)mode;
	return CUDA_SUCCESS;
}

static CUresult play_module(CUmodule *ret, const void *image)
{
	(void)image;
	*ret = NULL;
	return CUDA_SUCCESS;
}

static CUresult play_function(CUfunction *ret, CUmodule module,
			      const char *name)
{
	(void)module;
	(void)name;
	*ret = NULL;
	return CUDA_SUCCESS;
}

static CUresult play_priorities(int *ret_least, int *ret_greatest)
{
	*ret_least = 0;
	*ret_greatest = 0;
	return CUDA_SUCCESS;
}

static CUresult play_stream_new(CUstream *ret, unsigned int flags, int priority)
{
	(void)flags;
	(void)priority;
	*ret = NULL;
	return CUDA_SUCCESS;
}

static CUresult play_stream_wait(CUstream stream)
{
	(void)stream;
	played_run(played.nr);
	return CUDA_SUCCESS;
}

static CUresult play_capturing(CUstream stream, CUstreamCaptureStatus *ret)
{
	(void)stream;
	*ret = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

static CUresult play_order(CUstream stream, CUevent event, unsigned int flags)
{
	(void)stream;
	(void)event;
	(void)flags;
	return CUDA_SUCCESS;
}

static CUresult play_event_new(CUevent *ret, unsigned int flags)
{
	(void)flags;
	*ret = calloc(1, sizeof(**ret));
	return *ret ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult play_event_free(CUevent event)
{
	free(event);
	return CUDA_SUCCESS;
}

static CUresult play_record(CUevent event, CUstream stream)
{
	(void)stream;
	event->at = played.nr;
	return CUDA_SUCCESS;
}

static CUresult play_look(CUevent event)
{
	played.looks++;
	return played.done < event->at ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

static CUresult play_wait(CUevent event)
{
	played.waits += played.done < event->at;
	played_run(event->at);
	return CUDA_SUCCESS;
}

static CUresult play_host_alloc(void **ret, size_t bytes, unsigned int flags)
{
	(void)flags;
	*ret = calloc(1, bytes);
	return *ret ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult play_host_free(void *at)
{
	free(at);
	return CUDA_SUCCESS;
}

static CUresult play_host_pointer(CUdeviceptr *ret, void *at,
				  unsigned int flags)
{
	(void)flags;
	*ret = (uintptr_t)at;
	return CUDA_SUCCESS;
}

static CUresult play_alloc(CUdeviceptr *ret, size_t bytes)
{
	void *at = malloc(bytes);

	*ret = (uintptr_t)at;
	return at ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult play_free(CUdeviceptr at)
{
	free(bytes_at(at));
	return CUDA_SUCCESS;
}

static CUresult play_copy(CUdeviceptr dst, CUdeviceptr src, size_t bytes,
			  CUstream stream)
{
	(void)stream;
	memcpy(bytes_at(dst), bytes_at(src), bytes);
	return CUDA_SUCCESS;
}

static CUresult play_rows(const CUDA_MEMCPY2D *rows, CUstream stream)
{
	for (size_t i = 0; i < rows->Height; i++)
		(void)play_copy(rows->dstDevice + i * rows->dstPitch,
				rows->srcDevice + i * rows->srcPitch,
				rows->WidthInBytes, stream);
	return CUDA_SUCCESS;
}

static CUresult play_launch(CUfunction function, unsigned int x, unsigned int y,
			    unsigned int z, unsigned int threads,
			    unsigned int threads_y, unsigned int threads_z,
			    unsigned int shared, CUstream stream, void **args,
			    void **extra)
{
	(void)function, (void)x, (void)y, (void)z;
	(void)threads, (void)threads_y, (void)threads_z;
	(void)shared, (void)stream, (void)extra;
	assert_true(played.nr < BURSTS);
	played.burst[played.nr++] = (struct burst){
		.jobs = *(const CUdeviceptr *)args[0],
		.nr = *(const unsigned int *)args[1],
		.report = *(const struct syn_gpu_report *)args[2],
	};
	return CUDA_SUCCESS;
}

static CUresult play_name(CUresult result, const char **ret)
{
	(void)result;
	*ret = "an error";
	return CUDA_SUCCESS;
}

static const struct syn_cuda_api api = {
	.cuGetErrorName = play_name,
	.cuCtxPushCurrent_v2 = play_push,
	.cuCtxPopCurrent_v2 = play_pop,
	.cuThreadExchangeStreamCaptureMode = play_mode,
	.cuModuleLoadData = play_module,
	.cuModuleGetFunction = play_function,
	.cuCtxGetStreamPriorityRange = play_priorities,
	.cuStreamCreateWithPriority = play_stream_new,
	.cuStreamSynchronize = play_stream_wait,
	.cuStreamIsCapturing = play_capturing,
	.cuStreamWaitEvent = play_order,
	.cuEventCreate = play_event_new,
	.cuEventDestroy_v2 = play_event_free,
	.cuEventRecord = play_record,
	.cuEventQuery = play_look,
	.cuEventSynchronize = play_wait,
	.cuMemHostAlloc = play_host_alloc,
	.cuMemFreeHost = play_host_free,
	.cuMemHostGetDevicePointer_v2 = play_host_pointer,
	.cuMemAlloc_v2 = play_alloc,
	.cuMemFree_v2 = play_free,
	.cuMemcpyAsync = play_copy,
	.cuMemcpy2DAsync_v2 = play_rows,
	.cuLaunchKernel = play_launch,
};

static struct syn_gpu gpu = { .api = &api };

/* ---- pages -------------------------------------------------------------- */

/* Two heads of one component, whose rows are apart where they go. */
static const struct syn_component component = {
	.role = SYN_ROLE_K, .dtype = SYN_DTYPE_F16, .heads = TILES, .dim = 64
};
#define TOKEN (2 * TILES * 64u)

/**
 * struct fixture - pages that are loaded again and again.
 * @loader:	with what they are.
 * @layout:	of those that are staged.
 * @src:	stored.
 * @sums:	of their tiles.
 * @dst:	[LOADS][LOAD] pages.
 * @page:	likewise.
 * @ticket:	of each load.
 */
struct fixture {
	struct syn_gpu_loader *loader;
	struct syn_layout layout;
	unsigned char *src;
	uint32_t sums[LOAD][TILES];
	unsigned char *dst;
	struct syn_gpu_page page[LOADS][LOAD];
	uint64_t ticket[LOADS];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->src = malloc((size_t)LOAD * PAGE);
	f->dst = calloc((size_t)LOADS * LOAD, PAGE);
	for (uint32_t i = 0; i < LOAD * PAGE; i++)
		f->src[i] = (unsigned char)((i * 2654435761u) >> 24);
	for (uint32_t i = 0; i < LOAD * TILES; i++)
		f->sums[i / TILES][i % TILES] = syn_sum(
			f->src + (size_t)i * (PAGE / TILES), PAGE / TILES);
	assert_int_equal(
		syn_layout_init(&f->layout, 128, 1, 1, &component, 0, 0), 0);
	assert_int_equal(syn_layout_tiles(&f->layout), TILES);
	memset(&played, 0, sizeof(played));
	assert_int_equal(syn_gpu_loader_open(&gpu, 1u << 20, &f->loader), 0);
	played.nr = 0;
	played.done = 0;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	syn_gpu_loader_close(f->loader);
	free(f->src);
	free(f->dst);
	free(f);
	return 0;
}

static unsigned char *page_dst(struct fixture *f, unsigned int load,
			       unsigned int i)
{
	return f->dst + ((size_t)load * LOAD + i) * PAGE;
}

static int load_begin(struct fixture *f, unsigned int load, unsigned int nr,
		      bool staged)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct syn_gpu_place place = {
			.base = (uintptr_t)page_dst(f, load, i),
			.head = TOKEN / TILES,
			.token = TOKEN,
		};

		f->page[load][i] = (struct syn_gpu_page){
			.src = (uintptr_t)f->src + (size_t)i * PAGE,
			.bytes = PAGE,
			.codec = SYN_CODEC_RAW16,
			.layout = staged ? &f->layout : NULL,
			.nr_tiles = TILES,
			.sums = f->sums[i],
			.place = place,
		};
	}
	return syn_gpu_load_begin(f->loader, f->page[load], nr,
				  &f->ticket[load]);
}

static bool row_is_there(const struct fixture *f, const unsigned char *dst,
			 unsigned int page, unsigned int head, unsigned int row)
{
	const uint32_t bytes = TOKEN / TILES;

	return !memcmp(dst + (size_t)row * TOKEN + (size_t)head * bytes,
		       f->src + (size_t)page * PAGE +
			       (size_t)head * (PAGE / TILES) +
			       (size_t)row * bytes,
		       bytes);
}

/* Byte by byte, and where they belong. */
static void load_check(struct fixture *f, unsigned int load, unsigned int nr,
		       bool staged)
{
	assert_true(syn_gpu_load_done(f->loader, f->ticket[load]));
	for (unsigned int i = 0; i < nr; i++) {
		const unsigned char *dst = page_dst(f, load, i);

		assert_int_equal(f->page[load][i].status, 0);
		if (!staged)
			assert_memory_equal(dst, f->src + (size_t)i * PAGE,
					    PAGE);
		for (unsigned int n = 0; staged && n < TILES * 128; n++)
			assert_true(
				row_is_there(f, dst, i, n % TILES, n / TILES));
	}
}

/* ---- tests -------------------------------------------------------------- */

/* As many small loads as a step has, and no look at one of them. */
static void test_small_loads(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < SMALL_MAX; i++)
		assert_int_equal(load_begin(f, i, LOAD, false), 0);
	for (unsigned int i = 0; i < SMALL_MAX; i++)
		assert_int_equal(
			syn_gpu_load_order(f->loader, f->ticket[i], NULL), 0);
	assert_int_equal(played.waits, 0);
	assert_int_equal(played.looks, 0);
	assert_false(syn_gpu_load_done(f->loader, f->ticket[0]));
	played_run(played.nr);
	for (unsigned int i = 0; i < SMALL_MAX; i++)
		load_check(f, i, LOAD, false);
	assert_int_equal(played.waits, 0);
}

/* One more waits, for as many as make a slice's room in one piece. */
static void test_one_load_more(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < SMALL_MAX; i++)
		assert_int_equal(load_begin(f, i, LOAD, false), 0);
	assert_int_equal(load_begin(f, SMALL_MAX, LOAD, false), 0);
	assert_true(played.waits > 0);
	assert_false(
		syn_gpu_load_done(f->loader, f->ticket[SYN_GPU_SLICE_UNITS]));
	played_run(played.nr);
	for (unsigned int i = 0; i <= SMALL_MAX; i++)
		load_check(f, i, LOAD, false);
}

/* The ring is full of eight that use all they may. */
static void test_large_slices(void **state)
{
	const unsigned int pages = (1u << 20) / PAGE;
	struct fixture *f = *state;

	assert_int_equal(pages, 2 * LOAD);
	assert_int_equal(load_begin(f, 0, LOAD, true), 0);
	assert_int_equal(load_begin(f, 1, LOAD, true), 0);
	assert_int_equal(f->ticket[1], 8);
	assert_int_equal(played.waits, 0);
	assert_int_equal(load_begin(f, 2, LOAD, true), 0);
	assert_int_equal(played.waits, 4);
	played_run(played.nr);
	for (unsigned int i = 0; i < 3; i++)
		load_check(f, i, LOAD, true);
}

/* Bytes that go past the ring count, too: eight loads of all that a slice may. */
static void test_large_past_the_ring(void **state)
{
	const unsigned int most = SYN_GPU_UNITS / SYN_GPU_SLICE_UNITS;
	const uint32_t tile = SYN_GPU_PAST_BYTES / SYN_TILES_MAX;
	struct fixture *f = *state;
	unsigned char *src = calloc(1, SYN_GPU_PAST_BYTES);
	unsigned char *dst = malloc(SYN_GPU_PAST_BYTES);
	uint32_t sums[SYN_TILES_MAX];

	for (unsigned int i = 0; i < SYN_TILES_MAX; i++)
		sums[i] = syn_sum(src, tile);
	for (unsigned int i = 0; i <= most; i++) {
		f->page[i][0] = (struct syn_gpu_page){
			.src = (uintptr_t)src,
			.bytes = SYN_GPU_PAST_BYTES,
			.codec = SYN_CODEC_RAW16,
			.nr_tiles = SYN_TILES_MAX,
			.sums = sums,
			.place = { .base = (uintptr_t)dst },
		};
		assert_int_equal(played.waits, 0);
		assert_int_equal(syn_gpu_load_begin(f->loader, f->page[i], 1,
						    &f->ticket[i]),
				 0);
	}
	assert_true(played.waits > 0);
	played_run(played.nr);
	assert_true(syn_gpu_load_done(f->loader, f->ticket[most]));
	assert_int_equal(f->page[most][0].status, 0);
	assert_memory_equal(dst, src, SYN_GPU_PAST_BYTES);
	free(src);
	free(dst);
}

/* Large and small ones, round and round. */
static void test_both(void **state)
{
	struct fixture *f = *state;
	unsigned int x = 1;

	for (unsigned int turn = 0; turn < 20; turn++) {
		played.nr = 0;
		played.done = 0;
		for (unsigned int i = 0; i < LOADS; i++) {
			bool staged = (i + turn) % 3 == 0;

			x = x * 1103515245u + 12345;
			assert_int_equal(
				load_begin(f, i, 9 + (x >> 16) % 8, staged), 0);
			if ((x >> 24) % 16 == 0)
				played_run(played.done +
					   (played.nr - played.done) / 2);
		}
		assert_int_equal(
			syn_gpu_load_wait(f->loader, f->ticket[LOADS - 1]), 0);
		for (unsigned int i = 0; i < LOADS; i++)
			load_check(f, i, 9, (i + turn) % 3 == 0);
		memset(f->dst, 0, (size_t)LOADS * LOAD * PAGE);
	}
}

static void test_bad_sum(void **state)
{
	struct fixture *f = *state;

	f->sums[3][1] ^= 1;
	for (unsigned int i = 0; i < SMALL_MAX; i++)
		assert_int_equal(load_begin(f, i, LOAD, false), 0);
	played_run(played.nr);
	for (unsigned int i = 0; i < SMALL_MAX; i++) {
		assert_true(syn_gpu_load_done(f->loader, f->ticket[i]));
		for (unsigned int k = 0; k < LOAD; k++)
			assert_int_equal(f->page[i][k].status,
					 k == 3 ? -EILSEQ : 0);
	}
}

/* A slice that cannot be sent ends all that are under way. */
static void test_failure(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < SMALL_MAX - 1; i++)
		assert_int_equal(load_begin(f, i, LOAD, false), 0);
	syn_fault_arm(1);
	assert_int_equal(load_begin(f, SMALL_MAX - 1, LOAD, false), -EIO);
	assert_true(syn_fault_disarm());
	for (unsigned int i = 0; i < SMALL_MAX; i++)
		for (unsigned int k = 0; k < LOAD; k++)
			assert_int_equal(f->page[i][k].status, -EIO);
	assert_int_equal(load_begin(f, SMALL_MAX, LOAD, false), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_small_loads),  T(test_one_load_more),
		T(test_large_slices), T(test_large_past_the_ring),
		T(test_both),	      T(test_bad_sum),
		T(test_failure),
#undef T
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
