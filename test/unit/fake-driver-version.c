/* SPDX-License-Identifier: Apache-2.0 */
/* Which version the driver of fake-driver.c says it has; a test sets it. */
#include "kernels/cuda/api.h"

extern int fake_version;

int fake_version = SYN_CUDA_DRIVER_MIN;

CUresult cuDriverGetVersion(int *ret)
{
	*ret = fake_version;
	return CUDA_SUCCESS;
}
