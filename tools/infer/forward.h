/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass: some tokens of one block through all layers, over the
 * pages of kv.h, which come in page order whatever was resident.
 *
 * On the CPU, or on a GPU where pages are in its memory.  What comes out of a token depends on those before it and on the device, but
 * not on how many were computed together.
 */
#ifndef SYN_TOOLS_INFER_FORWARD_H
#define SYN_TOOLS_INFER_FORWARD_H

#include <stdint.h>

#define SYN_VOCAB 256u /* a token is a byte */

struct syn_forward;
struct syn_kv;
struct syn_kv_seq;
struct syn_model;

/**
 * struct syn_next - what may follow a token.
 * @logits:	of each byte.
 * @byte:	the most likely one; the smallest of equals.
 */
struct syn_next {
	float logits[SYN_VOCAB];
	uint32_t byte;
};

/**
 * struct syn_forward_ops - how it is computed.
 * @run:	see syn_forward_run().
 * @free:	see syn_forward_free().
 */
struct syn_forward_ops {
	int (*run)(struct syn_forward *forward, struct syn_kv_seq *seq,
		   const uint8_t *tokens, unsigned int nr, uint64_t at,
		   struct syn_next *ret);
	void (*free)(struct syn_forward *forward);
};

/**
 * struct syn_forward - who computes; embeds this as its first member.
 * @ops:	how.
 * @device:	where, for people.
 * @max_blocks:	of a sequence.
 */
struct syn_forward {
	const struct syn_forward_ops *ops;
	const char *device;
	unsigned int max_blocks;
};

/* Room for sequences of up to @max_tokens; @model outlives it. */
int syn_forward_cpu_new(const struct syn_model *model, uint64_t max_tokens,
			struct syn_forward **ret);
/*
 * On the GPU whose memory the pages of @kv are in.  -ENODEV: they are not in
 * any; errors of the GPU are logged.  The calling thread is in its context
 * until syn_forward_free(), before which @kv stays open.
 */
int syn_forward_gpu_new(const struct syn_model *model, struct syn_kv *kv,
			uint64_t max_tokens, struct syn_forward **ret);
/* Takes NULL, returns NULL. */
struct syn_forward *syn_forward_free(struct syn_forward *forward);

/*
 * Runs @nr tokens that stand at position @at, all in one block; every token
 * before them is in @seq already, and its tail page is ready.  @ret is of the
 * last token; NULL: not wanted.
 */
int syn_forward_run(struct syn_forward *forward, struct syn_kv_seq *seq,
		    const uint8_t *tokens, unsigned int nr, uint64_t at,
		    struct syn_next *ret);

#endif
