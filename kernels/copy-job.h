/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers do of a copy of core/dev.h: move, sum and encode, cut into tasks
 * of whole tiles.  Shared by the device backends.
 */
#ifndef SYN_KERNELS_COPY_JOB_H
#define SYN_KERNELS_COPY_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dev.h"
#include "kernels/workers.h"

/**
 * struct syn_copy_job - one copy; resolved when it is submitted.
 * @job:	what the workers see; its run is the backend's.
 * @dst:	first byte to write, NULL: only sums are made.
 * @src:	first byte to read.
 * @copy:	as submitted.
 * @task_tiles:	tiles of a task.
 */
struct syn_copy_job {
	struct syn_job job;
	char *dst;
	const char *src;
	struct syn_copy copy;
	uint32_t task_tiles;
};

/* Makes sense, and stays inside its extents. */
bool syn_copy_is_sane(const struct syn_copy *copy);

/* Cuts it into equal tasks, or one if it is to be @whole. */
void syn_copy_job_cut(struct syn_copy_job *job, bool whole);

/* One task, as syn_job.run. */
int syn_copy_job_task(struct syn_copy_job *job, uint32_t task);

#endif
