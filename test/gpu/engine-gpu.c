/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU for engines of tests. */
#include "test/gpu/engine-gpu.h"

#include <stdio.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "test/test.h"

/* Every thread writes every so manieth word, for ever. */
static const char scribble_ptx[] =
	".version 7.0\n"
	".target sm_70\n"
	".address_size 64\n"
	".visible .entry scribble(.param .u64 at, .param .u64 words,\n"
	"                         .param .u32 value)\n"
	"{\n"
	"	.reg .pred %p<2>;\n"
	"	.reg .b32 %r<6>;\n"
	"	.reg .b64 %d<8>;\n"
	"	ld.param.u64 %d0, [at];\n"
	"	ld.param.u64 %d1, [words];\n"
	"	ld.param.u32 %r0, [value];\n"
	"	cvta.to.global.u64 %d0, %d0;\n"
	"	mov.u32 %r1, %ctaid.x;\n"
	"	mov.u32 %r2, %ntid.x;\n"
	"	mov.u32 %r3, %tid.x;\n"
	"	mov.u32 %r4, %nctaid.x;\n"
	"	mad.lo.u32 %r3, %r1, %r2, %r3;\n"
	"	mul.lo.u32 %r4, %r4, %r2;\n"
	"	cvt.u64.u32 %d2, %r3;\n"
	"	cvt.u64.u32 %d3, %r4;\n"
	"again:\n"
	"	mov.u64 %d4, %d2;\n"
	"next:\n"
	"	setp.ge.u64 %p0, %d4, %d1;\n"
	"	@%p0 bra again;\n"
	"	shl.b64 %d5, %d4, 2;\n"
	"	add.u64 %d6, %d0, %d5;\n"
	"	st.volatile.global.u32 [%d6], %r0;\n"
	"	add.u64 %d4, %d4, %d3;\n"
	"	bra next;\n"
	"}\n";

static struct {
	struct syn_gpu *gpu;
	CUstream stream;
	CUmodule module;
} gpu_test;

struct syn_gpu *gpu_of_test(void)
{
	return gpu_test.gpu;
}

const struct syn_cuda_api *gpu_api(void)
{
	return gpu_test.gpu->api;
}

CUstream gpu_stream(void)
{
	return gpu_test.stream;
}

int gpu_begin(void)
{
	const struct syn_cuda_api *api;
	int r;

	/* What the driver said, of a test that fails. */
	syn_log_set_level(SYN_LOG_DEBUG);
	r = syn_gpu_open(&gpu_test.gpu, NULL);
	if (r)
		return r;
	api = gpu_api();
	r = syn_cuda_errno(api, api->cuCtxPushCurrent_v2(gpu_test.gpu->context),
			   "cuCtxPushCurrent");
	if (!r)
		r = syn_cuda_errno(
			api,
			api->cuStreamCreateWithPriority(
				&gpu_test.stream, CU_STREAM_NON_BLOCKING, 0),
			"cuStreamCreate");
	return r;
}

void gpu_end(void)
{
	const struct syn_cuda_api *api = gpu_api();
	CUcontext context;

	if (gpu_test.module)
		(void)api->cuModuleUnload(gpu_test.module);
	(void)api->cuStreamDestroy_v2(gpu_test.stream);
	(void)api->cuCtxPopCurrent_v2(&context);
	syn_gpu_close(gpu_test.gpu);
	gpu_test.gpu = NULL;
	gpu_test.module = NULL;
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

pid_t gpu_fork(int (*what)(void *arg), void *arg)
{
	pid_t pid = fork_child();
	int r;

	if (pid)
		return pid;
	r = gpu_begin();
	if (!r) {
		r = what(arg);
		gpu_end();
	}
	if (r && what != nothing)
		(void)fprintf(stderr, "child: %s\n", strerror(-r));
	_exit(-r);
}

int gpu_join(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

bool gpu_is_there(void)
{
	return gpu_join(gpu_fork(nothing, NULL)) == 0;
}

static int copy(CUdeviceptr to, CUdeviceptr from, uint64_t bytes)
{
	const struct syn_cuda_api *api = gpu_api();
	CUresult result;

	result = api->cuMemcpyAsync(to, from, bytes, gpu_test.stream);
	if (!result)
		result = api->cuStreamSynchronize(gpu_test.stream);
	return syn_cuda_errno(api, result, "a copy");
}

static int gpu_put(void *slot, const void *from, uint64_t bytes)
{
	return copy((CUdeviceptr)(uintptr_t)slot, (CUdeviceptr)(uintptr_t)from,
		    bytes);
}

static int gpu_get(void *to, const void *slot, uint64_t bytes)
{
	return copy((CUdeviceptr)(uintptr_t)to, (CUdeviceptr)(uintptr_t)slot,
		    bytes);
}

const struct engine_device gpu_engine_device = {
	.put = gpu_put,
	.get = gpu_get,
};

int gpu_scribble(void *slot, uint64_t bytes, uint32_t value)
{
	const struct syn_cuda_api *api = gpu_api();
	uint64_t at = (uintptr_t)slot;
	uint64_t words = bytes / sizeof(value);
	void *args[] = { &at, &words, &value };
	CUresult result = CUDA_SUCCESS;
	CUfunction function;

	if (!gpu_test.module)
		result = api->cuModuleLoadData(&gpu_test.module, scribble_ptx);
	if (!result)
		result = api->cuModuleGetFunction(&function, gpu_test.module,
						  "scribble");
	if (!result)
		result = api->cuLaunchKernel(function, 16, 1, 1, 256, 1, 1, 0,
					     gpu_test.stream, args, NULL);
	return syn_cuda_errno(api, result, "scribble");
}

uint64_t gpu_free_bytes(void)
{
	size_t total = 0;
	size_t left = 0;

	if (gpu_api()->cuMemGetInfo_v2(&left, &total))
		return 0;
	return left;
}
