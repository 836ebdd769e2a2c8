/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dense parts of the demo model.
 *
 * Every sum has one order: what comes out of a row does not depend on how many
 * rows are computed together.  Weights and what is kept are fp16, all else is
 * fp32.
 */
#include <cuda_fp16.h>
#include <stdint.h>

#include "kernels/attend/attend.h"
#include "tools/infer/forward.h"
#include "tools/infer/gpu-step.h"

#define TOKENS	SYN_STEP_TOKENS
#define DIM	SYN_STEP_DIM
#define HALF	SYN_STEP_HALF
#define COLUMNS SYN_STEP_COLUMNS
#define SLICES	SYN_STEP_SLICES
#define CHUNK	SYN_STEP_CHUNK
#define THREADS SYN_STEP_THREADS
#define ROWS	SYN_STEP_ROWS
#define TILE	THREADS /* of the depth, in shared memory at once */

/* In the order of a butterfly; every lane has it. */
static __device__ float warp_sum(float x)
{
	for (int lane = 16; lane; lane /= 2)
		x += __shfl_xor_sync(~0u, x, lane);
	return x;
}

/* ---- what goes in ------------------------------------------------------- */

/*
 * A block a token: its row of the embedding, and the angles of its position,
 * @angles for each step of one.
 */
extern "C" __global__ void syn_step_embed(const struct syn_step *step,
					  const __half *embed, uint32_t width,
					  const double *angles, float *x,
					  float2 *turns)
{
	uint32_t row = blockIdx.x;
	const __half *from = embed + (uint64_t)step->tokens[row] * width;

	for (uint32_t i = threadIdx.x; i < width; i += blockDim.x)
		x[(uint64_t)row * width + i] = __half2float(from[i]);
	if (threadIdx.x < HALF) {
		double sine, cosine;

		sincos((double)(step->at + row) * angles[threadIdx.x], &sine,
		       &cosine);
		turns[row * HALF + threadIdx.x] =
			make_float2((float)cosine, (float)sine);
	}
}

/* ---- products ----------------------------------------------------------- */

/**
 * struct product_shared - of a block.
 * @x:		a tile of rows.
 * @sums:	what the slices have summed.
 * @scale:	of RMSNorm, of each row.
 */
template <uint32_t NR> struct product_shared {
	float x[NR][TILE];
	float sums[SLICES][NR][COLUMNS];
	float scale[NR];
};

static __device__ float row_scale(const struct syn_step_product *p,
				  uint32_t row)
{
	const float *in = (const float *)p->in + (uint64_t)row * p->depth;
	float sum = 0;

	for (uint32_t i = threadIdx.x % 32; i < p->depth; i += 32)
		sum = fmaf(in[i], in[i], sum);
	return 1 / sqrtf(warp_sum(sum) / p->depth + p->eps);
}

static __device__ float input_at(const struct syn_step_product *p, uint32_t row,
				 uint32_t k, float scale)
{
	const float *in = (const float *)p->in;
	float gate, up;

	switch (p->input) {
	case SYN_STEP_NORM:
		return in[(uint64_t)row * p->depth + k] * scale *
		       ((const float *)p->norm)[k];
	case SYN_STEP_GATE:
		gate = in[(uint64_t)row * 2 * p->depth + k];
		up = in[((uint64_t)row * 2 + 1) * p->depth + k];
		return gate / (1 + expf(-gate)) * up;
	default:
		return in[(uint64_t)row * p->depth + k];
	}
}

/* A thread has a number of every row; rows that do not exist are zero. */
template <uint32_t NR>
static __device__ void tile_load(struct product_shared<NR> *s,
				 const struct syn_step_product *p, uint32_t row,
				 uint32_t tile, uint32_t span)
{
	const uint32_t k = threadIdx.x;

	if (k >= span)
		return;
#pragma unroll
	for (uint32_t r = 0; r < NR; r++)
		s->x[r][k] = row + r < p->rows ? input_at(p, row + r, tile + k,
							  s->scale[r])
					       : 0;
}

/* Eight weights of a column times those numbers of every row. */
template <uint32_t NR>
static __device__ __forceinline__ void
chunk_multiply(const struct product_shared<NR> *s, uint4 weights, uint32_t k,
	       float sums[NR])
{
	const __half2 *pairs = (const __half2 *)&weights;
	float2 w[CHUNK / 2];

#pragma unroll
	for (uint32_t i = 0; i < CHUNK / 2; i++)
		w[i] = __half22float2(pairs[i]);
#pragma unroll
	for (uint32_t r = 0; r < NR; r++) {
		const float4 *x = (const float4 *)&s->x[r][k];
		float4 a = x[0], b = x[1];

		sums[r] = fmaf(w[0].x, a.x, sums[r]);
		sums[r] = fmaf(w[0].y, a.y, sums[r]);
		sums[r] = fmaf(w[1].x, a.z, sums[r]);
		sums[r] = fmaf(w[1].y, a.w, sums[r]);
		sums[r] = fmaf(w[2].x, b.x, sums[r]);
		sums[r] = fmaf(w[2].y, b.y, sums[r]);
		sums[r] = fmaf(w[3].x, b.z, sums[r]);
		sums[r] = fmaf(w[3].y, b.w, sums[r]);
	}
}

/* A lane has a column; a slice takes every eighth chunk of the depth. */
template <uint32_t NR>
static __device__ void slice_multiply(struct product_shared<NR> *s,
				      const struct syn_step_product *p,
				      uint32_t row, float sums[NR])
{
	const uint32_t lane = threadIdx.x % COLUMNS;
	const uint32_t slice = threadIdx.x / COLUMNS;
	const uint4 *weights =
		(const uint4 *)p->weights +
		(uint64_t)blockIdx.x * (p->depth / CHUNK) * COLUMNS;

	for (uint32_t tile = 0; tile < p->depth; tile += TILE) {
		uint32_t span = min(TILE, p->depth - tile);
		uint4 w[TILE / CHUNK / SLICES];

		/* They are on their way while the rows are made. */
#pragma unroll
		for (uint32_t i = 0; i < TILE / CHUNK / SLICES; i++) {
			uint32_t chunk = i * SLICES + slice;

			if (chunk < span / CHUNK)
				w[i] = weights[(tile / CHUNK + chunk) *
						       COLUMNS +
					       lane];
		}
		tile_load<NR>(s, p, row, tile, span);
		__syncthreads();
#pragma unroll
		for (uint32_t i = 0; i < TILE / CHUNK / SLICES; i++) {
			uint32_t chunk = i * SLICES + slice;

			if (chunk < span / CHUNK)
				chunk_multiply<NR>(s, w[i], chunk * CHUNK,
						   sums);
		}
		__syncthreads();
	}
}

/* The slices' sums are added in their order. */
template <uint32_t NR>
static __device__ void product_store(const struct product_shared<NR> *s,
				     const struct syn_step_product *p,
				     uint32_t row)
{
	for (uint32_t i = threadIdx.x; i < NR * COLUMNS; i += THREADS) {
		uint32_t r = i / COLUMNS, lane = i % COLUMNS;
		float *to = (float *)p->out + (uint64_t)(row + r) * p->columns +
			    blockIdx.x * COLUMNS + lane;
		float sum = 0;

		if (row + r >= p->rows)
			continue;
		for (uint32_t n = 0; n < SLICES; n++)
			sum += s->sums[n][r][lane];
		*to = p->add ? *to + sum : sum;
	}
}

/* A block: some columns of NR rows. */
template <uint32_t NR>
static __device__ void product(const struct syn_step_product *p)
{
	__shared__ __align__(16) struct product_shared<NR> s;
	const uint32_t lane = threadIdx.x % COLUMNS;
	const uint32_t slice = threadIdx.x / COLUMNS;
	const uint32_t row = blockIdx.y * NR;
	float sums[NR] = { 0 };

	if (p->input == SYN_STEP_NORM) {
		for (uint32_t r = slice; r < NR && row + r < p->rows;
		     r += SLICES)
			s.scale[r] = row_scale(p, row + r);
		__syncthreads();
	}
	slice_multiply<NR>(&s, p, row, sums);
#pragma unroll
	for (uint32_t r = 0; r < NR; r++)
		s.sums[slice][r][lane] = sums[r];
	__syncthreads();
	product_store<NR>(&s, p, row);
}

extern "C" __global__ void __launch_bounds__(THREADS)
	syn_step_product_row(const struct syn_step_product p)
{
	product<1>(&p);
}

extern "C" __global__ void __launch_bounds__(THREADS)
	syn_step_product_rows(const struct syn_step_product p)
{
	product<ROWS>(&p);
}

/* ---- attention's both ends ---------------------------------------------- */

static __device__ float2 turned(float2 x, float2 turn)
{
	return make_float2(x.x * turn.x - x.y * turn.y,
			   x.y * turn.x + x.x * turn.y);
}

/*
 * A block a token and head, a thread a pair: queries are rotated and rounded,
 * keys as well, and those and values go to the page that grows.
 */
extern "C" __global__ void syn_step_heads(const struct syn_step_heads h)
{
	const struct syn_step *step = (const struct syn_step *)h.step;
	const uint32_t row = blockIdx.x, d = threadIdx.x;
	const uint32_t all = h.n_heads + 2 * h.n_kv_heads;
	const struct syn_attend_part *part =
		(const struct syn_attend_part *)h.parts + step->full;
	const float *in =
		(const float *)h.in + ((uint64_t)row * all + blockIdx.y) * DIM;
	const float2 turn = ((const float2 *)h.turns)[row * HALF + d];
	float2 x = make_float2(in[d], in[d + HALF]);
	uint32_t head = blockIdx.y;
	uint64_t to;

	if (head < h.n_heads + h.n_kv_heads)
		x = turned(x, turn);
	if (head < h.n_heads) {
		to = h.q + ((uint64_t)row * h.n_heads + head) * DIM * 2;
	} else {
		const struct syn_attend_tiles *tiles = &part->k;

		head -= h.n_heads;
		if (head >= h.n_kv_heads) {
			head -= h.n_kv_heads;
			tiles = &part->v;
		}
		to = tiles->at + head * tiles->head +
		     (uint64_t)(step->first + row) * tiles->token;
	}
	((__half *)to)[d] = __float2half_rn(x.x);
	((__half *)to)[d + HALF] = __float2half_rn(x.y);
}

/*
 * A block a page and query head: @sums of the shares that all tokens gave it, in
 * a fixed order; [page][query head].
 */
extern "C" __global__ void syn_step_shares(const struct syn_step *step,
					   const float *shares, float *sums)
{
	__shared__ float s[TOKENS];
	const uint32_t nr = step->full + 1;
	const uint32_t page = blockIdx.x * gridDim.y + blockIdx.y;

	if (blockIdx.x >= nr)
		return;
	s[threadIdx.x] =
		threadIdx.x < step->nr
			? shares[(uint64_t)threadIdx.x * nr * gridDim.y + page]
			: 0;
	__syncthreads();
	for (uint32_t n = TOKENS / 2; n; n /= 2) {
		if (threadIdx.x < n)
			s[threadIdx.x] += s[threadIdx.x + n];
		__syncthreads();
	}
	if (threadIdx.x == 0)
		sums[page] = s[0];
}

/* ---- what comes out ----------------------------------------------------- */

/* One block, a thread a byte. */
extern "C" __global__ void syn_step_choose(const float *logits,
					   struct syn_next *next)
{
	__shared__ float value[SYN_VOCAB];
	__shared__ uint32_t byte[SYN_VOCAB];
	const uint32_t i = threadIdx.x;

	value[i] = logits[i];
	byte[i] = i;
	next->logits[i] = logits[i];
	__syncthreads();
	for (uint32_t n = SYN_VOCAB / 2; n; n /= 2) {
		/* Those on the left are not all smaller numbers. */
		if (i < n &&
		    (value[i + n] > value[i] ||
		     (value[i + n] == value[i] && byte[i + n] < byte[i]))) {
			value[i] = value[i + n];
			byte[i] = byte[i + n];
		}
		__syncthreads();
	}
	if (i == 0)
		next->byte = byte[0];
}
