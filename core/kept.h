/* SPDX-License-Identifier: Apache-2.0 */
/* Kept memory: what it has, and which of its records are free. */
#ifndef SYN_CORE_KEPT_H
#define SYN_CORE_KEPT_H

#include "core/mm-internal.h"

void syn_kept_records(const struct syn_mm_config *config,
		      struct syn_records *ret);
/* 0 when the configuration makes no sense. */
uint64_t syn_kept_bytes(const struct syn_mm_config *config);

/* Points the arrays of @mm into mm->cfg.kept. */
void syn_kept_carve(struct syn_mm *mm);
/* Writes the head; valid is what is kept with the second. */
void syn_kept_begin(struct syn_mm *mm);
void syn_kept_valid(struct syn_mm *mm);
/* The swap file that @mm has is this one. */
void syn_kept_file(struct syn_mm *mm);
/* What is at config->kept is what @config would make; as syn_mm_adopt(). */
int syn_kept_check(const struct syn_mm_config *config,
		   struct syn_misfit *ret_misfit);

/*
 * Records.  SYN_NONE when all are in use; what is returned is zeroed, and in use
 * for good when its state, or a lessee's flags, say so.
 */
uint32_t syn_kept_page_new(struct syn_mm *mm);
void syn_kept_page_free(struct syn_mm *mm, uint32_t page);
uint32_t syn_kept_lessee_new(struct syn_mm *mm);
void syn_kept_lessee_free(struct syn_mm *mm, uint32_t lessee);
uint32_t syn_kept_move_new(struct syn_mm *mm);
void syn_kept_move_free(struct syn_mm *mm, uint32_t move);
uint32_t syn_kept_swap_new(struct syn_mm *mm);
void syn_kept_swap_free(struct syn_mm *mm, uint32_t swap);
uint32_t syn_kept_quarantine_new(struct syn_mm *mm);
void syn_kept_quarantine_free(struct syn_mm *mm, uint32_t entry);

/* As in core/base/bits.h, of a set that is kept: a store that counts. */
void syn_kept_bit_set(uint64_t *map, uint32_t i);
bool syn_kept_bit_clear(uint64_t *map, uint32_t i);

/* A run of the sums area for @nr_tiles sums, or SYN_NONE. */
uint32_t syn_kept_sums_new(struct syn_mm *mm, uint32_t nr_tiles);
void syn_kept_sums_free(struct syn_mm *mm, uint32_t run, uint32_t nr_tiles);

/* Words of such a run. */
uint32_t syn_kept_sums_words(uint32_t nr_tiles);

/*
 * Which pages and lessees, and which runs of pages, are in use, from the records
 * of a worker that is gone.
 */
void syn_kept_adopt(struct syn_mm *mm);
int syn_kept_sums_adopt(struct syn_mm *mm);

/* How many more there are. */
uint32_t syn_kept_pages_left(const struct syn_mm *mm);
uint32_t syn_kept_lessees_left(const struct syn_mm *mm);

#endif
