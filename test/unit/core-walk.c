/* SPDX-License-Identifier: Apache-2.0 */
/* A long walk. */
#include "test/unit/core-walk.h"

#include <errno.h>

#include "core/fsck.h"
#include "kernels/codec/page.h"

#define WALK_FSCK 2048 /* work of one step, while others work */

uint32_t walk_random(struct walk *k, uint32_t below)
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

static int walk_window(struct walk *k, struct walker *w)
{
	if (k->config.coded)
		return client_window_open_coded(&w->client, k->space,
						WALK_SLOTS, WALK_CODED,
						&w->window);
	return client_window_open(&w->client, k->space, WALK_SLOTS, &w->window);
}

/* Bytes of any kind; those that are to be encoded are small numbers mostly. */
static const void *walk_bytes(const struct walk *k, uint32_t seed)
{
	static uint32_t word[WALK_BYTES / sizeof(uint32_t)];
	bool finite = k->config.coded && seed % 4;
	uint32_t i;

	for (i = 0; i < syn_array_size(word); i++) {
		word[i] = seed + i * 2654435761u;
		if (finite)
			word[i] &= 0xbfffbfff;
	}
	return word;
}

/* It may be refused for now; or its page is lost, where that happens. */
static bool walk_may_refuse(struct walk *k, int r)
{
	bool lost = r == SYN_E_LOST || r == -EILSEQ || r == SYN_E_FAULT;

	k->lost += lost;
	return r == SYN_E_BACKPRESSURE || r == SYN_E_BUSY ||
	       r == SYN_MM_E_WAIT || (lost && k->config.lossy);
}

static bool walk_write(struct walk *k, struct walker *w, const struct held *h)
{
	uint32_t *at;
	int r = client_pin(&w->client, h->handle, &at);

	assert_true(!r || walk_may_refuse(k, r));
	if (r)
		return false;
	memcpy(at, walk_bytes(k, h->seed), WALK_BYTES);
	client_unpin(&w->client, h->handle);
	return true;
}

/* What lies at @at is the page, in the form that its slot is for. */
static bool walk_matches(struct walk *k, const struct held *h, const void *at,
			 bool coded)
{
	const struct syn_layout *l = &k->world.mm->info[k->space].layout;
	static unsigned char stored[WALK_BYTES];
	uint32_t sums[2][SYN_TILES_MAX];
	uint16_t errors[SYN_TILES_MAX];

	if (!coded)
		return !memcmp(at, walk_bytes(k, h->seed), WALK_BYTES);
	k->read_coded++;
	assert_int_equal(syn_page_encode(stored, walk_bytes(k, h->seed), l, 0,
					 syn_layout_tiles(l), sums[0], sums[1],
					 errors),
			 0);
	return !memcmp(at, stored, syn_layout_bytes(l));
}

static void walk_join(struct walk *k, struct walker *w)
{
	int r;

	if (w->lingers) {
		client_close(&w->client);
		w->lingers = false;
	}
	w->domain = 1 + (uint32_t)(w - k->walker) % k->config.nr_domains;
	client_open(&w->client, &k->world, w->domain);
	r = walk_window(k, w);
	assert_true(!r || (r == -EDQUOT &&
			   (k->config.nr_domains > 1 || k->config.lossy)));
	if (r) {
		k->refused++;
		client_close(&w->client);
		return;
	}
	client_extents(&w->client);
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
	client_end(&w->client);
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
		(void)walk_write(k, w, h);
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
		if (!walk_write(k, w, h))
			return;
		r = client_commit(&w->client, h->handle, WALK_TOKENS);
		assert_true(!r || walk_may_refuse(k, r));
		if (r)
			return;
		h->full = true;
		if (walk_random(k, 3) == 0)
			return;
	}
	if (h->seed != walk_key_seed(k, w, key))
		return;
	r = client_seal(&w->client, h->handle, key + 1,
			w->client.timeline[0].issued);
	assert_true(!r || r == SYN_E_DUP || walk_may_refuse(k, r));
	h->sealed = !r || r == SYN_E_DUP;
}

static void walk_check(struct walk *k, struct walker *w, struct held *h)
{
	uint32_t *at;
	int r = client_load(&w->client, h->handle, &at);

	if (!r) {
		assert_true(walk_matches(
			k, h, at, client_is_coded(&w->client, h->handle)));
		client_unpin(&w->client, h->handle);
	}
	assert_true(!r || walk_may_refuse(k, r));
	k->loads += !r;
}

static void walk_pin(struct walk *k, struct walker *w, struct held *h)
{
	uint32_t *at;
	int r;

	/* It stays where it was, whatever is said of it meanwhile. */
	if (h->pinned) {
		assert_true(walk_matches(k, h, h->at, h->coded));
		client_unpin(&w->client, h->handle);
		h->pinned = false;
	} else if (walk_random(k, 4) == 0) {
		r = client_load(&w->client, h->handle, &at);
		assert_true(!r || walk_may_refuse(k, r));
		if (r)
			return;
		h->pinned = true;
		h->at = at;
		h->coded = client_is_coded(&w->client, h->handle);
		assert_true(walk_matches(k, h, h->at, h->coded));
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
	r = client_lookup_floor(&w->client, w->window,
				k->config.coded ? SYN_FIDELITY_H4 : 0, key + 1,
				&handle, &miss);
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
	r = k->config.lossy && walk_random(k, 4) == 0 ? -EILSEQ : -EIO;
	assert_int_equal(client_loaded(&w->client, answer.loan, r), 0);
}

/* A step on the way to disk. */
static void walk_persist(struct walk *k, struct walker *w, const struct held *h)
{
	int r = client_persist_step(&w->client, h->handle);

	assert_true(!r || r == -ENOKEY || r == (k->sim ? -ENOKEY : -ENODEV) ||
		    walk_may_refuse(k, r));
}

static void walk_loans_end(struct walker *w)
{
	uint32_t i;

	for (i = 0; i < SYN_LOANS_MAX; i++)
		if (syn_bit_test(w->client.loans, i))
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
	else if (what < 96)
		walk_release(w, h);
	else if (what < 97)
		walk_persist(k, w, h);
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

	r = world_domain(&k->world, 1 + walk_random(k, k->config.nr_domains),
			 &domain);
	assert_int_equal(r, 0);
	quota.min = walk_random(k, 3) * MIB;
	quota.high = walk_limit(k, quota.min);
	quota.max = walk_limit(
		k,
		syn_max(k->world.mm->domain[domain].used[tier - 1],
			quota.high == SYN_QUOTA_NONE ? quota.min : quota.high));
	r = world_quota(&k->world, domain, tier, &quota);
	/* Nobody was in it when a worker died; its windows lack what was lost. */
	assert_true(!r || r == -ENOSPC || (k->config.mortal && r == -ENOENT) ||
		    (k->config.lossy && r == -EBUSY));
	k->quotas += !r;
}

/* What holds at any moment holds between any two requests. */
static void walk_fsck(struct walk *k)
{
	if (!k->fsck)
		assert_int_equal(syn_fsck_new(k->world.mm, &k->fsck), 0);
	if (syn_fsck_step(k->fsck, WALK_FSCK))
		return;
	assert_true(SYN_FSCK_FOUND(syn_fsck_found(k->fsck)) == 0);
	k->fsck = syn_fsck_free(k->fsck);
	k->fscks++;
}

void walk_turn(struct walk *k, uint32_t n)
{
	struct walker *w = &k->walker[walk_random(k, k->nr_clients)];

	if (k->config.nr_domains > 1 && n % 1024 == 0)
		walk_quota(k);
	if (k->config.lossy && k->sim && n % 128 == 0)
		syn_simdisk_fail(k->sim, 1 + walk_random(k, 64), -EIO);

	if (!w->alive)
		walk_join(k, w);
	else if (walk_random(k, k->config.mortal ? 300 : 2000) == 0)
		walk_die(k, w);
	else
		walk_step(k, w);
	if (n % 8 == 0)
		(void)world_poll(&k->world);
	if (n % 512 == 0)
		world_audit(&k->world);
	if (w->alive)
		client_audit(&w->client, w->nr);
	walk_fsck(k);
	for (uint32_t i = 0; n % 64 == 0 && i < k->nr_clients; i++)
		if (k->walker[i].alive)
			client_extents(&k->walker[i].client);
}

void walk_leave(struct walk *k)
{
	uint32_t i;

	for (i = 0; i < k->nr_clients; i++)
		if (k->walker[i].alive || k->walker[i].lingers)
			client_close(&k->walker[i].client);
	k->fsck = syn_fsck_free(k->fsck);
	world_settle(&k->world);
	world_audit(&k->world);
	(void)world_evict(&k->world, UINT64_MAX);
	world_settle(&k->world);
}

void walk_end(struct walk *k)
{
	assert_int_equal(world_stat(&k->world).nr_pages, 0);
	assert_int_equal(world_tier(&k->world, SYN_TIER_HBM).used_bytes, 0);
	assert_int_equal(world_tier(&k->world, SYN_TIER_HOST).used_bytes, 0);
	/* Where the medium failed, a slot stays in use by nobody. */
	if (k->world.disk && !k->config.lossy)
		assert_int_equal(
			world_tier(&k->world, SYN_TIER_NVME).used_bytes, 0);
	world_close(&k->world);
	assert_null(syn_simdisk_free(k->sim));
}

static void walk_space(struct walk *k)
{
	struct world *w = &k->world;
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	/* 32 KiB a page: 64 frames in an extent. */
	space_fill(&msg, WALK_TOKENS, 1, 64);
	if (k->config.coded) {
		msg.flags = SYN_SPACE_F_CODED;
		msg.component[0].codec = SYN_CODEC_H4;
		msg.component[1].codec = SYN_CODEC_H4;
	}
	world_do(w, w->result = syn_mm_space_define(w->mm, &msg, &reply, &why));
	assert_int_equal(w->result, 0);
	assert_int_equal(reply.page_bytes, WALK_BYTES);
	k->space = reply.space;
}

void walk_prepare(struct walk *k, const struct walk_config *config,
		  struct syn_mm_config *ret)
{
	*k = (struct walk){ .config = *config, .random = config->seed };
	k->nr_clients = syn_min(3 * config->nr_domains, WALK_CLIENTS);
	*ret = (struct syn_mm_config){
		.hbm_bytes = 16 * MIB,
		.host_bytes = config->host_bytes,
		.max_pages = 512,
		.max_sessions = 8,
		.low_permille = 100,
		.high_permille = 250,
		.codec = config->coded ? SYN_CODEC_H4 : SYN_CODEC_RAW16,
	};
	if (config->nr_segments)
		assert_int_equal(syn_simdisk_new(&k->sim, 2 * MIB,
						 config->nr_segments,
						 config->seed),
				 0);
}

void walk_begin(struct walk *k)
{
	uint32_t i;

	walk_space(k);
	for (i = 0; i < WALK_KEYS; i++)
		k->key_seed[i] = walk_random(k, UINT32_MAX);
}
