/* SPDX-License-Identifier: Apache-2.0 */
/* Domains and quotas: records, what is refused, limits, promises. */
#include "test/unit/core-domains.h"

#include <errno.h>

#include "core/domain.h"

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
	};

	return test_main(tests);
}
