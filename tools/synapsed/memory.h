/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kept memory: made by the first worker, found by those after it, and laid out
 * anew by one whose records have grown.
 *
 * It has two parts, the server's records and core's, each of which says how they
 * lie.  What an older program kept is not touched: it is copied into new memory,
 * of which nobody knows before it is handed over.  Until then the program before
 * can go on from the old one, and a worker that dies has done nothing.
 */
#ifndef SYN_TOOLS_SYNAPSED_MEMORY_H
#define SYN_TOOLS_SYNAPSED_MEMORY_H

#include <stdint.h>

#include "core/base/records.h"

struct syn_keep;

#define SYN_MEMORY_SERVER 0u
#define SYN_MEMORY_CORE	  1u
#define SYN_MEMORY_PARTS  2u

#define SYN_MEMORY_WHY_BYTES 80u

/* @at: where each part begins. */
struct syn_memory_map {
	char *base;
	uint64_t bytes;
	uint64_t at[SYN_MEMORY_PARTS];
};

/**
 * struct syn_memory - what this worker keeps.
 * @want:	how its records lie, part by part; the caller's.
 * @map:	both parts.
 * @fd:		what is to be handed over; -1: the keeper has it.
 */
struct syn_memory {
	struct syn_records want[SYN_MEMORY_PARTS];
	struct syn_memory_map map;
	int fd;
};

/* Zeroed, and in the keeper's hands. */
int syn_memory_new(struct syn_memory *memory, struct syn_keep *keep);
/*
 * What another worker has left, or a copy of it that syn_memory_hand_over() puts in
 * its place.  -errno with the reason in @ret_why, SYN_MEMORY_WHY_BYTES of it.
 */
int syn_memory_adopt(struct syn_memory *memory, struct syn_keep *keep,
		     char *ret_why);
/* Before anything changes that both old and new memory would have to know. */
int syn_memory_hand_over(struct syn_memory *memory, struct syn_keep *keep);

void *syn_memory_part(const struct syn_memory *memory, uint32_t part);
/* The mapping ends; what is kept stays. */
void syn_memory_close(struct syn_memory *memory);

#endif
