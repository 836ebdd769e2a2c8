/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo engine over a daemon that fits in this file: whatever moves between
 * pins, and whoever computed a prefix, the answers stay the same.
 */
#include "test/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <synapse/client.h>

#include "core/base/fault.h"
#include "core/base/log.h"
#include "test/unit/fake-session.h"
#include "test/unit/fake-shares.h"
#include "tools/infer/audit.h"
#include "tools/infer/engine.h"
#include "tools/infer/forward.h"
#include "tools/infer/kv.h"
#include "tools/infer/model.h"
#include "tools/infer/prompts.h"
#include "tools/infer/simd.h"

#define PAGE_BYTES   (4u * 2 * SYN_PAGE_TOKENS * SYN_HEAD_DIM)
#define CODED_FRAME  36864u /* a page in h4, in whole frames of 4 KiB */
#define PAGES_MAX    512u
#define PROMPTS	     3u
#define PROMPT_BYTES 600u
#define SHARED_BYTES 300u /* with which all prompts but the last begin */
#define LAYERS	     6u
#define ANSWER_BYTES 4u

/* ---- the daemon --------------------------------------------------------- */

/**
 * struct page - a page; its memory moves each time it is brought back.
 * @slot:	its bytes while resident.
 * @below:	its bytes otherwise.
 * @key:	what it is sealed under.
 * @sealed:	it is.
 * @final:	all of its tokens are.
 * @durable:	it is on disk for good.
 * @advice:	SYN_ADVISE_*.
 * @bits:	of its best copy.
 * @leases:	on it.
 * @pins:	on it.
 * @used:	when it was last pinned.
 * @demotions:	times it went below.
 * @loads:	times it came back.
 */
struct page {
	unsigned char *slot;
	unsigned char *below;
	uint64_t key[2];
	bool sealed;
	bool final;
	bool durable;
	uint32_t advice;
	uint16_t bits;
	unsigned int leases;
	unsigned int pins;
	uint64_t used;
	uint32_t demotions;
	uint32_t loads;
};

struct syn_window {
	struct syn_client *client;
};

static struct page pages[PAGES_MAX];
static unsigned int slots;
static unsigned int slots_used;
static uint64_t now;
static unsigned int refusals; /* loads to be refused before one succeeds */
static unsigned int full;     /* persists that find the file full */
static unsigned int dups;     /* seals that somebody was faster with */
static unsigned int anchors;  /* pages that are one, at most */
static uint32_t codec;	      /* of the space */
static unsigned int coded;    /* slots for pages as they are stored */
static bool disk;	      /* what is not resident is on disk alone */
static unsigned int lose;     /* this many loads from now on, one is lost */
static struct syn_window the_window;

static struct page *page_of(uint64_t handle)
{
	assert_in_range(handle, 1, PAGES_MAX);
	assert_true(pages[handle - 1].leases > 0);
	return &pages[handle - 1];
}

static bool page_demote_one(void)
{
	struct page *victim = NULL;

	for (unsigned int i = 0; i < PAGES_MAX; i++) {
		struct page *p = &pages[i];

		if (p->slot && p->final && !p->pins &&
		    (!victim || p->used < victim->used))
			victim = p;
	}
	if (!victim)
		return false;
	victim->below = malloc(PAGE_BYTES);
	assert_non_null(victim->below);
	memcpy(victim->below, victim->slot, PAGE_BYTES);
	memset(victim->slot, 0xaa, PAGE_BYTES);
	free(victim->slot);
	victim->slot = NULL;
	victim->demotions++;
	if (codec == SYN_CODEC_H4 && victim->advice != SYN_ADVISE_ANCHOR)
		victim->bits = 4;
	slots_used--;
	return true;
}

static bool page_place(struct page *p)
{
	if (slots_used == slots && !page_demote_one())
		return false;
	p->slot = aligned_alloc(64, PAGE_BYTES);
	assert_non_null(p->slot);
	memset(p->slot, 0xff, PAGE_BYTES);
	slots_used++;
	return true;
}

static void page_drop(struct page *p)
{
	slots_used -= p->slot != NULL;
	free(p->slot);
	free(p->below);
	memset(p, 0, sizeof(*p));
}

static void daemon_clear(void)
{
	for (unsigned int i = 0; i < PAGES_MAX; i++) {
		assert_int_equal(pages[i].leases, 0);
		assert_int_equal(pages[i].pins, 0);
		page_drop(&pages[i]);
	}
	assert_int_equal(slots_used, 0);
	anchors = 0;
}

int syn_space_define(struct syn_client *client,
		     const struct syn_space_opts *opts, struct syn_space *ret)
{
	if (syn_fault())
		return -EINVAL;
	assert_int_equal(opts->tokens, SYN_PAGE_TOKENS);
	assert_int_equal(opts->nr_components, 2);
	codec = opts->components[0].codec;
	assert_int_equal(opts->components[1].codec, codec);
	assert_int_equal(opts->coded, on_gpu && codec == SYN_CODEC_H4);
	*ret = (struct syn_space){ .id = 1,
				   .nr_tiles = 4,
				   .page_bytes = PAGE_BYTES };
	return 0;
}

int syn_window_open(struct syn_client *client, const struct syn_space *space,
		    const struct syn_window_opts *opts, struct syn_window **ret)
{
	if (syn_fault())
		return -EDQUOT;
	slots = opts->slots;
	coded = opts->coded_slots;
	assert_int_equal(opts->fidelity, codec == SYN_CODEC_H4 ? 4 : 0);
	*ret = &the_window;
	return 0;
}

int syn_lease(struct syn_window *window, unsigned int nr, uint64_t timeout_ns,
	      uint64_t *ret_pages)
{
	unsigned int done = 0;

	if (syn_fault())
		return -EDQUOT;
	for (unsigned int i = 0; i < PAGES_MAX && done < nr; i++) {
		if (pages[i].leases || pages[i].sealed)
			continue;
		assert_true(page_place(&pages[i]));
		pages[i].leases = 1;
		pages[i].bits = 16;
		ret_pages[done++] = i + 1;
	}
	assert_int_equal(done, nr);
	return 0;
}

int syn_commit(struct syn_client *client, const uint64_t *handles,
	       const uint32_t *tokens, unsigned int nr)
{
	if (syn_fault())
		return -EPROTO;
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(tokens[i], SYN_PAGE_TOKENS);
		/* From here on it may leave. */
		if (codec == SYN_CODEC_H4)
			assert_int_equal(page_of(handles[i])->advice,
					 SYN_ADVISE_ANCHOR);
		page_of(handles[i])->final = true;
	}
	return 0;
}

int syn_pin(struct syn_client *client, const uint64_t *handles, unsigned int nr,
	    void **ret_addr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (!page_of(handles[i])->slot)
			return SYN_E_FAULT;
	for (unsigned int i = 0; i < nr; i++) {
		page_of(handles[i])->pins++;
		page_of(handles[i])->used = ++now;
		ret_addr[i] = page_of(handles[i])->slot;
	}
	return 0;
}

void syn_unpin(struct syn_client *client, uint32_t timeline,
	       const uint64_t *handles, unsigned int nr)
{
	fake_shares_check();
	for (unsigned int i = 0; i < nr; i++)
		assert_true(page_of(handles[i])->pins-- > 0);
}

static int page_load(struct page *p)
{
	if (p->slot)
		return 0;
	if (lose && --lose == 0)
		return SYN_E_LOST;
	if (!page_place(p))
		return SYN_E_BACKPRESSURE;
	memcpy(p->slot, p->below, PAGE_BYTES);
	free(p->below);
	p->below = NULL;
	p->loads++;
	return 0;
}

int syn_load(struct syn_client *client, const uint64_t *handles,
	     unsigned int nr, uint64_t timeout_ns, void **ret_addr)
{
	int r = syn_fault() ? -EPROTO : 0;

	if (refusals > 0) {
		refusals--;
		return SYN_E_BACKPRESSURE;
	}
	for (unsigned int i = 0; i < nr && r == 0; i++) {
		r = page_load(page_of(handles[i]));
		page_of(handles[i])->pins += r == 0;
		if (r == 0)
			continue;
		while (i-- > 0)
			page_of(handles[i])->pins--;
		return r;
	}
	for (unsigned int i = 0; i < nr && r == 0; i++) {
		page_of(handles[i])->used = ++now;
		ret_addr[i] = page_of(handles[i])->slot;
	}
	return r;
}

static struct page *page_find(const uint64_t key[2])
{
	for (unsigned int i = 0; i < PAGES_MAX; i++)
		if (pages[i].sealed &&
		    memcmp(pages[i].key, key, sizeof(pages[i].key)) == 0)
			return &pages[i];
	return NULL;
}

int syn_seal(struct syn_client *client, uint64_t handle, const uint64_t key[2],
	     uint32_t timeline, uint64_t value)
{
	if (syn_fault())
		return -EPROTO;
	assert_true(page_of(handle)->final && !page_of(handle)->pins);
	if (dups > 0) {
		dups--;
		return SYN_E_DUP;
	}
	if (page_find(key))
		return SYN_E_DUP;
	page_of(handle)->sealed = true;
	memcpy(page_of(handle)->key, key, sizeof(page_of(handle)->key));
	return 0;
}

int syn_lookup(struct syn_window *window, const uint64_t (*keys)[2],
	       unsigned int nr, uint64_t *ret_pages, uint32_t *ret_miss)
{
	unsigned int n;

	if (syn_fault())
		return -EPROTO;
	for (n = 0; n < nr; n++) {
		struct page *p = page_find(keys[n]);

		if (!p)
			break;
		p->leases++;
		ret_pages[n] = (uint64_t)(p - pages) + 1;
	}
	return (int)n;
}

int syn_advise(struct syn_client *client, const uint64_t *handles,
	       unsigned int nr, uint32_t advice)
{
	unsigned int now_anchors = 0;

	if (syn_fault())
		return -EPROTO;
	assert_int_equal(codec, SYN_CODEC_H4);
	for (unsigned int i = 0; i < nr; i++)
		page_of(handles[i])->advice = advice;
	for (unsigned int i = 0; i < PAGES_MAX; i++)
		now_anchors += pages[i].advice == SYN_ADVISE_ANCHOR;
	anchors = now_anchors > anchors ? now_anchors : anchors;
	return 0;
}

int syn_persist(struct syn_client *client, const uint64_t *handles,
		unsigned int nr, uint64_t timeout_ns)
{
	if (syn_fault())
		return -ENODEV;
	if (full > 0) {
		full--;
		return SYN_E_BACKPRESSURE;
	}
	for (unsigned int i = 0; i < nr; i++) {
		if (!page_of(handles[i])->sealed)
			return -ENOKEY;
		page_of(handles[i])->durable = true;
	}
	return 0;
}

int syn_release(struct syn_client *client, const uint64_t *handles,
		unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct page *p = page_of(handles[i]);

		assert_true(p->leases > 1 || p->pins == 0);
		if (--p->leases == 0 && !p->sealed)
			page_drop(p);
	}
	return 0;
}

int syn_poll(struct syn_client *client, uint32_t *ret_events, unsigned int max)
{
	return syn_fault() ? -EPROTO : 0;
}

int syn_audit_pages(struct syn_audit *audit, uint32_t space,
		    struct syn_audit_page *wanted, unsigned int nr)
{
	if (syn_fault())
		return -EPROTO;
	for (unsigned int i = 0; i < nr; i++) {
		struct page *p = page_find(wanted[i].key);

		wanted[i].found = p != NULL;
		wanted[i].demotions = p ? p->demotions : 0;
		wanted[i].loads = p ? p->loads : 0;
		wanted[i].bits = p ? p->bits : 0;
		wanted[i].flags = p && p->slot ? SYN_PAGE_F_HBM
				  : disk       ? SYN_PAGE_F_NVME
					       : SYN_PAGE_F_HOST;
	}
	return 0;
}

/* ---- runs --------------------------------------------------------------- */

static struct syn_model *model;
static struct syn_forward *forward;
static struct syn_prompt prompt[PROMPTS];
static struct syn_prompts prompts = { .nr = PROMPTS, .all = prompt };
static size_t needle[PROMPTS] = { 10, 150, PROMPT_BYTES - 3 };

/**
 * struct answers - what a run said.
 * @nr:		answers so far.
 * @text:	by prompt.
 * @prefix:	tokens found, by prompt.
 * @pages:	with needles, of all prompts.
 * @returns:	see struct syn_result.
 * @lossy:	the same.
 * @reads:	the same.
 * @persisted:	pages.
 */
struct answers {
	unsigned int nr;
	char text[PROMPTS][ANSWER_BYTES];
	size_t prefix[PROMPTS];
	unsigned int pages;
	unsigned int returns;
	unsigned int lossy;
	unsigned int reads;
	uint64_t persisted;
};

static int keep_answer(void *data, const struct syn_result *result)
{
	struct answers *answers = data;
	size_t i = (size_t)(result->prompt - prompt);

	assert_int_equal(result->nr_tokens, ANSWER_BYTES);
	memcpy(answers->text[i], result->tokens, ANSWER_BYTES);
	answers->prefix[i] = result->prefix_tokens;
	answers->pages += result->needle_pages;
	answers->returns += result->needle_returns;
	answers->lossy += result->needle_lossy;
	answers->reads += result->needle_reads;
	answers->nr++;
	return 0;
}

static void quiet(enum syn_log_level level, const char *line)
{
}

static int setup(void **state)
{
	uint32_t x = 7;

	syn_log_set_sink(quiet);
	for (unsigned int i = 0; i < PROMPTS; i++) {
		prompt[i].id = (char *)"0";
		prompt[i].nr_bytes = PROMPT_BYTES;
		prompt[i].text = malloc(PROMPT_BYTES);
		prompt[i].question = PROMPT_BYTES - 10;
		prompt[i].nr_needles = 1;
		prompt[i].needles = &needle[i];
		for (unsigned int n = 0; n < PROMPT_BYTES; n++) {
			x = x * 1664525u + 1013904223u;
			prompt[i].text[n] = (uint8_t)('a' + (x >> 24) % 26);
			if (n < SHARED_BYTES && i < PROMPTS - 1)
				prompt[i].text[n] = (uint8_t)('a' + n % 23);
		}
		prompt[i].text[needle[0] + 4] = '.';
		prompt[i].text[needle[1] + 4] = '.';
	}
	if (syn_model_load(SYN_TEST_MODEL, &model))
		return -1;
	return syn_forward_cpu_new(model, PROMPT_BYTES + ANSWER_BYTES,
				   &forward);
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < PROMPTS; i++)
		free(prompt[i].text);
	forward = syn_forward_free(forward);
	model = syn_model_free(model);
	return 0;
}

/* What is the same in a row of runs. */
static uint32_t run_codec = SYN_CODEC_RAW16;
static bool run_persist;

static int run(unsigned int share, unsigned int sequences, bool report,
	       struct answers *ret)
{
	struct syn_kv_opts kv = { .model = model->identity,
				  .config = &model->config,
				  .slots = share,
				  .sequences = sequences,
				  .codec = run_codec,
				  .report = report,
				  .record = report ? FAKE_RECORD : NULL };
	struct syn_engine_opts opts = { .config = &model->config,
					.forward = forward,
					.prompts = &prompts,
					.sequences = sequences,
					.max_tokens = ANSWER_BYTES,
					.persist = run_persist,
					.audit = (struct syn_audit *)&kv,
					.done = keep_answer,
					.data = ret };
	struct syn_engine_stats stats;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = syn_kv_open(&kv, &opts.kv);
	if (r)
		return r;
	r = syn_engine_run(&opts, &stats);
	if (r == 0)
		assert_in_range(stats.ttft_median_ns, 1, stats.ttft_max_ns);
	if (!r)
		r = syn_kv_record_end(opts.kv);
	assert_int_equal(syn_kv_stats(opts.kv)->pages, 0);
	ret->persisted = syn_kv_stats(opts.kv)->pages_persisted;
	assert_null(syn_kv_close(opts.kv));
	return r;
}

static void run_well(unsigned int share, unsigned int sequences, bool report,
		     struct answers *ret)
{
	assert_int_equal(run(share, sequences, report, ret), 0);
	assert_int_equal(ret->nr, PROMPTS);
}

static void test_answers_do_not_depend_on_residency(void **state)
{
	struct answers all;
	struct answers few;

	run_well(400, 1, false, &all);
	assert_int_equal(all.returns, 0);
	daemon_clear();
	run_well(2 * LAYERS * PROMPTS, PROMPTS, true, &few);
	assert_memory_equal(all.text, few.text, sizeof(all.text));
	/* The last needle is in the question's block, which never moves. */
	assert_int_equal(few.pages, PROMPTS * LAYERS);
	assert_in_range(few.returns, 1, 2 * LAYERS);
	daemon_clear();
	run_well(2 * LAYERS, 1, false, &few);
	assert_memory_equal(all.text, few.text, sizeof(all.text));
	daemon_clear();
}

static void test_prefix_is_found(void **state)
{
	struct answers first;
	struct answers again;
	size_t shared = SHARED_BYTES / SYN_PAGE_TOKENS * SYN_PAGE_TOKENS;
	size_t whole = (PROMPT_BYTES - 1) / SYN_PAGE_TOKENS * SYN_PAGE_TOKENS;

	run_well(60, 1, false, &first);
	assert_int_equal(first.prefix[0], 0);
	assert_int_equal(first.prefix[1], shared);
	assert_int_equal(first.prefix[2], 0);
	run_well(60, PROMPTS, false, &again);
	for (unsigned int i = 0; i < PROMPTS; i++)
		assert_int_equal(again.prefix[i], whole);
	assert_memory_equal(first.text, again.text, sizeof(first.text));
	daemon_clear();
	/* In step, two sequences compute shared blocks in turn. */
	run_well(60, PROMPTS, false, &again);
	assert_int_equal(again.prefix[0] + again.prefix[1], shared);
	assert_memory_equal(first.text, again.text, sizeof(first.text));
	daemon_clear();
}

static unsigned int count_anchors(void)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < PAGES_MAX; i++)
		nr += pages[i].advice == SYN_ADVISE_ANCHOR;
	return nr;
}

/* The sink, the last full block and the one that grows, in all layers. */
static void test_anchors(void **state)
{
	struct answers computed;
	struct answers found;

	run_codec = SYN_CODEC_H4;
	prompts.nr = 1;
	assert_int_equal(run(2 * LAYERS, 1, false, &computed), 0);
	assert_int_equal(anchors, 3 * LAYERS);
	/* It ended, so nothing of it is recent; where it began stays. */
	assert_int_equal(count_anchors(), LAYERS);
	anchors = 0;
	assert_int_equal(run(2 * LAYERS, 1, false, &found), 0);
	assert_int_equal(found.prefix[0], 4 * SYN_PAGE_TOKENS);
	assert_int_equal(anchors, 3 * LAYERS);
	assert_int_equal(count_anchors(), LAYERS);
	daemon_clear();
	prompts.nr = PROMPTS;
	run_codec = SYN_CODEC_RAW16;
}

static void test_audit_tells_where_needles_were(void **state)
{
	struct answers answers;

	run_well(2 * LAYERS, 1, false, &answers);
	assert_int_equal(answers.lossy, 0);
	assert_int_equal(answers.reads, 0);
	daemon_clear();
	disk = true;
	run_codec = SYN_CODEC_H4;
	run_well(2 * LAYERS, 1, false, &answers);
	/* The first needle is in the sink, the last in the block that grows. */
	assert_int_equal(answers.lossy, LAYERS);
	assert_in_range(answers.reads, 1, 2 * LAYERS);
	daemon_clear();
	run_well(400, 1, false, &answers);
	assert_int_equal(answers.lossy, 0);
	assert_int_equal(answers.reads, 0);
	daemon_clear();
	disk = false;
	run_codec = SYN_CODEC_RAW16;
}

static unsigned int count_durable(void)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < PAGES_MAX; i++)
		nr += pages[i].durable;
	return nr;
}

static void test_prompts_are_persisted(void **state)
{
	unsigned int blocks = PROMPT_BYTES / SYN_PAGE_TOKENS;
	unsigned int shared = SHARED_BYTES / SYN_PAGE_TOKENS;
	unsigned int all = (PROMPTS * blocks - shared) * LAYERS;
	struct answers answers;

	run_well(2 * LAYERS, 1, false, &answers);
	assert_int_equal(count_durable() + answers.persisted, 0);
	daemon_clear();
	run_persist = true;
	full = 3;
	run_well(2 * LAYERS, 1, false, &answers);
	assert_int_equal(full, 0);
	assert_int_equal(count_durable(), all);
	assert_int_equal(answers.persisted, PROMPTS * blocks * LAYERS);
	daemon_clear();
	/* A page that another had sealed has no key of its own. */
	dups = 2;
	prompts.nr = 1;
	assert_int_equal(run(2 * LAYERS, 1, false, &answers), 0);
	assert_int_equal(count_durable(), blocks * LAYERS - 2);
	daemon_clear();
	full = 1000;
	assert_int_equal(run(2 * LAYERS, 1, false, &answers), -EBUSY);
	full = 0;
	daemon_clear();
	prompts.nr = PROMPTS;
	run_persist = false;
}

static void test_waits_for_room(void **state)
{
	struct answers first;
	struct answers again;

	run_well(2 * LAYERS, 1, false, &first);
	daemon_clear();
	refusals = 5;
	run_well(2 * LAYERS, 1, false, &again);
	assert_int_equal(refusals, 0);
	assert_memory_equal(first.text, again.text, sizeof(first.text));
	daemon_clear();
	refusals = 1000;
	assert_int_equal(run(2 * LAYERS, 1, false, &again), -EBUSY);
	refusals = 0;
	daemon_clear();
}

static void test_lost_page_ends_the_run(void **state)
{
	struct answers answers;

	lose = 20;
	assert_int_equal(run(2 * LAYERS, 1, false, &answers), -EIO);
	assert_int_equal(lose, 0);
	daemon_clear();
}

static void test_share_must_hold_the_tails(void **state)
{
	struct answers answers;

	assert_int_equal(
		run(2 * LAYERS * PROMPTS - 1, PROMPTS, false, &answers),
		-EINVAL);
	daemon_clear();
}

/* Canonical slots, and what the share's other bytes hold as it is stored. */
static void expect_split(unsigned int share, unsigned int sequences,
			 unsigned int raw, uint64_t frame)
{
	struct answers answers;

	run_well(share, sequences, false, &answers);
	assert_int_equal(slots, raw);
	assert_int_equal(coded, frame ? (share - raw) * PAGE_BYTES / frame : 0);
	daemon_clear();
}

static void test_a_gpus_share_is_split(void **state)
{
	run_codec = SYN_CODEC_H4;
	expect_split(200, 1, 200, 0);
	on_gpu = true;
	expect_split(200, 1, 4 * LAYERS, CODED_FRAME);
	expect_split(200, PROMPTS, 4 * LAYERS * PROMPTS, CODED_FRAME);
	/* Half of what the growing pages leave. */
	expect_split(2 * LAYERS, 1, LAYERS + LAYERS / 2, CODED_FRAME);
	run_codec = SYN_CODEC_RAW16;
	expect_split(200, 1, 200, 0);
	on_gpu = false;
}

static void test_survives_every_failure(void **state)
{
	size_t bytes = prompt[0].nr_bytes;
	unsigned int nth = 0;
	unsigned int step = 1;
	int r;

	/* Short prompts, and larger steps once all kinds have failed. */
	prompts.nr = 1;
	prompt[0].nr_bytes = SYN_PAGE_TOKENS + 2;
	prompt[0].question = SYN_PAGE_TOKENS + 1;
	run_codec = SYN_CODEC_H4;
	run_persist = true;
	do {
		struct answers answers;

		syn_fault_arm(nth += step);
		r = run(2 * LAYERS, 1, true, &answers);
		(void)syn_fault_disarm();
		daemon_clear();
		step = nth > 100 ? 7 : 1;
	} while (r);
	assert_true(nth > 50);
	prompts.nr = PROMPTS;
	prompt[0].nr_bytes = bytes;
	prompt[0].question = bytes - 10;
	run_codec = SYN_CODEC_RAW16;
	run_persist = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_do_not_depend_on_residency),
		cmocka_unit_test(test_prefix_is_found),
		cmocka_unit_test(test_anchors),
		cmocka_unit_test(test_audit_tells_where_needles_were),
		cmocka_unit_test(test_prompts_are_persisted),
		cmocka_unit_test(test_waits_for_room),
		cmocka_unit_test(test_lost_page_ends_the_run),
		cmocka_unit_test(test_share_must_hold_the_tails),
		cmocka_unit_test(test_a_gpus_share_is_split),
		cmocka_unit_test(test_survives_every_failure),
	};

	test_watchdog();
	test_patience(200); /* 33 s with ASan on an idle machine */
	return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;
}
