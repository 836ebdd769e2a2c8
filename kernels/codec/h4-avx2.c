/* SPDX-License-Identifier: Apache-2.0 */
/* Codec h4 with AVX2, and the FMA and fp16 conversions that come with it. */
#include "kernels/codec/element.h"
#include "kernels/codec/h4-form.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>

#include "core/base/base.h"

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET __attribute__((always_inline)) static inline
#define UNROLL _Pragma("GCC unroll 16")
#define NEAR   (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

#define BATCH 8u /* tokens whose scalars share a vector */
#define REGS  (H4_DIM_MAX / 8)

/**
 * struct frame - what all tokens of a tile share.
 * @signs:	1 or -1 of each channel.
 * @words:	the same.
 * @mean:	of each channel; encoding: times the sign.
 */
struct frame {
	_Alignas(32) float signs[H4_DIM_MAX];
	_Alignas(32) int16_t words[H4_DIM_MAX];
	_Alignas(32) float mean[H4_DIM_MAX];
};

/**
 * struct batch - 8 tokens on their way.
 * @x:		transformed.
 * @power:	the sum of squares.
 * @unit:	a 32nd of a level; 0 where there is no scale.
 * @gain:	its inverse.
 * @dot:	32nds times levels.
 * @square:	squares of levels.
 */
struct batch {
	_Alignas(32) float x[BATCH][H4_DIM_MAX];
	_Alignas(32) float power[BATCH];
	_Alignas(32) float unit[BATCH];
	_Alignas(32) float gain[BATCH];
	_Alignas(32) int32_t dot[BATCH];
	_Alignas(32) int32_t square[BATCH];
};

INLINE __m256 elements_load(const uint16_t *at, const struct h4_shape s)
{
	__m128i raw = _mm_loadu_si128((const void *)at);

	if (s.f16)
		return _mm256_cvtph_ps(raw);
	return _mm256_castsi256_ps(
		_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}

INLINE void elements_store(uint16_t *at, __m256 x, const struct h4_shape s)
{
	__m256i bits, odd;

	if (s.f16) {
		x = _mm256_min_ps(x, _mm256_set1_ps(SYN_F16_MAX));
		x = _mm256_max_ps(x, _mm256_set1_ps(-SYN_F16_MAX));
		_mm_storeu_si128((void *)at, _mm256_cvtps_ph(x, NEAR));
		return;
	}
	bits = _mm256_castps_si256(x);
	odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16),
			       _mm256_set1_epi32(1));
	bits = _mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff));
	bits = _mm256_srli_epi32(_mm256_add_epi32(bits, odd), 16);
	bits = _mm256_permute4x64_epi64(_mm256_packus_epi32(bits, bits), 0x08);
	_mm_storeu_si128((void *)at, _mm256_castsi256_si128(bits));
}

INLINE void frame_signs(struct frame *f)
{
	for (uint32_t i = 0; i < H4_DIM_MAX; i++) {
		f->words[i] = syn_h4_negative(i) ? -1 : 1;
		f->signs[i] = f->words[i];
	}
}

INLINE float fold(__m256 low, __m256 high)
{
	__m256 eight = _mm256_add_ps(low, high);
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
				 _mm256_extractf128_ps(eight, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

INLINE int32_t fold_ints(__m256i v)
{
	__m128i four = _mm_add_epi32(_mm256_castsi256_si128(v),
				     _mm256_extracti128_si256(v, 1));
	__m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));

	return _mm_cvtsi128_si32(
		_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* Butterflies of vectors @far apart. */
INLINE void vectors_stage(__m256 *x, uint32_t nr, uint32_t far)
{
	UNROLL for (uint32_t i = 0; i < nr; i++)
	{
		__m256 a = x[i];

		if (i & far)
			continue;
		x[i] = _mm256_add_ps(a, x[i + far]);
		x[i + far] = _mm256_sub_ps(a, x[i + far]);
	}
}

INLINE __m256 lanes_transform(__m256 v)
{
	const __m256 four = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
	const __m256 two = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
	const __m256 one = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);

	/* The product with 1 or -1 is exact. */
	v = _mm256_fmadd_ps(v, four, _mm256_permute2f128_ps(v, v, 0x01));
	v = _mm256_fmadd_ps(v, two, _mm256_permute_ps(v, 0x4e));
	return _mm256_fmadd_ps(v, one, _mm256_permute_ps(v, 0xb1));
}

INLINE float token_rotate(float *ret, const uint16_t *src,
			  const struct frame *f, const struct h4_shape s)
{
	const uint32_t nr = s.dim / 8;
	__m256 power[2];
	__m256 x[REGS];

	UNROLL for (uint32_t i = 0; i < nr; i++)
	{
		__m256 v = elements_load(src + i * 8, s);
		__m256 sign = _mm256_load_ps(f->signs + i * 8);

		x[i] = s.keys ? _mm256_fmsub_ps(v, sign,
						_mm256_load_ps(f->mean + i * 8))
			      : _mm256_mul_ps(v, sign);
		power[i % 2] =
			i < 2 ? _mm256_mul_ps(x[i], x[i])
			      : _mm256_fmadd_ps(x[i], x[i], power[i % 2]);
	}
	if (s.dim == 128)
		vectors_stage(x, nr, 8);
	vectors_stage(x, nr, 4);
	vectors_stage(x, nr, 2);
	UNROLL for (uint32_t i = 0; i < nr; i++) x[i] = lanes_transform(x[i]);
	vectors_stage(x, nr, 1);
	UNROLL for (uint32_t i = 0; i < nr; i++)
		_mm256_store_ps(ret + i * 8, x[i]);
	return fold(power[0], power[1]);
}

/*
 * By eights of a level's units: how many thresholds are below, and the one
 * within, less one.
 */
INLINE __m256i codes_of(__m256i units)
{
	const __m256i below = _mm256_broadcastsi128_si256(_mm_setr_epi8(
		8, 8, 9, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15));
	const __m256i within = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(127, 9, 19, 30, 127, 42, 127, 55, 127, 71, 127,
			      93, 127, 127, 127, 127));
	__m256i negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), units);
	__m256i size = _mm256_xor_si256(units, negative);
	__m256i cell = _mm256_and_si256(_mm256_srli_epi16(size, 3),
					_mm256_set1_epi8(15));
	__m256i codes = _mm256_sub_epi8(
		_mm256_shuffle_epi8(below, cell),
		_mm256_cmpgt_epi8(size, _mm256_shuffle_epi8(within, cell)));

	return _mm256_xor_si256(
		codes, _mm256_and_si256(negative, _mm256_set1_epi8(15)));
}

INLINE __m256i levels_of(__m256i codes)
{
	return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(
					   -107, -81, -63, -49, -37, -25, -15,
					   -5, 5, 15, 25, 37, 49, 63, 81, 107)),
				   codes);
}

/* 16 elements in 32nds of a level. */
INLINE __m256i elements_scale(const float *x, __m256 gain)
{
	__m256 low = _mm256_mul_ps(_mm256_load_ps(x), gain);
	__m256 high = _mm256_mul_ps(_mm256_load_ps(x + 8), gain);

	return _mm256_packs_epi32(_mm256_cvtps_epi32(low),
				  _mm256_cvtps_epi32(high));
}

/* 32 elements: four of each vector in turn, in each half of a vector. */
INLINE void elements_quantise(unsigned char *ret_codes, const float *x,
			      __m256 gain, __m256i *dot, __m256i *square)
{
	__m256i zero = _mm256_setzero_si256();
	__m256i low = elements_scale(x, gain);
	__m256i high = elements_scale(x + 16, gain);
	__m256i codes = codes_of(
		_mm256_packs_epi16(_mm256_srai_epi16(low, H4_FRACTION),
				   _mm256_srai_epi16(high, H4_FRACTION)));
	__m256i levels = levels_of(codes);
	__m256i sizes = _mm256_abs_epi8(levels);
	__m256i v;

	/* Times 256, for want of an unpacking with signs. */
	v = _mm256_madd_epi16(low, _mm256_unpacklo_epi8(zero, levels));
	*dot = _mm256_add_epi32(*dot, v);
	v = _mm256_madd_epi16(high, _mm256_unpackhi_epi8(zero, levels));
	*dot = _mm256_add_epi32(*dot, v);
	v = _mm256_madd_epi16(_mm256_maddubs_epi16(sizes, sizes),
			      _mm256_set1_epi16(1));
	*square = _mm256_add_epi32(*square, v);
	v = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
	v = _mm256_packus_epi16(v, v);
	_mm_storeu_si128((void *)ret_codes,
			 _mm_unpacklo_epi16(_mm256_castsi256_si128(v),
					    _mm256_extracti128_si256(v, 1)));
}

INLINE void token_quantise(unsigned char *ret_codes, struct batch *b,
			   uint32_t i, const struct h4_shape s)
{
	__m256 gain = _mm256_broadcast_ss(&b->gain[i]);
	__m256i dot = _mm256_setzero_si256();
	__m256i square = _mm256_setzero_si256();

	UNROLL for (uint32_t k = 0; k < s.dim; k += 32) elements_quantise(
		ret_codes + k / 2, &b->x[i][k], gain, &dot, &square);
	b->dot[i] = fold_ints(_mm256_srai_epi32(dot, 8));
	b->square[i] = fold_ints(square);
}

INLINE void batch_gain(struct batch *b)
{
	__m256 power = _mm256_load_ps(b->power);
	__m256 some = _mm256_cmp_ps(power, _mm256_set1_ps(H4_TINY), _CMP_GE_OQ);
	__m256 unit =
		_mm256_mul_ps(_mm256_sqrt_ps(power), _mm256_set1_ps(H4_UNIT));

	unit = _mm256_and_ps(unit, some);
	_mm256_store_ps(b->unit, unit);
	_mm256_store_ps(
		b->gain,
		_mm256_and_ps(_mm256_div_ps(_mm256_set1_ps(1), unit), some));
}

/* Stores the scales; returns what is lost. */
INLINE __m256 batch_scale(const struct batch *b, void *ret_scale,
			  const struct h4_shape s)
{
	__m256 power = _mm256_load_ps(b->power);
	__m256 unit = _mm256_load_ps(b->unit);
	__m256 dot =
		_mm256_cvtepi32_ps(_mm256_load_si256((const void *)b->dot));
	__m256 square =
		_mm256_cvtepi32_ps(_mm256_load_si256((const void *)b->square));
	__m256 some = _mm256_cmp_ps(unit, _mm256_setzero_ps(), _CMP_NEQ_UQ);
	__m256 scale;
	__m128i stored;

	dot = _mm256_mul_ps(dot, unit);
	if (s.keys)
		scale = _mm256_mul_ps(_mm256_set1_ps(H4_SCALE),
				      _mm256_div_ps(power, dot));
	else
		scale = _mm256_mul_ps(_mm256_set1_ps(H4_SCALE / (float)s.dim),
				      _mm256_div_ps(dot, square));
	stored = _mm256_cvtps_ph(_mm256_and_ps(scale, some), NEAR);
	_mm_storeu_si128(ret_scale, stored);
	scale = _mm256_mul_ps(_mm256_cvtph_ps(stored),
			      _mm256_set1_ps(H4_SCALE_INV));
	dot = _mm256_mul_ps(_mm256_set1_ps(2), _mm256_mul_ps(scale, dot));
	square = _mm256_mul_ps(square, _mm256_set1_ps((float)s.dim));
	square = _mm256_mul_ps(_mm256_mul_ps(scale, scale), square);
	return _mm256_add_ps(_mm256_sub_ps(power, dot), square);
}

INLINE void frame_mean(struct frame *f, unsigned char *ret_mean,
		       const uint16_t *src, const struct h4_shape s)
{
	for (uint32_t i = 0; i < s.dim; i += 32) {
		__m256 sum[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(),
				  _mm256_setzero_ps(), _mm256_setzero_ps() };

		for (uint32_t t = 0; t < SYN_TILE_TOKENS; t++)
			UNROLL for (uint32_t k = 0; k < 4; k++) sum[k] =
				_mm256_add_ps(sum[k],
					      elements_load(src + t * s.dim +
								    i + k * 8,
							    s));
		for (uint32_t k = 0; k < 4; k++) {
			uint32_t at = i + k * 8;
			__m128i stored = _mm256_cvtps_ph(
				_mm256_mul_ps(
					sum[k],
					_mm256_set1_ps(1.0f / SYN_TILE_TOKENS)),
				NEAR);

			_mm_storeu_si128((void *)(ret_mean + at * 2), stored);
			_mm256_store_ps(
				f->mean + at,
				_mm256_mul_ps(_mm256_cvtph_ps(stored),
					      _mm256_load_ps(f->signs + at)));
		}
	}
}

INLINE int tile_encode(unsigned char *dst, const uint16_t *src,
		       uint16_t *ret_error, const struct h4_shape s)
{
	unsigned char *scales = dst + (s.keys ? s.dim * 2 : 0);
	unsigned char *codes = scales + SYN_TILE_TOKENS * 2;
	__m256 zero = _mm256_setzero_ps();
	__m256 loss[2] = { zero, zero };
	__m256 power[2] = { zero, zero };
	struct frame f;
	struct batch b;

	frame_signs(&f);
	if (s.keys)
		frame_mean(&f, dst, src, s);
	for (uint32_t done = 0; done < SYN_TILE_TOKENS; done += BATCH) {
		uint32_t half = done / BATCH % 2;

		for (uint32_t i = 0; i < BATCH; i++, src += s.dim)
			b.power[i] = token_rotate(b.x[i], src, &f, s);
		batch_gain(&b);
		for (uint32_t i = 0; i < BATCH; i++, codes += s.dim / 2)
			token_quantise(codes, &b, i, s);
		loss[half] = _mm256_add_ps(
			loss[half], batch_scale(&b, scales + done * 2, s));
		power[half] =
			_mm256_add_ps(power[half], _mm256_load_ps(b.power));
	}
	return syn_h4_error(fold(loss[0], loss[1]), fold(power[0], power[1]),
			    ret_error);
}

TARGET static int avx2_encode(void *dst, const void *src,
			      const struct syn_component *c,
			      uint16_t *ret_error){
#define CALL(s) tile_encode(dst, src, ret_error, s)
	H4_FOR_SHAPE(c, CALL)
#undef CALL
}

INLINE void words_stage(__m256i *x, uint32_t nr, uint32_t far)
{
	UNROLL for (uint32_t i = 0; i < nr; i++)
	{
		__m256i a = x[i];

		if (i & far)
			continue;
		x[i] = _mm256_add_epi16(a, x[i + far]);
		x[i + far] = _mm256_sub_epi16(a, x[i + far]);
	}
}

/* @negative: the words whose value is subtracted. */
INLINE __m256i words_add(__m256i v, __m256i shuffled, __m256i negative)
{
	return _mm256_add_epi16(_mm256_sign_epi16(v, negative), shuffled);
}

INLINE __m256i words_transform(__m256i v)
{
	const __m256i eight = _mm256_setr_epi32(0x10001, 0x10001, 0x10001,
						0x10001, -1, -1, -1, -1);
	const __m256i four = _mm256_setr_epi32(0x10001, 0x10001, -1, -1,
					       0x10001, 0x10001, -1, -1);
	const __m256i two = _mm256_setr_epi32(0x10001, -1, 0x10001, -1, 0x10001,
					      -1, 0x10001, -1);
	const __m256i one = _mm256_set1_epi32((int)0xffff0001);
	const __m256i swap = _mm256_broadcastsi128_si256(_mm_setr_epi8(
		2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));

	v = words_add(v, _mm256_permute4x64_epi64(v, 0x4e), eight);
	v = words_add(v, _mm256_shuffle_epi32(v, 0x4e), four);
	v = words_add(v, _mm256_shuffle_epi32(v, 0xb1), two);
	return words_add(v, _mm256_shuffle_epi8(v, swap), one);
}

/* 32 codes to two vectors of levels, in the order of channels. */
INLINE void codes_unpack(__m256i *ret, const unsigned char *codes)
{
	const __m128i nibble = _mm_set1_epi8(15);
	__m128i packed = _mm_loadu_si128((const void *)codes);
	__m128i even = _mm_and_si128(packed, nibble);
	__m128i odd = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
	__m256i levels = levels_of(_mm256_set_m128i(
		_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd)));

	ret[0] = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(levels));
	ret[1] = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(levels, 1));
}

INLINE void token_decode(uint16_t *dst, const unsigned char *codes,
			 __m256 scale, const struct frame *f,
			 const struct h4_shape s)
{
	const uint32_t nr = s.dim / 16;
	__m256i x[H4_DIM_MAX / 16];

	UNROLL for (uint32_t i = 0; i < nr; i += 2)
		codes_unpack(&x[i], codes + i * 8);
	if (s.dim == 128)
		words_stage(x, nr, 4);
	words_stage(x, nr, 2);
	words_stage(x, nr, 1);
	UNROLL for (uint32_t i = 0; i < nr; i++)
	{
		__m256i v = _mm256_sign_epi16(
			words_transform(x[i]),
			_mm256_load_si256((const void *)(f->words + i * 16)));
		__m256 low = _mm256_cvtepi32_ps(
			_mm256_cvtepi16_epi32(_mm256_castsi256_si128(v)));
		__m256 high = _mm256_cvtepi32_ps(
			_mm256_cvtepi16_epi32(_mm256_extracti128_si256(v, 1)));
		const float *mean = f->mean + i * 16;

		/* The product is exact: it has 24 bits. */
		low = _mm256_mul_ps(low, scale);
		high = _mm256_mul_ps(high, scale);
		if (s.keys) {
			low = _mm256_add_ps(low, _mm256_load_ps(mean));
			high = _mm256_add_ps(high, _mm256_load_ps(mean + 8));
		}
		elements_store(dst + i * 16, low, s);
		elements_store(dst + i * 16 + 8, high, s);
	}
}

INLINE void tile_decode(uint16_t *dst, const unsigned char *src,
			const struct h4_shape s)
{
	const unsigned char *scales = src + (s.keys ? s.dim * 2 : 0);
	const unsigned char *codes = scales + SYN_TILE_TOKENS * 2;
	_Alignas(32) float scale[SYN_TILE_TOKENS];
	struct frame f;

	frame_signs(&f);
	for (uint32_t i = 0; s.keys && i < s.dim; i += 8)
		_mm256_store_ps(f.mean + i,
				_mm256_cvtph_ps(_mm_loadu_si128(
					(const void *)(src + i * 2))));
	for (uint32_t i = 0; i < SYN_TILE_TOKENS; i += 8)
		_mm256_store_ps(
			scale + i,
			_mm256_mul_ps(_mm256_cvtph_ps(_mm_loadu_si128(
					      (const void *)(scales + i * 2))),
				      _mm256_set1_ps(H4_SCALE_INV)));
	for (uint32_t i = 0; i < SYN_TILE_TOKENS; i++)
		token_decode(dst + i * s.dim, codes + i * s.dim / 2,
			     _mm256_broadcast_ss(&scale[i]), &f, s);
}

TARGET static void avx2_decode(void *dst, const void *src,
			       const struct syn_component *c)
{
#define CALL(s) tile_decode(dst, src, s)
	H4_FOR_SHAPE(c, CALL)
#undef CALL
}

const struct syn_h4_form syn_h4_avx2 = { "avx2", avx2_encode, avx2_decode };

#endif
