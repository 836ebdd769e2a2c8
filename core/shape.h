/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How frames lie in an extent that clients map into a window.
 *
 * A window maps an extent at first_slot * frame_bytes.  Where the device maps
 * in granules, the frames of an extent must fill whole ones, and nothing may
 * be left over.
 */
#ifndef SYN_CORE_SHAPE_H
#define SYN_CORE_SHAPE_H

#include <stdint.h>

#define SYN_FRAME_ALIGN 4096u

/**
 * struct syn_shape - an extent and its frames.
 * @frame_bytes:	from one frame to the next, a multiple of
 *			SYN_FRAME_ALIGN.
 * @extent_bytes:	whole granules.
 * @extent_frames:	at least 1.
 */
struct syn_shape {
	uint64_t frame_bytes;
	uint64_t extent_bytes;
	uint32_t extent_frames;
};

/*
 * The smallest frames for @page_bytes of which a whole number fills whole
 * granules and at most @most_bytes, or one frame if that is more.  @granule: a
 * power of two.  Up to SYN_FRAME_ALIGN frames need not fill their extent, which
 * then has @most_bytes.  What comes out as @frame_bytes comes out again.
 */
void syn_shape_window(uint64_t granule, uint64_t most_bytes,
		      uint64_t page_bytes, struct syn_shape *ret);

#endif
