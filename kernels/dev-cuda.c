/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA device: its threads, and core's calls. */
#include "kernels/dev-cuda.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include <synapse/abi.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/base/thread.h"
#include "kernels/dev-cuda-internal.h"

#define MIB (1ull << 20)

bool syn_dev_cuda_built(void)
{
	return true;
}

int cuda_check(struct dev_cuda *cuda, int r)
{
	if (r != -EIO || syn_load_relaxed(&cuda->lost))
		return r;
	syn_error("the GPU failed: it is not used any more");
	syn_store_relaxed(&cuda->lost, true);
	return r;
}

/* ---- the threads -------------------------------------------------------- */

static void request_serve(struct dev_cuda *cuda, struct cuda_thread *thread)
{
	struct cuda_request *request = thread->request;

	thread->request = NULL;
	(void)pthread_mutex_unlock(&cuda->lock);
	request->r = request->serve(cuda, request);
	(void)pthread_mutex_lock(&cuda->lock);
	request->done = true;
	(void)pthread_cond_signal(&cuda->served);
}

/* Requests first, then the engines are kept busy, then it waits for them. */
static void *engine_main(void *arg)
{
	struct dev_cuda *cuda = arg;

	(void)pthread_mutex_lock(&cuda->lock);
	while (!cuda->stop) {
		if (cuda->engine.request)
			request_serve(cuda, &cuda->engine);
		else if (!cuda->gpu ||
			 (!cuda_ways_begin(cuda) && !cuda_ways_end(cuda)))
			(void)pthread_cond_wait(&cuda->engine.wake,
						&cuda->lock);
	}
	(void)pthread_mutex_unlock(&cuda->lock);
	return NULL;
}

static void doomed_free(struct dev_cuda *cuda)
{
	struct cuda_mem *mem =
		syn_container_of(cuda->doomed.next, struct cuda_mem, doomed);

	syn_list_del(&mem->doomed);
	(void)pthread_mutex_unlock(&cuda->lock);
	(void)syn_close(mem->fd);
	cuda_mem_free(cuda, mem);
	free(mem);
	(void)pthread_mutex_lock(&cuda->lock);
}

static bool spare_make(struct dev_cuda *cuda)
{
	bool made;

	(void)pthread_mutex_unlock(&cuda->lock);
	made = cuda_spare_make(cuda);
	(void)pthread_mutex_lock(&cuda->lock);
	return made;
}

/* What is freed makes room for what is asked for, and that comes first. */
static void *maker_main(void *arg)
{
	struct dev_cuda *cuda = arg;

	(void)syn_numa_bind_thread(&cuda->numa, cuda->node);
	(void)pthread_mutex_lock(&cuda->lock);
	while (!cuda->stop) {
		if (!syn_list_empty(&cuda->doomed))
			doomed_free(cuda);
		else if (cuda->maker.request)
			request_serve(cuda, &cuda->maker);
		else if (!spare_make(cuda) && !cuda->maker.request &&
			 syn_list_empty(&cuda->doomed) && !cuda->stop)
			(void)pthread_cond_wait(&cuda->maker.wake, &cuda->lock);
	}
	(void)pthread_mutex_unlock(&cuda->lock);
	return NULL;
}

static int thread_call(struct dev_cuda *cuda, struct cuda_thread *thread,
		       struct cuda_request *request)
{
	(void)pthread_mutex_lock(&cuda->lock);
	thread->request = request;
	(void)pthread_cond_signal(&thread->wake);
	while (!request->done)
		(void)pthread_cond_wait(&cuda->served, &cuda->lock);
	(void)pthread_mutex_unlock(&cuda->lock);
	return request->r;
}

static int thread_start(struct dev_cuda *cuda, struct cuda_thread *thread,
			const char *name, void *(*main)(void *arg))
{
	int r = syn_thread_start(&thread->thread, name, main, cuda);

	thread->runs = !r;
	return r;
}

static void thread_join(struct cuda_thread *thread)
{
	if (thread->runs)
		(void)pthread_join(thread->thread, NULL);
}

static void threads_stop(struct dev_cuda *cuda)
{
	(void)pthread_mutex_lock(&cuda->lock);
	cuda->stop = true;
	(void)pthread_cond_signal(&cuda->engine.wake);
	(void)pthread_cond_signal(&cuda->maker.wake);
	(void)pthread_mutex_unlock(&cuda->lock);
	thread_join(&cuda->engine);
	thread_join(&cuda->maker);
}

/* ---- the GPU, by the engine --------------------------------------------- */

static int gpu_close(struct dev_cuda *cuda, struct cuda_request *request)
{
	(void)request;
	for (unsigned int i = 0; i < CUDA_WAYS; i++)
		syn_gpu_copier_close(cuda->way[i].copier);
	syn_gpu_copier_close(cuda->zeroer);
	syn_gpu_pinned_free(cuda->gpu, cuda->staging);
	syn_gpu_close(cuda->gpu);
	cuda->gpu = NULL;
	return 0;
}

static int gpu_equip(struct dev_cuda *cuda)
{
	void *staging = NULL;
	int r;

	r = syn_gpu_copier_open(cuda->gpu, &cuda->zeroer);
	for (unsigned int i = 0; i < CUDA_WAYS && !r; i++)
		r = syn_gpu_copier_open(cuda->gpu, &cuda->way[i].copier);
	if (!r && cuda->config.encode)
		r = syn_gpu_pinned_new(cuda->gpu, CUDA_STAGING_BYTES, &staging);
	cuda->staging = staging;
	return r;
}

static void gpu_log(const struct dev_cuda *cuda)
{
	const struct syn_gpu_info *info = syn_gpu_info(cuda->gpu);
	char uuid[SYN_DEV_CUDA_UUID_BYTES];

	syn_gpu_uuid_format(info->uuid, uuid);
	syn_info("%s, %s, %llu MiB, at %s near node %d, driver of CUDA %d.%d; "
		 "host memory is %s",
		 info->name, uuid, (unsigned long long)(info->bytes / MIB),
		 info->pci, cuda->node, info->driver / 1000,
		 info->driver % 1000 / 10,
		 cuda->registered ? "registered" : "made by the driver");
}

/* The thread moves to where the GPU is, before it makes anything. */
static void gpu_settle(struct dev_cuda *cuda)
{
	const struct syn_gpu_info *info = syn_gpu_info(cuda->gpu);
	int node = cuda->config.node;

	if (node < 0)
		node = info->node;
	if (node < 0 || node >= SYN_NUMA_NODES)
		node = cuda->numa.home;
	cuda->node = node;
	/* A thread on another node is slower, not wrong. */
	(void)syn_numa_bind_thread(&cuda->numa, node);
	syn_place_init(&cuda->host, &cuda->numa, "host memory", node,
		       cuda->config.host_nodes);
	cuda->registered = cuda->config.registered || !info->host_vmm;
	cuda->zeroed = cuda_mem_comes_zeroed();
	memcpy(cuda->dev.uuid, info->uuid, sizeof(cuda->dev.uuid));
}

static int gpu_open(struct dev_cuda *cuda, struct cuda_request *request)
{
	uint8_t uuid[SYN_GPU_UUID_BYTES];
	struct syn_gpu *gpu;
	int r = 0;

	if (cuda->config.uuid)
		r = syn_gpu_uuid_parse(cuda->config.uuid, uuid);
	if (!r)
		r = syn_gpu_open(&gpu, cuda->config.uuid ? uuid : NULL);
	if (r)
		return r;
	cuda->gpu = gpu;
	gpu_settle(cuda);
	r = gpu_equip(cuda);
	if (r)
		(void)gpu_close(cuda, request);
	else
		gpu_log(cuda);
	return r;
}

/* ---- core's calls ------------------------------------------------------- */

static struct dev_cuda *dev_cuda_of(struct syn_dev *dev)
{
	return syn_container_of(dev, struct dev_cuda, dev);
}

static int dev_cuda_keep(const struct dev_cuda *cuda, uint32_t id, int fd)
{
	const struct syn_dev_cuda_config *config = &cuda->config;

	return config->keep ? config->keep(config->keep_ctx, id, fd) : 0;
}

/*
 * The maker frees it when it comes to it, before it makes anything else.  It
 * closes the descriptor, too: for that the driver waits for what is being made.
 */
static void mem_doom(struct dev_cuda *cuda, struct cuda_mem *mem, int fd)
{
	mem->fd = mem->registered ? -1 : fd;
	(void)pthread_mutex_lock(&cuda->lock);
	syn_list_add_tail(&cuda->doomed, &mem->doomed);
	(void)pthread_cond_signal(&cuda->maker.wake);
	(void)pthread_mutex_unlock(&cuda->lock);
}

static void mem_describe(struct cuda_mem *mem, uint32_t id, int fd,
			 struct syn_mem *ret)
{
	*ret = (struct syn_mem){
		.id = id,
		.tier = mem->tier,
		.fd = fd,
		.bytes = mem->bytes,
		.addr = mem->tier == SYN_TIER_HOST ? (void *)(uintptr_t)mem->at
						   : NULL,
		.handle = !mem->registered,
		.node = mem->node,
		.priv = mem,
	};
}

static int dev_cuda_mem_new(struct syn_dev *dev, uint32_t id, uint32_t tier,
			    uint64_t bytes, struct syn_mem *ret)
{
	struct dev_cuda *cuda = dev_cuda_of(dev);
	struct cuda_mem *mem = syn_alloc(1, sizeof(*mem));
	struct cuda_request request = { .serve = cuda_mem_make, .mem = mem };
	int r;

	if (!mem)
		return -ENOMEM;
	mem->tier = tier;
	mem->bytes = bytes;
	r = thread_call(cuda, &cuda->maker, &request);
	if (r) {
		free(mem);
		return r;
	}
	r = dev_cuda_keep(cuda, id, request.fd);
	if (r) {
		mem_doom(cuda, mem, request.fd);
		return r;
	}
	mem_describe(mem, id, request.fd, ret);
	return 0;
}

static int dev_cuda_take(const struct dev_cuda *cuda, uint32_t id)
{
	const struct syn_dev_cuda_config *config = &cuda->config;

	return config->take ? config->take(config->keep_ctx, id) : -ENOENT;
}

/* What the driver does not take is not what it gave; any other fault is the GPU's. */
static int adopt_error(int error)
{
	switch (error) {
	case -EIO:
		return -ENODEV;
	case -EINVAL:
	case -EPERM:
	case -EACCES:
		return -EIO;
	default:
		return error;
	}
}

static int mem_adopt(struct dev_cuda *cuda, uint32_t id, uint32_t tier,
		     uint64_t bytes, struct syn_mem *ret)
{
	syn_cleanup(syn_closep) int fd = dev_cuda_take(cuda, id);
	struct cuda_request request = { .serve = cuda_mem_adopt, .fd = fd };
	int r;

	if (fd < 0)
		return fd;
	request.mem = syn_alloc(1, sizeof(*request.mem));
	if (!request.mem)
		return -ENOMEM;
	request.mem->tier = tier;
	request.mem->bytes = bytes;
	r = thread_call(cuda, &cuda->maker, &request);
	if (r) {
		free(request.mem);
		return adopt_error(r);
	}
	mem_describe(request.mem, id, syn_steal_fd(&fd), ret);
	return 0;
}

static int dev_cuda_mem_adopt(struct syn_dev *dev, uint32_t id, uint32_t tier,
			      uint64_t bytes, struct syn_mem *ret)
{
	struct dev_cuda *cuda = dev_cuda_of(dev);
	int r = mem_adopt(cuda, id, tier, bytes, ret);

	if (!syn_mem_is_lost(r))
		return r;
	syn_warning("extent %u is lost: %s", id, strerror(-r));
	if (cuda->config.drop)
		cuda->config.drop(cuda->config.keep_ctx, id);
	return r;
}

static void dev_cuda_mem_free(struct syn_dev *dev, struct syn_mem *mem)
{
	struct dev_cuda *cuda = dev_cuda_of(dev);

	mem_doom(cuda, mem->priv, mem->fd);
	mem->priv = NULL;
	mem->fd = -1;
	if (cuda->config.drop)
		cuda->config.drop(cuda->config.keep_ctx, mem->id);
}

/* -EAGAIN: too many copies wait to be reaped. */
static int dev_cuda_copy(struct syn_dev *dev, const struct syn_copy *vec,
			 unsigned int nr)
{
	struct dev_cuda *cuda = dev_cuda_of(dev);
	struct syn_list jobs;

	for (unsigned int i = 0; i < nr; i++)
		if (!cuda_job_is_sane(cuda, &vec[i]))
			return -EINVAL;
	if (syn_fault() || nr > cuda->nr_free)
		return -EAGAIN;
	syn_list_init(&jobs);
	for (unsigned int i = 0; i < nr; i++)
		syn_list_add_tail(&jobs,
				  &cuda_job_new(cuda, &vec[i])->base.job.link);
	cuda_job_submit(cuda, &jobs);
	return 0;
}

static unsigned int dev_cuda_reap(struct syn_dev *dev,
				  struct syn_copy_done *ret, unsigned int max)
{
	struct dev_cuda *cuda = dev_cuda_of(dev);
	struct syn_list jobs;
	unsigned int nr = 0;

	syn_list_init(&jobs);
	syn_workers_reap(cuda->workers, max, &jobs);
	while (!syn_list_empty(&jobs)) {
		struct cuda_job *job = cuda_job_of(jobs.next);

		syn_list_del(&job->base.job.link);
		ret[nr].cookie = job->base.copy.cookie;
		ret[nr].status = job->base.job.status;
		cuda_job_free(cuda, job);
		nr++;
	}
	return nr;
}

static int dev_cuda_event_fd(struct syn_dev *dev)
{
	return syn_workers_event_fd(dev_cuda_of(dev)->workers);
}

static void dev_cuda_free(struct dev_cuda *cuda)
{
	(void)pthread_mutex_destroy(&cuda->lock);
	(void)pthread_cond_destroy(&cuda->engine.wake);
	(void)pthread_cond_destroy(&cuda->maker.wake);
	(void)pthread_cond_destroy(&cuda->served);
	free(cuda);
}

/* Reaped copies make room for others: so they are, until none is left. */
static void dev_cuda_close(struct syn_dev *dev)
{
	struct dev_cuda *cuda = dev_cuda_of(dev);
	struct cuda_request end = { .serve = cuda_spare_end };
	struct cuda_request close = { .serve = gpu_close };
	struct pollfd event = { .fd = dev_cuda_event_fd(dev),
				.events = POLLIN };
	struct syn_copy_done done;

	while (cuda->nr_free < CUDA_QUEUE) {
		(void)poll(&event, 1, -1);
		(void)dev_cuda_reap(dev, &done, 1);
	}
	syn_workers_close(cuda->workers);
	(void)thread_call(cuda, &cuda->maker, &end);
	(void)thread_call(cuda, &cuda->engine, &close);
	threads_stop(cuda);
	dev_cuda_free(cuda);
}

static const struct syn_dev_ops dev_cuda_ops = {
	.name = "cuda",
	.close = dev_cuda_close,
	.mem_new = dev_cuda_mem_new,
	.mem_adopt = dev_cuda_mem_adopt,
	.mem_free = dev_cuda_mem_free,
	.copy = dev_cuda_copy,
	.reap = dev_cuda_reap,
	.event_fd = dev_cuda_event_fd,
};

static struct dev_cuda *dev_cuda_alloc(const struct syn_dev_cuda_config *config)
{
	struct dev_cuda *cuda = syn_alloc(1, sizeof(*cuda));

	if (!cuda)
		return NULL;
	cuda->dev.ops = &dev_cuda_ops;
	cuda->dev.granule = SYN_GPU_GRANULE;
	cuda->config = *config;
	(void)pthread_mutex_init(&cuda->lock, NULL);
	(void)pthread_cond_init(&cuda->engine.wake, NULL);
	(void)pthread_cond_init(&cuda->maker.wake, NULL);
	(void)pthread_cond_init(&cuda->served, NULL);
	syn_list_init(&cuda->doomed);
	for (unsigned int i = 0; i < CUDA_WAYS; i++) {
		syn_list_init(&cuda->way[i].waiting);
		syn_list_init(&cuda->way[i].busy);
	}
	while (cuda->nr_free < CUDA_QUEUE) {
		cuda->free[cuda->nr_free] = &cuda->job[cuda->nr_free];
		cuda->nr_free++;
	}
	syn_numa_read(&cuda->numa);
	return cuda;
}

static void about_fill(const struct dev_cuda *cuda,
		       struct syn_dev_cuda_about *ret)
{
	const struct syn_gpu_info *info = syn_gpu_info(cuda->gpu);

	*ret = (struct syn_dev_cuda_about){
		.minor = info->minor,
		.node = cuda->node,
		.bytes = info->bytes,
	};
	(void)snprintf(ret->name, sizeof(ret->name), "%s", info->name);
	syn_gpu_uuid_format(info->uuid, ret->uuid);
}

static int workers_open(struct dev_cuda *cuda)
{
	unsigned int nr = cuda->config.workers;

	/* Engines that wait for their thread cost more than a worker gives. */
	if (!nr)
		nr = syn_numa_cpus(&cuda->numa, cuda->node) - 1;
	nr = syn_max(nr, 1u);
	return syn_workers_open(&cuda->workers, nr, &cuda->numa, cuda->node);
}

int syn_dev_cuda_open(struct syn_dev **ret,
		      const struct syn_dev_cuda_config *config,
		      struct syn_dev_cuda_about *ret_about)
{
	struct dev_cuda *cuda = dev_cuda_alloc(config);
	struct cuda_request open = { .serve = gpu_open };
	struct cuda_request close = { .serve = gpu_close };
	int r;

	if (!cuda)
		return -ENOMEM;
	r = thread_start(cuda, &cuda->engine, "syn-cuda", engine_main);
	if (r)
		goto free_cuda;
	r = thread_call(cuda, &cuda->engine, &open);
	if (r)
		goto stop_threads;
	r = thread_start(cuda, &cuda->maker, "syn-cuda-mem", maker_main);
	if (r)
		goto close_gpu;
	r = workers_open(cuda);
	if (r)
		goto close_gpu;
	cuda->config.uuid = NULL;
	if (ret_about)
		about_fill(cuda, ret_about);
	*ret = &cuda->dev;
	return 0;

close_gpu:
	(void)thread_call(cuda, &cuda->engine, &close);
stop_threads:
	threads_stop(cuda);
free_cuda:
	dev_cuda_free(cuda);
	return r;
}
