/* SPDX-License-Identifier: Apache-2.0 */
/* Weights for the CPU: fp16 as in the file to fp32 in panels. */
#include "tools/infer/panels.h"

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/infer/model.h"
#include "tools/infer/simd.h"

static int vector_make(const struct syn_simd *simd, const uint16_t *half,
		       size_t nr, float **ret)
{
	float *x = syn_simd_floats(nr);

	if (!x)
		return -ENOMEM;
	simd->from_half(half, x, nr);
	*ret = x;
	return 0;
}

static int panels_make(const struct syn_simd *simd,
		       const struct syn_matrix *matrix, float **ret)
{
	const unsigned int nr = syn_matrix_rows(matrix);
	float *rows = syn_simd_floats((size_t)nr * matrix->depth);
	float *panels = syn_simd_floats((size_t)nr * matrix->depth);
	float *to = rows;

	if (!rows || !panels) {
		free(rows);
		free(panels);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < SYN_MATRIX_PARTS && matrix->part[i].nr;
	     i++) {
		size_t elements = (size_t)matrix->part[i].nr * matrix->depth;

		simd->from_half(matrix->part[i].half, to, elements);
		to += elements;
	}
	syn_simd_pack_panels(rows, nr, matrix->depth, panels);
	free(rows);
	*ret = panels;
	return 0;
}

static int layer_make(const struct syn_simd *simd,
		      const struct syn_model_config *c,
		      const struct syn_layer *layer,
		      struct syn_layer_panels *ret)
{
	int r;

	r = vector_make(simd, layer->attn_norm, c->d_model, &ret->attn_norm);
	if (r == 0)
		r = panels_make(simd, &layer->qkv, &ret->qkv);
	if (r == 0)
		r = panels_make(simd, &layer->o, &ret->o);
	if (r == 0)
		r = vector_make(simd, layer->mlp_norm, c->d_model,
				&ret->mlp_norm);
	if (r == 0)
		r = panels_make(simd, &layer->gate_up, &ret->gate_up);
	if (r == 0)
		r = panels_make(simd, &layer->down, &ret->down);
	return r;
}

static int panels_fill(struct syn_panels *panels, const struct syn_model *model,
		       const struct syn_simd *simd)
{
	const struct syn_model_config *c = &model->config;
	int r;

	panels->n_layers = c->n_layers;
	panels->layers = syn_alloc(c->n_layers, sizeof(*panels->layers));
	if (!panels->layers)
		return -ENOMEM;
	r = vector_make(simd, model->embed, (size_t)c->vocab * c->d_model,
			&panels->embed);
	if (r == 0)
		r = panels_make(simd, &model->logits, &panels->logits);
	if (r == 0)
		r = vector_make(simd, model->norm, c->d_model, &panels->norm);
	for (unsigned int n = 0; n < c->n_layers && r == 0; n++)
		r = layer_make(simd, c, &model->layers[n], &panels->layers[n]);
	return r;
}

int syn_panels_new(const struct syn_model *model, const struct syn_simd *simd,
		   struct syn_panels **ret)
{
	struct syn_panels *panels = syn_alloc(1, sizeof(*panels));
	int r;

	if (!panels)
		return -ENOMEM;
	r = panels_fill(panels, model, simd);
	if (r) {
		syn_panels_free(panels);
		return r;
	}
	*ret = panels;
	return 0;
}

static void layer_free(struct syn_layer_panels *layer)
{
	free(layer->attn_norm);
	free(layer->qkv);
	free(layer->o);
	free(layer->mlp_norm);
	free(layer->gate_up);
	free(layer->down);
}

struct syn_panels *syn_panels_free(struct syn_panels *panels)
{
	if (!panels)
		return NULL;
	for (unsigned int n = 0; panels->layers && n < panels->n_layers; n++)
		layer_free(&panels->layers[n]);
	free(panels->layers);
	free(panels->embed);
	free(panels->logits);
	free(panels->norm);
	free(panels);
	return NULL;
}
