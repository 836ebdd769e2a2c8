/* SPDX-License-Identifier: Apache-2.0 */
/* LOOKUP: read leases on the longest prefix that is present. */
#include "core/base/base.h"
#include "core/base/trace.h"
#include "core/index.h"
#include "core/lease.h"
#include "core/page.h"
#include "core/quarantine.h"

/* SYN_MISS_*; SYN_MISS_NONE and the page. */
static uint64_t lookup_find(struct syn_session *s, uint32_t space,
			    uint64_t floor, const uint64_t key[2],
			    uint32_t *ret_page)
{
	struct syn_mm *mm = s->mm;
	uint32_t page = syn_index_find(mm, s->cfg.domain, space, key);
	const struct syn_rec_page *pg;

	if (page == SYN_NONE)
		return SYN_MISS_NEVER;
	pg = &mm->page[page];
	if (pg->state == SYN_PAGE_LOST)
		return SYN_MISS_LOST;
	if (!syn_page_ready(mm, page))
		return SYN_MISS_NOT_READY;
	if (floor > pg->fidelity)
		return SYN_MISS_FIDELITY;
	if (!syn_lease_room(s, 1))
		return SYN_MISS_QUOTA;
	*ret_page = page;
	return SYN_MISS_NONE;
}

static uint64_t lookup_lease(struct syn_session *s, uint32_t window,
			     uint64_t floor, uint32_t page)
{
	struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_window *w = syn_window_of(s, mm->pool[pg->pool]);
	bool resident = syn_page_is(pg, SYN_PAGE_F_HBM);
	uint32_t l = syn_lease_new(
		s, page, window,
		(resident ? 0 : SYN_LESSEE_FOUND) |
			(floor > SYN_FIDELITY_H4 ? SYN_LESSEE_EXACT : 0));

	/* Nobody's slot is its first user's, within its guarantee. */
	if (resident && pg->charged == SYN_NONE16 && w->charged < w->slots)
		syn_page_charge(mm, page, (uint16_t)s->index);
	syn_page_change(mm, page, 0, 0);
	syn_lists_touch(mm, page);
	SYN_PROBE(lease, s->cfg.id, page);
	return syn_lease_handle(mm, l);
}

int syn_mm_lookup(struct syn_session *session, uint64_t window,
		  uint64_t fidelity, const struct syn_vec_key *keys,
		  uint32_t nr, uint64_t *ret_handles, uint64_t *ret_miss)
{
	struct syn_mm *mm = session->mm;
	uint64_t floor = fidelity ? fidelity : SYN_FIDELITY_RAW16;
	uint64_t miss = SYN_MISS_NONE;
	uint32_t space;
	uint32_t page;
	uint32_t i;

	if (!nr || nr > SYN_BATCH_MAX || window >= session->nr_windows)
		return -EINVAL;
	space = session->window[window][SYN_PLANE_CANONICAL].pool->space;
	for (i = 0; i < nr; i++) {
		miss = lookup_find(session, space, floor, keys[i].key, &page);
		if (miss != SYN_MISS_NONE)
			break;
		ret_handles[i] =
			lookup_lease(session, (uint32_t)window, floor, page);
	}
	session->lookup_hits += i;
	mm->count.lookup_hits += i;
	mm->count.lookup_misses += i < nr;
	if (i)
		SYN_PROBE(lookup_hit, session->cfg.id, i);
	if (i < nr)
		SYN_PROBE(lookup_miss, session->cfg.id, miss, i);
	*ret_miss = miss;
	return (int)i;
}
