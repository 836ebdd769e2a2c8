/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode attention on a GPU: attend.h with addresses of the device's.
 *
 * A warp takes up to eight query heads of a KV head through a strip of parts
 * (as many as the length of the sequence says, so that neighbours do not
 * matter), and strips are merged in their order.  The products with levels of
 * encoded tokens are made in bytes: a query, and a weight times a scale, is
 * two digits to base 128 of the largest one, exact to 2^-15 of it.
 *
 * Nothing is copied from or to the host and nothing waits: calls may be
 * captured in a graph, and what parts and sequences say is read when it runs.
 */
#ifndef SYN_KERNELS_ATTEND_ATTEND_GPU_H
#define SYN_KERNELS_ATTEND_ATTEND_GPU_H

#include <stdint.h>

#include "kernels/attend/attend.h"

#define SYN_ATTEND_GPU_SEQS_MAX 1024u

struct syn_attend_gpu;
struct syn_gpu;

/* Loads the kernels into the GPU's context.  -ENOMEM, -EIO. */
int syn_attend_gpu_open(struct syn_gpu *gpu, struct syn_attend_gpu **ret);
/* What it was asked for is done.  Takes NULL. */
void syn_attend_gpu_close(struct syn_attend_gpu *attend);

/*
 * Bytes of device memory that a call works in, for @nr_seqs sequences of
 * together at most @nr_parts parts.
 */
uint64_t syn_attend_gpu_scratch(const struct syn_attend_shape *shape,
				uint32_t nr_seqs, uint64_t nr_parts);

/*
 * Gives the work to @stream (a CUstream).  All of @batch are device addresses,
 * and multiples of 16, as are tiles and the steps between heads and tokens.
 * @scratch, of syn_attend_gpu_scratch() bytes for @nr_parts, is used by one
 * call at a time.  Sequences that have more parts together get NaN.  -EINVAL: a
 * shape or number that cannot be.  -EIO.  Any thread.
 */
int syn_attend_gpu(struct syn_attend_gpu *attend,
		   const struct syn_attend_shape *shape,
		   const struct syn_attend_batch *batch, uint64_t nr_parts,
		   uint64_t scratch, void *stream);

#endif
