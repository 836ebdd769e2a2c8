/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode attention over pages in HBM, raw and as they are stored, against a
 * device copy, in bytes that have to be read; and against decoding first.
 */
#include <math.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/attend/attend-gpu.h"
#include "tools/bench/gpu.h"

#define HEADS	   8u /* of keys and values: pairs of a part */
#define DIM	   128u
#define GROUP_MOST 8u
#define PARTS	   16384u /* 2 Mi tokens in all, 8 GiB raw */
#define PAIRS	   (PARTS * HEADS)
#define PAGE_PAIRS 32u /* of a page to decode: 2 MiB */
#define PAGES	   (PAIRS / PAGE_PAIRS)
#define SEQS_MOST  64u
#define OUTPUTS	   (SEQS_MOST * HEADS * GROUP_MOST)
#define CALLS	   4u /* of a run */
#define CLOSE	   1e-3
#define PERCENT	   100.0
#define QUERY_SEED 7u

/**
 * struct hall - what attention is measured on.
 * @rig:	the GPU.
 * @attend:	the kernels.
 * @loader:	those that decode.
 * @stock:	pairs, raw and encoded, in host memory.
 * @pairs:	many of them, in HBM.
 * @q:		queries.
 * @parts:	of each form, on the device.
 * @seqs:	on the device.
 * @out:	answers.
 * @lse:	likewise.
 * @shares:	likewise.
 * @scratch:	for the kernels.
 * @pages:	the encoded pairs, to be decoded to where the raw ones are.
 * @layout:	theirs.
 */
struct hall {
	struct syn_rig *rig;
	struct syn_attend_gpu *attend;
	struct syn_gpu_loader *loader;
	struct syn_stock stock[2];
	CUdeviceptr pairs[2];
	CUdeviceptr q;
	CUdeviceptr parts[2];
	CUdeviceptr seqs;
	CUdeviceptr out;
	CUdeviceptr lse;
	CUdeviceptr shares;
	CUdeviceptr scratch;
	struct syn_gpu_page *pages;
	struct syn_layout layout;
};

/**
 * struct scene - sequences of one length.
 * @nr_seqs:	how many.
 * @parts:	each has.
 * @group:	query heads of a KV head.
 * @name:	of its figures: raw, h4 and what is made of both.
 */
struct scene {
	uint32_t nr_seqs;
	uint32_t parts;
	uint16_t group;
	const char *name[8];
};

#define NAMES(what)                                                            \
	{                                                                      \
		"raw / copy, " what, "h4 / copy, " what,                       \
			"h4 / raw, tokens/s, " what,                           \
			"raw, shares cost, " what, "h4, shares cost, " what,   \
			"h4 / decode first, " what, "h4 off decoding, " what,  \
			"raw, " what                                           \
	}

static const struct scene scenes[] = {
	{ 8, 1024, 4, NAMES("8 x 128 Ki, 4") },
	{ 8, 1024, 8, NAMES("8 x 128 Ki, 8") },
	{ 64, 256, 4, NAMES("64 x 32 Ki, 4") },
	{ 64, 256, 8, NAMES("64 x 32 Ki, 8") },
};

static struct syn_attend_shape shape_of(const struct scene *s)
{
	return (struct syn_attend_shape){
		.dtype = SYN_DTYPE_F16,
		.dim = DIM,
		.kv_heads = HEADS,
		.group = s->group,
		.scale = 1 / sqrtf(DIM),
	};
}

static uint32_t parts_of(const struct scene *s)
{
	return s->nr_seqs * s->parts;
}

/* ---- runs --------------------------------------------------------------- */

/* @form: 0 raw, 1 encoded. */
static int attend(const struct hall *hall, const struct scene *s,
		  unsigned int form, bool shares)
{
	const struct syn_attend_shape shape = shape_of(s);
	const struct syn_attend_batch batch = {
		.q = (const void *)hall->q,
		.parts = (const void *)hall->parts[form],
		.seqs = (const void *)hall->seqs,
		.nr_seqs = s->nr_seqs,
		.out = (float *)hall->out,
		.lse = (float *)hall->lse,
		.shares = shares ? (float *)hall->shares : NULL,
	};

	return syn_attend_gpu(hall->attend, &shape, &batch, parts_of(s),
			      hall->scratch, hall->rig->engine);
}

/* Seconds of a call. */
static int attend_time(const struct hall *hall, const struct scene *s,
		       unsigned int form, bool shares, double *ret)
{
	uint64_t begin_ns;
	int r = attend(hall, s, form, shares);

	if (!r)
		r = syn_rig_wait(hall->rig, hall->rig->engine);
	begin_ns = syn_now_ns();
	for (unsigned int i = 0; i < CALLS && !r; i++)
		r = attend(hall, s, form, shares);
	if (!r)
		r = syn_rig_wait(hall->rig, hall->rig->engine);
	*ret = (double)(syn_now_ns() - begin_ns) / 1e9 / CALLS;
	return r;
}

/* Decodes what @s attends to, over the raw pairs, and attends to those. */
static int expand_time(const struct hall *hall, const struct scene *s,
		       double *ret)
{
	uint64_t begin_ns = syn_now_ns();
	int r = syn_gpu_decode(hall->loader, hall->pages,
			       parts_of(s) * HEADS / PAGE_PAIRS);

	if (!r)
		r = attend(hall, s, 0, false);
	if (!r)
		r = syn_rig_wait(hall->rig, hall->rig->engine);
	*ret = (double)(syn_now_ns() - begin_ns) / 1e9;
	return r;
}

static int outputs_get(const struct hall *hall, const struct scene *s,
		       float *ret)
{
	uint64_t bytes =
		(uint64_t)s->nr_seqs * HEADS * s->group * DIM * sizeof(float);
	int r = syn_rig_copy(hall->rig, hall->rig->engine, (uintptr_t)ret,
			     hall->out, bytes);

	return r ? r : syn_rig_wait(hall->rig, hall->rig->engine);
}

/* What is read as it is stored, relative to what is decoded to fp16 first. */
static int off_measure(const struct hall *hall, const struct scene *s,
		       double *ret)
{
	const size_t nr = (size_t)s->nr_seqs * HEADS * s->group * DIM;
	float *a = (float *)hall->rig->pinned, *b = a + nr;
	double off = 0, all = 0, unused;
	int r = attend(hall, s, 1, false);

	if (!r)
		r = outputs_get(hall, s, a);
	if (!r)
		r = expand_time(hall, s, &unused);
	if (!r)
		r = outputs_get(hall, s, b);
	for (size_t i = 0; i < nr && !r; i++) {
		off += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
		all += (double)b[i] * (double)b[i];
	}
	*ret = sqrt(off / all);
	return r;
}

/* ---- figures ------------------------------------------------------------ */

static void figure(struct syn_bench *bench, const char *name, const char *unit,
		   enum syn_goal goal, double target, double value)
{
	syn_figure_add(&bench->figures, "gpu-attend", name, unit, goal, target,
		       value);
}

static double bytes_of(const struct hall *hall, const struct scene *s,
		       unsigned int form)
{
	return (double)parts_of(s) * HEADS * hall->stock[form].pair_bytes;
}

static int scene_measure(struct syn_bench *bench, const struct hall *hall,
			 const struct scene *s)
{
	double copy, time[2], shares[2], expand = 0, off = 0;
	int r = syn_rig_copy_device(hall->rig, &copy);

	for (unsigned int form = 0; form < 2 && !r; form++) {
		r = attend_time(hall, s, form, false, &time[form]);
		if (!r)
			r = attend_time(hall, s, form, true, &shares[form]);
	}
	if (!r)
		r = expand_time(hall, s, &expand);
	if (!r)
		r = off_measure(hall, s, &off);
	if (r)
		return r;
	copy *= 1e9;
	figure(bench, s->name[7], "us", SYN_GOAL_NONE, 0, time[0] * 1e6);
	figure(bench, s->name[0], "x", SYN_GOAL_AT_LEAST, 0.8,
	       bytes_of(hall, s, 0) / time[0] / copy);
	figure(bench, s->name[1], "x", SYN_GOAL_AT_LEAST, 0.6,
	       bytes_of(hall, s, 1) / time[1] / copy);
	figure(bench, s->name[2], "x", SYN_GOAL_AT_LEAST, 2.2,
	       time[0] / time[1]);
	figure(bench, s->name[3], "%", SYN_GOAL_AT_MOST, 3,
	       PERCENT * (shares[0] / time[0] - 1));
	figure(bench, s->name[4], "%", SYN_GOAL_AT_MOST, 3,
	       PERCENT * (shares[1] / time[1] - 1));
	figure(bench, s->name[5], "x", SYN_GOAL_NONE, 0, expand / time[1]);
	figure(bench, s->name[6], "", SYN_GOAL_AT_MOST, CLOSE, off);
	return 0;
}

/* ---- open and close ----------------------------------------------------- */

static int pairs_make(struct hall *hall, unsigned int form)
{
	const struct syn_stock *stock = &hall->stock[form];
	uint64_t bytes = (uint64_t)SYN_STOCK_PAIRS * stock->pair_bytes;
	int r = 0;

	for (uint32_t i = 0; i < PAIRS / SYN_STOCK_PAIRS && !r; i++)
		r = syn_rig_copy(hall->rig, hall->rig->engine,
				 hall->pairs[form] + i * bytes, stock->host.at,
				 bytes);
	return r ? r : syn_rig_wait(hall->rig, hall->rig->engine);
}

static int parts_make(struct hall *hall, unsigned int form)
{
	struct syn_attend_part *parts = (void *)hall->rig->pinned;
	const uint64_t pair = hall->stock[form].pair_bytes;
	struct syn_layout one;
	int r;

	syn_stock_layout(1, &one);
	for (uint32_t i = 0; i < PARTS; i++) {
		struct syn_attend_tiles k = {
			.at = hall->pairs[form] + i * HEADS * pair,
			.head = pair,
			.token = DIM * sizeof(uint16_t),
			.codec = form ? SYN_CODEC_H4 : SYN_CODEC_RAW16,
		};

		parts[i] = (struct syn_attend_part){
			.k = k,
			.v = k,
			.nr_tokens = SYN_TILE_TOKENS,
		};
		parts[i].v.at += form ? syn_tile_h4_bytes(&one.component[0])
				      : SYN_TILE_BYTES;
	}
	r = syn_rig_copy(hall->rig, hall->rig->engine, hall->parts[form],
			 (uintptr_t)parts, PARTS * sizeof(*parts));
	return r ? r : syn_rig_wait(hall->rig, hall->rig->engine);
}

static int seqs_make(const struct hall *hall, const struct scene *s)
{
	struct syn_attend_seq *seqs = (void *)hall->rig->pinned;
	int r;

	for (uint32_t i = 0; i < s->nr_seqs; i++)
		seqs[i] = (struct syn_attend_seq){
			.first = i * s->parts,
			.nr = s->parts,
			.last = SYN_TILE_TOKENS,
			.share = i * s->parts,
		};
	r = syn_rig_copy(hall->rig, hall->rig->engine, hall->seqs,
			 (uintptr_t)seqs, s->nr_seqs * sizeof(*seqs));
	return r ? r : syn_rig_wait(hall->rig, hall->rig->engine);
}

static void pages_make(struct hall *hall)
{
	const uint64_t bytes = (uint64_t)PAGE_PAIRS * hall->stock[1].pair_bytes;

	syn_stock_layout(PAGE_PAIRS, &hall->layout);
	for (uint32_t i = 0; i < PAGES; i++) {
		struct syn_gpu_page *page = &hall->pages[i];

		syn_stock_page(&hall->stock[1], PAGE_PAIRS,
			       i % (SYN_STOCK_PAIRS / PAGE_PAIRS), page);
		page->src = hall->pairs[1] + i * bytes;
		page->layout = &hall->layout;
		page->place = syn_gpu_place_canonical(
			&hall->layout, hall->pairs[0] + (uint64_t)i *
								PAGE_PAIRS *
								SYN_PAIR_BYTES);
	}
}

static uint64_t scratch_most(void)
{
	uint64_t most = 0;

	for (unsigned int i = 0; i < syn_array_size(scenes); i++) {
		const struct syn_attend_shape shape = shape_of(&scenes[i]);

		most = syn_max(most,
			       syn_attend_gpu_scratch(&shape, scenes[i].nr_seqs,
						      parts_of(&scenes[i])));
	}
	return most;
}

static int hbm_make(struct hall *hall)
{
	const struct {
		CUdeviceptr *at;
		uint64_t bytes;
	} what[] = {
		{ &hall->pairs[0], (uint64_t)PAIRS * SYN_PAIR_BYTES },
		{ &hall->pairs[1],
		  (uint64_t)PAIRS * hall->stock[1].pair_bytes },
		{ &hall->q, OUTPUTS * DIM * sizeof(uint16_t) },
		{ &hall->parts[0], PARTS * sizeof(struct syn_attend_part) },
		{ &hall->parts[1], PARTS * sizeof(struct syn_attend_part) },
		{ &hall->seqs, SEQS_MOST * sizeof(struct syn_attend_seq) },
		{ &hall->out, OUTPUTS * DIM * sizeof(float) },
		{ &hall->lse, OUTPUTS * sizeof(float) },
		{ &hall->shares, PARTS * HEADS * GROUP_MOST * sizeof(float) },
		{ &hall->scratch, scratch_most() },
	};
	int r = 0;

	for (unsigned int i = 0; i < syn_array_size(what) && !r; i++)
		r = syn_rig_check(hall->rig,
				  hall->rig->api->cuMemAlloc_v2(what[i].at,
								what[i].bytes),
				  "cuMemAlloc");
	if (!r)
		r = syn_rig_fill(hall->rig, hall->q,
				 OUTPUTS * DIM * sizeof(uint16_t), false,
				 QUERY_SEED);
	return r;
}

static int hall_open(struct syn_rig *rig, struct hall *ret)
{
	int r = -ENOMEM;

	ret->rig = rig;
	ret->pages = syn_alloc(PAGES, sizeof(*ret->pages));
	if (ret->pages)
		r = syn_attend_gpu_open(rig->gpu, &ret->attend);
	if (!r)
		r = syn_gpu_loader_open(rig->gpu, 0, &ret->loader);
	if (!r)
		r = syn_stock_open(rig, SYN_CODEC_RAW16, 1, &ret->stock[0]);
	if (!r)
		r = syn_stock_open(rig, SYN_CODEC_H4, 1, &ret->stock[1]);
	if (!r)
		r = hbm_make(ret);
	for (unsigned int form = 0; form < 2 && !r; form++) {
		r = pairs_make(ret, form);
		if (!r)
			r = parts_make(ret, form);
	}
	if (!r)
		pages_make(ret);
	return r;
}

static void hall_close(struct hall *hall)
{
	const CUdeviceptr hbm[] = {
		hall->pairs[0], hall->pairs[1], hall->q,   hall->parts[0],
		hall->parts[1], hall->seqs,	hall->out, hall->lse,
		hall->shares,	hall->scratch,
	};

	for (unsigned int i = 0; i < syn_array_size(hbm); i++)
		if (hbm[i])
			(void)hall->rig->api->cuMemFree_v2(hbm[i]);
	syn_attend_gpu_close(hall->attend);
	syn_gpu_loader_close(hall->loader);
	syn_stock_close(&hall->stock[0]);
	syn_stock_close(&hall->stock[1]);
	free(hall->pages);
}

int syn_bench_gpu_attend(struct syn_bench *bench)
{
	struct hall hall = { 0 };
	struct syn_rig rig;
	int r;

	r = syn_rig_open(bench, &rig);
	if (r)
		return r == -ENODEV ? 0 : syn_bench_fail("gpu-attend", r);
	r = hall_open(&rig, &hall);
	for (unsigned int i = 0; i < syn_array_size(scenes) && !r; i++) {
		r = seqs_make(&hall, &scenes[i]);
		for (unsigned int run = 0; run < bench->runs && !r; run++)
			r = scene_measure(bench, &hall, &scenes[i]);
	}
	hall_close(&hall);
	syn_rig_close(&rig);
	return r ? syn_bench_fail("gpu-attend", r) : 0;
}
