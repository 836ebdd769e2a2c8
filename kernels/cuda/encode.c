/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of tiles in HBM: their sums, and what encoding them gives. */
#include <errno.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/slice.h"

/**
 * struct asking - a call that is being filled in.
 * @l:		whose.
 * @function:	that answers.
 * @slice:	that is filled; NULL: none.
 */
struct asking {
	struct syn_gpu_loader *l;
	CUfunction function;
	struct syn_gpu_slice *slice;
};

static int slice_send(struct asking *a)
{
	struct syn_gpu_slice *slice = a->slice;

	if (!slice)
		return a->l->error;
	a->slice = NULL;
	return syn_gpu_slice_submit(a->l, slice, a->function, 0);
}

static int ask(struct asking *a, const struct syn_gpu_job *job,
	       const struct syn_gpu_answer *answer)
{
	struct syn_gpu_slice *slice;
	int r = a->l->error;

	if (a->slice && a->slice->nr_jobs == SYN_GPU_JOBS)
		r = slice_send(a);
	if (r)
		return r;
	if (!a->slice) {
		a->slice = syn_gpu_slice_open(a->l);
		a->slice->near = true;
		a->slice->tells = true;
	}
	slice = a->slice;
	slice->jobs[slice->nr_jobs] = *job;
	slice->answers[slice->nr_jobs++] = *answer;
	return 0;
}

/* The rest of the slice, and the answers. */
static int asked(struct asking *a, int r)
{
	if (!r)
		r = slice_send(a);
	syn_gpu_slices_wait(a->l, a->l->next - 1);
	return r ? r : a->l->error;
}

int syn_gpu_sum(struct syn_gpu_loader *l, uint64_t at, uint64_t bytes,
		uint64_t tile_bytes, uint32_t *ret_sums)
{
	struct asking a = { .l = l, .function = l->load };
	struct syn_gpu_scope scope;
	int status = 0;
	int r;

	if (!bytes || !tile_bytes || bytes % tile_bytes || tile_bytes % 4 ||
	    tile_bytes > UINT32_MAX || at % 4)
		return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	for (uint64_t i = 0; i < bytes / tile_bytes && !r; i++)
		r = ask(&a,
			&(struct syn_gpu_job){
				.src = at + i * tile_bytes,
				.bytes = (uint32_t)tile_bytes,
				.kind = SYN_GPU_SUM | SYN_GPU_TELL,
			},
			&(struct syn_gpu_answer){
				.raw_sum = &ret_sums[i],
				.status = &status,
			});
	r = asked(&a, r);
	syn_gpu_leave(&scope);
	return r ? r : status;
}

/* ---- moving ------------------------------------------------------------- */

static uint64_t tile_at(const struct syn_gpu_place *place,
			const struct syn_layout *l, uint32_t tile)
{
	uint32_t i = tile % l->nr_components;
	uint32_t head = tile / l->nr_components % l->heads;
	uint32_t block = tile / l->nr_components / l->heads % l->blocks;
	uint32_t layer = tile / l->nr_components / l->heads / l->blocks;

	return place->base + layer * place->layer + block * place->block +
	       head * place->head + i * place->component;
}

static int page_move(struct asking *a, const struct syn_gpu_spread *page,
		     bool out, int *status)
{
	const struct syn_layout *l = page->layout;
	uint32_t bytes = syn_tile_raw_bytes(&l->component[0]);
	const struct syn_gpu_answer answer = { .status = status };
	int r = 0;

	for (uint32_t t = 0; t < syn_layout_tiles(l) && !r; t++) {
		uint64_t there = tile_at(&page->place, l, t);
		uint64_t here = page->slot + (uint64_t)t * bytes;

		r = ask(a,
			&(struct syn_gpu_job){
				.src = out ? here : there,
				.dst = out ? there : here,
				.bytes = bytes,
				.token = (uint32_t)page->place.token,
				.kind = out ? SYN_GPU_SPREAD | SYN_GPU_TELL
					    : SYN_GPU_GATHER,
			},
			&answer);
	}
	return r;
}

static int pages_move(struct syn_gpu_loader *l,
		      const struct syn_gpu_spread *pages, unsigned int nr,
		      bool out)
{
	struct asking a = { .l = l, .function = out ? l->load : l->encode };
	struct syn_gpu_scope scope;
	int status = 0;
	int r;

	for (unsigned int i = 0; i < nr; i++)
		if (pages[i].slot % 16 ||
		    !syn_gpu_place_can_be(&pages[i].place, pages[i].layout))
			return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	for (unsigned int i = 0; i < nr && !r; i++)
		r = page_move(&a, &pages[i], out, &status);
	r = asked(&a, r);
	syn_gpu_leave(&scope);
	return r ? r : status;
}

int syn_gpu_spread(struct syn_gpu_loader *l, const struct syn_gpu_spread *pages,
		   unsigned int nr)
{
	return pages_move(l, pages, nr, true);
}

int syn_gpu_gather(struct syn_gpu_loader *l, const struct syn_gpu_spread *pages,
		   unsigned int nr)
{
	return pages_move(l, pages, nr, false);
}

/* ---- encoding ----------------------------------------------------------- */

static int page_ask(struct asking *a, struct syn_gpu_encoding *page)
{
	const struct syn_layout *l = page->layout;
	const struct syn_gpu_place *place = &page->place;
	uint32_t nr = syn_layout_tiles(l);
	uint64_t dst = page->dst;
	int r = 0;

	page->status = 0;
	for (uint32_t t = 0; t < nr && !r; t++) {
		uint32_t i = t % l->nr_components;
		uint32_t layer = t / l->nr_components / l->heads / l->blocks;
		const struct syn_component *c = &l->component[i];
		struct syn_gpu_job job = {
			.src = tile_at(place, l, t),
			.dst = dst,
			.bytes = syn_tile_raw_bytes(c),
			.token = (uint32_t)place->token,
			.kind = (uint16_t)syn_gpu_kind_of(
				c, syn_layout_codec(l, layer, i),
				SYN_GPU_GATHER),
		};
		struct syn_gpu_answer answer = {
			.raw_sum = &page->raw_sums[t],
			.stored_sum = &page->stored_sums[t],
			.error = &page->errors[t],
			.status = &page->status,
		};

		dst += syn_layout_tile_bytes(l, layer, i);
		r = ask(a, &job, &answer);
	}
	return r;
}

int syn_gpu_encode(struct syn_gpu_loader *l, struct syn_gpu_encoding *pages,
		   unsigned int nr)
{
	struct asking a = { .l = l, .function = l->encode };
	struct syn_gpu_scope scope;
	int r;

	for (unsigned int i = 0; i < nr; i++)
		if (pages[i].dst % 16 ||
		    !syn_gpu_place_can_be(&pages[i].place, pages[i].layout))
			return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	for (unsigned int i = 0; i < nr && !r; i++)
		r = page_ask(&a, &pages[i]);
	r = asked(&a, r);
	for (unsigned int i = 0; i < nr && r; i++)
		pages[i].status = r;
	syn_gpu_leave(&scope);
	return r;
}
