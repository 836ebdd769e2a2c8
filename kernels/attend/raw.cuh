/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and values as elements: products in 16 bits, summed in fp32.
 *
 * They come through shared memory in chunks of 16 tokens, four of each 32: what
 * two products with keys take, and one with values.  A chunk's rows begin in
 * different banks.
 *
 * A weight is the sum of two elements, the second one in the rows from 8 on.
 */
#ifndef SYN_KERNELS_ATTEND_RAW_CUH
#define SYN_KERNELS_ATTEND_RAW_CUH

#include "kernels/attend/part.cuh"
#include "kernels/cuda/tile.cuh"

#define CHUNKS	     8 /* of a tile */
#define CHUNK_TOKENS 16
#define CHUNKS_AHEAD 4

template <int DIM> struct raw_chunk {
	uint4 rows[CHUNK_TOKENS][DIM / 8];
};

/**
 * struct raw_ring - chunks of a part, first its keys and then its values, four
 * of them there or on their way.
 * @chunks:	by turns.
 */
template <int DIM> struct raw_ring {
	raw_chunk<DIM> chunks[CHUNKS_AHEAD];
};

/**
 * struct raw_tile - where a tile is.
 * @at:		its first row.
 * @token:	bytes from a row to the next.
 * @nr:		rows that are looked at.
 */
struct raw_tile {
	const char *at;
	uint32_t token;
	uint32_t nr;
};

/* Where vector @i of row @row is. */
static __device__ __forceinline__ uint32_t raw_place(uint32_t row, uint32_t i)
{
	return i ^ row / 4 * 2 ^ row % 2 * 4;
}

/* 16 bytes, or zeros and nothing is read. */
static __device__ __forceinline__ void
vector_begin_if(void *to, const char *src, bool there)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
		     :
		     : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(src),
		       "r"(there ? 16 : 0)
		     : "memory");
}

/* Begins to fetch chunk @c of @from, which is a group. */
template <int DIM>
static __device__ __forceinline__ void
raw_fetch(raw_ring<DIM> *ring, const struct raw_tile *from, uint32_t c)
{
	constexpr uint32_t VECTORS = DIM / 8, ROWS_EACH = 32 / VECTORS;
	const uint32_t i = threadIdx.x % VECTORS;

#pragma unroll
	for (uint32_t k = 0; k < CHUNK_TOKENS / ROWS_EACH; k++) {
		const uint32_t row = k * ROWS_EACH + threadIdx.x % 32 / VECTORS;
		const uint32_t token = row / 4 * 32 + c * 4 + row % 4;

		vector_begin_if(&ring->chunks[c % CHUNKS_AHEAD]
					 .rows[row][raw_place(row, i)],
				from->at + (uint64_t)token * from->token +
					16 * i,
				token < from->nr);
	}
	vectors_begun();
}

/* The first chunks, into a ring that is empty. */
template <int DIM>
static __device__ __forceinline__ void raw_begin(raw_ring<DIM> *ring,
						 const struct raw_tile *from)
{
#pragma unroll
	for (uint32_t c = 0; c < CHUNKS_AHEAD; c++)
		raw_fetch<DIM>(ring, from, c);
}

/* Until the oldest chunk is there. */
static __device__ __forceinline__ void raw_wait(void)
{
	vectors_wait<CHUNKS_AHEAD - 1>();
	__syncwarp();
}

/*
 * Chunk @c of @from has been looked at; after its last ones come those of
 * @next, if there is anything at it.
 */
template <int DIM>
static __device__ __forceinline__ void
raw_next(raw_ring<DIM> *ring, const struct raw_tile *from,
	 const struct raw_tile *next, uint32_t c)
{
	__syncwarp();
	if (c + CHUNKS_AHEAD < CHUNKS)
		raw_fetch<DIM>(ring, from, c + CHUNKS_AHEAD);
	else if (next->at)
		raw_fetch<DIM>(ring, next, c + CHUNKS_AHEAD - CHUNKS);
	else
		vectors_begun();
}

/* Rows of @a by columns of @b, and @c. */
template <bool F16>
static __device__ __forceinline__ void
raw_product(float ret[4], const uint32_t a[4], uint32_t b0, uint32_t b1,
	    const float c[4])
{
	if constexpr (F16)
		asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
		    "{%10, %11, %12, %13};"
		    : "=f"(ret[0]), "=f"(ret[1]), "=f"(ret[2]), "=f"(ret[3])
		    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0),
		      "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
	else
		asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
		    "{%10, %11, %12, %13};"
		    : "=f"(ret[0]), "=f"(ret[1]), "=f"(ret[2]), "=f"(ret[3])
		    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0),
		      "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

/* ---- keys --------------------------------------------------------------- */

/* Eight tokens by a lane's row of @a; of a row four vectors are a step apart. */
template <int VECTORS, bool F16>
static __device__ __forceinline__ void
raw_score(const uint4 *row, uint32_t number, const uint32_t a[VECTORS][4],
	  float ret[2])
{
	float one[4] = {}, two[4] = {};

#pragma unroll
	for (int i = 0; i < VECTORS; i++) {
		const uint32_t at = raw_place(number, lane_quad() + 4 * i);
		uint32_t b[4];

		vector_get(&row[at], b);
		raw_product<F16>(one, a[i], b[0], b[1], one);
		raw_product<F16>(two, a[i], b[2], b[3], two);
	}
	ret[0] = one[0] + two[2];
	ret[1] = one[1] + two[3];
}

/*
 * Scores of all tokens.  A lane's vectors of a row are 64 bytes apart, eight
 * channels in each.  All of one of a query goes into a product: half of its
 * channels count in the rows below 8, the others in those from 8 on, in a
 * product of their own.
 */
template <int DIM, bool F16>
static __device__ __forceinline__ void
raw_scores(raw_ring<DIM> *ring, const struct raw_tile *k,
	   const struct raw_tile *next, const query<DIM> *query, float scale,
	   float ret[PRODUCTS][2])
{
	const uint4 *q = (const uint4 *)query->raw[lane_row()] + lane_quad();
	uint32_t a[DIM / 32][4];

#pragma unroll
	for (int i = 0; i < DIM / 32; i++)
		vector_get(q + 4 * i, a[i]);
#pragma unroll
	for (int c = 0; c < CHUNKS; c++) {
		raw_wait();
#pragma unroll
		for (int j = 2 * c; j < 2 * c + 2; j++) {
			const uint32_t row =
				lane_row() / 2 * 4 + j % 2 * 2 + lane_row() % 2;

			raw_score<DIM / 32, F16>(
				ring->chunks[c % CHUNKS_AHEAD].rows[row], row,
				a, ret[j]);
			ret[j][0] *= scale;
			ret[j][1] *= scale;
		}
		raw_next<DIM>(ring, k, next, c);
	}
}

/* ---- values ------------------------------------------------------------- */

/* Two weights as elements, and what that leaves of them. */
template <bool F16>
static __device__ __forceinline__ void
raw_weights(const float w[2], uint32_t *ret_high, uint32_t *ret_low)
{
	if constexpr (F16) {
		__half2 high = __floats2half2_rn(w[0], w[1]);
		__half2 low = __floats2half2_rn(w[0] - __low2float(high),
						w[1] - __high2float(high));

		memcpy(ret_high, &high, 4);
		memcpy(ret_low, &low, 4);
	} else {
		__nv_bfloat162 high = __floats2bfloat162_rn(w[0], w[1]);
		__nv_bfloat162 low = __floats2bfloat162_rn(
			w[0] - __low2float(high), w[1] - __high2float(high));

		memcpy(ret_high, &high, 4);
		memcpy(ret_low, &low, 4);
	}
}

/* Two rows of channels by the tokens' weights, high and low. */
template <bool F16>
static __device__ __forceinline__ void
raw_channels(float c[4], const uint32_t a[4], const uint32_t w[4])
{
	raw_product<F16>(c, a, w[0], w[2], c);
	raw_product<F16>(c, a, w[1], w[3], c);
}

/*
 * Adds weighted values to @sum.  Here rows of products are channels, and columns
 * are query heads.  Product 4 r + i is channel 64 r + 8 n + 2 i in row n, and
 * the next channel in row n + 8.
 */
template <int DIM, bool F16>
static __device__ __forceinline__ void
raw_values(raw_ring<DIM> *ring, const struct raw_tile *v,
	   const struct raw_tile *next, const float w[PRODUCTS][2],
	   float sum[DIM / 16][4])
{
#pragma unroll
	for (int c = 0; c < CHUNKS; c++) {
		const raw_chunk<DIM> *chunk = &ring->chunks[c % CHUNKS_AHEAD];
		uint32_t b[4];

		raw_weights<F16>(w[2 * c], &b[0], &b[1]);
		raw_weights<F16>(w[2 * c + 1], &b[2], &b[3]);
		raw_wait();
#pragma unroll
		for (int r = 0; r < DIM / 64; r++) {
			uint32_t x[4][4];

#pragma unroll
			for (int t = 0; t < 4; t++) {
				const uint32_t row = lane_quad() * 4 + t;
				const uint32_t at =
					raw_place(row, lane_row() + 8 * r);

				vector_get(&chunk->rows[row][at], x[t]);
			}
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const uint32_t a[4] = {
					__byte_perm(x[0][i], x[1][i], 0x5410),
					__byte_perm(x[0][i], x[1][i], 0x7632),
					__byte_perm(x[2][i], x[3][i], 0x5410),
					__byte_perm(x[2][i], x[3][i], 0x7632),
				};

				raw_channels<F16>(sum[4 * r + i], a, b);
			}
		}
		raw_next<DIM>(ring, v, next, c);
	}
}

#endif
