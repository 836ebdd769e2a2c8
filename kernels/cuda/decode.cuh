/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4, decoding: Documentation/arithmetic.rst, a tile by a block.
 *
 * The transform of a token is a product with a matrix of ones and minus ones,
 * and tensor cores make it: 16 tokens a warp, in bytes, summed in 32 bits and so
 * exact.  Of 128 channels, those 64 apart are added and subtracted before, four
 * in a register, and the matrix is the one of 64.
 *
 * A level is odd, 2 v + 1, and v + 64 fits seven bits, which is what the product
 * begins with; sums and differences have 128 too much.  As all columns of the
 * matrix but one add up to zero, that shows in channels 0 and 64 only, and is
 * taken away there.
 *
 * Lane l holds, as the instruction wants it, of token l / 4 of its eight and of
 * the token 8 further: from the codes, channels 16 (l % 4) to 16 (l % 4) + 15
 * of each 64, eight for each of two steps; of the result, eight channels that
 * lie together of each 32, two for each of four products.
 */
#ifndef SYN_KERNELS_CUDA_DECODE_CUH
#define SYN_KERNELS_CUDA_DECODE_CUH

#include "kernels/cuda/levels.cuh"
#include "kernels/cuda/tile.cuh"

#define STORED_MAX (2 * 128 + 256 + 64 * 128)
#define STEPS	   2 /* of a product over 64 channels, 32 in each */
#define GROUPS	   2 /* of 32 channels that come out of it */
#define PRODUCTS   4 /* for those, 8 in each */

#define BYTES_128 0x80808080u

/* 1.5 * 2^23, a float whose last bits are a number that was added to its bits. */
#define NUMBER_BITS 0x4b400000
#define NUMBER_ZERO 12582912.0f

/**
 * struct decode_shared - of a block that decodes.
 * @basis:	the matrix, by half, group, pair of products and lane: of either
 *		product both steps, four rows and a column of each, a byte an
 *		element, the signs of channels included.
 * @stored:	the tile, and the one that comes next.
 * @sum:	of the tile.
 */
struct decode_shared {
	uint4 basis[2][GROUPS][PRODUCTS / 2][32];
	alignas(16) unsigned char stored[2][STORED_MAX];
	uint32_t sum;
};

/* ---- coming in ---------------------------------------------------------- */

/* This thread's vectors of a tile; they come together. */
template <uint32_t BYTES>
static __device__ __forceinline__ void decode_begin(unsigned char *stored,
						    const char *src)
{
#pragma unroll
	for (uint32_t at = 0; at < BYTES; at += THREADS * 16) {
		uint32_t i = at + threadIdx.x * 16;

		if (i < BYTES)
			vector_begin(stored + i, src + i);
	}
}

/* The share of this thread in the tile's sum, of what it began. */
template <uint32_t BYTES>
static __device__ __forceinline__ uint32_t
decode_share(const unsigned char *stored)
{
	uint32_t sum = 0;

#pragma unroll
	for (uint32_t at = 0; at < BYTES; at += THREADS * 16) {
		uint32_t i = at + threadIdx.x * 16;

		if (i < BYTES)
			sum += sum_vector(*(const uint4 *)(stored + i), i / 4);
	}
	return sum;
}

/* ---- the transform ------------------------------------------------------ */

/* Minus one times each byte of 1 or -1. */
static __device__ __forceinline__ uint32_t negated(uint32_t b, bool negative)
{
	return negative ? b ^ 0xfefefefeu : b;
}

static __device__ __forceinline__ bool is_odd(uint32_t bits)
{
	return __popc(bits) & 1;
}

/*
 * Elements of a column of the matrix, in the four rows from 16 (lane % 4) +
 * 8 step on.  That of row k and column n is -1 to the number of bits that both
 * have; so the next four rows are the same, but negated where n has bit 2.
 */
static __device__ uint32_t basis_of(uint64_t signs, uint32_t lane,
				    uint32_t step, uint32_t column)
{
	uint32_t rows = lane % 4 * 16 + step * 8;
	uint32_t b = 0x01010101u;

	if (column & 1)
		b ^= 0xfe00fe00u;
	if (column & 2)
		b ^= 0xfefe0000u;
	return negated(b, is_odd(rows & column) ^ (signs >> column & 1));
}

/* Before the first tile, which waits for all threads. */
static __device__ void decode_prepare(struct decode_shared *s)
{
	for (uint32_t i = threadIdx.x; i < sizeof(s->basis) / 16;
	     i += THREADS) {
		const uint32_t lane = i % 32, pair = i / 32 % (PRODUCTS / 2);
		const uint32_t group = i / 32 / (PRODUCTS / 2) % GROUPS;
		const uint32_t half = i / 32 / (PRODUCTS / 2) / GROUPS;
		const uint64_t signs = half ? H4_SIGNS_1 : H4_SIGNS_0;
		const uint32_t column =
			32 * group + 8 * (lane / 8) + 4 * pair + lane / 4 % 2;

		s->basis[half][group][pair][lane] =
			make_uint4(basis_of(signs, lane, 0, column),
				   basis_of(signs, lane, 1, column),
				   basis_of(signs, lane, 0, column + 2),
				   basis_of(signs, lane, 1, column + 2));
	}
}

/* What the sum for channel 0 or 64 begins with. */
template <int HALVES> static __device__ constexpr int zero_of(int half)
{
	/* What bytes have too much, less the 1 of 2 v + 1. */
	int too_much = 64 * (HALVES == 2 ? 128 : 64) - (half ? 0 : 32 * HALVES);
	bool negative = (half ? H4_SIGNS_1 : H4_SIGNS_0) & 1;

	return NUMBER_BITS + (negative ? too_much : -too_much);
}

/*
 * 16 tokens by 8 columns, of 32 rows of the matrix, added to @c: in @a and @b
 * what the lane has of either.
 */
static __device__ __forceinline__ void product(int ret[4], const uint32_t a[4],
					       uint32_t b0, uint32_t b1,
					       const int c[4])
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
	    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
	    "{%10, %11, %12, %13};"
	    : "=r"(ret[0]), "=r"(ret[1]), "=r"(ret[2]), "=r"(ret[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1),
	      "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));
}

/* ---- tokens ------------------------------------------------------------- */

/*
 * What the product takes of a lane's two tokens, as the instruction has it: by
 * half and step, the first four channels of either, then the next four.
 */
template <int HALVES>
static __device__ __forceinline__ void
tokens_levels(const struct levels *of, const unsigned char *codes,
	      uint32_t ret[HALVES][STEPS][4])
{
	constexpr uint32_t row = HALVES * 32;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		uint32_t u[2][STEPS][2];

#pragma unroll
		for (int h = 0; h < HALVES; h++) {
			uint2 c =
				*(const uint2 *)(codes + 8 * i * row + h * 32);

			eight_levels(of, c.x, u[h][0]);
			eight_levels(of, c.y, u[h][1]);
		}
#pragma unroll
		for (int k = 0; k < STEPS * 2; k++) {
			uint32_t step = k / 2, q = k % 2;

			if (HALVES == 1) {
				ret[0][step][2 * q + i] = u[0][step][q];
				continue;
			}
			ret[0][step][2 * q + i] = u[0][step][q] + u[1][step][q];
			ret[HALVES - 1][step][2 * q + i] =
				u[0][step][q] + BYTES_128 - u[1][step][q];
		}
	}
}

/* The transform of two tokens: eight channels of a half and group. */
template <int HALVES>
static __device__ __forceinline__ void
tokens_transform(const struct decode_shared *s, int half, int group,
		 const uint32_t levels[STEPS][4], int ret[PRODUCTS][4])
{
#pragma unroll
	for (int p = 0; p < PRODUCTS; p++) {
		uint4 of = s->basis[half][group][p / 2][threadIdx.x % 32];
		uint32_t b[STEPS] = { p % 2 ? of.z : of.x,
				      p % 2 ? of.w : of.y };
		const bool has_bit_2 = p >= PRODUCTS / 2;
		int first[4] = { NUMBER_BITS, NUMBER_BITS, NUMBER_BITS,
				 NUMBER_BITS };

		if (group == 0 && p == 0 && threadIdx.x % 4 == 0)
			first[0] = first[2] = zero_of<HALVES>(half);
#pragma unroll
		for (int step = 0; step < STEPS; step++)
			product(ret[p], levels[step], b[step],
				negated(b[step], has_bit_2),
				step ? ret[p] : first);
	}
}

template <bool F16>
static __device__ __forceinline__ uint32_t elements_of(float a, float b)
{
	uint32_t r;

	if (F16) {
		/* What is too large becomes the largest. */
		asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;"
		    : "=r"(r)
		    : "f"(b), "f"(a));
	} else {
		__nv_bfloat162 h = __floats2bfloat162_rn(a, b);

		memcpy(&r, &h, sizeof(r));
	}
	return r;
}

/* The means of the columns of product @p. */
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

/* @scale: twice that of the token, as a transform is half of it. */
template <bool KEYS, bool F16>
static __device__ __forceinline__ uint32_t elements_at(int a, int b,
						       float scale, float2 mean)
{
	float x = __fmul_rn(scale, __fsub_rn(__int_as_float(a), NUMBER_ZERO));
	float y = __fmul_rn(scale, __fsub_rn(__int_as_float(b), NUMBER_ZERO));

	if (KEYS) {
		x = __fadd_rn(x, mean.x);
		y = __fadd_rn(y, mean.y);
	}
	return elements_of<F16>(x, y);
}

template <int HALVES, bool KEYS, bool F16>
static __device__ __forceinline__ void
decode_rows(const struct decode_shared *s, const unsigned char *stored,
	    char *dst, uint64_t token)
{
	constexpr uint32_t DIM = HALVES * 64;
	const uint32_t lane = threadIdx.x % 4;
	const uint32_t first = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
	const __half *scales =
		(const __half *)(stored + (KEYS ? DIM * 2 : 0)) + first;
	const unsigned char *codes = stored + (KEYS ? DIM * 2 : 0) + 256 +
				     first * DIM / 2 + lane * 8;
	const struct levels of = levels_make();
	uint32_t levels[HALVES][STEPS][4];
	float scale[2];

	tokens_levels<HALVES>(&of, codes, levels);
	for (int i = 0; i < 2; i++)
		scale[i] = __half2float(scales[8 * i]) * 2 * H4_SCALE_INV;
	dst += first * token + lane * 16;
#pragma unroll
	for (int k = 0; k < HALVES * GROUPS; k++) {
		const int half = k / GROUPS, group = k % GROUPS;
		uint4 mean = make_uint4(0, 0, 0, 0);
		int t[PRODUCTS][4];

		if (KEYS)
			mean = *(const uint4 *)(stored + k * 64 + lane * 16);
		tokens_transform<HALVES>(s, half, group, levels[half], t);
#pragma unroll
		for (int i = 0; i < 2; i++) {
			uint32_t x[PRODUCTS];

#pragma unroll
			for (int p = 0; p < PRODUCTS; p++)
				x[p] = elements_at<KEYS, F16>(
					t[p][2 * i], t[p][2 * i + 1], scale[i],
					mean_of(mean, p));
			*(uint4 *)(dst + 8 * i * token + k * 64) =
				make_uint4(x[0], x[1], x[2], x[3]);
		}
	}
}

/* A tile is on its way while the one before is decoded. */
template <int HALVES, bool KEYS, bool F16>
static __device__ __forceinline__ void
decode_tiles(struct decode_shared *s, const struct syn_gpu_job *job,
	     const struct syn_gpu_report *report)
{
	constexpr uint32_t DIM = HALVES * 64;
	constexpr uint32_t BYTES = (KEYS ? DIM * 2 : 0) + 256 + DIM * 64;
	const char *src = (const char *)job->src;
	char *dst = (char *)job->dst;

	decode_begin<BYTES>(s->stored[0], src);
	vectors_begun();
#pragma unroll 1
	for (uint32_t k = 0; k < job->nr; k++) {
		const unsigned char *stored = s->stored[k % 2];
		uint32_t want = sum_wanted(report, job, k);

		src += job->src_step;
		if (k + 1 < job->nr)
			decode_begin<BYTES>(s->stored[(k + 1) % 2], src);
		vectors_begun();
		vectors_wait<1>();
		__syncthreads();
		sum_add(&s->sum, decode_share<BYTES>(stored));
		decode_rows<HALVES, KEYS, F16>(s, stored, dst, job->token);
		dst += job->dst_step;
		/* The tile is not used any more. */
		__syncthreads();
		sum_check(report, job, k, want, &s->sum);
	}
}

static __device__ __forceinline__ void
decode_any(struct decode_shared *s, const struct syn_gpu_job *job,
	   const struct syn_gpu_report *report)
{
	switch (job->kind & 7) {
	case 0:
		decode_tiles<1, false, false>(s, job, report);
		break;
	case SYN_GPU_KEYS:
		decode_tiles<1, true, false>(s, job, report);
		break;
	case SYN_GPU_F16:
		decode_tiles<1, false, true>(s, job, report);
		break;
	case SYN_GPU_F16 | SYN_GPU_KEYS:
		decode_tiles<1, true, true>(s, job, report);
		break;
	case SYN_GPU_DIM128:
		decode_tiles<2, false, false>(s, job, report);
		break;
	case SYN_GPU_DIM128 | SYN_GPU_KEYS:
		decode_tiles<2, true, false>(s, job, report);
		break;
	case SYN_GPU_DIM128 | SYN_GPU_F16:
		decode_tiles<2, false, true>(s, job, report);
		break;
	default:
		decode_tiles<2, true, true>(s, job, report);
		break;
	}
}

#endif
