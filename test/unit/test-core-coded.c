/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that are resident as they are stored: frames of two sizes in HBM. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/base/fault.h"
#include "core/lists.h"
#include "core/move.h"
#include "core/page.h"
#include "core/swap.h"
#include "kernels/codec/page.h"

#define RAW_BYTES   (128u * 1024) /* of a page ... */
#define CODED_BYTES 34304u	  /* ... and as h4 */
#define NUMBERS	    (RAW_BYTES / 2)
#define SLOTS	    8u
#define CODED_SLOTS 12u

/**
 * struct fixture - a world with a space whose encoded pages are read so.
 * @sim:	its disk.
 * @world:	the world.
 * @space:	the space, and ...
 * @plain:	... one that differs in this alone.
 */
struct fixture {
	struct syn_simdisk *sim;
	struct world world;
	uint32_t space;
	uint32_t plain;
};

static int space_of(struct fixture *f, uint32_t flags, uint32_t codec,
		    uint32_t *ret)
{
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";
	int r;

	space_fill(&msg, 128, 2, 128);
	msg.component[0].codec = (uint16_t)codec;
	msg.component[1].codec = (uint16_t)codec;
	msg.flags = (uint16_t)flags;
	r = syn_mm_space_define(f->world.mm, &msg, &reply, &why);
	assert_int_equal(!!r, !!why);
	*ret = reply.space;
	return r;
}

static void world_begin(struct fixture *f)
{
	struct syn_mm_config config = {
		.hbm_bytes = 8 * MIB,
		.host_bytes = 16 * MIB,
		.max_pages = 1024,
		.max_sessions = 4,
		.codec = SYN_CODEC_H4,
	};

	world_open_swap(&f->world, &config, f->sim);
	assert_int_equal(
		space_of(f, SYN_SPACE_F_CODED, SYN_CODEC_H4, &f->space), 0);
	assert_int_equal(space_of(f, 0, SYN_CODEC_H4, &f->plain), 0);
	assert_int_not_equal(f->space, f->plain);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(syn_simdisk_new(&f->sim, 2 * MIB, 8, 7), 0);
	world_begin(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	world_close(&f->world);
	assert_null(syn_simdisk_free(f->sim));
	free(f);
	return 0;
}

static void begin(struct fixture *f, struct client *c, uint32_t coded_slots)
{
	client_open(c, &f->world, 1);
	(void)client_window_coded(c, f->space, SLOTS, coded_slots);
}

/* Small finite numbers of both signs: fp16 between 2^-2 and 2. */
static void numbers_fill(uint16_t *to, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < NUMBERS; i++) {
		uint32_t x = (seed + i) * 2654435761u;

		to[i] = (uint16_t)((x >> 31 << 15) |
				   (0x3400 + (x >> 16) % 0xc00));
	}
}

static uint64_t page_full(struct client *c, uint32_t seed)
{
	uint64_t handle;
	uint32_t *at;

	assert_int_equal(client_lease(c, 0, 1, &handle), 0);
	assert_int_equal(client_pin(c, handle, &at), 0);
	numbers_fill((uint16_t *)at, seed);
	client_unpin(c, handle);
	assert_int_equal(client_commit(c, handle, 128), 0);
	return handle;
}

static uint64_t page_anchor(struct client *c, uint32_t seed)
{
	struct syn_vec_advise advise = { .handle = page_full(c, seed),
					 .advice = SYN_ADVISE_ANCHOR };

	assert_int_equal(syn_mm_advise(c->session, &advise, 1), 0);
	return advise.handle;
}

/* Everything that is full leaves its canonical frame. */
static void push(struct client *c)
{
	uint64_t handle[SLOTS];
	uint32_t i;

	world_settle(c->world);
	assert_int_equal(client_lease(c, 0, SLOTS, handle), 0);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_release(c, handle[i]), 0);
	world_settle(c->world);
}

/* @nr pages, encoded and in the host tier. */
static void pages_below(struct client *c, uint64_t *ret, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		ret[i] = page_full(c, i);
	push(c);
	for (i = 0; i < nr; i++) {
		assert_int_equal(client_state(c, ret[i]), SYN_PTE_ABSENT);
		assert_int_equal(client_page(c, ret[i])->codec, SYN_CODEC_H4);
	}
}

/* The slot has what encoding makes of the page, and nothing of another. */
static void check_coded(struct client *c, uint64_t handle, uint32_t seed)
{
	const struct syn_mm *mm = c->world->mm;
	uint16_t *raw = malloc(RAW_BYTES);
	unsigned char *want = malloc(RAW_BYTES);
	uint32_t sums[2][4];
	uint16_t errors[4];
	uint32_t *at;

	assert_true(raw && want);
	numbers_fill(raw, seed);
	assert_int_equal(
		syn_page_encode(want, raw,
				&mm->info[client_page(c, handle)->space].layout,
				0, 4, sums[0], sums[1], errors),
		0);
	assert_int_equal(client_load(c, handle, &at), 0);
	assert_true(client_is_coded(c, handle));
	assert_memory_equal(at, want, CODED_BYTES);
	client_unpin(c, handle);
	free(raw);
	free(want);
}

static void check_raw(struct client *c, uint64_t handle, uint32_t seed)
{
	uint16_t *raw = malloc(RAW_BYTES);
	uint32_t *at;

	assert_non_null(raw);
	numbers_fill(raw, seed);
	assert_int_equal(client_load(c, handle, &at), 0);
	assert_false(client_is_coded(c, handle));
	assert_memory_equal(at, raw, RAW_BYTES);
	client_unpin(c, handle);
	free(raw);
}

static struct syn_window *share(const struct client *c, uint32_t plane)
{
	return &c->session->window[0][plane];
}

/* ---- where pages come to lie -------------------------------------------- */

static void test_resident_as_stored(void **state)
{
	struct fixture *f = *state;
	struct syn_ctl_page stat[2];
	uint64_t moved;
	uint64_t page;
	struct client c;
	uint64_t next;

	begin(f, &c, CODED_SLOTS);
	page = page_full(&c, 5);
	assert_false(client_is_coded(&c, page));
	push(&c);
	moved = world_tier(&f->world, SYN_TIER_HBM).in_bytes;
	check_coded(&c, page, 5);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).in_bytes - moved,
			 CODED_BYTES);
	assert_int_equal(syn_mm_stat_pages(f->world.mm, 0, stat, 2, &next), 1);
	assert_true(stat[0].flags & SYN_PAGE_F_CODED);
	assert_true(stat[0].slot & SYN_SLOT_CODED);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).used_bytes,
			 36u << 10);
	client_close(&c);
}

/* Leaving is free, whatever came before: nothing is encoded twice. */
static void test_leaves_for_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t page[CODED_SLOTS + 4];
	struct syn_ctl_status before;
	struct syn_ctl_status after;
	struct client c;
	uint32_t round;
	uint32_t i;

	begin(f, &c, CODED_SLOTS);
	pages_below(&c, page, CODED_SLOTS + 4);
	before = world_stat(&f->world);
	for (round = 0; round < 3; round++)
		for (i = 0; i < CODED_SLOTS + 4; i++)
			check_coded(&c, page[i], i);
	after = world_stat(&f->world);
	assert_int_equal(after.encoded, before.encoded);
	assert_true(after.free_demotions >= before.free_demotions + 3 * 4);
	assert_int_equal(share(&c, SYN_PLANE_CODED)->charged, CODED_SLOTS);
	assert_int_equal(share(&c, SYN_PLANE_CANONICAL)->charged, 0);
	world_audit(&f->world);
	client_close(&c);
}

static void test_sealed_from_stored_bytes(void **state)
{
	struct fixture *f = *state;
	struct client c;
	uint64_t page;

	begin(f, &c, CODED_SLOTS);
	page = page_full(&c, 5);
	push(&c);
	assert_int_equal(client_seal(&c, page, 9, 0), 0);
	assert_true(client_is_coded(&c, page));
	check_coded(&c, page, 5);
	client_close(&c);
}

/* Raw copies come to canonical frames, encoded ones to theirs, in one batch. */
static void test_mixed_batch(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault fault[4];
	uint64_t page[4];
	struct client c;
	uint32_t i;

	begin(f, &c, CODED_SLOTS);
	for (i = 0; i < 4; i++)
		page[i] = i % 2 ? page_anchor(&c, i) : page_full(&c, i);
	push(&c);
	assert_int_equal(client_fault(&c, page, 4, fault), 0);
	for (i = 0; i < 4; i++) {
		const struct syn_loan *l = &c.loan[fault[i].loan];

		assert_int_equal(fault[i].res, SYN_FAULT_LOAN);
		assert_int_equal(!(l->dst_slot & SYN_SLOT_CODED), i % 2);
		assert_int_equal(l->bytes, i % 2 ? RAW_BYTES : CODED_BYTES);
		assert_int_equal(client_execute(&c, fault[i].loan), 0);
		assert_int_equal(client_loaded(&c, fault[i].loan, 0), 0);
	}
	for (i = 0; i < 4; i++) {
		if (i % 2)
			check_raw(&c, page[i], i);
		else
			check_coded(&c, page[i], i);
	}
	assert_int_equal(share(&c, SYN_PLANE_CODED)->charged, 2);
	assert_int_equal(share(&c, SYN_PLANE_CANONICAL)->charged, 2);
	client_close(&c);
}

/* Encoded by a copy, it leaves its canonical frame and comes back as stored. */
static void test_from_one_plane_to_the_other(void **state)
{
	struct fixture *f = *state;
	struct client c;
	uint64_t page;

	begin(f, &c, CODED_SLOTS);
	page = page_full(&c, 3);
	assert_int_equal(client_seal(&c, page, 9, 0), 0);
	assert_int_equal(client_persist(&c, page), 0);
	assert_int_equal(client_page(&c, page)->codec, SYN_CODEC_H4);
	check_raw(&c, page, 3);
	push(&c);
	check_coded(&c, page, 3);
	assert_int_equal(client_persist(&c, page), 0);
	client_close(&c);
}

/* The swap file has its only copy below: that is one, and is written anew. */
static void test_resident_and_in_the_swap_file(void **state)
{
	struct fixture *f = *state;
	struct syn_rec_page *pg;
	struct client c;
	uint64_t page;

	begin(f, &c, CODED_SLOTS);
	page = page_full(&c, 5);
	assert_int_equal(client_seal(&c, page, 9, 0), 0);
	push(&c);
	pg = client_page(&c, page);
	while (!syn_page_is(pg, SYN_PAGE_F_NVME)) {
		(void)syn_swap_out(f->world.mm, 0, false, SYN_NONE);
		world_settle(&f->world);
	}
	check_coded(&c, page, 5);
	world_settle(&f->world);
	/* What happens when host memory is short. */
	assert_int_equal(syn_lists_host(pg), SYN_LIST_DUP);
	syn_page_host_free(f->world.mm, 0);
	world_audit(&f->world);
	assert_int_equal(syn_move_out(f->world.mm, 0, SYN_NONE), 0);
	assert_false(syn_page_is(pg, SYN_PAGE_F_HBM | SYN_PAGE_F_HOST));
	check_coded(&c, page, 5);
	syn_page_host_free(f->world.mm, 0);
	assert_int_equal(client_persist(&c, page), 0);
	check_coded(&c, page, 5);
	assert_int_equal(world_stat(&f->world).encoded, 1);
	client_close(&c);
}

/* ---- how many ----------------------------------------------------------- */

/* Three of the four extents: 168 pages, where there were 48. */
static void test_more_pages_in_the_same_memory(void **state)
{
	static uint64_t page[168];
	struct fixture *f = *state;
	struct syn_ctl_tier hbm;
	struct client c;
	uint32_t i;

	begin(f, &c, 168);
	hbm = world_tier(&f->world, SYN_TIER_HBM);
	assert_int_equal(hbm.extent_bytes, hbm.budget_bytes);
	pages_below(&c, page, 168);
	for (i = 0; i < 168; i++)
		check_coded(&c, page[i], i);
	for (i = 0; i < 168; i++)
		assert_int_equal(client_state(&c, page[i]), SYN_PTE_RESIDENT);
	hbm = world_tier(&f->world, SYN_TIER_HBM);
	assert_int_equal(hbm.extent_bytes, hbm.budget_bytes);
	assert_int_equal(hbm.used_bytes, 168u * (36u << 10));
	client_close(&c);
}

/* Both guarantees or none. */
static void test_window_past_the_budget(void **state)
{
	struct fixture *f = *state;
	struct syn_msg_coded_reply reply;
	struct client c;

	client_open(&c, &f->world, 1);
	assert_int_equal(syn_mm_window_open_coded(c.session, f->space, SLOTS,
						  3 * 56 + 1, &reply),
			 -EDQUOT);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 0);
	world_audit(&f->world);
	assert_int_equal(syn_mm_window_open_coded(c.session, f->space, SLOTS,
						  3 * 56, &reply),
			 0);
	assert_int_equal(reply.slots, SLOTS);
	assert_int_equal(reply.coded_slots, 3 * 56);
	assert_int_equal(reply.stride, RAW_BYTES);
	assert_int_equal(reply.coded_stride, 36u << 10);
	assert_int_equal(reply.range_slots, 4 * 16);
	assert_int_equal(reply.coded_range, 4 * 56);
	assert_int_equal(
		syn_mm_window_open_coded(c.session, f->space, 1, 1, &reply),
		-EEXIST);
	client_close(&c);
}

static void test_windows_that_cannot_be(void **state)
{
	struct fixture *f = *state;
	struct syn_msg_window_reply window;
	struct syn_msg_coded_reply reply;
	struct client c;

	client_open(&c, &f->world, 1);
	assert_int_equal(syn_mm_window_open(c.session, f->space, 1, &window),
			 -EINVAL);
	assert_int_equal(
		syn_mm_window_open_coded(c.session, f->plain, 1, 1, &reply),
		-EINVAL);
	assert_int_equal(
		syn_mm_window_open_coded(c.session, f->space, 1, 0, &reply),
		-EINVAL);
	assert_int_equal(
		syn_mm_window_open_coded(c.session, f->space, 0, 1, &reply),
		-EINVAL);
	assert_int_equal(syn_mm_window_open_coded(c.session, 99, 1, 1, &reply),
			 -ENOENT);
	assert_int_equal(syn_mm_window_open(c.session, f->plain, 1, &window),
			 0);
	client_close(&c);
}

static void test_spaces_that_cannot_be(void **state)
{
	struct fixture *f = *state;
	uint32_t space;

	assert_int_equal(
		space_of(f, SYN_SPACE_F_CODED, SYN_CODEC_RAW16, &space),
		-EINVAL);
	assert_int_equal(space_of(f, 2, SYN_CODEC_H4, &space), -EINVAL);
	assert_int_equal(space_of(f, SYN_SPACE_F_CODED, SYN_CODEC_H4, &space),
			 0);
	assert_int_equal(space, f->space);
}

/* As many as there are slots, and one more, of each plane. */
static void test_batch_limits(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault fault[CODED_SLOTS + 1];
	uint64_t coded[CODED_SLOTS + 1];
	uint64_t raw[SLOTS + 1];
	struct client c;
	uint32_t i;

	begin(f, &c, CODED_SLOTS);
	for (i = 0; i < SLOTS + 1; i++)
		raw[i] = page_anchor(&c, 100 + i);
	pages_below(&c, coded, CODED_SLOTS + 1);
	assert_int_equal(client_fault(&c, coded, CODED_SLOTS + 1, fault),
			 -E2BIG);
	assert_int_equal(client_fault(&c, raw, SLOTS + 1, fault), -E2BIG);
	assert_int_equal(syn_mm_loans(c.session), 0);
	assert_int_equal(client_fault(&c, coded, CODED_SLOTS, fault), 0);
	for (i = 0; i < CODED_SLOTS; i++)
		assert_int_equal(client_loaded(&c, fault[i].loan, 0), 0);
	assert_int_equal(client_fault(&c, raw, SLOTS, fault), 0);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_loaded(&c, fault[i].loan, 0), 0);
	world_audit(&f->world);
	client_close(&c);
}

/* A plane that is full of pinned pages refuses; the other goes on. */
static void test_planes_apart(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault fault;
	uint64_t page[CODED_SLOTS + 1];
	uint64_t anchor;
	struct client c;
	uint32_t *at;
	uint32_t i;

	begin(f, &c, CODED_SLOTS);
	anchor = page_anchor(&c, 77);
	pages_below(&c, page, CODED_SLOTS + 1);
	for (i = 0; i < CODED_SLOTS; i++)
		assert_int_equal(client_load(&c, page[i], &at), 0);
	assert_int_equal(client_fault(&c, &page[CODED_SLOTS], 1, &fault),
			 SYN_E_BACKPRESSURE);
	check_raw(&c, anchor, 77);
	client_unpin(&c, page[0]);
	check_coded(&c, page[CODED_SLOTS], CODED_SLOTS);
	assert_int_equal(client_state(&c, page[0]), SYN_PTE_ABSENT);
	for (i = 1; i < CODED_SLOTS; i++)
		client_unpin(&c, page[i]);
	client_close(&c);
}

/* ---- several ------------------------------------------------------------ */

/* Who leaves hands the charge on, to the share of the same plane. */
static void test_charge_goes_on(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_key key = { .key = { 9, ~9ull } };
	struct client a;
	struct client b;
	uint64_t found;
	uint64_t miss;
	uint64_t page;

	begin(f, &a, CODED_SLOTS);
	begin(f, &b, CODED_SLOTS);
	page = page_full(&a, 5);
	assert_int_equal(client_seal(&a, page, 9, 0), 0);
	push(&a);
	check_coded(&a, page, 5);
	assert_int_equal(syn_mm_lookup(b.session, 0, 4, &key, 1, &found, &miss),
			 1);
	client_extents(&b);
	check_coded(&b, found, 5);
	assert_int_equal(share(&a, SYN_PLANE_CODED)->charged, 1);
	client_close(&a);
	assert_int_equal(share(&b, SYN_PLANE_CODED)->charged, 1);
	assert_int_equal(share(&b, SYN_PLANE_CANONICAL)->charged, 0);
	check_coded(&b, found, 5);
	assert_int_equal(client_release(&b, found), 0);
	world_settle(&f->world);
	/* Nobody's now; its first user has it charged again. */
	assert_int_equal(share(&b, SYN_PLANE_CODED)->pool->cached.nr, 1);
	assert_int_equal(syn_mm_lookup(b.session, 0, 4, &key, 1, &found, &miss),
			 1);
	assert_int_equal(share(&b, SYN_PLANE_CODED)->charged, 1);
	client_close(&b);
}

/* Killed with a loan out and a page pinned: both frames wait for its end. */
static void test_death_with_loans(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault fault[2];
	uint64_t page[3];
	struct client a;
	struct client b;
	uint32_t *at;

	begin(f, &a, CODED_SLOTS);
	begin(f, &b, CODED_SLOTS);
	pages_below(&a, page, 3);
	assert_int_equal(client_load(&a, page[0], &at), 0);
	assert_int_equal(client_fault(&a, page + 1, 2, fault), 0);
	syn_mm_session_end(a.session);
	assert_int_equal(a.loan[fault[0].loan].state, SYN_LOAN_VOID);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 3);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).quarantine_bytes,
			 3u * (36u << 10));
	assert_int_equal(share(&a, SYN_PLANE_CODED)->charged, 3);
	world_audit(&f->world);
	pages_below(&b, page, 3);
	check_coded(&b, page[2], 2);
	client_close(&a);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	client_close(&b);
}

/* It failed, and the stream may still write there: the slot waits. */
static void test_failed_loan(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault fault;
	struct client c;
	uint64_t page;

	begin(f, &c, CODED_SLOTS);
	pages_below(&c, &page, 1);
	c.timeline[1].issued = 4;
	assert_int_equal(client_fault(&c, &page, 1, &fault), 0);
	assert_int_equal(client_loaded(&c, fault.loan, -EIO), 0);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	assert_int_equal(share(&c, SYN_PLANE_CODED)->going, 1);
	world_audit(&f->world);
	c.timeline[1].done = 4;
	world_settle(&f->world);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	assert_int_equal(share(&c, SYN_PLANE_CODED)->charged, 0);
	check_coded(&c, page, 0);
	client_close(&c);
}

static void test_bytes_that_do_not_verify(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault fault;
	struct client c;
	uint64_t page;
	uint32_t *at;

	begin(f, &c, CODED_SLOTS);
	pages_below(&c, &page, 1);
	assert_int_equal(client_fault(&c, &page, 1, &fault), 0);
	c.sums[(size_t)fault.loan * SYN_TILES_MAX + 3] ^= 1;
	assert_int_equal(client_execute(&c, fault.loan), -EILSEQ);
	assert_int_equal(client_loaded(&c, fault.loan, -EILSEQ), 0);
	assert_int_equal(client_load(&c, page, &at), SYN_E_LOST);
	client_close(&c);
}

/* ---- after a restart ---------------------------------------------------- */

static void test_found_again(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_key key = { .key = { 9, ~9ull } };
	struct syn_why_ask ask = { .key = { 9, ~9ull }, .domain = SYN_WHY_ANY };
	struct syn_ctl_why why[4];
	struct client c;
	uint64_t page;
	uint64_t miss;

	begin(f, &c, CODED_SLOTS);
	page = page_full(&c, 5);
	assert_int_equal(client_seal(&c, page, 9, 0), 0);
	assert_int_equal(client_persist(&c, page), 0);
	client_close(&c);
	world_close(&f->world);
	world_begin(f);
	begin(f, &c, CODED_SLOTS);
	(void)client_window(&c, f->plain, 1);
	assert_int_equal(syn_mm_lookup(c.session, 1, 4, &key, 1, &page, &miss),
			 0);
	assert_int_equal(syn_mm_lookup(c.session, 0, 4, &key, 1, &page, &miss),
			 1);
	check_coded(&c, page, 5);
	/* Told once, although the space has two pools. */
	ask.space = f->space;
	assert_int_equal(syn_mm_why(f->world.mm, &ask, why, 4), 1);
	assert_int_equal(why[0].cause, SYN_WHY_FIDELITY);
	ask.space = f->plain;
	assert_int_equal(syn_mm_why(f->world.mm, &ask, why, 4), 1);
	assert_int_equal(why[0].cause, SYN_WHY_IDENTITY);
	assert_int_equal(why[0].field, SYN_FIELD_CODED);
	client_close(&c);
}

/* ---- nothing by halves -------------------------------------------------- */

static int life(struct fixture *f, struct client *c)
{
	struct syn_msg_coded_reply reply;
	int r = client_join(c, 1);

	return r ? r
		 : syn_mm_window_open_coded(c->session, f->space, 1, 1, &reply);
}

static void test_every_allocation_fails(void **state)
{
	struct fixture *f = *state;
	unsigned int n = 0;
	bool hit;

	do {
		struct client c;

		client_init(&c, &f->world);
		syn_fault_arm(++n);
		(void)life(f, &c);
		hit = syn_fault_disarm();
		world_audit(&f->world);
		if (c.session)
			client_close(&c);
		else
			client_deinit(&c);
		world_settle(&f->world);
		assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents,
				 0);
	} while (hit);
	assert_true(n > 12);
}

#define CODED_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CODED_TEST(test_resident_as_stored),
		CODED_TEST(test_leaves_for_nothing),
		CODED_TEST(test_sealed_from_stored_bytes),
		CODED_TEST(test_mixed_batch),
		CODED_TEST(test_from_one_plane_to_the_other),
		CODED_TEST(test_resident_and_in_the_swap_file),
		CODED_TEST(test_more_pages_in_the_same_memory),
		CODED_TEST(test_window_past_the_budget),
		CODED_TEST(test_windows_that_cannot_be),
		CODED_TEST(test_spaces_that_cannot_be),
		CODED_TEST(test_batch_limits),
		CODED_TEST(test_planes_apart),
		CODED_TEST(test_charge_goes_on),
		CODED_TEST(test_death_with_loans),
		CODED_TEST(test_failed_loan),
		CODED_TEST(test_bytes_that_do_not_verify),
		CODED_TEST(test_found_again),
		CODED_TEST(test_every_allocation_fails),
	};

	return test_main(tests);
}
