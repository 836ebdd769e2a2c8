/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a worker may die: between any two stores to what it keeps.
 *
 * Who is killed has made every store before some instruction and none after,
 * so only the order of the compiler counts.  A failpoint is a place that no
 * store is moved across.  What is written between two of them means nothing
 * until the second one's store, see Documentation/concurrency.rst.
 *
 * Built with SYN_FAILPOINTS, for tests only, each can be made to kill.
 */
#ifndef SYN_CORE_BASE_FAILPOINT_H
#define SYN_CORE_BASE_FAILPOINT_H

#include <stdint.h>

#include "core/base/atomic.h"

#ifdef SYN_FAILPOINTS
/**
 * struct syn_failpoint - one place.
 * @file:	where it is ...
 * @func:	... in which function ...
 * @line:	... and line.
 * @nr:		times it killed.
 * @passed:	times it was passed or killed.
 */
struct syn_failpoint {
	const char *file;
	const char *func;
	int line;
	uint64_t nr;
	uint64_t passed;
} __attribute__((aligned(64))); /* as the linker lays them out */

/* All there are, in no order; the linker knows. */
extern struct syn_failpoint __start_syn_failpoints[];
extern struct syn_failpoint __stop_syn_failpoints[];

/*
 * The @nth pass of @point, or of any if that is NULL, calls @die, which does not
 * return.  @nth 0: none does.
 */
void syn_failpoint_arm(const struct syn_failpoint *point, uint64_t nth,
		       void (*die)(void));
void syn_failpoint_pass(struct syn_failpoint *point);

#define syn_failpoint()                                                        \
	do {                                                                   \
		static struct syn_failpoint syn_point                          \
			__attribute__((section("syn_failpoints"), used)) = {   \
				__FILE__, __func__, __LINE__, 0, 0             \
			};                                                     \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);                       \
		syn_failpoint_pass(&syn_point);                                \
	} while (0)
#else
#define syn_failpoint() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif

/* A store that makes what was written before it count, and what follows it not. */
#define syn_commit(p, v)                                                       \
	do {                                                                   \
		syn_failpoint();                                               \
		syn_store_release((p), (v));                                   \
		syn_failpoint();                                               \
	} while (0)

#endif
