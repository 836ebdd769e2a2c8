/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One GPU, as this process uses it, and memory behind exported handles.
 *
 * The daemon creates and exports; a client imports and maps.  Nothing here
 * includes cuda.h: its users see no driver, and this folder is not built where
 * there is no CUDA Toolkit.
 *
 * Device addresses are 64-bit numbers.  Results: 0 or -errno: -ENODEV no such
 * GPU, -ENOSYS the driver is too old, -ENOMEM, -EIO the GPU failed or is lost.
 * Calls on different objects may be made from any threads; each makes the
 * GPU's context current for as long as it takes, and can be made while another
 * thread captures a graph.
 */
#ifndef SYN_KERNELS_CUDA_GPU_H
#define SYN_KERNELS_CUDA_GPU_H

#include <stdbool.h>
#include <stdint.h>

#define SYN_GPU_UUID_BYTES 16u
#define SYN_GPU_NAME_BYTES 64u
#define SYN_GPU_GRANULE	   (2ull << 20) /* of extents and their addresses */

struct syn_gpu;

/**
 * struct syn_gpu_info - what is known of a GPU.
 * @uuid:	names it, whatever CUDA_VISIBLE_DEVICES says.
 * @name:	for people.
 * @pci:	address on the bus, as 0000:01:00.0.
 * @minor:	N of /dev/nvidiaN, -1: unknown.
 * @node:	NUMA node of the host that is nearest, -1: not known.
 * @driver:	version of CUDA that the driver has, as 13000.
 * @arch:	compute capability, as 90.
 * @sms:	multiprocessors.
 * @bytes:	of its memory.
 * @host_vmm:	host memory can be made, exported and mapped like its own.
 */
struct syn_gpu_info {
	uint8_t uuid[SYN_GPU_UUID_BYTES];
	char name[SYN_GPU_NAME_BYTES];
	char pci[16];
	int minor;
	int node;
	int driver;
	int arch;
	unsigned int sms;
	uint64_t bytes;
	bool host_vmm;
};

/*
 * The GPU of that UUID, NULL: the first.  The caller's context is used if one
 * is current and on that GPU, else the device's primary one.
 */
int syn_gpu_open(struct syn_gpu **ret, const uint8_t *uuid);
/* Everything made on it is gone.  Takes NULL. */
void syn_gpu_close(struct syn_gpu *gpu);
const struct syn_gpu_info *syn_gpu_info(const struct syn_gpu *gpu);
/* "GPU-xxxxxxxx-xxxx-...", 40 characters and a NUL. */
void syn_gpu_uuid_format(const uint8_t *uuid, char ret[41]);
/* -EINVAL unless it is one. */
int syn_gpu_uuid_parse(const char *text, uint8_t ret[SYN_GPU_UUID_BYTES]);

/**
 * struct syn_gpu_mem - memory that a handle stands for.
 * @handle:	the driver's.
 * @tier:	SYN_TIER_HBM or SYN_TIER_HOST.
 * @bytes:	size, whole granules.
 * @at:		where it is mapped, for the GPU and, in the host tier, for the
 *		CPU at the same address; 0: it is not.
 * @reserved:	@at was reserved for it alone.
 * @gpu_only:	set before it is mapped: not for the CPU, which takes three
 *		times as long.
 */
struct syn_gpu_mem {
	uint64_t handle;
	uint32_t tier;
	uint64_t bytes;
	uint64_t at;
	bool reserved;
	bool gpu_only;
};

/*
 * Fresh memory; what it holds is undefined.  @node: SYN_TIER_HOST: the NUMA
 * node it is made on.  -EOPNOTSUPP: this GPU has no such host memory.
 */
int syn_gpu_mem_new(struct syn_gpu *gpu, uint32_t tier, int node,
		    uint64_t bytes, struct syn_gpu_mem *ret);
/* A descriptor that other processes import; close it when it is not needed. */
int syn_gpu_mem_export(struct syn_gpu *gpu, const struct syn_gpu_mem *mem,
		       int *ret_fd);
/* @fd stays the caller's, and may be closed then. */
int syn_gpu_mem_import(struct syn_gpu *gpu, uint32_t tier, int fd,
		       uint64_t bytes, struct syn_gpu_mem *ret);
/* @at: a reserved address of whole granules; 0: anywhere. */
int syn_gpu_mem_map(struct syn_gpu *gpu, struct syn_gpu_mem *mem, uint64_t at);
void syn_gpu_mem_unmap(struct syn_gpu *gpu, struct syn_gpu_mem *mem);
/* Unmaps it if need be, and gives the handle up. */
void syn_gpu_mem_free(struct syn_gpu *gpu, struct syn_gpu_mem *mem);

/* Addresses without memory; @bytes and the result are whole granules. */
int syn_gpu_reserve(struct syn_gpu *gpu, uint64_t bytes, uint64_t *ret_at);
void syn_gpu_unreserve(struct syn_gpu *gpu, uint64_t at, uint64_t bytes);

/*
 * Lets the GPU read and write memory of this process where the CPU does; whole
 * pages of the kernel's.  -EOPNOTSUPP: it would see it somewhere else.
 */
int syn_gpu_register(struct syn_gpu *gpu, void *at, uint64_t bytes);
void syn_gpu_unregister(struct syn_gpu *gpu, void *at);

#endif
