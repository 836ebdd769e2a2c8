/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4, encoding: Documentation/arithmetic.rst, a tile by a block.
 *
 * Four lanes share a token; lane l has the channels 4 l + e + 16 k, e from 0 to
 * 3.  So the 16 partial sums of a token are four of each lane, its codes are
 * pairs of bytes, and of the butterflies those of distance 4 and 8 go between
 * lanes.
 */
#ifndef SYN_KERNELS_CUDA_ENCODE_CUH
#define SYN_KERNELS_CUDA_ENCODE_CUH

#include "kernels/cuda/decode.cuh"

#define ALL    0xffffffffu
#define TOKENS SYN_GPU_ROWS
#define LANES  16 /* partial sums */

/* Rows are apart by 32 bytes more than they have: four meet in no bank. */
#define ROW_BYTES(dim) ((dim)*2 + 32)

/* 1.5 * 2^23: a small number added to it is rounded, its last bits are it. */
#define ROUND_MAGIC 12582912.0f

/**
 * struct encode_shared - of a block that encodes.
 * @raw:	the tile; a token's codes take the place of its first elements.
 * @mean:	of each channel, as stored.
 * @scale:	of each token, as stored.
 * @lut:	of a whole number of units, modulo 1024: level, and code << 8.
 * @sign:	of two channels, the bits that their elements differ in.
 * @offset:	of each channel, its mean times its sign times -1.
 * @power:	of each token.
 * @unit:	of each token; then what is lost of it.
 * @dot:	of each token.
 * @square:	of each token.
 * @raw_sum:	of the tile.
 * @stored_sum:	of what becomes of it.
 * @job:	that is done; registers are short.
 */
struct encode_shared {
	alignas(16) unsigned char raw[TOKENS * ROW_BYTES(128)];
	alignas(16) __half mean[128];
	alignas(16) __half scale[TOKENS];
	uint16_t lut[1024];
	alignas(16) uint32_t sign[64];
	alignas(16) float offset[128];
	float power[TOKENS];
	float unit[TOKENS];
	int dot[TOKENS];
	int square[TOKENS];
	uint32_t raw_sum;
	uint32_t stored_sum;
	alignas(16) struct syn_gpu_job job;
};

/* Level of a code, sign included. */
static __device__ __forceinline__ int level_of(uint32_t code)
{
	const uint32_t low = 5 | 15 << 8 | 25 << 16 | 37u << 24;
	const uint32_t high = 49 | 63 << 8 | 81 << 16 | 107u << 24;
	uint32_t size = code & 8 ? code & 7 : 7 - (code & 7);
	int level = (int)(__byte_perm(low, high, size) & 0xff);

	return code & 8 ? level : -level;
}

static __device__ __forceinline__ uint32_t code_of(int whole)
{
	int size = whole < 0 ? ~whole : whole;
	uint32_t code = 8 + (size >= 10) + (size >= 20) + (size >= 31) +
			(size >= 43) + (size >= 56) + (size >= 72) +
			(size >= 94);

	return whole < 0 ? code ^ 15 : code;
}

static __device__ __forceinline__ void encode_lut(struct encode_shared *s)
{
	for (uint32_t i = threadIdx.x; i < 1024; i += THREADS) {
		uint32_t code = code_of(i < 512 ? (int)i : (int)i - 1024);

		s->lut[i] = (uint16_t)((level_of(code) & 0xff) | code << 8);
	}
	if (threadIdx.x < 64) {
		uint64_t bits = threadIdx.x < 32 ? H4_SIGNS_0 : H4_SIGNS_1;

		bits >>= 2 * (threadIdx.x % 32);
		s->sign[threadIdx.x] =
			(bits & 1 ? 0x8000u : 0) | (bits & 2 ? 0x80000000u : 0);
	}
}

template <bool F16>
static __device__ __forceinline__ float element_of(uint16_t bits)
{
	return F16 ? __half2float(__ushort_as_half(bits))
		   : __uint_as_float((uint32_t)bits << 16);
}

/* Two elements that lie together. */
template <bool F16>
static __device__ __forceinline__ void elements_of_bits(uint32_t bits,
							float *ret)
{
	ret[0] = element_of<F16>((uint16_t)bits);
	ret[1] = F16 ? element_of<F16>((uint16_t)(bits >> 16))
		     : __uint_as_float(bits & 0xffff0000u);
}

/* Brings the tile in, and the share of this thread in its sum. */
template <uint32_t DIM>
static __device__ __forceinline__ uint32_t encode_fetch(struct encode_shared *s,
							const char *src,
							uint64_t token)
{
	constexpr uint32_t row = DIM / 8; /* vectors */
	unsigned char *to = s->raw + threadIdx.x / row * ROW_BYTES(DIM) +
			    threadIdx.x % row * 16;
	uint32_t sum = 0;

	src += threadIdx.x / row * token + threadIdx.x % row * 16;
#pragma unroll
	for (uint32_t t = 0; t < TOKENS; t += THREADS / row) {
		vector_begin(to + t * ROW_BYTES(DIM), src);
		src += THREADS / row * token;
	}
	vectors_begun();
	vectors_wait<0>();
#pragma unroll
	for (uint32_t t = 0; t < TOKENS; t += THREADS / row)
		sum += sum_vector(*(const uint4 *)(to + t * ROW_BYTES(DIM)),
				  (t * row + threadIdx.x) * 4);
	return sum;
}

/* One after the other, as the definition has it: a thread a channel. */
template <uint32_t DIM, bool F16>
static __device__ __forceinline__ void encode_mean(struct encode_shared *s)
{
	const unsigned char *at = s->raw + threadIdx.x * 2;
	float sum = 0;
	__half mean;

	if (threadIdx.x >= DIM)
		return;
#pragma unroll 16
	for (uint32_t t = 0; t < TOKENS; t++)
		sum = __fadd_rn(
			sum,
			element_of<F16>(
				*(const uint16_t *)(at + t * ROW_BYTES(DIM))));
	mean = __float2half_rn(__fmul_rn(sum, 0x1p-7f));
	s->mean[threadIdx.x] = mean;
	s->offset[threadIdx.x] =
		s->sign[threadIdx.x / 2] >> (threadIdx.x % 2 * 16) & 0x8000u
			? __half2float(mean)
			: -__half2float(mean);
}

/*
 * The same bits in all lanes of the token, as addition commutes.  In the first
 * two stages lanes halve the sums that they have, each keeping others.
 */
template <int K>
static __device__ __forceinline__ float token_power(const float y[K][4])
{
	bool upper = threadIdx.x & 2, odd = threadIdx.x & 1;
	float p[4], x, z;

#pragma unroll
	for (int e = 0; e < 4; e++) {
		p[e] = __fmul_rn(y[0][e], y[0][e]);
#pragma unroll
		for (int k = 1; k < K; k++)
			p[e] = __fmaf_rn(y[k][e], y[k][e], p[e]);
	}
	/* 8, and a lane has sums 0 and 1 or 2 and 3; 4, and it has one. */
	x = __fadd_rn(upper ? p[2] : p[0],
		      __shfl_xor_sync(ALL, upper ? p[0] : p[2], 2));
	z = __fadd_rn(upper ? p[3] : p[1],
		      __shfl_xor_sync(ALL, upper ? p[1] : p[3], 2));
	x = __fadd_rn(odd ? z : x, __shfl_xor_sync(ALL, odd ? x : z, 1));
	/* 2 and 1. */
	x = __fadd_rn(x, __shfl_xor_sync(ALL, x, 2));
	return __fadd_rn(x, __shfl_xor_sync(ALL, x, 1));
}

/* A stage between lanes; the product with 1 or -1 is exact. */
template <int K>
static __device__ __forceinline__ void stage_between(float y[K][4], int mask)
{
	float sign = threadIdx.x & mask ? -1.0f : 1.0f;

#pragma unroll
	for (int k = 0; k < K; k++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			y[k][e] =
				__fmaf_rn(y[k][e], sign,
					  __shfl_xor_sync(ALL, y[k][e], mask));
}

static __device__ __forceinline__ void butterfly(float *a, float *b)
{
	float sum = __fadd_rn(*a, *b);

	*b = __fsub_rn(*a, *b);
	*a = sum;
}

/* In the order of the definition: 64, 32, 16, 4, 2, 1, 8. */
template <int K>
static __device__ __forceinline__ void float_transform(float y[K][4])
{
#pragma unroll
	for (int half = K / 2; half; half /= 2)
#pragma unroll
		for (int k = 0; k < K; k++)
#pragma unroll
			for (int e = 0; e < 4 && !(k & half); e++)
				butterfly(&y[k][e], &y[k | half][e]);
	stage_between<K>(y, 1);
#pragma unroll
	for (int k = 0; k < K; k++) {
		butterfly(&y[k][0], &y[k][2]);
		butterfly(&y[k][1], &y[k][3]);
		butterfly(&y[k][0], &y[k][1]);
		butterfly(&y[k][2], &y[k][3]);
	}
	stage_between<K>(y, 2);
}

/*
 * Codes of the lane's channels, two bytes for each four, and what the levels
 * give.  An element that is not finite finds some code; the tile is refused
 * later.
 */
template <int K>
static __device__ __forceinline__ void
token_codes(const struct encode_shared *s, const float y[K][4], float gain,
	    unsigned char *codes, int *ret_dot, int *ret_square)
{
	int dot = 0, square = 0;

#pragma unroll
	for (int k = 0; k < K; k++) {
		uint32_t at[4], found[4], low, high;

#pragma unroll
		for (int e = 0; e < 4; e++) {
			at[e] = __float_as_uint(__fadd_rn(
				__fmul_rn(y[k][e], gain), ROUND_MAGIC));
			found[e] = *(const uint16_t *)((const char *)s->lut +
						       (at[e] >> 4 & 0x7fe));
		}
		/* Two levels, then two codes. */
		low = __byte_perm(found[0], found[1], 0x5140);
		high = __byte_perm(found[2], found[3], 0x5140);
		dot = __dp2a_lo((int)__byte_perm(at[0], at[1], 0x5410),
				(int)low, dot);
		dot = __dp2a_lo((int)__byte_perm(at[2], at[3], 0x5410),
				(int)high, dot);
		/* Four levels; four codes, that are packed. */
		at[0] = __byte_perm(low, high, 0x5410);
		at[1] = __byte_perm(low, high, 0x7632);
		square = __dp4a((int)at[0], (int)at[0], square);
		at[1] |= at[1] >> 4;
		*(uint16_t *)(codes + 8 * k) =
			(uint16_t)__byte_perm(at[1], 0, 0x4420);
	}
	*ret_dot = dot;
	*ret_square = square;
}

/* Sums over four lanes: that of @a in the first two, that of @b in the last. */
static __device__ __forceinline__ int sums_of_four(int a, int b)
{
	bool last = threadIdx.x & 2;
	int x = last ? b : a;

	x += __shfl_xor_sync(ALL, last ? a : b, 2);
	return x + __shfl_xor_sync(ALL, x, 1);
}

/* What a lane has of a token, less the mean, times the signs. */
template <int K, bool KEYS, bool F16>
static __device__ __forceinline__ void token_load(const struct encode_shared *s,
						  const unsigned char *row,
						  float y[K][4])
{
	const uint32_t l = threadIdx.x & 3;

#pragma unroll
	for (int k = 0; k < K; k++) {
		uint2 x = *(const uint2 *)(row + l * 8 + 32 * k);
		uint2 sign = *(const uint2 *)&s->sign[2 * l + 8 * k];

		elements_of_bits<F16>(x.x ^ sign.x, &y[k][0]);
		elements_of_bits<F16>(x.y ^ sign.y, &y[k][2]);
		if (KEYS) {
			float4 o = *(const float4 *)&s->offset[4 * l + 16 * k];

			y[k][0] = __fadd_rn(y[k][0], o.x);
			y[k][1] = __fadd_rn(y[k][1], o.y);
			y[k][2] = __fadd_rn(y[k][2], o.z);
			y[k][3] = __fadd_rn(y[k][3], o.w);
		}
	}
}

template <int K, bool KEYS, bool F16>
static __device__ __forceinline__ void encode_rows(struct encode_shared *s)
{
	constexpr uint32_t DIM = K * 16;
	const uint32_t l = threadIdx.x & 3;

#pragma unroll 1
	for (uint32_t t = threadIdx.x / 4; t < TOKENS; t += THREADS / 4) {
		unsigned char *row = s->raw + t * ROW_BYTES(DIM);
		float power, unit, gain;
		int dot, square;
		float y[K][4];

		token_load<K, KEYS, F16>(s, row, y);
		power = token_power<K>(y);
		unit = power >= H4_TINY ? __fmul_rn(__fsqrt_rn(power), H4_UNIT)
					: 0;
		gain = unit != 0 ? __frcp_rn(unit) : 0;
		float_transform<K>(y);
		/* All lanes have read the row. */
		__syncwarp();
		token_codes<K>(s, y, gain, row + 2 * l, &dot, &square);
		dot = sums_of_four(dot, square);
		if (l == 2)
			s->square[t] = dot;
		if (l)
			continue;
		s->power[t] = power;
		s->unit[t] = unit;
		s->dot[t] = dot;
	}
}

/* A thread a token: its scale, and what is lost of it in place of its unit. */
template <uint32_t DIM, bool KEYS>
static __device__ __forceinline__ void encode_scale(struct encode_shared *s)
{
	uint32_t t = threadIdx.x;
	float power, unit, dot, square, scale = 0, a;
	__half stored;

	if (t >= TOKENS)
		return;
	power = s->power[t];
	unit = s->unit[t];
	dot = __fmul_rn((float)s->dot[t], unit);
	square = (float)s->square[t];
	if (unit != 0)
		scale = KEYS ? __fmul_rn(H4_SCALE, __fdiv_rn(power, dot))
			     : __fmul_rn(H4_SCALE / DIM,
					 __fdiv_rn(dot, square));
	stored = __float2half_rn(scale);
	s->scale[t] = stored;
	a = __fmul_rn(__half2float(stored), H4_SCALE_INV);
	s->unit[t] = __fadd_rn(
		__fsub_rn(power, __fmul_rn(2, __fmul_rn(a, dot))),
		__fmul_rn(__fmul_rn(a, a), __fmul_rn(square, (float)DIM)));
}

/* The sum of 16 of 128; the first 16 lanes of a warp have it. */
static __device__ __forceinline__ float sum_of_tokens(const float *x)
{
	float sum = 0;

	for (uint32_t t = threadIdx.x % LANES; t < TOKENS; t += LANES)
		sum = __fadd_rn(sum, x[t]);
	for (int h = LANES / 2; h; h /= 2)
		sum = __fadd_rn(sum, __shfl_xor_sync(ALL, sum, h));
	return sum;
}

/* As syn_h4_error(). */
static __device__ __forceinline__ uint32_t error_of(float lost, float all)
{
	float error = 0;

	if (!isfinite(lost) || !isfinite(all))
		return SYN_GPU_NOT_FINITE;
	if (lost > 0)
		error = rintf(
			__fmul_rn(65536.0f, __fsqrt_rn(__fdiv_rn(lost, all))));
	return (uint32_t)(error < 65535.0f ? error : 65535.0f);
}

/* Vector @i of what is stored. */
template <uint32_t DIM, bool KEYS>
static __device__ __forceinline__ uint4
stored_vector(const struct encode_shared *s, uint32_t i)
{
	constexpr uint32_t mean = KEYS ? DIM / 8 : 0;
	constexpr uint32_t row = DIM / 32;

	if (KEYS && i < mean)
		return ((const uint4 *)s->mean)[i];
	i -= mean;
	if (i < TOKENS / 8)
		return ((const uint4 *)s->scale)[i];
	i -= TOKENS / 8;
	return *(const uint4 *)(s->raw + i / row * ROW_BYTES(DIM) +
				i % row * 16);
}

/* The share of this thread in the sum of what it stores. */
template <uint32_t DIM, bool KEYS>
static __device__ __forceinline__ uint32_t
encode_store(const struct encode_shared *s, char *dst)
{
	constexpr uint32_t vectors =
		((KEYS ? DIM * 2 : 0) + 256 + DIM * 64) / 16;
	uint32_t sum = 0;

	for (uint32_t i = threadIdx.x; i < vectors; i += THREADS) {
		uint4 v = stored_vector<DIM, KEYS>(s, i);

		((uint4 *)dst)[i] = v;
		sum += sum_vector(v, i * 4);
	}
	return sum;
}

template <int K, bool KEYS, bool F16>
static __device__ __forceinline__ uint32_t
encode_tile(struct encode_shared *s, const struct syn_gpu_job *job, uint32_t k)
{
	constexpr uint32_t DIM = K * 16;
	const char *src = (const char *)job->src + k * job->src_step;
	char *dst = (char *)job->dst + k * job->dst_step;
	uint32_t error = 0;

	sum_add(&s->raw_sum, encode_fetch<DIM>(s, src, job->token));
	__syncthreads();
	if (KEYS) {
		encode_mean<DIM, F16>(s);
		__syncthreads();
	}
	encode_rows<K, KEYS, F16>(s);
	__syncthreads();
	encode_scale<DIM, KEYS>(s);
	__syncthreads();
	if (threadIdx.x < 32)
		error = error_of(sum_of_tokens(s->unit),
				 sum_of_tokens(s->power));
	sum_add(&s->stored_sum, encode_store<DIM, KEYS>(s, dst));
	return error;
}

/* Returns the error, in the first thread. */
static __device__ uint32_t encode_any(struct encode_shared *s,
				      const struct syn_gpu_job *job, uint32_t k)
{
	switch (job->kind & 7) {
	case 0:
		return encode_tile<4, false, false>(s, job, k);
	case SYN_GPU_KEYS:
		return encode_tile<4, true, false>(s, job, k);
	case SYN_GPU_F16:
		return encode_tile<4, false, true>(s, job, k);
	case SYN_GPU_F16 | SYN_GPU_KEYS:
		return encode_tile<4, true, true>(s, job, k);
	case SYN_GPU_DIM128:
		return encode_tile<8, false, false>(s, job, k);
	case SYN_GPU_DIM128 | SYN_GPU_KEYS:
		return encode_tile<8, true, false>(s, job, k);
	case SYN_GPU_DIM128 | SYN_GPU_F16:
		return encode_tile<8, false, true>(s, job, k);
	default:
		return encode_tile<8, true, true>(s, job, k);
	}
}

/* Tile @k of the job: encodes or gathers it, and tells. */
static __device__ __forceinline__ void
encode_one(struct encode_shared *s, uint32_t k,
	   const struct syn_gpu_report *report)
{
	const struct syn_gpu_job *job = &s->job;
	bool coded = job->kind & SYN_GPU_H4;
	uint32_t error = 0;

	if (threadIdx.x == 0)
		s->raw_sum = s->stored_sum = 0;
	__syncthreads();
	if (coded)
		error = encode_any(s, job, k);
	else
		sum_add(&s->raw_sum, share_raw(job, k));
	__syncthreads();
	if (threadIdx.x)
		return;
	/* One write over the link. */
	((uint4 *)report->told)[job->tile + k * job->tile_step] = make_uint4(
		s->raw_sum, coded ? s->stored_sum : s->raw_sum, error, 0);
}

/* All tiles of a job; @s is not used by anybody yet, or any more. */
static __device__ __forceinline__ void
encode_job(struct encode_shared *s, const struct syn_gpu_job *job,
	   const struct syn_gpu_report *report)
{
	__syncthreads();
	if (threadIdx.x < sizeof(*job) / sizeof(uint4))
		((uint4 *)&s->job)[threadIdx.x] =
			((const uint4 *)job)[threadIdx.x];
	__syncthreads();
	for (uint32_t k = 0; k < s->job.nr; k++)
		encode_one(s, k, report);
}

#endif
