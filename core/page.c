/* SPDX-License-Identifier: Apache-2.0 */
/* Pages: where one is, whose account its slot is on, which lists it is in. */
#include "core/page.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/depart.h"
#include "core/index.h"
#include "core/kept.h"
#include "core/lists.h"
#include "core/pool.h"
#include "core/space.h"

#define PAGE_CHARGE_LOOK 16 /* lessees asked to take a charge over */

static struct syn_pool *page_pool(const struct syn_mm *mm, uint32_t page)
{
	return mm->pool[mm->page[page].pool];
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

	syn_commit(&pg->flags, (uint16_t)((pg->flags & ~clear) | set));
	if (set & SYN_PAGE_F_HOST)
		mm->extent[SYN_FRAME_EXTENT(pg->host)]
			->owner[SYN_FRAME_INDEX(pg->host)] = page;
	page_count(mm, page, page_going(pg) - going, page_moving(pg) - moving);
	syn_lists_update(mm, page);
	mm->changes++;
}

void syn_page_charge(struct syn_mm *mm, uint32_t page, uint16_t session)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t going = page_going(pg);
	uint32_t moving = page_moving(pg);
	struct syn_window *w;

	syn_lists_leave(mm, page);
	page_count(mm, page, 0 - going, 0 - moving);
	w = syn_page_window(mm, page);
	if (w)
		w->charged--;
	syn_commit(&pg->charged, session);
	w = syn_page_window(mm, page);
	if (w)
		w->charged++;
	page_count(mm, page, going, moving);
	syn_lists_update(mm, page);
	mm->changes++;
}

static bool lessee_takes_charge(const struct syn_mm *mm,
				const struct syn_rec_lessee *l)
{
	struct syn_session *s = mm->session[l->session];
	const struct syn_window *w = syn_window_of(s, page_pool(mm, l->page));

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

	page_pool(mm, page)->nr_users--;
	window->pool->nr_users++;
	pg->pool = (uint16_t)window->pool->index;
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
	syn_page_change(mm, page, 0, SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING);
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
		syn_failpoint();
		/* C of Documentation/concurrency.rst. */
		if (leaving)
			syn_store_seq_cst(pte, syn_page_pte(pg, l->generation));
		else
			syn_store_release(pte, syn_page_pte(pg, l->generation));
	}
}

uint32_t syn_page_tier(const struct syn_rec_page *pg)
{
	if (syn_page_is(pg, SYN_PAGE_F_HBM))
		return SYN_TIER_HBM;
	if (syn_page_is(pg, SYN_PAGE_F_HOST))
		return SYN_TIER_HOST;
	return syn_page_is(pg, SYN_PAGE_F_NVME) ? SYN_TIER_NVME : 0;
}

/* ---- ready points ------------------------------------------------------- */

bool syn_page_passed(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_session *s;

	if (syn_page_is(pg, SYN_PAGE_F_READY))
		return true;
	s = mm->session[pg->ready_session];
	return syn_load_acquire(&s->cfg.timeline[pg->ready_timeline].done) >=
	       pg->ready_value;
}

bool syn_page_ready(struct syn_mm *mm, uint32_t page)
{
	bool passed = syn_page_passed(mm, page);

	if (passed && !syn_page_is(&mm->page[page], SYN_PAGE_F_READY))
		syn_page_change(mm, page, SYN_PAGE_F_READY, 0);
	return passed;
}

/* ---- sums --------------------------------------------------------------- */

uint32_t *syn_page_sums(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (mm->space[pg->space].nr_tiles <= SYN_SUMS_INLINE)
		return pg->sum;
	return &mm->sums[pg->sum_run];
}

uint16_t *syn_page_errors(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (mm->space[pg->space].nr_tiles <= SYN_SUMS_INLINE)
		return mm->errors_inline[page];
	return &mm->errors[pg->sum_run];
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

/* A record with room for its sums; the caller sets its state last. */
static uint32_t page_record(struct syn_mm *mm, const struct syn_pool *pool)
{
	uint32_t nr_tiles = mm->space[pool->space].nr_tiles;
	uint32_t run = SYN_NONE;
	struct syn_rec_page *pg;
	uint32_t page;

	if (nr_tiles > SYN_SUMS_INLINE) {
		run = syn_kept_sums_new(mm, nr_tiles);
		if (run == SYN_NONE)
			return SYN_NONE;
	}
	page = syn_kept_page_new(mm);
	if (page == SYN_NONE) {
		if (run != SYN_NONE)
			syn_kept_sums_free(mm, run, nr_tiles);
		return SYN_NONE;
	}
	pg = &mm->page[page];
	if (run != SYN_NONE)
		pg->sum_run = run;
	pg->slot = SYN_NONE;
	pg->host = SYN_NONE;
	pg->nvme = SYN_NONE;
	pg->lessee = SYN_NONE;
	pg->domain = pool->domain;
	pg->space = (uint16_t)pool->space;
	pg->pool = (uint16_t)pool->index;
	pg->charged = SYN_NONE16;
	pg->ready_session = SYN_NONE16;
	pg->codec = SYN_CODEC_RAW16;
	pg->fidelity = SYN_FIDELITY_RAW16;
	return page;
}

uint32_t syn_page_new(struct syn_mm *mm, struct syn_window *window)
{
	uint32_t page = page_record(mm, window->pool);
	struct syn_rec_page *pg = &mm->page[page];

	if (page == SYN_NONE)
		return SYN_NONE;
	window->pool->nr_users++;
	pg->flags = SYN_PAGE_F_HBM;
	syn_page_slot_take(mm, page, window);
	syn_commit(&pg->state, SYN_PAGE_OPEN);
	return page;
}

uint32_t syn_page_restore(struct syn_mm *mm, struct syn_pool *pool,
			  const struct syn_disk_head *head, uint32_t slot)
{
	uint32_t nr_tiles = mm->space[pool->space].nr_tiles;
	uint32_t page = page_record(mm, pool);
	struct syn_rec_page *pg = &mm->page[page];

	if (page == SYN_NONE)
		return SYN_NONE;
	pg->key[0] = head->key[0];
	pg->key[1] = head->key[1];
	pg->ready_value = head->sequence;
	pg->nvme = slot;
	pg->tokens = head->tokens;
	pg->codec = (uint8_t)head->codec;
	pg->fidelity = (uint8_t)head->fidelity;
	pg->flags = SYN_PAGE_F_NVME | SYN_PAGE_F_KEYED | SYN_PAGE_F_SUMS |
		    SYN_PAGE_F_READY;
	if (head->flags & SYN_DISK_HEAD_DURABLE)
		pg->flags |= SYN_PAGE_F_DURABLE;
	memcpy(syn_page_sums(mm, page), head->sum, nr_tiles * sizeof(uint32_t));
	memcpy(syn_page_errors(mm, page), head->error,
	       nr_tiles * sizeof(uint16_t));
	syn_commit(&pg->state, SYN_PAGE_SEALED);
	mm->count.nr_sealed++;
	pool->nr_users++;
	syn_index_add(mm, page);
	return page;
}

void syn_page_host_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	syn_page_change(mm, page, 0, SYN_PAGE_F_HOST);
	syn_pool_frame_give(mm, pg->host);
	pg->host = SYN_NONE;
}

void syn_page_nvme_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	syn_page_change(mm, page, 0, SYN_PAGE_F_NVME | SYN_PAGE_F_DURABLE);
	syn_pool_nvme_give(mm, pg->domain, pg->nvme);
	pg->nvme = SYN_NONE;
}

void syn_page_unkey(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	syn_index_del(mm, page);
	syn_page_change(mm, page, 0, SYN_PAGE_F_KEYED);
	pg->key[0] = 0;
	syn_commit(&pg->key[1], 0);
}

static void page_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *pool = page_pool(mm, page);
	uint32_t nr_tiles = mm->space[pg->space].nr_tiles;

	if (syn_page_is(pg, SYN_PAGE_F_HOST))
		syn_page_host_free(mm, page);
	if (syn_page_is(pg, SYN_PAGE_F_NVME))
		syn_page_nvme_free(mm, page);
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
	       !syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING |
					SYN_PAGE_F_IO);
}

bool syn_page_settle(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (!page_dies(pg)) {
		syn_lists_update(mm, page);
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

void syn_page_evict(struct syn_mm *mm, uint32_t page, uint32_t why,
		    uint32_t session)
{
	SYN_PROBE(evict, page, why, session);
	mm->count.evictions++;
	syn_depart(mm, page, why, syn_page_tier(&mm->page[page]), session);
	syn_page_unkey(mm, page);
	(void)syn_page_settle(mm, page);
}

/* Copies that nobody reads or writes go at once, others when that ends. */
static void page_drop_copies(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (syn_page_is(pg, SYN_PAGE_F_IO))
		return;
	if (syn_page_is(pg, SYN_PAGE_F_NVME))
		syn_page_nvme_free(mm, page);
	if (syn_page_is(pg, SYN_PAGE_F_HOST) &&
	    !syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING))
		syn_page_host_free(mm, page);
}

void syn_page_lost(struct syn_mm *mm, uint32_t page, uint32_t tile,
		   uint32_t tier, uint32_t cause)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t i;

	SYN_PROBE(sum_failure, page, tile, tier);
	mm->count.sum_failures++;
	if (syn_page_is(pg, SYN_PAGE_F_KEYED))
		syn_depart(mm, page, cause, tier, SYN_NONE);
	if (cause == SYN_WHY_DEVICE)
		pg->advice |= SYN_PAGE_DEVICE;
	if (pg->state == SYN_PAGE_SEALED)
		mm->count.nr_sealed--;
	syn_commit(&pg->state, SYN_PAGE_LOST);
	syn_page_change(mm, page, 0, 0);
	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next)
		mm->session[mm->lessee[i].session]->notices |= SYN_NOTICE_SUM;
	page_drop_copies(mm, page);
	syn_page_publish(mm, page);
	(void)syn_page_settle(mm, page);
}

/* ---- adoption ----------------------------------------------------------- */

void syn_page_adopt(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_window *w = syn_page_window(mm, page);
	struct syn_extent *ext;
	uint32_t frame;

	if (syn_page_is(pg, SYN_PAGE_F_HBM)) {
		ext = syn_pool_slot(page_pool(mm, page), pg->slot, &frame);
		ext->link[frame] = page;
	}
	if (w)
		w->charged++;
	if (pg->state == SYN_PAGE_SEALED)
		mm->count.nr_sealed++;
	if (syn_page_is(pg, SYN_PAGE_F_KEYED))
		syn_index_add(mm, page);
	/* The frame's owner and the lists. */
	syn_page_change(mm, page, pg->flags & SYN_PAGE_F_HOST, 0);
}

/* The session that its slot is charged to may have given its lease back. */
void syn_page_adopt_settle(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (pg->state == SYN_PAGE_LOST)
		page_drop_copies(mm, page);
	if (syn_page_settle(mm, page) && !syn_page_is(pg, SYN_PAGE_F_FILLING))
		syn_page_recharge(mm, page);
}
