/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: a GPU's context, and how to be in it. */
#ifndef SYN_KERNELS_CUDA_GPU_INTERNAL_H
#define SYN_KERNELS_CUDA_GPU_INTERNAL_H

#include "kernels/cuda/api.h"
#include "kernels/cuda/gpu.h"

/**
 * struct syn_gpu - see gpu.h.
 * @api:	the driver.
 * @device:	its index there.
 * @context:	the caller's, or the primary one.
 * @primary:	@context is retained.
 * @info:	what is known of it.
 */
struct syn_gpu {
	const struct syn_cuda_api *api;
	CUdevice device;
	CUcontext context;
	bool primary;
	struct syn_gpu_info info;
};

/**
 * struct syn_gpu_scope - a stay in a GPU's context.
 * @gpu:	whose.
 * @mode:	how this thread treats captures, elsewhere.
 */
struct syn_gpu_scope {
	const struct syn_gpu *gpu;
	CUstreamCaptureMode mode;
};

/*
 * Between the two, the context is current, and what is called does not disturb
 * a capture that another thread makes.
 */
int syn_gpu_enter(const struct syn_gpu *gpu, struct syn_gpu_scope *ret);
void syn_gpu_leave(struct syn_gpu_scope *scope);

/* Within the context.  -EBUSY while the stream is captured. */
int syn_gpu_stream_is_free(const struct syn_gpu *gpu, CUstream stream);

#endif
