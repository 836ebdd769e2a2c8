/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces, leases, commit, seal, lookup: a page's life while HBM is roomy. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/lease.h"

#define TOKENS 16u

static int define(struct world *w, const struct syn_msg_space *msg,
		  struct syn_msg_space_reply *ret)
{
	const char *why = NULL;
	int r = syn_mm_space_define(w->mm, msg, ret, &why);

	assert_true(r == 0 || why);
	return r;
}

static void test_space_geometry(void **state)
{
	struct syn_msg_space_reply a = { 0 };
	struct syn_msg_space_reply b = { 0 };
	struct syn_msg_space msg;
	struct world w;

	world_open(&w, 16 * MIB, 16 * MIB, 64, 0, 0);
	space_fill(&msg, 128, 2, 64);
	assert_int_equal(define(&w, &msg, &a), 0);
	assert_int_equal(a.page_bytes, 128 * 2 * 64 * 2 * 2);
	assert_int_equal(a.nr_tiles, 4);
	assert_int_equal(define(&w, &msg, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	msg.model[0]++;
	assert_int_equal(define(&w, &msg, &b), 0);
	assert_int_not_equal(a.space, b.space);
	assert_true(a.identity != b.identity);

	/* 4096 natural tiles: 8 of them make one. */
	space_fill(&msg, 1024, 4, 8);
	msg.layers_per_page = 64;
	assert_int_equal(define(&w, &msg, &a), 0);
	assert_int_equal(a.nr_tiles, SYN_TILES_MAX);
	assert_int_equal(a.page_bytes % a.nr_tiles, 0);

	/* Tiles of 512 and 64 elements: of their common size. */
	space_fill(&msg, 128, 1, 512);
	msg.component[0].role = SYN_ROLE_LATENT;
	msg.component[1].role = SYN_ROLE_ROPE;
	msg.component[1].dim = 64;
	assert_int_equal(define(&w, &msg, &a), 0);
	assert_int_equal(a.nr_tiles, 9);
	world_close(&w);
}

static void test_space_refused(void **state)
{
	static const struct syn_component none;
	struct syn_msg_space_reply reply;
	struct syn_msg_space good;
	struct syn_msg_space bad;
	struct world w;

	world_open(&w, 16 * MIB, 16 * MIB, 64, 0, 0);
	space_fill(&good, TOKENS, 1, 16);
#define REFUSED(change)                                                        \
	do {                                                                   \
		bad = good;                                                    \
		change;                                                        \
		assert_int_equal(define(&w, &bad, &reply), -EINVAL);           \
	} while (0)
	REFUSED(bad.tokens = 0);
	REFUSED(bad.layers_per_page = 0);
	REFUSED(bad.flags = 1);
	REFUSED(bad.nr_components = 0);
	REFUSED(bad.nr_components = SYN_COMPONENTS_MAX + 1);
	REFUSED(bad.nr_components = 1);
	REFUSED(bad.component[1].heads = 2);
	REFUSED(bad.component[0].heads = 0);
	REFUSED(bad.component[0].dim = 0);
	REFUSED(bad.component[0].role = 0);
	REFUSED(bad.component[0].role = SYN_ROLE_OPAQUE + 1);
	REFUSED(bad.component[0].dtype = 0);
	REFUSED(bad.component[0].dtype = SYN_DTYPE_U8 + 1);
	REFUSED(bad.component[0].codec = 0);
	REFUSED(bad.component[0].pad0 = 1);
	REFUSED(bad.component[7].dim = 1);
	REFUSED(bad.tokens = UINT32_MAX);
	REFUSED(bad.layers_per_page = UINT32_MAX; bad.tokens = UINT32_MAX);
	REFUSED(bad.component[1] = none; bad.nr_components = 1;
		bad.component[0].dtype = SYN_DTYPE_U8; bad.component[0].dim = 1;
		bad.tokens = 3);
#undef REFUSED
	/* A page of exactly 64 MiB, and one a token larger. */
	space_fill(&good, 1u << 16, 1, 256);
	assert_int_equal(define(&w, &good, &reply), 0);
	good.tokens++;
	assert_int_equal(define(&w, &good, &reply), -EINVAL);
	world_close(&w);
}

static void test_space_limit(void **state)
{
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	struct world w;
	uint32_t i;

	world_open(&w, 16 * MIB, 16 * MIB, 64, 0, 0);
	space_fill(&msg, TOKENS, 1, 16);
	for (i = 0; i < SYN_SPACES_MAX; i++) {
		msg.model[1] = i;
		assert_int_equal(define(&w, &msg, &reply), 0);
		assert_int_equal(reply.space, i);
	}
	msg.model[1] = i;
	assert_int_equal(define(&w, &msg, &reply), -ENOSPC);
	world_close(&w);
}

struct fixture {
	struct world world;
	struct client client;
	uint32_t space;
	uint32_t window;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	world_open(&f->world, 16 * MIB, 16 * MIB, 64, 0, 0);
	f->space = world_space(&f->world, TOKENS, 1, 16);
	client_open(&f->client, &f->world, 1);
	f->window = client_window(&f->client, f->space, 16);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	world_audit(&f->world);
	client_close(&f->client);
	world_close(&f->world);
	free(f);
	return 0;
}

static void test_lease_limits(void **state)
{
	struct fixture *f = *state;
	struct syn_session *s = f->client.session;
	uint64_t h[SYN_BATCH_MAX + 1];
	uint64_t hint = 0;

	assert_int_equal(syn_mm_lease(s, 0, 0, h, &hint), -EINVAL);
	assert_int_equal(syn_mm_lease(s, 0, SYN_BATCH_MAX + 1, h, &hint),
			 -EINVAL);
	assert_int_equal(syn_mm_lease(s, 1, 1, h, &hint), -EINVAL);
	assert_int_equal(syn_mm_lease(s, UINT64_MAX, 1, h, &hint), -EINVAL);
	assert_int_equal(syn_mm_lease(s, 0, 17, h, &hint), -E2BIG);
	assert_int_equal(syn_mm_lease(s, 0, 16, h, &hint), 0);
	/* All open: nothing can be taken. */
	assert_int_equal(syn_mm_lease(s, 0, 1, h + 16, &hint),
			 SYN_E_BACKPRESSURE);
	assert_true(hint > 0);
	assert_true(syn_mm_notices(s) & SYN_NOTICE_RECLAIM);
	assert_int_equal(syn_mm_notices(s), 0);
	assert_int_equal(syn_mm_release(s, h, 1), 0);
	assert_int_equal(syn_mm_lease(s, 0, 1, h, &hint), 0);
	assert_int_equal(syn_mm_release(s, h, 16), 0);
	assert_int_equal(world_stat(&f->world).nr_pages, 0);
}

static void test_handles(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t old;
	uint64_t h[2];

	assert_int_equal(client_lease(c, 0, 1, &old), 0);
	assert_int_equal(client_release(c, 0), -ESTALE);
	assert_int_equal(client_release(c, old + 1), -ESTALE);
	assert_int_equal(client_release(c, UINT64_MAX), -ESTALE);
	assert_int_equal(client_release(c, old), 0);
	assert_int_equal(client_state(c, old), SYN_PTE_NONE);
	assert_int_equal(client_release(c, old), -ESTALE);
	assert_int_equal(client_lease(c, 0, 1, h), 0);
	/* The same entry, another generation. */
	assert_int_equal(SYN_HANDLE_INDEX(h[0]), SYN_HANDLE_INDEX(old));
	assert_int_equal(client_release(c, old), -ESTALE);
	/* Twice in a batch: neither. */
	h[1] = h[0];
	assert_int_equal(syn_mm_release(c->session, h, 2), -EINVAL);
	assert_int_equal(syn_mm_release(c->session, h, 0), -EINVAL);
	/* Pinned: neither. */
	assert_int_equal(client_lease(c, 0, 1, &h[1]), 0);
	c->pin[SYN_HANDLE_INDEX(h[1])] = SYN_PIN_ONE;
	assert_int_equal(syn_mm_release(c->session, h, 2), -EBUSY);
	assert_int_equal(client_state(c, h[0]), SYN_PTE_RESIDENT);
	c->pin[SYN_HANDLE_INDEX(h[1])] = 0;
	assert_int_equal(syn_mm_release(c->session, h, 2), 0);
}

static void test_generation_wraps(void **state)
{
	struct fixture *f = *state;
	uint64_t h;

	f->client.pte[0] = SYN_PTE(UINT32_MAX, SYN_PTE_NONE, 0);
	assert_int_equal(client_lease(&f->client, 0, 1, &h), 0);
	assert_int_equal(SYN_HANDLE_GENERATION(h), 1);
	assert_int_equal(client_release(&f->client, h), 0);
}

static void test_commit(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_vec_commit bad = { .pad0 = 1 };
	uint64_t h;

	assert_int_equal(client_lease(c, 0, 1, &h), 0);
	bad.handle = h;
	assert_int_equal(syn_mm_commit(c->session, &bad, 1), -EINVAL);
	assert_int_equal(syn_mm_commit(c->session, &bad, 0), -EINVAL);
	assert_int_equal(client_commit(c, h, TOKENS + 1), -EINVAL);
	assert_int_equal(client_commit(c, h, 3), 0);
	assert_int_equal(client_commit(c, h, 2), -EINVAL);
	assert_int_equal(client_page(c, h)->state, SYN_PAGE_OPEN);
	assert_int_equal(client_seal(c, h, 5, 0), -EINVAL);
	assert_int_equal(client_commit(c, h, TOKENS), 0);
	assert_int_equal(client_page(c, h)->state, SYN_PAGE_FULL);
	assert_int_equal(client_commit(c, h, TOKENS), 0);
	assert_int_equal(client_commit(c, h + 1, TOKENS), -ESTALE);
	assert_int_equal(client_release(c, h), 0);
}

static void test_seal_refused(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_sqe sqe = { .op = SYN_OP_SEAL, .arg = { 1, 2, 0, 0 } };
	uint32_t sums[SYN_TILES_MAX] = { 0 };
	uint64_t h = client_full(c, 0, 1);

	sqe.object = h;
	sqe.nr = 2;
	sqe.arg[0] = 0;
	sqe.arg[1] = 0;
	assert_int_equal(syn_mm_seal(c->session, &sqe, sums), -EINVAL);
	sqe.arg[0] = 1;
	sqe.arg[3] = CLIENT_LINES;
	assert_int_equal(syn_mm_seal(c->session, &sqe, sums), -EINVAL);
	sqe.arg[3] = 0;
	sqe.arg[2] = 1; /* was never issued */
	assert_int_equal(syn_mm_seal(c->session, &sqe, sums), -EINVAL);
	sqe.arg[2] = 0;
	sqe.nr = 1;
	assert_int_equal(syn_mm_seal(c->session, &sqe, sums), -EINVAL);
	sqe.nr = 0; /* has none yet */
	assert_int_equal(syn_mm_seal(c->session, &sqe, sums), -EINVAL);
	sqe.object = h + 1;
	assert_int_equal(syn_mm_seal(c->session, &sqe, sums), -ESTALE);
	assert_int_equal(client_seal(c, h, 7, 0), 0);
	/* Not its writer any more. */
	assert_int_equal(client_seal(c, h, 8, 0), -EPERM);
	assert_int_equal(client_commit(c, h, TOKENS), -EPERM);
}

static void test_seal_lookup(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct client other;
	uint64_t h = client_sealed(c, 0, 11, 42);
	uint64_t dup = client_full(c, 0, 11);
	uint64_t got;
	uint64_t miss;

	assert_int_equal(client_seal(c, dup, 42, 0), SYN_E_DUP);
	assert_int_equal(client_page(c, dup)->state, SYN_PAGE_SEALED);
	assert_int_equal(client_release(c, dup), 0);
	client_open(&other, &f->world, 1);
	assert_int_equal(client_window(&other, f->space, 4), 0);
	assert_int_equal(client_lookup(&other, 0, 42, &got, &miss), 1);
	assert_int_equal(miss, SYN_MISS_NONE);
	/* The same slot, once. */
	assert_int_equal(client_page(&other, got)->nr_lessees, 2);
	assert_int_equal(SYN_PTE_SLOT(other.pte[0]),
			 SYN_PTE_SLOT(c->pte[SYN_HANDLE_INDEX(h)]));
	assert_int_equal(client_check(&other, got, 11), 0);
	assert_int_equal(client_lookup(&other, 0, 43, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	world_audit(&f->world);
	client_close(&other);
	/* Its last lease goes, the page stays. */
	assert_int_equal(client_release(c, h), 0);
	assert_int_equal(world_stat(&f->world).nr_pages, 1);
	assert_int_equal(client_lookup(c, 0, 42, &h, &miss), 1);
	assert_int_equal(client_check(c, h, 11), 0);
	assert_int_equal(world_stat(&f->world).dups, 1);
}

static void test_lookup_prefix(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	struct syn_vec_key keys[4];
	uint64_t got[4];
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < 4; i++)
		keys[i] = (struct syn_vec_key){ .key = { i + 1, ~(i + 1ull) } };
	for (i = 0; i < 4; i++)
		if (i != 2)
			(void)client_sealed(c, 0, i, i + 1);
	assert_int_equal(syn_mm_lookup(c->session, 0, 0, keys, 4, got, &miss),
			 2);
	assert_int_equal(miss, SYN_MISS_NEVER);
	assert_int_equal(client_check(c, got[1], 1), 0);
	/* More bits than any copy has. */
	assert_int_equal(syn_mm_lookup(c->session, 0, 17, keys, 4, got, &miss),
			 0);
	assert_int_equal(miss, SYN_MISS_FIDELITY);
	assert_int_equal(syn_mm_lookup(c->session, 0, 16, keys, 1, got, &miss),
			 1);
	assert_int_equal(syn_mm_lookup(c->session, 0, 0, keys, 0, got, &miss),
			 -EINVAL);
	assert_int_equal(syn_mm_lookup(c->session, 9, 0, keys, 1, got, &miss),
			 -EINVAL);
}

static void test_lookup_quota(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t got;
	uint64_t miss = 0;
	uint32_t n = 0;

	(void)client_sealed(c, 0, 1, 1);
	/* 64 page records: 128 leases. */
	while (client_lookup(c, 0, 1, &got, &miss) == 1)
		n++;
	assert_int_equal(miss, SYN_MISS_QUOTA);
	assert_int_equal(n, 127);
	assert_int_equal(client_lease(c, 0, 1, &got), SYN_E_BACKPRESSURE);
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct client other;
	uint64_t got;
	uint64_t miss;

	(void)client_sealed(&f->client, 0, 1, 42);
	/* The same key in another space and in another domain. */
	client_open(&other, &f->world, 1);
	(void)client_window(&other, world_space(&f->world, TOKENS, 1, 32), 4);
	assert_int_equal(client_lookup(&other, 0, 42, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	client_close(&other);
	client_open(&other, &f->world, 2);
	(void)client_window(&other, f->space, 4);
	assert_int_equal(client_lookup(&other, 0, 42, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	got = client_sealed(&other, 0, 2, 42);
	assert_int_equal(client_check(&other, got, 2), 0);
	client_close(&other);
}

/* Domains share buckets of the index but nothing else. */
static void test_many_domains(void **state)
{
	struct fixture *f = *state;
	struct client other;
	uint64_t got;
	uint64_t miss;
	uint32_t d;
	uint32_t i;

	for (i = 0; i < 60; i++)
		assert_int_equal(
			client_release(&f->client,
				       client_sealed(&f->client, 0, i, i + 1)),
			0);
	for (d = 2; d < 22; d++) {
		client_open(&other, &f->world, d);
		(void)client_window(&other, f->space, 1);
		for (i = 0; i < 60; i++)
			assert_int_equal(
				client_lookup(&other, 0, i + 1, &got, &miss),
				0);
		client_close(&other);
	}
}

static void test_ready_point(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint64_t h = client_full(c, 0, 5);
	uint64_t got;
	uint64_t miss;

	c->timeline[0].issued = 3;
	c->timeline[0].done = 1;
	assert_int_equal(client_seal(c, h, 9, 2), 0);
	assert_int_equal(client_lookup(c, 0, 9, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NOT_READY);
	/* Taken, though nobody sees it yet. */
	got = client_full(c, 0, 5);
	assert_int_equal(client_seal(c, got, 9, 0), SYN_E_DUP);
	/* Given back before it is ready: it waits for its point. */
	assert_int_equal(client_release(c, h), 0);
	assert_int_equal(client_lookup(c, 0, 9, &got, &miss), 0);
	c->timeline[0].done = 2;
	assert_int_equal(client_lookup(c, 0, 9, &got, &miss), 1);
	/* Once seen, it is remembered. */
	c->timeline[0].done = 0;
	assert_int_equal(client_lookup(c, 0, 9, &got, &miss), 1);
	c->timeline[0].done = 3;
	world_settle(&f->world);
	assert_int_equal(client_check(c, got, 5), 0);
}

static void test_ready_never(void **state)
{
	struct fixture *f = *state;
	struct client other;
	uint64_t got;
	uint64_t miss;
	uint64_t h;

	client_open(&other, &f->world, 1);
	(void)client_window(&other, f->space, 4);
	other.timeline[0].issued = 1;
	h = client_full(&other, 0, 5);
	assert_int_equal(client_seal(&other, h, 9, 1), 0);
	h = client_full(&other, 0, 6);
	assert_int_equal(client_seal(&other, h, 10, 1), 0);
	assert_int_equal(client_release(&other, h), 0);
	client_close(&other);
	assert_int_equal(client_lookup(&f->client, 0, 9, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	assert_int_equal(client_lookup(&f->client, 0, 10, &got, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	assert_int_equal(world_stat(&f->world).nr_pages, 0);
}

static void test_report(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_share vec = { .share = 0xfffffff0u };

	vec.handle = client_full(&f->client, 0, 1);
	assert_int_equal(syn_mm_report(f->client.session, &vec, 0), -EINVAL);
	assert_int_equal(syn_mm_report(f->client.session, &vec, 1), 0);
	assert_int_equal(syn_mm_report(f->client.session, &vec, 1), 0);
	assert_int_equal(client_page(&f->client, vec.handle)->share,
			 UINT32_MAX);
	vec.handle++;
	assert_int_equal(syn_mm_report(f->client.session, &vec, 1), -ESTALE);
}

/* Records run out: pages that nobody leases make way. */
static void test_records(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint32_t i;

	for (i = 0; i < 200; i++)
		assert_int_equal(
			client_release(c, client_sealed(c, 0, i, i + 1)), 0);
	world_audit(&f->world);
	assert_true(world_stat(&f->world).evictions >= 200 - 64);
}

/* 32 tiles: their sums lie out of line. */
static void test_many_tiles(void **state)
{
	struct fixture *f = *state;
	struct client *c = &f->client;
	uint32_t w = client_window(c, world_space(&f->world, 16, 16, 16), 8);
	uint64_t h = client_sealed(c, w, 77, 99);
	uint64_t miss;

	assert_int_equal(client_release(c, h), 0);
	assert_int_equal(client_lookup(c, w, 99, &h, &miss), 1);
	assert_int_equal(client_check(c, h, 77), 0);
	assert_int_equal(client_release(c, h), 0);
	assert_int_equal(syn_mm_evict(f->world.mm, 10), 1);
	assert_int_equal(world_stat(&f->world).nr_pages, 0);
}

static void test_stat_pages(void **state)
{
	struct fixture *f = *state;
	struct syn_ctl_client client;
	struct syn_ctl_page page[2];
	uint64_t next = 0;
	uint32_t i;

	for (i = 0; i < 3; i++)
		(void)client_full(&f->client, 0, i);
	assert_int_equal(syn_mm_stat_pages(f->world.mm, 0, page, 2, &next), 2);
	assert_true(next != 0);
	assert_int_equal(page[1].session, f->client.session->cfg.id);
	assert_int_equal(page[1].flags, SYN_PAGE_F_HBM);
	assert_int_equal(syn_mm_stat_pages(f->world.mm, next, page, 2, &next),
			 1);
	assert_int_equal(next, 0);
	syn_mm_stat_client(f->client.session, f->world.now_ns, &client);
	assert_int_equal(client.nr_leases, 3);
	assert_int_equal(client.slots_charged, 3);
	assert_int_equal(client.slots, 16);
	assert_int_equal(client.state, SYN_CLIENT_LIVE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_space_geometry),
		cmocka_unit_test(test_space_refused),
		cmocka_unit_test(test_space_limit),
		TEST(test_lease_limits),
		TEST(test_handles),
		TEST(test_generation_wraps),
		TEST(test_commit),
		TEST(test_seal_refused),
		TEST(test_seal_lookup),
		TEST(test_lookup_prefix),
		TEST(test_lookup_quota),
		TEST(test_identity),
		TEST(test_many_domains),
		TEST(test_ready_point),
		TEST(test_ready_never),
		TEST(test_report),
		TEST(test_records),
		TEST(test_many_tiles),
		TEST(test_stat_pages),
	};

	return test_main(tests);
}
