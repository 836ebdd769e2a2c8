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
 * The plain C form; what others are compared with.  No state; any thread.
 */
#ifndef SYN_KERNELS_ATTEND_ATTEND_H
#define SYN_KERNELS_ATTEND_ATTEND_H

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
 * struct syn_attend_part - some tokens of a sequence.
 * @k:		their keys.
 * @v:		their values.
 * @nr_tokens:	1 to SYN_TILE_TOKENS; the first ones of the tiles.
 */
struct syn_attend_part {
	struct syn_attend_tiles k;
	struct syn_attend_tiles v;
	uint32_t nr_tokens;
};

/**
 * struct syn_attend_seq - a sequence, its query, and the answer.
 * @q:		elements, [kv_heads][group][dim].
 * @parts:	in the order of the tokens.
 * @nr_parts:	how many; none: @out is 0, @lse minus infinite.
 * @out:	answer: fp32, [kv_heads][group][dim].
 * @lse:	answer: logarithm (natural) of the sum of exponentials of all
 *		scores, [kv_heads][group].
 * @shares:	answer: [nr_parts][kv_heads][group], up to 1 over the parts;
 *		NULL: nobody asks.
 */
struct syn_attend_seq {
	const void *q;
	const struct syn_attend_part *parts;
	uint32_t nr_parts;
	float *out;
	float *lse;
	float *shares;
};

/*
 * All of @seqs.  -EINVAL: a shape or part that cannot be, and nothing was
 * answered.  -ENOMEM.
 */
int syn_attend(const struct syn_attend_shape *shape,
	       const struct syn_attend_seq *seqs, unsigned int nr);

#endif
