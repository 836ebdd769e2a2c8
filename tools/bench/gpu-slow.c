/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much work on an engine's stream is slowed while another thread of the
 * process moves pages at full rate, against a plain copy of pinned memory.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/bench/gpu.h"

#define SLOW_EXTENTS  4u
#define SLOW_PAIRS    32u  /* of a page: 2 MiB */
#define SLOW_PAGES    512u /* 1 GiB; a half is loaded while one is given */
#define SLOW_CALL     32u
#define SLOW_CHUNK    (64ull << 20) /* of a plain copy; a few are queued */
#define SLOW_QUEUED   4u
#define SLOW_BUFFER   (2 * SYN_GIB)
#define SLOW_BEGIN_US 20000u
#define SLOW_WARM     8u
#define SLOW_NS	      300000000.0
#define STEPS_MAX     2000u

enum { WORK_GEMM, WORK_DECODE, WORK_COPY, WORK_NR };
enum { MOVE_COPY, MOVE_RAW, MOVE_H4, MOVE_DOWN, MOVE_NR };

/*
 * Slowed by, by how much more than by a copy, how fast that was moved, and
 * against a copy: what is hardly moved slows nobody.
 */
static const struct {
	const char *slowed[MOVE_NR];
	const char *more[MOVE_NR];
	const char *rate[MOVE_NR];
	const char *kept[MOVE_NR];
} names[WORK_NR] = {
	{ { "GEMM, copy", "GEMM, raw load", "GEMM, h4 load", "GEMM, demotion" },
	  { NULL, "GEMM, raw load - copy", "GEMM, h4 load - copy",
	    "GEMM, demotion - copy" },
	  { "GEMM, copy, link", "GEMM, raw load, link", "GEMM, h4 load, link",
	    "GEMM, demotion, link" },
	  { NULL, "GEMM, raw load / copy, link", "GEMM, h4 load / copy, link",
	    "GEMM, demotion / copy, link" } },
	{ { "decode, copy", "decode, raw load", "decode, h4 load",
	    "decode, demotion" },
	  { NULL, "decode, raw load - copy", "decode, h4 load - copy",
	    "decode, demotion - copy" },
	  { "decode, copy, link", "decode, raw load, link",
	    "decode, h4 load, link", "decode, demotion, link" },
	  { NULL, "decode, raw load / copy, link",
	    "decode, h4 load / copy, link", "decode, demotion / copy, link" } },
	{ { "HBM copy, copy", "HBM copy, raw load", "HBM copy, h4 load",
	    "HBM copy, demotion" },
	  { NULL, "HBM copy, raw load - copy", "HBM copy, h4 load - copy",
	    "HBM copy, demotion - copy" },
	  { "HBM copy, copy, link", "HBM copy, raw load, link",
	    "HBM copy, h4 load, link", "HBM copy, demotion, link" },
	  { NULL, "HBM copy, raw load / copy, link",
	    "HBM copy, h4 load / copy, link",
	    "HBM copy, demotion / copy, link" } },
};
static const char *const alone_names[WORK_NR] = { "GEMM alone", "decode alone",
						  "HBM copy alone" };
static const double more_max[MOVE_NR] = { 0, 5, 5, 2 };
/* What the first loader, a toy, kept of its rate beside such work. */
#define KEPT_MIN 0.8

/**
 * struct street - who works and who moves.
 * @rig:	the GPU.
 * @blas:	cuBLAS; @blas.dl is NULL: there is none.
 * @buffer:	of the work: what is read, what is written.
 * @window:	slots.
 * @stock:	by SYN_CODEC_*.
 * @loader:	the mover's.
 * @pages:	@SLOW_PAGES, by SYN_CODEC_*.
 * @layout:	of the encoded ones.
 */
struct street {
	struct syn_rig *rig;
	struct syn_blas blas;
	CUdeviceptr buffer[2];
	struct syn_region window;
	struct syn_stock stock[SYN_CODEC_NR];
	struct syn_gpu_loader *loader;
	struct syn_gpu_page *pages[SYN_CODEC_NR];
	struct syn_layout layout;
};

/**
 * struct mover - a thread that moves until it is told to stop.
 * @street:	where.
 * @kind:	MOVE_*.
 * @stop:	written by who works.
 * @bytes:	that crossed the link; written by the mover.
 * @r:		how it ended; read when it did.
 * @thread:	the thread.
 */
struct mover {
	struct street *street;
	unsigned int kind;
	_Atomic bool stop;
	_Atomic uint64_t bytes;
	int r;
	pthread_t thread;
};

/* ---- the mover ---------------------------------------------------------- */

static int copies_move(struct mover *mover)
{
	const struct syn_rig *rig = mover->street->rig;
	bool down = mover->kind == MOVE_DOWN;
	int r = 0;

	for (uint64_t i = 0; i < SLOW_QUEUED && !r; i++) {
		uint64_t host = (uintptr_t)rig->pinned + i * SLOW_CHUNK;
		uint64_t hbm = rig->plain + i * SLOW_CHUNK;

		r = syn_rig_copy(rig, rig->other, down ? host : hbm,
				 down ? hbm : host, SLOW_CHUNK);
	}
	if (!r)
		r = syn_rig_wait(rig, rig->other);
	mover->bytes += SLOW_QUEUED * SLOW_CHUNK;
	return r;
}

static int half_begin(struct street *street, struct syn_gpu_page *pages,
		      uint64_t *ret_ticket)
{
	int r = 0;

	for (uint32_t i = 0; i < SLOW_PAGES / 2 && !r; i += SLOW_CALL)
		r = syn_gpu_load_begin(street->loader, pages + i, SLOW_CALL,
				       ret_ticket);
	return r;
}

static int half_wait(struct mover *mover, const struct syn_gpu_page *pages,
		     uint64_t ticket)
{
	uint64_t bytes = 0;
	int r = syn_gpu_load_wait(mover->street->loader, ticket);

	for (uint32_t i = 0; i < SLOW_PAGES / 2 && !r; i++) {
		r = pages[i].status;
		bytes += pages[i].bytes;
	}
	mover->bytes += bytes;
	return r;
}

/* One half is under way while the next is given. */
static int loads_move(struct mover *mover, uint32_t codec)
{
	struct street *street = mover->street;
	struct syn_gpu_page *half[] = {
		street->pages[codec],
		street->pages[codec] + SLOW_PAGES / 2,
	};
	uint64_t ticket[2];
	unsigned int i = 0;
	int r = half_begin(street, half[0], &ticket[0]);

	for (; !r && !mover->stop; i ^= 1) {
		r = half_begin(street, half[i ^ 1], &ticket[i ^ 1]);
		if (!r)
			r = half_wait(mover, half[i], ticket[i]);
	}
	return r ? r : half_wait(mover, half[i], ticket[i]);
}

static void *mover_main(void *arg)
{
	struct mover *mover = arg;
	struct syn_gpu_scope scope;

	mover->r = syn_gpu_enter(mover->street->rig->gpu, &scope);
	if (mover->r)
		return NULL;
	if (mover->kind == MOVE_RAW)
		mover->r = loads_move(mover, SYN_CODEC_RAW16);
	else if (mover->kind == MOVE_H4)
		mover->r = loads_move(mover, SYN_CODEC_H4);
	else
		while (!mover->r && !mover->stop)
			mover->r = copies_move(mover);
	syn_gpu_leave(&scope);
	return NULL;
}

/* ---- the work ----------------------------------------------------------- */

static int work_step(const struct street *street, unsigned int work)
{
	CUdeviceptr from = street->buffer[0], to = street->buffer[1];

	switch (work) {
	case WORK_GEMM:
		return syn_blas_gemm(&street->blas, 8192, 8192, 8192, from,
				     from + (128u << 20), to);
	case WORK_DECODE:
		return syn_blas_gemm(&street->blas, 64, 114688, 4096, from,
				     from + (1u << 20), to);
	default:
		return syn_rig_copy(street->rig, street->rig->engine, to, from,
				    SLOW_BUFFER);
	}
}

/* Nanoseconds a step. */
static int work_time(const struct street *street, unsigned int work,
		     unsigned int steps, double *ret_ns)
{
	uint64_t begin_ns = syn_now_ns();
	int r = 0;

	for (unsigned int i = 0; i < steps && !r; i++)
		r = work_step(street, work);
	if (!r)
		r = syn_rig_wait(street->rig, street->rig->engine);
	*ret_ns = (double)(syn_now_ns() - begin_ns) / steps;
	return r;
}

/* An eighth more goes before, uncounted: clocks follow what a GPU does. */
static int work_run(const struct street *street, unsigned int work,
		    unsigned int steps, double *ret_ns)
{
	int r = work_time(street, work, syn_div_up(steps, SLOW_WARM), ret_ns);

	return r ? r : work_time(street, work, steps, ret_ns);
}

/*
 * The first steps say how many fill the time.  They do not count, and go on
 * until the GPU is as warm, and its clock as low, as the work makes it.
 */
static int work_calibrate(const struct street *street, unsigned int work,
			  unsigned int *ret_steps)
{
	double ns = 0;
	int r;

	*ret_steps = SLOW_WARM;
	r = work_run(street, work, *ret_steps, &ns);
	for (unsigned int i = 0; i < SLOW_WARM && !r; i++) {
		*ret_steps = (unsigned int)syn_min(SLOW_NS / ns + 1,
						   STEPS_MAX + 0.0);
		r = work_run(street, work, *ret_steps, &ns);
	}
	return r;
}

/* ---- pairs -------------------------------------------------------------- */

static void slow_figure(struct syn_bench *bench, const char *name,
			const char *unit, enum syn_goal goal, double target,
			double value)
{
	syn_figure_add(&bench->figures, "gpu-slow", name, unit, goal, target,
		       value);
}

/* The work beside a mover; what that moved meanwhile, in GB/s. */
static int beside_run(struct street *street, unsigned int work,
		      unsigned int steps, unsigned int kind, double *ret_ns,
		      double *ret_rate)
{
	struct mover mover = { .street = street, .kind = kind };
	uint64_t begin_ns, bytes;
	int r;

	r = -pthread_create(&mover.thread, NULL, mover_main, &mover);
	if (r)
		return r;
	(void)usleep(SLOW_BEGIN_US);
	begin_ns = syn_now_ns();
	bytes = mover.bytes;
	r = work_run(street, work, steps, ret_ns);
	*ret_rate = (double)(mover.bytes - bytes) /
		    (double)(syn_now_ns() - begin_ns);
	mover.stop = true;
	(void)pthread_join(mover.thread, NULL);
	return r ? r : mover.r;
}

static void work_figures(struct syn_bench *bench, unsigned int work,
			 unsigned int kind, const double *points,
			 const double *rate)
{
	slow_figure(bench, names[work].slowed[kind], "%", SYN_GOAL_NONE, 0,
		    points[kind]);
	slow_figure(bench, names[work].rate[kind], "GB/s", SYN_GOAL_NONE, 0,
		    rate[kind]);
	if (kind == MOVE_COPY)
		return;
	slow_figure(bench, names[work].more[kind], "points", SYN_GOAL_AT_MOST,
		    more_max[kind], points[kind] - points[MOVE_COPY]);
	slow_figure(bench, names[work].kept[kind], "x", SYN_GOAL_AT_LEAST,
		    KEPT_MIN, rate[kind] / rate[MOVE_COPY]);
}

/*
 * Alone before and after each, and what is beside is compared with the mean:
 * clocks follow what a GPU does, and what it did.  For the same reason each
 * run begins with another kind.
 */
static int work_measure(struct syn_bench *bench, struct street *street,
			unsigned int work, unsigned int steps, unsigned int run)
{
	double points[MOVE_NR], rate[MOVE_NR], alone_ns, after_ns, beside_ns;
	int r = work_run(street, work, steps, &alone_ns);

	for (unsigned int i = 0; i < MOVE_NR && !r; i++) {
		unsigned int kind = (i + run) % MOVE_NR;

		r = beside_run(street, work, steps, kind, &beside_ns,
			       &rate[kind]);
		if (!r)
			r = work_run(street, work, steps, &after_ns);
		if (r)
			break;
		points[kind] =
			(beside_ns / ((alone_ns + after_ns) / 2) - 1) * 100;
		slow_figure(bench, alone_names[work], "us", SYN_GOAL_NONE, 0,
			    alone_ns / 1e3);
		alone_ns = after_ns;
	}
	for (unsigned int kind = 0; kind < MOVE_NR && !r; kind++)
		work_figures(bench, work, kind, points, rate);
	return r;
}

static int slow_measure(struct syn_bench *bench, struct street *street)
{
	unsigned int work = street->blas.dl ? 0 : WORK_COPY;
	int r = 0;

	for (; work < WORK_NR && !r; work++) {
		unsigned int steps;

		r = work_calibrate(street, work, &steps);
		for (unsigned int run = 0; run < bench->runs && !r; run++)
			r = work_measure(bench, street, work, steps, run);
	}
	return r;
}

/* ---- open and close ----------------------------------------------------- */

/* In order, as a cluster is; slots as well. */
static int pages_make(struct street *street, uint32_t codec)
{
	struct syn_gpu_page *pages = syn_alloc(SLOW_PAGES, sizeof(*pages));

	if (!pages)
		return -ENOMEM;
	for (uint32_t i = 0; i < SLOW_PAGES; i++) {
		uint64_t at = street->window.at +
			      (uint64_t)i * SLOW_PAIRS * SYN_PAIR_BYTES;

		syn_stock_page(&street->stock[codec], SLOW_PAIRS, i, &pages[i]);
		pages[i].place.base = at;
		if (codec == SYN_CODEC_RAW16)
			continue;
		pages[i].layout = &street->layout;
		pages[i].place = syn_gpu_place_canonical(&street->layout, at);
	}
	street->pages[codec] = pages;
	return 0;
}

static int buffers_make(struct street *street)
{
	struct syn_rig *rig = street->rig;
	int r = 0;

	for (unsigned int i = 0; i < 2 && !r; i++)
		r = syn_rig_check(rig,
				  rig->api->cuMemAlloc_v2(&street->buffer[i],
							  SLOW_BUFFER),
				  "cuMemAlloc");
	return r ? r
		 : syn_rig_fill(rig, street->buffer[0], SLOW_BUFFER, true, 7);
}

static int street_open(struct syn_rig *rig, struct street *ret)
{
	int r;

	ret->rig = rig;
	syn_stock_layout(SLOW_PAIRS, &ret->layout);
	r = syn_blas_open(rig, &ret->blas);
	if (r == -ENOENT) {
		(void)fputs("  no cuBLAS: matrix products are left out\n",
			    stderr);
		r = 0;
	}
	if (!r)
		r = buffers_make(ret);
	if (!r)
		r = syn_region_open(rig, SYN_TIER_HBM, SYN_HBM_EXTENT,
				    SYN_GIB / SYN_HBM_EXTENT, &ret->window);
	if (!r)
		r = syn_gpu_loader_open(rig->gpu, 0, &ret->loader);
	for (uint32_t codec = SYN_CODEC_RAW16; codec <= SYN_CODEC_H4 && !r;
	     codec++) {
		r = syn_stock_open(rig, codec, SLOW_EXTENTS,
				   &ret->stock[codec]);
		if (!r)
			r = pages_make(ret, codec);
	}
	return r;
}

static void street_close(struct street *street)
{
	syn_gpu_loader_close(street->loader);
	for (uint32_t codec = 0; codec < SYN_CODEC_NR; codec++) {
		syn_stock_close(&street->stock[codec]);
		free(street->pages[codec]);
	}
	syn_region_close(&street->window);
	for (unsigned int i = 0; i < 2; i++)
		if (street->buffer[i])
			(void)street->rig->api->cuMemFree_v2(street->buffer[i]);
	syn_blas_close(&street->blas);
}

int syn_bench_gpu_slow(struct syn_bench *bench)
{
	struct street street = { 0 };
	struct syn_rig rig;
	int r;

	r = syn_rig_open(bench, &rig);
	if (r)
		return r == -ENODEV ? 0 : syn_bench_fail("gpu-slow", r);
	r = street_open(&rig, &street);
	if (!r)
		r = slow_measure(bench, &street);
	street_close(&street);
	syn_rig_close(&rig);
	return r ? syn_bench_fail("gpu-slow", r) : 0;
}
