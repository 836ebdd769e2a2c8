/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuBLAS by dlopen(): matrix products are what an engine does meanwhile, and
 * nothing of Synapse needs them.
 */
#include <dlfcn.h>

#include "core/base/base.h"
#include "tools/bench/gpu.h"

/* Of library_types.h and cublas_api.h. */
#define BLAS_OP_N	 0
#define BLAS_R_16BF	 14
#define BLAS_COMPUTE_32F 68
#define BLAS_ALGORITHM	 (-1)

static const char *const names[] = { "libcublas.so.13", "libcublas.so.12" };

static int blas_start(const struct syn_rig *rig, struct syn_blas *blas)
{
	int (*create)(void **handle);
	int (*set_stream)(void *handle, CUstream stream);

	*(void **)&create = dlsym(blas->dl, "cublasCreate_v2");
	*(void **)&set_stream = dlsym(blas->dl, "cublasSetStream_v2");
	*(void **)&blas->gemm = dlsym(blas->dl, "cublasGemmEx");
	*(void **)&blas->destroy = dlsym(blas->dl, "cublasDestroy_v2");
	if (!create || !set_stream || !blas->gemm || !blas->destroy)
		return -ENOENT;
	if (create(&blas->handle))
		return -EIO;
	if (set_stream(blas->handle, rig->engine)) {
		(void)blas->destroy(blas->handle);
		return -EIO;
	}
	return 0;
}

int syn_blas_open(const struct syn_rig *rig, struct syn_blas *ret)
{
	struct syn_blas blas = { 0 };
	int r;

	for (unsigned int i = 0; i < syn_array_size(names) && !blas.dl; i++)
		blas.dl = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!blas.dl)
		return -ENOENT;
	r = blas_start(rig, &blas);
	if (r)
		(void)dlclose(blas.dl);
	else
		*ret = blas;
	return r;
}

void syn_blas_close(struct syn_blas *blas)
{
	if (!blas->dl)
		return;
	(void)blas->destroy(blas->handle);
	(void)dlclose(blas->dl);
	blas->dl = NULL;
}

/* Column after column, as cuBLAS has it, c' = b' a'. */
int syn_blas_gemm(const struct syn_blas *blas, int m, int n, int k,
		  CUdeviceptr a, CUdeviceptr b, CUdeviceptr c)
{
	const float one = 1, zero = 0;

	return blas->gemm(blas->handle, BLAS_OP_N, BLAS_OP_N, n, m, k, &one,
			  (const void *)b, BLAS_R_16BF, n, (const void *)a,
			  BLAS_R_16BF, k, &zero, (void *)c, BLAS_R_16BF, n,
			  BLAS_COMPUTE_32F, BLAS_ALGORITHM)
		       ? -EIO
		       : 0;
}
