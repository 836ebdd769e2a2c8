/* SPDX-License-Identifier: Apache-2.0 */
/* What synapsectl shows. */
#include "core/base/base.h"
#include "core/lease.h"
#include "core/page.h"
#include "core/session.h"

void syn_mm_stat(const struct syn_mm *mm, struct syn_ctl_status *ret)
{
	*ret = mm->count;
	ret->nr_sessions = mm->nr_sessions;
	ret->nr_pages = mm->nr_pages;
	ret->max_pages = mm->head->max_pages;
}

unsigned int syn_mm_stat_tiers(const struct syn_mm *mm,
			       struct syn_ctl_tier *ret, unsigned int max)
{
	unsigned int nr =
		syn_min(max, mm->disk ? SYN_QUOTA_TIERS : SYN_QUOTA_TIERS - 1);
	unsigned int i;

	for (i = 0; i < nr; i++) {
		const struct syn_tier_state *tier = &mm->tier[i];

		ret[i] = (struct syn_ctl_tier){
			.tier = SYN_TIER_HBM + i,
			.nr_extents = tier->nr_extents,
			.budget_bytes = tier->budget_bytes,
			.extent_bytes = tier->extent_bytes,
			.used_bytes = tier->used_bytes,
			.quarantine_bytes = tier->quarantine_bytes,
			.in_bytes = tier->in_bytes,
			.out_bytes = tier->out_bytes,
		};
	}
	return nr;
}

/* Walks the leases: for people, not for every request. */
static void stat_leases(const struct syn_session *s, struct syn_ctl_client *ret)
{
	const struct syn_mm *mm = s->mm;
	uint32_t at = 0;
	uint32_t l;

	while ((l = syn_session_lease(s, &at)) != SYN_NONE) {
		const struct syn_rec_page *pg = &mm->page[mm->lessee[l].page];

		ret->nr_pinned += !!SYN_PIN_COUNT(syn_lease_pins(mm, l));
		if (syn_page_is(pg, SYN_PAGE_F_HOST))
			ret->host_bytes += mm->info[pg->space].bytes[pg->codec];
	}
}

void syn_mm_stat_client(const struct syn_session *session, uint64_t now_ns,
			struct syn_ctl_client *ret)
{
	uint32_t i;
	uint32_t p;

	*ret = (struct syn_ctl_client){
		.session = session->cfg.id,
		.pid = session->cfg.pid,
		.uid = session->cfg.uid,
		.domain = session->cfg.domain,
		.nr_leases = session->nr_leases,
		.nr_loans = syn_mm_loans(session),
		.state = session->ended ? SYN_CLIENT_QUARANTINE
					: SYN_CLIENT_LIVE,
		.attached_ns = now_ns - session->cfg.now_ns,
		.faults = session->faults,
		.demotions = session->demotions,
		.lookup_hits = session->lookup_hits,
	};
	memcpy(ret->name, session->cfg.name, sizeof(ret->name));
	for (i = 0; i < session->nr_windows; i++)
		for (p = 0; p < SYN_PLANES; p++) {
			ret->slots += session->window[i][p].slots;
			ret->slots_charged += session->window[i][p].charged;
		}
	stat_leases(session, ret);
}

/* The session that writes the page or is charged for its slot. */
static uint32_t stat_session(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_window *w = syn_page_window(mm, page);
	uint32_t l = mm->page[page].lessee;

	if (w)
		return w->session->cfg.id;
	if (l != SYN_NONE && mm->lessee[l].flags & SYN_LESSEE_WRITE)
		return mm->session[mm->lessee[l].session]->cfg.id;
	return SYN_NONE;
}

/* What its tiles have lost: the worst and the mean. */
static void stat_error(const struct syn_mm *mm, uint32_t page,
		       struct syn_ctl_page *ret)
{
	const uint16_t *error = syn_page_errors(mm, page);
	uint32_t nr = mm->space[mm->page[page].space].nr_tiles;
	uint64_t sum = 0;
	uint32_t i;

	if (mm->page[page].codec == SYN_CODEC_RAW16)
		return;
	for (i = 0; i < nr; i++) {
		ret->error = syn_max(ret->error, (uint32_t)error[i]);
		sum += error[i];
	}
	ret->error_mean = (uint32_t)(sum / nr);
}

static void stat_page(const struct syn_mm *mm, uint32_t page,
		      struct syn_ctl_page *ret)
{
	const struct syn_rec_page *pg = &mm->page[page];

	*ret = (struct syn_ctl_page){
		.index = page,
		.generation = pg->generation,
		.key = { pg->key[0], pg->key[1] },
		.space = pg->space,
		.domain = pg->domain,
		.state = pg->state,
		.flags = pg->flags & SYN_PAGE_F_PUBLIC,
		.codec = pg->codec,
		.fidelity = pg->fidelity,
		.tokens = pg->tokens,
		.nr_lessees = pg->nr_lessees,
		.slot = syn_page_is(pg, SYN_PAGE_F_HBM) ? pg->slot : SYN_NONE,
		.demotions = pg->demotions,
		.loads = pg->loads,
		.share = pg->share,
		.session = stat_session(mm, page),
		.advice = pg->advice & SYN_PAGE_ADVICE,
	};
	if (pg->advice & SYN_PAGE_NOT_FINITE)
		ret->flags |= SYN_PAGE_F_NOT_FINITE;
	if (ret->slot != SYN_NONE && syn_slot_plane(ret->slot))
		ret->flags |= SYN_PAGE_F_CODED;
	stat_error(mm, page, ret);
}

unsigned int syn_mm_stat_pages(const struct syn_mm *mm, uint64_t cursor,
			       struct syn_ctl_page *ret, unsigned int max,
			       uint64_t *ret_next)
{
	unsigned int nr = 0;
	uint64_t i;

	for (i = cursor; i < mm->page_used && nr < max; i++)
		if (mm->page[i].state != SYN_PAGE_FREE)
			stat_page(mm, (uint32_t)i, &ret[nr++]);
	*ret_next = i < mm->page_used ? i : 0;
	return nr;
}
