/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the CUDA device share.
 *
 * Four kinds of threads: the control thread, which calls core/dev.h; two that
 * alone call kernels/cuda/, the engine for copies and the maker for memory,
 * which takes the driver up to 0.1 s for an extent; the workers.  A copy goes
 *
 *	control: waiting of its way -> engine: busy of its way -> workers -> reaped
 *
 * and belongs to whoever has it.
 */
#ifndef SYN_KERNELS_DEV_CUDA_INTERNAL_H
#define SYN_KERNELS_DEV_CUDA_INTERNAL_H

#include <pthread.h>

#include "core/base/list.h"
#include "core/dev.h"
#include "kernels/copy-job.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/gpu.h"
#include "kernels/dev-cuda.h"
#include "numa/hostmem.h"
#include "numa/place.h"

/* Copies submitted and not yet reaped. */
#define CUDA_QUEUE 1024u

/*
 * A batch ends with the span that makes it so large: long enough to hide the
 * sleep until the one before it has ended, short enough that workers begin
 * soon.  Tens of MiB in many spans were seen to wait for kernels.
 */
#define CUDA_BATCH_BYTES (8ull << 20)
#define CUDA_BATCHES	 3u /* of a way, under way */

/* Pages on their way to an encoder; the largest page fits twice. */
#define CUDA_STAGING_BYTES (128ull << 20)
#define CUDA_STAGING_BLOCK (64u << 10)
#define CUDA_STAGING_NR                                                        \
	((unsigned int)(CUDA_STAGING_BYTES / CUDA_STAGING_BLOCK))

#define CUDA_DOWN 0 /* HBM to host */
#define CUDA_UP	  1 /* host to HBM */
#define CUDA_WAYS 2

/**
 * struct cuda_mem - memory of an extent.
 * @doomed:	link in the list of what the maker is to free.
 * @tier:	of it.
 * @bytes:	of it.
 * @gpu:	from the driver, unless @registered.
 * @host:	a memfd, if @registered.
 * @registered:	see there.
 * @fd:		with @doomed: what clients received, -1: @host's.
 * @at:		where the GPU sees it, and in the host tier the CPU.
 * @node:	NUMA node it is on, -1: not bound.
 */
struct cuda_mem {
	struct syn_list doomed;
	uint32_t tier;
	uint64_t bytes;
	struct syn_gpu_mem gpu;
	struct syn_hostmem host;
	bool registered;
	int fd;
	uint64_t at;
	int node;
};

/**
 * struct cuda_job - one copy.
 * @base:	what workers do of it.
 * @span:	what the copy engine does.
 * @status:	how that ended.
 * @block:	first block of staging, ...
 * @nr_blocks:	... so many; 0: none.
 */
struct cuda_job {
	struct syn_copy_job base;
	struct syn_gpu_span span;
	int status;
	unsigned int block;
	unsigned int nr_blocks;
};

/**
 * struct cuda_way - a direction.
 * @waiting:	jobs that the engine has not taken; under the lock.
 * @busy:	jobs in batches, oldest first; the engine's, as below.
 * @copier:	its stream.
 * @nr:		jobs of each batch, in turn.
 * @first:	the oldest batch.
 * @began:	number of that batch among all of both ways.
 */
struct cuda_way {
	struct syn_list waiting;
	struct syn_list busy;
	struct syn_gpu_copier *copier;
	unsigned int nr[CUDA_BATCHES];
	unsigned int first;
	uint64_t began[CUDA_BATCHES];
};

struct dev_cuda;

/**
 * struct cuda_request - what the control thread waits for.
 * @serve:	called by the thread that was asked.
 * @mem:	to be made: tier and bytes are given.
 * @fd:		answer: its descriptor; of memory to be adopted it is given.
 * @r:		answer.
 * @done:	given.
 */
struct cuda_request {
	int (*serve)(struct dev_cuda *cuda, struct cuda_request *request);
	struct cuda_mem *mem;
	int fd;
	int r;
	bool done;
};

/**
 * struct cuda_thread - one that calls the driver.
 * @thread:	it.
 * @runs:	it was started.
 * @wake:	it sleeps here, under the lock.
 * @request:	what the control thread waits for, NULL: nothing; likewise.
 */
struct cuda_thread {
	pthread_t thread;
	bool runs;
	pthread_cond_t wake;
	struct cuda_request *request;
};

/**
 * struct cuda_spare - a host extent that is made before it is asked for.
 * @mem:	it, NULL: none.
 * @bytes:	size of the last that was asked for; 0: make none.
 * @made:	bytes of host extents, without the spare.
 */
struct cuda_spare {
	struct cuda_mem *mem;
	uint64_t bytes;
	uint64_t made;
};

/**
 * struct dev_cuda - the device.
 * @dev:	what core sees.
 * @config:	as opened, without @uuid.
 * @numa:	the machine.
 * @node:	of threads.
 * @workers:	who sums and encodes.
 * @lost:	the GPU failed; read by all threads.
 * @gpu:	open; written before there is a maker.
 * @way:	the engine's, but for @waiting.
 * @nr_began:	batches so far; the engine's.
 * @staging:	pinned, NULL: nothing is encoded; constant.
 * @host:	where host extents lie; the maker's, as the four below:
 * @zeroer:	for fresh memory.
 * @registered:	host memory is memfds.
 * @zeroed:	the driver zeroes host memory.
 * @spare:	see there.
 * @lock:	guards what follows.
 * @engine:	the thread for copies.
 * @maker:	the thread for memory.
 * @served:	the control thread sleeps here.
 * @doomed:	memory that the maker frees before all else.
 * @stop:	no more requests or copies.
 * @used:	blocks of staging.
 * @cursor:	where to look next.
 * @nr_free:	the control thread's: jobs not in use, ...
 * @free:	... each; the last to be used is the first to be used again.
 * @job:	all of them.
 */
struct dev_cuda {
	struct syn_dev dev;
	struct syn_dev_cuda_config config;
	struct syn_numa numa;
	int node;
	struct syn_workers *workers;
	bool lost;
	struct syn_gpu *gpu;
	struct cuda_way way[CUDA_WAYS];
	uint64_t nr_began;
	char *staging;
	struct syn_place host;
	struct syn_gpu_copier *zeroer;
	bool registered;
	bool zeroed;
	struct cuda_spare spare;
	pthread_mutex_t lock;
	struct cuda_thread engine;
	struct cuda_thread maker;
	pthread_cond_t served;
	struct syn_list doomed;
	bool stop;
	bool used[CUDA_STAGING_NR];
	unsigned int cursor;
	unsigned int nr_free;
	struct cuda_job *free[CUDA_QUEUE];
	struct cuda_job job[CUDA_QUEUE];
};

static inline struct cuda_job *cuda_job_of(struct syn_list *link)
{
	return syn_container_of(link, struct cuda_job, base.job.link);
}

/* Returns @r; the device is lost if the GPU failed. */
int cuda_check(struct dev_cuda *cuda, int r);

/* Memory: the maker, without the lock. */
int cuda_mem_make(struct dev_cuda *cuda, struct cuda_request *request);
/* From the descriptor of the request, which another process exported. */
int cuda_mem_adopt(struct dev_cuda *cuda, struct cuda_request *request);
void cuda_mem_free(struct dev_cuda *cuda, struct cuda_mem *mem);
/* A spare, if one is wanted; false: none is. */
bool cuda_spare_make(struct dev_cuda *cuda);
/* No spare from now on; a request. */
int cuda_spare_end(struct dev_cuda *cuda, struct cuda_request *request);
/* Whether the driver's host memory comes zeroed. */
bool cuda_mem_comes_zeroed(void);

/* Copies: the control thread, without the lock. */
bool cuda_job_is_sane(const struct dev_cuda *cuda, const struct syn_copy *copy);
struct cuda_job *cuda_job_new(struct dev_cuda *cuda,
			      const struct syn_copy *copy);
void cuda_job_submit(struct dev_cuda *cuda, struct syn_list *jobs);
void cuda_job_free(struct dev_cuda *cuda, struct cuda_job *job);

/* Copies: the engine, with the lock, which they may drop. */
bool cuda_ways_begin(struct dev_cuda *cuda);
bool cuda_ways_end(struct dev_cuda *cuda);

#endif
