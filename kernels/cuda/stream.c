/* SPDX-License-Identifier: Apache-2.0 */
/* Words that streams write. */
#include "kernels/cuda/stream.h"

#include <errno.h>

#include "core/base/fault.h"
#include "kernels/cuda/gpu-internal.h"

int syn_gpu_stream_is_free(const struct syn_gpu *gpu, CUstream stream)
{
	CUstreamCaptureStatus status;
	CUresult result = gpu->api->cuStreamIsCapturing(stream, &status);

	if (result)
		return syn_cuda_errno(gpu->api, result, "cuStreamIsCapturing");
	return status == CU_STREAM_CAPTURE_STATUS_NONE ? 0 : -EBUSY;
}

static int signal_entered(const struct syn_gpu *gpu, CUstream stream,
			  CUdeviceptr word, uint64_t value)
{
	const struct syn_cuda_api *api = gpu->api;
	CUresult result;
	int r = syn_gpu_stream_is_free(gpu, stream);

	if (r)
		return r;
	/* By default the write comes after all that the work before it wrote. */
	result = api->cuStreamWriteValue64_v2(stream, word, value,
					      CU_STREAM_WRITE_VALUE_DEFAULT);
	return syn_cuda_errno(api, result, "cuStreamWriteValue64");
}

int syn_gpu_signal(struct syn_gpu *gpu, void *stream, uint64_t *word,
		   uint64_t value)
{
	struct syn_gpu_scope scope;
	int r;

	if (syn_fault())
		return -ENOMEM;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = signal_entered(gpu, stream, (CUdeviceptr)(uintptr_t)word, value);
	syn_gpu_leave(&scope);
	return r;
}
