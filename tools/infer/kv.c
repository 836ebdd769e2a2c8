/* SPDX-License-Identifier: Apache-2.0 */
/* KV pages of sequences, leased from synapsed. */
#include "tools/infer/kv.h"

#include <synapse/codec.h>
#include <xxhash.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/kv-internal.h"
#include "tools/infer/model.h"
#include "tools/infer/simd.h"

#define BLOCK	   SYN_PAGE_TOKENS
#define BATCH_MAX  64u
#define EVENTS_MAX 16u
#define RECENT	   2u /* blocks: the one that grows and the last full one */
#define H4_BITS	   4u
#define FRAME	   4096u /* HBM is shared out in multiples of it */

int syn_kv_failed(const struct syn_kv *kv, const char *what, int r)
{
	if (r == -ESHUTDOWN)
		syn_error("%s: session ended: %s", what,
			  syn_client_reason(kv->client));
	else
		syn_error("%s: %s", what, strerror(-r));
	return r;
}

/* ---- connection --------------------------------------------------------- */

static int kv_attach(struct syn_kv *kv, const struct syn_kv_opts *opts)
{
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	char reason[SYN_REASON_BYTES] = "";
	int r;

	attach.path = opts->socket;
	attach.name = opts->name;
	r = syn_attach(&attach, &kv->client, reason);
	if (r) {
		syn_error("attach: %s%s%s", strerror(-r), *reason ? ": " : "",
			  reason);
		return r;
	}
	if (opts->record) {
		r = syn_trace_begin(kv->client, opts->record);
		if (r)
			return syn_kv_failed(kv, opts->record, r);
		kv->record = opts->record;
	}
	r = syn_timeline_new(kv->client, &kv->timeline);
	return r ? syn_kv_failed(kv, "timeline", r) : 0;
}

/* A GPU's attention reads encoded pages as they are stored, the CPU's does not. */
static int kv_reads_coded(struct syn_kv *kv, uint8_t *ret)
{
	uint8_t uuid[SYN_UUID_BYTES];
	int r;

	if (kv->codec != SYN_CODEC_H4)
		return 0;
	r = syn_client_gpu(kv->client, uuid);
	*ret = !r;
	return r && r != -ENODEV ? syn_kv_failed(kv, "GPU", r) : 0;
}

static int kv_define(struct syn_kv *kv, const struct syn_kv_opts *opts,
		     struct syn_layout *ret)
{
	struct syn_space_opts space = SYN_OPTS(struct syn_space_opts);
	const struct syn_component components[] = {
		{ .role = SYN_ROLE_K,
		  .dtype = SYN_DTYPE_F16,
		  .heads = opts->config->n_kv_heads,
		  .dim = opts->config->head_dim,
		  .codec = (uint16_t)opts->codec },
		{ .role = SYN_ROLE_V,
		  .dtype = SYN_DTYPE_F16,
		  .heads = opts->config->n_kv_heads,
		  .dim = opts->config->head_dim,
		  .codec = (uint16_t)opts->codec },
	};
	int r = kv_reads_coded(kv, &space.coded);

	if (r)
		return r;
	memcpy(space.model, opts->model, sizeof(space.model));
	space.tokens = BLOCK;
	space.layers_per_page = 1;
	space.nr_components = syn_array_size(components);
	space.components = components;
	r = syn_space_define(kv->client, &space, &kv->space);
	if (r)
		return syn_kv_failed(kv, "space", r);
	kv->stats.page_bytes = kv->space.page_bytes;
	if (space.coded && syn_layout_init(ret, BLOCK, 1, space.nr_components,
					   components, 0, 0))
		return syn_kv_failed(kv, "space", -EINVAL);
	return 0;
}

/*
 * Raw pages are those that grow, two other anchors of each layer and sequence,
 * and full ones that have not left yet: room for as many as grow, so that those
 * need not leave in the middle of a step.  All else is read as it is stored.  Of
 * a share that is too small for that, half of what is beside the growing pages
 * goes to either.
 */
static void kv_split(struct syn_kv *kv, const struct syn_layout *layout)
{
	uint64_t beside = kv->slots - kv->tails;
	uint64_t raw = syn_min(3ull * kv->tails, syn_div_up(beside, 2));
	uint64_t frame = syn_align_up(syn_layout_bytes(layout), FRAME);
	uint64_t coded = (beside - raw) * kv->space.page_bytes / frame;

	kv->slots = (unsigned int)(kv->tails + raw);
	kv->coded_slots = (unsigned int)syn_min(coded, (uint64_t)UINT32_MAX);
}

/* Every growing page is pinned, and a batch must fit beside them. */
static int kv_share(struct syn_kv *kv, const struct syn_kv_opts *opts)
{
	unsigned int tails = opts->sequences * kv->n_layers;
	uint64_t slots = opts->slots;

	if (!slots)
		slots = opts->hbm_bytes / kv->space.page_bytes;
	if (slots < 2ull * tails || slots > UINT32_MAX) {
		syn_error(
			"a share of %llu pages: %u sequences need at least %llu",
			(unsigned long long)slots, opts->sequences,
			2ull * tails);
		return -EINVAL;
	}
	kv->stats.slots = slots;
	kv->slots = (unsigned int)slots;
	kv->tails = tails;
	return 0;
}

static int kv_open_window(struct syn_kv *kv, const struct syn_kv_opts *opts)
{
	struct syn_window_opts window = SYN_OPTS(struct syn_window_opts);
	struct syn_layout layout = { 0 };
	int r = kv_define(kv, opts, &layout);

	if (!r)
		r = kv_share(kv, opts);
	if (r)
		return r;
	if (layout.layers)
		kv_split(kv, &layout);
	window.slots = kv->slots;
	window.coded_slots = kv->coded_slots;
	window.fidelity = kv->codec == SYN_CODEC_H4 ? H4_BITS : 0;
	r = syn_window_open(kv->client, &kv->space, &window, &kv->window);
	if (r)
		return syn_kv_failed(kv, "window", r);
	kv->batch = syn_min((kv->slots - kv->tails) / 4, BATCH_MAX);
	kv->batch = syn_max(kv->batch, 1u);
	return 0;
}

static int kv_open_shares(struct syn_kv *kv)
{
	int r = syn_shares_open(kv->client, NULL);

	return r ? syn_kv_failed(kv, "shares", r) : 0;
}

int syn_kv_open(const struct syn_kv_opts *opts, struct syn_kv **ret)
{
	struct syn_kv *kv = syn_alloc(1, sizeof(*kv));
	int r;

	if (!kv)
		return -ENOMEM;
	kv->n_layers = opts->config->n_layers;
	kv->n_kv_heads = opts->config->n_kv_heads;
	kv->group = opts->config->n_heads / opts->config->n_kv_heads;
	kv->codec = opts->codec;
	kv->report = opts->report;
	r = kv_attach(kv, opts);
	if (r == 0)
		r = kv_open_window(kv, opts);
	if (r == 0 && kv->report)
		r = kv_open_shares(kv);
	if (r) {
		syn_kv_close(kv);
		return r;
	}
	*ret = kv;
	return 0;
}

struct syn_kv *syn_kv_close(struct syn_kv *kv)
{
	if (!kv)
		return NULL;
	syn_detach(kv->client);
	free(kv);
	return NULL;
}

int syn_kv_record_end(struct syn_kv *kv)
{
	int r = kv->record ? syn_trace_end(kv->client) : 0;

	return r ? syn_kv_failed(kv, kv->record, r) : 0;
}

const struct syn_kv_stats *syn_kv_stats(const struct syn_kv *kv)
{
	return &kv->stats;
}

uint32_t syn_kv_session(const struct syn_kv *kv)
{
	return syn_client_session(kv->client);
}

uint32_t syn_kv_space(const struct syn_kv *kv)
{
	return kv->space.id;
}

/* ---- sequences ---------------------------------------------------------- */

int syn_kv_seq_new(struct syn_kv *kv, const uint8_t *tokens, size_t max_tokens,
		   struct syn_kv_seq **ret)
{
	struct syn_kv_seq *seq = syn_alloc(1, sizeof(*seq));

	if (!seq)
		return -ENOMEM;
	seq->kv = kv;
	seq->number = kv->nr_sequences++;
	seq->tokens = tokens;
	seq->max_blocks = (unsigned int)syn_div_up(max_tokens, BLOCK);
	seq->pages = syn_alloc((size_t)kv->n_layers * seq->max_blocks,
			       sizeof(*seq->pages));
	seq->foreign = syn_alloc((size_t)kv->n_layers * seq->max_blocks,
				 sizeof(*seq->foreign));
	seq->tails = syn_alloc(kv->n_layers, sizeof(*seq->tails));
	seq->chain = syn_alloc(seq->max_blocks, sizeof(*seq->chain));
	if (!seq->pages || !seq->foreign || !seq->tails || !seq->chain) {
		syn_kv_seq_free(seq);
		return -ENOMEM;
	}
	*ret = seq;
	return 0;
}

static void kv_release(struct syn_kv *kv, const uint64_t *pages,
		       unsigned int nr)
{
	int r = nr ? syn_release(kv->client, pages, nr) : 0;

	kv->stats.pages -= nr;
	if (r && r != -ESHUTDOWN)
		syn_warning("release: %s", strerror(-r));
}

/* ---- anchors ------------------------------------------------------------ */

static int seq_advise(struct syn_kv_seq *seq, unsigned int block,
		      uint32_t advice)
{
	uint64_t pages[SYN_MODEL_LAYERS_MAX];
	struct syn_kv *kv = seq->kv;
	int r;

	for (unsigned int n = 0; n < kv->n_layers; n++)
		pages[n] = syn_kv_seq_pages(seq, n)[block];
	r = syn_advise(kv->client, pages, kv->n_layers, advice);
	return r ? syn_kv_failed(kv, "advise", r) : 0;
}

/* Blocks from @first on are recent now; block 0 is an anchor for good. */
static int seq_recent(struct syn_kv_seq *seq, unsigned int first)
{
	unsigned int from = syn_max(first, seq->recent_end);
	int r = 0;

	if (seq->kv->codec == SYN_CODEC_RAW16)
		return 0;
	if (!seq->recent_end && first)
		r = seq_advise(seq, 0, SYN_ADVISE_ANCHOR);
	for (; seq->recent < syn_min(first, seq->recent_end) && r == 0;
	     seq->recent++)
		if (seq->recent)
			r = seq_advise(seq, seq->recent, SYN_ADVISE_NORMAL);
	for (; from < seq->nr_blocks && r == 0; from++)
		r = seq_advise(seq, from, SYN_ADVISE_ANCHOR);
	if (r)
		return r;
	seq->recent = first;
	seq->recent_end = seq->nr_blocks;
	return 0;
}

/* Called when the sequence has new blocks. */
static int seq_anchor(struct syn_kv_seq *seq)
{
	return seq_recent(seq, syn_max(seq->nr_blocks, RECENT) - RECENT);
}

struct syn_kv_seq *syn_kv_seq_free(struct syn_kv_seq *seq)
{
	if (!seq)
		return NULL;
	/* Its last words are recent no more; others may still find them. */
	(void)seq_recent(seq, seq->nr_blocks);
	for (unsigned int n = 0; seq->nr_blocks && n < seq->kv->n_layers; n++) {
		uint64_t *pages = syn_kv_seq_pages(seq, n);

		if (seq->nr_full < seq->nr_blocks)
			syn_unpin(seq->kv->client, seq->kv->timeline,
				  pages + seq->nr_full, 1);
		kv_release(seq->kv, pages, seq->nr_blocks);
	}
	free(seq->pages);
	free(seq->foreign);
	free(seq->tails);
	free(seq->chain);
	free(seq);
	return NULL;
}

/* Hash of all bytes up to the end of full block @block. */
static XXH128_hash_t seq_chain(struct syn_kv_seq *seq, unsigned int block)
{
	while (seq->nr_chained <= block) {
		unsigned int n = seq->nr_chained++;
		unsigned char text[sizeof(XXH128_canonical_t) + BLOCK] = { 0 };

		if (n > 0)
			XXH128_canonicalFromHash((void *)text,
						 seq->chain[n - 1]);
		memcpy(text + sizeof(XXH128_canonical_t),
		       seq->tokens + (size_t)n * BLOCK, BLOCK);
		seq->chain[n] = XXH3_128bits(text, sizeof(text));
	}
	return seq->chain[block];
}

void syn_kv_seq_key(struct syn_kv_seq *seq, unsigned int block,
		    unsigned int layer, uint64_t ret[2])
{
	XXH128_hash_t hash = seq_chain(seq, block);

	hash = XXH3_128bits_withSeed(&hash, sizeof(hash), layer);
	ret[0] = hash.low64;
	ret[1] = hash.high64;
}

static void kv_count_pages(struct syn_kv *kv, unsigned int nr)
{
	kv->stats.pages += nr;
	kv->stats.pages_peak = syn_max(kv->stats.pages_peak, kv->stats.pages);
}

/* ---- what others computed ----------------------------------------------- */

static int seq_find_layer(struct syn_kv_seq *seq, unsigned int layer,
			  unsigned int nr)
{
	uint64_t(*keys)[2] = syn_alloc(nr, sizeof(*keys));
	int r;

	if (!keys)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr; i++)
		syn_kv_seq_key(seq, seq->nr_full + i, layer, keys[i]);
	r = syn_lookup(seq->kv->window, (const uint64_t(*)[2])keys, nr,
		       syn_kv_seq_pages(seq, layer) + seq->nr_full, NULL);
	free(keys);
	if (r < 0)
		return syn_kv_failed(seq->kv, "lookup", r);
	kv_count_pages(seq->kv, (unsigned int)r);
	return r;
}

/* A block counts when all layers have it; what is found beyond goes back. */
int syn_kv_seq_find(struct syn_kv_seq *seq, size_t limit)
{
	unsigned int end = (unsigned int)(limit / BLOCK);
	unsigned int nr = end > seq->nr_full ? end - seq->nr_full : 0;
	int found[SYN_MODEL_LAYERS_MAX];
	unsigned int layer;
	int r = 0;

	if (seq->nr_full < seq->nr_blocks)
		return 0;
	for (layer = 0; layer < seq->kv->n_layers && nr; layer++) {
		r = seq_find_layer(seq, layer, nr);
		if (r < 0)
			break;
		found[layer] = r;
		nr = (unsigned int)r;
	}
	if (r < 0)
		nr = 0;
	while (layer-- > 0)
		kv_release(seq->kv,
			   syn_kv_seq_pages(seq, layer) + seq->nr_full + nr,
			   (unsigned int)found[layer] - nr);
	if (r < 0)
		return r;
	seq->nr_full += nr;
	seq->nr_blocks = seq->nr_full;
	seq->kv->stats.pages_found += (uint64_t)nr * seq->kv->n_layers;
	r = seq_anchor(seq);
	return r ? r : (int)nr;
}

/* ---- what this process computes ----------------------------------------- */

static int kv_lease(struct syn_kv *kv, uint64_t *ret_pages)
{
	for (unsigned int n = 0; n < SYN_KV_WAITS_MAX; n++) {
		int r = syn_lease(kv->window, kv->n_layers, SYN_KV_WAIT_NS,
				  ret_pages);

		if (r < 0)
			return syn_kv_failed(kv, "lease", r);
		if (r == 0)
			return 0;
		kv->stats.retries++;
	}
	syn_error("lease: no room in %u seconds", SYN_KV_WAITS_MAX);
	return -EBUSY;
}

int syn_kv_seq_grow(struct syn_kv_seq *seq, size_t at)
{
	struct syn_kv *kv = seq->kv;
	uint64_t fresh[SYN_MODEL_LAYERS_MAX];
	int r;

	if (at / BLOCK < seq->nr_blocks)
		return 0;
	if (at / BLOCK >= seq->max_blocks || at / BLOCK != seq->nr_full)
		return -EINVAL;
	r = kv_lease(kv, fresh);
	if (r)
		return r;
	kv_count_pages(kv, kv->n_layers);
	r = syn_pin(kv->client, fresh, kv->n_layers, seq->tails);
	if (r) {
		kv_release(kv, fresh, kv->n_layers);
		return syn_kv_failed(kv, "pin", r < 0 ? r : -EIO);
	}
	kv->stats.pages_new += kv->n_layers;
	for (unsigned int n = 0; n < kv->n_layers; n++)
		syn_kv_seq_pages(seq, n)[seq->nr_full] = fresh[n];
	seq->nr_blocks++;
	return seq_anchor(seq);
}

void *syn_kv_seq_tail(struct syn_kv_seq *seq, unsigned int layer)
{
	return seq->tails[layer];
}

static int seq_seal(struct syn_kv_seq *seq, unsigned int block,
		    unsigned int layer)
{
	struct syn_kv *kv = seq->kv;
	uint64_t page = syn_kv_seq_pages(seq, layer)[block];
	uint64_t key[2];
	int r;

	syn_kv_seq_key(seq, block, layer, key);
	r = syn_seal(kv->client, page, key, kv->timeline, 0);
	if (r < 0)
		return syn_kv_failed(kv, "seal", r);
	kv->stats.dups += r == SYN_E_DUP;
	seq->foreign[(size_t)layer * seq->max_blocks + block] = r == SYN_E_DUP;
	return 0;
}

/* The tails are full in all layers at once. */
static int seq_finish(struct syn_kv_seq *seq)
{
	struct syn_kv *kv = seq->kv;
	unsigned int block = seq->nr_full;
	uint64_t pages[SYN_MODEL_LAYERS_MAX];
	uint32_t tokens[SYN_MODEL_LAYERS_MAX];
	int r;

	for (unsigned int n = 0; n < kv->n_layers; n++) {
		pages[n] = syn_kv_seq_pages(seq, n)[block];
		tokens[n] = BLOCK;
	}
	r = syn_commit(kv->client, pages, tokens, kv->n_layers);
	if (r)
		return syn_kv_failed(kv, "commit", r);
	syn_unpin(kv->client, kv->timeline, pages, kv->n_layers);
	seq->nr_full++;
	for (unsigned int n = 0; n < kv->n_layers && r == 0; n++)
		r = seq_seal(seq, block, n);
	return r;
}

int syn_kv_seq_commit(struct syn_kv_seq *seq, size_t nr)
{
	uint32_t events[EVENTS_MAX];
	int r;

	r = syn_poll(seq->kv->client, events, EVENTS_MAX);
	if (r < 0)
		return syn_kv_failed(seq->kv, "poll", r);
	if (nr / BLOCK <= seq->nr_full)
		return 0;
	return seq_finish(seq);
}

/* ---- for good ----------------------------------------------------------- */

static int kv_persist(struct syn_kv *kv, const uint64_t *pages, unsigned int nr)
{
	for (unsigned int n = 0; n < SYN_KV_WAITS_MAX; n++) {
		int r = syn_persist(kv->client, pages, nr, SYN_KV_WAIT_NS);

		if (r < 0)
			return syn_kv_failed(kv, "persist", r);
		if (r == 0) {
			kv->stats.pages_persisted += nr;
			return 0;
		}
		kv->stats.retries++;
	}
	syn_error("persist: not on disk in %u seconds", SYN_KV_WAITS_MAX);
	return -EBUSY;
}

int syn_kv_seq_persist(struct syn_kv_seq *seq)
{
	uint64_t *pages = syn_alloc(seq->max_blocks, sizeof(*pages));
	int r = 0;

	if (!pages)
		return -ENOMEM;
	for (unsigned int n = 0; n < seq->kv->n_layers && r == 0; n++) {
		const bool *foreign =
			seq->foreign + (size_t)n * seq->max_blocks;
		unsigned int nr = 0;

		for (unsigned int i = 0; i < seq->nr_full; i++)
			if (!foreign[i])
				pages[nr++] = syn_kv_seq_pages(seq, n)[i];
		if (nr)
			r = kv_persist(seq->kv, pages, nr);
	}
	free(pages);
	return r;
}

/* ---- reading ------------------------------------------------------------ */

static int kv_load(struct syn_kv *kv, const uint64_t *pages, unsigned int nr,
		   void **ret_addr)
{
	int r = syn_pin(kv->client, pages, nr, ret_addr);

	kv->stats.batches++;
	if (r != SYN_E_FAULT)
		return r;
	kv->stats.faults++;
	return syn_load(kv->client, pages, nr, SYN_KV_WAIT_NS, ret_addr);
}

/* Without room for all, half of them may do: nothing is pinned meanwhile. */
int syn_kv_seq_pin(struct syn_kv_seq *seq, unsigned int layer,
		   unsigned int first, unsigned int nr, void **ret_addr)
{
	struct syn_kv *kv = seq->kv;
	const uint64_t *pages = syn_kv_seq_pages(seq, layer) + first;

	nr = syn_min(nr, kv->batch);
	for (unsigned int n = 0; n < SYN_KV_WAITS_MAX; n++) {
		int r = kv_load(kv, pages, nr, ret_addr);

		if (r < 0)
			return syn_kv_failed(kv, "load", r);
		if (r == 0) {
			kv->stats.pins += nr;
			return (int)nr;
		}
		if (r == SYN_E_LOST) {
			syn_error("load: a page of layer %u is lost", layer);
			return -EIO;
		}
		kv->stats.retries++;
		nr = (nr + 1) / 2;
	}
	syn_error("load: no room in %u seconds", SYN_KV_WAITS_MAX);
	return -EBUSY;
}

void syn_kv_seq_unpin(struct syn_kv_seq *seq, unsigned int layer,
		      unsigned int first, unsigned int nr)
{
	syn_unpin(seq->kv->client, seq->kv->timeline,
		  syn_kv_seq_pages(seq, layer) + first, nr);
}

bool syn_kv_reports(const struct syn_kv *kv)
{
	return kv->report;
}

bool syn_kv_seq_reports(const struct syn_kv_seq *seq)
{
	return seq->kv->report;
}

int syn_kv_seq_report_begin(struct syn_kv_seq *seq, unsigned int layer,
			    uint64_t first, unsigned int queries, float **ret)
{
	struct syn_kv *kv = seq->kv;
	struct syn_shares_batch batch = SYN_OPTS(struct syn_shares_batch);
	int r;

	kv->issued = syn_timeline_issue(kv->client, kv->timeline);
	batch.pages = syn_kv_seq_pages(seq, layer);
	batch.nr_parts = (uint32_t)(first / BLOCK) + 1;
	batch.queries = queries;
	batch.kv_heads = (uint16_t)kv->n_kv_heads;
	batch.group = (uint16_t)kv->group;
	batch.timeline = kv->timeline;
	batch.value = kv->issued;
	batch.sequence = seq->number;
	batch.first = first;
	batch.layer = layer;
	r = syn_shares_begin(kv->client, &batch, ret);
	if (!r)
		return 0;
	*ret = NULL;
	syn_kv_seq_report_end(seq);
	return r == -EAGAIN ? 0 : syn_kv_failed(kv, "report", r);
}

void syn_kv_seq_report_end(struct syn_kv_seq *seq)
{
	struct syn_kv *kv = seq->kv;

	syn_timeline_done(kv->client, kv->timeline, kv->issued);
}
