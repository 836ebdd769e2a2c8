/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host tier under pressure.
 *
 * A page's host copy stays after a load while there is room, so that leaving
 * HBM again is free.  When a frame is needed and none is left, first the
 * coldest of those duplicates is dropped, then the coldest sealed page that
 * nobody leases.  Both are instant, so nothing is dropped ahead of need.
 */
#ifndef SYN_CORE_HOST_H
#define SYN_CORE_HOST_H

#include "core/mm-internal.h"

/* A frame for a page of @pool's size, or SYN_NONE: the tier is full. */
uint32_t syn_host_frame(struct syn_mm *mm, struct syn_pool *pool);

#endif
