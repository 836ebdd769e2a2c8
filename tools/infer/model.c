/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a model: fp16 from the file, fp32 in panels in memory. */
#include "tools/infer/model.h"

#include <math.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/safetensors.h"
#include "tools/infer/simd.h"

#define NAME_BYTES 64

/**
 * struct load - a model being loaded.
 * @file:	where from.
 * @simd:	its conversion.
 * @rows:	one matrix as rows of fp32, large enough for the largest.
 */
struct load {
	struct syn_safetensors *file;
	const struct syn_simd *simd;
	float *rows;
};

static int meta_number(const struct syn_safetensors *file, const char *key,
		       double min, double max, double *ret)
{
	const char *text = syn_safetensors_meta(file, key);
	char *end;
	double x;

	if (!text) {
		syn_error("weights: metadata lacks \"%s\"", key);
		return -EBADMSG;
	}
	x = strtod(text, &end);
	if (end == text || *end || !(x >= min && x <= max)) {
		syn_error("weights: \"%s\" is \"%s\", not from %g to %g", key,
			  text, min, max);
		return -EBADMSG;
	}
	*ret = x;
	return 0;
}

static int meta_size(const struct syn_safetensors *file, const char *key,
		     unsigned int min, unsigned int max, unsigned int *ret)
{
	double x;
	int r;

	r = meta_number(file, key, min, max, &x);
	if (r)
		return r;
	if (x != floor(x)) {
		syn_error("weights: \"%s\" is not a whole number", key);
		return -EBADMSG;
	}
	*ret = (unsigned int)x;
	return 0;
}

/* Queries of one token lie in one panel, so their number must divide it. */
static int config_check(const struct syn_model_config *c)
{
	unsigned int group = c->n_heads / c->n_kv_heads;

	if (c->n_heads % c->n_kv_heads || SYN_SIMD_PANEL % group) {
		syn_error("weights: %u query heads over %u KV heads",
			  c->n_heads, c->n_kv_heads);
		return -EBADMSG;
	}
	if (c->d_model % SYN_SIMD_PANEL || c->d_ff % SYN_SIMD_PANEL) {
		syn_error("weights: widths are not multiples of %u",
			  SYN_SIMD_PANEL);
		return -EBADMSG;
	}
	return 0;
}

static int config_read(const struct syn_safetensors *file,
		       struct syn_model_config *ret)
{
	struct syn_model_config c;
	const struct {
		const char *key;
		unsigned int min;
		unsigned int max;
		unsigned int *to;
	} sizes[] = {
		{ "vocab", 256, 256, &c.vocab },
		{ "d_model", SYN_SIMD_PANEL, 4096, &c.d_model },
		{ "n_layers", 1, SYN_MODEL_LAYERS_MAX, &c.n_layers },
		{ "n_heads", 1, 64, &c.n_heads },
		{ "n_kv_heads", 1, 64, &c.n_kv_heads },
		{ "head_dim", SYN_HEAD_DIM, SYN_HEAD_DIM, &c.head_dim },
		{ "d_ff", SYN_SIMD_PANEL, 16384, &c.d_ff },
	};
	int r;

	for (size_t i = 0; i < syn_array_size(sizes); i++) {
		r = meta_size(file, sizes[i].key, sizes[i].min, sizes[i].max,
			      sizes[i].to);
		if (r)
			return r;
	}
	r = meta_number(file, "rope_theta", 1, 1e12, &c.rope_theta);
	if (r == 0)
		r = meta_number(file, "norm_eps", 0, 1, &c.norm_eps);
	if (r == 0)
		r = config_check(&c);
	if (r == 0)
		*ret = c;
	return r;
}

/* Adds tensor @name below the first @at rows of load->rows. */
static int load_rows(struct load *load, const char *name, unsigned int at,
		     unsigned int rows, unsigned int columns)
{
	const uint16_t *half;
	int r;

	r = syn_safetensors_tensor(load->file, name, rows, columns, &half);
	if (r)
		return r;
	load->simd->from_half(half, load->rows + (size_t)at * columns,
			      (size_t)rows * columns);
	return 0;
}

static int load_vector(struct load *load, const char *name, unsigned int nr,
		       float **ret)
{
	const uint16_t *half;
	float *x;
	int r;

	r = syn_safetensors_tensor(load->file, name, 0, nr, &half);
	if (r)
		return r;
	x = syn_simd_floats(nr);
	if (!x)
		return -ENOMEM;
	load->simd->from_half(half, x, nr);
	*ret = x;
	return 0;
}

/* What load->rows holds, as panels. */
static int load_panels(struct load *load, unsigned int rows,
		       unsigned int columns, float **ret)
{
	float *panels = syn_simd_floats((size_t)rows * columns);

	if (!panels)
		return -ENOMEM;
	syn_simd_pack_panels(load->rows, rows, columns, panels);
	*ret = panels;
	return 0;
}

/**
 * struct part - a tensor of a layer and its place in a joined matrix.
 * @name:	behind "layers.N.".
 * @rows:	of the tensor.
 */
struct part {
	const char *name;
	unsigned int rows;
};

static int load_joined(struct load *load, unsigned int layer,
		       const struct part *parts, unsigned int nr_parts,
		       unsigned int columns, float **ret)
{
	unsigned int at = 0;
	char name[NAME_BYTES];
	int r;

	for (unsigned int i = 0; i < nr_parts; i++) {
		(void)snprintf(name, sizeof(name), "layers.%u.%s.weight", layer,
			       parts[i].name);
		r = load_rows(load, name, at, parts[i].rows, columns);
		if (r)
			return r;
		at += parts[i].rows;
	}
	return load_panels(load, at, columns, ret);
}

static int load_norm(struct load *load, unsigned int layer, const char *which,
		     unsigned int nr, float **ret)
{
	char name[NAME_BYTES];

	(void)snprintf(name, sizeof(name), "layers.%u.%s.weight", layer, which);
	return load_vector(load, name, nr, ret);
}

static int load_layer(struct load *load, const struct syn_model_config *c,
		      unsigned int n, struct syn_layer *layer)
{
	const struct part qkv[] = {
		{ "attn.q", c->n_heads * c->head_dim },
		{ "attn.k", c->n_kv_heads * c->head_dim },
		{ "attn.v", c->n_kv_heads * c->head_dim },
	};
	const struct part o = { "attn.o", c->d_model };
	const struct part gate_up[] = {
		{ "mlp.gate", c->d_ff },
		{ "mlp.up", c->d_ff },
	};
	const struct part down = { "mlp.down", c->d_model };
	int r;

	r = load_norm(load, n, "attn_norm", c->d_model, &layer->attn_norm);
	if (r == 0)
		r = load_joined(load, n, qkv, 3, c->d_model, &layer->qkv);
	if (r == 0)
		r = load_joined(load, n, &o, 1, qkv[0].rows, &layer->o);
	if (r == 0)
		r = load_norm(load, n, "mlp_norm", c->d_model,
			      &layer->mlp_norm);
	if (r == 0)
		r = load_joined(load, n, gate_up, 2, c->d_model,
				&layer->gate_up);
	if (r == 0)
		r = load_joined(load, n, &down, 1, c->d_ff, &layer->down);
	return r;
}

static int load_ends(struct load *load, struct syn_model *model)
{
	const struct syn_model_config *c = &model->config;
	size_t nr = (size_t)c->vocab * c->d_model;
	int r;

	r = load_rows(load, "embed.weight", 0, c->vocab, c->d_model);
	if (r == 0)
		r = load_panels(load, c->vocab, c->d_model, &model->logits);
	if (r)
		return r;
	model->embed = syn_simd_floats(nr);
	if (!model->embed)
		return -ENOMEM;
	memcpy(model->embed, load->rows, nr * sizeof(*model->embed));
	return load_vector(load, "norm.weight", c->d_model, &model->norm);
}

static int model_fill(struct syn_model *model, struct load *load)
{
	const struct syn_model_config *c = &model->config;
	size_t wide = (size_t)(c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
	int r;

	wide = syn_max(wide, (size_t)2 * c->d_ff);
	wide = syn_max(wide, (size_t)c->vocab);
	load->rows = syn_simd_floats(wide * c->d_model);
	model->layers = syn_alloc(c->n_layers, sizeof(*model->layers));
	if (!load->rows || !model->layers)
		return -ENOMEM;
	r = load_ends(load, model);
	for (unsigned int n = 0; n < c->n_layers && r == 0; n++)
		r = load_layer(load, c, n, &model->layers[n]);
	return r;
}

int syn_model_load(const char *path, const struct syn_simd *simd,
		   struct syn_model **ret)
{
	struct load load = { .simd = simd };
	struct syn_model *model = NULL;
	int r;

	r = syn_safetensors_open(path, &load.file);
	if (r)
		return r;
	r = -ENOMEM;
	model = syn_alloc(1, sizeof(*model));
	if (!model)
		goto close_file;
	model->simd = simd;
	syn_safetensors_identity(load.file, model->identity);
	r = config_read(load.file, &model->config);
	if (r == 0)
		r = model_fill(model, &load);
	if (r == 0)
		*ret = syn_steal_ptr(&model);

close_file:
	syn_model_free(model);
	free(load.rows);
	syn_safetensors_close(load.file);
	return r;
}

static void layer_free(struct syn_layer *layer)
{
	free(layer->attn_norm);
	free(layer->qkv);
	free(layer->o);
	free(layer->mlp_norm);
	free(layer->gate_up);
	free(layer->down);
}

struct syn_model *syn_model_free(struct syn_model *model)
{
	if (!model)
		return NULL;
	for (unsigned int n = 0; model->layers && n < model->config.n_layers;
	     n++)
		layer_free(&model->layers[n]);
	free(model->layers);
	free(model->embed);
	free(model->logits);
	free(model->norm);
	free(model);
	return NULL;
}
