/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's figures in a build without the CUDA Toolkit: none. */
#include <stdio.h>

#include "tools/bench/bench.h"

int syn_bench_gpu(struct syn_bench *bench)
{
	(void)bench;
	(void)fprintf(stderr, "gpu: this build has no CUDA backend\n");
	return 0;
}
