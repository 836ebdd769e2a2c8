/* SPDX-License-Identifier: Apache-2.0 */
/* Loans: a client brings an absent page into a slot. */
#include "core/load.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/extent.h"
#include "core/host.h"
#include "core/lease.h"
#include "core/lists.h"
#include "core/move.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/reclaim.h"
#include "core/request.h"
#include "core/space.h"
#include "core/swap.h"

/* ---- FAULT -------------------------------------------------------------- */

/* One request: its lessees, and the slots it needs in each window's planes. */
struct fault_batch {
	uint32_t lessee[SYN_BATCH_MAX];
	uint32_t need[SYN_WINDOWS_MAX][SYN_PLANES];
	uint32_t nr;
	uint32_t nr_absent;
};

static bool page_absent(const struct syn_rec_page *pg)
{
	return pg->state != SYN_PAGE_LOST &&
	       !syn_page_is(pg, SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING);
}

/* Where it comes to lie once it is brought in. */
static uint32_t page_plane(const struct syn_mm *mm,
			   const struct syn_rec_page *pg)
{
	return syn_space_plane(mm, pg->space, pg->codec);
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
		b->need[l->window][page_plane(mm, pg)]++;
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

static bool batch_fits(const struct syn_session *s, const struct fault_batch *b)
{
	uint32_t w;
	uint32_t p;

	for (w = 0; w < s->nr_windows; w++)
		for (p = 0; p < SYN_PLANES; p++)
			if (b->need[w][p] > s->window[w][p].slots)
				return false;
	return true;
}

static int batch_slots(struct syn_session *s, const struct fault_batch *b)
{
	uint32_t w;
	uint32_t p;
	int r = 0;

	for (w = 0; w < s->nr_windows; w++)
		for (p = 0; p < SYN_PLANES && !r; p++)
			if (b->need[w][p])
				r = syn_reclaim_room(&s->window[w][p],
						     b->need[w][p]);
	return r;
}

static int batch_room(struct syn_session *s, const struct fault_batch *b)
{
	if (!batch_fits(s, b))
		return -E2BIG;
	if (b->nr_absent &&
	    s->nr_loans + s->nr_quarantined + b->nr_absent > SYN_LOANS_MAX)
		return s->nr_quarantined ? SYN_MM_E_WAIT : SYN_E_BACKPRESSURE;
	return batch_slots(s, b);
}

/* Slots were taken. */
static void batch_balance(struct syn_session *s, const struct fault_batch *b)
{
	uint32_t w;
	uint32_t p;

	for (w = 0; w < s->nr_windows; w++)
		for (p = 0; p < SYN_PLANES; p++)
			if (b->need[w][p])
				syn_reclaim_balance(&s->window[w][p]);
}

/* ---- pages in the swap file --------------------------------------------- */

static bool page_below(const struct syn_rec_page *pg)
{
	return page_absent(pg) && !syn_page_is(pg, SYN_PAGE_F_HOST);
}

/* 0: it is being read in.  -EAGAIN: there is no frame, or no request, for it. */
static int page_bring(struct syn_session *s, uint32_t page)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *pool =
		syn_pool_below(mm->pool[pg->pool], SYN_TIER_HOST, pg->codec);
	uint32_t frame;

	syn_page_change(mm, page, SYN_PAGE_F_WANTED, 0);
	if (syn_page_is(pg, SYN_PAGE_F_IO))
		return 0;
	frame = syn_host_frame(mm, pool, s->cfg.id);
	if (frame == SYN_NONE)
		return -EAGAIN;
	if (!syn_swap_in(mm, page, frame, s->cfg.id))
		return 0;
	syn_pool_frame_give(mm, frame);
	return -EAGAIN;
}

/* Pages of the batch are wanted no longer than it waits. */
static void batch_unwant(struct syn_mm *mm, const struct fault_batch *b)
{
	uint32_t i;

	for (i = 0; i < b->nr; i++)
		syn_page_change(mm, mm->lessee[b->lessee[i]].page, 0,
				SYN_PAGE_F_WANTED);
}

/*
 * Brings in what is in the swap file only.  While a read is under way the batch
 * waits; when there is no room to begin another one, those that are there are
 * served and the others are busy, so that two batches cannot hold frames
 * against each other.
 */
static int batch_bring(struct syn_session *s, const struct fault_batch *b)
{
	struct syn_mm *mm = s->mm;
	uint32_t ready = 0;
	uint32_t coming = 0;
	uint32_t i;

	for (i = 0; i < b->nr; i++) {
		uint32_t page = mm->lessee[b->lessee[i]].page;

		if (!page_below(&mm->page[page])) {
			ready++;
			if (syn_page_is(&mm->page[page], SYN_PAGE_F_HOST))
				syn_page_change(mm, page, SYN_PAGE_F_WANTED, 0);
		} else if (!page_bring(s, page)) {
			coming++;
		}
	}
	if (coming)
		return SYN_MM_E_WAIT;
	if (ready)
		return 0;
	return syn_host_coming(mm) ? SYN_MM_E_WAIT : SYN_E_BACKPRESSURE;
}

/* ---- loans -------------------------------------------------------------- */

static void loan_write(struct syn_session *s, uint32_t loan,
		       const struct syn_rec_lessee *l)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[l->page];
	const struct syn_rec_space *space = &mm->space[pg->space];
	bool raw = pg->codec == SYN_CODEC_RAW16;
	struct syn_loan *rec = &s->cfg.loan[loan];

	memcpy(&s->cfg.sums[(size_t)loan * SYN_TILES_MAX],
	       syn_page_sums(mm, l->page), space->nr_tiles * sizeof(uint32_t));
	*rec = (struct syn_loan){
		.handle = SYN_HANDLE(l->generation, l->pte),
		.src_extent = SYN_FRAME_EXTENT(pg->host),
		.src_frame = SYN_FRAME_INDEX(pg->host),
		.dst_slot = pg->slot,
		.window = l->window,
		.bytes = mm->info[pg->space].bytes[pg->codec],
		.codec = pg->codec,
		.nr_sums = space->nr_tiles,
		.tile_bytes = raw ? (uint32_t)space->tile_bytes : 0,
		.session = s->cfg.id,
	};
	syn_commit(&rec->state, (uint16_t)SYN_LOAN_OUT);
}

static uint32_t loan_new(struct syn_session *s, const struct syn_rec_lessee *l)
{
	struct syn_mm *mm = s->mm;
	uint32_t loan = syn_bit_first(s->loans_free);
	const struct syn_rec_page *pg = &mm->page[l->page];

	(void)syn_bit_clear(s->loans_free, loan);
	s->nr_loans++;
	s->loan_page[loan] = l->page;
	syn_request_lends(mm, loan);
	syn_page_slot_take(mm, l->page,
			   &s->window[l->window][page_plane(mm, pg)]);
	syn_page_change(mm, l->page, SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING,
			SYN_PAGE_F_WANTED);
	loan_write(s, loan, l);
	syn_page_publish(mm, l->page);
	syn_extent_want(s, mm->extent[SYN_FRAME_EXTENT(pg->host)]);
	s->faults++;
	mm->count.faults++;
	SYN_PROBE(load_begin, s->cfg.id, l->page, loan,
		  mm->info[pg->space].bytes[pg->codec]);
	return loan;
}

static uint32_t __attribute__((unused))
fault_cause(const struct syn_rec_lessee *l, const struct syn_rec_page *pg)
{
	if (!(l->flags & SYN_LESSEE_FOUND))
		return SYN_CAUSE_RECLAIM;
	return pg->demotions || pg->loads ? SYN_CAUSE_FOUND : SYN_CAUSE_RESTART;
}

/* Once for each absent page, however often the request is tried. */
static void batch_begin(struct syn_session *s, const struct fault_batch *b)
{
	struct syn_mm *mm = s->mm;
	uint32_t i;

	for (i = 0; i < b->nr; i++) {
		struct syn_rec_lessee *l = &mm->lessee[b->lessee[i]];
		const struct syn_rec_page *pg = &mm->page[l->page];

		if (!page_absent(pg) || l->flags & SYN_LESSEE_TOLD)
			continue;
		l->flags |= SYN_LESSEE_TOLD;
		SYN_PROBE(fault_begin, s->cfg.id, l->page,
			  page_below(pg) ? SYN_TIER_NVME : SYN_TIER_HOST,
			  fault_cause(l, pg));
	}
}

static void fault_end(struct syn_session *s, struct syn_rec_lessee *l,
		      int status)
{
	if (!(l->flags & SYN_LESSEE_TOLD))
		return;
	l->flags &= (uint8_t)~SYN_LESSEE_TOLD;
	SYN_PROBE(fault_end, s->cfg.id, l->page, status);
}

static void fault_one(struct syn_session *s, uint32_t lessee,
		      struct syn_vec_fault *ret)
{
	struct syn_mm *mm = s->mm;
	struct syn_rec_lessee *l = &mm->lessee[lessee];
	const struct syn_rec_page *pg = &mm->page[l->page];

	*ret = (struct syn_vec_fault){ .res = SYN_FAULT_RESIDENT };
	if (pg->state == SYN_PAGE_LOST) {
		ret->res = SYN_E_LOST;
	} else if (syn_page_is(pg, SYN_PAGE_F_FILLING)) {
		ret->res = SYN_E_BUSY;
	} else if (syn_page_is(pg, SYN_PAGE_F_HBM)) {
		syn_lists_touch(mm, l->page);
	} else if (page_below(pg)) {
		ret->res = SYN_E_BUSY;
	} else {
		ret->loan = loan_new(s, l);
		ret->res = SYN_FAULT_LOAN;
	}
	l->flags &= (uint8_t)~SYN_LESSEE_FOUND;
	/* Who is told to come again has not been served yet. */
	if (ret->res != SYN_FAULT_LOAN && ret->res != SYN_E_BUSY)
		fault_end(s, l, ret->res);
}

/* Refused: it may come again. */
static void batch_end(struct syn_session *s, const struct fault_batch *b,
		      int status)
{
	uint32_t i;

	for (i = 0; i < b->nr; i++)
		fault_end(s, &s->mm->lessee[b->lessee[i]], status);
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
	batch_begin(session, &b);
	r = batch_room(session, &b);
	if (!r && b.nr_absent)
		r = batch_bring(session, &b);
	if (r != SYN_MM_E_WAIT)
		batch_unwant(mm, &b);
	for (i = 0; !r && i < nr; i++)
		fault_one(session, b.lessee[i], &ret[i]);
	batch_unhold(mm, &b);
	if (r && r != SYN_MM_E_WAIT)
		batch_end(session, &b, r);
	if (r)
		return syn_reclaim_refuse(session, r, SYN_OP_FAULT,
					  ret_hint_ns);
	batch_balance(session, &b);
	return 0;
}

/* ---- LOADED ------------------------------------------------------------- */

/* What becomes of its page comes first. */
static void loan_end(struct syn_session *s, uint32_t loan, uint16_t state)
{
	syn_commit(&s->cfg.loan[loan].state, state);
}

/* Its page; it does not count any more. */
static uint32_t loan_take(struct syn_session *s, uint32_t loan)
{
	syn_bit_set(s->loans_free, loan);
	s->nr_loans--;
	return s->loan_page[loan];
}

static bool loan_is_out(const struct syn_session *s, uint32_t loan)
{
	return !syn_bit_test(s->loans_free, loan);
}

static void loan_filled(struct syn_session *s, uint32_t page)
{
	struct syn_mm *mm = s->mm;
	struct syn_rec_page *pg = &mm->page[page];
	uint64_t bytes = mm->info[pg->space].bytes[pg->codec];

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

/* The page goes on without its slot, unless what was copied there was all. */
static void loan_leave(struct syn_mm *mm, uint32_t page, uint32_t cause)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (pg->state != SYN_PAGE_LOST && !syn_page_tier(pg))
		cause = SYN_WHY_DEVICE;
	if (cause) {
		syn_page_lost(mm, page, SYN_NONE, SYN_TIER_HOST, cause);
	} else {
		syn_page_publish(mm, page);
		(void)syn_page_settle(mm, page);
	}
}

/* The slot may be written still; one that is lost is nobody's already. */
static void loan_void(struct syn_session *s, uint32_t page, uint32_t cause)
{
	if (page == SYN_NONE)
		return;
	syn_quarantine_slot(s, page);
	s->mm->progress = true;
	loan_leave(s->mm, page, cause);
}

static void loaded_one(struct syn_session *s, uint32_t loan, int status)
{
	uint32_t page = loan_take(s, loan);
	uint32_t lessee;

	SYN_PROBE(load_end, s->cfg.id, page, loan, status);
	if (!syn_lease_find(s, s->cfg.loan[loan].handle, &lessee))
		fault_end(s, &s->mm->lessee[lessee], status);
	if (status || page == SYN_NONE)
		loan_void(s, page, status == -EILSEQ ? SYN_WHY_CHECKSUM : 0);
	else
		loan_filled(s, page);
	loan_end(s, loan, SYN_LOAN_FREE);
}

static int loaded_check(const struct syn_session *s,
			const struct syn_vec_loaded *vec, uint32_t nr)
{
	uint64_t seen[SYN_LOAN_WORDS] = { 0 };
	uint32_t i;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		if (vec[i].loan >= SYN_LOANS_MAX ||
		    (!loan_is_out(s, vec[i].loan) && !syn_request_again(s->mm)))
			return -ESTALE;
		if (vec[i].status > 0 || syn_bit_test(seen, vec[i].loan))
			return -EINVAL;
		syn_bit_set(seen, vec[i].loan);
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
	syn_request_certain(session->mm, 0);
	for (i = 0; i < nr; i++)
		if (loan_is_out(session, vec[i].loan))
			loaded_one(session, vec[i].loan, vec[i].status);
	return 0;
}

unsigned int syn_mm_loans(const struct syn_session *session)
{
	return session->nr_loans;
}

void syn_load_void(struct syn_session *session)
{
	uint32_t loan;

	for (loan = 0; session->nr_loans; loan++) {
		if (!loan_is_out(session, loan))
			continue;
		loan_void(session, loan_take(session, loan), 0);
		loan_end(session, loan, SYN_LOAN_VOID);
	}
}

/* ---- adoption ----------------------------------------------------------- */

bool syn_load_adopt(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_session *s = mm->session[pg->charged];
	uint32_t i;

	for (i = 0; i < SYN_LOANS_MAX; i++) {
		const struct syn_loan *loan = &s->cfg.loan[i];
		const struct syn_pool *pool;

		if (loan->state != SYN_LOAN_OUT || loan->dst_slot != pg->slot)
			continue;
		pool = s->window[loan->window][syn_slot_plane(pg->slot)].pool;
		if (pool->space != pg->space)
			continue;
		(void)syn_bit_clear(s->loans_free, i);
		s->nr_loans++;
		s->loan_page[i] = page;
		return true;
	}
	return false;
}

/* Whoever it was given to may still write the slot, and says so afterwards. */
static bool loan_adopt_lost(struct syn_session *s, uint32_t loan)
{
	const struct syn_loan *rec = &s->cfg.loan[loan];
	const struct syn_extent *ext;
	const struct syn_pool *pool;
	uint32_t frame;

	if (rec->state != SYN_LOAN_OUT)
		return false;
	pool = s->window[rec->window][syn_slot_plane(rec->dst_slot)].pool;
	ext = syn_pool_slot(pool, rec->dst_slot, &frame);
	if (!ext || !ext->lost)
		return false;
	(void)syn_bit_clear(s->loans_free, loan);
	s->nr_loans++;
	s->loan_page[loan] = SYN_NONE;
	return true;
}

/* What it is copied from, unless that is lost. */
static void loan_adopt_source(struct syn_session *s, uint32_t loan)
{
	const struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[s->loan_page[loan]];

	if (syn_page_is(pg, SYN_PAGE_F_HOST))
		syn_extent_want(s, mm->extent[SYN_FRAME_EXTENT(pg->host)]);
}

void syn_load_adopt_rest(struct syn_session *session)
{
	uint32_t i;

	for (i = 0; i < SYN_LOANS_MAX; i++) {
		if (loan_is_out(session, i))
			loan_adopt_source(session, i);
		else if (!loan_adopt_lost(session, i))
			loan_end(session, i, SYN_LOAN_FREE);
	}
}

static void loan_untell(struct syn_session *s, uint32_t loan)
{
	struct syn_mm *mm = s->mm;
	uint32_t page = loan_take(s, loan);

	if (page != SYN_NONE) {
		syn_page_slot_free(mm, page);
		loan_leave(mm, page, 0);
	}
	loan_end(s, loan, SYN_LOAN_FREE);
}

void syn_load_untell(struct syn_session *session, const uint64_t *loans)
{
	uint32_t loan;

	for (loan = 0; loan < SYN_LOANS_MAX; loan++)
		if (syn_bit_test(loans, loan) && loan_is_out(session, loan))
			loan_untell(session, loan);
}
