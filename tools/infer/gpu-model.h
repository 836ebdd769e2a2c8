/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo model in a GPU's memory, and the work of its layers for one stream.
 *
 * Addresses are the device's; pinned host memory has the same ones there.
 */
#ifndef SYN_TOOLS_INFER_GPU_MODEL_H
#define SYN_TOOLS_INFER_GPU_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/attend/attend-gpu.h"
#include "kernels/cuda/gpu-internal.h"
#include "tools/infer/gpu-weights.h"

struct syn_next;

enum syn_gpu_kernel {
	SYN_KERNEL_EMBED,
	SYN_KERNEL_PRODUCT_ROW,
	SYN_KERNEL_PRODUCT_ROWS,
	SYN_KERNEL_HEADS,
	SYN_KERNEL_SHARES,
	SYN_KERNEL_CHOOSE,
	SYN_KERNELS,
};

/**
 * struct syn_gpu_scratch - what a step works in.
 * @at:		all of it.
 * @x:		residual stream, [tokens][d_model].
 * @wide:	what comes out of a matrix, [tokens][widest].
 * @turns:	cosine and sine of the positions' angles.
 * @q:		queries, fp16.
 * @heads:	what attention answers, [tokens][n_heads][dim].
 * @lse:	and its LSE.
 * @shares:	of attention, [tokens][max_blocks][n_heads]; or 0.
 * @attend:	what attention works in.
 */
struct syn_gpu_scratch {
	CUdeviceptr at;
	CUdeviceptr x;
	CUdeviceptr wide;
	CUdeviceptr turns;
	CUdeviceptr q;
	CUdeviceptr heads;
	CUdeviceptr lse;
	CUdeviceptr shares;
	CUdeviceptr attend;
};

/**
 * struct syn_gpu_model - the model on a GPU.
 * @config:	its sizes.
 * @gpu:	the GPU, whose context the caller is in.
 * @api:	its driver.
 * @stream:	of all work.
 * @max_blocks:	of a sequence.
 * @module:	the kernels.
 * @kernels:	each.
 * @attend:	attention's.
 * @shape:	of it.
 * @weights:	the weights.
 * @scratch:	of a step.
 */
struct syn_gpu_model {
	const struct syn_model_config *config;
	struct syn_gpu *gpu;
	const struct syn_cuda_api *api;
	CUstream stream;
	unsigned int max_blocks;
	CUmodule module;
	CUfunction kernels[SYN_KERNELS];
	struct syn_attend_gpu *attend;
	struct syn_attend_shape shape;
	struct syn_gpu_weights *weights;
	struct syn_gpu_scratch scratch;
};

/*
 * In the GPU's context; @shares: those of attention will be asked for.  Errors
 * are logged.
 */
int syn_gpu_model_new(struct syn_gpu *gpu, CUstream stream,
		      const struct syn_model *model, unsigned int max_blocks,
		      bool shares, struct syn_gpu_model **ret);
/* Its work is done.  Takes NULL, returns NULL. */
struct syn_gpu_model *syn_gpu_model_free(struct syn_gpu_model *m);

/* Logs what failed; -errno. */
int syn_gpu_model_check(const struct syn_gpu_model *m, CUresult result,
			const char *what);

/**
 * struct syn_gpu_work - layers that some tokens go through.
 * @model:	where.
 * @rows:	tokens.
 * @nr_parts:	of all their attention, at most.
 * @first:	the first layer ...
 * @end:	... and the one behind the last.
 * @step:	struct syn_step: the tokens.
 * @seqs:	struct syn_attend_seq, each.
 * @parts:	struct syn_attend_part, [n_layers][max_parts]: the pages.
 * @max_parts:	a multiple of two.
 * @next:	behind the last layer: what may follow the last token; or NULL.
 * @sums:	shares of pages, [n_layers][max_blocks][n_heads]; or NULL.
 */
struct syn_gpu_work {
	struct syn_gpu_model *model;
	unsigned int rows;
	uint64_t nr_parts;
	unsigned int first;
	unsigned int end;
	CUdeviceptr step;
	CUdeviceptr seqs;
	CUdeviceptr parts;
	unsigned int max_parts;
	struct syn_next *next;
	float *sums;
};

/* Takes a struct syn_gpu_work: gives it to the stream. */
int syn_gpu_work_give(void *work);

#endif
