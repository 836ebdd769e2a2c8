/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA device: HBM and host memory behind handles of the driver, copy
 * engines that move, workers that sum and encode.
 *
 * Two threads make all CUDA calls, and launch no kernel.  Who calls core/dev.h
 * waits for the driver only in mem_new, and hardly ever for a host extent as
 * large as the last.  A GPU that failed once is lost: every later copy and
 * mem_new is -EIO.
 *
 * Copies go from either tier to the other or within the host tier; only those
 * that end in the host tier encode.
 */
#ifndef SYN_KERNELS_DEV_CUDA_H
#define SYN_KERNELS_DEV_CUDA_H

#include <stdbool.h>
#include <stdint.h>

struct syn_dev;

#define SYN_DEV_CUDA_NAME_BYTES 64u
#define SYN_DEV_CUDA_UUID_BYTES 41u /* "GPU-...", with its NUL */

/**
 * struct syn_dev_cuda_config - how to open a GPU.
 * @uuid:	"GPU-..."; NULL: the first.
 * @workers:	threads that sum and encode, at most SYN_WORKERS_MAX; 0: one for
 *		each CPU of the node this process may use, but one.
 * @node:	NUMA node of the threads.  -1: that of the GPU.
 * @host_nodes:	nodes of host extents, one bit each, the nearest with room
 *		first.  0: the one nearest to @node.
 * @host_bytes:	what host extents may have together; as long as there is room, one
 *		more than was asked for is made ahead.  0: none is.
 * @huge_pages:	of registered host memory, when the system has them.
 * @registered:	make host memory from memfds that are registered, as where the
 *		driver has none that it exports.
 * @encode:	copies may encode: 128 MiB of pinned memory for them.
 * @keep:	the keeper takes a duplicate of @fd under @id and has
 *		acknowledged it on return.  NULL: nobody keeps.
 * @drop:	the keeper may close it.
 * @take:	what the keeper has under @id, the device's own from now on;
 *		-ENOENT: nothing.  NULL: it has nothing at all.
 * @keep_ctx:	first argument of all three.
 */
struct syn_dev_cuda_config {
	const char *uuid;
	unsigned int workers;
	int node;
	uint64_t host_nodes;
	uint64_t host_bytes;
	bool huge_pages;
	bool registered;
	bool encode;
	int (*keep)(void *ctx, uint32_t id, int fd);
	void (*drop)(void *ctx, uint32_t id);
	int (*take)(void *ctx, uint32_t id);
	void *keep_ctx;
};

/**
 * struct syn_dev_cuda_about - the GPU that was opened.
 * @name:	for people.
 * @uuid:	text.
 * @minor:	N of /dev/nvidiaN, -1: unknown.
 * @node:	NUMA node that its threads and memory are near to.
 * @bytes:	of its memory.
 */
struct syn_dev_cuda_about {
	char name[SYN_DEV_CUDA_NAME_BYTES];
	char uuid[SYN_DEV_CUDA_UUID_BYTES];
	int minor;
	int node;
	uint64_t bytes;
};

/* This build can open GPUs at all. */
bool syn_dev_cuda_built(void);

/*
 * -ENOSYS: this build cannot, or the driver is too old.  -ENODEV: no such GPU.
 * -EINVAL: @config->uuid is none.
 */
int syn_dev_cuda_open(struct syn_dev **ret,
		      const struct syn_dev_cuda_config *config,
		      struct syn_dev_cuda_about *ret_about);

#endif
