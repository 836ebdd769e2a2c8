/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: its sizes and its weights, ready for the arithmetic of simd.h.
 *
 * A byte-level transformer: RMSNorm, grouped-query attention with rotary
 * positions, SwiGLU, embeddings tied to the output.
 */
#ifndef SYN_TOOLS_INFER_MODEL_H
#define SYN_TOOLS_INFER_MODEL_H

#include <stdint.h>

#define SYN_MODEL_LAYERS_MAX 128u

struct syn_simd;

/**
 * struct syn_model_config - sizes, from the weight file's metadata.
 * @vocab:	always 256: a token is a byte.
 * @d_model:	width of the residual stream.
 * @n_layers:	layers.
 * @n_heads:	query heads, a multiple of @n_kv_heads.
 * @n_kv_heads:	key and value heads.
 * @head_dim:	always SYN_HEAD_DIM.
 * @d_ff:	width of the feed-forward part.
 * @rope_theta:	base of the rotary angles.
 * @norm_eps:	of RMSNorm.
 */
struct syn_model_config {
	unsigned int vocab;
	unsigned int d_model;
	unsigned int n_layers;
	unsigned int n_heads;
	unsigned int n_kv_heads;
	unsigned int head_dim;
	unsigned int d_ff;
	double rope_theta;
	double norm_eps;
};

/**
 * struct syn_layer - weights of one layer; matrices in panels.
 * @attn_norm:	[d_model]
 * @qkv:	queries, keys and values one after the other.
 * @o:		attention's output.
 * @mlp_norm:	[d_model]
 * @gate_up:	gate, then up.
 * @down:	back to d_model.
 */
struct syn_layer {
	float *attn_norm;
	float *qkv;
	float *o;
	float *mlp_norm;
	float *gate_up;
	float *down;
};

/**
 * struct syn_model - a model in memory; read only once loaded.
 * @config:	its sizes.
 * @simd:	the arithmetic its panels are meant for.
 * @identity:	128 bits of a hash of the weight file.
 * @embed:	[vocab][d_model]
 * @logits:	the same in panels.
 * @norm:	[d_model]
 * @layers:	n_layers of them.
 */
struct syn_model {
	struct syn_model_config config;
	const struct syn_simd *simd;
	uint64_t identity[2];
	float *embed;
	float *logits;
	float *norm;
	struct syn_layer *layers;
};

/* -EBADMSG, -ENOENT: the file is not such a model; the reason is logged. */
int syn_model_load(const char *path, const struct syn_simd *simd,
		   struct syn_model **ret);
/* Takes NULL, returns NULL. */
struct syn_model *syn_model_free(struct syn_model *model);

#endif
