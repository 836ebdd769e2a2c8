/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaim: who has to leave HBM. */
#include "core/reclaim.h"

#include "core/base/base.h"
#include "core/base/trace.h"
#include "core/domain.h"
#include "core/host.h"
#include "core/lease.h"
#include "core/move.h"
#include "core/page.h"
#include "core/pool.h"

/* Pages looked at beyond four times those wanted; half get a second chance. */
#define RECLAIM_LOOK 256u

enum page_use {
	PAGE_IDLE,
	PAGE_USED,  /* pinned since the last look, but not now */
	PAGE_TAKEN, /* in use */
};

/* Every lessee is asked. */
static enum page_use page_use(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	enum page_use use = PAGE_IDLE;
	uint32_t i;

	if (syn_page_is(pg, SYN_PAGE_F_HELD | SYN_PAGE_F_MOVING))
		return PAGE_TAKEN;
	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next) {
		struct syn_rec_lessee *l = &mm->lessee[i];
		uint32_t word;

		if (l->flags & SYN_LESSEE_GONE)
			return PAGE_TAKEN;
		word = syn_lease_pins(mm, i);
		if (SYN_PIN_COUNT(word))
			use = PAGE_TAKEN;
		else if (SYN_PIN_USES(word) != l->uses && use == PAGE_IDLE)
			use = PAGE_USED;
		l->uses = (uint16_t)SYN_PIN_USES(word);
	}
	return use;
}

/* Starts the move of @page; where there is no room for a cached one it goes. */
static int reclaim_one(struct syn_mm *mm, uint32_t page, uint32_t session)
{
	int r = syn_move_out(mm, page, session);

	if (r != SYN_MOVE_E_FULL || !syn_page_evictable(&mm->page[page]))
		return r;
	syn_page_evict(mm, page, SYN_WHY_EVICTED, session);
	return 0;
}

/*
 * Returns how many slots came free or will.  A page that was used gets a
 * second chance, until half of what may be looked at had one: then the next
 * that is not in use is taken all the same, so that a list of which every
 * page was used still yields.
 */
static uint32_t reclaim_list(struct syn_mm *mm, struct syn_lru *lru,
			     uint32_t wanted, uint32_t session)
{
	uint32_t chances = syn_min(lru->nr, RECLAIM_LOOK / 2 + 2 * wanted);
	uint32_t look = syn_min(2 * lru->nr, RECLAIM_LOOK + 4 * wanted);
	uint32_t taken = 0;

	while (taken < wanted && look-- && lru->cold != SYN_NONE) {
		uint32_t page = lru->cold;
		enum page_use use = page_use(mm, page);
		int r = SYN_MOVE_E_PINNED;

		if (use == PAGE_IDLE || (use == PAGE_USED && !chances))
			r = reclaim_one(mm, page, session);
		else if (use == PAGE_USED)
			chances--;
		if (r == SYN_MOVE_E_FULL || r == SYN_MOVE_E_LATER)
			break;
		if (r)
			syn_lists_touch(mm, page);
		else
			taken++;
	}
	return taken;
}

static uint32_t reclaim_window(struct syn_window *w, uint32_t wanted)
{
	uint32_t taken;

	SYN_PROBE(reclaim_begin, w->session->cfg.id, wanted, SYN_TIER_HBM);
	taken = reclaim_list(w->session->mm, &w->lru, wanted,
			     w->session->cfg.id);
	SYN_PROBE(reclaim_end, w->session->cfg.id, taken, SYN_TIER_HBM);
	return taken;
}

/* Within the window's own guarantee. */
static int room_window(struct syn_window *w, uint32_t nr)
{
	uint32_t over;

	if (w->charged + nr <= w->slots)
		return 0;
	over = w->charged + nr - w->slots;
	if (over > w->going)
		(void)reclaim_window(w, over - w->going);
	if (w->charged + nr <= w->slots)
		return 0;
	return w->going || syn_host_coming(w->session->mm) ? SYN_MM_E_WAIT
							   : SYN_E_BACKPRESSURE;
}

/*
 * Slots that come free and are charged to nobody.  One that its own session
 * waits for is that session's again, and may take as long as its process.
 */
static uint32_t pool_going(const struct syn_mm *mm, const struct syn_pool *pool)
{
	uint32_t going = pool->going;
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions && going; i++) {
		struct syn_session *s = mm->session[i];

		if (s && s->window_of[pool->space] != SYN_NO_WINDOW)
			going -= syn_window_of(s, pool)->going;
	}
	return going;
}

/*
 * The pool holds all guarantees, as soon as there is memory again for what was lost
 * of them: what is missing is charged to nobody.
 */
static int room_pool(struct syn_window *w, uint32_t nr)
{
	struct syn_mm *mm = w->session->mm;
	struct syn_pool *pool = w->pool;
	uint32_t going;
	uint32_t over;

	if (pool->nr_free < nr && pool->lacks)
		(void)syn_pool_guarantee(mm, pool, 0);
	if (pool->nr_free >= nr)
		return 0;
	over = nr - (uint32_t)pool->nr_free;
	going = pool_going(mm, pool);
	if (over > going) {
		SYN_PROBE(reclaim_begin, SYN_NONE, over, SYN_TIER_HBM);
		over = reclaim_list(mm, &pool->cached, over - going,
				    w->session->cfg.id);
		SYN_PROBE(reclaim_end, SYN_NONE, over, SYN_TIER_HBM);
	}
	if (pool->nr_free >= nr)
		return 0;
	return pool->going || syn_host_coming(mm) ? SYN_MM_E_WAIT
						  : SYN_E_BACKPRESSURE;
}

int syn_reclaim_room(struct syn_window *window, uint32_t nr)
{
	int r = room_window(window, nr);

	return r ? r : room_pool(window, nr);
}

int syn_reclaim_refuse(struct syn_session *session, int r, uint16_t op,
		       uint64_t *ret_hint_ns)
{
	if (r != SYN_E_BACKPRESSURE)
		return r;
	*ret_hint_ns = SYN_HINT_NS;
	session->mm->count.backpressure++;
	syn_domain_refused(session->mm, session->cfg.domain);
	session->notices |= SYN_NOTICE_RECLAIM;
	SYN_PROBE(backpressure, session->cfg.id, op, SYN_HINT_NS);
	return r;
}

/* Slots to free so that the window is at @permille of free ones. */
static uint32_t window_short(const struct syn_window *w, uint32_t permille)
{
	uint32_t free_slots = w->slots - w->charged + w->going;
	uint32_t want = (uint32_t)((uint64_t)w->slots * permille / 1000);

	return want > free_slots ? want - free_slots : 0;
}

void syn_reclaim_balance(struct syn_window *window)
{
	struct syn_mm *mm = window->session->mm;

	if (window_short(window, mm->cfg.low_permille) &&
	    syn_list_empty(&window->pressed))
		syn_list_add_tail(&mm->pressed, &window->pressed);
}

/*
 * A pool that holds more than is guaranteed, because nobody's pages fill it:
 * they go to the host tier, and the extents that become empty retire.
 */
static bool reclaim_shrink(struct syn_mm *mm, struct syn_pool *pool)
{
	bool gives = syn_pool_surplus(pool) &&
		     (pool->shrinks_own ||
		      syn_domain_spare(mm, pool->domain, SYN_TIER_HBM,
				       pool->extent_bytes));
	uint32_t taken = 0;

	if (gives)
		taken = reclaim_list(mm, &pool->cached, SYN_BATCH_MAX,
				     SYN_NONE);
	if (taken || pool->going || mm->now_ns < mm->retry_ns)
		return taken;
	pool->stuck_ns = gives ? mm->now_ns : 0;
	syn_list_del(&pool->shrinking);
	return false;
}

/* A window stays pressed while it makes headway or waits for the device. */
bool syn_reclaim_poll(struct syn_mm *mm)
{
	struct syn_window *w;
	struct syn_window *tmp;
	struct syn_pool *pool;
	struct syn_pool *next;
	bool moved = false;

	syn_list_for_each_safe (pool, next, &mm->shrinking, shrinking)
		moved |= reclaim_shrink(mm, pool);
	syn_list_for_each_safe (w, tmp, &mm->pressed, pressed) {
		uint32_t wanted = window_short(w, mm->cfg.high_permille);
		uint32_t taken = 0;

		if (wanted)
			taken = reclaim_window(w,
					       syn_min(wanted, SYN_BATCH_MAX));
		moved |= taken;
		if (taken == wanted || (!taken && mm->now_ns >= mm->retry_ns &&
					!syn_host_coming(mm)))
			syn_list_del(&w->pressed);
	}
	return moved;
}

/* For whom pages are dropped, and how many still. */
struct evict {
	struct syn_mm *mm;
	uint64_t left;
	uint32_t why;
	uint32_t session;
};

static void evict_list(struct evict *e, struct syn_lru *lru)
{
	uint64_t look = lru->nr;

	while (e->left && look-- && lru->cold != SYN_NONE) {
		uint32_t page = lru->cold;

		if (syn_page_evictable(&e->mm->page[page])) {
			syn_page_evict(e->mm, page, e->why, e->session);
			e->left--;
		} else {
			syn_lists_touch(e->mm, page);
		}
	}
}

uint64_t syn_reclaim_evict(struct syn_mm *mm, uint64_t max, uint32_t why,
			   uint32_t session)
{
	struct evict e = { mm, max, why, session };
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX && e.left; i++) {
		if (!mm->pool[i])
			continue;
		evict_list(&e, &mm->pool[i]->list[SYN_LIST_COLD]);
		evict_list(&e, &mm->pool[i]->list[SYN_LIST_CLEAN]);
	}
	for (i = 0; i < SYN_POOLS_MAX && e.left; i++)
		if (mm->pool[i])
			evict_list(&e, &mm->pool[i]->cached);
	return max - e.left;
}

uint64_t syn_mm_evict(struct syn_mm *mm, uint64_t max)
{
	return syn_reclaim_evict(mm, max, SYN_WHY_ORDERED, SYN_NONE);
}
