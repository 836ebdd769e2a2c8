/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of libsynapse-client.
 *
 * One mutex guards everything but the words that pin, unpin and the timeline
 * calls use.  A call that has to wait gives the mutex up; of the waiting
 * threads one is the reaper, which watches the completion ring and the socket,
 * and the others wait to be told.  Functions ending in _locked want the mutex;
 * those that may give it up meanwhile say "waits".
 */
#ifndef SYN_IPC_CLIENT_INTERNAL_H
#define SYN_IPC_CLIENT_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>
#include <synapse/client.h>
#include <synapse/codec.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "ipc/client/device.h"
#include "ipc/ring.h"

/* The word that tells a child, whose copy the kernel wipes, from its parent. */
#define SYN_CLIENT_FORKED 0u
#define SYN_CLIENT_USABLE 1u
#define SYN_CLIENT_ENDED  2u

/**
 * struct syn_request - one entry of the ring and its answer.
 * @sqe:	as submitted; the cookie is filled in.
 * @in:		side array to send.
 * @in_bytes:	of @in, at most SYN_VEC_BYTES.
 * @out:	gets the side array of a successful answer.
 * @out_bytes:	of @out, at most SYN_VEC_BYTES.
 * @res:	answer: 0 or a count, -errno, or SYN_E_* if @outcome.
 * @outcome:	@res is a SYN_E_*.
 * @done:	answered.
 * @val:	of the answer.
 */
struct syn_request {
	struct syn_sqe sqe;
	const void *in;
	size_t in_bytes;
	void *out;
	size_t out_bytes;
	int res;
	bool outcome;
	bool done;
	uint64_t val[2];
};

/**
 * struct syn_batch - the same request for any number of items.
 * @sqe:	op, object and arguments.
 * @in:		array to send, or NULL.
 * @in_each:	bytes of one entry.
 * @out:	array to fill, or NULL; pieces that failed leave it alone.
 * @out_each:	bytes of one entry.
 * @nr:		items.
 * @hint_ns:	answer: when to try again, with SYN_E_BACKPRESSURE.
 */
struct syn_batch {
	struct syn_sqe sqe;
	const void *in;
	size_t in_each;
	void *out;
	size_t out_each;
	unsigned int nr;
	uint64_t hint_ns;
};

enum syn_extent_state {
	SYN_EXTENT_MAPPED,
	/* The daemon wants it back, a copy still reads it. */
	SYN_EXTENT_LEAVING,
	/* Unmapped; the daemon is to be told. */
	SYN_EXTENT_GONE,
};

/**
 * struct syn_extent - memory of the daemon, mapped here.
 * @msg:	as announced.
 * @map:	its memory here.
 * @users:	copies that read it now.
 * @state:	see above.
 */
struct syn_extent {
	struct syn_msg_extent msg;
	struct syn_mapping map;
	unsigned int users;
	enum syn_extent_state state;
};

/**
 * struct syn_space_layout - the tiles of a space's pages, if they are such.
 * @space:	its id.
 * @h4:		loans may be stored so.
 * @coded:	then such pages are resident as they are stored.
 * @layout:	of its pages, as h4 if they are.
 */
struct syn_space_layout {
	uint32_t space;
	bool h4;
	bool coded;
	struct syn_layout layout;
};

/**
 * struct syn_plane - the slots of one kind of a window; none: all is zero.
 * @base:	slot 0.
 * @stride:	bytes from slot to slot.
 * @range:	slots are below this.
 * @slots:	the guaranteed share.
 * @full:	all bits of @mapped below this slot are set; the same rules.
 * @mapped:	one bit a slot: memory is mapped there.  Set after the mapping
 *		is made; read without the mutex.
 */
struct syn_plane {
	char *base;
	uint64_t stride;
	uint32_t range;
	uint32_t slots;
	uint32_t full;
	uint64_t *mapped;
};

/**
 * struct syn_window - a window, open when @client is set.
 * @client:	whose.
 * @space:	what its pages are.
 * @layout:	the tiles of its pages; no layers: they are not such.
 * @h4:		loans may be stored so ...
 * @coded:	... and then stay so in their slots.
 * @wrap:	where the engine has slots of its own; none: @wrap.slots is 0.
 * @fidelity:	floor of lookups.
 * @plane:	its slots: canonical ones, and those with SYN_SLOT_CODED.
 */
struct syn_window {
	struct syn_client *client;
	struct syn_space space;
	struct syn_layout layout;
	bool h4;
	bool coded;
	struct syn_wrap_opts wrap;
	uint32_t fidelity;
	struct syn_plane plane[2];
};

/**
 * struct syn_client - a session.
 * @state:	SYN_CLIENT_*, on a page that a fork wipes.
 * @pte:	shared: page table, the daemon's.
 * @pin:	shared: pin words, ours.
 * @window_of:	window of each page-table entry; set before the handle is
 *		given to the caller.
 * @nr_pages:	entries of the three above.
 * @nr_timelines: entries of @timeline.
 * @timeline:	shared: timelines, ours.
 * @window:	by id.
 * @retry_ns:	hint of the last refusal; needs no lock.
 * @nr_loading:	loads that were begun and not ended; needs no lock.
 * @reports:	batches of shares, or NULL; set once, under @lock.  Its own
 *		mutex is taken before @lock.
 * @trace:	a recording, or NULL; set once, under @lock.
 * @lock:	guards all that follows.
 * @turn:	waiting threads that are not the reaper.
 * @nr_waiting:	how many.
 * @reaping:	a thread is the reaper, and alone touches @cq.
 * @ended:	the session is over.
 * @spins:	spinning can help: there is more than one CPU.
 * @rang:	the daemon had to be woken for what was submitted last.
 * @sq:		submissions.
 * @cq:		completions.
 * @nr_filled:	entries filled and not yet published.
 * @sq_room:	least room in @sq; looked up again only when it is used up,
 *		because the line it comes from is the daemon's.
 * @sq_vec:	side arrays of @sq.
 * @cq_vec:	side arrays of @cq.
 * @loan:	shared: loans, the daemon's.
 * @sums:	shared: sums of the loans.
 * @ctl:	shared: the daemon's words.
 * @request:	by the low bits of the cookie; NULL if nobody waits for it.
 * @cookie:	of each.
 * @idle:	one bit for each free entry of @request.
 * @nr_sent:	requests ever, the high bits of the cookie.
 * @device:	what the daemon's memory is to us.
 * @has_uuid:	the daemon has named its GPU, ...
 * @uuid:	... so.
 * @shares:	streams may write timelines.
 * @extent:	table of extents.
 * @nr_extents:	used entries.
 * @max_extents: entries.
 * @asking:	a message has been sent that will be answered by one.
 * @answered:	the answer is in @answer.
 * @answer:	the answer.
 * @answer_type: SYN_MSG_* that will be it.
 * @opening:	window being opened: its space, and what the caller chose.
 * @opened:	result of setting up the window that was opened.
 * @layout:	of the spaces whose pages are whole tiles.
 * @nr_layouts:	used entries.
 * @max_layouts: entries.
 * @features:	in use in this session.
 * @next_timeline: not given out yet.
 * @notices:	last value reported from.
 * @inbox_seen:	value when the socket was last read; also read without @lock.
 * @epoch:	last value seen.
 * @events:	SYN_EVENT_* not yet reported, one bit each.
 * @session:	id, for people.
 * @sock:	connection.
 * @wake:	eventfd that wakes the daemon.
 * @woken:	eventfd that wakes us.
 * @client_map:	our segment.
 * @daemon_map:	the daemon's.
 * @client_bytes: of our segment.
 * @daemon_bytes: of the daemon's.
 * @reason:	why it ended.
 */
struct syn_client {
	uint32_t *state;
	uint64_t *pte;
	uint32_t *pin;
	uint8_t *window_of;
	uint32_t nr_pages;
	uint32_t nr_timelines;
	struct syn_timeline *timeline;
	struct syn_window window[SYN_WINDOWS_MAX];
	uint64_t retry_ns;
	uint32_t nr_loading;
	struct syn_reports *reports;
	struct syn_trace *trace;

	pthread_mutex_t lock;
	pthread_cond_t turn;
	unsigned int nr_waiting;
	bool reaping;
	bool ended;
	bool spins;
	bool rang;

	struct syn_ring sq;
	struct syn_ring cq;
	uint32_t nr_filled;
	uint32_t sq_room;
	unsigned char *sq_vec;
	const unsigned char *cq_vec;
	const struct syn_loan *loan;
	const uint32_t *sums;
	const struct syn_daemon_ctl *ctl;
	struct syn_request *request[SYN_SQ_ENTRIES];
	uint64_t cookie[SYN_SQ_ENTRIES];
	uint64_t idle;
	uint64_t nr_sent;

	struct syn_device *device;
	bool has_uuid;
	uint8_t uuid[16];
	bool shares;
	struct syn_extent *extent;
	unsigned int nr_extents;
	unsigned int max_extents;

	bool asking;
	bool answered;
	uint32_t nr_asked;
	union {
		struct syn_msg msg;
		struct syn_msg_space_reply space;
		struct syn_msg_window_reply window;
		struct syn_msg_coded_reply coded;
	} answer;
	uint16_t answer_type;
	struct syn_window opening;
	int opened;
	struct syn_space_layout *layout;
	unsigned int nr_layouts;
	unsigned int max_layouts;
	uint64_t features;

	uint32_t next_timeline;
	uint32_t notices;
	uint32_t inbox_seen;
	uint64_t epoch;
	uint32_t events;
	uint32_t session;

	int sock;
	int wake;
	int woken;
	void *client_map;
	void *daemon_map;
	uint64_t client_bytes;
	uint64_t daemon_bytes;
	char reason[SYN_REASON_BYTES];
};

/* Public calls leave errno as they found it. */
static inline void syn_errno_restore(const int *saved)
{
	errno = *saved;
}

#define SYN_KEEP_ERRNO                                                         \
	syn_cleanup(syn_errno_restore)                                         \
		__attribute__((unused)) int syn_errno_kept = errno

static inline int syn_client_check(const struct syn_client *c)
{
	uint32_t state = syn_load_relaxed(c->state);

	if (syn_likely(state == SYN_CLIENT_USABLE))
		return 0;
	return state == SYN_CLIENT_FORKED ? -ECHILD : -ESHUTDOWN;
}

/* @slot: as of an entry, at most 28 bits. */
static inline const struct syn_plane *
syn_window_plane(const struct syn_window *w, uint32_t slot)
{
	return &w->plane[slot / SYN_SLOT_CODED];
}

static inline bool syn_window_has_slot(const struct syn_window *w,
				       uint32_t slot)
{
	const struct syn_plane *p = syn_window_plane(w, slot);
	uint32_t n = SYN_SLOT_INDEX(slot);

	if (syn_likely(n < syn_load_relaxed(&p->full)))
		return true;
	return n < p->range &&
	       syn_load_relaxed(&p->mapped[n / 64]) >> (n % 64) & 1;
}

static inline char *syn_window_slot(const struct syn_window *w, uint32_t slot)
{
	const struct syn_plane *p = syn_window_plane(w, slot);

	return p->base + SYN_SLOT_INDEX(slot) * p->stride;
}

/* The entry says: this page, resident. */
static inline bool syn_pte_is_resident(uint64_t pte, uint64_t page)
{
	uint64_t want =
		SYN_PTE(SYN_HANDLE_GENERATION(page), SYN_PTE_RESIDENT, 0);

	return (pte ^ want) >> 28 == 0;
}

static inline struct syn_window *syn_page_window(struct syn_client *c,
						 uint32_t index)
{
	return &c->window[syn_load_relaxed(&c->window_of[index])];
}

/* UINT64_MAX when @timeout_ns is SYN_FOREVER or reaches past the end. */
static inline uint64_t syn_deadline_ns(uint64_t timeout_ns)
{
	uint64_t now_ns;

	if (timeout_ns == 0 || timeout_ns == SYN_FOREVER)
		return timeout_ns;
	now_ns = syn_now_ns();
	return timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX
						: now_ns + timeout_ns;
}

/* request.c */

/*
 * A refusal: remembers its hint and sleeps for it; false, without sleeping,
 * once the deadline is past.
 */
bool syn_backoff(struct syn_client *c, uint64_t hint_ns, uint64_t deadline_ns);
/* Waits.  Submits all, then returns when all are answered: 0, -ESHUTDOWN. */
int syn_request_run(struct syn_client *c, struct syn_request *req,
		    unsigned int nr);
/*
 * Waits.  In pieces of SYN_BATCH_MAX, several at a time: 0, or the first result
 * that is not a success, after which no more pieces are sent.
 */
int syn_batch_run(struct syn_client *c, struct syn_batch *batch);
/* Waits until *@done: 0, -ESHUTDOWN. */
int syn_wait_locked(struct syn_client *c, const bool *done);
/* Until something has happened, or for a while; -ESHUTDOWN: the session's end. */
int syn_wait_turn_locked(struct syn_client *c);
/* Takes completions, unless somebody else is about to. */
void syn_reap_locked(struct syn_client *c);
/* Submits without waiting for room or answer; false: no room now. */
bool syn_request_tell_locked(struct syn_client *c, const struct syn_sqe *sqe);
/* The same; its answer comes to @req, unless the session ends before. */
bool syn_request_post_locked(struct syn_client *c, struct syn_request *req);
/* The session is over; all that waits is woken.  The first reason stays. */
void syn_client_end_locked(struct syn_client *c, const char *reason);

/* inbox.c */

/* Reads and acts upon everything that waits on the socket. */
void syn_inbox_read_locked(struct syn_client *c);
/* Reads if the daemon says that it has sent something. */
void syn_inbox_look(struct syn_client *c);
/* Waits, for some milliseconds at most, until the socket has something. */
int syn_inbox_wait(struct syn_client *c);

/* extent.c */

/* Takes ownership of @fd. */
int syn_extent_add_locked(struct syn_client *c,
			  const struct syn_msg_extent *msg, int fd);
int syn_extent_retire_locked(struct syn_client *c, uint32_t id);
/* Moves extents that came before their window into it. */
int syn_extent_place_locked(struct syn_client *c, uint32_t window);
/* Tells the daemon what has been unmapped. */
void syn_extent_tell_locked(struct syn_client *c);
/* Waits for an extent that the daemon has announced; stays mapped until put. */
int syn_extent_get(struct syn_client *c, uint32_t id, struct syn_extent *ret);
void syn_extent_put(struct syn_client *c, uint32_t id);
/* Waits until there is memory behind @slot. */
int syn_slot_wait(struct syn_window *w, uint32_t slot);
void syn_extent_free_all(struct syn_client *c, bool forked);

/* window.c */

/* The daemon's answer has come: makes the window. */
int syn_window_setup_locked(struct syn_client *c,
			    const struct syn_msg_window_reply *msg);
int syn_window_setup_coded_locked(struct syn_client *c,
				  const struct syn_msg_coded_reply *msg);
void syn_window_free_all(struct syn_client *c, bool forked);

/* timeline.c */

/* Memory that streams may write from now on; see struct syn_device_ops. */
int syn_client_share_locked(struct syn_client *c, void *at, uint64_t bytes);
void syn_timelines_unshare(struct syn_client *c);
/* Waits until work @value of it is done.  -EAGAIN: not by the deadline. */
int syn_timeline_reach(const struct syn_client *c, uint32_t timeline,
		       uint64_t value, uint64_t deadline_ns);

/* shares.c */

/* Sums what is complete, and reports what is due. */
void syn_shares_look(struct syn_client *c);
/* The pages are about to be released: what is known of them is reported. */
void syn_shares_leave(struct syn_client *c, const uint64_t *pages,
		      unsigned int nr);
/* In a child (@forked) the memory is not mapped.  The device is still open. */
void syn_shares_free(struct syn_client *c, bool forked);

/* pin.c */

/* As syn_pin() and syn_unpin(), without looking whether the page is there. */
int syn_pin_hold(struct syn_client *c, const uint64_t *pages, unsigned int nr);
void syn_pin_drop(struct syn_client *c, const uint64_t *pages, unsigned int nr);
/*
 * Where it is; with @coming also where a loan of ours is filling a slot.  NULL:
 * nowhere, as far as one look at its entry tells.  Another look may differ
 * while the page is held: the daemon marks it as leaving before it sees the pin.
 */
void *syn_page_at(struct syn_client *c, uint64_t page, bool coming);
/* -ESTALE unless the entry is that page's. */
int syn_page_check(struct syn_client *c, uint64_t page);

#endif
