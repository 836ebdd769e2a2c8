/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass on the CPU. */
#include "tools/infer/forward.h"

#include <math.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/infer/kv.h"
#include "tools/infer/model.h"
#include "tools/infer/panels.h"
#include "tools/infer/simd.h"

#define CHUNK	  SYN_PAGE_TOKENS
#define HALF	  (SYN_HEAD_DIM / 2)
#define TILE	  (SYN_PAGE_TOKENS * SYN_HEAD_DIM) /* values of a tile */
#define BATCH_MAX 64u				   /* pages pinned at once */

/**
 * struct forward_cpu - scratch of one forward pass.
 * @forward:	what the engine sees.
 * @model:	its sizes.
 * @simd:	the arithmetic.
 * @panels:	the weights for it.
 * @group:	query heads of a KV head.
 * @columns:	queries of a KV head in a full chunk.
 * @x:		residual stream [CHUNK][d_model].
 * @normed:	its norm, or what goes into a matrix next.
 * @packed:	the same in tiles.
 * @wide:	what comes out of a matrix [CHUNK][widest].
 * @angle_cos:	[CHUNK][HALF] of the chunk's positions.
 * @angle_sin:	the same.
 * @q:		queries in panels, for one KV head after the other.
 * @max:	streaming softmax, [n_kv_heads][columns]; see syn_simd_page.
 * @sum:	the same.
 * @mass:	of one page and one KV head, [columns].
 * @out:	[n_kv_heads][columns][HEAD_DIM].
 * @work:	of simd; also the queries of a KV head as rows.
 * @page_max:	[pages][n_kv_heads][columns]; for reports only.
 * @page_mass:	the same.
 */
struct forward_cpu {
	struct syn_forward forward;
	const struct syn_model *model;
	const struct syn_simd *simd;
	struct syn_panels *panels;
	unsigned int group;
	unsigned int columns;
	float *x;
	float *normed;
	float *packed;
	float *wide;
	float *angle_cos;
	float *angle_sin;
	float *q;
	float *max;
	float *sum;
	float *mass;
	float *out;
	float *work;
	float *page_max;
	float *page_mass;
};

/**
 * struct chunk - tokens on their way through the layers.
 * @f:		the scratch.
 * @seq:	the sequence they belong to.
 * @nr:		how many.
 * @first:	place of the first in the tail page.
 * @full:	full pages before the tail.
 */
struct chunk {
	struct forward_cpu *f;
	struct syn_kv_seq *seq;
	unsigned int nr;
	unsigned int first;
	unsigned int full;
};

static int forward_alloc(struct forward_cpu *f)
{
	const struct syn_model_config *c = &f->model->config;
	size_t heads = (size_t)c->n_heads * c->head_dim;
	size_t qkv = heads + 2 * (size_t)c->n_kv_heads * c->head_dim;
	size_t ff = 2 * (size_t)c->d_ff;
	size_t deepest = syn_max(heads, (size_t)c->d_model);
	size_t widest = syn_max(qkv, (size_t)c->vocab);
	size_t queries = (size_t)c->n_kv_heads * f->columns;
	size_t work = (size_t)f->columns * SYN_HEAD_DIM;
	size_t pages = f->forward.max_blocks;
	const struct {
		float **to;
		size_t nr;
	} all[] = {
		{ &f->x, CHUNK * (size_t)c->d_model },
		{ &f->normed, CHUNK * syn_max(deepest, ff) },
		{ &f->packed, CHUNK * syn_max(deepest, ff) },
		{ &f->wide, CHUNK * syn_max(widest, ff) },
		{ &f->angle_cos, CHUNK * HALF },
		{ &f->angle_sin, CHUNK * HALF },
		{ &f->q, queries * SYN_HEAD_DIM },
		{ &f->max, queries },
		{ &f->sum, queries },
		{ &f->mass, f->columns },
		{ &f->out, queries * SYN_HEAD_DIM },
		{ &f->work, syn_max(work, (size_t)SYN_SIMD_WORK) },
		{ &f->page_max, pages * queries },
		{ &f->page_mass, pages * queries },
	};

	for (size_t i = 0; i < syn_array_size(all); i++) {
		*all[i].to = syn_simd_floats(all[i].nr);
		if (!*all[i].to)
			return -ENOMEM;
	}
	return 0;
}

static struct forward_cpu *forward_of(struct syn_forward *forward)
{
	return syn_container_of(forward, struct forward_cpu, forward);
}

static void cpu_free(struct syn_forward *forward)
{
	struct forward_cpu *f = forward_of(forward);

	syn_panels_free(f->panels);
	free(f->x);
	free(f->normed);
	free(f->packed);
	free(f->wide);
	free(f->angle_cos);
	free(f->angle_sin);
	free(f->q);
	free(f->max);
	free(f->sum);
	free(f->mass);
	free(f->out);
	free(f->work);
	free(f->page_max);
	free(f->page_mass);
	free(f);
}

/* ---- small parts -------------------------------------------------------- */

static void rms_norm(const float *x, const float *weight, unsigned int nr,
		     double eps, float *ret)
{
	double sum = 0;
	float scale;

	for (unsigned int i = 0; i < nr; i++)
		sum += (double)x[i] * (double)x[i];
	scale = (float)(1 / sqrt(sum / nr + eps));
	for (unsigned int i = 0; i < nr; i++)
		ret[i] = x[i] * scale * weight[i];
}

static void chunk_norm(struct chunk *chunk, const float *weight)
{
	const struct syn_model_config *c = &chunk->f->model->config;

	for (unsigned int i = 0; i < chunk->nr; i++) {
		size_t at = (size_t)i * c->d_model;

		rms_norm(chunk->f->x + at, weight, c->d_model, c->norm_eps,
			 chunk->f->normed + at);
	}
}

/* wide = normed * panels; rows past the chunk's come out as zero. */
static void chunk_multiply(struct chunk *chunk, const float *panels,
			   unsigned int columns, unsigned int depth)
{
	struct forward_cpu *f = chunk->f;
	unsigned int rows =
		(unsigned int)syn_align_up(chunk->nr, SYN_SIMD_ROWS);

	syn_simd_pack(f->normed, chunk->nr, depth, f->packed);
	f->simd->multiply(f->packed, panels, rows, columns, depth, f->wide);
}

/* x += wide */
static void chunk_add(struct chunk *chunk)
{
	size_t nr = (size_t)chunk->nr * chunk->f->model->config.d_model;

	for (size_t i = 0; i < nr; i++)
		chunk->f->x[i] += chunk->f->wide[i];
}

static void chunk_angles(struct chunk *chunk, uint64_t at)
{
	struct forward_cpu *f = chunk->f;
	double theta = f->model->config.rope_theta;

	for (unsigned int d = 0; d < HALF; d++) {
		double step = pow(theta, -(double)d / HALF);

		for (unsigned int i = 0; i < chunk->nr; i++) {
			double angle = (double)(at + i) * step;

			f->angle_cos[i * HALF + d] = (float)cos(angle);
			f->angle_sin[i * HALF + d] = (float)sin(angle);
		}
	}
}

/* Turns the pairs (d, d + HALF) of one head of the chunk's token @i. */
static void rotate(const struct forward_cpu *f, unsigned int i, float *x)
{
	const float *cosine = f->angle_cos + (size_t)i * HALF;
	const float *sine = f->angle_sin + (size_t)i * HALF;

	for (unsigned int d = 0; d < HALF; d++) {
		float a = x[d];
		float b = x[d + HALF];

		x[d] = a * cosine[d] - b * sine[d];
		x[d + HALF] = b * cosine[d] + a * sine[d];
	}
}

/* ---- attention ---------------------------------------------------------- */

/* A head's keys (@part 0) or values (@part 1) in a page. */
static uint16_t *page_tile(void *page, unsigned int head, unsigned int part)
{
	return (uint16_t *)page + ((size_t)head * 2 + part) * TILE;
}

/* Keys and values of the chunk go to the tail page, rounded to fp16. */
static void chunk_store(struct chunk *chunk, unsigned int layer)
{
	struct forward_cpu *f = chunk->f;
	const struct syn_model_config *c = &f->model->config;
	unsigned int width = (c->n_heads + 2 * c->n_kv_heads) * SYN_HEAD_DIM;
	void *tail = syn_kv_seq_tail(chunk->seq, layer);

	for (unsigned int i = 0; i < chunk->nr; i++) {
		float *row = f->wide + (size_t)i * width;
		float *k = row + (size_t)c->n_heads * SYN_HEAD_DIM;
		float *v = k + (size_t)c->n_kv_heads * SYN_HEAD_DIM;
		size_t at = (size_t)(chunk->first + i) * SYN_HEAD_DIM;

		for (unsigned int h = 0; h < c->n_kv_heads; h++) {
			size_t head = (size_t)h * SYN_HEAD_DIM;

			rotate(f, i, k + head);
			f->simd->to_half(k + head, page_tile(tail, h, 0) + at,
					 SYN_HEAD_DIM);
			f->simd->to_half(v + head, page_tile(tail, h, 1) + at,
					 SYN_HEAD_DIM);
		}
	}
}

/* Queries of KV head @head: rotated, scaled, in panels; state starts anew. */
static void chunk_queries(struct chunk *chunk, unsigned int head,
			  unsigned int columns)
{
	struct forward_cpu *f = chunk->f;
	const struct syn_model_config *c = &f->model->config;
	unsigned int width = (c->n_heads + 2 * c->n_kv_heads) * SYN_HEAD_DIM;
	size_t group_bytes = (size_t)f->group * SYN_HEAD_DIM * sizeof(float);
	size_t state = (size_t)head * f->columns;
	float scale = 1 / sqrtf(SYN_HEAD_DIM);

	for (unsigned int i = 0; i < chunk->nr; i++) {
		float *q = f->wide + (size_t)i * width +
			   (size_t)head * f->group * SYN_HEAD_DIM;

		for (unsigned int g = 0; g < f->group; g++)
			rotate(f, i, q + (size_t)g * SYN_HEAD_DIM);
		for (unsigned int d = 0; d < f->group * SYN_HEAD_DIM; d++)
			q[d] *= scale;
		memcpy(f->work + (size_t)i * f->group * SYN_HEAD_DIM, q,
		       group_bytes);
	}
	syn_simd_pack_panels(f->work, chunk->nr * f->group, SYN_HEAD_DIM,
			     f->q + state * SYN_HEAD_DIM);
	for (unsigned int n = 0; n < columns; n++) {
		f->max[state + n] = -INFINITY;
		f->sum[state + n] = 0;
	}
	memset(f->out + state * SYN_HEAD_DIM, 0,
	       (size_t)columns * SYN_HEAD_DIM * sizeof(*f->out));
}

/* Keeps what the shares of page @number are made of. */
static void page_remember(struct chunk *chunk, unsigned int number,
			  unsigned int head)
{
	struct forward_cpu *f = chunk->f;
	size_t state = (size_t)head * f->columns;
	size_t at = (size_t)number * f->columns * f->model->config.n_kv_heads +
		    state;
	size_t bytes = (size_t)chunk->nr * f->group * sizeof(float);

	memcpy(f->page_max + at, f->max + state, bytes);
	memcpy(f->page_mass + at, f->mass, bytes);
}

/* All heads of the chunk over page @number, which lies at @page. */
static void chunk_page(struct chunk *chunk, unsigned int number, void *page)
{
	struct forward_cpu *f = chunk->f;
	bool tail = number == chunk->full;
	struct syn_simd_page p = {
		.nr_tokens = tail ? chunk->first + chunk->nr : SYN_PAGE_TOKENS,
		.nr_columns = (unsigned int)syn_align_up(
			(uint64_t)chunk->nr * f->group, SYN_SIMD_PANEL),
		.causal = tail,
		.first = chunk->first,
		.group = f->group,
		.mass = f->mass,
		.work = f->work,
	};

	for (unsigned int h = 0; h < f->model->config.n_kv_heads; h++) {
		size_t state = (size_t)h * f->columns;

		p.k = page_tile(page, h, 0);
		p.v = page_tile(page, h, 1);
		p.q = f->q + state * SYN_HEAD_DIM;
		p.max = f->max + state;
		p.sum = f->sum + state;
		p.out = f->out + state * SYN_HEAD_DIM;
		f->simd->page(&p);
		if (syn_kv_seq_reports(chunk->seq))
			page_remember(chunk, number, h);
	}
}

/* Full pages in batches, then the tail. */
static int chunk_pages(struct chunk *chunk, unsigned int layer)
{
	void *addr[BATCH_MAX];
	unsigned int done = 0;

	while (done < chunk->full) {
		unsigned int want = syn_min(chunk->full - done, BATCH_MAX);
		int nr;

		nr = syn_kv_seq_pin(chunk->seq, layer, done, want, addr);
		if (nr < 0)
			return nr;
		for (int i = 0; i < nr; i++)
			chunk_page(chunk, done + (unsigned int)i, addr[i]);
		syn_kv_seq_unpin(chunk->seq, layer, done, (unsigned int)nr);
		done += (unsigned int)nr;
	}
	chunk_page(chunk, chunk->full, syn_kv_seq_tail(chunk->seq, layer));
	return 0;
}

/* normed[token][query head][dim] = out / sum */
static void chunk_merge(struct chunk *chunk)
{
	struct forward_cpu *f = chunk->f;
	const struct syn_model_config *c = &f->model->config;

	for (unsigned int h = 0; h < c->n_heads; h++) {
		size_t state = (size_t)(h / f->group) * f->columns;

		for (unsigned int i = 0; i < chunk->nr; i++) {
			size_t column =
				state + (size_t)i * f->group + h % f->group;
			const float *out = f->out + column * SYN_HEAD_DIM;
			float *to = f->normed +
				    ((size_t)i * c->n_heads + h) * SYN_HEAD_DIM;

			for (unsigned int d = 0; d < SYN_HEAD_DIM; d++)
				to[d] = out[d] / f->sum[column];
		}
	}
}

/*
 * All queries of query head @g of KV head @head to page @number, whose weights
 * were relative to the maximum of their time.
 */
static float chunk_share(const struct chunk *chunk, unsigned int number,
			 unsigned int head, unsigned int g)
{
	const struct forward_cpu *f = chunk->f;
	size_t page = (size_t)number * f->columns * f->model->config.n_kv_heads;
	double share = 0;

	for (unsigned int i = 0; i < chunk->nr; i++) {
		size_t now = (size_t)head * f->columns + i * f->group + g;
		float shrink = expf(f->page_max[page + now] - f->max[now]);

		share += (double)(f->page_mass[page + now] * shrink /
				  f->sum[now]);
	}
	return (float)share;
}

static int chunk_report(struct chunk *chunk, unsigned int layer)
{
	unsigned int heads = chunk->f->model->config.n_kv_heads;
	uint64_t at = (uint64_t)chunk->full * SYN_PAGE_TOKENS + chunk->first;
	float *share;
	int r;

	r = syn_kv_seq_report_begin(chunk->seq, layer, at, chunk->nr, &share);
	if (r || !share)
		return r;
	for (unsigned int n = 0; n <= chunk->full; n++)
		for (unsigned int h = 0; h < heads; h++)
			for (unsigned int g = 0; g < chunk->f->group; g++)
				*share++ = chunk_share(chunk, n, h, g);
	syn_kv_seq_report_end(chunk->seq);
	return 0;
}

static int chunk_attend(struct chunk *chunk, unsigned int layer)
{
	struct forward_cpu *f = chunk->f;
	const struct syn_model_config *c = &f->model->config;
	unsigned int columns = (unsigned int)syn_align_up(
		(uint64_t)chunk->nr * f->group, SYN_SIMD_PANEL);
	int r;

	chunk_store(chunk, layer);
	for (unsigned int h = 0; h < c->n_kv_heads; h++)
		chunk_queries(chunk, h, columns);
	r = chunk_pages(chunk, layer);
	if (r)
		return r;
	chunk_merge(chunk);
	if (syn_kv_seq_reports(chunk->seq))
		return chunk_report(chunk, layer);
	return 0;
}

/* ---- layers ------------------------------------------------------------- */

/* normed = silu(gate) * up */
static void chunk_gate(struct chunk *chunk)
{
	struct forward_cpu *f = chunk->f;
	unsigned int width = f->model->config.d_ff;

	for (unsigned int i = 0; i < chunk->nr; i++) {
		const float *gate = f->wide + (size_t)i * 2 * width;
		float *to = f->normed + (size_t)i * width;

		memcpy(to, gate + width, width * sizeof(*to));
		f->simd->gate(gate, to, width);
	}
}

static int chunk_layer(struct chunk *chunk, unsigned int n)
{
	const struct syn_model_config *c = &chunk->f->model->config;
	const struct syn_layer_panels *layer = &chunk->f->panels->layers[n];
	unsigned int heads = c->n_heads * SYN_HEAD_DIM;
	int r;

	chunk_norm(chunk, layer->attn_norm);
	chunk_multiply(chunk, layer->qkv,
		       heads + 2 * c->n_kv_heads * SYN_HEAD_DIM, c->d_model);
	r = chunk_attend(chunk, n);
	if (r)
		return r;
	chunk_multiply(chunk, layer->o, c->d_model, heads);
	chunk_add(chunk);
	chunk_norm(chunk, layer->mlp_norm);
	chunk_multiply(chunk, layer->gate_up, 2 * c->d_ff, c->d_model);
	chunk_gate(chunk);
	chunk_multiply(chunk, layer->down, c->d_model, c->d_ff);
	chunk_add(chunk);
	return 0;
}

static uint32_t most_likely(const float *logits)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < SYN_VOCAB; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static void chunk_next(struct chunk *chunk, struct syn_next *ret)
{
	struct forward_cpu *f = chunk->f;
	const struct syn_model_config *c = &f->model->config;
	struct chunk last = *chunk;

	last.nr = 1;
	rms_norm(f->x + (size_t)(chunk->nr - 1) * c->d_model, f->panels->norm,
		 c->d_model, c->norm_eps, f->normed);
	chunk_multiply(&last, f->panels->logits, c->vocab, c->d_model);
	memcpy(ret->logits, f->wide, sizeof(ret->logits));
	ret->byte = most_likely(ret->logits);
}

static int cpu_run(struct syn_forward *forward, struct syn_kv_seq *seq,
		   const uint8_t *tokens, unsigned int nr, uint64_t at,
		   struct syn_next *ret)
{
	struct forward_cpu *f = forward_of(forward);
	const struct syn_model_config *c = &f->model->config;
	struct chunk chunk = {
		.f = f,
		.seq = seq,
		.nr = nr,
		.first = (unsigned int)(at % SYN_PAGE_TOKENS),
		.full = (unsigned int)(at / SYN_PAGE_TOKENS),
	};

	for (unsigned int i = 0; i < nr; i++)
		memcpy(f->x + (size_t)i * c->d_model,
		       f->panels->embed + (size_t)tokens[i] * c->d_model,
		       c->d_model * sizeof(*f->x));
	chunk_angles(&chunk, at);
	for (unsigned int n = 0; n < c->n_layers; n++) {
		int r = chunk_layer(&chunk, n);

		if (r)
			return r;
	}
	if (ret)
		chunk_next(&chunk, ret);
	return 0;
}

static const struct syn_forward_ops cpu_ops = {
	.run = cpu_run,
	.free = cpu_free,
};

int syn_forward_cpu_new(const struct syn_model *model, uint64_t max_tokens,
			struct syn_forward **ret)
{
	struct forward_cpu *f = syn_alloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->forward.ops = &cpu_ops;
	f->forward.device = "CPU";
	f->forward.max_blocks =
		(unsigned int)syn_div_up(max_tokens, SYN_PAGE_TOKENS);
	f->model = model;
	f->simd = syn_simd_best();
	f->group = model->config.n_heads / model->config.n_kv_heads;
	f->columns = CHUNK * f->group;
	r = syn_panels_new(model, f->simd, &f->panels);
	if (r == 0)
		r = forward_alloc(f);
	if (r) {
		cpu_free(&f->forward);
		return r;
	}
	*ret = &f->forward;
	return 0;
}

/* ---- on any device ------------------------------------------------------ */

struct syn_forward *syn_forward_free(struct syn_forward *forward)
{
	if (forward)
		forward->ops->free(forward);
	return NULL;
}

int syn_forward_run(struct syn_forward *forward, struct syn_kv_seq *seq,
		    const uint8_t *tokens, unsigned int nr, uint64_t at,
		    struct syn_next *ret)
{
	if (!nr || at % SYN_PAGE_TOKENS + nr > SYN_PAGE_TOKENS ||
	    at / SYN_PAGE_TOKENS >= forward->max_blocks)
		return -EINVAL;
	return forward->ops->run(forward, seq, tokens, nr, at, ret);
}
