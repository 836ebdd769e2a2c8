/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many clients on a daemon with tiny budgets, each of which wants everything:
 * they lease, write, seal, find, load and compare, and when they are refused
 * give some pages back and go on.  No byte may be wrong, no client may starve,
 * every refusal must say when to try again, and in the end nothing is left.
 *
 * campaign-tsunami [--clients N] [--seconds N] [--seed N] [--nvme FILE]
 */
#include <getopt.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define CLIENTS_MAX 256u
#define SLOTS	    8u
#define WANTED	    48u	 /* pages that a client would like to hold */
#define BATCH	    4u	 /* pages of one lease, load or lookup, at most */
#define NAMES	    512u /* keys, shared by all */
#define MOMENT_NS   2000000u
#define START_S	    60
#define WALK_MS	    50

/**
 * struct score - what a client has done; its own until it has ended.
 * @ready:	attached.
 * @error:	what ended it early.
 * @wrong:	pages that were lost or held another byte.
 * @bytes:	written and compared.
 * @ops:	calls that were answered, by whatever.
 * @refused:	of them with SYN_E_BACKPRESSURE.
 * @no_hint:	of them without a hint.
 * @hint_ns:	longest hint.
 */
struct score {
	uint32_t ready;
	int32_t error;
	uint64_t wrong;
	uint64_t bytes;
	uint64_t ops;
	uint64_t refused;
	uint64_t no_hint;
	uint64_t hint_ns;
};

/**
 * struct shared - between the campaign and its clients.
 * @until_ns:	0 until all may begin, then when to end.
 * @score:	of each client.
 */
struct shared {
	uint64_t until_ns;
	struct score score[CLIENTS_MAX];
};

/**
 * struct member - a client, in its own process.
 * @e:		its session and pages; the seed of a page is its name.
 * @sealed:	pages that are, as in @e.
 * @s:		its score.
 * @seed:	of everything random.
 */
struct member {
	struct engine e;
	bool sealed[ENGINE_PAGES_MAX];
	struct score *s;
	uint64_t seed;
};

static uint32_t pick(struct member *m, uint32_t below)
{
	return (uint32_t)(engine_random(&m->seed) % below);
}

/* What a page holds follows from its name, whoever wrote it. */
static uint64_t name_seed(uint64_t name)
{
	return name * 1000003;
}

static void name_key(uint64_t name, uint64_t *key)
{
	key[0] = name;
	key[1] = ~name;
}

static void compare(struct member *m, const void *addr, uint64_t name)
{
	uint64_t bytes = m->e.space.page_bytes;

	m->s->bytes += bytes;
	if (!page_matches(addr, bytes, name_seed(name)))
		m->s->wrong++;
}

/* ---- what a client does ------------------------------------------------- */

/* Gives back @nr pages, from a random one on. */
static int give(struct member *m, uint32_t nr)
{
	struct engine *e = &m->e;

	while (nr-- && e->nr) {
		uint32_t i = pick(m, e->nr);
		int r = syn_release(e->client, &e->page[i], 1);

		m->s->ops++;
		if (r)
			return r;
		e->nr--;
		e->page[i] = e->page[e->nr];
		e->seed[i] = e->seed[e->nr];
		m->sealed[i] = m->sealed[e->nr];
	}
	return 0;
}

/* Whoever holds something gives up a part; whoever has nothing waits. */
static int refused(struct member *m)
{
	uint64_t hint_ns = syn_retry_ns(m->e.client);
	struct timespec ts = { .tv_nsec = (long)syn_min(hint_ns,
							(uint64_t)999999999) };

	m->s->refused++;
	m->s->no_hint += !hint_ns;
	m->s->hint_ns = syn_max(m->s->hint_ns, hint_ns);
	if (m->e.nr)
		return give(m, 1 + m->e.nr / 4);
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	return 0;
}

static uint64_t patience(struct member *m)
{
	return pick(m, 4) * (uint64_t)MOMENT_NS;
}

static int write_one(struct member *m, uint32_t i)
{
	const uint32_t tokens = TEST_TOKENS;
	struct engine *e = &m->e;
	void *addr;
	int r;

	r = syn_pin(e->client, &e->page[i], 1, &addr);
	if (r)
		return r < 0 ? r : -EBUSY;
	page_fill(addr, e->space.page_bytes, name_seed(e->seed[i]));
	m->s->bytes += e->space.page_bytes;
	r = syn_commit(e->client, &e->page[i], &tokens, 1);
	syn_unpin(e->client, e->timeline, &e->page[i], 1);
	m->s->ops++;
	return r;
}

static int op_grow(struct member *m)
{
	struct engine *e = &m->e;
	uint32_t nr = 1 + pick(m, BATCH);
	int r;

	if (e->nr + nr > WANTED)
		return give(m, e->nr / 2);
	r = syn_lease(e->window, nr, patience(m), e->page + e->nr);
	m->s->ops++;
	if (r == SYN_E_BACKPRESSURE)
		return refused(m);
	for (; nr && !r; nr--) {
		e->seed[e->nr] = pick(m, NAMES);
		m->sealed[e->nr] = false;
		r = write_one(m, e->nr++);
	}
	return r;
}

/* Pages @at and after it, which are pinned while they are compared. */
static int load(struct member *m, const uint64_t *pages, const uint64_t *names,
		uint32_t nr)
{
	struct syn_client *c = m->e.client;
	void *addr[BATCH];
	int r;

	r = syn_load(c, pages, nr, patience(m), addr);
	m->s->ops++;
	if (r == SYN_E_LOST) {
		m->s->wrong++;
		return 0;
	}
	if (r)
		return r == SYN_E_BACKPRESSURE ? refused(m) : r;
	for (uint32_t i = 0; i < nr; i++)
		compare(m, addr[i], names[i]);
	syn_unpin(c, m->e.timeline, pages, nr);
	return 0;
}

static int op_load(struct member *m)
{
	struct engine *e = &m->e;
	uint32_t nr = syn_min(1 + pick(m, BATCH), e->nr);
	uint32_t at;

	if (!nr)
		return 0;
	at = pick(m, e->nr - nr + 1);
	return load(m, e->page + at, e->seed + at, nr);
}

static int op_seal(struct member *m)
{
	struct engine *e = &m->e;
	uint64_t key[2];
	uint32_t i;
	int r;

	if (!e->nr)
		return 0;
	i = pick(m, e->nr);
	if (m->sealed[i])
		return 0;
	name_key(e->seed[i], key);
	r = syn_seal(e->client, e->page[i], key, e->timeline, 0);
	m->s->ops++;
	if (r == -EAGAIN)
		return refused(m);
	m->sealed[i] = true;
	return r == SYN_E_DUP ? 0 : r;
}

/* What others have sealed, as far as it goes. */
static int op_find(struct member *m)
{
	struct engine *e = &m->e;
	uint64_t keys[BATCH][2];
	uint64_t names[BATCH];
	uint64_t pages[BATCH];
	uint32_t from = pick(m, NAMES - BATCH);
	int nr;
	int r;

	for (uint32_t i = 0; i < BATCH; i++) {
		names[i] = from + i;
		name_key(names[i], keys[i]);
	}
	nr = syn_lookup(e->window, keys, BATCH, pages, NULL);
	m->s->ops++;
	if (nr <= 0)
		return nr;
	r = load(m, pages, names, (uint32_t)nr);
	return r ? r : syn_release(e->client, pages, (unsigned int)nr);
}

static int member_run(struct member *m, uint64_t until_ns)
{
	static int (*const ops[])(struct member *) = {
		op_grow, op_grow, op_grow, op_load,
		op_load, op_load, op_seal, op_find,
	};
	uint32_t events[4];
	int r = 0;

	while (!r && syn_now_ns() < until_ns) {
		r = ops[pick(m, syn_array_size(ops))](m);
		if (!r)
			r = syn_min(syn_poll(m->e.client, events, 4), 0);
	}
	return r;
}

/* Every other one ends without a word, as a client that was killed does. */
static int member_main(const char *path, struct shared *shared, unsigned int nr,
		       uint64_t seed)
{
	static struct member m;
	uint64_t until_ns;
	int r;

	m.s = &shared->score[nr];
	m.seed = seed * 1000 + nr;
	r = engine_open(&m.e, path, SLOTS);
	syn_store_release(&m.s->ready, 1u);
	while (!r && !(until_ns = syn_load_acquire(&shared->until_ns)))
		sleep_ms(1);
	if (!r)
		r = member_run(&m, until_ns);
	m.s->error = r;
	if (!r && nr % 2)
		r = give(&m, m.e.nr);
	if (!r && nr % 2)
		engine_close(&m.e);
	return r != 0;
}

/* ---- the campaign ------------------------------------------------------- */

/**
 * struct campaign - the run.
 * @d:		the daemon.
 * @shared:	with the clients.
 * @nr:		clients.
 * @seconds:	how long.
 * @seed:	of everything random.
 * @nvme:	swap file, or NULL.
 * @walks:	of fsck, while they all want everything ...
 * @compared:	... in which nothing changed.
 * @pid:	of the clients.
 */
struct campaign {
	struct test_daemon d;
	struct shared *shared;
	unsigned int nr;
	unsigned int seconds;
	uint64_t seed;
	const char *nvme;
	unsigned int walks;
	unsigned int compared;
	pid_t pid[CLIENTS_MAX];
};

static void members_start(struct campaign *c)
{
	for (unsigned int i = 0; i < c->nr; i++) {
		c->pid[i] = fork_child();
		assert_true(c->pid[i] >= 0);
		if (c->pid[i])
			continue;
		(void)alarm(c->seconds + START_S + 60);
		_exit(member_main(c->d.socket, c->shared, i, c->seed));
	}
	for (unsigned int i = 0; i < c->nr; i++)
		test_wait(syn_load_acquire(&c->shared->score[i].ready),
			  START_S);
	syn_store_release(&c->shared->until_ns,
			  syn_now_ns() + c->seconds * 1000000000ull);
}

static void members_walk(struct campaign *c)
{
	while (syn_now_ns() < c->shared->until_ns) {
		c->walks++;
		c->compared += ctl_fsck(c->d.socket);
		sleep_ms(WALK_MS);
	}
}

static void members_wait(struct campaign *c)
{
	unsigned int failed = 0;

	for (unsigned int i = 0; i < c->nr; i++) {
		int status;

		assert_int_equal(waitpid(c->pid[i], &status, 0), c->pid[i]);
		if (!status)
			continue;
		failed++;
		(void)printf("client %u: status %x, error %d\n", i, status,
			     c->shared->score[i].error);
	}
	assert_int_equal(failed, 0);
}

static bool tiers_empty(const struct campaign *c)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];
	uint64_t used = 0;

	ctl_tiers(c->d.socket, tier);
	for (unsigned int i = 0; i < SYN_QUOTA_TIERS; i++)
		used += tier[i].used_bytes + tier[i].quarantine_bytes;
	return !used;
}

/* Only what is sealed is left, and goes when it is told to. */
static bool drained(const struct campaign *c)
{
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;

	assert_int_equal(ctl_ask(c->d.socket, SYN_CTL_EVICT, UINT64_MAX, NULL,
				 0, 0, &reply),
			 0);
	ctl_status(c->d.socket, &status);
	return !status.nr_pages && !status.nr_sessions &&
	       !status.nr_quarantined && tiers_empty(c);
}

static void campaign_run(struct campaign *c)
{
	const char *const args[] = {
		"--hbm", "40M", "--host", "16M", c->nvme ? "--nvme-file" : NULL,
		c->nvme, NULL
	};
	struct syn_ctl_status status;

	daemon_start(&c->d, args);
	members_start(c);
	members_walk(c);
	members_wait(c);
	daemon_wait_quiet(&c->d);
	test_wait(drained(c), 20);
	ctl_status(c->d.socket, &status);
	assert_int_equal(status.worker_pid, c->d.worker);
	assert_int_equal(status.attaches, c->nr);
	assert_int_equal(status.sum_failures, 0);
	(void)printf("daemon: %llu demotions, %llu loads, %llu evictions, "
		     "%llu refusals\n",
		     (unsigned long long)status.demotions,
		     (unsigned long long)status.loads,
		     (unsigned long long)status.evictions,
		     (unsigned long long)status.backpressure);
	daemon_stop(&c->d);
}

static void campaign_report(const struct campaign *c)
{
	const struct score *s = c->shared->score;
	struct score sum = { 0 };
	uint64_t slowest = UINT64_MAX;
	uint64_t fastest = 0;

	for (unsigned int i = 0; i < c->nr; i++) {
		sum.wrong += s[i].wrong;
		sum.bytes += s[i].bytes;
		sum.ops += s[i].ops;
		sum.refused += s[i].refused;
		sum.no_hint += s[i].no_hint;
		sum.hint_ns = syn_max(sum.hint_ns, s[i].hint_ns);
		slowest = syn_min(slowest, s[i].bytes);
		fastest = syn_max(fastest, s[i].bytes);
	}
	(void)printf("tsunami: clients=%u seconds=%u operations=%llu "
		     "refused=%llu without_hint=%llu longest_hint_ms=%.1f "
		     "wrong=%llu MiB=%llu slowest=%.2f fastest=%.2f of the "
		     "mean\n",
		     c->nr, c->seconds, (unsigned long long)sum.ops,
		     (unsigned long long)sum.refused,
		     (unsigned long long)sum.no_hint, (double)sum.hint_ns / 1e6,
		     (unsigned long long)sum.wrong,
		     (unsigned long long)sum.bytes >> 20,
		     (double)slowest * c->nr / (double)sum.bytes,
		     (double)fastest * c->nr / (double)sum.bytes);
	(void)printf("fsck: %u walks, %u with all counts\n", c->walks,
		     c->compared);
	(void)fflush(stdout);
	assert_int_equal(sum.wrong, 0);
	assert_true(c->walks > 0);
	assert_true(sum.refused > 0);
	assert_int_equal(sum.no_hint, 0);
	assert_true(slowest * 4 * c->nr >= sum.bytes);
}

int main(int argc, char **argv)
{
	static const struct option flags[] = {
		{ "clients", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 's' },
		{ "nvme", required_argument, NULL, 'n' },
		{ 0 },
	};
	static struct campaign c = { .nr = 64, .seconds = 60, .seed = 1 };
	int flag;

	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
		if (flag == 'c')
			c.nr = (unsigned int)atoi(optarg);
		else if (flag == 't')
			c.seconds = (unsigned int)atoi(optarg);
		else if (flag == 's')
			c.seed = strtoull(optarg, NULL, 0);
		else if (flag == 'n')
			c.nvme = optarg;
		else
			return 2;
	}
	if (!c.nr || c.nr > CLIENTS_MAX)
		return 2;
	c.shared = mmap(NULL, sizeof(*c.shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.shared == MAP_FAILED)
		return 1;
	(void)alarm(c.seconds + 3 * START_S + 60);
	campaign_run(&c);
	campaign_report(&c);
	return 0;
}
