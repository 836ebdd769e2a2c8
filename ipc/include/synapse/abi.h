/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire: everything synapsed and its clients share, and nothing else.
 *
 * Three things cross the boundary.  Messages on a Unix SOCK_SEQPACKET socket
 * set things up and carry descriptors; a ring pair in two shared-memory
 * segments carries requests; and the tables in those segments state facts that
 * are read without asking.  One segment is written by the client only, the
 * other by the daemon only.
 *
 * Rules.  Fixed width, natural alignment, little endian.  Every byte that is
 * not named is padding, must be sent as zero, and is checked.  No pointer, no
 * bit-field, no enum member, no long.  A struct is never edited: a new one is
 * added.  Words that both sides access at the same time are marked "shared";
 * Documentation/concurrency.rst gives their orders.
 *
 * Includes libc only; valid C and C++.
 */
#ifndef SYNAPSE_ABI_H
#define SYNAPSE_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SYN_ABI_ASSERT(cond, why) static_assert(cond, why)
#else
#define SYN_ABI_ASSERT(cond, why) _Static_assert(cond, why)
#endif

#define SYN_ABI_AT(type, member, at, size)                                     \
	SYN_ABI_ASSERT(offsetof(type, member) == (at) &&                       \
			       sizeof(((type *)0)->member) == (size),          \
		       #type "." #member " moved: that is an ABI break")
#define SYN_ABI_SIZE(type, size)                                               \
	SYN_ABI_ASSERT(sizeof(type) == (size),                                 \
		       #type " changed size: that is an ABI break")

/* ---- versions and limits ------------------------------------------------ */

#define SYN_ABI_MAGIC 0x50414e53u /* "SNAP" in memory order */
/* A peer speaks a range of versions; the session uses the highest common. */
#define SYN_ABI_VERSION_MIN 1
#define SYN_ABI_VERSION_MAX 1

/* Feature bits: used in a session only if both sides sent the bit. */
#define SYN_FEATURE_RAW16    (1ull << 0) /* codec raw16 */
#define SYN_FEATURE_HOST_CPU (1ull << 1) /* extents are memfds, CPU-mappable */
#define SYN_FEATURE_H4	     (1ull << 2) /* codec h4; loans may have it */
#define SYN_FEATURE_CUDA     (1ull << 3) /* extents are on a GPU: MSG_DEVICE */
#define SYN_FEATURE_CODED    (1ull << 4) /* SYN_SPACE_F_CODED; wants H4 */

#define SYN_SQ_ENTRIES	   64u	 /* submissions in flight, a power of two */
#define SYN_CQ_ENTRIES	   64u	 /* completions not yet reaped */
#define SYN_VEC_BYTES	   2048u /* side array of one ring entry */
#define SYN_BATCH_MAX	   64u	 /* pages in one request */
#define SYN_LOANS_MAX	   512u	 /* pages being brought in, per session */
#define SYN_TIMELINES_MAX  64u	 /* streams and threads, per session */
#define SYN_TILES_MAX	   512u	 /* checksummed tiles in a page */
#define SYN_COMPONENTS_MAX 8u	 /* components of a space */
#define SYN_WINDOWS_MAX	   16u	 /* windows of a session */
#define SYN_PAGES_MAX	   (1u << 24) /* page-table entries of a session */
#define SYN_PAGE_BYTES_MAX (64u << 20)
#define SYN_TILE_TOKENS	   128u /* tokens of a codec tile */
#define SYN_FDS_MAX	   8u	/* descriptors in one message */
#define SYN_NAME_BYTES	   32u
#define SYN_REASON_BYTES   112u

/*
 * Positive results are answers, not faults.  They are the same in a CQE and
 * in the client library.
 */
#define SYN_E_BACKPRESSURE 1 /* no room now; the answer carries a retry hint */
#define SYN_E_FAULT	   2 /* not resident: load it, then pin */
#define SYN_E_DUP	   3 /* the key is sealed already, by another page */
#define SYN_E_BUSY	   4 /* somebody else is filling it: try again */
#define SYN_E_LOST	   5 /* the page's bytes are gone or did not verify */

/* ---- socket messages ---------------------------------------------------- */

/**
 * struct syn_msg - what every message begins with.
 * @magic:	SYN_ABI_MAGIC.
 * @type:	SYN_MSG_*.
 * @nr_fds:	descriptors attached, at most SYN_FDS_MAX.
 * @size:	bytes of the whole message.
 * @error:	answers: 0, -errno, or SYN_E_*.  Requests: 0.
 */
struct syn_msg {
	uint32_t magic;
	uint16_t type;
	uint16_t nr_fds;
	uint32_t size;
	int32_t error;
};
SYN_ABI_SIZE(struct syn_msg, 16);

#define SYN_MSG_HELLO	     1 /* client: first message, struct syn_msg_hello */
#define SYN_MSG_WELCOME	     2 /* daemon: struct syn_msg_welcome, 4 fds */
#define SYN_MSG_BYE	     3 /* either: struct syn_msg_bye, then close */
#define SYN_MSG_SPACE	     4 /* client: struct syn_msg_space */
#define SYN_MSG_SPACE_REPLY  5 /* daemon: struct syn_msg_space_reply */
#define SYN_MSG_WINDOW	     6 /* client: struct syn_msg_window */
#define SYN_MSG_WINDOW_REPLY 7 /* daemon: struct syn_msg_window_reply */
#define SYN_MSG_EXTENT	     8 /* daemon, any time: struct syn_msg_extent, 1 fd */
#define SYN_MSG_RETIRE	     9	/* daemon, any time: struct syn_msg_retire */
#define SYN_MSG_CTL	     10 /* control: struct syn_msg_ctl */
#define SYN_MSG_CTL_REPLY    11 /* daemon: struct syn_msg_ctl_reply + records */
#define SYN_MSG_DEVICE	     12 /* daemon, after WELCOME: struct syn_msg_device */
#define SYN_MSG_CODED	     13 /* client: struct syn_msg_coded */
#define SYN_MSG_CODED_REPLY  14 /* daemon: struct syn_msg_coded_reply */

#define SYN_KIND_ENGINE	 1 /* wants rings and pages */
#define SYN_KIND_CONTROL 2 /* wants SYN_MSG_CTL; WELCOME carries no fds */

/**
 * struct syn_msg_hello - a client introduces itself.
 * @version_min:	oldest ABI version it speaks.
 * @version_max:	newest ABI version it speaks.
 * @kind:		SYN_KIND_*.
 * @features:		feature bits it knows.
 * @sqe_size:		its sizeof(struct syn_sqe); a difference is refused.
 * @cqe_size:		its sizeof(struct syn_cqe).
 * @loan_size:		its sizeof(struct syn_loan).
 * @nr_pages:		page-table entries wanted, 1..SYN_PAGES_MAX.
 * @nr_timelines:	timelines wanted, 1..SYN_TIMELINES_MAX.
 * @job_ranks:		processes of the job, 1 when it has no shards.
 * @job_rank:		this process's rank in it.
 * @job_id:		names the job; 0: none.
 * @job_incarnation:	a larger one revokes the leases of a smaller one.
 * @name:		for people; NUL-terminated; never trusted.
 */
struct syn_msg_hello {
	struct syn_msg msg;
	uint16_t version_min;
	uint16_t version_max;
	uint32_t kind;
	uint64_t features;
	uint16_t sqe_size;
	uint16_t cqe_size;
	uint16_t loan_size;
	uint16_t pad0;
	uint32_t nr_pages;
	uint32_t nr_timelines;
	uint32_t job_ranks;
	uint32_t job_rank;
	uint64_t job_id;
	uint64_t job_incarnation;
	char name[SYN_NAME_BYTES];
};
SYN_ABI_SIZE(struct syn_msg_hello, 104);
SYN_ABI_AT(struct syn_msg_hello, features, 24, 8);
SYN_ABI_AT(struct syn_msg_hello, job_id, 56, 8);

/**
 * struct syn_msg_welcome - the session, its geometry and its segments.
 * @version:		the ABI version in use.
 * @session:		session id, for people and logs.
 * @epoch:		number of the worker that answers; grows at a restart.
 * @features:		feature bits in use.
 * @client_bytes:	size of the segment the client writes (fd 0).
 * @daemon_bytes:	size of the segment the daemon writes (fd 1).
 * @sqe_off:		in the client's segment: struct syn_sqe[SYN_SQ_ENTRIES].
 * @sq_vec_off:		SYN_VEC_BYTES for each submission entry.
 * @timeline_off:	struct syn_timeline[nr_timelines].
 * @pin_off:		uint32_t[nr_pages], see SYN_PIN_*.
 * @cqe_off:		in the daemon's segment: struct syn_cqe[SYN_CQ_ENTRIES].
 * @cq_vec_off:		SYN_VEC_BYTES for each completion entry.
 * @inflight_off:	struct syn_inflight[SYN_SQ_ENTRIES] and their side
 *			arrays; the daemon's own.
 * @loan_off:		struct syn_loan[SYN_LOANS_MAX].
 * @sums_off:		uint32_t[SYN_LOANS_MAX][SYN_TILES_MAX].
 * @pte_off:		uint64_t[nr_pages], see SYN_PTE_*.
 * @nr_pages:		page-table entries granted.
 * @nr_timelines:	timelines granted.
 * @pad0:		zero.
 *
 * The control blocks struct syn_client_ctl and struct syn_daemon_ctl are at
 * offset 0 of their segments.  Descriptors: 0 client segment, 1 daemon
 * segment (read-only), 2 eventfd the client writes to wake the daemon, 3 pipe
 * the client reads when it is woken: each of the two sides has descriptions of
 * its own, so neither can make the other's calls block.
 */
struct syn_msg_welcome {
	struct syn_msg msg;
	uint32_t version;
	uint32_t session;
	uint64_t epoch;
	uint64_t features;
	uint64_t client_bytes;
	uint64_t daemon_bytes;
	uint64_t sqe_off;
	uint64_t sq_vec_off;
	uint64_t timeline_off;
	uint64_t pin_off;
	uint64_t cqe_off;
	uint64_t cq_vec_off;
	uint64_t inflight_off;
	uint64_t loan_off;
	uint64_t sums_off;
	uint64_t pte_off;
	uint32_t nr_pages;
	uint32_t nr_timelines;
	uint64_t pad0;
};
SYN_ABI_SIZE(struct syn_msg_welcome, 152);
SYN_ABI_AT(struct syn_msg_welcome, epoch, 24, 8);
SYN_ABI_AT(struct syn_msg_welcome, pte_off, 128, 8);

/**
 * struct syn_msg_bye - the end of a session or the refusal of one.
 * @reason:	one line for people, NUL-terminated.
 *
 * msg.error says why for programs: -EPROTO, -EACCES, -EMFILE, -ESHUTDOWN ...
 */
struct syn_msg_bye {
	struct syn_msg msg;
	char reason[SYN_REASON_BYTES];
};
SYN_ABI_SIZE(struct syn_msg_bye, 128);

/**
 * struct syn_msg_device - the GPU whose memory the first tier is.
 * @device:	its index, as in struct syn_msg_window.
 * @pad0:	zero.
 * @uuid:	the driver's name for it.
 *
 * Sent once, before anything that the client asks for is answered, in a session
 * with SYN_FEATURE_CUDA.
 */
struct syn_msg_device {
	struct syn_msg msg;
	uint32_t device;
	uint32_t pad0;
	uint8_t uuid[16];
};
SYN_ABI_SIZE(struct syn_msg_device, 40);

#define SYN_ROLE_K	1 /* keys */
#define SYN_ROLE_V	2 /* values */
#define SYN_ROLE_LATENT 3 /* compressed latent (MLA) */
#define SYN_ROLE_ROPE	4 /* the part of a latent key that carries positions */
#define SYN_ROLE_STATE	5 /* recurrent state */
#define SYN_ROLE_OPAQUE 6 /* bytes without a meaning to us */

#define SYN_DTYPE_F16  1
#define SYN_DTYPE_BF16 2
#define SYN_DTYPE_F32  3
#define SYN_DTYPE_U8   4

#define SYN_CODEC_RAW16 1 /* the canonical bytes */
#define SYN_CODEC_H4	2 /* 4 bits, see synapse/codec.h */
#define SYN_CODEC_NR	3

/**
 * struct syn_component - one tensor of a KV geometry.
 * @role:	SYN_ROLE_*.
 * @dtype:	SYN_DTYPE_*.
 * @heads:	KV heads.
 * @dim:	elements of one head and token.
 * @codec:	codec class allowed below HBM, SYN_CODEC_*; RAW16: lossless.
 * @pad0:	zero.
 */
struct syn_component {
	uint16_t role;
	uint16_t dtype;
	uint32_t heads;
	uint32_t dim;
	uint16_t codec;
	uint16_t pad0;
};
SYN_ABI_SIZE(struct syn_component, 16);

/**
 * struct syn_msg_space - define a KV geometry.
 * @model:		identity of the model: 128 bits of a hash of its weights
 *			and configuration, the engine's choice.
 * @tokens:		tokens of a page.
 * @layers_per_page:	layers of a page.
 * @nr_components:	used entries of @component.
 * @raw_head:		so many first layers of a page keep their keys raw in
 *			every tier ...
 * @raw_tail:		... and so many last ones.
 * @flags:		SYN_SPACE_F_*.
 * @component:		the tensors, in canonical order.
 *
 * Canonical page bytes: for each layer, for each block of SYN_TILE_TOKENS
 * tokens, for each head, for each component: the tile, token-major.  A tile
 * is min(tokens, 128) tokens of one head of one component.  A page is
 * compressible when its tokens are a multiple of 128 and all its tiles have one
 * size.  Components must have the same number of heads for K and V; others
 * stand alone.
 */
struct syn_msg_space {
	struct syn_msg msg;
	uint64_t model[2];
	uint32_t tokens;
	uint32_t layers_per_page;
	uint32_t nr_components;
	uint8_t raw_head;
	uint8_t raw_tail;
	uint16_t flags;
	struct syn_component component[SYN_COMPONENTS_MAX];
};
SYN_ABI_SIZE(struct syn_msg_space, 176);
SYN_ABI_AT(struct syn_msg_space, component, 48, 128);
/*
 * Who reads its pages takes encoded ones as they are stored: they are resident
 * so.  One component at least may be encoded.
 */
#define SYN_SPACE_F_CODED 1u

/**
 * struct syn_msg_space_reply - the space's handle.
 * @space:	its id in this daemon; the same geometry gets the same id.
 * @nr_tiles:	checksummed tiles of a page.
 * @page_bytes:	canonical bytes of a page.
 * @identity:	hash of model and geometry; part of every key.
 */
struct syn_msg_space_reply {
	struct syn_msg msg;
	uint32_t space;
	uint32_t nr_tiles;
	uint64_t page_bytes;
	uint64_t identity;
};
SYN_ABI_SIZE(struct syn_msg_space_reply, 40);

/**
 * struct syn_msg_window - open a window on a space's frames in HBM; the space
 * is not SYN_SPACE_F_CODED.
 * @space:	from struct syn_msg_space_reply.
 * @slots:	pages this session may have resident: its guaranteed share.
 * @device:	index of the device, 0 on one.
 * @flags:	zero.
 */
struct syn_msg_window {
	struct syn_msg msg;
	uint32_t space;
	uint32_t slots;
	uint32_t device;
	uint32_t flags;
};
SYN_ABI_SIZE(struct syn_msg_window, 32);

/**
 * struct syn_msg_window_reply - the window.
 * @window:		its id, 0..SYN_WINDOWS_MAX-1, in this session.
 * @slots:		granted share, as asked for.
 * @range_slots:	slot numbers run below this; reserve address space for
 *			range_slots * stride bytes.
 * @pad0:		zero.
 * @stride:		bytes from one slot to the next.
 *
 * The reply is preceded by the EXTENT messages of the window's extents; more
 * may follow at any time.
 */
struct syn_msg_window_reply {
	struct syn_msg msg;
	uint32_t window;
	uint32_t slots;
	uint32_t range_slots;
	uint32_t pad0;
	uint64_t stride;
};
SYN_ABI_SIZE(struct syn_msg_window_reply, 40);

/**
 * struct syn_msg_coded - open a window on a space with SYN_SPACE_F_CODED.
 * @space:	from struct syn_msg_space_reply.
 * @slots:	pages this session may have resident as canonical bytes ...
 * @coded_slots: ... and as they are stored; neither is 0.
 * @device:	index of the device, 0 on one.
 */
struct syn_msg_coded {
	struct syn_msg msg;
	uint32_t space;
	uint32_t slots;
	uint32_t coded_slots;
	uint32_t device;
};
SYN_ABI_SIZE(struct syn_msg_coded, 32);

/**
 * struct syn_msg_coded_reply - the window.
 * @window:		its id, as of struct syn_msg_window_reply.
 * @slots:		granted shares, as asked for ...
 * @coded_slots:	... of both kinds.
 * @range_slots:	slot numbers run below this ...
 * @coded_range:	... and those with SYN_SLOT_CODED, less that bit, below
 *			this.
 * @pad0:		zero.
 * @stride:		bytes from one slot to the next ...
 * @coded_stride:	... and from one coded slot to the next, in addresses of
 *			their own.
 */
struct syn_msg_coded_reply {
	struct syn_msg msg;
	uint32_t window;
	uint32_t slots;
	uint32_t coded_slots;
	uint32_t range_slots;
	uint32_t coded_range;
	uint32_t pad0;
	uint64_t stride;
	uint64_t coded_stride;
};
SYN_ABI_SIZE(struct syn_msg_coded_reply, 56);

/* Of a slot number: the slot holds a page as it is stored, encoded. */
#define SYN_SLOT_CODED	     (1u << 27)
#define SYN_SLOT_INDEX(slot) ((slot) & (SYN_SLOT_CODED - 1))

#define SYN_TIER_HBM	1
#define SYN_TIER_HOST	2
#define SYN_TIER_NVME	3
#define SYN_TIER_PEER	4
#define SYN_TIER_REMOTE 5

/**
 * struct syn_msg_extent - memory behind one descriptor.
 * @extent:	its id in this daemon; not used again while it lives.
 * @tier:	SYN_TIER_HBM or SYN_TIER_HOST.
 * @window:	HBM: the window whose slots it backs.  Host: 0.
 * @first_slot:	HBM: slot number of its first frame, all with SYN_SLOT_CODED
 *		or none.  Host: 0.
 * @nr_frames:	frames in it, one after the other from offset 0.
 * @flags:	SYN_EXTENT_F_*.
 * @frame_bytes: bytes of a frame.
 * @bytes:	bytes behind the descriptor.
 */
struct syn_msg_extent {
	struct syn_msg msg;
	uint32_t extent;
	uint32_t tier;
	uint32_t window;
	uint32_t first_slot;
	uint32_t nr_frames;
	uint32_t flags;
	uint64_t frame_bytes;
	uint64_t bytes;
};
SYN_ABI_SIZE(struct syn_msg_extent, 56);
#define SYN_EXTENT_F_HANDLE 1u /* a handle of the GPU's driver, else a memfd */

/**
 * struct syn_msg_retire - an extent is given up.
 * @extent:	unmap it, then acknowledge with SYN_OP_RETIRED.
 * @pad0:	zero.
 */
struct syn_msg_retire {
	struct syn_msg msg;
	uint32_t extent;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_msg_retire, 24);

/* ---- the ring ----------------------------------------------------------- */

/**
 * struct syn_client_ctl - the words of the ring that the client writes.
 * @sq_tail:	shared: submissions published; free-running.
 * @cq_head:	shared: completions consumed; free-running.
 * @cq_sleeps:	shared: 1 while the client sleeps on descriptor 3.
 */
struct syn_client_ctl {
	uint32_t sq_tail;
	uint32_t pad0[31];
	uint32_t cq_head;
	uint32_t pad1[31];
	uint32_t cq_sleeps;
	uint32_t pad2[31];
};
SYN_ABI_SIZE(struct syn_client_ctl, 384);
SYN_ABI_AT(struct syn_client_ctl, cq_head, 128, 4);
SYN_ABI_AT(struct syn_client_ctl, cq_sleeps, 256, 4);

/*
 * Notices: four 8-bit counters in one word, each counting how often a thing
 * has happened.  The client keeps the last word it saw and compares.
 */
#define SYN_NOTICE_RECLAIM (1u << 0)  /* memory is short: release something */
#define SYN_NOTICE_SOCKET  (1u << 8)  /* a message waits on the socket */
#define SYN_NOTICE_SUM	   (1u << 16) /* a page failed verification */
/* @word with the counters of all @notices one further, each modulo 256. */
#define SYN_NOTICE_COUNT(word, notices)                                        \
	((((word)&0x7f7f7f7fu) + (notices)) ^ ((word)&0x80808080u))
/* Whether @notice happened between two words. */
#define SYN_NOTICE_SINCE(then, now, notice)                                    \
	((((then) ^ (now)) & ((notice)*0xffu)) != 0)

/**
 * struct syn_daemon_ctl - the words of the ring that the daemon writes.
 * @sq_head:	shared: submissions consumed; free-running.
 * @cq_tail:	shared: completions published; free-running.
 * @sq_sleeps:	shared: 1 while the daemon must be woken for this ring.
 * @notices:	shared: SYN_NOTICE_* counters.
 * @asked:	shared: messages of the client's that workers before this one
 *		took from the socket after HELLO; written before @epoch.
 * @epoch:	shared: number of the worker; grows when another one takes over.
 */
struct syn_daemon_ctl {
	uint32_t sq_head;
	uint32_t pad0[31];
	uint32_t cq_tail;
	uint32_t pad1[31];
	uint32_t sq_sleeps;
	uint32_t pad2[31];
	uint32_t notices;
	uint32_t asked;
	uint64_t epoch;
	uint32_t pad3[28];
};
SYN_ABI_SIZE(struct syn_daemon_ctl, 512);
SYN_ABI_AT(struct syn_daemon_ctl, cq_tail, 128, 4);
SYN_ABI_AT(struct syn_daemon_ctl, sq_sleeps, 256, 4);
SYN_ABI_AT(struct syn_daemon_ctl, notices, 384, 4);
SYN_ABI_AT(struct syn_daemon_ctl, epoch, 392, 8);

/**
 * struct syn_sqe - one request, client to daemon.
 * @op:		SYN_OP_*; an unknown one completes with -EOPNOTSUPP.
 * @flags:	zero; an unknown bit completes with -EINVAL.
 * @nr:		entries of the side array, at most what the op allows.
 * @cookie:	copied to the completion.
 * @object:	a page handle, a window or a space, by op.
 * @arg:	by op; unused ones zero, else -EINVAL.
 * @pad0:	zero, else -EINVAL.
 *
 * Entry i of the ring owns bytes [i * SYN_VEC_BYTES, +SYN_VEC_BYTES) of the
 * submission side array.
 */
struct syn_sqe {
	uint16_t op;
	uint16_t flags;
	uint32_t nr;
	uint64_t cookie;
	uint64_t object;
	uint64_t arg[4];
	uint64_t pad0;
};
SYN_ABI_SIZE(struct syn_sqe, 64);
SYN_ABI_AT(struct syn_sqe, cookie, 8, 8);
SYN_ABI_AT(struct syn_sqe, arg, 24, 32);

/**
 * struct syn_cqe - one answer, daemon to client.
 * @cookie:	of the request.
 * @res:	0 or a count, -errno, or by op a positive SYN_E_* (then @flags
 *		has SYN_CQE_F_OUTCOME).
 * @flags:	SYN_CQE_F_*.
 * @val:	by op; val[0] is the retry hint in ns with SYN_E_BACKPRESSURE.
 *
 * Entry i of the ring owns bytes [i * SYN_VEC_BYTES, +SYN_VEC_BYTES) of the
 * completion side array.
 */
struct syn_cqe {
	uint64_t cookie;
	int32_t res;
	uint32_t flags;
	uint64_t val[2];
};
SYN_ABI_SIZE(struct syn_cqe, 32);

#define SYN_CQE_F_OUTCOME (1u << 0) /* res is a SYN_E_*, not a count */

/*
 * Requests.  "in" is the submission side array, "out" the completion's.
 *
 * NOP		answers 0.
 * LEASE	object: window; nr: pages.  out: uint64_t handles[nr].  Write
 *		leases on fresh pages, resident, all or none.
 * COMMIT	in: struct syn_vec_commit[nr].  Those tokens are final.  A page
 *		whose tokens are all final may be moved.
 * SEAL		object: page handle; arg[0..1]: key; arg[2]: timeline value;
 *		arg[3]: timeline index; nr: sums; in: uint32_t sums[nr], one a
 *		tile.  Makes the page immutable and, once the timeline's done
 *		has reached the value, visible.  0, or SYN_E_DUP: another page
 *		has the key; this one stays immutable and private.
 * LOOKUP	object: window; nr: keys; arg[0]: fidelity floor in bits, 0 for
 *		lossless; in: struct syn_vec_key[nr]; out: uint64_t handles[res].
 *		Read leases on the longest prefix present; res is its length;
 *		val[0] is SYN_MISS_* of the first key that is not.
 * FAULT	in: uint64_t handles[nr]; out: struct syn_vec_fault[nr].  Reserves
 *		a slot for each absent page and lends its bytes; all or none.
 * LOADED	in: struct syn_vec_loaded[nr].  Ends loans.
 * RELEASE	in: uint64_t handles[nr].  Gives leases back.  Unpinned pages only,
 *		else -EBUSY.  Pages nobody leases die unless sealed under a key.
 * REPORT	in: struct syn_vec_share[nr].  Attention the pages received.
 * RETIRED	object: extent.  It is unmapped here.
 * ADVISE	in: struct syn_vec_advise[nr].  What the client knows of pages.
 * PERSIST	in: uint64_t handles[nr], sealed under a key.  Answers once all of
 *		them are on disk so that a power cut cannot undo it.  -ENODEV:
 *		there is no swap file.  -ENOKEY: not sealed under a key of its own.
 */
#define SYN_OP_NOP     0
#define SYN_OP_LEASE   1
#define SYN_OP_COMMIT  2
#define SYN_OP_SEAL    3
#define SYN_OP_LOOKUP  4
#define SYN_OP_FAULT   5
#define SYN_OP_LOADED  6
#define SYN_OP_RELEASE 7
#define SYN_OP_REPORT  8
#define SYN_OP_RETIRED 9
#define SYN_OP_ADVISE  10
#define SYN_OP_PERSIST 11
#define SYN_OP_NR      12

#define SYN_MISS_NONE	   0 /* all found */
#define SYN_MISS_NEVER	   1 /* no page was sealed under this key */
#define SYN_MISS_NOT_READY 2 /* sealed, its ready point has not passed */
#define SYN_MISS_LOST	   3 /* its bytes are gone or did not verify */
#define SYN_MISS_FIDELITY  4 /* no copy is as precise as asked */
#define SYN_MISS_QUOTA	   5 /* no page-table entry left in this session */

struct syn_vec_commit {
	uint64_t handle;
	uint32_t tokens; /* final from the page's start */
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_vec_commit, 16);

struct syn_vec_key {
	uint64_t key[2];
};
SYN_ABI_SIZE(struct syn_vec_key, 16);

/**
 * struct syn_vec_fault - what became of one page of a FAULT.
 * @res:	0: resident already.  1: @loan is to be executed.  SYN_E_BUSY,
 *		SYN_E_LOST: neither; the others of the batch stand.
 * @loan:	index into the loan table, when @res is 1.
 */
struct syn_vec_fault {
	int32_t res;
	uint32_t loan;
};
SYN_ABI_SIZE(struct syn_vec_fault, 8);
#define SYN_FAULT_RESIDENT 0
#define SYN_FAULT_LOAN	   1

/**
 * struct syn_vec_loaded - the end of a loan.
 * @loan:	index.
 * @status:	0: the bytes are in the slot and verified.  -EILSEQ: a sum did
 *		not match.  Any other -errno: not loaded; the loan is void.
 */
struct syn_vec_loaded {
	uint32_t loan;
	int32_t status;
};
SYN_ABI_SIZE(struct syn_vec_loaded, 8);

/**
 * struct syn_vec_share - attention one page received since the last report.
 * @handle:	the page.
 * @share:	sum over queries and heads of its attention mass, in units of
 *		2^-16.
 * @queries:	queries that could see it.
 */
struct syn_vec_share {
	uint64_t handle;
	uint32_t share;
	uint32_t queries;
};
SYN_ABI_SIZE(struct syn_vec_share, 16);

/**
 * struct syn_vec_advise - what the client knows of one page.
 * @handle:	the page.
 * @advice:	SYN_ADVISE_*; stands until the next one.
 * @pad0:	zero.
 */
struct syn_vec_advise {
	uint64_t handle;
	uint32_t advice;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_vec_advise, 16);
#define SYN_ADVISE_NORMAL 0 /* the ladder decides */
#define SYN_ADVISE_ANCHOR 1 /* sink or recent: never below raw16 */
#define SYN_ADVISE_COLD	  2 /* not needed soon: first to be moved */

/* ---- facts in memory ---------------------------------------------------- */

/*
 * A page handle is {generation:32, index:32}; index is the page-table entry
 * of this session, generation is never 0, so no handle is 0.
 */
#define SYN_HANDLE(generation, index)                                          \
	(((uint64_t)(generation) << 32) | (uint32_t)(index))
#define SYN_HANDLE_INDEX(handle)      ((uint32_t)(handle))
#define SYN_HANDLE_GENERATION(handle) ((uint32_t)((handle) >> 32))

/*
 * A page-table entry (shared, the daemon writes) is
 * {generation:32, state:4, slot:28}; the slot may have SYN_SLOT_CODED.
 */
#define SYN_PTE(generation, state, slot)                                       \
	(((uint64_t)(generation) << 32) | ((uint64_t)(state) << 28) |          \
	 (uint64_t)(slot))
#define SYN_PTE_GENERATION(pte) ((uint32_t)((pte) >> 32))
#define SYN_PTE_STATE(pte)	((uint32_t)((pte) >> 28) & 15u)
#define SYN_PTE_SLOT(pte)	((uint32_t)(pte)&0xfffffffu)

#define SYN_PTE_NONE	 0 /* no lease behind this entry */
#define SYN_PTE_RESIDENT 1 /* in the slot; may be pinned */
#define SYN_PTE_LEAVING	 2 /* about to be moved; a pin must be undone */
#define SYN_PTE_ABSENT	 3 /* in a lower tier */
#define SYN_PTE_FILLING	 4 /* being loaded into the slot; not readable yet */
#define SYN_PTE_LOST	 5 /* gone; loads answer SYN_E_LOST */

/*
 * A pin word (shared, the client writes) is {uses:16, count:16}: the daemon
 * takes a page only at count 0, and reads from `uses` whether it was touched.
 * Pinning adds SYN_PIN_ONE with full ordering, unpinning subtracts 1 with
 * release.  A client stays so far below SYN_PIN_COUNT_MAX that threads which add
 * before they look cannot make the count wrap, for 0 is what the daemon takes.
 */
#define SYN_PIN_ONE	    0x10001u
#define SYN_PIN_COUNT(word) ((word)&0xffffu)
#define SYN_PIN_USES(word)  ((word) >> 16)
#define SYN_PIN_COUNT_MAX   0xffffu

/**
 * struct syn_timeline - progress of one stream or thread of the client.
 * @issued:	shared: number of the last work given to it.
 * @done:	shared: number of the last work it has finished.
 *
 * Written by the client (or its GPU), read by the daemon.  @issued is
 * published before the unpin that it covers.
 */
struct syn_timeline {
	uint64_t issued;
	uint64_t done;
	uint64_t pad0[6];
};
SYN_ABI_SIZE(struct syn_timeline, 64);

/**
 * struct syn_loan - one page on its way into a slot; written by the daemon.
 * @handle:	the page.
 * @src_extent:	host extent.
 * @src_frame:	frame in it.
 * @dst_slot:	slot in the window; with SYN_SLOT_CODED the page goes there as it
 *		is stored.
 * @window:	the window.
 * @bytes:	stored bytes at the source.
 * @codec:	SYN_CODEC_* of the source.
 * @state:	SYN_LOAN_*.
 * @nr_sums:	tiles; their sums are in the sums table, row of this loan.
 * @tile_bytes:	stored bytes of a tile; 0 where tiles differ, see
 *		synapse/codec.h.
 * @session:	the borrower.
 * @pad0:	zero.
 */
struct syn_loan {
	uint64_t handle;
	uint32_t src_extent;
	uint32_t src_frame;
	uint32_t dst_slot;
	uint32_t window;
	uint64_t bytes;
	uint16_t codec;
	uint16_t state;
	uint32_t nr_sums;
	uint32_t tile_bytes;
	uint32_t session;
	uint64_t pad0[2];
};
SYN_ABI_SIZE(struct syn_loan, 64);
SYN_ABI_AT(struct syn_loan, bytes, 24, 8);
SYN_ABI_AT(struct syn_loan, tile_bytes, 40, 4);
#define SYN_LOAN_FREE 0
#define SYN_LOAN_OUT  1 /* recorded; about to be sent, or sent */
#define SYN_LOAN_VOID 2 /* the borrower died: the slot is in quarantine */

/**
 * struct syn_inflight - one submission the daemon has taken; its own record.
 * @sqe:	the copy that was validated.
 * @seq:	its free-running submission index.
 * @state:	SYN_INFLIGHT_*.
 * @at:		ANSWERED: the free-running index of its completion.
 * @out_bytes:	HELD: bytes of the answer's side array.
 * @cqe:	HELD: the answer.
 * @pad0:	zero.
 *
 * Written before the daemon's consumer index moves.  The records are followed
 * by SYN_VEC_BYTES each: the copy of the side array, and of the answer's once
 * it is HELD.
 */
struct syn_inflight {
	struct syn_sqe sqe;
	uint32_t seq;
	uint32_t state;
	uint32_t at;
	uint32_t out_bytes;
	struct syn_cqe cqe;
	uint32_t pad0[4];
};
SYN_ABI_SIZE(struct syn_inflight, 128);
#define SYN_INFLIGHT_FREE     0
#define SYN_INFLIGHT_TAKEN    1 /* not answered yet */
#define SYN_INFLIGHT_ANSWERED 2 /* its completion is filled */
#define SYN_INFLIGHT_HELD     3 /* the answer waits for the socket */

/* ---- control ------------------------------------------------------------ */

#define SYN_CTL_STATUS	1 /* reply: one struct syn_ctl_status */
#define SYN_CTL_TIERS	2 /* reply: struct syn_ctl_tier each */
#define SYN_CTL_CLIENTS 3 /* reply: struct syn_ctl_client each */
#define SYN_CTL_PAGES	4 /* reply: struct syn_ctl_page each, from @cursor */
#define SYN_CTL_EVICT	5 /* drop keyed pages nobody leases; arg[0]: at most */
#define SYN_CTL_DRAIN	6 /* refuse new sessions; arg[0]: 1 on, 0 off */
#define SYN_CTL_WHY	7 /* arg[0..1]: key, [2]: SYN_WHY_AT(); see syn_ctl_why */
#define SYN_CTL_DOMAINS 8 /* reply: struct syn_ctl_domain each, from @cursor */
#define SYN_CTL_QUOTA	9 /* arg[0]: SYN_QUOTA_AT(); arg[1..3]: min, high, max */
#define SYN_CTL_FSCK	10   /* a step of a walk; arg[0]: 1 all of it at once */
#define SYN_CTL_UPGRADE 11   /* make place for the program on disk */
#define SYN_CTL_BATCH	128u /* records in one reply, at most */

/**
 * struct syn_msg_ctl - a question or an order from synapsectl.
 * @op:		SYN_CTL_*.
 * @pad0:	zero.
 * @cursor:	where to go on: 0 first, then @next of the last reply.
 * @arg:	by op.
 */
struct syn_msg_ctl {
	struct syn_msg msg;
	uint32_t op;
	uint32_t pad0;
	uint64_t cursor;
	uint64_t arg[4];
};
SYN_ABI_SIZE(struct syn_msg_ctl, 64);

/**
 * struct syn_msg_ctl_reply - followed by @nr records of @record_bytes.
 * @op:			of the request.
 * @nr:			records in this message.
 * @record_bytes:	bytes of one.
 * @pad0:		zero.
 * @next:		cursor of the rest; 0: that was all.
 * @val:		EVICT: pages dropped.  DRAIN: sessions left.  FSCK: things
 *			found so far, and SYN_FSCK_MOVED.
 */
struct syn_msg_ctl_reply {
	struct syn_msg msg;
	uint32_t op;
	uint32_t nr;
	uint32_t record_bytes;
	uint32_t pad0;
	uint64_t next;
	uint64_t val;
};
SYN_ABI_SIZE(struct syn_msg_ctl_reply, 48);

/* All counters count since the worker started. */
struct syn_ctl_status {
	uint64_t epoch;
	uint64_t uptime_ns;
	uint32_t keeper_pid;
	uint32_t worker_pid;
	uint32_t nr_sessions;
	uint32_t draining;
	uint64_t nr_pages; /* pages that exist */
	uint64_t max_pages;
	uint64_t nr_sealed;
	uint64_t nr_quarantined; /* frames in quarantine */
	uint64_t leases;
	uint64_t releases;
	uint64_t commits;
	uint64_t seals;
	uint64_t dups;
	uint64_t lookup_hits;
	uint64_t lookup_misses;
	uint64_t faults;	 /* pages asked for by FAULT that were absent */
	uint64_t loads;		 /* loans that ended well */
	uint64_t demotions;	 /* pages moved down */
	uint64_t free_demotions; /* left HBM without a copy */
	uint64_t evictions;
	uint64_t backpressure;
	uint64_t sum_failures;
	uint64_t attaches;
	uint64_t detaches;
	uint64_t reaped;	/* sessions whose process died */
	uint64_t swap_retired;	/* slots of the swap file that failed */
	uint64_t encoded;	/* pages encoded */
	uint64_t raw_fallbacks; /* pages kept raw: not finite */
};
SYN_ABI_SIZE(struct syn_ctl_status, 224);

struct syn_ctl_tier {
	uint32_t tier;
	uint32_t nr_extents;
	uint64_t budget_bytes;
	uint64_t extent_bytes; /* taken from the system */
	uint64_t used_bytes;   /* frames with a page */
	uint64_t quarantine_bytes;
	uint64_t in_bytes;  /* moved into this tier */
	uint64_t out_bytes; /* moved out of it, downwards or up */
	uint64_t pad0;
};
SYN_ABI_SIZE(struct syn_ctl_tier, 64);

struct syn_ctl_client {
	uint32_t session;
	uint32_t pid;
	uint32_t uid;
	uint32_t domain;
	uint32_t nr_leases;
	uint32_t slots;
	uint32_t slots_charged;
	uint32_t nr_pinned;
	uint32_t nr_loans;
	uint32_t state;	      /* SYN_CLIENT_* */
	uint64_t attached_ns; /* age */
	uint64_t faults;
	uint64_t demotions;
	uint64_t lookup_hits;
	uint64_t host_bytes; /* bytes of its leased pages in the host tier */
	char name[SYN_NAME_BYTES];
	uint64_t pad0;
};
SYN_ABI_SIZE(struct syn_ctl_client, 120);
#define SYN_CLIENT_LIVE	      1
#define SYN_CLIENT_QUARANTINE 2

/**
 * struct syn_ctl_page - one page, for people.
 * @index:		page record.
 * @generation:		of the record.
 * @key:		0 while it has none.
 * @space:		its space.
 * @domain:		its domain.
 * @state:		SYN_PAGE_*.
 * @flags:		SYN_PAGE_F_*.
 * @codec:		of the copy in the lower tier.
 * @fidelity:		bits of the best copy that exists.
 * @tokens:		final tokens.
 * @nr_lessees:		leases on it.
 * @slot:		in HBM, or ~0.
 * @demotions:		times it moved down.
 * @loads:		times it was brought back.
 * @share:		reported attention, units of 2^-16.
 * @session:	writer, or charged for the slot; ~0: nobody.
 * @error:	of its worst tile, units of 2^-16; 0: nothing was lost.
 * @error_mean:	over its tiles.
 * @advice:	SYN_ADVISE_*.
 */
struct syn_ctl_page {
	uint32_t index;
	uint32_t generation;
	uint64_t key[2];
	uint32_t space;
	uint32_t domain;
	uint16_t state;
	uint16_t flags;
	uint16_t codec;
	uint16_t fidelity;
	uint32_t tokens;
	uint32_t nr_lessees;
	uint32_t slot;
	uint32_t demotions;
	uint32_t loads;
	uint32_t share;
	uint32_t session;
	uint32_t error;
	uint32_t error_mean;
	uint32_t advice;
};
SYN_ABI_SIZE(struct syn_ctl_page, 80);
#define SYN_PAGE_FREE	      0
#define SYN_PAGE_OPEN	      1 /* being written */
#define SYN_PAGE_FULL	      2 /* all tokens final */
#define SYN_PAGE_SEALED	      3 /* immutable */
#define SYN_PAGE_LOST	      4 /* its bytes are gone */
#define SYN_PAGE_F_HBM	      1u
#define SYN_PAGE_F_HOST	      2u
#define SYN_PAGE_F_NVME	      4u
#define SYN_PAGE_F_KEYED      8u
#define SYN_PAGE_F_MOVING     16u
#define SYN_PAGE_F_FILLING    32u
#define SYN_PAGE_F_DURABLE    64u  /* its slot survives a power cut */
#define SYN_PAGE_F_NOT_FINITE 128u /* kept raw: not all numbers are finite */
#define SYN_PAGE_F_CODED      256u /* in HBM as it is stored: encoded */

/* Why a page had to be loaded. */
#define SYN_CAUSE_RECLAIM 1 /* it was resident here and had to leave */
#define SYN_CAUSE_FOUND	  2 /* a lookup found it in a lower tier */
#define SYN_CAUSE_RESTART 3 /* found in the swap file after a restart */

/* Why a key is not found, or a page is as it is. */
#define SYN_WHY_PRESENT	  1  /* it is there: a lookup hits */
#define SYN_WHY_NEVER	  2  /* nobody has sealed this key */
#define SYN_WHY_NOT_READY 3  /* sealed; its ready point has not passed */
#define SYN_WHY_EVICTED	  4  /* dropped to make room for somebody */
#define SYN_WHY_ORDERED	  5  /* dropped by synapsectl evict */
#define SYN_WHY_IDENTITY  6  /* sealed for another space: @field differs */
#define SYN_WHY_DOMAIN	  7  /* sealed in another domain */
#define SYN_WHY_FIDELITY  8  /* only a copy of @fidelity bits is left */
#define SYN_WHY_CHECKSUM  9  /* its bytes did not verify */
#define SYN_WHY_DEVICE	  10 /* the device or disk it was on failed */
#define SYN_WHY_WRITER	  11 /* its writer ended before it was ready */
#define SYN_WHY_REPLACED  12 /* lost, then sealed anew */

/* For whom a key is asked: lookups of @space and @domain, or of any of them. */
#define SYN_WHY_AT(space, domain)                                              \
	(((uint64_t)(space) << 32) | (uint32_t)(domain))
#define SYN_WHY_ANY UINT32_MAX

#define SYN_FIELD_NONE	     0
#define SYN_FIELD_MODEL	     1
#define SYN_FIELD_TOKENS     2
#define SYN_FIELD_LAYERS     3
#define SYN_FIELD_COMPONENTS 4
#define SYN_FIELD_FLOOR	     5
#define SYN_FIELD_CODED	     6

/**
 * struct syn_ctl_why - one thing that is known of a key.
 * @cause:	SYN_WHY_*.
 * @field:	SYN_FIELD_*, with SYN_WHY_IDENTITY.
 * @page:	record, ~0: none any more.
 * @space:	its space; with SYN_WHY_NEVER that of the question.
 * @domain:	its domain, ~0: it has ended; with SYN_WHY_NEVER as @space.
 * @tier:	SYN_TIER_* where it was or is, 0: nowhere.
 * @fidelity:	bits of its best copy.
 * @session:	who caused it, ~0: nobody.
 * @pid:	of that session.
 * @pad0:	zero.
 * @age_ns:	how long ago; 0: now.
 * @name:	of that session.
 */
struct syn_ctl_why {
	uint32_t cause;
	uint32_t field;
	uint32_t page;
	uint32_t space;
	uint32_t domain;
	uint32_t tier;
	uint32_t fidelity;
	uint32_t session;
	uint32_t pid;
	uint32_t pad0;
	uint64_t age_ns;
	char name[SYN_NAME_BYTES];
};
SYN_ABI_SIZE(struct syn_ctl_why, 80);

#define SYN_QUOTA_TIERS		   3u /* HBM, host, NVMe: SYN_TIER_* - 1 */
#define SYN_QUOTA_AT(domain, tier) (((uint64_t)(domain) << 32) | (tier))
#define SYN_QUOTA_NONE		   UINT64_MAX /* no limit */

/**
 * struct syn_ctl_quota - what a domain may have of one tier, in bytes.
 * @used:	what it has.
 * @min:	kept free for it.
 * @high:	above it its pages go first.
 * @max:	it gets no more.
 */
struct syn_ctl_quota {
	uint64_t used;
	uint64_t min;
	uint64_t high;
	uint64_t max;
};
SYN_ABI_SIZE(struct syn_ctl_quota, 32);

#define SYN_DOMAIN_BYTES 64u

struct syn_ctl_domain {
	uint32_t domain;
	uint32_t uid;
	uint32_t nr_sessions;
	uint32_t nr_pages;
	uint64_t refused; /* requests that its quota refused */
	struct syn_ctl_quota tier[SYN_QUOTA_TIERS];
	char name[SYN_DOMAIN_BYTES];
};
SYN_ABI_SIZE(struct syn_ctl_domain, 184);

/* Whose record it is that is not as it should be. */
#define SYN_FSCK_PAGE	    1
#define SYN_FSCK_LESSEE	    2
#define SYN_FSCK_MOVE	    3
#define SYN_FSCK_SWAP	    4 /* a request to the swap file */
#define SYN_FSCK_QUARANTINE 5
#define SYN_FSCK_SESSION    6
#define SYN_FSCK_WINDOW	    7 /* @part: window * 2 + plane, of the session */
#define SYN_FSCK_BUCKET	    8 /* of the index of keys */
#define SYN_FSCK_EXTENT	    9
#define SYN_FSCK_POOL	    10
#define SYN_FSCK_DOMAIN	    11
#define SYN_FSCK_TIER	    12 /* SYN_TIER_* */
#define SYN_FSCK_SUMS	    13 /* a run of sums */
#define SYN_FSCK_MANAGER    14

/* What of it. */
#define SYN_FSCK_STATE	    1
#define SYN_FSCK_FLAGS	    2
#define SYN_FSCK_REFERENCE  3 /* to another record, which is not there */
#define SYN_FSCK_BACK	    4 /* what should refer back to it does not */
#define SYN_FSCK_PLACE	    5 /* where a frame is */
#define SYN_FSCK_TWICE	    6 /* a frame or run that another one has, too */
#define SYN_FSCK_CHARGED    7
#define SYN_FSCK_LIST	    8  /* @part: SYN_TIER_*: which it should be on */
#define SYN_FSCK_LINK	    9  /* neighbours on a list; @part: SYN_TIER_* */
#define SYN_FSCK_LEASES	    10 /* how many there are */
#define SYN_FSCK_ENTRY	    11 /* what the page table shows */
#define SYN_FSCK_GENERATION 12
#define SYN_FSCK_KEY	    13
#define SYN_FSCK_REQUEST    14 /* moves, requests, loans that are under way */
#define SYN_FSCK_FREE	    15 /* the list of free ones */
#define SYN_FSCK_USED	    16 /* frames */
#define SYN_FSCK_GOING	    17 /* slots that are about to come free */
#define SYN_FSCK_USERS	    18
#define SYN_FSCK_EXTENTS    19
#define SYN_FSCK_BYTES	    20
#define SYN_FSCK_WAITING    21 /* what is in quarantine */
#define SYN_FSCK_NUMBER	    22 /* of all such records */
#define SYN_FSCK_SLOTS	    23 /* that are guaranteed */
#define SYN_FSCK_MAPPED	    24 /* by how many sessions */

/*
 * In @val: pages, leases or sessions changed during the walk, so that what is
 * counted over all of them was not compared.
 */
#define SYN_FSCK_MOVED	  (1ull << 63)
#define SYN_FSCK_FOUND(x) ((x) & ~SYN_FSCK_MOVED)
#define SYN_FSCK_MAX	  64u /* told of one by one */

/**
 * struct syn_ctl_fsck - one thing that is not as it should be.
 * @object:	SYN_FSCK_PAGE ...
 * @field:	SYN_FSCK_STATE ...
 * @index:	of the record.
 * @part:	of it, by object and field; else 0.
 * @expected:	from what other records say.
 * @found:	in its place.
 *
 * FSCK goes on by @next like other questions.  The records come with the last
 * reply, the first SYN_FSCK_MAX of all that were found.
 */
struct syn_ctl_fsck {
	uint32_t object;
	uint32_t field;
	uint32_t index;
	uint32_t part;
	uint64_t expected;
	uint64_t found;
};
SYN_ABI_SIZE(struct syn_ctl_fsck, 32);

#endif
