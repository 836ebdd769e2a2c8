/* SPDX-License-Identifier: Apache-2.0 */
/* Host emulation or a GPU, as the configuration says. */
#include "tools/synapsed/device.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/dev.h"
#include "kernels/dev-cuda.h"
#include "kernels/dev-host.h"
#include "numa/topology.h"
#include "tools/synapsed/budget.h"
#include "tools/synapsed/config.h"
#include "tools/synapsed/keep.h"

#define MIB ((uint64_t)1024 * 1024)

static int keep_extent(void *ctx, uint32_t id, int fd)
{
	struct syn_keep *keep = ctx;

	return keep->ops->put(keep, SYN_KEEP_EXTENT, id, &fd, 1);
}

static void drop_extent(void *ctx, uint32_t id)
{
	struct syn_keep *keep = ctx;

	keep->ops->drop(keep, SYN_KEEP_EXTENT, id);
}

static int take_extent(void *ctx, uint32_t id)
{
	struct syn_keep *keep = ctx;
	int fds[SYN_FDS_MAX];
	int r = syn_hold_take(&keep->hold, SYN_KEEP_EXTENT, id, fds);

	return r ? r : fds[0];
}

static int host_open(const struct syn_config *config, struct syn_keep *keep,
		     struct syn_dev **ret)
{
	struct syn_dev_host_config dev_config = {
		.lock_memory = config->host_lock,
		.huge_pages = config->host_huge_pages,
		.keep = keep_extent,
		.drop = drop_extent,
		.take = take_extent,
		.keep_ctx = keep,
	};
	struct syn_budget_nodes nodes;
	struct syn_numa numa;
	int r;

	syn_numa_read(&numa);
	syn_budget_nodes(config, &numa, &nodes);
	dev_config.node = nodes.device;
	dev_config.host_nodes = nodes.host;
	syn_budget_log(config);
	r = syn_dev_host_open(ret, &dev_config);
	if (r)
		syn_error("the device: %s", strerror(-r));
	return r;
}

/* ---- GPUs --------------------------------------------------------------- */

static void cuda_complain(const struct syn_config *config, int error)
{
	const char *why = strerror(-error);

	if (error == -ENODEV)
		why = "no such GPU, or no driver for it";
	else if (error == -ENOSYS)
		why = "the driver is too old: 550 or later is needed";
	syn_error("[hbm] device: %s: %s", config->device, why);
}

static int cuda_fits(const struct syn_config *config,
		     const struct syn_dev_cuda_about *about)
{
	if (config->hbm_bytes <= about->bytes)
		return 0;
	syn_error("[hbm] budget: expected no more than the %" PRIu64
		  " MiB of %s (%s), got %" PRIu64 " MiB",
		  about->bytes / MIB, about->name, about->uuid,
		  config->hbm_bytes / MIB);
	return -EINVAL;
}

/* Without it the next worker pays for starting the GPU; no more than that. */
static int cuda_hold(const struct syn_dev_cuda_about *about,
		     struct syn_keep *keep)
{
	syn_cleanup(syn_closep) int fd = -1;
	int fds[SYN_FDS_MAX];
	char path[32];

	if (!syn_hold_take(&keep->hold, SYN_KEEP_DEVICE, (uint32_t)about->minor,
			   fds)) {
		syn_hold_close(fds);
		return 0;
	}
	(void)snprintf(path, sizeof(path), "/dev/nvidia%d", about->minor);
	if (about->minor >= 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return keep->ops->put(keep, SYN_KEEP_DEVICE,
				      (uint32_t)about->minor, &fd, 1);
	syn_warning("the file of %s cannot be held open", about->uuid);
	return 0;
}

static int cuda_take(const struct syn_config *config, struct syn_keep *keep,
		     const struct syn_dev_cuda_about *about)
{
	struct syn_config settled = *config;
	int r = cuda_fits(config, about);

	if (r)
		return r;
	r = cuda_hold(about, keep);
	if (r) {
		syn_error("the keeper: %s", strerror(-r));
		return r;
	}
	settled.hbm_node = (uint64_t)about->node;
	syn_budget_log(&settled);
	return 0;
}

static int cuda_open(const struct syn_config *config, struct syn_keep *keep,
		     struct syn_dev **ret)
{
	const bool any = strcmp(config->device, SYN_CONFIG_DEVICE_CUDA) == 0;
	const struct syn_dev_cuda_config dev_config = {
		.uuid = any ? NULL : config->device,
		.node = config->hbm_node == SYN_CONFIG_NODE_AUTO
				? -1
				: (int)config->hbm_node,
		.host_nodes = config->host_nodes,
		.host_bytes = config->host_bytes,
		.huge_pages = config->host_huge_pages,
		.encode = config->codec != SYN_CODEC_RAW16,
		.keep = keep_extent,
		.drop = drop_extent,
		.take = take_extent,
		.keep_ctx = keep,
	};
	struct syn_dev_cuda_about about;
	struct syn_dev *dev;
	int r;

	r = syn_dev_cuda_open(&dev, &dev_config, &about);
	if (r) {
		cuda_complain(config, r);
		return r;
	}
	r = cuda_take(config, keep, &about);
	if (r)
		dev->ops->close(dev);
	else
		*ret = dev;
	return r;
}

int syn_device_open(const struct syn_config *config, struct syn_keep *keep,
		    struct syn_dev **ret)
{
	return syn_config_on_gpu(config) ? cuda_open(config, keep, ret)
					 : host_open(config, keep, ret);
}
