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
 * Once the work given to @stream so far is done, and all it wrote is visible,
 * @word, in memory that syn_gpu_register() was told of, becomes @value.
 */
int syn_gpu_signal(struct syn_gpu *gpu, void *stream, uint64_t *word,
		   uint64_t value);

#endif
