/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host-emulated device: both tiers are memfds, workers copy.
 *
 * A full backend, on which the daemon runs where there is no GPU and which
 * every test runs on.  On request it delays, fails or loses the device.
 */
#ifndef SYN_KERNELS_DEV_HOST_H
#define SYN_KERNELS_DEV_HOST_H

#include <stdbool.h>
#include <stdint.h>

struct syn_dev;

/**
 * struct syn_dev_host_config - how to open the host-emulated device.
 * @lock_memory:	mlock host extents; -ENOMEM is forwarded.
 * @huge_pages:		use huge pages for host extents when the system has
 *			them.
 * @workers:		threads that copy and encode, at most SYN_WORKERS_MAX; 0:
 *			one for each CPU of the node this process may use.
 * @node:		NUMA node of the device: of HBM extents and of the
 *			threads that copy.  -1: any.
 * @host_nodes:		nodes of host extents, one bit each, the nearest with
 *			room first.  0: the one nearest to @node.
 * @granule:		of HBM, a power of two: as a device that needs larger
 *			ones.  0: 4 KiB.
 * @keep:		the keeper takes a duplicate of @fd under @id and has
 *			acknowledged it on return.  NULL: nobody keeps.
 * @drop:		the keeper may close it.
 * @take:		what the keeper has under @id, the device's own from now on;
 *			-ENOENT: nothing.  NULL: it has nothing at all.
 * @keep_ctx:		first argument of all three.
 */
struct syn_dev_host_config {
	bool lock_memory;
	bool huge_pages;
	unsigned int workers;
	int node;
	uint64_t host_nodes;
	uint64_t granule;
	int (*keep)(void *ctx, uint32_t id, int fd);
	void (*drop)(void *ctx, uint32_t id);
	int (*take)(void *ctx, uint32_t id);
	void *keep_ctx;
};

int syn_dev_host_open(struct syn_dev **ret,
		      const struct syn_dev_host_config *config);

/* For tests; called as the device's own calls. */

/* Every copy from now on takes at least @delay_ns. */
void syn_dev_host_set_delay(struct syn_dev *dev, uint64_t delay_ns);
/* The @nth copy from now on fails with -EIO; 0: none. */
void syn_dev_host_fail_copy(struct syn_dev *dev, unsigned int nth);
/* Every copy from now on fails with -EIO, for good. */
void syn_dev_host_lose(struct syn_dev *dev);

#endif
