/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a pass (tools/infer/kv-stream.h) on the host-emulated device, where
 * what would wait for a copy is counted: nothing does where a pass fits, and
 * where it does not every page is still there when its layer is computed.
 */
#include <synapse/client.h>

#include "core/base/base.h"
#include "test/sys/harness.h"
#include "tools/infer/kv-internal.h"
#include "tools/infer/kv-stream.h"
#include "tools/infer/model.h"
#include "tools/infer/simd.h"

#define LAYERS 9u
#define BLOCK  SYN_PAGE_TOKENS
#define TAILS  (2 * LAYERS)
#define BLOCKS 64u /* at most */

static const struct syn_model_config config = {
	.n_layers = LAYERS,
	.n_heads = 1,
	.n_kv_heads = 1,
	.head_dim = 64,
};
static uint8_t text[2][BLOCKS * BLOCK];

/* ---- what is counted ---------------------------------------------------- */

static bool coded; /* on a GPU, as far as it is asked for */
static unsigned int begun, ordered, ended;
static const uint64_t *unpinned; /* of a pass, the last of its handles */

int __real_syn_client_gpu(struct syn_client *client, uint8_t *ret_uuid);
int __wrap_syn_client_gpu(struct syn_client *client, uint8_t *ret_uuid);
int __real_syn_load_begin(struct syn_client *client, const uint64_t *pages,
			  unsigned int nr, uint64_t timeout_ns, void **ret_addr,
			  struct syn_loading **ret);
int __wrap_syn_load_begin(struct syn_client *client, const uint64_t *pages,
			  unsigned int nr, uint64_t timeout_ns, void **ret_addr,
			  struct syn_loading **ret);
int __real_syn_load_order(struct syn_loading *load, void *stream);
int __wrap_syn_load_order(struct syn_loading *load, void *stream);
int __real_syn_load_end(struct syn_loading *load);
int __wrap_syn_load_end(struct syn_loading *load);
void __real_syn_unpin(struct syn_client *client, uint32_t timeline,
		      const uint64_t *pages, unsigned int nr);
void __wrap_syn_unpin(struct syn_client *client, uint32_t timeline,
		      const uint64_t *pages, unsigned int nr);

int __wrap_syn_load_begin(struct syn_client *client, const uint64_t *pages,
			  unsigned int nr, uint64_t timeout_ns, void **ret_addr,
			  struct syn_loading **ret)
{
	int r = __real_syn_load_begin(client, pages, nr, timeout_ns, ret_addr,
				      ret);

	begun += r == 0;
	return r;
}

int __wrap_syn_client_gpu(struct syn_client *client, uint8_t *ret_uuid)
{
	return coded ? 0 : __real_syn_client_gpu(client, ret_uuid);
}

int __wrap_syn_load_order(struct syn_loading *load, void *stream)
{
	ordered++;
	return __real_syn_load_order(load, stream);
}

int __wrap_syn_load_end(struct syn_loading *load)
{
	ended++;
	return __real_syn_load_end(load);
}

void __wrap_syn_unpin(struct syn_client *client, uint32_t timeline,
		      const uint64_t *pages, unsigned int nr)
{
	unpinned = syn_max(unpinned, pages);
	__real_syn_unpin(client, timeline, pages, nr);
}

/* ---- sequences ---------------------------------------------------------- */

/**
 * struct fixture - two sequences, of which one fits at a time.
 * @kv:		the connection.
 * @seq:	sequences.
 * @stream:	for passes.
 * @nr:		blocks of each.
 * @addr:	[LAYERS][@nr], of a pass.
 */
struct fixture {
	struct syn_kv *kv;
	struct syn_kv_seq *seq[2];
	struct syn_kv_stream *stream;
	unsigned int nr;
	void *addr[LAYERS * BLOCKS];
};

/* What the first word of a page says, and its last; four finite numbers. */
static uint64_t word_of(unsigned int seq, unsigned int layer,
			unsigned int block)
{
	return (0x9e3779b97f4a7c15ull *
		(((seq * LAYERS) + layer) * BLOCKS + block + 1)) &
	       0x3bff3bff3bff3bffull;
}

static void seq_fill(struct fixture *f, unsigned int seq)
{
	const size_t last = f->kv->stats.page_bytes / sizeof(uint64_t) - 1;

	memset(text[seq], (int)seq, sizeof(text[seq]));
	assert_int_equal(syn_kv_seq_new(f->kv, text[seq], sizeof(text[seq]),
					&f->seq[seq]),
			 0);
	for (unsigned int i = 0; i < f->nr; i++) {
		assert_int_equal(
			syn_kv_seq_grow(f->seq[seq], (size_t)i * BLOCK), 0);
		for (unsigned int n = 0; n < LAYERS; n++) {
			uint64_t *at = syn_kv_seq_tail(f->seq[seq], n);

			at[0] = word_of(seq, n, i);
			at[last] = word_of(seq, n, i);
		}
		assert_int_equal(
			syn_kv_seq_commit(f->seq[seq], (size_t)(i + 1) * BLOCK),
			0);
	}
}

/* @slots: beside the tails. */
static void fixture_open(struct fixture *f, unsigned int nr, unsigned int slots)
{
	const uint64_t model[2] = { nr, slots };
	const struct syn_kv_opts opts = {
		.socket = daemon_of_test.socket,
		.model = model,
		.config = &config,
		.slots = TAILS + slots,
		.sequences = 2,
		.codec = coded ? SYN_CODEC_H4 : SYN_CODEC_RAW16,
	};

	*f = (struct fixture){ .nr = nr };
	assert_int_equal(syn_kv_open(&opts, &f->kv), 0);
	for (unsigned int i = 0; i < 2; i++)
		seq_fill(f, i);
	assert_int_equal(syn_kv_stream_new(f->kv, NULL, nr, &f->stream), 0);
	begun = 0;
	ordered = 0;
	ended = 0;
}

static void fixture_close(struct fixture *f)
{
	syn_kv_stream_free(f->stream);
	for (unsigned int i = 0; i < 2; i++)
		syn_kv_seq_free(f->seq[i]);
	syn_kv_close(f->kv);
}

/* ---- passes ------------------------------------------------------------- */

/* Pages of the layer from @first on that are asked for; returns up to which. */
static unsigned int layer_ask(struct fixture *f, unsigned int seq,
			      unsigned int layer, unsigned int first)
{
	while (first < f->nr) {
		int nr = syn_kv_stream_ask(f->stream, f->seq[seq], layer, first,
					   f->nr - first,
					   f->addr + layer * f->nr + first);

		assert_true(nr >= 0);
		if (!nr)
			return first;
		first += (unsigned int)nr;
	}
	return first;
}

static void layer_load(struct fixture *f, unsigned int seq, unsigned int layer,
		       unsigned int first)
{
	while (first < f->nr) {
		int nr = syn_kv_stream_load(f->stream, f->seq[seq], layer,
					    first, f->nr - first,
					    f->addr + layer * f->nr + first);

		assert_true(nr > 0);
		first += (unsigned int)nr;
	}
}

/* Gives the layer's work, which is done at once. */
static void layer_give(struct fixture *f, unsigned int seq, unsigned int layer)
{
	const size_t last = f->kv->stats.page_bytes / sizeof(uint64_t) - 1;

	assert_true(unpinned < syn_kv_seq_pages(f->seq[seq], layer));
	assert_int_equal(syn_kv_stream_order(f->stream, layer), 0);
	syn_kv_stream_begin(f->stream);
	for (unsigned int i = 0; i < f->nr; i++) {
		const uint64_t *at = f->addr[layer * f->nr + i];

		assert_true(coded || !syn_kv_stream_coded(f->stream, at));
		if (syn_kv_stream_coded(f->stream, at))
			continue;
		assert_true(at[0] == word_of(seq, layer, i));
		assert_true(at[last] == word_of(seq, layer, i));
	}
	assert_int_equal(syn_kv_stream_given(f->stream), 0);
}

/* Returns how many pages could be asked for before any work was given. */
static unsigned int pass(struct fixture *f, unsigned int seq)
{
	unsigned int asked = 0;
	unsigned int n;

	if (syn_kv_stream_pin(f->stream, f->seq[seq], f->nr, f->addr)) {
		asked = LAYERS * f->nr;
	} else if (syn_kv_stream_holds(f->stream, LAYERS * f->nr)) {
		for (n = 0; n < LAYERS && asked == n * f->nr; n++)
			asked += layer_ask(f, seq, n, 0);
	}
	unpinned = NULL;
	for (n = 0; n < LAYERS; n++) {
		unsigned int done = n * f->nr;

		layer_load(f, seq, n,
			   asked > done ? syn_min(asked - done, f->nr) : 0);
		layer_give(f, seq, n);
	}
	return asked;
}

/* ---- tests -------------------------------------------------------------- */

static void test_a_pass_that_fits(void **state)
{
	const unsigned int nr = 32;
	struct fixture f;

	(void)state;
	fixture_open(&f, nr, LAYERS * nr);
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int before = begun;

		assert_int_equal(ended, before);
		assert_int_equal(pass(&f, i % 2), LAYERS * nr);
		assert_true(begun > before);
		assert_int_equal(ended, before);
		assert_int_equal(ordered, begun);
		assert_int_equal(syn_kv_stream_end(f.stream), 0);
		assert_int_equal(ended, begun);
	}
	/* And again, with all of it there. */
	assert_int_equal(pass(&f, 1), LAYERS * nr);
	assert_int_equal(syn_kv_stream_end(f.stream), 0);
	assert_int_equal(f.kv->stats.retries, 0);
	fixture_close(&f);
}

/* One page less, and two loads are under way. */
static void test_a_pass_that_does_not(void **state)
{
	const unsigned int nr = 32;
	struct fixture f;

	(void)state;
	fixture_open(&f, nr, LAYERS * nr - 1);
	assert_true(syn_kv_stream_fits(f.stream));
	assert_false(syn_kv_stream_holds(f.stream, LAYERS * nr));
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pass(&f, i % 2), 0);
		assert_true(begun - ended <= 2);
		assert_int_equal(syn_kv_stream_end(f.stream), 0);
	}
	fixture_close(&f);
}

/* Somebody holds on to pages, so that room ends within a layer. */
static void test_less_room_than_it_seems(void **state)
{
	static const unsigned int held[LAYERS] = { 25, 25, 25, 25, 25,
						   25, 25, 25, 24 };
	const unsigned int nr = 48;
	struct fixture f;

	(void)state;
	/* 450 slots, as nothing grows: four layers, and a batch of 32. */
	fixture_open(&f, nr, LAYERS * nr);
	for (unsigned int n = 0; n < LAYERS; n++)
		assert_int_equal(syn_load(f.kv->client,
					  syn_kv_seq_pages(f.seq[1], n),
					  held[n], SYN_KV_WAIT_NS, NULL),
				 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pass(&f, 0), 4 * nr + 32);
		assert_int_equal(syn_kv_stream_end(f.stream), 0);
		assert_int_equal(ended, begun);
	}
	for (unsigned int n = 0; n < LAYERS; n++)
		syn_unpin(f.kv->client, f.kv->timeline,
			  syn_kv_seq_pages(f.seq[1], n), held[n]);
	fixture_close(&f);
}

/* All loans of a session, and pages beyond. */
static void test_more_pages_than_loans(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(LAYERS * BLOCKS > SYN_LOANS_MAX);
	fixture_open(&f, BLOCKS, LAYERS * BLOCKS);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pass(&f, i % 2), SYN_LOANS_MAX);
		assert_int_equal(syn_kv_stream_end(f.stream), 0);
		assert_int_equal(ended, begun);
	}
	fixture_close(&f);
}

/* A share of two planes, each with room for what pages have become. */
static void test_pages_as_they_are_stored(void **state)
{
	const unsigned int nr = 24;
	struct fixture f;

	(void)state;
	coded = true;
	fixture_open(&f, nr, 3 * TAILS + 80);
	coded = false;
	assert_true(syn_kv_stream_fits(f.stream));
	assert_true(f.kv->coded_slots < 2 * LAYERS * (nr - 3));
	for (unsigned int i = 0; i < 12; i++) {
		uint64_t retries = f.kv->stats.retries;
		uint64_t before = f.kv->stats.coded;
		unsigned int asked;

		coded = true;
		asked = pass(&f, i % 2);
		coded = false;
		if (i >= 6) {
			assert_int_equal(asked, LAYERS * nr);
			assert_int_equal(f.kv->stats.retries, retries);
		}
		assert_int_equal(syn_kv_stream_end(f.stream), 0);
		assert_true(f.kv->stats.coded - before > LAYERS * nr / 2);
		assert_int_equal(ended, begun);
	}
	fixture_close(&f);
}

int main(void)
{
	static const char *const args[] = { "--hbm", "64M",	      "--host",
					    "128M",  "--ladder-host", "h4",
					    NULL };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pass_that_fits),
		cmocka_unit_test(test_a_pass_that_does_not),
		cmocka_unit_test(test_less_room_than_it_seems),
		cmocka_unit_test(test_more_pages_than_loans),
		cmocka_unit_test(test_pages_as_they_are_stored),
	};

	test_watchdog();
	return daemon_run_tests(tests, args);
}
