/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of tiles: plain C, and AVX2 and AVX-512 forms where the CPU has them. */
#include "kernels/codec/sum.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/base/base.h"

#define SUM_GOLDEN 0x9e3779b1u
#define SUM_PRIME  0x85ebca77u
#define SUM_SHIFT  15

/*
 * Stores that bypass the cache save reading the destination first, which is
 * worth it once a copy is too large to be consumed from the cache anyway.
 */
#define SUM_STREAM_BYTES (64u << 10)

/*
 * Bytes that were not in the cache, of small pages: the hardware's own
 * prefetching stops at the end of each page.
 */
#define SUM_AHEAD_BYTES 4096u

static inline void sum_ahead(const unsigned char *at)
{
	__builtin_prefetch(at + SUM_AHEAD_BYTES);
}

static uint32_t sum_mix(uint32_t word, size_t i)
{
	uint32_t x = (word ^ ((uint32_t)(i + 1) * SUM_GOLDEN)) * SUM_PRIME;

	return x ^ (x >> SUM_SHIFT);
}

/*
 * Words [from, nr) of a tile; copied too unless @dst is NULL.  A word is loaded
 * once: what is stored is what is summed.
 */
static uint32_t sum_words(unsigned char *dst, const unsigned char *src,
			  size_t from, size_t nr)
{
	const uint32_t *words = (const void *)src;
	uint32_t sum = 0;

	for (size_t i = from; i < nr; i++) {
		uint32_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);

		if (dst)
			memcpy(dst + i * sizeof(word), &word, sizeof(word));
		sum += sum_mix(word, i);
	}
	return sum;
}

static uint32_t sum_tile_plain(const void *src, size_t bytes)
{
	return sum_words(NULL, src, 0, bytes / 4);
}

static uint32_t copy_tile_plain(void *dst, const void *src, size_t bytes,
				bool stream)
{
	return sum_words(dst, src, 0, bytes / 4);
}

#if defined(__x86_64__)

/*
 * Each lane keeps its own (i + 1) * SUM_GOLDEN and steps it by a constant, so
 * that one multiplication a word remains.  The empty asm makes the loaded value
 * opaque: the compiler cannot load it again for the second use.
 */
#define SUM_STEPS(lanes) ((uint32_t)(lanes)*SUM_GOLDEN)

__attribute__((target("avx2"))) static inline __m256i
mix_avx2(__m256i sum, __m256i word, __m256i pos)
{
	__m256i x = _mm256_mullo_epi32(_mm256_xor_si256(word, pos),
				       _mm256_set1_epi32((int)SUM_PRIME));

	x = _mm256_xor_si256(x, _mm256_srli_epi32(x, SUM_SHIFT));
	return _mm256_add_epi32(sum, x);
}

__attribute__((target("avx2"))) static inline __m256i start_avx2(void)
{
	return _mm256_mullo_epi32(_mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8),
				  _mm256_set1_epi32((int)SUM_GOLDEN));
}

__attribute__((target("avx2"))) static inline uint32_t fold_avx2(__m256i a)
{
	uint32_t lane[8];
	uint32_t sum = 0;

	_mm256_storeu_si256((void *)lane, a);
	for (unsigned int i = 0; i < 8; i++)
		sum += lane[i];
	return sum;
}

__attribute__((target("avx2"))) static uint32_t sum_tile_avx2(const void *src,
							      size_t bytes)
{
	const __m256i step = _mm256_set1_epi32((int)SUM_STEPS(8));
	const unsigned char *from = src;
	__m256i pos = start_avx2();
	__m256i a = _mm256_setzero_si256();
	__m256i b = a;
	size_t at;

	for (at = 0; at + 64 <= bytes; at += 64) {
		sum_ahead(from + at);
		a = mix_avx2(a, _mm256_loadu_si256((const void *)(from + at)),
			     pos);
		pos = _mm256_add_epi32(pos, step);
		b = mix_avx2(b,
			     _mm256_loadu_si256((const void *)(from + at + 32)),
			     pos);
		pos = _mm256_add_epi32(pos, step);
	}
	return fold_avx2(_mm256_add_epi32(a, b)) +
	       sum_words(NULL, from, at / 4, bytes / 4);
}

__attribute__((target("avx2"))) static uint32_t
copy_tile_avx2(void *dst, const void *src, size_t bytes, bool stream)
{
	const __m256i step = _mm256_set1_epi32((int)SUM_STEPS(8));
	const unsigned char *from = src;
	unsigned char *to = dst;
	__m256i pos = start_avx2();
	__m256i a = _mm256_setzero_si256();
	size_t at;

	for (at = 0; at + 32 <= bytes; at += 32) {
		__m256i v = _mm256_loadu_si256((const void *)(from + at));

		__asm__("" : "+x"(v));
		if (stream)
			_mm256_stream_si256((void *)(to + at), v);
		else
			_mm256_storeu_si256((void *)(to + at), v);
		a = mix_avx2(a, v, pos);
		pos = _mm256_add_epi32(pos, step);
	}
	return fold_avx2(a) + sum_words(to, from, at / 4, bytes / 4);
}

__attribute__((target("avx512f"))) static inline __m512i
mix_avx512(__m512i sum, __m512i word, __m512i pos)
{
	__m512i x = _mm512_mullo_epi32(_mm512_xor_si512(word, pos),
				       _mm512_set1_epi32((int)SUM_PRIME));

	x = _mm512_xor_si512(x, _mm512_srli_epi32(x, SUM_SHIFT));
	return _mm512_add_epi32(sum, x);
}

__attribute__((target("avx512f"))) static inline __m512i start_avx512(void)
{
	return _mm512_mullo_epi32(_mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9,
						    10, 11, 12, 13, 14, 15, 16),
				  _mm512_set1_epi32((int)SUM_GOLDEN));
}

/* Unsigned: what the compiler's own reduction adds is signed, and overflows. */
__attribute__((target("avx512f"))) static inline uint32_t fold_avx512(__m512i a)
{
	uint32_t lane[16];
	uint32_t sum = 0;

	_mm512_storeu_si512(lane, a);
	for (unsigned int i = 0; i < 16; i++)
		sum += lane[i];
	return sum;
}

__attribute__((target("avx512f"))) static uint32_t
sum_tile_avx512(const void *src, size_t bytes)
{
	const __m512i step = _mm512_set1_epi32((int)SUM_STEPS(16));
	const unsigned char *from = src;
	__m512i pos = start_avx512();
	__m512i a = _mm512_setzero_si512();
	__m512i b = a;
	size_t at;

	for (at = 0; at + 128 <= bytes; at += 128) {
		sum_ahead(from + at);
		sum_ahead(from + at + 64);
		a = mix_avx512(a, _mm512_loadu_si512(from + at), pos);
		pos = _mm512_add_epi32(pos, step);
		b = mix_avx512(b, _mm512_loadu_si512(from + at + 64), pos);
		pos = _mm512_add_epi32(pos, step);
	}
	return fold_avx512(_mm512_add_epi32(a, b)) +
	       sum_words(NULL, from, at / 4, bytes / 4);
}

__attribute__((target("avx512f"))) static uint32_t
copy_tile_avx512(void *dst, const void *src, size_t bytes, bool stream)
{
	const __m512i step = _mm512_set1_epi32((int)SUM_STEPS(16));
	const unsigned char *from = src;
	unsigned char *to = dst;
	__m512i pos = start_avx512();
	__m512i a = _mm512_setzero_si512();
	size_t at;

	for (at = 0; at + 64 <= bytes; at += 64) {
		__m512i v = _mm512_loadu_si512(from + at);

		__asm__("" : "+v"(v));
		if (stream)
			_mm512_stream_si512((void *)(to + at), v);
		else
			_mm512_storeu_si512(to + at, v);
		a = mix_avx512(a, v, pos);
		pos = _mm512_add_epi32(pos, step);
	}
	return fold_avx512(a) + sum_words(to, from, at / 4, bytes / 4);
}

#endif

/**
 * struct sum_form - one way to compute the same sums.
 * @sum:	of one tile.
 * @copy:	of one tile, copying it; with @stream past the cache, which
 *		wants @dst aligned to SUM_STREAM_ALIGN.
 */
struct sum_form {
	uint32_t (*sum)(const void *src, size_t bytes);
	uint32_t (*copy)(void *dst, const void *src, size_t bytes, bool stream);
};

#define SUM_STREAM_ALIGN 64u

static const struct sum_form sum_plain = { sum_tile_plain, copy_tile_plain };

#if defined(__x86_64__)

static const struct sum_form sum_avx2 = { sum_tile_avx2, copy_tile_avx2 };
static const struct sum_form sum_avx512 = { sum_tile_avx512, copy_tile_avx512 };

static const struct sum_form *sum_pick(void)
{
	if (__builtin_cpu_supports("avx512f"))
		return &sum_avx512;
	return __builtin_cpu_supports("avx2") ? &sum_avx2 : &sum_plain;
}

/* Streamed stores are weakly ordered; the caller's release must cover them. */
static void sum_drain(void)
{
	_mm_sfence();
}

#else

static const struct sum_form *sum_pick(void)
{
	return &sum_plain;
}

static void sum_drain(void)
{
}

#endif

uint32_t syn_sum(const void *tile, size_t bytes)
{
	return sum_pick()->sum(tile, bytes);
}

void syn_sum_copy(void *dst, const void *src, size_t bytes, size_t tile_bytes,
		  uint32_t *ret_sums)
{
	const struct sum_form *form = sum_pick();
	bool stream = bytes >= SUM_STREAM_BYTES &&
		      ((uintptr_t)dst | tile_bytes) % SUM_STREAM_ALIGN == 0;

	for (size_t at = 0; at < bytes; at += tile_bytes)
		*ret_sums++ =
			form->copy((char *)dst + at, (const char *)src + at,
				   tile_bytes, stream);
	if (stream)
		sum_drain();
}

void syn_sum_tiles(const void *src, size_t bytes, size_t tile_bytes,
		   uint32_t *ret_sums)
{
	const struct sum_form *form = sum_pick();

	for (size_t at = 0; at < bytes; at += tile_bytes)
		*ret_sums++ = form->sum((const char *)src + at, tile_bytes);
}
