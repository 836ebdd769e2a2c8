/* SPDX-License-Identifier: Apache-2.0 */
/* Extents that the next worker cannot take over: what is lost, and what is not. */
#include "test/unit/core-crash.h"

#include <errno.h>

#include "core/base/base.h"
#include "core/pool.h"

#define SEGMENTS 4u
#define SLOTS	 16u /* of the window: an extent's */

/* A client with a window of one extent, and a swap file. */
struct fixture {
	struct world world;
	struct syn_simdisk *sim;
	struct client a;
	uint32_t space;
	uint32_t window;
};

static void fixture_open(struct fixture *f, uint32_t codec, uint64_t hbm_bytes)
{
	struct syn_mm_config config = {
		.hbm_bytes = hbm_bytes,
		.host_bytes = 16 * MIB,
		.max_pages = 128,
		.max_sessions = 4,
		.codec = codec,
	};

	*f = (struct fixture){ 0 };
	assert_int_equal(syn_simdisk_new(&f->sim, 2 * MIB, SEGMENTS, 1), 0);
	crash_world_open(&f->world, &config, f->sim, 1);
	client_open(&f->a, &f->world, 1);
}

static int setup(void **state)
{
	static struct fixture f;

	fixture_open(&f, SYN_CODEC_RAW16, 16 * MIB);
	f.space = world_space(&f.world, 128, 1, 256);
	f.window = client_window(&f.a, f.space, SLOTS);
	*state = &f;
	return 0;
}

static uint32_t coded_space(struct fixture *f, uint32_t flags)
{
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	space_fill(&msg, 128, 4, 64);
	msg.flags = flags;
	msg.component[0].codec = SYN_CODEC_H4;
	msg.component[1].codec = SYN_CODEC_H4;
	assert_int_equal(syn_mm_space_define(f->world.mm, &msg, &reply, &why),
			 0);
	return reply.space;
}

static int setup_coded(void **state)
{
	static struct fixture f;

	fixture_open(&f, SYN_CODEC_H4, 16 * MIB);
	f.space = coded_space(&f, SYN_SPACE_F_CODED);
	f.window = client_window_coded(&f.a, f.space, 8, 8);
	*state = &f;
	return 0;
}

static int setup_decoded(void **state)
{
	static struct fixture f;

	fixture_open(&f, SYN_CODEC_H4, 16 * MIB);
	f.space = coded_space(&f, 0);
	f.window = client_window(&f.a, f.space, 8);
	*state = &f;
	return 0;
}

/* The budget holds two extents, and the window has both. */
static int setup_full(void **state)
{
	static struct fixture f;

	fixture_open(&f, SYN_CODEC_RAW16, 4 * MIB);
	f.space = world_space(&f.world, 128, 1, 256);
	f.window = client_window(&f.a, f.space, 2 * SLOTS);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	client_close(&f->a);
	(void)world_evict(&f->world, UINT64_MAX);
	world_close(&f->world);
	crash_world_close(&f->world);
	assert_null(syn_simdisk_free(f->sim));
	return 0;
}

static uint32_t hbm_extent(const struct fixture *f, uint64_t handle)
{
	const struct syn_rec_page *pg = client_page(&f->a, handle);
	uint32_t frame;

	return syn_pool_slot(f->world.mm->pool[pg->pool], pg->slot, &frame)
		->mem.id;
}

static uint32_t host_extent(const struct fixture *f, uint64_t handle)
{
	return SYN_FRAME_EXTENT(client_page(&f->a, handle)->host);
}

/* A worker dies, and the next one does not find the extent. */
static void lose(struct fixture *f, uint32_t extent)
{
	crash_die(&f->world);
	crash_lose_extent(extent);
	f->world.recover(&f->world);
	assert_int_equal(f->world.mm->rec_extent[extent].state,
			 SYN_EXTENT_LOST);
}

/* It is asked to give up @extent, or nothing. */
static void asked(struct fixture *f, uint32_t extent)
{
	uint32_t id = SYN_NONE;

	world_settle(&f->world);
	world_audit(&f->world);
	(void)syn_mm_retire_next(f->a.session, &id);
	assert_int_equal(id, extent);
}

/* It does so, and then it is free. */
static void gives_up(struct fixture *f, uint32_t extent)
{
	asked(f, extent);
	client_extents(&f->a);
	assert_int_equal(f->world.mm->rec_extent[extent].state,
			 SYN_EXTENT_FREE);
	asked(f, SYN_NONE);
}

static bool is_lost(struct fixture *f, uint64_t handle, uint32_t seed)
{
	int r = client_check(&f->a, handle, seed);

	assert_true(!r || r == SYN_E_LOST);
	return r;
}

static void release(struct fixture *f, uint64_t handle)
{
	assert_int_equal(client_release(&f->a, handle), 0);
}

static void check_why(struct fixture *f, uint64_t key)
{
	const struct syn_why_ask ask = {
		.key = { key, ~key },
		.space = SYN_WHY_ANY,
		.domain = SYN_WHY_ANY,
	};
	struct syn_ctl_why why;

	assert_int_equal(syn_mm_why(f->world.mm, &ask, &why, 1), 1);
	assert_int_equal(why.cause, SYN_WHY_DEVICE);
}

/* ---- HBM ---------------------------------------------------------------- */

/* The one that is below, too, goes on from there. */
static void test_hbm(void **state)
{
	struct fixture *f = *state;
	uint64_t sealed = client_sealed(&f->a, f->window, 1, 11);
	uint64_t below = client_sealed(&f->a, f->window, 2, 22);
	uint64_t nobodys = client_sealed(&f->a, f->window, 3, 33);
	uint64_t full = client_full(&f->a, f->window, 4);
	uint32_t extent = hbm_extent(f, sealed);
	uint64_t found;
	uint64_t miss;

	assert_int_equal(client_persist(&f->a, below), 0);
	release(f, nobodys);
	lose(f, extent);
	/* There is room for what the window is sure of. */
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 2);
	assert_true(is_lost(f, sealed, 1));
	assert_false(is_lost(f, below, 2));
	assert_true(is_lost(f, full, 4));
	assert_int_equal(client_seal(&f->a, full, 44, 0), SYN_E_LOST);
	assert_int_equal(world_stat(&f->world).sum_failures, 3);
	check_why(f, 11);
	check_why(f, 33);
	assert_int_equal(client_lookup(&f->a, f->window, 11, &found, &miss), 0);
	assert_int_equal(miss, SYN_MISS_LOST);
	assert_int_equal(client_lookup(&f->a, f->window, 33, &found, &miss), 0);
	assert_int_equal(client_lookup(&f->a, f->window, 22, &found, &miss), 1);
	release(f, full);
	gives_up(f, extent);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 1);
	/* Whoever has the bytes may bring them again. */
	assert_int_equal(
		client_seal(&f->a, client_full(&f->a, f->window, 1), 11, 0), 0);
}

/* Who reads it has mapped it, and goes on until he is done. */
static void test_pinned(void **state)
{
	struct fixture *f = *state;
	uint64_t below = client_sealed(&f->a, f->window, 1, 11);
	uint64_t sealed = client_sealed(&f->a, f->window, 2, 22);
	uint32_t extent = hbm_extent(f, below);
	uint32_t *at[2];
	uint32_t *now;

	assert_int_equal(client_persist(&f->a, below), 0);
	assert_int_equal(client_pin(&f->a, below, &at[0]), 0);
	assert_int_equal(client_pin(&f->a, sealed, &at[1]), 0);
	lose(f, extent);
	asked(f, SYN_NONE);
	assert_int_equal(client_load(&f->a, below, &now), 0);
	assert_ptr_not_equal(now, at[0]);
	assert_memory_equal(now, at[0], client_bytes(&f->a, below));
	client_unpin(&f->a, below);
	client_unpin(&f->a, below);
	asked(f, SYN_NONE);
	assert_int_equal(*at[1], 2);
	f->a.timeline[1].issued = 7;
	client_unpin(&f->a, sealed);
	asked(f, SYN_NONE);
	f->a.timeline[1].done = 7;
	gives_up(f, extent);
}

/* Another worker does not know who was seen, and looks again. */
static void test_pinned_twice(void **state)
{
	struct fixture *f = *state;
	uint64_t sealed = client_sealed(&f->a, f->window, 1, 11);
	uint32_t extent = hbm_extent(f, sealed);
	uint32_t *at;

	assert_int_equal(client_pin(&f->a, sealed, &at), 0);
	lose(f, extent);
	f->world.recover(&f->world);
	asked(f, SYN_NONE);
	client_unpin(&f->a, sealed);
	asked(f, extent);
	f->world.recover(&f->world);
	/* It may have heard of that. */
	assert_int_equal(syn_mm_retired(f->a.session, extent), 0);
	assert_int_equal(f->world.mm->rec_extent[extent].state,
			 SYN_EXTENT_FREE);
}

/* Who writes a page does not pin it, and finds out when he commits. */
static void test_written(void **state)
{
	struct fixture *f = *state;
	uint32_t extent;
	uint64_t open;

	assert_int_equal(client_lease(&f->a, f->window, 1, &open), 0);
	extent = hbm_extent(f, open);
	lose(f, extent);
	asked(f, SYN_NONE);
	assert_int_equal(client_commit(&f->a, open, 5), -EILSEQ);
	asked(f, SYN_NONE);
	release(f, open);
	gives_up(f, extent);
}

/* One page more than there are slots; that one has left. */
static uint64_t absent_page(struct fixture *f, uint32_t *ret_seed)
{
	uint64_t handle[SLOTS + 1];
	uint64_t absent = 0;
	uint32_t i;

	for (i = 0; i < SLOTS + 1; i++)
		handle[i] = client_full(&f->a, f->window, i);
	for (i = 0; i < SLOTS + 1; i++) {
		if (client_state(&f->a, handle[i]) == SYN_PTE_ABSENT) {
			absent = handle[i];
			*ret_seed = i;
		} else if (i % 4 == 0) {
			release(f, handle[i]);
		}
	}
	assert_true(absent);
	return absent;
}

static uint32_t loan_of(struct fixture *f, uint64_t handle)
{
	struct syn_vec_fault answer;

	assert_int_equal(client_fault(&f->a, &handle, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	return answer.loan;
}

/* What is on its way into a slot that is lost is brought in once more. */
static void test_filled(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 0;
	uint64_t absent = absent_page(f, &seed);
	uint32_t loan = loan_of(f, absent);
	uint32_t extent = hbm_extent(f, absent);

	lose(f, extent);
	assert_int_equal(client_state(&f->a, absent), SYN_PTE_ABSENT);
	f->world.recover(&f->world);
	assert_int_equal(syn_mm_loans(f->a.session), 1);
	asked(f, SYN_NONE);
	assert_false(is_lost(f, absent, seed));
	assert_int_equal(
		client_loaded(&f->a, loan, client_execute(&f->a, loan)), 0);
	assert_int_equal(syn_mm_loans(f->a.session), 0);
	assert_false(is_lost(f, absent, seed));
}

/* Nor does it wait for a drain. */
static void test_quarantined(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 0;
	uint64_t absent = absent_page(f, &seed);
	uint32_t extent;
	uint32_t loan = loan_of(f, absent);

	extent = hbm_extent(f, absent);
	f->a.timeline[1].issued = 7;
	assert_int_equal(client_loaded(&f->a, loan, -EIO), 0);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	lose(f, extent);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	assert_int_equal(client_state(&f->a, absent), SYN_PTE_ABSENT);
	asked(f, SYN_NONE);
	f->a.timeline[1].done = 7;
	world_settle(&f->world);
	assert_false(is_lost(f, absent, seed));
}

/* Pages that were leaving, by a copy that was not made. */
static void test_leaving(void **state)
{
	struct fixture *f = *state;
	uint64_t handle[SLOTS];
	uint64_t hint;
	uint64_t more;
	uint32_t extent;
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		handle[i] = client_full(&f->a, f->window, i);
	extent = hbm_extent(f, handle[0]);
	assert_int_equal(syn_mm_lease(f->a.session, f->window, 1, &more, &hint),
			 SYN_MM_E_WAIT);
	for (i = 0; client_state(&f->a, handle[i]) != SYN_PTE_LEAVING; i++)
		assert_true(i < SLOTS);
	lose(f, extent);
	for (i = 0; i < SLOTS; i++) {
		assert_true(is_lost(f, handle[i], i));
		release(f, handle[i]);
	}
	gives_up(f, extent);
}

/* All of the budget is taken until the client has let go. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	uint64_t sealed = client_sealed(&f->a, f->window, 1, 11);
	uint32_t extent = hbm_extent(f, sealed);
	uint64_t handle[SLOTS + 1];
	uint32_t *at;

	assert_int_equal(client_pin(&f->a, sealed, &at), 0);
	lose(f, extent);
	assert_int_equal(client_lease(&f->a, f->window, SLOTS, handle), 0);
	assert_int_equal(client_lease(&f->a, f->window, 1, &handle[SLOTS]),
			 SYN_E_BACKPRESSURE);
	client_unpin(&f->a, sealed);
	gives_up(f, extent);
	assert_int_equal(client_lease(&f->a, f->window, 1, &handle[SLOTS]), 0);
	world_audit(&f->world);
}

/* Whoever was being told of it is told that it goes. */
static void test_told(void **state)
{
	struct fixture *f = *state;
	struct syn_msg_extent msg;
	const struct syn_mem *mem;
	struct client c;
	uint32_t window;

	client_open(&c, &f->world, 1);
	assert_int_equal(client_window_open(&c, f->space, SLOTS, &window), 0);
	assert_int_equal(syn_mm_extent_next(c.session, &msg, &mem), 1);
	lose(f, msg.extent);
	assert_int_equal(f->world.mm->rec_session[c.session->index].telling, 0);
	client_extents(&c);
	world_settle(&f->world);
	client_extents(&c);
	client_extents(&f->a);
	assert_int_equal(f->world.mm->rec_extent[msg.extent].state,
			 SYN_EXTENT_FREE);
	assert_int_equal(client_check(&c, client_full(&c, window, 1), 1), 0);
	client_close(&c);
}

/* ---- encoded pages ------------------------------------------------------ */

static uint64_t encoded_page(struct fixture *f)
{
	uint64_t other[8];
	uint64_t sealed;
	uint32_t *at;
	uint32_t i;

	assert_int_equal(client_lease(&f->a, f->window, 1, &sealed), 0);
	assert_int_equal(client_pin(&f->a, sealed, &at), 0);
	memset(at, 0x3c, client_bytes(&f->a, sealed));
	client_unpin(&f->a, sealed);
	assert_int_equal(client_commit(&f->a, sealed, 128), 0);
	assert_int_equal(client_seal(&f->a, sealed, 11, 0), 0);
	for (i = 0; i < 8; i++)
		other[i] = client_full(&f->a, f->window, 0);
	for (i = 0; i < 8; i++)
		release(f, other[i]);
	world_settle(&f->world);
	assert_int_equal(client_page(&f->a, sealed)->codec, SYN_CODEC_H4);
	return sealed;
}

/* As it is stored it lies in an extent of its own kind. */
static void test_coded(void **state)
{
	struct fixture *f = *state;
	uint64_t sealed = encoded_page(f);
	uint32_t extent;
	uint32_t *at;

	assert_int_equal(client_load(&f->a, sealed, &at), 0);
	assert_true(client_is_coded(&f->a, sealed));
	extent = hbm_extent(f, sealed);
	lose(f, extent);
	assert_int_equal(client_state(&f->a, sealed), SYN_PTE_ABSENT);
	client_unpin(&f->a, sealed);
	gives_up(f, extent);
	assert_int_equal(client_load(&f->a, sealed, &at), 0);
	assert_true(client_is_coded(&f->a, sealed));
	client_unpin(&f->a, sealed);
}

/* What was decoded is no substitute for what is lost below. */
static void test_decoded(void **state)
{
	struct fixture *f = *state;
	uint64_t sealed = encoded_page(f);
	uint32_t *at;

	assert_int_equal(client_load(&f->a, sealed, &at), 0);
	lose(f, host_extent(f, sealed));
	assert_int_equal(client_state(&f->a, sealed), SYN_PTE_LOST);
	world_audit(&f->world);
	/* Its slot is as good as before. */
	assert_true(client_page(&f->a, sealed)->flags & SYN_PAGE_F_HBM);
	client_unpin(&f->a, sealed);
	assert_true(is_lost(f, sealed, 0));
}

/* ---- host --------------------------------------------------------------- */

static void test_host(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 0;
	uint64_t both = client_sealed(&f->a, f->window, 101, 11);
	uint64_t nvme = client_sealed(&f->a, f->window, 102, 22);
	uint64_t absent;
	uint32_t extent;

	assert_int_equal(client_persist(&f->a, both), 0);
	assert_int_equal(client_persist(&f->a, nvme), 0);
	absent = absent_page(f, &seed);
	extent = host_extent(f, absent);
	assert_false(is_lost(f, both, 101));
	lose(f, extent);
	assert_false(is_lost(f, both, 101));
	assert_false(is_lost(f, nvme, 102));
	assert_true(is_lost(f, absent, seed));
	release(f, absent);
	gives_up(f, extent);
}

/* The library has the frame mapped, and knows what it must sum up to. */
static void test_lent(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 0;
	uint64_t absent = absent_page(f, &seed);
	uint32_t loan = loan_of(f, absent);
	uint32_t extent = host_extent(f, absent);

	lose(f, extent);
	assert_int_equal(client_state(&f->a, absent), SYN_PTE_FILLING);
	asked(f, SYN_NONE);
	assert_int_equal(
		client_loaded(&f->a, loan, client_execute(&f->a, loan)), 0);
	assert_false(is_lost(f, absent, seed));
	gives_up(f, extent);
}

static void test_lent_in_vain(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 0;
	uint64_t absent = absent_page(f, &seed);
	uint32_t loan = loan_of(f, absent);
	uint32_t extent = host_extent(f, absent);

	lose(f, extent);
	assert_int_equal(client_loaded(&f->a, loan, -EIO), 0);
	assert_true(is_lost(f, absent, seed));
	release(f, absent);
	gives_up(f, extent);
}

/* ---- what is not lost --------------------------------------------------- */

/* There may be descriptors and memory another time. */
static void test_not_now(void **state)
{
	static const int errors[] = { -EMFILE, -ENOMEM, -ENODEV };
	struct fixture *f = *state;
	struct world *w = &f->world;
	uint64_t sealed = client_sealed(&f->a, f->window, 1, 11);
	struct syn_misfit misfit;
	uint32_t i;

	for (i = 0; i < syn_array_size(errors); i++) {
		crash_die(w);
		crash_adopt_error(errors[i]);
		assert_int_equal(syn_mm_adopt(&w->mm, &w->config, &misfit),
				 errors[i]);
		assert_string_equal(misfit.what, "extent");
		assert_int_equal(misfit.was, 0);
	}
	w->recover(w);
	assert_false(is_lost(f, sealed, 1));
}

/* A worker dies at @p while it finds out. */
static void die_at(struct fixture *f, const struct syn_failpoint *p)
{
	struct syn_misfit misfit;

	crash_die(&f->world);
	crash_adopt_error(-EIO);
	crash_arm(p, 1);
	if (!_setjmp(f->world.env)) {
		f->world.guarded = true;
		(void)syn_mm_adopt(&f->world.mm, &f->world.config, &misfit);
		fail_msg("it was to die");
	}
	crash_arm(NULL, 0);
}

/* Once it is written down that it is lost it stays so, even if it is there again. */
static void test_stays_lost(void **state)
{
	struct fixture *f = *state;
	const struct syn_failpoint *p;
	uint32_t nr_lost = 0;
	uint32_t nr = 0;

	for (p = __start_syn_failpoints; p < __stop_syn_failpoints; p++) {
		uint64_t sealed;

		if (strcmp(p->func, "mem_adopt"))
			continue;
		nr++;
		sealed = client_sealed(&f->a, f->window, nr, nr);
		die_at(f, p);
		f->world.recover(&f->world);
		nr_lost += is_lost(f, sealed, nr);
		world_settle(&f->world);
		client_extents(&f->a);
	}
	assert_int_equal(nr, 2);
	assert_int_equal(nr_lost, 1);
}

#define TEST_OF(f, s) cmocka_unit_test_setup_teardown(f, s, teardown)
#define TEST(f)	      TEST_OF(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hbm),
		TEST(test_pinned),
		TEST(test_pinned_twice),
		TEST(test_written),
		TEST(test_filled),
		TEST(test_quarantined),
		TEST(test_leaving),
		TEST_OF(test_full, setup_full),
		TEST(test_told),
		TEST_OF(test_coded, setup_coded),
		TEST_OF(test_decoded, setup_decoded),
		TEST(test_host),
		TEST(test_lent),
		TEST(test_lent_in_vain),
		TEST(test_not_now),
		TEST(test_stays_lost),
	};

	return test_main(tests);
}
