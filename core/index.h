/* SPDX-License-Identifier: Apache-2.0 */
/* From {domain, space, key} to the page that is sealed under it.  Derived. */
#ifndef SYN_CORE_INDEX_H
#define SYN_CORE_INDEX_H

#include "core/mm-internal.h"

/* SYN_NONE when there is none. */
uint32_t syn_index_find(const struct syn_mm *mm, uint32_t domain,
			uint32_t space, const uint64_t key[2]);
/* The bucket of a key. */
uint32_t syn_index_bucket(const struct syn_mm *mm, uint32_t domain,
			  uint32_t space, const uint64_t key[2]);
/* Its key is set and not in the index. */
void syn_index_add(struct syn_mm *mm, uint32_t page);
void syn_index_del(struct syn_mm *mm, uint32_t page);

#endif
