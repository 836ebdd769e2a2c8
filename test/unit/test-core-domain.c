/* SPDX-License-Identifier: Apache-2.0 */
/* Domains and quotas: limits, promises, and extents that change hands. */
#include "test/unit/core-harness.h"

#include <errno.h>
#include <stdio.h>

#include "core/domain.h"
#include "core/pool.h"

/* 2 MiB extents of 64 frames of 32 KiB. */
#define TOKENS 64u
#define FRAMES 64u
#define EXTENT (2 * MIB)

static const struct syn_quota no_limit = { 0, SYN_QUOTA_NONE, SYN_QUOTA_NONE };

struct fixture {
	struct world world;
	uint32_t space;
};

/* 8 extents in HBM and 4 in the host tier. */
static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ 0 };
	world_open(&f.world, 8 * EXTENT, 4 * EXTENT, 2048, 0, 0);
	f.space = world_space(&f.world, TOKENS, 2, 64);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)syn_mm_evict(f->world.mm, UINT64_MAX);
	world_close(&f->world);
	return 0;
}

static int window_try(struct client *c, uint32_t space, uint32_t slots)
{
	struct syn_msg_window_reply reply;
	int r = syn_mm_window_open(c->session, space, slots, &reply);

	client_extents(c);
	return r;
}

static struct syn_ctl_domain domain_stat(const struct world *w, uint32_t number)
{
	struct syn_ctl_domain all[SYN_CTL_BATCH];
	char name[SYN_DOMAIN_BYTES];
	unsigned int nr;
	uint64_t next;

	nr = syn_mm_stat_domains(w->mm, 0, all, SYN_CTL_BATCH, &next);
	(void)snprintf(name, sizeof(name), "domain %u", number);
	while (nr--)
		if (!strcmp(all[nr].name, name))
			return all[nr];
	fail_msg("no domain %u", number);
	return all[0];
}

static uint64_t used(const struct world *w, uint32_t number, uint32_t tier)
{
	return domain_stat(w, number).tier[tier - SYN_TIER_HBM].used;
}

static int quota_set(struct world *w, uint32_t number, uint32_t tier,
		     uint64_t min, uint64_t high, uint64_t max)
{
	const struct syn_quota quota = { min, high, max };
	uint32_t domain;
	int r = world_domain(w, number, &domain);

	return r ? r : syn_mm_quota_set(w->mm, domain, tier, &quota);
}

/* Seals @nr pages under keys from @key on and gives them back: cached. */
static void fill(struct client *c, uint32_t nr, uint64_t key)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		assert_int_equal(
			client_release(c, client_sealed(c, 0, (uint32_t)key + i,
							key + i)),
			0);
}

/* How many of them are found with the right bytes. */
static uint32_t found(struct client *c, uint32_t nr, uint64_t key)
{
	uint32_t hits = 0;
	uint64_t handle;
	uint64_t miss;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		if (client_lookup(c, 0, key + i, &handle, &miss) != 1)
			continue;
		hits++;
		assert_int_equal(client_release(c, handle), 0);
	}
	return hits;
}

/* The clients unmap what they are asked to, and time passes. */
static void pass(struct world *w, struct client *const *clients, uint32_t nr)
{
	uint32_t i;
	uint32_t n;

	for (n = 0; n < 10; n++) {
		world_settle(w);
		for (i = 0; i < nr; i++)
			client_extents(clients[i]);
	}
}

static struct syn_pool *host_pool(const struct client *c)
{
	return syn_pool_below(c->session->window[0].pool, SYN_TIER_HOST,
			      SYN_CODEC_RAW16);
}

/* ---- records ------------------------------------------------------------ */

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct syn_domain_config config = { .identity = { 1, 2 } };
	uint32_t a;
	uint32_t b;

	config.quota[0] = config.quota[1] = config.quota[2] = no_limit;
	assert_int_equal(syn_mm_domain_get(f->world.mm, &config, &a), 0);
	assert_int_equal(syn_mm_domain_get(f->world.mm, &config, &b), 0);
	assert_int_equal(a, b);
	config.identity[1] = 3;
	assert_int_equal(syn_mm_domain_get(f->world.mm, &config, &b), 0);
	assert_int_not_equal(a, b);
}

/* Up to the limit, and one past it; what ends makes room. */
static void test_limit(void **state)
{
	struct fixture *f = *state;
	struct client c;
	uint32_t domain;
	uint32_t i;

	client_open(&c, &f->world, 1000);
	for (i = 0; i < SYN_DOMAINS_MAX - 1; i++) {
		struct syn_domain_config config = { .identity = { i, 7 },
						    .stays = true };

		config.quota[0] = config.quota[1] = config.quota[2] = no_limit;
		assert_int_equal(
			syn_mm_domain_get(f->world.mm, &config, &domain), 0);
	}
	assert_int_equal(world_domain(&f->world, 1001, &domain), -EUSERS);
	assert_int_equal(world_domain(&f->world, 1000, &domain), 0);
	client_close(&c);
	assert_int_equal(world_domain(&f->world, 1001, &domain), 0);
}

/* It is there as long as anything of it is. */
static void test_end(void **state)
{
	struct fixture *f = *state;
	struct syn_ctl_domain all[4];
	struct client c;
	uint64_t next;

	client_open(&c, &f->world, 5);
	(void)client_window(&c, f->space, FRAMES);
	fill(&c, 3, 1);
	assert_int_equal(domain_stat(&f->world, 5).nr_sessions, 1);
	assert_int_equal(domain_stat(&f->world, 5).nr_pages, 3);
	client_close(&c);
	world_settle(&f->world);
	assert_int_equal(domain_stat(&f->world, 5).nr_sessions, 0);
	assert_int_equal(domain_stat(&f->world, 5).nr_pages, 3);
	assert_int_equal(syn_mm_evict(f->world.mm, UINT64_MAX), 3);
	client_open(&c, &f->world, 6);
	client_close(&c);
	assert_int_equal(syn_mm_stat_domains(f->world.mm, 0, all, 4, &next), 0);
	assert_int_equal(next, 0);
}

static void test_stat_pages(void **state)
{
	struct fixture *f = *state;
	struct syn_ctl_domain one[2];
	uint64_t next = 0;
	uint32_t domain;
	uint32_t i;

	for (i = 0; i < 3; i++)
		assert_int_equal(world_domain(&f->world, i, &domain), 0);
	assert_int_equal(syn_mm_stat_domains(f->world.mm, 0, one, 2, &next), 2);
	assert_int_equal(next, 2);
	assert_int_equal(syn_mm_stat_domains(f->world.mm, next, one, 2, &next),
			 1);
	assert_string_equal(one[0].name, "domain 2");
	assert_int_equal(next, 0);
}

/* Of the swap file's domains only the name is known until somebody comes. */
static void test_found(void **state)
{
	struct fixture *f = *state;
	struct syn_domain_config config = { .identity = { 8, ~8ull },
					    .found = true };
	uint32_t found_as;
	uint32_t domain;

	config.quota[0] = config.quota[1] = config.quota[2] = no_limit;
	(void)snprintf(config.name, sizeof(config.name), "domain 8");
	assert_int_equal(syn_mm_domain_get(f->world.mm, &config, &found_as), 0);
	f->world.quota[1].max = 3 * EXTENT;
	assert_int_equal(world_domain(&f->world, 8, &domain), 0);
	assert_int_equal(domain, found_as);
	assert_int_equal(domain_stat(&f->world, 8).uid, 8);
	assert_int_equal(domain_stat(&f->world, 8).tier[1].max, 3 * EXTENT);
	/* Only then, and only once. */
	f->world.quota[1].max = EXTENT;
	assert_int_equal(world_domain(&f->world, 8, &domain), 0);
	assert_int_equal(domain_stat(&f->world, 8).tier[1].max, 3 * EXTENT);
}

static void test_session_needs_one(void **state)
{
	struct fixture *f = *state;
	struct client c;

	client_init(&c, &f->world);
	assert_int_equal(client_join_raw(&c, 17), -EINVAL);
	assert_int_equal(client_join_raw(&c, SYN_DOMAINS_MAX), -EINVAL);
	client_deinit(&c);
}

/* ---- quotas that are refused -------------------------------------------- */

static void test_bad_quotas(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct syn_ctl_domain before;
	struct client c;

	client_open(&c, w, 1);
	before = domain_stat(w, 1);
	assert_int_equal(quota_set(w, 1, 0, 0, 0, 0), -EINVAL);
	assert_int_equal(quota_set(w, 1, 4, 0, 0, 0), -EINVAL);
	assert_int_equal(quota_set(w, 1, 1, 2, SYN_QUOTA_NONE, 1), -EINVAL);
	assert_int_equal(quota_set(w, 1, 1, 0, 3, 2), -EINVAL);
	assert_int_equal(quota_set(w, 1, 1, 3, 2, 4), -EINVAL);
	assert_int_equal(syn_mm_quota_set(w->mm, 99, 1, &no_limit), -ENOENT);
	assert_int_equal(syn_mm_quota_set(w->mm, SYN_DOMAINS_MAX, 1, &no_limit),
			 -ENOENT);
	/* The budget and one byte more. */
	assert_int_equal(quota_set(w, 1, 1, 8 * EXTENT + 1, SYN_QUOTA_NONE,
				   SYN_QUOTA_NONE),
			 -ENOSPC);
	/* There is no third tier. */
	assert_int_equal(quota_set(w, 1, 3, 1, SYN_QUOTA_NONE, SYN_QUOTA_NONE),
			 -ENOSPC);
	{
		struct syn_ctl_domain after = domain_stat(w, 1);

		assert_memory_equal(&before, &after, sizeof(after));
	}
	assert_int_equal(
		quota_set(w, 1, 1, 8 * EXTENT, SYN_QUOTA_NONE, SYN_QUOTA_NONE),
		0);
	client_close(&c);
}

/* Whole extents count, so that all of them can be taken. */
static void test_sum_of_minimums(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct client a;
	struct client b;

	client_open(&a, w, 1);
	client_open(&b, w, 2);
	assert_int_equal(
		quota_set(w, 1, 2, 3 * EXTENT, SYN_QUOTA_NONE, SYN_QUOTA_NONE),
		0);
	assert_int_equal(
		quota_set(w, 2, 2, EXTENT + 1, SYN_QUOTA_NONE, SYN_QUOTA_NONE),
		-ENOSPC);
	assert_int_equal(
		quota_set(w, 2, 2, EXTENT, SYN_QUOTA_NONE, SYN_QUOTA_NONE), 0);
	/* A domain that comes with one that does not fit does not come. */
	w->quota[1].min = 1;
	{
		uint32_t domain;

		assert_int_equal(world_domain(w, 3, &domain), -ENOSPC);
	}
	client_close(&a);
	client_close(&b);
}

/* What windows are sure of is not taken back. */
static void test_max_below_windows(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct client c;

	client_open(&c, w, 1);
	(void)client_window(&c, f->space, FRAMES + 1);
	assert_int_equal(quota_set(w, 1, 1, 0, SYN_QUOTA_NONE, 2 * EXTENT - 1),
			 -EBUSY);
	assert_int_equal(quota_set(w, 1, 1, 0, SYN_QUOTA_NONE, 2 * EXTENT), 0);
	client_close(&c);
}

/* ---- limits ------------------------------------------------------------- */

static void test_hbm_max(void **state)
{
	struct fixture *f = *state;
	struct client c;
	struct client d;

	f->world.quota[0].max = 2 * EXTENT;
	client_open(&c, &f->world, 1);
	client_open(&d, &f->world, 1);
	assert_int_equal(window_try(&c, f->space, 2 * FRAMES + 1), -EDQUOT);
	assert_int_equal(used(&f->world, 1, 1), 0);
	assert_int_equal(domain_stat(&f->world, 1).refused, 1);
	assert_int_equal(window_try(&c, f->space, 2 * FRAMES), 0);
	assert_int_equal(used(&f->world, 1, 1), 2 * EXTENT);
	/* Of the domain, not of the session. */
	assert_int_equal(window_try(&d, f->space, 1), -EDQUOT);
	assert_int_equal(domain_stat(&f->world, 1).refused, 2);
	client_close(&c);
	assert_int_equal(window_try(&d, f->space, 2 * FRAMES), 0);
	client_close(&d);
}

/* A byte less than an extent is no extent. */
static void test_max_is_exact(void **state)
{
	struct fixture *f = *state;
	struct client c;

	f->world.quota[0].max = 2 * EXTENT - 1;
	client_open(&c, &f->world, 1);
	assert_int_equal(window_try(&c, f->space, FRAMES + 1), -EDQUOT);
	assert_int_equal(window_try(&c, f->space, FRAMES), 0);
	client_close(&c);
}

static void test_hbm_min(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client late;

	f->world.quota[0].min = 2 * EXTENT;
	client_open(&a, &f->world, 1);
	f->world.quota[0].min = 0;
	client_open(&b, &f->world, 2);
	/* Six of eight extents are for everybody. */
	assert_int_equal(window_try(&b, f->space, 6 * FRAMES + 1), -EDQUOT);
	assert_int_equal(domain_stat(&f->world, 2).refused, 1);
	assert_int_equal(window_try(&b, f->space, 6 * FRAMES), 0);
	client_open(&late, &f->world, 2);
	assert_int_equal(window_try(&late, f->space, 1), -EDQUOT);
	assert_int_equal(window_try(&a, f->space, 2 * FRAMES), 0);
	client_close(&late);
	client_close(&a);
	client_close(&b);
}

/* Minimums that could not be kept free do not stand in each other's way. */
static void test_late_minimums(void **state)
{
	struct fixture *f = *state;
	struct client a;
	struct client b;
	struct client hog;

	client_open(&hog, &f->world, 3);
	assert_int_equal(window_try(&hog, f->space, 7 * FRAMES), 0);
	client_open(&a, &f->world, 1);
	client_open(&b, &f->world, 2);
	assert_int_equal(quota_set(&f->world, 1, 1, 2 * EXTENT, SYN_QUOTA_NONE,
				   SYN_QUOTA_NONE),
			 0);
	assert_int_equal(quota_set(&f->world, 2, 1, 2 * EXTENT, SYN_QUOTA_NONE,
				   SYN_QUOTA_NONE),
			 0);
	assert_int_equal(window_try(&a, f->space, FRAMES), 0);
	assert_int_equal(window_try(&b, f->space, FRAMES), -EDQUOT);
	client_close(&hog);
	assert_int_equal(window_try(&b, f->space, 2 * FRAMES), 0);
	client_close(&a);
	client_close(&b);
}

/* A slot of the swap file is charged by whoever writes it. */
static void test_nvme(void **state)
{
	struct fixture *f = *state;
	struct syn_mm *mm = f->world.mm;
	uint32_t a;
	uint32_t b;

	mm->tier[2].budget_bytes = 1000;
	f->world.quota[2] = (struct syn_quota){ 300, 500, 600 };
	assert_int_equal(world_domain(&f->world, 1, &a), 0);
	f->world.quota[2] = no_limit;
	assert_int_equal(world_domain(&f->world, 2, &b), 0);
	assert_int_equal(syn_domain_charge(mm, b, 3, 701), -EDQUOT);
	assert_int_equal(syn_domain_charge(mm, b, 3, 700), 0);
	assert_int_equal(syn_domain_charge(mm, a, 3, 301), -EDQUOT);
	assert_int_equal(syn_domain_charge(mm, a, 3, 300), 0);
	syn_domain_uncharge(mm, b, 3, 700);
	assert_int_equal(syn_domain_charge(mm, a, 3, 301), -EDQUOT);
	assert_int_equal(syn_domain_charge(mm, a, 3, 300), 0);
	assert_true(syn_domain_high(mm, a, 3));
	assert_int_equal(used(&f->world, 1, 3), 600);
	syn_domain_uncharge(mm, a, 3, 600);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_limit),
		TEST(test_end),
		TEST(test_stat_pages),
		TEST(test_found),
		TEST(test_session_needs_one),
		TEST(test_bad_quotas),
		TEST(test_sum_of_minimums),
		TEST(test_max_below_windows),
		TEST(test_hbm_max),
		TEST(test_max_is_exact),
		TEST(test_hbm_min),
		TEST(test_late_minimums),
		TEST(test_nvme),
		TEST(test_host_max),
		TEST(test_host_shares),
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
