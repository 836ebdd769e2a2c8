/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the driver that make a thread wait for the GPU, or may, seen from
 * within: the process's table of entry points leads through here.
 */
#ifndef SYN_TEST_GPU_WATCH_H
#define SYN_TEST_GPU_WATCH_H

#include "core/base/base.h"
#include "kernels/cuda/api.h"

/**
 * struct watch - what was called since the last look.
 * @real:	the driver.
 * @waits:	calls that return when work is done; memory that comes and goes
 *		is counted, as it may wait for all of it.
 * @looks:	questions whether work is done, before anything was waited for,
 *		and any that was answered by no: who asks on and on waits, too,
 *		and the library knows of no other way to learn that a copy is
 *		done.
 * @copies:	copies that were given, to see that there is something to wait
 *		for.
 * @last:	the last call was a wait.
 */
static struct watch {
	struct syn_cuda_api real;
	unsigned int waits;
	unsigned int looks;
	unsigned int copies;
	bool last;
} watch;

static CUresult watch_wait(CUresult result)
{
	watch.waits++;
	watch.last = true;
	return result;
}

static CUresult watch_event(CUevent event)
{
	return watch_wait(watch.real.cuEventSynchronize(event));
}

static CUresult watch_stream(CUstream stream)
{
	return watch_wait(watch.real.cuStreamSynchronize(stream));
}

static CUresult watch_look(CUevent event)
{
	CUresult result = watch.real.cuEventQuery(event);

	watch.looks += !watch.waits || result == CUDA_ERROR_NOT_READY;
	return result;
}

static CUresult watch_alloc(CUdeviceptr *ret, size_t bytes)
{
	return watch_wait(watch.real.cuMemAlloc_v2(ret, bytes));
}

static CUresult watch_free(CUdeviceptr at)
{
	return watch_wait(watch.real.cuMemFree_v2(at));
}

static CUresult watch_host_alloc(void **ret, size_t bytes, unsigned int flags)
{
	return watch_wait(watch.real.cuMemHostAlloc(ret, bytes, flags));
}

static CUresult watch_copy(CUdeviceptr dst, CUdeviceptr src, size_t bytes,
			   CUstream stream)
{
	watch.copies++;
	watch.last = false;
	return watch.real.cuMemcpyAsync(dst, src, bytes, stream);
}

/* From now on.  The driver is loaded. */
static void watch_begin(const struct syn_cuda_api *api)
{
	/* Of the library, in this program: not a constant there. */
	struct syn_cuda_api *table = (struct syn_cuda_api *)(uintptr_t)api;

	if (watch.real.dl)
		return;
	watch.real = *api;
	table->cuEventSynchronize = watch_event;
	table->cuStreamSynchronize = watch_stream;
	table->cuEventQuery = watch_look;
	table->cuMemAlloc_v2 = watch_alloc;
	table->cuMemFree_v2 = watch_free;
	table->cuMemHostAlloc = watch_host_alloc;
	table->cuMemcpyAsync = watch_copy;
}

/* What was called before does not count. */
static void watch_anew(void)
{
	watch.waits = 0;
	watch.looks = 0;
	watch.copies = 0;
	watch.last = false;
}

/* One wait, behind all that was given, is all there was. */
static bool watch_saw_one_wait(void)
{
	return watch.waits == 1 && !watch.looks && watch.copies && watch.last;
}

#endif
