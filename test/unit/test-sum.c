/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/codec/sum.h: every form gives the sums that the header defines. */
#include "kernels/codec/sum.c"

#include "test/test.h"

#define WORDS_MAX 4096u

/* The definition, word for word. */
static uint32_t reference(const uint32_t *w, size_t nr)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t x = (w[i] ^ ((i + 1) * 0x9e3779b1u)) * 0x85ebca77u;

		sum += x ^ (x >> 15);
	}
	return sum;
}

static uint64_t seed = 88172645463325252u;

static uint32_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static uint32_t source[WORDS_MAX + 16] __attribute__((aligned(64)));
static uint32_t target[WORDS_MAX + 16] __attribute__((aligned(64)));

static void fill(uint32_t *words, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		words[i] = next_random();
}

static unsigned int forms(const struct sum_form **ret)
{
	unsigned int nr = 0;

	ret[nr++] = &sum_plain;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		ret[nr++] = &sum_avx2;
	if (__builtin_cpu_supports("avx512f"))
		ret[nr++] = &sum_avx512;
#endif
	return nr;
}

/* Lengths around every vector width, at every offset of a word. */
static void check_form(const struct sum_form *form, size_t nr, size_t shift)
{
	const uint32_t *from = source + shift;
	uint32_t *to = target + shift;
	uint32_t want = reference(from, nr);

	assert_int_equal(form->sum(from, nr * 4), want);
	memset(target, 0xa5, sizeof(target));
	assert_int_equal(form->copy(to, from, nr * 4, false), want);
	assert_memory_equal(to, from, nr * 4);
	assert_int_equal(to[nr], 0xa5a5a5a5);
	if (shift)
		assert_int_equal(to[-1], 0xa5a5a5a5);
}

static void test_every_form_is_the_definition(void **state)
{
	const struct sum_form *form[4];
	unsigned int nr_forms = forms(form);

	fill(source, WORDS_MAX + 16);
	for (unsigned int i = 0; i < nr_forms; i++)
		for (size_t nr = 0; nr < 100; nr++)
			for (size_t shift = 0; shift < 16; shift++)
				check_form(form[i], nr, shift);
}

static void test_streamed_copies(void **state)
{
	const struct sum_form *form[4];
	unsigned int nr_forms = forms(form);

	fill(source, WORDS_MAX);
	for (unsigned int i = 0; i < nr_forms; i++) {
		memset(target, 0, sizeof(target));
		assert_int_equal(
			form[i]->copy(target, source, WORDS_MAX * 4, true),
			reference(source, WORDS_MAX));
		assert_memory_equal(target, source, WORDS_MAX * 4);
	}
}

/* Known answers, so that a change of the definition cannot go unseen. */
static void test_golden(void **state)
{
	const uint32_t zero[1] = { 0 };
	uint32_t count[64];

	for (uint32_t i = 0; i < 64; i++)
		count[i] = i;
	assert_int_equal(syn_sum(zero, 0), 0);
	assert_int_equal(syn_sum(zero, 4), reference(zero, 1));
	assert_int_equal(syn_sum(zero, 4), 0xfc4bc3d3u);
	assert_int_equal(syn_sum(count, sizeof(count)), 0xa2bbe859u);
}

static void test_any_change_of_one_word_is_seen(void **state)
{
	uint32_t want;

	fill(source, 256);
	want = syn_sum(source, 1024);
	for (unsigned int bit = 0; bit < 256 * 32; bit++) {
		source[bit / 32] ^= 1u << (bit % 32);
		assert_int_not_equal(syn_sum(source, 1024), want);
		source[bit / 32] ^= 1u << (bit % 32);
	}
	for (unsigned int i = 0; i < 10000; i++) {
		uint32_t old = source[i % 256];

		source[i % 256] = next_random();
		if (source[i % 256] != old)
			assert_int_not_equal(syn_sum(source, 1024), want);
		source[i % 256] = old;
	}
}

static void test_position_counts(void **state)
{
	uint32_t want;

	fill(source, 256);
	want = syn_sum(source, 1024);
	for (unsigned int i = 0; i < 255; i++) {
		uint32_t old = source[i];

		source[i] = source[i + 1];
		source[i + 1] = old;
		assert_int_not_equal(syn_sum(source, 1024), want);
		source[i + 1] = source[i];
		source[i] = old;
	}
	assert_int_equal(syn_sum(source, 1024), want);
	assert_int_not_equal(syn_sum(source + 1, 1020), syn_sum(source, 1020));
	/* The same words one place further. */
	memmove(source + 1, source, 1020);
	assert_int_not_equal(syn_sum(source + 1, 1020), syn_sum(source, 1020));
}

/* A page of zeroes is not a page of nothing. */
static void test_length_counts(void **state)
{
	memset(source, 0, sizeof(source));
	assert_int_not_equal(syn_sum(source, 256), syn_sum(source, 512));
}

static void check_tiles(size_t bytes, size_t tile_bytes)
{
	uint32_t by_copy[64];
	uint32_t by_sum[64];

	memset(target, 0, sizeof(target));
	syn_sum_copy(target, source, bytes, tile_bytes, by_copy);
	syn_sum_tiles(source, bytes, tile_bytes, by_sum);
	assert_memory_equal(target, source, bytes);
	for (size_t i = 0; i < bytes / tile_bytes; i++) {
		const uint32_t *tile = source + i * tile_bytes / 4;

		assert_int_equal(by_copy[i], reference(tile, tile_bytes / 4));
		assert_int_equal(by_sum[i], by_copy[i]);
	}
}

static void test_tiles(void **state)
{
	fill(source, WORDS_MAX);
	check_tiles(4096, 4096);
	check_tiles(4096, 64);
	check_tiles(4096, 1024);
	check_tiles(WORDS_MAX * 4, 2048);
	check_tiles(60, 4);
	check_tiles(132, 44);
}

/* Large enough to go past the cache, in tiles that allow it and that do not. */
static void test_large_pages(void **state)
{
	const size_t bytes = 4 * SUM_STREAM_BYTES;
	unsigned char *from = malloc(bytes + 64);
	unsigned char *to = malloc(bytes + 64);
	uint32_t *sums = malloc(bytes / 64 * sizeof(*sums));

	assert_non_null(from);
	assert_non_null(to);
	assert_non_null(sums);
	fill((uint32_t *)(void *)from, bytes / 4);
	for (size_t shift = 0; shift < 64; shift += 4) {
		memset(to, 0, bytes + 64);
		syn_sum_copy(to + shift, from, bytes, bytes / 4, sums);
		assert_memory_equal(to + shift, from, bytes);
		assert_int_equal(sums[3],
				 reference((const void *)(from + bytes / 4 * 3),
					   bytes / 16));
	}
	free(from);
	free(to);
	free(sums);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_form_is_the_definition),
		cmocka_unit_test(test_streamed_copies),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_any_change_of_one_word_is_seen),
		cmocka_unit_test(test_position_counts),
		cmocka_unit_test(test_length_counts),
		cmocka_unit_test(test_tiles),
		cmocka_unit_test(test_large_pages),
	};

	return test_main(tests);
}
