/* SPDX-License-Identifier: Apache-2.0 */
/* PERSIST: sealed pages are brought to disk so that they survive a power cut. */
#include "core/base/base.h"
#include "core/host.h"
#include "core/lease.h"
#include "core/move.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/swap.h"

static int persist_check(const struct syn_session *s, uint64_t handle,
			 uint32_t *ret_page)
{
	const struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg;
	uint32_t lessee;
	int r;

	r = syn_lease_find(s, handle, &lessee);
	if (r)
		return r;
	*ret_page = mm->lessee[lessee].page;
	pg = &mm->page[*ret_page];
	if (pg->state == SYN_PAGE_LOST)
		return -EILSEQ;
	if (pg->state != SYN_PAGE_SEALED || !syn_page_is(pg, SYN_PAGE_F_KEYED))
		return -ENOKEY;
	return 0;
}

/* It is in a slot that was written without a promise: once more, from here. */
static int persist_read(struct syn_session *s, uint32_t page)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *pool =
		syn_pool_below(mm->pool[pg->pool], SYN_TIER_HOST, pg->codec);
	uint32_t frame = syn_host_frame(mm, pool, s->cfg.id);

	if (frame == SYN_NONE)
		return syn_host_coming(mm) ? SYN_MM_E_WAIT : SYN_E_BACKPRESSURE;
	if (syn_swap_in(mm, page, frame, s->cfg.id))
		syn_pool_frame_give(mm, frame);
	return SYN_MM_E_WAIT;
}

/* 0: it is durable; else one step on the way there. */
static int persist_one(struct syn_session *s, uint32_t page)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	int r;

	if (syn_page_is(pg, SYN_PAGE_F_DURABLE))
		return 0;
	if (!syn_page_ready(mm, page) ||
	    syn_page_is(pg, SYN_PAGE_F_IO | SYN_PAGE_F_MOVING |
				    SYN_PAGE_F_FILLING | SYN_PAGE_F_LEAVING))
		return SYN_MM_E_WAIT;
	if (syn_page_is(pg, SYN_PAGE_F_HOST)) {
		r = syn_swap_out(mm, page, true, s->cfg.id);
		return r == SYN_SWAP_E_FULL ? SYN_E_BACKPRESSURE
					    : SYN_MM_E_WAIT;
	}
	/* Encoded again it would lose more: its slot has what is to be written. */
	if (!syn_page_is(pg, SYN_PAGE_F_HBM) || pg->codec != SYN_CODEC_RAW16)
		return persist_read(s, page);
	r = syn_move_copy(mm, page, s->cfg.id);
	return r == SYN_MOVE_E_FULL ? SYN_E_BACKPRESSURE : SYN_MM_E_WAIT;
}

int syn_mm_persist(struct syn_session *session, const uint64_t *handles,
		   uint32_t nr)
{
	uint32_t page[SYN_BATCH_MAX];
	int wait = 0;
	uint32_t i;
	int r;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	if (!session->mm->disk)
		return -ENODEV;
	for (i = 0; i < nr; i++) {
		r = persist_check(session, handles[i], &page[i]);
		if (r)
			return r;
	}
	for (i = 0; i < nr; i++) {
		r = persist_one(session, page[i]);
		if (r == SYN_E_BACKPRESSURE)
			return r;
		if (r)
			wait = r;
	}
	return wait;
}
