/* SPDX-License-Identifier: Apache-2.0 */
/* A build without CUDA: no pages are in a GPU's memory. */
#include <errno.h>

#include "tools/infer/forward.h"

int syn_forward_gpu_new(const struct syn_model *model, struct syn_kv *kv,
			uint64_t max_tokens, struct syn_forward **ret)
{
	(void)model;
	(void)kv;
	(void)max_tokens;
	(void)ret;
	return -ENODEV;
}
