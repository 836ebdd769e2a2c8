/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA device of a build without the CUDA Toolkit. */
#include "kernels/dev-cuda.h"

#include <errno.h>

bool syn_dev_cuda_built(void)
{
	return false;
}

int syn_dev_cuda_open(struct syn_dev **ret,
		      const struct syn_dev_cuda_config *config,
		      struct syn_dev_cuda_about *ret_about)
{
	(void)ret;
	(void)config;
	(void)ret_about;
	return -ENOSYS;
}
