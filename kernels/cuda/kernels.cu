/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels: blocks that take jobs, a few tiles each.
 *
 * With as many blocks as jobs, blocks are short, and nobody waits long for a
 * multiprocessor; with fewer, they go on until no job is left.
 */
#include "kernels/cuda/encode.cuh"

static __device__ __forceinline__ struct syn_gpu_job
job_load(const struct syn_gpu_job *at)
{
	union {
		uint4 v[4];
		struct syn_gpu_job job;
	} u;

#pragma unroll
	for (int i = 0; i < 4; i++)
		u.v[i] = ((const uint4 *)at)[i];
	return u.job;
}

/* Decodes, spreads or sums. */
extern "C" __global__ void __launch_bounds__(THREADS, 2)
	syn_gpu_load(const struct syn_gpu_job *jobs, uint32_t nr,
		     struct syn_gpu_report report)
{
	__shared__ struct decode_shared s;
	bool prepared = false;

	if (threadIdx.x == 0)
		s.sum = 0;
	__syncthreads();
	for (uint32_t i = blockIdx.x; i < nr; i += gridDim.x) {
		const struct syn_gpu_job job = job_load(&jobs[i]);

		if (!(job.kind & SYN_GPU_H4)) {
			move_tiles(&s.sum, &job, &report);
			continue;
		}
		if (!prepared)
			decode_prepare(&s);
		prepared = true;
		decode_any(&s, &job, &report);
	}
}

/* Encodes or gathers; what it says of each tile is told. */
extern "C" __global__ void __launch_bounds__(THREADS, 4)
	syn_gpu_encode(const struct syn_gpu_job *jobs, uint32_t nr,
		       struct syn_gpu_report report)
{
	__shared__ struct encode_shared s;

	encode_lut(&s);
	for (uint32_t i = blockIdx.x; i < nr; i += gridDim.x)
		encode_job(&s, &jobs[i], &report);
}
