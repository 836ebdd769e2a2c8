/* SPDX-License-Identifier: Apache-2.0 */
/* Guarantees, extents that come and go, sessions that end, failures. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/base/fault.h"
#include "core/dev.h"

/* 128 KiB a page: 16 frames in the smallest extent. */
#define TOKENS 64u
#define SLOTS  8u

struct fixture {
	struct world world;
	struct client a;
	struct client b;
	uint32_t space;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	world_open(&f->world, 16 * MIB, 16 * MIB, 256, 0, 0);
	f->space = world_space(&f->world, TOKENS, 4, 128);
	client_open(&f->a, &f->world, 1);
	client_open(&f->b, &f->world, 1);
	(void)client_window(&f->a, f->space, SLOTS);
	(void)client_window(&f->b, f->space, SLOTS);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	world_audit(&f->world);
	if (f->a.session)
		client_close(&f->a);
	client_close(&f->b);
	world_close(&f->world);
	free(f);
	return 0;
}

/* ---- guarantees and extents --------------------------------------------- */

static void test_guarantee(void **state)
{
	struct syn_msg_window_reply reply;
	struct client many[4];
	struct world w;
	uint32_t space;
	uint32_t i;

	/* 8 extents of 16 slots. */
	world_open(&w, 16 * MIB, 16 * MIB, 256, 0, 0);
	space = world_space(&w, TOKENS, 4, 128);
	client_open(&many[0], &w, 1);
	assert_int_equal(
		syn_mm_window_open(many[0].session, space + 1, 1, &reply),
		-ENOENT);
	assert_int_equal(syn_mm_window_open(many[0].session, space, 0, &reply),
			 -EINVAL);
	assert_int_equal(
		syn_mm_window_open(many[0].session, space, 129, &reply),
		-EDQUOT);
	assert_int_equal(world_tier(&w, SYN_TIER_HBM).nr_extents, 0);
	assert_int_equal(
		syn_mm_window_open(many[0].session, space, 128, &reply), 0);
	assert_int_equal(reply.range_slots, 128);
	assert_int_equal(reply.stride, 128 << 10);
	assert_int_equal(world_tier(&w, SYN_TIER_HBM).nr_extents, 8);
	assert_int_equal(syn_mm_window_open(many[0].session, space, 1, &reply),
			 -EEXIST);
	/* Neither the same pool nor another has room now. */
	client_open(&many[1], &w, 1);
	assert_int_equal(syn_mm_window_open(many[1].session, space, 1, &reply),
			 -EDQUOT);
	client_open(&many[2], &w, 2);
	assert_int_equal(syn_mm_window_open(many[2].session, space, 1, &reply),
			 -EDQUOT);
	world_audit(&w);
	client_close(&many[0]);
	assert_int_equal(world_tier(&w, SYN_TIER_HBM).nr_extents, 0);
	(void)client_window(&many[2], space, 64);
	(void)client_window(&many[1], space, 64);
	for (i = 1; i < 3; i++)
		client_close(&many[i]);
	assert_int_equal(world_tier(&w, SYN_TIER_HBM).nr_extents, 0);
	world_close(&w);
}

static void test_windows_limit(void **state)
{
	struct fixture *f = *state;
	struct syn_msg_window_reply reply;
	uint32_t i;

	/* In a budget of 8 extents, of which one is taken. */
	for (i = 1; i <= 7; i++)
		(void)client_window(&f->a, world_space(&f->world, i, 1, 16), 1);
	assert_int_equal(syn_mm_window_open(f->a.session,
					    world_space(&f->world, i, 1, 16), 1,
					    &reply),
			 -EDQUOT);
	world_audit(&f->world);
}

/* Slots of the pool are told before they are used, and retired after. */
static void test_retire(void **state)
{
	struct fixture *f = *state;
	const struct syn_mem *mem;
	struct syn_msg_extent msg;
	struct client c;
	uint32_t id;

	client_open(&c, &f->world, 1);
	(void)client_window(&c, f->space, 32);
	/* The others must hear of two new extents before they are used. */
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 3);
	client_extents(&f->a);
	assert_int_equal(f->a.nr_extents, 3);
	assert_int_equal(syn_mm_extent_next(f->b.session, &msg, &mem), 1);
	assert_int_equal(msg.tier, SYN_TIER_HBM);
	assert_int_equal(msg.nr_frames, 16);
	assert_int_equal(mem->id, msg.extent);
	/* Not told yet: it comes again. */
	assert_int_equal(syn_mm_extent_next(f->b.session, &msg, &mem), 1);
	client_close(&c);
	/* Empty and surplus: one maps them, the other never heard of them. */
	assert_int_equal(syn_mm_extent_next(f->b.session, &msg, &mem), 0);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 3);
	assert_int_equal(syn_mm_retired(f->a.session, msg.extent), -ENOENT);
	assert_int_equal(syn_mm_retired(f->a.session, UINT64_MAX), -ENOENT);
	assert_int_equal(syn_mm_retire_next(f->a.session, &id), 1);
	world_audit(&f->world);
	client_extents(&f->a);
	assert_int_equal(f->a.nr_extents, 1);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 1);
	assert_int_equal(syn_mm_retire_next(f->a.session, &id), 0);
}

/* Who does not acknowledge is charged until it exits. */
static void test_retire_by_exit(void **state)
{
	struct fixture *f = *state;
	struct client c;
	uint32_t id;

	client_open(&c, &f->world, 1);
	(void)client_window(&c, f->space, 32);
	client_extents(&f->a);
	client_close(&c);
	while (syn_mm_retire_next(f->a.session, &id))
		syn_mm_retire_told(f->a.session, id);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 3);
	client_close(&f->a);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 1);
}

/* A host extent is told with the first loan from it, and to its domain. */
static void test_host_extent_told(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault answer;
	const struct syn_mem *mem;
	struct syn_msg_extent msg;
	uint64_t hint;
	uint64_t h[SLOTS + 1];
	uint32_t i;

	for (i = 0; i < SLOTS + 1; i++)
		h[i] = client_full(&f->a, 0, i);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HOST).nr_extents, 1);
	assert_int_equal(syn_mm_extent_next(f->a.session, &msg, &mem), 0);
	while (syn_mm_fault(f->a.session, h, 1, &answer, &hint))
		(void)world_poll(&f->world);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	assert_int_equal(syn_mm_extent_next(f->a.session, &msg, &mem), 1);
	assert_int_equal(msg.tier, SYN_TIER_HOST);
	assert_int_equal(msg.extent, f->a.loan[answer.loan].src_extent);
	assert_int_equal(syn_mm_extent_next(f->b.session, &msg, &mem), 0);
}

/* What others leave behind does not eat into a guarantee. */
static void test_cached_make_way(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint64_t got;
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_release(&f->a, client_sealed(&f->a, 0,
								     i, i + 1)),
				 0);
	assert_int_equal(f->a.session->window[0][0].charged, 0);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_lease(&f->a, 0, 1, &h[i]), 0);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_lease(&f->b, 0, 1, &h[i]), 0);
	world_audit(&f->world);
	/* They were moved, not lost. */
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_release(&f->b, h[i]), 0);
	for (i = 0; i < SLOTS; i++) {
		assert_int_equal(client_lookup(&f->b, 0, i + 1, &got, &miss),
				 1);
		assert_int_equal(client_check(&f->b, got, i), 0);
	}
}

/* Nor do slots that another session waits for, however long that takes. */
static void test_cached_make_way_meanwhile(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	struct client c;
	uint32_t i;

	client_open(&c, &f->world, 1);
	(void)client_window(&c, f->space, 4);
	assert_int_equal(client_lease(&f->a, 0, 4, h), 0);
	f->a.timeline[0].issued = 1;
	syn_mm_session_end(f->a.session);
	for (i = 0; f->b.session->window[0][0].pool->nr_free; i++)
		assert_int_equal(client_release(&f->b, client_sealed(&f->b, 0,
								     i, i + 1)),
				 0);
	assert_int_equal(f->b.session->window[0][0].charged, 0);
	for (i = 0; i < 4; i++)
		assert_int_equal(client_lease(&c, 0, 1, &h[i]), 0);
	world_audit(&f->world);
	client_close(&c);
}

/* Nobody's pages do not keep HBM from those who want a window. */
static void test_pool_shrinks(void **state)
{
	struct fixture *f = *state;
	struct syn_msg_window_reply reply;
	struct client c;
	uint64_t got;
	uint64_t miss;
	uint32_t i;

	client_open(&c, &f->world, 2);
	(void)client_window(&c, f->space, 16);
	for (i = 0; i < 16; i++)
		(void)client_sealed(&c, 0, i, i + 1);
	client_close(&c);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 2);
	world_settle(&f->world);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 1);
	client_open(&c, &f->world, 2);
	(void)client_window(&c, f->space, 7 * 16);
	for (i = 0; i < 16; i++) {
		assert_int_equal(client_lookup(&c, 0, i + 1, &got, &miss), 1);
		assert_int_equal(client_check(&c, got, i), 0);
	}
	client_close(&f->a);
	client_open(&f->a, &f->world, 3);
	assert_int_equal(syn_mm_window_open(f->a.session, f->space, 1, &reply),
			 -EDQUOT);
	client_close(&c);
	world_settle(&f->world);
	(void)client_window(&f->a, f->space, 7 * 16);
}

static void test_charge_moves(void **state)
{
	struct fixture *f = *state;
	uint64_t h = client_sealed(&f->a, 0, 1, 1);
	uint64_t got;
	uint64_t miss;

	assert_int_equal(client_lookup(&f->b, 0, 1, &got, &miss), 1);
	assert_int_equal(f->a.session->window[0][0].charged, 1);
	assert_int_equal(f->b.session->window[0][0].charged, 0);
	assert_int_equal(client_release(&f->a, h), 0);
	assert_int_equal(f->a.session->window[0][0].charged, 0);
	assert_int_equal(f->b.session->window[0][0].charged, 1);
	assert_int_equal(client_release(&f->b, got), 0);
	assert_int_equal(f->b.session->window[0][0].charged, 0);
	/* Nobody's, until somebody takes it. */
	assert_int_equal(client_lookup(&f->b, 0, 1, &got, &miss), 1);
	assert_int_equal(f->b.session->window[0][0].charged, 1);
}

/* ---- the end of a session ----------------------------------------------- */

/* Everything of @a is back; what was sealed and ready is still there. */
static void gone(struct fixture *f, uint32_t pages)
{
	world_settle(&f->world);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	assert_int_equal(world_stat(&f->world).nr_pages, pages);
}

static void test_death_plain(void **state)
{
	struct fixture *f = *state;
	uint64_t h[2];
	uint64_t miss;

	assert_int_equal(client_lease(&f->a, 0, 2, h), 0);
	(void)client_full(&f->a, 0, 1);
	(void)client_sealed(&f->a, 0, 7, 1);
	client_close(&f->a);
	gone(f, 1);
	assert_int_equal(client_lookup(&f->b, 0, 1, h, &miss), 1);
	assert_int_equal(client_check(&f->b, h[0], 7), 0);
}

static void test_detach_drains(void **state)
{
	struct fixture *f = *state;
	uint64_t h;

	assert_int_equal(client_lease(&f->a, 0, 1, &h), 0);
	f->a.timeline[0].issued = 1;
	syn_mm_session_end(f->a.session);
	assert_false(syn_mm_session_idle(f->a.session));
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	world_settle(&f->world);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, 1);
	f->a.timeline[0].done = 1;
	world_settle(&f->world);
	assert_true(syn_mm_session_idle(f->a.session));
	gone(f, 0);
	client_close(&f->a);
	assert_int_equal(world_stat(&f->world).detaches, 1);
	assert_int_equal(world_stat(&f->world).reaped, 0);
}

static void test_death_pinned(void **state)
{
	struct fixture *f = *state;
	uint64_t h = client_sealed(&f->b, 0, 3, 5);
	uint64_t got;
	uint64_t miss;
	uint32_t *at;
	uint32_t i;

	assert_int_equal(client_lookup(&f->a, 0, 5, &got, &miss), 1);
	assert_int_equal(client_pin(&f->a, got, &at), 0);
	assert_int_equal(client_lease(&f->a, 0, 1, &got), 0);
	syn_mm_session_end(f->a.session);
	assert_false(syn_mm_session_idle(f->a.session));
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	/* The shared page goes on, but stays where it is. */
	for (i = 0; i < 2 * SLOTS; i++)
		(void)client_full(&f->b, 0, i);
	assert_int_equal(client_state(&f->b, h), SYN_PTE_RESIDENT);
	world_audit(&f->world);
	client_close(&f->a);
	assert_int_equal(world_stat(&f->world).reaped, 1);
	for (i = 0; i < 2 * SLOTS; i++)
		(void)client_full(&f->b, 0, i);
	assert_int_equal(client_state(&f->b, h), SYN_PTE_ABSENT);
	assert_int_equal(client_check(&f->b, h, 3), 0);
}

static void test_death_with_loans(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault answer[2];
	uint64_t h[SLOTS + 2];
	uint64_t got;
	uint64_t miss;
	uint32_t i;

	h[0] = client_sealed(&f->a, 0, 0, 1);
	for (i = 1; i < SLOTS + 2; i++)
		h[i] = client_full(&f->a, 0, i);
	assert_int_equal(client_state(&f->a, h[1]), SYN_PTE_ABSENT);
	assert_int_equal(client_lookup(&f->b, 0, 1, &got, &miss), 1);
	assert_int_equal(client_fault(&f->a, h, 2, answer), 0);
	assert_int_equal(answer[0].res, SYN_FAULT_LOAN);
	assert_int_equal(client_state(&f->b, got), SYN_PTE_FILLING);
	syn_mm_session_end(f->a.session);
	world_audit(&f->world);
	assert_int_equal(f->a.loan[answer[0].loan].state, SYN_LOAN_VOID);
	/* Its slots wait; the page itself is to be had. */
	assert_int_equal(client_state(&f->b, got), SYN_PTE_ABSENT);
	assert_int_equal(f->a.session->nr_quarantined, 2);
	assert_int_equal(client_check(&f->b, got, 0), 0);
	client_close(&f->a);
	gone(f, 1);
}

static void test_death_while_moving(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint64_t more;
	uint64_t hint;
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		h[i] = client_full(&f->a, 0, i);
	syn_dev_host_set_delay(f->world.dev, 5000000);
	(void)syn_mm_lease(f->a.session, 0, 4, &more, &hint);
	assert_int_equal(client_state(&f->a, h[0]), SYN_PTE_LEAVING);
	client_close(&f->a);
	world_audit(&f->world);
	gone(f, 0);
}

/* Ended while its page waits for its timelines. */
static void test_death_while_draining(void **state)
{
	struct fixture *f = *state;
	uint64_t more;
	uint64_t hint;
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		(void)client_full(&f->a, 0, i);
	f->a.timeline[0].issued = 1;
	assert_int_equal(syn_mm_lease(f->a.session, 0, 1, &more, &hint),
			 SYN_MM_E_WAIT);
	syn_mm_session_end(f->a.session);
	world_settle(&f->world);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, SLOTS);
	client_close(&f->a);
	gone(f, 0);
}

/* Pins and timelines that make no sense hurt nobody else. */
static void test_garbage(void **state)
{
	struct fixture *f = *state;
	uint64_t h = client_sealed(&f->b, 0, 3, 5);
	uint64_t got;
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		(void)client_full(&f->a, 0, i);
	for (i = 0; i < CLIENT_PAGES; i++)
		f->a.pin[i] = 0xa5a5a5a5u * (i + 1) | 1;
	for (i = 0; i < CLIENT_LINES; i++)
		f->a.timeline[i] = (struct syn_timeline){
			.issued = UINT64_MAX - i,
			.done = i & 1 ? UINT64_MAX : 3,
		};
	assert_int_equal(client_lookup(&f->a, 0, 5, &got, &miss), 1);
	for (i = 0; i < 3 * SLOTS; i++)
		(void)client_full(&f->b, 0, i);
	assert_int_equal(client_check(&f->b, h, 3), 0);
	assert_int_equal(client_lease(&f->a, 0, 1, &got), SYN_E_BACKPRESSURE);
	syn_mm_session_end(f->a.session);
	world_settle(&f->world);
	world_audit(&f->world);
	client_close(&f->a);
	gone(f, 3 * SLOTS + 1);
}

static void test_sessions_limit(void **state)
{
	struct fixture *f = *state;
	struct client c[7];
	uint32_t i;

	for (i = 0; i < 7; i++) {
		client_init(&c[i], &f->world);
		assert_int_equal(client_join(&c[i], 1), i < 6 ? 0 : -EUSERS);
	}
	/* An ended one counts until it is gone. */
	syn_mm_session_end(c[0].session);
	assert_int_equal(client_join(&c[6], 1), -EUSERS);
	syn_mm_session_exited(c[0].session);
	assert_int_equal(client_join(&c[6], 1), 0);
	client_deinit(&c[0]);
	for (i = 1; i < 7; i++)
		client_close(&c[i]);
}

/* ---- every failure ------------------------------------------------------ */

static void test_new_fails(void **state)
{
	struct syn_dev_host_config dev_config = { 0 };
	struct syn_mm_config config = {
		.hbm_bytes = 16 * MIB,
		.host_bytes = 16 * MIB,
		.max_pages = 64,
		.max_sessions = 2,
		.codec = SYN_CODEC_RAW16,
	};
	unsigned int n = 0;
	int r;

	assert_int_equal(syn_dev_host_open(&config.dev, &dev_config), 0);
	do {
		struct syn_mm *mm = NULL;

		config.kept = calloc(1, syn_mm_kept_bytes(&config));
		syn_fault_arm(++n);
		r = syn_mm_new(&mm, &config);
		assert_int_equal(syn_fault_disarm(), r != 0);
		assert_null(syn_mm_free(mm));
		free(config.kept);
	} while (r);
	assert_true(n > 5);
	config.dev->ops->close(config.dev);
	config.max_pages = 0;
	assert_int_equal(syn_mm_kept_bytes(&config), 0);
	assert_int_equal(syn_mm_new(&(struct syn_mm *){ NULL }, &config),
			 -EINVAL);
}

/* One life of a client; the first failure is the answer. */
static int life(struct client *c, uint32_t space)
{
	struct syn_msg_window_reply reply;
	uint64_t h[4];
	uint64_t hint;
	uint32_t i;
	int r;

	r = client_join(c, 1);
	if (r)
		return r;
	r = syn_mm_window_open(c->session, space, 20, &reply);
	if (r)
		return r;
	client_extents(c);
	for (i = 0; i < 8; i++) {
		r = client_lease(c, 0, 4, h);
		if (r)
			return r;
		r = client_commit(c, h[0], TOKENS) ||
		    client_commit(c, h[1], TOKENS) ||
		    client_commit(c, h[2], TOKENS) ||
		    client_commit(c, h[3], TOKENS);
		if (r)
			return r;
	}
	for (i = 0; i < 8; i++) {
		struct syn_vec_fault answer;

		h[0] = SYN_HANDLE(1, i);
		r = client_fault(c, h, 1, &answer);
		if (r)
			return r;
		if (answer.res == SYN_FAULT_LOAN)
			r = client_loaded(c, answer.loan,
					  client_execute(c, answer.loan));
		if (r)
			return r;
	}
	return syn_mm_release(c->session, h, 1)
		       ? -EIO
		       : (int)(syn_mm_poll(c->world->mm, c->world->now_ns,
					   &hint) &&
			       0);
}

static void test_life_fails(void **state)
{
	unsigned int n = 0;
	int before = test_count_fds();
	struct world w;
	uint32_t space;
	bool hit;

	world_open(&w, 16 * MIB, 16 * MIB, 64, 0, 0);
	space = world_space(&w, TOKENS, 4, 128);
	do {
		struct client c;

		client_init(&c, &w);
		syn_fault_arm(++n);
		(void)life(&c, space);
		hit = syn_fault_disarm();
		world_audit(&w);
		if (c.session)
			client_close(&c);
		else
			client_deinit(&c);
		world_settle(&w);
		world_audit(&w);
		assert_int_equal(world_stat(&w).nr_pages, 0);
		assert_int_equal(world_tier(&w, SYN_TIER_HBM).nr_extents, 0);
		w.now_ns += 2 * SYN_COPY_BACKOFF_NS;
	} while (hit);
	assert_true(n > 8);
	world_close(&w);
	assert_int_equal(test_count_fds(), before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guarantee),
		TEST(test_windows_limit),
		TEST(test_retire),
		TEST(test_retire_by_exit),
		TEST(test_host_extent_told),
		TEST(test_cached_make_way),
		TEST(test_cached_make_way_meanwhile),
		TEST(test_pool_shrinks),
		TEST(test_charge_moves),
		TEST(test_death_plain),
		TEST(test_detach_drains),
		TEST(test_death_pinned),
		TEST(test_death_with_loans),
		TEST(test_death_while_moving),
		TEST(test_death_while_draining),
		TEST(test_garbage),
		TEST(test_sessions_limit),
		cmocka_unit_test(test_new_fails),
		cmocka_unit_test(test_life_fails),
	};

	return test_main(tests);
}
