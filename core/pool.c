/* SPDX-License-Identifier: Apache-2.0 */
/* Pools: equal frames of one tier and domain. */
#include "core/pool.h"

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/trace.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/lists.h"
#include "core/shape.h"
#include "core/space.h"

#define POOL_EXTENT_MIN	 (2ull << 20)
#define POOL_EXTENT_HBM	 (64ull << 20)
#define POOL_EXTENT_HOST (256ull << 20)
#define POOL_FRAMES_MAX	 65536u /* of an extent: SYN_FRAME() */
#define POOL_SLOTS_MAX	 ((uint64_t)SYN_SLOT_CODED) /* SYN_PTE() */
/* One whose surplus could not be emptied is not counted on for so long. */
#define POOL_STUCK_NS 20000000u

/* min(most, an eighth of the budget), whole granules. */
uint64_t syn_pool_unit(uint32_t tier, uint64_t budget_bytes)
{
	uint64_t most =
		tier == SYN_TIER_HBM ? POOL_EXTENT_HBM : POOL_EXTENT_HOST;
	uint64_t bytes = syn_min(most, budget_bytes / 8);

	return syn_max(bytes & ~(POOL_EXTENT_MIN - 1), POOL_EXTENT_MIN);
}

/* At least one frame.  Host extents are mapped alone, wherever they fit. */
static void pool_shape_memory(struct syn_pool *pool, uint64_t granule,
			      uint64_t budget_bytes)
{
	uint64_t most =
		syn_max(syn_pool_unit(pool->tier, budget_bytes),
			syn_align_up(pool->frame_bytes, POOL_EXTENT_MIN));
	struct syn_shape shape;
	uint64_t extents;

	syn_shape_window(granule, most, pool->frame_bytes, &shape);
	pool->extent_bytes = shape.extent_bytes;
	pool->extent_frames = syn_min(shape.extent_frames, POOL_FRAMES_MAX);
	extents = syn_min(budget_bytes / shape.extent_bytes,
			  POOL_SLOTS_MAX / pool->extent_frames);
	pool->max_extents =
		(uint32_t)syn_min(extents, (uint64_t)SYN_EXTENTS_MAX);
}

static void pool_shape(struct syn_mm *mm, struct syn_pool *pool)
{
	const struct syn_disk *disk = mm->disk;

	if (pool->tier != SYN_TIER_NVME) {
		pool_shape_memory(pool,
				  pool->tier == SYN_TIER_HBM ? mm->dev->granule
							     : SYN_FRAME_ALIGN,
				  syn_tier_of(mm, pool->tier)->budget_bytes);
		return;
	}
	pool->extent_bytes = disk->segment_bytes;
	pool->extent_frames = syn_disk_frames(disk, pool->frame_bytes);
	pool->max_extents = disk->nr_segments;
}

/* @like: only what tells a pool from the others. */
static struct syn_pool *pool_find(const struct syn_mm *mm,
				  const struct syn_pool *like)
{
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		struct syn_pool *pool = mm->pool[i];

		if (pool && pool->tier == like->tier &&
		    pool->domain == like->domain &&
		    pool->space == like->space && pool->plane == like->plane &&
		    pool->frame_bytes == like->frame_bytes)
			return pool;
	}
	return NULL;
}

static struct syn_pool *pool_alloc(struct syn_mm *mm,
				   const struct syn_pool *like)
{
	struct syn_pool *pool = syn_alloc(1, sizeof(*pool));
	uint32_t i;

	if (!pool)
		return NULL;
	*pool = *like;
	pool_shape(mm, pool);
	if (pool->tier == SYN_TIER_HBM) {
		pool->ordinal = syn_alloc(syn_max(pool->max_extents, 1u),
					  sizeof(struct syn_extent *));
		if (!pool->ordinal) {
			free(pool);
			return NULL;
		}
	}
	syn_list_init(&pool->extents);
	syn_list_init(&pool->with_free);
	syn_list_init(&pool->shrinking);
	syn_list_init(&pool->asking);
	syn_lru_init(&pool->cached);
	for (i = 0; i < SYN_LISTS; i++)
		syn_lru_init(&pool->list[i]);
	return pool;
}

static int pool_new(struct syn_mm *mm, const struct syn_pool *like,
		    struct syn_pool **ret)
{
	struct syn_pool *pool;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX && mm->pool[i]; i++)
		;
	if (i == SYN_POOLS_MAX)
		return -EDQUOT;
	pool = pool_alloc(mm, like);
	if (!pool)
		return -ENOMEM;
	pool->index = i;
	mm->pool[i] = pool;
	*ret = pool;
	return 0;
}

static int pool_find_or_new(struct syn_mm *mm, const struct syn_pool *like,
			    struct syn_pool **ret)
{
	struct syn_pool *pool = pool_find(mm, like);

	if (!pool)
		return pool_new(mm, like, ret);
	*ret = pool;
	return 0;
}

int syn_pool_nvme(struct syn_mm *mm, uint64_t frame_bytes,
		  struct syn_pool **ret)
{
	const struct syn_pool like = {
		.tier = SYN_TIER_NVME,
		.domain = SYN_NONE,
		.space = SYN_NONE,
		.frame_bytes = frame_bytes,
	};

	return pool_find_or_new(mm, &like, ret);
}

static void pool_link(struct syn_pool *pool, struct syn_pool *below,
		      uint32_t codec)
{
	struct syn_pool **at = &pool->below[below->tier - SYN_TIER_HOST][codec];

	if (*at)
		return;
	*at = below;
	below->nr_users++;
}

static int pool_get_below(struct syn_mm *mm, struct syn_pool *pool,
			  uint32_t codec)
{
	const struct syn_pool like = {
		.tier = SYN_TIER_HOST,
		.domain = pool->domain,
		.space = SYN_NONE,
		.frame_bytes = syn_space_frame_bytes(mm, pool->space, codec),
	};
	struct syn_pool *below;
	int r;

	if (!like.frame_bytes)
		return 0;
	r = pool_find_or_new(mm, &like, &below);
	if (r)
		return r;
	pool_link(pool, below, codec);
	if (!mm->disk || !syn_disk_frames(mm->disk, like.frame_bytes))
		return 0;
	r = syn_pool_nvme(mm, like.frame_bytes, &below);
	if (!r)
		pool_link(pool, below, codec);
	return r;
}

/* Slots of a window are that far apart. */
static uint64_t pool_stride(const struct syn_mm *mm, uint32_t space,
			    uint32_t plane)
{
	const uint64_t *stored = mm->info[space].bytes;
	uint64_t bytes = plane == SYN_PLANE_CODED ? stored[SYN_CODEC_H4]
						  : stored[SYN_CODEC_RAW16];
	struct syn_shape shape;

	syn_shape_window(mm->dev->granule,
			 syn_pool_unit(SYN_TIER_HBM, mm->cfg.hbm_bytes), bytes,
			 &shape);
	return shape.frame_bytes;
}

int syn_pool_get(struct syn_mm *mm, uint32_t domain, uint32_t space,
		 uint32_t plane, struct syn_pool **ret)
{
	const struct syn_pool like = {
		.tier = SYN_TIER_HBM,
		.domain = domain,
		.space = space,
		.plane = plane,
		.frame_bytes = pool_stride(mm, space, plane),
	};
	struct syn_pool *pool;
	uint32_t codec;
	int r;

	r = pool_find_or_new(mm, &like, &pool);
	if (r)
		return r;
	for (codec = SYN_CODEC_RAW16; codec < SYN_CODEC_NR; codec++) {
		r = pool_get_below(mm, pool, codec);
		if (r) {
			syn_pool_reap(mm);
			return r;
		}
	}
	*ret = pool;
	return 0;
}

int syn_pool_adopt(struct syn_mm *mm, const struct syn_rec_extent *rec,
		   struct syn_pool **ret)
{
	const struct syn_pool like = {
		.tier = rec->tier,
		.domain = rec->domain,
		.space = rec->space,
		.plane = rec->plane,
		.frame_bytes = rec->frame_bytes,
	};

	if (rec->tier == SYN_TIER_HBM)
		return syn_pool_get(mm, rec->domain, rec->space, rec->plane,
				    ret);
	return pool_find_or_new(mm, &like, ret);
}

static void pool_unlink(struct syn_pool *pool)
{
	uint32_t tier;
	uint32_t codec;

	for (tier = 0; tier < 2; tier++)
		for (codec = 0; codec < SYN_CODEC_NR; codec++)
			if (pool->below[tier][codec])
				pool->below[tier][codec]->nr_users--;
}

static void pool_reap(struct syn_mm *mm, uint32_t tier)
{
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		struct syn_pool *pool = mm->pool[i];

		if (!pool || pool->tier != tier || pool->nr_users ||
		    pool->nr_extents)
			continue;
		pool_unlink(pool);
		mm->pool[i] = NULL;
		syn_list_del(&pool->shrinking);
		syn_list_del(&pool->asking);
		free(pool->ordinal);
		free(pool);
	}
}

void syn_pool_reap(struct syn_mm *mm)
{
	uint32_t i;

	pool_reap(mm, SYN_TIER_HBM);
	for (i = 0; i < SYN_POOLS_MAX; i++)
		if (mm->pool[i] && !mm->pool[i]->nr_users)
			syn_pool_trim(mm, mm->pool[i]);
	pool_reap(mm, SYN_TIER_HOST);
	pool_reap(mm, SYN_TIER_NVME);
}

static uint32_t pool_ordinal(const struct syn_pool *pool)
{
	uint32_t i;

	for (i = 0; i < pool->max_extents; i++)
		if (!pool->ordinal[i])
			return i;
	return SYN_NONE;
}

/* Every session with a window on @pool must know @ext. */
static void pool_announce(struct syn_mm *mm, const struct syn_pool *pool,
			  const struct syn_extent *ext)
{
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++) {
		struct syn_session *s = mm->session[i];

		if (!s || s->ended ||
		    s->window_of[pool->space] == SYN_NO_WINDOW)
			continue;
		if (syn_window_of(s, pool)->pool == pool)
			syn_extent_want(s, ext);
	}
}

/* @first asked before @pool, and there is not enough for both. */
static bool pool_bars(const struct syn_mm *mm, const struct syn_pool *first,
		      const struct syn_pool *pool)
{
	const struct syn_tier_state *tier = &mm->tier[1];
	uint64_t both = first->extent_bytes + pool->extent_bytes;

	if (first->asks_own)
		return first->domain == pool->domain &&
		       syn_domain_full(mm, pool->domain, SYN_TIER_HOST, both);
	return both > tier->budget_bytes - tier->extent_bytes;
}

/* It is another's turn, unless this one's room is kept free anyway. */
static bool pool_waits(const struct syn_mm *mm, const struct syn_pool *pool)
{
	const struct syn_pool *first;

	if (pool->tier != SYN_TIER_HOST ||
	    syn_domain_promised(mm, pool->domain, SYN_TIER_HOST,
				pool->extent_bytes))
		return false;
	syn_list_for_each (first, &mm->asking, asking) {
		if (first == pool)
			return false;
		if (pool_bars(mm, first, pool))
			return true;
	}
	return false;
}

static void pool_ask(struct syn_mm *mm, struct syn_pool *pool)
{
	pool->asked_ns = mm->now_ns;
	pool->asks_own = syn_domain_full(mm, pool->domain, SYN_TIER_HOST,
					 pool->extent_bytes);
	if (syn_list_empty(&pool->asking))
		syn_list_add_tail(&mm->asking, &pool->asking);
}

static int pool_grow(struct syn_mm *mm, struct syn_pool *pool)
{
	uint32_t ordinal = 0;
	struct syn_extent *ext;
	int r;

	if (pool_waits(mm, pool))
		return -EDQUOT;
	if (pool->ordinal) {
		ordinal = pool_ordinal(pool);
		if (ordinal == SYN_NONE)
			return -EDQUOT;
	}
	r = syn_extent_new(mm, pool, ordinal, 0, &ext);
	if (r)
		return r;
	syn_list_del(&pool->asking);
	if (pool->ordinal)
		pool_announce(mm, pool, ext);
	return 0;
}

bool syn_pool_surplus(const struct syn_pool *pool)
{
	return pool->nr_extents &&
	       pool->nr_frames >= pool->guaranteed + pool->extent_frames;
}

/* Nobody's pages are not worth an extent that somebody asks for. */
static bool pool_shrink(struct syn_mm *mm, struct syn_pool *pool, bool own)
{
	if (pool->tier != SYN_TIER_HBM || !syn_pool_surplus(pool))
		return false;
	if (!own && !syn_domain_spare(mm, pool->domain, SYN_TIER_HBM,
				      pool->extent_bytes))
		return false;
	if (syn_list_empty(&pool->shrinking)) {
		syn_list_add_tail(&mm->shrinking, &pool->shrinking);
		pool->shrinks_own = false;
	}
	pool->shrinks_own |= own;
	return !pool->stuck_ns || mm->now_ns - pool->stuck_ns > POOL_STUCK_NS;
}

/*
 * There is no extent for @asker: surplus is given up, for the next attempt.
 * That of its own domain; that of domains above their high mark, if its own
 * maximum is not what stands in the way; and where neither helps, that of all.
 */
static void pool_shrink_for(struct syn_mm *mm, const struct syn_pool *asker)
{
	bool full = syn_domain_full(mm, asker->domain, SYN_TIER_HBM,
				    asker->extent_bytes);
	bool helps = false;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		struct syn_pool *pool = mm->pool[i];

		if (!pool || pool == asker || pool->tier != SYN_TIER_HBM)
			continue;
		if (pool->domain == asker->domain)
			helps |= pool_shrink(mm, pool, true);
		else if (!full &&
			 syn_domain_high(mm, pool->domain, SYN_TIER_HBM))
			helps |= pool_shrink(mm, pool, false);
	}
	for (i = 0; !full && !helps && i < SYN_POOLS_MAX; i++)
		if (mm->pool[i])
			(void)pool_shrink(mm, mm->pool[i], false);
}

int syn_pool_guarantee(struct syn_mm *mm, struct syn_pool *pool, uint32_t slots)
{
	uint64_t want = pool->guaranteed + slots;
	int r;

	if (want > (uint64_t)pool->max_extents * pool->extent_frames)
		return -EDQUOT;
	while (pool->nr_frames < want) {
		r = pool_grow(mm, pool);
		if (r) {
			syn_pool_trim(mm, pool);
			pool_shrink_for(mm, pool);
			return r;
		}
	}
	pool->guaranteed = want;
	pool->lacks = false;
	return 0;
}

void syn_pool_adopt_guarantee(struct syn_mm *mm, struct syn_pool *pool)
{
	pool->lacks = true;
	(void)syn_pool_guarantee(mm, pool, 0);
}

void syn_pool_ungarantee(struct syn_mm *mm, struct syn_pool *pool,
			 uint32_t slots)
{
	pool->guaranteed -= slots;
	syn_pool_trim(mm, pool);
	if (!pool->guaranteed)
		(void)pool_shrink(mm, pool, true);
}

/* Youngest first: the old ones are told to everybody. */
void syn_pool_trim(struct syn_mm *mm, struct syn_pool *pool)
{
	uint64_t need = pool->tier == SYN_TIER_HBM ? pool->guaranteed : 0;
	struct syn_list *at = pool->with_free.prev;

	while (at != &pool->with_free) {
		struct syn_extent *ext =
			syn_container_of(at, struct syn_extent, in_free);

		at = at->prev;
		if (!ext->nr_used && pool->nr_frames - ext->nr_frames >= need)
			syn_extent_retire(mm, ext);
	}
}

struct syn_extent *syn_pool_slot(const struct syn_pool *pool, uint32_t slot,
				 uint32_t *ret_frame)
{
	uint32_t n = SYN_SLOT_INDEX(slot);

	*ret_frame = n % pool->extent_frames;
	return pool->ordinal[n / pool->extent_frames];
}

static uint32_t extent_take(struct syn_mm *mm, struct syn_extent *ext)
{
	struct syn_pool *pool = ext->pool;
	uint32_t frame = ext->free;

	ext->free = ext->link[frame];
	if (!ext->nr_used++)
		syn_tier_of(mm, pool->tier)->nr_empty--;
	if (ext->free == SYN_NONE)
		syn_list_del(&ext->in_free);
	pool->nr_free--;
	syn_tier_of(mm, pool->tier)->used_bytes += pool->frame_bytes;
	return frame;
}

/* In an empty segment what is written next lies together again. */
static void extent_give(struct syn_mm *mm, struct syn_extent *ext,
			uint32_t frame)
{
	struct syn_pool *pool = ext->pool;

	if (ext->free == SYN_NONE && !ext->draining)
		syn_list_add_tail(&pool->with_free, &ext->in_free);
	ext->link[frame] = ext->free;
	ext->free = frame;
	if (ext->owner)
		ext->owner[frame] = SYN_NONE;
	if (!--ext->nr_used) {
		syn_tier_of(mm, pool->tier)->nr_empty++;
		if (pool->tier == SYN_TIER_NVME)
			syn_extent_relink(ext);
	}
	pool->nr_free += !ext->draining;
	syn_tier_of(mm, pool->tier)->used_bytes -= pool->frame_bytes;
	mm->progress = true;
	if (ext->draining && !ext->nr_used) {
		syn_extent_undrain(ext);
		syn_extent_retire(mm, ext);
	}
}

uint32_t syn_pool_slot_take(struct syn_mm *mm, struct syn_pool *pool,
			    uint32_t page)
{
	struct syn_extent *ext = syn_container_of(pool->with_free.next,
						  struct syn_extent, in_free);
	uint32_t frame = extent_take(mm, ext);

	ext->link[frame] = page;
	return syn_slot_code(pool, ext->ordinal * pool->extent_frames + frame);
}

void syn_pool_slot_give(struct syn_mm *mm, struct syn_pool *pool, uint32_t slot)
{
	uint32_t frame;
	struct syn_extent *ext = syn_pool_slot(pool, slot, &frame);

	extent_give(mm, ext, frame);
	if (!ext->nr_used &&
	    pool->nr_frames - ext->nr_frames >= pool->guaranteed)
		syn_extent_retire(mm, ext);
}

void syn_pool_slot_detach(const struct syn_pool *pool, uint32_t slot)
{
	uint32_t frame;
	struct syn_extent *ext = syn_pool_slot(pool, slot, &frame);

	ext->link[frame] = SYN_NONE;
}

void syn_pool_quarantined(struct syn_mm *mm, const struct syn_pool *pool,
			  uint32_t session, uint32_t slot, bool enter)
{
	if (enter) {
		mm->count.nr_quarantined++;
		mm->tier[0].quarantine_bytes += pool->frame_bytes;
		SYN_PROBE(quarantine_enter, session, slot, SYN_TIER_HBM);
	} else {
		mm->count.nr_quarantined--;
		mm->tier[0].quarantine_bytes -= pool->frame_bytes;
		SYN_PROBE(quarantine_leave, session, slot, SYN_TIER_HBM);
	}
}

static bool host_in_the_way(const struct syn_mm *mm,
			    const struct syn_pool *pool,
			    const struct syn_pool *other)
{
	if (other == pool || other->tier != SYN_TIER_HOST)
		return false;
	if (other->domain == pool->domain)
		return true;
	return !syn_domain_full(mm, pool->domain, SYN_TIER_HOST,
				pool->extent_bytes) &&
	       syn_domain_spare(mm, other->domain, SYN_TIER_HOST,
				other->extent_bytes);
}

/* Another host pool's empty extents stand in the way of @pool's. */
static void host_make_room(struct syn_mm *mm, const struct syn_pool *pool)
{
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++)
		if (mm->pool[i] && host_in_the_way(mm, pool, mm->pool[i]))
			syn_pool_trim(mm, mm->pool[i]);
}

uint32_t syn_pool_frame_take(struct syn_mm *mm, struct syn_pool *pool)
{
	struct syn_extent *ext;
	int r = 0;

	if (!pool->nr_free && pool->tier == SYN_TIER_NVME)
		return SYN_NONE;
	if (!pool->nr_free) {
		r = pool_grow(mm, pool);
		if (r == -EDQUOT && mm->tier[1].nr_empty) {
			host_make_room(mm, pool);
			r = pool_grow(mm, pool);
		}
	}
	if (r == -EDQUOT)
		pool_ask(mm, pool);
	if (r)
		return SYN_NONE;
	ext = syn_container_of(pool->with_free.next, struct syn_extent,
			       in_free);
	return SYN_FRAME(ext->mem.id, extent_take(mm, ext));
}

void syn_pool_frame_give(struct syn_mm *mm, uint32_t frame)
{
	struct syn_extent *ext = mm->extent[SYN_FRAME_EXTENT(frame)];

	extent_give(mm, ext, SYN_FRAME_INDEX(frame));
}

int syn_pool_nvme_take(struct syn_mm *mm, struct syn_pool *pool,
		       uint32_t domain, uint32_t *ret)
{
	int r = syn_domain_charge(mm, domain, SYN_TIER_NVME, pool->frame_bytes);

	if (r)
		return r;
	*ret = syn_pool_frame_take(mm, pool);
	if (*ret != SYN_NONE)
		return 0;
	syn_domain_uncharge(mm, domain, SYN_TIER_NVME, pool->frame_bytes);
	return -ENOSPC;
}

void syn_pool_nvme_give(struct syn_mm *mm, uint32_t domain, uint32_t slot)
{
	struct syn_extent *ext = mm->extent[SYN_FRAME_EXTENT(slot)];

	syn_domain_uncharge(mm, domain, SYN_TIER_NVME, ext->pool->frame_bytes);
	extent_give(mm, ext, SYN_FRAME_INDEX(slot));
}
