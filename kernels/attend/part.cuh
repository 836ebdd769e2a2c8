/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a warp does with a part, however it is stored.
 *
 * Lane l has, as the instructions want it, row l / 4 of what comes out: a query
 * head; and of the tokens of a part the 32 from 32 (l % 4) on, two of each of
 * 16 products.  What goes in of column n of product j is token
 * 32 (n / 2) + 2 j + n % 2.
 */
#ifndef SYN_KERNELS_ATTEND_PART_CUH
#define SYN_KERNELS_ATTEND_PART_CUH

#include "kernels/attend/query.cuh"

#define PRODUCTS 16 /* of eight tokens each */

static __device__ __forceinline__ uint32_t lane_row(void)
{
	return threadIdx.x % 32 / 4;
}

static __device__ __forceinline__ uint32_t lane_quad(void)
{
	return threadIdx.x % 4;
}

/* What goes into a product in a lane's place of four. */
static __device__ __forceinline__ void vector_get(const void *at,
						  uint32_t ret[4])
{
	const uint4 v = *(const uint4 *)at;

	ret[0] = v.x;
	ret[1] = v.y;
	ret[2] = v.z;
	ret[3] = v.w;
}

static __device__ __forceinline__ float power_of_2(float x)
{
	float r;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
	return r;
}

static __device__ __forceinline__ void value_add(float4 *to, float factor,
						 const float4 *x)
{
	to->x += factor * x->x;
	to->y += factor * x->y;
	to->z += factor * x->z;
	to->w += factor * x->w;
}

/**
 * struct softmax - of a row, as far as a strip has come.
 * @max:	largest score, in powers of 2.
 * @weight:	sum of the weights, 2^(score - @max).
 */
struct softmax {
	float max;
	float weight;
};

/*
 * Scores, in powers of 2, become weights; those of tokens from @nr on are 0.
 * Returns what is to be multiplied to weights from before; *ret_weight is the
 * sum of these here.
 */
static __device__ __forceinline__ float softmax_add(struct softmax *sm,
						    uint32_t nr,
						    float x[PRODUCTS][2],
						    float *ret_weight)
{
	const uint32_t token = lane_quad() * 32;
	float max = sm->max, weight = 0, factor;

#pragma unroll
	for (int i = 0; nr < SYN_TILE_TOKENS && i < PRODUCTS * 2; i++)
		if (token + i >= nr)
			x[i / 2][i % 2] = -INFINITY;
#pragma unroll
	for (int i = 0; i < PRODUCTS * 2; i++)
		max = fmaxf(max, x[i / 2][i % 2]);
	max = max_of_lanes<4>(max);
#pragma unroll
	for (int i = 0; i < PRODUCTS * 2; i++) {
		x[i / 2][i % 2] = power_of_2(x[i / 2][i % 2] - max);
		weight += x[i / 2][i % 2];
	}
	weight += __shfl_xor_sync(ALL, weight, 1);
	weight += __shfl_xor_sync(ALL, weight, 2);
	factor = power_of_2(sm->max - max);
	sm->weight = sm->weight * factor + weight;
	sm->max = max;
	*ret_weight = weight;
	return factor;
}

#endif
