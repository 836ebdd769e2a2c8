/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long walk: clients do whatever comes, die now and then, and every page that
 * is read holds the bytes that were written, in its own domain.
 */
#include "test/unit/core-harness.h"

#include <errno.h>
#include <stdio.h>

#define WALK_CLIENTS 6u
#define WALK_OPS     200000u
#define WALK_HELD    96u /* leases of a client */
#define WALK_KEYS    64u
#define WALK_SLOTS   24u
#define WALK_TOKENS  64u

struct held {
	uint64_t handle;
	uint32_t seed;
	bool full;
	bool sealed;
	bool pinned;
};

struct walker {
	struct client client;
	struct held held[WALK_HELD];
	uint32_t nr;
	uint32_t window;
	uint32_t domain;
	bool alive;
	/* Ended, but its process still lives. */
	bool lingers;
	uint64_t loans; /* left out on purpose */
};

struct walk {
	struct world world;
	struct walker walker[WALK_CLIENTS];
	uint32_t space;
	uint32_t nr_clients;
	uint32_t nr_domains;
	uint64_t random;
	uint32_t key_seed[WALK_KEYS];
	uint64_t quotas;
	uint64_t refused;
	uint64_t loads;
	uint64_t found;
	uint64_t deaths;
};

static uint32_t walk_random(struct walk *k, uint32_t below)
{
	k->random ^= k->random << 13;
	k->random ^= k->random >> 7;
	k->random ^= k->random << 17;
	return (uint32_t)((k->random >> 32) % below);
}

static struct held *walk_pick(struct walk *k, struct walker *w)
{
	return w->nr ? &w->held[walk_random(k, w->nr)] : NULL;
}

/* The same key has other bytes in another domain. */
static uint32_t walk_key_seed(const struct walk *k, const struct walker *w,
			      uint32_t key)
{
	return k->key_seed[key] + w->domain;
}

static void walk_join(struct walk *k, struct walker *w)
{
	struct syn_msg_window_reply reply;
	int r;

	if (w->lingers) {
		client_close(&w->client);
		w->lingers = false;
	}
	w->domain = 1 + (uint32_t)(w - k->walker) % k->nr_domains;
	client_open(&w->client, &k->world, w->domain);
	r = syn_mm_window_open(w->client.session, k->space, WALK_SLOTS, &reply);
	assert_true(!r || (r == -EDQUOT && k->nr_domains > 1));
	if (r) {
		k->refused++;
		client_close(&w->client);
		return;
	}
	client_extents(&w->client);
	w->window = reply.window;
	w->alive = true;
	w->nr = 0;
	w->loans = 0;
}

static void walk_die(struct walk *k, struct walker *w)
{
	k->deaths++;
	w->alive = false;
	if (walk_random(k, 2)) {
		client_close(&w->client);
		return;
	}
	syn_mm_session_end(w->client.session);
	w->lingers = true;
}

static void walk_lease(struct walk *k, struct walker *w)
{
	uint32_t nr = 1 + walk_random(k, 4);
	uint64_t handles[4];
	uint32_t i;
	int r;

	if (w->nr + nr > WALK_HELD)
		return;
	r = client_lease(&w->client, w->window, nr, handles);
	assert_true(!r || r == SYN_E_BACKPRESSURE || r == SYN_MM_E_WAIT);
	for (i = 0; !r && i < nr; i++) {
		struct held *h = &w->held[w->nr++];

		*h = (struct held){
			.handle = handles[i],
			.seed = walk_random(k, UINT32_MAX),
		};
		client_write(&w->client, h->handle, h->seed);
	}
}

/* Keys repeat: what is sealed under one always has the same bytes. */
static void walk_seal(struct walk *k, struct walker *w, struct held *h)
{
	uint32_t key = walk_random(k, WALK_KEYS);
	int r;

	if (h->sealed || h->pinned)
		return;
	if (!h->full) {
		h->seed = walk_key_seed(k, w, key);
		client_write(&w->client, h->handle, h->seed);
		r = client_commit(&w->client, h->handle, WALK_TOKENS);
		assert_int_equal(r, 0);
		h->full = true;
		if (walk_random(k, 3) == 0)
			return;
	}
	if (h->seed != walk_key_seed(k, w, key))
		return;
	r = client_seal(&w->client, h->handle, key + 1,
			w->client.timeline[0].issued);
	assert_true(!r || r == SYN_E_DUP || r == SYN_E_BACKPRESSURE ||
		    r == SYN_E_BUSY || r == SYN_MM_E_WAIT);
	h->sealed = !r || r == SYN_E_DUP;
}

static void walk_check(struct walk *k, struct walker *w, struct held *h)
{
	int r = client_check(&w->client, h->handle, h->seed);

	assert_true(!r || r == SYN_E_BACKPRESSURE || r == SYN_E_BUSY ||
		    r == SYN_MM_E_WAIT);
	k->loads += !r;
}

static void walk_pin(struct walk *k, struct walker *w, struct held *h)
{
	uint32_t *at;

	if (h->pinned) {
		assert_int_equal(
			*client_slot(
				&w->client, w->window,
				SYN_PTE_SLOT(w->client.pte[SYN_HANDLE_INDEX(
					h->handle)])),
			h->seed);
		client_unpin(&w->client, h->handle);
		h->pinned = false;
	} else if (walk_random(k, 4) == 0 &&
		   client_load(&w->client, h->handle, &at) == 0) {
		assert_int_equal(*at, h->seed);
		h->pinned = true;
	}
}

static void walk_release(struct walker *w, struct held *h)
{
	int r = client_release(&w->client, h->handle);

	assert_int_equal(r, h->pinned ? -EBUSY : 0);
	if (!r)
		*h = w->held[--w->nr];
}

static void walk_lookup(struct walk *k, struct walker *w)
{
	uint32_t key = walk_random(k, WALK_KEYS);
	uint64_t handle;
	uint64_t miss;
	int r;

	if (w->nr == WALK_HELD)
		return;
	r = client_lookup(&w->client, w->window, key + 1, &handle, &miss);
	if (r != 1)
		return;
	k->found++;
	w->held[w->nr++] = (struct held){
		.handle = handle,
		.seed = walk_key_seed(k, w, key),
		.full = true,
		.sealed = true,
	};
}

/* A loan that fails, or that is left out. */
static void walk_loan(struct walk *k, struct walker *w, const struct held *h)
{
	struct syn_vec_fault answer;
	int r;

	if (client_state(&w->client, h->handle) != SYN_PTE_ABSENT)
		return;
	r = client_fault(&w->client, &h->handle, 1, &answer);
	if (r || answer.res != SYN_FAULT_LOAN)
		return;
	if (walk_random(k, 3) && w->loans < 4) {
		w->loans++;
		return;
	}
	assert_int_equal(client_loaded(&w->client, answer.loan, -EIO), 0);
}

static void walk_loans_end(struct walker *w)
{
	uint32_t i;

	for (i = 0; i < SYN_LOANS_MAX; i++)
		if (w->client.loan[i].state == SYN_LOAN_OUT)
			assert_int_equal(
				client_loaded(&w->client, i,
					      client_execute(&w->client, i)),
				0);
	w->loans = 0;
}

/* Work is issued, some of it is done. */
static void walk_timeline(struct walk *k, struct walker *w)
{
	struct syn_timeline *t =
		&w->client.timeline[walk_random(k, CLIENT_LINES)];

	if (walk_random(k, 12) == 0)
		t->issued++;
	else
		t->done = t->issued;
}

static void walk_step(struct walk *k, struct walker *w)
{
	struct held *h = walk_pick(k, w);
	uint32_t what = walk_random(k, 100);

	if (what < 10)
		walk_lease(k, w);
	else if (what < 24)
		walk_lookup(k, w);
	else if (what < 30)
		walk_timeline(k, w);
	else if (what < 34)
		walk_loans_end(w);
	else if (!h)
		return;
	else if (what < 56)
		walk_seal(k, w, h);
	else if (what < 72)
		walk_check(k, w, h);
	else if (what < 84)
		walk_pin(k, w, h);
	else if (what < 97)
		walk_release(w, h);
	else
		walk_loan(k, w, h);
}

static uint64_t walk_limit(struct walk *k, uint64_t least)
{
	if (walk_random(k, 3) == 0)
		return SYN_QUOTA_NONE;
	return least + walk_random(k, 4) * MIB;
}

/* Never below what it has: that is what the audit holds it to. */
static void walk_quota(struct walk *k)
{
	uint32_t tier = SYN_TIER_HBM + walk_random(k, 2);
	struct syn_quota quota;
	uint32_t domain;
	int r;

	r = world_domain(&k->world, 1 + walk_random(k, k->nr_domains), &domain);
	assert_int_equal(r, 0);
	quota.min = walk_random(k, 3) * MIB;
	quota.high = walk_limit(k, quota.min);
	quota.max = walk_limit(
		k,
		syn_max(k->world.mm->domain[domain].used[tier - 1],
			quota.high == SYN_QUOTA_NONE ? quota.min : quota.high));
	r = syn_mm_quota_set(k->world.mm, domain, tier, &quota);
	assert_true(!r || r == -ENOSPC);
	k->quotas += !r;
}

static void walk_turn(struct walk *k, uint32_t n)
{
	struct walker *w = &k->walker[walk_random(k, k->nr_clients)];

	if (k->nr_domains > 1 && n % 1024 == 0)
		walk_quota(k);

	if (!w->alive)
		walk_join(k, w);
	else if (walk_random(k, 2000) == 0)
		walk_die(k, w);
	else
		walk_step(k, w);
	if (n % 8 == 0)
		(void)world_poll(&k->world);
	if (n % 512 == 0)
		world_audit(&k->world);
	for (uint32_t i = 0; n % 64 == 0 && i < k->nr_clients; i++)
		if (k->walker[i].alive)
			client_extents(&k->walker[i].client);
}

static void walk_end(struct walk *k)
{
	uint32_t i;

	for (i = 0; i < k->nr_clients; i++)
		if (k->walker[i].alive || k->walker[i].lingers)
			client_close(&k->walker[i].client);
	world_settle(&k->world);
	world_audit(&k->world);
	(void)syn_mm_evict(k->world.mm, UINT64_MAX);
	world_settle(&k->world);
	assert_int_equal(world_stat(&k->world).nr_pages, 0);
	assert_int_equal(world_tier(&k->world, SYN_TIER_HBM).used_bytes, 0);
	assert_int_equal(world_tier(&k->world, SYN_TIER_HOST).used_bytes, 0);
	if (k->world.disk)
		assert_int_equal(
			world_tier(&k->world, SYN_TIER_NVME).used_bytes, 0);
	world_close(&k->world);
}

/* Three clients of each domain, up to the most there may be. */
static void walk_run(uint64_t seed, uint32_t ops, uint32_t nr_domains,
		     uint64_t host_bytes, uint32_t nr_segments)
{
	static struct walk walk;
	struct syn_mm_config config = {
		.hbm_bytes = 16 * MIB,
		.host_bytes = host_bytes,
		.max_pages = 512,
		.max_sessions = 8,
		.low_permille = 100,
		.high_permille = 250,
		.codec = SYN_CODEC_RAW16,
	};
	struct syn_simdisk *sim = NULL;
	struct syn_ctl_status stat;
	uint32_t i;

	walk = (struct walk){ .random = seed, .nr_domains = nr_domains };
	walk.nr_clients = syn_min(3 * nr_domains, WALK_CLIENTS);
	if (nr_segments)
		assert_int_equal(
			syn_simdisk_new(&sim, 2 * MIB, nr_segments, seed), 0);
	world_open_swap(&walk.world, &config, sim);
	/* 32 KiB a page: 64 frames in an extent. */
	walk.space = world_space(&walk.world, WALK_TOKENS, 2, 64);
	for (i = 0; i < WALK_KEYS; i++)
		walk.key_seed[i] = walk_random(&walk, UINT32_MAX);
	for (i = 0; i < ops; i++)
		walk_turn(&walk, i);
	stat = world_stat(&walk.world);
	print_message("seed %llu: %llu demotions, %llu free, %llu loads, "
		      "%llu evictions, %llu refusals, %llu deaths, "
		      "%llu quotas, %llu windows refused\n",
		      (unsigned long long)seed,
		      (unsigned long long)stat.demotions,
		      (unsigned long long)stat.free_demotions,
		      (unsigned long long)stat.loads,
		      (unsigned long long)stat.evictions,
		      (unsigned long long)stat.backpressure,
		      (unsigned long long)walk.deaths,
		      (unsigned long long)walk.quotas,
		      (unsigned long long)walk.refused);
	assert_true(stat.demotions && stat.loads && walk.found && walk.deaths);
	assert_int_equal(stat.sum_failures, 0);
	if (sim && nr_domains == 1 && host_bytes == 2 * MIB)
		assert_true(world_tier(&walk.world, SYN_TIER_NVME).out_bytes);
	walk_end(&walk);
	assert_null(syn_simdisk_free(sim));
}

static void test_walk(void **state)
{
	walk_run(0x9e3779b97f4a7c15, WALK_OPS / 2, 1, 32 * MIB, 0);
}

/* The host tier holds less than the clients want. */
static void test_walk_short(void **state)
{
	walk_run(0x2545f4914f6cdd1d, WALK_OPS / 2, 1, 2 * MIB, 0);
}

/* What it does not hold goes to the swap file. */
static void test_walk_swap(void **state)
{
	walk_run(0xda942042e4dd58b5, WALK_OPS / 2, 1, 2 * MIB, 8);
	walk_run(0x5851f42d4c957f2d, WALK_OPS / 2, 3, 8 * MIB, 8);
}

/* That is short, too. */
static void test_walk_swap_short(void **state)
{
	walk_run(0x853c49e6748fea9b, WALK_OPS / 2, 1, 2 * MIB, 1);
	/* Once wrote the same pages for ever, each into another's slot. */
	walk_run(21368498286009, WALK_OPS / 2, 2, 3 * MIB, 1);
}

/* Domains take extents from each other, while their quotas change. */
static void test_walk_domains(void **state)
{
	walk_run(0xd1342543de82ef95, WALK_OPS, 2, 6 * MIB, 0);
	walk_run(0xaf251af3b0f025b5, WALK_OPS / 2, 3, 8 * MIB, 0);
}

/* Other walks each time, under the setup that asks for it. */
static void test_walk_more(void **state)
{
	uint64_t seed = syn_now_ns() | 1;
	uint32_t i;

	if (!getenv("SYN_TEST_STRESS"))
		skip();
	for (i = 0; i < 40; i++)
		walk_run(seed + 2ull * i, WALK_OPS / 2, 1 + i % 3,
			 (2 + i % 4) * MIB, i % 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_walk_short),
		cmocka_unit_test(test_walk_swap),
		cmocka_unit_test(test_walk_swap_short),
		cmocka_unit_test(test_walk_domains),
		cmocka_unit_test(test_walk_more),
	};

	return test_main(tests);
}
