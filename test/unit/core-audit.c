/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that core derives, computed again from the records: frames free,
 * used and in quarantine, charges, lists, references, entries, the index.
 */
#include "test/unit/core-harness.h"

#include "core/index.h"
#include "core/lease.h"
#include "core/page.h"

/* Pages and bytes counted along the way. */
struct audit {
	const struct syn_mm *mm;
	uint64_t in_lru;
	uint64_t below[SYN_LISTS];
	uint64_t waits;
	uint64_t sealed;
	uint64_t pages;
	uint64_t lessees;
};

static void audit_lessees(struct audit *a, uint32_t page)
{
	const struct syn_mm *mm = a->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t prev = SYN_NONE;
	uint32_t live = 0;
	uint32_t i;

	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next) {
		const struct syn_rec_lessee *l = &mm->lessee[i];
		const struct syn_session *s = mm->session[l->session];

		assert_true(l->flags & SYN_LESSEE_USED);
		assert_int_equal(l->page, page);
		assert_int_equal(l->prev, prev);
		assert_non_null(s);
		prev = i;
		a->lessees++;
		if (l->flags & SYN_LESSEE_GONE)
			continue;
		live++;
		assert_int_equal(s->map[l->pte], i);
		assert_true(s->cfg.pte[l->pte] ==
			    syn_page_pte(pg, l->generation));
		assert_int_equal(s->window_of[pg->space], l->window);
	}
	assert_int_equal(live, pg->nr_lessees);
}

/* A page that is resident as it is stored is below, too: nobody copies it down. */
static void audit_plane(const struct syn_mm *mm, const struct syn_rec_page *pg)
{
	const struct syn_pool *pool = mm->pool[pg->pool];

	assert_int_equal(pool->space, pg->space);
	assert_int_equal(pool->domain, pg->domain);
	if (!syn_page_is(pg, SYN_PAGE_F_HBM))
		return;
	assert_int_equal(pool->plane, syn_slot_plane(pg->slot));
	if (pool->plane != SYN_PLANE_CODED)
		return;
	assert_true(mm->space[pg->space].flags & SYN_SPACE_F_CODED);
	assert_int_not_equal(pg->codec, SYN_CODEC_RAW16);
	assert_true(pg->state == SYN_PAGE_LOST ||
		    syn_page_is(pg, SYN_PAGE_F_HOST | SYN_PAGE_F_NVME));
}

static void audit_page(struct audit *a, uint32_t page)
{
	const struct syn_mm *mm = a->mm;
	const struct syn_rec_page *pg = &mm->page[page];

	a->pages++;
	a->in_lru += syn_page_is(pg, SYN_PAGE_F_LRU);
	a->below[pg->below & 15u]++;
	a->below[pg->below >> 4]++;
	a->waits += syn_page_is(pg, SYN_PAGE_F_WAITS);
	a->sealed += pg->state == SYN_PAGE_SEALED;
	assert_false(syn_page_is(pg, SYN_PAGE_F_HELD));
	assert_true(syn_page_is(pg, SYN_PAGE_F_HBM) ||
		    pg->charged == SYN_NONE16);
	assert_true(syn_page_is(pg, SYN_PAGE_F_HBM | SYN_PAGE_F_HOST |
					    SYN_PAGE_F_NVME) ||
		    pg->state == SYN_PAGE_LOST);
	audit_plane(mm, pg);
	assert_true(syn_page_is(pg, SYN_PAGE_F_HOST) == (pg->host != SYN_NONE));
	assert_true(syn_page_is(pg, SYN_PAGE_F_NVME) == (pg->nvme != SYN_NONE));
	assert_true(syn_page_is(pg, SYN_PAGE_F_NVME) ||
		    !syn_page_is(pg, SYN_PAGE_F_DURABLE));
	if (syn_page_is(pg, SYN_PAGE_F_KEYED))
		assert_int_equal(
			syn_index_find(mm, pg->domain, pg->space, pg->key),
			page);
	/* Alive for a reason. */
	assert_true(pg->nr_lessees || syn_page_is(pg, SYN_PAGE_F_KEYED) ||
		    (syn_page_is(pg, SYN_PAGE_F_DYING) &&
		     (pg->lessee != SYN_NONE ||
		      syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING |
					      SYN_PAGE_F_IO))));
	audit_lessees(a, page);
}

/* A used frame has an owner unless a move or a read still writes it. */
static void audit_owners(const struct audit *a, const struct syn_extent *ext)
{
	const struct syn_mm *mm = a->mm;
	uint32_t loose = 0;
	uint32_t f;

	for (f = 0; f < ext->nr_frames; f++) {
		uint32_t page = ext->owner[f];

		if (page == SYN_NONE)
			continue;
		assert_int_equal(mm->page[page].host,
				 SYN_FRAME(ext->mem.id, f));
		loose += syn_lists_loose(mm, page);
	}
	assert_int_equal(loose, ext->nr_loose);
}

static bool frame_in(const struct syn_mm *mm, uint32_t frame,
		     const struct syn_pool *pool)
{
	return frame != SYN_NONE &&
	       mm->extent[SYN_FRAME_EXTENT(frame)]->pool == pool;
}

/* Frames that pages have, and those on their way to or from one. */
static uint64_t count_below(const struct audit *a, const struct syn_pool *pool)
{
	const struct syn_mm *mm = a->mm;
	bool host = pool->tier == SYN_TIER_HOST;
	uint64_t nr = 0;
	uint32_t i;

	for (i = 0; i < mm->page_used; i++)
		nr += mm->page[i].state != SYN_PAGE_FREE &&
		      frame_in(mm, host ? mm->page[i].host : mm->page[i].nvme,
			       pool);
	for (i = 0; i < SYN_MOVES_MAX; i++)
		nr += mm->move[i].state != SYN_MOVE_FREE &&
		      frame_in(mm, mm->move[i].host, pool);
	for (i = 0; i < SYN_SWAPS_MAX; i++) {
		const struct syn_rec_swap *s = &mm->swap[i];

		nr += s->state == SYN_SWAP_READ && frame_in(mm, s->host, pool);
		nr += s->state == SYN_SWAP_WRITE && frame_in(mm, s->slot, pool);
	}
	return nr;
}

static uint64_t count_hbm(const struct audit *a, const struct syn_pool *pool,
			  uint64_t *ret_going)
{
	const struct syn_mm *mm = a->mm;
	uint64_t nr = 0;
	uint32_t i;

	*ret_going = 0;
	for (i = 0; i < mm->page_used; i++) {
		const struct syn_rec_page *pg = &mm->page[i];

		if (pg->state == SYN_PAGE_FREE || pg->pool != pool->index ||
		    !syn_page_is(pg, SYN_PAGE_F_HBM))
			continue;
		nr++;
		*ret_going +=
			syn_page_is(pg, SYN_PAGE_F_LEAVING | SYN_PAGE_F_DYING);
	}
	for (i = 0; i < mm->quarantine_used; i++) {
		const struct syn_rec_quarantine *q = &mm->quarantine[i];

		if (q->state != SYN_QUARANTINE_HELD ||
		    q->domain != pool->domain || q->space != pool->space ||
		    syn_slot_plane(q->slot) != pool->plane)
			continue;
		nr++;
		++*ret_going;
	}
	return nr;
}

/* Pages, wherever they are, and windows. */
static uint64_t count_users(const struct audit *a, const struct syn_pool *pool)
{
	const struct syn_mm *mm = a->mm;
	uint64_t nr = 0;
	uint32_t i;

	for (i = 0; i < mm->page_used; i++)
		nr += mm->page[i].state != SYN_PAGE_FREE &&
		      mm->page[i].pool == pool->index;
	for (i = 0; i < mm->cfg.max_sessions; i++) {
		struct syn_session *s = mm->session[i];

		nr += s && s->window_of[pool->space] != SYN_NO_WINDOW &&
		      syn_window_of(s, pool)->pool == pool;
	}
	return nr;
}

static void audit_pool(const struct audit *a, const struct syn_pool *pool)
{
	const struct syn_extent *ext;
	uint64_t going = 0;
	uint64_t used = 0;
	uint64_t free_frames = 0;
	uint64_t frames = 0;

	syn_list_for_each (ext, &pool->extents, in_pool) {
		uint32_t chain = 0;
		uint32_t f;

		assert_ptr_equal(a->mm->extent[ext->mem.id], ext);
		used += ext->nr_used;
		for (f = ext->free; f != SYN_NONE; f = ext->link[f])
			chain++;
		assert_int_equal(chain + ext->nr_used, ext->nr_frames);
		assert_false(ext->draining && !ext->nr_used);
		if (ext->retiring || ext->draining)
			continue;
		frames += ext->nr_frames;
		free_frames += chain;
	}
	assert_int_equal(frames, pool->nr_frames);
	assert_int_equal(free_frames, pool->nr_free);
	if (pool->tier == SYN_TIER_HOST) {
		syn_list_for_each (ext, &pool->extents, in_pool)
			audit_owners(a, ext);
		assert_int_equal(count_below(a, pool), used);
		return;
	}
	if (pool->tier == SYN_TIER_NVME) {
		/* Retired slots stay used. */
		assert_true(count_below(a, pool) <= used);
		return;
	}
	assert_int_equal(count_users(a, pool), pool->nr_users);
	assert_true(pool->nr_frames >= pool->guaranteed);
	assert_int_equal(count_hbm(a, pool, &going), used);
	assert_int_equal(going, pool->going);
}

static void audit_window(const struct audit *a, const struct syn_window *w)
{
	const struct syn_mm *mm = a->mm;
	uint32_t index = w->session->index;
	uint32_t charged = 0;
	uint32_t going = 0;
	uint32_t moves = 0;
	uint32_t i;

	for (i = 0; i < mm->page_used; i++) {
		const struct syn_rec_page *pg = &mm->page[i];

		if (pg->state == SYN_PAGE_FREE || pg->charged != index ||
		    pg->pool != w->pool->index)
			continue;
		charged++;
		going += syn_page_is(pg, SYN_PAGE_F_LEAVING | SYN_PAGE_F_DYING);
		moves += syn_page_is(pg, SYN_PAGE_F_MOVING);
	}
	for (i = 0; i < mm->quarantine_used; i++) {
		const struct syn_rec_quarantine *q = &mm->quarantine[i];
		bool mine = q->state == SYN_QUARANTINE_HELD &&
			    q->session == index && q->space == w->pool->space &&
			    syn_slot_plane(q->slot) == w->pool->plane;

		charged += mine;
		going += mine;
	}
	assert_int_equal(charged, w->charged);
	assert_int_equal(going, w->going);
	assert_int_equal(moves, w->moves);
	assert_true(w->charged <= w->slots);
}

static void audit_totals(const struct audit *a)
{
	const struct syn_mm *mm = a->mm;
	uint64_t lru = 0;
	uint64_t below[SYN_LISTS] = { 0 };
	uint64_t waits = 0;
	uint32_t i;
	uint32_t l;
	uint32_t w;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		if (!mm->pool[i])
			continue;
		audit_pool(a, mm->pool[i]);
		lru += mm->pool[i]->cached.nr;
		for (l = SYN_LIST_NONE + 1; l < SYN_LISTS; l++)
			below[l] += mm->pool[i]->list[l].nr;
	}
	for (i = 0; i < mm->cfg.max_sessions; i++) {
		const struct syn_session *s = mm->session[i];

		if (!s)
			continue;
		waits += s->nr_quarantined;
		for (w = 0; w < s->nr_windows * SYN_PLANES; w++) {
			const struct syn_window *share =
				&s->window[w / SYN_PLANES][w % SYN_PLANES];

			if (share->pool)
				audit_window(a, share);
			lru += share->lru.nr;
		}
	}
	assert_int_equal(lru, a->in_lru);
	for (l = SYN_LIST_NONE + 1; l < SYN_LISTS; l++)
		assert_int_equal(below[l], a->below[l]);
	assert_int_equal(waits + a->waits, mm->count.nr_quarantined);
}

static void audit_tiers(const struct syn_mm *mm)
{
	uint64_t bytes[SYN_QUOTA_TIERS] = { 0 };
	uint64_t used[SYN_QUOTA_TIERS] = { 0 };
	uint32_t empty[SYN_QUOTA_TIERS] = { 0 };
	uint32_t nr[SYN_QUOTA_TIERS] = { 0 };
	uint32_t i;

	for (i = 0; i < SYN_EXTENTS_MAX; i++) {
		const struct syn_extent *ext = mm->extent[i];
		uint32_t t;

		assert_int_equal(!!ext,
				 mm->rec_extent[i].state != SYN_EXTENT_FREE);
		if (!ext)
			continue;
		t = ext->pool->tier - SYN_TIER_HBM;
		nr[t]++;
		bytes[t] += ext->mem.bytes;
		used[t] += ext->nr_used * ext->pool->frame_bytes;
		empty[t] += !ext->nr_used && !ext->retiring;
	}
	for (i = 0; i < SYN_QUOTA_TIERS; i++) {
		assert_int_equal(bytes[i], mm->tier[i].extent_bytes);
		assert_int_equal(used[i], mm->tier[i].used_bytes);
		assert_int_equal(nr[i], mm->tier[i].nr_extents);
		assert_int_equal(empty[i], mm->tier[i].nr_empty);
		assert_true(bytes[i] <= mm->tier[i].budget_bytes);
	}
}

static void audit_domain(const struct syn_mm *mm, uint32_t domain)
{
	const struct syn_rec_domain *rec = &mm->rec_domain[domain];
	const struct syn_domain *d = &mm->domain[domain];
	uint64_t used[SYN_QUOTA_TIERS] = { 0 };
	uint32_t sessions = 0;
	uint32_t i;

	for (i = 0; i < SYN_EXTENTS_MAX; i++)
		if (mm->extent[i] && mm->extent[i]->pool->domain == domain)
			used[mm->rec_extent[i].tier - SYN_TIER_HBM] +=
				mm->extent[i]->mem.bytes;
	for (i = 0; i < mm->cfg.max_sessions; i++)
		sessions +=
			mm->session[i] && mm->session[i]->cfg.domain == domain;
	assert_int_equal(sessions, d->nr_sessions);
	for (i = 0; i < 2; i++) {
		assert_int_equal(used[i], d->used[i]);
		assert_true(used[i] <= rec->quota[i].max ||
			    used[i] <= rec->quota[i].min);
	}
	if (rec->state == SYN_DOMAIN_FREE)
		assert_true(!used[0] && !used[1] && !sessions);
}

/* What is taken and what is promised fits, as long as no quota changes. */
static void audit_domains(const struct syn_mm *mm)
{
	uint32_t t;
	uint32_t i;

	for (i = 0; i < SYN_DOMAINS_MAX; i++)
		audit_domain(mm, i);
	for (t = 0; t < 2; t++) {
		uint64_t sum = 0;

		for (i = 0; i < SYN_DOMAINS_MAX; i++)
			sum += mm->domain[i].used[t];
		assert_int_equal(sum, mm->tier[t].extent_bytes);
		assert_true(sum <= mm->tier[t].budget_bytes);
	}
}

void world_audit(const struct world *w)
{
	struct audit a = { .mm = w->mm };
	uint32_t i;

	for (i = 0; i < w->mm->page_used; i++)
		if (w->mm->page[i].state != SYN_PAGE_FREE)
			audit_page(&a, i);
	assert_int_equal(a.pages, w->mm->nr_pages);
	assert_int_equal(a.lessees, w->mm->nr_lessees);
	assert_int_equal(a.sealed, w->mm->count.nr_sealed);
	audit_totals(&a);
	audit_tiers(w->mm);
	audit_domains(w->mm);
}
