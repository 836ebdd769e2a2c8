/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structures that the files of core share.
 *
 * Include order inside core, each only from those before it: record,
 * mm-internal, shape, request, kept, space, domain, extent, pool, index, lists,
 * depart, page, swap, shrink, lease, quarantine, lost, host, move, reclaim, load,
 * session, fsck, adopt; then the files without a header.
 *
 * Derived state only: all of it can be computed from the kept records and
 * the extents, and belongs to the control thread.
 */
#ifndef SYN_CORE_MM_INTERNAL_H
#define SYN_CORE_MM_INTERNAL_H

#include "core/base/base.h"
#include "core/base/list.h"
#include "core/dev.h"
#include "core/disk.h"
#include "core/mm.h"
#include "core/record.h"

#define SYN_POOLS_MAX	    1024u
#define SYN_DRAINS_MAX	    4u	/* drains of a session that wait at once */
#define SYN_SUM_CLASSES	    6u	/* runs of 16, 32 ... 512 words */
#define SYN_MOVES_WINDOW    64u /* moves on behalf of one window */
#define SYN_HINT_NS	    1000000u
#define SYN_DRAIN_POLL_NS   200000u
#define SYN_DRAIN_POLL_MAX  2000000u
#define SYN_DRAIN_GIVE_UP   1000000000u
#define SYN_COPY_BACKOFF_NS 10000000u
#define SYN_SWAP_BACKOFF_NS 100000000u

/* The lists of pages below HBM, by how a frame can be had. */
#define SYN_LIST_NONE	0
#define SYN_LIST_DUP	1 /* at once: the page is in a tier above, too */
#define SYN_LIST_CLEAN	2 /* at once: it is in the swap file, too */
#define SYN_LIST_COLD	3 /* by a write, or by dropping the page */
#define SYN_LIST_LEASED 4 /* by a write */
#define SYN_LISTS	5

/* A doubly linked list of pages by index; @cold is looked at first. */
struct syn_lru {
	uint32_t cold;
	uint32_t hot;
	uint32_t nr;
};

/* What is derived of one page; with the record and its hash bucket this is
 * the 128 bytes that a page may cost. */
struct syn_page_links {
	uint32_t prev;
	uint32_t next;
	uint32_t hash_next;
};
SYN_ABI_ASSERT(sizeof(struct syn_rec_page) + sizeof(struct syn_page_links) +
			       sizeof(uint32_t) <=
		       128,
	       "a page costs more than 128 bytes");
SYN_ABI_ASSERT(sizeof(struct syn_rec_lessee) + sizeof(uint32_t) <= 32,
	       "a lessee costs more than 32 bytes");

/**
 * struct syn_extent - memory of one pool.
 * @mem:	the device's; mem.id is the extent's id.
 * @pool:	its pool.
 * @in_pool:	link in the pool's extents.
 * @in_free:	link in the pool's extents that have a free frame.
 * @ordinal:	HBM: slots begin at ordinal * frames of an extent.  NVMe: the
 *		segment.
 * @nr_frames:	frames.
 * @nr_used:	of these in use.
 * @free:	first free frame.
 * @nr_told:	sessions that map it.
 * @retiring:	gives out no frame; freed when @nr_told is 0.  NVMe: also until
 *		its segment is cut.
 * @draining:	host: gives out no frame; retires when it is empty.
 * @lost:	its memory could not be taken over, see core/lost.h.
 * @nr_loose:	host: used frames on the pool's lists of what may go.
 * @seq:	NVMe: sequence of its segment.
 * @link:	of a free frame the next free one; of a used one in HBM its
 *		page or SYN_NONE; of one below HBM the next page of the list it
 *		is on.
 * @back:	below HBM: the page before on that list.
 * @owner:	host: the page of a used frame; SYN_NONE: none yet.
 */
struct syn_extent {
	struct syn_mem mem;
	struct syn_pool *pool;
	struct syn_list in_pool;
	struct syn_list in_free;
	uint32_t ordinal;
	uint32_t nr_frames;
	uint32_t nr_used;
	uint32_t free;
	uint32_t nr_told;
	bool retiring;
	bool draining;
	bool lost;
	uint32_t nr_loose;
	uint64_t seq;
	uint32_t *link;
	uint32_t *back;
	uint32_t *owner;
};

/**
 * struct syn_pool - frames of one size.
 * @index:		in mm->pool.
 * @tier:		SYN_TIER_*.
 * @domain:		its domain; NVMe: SYN_NONE, slots serve all.
 * @space:		HBM: its space.  Below: SYN_NONE.
 * @plane:		HBM: SYN_PLANE_*: what its frames hold.
 * @frame_bytes:	bytes of a frame.
 * @extent_bytes:	bytes of an extent.
 * @extent_frames:	frames of an extent.
 * @max_extents:	under the budget; HBM: entries of @ordinal.
 * @ordinal:		HBM: extents by place.
 * @extents:		all its extents.
 * @with_free:		those with a free frame, neither retiring nor draining.
 * @shrinking:		HBM: link in mm->shrinking while its surplus is emptied.
 * @shrinks_own:	HBM: for another pool of its domain.
 * @stuck_ns:		HBM: when its surplus could last not be emptied.
 * @asking:		host: link in mm->asking while it is short of an extent.
 * @asked_ns:		host: when it last was.
 * @asks_own:		host: its domain's maximum stands in the way.
 * @nr_extents:		all.
 * @nr_frames:		frames of those neither retiring nor draining.
 * @nr_free:		of these free.
 * @guaranteed:		HBM: sum of the open windows' slots.
 * @lacks:		HBM: it holds less, because an extent of it was lost.
 * @nr_users:		HBM: windows and pages.  Below: HBM pools.
 * @cutting:		NVMe: extents whose segments are being cut.
 * @going:		HBM: slots that come free without anybody's doing.
 * @moves:		moves of pages charged to nobody.
 * @below:		HBM: where its pages go, by tier and codec, see
 *			syn_pool_below().
 * @cached:		HBM: resident pages charged to nobody.
 * @list:		below HBM: pages by how their frame can be had, see
 *			core/lists.h.
 */
struct syn_pool {
	uint32_t index;
	uint32_t tier;
	uint32_t domain;
	uint32_t space;
	uint32_t plane;
	uint64_t frame_bytes;
	uint64_t extent_bytes;
	uint32_t extent_frames;
	uint32_t max_extents;
	struct syn_extent **ordinal;
	struct syn_list extents;
	struct syn_list with_free;
	struct syn_list shrinking;
	bool shrinks_own;
	uint64_t stuck_ns;
	struct syn_list asking;
	uint64_t asked_ns;
	bool asks_own;
	uint32_t nr_extents;
	uint64_t nr_frames;
	uint64_t nr_free;
	uint64_t guaranteed;
	bool lacks;
	uint64_t nr_users;
	uint32_t cutting;
	uint32_t going;
	uint32_t moves;
	struct syn_pool *below[2][SYN_CODEC_NR];
	struct syn_lru cached;
	struct syn_lru list[SYN_LISTS];
};

/**
 * struct syn_window - one session's share of an HBM pool.
 * @session:	whose.
 * @pool:	its pool; NULL: the space has no such plane, and @slots is 0.
 * @slots:	guaranteed.
 * @charged:	slots in use on its account; at most @slots.
 * @going:	of these, slots that come free without the client's doing.
 * @moves:	moves of pages charged to it.
 * @lru:	its resident pages that may be moved.
 * @pressed:	link in mm->pressed while it is short of free slots.
 */
struct syn_window {
	struct syn_session *session;
	struct syn_pool *pool;
	uint32_t slots;
	uint32_t charged;
	uint32_t going;
	uint32_t moves;
	struct syn_lru lru;
	struct syn_list pressed;
};

/**
 * struct syn_session - a client.
 * @mm:			its manager.
 * @index:		in mm->session and the records.
 * @cfg:		as given.
 * @ended:		no request may come any more.
 * @dirty:		ended with loans or pins: only the exit of its process
 *			proves anything.
 * @nr_windows:		open windows.
 * @window:		them, by plane.
 * @window_of:		by space: window, or 0xff.
 * @map:		by page-table entry: its lessee, or with MAP_FREE the
 *			next free entry.
 * @map_free:		first free entry below @map_used, or SYN_NONE.
 * @map_used:		entries ever used.
 * @nr_leases:		entries in use.
 * @loans_free:		one bit for each loan that is not out.
 * @nr_loans:		those that are, ...
 * @loan_page:		... each with its page; SYN_NONE: its slot was lost.
 * @nr_quarantined:	its entries in the quarantine.
 * @quarantine:		first of them.
 * @gone_first:		oldest GONE lessee.
 * @gone_last:		youngest one.
 * @epoch_done:		drains that have passed.
 * @epoch_last:		drains that were begun.
 * @target:		timelines' values of the SYN_DRAINS_MAX last drains.
 * @draining:		link in mm->draining.
 * @losing:		link in mm->losing while it may use what is lost ...
 * @lost_pte:		... which entries before this do no more ...
 * @lost_drains:	... and then, when its drain @lost_epoch has passed,
 *			nobody.
 * @lost_epoch:		see there.
 * @want:		extents it must be told of.
 * @told:		extents it maps; kept.
 * @give_up:		extents it must be told to give up.
 * @giving_up:		extents it was told to give up.
 * @nr_want:		bits in @want.
 * @nr_give_up:		bits in @give_up.
 * @notices:		SYN_NOTICE_* since last asked.
 */
struct syn_session {
	struct syn_mm *mm;
	uint32_t index;
	struct syn_session_config cfg;
	bool ended;
	bool dirty;
	uint32_t nr_windows;
	struct syn_window window[SYN_WINDOWS_MAX][SYN_PLANES];
	uint8_t window_of[SYN_SPACES_MAX];
	uint32_t *map;
	uint32_t map_free;
	uint32_t map_used;
	uint32_t nr_leases;
	uint64_t loans_free[SYN_LOAN_WORDS];
	uint32_t nr_loans;
	uint32_t loan_page[SYN_LOANS_MAX];
	uint32_t nr_quarantined;
	uint32_t quarantine;
	uint32_t gone_first;
	uint32_t gone_last;
	uint16_t epoch_done;
	uint16_t epoch_last;
	uint64_t *target;
	struct syn_list draining;
	struct syn_list losing;
	uint32_t lost_pte;
	bool lost_drains;
	uint16_t lost_epoch;
	uint64_t want[SYN_EXTENT_WORDS];
	uint64_t *told;
	uint64_t give_up[SYN_EXTENT_WORDS];
	uint64_t giving_up[SYN_EXTENT_WORDS];
	uint32_t nr_want;
	uint32_t nr_give_up;
	uint32_t notices;
	uint64_t faults;
	uint64_t demotions;
	uint64_t lookup_hits;
};
#define SYN_MAP_FREE  0x80000000u
#define SYN_NO_WINDOW 0xffu

/**
 * struct syn_domain - what is derived of one domain.
 * @used:	bytes of its extents and slots, by tier.
 * @nr_sessions: sessions, until their processes are gone.
 * @refused:	requests that its quota refused.
 * @denied:	its quota refused what it last wanted.
 */
struct syn_domain {
	uint64_t used[SYN_QUOTA_TIERS];
	uint32_t nr_sessions;
	bool denied;
	uint64_t refused;
};

struct syn_tier_state {
	uint64_t budget_bytes;
	uint64_t unit_bytes; /* what is taken at once, of all but huge frames */
	uint64_t extent_bytes;
	uint64_t used_bytes;
	uint64_t quarantine_bytes;
	uint64_t in_bytes;
	uint64_t out_bytes;
	uint32_t nr_extents;
	uint32_t nr_empty; /* without a used frame, not retiring */
};

/**
 * struct syn_space_info - what is computed of a space.
 * @coded:	its pages may be encoded.
 * @layout:	then: how.
 * @bytes:	stored bytes by codec; 0: it has no such form.
 */
struct syn_space_info {
	bool coded;
	struct syn_layout layout;
	uint64_t bytes[SYN_CODEC_NR];
};

/**
 * struct syn_move_result - what a copy tells of a page; written by the device.
 * @sum:	of the tiles that were read.
 * @stored:	of those that were written, when they were encoded ...
 * @error:	... and what they lost.
 */
struct syn_move_result {
	uint32_t sum[SYN_TILES_MAX];
	uint32_t stored[SYN_TILES_MAX];
	uint16_t error[SYN_TILES_MAX];
};

/**
 * struct syn_mm - the manager.
 * @progress:		something came free since the last poll.
 * @again:		the request at hand was certain when a worker died.
 * @adopting:		what is kept may be another worker's still.
 * @retry_ns:		no copy before this: the last one failed.
 * @swap_retry_ns:	no write to the swap file before this: the same.
 * @drain_poll_ns:	how long the next look at timelines may wait.
 * @asking:		host pools that are short of an extent, oldest first.
 * @drain_extent:	host extent that is being emptied, or SYN_NONE ...
 * @drain_frame:	... its next frame ...
 * @drain_ns:		... and since when; else when to choose the next one.
 * @changes:		grows with every change of pages, lessees, requests and
 *			sessions: what was counted meanwhile may not add up.
 *
 * The other members are the records, what is derived of them, and counters.
 */
struct syn_mm {
	struct syn_mm_config cfg;
	struct syn_dev *dev;
	struct syn_disk *disk;
	uint64_t now_ns;
	uint64_t retry_ns;
	uint64_t swap_retry_ns;
	uint64_t drain_poll_ns;
	bool progress;
	bool again;
	bool adopting;

	struct syn_rec_head *head;
	struct syn_rec_redo *redo;
	struct syn_rec_domain *rec_domain;
	struct syn_rec_extent *rec_extent;
	struct syn_rec_space *space;
	struct syn_rec_session *rec_session;
	struct syn_rec_move *move;
	struct syn_rec_swap *swap;
	struct syn_rec_quarantine *quarantine;
	struct syn_rec_lessee *lessee;
	struct syn_rec_page *page;
	uint32_t *sums;
	uint32_t *crc; /* of what a page's slot in the swap file holds */
	uint16_t *errors;
	uint16_t (*errors_inline)[SYN_SUMS_INLINE];

	struct syn_page_links *links;
	uint32_t *bucket;
	uint32_t bucket_mask;
	uint32_t *quarantine_next;
	struct syn_space_info *info;
	struct syn_move_result *move_result;
	struct syn_disk_head *swap_head;
	uint8_t *segment_used;
	uint64_t *move_since_ns;
	struct syn_departure *departure;
	uint64_t nr_departures; /* ever; the ring has the last of them */

	struct syn_session **session;
	struct syn_extent **extent;
	struct syn_pool **pool;
	struct syn_list draining;
	struct syn_list losing;
	struct syn_list pressed;
	struct syn_list shrinking;
	struct syn_list asking;
	uint32_t drain_extent;
	uint32_t drain_frame;
	uint64_t drain_ns;
	uint64_t changes;
	struct syn_domain domain[SYN_DOMAINS_MAX];

	uint32_t page_free;
	uint32_t page_used;
	uint32_t nr_pages;
	uint32_t lessee_free;
	uint32_t lessee_used;
	uint32_t nr_lessees;
	uint32_t quarantine_free;
	uint32_t quarantine_used;
	uint32_t move_free;
	uint32_t move_next[SYN_MOVES_MAX];
	uint32_t nr_draining_moves;
	uint32_t swap_free;
	uint32_t swap_next[SYN_SWAPS_MAX];
	uint32_t nr_swaps;
	uint32_t sum_free[SYN_SUM_CLASSES];
	uint32_t sum_chunk; /* first chunk that is not cut any more: its run */
	uint32_t sum_used;

	uint32_t nr_spaces;
	uint32_t nr_domains; /* records ever used */
	uint32_t nr_sessions;
	struct syn_tier_state tier[SYN_QUOTA_TIERS]; /* HBM, host, NVMe */
	struct syn_ctl_status count;
};

static inline struct syn_tier_state *syn_tier_of(struct syn_mm *mm,
						 uint32_t tier)
{
	return &mm->tier[tier - SYN_TIER_HBM];
}

/* @session's share of the HBM pool @pool; it has one. */
static inline struct syn_window *syn_window_of(struct syn_session *session,
					       const struct syn_pool *pool)
{
	return &session->window[session->window_of[pool->space]][pool->plane];
}

/* The number that clients know slot @n of @pool by. */
static inline uint32_t syn_slot_code(const struct syn_pool *pool, uint32_t n)
{
	return pool->plane == SYN_PLANE_CODED ? n | SYN_SLOT_CODED : n;
}

static inline uint32_t syn_slot_plane(uint32_t slot)
{
	return slot & SYN_SLOT_CODED ? SYN_PLANE_CODED : SYN_PLANE_CANONICAL;
}

#endif
