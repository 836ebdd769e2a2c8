/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host tells the kernels: jobs, some tiles each, and what they answer.
 *
 * C and CUDA read the same bytes.  Every address is a device address; tiles
 * begin at multiples of 16, but for those that are only summed (4).
 */
#ifndef SYN_KERNELS_CUDA_JOB_H
#define SYN_KERNELS_CUDA_JOB_H

#include <stdint.h>

/*
 * Kinds.  An h4 tile: SYN_GPU_H4 and the bits of its shape.  SPREAD and GATHER
 * are raw tiles of 128 rows that lie one after the other on one side, and
 * @token bytes apart on the other.
 */
#define SYN_GPU_H4     0x08u
#define SYN_GPU_KEYS   0x01u /* a mean is stored */
#define SYN_GPU_F16    0x02u /* else bf16 */
#define SYN_GPU_DIM128 0x04u /* else 64 */
#define SYN_GPU_SUM    0x10u /* what is at @src is summed, and stays there */
#define SYN_GPU_SPREAD 0x11u
#define SYN_GPU_GATHER 0x12u
#define SYN_GPU_TELL   0x20u /* besides: the sum is told, not compared */

#define SYN_GPU_ROWS 128u /* of a tile, tokens */

/**
 * struct syn_gpu_job - tiles of one kind that lie at equal distances.
 * @src:	what is read, of the first.
 * @dst:	what is written, of the first.
 * @src_step:	from a tile to the next at @src.
 * @dst_step:	likewise.
 * @bytes:	of a tile, stored (decoding) or canonical.
 * @token:	from a row to the next where rows are apart: at @dst, at @src
 *		for those that encode or gather.
 * @tile:	number of the first within the slice, which says where its sum
 *		is, and what is told of it.
 * @tile_step:	from a number to the next.
 * @nr:		how many.
 * @page:	index of the word that is set if a sum does not fit.
 * @kind:	SYN_GPU_*.
 */
struct syn_gpu_job {
	uint64_t src;
	uint64_t dst;
	uint64_t src_step;
	uint64_t dst_step;
	uint32_t bytes;
	uint32_t token;
	uint32_t tile;
	uint32_t tile_step;
	uint32_t nr;
	uint16_t page;
	uint16_t kind;
	uint32_t pad0[2];
};

/**
 * struct syn_gpu_told - what is told of a tile.
 * @raw_sum:	of its canonical bytes.
 * @stored_sum:	of its stored ones.
 * @error:	as of syn_h4_encode(), SYN_GPU_NOT_FINITE: it cannot be encoded.
 */
struct syn_gpu_told {
	uint32_t raw_sum;
	uint32_t stored_sum;
	uint32_t error;
	uint32_t pad0;
};

#define SYN_GPU_NOT_FINITE 0xffffffffu

/**
 * struct syn_gpu_report - where kernels say how it went.
 * @sums:	that must come out, by the number of the tile.
 * @failed:	words that are set for pages with a sum that does not fit.
 * @told:	by the number of the tile.
 *
 * All are device addresses.
 */
struct syn_gpu_report {
	const uint32_t *sums;
	uint32_t *failed;
	struct syn_gpu_told *told;
};

#define SYN_GPU_THREADS 256u /* of a block, in every kernel */

#endif
