/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levels of codec h4 as bytes, from their codes.
 *
 * A level is odd, 2 v + 1, and v + 64 fits seven bits: that is what there is of
 * it here.
 */
#ifndef SYN_KERNELS_CUDA_LEVELS_CUH
#define SYN_KERNELS_CUDA_LEVELS_CUH

#include <stdint.h>

#include "kernels/codec/h4-form.h"

/*
 * v + 64 of the codes that are below 8 and of those that are not, a byte each
 * and the first one lowest.
 */
static __device__ constexpr uint64_t levels_of(bool above)
{
	const int level[] = { H4_LEVELS };
	uint64_t r = 0;

	for (int i = 0; i < 8; i++) {
		int v = above ? level[i] / 2 : -1 - level[7 - i] / 2;

		r |= (uint64_t)(v + 64) << 8 * i;
	}
	return r;
}

/*
 * As __byte_perm(), but a selector above 7 fills a byte with the sign of one:
 * with zeros here.
 */
static __device__ __forceinline__ uint32_t byte_select(const uint32_t bytes[2],
						       uint32_t selectors)
{
	uint32_t r;

	asm("prmt.b32 %0, %1, %2, %3;"
	    : "=r"(r)
	    : "r"(bytes[0]), "r"(bytes[1]), "r"(selectors));
	return r;
}

/**
 * struct levels - of the codes below 8 and of the others, for byte_select().
 * @below:	v + 64, see levels_of().
 * @above:	likewise.
 */
struct levels {
	uint32_t below[2];
	uint32_t above[2];
};

static __device__ __forceinline__ struct levels levels_make(void)
{
	constexpr uint64_t below = levels_of(false), above = levels_of(true);

	return { { (uint32_t)below, below >> 32 },
		 { (uint32_t)above, above >> 32 } };
}

/* v + 64 of eight codes, the first four in @ret[0]. */
static __device__ __forceinline__ void
eight_levels(const struct levels *of, uint32_t codes, uint32_t ret[2])
{
	uint32_t other = codes ^ 0x88888888u;

	ret[0] = byte_select(of->below, codes) | byte_select(of->above, other);
	ret[1] = byte_select(of->below, codes >> 16) |
		 byte_select(of->above, other >> 16);
}

#endif
