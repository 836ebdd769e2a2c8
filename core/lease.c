/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: a lessee record on a page, and its entry in a page table. */
#include "core/lease.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/kept.h"
#include "core/page.h"
#include "core/request.h"

bool syn_lease_room(const struct syn_session *session, uint32_t nr)
{
	return session->cfg.nr_pages - session->nr_leases >= nr &&
	       syn_kept_lessees_left(session->mm) >= nr;
}

static uint32_t map_take(struct syn_session *s)
{
	uint32_t pte = s->map_free;

	if (pte != SYN_NONE) {
		uint32_t next = s->map[pte] & ~SYN_MAP_FREE;

		s->map_free = next == ~SYN_MAP_FREE ? SYN_NONE : next;
	} else {
		pte = s->map_used++;
	}
	s->nr_leases++;
	return pte;
}

static void map_give(struct syn_session *s, uint32_t pte)
{
	s->map[pte] = s->map_free | SYN_MAP_FREE;
	s->map_free = pte;
	s->nr_leases--;
}

static uint32_t next_generation(uint64_t pte)
{
	uint32_t generation = SYN_PTE_GENERATION(pte) + 1;

	return generation ? generation : 1;
}

void syn_lease_link(struct syn_mm *mm, uint32_t lessee)
{
	struct syn_rec_lessee *l = &mm->lessee[lessee];
	struct syn_rec_page *pg = &mm->page[l->page];

	l->prev = SYN_NONE;
	l->next = pg->lessee;
	if (l->next != SYN_NONE)
		mm->lessee[l->next].prev = lessee;
	pg->lessee = lessee;
}

uint32_t syn_lease_new(struct syn_session *session, uint32_t page,
		       uint32_t window, uint32_t flags)
{
	struct syn_mm *mm = session->mm;
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t i = syn_kept_lessee_new(mm);
	struct syn_rec_lessee *l = &mm->lessee[i];
	uint32_t pte = map_take(session);

	session->map[pte] = i;
	l->page = page;
	l->session = (uint16_t)session->index;
	l->window = (uint8_t)window;
	l->pte = pte;
	l->generation = next_generation(session->cfg.pte[pte]);
	l->uses = (uint16_t)SYN_PIN_USES(syn_lease_pins(mm, i));
	syn_request_gives(mm, i);
	syn_commit(&l->flags, (uint8_t)(flags | SYN_LESSEE_USED));
	syn_lease_link(mm, i);
	pg->nr_lessees++;
	syn_failpoint();
	syn_store_release(&session->cfg.pte[pte],
			  syn_page_pte(pg, l->generation));
	return i;
}

int syn_lease_find(const struct syn_session *session, uint64_t handle,
		   uint32_t *ret_lessee)
{
	uint32_t pte = SYN_HANDLE_INDEX(handle);
	uint32_t i;

	if (pte >= session->map_used)
		return -ESTALE;
	i = session->map[pte];
	if (i & SYN_MAP_FREE ||
	    session->mm->lessee[i].generation != SYN_HANDLE_GENERATION(handle))
		return -ESTALE;
	*ret_lessee = i;
	return 0;
}

uint64_t syn_lease_handle(const struct syn_mm *mm, uint32_t lessee)
{
	const struct syn_rec_lessee *l = &mm->lessee[lessee];

	return SYN_HANDLE(l->generation, l->pte);
}

uint32_t syn_lease_pins(const struct syn_mm *mm, uint32_t lessee)
{
	const struct syn_rec_lessee *l = &mm->lessee[lessee];

	return syn_load_seq_cst(&mm->session[l->session]->cfg.pin[l->pte]);
}

void syn_lease_end(struct syn_mm *mm, uint32_t lessee)
{
	struct syn_rec_lessee *l = &mm->lessee[lessee];
	struct syn_session *s = mm->session[l->session];

	syn_commit(&l->flags, (uint8_t)(l->flags | SYN_LESSEE_GONE));
	mm->page[l->page].nr_lessees--;
	/* Whoever waits for it still will say so again. */
	syn_page_change(mm, l->page, 0, SYN_PAGE_F_WANTED);
	syn_failpoint();
	syn_store_release(&s->cfg.pte[l->pte],
			  SYN_PTE(l->generation, SYN_PTE_NONE, 0));
	map_give(s, l->pte);
}

void syn_lease_free(struct syn_mm *mm, uint32_t lessee)
{
	struct syn_rec_lessee *l = &mm->lessee[lessee];

	if (l->prev == SYN_NONE)
		mm->page[l->page].lessee = l->next;
	else
		mm->lessee[l->prev].next = l->next;
	if (l->next != SYN_NONE)
		mm->lessee[l->next].prev = l->prev;
	syn_kept_lessee_free(mm, lessee);
}

/* ---- adoption ----------------------------------------------------------- */

void syn_lease_adopt(struct syn_mm *mm, uint32_t lessee)
{
	const struct syn_rec_lessee *l = &mm->lessee[lessee];
	struct syn_session *s = mm->session[l->session];

	syn_lease_link(mm, lessee);
	if (l->flags & SYN_LESSEE_GONE)
		return;
	mm->page[l->page].nr_lessees++;
	s->map[l->pte] = lessee;
	s->nr_leases++;
}

/* An entry without a lease: not for a client, and the next to be given. */
static void entry_adopt(struct syn_session *s, uint32_t i)
{
	uint64_t *pte = &s->cfg.pte[i];

	if (SYN_PTE_STATE(*pte) != SYN_PTE_NONE)
		syn_commit(pte,
			   SYN_PTE(SYN_PTE_GENERATION(*pte), SYN_PTE_NONE, 0));
	if (i >= s->map_used)
		return;
	s->map[i] = s->map_free | SYN_MAP_FREE;
	s->map_free = i;
}

void syn_lease_adopt_entries(struct syn_session *session)
{
	const struct syn_mm *mm = session->mm;
	uint32_t i = session->cfg.nr_pages;

	while (i && session->map[i - 1] == SYN_NONE)
		i--;
	session->map_used = i;
	for (i = session->cfg.nr_pages; i--;) {
		const struct syn_rec_lessee *l;

		if (session->map[i] == SYN_NONE) {
			entry_adopt(session, i);
			continue;
		}
		l = &mm->lessee[session->map[i]];
		syn_commit(&session->cfg.pte[i],
			   syn_page_pte(&mm->page[l->page], l->generation));
	}
}
