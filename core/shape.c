/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest stride whose frames fill whole granules. */
#include "core/shape.h"

#include "core/base/base.h"

/* Frames of @frame_bytes end on a granule after so many bytes. */
static uint64_t shape_run(uint64_t granule, uint64_t frame_bytes)
{
	uint64_t aligned = frame_bytes & -frame_bytes;

	return aligned < granule ? frame_bytes / aligned * granule
				 : frame_bytes;
}

void syn_shape_window(uint64_t granule, uint64_t most_bytes,
		      uint64_t page_bytes, struct syn_shape *ret)
{
	uint64_t align = SYN_FRAME_ALIGN;
	uint64_t frame = syn_align_up(page_bytes, align);
	uint64_t most = syn_max(most_bytes, syn_align_up(frame, granule));
	uint64_t bytes = most;

	if (granule > SYN_FRAME_ALIGN) {
		/* Ends with a frame of whole granules at the latest. */
		while (shape_run(granule, frame) > most) {
			align *= 2;
			frame = syn_align_up(page_bytes, align);
		}
		bytes -= bytes % shape_run(granule, frame);
	}
	*ret = (struct syn_shape){
		.frame_bytes = frame,
		.extent_bytes = bytes,
		.extent_frames = (uint32_t)(bytes / frame),
	};
}
