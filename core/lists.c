/* SPDX-License-Identifier: Apache-2.0 */
/* Lists: which pages may be moved or dropped, coldest first. */
#include "core/lists.h"

#include "core/base/base.h"
#include "core/extent.h"

/* What a page is linked through on one kind of list, by tier. */
enum list_kind {
	LIST_HBM = SYN_TIER_HBM,
	LIST_HOST,
	LIST_NVME,
};

struct list_link {
	uint32_t *prev;
	uint32_t *next;
};

#define LIST_BELOW(pg, kind)                                                   \
	((pg)->below >> ((kind) == LIST_HOST ? 0 : 4) & 15u)

void syn_lru_init(struct syn_lru *lru)
{
	*lru = (struct syn_lru){ .cold = SYN_NONE, .hot = SYN_NONE };
}

struct syn_window *syn_page_window(const struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];

	if (pg->charged == SYN_NONE16)
		return NULL;
	return syn_window_of(mm->session[pg->charged], mm->pool[pg->pool]);
}

bool syn_page_evictable(const struct syn_rec_page *pg)
{
	return pg->lessee == SYN_NONE && syn_page_is(pg, SYN_PAGE_F_KEYED) &&
	       !syn_page_is(pg, SYN_PAGE_F_MOVING | SYN_PAGE_F_FILLING |
					SYN_PAGE_F_DYING | SYN_PAGE_F_IO);
}

/* ---- links -------------------------------------------------------------- */

static uint32_t list_frame(const struct syn_rec_page *pg, enum list_kind kind)
{
	return kind == LIST_HOST ? pg->host : pg->nvme;
}

static struct list_link list_link(const struct syn_mm *mm, uint32_t page,
				  enum list_kind kind)
{
	uint32_t frame = list_frame(&mm->page[page], kind);
	struct syn_extent *ext;
	uint32_t i;

	if (kind == LIST_HBM) {
		struct syn_page_links *links = &mm->links[page];

		return (struct list_link){ &links->prev, &links->next };
	}
	ext = mm->extent[SYN_FRAME_EXTENT(frame)];
	i = SYN_FRAME_INDEX(frame);
	return (struct list_link){ &ext->back[i], &ext->link[i] };
}

static void lru_add(const struct syn_mm *mm, struct syn_lru *lru, uint32_t page,
		    enum list_kind kind)
{
	struct list_link at = list_link(mm, page, kind);

	*at.prev = lru->hot;
	*at.next = SYN_NONE;
	if (lru->hot == SYN_NONE)
		lru->cold = page;
	else
		*list_link(mm, lru->hot, kind).next = page;
	lru->hot = page;
	lru->nr++;
}

static void lru_add_cold(const struct syn_mm *mm, struct syn_lru *lru,
			 uint32_t page, enum list_kind kind)
{
	struct list_link at = list_link(mm, page, kind);

	*at.prev = SYN_NONE;
	*at.next = lru->cold;
	if (lru->cold == SYN_NONE)
		lru->hot = page;
	else
		*list_link(mm, lru->cold, kind).prev = page;
	lru->cold = page;
	lru->nr++;
}

static void lru_del(const struct syn_mm *mm, struct syn_lru *lru, uint32_t page,
		    enum list_kind kind)
{
	struct list_link at = list_link(mm, page, kind);

	if (*at.prev == SYN_NONE)
		lru->cold = *at.next;
	else
		*list_link(mm, *at.prev, kind).next = *at.next;
	if (*at.next == SYN_NONE)
		lru->hot = *at.prev;
	else
		*list_link(mm, *at.next, kind).prev = *at.prev;
	lru->nr--;
}

/* ---- where a page belongs ----------------------------------------------- */

static struct syn_lru *hbm_lru(const struct syn_mm *mm, uint32_t page)
{
	struct syn_window *w = syn_page_window(mm, page);

	return w ? &w->lru : &mm->pool[mm->page[page].pool]->cached;
}

static struct syn_lru *below_lru(const struct syn_mm *mm, uint32_t page,
				 enum list_kind kind, uint32_t list)
{
	uint32_t frame = list_frame(&mm->page[page], kind);

	return &mm->extent[SYN_FRAME_EXTENT(frame)]->pool->list[list];
}

/* May be chosen as a victim. */
static bool hbm_wants(const struct syn_rec_page *pg)
{
	return (pg->state == SYN_PAGE_FULL || pg->state == SYN_PAGE_SEALED) &&
	       syn_page_is(pg, SYN_PAGE_F_HBM) &&
	       !syn_page_is(pg, SYN_PAGE_F_LEAVING | SYN_PAGE_F_DYING |
					SYN_PAGE_F_FILLING);
}

/*
 * A decoded page in HBM is no substitute for its encoded copy: encoded again it
 * would lose more.
 */
static uint32_t host_wants(const struct syn_rec_page *pg)
{
	bool resident = syn_page_is(pg, SYN_PAGE_F_HBM);

	if (!syn_page_is(pg, SYN_PAGE_F_HOST) ||
	    syn_page_is(pg, SYN_PAGE_F_DYING | SYN_PAGE_F_FILLING |
				    SYN_PAGE_F_MOVING | SYN_PAGE_F_LEAVING |
				    SYN_PAGE_F_IO | SYN_PAGE_F_WANTED))
		return SYN_LIST_NONE;
	if (syn_page_is(pg, SYN_PAGE_F_NVME))
		return resident ? SYN_LIST_DUP : SYN_LIST_CLEAN;
	if (resident)
		return pg->codec == SYN_CODEC_RAW16 ? SYN_LIST_DUP
						    : SYN_LIST_LEASED;
	return syn_page_evictable(pg) ? SYN_LIST_COLD : SYN_LIST_LEASED;
}

/*
 * A durable slot is not given up as long as its page lives; nor is one whose
 * page is in host memory only: that frame could then be had by a write alone,
 * which would take a slot again, and so on for ever.
 */
static uint32_t nvme_wants(const struct syn_rec_page *pg)
{
	if (!syn_page_is(pg, SYN_PAGE_F_NVME) ||
	    syn_page_is(pg, SYN_PAGE_F_DYING | SYN_PAGE_F_IO |
				    SYN_PAGE_F_LEAVING | SYN_PAGE_F_FILLING))
		return SYN_LIST_NONE;
	if (!syn_page_is(pg, SYN_PAGE_F_DURABLE) &&
	    syn_page_is(pg, SYN_PAGE_F_HBM) && pg->codec == SYN_CODEC_RAW16)
		return SYN_LIST_DUP;
	return syn_page_evictable(pg) ? SYN_LIST_COLD : SYN_LIST_NONE;
}

static void hbm_update(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];
	bool want = hbm_wants(pg);

	if (want == syn_page_is(pg, SYN_PAGE_F_LRU))
		return;
	if (want)
		lru_add(mm, hbm_lru(mm, page), page, LIST_HBM);
	else
		lru_del(mm, hbm_lru(mm, page), page, LIST_HBM);
	pg->flags ^= SYN_PAGE_F_LRU;
}

uint32_t syn_lists_host(const struct syn_rec_page *pg)
{
	return LIST_BELOW(pg, LIST_HOST);
}

/* Without a swap file there is nowhere to go for what is leased. */
static bool list_loose(const struct syn_mm *mm, uint32_t list)
{
	return list != SYN_LIST_NONE && (mm->disk || list != SYN_LIST_LEASED);
}

bool syn_lists_loose(const struct syn_mm *mm, uint32_t page)
{
	return list_loose(mm, syn_lists_host(&mm->page[page]));
}

static void below_update(struct syn_mm *mm, uint32_t page, enum list_kind kind,
			 uint32_t want)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t have = LIST_BELOW(pg, kind);

	if (want == have)
		return;
	if (kind == LIST_HOST)
		mm->extent[SYN_FRAME_EXTENT(pg->host)]->nr_loose +=
			list_loose(mm, want) - list_loose(mm, have);
	if (have)
		lru_del(mm, below_lru(mm, page, kind, have), page, kind);
	if (want)
		lru_add(mm, below_lru(mm, page, kind, want), page, kind);
	pg->below ^= (uint8_t)((have ^ want) << (kind == LIST_HOST ? 0 : 4));
}

void syn_lists_update(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];

	hbm_update(mm, page);
	below_update(mm, page, LIST_HOST, host_wants(pg));
	below_update(mm, page, LIST_NVME, nvme_wants(pg));
}

uint32_t syn_lists_warmer(const struct syn_mm *mm, uint32_t page)
{
	return *list_link(mm, page, LIST_NVME).next;
}

void syn_lists_leave(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	if (!syn_page_is(pg, SYN_PAGE_F_LRU))
		return;
	lru_del(mm, hbm_lru(mm, page), page, LIST_HBM);
	pg->flags ^= SYN_PAGE_F_LRU;
}

static void below_again(struct syn_mm *mm, uint32_t page, enum list_kind kind,
			bool cold)
{
	uint32_t list = LIST_BELOW(&mm->page[page], kind);
	struct syn_lru *lru;

	if (!list)
		return;
	lru = below_lru(mm, page, kind, list);
	lru_del(mm, lru, page, kind);
	if (cold)
		lru_add_cold(mm, lru, page, kind);
	else
		lru_add(mm, lru, page, kind);
}

static void lists_again(struct syn_mm *mm, uint32_t page, bool cold)
{
	if (syn_page_is(&mm->page[page], SYN_PAGE_F_LRU)) {
		struct syn_lru *lru = hbm_lru(mm, page);

		lru_del(mm, lru, page, LIST_HBM);
		if (cold)
			lru_add_cold(mm, lru, page, LIST_HBM);
		else
			lru_add(mm, lru, page, LIST_HBM);
	}
	below_again(mm, page, LIST_HOST, cold);
	below_again(mm, page, LIST_NVME, cold);
}

void syn_lists_touch(struct syn_mm *mm, uint32_t page)
{
	lists_again(mm, page, false);
}

void syn_lists_cool(struct syn_mm *mm, uint32_t page)
{
	lists_again(mm, page, true);
}

/* ---- are they right ----------------------------------------------------- */

uint32_t syn_lists_wanted(const struct syn_rec_page *pg, uint32_t tier)
{
	switch (tier) {
	case LIST_HBM:
		return hbm_wants(pg);
	case LIST_HOST:
		return host_wants(pg);
	default:
		return nvme_wants(pg);
	}
}

uint32_t syn_lists_on(const struct syn_rec_page *pg, uint32_t tier)
{
	if (tier == LIST_HBM)
		return syn_page_is(pg, SYN_PAGE_F_LRU);
	return LIST_BELOW(pg, tier);
}

/* @page has a link of that kind, be it on a list or not. */
static bool list_reaches(const struct syn_mm *mm, uint32_t page,
			 enum list_kind kind)
{
	const struct syn_extent *ext;

	if (page >= mm->page_used)
		return false;
	if (kind == LIST_HBM)
		return true;
	ext = syn_extent_of(mm, list_frame(&mm->page[page], kind));
	return ext && ext->back;
}

bool syn_lists_linked(const struct syn_mm *mm, uint32_t page, uint32_t tier)
{
	uint32_t list = syn_lists_on(&mm->page[page], tier);
	const struct syn_lru *lru = tier == LIST_HBM
					    ? hbm_lru(mm, page)
					    : below_lru(mm, page, tier, list);
	uint32_t prev = *list_link(mm, page, tier).prev;
	uint32_t next = *list_link(mm, page, tier).next;
	uint32_t after = lru->cold;
	uint32_t before = lru->hot;

	if (prev != SYN_NONE)
		after = list_reaches(mm, prev, tier)
				? *list_link(mm, prev, tier).next
				: SYN_NONE;
	if (next != SYN_NONE)
		before = list_reaches(mm, next, tier)
				 ? *list_link(mm, next, tier).prev
				 : SYN_NONE;
	return after == page && before == page;
}
