/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an engine of test/sys/engine.h needs on a GPU: slots that are reached by
 * copies, a stream of its own, and a kernel that writes without end.
 *
 * One GPU in a process; calls return 0 or a negative errno.
 */
#ifndef SYN_TEST_GPU_ENGINE_GPU_H
#define SYN_TEST_GPU_ENGINE_GPU_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernels/cuda/gpu-internal.h"
#include "test/sys/engine.h"

extern const struct engine_device gpu_engine_device;

/*
 * Whether there is a GPU, asked in a child: CUDA does not survive a fork(), so
 * a process that has used it has no children that do.
 */
bool gpu_is_there(void);
/* Runs @what in a child with a GPU of its own; returns its pid. */
pid_t gpu_fork(int (*what)(void *arg), void *arg);
/* Waits for it: what @what returned, as a negative errno. */
int gpu_join(pid_t pid);

int gpu_begin(void);
void gpu_end(void);
struct syn_gpu *gpu_of_test(void);
CUstream gpu_stream(void);

/* In the GPU's context from here on: whatever a test calls by itself. */
const struct syn_cuda_api *gpu_api(void);

/*
 * Starts a kernel that fills @bytes at @slot with @value again and again, on
 * the stream, until the process ends.
 */
int gpu_scribble(void *slot, uint64_t bytes, uint32_t value);

/* Bytes of HBM that are free, of the whole GPU. */
uint64_t gpu_free_bytes(void);

#endif
