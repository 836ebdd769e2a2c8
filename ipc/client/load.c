/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing pages in: fault, copy and verify in this process, report. */
#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/client-internal.h"

/* Somebody else fills a page: about the time that a copy takes. */
#define LOAD_BUSY_NS 50000u

/*
 * On a device that copies behind our back, the next pages are asked for while
 * those of some chunks are copied.  Else all loans are one chunk: while this
 * thread copies, nobody asks.
 */
#define LOAD_CHUNKS 4u

/* Under way at once, of a load: as many as one request asks for. */
#define LOAD_PAGES SYN_BATCH_MAX

/**
 * struct chunk - loans that are being executed.
 * @nr:		loans.
 * @loaded:	of each: what will be reported.
 * @nr_moving:	those that could be begun.
 * @moving:	of each: its transfer ...
 * @loan:	... its entry of @loaded ...
 * @extent:	... and the extent that it reads.
 * @ticket:	of all transfers.
 *
 * The arrays are the load's.
 */
struct chunk {
	unsigned int nr;
	struct syn_vec_loaded *loaded;
	unsigned int nr_moving;
	struct syn_transfer *moving;
	uint32_t *loan;
	uint32_t *extent;
	uint64_t ticket;
};

/**
 * struct syn_loading - pages that are being brought in.
 * @client:	whose.
 * @page:	absent pages to ask for next.
 * @nr:		used entries of @page, ...
 * @max:	... and how many are a chunk.
 * @nr_chunks:	chunks that may be under way.
 * @chunk:	a ring of them.
 * @loaded:	shared out among the chunks, as the three below.
 * @moving:	see there.
 * @loan:	see there.
 * @extent:	see there.
 * @begun:	chunks begun, ...
 * @ended:	... and ended; free-running.
 * @nr_busy:	pages that somebody else is filling.
 * @nr_lost:	pages that are gone.
 * @failed:	why a copy could not be made, or 0.
 * @hint_ns:	with SYN_E_BACKPRESSURE.
 * @pages:	all pages, pinned: of a load that the caller ends.
 * @nr_pages:	how many.
 */
struct syn_loading {
	struct syn_client *client;
	uint64_t page[LOAD_PAGES];
	unsigned int nr;
	unsigned int max;
	unsigned int nr_chunks;
	struct chunk chunk[LOAD_CHUNKS];
	struct syn_vec_loaded loaded[LOAD_PAGES];
	struct syn_transfer moving[LOAD_PAGES];
	uint32_t loan[LOAD_PAGES];
	uint32_t extent[LOAD_PAGES];
	unsigned int begun;
	unsigned int ended;
	unsigned int nr_busy;
	unsigned int nr_lost;
	int failed;
	uint64_t hint_ns;
	uint64_t *pages;
	unsigned int nr_pages;
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
		return w->h4 && (tiles || !loan->tile_bytes) &&
		       loan->bytes == syn_layout_bytes(&w->layout) &&
		       loan->nr_sums == syn_layout_tiles(&w->layout);
	}
	return false;
}

/* There is such a slot, and what it holds is what is lent. */
static bool loan_has_slot(const struct syn_window *w,
			  const struct syn_loan *loan)
{
	uint32_t slot = loan->dst_slot;

	if (slot > SYN_PTE_SLOT(UINT32_MAX) ||
	    SYN_SLOT_INDEX(slot) >= syn_window_plane(w, slot)->range)
		return false;
	return !(slot & SYN_SLOT_CODED) || loan->codec == SYN_CODEC_H4;
}

static bool loan_is_sane(const struct syn_client *c,
			 const struct syn_loan *loan, uint64_t page)
{
	const struct syn_window *w;

	if (loan->handle != page || loan->window >= SYN_WINDOWS_MAX)
		return false;
	w = &c->window[loan->window];
	return w->client && loan_has_slot(w, loan) &&
	       loan_is_stored_so(w, loan);
}

static bool loan_is_inside(const struct syn_loan *loan,
			   const struct syn_msg_extent *e)
{
	return e->tier == SYN_TIER_HOST && loan->src_frame < e->nr_frames &&
	       loan->bytes <= e->frame_bytes;
}

/* What is to be copied where; the extent stays until the chunk has ended. */
static int loan_prepare(struct syn_client *c, uint32_t index, uint64_t page,
			struct syn_transfer *ret, uint32_t *ret_extent)
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
	if (!loan_is_inside(&loan, &e.msg)) {
		syn_extent_put(c, loan.src_extent);
		return -EPROTO;
	}
	*ret_extent = loan.src_extent;
	*ret = (struct syn_transfer){
		.dst = syn_window_slot(w, loan.dst_slot),
		.src = e.map.at + loan.src_frame * e.msg.frame_bytes,
		.bytes = loan.bytes,
		.codec = loan.codec,
		.as_stored = loan.dst_slot & SYN_SLOT_CODED,
		.layout = &w->layout,
		.nr_sums = loan.nr_sums,
		.tile_bytes = loan.tile_bytes,
		.want = c->sums + (size_t)index * SYN_TILES_MAX,
	};
	return 0;
}

static void chunk_add(struct syn_loading *load, struct chunk *chunk,
		      uint32_t index, uint64_t page)
{
	unsigned int at = chunk->nr_moving;
	int r = loan_prepare(load->client, index, page, &chunk->moving[at],
			     &chunk->extent[at]);

	chunk->loaded[chunk->nr] = (struct syn_vec_loaded){
		.loan = index,
		.status = r,
	};
	if (!r)
		chunk->loan[chunk->nr_moving++] = chunk->nr;
	chunk->nr++;
}

/* What was not begun ends as it would have, had it failed. */
static void chunk_start(struct syn_loading *load, struct chunk *chunk)
{
	struct syn_device *dev = load->client->device;
	int r;

	if (!chunk->nr_moving)
		return;
	r = dev->ops->load(dev, chunk->moving, chunk->nr_moving,
			   &chunk->ticket);
	if (!r)
		return;
	for (unsigned int i = 0; i < chunk->nr_moving; i++) {
		chunk->loaded[chunk->loan[i]].status = r;
		syn_extent_put(load->client, chunk->extent[i]);
	}
	chunk->nr_moving = 0;
}

static void chunk_wait(struct syn_loading *load, struct chunk *chunk)
{
	struct syn_device *dev = load->client->device;

	if (!chunk->nr_moving)
		return;
	dev->ops->wait(dev, chunk->ticket);
	for (unsigned int i = 0; i < chunk->nr_moving; i++) {
		chunk->loaded[chunk->loan[i]].status = chunk->moving[i].status;
		syn_extent_put(load->client, chunk->extent[i]);
	}
}

/* Ends every loan that was given, also those that could not be executed. */
static int load_end_oldest(struct syn_loading *load)
{
	struct chunk *chunk = &load->chunk[load->ended++ % load->nr_chunks];
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_LOADED },
		.in = chunk->loaded,
		.in_each = sizeof(chunk->loaded[0]),
		.nr = chunk->nr,
	};

	chunk_wait(load, chunk);
	for (unsigned int i = 0; i < chunk->nr; i++) {
		if (chunk->loaded[i].status == -EILSEQ)
			load->nr_lost++;
		else if (chunk->loaded[i].status)
			load->failed = chunk->loaded[i].status;
	}
	return syn_batch_run(load->client, &batch);
}

/* Returns the first failure, but ends them all. */
static int load_end_all(struct syn_loading *load)
{
	int r = 0;

	while (load->ended != load->begun) {
		int bad = load_end_oldest(load);

		r = r ? r : bad;
	}
	return r ? r : load->failed;
}

static void load_begin(struct syn_loading *load,
		       const struct syn_vec_fault *fault)
{
	unsigned int at = load->begun++ % load->nr_chunks;
	struct chunk *chunk = &load->chunk[at];

	*chunk = (struct chunk){
		.loaded = load->loaded + at * load->max,
		.moving = load->moving + at * load->max,
		.loan = load->loan + at * load->max,
		.extent = load->extent + at * load->max,
	};
	for (unsigned int i = 0; i < load->nr; i++) {
		if (fault[i].res == SYN_E_BUSY)
			load->nr_busy++;
		if (fault[i].res == SYN_E_LOST)
			load->nr_lost++;
		if (fault[i].res == SYN_FAULT_LOAN)
			chunk_add(load, chunk, fault[i].loan, load->page[i]);
	}
	chunk_start(load, chunk);
}

/* SYN_E_BACKPRESSURE: none of these pages was given a slot. */
static int load_fault(struct syn_loading *load)
{
	struct syn_vec_fault fault[LOAD_PAGES];
	struct syn_batch batch = {
		.sqe = { .op = SYN_OP_FAULT },
		.in = load->page,
		.in_each = sizeof(load->page[0]),
		.out = fault,
		.out_each = sizeof(fault[0]),
		.nr = load->nr,
	};
	int r = 0;

	if (!load->nr)
		return 0;
	if (load->begun - load->ended == load->nr_chunks)
		r = load_end_oldest(load);
	if (!r)
		r = syn_batch_run(load->client, &batch);
	if (r) {
		load->hint_ns = batch.hint_ns;
		return r;
	}
	load_begin(load, fault);
	load->nr = 0;
	return 0;
}

/* Asks for a page that is not here; @pte is what its entry says. */
static int load_want(struct syn_loading *load, uint64_t page, uint64_t pte)
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
	return load->nr == load->max ? load_fault(load) : 0;
}

/* Every page is pinned, so that what is brought in stays. */
static int load_pass(struct syn_loading *load, const uint64_t *pages,
		     unsigned int nr)
{
	struct syn_client *c = load->client;

	load->nr = 0;
	load->nr_busy = 0;
	load->nr_lost = 0;
	load->failed = 0;
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t pte =
			syn_load_seq_cst(&c->pte[SYN_HANDLE_INDEX(pages[i])]);
		int r;

		if (syn_page_at(c, pages[i], false))
			continue;
		r = load_want(load, pages[i], pte);
		if (r)
			return r;
	}
	return load_fault(load);
}

/* Whether each is somewhere: the look that says so is the one that says where. */
static bool load_find(struct syn_client *c, const uint64_t *pages,
		      unsigned int nr, bool coming, void **ret_addr)
{
	bool all = true;

	for (unsigned int i = 0; i < nr; i++) {
		void *addr = syn_page_at(c, pages[i], coming);

		if (ret_addr)
			ret_addr[i] = addr;
		all = all && addr;
	}
	return all;
}

/*
 * Passes until all pages are here, or one never will be.  @leave: copies may
 * still be under way then, of pages that nobody else fills.
 */
static int load_passes(struct syn_loading *load, const uint64_t *pages,
		       unsigned int nr, uint64_t deadline_ns, bool leave,
		       void **ret_addr)
{
	struct syn_client *c = load->client;

	for (;;) {
		int r = load_pass(load, pages, nr);
		bool found;
		int bad;

		if (!r && leave && !load->nr_busy && !load->nr_lost &&
		    !load->failed && load_find(c, pages, nr, true, ret_addr))
			return 0;
		bad = load_end_all(load);
		r = r ? r : bad;
		if (r)
			return r;
		found = load_find(c, pages, nr, false, ret_addr);
		if (!load->nr_busy && load->nr_lost)
			return SYN_E_LOST;
		if (found)
			return 0;
		load->hint_ns = LOAD_BUSY_NS;
		if (!syn_backoff(c, load->hint_ns, deadline_ns))
			return SYN_E_BACKPRESSURE;
	}
}

/* Where an absent page will lie the daemon knows. */
static uint32_t window_slots(const struct syn_window *w)
{
	return w->plane[0].slots + w->plane[1].slots;
}

/* More pages than its slots can never be here together. */
static int load_check_size(struct syn_client *c, const uint64_t *pages,
			   unsigned int nr)
{
	uint32_t absent[SYN_WINDOWS_MAX] = { 0 };

	for (unsigned int i = 0; i < nr; i++) {
		uint32_t index = SYN_HANDLE_INDEX(pages[i]);
		uint8_t window;

		if (index >= c->nr_pages || syn_page_at(c, pages[i], false))
			continue;
		window = syn_load_relaxed(&c->window_of[index]);
		if (++absent[window] > window_slots(&c->window[window]) &&
		    c->window[window].client)
			return -E2BIG;
	}
	return 0;
}

/* The arrays are filled as they are used: this is on the way of every load. */
static void load_init(struct syn_loading *load, struct syn_client *c)
{
	load->client = c;
	load->nr_chunks = c->device->behind ? LOAD_CHUNKS : 1;
	load->max = LOAD_PAGES / load->nr_chunks;
	load->begun = 0;
	load->ended = 0;
	load->hint_ns = 0;
}

/* Pins, and tries until the deadline; nothing is pinned after a failure. */
static int load_run(struct syn_loading *load, const uint64_t *pages,
		    unsigned int nr, uint64_t timeout_ns, bool leave,
		    void **ret_addr)
{
	struct syn_client *c = load->client;
	uint64_t deadline_ns;
	int r = load_check_size(c, pages, nr);

	if (r)
		return r;
	deadline_ns = syn_deadline_ns(timeout_ns);
	do {
		r = syn_pin_hold(c, pages, nr);
		if (r)
			return r;
		r = load_passes(load, pages, nr, deadline_ns, leave, ret_addr);
		if (!r)
			return 0;
		/* Two that hold half of what they need must not wait so. */
		syn_pin_drop(c, pages, nr);
		/* Who could end the others may be who waits here. */
	} while (r == SYN_E_BACKPRESSURE && !syn_load_relaxed(&c->nr_loading) &&
		 syn_backoff(c, load->hint_ns, deadline_ns));
	return r;
}

int syn_load(struct syn_client *client, const uint64_t *pages, unsigned int nr,
	     uint64_t timeout_ns, void **ret_addr)
{
	SYN_KEEP_ERRNO;
	struct syn_loading load;
	int r = syn_client_check(client);

	if (r)
		return r;
	load_init(&load, client);
	return load_run(&load, pages, nr, timeout_ns, false, ret_addr);
}

/* ---- loads that the caller ends ----------------------------------------- */

static struct syn_loading *load_new(struct syn_client *c, const uint64_t *pages,
				    unsigned int nr)
{
	struct syn_loading *load = syn_alloc(1, sizeof(*load));

	if (!load)
		return NULL;
	load_init(load, c);
	load->nr_pages = nr;
	load->pages = syn_alloc(syn_max(nr, 1u), sizeof(*pages));
	if (!load->pages) {
		free(load);
		return NULL;
	}
	if (nr)
		memcpy(load->pages, pages, nr * sizeof(*pages));
	return load;
}

static void load_free(struct syn_loading *load)
{
	free(load->pages);
	free(load);
}

int syn_load_begin(struct syn_client *client, const uint64_t *pages,
		   unsigned int nr, uint64_t timeout_ns, void **ret_addr,
		   struct syn_loading **ret)
{
	SYN_KEEP_ERRNO;
	struct syn_loading *load;
	int r = syn_client_check(client);

	if (r)
		return r;
	load = load_new(client, pages, nr);
	if (!load)
		return -ENOMEM;
	r = load_run(load, pages, nr, timeout_ns, true, ret_addr);
	if (r) {
		load_free(load);
		return r;
	}
	(void)syn_fetch_add_seq_cst(&client->nr_loading, 1u);
	*ret = load;
	return 0;
}

int syn_load_order(struct syn_loading *load, void *stream)
{
	SYN_KEEP_ERRNO;
	struct syn_device *dev = load->client->device;
	int r = 0;

	for (unsigned int i = load->ended; i != load->begun && !r; i++) {
		const struct chunk *chunk = &load->chunk[i % load->nr_chunks];

		if (chunk->nr_moving)
			r = dev->ops->order(dev, chunk->ticket, stream);
	}
	return r;
}

int syn_load_end(struct syn_loading *load)
{
	SYN_KEEP_ERRNO;
	int r = load_end_all(load);

	(void)syn_fetch_sub_release(&load->client->nr_loading, 1u);
	if (!r && load->nr_lost)
		r = SYN_E_LOST;
	if (r)
		syn_pin_drop(load->client, load->pages, load->nr_pages);
	load_free(load);
	return r;
}
