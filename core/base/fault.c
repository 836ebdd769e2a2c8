/* SPDX-License-Identifier: Apache-2.0 */
/* The fail-nth counter. */
#include "core/base/fault.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/atomic.h"
#include "core/base/base.h"

/* 0: unarmed.  n: the n-th call fails.  Only a test writes a non-zero value. */
static unsigned int fault_left;
static bool fault_hit;

void syn_fault_arm(unsigned int nth)
{
	syn_store_relaxed(&fault_hit, false);
	syn_store_relaxed(&fault_left, nth);
}

bool syn_fault_disarm(void)
{
	syn_store_relaxed(&fault_left, 0);
	return syn_load_relaxed(&fault_hit);
}

bool syn_fault(void)
{
	unsigned int left = syn_load_relaxed(&fault_left);

	while (syn_unlikely(left)) {
		if (!__atomic_compare_exchange_n(&fault_left, &left, left - 1,
						 false, __ATOMIC_RELAXED,
						 __ATOMIC_RELAXED))
			continue;
		if (left > 1)
			return false;
		syn_store_relaxed(&fault_hit, true);
		return true;
	}
	return false;
}

void *syn_alloc(size_t nr, size_t size)
{
	if (syn_fault()) {
		errno = ENOMEM;
		return NULL;
	}
	return calloc(nr, size);
}
