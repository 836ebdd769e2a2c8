/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of the demo model, given to a stream. */
#include "tools/infer/gpu-model.h"

#include <math.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/forward.h"
#include "tools/infer/gpu-step.h"

#define TOKENS SYN_STEP_TOKENS
#define ALIGN  256u

/* gpu-kernels.cu, compiled; meson.build makes it. */
extern const uint64_t syn_step_image[];

/* As gpu-kernels.cu has them. */
static const char *const kernel_names[SYN_KERNELS] = {
	"syn_step_embed", "syn_step_product_row", "syn_step_product_rows",
	"syn_step_heads", "syn_step_shares",	  "syn_step_choose",
};

int syn_gpu_model_check(const struct syn_gpu_model *m, CUresult result,
			const char *what)
{
	int r = syn_cuda_errno(m->api, result, what);

	if (r)
		syn_error("%s: %s: %s", m->gpu->info.name, what, strerror(-r));
	return r;
}

static int launch(struct syn_gpu_model *m, enum syn_gpu_kernel kernel,
		  unsigned int x, unsigned int y, unsigned int threads,
		  void **args)
{
	return syn_gpu_model_check(
		m,
		m->api->cuLaunchKernel(m->kernels[kernel], x, y, 1, threads, 1,
				       1, 0, m->stream, args, NULL),
		kernel_names[kernel]);
}

/* ---- layers ------------------------------------------------------------- */

static int give_product(struct syn_gpu_model *m,
			const struct syn_step_product *product)
{
	struct syn_step_product p = *product;
	void *args[] = { &p };
	bool one = p.rows == 1;

	p.eps = (float)m->config->norm_eps;
	return launch(m, one ? SYN_KERNEL_PRODUCT_ROW : SYN_KERNEL_PRODUCT_ROWS,
		      p.columns / SYN_STEP_COLUMNS,
		      one ? 1 : syn_div_up(p.rows, SYN_STEP_ROWS),
		      SYN_STEP_THREADS, args);
}

static int give_embed(const struct syn_gpu_work *w)
{
	struct syn_gpu_model *m = w->model;
	CUdeviceptr step = w->step;
	uint32_t width = m->config->d_model;
	void *args[] = { &step,		&m->weights->embed,
			 &width,	&m->weights->angles,
			 &m->scratch.x, &m->scratch.turns };

	return launch(m, SYN_KERNEL_EMBED, w->rows, 1, 256, args);
}

static CUdeviceptr layer_parts(const struct syn_gpu_work *w, unsigned int layer)
{
	return w->parts +
	       (uint64_t)layer * w->max_parts * sizeof(struct syn_attend_part);
}

static int give_heads(const struct syn_gpu_work *w, unsigned int layer)
{
	struct syn_gpu_model *m = w->model;
	const struct syn_model_config *c = m->config;
	struct syn_step_heads h = {
		.step = w->step,
		.in = m->scratch.wide,
		.turns = m->scratch.turns,
		.parts = layer_parts(w, layer),
		.q = m->scratch.q,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
	};
	void *args[] = { &h };

	return launch(m, SYN_KERNEL_HEADS, w->rows,
		      c->n_heads + 2 * c->n_kv_heads, SYN_STEP_HALF, args);
}

static int give_shares(const struct syn_gpu_work *w, unsigned int layer)
{
	struct syn_gpu_model *m = w->model;
	CUdeviceptr step = w->step;
	uint32_t heads = m->config->n_heads;
	float *sums = w->sums + (size_t)layer * m->max_blocks * heads;
	void *args[] = { &step, &m->scratch.shares, &sums };

	return launch(m, SYN_KERNEL_SHARES, m->max_blocks, heads, TOKENS, args);
}

static int give_attention(const struct syn_gpu_work *w, unsigned int layer)
{
	struct syn_gpu_model *m = w->model;
	const struct syn_gpu_scratch *s = &m->scratch;
	const struct syn_attend_batch batch = {
		.q = (const void *)s->q,
		.parts = (const void *)layer_parts(w, layer),
		.seqs = (const void *)w->seqs,
		.nr_seqs = w->rows,
		.out = (float *)s->heads,
		.lse = (float *)s->lse,
		.shares = w->sums ? (float *)s->shares : NULL,
	};
	int r = syn_attend_gpu(m->attend, &m->shape, &batch, w->nr_parts,
			       s->attend, m->stream);

	if (r) {
		syn_error("%s: attention: %s", m->gpu->info.name, strerror(-r));
		return r;
	}
	return w->sums ? give_shares(w, layer) : 0;
}

static int give_layer(const struct syn_gpu_work *w, unsigned int n)
{
	struct syn_gpu_model *m = w->model;
	const struct syn_model_config *c = m->config;
	const struct syn_gpu_layer *layer = &m->weights->layers[n];
	const struct syn_gpu_scratch *s = &m->scratch;
	uint32_t heads = c->n_heads * SYN_STEP_DIM;
	const struct syn_step_product qkv = {
		.in = s->x,
		.weights = layer->qkv,
		.norm = layer->attn_norm,
		.out = s->wide,
		.rows = w->rows,
		.depth = c->d_model,
		.columns = heads + 2 * c->n_kv_heads * SYN_STEP_DIM,
		.input = SYN_STEP_NORM,
	};
	const struct syn_step_product o = {
		.in = s->heads,
		.weights = layer->o,
		.out = s->x,
		.rows = w->rows,
		.depth = heads,
		.columns = c->d_model,
		.add = 1,
	};
	const struct syn_step_product gate_up = {
		.in = s->x,
		.weights = layer->gate_up,
		.norm = layer->mlp_norm,
		.out = s->wide,
		.rows = w->rows,
		.depth = c->d_model,
		.columns = 2 * c->d_ff,
		.input = SYN_STEP_NORM,
	};
	const struct syn_step_product down = {
		.in = s->wide,
		.weights = layer->down,
		.out = s->x,
		.rows = w->rows,
		.depth = c->d_ff,
		.columns = c->d_model,
		.input = SYN_STEP_GATE,
		.add = 1,
	};
	int r = give_product(m, &qkv);

	if (!r)
		r = give_heads(w, n);
	if (!r)
		r = give_attention(w, n);
	if (!r)
		r = give_product(m, &o);
	if (!r)
		r = give_product(m, &gate_up);
	return r ? r : give_product(m, &down);
}

/* The last token's. */
static int give_answer(const struct syn_gpu_work *w)
{
	struct syn_gpu_model *m = w->model;
	const struct syn_model_config *c = m->config;
	const struct syn_step_product logits = {
		.in = m->scratch.x +
		      (uint64_t)(w->rows - 1) * c->d_model * sizeof(float),
		.weights = m->weights->logits,
		.norm = m->weights->norm,
		.out = m->scratch.wide,
		.rows = 1,
		.depth = c->d_model,
		.columns = c->vocab,
		.input = SYN_STEP_NORM,
	};
	struct syn_next *next = w->next;
	void *args[] = { &m->scratch.wide, &next };
	int r = give_product(m, &logits);

	return r ? r : launch(m, SYN_KERNEL_CHOOSE, 1, 1, SYN_VOCAB, args);
}

int syn_gpu_work_give(void *work)
{
	const struct syn_gpu_work *w = work;
	int r = w->first ? 0 : give_embed(w);

	for (unsigned int n = w->first; n < w->end && !r; n++)
		r = give_layer(w, n);
	if (!r && w->next && w->end == w->model->config->n_layers)
		r = give_answer(w);
	return r;
}

/* ---- open and close ----------------------------------------------------- */

static uint64_t place(uint64_t *at, uint64_t bytes)
{
	uint64_t ret = *at;

	*at = syn_align_up(ret + bytes, ALIGN);
	return ret;
}

static int model_kernels(struct syn_gpu_model *m)
{
	CUresult result = m->api->cuModuleLoadData(&m->module, syn_step_image);

	for (unsigned int i = 0; i < SYN_KERNELS && !result; i++)
		result = m->api->cuModuleGetFunction(&m->kernels[i], m->module,
						     kernel_names[i]);
	return syn_gpu_model_check(m, result, "kernels");
}

static int model_attend(struct syn_gpu_model *m)
{
	const struct syn_model_config *c = m->config;

	m->shape = (struct syn_attend_shape){
		.dtype = SYN_DTYPE_F16,
		.dim = SYN_STEP_DIM,
		.kv_heads = (uint16_t)c->n_kv_heads,
		.group = (uint16_t)(c->n_heads / c->n_kv_heads),
		.scale = 1 / sqrtf(SYN_STEP_DIM),
	};
	if (!syn_attend_shape_can_be(&m->shape)) {
		syn_error("%s: attention has no such shape", m->gpu->info.name);
		return -EINVAL;
	}
	return syn_attend_gpu_open(m->gpu, &m->attend);
}

static int model_scratch(struct syn_gpu_model *m, bool shares)
{
	const struct syn_model_config *c = m->config;
	const uint64_t heads = (uint64_t)c->n_heads * SYN_STEP_DIM;
	const uint64_t qkv = heads + 2ull * c->n_kv_heads * SYN_STEP_DIM;
	const uint64_t widest = syn_max(qkv, 2ull * c->d_ff);
	const uint64_t wide = syn_max(widest, (uint64_t)c->vocab);
	const uint64_t blocks = m->max_blocks;
	struct syn_gpu_scratch *s = &m->scratch;
	const struct {
		CUdeviceptr *to;
		uint64_t bytes;
	} all[] = {
		{ &s->x, TOKENS * 4ull * c->d_model },
		{ &s->wide, TOKENS * 4ull * wide },
		{ &s->turns, TOKENS * 8ull * SYN_STEP_HALF },
		{ &s->q, TOKENS * 2ull * heads },
		{ &s->heads, TOKENS * 4ull * heads },
		{ &s->lse, TOKENS * 4ull * c->n_heads },
		{ &s->shares,
		  shares ? TOKENS * 4ull * c->n_heads * blocks : 0 },
		{ &s->attend,
		  syn_attend_gpu_scratch(&m->shape, TOKENS, TOKENS * blocks) },
	};
	uint64_t bytes = 0;
	int r;

	for (size_t i = 0; i < syn_array_size(all); i++)
		*all[i].to = place(&bytes, all[i].bytes);
	r = syn_gpu_model_check(m, m->api->cuMemAlloc_v2(&s->at, bytes),
				"cuMemAlloc");
	for (size_t i = 0; i < syn_array_size(all) && !r; i++)
		*all[i].to = all[i].bytes ? *all[i].to + s->at : 0;
	return r;
}

static int model_open(struct syn_gpu_model *m, const struct syn_model *model,
		      bool shares)
{
	int r = model_kernels(m);

	if (!r)
		r = model_attend(m);
	if (!r)
		r = syn_gpu_weights_new(m->api, m->stream, model, &m->weights);
	return r ? r : model_scratch(m, shares);
}

int syn_gpu_model_new(struct syn_gpu *gpu, CUstream stream,
		      const struct syn_model *model, unsigned int max_blocks,
		      bool shares, struct syn_gpu_model **ret)
{
	struct syn_gpu_model *m = syn_alloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->config = &model->config;
	m->gpu = gpu;
	m->api = gpu->api;
	m->stream = stream;
	m->max_blocks = max_blocks;
	r = model_open(m, model, shares);
	if (r) {
		syn_gpu_model_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

struct syn_gpu_model *syn_gpu_model_free(struct syn_gpu_model *m)
{
	if (!m)
		return NULL;
	syn_attend_gpu_close(m->attend);
	syn_gpu_weights_free(m->api, m->weights);
	if (m->scratch.at)
		(void)m->api->cuMemFree_v2(m->scratch.at);
	if (m->module)
		(void)m->api->cuModuleUnload(m->module);
	free(m);
	return NULL;
}
