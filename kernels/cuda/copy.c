/* SPDX-License-Identifier: Apache-2.0 */
/* Copy engines: one stream, events that sleep, the driver's batches. */
#include "kernels/cuda/copy.h"

#include <errno.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/gpu-internal.h"

/* Smaller ones cost less one by one. */
#define BATCH_SPAN_BYTES (32u << 10)

/**
 * struct syn_gpu_copier - see copy.h.
 * @gpu:	whose engines.
 * @stream:	of the lowest priority.
 * @event:	one for each batch, in turn.
 * @nr_events:	of these made.
 * @first:	of the oldest batch that is busy ...
 * @nr:		... of so many.
 */
struct syn_gpu_copier {
	struct syn_gpu *gpu;
	CUstream stream;
	CUevent event[SYN_GPU_BATCHES_MAX];
	unsigned int nr_events;
	unsigned int first;
	unsigned int nr;
};

static int copier_make(struct syn_gpu_copier *copier)
{
	const struct syn_cuda_api *api = copier->gpu->api;
	int least = 0;
	int greatest;
	CUresult result;

	if (syn_fault())
		return -ENOMEM;
	(void)api->cuCtxGetStreamPriorityRange(&least, &greatest);
	result = api->cuStreamCreateWithPriority(&copier->stream,
						 CU_STREAM_NON_BLOCKING, least);
	while (!result && copier->nr_events < SYN_GPU_BATCHES_MAX) {
		result = api->cuEventCreate(&copier->event[copier->nr_events],
					    CU_EVENT_BLOCKING_SYNC |
						    CU_EVENT_DISABLE_TIMING);
		copier->nr_events += !result;
	}
	return syn_cuda_errno(api, result, "a stream and its events");
}

int syn_gpu_copier_open(struct syn_gpu *gpu, struct syn_gpu_copier **ret)
{
	struct syn_gpu_copier *copier = syn_alloc(1, sizeof(*copier));
	struct syn_gpu_scope scope;
	int r;

	if (!copier)
		return -ENOMEM;
	copier->gpu = gpu;
	r = syn_gpu_enter(gpu, &scope);
	if (!r) {
		r = copier_make(copier);
		syn_gpu_leave(&scope);
	}
	if (r)
		syn_gpu_copier_close(copier);
	else
		*ret = copier;
	return r;
}

void syn_gpu_copier_close(struct syn_gpu_copier *copier)
{
	const struct syn_cuda_api *api;
	struct syn_gpu_scope scope;

	if (!copier)
		return;
	api = copier->gpu->api;
	if (copier->stream && !syn_gpu_enter(copier->gpu, &scope)) {
		(void)api->cuStreamSynchronize(copier->stream);
		while (copier->nr_events)
			(void)api->cuEventDestroy_v2(
				copier->event[--copier->nr_events]);
		(void)api->cuStreamDestroy_v2(copier->stream);
		syn_gpu_leave(&scope);
	}
	free(copier);
}

unsigned int syn_gpu_copier_busy(const struct syn_gpu_copier *copier)
{
	return copier->nr;
}

/* The driver is asked to leave the multiprocessors to those who compute. */
static CUresult spans_batch(struct syn_gpu_copier *copier,
			    const struct syn_gpu_span *span, unsigned int nr)
{
	CUmemcpyAttributes attributes = {
		.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
		.flags = CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE,
	};
	CUdeviceptr dst[SYN_GPU_SPANS_MAX];
	CUdeviceptr src[SYN_GPU_SPANS_MAX];
	size_t bytes[SYN_GPU_SPANS_MAX];
	size_t at = 0;

	for (unsigned int i = 0; i < nr; i++) {
		dst[i] = span[i].dst;
		src[i] = span[i].src;
		bytes[i] = span[i].bytes;
	}
	return copier->gpu->api->batch(dst, src, bytes, nr, &attributes, &at, 1,
				       copier->stream);
}

static CUresult spans_loop(struct syn_gpu_copier *copier,
			   const struct syn_gpu_span *span, unsigned int nr)
{
	CUresult result = CUDA_SUCCESS;

	for (unsigned int i = 0; i < nr && !result; i++)
		result = copier->gpu->api->cuMemcpyAsync(
			span[i].dst, span[i].src, span[i].bytes,
			copier->stream);
	return result;
}

static bool spans_are_large(const struct syn_gpu_span *span, unsigned int nr)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < nr; i++)
		bytes += span[i].bytes;
	return bytes / nr >= BATCH_SPAN_BYTES;
}

static CUresult copier_give(struct syn_gpu_copier *copier,
			    const struct syn_gpu_span *span, unsigned int nr)
{
	const struct syn_cuda_api *api = copier->gpu->api;
	unsigned int at = (copier->first + copier->nr) % SYN_GPU_BATCHES_MAX;
	CUresult result;

	if (nr > 1 && api->batch && spans_are_large(span, nr))
		result = spans_batch(copier, span, nr);
	else
		result = spans_loop(copier, span, nr);
	if (!result)
		result = api->cuEventRecord(copier->event[at], copier->stream);
	return result;
}

int syn_gpu_copier_begin(struct syn_gpu_copier *copier,
			 const struct syn_gpu_span *span, unsigned int nr)
{
	struct syn_gpu_scope scope;
	int r;

	if (syn_fault())
		return -EIO;
	r = syn_gpu_enter(copier->gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(copier->gpu->api, copier_give(copier, span, nr),
			   "a batch of copies");
	syn_gpu_leave(&scope);
	copier->nr += !r;
	return r;
}

int syn_gpu_copier_wait(struct syn_gpu_copier *copier)
{
	const struct syn_cuda_api *api = copier->gpu->api;
	CUevent event = copier->event[copier->first];
	struct syn_gpu_scope scope;
	int r;

	copier->first = (copier->first + 1) % SYN_GPU_BATCHES_MAX;
	copier->nr--;
	r = syn_gpu_enter(copier->gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(api, api->cuEventSynchronize(event),
			   "cuEventSynchronize");
	syn_gpu_leave(&scope);
	return r;
}

int syn_gpu_zero(struct syn_gpu_copier *copier, uint64_t at, uint64_t bytes)
{
	const struct syn_cuda_api *api = copier->gpu->api;
	struct syn_gpu_scope scope;
	CUresult result;
	int r;

	r = syn_gpu_enter(copier->gpu, &scope);
	if (r)
		return r;
	result = api->cuMemsetD32Async(at, 0, bytes / 4, copier->stream);
	if (!result)
		result = api->cuStreamSynchronize(copier->stream);
	syn_gpu_leave(&scope);
	return syn_cuda_errno(api, result, "zeroing");
}

/* ---- host memory -------------------------------------------------------- */

int syn_gpu_pinned_new(struct syn_gpu *gpu, uint64_t bytes, void **ret)
{
	const struct syn_cuda_api *api = gpu->api;
	struct syn_gpu_scope scope;
	void *addr = NULL;
	int r;

	if (syn_fault())
		return -ENOMEM;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(api, api->cuMemHostAlloc(&addr, bytes, 0),
			   "cuMemHostAlloc");
	syn_gpu_leave(&scope);
	if (!r)
		*ret = addr;
	return r;
}

void syn_gpu_pinned_free(struct syn_gpu *gpu, void *addr)
{
	struct syn_gpu_scope scope;

	if (!addr || syn_gpu_enter(gpu, &scope))
		return;
	(void)gpu->api->cuMemFreeHost(addr);
	syn_gpu_leave(&scope);
}

int syn_gpu_room(struct syn_gpu *gpu, uint64_t *ret_bytes)
{
	const struct syn_cuda_api *api = gpu->api;
	struct syn_gpu_scope scope;
	size_t room = 0;
	size_t total;
	int r;

	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(api, api->cuMemGetInfo_v2(&room, &total),
			   "cuMemGetInfo");
	syn_gpu_leave(&scope);
	if (!r)
		*ret_bytes = room;
	return r;
}
