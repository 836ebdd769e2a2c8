/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of threads that run jobs cut into tasks.
 *
 * While there are many jobs each worker stays with the one it began, so whole
 * jobs run in parallel; a worker that finds none to begin helps with the
 * oldest, so a job that is alone is shared by all.  Idle workers sleep.  Any
 * thread may submit and reap.
 */
#ifndef SYN_KERNELS_WORKERS_H
#define SYN_KERNELS_WORKERS_H

#include <stdint.h>

#include "core/base/list.h"

/* More threads than this move no more bytes on one node. */
#define SYN_WORKERS_MAX 32u

struct syn_numa;
struct syn_workers;

/**
 * struct syn_job - embedded in what is to be done.
 * @run:	one task, 0 or -errno; called by a worker that holds no lock,
 *		for several tasks of a job at once.  When one has failed, those
 *		that were not begun are left out.
 * @nr_tasks:	at least 1; a task should take 20 us or more.
 * @status:	when it was reaped: 0, or what the first to fail said.
 * @link:	in the list that is submitted, and in the one that is reaped.
 * @next:	(private) the first task that nobody has taken.
 * @left:	(private) tasks that have not ended.
 */
struct syn_job {
	int (*run)(struct syn_job *job, uint32_t task);
	uint32_t nr_tasks;
	int status;
	struct syn_list link;
	uint32_t next;
	uint32_t left;
};

/*
 * Starts @nr threads, 1 to SYN_WORKERS_MAX, on @node of @numa, -1: anywhere;
 * 0 or -errno.
 */
int syn_workers_open(struct syn_workers **ret, unsigned int nr,
		     const struct syn_numa *numa, int node);
/* Every job that was submitted is done before it returns. */
void syn_workers_close(struct syn_workers *workers);
/* Takes every job off the list @jobs, in this order. */
void syn_workers_submit(struct syn_workers *workers, struct syn_list *jobs);
/* Adds at most @max jobs that are done to @jobs, first come, first served. */
void syn_workers_reap(struct syn_workers *workers, unsigned int max,
		      struct syn_list *jobs);
/* Readable exactly while jobs wait to be reaped; the pool's own. */
int syn_workers_event_fd(const struct syn_workers *workers);

#endif
