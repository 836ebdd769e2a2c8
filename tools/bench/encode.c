/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that leave HBM as h4: the device's workers with a full queue, against
 * one thread that does nothing else, over a working set larger than the caches.
 */
#include <dirent.h>
#include <poll.h>
#include <time.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "kernels/codec/page.h"
#include "kernels/dev-host.h"
#include "tools/bench/bench.h"
#include "tools/bench/page.h"

#define ENCODE_PAGES  128u /* queued at any time */
#define ENCODE_RUN_NS 1000000000u

/**
 * struct works - a device whose queue never runs dry.
 * @dev:	the host-emulated device.
 * @nr_workers:	threads it has.
 * @hbm:	pages to encode.
 * @host:	where they go.
 * @frame_bytes: of an encoded page.
 * @side:	one for each page.
 */
struct works {
	struct syn_dev *dev;
	unsigned int nr_workers;
	struct syn_mem hbm;
	struct syn_mem host;
	uint64_t frame_bytes;
	struct syn_bench_side *side;
};

/**
 * struct pace - how much was done.
 * @pages:	pages encoded.
 * @ns:		in this time.
 * @cpu_ns:	CPU time that the workers took for it.
 */
struct pace {
	uint64_t pages;
	uint64_t ns;
	uint64_t cpu_ns;
};

static unsigned int count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int nr = 0;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		nr += entry->d_name[0] != '.';
	if (dir)
		(void)closedir(dir);
	return nr;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The workers are all threads but this one. */
static uint64_t workers_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) -
	       clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Halves from 0.5 to 1 of either sign, the same in every page. */
static void pages_fill(unsigned char *to)
{
	uint32_t x = 1;

	for (uint64_t i = 0; i < SYN_BENCH_PAGE_BYTES; i += 2) {
		x = x * 1664525u + 1013904223u;
		to[i] = (unsigned char)(x >> 24);
		to[i + 1] = (unsigned char)((x >> 16 & 0x83) | 0x38);
	}
	for (uint32_t i = 1; i < ENCODE_PAGES; i++)
		memcpy(to + i * SYN_BENCH_PAGE_BYTES, to, SYN_BENCH_PAGE_BYTES);
}

static void works_close(struct works *works)
{
	if (works->hbm.bytes)
		works->dev->ops->mem_free(works->dev, &works->hbm);
	if (works->host.bytes)
		works->dev->ops->mem_free(works->dev, &works->host);
	if (works->dev)
		works->dev->ops->close(works->dev);
	free(works->side);
}

static int works_open(struct works *ret)
{
	const struct syn_dev_host_config config = { 0 };
	struct works works = {
		.frame_bytes =
			syn_align_up(syn_layout_bytes(&syn_bench_layout), 4096),
	};
	unsigned int others = count_threads();
	int r = -ENOMEM;

	works.side = syn_alloc(ENCODE_PAGES, sizeof(*works.side));
	if (works.side)
		r = syn_dev_host_open(&works.dev, &config);
	if (r == 0)
		r = works.dev->ops->mem_new(works.dev, 1, SYN_TIER_HBM,
					    ENCODE_PAGES * SYN_BENCH_PAGE_BYTES,
					    &works.hbm);
	if (r == 0)
		r = works.dev->ops->mem_new(works.dev, 2, SYN_TIER_HOST,
					    ENCODE_PAGES * works.frame_bytes,
					    &works.host);
	if (r < 0) {
		works_close(&works);
		return syn_bench_fail("device", r);
	}
	works.nr_workers = count_threads() - others;
	pages_fill(works.hbm.addr);
	*ret = works;
	return 0;
}

static int page_submit(struct works *works, uint64_t page)
{
	struct syn_bench_side *side = &works->side[page];
	const struct syn_copy copy = {
		.cookie = page,
		.src = &works->hbm,
		.dst = &works->host,
		.src_off = page * SYN_BENCH_PAGE_BYTES,
		.dst_off = page * works->frame_bytes,
		.bytes = SYN_BENCH_PAGE_BYTES,
		.tile_bytes = SYN_BENCH_PAGE_BYTES / SYN_BENCH_PAGE_TILES,
		.sums = side->sums,
		.encode = &syn_bench_layout,
		.stored_sums = side->stored_sums,
		.error = side->error,
	};

	return works->dev->ops->copy(works->dev, &copy, 1);
}

/* A page that is done is queued again until the time is over, or one fails. */
static int works_turn(struct works *works, uint64_t until_ns,
		      uint64_t *ret_pages)
{
	struct pollfd pfd = { .fd = works->dev->ops->event_fd(works->dev),
			      .events = POLLIN };
	uint64_t queued = 0, pages = 0;
	int r = 0;

	while (queued < ENCODE_PAGES && r == 0)
		r = page_submit(works, queued++);
	queued -= r != 0;
	while (queued) {
		struct syn_copy_done done[SYN_BATCH_MAX];
		unsigned int got;

		(void)poll(&pfd, 1, -1);
		got = works->dev->ops->reap(works->dev, done, SYN_BATCH_MAX);
		for (unsigned int i = 0; i < got; i++) {
			r = r ? r : done[i].status;
			pages++;
			if (r || syn_now_ns() >= until_ns ||
			    (r = page_submit(works, done[i].cookie)) < 0)
				queued--;
		}
	}
	*ret_pages = pages;
	return r;
}

static int works_run(struct works *works, uint64_t run_ns, struct pace *ret)
{
	uint64_t from_ns = syn_now_ns();
	uint64_t cpu_ns = workers_cpu_ns();
	int r;

	r = works_turn(works, from_ns + run_ns, &ret->pages);
	ret->ns = syn_now_ns() - from_ns;
	ret->cpu_ns = workers_cpu_ns() - cpu_ns;
	return r;
}

/* The same pages by this thread alone. */
static int alone_run(struct works *works, uint64_t run_ns, struct pace *ret)
{
	const uint64_t from_ns = syn_now_ns();
	int r = 0;

	*ret = (struct pace){ 0 };
	while (ret->ns < run_ns && r == 0) {
		uint64_t page = ret->pages++ % ENCODE_PAGES;
		struct syn_bench_side *side = &works->side[page];
		const char *src = works->hbm.addr;
		char *dst = works->host.addr;

		r = syn_page_encode(dst + page * works->frame_bytes,
				    src + page * SYN_BENCH_PAGE_BYTES,
				    &syn_bench_layout, 0, SYN_BENCH_PAGE_TILES,
				    side->sums, side->stored_sums, side->error);
		ret->ns = syn_now_ns() - from_ns;
	}
	return r;
}

static double pace_gbps(const struct pace *pace)
{
	return (double)(pace->pages * SYN_BENCH_PAGE_BYTES) / (double)pace->ns;
}

static int encode_run(struct syn_bench *bench, struct works *works)
{
	struct pace alone, all;
	int r;

	r = alone_run(works, ENCODE_RUN_NS, &alone);
	if (r == 0)
		r = works_run(works, ENCODE_RUN_NS, &all);
	if (r < 0)
		return syn_bench_fail("encode", r);
	syn_figure_add(&bench->figures, "encode", "one thread", "GB/s",
		       SYN_GOAL_NONE, 0, pace_gbps(&alone));
	syn_figure_add(&bench->figures, "encode", "all workers", "GB/s",
		       SYN_GOAL_NONE, 0, pace_gbps(&all));
	syn_figure_add(&bench->figures, "encode", "workers", "", SYN_GOAL_NONE,
		       0, works->nr_workers);
	syn_figure_add(&bench->figures, "encode", "all / workers x one", "x",
		       SYN_GOAL_NONE, 0,
		       pace_gbps(&all) / pace_gbps(&alone) / works->nr_workers);
	syn_figure_add(&bench->figures, "encode", "workers' CPUs busy", "x",
		       SYN_GOAL_AT_LEAST, 0.9,
		       (double)all.cpu_ns / (double)all.ns / works->nr_workers);
	return 0;
}

int syn_bench_encode(struct syn_bench *bench)
{
	struct works works;
	struct pace warm;
	int r;

	/* The workers may run where this thread may. */
	syn_cpu_free();
	r = works_open(&works);
	if (r == 0) {
		r = works_run(&works, 0, &warm);
		for (unsigned int run = 0; run < bench->runs && r == 0; run++)
			r = encode_run(bench, &works);
		works_close(&works);
	}
	syn_cpu_bind(bench->client_cpu);
	return r;
}
