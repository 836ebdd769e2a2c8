/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GPU: extents are handles of its driver, its copy engine and short bursts
 * of its kernels bring pages in.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/list.h"
#include "ipc/client/device.h"
#include "ipc/conn.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/load.h"
#include "kernels/cuda/stream.h"

/* Looks at a load before the first sleep, and how long each of those is. */
#define CUDA_SPINS    2000u
#define CUDA_SLEEP_US 20u

/**
 * struct cuda_extent - memory of an extent.
 * @mem:	of a handle; unused for a memfd.
 * @file:	a memfd, registered with the driver.
 */
struct cuda_extent {
	struct syn_gpu_mem mem;
	bool file;
};

/**
 * struct cuda_batch - transfers that were begun together.
 * @link:	in the device's list.
 * @ticket:	of them.
 * @vec:	as the caller has them.
 * @nr:		how many.
 * @page:	as the loader has them.
 */
struct cuda_batch {
	struct syn_list link;
	uint64_t ticket;
	struct syn_transfer *vec;
	unsigned int nr;
	struct syn_gpu_page page[];
};

/**
 * struct device_cuda - the device.
 * @dev:	what the client sees.
 * @gpu:	the GPU.
 * @lock:	guards what follows.
 * @loader:	of the whole process.
 * @batches:	under way.
 */
struct device_cuda {
	struct syn_device dev;
	struct syn_gpu *gpu;
	pthread_mutex_t lock;
	struct syn_gpu_loader *loader;
	struct syn_list batches;
};

static struct device_cuda *cuda_of(struct syn_device *dev)
{
	return syn_container_of(dev, struct device_cuda, dev);
}

static void cuda_close(struct syn_device *dev)
{
	struct device_cuda *cuda = cuda_of(dev);

	syn_gpu_loader_close(cuda->loader);
	syn_gpu_close(cuda->gpu);
	(void)pthread_mutex_destroy(&cuda->lock);
	free(cuda);
}

/* ---- memory ------------------------------------------------------------- */

static uint64_t granules(uint64_t bytes)
{
	return syn_align_up(bytes, SYN_GPU_GRANULE);
}

static int cuda_reserve(struct syn_device *dev, uint64_t bytes, char **ret)
{
	uint64_t at;
	int r = syn_gpu_reserve(cuda_of(dev)->gpu, granules(bytes), &at);

	if (!r)
		*ret = (char *)(uintptr_t)at;
	return r;
}

static void cuda_unreserve(struct syn_device *dev, char *at, uint64_t bytes)
{
	syn_gpu_unreserve(cuda_of(dev)->gpu, (uintptr_t)at, granules(bytes));
}

/* Where the driver has no host memory of its own, the daemon uses files. */
static int file_map(struct syn_gpu *gpu, int fd, struct syn_mapping *m)
{
	void *at;
	int r = syn_conn_segment_map(fd, m->bytes, false, &at);

	if (r)
		return r;
	r = madvise(at, m->bytes, MADV_DONTFORK) ? -errno : 0;
	if (!r)
		r = syn_gpu_register(gpu, at, m->bytes);
	if (r) {
		(void)munmap(at, m->bytes);
		return r;
	}
	m->at = at;
	return 0;
}

/* What lies in a window is mapped there, and nowhere else. */
static int handle_map(struct syn_gpu *gpu, const struct syn_msg_extent *msg,
		      int fd, struct syn_mapping *m, struct syn_gpu_mem *mem)
{
	int r = syn_gpu_mem_import(gpu, msg->tier, fd, msg->bytes, mem);

	if (r || msg->tier == SYN_TIER_HBM)
		return r;
	mem->gpu_only = true;
	r = syn_gpu_mem_map(gpu, mem, 0);
	if (r)
		syn_gpu_mem_free(gpu, mem);
	else
		m->at = (char *)(uintptr_t)mem->at;
	return r;
}

static int cuda_map(struct syn_device *dev, const struct syn_msg_extent *msg,
		    int fd, struct syn_mapping *ret)
{
	struct syn_gpu *gpu = cuda_of(dev)->gpu;
	struct syn_mapping m = { .bytes = msg->bytes };
	struct cuda_extent *e;
	int r;

	if (msg->flags & ~SYN_EXTENT_F_HANDLE ||
	    (!msg->flags && msg->tier != SYN_TIER_HOST))
		return -EPROTO;
	e = syn_alloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->file = !(msg->flags & SYN_EXTENT_F_HANDLE);
	if (e->file)
		r = file_map(gpu, fd, &m);
	else
		r = handle_map(gpu, msg, fd, &m, &e->mem);
	if (r) {
		free(e);
		return r;
	}
	m.priv = e;
	*ret = m;
	return 0;
}

static int cuda_place(struct syn_device *dev, struct syn_mapping *m, char *to)
{
	struct cuda_extent *e = m->priv;
	int r = syn_gpu_mem_map(cuda_of(dev)->gpu, &e->mem, (uintptr_t)to);

	if (r)
		return r;
	m->at = to;
	m->placed = true;
	return 0;
}

static void cuda_unmap(struct syn_device *dev, struct syn_mapping *m)
{
	struct syn_gpu *gpu = cuda_of(dev)->gpu;
	struct cuda_extent *e = m->priv;

	if (e->file) {
		syn_gpu_unregister(gpu, m->at);
		(void)munmap(m->at, m->bytes);
	} else {
		syn_gpu_mem_free(gpu, &e->mem);
	}
	free(e);
}

/* ---- loads -------------------------------------------------------------- */

/*
 * A raw page goes to its slot as it is, whatever its tiles mean; an encoded one
 * that stays so, tile by tile.
 */
static struct syn_gpu_page page_of(const struct syn_transfer *t)
{
	struct syn_gpu_page page = {
		.src = (uintptr_t)t->src,
		.bytes = t->bytes,
		.codec = t->codec,
		.as_stored = t->as_stored,
		.nr_tiles = t->nr_sums,
		.sums = t->want,
		.place = { .base = (uintptr_t)t->dst },
	};

	if (t->codec != SYN_CODEC_H4)
		return page;
	page.layout = t->layout;
	if (!t->as_stored)
		page.place =
			syn_gpu_place_canonical(t->layout, (uintptr_t)t->dst);
	return page;
}

static int cuda_load(struct syn_device *dev, struct syn_transfer *vec,
		     unsigned int nr, uint64_t *ret_ticket)
{
	struct device_cuda *cuda = cuda_of(dev);
	struct cuda_batch *batch;
	int r;

	batch = syn_alloc(1, sizeof(*batch) + nr * sizeof(batch->page[0]));
	if (!batch)
		return -ENOMEM;
	batch->vec = vec;
	batch->nr = nr;
	for (unsigned int i = 0; i < nr; i++)
		batch->page[i] = page_of(&vec[i]);
	(void)pthread_mutex_lock(&cuda->lock);
	r = syn_gpu_load_begin(cuda->loader, batch->page, nr, &batch->ticket);
	if (!r)
		syn_list_add_tail(&cuda->batches, &batch->link);
	(void)pthread_mutex_unlock(&cuda->lock);
	if (r) {
		free(batch);
		return r;
	}
	*ret_ticket = batch->ticket;
	return 0;
}

static struct cuda_batch *batch_find(struct device_cuda *cuda, uint64_t ticket)
{
	struct cuda_batch *batch;

	syn_list_for_each (batch, &cuda->batches, link)
		if (batch->ticket == ticket)
			return batch;
	return NULL;
}

/* NULL while it is under way. */
static struct cuda_batch *batch_take(struct device_cuda *cuda, uint64_t ticket)
{
	struct cuda_batch *batch = NULL;

	(void)pthread_mutex_lock(&cuda->lock);
	if (syn_gpu_load_done(cuda->loader, ticket)) {
		batch = batch_find(cuda, ticket);
		syn_list_del(&batch->link);
	}
	(void)pthread_mutex_unlock(&cuda->lock);
	return batch;
}

/* Without the lock meanwhile, so that other threads begin theirs. */
static void cuda_wait(struct syn_device *dev, uint64_t ticket)
{
	struct device_cuda *cuda = cuda_of(dev);
	struct cuda_batch *batch;
	unsigned int spins = 0;

	while (!(batch = batch_take(cuda, ticket))) {
		if (spins++ < CUDA_SPINS)
			syn_cpu_relax();
		else
			(void)usleep(CUDA_SLEEP_US);
	}
	for (unsigned int i = 0; i < batch->nr; i++)
		batch->vec[i].status = batch->page[i].status;
	free(batch);
}

static int cuda_order(struct syn_device *dev, uint64_t ticket, void *stream)
{
	struct device_cuda *cuda = cuda_of(dev);
	int r;

	(void)pthread_mutex_lock(&cuda->lock);
	r = syn_gpu_load_order(cuda->loader, ticket, stream);
	(void)pthread_mutex_unlock(&cuda->lock);
	return r;
}

static int cuda_sum(struct syn_device *dev, const void *at, uint64_t bytes,
		    uint64_t tile_bytes, uint32_t *ret_sums)
{
	struct device_cuda *cuda = cuda_of(dev);
	int r;

	(void)pthread_mutex_lock(&cuda->lock);
	r = syn_gpu_sum(cuda->loader, (uintptr_t)at, bytes, tile_bytes,
			ret_sums);
	(void)pthread_mutex_unlock(&cuda->lock);
	return r;
}

/* ---- memory of the engine ------------------------------------------------ */

#define CUDA_PIECE 32u

static struct syn_gpu_spread spread_of(const struct syn_spread *s)
{
	return (struct syn_gpu_spread){
		.layout = s->layout,
		.slot = (uintptr_t)s->slot,
		.place = {
			.base = (uintptr_t)s->at,
			.layer = s->layer,
			.block = s->block,
			.head = s->head,
			.component = s->component,
			.token = s->token,
		},
	};
}

static int spread_all(struct syn_device *dev, const struct syn_spread *vec,
		      unsigned int nr, bool out)
{
	struct device_cuda *cuda = cuda_of(dev);
	struct syn_gpu_spread piece[CUDA_PIECE];
	int r = 0;

	for (unsigned int at = 0, n; at < nr && !r; at += n) {
		n = syn_min(nr - at, CUDA_PIECE);
		for (unsigned int i = 0; i < n; i++)
			piece[i] = spread_of(&vec[at + i]);
		(void)pthread_mutex_lock(&cuda->lock);
		r = out ? syn_gpu_spread(cuda->loader, piece, n)
			: syn_gpu_gather(cuda->loader, piece, n);
		(void)pthread_mutex_unlock(&cuda->lock);
	}
	return r;
}

static int cuda_spread(struct syn_device *dev, const struct syn_spread *vec,
		       unsigned int nr)
{
	return spread_all(dev, vec, nr, true);
}

static int cuda_gather(struct syn_device *dev, const struct syn_spread *vec,
		       unsigned int nr)
{
	return spread_all(dev, vec, nr, false);
}

/* ---- signals ------------------------------------------------------------ */

static int cuda_share(struct syn_device *dev, void *at, uint64_t bytes)
{
	return syn_gpu_register(cuda_of(dev)->gpu, at, bytes);
}

static void cuda_unshare(struct syn_device *dev, void *at)
{
	syn_gpu_unregister(cuda_of(dev)->gpu, at);
}

static int cuda_signal(struct syn_device *dev, void *stream, uint64_t *word,
		       uint64_t value)
{
	return syn_gpu_signal(cuda_of(dev)->gpu, stream, word, value);
}

static const struct syn_device_ops cuda_ops = {
	.close = cuda_close,
	.reserve = cuda_reserve,
	.unreserve = cuda_unreserve,
	.map = cuda_map,
	.place = cuda_place,
	.unmap = cuda_unmap,
	.load = cuda_load,
	.wait = cuda_wait,
	.order = cuda_order,
	.sum = cuda_sum,
	.spread = cuda_spread,
	.gather = cuda_gather,
	.share = cuda_share,
	.unshare = cuda_unshare,
	.signal = cuda_signal,
};

bool syn_device_has_cuda(void)
{
	return true;
}

int syn_device_cuda_open(const uint8_t *uuid, struct syn_device **ret)
{
	struct device_cuda *cuda = syn_alloc(1, sizeof(*cuda));
	int r;

	if (!cuda)
		return -ENOMEM;
	cuda->dev.ops = &cuda_ops;
	cuda->dev.behind = true;
	syn_list_init(&cuda->batches);
	r = syn_gpu_open(&cuda->gpu, uuid);
	if (!r)
		r = syn_gpu_loader_open(cuda->gpu, 0, &cuda->loader);
	if (r) {
		syn_gpu_close(cuda->gpu);
		free(cuda);
		return r;
	}
	(void)pthread_mutex_init(&cuda->lock, NULL);
	*ret = &cuda->dev;
	return 0;
}
