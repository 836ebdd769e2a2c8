/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all kernels do with a tile: words summed on their way, rows moved.
 *
 * The sum is that of kernels/codec/sum.h: its terms are added in any order.
 */
#ifndef SYN_KERNELS_CUDA_TILE_CUH
#define SYN_KERNELS_CUDA_TILE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "kernels/cuda/job.h"

#define THREADS SYN_GPU_THREADS
#define WARPS	(THREADS / 32)

#define SUM_GOLDEN 0x9e3779b1u
#define SUM_PRIME  0x85ebca77u
#define SUM_SHIFT  15

/* @position: (i + 1) * SUM_GOLDEN of word i. */
static __device__ __forceinline__ uint32_t sum_word(uint32_t word,
						    uint32_t position)
{
	uint32_t x = (word ^ position) * SUM_PRIME;

	return x ^ (x >> SUM_SHIFT);
}

/* Four words, the first of which is word @i of its tile. */
static __device__ __forceinline__ uint32_t sum_vector(uint4 v, uint32_t i)
{
	uint32_t position = (i + 1) * SUM_GOLDEN;

	return sum_word(v.x, position) + sum_word(v.y, position + SUM_GOLDEN) +
	       sum_word(v.z, position + 2 * SUM_GOLDEN) +
	       sum_word(v.w, position + 3 * SUM_GOLDEN);
}

/*
 * Read once: what is summed is what is used, also when the source is host
 * memory that somebody writes to meanwhile.
 */
static __device__ __forceinline__ uint4 load_vector(const void *at)
{
	uint4 v;

	asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(at));
	return v;
}

/* The same, to shared memory, while this thread goes on. */
static __device__ __forceinline__ void vector_begin(void *to, const char *src)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
		     :
		     : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(src)
		     : "memory");
}

/* What this thread began since the last time is a group. */
static __device__ __forceinline__ void vectors_begun(void)
{
	asm volatile("cp.async.commit_group;" : : : "memory");
}

/* All groups of this thread are there but the last @LEFT. */
template <int LEFT> static __device__ __forceinline__ void vectors_wait(void)
{
	asm volatile("cp.async.wait_group %0;" : : "n"(LEFT) : "memory");
}

/* Adds a warp's shares to *@total, in shared memory. */
static __device__ __forceinline__ void sum_add(uint32_t *total, uint32_t share)
{
	share = __reduce_add_sync(0xffffffffu, share);
	if (threadIdx.x % 32 == 0)
		atomicAdd(total, share);
}

/* The part of a block in the sum of @bytes that stay where they are. */
static __device__ uint32_t share_in_place(const char *src, uint32_t bytes)
{
	uint32_t sum = 0;

	if (((uintptr_t)src | bytes) % 16) {
		for (uint32_t i = threadIdx.x; i < bytes / 4; i += THREADS)
			sum += sum_word(((const uint32_t *)src)[i],
					(i + 1) * SUM_GOLDEN);
		return sum;
	}
#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < bytes / 16; i += THREADS)
		sum += sum_vector(load_vector(src + i * 16ull), i * 4);
	return sum;
}

/* Vectors that a thread reads before it writes any: over the link each waits. */
#define MOVE_AHEAD 8u

/*
 * Moves the rows of a raw tile.  @from_token, @to_token: from a row to the
 * next on either side.
 */
static __device__ uint32_t share_moved(const char *src, char *dst,
				       uint32_t bytes, uint32_t from_token,
				       uint32_t to_token)
{
	uint32_t vectors = bytes / SYN_GPU_ROWS / 16;
	uint32_t nr = bytes / 16;
	uint32_t sum = 0;

	for (uint32_t first = threadIdx.x; first < nr;
	     first += MOVE_AHEAD * THREADS) {
		uint4 v[MOVE_AHEAD];

#pragma unroll
		for (uint32_t k = 0; k < MOVE_AHEAD; k++) {
			uint32_t i = first + k * THREADS;

			if (i < nr)
				v[k] = load_vector(src +
						   (uint64_t)(i / vectors) *
							   from_token +
						   i % vectors * 16);
		}
#pragma unroll
		for (uint32_t k = 0; k < MOVE_AHEAD; k++) {
			uint32_t i = first + k * THREADS;

			if (i >= nr)
				break;
			*(uint4 *)(dst + (uint64_t)(i / vectors) * to_token +
				   i % vectors * 16) = v[k];
			sum += sum_vector(v[k], i * 4);
		}
	}
	return sum;
}

/* Of tile @k, raw. */
static __device__ uint32_t share_raw(const struct syn_gpu_job *job, uint32_t k)
{
	const char *src = (const char *)job->src + k * job->src_step;
	uint32_t row = job->bytes / SYN_GPU_ROWS;
	bool gather;

	if ((job->kind & ~SYN_GPU_TELL) == SYN_GPU_SUM)
		return share_in_place(src, job->bytes);
	gather = (job->kind & ~SYN_GPU_TELL) == SYN_GPU_GATHER;
	return share_moved(src, (char *)job->dst + k * job->dst_step,
			   job->bytes, gather ? job->token : row,
			   gather ? row : job->token);
}

/* What the first thread asks for early, and compares with late. */
static __device__ __forceinline__ uint32_t
sum_wanted(const struct syn_gpu_report *report, const struct syn_gpu_job *job,
	   uint32_t k)
{
	if (threadIdx.x || job->kind & SYN_GPU_TELL)
		return 0;
	return report->sums[job->tile + k * job->tile_step];
}

/* By the first thread, when all have added to *@total, which is 0 then. */
static __device__ __forceinline__ void
sum_check(const struct syn_gpu_report *report, const struct syn_gpu_job *job,
	  uint32_t k, uint32_t want, uint32_t *total)
{
	if (threadIdx.x)
		return;
	if (job->kind & SYN_GPU_TELL)
		report->told[job->tile + k * job->tile_step].raw_sum = *total;
	else if (*total != want)
		report->failed[job->page] = 1;
	*total = 0;
}

/* Spreads or sums; *@total, in shared memory, is 0 before and after. */
static __device__ void move_tiles(uint32_t *total,
				  const struct syn_gpu_job *job,
				  const struct syn_gpu_report *report)
{
	for (uint32_t k = 0; k < job->nr; k++) {
		uint32_t want = sum_wanted(report, job, k);

		sum_add(total, share_raw(job, k));
		__syncthreads();
		sum_check(report, job, k, want, total);
		__syncthreads();
	}
}

#endif
