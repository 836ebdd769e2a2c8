/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of an engine that reads pages by synapse/page.cuh, a block a tile. */
#include <synapse/page.cuh>

/* The tile of this block, of those of a page in their order. */
static __device__ struct syn_tile tile_of_block(const struct syn_layout *l,
						const void *page, bool stored)
{
	uint32_t i = blockIdx.x % l->nr_components;
	uint32_t rest = blockIdx.x / l->nr_components;
	uint32_t head = rest % l->heads;
	uint32_t block = rest / l->heads % l->blocks;

	return syn_page_tile(l, page, stored, rest / l->heads / l->blocks,
			     block, head, i);
}

template <uint32_t DIM>
static __device__ void rows_read(const struct syn_tile *t, float *to)
{
	for (uint32_t token = threadIdx.x / 32; token < SYN_TILE_TOKENS;
	     token += blockDim.x / 32) {
		float x[DIM / 32];

		syn_tile_row<DIM>(t, token, x);
		for (uint32_t k = 0; k < DIM / 32; k++)
			to[token * DIM + threadIdx.x % 32 * (DIM / 32) + k] =
				x[k];
	}
}

/* All elements of a page, in canonical order. */
extern "C" __global__ void
page_rows(const __grid_constant__ struct syn_layout l, const void *page,
	  uint32_t stored, float *ret)
{
	const struct syn_tile t = tile_of_block(&l, page, stored);
	float *to =
		ret + (size_t)blockIdx.x * SYN_TILE_TOKENS * t.component.dim;

	if (t.component.dim == 128)
		rows_read<128>(&t, to);
	else
		rows_read<64>(&t, to);
}

extern "C" __global__ void
page_elements(const __grid_constant__ struct syn_layout l, const void *page,
	      uint32_t stored, float *ret)
{
	const struct syn_tile t = tile_of_block(&l, page, stored);
	const uint32_t dim = t.component.dim, nr = SYN_TILE_TOKENS * dim;
	float *to = ret + (size_t)blockIdx.x * nr;

	for (uint32_t i = threadIdx.x; i < nr; i += blockDim.x)
		to[i] = syn_tile_element(&t, i / dim, i % dim);
}
