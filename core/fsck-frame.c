/* SPDX-License-Identifier: Apache-2.0 */
/* Fsck: free records, extents, pools, and what is counted over all of them. */
#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/fsck-internal.h"

/* ---- free records ------------------------------------------------------- */

static uint32_t page_next(const struct syn_mm *mm, uint32_t i)
{
	if (i == SYN_NONE)
		return mm->page_free;
	return mm->page[i].state == SYN_PAGE_FREE ? mm->page[i].lessee : i;
}

static uint32_t lessee_next(const struct syn_mm *mm, uint32_t i)
{
	if (i == SYN_NONE)
		return mm->lessee_free;
	return mm->lessee[i].flags & SYN_LESSEE_USED ? i : mm->lessee[i].next;
}

static uint32_t move_next(const struct syn_mm *mm, uint32_t i)
{
	if (i == SYN_NONE)
		return mm->move_free;
	return mm->move[i].state == SYN_MOVE_FREE ? mm->move_next[i] : i;
}

static uint32_t swap_next(const struct syn_mm *mm, uint32_t i)
{
	if (i == SYN_NONE)
		return mm->swap_free;
	return mm->swap[i].state == SYN_SWAP_FREE ? mm->swap_next[i] : i;
}

static uint32_t quarantine_next(const struct syn_mm *mm, uint32_t i)
{
	if (i == SYN_NONE)
		return mm->quarantine_free;
	return mm->quarantine[i].state == SYN_QUARANTINE_FREE
		       ? mm->quarantine_next[i]
		       : i;
}

/* @next: after a record, or the first; itself if it is not free. */
static const struct free_list {
	uint32_t object;
	uint32_t (*next)(const struct syn_mm *mm, uint32_t i);
} free_lists[] = {
	{ SYN_FSCK_PAGE, page_next },
	{ SYN_FSCK_LESSEE, lessee_next },
	{ SYN_FSCK_MOVE, move_next },
	{ SYN_FSCK_SWAP, swap_next },
	{ SYN_FSCK_QUARANTINE, quarantine_next },
};

static uint32_t free_max(const struct syn_mm *mm, uint32_t object)
{
	switch (object) {
	case SYN_FSCK_PAGE:
		return mm->page_used;
	case SYN_FSCK_LESSEE:
		return mm->lessee_used;
	case SYN_FSCK_MOVE:
		return SYN_MOVES_MAX;
	case SYN_FSCK_SWAP:
		return SYN_SWAPS_MAX;
	default:
		return mm->quarantine_used;
	}
}

/* The next of @list, as long as there are as many as are free. */
static bool free_step(struct syn_fsck *f, const struct free_list *list,
		      uint32_t *ret_next)
{
	*ret_next = list->next(f->mm, f->link);
	if (*ret_next >= free_max(f->mm, list->object) ||
	    *ret_next == f->link || f->nr_links > f->nr_free[list->object])
		return false;
	f->link = *ret_next;
	f->nr_links++;
	return true;
}

/*
 * As long as there are free records, and of those only: then each is on it
 * once.  A list that has changed since its records were counted says nothing.
 */
bool syn_fsck_free_lists(struct syn_fsck *f)
{
	const struct free_list *list = &free_lists[f->at];
	uint32_t next;

	if (f->changed || f->at >= syn_array_size(free_lists))
		return false;
	if (!f->chained) {
		f->link = SYN_NONE;
		f->nr_links = 0;
		f->chained = true;
	}
	while (free_step(f, list, &next)) {
		f->left -= SYN_FSCK_LOOK;
		if (f->left <= 0)
			return true;
	}
	syn_fsck_look(f, list->object, f->link);
	if (syn_fsck_same(f, SYN_FSCK_FREE, SYN_NONE, next))
		(void)syn_fsck_same(f, SYN_FSCK_FREE, f->nr_free[list->object],
				    f->nr_links);
	f->chained = false;
	f->at++;
	return true;
}

/* The first free run of that class; of one more, that are not cut. */
static uint32_t sums_first(const struct syn_mm *mm, uint32_t class)
{
	return class < SYN_SUM_CLASSES ? mm->sum_free[class] : mm->sum_chunk;
}

/* Runs that are free; with those of pages they are all that there are. */
bool syn_fsck_free_sums(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;
	uint32_t words = syn_min(16u << f->at, SYN_TILES_MAX);
	uint32_t run;

	if (f->changed || f->at > SYN_SUM_CLASSES)
		return false;
	if (!f->chained)
		f->link = sums_first(mm, f->at);
	run = f->link;
	if (run != SYN_NONE) {
		syn_fsck_look(f, SYN_FSCK_SUMS, run);
		/* One that is on it twice ends it. */
		f->link = syn_fsck_own_sums(f, run, words) ? mm->sums[run]
							   : SYN_NONE;
	}
	f->chained = f->link != SYN_NONE;
	f->at += !f->chained;
	f->left -= SYN_FSCK_LOOK;
	return true;
}

/* ---- extents ------------------------------------------------------------ */

static void extent_record(struct syn_fsck *f, const struct syn_extent *ext)
{
	const struct syn_rec_extent *rec = &f->mm->rec_extent[ext->mem.id];
	const struct syn_pool *pool = ext->pool;

	(void)syn_fsck_same(f, SYN_FSCK_REFERENCE, pool->domain, rec->domain);
	(void)syn_fsck_same(f, SYN_FSCK_REFERENCE, pool->space, rec->space);
	(void)syn_fsck_same(f, SYN_FSCK_PLACE, pool->tier, rec->tier);
	(void)syn_fsck_same(f, SYN_FSCK_PLACE, pool->plane, rec->plane);
	(void)syn_fsck_same(f, SYN_FSCK_PLACE, ext->ordinal, rec->ordinal);
	(void)syn_fsck_same(f, SYN_FSCK_NUMBER, ext->nr_frames, rec->nr_frames);
	(void)syn_fsck_same(f, SYN_FSCK_BYTES, pool->frame_bytes,
			    rec->frame_bytes);
	(void)syn_fsck_same(f, SYN_FSCK_BYTES, ext->mem.bytes, rec->bytes);
	if (pool->ordinal)
		(void)syn_fsck_same(f, SYN_FSCK_BACK, true,
				    pool->ordinal[ext->ordinal] == ext);
	if (pool->tier == SYN_TIER_NVME)
		(void)syn_fsck_same(f, SYN_FSCK_BACK, true,
				    f->mm->segment_used[ext->ordinal]);
}

/* All frames are free or have an owner, and none is both. */
static void extent_frames(struct syn_fsck *f, const struct syn_extent *ext)
{
	uint32_t owned = 0;
	uint32_t nr = 0;
	uint32_t i;

	for (i = ext->free; i < ext->nr_frames && nr <= ext->nr_frames;
	     i = ext->link[i], nr++)
		if (syn_fsck_owned(f, ext, i))
			(void)syn_fsck_counted(f, SYN_FSCK_TWICE, 1, 2);
	(void)syn_fsck_same(f, SYN_FSCK_FREE, SYN_NONE, i);
	(void)syn_fsck_same(f, SYN_FSCK_USED, ext->nr_frames - nr,
			    ext->nr_used);
	for (i = 0; i < ext->nr_frames; i++)
		owned += syn_fsck_owned(f, ext, i);
	if (ext->pool->tier == SYN_TIER_NVME)
		f->nr_retired += ext->nr_used - owned;
	else
		(void)syn_fsck_counted(f, SYN_FSCK_USED, owned, ext->nr_used);
	f->left -= SYN_FSCK_LOOK * (int64_t)ext->nr_frames;
}

static uint32_t extent_state(const struct syn_extent *ext)
{
	if (!ext->retiring)
		return SYN_EXTENT_LIVE;
	if (ext->lost)
		return SYN_EXTENT_LOST;
	return ext->pool->tier == SYN_TIER_NVME ? SYN_EXTENT_CUTTING
						: SYN_EXTENT_RETIRING;
}

static void extent_check(struct syn_fsck *f, const struct syn_extent *ext)
{
	const struct syn_rec_extent *rec = &f->mm->rec_extent[f->what.index];
	uint32_t loose = f->extent[ext->mem.id].loose;

	(void)syn_fsck_same(f, SYN_FSCK_STATE, extent_state(ext), rec->state);
	(void)syn_fsck_same(f, SYN_FSCK_STATE, false,
			    ext->draining && !ext->nr_used);
	extent_record(f, ext);
	extent_frames(f, ext);
	(void)syn_fsck_counted(f, SYN_FSCK_LIST, loose, ext->nr_loose);
	(void)syn_fsck_same(f, SYN_FSCK_MAPPED,
			    syn_extent_mapped(f->mm, ext->mem.id),
			    ext->nr_told);
	f->left -= SYN_FSCK_RECORD +
		   SYN_FSCK_LOOK * (int64_t)f->mm->cfg.max_sessions;
}

bool syn_fsck_extents(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;
	uint32_t i = (uint32_t)f->at;

	if (f->at >= SYN_EXTENTS_MAX)
		return false;
	syn_fsck_look(f, SYN_FSCK_EXTENT, f->at++);
	f->left -= SYN_FSCK_LOOK;
	if (mm->extent[i])
		extent_check(f, mm->extent[i]);
	else
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_EXTENT_FREE,
				    mm->rec_extent[i].state);
	return true;
}

/* ---- pools -------------------------------------------------------------- */

static void pool_extents(struct syn_fsck *f, const struct syn_pool *pool)
{
	const struct syn_extent *ext;
	uint64_t frames = 0;
	uint64_t nr_free = 0;
	uint64_t nr = 0;

	syn_list_for_each (ext, &pool->extents, in_pool) {
		nr++;
		f->left -= SYN_FSCK_RECORD;
		if (ext->retiring || ext->draining)
			continue;
		frames += ext->nr_frames;
		nr_free += ext->nr_frames - ext->nr_used;
	}
	(void)syn_fsck_same(f, SYN_FSCK_EXTENTS, nr, pool->nr_extents);
	(void)syn_fsck_same(f, SYN_FSCK_NUMBER, frames, pool->nr_frames);
	(void)syn_fsck_same(f, SYN_FSCK_FREE, nr_free, pool->nr_free);
}

static void pool_counts(struct syn_fsck *f, const struct syn_pool *pool)
{
	const struct syn_fsck_pool *count = &f->pool[pool->index];
	uint32_t i;

	(void)syn_fsck_counted(f, SYN_FSCK_GOING, count->going, pool->going);
	(void)syn_fsck_counted(f, SYN_FSCK_REQUEST, count->moves, pool->moves);
	(void)syn_fsck_counted(f, SYN_FSCK_REQUEST, count->cutting,
			       pool->cutting);
	(void)syn_fsck_counted(f, SYN_FSCK_LIST, count->cached,
			       pool->cached.nr);
	for (i = SYN_LIST_NONE + 1; i < SYN_LISTS; i++) {
		syn_fsck_part(f, i);
		(void)syn_fsck_counted(f, SYN_FSCK_LIST, count->list[i],
				       pool->list[i].nr);
	}
	syn_fsck_part(f, 0);
	if (pool->tier != SYN_TIER_HBM)
		return;
	(void)syn_fsck_counted(f, SYN_FSCK_USERS, count->users, pool->nr_users);
	(void)syn_fsck_counted(f, SYN_FSCK_SLOTS, count->slots,
			       pool->guaranteed);
	(void)syn_fsck_same(f, SYN_FSCK_SLOTS, true,
			    pool->nr_frames >= pool->guaranteed || pool->lacks);
}

/* What is below an HBM pool has it for a user. */
static void pool_below(struct syn_fsck *f, const struct syn_pool *pool)
{
	uint32_t t;
	uint32_t c;

	for (t = 0; t < 2; t++)
		for (c = 0; c < SYN_CODEC_NR; c++)
			if (pool->below[t][c])
				f->pool[pool->below[t][c]->index].users++;
}

bool syn_fsck_pools(struct syn_fsck *f)
{
	const struct syn_pool *pool;

	if (f->at >= SYN_POOLS_MAX)
		return false;
	pool = f->mm->pool[f->at];
	syn_fsck_look(f, SYN_FSCK_POOL, f->at++);
	f->left -= SYN_FSCK_LOOK;
	if (!pool)
		return true;
	f->left -= SYN_FSCK_RECORD;
	(void)syn_fsck_same(f, SYN_FSCK_REFERENCE, f->what.index, pool->index);
	pool_extents(f, pool);
	pool_counts(f, pool);
	pool_below(f, pool);
	return true;
}

/* ---- over all ----------------------------------------------------------- */

static void total_pools(struct syn_fsck *f)
{
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		const struct syn_pool *pool = f->mm->pool[i];

		if (!pool || pool->tier == SYN_TIER_HBM)
			continue;
		syn_fsck_look(f, SYN_FSCK_POOL, i);
		(void)syn_fsck_counted(f, SYN_FSCK_USERS, f->pool[i].users,
				       pool->nr_users);
	}
}

/* What extents of one tier are, and whose. */
struct tier_count {
	uint64_t bytes;
	uint64_t used_bytes;
	uint32_t nr_extents;
	uint32_t nr_empty;
	uint64_t domain_bytes[SYN_DOMAINS_MAX];
};

static void tier_count(const struct syn_mm *mm, uint32_t tier,
		       struct tier_count *ret)
{
	uint32_t i;

	*ret = (struct tier_count){ 0 };
	for (i = 0; i < SYN_EXTENTS_MAX; i++) {
		const struct syn_extent *ext = mm->extent[i];

		if (!ext || ext->pool->tier != tier)
			continue;
		ret->bytes += ext->mem.bytes;
		ret->used_bytes += ext->nr_used * ext->pool->frame_bytes;
		ret->nr_extents++;
		ret->nr_empty += !ext->nr_used && !ext->retiring;
		if (ext->pool->domain < SYN_DOMAINS_MAX)
			ret->domain_bytes[ext->pool->domain] += ext->mem.bytes;
	}
}

static void total_tier(struct syn_fsck *f, uint32_t tier)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_tier_state *t = &mm->tier[tier - SYN_TIER_HBM];
	bool nvme = tier == SYN_TIER_NVME;
	struct tier_count count;
	uint32_t i;

	tier_count(mm, tier, &count);
	syn_fsck_look(f, SYN_FSCK_TIER, tier);
	(void)syn_fsck_same(f, SYN_FSCK_EXTENTS, count.nr_extents,
			    t->nr_extents);
	(void)syn_fsck_same(f, SYN_FSCK_FREE, count.nr_empty, t->nr_empty);
	(void)syn_fsck_same(f, SYN_FSCK_BYTES, count.bytes, t->extent_bytes);
	(void)syn_fsck_same(f, SYN_FSCK_USED, count.used_bytes, t->used_bytes);
	(void)syn_fsck_same(f, SYN_FSCK_BYTES, true,
			    t->extent_bytes <= t->budget_bytes);
	for (i = 0; i < SYN_DOMAINS_MAX; i++) {
		uint64_t used = mm->domain[i].used[tier - SYN_TIER_HBM];

		syn_fsck_look(f, SYN_FSCK_DOMAIN, i);
		syn_fsck_part(f, tier);
		if (nvme)
			(void)syn_fsck_counted(f, SYN_FSCK_BYTES,
					       f->nvme_used[i], used);
		else
			(void)syn_fsck_same(f, SYN_FSCK_BYTES,
					    count.domain_bytes[i], used);
	}
}

static void total_domains(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;
	uint32_t i;

	for (i = 0; i < SYN_DOMAINS_MAX; i++) {
		const struct syn_domain *d = &mm->domain[i];

		syn_fsck_look(f, SYN_FSCK_DOMAIN, i);
		(void)syn_fsck_counted(f, SYN_FSCK_USERS, f->nr_members[i],
				       d->nr_sessions);
		if (!syn_domain_exists(mm, i))
			(void)syn_fsck_same(f, SYN_FSCK_STATE, 0,
					    d->nr_sessions + d->used[0] +
						    d->used[1] + d->used[2]);
	}
}

static void total_moves(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;
	uint32_t drains = 0;
	uint32_t swaps = 0;
	uint32_t i;

	for (i = 0; i < SYN_MOVES_MAX; i++)
		drains += mm->move[i].state == SYN_MOVE_DRAIN;
	for (i = 0; i < SYN_SWAPS_MAX; i++)
		swaps += mm->swap[i].state != SYN_SWAP_FREE;
	syn_fsck_part(f, SYN_FSCK_MOVE);
	(void)syn_fsck_same(f, SYN_FSCK_NUMBER, drains, mm->nr_draining_moves);
	syn_fsck_part(f, SYN_FSCK_SWAP);
	(void)syn_fsck_same(f, SYN_FSCK_NUMBER, swaps, mm->nr_swaps);
}

static void total_records(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;

	syn_fsck_part(f, SYN_FSCK_PAGE);
	(void)syn_fsck_counted(f, SYN_FSCK_NUMBER, f->nr_pages, mm->nr_pages);
	(void)syn_fsck_counted(f, SYN_FSCK_STATE, f->nr_sealed,
			       mm->count.nr_sealed);
	syn_fsck_part(f, SYN_FSCK_BUCKET);
	(void)syn_fsck_counted(f, SYN_FSCK_NUMBER, f->nr_keyed, f->nr_indexed);
	syn_fsck_part(f, SYN_FSCK_LESSEE);
	(void)syn_fsck_counted(f, SYN_FSCK_NUMBER, f->nr_lessees,
			       mm->nr_lessees);
	(void)syn_fsck_counted(f, SYN_FSCK_LINK, f->nr_lessees, f->nr_reached);
	syn_fsck_part(f, SYN_FSCK_SESSION);
	(void)syn_fsck_counted(f, SYN_FSCK_NUMBER, f->nr_sessions,
			       mm->nr_sessions);
	syn_fsck_part(f, SYN_FSCK_QUARANTINE);
	(void)syn_fsck_counted(f, SYN_FSCK_WAITING, f->nr_waiting,
			       mm->count.nr_quarantined);
	(void)syn_fsck_counted(f, SYN_FSCK_BYTES, f->waiting_bytes,
			       mm->tier[0].quarantine_bytes);
	syn_fsck_part(f, SYN_FSCK_EXTENT);
	(void)syn_fsck_counted(f, SYN_FSCK_USED, mm->count.swap_retired,
			       f->nr_retired);
}

/* Every word up to there is a page's or free: the first that is neither. */
static void total_sums(struct syn_fsck *f)
{
	uint32_t units = f->mm->sum_used / 16;
	uint32_t i = 0;

	if (f->changed)
		return;
	while (i < units && f->runs[i / 64] == UINT64_MAX)
		i += 64;
	while (i < units && syn_bit_test(f->runs, i))
		i++;
	syn_fsck_look(f, SYN_FSCK_SUMS, i * 16);
	(void)syn_fsck_same(f, SYN_FSCK_USERS, units, syn_min(i, units));
}

bool syn_fsck_totals(struct syn_fsck *f)
{
	uint32_t tier;

	if (f->at++)
		return false;
	total_pools(f);
	for (tier = SYN_TIER_HBM; tier <= SYN_QUOTA_TIERS; tier++)
		total_tier(f, tier);
	total_domains(f);
	total_sums(f);
	syn_fsck_look(f, SYN_FSCK_MANAGER, 0);
	total_moves(f);
	total_records(f);
	return true;
}
