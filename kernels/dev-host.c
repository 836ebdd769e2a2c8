/* SPDX-License-Identifier: Apache-2.0 */
/* The host-emulated device: extents from memfds, one thread that copies. */
#include "kernels/dev-host.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "kernels/codec/sum.h"
#include "numa/hostmem.h"

/* Copies submitted and not yet reaped, a power of two. */
#define HOST_QUEUE 1024u

/**
 * struct host_job - one copy; resolved when it is submitted.
 * @dst:	first byte to write.
 * @src:	first byte to read.
 * @copy:	as submitted.
 * @fail:	ends with -EIO, by order of a test.
 * @status:	valid once it is done.
 */
struct host_job {
	char *dst;
	const char *src;
	struct syn_copy copy;
	bool fail;
	int status;
};

/**
 * struct dev_host - the device.
 * @dev:	what core sees.
 * @config:	as opened.
 * @event:	eventfd, readable exactly while completions wait.
 * @thread:	the copy thread.
 * @lock:	guards everything below.
 * @work:	the copy thread sleeps here.
 * @job:	ring: [@reaped, @done) completed, [@done, @queued) to do.
 * @reaped:	free-running, as the two below.
 * @done:	moved by the copy thread only.
 * @queued:	moved by the caller only.
 * @stop:	the thread ends once the queue is empty.
 * @delay_ns:	least time of a copy.
 * @fail_in:	the copy that fails, counted from 1; 0: none.
 * @lost:	nothing succeeds any more.
 */
struct dev_host {
	struct syn_dev dev;
	struct syn_dev_host_config config;
	int event;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct host_job job[HOST_QUEUE];
	uint32_t reaped;
	uint32_t done;
	uint32_t queued;
	bool stop;
	uint64_t delay_ns;
	unsigned int fail_in;
	bool lost;
};

static struct dev_host *dev_host_of(struct syn_dev *dev)
{
	return syn_container_of(dev, struct dev_host, dev);
}

static struct host_job *dev_host_job(struct dev_host *host, uint32_t index)
{
	return &host->job[index % HOST_QUEUE];
}

/* The waiter's level: raised with the first completion, lowered by reap. */
static void dev_host_raise(struct dev_host *host)
{
	const uint64_t one = 1;

	/* Fails only at the top of the counter, where it is readable anyway. */
	(void)!write(host->event, &one, sizeof(one));
}

static void dev_host_lower(struct dev_host *host)
{
	uint64_t count;

	(void)!read(host->event, &count, sizeof(count));
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

static void host_job_run(const struct host_job *job, uint64_t delay_ns)
{
	uint64_t until_ns = delay_ns ? syn_now_ns() + delay_ns : 0;

	syn_sum_copy(job->dst, job->src, job->copy.bytes, job->copy.tile_bytes,
		     job->copy.sums);
	if (delay_ns)
		dev_host_sleep_until(until_ns);
}

/*
 * The lock is dropped around each copy.  The job stays put meanwhile: its
 * place in the ring is taken until it is reaped, which needs it to be done.
 */
static void *dev_host_main(void *arg)
{
	struct dev_host *host = arg;

	(void)pthread_mutex_lock(&host->lock);
	for (;;) {
		struct host_job *job = dev_host_job(host, host->done);
		uint64_t delay_ns = host->delay_ns;
		bool fail;

		if (host->done == host->queued) {
			if (host->stop)
				break;
			(void)pthread_cond_wait(&host->work, &host->lock);
			continue;
		}
		fail = job->fail || host->lost;
		(void)pthread_mutex_unlock(&host->lock);
		if (!fail)
			host_job_run(job, delay_ns);
		(void)pthread_mutex_lock(&host->lock);
		job->status = fail ? -EIO : 0;
		if (host->done++ == host->reaped)
			dev_host_raise(host);
	}
	(void)pthread_mutex_unlock(&host->lock);
	return NULL;
}

static void dev_host_close(struct syn_dev *dev)
{
	struct dev_host *host = dev_host_of(dev);

	(void)pthread_mutex_lock(&host->lock);
	host->stop = true;
	(void)pthread_cond_signal(&host->work);
	(void)pthread_mutex_unlock(&host->lock);
	(void)pthread_join(host->thread, NULL);
	(void)pthread_cond_destroy(&host->work);
	(void)pthread_mutex_destroy(&host->lock);
	(void)syn_close(host->event);
	free(host);
}

static int dev_host_keep(const struct dev_host *host, uint32_t id, int fd)
{
	const struct syn_dev_host_config *config = &host->config;

	return config->keep ? config->keep(config->keep_ctx, id, fd) : 0;
}

static int dev_host_mem_new(struct syn_dev *dev, uint32_t id, uint32_t tier,
			    uint64_t bytes, struct syn_mem *ret)
{
	const struct syn_dev_host_config *config = &dev_host_of(dev)->config;
	struct syn_hostmem *mem = syn_alloc(1, sizeof(*mem));
	unsigned int flags = 0;
	char name[32];
	int r;

	if (!mem)
		return -ENOMEM;
	/* Frames of HBM lie side by side in windows, at any multiple of 4 KiB. */
	if (config->huge_pages && tier == SYN_TIER_HOST)
		flags |= SYN_HOSTMEM_HUGE;
	if (config->lock_memory && tier == SYN_TIER_HOST)
		flags |= SYN_HOSTMEM_LOCK;
	(void)snprintf(name, sizeof(name), "synapse-%s-%u",
		       tier == SYN_TIER_HBM ? "hbm" : "host", id);
	r = syn_hostmem_init(mem, name, bytes, flags);
	if (r)
		goto free_mem;
	r = dev_host_keep(dev_host_of(dev), id, mem->fd);
	if (r)
		goto deinit_mem;
	*ret = (struct syn_mem){
		.id = id,
		.tier = tier,
		.fd = mem->fd,
		.bytes = bytes,
		.addr = mem->addr,
		.node = -1,
		.priv = mem,
	};
	return 0;

deinit_mem:
	syn_hostmem_deinit(mem);
free_mem:
	free(mem);
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

static bool copy_is_sane(const struct syn_copy *copy)
{
	return copy->tile_bytes && copy->bytes % copy->tile_bytes == 0 &&
	       copy->tile_bytes % sizeof(uint32_t) == 0 &&
	       copy->src_off <= copy->src->bytes &&
	       copy->bytes <= copy->src->bytes - copy->src_off &&
	       copy->dst_off <= copy->dst->bytes &&
	       copy->bytes <= copy->dst->bytes - copy->dst_off;
}

static void host_job_init(struct host_job *job, const struct syn_copy *copy)
{
	const struct syn_hostmem *dst = copy->dst->priv;
	const struct syn_hostmem *src = copy->src->priv;

	job->dst = (char *)dst->addr + copy->dst_off;
	job->src = (const char *)src->addr + copy->src_off;
	job->copy = *copy;
	job->fail = false;
}

static void dev_host_queue(struct dev_host *host, const struct syn_copy *vec,
			   unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct host_job *job = dev_host_job(host, host->queued + i);

		host_job_init(job, &vec[i]);
		if (host->fail_in && --host->fail_in == 0)
			job->fail = true;
	}
	host->queued += nr;
	(void)pthread_cond_signal(&host->work);
}

/* -EAGAIN: too many copies wait to be reaped. */
static int dev_host_copy(struct syn_dev *dev, const struct syn_copy *vec,
			 unsigned int nr)
{
	struct dev_host *host = dev_host_of(dev);
	int r = 0;

	for (unsigned int i = 0; i < nr; i++)
		if (!copy_is_sane(&vec[i]))
			return -EINVAL;
	if (syn_fault())
		return -EAGAIN;
	(void)pthread_mutex_lock(&host->lock);
	if (nr > HOST_QUEUE - (host->queued - host->reaped))
		r = -EAGAIN;
	else
		dev_host_queue(host, vec, nr);
	(void)pthread_mutex_unlock(&host->lock);
	return r;
}

static unsigned int dev_host_reap(struct syn_dev *dev,
				  struct syn_copy_done *ret, unsigned int max)
{
	struct dev_host *host = dev_host_of(dev);
	unsigned int nr = 0;

	(void)pthread_mutex_lock(&host->lock);
	while (nr < max && host->reaped != host->done) {
		const struct host_job *job = dev_host_job(host, host->reaped++);

		ret[nr].cookie = job->copy.cookie;
		ret[nr].status = job->status;
		nr++;
	}
	if (nr && host->reaped == host->done)
		dev_host_lower(host);
	(void)pthread_mutex_unlock(&host->lock);
	return nr;
}

static int dev_host_event_fd(struct syn_dev *dev)
{
	return dev_host_of(dev)->event;
}

static const struct syn_dev_ops dev_host_ops = {
	.name = "host",
	.close = dev_host_close,
	.mem_new = dev_host_mem_new,
	.mem_free = dev_host_mem_free,
	.copy = dev_host_copy,
	.reap = dev_host_reap,
	.event_fd = dev_host_event_fd,
};

/* Signals are the control thread's business. */
static int dev_host_start(struct dev_host *host)
{
	sigset_t all;
	sigset_t old;
	int r = EAGAIN;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!syn_fault())
		r = pthread_create(&host->thread, NULL, dev_host_main, host);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	(void)pthread_setname_np(host->thread, "syn-copy");
	return 0;
}

int syn_dev_host_open(struct syn_dev **ret,
		      const struct syn_dev_host_config *config)
{
	struct dev_host *host = syn_alloc(1, sizeof(*host));
	int r;

	if (!host)
		return -ENOMEM;
	host->dev.ops = &dev_host_ops;
	host->config = *config;
	host->event = syn_fault() ? (errno = EMFILE, -1)
				  : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (host->event < 0) {
		r = -errno;
		goto free_host;
	}
	(void)pthread_mutex_init(&host->lock, NULL);
	(void)pthread_cond_init(&host->work, NULL);
	r = dev_host_start(host);
	if (r)
		goto close_event;
	*ret = &host->dev;
	return 0;

close_event:
	(void)pthread_cond_destroy(&host->work);
	(void)pthread_mutex_destroy(&host->lock);
	(void)syn_close(host->event);
free_host:
	free(host);
	return r;
}

void syn_dev_host_set_delay(struct syn_dev *dev, uint64_t delay_ns)
{
	struct dev_host *host = dev_host_of(dev);

	(void)pthread_mutex_lock(&host->lock);
	host->delay_ns = delay_ns;
	(void)pthread_mutex_unlock(&host->lock);
}

void syn_dev_host_fail_copy(struct syn_dev *dev, unsigned int nth)
{
	struct dev_host *host = dev_host_of(dev);

	(void)pthread_mutex_lock(&host->lock);
	host->fail_in = nth;
	(void)pthread_mutex_unlock(&host->lock);
}

void syn_dev_host_lose(struct syn_dev *dev)
{
	struct dev_host *host = dev_host_of(dev);

	(void)pthread_mutex_lock(&host->lock);
	host->lost = true;
	(void)pthread_mutex_unlock(&host->lock);
}
