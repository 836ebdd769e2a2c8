/* SPDX-License-Identifier: Apache-2.0 */
/* The manager: made, polled, freed. */
#include "core/adopt.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/depart.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/host.h"
#include "core/kept.h"
#include "core/lost.h"
#include "core/move.h"
#include "core/pool.h"
#include "core/reclaim.h"
#include "core/session.h"
#include "core/shrink.h"
#include "core/swap.h"

void syn_mm_kept_records(const struct syn_mm_config *config,
			 struct syn_records *ret)
{
	syn_kept_records(config, ret);
}

uint64_t syn_mm_kept_bytes(const struct syn_mm_config *config)
{
	return syn_kept_bytes(config);
}

static void mm_release(struct syn_mm *mm)
{
	free(mm->links);
	free(mm->bucket);
	free(mm->quarantine_next);
	free(mm->info);
	free(mm->move_result);
	free(mm->swap_head);
	free(mm->segment_used);
	free(mm->move_since_ns);
	free(mm->departure);
	free(mm->session);
	free(mm->extent);
	free(mm->pool);
	free(mm);
}

/* At most one bucket for each page: 4 bytes of its budget. */
static uint32_t bucket_count(uint32_t max_pages)
{
	return 1u << (31 - __builtin_clz(max_pages));
}

static int mm_alloc(struct syn_mm *mm)
{
	const struct syn_mm_config *c = &mm->cfg;
	uint32_t nr_buckets = bucket_count(c->max_pages);

	mm->links = syn_alloc(c->max_pages, sizeof(*mm->links));
	mm->bucket = syn_alloc(nr_buckets, sizeof(*mm->bucket));
	mm->quarantine_next = syn_alloc((size_t)c->max_sessions * SYN_LOANS_MAX,
					sizeof(*mm->quarantine_next));
	mm->info = syn_alloc(SYN_SPACES_MAX, sizeof(*mm->info));
	mm->move_result = syn_alloc(SYN_MOVES_MAX, sizeof(*mm->move_result));
	mm->move_since_ns =
		syn_alloc(SYN_MOVES_MAX, sizeof(*mm->move_since_ns));
	mm->session = syn_alloc(c->max_sessions, sizeof(struct syn_session *));
	mm->extent = syn_alloc(SYN_EXTENTS_MAX, sizeof(struct syn_extent *));
	mm->pool = syn_alloc(SYN_POOLS_MAX, sizeof(struct syn_pool *));
	if (!mm->links || !mm->bucket || !mm->quarantine_next || !mm->info ||
	    !mm->move_result || !mm->move_since_ns || !mm->session ||
	    !mm->extent || !mm->pool)
		return -ENOMEM;
	mm->bucket_mask = nr_buckets - 1;
	memset(mm->bucket, 0xff, nr_buckets * sizeof(*mm->bucket));
	return syn_depart_init(mm);
}

static int mm_alloc_swap(struct syn_mm *mm)
{
	if (!mm->disk)
		return 0;
	mm->swap_head = syn_alloc(SYN_SWAPS_MAX, sizeof(*mm->swap_head));
	mm->segment_used = syn_alloc(mm->disk->nr_segments, 1);
	if (!mm->swap_head || !mm->segment_used)
		return -ENOMEM;
	return 0;
}

/* What is derived of empty records, or comes to be so: nothing is under way. */
static void mm_free_lists(struct syn_mm *mm)
{
	uint32_t i;

	mm->page_free = SYN_NONE;
	mm->lessee_free = SYN_NONE;
	mm->move_free = SYN_NONE;
	mm->quarantine_free = SYN_NONE;
	mm->sum_chunk = SYN_NONE;
	for (i = 0; i < SYN_SUM_CLASSES; i++)
		mm->sum_free[i] = SYN_NONE;
	for (i = SYN_MOVES_MAX; i--;)
		syn_kept_move_free(mm, i);
	mm->swap_free = SYN_NONE;
}

static void mm_tiers(struct syn_mm *mm)
{
	uint32_t i;

	mm->tier[0].budget_bytes = mm->cfg.hbm_bytes;
	mm->tier[1].budget_bytes = mm->cfg.host_bytes;
	if (mm->disk)
		mm->tier[2].budget_bytes =
			mm->disk->nr_segments * mm->disk->segment_bytes;
	for (i = 0; i < 2; i++)
		mm->tier[i].unit_bytes = syn_pool_unit(
			SYN_TIER_HBM + i, mm->tier[i].budget_bytes);
	/* Slots are taken one by one. */
	mm->tier[2].unit_bytes = 1;
}

static bool mm_is_sane(const struct syn_mm_config *config)
{
	return syn_kept_bytes(config) && config->high_permille <= 1000 &&
	       config->low_permille <= config->high_permille &&
	       config->codec >= SYN_CODEC_RAW16 && config->codec < SYN_CODEC_NR;
}

/* All but what is kept. */
static int mm_make(struct syn_mm **ret, const struct syn_mm_config *config)
{
	struct syn_mm *mm = syn_alloc(1, sizeof(*mm));
	int r;

	if (!mm)
		return -ENOMEM;
	mm->cfg = *config;
	mm->dev = config->dev;
	mm->disk = config->disk;
	r = mm_alloc(mm);
	if (!r)
		r = mm_alloc_swap(mm);
	if (r) {
		mm_release(mm);
		return r;
	}
	syn_kept_carve(mm);
	syn_list_init(&mm->draining);
	syn_list_init(&mm->losing);
	syn_list_init(&mm->pressed);
	syn_list_init(&mm->shrinking);
	syn_list_init(&mm->asking);
	mm->drain_extent = SYN_NONE;
	mm_tiers(mm);
	mm->drain_poll_ns = SYN_DRAIN_POLL_NS;
	*ret = mm;
	return 0;
}

int syn_mm_new(struct syn_mm **ret, const struct syn_mm_config *config)
{
	struct syn_mm *mm;
	int r;

	if (!mm_is_sane(config))
		return -EINVAL;
	r = mm_make(&mm, config);
	if (r)
		return r;
	syn_kept_begin(mm);
	mm_free_lists(mm);
	r = syn_swap_start(mm);
	if (r) {
		(void)syn_mm_free(mm);
		return r;
	}
	/* What the swap file has is known: from now on it can be adopted. */
	syn_kept_valid(mm);
	*ret = mm;
	return 0;
}

int syn_mm_adopt(struct syn_mm **ret, const struct syn_mm_config *config,
		 struct syn_misfit *ret_misfit)
{
	struct syn_mm *mm;
	int r;

	*ret_misfit = (struct syn_misfit){ .what = "" };
	if (!mm_is_sane(config))
		return -EINVAL;
	r = syn_kept_check(config, ret_misfit);
	if (!r)
		r = mm_make(&mm, config);
	if (r)
		return r;
	mm->adopting = true;
	syn_kept_file(mm);
	syn_domain_redo(mm);
	syn_move_redo(mm);
	mm_free_lists(mm);
	r = syn_adopt_begin(mm, ret_misfit);
	if (r) {
		(void)syn_mm_free(mm);
		return r;
	}
	*ret = mm;
	return 0;
}

struct syn_mm *syn_mm_free(struct syn_mm *mm)
{
	uint32_t i;

	if (!mm)
		return NULL;
	syn_move_quiesce(mm);
	syn_swap_quiesce(mm);
	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (mm->session[i])
			syn_session_release(mm->session[i]);
	for (i = 0; i < SYN_EXTENTS_MAX; i++)
		if (mm->extent[i] && mm->adopting)
			syn_extent_release(mm->extent[i]);
		else if (mm->extent[i])
			syn_extent_free(mm, mm->extent[i]);
	for (i = 0; i < SYN_POOLS_MAX; i++) {
		if (mm->pool[i])
			free(mm->pool[i]->ordinal);
		free(mm->pool[i]);
	}
	mm_release(mm);
	return NULL;
}

/* Timelines are looked at more and more seldom while nothing moves. */
static void drain_pace(struct syn_mm *mm, bool moved)
{
	uint64_t longer_ns = 2 * mm->drain_poll_ns;

	if (moved)
		mm->drain_poll_ns = SYN_DRAIN_POLL_NS;
	else
		mm->drain_poll_ns =
			syn_min(longer_ns, (uint64_t)SYN_DRAIN_POLL_MAX);
}

static uint64_t mm_next(struct syn_mm *mm, bool moved)
{
	uint64_t next = UINT64_MAX;

	if (!syn_list_empty(&mm->draining) || !syn_list_empty(&mm->losing) ||
	    mm->nr_draining_moves)
		next = mm->now_ns + mm->drain_poll_ns;
	drain_pace(mm, moved);
	if (!syn_list_empty(&mm->pressed) || !syn_list_empty(&mm->shrinking)) {
		uint64_t retry =
			syn_max(mm->retry_ns, mm->now_ns + SYN_DRAIN_POLL_NS);

		next = syn_min(next, retry);
	}
	return syn_min(next, syn_shrink_next(mm));
}

void syn_mm_clock(struct syn_mm *mm, uint64_t now_ns)
{
	mm->now_ns = now_ns;
}

bool syn_mm_poll(struct syn_mm *mm, uint64_t now_ns, uint64_t *ret_next_ns)
{
	bool moved;

	mm->now_ns = now_ns;
	moved = syn_swap_poll(mm);
	moved |= syn_move_poll(mm);
	moved |= syn_reclaim_poll(mm);
	moved |= syn_shrink_poll(mm);
	moved |= syn_lost_poll(mm);
	moved |= mm->progress;
	mm->progress = false;
	if (moved)
		(void)syn_host_poll(mm);
	*ret_next_ns = mm_next(mm, moved);
	return moved;
}
