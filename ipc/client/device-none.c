/* SPDX-License-Identifier: Apache-2.0 */
/* In place of device-cuda.c in a build without the CUDA Toolkit. */
#include <errno.h>

#include "ipc/client/device.h"

bool syn_device_has_cuda(void)
{
	return false;
}

int syn_device_cuda_open(const uint8_t *uuid, struct syn_device **ret)
{
	(void)uuid;
	(void)ret;
	return -ENOSYS;
}
