/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon writes down for a page: measured, not read off a struct. */
#include <malloc.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "core/mm.h"
#include "core/record.h"
#include "kernels/dev-host.h"
#include "tools/bench/bench.h"

#define RECORD_FEW  65536u
#define RECORD_MANY (RECORD_FEW + 1048576u)

/* Heap of a manager for @max_pages that has just begun. */
static int heap_bytes(struct syn_mm_config *config, uint64_t *ret)
{
	syn_cleanup(syn_freep) void *kept = NULL;
	struct mallinfo2 before, after;
	struct syn_mm *mm;
	int r;

	kept = syn_alloc(1, syn_mm_kept_bytes(config));
	if (!kept)
		return -ENOMEM;
	config->kept = kept;
	before = mallinfo2();
	r = syn_mm_new(&mm, config);
	if (r < 0)
		return r;
	after = mallinfo2();
	mm = syn_mm_free(mm);
	*ret = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
	return 0;
}

static void record_add(struct syn_bench *bench, const char *name,
		       enum syn_goal goal, double bytes)
{
	syn_figure_add(&bench->figures, "record", name, "B", goal, 128, bytes);
}

static int record_run(struct syn_bench *bench, struct syn_mm_config *config)
{
	const double pages = RECORD_MANY - RECORD_FEW;
	uint64_t kept[2], heap[2] = { 0 };
	double lessees, sums, errors, page;
	int r;

	config->max_pages = RECORD_FEW;
	kept[0] = syn_mm_kept_bytes(config);
	r = heap_bytes(config, &heap[0]);
	config->max_pages = RECORD_MANY;
	kept[1] = syn_mm_kept_bytes(config);
	if (r == 0)
		r = heap_bytes(config, &heap[1]);
	if (r < 0)
		return syn_bench_fail("records", r);
	lessees = SYN_LEASES_A_PAGE * sizeof(struct syn_rec_lessee);
	sums = SYN_SUMS_A_PAGE * sizeof(uint32_t);
	errors = (SYN_SUMS_A_PAGE + SYN_SUMS_INLINE) * sizeof(uint16_t);
	page = (double)(kept[1] - kept[0]) / pages - lessees - sums - errors;
	record_add(bench, "kept and derived, a page", SYN_GOAL_AT_MOST,
		   page + (double)(heap[1] - heap[0]) / pages);
	record_add(bench, "of these kept", SYN_GOAL_NONE, page);
	record_add(bench, "of these derived", SYN_GOAL_NONE,
		   (double)(heap[1] - heap[0]) / pages);
	record_add(bench, "kept, a lessee", SYN_GOAL_NONE,
		   sizeof(struct syn_rec_lessee));
	record_add(bench, "sums area reserved, a page", SYN_GOAL_NONE, sums);
	record_add(bench, "errors area reserved, a page", SYN_GOAL_NONE,
		   errors);
	return 0;
}

int syn_bench_record(struct syn_bench *bench)
{
	const struct syn_dev_host_config dev_config = { 0 };
	struct syn_mm_config config = {
		.hbm_bytes = 64u << 20,
		.host_bytes = 64u << 20,
		.max_sessions = 16,
		.low_permille = 50,
		.high_permille = 100,
		.codec = SYN_CODEC_RAW16,
	};
	int r;

	r = syn_dev_host_open(&config.dev, &dev_config);
	if (r < 0)
		return syn_bench_fail("device", r);
	r = record_run(bench, &config);
	config.dev->ops->close(config.dev);
	return r;
}
