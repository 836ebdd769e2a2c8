/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4, decoding: Documentation/arithmetic.rst, a tile by a block.
 *
 * Eight lanes share a token; a lane has eight channels that lie together and,
 * where there are 128, those 64 further.  Two channels share a register, as
 * low + 65536 * high: sums and differences of such numbers are plain integer
 * ones, for as long as either part stays within 16 bits, and here they stay
 * below 2^14.
 */
#ifndef SYN_KERNELS_CUDA_DECODE_CUH
#define SYN_KERNELS_CUDA_DECODE_CUH

#include "kernels/codec/h4-form.h"
#include "kernels/cuda/tile.cuh"

#define STORED_MAX (2 * 128 + 256 + 64 * 128)
#define PAIRS	   4 /* registers for eight channels */
#define LUT_COPIES 8 /* so that lanes seldom meet in a bank */

/* Level of a code, sign included. */
static __device__ __forceinline__ int level_of(uint32_t code)
{
	const uint32_t low = 5 | 15 << 8 | 25 << 16 | 37u << 24;
	const uint32_t high = 49 | 63 << 8 | 81 << 16 | 107u << 24;
	uint32_t size = code & 8 ? code & 7 : 7 - (code & 7);
	int level = (int)(__byte_perm(low, high, size) & 0xff);

	return code & 8 ? level : -level;
}

/**
 * struct decode_shared - of a block that decodes.
 * @stored:	the tile.
 * @lut:	of a byte, two codes: the sum of their levels, the difference.
 * @sum:	of the tile.
 */
struct decode_shared {
	alignas(16) unsigned char stored[STORED_MAX];
	uint32_t lut[256 * LUT_COPIES];
	uint32_t sum;
};

static __device__ __forceinline__ void decode_lut(struct decode_shared *s)
{
	int a = level_of(threadIdx.x & 15);
	int b = level_of(threadIdx.x >> 4);
	uint32_t pair = (uint32_t)(a + b) + ((uint32_t)(a - b) << 16);
	uint4 *to = (uint4 *)&s->lut[threadIdx.x * LUT_COPIES];

#pragma unroll
	for (int i = 0; i < LUT_COPIES / 4; i++)
		to[i] = make_uint4(pair, pair, pair, pair);
}

/* Brings the tile in, and the share of this thread in its sum. */
template <uint32_t BYTES>
static __device__ __forceinline__ uint32_t decode_fetch(struct decode_shared *s,
							const char *src)
{
	constexpr uint32_t vectors = BYTES / 16;
	constexpr uint32_t rounds = (vectors + THREADS - 1) / THREADS;
	uint4 v[rounds];
	uint32_t sum = 0;

#pragma unroll
	for (uint32_t k = 0; k < rounds; k++)
		if (k * THREADS + threadIdx.x < vectors)
			v[k] = load_vector(src +
					   (k * THREADS + threadIdx.x) * 16);
#pragma unroll
	for (uint32_t k = 0; k < rounds; k++) {
		uint32_t i = k * THREADS + threadIdx.x;

		if (i >= vectors)
			continue;
		((uint4 *)s->stored)[i] = v[k];
		sum += sum_vector(v[k], i * 4);
	}
	return sum;
}

/*
 * The transform of a token; the pairs come with distance 1 done.  @sign: of
 * the lane in each of the stages between lanes, 1 or -1.
 */
template <int HALVES>
static __device__ __forceinline__ void int_transform(uint32_t w[HALVES][PAIRS],
						     const int sign[3])
{
#pragma unroll
	for (int h = 0; h < HALVES; h++) {
		uint32_t a = w[h][0] + w[h][1], b = w[h][0] - w[h][1];
		uint32_t c = w[h][2] + w[h][3], d = w[h][2] - w[h][3];

		w[h][0] = a + c;
		w[h][1] = b + d;
		w[h][2] = a - c;
		w[h][3] = b - d;
	}
	if (HALVES == 2) {
#pragma unroll
		for (int p = 0; p < PAIRS; p++) {
			uint32_t a = w[0][p], b = w[HALVES - 1][p];

			w[0][p] = a + b;
			w[HALVES - 1][p] = a - b;
		}
	}
#pragma unroll
	for (int k = 0; k < 3; k++)
#pragma unroll
		for (int h = 0; h < HALVES; h++)
#pragma unroll
			for (int p = 0; p < PAIRS; p++)
				w[h][p] = w[h][p] * (uint32_t)sign[k] +
					  __shfl_xor_sync(0xffffffffu, w[h][p],
							  1 << k);
}

/*
 * A part of 16 bits, 0x8000 more than the number, becomes the number as fp32:
 * as the last bits of 2^23, from which what is too much is taken.  Exact.
 */
static __device__ __forceinline__ float number_of(uint32_t pair, int high)
{
	uint32_t bits = __byte_perm(pair, 0x4b000000u, high ? 0x7432 : 0x7410);

	return __fsub_rn(__uint_as_float(bits), 8388608.0f + 32768.0f);
}

template <bool F16>
static __device__ __forceinline__ uint32_t elements_of(float a, float b)
{
	uint32_t r;

	if (F16) {
		const __half2 most = __float2half2_rn(H4_F16_MAX);
		__half2 h = __floats2half2_rn(a, b);

		/* Only what became infinite is beyond: as if brought before. */
		h = __hmax2(__hmin2(h, most), __hneg2(most));
		memcpy(&r, &h, sizeof(r));
	} else {
		__nv_bfloat162 h = __floats2bfloat162_rn(a, b);

		memcpy(&r, &h, sizeof(r));
	}
	return r;
}

/* The means of pair @p of eight channels. */
static __device__ __forceinline__ float2 mean_of(uint4 mean, int p)
{
	uint32_t bits = p == 0	 ? mean.x
			: p == 1 ? mean.y
			: p == 2 ? mean.z
				 : mean.w;
	__half2 h;

	memcpy(&h, &bits, sizeof(h));
	return __half22float2(h);
}

/* The signs of eight channels, a mask for each pair. */
static __device__ __forceinline__ void sign_masks(uint32_t signs,
						  uint32_t ret[PAIRS])
{
#pragma unroll
	for (int p = 0; p < PAIRS; p++)
		ret[p] = (signs >> (2 * p) & 1 ? 0x0000ffffu : 0) |
			 (signs >> (2 * p) & 2 ? 0xffff0000u : 0);
}

static __device__ __forceinline__ uint32_t sign_byte(int half, uint32_t lane)
{
	return (uint32_t)((half ? H4_SIGNS_1 : H4_SIGNS_0) >> (8 * lane)) &
	       0xff;
}

template <int HALVES, bool KEYS, bool F16>
static __device__ __forceinline__ void
decode_rows(const struct decode_shared *s, char *dst, uint64_t token)
{
	constexpr uint32_t DIM = HALVES * 64;
	const unsigned char *scales = s->stored + (KEYS ? DIM * 2 : 0);
	const unsigned char *codes = scales + 256;
	const uint32_t lane = threadIdx.x & 7;
	const uint32_t *lut = s->lut + lane % LUT_COPIES;
	const int sign[3] = { lane & 1 ? -1 : 1, lane & 2 ? -1 : 1,
			      lane & 4 ? -1 : 1 };
	uint32_t mask[HALVES][PAIRS];

#pragma unroll
	for (int h = 0; h < HALVES; h++)
		sign_masks(sign_byte(h, lane), mask[h]);
#pragma unroll 1
	for (uint32_t t = threadIdx.x / 8; t < SYN_GPU_ROWS; t += THREADS / 8) {
		float a = __half2float(((const __half *)scales)[t]) *
			  H4_SCALE_INV;
		uint32_t w[HALVES][PAIRS];

#pragma unroll
		for (int h = 0; h < HALVES; h++) {
			uint32_t c = *(const uint32_t *)(codes + t * DIM / 2 +
							 h * 32 + lane * 4);

#pragma unroll
			for (int p = 0; p < PAIRS; p++)
				w[h][p] =
					lut[(c >> (8 * p) & 0xff) * LUT_COPIES];
		}
		int_transform<HALVES>(w, sign);
#pragma unroll
		for (int h = 0; h < HALVES; h++) {
			uint32_t x[PAIRS];
			uint4 mean = make_uint4(0, 0, 0, 0);

			if (KEYS)
				mean = ((const uint4 *)s->stored)[h * 8 + lane];
#pragma unroll
			for (int p = 0; p < PAIRS; p++) {
				/* ~(n + 0x7fff) is 0x8000 - n. */
				uint32_t m = mask[h][p];
				uint32_t n = (w[h][p] + 0x80008000u -
					      (m & 0x00010001u)) ^
					     m;
				float v0 = __fmul_rn(a, number_of(n, 0));
				float v1 = __fmul_rn(a, number_of(n, 1));

				if (KEYS) {
					float2 of = mean_of(mean, p);

					v0 = __fadd_rn(v0, of.x);
					v1 = __fadd_rn(v1, of.y);
				}
				x[p] = elements_of<F16>(v0, v1);
			}
			*(uint4 *)(dst + t * token + h * 128 + lane * 16) =
				make_uint4(x[0], x[1], x[2], x[3]);
		}
	}
}

/* Decodes; returns this thread's share in the sum of what was stored. */
template <int HALVES, bool KEYS, bool F16>
static __device__ __forceinline__ uint32_t
decode_tile(struct decode_shared *s, const struct syn_gpu_job *job)
{
	constexpr uint32_t DIM = HALVES * 64;
	uint32_t share = decode_fetch<(KEYS ? DIM * 2 : 0) + 256 + DIM * 64>(
		s, (const char *)job->src);

	__syncthreads();
	decode_rows<HALVES, KEYS, F16>(s, (char *)job->dst, job->token);
	return share;
}

static __device__ __forceinline__ uint32_t
decode_any(struct decode_shared *s, const struct syn_gpu_job *job)
{
	switch (job->kind & 7) {
	case 0:
		return decode_tile<1, false, false>(s, job);
	case SYN_GPU_KEYS:
		return decode_tile<1, true, false>(s, job);
	case SYN_GPU_F16:
		return decode_tile<1, false, true>(s, job);
	case SYN_GPU_F16 | SYN_GPU_KEYS:
		return decode_tile<1, true, true>(s, job);
	case SYN_GPU_DIM128:
		return decode_tile<2, false, false>(s, job);
	case SYN_GPU_DIM128 | SYN_GPU_KEYS:
		return decode_tile<2, true, false>(s, job);
	case SYN_GPU_DIM128 | SYN_GPU_F16:
		return decode_tile<2, false, true>(s, job);
	default:
		return decode_tile<2, true, true>(s, job);
	}
}

#endif
