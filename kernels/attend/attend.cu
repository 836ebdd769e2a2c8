/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of attend, in the order in which a call launches them. */
#include "kernels/attend/merge.cuh"
#include "kernels/attend/strip.cuh"

static_assert(SYN_ATTEND_WARPS * sizeof(place<128>) ==
		      SYN_ATTEND_SHARED_BYTES(128),
	      "work.h");
static_assert(SYN_ATTEND_WARPS * sizeof(place<64>) ==
		      SYN_ATTEND_SHARED_BYTES(64),
	      "work.h");

#define KERNELS(name, dim, f16)                                                \
	extern "C" __global__ void __launch_bounds__(ROWS * 32)                \
		syn_attend_query_##name(                                       \
			const __grid_constant__ struct syn_attend_work work)   \
	{                                                                      \
		queries_make<dim, f16>(&work);                                 \
	}                                                                      \
	extern "C" __global__ void __launch_bounds__(SYN_ATTEND_WARPS * 32,    \
						     SYN_ATTEND_BLOCKS)        \
		syn_attend_band_##name(                                        \
			const __grid_constant__ struct syn_attend_work work)   \
	{                                                                      \
		bands_attend<dim, f16, false>(&work);                          \
	}                                                                      \
	extern "C" __global__ void __launch_bounds__(SYN_ATTEND_WARPS * 32,    \
						     SYN_ATTEND_CODED_BLOCKS)  \
		syn_attend_coded_##name(                                       \
			const __grid_constant__ struct syn_attend_work work)   \
	{                                                                      \
		bands_attend<dim, f16, true>(&work);                           \
	}

KERNELS(64_bf16, 64, false)
KERNELS(64_f16, 64, true)
KERNELS(128_bf16, 128, false)
KERNELS(128_f16, 128, true)

extern "C" __global__ void __launch_bounds__(MERGERS * 16)
	syn_attend_merge_64(const __grid_constant__ struct syn_attend_work work)
{
	bands_merge<64>(&work);
}

extern "C" __global__ void __launch_bounds__(MERGERS * 32) syn_attend_merge_128(
	const __grid_constant__ struct syn_attend_work work)
{
	bands_merge<128>(&work);
}

extern "C" __global__ void
syn_attend_share(const __grid_constant__ struct syn_attend_work work)
{
	shares_divide(&work);
}
