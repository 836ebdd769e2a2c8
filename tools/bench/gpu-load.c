/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages loaded into HBM by kernels/cuda/load.h, sums compared, against one
 * large copy of pinned memory: the two take turns.
 *
 * Scattered: pages and slots in random order.  Clustered: runs of neighbours
 * go to neighbouring slots, the runs in random order.
 */
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/page.h"
#include "tools/bench/gpu.h"

#define LOAD_EXTENTS	   16u /* 4 GiB of host memory a codec */
#define LOAD_WINDOW	   (4 * SYN_GIB)
#define LOAD_BYTES_RAW	   (2 * SYN_GIB) /* of a pass, as they end up */
#define LOAD_BYTES_H4	   (4 * SYN_GIB)
#define LOAD_CLUSTER_BYTES (16u << 20)
#define LOAD_CALL_BYTES	   (64u << 20)
#define LOAD_CHECKS	   16u

/**
 * struct cargo - one way of loading.
 * @name:	of its figure.
 * @ratio:	of that against a large copy.
 * @codec:	SYN_CODEC_*.
 * @pairs:	of a page, 64 KiB each.
 * @per_call:	pages in a call; 0: as many as LOAD_CALL_BYTES has.
 * @clustered:	see above.
 * @target:	of the ratio; 0: none.
 */
struct cargo {
	const char *name;
	const char *ratio;
	uint32_t codec;
	uint32_t pairs;
	uint32_t per_call;
	bool clustered;
	double target;
};

#define CARGO(codec_, what, pairs_, size, clustered_, how, target_)            \
	{                                                                      \
		.name = what " " size ", " how,                                \
		.ratio = what " " size ", " how " / copy", .codec = codec_,    \
		.pairs = pairs_, .clustered = clustered_, .target = target_    \
	}
#define RAW(...) CARGO(SYN_CODEC_RAW16, "raw", __VA_ARGS__)
#define H4(...)	 CARGO(SYN_CODEC_H4, "h4", __VA_ARGS__)

static const struct cargo cargoes[] = {
	RAW(1, "64 KiB", false, "scattered", 0.70),
	RAW(4, "256 KiB", false, "scattered", 0),
	RAW(32, "2 MiB", false, "scattered", 0.97),
	RAW(1, "64 KiB", true, "clustered", 0.97),
	RAW(4, "256 KiB", true, "clustered", 0.97),
	RAW(32, "2 MiB", true, "clustered", 0.97),
	H4(1, "64 KiB", false, "scattered", 3.0),
	H4(4, "256 KiB", false, "scattered", 0),
	H4(32, "2 MiB", false, "scattered", 3.1),
	H4(1, "64 KiB", true, "clustered", 3.5),
	H4(4, "256 KiB", true, "clustered", 3.5),
	H4(32, "2 MiB", true, "clustered", 3.5),
	/* As a client that asks for as much as a request can say. */
	{ "raw 64 KiB, scattered, by 64", "raw 64 KiB, scattered, by 64 / copy",
	  SYN_CODEC_RAW16, 1, SYN_BATCH_MAX, false, 0 },
	{ "h4 64 KiB, clustered, by 64", "h4 64 KiB, clustered, by 64 / copy",
	  SYN_CODEC_H4, 1, SYN_BATCH_MAX, true, 0 },
};

/**
 * struct dock - where pages come from and go to.
 * @rig:	the GPU.
 * @loader:	the loader.
 * @stock:	by SYN_CODEC_*.
 * @window:	slots.
 * @pages:	of a pass ...
 * @index:	... and which they are in the stock.
 * @nr:		how many.
 * @layout:	theirs, if they are encoded.
 */
struct dock {
	struct syn_rig *rig;
	struct syn_gpu_loader *loader;
	struct syn_stock stock[SYN_CODEC_NR];
	struct syn_region window;
	struct syn_gpu_page *pages;
	uint32_t *index;
	uint32_t nr;
	struct syn_layout layout;
};

/* ---- a pass ------------------------------------------------------------- */

/* @nr numbers below @all, runs of @run neighbours. */
static int order_make(uint32_t *ret, uint32_t nr, uint32_t all, uint32_t run,
		      uint64_t seed)
{
	uint32_t *runs = syn_alloc(all / run, sizeof(*runs));

	if (!runs)
		return -ENOMEM;
	syn_shuffle(runs, all / run, seed);
	for (uint32_t i = 0; i < nr; i++)
		ret[i] = runs[i / run] * run + i % run;
	free(runs);
	return 0;
}

static void page_place(struct dock *dock, const struct cargo *cargo,
		       uint32_t slot, struct syn_gpu_page *page)
{
	uint64_t at = dock->window.at +
		      (uint64_t)slot * cargo->pairs * SYN_PAIR_BYTES;

	if (cargo->codec == SYN_CODEC_RAW16) {
		page->place.base = at;
		return;
	}
	page->layout = &dock->layout;
	page->place = syn_gpu_place_canonical(&dock->layout, at);
}

static int pass_prepare(struct dock *dock, const struct cargo *cargo,
			uint64_t seed)
{
	const struct syn_stock *stock = &dock->stock[cargo->codec];
	uint64_t page_bytes = (uint64_t)cargo->pairs * SYN_PAIR_BYTES;
	uint64_t bytes =
		cargo->codec == SYN_CODEC_H4 ? LOAD_BYTES_H4 : LOAD_BYTES_RAW;
	uint32_t run = cargo->clustered
			       ? (uint32_t)(LOAD_CLUSTER_BYTES / page_bytes)
			       : 1;
	uint32_t *slots;
	int r;

	dock->nr = (uint32_t)(bytes / page_bytes);
	slots = syn_alloc(dock->nr, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	syn_stock_layout(cargo->pairs, &dock->layout);
	r = order_make(dock->index, dock->nr,
		       syn_stock_pages(stock, cargo->pairs), run, seed);
	if (!r)
		r = order_make(slots, dock->nr,
			       (uint32_t)(LOAD_WINDOW / page_bytes), run,
			       seed + 1);
	for (uint32_t i = 0; i < dock->nr && !r; i++) {
		syn_stock_page(stock, cargo->pairs, dock->index[i],
			       &dock->pages[i]);
		page_place(dock, cargo, slots[i], &dock->pages[i]);
		dock->pages[i].status = -EINPROGRESS;
	}
	free(slots);
	return r;
}

static int pass_load(struct dock *dock, const struct cargo *cargo)
{
	uint32_t call =
		cargo->per_call
			? cargo->per_call
			: LOAD_CALL_BYTES / (cargo->pairs * SYN_PAIR_BYTES);
	uint64_t ticket;
	int r = 0;

	for (uint32_t i = 0; i < dock->nr && !r; i += call)
		r = syn_gpu_load_begin(dock->loader, &dock->pages[i],
				       syn_min(call, dock->nr - i), &ticket);
	return r ? r : syn_gpu_load_wait(dock->loader, ticket);
}

static int pass_statuses(const struct dock *dock)
{
	for (uint32_t i = 0; i < dock->nr; i++)
		if (dock->pages[i].status)
			return dock->pages[i].status;
	return 0;
}

static double pass_bytes(const struct dock *dock, const struct cargo *cargo)
{
	return (double)dock->nr * cargo->pairs * SYN_PAIR_BYTES;
}

static int pass_run(struct dock *dock, const struct cargo *cargo,
		    double *ret_rate)
{
	uint64_t begin_ns = syn_now_ns();
	int r = pass_load(dock, cargo);

	*ret_rate = pass_bytes(dock, cargo) / (double)(syn_now_ns() - begin_ns);
	return r ? r : pass_statuses(dock);
}

/* ---- is it right? ------------------------------------------------------- */

static int window_poison(const struct dock *dock)
{
	const struct syn_rig *rig = dock->rig;
	int r = 0;

	for (uint32_t i = 0; i < dock->window.nr && !r; i++)
		r = syn_rig_check(rig,
				  rig->api->cuMemsetD32Async(
					  dock->window.mem[i].at, 0xdeadbeef,
					  dock->window.extent / 4, rig->engine),
				  "cuMemsetD32Async");
	return r ? r : syn_rig_wait(rig, rig->engine);
}

/*
 * What the CPU decodes of page @i is in its slot, bit by bit; -EBADMSG: it is
 * not.
 */
static int page_check(const struct dock *dock, const struct cargo *cargo,
		      uint32_t i)
{
	const struct syn_gpu_page *page = &dock->pages[i];
	uint32_t bytes = cargo->pairs * SYN_PAIR_BYTES;
	unsigned char *got = dock->rig->pinned;
	unsigned char *want = got + bytes;
	uint32_t tile;
	int r;

	r = syn_rig_copy(dock->rig, dock->rig->engine, (uintptr_t)got,
			 page->place.base, bytes);
	if (!r)
		r = syn_rig_wait(dock->rig, dock->rig->engine);
	if (r)
		return r;
	if (cargo->codec == SYN_CODEC_RAW16)
		memcpy(want,
		       syn_stock_elements(&dock->stock[cargo->codec],
					  cargo->pairs, dock->index[i]),
		       bytes);
	else
		r = syn_page_decode(want, (void *)(uintptr_t)page->src,
				    page->layout, 0, page->nr_tiles, page->sums,
				    &tile);
	if (!r && memcmp(got, want, bytes) != 0)
		r = -EBADMSG;
	return r;
}

static int cargo_check(struct dock *dock, const struct cargo *cargo)
{
	double rate;
	int r;

	r = pass_prepare(dock, cargo, 5);
	if (!r)
		r = window_poison(dock);
	if (!r)
		r = pass_run(dock, cargo, &rate);
	for (uint32_t i = 0; i < dock->nr && !r; i += dock->nr / LOAD_CHECKS)
		r = page_check(dock, cargo, i);
	return r ? syn_bench_fail(cargo->name, r) : 0;
}

/* ---- figures ------------------------------------------------------------ */

static void load_figure(struct syn_bench *bench, const char *name,
			const char *unit, double target, double value)
{
	syn_figure_add(&bench->figures, "gpu-load", name, unit,
		       target > 0 ? SYN_GOAL_AT_LEAST : SYN_GOAL_NONE, target,
		       value);
}

static int cargo_measure(struct syn_bench *bench, struct dock *dock,
			 const struct cargo *cargo, unsigned int run)
{
	double copy, rate;
	int r;

	r = pass_prepare(dock, cargo, 6 + 2 * run);
	if (!r)
		r = syn_rig_copy_large(dock->rig, &copy);
	if (!r)
		r = pass_run(dock, cargo, &rate);
	if (r)
		return syn_bench_fail(cargo->name, r);
	load_figure(bench, "one large copy", "GB/s", 0, copy);
	load_figure(bench, cargo->name, "GB/s", 0, rate);
	load_figure(bench, cargo->ratio, "x", cargo->target, rate / copy);
	return 0;
}

/* As much to the host as comes: what a demotion does meanwhile. */
static int both_measure(struct syn_bench *bench, struct dock *dock,
			const struct cargo *cargo, unsigned int run,
			const char *name, const char *ratio)
{
	const struct syn_rig *rig = dock->rig;
	uint64_t down = 0, begin_ns;
	double up, rate, copies;
	int r;

	r = pass_prepare(dock, cargo, 6 + 2 * run);
	if (!r)
		r = syn_rig_copy_ways(rig, true, true, &copies);
	up = (double)dock->nr * cargo->pairs *
	     dock->stock[cargo->codec].pair_bytes;
	begin_ns = syn_now_ns();
	while (!r && (double)down < up) {
		r = syn_rig_copy(rig, rig->other, (uintptr_t)rig->pinned,
				 rig->plain, SYN_RIG_PINNED_BYTES / 8);
		down += SYN_RIG_PINNED_BYTES / 8;
	}
	if (!r)
		r = pass_load(dock, cargo);
	if (!r)
		r = syn_rig_wait(rig, rig->other);
	if (!r)
		r = pass_statuses(dock);
	if (r)
		return syn_bench_fail(name, r);
	rate = (up + (double)down) / (double)(syn_now_ns() - begin_ns);
	load_figure(bench, name, "GB/s", 97, rate);
	load_figure(bench, ratio, "x", 0.95, rate / copies);
	return 0;
}

static const struct cargo *cargo_find(uint32_t codec)
{
	for (unsigned int i = 0; i < syn_array_size(cargoes); i++)
		if (cargoes[i].codec == codec && cargoes[i].clustered &&
		    cargoes[i].pairs == 32)
			return &cargoes[i];
	return NULL;
}

static int load_measure(struct syn_bench *bench, struct dock *dock)
{
	int r = 0;

	for (unsigned int i = 0; i < syn_array_size(cargoes) && !r; i++)
		r = cargo_check(dock, &cargoes[i]);
	for (unsigned int run = 0; run < bench->runs && !r; run++) {
		for (unsigned int i = 0; i < syn_array_size(cargoes) && !r; i++)
			r = cargo_measure(bench, dock, &cargoes[i], run);
		if (!r)
			r = both_measure(bench, dock,
					 cargo_find(SYN_CODEC_RAW16), run,
					 "raw up, a copy down, link",
					 "raw up, a copy down / two copies");
		if (!r)
			r = both_measure(bench, dock, cargo_find(SYN_CODEC_H4),
					 run, "h4 up, a copy down, link",
					 "h4 up, a copy down / two copies");
	}
	return r;
}

/* ---- open and close ----------------------------------------------------- */

static int dock_open(struct syn_rig *rig, struct dock *ret)
{
	uint32_t most = (uint32_t)(LOAD_BYTES_H4 / SYN_PAIR_BYTES);
	int r = -ENOMEM;

	ret->rig = rig;
	ret->pages = syn_alloc(most, sizeof(*ret->pages));
	ret->index = syn_alloc(most, sizeof(*ret->index));
	if (ret->pages && ret->index)
		r = syn_gpu_loader_open(rig->gpu, 0, &ret->loader);
	if (!r)
		r = syn_region_open(rig, SYN_TIER_HBM, SYN_HBM_EXTENT,
				    LOAD_WINDOW / SYN_HBM_EXTENT, &ret->window);
	for (uint32_t codec = SYN_CODEC_RAW16; codec <= SYN_CODEC_H4 && !r;
	     codec++)
		r = syn_stock_open(rig, codec, LOAD_EXTENTS,
				   &ret->stock[codec]);
	return r ? syn_bench_fail("memory of gpu-load", r) : 0;
}

static void dock_close(struct dock *dock)
{
	syn_gpu_loader_close(dock->loader);
	for (uint32_t codec = 0; codec < SYN_CODEC_NR; codec++)
		syn_stock_close(&dock->stock[codec]);
	syn_region_close(&dock->window);
	free(dock->pages);
	free(dock->index);
}

int syn_bench_gpu_load(struct syn_bench *bench)
{
	struct dock dock = { 0 };
	struct syn_rig rig;
	int r;

	r = syn_rig_open(bench, &rig);
	if (r)
		return r == -ENODEV ? 0 : syn_bench_fail("gpu-load", r);
	r = dock_open(&rig, &dock);
	if (!r)
		r = load_measure(bench, &dock);
	dock_close(&dock);
	syn_rig_close(&rig);
	return r;
}
