/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves prompts: several sequences at once, each in turn one block of its
 * prompt or one byte of its answer, until all prompts are answered.
 */
#ifndef SYN_TOOLS_INFER_ENGINE_H
#define SYN_TOOLS_INFER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct syn_audit;
struct syn_forward;
struct syn_kv;
struct syn_model_config;
struct syn_prompt;
struct syn_prompts;

/**
 * struct syn_result - one prompt, answered.
 * @prompt:		which.
 * @tokens:		the bytes that the model added.
 * @nr_tokens:		how many.
 * @prefix_tokens:	tokens of the prompt that somebody else had computed.
 * @needle_pages:	pages with a needle, in all layers; audits only.
 * @needle_returns:	of these, demoted and brought back before the question,
 *			by the daemon's counters.
 * @needle_lossy:	of them, with less than 16 bits left at the question.
 * @needle_reads:	of them, on disk and nowhere else at the question, and
 *			read from there for the answer.
 */
struct syn_result {
	const struct syn_prompt *prompt;
	const uint8_t *tokens;
	size_t nr_tokens;
	size_t prefix_tokens;
	unsigned int needle_pages;
	unsigned int needle_returns;
	unsigned int needle_lossy;
	unsigned int needle_reads;
};

/* Called once a prompt is answered; not 0 ends the run with that result. */
typedef int (*syn_result_fn)(void *data, const struct syn_result *result);

/**
 * struct syn_engine_opts - what to run.
 * @config:	sizes of the model.
 * @forward:	who computes; has room for the longest prompt and its answer.
 * @kv:		where pages come from.
 * @prompts:	what to answer.
 * @sequences:	how many at once.
 * @max_tokens:	bytes of an answer.
 * @persist:	what a prompt's pages hold shall survive the daemon.
 * @audit:	ask the daemon about needle pages; may be NULL.
 * @done:	takes the results.
 * @data:	its own.
 */
struct syn_engine_opts {
	const struct syn_model_config *config;
	struct syn_forward *forward;
	struct syn_kv *kv;
	const struct syn_prompts *prompts;
	unsigned int sequences;
	unsigned int max_tokens;
	bool persist;
	struct syn_audit *audit;
	syn_result_fn done;
	void *data;
};

/**
 * struct syn_engine_stats - how it went.
 * @prefill_tokens:	tokens of prompts that were computed here.
 * @prefix_tokens:	tokens of prompts that were found.
 * @prefill_ns:		time for both.
 * @persist_ns:		time until prompts were on disk.
 * @decode_tokens:	tokens of answers that went through the model.
 * @decode_ns:		time for them.
 * @ttft_median_ns:	from the step that began with a prompt to its first
 *			answered byte: median of all prompts ...
 * @ttft_max_ns:	... and the longest.
 */
struct syn_engine_stats {
	uint64_t prefill_tokens;
	uint64_t prefix_tokens;
	uint64_t prefill_ns;
	uint64_t persist_ns;
	uint64_t decode_tokens;
	uint64_t decode_ns;
	uint64_t ttft_median_ns;
	uint64_t ttft_max_ns;
};

int syn_engine_run(const struct syn_engine_opts *opts,
		   struct syn_engine_stats *ret);

#endif
