/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every form of kernels/attend must do; a program brings the form.
 */
#ifndef SYN_TEST_UNIT_ATTEND_CONTRACT_H
#define SYN_TEST_UNIT_ATTEND_CONTRACT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/attend/attend.h"

#define ATTEND_DIM_MAX 128u
#define ATTEND_HEADS   2u
#define ATTEND_PARTS   5u
#define ATTEND_TILE    (SYN_TILE_TOKENS * ATTEND_DIM_MAX)
#define ATTEND_QUERIES (ATTEND_HEADS * SYN_ATTEND_GROUP_MAX)

/**
 * struct attend_form - one way to attend.
 * @run:	as syn_attend(), of what lies in attend_bench.
 * @close:	what it may be off, relative to the size of an output.
 */
struct attend_form {
	int (*run)(const struct syn_attend_shape *shape,
		   const struct syn_attend_batch *batch);
	double close;
};

/* The program's. */
extern const struct attend_form *attend_form;

/**
 * struct attend_answer - of one sequence.
 * @out:	see struct syn_attend_batch, and so on.
 * @lse:	see there.
 * @shares:	see there.
 */
struct attend_answer {
	_Alignas(16) float out[ATTEND_QUERIES * ATTEND_DIM_MAX];
	_Alignas(16) float lse[ATTEND_QUERIES];
	_Alignas(16) float shares[ATTEND_PARTS * ATTEND_QUERIES];
};

/**
 * struct attend_bench - a sequence, stored, and what it stands for; whole pages
 * of memory, so that a device can be given it.
 * @shape:	its shape.
 * @raw:	tiles of keys and of values as elements, by part and head.
 * @stored:	the same, encoded.
 * @number:	what both stand for, without rounding.
 * @there:	tiles in another order.
 * @parts:	where they are.
 * @seqs:	sequences over them.
 * @q:		queries, of as many.
 * @answers:	of runs.
 */
struct attend_bench {
	_Alignas(4096) struct syn_attend_shape shape;
	_Alignas(16) uint16_t raw[2][ATTEND_PARTS][ATTEND_HEADS][ATTEND_TILE];
	_Alignas(16) unsigned char stored[2][ATTEND_PARTS][ATTEND_HEADS]
					 [ATTEND_TILE];
	double number[2][ATTEND_PARTS][ATTEND_HEADS][ATTEND_TILE];
	_Alignas(16) unsigned char there[ATTEND_PARTS]
					[4 * ATTEND_HEADS * ATTEND_TILE];
	_Alignas(16) struct syn_attend_part parts[ATTEND_PARTS];
	_Alignas(16) struct syn_attend_seq seqs[2];
	_Alignas(16) uint16_t q[2 * ATTEND_QUERIES * ATTEND_DIM_MAX];
	struct attend_answer answers[3];
};

extern struct attend_bench attend_bench;

/*
 * Fills it, and all parts but the last.  Bit p of @coded: the keys of part p are
 * encoded; of @coded >> 8: values.
 */
void attend_bench_make(uint16_t dtype, uint16_t dim, uint16_t group,
		       unsigned int coded, uint32_t last);

/* The tests; returns how many failed. */
int attend_contract(void);

#endif
