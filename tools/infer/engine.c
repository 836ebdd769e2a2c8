/* SPDX-License-Identifier: Apache-2.0 */
/* Serves prompts, some sequences at a time. */
#include "tools/infer/engine.h"

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/infer/audit.h"
#include "tools/infer/forward.h"
#include "tools/infer/kv.h"
#include "tools/infer/model.h"
#include "tools/infer/prompts.h"
#include "tools/infer/simd.h"

#define BLOCK	 SYN_PAGE_TOKENS
#define RAW_BITS 16u

/**
 * struct sequence - a prompt being answered.
 * @prompt:	which; NULL: this place is free.
 * @seq:	its pages.
 * @tokens:	prompt and answer.
 * @nr_tokens:	known so far.
 * @nr_done:	of these, through the model, or found.
 * @audited:	needle pages were looked at, or there are none.
 * @needles:	what was seen of those that are full.
 * @nr_needles:	how many.
 * @begin_ns:	when its first step began.
 * @result:	what is known of it.
 */
struct sequence {
	const struct syn_prompt *prompt;
	struct syn_kv_seq *seq;
	uint8_t *tokens;
	size_t nr_tokens;
	size_t nr_done;
	bool audited;
	struct syn_audit_page *needles;
	unsigned int nr_needles;
	uint64_t begin_ns;
	struct syn_result result;
};

/**
 * struct engine - a run.
 * @opts:	of the caller.
 * @sequences:	opts->sequences of them.
 * @next:	the first prompt nobody has begun.
 * @ttft_ns:	of each prompt that has a first byte, in the order of those.
 * @nr_ttft:	how many.
 * @stats:	so far.
 */
struct engine {
	const struct syn_engine_opts *opts;
	struct sequence *sequences;
	size_t next;
	uint64_t *ttft_ns;
	size_t nr_ttft;
	struct syn_engine_stats stats;
};

static void sequence_end(struct sequence *s)
{
	syn_kv_seq_free(s->seq);
	free(s->tokens);
	free(s->needles);
	memset(s, 0, sizeof(*s));
}

static int sequence_begin(struct engine *e, struct sequence *s,
			  const struct syn_prompt *prompt)
{
	size_t most = prompt->nr_bytes + e->opts->max_tokens;
	int r;

	s->tokens = syn_alloc(most, 1);
	if (!s->tokens)
		return -ENOMEM;
	r = syn_kv_seq_new(e->opts->kv, s->tokens, most, &s->seq);
	if (r)
		return r;
	memcpy(s->tokens, prompt->text, prompt->nr_bytes);
	s->prompt = prompt;
	s->nr_tokens = prompt->nr_bytes;
	s->audited = !e->opts->audit || !prompt->nr_needles;
	s->result.prompt = prompt;
	s->begin_ns = syn_now_ns();
	return 0;
}

/* ---- needles ------------------------------------------------------------ */

/* Pages of blocks that still grow have never moved and are not asked for. */
static void block_add(struct engine *e, struct sequence *s, size_t block)
{
	unsigned int nr = e->opts->config->n_layers;

	s->result.needle_pages += nr;
	if ((block + 1) * BLOCK > s->nr_done)
		return;
	for (unsigned int n = 0; n < nr; n++)
		syn_kv_seq_key(s->seq, (unsigned int)block, n,
			       s->needles[s->nr_needles++].key);
}

/* All layers of the blocks that hold a needle; a block counts once. */
static int sequence_needles(struct engine *e, struct sequence *s)
{
	const struct syn_prompt *prompt = s->prompt;
	size_t nr_blocks = syn_div_up(prompt->nr_bytes, BLOCK);
	bool *holds = syn_alloc(nr_blocks, sizeof(*holds));

	s->needles = syn_alloc(nr_blocks * e->opts->config->n_layers,
			       sizeof(*s->needles));
	if (!holds || !s->needles) {
		free(holds);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < prompt->nr_needles; i++) {
		size_t end = syn_prompt_needle_end(prompt, prompt->needles[i]);

		for (size_t b = prompt->needles[i] / BLOCK;
		     b <= (end - 1) / BLOCK; b++)
			holds[b] = true;
	}
	for (size_t b = 0; b < nr_blocks; b++)
		if (holds[b])
			block_add(e, s, b);
	free(holds);
	return 0;
}

static bool is_on_disk_alone(const struct syn_audit_page *page)
{
	return page->found && page->flags & SYN_PAGE_F_NVME &&
	       !(page->flags & (SYN_PAGE_F_HBM | SYN_PAGE_F_HOST));
}

/* Called when all but the question is through. */
static int sequence_audit(struct engine *e, struct sequence *s)
{
	int r;

	s->audited = true;
	r = sequence_needles(e, s);
	if (r)
		return r;
	r = syn_audit_pages(e->opts->audit, syn_kv_space(e->opts->kv),
			    s->needles, s->nr_needles);
	for (unsigned int i = 0; i < s->nr_needles && r == 0; i++) {
		const struct syn_audit_page *page = &s->needles[i];

		if (!page->found)
			continue;
		s->result.needle_returns += page->demotions && page->loads;
		s->result.needle_lossy += page->bits < RAW_BITS;
	}
	return r;
}

/* What was on disk alone at the question, and what became of it. */
static int sequence_audit_again(struct engine *e, struct sequence *s)
{
	struct syn_audit_page *now;
	int r;

	if (!s->nr_needles)
		return 0;
	now = syn_alloc(s->nr_needles, sizeof(*now));
	if (!now)
		return -ENOMEM;
	memcpy(now, s->needles, s->nr_needles * sizeof(*now));
	r = syn_audit_pages(e->opts->audit, syn_kv_space(e->opts->kv), now,
			    s->nr_needles);
	for (unsigned int i = 0; i < s->nr_needles && r == 0; i++)
		if (is_on_disk_alone(&s->needles[i]) && now[i].found &&
		    now[i].loads > s->needles[i].loads)
			s->result.needle_reads++;
	free(now);
	return r;
}

/* ---- steps -------------------------------------------------------------- */

/* Tokens that stand at s->nr_done, all in one block; the last known goes on. */
static int sequence_compute(struct engine *e, struct sequence *s,
			    unsigned int nr)
{
	bool last = s->nr_done + nr == s->nr_tokens;
	struct syn_next next;
	int r;

	r = syn_kv_seq_grow(s->seq, s->nr_done);
	if (r)
		return r;
	r = syn_forward_run(e->opts->forward, s->seq, s->tokens + s->nr_done,
			    nr, s->nr_done, last ? &next : NULL);
	if (r)
		return r;
	s->nr_done += nr;
	if (last)
		s->tokens[s->nr_tokens++] = (uint8_t)next.byte;
	return syn_kv_seq_commit(s->seq, s->nr_done);
}

static int sequence_find(struct engine *e, struct sequence *s)
{
	int r;

	/* The last token must be computed: it says what comes next. */
	r = syn_kv_seq_find(s->seq, s->prompt->nr_bytes - 1);
	if (r < 0)
		return r;
	s->nr_done += (size_t)r * BLOCK;
	s->result.prefix_tokens += (size_t)r * BLOCK;
	e->stats.prefix_tokens += (size_t)r * BLOCK;
	return 0;
}

/* One block of the prompt, unless others have computed it. */
static int sequence_prefill(struct engine *e, struct sequence *s)
{
	size_t left;
	int r;

	if (s->nr_done % BLOCK == 0) {
		r = sequence_find(e, s);
		if (r)
			return r;
	}
	left = s->prompt->nr_bytes - s->nr_done;
	left = syn_min(left, BLOCK - s->nr_done % BLOCK);
	if (!s->audited && s->nr_done + left > s->prompt->question) {
		r = sequence_audit(e, s);
		if (r)
			return r;
	}
	r = sequence_compute(e, s, (unsigned int)left);
	if (r)
		return r;
	e->stats.prefill_tokens += left;
	if (s->nr_done == s->prompt->nr_bytes)
		e->ttft_ns[e->nr_ttft++] = syn_now_ns() - s->begin_ns;
	return 0;
}

static int sequence_decode(struct engine *e, struct sequence *s)
{
	int r;

	r = sequence_compute(e, s, 1);
	if (r)
		return r;
	e->stats.decode_tokens++;
	return 0;
}

static int sequence_persist(struct engine *e, struct sequence *s)
{
	uint64_t begin_ns = syn_now_ns();
	int r;

	if (!e->opts->persist)
		return 0;
	r = syn_kv_seq_persist(s->seq);
	e->stats.persist_ns += syn_now_ns() - begin_ns;
	return r;
}

static int sequence_finish(struct engine *e, struct sequence *s)
{
	int r;

	r = sequence_audit_again(e, s);
	if (r)
		return r;
	s->result.tokens = s->tokens + s->prompt->nr_bytes;
	s->result.nr_tokens = s->nr_tokens - s->prompt->nr_bytes;
	r = e->opts->done(e->opts->data, &s->result);
	sequence_end(s);
	return r;
}

static int sequence_step(struct engine *e, struct sequence *s)
{
	bool prefill = s->nr_done < s->prompt->nr_bytes;
	uint64_t begin_ns = syn_now_ns();
	int r;

	r = prefill ? sequence_prefill(e, s) : sequence_decode(e, s);
	if (r)
		return r;
	if (prefill)
		e->stats.prefill_ns += syn_now_ns() - begin_ns;
	else
		e->stats.decode_ns += syn_now_ns() - begin_ns;
	if (prefill && s->nr_done == s->prompt->nr_bytes) {
		r = sequence_persist(e, s);
		if (r)
			return r;
	}
	if (s->nr_tokens < s->prompt->nr_bytes + e->opts->max_tokens)
		return 0;
	return sequence_finish(e, s);
}

/* ---- the run ------------------------------------------------------------ */

/* One step of every sequence; *ret_busy: something was left to do. */
static int engine_turn(struct engine *e, bool *ret_busy)
{
	const struct syn_prompts *prompts = e->opts->prompts;

	*ret_busy = false;
	for (unsigned int i = 0; i < e->opts->sequences; i++) {
		struct sequence *s = &e->sequences[i];
		int r = 0;

		if (!s->prompt && e->next < prompts->nr)
			r = sequence_begin(e, s, &prompts->all[e->next++]);
		if (r == 0 && s->prompt) {
			*ret_busy = true;
			r = sequence_step(e, s);
		}
		if (r)
			return r;
	}
	return 0;
}

static int engine_init(struct engine *e)
{
	e->ttft_ns = syn_alloc(e->opts->prompts->nr, sizeof(*e->ttft_ns));
	e->sequences = syn_alloc(e->opts->sequences, sizeof(*e->sequences));
	return e->ttft_ns && e->sequences ? 0 : -ENOMEM;
}

static void engine_deinit(struct engine *e)
{
	for (unsigned int i = 0; e->sequences && i < e->opts->sequences; i++)
		sequence_end(&e->sequences[i]);
	free(e->sequences);
	free(e->ttft_ns);
}

static int ns_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void engine_sum_up(struct engine *e)
{
	if (!e->nr_ttft)
		return;
	qsort(e->ttft_ns, e->nr_ttft, sizeof(*e->ttft_ns), ns_compare);
	e->stats.ttft_median_ns = e->ttft_ns[e->nr_ttft / 2];
	e->stats.ttft_max_ns = e->ttft_ns[e->nr_ttft - 1];
}

int syn_engine_run(const struct syn_engine_opts *opts,
		   struct syn_engine_stats *ret)
{
	struct engine e = { .opts = opts };
	bool busy = true;
	int r;

	r = engine_init(&e);
	while (r == 0 && busy)
		r = engine_turn(&e, &busy);
	engine_sum_up(&e);
	if (r == 0)
		*ret = e.stats;
	engine_deinit(&e);
	return r;
}
