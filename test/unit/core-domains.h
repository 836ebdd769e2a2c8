/* SPDX-License-Identifier: Apache-2.0 */
/* A small world for several domains, and how they fill it. */
#ifndef SYN_TEST_CORE_DOMAINS_H
#define SYN_TEST_CORE_DOMAINS_H

#include "test/unit/core-harness.h"

#include <stdio.h>

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
static inline int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ 0 };
	world_open(&f.world, 8 * EXTENT, 4 * EXTENT, 2048, 0, 0);
	f.space = world_space(&f.world, TOKENS, 2, 64);
	*state = &f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	(void)syn_mm_evict(f->world.mm, UINT64_MAX);
	world_close(&f->world);
	return 0;
}

static inline int window_try(struct client *c, uint32_t space, uint32_t slots)
{
	struct syn_msg_window_reply reply;
	int r = syn_mm_window_open(c->session, space, slots, &reply);

	client_extents(c);
	return r;
}

static inline struct syn_ctl_domain domain_stat(const struct world *w,
						uint32_t number)
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

static inline uint64_t used(const struct world *w, uint32_t number,
			    uint32_t tier)
{
	return domain_stat(w, number).tier[tier - SYN_TIER_HBM].used;
}

static inline int quota_set(struct world *w, uint32_t number, uint32_t tier,
			    uint64_t min, uint64_t high, uint64_t max)
{
	const struct syn_quota quota = { min, high, max };
	uint32_t domain;
	int r = world_domain(w, number, &domain);

	return r ? r : syn_mm_quota_set(w->mm, domain, tier, &quota);
}

/* Seals @nr pages under keys from @key on and gives them back: cached. */
static inline void fill(struct client *c, uint32_t nr, uint64_t key)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		assert_int_equal(
			client_release(c, client_sealed(c, 0, (uint32_t)key + i,
							key + i)),
			0);
}

/* How many of them are found with the right bytes. */
static inline uint32_t found(struct client *c, uint32_t nr, uint64_t key)
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
static inline void pass(struct world *w, struct client *const *clients,
			uint32_t nr)
{
	uint32_t i;
	uint32_t n;

	for (n = 0; n < 10; n++) {
		world_settle(w);
		for (i = 0; i < nr; i++)
			client_extents(clients[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
