/* SPDX-License-Identifier: Apache-2.0 */
/* Memory behind exported handles: made, given away, mapped. */
#include <errno.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/gpu-internal.h"

static CUmemAllocationProp prop_of(const struct syn_gpu *gpu, uint32_t tier,
				   int node)
{
	bool hbm = tier == SYN_TIER_HBM;

	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = {
			.type = hbm ? CU_MEM_LOCATION_TYPE_DEVICE
				    : CU_MEM_LOCATION_TYPE_HOST_NUMA,
			.id = hbm ? gpu->device : node,
		},
	};
}

int syn_gpu_mem_new(struct syn_gpu *gpu, uint32_t tier, int node,
		    uint64_t bytes, struct syn_gpu_mem *ret)
{
	const CUmemAllocationProp prop = prop_of(gpu, tier, node);
	const struct syn_cuda_api *api = gpu->api;
	CUmemGenericAllocationHandle handle;
	struct syn_gpu_scope scope;
	int r;

	if (!bytes || bytes % SYN_GPU_GRANULE)
		return -EINVAL;
	if (tier == SYN_TIER_HOST && !gpu->info.host_vmm)
		return -EOPNOTSUPP;
	if (syn_fault())
		return -ENOMEM;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(api, api->cuMemCreate(&handle, bytes, &prop, 0),
			   "cuMemCreate");
	syn_gpu_leave(&scope);
	if (!r)
		*ret = (struct syn_gpu_mem){
			.handle = handle,
			.tier = tier,
			.bytes = bytes,
		};
	return r;
}

int syn_gpu_mem_export(struct syn_gpu *gpu, const struct syn_gpu_mem *mem,
		       int *ret_fd)
{
	const struct syn_cuda_api *api = gpu->api;
	struct syn_gpu_scope scope;
	int fd = -1;
	int r;

	if (syn_fault())
		return -EMFILE;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(api,
			   api->cuMemExportToShareableHandle(
				   &fd, mem->handle,
				   CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			   "cuMemExportToShareableHandle");
	syn_gpu_leave(&scope);
	if (!r)
		*ret_fd = fd;
	return r;
}

int syn_gpu_mem_import(struct syn_gpu *gpu, uint32_t tier, int fd,
		       uint64_t bytes, struct syn_gpu_mem *ret)
{
	const struct syn_cuda_api *api = gpu->api;
	CUmemGenericAllocationHandle handle;
	struct syn_gpu_scope scope;
	int r;

	if (!bytes || bytes % SYN_GPU_GRANULE)
		return -EINVAL;
	if (syn_fault())
		return -ENOMEM;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(api,
			   api->cuMemImportFromShareableHandle(
				   &handle, (void *)(intptr_t)fd,
				   CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
			   "cuMemImportFromShareableHandle");
	syn_gpu_leave(&scope);
	if (!r)
		*ret = (struct syn_gpu_mem){
			.handle = handle,
			.tier = tier,
			.bytes = bytes,
		};
	return r;
}

/* ---- addresses ---------------------------------------------------------- */

int syn_gpu_reserve(struct syn_gpu *gpu, uint64_t bytes, uint64_t *ret_at)
{
	const struct syn_cuda_api *api = gpu->api;
	struct syn_gpu_scope scope;
	CUdeviceptr at;
	int r;

	if (syn_fault())
		return -ENOMEM;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = syn_cuda_errno(
		api,
		api->cuMemAddressReserve(&at, bytes, SYN_GPU_GRANULE, 0, 0),
		"cuMemAddressReserve");
	syn_gpu_leave(&scope);
	if (!r)
		*ret_at = at;
	return r;
}

void syn_gpu_unreserve(struct syn_gpu *gpu, uint64_t at, uint64_t bytes)
{
	struct syn_gpu_scope scope;

	if (syn_gpu_enter(gpu, &scope))
		return;
	(void)gpu->api->cuMemAddressFree(at, bytes);
	syn_gpu_leave(&scope);
}

/* Host memory is for the CPU as well. */
static int mem_access(const struct syn_gpu *gpu, const struct syn_gpu_mem *mem)
{
	const CUmemAccessDesc access[] = {
		{ .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE,
				.id = gpu->device },
		  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE },
		{ .location = { .type = CU_MEM_LOCATION_TYPE_HOST_NUMA },
		  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE },
	};
	const bool both = mem->tier == SYN_TIER_HOST && !mem->gpu_only;

	return syn_cuda_errno(gpu->api,
			      gpu->api->cuMemSetAccess(mem->at, mem->bytes,
						       access, both ? 2 : 1),
			      "cuMemSetAccess");
}

static int mem_map_entered(const struct syn_gpu *gpu, struct syn_gpu_mem *mem,
			   uint64_t at)
{
	const struct syn_cuda_api *api = gpu->api;
	int r = syn_cuda_errno(api,
			       api->cuMemMap(at, mem->bytes, 0, mem->handle, 0),
			       "cuMemMap");

	if (r)
		return r;
	mem->at = at;
	r = mem_access(gpu, mem);
	if (r) {
		(void)api->cuMemUnmap(at, mem->bytes);
		mem->at = 0;
	}
	return r;
}

int syn_gpu_mem_map(struct syn_gpu *gpu, struct syn_gpu_mem *mem, uint64_t at)
{
	struct syn_gpu_scope scope;
	bool reserved = !at;
	int r;

	if (reserved)
		r = syn_gpu_reserve(gpu, mem->bytes, &at);
	else
		r = syn_fault() ? -ENOMEM : 0;
	if (r)
		return r;
	r = syn_gpu_enter(gpu, &scope);
	if (!r) {
		r = mem_map_entered(gpu, mem, at);
		syn_gpu_leave(&scope);
	}
	if (!r)
		mem->reserved = reserved;
	else if (reserved)
		syn_gpu_unreserve(gpu, at, mem->bytes);
	return r;
}

void syn_gpu_mem_unmap(struct syn_gpu *gpu, struct syn_gpu_mem *mem)
{
	struct syn_gpu_scope scope;

	if (!mem->at || syn_gpu_enter(gpu, &scope))
		return;
	(void)gpu->api->cuMemUnmap(mem->at, mem->bytes);
	syn_gpu_leave(&scope);
	if (mem->reserved)
		syn_gpu_unreserve(gpu, mem->at, mem->bytes);
	mem->at = 0;
}

void syn_gpu_mem_free(struct syn_gpu *gpu, struct syn_gpu_mem *mem)
{
	struct syn_gpu_scope scope;

	syn_gpu_mem_unmap(gpu, mem);
	if (syn_gpu_enter(gpu, &scope))
		return;
	(void)gpu->api->cuMemRelease(mem->handle);
	syn_gpu_leave(&scope);
}

/* ---- memory of this process --------------------------------------------- */

static int register_entered(const struct syn_gpu *gpu, void *at, uint64_t bytes)
{
	const struct syn_cuda_api *api = gpu->api;
	CUdeviceptr seen = 0;
	CUresult result;

	result = api->cuMemHostRegister_v2(
		at, bytes,
		CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
	if (result)
		return syn_cuda_errno(api, result, "cuMemHostRegister");
	result = api->cuMemHostGetDevicePointer_v2(&seen, at, 0);
	if (!result && seen == (CUdeviceptr)(uintptr_t)at)
		return 0;
	(void)api->cuMemHostUnregister(at);
	return result ? syn_cuda_errno(api, result, "cuMemHostGetDevicePointer")
		      : -EOPNOTSUPP;
}

int syn_gpu_register(struct syn_gpu *gpu, void *at, uint64_t bytes)
{
	struct syn_gpu_scope scope;
	int r;

	if (syn_fault())
		return -ENOMEM;
	r = syn_gpu_enter(gpu, &scope);
	if (r)
		return r;
	r = register_entered(gpu, at, bytes);
	syn_gpu_leave(&scope);
	return r;
}

void syn_gpu_unregister(struct syn_gpu *gpu, void *at)
{
	struct syn_gpu_scope scope;

	if (syn_gpu_enter(gpu, &scope))
		return;
	(void)gpu->api->cuMemHostUnregister(at);
	syn_gpu_leave(&scope);
}
