/* SPDX-License-Identifier: Apache-2.0 */
/* Quarantine: what waits until a session can not touch it any more. */
#include "core/quarantine.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/depart.h"
#include "core/extent.h"
#include "core/kept.h"
#include "core/lease.h"
#include "core/page.h"
#include "core/pool.h"

/* ---- drains ------------------------------------------------------------- */

static uint64_t *drain_target(const struct syn_session *s, uint16_t epoch)
{
	return &s->target[(size_t)(epoch % SYN_DRAINS_MAX) *
			  s->cfg.nr_timelines];
}

/* H of Documentation/concurrency.rst: after the pin counts were seen 0. */
static bool drain_outstanding(const struct syn_session *s)
{
	uint32_t t;

	for (t = 0; t < s->cfg.nr_timelines; t++) {
		const struct syn_timeline *tl = &s->cfg.timeline[t];
		uint64_t issued = syn_load_seq_cst(&tl->issued);

		if (syn_load_acquire(&tl->done) < issued)
			return true;
	}
	return false;
}

static void drain_snapshot(const struct syn_session *s, uint64_t *target)
{
	uint32_t t;

	for (t = 0; t < s->cfg.nr_timelines; t++)
		target[t] = syn_load_seq_cst(&s->cfg.timeline[t].issued);
}

static bool drain_passed(const struct syn_session *s, uint16_t epoch)
{
	const uint64_t *target = drain_target(s, epoch);
	uint32_t t;

	for (t = 0; t < s->cfg.nr_timelines; t++)
		if (syn_load_acquire(&s->cfg.timeline[t].done) < target[t])
			return false;
	return true;
}

static bool drain_covers(const struct syn_session *s, uint16_t epoch)
{
	const uint64_t *target = drain_target(s, epoch);
	uint32_t t;

	for (t = 0; t < s->cfg.nr_timelines; t++)
		if (syn_load_seq_cst(&s->cfg.timeline[t].issued) != target[t])
			return false;
	return true;
}

bool syn_drain_begin(struct syn_session *session, uint16_t *ret_epoch)
{
	uint16_t pending =
		(uint16_t)(session->epoch_last - session->epoch_done);

	if (!session->dirty && !drain_outstanding(session))
		return false;
	if (!pending || (pending < SYN_DRAINS_MAX &&
			 !drain_covers(session, session->epoch_last)))
		session->epoch_last++;
	drain_snapshot(session, drain_target(session, session->epoch_last));
	if (!session->dirty && syn_list_empty(&session->draining))
		syn_list_add_tail(&session->mm->draining, &session->draining);
	*ret_epoch = session->epoch_last;
	return true;
}

bool syn_drain_done(const struct syn_session *session, uint16_t epoch)
{
	return (int16_t)(session->epoch_done - epoch) >= 0;
}

/* ---- ready points ------------------------------------------------------- */

/*
 * The sealer's lease ends and nothing of it is outstanding: either the ready
 * point has passed, or it never will.
 */
static void ready_resolve(struct syn_mm *mm, uint32_t lessee)
{
	const struct syn_rec_lessee *l = &mm->lessee[lessee];
	const struct syn_rec_page *pg = &mm->page[l->page];

	if (!syn_page_is(pg, SYN_PAGE_F_KEYED) ||
	    syn_page_is(pg, SYN_PAGE_F_READY) ||
	    pg->ready_session != l->session)
		return;
	if (syn_page_ready(mm, l->page))
		return;
	syn_depart(mm, l->page, SYN_WHY_WRITER, syn_page_tier(pg),
		   mm->session[l->session]->cfg.id);
	syn_page_unkey(mm, l->page);
}

/* ---- lessees ------------------------------------------------------------ */

static void gone_push(struct syn_session *s, uint32_t lessee)
{
	struct syn_rec_lessee *records = s->mm->lessee;

	records[lessee].pte = SYN_NONE;
	if (s->gone_last == SYN_NONE)
		s->gone_first = lessee;
	else
		records[s->gone_last].pte = lessee;
	s->gone_last = lessee;
}

static uint32_t gone_pop(struct syn_session *s)
{
	uint32_t lessee = s->gone_first;

	s->gone_first = s->mm->lessee[lessee].pte;
	if (s->gone_first == SYN_NONE)
		s->gone_last = SYN_NONE;
	return lessee;
}

/* A loan's slot stays on its borrower's account. */
static void lessee_settle(struct syn_mm *mm, uint32_t page, uint16_t session)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (syn_page_settle(mm, page) && pg->charged == session &&
	    !syn_page_is(pg, SYN_PAGE_F_FILLING))
		syn_page_recharge(mm, page);
}

static void lessee_finish(struct syn_mm *mm, uint32_t lessee)
{
	uint32_t page = mm->lessee[lessee].page;
	uint16_t session = mm->lessee[lessee].session;

	ready_resolve(mm, lessee);
	syn_lease_free(mm, lessee);
	lessee_settle(mm, page, session);
}

void syn_quarantine_lease(struct syn_mm *mm, uint32_t lessee, bool wait,
			  uint16_t epoch)
{
	struct syn_rec_lessee *l = &mm->lessee[lessee];

	syn_lease_end(mm, lessee);
	if (!wait) {
		lessee_finish(mm, lessee);
		return;
	}
	l->epoch = epoch;
	gone_push(mm->session[l->session], lessee);
	lessee_settle(mm, l->page, l->session);
}

/* ---- slots -------------------------------------------------------------- */

static uint32_t slot_record(struct syn_mm *mm, const struct syn_session *s,
			    const struct syn_rec_page *pg, uint16_t epoch)
{
	uint32_t q = syn_kept_quarantine_new(mm);

	mm->quarantine[q] = (struct syn_rec_quarantine){
		.session = s->index,
		.domain = pg->domain,
		.space = pg->space,
		.slot = pg->slot,
		.epoch = epoch,
	};
	syn_commit(&mm->quarantine[q].state, SYN_QUARANTINE_HELD);
	return q;
}

/* It waits, on the session's account. */
static void slot_enter(struct syn_session *s, struct syn_pool *pool, uint32_t q)
{
	struct syn_mm *mm = s->mm;
	struct syn_window *w = syn_window_of(s, pool);
	uint32_t slot = mm->quarantine[q].slot;

	mm->quarantine_next[q] = s->quarantine;
	s->quarantine = q;
	s->nr_quarantined++;
	syn_pool_slot_detach(pool, slot);
	w->charged++;
	w->going++;
	pool->going++;
	syn_pool_quarantined(mm, pool, s->cfg.id, slot, true);
}

void syn_quarantine_slot(struct syn_session *session, uint32_t page)
{
	struct syn_mm *mm = session->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	uint16_t epoch;
	uint32_t q;

	if (!syn_drain_begin(session, &epoch)) {
		syn_page_slot_free(mm, page);
		return;
	}
	/* Before the page gives it up. */
	q = slot_record(mm, session, pg, epoch);
	(void)syn_page_slot_detach(mm, page);
	slot_enter(session, mm->pool[pg->pool], q);
}

static void slot_leave(struct syn_session *s, uint32_t q)
{
	struct syn_mm *mm = s->mm;
	uint32_t window = s->window_of[mm->quarantine[q].space];
	uint32_t slot = mm->quarantine[q].slot;
	struct syn_window *w = &s->window[window][syn_slot_plane(slot)];

	w->charged--;
	w->going--;
	w->pool->going--;
	s->nr_quarantined--;
	syn_pool_quarantined(mm, w->pool, s->cfg.id, slot, false);
	syn_kept_quarantine_free(mm, q);
	syn_pool_slot_give(mm, w->pool, slot);
}

/* At most SYN_LOANS_MAX of them. */
static void slots_reap(struct syn_session *s, bool all)
{
	struct syn_mm *mm = s->mm;
	uint32_t q = s->quarantine;

	s->quarantine = SYN_NONE;
	while (q != SYN_NONE) {
		uint32_t next = mm->quarantine_next[q];

		if (all ||
		    syn_drain_done(s, (uint16_t)mm->quarantine[q].epoch)) {
			slot_leave(s, q);
		} else {
			mm->quarantine_next[q] = s->quarantine;
			s->quarantine = q;
		}
		q = next;
	}
}

/* ---- the end of the wait ------------------------------------------------ */

static void session_reap(struct syn_session *s, bool all)
{
	while (s->gone_first != SYN_NONE &&
	       (all || syn_drain_done(s, s->mm->lessee[s->gone_first].epoch)))
		lessee_finish(s->mm, gone_pop(s));
	slots_reap(s, all);
}

static bool session_poll(struct syn_session *s)
{
	uint16_t before = s->epoch_done;

	while (s->epoch_done != s->epoch_last &&
	       drain_passed(s, (uint16_t)(s->epoch_done + 1)))
		s->epoch_done++;
	if (s->epoch_done == before)
		return false;
	session_reap(s, false);
	if (s->epoch_done == s->epoch_last)
		syn_list_del(&s->draining);
	return true;
}

bool syn_quarantine_poll(struct syn_mm *mm)
{
	struct syn_session *s;
	struct syn_session *tmp;
	bool passed = false;

	syn_list_for_each_safe (s, tmp, &mm->draining, draining)
		passed |= session_poll(s);
	return passed;
}

void syn_quarantine_end(struct syn_session *session)
{
	session->epoch_done = session->epoch_last;
	syn_list_del(&session->draining);
	session_reap(session, true);
}

/* ---- adoption ----------------------------------------------------------- */

static struct syn_pool *slot_pool(const struct syn_mm *mm, uint32_t q)
{
	const struct syn_rec_quarantine *rec = &mm->quarantine[q];
	struct syn_session *s = mm->session[rec->session];
	uint32_t plane = syn_slot_plane(rec->slot);

	return s->window[s->window_of[rec->space]][plane].pool;
}

void syn_quarantine_adopt_slots(struct syn_mm *mm)
{
	uint32_t frame;
	uint32_t q;

	for (q = 0; q < mm->quarantine_used; q++) {
		const struct syn_rec_quarantine *rec = &mm->quarantine[q];
		struct syn_extent *ext;

		if (rec->state != SYN_QUARANTINE_HELD)
			continue;
		if (!mm->session[rec->session]) {
			syn_kept_quarantine_free(mm, q);
			continue;
		}
		ext = syn_pool_slot(slot_pool(mm, q), rec->slot, &frame);
		if (ext->lost)
			syn_kept_quarantine_free(mm, q);
		else
			syn_extent_use(mm, ext, frame);
	}
}

static void slots_adopt(struct syn_mm *mm)
{
	uint32_t q;

	for (q = 0; q < mm->quarantine_used; q++) {
		struct syn_rec_quarantine *rec = &mm->quarantine[q];

		if (rec->state != SYN_QUARANTINE_HELD)
			continue;
		rec->epoch = mm->session[rec->session]->epoch_last;
		slot_enter(mm->session[rec->session], slot_pool(mm, q), q);
	}
}

static void gone_adopt(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->lessee_used; i++) {
		struct syn_rec_lessee *l = &mm->lessee[i];

		if (!(l->flags & SYN_LESSEE_GONE))
			continue;
		l->epoch = mm->session[l->session]->epoch_last;
		gone_push(mm->session[l->session], i);
	}
}

void syn_quarantine_adopt(struct syn_mm *mm)
{
	uint16_t epoch;
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (mm->session[i])
			(void)syn_drain_begin(mm->session[i], &epoch);
	slots_adopt(mm);
	gone_adopt(mm);
	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (mm->session[i])
			session_reap(mm->session[i], false);
}
