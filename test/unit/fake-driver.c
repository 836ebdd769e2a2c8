/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libcuda.so.1 with what a driver must have and nothing else, as of the
 * oldest: every call succeeds and does nothing.
 */
#include "kernels/cuda/api.h"

CUresult fake_answer(void);

CUresult fake_answer(void)
{
	return CUDA_SUCCESS;
}

/* None is ever called with arguments that it would have to look at. */
#define X(name)                                                                \
	__typeof__(name) name __attribute__((weak, alias("fake_answer")));
SYN_CUDA_REQUIRED(X)
#undef X
