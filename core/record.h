/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kept records: what a worker writes down so that another can go on.
 *
 * They live in kept memory in the order of SYN_KEPT_*.  Records refer to each
 * other by index, never by pointer, and nothing here can be computed from the
 * rest: free lists, hash chains, LRU order and charges per window are derived
 * and live on the heap.
 *
 * Order of every change: record, then act, then complete.  A page's flag is
 * set before its page-table entries show it; a move or a loan is complete
 * before it is submitted or sent; a frame is taken out of a record only when
 * nobody can touch it any more.
 *
 * A worker may die between any two stores.  Each record has one member that says
 * whether it counts (a state, a page's or lessee's flags); syn_commit() writes it
 * last at the beginning and first at the end.  Where that is not enough, what is
 * meant is in the redo record first.  core/adopt.c knows what each half of a
 * change looks like.
 *
 * The memory is zeroed at the start, so 0 is "unused" in every state field.
 * Records may grow by the rule of core/base/records.h, which raises
 * SYN_KEPT_REVISION; any other change of them changes SYN_KEPT_VERSION.
 */
#ifndef SYN_CORE_RECORD_H
#define SYN_CORE_RECORD_H

#include <stdint.h>

#include "core/mm.h"

#define SYN_KEPT_MAGIC	  0x7470656b50414e53ull /* "SNAPkept" in memory order */
#define SYN_KEPT_VERSION  7u
#define SYN_KEPT_REVISION 2u

/* The arrays; a new one comes last. */
enum {
	SYN_KEPT_HEAD,
	SYN_KEPT_REDO,
	SYN_KEPT_DOMAIN,
	SYN_KEPT_EXTENT,
	SYN_KEPT_SPACE,
	SYN_KEPT_SESSION,
	SYN_KEPT_MOVE,
	SYN_KEPT_SWAP,
	SYN_KEPT_QUARANTINE,
	SYN_KEPT_LESSEE,
	SYN_KEPT_PAGE,
	SYN_KEPT_SUMS,
	SYN_KEPT_CRC,
	SYN_KEPT_ERRORS,
	SYN_KEPT_ERRORS_INLINE,
	SYN_KEPT_ARRAYS,
};

#define SYN_NONE   UINT32_MAX
#define SYN_NONE16 UINT16_MAX

#define SYN_DOMAINS_MAX	  256u
#define SYN_SPACES_MAX	  256u
#define SYN_EXTENTS_MAX	  4096u
#define SYN_EXTENT_WORDS  (SYN_EXTENTS_MAX / 64u)
#define SYN_LOAN_WORDS	  (SYN_LOANS_MAX / 64u)
#define SYN_MOVES_MAX	  256u
#define SYN_SWAPS_MAX	  256u
#define SYN_SESSIONS_MAX  4096u
#define SYN_SUMS_INLINE	  8u
#define SYN_LEASES_A_PAGE 2u   /* lessee records for each page record */
#define SYN_SUMS_A_PAGE	  128u /* words of the sums area, on the average */

#define SYN_REQUEST_NONE  0
#define SYN_REQUEST_BEGUN 1 /* what it gave is taken back */
/* It is certain: what is missing of it is done when it is carried out again. */
#define SYN_REQUEST_CERTAIN 2

/*
 * The request that is carried out.  @given, @loans: what it gave, each before
 * that counts; nobody has been told.  @outcome: of a SEAL, when it is certain.
 */
struct syn_rec_request {
	uint32_t state;
	uint32_t session; /* index */
	uint64_t cookie;
	uint64_t loans[SYN_LOAN_WORDS];
	uint32_t outcome;
	uint32_t nr_given;
	uint32_t given[SYN_BATCH_MAX]; /* lessees */
};
SYN_ABI_SIZE(struct syn_rec_request, 344);

/**
 * struct syn_rec_head - what is kept, and what there is only one of.
 * @records:	of all.
 * @max_pages:	records; from here to @segment_bytes the geometry.
 * @max_lessees: records.
 * @max_sessions: records.
 * @max_quarantine: records.
 * @max_sums:	words.
 * @nr_segments: of the swap file ...
 * @hbm_bytes:	budget.
 * @host_bytes:	budget.
 * @granule:	of the device.
 * @segment_bytes: ... and their size; 0: there is none.
 * @swap_sequence: the last that was given to a slot or segment.
 * @extent_cursor: where the search for the next extent's id begins.
 * @pad0:	zero.
 * @request:	see there.
 * @file:	of the swap file, its identity; since revision 2, 0: not known.
 */
struct syn_rec_head {
	struct syn_records records;
	uint32_t max_pages;
	uint32_t max_lessees;
	uint32_t max_sessions;
	uint32_t max_quarantine;
	uint32_t max_sums;
	uint32_t nr_segments;
	uint64_t hbm_bytes;
	uint64_t host_bytes;
	uint64_t granule;
	uint64_t segment_bytes;
	uint64_t swap_sequence;
	uint32_t extent_cursor;
	uint32_t pad0;
	struct syn_rec_request request;
	uint64_t file[2];
};
SYN_ABI_SIZE(struct syn_rec_head, 840);

#define SYN_REDO_NONE	 0
#define SYN_REDO_ENCODED 1
#define SYN_REDO_QUOTA	 2

/*
 * A change that takes more than one store: it is done once @state says so, and
 * whoever finds it does it again.  ENCODED: the page of @move gets its copy below.
 * QUOTA: @domain gets @quota in @tier.
 */
struct syn_rec_redo {
	uint32_t state;
	uint32_t move;
	uint32_t domain;
	uint32_t tier;
	struct syn_quota quota;
	uint32_t sum[SYN_TILES_MAX];
	uint16_t error[SYN_TILES_MAX];
};
SYN_ABI_SIZE(struct syn_rec_redo, 3112);

#define SYN_DOMAIN_FREE	 0
#define SYN_DOMAIN_USED	 1
#define SYN_DOMAIN_STAYS 2 /* also with nobody and nothing in it */
#define SYN_DOMAIN_FOUND 3 /* by its pages; the first client says the rest */

/* @quota: by tier, SYN_TIER_* - 1. */
struct syn_rec_domain {
	uint64_t identity[2];
	struct syn_quota quota[SYN_QUOTA_TIERS];
	uint32_t state;
	uint32_t uid;
	char name[SYN_DOMAIN_BYTES];
};
SYN_ABI_SIZE(struct syn_rec_domain, 160);

/*
 * What the frames of an HBM pool hold: canonical bytes, or pages as they are
 * stored, encoded.  A space has the second only with SYN_SPACE_F_CODED.
 */
#define SYN_PLANE_CANONICAL 0u
#define SYN_PLANE_CODED	    1u
#define SYN_PLANES	    2u

#define SYN_EXTENT_FREE	    0
#define SYN_EXTENT_LIVE	    1
#define SYN_EXTENT_RETIRING 2
#define SYN_EXTENT_CUTTING  3 /* NVMe: a segment that is no good yet */
#define SYN_EXTENT_LOST	    4 /* as RETIRING, and its memory is gone */

/*
 * @plane: SYN_PLANE_*; @space: SYN_NONE below HBM; @ordinal: HBM: place in its
 * pool's slots, NVMe: the segment of the swap file, and @seq its sequence.
 */
struct syn_rec_extent {
	uint32_t state;
	uint16_t tier;
	uint16_t plane;
	uint32_t domain;
	uint32_t space;
	uint32_t ordinal;
	uint32_t nr_frames;
	uint64_t frame_bytes;
	uint64_t bytes;
	uint64_t seq;
};
SYN_ABI_SIZE(struct syn_rec_extent, 48);

/*
 * Geometries do not end while the daemon lives; @tokens 0: unused.  @flags:
 * SYN_SPACE_F_*.
 */
struct syn_rec_space {
	uint64_t model[2];
	uint32_t tokens;
	uint32_t layers_per_page;
	uint32_t nr_components;
	uint32_t nr_tiles;
	uint32_t raw_head;
	uint16_t raw_tail;
	uint16_t flags;
	struct syn_component component[SYN_COMPONENTS_MAX];
	uint64_t page_bytes;
	uint64_t identity;
	uint64_t tile_bytes;
};
SYN_ABI_SIZE(struct syn_rec_space, 192);

#define SYN_SESSION_FREE  0
#define SYN_SESSION_LIVE  1
#define SYN_SESSION_ENDED 2 /* waits for its process or its timelines */
#define SYN_SESSION_DIRTY 3 /* waits for its process */

struct syn_rec_window {
	uint32_t space;
	uint32_t slots[SYN_PLANES];
};

/*
 * @told: by extent: it may have it mapped.  @telling: the extent, plus 1, that it
 * is being told of and may have mapped; 0: none.
 */
struct syn_rec_session {
	uint32_t state;
	uint32_t id;
	uint32_t pid;
	uint32_t uid;
	uint32_t domain;
	uint32_t nr_pages;
	uint32_t nr_timelines;
	uint32_t nr_windows;
	char name[SYN_NAME_BYTES];
	struct syn_rec_window window[SYN_WINDOWS_MAX];
	uint64_t told[SYN_EXTENT_WORDS];
	uint32_t telling;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_rec_session, 776);

#define SYN_MOVE_FREE  0
#define SYN_MOVE_DRAIN 1 /* the page leaves; timelines have not drained */
#define SYN_MOVE_COPY  2 /* given to the device */

/*
 * @host: frame that is written, SYN_NONE when the page has a copy below.
 * @codec: SYN_CODEC_* of what is written.
 */
struct syn_rec_move {
	uint32_t state;
	uint32_t page;
	uint32_t generation;
	uint32_t host;
	uint32_t codec;
};
SYN_ABI_SIZE(struct syn_rec_move, 20);

#define SYN_SWAP_FREE	0
#define SYN_SWAP_READ	1
#define SYN_SWAP_WRITE	2
#define SYN_SWAP_FORMAT 3
#define SYN_SWAP_WIPE	4

/*
 * One request to the swap file, written down before it is submitted: it may
 * outlive the worker.  FORMAT: @slot is the extent's first, @page SYN_NONE.  WIPE:
 * a write into @slot was cut off, so that its head may name what is not there.
 */
struct syn_rec_swap {
	uint32_t state;
	uint32_t page;
	uint32_t generation;
	uint32_t host; /* frame that is read or written */
	uint32_t slot; /* of the swap file, SYN_FRAME() */
	uint32_t durable;
	uint32_t session; /* id, for whom it is read; for probes */
};
SYN_ABI_SIZE(struct syn_rec_swap, 28);

#define SYN_QUARANTINE_FREE 0
#define SYN_QUARANTINE_HELD 1

/*
 * A slot that belongs to no page, because a loan into it failed or lost its
 * borrower: not used again before @session is drained or has exited.
 */
struct syn_rec_quarantine {
	uint32_t state;
	uint32_t session; /* index */
	uint32_t domain;
	uint32_t space;
	uint32_t slot;
	uint32_t epoch; /* of the session's drains, see core/quarantine.h */
};
SYN_ABI_SIZE(struct syn_rec_quarantine, 24);

#define SYN_LESSEE_USED	 1u
#define SYN_LESSEE_WRITE 2u /* the exclusive lease of an unsealed page */
/* Released or orphaned; stays until its session can not touch the page. */
#define SYN_LESSEE_GONE	 4u
#define SYN_LESSEE_WAIT	 8u   /* its page leaves; @epoch is to pass first */
#define SYN_LESSEE_BATCH 16u  /* seen in the batch at hand */
#define SYN_LESSEE_FOUND 32u  /* by a lookup, and never loaded since */
#define SYN_LESSEE_EXACT 64u  /* nothing may be lost while it lasts */
#define SYN_LESSEE_TOLD	 128u /* its fault has begun, for probes */

/*
 * One lease.  @next and @prev link the lessees of a page, SYN_NONE ends.
 * Of a free record @next is the free list; of a GONE one @pte is the next
 * GONE one of its session, oldest first.
 */
struct syn_rec_lessee {
	uint32_t page;
	uint16_t session; /* index */
	uint8_t window;
	uint8_t flags;
	uint32_t pte; /* index in the session's page table */
	uint32_t generation;
	uint32_t next;
	uint32_t prev;
	uint16_t epoch; /* of the session's drains, see core/quarantine.h */
	uint16_t uses;	/* SYN_PIN_USES() when last looked at */
};
SYN_ABI_SIZE(struct syn_rec_lessee, 28);

/*
 * Flags of a page beyond SYN_PAGE_F_*, which synapsectl sees.  DYING has the bit
 * of SYN_PAGE_F_NOT_FINITE, which is a flag of the wire only.
 */
#define SYN_PAGE_F_DYING   0x0080u /* freed once nobody can touch it */
#define SYN_PAGE_F_SUMS	   0x0100u /* its sums are known */
#define SYN_PAGE_F_READY   0x0200u /* its ready point was seen to pass */
#define SYN_PAGE_F_HELD	   0x0400u /* in the batch at hand: no victim */
#define SYN_PAGE_F_WANTED  0x1000u /* read in for a fault that waits for more */
#define SYN_PAGE_F_LEAVING 0x2000u /* entries show LEAVING */
#define SYN_PAGE_F_IO	   0x8000u /* the swap file reads or writes its frame */
/* Derived, kept here because there is room. */
#define SYN_PAGE_F_LRU	  0x0800u /* on a list of what may leave HBM */
#define SYN_PAGE_F_WAITS  0x4000u /* counted as quarantined */
#define SYN_PAGE_F_PUBLIC 0x007fu /* those of the wire */

/* Beside SYN_ADVISE_* in @advice. */
#define SYN_PAGE_NOT_FINITE 0x80u /* not all of its numbers are finite */
#define SYN_PAGE_DEVICE	    0x40u /* lost: its device or disk failed */
#define SYN_PAGE_ADVICE	    0x0fu

/* Bits of precision of a copy. */
#define SYN_FIDELITY_RAW16 16u
#define SYN_FIDELITY_H4	   4u

/* A frame below HBM is {extent:16, frame:16}; an extent has at most 65536. */
#define SYN_FRAME(extent, frame)                                               \
	(((uint32_t)(extent) << 16) | (uint32_t)(frame))
#define SYN_FRAME_EXTENT(code) ((code) >> 16)
#define SYN_FRAME_INDEX(code)  ((code)&0xffffu)

/**
 * struct syn_rec_page - one page.
 * @key:		0 while it has none.
 * @ready_value:	done of the ready timeline from which it is visible.
 * @sum:		its sums, if the space has at most SYN_SUMS_INLINE tiles:
 *			of the canonical bytes, or with another codec of those
 *			that are stored.
 * @sum_run:		else the first word of its run in the sums area.
 * @generation:		of the record; grows when it is freed.
 * @slot:		in its HBM pool, with SYN_PAGE_F_HBM; its plane is that of
 *			the slot.
 * @host:		host frame, with SYN_PAGE_F_HOST.
 * @nvme:		slot of the swap file, with SYN_PAGE_F_NVME.
 * @lessee:		first lessee.  Of a free record: next free one.
 * @nr_lessees:		leases, without those that are GONE.
 * @tokens:		final tokens.
 * @share:		reported attention.
 * @domain:		its domain.
 * @pool:		derived: index of its HBM pool.
 * @charged:		session index the slot is charged to, SYN_NONE16: nobody.
 * @ready_session:	index of the sealer's session until READY.
 * @space:		its space.
 * @flags:		SYN_PAGE_F_*.
 * @demotions:		times it moved down; stops at the top.
 * @loads:		times it was brought back; stops at the top.
 * @state:		SYN_PAGE_*.
 * @codec:		of the copies in lower tiers.
 * @fidelity:		bits of the best copy that stays.
 * @ready_timeline:	of the ready point.
 * @advice:		SYN_ADVISE_*, SYN_PAGE_NOT_FINITE, SYN_PAGE_DEVICE.
 * @below:		derived: the lists it is on below HBM, see core/lists.h.
 */
struct syn_rec_page {
	uint64_t key[2];
	uint64_t ready_value;
	union {
		uint32_t sum[SYN_SUMS_INLINE];
		uint32_t sum_run;
	};
	uint32_t generation;
	uint32_t slot;
	uint32_t host;
	uint32_t nvme;
	uint32_t lessee;
	uint32_t nr_lessees;
	uint32_t tokens;
	uint32_t share;
	uint32_t domain;
	uint16_t pool;
	uint16_t charged;
	uint16_t ready_session;
	uint16_t space;
	uint16_t flags;
	uint16_t demotions;
	uint16_t loads;
	uint8_t state;
	uint8_t codec;
	uint8_t fidelity;
	uint8_t ready_timeline;
	uint8_t advice;
	uint8_t below;
};
SYN_ABI_SIZE(struct syn_rec_page, 112);

#endif
