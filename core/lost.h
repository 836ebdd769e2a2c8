/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lost extents: memory that the next worker could not take over.
 *
 * Nothing names a frame of them when an adoption has ended: their pages go on from
 * what copies they have, or are lost; slots in quarantine are forgotten.
 *
 * But a client may have such memory mapped, and pinned pages, pages it writes and
 * loans there: it must not be told to unmap it before it has heard of that.  So each
 * entry of its page table must once have been seen unpinned, as when a page leaves,
 * and not the writer's of a lost page; each loan into it, or from it, must have ended;
 * and then what its timelines had issued must be done.
 */
#ifndef SYN_CORE_LOST_H
#define SYN_CORE_LOST_H

#include "core/mm-internal.h"

/*
 * An adoption has published all entries: the wait of all sessions begins, and what
 * nobody was told of is freed.
 */
void syn_lost_adopt(struct syn_mm *mm);

/* True if a session has let go of what is lost. */
bool syn_lost_poll(struct syn_mm *mm);

#endif
