/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory manager: pages, leases, tiers, reclaim.  Decides; never calls a
 * socket, a clock, a file or CUDA.  Time comes in as now_ns, copies go out
 * through core/dev.h, and what a session shares with its client comes in as
 * pointers into segments that the caller has mapped.
 *
 * One thread calls all of it.  Nothing here blocks, and no call does more work
 * than its batch plus a constant.
 *
 * Results: 0 or a count, -errno, or where stated a positive SYN_E_*.
 */
#ifndef SYN_CORE_MM_H
#define SYN_CORE_MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

#include "core/base/records.h"

struct syn_dev;
struct syn_disk;
struct syn_mem;
struct syn_mm;
struct syn_session;

/**
 * struct syn_mm_config - what a memory manager is made of.
 * @dev:		the device; outlives the manager.
 * @disk:		the swap store, not yet scanned, or NULL; outlives it too.
 * @hbm_bytes:		budget of the HBM tier.
 * @host_bytes:		budget of the host tier.
 * @max_pages:		page records.
 * @max_sessions:	sessions at once, those in quarantine included.
 * @low_permille:	a client's free share below which reclaim starts ...
 * @high_permille:	... and at which it stops, in 1/1000 of its slots;
 *			also of the host tier's frames.
 * @codec:		SYN_CODEC_* of pages below HBM, if their space allows it.
 * @kept:		kept memory of syn_mm_kept_bytes(), zeroed; outlives the
 *			manager: every record that must survive a worker.
 */
struct syn_mm_config {
	struct syn_dev *dev;
	struct syn_disk *disk;
	uint64_t hbm_bytes;
	uint64_t host_bytes;
	uint32_t max_pages;
	uint32_t max_sessions;
	uint32_t low_permille;
	uint32_t high_permille;
	uint32_t codec;
	void *kept;
};

/**
 * struct syn_quota - what a domain may have of one tier, in bytes.
 * @min:	kept free for it; whole extents in HBM and host.
 * @high:	above it its pages go first when others are short.
 * @max:	it gets no more.
 *
 * SYN_QUOTA_NONE in @high and @max: no limit.
 */
struct syn_quota {
	uint64_t min;
	uint64_t high;
	uint64_t max;
};
#define SYN_QUOTA_FREE                                                         \
	(struct syn_quota)                                                     \
	{                                                                      \
		0, SYN_QUOTA_NONE, SYN_QUOTA_NONE                              \
	}

/**
 * struct syn_domain_config - a domain, as the server or the swap file knows it.
 * @identity:	names it; the same in every run of the daemon.
 * @name:	for people.
 * @uid:	for people.
 * @stays:	exists although nobody and nothing is in it.
 * @found:	known by its pages only: @uid and @quota count when a client
 *		comes.
 * @quota:	by tier, SYN_TIER_* - 1; of a new domain.
 */
struct syn_domain_config {
	uint64_t identity[2];
	char name[SYN_DOMAIN_BYTES];
	uint32_t uid;
	bool stays;
	bool found;
	struct syn_quota quota[SYN_QUOTA_TIERS];
};

/* How kept memory is laid out, and its size; 0: @config makes no sense. */
void syn_mm_kept_records(const struct syn_mm_config *config,
			 struct syn_records *ret);
uint64_t syn_mm_kept_bytes(const struct syn_mm_config *config);
/*
 * The swap file of the worker that wrote @kept, laid out as this program has it,
 * without @ops.  False: it had none, or did not say.
 */
bool syn_mm_kept_disk(const void *kept, struct syn_disk *ret);
int syn_mm_new(struct syn_mm **ret, const struct syn_mm_config *config);
/*
 * Every session has ended and its process has exited.  Or adoption failed: what is
 * kept stays as it is, for another worker, and the device has what was taken over
 * of it until this process ends.  Takes NULL.
 */
struct syn_mm *syn_mm_free(struct syn_mm *mm);

/*
 * Adoption: a manager for what a worker that is gone has kept.
 *
 *	syn_mm_adopt()		checks it, and derives what needs no client
 *	syn_mm_session_next()	who there was; each whose segments are still held
 *	syn_mm_session_adopt()	is there again
 *	syn_mm_at_hand()	which request was being carried out: if its answer
 *				was published, syn_mm_end()
 *	syn_mm_adopted()	settles the rest; from now on everything may be
 *				called
 *
 * What the keeper has and nobody has asked for when syn_mm_adopt() has returned is
 * to be let go.
 *
 * The caller has made sure that the old worker is gone, and with it its
 * copies; that @config->disk was opened after that, so that none of its requests
 * is in flight (core/disk.h); and that @config->dev finds each extent again
 * (mem_adopt of core/dev.h).
 *
 * A worker may die in here, too: whoever comes next begins at the top.
 */

/*
 * As syn_mm_new().  All that is kept stands: pages, sessions, windows, leases,
 * loans, keys, quotas.  What was under way is dropped or finished: the copies of
 * moves (their pages stay where they are), requests to the swap file (a slot
 * that was being written is free again, a page that was being read is below
 * still).  Counters begin anew, and what syn_mm_why() knows of departures.
 *
 * After an error what is kept is as good as before, and the process is to end.
 *
 * -ENODATA: the worker died before syn_mm_new() returned, nothing was kept: zero
 * it and begin.  -EPROTO: it is of another version or revision; what is older is
 * to be copied first (core/base/records.h).  -EINVAL: budgets, granule, swap file or
 * sizes are not those it was made with.  -ENODEV: the device is lost.  Of these
 * *@ret_misfit tells more; what was kept is of use to nobody but the program that
 * kept it.  -ENOMEM, -EMFILE and the like: not now.
 *
 * An extent that is lost (mem_adopt of core/dev.h) is no error: its pages go on from
 * their copies below, or are lost; clients are told to unmap it once they do not use
 * it.
 */
int syn_mm_adopt(struct syn_mm **ret, const struct syn_mm_config *config,
		 struct syn_misfit *ret_misfit);

/*
 * The domain of that identity, made if it is new.  It ends when no session, no
 * extent and no slot is in it.  -EUSERS: there are as many as can be.  Else as
 * syn_mm_quota_set().
 */
int syn_mm_domain_get(struct syn_mm *mm, const struct syn_domain_config *config,
		      uint32_t *ret);

/*
 * Takes effect from the next extent or slot on.  -ENOENT: no such domain.
 * -EINVAL: not min <= high <= max, or no such tier.  -ENOSPC: all minimums
 * together are more than the tier's budget.  -EBUSY: @quota->max is less than
 * the domain's windows hold.
 */
int syn_mm_quota_set(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		     const struct syn_quota *quota);

/**
 * struct syn_session_config - a client, as the server knows it.
 * @id:		session id, unique while the worker lives.
 * @pid:	of the peer; for people.
 * @uid:	of the peer, from the kernel.
 * @domain:	from syn_mm_domain_get(); shares pages with no other.
 * @name:	for people.
 * @nr_pages:	entries of @pte and @pin.
 * @nr_timelines: entries of @timeline.
 * @pte:	page table, written here only.
 * @pin:	pin table, written by the client only; never trusted.
 * @timeline:	written by the client only; never trusted.
 * @loan:	SYN_LOANS_MAX entries, written here only.
 * @sums:	SYN_LOANS_MAX rows of SYN_TILES_MAX sums, written here only.
 * @now_ns:	when it attached.
 *
 * All pointers stay valid until syn_mm_session_exited() has returned.
 */
struct syn_session_config {
	uint32_t id;
	uint32_t pid;
	uint32_t uid;
	uint32_t domain;
	char name[SYN_NAME_BYTES];
	uint32_t nr_pages;
	uint32_t nr_timelines;
	uint64_t *pte;
	const uint32_t *pin;
	const struct syn_timeline *timeline;
	struct syn_loan *loan;
	uint32_t *sums;
	uint64_t now_ns;
};

/*
 * -EUSERS: max_sessions reached.  -EINVAL: no such domain; no pages or
 * timelines, or more than the wire allows.
 */
int syn_mm_session_new(struct syn_mm *mm, const struct syn_session_config *cfg,
		       struct syn_session **ret);

/*
 * The next session that a worker that is gone has kept, from record *@at on (0
 * at first): 1, and what it was made with; pointers and times are the caller's
 * to fill in.  0: there is none.
 */
int syn_mm_session_next(const struct syn_mm *mm, uint32_t *at,
			struct syn_session_config *ret);

/*
 * The session of @cfg->id is there again, with the segments it had, mapped
 * anew.  A session that had ended still is: it waits for its process.  Whoever is
 * not there by syn_mm_adopted() has exited: nobody can touch its pages any
 * more.  Until then of @ret only syn_mm_session_ended() is called.
 *
 * -ENOENT: no such session, or not with those sizes.  -EEXIST: it is there.
 */
int syn_mm_session_adopt(struct syn_mm *mm,
			 const struct syn_session_config *cfg,
			 struct syn_session **ret);
/* Nobody asks for it any more: it waits for its process or its timelines. */
bool syn_mm_session_ended(const struct syn_session *session);

/*
 * A request is carried out between these two, so that it is carried out once
 * even if the worker dies.  @cookie is the caller's name for it.  It ends when
 * its answer has been published, or when it waits: then it begins again before
 * it is tried again.  One at a time, of all sessions.
 */
void syn_mm_begin(struct syn_session *session, uint64_t cookie);
void syn_mm_end(struct syn_mm *mm);

/*
 * The request that had begun and not ended when the worker died: 1, and the id
 * of its session.  0: none.  Asked before syn_mm_adopted().
 *
 * If its answer was published, the caller says syn_mm_end().  Else what it gave
 * out and nobody has seen (leases, loans) is taken back by syn_mm_adopted(), and
 * the caller carries it out again before any other, with the same cookie and
 * arguments: it then answers as if it had not been interrupted.  A report of
 * shares may count some of them twice; nothing else is done twice.
 */
int syn_mm_at_hand(const struct syn_mm *mm, uint32_t *ret_session,
		   uint64_t *ret_cookie);

/*
 * The last step of an adoption.  Ends the leases of sessions that are not there,
 * takes back what nobody was told, counts charges and guarantees, writes every
 * entry of every page table, begins the wait of what is in quarantine anew, and
 * lets go of extents and domains that nobody has.
 *
 * Loans that are out stay out.  Sessions are told of extents, and of those that
 * retire, once more if that was under way: clients must bear to hear either
 * twice.
 */
int syn_mm_adopted(struct syn_mm *mm);

/*
 * The session is over: its socket closed, or it broke the protocol.  Its
 * leases end; frames its process may still write or read go to quarantine.
 */
void syn_mm_session_end(struct syn_session *session);

/*
 * The process has exited; quarantine ends and @session is gone.  Calls
 * syn_mm_session_end() first if nobody has.
 */
void syn_mm_session_exited(struct syn_session *session);

/*
 * 1 when nothing of an ended session is in quarantine any more, because its
 * timelines have drained: then the session can be freed by
 * syn_mm_session_exited() although its process lives on (a clean detach).
 */
bool syn_mm_session_idle(const struct syn_session *session);

/* -EINVAL with one line in @ret_why for a geometry that makes no sense. */
int syn_mm_space_define(struct syn_mm *mm, const struct syn_msg_space *msg,
			struct syn_msg_space_reply *ret, const char **ret_why);

/*
 * -ENOENT: no such space.  -EDQUOT: the budget, or the domain's quota, does not
 * hold that many more guaranteed slots.  -EUSERS: SYN_WINDOWS_MAX reached.  -EEXIST: @session has
 * a window on that space already.  -EINVAL: no slots, or a space whose pages are
 * read as they are stored.
 */
int syn_mm_window_open(struct syn_session *session, uint32_t space,
		       uint32_t slots, struct syn_msg_window_reply *ret);

/*
 * The same on a space with SYN_SPACE_F_CODED, of which pages are resident as they
 * are stored once they are encoded.  -EINVAL: another space, or no slots of one
 * kind.
 */
int syn_mm_window_open_coded(struct syn_session *session, uint32_t space,
			     uint32_t slots, uint32_t coded_slots,
			     struct syn_msg_coded_reply *ret);

/*
 * The windows that these two would open, if the session has them: a client that
 * was not answered asks again.  -EEXIST: it has others on that space.
 */
int syn_mm_window_again(const struct syn_session *session, uint32_t space,
			uint32_t slots, struct syn_msg_window_reply *ret);
int syn_mm_window_again_coded(const struct syn_session *session, uint32_t space,
			      uint32_t slots, uint32_t coded_slots,
			      struct syn_msg_coded_reply *ret);

/*
 * The next extent @session must have mapped and has not been told of: 1 and
 * the message to send with mem->fd, or 0.  Once it has been sent, the server
 * calls syn_mm_extent_told().
 */
int syn_mm_extent_next(struct syn_session *session, struct syn_msg_extent *ret,
		       const struct syn_mem **ret_mem);
void syn_mm_extent_told(struct syn_session *session, uint32_t extent);

/* As above for extents that are being given up. */
int syn_mm_retire_next(struct syn_session *session, uint32_t *ret_extent);
void syn_mm_retire_told(struct syn_session *session, uint32_t extent);
/* SYN_OP_RETIRED.  -ENOENT: not asked of this session. */
int syn_mm_retired(struct syn_session *session, uint64_t extent);

/*
 * Requests of the ring, one each.  Vectors are the daemon's own copies.
 * @ret_hint_ns is written with SYN_E_BACKPRESSURE.  Nothing is done if any
 * entry of a vector is refused.  -ESTALE: no such lease or loan.  -EPERM: not
 * its writer.  -EBUSY: pinned.  -EILSEQ: the page is lost.  -EDQUOT: no entry
 * of its own left.  -E2BIG: more than the window's slots.  -EINVAL: all else.
 *
 * SYN_MM_E_WAIT: reclaim is under way that may make room; ask again with the
 * same arguments after syn_mm_poll() has made progress.  Never crosses the
 * wire.
 */
#define SYN_MM_E_WAIT 100

int syn_mm_lease(struct syn_session *session, uint64_t window, uint32_t nr,
		 uint64_t *ret_handles, uint64_t *ret_hint_ns);
int syn_mm_commit(struct syn_session *session, const struct syn_vec_commit *vec,
		  uint32_t nr);
int syn_mm_seal(struct syn_session *session, const struct syn_sqe *sqe,
		const uint32_t *sums);
/* Returns pages found; *ret_miss is SYN_MISS_*. */
int syn_mm_lookup(struct syn_session *session, uint64_t window,
		  uint64_t fidelity, const struct syn_vec_key *keys,
		  uint32_t nr, uint64_t *ret_handles, uint64_t *ret_miss);
int syn_mm_fault(struct syn_session *session, const uint64_t *handles,
		 uint32_t nr, struct syn_vec_fault *ret, uint64_t *ret_hint_ns);
int syn_mm_loaded(struct syn_session *session, const struct syn_vec_loaded *vec,
		  uint32_t nr);
/* Loans that @session has not ended. */
unsigned int syn_mm_loans(const struct syn_session *session);
int syn_mm_release(struct syn_session *session, const uint64_t *handles,
		   uint32_t nr);
int syn_mm_report(struct syn_session *session, const struct syn_vec_share *vec,
		  uint32_t nr);
int syn_mm_advise(struct syn_session *session, const struct syn_vec_advise *vec,
		  uint32_t nr);
/* -ENODEV, -ENOKEY; SYN_MM_E_WAIT until all are durable; -EIO: one cannot be. */
int syn_mm_persist(struct syn_session *session, const uint64_t *handles,
		   uint32_t nr);

/* What comes before the next call or poll happens at @now_ns. */
void syn_mm_clock(struct syn_mm *mm, uint64_t now_ns);

/*
 * Goes on with what runs in the background: reaps copies, looks at draining
 * timelines, reclaims.  Returns true if anything moved, so that requests that
 * wait should be tried again.  *ret_next_ns is when to call again at the
 * latest even if no copy completes; UINT64_MAX when nothing is under way.
 */
bool syn_mm_poll(struct syn_mm *mm, uint64_t now_ns, uint64_t *ret_next_ns);

/*
 * SYN_NOTICE_* that happened to @session since the last call; the server
 * counts them in shared memory.
 */
uint32_t syn_mm_notices(struct syn_session *session);

/* For synapsectl.  The server fills pids, epoch, uptime and draining. */
void syn_mm_stat(const struct syn_mm *mm, struct syn_ctl_status *ret);
unsigned int syn_mm_stat_tiers(const struct syn_mm *mm,
			       struct syn_ctl_tier *ret, unsigned int max);
void syn_mm_stat_client(const struct syn_session *session, uint64_t now_ns,
			struct syn_ctl_client *ret);
/* Domains from index @cursor; *ret_next is 0 at the end. */
unsigned int syn_mm_stat_domains(const struct syn_mm *mm, uint64_t cursor,
				 struct syn_ctl_domain *ret, unsigned int max,
				 uint64_t *ret_next);
/* Records from index @cursor; *ret_next is 0 at the end. */
unsigned int syn_mm_stat_pages(const struct syn_mm *mm, uint64_t cursor,
			       struct syn_ctl_page *ret, unsigned int max,
			       uint64_t *ret_next);

/**
 * struct syn_why_ask - a question about a key.
 * @key:	the key.
 * @space:	for whom: a space ...
 * @domain:	... and a domain; SYN_WHY_ANY: for all of them.
 */
struct syn_why_ask {
	uint64_t key[2];
	uint32_t space;
	uint32_t domain;
};

/*
 * What is known of a key, the likeliest cause first: 1 to @max records.  Of each
 * space and domain that has or had a page, or of those of others only that.
 * Pages that left long ago are forgotten.  -EINVAL: no key.  -ENOENT: no such
 * space or domain.
 */
int syn_mm_why(const struct syn_mm *mm, const struct syn_why_ask *ask,
	       struct syn_ctl_why *ret, unsigned int max);
/* Drops at most @max sealed pages that nobody leases; returns how many. */
uint64_t syn_mm_evict(struct syn_mm *mm, uint64_t max);

#endif
