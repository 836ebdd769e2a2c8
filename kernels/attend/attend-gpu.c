/* SPDX-License-Identifier: Apache-2.0 */
/* Launching the kernels of attend. */
#include "kernels/attend/attend-gpu.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/attend/work.h"
#include "kernels/cuda/gpu-internal.h"

#define ALIGN	      256u
#define SHARE_THREADS 256u

/* attend.cu, compiled; meson.build makes it. */
extern const uint64_t syn_attend_image[];

/**
 * struct forms - the kernels for a shape.
 * @query:	makes queries ready and counts bands.
 * @band:	goes through the bands ...
 * @coded:	... and this one through those of which all is encoded.
 * @merge:	puts them together.
 */
struct forms {
	CUfunction query;
	CUfunction band;
	CUfunction coded;
	CUfunction merge;
};

/**
 * struct syn_attend_gpu - see attend-gpu.h.
 * @gpu:	where.
 * @module:	the kernels.
 * @share:	divides shares, whatever the shape is.
 * @forms:	by dim, 64 or 128, and dtype, bf16 or fp16.
 */
struct syn_attend_gpu {
	struct syn_gpu *gpu;
	CUmodule module;
	CUfunction share;
	struct forms forms[2][2];
};

/* ---- open and close ----------------------------------------------------- */

static int forms_get(const struct syn_attend_gpu *attend, bool wide, bool f16,
		     struct forms *ret)
{
	static const char *const names[2][2][4] = {
		{ { "syn_attend_query_64_bf16", "syn_attend_band_64_bf16",
		    "syn_attend_coded_64_bf16", "syn_attend_merge_64" },
		  { "syn_attend_query_64_f16", "syn_attend_band_64_f16",
		    "syn_attend_coded_64_f16", "syn_attend_merge_64" } },
		{ { "syn_attend_query_128_bf16", "syn_attend_band_128_bf16",
		    "syn_attend_coded_128_bf16", "syn_attend_merge_128" },
		  { "syn_attend_query_128_f16", "syn_attend_band_128_f16",
		    "syn_attend_coded_128_f16", "syn_attend_merge_128" } },
	};
	const struct syn_cuda_api *api = attend->gpu->api;
	CUfunction *const to[] = { &ret->query, &ret->band, &ret->coded,
				   &ret->merge };
	CUresult result = CUDA_SUCCESS;

	for (unsigned int i = 0; i < syn_array_size(to) && !result; i++)
		result = api->cuModuleGetFunction(to[i], attend->module,
						  names[wide][f16][i]);
	for (unsigned int i = 1; i < 3 && !result; i++)
		result = api->cuFuncSetAttribute(
			*to[i], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
			SYN_ATTEND_SHARED_BYTES(wide ? 128 : 64));
	return syn_cuda_errno(api, result, "the kernels of attend");
}

static int kernels_load(struct syn_attend_gpu *attend)
{
	const struct syn_cuda_api *api = attend->gpu->api;
	int r;

	if (syn_fault())
		return -ENOMEM;
	r = syn_cuda_errno(
		api, api->cuModuleLoadData(&attend->module, syn_attend_image),
		"loading the kernels of attend");
	if (!r)
		r = syn_cuda_errno(api,
				   api->cuModuleGetFunction(&attend->share,
							    attend->module,
							    "syn_attend_share"),
				   "the kernels of attend");
	for (unsigned int i = 0; i < 4 && !r; i++)
		r = forms_get(attend, i / 2, i % 2,
			      &attend->forms[i / 2][i % 2]);
	return r;
}

int syn_attend_gpu_open(struct syn_gpu *gpu, struct syn_attend_gpu **ret)
{
	struct syn_attend_gpu *attend = syn_alloc(1, sizeof(*attend));
	struct syn_gpu_scope scope;
	int r;

	if (!attend)
		return -ENOMEM;
	attend->gpu = gpu;
	r = syn_gpu_enter(gpu, &scope);
	if (!r) {
		r = kernels_load(attend);
		syn_gpu_leave(&scope);
	}
	if (r) {
		syn_attend_gpu_close(attend);
		return r;
	}
	*ret = attend;
	return 0;
}

void syn_attend_gpu_close(struct syn_attend_gpu *attend)
{
	struct syn_gpu_scope scope;

	if (!attend)
		return;
	if (attend->module && !syn_gpu_enter(attend->gpu, &scope)) {
		(void)attend->gpu->api->cuModuleUnload(attend->module);
		syn_gpu_leave(&scope);
	}
	free(attend);
}

/* ---- scratch ------------------------------------------------------------ */

static uint32_t takes_of(const struct syn_attend_shape *shape)
{
	return (uint32_t)syn_div_up(shape->group, SYN_ATTEND_ROWS);
}

/* Few parts make a strip each, many of them one by the most it may have. */
static uint64_t bands_most(uint32_t nr_seqs, uint64_t nr_parts)
{
	uint64_t long_ones =
		nr_parts / (SYN_ATTEND_WARPS * SYN_ATTEND_STRIP_MAX) +
		2ull * SYN_ATTEND_STRIPS_MIN / SYN_ATTEND_WARPS * nr_seqs;

	return syn_min(nr_parts, long_ones);
}

/* Lays @work's scratch out from @at on; returns where it ends. */
static uint64_t scratch_lay(const struct syn_attend_shape *shape,
			    uint32_t nr_seqs, uint64_t nr_bands, uint64_t at,
			    struct syn_attend_work *work)
{
	const uint64_t heads = (uint64_t)shape->kv_heads * shape->group;
	const uint64_t queries =
		(uint64_t)nr_seqs * shape->kv_heads * takes_of(shape);

	work->first = (void *)at;
	at += syn_align_up((nr_seqs + 1) * sizeof(uint32_t), ALIGN);
	work->bands = (void *)at;
	at += syn_align_up(nr_bands * sizeof(uint32_t), ALIGN);
	work->queries = (void *)at;
	at += syn_align_up(queries * SYN_ATTEND_QUERY_BYTES(shape->dim), ALIGN);
	work->sums = (void *)at;
	at += syn_align_up(nr_bands * heads * 2 * sizeof(float), ALIGN);
	work->totals = (void *)at;
	at += syn_align_up(nr_seqs * heads * 2 * sizeof(float), ALIGN);
	work->values = (void *)at;
	return at + nr_bands * heads * shape->dim * sizeof(float);
}

uint64_t syn_attend_gpu_scratch(const struct syn_attend_shape *shape,
				uint32_t nr_seqs, uint64_t nr_parts)
{
	struct syn_attend_work work;

	return scratch_lay(shape, nr_seqs, bands_most(nr_seqs, nr_parts), 0,
			   &work);
}

/* ---- a call ------------------------------------------------------------- */

static int launch(const struct syn_attend_gpu *attend, CUfunction kernel,
		  uint64_t blocks, uint32_t threads, uint32_t shared_bytes,
		  struct syn_attend_work *work, CUstream stream)
{
	const struct syn_cuda_api *api = attend->gpu->api;
	void *args[] = { work };

	return syn_cuda_errno(
		api,
		api->cuLaunchKernel(kernel, (unsigned int)blocks, 1, 1, threads,
				    1, 1, shared_bytes, stream, args, NULL),
		"cuLaunchKernel");
}

/* Blocks take bands in turn: as many as there is room for. */
static int bands_launch(const struct syn_attend_gpu *attend, CUfunction kernel,
			uint32_t blocks, uint32_t dim,
			struct syn_attend_work *work, CUstream stream)
{
	const uint64_t bands =
		(uint64_t)work->max_bands * work->kv_heads * work->takes;
	const uint64_t room = (uint64_t)attend->gpu->info.sms * blocks;

	if (!bands)
		return 0;
	return launch(attend, kernel, syn_min(bands, room),
		      SYN_ATTEND_WARPS * 32, SYN_ATTEND_SHARED_BYTES(dim), work,
		      stream);
}

static int work_launch(const struct syn_attend_gpu *attend,
		       const struct syn_attend_shape *shape,
		       struct syn_attend_work *work, CUstream stream)
{
	const struct forms *forms =
		&attend->forms[shape->dim == 128]
			      [shape->dtype == SYN_DTYPE_F16];
	const uint64_t queries =
		(uint64_t)work->batch.nr_seqs * work->kv_heads * work->takes;
	const uint64_t outputs =
		(uint64_t)work->batch.nr_seqs * work->kv_heads * work->group;
	int r;

	r = launch(attend, forms->query, queries, SYN_ATTEND_ROWS * 32, 0, work,
		   stream);
	if (!r)
		r = bands_launch(attend, forms->band, SYN_ATTEND_BLOCKS,
				 shape->dim, work, stream);
	if (!r)
		r = bands_launch(attend, forms->coded, SYN_ATTEND_CODED_BLOCKS,
				 shape->dim, work, stream);
	if (!r)
		r = launch(attend, forms->merge, outputs,
			   SYN_ATTEND_MERGERS * shape->dim / 4, 0, work,
			   stream);
	if (!r && work->batch.shares)
		r = launch(attend, attend->share,
			   work->batch.nr_seqs * SYN_ATTEND_SHARERS,
			   SHARE_THREADS, 0, work, stream);
	return r;
}

int syn_attend_gpu(struct syn_attend_gpu *attend,
		   const struct syn_attend_shape *shape,
		   const struct syn_attend_batch *batch, uint64_t nr_parts,
		   uint64_t scratch, void *stream)
{
	const uint64_t bands = bands_most(batch->nr_seqs, nr_parts);
	struct syn_attend_work work = {
		.batch = *batch,
		.kv_heads = shape->kv_heads,
		.group = shape->group,
		.scale = shape->scale,
		.takes = takes_of(shape),
		.max_bands = (uint32_t)bands,
	};
	struct syn_gpu_scope scope;
	int r;

	if (!syn_attend_shape_can_be(shape) || !batch->nr_seqs ||
	    batch->nr_seqs > SYN_ATTEND_GPU_SEQS_MAX || bands > UINT32_MAX ||
	    !batch->out || !batch->lse)
		return -EINVAL;
	(void)scratch_lay(shape, batch->nr_seqs, bands, scratch, &work);
	r = syn_gpu_enter(attend->gpu, &scope);
	if (r)
		return r;
	r = work_launch(attend, shape, &work, stream);
	syn_gpu_leave(&scope);
	return r;
}
