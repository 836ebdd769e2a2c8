/* SPDX-License-Identifier: Apache-2.0 */
/* Extents that change hands, and what domains see of each other. */
#include "test/unit/core-domains.h"

#include <errno.h>

#include "core/pool.h"

static struct syn_pool *host_pool(const struct client *c)
{
	return syn_pool_below(c->session->window[0][0].pool, SYN_TIER_HOST,
			      SYN_CODEC_RAW16);
}

/* ---- the host tier ------------------------------------------------------ */

static void test_host_max(void **state)
{
	struct fixture *f = *state;
	uint64_t handles[2 * FRAMES];
	uint64_t more[2];
	uint64_t hint = 0;
	struct client c;
	uint32_t i;
	int r;

	f->world.quota[1].max = EXTENT;
	client_open(&c, &f->world, 1);
	(void)client_window(&c, f->space, FRAMES);
	for (i = 0; i < 2 * FRAMES; i++)
		handles[i] = client_full(&c, 0, i);
	assert_int_equal(used(&f->world, 1, 2), EXTENT);
	/* All is leased, and nothing can go anywhere. */
	r = syn_mm_lease(c.session, 0, 1, more, &hint);
	assert_int_equal(r, SYN_E_BACKPRESSURE);
	assert_true(hint > 0);
	assert_int_equal(domain_stat(&f->world, 1).refused, 1);
	assert_int_equal(
		quota_set(&f->world, 1, 2, 0, SYN_QUOTA_NONE, 2 * EXTENT), 0);
	assert_int_equal(client_lease(&c, 0, 1, more), 0);
	assert_int_equal(used(&f->world, 1, 2), 2 * EXTENT);
	assert_int_equal(client_check(&c, handles[0], 0), 0);
	client_close(&c);
}

/* @c's cached pages fill the host tier, all of its extents if it may. */
static void crowd(struct fixture *f, struct client *c, uint32_t domain)
{
	client_open(c, &f->world, domain);
	(void)client_window(c, f->space, FRAMES);
	fill(c, 5 * FRAMES, 1000 * domain);
}

static void test_host_shares(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client *const both[] = { &a, &b };
	uint32_t n;

	crowd(f, &a, 1);
	assert_int_equal(used(&f->world, 1, 2), 4 * EXTENT);
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	for (n = 0; n < 12; n++) {
		fill(&b, FRAMES / 2, 5000 + n * FRAMES);
		pass(&f->world, both, 2);
		world_audit(&f->world);
	}
	/* Half and half, and it stays so whoever asks. */
	assert_int_equal(used(&f->world, 1, 2), 2 * EXTENT);
	assert_int_equal(used(&f->world, 2, 2), 2 * EXTENT);
	for (n = 0; n < 6; n++) {
		fill(&a, FRAMES, 20000 + n * FRAMES);
		fill(&b, FRAMES, 30000 + n * FRAMES);
		pass(&f->world, both, 2);
		assert_int_equal(used(&f->world, 1, 2), 2 * EXTENT);
		assert_int_equal(used(&f->world, 2, 2), 2 * EXTENT);
	}
	/* What is left is what was written. */
	assert_true(found(&a, 6 * FRAMES, 20000) > 0);
	client_close(&a);
	client_close(&b);
}

/* An extent too many for equal shares stays where it is. */
static void test_odd_shares(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client *const both[] = { &a, &b };
	uint32_t reserve;
	uint32_t n;

	f->world.quota[1].min = EXTENT;
	assert_int_equal(world_domain(&f->world, 3, &reserve), 0);
	f->world.quota[1].min = 0;
	crowd(f, &a, 1);
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	fill(&b, 2 * FRAMES, 5000);
	pass(&f->world, both, 2);
	for (n = 0; n < 8; n++) {
		fill(&b, FRAMES, 30000 + n * FRAMES);
		pass(&f->world, both, 2);
		assert_int_equal(used(&f->world, 1, 2), 2 * EXTENT);
		fill(&a, FRAMES, 20000 + n * FRAMES);
		pass(&f->world, both, 2);
		assert_int_equal(used(&f->world, 1, 2), 2 * EXTENT);
		assert_int_equal(used(&f->world, 2, 2), EXTENT);
	}
	client_close(&a);
	client_close(&b);
}

/* Nobody falls below its minimum for another one's sake. */
static void test_host_min(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client *const both[] = { &a, &b };
	uint32_t n;

	f->world.quota[1].min = 3 * EXTENT;
	crowd(f, &a, 1);
	f->world.quota[1].min = 0;
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	for (n = 0; n < 12; n++) {
		fill(&b, FRAMES / 2, 5000 + n * FRAMES);
		pass(&f->world, both, 2);
		assert_true(used(&f->world, 1, 2) >= 3 * EXTENT);
	}
	assert_int_equal(used(&f->world, 2, 2), EXTENT);
	client_close(&a);
	client_close(&b);
}

/* The one above its high mark gives, although another one has more. */
static void test_host_high(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client c;
	struct client *const all[] = { &a, &b, &c };

	f->world.quota[1].max = 3 * EXTENT;
	crowd(f, &a, 1);
	assert_int_equal(used(&f->world, 1, 2), 3 * EXTENT);
	f->world.quota[1] = (struct syn_quota){ 0, EXTENT / 2, 4 * EXTENT };
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	fill(&b, FRAMES + 1, 5000);
	assert_int_equal(used(&f->world, 2, 2), EXTENT);
	f->world.quota[1] = no_limit;
	client_open(&c, &f->world, 3);
	(void)client_window(&c, f->space, FRAMES);
	fill(&c, FRAMES + 1, 7000);
	pass(&f->world, all, 3);
	fill(&c, FRAMES, 8000);
	assert_int_equal(used(&f->world, 1, 2), 3 * EXTENT);
	assert_int_equal(used(&f->world, 2, 2), 0);
	assert_int_equal(used(&f->world, 3, 2), EXTENT);
	client_close(&a);
	client_close(&b);
	client_close(&c);
}

/* At its maximum, a domain's pools take from each other: frame sizes differ. */
static void test_own_pools(void **state)
{
	struct fixture *f = *state;
	uint32_t other = world_space(&f->world, 2 * TOKENS, 2, 64);
	struct client a;
	struct client b;
	struct client *const both[] = { &a, &b };
	uint32_t n;

	f->world.quota[1].max = 2 * EXTENT;
	crowd(f, &a, 1);
	client_open(&b, &f->world, 1);
	(void)client_window(&b, other, FRAMES / 2);
	for (n = 0; n < 8; n++) {
		fill(&b, FRAMES / 4, 5000 + n * FRAMES);
		pass(&f->world, both, 2);
		world_audit(&f->world);
	}
	assert_int_equal(used(&f->world, 1, 2), 2 * EXTENT);
	assert_int_equal(host_pool(&b)->nr_extents, 1);
	/* HBM holds half of these. */
	assert_int_equal(found(&b, FRAMES / 4, 5000 + 4 * FRAMES), FRAMES / 4);
	client_close(&a);
	client_close(&b);
}

/* A page with no other copy stays; its extent is not chosen. */
static void test_leased_pages_stay(void **state)
{
	struct fixture *f = *state;
	uint64_t handles[5 * FRAMES - 1]; /* one frame is left, to load with */
	struct client a;
	struct client b;
	struct client *const both[] = { &a, &b };
	uint64_t handle;
	uint32_t i;

	client_open(&a, &f->world, 1);
	(void)client_window(&a, f->space, FRAMES);
	for (i = 0; i < 5 * FRAMES - 1; i++)
		handles[i] = client_full(&a, 0, i);
	assert_int_equal(used(&f->world, 1, 2), 4 * EXTENT);
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	for (i = 0; i < FRAMES; i++)
		(void)client_full(&b, 0, i);
	for (i = 0; i < 3; i++) {
		assert_int_equal(client_lease(&b, 0, 1, &handle),
				 SYN_E_BACKPRESSURE);
		pass(&f->world, both, 2);
	}
	assert_int_equal(used(&f->world, 1, 2), 4 * EXTENT);
	for (i = 0; i < 5 * FRAMES - 1; i += 50)
		assert_int_equal(client_check(&a, handles[i], i), 0);
	/* It has its turn as soon as there is room. */
	for (i = 0; i < 5 * FRAMES - 1; i++)
		assert_int_equal(client_release(&a, handles[i]), 0);
	for (i = 0; i < 3 && client_lease(&b, 0, 1, &handle); i++)
		pass(&f->world, both, 2);
	assert_true(i < 3);
	client_close(&a);
	client_close(&b);
}

/* Gives back what lies in one extent of the host tier. */
static void release_extent(struct client *c, const uint64_t *handles,
			   uint32_t nr)
{
	uint32_t extent = SYN_NONE;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		const struct syn_rec_page *pg = client_page(c, handles[i]);

		if (pg->host == SYN_NONE)
			continue;
		if (extent == SYN_NONE)
			extent = SYN_FRAME_EXTENT(pg->host);
		if (SYN_FRAME_EXTENT(pg->host) == extent)
			assert_int_equal(client_release(c, handles[i]), 0);
	}
}

/* What comes free is for whoever asked first. */
static void test_first_come(void **state)
{
	struct fixture *f = *state;
	uint64_t handles[5 * FRAMES];
	struct client hog;
	struct client a;
	struct client b;
	uint64_t handle;
	uint32_t i;

	client_open(&hog, &f->world, 1);
	client_open(&a, &f->world, 2);
	client_open(&b, &f->world, 3);
	(void)client_window(&hog, f->space, FRAMES);
	(void)client_window(&a, f->space, FRAMES);
	(void)client_window(&b, f->space, FRAMES);
	for (i = 0; i < 5 * FRAMES; i++)
		handles[i] = client_full(&hog, 0, i);
	for (i = 0; i < FRAMES; i++) {
		(void)client_full(&a, 0, i);
		(void)client_full(&b, 0, i);
	}
	assert_int_equal(client_lease(&a, 0, 1, &handle), SYN_E_BACKPRESSURE);
	assert_int_equal(client_lease(&b, 0, 1, &handle), SYN_E_BACKPRESSURE);
	release_extent(&hog, handles, 5 * FRAMES);
	assert_int_equal(client_lease(&b, 0, 1, &handle), SYN_E_BACKPRESSURE);
	assert_int_equal(client_lease(&a, 0, 1, &handle), 0);
	assert_int_equal(used(&f->world, 2, 2), EXTENT);
	assert_int_equal(used(&f->world, 3, 2), 0);
	client_close(&hog);
	client_close(&a);
	client_close(&b);
}

#define TURN_CLIENTS 6u
#define TURN_PAGES   (FRAMES + FRAMES / 2) /* half an extent in the host */

struct turn {
	struct client client;
	uint64_t held[TURN_PAGES];
	uint32_t nr;
	uint32_t rounds;
};

/* Takes one page more, or gives all of them back. */
static void turn_step(struct turn *t)
{
	struct client *c = &t->client;
	uint32_t i;
	int r;

	if (t->nr < TURN_PAGES) {
		r = client_lease(c, 0, 1, &t->held[t->nr]);
		assert_true(!r || r == SYN_E_BACKPRESSURE ||
			    r == SYN_MM_E_WAIT);
		if (r)
			return;
		client_write(c, t->held[t->nr], t->nr);
		assert_int_equal(client_commit(c, t->held[t->nr], TOKENS), 0);
		t->nr++;
		return;
	}
	for (i = 0; i < t->nr; i++)
		assert_int_equal(client_release(c, t->held[i]), 0);
	t->nr = 0;
	t->rounds++;
}

/* Six domains want an extent each, and there are four: all have their turn. */
static void test_turns(void **state)
{
	struct fixture *f = *state;
	static struct turn turn[TURN_CLIENTS];
	uint32_t most = 0;
	uint32_t least = UINT32_MAX;
	uint32_t i;
	uint32_t n;

	memset(turn, 0, sizeof(turn));
	for (i = 0; i < TURN_CLIENTS; i++) {
		client_open(&turn[i].client, &f->world, 1 + i);
		(void)client_window(&turn[i].client, f->space, FRAMES);
	}
	for (n = 0; n < 8000; n++) {
		for (i = 0; i < TURN_CLIENTS; i++)
			turn_step(&turn[i]);
		(void)world_poll(&f->world);
	}
	for (i = 0; i < TURN_CLIENTS; i++) {
		most = syn_max(most, turn[i].rounds);
		least = syn_min(least, turn[i].rounds);
		client_close(&turn[i].client);
	}
	print_message("from %u to %u rounds\n", least, most);
	assert_true(least && least >= most / 4);
}

/* A client that does not unmap keeps its own domain's room, nobody else's. */
static void test_mapped_extent_is_charged(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	uint64_t handle;
	uint64_t miss;
	uint32_t n;

	crowd(f, &a, 1);
	/* It maps one host extent at least. */
	for (n = 0; n < 5 * FRAMES; n++) {
		if (client_lookup(&a, 0, 1000 + n, &handle, &miss) != 1)
			continue;
		assert_int_equal(client_check(&a, handle, 1000 + n), 0);
		assert_int_equal(client_release(&a, handle), 0);
	}
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	for (n = 0; n < 6; n++) {
		fill(&b, FRAMES / 4, 5000 + n * FRAMES);
		world_settle(&f->world);
		assert_true(used(&f->world, 1, 2) + used(&f->world, 2, 2) <=
			    4 * EXTENT);
	}
	world_audit(&f->world);
	client_close(&a);
	client_close(&b);
}

/* ---- what domains see of each other ------------------------------------- */

static void test_no_lookup_across(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	uint64_t handle;
	uint64_t miss = 0;

	client_open(&a, &f->world, 1);
	client_open(&b, &f->world, 2);
	(void)client_window(&a, f->space, FRAMES);
	(void)client_window(&b, f->space, FRAMES);
	fill(&a, 10, 1);
	assert_int_equal(found(&a, 10, 1), 10);
	assert_int_equal(found(&b, 10, 1), 0);
	assert_int_equal(client_lookup(&b, 0, 1, &handle, &miss), 0);
	assert_int_equal(miss, SYN_MISS_NEVER);
	/* The same key is free there: no DUP tells that it is taken here. */
	assert_int_equal(client_seal(&b, client_full(&b, 0, 77), 1, 0), 0);
	assert_int_equal(client_lookup(&b, 0, 1, &handle, &miss), 1);
	assert_int_equal(client_check(&b, handle, 77), 0);
	client_close(&a);
	client_close(&b);
}

static void assert_zero(const struct client *c, uint32_t tier)
{
	uint32_t i;
	uint64_t b;

	for (i = 0; i < c->nr_extents; i++) {
		const struct syn_msg_extent *m = &c->extent[i].msg;
		const uint64_t *at = (const void *)c->extent[i].base;

		if (m->tier != tier)
			continue;
		for (b = 0; b < m->bytes / sizeof(*at); b++)
			assert_int_equal(at[b], 0);
	}
}

/* All of HBM changes hands: the next domain finds nothing in it. */
static void test_zero_on_reassignment(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client *const both[] = { &a, &b };
	uint32_t i;

	client_open(&a, &f->world, 1);
	(void)client_window(&a, f->space, 8 * FRAMES);
	for (i = 0; i < 8 * FRAMES; i++)
		(void)client_full(&a, 0, 0x5ec8e7 + i);
	client_close(&a);
	client_open(&b, &f->world, 2);
	assert_int_equal(window_try(&b, f->space, 8 * FRAMES), 0);
	assert_int_equal(b.nr_extents, 8);
	assert_zero(&b, SYN_TIER_HBM);
	client_close(&b);
	/* The same for an extent of the host tier that was emptied. */
	crowd(f, &a, 1);
	client_open(&b, &f->world, 2);
	(void)client_window(&b, f->space, FRAMES);
	for (i = 0; i < 4; i++) {
		fill(&b, FRAMES / 2, 5000 + i * FRAMES);
		pass(&f->world, both, 2);
	}
	assert_true(used(&f->world, 2, 2) > 0);
	{
		struct syn_pool *pool = host_pool(&b);
		struct syn_extent *ext;
		uint64_t secrets = 0;
		uint64_t n;

		/* Pages of b begin with their seed; of a's nothing is left. */
		syn_list_for_each (ext, &pool->extents, in_pool)
			for (n = 0; n < ext->nr_frames; n++) {
				const uint32_t *at =
					(void *)((char *)ext->mem.addr +
						 n * pool->frame_bytes);

				secrets += *at && (*at < 5000 || *at > 6000);
			}
		assert_int_equal(secrets, 0);
	}
	client_close(&a);
	client_close(&b);
}

/* Surplus of those above their high mark goes before that of others. */
static void test_hbm_high_first(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client c;
	struct client *const both[] = { &a, &b };
	uint32_t n;

	/* Two domains with three extents of cached pages each. */
	client_open(&a, &f->world, 1);
	(void)client_window(&a, f->space, 3 * FRAMES);
	fill(&a, 3 * FRAMES, 1000);
	client_open(&c, &f->world, 1);
	(void)client_window(&c, f->space, 1);
	client_close(&a);
	a = c;
	f->world.quota[0].high = EXTENT;
	client_open(&b, &f->world, 2);
	f->world.quota[0] = no_limit;
	(void)client_window(&b, f->space, 3 * FRAMES);
	fill(&b, 3 * FRAMES, 3000);
	client_open(&c, &f->world, 2);
	(void)client_window(&c, f->space, 1);
	client_close(&b);
	b = c;
	pass(&f->world, both, 2);
	assert_int_equal(used(&f->world, 1, 1), 3 * EXTENT);
	assert_int_equal(used(&f->world, 2, 1), 3 * EXTENT);
	client_open(&c, &f->world, 3);
	for (n = 0; n < 50 && window_try(&c, f->space, 4 * FRAMES); n++) {
		pass(&f->world, both, 2);
	}
	assert_true(n && n < 50);
	assert_int_equal(used(&f->world, 1, 1), 3 * EXTENT);
	assert_int_equal(used(&f->world, 2, 1), EXTENT);
	client_close(&a);
	client_close(&b);
	client_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_host_max),
		TEST(test_host_shares),
		TEST(test_odd_shares),
		TEST(test_first_come),
		TEST(test_host_min),
		TEST(test_host_high),
		TEST(test_own_pools),
		TEST(test_leased_pages_stay),
		TEST(test_turns),
		TEST(test_mapped_extent_is_charged),
		TEST(test_no_lookup_across),
		TEST(test_zero_on_reassignment),
		TEST(test_hbm_high_first),
	};

	return test_main(tests);
}
