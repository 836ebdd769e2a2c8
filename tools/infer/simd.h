/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's arithmetic: matrix products, attention over one page, and the
 * few element-wise functions, once per instruction set.
 *
 * Every sum has one order, which depends on nothing but the instruction set:
 * not on the number of rows computed together, not on the number of pages, not
 * on where a page was a moment ago.  So a token computed alone has the bits of
 * the same token computed in a chunk.
 */
#ifndef SYN_TOOLS_INFER_SIMD_H
#define SYN_TOOLS_INFER_SIMD_H

#include <stddef.h>
#include <stdint.h>

#define SYN_SIMD_ALIGN	64u /* of every array of floats */
#define SYN_SIMD_ROWS	8u  /* rows of a packed left operand's tile */
#define SYN_SIMD_PANEL	32u /* columns of a packed right operand's panel */
#define SYN_PAGE_TOKENS 128u
#define SYN_HEAD_DIM	128u

/**
 * struct syn_simd_page - attention of some queries over one page of one head.
 * @k:		keys, fp16, [SYN_PAGE_TOKENS][SYN_HEAD_DIM].
 * @v:		values, the same.
 * @nr_tokens:	tokens that exist; the others are not read.
 * @nr_columns:	queries, a multiple of SYN_SIMD_PANEL.
 * @causal:	queries of the page's own tokens: column c sees tokens up to
 *		@first + c / @group.
 * @first:	see @causal.
 * @group:	query heads of a KV head; columns of one token lie together.
 * @q:		queries, scaled, [column / PANEL][SYN_HEAD_DIM][PANEL].
 * @max:	largest score so far of each column.
 * @sum:	sum of exp(score - max) so far.
 * @mass:	out: this page's part of @sum.
 * @out:	weighted values so far, [column][SYN_HEAD_DIM].
 * @work:	SYN_SIMD_WORK floats of scratch.
 */
struct syn_simd_page {
	const uint16_t *k;
	const uint16_t *v;
	unsigned int nr_tokens;
	unsigned int nr_columns;
	int causal;
	unsigned int first;
	unsigned int group;
	const float *q;
	float *max;
	float *sum;
	float *mass;
	float *out;
	float *work;
};

#define SYN_SIMD_WORK                                                          \
	(2 * SYN_PAGE_TOKENS * SYN_HEAD_DIM + SYN_PAGE_TOKENS * SYN_SIMD_PANEL)

/**
 * struct syn_simd - one instruction set's code.
 * @name:	for people.
 * @multiply:	c[row][column] = sum over d of a[row][d] * b[column][d].  @a is
 *		[rows / ROWS][depth][ROWS] (see syn_simd_pack), @b is
 *		[columns / PANEL][depth][PANEL]; @rows is a multiple of ROWS
 *		and @columns of PANEL.
 * @page:	one page of streaming attention; pages come in order.
 * @gate:	up[i] *= silu(gate[i]); @nr is a multiple of 16.
 * @from_half:	@nr is a multiple of 16.
 * @to_half:	rounds to nearest even; @nr is a multiple of 16.
 */
struct syn_simd {
	const char *name;
	void (*multiply)(const float *a, const float *b, unsigned int rows,
			 unsigned int columns, unsigned int depth, float *c);
	void (*page)(const struct syn_simd_page *page);
	void (*gate)(const float *gate, float *up, size_t nr);
	void (*from_half)(const uint16_t *half, float *ret, size_t nr);
	void (*to_half)(const float *x, uint16_t *ret, size_t nr);
};

/* All from simd-isa.c; the last two in builds for x86-64 only. */
extern const struct syn_simd syn_simd_plain;
extern const struct syn_simd syn_simd_avx2;
extern const struct syn_simd syn_simd_avx512;

/* The best that this CPU has; always the same one on the same machine. */
const struct syn_simd *syn_simd_best(void);

/* All that this build and this CPU have, best first; returns how many. */
unsigned int syn_simd_all(const struct syn_simd **ret, unsigned int max);

/* @x [rows][depth] to tiles of ROWS rows; missing rows become zero. */
void syn_simd_pack(const float *x, unsigned int rows, unsigned int depth,
		   float *ret);

/* @x [columns][depth] to panels; missing columns become zero. */
void syn_simd_pack_panels(const float *x, unsigned int columns,
			  unsigned int depth, float *ret);

/* Zeroed floats for the functions above, or NULL; ends with free(). */
float *syn_simd_floats(size_t nr);

#endif
