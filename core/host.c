/* SPDX-License-Identifier: Apache-2.0 */
/* The host tier under pressure. */
#include "core/host.h"

#include "core/base/base.h"
#include "core/base/trace.h"
#include "core/page.h"
#include "core/pool.h"

uint32_t syn_host_frame(struct syn_mm *mm, struct syn_pool *pool)
{
	uint32_t frame = syn_pool_frame_take(mm, pool);

	if (frame != SYN_NONE)
		return frame;
	SYN_PROBE(reclaim_begin, SYN_NONE, 1, SYN_TIER_HOST);
	if (pool->dup.cold != SYN_NONE)
		syn_page_host_free(mm, pool->dup.cold);
	else if (pool->cold.cold != SYN_NONE)
		syn_page_evict(mm, pool->cold.cold);
	if (pool->nr_free)
		frame = syn_pool_frame_take(mm, pool);
	SYN_PROBE(reclaim_end, SYN_NONE, frame != SYN_NONE, SYN_TIER_HOST);
	return frame;
}
