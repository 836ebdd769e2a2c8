/* SPDX-License-Identifier: Apache-2.0 */
/* What synapse-infer writes: a line a prompt, and the figures of the run. */
#ifndef SYN_TOOLS_INFER_OUTPUT_H
#define SYN_TOOLS_INFER_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/infer/engine.h"

struct syn_audit;
struct syn_forward;
struct syn_kv;

/**
 * struct syn_output - results on their way to a file.
 * @file:		one JSON object a line.
 * @prompts:		answered so far.
 * @answers:		prompts that had an answer.
 * @right:		of these, answered right.
 * @needle_pages:	see struct syn_result; of all prompts.
 * @needle_returns:	the same, as the next two.
 * @needle_lossy:	see there.
 * @needle_reads:	see there.
 */
struct syn_output {
	FILE *file;
	uint64_t prompts;
	uint64_t answers;
	uint64_t right;
	uint64_t needle_pages;
	uint64_t needle_returns;
	uint64_t needle_lossy;
	uint64_t needle_reads;
};

/* A syn_result_fn; @data is a struct syn_output. */
int syn_output_result(void *data, const struct syn_result *result);

/* One JSON object with all figures; @audit may be NULL. */
int syn_output_stats(const struct syn_output *output,
		     const struct syn_engine_stats *engine,
		     const struct syn_forward *forward, const struct syn_kv *kv,
		     struct syn_audit *audit, FILE *file);

#endif
