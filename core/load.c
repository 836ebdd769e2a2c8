/* SPDX-License-Identifier: Apache-2.0 */
/* Loans: a client brings an absent page into a slot. */
#include "core/load.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/trace.h"
#include "core/extent.h"
#include "core/lease.h"
#include "core/move.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/reclaim.h"

/* ---- FAULT -------------------------------------------------------------- */

/* One request: its lessees, and the slots it needs in each window. */
struct fault_batch {
	uint32_t lessee[SYN_BATCH_MAX];
	uint32_t need[SYN_WINDOWS_MAX];
	uint32_t nr;
	uint32_t nr_absent;
};

static bool page_absent(const struct syn_rec_page *pg)
{
	return pg->state != SYN_PAGE_LOST &&
	       !syn_page_is(pg, SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING);
}

/* No page of the batch is taken to make room for another one of it. */
static void batch_hold(struct syn_mm *mm, struct fault_batch *b)
{
	uint32_t i;

	for (i = 0; i < b->nr; i++) {
		const struct syn_rec_lessee *l = &mm->lessee[b->lessee[i]];
		struct syn_rec_page *pg = &mm->page[l->page];

		if (syn_page_is(pg, SYN_PAGE_F_HELD))
			continue;
		pg->flags |= SYN_PAGE_F_HELD;
		if (syn_page_is(pg, SYN_PAGE_F_LEAVING))
			syn_move_cancel(mm, l->page);
		if (!page_absent(pg))
			continue;
		b->need[l->window]++;
		b->nr_absent++;
	}
}

static void batch_unhold(struct syn_mm *mm, const struct fault_batch *b)
{
	uint32_t i;

	for (i = 0; i < b->nr; i++)
		mm->page[mm->lessee[b->lessee[i]].page].flags &=
			(uint16_t)~SYN_PAGE_F_HELD;
}

static int batch_room(struct syn_session *s, const struct fault_batch *b)
{
	uint32_t out = (uint32_t)__builtin_popcountll(s->loans_out);
	uint32_t w;

	for (w = 0; w < s->nr_windows; w++)
		if (b->need[w] > s->window[w].slots)
			return -E2BIG;
	if (b->nr_absent &&
	    out + s->nr_quarantined + b->nr_absent > SYN_LOANS_MAX)
		return s->nr_quarantined ? SYN_MM_E_WAIT : SYN_E_BACKPRESSURE;
	for (w = 0; w < s->nr_windows; w++) {
		int r = 0;

		if (b->need[w])
			r = syn_reclaim_room(&s->window[w], b->need[w]);
		if (r)
			return r;
	}
	return 0;
}

static void loan_write(struct syn_session *s, uint32_t loan,
		       const struct syn_rec_lessee *l)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[l->page];
	const struct syn_rec_space *space = &mm->space[pg->space];
	struct syn_loan *rec = &s->cfg.loan[loan];

	memcpy(&s->cfg.sums[(size_t)loan * SYN_TILES_MAX],
	       syn_page_sums(mm, l->page), space->nr_tiles * sizeof(uint32_t));
	*rec = (struct syn_loan){
		.handle = SYN_HANDLE(l->generation, l->pte),
		.src_extent = SYN_FRAME_EXTENT(pg->host),
		.src_frame = SYN_FRAME_INDEX(pg->host),
		.dst_slot = pg->slot,
		.window = l->window,
		.bytes = space->page_bytes,
		.codec = pg->codec,
		.nr_sums = space->nr_tiles,
		.tile_bytes = (uint32_t)space->tile_bytes,
		.session = s->cfg.id,
	};
	/* Last: with the state the record is valid. */
	syn_store_release(&rec->state, (uint16_t)SYN_LOAN_OUT);
}

static uint32_t loan_new(struct syn_session *s, const struct syn_rec_lessee *l)
{
	struct syn_mm *mm = s->mm;
	uint32_t loan = (uint32_t)__builtin_ctzll(~s->loans_out);
	const struct syn_rec_page *pg = &mm->page[l->page];

	s->loans_out |= 1ull << loan;
	s->loan_page[loan] = l->page;
	syn_page_slot_take(mm, l->page, &s->window[l->window]);
	syn_page_change(mm, l->page, SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING, 0);
	loan_write(s, loan, l);
	syn_page_publish(mm, l->page);
	syn_extent_want(s, mm->extent[SYN_FRAME_EXTENT(pg->host)]);
	s->faults++;
	mm->count.faults++;
	SYN_PROBE(load_begin, s->cfg.id, l->page, loan,
		  mm->space[pg->space].page_bytes);
	return loan;
}

static void fault_one(struct syn_session *s, uint32_t lessee,
		      struct syn_vec_fault *ret)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_lessee *l = &mm->lessee[lessee];
	const struct syn_rec_page *pg = &mm->page[l->page];

	*ret = (struct syn_vec_fault){ .res = SYN_FAULT_RESIDENT };
	if (pg->state == SYN_PAGE_LOST) {
		ret->res = SYN_E_LOST;
	} else if (syn_page_is(pg, SYN_PAGE_F_FILLING)) {
		ret->res = SYN_E_BUSY;
	} else if (syn_page_is(pg, SYN_PAGE_F_HBM)) {
		syn_page_touch(mm, l->page);
	} else {
		SYN_PROBE(fault_begin, s->cfg.id, l->page, SYN_TIER_HOST,
			  SYN_CAUSE_RECLAIM);
		ret->loan = loan_new(s, l);
		ret->res = SYN_FAULT_LOAN;
	}
	if (ret->res != SYN_FAULT_LOAN)
		SYN_PROBE(fault_end, s->cfg.id, l->page, ret->res);
}

static int batch_find(const struct syn_session *s, const uint64_t *handles,
		      uint32_t nr, struct fault_batch *ret)
{
	uint32_t i;
	int r;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	*ret = (struct fault_batch){ .nr = nr };
	for (i = 0; i < nr; i++) {
		r = syn_lease_find(s, handles[i], &ret->lessee[i]);
		if (r)
			return r;
	}
	return 0;
}

int syn_mm_fault(struct syn_session *session, const uint64_t *handles,
		 uint32_t nr, struct syn_vec_fault *ret, uint64_t *ret_hint_ns)
{
	struct syn_mm *mm = session->mm;
	struct fault_batch b;
	uint32_t i;
	int r;

	r = batch_find(session, handles, nr, &b);
	if (r)
		return r;
	batch_hold(mm, &b);
	r = batch_room(session, &b);
	for (i = 0; !r && i < nr; i++)
		fault_one(session, b.lessee[i], &ret[i]);
	batch_unhold(mm, &b);
	if (r)
		return syn_reclaim_refuse(session, r, SYN_OP_FAULT,
					  ret_hint_ns);
	for (i = 0; i < session->nr_windows; i++)
		if (b.need[i])
			syn_reclaim_balance(&session->window[i]);
	return 0;
}

/* ---- LOADED ------------------------------------------------------------- */

static uint32_t loan_end(struct syn_session *s, uint32_t loan, uint16_t state)
{
	s->loans_out &= ~(1ull << loan);
	syn_store_release(&s->cfg.loan[loan].state, state);
	return s->loan_page[loan];
}

static void loan_filled(struct syn_session *s, uint32_t page)
{
	struct syn_mm *mm = s->mm;
	struct syn_rec_page *pg = &mm->page[page];
	uint64_t bytes = mm->space[pg->space].page_bytes;

	mm->tier[0].in_bytes += bytes;
	mm->tier[1].out_bytes += bytes;
	mm->count.loads++;
	if (pg->loads < UINT16_MAX)
		pg->loads++;
	syn_page_change(mm, page, 0, SYN_PAGE_F_FILLING);
	syn_page_publish(mm, page);
	syn_page_recharge(mm, page);
	(void)syn_page_settle(mm, page);
}

/* The slot may be written still; the page goes on without it. */
static void loan_void(struct syn_session *s, uint32_t page, bool lost)
{
	struct syn_mm *mm = s->mm;
	struct syn_pool *pool = mm->pool[mm->page[page].pool];
	uint32_t slot = syn_page_slot_detach(mm, page);

	syn_page_change(mm, page, 0, SYN_PAGE_F_FILLING);
	syn_quarantine_slot(s, pool, slot);
	mm->progress = true;
	if (lost) {
		syn_page_lost(mm, page, SYN_NONE, SYN_TIER_HOST);
	} else {
		syn_page_publish(mm, page);
		(void)syn_page_settle(mm, page);
	}
}

static void loaded_one(struct syn_session *s, uint32_t loan, int status)
{
	uint32_t page = loan_end(s, loan, SYN_LOAN_FREE);

	SYN_PROBE(load_end, s->cfg.id, page, loan, status);
	SYN_PROBE(fault_end, s->cfg.id, page, status);
	if (status)
		loan_void(s, page, status == -EILSEQ);
	else
		loan_filled(s, page);
}

static int loaded_check(const struct syn_session *s,
			const struct syn_vec_loaded *vec, uint32_t nr)
{
	uint64_t seen = 0;
	uint32_t i;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		if (vec[i].loan >= SYN_LOANS_MAX ||
		    !(s->loans_out >> vec[i].loan & 1))
			return -ESTALE;
		if (vec[i].status > 0 || seen >> vec[i].loan & 1)
			return -EINVAL;
		seen |= 1ull << vec[i].loan;
	}
	return 0;
}

int syn_mm_loaded(struct syn_session *session, const struct syn_vec_loaded *vec,
		  uint32_t nr)
{
	uint32_t i;
	int r;

	r = loaded_check(session, vec, nr);
	if (r)
		return r;
	for (i = 0; i < nr; i++)
		loaded_one(session, vec[i].loan, vec[i].status);
	return 0;
}

void syn_load_void(struct syn_session *session)
{
	while (session->loans_out) {
		uint32_t loan = (uint32_t)__builtin_ctzll(session->loans_out);

		loan_void(session, loan_end(session, loan, SYN_LOAN_VOID),
			  false);
	}
}
