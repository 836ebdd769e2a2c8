/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec h4: 4 bits an element and a scale a token, for tiles of 128 tokens.
 *
 * Keys: the mean of each channel is taken away, every token is multiplied by
 * one vector of signs and rotated by a Hadamard matrix, and each element is
 * the nearest of 16 Lloyd-Max levels of a normal distribution; the scale of a
 * token is the unbiased <y,y>/<y,c> (EDEN, arXiv:2108.08842).  Values: no
 * mean, and the least-squares scale <y,c>/<c,c>.
 *
 * The arithmetic is normative, see Documentation/arithmetic.rst: all forms
 * (plain C, AVX2, AVX-512, CUDA) produce the same bits.  The form is chosen at
 * run time.  No state; any thread.
 */
#ifndef SYN_KERNELS_CODEC_H4_H
#define SYN_KERNELS_CODEC_H4_H

#include <stdint.h>

#include <synapse/codec.h>

/*
 * Encodes the tile of component @c at @src into syn_tile_h4_bytes() at @dst.
 * @ret_error: the root mean square of what was lost, over that of the tile
 * (keys: of the tile without its mean), in units of 2^-16, at most 65535.
 * -EDOM: an element is not finite; @dst is undefined, the tile stays raw.
 */
int syn_h4_encode(void *dst, const void *src, const struct syn_component *c,
		  uint16_t *ret_error);

/* The inverse: canonical elements of c->dtype at @dst. */
void syn_h4_decode(void *dst, const void *src, const struct syn_component *c);

#endif
