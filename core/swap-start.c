/* SPDX-License-Identifier: Apache-2.0 */
/* What the swap file has when a daemon begins. */
#include "core/swap.h"

#include "core/base/base.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/index.h"
#include "core/lists.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/space.h"

static void swap_sequence_seen(struct syn_mm *mm, uint64_t sequence)
{
	mm->head->swap_sequence = syn_max(mm->head->swap_sequence, sequence);
}

/* Heads come by segment and mostly of one space and domain: the last of each. */
struct scan {
	struct syn_mm *mm;
	struct syn_extent *ext;
	struct syn_pool *pool;
	uint64_t identity[2];
	uint32_t domain;
};

static int found_segment(void *ctx, uint32_t segment, uint32_t nr_frames,
			 uint32_t frame_bytes, uint64_t segment_seq)
{
	struct scan *scan = ctx;
	struct syn_mm *mm = scan->mm;
	struct syn_pool *pool;
	int r;

	scan->ext = NULL;
	if (segment >= mm->disk->nr_segments || mm->segment_used[segment] ||
	    !frame_bytes || frame_bytes % SYN_DISK_BLOCK ||
	    nr_frames != syn_disk_frames(mm->disk, frame_bytes))
		return 0;
	r = syn_pool_nvme(mm, frame_bytes, &pool);
	if (r == -EDQUOT)
		return 0;
	if (!r)
		r = syn_swap_segment_new(mm, pool, segment, segment_seq,
					 &scan->ext);
	swap_sequence_seen(mm, segment_seq);
	return r;
}

/* What the head says is what a page of that space looks like. */
static bool found_fits(const struct syn_mm *mm, const struct syn_extent *ext,
		       uint32_t space, const struct syn_disk_head *head)
{
	return head->flags & SYN_DISK_HEAD_SEALED &&
	       (head->key[0] || head->key[1]) && head->frame < ext->nr_frames &&
	       head->codec < SYN_CODEC_NR &&
	       mm->info[space].bytes[head->codec] &&
	       head->bytes == mm->info[space].bytes[head->codec] &&
	       head->bytes <= ext->pool->frame_bytes &&
	       head->nr_tiles == mm->space[space].nr_tiles &&
	       head->fidelity == (head->codec == SYN_CODEC_RAW16
					  ? SYN_FIDELITY_RAW16
					  : SYN_FIDELITY_H4);
}

/* Of two with one key the younger stays; true: @head's. */
static bool found_younger(struct syn_mm *mm, uint32_t domain, uint32_t space,
			  const struct syn_disk_head *head)
{
	uint32_t other = syn_index_find(mm, domain, space, head->key);

	if (other == SYN_NONE)
		return true;
	if (mm->page[other].ready_value > head->sequence)
		return false;
	mm->page[other].flags |= SYN_PAGE_F_DYING;
	syn_page_unkey(mm, other);
	return true;
}

static int found_domain(struct scan *scan, const struct syn_disk_head *head)
{
	struct syn_domain_config config = {
		.identity = { head->domain[0], head->domain[1] },
		.found = true,
		.quota = { SYN_QUOTA_FREE, SYN_QUOTA_FREE, SYN_QUOTA_FREE },
	};
	int r;

	if (scan->pool && scan->identity[0] == head->domain[0] &&
	    scan->identity[1] == head->domain[1])
		return 0;
	memcpy(config.name, head->domain_name, sizeof(config.name));
	r = syn_mm_domain_get(scan->mm, &config, &scan->domain);
	if (r)
		return r;
	scan->pool = NULL;
	scan->identity[0] = head->domain[0];
	scan->identity[1] = head->domain[1];
	return 0;
}

static int found_pool(struct scan *scan, uint32_t space)
{
	const struct syn_pool *pool = scan->pool;

	if (pool && pool->space == space)
		return 0;
	return syn_pool_get(scan->mm, scan->domain, space, SYN_PLANE_CANONICAL,
			    &scan->pool);
}

/* All segments are told of before any head is. */
static struct syn_extent *found_extent(struct scan *scan, uint32_t segment)
{
	const struct syn_mm *mm = scan->mm;
	uint32_t i;

	if (scan->ext && scan->ext->ordinal == segment)
		return scan->ext;
	scan->ext = NULL;
	for (i = 0; i < SYN_EXTENTS_MAX && !scan->ext; i++)
		if (mm->extent[i] &&
		    mm->extent[i]->pool->tier == SYN_TIER_NVME &&
		    mm->extent[i]->ordinal == segment)
			scan->ext = mm->extent[i];
	return scan->ext;
}

static int found_head(void *ctx, const struct syn_disk_head *head)
{
	struct scan *scan = ctx;
	struct syn_mm *mm = scan->mm;
	struct syn_extent *ext = found_extent(scan, head->segment);
	uint32_t space;
	uint32_t page;

	swap_sequence_seen(mm, head->sequence);
	if (!ext || found_domain(scan, head) ||
	    syn_space_restore(mm, head, &space) ||
	    !found_fits(mm, ext, space, head))
		return 0;
	if (!found_younger(mm, scan->domain, space, head) ||
	    found_pool(scan, space) ||
	    syn_domain_charge(mm, scan->domain, SYN_TIER_NVME,
			      ext->pool->frame_bytes))
		return 0;
	page = syn_page_restore(mm, scan->pool, head,
				SYN_FRAME(ext->mem.id, head->frame));
	/* More pages than records: those that fit are served. */
	if (page == SYN_NONE) {
		syn_domain_uncharge(mm, scan->domain, SYN_TIER_NVME,
				    ext->pool->frame_bytes);
		return 0;
	}
	syn_extent_use(mm, ext, head->frame);
	mm->crc[page] = head->data_crc;
	return 0;
}

/* Pages that a younger one replaced go; the others take their places. */
static void found_settle(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < SYN_EXTENTS_MAX; i++)
		if (mm->extent[i])
			syn_extent_open(mm, mm->extent[i]);
	for (i = 0; i < mm->page_used; i++) {
		if (mm->page[i].state == SYN_PAGE_FREE)
			continue;
		mm->page[i].ready_value = 0;
		syn_lists_update(mm, i);
		(void)syn_page_settle(mm, i);
	}
}

int syn_swap_start(struct syn_mm *mm)
{
	struct scan scan = { .mm = mm };
	int r;

	/* There is no request, so that all records are free. */
	syn_swap_adopt(mm);
	if (!mm->disk)
		return 0;
	r = mm->disk->ops->scan(mm->disk, found_segment, found_head, &scan);
	if (r)
		return r;
	found_settle(mm);
	return 0;
}
