/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 32-bit sum of a tile, computable in any order and so by any number of
 * lanes or threads.
 *
 * For little-endian 32-bit words w[0..n):
 *
 *	x = (w[i] ^ ((i + 1) * 0x9e3779b1)) * 0x85ebca77    (mod 2^32)
 *	sum = SUM over i of (x ^ (x >> 15))                 (mod 2^32)
 *
 * Both steps of the mix are bijections of w[i], so a change confined to one
 * word always changes the sum; the position enters before the multiplication,
 * so that exchanged or shifted words are caught with the odds of a random
 * 32-bit check.  The constants are the golden ratio times 2^32 and a mixing
 * constant of xxHash (Yann Collet); the construction is ours.
 *
 * Tiles are multiples of 4 bytes and 4-byte aligned.  Twin of the CUDA form.
 * No state; any thread.
 */
#ifndef SYN_KERNELS_CODEC_SUM_H
#define SYN_KERNELS_CODEC_SUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t syn_sum(const void *tile, size_t bytes);

/*
 * Copies and sums in one pass over @src: every @tile_bytes of @bytes get one
 * sum.  @tile_bytes divides @bytes.  The sums are of the bytes that were
 * written to @dst, so a source that changes under the copy cannot leave a sum
 * that does not fit the copy.  Regions do not overlap.
 */
void syn_sum_copy(void *dst, const void *src, size_t bytes, size_t tile_bytes,
		  uint32_t *ret_sums);

/* As above, only the sums. */
void syn_sum_tiles(const void *src, size_t bytes, size_t tile_bytes,
		   uint32_t *ret_sums);

#endif
