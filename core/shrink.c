/* SPDX-License-Identifier: Apache-2.0 */
/* Shrinking: a host pool that finds no room gets an extent of another one. */
#include "core/shrink.h"

#include "core/base/base.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/swap.h"

#define SHRINK_LOOK	256u	  /* frames looked at in one poll */
#define SHRINK_ASK_NS	20000000u /* who asks no more loses its turn */
#define SHRINK_PAUSE_NS 10000000u /* for clients to unmap what retires */
#define SHRINK_RETRY_NS 1000000u  /* nobody had anything to give */
#define SHRINK_GIVE_UP	50000000u /* its pages are in use after all */

/* ---- emptying ----------------------------------------------------------- */

/*
 * What becomes of a page whose frame is wanted; false: it stays, for now.  One
 * that has no other copy goes to the swap file first.
 */
static bool shrink_page(struct syn_mm *mm, uint32_t page)
{
	uint32_t list = syn_lists_host(&mm->page[page]);
	int r;

	switch (list) {
	case SYN_LIST_DUP:
	case SYN_LIST_CLEAN:
		syn_page_host_free(mm, page);
		return true;
	case SYN_LIST_COLD:
	case SYN_LIST_LEASED:
		r = mm->disk ? syn_swap_out(mm, page, false, SYN_NONE)
			     : SYN_SWAP_E_FULL;
		if (r != SYN_SWAP_E_FULL || list != SYN_LIST_COLD)
			return !r;
		syn_page_evict(mm, page, SYN_WHY_EVICTED, SYN_NONE);
		return true;
	default:
		return false;
	}
}

/* The extent that is emptied; NULL: it has retired. */
static struct syn_extent *drain_extent(const struct syn_mm *mm)
{
	struct syn_extent *ext = mm->extent[mm->drain_extent];

	return ext && ext->draining ? ext : NULL;
}

static void drain_end(struct syn_mm *mm, uint64_t pause_ns)
{
	mm->drain_extent = SYN_NONE;
	mm->drain_ns = mm->now_ns + pause_ns;
}

static bool drain_step(struct syn_mm *mm)
{
	struct syn_extent *ext = drain_extent(mm);
	uint32_t look = SHRINK_LOOK;
	bool moved = false;

	for (; look && ext; look--, ext = drain_extent(mm)) {
		uint32_t owner = ext->owner[mm->drain_frame++ % ext->nr_frames];

		if (owner != SYN_NONE)
			moved |= shrink_page(mm, owner);
	}
	if (!ext) {
		drain_end(mm,
			  mm->extent[mm->drain_extent] ? SHRINK_PAUSE_NS : 0);
	} else if (mm->now_ns - mm->drain_ns > SHRINK_GIVE_UP) {
		syn_extent_undrain(ext);
		drain_end(mm, SHRINK_PAUSE_NS);
		moved = true;
	}
	return moved;
}

/* ---- choosing ----------------------------------------------------------- */

/* As syn_domain_rank(), within one domain. */
static uint64_t rank_own(const struct syn_pool *asker,
			 const struct syn_pool *pool)
{
	uint64_t rest = (pool->nr_extents - 1) * pool->extent_bytes;
	uint64_t gets = (asker->nr_extents + 1) * asker->extent_bytes;

	return !asker->nr_extents || rest >= gets ? rest + pool->extent_bytes
						  : 0;
}

static uint64_t shrink_rank(const struct syn_mm *mm,
			    const struct syn_pool *asker,
			    const struct syn_pool *pool)
{
	if (pool == asker || pool->tier != SYN_TIER_HOST || !pool->nr_extents)
		return 0;
	if (pool->domain == asker->domain)
		return rank_own(asker, pool);
	if (asker->asks_own)
		return 0;
	return syn_domain_rank(mm, SYN_TIER_HOST, pool->domain,
			       pool->extent_bytes, asker->domain,
			       asker->extent_bytes);
}

static struct syn_extent *shrink_extent(const struct syn_pool *pool)
{
	struct syn_extent *best = NULL;
	struct syn_extent *ext;

	syn_list_for_each (ext, &pool->extents, in_pool) {
		if (ext->retiring || ext->nr_used != ext->nr_loose)
			continue;
		if (!best || ext->nr_used < best->nr_used)
			best = ext;
	}
	return best;
}

static struct syn_extent *shrink_choose(const struct syn_mm *mm,
					const struct syn_pool *asker)
{
	struct syn_extent *best = NULL;
	uint64_t best_rank = 0;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		const struct syn_pool *pool = mm->pool[i];
		struct syn_extent *ext = NULL;
		uint64_t rank = 0;

		if (pool)
			rank = shrink_rank(mm, asker, pool);
		if (rank > best_rank)
			ext = shrink_extent(pool);
		if (ext) {
			best = ext;
			best_rank = rank;
		}
	}
	return best;
}

/* The first that would still find no room after those before it had theirs. */
static struct syn_pool *shrink_asker(const struct syn_mm *mm)
{
	const struct syn_tier_state *tier = &mm->tier[1];
	uint64_t room = tier->budget_bytes - tier->extent_bytes;
	struct syn_pool *pool;

	syn_list_for_each (pool, &mm->asking, asking) {
		if (pool->extent_bytes > room ||
		    !syn_domain_fits(mm, pool->domain, SYN_TIER_HOST,
				     pool->extent_bytes))
			return pool;
		room -= pool->extent_bytes;
	}
	return NULL;
}

/* Of whom nobody has anything to give, another one gets its turn. */
static bool drain_begin(struct syn_mm *mm)
{
	struct syn_pool *asker = shrink_asker(mm);
	struct syn_extent *ext;

	if (!asker) {
		drain_end(mm, SHRINK_RETRY_NS);
		return false;
	}
	ext = shrink_choose(mm, asker);
	if (!ext) {
		syn_list_del(&asker->asking);
		syn_list_add_tail(&mm->asking, &asker->asking);
		drain_end(mm, SHRINK_RETRY_NS);
		return false;
	}
	mm->drain_extent = ext->mem.id;
	mm->drain_frame = 0;
	mm->drain_ns = mm->now_ns;
	if (ext->nr_used)
		syn_extent_drain(ext);
	else
		syn_extent_retire(mm, ext);
	return true;
}

static void asking_expire(struct syn_mm *mm)
{
	struct syn_pool *pool;
	struct syn_pool *next;

	syn_list_for_each_safe (pool, next, &mm->asking, asking)
		if (mm->now_ns - pool->asked_ns > SHRINK_ASK_NS)
			syn_list_del(&pool->asking);
}

bool syn_shrink_poll(struct syn_mm *mm)
{
	asking_expire(mm);
	if (mm->drain_extent != SYN_NONE)
		return drain_step(mm);
	if (syn_list_empty(&mm->asking) || mm->now_ns < mm->drain_ns)
		return false;
	return drain_begin(mm);
}

uint64_t syn_shrink_next(const struct syn_mm *mm)
{
	uint64_t soon = mm->now_ns + SYN_DRAIN_POLL_NS;

	if (mm->drain_extent != SYN_NONE)
		return soon;
	if (syn_list_empty(&mm->asking))
		return UINT64_MAX;
	return syn_max(soon, mm->drain_ns);
}
