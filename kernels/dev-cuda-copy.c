/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of the CUDA device: batches for the copy engines, then the workers. */
#include <errno.h>

#include <synapse/abi.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "kernels/dev-cuda-internal.h"

static int cuda_job_run(struct syn_job *base, uint32_t task)
{
	struct syn_copy_job *copy =
		syn_container_of(base, struct syn_copy_job, job);
	struct cuda_job *job = syn_container_of(copy, struct cuda_job, base);

	return job->status ? job->status : syn_copy_job_task(copy, task);
}

/* From HBM to itself nobody would see the bytes that are to be summed. */
bool cuda_job_is_sane(const struct dev_cuda *cuda, const struct syn_copy *copy)
{
	if (!syn_copy_is_sane(copy) || (copy->encode && !cuda->staging))
		return false;
	return copy->dst->tier == SYN_TIER_HOST ||
	       (copy->src->tier == SYN_TIER_HOST && !copy->encode);
}

struct cuda_job *cuda_job_new(struct dev_cuda *cuda,
			      const struct syn_copy *copy)
{
	const struct cuda_mem *dst = copy->dst->priv;
	const struct cuda_mem *src = copy->src->priv;
	struct cuda_job *job = cuda->free[--cuda->nr_free];

	*job = (struct cuda_job){ .base = { .copy = *copy } };
	job->base.job.run = cuda_job_run;
	job->span = (struct syn_gpu_span){
		.dst = dst->at + copy->dst_off,
		.src = src->at + copy->src_off,
		.bytes = copy->bytes,
	};
	/* Workers sum the host's side, and write only what they encode. */
	if (copy->src->tier == SYN_TIER_HOST)
		job->base.src = (const char *)(uintptr_t)job->span.src;
	else if (!copy->encode)
		job->base.src = (const char *)(uintptr_t)job->span.dst;
	if (copy->encode || copy->src->tier == copy->dst->tier)
		job->base.dst = (char *)(uintptr_t)job->span.dst;
	syn_copy_job_cut(&job->base, false);
	return job;
}

static void job_give(struct dev_cuda *cuda, struct cuda_job *job,
		     struct syn_list *workers)
{
	uint32_t src = job->base.copy.src->tier;
	unsigned int way = src == SYN_TIER_HBM ? CUDA_DOWN : CUDA_UP;

	if (src != job->base.copy.dst->tier) {
		syn_list_add_tail(&cuda->way[way].waiting, &job->base.job.link);
		return;
	}
	job->status = syn_load_relaxed(&cuda->lost) ? -EIO : 0;
	syn_list_add_tail(workers, &job->base.job.link);
}

void cuda_job_submit(struct dev_cuda *cuda, struct syn_list *jobs)
{
	struct syn_list workers;

	syn_list_init(&workers);
	(void)pthread_mutex_lock(&cuda->lock);
	while (!syn_list_empty(jobs)) {
		struct cuda_job *job = cuda_job_of(jobs->next);

		syn_list_del(&job->base.job.link);
		job_give(cuda, job, &workers);
	}
	(void)pthread_cond_signal(&cuda->engine.wake);
	(void)pthread_mutex_unlock(&cuda->lock);
	syn_workers_submit(cuda->workers, &workers);
}

/* ---- staging ------------------------------------------------------------ */

static bool blocks_free(const struct dev_cuda *cuda, unsigned int at,
			unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (cuda->used[at + i])
			return false;
	return true;
}

static bool blocks_find(const struct dev_cuda *cuda, unsigned int nr,
			unsigned int *ret)
{
	for (unsigned int i = 0; i < CUDA_STAGING_NR; i++) {
		unsigned int at = (cuda->cursor + i) % CUDA_STAGING_NR;

		if (at + nr > CUDA_STAGING_NR || !blocks_free(cuda, at, nr))
			continue;
		*ret = at;
		return true;
	}
	return false;
}

/* False: it has to wait until others are reaped. */
static bool job_stage(struct dev_cuda *cuda, struct cuda_job *job)
{
	unsigned int nr = (unsigned int)syn_div_up(
		job->base.copy.bytes, (uint64_t)CUDA_STAGING_BLOCK);

	if (!job->base.copy.encode)
		return true;
	if (!blocks_find(cuda, nr, &job->block))
		return false;
	memset(cuda->used + job->block, true, nr);
	cuda->cursor = job->block + nr;
	job->nr_blocks = nr;
	job->base.src =
		cuda->staging + (uint64_t)job->block * CUDA_STAGING_BLOCK;
	job->span.dst = (uintptr_t)job->base.src;
	return true;
}

void cuda_job_free(struct dev_cuda *cuda, struct cuda_job *job)
{
	if (job->nr_blocks) {
		(void)pthread_mutex_lock(&cuda->lock);
		memset(cuda->used + job->block, false, job->nr_blocks);
		(void)pthread_cond_signal(&cuda->engine.wake);
		(void)pthread_mutex_unlock(&cuda->lock);
	}
	cuda->free[cuda->nr_free++] = job;
}

/* ---- batches ------------------------------------------------------------ */

/* Neighbours become one span. */
static unsigned int batch_spans(const struct syn_list *jobs,
				struct syn_gpu_span *ret)
{
	const struct cuda_job *job;
	unsigned int nr = 0;

	syn_list_for_each (job, jobs, base.job.link) {
		struct syn_gpu_span *last = &ret[nr - 1];

		if (nr && last->dst + last->bytes == job->span.dst &&
		    last->src + last->bytes == job->span.src)
			last->bytes += job->span.bytes;
		else
			ret[nr++] = job->span;
	}
	return nr;
}

/* What waits, as far as a batch and the staging go; returns how many. */
static unsigned int batch_take(struct dev_cuda *cuda, struct cuda_way *way,
			       struct syn_list *ret)
{
	unsigned int nr = 0;
	uint64_t bytes = 0;

	syn_list_init(ret);
	while (!syn_list_empty(&way->waiting) && nr < SYN_GPU_SPANS_MAX &&
	       bytes < CUDA_BATCH_BYTES) {
		struct cuda_job *job = cuda_job_of(way->waiting.next);

		if (!job_stage(cuda, job))
			break;
		syn_list_del(&job->base.job.link);
		syn_list_add_tail(ret, &job->base.job.link);
		bytes += job->span.bytes;
		nr++;
	}
	return nr;
}

/* Hands @nr jobs of @jobs to the workers, who tell of them. */
static void batch_end(struct dev_cuda *cuda, struct syn_list *jobs,
		      unsigned int nr, int r)
{
	struct syn_list ended;

	syn_list_init(&ended);
	while (nr--) {
		struct cuda_job *job = cuda_job_of(jobs->next);

		syn_list_del(&job->base.job.link);
		if (r)
			job->status = r;
		syn_list_add_tail(&ended, &job->base.job.link);
	}
	syn_workers_submit(cuda->workers, &ended);
}

static void batch_begin(struct dev_cuda *cuda, struct cuda_way *way,
			struct syn_list *jobs, unsigned int nr)
{
	struct syn_gpu_span span[SYN_GPU_SPANS_MAX];
	unsigned int at = way->first + syn_gpu_copier_busy(way->copier);
	int r = syn_load_relaxed(&cuda->lost) ? -EIO : 0;

	at %= CUDA_BATCHES;
	if (!r)
		r = cuda_check(cuda,
			       syn_gpu_copier_begin(way->copier, span,
						    batch_spans(jobs, span)));
	if (r) {
		batch_end(cuda, jobs, nr, -EIO);
		return;
	}
	way->nr[at] = nr;
	way->began[at] = cuda->nr_began++;
	while (!syn_list_empty(jobs)) {
		struct syn_list *link = jobs->next;

		syn_list_del(link);
		syn_list_add_tail(&way->busy, link);
	}
}

static bool way_begin(struct dev_cuda *cuda, struct cuda_way *way)
{
	struct syn_list jobs;
	unsigned int nr;

	if (syn_gpu_copier_busy(way->copier) == CUDA_BATCHES)
		return false;
	nr = batch_take(cuda, way, &jobs);
	if (!nr)
		return false;
	(void)pthread_mutex_unlock(&cuda->lock);
	batch_begin(cuda, way, &jobs, nr);
	(void)pthread_mutex_lock(&cuda->lock);
	return true;
}

bool cuda_ways_begin(struct dev_cuda *cuda)
{
	bool any = false;

	for (unsigned int i = 0; i < CUDA_WAYS; i++)
		any |= way_begin(cuda, &cuda->way[i]);
	return any;
}

/* The way whose oldest batch began first. */
static struct cuda_way *ways_oldest(struct dev_cuda *cuda)
{
	struct cuda_way *oldest = NULL;

	for (unsigned int i = 0; i < CUDA_WAYS; i++) {
		struct cuda_way *way = &cuda->way[i];

		if (syn_gpu_copier_busy(way->copier) &&
		    (!oldest ||
		     way->began[way->first] < oldest->began[oldest->first]))
			oldest = way;
	}
	return oldest;
}

bool cuda_ways_end(struct dev_cuda *cuda)
{
	struct cuda_way *way = ways_oldest(cuda);
	int r;

	if (!way)
		return false;
	(void)pthread_mutex_unlock(&cuda->lock);
	r = cuda_check(cuda, syn_gpu_copier_wait(way->copier));
	batch_end(cuda, &way->busy, way->nr[way->first], r ? -EIO : 0);
	way->first = (way->first + 1) % CUDA_BATCHES;
	(void)pthread_mutex_lock(&cuda->lock);
	return true;
}
