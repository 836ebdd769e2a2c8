/* SPDX-License-Identifier: Apache-2.0 */
/* Copies as jobs for workers. */
#include "kernels/copy-job.h"

#include "core/base/base.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"

/* What one task copies, about: enough to hide what handing it out costs. */
#define TASK_BYTES (256u << 10)

/* The layout is of the page that is read. */
static bool encode_is_sane(const struct syn_copy *copy)
{
	const struct syn_layout *l = copy->encode;

	return copy->stored_sums && copy->error &&
	       copy->tile_bytes == syn_tile_raw_bytes(&l->component[0]) &&
	       copy->bytes == syn_layout_tiles(l) * copy->tile_bytes;
}

bool syn_copy_is_sane(const struct syn_copy *copy)
{
	uint64_t written;

	if (!copy->bytes || !copy->tile_bytes ||
	    copy->bytes % copy->tile_bytes ||
	    copy->bytes / copy->tile_bytes > UINT32_MAX ||
	    copy->tile_bytes % sizeof(uint32_t) ||
	    (copy->encode && !encode_is_sane(copy)))
		return false;
	written = copy->encode ? syn_layout_bytes(copy->encode) : copy->bytes;
	return copy->src_off <= copy->src->bytes &&
	       copy->bytes <= copy->src->bytes - copy->src_off &&
	       copy->dst_off <= copy->dst->bytes &&
	       written <= copy->dst->bytes - copy->dst_off;
}

static uint32_t copy_tiles(const struct syn_copy *copy)
{
	return (uint32_t)(copy->bytes / copy->tile_bytes);
}

void syn_copy_job_cut(struct syn_copy_job *job, bool whole)
{
	uint32_t tiles = copy_tiles(&job->copy);
	uint64_t tasks = whole ? 1 : job->copy.bytes / TASK_BYTES;

	tasks = syn_min(tasks, (uint64_t)tiles);
	tasks = syn_max(tasks, (uint64_t)1);
	job->task_tiles = (uint32_t)syn_div_up(tiles, tasks);
	job->job.nr_tasks = (uint32_t)syn_div_up(tiles, job->task_tiles);
}

/* Tiles [@first, @first + @nr) are copied, or only summed. */
static void job_copy(struct syn_copy_job *job, uint32_t first, uint32_t nr)
{
	const struct syn_copy *copy = &job->copy;
	uint64_t at = first * copy->tile_bytes;

	if (job->dst)
		syn_sum_copy(job->dst + at, job->src + at,
			     nr * copy->tile_bytes, copy->tile_bytes,
			     copy->sums + first);
	else
		syn_sum_tiles(job->src + at, nr * copy->tile_bytes,
			      copy->tile_bytes, copy->sums + first);
}

int syn_copy_job_task(struct syn_copy_job *job, uint32_t task)
{
	const struct syn_copy *copy = &job->copy;
	uint32_t first = task * job->task_tiles;
	uint32_t nr = syn_min(job->task_tiles, copy_tiles(copy) - first);

	if (copy->encode)
		return syn_page_encode(job->dst, job->src, copy->encode, first,
				       nr, copy->sums, copy->stored_sums,
				       copy->error);
	job_copy(job, first, nr);
	return 0;
}
