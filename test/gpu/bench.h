/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU with some memory of each tier, and random numbers. */
#ifndef SYN_TEST_GPU_BENCH_H
#define SYN_TEST_GPU_BENCH_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <synapse/codec.h>

#include "core/base/base.h"
#include "kernels/cuda/gpu-internal.h"
#include "kernels/cuda/load.h"
#include "test/gpu/driver.h"
#include "test/test.h"

/**
 * struct bench - what every test of this folder has.
 * @gpu:	the first one.
 * @scope:	the thread is in its context.
 * @stream:	of the test.
 * @hbm:	mapped.
 * @host:	mapped, for the CPU at the same address.
 */
struct bench {
	struct syn_gpu *gpu;
	struct syn_gpu_scope scope;
	CUstream stream;
	struct syn_gpu_mem hbm;
	struct syn_gpu_mem host;
};

static struct bench bench;

static inline void bench_open(uint64_t hbm_bytes, uint64_t host_bytes)
{
	int r = driver_take() ? syn_gpu_open(&bench.gpu, NULL) : -EPROTO;
	int node;

	if (r == -ENODEV || r == -ENOSYS) {
		(void)printf("no GPU here: %s\n", strerror(-r));
		exit(TEST_SKIP);
	}
	if (r)
		exit(1);
	node = syn_gpu_info(bench.gpu)->node;
	if (syn_gpu_mem_new(bench.gpu, SYN_TIER_HBM, 0, hbm_bytes,
			    &bench.hbm) ||
	    syn_gpu_mem_map(bench.gpu, &bench.hbm, 0) ||
	    syn_gpu_mem_new(bench.gpu, SYN_TIER_HOST, node >= 0 ? node : 0,
			    host_bytes, &bench.host) ||
	    syn_gpu_mem_map(bench.gpu, &bench.host, 0) ||
	    syn_gpu_enter(bench.gpu, &bench.scope) ||
	    bench.gpu->api->cuStreamCreateWithPriority(
		    &bench.stream, CU_STREAM_NON_BLOCKING, 0))
		exit(1);
}

static inline void bench_close(void)
{
	(void)bench.gpu->api->cuStreamDestroy_v2(bench.stream);
	syn_gpu_leave(&bench.scope);
	syn_gpu_mem_free(bench.gpu, &bench.hbm);
	syn_gpu_mem_free(bench.gpu, &bench.host);
	syn_gpu_close(bench.gpu);
}

/* From one device address to another; host memory has the CPU's. */
static inline void bench_copy(uint64_t dst, uint64_t src, uint64_t bytes)
{
	const struct syn_cuda_api *api = bench.gpu->api;

	assert_int_equal(api->cuMemcpyAsync(dst, src, bytes, bench.stream), 0);
	assert_int_equal(api->cuStreamSynchronize(bench.stream), 0);
}

static inline void bench_poison(uint64_t at, uint64_t bytes)
{
	const struct syn_cuda_api *api = bench.gpu->api;

	assert_int_equal(
		api->cuMemsetD32Async(at, 0xa5a5a5a5u, bytes / 4, bench.stream),
		0);
	assert_int_equal(api->cuStreamSynchronize(bench.stream), 0);
}

static inline void *bench_host(uint64_t offset)
{
	return (void *)(uintptr_t)(bench.host.at + offset);
}

static uint64_t seed = 88172645463325252u;

static inline uint32_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

/* Roughly normal, of unit variance, for little. */
static inline float next_normal(void)
{
	uint32_t a = next_random(), b = next_random();

	return ((float)(a & 0xffff) + (float)(a >> 16) + (float)(b & 0xffff) +
		(float)(b >> 16) - 2 * 65535.0f) /
	       37837.0f;
}

#endif
