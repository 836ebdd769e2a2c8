/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4 with AVX-512, of Ice Lake and later: VBMI and VNNI.
 *
 * A row is 128 elements: a token of 128 channels, or two of 64.  Comments
 * write c0 to c6 for the bits of an element's index in its row.
 */
#include "kernels/codec/element.h"
#include "kernels/codec/h4-form.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>

#include "core/base/base.h"

#define TARGET                                                                 \
	__attribute__((                                                        \
		target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define INLINE TARGET __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")

#define ROW   128u /* elements */
#define REGS  8u   /* vectors of 16 floats in a row */
#define BATCH 16u  /* tokens whose scalars share a vector */

INLINE __m512 elements_load(const uint16_t *at, const struct h4_shape s)
{
	__m256i raw = _mm256_loadu_si256((const void *)at);

	if (s.f16)
		return _mm512_cvtph_ps(raw);
	return _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}

/* Of vector @i of a row: 1 or -1. */
INLINE __m512 signs_of(uint32_t i, const struct h4_shape s)
{
	uint32_t channel = i * 16 % s.dim;
	uint64_t bits = channel < 64 ? H4_SIGNS_0 : H4_SIGNS_1;

	return _mm512_mask_blend_ps((__mmask16)(bits >> channel % 64),
				    _mm512_set1_ps(1), _mm512_set1_ps(-1));
}

INLINE __m512 add_either(__m512 a, __m512 b, bool ints)
{
	if (!ints)
		return _mm512_add_ps(a, b);
	return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a),
						    _mm512_castps_si512(b)));
}

/*
 * The sums of 16 vectors, of floats in the order that the definition gives:
 * each step adds the upper half of what is left of a vector to the lower.
 */
INLINE __m512 fold(const void *vectors, bool ints)
{
	const __m512 *v = vectors;
	__m512 quad[4];
	__m512 a, b;

	UNROLL for (uint32_t i = 0; i < 4; i++)
	{
		a = add_either(_mm512_shuffle_f32x4(v[i], v[i + 4], 0x44),
			       _mm512_shuffle_f32x4(v[i], v[i + 4], 0xee),
			       ints);
		b = add_either(_mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0x44),
			       _mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0xee),
			       ints);
		quad[i] = add_either(_mm512_shuffle_f32x4(a, b, 0x88),
				     _mm512_shuffle_f32x4(a, b, 0xdd), ints);
	}
	a = add_either(_mm512_shuffle_ps(quad[0], quad[1], 0x44),
		       _mm512_shuffle_ps(quad[0], quad[1], 0xee), ints);
	b = add_either(_mm512_shuffle_ps(quad[2], quad[3], 0x44),
		       _mm512_shuffle_ps(quad[2], quad[3], 0xee), ints);
	return add_either(_mm512_shuffle_ps(a, b, 0x88),
			  _mm512_shuffle_ps(a, b, 0xdd), ints);
}

INLINE void butterfly(__m512 *a, __m512 *b)
{
	__m512 sum = _mm512_add_ps(*a, *b);

	*b = _mm512_sub_ps(*a, *b);
	*a = sum;
}

/* A lane keeps its place; the product with 1 or -1 is exact. */
#define LANE_STAGE(x, signs, shuffled)                                         \
	_mm512_fmadd_ps(x,                                                     \
			_mm512_mask_blend_ps(signs, _mm512_set1_ps(1),         \
					     _mm512_set1_ps(-1)),              \
			shuffled)

/* All stages but that of c3. */
INLINE void transform(__m512 *x, const struct h4_shape s)
{
	if (s.dim == ROW)
		UNROLL for (uint32_t i = 0; i < 4; i++)
			butterfly(&x[i], &x[i + 4]);
	UNROLL for (uint32_t i = 0; i < 8; i++) if (!(i & 2))
		butterfly(&x[i], &x[i + 2]);
	UNROLL for (uint32_t i = 0; i < 8; i += 2) butterfly(&x[i], &x[i + 1]);
	UNROLL for (uint32_t i = 0; i < 8; i++)
	{
		__m512 v = x[i];

		v = LANE_STAGE(v, 0xf0f0, _mm512_shuffle_f32x4(v, v, 0xb1));
		v = LANE_STAGE(v, 0xcccc, _mm512_permute_ps(v, 0x4e));
		x[i] = LANE_STAGE(v, 0xaaaa, _mm512_permute_ps(v, 0xb1));
	}
}

/**
 * struct batch - 16 tokens on their way.
 * @x:		transformed.
 * @power:	of each token, 16 partial sums of its squares.
 * @dot:	of its products with levels.
 * @square:	of the squares of its levels.
 * @gain:	of each token: its elements times that are 32nds of a level.
 */
struct batch {
	__m512 x[BATCH * ROW / 16];
	__m512 power[BATCH];
	__m512i dot[BATCH];
	__m512i square[BATCH];
	float gain[BATCH];
};

/**
 * struct scalars - of the tokens of a batch.
 * @power:	the sum of squares.
 * @unit:	a 32nd of a level; 0 where there is no scale.
 */
struct scalars {
	__m512 power;
	__m512 unit;
};

/**
 * struct frame - of a tile.
 * @signs:	of a row.
 * @mean:	of a row, times the sign.
 */
struct frame {
	__m512 signs[REGS];
	__m512 mean[REGS];
};

INLINE void row_rotate(__m512 *ret, __m512 *ret_power, const uint16_t *src,
		       const struct frame *f, const struct h4_shape s)
{
	uint32_t per_token = s.dim / 16;
	__m512 power = _mm512_setzero_ps();
	__m512 x[REGS];

	UNROLL for (uint32_t i = 0; i < REGS; i++)
	{
		__m512 v = elements_load(src + i * 16, s);

		if (s.keys)
			x[i] = _mm512_fmsub_ps(v, f->signs[i], f->mean[i]);
		else
			x[i] = _mm512_mul_ps(v, f->signs[i]);
		power = i % per_token ? _mm512_fmadd_ps(x[i], x[i], power)
				      : _mm512_mul_ps(x[i], x[i]);
		if (i % per_token == per_token - 1)
			ret_power[i / per_token] = power;
	}
	transform(x, s);
	UNROLL for (uint32_t i = 0; i < REGS; i++) ret[i] = x[i];
}

/* The code of a whole number of units of a level, by its low seven bits. */
static const uint8_t code_up[128] = {
	[0 ... 9] = 8,	  [10 ... 19] = 9,  [20 ... 30] = 10, [31 ... 42] = 11,
	[43 ... 55] = 12, [56 ... 71] = 13, [72 ... 93] = 14, [94 ... 127] = 15,
};
static const uint8_t code_down[128] = {
	[0 ... 33] = 0,	 [34 ... 55] = 1,  [56 ... 71] = 2,   [72 ... 84] = 3,
	[85 ... 96] = 4, [97 ... 107] = 5, [108 ... 117] = 6, [118 ... 127] = 7,
};

INLINE __m512i codes_of(__m512i units)
{
	__m512i up =
		_mm512_permutex2var_epi8(_mm512_loadu_si512(code_up), units,
					 _mm512_loadu_si512(code_up + 64));
	__m512i down =
		_mm512_permutex2var_epi8(_mm512_loadu_si512(code_down), units,
					 _mm512_loadu_si512(code_down + 64));

	return _mm512_mask_mov_epi8(up, _mm512_movepi8_mask(units), down);
}

INLINE __m512i levels_of(__m512i codes)
{
	const __m128i table = _mm_setr_epi8(-107, -81, -63, -49, -37, -25, -15,
					    -5, 5, 15, 25, 37, 49, 63, 81, 107);

	return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes);
}

/* Where in two vectors of words, a row as it is packed, byte b of it is. */
#define NIBBLES(at)                                                            \
	(at), (at) + 2, (at) + 16, (at) + 18, (at) + 32, (at) + 34, (at) + 48, \
		(at) + 50
static const uint8_t nibbles_order[64] = {
	NIBBLES(0),  NIBBLES(4),  NIBBLES(8),  NIBBLES(12),
	NIBBLES(64), NIBBLES(68), NIBBLES(72), NIBBLES(76),
};

/*
 * The stage of c3, whose halves of a vector come from memory twice each, and
 * with that without a shuffle; then 32nds of a level.
 */
INLINE __m512i vector_scale(const float *x, __m512 gain)
{
	__m512 low = _mm512_castpd_ps(
		_mm512_broadcast_f64x4(_mm256_loadu_pd((const void *)x)));
	__m512 high = _mm512_castpd_ps(
		_mm512_broadcast_f64x4(_mm256_loadu_pd((const void *)(x + 8))));

	return _mm512_cvtps_epi32(
		_mm512_mul_ps(LANE_STAGE(high, 0xff00, low), gain));
}

/* 32 elements, eight bytes of two vectors in turn. */
INLINE __m512i row_scale(const __m512 *x, __m512 gain)
{
	return _mm512_packs_epi32(vector_scale((const float *)&x[0], gain),
				  vector_scale((const float *)&x[1], gain));
}

/* Half of a row; @ret_dot and @ret_square are of these 64 elements. */
INLINE __m512i half_quantise(const __m512 *x, __m512 gain, __m512i *ret_dot,
			     __m512i *ret_square)
{
	__m512i zero = _mm512_setzero_si512();
	__m512i lo = row_scale(x, gain);
	__m512i hi = row_scale(x + 2, gain);
	__m512i codes = codes_of(
		_mm512_packs_epi16(_mm512_srai_epi16(lo, H4_FRACTION),
				   _mm512_srai_epi16(hi, H4_FRACTION)));
	__m512i levels = levels_of(codes);
	__m512i sizes = _mm512_abs_epi8(levels);

	/* Times 256, for want of an unpacking with signs. */
	*ret_dot = _mm512_dpwssd_epi32(*ret_dot, lo,
				       _mm512_unpacklo_epi8(zero, levels));
	*ret_dot = _mm512_dpwssd_epi32(*ret_dot, hi,
				       _mm512_unpackhi_epi8(zero, levels));
	*ret_square = _mm512_dpbusd_epi32(*ret_square, sizes, sizes);
	return _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x1001));
}

INLINE void row_quantise(unsigned char *ret_codes, __m512i *ret_dot,
			 __m512i *ret_square, const __m512 *x,
			 const float *gain, __m512i order,
			 const struct h4_shape s)
{
	uint32_t last = ROW / s.dim - 1;
	__m512i dot[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
	__m512i square[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
	__m512i lo =
		half_quantise(x, _mm512_set1_ps(gain[0]), &dot[0], &square[0]);
	__m512i hi = half_quantise(x + 4, _mm512_set1_ps(gain[last]),
				   &dot[last], &square[last]);

	for (uint32_t i = 0; i <= last; i++) {
		ret_dot[i] = _mm512_srai_epi32(dot[i], 8);
		ret_square[i] = square[i];
	}
	_mm512_storeu_si512(ret_codes, _mm512_permutex2var_epi8(lo, order, hi));
}

INLINE struct scalars batch_gain(struct batch *b)
{
	__m512 power = fold(b->power, false);
	__mmask16 some =
		_mm512_cmp_ps_mask(power, _mm512_set1_ps(H4_TINY), _CMP_GE_OQ);
	__m512 unit = _mm512_maskz_mul_ps(some, _mm512_sqrt_ps(power),
					  _mm512_set1_ps(H4_UNIT));

	_mm512_storeu_ps(b->gain,
			 _mm512_maskz_div_ps(some, _mm512_set1_ps(1), unit));
	return (struct scalars){ power, unit };
}

/* Stores the scales; returns what is lost. */
INLINE __m512 batch_scale(const struct batch *b, struct scalars of,
			  void *ret_scale, const struct h4_shape s)
{
	__mmask16 some =
		_mm512_cmp_ps_mask(of.unit, _mm512_setzero_ps(), _CMP_NEQ_UQ);
	__m512 dot = _mm512_mul_ps(
		_mm512_cvtepi32_ps(_mm512_castps_si512(fold(b->dot, true))),
		of.unit);
	__m512 square =
		_mm512_cvtepi32_ps(_mm512_castps_si512(fold(b->square, true)));
	__m512 scale, loss;
	__m256i stored;

	if (s.keys)
		scale = _mm512_mul_ps(_mm512_set1_ps(H4_SCALE),
				      _mm512_div_ps(of.power, dot));
	else
		scale = _mm512_mul_ps(_mm512_set1_ps(H4_SCALE / (float)s.dim),
				      _mm512_div_ps(dot, square));
	stored = _mm512_cvtps_ph(_mm512_maskz_mov_ps(some, scale),
				 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	_mm256_storeu_si256(ret_scale, stored);
	scale = _mm512_mul_ps(_mm512_cvtph_ps(stored),
			      _mm512_set1_ps(H4_SCALE_INV));
	dot = _mm512_mul_ps(_mm512_set1_ps(2), _mm512_mul_ps(scale, dot));
	loss = _mm512_sub_ps(of.power, dot);
	square = _mm512_mul_ps(square, _mm512_set1_ps((float)s.dim));
	return _mm512_add_ps(
		loss, _mm512_mul_ps(_mm512_mul_ps(scale, scale), square));
}

/* The mean of a row's channels over the tile, stored and as it is stored. */
INLINE void frame_mean(struct frame *f, void *ret_mean, const uint16_t *src,
		       const struct h4_shape s)
{
	__m512 sum[REGS];

	UNROLL for (uint32_t i = 0; i < s.dim / 16; i++) sum[i] =
		_mm512_setzero_ps();
	for (uint32_t t = 0; t < SYN_TILE_TOKENS; t++, src += s.dim)
		UNROLL for (uint32_t i = 0; i < s.dim / 16; i++) sum[i] =
			_mm512_add_ps(sum[i], elements_load(src + i * 16, s));
	UNROLL for (uint32_t i = 0; i < REGS; i++)
	{
		uint32_t k = i % (s.dim / 16);
		__m256i stored = _mm512_cvtps_ph(
			_mm512_mul_ps(sum[k],
				      _mm512_set1_ps(1.0f / SYN_TILE_TOKENS)),
			_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);

		_mm256_storeu_si256((__m256i *)ret_mean + k, stored);
		f->mean[i] =
			_mm512_mul_ps(_mm512_cvtph_ps(stored), f->signs[i]);
	}
}

/* The sum of the 16 tokens' values of each batch. */
INLINE float fold_one(__m512 v)
{
	__m512 all[BATCH];

	for (uint32_t i = 0; i < BATCH; i++)
		all[i] = v;
	return _mm512_cvtss_f32(fold(all, false));
}

INLINE int tile_encode(unsigned char *dst, const uint16_t *src,
		       uint16_t *ret_error, const struct h4_shape s)
{
	unsigned char *scales = dst + (s.keys ? s.dim * 2 : 0);
	unsigned char *codes = scales + SYN_TILE_TOKENS * 2;
	const uint32_t per_row = ROW / s.dim;
	__m512i order = _mm512_loadu_si512(nibbles_order);
	__m512 loss = _mm512_setzero_ps();
	__m512 power = _mm512_setzero_ps();
	struct scalars of, before;
	struct frame f;
	struct batch b;

	for (uint32_t i = 0; i < REGS; i++)
		f.signs[i] = signs_of(i, s);
	if (s.keys)
		frame_mean(&f, dst, src, s);
	for (uint32_t done = 0; done < SYN_TILE_TOKENS; done += BATCH) {
		for (uint32_t i = 0; i < BATCH; i += per_row, src += ROW)
			row_rotate(&b.x[i * s.dim / 16], &b.power[i], src, &f,
				   s);
		of = batch_gain(&b);
		/* While the root is on its way. */
		if (done) {
			loss = _mm512_add_ps(
				loss, batch_scale(&b, before, scales, s));
			scales += BATCH * 2;
		}
		for (uint32_t i = 0; i < BATCH; i += per_row, codes += ROW / 2)
			row_quantise(codes, &b.dot[i], &b.square[i],
				     &b.x[i * s.dim / 16], &b.gain[i], order,
				     s);
		power = _mm512_add_ps(power, of.power);
		before = of;
	}
	loss = _mm512_add_ps(loss, batch_scale(&b, before, scales, s));
	return syn_h4_error(fold_one(loss), fold_one(power), ret_error);
}

TARGET static int avx512_encode(void *dst, const void *src,
				const struct syn_component *c,
				uint16_t *ret_error)
{
#define CALL(s) tile_encode(dst, src, ret_error, s)
	H4_FOR_SHAPE(c, CALL)
#undef CALL
}

/*
 * Decoding is exact integer arithmetic, so the stages of the transform come in
 * the order that costs least: c0 and c1 while elements are unpacked, c2 to c5
 * with an exchange of lanes and vectors each, c6 while they are widened, with
 * the signs of the channels.  What a vector's lanes hold moves along:
 *
 *	bytes		c1 c6 c2 c3 c4 c5	two vectors: c0
 *	words		   c6 c2 c3 c4 c5	four vectors: c0 c1
 *	words		   c6 c0 c1 c2 c3	four vectors: c4 c5
 *	floats		      c0 c1 c2 c3	eight vectors: c4 c5 c6
 *
 * With 64 channels c5 stands in the place of c6, and the token in that of c5.
 */
#define BYTES(at, far) (at), (at) + 1, (at) + (far), (at) + (far) + 1
#define BYTES_8(at, far)                                                       \
	BYTES(at, far), BYTES((at) + 2, far), BYTES((at) + 4, far),            \
		BYTES((at) + 6, far), BYTES((at) + 8, far),                    \
		BYTES((at) + 10, far), BYTES((at) + 12, far),                  \
		BYTES((at) + 14, far)
static const uint8_t bytes_order_128[64] = { BYTES_8(0, 32), BYTES_8(16, 32) };
static const uint8_t bytes_order_64[64] = { BYTES_8(0, 16), BYTES_8(32, 16) };

/**
 * struct unframe - of a tile.
 * @order:	of the bytes of a row.
 * @signs:	of the last stage: pairs of words, for a vector of floats.
 * @mean:	for a vector of floats.
 */
struct unframe {
	__m512i order;
	__m512i signs[REGS];
	__m512 mean[REGS];
};

/* Lanes of @a and @b that differ in one bit of their index change places. */
#define EXCHANGE(name, mask, up, down)                                         \
	INLINE void name(__m512i *a, __m512i *b)                               \
	{                                                                      \
		__m512i low = up(*a, mask, *b);                                \
                                                                               \
		*b = down(*b, (__mmask16)~mask, *a);                           \
		*a = low;                                                      \
	}

#define UP_1(a, m, b)	_mm512_mask_shuffle_epi32(a, m, b, 0xa0)
#define DOWN_1(b, m, a) _mm512_mask_shuffle_epi32(b, m, a, 0xf5)
#define UP_2(a, m, b)	_mm512_mask_shuffle_epi32(a, m, b, 0x44)
#define DOWN_2(b, m, a) _mm512_mask_shuffle_epi32(b, m, a, 0xee)
#define UP_4(a, m, b)	_mm512_mask_shuffle_i32x4(a, m, b, b, 0xa0)
#define DOWN_4(b, m, a) _mm512_mask_shuffle_i32x4(b, m, a, a, 0xf5)
#define UP_8(a, m, b)	_mm512_mask_shuffle_i32x4(a, m, b, b, 0x44)
#define DOWN_8(b, m, a) _mm512_mask_shuffle_i32x4(b, m, a, a, 0xee)

EXCHANGE(exchange_1, 0xaaaa, UP_1, DOWN_1)
EXCHANGE(exchange_2, 0xcccc, UP_2, DOWN_2)
EXCHANGE(exchange_4, 0xf0f0, UP_4, DOWN_4)
EXCHANGE(exchange_8, 0xff00, UP_8, DOWN_8)

INLINE void words_butterfly(__m512i *a, __m512i *b)
{
	__m512i sum = _mm512_add_epi16(*a, *b);

	*b = _mm512_sub_epi16(*a, *b);
	*a = sum;
}

/* 64 codes, one a byte: the sums and differences of neighbours. */
INLINE void codes_widen(__m512i codes, __m512i *ret_sum, __m512i *ret_diff)
{
	__m512i levels = levels_of(codes);
	/* Only the second factor has a sign; the difference needs none. */
	__m512i shifted = _mm512_xor_si512(levels, _mm512_set1_epi8(-128));

	*ret_sum = _mm512_maddubs_epi16(_mm512_set1_epi8(1), levels);
	*ret_diff =
		_mm512_maddubs_epi16(shifted, _mm512_set1_epi16((short)0xff01));
}

/* Vector i of @x: bit 0 becomes c4, bit 1 c5 or the token. */
INLINE void row_transform(__m512i *x, __m512i packed, const struct h4_shape s)
{
	const __m512i nibble = _mm512_set1_epi8(15);

	codes_widen(_mm512_and_si512(packed, nibble), &x[0], &x[2]);
	codes_widen(_mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble),
		    &x[1], &x[3]);
	words_butterfly(&x[0], &x[1]);
	words_butterfly(&x[2], &x[3]);
	/* c2 comes, c0 goes. */
	exchange_1(&x[0], &x[1]);
	exchange_1(&x[2], &x[3]);
	words_butterfly(&x[0], &x[1]);
	words_butterfly(&x[2], &x[3]);
	/* c3 comes, c1 goes. */
	exchange_2(&x[0], &x[2]);
	exchange_2(&x[1], &x[3]);
	words_butterfly(&x[0], &x[2]);
	words_butterfly(&x[1], &x[3]);
	/* c4 comes, c2 goes. */
	exchange_4(&x[0], &x[1]);
	exchange_4(&x[2], &x[3]);
	words_butterfly(&x[0], &x[1]);
	words_butterfly(&x[2], &x[3]);
	/* c5 or the token comes, c3 goes. */
	exchange_8(&x[0], &x[2]);
	exchange_8(&x[1], &x[3]);
	if (s.dim == ROW) {
		words_butterfly(&x[0], &x[2]);
		words_butterfly(&x[1], &x[3]);
	}
}

INLINE void elements_store(uint16_t *at, __m512 x, bool clamp,
			   const struct h4_shape s)
{
	__m512i bits, odd;

	if (s.f16) {
		if (clamp) {
			x = _mm512_min_ps(x, _mm512_set1_ps(SYN_F16_MAX));
			x = _mm512_max_ps(x, _mm512_set1_ps(-SYN_F16_MAX));
		}
		_mm256_storeu_si256(
			(void *)at,
			_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT |
						   _MM_FROUND_NO_EXC));
		return;
	}
	bits = _mm512_castps_si512(x);
	odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16),
			       _mm512_set1_epi32(1));
	bits = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
	bits = _mm512_srli_epi32(_mm512_add_epi32(bits, odd), 16);
	_mm256_storeu_si256((void *)at, _mm512_cvtepi32_epi16(bits));
}

INLINE void row_decode(uint16_t *dst, const unsigned char *codes,
		       const float *scale, const struct unframe *f, bool clamp,
		       const struct h4_shape s)
{
	__m512 first = _mm512_set1_ps(scale[0]);
	__m512 second = s.dim == ROW ? first : _mm512_set1_ps(scale[1]);
	__m512i x[4];

	row_transform(
		x, _mm512_permutexvar_epi8(f->order, _mm512_loadu_si512(codes)),
		s);
	UNROLL for (uint32_t i = 0; i < REGS; i++)
	{
		/* Bits of i in the order of channels: c4 c5 c6, c4 c5 token. */
		uint32_t from = s.dim == ROW ? i & 3 : (i & 1) | (i >> 1 & 2);
		__m512 v = _mm512_cvtepi32_ps(
			_mm512_madd_epi16(x[from], f->signs[i]));
		__m512 a = from & 2 ? second : first;

		/* The product is exact: it has 24 bits. */
		v = s.keys ? _mm512_fmadd_ps(v, a, f->mean[i])
			   : _mm512_mul_ps(v, a);
		elements_store(dst + i * 16, v, clamp, s);
	}
}

INLINE void unframe_init(struct unframe *f, const unsigned char *mean,
			 const struct h4_shape s)
{
	f->order = _mm512_loadu_si512(s.dim == ROW ? bytes_order_128
						   : bytes_order_64);
	UNROLL for (uint32_t i = 0; i < REGS; i++)
	{
		uint32_t k = i % (s.dim / 16);
		uint32_t channel = k * 16;
		uint64_t bits = channel < 64 ? H4_SIGNS_0 : H4_SIGNS_1;
		__mmask16 negative = (__mmask16)(bits >> channel % 64);
		/* The upper half of the channels has the difference. */
		int plus = k < s.dim / 32 ? 0x00010001 : (int)0xffff0001;
		int minus = k < s.dim / 32 ? (int)0xffffffff : 0x0001ffff;

		f->signs[i] = _mm512_mask_blend_epi32(negative,
						      _mm512_set1_epi32(plus),
						      _mm512_set1_epi32(minus));
		if (s.keys)
			f->mean[i] = _mm512_cvtph_ps(
				_mm256_loadu_si256((const __m256i *)mean + k));
	}
}

INLINE void rows_decode(uint16_t *dst, const unsigned char *codes,
			const float *scale, const struct unframe *f, bool clamp,
			const struct h4_shape s)
{
	for (uint32_t i = 0; i < SYN_TILE_TOKENS; i += ROW / s.dim) {
		row_decode(dst, codes, scale + i, f, clamp, s);
		dst += ROW;
		codes += ROW / 2;
	}
}

/*
 * Nothing can leave the range of fp16 while the means stay below 2^15 and the
 * scales at or below 2^9: 128 levels of 107, times 2, are less than 2^15.
 */
INLINE bool range_is_safe(const unsigned char *at, uint32_t nr, short most)
{
	__m512i limit = _mm512_set1_epi16(most);
	__mmask32 over = 0;

	for (uint32_t i = 0; i < nr; i += 32) {
		__m512i size = _mm512_and_si512(_mm512_loadu_si512(at + i * 2),
						_mm512_set1_epi16(0x7fff));

		over |= _mm512_cmpgt_epi16_mask(size, limit);
	}
	return over == 0;
}

INLINE void tile_decode(uint16_t *dst, const unsigned char *src,
			const struct h4_shape s)
{
	const unsigned char *scales = src + (s.keys ? s.dim * 2 : 0);
	const unsigned char *codes = scales + SYN_TILE_TOKENS * 2;
	float scale[SYN_TILE_TOKENS];
	struct unframe f;
	bool safe;

	unframe_init(&f, src, s);
	for (uint32_t i = 0; i < SYN_TILE_TOKENS; i += 16)
		_mm512_storeu_ps(
			scale + i,
			_mm512_mul_ps(_mm512_cvtph_ps(_mm256_loadu_si256(
					      (const void *)(scales + i * 2))),
				      _mm512_set1_ps(H4_SCALE_INV)));
	safe = range_is_safe(scales, SYN_TILE_TOKENS, 0x6000) &&
	       (!s.keys || range_is_safe(src, s.dim, 0x7800));
	if (safe || !s.f16)
		rows_decode(dst, codes, scale, &f, false, s);
	else
		rows_decode(dst, codes, scale, &f, true, s);
}

TARGET static void avx512_decode(void *dst, const void *src,
				 const struct syn_component *c)
{
#define CALL(s) tile_decode(dst, src, s)
	H4_FOR_SHAPE(c, CALL)
#undef CALL
}

const struct syn_h4_form syn_h4_avx512 = { "avx512", avx512_encode,
					   avx512_decode };

#endif
