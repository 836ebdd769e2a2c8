/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA device: scattered pages between HBM and host extents, sums included,
 * beside one large copy of pinned memory.
 */
#include <poll.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/dev.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/gpu.h"
#include "kernels/dev-cuda.h"
#include "tools/bench/bench.h"
#include "tools/bench/page.h"

#define MIB	     ((uint64_t)1 << 20)
#define GIB	     ((uint64_t)1 << 30)
#define HBM_EXTENTS  32u
#define HBM_BYTES    (64 * MIB)
#define HOST_EXTENTS 32u
#define HOST_BYTES   (256 * MIB)
#define SET_BYTES    (2 * GIB) /* pages of a run, in either tier */
#define QUEUE	     768u      /* copies under way */
#define LARGE_BYTES  GIB

enum way { WAY_DOWN, WAY_UP, WAY_BOTH, WAY_ENCODE, WAY_NR };

/**
 * struct yard - the device and its extents.
 * @dev:	the CUDA device.
 * @gpu:	this process's own view, for the large copies.
 * @hbm:	extents.
 * @host:	extents.
 * @nr_hbm:	made so far.
 * @nr_host:	made so far.
 * @side:	QUEUE of them ...
 * @free:	... of which these are not in use.
 * @nr_free:	their number.
 */
struct yard {
	struct syn_dev *dev;
	struct syn_gpu *gpu;
	struct syn_mem hbm[HBM_EXTENTS];
	struct syn_mem host[HOST_EXTENTS];
	unsigned int nr_hbm;
	unsigned int nr_host;
	struct syn_bench_side *side;
	unsigned int free[QUEUE];
	unsigned int nr_free;
};

static double seconds_since(uint64_t began_ns)
{
	return (double)(syn_now_ns() - began_ns) / 1e9;
}

/* ---- one large copy ----------------------------------------------------- */

/**
 * struct large - pinned memory and HBM, each twice LARGE_BYTES.
 * @copier:	one each way.
 * @pinned:	host memory.
 * @mem:	HBM.
 */
struct large {
	struct syn_gpu_copier *copier[2];
	void *pinned;
	struct syn_gpu_mem mem;
};

static void large_close(struct yard *yard, struct large *large)
{
	for (int i = 0; i < 2; i++)
		syn_gpu_copier_close(large->copier[i]);
	syn_gpu_pinned_free(yard->gpu, large->pinned);
	if (large->mem.bytes)
		syn_gpu_mem_free(yard->gpu, &large->mem);
}

static int large_open(struct yard *yard, struct large *large)
{
	int r = 0;

	for (int i = 0; i < 2 && !r; i++)
		r = syn_gpu_copier_open(yard->gpu, &large->copier[i]);
	if (!r)
		r = syn_gpu_pinned_new(yard->gpu, 2 * LARGE_BYTES,
				       &large->pinned);
	if (!r)
		r = syn_gpu_mem_new(yard->gpu, SYN_TIER_HBM, -1,
				    2 * LARGE_BYTES, &large->mem);
	return r ? r : syn_gpu_mem_map(yard->gpu, &large->mem, 0);
}

/* GB/s of both directions together. */
static int large_run(struct large *large, enum way way, double *ret)
{
	uint64_t host = (uintptr_t)large->pinned;
	const struct syn_gpu_span span[] = {
		{ host, large->mem.at, LARGE_BYTES },
		{ large->mem.at + LARGE_BYTES, host + LARGE_BYTES,
		  LARGE_BYTES },
	};
	uint64_t began_ns = syn_now_ns();
	unsigned int nr = 0;
	int r = 0;

	for (int i = 0; i < 2 && !r; i++) {
		if (way != WAY_BOTH && (int)way != i)
			continue;
		r = syn_gpu_copier_begin(large->copier[i], &span[i], 1);
		nr++;
	}
	for (int i = 0; i < 2; i++)
		if (syn_gpu_copier_busy(large->copier[i]) && !r)
			r = syn_gpu_copier_wait(large->copier[i]);
	*ret = (double)(nr * LARGE_BYTES) / 1e9 / seconds_since(began_ns);
	return r;
}

static int large_measure(struct yard *yard, double ret[WAY_BOTH + 1])
{
	struct large large = { 0 };
	int r = large_open(yard, &large);

	/* The first of each warms up. */
	for (int turn = 0; turn < 2; turn++)
		for (int way = 0; way <= WAY_BOTH && !r; way++)
			r = large_run(&large, (enum way)way, &ret[way]);
	large_close(yard, &large);
	return r;
}

/* ---- pages -------------------------------------------------------------- */

/* Page @i of the set, in an order that no prefetcher guesses. */
static void page_place(const struct syn_mem *extents, uint64_t extent_bytes,
		       uint64_t page_bytes, uint64_t i, uint64_t step,
		       const struct syn_mem **ret, uint64_t *ret_off)
{
	uint64_t at = i * step % (SET_BYTES / page_bytes) * page_bytes;

	*ret = &extents[at / extent_bytes];
	*ret_off = at % extent_bytes;
}

static struct syn_copy page_copy(struct yard *yard, enum way way,
				 uint64_t page_bytes, uint64_t i)
{
	unsigned int side = yard->free[--yard->nr_free];
	bool up = way == WAY_UP || (way == WAY_BOTH && i & 1);
	struct syn_copy copy = {
		.cookie = side,
		.bytes = page_bytes,
		.tile_bytes = syn_min(page_bytes, (uint64_t)32768),
		.sums = yard->side[side].sums,
		.encode = way == WAY_ENCODE ? &syn_bench_layout : NULL,
		.stored_sums = yard->side[side].stored_sums,
		.error = yard->side[side].error,
	};

	page_place(yard->hbm, HBM_BYTES, page_bytes, i, 2654435761u,
		   up ? &copy.dst : &copy.src,
		   up ? &copy.dst_off : &copy.src_off);
	page_place(yard->host, HOST_BYTES, page_bytes, i, 40503u,
		   up ? &copy.src : &copy.dst,
		   up ? &copy.src_off : &copy.dst_off);
	return copy;
}

/* Those that have ended; -errno of the first that failed. */
static int pages_reap(struct yard *yard, unsigned int *ret_nr)
{
	struct syn_copy_done done[256];
	unsigned int nr =
		yard->dev->ops->reap(yard->dev, done, syn_array_size(done));
	int r = 0;

	for (unsigned int i = 0; i < nr; i++) {
		yard->free[yard->nr_free++] = (unsigned int)done[i].cookie;
		r = r ? r : done[i].status;
	}
	*ret_nr = nr;
	return r;
}

/* After a failure: nothing may be under way when extents are freed. */
static void pages_drain(struct yard *yard, unsigned int under_way)
{
	while (under_way) {
		unsigned int nr;

		(void)pages_reap(yard, &nr);
		under_way -= nr;
		(void)usleep(1000);
	}
}

/* All pages of the set, QUEUE at a time: GB/s. */
static int pages_run(struct yard *yard, enum way way, uint64_t page_bytes,
		     double *ret)
{
	struct pollfd event = { .fd = yard->dev->ops->event_fd(yard->dev),
				.events = POLLIN };
	uint64_t pages = SET_BYTES / page_bytes;
	uint64_t began_ns = syn_now_ns();
	struct syn_copy copies[64];
	uint64_t given = 0;
	uint64_t ended = 0;
	int r = 0;

	while (ended < pages && !r) {
		unsigned int nr = 0;

		while (nr < 64 && yard->nr_free && given < pages)
			copies[nr++] =
				page_copy(yard, way, page_bytes, given++);
		if (nr)
			r = yard->dev->ops->copy(yard->dev, copies, nr);
		if (r)
			given -= nr;
		if (!r && (!yard->nr_free || given == pages))
			(void)poll(&event, 1, -1);
		nr = 0;
		if (!r)
			r = pages_reap(yard, &nr);
		ended += nr;
	}
	if (r)
		pages_drain(yard, (unsigned int)(given - ended));
	*ret = (double)SET_BYTES / 1e9 / seconds_since(began_ns);
	return r;
}

static const struct {
	uint64_t page_bytes;
	enum way way;
	const char *name;
	const char *ratio;
	double goal;
} runs[] = {
	{ 2 * MIB, WAY_DOWN, "down, 2 MiB", "down / one large copy, 2 MiB",
	  0.97 },
	{ 2 * MIB, WAY_UP, "up, 2 MiB", "up / one large copy, 2 MiB", 0.97 },
	{ 2 * MIB, WAY_BOTH, "both ways, 2 MiB",
	  "both ways / large copies, 2 MiB", 0 },
	{ 64 << 10, WAY_DOWN, "down, 64 KiB", "down / one large copy, 64 KiB",
	  0.7 },
	{ 64 << 10, WAY_UP, "up, 64 KiB", "up / one large copy, 64 KiB", 0.7 },
	{ 64 << 10, WAY_BOTH, "both ways, 64 KiB",
	  "both ways / large copies, 64 KiB", 0 },
	{ 2 * MIB, WAY_ENCODE, "down as h4, 2 MiB", NULL, 0 },
};

static int moves_measure(struct syn_bench *bench, struct yard *yard)
{
	double large[WAY_BOTH + 1];
	double gbps;
	int r = large_measure(yard, large);

	for (size_t i = 0; i < syn_array_size(runs) && !r; i++) {
		r = pages_run(yard, runs[i].way, runs[i].page_bytes, &gbps);
		syn_figure_add(&bench->figures, "gpu-move", runs[i].name,
			       "GB/s", SYN_GOAL_NONE, 0, gbps);
		if (runs[i].ratio)
			syn_figure_add(&bench->figures, "gpu-move",
				       runs[i].ratio, "x",
				       runs[i].goal > 0 ? SYN_GOAL_AT_LEAST
							: SYN_GOAL_NONE,
				       runs[i].goal, gbps / large[runs[i].way]);
	}
	return r;
}

/* ---- extents ------------------------------------------------------------ */

static void extents_free(struct yard *yard)
{
	while (yard->nr_host)
		yard->dev->ops->mem_free(yard->dev,
					 &yard->host[--yard->nr_host]);
	while (yard->nr_hbm)
		yard->dev->ops->mem_free(yard->dev, &yard->hbm[--yard->nr_hbm]);
}

static int extents_make(struct yard *yard)
{
	int r = 0;

	for (; yard->nr_host < HOST_EXTENTS && !r; yard->nr_host += !r)
		r = yard->dev->ops->mem_new(yard->dev, yard->nr_host,
					    SYN_TIER_HOST, HOST_BYTES,
					    &yard->host[yard->nr_host]);
	for (; yard->nr_hbm < HBM_EXTENTS && !r; yard->nr_hbm += !r)
		r = yard->dev->ops->mem_new(yard->dev, 1000 + yard->nr_hbm,
					    SYN_TIER_HBM, HBM_BYTES,
					    &yard->hbm[yard->nr_hbm]);
	return r;
}

/* ---- all of it ---------------------------------------------------------- */

static int gpu_run(struct syn_bench *bench, struct yard *yard)
{
	int r = extents_make(yard);

	if (!r)
		r = moves_measure(bench, yard);
	extents_free(yard);
	return r;
}

static int gpu_runs(struct syn_bench *bench)
{
	const struct syn_dev_cuda_config config = { .node = -1,
						    .encode = true };
	struct yard *yard = syn_alloc(1, sizeof(*yard));
	int r = yard ? syn_gpu_open(&yard->gpu, NULL) : -ENOMEM;

	if (!r)
		yard->side = syn_alloc(QUEUE, sizeof(*yard->side));
	if (!r)
		r = yard->side ? syn_dev_cuda_open(&yard->dev, &config, NULL)
			       : -ENOMEM;
	for (unsigned int i = 0; i < QUEUE && !r; i++)
		yard->free[yard->nr_free++] = i;
	for (unsigned int i = 0; i < bench->runs && !r; i++)
		r = gpu_run(bench, yard);
	if (yard && yard->dev)
		yard->dev->ops->close(yard->dev);
	if (yard) {
		syn_gpu_close(yard->gpu);
		free(yard->side);
	}
	free(yard);
	return r;
}

int syn_bench_gpu_move(struct syn_bench *bench)
{
	int r;

	syn_cpu_free();
	r = gpu_runs(bench);
	if (r == -ENODEV || r == -ENOSYS) {
		(void)fprintf(stderr, "gpu-move: there is no GPU\n");
		return 0;
	}
	return r ? syn_bench_fail("gpu-move", r) : 0;
}
