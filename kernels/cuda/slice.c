/* SPDX-License-Identifier: Apache-2.0 */
/* Slices: their memory, streams and events; what is sent off, what has ended. */
#include "kernels/cuda/slice.h"

#include <errno.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"

/*
 * Who waits for the last of some slices is woken late if it sleeps, so it looks
 * all the time while no more than these are ahead, but not for longer.
 */
#define SPIN_SLICES 2u
#define SPIN_NS	    1000000u

/* Rows further apart than this are copies of their own. */
#define GAP_BYTES (64u << 10)

/* Fewer rows than this are better off in a batch. */
#define ROWS_MIN 4u

/* The kernels, see kernels.cu. */
extern const uint64_t syn_gpu_image[];

/* ---- making and unmaking ------------------------------------------------ */

static int kernels_load(struct syn_gpu_loader *l)
{
	const struct syn_cuda_api *api = l->gpu->api;
	CUresult result;

	if (syn_fault())
		return -ENOMEM;
	result = api->cuModuleLoadData(&l->module, syn_gpu_image);
	if (!result)
		result = api->cuModuleGetFunction(&l->load, l->module,
						  "syn_gpu_load");
	if (!result)
		result = api->cuModuleGetFunction(&l->encode, l->module,
						  "syn_gpu_encode");
	return syn_cuda_errno(api, result, "loading the kernels");
}

static int streams_new(struct syn_gpu_loader *l)
{
	const struct syn_cuda_api *api = l->gpu->api;
	int least = 0, greatest = 0;
	CUresult result;

	if (syn_fault())
		return -ENOMEM;
	result = api->cuCtxGetStreamPriorityRange(&least, &greatest);
	for (unsigned int i = 0; i < SYN_GPU_COPIERS && !result; i++)
		result = api->cuStreamCreateWithPriority(
			&l->copies[i], CU_STREAM_NON_BLOCKING, least);
	for (unsigned int i = 0; i < SYN_GPU_BURSTS && !result; i++)
		result = api->cuStreamCreateWithPriority(
			&l->bursts[i], CU_STREAM_NON_BLOCKING, least);
	return syn_cuda_errno(api, result, "cuStreamCreateWithPriority");
}

static int events_new(struct syn_gpu_loader *l)
{
	const unsigned int flags =
		CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC;
	const struct syn_cuda_api *api = l->gpu->api;
	CUresult result = CUDA_SUCCESS;

	for (unsigned int i = 0; i < SYN_GPU_UNITS && !result; i++) {
		if (syn_fault())
			return -ENOMEM;
		result = api->cuEventCreate(&l->slices[i].copied, flags);
		if (!result)
			result = api->cuEventCreate(&l->slices[i].done, flags);
	}
	return syn_cuda_errno(api, result, "cuEventCreate");
}

/* Of all units: one array after the other, of what is told only pinned. */
#define TILES	   (SYN_GPU_UNITS * SYN_GPU_UNIT_TILES)
#define JOBS_BYTES (TILES * sizeof(struct syn_gpu_job))
#define SUMS_BYTES (TILES * sizeof(uint32_t))
#define TOLD_BYTES (TILES * sizeof(struct syn_gpu_told))

static uint64_t unit_bytes(const struct syn_gpu_loader *l)
{
	return l->slice_bytes / SYN_GPU_SLICE_UNITS;
}

static int memory_new(struct syn_gpu_loader *l)
{
	const uint64_t failed = SYN_GPU_RECORDS * sizeof(uint32_t);
	const uint64_t staging = SYN_GPU_UNITS * unit_bytes(l);
	const struct syn_cuda_api *api = l->gpu->api;
	CUresult result;

	l->answers = syn_alloc(TILES, sizeof(*l->answers));
	if (!l->answers || syn_fault())
		return -ENOMEM;
	result = api->cuMemHostAlloc(
		&l->pinned, JOBS_BYTES + SUMS_BYTES + TOLD_BYTES + failed,
		CU_MEMHOSTALLOC_DEVICEMAP);
	if (result)
		return syn_cuda_errno(api, result, "cuMemHostAlloc");
	if (syn_fault())
		return -ENOMEM;
	result = api->cuMemAlloc_v2(&l->device,
				    staging + JOBS_BYTES + SUMS_BYTES);
	if (!result)
		result = api->cuMemHostGetDevicePointer_v2(&l->pinned_at,
							   l->pinned, 0);
	l->failed = (void *)((char *)l->pinned + JOBS_BYTES + SUMS_BYTES +
			     TOLD_BYTES);
	return syn_cuda_errno(api, result, "cuMemAlloc");
}

/* What @slice has of the ring begins with unit @at. */
static void slice_place(struct syn_gpu_loader *l, struct syn_gpu_slice *slice,
			uint64_t at)
{
	const uint64_t unit = at % SYN_GPU_UNITS;
	const uint64_t tile = unit * SYN_GPU_UNIT_TILES;
	char *pinned = l->pinned;

	slice->jobs = (struct syn_gpu_job *)(void *)pinned + tile;
	pinned += JOBS_BYTES;
	slice->sums = (uint32_t *)(void *)pinned + tile;
	pinned += SUMS_BYTES;
	slice->told = (struct syn_gpu_told *)(void *)pinned + tile;
	slice->answers = l->answers + tile;
	slice->staging = l->device + unit * unit_bytes(l);
	slice->jobs_at = l->device + SYN_GPU_UNITS * unit_bytes(l) +
			 tile * sizeof(*slice->jobs);
	slice->sums_at = l->device + SYN_GPU_UNITS * unit_bytes(l) +
			 JOBS_BYTES + tile * sizeof(*slice->sums);
	slice->end = at;
}

static CUdeviceptr pinned_at(const struct syn_gpu_loader *l, const void *at)
{
	return l->pinned_at + (uintptr_t)at - (uintptr_t)l->pinned;
}

/* Without jobs the blocks end at once. */
static CUresult kernel_launch(struct syn_gpu_loader *l,
			      struct syn_gpu_slice *slice, CUfunction function,
			      unsigned int blocks, CUstream stream)
{
	CUdeviceptr jobs =
		slice->near ? slice->jobs_at : pinned_at(l, slice->jobs);
	CUdeviceptr sums =
		slice->near ? slice->sums_at : pinned_at(l, slice->sums);
	struct syn_gpu_report report = {
		.sums = (void *)(uintptr_t)sums,
		.failed = (void *)(uintptr_t)pinned_at(l, l->failed),
		.told = (void *)(uintptr_t)pinned_at(l, slice->told),
	};
	void *args[] = { &jobs, &slice->nr_jobs, &report };

	return l->gpu->api->cuLaunchKernel(function, blocks, 1, 1,
					   SYN_GPU_THREADS, 1, 1, 0, stream,
					   args, NULL);
}

/* Kernels may be loaded lazily: not while an engine captures a graph. */
static int kernels_warm(struct syn_gpu_loader *l)
{
	struct syn_gpu_slice *slice = syn_gpu_slice_open(l);
	CUstream stream = l->bursts[0];
	CUresult result;

	if (syn_fault())
		return -EIO;
	result = kernel_launch(l, slice, l->load, 1, stream);
	if (!result)
		result = kernel_launch(l, slice, l->encode, 1, stream);
	if (!result)
		result = l->gpu->api->cuStreamSynchronize(stream);
	return syn_cuda_errno(l->gpu->api, result, "the first burst");
}

int syn_gpu_slices_new(struct syn_gpu_loader *l, uint64_t staging_bytes)
{
	int r;

	l->slice_bytes = (staging_bytes / SYN_GPU_UNITS & ~(uint64_t)4095) *
			 SYN_GPU_SLICE_UNITS;
	l->next = 1;
	r = kernels_load(l);
	if (!r)
		r = streams_new(l);
	if (!r)
		r = events_new(l);
	if (!r)
		r = memory_new(l);
	if (!r)
		r = kernels_warm(l);
	return r;
}

void syn_gpu_slices_free(struct syn_gpu_loader *l)
{
	const struct syn_cuda_api *api = l->gpu->api;

	for (unsigned int i = 0; i < SYN_GPU_UNITS; i++) {
		struct syn_gpu_slice *slice = &l->slices[i];

		if (slice->copied)
			(void)api->cuEventDestroy_v2(slice->copied);
		if (slice->done)
			(void)api->cuEventDestroy_v2(slice->done);
	}
	free(l->answers);
	if (l->device)
		(void)api->cuMemFree_v2(l->device);
	if (l->pinned)
		(void)api->cuMemFreeHost(l->pinned);
	for (unsigned int i = 0; i < SYN_GPU_COPIERS; i++)
		if (l->copies[i])
			(void)api->cuStreamDestroy_v2(l->copies[i]);
	for (unsigned int i = 0; i < SYN_GPU_BURSTS; i++)
		if (l->bursts[i])
			(void)api->cuStreamDestroy_v2(l->bursts[i]);
	if (l->module)
		(void)api->cuModuleUnload(l->module);
}

/* ---- filling ------------------------------------------------------------ */

/* Where the next slice begins: as many units as it may have are in one piece. */
static uint64_t ring_next(const struct syn_gpu_loader *l)
{
	if (l->units_used % SYN_GPU_UNITS > SYN_GPU_UNITS - SYN_GPU_SLICE_UNITS)
		return syn_align_up(l->units_used, SYN_GPU_UNITS);
	return l->units_used;
}

/* Each slice has a unit, so that this is what limits their number, too. */
struct syn_gpu_slice *syn_gpu_slice_open(struct syn_gpu_loader *l)
{
	struct syn_gpu_slice *slice = &l->slices[l->next % SYN_GPU_UNITS];
	uint64_t at = ring_next(l);

	while (at + SYN_GPU_SLICE_UNITS - l->units_free > SYN_GPU_UNITS)
		syn_gpu_slices_wait(l, l->ended + 1);
	slice_place(l, slice, at);
	slice->nr_jobs = 0;
	slice->nr_tiles = 0;
	slice->near = false;
	slice->nr_answers = 0;
	slice->staged = 0;
	slice->past = 0;
	l->nr_copies = 0;
	return slice;
}

/*
 * No more is put in: what it does not use is the next one's.  Bytes that go past
 * the ring count, too: what is under way beyond the link's needs slows it down.
 */
static void slice_close(struct syn_gpu_loader *l, struct syn_gpu_slice *slice)
{
	uint64_t units =
		syn_max(syn_div_up(slice->staged, unit_bytes(l)),
			syn_div_up(slice->nr_tiles, SYN_GPU_UNIT_TILES));
	uint64_t past = syn_div_up(slice->past,
				   SYN_GPU_PAST_BYTES / SYN_GPU_SLICE_UNITS);

	past = syn_min(past, (uint64_t)SYN_GPU_SLICE_UNITS);
	units = syn_max(units, past);
	slice->end += syn_max(units, (uint64_t)1);
	l->units_used = slice->end;
}

/* Whether @bytes at @src become a part of @copy, which ends where they go. */
static bool copy_goes_on(struct syn_gpu_copy *copy, CUdeviceptr src,
			 size_t bytes)
{
	CUdeviceptr row = copy->src + copy->rows * copy->pitch;
	CUdeviceptr end = row + copy->last;

	if (src == end) {
		copy->last += bytes;
		return true;
	}
	if (src < end || src - end > GAP_BYTES)
		return false;
	if (!copy->rows) {
		copy->width = copy->last;
		copy->pitch = src - row;
	} else if (copy->last != copy->width || src - row != copy->pitch) {
		return false;
	}
	copy->rows++;
	copy->last = bytes;
	return true;
}

void syn_gpu_slice_copy(struct syn_gpu_loader *l, CUdeviceptr dst,
			CUdeviceptr src, size_t bytes)
{
	struct syn_gpu_copy *last =
		l->nr_copies ? &l->pieces[l->nr_copies - 1] : NULL;

	if (last && dst == last->dst + last->rows * last->width + last->last &&
	    copy_goes_on(last, src, bytes))
		return;
	l->pieces[l->nr_copies++] = (struct syn_gpu_copy){
		.dst = dst,
		.src = src,
		.last = bytes,
	};
}

CUdeviceptr syn_gpu_slice_stage(struct syn_gpu_loader *l,
				struct syn_gpu_slice *slice, CUdeviceptr src,
				size_t bytes)
{
	CUdeviceptr at = slice->staging + slice->staged;

	syn_gpu_slice_copy(l, at, src, bytes);
	slice->staged += bytes;
	return at;
}

static struct syn_gpu_job column_job(const struct syn_gpu_strip *strip,
				     uint32_t column, uint64_t stored,
				     uint64_t stored_step)
{
	const struct syn_gpu_column *c = &strip->columns[column];
	const struct syn_gpu_place *steps = strip->steps;
	uint64_t place = strip->place + column * steps->component;

	return (struct syn_gpu_job){
		.src = strip->in ? place : stored,
		.dst = strip->in ? stored : place,
		.src_step = strip->in ? steps->head : stored_step,
		.dst_step = strip->in ? stored_step : steps->head,
		.bytes = c->raw,
		.token = (uint32_t)steps->token,
		.nr = strip->nr_heads,
		.tile_step = strip->nr_columns,
		.page = strip->page,
		.kind = c->kind,
	};
}

void syn_gpu_slice_strip(struct syn_gpu_slice *slice,
			 const struct syn_gpu_strip *strip)
{
	uint64_t stored = strip->stored, step = 0;

	for (uint32_t i = 0; i < strip->nr_columns; i++)
		step += strip->columns[i].stored;
	for (uint32_t i = 0; i < strip->nr_columns; i++) {
		struct syn_gpu_job *job = &slice->jobs[slice->nr_jobs++];

		*job = column_job(strip, i, stored, step);
		job->tile = slice->nr_tiles + i;
		stored += strip->columns[i].stored;
	}
	slice->nr_tiles += strip->nr_columns * strip->nr_heads;
}

/* ---- sending off -------------------------------------------------------- */

static CUresult rows_enqueue(struct syn_gpu_loader *l,
			     const struct syn_gpu_copy *copy, CUstream stream)
{
	const CUDA_MEMCPY2D rows = {
		.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
		.srcDevice = copy->src,
		.srcPitch = copy->pitch,
		.dstMemoryType = CU_MEMORYTYPE_UNIFIED,
		.dstDevice = copy->dst,
		.dstPitch = copy->width,
		.WidthInBytes = copy->width,
		.Height = copy->rows,
	};

	return l->gpu->api->cuMemcpy2DAsync_v2(&rows, stream);
}

/* In a batch they may overtake each other, and cost less each. */
static CUresult runs_enqueue(struct syn_gpu_loader *l, unsigned int nr,
			     CUstream stream)
{
	CUmemcpyAttributes attributes = {
		.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
		.flags = CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE,
	};
	const struct syn_cuda_api *api = l->gpu->api;
	CUresult result = CUDA_SUCCESS;
	size_t first = 0;

	if (api->batch && nr > 1)
		return api->batch(l->dsts, l->srcs, l->sizes, nr, &attributes,
				  &first, 1, stream);
	for (unsigned int i = 0; i < nr && !result; i++)
		result = api->cuMemcpyAsync(l->dsts[i], l->srcs[i], l->sizes[i],
					    stream);
	return result;
}

/* Adds @nr rows from @first on to the batch of @nr_runs. */
static unsigned int rows_to_runs(struct syn_gpu_loader *l,
				 const struct syn_gpu_copy *copy, size_t first,
				 size_t nr, size_t bytes, unsigned int nr_runs)
{
	for (size_t i = first; i < first + nr; i++) {
		l->dsts[nr_runs] = copy->dst + i * copy->width;
		l->srcs[nr_runs] = copy->src + i * copy->pitch;
		l->sizes[nr_runs++] = bytes;
	}
	return nr_runs;
}

static CUresult copies_enqueue(struct syn_gpu_loader *l, CUstream stream)
{
	CUresult result = CUDA_SUCCESS;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < l->nr_copies && !result; i++) {
		struct syn_gpu_copy *copy = &l->pieces[i];

		if (copy->rows && copy->last == copy->width) {
			copy->rows++;
			copy->last = 0;
		}
		if (copy->rows >= ROWS_MIN)
			result = rows_enqueue(l, copy, stream);
		else
			nr = rows_to_runs(l, copy, 0, copy->rows, copy->width,
					  nr);
		if (copy->last)
			nr = rows_to_runs(l, copy, copy->rows, 1, copy->last,
					  nr);
	}
	return result ? result : runs_enqueue(l, nr, stream);
}

/* What the burst needs, and @stream waits until it is there. */
static CUresult slice_bring(struct syn_gpu_loader *l,
			    struct syn_gpu_slice *slice, CUstream copies,
			    CUstream stream)
{
	const struct syn_cuda_api *api = l->gpu->api;
	CUresult result;

	if (slice->near) {
		syn_gpu_slice_copy(l, slice->jobs_at, (uintptr_t)slice->jobs,
				   slice->nr_jobs * sizeof(*slice->jobs));
		syn_gpu_slice_copy(l, slice->sums_at, (uintptr_t)slice->sums,
				   slice->nr_tiles * sizeof(*slice->sums));
	}
	if (!l->nr_copies)
		return CUDA_SUCCESS;
	result = copies_enqueue(l, copies);
	if (!result)
		result = api->cuEventRecord(slice->copied, copies);
	if (!result)
		result = api->cuStreamWaitEvent(stream, slice->copied, 0);
	return result;
}

/* Of slice @number. */
static CUresult slice_enqueue(struct syn_gpu_loader *l, uint64_t number,
			      CUfunction function, unsigned int blocks)
{
	struct syn_gpu_slice *slice = &l->slices[number % SYN_GPU_UNITS];
	CUevent before = l->slices[(number - 1) % SYN_GPU_UNITS].done;
	CUstream stream = l->bursts[number % SYN_GPU_BURSTS];
	const struct syn_cuda_api *api = l->gpu->api;
	CUresult result = slice_bring(
		l, slice, l->copies[number % SYN_GPU_COPIERS], stream);

	if (!blocks || blocks > slice->nr_jobs)
		blocks = slice->nr_jobs;
	if (!result && blocks)
		result = kernel_launch(l, slice, function, blocks, stream);
	if (!result && l->ended + 1 < number)
		result = api->cuStreamWaitEvent(stream, before, 0);
	if (!result)
		result = api->cuEventRecord(slice->done, stream);
	return result;
}

/* ---- what has ended ----------------------------------------------------- */

static void answer_one(const struct syn_gpu_answer *answer, unsigned int i,
		       const struct syn_gpu_told *told)
{
	if (answer->raw_sums)
		answer->raw_sums[i] = told->raw_sum;
	if (answer->stored_sums)
		answer->stored_sums[i] = told->stored_sum;
	if (!answer->errors)
		return;
	answer->errors[i] = (uint16_t)told->error;
	if (told->error == SYN_GPU_NOT_FINITE)
		*answer->status = -EDOM;
}

static void answer(const struct syn_gpu_slice *slice,
		   const struct syn_gpu_answer *answer, int error)
{
	if (error)
		*answer->status = error;
	for (unsigned int i = 0; i < answer->nr && !error; i++)
		answer_one(answer, i, &slice->told[answer->first + i]);
}

/* Slice @number has ended: tells what it answered, and the pages' statuses. */
static void settle(struct syn_gpu_loader *l, uint64_t number)
{
	struct syn_gpu_slice *slice = &l->slices[number % SYN_GPU_UNITS];

	for (unsigned int i = 0; i < slice->nr_answers; i++)
		answer(slice, &slice->answers[i], l->error);
	l->ended = number;
	l->units_free = slice->end;
	while (l->rec_head != l->rec_tail) {
		uint32_t i = l->rec_head % SYN_GPU_RECORDS;

		if (l->records[i].slice > number)
			return;
		l->records[i].page->status = l->error	    ? l->error
					     : l->failed[i] ? -EILSEQ
							    : 0;
		l->rec_head++;
	}
}

/* Nothing that was begun will end well; nothing of it goes on, either. */
static void give_up(struct syn_gpu_loader *l)
{
	const struct syn_cuda_api *api = l->gpu->api;

	for (unsigned int i = 0; i < SYN_GPU_COPIERS; i++)
		(void)api->cuStreamSynchronize(l->copies[i]);
	for (unsigned int i = 0; i < SYN_GPU_BURSTS; i++)
		(void)api->cuStreamSynchronize(l->bursts[i]);
	l->error = -EIO;
	while (l->ended + 1 < l->next)
		settle(l, l->ended + 1);
}

int syn_gpu_slice_submit(struct syn_gpu_loader *l, CUfunction function,
			 unsigned int blocks)
{
	uint64_t number = l->next++;
	CUresult result = CUDA_SUCCESS;

	slice_close(l, &l->slices[number % SYN_GPU_UNITS]);
	if (!l->error && syn_fault())
		result = CUDA_ERROR_UNKNOWN;
	else if (!l->error)
		result = slice_enqueue(l, number, function, blocks);
	(void)syn_cuda_errno(l->gpu->api, result, "a slice");
	if (result || l->error)
		give_up(l);
	return l->error;
}

void syn_gpu_slices_poll(struct syn_gpu_loader *l, uint64_t number)
{
	const struct syn_cuda_api *api = l->gpu->api;

	while (l->ended < number && l->ended + 1 < l->next) {
		uint64_t next = l->ended + 1;
		CUresult result =
			api->cuEventQuery(l->slices[next % SYN_GPU_UNITS].done);

		if (result == CUDA_ERROR_NOT_READY)
			return;
		if (result) {
			give_up(l);
			return;
		}
		settle(l, next);
	}
}

void syn_gpu_slices_wait(struct syn_gpu_loader *l, uint64_t number)
{
	const struct syn_cuda_api *api = l->gpu->api;
	uint64_t until_ns = 0;

	for (;;) {
		uint64_t next;

		syn_gpu_slices_poll(l, number);
		if (l->ended >= number || l->ended + 1 >= l->next)
			return;
		next = l->ended + 1;
		if (number - l->ended > SPIN_SLICES) {
			next = number - SPIN_SLICES;
		} else if (number + 1 == l->next) {
			if (!until_ns)
				until_ns = syn_now_ns() + SPIN_NS;
			if (syn_now_ns() < until_ns) {
				syn_cpu_relax();
				continue;
			}
		}
		(void)api->cuEventSynchronize(
			l->slices[next % SYN_GPU_UNITS].done);
	}
}
