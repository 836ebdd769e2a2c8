/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elements of pages, fp16 and bf16, as fp32: the conversions of
 * Documentation/arithmetic.rst, in plain C.
 */
#ifndef SYN_KERNELS_CODEC_ELEMENT_H
#define SYN_KERNELS_CODEC_ELEMENT_H

#include <stdint.h>
#include <string.h>

#include <synapse/abi.h>

#define SYN_F16_MAX 65504.0f

static inline float syn_float_of(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline uint32_t syn_bits_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static inline float syn_f16_load(const void *at)
{
	uint16_t h;
	uint32_t sign, rest;

	memcpy(&h, at, sizeof(h));
	sign = (uint32_t)(h & 0x8000) << 16;
	rest = h & 0x7fff;
	if (rest >= 0x7c00)
		return syn_float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
	/* The exponent is moved by a multiplication, also of a subnormal. */
	return syn_float_of(sign | syn_bits_of(syn_float_of(rest << 13) *
					       syn_float_of(0x77800000)));
}

/* To the nearest, ties to even. */
static inline void syn_f16_store(void *at, float x)
{
	uint32_t sign = syn_bits_of(x) >> 16 & 0x8000;
	uint32_t rest = syn_bits_of(x) & 0x7fffffff;
	uint16_t h;

	if (rest > 0x7f800000)
		rest = 0x7e00;
	else if (rest >= 0x477ff000) /* half a step above 65504 */
		rest = 0x7c00;
	else if (rest < 0x38800000) /* subnormal: units of 2^-24 */
		rest = syn_bits_of(syn_float_of(rest) + 0.5f) -
		       syn_bits_of(0.5f);
	else
		rest = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
	h = (uint16_t)(sign | rest);
	memcpy(at, &h, sizeof(h));
}

static inline float syn_bf16_load(const void *at)
{
	uint16_t h;

	memcpy(&h, at, sizeof(h));
	return syn_float_of((uint32_t)h << 16);
}

/* What is decoded is finite. */
static inline void syn_bf16_store(void *at, float x)
{
	uint32_t bits = syn_bits_of(x);
	uint16_t h = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);

	memcpy(at, &h, sizeof(h));
}

static inline float syn_element_load(const unsigned char *at, uint16_t dtype)
{
	return dtype == SYN_DTYPE_F16 ? syn_f16_load(at) : syn_bf16_load(at);
}

static inline void syn_element_store(unsigned char *at, uint16_t dtype, float x)
{
	if (dtype != SYN_DTYPE_F16) {
		syn_bf16_store(at, x);
		return;
	}
	if (x > SYN_F16_MAX)
		x = SYN_F16_MAX;
	if (x < -SYN_F16_MAX)
		x = -SYN_F16_MAX;
	syn_f16_store(at, x);
}

#endif
