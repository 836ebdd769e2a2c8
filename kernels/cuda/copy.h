/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes by the GPU's copy engines: batches on a stream of the lowest priority,
 * zeroes, and pinned host memory.
 *
 * Nothing here launches a kernel, so the daemon may use it beside clients that
 * compute.  A copier belongs to one thread at a time.  Results as in gpu.h; a
 * failed copy is -EIO, and so is every later one: the context is lost.
 */
#ifndef SYN_KERNELS_CUDA_COPY_H
#define SYN_KERNELS_CUDA_COPY_H

#include <stdbool.h>
#include <stdint.h>

#define SYN_GPU_SPANS_MAX   256u /* of a batch */
#define SYN_GPU_BATCHES_MAX 8u	 /* of a copier, under way */

struct syn_gpu;
struct syn_gpu_copier;

/**
 * struct syn_gpu_span - bytes to move.
 * @dst:	address of HBM, or of pinned host memory.
 * @src:	likewise.
 * @bytes:	how many.
 */
struct syn_gpu_span {
	uint64_t dst;
	uint64_t src;
	uint64_t bytes;
};

int syn_gpu_copier_open(struct syn_gpu *gpu, struct syn_gpu_copier **ret);
/* Waits for what was begun.  Takes NULL. */
void syn_gpu_copier_close(struct syn_gpu_copier *copier);

/* Batches that were begun and not waited for. */
unsigned int syn_gpu_copier_busy(const struct syn_gpu_copier *copier);
/*
 * Begins with 1 to SYN_GPU_SPANS_MAX spans; fewer than SYN_GPU_BATCHES_MAX are
 * busy.  If it fails, some of them may have been made.
 */
int syn_gpu_copier_begin(struct syn_gpu_copier *copier,
			 const struct syn_gpu_span *span, unsigned int nr);
/* Sleeps until the oldest batch has ended; one is busy. */
int syn_gpu_copier_wait(struct syn_gpu_copier *copier);

/* Zeroes HBM by copy engine; returns when it is done.  Nothing is busy. */
int syn_gpu_zero(struct syn_gpu_copier *copier, uint64_t at, uint64_t bytes);

/* Host memory that copy engines reach. */
int syn_gpu_pinned_new(struct syn_gpu *gpu, uint64_t bytes, void **ret);
void syn_gpu_pinned_free(struct syn_gpu *gpu, void *addr);

/* Of the GPU's memory, now. */
int syn_gpu_room(struct syn_gpu *gpu, uint64_t *ret_bytes);

#endif
