/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists: which pages may be moved or dropped, coldest first.
 *
 * In HBM a page is on the list of the window it is charged to, or of its pool.
 * Below, each frame is on a list that says how it can be had (SYN_LIST_*), in
 * the pool of its tier; a page with a copy in host memory and one in the swap
 * file is on one list for each.  All of it follows from the page's record and
 * is brought up to date after every change of that.
 */
#ifndef SYN_CORE_LISTS_H
#define SYN_CORE_LISTS_H

#include "core/mm-internal.h"

static inline bool syn_page_is(const struct syn_rec_page *pg, uint32_t flags)
{
	return pg->flags & flags;
}

void syn_lru_init(struct syn_lru *lru);

/* The window the slot is charged to, or NULL. */
struct syn_window *syn_page_window(const struct syn_mm *mm, uint32_t page);

/* Keyed, leased by nobody, and nobody can touch it. */
bool syn_page_evictable(const struct syn_rec_page *pg);

/* Puts it on the lists that its record says, at their hot end. */
void syn_lists_update(struct syn_mm *mm, uint32_t page);
/* Its host frame may be had by what those who shrink the tier can do. */
bool syn_lists_loose(const struct syn_mm *mm, uint32_t page);
/* SYN_LIST_* of its host frame. */
uint32_t syn_lists_host(const struct syn_rec_page *pg);

/*
 * Which list of @tier its record says it should be on, and is on: SYN_LIST_*;
 * in HBM not 0 for the only one.
 */
uint32_t syn_lists_wanted(const struct syn_rec_page *pg, uint32_t tier);
uint32_t syn_lists_on(const struct syn_rec_page *pg, uint32_t tier);
/* Those next to it on its list of @tier, or the list's ends, know of it. */
bool syn_lists_linked(const struct syn_mm *mm, uint32_t page, uint32_t tier);

/* The next warmer page of its list in the swap file, or SYN_NONE. */
uint32_t syn_lists_warmer(const struct syn_mm *mm, uint32_t page);

/* Takes it off its list in HBM: its charge is about to change. */
void syn_lists_leave(struct syn_mm *mm, uint32_t page);
/* Moves it to the hot end, or the cold one, of the lists it is on. */
void syn_lists_touch(struct syn_mm *mm, uint32_t page);
void syn_lists_cool(struct syn_mm *mm, uint32_t page);

#endif
