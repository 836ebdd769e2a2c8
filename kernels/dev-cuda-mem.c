/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the CUDA device: made, zeroed, exported, by the maker. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include <synapse/abi.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "kernels/dev-cuda-internal.h"

#define PAGE_BYTES 4096u

/* Of the driver's module: on, unless an administrator turned it off. */
bool cuda_mem_comes_zeroed(void)
{
	FILE *file = fopen("/proc/driver/nvidia/params", "re");
	char line[128];
	int on = 0;

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file))
		(void)sscanf(line, "InitializeSystemMemoryAllocations: %d",
			     &on);
	(void)fclose(file);
	return on == 1;
}

static int hbm_new(struct dev_cuda *cuda, struct cuda_mem *mem)
{
	int r;

	r = syn_gpu_mem_new(cuda->gpu, SYN_TIER_HBM, -1, mem->bytes, &mem->gpu);
	if (r)
		return r;
	r = syn_gpu_mem_map(cuda->gpu, &mem->gpu, 0);
	/* What was there before is another tenant's. */
	if (!r)
		r = syn_gpu_zero(cuda->zeroer, mem->gpu.at, mem->bytes);
	if (r)
		syn_gpu_mem_free(cuda->gpu, &mem->gpu);
	mem->at = mem->gpu.at;
	mem->node = -1;
	return r;
}

/**
 * struct cuda_place - host memory to be made on one node or another.
 * @cuda:	the device.
 * @mem:	it.
 */
struct cuda_place {
	struct dev_cuda *cuda;
	struct cuda_mem *mem;
};

static int vmm_fill(struct dev_cuda *cuda, struct syn_gpu_mem *gpu, int node,
		    bool bind)
{
	void *addr;
	int r;

	r = syn_gpu_mem_map(cuda->gpu, gpu, 0);
	if (r)
		return r;
	addr = (void *)(uintptr_t)gpu->at;
	if (!cuda->zeroed)
		memset(addr, 0, gpu->bytes);
	if (bind)
		r = syn_hostmem_verify_range(addr, gpu->bytes, PAGE_BYTES,
					     node);
	/* The driver went elsewhere rather than fail: there is no room. */
	return r == -EXDEV ? -ENOMEM : r;
}

static int vmm_make(void *ctx, int node, bool bind)
{
	const struct cuda_place *want = ctx;
	struct dev_cuda *cuda = want->cuda;
	struct cuda_mem *mem = want->mem;
	int r;

	if (bind && !syn_place_room(&cuda->host, node, mem->bytes))
		return -ENOMEM;
	if (node < 0)
		node = cuda->numa.home;
	r = syn_gpu_mem_new(cuda->gpu, SYN_TIER_HOST, node, mem->bytes,
			    &mem->gpu);
	if (r)
		return r;
	r = vmm_fill(cuda, &mem->gpu, node, bind);
	if (r)
		syn_gpu_mem_free(cuda->gpu, &mem->gpu);
	mem->at = mem->gpu.at;
	mem->node = node;
	return r;
}

static int registered_new(struct dev_cuda *cuda, struct cuda_mem *mem)
{
	unsigned int flags = cuda->config.huge_pages ? SYN_HOSTMEM_HUGE : 0;
	int r;

	r = syn_place_new(&cuda->host, &mem->host, "synapse-host", mem->bytes,
			  flags);
	if (r)
		return r;
	r = syn_gpu_register(cuda->gpu, mem->host.addr, mem->bytes);
	if (r)
		syn_hostmem_deinit(&mem->host);
	mem->at = (uintptr_t)mem->host.addr;
	mem->node = mem->host.node;
	mem->registered = true;
	return r;
}

static int host_new(struct dev_cuda *cuda, struct cuda_mem *mem)
{
	struct cuda_place want = { .cuda = cuda, .mem = mem };
	int r = -EOPNOTSUPP;

	if (!cuda->registered)
		r = syn_place_each(&cuda->host, mem->bytes, vmm_make, &want);
	if (r != -EOPNOTSUPP)
		return r;
	if (!cuda->registered)
		syn_info("the driver makes no host memory for other processes: "
			 "it is registered instead");
	cuda->registered = true;
	return registered_new(cuda, mem);
}

/* ---- the spare ---------------------------------------------------------- */

static void mem_release(struct dev_cuda *cuda, struct cuda_mem *mem)
{
	if (mem->registered) {
		syn_gpu_unregister(cuda->gpu, mem->host.addr);
		syn_hostmem_deinit(&mem->host);
		return;
	}
	syn_gpu_mem_free(cuda->gpu, &mem->gpu);
}

static void spare_drop(struct dev_cuda *cuda)
{
	if (!cuda->spare.mem)
		return;
	mem_release(cuda, cuda->spare.mem);
	free(cuda->spare.mem);
	cuda->spare.mem = NULL;
}

bool cuda_spare_make(struct dev_cuda *cuda)
{
	struct cuda_spare *spare = &cuda->spare;
	struct cuda_mem *mem;

	if (spare->mem || !spare->bytes ||
	    spare->made + spare->bytes > cuda->config.host_bytes)
		return false;
	mem = syn_alloc(1, sizeof(*mem));
	if (mem) {
		mem->tier = SYN_TIER_HOST;
		mem->bytes = spare->bytes;
		if (!cuda_check(cuda, host_new(cuda, mem))) {
			spare->mem = mem;
			return true;
		}
		free(mem);
	}
	/* Not again before somebody asks. */
	spare->bytes = 0;
	return false;
}

int cuda_spare_end(struct dev_cuda *cuda, struct cuda_request *request)
{
	(void)request;
	spare_drop(cuda);
	cuda->spare.bytes = 0;
	return 0;
}

/* One of another size stands in the way. */
static int host_take(struct dev_cuda *cuda, struct cuda_mem *mem)
{
	struct cuda_spare *spare = &cuda->spare;
	int r = 0;

	if (spare->mem && spare->mem->bytes == mem->bytes) {
		*mem = *spare->mem;
		free(spare->mem);
		spare->mem = NULL;
	} else {
		spare_drop(cuda);
		r = host_new(cuda, mem);
	}
	if (r)
		return r;
	spare->bytes = mem->bytes;
	spare->made += mem->bytes;
	return 0;
}

/* ---- requests ----------------------------------------------------------- */

/* A memfd is exported already, and its descriptor is the memory's own. */
static int mem_export(struct dev_cuda *cuda, struct cuda_request *request)
{
	if (!request->mem->registered)
		return syn_gpu_mem_export(cuda->gpu, &request->mem->gpu,
					  &request->fd);
	request->fd = request->mem->host.fd;
	return 0;
}

void cuda_mem_free(struct dev_cuda *cuda, struct cuda_mem *mem)
{
	if (mem->tier == SYN_TIER_HOST)
		cuda->spare.made -= mem->bytes;
	mem_release(cuda, mem);
}

int cuda_mem_make(struct dev_cuda *cuda, struct cuda_request *request)
{
	struct cuda_mem *mem = request->mem;
	int r;

	if (syn_load_relaxed(&cuda->lost))
		return -EIO;
	r = mem->tier == SYN_TIER_HBM ? hbm_new(cuda, mem)
				      : host_take(cuda, mem);
	if (r)
		return cuda_check(cuda, r);
	r = mem_export(cuda, request);
	if (r)
		cuda_mem_free(cuda, mem);
	return cuda_check(cuda, r);
}

/* ---- of another process ------------------------------------------------- */

static int gpu_adopt(struct dev_cuda *cuda, struct cuda_mem *mem, int fd)
{
	int r;

	r = syn_gpu_mem_import(cuda->gpu, mem->tier, fd, mem->bytes, &mem->gpu);
	/* Something is wrong with it; with the GPU, others will tell. */
	if (r == -EIO)
		return -ENOENT;
	if (r)
		return r;
	r = syn_gpu_mem_map(cuda->gpu, &mem->gpu, 0);
	if (r)
		syn_gpu_mem_free(cuda->gpu, &mem->gpu);
	mem->at = mem->gpu.at;
	mem->node = -1;
	return r;
}

/* @fd stays the caller's after an error. */
static int registered_adopt(struct dev_cuda *cuda, struct cuda_mem *mem, int fd)
{
	int r;

	r = syn_hostmem_adopt(&mem->host, fd, mem->bytes, 0);
	if (r)
		return r == -EINVAL ? -ENOENT : r;
	r = syn_gpu_register(cuda->gpu, mem->host.addr, mem->bytes);
	if (r) {
		mem->host.fd = -1;
		syn_hostmem_deinit(&mem->host);
		return r;
	}
	mem->at = (uintptr_t)mem->host.addr;
	mem->node = mem->host.node;
	mem->registered = true;
	return 0;
}

/* What the driver exports is a file without a size. */
static bool fd_is_memfd(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size;
}

int cuda_mem_adopt(struct dev_cuda *cuda, struct cuda_request *request)
{
	struct cuda_mem *mem = request->mem;
	bool host = mem->tier == SYN_TIER_HOST;
	int r;

	if (syn_load_relaxed(&cuda->lost))
		return -EIO;
	if (host && fd_is_memfd(request->fd)) {
		cuda->registered = true;
		r = registered_adopt(cuda, mem, request->fd);
	} else {
		r = gpu_adopt(cuda, mem, request->fd);
	}
	if (!r && host)
		cuda->spare.made += mem->bytes;
	return cuda_check(cuda, r);
}
