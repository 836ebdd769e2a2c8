/* SPDX-License-Identifier: Apache-2.0 */
/* The driver, as it is or as an old one. */
#ifndef SYN_TEST_GPU_DRIVER_H
#define SYN_TEST_GPU_DRIVER_H

#include <stdlib.h>

#include "core/base/fault.h"
#include "kernels/cuda/api.h"

/*
 * SYN_TEST_OLD_DRIVER: this process finds no symbol that a driver may lack.
 * Before anything loads it; false: that did not come out.
 */
static inline bool driver_take(void)
{
	const struct syn_cuda_api *api;
#define X(name) +1
	const unsigned int nr_required = 0 SYN_CUDA_REQUIRED(X);
#undef X

	if (!getenv("SYN_TEST_OLD_DRIVER"))
		return true;
	/* After the library and its required symbols. */
	syn_fault_arm(1 + nr_required + 1);
	if (syn_cuda_load(&api)) {
		(void)syn_fault_disarm();
		return true;
	}
	return syn_fault_disarm() && !api->batch;
}

#endif
