/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Departures: how pages that had a key left, or lost their bytes.
 *
 * The last SYN_DEPARTURES of all domains are remembered, for people who ask why a
 * key is not found: 104 bytes each, 832 KiB in all, touched as they fill up.
 * A new worker knows of none.
 */
#ifndef SYN_CORE_DEPART_H
#define SYN_CORE_DEPART_H

#include "core/mm-internal.h"

#define SYN_DEPARTURES 8192u

/**
 * struct syn_departure - one of them.
 * @key:	of the page.
 * @identity:	of its domain, whose index may be another one's by now.
 * @at_ns:	when.
 * @page:	its record ...
 * @generation:	... which may be another page's by now.
 * @space:	its space.
 * @domain:	its domain.
 * @session:	id of the session for whom or by whose doing; SYN_NONE: nobody's.
 * @pid:	of that session.
 * @cause:	SYN_WHY_*.
 * @tier:	SYN_TIER_* where it was.
 * @fidelity:	bits that it had.
 * @name:	of that session.
 */
struct syn_departure {
	uint64_t key[2];
	uint64_t identity[2];
	uint64_t at_ns;
	uint32_t page;
	uint32_t generation;
	uint32_t space;
	uint32_t domain;
	uint32_t session;
	uint32_t pid;
	uint8_t cause;
	uint8_t tier;
	uint8_t fidelity;
	char name[SYN_NAME_BYTES];
};
SYN_ABI_ASSERT(sizeof(struct syn_departure) == 104,
	       "the comment above says what a departure costs");

/* -ENOMEM.  What it takes is freed with @mm. */
int syn_depart_init(struct syn_mm *mm);

/* @page, which has its key still, goes. */
void syn_depart(struct syn_mm *mm, uint32_t page, uint32_t cause, uint32_t tier,
		uint32_t session);

/*
 * The youngest one before number *at, which is mm->nr_departures at first and
 * then its own; NULL: there is none.  Costs a look at each.
 */
const struct syn_departure *
syn_depart_find(const struct syn_mm *mm, const uint64_t key[2], uint64_t *at);

#endif
