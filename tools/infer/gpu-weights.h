/* SPDX-License-Identifier: Apache-2.0 */
/* A model's weights in a GPU's memory, as gpu-kernels.cu reads them. */
#ifndef SYN_TOOLS_INFER_GPU_WEIGHTS_H
#define SYN_TOOLS_INFER_GPU_WEIGHTS_H

#include "kernels/cuda/api.h"
#include "tools/infer/model.h"

/**
 * struct syn_gpu_layer - addresses of one layer's weights.
 * @attn_norm:	[d_model], fp32.
 * @qkv:	queries, keys and values one after the other; see struct
 *		syn_step_product.
 * @o:		attention's output.
 * @mlp_norm:	[d_model], fp32.
 * @gate_up:	gate, then up.
 * @down:	back to d_model.
 */
struct syn_gpu_layer {
	CUdeviceptr attn_norm;
	CUdeviceptr qkv;
	CUdeviceptr o;
	CUdeviceptr mlp_norm;
	CUdeviceptr gate_up;
	CUdeviceptr down;
};

/**
 * struct syn_gpu_weights - of a model.
 * @at:		of all memory.
 * @embed:	[vocab][d_model], fp16.
 * @logits:	the same as a matrix.
 * @norm:	[d_model], fp32.
 * @angles:	steps of the rotary angles, double.
 * @layers:	each.
 */
struct syn_gpu_weights {
	CUdeviceptr at;
	CUdeviceptr embed;
	CUdeviceptr logits;
	CUdeviceptr norm;
	CUdeviceptr angles;
	struct syn_gpu_layer layers[SYN_MODEL_LAYERS_MAX];
};

/* In the GPU's context; waits for @stream. */
int syn_gpu_weights_new(const struct syn_cuda_api *api, CUstream stream,
			const struct syn_model *model,
			struct syn_gpu_weights **ret);
/* Nothing reads them.  Takes NULL, returns NULL. */
struct syn_gpu_weights *syn_gpu_weights_free(const struct syn_cuda_api *api,
					     struct syn_gpu_weights *weights);

#endif
