/* SPDX-License-Identifier: Apache-2.0 */
/* Moves: a page leaves HBM. */
#include "core/move.h"

#include <sched.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/host.h"
#include "core/kept.h"
#include "core/lease.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/space.h"

#define MOVE_REAP 64u /* completions taken at once */

static uint32_t charged_id(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_window *w = syn_page_window(mm, page);

	return w ? w->session->cfg.id : SYN_NONE;
}

/* ---- leaving ------------------------------------------------------------ */

static void leave_undo(struct syn_mm *mm, uint32_t page)
{
	uint32_t i;

	for (i = mm->page[page].lessee; i != SYN_NONE; i = mm->lessee[i].next)
		mm->lessee[i].flags &= (uint8_t)~SYN_LESSEE_WAIT;
	syn_page_change(mm, page, 0, SYN_PAGE_F_LEAVING);
	syn_page_publish(mm, page);
}

static bool leave_pinned(const struct syn_mm *mm, uint32_t page)
{
	uint32_t i;

	for (i = mm->page[page].lessee; i != SYN_NONE; i = mm->lessee[i].next)
		if (SYN_PIN_COUNT(syn_lease_pins(mm, i)))
			return true;
	return false;
}

/* Somebody who gave it back may touch it still. */
static bool leave_haunted(const struct syn_mm *mm, uint32_t page)
{
	uint32_t i;

	for (i = mm->page[page].lessee; i != SYN_NONE; i = mm->lessee[i].next)
		if (mm->lessee[i].flags & SYN_LESSEE_GONE)
			return true;
	return false;
}

/* Returns whether a lessee's timelines are to be waited for. */
static bool leave_drain(struct syn_mm *mm, uint32_t page)
{
	bool waits = false;
	uint32_t i;

	for (i = mm->page[page].lessee; i != SYN_NONE; i = mm->lessee[i].next) {
		struct syn_rec_lessee *l = &mm->lessee[i];

		if (!syn_drain_begin(mm->session[l->session], &l->epoch))
			continue;
		l->flags |= SYN_LESSEE_WAIT;
		waits = true;
	}
	return waits;
}

static bool leave_drained(const struct syn_mm *mm, uint32_t page)
{
	uint32_t i;

	for (i = mm->page[page].lessee; i != SYN_NONE; i = mm->lessee[i].next) {
		const struct syn_rec_lessee *l = &mm->lessee[i];

		if (l->flags & SYN_LESSEE_GONE)
			return false;
		if (l->flags & SYN_LESSEE_WAIT &&
		    !syn_drain_done(mm->session[l->session], l->epoch))
			return false;
	}
	return true;
}

/* It has left: the host copy is what there is. */
static void leave_finish(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	struct syn_window *w = syn_page_window(mm, page);
	uint32_t i;

	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next)
		mm->lessee[i].flags &= (uint8_t)~SYN_LESSEE_WAIT;
	if (w)
		w->session->demotions++;
	if (pg->demotions < UINT16_MAX)
		pg->demotions++;
	syn_page_slot_free(mm, page);
	syn_page_change(mm, page, 0, SYN_PAGE_F_LEAVING);
	syn_page_publish(mm, page);
}

void syn_move_cancel(struct syn_mm *mm, uint32_t page)
{
	leave_undo(mm, page);
	mm->progress = true;
}

/* ---- moves -------------------------------------------------------------- */

/* The record goes; the frame, if any, is the caller's again. */
static uint32_t move_end(struct syn_mm *mm, uint32_t move)
{
	uint32_t page = mm->move[move].page;
	uint32_t host = mm->move[move].host;

	if (mm->move[move].state == SYN_MOVE_DRAIN)
		mm->nr_draining_moves--;
	syn_kept_move_free(mm, move);
	syn_page_change(mm, page, 0, SYN_PAGE_F_MOVING);
	return host;
}

static void move_drop(struct syn_mm *mm, uint32_t move)
{
	uint32_t page = mm->move[move].page;
	uint32_t host = move_end(mm, move);

	if (host != SYN_NONE)
		syn_pool_frame_give(mm, host);
	if (syn_page_is(&mm->page[page], SYN_PAGE_F_LEAVING))
		leave_undo(mm, page);
	(void)syn_page_settle(mm, page);
	mm->progress = true;
}

/* One for each demote_begin; 0 only if the page has left. */
static void move_tell(const struct syn_mm *mm, uint32_t page, int status)
{
	SYN_PROBE(demote_end, charged_id(mm, page), page, mm->page[page].slot,
		  status);
}

static uint32_t __attribute__((unused))
error_worst(const struct syn_mm *mm, uint32_t page, const uint16_t *error)
{
	uint32_t worst = 0;
	uint32_t i;

	for (i = 0; i < mm->space[mm->page[page].space].nr_tiles; i++)
		worst = syn_max(worst, (uint32_t)error[i]);
	return worst;
}

static void encode_tell(const struct syn_mm *mm, uint32_t move, int status)
{
	const struct syn_rec_move *mv = &mm->move[move];

	if (mv->codec != SYN_CODEC_RAW16)
		SYN_PROBE(encode_end, mv->page, status,
			  status ? 0
				 : error_worst(mm, mv->page,
					       mm->move_result[move].error));
}

static void move_failed(struct syn_mm *mm, uint32_t move, int status)
{
	encode_tell(mm, move, status);
	move_tell(mm, mm->move[move].page, status);
	mm->retry_ns = mm->now_ns + SYN_COPY_BACKOFF_NS;
	move_drop(mm, move);
}

static void move_copy(struct syn_mm *mm, uint32_t move)
{
	struct syn_rec_move *mv = &mm->move[move];
	const struct syn_rec_page *pg = &mm->page[mv->page];
	const struct syn_rec_space *space = &mm->space[pg->space];
	const struct syn_pool *pool = mm->pool[pg->pool];
	const struct syn_extent *host = mm->extent[SYN_FRAME_EXTENT(mv->host)];
	struct syn_move_result *result = &mm->move_result[move];
	struct syn_copy copy;
	uint32_t frame;
	int r;

	if (mv->state == SYN_MOVE_DRAIN)
		mm->nr_draining_moves--;
	syn_commit(&mv->state, SYN_MOVE_COPY);
	copy = (struct syn_copy){
		.cookie = move,
		.src = &syn_pool_slot(pool, pg->slot, &frame)->mem,
		.dst = &host->mem,
		.dst_off = SYN_FRAME_INDEX(mv->host) * host->pool->frame_bytes,
		.bytes = space->page_bytes,
		.tile_bytes = space->tile_bytes,
		.sums = result->sum,
	};
	copy.src_off = frame * pool->frame_bytes;
	SYN_PROBE(demote_begin, charged_id(mm, mv->page), mv->page, pg->slot,
		  copy.bytes);
	if (mv->codec != SYN_CODEC_RAW16) {
		copy.encode = &mm->info[pg->space].layout;
		copy.stored_sums = result->stored;
		copy.error = result->error;
		SYN_PROBE(encode_begin, mv->page, copy.bytes);
	}
	r = mm->dev->ops->copy(mm->dev, &copy, 1);
	if (r)
		move_failed(mm, move, r);
}

/* The bytes in HBM are not those that were summed before. */
static void move_mismatch(struct syn_mm *mm, uint32_t page, uint32_t host,
			  uint32_t tile)
{
	syn_pool_frame_give(mm, host);
	if (syn_page_is(&mm->page[page], SYN_PAGE_F_LEAVING)) {
		syn_page_slot_free(mm, page);
		syn_page_change(mm, page, 0, SYN_PAGE_F_LEAVING);
	}
	syn_page_lost(mm, page, tile, SYN_TIER_HBM, SYN_WHY_CHECKSUM);
}

/* From now on its sums are those of the encoded copy; only its flag is missing. */
static void encoded_redo(struct syn_mm *mm)
{
	const struct syn_rec_redo *redo = mm->redo;
	const struct syn_rec_move *mv = &mm->move[redo->move];
	struct syn_rec_page *pg = &mm->page[mv->page];
	uint32_t nr = mm->space[pg->space].nr_tiles;

	syn_failpoint();
	memcpy(syn_page_sums(mm, mv->page), redo->sum,
	       nr * sizeof(redo->sum[0]));
	syn_failpoint();
	memcpy(syn_page_errors(mm, mv->page), redo->error,
	       nr * sizeof(redo->error[0]));
	syn_commit(&pg->codec, (uint8_t)mv->codec);
	syn_commit(&pg->fidelity, SYN_FIDELITY_H4);
	syn_commit(&pg->host, mv->host);
}

static void encoded_mean(struct syn_mm *mm, uint32_t move)
{
	const struct syn_move_result *result = &mm->move_result[move];
	struct syn_rec_redo *redo = mm->redo;
	uint32_t page = mm->move[move].page;
	uint32_t nr = mm->space[mm->page[page].space].nr_tiles;

	redo->move = move;
	memcpy(redo->sum, result->stored, nr * sizeof(redo->sum[0]));
	memcpy(redo->error, result->error, nr * sizeof(redo->error[0]));
	syn_commit(&redo->state, SYN_REDO_ENCODED);
}

static void encoded_end(struct syn_mm *mm)
{
	syn_commit(&mm->redo->state, SYN_REDO_NONE);
}

/* The frame is the page's, and the record goes. */
static void move_keep(struct syn_mm *mm, uint32_t move)
{
	const struct syn_rec_move *mv = &mm->move[move];
	uint32_t page = mv->page;
	bool encoded = mv->codec != SYN_CODEC_RAW16;

	mm->page[page].host = mv->host;
	if (encoded) {
		encoded_mean(mm, move);
		encoded_redo(mm);
	}
	syn_page_change(mm, page, SYN_PAGE_F_HOST, 0);
	if (encoded)
		encoded_end(mm);
	(void)move_end(mm, move);
	mm->count.encoded += encoded;
}

void syn_move_redo(struct syn_mm *mm)
{
	struct syn_rec_page *pg = &mm->page[mm->move[mm->redo->move].page];

	if (mm->redo->state != SYN_REDO_ENCODED)
		return;
	encoded_redo(mm);
	syn_commit(&pg->flags, (uint16_t)(pg->flags | SYN_PAGE_F_HOST));
	encoded_end(mm);
}

static void move_copied(struct syn_mm *mm, uint32_t move)
{
	uint32_t page = mm->move[move].page;
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t tile = 0;

	encode_tell(mm, move, 0);
	if (syn_page_is(pg, SYN_PAGE_F_DYING) || pg->state == SYN_PAGE_LOST) {
		move_tell(mm, page, -ECANCELED);
		move_drop(mm, move);
		return;
	}
	if (syn_page_verify(mm, page, mm->move_result[move].sum, &tile)) {
		move_tell(mm, page, -EILSEQ);
		move_mismatch(mm, page, move_end(mm, move), tile);
		return;
	}
	move_keep(mm, move);
	mm->tier[0].out_bytes += mm->info[pg->space].bytes[pg->codec];
	mm->tier[1].in_bytes += mm->info[pg->space].bytes[pg->codec];
	if (!syn_page_is(pg, SYN_PAGE_F_LEAVING)) {
		move_tell(mm, page, -ECANCELED); /* wanted again meanwhile */
		return;
	}
	move_tell(mm, page, 0);
	mm->count.demotions++;
	leave_finish(mm, page);
}

/* Not all of it is finite: raw from now on. */
static void move_refused(struct syn_mm *mm, uint32_t move)
{
	uint32_t page = mm->move[move].page;

	encode_tell(mm, move, -EDOM);
	mm->page[page].advice |= SYN_PAGE_NOT_FINITE;
	mm->count.raw_fallbacks++;
	move_tell(mm, page, -EDOM);
	move_drop(mm, move);
}

static bool moves_left(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_window *w = syn_page_window(mm, page);
	uint32_t moves = w ? w->moves : mm->pool[mm->page[page].pool]->moves;

	return mm->move_free != SYN_NONE && moves < SYN_MOVES_WINDOW;
}

static void move_start(struct syn_mm *mm, uint32_t page, uint32_t host,
		       uint32_t codec, bool waits)
{
	uint32_t move = syn_kept_move_new(mm);

	mm->move[move] = (struct syn_rec_move){
		.page = page,
		.generation = mm->page[page].generation,
		.host = host,
		.codec = codec,
	};
	syn_commit(&mm->move[move].state, SYN_MOVE_DRAIN);
	mm->move_since_ns[move] = mm->now_ns;
	mm->nr_draining_moves++;
	syn_page_change(mm, page, SYN_PAGE_F_MOVING, 0);
	if (!waits)
		move_copy(mm, move);
}

static void move_leave(struct syn_mm *mm, uint32_t page, uint32_t host,
		       uint32_t codec)
{
	bool waits = leave_drain(mm, page);

	if (!waits && host == SYN_NONE) {
		mm->count.free_demotions++;
		leave_finish(mm, page);
	} else if (moves_left(mm, page)) {
		move_start(mm, page, host, codec, waits);
	} else {
		leave_undo(mm, page);
	}
}

/* SYN_CODEC_* for a copy that is to be made. */
static uint32_t move_codec(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t i;

	if (!mm->info[pg->space].coded || pg->advice & SYN_PAGE_NOT_FINITE ||
	    pg->advice == SYN_ADVISE_ANCHOR)
		return SYN_CODEC_RAW16;
	for (i = pg->lessee; i != SYN_NONE; i = mm->lessee[i].next)
		if (mm->lessee[i].flags & SYN_LESSEE_EXACT)
			return SYN_CODEC_RAW16;
	return mm->cfg.codec;
}

/* A frame for a copy of @page with @codec; SYN_MOVE_E_* when there is none. */
static int move_frame(struct syn_mm *mm, uint32_t page, uint32_t codec,
		      uint32_t session, uint32_t *ret)
{
	const struct syn_pool *pool = mm->pool[mm->page[page].pool];

	if (mm->now_ns < mm->retry_ns || !moves_left(mm, page))
		return SYN_MOVE_E_LATER;
	*ret = syn_host_frame(mm, syn_pool_below(pool, SYN_TIER_HOST, codec),
			      session);
	if (*ret != SYN_NONE)
		return 0;
	return syn_host_coming(mm) ? SYN_MOVE_E_LATER : SYN_MOVE_E_FULL;
}

/* An anchor no more: what was copied raw for that reason is copied anew. */
static void move_reencode(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (pg->codec != SYN_CODEC_RAW16 || !mm->info[pg->space].coded ||
	    syn_page_is(pg, SYN_PAGE_F_IO | SYN_PAGE_F_MOVING |
				    SYN_PAGE_F_DURABLE) ||
	    move_codec(mm, page) == SYN_CODEC_RAW16)
		return;
	if (syn_page_is(pg, SYN_PAGE_F_HOST))
		syn_page_host_free(mm, page);
	if (syn_page_is(pg, SYN_PAGE_F_NVME))
		syn_page_nvme_free(mm, page);
}

int syn_move_out(struct syn_mm *mm, uint32_t page, uint32_t session)
{
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t codec = SYN_CODEC_RAW16;
	uint32_t host = SYN_NONE;
	int r;

	if (leave_haunted(mm, page))
		return SYN_MOVE_E_PINNED;
	move_reencode(mm, page);
	if (!syn_page_is(pg, SYN_PAGE_F_HOST | SYN_PAGE_F_NVME)) {
		codec = move_codec(mm, page);
		r = move_frame(mm, page, codec, session, &host);
		if (r)
			return r;
	}
	syn_page_change(mm, page, SYN_PAGE_F_LEAVING, 0);
	syn_page_publish(mm, page);
	/* D of Documentation/concurrency.rst. */
	if (leave_pinned(mm, page)) {
		leave_undo(mm, page);
		if (host != SYN_NONE)
			syn_pool_frame_give(mm, host);
		return SYN_MOVE_E_PINNED;
	}
	move_leave(mm, page, host, codec);
	if (syn_page_is(pg, SYN_PAGE_F_LEAVING) ||
	    !syn_page_is(pg, SYN_PAGE_F_HBM))
		return 0;
	return SYN_MOVE_E_LATER;
}

int syn_move_copy(struct syn_mm *mm, uint32_t page, uint32_t session)
{
	uint32_t codec = move_codec(mm, page);
	uint32_t host;
	int r;

	r = move_frame(mm, page, codec, session, &host);
	if (!r)
		move_start(mm, page, host, codec, false);
	return r;
}

/* ---- in the background -------------------------------------------------- */

static bool move_look(struct syn_mm *mm, uint32_t move)
{
	uint32_t page = mm->move[move].page;
	const struct syn_rec_page *pg = &mm->page[page];
	bool late = mm->now_ns - mm->move_since_ns[move] > SYN_DRAIN_GIVE_UP;

	if (syn_page_is(pg, SYN_PAGE_F_DYING) || pg->state == SYN_PAGE_LOST ||
	    !syn_page_is(pg, SYN_PAGE_F_LEAVING)) {
		move_drop(mm, move);
		return true;
	}
	if (!leave_drained(mm, page)) {
		if (late)
			move_drop(mm, move);
		return late;
	}
	if (mm->move[move].host != SYN_NONE) {
		move_copy(mm, move);
		return true;
	}
	(void)move_end(mm, move);
	mm->count.free_demotions++;
	leave_finish(mm, page);
	return true;
}

static bool moves_look(struct syn_mm *mm)
{
	uint32_t left = mm->nr_draining_moves;
	bool moved = false;
	uint32_t i;

	for (i = 0; i < SYN_MOVES_MAX && left; i++) {
		if (mm->move[i].state != SYN_MOVE_DRAIN)
			continue;
		left--;
		moved |= move_look(mm, i);
	}
	return moved;
}

static bool moves_reap(struct syn_mm *mm)
{
	struct syn_copy_done done[MOVE_REAP];
	unsigned int nr;
	unsigned int i;
	bool moved = false;

	do {
		nr = mm->dev->ops->reap(mm->dev, done, MOVE_REAP);
		for (i = 0; i < nr; i++) {
			uint32_t move = (uint32_t)done[i].cookie;

			if (done[i].status == -EDOM)
				move_refused(mm, move);
			else if (done[i].status)
				move_failed(mm, move, done[i].status);
			else
				move_copied(mm, move);
			moved = true;
		}
	} while (nr == MOVE_REAP);
	return moved;
}

bool syn_move_poll(struct syn_mm *mm)
{
	bool reaped = moves_reap(mm);
	bool passed = syn_quarantine_poll(mm);

	return moves_look(mm) || reaped || passed;
}

static bool copies_out(const struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < SYN_MOVES_MAX; i++)
		if (mm->move[i].state == SYN_MOVE_COPY)
			return true;
	return false;
}

void syn_move_quiesce(struct syn_mm *mm)
{
	while (copies_out(mm))
		if (!moves_reap(mm))
			(void)sched_yield();
}
