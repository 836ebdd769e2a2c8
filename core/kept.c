/* SPDX-License-Identifier: Apache-2.0 */
/* Kept memory: its layout, and which of its records are free. */
#include "core/kept.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/base.h"

#define KEPT_ALIGN 64u

/* Where each array begins; @bytes: the end. */
struct kept_layout {
	uint64_t domain;
	uint64_t extent;
	uint64_t space;
	uint64_t session;
	uint64_t move;
	uint64_t swap;
	uint64_t quarantine;
	uint64_t lessee;
	uint64_t page;
	uint64_t sums;
	uint64_t errors;
	uint64_t errors_inline;
	uint64_t bytes;
};

static uint64_t kept_place(uint64_t *at, uint64_t nr, uint64_t size)
{
	uint64_t here = *at;

	*at = syn_align_up(here + nr * size, KEPT_ALIGN);
	return here;
}

/* Pages are below 2^30 and records below 300 bytes: nothing overflows. */
static void kept_lay_out(const struct syn_mm_config *c, struct kept_layout *ret)
{
	uint64_t at = syn_align_up(sizeof(struct syn_rec_head), KEPT_ALIGN);

	ret->domain =
		kept_place(&at, SYN_DOMAINS_MAX, sizeof(struct syn_rec_domain));
	ret->extent =
		kept_place(&at, SYN_EXTENTS_MAX, sizeof(struct syn_rec_extent));
	ret->space =
		kept_place(&at, SYN_SPACES_MAX, sizeof(struct syn_rec_space));
	ret->session = kept_place(&at, c->max_sessions,
				  sizeof(struct syn_rec_session));
	ret->move = kept_place(&at, SYN_MOVES_MAX, sizeof(struct syn_rec_move));
	ret->swap = kept_place(&at, SYN_SWAPS_MAX, sizeof(struct syn_rec_swap));
	ret->quarantine =
		kept_place(&at, (uint64_t)c->max_sessions * SYN_LOANS_MAX,
			   sizeof(struct syn_rec_quarantine));
	ret->lessee =
		kept_place(&at, (uint64_t)c->max_pages * SYN_LEASES_A_PAGE,
			   sizeof(struct syn_rec_lessee));
	ret->page = kept_place(&at, c->max_pages, sizeof(struct syn_rec_page));
	ret->sums = kept_place(&at, (uint64_t)c->max_pages * SYN_SUMS_A_PAGE,
			       sizeof(uint32_t));
	ret->errors = kept_place(&at, (uint64_t)c->max_pages * SYN_SUMS_A_PAGE,
				 sizeof(uint16_t));
	ret->errors_inline =
		kept_place(&at, (uint64_t)c->max_pages * SYN_SUMS_INLINE,
			   sizeof(uint16_t));
	ret->bytes = at;
}

static uint64_t kept_fingerprint(void)
{
	const uint32_t sizes[] = {
		sizeof(struct syn_rec_head),	   SYN_EXTENTS_MAX,
		sizeof(struct syn_rec_extent),	   SYN_SPACES_MAX,
		sizeof(struct syn_rec_space),	   SYN_MOVES_MAX,
		sizeof(struct syn_rec_session),	   SYN_LEASES_A_PAGE,
		sizeof(struct syn_rec_move),	   SYN_SUMS_A_PAGE,
		sizeof(struct syn_rec_quarantine), SYN_SUMS_INLINE,
		sizeof(struct syn_rec_lessee),	   sizeof(struct syn_rec_page),
		sizeof(struct syn_rec_swap),	   SYN_SWAPS_MAX,
		sizeof(struct syn_rec_domain),	   SYN_DOMAINS_MAX,
	};

	return XXH3_64bits(sizes, sizeof(sizes));
}

uint64_t syn_kept_bytes(const struct syn_mm_config *config)
{
	struct kept_layout layout;

	if (!config->max_pages || config->max_pages > (1u << 28) ||
	    !config->max_sessions || config->max_sessions > SYN_SESSIONS_MAX)
		return 0;
	kept_lay_out(config, &layout);
	return layout.bytes;
}

void syn_kept_carve(struct syn_mm *mm)
{
	struct kept_layout at;
	char *base = mm->cfg.kept;

	kept_lay_out(&mm->cfg, &at);
	mm->head = (void *)base;
	mm->rec_domain = (void *)(base + at.domain);
	mm->rec_extent = (void *)(base + at.extent);
	mm->space = (void *)(base + at.space);
	mm->rec_session = (void *)(base + at.session);
	mm->move = (void *)(base + at.move);
	mm->swap = (void *)(base + at.swap);
	mm->quarantine = (void *)(base + at.quarantine);
	mm->lessee = (void *)(base + at.lessee);
	mm->page = (void *)(base + at.page);
	mm->sums = (void *)(base + at.sums);
	mm->errors = (void *)(base + at.errors);
	mm->errors_inline = (void *)(base + at.errors_inline);
	*mm->head = (struct syn_rec_head){
		.fingerprint = kept_fingerprint(),
		.bytes = at.bytes,
		.version = SYN_KEPT_VERSION,
		.max_pages = mm->cfg.max_pages,
		.max_lessees = mm->cfg.max_pages * SYN_LEASES_A_PAGE,
		.max_sessions = mm->cfg.max_sessions,
		.max_quarantine = mm->cfg.max_sessions * SYN_LOANS_MAX,
		.max_sums = (uint32_t)syn_min((uint64_t)mm->cfg.max_pages *
						      SYN_SUMS_A_PAGE,
					      (uint64_t)SYN_NONE - 1),
	};
	/* Last: with the magic the rest is valid. */
	mm->head->magic = SYN_KEPT_MAGIC;
}

uint32_t syn_kept_page_new(struct syn_mm *mm)
{
	uint32_t i = mm->page_free;

	if (i != SYN_NONE) {
		uint32_t generation = mm->page[i].generation;

		mm->page_free = mm->page[i].lessee;
		mm->page[i] = (struct syn_rec_page){
			.generation = generation,
		};
	} else if (mm->page_used < mm->head->max_pages) {
		i = mm->page_used++;
	} else {
		return SYN_NONE;
	}
	mm->nr_pages++;
	return i;
}

void syn_kept_page_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	pg->state = SYN_PAGE_FREE;
	pg->flags = 0;
	pg->generation++;
	pg->lessee = mm->page_free;
	mm->page_free = page;
	mm->nr_pages--;
}

uint32_t syn_kept_pages_left(const struct syn_mm *mm)
{
	return mm->head->max_pages - mm->nr_pages;
}

uint32_t syn_kept_lessee_new(struct syn_mm *mm)
{
	uint32_t i = mm->lessee_free;

	if (i != SYN_NONE)
		mm->lessee_free = mm->lessee[i].next;
	else if (mm->lessee_used < mm->head->max_lessees)
		i = mm->lessee_used++;
	else
		return SYN_NONE;
	mm->nr_lessees++;
	mm->lessee[i] = (struct syn_rec_lessee){ .flags = SYN_LESSEE_USED };
	return i;
}

void syn_kept_lessee_free(struct syn_mm *mm, uint32_t lessee)
{
	mm->lessee[lessee].flags = 0;
	mm->lessee[lessee].next = mm->lessee_free;
	mm->lessee_free = lessee;
	mm->nr_lessees--;
}

uint32_t syn_kept_lessees_left(const struct syn_mm *mm)
{
	return mm->head->max_lessees - mm->nr_lessees;
}

uint32_t syn_kept_move_new(struct syn_mm *mm)
{
	uint32_t i = mm->move_free;

	if (i != SYN_NONE)
		mm->move_free = mm->move_next[i];
	return i;
}

void syn_kept_move_free(struct syn_mm *mm, uint32_t move)
{
	mm->move[move].state = SYN_MOVE_FREE;
	mm->move_next[move] = mm->move_free;
	mm->move_free = move;
}

uint32_t syn_kept_swap_new(struct syn_mm *mm)
{
	uint32_t i = mm->swap_free;

	if (i != SYN_NONE) {
		mm->swap_free = mm->swap_next[i];
		mm->nr_swaps++;
	}
	return i;
}

void syn_kept_swap_free(struct syn_mm *mm, uint32_t swap)
{
	mm->swap[swap].state = SYN_SWAP_FREE;
	mm->swap_next[swap] = mm->swap_free;
	mm->swap_free = swap;
	mm->nr_swaps--;
}

uint32_t syn_kept_quarantine_new(struct syn_mm *mm)
{
	uint32_t i = mm->quarantine_free;

	if (i != SYN_NONE)
		mm->quarantine_free = mm->quarantine_next[i];
	else if (mm->quarantine_used < mm->head->max_quarantine)
		i = mm->quarantine_used++;
	return i;
}

void syn_kept_quarantine_free(struct syn_mm *mm, uint32_t entry)
{
	mm->quarantine[entry].state = SYN_QUARANTINE_FREE;
	mm->quarantine_next[entry] = mm->quarantine_free;
	mm->quarantine_free = entry;
}

/* Runs of 16 << class words. */
static unsigned int sums_class(uint32_t nr_tiles)
{
	unsigned int class = 0;

	while ((16u << class) < nr_tiles)
		class ++;
	return class;
}

/*
 * Chunks of SYN_TILES_MAX words are cut into runs of one class and stay so;
 * the first word of a free run is the next free one.
 */
static bool sums_refill(struct syn_mm *mm, unsigned int class)
{
	uint32_t words = 16u << class;
	uint32_t at;

	if (mm->head->max_sums - mm->sum_used < SYN_TILES_MAX)
		return false;
	for (at = SYN_TILES_MAX; at; at -= words) {
		uint32_t run = mm->sum_used + at - words;

		mm->sums[run] = mm->sum_free[class];
		mm->sum_free[class] = run;
	}
	mm->sum_used += SYN_TILES_MAX;
	return true;
}

uint32_t syn_kept_sums_new(struct syn_mm *mm, uint32_t nr_tiles)
{
	unsigned int class = sums_class(nr_tiles);
	uint32_t run;

	if (mm->sum_free[class] == SYN_NONE && !sums_refill(mm, class))
		return SYN_NONE;
	run = mm->sum_free[class];
	mm->sum_free[class] = mm->sums[run];
	return run;
}

void syn_kept_sums_free(struct syn_mm *mm, uint32_t run, uint32_t nr_tiles)
{
	unsigned int class = sums_class(nr_tiles);

	mm->sums[run] = mm->sum_free[class];
	mm->sum_free[class] = run;
}
