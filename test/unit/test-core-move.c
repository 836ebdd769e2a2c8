/* SPDX-License-Identifier: Apache-2.0 */
/* Leaving HBM and coming back: reclaim, pins, timelines, loans, failures. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/move.h"

/* 128 KiB a page: 16 frames in the smallest extent. */
#define TOKENS 64u
#define SLOTS  8u

struct fixture {
	struct world world;
	struct client client;
	uint32_t space;
};

static int setup_host(void **state, uint64_t host_bytes)
{
	struct fixture *f = calloc(1, sizeof(*f));

	world_open(&f->world, 16 * MIB, host_bytes, 256, 0, 0);
	f->space = world_space(&f->world, TOKENS, 4, 128);
	client_open(&f->client, &f->world, 1);
	(void)client_window(&f->client, f->space, SLOTS);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_host(state, 64 * MIB);
}

/* 16 host frames. */
static int setup_short(void **state)
{
	return setup_host(state, 2 * MIB);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	world_settle(&f->world);
	world_audit(&f->world);
	if (f->client.session)
		client_close(&f->client);
	world_close(&f->world);
	free(f);
	return 0;
}

/* @nr FULL pages, page i with seed i; the first ones leave when nr > SLOTS. */
static void fill(struct fixture *f, uint64_t *h, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		h[i] = client_full(&f->client, 0, i);
}

/* One page of the fixture's client that is in the host tier only. */
static uint64_t absent_page(struct fixture *f)
{
	uint64_t h[SLOTS + 1];

	fill(f, h, SLOTS + 1);
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_ABSENT);
	return h[0];
}

static void test_there_and_back(void **state)
{
	struct fixture *f = *state;
	uint64_t h[32];
	uint32_t round;
	uint32_t i;

	fill(f, h, 32);
	for (round = 0; round < 3; round++)
		for (i = 0; i < 32; i++)
			assert_int_equal(client_check(&f->client, h[i], i), 0);
	assert_true(world_stat(&f->world).demotions >= 24);
	assert_true(world_stat(&f->world).loads >= 24 * 3);
	/* Coming back a second time left the copy where it was. */
	assert_true(world_stat(&f->world).free_demotions >= 24);
	assert_int_equal(world_stat(&f->world).demotions, 32);
}

static void test_open_pages_stay(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint64_t more;

	assert_int_equal(client_lease(&f->client, 0, SLOTS, h), 0);
	assert_int_equal(client_lease(&f->client, 0, 1, &more),
			 SYN_E_BACKPRESSURE);
	assert_int_equal(client_commit(&f->client, h[3], TOKENS), 0);
	assert_int_equal(client_lease(&f->client, 0, 1, &more), 0);
	assert_int_equal(client_state(&f->client, h[3]), SYN_PTE_ABSENT);
}

static void test_pinned_stay(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint64_t more;
	uint32_t *at;
	uint32_t i;

	fill(f, h, SLOTS);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_pin(&f->client, h[i], &at), 0);
	assert_int_equal(client_lease(&f->client, 0, 1, &more),
			 SYN_E_BACKPRESSURE);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_state(&f->client, h[i]),
				 SYN_PTE_RESIDENT);
	client_unpin(&f->client, h[5]);
	assert_int_equal(client_lease(&f->client, 0, 1, &more), 0);
	assert_int_equal(
		client_lease(&f->client, 0, 1, &more) == SYN_E_BACKPRESSURE ||
			client_state(&f->client, h[5]) == SYN_PTE_ABSENT,
		1);
	for (i = 0; i < SLOTS; i++)
		if (i != 5)
			client_unpin(&f->client, h[i]);
}

static void test_second_chance(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint32_t *at;
	uint32_t i;

	fill(f, h, SLOTS);
	/* Forget that they were written. */
	for (i = 0; i < SLOTS; i++)
		f->client.pin[SYN_HANDLE_INDEX(h[i])] = 0;
	assert_int_equal(client_pin(&f->client, h[0], &at), 0);
	client_unpin(&f->client, h[0]);
	(void)client_full(&f->client, 0, 99);
	/* The coldest was used, so the next one went. */
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_RESIDENT);
	assert_int_equal(client_state(&f->client, h[1]), SYN_PTE_ABSENT);
	/* Its chance is spent after a full turn. */
	for (i = 2; i < SLOTS; i++)
		(void)client_full(&f->client, 0, i);
	(void)client_full(&f->client, 0, 99);
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_ABSENT);
}

/* @h's slot is on its way out but its session's work is not done. */
static void leave_behind(struct fixture *f, uint64_t *h)
{
	struct client *c = &f->client;
	uint64_t more;
	uint64_t hint;
	uint32_t i;

	fill(f, h, SLOTS);
	for (i = 0; i < SLOTS; i++)
		c->pin[SYN_HANDLE_INDEX(h[i])] = 0;
	assert_int_equal(
		syn_mm_report(c->session,
			      &(struct syn_vec_share){ .handle = h[1] }, 1),
		0);
	c->timeline[2].issued = 5;
	c->timeline[2].done = 4;
	(void)syn_mm_lease(c->session, 0, 1, &more, &hint);
	assert_int_equal(syn_mm_lease(c->session, 0, 1, &more, &hint),
			 SYN_MM_E_WAIT);
	world_settle(&f->world);
	assert_int_equal(client_state(c, h[0]), SYN_PTE_LEAVING);
}

static void test_timeline_delays(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint64_t more;
	uint64_t hint;
	uint64_t next;

	leave_behind(f, h);
	assert_int_equal(syn_mm_lease(f->client.session, 0, 1, &more, &hint),
			 SYN_MM_E_WAIT);
	(void)syn_mm_poll(f->world.mm, f->world.now_ns, &next);
	assert_true(next != UINT64_MAX);
	/* What is issued later does not matter. */
	f->client.timeline[2].issued = 9;
	f->client.timeline[2].done = 5;
	world_settle(&f->world);
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_ABSENT);
	assert_int_equal(syn_mm_lease(f->client.session, 0, 1, &more, &hint),
			 0);
}

static void test_drain_gives_up(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];

	leave_behind(f, h);
	f->world.now_ns += 2 * SYN_DRAIN_GIVE_UP;
	assert_true(world_poll(&f->world));
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_RESIDENT);
	assert_int_equal(client_check(&f->client, h[0], 0), 0);
}

static void test_fault_cancels_drain(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault answer;
	uint64_t h[SLOTS];
	uint32_t *at;

	leave_behind(f, h);
	assert_int_equal(client_pin(&f->client, h[0], &at), SYN_E_FAULT);
	assert_int_equal(client_fault(&f->client, h, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_RESIDENT);
	assert_int_equal(client_pin(&f->client, h[0], &at), 0);
	f->client.timeline[2].done = 5;
	world_settle(&f->world);
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_RESIDENT);
	client_unpin(&f->client, h[0]);
	assert_int_equal(world_stat(&f->world).demotions, 0);
}

static void test_fault_cancels_copy(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_fault answer;
	uint64_t h[SLOTS];
	uint64_t more;
	uint64_t hint;
	uint32_t *at;

	fill(f, h, SLOTS);
	syn_dev_host_set_delay(f->world.dev, 20000000);
	(void)syn_mm_lease(f->client.session, 0, 1, &more, &hint);
	assert_int_equal(syn_mm_lease(f->client.session, 0, 1, &more, &hint),
			 SYN_MM_E_WAIT);
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_LEAVING);
	assert_int_equal(client_fault(&f->client, h, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_RESIDENT);
	assert_int_equal(client_pin(&f->client, h[0], &at), 0);
	world_settle(&f->world);
	/* What was copied stays: leaving is free now. */
	assert_int_equal(client_state(&f->client, h[0]), SYN_PTE_RESIDENT);
	assert_true(client_page(&f->client, h[0])->flags & SYN_PAGE_F_HOST);
	client_unpin(&f->client, h[0]);
	assert_int_equal(client_check(&f->client, h[0], 0), 0);
}

/* A pin that comes between the look at the LRU list and LEAVING. */
static void test_leaving_restored(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct client other;
	uint64_t mine = client_sealed(c, 0, 1, 1);
	uint64_t got;
	uint64_t miss;
	uint32_t *at;
	uint32_t i;

	client_open(&other, &f->world, 1);
	(void)client_window(&other, f->space, SLOTS);
	assert_int_equal(client_lookup(&other, 0, 1, &got, &miss), 1);
	assert_int_equal(client_pin(&other, got, &at), 0);
	/* Pinned after it was chosen: LEAVING is taken back. */
	assert_int_equal(
		syn_move_out(f->world.mm,
			     f->world.mm->lessee[c->session->map[0]].page,
			     c->session->cfg.id),
		SYN_MOVE_E_PINNED);
	assert_int_equal(client_state(c, mine), SYN_PTE_RESIDENT);
	world_audit(&f->world);
	/* Charged to one, pinned by the other: it stays. */
	for (i = 0; i < 2 * SLOTS; i++)
		(void)client_full(c, 0, i);
	assert_int_equal(client_state(c, mine), SYN_PTE_RESIDENT);
	assert_int_equal(client_state(&other, got), SYN_PTE_RESIDENT);
	client_unpin(&other, got);
	for (i = 0; i < 2 * SLOTS; i++)
		(void)client_full(c, 0, i);
	assert_int_equal(client_state(c, mine), SYN_PTE_ABSENT);
	assert_int_equal(client_state(&other, got), SYN_PTE_ABSENT);
	assert_int_equal(client_check(&other, got, 1), 0);
	assert_int_equal(client_check(c, mine, 1), 0);
	world_audit(&f->world);
	client_close(&other);
}

static void test_watermarks(void **state)
{
	struct world w;
	struct client c;
	uint32_t i;

	/* Below a quarter of 16 free, up to a half. */
	world_open(&w, 16 * MIB, 16 * MIB, 64, 250, 500);
	client_open(&c, &w, 1);
	(void)client_window(&c, world_space(&w, TOKENS, 4, 128), 16);
	for (i = 0; i < 12; i++)
		(void)client_full(&c, 0, i);
	world_settle(&w);
	assert_int_equal(world_stat(&w).demotions, 0);
	(void)client_full(&c, 0, i);
	world_settle(&w);
	world_settle(&w);
	assert_int_equal(c.session->window[0][0].charged, 8);
	client_close(&c);
	world_close(&w);
}

static void test_host_full(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS + 16];
	uint64_t more;
	uint32_t i;

	/* 8 slots and 16 frames: no room for one more. */
	fill(f, h, SLOTS + 16);
	assert_int_equal(client_lease(&f->client, 0, 1, &more),
			 SYN_E_BACKPRESSURE);
	world_audit(&f->world);
	for (i = 0; i < 16; i++) {
		assert_int_equal(client_state(&f->client, h[i]),
				 SYN_PTE_ABSENT);
		assert_int_equal(client_check(&f->client, h[i], i),
				 SYN_E_BACKPRESSURE);
	}
	/* Relief: a release makes room. */
	assert_int_equal(client_release(&f->client, h[0]), 0);
	assert_int_equal(client_lease(&f->client, 0, 1, &more), 0);
	assert_int_equal(client_release(&f->client, more), 0);
	/* With a free slot pages come back and their copies are dropped. */
	for (i = 1; i < 16; i++)
		assert_int_equal(client_check(&f->client, h[i], i), 0);
}

static void test_host_evicts(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t h[SLOTS + 14];
	uint64_t got;
	uint64_t miss;

	/* Two sealed pages that nobody leases, in the host tier. */
	h[0] = client_sealed(c, 0, 100, 1);
	h[1] = client_sealed(c, 0, 101, 2);
	fill(f, h + 2, SLOTS);
	assert_int_equal(client_release(c, h[0]), 0);
	assert_int_equal(client_release(c, h[1]), 0);
	fill(f, h, SLOTS + 14 - SLOTS);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).evictions, 0);
	/* One more: the coldest of them makes room. */
	(void)client_full(c, 0, 7);
	assert_int_equal(world_stat(&f->world).evictions, 1);
	assert_int_equal(client_lookup(c, 0, 1, &got, &miss), 0);
	assert_int_equal(client_lookup(c, 0, 2, &got, &miss), 1);
	/* It is leased now, and then it is not. */
	assert_int_equal(client_lease(c, 0, 1, &h[0]), SYN_E_BACKPRESSURE);
	assert_int_equal(client_release(c, got), 0);
	assert_int_equal(client_lease(c, 0, 1, &h[0]), 0);
	assert_int_equal(world_stat(&f->world).evictions, 2);
	assert_int_equal(client_lease(c, 0, 1, &got), SYN_E_BACKPRESSURE);
}

static void test_duplicates_dropped(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS + 15];
	uint32_t i;

	fill(f, h, SLOTS + 15);
	/* Every frame but one is taken; swapping pages needs copies dropped. */
	for (i = 0; i < 4 * (SLOTS + 15); i++)
		assert_int_equal(client_check(&f->client, h[i % (SLOTS + 15)],
					      i % (SLOTS + 15)),
				 0);
	assert_int_equal(world_stat(&f->world).backpressure, 0);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HOST).nr_extents, 1);
}

static void test_loan_rules(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_vec_loaded twice[2];
	struct syn_vec_fault answer[2];
	uint64_t h[2];
	uint32_t loan;

	h[0] = absent_page(f);
	h[1] = h[0];
	assert_int_equal(client_fault(c, h, 0, answer), -EINVAL);
	assert_int_equal(client_fault(c, h, SYN_BATCH_MAX + 1, answer),
			 -EINVAL);
	/* The same page twice: one loan. */
	assert_int_equal(client_fault(c, h, 2, answer), 0);
	assert_int_equal(answer[0].res, SYN_FAULT_LOAN);
	assert_int_equal(answer[1].res, SYN_E_BUSY);
	assert_int_equal(client_state(c, h[0]), SYN_PTE_FILLING);
	assert_int_equal(client_fault(c, h, 1, answer + 1), 0);
	assert_int_equal(answer[1].res, SYN_E_BUSY);
	loan = answer[0].loan;
	assert_int_equal(client_loaded(c, SYN_LOANS_MAX, 0), -ESTALE);
	assert_int_equal(client_loaded(c, loan + 1, 0), -ESTALE);
	assert_int_equal(client_loaded(c, loan, 1), -EINVAL);
	twice[0] = (struct syn_vec_loaded){ .loan = loan };
	twice[1] = twice[0];
	assert_int_equal(syn_mm_loaded(c->session, twice, 2), -EINVAL);
	assert_int_equal(syn_mm_loaded(c->session, twice, 0), -EINVAL);
	assert_int_equal(client_execute(c, loan), 0);
	assert_int_equal(client_loaded(c, loan, 0), 0);
	assert_int_equal(client_loaded(c, loan, 0), -ESTALE);
	assert_int_equal(client_check(c, h[0], 0), 0);
}

static void test_loan_failed(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_vec_fault answer;
	uint64_t h = absent_page(f);

	assert_int_equal(client_fault(c, &h, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	c->timeline[1].issued = 2;
	assert_int_equal(client_loaded(c, answer.loan, -EIO), 0);
	assert_int_equal(client_state(c, h), SYN_PTE_ABSENT);
	/* The slot waits until the stream has drained. */
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	world_audit(&f->world);
	c->timeline[1].done = 2;
	world_settle(&f->world);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	assert_int_equal(client_check(c, h, 0), 0);
}

#define LOANS_SLOTS (SYN_LOANS_MAX + 1u)
#define LOANS_PAGES (LOANS_SLOTS + SYN_LOANS_MAX + 1u)

/* The first SYN_LOANS_MAX pages, absent, become as many loans. */
static void loans_take(struct client *c, const uint64_t *h)
{
	struct syn_vec_fault answer[SYN_BATCH_MAX];
	uint32_t at;
	uint32_t i;

	for (at = 0; at < SYN_LOANS_MAX; at += SYN_BATCH_MAX) {
		assert_int_equal(client_fault(c, h + at, SYN_BATCH_MAX, answer),
				 0);
		for (i = 0; i < SYN_BATCH_MAX; i++)
			assert_int_equal(answer[i].res, SYN_FAULT_LOAN);
	}
	assert_int_equal(syn_mm_loans(c->session), SYN_LOANS_MAX);
}

/* A client with LOANS_PAGES pages, and all loans out. */
static void loans_open(struct world *w, struct client *c, uint64_t *h)
{
	uint32_t i;

	world_open(w, 16 * MIB, 16 * MIB, 2048, 0, 0);
	client_open(c, w, 1);
	(void)client_window(c, world_space(w, 16, 1, 16), LOANS_SLOTS);
	for (i = 0; i < LOANS_PAGES; i++)
		h[i] = client_full(c, 0, i);
	loans_take(c, h);
}

/* At most SYN_LOANS_MAX at once, those in quarantine among them. */
static void test_loans_limit(void **state)
{
	struct syn_vec_fault answer;
	static uint64_t h[LOANS_PAGES];
	struct world w;
	struct client c;
	uint32_t i;

	loans_open(&w, &c, h);
	assert_int_equal(client_fault(&c, h + SYN_LOANS_MAX, 1, &answer),
			 SYN_E_BACKPRESSURE);
	world_audit(&w);
	c.timeline[1].issued = 1;
	for (i = 0; i < SYN_LOANS_MAX; i++)
		assert_int_equal(client_loaded(&c, i, -EIO), 0);
	assert_int_equal(world_stat(&w).nr_quarantined, SYN_LOANS_MAX);
	assert_int_equal(client_fault(&c, h, 1, &answer), SYN_MM_E_WAIT);
	world_audit(&w);
	c.timeline[1].done = 1;
	world_settle(&w);
	assert_int_equal(world_stat(&w).nr_quarantined, 0);
	loans_take(&c, h);
	for (i = 0; i < SYN_LOANS_MAX; i++)
		assert_int_equal(client_loaded(&c, i, client_execute(&c, i)),
				 0);
	for (i = 0; i < LOANS_PAGES; i++)
		assert_int_equal(client_check(&c, h[i], i), 0);
	client_close(&c);
	world_close(&w);
}

/* A session ends with all of them out. */
static void test_loans_void(void **state)
{
	static uint64_t h[LOANS_PAGES];
	struct world w;
	struct client c;
	uint32_t i;

	loans_open(&w, &c, h);
	syn_mm_session_end(c.session);
	assert_int_equal(syn_mm_loans(c.session), 0);
	/* And the slot of the page that was resident. */
	assert_int_equal(world_stat(&w).nr_quarantined, LOANS_SLOTS);
	for (i = 0; i < SYN_LOANS_MAX; i++)
		assert_int_equal(c.loan[i].state, SYN_LOAN_VOID);
	world_audit(&w);
	client_close(&c);
	assert_int_equal(world_stat(&w).nr_quarantined, 0);
	world_audit(&w);
	world_close(&w);
}

/* Bytes that rot in the host tier. */
static void test_sum_failure(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_vec_fault answer;
	uint64_t h = client_sealed(c, 0, 1, 77);
	uint64_t got;
	uint64_t miss;
	uint64_t pages[SLOTS];
	struct client_extent *e;
	uint32_t i;

	fill(f, pages, SLOTS);
	assert_int_equal(client_fault(c, &h, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	for (i = 0; c->extent[i].msg.extent != c->loan[answer.loan].src_extent;)
		i++;
	e = &c->extent[i];
	e->base[c->loan[answer.loan].src_frame * e->msg.frame_bytes + 4711] ^=
		1;
	i = (uint32_t)client_execute(c, answer.loan);
	assert_int_equal((int)i, -EILSEQ);
	assert_int_equal(client_loaded(c, answer.loan, -EILSEQ), 0);
	assert_int_equal(client_state(c, h), SYN_PTE_LOST);
	assert_true(syn_mm_notices(c->session) & SYN_NOTICE_SUM);
	assert_int_equal(world_stat(&f->world).sum_failures, 1);
	assert_int_equal(client_lookup(c, 0, 77, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_LOST);
	assert_int_equal(client_check(c, h, 1), SYN_E_LOST);
	world_audit(&f->world);
	/* Somebody computes it again. */
	got = client_sealed(c, 0, 1, 77);
	assert_int_equal(client_lookup(c, 0, 77, &got, &miss), 1);
	assert_int_equal(client_release(c, h), 0);
}

/* A sealed page whose bytes change in HBM. */
static void test_sum_failure_hbm(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t h = client_sealed(c, 0, 1, 77);
	uint64_t pages[SLOTS];
	uint32_t *at;

	assert_int_equal(client_pin(c, h, &at), 0);
	at[1000] ^= 0x10;
	client_unpin(c, h);
	fill(f, pages, SLOTS);
	world_settle(&f->world);
	assert_int_equal(client_state(c, h), SYN_PTE_LOST);
	assert_int_equal(client_check(c, h, 1), SYN_E_LOST);
	assert_int_equal(client_commit(c, h, TOKENS), -EPERM);
}

static void test_seal_mismatch(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t h = absent_page(f);
	uint32_t *at;

	assert_int_equal(client_load(c, h, &at), 0);
	at[0] ^= 1;
	client_unpin(c, h);
	assert_int_equal(client_seal(c, h, 5, 0), -EILSEQ);
	assert_int_equal(client_state(c, h), SYN_PTE_LOST);
	assert_int_equal(client_seal(c, h, 5, 0), SYN_E_LOST);
}

/* Demoted before it was sealed: the daemon has its sums. */
static void test_seal_absent(void **state)
{
	struct fixture *f = *state;
	struct syn_sqe sqe = { .op = SYN_OP_SEAL, .arg = { 5, ~5ull } };
	uint64_t h = absent_page(f);
	uint64_t got;
	uint64_t miss;

	sqe.object = h;
	assert_int_equal(syn_mm_seal(f->client.session, &sqe, NULL), 0);
	assert_int_equal(client_lookup(&f->client, 0, 5, &got, &miss), 1);
	assert_int_equal(client_check(&f->client, got, 0), 0);
}

static void test_copy_fails(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS];
	uint64_t more;
	uint32_t i;

	fill(f, h, SLOTS);
	syn_dev_host_fail_copy(f->world.dev, 1);
	(void)client_lease(&f->client, 0, 1, &more);
	world_settle(&f->world);
	world_audit(&f->world);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(client_check(&f->client, h[i], i), 0);
	f->world.now_ns += 2 * SYN_COPY_BACKOFF_NS;
	(void)world_poll(&f->world);
	(void)client_lease(&f->client, 0, 1, &more);
	assert_int_equal(client_lease(&f->client, 0, 1, &more), 0);
}

static void test_device_lost(void **state)
{
	struct fixture *f = *state;
	uint64_t h[SLOTS + 1];
	uint64_t more;
	uint32_t i;

	fill(f, h, SLOTS + 1);
	syn_dev_host_lose(f->world.dev);
	for (i = 0; i < 20; i++) {
		(void)client_lease(&f->client, 0, 4, &more);
		world_settle(&f->world);
	}
	world_audit(&f->world);
	for (i = 1; i < SLOTS + 1; i++)
		assert_int_equal(client_state(&f->client, h[i]),
				 SYN_PTE_RESIDENT);
	assert_int_equal(client_release(&f->client, h[1]), 0);
	assert_int_equal(client_check(&f->client, h[0], 0), 0);
}

/* A page dies while it is copied, and while it is loaned. */
static void test_dies_under_way(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_vec_fault answer;
	uint64_t h[SLOTS];
	uint64_t more;
	uint64_t hint;
	uint32_t used;

	fill(f, h, SLOTS);
	syn_dev_host_set_delay(f->world.dev, 20000000);
	(void)syn_mm_lease(c->session, 0, 1, &more, &hint);
	(void)syn_mm_lease(c->session, 0, 1, &more, &hint);
	assert_int_equal(client_state(c, h[0]), SYN_PTE_LEAVING);
	assert_int_equal(client_release(c, h[0]), 0);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, SLOTS);
	world_settle(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, SLOTS - 1);
	syn_dev_host_set_delay(f->world.dev, 0);
	fill(f, h, SLOTS);
	used = world_stat(&f->world).nr_pages;
	assert_int_equal(client_load(c, h[0], &(uint32_t *){ NULL }), 0);
	client_unpin(c, h[0]);
	fill(f, h + 1, SLOTS - 1);
	(void)client_full(c, 0, 3);
	(void)client_full(c, 0, 3);
	used = world_stat(&f->world).nr_pages;
	assert_int_equal(client_state(c, h[0]), SYN_PTE_ABSENT);
	assert_int_equal(client_fault(c, h, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	assert_int_equal(client_release(c, h[0]), 0);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, used);
	assert_int_equal(client_loaded(c, answer.loan, 0), 0);
	assert_int_equal(world_stat(&f->world).nr_pages, used - 1);
}

/* What was given back is not used again before its work is done. */
static void test_release_drains(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t h = client_full(c, 0, 1);

	c->timeline[3].issued = 1;
	assert_int_equal(client_release(c, h), 0);
	assert_int_equal(client_state(c, h), SYN_PTE_NONE);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	assert_int_equal(c->session->window[0][0].charged, 1);
	world_settle(&f->world);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	c->timeline[3].done = 1;
	world_settle(&f->world);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	assert_int_equal(world_stat(&f->world).nr_pages, 0);
}

#define TEST(f, how) cmocka_unit_test_setup_teardown(f, how, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_there_and_back, setup),
		TEST(test_open_pages_stay, setup),
		TEST(test_pinned_stay, setup),
		TEST(test_second_chance, setup),
		TEST(test_timeline_delays, setup),
		TEST(test_drain_gives_up, setup),
		TEST(test_fault_cancels_drain, setup),
		TEST(test_fault_cancels_copy, setup),
		TEST(test_leaving_restored, setup),
		cmocka_unit_test(test_watermarks),
		TEST(test_host_full, setup_short),
		TEST(test_host_evicts, setup_short),
		TEST(test_duplicates_dropped, setup_short),
		TEST(test_loan_rules, setup),
		TEST(test_loan_failed, setup),
		cmocka_unit_test(test_loans_limit),
		cmocka_unit_test(test_loans_void),
		TEST(test_sum_failure, setup),
		TEST(test_sum_failure_hbm, setup),
		TEST(test_seal_mismatch, setup),
		TEST(test_seal_absent, setup),
		TEST(test_copy_fails, setup),
		TEST(test_device_lost, setup),
		TEST(test_dies_under_way, setup),
		TEST(test_release_drains, setup),
	};

	return test_main(tests);
}
