/* SPDX-License-Identifier: Apache-2.0 */
/* Adoption: what a worker that is gone has kept. */
#include "core/adopt.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/depart.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/kept.h"
#include "core/lease.h"
#include "core/load.h"
#include "core/lost.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"
#include "core/session.h"
#include "core/space.h"
#include "core/swap.h"

/* What was under way, and what is derived. */
#define ADOPT_PASSING                                                          \
	(SYN_PAGE_F_HELD | SYN_PAGE_F_WANTED | SYN_PAGE_F_LEAVING |            \
	 SYN_PAGE_F_MOVING | SYN_PAGE_F_IO | SYN_PAGE_F_DYING |                \
	 SYN_PAGE_F_LRU | SYN_PAGE_F_WAITS)

/* ---- what needs no session ---------------------------------------------- */

static void adopt_domains(struct syn_mm *mm)
{
	mm->nr_domains = SYN_DOMAINS_MAX;
	while (mm->nr_domains && !syn_domain_exists(mm, mm->nr_domains - 1))
		mm->nr_domains--;
}

static int adopt_extent(struct syn_mm *mm, uint32_t id)
{
	struct syn_rec_extent *rec = &mm->rec_extent[id];
	struct syn_pool *pool;
	int r;

	/* Nothing is in it. */
	if (rec->state == SYN_EXTENT_CUTTING)
		rec->state = SYN_EXTENT_FREE;
	if (rec->state == SYN_EXTENT_FREE)
		return 0;
	r = syn_pool_adopt(mm, rec, &pool);
	return r ? r : syn_extent_adopt(mm, pool, id);
}

int syn_adopt_begin(struct syn_mm *mm, struct syn_misfit *ret_misfit)
{
	uint32_t id;
	int r = 0;

	syn_space_adopt(mm);
	adopt_domains(mm);
	for (id = 0; id < SYN_EXTENTS_MAX && !r; id++) {
		*ret_misfit =
			(struct syn_misfit){ .what = "extent", .was = id };
		r = adopt_extent(mm, id);
	}
	return r;
}

/* ---- who is not there ---------------------------------------------------- */

/* First: what is let go now, nobody comes back to. */
static void adopt_gone(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (!mm->session[i] &&
		    mm->rec_session[i].state != SYN_SESSION_FREE)
			syn_commit(&mm->rec_session[i].state, SYN_SESSION_FREE);
}

/* ---- lessees ------------------------------------------------------------ */

/* Who is not there any more has no leases. */
static void adopt_lessee(struct syn_mm *mm, uint32_t lessee)
{
	struct syn_rec_lessee *l = &mm->lessee[lessee];
	uint32_t passing = SYN_LESSEE_WAIT | SYN_LESSEE_BATCH | SYN_LESSEE_TOLD;

	if (!l->flags)
		return;
	syn_commit(
		&l->flags,
		(uint8_t)(mm->session[l->session] ? l->flags & ~passing : 0));
}

/* The sealer's last words came before its page was sealed, or never. */
static void adopt_writer(struct syn_mm *mm, uint32_t lessee)
{
	struct syn_rec_lessee *l = &mm->lessee[lessee];

	if (l->flags & SYN_LESSEE_WRITE &&
	    mm->page[l->page].state == SYN_PAGE_SEALED)
		l->flags &= (uint8_t)~SYN_LESSEE_WRITE;
}

static void adopt_leases(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->lessee_used; i++) {
		if (!mm->lessee[i].flags)
			continue;
		adopt_writer(mm, i);
		syn_lease_adopt(mm, i);
	}
}

/* ---- pages -------------------------------------------------------------- */

static int adopt_pool(struct syn_mm *mm, struct syn_rec_page *pg,
		      struct syn_pool **ret)
{
	uint32_t plane = SYN_PLANE_CANONICAL;
	int r;

	if (syn_page_is(pg, SYN_PAGE_F_HBM))
		plane = syn_slot_plane(pg->slot);
	r = syn_pool_get(mm, pg->domain, pg->space, plane, ret);
	if (r)
		return r;
	pg->pool = (uint16_t)(*ret)->index;
	(*ret)->nr_users++;
	return 0;
}

/* Its slot is in quarantine already, or nothing is on its way into it. */
static bool adopt_slot_gone(struct syn_mm *mm, uint32_t page,
			    const struct syn_pool *pool)
{
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_extent *ext;
	uint32_t frame;

	ext = syn_pool_slot(pool, pg->slot, &frame);
	if (syn_extent_is_used(ext, frame))
		return true;
	return syn_page_is(pg, SYN_PAGE_F_FILLING) &&
	       !(pg->charged != SYN_NONE16 && mm->session[pg->charged] &&
		 syn_load_adopt(mm, page));
}

/* The places that it had in extents that are lost. */
static uint32_t adopt_places_lost(const struct syn_mm *mm,
				  const struct syn_rec_page *pg,
				  const struct syn_pool *pool)
{
	uint32_t places = 0;
	uint32_t frame;

	if (syn_page_is(pg, SYN_PAGE_F_HBM) &&
	    syn_pool_slot(pool, pg->slot, &frame)->lost)
		places |= SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING;
	if (syn_page_is(pg, SYN_PAGE_F_HOST) &&
	    mm->extent[SYN_FRAME_EXTENT(pg->host)]->lost)
		places |= SYN_PAGE_F_HOST;
	return places;
}

/* Of an encoded page what is below counts: nothing can be made of the rest. */
static bool adopt_is_nowhere(const struct syn_rec_page *pg, uint32_t flags)
{
	uint32_t places = SYN_PAGE_F_HOST | SYN_PAGE_F_NVME;

	if (pg->codec == SYN_CODEC_RAW16)
		places |= SYN_PAGE_F_HBM;
	return !(flags & places);
}

/* Nobody can say any more whether what it was sealed with has been written. */
static bool adopt_unready(const struct syn_mm *mm,
			  const struct syn_rec_page *pg)
{
	return syn_page_is(pg, SYN_PAGE_F_KEYED) &&
	       !syn_page_is(pg, SYN_PAGE_F_READY) &&
	       !mm->session[pg->ready_session];
}

static void adopt_flags(struct syn_mm *mm, uint32_t page,
			const struct syn_pool *pool)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t lost = adopt_places_lost(mm, pg, pool);
	uint32_t flags = pg->flags & ~(ADOPT_PASSING | lost);

	if (!(flags & SYN_PAGE_F_HBM) || adopt_slot_gone(mm, page, pool))
		flags &= ~(SYN_PAGE_F_HBM | SYN_PAGE_F_FILLING);
	if (lost && adopt_is_nowhere(pg, flags))
		pg->advice |= SYN_PAGE_DEVICE;
	if (!(flags & SYN_PAGE_F_NVME))
		flags &= ~SYN_PAGE_F_DURABLE;
	if (adopt_unready(mm, pg))
		flags &= ~SYN_PAGE_F_KEYED;
	syn_commit(&pg->flags, (uint16_t)flags);
}

/* What its flags do not vouch for. */
static void adopt_members(struct syn_mm *mm, struct syn_rec_page *pg)
{
	pg->below = 0;
	pg->lessee = SYN_NONE;
	pg->nr_lessees = 0;
	if (!syn_page_is(pg, SYN_PAGE_F_HBM)) {
		pg->slot = SYN_NONE;
		pg->charged = SYN_NONE16;
	}
	if (pg->charged != SYN_NONE16 && !mm->session[pg->charged])
		pg->charged = SYN_NONE16;
	if (!syn_page_is(pg, SYN_PAGE_F_HOST))
		pg->host = SYN_NONE;
	if (!syn_page_is(pg, SYN_PAGE_F_NVME))
		pg->nvme = SYN_NONE;
	if (!syn_page_is(pg, SYN_PAGE_F_KEYED)) {
		pg->key[0] = 0;
		pg->key[1] = 0;
	}
}

/* A key is given to what is sealed; a page that is nowhere is lost. */
static void adopt_state(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (syn_page_is(pg, SYN_PAGE_F_KEYED) && pg->state == SYN_PAGE_FULL)
		pg->state = SYN_PAGE_SEALED;
	if (!adopt_is_nowhere(pg, pg->flags) || pg->state == SYN_PAGE_LOST)
		return;
	pg->state = SYN_PAGE_LOST;
	if (!(pg->advice & SYN_PAGE_DEVICE))
		return;
	mm->count.sum_failures++;
	if (syn_page_is(pg, SYN_PAGE_F_KEYED))
		syn_depart(mm, page, SYN_WHY_DEVICE, 0, SYN_NONE);
}

static void adopt_frames(struct syn_mm *mm, const struct syn_rec_page *pg,
			 const struct syn_pool *pool)
{
	struct syn_extent *ext;
	uint32_t frame;

	if (syn_page_is(pg, SYN_PAGE_F_HBM)) {
		ext = syn_pool_slot(pool, pg->slot, &frame);
		syn_extent_use(mm, ext, frame);
	}
	if (syn_page_is(pg, SYN_PAGE_F_HOST))
		syn_extent_use(mm, mm->extent[SYN_FRAME_EXTENT(pg->host)],
			       SYN_FRAME_INDEX(pg->host));
	if (syn_page_is(pg, SYN_PAGE_F_NVME)) {
		ext = mm->extent[SYN_FRAME_EXTENT(pg->nvme)];
		syn_extent_use(mm, ext, SYN_FRAME_INDEX(pg->nvme));
		mm->domain[pg->domain].used[SYN_TIER_NVME - SYN_TIER_HBM] +=
			ext->pool->frame_bytes;
	}
}

static int adopt_page(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *pool;
	int r;

	r = adopt_pool(mm, pg, &pool);
	if (r)
		return r;
	adopt_flags(mm, page, pool);
	adopt_members(mm, pg);
	adopt_state(mm, page);
	adopt_frames(mm, pg, pool);
	return 0;
}

static int adopt_pages(struct syn_mm *mm)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < mm->page_used && !r; i++)
		if (mm->page[i].state != SYN_PAGE_FREE)
			r = adopt_page(mm, i);
	return r;
}

static void adopt_places(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->page_used; i++)
		if (mm->page[i].state != SYN_PAGE_FREE)
			syn_page_adopt(mm, i);
}

static void adopt_settle(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->page_used; i++)
		if (mm->page[i].state != SYN_PAGE_FREE)
			syn_page_adopt_settle(mm, i);
}

/* ---- the request at hand ------------------------------------------------ */

int syn_mm_at_hand(const struct syn_mm *mm, uint32_t *ret_session,
		   uint64_t *ret_cookie)
{
	const struct syn_rec_request *rec = &mm->head->request;

	if (rec->state == SYN_REQUEST_NONE)
		return 0;
	*ret_session = mm->rec_session[rec->session].id;
	*ret_cookie = rec->cookie;
	return 1;
}

/* Nobody has heard of what it gave. */
static void adopt_untell(struct syn_mm *mm)
{
	const struct syn_rec_request *rec = &mm->head->request;
	uint32_t i;

	for (i = 0; i < rec->nr_given; i++) {
		uint32_t l = rec->given[i];

		if (mm->lessee[l].flags & SYN_LESSEE_USED &&
		    !(mm->lessee[l].flags & SYN_LESSEE_GONE))
			syn_quarantine_lease(mm, l, false, 0);
	}
	syn_load_untell(mm->session[rec->session], rec->loans);
}

static void adopt_request(struct syn_mm *mm)
{
	struct syn_rec_request *rec = &mm->head->request;
	bool there = mm->session[rec->session];

	if (there && rec->state == SYN_REQUEST_BEGUN)
		adopt_untell(mm);
	if (!there || rec->state == SYN_REQUEST_BEGUN)
		syn_commit(&rec->state, SYN_REQUEST_NONE);
}

/* ---- sessions ----------------------------------------------------------- */

static void adopt_sessions(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++) {
		if (!mm->session[i])
			continue;
		syn_lease_adopt_entries(mm->session[i]);
		syn_load_adopt_rest(mm->session[i]);
		syn_session_adopt_windows(mm->session[i]);
	}
	syn_quarantine_adopt(mm);
	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (mm->session[i] && mm->session[i]->ended)
			syn_session_adopt_end(mm->session[i]);
}

/* What was made for a change that did not come, and what was lost. */
static void adopt_guarantees(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		struct syn_pool *pool = mm->pool[i];

		if (!pool || pool->tier != SYN_TIER_HBM)
			continue;
		syn_pool_trim(mm, pool);
		syn_pool_adopt_guarantee(mm, pool);
	}
	syn_pool_reap(mm);
	syn_domain_reap(mm);
	mm->progress = true;
}

int syn_mm_adopted(struct syn_mm *mm)
{
	uint32_t i;
	int r;

	adopt_gone(mm);
	for (i = 0; i < mm->head->max_lessees; i++)
		adopt_lessee(mm, i);
	syn_kept_adopt(mm);
	syn_quarantine_adopt_slots(mm);
	r = adopt_pages(mm);
	if (!r)
		r = syn_kept_sums_adopt(mm);
	if (r)
		return r;
	syn_swap_adopt(mm);
	syn_extent_adopt_open(mm);
	adopt_leases(mm);
	adopt_places(mm);
	adopt_sessions(mm);
	adopt_request(mm);
	adopt_settle(mm);
	syn_lost_adopt(mm);
	adopt_guarantees(mm);
	mm->adopting = false;
	return 0;
}
