/* SPDX-License-Identifier: Apache-2.0 */
/* The host tier under pressure. */
#include "core/host.h"

#include "core/base/base.h"
#include "core/base/trace.h"
#include "core/lists.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/swap.h"

#define HOST_BATCH 32u /* writes begun at once for one pool */

static bool host_drop(struct syn_mm *mm, struct syn_pool *pool)
{
	uint32_t page = pool->list[SYN_LIST_DUP].cold;

	if (page == SYN_NONE)
		page = pool->list[SYN_LIST_CLEAN].cold;
	if (page == SYN_NONE)
		return false;
	syn_page_host_free(mm, page);
	return true;
}

static bool host_evict(struct syn_mm *mm, struct syn_pool *pool,
		       uint32_t session)
{
	uint32_t page = pool->list[SYN_LIST_COLD].cold;

	if (page == SYN_NONE)
		return false;
	syn_page_evict(mm, page, SYN_WHY_EVICTED, session);
	return true;
}

bool syn_host_coming(const struct syn_mm *mm)
{
	return mm->nr_swaps;
}

uint32_t syn_host_frame(struct syn_mm *mm, struct syn_pool *pool,
			uint32_t session)
{
	uint32_t frame = syn_pool_frame_take(mm, pool);

	if (frame != SYN_NONE)
		return frame;
	SYN_PROBE(reclaim_begin, session, 1, SYN_TIER_HOST);
	if (!host_drop(mm, pool)) {
		(void)syn_swap_clean(mm, pool, HOST_BATCH, session);
		if (!syn_host_coming(mm))
			(void)host_evict(mm, pool, session);
	}
	if (pool->nr_free)
		frame = syn_pool_frame_take(mm, pool);
	SYN_PROBE(reclaim_end, session, frame != SYN_NONE, SYN_TIER_HOST);
	return frame;
}

/* Frames that the pool could still get by growing. */
static uint64_t host_growth(const struct syn_mm *mm,
			    const struct syn_pool *pool)
{
	const struct syn_tier_state *tier = &mm->tier[1];
	uint64_t left = tier->budget_bytes - tier->extent_bytes;

	return left / pool->extent_bytes * pool->extent_frames;
}

/* Pages to write so that @permille of the frames can be had at once. */
static uint64_t host_short(const struct syn_mm *mm, const struct syn_pool *pool,
			   uint32_t permille)
{
	uint64_t want = pool->nr_frames * permille / 1000;
	uint64_t have = pool->nr_free + pool->list[SYN_LIST_DUP].nr +
			pool->list[SYN_LIST_CLEAN].nr + host_growth(mm, pool);

	return want > have ? want - have : 0;
}

bool syn_host_poll(struct syn_mm *mm)
{
	uint32_t begun = 0;
	uint32_t i;

	if (!mm->disk || mm->nr_swaps || mm->now_ns < mm->swap_retry_ns)
		return false;
	for (i = 0; i < SYN_POOLS_MAX; i++) {
		struct syn_pool *pool = mm->pool[i];
		uint64_t nr;

		if (!pool || pool->tier != SYN_TIER_HOST || !pool->nr_frames ||
		    !host_short(mm, pool, mm->cfg.low_permille))
			continue;
		nr = host_short(mm, pool, mm->cfg.high_permille);
		begun += syn_swap_clean(
			mm, pool, (uint32_t)syn_min(nr, (uint64_t)HOST_BATCH),
			SYN_NONE);
	}
	return begun;
}
