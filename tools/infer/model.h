/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: its sizes and its weights, as the file has them.
 *
 * A byte-level transformer: RMSNorm, grouped-query attention with rotary
 * positions, SwiGLU, embeddings tied to the output.
 */
#ifndef SYN_TOOLS_INFER_MODEL_H
#define SYN_TOOLS_INFER_MODEL_H

#include <stdint.h>

#define SYN_MODEL_LAYERS_MAX 128u
#define SYN_MATRIX_PARTS     3u

struct syn_safetensors;

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
 * struct syn_rows - rows of a matrix: fp16, [to][from], as in the file.
 * @half:	the numbers.
 * @nr:		rows.
 */
struct syn_rows {
	const uint16_t *half;
	unsigned int nr;
};

/**
 * struct syn_matrix - what the same numbers are multiplied with.
 * @part:	rows of the file's matrices, to be one below the other; those
 *		that are not used have none.
 * @depth:	numbers of a row.
 */
struct syn_matrix {
	struct syn_rows part[SYN_MATRIX_PARTS];
	unsigned int depth;
};

/**
 * struct syn_layer - weights of one layer.
 * @attn_norm:	[d_model]
 * @qkv:	queries, keys, values.
 * @o:		attention's output.
 * @mlp_norm:	[d_model]
 * @gate_up:	of the feed-forward part, and what is beside it.
 * @down:	back to d_model.
 */
struct syn_layer {
	const uint16_t *attn_norm;
	struct syn_matrix qkv;
	struct syn_matrix o;
	const uint16_t *mlp_norm;
	struct syn_matrix gate_up;
	struct syn_matrix down;
};

/* All its rows. */
static inline unsigned int syn_matrix_rows(const struct syn_matrix *matrix)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < SYN_MATRIX_PARTS; i++)
		nr += matrix->part[i].nr;
	return nr;
}

/**
 * struct syn_model - a model in memory; read only once loaded.
 * @config:	its sizes.
 * @identity:	128 bits of a hash of the weight file.
 * @file:	what all pointers point into.
 * @embed:	[vocab][d_model]
 * @logits:	the same, as what makes logits.
 * @norm:	[d_model]
 * @layers:	n_layers of them.
 */
struct syn_model {
	struct syn_model_config config;
	uint64_t identity[2];
	struct syn_safetensors *file;
	const uint16_t *embed;
	struct syn_matrix logits;
	const uint16_t *norm;
	struct syn_layer *layers;
};

/* -EBADMSG, -ENOENT: the file is not such a model; the reason is logged. */
int syn_model_load(const char *path, struct syn_model **ret);
/* Takes NULL, returns NULL. */
struct syn_model *syn_model_free(struct syn_model *model);

#endif
