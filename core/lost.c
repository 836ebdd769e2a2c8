/* SPDX-License-Identifier: Apache-2.0 */
/* Lost extents: when clients may be told to unmap them. */
#include "core/lost.h"

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/extent.h"
#include "core/page.h"
#include "core/quarantine.h"

/* Entries that are looked at in one poll, of a session. */
#define LOST_LOOK 1024u

/* Who writes a page need not pin it, and has perhaps not seen that it is lost. */
static bool entry_is_written(const struct syn_session *s, uint32_t pte)
{
	const struct syn_mm *mm = s->mm;
	const struct syn_rec_lessee *l = &mm->lessee[s->map[pte]];

	if (s->map[pte] & SYN_MAP_FREE)
		return false;
	return l->flags & SYN_LESSEE_WRITE &&
	       mm->page[l->page].state == SYN_PAGE_LOST;
}

/* C and D of Documentation/concurrency.rst; adoption wrote the entry otherwise. */
static bool entry_is_used(const struct syn_session *s, uint32_t pte)
{
	syn_store_seq_cst(&s->cfg.pte[pte], s->cfg.pte[pte]);
	return SYN_PIN_COUNT(syn_load_seq_cst(&s->cfg.pin[pte])) ||
	       entry_is_written(s, pte);
}

static bool entries_used(struct syn_session *s)
{
	uint32_t look = LOST_LOOK;

	while (s->lost_pte < s->map_used && look--) {
		if (entry_is_used(s, s->lost_pte))
			return true;
		s->lost_pte++;
	}
	return s->lost_pte < s->map_used;
}

/* Its slot is lost, or the frame that it reads. */
static bool loan_is_lost(const struct syn_session *s, uint32_t loan)
{
	uint32_t page = s->loan_page[loan];

	return page == SYN_NONE ||
	       !syn_page_is(&s->mm->page[page], SYN_PAGE_F_HOST);
}

static bool loans_used(const struct syn_session *s)
{
	uint32_t i;

	for (i = 0; s->nr_loans && i < SYN_LOANS_MAX; i++)
		if (!syn_bit_test(s->loans_free, i) && loan_is_lost(s, i))
			return true;
	return false;
}

static bool session_uses(struct syn_session *s)
{
	if (!s->lost_drains) {
		if (entries_used(s) || loans_used(s))
			return true;
		s->lost_drains = syn_drain_begin(s, &s->lost_epoch);
	}
	return s->lost_drains && !syn_drain_done(s, s->lost_epoch);
}

static bool session_has(const struct syn_session *s, uint32_t id)
{
	const struct syn_extent *ext = s->mm->extent[id];

	return ext && ext->lost && syn_bit_test(s->told, id);
}

static void session_gives_up(struct syn_session *s)
{
	uint32_t id;

	for (id = 0; id < SYN_EXTENTS_MAX; id++)
		if (session_has(s, id))
			syn_extent_give_up(s, id);
	syn_list_del(&s->losing);
}

bool syn_lost_poll(struct syn_mm *mm)
{
	struct syn_session *s;
	struct syn_session *tmp;
	bool moved = false;

	syn_list_for_each_safe (s, tmp, &mm->losing, losing) {
		if (session_uses(s))
			continue;
		session_gives_up(s);
		moved = true;
	}
	return moved;
}

static bool session_loses(const struct syn_session *s)
{
	uint32_t id;

	for (id = 0; id < SYN_EXTENTS_MAX; id++)
		if (session_has(s, id))
			return true;
	return false;
}

void syn_lost_adopt(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++) {
		struct syn_session *s = mm->session[i];

		if (s && !s->ended && session_loses(s))
			syn_list_add_tail(&mm->losing, &s->losing);
	}
	for (i = 0; i < SYN_EXTENTS_MAX; i++)
		if (mm->extent[i] && mm->extent[i]->lost &&
		    !mm->extent[i]->nr_told)
			syn_extent_free(mm, mm->extent[i]);
}
