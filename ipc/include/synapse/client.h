/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: lease KV pages from synapsed.
 *
 * Results.  0 or a count is success, a negative value is -errno, and a positive
 * SYN_E_* where a function names it is an answer the caller must handle.
 * -ESHUTDOWN: the daemon has gone or ended the session; memory that is mapped
 * stays mapped until syn_detach(), so that an engine can finish a token.
 *
 * Threads.  syn_pin(), syn_unpin() and the timeline calls may run in any
 * number of threads at once; they take no lock and send no message.  All
 * other calls may be made from any thread and are serialised inside.
 *
 * Batches.  A call on several pages does all or nothing unless it says
 * otherwise, and takes any number of them.
 *
 * Options begin with their size in bytes, so that later versions can add
 * members: use SYN_OPTS() and set what you need.  Unset means the default.
 *
 * Fork.  A child cannot use its parent's client: every call answers -ECHILD,
 * and the segments are not mapped there.  Attach again.
 */
#ifndef SYNAPSE_CLIENT_H
#define SYNAPSE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

/* struct syn_x_opts opts = SYN_OPTS(struct syn_x_opts); */
#ifdef __cplusplus
template <typename T> static inline T syn_opts_of()
{
	T opts = T();

	opts.sz = sizeof(opts);
	return opts;
}
#define SYN_OPTS(type) (syn_opts_of<type>())
#else
#define SYN_OPTS(type) ((type){ .sz = sizeof(type) })
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SYN_API __attribute__((visibility("default")))
#else
#define SYN_API
#endif

struct syn_client;
struct syn_loading;
struct syn_window;

/* Wait as long as it takes. */
#define SYN_FOREVER UINT64_MAX

/**
 * struct syn_attach_opts - how to attach.
 * @sz:			sizeof(struct syn_attach_opts).
 * @path:		the daemon's socket; NULL: $SYNAPSE_SOCKET, else
 *			/run/synapse/synapse.sock.
 * @name:		shown by synapsectl; NULL: the program's name.
 * @nr_pages:		page-table entries, the most pages leased at once;
 *			0: 65536.
 * @nr_timelines:	timelines, 0: 8.
 * @timeout_ns:		for the handshake, 0: 5 s.
 */
struct syn_attach_opts {
	size_t sz;
	const char *path;
	const char *name;
	uint32_t nr_pages;
	uint32_t nr_timelines;
	uint64_t timeout_ns;
};

/*
 * @opts may be NULL.  -ENOENT, -ECONNREFUSED: no daemon there.  -EPROTO: it
 * speaks another version.  -EACCES, -EUSERS, -EMFILE, -EOPNOTSUPP (its memory is
 * a GPU's, and this build of the library has no CUDA): refused; the reason is
 * in @ret_reason, if that is not NULL (SYN_REASON_BYTES bytes).
 */
SYN_API int syn_attach(const struct syn_attach_opts *opts,
		       struct syn_client **ret, char *ret_reason);

/*
 * Gives every lease back and unmaps everything.  Pages sealed under a key
 * stay with the daemon.  Every load has been ended, and no other call may be
 * running.  Takes NULL, returns
 * NULL.
 */
SYN_API struct syn_client *syn_detach(struct syn_client *client);

/* Why the session ended: one line, "" while it lives; valid until detach. */
SYN_API const char *syn_client_reason(struct syn_client *client);

/* The session's id, as synapsectl shows it. */
SYN_API uint32_t syn_client_session(const struct syn_client *client);

#define SYN_UUID_BYTES 16

/*
 * The GPU that windows are in, by its UUID, from syn_attach() on: what reads
 * pages decides what space they want.  -ENODEV: they are in memory that only the
 * CPU reads.
 */
SYN_API int syn_client_gpu(struct syn_client *client,
			   uint8_t ret_uuid[SYN_UUID_BYTES]);

/**
 * struct syn_space_opts - a KV geometry.
 * @sz:			sizeof(struct syn_space_opts).
 * @model:		128 bits that identify weights and configuration: pages
 *			of different models never meet.
 * @tokens:		tokens of a page.
 * @layers_per_page:	layers of a page, 0: 1.
 * @nr_components:	entries of @components.
 * @components:		the tensors in canonical order; see struct
 *			syn_msg_space for the bytes of a page.  A component whose
 *			codec is SYN_CODEC_H4 may lose precision below HBM, if
 *			the daemon's ladder says so.
 * @raw_head:		so many first layers of a page keep their keys raw ...
 * @raw_tail:		... and so many last ones.
 * @coded:		1: everybody who reads pages of this space takes encoded
 *			ones as they are stored, see syn_window_coded(); 0: they
 *			are decoded.  A different space.
 */
struct syn_space_opts {
	size_t sz;
	uint64_t model[2];
	uint32_t tokens;
	uint32_t layers_per_page;
	uint32_t nr_components;
	const struct syn_component *components;
	uint8_t raw_head;
	uint8_t raw_tail;
	uint8_t coded;
};

struct syn_space {
	uint32_t id;
	uint32_t nr_tiles;   /* checksummed tiles of a page */
	uint64_t page_bytes; /* canonical bytes of a page */
	uint64_t identity;   /* hash of model and geometry */
};

/*
 * The same geometry gets the same space in every client.  -EINVAL.
 * -EOPNOTSUPP: the daemon is too old for what is asked.
 */
SYN_API int syn_space_define(struct syn_client *client,
			     const struct syn_space_opts *opts,
			     struct syn_space *ret);

/**
 * struct syn_window_opts - a window.
 * @sz:		sizeof(struct syn_window_opts).
 * @slots:	pages that may be resident for this client at once; the share
 *		is guaranteed.
 * @device:	which device, 0 on one.
 * @fidelity:	bits that pages found by syn_lookup() must have kept;
 *		0: nothing may have been lost.
 * @coded_slots: of a space with @coded, and of no other: pages that may be
 *		resident besides as they are stored.  @slots are for those that
 *		are written or stay raw.
 */
struct syn_window_opts {
	size_t sz;
	uint32_t slots;
	uint32_t device;
	uint32_t fidelity;
	uint32_t coded_slots;
};

/*
 * -EDQUOT: HBM, or the domain's quota, does not hold that many more slots.
 * Where HBM is a GPU's, the first window is opened in the caller's context of
 * it, or else the primary one.  -ENODEV: this process does not see that GPU.
 * -ENOSYS: its driver is too old.  -EINVAL: no slots, or @coded_slots not as the
 * space wants it.
 */
SYN_API int syn_window_open(struct syn_client *client,
			    const struct syn_space *space,
			    const struct syn_window_opts *opts,
			    struct syn_window **ret);

/**
 * struct syn_wrap_opts - memory that the engine has, as a window.
 * @sz:		sizeof(struct syn_wrap_opts).
 * @base:	slot 0, where the device can reach it.
 * @stride:	bytes from a slot to the next, a multiple of 16, as all below.
 * @slots:	how many there are.
 * @layer:	from a layer of a page to the next.
 * @block:	from 128 tokens to the next.
 * @head:	from a head to the next.
 * @component:	from a component to the next.
 * @token:	from a token to the next.
 * @passing:	slots of the daemon's HBM that pages pass through, 0: 64.
 * @device:	as in struct syn_window_opts.
 * @fidelity:	see there.
 */
struct syn_wrap_opts {
	size_t sz;
	void *base;
	uint64_t stride;
	uint64_t layer;
	uint64_t block;
	uint64_t head;
	uint64_t component;
	uint64_t token;
	uint32_t slots;
	uint32_t passing;
	uint32_t device;
	uint32_t fidelity;
};

/*
 * A window over memory of the engine's own, for engines that cannot change
 * their allocator.  Nobody but this library touches that memory: pages come
 * in by syn_fetch() and go out by syn_store().  Everything else that takes a
 * window or its pages works on the slots that they pass through.  -EINVAL: no
 * slots, pages that are not whole tiles of 128 tokens of one size, or a space
 * whose pages are read as they are stored; else as syn_window_open().
 */
SYN_API int syn_window_wrap(struct syn_client *client,
			    const struct syn_space *space,
			    const struct syn_wrap_opts *opts,
			    struct syn_window **ret);

/**
 * struct syn_planes - how a kernel addresses a window.
 * @base:	address of slot 0; slot n begins at @base + n * @stride.
 * @stride:	bytes from one slot to the next.
 * @range:	slot numbers are below this.
 * @slots:	the guaranteed share.
 *
 * Addresses are stable while the window is open.  Inside a slot the bytes are
 * canonical (struct syn_msg_space).
 */
struct syn_planes {
	void *base;
	uint64_t stride;
	uint32_t range;
	uint32_t slots;
};

SYN_API void syn_window_planes(const struct syn_window *window,
			       struct syn_planes *ret);

/*
 * The same of the slots that hold pages as they are stored, encoded; all zero if
 * the space has none.  They have addresses of their own, and their bytes are
 * those of synapse/codec.h, with the layout of the space.  Only the library
 * writes them, and only before syn_pin() or syn_load() succeeds.
 *
 * A page that was written lies in a canonical slot until it has been encoded and
 * left HBM; anchors and others that stay raw always do.  So each address says
 * what is there: syn_planes_have().
 */
SYN_API void syn_window_coded(const struct syn_window *window,
			      struct syn_planes *ret);

/* Whether @addr, of a page, is in a slot of @planes.  Any thread. */
static inline int syn_planes_have(const struct syn_planes *planes,
				  const void *addr)
{
	return (uintptr_t)addr - (uintptr_t)planes->base <
	       planes->range * planes->stride;
}

/*
 * Fresh pages, resident, writable by this client alone, zeroed or holding
 * bytes of this same space and domain.  Waits up to @timeout_ns for room.
 * SYN_E_BACKPRESSURE: none was made; release or unpin something.
 * -EDQUOT: no page-table entry left.  -E2BIG: more than the window.
 */
SYN_API int syn_lease(struct syn_window *window, unsigned int nr,
		      uint64_t timeout_ns, uint64_t *ret_pages);

/*
 * The first @tokens[i] tokens of page i are final.  A page whose tokens are
 * all final may be moved by the daemon; until then it is resident.
 */
SYN_API int syn_commit(struct syn_client *client, const uint64_t *pages,
		       const uint32_t *tokens, unsigned int nr);

/*
 * Promise that the pages stay where they are; *ret_addr (may be NULL) gets
 * their addresses.  No message, no wait.
 * SYN_E_FAULT: at least one is not resident; none is pinned.  Use syn_load().
 * SYN_E_LOST: one is gone.  -ESTALE: not a page of this client.
 * -EOVERFLOW: one is pinned more than 65,000 times.
 *
 * Order: everything the daemon or a loader wrote into the page is visible
 * after syn_pin() returns.
 */
SYN_API int syn_pin(struct syn_client *client, const uint64_t *pages,
		    unsigned int nr, void **ret_addr);

/*
 * Ends the promise.  Work on @timeline issued so far may still read the
 * pages: the daemon waits for it.  A thread that has finished reading passes
 * its own timeline, on which nothing is outstanding.
 */
SYN_API void syn_unpin(struct syn_client *client, uint32_t timeline,
		       const uint64_t *pages, unsigned int nr);

/*
 * Pins, after bringing in whatever is not resident.  Every copy is verified
 * against its sums.  Waits up to @timeout_ns for room.
 * SYN_E_BACKPRESSURE: no room came free in time; none is pinned.
 * SYN_E_LOST: the bytes of one are gone or did not verify; none is pinned, and
 * ret_addr[i] is NULL for the lost ones.  -E2BIG: more absent pages than slots,
 * or 64 of them want more slots of one kind than there are.
 */
SYN_API int syn_load(struct syn_client *client, const uint64_t *pages,
		     unsigned int nr, uint64_t timeout_ns, void **ret_addr);

/*
 * As syn_load(), but returns once every copy has been given to the device, so
 * that an engine computes meanwhile: *ret_addr (may be NULL) gets the
 * addresses.  What reads the pages must be ordered after the load, and nothing
 * may be made of it before syn_load_end() has said that every sum was right.
 * -ENOMEM besides what syn_load() answers.
 *
 * While loads of a client have not been ended, they may hold what others of it
 * need: those, syn_load() too, then answer SYN_E_BACKPRESSURE at once.  At most
 * SYN_LOANS_MAX absent pages are under way together, and SYN_BATCH_MAX of one
 * load: a larger one waits for copies of its own.
 */
SYN_API int syn_load_begin(struct syn_client *client, const uint64_t *pages,
			   unsigned int nr, uint64_t timeout_ns,
			   void **ret_addr, struct syn_loading **ret);
/*
 * Work given to @stream (a CUstream) from now on begins after the copies, which
 * are not waited for.  On a device that copies at once this does nothing.
 * -EBUSY: the stream is being captured.
 */
SYN_API int syn_load_order(struct syn_loading *load, void *stream);
/*
 * Waits for the copies and takes @load.  0: all pages are pinned.  SYN_E_LOST,
 * or -errno when the device failed: none is.
 */
SYN_API int syn_load_end(struct syn_loading *load);

/*
 * Makes a page that holds all its tokens immutable.  Others find it under
 * @key once work @value of @timeline is done.  SYN_E_DUP: somebody sealed that
 * key before; this page stays private, immutable and usable.
 * On a GPU the page is summed once that work is done, so the call waits for it.
 * The page must not be pinned for writing by anyone, and -EINVAL while not all
 * of its tokens are committed.  -EAGAIN: it had left, and there was no room to
 * bring it back.
 */
SYN_API int syn_seal(struct syn_client *client, uint64_t page,
		     const uint64_t key[2], uint32_t timeline, uint64_t value);

/*
 * The longest prefix of @keys that is present, as read leases: returns how
 * many.  *ret_miss (may be NULL) is SYN_MISS_* of the first that is not.
 */
SYN_API int syn_lookup(struct syn_window *window, const uint64_t (*keys)[2],
		       unsigned int nr, uint64_t *ret_pages,
		       uint32_t *ret_miss);

/*
 * Pages into slots of a wrapped window, whatever was there: page i into slot
 * @slots[i].  They stay leased and are not pinned.  ret_status[i] (may be
 * NULL) says of each: 0, SYN_E_LOST, SYN_E_BACKPRESSURE, -errno.  Returns how
 * many could not be brought in, 0: none; -EINVAL: no wrapped window, or no
 * such slot, and nothing was done.
 */
SYN_API int syn_fetch(struct syn_window *window, const uint64_t *pages,
		      const uint32_t *slots, unsigned int nr,
		      uint64_t timeout_ns, int *ret_status);
/*
 * Slots of a wrapped window become pages, sealed: slot @slots[i] under
 * @keys[i], once work @value of @timeline, which wrote them, is done.
 * ret_status[i] (may be NULL) says of each: 0, SYN_E_DUP: the key was sealed
 * before, SYN_E_BACKPRESSURE, -errno.  Returns how many were not sealed,
 * those that were before not among them.
 */
SYN_API int syn_store(struct syn_window *window, const uint32_t *slots,
		      const uint64_t (*keys)[2], unsigned int nr,
		      uint32_t timeline, uint64_t value, uint64_t timeout_ns,
		      int *ret_status);

/*
 * What the client knows of pages: SYN_ADVISE_*, the same for all of them.
 * An anchor (the first tokens of a sequence, the most recent ones) is stored
 * raw in every tier.
 */
SYN_API int syn_advise(struct syn_client *client, const uint64_t *pages,
		       unsigned int nr, uint32_t advice);

/*
 * Returns once all pages are on disk so that neither a restart of the daemon
 * nor a power cut loses them.  They must be sealed under a key (-ENOKEY).
 * -ENODEV: the daemon has no swap file.  SYN_E_BACKPRESSURE: not all were in
 * time, or it is full; those that are stay.  Calls of other threads go on.
 */
SYN_API int syn_persist(struct syn_client *client, const uint64_t *pages,
			unsigned int nr, uint64_t timeout_ns);

/* Attention the pages received since the last report; see struct syn_vec_share. */
SYN_API int syn_report(struct syn_client *client,
		       const struct syn_vec_share *shares, unsigned int nr);

#define SYN_SHARES_BYTES_MAX   (1ull << 30) /* of memory for shares */
#define SYN_SHARES_HEADS_MAX   1024u	    /* query heads of a layer */
#define SYN_SHARES_QUERIES_MAX 65536u	    /* in one batch */

/**
 * struct syn_shares_opts - memory that attention writes shares to.
 * @sz:		sizeof(struct syn_shares_opts).
 * @bytes:	at most SYN_SHARES_BYTES_MAX, rounded up to whole pages of the
 *		kernel's; 0: 16 MiB.
 */
struct syn_shares_opts {
	size_t sz;
	uint64_t bytes;
};

/*
 * The same in batches that nobody waits for: an engine gets memory from
 * syn_shares_begin(), its attention writes there how much went to each page,
 * and goes on.  syn_poll() looks which batches are complete, sums them by page
 * over layers and steps and reports the sums, at most once in 10 ms.
 *
 * This makes the memory, once for a client; it stays until syn_detach().  A
 * GPU's kernels may write it by the same addresses.  @opts may be NULL.
 * -EBUSY: it is there already.  -EINVAL: too much.  -ENODEV: no window of the
 * GPU is open yet.
 */
SYN_API int syn_shares_open(struct syn_client *client,
			    const struct syn_shares_opts *opts);

/**
 * struct syn_shares_batch - shares that attention is about to write.
 * @sz:		sizeof(struct syn_shares_batch).
 * @pages:	the page of each part; one that has several parts comes as
 *		often.  Copied.
 * @nr_parts:	how many: what attention gives a share of its own, at most 128
 *		tokens of a page.
 * @queries:	tokens that asked, 1 to SYN_SHARES_QUERIES_MAX.
 * @kv_heads:	heads of keys and values.
 * @group:	query heads for each; together at most SYN_SHARES_HEADS_MAX.
 * @timeline:	what writes the shares is done, ...
 * @value:	... once work @value of @timeline is.
 * @sequence:	tells sequences apart, for recordings.
 * @first:	where the first query stands in it, in tokens; the same.
 * @layer:	of the model; the same.
 */
struct syn_shares_batch {
	size_t sz;
	const uint64_t *pages;
	uint32_t nr_parts;
	uint32_t queries;
	uint16_t kv_heads;
	uint16_t group;
	uint32_t timeline;
	uint64_t value;
	uint64_t sequence;
	uint64_t first;
	uint32_t layer;
};

/*
 * Memory for float [nr_parts][kv_heads][group], zero, valid until work @value
 * is done: what each part had of the attention of each query head, summed over
 * the queries; over all parts that is @queries for each head.  Never waits.
 * -EAGAIN: no room, as nothing that was begun before is complete: go on and
 * report nothing of this layer.  -EINVAL: no memory was made, or a number that
 * cannot be.  -ESTALE: see above.  -E2BIG: more than all the memory.
 *
 * Reports are advice.  Of a page that has been released when its batch is
 * complete nothing is said; what is not a share (negative, no number, more than
 * the queries can give) is taken for none and counted.
 */
SYN_API int syn_shares_begin(struct syn_client *client,
			     const struct syn_shares_batch *batch, float **ret);

/**
 * struct syn_shares_stats - what became of batches.
 * @sz:		sizeof(struct syn_shares_stats).
 * @batches:	summed.
 * @refused:	not begun, for want of room.
 * @invalid:	floats that were no shares.
 * @requests:	to the daemon.
 * @pages:	in them.
 * @gone:	sums that were not reported: the page had been released.
 */
struct syn_shares_stats {
	size_t sz;
	uint64_t batches;
	uint64_t refused;
	uint64_t invalid;
	uint64_t requests;
	uint64_t pages;
	uint64_t gone;
};

/* Since syn_shares_open(); all 0 before.  @ret->sz is set.  -EINVAL: to what. */
SYN_API int syn_shares_read(struct syn_client *client,
			    struct syn_shares_stats *ret);

/*
 * Records in a new file at @path what a policy can be judged by: the spaces,
 * the life of each page, and the attention that it received by query step,
 * layer and KV head.  Documentation/share-trace.rst is the format.  Begin right
 * after syn_attach(): what was before is not in it.  -EBUSY: once a session.
 * -errno: the file cannot be made.
 *
 * Nothing fails because of the file later: its first error ends the recording.
 */
SYN_API int syn_trace_begin(struct syn_client *client, const char *path);
/*
 * Ends the recording, as syn_detach() does.  0: all is in the file; -errno: the
 * first error; what was before it can be read.  -EINVAL: there was none.
 */
SYN_API int syn_trace_end(struct syn_client *client);

/*
 * Gives leases back.  The pages must not be pinned by this client (-EBUSY).
 * A page nobody leases dies, unless it is sealed under a key.
 */
SYN_API int syn_release(struct syn_client *client, const uint64_t *pages,
			unsigned int nr);

/*
 * When to try again what was refused last with SYN_E_BACKPRESSURE, by whatever
 * thread: in so many nanoseconds.  0: nothing was refused yet.
 */
SYN_API uint64_t syn_retry_ns(const struct syn_client *client);

/* A new timeline: one for each thread or stream.  -EDQUOT: none left. */
SYN_API int syn_timeline_new(struct syn_client *client, uint32_t *ret);
/* Number of the next work on it: call before the work may read a page. */
SYN_API uint64_t syn_timeline_issue(struct syn_client *client,
				    uint32_t timeline);
/* All work up to @value has finished. */
SYN_API void syn_timeline_done(struct syn_client *client, uint32_t timeline,
			       uint64_t value);

/*
 * The same said by a stream (a CUstream) of the GPU: all work up to @value has
 * finished once what was given to @stream so far has.  One timeline for one
 * stream.  -EBUSY: the stream is being captured; a graph would say the same
 * value at every replay.  -ENODEV: no window of the GPU is open yet.
 */
SYN_API int syn_timeline_signal(struct syn_client *client, uint32_t timeline,
				void *stream, uint64_t value);

#define SYN_EVENT_RECLAIM  1 /* memory is short: release what you can */
#define SYN_EVENT_EPOCH	   2 /* the daemon's worker was replaced */
#define SYN_EVENT_LOST	   3 /* a page failed verification */
#define SYN_EVENT_SHUTDOWN 4 /* the session has ended */

/*
 * What happened since the last call: at most @max SYN_EVENT_* values; returns
 * how many.  Never waits.  Also does the library's housekeeping: maps and
 * unmaps extents as the daemon asks.
 */
SYN_API int syn_poll(struct syn_client *client, uint32_t *ret_events,
		     unsigned int max);

#ifdef __cplusplus
}
#endif

#endif
