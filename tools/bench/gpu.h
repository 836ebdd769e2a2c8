/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the GPU benchmarks stand on: a rig, which is a GPU with two streams and
 * pinned memory, regions of extents, and a stock of stored pages in them.
 *
 * The thread that opened a rig is in the GPU's context until it closes it;
 * another one enters by syn_gpu_enter().  Functions return 0 or -errno, and say
 * nothing: the benchmark does.
 */
#ifndef SYN_TOOLS_BENCH_GPU_H
#define SYN_TOOLS_BENCH_GPU_H

#include "kernels/cuda/gpu-internal.h"
#include "kernels/cuda/load.h"
#include "tools/bench/bench.h"

#define SYN_GIB		     (1ull << 30)
#define SYN_RIG_PINNED_BYTES SYN_GIB
#define SYN_HOST_EXTENT	     (256ull << 20)
#define SYN_HBM_EXTENT	     (64ull << 20)

/**
 * struct syn_rig - a GPU to measure on.
 * @gpu:	the GPU.
 * @api:	its driver.
 * @scope:	of the opening thread.
 * @module:	kernels of this program.
 * @fill:	writes random elements.
 * @gather:	pulls pages from host memory.
 * @engine:	the stream of an engine, and of most baselines.
 * @other:	a second one, for the other direction.
 * @pinned:	memory as cudaHostAlloc() gives it, SYN_RIG_PINNED_BYTES.
 * @plain:	HBM as cudaMalloc() gives it, twice as much; random elements.
 * @cpu:	where the benchmark was bound.
 */
struct syn_rig {
	struct syn_gpu *gpu;
	const struct syn_cuda_api *api;
	struct syn_gpu_scope scope;
	CUmodule module;
	CUfunction fill;
	CUfunction gather;
	CUstream engine;
	CUstream other;
	unsigned char *pinned;
	CUdeviceptr plain;
	int cpu;
};

/*
 * -ENODEV: no GPU that can be used: said on stderr, the benchmark is left out.
 * The calling thread runs on any CPU until the rig is closed.
 */
int syn_rig_open(const struct syn_bench *bench, struct syn_rig *ret);
void syn_rig_close(struct syn_rig *rig);

/* -EIO: not CUDA_SUCCESS. */
int syn_rig_check(const struct syn_rig *rig, CUresult result, const char *what);
/* Random elements near a normal distribution, fp16 or bf16.  Waits. */
int syn_rig_fill(const struct syn_rig *rig, CUdeviceptr at, uint64_t bytes,
		 bool bf16, uint32_t seed);
int syn_rig_copy(const struct syn_rig *rig, CUstream stream, uint64_t dst,
		 uint64_t src, uint64_t bytes);
int syn_rig_wait(const struct syn_rig *rig, CUstream stream);

/*
 * The baseline of every ratio: one copy of all pinned memory into HBM.  GB/s.
 */
int syn_rig_copy_large(const struct syn_rig *rig, double *ret_rate);
/* Large copies to the GPU, to the host, or both at once; sum of both, GB/s. */
int syn_rig_copy_ways(const struct syn_rig *rig, bool to_gpu, bool to_host,
		      double *ret_rate);
/* Copies from HBM to HBM.  GB/s, read and written. */
int syn_rig_copy_device(const struct syn_rig *rig, double *ret_rate);

/**
 * struct syn_region - neighbouring extents.
 * @rig:	where.
 * @at:		first address.
 * @bytes:	addresses reserved.
 * @extent:	bytes of each.
 * @nr:		extents.
 * @mem:	each.
 */
struct syn_region {
	struct syn_rig *rig;
	uint64_t at;
	uint64_t bytes;
	uint64_t extent;
	uint32_t nr;
	struct syn_gpu_mem *mem;
};

/* Made, mapped; what it holds is undefined. */
int syn_region_open(struct syn_rig *rig, uint32_t tier, uint64_t extent,
		    uint32_t nr, struct syn_region *ret);
void syn_region_close(struct syn_region *region);

/*
 * Pages of the stock are made of pairs: a tile of keys and one of values, 128
 * tokens of 128 channels, fp16.  Any number of pairs that is a power of two is
 * a page: what is stored of a pair does not depend on its page.
 */
#define SYN_PAIR_BYTES 65536u /* canonical */
#define SYN_PAIR_TILES 2u
#define SYN_TILE_BYTES (SYN_PAIR_BYTES / SYN_PAIR_TILES)
#define SYN_STOCK_PAIRS                                                        \
	4096u /* that differ: 256 MiB; the same in each extent */

/**
 * struct syn_stock - host extents full of stored pages.
 * @host:	the extents.
 * @codec:	SYN_CODEC_*.
 * @pair_bytes:	stored bytes of a pair.
 * @per_extent:	pairs in an extent.
 * @elements:	canonical bytes of the pairs.
 * @sums:	of the stored tiles of the pairs.
 */
struct syn_stock {
	struct syn_region host;
	uint32_t codec;
	uint32_t pair_bytes;
	uint32_t per_extent;
	unsigned char *elements;
	uint32_t *sums;
};

int syn_stock_open(struct syn_rig *rig, uint32_t codec, uint32_t nr_extents,
		   struct syn_stock *ret);
void syn_stock_close(struct syn_stock *stock);
/* How many pages of so many pairs it has. */
uint32_t syn_stock_pages(const struct syn_stock *stock, uint32_t pairs);
/* Page @i of them; place and layout are the caller's. */
void syn_stock_page(const struct syn_stock *stock, uint32_t pairs, uint32_t i,
		    struct syn_gpu_page *ret);
/* The canonical bytes of that page. */
const unsigned char *syn_stock_elements(const struct syn_stock *stock,
					uint32_t pairs, uint32_t i);
/* @ret is for pages of so many pairs, at most 32. */
void syn_stock_layout(uint32_t pairs, struct syn_layout *ret);

/**
 * struct syn_blas - cuBLAS, loaded.
 * @dl:		the library.
 * @handle:	of the engine's stream.
 * @gemm:	cublasGemmEx.
 * @destroy:	cublasDestroy_v2.
 */
struct syn_blas {
	void *dl;
	void *handle;
	int (*gemm)(void *handle, int op_a, int op_b, int m, int n, int k,
		    const void *alpha, const void *a, int a_type, int lda,
		    const void *b, int b_type, int ldb, const void *beta,
		    void *c, int c_type, int ldc, int compute, int algorithm);
	int (*destroy)(void *handle);
};

/* -ENOENT: there is none. */
int syn_blas_open(const struct syn_rig *rig, struct syn_blas *ret);
void syn_blas_close(struct syn_blas *blas);
/* c = a b on the engine's stream; bf16, row after row, float inside. */
int syn_blas_gemm(const struct syn_blas *blas, int m, int n, int k,
		  CUdeviceptr a, CUdeviceptr b, CUdeviceptr c);

#endif
