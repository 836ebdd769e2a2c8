/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU benchmarks of a build without CUDA: they are left out. */
#include <stdio.h>

#include "tools/bench/bench.h"

static int left_out(void)
{
	(void)fputs("left out: this build has no CUDA\n", stderr);
	return 0;
}

int syn_bench_gpu_mem(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_copy(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_move(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_fault(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_load(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_codec(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_attend(struct syn_bench *bench)
{
	return left_out();
}

int syn_bench_gpu_slow(struct syn_bench *bench)
{
	return left_out();
}
