/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host tells the kernels of gpu-kernels.cu.  C and CUDA read the same
 * bytes; addresses are the device's.
 */
#ifndef SYN_TOOLS_INFER_GPU_STEP_H
#define SYN_TOOLS_INFER_GPU_STEP_H

#include <stdint.h>

#define SYN_STEP_TOKENS 128u /* of a page, and of a step at most */
#define SYN_STEP_DIM	128u /* of a head */
#define SYN_STEP_HALF	64u  /* pairs that are rotated */

/* Of a matrix product: columns of a block, and its threads. */
#define SYN_STEP_COLUMNS 32u
#define SYN_STEP_SLICES	 8u /* of the depth, a warp each */
#define SYN_STEP_CHUNK	 8u /* of the depth, weights loaded at once */
#define SYN_STEP_THREADS (SYN_STEP_COLUMNS * SYN_STEP_SLICES)
#define SYN_STEP_ROWS	 16u /* of a block that has more than one */

/**
 * struct syn_step - tokens on their way through the layers.
 * @at:		position of the first.
 * @nr:		how many.
 * @full:	full pages before the one they are in.
 * @first:	place of the first there.
 * @pad0:	nothing.
 * @tokens:	each.
 */
struct syn_step {
	uint64_t at;
	uint32_t nr;
	uint32_t full;
	uint32_t first;
	uint32_t pad0;
	uint8_t tokens[SYN_STEP_TOKENS];
};

/* What becomes of a row before it goes into a matrix. */
enum syn_step_input {
	SYN_STEP_PLAIN,
	SYN_STEP_NORM, /* RMSNorm, times @norm */
	SYN_STEP_GATE, /* silu of its first half times the second */
};

/**
 * struct syn_step_product - rows times a matrix.
 * @in:		rows of fp32.
 * @weights:	fp16, [columns / COLUMNS][depth / CHUNK][COLUMNS][CHUNK].
 * @norm:	[depth], fp32.
 * @out:	[rows][columns].
 * @rows:	how many.
 * @depth:	of what goes into the matrix, a multiple of CHUNK.
 * @columns:	a multiple of COLUMNS.
 * @input:	enum syn_step_input.
 * @eps:	of RMSNorm.
 * @add:	to what is at @out.
 */
struct syn_step_product {
	uint64_t in;
	uint64_t weights;
	uint64_t norm;
	uint64_t out;
	uint32_t rows;
	uint32_t depth;
	uint32_t columns;
	uint32_t input;
	float eps;
	uint32_t add;
};

/**
 * struct syn_step_heads - what a layer's queries, keys and values become.
 * @step:	struct syn_step.
 * @in:		fp32, [nr][n_heads + 2 n_kv_heads][DIM]: queries, keys, values.
 * @turns:	cosine and sine of [nr][HALF] angles.
 * @parts:	struct syn_attend_part of the layer: page @full is written.
 * @q:		fp16, [nr][n_heads][DIM].
 * @n_heads:	of queries.
 * @n_kv_heads:	of keys, and of values.
 */
struct syn_step_heads {
	uint64_t step;
	uint64_t in;
	uint64_t turns;
	uint64_t parts;
	uint64_t q;
	uint32_t n_heads;
	uint32_t n_kv_heads;
};

#endif
