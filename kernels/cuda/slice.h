/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices: what one burst works on, and how it gets there.
 *
 * A slice is filled with jobs and the copies that they need, and submitted: the
 * copies go to a stream, the burst to another, which waits for them, so that
 * the copies of the next slice overlap the burst of this one.  Slices take
 * turns at two streams for copies, since a batch of copies takes some time to
 * begin, and at four for bursts: an engine's kernel may leave no room until it
 * ends, and then all that has been copied gets in before the next one.  A slice
 * is done when its burst is and the slice before, so that slices end in the
 * order of their numbers.  A burst reads its jobs where the CPU wrote them, if
 * there is anything else to copy: a copy of them would keep the engine from the
 * next run for longer.
 *
 * What a slice needs, staging, jobs, sums and what is told, lies in a ring of
 * units.  A slice may have an eighth of it, in one piece, and keeps what it has
 * used until it has ended, which only the CPU waits for: some large slices may
 * be under way, or many small ones.
 *
 * Within kernels/cuda; a loader belongs to one thread at a time.
 */
#ifndef SYN_KERNELS_CUDA_SLICE_H
#define SYN_KERNELS_CUDA_SLICE_H

#include "kernels/cuda/gpu-internal.h"
#include "kernels/cuda/job.h"
#include "kernels/cuda/load.h"

#define SYN_GPU_COPIERS	    2u	  /* streams for copies */
#define SYN_GPU_BURSTS	    4u	  /* streams for bursts */
#define SYN_GPU_UNITS	    64u	  /* of the ring; so many slices, at most */
#define SYN_GPU_SLICE_UNITS 8u	  /* that a slice may have */
#define SYN_GPU_TILES	    8192u /* of a slice, at most, and as many jobs */
#define SYN_GPU_UNIT_TILES  (SYN_GPU_TILES / SYN_GPU_SLICE_UNITS)
/* Past the ring, of a slice; what goes there takes units of it, too. */
#define SYN_GPU_PAST_BYTES (32u << 20)
/* Of the first slice of bursts that wait for jobs only; then twice as many. */
#define SYN_GPU_TILES_FIRST 512u
#define SYN_GPU_RECORDS	    8192u /* pages under way; fits job.page */

/*
 * A block takes so many tiles one after the other, each while the next is on
 * its way: more take longer to be done, and fewer have less to overlap.
 */
#define SYN_GPU_STRIP	    8u
#define SYN_GPU_STRIP_BYTES (256u << 10)

/**
 * struct syn_gpu_answer - where to put what is told of some tiles.
 * @first:	number of the first in the slice.
 * @nr:		how many.
 * @raw_sums:	of each; NULL: nowhere, and so on.
 * @stored_sums: see there.
 * @errors:	see there.
 * @status:	becomes -EDOM if a tile is not finite, -EIO if the GPU failed.
 */
struct syn_gpu_answer {
	unsigned int first;
	unsigned int nr;
	uint32_t *raw_sums;
	uint32_t *stored_sums;
	uint16_t *errors;
	int *status;
};

/**
 * struct syn_gpu_copy - bytes that one command copies.
 * @dst:	where they go, one after the other.
 * @src:	where the first are.
 * @rows:	complete rows, @pitch apart at @src.
 * @width:	bytes of each.
 * @pitch:	see there.
 * @last:	bytes that follow in another row, the only one if @rows is 0.
 */
struct syn_gpu_copy {
	CUdeviceptr dst;
	CUdeviceptr src;
	size_t rows;
	size_t width;
	size_t pitch;
	size_t last;
};

/**
 * struct syn_gpu_slice - one that is filled or under way.
 * @copied:	the copies are there.
 * @done:	the burst is, and all slices before.
 * @nr_jobs:	jobs so far.
 * @nr_tiles:	their tiles.
 * @near:	jobs are copied to the GPU first: it is the jobs it waits for.
 * @nr_answers:	answers so far.
 * @staged:	bytes of @staging that are used.
 * @past:	bytes that come another way than through @staging.
 * @end:	units of the ring up to its end, free-running.
 * @jobs:	pinned.
 * @sums:	pinned, that tiles must have.
 * @told:	pinned, written by the burst.
 * @answers:	each for some of the jobs.
 * @jobs_at:	where jobs are copied to ...
 * @sums_at:	... and sums.
 * @staging:	in the ring.
 */
struct syn_gpu_slice {
	CUevent copied;
	CUevent done;
	unsigned int nr_jobs;
	unsigned int nr_tiles;
	bool near;
	unsigned int nr_answers;
	uint64_t staged;
	uint64_t past;
	uint64_t end;
	struct syn_gpu_job *jobs;
	uint32_t *sums;
	struct syn_gpu_told *told;
	struct syn_gpu_answer *answers;
	CUdeviceptr jobs_at;
	CUdeviceptr sums_at;
	CUdeviceptr staging;
};

/**
 * struct syn_gpu_column - tiles of a component in a layer.
 * @kind:	what is done with them.
 * @raw:	bytes of each, canonical.
 * @stored:	bytes of each, stored.
 */
struct syn_gpu_column {
	uint16_t kind;
	uint32_t raw;
	uint32_t stored;
};

/**
 * struct syn_gpu_strip - some heads of a block, all columns of each.
 * @stored:	where they lie one after the other, head by head.
 * @place:	where the first one's first column is, or goes.
 * @steps:	at @place: head, component and token count.
 * @nr_heads:	heads.
 * @columns:	of each.
 * @nr_columns:	how many.
 * @page:	word of the page.
 * @in:		from @place to @stored, else the other way.
 */
struct syn_gpu_strip {
	uint64_t stored;
	uint64_t place;
	const struct syn_gpu_place *steps;
	uint32_t nr_heads;
	const struct syn_gpu_column *columns;
	uint32_t nr_columns;
	uint16_t page;
	bool in;
};

/**
 * struct syn_gpu_record - a page that is under way.
 * @page:	gets its status when ...
 * @slice:	... this one has ended.
 */
struct syn_gpu_record {
	struct syn_gpu_page *page;
	uint64_t slice;
};

/**
 * struct syn_gpu_loader - see load.h.
 * @gpu:	whose.
 * @module:	the kernels.
 * @load:	decodes, spreads, sums.
 * @encode:	encodes.
 * @copies:	streams of the copy engine.
 * @bursts:	streams of the kernels, of the lowest priority.
 * @pinned:	jobs, sums and what is told, of all units, and @failed.
 * @pinned_at:	its address for the GPU.
 * @device:	staging, jobs and sums of all units.
 * @answers:	of all units.
 * @failed:	a word for each record, set by a burst.
 * @slices:	by number.
 * @slice_bytes: of staging that a slice may have.
 * @next:	number of the slice that is filled next, from 1.
 * @ended:	number of the last that has ended.
 * @units_used:	of the ring, up to slice @next; free-running, ...
 * @units_free:	... as is where those begin that are under way.
 * @error:	0, or the GPU failed.
 * @records:	pages, a ring.
 * @rec_head:	oldest.
 * @rec_tail:	next.
 * @nr_copies:	of the slice that is filled.
 * @pieces:	its copies.
 * @dsts:	of a batch, of each copy.
 * @srcs:	of a batch, of each copy.
 * @sizes:	of a batch, of each copy.
 */
struct syn_gpu_loader {
	struct syn_gpu *gpu;
	CUmodule module;
	CUfunction load;
	CUfunction encode;
	CUstream copies[SYN_GPU_COPIERS];
	CUstream bursts[SYN_GPU_BURSTS];
	void *pinned;
	CUdeviceptr pinned_at;
	CUdeviceptr device;
	struct syn_gpu_answer *answers;
	uint32_t *failed;
	struct syn_gpu_slice slices[SYN_GPU_UNITS];
	uint64_t slice_bytes;
	uint64_t next;
	uint64_t ended;
	uint64_t units_used;
	uint64_t units_free;
	int error;
	struct syn_gpu_record records[SYN_GPU_RECORDS];
	uint64_t rec_head;
	uint64_t rec_tail;
	unsigned int nr_copies;
	struct syn_gpu_copy pieces[SYN_GPU_TILES];
	CUdeviceptr dsts[SYN_GPU_TILES];
	CUdeviceptr srcs[SYN_GPU_TILES];
	size_t sizes[SYN_GPU_TILES];
};

/*
 * The columns of a layer.  @codec: of the page; @raw: what a kernel does with
 * tiles that are not encoded.
 */
void syn_gpu_columns_of(const struct syn_layout *layout, uint32_t layer,
			uint32_t codec, uint16_t raw,
			struct syn_gpu_column *ret);
/* Whether kernels, which move 16 bytes at a time, can have tiles there. */
bool syn_gpu_place_can_be(const struct syn_gpu_place *place,
			  const struct syn_layout *layout);

/* All of these: within the GPU's context. */

int syn_gpu_slices_new(struct syn_gpu_loader *loader, uint64_t staging_bytes);
/* Takes what is half made. */
void syn_gpu_slices_free(struct syn_gpu_loader *loader);

/* Slice @loader->next, empty; waits while the ring has no room for one. */
struct syn_gpu_slice *syn_gpu_slice_open(struct syn_gpu_loader *loader);
/*
 * A copy of the slice that is filled.  It may go on where the last ended, also
 * past a gap in @src, such as frames have that are larger than their pages.
 */
void syn_gpu_slice_copy(struct syn_gpu_loader *loader, CUdeviceptr dst,
			CUdeviceptr src, size_t bytes);
/* A job for each column, of the tiles that come next. */
void syn_gpu_slice_strip(struct syn_gpu_slice *slice,
			 const struct syn_gpu_strip *strip);

/* Into the ring: returns where it will be. */
CUdeviceptr syn_gpu_slice_stage(struct syn_gpu_loader *loader,
				struct syn_gpu_slice *slice, CUdeviceptr src,
				size_t bytes);
/*
 * Sends the one that is filled off; @loader->next is the following one.
 * @blocks: at most so many; 0: one for each job.  -EIO: the GPU failed,
 * everything has ended.
 */
int syn_gpu_slice_submit(struct syn_gpu_loader *loader, CUfunction function,
			 unsigned int blocks);

/* Settles the pages of slices that have ended, up to @number. */
void syn_gpu_slices_poll(struct syn_gpu_loader *loader, uint64_t number);
/* Returns when slice @number has ended, and is settled; soon after, that is. */
void syn_gpu_slices_wait(struct syn_gpu_loader *loader, uint64_t number);

/*
 * A record for @page, which ends with the slice that is filled until told
 * otherwise; the caller made sure that there is room.  Returns its word.
 */
static inline uint16_t syn_gpu_record_new(struct syn_gpu_loader *loader,
					  struct syn_gpu_page *page)
{
	uint32_t i = loader->rec_tail++ % SYN_GPU_RECORDS;

	loader->records[i] = (struct syn_gpu_record){ page, loader->next };
	loader->failed[i] = 0;
	return (uint16_t)i;
}

#endif
