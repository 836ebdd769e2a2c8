/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces: KV geometries that make sense, each once. */
#ifndef SYN_CORE_SPACE_H
#define SYN_CORE_SPACE_H

#include "core/mm-internal.h"

/* Bytes from one frame to the next below HBM, of pages stored with @codec. */
uint64_t syn_space_frame_bytes(const struct syn_mm *mm, uint32_t space,
			       uint32_t codec);

/*
 * SYN_PLANE_*: where a page comes to lie whose copies below HBM are stored with
 * @codec.
 */
uint32_t syn_space_plane(const struct syn_mm *mm, uint32_t space,
			 uint32_t codec);

/*
 * The space that @head names, made if it is missing.  -EINVAL: it makes no
 * sense.  -ENOSPC: the daemon holds no more.
 */
int syn_space_restore(struct syn_mm *mm, const struct syn_disk_head *head,
		      uint32_t *ret);

/* Those that a worker that is gone has kept. */
void syn_space_adopt(struct syn_mm *mm);

#endif
