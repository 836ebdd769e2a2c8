/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults of a client on a GPU, through the daemon and back: how long one small
 * page takes until it can be used, and at what rate many large ones come.
 */
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/bench/gpu.h"

#define HBM_MIB	      2048u
#define HOST_MIB      4096u
#define WRITE_NR      32u
#define SMALL_BYTES   (64u << 10)
#define SMALL_PAGES   2048u
#define SMALL_SLOTS   128u
#define SMALL_RUNS    400u
#define LARGE_BYTES   (2u << 20)
#define LARGE_PAGES   1024u /* 2 GiB */
#define LARGE_SLOTS   512u
#define LARGE_AT_ONCE 256u
/* A daemon that is not asked for so long sleeps. */
#define ASLEEP_US 2000u

/**
 * struct faults - a client with pages that are in host memory.
 * @rig:	the GPU.
 * @guest:	the client.
 * @page:	its pages.
 * @nr:		how many.
 * @seed:	of what is asked for next.
 */
struct faults {
	struct syn_rig *rig;
	struct syn_guest guest;
	uint64_t *page;
	uint32_t nr;
	uint64_t seed;
};

static uint32_t random_page(struct faults *f)
{
	f->seed = f->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(f->seed >> 33) % f->nr;
}

static int pages_write(struct faults *f, const uint64_t *page, unsigned int nr)
{
	const uint64_t bytes = f->guest.space.page_bytes;
	uint32_t tokens[WRITE_NR];
	void *addr[WRITE_NR];
	int r = syn_pin(f->guest.client, page, nr, addr);

	for (unsigned int i = 0; i < nr && !r; i++) {
		tokens[i] = f->guest.tokens;
		r = syn_rig_copy(f->rig, f->rig->engine, (uintptr_t)addr[i],
				 f->rig->plain + random_page(f) * bytes %
							 SYN_RIG_PINNED_BYTES,
				 bytes);
	}
	if (!r)
		r = syn_rig_wait(f->rig, f->rig->engine);
	if (!r)
		r = syn_commit(f->guest.client, page, tokens, nr);
	syn_unpin(f->guest.client, f->guest.timeline, page, nr);
	return r;
}

/* More pages than slots: most of them leave again. */
static int faults_open(struct faults *f, const struct syn_bench *bench,
		       const struct syn_daemon *daemon, uint64_t page_bytes,
		       uint32_t nr, uint32_t slots, uint16_t codec)
{
	int r = syn_guest_open_as(bench, daemon, codec, page_bytes, nr, slots,
				  &f->guest);

	if (r)
		return r;
	syn_cpu_free();
	f->nr = nr;
	f->page = syn_alloc(nr, sizeof(*f->page));
	r = f->page ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < nr && !r; i += WRITE_NR) {
		r = syn_lease(f->guest.window, WRITE_NR, SYN_FOREVER,
			      f->page + i);
		if (!r)
			r = pages_write(f, f->page + i, WRITE_NR);
	}
	return r;
}

static void faults_close(struct faults *f)
{
	syn_guest_close(&f->guest);
	free(f->page);
}

/* ---- one small page ----------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Microseconds until a page that was in host memory can be used; median. */
static int fault_once(struct faults *f, bool asleep, double *ret_us)
{
	struct syn_client *c = f->guest.client;
	uint64_t page;
	uint64_t begin_ns;
	void *addr;
	int r;

	do {
		page = f->page[random_page(f)];
		r = syn_pin(c, &page, 1, &addr);
		if (!r)
			syn_unpin(c, f->guest.timeline, &page, 1);
	} while (!r);
	if (r != SYN_E_FAULT)
		return r;
	if (asleep)
		(void)usleep(ASLEEP_US);
	begin_ns = syn_now_ns();
	r = syn_load(c, &page, 1, SYN_FOREVER, &addr);
	*ret_us = (double)(syn_now_ns() - begin_ns) / 1e3;
	if (!r)
		syn_unpin(c, f->guest.timeline, &page, 1);
	return r;
}

static int fault_run(struct syn_bench *bench, struct faults *f, bool asleep)
{
	static double us[SMALL_RUNS];
	int r = 0;

	for (uint32_t i = 0; i < SMALL_RUNS && !r; i++)
		r = fault_once(f, asleep, &us[i]);
	if (r)
		return r;
	qsort(us, SMALL_RUNS, sizeof(us[0]), by_size);
	syn_figure_add(&bench->figures, "gpu-fault",
		       asleep ? "fault of 64 KiB, daemon asleep"
			      : "fault of 64 KiB, daemon awake",
		       "us", asleep ? SYN_GOAL_NONE : SYN_GOAL_AT_MOST, 20,
		       us[SMALL_RUNS / 2]);
	syn_figure_add(&bench->figures, "gpu-fault",
		       asleep ? "the same, 99 of 100, asleep"
			      : "the same, 99 of 100, awake",
		       "us", SYN_GOAL_NONE, 0, us[SMALL_RUNS * 99 / 100]);
	return 0;
}

static int small_run(struct syn_bench *bench, struct syn_rig *rig,
		     const struct syn_daemon *daemon)
{
	struct faults f = { .rig = rig, .seed = 1 };
	int r = faults_open(&f, bench, daemon, SMALL_BYTES, SMALL_PAGES,
			    SMALL_SLOTS, SYN_CODEC_RAW16);

	for (unsigned int run = 0; run < bench->runs && !r; run++) {
		r = fault_run(bench, &f, false);
		if (!r)
			r = fault_run(bench, &f, true);
	}
	faults_close(&f);
	return r;
}

/* ---- many large ones ---------------------------------------------------- */

/* GB/s of all pages, in the order in which they were written. */
static int pass_run(struct faults *f, double *ret_rate)
{
	struct syn_client *c = f->guest.client;
	uint64_t begin_ns = syn_now_ns();
	int r = 0;

	for (uint32_t i = 0; i < f->nr && !r; i += LARGE_AT_ONCE) {
		r = syn_load(c, f->page + i, LARGE_AT_ONCE, SYN_FOREVER, NULL);
		if (!r)
			syn_unpin(c, f->guest.timeline, f->page + i,
				  LARGE_AT_ONCE);
	}
	*ret_rate = (double)f->nr * (double)f->guest.space.page_bytes /
		    (double)(syn_now_ns() - begin_ns);
	return r;
}

static int large_run(struct syn_bench *bench, struct syn_rig *rig,
		     const struct syn_daemon *daemon, uint16_t codec)
{
	static const char *const names[2][2] = {
		{ "raw pages loaded, 2 MiB", "raw / one large copy" },
		{ "h4 pages loaded, 2 MiB", "h4 / one large copy" },
	};
	const char *const *name = names[codec == SYN_CODEC_H4];
	struct faults f = { .rig = rig, .seed = 2 };
	int r = faults_open(&f, bench, daemon, LARGE_BYTES, LARGE_PAGES,
			    LARGE_SLOTS, codec);

	for (unsigned int run = 0; run <= bench->runs && !r; run++) {
		double rate, copy;

		r = syn_rig_copy_large(rig, &copy);
		if (!r)
			r = pass_run(&f, &rate);
		/* The first pass finds some that have not left yet. */
		if (r || !run)
			continue;
		syn_figure_add(&bench->figures, "gpu-fault", name[0], "GB/s",
			       SYN_GOAL_NONE, 0, rate);
		syn_figure_add(&bench->figures, "gpu-fault", name[1], "x",
			       SYN_GOAL_NONE, 0, rate / copy);
	}
	faults_close(&f);
	return r;
}

int syn_bench_gpu_fault(struct syn_bench *bench)
{
	const struct syn_daemon_opts opts = {
		.hbm_mib = HBM_MIB,
		.host_mib = HOST_MIB,
		.max_pages = 8192,
		.device = "cuda",
		.ladder = "h4",
	};
	struct syn_daemon daemon;
	struct syn_rig rig;
	int r = syn_rig_open(bench, &rig);

	if (r == -ENODEV)
		return 0;
	if (r)
		return syn_bench_fail("gpu-fault", r);
	r = syn_rig_fill(&rig, rig.plain, SYN_RIG_PINNED_BYTES, false, 7);
	if (!r)
		r = syn_daemon_start(bench, &opts, &daemon);
	if (r)
		goto close_rig;
	r = small_run(bench, &rig, &daemon);
	if (!r)
		r = large_run(bench, &rig, &daemon, SYN_CODEC_RAW16);
	if (!r)
		r = large_run(bench, &rig, &daemon, SYN_CODEC_H4);
	syn_daemon_stop(&daemon);
close_rig:
	syn_rig_close(&rig);
	return r ? syn_bench_fail("gpu-fault", r) : 0;
}
