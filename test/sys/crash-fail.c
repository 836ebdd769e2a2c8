/* SPDX-License-Identifier: Apache-2.0 */
/* Linked into synapsed: a call of a worker that takes over fails. */
#include <errno.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "test/sys/crash-arm.h"

bool __wrap_syn_fault(void);
void *__real_syn_alloc(size_t nr, size_t size);
void *__wrap_syn_alloc(size_t nr, size_t size);

/* As syn_fault(), with a counter that the test sees. */
bool __wrap_syn_fault(void)
{
	uint64_t left = crash ? syn_load_relaxed(&crash->left) : 0;

	while (left)
		if (__atomic_compare_exchange_n(&crash->left, &left, left - 1,
						false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return left == 1;
	return false;
}

void *__wrap_syn_alloc(size_t nr, size_t size)
{
	if (__wrap_syn_fault()) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_syn_alloc(nr, size);
}
