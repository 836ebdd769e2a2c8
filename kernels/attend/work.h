/* SPDX-License-Identifier: Apache-2.0 */
/* What the host tells the kernels of attend; C and CUDA read the same bytes. */
#ifndef SYN_KERNELS_ATTEND_WORK_H
#define SYN_KERNELS_ATTEND_WORK_H

#include <stdint.h>

#include "kernels/attend/attend.h"

#define SYN_ATTEND_ROWS		8u /* query heads that a warp takes */
#define SYN_ATTEND_STRIP_MAX	4u /* parts of a strip */
#define SYN_ATTEND_STRIPS_MIN	32u
#define SYN_ATTEND_WARPS	4u  /* of a block, and strips of a band */
#define SYN_ATTEND_BLOCKS	2u  /* on a multiprocessor ... */
#define SYN_ATTEND_CODED_BLOCKS 3u  /* ... where all is encoded */
#define SYN_ATTEND_MERGERS	8u  /* groups of threads that merge a head */
#define SYN_ATTEND_SHARERS	32u /* blocks that divide shares of a sequence */
#define SYN_ATTEND_CODED	0x80000000u /* in a band's sequence */

/**
 * struct syn_attend_work - a call.
 * @batch:	the caller's.
 * @kv_heads:	of the shape.
 * @group:	likewise.
 * @scale:	likewise.
 * @takes:	times that a KV head is gone through: rows for its group.
 * @max_bands:	that there is room for.
 * @first:	scratch: [nr_seqs + 1], the first band of each sequence.
 * @bands:	scratch: [max_bands], the sequence of each, SYN_ATTEND_CODED with
 *		it if all of its parts are encoded.
 * @queries:	scratch: struct query, [nr_seqs][kv_heads][takes].
 * @sums:	scratch: the largest score, in powers of 2, and the sum of the
 *		weights, [max_bands][kv_heads][group][2].
 * @totals:	scratch: the same of all bands, [nr_seqs][kv_heads][group][2].
 * @values:	scratch: weighted, [max_bands][kv_heads][group][dim].
 */
struct syn_attend_work {
	struct syn_attend_batch batch;
	uint32_t kv_heads;
	uint32_t group;
	float scale;
	uint32_t takes;
	uint32_t max_bands;
	uint32_t pad0;
	uint32_t *first;
	uint32_t *bands;
	void *queries;
	float *sums;
	float *totals;
	float *values;
};

/* Bytes of a struct query. */
#define SYN_ATTEND_QUERY_BYTES(dim)                                            \
	(SYN_ATTEND_ROWS * ((dim) * (2u + 2u + 2u) + 4u + 4u + 4u))

/* Of encoded keys. */
#define SYN_ATTEND_TILE_BYTES(dim)                                             \
	((dim)*2u + SYN_TILE_TOKENS * 2u + SYN_TILE_TOKENS * (dim) / 2u)

/* Shared memory of a block: for each warp two tiles, and its parts. */
#define SYN_ATTEND_SHARED_BYTES(dim)                                           \
	(SYN_ATTEND_WARPS *                                                    \
	 (2u * SYN_ATTEND_TILE_BYTES(dim) +                                    \
	  SYN_ATTEND_STRIP_MAX * ((uint32_t)sizeof(struct syn_attend_part) +   \
				  SYN_ATTEND_ROWS * 8u)))

#endif
