/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass on a GPU.
 *
 * A step is described in pinned memory, copied, and given to one stream layer
 * by layer, each behind the copies that bring its pages in, which are asked for
 * before; or all layers at once, where every page is there.  One token goes by
 * graphs that were captured before.  The only wait for the GPU is the one for
 * the answer, unless HBM has no room for the pages of a step: then a layer's
 * wait for what other layers have read.
 */
#include "tools/infer/forward.h"

#include <synapse/codec.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/gpu-graph.h"
#include "tools/infer/gpu-model.h"
#include "tools/infer/gpu-step.h"
#include "tools/infer/kv-stream.h"
#include "tools/infer/kv.h"

#define TOKENS SYN_STEP_TOKENS
#define ALIGN  256u

/**
 * struct told - where in memory the host says what a step is.
 * @step:	struct syn_step.
 * @seqs:	struct syn_attend_seq of each token.
 * @parts:	struct syn_attend_part, [n_layers][max_parts].
 * @bytes:	of all.
 */
struct told {
	uint64_t step;
	uint64_t seqs;
	uint64_t parts;
	uint64_t bytes;
};

/**
 * struct forward_gpu - the model on a GPU.
 * @forward:	what the engine sees.
 * @gpu:	the GPU.
 * @api:	its driver.
 * @scope:	of the opening thread.
 * @entered:	it is in there.
 * @stream:	of all work.
 * @done:	recorded behind a step.
 * @model:	the layers.
 * @n_layers:	how many.
 * @n_heads:	query heads.
 * @n_kv_heads:	of a page.
 * @page_bytes:	of a page.
 * @graphs:	one token: each layer, and all of them.
 * @pages:	pinned for a step.
 * @addr:	[n_layers][max_blocks], where full pages are.
 * @max_parts:	max_blocks, made even.
 * @told:	offsets from @host and @at.
 * @at:		what the device is told ...
 * @staged:	... and pages of a layer that the share does not hold, or 0.
 * @host:	pinned: what the device is told.
 * @next:	pinned: its answer.
 * @sums:	pinned: shares of pages, [n_layers][max_blocks][n_heads]; or
 *		NULL.
 */
struct forward_gpu {
	struct syn_forward forward;
	struct syn_gpu *gpu;
	const struct syn_cuda_api *api;
	struct syn_gpu_scope scope;
	bool entered;
	CUstream stream;
	CUevent done;
	struct syn_gpu_model *model;
	unsigned int n_layers;
	unsigned int n_heads;
	unsigned int n_kv_heads;
	uint64_t page_bytes;
	struct syn_graphs *graphs;
	struct syn_kv_stream *pages;
	void **addr;
	unsigned int max_parts;
	struct told told;
	CUdeviceptr at;
	CUdeviceptr staged;
	unsigned char *host;
	struct syn_next *next;
	float *sums;
};

static struct forward_gpu *forward_of(struct syn_forward *forward)
{
	return syn_container_of(forward, struct forward_gpu, forward);
}

static int gpu_check(const struct forward_gpu *f, CUresult result,
		     const char *what)
{
	int r = syn_cuda_errno(f->api, result, what);

	if (r)
		syn_error("%s: %s: %s", f->forward.device, what, strerror(-r));
	return r;
}

/* Where it is told what a layer's pages are. */
static uint64_t layer_parts(const struct forward_gpu *f, unsigned int layer)
{
	return f->told.parts +
	       (uint64_t)layer * f->max_parts * sizeof(struct syn_attend_part);
}

/* ---- steps -------------------------------------------------------------- */

/**
 * struct pass - a step on its way.
 * @f:		where.
 * @seq:	whose tokens.
 * @work:	them, and the layers that are next.
 * @full:	full pages before the tail.
 * @asked:	layers whose pages are pinned ...
 * @done:	... and pages of the next one that are.
 */
struct pass {
	struct forward_gpu *f;
	struct syn_kv_seq *seq;
	struct syn_gpu_work work;
	unsigned int full;
	unsigned int asked;
	unsigned int done;
};

/* A token attends to full pages, and to the tail as far as itself. */
static void pass_tell(struct pass *p, const uint8_t *tokens, uint64_t at)
{
	struct forward_gpu *f = p->f;
	struct syn_step *step = (void *)(f->host + f->told.step);
	struct syn_attend_seq *seqs = (void *)(f->host + f->told.seqs);
	unsigned int nr = p->work.rows;

	*step = (struct syn_step){
		.at = at,
		.nr = nr,
		.full = p->full,
		.first = (uint32_t)(at % TOKENS),
	};
	memcpy(step->tokens, tokens, nr);
	for (unsigned int i = 0; i < nr; i++)
		seqs[i] = (struct syn_attend_seq){
			.nr = p->full + 1,
			.last = step->first + i + 1,
			.share = i * (p->full + 1),
		};
}

static uint64_t tile_bytes(uint16_t role, bool coded)
{
	const struct syn_component c = { .role = role, .dim = SYN_STEP_DIM };

	return coded ? syn_tile_h4_bytes(&c) : syn_tile_raw_bytes(&c);
}

/* As chunk_store() of the CPU's: for each head the keys, then the values. */
static struct syn_attend_part part_of(const struct forward_gpu *f,
				      const void *page)
{
	const bool coded = syn_kv_stream_coded(f->pages, page);
	const uint64_t k = tile_bytes(SYN_ROLE_K, coded);
	struct syn_attend_part part = {
		.k = { .at = (uintptr_t)page,
		       .head = k + tile_bytes(SYN_ROLE_V, coded),
		       .token = SYN_STEP_DIM * sizeof(uint16_t),
		       .codec = coded ? SYN_CODEC_H4 : SYN_CODEC_RAW16 },
		.nr_tokens = TOKENS,
	};

	part.v = part.k;
	part.v.at += k;
	return part;
}

static struct syn_attend_part *parts_of(const struct forward_gpu *f,
					unsigned int layer)
{
	return (void *)(f->host + layer_parts(f, layer));
}

static void pass_tell_pages(struct pass *p, unsigned int layer,
			    unsigned int first, unsigned int nr)
{
	struct forward_gpu *f = p->f;
	void *const *addr = f->addr + (size_t)layer * f->forward.max_blocks;

	for (unsigned int i = first; i < first + nr; i++)
		parts_of(f, layer)[i] = part_of(f, addr[i]);
}

static void pass_tell_tail(struct pass *p, unsigned int layer)
{
	parts_of(p->f, layer)[p->full] =
		part_of(p->f, syn_kv_seq_tail(p->seq, layer));
}

/* What was told, [@from, @end) of it, goes to the device. */
static int told_copy(struct forward_gpu *f, uint64_t from, uint64_t end)
{
	return gpu_check(f,
			 f->api->cuMemcpyAsync(f->at + from,
					       (uintptr_t)f->host + from,
					       end - from, f->stream),
			 "cuMemcpyAsync");
}

/* One token goes by a graph: that of a layer, or the one of all. */
static int pass_give(struct pass *p)
{
	struct syn_gpu_work *w = &p->work;
	unsigned int which = w->first;
	int r;

	if (w->end - w->first == p->f->n_layers)
		which = w->end;
	syn_kv_stream_begin(p->f->pages);
	if (w->rows > 1)
		r = syn_gpu_work_give(w);
	else
		r = syn_graphs_launch(p->f->graphs, which, syn_gpu_work_give,
				      w);
	if (r)
		syn_error("%s: layers from %u on: %s", p->f->forward.device,
			  w->first, strerror(-r));
	return r ? r : syn_kv_stream_given(p->f->pages);
}

/* A page goes to @to, raw or encoded as it is. */
static int part_move(const struct forward_gpu *f, struct syn_attend_part *part,
		     CUdeviceptr to)
{
	CUdeviceptr from = part->k.at;

	part->v.at += to - from;
	part->k.at = to;
	return gpu_check(f,
			 f->api->cuMemcpyAsync(to, from,
					       f->n_kv_heads * part->k.head,
					       f->stream),
			 "cuMemcpyAsync");
}

/* Pages just loaded go where a whole layer has room. */
static int pass_stage(struct pass *p, unsigned int layer, unsigned int first,
		      unsigned int nr)
{
	struct forward_gpu *f = p->f;
	int r = syn_kv_stream_order(f->pages, layer);

	syn_kv_stream_begin(f->pages);
	for (unsigned int i = first; i < first + nr && !r; i++)
		r = part_move(f, &parts_of(f, layer)[i],
			      f->staged + i * f->page_bytes);
	return r ? r : syn_kv_stream_given(f->pages);
}

typedef int (*load_fn)(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		       unsigned int layer, unsigned int first, unsigned int nr,
		       void **ret_addr);

/* The next layer's, or those for which there is room. */
static int pass_load(struct pass *p, load_fn load)
{
	struct forward_gpu *f = p->f;
	unsigned int n = p->asked;
	void **addr = f->addr + (size_t)n * f->forward.max_blocks;

	while (p->done < p->full) {
		int nr = load(f->pages, p->seq, n, p->done, p->full - p->done,
			      addr + p->done);
		int r = 0;

		if (nr <= 0)
			return nr;
		pass_tell_pages(p, n, p->done, (unsigned int)nr);
		if (f->staged)
			r = pass_stage(p, n, p->done, (unsigned int)nr);
		if (r)
			return r;
		p->done += (unsigned int)nr;
	}
	p->done = 0;
	p->asked++;
	return 0;
}

/* As many layers as there is room for. */
static int pass_ask(struct pass *p)
{
	unsigned int n = 0;
	int r = 0;

	if (!syn_kv_stream_holds(p->f->pages,
				 (uint64_t)p->f->n_layers * p->full))
		return 0;
	for (; n < p->f->n_layers && n == p->asked && !r; n++)
		r = pass_load(p, syn_kv_stream_ask);
	return r;
}

/* If there was no room, it is asked for while those before are computed. */
static int pass_layer(struct pass *p, unsigned int n)
{
	struct forward_gpu *f = p->f;
	uint64_t parts = layer_parts(f, n);
	int r = p->asked > n ? 0 : pass_load(p, syn_kv_stream_load);

	if (r)
		return r;
	pass_tell_tail(p, n);
	r = told_copy(f, n ? parts : 0, layer_parts(f, n + 1));
	if (!r)
		r = syn_kv_stream_order(f->pages, n);
	if (r)
		return r;
	p->work.first = n;
	p->work.end = n + 1;
	return pass_give(p);
}

static int pass_layers(struct pass *p)
{
	const unsigned int n_layers = p->f->n_layers;
	int r = syn_kv_stream_pin(p->f->pages, p->seq, p->full, p->f->addr);

	if (r < 0)
		return r;
	if (!r) {
		r = pass_ask(p);
		for (unsigned int n = 0; n < n_layers && !r; n++)
			r = pass_layer(p, n);
		return r;
	}
	for (unsigned int n = 0; n < n_layers; n++) {
		pass_tell_pages(p, n, 0, p->full);
		pass_tell_tail(p, n);
	}
	r = told_copy(p->f, 0, p->f->told.bytes);
	if (r)
		return r;
	p->work.end = n_layers;
	return pass_give(p);
}

/* Also of a step that failed: nothing may be in use when the next begins. */
static int pass_wait(struct pass *p)
{
	struct forward_gpu *f = p->f;
	CUresult result = f->api->cuEventRecord(f->done, f->stream);

	if (!result)
		result = f->api->cuEventSynchronize(f->done);
	return gpu_check(f, result, "a step");
}

/* What the device has summed, layer by layer, once the step is over. */
static int pass_report(struct pass *p, uint64_t at)
{
	struct forward_gpu *f = p->f;
	const size_t layer = (size_t)f->forward.max_blocks * f->n_heads;
	const size_t nr = (size_t)(p->full + 1) * f->n_heads;

	for (unsigned int n = 0; n < f->n_layers; n++) {
		float *share;
		int r = syn_kv_seq_report_begin(p->seq, n, at, p->work.rows,
						&share);

		if (r)
			return r;
		if (!share)
			continue;
		memcpy(share, f->sums + n * layer, nr * sizeof(*share));
		syn_kv_seq_report_end(p->seq);
	}
	return 0;
}

/* One token always asks for an answer: its graphs are the same for all. */
static struct syn_gpu_work work_of(const struct forward_gpu *f, unsigned int nr,
				   unsigned int full, bool answer)
{
	bool one = nr == 1;

	return (struct syn_gpu_work){
		.model = f->model,
		.rows = nr,
		.nr_parts =
			(uint64_t)nr * (one ? f->forward.max_blocks : full + 1),
		.step = f->at + f->told.step,
		.seqs = f->at + f->told.seqs,
		.parts = f->at + f->told.parts,
		.max_parts = f->max_parts,
		.next = one || answer ? f->next : NULL,
		.sums = f->sums,
	};
}

static int gpu_run(struct syn_forward *forward, struct syn_kv_seq *seq,
		   const uint8_t *tokens, unsigned int nr, uint64_t at,
		   struct syn_next *ret)
{
	struct forward_gpu *f = forward_of(forward);
	const unsigned int full = (unsigned int)(at / TOKENS);
	struct pass p = {
		.f = f,
		.seq = seq,
		.work = work_of(f, nr, full, ret),
		.full = full,
	};
	int ended;
	int waited;
	int r;

	pass_tell(&p, tokens, at);
	r = pass_layers(&p);
	waited = pass_wait(&p);
	/* Work that was given was behind its loads: those are done. */
	ended = syn_kv_stream_end(f->pages);
	r = r ? r : ended ? ended : waited;
	if (!r && f->sums)
		r = pass_report(&p, at);
	if (!r && ret)
		*ret = *f->next;
	return r;
}

/* ---- open and close ----------------------------------------------------- */

static int gpu_enter(struct forward_gpu *f, const struct syn_kv *kv)
{
	uint8_t uuid[SYN_GPU_UUID_BYTES];
	int r = syn_kv_gpu(kv, uuid);

	if (r)
		return r;
	r = syn_gpu_open(&f->gpu, uuid);
	if (!r)
		r = syn_gpu_enter(f->gpu, &f->scope);
	if (r) {
		syn_error("GPU: %s", strerror(-r));
		return r;
	}
	f->entered = true;
	f->api = f->gpu->api;
	f->forward.device = f->gpu->info.name;
	return 0;
}

static int gpu_stream(struct forward_gpu *f)
{
	CUresult result = f->api->cuStreamCreateWithPriority(
		&f->stream, CU_STREAM_NON_BLOCKING, 0);

	if (!result)
		result = f->api->cuEventCreate(&f->done,
					       CU_EVENT_DISABLE_TIMING);
	return gpu_check(f, result, "cuStreamCreate");
}

static uint64_t place(uint64_t *at, uint64_t bytes)
{
	uint64_t ret = *at;

	*at = syn_align_up(ret + bytes, ALIGN);
	return ret;
}

static void told_place(struct forward_gpu *f)
{
	struct told *t = &f->told;

	t->step = place(&t->bytes, sizeof(struct syn_step));
	t->seqs = place(&t->bytes, TOKENS * sizeof(struct syn_attend_seq));
	t->parts = t->bytes;
	t->bytes = layer_parts(f, f->n_layers);
}

static int gpu_memory(struct forward_gpu *f)
{
	bool fits = syn_kv_stream_fits(f->pages);
	uint64_t bytes = syn_align_up(f->told.bytes, ALIGN);
	uint64_t staged;
	int r;

	staged =
		place(&bytes, fits ? 0 : f->forward.max_blocks * f->page_bytes);
	r = gpu_check(f, f->api->cuMemAlloc_v2(&f->at, bytes), "cuMemAlloc");
	if (!r && !fits)
		f->staged = f->at + staged;
	return r;
}

static int gpu_pinned(struct forward_gpu *f, bool reports)
{
	uint64_t nr_sums =
		(uint64_t)f->n_layers * f->forward.max_blocks * f->n_heads;
	uint64_t bytes = 0;
	uint64_t told = place(&bytes, f->told.bytes);
	uint64_t next = place(&bytes, sizeof(*f->next));
	uint64_t sums = place(&bytes, nr_sums * sizeof(*f->sums));
	void *host = NULL;
	int r = gpu_check(f, f->api->cuMemHostAlloc(&host, bytes, 0),
			  "cuMemHostAlloc");

	if (r)
		return r;
	f->host = (unsigned char *)host + told;
	f->next = (void *)(f->host + next);
	if (reports)
		f->sums = (void *)(f->host + sums);
	return 0;
}

static void gpu_free(struct syn_forward *forward)
{
	struct forward_gpu *f = forward_of(forward);
	const struct syn_cuda_api *api = f->api;

	syn_graphs_free(f->graphs);
	syn_kv_stream_free(f->pages);
	syn_gpu_model_free(f->model);
	if (f->entered) {
		if (f->host)
			(void)api->cuMemFreeHost(f->host);
		if (f->at)
			(void)api->cuMemFree_v2(f->at);
		if (f->done)
			(void)api->cuEventDestroy_v2(f->done);
		if (f->stream)
			(void)api->cuStreamDestroy_v2(f->stream);
		syn_gpu_leave(&f->scope);
	}
	syn_gpu_close(f->gpu);
	free(f->addr);
	free(f);
}

static int gpu_open(struct forward_gpu *f, const struct syn_model *model,
		    struct syn_kv *kv)
{
	const unsigned int max_blocks = f->forward.max_blocks;
	const bool reports = syn_kv_reports(kv);
	int r = gpu_enter(f, kv);

	if (!r)
		r = gpu_stream(f);
	if (!r)
		r = syn_gpu_model_new(f->gpu, f->stream, model, max_blocks,
				      reports, &f->model);
	if (!r)
		r = syn_graphs_new(f->api, f->stream, f->n_layers + 1,
				   &f->graphs);
	if (!r)
		r = syn_kv_stream_new(kv, f->stream, max_blocks, &f->pages);
	if (r)
		return r;
	f->addr = syn_alloc((size_t)f->n_layers * max_blocks, sizeof(*f->addr));
	if (!f->addr)
		return -ENOMEM;
	told_place(f);
	r = gpu_memory(f);
	return r ? r : gpu_pinned(f, reports);
}

static const struct syn_forward_ops gpu_ops = {
	.run = gpu_run,
	.free = gpu_free,
};

int syn_forward_gpu_new(const struct syn_model *model, struct syn_kv *kv,
			uint64_t max_tokens, struct syn_forward **ret)
{
	struct forward_gpu *f = syn_alloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->forward.ops = &gpu_ops;
	f->forward.max_blocks = (unsigned int)syn_div_up(max_tokens, TOKENS);
	f->n_layers = model->config.n_layers;
	f->n_heads = model->config.n_heads;
	f->n_kv_heads = model->config.n_kv_heads;
	f->page_bytes = syn_kv_stats(kv)->page_bytes;
	f->max_parts = (unsigned int)syn_align_up(f->forward.max_blocks, 2);
	r = gpu_open(f, model, kv);
	if (r) {
		gpu_free(&f->forward);
		return r;
	}
	*ret = &f->forward;
	return 0;
}
