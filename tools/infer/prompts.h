/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prompt files: JSON Lines, one object a line.
 *
 *	{"id": 0, "prompt": "...", "answer": "12345", "needles": [817]}
 *
 * Offsets count bytes of the prompt.  "question" is where the question begins;
 * without it, at the prompt's last line.  Members not named here are ignored.
 */
#ifndef SYN_TOOLS_INFER_PROMPTS_H
#define SYN_TOOLS_INFER_PROMPTS_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct syn_prompt - one line.
 * @id:		a number or string, as JSON text; the line number if none.
 * @text:	its bytes.
 * @nr_bytes:	how many, at least one.
 * @answer:	what is expected, or NULL.
 * @question:	offset of the question.
 * @nr_needles:	entries of @needles.
 * @needles:	offsets of the sentences to be remembered.
 */
struct syn_prompt {
	char *id;
	uint8_t *text;
	size_t nr_bytes;
	char *answer;
	size_t question;
	unsigned int nr_needles;
	size_t *needles;
};

struct syn_prompts {
	size_t nr;
	struct syn_prompt *all;
};

/* -EBADMSG: a line is not such an object; file, line and reason are logged. */
int syn_prompts_load(const char *path, struct syn_prompts **ret);
/* Takes NULL, returns NULL. */
struct syn_prompts *syn_prompts_free(struct syn_prompts *prompts);

/* Bytes of the longest. */
size_t syn_prompts_longest(const struct syn_prompts *prompts);

/* The needle at @offset ends behind its first full stop. */
size_t syn_prompt_needle_end(const struct syn_prompt *prompt, size_t offset);

#endif
