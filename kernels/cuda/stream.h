/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words of host memory that streams write: how a GPU says what it has done.
 *
 * Any thread.  A captured graph would write the same value again at each
 * replay, so nothing here goes into one: -EBUSY while the stream is captured.
 */
#ifndef SYN_KERNELS_CUDA_STREAM_H
#define SYN_KERNELS_CUDA_STREAM_H

#include <stdint.h>

struct syn_gpu;

/*
 * Lets the GPU read and write memory of this process where the CPU does; whole
 * pages of the kernel's.  -EOPNOTSUPP: it would see it somewhere else.
 */
int syn_gpu_register(struct syn_gpu *gpu, void *at, uint64_t bytes);
void syn_gpu_unregister(struct syn_gpu *gpu, void *at);

/*
 * Once the work given to @stream so far is done, and all it wrote is visible,
 * @word, in registered memory, becomes @value.
 */
int syn_gpu_signal(struct syn_gpu *gpu, void *stream, uint64_t *word,
		   uint64_t value);

#endif
