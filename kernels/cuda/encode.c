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
 * @jobs:	of a slice; it grows, so that the first burst begins soon.
 * @slice:	that is filled; NULL: none.
 * @answer:	for the tiles that come next; NULL: a new one is needed.
 * @next:	that one, but for its jobs.
 */
struct asking {
	struct syn_gpu_loader *l;
	CUfunction function;
	unsigned int jobs;
	struct syn_gpu_slice *slice;
	struct syn_gpu_answer *answer;
	struct syn_gpu_answer next;
};

static int slice_send(struct asking *a)
{
	struct syn_gpu_slice *slice = a->slice;

	if (!slice)
		return a->l->error;
	a->slice = NULL;
	a->answer = NULL;
	return syn_gpu_slice_submit(a->l, slice, a->function, 0);
}

/* Of the following tiles; all of @next but its jobs. */
static void ask_for(struct asking *a, const struct syn_gpu_answer *next)
{
	a->answer = NULL;
	a->next = *next;
}

static void answer_new(struct asking *a)
{
	struct syn_gpu_slice *slice = a->slice;

	a->answer = &slice->answers[slice->nr_answers++];
	*a->answer = a->next;
	a->answer->first = slice->nr_jobs;
	a->answer->nr = 0;
}

static int ask(struct asking *a, const struct syn_gpu_job *job)
{
	int r = a->l->error;

	if (a->slice && a->slice->nr_jobs == a->jobs) {
		a->jobs = syn_min(2 * a->jobs, SYN_GPU_JOBS);
		r = slice_send(a);
	}
	if (r)
		return r;
	if (!a->slice) {
		a->slice = syn_gpu_slice_open(a->l);
		a->slice->near = true;
	}
	if (!a->answer)
		answer_new(a);
	a->slice->jobs[a->slice->nr_jobs++] = *job;
	a->answer->nr++;
	if (a->next.raw_sums)
		a->next.raw_sums++;
	if (a->next.stored_sums) {
		a->next.stored_sums++;
		a->next.errors++;
	}
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
	struct asking a = { .l = l,
			    .function = l->load,
			    .jobs = SYN_GPU_JOBS_FIRST };
	struct syn_gpu_scope scope;
	int status = 0;
	int r;

	if (!bytes || !tile_bytes || bytes % tile_bytes || tile_bytes % 4 ||
	    tile_bytes > UINT32_MAX || at % 4)
		return -EINVAL;
	r = syn_gpu_enter(l->gpu, &scope);
	if (r)
		return r;
	ask_for(&a, &(struct syn_gpu_answer){ .raw_sums = ret_sums,
					      .status = &status });
	for (uint64_t i = 0; i < bytes / tile_bytes && !r; i++)
		r = ask(&a, &(struct syn_gpu_job){
				    .src = at + i * tile_bytes,
				    .bytes = (uint32_t)tile_bytes,
				    .kind = SYN_GPU_SUM | SYN_GPU_TELL,
			    });
	r = asked(&a, r);
	syn_gpu_leave(&scope);
	return r ? r : status;
}

/* ---- moving ------------------------------------------------------------- */

/* The other place of a tile is in the slot, one after the other. */
static int head_move(struct asking *a, const struct syn_gpu_spread *page,
		     bool out, uint64_t there, uint64_t *here)
{
	const struct syn_layout *l = page->layout;
	uint32_t bytes = syn_tile_raw_bytes(&l->component[0]);
	int r = 0;

	for (uint32_t i = 0; i < l->nr_components && !r; i++) {
		r = ask(a, &(struct syn_gpu_job){
				   .src = out ? *here : there,
				   .dst = out ? there : *here,
				   .bytes = bytes,
				   .token = (uint32_t)page->place.token,
				   .kind = out ? SYN_GPU_SPREAD | SYN_GPU_TELL
					       : SYN_GPU_GATHER,
			   });
		there += page->place.component;
		*here += bytes;
	}
	return r;
}

static int page_move(struct asking *a, const struct syn_gpu_spread *page,
		     bool out)
{
	const struct syn_gpu_place *place = &page->place;
	const struct syn_layout *l = page->layout;
	uint64_t here = page->slot;
	int r = 0;

	for (uint32_t layer = 0; layer < l->layers; layer++)
		for (uint32_t block = 0; block < l->blocks; block++)
			for (uint32_t head = 0; head < l->heads && !r; head++)
				r = head_move(a, page, out,
					      place->base +
						      layer * place->layer +
						      block * place->block +
						      head * place->head,
					      &here);
	return r;
}

static int pages_move(struct syn_gpu_loader *l,
		      const struct syn_gpu_spread *pages, unsigned int nr,
		      bool out)
{
	struct asking a = { .l = l,
			    .function = out ? l->load : l->encode,
			    .jobs = SYN_GPU_JOBS_FIRST };
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
	/* Nobody asks for the sums. */
	ask_for(&a, &(struct syn_gpu_answer){ .status = &status });
	for (unsigned int i = 0; i < nr && !r; i++)
		r = page_move(&a, &pages[i], out);
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

/*
 * The components of one head.  @jobs: how they are, with the bytes that each
 * takes at *@dst in place of a sum.
 */
static int head_ask(struct asking *a, const struct syn_gpu_encoding *page,
		    const struct syn_gpu_job *jobs, uint64_t src, uint64_t *dst)
{
	int r = 0;

	for (uint32_t i = 0; i < page->layout->nr_components && !r; i++) {
		struct syn_gpu_job job = jobs[i];

		job.src = src + i * page->place.component;
		job.dst = *dst;
		*dst += job.sum;
		r = ask(a, &job);
	}
	return r;
}

static int page_ask(struct asking *a, struct syn_gpu_encoding *page)
{
	const struct syn_layout *l = page->layout;
	const struct syn_gpu_place *place = &page->place;
	uint64_t dst = page->dst;
	int r = 0;

	page->status = 0;
	ask_for(a, &(struct syn_gpu_answer){ .raw_sums = page->raw_sums,
					     .stored_sums = page->stored_sums,
					     .errors = page->errors,
					     .status = &page->status });
	for (uint32_t layer = 0; layer < l->layers; layer++) {
		uint64_t at = place->base + layer * place->layer;
		struct syn_gpu_job jobs[SYN_COMPONENTS_MAX];

		for (uint32_t i = 0; i < l->nr_components; i++)
			jobs[i] = (struct syn_gpu_job){
				.bytes = syn_tile_raw_bytes(&l->component[i]),
				.token = (uint32_t)place->token,
				.sum = syn_layout_tile_bytes(l, layer, i),
				.kind = (uint16_t)syn_gpu_kind_of(
					&l->component[i],
					syn_layout_codec(l, layer, i),
					SYN_GPU_GATHER),
			};
		for (uint32_t block = 0; block < l->blocks; block++)
			for (uint32_t head = 0; head < l->heads && !r; head++)
				r = head_ask(a, page, jobs,
					     at + block * place->block +
						     head * place->head,
					     &dst);
	}
	return r;
}

int syn_gpu_encode(struct syn_gpu_loader *l, struct syn_gpu_encoding *pages,
		   unsigned int nr)
{
	struct asking a = { .l = l,
			    .function = l->encode,
			    .jobs = SYN_GPU_JOBS_FIRST };
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
