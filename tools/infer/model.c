/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a model: checks its sizes and finds its tensors. */
#include "tools/infer/model.h"

#include <math.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/safetensors.h"
#include "tools/infer/simd.h"

#define NAME_BYTES 64

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

static void layer_size(const struct syn_model_config *c,
		       struct syn_layer *layer)
{
	unsigned int heads = c->n_heads * c->head_dim;
	unsigned int kv_heads = c->n_kv_heads * c->head_dim;

	layer->qkv.part[0].nr = heads;
	layer->qkv.part[1].nr = kv_heads;
	layer->qkv.part[2].nr = kv_heads;
	layer->qkv.depth = c->d_model;
	layer->o.part[0].nr = c->d_model;
	layer->o.depth = heads;
	layer->gate_up.part[0].nr = c->d_ff;
	layer->gate_up.part[1].nr = c->d_ff;
	layer->gate_up.depth = c->d_model;
	layer->down.part[0].nr = c->d_model;
	layer->down.depth = c->d_ff;
}

static int tensor_find(const struct syn_safetensors *file, unsigned int n,
		       const char *what, unsigned int rows,
		       unsigned int columns, const uint16_t **ret)
{
	char name[NAME_BYTES];

	(void)snprintf(name, sizeof(name), "layers.%u.%s.weight", n, what);
	return syn_safetensors_tensor(file, name, rows, columns, ret);
}

static int matrix_find(const struct syn_safetensors *file, unsigned int n,
		       const char *const names[SYN_MATRIX_PARTS],
		       struct syn_matrix *matrix)
{
	int r = 0;

	for (unsigned int i = 0; i < SYN_MATRIX_PARTS && names[i] && r == 0;
	     i++)
		r = tensor_find(file, n, names[i], matrix->part[i].nr,
				matrix->depth, &matrix->part[i].half);
	return r;
}

static int layer_find(const struct syn_safetensors *file,
		      const struct syn_model_config *c, unsigned int n,
		      struct syn_layer *layer)
{
	const struct {
		const char *const names[SYN_MATRIX_PARTS];
		struct syn_matrix *to;
	} all[] = {
		{ { "attn.q", "attn.k", "attn.v" }, &layer->qkv },
		{ { "attn.o" }, &layer->o },
		{ { "mlp.gate", "mlp.up" }, &layer->gate_up },
		{ { "mlp.down" }, &layer->down },
	};
	int r;

	layer_size(c, layer);
	r = tensor_find(file, n, "attn_norm", 0, c->d_model, &layer->attn_norm);
	if (r == 0)
		r = tensor_find(file, n, "mlp_norm", 0, c->d_model,
				&layer->mlp_norm);
	for (size_t i = 0; i < syn_array_size(all) && r == 0; i++)
		r = matrix_find(file, n, all[i].names, all[i].to);
	return r;
}

static int model_fill(struct syn_model *model)
{
	const struct syn_model_config *c = &model->config;
	int r;

	model->layers = syn_alloc(c->n_layers, sizeof(*model->layers));
	if (!model->layers)
		return -ENOMEM;
	r = syn_safetensors_tensor(model->file, "embed.weight", c->vocab,
				   c->d_model, &model->embed);
	model->logits = (struct syn_matrix){
		.part = { { model->embed, c->vocab } },
		.depth = c->d_model,
	};
	if (r == 0)
		r = syn_safetensors_tensor(model->file, "norm.weight", 0,
					   c->d_model, &model->norm);
	for (unsigned int n = 0; n < c->n_layers && r == 0; n++)
		r = layer_find(model->file, c, n, &model->layers[n]);
	return r;
}

int syn_model_load(const char *path, struct syn_model **ret)
{
	struct syn_model *model = syn_alloc(1, sizeof(*model));
	int r;

	if (!model)
		return -ENOMEM;
	r = syn_safetensors_open(path, &model->file);
	if (r == 0)
		r = config_read(model->file, &model->config);
	if (r == 0)
		r = model_fill(model);
	if (r) {
		syn_model_free(model);
		return r;
	}
	syn_safetensors_identity(model->file, model->identity);
	*ret = model;
	return 0;
}

struct syn_model *syn_model_free(struct syn_model *model)
{
	if (!model)
		return NULL;
	free(model->layers);
	syn_safetensors_close(model->file);
	free(model);
	return NULL;
}
