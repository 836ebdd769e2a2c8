/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass: some tokens of one block through all layers, over the
 * pages of kv.h, which come in page order whatever was resident.
 */
#ifndef SYN_TOOLS_INFER_FORWARD_H
#define SYN_TOOLS_INFER_FORWARD_H

#include <stdint.h>

struct syn_forward;
struct syn_kv_seq;
struct syn_model;

/* Room for sequences of up to @max_tokens; @model outlives it. */
int syn_forward_new(const struct syn_model *model, uint64_t max_tokens,
		    struct syn_forward **ret);
/* Takes NULL, returns NULL. */
struct syn_forward *syn_forward_free(struct syn_forward *forward);

/*
 * Runs @nr tokens that stand at position @at, all in one block; every token
 * before them is in @seq already, and its tail page is ready.  @ret_logits
 * [vocab] gets the last token's; NULL: not wanted.
 */
int syn_forward_run(struct syn_forward *forward, struct syn_kv_seq *seq,
		    const uint8_t *tokens, unsigned int nr, uint64_t at,
		    float *ret_logits);

#endif
