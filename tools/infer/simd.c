/* SPDX-License-Identifier: Apache-2.0 */
/* Which arithmetic this CPU gets, and the layouts all of them share. */
#include "tools/infer/simd.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#if defined(__x86_64__)
static bool cpu_has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool cpu_has_avx512(void)
{
	return cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512cd") &&
	       __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
}
#endif

unsigned int syn_simd_all(const struct syn_simd **ret, unsigned int max)
{
	const struct syn_simd *all[3];
	unsigned int nr = 0;

#if defined(__x86_64__)
	if (cpu_has_avx512())
		all[nr++] = &syn_simd_avx512;
	if (cpu_has_avx2())
		all[nr++] = &syn_simd_avx2;
#endif
	all[nr++] = &syn_simd_plain;
	nr = syn_min(nr, max);
	memcpy(ret, all, nr * sizeof(*ret));
	return nr;
}

const struct syn_simd *syn_simd_best(void)
{
	const struct syn_simd *best;

	(void)syn_simd_all(&best, 1);
	return best;
}

/* [nr][depth] to [nr / width][depth][width]. */
static void interleave(const float *x, unsigned int nr, unsigned int depth,
		       unsigned int width, float *ret)
{
	for (unsigned int n = 0; n < nr; n += width) {
		unsigned int here = syn_min(width, nr - n);
		float *to = ret + (size_t)n * depth;

		if (here < width)
			memset(to, 0, sizeof(*to) * width * depth);
		for (unsigned int i = 0; i < here; i++)
			for (unsigned int d = 0; d < depth; d++)
				to[(size_t)d * width + i] =
					x[(size_t)(n + i) * depth + d];
	}
}

void syn_simd_pack(const float *x, unsigned int rows, unsigned int depth,
		   float *ret)
{
	interleave(x, rows, depth, SYN_SIMD_ROWS, ret);
}

void syn_simd_pack_panels(const float *x, unsigned int columns,
			  unsigned int depth, float *ret)
{
	interleave(x, columns, depth, SYN_SIMD_PANEL, ret);
}

float *syn_simd_floats(size_t nr)
{
	uint64_t bytes;
	float *ret;

	if (syn_mul_overflow(nr, sizeof(*ret), &bytes) ||
	    bytes > SIZE_MAX - SYN_SIMD_ALIGN || syn_fault())
		return NULL;
	bytes = syn_align_up(bytes, SYN_SIMD_ALIGN);
	ret = aligned_alloc(SYN_SIMD_ALIGN, bytes);
	if (ret)
		memset(ret, 0, bytes);
	return ret;
}
