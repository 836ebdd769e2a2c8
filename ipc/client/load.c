/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing pages in: fault, copy and verify in this process, report. */
#include "core/base/base.h"
#include "ipc/client/client-internal.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"

/* Somebody else fills a page: about the time that a copy takes. */
#define LOAD_BUSY_NS 50000u

/**
 * struct load - one pass over the pages of a syn_load().
 * @client:	whose.
 * @page:	absent pages to ask for next.
 * @nr:		used entries of @page.
 * @nr_busy:	pages that somebody else is filling.
 * @nr_lost:	pages that are gone.
 * @hint_ns:	with SYN_E_BACKPRESSURE.
 */
struct load {
	struct syn_client *client;
	uint64_t page[SYN_BATCH_MAX];
	unsigned int nr;
	unsigned int nr_busy;
	unsigned int nr_lost;
	uint64_t hint_ns;
};

/* Stored so as pages of this space are with the loan's codec. */
static bool loan_is_stored_so(const struct syn_window *w,
			      const struct syn_loan *loan)
{
	bool tiles = (uint64_t)loan->tile_bytes * loan->nr_sums == loan->bytes;

	switch (loan->codec) {
	case SYN_CODEC_RAW16:
		return tiles && loan->bytes == w->space.page_bytes &&
		       loan->nr_sums && loan->nr_sums <= SYN_TILES_MAX;
	case SYN_CODEC_H4:
		return w->layout.layers && (tiles || !loan->tile_bytes) &&
		       loan->bytes == syn_layout_bytes(&w->layout) &&
		       loan->nr_sums == syn_layout_tiles(&w->layout);
	}
	return false;
}

static bool loan_is_sane(const struct syn_client *c,
			 const struct syn_loan *loan, uint64_t page)
{
	const struct syn_window *w;

	if (loan->handle != page || loan->window >= SYN_WINDOWS_MAX)
		return false;
	w = &c->window[loan->window];
	return w->client && loan->dst_slot < w->range &&
	       loan_is_stored_so(w, loan);
}

static bool loan_is_inside(const struct syn_loan *loan,
			   const struct syn_msg_extent *e)
{
	return e->tier == SYN_TIER_HOST && loan->src_frame < e->nr_frames &&
	       loan->bytes <= e->frame_bytes;
}

/* The bytes move in this process; what arrived is what is summed. */
static int loan_copy(const struct syn_window *w, const struct syn_loan *loan,
		     const struct syn_extent *e, const uint32_t *want)
{
	uint32_t sums[SYN_TILES_MAX];
	uint32_t tile;
	const char *src;
	char *dst;

	if (!loan_is_inside(loan, &e->msg))
		return -EPROTO;
	dst = w->base + loan->dst_slot * w->stride;
	src = (const char *)e->addr + loan->src_frame * e->msg.frame_bytes;
	if (loan->codec == SYN_CODEC_H4)
		return syn_page_decode(dst, src, &w->layout, 0, loan->nr_sums,
				       want, &tile);
	syn_sum_copy(dst, src, loan->bytes, loan->tile_bytes, sums);
	return memcmp(sums, want, loan->nr_sums * sizeof(*sums)) ? -EILSEQ : 0;
}

static int loan_execute(struct syn_client *c, uint32_t index, uint64_t page)
{
	struct syn_extent e;
	struct syn_loan loan;
	struct syn_window *w;
	int r;

	if (index >= SYN_LOANS_MAX)
		return -EPROTO;
	loan = c->loan[index];
	if (!loan_is_sane(c, &loan, page))
		return -EPROTO;
	w = &c->window[loan.window];
	r = syn_slot_wait(w, loan.dst_slot);
	if (r)
		return r;
	r = syn_extent_get(c, loan.src_extent, &e);
	if (r)
		return r;
	r = loan_copy(w, &loan, &e, c->sums + (size_t)index * SYN_TILES_MAX);
	syn_extent_put(c, loan.src_extent);
	return r;
}

/* Ends every loan that was given, also those that could not be executed. */
static int load_execute(struct load *load, const struct syn_vec_fault *fault)
{
	struct syn_vec_loaded loaded[SYN_BATCH_MAX];
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_LOADED },
		.in = loaded,
		.in_each = sizeof(loaded[0]),
	};
	int failed = 0;
	int r;

	for (unsigned int i = 0; i < load->nr; i++) {
		int status;

		if (fault[i].res == SYN_E_BUSY)
			load->nr_busy++;
		if (fault[i].res == SYN_E_LOST)
			load->nr_lost++;
		if (fault[i].res != SYN_FAULT_LOAN)
			continue;
		status = loan_execute(load->client, fault[i].loan,
				      load->page[i]);
		if (status == -EILSEQ)
			load->nr_lost++;
		else if (status)
			failed = status;
		loaded[batch.nr++] = (struct syn_vec_loaded){
			.loan = fault[i].loan,
			.status = status,
		};
	}
	r = syn_batch_run(load->client, &batch);
	return r ? r : failed;
}

/* SYN_E_BACKPRESSURE: none of these pages was given a slot. */
static int load_fault(struct load *load)
{
	struct syn_vec_fault fault[SYN_BATCH_MAX];
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_FAULT },
		.in = load->page,
		.in_each = sizeof(load->page[0]),
		.out = fault,
		.out_each = sizeof(fault[0]),
		.nr = load->nr,
	};
	int r;

	if (!load->nr)
		return 0;
	r = syn_batch_run(load->client, &batch);
	if (r) {
		load->hint_ns = batch.hint_ns;
		return r;
	}
	r = load_execute(load, fault);
	load->nr = 0;
	return r;
}

/* Asks for a page that is not here; @pte is what its entry says. */
static int load_want(struct load *load, uint64_t page, uint64_t pte)
{
	struct syn_client *c = load->client;

	/* Resident, but the memory behind its slot is news to us. */
	if (syn_pte_is_resident(pte, page))
		return syn_slot_wait(syn_page_window(c, SYN_HANDLE_INDEX(page)),
				     SYN_PTE_SLOT(pte));
	if (SYN_PTE_STATE(pte) == SYN_PTE_LOST) {
		load->nr_lost++;
		return 0;
	}
	load->page[load->nr++] = page;
	return load->nr == SYN_BATCH_MAX ? load_fault(load) : 0;
}

/* Every page is pinned, so that what is brought in stays. */
static int load_pass(struct load *load, const uint64_t *pages, unsigned int nr)
{
	struct syn_client *c = load->client;

	load->nr = 0;
	load->nr_busy = 0;
	load->nr_lost = 0;
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t pte =
			syn_load_seq_cst(&c->pte[SYN_HANDLE_INDEX(pages[i])]);
		int r;

		if (syn_page_is_here(c, pages[i]))
			continue;
		r = load_want(load, pages[i], pte);
		if (r)
			return r;
	}
	return load_fault(load);
}

static bool load_is_complete(struct syn_client *c, const uint64_t *pages,
			     unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (!syn_page_is_here(c, pages[i]))
			return false;
	return true;
}

/* Passes until all pages are here, or one never will be. */
static int load_passes(struct load *load, const uint64_t *pages,
		       unsigned int nr, uint64_t deadline_ns)
{
	for (;;) {
		int r = load_pass(load, pages, nr);

		if (r)
			return r;
		if (!load->nr_busy && load->nr_lost)
			return SYN_E_LOST;
		if (load_is_complete(load->client, pages, nr))
			return 0;
		load->hint_ns = LOAD_BUSY_NS;
		if (!syn_backoff(load->client, load->hint_ns, deadline_ns))
			return SYN_E_BACKPRESSURE;
	}
}

/* More pages than its slots can never be here together. */
static int load_check_size(struct syn_client *c, const uint64_t *pages,
			   unsigned int nr)
{
	uint32_t absent[SYN_WINDOWS_MAX] = { 0 };

	for (unsigned int i = 0; i < nr; i++) {
		uint32_t index = SYN_HANDLE_INDEX(pages[i]);
		uint8_t window;

		if (index >= c->nr_pages || syn_page_is_here(c, pages[i]))
			continue;
		window = syn_load_relaxed(&c->window_of[index]);
		if (++absent[window] > c->window[window].slots &&
		    c->window[window].client)
			return -E2BIG;
	}
	return 0;
}

static void load_addresses(struct syn_client *c, const uint64_t *pages,
			   unsigned int nr, void **ret_addr)
{
	if (!ret_addr)
		return;
	for (unsigned int i = 0; i < nr; i++)
		ret_addr[i] = syn_page_is_here(c, pages[i])
				      ? syn_page_addr(c, pages[i])
				      : NULL;
}

int syn_load(struct syn_client *client, const uint64_t *pages, unsigned int nr,
	     uint64_t timeout_ns, void **ret_addr)
{
	SYN_KEEP_ERRNO;
	struct load load = { .client = client };
	uint64_t deadline_ns;
	int r = syn_client_check(client);

	if (!r)
		r = load_check_size(client, pages, nr);
	if (r)
		return r;
	deadline_ns = syn_deadline_ns(timeout_ns);
	do {
		r = syn_pin_hold(client, pages, nr);
		if (r)
			return r;
		r = load_passes(&load, pages, nr, deadline_ns);
		if (!r || r == SYN_E_LOST)
			load_addresses(client, pages, nr, ret_addr);
		if (!r)
			return 0;
		/* Two that hold half of what they need must not wait so. */
		syn_pin_drop(client, pages, nr);
	} while (r == SYN_E_BACKPRESSURE &&
		 syn_backoff(client, load.hint_ns, deadline_ns));
	return r;
}
