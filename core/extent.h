/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents: memory of the device, who maps it, and how it is given back.
 *
 * An extent belongs to one pool for life.  A session is told of it before an
 * answer refers to it.  RETIRING: it is empty and gives out no frame; every
 * session that was told must acknowledge or exit; it is charged to the tier's
 * budget and to its domain until then.
 *
 * LOST: a worker could not take its memory over.  It is as one that retires; when a
 * session is told so is the matter of core/lost.h.
 *
 * DRAINING, a host extent: it gives out no frame either, because somebody else
 * is to have its memory; it retires with its last page.
 *
 * NVMe: an extent is a segment of the swap file.  Nobody maps it; it gives out
 * no frame before it is opened, when its segment has been cut.
 */
#ifndef SYN_CORE_EXTENT_H
#define SYN_CORE_EXTENT_H

#include "core/mm-internal.h"

/*
 * An extent of @pool->extent_bytes, all of its frames free and zero.  @seq: NVMe:
 * of its segment.  -EDQUOT: the budget of the tier, the domain's quota or the table
 * of extents is full.
 */
int syn_extent_new(struct syn_mm *mm, struct syn_pool *pool, uint32_t ordinal,
		   uint64_t seq, struct syn_extent **ret);

/*
 * One that a worker that is gone has kept, perhaps LOST.  -EINVAL: of another shape.
 * All are opened, or seen to retire, when it is known which of their frames are used.
 */
int syn_extent_adopt(struct syn_mm *mm, struct syn_pool *pool, uint32_t id);
void syn_extent_adopt_open(struct syn_mm *mm);

/* From now on it gives out those of its frames that are not used. */
void syn_extent_open(struct syn_mm *mm, struct syn_extent *ext);
/* Before that, marks a frame used; and says whether it is. */
void syn_extent_use(struct syn_mm *mm, struct syn_extent *ext, uint32_t frame);
bool syn_extent_is_used(const struct syn_extent *ext, uint32_t frame);
/* Its free frames, in order. */
void syn_extent_relink(struct syn_extent *ext);

/* It is empty: no more frames of it; freed at once if nobody maps it. */
void syn_extent_retire(struct syn_mm *mm, struct syn_extent *ext);

/* It gives out no more frames; or it does so again. */
void syn_extent_drain(struct syn_extent *ext);
void syn_extent_undrain(struct syn_extent *ext);

/* Of a frame below HBM; NULL: there is no such frame. */
struct syn_extent *syn_extent_of(const struct syn_mm *mm, uint32_t frame);
/* How many sessions map it, by what they were told. */
uint32_t syn_extent_mapped(const struct syn_mm *mm, uint32_t extent);

/* @session must be told of @ext before the next answer to it. */
void syn_extent_want(struct syn_session *session, const struct syn_extent *ext);

/* @session, if it maps it, is told to give up what retires. */
void syn_extent_give_up(struct syn_session *session, uint32_t extent);

/* The process of @session has exited: it maps nothing. */
void syn_extent_forget(struct syn_session *session);

/* At the end of the manager: whoever maps it. */
void syn_extent_free(struct syn_mm *mm, struct syn_extent *ext);
/* Of an adoption that failed: its record and its memory stay for the next one. */
void syn_extent_release(struct syn_extent *ext);

#endif
