/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host tier under pressure.
 *
 * A page's host copy stays after a load while there is room, so that leaving
 * HBM again is free.  When a frame is needed and none is left, one that can be
 * had at once is taken: a duplicate of a resident page, or of what the swap
 * file holds.  So that there are some, the coldest pages are written to the swap
 * file ahead of need.  Without a swap file, or when it is full, the coldest
 * sealed page that nobody leases is dropped.
 */
#ifndef SYN_CORE_HOST_H
#define SYN_CORE_HOST_H

#include "core/mm-internal.h"

/*
 * A frame of @pool, or SYN_NONE: none can be had now.  @session: id of the one
 * for whom, or SYN_NONE.
 */
uint32_t syn_host_frame(struct syn_mm *mm, struct syn_pool *pool,
			uint32_t session);

/* Whether frames will come free without anybody's doing. */
bool syn_host_coming(const struct syn_mm *mm);

/* Keeps the watermarks; true if anything moved. */
bool syn_host_poll(struct syn_mm *mm);

#endif
