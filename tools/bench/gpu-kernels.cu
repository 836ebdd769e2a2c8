// SPDX-License-Identifier: Apache-2.0
// Kernels that only synapse-bench needs: random elements, and pages pulled
// from host memory by the multiprocessors.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

// The finisher of MurmurHash3 (public domain): each bit of @x counts.
static __device__ uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x85ebca6b;
	x = (x ^ x >> 13) * 0xc2b2ae35;
	return x ^ x >> 16;
}

// The sum of four random bytes, scaled: near a normal distribution.
static __device__ float normal(uint32_t x)
{
	int sum = (x & 0xff) + (x >> 8 & 0xff) + (x >> 16 & 0xff) + (x >> 24);

	return (sum - 510) * (1.0f / 147.8f);
}

// Two elements a word; @bf16: of that type, else fp16.
extern "C" __global__ void fill(uint32_t *at, uint64_t words, uint32_t bf16,
				uint32_t seed)
{
	uint64_t step = (uint64_t)gridDim.x * blockDim.x;

	for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
	     i < words; i += step) {
		uint32_t x = mix((uint32_t)i * 2 + mix(seed + (i >> 31)));
		uint32_t y = mix(x + 0x9e3779b1);
		uint16_t a, b;

		if (bf16) {
			a = __bfloat16_as_ushort(__float2bfloat16(normal(x)));
			b = __bfloat16_as_ushort(__float2bfloat16(normal(y)));
		} else {
			a = __half_as_ushort(__float2half_rn(normal(x)));
			b = __half_as_ushort(__float2half_rn(normal(y)));
		}
		at[i] = a | (uint32_t)b << 16;
	}
}

// Blocks take chunks of pages in turn; four loads of 16 bytes are under way in
// each thread.  @bytes is a multiple of the chunk.
#define CHUNK (1024 * 4 * 16)

extern "C" __global__ void __launch_bounds__(1024)
	gather(const uint64_t *dst, const uint64_t *src, uint32_t nr,
	       uint32_t bytes)
{
	uint32_t per_page = bytes / CHUNK;

	for (uint32_t i = blockIdx.x; i < nr * per_page; i += gridDim.x) {
		uint32_t page = i / per_page;
		uint64_t off =
			(uint64_t)(i % per_page) * CHUNK + threadIdx.x * 16;
		const uint4 *from = (const uint4 *)(src[page] + off);
		uint4 *to = (uint4 *)(dst[page] + off);
		uint4 a = from[0], b = from[1024], c = from[2048],
		      d = from[3072];

		to[0] = a;
		to[1024] = b;
		to[2048] = c;
		to[3072] = d;
	}
}
