/* SPDX-License-Identifier: Apache-2.0 */
/* Pages: where one is, whose account its slot is on, which lists it is in. */
#include "core/page.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/trace.h"
#include "core/index.h"
#include "core/kept.h"
#include "core/pool.h"

#define PAGE_FIDELITY_RAW16 16
#define PAGE_CHARGE_LOOK    16 /* lessees asked to take a charge over */

/* ---- lists -------------------------------------------------------------- */

/* The links of one kind: of pages, or in the extents of the host tier. */
struct page_link {
	uint32_t *prev;
	uint32_t *next;
};

static struct page_link lru_link(const struct syn_mm *mm, uint32_t page)
{
	struct syn_page_links *links = &mm->links[page];

	return (struct page_link){ &links->prev, &links->next };
}

static struct page_link host_link(const struct syn_mm *mm, uint32_t page)
{
	uint32_t code = mm->page[page].host;
	struct syn_extent *ext = mm->extent[SYN_FRAME_EXTENT(code)];
	uint32_t i = SYN_FRAME_INDEX(code);

	return (struct page_link){ &ext->back[i], &ext->link[i] };
}

typedef struct page_link (*page_link_fn)(const struct syn_mm *, uint32_t);

static void lru_add(const struct syn_mm *mm, struct syn_lru *lru, uint32_t page,
		    page_link_fn link)
{
	struct page_link at = link(mm, page);

	*at.prev = lru->hot;
	*at.next = SYN_NONE;
	if (lru->hot == SYN_NONE)
		lru->cold = page;
	else
		*link(mm, lru->hot).next = page;
	lru->hot = page;
	lru->nr++;
}

static void lru_del(const struct syn_mm *mm, struct syn_lru *lru, uint32_t page,
		    page_link_fn link)
{
	struct page_link at = link(mm, page);

	if (*at.prev == SYN_NONE)
		lru->cold = *at.next;
	else
		*link(mm, *at.prev).next = *at.next;
	if (*at.next == SYN_NONE)
		lru->hot = *at.prev;
	else
		*link(mm, *at.next).prev = *at.prev;
	lru->nr--;
}

static struct syn_pool *page_pool(const struct syn_mm *mm, uint32_t page)
{
	return mm->pool[mm->page[page].pool];
}

struct syn_window *syn_page_window(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_session *s;

	if (pg->charged == SYN_NONE16)
		return NULL;
	s = mm->session[pg->charged];
	return &s->window[s->window_of[pg->space]];
}

static struct syn_lru *page_lru(const struct syn_mm *mm, uint32_t page)
{
	struct syn_window *w = syn_page_window(mm, page);

	return w ? &w->lru : &page_pool(mm, page)->cached;
}

/* May be chosen as a victim. */
static bool page_wants_lru(const struct syn_rec_page *pg)
{
	return (pg->state == SYN_PAGE_FULL || pg->state == SYN_PAGE_SEALED) &&
	       syn_page_is(pg, SYN_PAGE_F_HBM) &&
	       !syn_page_is(pg, SYN_PAGE_F_LEAVING | SYN_PAGE_F_DYING |
					SYN_PAGE_F_FILLING);
}

/* SYN_PAGE_F_DUP, SYN_PAGE_F_COLD or 0. */
static uint32_t page_wants_host(const struct syn_rec_page *pg)
{
	if (!syn_page_is(pg, SYN_PAGE_F_HOST) ||
	    syn_page_is(pg, SYN_PAGE_F_DYING | SYN_PAGE_F_FILLING |
				    SYN_PAGE_F_MOVING | SYN_PAGE_F_LEAVING))
		return 0;
	if (syn_page_is(pg, SYN_PAGE_F_HBM))
		return SYN_PAGE_F_DUP;
	return syn_page_evictable(pg) ? SYN_PAGE_F_COLD : 0;
}

static void page_lru_update(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	bool want = page_wants_lru(pg);

	if (want == syn_page_is(pg, SYN_PAGE_F_LRU))
		return;
	if (want)
		lru_add(mm, page_lru(mm, page), page, lru_link);
	else
		lru_del(mm, page_lru(mm, page), page, lru_link);
	pg->flags ^= SYN_PAGE_F_LRU;
}

static void page_host_update(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *host = page_pool(mm, page)->host;
	uint32_t want = page_wants_host(pg);
	uint32_t have = pg->flags & (SYN_PAGE_F_DUP | SYN_PAGE_F_COLD);

	if (want == have)
		return;
	if (have)
		lru_del(mm, have == SYN_PAGE_F_DUP ? &host->dup : &host->cold,
			page, host_link);
	if (want)
		lru_add(mm, want == SYN_PAGE_F_DUP ? &host->dup : &host->cold,
			page, host_link);
	pg->flags = (uint16_t)((pg->flags ^ have) | want);
}

void syn_page_touch(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (syn_page_is(pg, SYN_PAGE_F_LRU)) {
		lru_del(mm, page_lru(mm, page), page, lru_link);
		lru_add(mm, page_lru(mm, page), page, lru_link);
	}
}

/* ---- flags and charges -------------------------------------------------- */

/* Its slot comes free without anybody's doing. */
static uint32_t page_going(const struct syn_rec_page *pg)
{
	return syn_page_is(pg, SYN_PAGE_F_HBM) &&
	       syn_page_is(pg, SYN_PAGE_F_LEAVING | SYN_PAGE_F_DYING);
}

static uint32_t page_moving(const struct syn_rec_page *pg)
{
	return syn_page_is(pg, SYN_PAGE_F_MOVING);
}

/* Unsigned differences: -1 wraps and is added all the same. */
static void page_count(struct syn_mm *mm, uint32_t page, uint32_t going,
		       uint32_t moving)
{
	struct syn_window *w = syn_page_window(mm, page);
	struct syn_pool *pool = page_pool(mm, page);

	pool->going += going;
	if (w) {
		w->going += going;
		w->moves += moving;
	} else {
		pool->moves += moving;
	}
}

void syn_page_change(struct syn_mm *mm, uint32_t page, uint32_t set,
		     uint32_t clear)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t going = page_going(pg);
	uint32_t moving = page_moving(pg);

	pg->flags = (uint16_t)((pg->flags & ~clear) | set);
	page_count(mm, page, page_going(pg) - going, page_moving(pg) - moving);
	page_lru_update(mm, page);
	page_host_update(mm, page);
}

void syn_page_charge(struct syn_mm *mm, uint32_t page, uint16_t session)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t going = page_going(pg);
	uint32_t moving = page_moving(pg);
	struct syn_window *w;

	if (syn_page_is(pg, SYN_PAGE_F_LRU)) {
		lru_del(mm, page_lru(mm, page), page, lru_link);
		pg->flags ^= SYN_PAGE_F_LRU;
	}
	page_count(mm, page, 0 - going, 0 - moving);
	w = syn_page_window(mm, page);
	if (w)
		w->charged--;
	pg->charged = session;
	w = syn_page_window(mm, page);
	if (w)
		w->charged++;
	page_count(mm, page, going, moving);
	page_lru_update(mm, page);
}

static bool lessee_takes_charge(const struct syn_mm *mm,
				const struct syn_rec_lessee *l)
{
	const struct syn_session *s = mm->session[l->session];
	const struct syn_window *w = &s->window[l->window];

	return !s->ended && !(l->flags & SYN_LESSEE_GONE) &&
	       w->charged < w->slots;
}

void syn_page_recharge(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t other = SYN_NONE;
	uint32_t look = PAGE_CHARGE_LOOK;
	uint32_t i;

	if (pg->charged == SYN_NONE16)
		return;
	for (i = pg->lessee; i != SYN_NONE && look--; i = mm->lessee[i].next) {
		const struct syn_rec_lessee *l = &mm->lessee[i];

		if (l->session == pg->charged &&
		    (syn_page_is(pg, SYN_PAGE_F_DYING) ||
		     !(l->flags & SYN_LESSEE_GONE)))
			return;
		if (other == SYN_NONE && lessee_takes_charge(mm, l))
			other = i;
	}
	syn_page_charge(mm, page,
			other == SYN_NONE ? SYN_NONE16
					  : mm->lessee[other].session);
}

void syn_page_slot_take(struct syn_mm *mm, uint32_t page,
			struct syn_window *window)
{
	struct syn_rec_page *pg = &mm->page[page];

	pg->slot = syn_pool_slot_take(mm, window->pool, page);
	pg->charged = (uint16_t)window->session->index;
	window->charged++;
}

static void page_quarantined(struct syn_mm *mm, uint32_t page, bool enter)
{
	const struct syn_window *w = syn_page_window(mm, page);
	uint32_t id = w ? w->session->cfg.id : SYN_NONE;

	syn_pool_quarantined(mm, page_pool(mm, page), id, mm->page[page].slot,
			     enter);
}

uint32_t syn_page_slot_detach(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	struct syn_window *w = syn_page_window(mm, page);
	uint32_t slot = pg->slot;

	if (syn_page_is(pg, SYN_PAGE_F_WAITS)) {
		pg->flags ^= SYN_PAGE_F_WAITS;
		page_quarantined(mm, page, false);
	}
	/* Off its list while the charge still says which. */
	syn_page_change(mm, page, 0, SYN_PAGE_F_HBM);
	if (w) {
		w->charged--;
		w->moves -= page_moving(pg);
		mm->pool[pg->pool]->moves += page_moving(pg);
	}
	pg->charged = SYN_NONE16;
	pg->slot = SYN_NONE;
	return slot;
}

void syn_page_slot_free(struct syn_mm *mm, uint32_t page)
{
	uint32_t slot = syn_page_slot_detach(mm, page);

	syn_pool_slot_give(mm, page_pool(mm, page), slot);
}

/* ---- what lessees see --------------------------------------------------- */

uint64_t syn_page_pte(const struct syn_rec_page *pg, uint32_t generation)
{
	uint32_t state = SYN_PTE_ABSENT;

	if (pg->state == SYN_PAGE_LOST)
		state = SYN_PTE_LOST;
	else if (syn_page_is(pg, SYN_PAGE_F_FILLING))
		state = SYN_PTE_FILLING;
	else if (syn_page_is(pg, SYN_PAGE_F_LEAVING))
		state = SYN_PTE_LEAVING;
	else if (syn_page_is(pg, SYN_PAGE_F_HBM))
		state = SYN_PTE_RESIDENT;
	return SYN_PTE(generation, state,
		       state == SYN_PTE_ABSENT || state == SYN_PTE_LOST
			       ? 0
			       : pg->slot);
}

void syn_page_publish(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	bool leaving = syn_page_is(pg, SYN_PAGE_F_LEAVING);
	uint32_t i;

	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next) {
		const struct syn_rec_lessee *l = &mm->lessee[i];
		uint64_t *pte = &mm->session[l->session]->cfg.pte[l->pte];

		if (l->flags & SYN_LESSEE_GONE)
			continue;
		/* C of Documentation/concurrency.rst. */
		if (leaving)
			syn_store_seq_cst(pte, syn_page_pte(pg, l->generation));
		else
			syn_store_release(pte, syn_page_pte(pg, l->generation));
	}
}

/* ---- sums --------------------------------------------------------------- */

uint32_t *syn_page_sums(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (mm->space[pg->space].nr_tiles <= SYN_SUMS_INLINE)
		return pg->sum;
	return &mm->sums[pg->sum_run];
}

int syn_page_verify(struct syn_mm *mm, uint32_t page, const uint32_t *sums,
		    uint32_t *ret_tile)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t *own = syn_page_sums(mm, page);
	uint32_t nr = mm->space[pg->space].nr_tiles;
	uint32_t i;

	if (!syn_page_is(pg, SYN_PAGE_F_SUMS)) {
		memcpy(own, sums, nr * sizeof(*sums));
		syn_page_change(mm, page, SYN_PAGE_F_SUMS, 0);
		return 0;
	}
	for (i = 0; i < nr && own[i] == sums[i]; i++)
		;
	if (i == nr)
		return 0;
	*ret_tile = i;
	return -EILSEQ;
}

/* ---- life --------------------------------------------------------------- */

uint32_t syn_page_new(struct syn_mm *mm, struct syn_window *window)
{
	const struct syn_session *s = window->session;
	uint32_t nr_tiles = mm->space[window->pool->space].nr_tiles;
	uint32_t run = SYN_NONE;
	struct syn_rec_page *pg;
	uint32_t page;

	if (nr_tiles > SYN_SUMS_INLINE) {
		run = syn_kept_sums_new(mm, nr_tiles);
		if (run == SYN_NONE)
			return SYN_NONE;
	}
	page = syn_kept_page_new(mm);
	pg = &mm->page[page];
	if (run != SYN_NONE)
		pg->sum_run = run;
	pg->host = SYN_NONE;
	pg->nvme = SYN_NONE;
	pg->lessee = SYN_NONE;
	pg->domain = s->cfg.domain;
	pg->space = (uint16_t)window->pool->space;
	pg->pool = (uint16_t)window->pool->index;
	pg->ready_session = SYN_NONE16;
	pg->codec = SYN_CODEC_RAW16;
	pg->fidelity = PAGE_FIDELITY_RAW16;
	pg->flags = SYN_PAGE_F_HBM;
	syn_page_slot_take(mm, page, window);
	/* Last: with the state the record is valid. */
	pg->state = SYN_PAGE_OPEN;
	window->pool->nr_users++;
	return page;
}

void syn_page_host_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	syn_page_change(mm, page, 0, SYN_PAGE_F_HOST);
	syn_pool_frame_give(mm, pg->host);
	pg->host = SYN_NONE;
}

void syn_page_unkey(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	syn_index_del(mm, page);
	pg->key[0] = 0;
	pg->key[1] = 0;
	syn_page_change(mm, page, 0, SYN_PAGE_F_KEYED);
}

bool syn_page_evictable(const struct syn_rec_page *pg)
{
	return pg->lessee == SYN_NONE && syn_page_is(pg, SYN_PAGE_F_KEYED) &&
	       !syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING |
					SYN_PAGE_F_DYING);
}

static void page_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *pool = page_pool(mm, page);
	uint32_t nr_tiles = mm->space[pg->space].nr_tiles;

	if (syn_page_is(pg, SYN_PAGE_F_HOST))
		syn_page_host_free(mm, page);
	if (syn_page_is(pg, SYN_PAGE_F_HBM))
		syn_page_slot_free(mm, page);
	if (nr_tiles > SYN_SUMS_INLINE)
		syn_kept_sums_free(mm, pg->sum_run, nr_tiles);
	if (pg->state == SYN_PAGE_SEALED)
		mm->count.nr_sealed--;
	pool->nr_users--;
	syn_kept_page_free(mm, page);
}

/* Some session can still touch its slot: it waits. */
static void page_wait(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (!syn_page_is(pg, SYN_PAGE_F_HBM) ||
	    syn_page_is(pg, SYN_PAGE_F_WAITS))
		return;
	pg->flags |= SYN_PAGE_F_WAITS;
	page_quarantined(mm, page, true);
}

static bool page_dies(const struct syn_rec_page *pg)
{
	return !pg->nr_lessees && (!syn_page_is(pg, SYN_PAGE_F_KEYED) ||
				   pg->state == SYN_PAGE_LOST);
}

/* Nobody's process, copy or loan can touch it. */
static bool page_untouched(const struct syn_rec_page *pg)
{
	return pg->lessee == SYN_NONE &&
	       !syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING);
}

bool syn_page_settle(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (!page_dies(pg)) {
		page_host_update(mm, page);
		return true;
	}
	if (syn_page_is(pg, SYN_PAGE_F_KEYED))
		syn_page_unkey(mm, page);
	if (page_untouched(pg)) {
		page_free(mm, page);
		return false;
	}
	if (!syn_page_is(pg, SYN_PAGE_F_DYING))
		syn_page_change(mm, page, SYN_PAGE_F_DYING, 0);
	page_wait(mm, page);
	return true;
}

void syn_page_evict(struct syn_mm *mm, uint32_t page)
{
	mm->count.evictions++;
	syn_page_unkey(mm, page);
	(void)syn_page_settle(mm, page);
}

void syn_page_lost(struct syn_mm *mm, uint32_t page, uint32_t tile,
		   uint32_t tier)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t i;

	SYN_PROBE(sum_failure, page, tile, tier);
	mm->count.sum_failures++;
	if (pg->state == SYN_PAGE_SEALED)
		mm->count.nr_sealed--;
	pg->state = SYN_PAGE_LOST;
	syn_page_change(mm, page, 0, 0);
	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next)
		mm->session[mm->lessee[i].session]->notices |= SYN_NOTICE_SUM;
	if (syn_page_is(pg, SYN_PAGE_F_HOST) &&
	    !syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING))
		syn_page_host_free(mm, page);
	syn_page_publish(mm, page);
	(void)syn_page_settle(mm, page);
}
