/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fail-nth: every fallible call can be made to fail, the N-th first.
 *
 * Code asks syn_fault() just before a call that may fail, or allocates through
 * syn_alloc().  A test arms the counter with N and runs an operation for
 * N = 1, 2, ... until nothing was left to fail; after each failure it checks
 * that nothing leaked.  Unarmed, the cost is one relaxed load.
 */
#ifndef SYN_CORE_BASE_FAULT_H
#define SYN_CORE_BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

/* The @nth call of syn_fault() from now on, in any thread, answers true. */
void syn_fault_arm(unsigned int nth);

/* Returns true if the armed failure has happened. */
bool syn_fault_disarm(void);

/* True when this call must fail. */
bool syn_fault(void);

/* calloc() that can be made to fail; NULL on failure, with errno ENOMEM. */
void *syn_alloc(size_t nr, size_t size);

#endif
