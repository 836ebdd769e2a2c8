/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4 from HBM to HBM against a copy there, in bytes read and written;
 * sums of every tile included.
 */
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/page.h"
#include "tools/bench/gpu.h"

#define CODEC_EXTENTS 3u
#define CODEC_PAIRS   32u   /* of a page: 2 MiB */
#define CODEC_PAGES   1024u /* of a call: 2 GiB */
#define CODEC_BYTES   (CODEC_PAIRS * SYN_PAIR_BYTES)
#define CODEC_TILES   (CODEC_PAIRS * SYN_PAIR_TILES)
#define CODEC_CHECKS  16u

/**
 * struct mill - pages in HBM, in both forms, and room for what comes out.
 * @rig:	the GPU.
 * @loader:	its kernels.
 * @stock:	the same pages in host memory.
 * @layout:	theirs.
 * @elements:	canonical, @CODEC_BYTES each.
 * @stored:	stored, one after the other.
 * @out:	elements that were decoded ...
 * @out_stored:	... and pages that were encoded.
 * @pages:	to decode.
 * @encodings:	to encode.
 * @sums:	raw and stored ones that encoding told, @CODEC_TILES a page.
 * @errors:	the same.
 */
struct mill {
	struct syn_rig *rig;
	struct syn_gpu_loader *loader;
	struct syn_stock stock;
	struct syn_layout layout;
	CUdeviceptr elements;
	CUdeviceptr stored;
	CUdeviceptr out;
	CUdeviceptr out_stored;
	struct syn_gpu_page *pages;
	struct syn_gpu_encoding *encodings;
	uint32_t *sums[2];
	uint16_t *errors;
};

static uint64_t stored_bytes(const struct mill *mill)
{
	return (uint64_t)CODEC_PAIRS * mill->stock.pair_bytes;
}

/* ---- is it right? ------------------------------------------------------- */

static int fetch(const struct mill *mill, CUdeviceptr at, uint64_t bytes)
{
	const struct syn_rig *rig = mill->rig;
	int r = syn_rig_copy(rig, rig->engine, (uintptr_t)rig->pinned, at,
			     bytes);

	return r ? r : syn_rig_wait(rig, rig->engine);
}

/* Page @i as the CPU decodes it; -EBADMSG: not so. */
static int decoded_check(const struct mill *mill, uint32_t i)
{
	unsigned char *want = mill->rig->pinned + CODEC_BYTES;
	struct syn_gpu_page page;
	uint32_t tile;
	int r;

	syn_stock_page(&mill->stock, CODEC_PAIRS, i, &page);
	r = fetch(mill, mill->out + (uint64_t)i * CODEC_BYTES, CODEC_BYTES);
	if (!r)
		r = syn_page_decode(want, (void *)(uintptr_t)page.src,
				    &mill->layout, 0, CODEC_TILES, page.sums,
				    &tile);
	if (!r && memcmp(mill->rig->pinned, want, CODEC_BYTES) != 0)
		r = -EBADMSG;
	return r;
}

/* ... and as the CPU has encoded it, sums as well. */
static int encoded_check(const struct mill *mill, uint32_t i)
{
	struct syn_gpu_page page;
	int r;

	syn_stock_page(&mill->stock, CODEC_PAIRS, i, &page);
	r = fetch(mill, mill->encodings[i].dst, page.bytes);
	if (r)
		return r;
	if (memcmp(mill->rig->pinned, (void *)(uintptr_t)page.src,
		   page.bytes) != 0 ||
	    memcmp(mill->encodings[i].stored_sums, page.sums,
		   CODEC_TILES * sizeof(*page.sums)) != 0)
		r = -EBADMSG;
	return r;
}

static int mill_check(const struct mill *mill)
{
	int r = 0;

	for (uint32_t i = 0; i < CODEC_PAGES && !r;
	     i += CODEC_PAGES / CODEC_CHECKS) {
		r = decoded_check(mill, i);
		if (!r)
			r = encoded_check(mill, i);
	}
	return r;
}

/* ---- figures ------------------------------------------------------------ */

static int decode_run(const struct mill *mill, double *ret_rate)
{
	uint64_t begin_ns = syn_now_ns();
	int r = syn_gpu_decode(mill->loader, mill->pages, CODEC_PAGES);

	*ret_rate = (double)CODEC_PAGES *
		    (double)(CODEC_BYTES + stored_bytes(mill)) /
		    (double)(syn_now_ns() - begin_ns);
	for (uint32_t i = 0; i < CODEC_PAGES && !r; i++)
		r = mill->pages[i].status;
	return r;
}

static int encode_run(const struct mill *mill, double *ret_rate)
{
	uint64_t begin_ns = syn_now_ns();
	int r = syn_gpu_encode(mill->loader, mill->encodings, CODEC_PAGES);

	*ret_rate = (double)CODEC_PAGES *
		    (double)(CODEC_BYTES + stored_bytes(mill)) /
		    (double)(syn_now_ns() - begin_ns);
	for (uint32_t i = 0; i < CODEC_PAGES && !r; i++)
		r = mill->encodings[i].status;
	return r;
}

static void codec_figure(struct syn_bench *bench, const char *name,
			 const char *unit, double target, double value)
{
	syn_figure_add(&bench->figures, "gpu-codec", name, unit,
		       target > 0 ? SYN_GOAL_AT_LEAST : SYN_GOAL_NONE, target,
		       value);
}

/* The first run of each, which does not count, shows that it is right. */
static int mill_measure(struct syn_bench *bench, const struct mill *mill)
{
	double copy, decode, encode;
	int r = 0;

	for (unsigned int run = 0; run <= bench->runs && !r; run++) {
		r = syn_rig_copy_device(mill->rig, &copy);
		if (!r)
			r = decode_run(mill, &decode);
		if (!r)
			r = encode_run(mill, &encode);
		if (!r && !run)
			r = mill_check(mill);
		if (r || !run)
			continue;
		codec_figure(bench, "copy, read + written", "GB/s", 0, copy);
		codec_figure(bench, "decode, read + written", "GB/s", 0,
			     decode);
		codec_figure(bench, "decode / copy", "x", 0.6, decode / copy);
		codec_figure(bench, "encode, read + written", "GB/s", 0,
			     encode);
		codec_figure(bench, "encode / copy", "x", 0.4, encode / copy);
	}
	return r;
}

/* ---- open and close ----------------------------------------------------- */

static int hbm_make(struct mill *mill)
{
	const uint64_t elements = (uint64_t)CODEC_PAGES * CODEC_BYTES;
	const uint64_t stored = CODEC_PAGES * stored_bytes(mill);
	struct {
		CUdeviceptr *at;
		uint64_t bytes;
	} what[] = {
		{ &mill->elements, elements },
		{ &mill->stored, stored },
		{ &mill->out, elements },
		{ &mill->out_stored, stored },
	};
	int r = 0;

	for (unsigned int i = 0; i < syn_array_size(what) && !r; i++)
		r = syn_rig_check(mill->rig,
				  mill->rig->api->cuMemAlloc_v2(what[i].at,
								what[i].bytes),
				  "cuMemAlloc");
	return r;
}

static int page_make(struct mill *mill, uint32_t i)
{
	const struct syn_rig *rig = mill->rig;
	uint64_t elements = (uint64_t)i * CODEC_BYTES;
	uint64_t stored = i * stored_bytes(mill);
	struct syn_gpu_page *page = &mill->pages[i];
	int r;

	syn_stock_page(&mill->stock, CODEC_PAIRS, i, page);
	r = syn_rig_copy(rig, rig->engine, mill->stored + stored, page->src,
			 page->bytes);
	if (!r)
		r = syn_rig_copy(rig, rig->engine, mill->elements + elements,
				 (uintptr_t)syn_stock_elements(&mill->stock,
							       CODEC_PAIRS, i),
				 CODEC_BYTES);
	page->src = mill->stored + stored;
	page->layout = &mill->layout;
	page->place =
		syn_gpu_place_canonical(&mill->layout, mill->out + elements);
	mill->encodings[i] = (struct syn_gpu_encoding){
		.layout = &mill->layout,
		.place = syn_gpu_place_canonical(&mill->layout,
						 mill->elements + elements),
		.dst = mill->out_stored + stored,
		.raw_sums = mill->sums[0] + i * CODEC_TILES,
		.stored_sums = mill->sums[1] + i * CODEC_TILES,
		.errors = mill->errors + i * CODEC_TILES,
	};
	return r;
}

static int mill_open(struct syn_rig *rig, struct mill *ret)
{
	const size_t tiles = (size_t)CODEC_PAGES * CODEC_TILES;
	int r = -ENOMEM;

	ret->rig = rig;
	syn_stock_layout(CODEC_PAIRS, &ret->layout);
	ret->pages = syn_alloc(CODEC_PAGES, sizeof(*ret->pages));
	ret->encodings = syn_alloc(CODEC_PAGES, sizeof(*ret->encodings));
	ret->sums[0] = syn_alloc(tiles, sizeof(uint32_t));
	ret->sums[1] = syn_alloc(tiles, sizeof(uint32_t));
	ret->errors = syn_alloc(tiles, sizeof(uint16_t));
	if (ret->pages && ret->encodings && ret->sums[0] && ret->sums[1] &&
	    ret->errors)
		r = syn_gpu_loader_open(rig->gpu, 0, &ret->loader);
	if (!r)
		r = syn_stock_open(rig, SYN_CODEC_H4, CODEC_EXTENTS,
				   &ret->stock);
	if (!r)
		r = hbm_make(ret);
	for (uint32_t i = 0; i < CODEC_PAGES && !r; i++)
		r = page_make(ret, i);
	return r ? r : syn_rig_wait(rig, rig->engine);
}

static void mill_close(struct mill *mill)
{
	const CUdeviceptr hbm[] = { mill->elements, mill->stored, mill->out,
				    mill->out_stored };

	syn_gpu_loader_close(mill->loader);
	syn_stock_close(&mill->stock);
	for (unsigned int i = 0; i < syn_array_size(hbm); i++)
		if (hbm[i])
			(void)mill->rig->api->cuMemFree_v2(hbm[i]);
	free(mill->pages);
	free(mill->encodings);
	free(mill->sums[0]);
	free(mill->sums[1]);
	free(mill->errors);
}

int syn_bench_gpu_codec(struct syn_bench *bench)
{
	struct mill mill = { 0 };
	struct syn_rig rig;
	int r;

	r = syn_rig_open(bench, &rig);
	if (r)
		return r == -ENODEV ? 0 : syn_bench_fail("gpu-codec", r);
	r = mill_open(&rig, &mill);
	if (!r)
		r = mill_measure(bench, &mill);
	mill_close(&mill);
	syn_rig_close(&rig);
	return r ? syn_bench_fail("gpu-codec", r) : 0;
}
