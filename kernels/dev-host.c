/* SPDX-License-Identifier: Apache-2.0 */
/* The host-emulated device: extents from memfds, workers that copy. */
#include "kernels/dev-host.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include <synapse/abi.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/dev.h"
#include "kernels/copy-job.h"
#include "kernels/workers.h"
#include "numa/hostmem.h"
#include "numa/place.h"
#include "numa/topology.h"

/* Copies submitted and not yet reaped. */
#define HOST_QUEUE 1024u

#define HOST_GRANULE 4096u

/**
 * struct host_job - one copy, and what a test asked for.
 * @base:	the copy.
 * @host:	the device.
 * @fail:	ends with -EIO, by order of a test.
 * @delay_ns:	least time of the copy.
 */
struct host_job {
	struct syn_copy_job base;
	const struct dev_host *host;
	bool fail;
	uint64_t delay_ns;
};

/**
 * struct dev_host - the device.
 * @dev:	what core sees.
 * @config:	as opened.
 * @numa:	the machine.
 * @hbm:	where extents of HBM lie.
 * @host:	where extents of the host lie.
 * @workers:	who copies, on the node of the device.
 * @delay_ns:	least time of a copy.
 * @fail_in:	the copy that fails, counted from 1; 0: none.
 * @lost:	nothing succeeds any more; workers read it, too.
 * @nr_free:	jobs that are not in use, ...
 * @free:	... each; the last to be used is the first to be used again.
 * @job:	all of them.
 */
struct dev_host {
	struct syn_dev dev;
	struct syn_dev_host_config config;
	struct syn_numa numa;
	struct syn_place hbm;
	struct syn_place host;
	struct syn_workers *workers;
	uint64_t delay_ns;
	unsigned int fail_in;
	bool lost;
	unsigned int nr_free;
	struct host_job *free[HOST_QUEUE];
	struct host_job job[HOST_QUEUE];
};

static struct dev_host *dev_host_of(struct syn_dev *dev)
{
	return syn_container_of(dev, struct dev_host, dev);
}

static struct host_job *host_job_of(struct syn_job *job)
{
	return syn_container_of(job, struct host_job, base.job);
}

static void dev_host_sleep_until(uint64_t when_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(when_ns / 1000000000u),
		.tv_nsec = (long)(when_ns % 1000000000u),
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) ==
	       EINTR)
		;
}

static int host_job_run(struct syn_job *base, uint32_t task)
{
	struct host_job *job = host_job_of(base);
	uint64_t until_ns = job->delay_ns ? syn_now_ns() + job->delay_ns : 0;
	int r;

	if (job->fail || syn_load_relaxed(&job->host->lost))
		return -EIO;
	r = syn_copy_job_task(&job->base, task);
	if (job->delay_ns)
		dev_host_sleep_until(until_ns);
	return r;
}

static void dev_host_close(struct syn_dev *dev)
{
	struct dev_host *host = dev_host_of(dev);

	syn_workers_close(host->workers);
	free(host);
}

static int dev_host_keep(const struct dev_host *host, uint32_t id, int fd)
{
	const struct syn_dev_host_config *config = &host->config;

	return config->keep ? config->keep(config->keep_ctx, id, fd) : 0;
}

/* @mem is the extent's from now on. */
static void mem_describe(struct syn_hostmem *mem, uint32_t id, uint32_t tier,
			 struct syn_mem *ret)
{
	*ret = (struct syn_mem){
		.id = id,
		.tier = tier,
		.fd = mem->fd,
		.bytes = mem->bytes,
		.addr = mem->addr,
		.node = mem->node,
		.priv = mem,
	};
}

static int dev_host_mem_new(struct syn_dev *dev, uint32_t id, uint32_t tier,
			    uint64_t bytes, struct syn_mem *ret)
{
	struct dev_host *host = dev_host_of(dev);
	const struct syn_dev_host_config *config = &host->config;
	struct syn_hostmem *mem;
	unsigned int flags = 0;
	char name[32];
	int r;

	if (tier == SYN_TIER_HBM && bytes % dev->granule)
		return -EINVAL;
	mem = syn_alloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	/* Frames of HBM lie side by side in windows, at any multiple of 4 KiB. */
	if (config->huge_pages && tier == SYN_TIER_HOST)
		flags |= SYN_HOSTMEM_HUGE;
	if (config->lock_memory && tier == SYN_TIER_HOST)
		flags |= SYN_HOSTMEM_LOCK;
	(void)snprintf(name, sizeof(name), "synapse-%s-%u",
		       tier == SYN_TIER_HBM ? "hbm" : "host", id);
	r = syn_place_new(tier == SYN_TIER_HBM ? &host->hbm : &host->host, mem,
			  name, bytes, flags);
	if (r)
		goto free_mem;
	r = dev_host_keep(host, id, mem->fd);
	if (r)
		goto deinit_mem;
	mem_describe(mem, id, tier, ret);
	return 0;

deinit_mem:
	syn_hostmem_deinit(mem);
free_mem:
	free(mem);
	return r;
}

static int dev_host_take(const struct dev_host *host, uint32_t id)
{
	const struct syn_dev_host_config *config = &host->config;

	return config->take ? config->take(config->keep_ctx, id) : -ENOENT;
}

/* It has not that size, or is nothing that can be mapped. */
static int adopt_error(int error)
{
	switch (error) {
	case -EINVAL:
		return -ENOENT;
	case -ENODEV:
	case -EACCES:
		return -EIO;
	default:
		return error;
	}
}

static int mem_adopt(const struct dev_host *host, uint32_t id, uint32_t tier,
		     uint64_t bytes, struct syn_mem *ret)
{
	syn_cleanup(syn_closep) int fd = dev_host_take(host, id);
	bool lock = host->config.lock_memory && tier == SYN_TIER_HOST;
	struct syn_hostmem *mem;
	int r;

	if (fd < 0)
		return fd;
	mem = syn_alloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	r = syn_hostmem_adopt(mem, fd, bytes, lock ? SYN_HOSTMEM_LOCK : 0);
	if (r) {
		free(mem);
		return adopt_error(r);
	}
	(void)syn_steal_fd(&fd);
	mem_describe(mem, id, tier, ret);
	return 0;
}

static int dev_host_mem_adopt(struct syn_dev *dev, uint32_t id, uint32_t tier,
			      uint64_t bytes, struct syn_mem *ret)
{
	const struct dev_host *host = dev_host_of(dev);
	int r = mem_adopt(host, id, tier, bytes, ret);

	if (!syn_mem_is_lost(r))
		return r;
	syn_warning("extent %u is lost: %s", id, strerror(-r));
	if (host->config.drop)
		host->config.drop(host->config.keep_ctx, id);
	return r;
}

static void dev_host_mem_free(struct syn_dev *dev, struct syn_mem *mem)
{
	const struct syn_dev_host_config *config = &dev_host_of(dev)->config;

	syn_hostmem_deinit(mem->priv);
	free(mem->priv);
	mem->priv = NULL;
	mem->fd = -1;
	if (config->drop)
		config->drop(config->keep_ctx, mem->id);
}

static struct host_job *host_job_new(struct dev_host *host,
				     const struct syn_copy *copy)
{
	struct host_job *job = host->free[--host->nr_free];

	job->base.dst = (char *)copy->dst->addr + copy->dst_off;
	job->base.src = (const char *)copy->src->addr + copy->src_off;
	job->base.copy = *copy;
	job->delay_ns = host->delay_ns;
	job->fail = host->fail_in && --host->fail_in == 0;
	syn_copy_job_cut(&job->base, job->delay_ns);
	return job;
}

/* -EAGAIN: too many copies wait to be reaped. */
static int dev_host_copy(struct syn_dev *dev, const struct syn_copy *vec,
			 unsigned int nr)
{
	struct dev_host *host = dev_host_of(dev);
	struct syn_list jobs;

	for (unsigned int i = 0; i < nr; i++)
		if (!syn_copy_is_sane(&vec[i]))
			return -EINVAL;
	if (syn_fault() || nr > host->nr_free)
		return -EAGAIN;
	syn_list_init(&jobs);
	for (unsigned int i = 0; i < nr; i++)
		syn_list_add_tail(&jobs,
				  &host_job_new(host, &vec[i])->base.job.link);
	syn_workers_submit(host->workers, &jobs);
	return 0;
}

static unsigned int dev_host_reap(struct syn_dev *dev,
				  struct syn_copy_done *ret, unsigned int max)
{
	struct dev_host *host = dev_host_of(dev);
	struct host_job *job;
	struct syn_list jobs;
	unsigned int nr = 0;

	syn_list_init(&jobs);
	syn_workers_reap(host->workers, max, &jobs);
	syn_list_for_each (job, &jobs, base.job.link) {
		ret[nr].cookie = job->base.copy.cookie;
		ret[nr].status = job->base.job.status;
		host->free[host->nr_free++] = job;
		nr++;
	}
	return nr;
}

static int dev_host_event_fd(struct syn_dev *dev)
{
	return syn_workers_event_fd(dev_host_of(dev)->workers);
}

static const struct syn_dev_ops dev_host_ops = {
	.name = "host",
	.close = dev_host_close,
	.mem_new = dev_host_mem_new,
	.mem_adopt = dev_host_mem_adopt,
	.mem_free = dev_host_mem_free,
	.copy = dev_host_copy,
	.reap = dev_host_reap,
	.event_fd = dev_host_event_fd,
};

int syn_dev_host_open(struct syn_dev **ret,
		      const struct syn_dev_host_config *config)
{
	struct dev_host *host = syn_alloc(1, sizeof(*host));
	unsigned int nr;
	int r;

	if (!host)
		return -ENOMEM;
	host->dev.ops = &dev_host_ops;
	host->dev.granule = config->granule ? config->granule : HOST_GRANULE;
	host->config = *config;
	syn_numa_read(&host->numa);
	syn_place_init(&host->hbm, &host->numa, "HBM", config->node, 0);
	syn_place_init(&host->host, &host->numa, "host memory", config->node,
		       config->host_nodes);
	nr = config->workers ? config->workers
			     : syn_numa_cpus(&host->numa, config->node);
	r = syn_workers_open(&host->workers, nr, &host->numa, config->node);
	if (r) {
		free(host);
		return r;
	}
	for (; host->nr_free < HOST_QUEUE; host->nr_free++) {
		struct host_job *job = &host->job[host->nr_free];

		job->host = host;
		job->base.job.run = host_job_run;
		host->free[host->nr_free] = job;
	}
	*ret = &host->dev;
	return 0;
}

void syn_dev_host_set_delay(struct syn_dev *dev, uint64_t delay_ns)
{
	dev_host_of(dev)->delay_ns = delay_ns;
}

void syn_dev_host_fail_copy(struct syn_dev *dev, unsigned int nth)
{
	dev_host_of(dev)->fail_in = nth;
}

void syn_dev_host_lose(struct syn_dev *dev)
{
	syn_store_relaxed(&dev_host_of(dev)->lost, true);
}
