/* SPDX-License-Identifier: Apache-2.0 */
/* The swap file: pages go out from host frames and come in to host frames. */
#include "core/swap.h"

#include <sched.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/kept.h"
#include "core/lists.h"
#include "core/page.h"
#include "core/pool.h"

#define SWAP_REAP  64u /* completions taken at once */
#define SWAP_READS 64u /* requests that only reads may have */
#define SWAP_LOOK  64u /* pages looked at for one to make room */

static struct syn_extent *slot_extent(const struct syn_mm *mm, uint32_t slot)
{
	return mm->extent[SYN_FRAME_EXTENT(slot)];
}

/* For people and probes: {segment, slot in it}. */
static uint32_t __attribute__((unused))
slot_name(const struct syn_mm *mm, uint32_t slot)
{
	return SYN_FRAME(slot_extent(mm, slot)->ordinal, SYN_FRAME_INDEX(slot));
}

/* ---- requests ----------------------------------------------------------- */

/* Where the slot and the frame of a request are. */
static void swap_place(const struct syn_mm *mm, const struct syn_rec_swap *swap,
		       struct syn_disk_io *ret)
{
	const struct syn_extent *ext = slot_extent(mm, swap->slot);
	const struct syn_extent *host;

	ret->segment = ext->ordinal;
	ret->frame_bytes = (uint32_t)ext->pool->frame_bytes;
	ret->segment_seq = ext->seq;
	if (swap->state == SYN_SWAP_FORMAT) {
		ret->frame = ext->nr_frames;
		return;
	}
	ret->frame = SYN_FRAME_INDEX(swap->slot);
	if (swap->state == SYN_SWAP_WIPE)
		return;
	host = mm->extent[SYN_FRAME_EXTENT(swap->host)];
	ret->mem = &host->mem;
	ret->mem_off = SYN_FRAME_INDEX(swap->host) * host->pool->frame_bytes;
}

static uint64_t stored_bytes(const struct syn_mm *mm,
			     const struct syn_rec_page *pg)
{
	return mm->info[pg->space].bytes[pg->codec];
}

/* The record is complete; it goes if the disk does not take the request. */
static int swap_submit(struct syn_mm *mm, uint32_t i)
{
	const struct syn_rec_swap *swap = &mm->swap[i];
	struct syn_disk_io io = { .cookie = i };

	swap_place(mm, swap, &io);
	switch (swap->state) {
	case SYN_SWAP_READ:
		io.op = SYN_DISK_READ;
		io.crc = mm->crc[swap->page];
		io.bytes = stored_bytes(mm, &mm->page[swap->page]);
		break;
	case SYN_SWAP_WRITE:
		io.op = SYN_DISK_WRITE;
		io.bytes = stored_bytes(mm, &mm->page[swap->page]);
		io.head = &mm->swap_head[i];
		break;
	case SYN_SWAP_WIPE:
		io.op = SYN_DISK_WIPE;
		break;
	default:
		io.op = SYN_DISK_FORMAT;
		break;
	}
	io.durable = swap->durable;
	return mm->disk->ops->submit(mm->disk, &io, 1);
}

static uint32_t swap_record(struct syn_mm *mm, const struct syn_rec_swap *what)
{
	uint32_t i = syn_kept_swap_new(mm);

	if (i == SYN_NONE)
		return i;
	mm->swap[i] = *what;
	mm->swap[i].state = SYN_SWAP_FREE;
	syn_commit(&mm->swap[i].state, what->state);
	return i;
}

static uint64_t swap_sequence(struct syn_mm *mm)
{
	uint64_t sequence = mm->head->swap_sequence + 1;

	syn_commit(&mm->head->swap_sequence, sequence);
	return sequence;
}

/* ---- segments ----------------------------------------------------------- */

/* Others' empty segments come free. */
static void segments_trim(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++)
		if (mm->pool[i] && mm->pool[i]->tier == SYN_TIER_NVME)
			syn_pool_trim(mm, mm->pool[i]);
}

static uint32_t segment_find(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->disk->nr_segments; i++)
		if (!mm->segment_used[i])
			return i;
	return SYN_NONE;
}

int syn_swap_segment_new(struct syn_mm *mm, struct syn_pool *pool,
			 uint32_t segment, uint64_t seq,
			 struct syn_extent **ret)
{
	int r = syn_extent_new(mm, pool, segment, seq, ret);

	if (r)
		return r;
	mm->segment_used[segment] = 1;
	return 0;
}

/* Its slots can be had once it has been cut. */
static int segment_cut(struct syn_mm *mm, struct syn_pool *pool)
{
	uint32_t segment = segment_find(mm);
	struct syn_rec_swap what = { .state = SYN_SWAP_FORMAT,
				     .page = SYN_NONE,
				     .host = SYN_NONE,
				     .durable = 1 };
	struct syn_extent *ext;
	uint32_t i;

	if (segment == SYN_NONE && mm->tier[2].nr_empty) {
		segments_trim(mm);
		segment = segment_find(mm);
	}
	if (segment == SYN_NONE)
		return SYN_SWAP_E_FULL;
	if (syn_swap_segment_new(mm, pool, segment, swap_sequence(mm), &ext))
		return SYN_SWAP_E_FULL;
	what.slot = SYN_FRAME(ext->mem.id, 0);
	i = swap_record(mm, &what);
	if (i == SYN_NONE) {
		syn_extent_free(mm, ext);
		return SYN_SWAP_E_LATER;
	}
	pool->cutting++;
	if (!swap_submit(mm, i))
		return SYN_SWAP_E_LATER;
	pool->cutting--;
	syn_kept_swap_free(mm, i);
	syn_extent_free(mm, ext);
	return SYN_SWAP_E_LATER;
}

static void segment_cut_done(struct syn_mm *mm, uint32_t slot, int status)
{
	struct syn_extent *ext = slot_extent(mm, slot);

	ext->pool->cutting--;
	if (!status) {
		syn_extent_open(mm, ext);
		return;
	}
	SYN_PROBE(slot_retire, slot_name(mm, slot), status);
	mm->swap_retry_ns = mm->now_ns + SYN_SWAP_BACKOFF_NS;
	syn_extent_free(mm, ext);
}

/* ---- slots -------------------------------------------------------------- */

/*
 * A cold page of @lru that makes room for @domain: of the one that is furthest
 * above its share, or its own.  @own: its own quota is what refuses.
 */
static uint32_t slot_victim(const struct syn_mm *mm, const struct syn_lru *lru,
			    uint64_t bytes, uint32_t domain, bool own)
{
	uint32_t look = SWAP_LOOK;
	uint64_t best_rank = 0;
	uint32_t best = SYN_NONE;
	uint32_t page;

	for (page = lru->cold; page != SYN_NONE && look--;
	     page = syn_lists_warmer(mm, page)) {
		uint32_t other = mm->page[page].domain;
		uint64_t rank = other == domain;

		if (!rank && !own)
			rank = syn_domain_rank(mm, SYN_TIER_NVME, other, bytes,
					       domain, bytes);
		if (rank <= best_rank)
			continue;
		best_rank = rank;
		best = page;
	}
	return best;
}

/* What is above too, then what nobody leases. */
static bool slot_reclaim(struct syn_mm *mm, const struct syn_pool *pool,
			 uint32_t domain, bool own, uint32_t session)
{
	uint32_t page = slot_victim(mm, &pool->list[SYN_LIST_DUP],
				    pool->frame_bytes, domain, own);

	if (page != SYN_NONE) {
		syn_page_nvme_free(mm, page);
		return true;
	}
	page = slot_victim(mm, &pool->list[SYN_LIST_COLD], pool->frame_bytes,
			   domain, own);
	if (page != SYN_NONE)
		syn_page_evict(mm, page, SYN_WHY_EVICTED, session);
	return page != SYN_NONE;
}

/*
 * Slots of another size come free, of the pool that has most segments.  Pages
 * are written next to each other, so the coldest empty whole segments.
 */
static bool slot_reclaim_others(struct syn_mm *mm, const struct syn_pool *pool,
				uint32_t domain, uint32_t session)
{
	const struct syn_pool *most = NULL;
	uint32_t nr = 0;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		const struct syn_pool *other = mm->pool[i];

		if (other && other != pool && other->tier == SYN_TIER_NVME &&
		    (!most || other->nr_extents > most->nr_extents))
			most = other;
	}
	while (most && nr < SWAP_LOOK &&
	       slot_reclaim(mm, most, domain, false, session))
		nr++;
	return nr;
}

/* @leased: somebody needs the page, so that what nobody does may go for it. */
static int slot_take(struct syn_mm *mm, struct syn_pool *pool, uint32_t domain,
		     bool leased, uint32_t session, uint32_t *ret)
{
	int r = syn_pool_nvme_take(mm, pool, domain, ret);
	bool own = r == -EDQUOT;

	if (!r)
		return 0;
	if (pool->cutting && !own)
		return SYN_SWAP_E_LATER;
	if (!own && segment_cut(mm, pool) == SYN_SWAP_E_LATER)
		return SYN_SWAP_E_LATER;
	if (slot_reclaim(mm, pool, domain, own, session) &&
	    !syn_pool_nvme_take(mm, pool, domain, ret))
		return 0;
	if (!own && leased && slot_reclaim_others(mm, pool, domain, session))
		return segment_cut(mm, pool);
	return SYN_SWAP_E_FULL;
}

/* The medium failed there: it stays in use, by nobody, on nobody's account. */
static void slot_spoilt(struct syn_mm *mm, uint32_t slot, int status)
{
	SYN_PROBE(slot_retire, slot_name(mm, slot), status);
	mm->count.swap_retired++;
}

static void slot_retire(struct syn_mm *mm, uint32_t domain, uint32_t slot,
			int status)
{
	slot_spoilt(mm, slot, status);
	syn_domain_uncharge(mm, domain, SYN_TIER_NVME,
			    slot_extent(mm, slot)->pool->frame_bytes);
}

/* ---- out ---------------------------------------------------------------- */

static void head_fill(struct syn_mm *mm, uint32_t page, bool durable,
		      struct syn_disk_head *ret)
{
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_rec_space *space = &mm->space[pg->space];
	const struct syn_rec_domain *domain = &mm->rec_domain[pg->domain];
	bool sealed = pg->state == SYN_PAGE_SEALED &&
		      syn_page_is(pg, SYN_PAGE_F_KEYED) &&
		      syn_page_ready(mm, page);

	*ret = (struct syn_disk_head){
		.flags = (sealed ? SYN_DISK_HEAD_SEALED : 0) |
			 (durable ? SYN_DISK_HEAD_DURABLE : 0),
		.sequence = swap_sequence(mm),
		.key = { pg->key[0], pg->key[1] },
		.domain = { domain->identity[0], domain->identity[1] },
		.model = { space->model[0], space->model[1] },
		.tokens = space->tokens,
		.layers_per_page = space->layers_per_page,
		.nr_components = space->nr_components,
		.raw_head = (uint8_t)space->raw_head,
		.raw_tail = (uint8_t)space->raw_tail,
		.space_flags = space->flags,
		.bytes = stored_bytes(mm, pg),
		.codec = pg->codec,
		.fidelity = pg->fidelity,
		.nr_tiles = space->nr_tiles,
	};
	memcpy(ret->domain_name, domain->name, sizeof(ret->domain_name));
	memcpy(ret->component, space->component, sizeof(ret->component));
	memcpy(ret->sum, syn_page_sums(mm, page),
	       space->nr_tiles * sizeof(ret->sum[0]));
	if (pg->codec != SYN_CODEC_RAW16)
		memcpy(ret->error, syn_page_errors(mm, page),
		       space->nr_tiles * sizeof(ret->error[0]));
}

/* For whom @page is written: whoever asked for room, or leases it. */
static uint32_t swap_session(const struct syn_mm *mm, uint32_t page,
			     uint32_t session)
{
	uint32_t l = mm->page[page].lessee;

	if (session != SYN_NONE || l == SYN_NONE)
		return session;
	return mm->session[mm->lessee[l].session]->cfg.id;
}

int syn_swap_out(struct syn_mm *mm, uint32_t page, bool durable,
		 uint32_t session)
{
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_pool *pool =
		syn_pool_below(mm->pool[pg->pool], SYN_TIER_NVME, pg->codec);
	struct syn_rec_swap what = { .state = SYN_SWAP_WRITE,
				     .page = page,
				     .generation = pg->generation,
				     .host = pg->host,
				     .durable = durable };
	uint32_t i;
	int r;

	if (!pool)
		return SYN_SWAP_E_FULL;
	if (mm->now_ns < mm->swap_retry_ns ||
	    mm->nr_swaps >= SYN_SWAPS_MAX - SWAP_READS)
		return SYN_SWAP_E_LATER;
	/* First, so that making room does not take its copy away. */
	syn_page_change(mm, page, SYN_PAGE_F_IO, 0);
	r = slot_take(mm, pool, pg->domain, pg->lessee != SYN_NONE,
		      swap_session(mm, page, session), &what.slot);
	i = r ? SYN_NONE : swap_record(mm, &what);
	if (r || i == SYN_NONE) {
		if (!r)
			syn_pool_nvme_give(mm, pg->domain, what.slot);
		syn_page_change(mm, page, 0, SYN_PAGE_F_IO);
		return r ? r : SYN_SWAP_E_LATER;
	}
	head_fill(mm, page, durable, &mm->swap_head[i]);
	SYN_PROBE(swap_out_begin, page, slot_name(mm, what.slot),
		  stored_bytes(mm, pg));
	if (!swap_submit(mm, i))
		return 0;
	SYN_PROBE(swap_out_end, page, slot_name(mm, what.slot), -EAGAIN);
	syn_kept_swap_free(mm, i);
	syn_pool_nvme_give(mm, pg->domain, what.slot);
	syn_page_change(mm, page, 0, SYN_PAGE_F_IO);
	return SYN_SWAP_E_LATER;
}

static void swap_out_failed(struct syn_mm *mm, uint32_t domain, uint32_t slot,
			    int status)
{
	mm->swap_retry_ns = mm->now_ns + SYN_SWAP_BACKOFF_NS;
	if (status == -EIO)
		slot_retire(mm, domain, slot, status);
	else
		syn_pool_nvme_give(mm, domain, slot);
}

static void swap_out_done(struct syn_mm *mm, const struct syn_rec_swap *swap,
			  const struct syn_disk_head *head,
			  const struct syn_disk_done *done)
{
	struct syn_rec_page *pg = &mm->page[swap->page];
	bool dead =
		pg->state == SYN_PAGE_LOST || syn_page_is(pg, SYN_PAGE_F_DYING);
	uint32_t set = SYN_PAGE_F_NVME;

	SYN_PROBE(swap_out_end, swap->page, slot_name(mm, swap->slot),
		  done->status);
	if (done->status || dead) {
		if (done->status)
			swap_out_failed(mm, pg->domain, swap->slot,
					done->status);
		else
			syn_pool_nvme_give(mm, pg->domain, swap->slot);
		syn_page_change(mm, swap->page, 0, SYN_PAGE_F_IO);
		return;
	}
	mm->tier[1].out_bytes += head->bytes;
	mm->tier[2].in_bytes += head->bytes;
	if (syn_page_is(pg, SYN_PAGE_F_NVME))
		syn_page_nvme_free(mm, swap->page);
	mm->crc[swap->page] = done->crc;
	pg->nvme = swap->slot;
	if (swap->durable && head->flags & SYN_DISK_HEAD_SEALED)
		set |= SYN_PAGE_F_DURABLE;
	syn_page_change(mm, swap->page, set, SYN_PAGE_F_IO);
}

/* ---- in ----------------------------------------------------------------- */

int syn_swap_in(struct syn_mm *mm, uint32_t page, uint32_t frame,
		uint32_t session)
{
	struct syn_rec_page *pg = &mm->page[page];
	uint32_t i = swap_record(mm, &(struct syn_rec_swap){
					     .state = SYN_SWAP_READ,
					     .page = page,
					     .generation = pg->generation,
					     .host = frame,
					     .slot = pg->nvme,
					     .session = session,
				     });

	if (i == SYN_NONE)
		return SYN_SWAP_E_LATER;
	SYN_PROBE(swap_in_begin, session, page, slot_name(mm, pg->nvme),
		  stored_bytes(mm, pg));
	if (swap_submit(mm, i)) {
		SYN_PROBE(swap_in_end, session, page, slot_name(mm, pg->nvme),
			  -EAGAIN);
		syn_kept_swap_free(mm, i);
		return SYN_SWAP_E_LATER;
	}
	syn_page_change(mm, page, SYN_PAGE_F_IO, 0);
	return 0;
}

static void swap_in_done(struct syn_mm *mm, const struct syn_rec_swap *swap,
			 int status)
{
	struct syn_rec_page *pg = &mm->page[swap->page];
	uint64_t bytes = stored_bytes(mm, pg);

	SYN_PROBE(swap_in_end, swap->session, swap->page,
		  slot_name(mm, swap->slot), status);
	if (!status && pg->state != SYN_PAGE_LOST &&
	    !syn_page_is(pg, SYN_PAGE_F_DYING)) {
		mm->tier[2].out_bytes += bytes;
		mm->tier[1].in_bytes += bytes;
		pg->host = swap->host;
		syn_page_change(mm, swap->page, SYN_PAGE_F_HOST, SYN_PAGE_F_IO);
		return;
	}
	syn_pool_frame_give(mm, swap->host);
	/* First: without its slot it must not pass for a page that is whole. */
	if (status && pg->state != SYN_PAGE_LOST)
		syn_page_lost(mm, swap->page, SYN_NONE, SYN_TIER_NVME,
			      status == -EILSEQ ? SYN_WHY_CHECKSUM
						: SYN_WHY_DEVICE);
	if (status) {
		slot_retire(mm, pg->domain, swap->slot, status);
		syn_page_change(mm, swap->page, 0,
				SYN_PAGE_F_NVME | SYN_PAGE_F_DURABLE);
		pg->nvme = SYN_NONE;
	}
	syn_page_change(mm, swap->page, 0, SYN_PAGE_F_IO | SYN_PAGE_F_WANTED);
}

/* ---- what was cut off --------------------------------------------------- */

/*
 * Whether the write that @swap was did not come to its end: nobody has its slot,
 * of which the head is still that of a page whose data may be overwritten.
 */
static bool swap_was_cut(const struct syn_mm *mm,
			 const struct syn_rec_swap *swap)
{
	const struct syn_extent *ext = syn_extent_of(mm, swap->slot);

	return (swap->state == SYN_SWAP_WRITE ||
		swap->state == SYN_SWAP_WIPE) &&
	       ext && !syn_extent_is_used(ext, SYN_FRAME_INDEX(swap->slot));
}

/* It is in use until then, on nobody's account; a disk that is busy is let off. */
static bool swap_wipe(struct syn_mm *mm, uint32_t i)
{
	struct syn_rec_swap *swap = &mm->swap[i];

	swap->page = SYN_NONE;
	swap->durable = 0;
	syn_commit(&swap->state, SYN_SWAP_WIPE);
	if (swap_submit(mm, i))
		return false;
	syn_extent_use(mm, slot_extent(mm, swap->slot),
		       SYN_FRAME_INDEX(swap->slot));
	return true;
}

void syn_swap_adopt(struct syn_mm *mm)
{
	uint32_t i;

	mm->nr_swaps = SYN_SWAPS_MAX;
	for (i = SYN_SWAPS_MAX; i--;)
		if (!swap_was_cut(mm, &mm->swap[i]) || !swap_wipe(mm, i))
			syn_kept_swap_free(mm, i);
}

static void swap_wiped(struct syn_mm *mm, uint32_t slot, int status)
{
	if (status == -EIO)
		slot_spoilt(mm, slot, status);
	else
		syn_pool_frame_give(mm, slot);
}

/* ---- in the background -------------------------------------------------- */

static void swap_done(struct syn_mm *mm, const struct syn_disk_done *done)
{
	uint32_t i = (uint32_t)done->cookie;
	const struct syn_rec_swap swap = mm->swap[i];

	mm->progress = true;
	if (swap.state == SYN_SWAP_FORMAT) {
		syn_kept_swap_free(mm, i);
		segment_cut_done(mm, swap.slot, done->status);
		return;
	}
	if (swap.state == SYN_SWAP_WIPE) {
		syn_kept_swap_free(mm, i);
		swap_wiped(mm, swap.slot, done->status);
		return;
	}
	if (swap.state == SYN_SWAP_WRITE)
		swap_out_done(mm, &swap, &mm->swap_head[i], done);
	else
		swap_in_done(mm, &swap, done->status);
	syn_kept_swap_free(mm, i);
	(void)syn_page_settle(mm, swap.page);
}

bool syn_swap_poll(struct syn_mm *mm)
{
	struct syn_disk_done done[SWAP_REAP];
	bool moved = false;
	unsigned int nr;
	unsigned int i;

	if (!mm->disk)
		return false;
	do {
		nr = mm->disk->ops->reap(mm->disk, done, SWAP_REAP);
		for (i = 0; i < nr; i++)
			swap_done(mm, &done[i]);
		moved |= nr;
	} while (nr == SWAP_REAP);
	return moved;
}

uint32_t syn_swap_clean(struct syn_mm *mm, struct syn_pool *pool, uint32_t nr,
			uint32_t session)
{
	static const uint8_t lists[] = { SYN_LIST_COLD, SYN_LIST_LEASED };
	uint32_t begun = 0;
	uint32_t i;

	if (!mm->disk)
		return 0;
	for (i = 0; i < syn_array_size(lists); i++) {
		struct syn_lru *lru = &pool->list[lists[i]];

		while (begun < nr && lru->cold != SYN_NONE) {
			if (syn_swap_out(mm, lru->cold, false, session))
				return begun;
			begun++;
		}
	}
	return begun;
}

void syn_swap_quiesce(struct syn_mm *mm)
{
	while (mm->nr_swaps)
		if (!syn_swap_poll(mm))
			(void)sched_yield();
}
