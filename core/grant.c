/* SPDX-License-Identifier: Apache-2.0 */
/* LEASE, COMMIT, RELEASE, REPORT and ADVISE. */
#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/kept.h"
#include "core/lease.h"
#include "core/lists.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/reclaim.h"
#include "core/request.h"

/* What is written is canonical. */
static struct syn_window *lease_window(struct syn_session *s, uint64_t window)
{
	return &s->window[window][SYN_PLANE_CANONICAL];
}

/* Finds all leases of a batch before anything is done. */
static int lease_find_write(const struct syn_session *s, uint64_t handle,
			    uint32_t *ret_lessee)
{
	int r = syn_lease_find(s, handle, ret_lessee);

	if (r)
		return r;
	return s->mm->lessee[*ret_lessee].flags & SYN_LESSEE_WRITE ? 0 : -EPERM;
}

/* ---- LEASE -------------------------------------------------------------- */

static int lease_check(struct syn_session *s, uint64_t window, uint32_t nr)
{
	struct syn_mm *mm = s->mm;

	if (!nr || nr > SYN_BATCH_MAX || window >= s->nr_windows)
		return -EINVAL;
	if (nr > lease_window(s, window)->slots)
		return -E2BIG;
	if (s->cfg.nr_pages - s->nr_leases < nr)
		return -EDQUOT;
	if (syn_kept_pages_left(mm) < nr)
		(void)syn_reclaim_evict(mm, nr - syn_kept_pages_left(mm),
					SYN_WHY_EVICTED, s->cfg.id);
	/* Others may give theirs back. */
	if (syn_kept_pages_left(mm) < nr || !syn_lease_room(s, nr))
		return SYN_E_BACKPRESSURE;
	return 0;
}

static int lease_one(struct syn_session *s, uint32_t window,
		     uint64_t *ret_handle)
{
	struct syn_mm *mm = s->mm;
	uint32_t page = syn_page_new(mm, lease_window(s, window));
	uint32_t l;

	if (page == SYN_NONE)
		return SYN_E_BACKPRESSURE;
	l = syn_lease_new(s, page, window, SYN_LESSEE_WRITE);
	*ret_handle = syn_lease_handle(mm, l);
	SYN_PROBE(lease, s->cfg.id, page);
	return 0;
}

/* Nobody has seen these pages: they go without a wait. */
static void lease_undo(struct syn_session *s, const uint64_t *handles,
		       uint32_t nr)
{
	while (nr--)
		syn_quarantine_lease(
			s->mm, s->map[SYN_HANDLE_INDEX(handles[nr])], false, 0);
}

int syn_mm_lease(struct syn_session *session, uint64_t window, uint32_t nr,
		 uint64_t *ret_handles, uint64_t *ret_hint_ns)
{
	uint32_t i;
	int r;

	r = lease_check(session, window, nr);
	if (!r)
		r = syn_reclaim_room(lease_window(session, window), nr);
	if (r)
		return syn_reclaim_refuse(session, r, SYN_OP_LEASE,
					  ret_hint_ns);
	for (i = 0; i < nr; i++) {
		r = lease_one(session, (uint32_t)window, &ret_handles[i]);
		if (r) {
			lease_undo(session, ret_handles, i);
			return syn_reclaim_refuse(session, r, SYN_OP_LEASE,
						  ret_hint_ns);
		}
	}
	session->mm->count.leases += nr;
	syn_reclaim_balance(lease_window(session, window));
	return 0;
}

/* ---- COMMIT ------------------------------------------------------------- */

static int commit_check(const struct syn_session *s,
			const struct syn_vec_commit *vec, uint32_t *ret_lessee)
{
	const struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg;
	int r;

	r = lease_find_write(s, vec->handle, ret_lessee);
	if (r)
		return r;
	pg = &mm->page[mm->lessee[*ret_lessee].page];
	if (vec->pad0 || vec->tokens < pg->tokens ||
	    vec->tokens > mm->space[pg->space].tokens)
		return -EINVAL;
	return pg->state == SYN_PAGE_LOST ? -EILSEQ : 0;
}

/* The same page twice in a batch: its largest count stands. */
static void commit_one(struct syn_session *s, uint32_t lessee, uint32_t tokens)
{
	struct syn_mm *mm = s->mm;
	uint32_t page = mm->lessee[lessee].page;
	struct syn_rec_page *pg = &mm->page[page];

	syn_commit(&pg->tokens, syn_max(pg->tokens, tokens));
	SYN_PROBE(commit, s->cfg.id, page, pg->tokens);
	if (pg->state != SYN_PAGE_OPEN ||
	    pg->tokens < mm->space[pg->space].tokens)
		return;
	syn_commit(&pg->state, SYN_PAGE_FULL);
	syn_page_change(mm, page, 0, 0);
}

int syn_mm_commit(struct syn_session *session, const struct syn_vec_commit *vec,
		  uint32_t nr)
{
	uint32_t lessee[SYN_BATCH_MAX];
	uint32_t i;
	int r;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		r = commit_check(session, &vec[i], &lessee[i]);
		if (r)
			return r;
	}
	for (i = 0; i < nr; i++)
		commit_one(session, lessee[i], vec[i].tokens);
	session->mm->count.commits += nr;
	for (i = 0; i < session->nr_windows; i++)
		syn_reclaim_balance(lease_window(session, i));
	return 0;
}

/* ---- RELEASE ------------------------------------------------------------ */

static int release_check(const struct syn_session *s, uint64_t handle,
			 uint32_t *ret_lessee)
{
	struct syn_mm *mm = s->mm;
	int r;

	r = syn_lease_find(s, handle, ret_lessee);
	/* It was given back before a worker died. */
	if (r == -ESTALE && syn_request_again(mm)) {
		*ret_lessee = SYN_NONE;
		return 0;
	}
	if (r)
		return r;
	if (mm->lessee[*ret_lessee].flags & SYN_LESSEE_BATCH)
		return -EINVAL;
	if (SYN_PIN_COUNT(syn_lease_pins(mm, *ret_lessee)))
		return -EBUSY;
	mm->lessee[*ret_lessee].flags |= SYN_LESSEE_BATCH;
	return 0;
}

/* Marks each lessee, so that one that comes twice is seen. */
static int release_find(const struct syn_session *s, const uint64_t *handles,
			uint32_t nr, uint32_t *ret_lessee)
{
	struct syn_mm *mm = s->mm;
	uint32_t done;
	uint32_t i;
	int r = 0;

	for (done = 0; done < nr && !r; done += !r)
		r = release_check(s, handles[done], &ret_lessee[done]);
	for (i = 0; i < done; i++)
		if (ret_lessee[i] != SYN_NONE)
			mm->lessee[ret_lessee[i]].flags &=
				(uint8_t)~SYN_LESSEE_BATCH;
	return r;
}

int syn_mm_release(struct syn_session *session, const uint64_t *handles,
		   uint32_t nr)
{
	struct syn_mm *mm = session->mm;
	uint32_t lessee[SYN_BATCH_MAX];
	uint16_t epoch = 0;
	bool wait;
	uint32_t i;
	int r;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	r = release_find(session, handles, nr, lessee);
	if (r)
		return r;
	syn_request_certain(mm, 0);
	wait = syn_drain_begin(session, &epoch);
	for (i = 0; i < nr; i++) {
		if (lessee[i] == SYN_NONE)
			continue;
		SYN_PROBE(release, session->cfg.id, mm->lessee[lessee[i]].page,
			  mm->page[mm->lessee[lessee[i]].page].nr_lessees - 1);
		syn_quarantine_lease(mm, lessee[i], wait, epoch);
	}
	mm->count.releases += nr;
	mm->progress = true;
	return 0;
}

/* ---- REPORT ------------------------------------------------------------- */

int syn_mm_report(struct syn_session *session, const struct syn_vec_share *vec,
		  uint32_t nr)
{
	struct syn_mm *mm = session->mm;
	uint32_t lessee[SYN_BATCH_MAX];
	uint32_t i;
	int r;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		r = syn_lease_find(session, vec[i].handle, &lessee[i]);
		if (r)
			return r;
	}
	for (i = 0; i < nr; i++) {
		uint32_t page = mm->lessee[lessee[i]].page;
		struct syn_rec_page *pg = &mm->page[page];

		if (__builtin_add_overflow(pg->share, vec[i].share, &pg->share))
			pg->share = UINT32_MAX;
		syn_lists_touch(mm, page);
	}
	return 0;
}

/* ---- ADVISE ------------------------------------------------------------- */

static void advise_one(struct syn_mm *mm, uint32_t page, uint32_t advice)
{
	struct syn_rec_page *pg = &mm->page[page];

	pg->advice = (uint8_t)((pg->advice & ~SYN_PAGE_ADVICE) | advice);
	if (advice == SYN_ADVISE_COLD)
		syn_lists_cool(mm, page);
}

int syn_mm_advise(struct syn_session *session, const struct syn_vec_advise *vec,
		  uint32_t nr)
{
	struct syn_mm *mm = session->mm;
	uint32_t lessee[SYN_BATCH_MAX];
	uint32_t i;
	int r;

	if (!nr || nr > SYN_BATCH_MAX)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		if (vec[i].advice > SYN_ADVISE_COLD || vec[i].pad0)
			return -EINVAL;
		r = syn_lease_find(session, vec[i].handle, &lessee[i]);
		if (r)
			return r;
	}
	for (i = 0; i < nr; i++)
		advise_one(mm, mm->lessee[lessee[i]].page, vec[i].advice);
	return 0;
}
