/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo engine's forward pass over pages in plain memory: the demo model
 * must say what PyTorch says, and a token's bits must depend neither on the
 * chunk it was computed in nor on how many pages were pinned at once.
 */
#include "test/test.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "tools/infer/forward.h"
#include "tools/infer/kv.h"
#include "tools/infer/model.h"
#include "tools/infer/simd.h"

#define LAYERS	   6
#define BLOCKS	   3
#define TOKENS	   (BLOCKS * SYN_PAGE_TOKENS)
#define PAGE_BYTES (4u * 2 * SYN_PAGE_TOKENS * SYN_HEAD_DIM)
#define VOCAB	   256
#define HEADS	   4u

/*
 * tools/model computed what follows in PyTorch: fp32, keys and values rounded
 * to fp16.
 */
static const char reference_prompt[] =
	"In the beginning God created the heaven and the earth.\n"
	"And the earth was without form, and void; and darkness was upon the "
	"face of the deep. And the Spirit of God moved upon the face of the "
	"waters.\n"
	"And God said, Let there be light: and there was light.\n"
	"And God saw the light, that it was good: and Go";
static const char reference_greedy[] = "d saw the light ";
static const struct {
	unsigned char byte;
	float logit;
} reference_top[] = {
	{ 100, 17.447573f }, { 108, 8.482458f }, { 104, 8.453415f },
	{ 32, 8.452216f },   { 109, 8.216533f },
};

/* Pages of one sequence in plain memory: a twin of tools/infer/kv.c. */
struct syn_kv_seq {
	unsigned char page[LAYERS][BLOCKS][PAGE_BYTES];
	unsigned int tail;
	unsigned int batch;
	unsigned int pinned;
	unsigned int reports;
	unsigned int nr_shares;
	float shares[BLOCKS * HEADS + 1];
	double queries;
	double mass[HEADS];
};

void *syn_kv_seq_tail(struct syn_kv_seq *seq, unsigned int layer)
{
	return seq->page[layer][seq->tail];
}

int syn_kv_seq_pin(struct syn_kv_seq *seq, unsigned int layer,
		   unsigned int first, unsigned int nr, void **ret_addr)
{
	if (nr > seq->batch)
		nr = seq->batch;
	for (unsigned int i = 0; i < nr; i++)
		ret_addr[i] = seq->page[layer][first + i];
	seq->pinned += nr;
	return (int)nr;
}

void syn_kv_seq_unpin(struct syn_kv_seq *seq, unsigned int layer,
		      unsigned int first, unsigned int nr)
{
	seq->pinned -= nr;
}

bool syn_kv_seq_reports(const struct syn_kv_seq *seq)
{
	return seq->reports;
}

/* For each third report there is no room. */
int syn_kv_seq_report_begin(struct syn_kv_seq *seq, unsigned int layer,
			    uint64_t first, unsigned int queries, float **ret)
{
	*ret = seq->reports++ % 3 == 2 ? NULL : seq->shares;
	if (!*ret)
		return 0;
	assert_int_equal(first / SYN_PAGE_TOKENS, seq->tail);
	memset(seq->shares, 0xff, sizeof(seq->shares));
	seq->nr_shares = (seq->tail + 1) * HEADS;
	seq->queries += queries;
	return 0;
}

void syn_kv_seq_report_end(struct syn_kv_seq *seq)
{
	for (unsigned int i = 0; i < seq->nr_shares; i++)
		seq->mass[i % HEADS] += (double)seq->shares[i];
	assert_true(isnan(seq->shares[seq->nr_shares]));
}

static struct syn_model *model;
static struct syn_forward *forward;
static struct syn_kv_seq seq;

static int setup(void **state)
{
	if (syn_model_load(SYN_TEST_MODEL, &model))
		return -1;
	return syn_forward_cpu_new(model, TOKENS, &forward);
}

static int teardown(void **state)
{
	forward = syn_forward_free(forward);
	model = syn_model_free(model);
	return 0;
}

/* Garbage in pages must not matter: not even bits that are no number. */
static void start(unsigned int batch)
{
	memset(&seq, 0, sizeof(seq));
	memset(seq.page, 0xff, sizeof(seq.page));
	seq.batch = batch;
}

/* Tokens [at, end) in chunks of at most @step that end where blocks end. */
static void run(const uint8_t *text, uint64_t at, uint64_t end, uint64_t step,
		struct syn_next *next)
{
	while (at < end) {
		uint64_t block = (at / SYN_PAGE_TOKENS + 1) * SYN_PAGE_TOKENS;
		uint64_t to = at + step;

		to = to < end ? to : end;
		to = to < block ? to : block;
		seq.tail = (unsigned int)(at / SYN_PAGE_TOKENS);
		assert_int_equal(syn_forward_run(forward, &seq, text + at,
						 (unsigned int)(to - at), at,
						 next),
				 0);
		at = to;
	}
	assert_int_equal(seq.pinned, 0);
}

static void test_reference(void **state)
{
	size_t nr = strlen(reference_prompt);
	size_t more = strlen(reference_greedy);
	uint8_t text[TOKENS];
	struct syn_next next;

	start(2);
	memcpy(text, reference_prompt, nr);
	run(text, 0, nr, SYN_PAGE_TOKENS, &next);
	for (size_t i = 0; i < 5; i++)
		assert_float_equal(next.logits[reference_top[i].byte],
				   reference_top[i].logit, 2e-3);
	for (size_t i = 0; i < more; i++) {
		text[nr + i] = (uint8_t)next.byte;
		assert_int_equal(text[nr + i], reference_greedy[i]);
		run(text, nr + i, nr + i + 1, 1, &next);
	}
}

static void fill(uint8_t *text, size_t nr)
{
	uint32_t x = 1;

	for (size_t i = 0; i < nr; i++) {
		x = x * 1664525u + 1013904223u;
		text[i] = (uint8_t)(32 + (x >> 24) % 95);
	}
}

static void test_bits_do_not_depend_on_chunks(void **state)
{
	const uint64_t steps[] = { SYN_PAGE_TOKENS, 1, 7, 100 };
	static struct syn_kv_seq first;
	struct syn_next expected;
	struct syn_next next;
	uint8_t text[TOKENS];

	fill(text, TOKENS);
	for (unsigned int i = 0; i < 4; i++) {
		start(i + 1);
		run(text, 0, TOKENS, steps[i], &next);
		if (i == 0) {
			first = seq;
			expected = next;
		}
		assert_memory_equal(&expected, &next, sizeof(next));
		assert_memory_equal(first.page, seq.page, sizeof(seq.page));
	}
	text[3]++;
	start(BLOCKS);
	run(text, 0, TOKENS, SYN_PAGE_TOKENS, &next);
	assert_memory_not_equal(&expected, &next, sizeof(next));
}

/* A query's shares add up to one for each of its heads. */
static void test_shares_add_up(void **state)
{
	uint8_t text[TOKENS];

	fill(text, TOKENS);
	start(3);
	seq.reports = 1;
	run(text, 0, TOKENS - 50, SYN_PAGE_TOKENS, NULL);
	/* All but a third, as six layers are a multiple of three. */
	assert_int_equal(seq.reports, 1 + LAYERS * BLOCKS);
	assert_true(fabs(seq.queries - LAYERS * (TOKENS - 50.0) * 2 / 3) < 0.5);
	for (unsigned int h = 0; h < HEADS; h++)
		assert_true(fabs(seq.mass[h] / seq.queries - 1) < 1e-4);
}

static void test_chunk_stays_in_its_block(void **state)
{
	uint8_t text[TOKENS] = { 0 };

	start(1);
	assert_int_equal(syn_forward_run(forward, &seq, text, 2,
					 SYN_PAGE_TOKENS - 1, NULL),
			 -EINVAL);
	assert_int_equal(syn_forward_run(forward, &seq, text, 0, 0, NULL),
			 -EINVAL);
	assert_int_equal(syn_forward_run(forward, &seq, text, 1, TOKENS, NULL),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_bits_do_not_depend_on_chunks),
		cmocka_unit_test(test_shares_add_up),
		cmocka_unit_test(test_chunk_stays_in_its_block),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;
}
