/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the forms of codec h4 share, and how a test gets at each of them.
 *
 * Documentation/arithmetic.rst is the definition; the constants are explained
 * there.  Levels are odd integers, so that the transform of a coded token is
 * an exact integer in any order of operations, and even: half of it has 13
 * bits, and its product with a scale of 11 bits is exact in fp32.
 */
#ifndef SYN_KERNELS_CODEC_H4_FORM_H
#define SYN_KERNELS_CODEC_H4_FORM_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/codec.h>

#define H4_DIM_MAX 128u

/* Units of a level: 39.125 to the root mean square of a token. */
#define H4_LEVELS     SYN_H4_LEVELS
#define H4_THRESHOLDS 10, 20, 31, 43, 56, 72, 94

/* Elements are compared in units of a level, and summed in 32nds of one. */
#define H4_FRACTION 5
#define H4_UNIT	    0x1.a2c2a8p-11f /* 1 / (32 * 39.125) */

/* A token below this sum of squares has no scale that fp16 can hold. */
#define H4_TINY 0x1p-60f

/* What everybody needs who reads a stored tile is in synapse/codec.h. */
#define H4_SCALE     SYN_H4_SCALE
#define H4_SCALE_INV SYN_H4_SCALE_INV
#define H4_SIGNS_0   SYN_H4_SIGNS_0
#define H4_SIGNS_1   SYN_H4_SIGNS_1

static inline bool syn_h4_negative(uint32_t channel)
{
	uint64_t bits = channel < 64 ? H4_SIGNS_0 : H4_SIGNS_1;

	return bits >> (channel % 64) & 1;
}

/* Level of a code of four bits. */
static inline int syn_h4_level(uint32_t code)
{
	static const int levels[] = { H4_LEVELS };

	return code & 8 ? levels[code & 7] : -levels[7 - (code & 7)];
}

/*
 * The transform of @dim numbers, its stages in the order of the definition.  It
 * is its own transpose.
 */
void syn_h4_transform(float *x, uint32_t dim);

/*
 * What is lost of a tile and what there is of it, to the error in units of
 * 2^-16.  -EDOM: one is not finite.
 */
int syn_h4_error(float lost, float all, uint16_t *ret_error);

/**
 * struct h4_shape - what differs between tiles; constant where it is used.
 * @dim:	64 or 128.
 * @keys:	a mean is taken away.
 * @f16:	elements, else bf16.
 */
struct h4_shape {
	uint32_t dim;
	bool keys;
	bool f16;
};

#define H4_SHAPE(d, k, f)                                                      \
	((struct h4_shape){ .dim = (d), .keys = (k), .f16 = (f) })

/* The last statement of a function: one copy of its code for each shape. */
#define H4_FOR_SHAPE(c, call)                                                  \
	switch ((c)->dim + ((c)->role == SYN_ROLE_K ? 1 : 0) +                 \
		((c)->dtype == SYN_DTYPE_F16 ? 2 : 0)) {                       \
	case 64:                                                               \
		return call(H4_SHAPE(64, false, false));                       \
	case 65:                                                               \
		return call(H4_SHAPE(64, true, false));                        \
	case 66:                                                               \
		return call(H4_SHAPE(64, false, true));                        \
	case 67:                                                               \
		return call(H4_SHAPE(64, true, true));                         \
	case 128:                                                              \
		return call(H4_SHAPE(128, false, false));                      \
	case 129:                                                              \
		return call(H4_SHAPE(128, true, false));                       \
	case 130:                                                              \
		return call(H4_SHAPE(128, false, true));                       \
	default:                                                               \
		return call(H4_SHAPE(128, true, true));                        \
	}

/**
 * struct syn_h4_form - one way to compute the same bits.
 * @name:	plain, avx2, avx512.
 * @encode:	as syn_h4_encode().
 * @decode:	as syn_h4_decode().
 */
struct syn_h4_form {
	const char *name;
	int (*encode)(void *dst, const void *src, const struct syn_component *c,
		      uint16_t *ret_error);
	void (*decode)(void *dst, const void *src,
		       const struct syn_component *c);
};

extern const struct syn_h4_form syn_h4_plain;
#if defined(__x86_64__)
extern const struct syn_h4_form syn_h4_avx2;
extern const struct syn_h4_form syn_h4_avx512;
#endif

#define SYN_H4_FORMS_MAX 3u

/* Those that this CPU can run, the slowest first; returns how many. */
unsigned int syn_h4_forms(const struct syn_h4_form **ret);

#endif
