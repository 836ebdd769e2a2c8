/* SPDX-License-Identifier: Apache-2.0 */
/* Loans, as a client's library carries them out. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"

/* NULL: it is not mapped. */
static const void *client_frame(const struct client *c,
				const struct syn_loan *loan)
{
	uint32_t i;

	for (i = 0; i < c->nr_extents; i++)
		if (c->extent[i].msg.extent == loan->src_extent)
			return c->extent[i].base +
			       loan->src_frame * c->extent[i].msg.frame_bytes;
	return NULL;
}

static int client_decode(struct client *c, uint32_t loan)
{
	const struct syn_loan *l = &c->loan[loan];
	const struct syn_mm *mm = c->world->mm;
	uint32_t space = c->session->window[l->window][0].pool->space;
	const struct syn_layout *layout = &mm->info[space].layout;
	uint32_t tile;

	assert_int_equal(syn_layout_bytes(layout), l->bytes);
	if (l->dst_slot & SYN_SLOT_CODED)
		return syn_page_copy(client_slot(c, l->window, l->dst_slot),
				     client_frame(c, l), layout,
				     &c->sums[(size_t)loan * SYN_TILES_MAX],
				     &tile);
	return syn_page_decode(client_slot(c, l->window, l->dst_slot),
			       client_frame(c, l), layout, 0, l->nr_sums,
			       &c->sums[(size_t)loan * SYN_TILES_MAX], &tile);
}

/* Its slot is lost, or the frame that it reads. */
static bool loan_is_lost(const struct client *c, uint32_t loan)
{
	uint32_t page = c->session->loan_page[loan];

	return page == SYN_NONE ||
	       !(c->world->mm->page[page].flags & SYN_PAGE_F_HOST);
}

/* Of what is lost it may never have been told. */
static bool loan_is_mapped(const struct client *c, uint32_t loan)
{
	const struct syn_loan *l = &c->loan[loan];
	bool mapped = client_frame(c, l) &&
		      client_slot_find(c, l->window, l->dst_slot);

	assert_true(mapped || loan_is_lost(c, loan));
	return mapped;
}

int client_execute(struct client *c, uint32_t loan)
{
	const struct syn_loan *l = &c->loan[loan];
	uint32_t sums[SYN_TILES_MAX];

	assert_int_equal(l->state, SYN_LOAN_OUT);
	if (!loan_is_mapped(c, loan))
		return -EIO;
	if (l->codec == SYN_CODEC_H4)
		return client_decode(c, loan);
	assert_int_equal((uint64_t)l->nr_sums * l->tile_bytes, l->bytes);
	syn_sum_copy(client_slot(c, l->window, l->dst_slot), client_frame(c, l),
		     l->bytes, l->tile_bytes, sums);
	return memcmp(sums, &c->sums[(size_t)loan * SYN_TILES_MAX],
		      l->nr_sums * sizeof(*sums))
		       ? -EILSEQ
		       : 0;
}

int client_loaded(struct client *c, uint32_t loan, int status)
{
	struct syn_vec_loaded vec = { .loan = loan, .status = status };

	(void)syn_bit_clear(c->loans, loan);
	return client_ask(c, syn_mm_loaded(c->session, &vec, 1));
}
