/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a GPU and its link can do without Synapse: large copies in each
 * direction, and scattered pages by the ways that an engine has today.
 */
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/bench/gpu.h"

#define COPY_EXTENTS	16u	/* 4 GiB of host memory to pick pages from */
#define COPY_BYTES	SYN_GIB /* of a pass over pages */
#define COPY_SLOT_BYTES (2 * SYN_GIB)
#define COPY_BATCH	1024u /* pages in one cuMemcpyBatchAsync */

#define GATHER_BLOCKS  64u
#define GATHER_THREADS 1024u

/**
 * struct haul - pages to copy.
 * @rig:	where.
 * @stock:	the host pages.
 * @slots:	where they go.
 * @dst:	@nr addresses, in HBM as well at @lists ...
 * @src:	... followed by these.
 * @sizes:	@nr times @page_bytes.
 * @lists:	see @dst.
 * @page_bytes:	of a page.
 * @nr:		pages of a pass.
 */
struct haul {
	struct syn_rig *rig;
	struct syn_stock stock;
	struct syn_region slots;
	CUdeviceptr *dst;
	CUdeviceptr *src;
	size_t *sizes;
	CUdeviceptr lists;
	uint32_t page_bytes;
	uint32_t nr;
};

static int loop_copy(const struct haul *haul)
{
	int r = 0;

	for (uint32_t i = 0; i < haul->nr && !r; i++)
		r = syn_rig_copy(haul->rig, haul->rig->engine, haul->dst[i],
				 haul->src[i], haul->page_bytes);
	return r;
}

static int batch_copy(const struct haul *haul)
{
	CUmemcpyAttributes attrs = {
		.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
	};
	size_t at = 0;
	int r = 0;

	for (uint32_t i = 0; i < haul->nr && !r; i += COPY_BATCH)
		r = syn_rig_check(haul->rig,
				  haul->rig->api->batch(
					  haul->dst + i, haul->src + i,
					  haul->sizes,
					  syn_min(COPY_BATCH, haul->nr - i),
					  &attrs, &at, 1, haul->rig->engine),
				  "cuMemcpyBatchAsync");
	return r;
}

static int gather_copy(const struct haul *haul)
{
	const struct syn_rig *rig = haul->rig;
	CUdeviceptr dst = haul->lists;
	CUdeviceptr src = haul->lists + haul->nr * sizeof(*haul->src);
	uint32_t nr = haul->nr, bytes = haul->page_bytes;
	void *args[] = { &dst, &src, &nr, &bytes };

	return syn_rig_check(rig,
			     rig->api->cuLaunchKernel(rig->gather,
						      GATHER_BLOCKS, 1, 1,
						      GATHER_THREADS, 1, 1, 0,
						      rig->engine, args, NULL),
			     "gather");
}

/* ---- scattered pages ---------------------------------------------------- */

static const struct {
	uint32_t page_bytes;
	const char *name[3];
} sizes[] = {
	{ 64u << 10,
	  { "loop of copies, 64 KiB", "batch of copies, 64 KiB",
	    "gather kernel, 64 KiB" } },
	{ 256u << 10,
	  { "loop of copies, 256 KiB", "batch of copies, 256 KiB",
	    "gather kernel, 256 KiB" } },
	{ 2u << 20,
	  { "loop of copies, 2 MiB", "batch of copies, 2 MiB",
	    "gather kernel, 2 MiB" } },
};

static int (*const ways[])(const struct haul *) = { loop_copy, batch_copy,
						    gather_copy };

/* Pages and slots in random order. */
static int haul_pages(struct haul *haul, uint32_t page_bytes)
{
	uint32_t pairs = page_bytes / SYN_PAIR_BYTES;
	uint32_t pages = syn_stock_pages(&haul->stock, pairs);
	uint32_t slots = (uint32_t)(COPY_SLOT_BYTES / page_bytes);
	uint32_t *from = syn_alloc(pages, sizeof(*from));
	uint32_t *to = syn_alloc(slots, sizeof(*to));
	struct syn_gpu_page page;
	int r = -ENOMEM;

	haul->page_bytes = page_bytes;
	haul->nr = (uint32_t)(COPY_BYTES / page_bytes);
	haul->src = haul->dst + haul->nr;
	if (from && to) {
		syn_shuffle(from, pages, 3);
		syn_shuffle(to, slots, 4);
		for (uint32_t i = 0; i < haul->nr; i++) {
			syn_stock_page(&haul->stock, pairs, from[i], &page);
			haul->src[i] = page.src;
			haul->dst[i] =
				haul->slots.at + (uint64_t)to[i] * page_bytes;
			haul->sizes[i] = page_bytes;
		}
		r = syn_rig_copy(haul->rig, haul->rig->engine, haul->lists,
				 (uintptr_t)haul->dst,
				 2 * haul->nr * sizeof(*haul->dst));
	}
	if (!r)
		r = syn_rig_wait(haul->rig, haul->rig->engine);
	free(from);
	free(to);
	return r;
}

/* Page @i of the pass is in its slot, byte for byte. */
static int haul_check(const struct haul *haul, uint32_t i)
{
	unsigned char *got = haul->rig->pinned;
	int r;

	r = syn_rig_copy(haul->rig, haul->rig->engine, (uintptr_t)got,
			 haul->dst[i], haul->page_bytes);
	if (!r)
		r = syn_rig_wait(haul->rig, haul->rig->engine);
	/* Host extents are mapped for the CPU at the same address. */
	if (!r &&
	    memcmp(got, (void *)(uintptr_t)haul->src[i], haul->page_bytes) != 0)
		r = -EILSEQ;
	return r;
}

static int slots_poison(const struct haul *haul)
{
	int r = 0;

	for (uint32_t i = 0; i < haul->slots.nr && !r; i++)
		r = syn_rig_check(haul->rig,
				  haul->rig->api->cuMemsetD32Async(
					  haul->slots.mem[i].at, 0xdeadbeef,
					  haul->slots.extent / 4,
					  haul->rig->engine),
				  "cuMemsetD32Async");
	return r ? r : syn_rig_wait(haul->rig, haul->rig->engine);
}

static int way_run(struct syn_bench *bench, const struct haul *haul,
		   unsigned int way, const char *name, bool counts)
{
	uint64_t begin_ns;
	int r = counts ? 0 : slots_poison(haul);

	begin_ns = syn_now_ns();
	if (!r)
		r = ways[way](haul);
	if (!r)
		r = syn_rig_wait(haul->rig, haul->rig->engine);
	if (!r && counts)
		syn_figure_add(&bench->figures, "gpu-copy", name, "GB/s",
			       SYN_GOAL_NONE, 0,
			       (double)haul->nr * haul->page_bytes /
				       (double)(syn_now_ns() - begin_ns));
	for (uint32_t i = 0; i < haul->nr && !r && !counts; i += haul->nr / 16)
		r = haul_check(haul, i);
	return r;
}

/* A first run of each, which does not count, shows that it is right. */
static int pages_measure(struct syn_bench *bench, struct haul *haul)
{
	int r = 0;

	for (unsigned int i = 0; i < syn_array_size(sizes) && !r; i++) {
		r = haul_pages(haul, sizes[i].page_bytes);
		for (unsigned int run = 0; run <= bench->runs && !r; run++)
			for (unsigned int k = 0; k < syn_array_size(ways) && !r;
			     k++)
				if (k != 1 || haul->rig->api->batch)
					r = way_run(bench, haul, k,
						    sizes[i].name[k], run > 0);
	}
	return r;
}

static int haul_open(struct syn_rig *rig, struct haul *ret)
{
	struct haul haul = { .rig = rig };
	uint32_t most = (uint32_t)(COPY_BYTES / SYN_PAIR_BYTES);
	int r = -ENOMEM;

	haul.dst = syn_alloc(2 * most, sizeof(*haul.dst));
	haul.sizes = syn_alloc(most, sizeof(*haul.sizes));
	if (haul.dst && haul.sizes)
		r = syn_rig_check(
			rig,
			rig->api->cuMemAlloc_v2(&haul.lists,
						2 * most * sizeof(*haul.dst)),
			"cuMemAlloc");
	if (!r)
		r = syn_region_open(rig, SYN_TIER_HBM, SYN_HBM_EXTENT,
				    COPY_SLOT_BYTES / SYN_HBM_EXTENT,
				    &haul.slots);
	if (!r)
		r = syn_stock_open(rig, SYN_CODEC_RAW16, COPY_EXTENTS,
				   &haul.stock);
	*ret = haul;
	return r;
}

static void haul_close(struct haul *haul)
{
	if (haul->stock.host.mem)
		syn_stock_close(&haul->stock);
	syn_region_close(&haul->slots);
	if (haul->lists)
		(void)haul->rig->api->cuMemFree_v2(haul->lists);
	free(haul->dst);
	free(haul->sizes);
}

/* ---- large copies ------------------------------------------------------- */

static void large_figure(struct syn_bench *bench, const char *name, double rate)
{
	syn_figure_add(&bench->figures, "gpu-copy", name, "GB/s", SYN_GOAL_NONE,
		       0, rate);
}

static int large_measure(struct syn_bench *bench, const struct syn_rig *rig)
{
	double up, one, down, both, device;
	int r = 0;

	for (unsigned int run = 0; run <= bench->runs && !r; run++) {
		r = syn_rig_copy_large(rig, &one);
		if (!r)
			r = syn_rig_copy_ways(rig, true, false, &up);
		if (!r)
			r = syn_rig_copy_ways(rig, false, true, &down);
		if (!r)
			r = syn_rig_copy_ways(rig, true, true, &both);
		if (!r)
			r = syn_rig_copy_device(rig, &device);
		if (r || !run)
			continue;
		large_figure(bench, "one copy to the GPU", one);
		large_figure(bench, "two halves to the GPU", up);
		large_figure(bench, "two halves to the host", down);
		large_figure(bench, "both directions at once", both);
		large_figure(bench, "HBM to HBM, read + written", device);
	}
	return r;
}

int syn_bench_gpu_copy(struct syn_bench *bench)
{
	struct haul haul = { 0 };
	struct syn_rig rig;
	int r;

	r = syn_rig_open(bench, &rig);
	if (r == -ENODEV)
		return 0;
	if (r)
		return syn_bench_fail("gpu-copy", r);
	r = large_measure(bench, &rig);
	if (!r) {
		r = haul_open(&rig, &haul);
		if (!r)
			r = pages_measure(bench, &haul);
		haul_close(&haul);
	}
	syn_rig_close(&rig);
	return r ? syn_bench_fail("gpu-copy", r) : 0;
}
