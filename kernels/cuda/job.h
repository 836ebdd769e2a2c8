/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host tells the kernels: one job a tile, and what they answer.
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
 * struct syn_gpu_job - one tile.
 * @src:	what is read.
 * @dst:	what is written.
 * @bytes:	of the tile, stored (decoding) or canonical.
 * @token:	from a row to the next where rows are apart: at @dst, at @src
 *		for those that encode or gather.
 * @sum:	that must come out.
 * @page:	index of the word that is set if it does not.
 * @kind:	SYN_GPU_*.
 */
struct syn_gpu_job {
	uint64_t src;
	uint64_t dst;
	uint32_t bytes;
	uint32_t token;
	uint32_t sum;
	uint16_t page;
	uint16_t kind;
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

#define SYN_GPU_THREADS 256u /* of a block, in every kernel */

#endif
