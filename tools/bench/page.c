/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values in h4. */
#include "tools/bench/page.h"

const struct syn_layout syn_bench_layout = {
	.layers = 4,
	.blocks = 1,
	.heads = 8,
	.nr_components = 2,
	.component = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, 8, 128, SYN_CODEC_H4, 0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, 8, 128, SYN_CODEC_H4, 0 },
	},
};
