/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shrinking: a host pool that finds no room gets an extent of another one.
 *
 * One extent is emptied at a time, for the pool that has asked for longest.
 * It is taken from the domain that is furthest above its high mark, else from
 * the one furthest above its minimum; or from another pool of the same domain,
 * which is all there is to take from when that domain is at its maximum.  Of a
 * pool it is the extent with the fewest used frames, all of whose pages have
 * another copy, may be dropped, or can go to the swap file.  Without one, a page
 * of which this is the only copy, and that somebody leases, stays where it is.
 */
#ifndef SYN_CORE_SHRINK_H
#define SYN_CORE_SHRINK_H

#include "core/mm-internal.h"

/* Goes on with it; true if anything moved. */
bool syn_shrink_poll(struct syn_mm *mm);

/* When to call that again; UINT64_MAX: nobody asks. */
uint64_t syn_shrink_next(const struct syn_mm *mm);

#endif
