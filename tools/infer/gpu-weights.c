/* SPDX-License-Identifier: Apache-2.0 */
/* Weights for a GPU: fp16 as in the file, in the order of its loads. */
#include "tools/infer/gpu-weights.h"

#include <math.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/codec/element.h"
#include "tools/infer/gpu-step.h"

#define ALIGN 256u

/**
 * struct image - what is to be copied, as it grows.
 * @to:		where it is built; NULL: its size is asked for.
 * @bytes:	so far.
 */
struct image {
	unsigned char *to;
	uint64_t bytes;
};

/* Where it begins; @ret: what is to be written there, or NULL. */
static CUdeviceptr image_add(struct image *image, uint64_t bytes, void **ret)
{
	uint64_t at = image->bytes;

	image->bytes = syn_align_up(at + bytes, ALIGN);
	*ret = image->to ? image->to + at : NULL;
	return at;
}

static CUdeviceptr add_halves(struct image *image, const uint16_t *half,
			      size_t nr)
{
	void *to;
	CUdeviceptr at = image_add(image, nr * sizeof(*half), &to);

	if (to)
		memcpy(to, half, nr * sizeof(*half));
	return at;
}

static CUdeviceptr add_vector(struct image *image, const uint16_t *half,
			      size_t nr)
{
	float *x;
	CUdeviceptr at = image_add(image, nr * sizeof(*x), (void **)&x);

	for (size_t i = 0; i < nr && x; i++)
		x[i] = syn_f16_load(&half[i]);
	return at;
}

static CUdeviceptr add_angles(struct image *image, double theta)
{
	double *step;
	CUdeviceptr at =
		image_add(image, SYN_STEP_HALF * sizeof(*step), (void **)&step);

	for (unsigned int i = 0; i < SYN_STEP_HALF && step; i++)
		step[i] = pow(theta, -(double)i / SYN_STEP_HALF);
	return at;
}

/* Row @n of the joined matrix to its lane; @depth numbers. */
static void row_pack(const uint16_t *row, unsigned int n, unsigned int depth,
		     uint16_t *matrix)
{
	const size_t step = (size_t)SYN_STEP_COLUMNS * SYN_STEP_CHUNK;
	uint16_t *to =
		matrix +
		(size_t)(n / SYN_STEP_COLUMNS * SYN_STEP_COLUMNS) * depth +
		(size_t)(n % SYN_STEP_COLUMNS) * SYN_STEP_CHUNK;

	for (unsigned int k = 0; k < depth; k += SYN_STEP_CHUNK) {
		memcpy(to, row + k, SYN_STEP_CHUNK * sizeof(*to));
		to += step;
	}
}

static CUdeviceptr add_matrix(struct image *image,
			      const struct syn_matrix *matrix)
{
	const unsigned int depth = matrix->depth;
	uint16_t *to;
	CUdeviceptr at = image_add(
		image, (uint64_t)syn_matrix_rows(matrix) * depth * sizeof(*to),
		(void **)&to);
	unsigned int n = 0;

	for (unsigned int i = 0; i < SYN_MATRIX_PARTS && to; i++)
		for (unsigned int row = 0; row < matrix->part[i].nr; row++)
			row_pack(matrix->part[i].half + (size_t)row * depth,
				 n++, depth, to);
	return at;
}

static void layer_add(struct image *image, const struct syn_model_config *c,
		      const struct syn_layer *layer, struct syn_gpu_layer *ret)
{
	ret->attn_norm = add_vector(image, layer->attn_norm, c->d_model);
	ret->qkv = add_matrix(image, &layer->qkv);
	ret->o = add_matrix(image, &layer->o);
	ret->mlp_norm = add_vector(image, layer->mlp_norm, c->d_model);
	ret->gate_up = add_matrix(image, &layer->gate_up);
	ret->down = add_matrix(image, &layer->down);
}

/* Addresses in @w are those in the image. */
static void model_add(struct image *image, const struct syn_model *model,
		      struct syn_gpu_weights *w)
{
	const struct syn_model_config *c = &model->config;

	w->embed =
		add_halves(image, model->embed, (size_t)c->vocab * c->d_model);
	w->logits = add_matrix(image, &model->logits);
	w->norm = add_vector(image, model->norm, c->d_model);
	w->angles = add_angles(image, c->rope_theta);
	for (unsigned int n = 0; n < c->n_layers; n++)
		layer_add(image, c, &model->layers[n], &w->layers[n]);
}

/* From the image to the GPU. */
static void addresses_move(struct syn_gpu_weights *w, unsigned int n_layers)
{
	w->embed += w->at;
	w->logits += w->at;
	w->norm += w->at;
	w->angles += w->at;
	for (unsigned int n = 0; n < n_layers; n++) {
		struct syn_gpu_layer *layer = &w->layers[n];

		layer->attn_norm += w->at;
		layer->qkv += w->at;
		layer->o += w->at;
		layer->mlp_norm += w->at;
		layer->gate_up += w->at;
		layer->down += w->at;
	}
}

static int image_copy(const struct syn_cuda_api *api, CUstream stream,
		      const struct image *image, CUdeviceptr *ret)
{
	CUresult result = api->cuMemAlloc_v2(ret, image->bytes);

	if (!result)
		result = api->cuMemcpyAsync(*ret,
					    (CUdeviceptr)(uintptr_t)image->to,
					    image->bytes, stream);
	if (!result)
		result = api->cuStreamSynchronize(stream);
	return syn_cuda_errno(api, result, "weights");
}

int syn_gpu_weights_new(const struct syn_cuda_api *api, CUstream stream,
			const struct syn_model *model,
			struct syn_gpu_weights **ret)
{
	struct syn_gpu_weights *w = syn_alloc(1, sizeof(*w));
	struct image image = { 0 };
	int r;

	if (!w)
		return -ENOMEM;
	model_add(&image, model, w);
	image.to = syn_alloc(image.bytes, 1);
	image.bytes = 0;
	if (!image.to) {
		syn_gpu_weights_free(api, w);
		return -ENOMEM;
	}
	model_add(&image, model, w);
	r = image_copy(api, stream, &image, &w->at);
	free(image.to);
	if (r) {
		syn_gpu_weights_free(api, w);
		return r;
	}
	addresses_move(w, model->config.n_layers);
	*ret = w;
	return 0;
}

struct syn_gpu_weights *syn_gpu_weights_free(const struct syn_cuda_api *api,
					     struct syn_gpu_weights *w)
{
	if (!w)
		return NULL;
	if (w->at)
		(void)api->cuMemFree_v2(w->at);
	free(w);
	return NULL;
}
