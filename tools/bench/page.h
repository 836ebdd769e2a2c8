/* SPDX-License-Identifier: Apache-2.0 */
/* The page that benchmarks of devices encode. */
#ifndef SYN_TOOLS_BENCH_PAGE_H
#define SYN_TOOLS_BENCH_PAGE_H

#include <stdint.h>

#include <synapse/codec.h>

#define SYN_BENCH_PAGE_BYTES ((uint64_t)2 << 20)
#define SYN_BENCH_PAGE_TILES 64u

/* Keys and values: 4 layers, 8 heads of 128 halves, 128 tokens. */
extern const struct syn_layout syn_bench_layout;

/**
 * struct syn_bench_side - what a device tells of a page beside its bytes.
 * @sums:		see struct syn_copy, as the two below.
 * @stored_sums:	of the tiles as encoded.
 * @error:		of each tile.
 */
struct syn_bench_side {
	uint32_t sums[SYN_BENCH_PAGE_TILES];
	uint32_t stored_sums[SYN_BENCH_PAGE_TILES];
	uint16_t error[SYN_BENCH_PAGE_TILES];
};

#endif
