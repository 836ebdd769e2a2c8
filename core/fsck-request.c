/* SPDX-License-Identifier: Apache-2.0 */
/* Fsck: moves, requests to the swap file, quarantine, and sessions. */
#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/extent.h"
#include "core/fsck-internal.h"
#include "core/pool.h"

/* ---- moves and requests ------------------------------------------------- */

/* The page that a record is about; NULL: there is none. */
static const struct syn_rec_page *request_page(struct syn_fsck *f,
					       uint32_t page, uint32_t flag,
					       uint32_t generation)
{
	const struct syn_rec_page *pg = &f->mm->page[page];

	if (page >= f->mm->page_used || pg->state == SYN_PAGE_FREE) {
		(void)syn_fsck_missing(f, page);
		return NULL;
	}
	(void)syn_fsck_same(f, SYN_FSCK_BACK, flag, pg->flags & flag);
	(void)syn_fsck_same(f, SYN_FSCK_GENERATION, pg->generation, generation);
	return pg;
}

/* Where @pg goes with @codec; NULL: nowhere. */
static const struct syn_pool *request_pool(const struct syn_mm *mm,
					   const struct syn_rec_page *pg,
					   uint32_t tier, uint32_t codec)
{
	if (pg->pool >= SYN_POOLS_MAX || !mm->pool[pg->pool] ||
	    codec < SYN_CODEC_RAW16 || codec >= SYN_CODEC_NR)
		return NULL;
	return syn_pool_below(mm->pool[pg->pool], tier, codec);
}

/* A frame of @pool that is no page's yet. */
static void request_frame(struct syn_fsck *f, uint32_t frame,
			  const struct syn_pool *pool)
{
	const struct syn_extent *ext = syn_extent_of(f->mm, frame);

	if (!ext || ext->pool != pool) {
		(void)syn_fsck_same(f, SYN_FSCK_PLACE, ~frame, frame);
		return;
	}
	if (ext->owner)
		(void)syn_fsck_same(f, SYN_FSCK_BACK, SYN_NONE,
				    ext->owner[SYN_FRAME_INDEX(frame)]);
	syn_fsck_own(f, ext, SYN_FRAME_INDEX(frame));
}

static void move_check(struct syn_fsck *f, const struct syn_rec_move *move)
{
	const struct syn_rec_page *pg;

	if (move->state > SYN_MOVE_COPY) {
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_MOVE_FREE,
				    move->state);
		return;
	}
	pg = request_page(f, move->page, SYN_PAGE_F_MOVING, move->generation);
	if (!pg)
		return;
	if (move->host != SYN_NONE)
		request_frame(
			f, move->host,
			request_pool(f->mm, pg, SYN_TIER_HOST, move->codec));
	else
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_MOVE_DRAIN,
				    move->state);
}

bool syn_fsck_moves(struct syn_fsck *f)
{
	uint32_t move = (uint32_t)f->at;

	if (f->at >= SYN_MOVES_MAX)
		return false;
	f->at++;
	f->left -= SYN_FSCK_RECORD;
	syn_fsck_look(f, SYN_FSCK_MOVE, move);
	if (f->mm->move[move].state == SYN_MOVE_FREE)
		f->nr_free[SYN_FSCK_MOVE]++;
	else
		move_check(f, &f->mm->move[move]);
	return true;
}

/* The segment of a slot; NULL: there is none. */
static const struct syn_extent *swap_segment(struct syn_fsck *f, uint32_t slot)
{
	const struct syn_extent *ext = syn_extent_of(f->mm, slot);

	if (ext && ext->pool->tier == SYN_TIER_NVME)
		return ext;
	(void)syn_fsck_same(f, SYN_FSCK_PLACE, ~slot, slot);
	return NULL;
}

/* A segment that is cut: none of its slots can be had yet. */
static void format_check(struct syn_fsck *f, const struct syn_rec_swap *swap)
{
	const struct syn_extent *ext = swap_segment(f, swap->slot);

	if (!ext)
		return;
	(void)syn_fsck_same(f, SYN_FSCK_BACK, true, ext->retiring);
	f->pool[ext->pool->index].cutting++;
}

/* One of the two is the page's, the other comes to be when it has ended. */
static void swap_check(struct syn_fsck *f, const struct syn_rec_swap *swap)
{
	const struct syn_rec_page *pg =
		request_page(f, swap->page, SYN_PAGE_F_IO, swap->generation);
	const struct syn_extent *ext = syn_extent_of(f->mm, swap->slot);

	if (!pg)
		return;
	if (swap->state == SYN_SWAP_READ) {
		(void)syn_fsck_same(f, SYN_FSCK_PLACE, pg->nvme, swap->slot);
		request_frame(
			f, swap->host,
			request_pool(f->mm, pg, SYN_TIER_HOST, pg->codec));
		return;
	}
	(void)syn_fsck_same(f, SYN_FSCK_PLACE, pg->host, swap->host);
	request_frame(f, swap->slot,
		      request_pool(f->mm, pg, SYN_TIER_NVME, pg->codec));
	if (ext && pg->domain < SYN_DOMAINS_MAX)
		f->nvme_used[pg->domain] += ext->pool->frame_bytes;
}

/* A slot that is nobody's, and on nobody's account. */
static void wipe_check(struct syn_fsck *f, const struct syn_rec_swap *swap)
{
	const struct syn_extent *ext = swap_segment(f, swap->slot);

	(void)syn_fsck_same(f, SYN_FSCK_REQUEST, SYN_NONE, swap->page);
	if (ext)
		request_frame(f, swap->slot, ext->pool);
}

bool syn_fsck_swaps(struct syn_fsck *f)
{
	const struct syn_rec_swap *swap = &f->mm->swap[f->at];

	if (f->at >= SYN_SWAPS_MAX)
		return false;
	syn_fsck_look(f, SYN_FSCK_SWAP, f->at++);
	f->left -= SYN_FSCK_RECORD;
	if (swap->state == SYN_SWAP_FREE)
		f->nr_free[SYN_FSCK_SWAP]++;
	else if (swap->state == SYN_SWAP_FORMAT)
		format_check(f, swap);
	else if (swap->state < SYN_SWAP_FORMAT)
		swap_check(f, swap);
	else if (swap->state == SYN_SWAP_WIPE)
		wipe_check(f, swap);
	else
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_SWAP_FREE,
				    swap->state);
	return true;
}

/* ---- quarantine --------------------------------------------------------- */

/* The window on whose account a slot waits; NULL: there is none. */
static const struct syn_window *
quarantine_window(const struct syn_mm *mm, const struct syn_rec_quarantine *q)
{
	const struct syn_session *s = syn_fsck_session_at(mm, q->session);
	uint32_t window;

	if (!s || q->space >= SYN_SPACES_MAX || q->domain != s->cfg.domain)
		return NULL;
	window = s->window_of[q->space];
	if (window >= s->nr_windows)
		return NULL;
	return &s->window[window][syn_slot_plane(q->slot)];
}

static void quarantine_check(struct syn_fsck *f,
			     const struct syn_rec_quarantine *q)
{
	const struct syn_window *w = quarantine_window(f->mm, q);
	struct syn_fsck_window *count;
	const struct syn_extent *ext;
	uint32_t frame;

	if (!w || !w->pool) {
		(void)syn_fsck_missing(f, q->session);
		return;
	}
	ext = syn_fsck_slot(w->pool, q->slot, &frame);
	if (!ext) {
		(void)syn_fsck_same(f, SYN_FSCK_PLACE, ~q->slot, q->slot);
		return;
	}
	(void)syn_fsck_same(f, SYN_FSCK_BACK, SYN_NONE, ext->link[frame]);
	syn_fsck_own(f, ext, frame);
	count = syn_fsck_count_of(f, w);
	count->charged++;
	count->going++;
	f->pool[w->pool->index].going++;
	f->session[q->session].held++;
	f->nr_waiting++;
	f->waiting_bytes += w->pool->frame_bytes;
}

bool syn_fsck_quarantine(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;

	for (; f->at < mm->quarantine_used && f->left > 0; f->at++) {
		const struct syn_rec_quarantine *q = &mm->quarantine[f->at];

		f->left -= SYN_FSCK_LOOK;
		if (q->state == SYN_QUARANTINE_FREE) {
			f->nr_free[SYN_FSCK_QUARANTINE]++;
			continue;
		}
		f->left -= SYN_FSCK_RECORD;
		syn_fsck_look(f, SYN_FSCK_QUARANTINE, f->at);
		if (syn_fsck_same(f, SYN_FSCK_STATE, SYN_QUARANTINE_HELD,
				  q->state))
			quarantine_check(f, q);
	}
	return f->at < mm->quarantine_used;
}

/* ---- sessions ----------------------------------------------------------- */

static void window_check(struct syn_fsck *f, const struct syn_window *w,
			 const struct syn_rec_window *rec)
{
	const struct syn_pool *pool = w->pool;
	const struct syn_fsck_window *count = syn_fsck_count_of(f, w);

	(void)syn_fsck_same(f, SYN_FSCK_REFERENCE, pool->space, rec->space);
	(void)syn_fsck_same(f, SYN_FSCK_SLOTS, w->slots,
			    rec->slots[pool->plane]);
	(void)syn_fsck_same(f, SYN_FSCK_CHARGED, true, w->charged <= w->slots);
	(void)syn_fsck_counted(f, SYN_FSCK_CHARGED, count->charged, w->charged);
	(void)syn_fsck_counted(f, SYN_FSCK_GOING, count->going, w->going);
	(void)syn_fsck_counted(f, SYN_FSCK_REQUEST, count->moves, w->moves);
	(void)syn_fsck_counted(f, SYN_FSCK_LIST, count->lru, w->lru.nr);
	f->pool[pool->index].users++;
	f->pool[pool->index].slots += w->slots;
}

static void session_windows(struct syn_fsck *f, const struct syn_session *s)
{
	const struct syn_rec_session *rec = &f->mm->rec_session[s->index];
	uint32_t w;
	uint32_t p;

	if (!syn_fsck_same(f, SYN_FSCK_NUMBER, s->nr_windows, rec->nr_windows))
		return;
	for (w = 0; w < s->nr_windows; w++) {
		for (p = 0; p < SYN_PLANES; p++) {
			if (!s->window[w][p].pool)
				continue;
			syn_fsck_look(f, SYN_FSCK_WINDOW, s->index);
			syn_fsck_part(f, w * SYN_PLANES + p);
			window_check(f, &s->window[w][p], &rec->window[w]);
		}
	}
	syn_fsck_look(f, SYN_FSCK_SESSION, s->index);
}

static void session_loans(struct syn_fsck *f, const struct syn_session *s)
{
	const struct syn_mm *mm = f->mm;
	uint32_t i;

	for (i = 0; i < SYN_LOANS_MAX; i++) {
		uint32_t page = s->loan_page[i];

		if (syn_bit_test(s->loans_free, i))
			continue;
		syn_fsck_part(f, i);
		if (page == SYN_NONE)
			(void)syn_fsck_same(f, SYN_FSCK_STATE, false,
					    syn_list_empty(&s->losing));
		else if (page >= mm->page_used ||
			 !syn_page_is(&mm->page[page], SYN_PAGE_F_FILLING))
			(void)syn_fsck_missing(f, page);
		(void)syn_fsck_same(f, SYN_FSCK_REQUEST, SYN_LOAN_OUT,
				    s->cfg.loan[i].state);
	}
	syn_fsck_part(f, 0);
}

/* At most SYN_LOANS_MAX of them. */
static void session_quarantine(struct syn_fsck *f, const struct syn_session *s)
{
	const struct syn_mm *mm = f->mm;
	uint32_t q = s->quarantine;
	uint32_t nr = 0;

	while (q < mm->quarantine_used && nr <= SYN_LOANS_MAX &&
	       mm->quarantine[q].state == SYN_QUARANTINE_HELD &&
	       mm->quarantine[q].session == s->index) {
		q = mm->quarantine_next[q];
		nr++;
	}
	(void)syn_fsck_same(f, SYN_FSCK_LINK, SYN_NONE, q);
	(void)syn_fsck_same(f, SYN_FSCK_WAITING, nr, s->nr_quarantined);
}

static void session_check(struct syn_fsck *f, const struct syn_session *s)
{
	const struct syn_mm *mm = f->mm;
	const struct syn_fsck_session *count = &f->session[s->index];
	const struct syn_rec_session *rec = &mm->rec_session[s->index];

	(void)syn_fsck_same(f, SYN_FSCK_STATE,
			    s->dirty   ? SYN_SESSION_DIRTY
			    : s->ended ? SYN_SESSION_ENDED
				       : SYN_SESSION_LIVE,
			    rec->state);
	(void)syn_fsck_same(f, SYN_FSCK_REFERENCE, s->cfg.id, rec->id);
	(void)syn_fsck_same(f, SYN_FSCK_NUMBER, s->cfg.nr_pages, rec->nr_pages);
	(void)syn_fsck_same(f, SYN_FSCK_NUMBER, s->cfg.nr_timelines,
			    rec->nr_timelines);
	session_windows(f, s);
	session_loans(f, s);
	session_quarantine(f, s);
	(void)syn_fsck_counted(f, SYN_FSCK_LEASES, count->leases, s->nr_leases);
	(void)syn_fsck_counted(f, SYN_FSCK_WAITING, count->held,
			       s->nr_quarantined);
	(void)syn_fsck_same(f, SYN_FSCK_LINK, s->gone_first == SYN_NONE,
			    s->gone_last == SYN_NONE);
	(void)syn_fsck_counted(f, SYN_FSCK_LINK, count->gone != 0,
			       s->gone_first != SYN_NONE);
	if (!syn_fsck_same(f, SYN_FSCK_REFERENCE, rec->domain, s->cfg.domain) ||
	    s->cfg.domain >= SYN_DOMAINS_MAX)
		return;
	f->nr_members[s->cfg.domain]++;
}

bool syn_fsck_sessions(struct syn_fsck *f)
{
	const struct syn_mm *mm = f->mm;
	uint32_t i = (uint32_t)f->at;

	if (f->at >= mm->cfg.max_sessions)
		return false;
	syn_fsck_look(f, SYN_FSCK_SESSION, f->at++);
	f->left -= SYN_FSCK_LOOK;
	if (!mm->session[i]) {
		(void)syn_fsck_same(f, SYN_FSCK_STATE, SYN_SESSION_FREE,
				    mm->rec_session[i].state);
		return true;
	}
	f->left -= SYN_FSCK_RECORD * 2;
	f->nr_sessions++;
	session_check(f, mm->session[i]);
	return true;
}
