/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of fp16, which not every compiler has a type for. */
#ifndef SYN_TEST_GPU_HALF_H
#define SYN_TEST_GPU_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The nearest one, ties to even; what is too large is infinite. */
static inline uint16_t half_of(float x)
{
	uint32_t sign;
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	sign = bits >> 16 & 0x8000;
	bits &= 0x7fffffff;
	if (bits > 0x7f800000) /* no number */
		return (uint16_t)(sign | 0x7e00);
	if (bits >= 0x477ff000) /* half a step above 65504 */
		return (uint16_t)(sign | 0x7c00);
	if (bits < 0x38800000) /* units of 2^-24 */
		return (uint16_t)(sign | (uint32_t)lrintf(fabsf(x) * 0x1p24f));
	return (uint16_t)(sign |
			  (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
}

#endif
