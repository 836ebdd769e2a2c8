/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the driver's entry points, filled at the first use. */
#include "kernels/cuda/api.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define CUDA_LIBRARY "libcuda.so.1"

static struct syn_cuda_api cuda_api;
static pthread_mutex_t cuda_lock = PTHREAD_MUTEX_INITIALIZER;

/* One missing symbol is as bad as no library. */
static int api_symbols(struct syn_cuda_api *api)
{
	static const char *const names[] = {
#define X(name) #name,
		SYN_CUDA_REQUIRED(X)
#undef X
	};
	void **const slots[] = {
#define X(name) (void **)&api->name,
		SYN_CUDA_REQUIRED(X)
#undef X
	};

	for (size_t i = 0; i < syn_array_size(names); i++) {
		*slots[i] = syn_fault() ? NULL : dlsym(api->dl, names[i]);
		if (*slots[i])
			continue;
		syn_debug("%s has no %s", CUDA_LIBRARY, names[i]);
		return -ENOSYS;
	}
	/* Its arguments changed with this version, and so did its name. */
	if (!syn_fault())
		*(void **)&api->batch = dlsym(api->dl, "cuMemcpyBatchAsync_v2");
	return 0;
}

static int api_start(struct syn_cuda_api *api)
{
	CUresult result = api->cuInit(0);

	if (result)
		return syn_cuda_errno(api, result, "cuInit");
	result = api->cuDriverGetVersion(&api->version);
	if (result)
		return syn_cuda_errno(api, result, "cuDriverGetVersion");
	return api->version < SYN_CUDA_DRIVER_MIN ? -ENOSYS : 0;
}

static int api_load(void)
{
	struct syn_cuda_api api = { 0 };
	int r;

	if (!syn_fault())
		api.dl = dlopen(CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!api.dl)
		return -ENODEV;
	r = api_symbols(&api);
	if (!r)
		r = api_start(&api);
	if (r) {
		(void)dlclose(api.dl);
		return r;
	}
	cuda_api = api;
	return 0;
}

int syn_cuda_load(const struct syn_cuda_api **ret)
{
	int r = 0;

	(void)pthread_mutex_lock(&cuda_lock);
	if (!cuda_api.dl)
		r = api_load();
	(void)pthread_mutex_unlock(&cuda_lock);
	if (!r)
		*ret = &cuda_api;
	return r;
}

int syn_cuda_errno(const struct syn_cuda_api *api, CUresult result,
		   const char *what)
{
	const char *name = NULL;

	if (result == CUDA_SUCCESS)
		return 0;
	(void)api->cuGetErrorName(result, &name);
	syn_debug("%s: %s", what, name ? name : "unknown error");
	switch (result) {
	case CUDA_ERROR_OUT_OF_MEMORY:
		return -ENOMEM;
	case CUDA_ERROR_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	case CUDA_ERROR_NO_DEVICE:
	case CUDA_ERROR_INVALID_DEVICE:
		return -ENODEV;
	case CUDA_ERROR_INVALID_VALUE:
	case CUDA_ERROR_INVALID_HANDLE:
		return -EINVAL;
	case CUDA_ERROR_NOT_PERMITTED:
		return -EPERM;
	default:
		return -EIO;
	}
}
