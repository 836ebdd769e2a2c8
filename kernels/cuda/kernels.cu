/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels: blocks that take jobs, one tile at a time.
 *
 * With as many blocks as jobs, blocks are short, and nobody waits long for a
 * multiprocessor; with fewer, they go on until no job is left.
 */
#include "kernels/cuda/encode.cuh"

static __device__ __forceinline__ struct syn_gpu_job
job_load(const struct syn_gpu_job *at)
{
	union {
		uint4 v[2];
		struct syn_gpu_job job;
	} u;

	u.v[0] = ((const uint4 *)at)[0];
	u.v[1] = ((const uint4 *)at)[1];
	return u.job;
}

/*
 * Decodes, spreads or sums.  @failed: words that are set for pages whose sums
 * do not match; @told: for each job that asks for it.
 */
extern "C" __global__ void __launch_bounds__(THREADS, 4)
	syn_gpu_load(const struct syn_gpu_job *jobs, uint32_t nr,
		     uint32_t *failed, struct syn_gpu_told *told)
{
	__shared__ struct decode_shared s;

	decode_lut(&s);
	for (uint32_t i = blockIdx.x; i < nr; i += gridDim.x) {
		struct syn_gpu_job job = job_load(&jobs[i]);

		if (threadIdx.x == 0)
			s.sum = 0;
		/* The last tile is not used any more. */
		__syncthreads();
		sum_add(&s.sum, job.kind & SYN_GPU_H4 ? decode_any(&s, &job)
						      : share_raw(&job));
		__syncthreads();
		if (threadIdx.x)
			continue;
		if (job.kind & SYN_GPU_TELL)
			told[i].raw_sum = s.sum;
		else if (s.sum != job.sum)
			failed[job.page] = 1;
	}
}

/* Encodes or gathers; what it says of each job is at @told. */
extern "C" __global__ void __launch_bounds__(THREADS, 4)
	syn_gpu_encode(const struct syn_gpu_job *jobs, uint32_t nr,
		       uint32_t *failed, struct syn_gpu_told *told)
{
	__shared__ struct encode_shared s;

	encode_lut(&s);
	for (uint32_t i = blockIdx.x; i < nr; i += gridDim.x) {
		struct syn_gpu_job job = job_load(&jobs[i]);
		uint32_t error = 0;

		__syncthreads();
		if (threadIdx.x == 0)
			s.raw_sum = s.stored_sum = 0;
		__syncthreads();
		if (job.kind & SYN_GPU_H4)
			error = encode_any(&s, &job);
		else
			sum_add(&s.raw_sum, share_raw(&job));
		__syncthreads();
		if (threadIdx.x)
			continue;
		/* One write over the link. */
		((uint4 *)told)[i] = make_uint4(
			s.raw_sum,
			job.kind & SYN_GPU_H4 ? s.stored_sum : s.raw_sum, error,
			0);
	}
}
