/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side's view of a ring of <synapse/abi.h>: single producer, single
 * consumer, two processes, entries of any fixed size.
 *
 *	producer			consumer
 *	a: load-acquire head		c: load-acquire tail
 *	   store entry			   load entry
 *	b: store tail (seq_cst)		d: store-release head
 *
 * b pairs with c: whoever sees the new tail sees the entry.
 * d pairs with a: whoever sees the new head may overwrite the entry.
 *
 * Sleep.  The consumer announces (e: sleeps = 1, seq_cst), looks at the tail
 * again (f: seq_cst load) and only then sleeps; the producer publishes (b),
 * then reads the announcement (g: seq_cst load).  b-g and e-f are a store and
 * a load of the other's word in the one total order of seq_cst accesses, so
 * either the consumer sees the entry or the producer sees the sleeper.
 *
 * Indices run free and are masked at use.  Each side keeps its own index in
 * private memory and never reads it back.  Models: test/model/doorbell.pml.
 */
#ifndef SYN_IPC_RING_H
#define SYN_IPC_RING_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/atomic.h"
#include "core/base/base.h"

/**
 * struct syn_ring - one side of one ring.
 * @mine:	shared: our index; we only write it.
 * @theirs:	shared: the peer's index; we only read it, and distrust it.
 * @sleeps:	shared: the consumer's announcement.
 * @entries:	shared: the entries.
 * @entry_bytes: size of one.
 * @mask:	entries - 1, a power of two minus one.
 * @own:	our index.
 */
struct syn_ring {
	uint32_t *mine;
	uint32_t *theirs;
	uint32_t *sleeps;
	unsigned char *entries;
	uint32_t entry_bytes;
	uint32_t mask;
	uint32_t own;
};

static inline void *syn_ring_entry(const struct syn_ring *r, uint32_t index)
{
	return r->entries + (size_t)(index & r->mask) * r->entry_bytes;
}

/* Producer: room for how many; a peer that lies gets at most the whole ring. */
static inline uint32_t syn_ring_room(const struct syn_ring *r)
{
	uint32_t used = r->own - syn_load_acquire(r->theirs); /* a */

	return used > r->mask ? 0 : r->mask + 1 - used;
}

/*
 * Producer: publish the @nr entries after r->own, which are filled.  Returns
 * true when the consumer sleeps and must be woken.
 */
static inline bool syn_ring_publish(struct syn_ring *r, uint32_t nr)
{
	r->own += nr;
	syn_store_seq_cst(r->mine, r->own); /* b */
	return syn_load_seq_cst(r->sleeps); /* g */
}

/*
 * Consumer: entries waiting after r->own, or -EPROTO when the producer's index
 * is impossible.
 */
static inline int syn_ring_waiting(const struct syn_ring *r)
{
	uint32_t nr = syn_load_acquire(r->theirs) - r->own; /* c */

	return nr > r->mask + 1 ? -EPROTO : (int)nr;
}

/* Consumer: @nr entries are copied out and may be overwritten. */
static inline void syn_ring_consume(struct syn_ring *r, uint32_t nr)
{
	r->own += nr;
	syn_store_release(r->mine, r->own); /* d */
}

/*
 * Consumer: announce sleep.  False: something came meanwhile and the
 * announcement is withdrawn.
 */
static inline bool syn_ring_sleep(struct syn_ring *r)
{
	syn_store_seq_cst(r->sleeps, 1u);	   /* e */
	if (syn_load_seq_cst(r->theirs) == r->own) /* f */
		return true;
	syn_store_relaxed(r->sleeps, 0u);
	return false;
}

static inline void syn_ring_awake(struct syn_ring *r)
{
	syn_store_relaxed(r->sleeps, 0u);
}

#endif
