/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU to measure on: streams, pinned memory, extents. */
#include "tools/bench/gpu.h"

#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#define FILL_BLOCKS   1056u
#define FILL_THREADS  256u
#define DEVICE_REPEAT 20u

/* gpu-kernels.cu, compiled; meson.build makes it. */
extern const uint64_t syn_bench_image[];

int syn_rig_check(const struct syn_rig *rig, CUresult result, const char *what)
{
	const char *name = NULL;

	if (result == CUDA_SUCCESS)
		return 0;
	(void)rig->api->cuGetErrorName(result, &name);
	(void)fprintf(stderr, "%s: %s\n", what, name ? name : "unknown error");
	return -EIO;
}

int syn_rig_wait(const struct syn_rig *rig, CUstream stream)
{
	return syn_rig_check(rig, rig->api->cuStreamSynchronize(stream),
			     "cuStreamSynchronize");
}

int syn_rig_copy(const struct syn_rig *rig, CUstream stream, uint64_t dst,
		 uint64_t src, uint64_t bytes)
{
	return syn_rig_check(rig,
			     rig->api->cuMemcpyAsync(dst, src, bytes, stream),
			     "cuMemcpyAsync");
}

int syn_rig_fill(const struct syn_rig *rig, CUdeviceptr at, uint64_t bytes,
		 bool bf16, uint32_t seed)
{
	uint64_t words = bytes / 4;
	uint32_t form = bf16;
	void *args[] = { &at, &words, &form, &seed };
	int r;

	r = syn_rig_check(rig,
			  rig->api->cuLaunchKernel(rig->fill, FILL_BLOCKS, 1, 1,
						   FILL_THREADS, 1, 1, 0,
						   rig->engine, args, NULL),
			  "fill");
	return r ? r : syn_rig_wait(rig, rig->engine);
}

int syn_rig_copy_large(const struct syn_rig *rig, double *ret_rate)
{
	uint64_t begin_ns = syn_now_ns();
	int r;

	r = syn_rig_copy(rig, rig->engine, rig->plain, (uintptr_t)rig->pinned,
			 SYN_RIG_PINNED_BYTES);
	if (!r)
		r = syn_rig_wait(rig, rig->engine);
	if (!r)
		*ret_rate = (double)SYN_RIG_PINNED_BYTES /
			    (double)(syn_now_ns() - begin_ns);
	return r;
}

int syn_rig_copy_ways(const struct syn_rig *rig, bool to_gpu, bool to_host,
		      double *ret_rate)
{
	const uint64_t half = SYN_RIG_PINNED_BYTES / 2;
	uint64_t host = (uintptr_t)rig->pinned;
	uint64_t begin_ns = syn_now_ns();
	int r = 0;

	/* Each direction has a half of what is pinned, and copies it twice. */
	for (unsigned int i = 0; i < 2 && !r; i++) {
		if (to_gpu)
			r = syn_rig_copy(rig, rig->engine, rig->plain, host,
					 half);
		if (to_host && !r)
			r = syn_rig_copy(rig, rig->other, host + half,
					 rig->plain + SYN_RIG_PINNED_BYTES,
					 half);
	}
	if (!r)
		r = syn_rig_wait(rig, rig->engine);
	if (!r)
		r = syn_rig_wait(rig, rig->other);
	*ret_rate = (double)(to_gpu + to_host) * 2 * (double)half /
		    (double)(syn_now_ns() - begin_ns);
	return r;
}

int syn_rig_copy_device(const struct syn_rig *rig, double *ret_rate)
{
	uint64_t begin_ns = syn_now_ns();
	int r = 0;

	for (unsigned int i = 0; i < DEVICE_REPEAT && !r; i++)
		r = syn_rig_copy(rig, rig->engine, rig->plain,
				 rig->plain + SYN_RIG_PINNED_BYTES,
				 SYN_RIG_PINNED_BYTES);
	if (!r)
		r = syn_rig_wait(rig, rig->engine);
	*ret_rate = 2.0 * DEVICE_REPEAT * (double)SYN_RIG_PINNED_BYTES /
		    (double)(syn_now_ns() - begin_ns);
	return r;
}

/* ---- open and close ----------------------------------------------------- */

static int kernels_load(struct syn_rig *rig)
{
	const struct syn_cuda_api *api = rig->api;
	int r;

	r = syn_rig_check(rig,
			  api->cuModuleLoadData(&rig->module, syn_bench_image),
			  "cuModuleLoadData");
	if (!r)
		r = syn_rig_check(rig,
				  api->cuModuleGetFunction(&rig->fill,
							   rig->module, "fill"),
				  "fill");
	if (!r)
		r = syn_rig_check(rig,
				  api->cuModuleGetFunction(
					  &rig->gather, rig->module, "gather"),
				  "gather");
	return r;
}

static int streams_make(struct syn_rig *rig)
{
	CUstream *streams[] = { &rig->engine, &rig->other };
	int r = 0;

	for (unsigned int i = 0; i < syn_array_size(streams) && !r; i++)
		r = syn_rig_check(
			rig,
			rig->api->cuStreamCreateWithPriority(
				streams[i], CU_STREAM_NON_BLOCKING, 0),
			"cuStreamCreate");
	return r;
}

static int memory_make(struct syn_rig *rig)
{
	const struct syn_cuda_api *api = rig->api;
	void *pinned = NULL;
	int r;

	r = syn_rig_check(rig,
			  api->cuMemHostAlloc(&pinned, SYN_RIG_PINNED_BYTES, 0),
			  "cuMemHostAlloc");
	rig->pinned = pinned;
	if (!r)
		r = syn_rig_check(rig,
				  api->cuMemAlloc_v2(&rig->plain,
						     2 * SYN_RIG_PINNED_BYTES),
				  "cuMemAlloc");
	if (!r)
		r = syn_rig_fill(rig, rig->plain, 2 * SYN_RIG_PINNED_BYTES,
				 false, 1);
	if (!r)
		r = syn_rig_copy(rig, rig->engine, (uintptr_t)rig->pinned,
				 rig->plain, SYN_RIG_PINNED_BYTES);
	return r ? r : syn_rig_wait(rig, rig->engine);
}

int syn_rig_open(const struct syn_bench *bench, struct syn_rig *ret)
{
	struct syn_rig rig = { .cpu = bench->client_cpu };
	int r;

	r = syn_gpu_open(&rig.gpu, NULL);
	if (r < 0) {
		(void)fprintf(stderr, "left out: no GPU: %s\n", strerror(-r));
		return -ENODEV;
	}
	rig.api = rig.gpu->api;
	r = syn_gpu_enter(rig.gpu, &rig.scope);
	if (r < 0) {
		syn_gpu_close(rig.gpu);
		return r;
	}
	syn_cpu_free();
	(void)fprintf(stderr, "  %s, driver for CUDA %d.%d\n",
		      rig.gpu->info.name, rig.api->version / 1000,
		      rig.api->version % 1000 / 10);
	r = kernels_load(&rig);
	if (!r)
		r = streams_make(&rig);
	if (!r)
		r = memory_make(&rig);
	if (r) {
		syn_rig_close(&rig);
		return r;
	}
	*ret = rig;
	return 0;
}

void syn_rig_close(struct syn_rig *rig)
{
	const struct syn_cuda_api *api = rig->api;

	if (rig->plain)
		(void)api->cuMemFree_v2(rig->plain);
	if (rig->pinned)
		(void)api->cuMemFreeHost(rig->pinned);
	if (rig->engine)
		(void)api->cuStreamDestroy_v2(rig->engine);
	if (rig->other)
		(void)api->cuStreamDestroy_v2(rig->other);
	if (rig->module)
		(void)api->cuModuleUnload(rig->module);
	syn_gpu_leave(&rig->scope);
	syn_gpu_close(rig->gpu);
	syn_cpu_bind(rig->cpu);
}

/* ---- extents ------------------------------------------------------------ */

int syn_region_open(struct syn_rig *rig, uint32_t tier, uint64_t extent,
		    uint32_t nr, struct syn_region *ret)
{
	struct syn_region region = {
		.rig = rig,
		.bytes = nr * extent,
		.extent = extent,
	};
	int node = syn_max(rig->gpu->info.node, 0);
	int r;

	region.mem = syn_alloc(nr, sizeof(*region.mem));
	if (!region.mem)
		return -ENOMEM;
	r = syn_gpu_reserve(rig->gpu, region.bytes, &region.at);
	if (r) {
		free(region.mem);
		return r;
	}
	while (region.nr < nr && !r) {
		struct syn_gpu_mem *mem = &region.mem[region.nr];

		r = syn_gpu_mem_new(rig->gpu, tier, node, extent, mem);
		if (r)
			break;
		r = syn_gpu_mem_map(rig->gpu, mem,
				    region.at + region.nr++ * extent);
	}
	if (r)
		syn_region_close(&region);
	else
		*ret = region;
	return r;
}

void syn_region_close(struct syn_region *region)
{
	if (!region->mem)
		return;
	for (uint32_t i = 0; i < region->nr; i++)
		syn_gpu_mem_free(region->rig->gpu, &region->mem[i]);
	syn_gpu_unreserve(region->rig->gpu, region->at, region->bytes);
	free(region->mem);
	region->mem = NULL;
}
