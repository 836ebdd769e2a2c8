/* SPDX-License-Identifier: Apache-2.0 */
/* Kept memory: what it has, and which of its records are free. */
#include "core/kept.h"

#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/base/failpoint.h"
#include "core/base/fault.h"

/* Pages are below 2^30 and records below 4096 bytes: nothing overflows. */
void syn_kept_records(const struct syn_mm_config *config,
		      struct syn_records *ret)
{
	const uint64_t pages = config->max_pages;
	const uint64_t sessions = config->max_sessions;

	*ret = (struct syn_records){
		.magic = SYN_KEPT_MAGIC,
		.version = SYN_KEPT_VERSION,
		.revision = SYN_KEPT_REVISION,
		.nr_arrays = SYN_KEPT_ARRAYS,
		.array = {
#define KEPT(which, nr, type) [SYN_KEPT_##which] = { nr, sizeof(type) }
			KEPT(HEAD, 1, struct syn_rec_head),
			KEPT(REDO, 1, struct syn_rec_redo),
			KEPT(DOMAIN, SYN_DOMAINS_MAX, struct syn_rec_domain),
			KEPT(EXTENT, SYN_EXTENTS_MAX, struct syn_rec_extent),
			KEPT(SPACE, SYN_SPACES_MAX, struct syn_rec_space),
			KEPT(SESSION, sessions, struct syn_rec_session),
			KEPT(MOVE, SYN_MOVES_MAX, struct syn_rec_move),
			KEPT(SWAP, SYN_SWAPS_MAX, struct syn_rec_swap),
			KEPT(QUARANTINE, sessions * SYN_LOANS_MAX,
			     struct syn_rec_quarantine),
			KEPT(LESSEE, pages * SYN_LEASES_A_PAGE,
			     struct syn_rec_lessee),
			KEPT(PAGE, pages, struct syn_rec_page),
			KEPT(SUMS, pages * SYN_SUMS_A_PAGE, uint32_t),
			KEPT(CRC, pages, uint32_t),
			KEPT(ERRORS, pages * SYN_SUMS_A_PAGE, uint16_t),
			KEPT(ERRORS_INLINE, pages * SYN_SUMS_INLINE, uint16_t),
#undef KEPT
		},
	};
}

uint64_t syn_kept_bytes(const struct syn_mm_config *config)
{
	struct syn_records records;

	if (!config->max_pages || config->max_pages > (1u << 28) ||
	    !config->max_sessions || config->max_sessions > SYN_SESSIONS_MAX)
		return 0;
	syn_kept_records(config, &records);
	return syn_records_bytes(&records);
}

static void *kept_array(const struct syn_mm *mm,
			const struct syn_records *records, uint32_t which)
{
	return (char *)mm->cfg.kept + syn_records_at(records, which);
}

void syn_kept_carve(struct syn_mm *mm)
{
	struct syn_records at;

	syn_kept_records(&mm->cfg, &at);
	mm->head = kept_array(mm, &at, SYN_KEPT_HEAD);
	mm->redo = kept_array(mm, &at, SYN_KEPT_REDO);
	mm->rec_domain = kept_array(mm, &at, SYN_KEPT_DOMAIN);
	mm->rec_extent = kept_array(mm, &at, SYN_KEPT_EXTENT);
	mm->space = kept_array(mm, &at, SYN_KEPT_SPACE);
	mm->rec_session = kept_array(mm, &at, SYN_KEPT_SESSION);
	mm->move = kept_array(mm, &at, SYN_KEPT_MOVE);
	mm->swap = kept_array(mm, &at, SYN_KEPT_SWAP);
	mm->quarantine = kept_array(mm, &at, SYN_KEPT_QUARANTINE);
	mm->lessee = kept_array(mm, &at, SYN_KEPT_LESSEE);
	mm->page = kept_array(mm, &at, SYN_KEPT_PAGE);
	mm->sums = kept_array(mm, &at, SYN_KEPT_SUMS);
	mm->crc = kept_array(mm, &at, SYN_KEPT_CRC);
	mm->errors = kept_array(mm, &at, SYN_KEPT_ERRORS);
	mm->errors_inline = kept_array(mm, &at, SYN_KEPT_ERRORS_INLINE);
}

static void kept_head(const struct syn_mm_config *c, struct syn_rec_head *ret)
{
	const struct syn_disk *disk = c->disk;

	*ret = (struct syn_rec_head){
		.max_pages = c->max_pages,
		.max_lessees = c->max_pages * SYN_LEASES_A_PAGE,
		.max_sessions = c->max_sessions,
		.max_quarantine = c->max_sessions * SYN_LOANS_MAX,
		.max_sums = (uint32_t)syn_min((uint64_t)c->max_pages *
						      SYN_SUMS_A_PAGE,
					      (uint64_t)SYN_NONE - 1),
		.nr_segments = disk ? disk->nr_segments : 0,
		.hbm_bytes = c->hbm_bytes,
		.host_bytes = c->host_bytes,
		.granule = c->dev->granule,
		.segment_bytes = disk ? disk->segment_bytes : 0,
	};
	syn_kept_records(c, &ret->records);
}

void syn_kept_begin(struct syn_mm *mm)
{
	kept_head(&mm->cfg, mm->head);
	mm->head->records.magic = 0;
	syn_kept_file(mm);
}

void syn_kept_file(struct syn_mm *mm)
{
	if (mm->disk)
		memcpy(mm->head->file, mm->disk->file, sizeof(mm->head->file));
}

bool syn_mm_kept_disk(const void *kept, struct syn_disk *ret)
{
	const struct syn_rec_head *head = kept;

	*ret = (struct syn_disk){
		.nr_segments = head->nr_segments,
		.segment_bytes = head->segment_bytes,
		.file = { head->file[0], head->file[1] },
	};
	return head->records.magic == SYN_KEPT_MAGIC && ret->nr_segments &&
	       (ret->file[0] || ret->file[1]);
}

void syn_kept_valid(struct syn_mm *mm)
{
	syn_commit(&mm->head->records.magic, SYN_KEPT_MAGIC);
}

/* What else has to be the same, in the order in which it is looked at. */
static const struct kept_same {
	const char *what;
	size_t at;
	size_t bytes;
} kept_same[] = {
#define KEPT_SAME(what, member)                                                \
	{                                                                      \
		what, offsetof(struct syn_rec_head, member),                   \
			sizeof(((struct syn_rec_head *)0)->member)             \
	}
	KEPT_SAME("HBM bytes", hbm_bytes),
	KEPT_SAME("host bytes", host_bytes),
	KEPT_SAME("bytes of a granule", granule),
	KEPT_SAME("segments of the swap file", nr_segments),
	KEPT_SAME("bytes of a swap segment", segment_bytes),
#undef KEPT_SAME
};

static uint64_t kept_member(const struct syn_rec_head *head,
			    const struct kept_same *same)
{
	uint64_t word = 0;

	memcpy(&word, (const char *)head + same->at, same->bytes);
	return word;
}

int syn_kept_check(const struct syn_mm_config *config,
		   struct syn_misfit *ret_misfit)
{
	const struct syn_rec_head *have = config->kept;
	struct syn_rec_head want;
	uint32_t i;
	int r;

	kept_head(config, &want);
	r = syn_records_check(&have->records, syn_records_bytes(&want.records),
			      &want.records, ret_misfit);
	if (r)
		return r < 0 ? r : -EPROTO;
	for (i = 0; i < syn_array_size(kept_same); i++) {
		const struct kept_same *same = &kept_same[i];

		*ret_misfit = (struct syn_misfit){ same->what,
						   kept_member(have, same),
						   kept_member(&want, same) };
		if (ret_misfit->was != ret_misfit->is)
			return -EINVAL;
	}
	return 0;
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
	mm->changes++;
	return i;
}

void syn_kept_page_free(struct syn_mm *mm, uint32_t page)
{
	struct syn_rec_page *pg = &mm->page[page];

	/* First: what refers to it is old. */
	syn_commit(&pg->generation, pg->generation + 1);
	syn_commit(&pg->state, SYN_PAGE_FREE);
	pg->flags = 0;
	pg->lessee = mm->page_free;
	mm->page_free = page;
	mm->nr_pages--;
	mm->changes++;
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
	mm->changes++;
	mm->lessee[i] = (struct syn_rec_lessee){ 0 };
	return i;
}

void syn_kept_lessee_free(struct syn_mm *mm, uint32_t lessee)
{
	syn_commit(&mm->lessee[lessee].flags, 0);
	mm->lessee[lessee].next = mm->lessee_free;
	mm->lessee_free = lessee;
	mm->nr_lessees--;
	mm->changes++;
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
	if (mm->move[move].state != SYN_MOVE_FREE)
		syn_commit(&mm->move[move].state, SYN_MOVE_FREE);
	mm->move_next[move] = mm->move_free;
	mm->move_free = move;
}

uint32_t syn_kept_swap_new(struct syn_mm *mm)
{
	uint32_t i = mm->swap_free;

	if (i != SYN_NONE) {
		mm->swap_free = mm->swap_next[i];
		mm->nr_swaps++;
		mm->changes++;
	}
	return i;
}

void syn_kept_swap_free(struct syn_mm *mm, uint32_t swap)
{
	if (mm->swap[swap].state != SYN_SWAP_FREE)
		syn_commit(&mm->swap[swap].state, SYN_SWAP_FREE);
	mm->swap_next[swap] = mm->swap_free;
	mm->swap_free = swap;
	mm->nr_swaps--;
	mm->changes++;
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
	syn_commit(&mm->quarantine[entry].state, SYN_QUARANTINE_FREE);
	mm->quarantine_next[entry] = mm->quarantine_free;
	mm->quarantine_free = entry;
	mm->changes++;
}

void syn_kept_bit_set(uint64_t *map, uint32_t i)
{
	syn_commit(&map[i / 64], map[i / 64] | 1ull << (i % 64));
}

bool syn_kept_bit_clear(uint64_t *map, uint32_t i)
{
	bool was = syn_bit_test(map, i);

	syn_commit(&map[i / 64], map[i / 64] & ~(1ull << (i % 64)));
	return was;
}

/* Runs of 16 << class words. */
static unsigned int sums_class(uint32_t nr_tiles)
{
	unsigned int class = 0;

	while ((16u << class) < nr_tiles)
		class ++;
	return class;
}

uint32_t syn_kept_sums_words(uint32_t nr_tiles)
{
	return 16u << sums_class(nr_tiles);
}

/*
 * Chunks of SYN_TILES_MAX words are cut into runs of one class and stay so while
 * a run of theirs is in use, at least; the first word of a free run is the next
 * free one.  A chunk that was adopted without a run is one that is not cut yet.
 */
static void sums_cut(struct syn_mm *mm, uint32_t chunk, unsigned int class,
		     uint32_t used)
{
	uint32_t words = 16u << class;
	uint32_t i;

	for (i = SYN_TILES_MAX / words; i--;) {
		uint32_t run = chunk * SYN_TILES_MAX + i * words;

		if (used >> i & 1)
			continue;
		mm->sums[run] = mm->sum_free[class];
		mm->sum_free[class] = run;
	}
}

static uint32_t sums_chunk(struct syn_mm *mm)
{
	uint32_t run = mm->sum_chunk;

	if (run != SYN_NONE)
		mm->sum_chunk = mm->sums[run];
	else if (mm->head->max_sums - mm->sum_used >= SYN_TILES_MAX)
		run = mm->sum_used;
	else
		return SYN_NONE;
	mm->sum_used = syn_max(mm->sum_used, run + SYN_TILES_MAX);
	return run / SYN_TILES_MAX;
}

static bool sums_refill(struct syn_mm *mm, unsigned int class)
{
	uint32_t chunk = sums_chunk(mm);

	if (chunk == SYN_NONE)
		return false;
	sums_cut(mm, chunk, class, 0);
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

/* ---- adoption ----------------------------------------------------------- */

/* What pages have of a chunk; a bit for each run. */
struct chunk_use {
	uint32_t runs;
	uint32_t class;
};

static void chunk_note(const struct syn_mm *mm, uint32_t page,
		       struct chunk_use *use)
{
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t nr_tiles = mm->space[pg->space].nr_tiles;
	struct chunk_use *chunk;

	if (nr_tiles <= SYN_SUMS_INLINE)
		return;
	chunk = &use[pg->sum_run / SYN_TILES_MAX];
	chunk->class = sums_class(nr_tiles);
	chunk->runs |=
		1u << (pg->sum_run % SYN_TILES_MAX / (16u << chunk->class));
}

int syn_kept_sums_adopt(struct syn_mm *mm)
{
	uint32_t nr = mm->head->max_sums / SYN_TILES_MAX;
	struct chunk_use *use = syn_alloc(nr + 1, sizeof(*use));
	uint32_t i;

	if (!use)
		return -ENOMEM;
	for (i = 0; i < mm->page_used; i++)
		if (mm->page[i].state != SYN_PAGE_FREE)
			chunk_note(mm, i, use);
	while (nr && !use[nr - 1].runs)
		nr--;
	mm->sum_used = nr * SYN_TILES_MAX;
	for (i = nr; i--;) {
		if (use[i].runs) {
			sums_cut(mm, i, use[i].class, use[i].runs);
		} else {
			mm->sums[i * SYN_TILES_MAX] = mm->sum_chunk;
			mm->sum_chunk = i * SYN_TILES_MAX;
		}
	}
	free(use);
	return 0;
}

static void pages_adopt(struct syn_mm *mm)
{
	uint32_t i = mm->head->max_pages;

	while (i && !mm->page[i - 1].generation &&
	       mm->page[i - 1].state == SYN_PAGE_FREE)
		i--;
	mm->page_used = i;
	while (i--) {
		if (mm->page[i].state != SYN_PAGE_FREE) {
			mm->nr_pages++;
			continue;
		}
		mm->page[i].lessee = mm->page_free;
		mm->page_free = i;
	}
}

static void lessees_adopt(struct syn_mm *mm)
{
	uint32_t i = mm->head->max_lessees;

	while (i && !mm->lessee[i - 1].flags)
		i--;
	mm->lessee_used = i;
	while (i--) {
		if (mm->lessee[i].flags) {
			mm->nr_lessees++;
			continue;
		}
		mm->lessee[i].next = mm->lessee_free;
		mm->lessee_free = i;
	}
}

static void quarantine_adopt(struct syn_mm *mm)
{
	uint32_t i = mm->head->max_quarantine;

	while (i && mm->quarantine[i - 1].state == SYN_QUARANTINE_FREE)
		i--;
	mm->quarantine_used = i;
	while (i--) {
		if (mm->quarantine[i].state != SYN_QUARANTINE_FREE)
			continue;
		mm->quarantine_next[i] = mm->quarantine_free;
		mm->quarantine_free = i;
	}
}

void syn_kept_adopt(struct syn_mm *mm)
{
	pages_adopt(mm);
	lessees_adopt(mm);
	quarantine_adopt(mm);
}
