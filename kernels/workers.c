/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of threads that run jobs cut into tasks. */
#include "kernels/workers.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/thread.h"
#include "numa/topology.h"

/**
 * struct syn_workers - the pool.
 * @lock:	guards what follows, and the private part of jobs.
 * @fresh:	jobs that nobody has begun, oldest first.
 * @begun:	jobs with tasks that nobody has taken, oldest first.
 * @done:	jobs to be reaped, in the order in which they ended.
 * @nr_idle:	workers that sleep.
 * @stop:	they end once there is nothing to take.
 * @work:	idle workers sleep here.
 * @event:	eventfd; constant, as all below.
 * @numa:	the machine ...
 * @node:	... and where on it they run, -1: anywhere.
 * @nr:		threads that run.
 * @thread:	each.
 */
struct syn_workers {
	pthread_mutex_t lock;
	struct syn_list fresh;
	struct syn_list begun;
	struct syn_list done;
	unsigned int nr_idle;
	bool stop;
	pthread_cond_t work;
	int event;
	const struct syn_numa *numa;
	int node;
	unsigned int nr;
	pthread_t thread[SYN_WORKERS_MAX];
};

/* The waiter's level: raised with the first job that is done, ... */
static void event_raise(const struct syn_workers *workers)
{
	const uint64_t one = 1;

	/* Fails only at the top of the counter, where it is readable anyway. */
	(void)!write(workers->event, &one, sizeof(one));
}

/* ... lowered with the last that is reaped. */
static void event_lower(const struct syn_workers *workers)
{
	uint64_t count;

	(void)!read(workers->event, &count, sizeof(count));
}

static struct syn_job *job_first(struct syn_list *head)
{
	return syn_list_empty(head)
		       ? NULL
		       : syn_container_of(head->next, struct syn_job, link);
}

static void job_move(struct syn_job *job, struct syn_list *to)
{
	syn_list_del(&job->link);
	syn_list_add_tail(to, &job->link);
}

/* The next task of @job, which must have one. */
static uint32_t job_take(struct syn_workers *workers, struct syn_job *job)
{
	uint32_t task = job->next++;

	if (task == 0)
		job_move(job, &workers->begun);
	if (job->next == job->nr_tasks)
		syn_list_del(&job->link);
	return task;
}

/* A task has ended; returns the job unless this was the last. */
static struct syn_job *job_ended(struct syn_workers *workers,
				 struct syn_job *job, int status)
{
	job->left--;
	if (status && !job->status) {
		job->status = status;
		job->left -= job->nr_tasks - job->next;
		job->next = job->nr_tasks;
		syn_list_del(&job->link);
	}
	if (job->left)
		return job;
	if (syn_list_empty(&workers->done))
		event_raise(workers);
	syn_list_add_tail(&workers->done, &job->link);
	return NULL;
}

/* Where a worker goes on that has worked on @job; NULL: nowhere. */
static struct syn_job *job_after(struct syn_workers *workers,
				 struct syn_job *job)
{
	if (job && job->next < job->nr_tasks)
		return job;
	job = job_first(&workers->fresh);
	return job ? job : job_first(&workers->begun);
}

/*
 * The lock is dropped around each task.  The job stays ours meanwhile: it is
 * not done before this task has ended.
 */
static void *worker_main(void *arg)
{
	struct syn_workers *workers = arg;
	struct syn_job *job = NULL;

	/* A thread on another node is slower, not wrong. */
	(void)syn_numa_bind_thread(workers->numa, workers->node);
	(void)pthread_mutex_lock(&workers->lock);
	for (;;) {
		uint32_t task;
		int status;

		job = job_after(workers, job);
		if (!job) {
			if (workers->stop)
				break;
			workers->nr_idle++;
			(void)pthread_cond_wait(&workers->work, &workers->lock);
			workers->nr_idle--;
			continue;
		}
		task = job_take(workers, job);
		(void)pthread_mutex_unlock(&workers->lock);
		status = job->run(job, task);
		(void)pthread_mutex_lock(&workers->lock);
		job = job_ended(workers, job, status);
	}
	(void)pthread_mutex_unlock(&workers->lock);
	return NULL;
}

void syn_workers_submit(struct syn_workers *workers, struct syn_list *jobs)
{
	struct syn_job *job;
	uint32_t wake = 0;

	(void)pthread_mutex_lock(&workers->lock);
	while ((job = job_first(jobs))) {
		job->next = 0;
		job->left = job->nr_tasks;
		job->status = 0;
		job_move(job, &workers->fresh);
		wake += syn_min(job->nr_tasks, SYN_WORKERS_MAX);
	}
	wake = syn_min(wake, workers->nr_idle);
	(void)pthread_mutex_unlock(&workers->lock);
	while (wake--)
		(void)pthread_cond_signal(&workers->work);
}

void syn_workers_reap(struct syn_workers *workers, unsigned int max,
		      struct syn_list *jobs)
{
	struct syn_job *job;
	unsigned int nr = 0;

	(void)pthread_mutex_lock(&workers->lock);
	for (; nr < max && (job = job_first(&workers->done)); nr++)
		job_move(job, jobs);
	if (nr && syn_list_empty(&workers->done))
		event_lower(workers);
	(void)pthread_mutex_unlock(&workers->lock);
}

int syn_workers_event_fd(const struct syn_workers *workers)
{
	return workers->event;
}

static int worker_start(struct syn_workers *workers)
{
	char name[16];
	int r;

	(void)snprintf(name, sizeof(name), "syn-copy/%u", workers->nr);
	r = syn_thread_start(&workers->thread[workers->nr], name, worker_main,
			     workers);
	workers->nr += !r;
	return r;
}

int syn_workers_open(struct syn_workers **ret, unsigned int nr,
		     const struct syn_numa *numa, int node)
{
	struct syn_workers *workers = syn_alloc(1, sizeof(*workers));
	int r;

	if (!workers)
		return -ENOMEM;
	workers->event = syn_fault() ? (errno = EMFILE, -1)
				     : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (workers->event < 0) {
		r = -errno;
		free(workers);
		return r;
	}
	(void)pthread_mutex_init(&workers->lock, NULL);
	(void)pthread_cond_init(&workers->work, NULL);
	syn_list_init(&workers->fresh);
	syn_list_init(&workers->begun);
	syn_list_init(&workers->done);
	workers->numa = numa;
	workers->node = node;
	nr = syn_min(nr, SYN_WORKERS_MAX);
	r = 0;
	while (!r && workers->nr < nr)
		r = worker_start(workers);
	if (r) {
		syn_workers_close(workers);
		return r;
	}
	*ret = workers;
	return 0;
}

void syn_workers_close(struct syn_workers *workers)
{
	(void)pthread_mutex_lock(&workers->lock);
	workers->stop = true;
	(void)pthread_cond_broadcast(&workers->work);
	(void)pthread_mutex_unlock(&workers->lock);
	for (unsigned int i = 0; i < workers->nr; i++)
		(void)pthread_join(workers->thread[i], NULL);
	(void)pthread_cond_destroy(&workers->work);
	(void)pthread_mutex_destroy(&workers->lock);
	(void)syn_close(workers->event);
	free(workers);
}
