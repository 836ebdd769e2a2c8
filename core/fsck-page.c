/* SPDX-License-Identifier: Apache-2.0 */
/* Fsck: pages, their lessees, and the index of keys. */
#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/depart.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/fsck-internal.h"
#include "core/index.h"
#include "core/kept.h"
#include "core/page.h"
#include "core/pool.h"

/* ---- what it refers to -------------------------------------------------- */

static bool page_pool(const struct syn_mm *mm, const struct syn_rec_page *pg)
{
	const struct syn_pool *pool =
		pg->pool < SYN_POOLS_MAX ? mm->pool[pg->pool] : NULL;

	return pool && pool->tier == SYN_TIER_HBM && pool->space == pg->space &&
	       pool->domain == pg->domain;
}

static bool page_charged(const struct syn_mm *mm, const struct syn_rec_page *pg)
{
	const struct syn_session *s;
	const struct syn_window *w = NULL;

	if (pg->charged == SYN_NONE16)
		return true;
	s = syn_fsck_session_at(mm, pg->charged);
	if (s)
		w = syn_fsck_window_of(s, mm->pool[pg->pool]);
	return w && w->pool == mm->pool[pg->pool];
}

/* All that is followed later on is there. */
static bool page_refers(struct syn_fsck *f, const struct syn_rec_page *pg)
{
	const struct syn_mm *mm = f->mm;

	if (pg->space >= mm->nr_spaces)
		return syn_fsck_missing(f, pg->space);
	if (pg->domain >= SYN_DOMAINS_MAX || !syn_domain_exists(mm, pg->domain))
		return syn_fsck_missing(f, pg->domain);
	if (pg->codec < SYN_CODEC_RAW16 || pg->codec >= SYN_CODEC_NR)
		return syn_fsck_missing(f, pg->codec);
	if (!page_pool(mm, pg))
		return syn_fsck_missing(f, pg->pool);
	return page_charged(mm, pg) || syn_fsck_missing(f, pg->charged);
}

/* ---- where it is -------------------------------------------------------- */

/* A page that is resident as it is stored is below, too: nobody copies it down. */
static void page_coded(struct syn_fsck *f, const struct syn_rec_page *pg)
{
	bool below = pg->state == SYN_PAGE_LOST ||
		     (pg->codec != SYN_CODEC_RAW16 &&
		      syn_page_is(pg, SYN_PAGE_F_HOST | SYN_PAGE_F_NVME));

	(void)syn_fsck_same(f, SYN_FSCK_FLAGS, true,
			    below && f->mm->space[pg->space].flags &
					     SYN_SPACE_F_CODED);
}

static bool page_hbm(struct syn_fsck *f, uint32_t page)
{
	const struct syn_rec_page *pg = &f->mm->page[page];
	const struct syn_pool *pool = f->mm->pool[pg->pool];
	struct syn_extent *ext;
	uint32_t frame;

	syn_fsck_part(f, SYN_TIER_HBM);
	if (!syn_page_is(pg, SYN_PAGE_F_HBM))
		return syn_fsck_same(f, SYN_FSCK_PLACE, SYN_NONE, pg->slot) &&
		       syn_fsck_same(f, SYN_FSCK_CHARGED, SYN_NONE16,
				     pg->charged) &&
		       syn_fsck_same(f, SYN_FSCK_FLAGS, 0,
				     pg->flags & (SYN_PAGE_F_LEAVING |
						  SYN_PAGE_F_FILLING));
	ext = syn_fsck_slot(pool, pg->slot, &frame);
	if (!ext)
		return syn_fsck_same(f, SYN_FSCK_PLACE, ~pg->slot, pg->slot);
	if (!syn_fsck_same(f, SYN_FSCK_BACK, page, ext->link[frame]))
		return false;
	syn_fsck_own(f, ext, frame);
	if (pool->plane == SYN_PLANE_CODED)
		page_coded(f, pg);
	return true;
}

static bool page_below(struct syn_fsck *f, uint32_t page, uint32_t tier)
{
	const struct syn_rec_page *pg = &f->mm->page[page];
	bool host = tier == SYN_TIER_HOST;
	uint32_t frame = host ? pg->host : pg->nvme;
	const struct syn_pool *pool =
		syn_pool_below(f->mm->pool[pg->pool], tier, pg->codec);
	const struct syn_extent *ext;

	syn_fsck_part(f, tier);
	if (!syn_page_is(pg, host ? SYN_PAGE_F_HOST : SYN_PAGE_F_NVME))
		return syn_fsck_same(f, SYN_FSCK_PLACE, SYN_NONE, frame);
	ext = syn_extent_of(f->mm, frame);
	if (!ext || ext->pool != pool)
		return syn_fsck_same(f, SYN_FSCK_PLACE, ~frame, frame);
	if (host && !syn_fsck_same(f, SYN_FSCK_BACK, page,
				   ext->owner[SYN_FRAME_INDEX(frame)]))
		return false;
	if (!host)
		f->nvme_used[pg->domain] += pool->frame_bytes;
	syn_fsck_own(f, ext, SYN_FRAME_INDEX(frame));
	return true;
}

static void page_count_list(struct syn_fsck *f, uint32_t page, uint32_t tier)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_window *w = syn_page_window(mm, page);
	uint32_t frame = tier == SYN_TIER_HOST ? pg->host : pg->nvme;
	const struct syn_pool *pool;

	if (tier == SYN_TIER_HBM) {
		if (w)
			syn_fsck_count_of(f, w)->lru++;
		else
			f->pool[pg->pool].cached++;
		return;
	}
	pool = mm->extent[SYN_FRAME_EXTENT(frame)]->pool;
	f->pool[pool->index].list[syn_lists_on(pg, tier)]++;
	if (tier == SYN_TIER_HOST)
		f->extent[SYN_FRAME_EXTENT(frame)].loose +=
			syn_lists_loose(mm, page);
}

/* It is where it says, and on the list that follows from that. */
static void page_lists(struct syn_fsck *f, uint32_t page, uint32_t tier)
{
	const struct syn_rec_page *pg = &f->mm->page[page];
	uint32_t on = syn_lists_on(pg, tier);

	if (!syn_fsck_same(f, SYN_FSCK_LIST, syn_lists_wanted(pg, tier), on) ||
	    !on)
		return;
	(void)syn_fsck_same(f, SYN_FSCK_LINK, true,
			    syn_lists_linked(f->mm, page, tier));
	page_count_list(f, page, tier);
}

static void page_places(struct syn_fsck *f, uint32_t page)
{
	const struct syn_rec_page *pg = &f->mm->page[page];
	uint32_t tiers = pg->flags &
			 (SYN_PAGE_F_HBM | SYN_PAGE_F_HOST | SYN_PAGE_F_NVME);
	uint32_t tier;

	for (tier = SYN_TIER_HBM; tier <= SYN_QUOTA_TIERS; tier++) {
		bool there = tier == SYN_TIER_HBM ? page_hbm(f, page)
						  : page_below(f, page, tier);

		if (there)
			page_lists(f, page, tier);
	}
	syn_fsck_part(f, 0);
	if (pg->state != SYN_PAGE_LOST)
		(void)syn_fsck_same(f, SYN_FSCK_PLACE, true, tiers != 0);
	if (!(tiers & ~SYN_PAGE_F_HBM) || pg->state == SYN_PAGE_LOST)
		return;
	(void)syn_fsck_same(f, SYN_FSCK_FLAGS, SYN_PAGE_F_SUMS,
			    pg->flags & SYN_PAGE_F_SUMS);
}

/* ---- who has it --------------------------------------------------------- */

/* As many lessees as they are: it costs that to move the page, too. */
static void page_lessees(struct syn_fsck *f, uint32_t page)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t prev = SYN_NONE;
	uint32_t live = 0;
	uint32_t i;

	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next) {
		const struct syn_rec_lessee *l = &mm->lessee[i];

		if (i >= mm->lessee_used || !(l->flags & SYN_LESSEE_USED)) {
			(void)syn_fsck_missing(f, i);
			return;
		}
		/* What comes from elsewhere ends a ring, too. */
		if (!syn_fsck_same(f, SYN_FSCK_BACK, page, l->page) ||
		    !syn_fsck_same(f, SYN_FSCK_LINK, prev, l->prev))
			return;
		live += !(l->flags & SYN_LESSEE_GONE);
		f->nr_reached++;
		f->left -= SYN_FSCK_RECORD;
		prev = i;
	}
	(void)syn_fsck_same(f, SYN_FSCK_LEASES, live, pg->nr_lessees);
}

/* Moves and requests of it. */
static void page_requests(struct syn_fsck *f, uint32_t page)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	bool moving = syn_page_is(pg, SYN_PAGE_F_MOVING);
	bool io = syn_page_is(pg, SYN_PAGE_F_IO);
	uint32_t moves = 0;
	uint32_t swaps = 0;
	uint32_t i;

	for (i = 0; moving && i < SYN_MOVES_MAX; i++)
		moves += mm->move[i].state != SYN_MOVE_FREE &&
			 mm->move[i].page == page;
	for (i = 0; io && i < SYN_SWAPS_MAX; i++)
		swaps += mm->swap[i].state != SYN_SWAP_FREE &&
			 mm->swap[i].page == page;
	(void)syn_fsck_same(f, SYN_FSCK_REQUEST, moving, moves);
	(void)syn_fsck_same(f, SYN_FSCK_REQUEST, io, swaps);
}

/* A slot that is filled stays on its borrower's account. */
static void page_loan(struct syn_fsck *f, uint32_t page)
{
	const struct syn_rec_page *pg = &f->mm->page[page];
	const struct syn_session *s = syn_fsck_session_at(f->mm, pg->charged);
	uint32_t loans = 0;
	uint32_t i;

	if (!syn_page_is(pg, SYN_PAGE_F_FILLING))
		return;
	for (i = 0; s && i < SYN_LOANS_MAX; i++)
		loans += s->loans_out >> i & 1 && s->loan_page[i] == page;
	(void)syn_fsck_same(f, SYN_FSCK_REQUEST, 1, loans);
}

/* Alive for a reason. */
static void page_alive(struct syn_fsck *f, const struct syn_rec_page *pg)
{
	bool dies = syn_page_is(pg, SYN_PAGE_F_DYING) &&
		    (pg->lessee != SYN_NONE ||
		     syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING |
					     SYN_PAGE_F_IO));

	(void)syn_fsck_same(f, SYN_FSCK_USERS, true,
			    pg->nr_lessees ||
				    syn_page_is(pg, SYN_PAGE_F_KEYED) || dies);
}

/* ---- its key, its sums -------------------------------------------------- */

/* A chain that a page is on twice has no end. */
static bool key_found(const struct syn_fsck *f, uint32_t page, uint32_t bucket)
{
	const struct syn_mm *mm = f->mm;
	uint32_t i = mm->bucket[bucket];
	uint32_t n;

	for (n = 0; i != page && i < mm->page_used && n < mm->page_used; n++)
		i = mm->links[i].hash_next;
	return i == page;
}

static uint32_t key_bucket(const struct syn_mm *mm,
			   const struct syn_rec_page *pg)
{
	return syn_index_bucket(mm, pg->domain, pg->space, pg->key);
}

static void page_key(struct syn_fsck *f, uint32_t page)
{
	const struct syn_rec_page *pg = &f->mm->page[page];
	const struct syn_session *s =
		syn_fsck_session_at(f->mm, pg->ready_session);
	bool keyed = syn_page_is(pg, SYN_PAGE_F_KEYED);

	(void)syn_fsck_same(f, SYN_FSCK_KEY, keyed, pg->key[0] || pg->key[1]);
	if (!keyed)
		return;
	f->nr_keyed++;
	if (pg->state != SYN_PAGE_LOST)
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_PAGE_SEALED,
				    pg->state);
	if (!key_found(f, page, key_bucket(f->mm, pg)))
		(void)syn_fsck_same(f, SYN_FSCK_KEY, page, SYN_NONE);
	if (!syn_page_is(pg, SYN_PAGE_F_READY) &&
	    (!s || pg->ready_timeline >= s->cfg.nr_timelines))
		(void)syn_fsck_missing(f, pg->ready_session);
}

static void page_sums(struct syn_fsck *f, const struct syn_rec_page *pg)
{
	uint32_t nr_tiles = f->mm->space[pg->space].nr_tiles;

	if (nr_tiles > SYN_SUMS_INLINE)
		(void)syn_fsck_own_sums(f, pg->sum_run,
					syn_kept_sums_words(nr_tiles));
}

static void bucket_check(struct syn_fsck *f, uint32_t bucket)
{
	const struct syn_mm *mm = f->mm;
	uint32_t n = 0;
	uint32_t i;

	syn_fsck_look(f, SYN_FSCK_BUCKET, bucket);
	for (i = mm->bucket[bucket]; i != SYN_NONE;
	     i = mm->links[i].hash_next) {
		if (i >= mm->page_used || n++ >= mm->page_used ||
		    !syn_page_is(&mm->page[i], SYN_PAGE_F_KEYED)) {
			(void)syn_fsck_missing(f, i);
			return;
		}
		(void)syn_fsck_same(f, SYN_FSCK_KEY, bucket,
				    key_bucket(mm, &mm->page[i]));
		f->nr_indexed++;
		f->left -= SYN_FSCK_RECORD;
	}
}

bool syn_fsck_buckets(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;

	for (; f->at <= mm->bucket_mask && f->left > 0; f->left--, f->at++)
		if (mm->bucket[f->at] != SYN_NONE)
			bucket_check(f, (uint32_t)f->at);
	return f->at <= mm->bucket_mask;
}

/* ---- pages -------------------------------------------------------------- */

/* What the counts of its pool, and of its window, are made of. */
static void page_count(struct syn_fsck *f, uint32_t page)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_window *w = syn_page_window(mm, page);
	struct syn_fsck_pool *pool = &f->pool[pg->pool];
	bool moving = syn_page_is(pg, SYN_PAGE_F_MOVING);
	bool going = syn_page_is(pg, SYN_PAGE_F_HBM) &&
		     syn_page_is(pg, SYN_PAGE_F_LEAVING | SYN_PAGE_F_DYING);

	f->nr_pages++;
	f->nr_sealed += pg->state == SYN_PAGE_SEALED;
	if (syn_page_is(pg, SYN_PAGE_F_WAITS)) {
		f->nr_waiting++;
		f->waiting_bytes += mm->pool[pg->pool]->frame_bytes;
	}
	pool->users++;
	pool->going += going;
	if (w) {
		struct syn_fsck_window *count = syn_fsck_count_of(f, w);

		count->charged++;
		count->going += going;
		count->moves += moving;
	} else {
		pool->moves += moving;
	}
}

static void page_check(struct syn_fsck *f, uint32_t page)
{
	const struct syn_rec_page *pg = &f->mm->page[page];

	syn_fsck_look(f, SYN_FSCK_PAGE, page);
	if (pg->state > SYN_PAGE_LOST) {
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_PAGE_FREE,
				    pg->state);
		return;
	}
	(void)syn_fsck_same(f, SYN_FSCK_FLAGS, 0, pg->flags & SYN_PAGE_F_HELD);
	if (!syn_page_is(pg, SYN_PAGE_F_NVME))
		(void)syn_fsck_same(f, SYN_FSCK_FLAGS, 0,
				    pg->flags & SYN_PAGE_F_DURABLE);
	if (!page_refers(f, pg))
		return;
	page_places(f, page);
	page_lessees(f, page);
	page_requests(f, page);
	page_loan(f, page);
	page_alive(f, pg);
	page_key(f, page);
	page_sums(f, pg);
	page_count(f, page);
}

bool syn_fsck_pages(struct syn_fsck *f)
{
	uint32_t page = (uint32_t)f->at;

	if (f->at >= f->mm->page_used)
		return false;
	f->at++;
	f->left -= SYN_FSCK_RECORD;
	if (f->mm->page[page].state == SYN_PAGE_FREE)
		f->nr_free[SYN_FSCK_PAGE]++;
	else
		page_check(f, page);
	return true;
}

/*
 * A record's generation only grows: it is not less than when pages left that it
 * once was of.
 */
bool syn_fsck_departures(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;
	uint64_t nr = syn_min(mm->nr_departures, (uint64_t)SYN_DEPARTURES);

	for (; f->at < nr && f->left > 0; f->at++) {
		const struct syn_departure *d = &mm->departure[f->at];
		uint32_t since = mm->page[d->page].generation - d->generation;

		syn_fsck_look(f, SYN_FSCK_PAGE, d->page);
		if (since > INT32_MAX)
			(void)syn_fsck_same(f, SYN_FSCK_GENERATION,
					    d->generation,
					    mm->page[d->page].generation);
		f->left -= SYN_FSCK_GLANCE;
	}
	return f->at < nr;
}

/* ---- lessees ------------------------------------------------------------ */

/* The page, or a lessee that stands before it there, refers to it. */
static bool lessee_linked(const struct syn_mm *mm, uint32_t lessee)
{
	const struct syn_rec_lessee *l = &mm->lessee[lessee];

	if (l->next != SYN_NONE &&
	    (l->next >= mm->lessee_used || mm->lessee[l->next].prev != lessee))
		return false;
	if (l->prev == SYN_NONE)
		return mm->page[l->page].lessee == lessee;
	return l->prev < mm->lessee_used && mm->lessee[l->prev].next == lessee;
}

/* Those that wait until their session has drained are linked by @pte. */
static void lessee_gone(struct syn_fsck *f, uint32_t lessee)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_lessee *l = &mm->lessee[lessee];
	const struct syn_session *s = mm->session[l->session];
	const struct syn_rec_lessee *next = &mm->lessee[l->pte];

	f->session[l->session].gone++;
	if (l->pte == SYN_NONE)
		(void)syn_fsck_same(f, SYN_FSCK_LINK, lessee, s->gone_last);
	else if (l->pte >= mm->lessee_used || next->session != l->session ||
		 !(next->flags & SYN_LESSEE_GONE))
		(void)syn_fsck_missing(f, l->pte);
}

static void lessee_live(struct syn_fsck *f, uint32_t lessee)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_lessee *l = &mm->lessee[lessee];
	const struct syn_session *s = mm->session[l->session];
	const struct syn_rec_page *pg = &mm->page[l->page];

	f->session[l->session].leases++;
	if (l->pte >= s->map_used) {
		(void)syn_fsck_missing(f, l->pte);
		return;
	}
	(void)syn_fsck_same(f, SYN_FSCK_BACK, lessee, s->map[l->pte]);
	(void)syn_fsck_same(f, SYN_FSCK_GENERATION, l->generation,
			    SYN_PTE_GENERATION(s->cfg.pte[l->pte]));
	(void)syn_fsck_same(f, SYN_FSCK_ENTRY, syn_page_pte(pg, l->generation),
			    s->cfg.pte[l->pte]);
	if (l->flags & SYN_LESSEE_WRITE)
		(void)syn_fsck_same(f, SYN_FSCK_STATE, true,
				    pg->state != SYN_PAGE_SEALED);
}

static void lessee_check(struct syn_fsck *f, uint32_t lessee)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_rec_lessee *l = &mm->lessee[lessee];
	const struct syn_session *s = syn_fsck_session_at(mm, l->session);

	syn_fsck_look(f, SYN_FSCK_LESSEE, lessee);
	f->nr_lessees++;
	if (l->page >= mm->page_used ||
	    mm->page[l->page].state == SYN_PAGE_FREE) {
		(void)syn_fsck_missing(f, l->page);
		return;
	}
	if (!s || l->window >= s->nr_windows) {
		(void)syn_fsck_missing(f, l->session);
		return;
	}
	(void)syn_fsck_same(f, SYN_FSCK_FLAGS, 0, l->flags & SYN_LESSEE_BATCH);
	(void)syn_fsck_same(f, SYN_FSCK_LINK, true, lessee_linked(mm, lessee));
	if (l->flags & SYN_LESSEE_GONE)
		lessee_gone(f, lessee);
	else
		lessee_live(f, lessee);
}

bool syn_fsck_lessees(struct syn_fsck *f)
{
	uint32_t lessee = (uint32_t)f->at;

	if (f->at >= f->mm->lessee_used)
		return false;
	f->at++;
	f->left -= SYN_FSCK_RECORD;
	if (f->mm->lessee[lessee].flags & SYN_LESSEE_USED)
		lessee_check(f, lessee);
	else
		f->nr_free[SYN_FSCK_LESSEE]++;
	return true;
}
