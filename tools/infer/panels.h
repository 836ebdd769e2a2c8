/* SPDX-License-Identifier: Apache-2.0 */
/* A model's weights for the arithmetic of simd.h: fp32, matrices in panels. */
#ifndef SYN_TOOLS_INFER_PANELS_H
#define SYN_TOOLS_INFER_PANELS_H

struct syn_model;
struct syn_simd;

/**
 * struct syn_layer_panels - of one layer.
 * @attn_norm:	[d_model]
 * @qkv:	queries, keys and values one after the other.
 * @o:		attention's output.
 * @mlp_norm:	[d_model]
 * @gate_up:	gate, then up.
 * @down:	back to d_model.
 */
struct syn_layer_panels {
	float *attn_norm;
	float *qkv;
	float *o;
	float *mlp_norm;
	float *gate_up;
	float *down;
};

/**
 * struct syn_panels - of a model; read only.
 * @n_layers:	entries of @layers.
 * @embed:	[vocab][d_model]
 * @logits:	the same in panels.
 * @norm:	[d_model]
 * @layers:	each.
 */
struct syn_panels {
	unsigned int n_layers;
	float *embed;
	float *logits;
	float *norm;
	struct syn_layer_panels *layers;
};

int syn_panels_new(const struct syn_model *model, const struct syn_simd *simd,
		   struct syn_panels **ret);
/* Takes NULL, returns NULL. */
struct syn_panels *syn_panels_free(struct syn_panels *panels);

#endif
