/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole pages through a codec, tile by tile, each tile with its sum.
 *
 * A range of tiles can be worked on apart from the others, so that several
 * workers share a page.  No state; any thread; ranges of one page at once.
 */
#ifndef SYN_KERNELS_CODEC_PAGE_H
#define SYN_KERNELS_CODEC_PAGE_H

#include <stdint.h>

#include <synapse/codec.h>

/*
 * Encodes tiles [@first, @first + @nr) of the page at @src into the page at
 * @dst.  The three results are of the whole page, one entry a tile: the sum of
 * the canonical bytes that were read, the sum of the stored ones, and the
 * error (0 for a tile that stays raw).  -EDOM: a tile is not finite.
 *
 * A tile is read once: what is summed is what is encoded, also when @src
 * changes meanwhile.
 */
int syn_page_encode(void *dst, const void *src, const struct syn_layout *l,
		    uint32_t first, uint32_t nr, uint32_t *ret_raw_sums,
		    uint32_t *ret_stored_sums, uint16_t *ret_error);

/*
 * Decodes tiles [@first, @first + @nr) of the page at @src, comparing each
 * with its sum.  -EILSEQ: one did not match; *ret_tile is the first, and what
 * is at @dst must not be used.  A tile is read once: what is compared is what
 * is decoded.
 */
int syn_page_decode(void *dst, const void *src, const struct syn_layout *l,
		    uint32_t first, uint32_t nr, const uint32_t *stored_sums,
		    uint32_t *ret_tile);

/*
 * Copies a whole encoded page as it is stored, comparing each tile that arrived
 * with its sum; else as syn_page_decode().
 */
int syn_page_copy(void *dst, const void *src, const struct syn_layout *l,
		  const uint32_t *stored_sums, uint32_t *ret_tile);

#endif
