/* SPDX-License-Identifier: Apache-2.0 */
/*
 * USDT probes of provider "synapse": one at every decision.
 *
 * Each probe has a semaphore that a tracer raises while it listens; while it
 * is zero a probe costs one load and a branch not taken, and its arguments are
 * not computed.  Without <sys/sdt.h> at build time the probes are empty.
 *
 * The list is the documentation of the arguments; bpf/ reads it.  All are
 * integers; page is a page record index, slot and frame are frame numbers
 * (of the swap file: segment << 16 | slot in it).
 */
#ifndef SYN_CORE_BASE_TRACE_H
#define SYN_CORE_BASE_TRACE_H

#include "core/base/base.h"

/* clang-format off */
#define SYN_PROBES(X)                                                          \
	X(attach)	    /* session, pid, uid */                            \
	X(detach)	    /* session, -errno of the reason */                \
	X(lease)	    /* session, page */                                \
	X(release)	    /* session, page, leases left on it */             \
	X(commit)	    /* session, page, tokens */                        \
	X(seal)		    /* session, page, 0 or SYN_E_DUP */                \
	X(lookup_hit)	    /* session, pages found */                         \
	X(lookup_miss)	    /* session, SYN_MISS_*, pages found before it */   \
	X(fault_begin)	    /* session, page, tier it is in, SYN_CAUSE_* */    \
	X(fault_end)	    /* session, page, 0 or -errno or SYN_E_* */        \
	X(load_begin)	    /* session, page, loan, bytes */                   \
	X(load_end)	    /* session, page, loan, status */                  \
	X(demote_begin)	    /* session charged, page, slot, bytes */           \
	X(demote_end)	    /* session charged, page, slot, status */          \
	X(swap_out_begin)   /* page, slot, bytes */                            \
	X(swap_out_end)	    /* page, slot, status */                           \
	X(swap_in_begin)    /* session, page, slot, bytes */                   \
	X(swap_in_end)	    /* session, page, slot, status */                  \
	X(slot_retire)	    /* slot, status that ended it */                   \
	X(encode_begin)	    /* page, canonical bytes */                        \
	X(encode_end)	    /* page, status, error of its worst tile */        \
	X(evict)	    /* page, SYN_WHY_*, session for whom or ~0 */      \
	X(reclaim_begin)    /* session or ~0, frames wanted, tier */           \
	X(reclaim_end)	    /* session or ~0, frames taken, tier */            \
	X(backpressure)	    /* session, SYN_OP_*, hint_ns */                   \
	X(sum_failure)	    /* page, first bad tile or ~0, tier it came from */\
	X(quarantine_enter) /* session, frame, tier */                         \
	X(quarantine_leave) /* session, frame, tier */
/* clang-format on */

#if SYN_HAVE_SDT

#define SDT_USE_VARIADIC    1
#define _SDT_HAS_SEMAPHORES 1
/* Not every tracer can decode an operand in memory that has an index. */
#define STAP_SDT_ARG_CONSTRAINT nr
#include <sys/sdt.h>

#define SYN_PROBE_DECLARE(name)                                                \
	extern volatile unsigned short synapse_##name##_semaphore              \
		__attribute__((visibility("hidden")));
SYN_PROBES(SYN_PROBE_DECLARE)
#undef SYN_PROBE_DECLARE

#define SYN_PROBE_ON(name) syn_unlikely(synapse_##name##_semaphore)
#define SYN_PROBE(name, ...)                                                   \
	do {                                                                   \
		if (SYN_PROBE_ON(name))                                        \
			STAP_PROBEV(synapse, name, __VA_ARGS__);               \
	} while (0)

#else

#define SYN_PROBE_ON(name) false
#define SYN_PROBE(name, ...)                                                   \
	do {                                                                   \
	} while (0)

#endif

#endif
