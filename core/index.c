/* SPDX-License-Identifier: Apache-2.0 */
/* From {domain, space, key} to the page that is sealed under it. */
#include "core/index.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/base.h"

uint32_t syn_index_bucket(const struct syn_mm *mm, uint32_t domain,
			  uint32_t space, const uint64_t key[2])
{
	const uint64_t whole[3] = { key[0], key[1],
				    (uint64_t)domain << 32 | space };

	return (uint32_t)XXH3_64bits(whole, sizeof(whole)) & mm->bucket_mask;
}

static uint32_t *index_bucket(const struct syn_mm *mm, uint32_t domain,
			      uint32_t space, const uint64_t key[2])
{
	return &mm->bucket[syn_index_bucket(mm, domain, space, key)];
}

uint32_t syn_index_find(const struct syn_mm *mm, uint32_t domain,
			uint32_t space, const uint64_t key[2])
{
	uint32_t i = *index_bucket(mm, domain, space, key);

	for (; i != SYN_NONE; i = mm->links[i].hash_next) {
		const struct syn_rec_page *pg = &mm->page[i];

		if (pg->key[0] == key[0] && pg->key[1] == key[1] &&
		    pg->space == space && pg->domain == domain)
			break;
	}
	return i;
}

void syn_index_add(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t *head = index_bucket(mm, pg->domain, pg->space, pg->key);

	mm->links[page].hash_next = *head;
	*head = page;
}

void syn_index_del(struct syn_mm *mm, uint32_t page)
{
	const struct syn_rec_page *pg = &mm->page[page];
	uint32_t *at = index_bucket(mm, pg->domain, pg->space, pg->key);

	while (*at != page)
		at = &mm->links[*at].hash_next;
	*at = mm->links[page].hash_next;
}
