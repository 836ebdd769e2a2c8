/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode attention: one query a sequence over tokens as they are stored, and
 * what share of it each part of them had.
 *
 * A part is up to SYN_TILE_TOKENS tokens of a page, keys and values raw or
 * encoded.  An encoded token is a scale times signs and a rotation of its
 * levels, plus a mean for keys, and none of that is undone token by token: the
 * query is rotated once, the mean's product is added, and what is summed of
 * encoded values is rotated back once (turboquant-mlx, issue 61, has this for a
 * plain rotation).  Documentation/arithmetic.rst says how they are stored.
 *
 * Per part p: m, the largest score; l, the sum of exp(score - m); the sum of
 * exp(score - m) times the values.  Then over the parts, in their order:
 *
 *	M = max m,  L = sum of l exp(m - M),  lse = M + log L
 *	out = sum of exp(m - M) values / L,   share = l exp(m - M) / L
 *
 * So what comes out depends on the tokens, how they are stored and where parts
 * end, but not on where they are, nor on other sequences.
 *
 * This is the plain C form; what others are compared with.  attend-gpu.h has
 * the one for CUDA, which takes the same with addresses of the device's.  No
 * state; any thread.
 */
#ifndef SYN_KERNELS_ATTEND_ATTEND_H
#define SYN_KERNELS_ATTEND_ATTEND_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/abi.h>

#define SYN_ATTEND_GROUP_MAX 16u

/**
 * struct syn_attend_shape - what all sequences of a call share.
 * @dtype:	of queries, keys and values: SYN_DTYPE_F16 or SYN_DTYPE_BF16.
 * @dim:	of a head: 64 or 128.
 * @kv_heads:	heads of keys and values.
 * @group:	query heads for each, up to SYN_ATTEND_GROUP_MAX.
 * @scale:	of a product of query and key; mostly 1 / sqrt(dim).
 */
struct syn_attend_shape {
	uint16_t dtype;
	uint16_t dim;
	uint16_t kv_heads;
	uint16_t group;
	float scale;
};

/**
 * struct syn_attend_tiles - the keys, or the values, of a part, head by head.
 * @at:		address of the first head's tile.
 * @head:	bytes from a head's tile to the next one's.
 * @token:	raw: bytes from a token to the next.
 * @codec:	SYN_CODEC_RAW16 or SYN_CODEC_H4.
 */
struct syn_attend_tiles {
	uint64_t at;
	uint64_t head;
	uint32_t token;
	uint32_t codec;
};

/**
 * struct syn_attend_part - some tokens.
 * @k:		their keys.
 * @v:		their values.
 * @nr_tokens:	1 to SYN_TILE_TOKENS; the first ones of the tiles.
 * @pad0:	anything.
 */
struct syn_attend_part {
	struct syn_attend_tiles k;
	struct syn_attend_tiles v;
	uint32_t nr_tokens;
	uint32_t pad0;
};

/**
 * struct syn_attend_seq - what a sequence attends to.
 * @first:	the first of its parts, which are in the order of the tokens.
 * @nr:		how many; 0: its output is 0, its LSE minus infinite.
 * @last:	of the last one so many tokens, no more than that has.
 * @share:	number of its first part among the shares.
 *
 * Sequences may have parts in common: the tokens of a prompt do.
 */
struct syn_attend_seq {
	uint32_t first;
	uint32_t nr;
	uint32_t last;
	uint32_t share;
};

/**
 * struct syn_attend_batch - sequences, their queries, and the answers.
 * @q:		elements, [nr_seqs][kv_heads][group][dim].
 * @parts:	of all sequences.
 * @seqs:	the sequences.
 * @nr_seqs:	how many.
 * @out:	answer: [nr_seqs][kv_heads][group][dim].
 * @lse:	answer: logarithm (natural) of the sum of exponentials of all
 *		scores, [nr_seqs][kv_heads][group].
 * @shares:	answer: [part][kv_heads][group], of part i of a sequence at
 *		its @share + i, up to 1 over its parts; NULL: nobody asks.
 */
struct syn_attend_batch {
	const void *q;
	const struct syn_attend_part *parts;
	const struct syn_attend_seq *seqs;
	uint32_t nr_seqs;
	float *out;
	float *lse;
	float *shares;
};

/* Whether there can be such a shape. */
bool syn_attend_shape_can_be(const struct syn_attend_shape *shape);

/*
 * -EINVAL: a shape, sequence or part that cannot be, and nothing was answered.
 * -ENOMEM.
 */
int syn_attend(const struct syn_attend_shape *shape,
	       const struct syn_attend_batch *batch);

#endif
