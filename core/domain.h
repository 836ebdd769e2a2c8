/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domains: who may corrupt whom, and who may have how much.
 *
 * What a domain has of a tier is the bytes of its extents (HBM, host) or slots
 * (NVMe), from before they are taken until they are given back.  One that is
 * at its maximum gets no more; what others lack to their minimums is given to
 * nobody else.  Minimums count in whole units of the tier, so that what is
 * promised can be taken.
 */
#ifndef SYN_CORE_DOMAIN_H
#define SYN_CORE_DOMAIN_H

#include "core/mm-internal.h"

bool syn_domain_exists(const struct syn_mm *mm, uint32_t domain);

/* A session of it begins, or its process is gone. */
void syn_domain_enter(struct syn_mm *mm, uint32_t domain);
void syn_domain_leave(struct syn_mm *mm, uint32_t domain);
/* Frees every domain that has ended. */
void syn_domain_reap(struct syn_mm *mm);

/* @bytes of @tier are about to be taken; -EDQUOT: they may not. */
int syn_domain_charge(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		      uint64_t bytes);
void syn_domain_uncharge(struct syn_mm *mm, uint32_t domain, uint32_t tier,
			 uint64_t bytes);

/* It would not be refused. */
bool syn_domain_fits(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		     uint64_t bytes);
/* @bytes more are beyond its own maximum: others cannot help. */
bool syn_domain_full(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		     uint64_t bytes);
/* @bytes more are within what is kept free for it. */
bool syn_domain_promised(const struct syn_mm *mm, uint32_t domain,
			 uint32_t tier, uint64_t bytes);
/* It has @bytes beyond its minimum ... */
bool syn_domain_spare(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		      uint64_t bytes);
/* ... and is above its high mark. */
bool syn_domain_high(const struct syn_mm *mm, uint32_t domain, uint32_t tier);

/*
 * How soon @victim gives @gives bytes up so that another, @asker, gets @takes;
 * the largest first, 0: not at all.  Those above their high mark come first,
 * then those above their minimum; never so that the two would change places.
 */
uint64_t syn_domain_rank(const struct syn_mm *mm, uint32_t tier,
			 uint32_t victim, uint64_t gives, uint32_t asker,
			 uint64_t takes);

/* A request of it was refused; counted if that was its quota's doing. */
void syn_domain_refused(struct syn_mm *mm, uint32_t domain);

/* Does what a worker that is gone meant to do. */
void syn_domain_redo(struct syn_mm *mm);

#endif
