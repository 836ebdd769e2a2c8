/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills clients with SIGKILL at random moments while they hold leases, pins,
 * loans, half-written pages and seals that are not ready, and looks at what is
 * left: nothing of theirs but what they had sealed, and a neighbour's pages
 * with every byte as it was.
 *
 * campaign-kill [--kills N] [--seed N] [--limit-ms N]
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define AT_ONCE		4u
#define SLOTS		16u
#define PINS		6u
#define NEIGHBOUR_SLOTS 24u
#define NEIGHBOUR_PAGES 48u
#define NAMES		32u
#define PENDING_NAME	100000u /* names of seals that never get ready */
#define PATIENCE_NS	20000000000u

/**
 * struct shared - what a victim says of itself; read after its death.
 * @going:	it has begun.
 * @leases:	pages it holds.
 * @pins:	pages it has pinned and not unpinned.
 * @loans:	loans it was given and has not ended.
 * @half:	pages it has begun to write.
 * @pending:	seals whose ready point never comes.
 * @sealed:	names it has sealed for good, one bit each.
 */
struct shared {
	uint32_t going;
	uint32_t leases;
	uint32_t pins;
	uint32_t loans;
	uint32_t half;
	uint32_t pending;
	uint32_t sealed;
};

/**
 * struct campaign - the run.
 * @d:		the daemon.
 * @shared:	one entry for each victim at once.
 * @seed:	of everything random.
 * @limit_ns:	allowed between death and nothing left; 0: any.
 * @slowest_ns:	longest seen until no page and no frame was left.
 * @killed:	victims so far.
 * @total:	sums over all victims, at their deaths.
 * @sealed:	names sealed so far.
 * @walks:	of fsck ...
 * @compared:	... in which nothing changed, so that all counts were compared.
 * @neighbour_fds: descriptors of worker and keeper with the neighbour alone.
 */
struct campaign {
	struct test_daemon d;
	struct shared *shared;
	uint64_t seed;
	uint64_t limit_ns;
	uint64_t slowest_ns;
	unsigned int killed;
	struct shared total;
	uint32_t sealed;
	unsigned int walks;
	unsigned int compared;
	int neighbour_fds[2];
};

static void say(uint32_t *word, uint32_t value)
{
	syn_store_release(word, value);
}

/* What a sealed page of a name holds, whoever sealed it. */
static uint64_t name_seed(uint64_t name)
{
	return name * 1000003;
}

/* ---- victims ------------------------------------------------------------ */

/* Those of the last time go first, or nothing could move any more. */
static int hold_pins(struct engine *e, struct shared *s, uint64_t *seed)
{
	static uint64_t held[PINS];
	void *addr;
	int r = 0;

	for (uint32_t i = s->pins; i; i--) {
		syn_unpin(e->client, e->timeline, &held[i - 1], 1);
		say(&s->pins, i - 1);
	}
	for (uint32_t i = 0; i < PINS && !r; i++) {
		uint32_t at = (uint32_t)(engine_random(seed) % e->nr);

		r = syn_load(e->client, &e->page[at], 1, SYN_FOREVER, &addr);
		if (r)
			break;
		held[i] = e->page[at];
		say(&s->pins, i + 1);
		if (!page_matches(addr, e->space.page_bytes, e->seed[at]))
			r = -EILSEQ;
	}
	return r;
}

static int seal_name(struct engine *e, struct shared *s, uint64_t name)
{
	uint32_t i = e->nr;
	int r;

	r = engine_grow(e, 1, name_seed(name) - i);
	if (r)
		return r;
	r = engine_seal(e, i, name);
	if (r == -EBUSY)
		r = 0; /* somebody had sealed the same bytes before */
	if (!r)
		say(&s->sealed, s->sealed | 1u << name);
	return r;
}

/*
 * Work is issued on a timeline of its own, and is never done: nothing of this
 * session moves any more, so it is the last thing to do.
 */
static int seal_pending(struct engine *e, struct shared *s, unsigned int nr)
{
	const uint64_t key[2] = { PENDING_NAME + nr, 1 };
	uint32_t i = e->nr;
	uint32_t timeline;
	int r;

	r = syn_timeline_new(e->client, &timeline);
	if (!r)
		r = engine_grow(e, 1, nr);
	if (!r)
		r = syn_seal(e->client, e->page[i], key, timeline,
			     syn_timeline_issue(e->client, timeline));
	if (!r)
		say(&s->pending, 1);
	return r;
}

static int write_half(struct engine *e, struct shared *s)
{
	uint32_t i = e->nr;
	void *addr;
	int r;

	r = syn_lease(e->window, 1, SYN_FOREVER, &e->page[i]);
	if (!r)
		r = syn_pin(e->client, &e->page[i], 1, &addr);
	if (r)
		return r;
	page_fill(addr, e->space.page_bytes / 2, 1);
	say(&s->half, 1);
	return 0;
}

/* Through the library; never returns unless something is wrong. */
static int victim_engine(const char *path, struct shared *s, unsigned int nr)
{
	static struct engine e;
	uint64_t seed = nr;
	int r;

	r = engine_open(&e, path, SLOTS);
	while (!r) {
		r = engine_grow(&e, SLOTS, seed);
		say(&s->leases, e.nr);
		say(&s->going, 1);
		if (!r)
			r = seal_name(&e, s, engine_random(&seed) % NAMES);
		if (!r)
			r = hold_pins(&e, s, &seed);
		if (!r && !s->half && seed % 2)
			r = write_half(&e, s);
		if (r || (nr % 4 && e.nr < 4 * SLOTS))
			continue;
		r = seal_pending(&e, s, nr);
		while (!r)
			(void)pause();
	}
	return r;
}

static int raw_fill(struct raw_client *c, uint64_t *pages)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE,
				 .nr = SLOTS,
				 .object = c->window.window };
	struct syn_sqe commit = { .op = SYN_OP_COMMIT, .nr = SLOTS };
	struct syn_vec_commit full[SLOTS] = { 0 };
	struct syn_cqe cqe;

	do {
		cqe = raw_ask(c, &lease, NULL, 0, pages,
			      SLOTS * sizeof(*pages));
	} while (cqe.res == SYN_E_BACKPRESSURE);
	for (uint32_t i = 0; i < SLOTS && !cqe.res; i++)
		full[i] = (struct syn_vec_commit){ pages[i], TEST_TOKENS, 0 };
	if (!cqe.res)
		cqe = raw_ask(c, &commit, full, sizeof(full), NULL, 0);
	return cqe.res;
}

/* Borrows and gives back without ever loading. */
static int raw_borrow(struct raw_client *c, struct shared *s, uint64_t *pages)
{
	struct syn_sqe fault = { .op = SYN_OP_FAULT, .nr = 4 };
	struct syn_sqe loaded = { .op = SYN_OP_LOADED };
	struct syn_vec_loaded ends[4] = { 0 };
	struct syn_vec_fault out[4];
	struct syn_cqe cqe;

	do {
		cqe = raw_ask(c, &fault, pages, 4 * sizeof(*pages), out,
			      sizeof(out));
	} while (cqe.res == SYN_E_BACKPRESSURE);
	for (int i = 0; i < 4 && !cqe.res; i++)
		if (out[i].res == SYN_FAULT_LOAN)
			ends[loaded.nr++] =
				(struct syn_vec_loaded){ out[i].loan, -EIO };
	say(&s->loans, loaded.nr);
	say(&s->going, 1);
	sleep_ms(3);
	if (cqe.res || !loaded.nr)
		return cqe.res;
	cqe = raw_ask(c, &loaded, ends, loaded.nr * sizeof(ends[0]), NULL, 0);
	say(&s->loans, 0);
	return cqe.res;
}

static int victim_raw(const char *path, struct shared *s)
{
	static struct raw_client c;
	uint64_t pages[2 * SLOTS];
	uint32_t at = 0;
	int r;

	r = raw_attach(&c, path);
	if (!r)
		r = raw_window(&c, SLOTS);
	/* The second half pushes the first out. */
	if (!r)
		r = raw_fill(&c, pages);
	if (!r)
		r = raw_fill(&c, pages + SLOTS);
	say(&s->leases, 2 * SLOTS);
	while (!r) {
		r = raw_borrow(&c, s, pages + at);
		at = (at + 4) % (2 * SLOTS);
	}
	return r;
}

static pid_t victim_start(struct campaign *c, unsigned int i)
{
	struct shared *s = &c->shared[i];
	unsigned int nr = c->killed + i;
	pid_t pid;
	int r;

	memset(s, 0, sizeof(*s));
	pid = fork_child();
	assert_true(pid >= 0);
	if (pid)
		return pid;
	(void)alarm(120);
	if (i % 2)
		r = victim_raw(c->d.socket, s);
	else
		r = victim_engine(c->d.socket, s, nr);
	(void)fprintf(stderr, "victim %u: %d\n", nr, r);
	_exit(1);
}

/* ---- the neighbour ------------------------------------------------------ */

static int neighbour_main(const char *path, int pipe_fd)
{
	struct pollfd fd = { .fd = pipe_fd, .events = POLLIN };
	static struct engine e;
	uint64_t seed = 12345;
	unsigned int rounds = 0;
	int r;

	r = engine_open(&e, path, NEIGHBOUR_SLOTS);
	if (!r)
		r = engine_grow(&e, NEIGHBOUR_PAGES, seed);
	while (!r && poll(&fd, 1, 0) == 0) {
		r = engine_check(&e, (uint32_t)(engine_random(&seed) % e.nr));
		rounds++;
	}
	for (uint32_t i = 0; i < e.nr && !r; i++)
		r = engine_check(&e, i);
	(void)printf("neighbour: %u pages compared, %s (%d)\n", rounds,
		     r ? "one failed" : "all right", r);
	(void)fflush(stdout);
	engine_close(&e);
	return r || !rounds;
}

static pid_t neighbour_start(const char *path, int *ret_pipe_fd)
{
	int pipe_fds[2];
	pid_t pid;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork_child();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(pipe_fds[1]);
		_exit(neighbour_main(path, pipe_fds[0]));
	}
	(void)close(pipe_fds[0]);
	*ret_pipe_fd = pipe_fds[1];
	return pid;
}

/* ---- what is left ------------------------------------------------------- */

static bool nothing_left(struct campaign *c)
{
	struct syn_ctl_status status;

	ctl_status(c->d.socket, &status);
	return status.nr_sessions == 1 && !status.nr_quarantined &&
	       status.nr_pages - status.nr_sealed == NEIGHBOUR_PAGES &&
	       status.nr_sealed == (uint64_t)__builtin_popcount(c->sealed);
}

static int extents_of(struct campaign *c)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];

	ctl_tiers(c->d.socket, tier);
	return (int)(tier[0].nr_extents + tier[1].nr_extents);
}

static bool no_descriptor_left(struct campaign *c)
{
	int extents = extents_of(c);

	/* The question's own connection takes a moment to close. */
	sleep_ms(2);
	return proc_fds(c->d.worker) <= c->neighbour_fds[0] + extents &&
	       proc_fds(c->d.keeper) <= c->neighbour_fds[1] + extents;
}

/* True while @took_ns is within patience; the caller looks again. */
static bool wait_on(struct campaign *c, uint64_t took_ns)
{
	struct syn_ctl_status s;

	if (took_ns < PATIENCE_NS) {
		sleep_ms(1);
		return true;
	}
	ctl_status(c->d.socket, &s);
	fail_msg("left: %u sessions, %llu pages (%llu sealed, %d expected), "
		 "%llu frames in quarantine",
		 s.nr_sessions, (unsigned long long)s.nr_pages,
		 (unsigned long long)s.nr_sealed, __builtin_popcount(c->sealed),
		 (unsigned long long)s.nr_quarantined);
	return false;
}

/* Pages and frames first, as they are what is timed; then descriptors. */
static void wait_nothing_left(struct campaign *c)
{
	const uint64_t from_ns = syn_now_ns();
	uint64_t took_ns = 0;

	while (!nothing_left(c) && wait_on(c, took_ns))
		took_ns = syn_now_ns() - from_ns;
	c->slowest_ns = syn_max(c->slowest_ns, took_ns);
	while (!no_descriptor_left(c) && wait_on(c, took_ns))
		took_ns = syn_now_ns() - from_ns;
	if (c->limit_ns && took_ns > c->limit_ns)
		fail_msg("something was left for %llu ms",
			 (unsigned long long)took_ns / 1000000);
}

/* While the neighbour goes on. */
static void check_records(struct campaign *c)
{
	c->walks++;
	c->compared += ctl_fsck(c->d.socket);
}

/* In a session of its own, which leaves nothing either. */
static void check_sealed(struct campaign *c, unsigned int first)
{
	struct engine e;

	assert_int_equal(engine_open(&e, c->d.socket, SLOTS), 0);
	for (uint64_t name = 0; name < NAMES; name++)
		if (c->sealed & 1u << name)
			assert_int_equal(engine_find(&e, name, name_seed(name)),
					 0);
	for (unsigned int i = 0; i < AT_ONCE; i++) {
		const uint64_t key[1][2] = { { PENDING_NAME + first + i, 1 } };
		uint64_t page;

		assert_int_equal(syn_lookup(e.window, key, 1, &page, NULL), 0);
	}
	engine_close(&e);
}

/* ---- the run ------------------------------------------------------------ */

static void total_add(struct campaign *c, const struct shared *s)
{
	c->total.leases += s->leases;
	c->total.pins += s->pins;
	c->total.loans += s->loans;
	c->total.half += s->half;
	c->total.pending += s->pending;
	c->sealed |= s->sealed;
}

/*
 * A victim may have sealed a name and died before it said so; the daemon knows
 * better, and the bytes are compared all the same.
 */
static void sealed_learn(struct campaign *c)
{
	struct syn_ctl_page pages[SYN_CTL_BATCH];
	uint64_t cursor = 0;

	do {
		uint32_t nr = ctl_pages(c->d.socket, &cursor, pages);

		for (uint32_t i = 0; i < nr; i++)
			if (pages[i].flags & SYN_PAGE_F_KEYED &&
			    pages[i].key[0] < NAMES)
				c->sealed |= 1u << pages[i].key[0];
	} while (cursor);
}

static void round_run(struct campaign *c)
{
	pid_t pid[AT_ONCE];
	int status;

	for (unsigned int i = 0; i < AT_ONCE; i++)
		pid[i] = victim_start(c, i);
	for (unsigned int i = 0; i < AT_ONCE; i++)
		test_wait(syn_load_acquire(&c->shared[i].going) ||
				  waitpid(pid[i], &status, WNOHANG) == pid[i],
			  30);
	sleep_ms((unsigned int)(engine_random(&c->seed) % 40));
	for (unsigned int i = 0; i < AT_ONCE; i++)
		(void)kill(pid[i], SIGKILL);
	for (unsigned int i = 0; i < AT_ONCE; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		total_add(c, &c->shared[i]);
	}
	/* Every other time before all has come back; then it is not timed. */
	if (c->killed / AT_ONCE % 2)
		check_records(c);
	sealed_learn(c);
	wait_nothing_left(c);
	check_records(c);
	check_sealed(c, c->killed);
	wait_nothing_left(c);
	c->killed += AT_ONCE;
}

static void neighbour_settled(struct campaign *c)
{
	struct syn_ctl_status status;

	do {
		sleep_ms(20);
		ctl_status(c->d.socket, &status);
	} while (status.nr_pages != NEIGHBOUR_PAGES);
	sleep_ms(50);
	c->neighbour_fds[0] = proc_fds(c->d.worker) - extents_of(c);
	c->neighbour_fds[1] = proc_fds(c->d.keeper) - extents_of(c);
}

static void campaign_run(struct campaign *c, unsigned int kills)
{
	static const char *const args[] = { "--hbm", "16M", "--host", "64M",
					    NULL };
	struct syn_ctl_status status;
	int pipe_fd;
	int code;
	pid_t neighbour;

	daemon_start(&c->d, args);
	neighbour = neighbour_start(c->d.socket, &pipe_fd);
	neighbour_settled(c);
	while (c->killed < kills)
		round_run(c);
	ctl_status(c->d.socket, &status);
	assert_int_equal(status.worker_pid, c->d.worker);
	assert_int_equal(status.reaped, c->killed);
	assert_int_equal(status.evictions, 0);
	(void)close(pipe_fd);
	assert_int_equal(waitpid(neighbour, &code, 0), neighbour);
	assert_int_equal(code, 0);
	daemon_wait_quiet(&c->d);
	daemon_stop(&c->d);
}

static void campaign_report(const struct campaign *c)
{
	const struct shared *t = &c->total;

	(void)printf("outstanding at death: half=%u pending=%u; sealed names "
		     "%d; slowest to nothing left %.1f ms\n",
		     t->half, t->pending, __builtin_popcount(c->sealed),
		     (double)c->slowest_ns / 1e6);
	if (!t->leases || !t->pins || !t->loans || !t->half || !t->pending)
		fail_msg("something was never outstanding at a death");
	(void)printf("fsck: %u walks, %u with all counts\n", c->walks,
		     c->compared);
	if (!c->compared)
		fail_msg("fsck never compared what it counts");
	(void)printf("campaign: ok kills=%u pins=%u loans=%u leases=%u\n",
		     c->killed, t->pins, t->loans, t->leases);
}

int main(int argc, char **argv)
{
	static const struct option flags[] = {
		{ "kills", required_argument, NULL, 'k' },
		{ "seed", required_argument, NULL, 's' },
		{ "limit-ms", required_argument, NULL, 'l' },
		{ 0 },
	};
	struct campaign c = { .seed = 1 };
	unsigned int kills = 100;
	int flag;

	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
		if (flag == 'k')
			kills = (unsigned int)atoi(optarg);
		else if (flag == 's')
			c.seed = strtoull(optarg, NULL, 0);
		else if (flag == 'l')
			c.limit_ns = strtoull(optarg, NULL, 0) * 1000000;
		else
			return 2;
	}
	c.shared =
		mmap(NULL, AT_ONCE * sizeof(*c.shared), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.shared == MAP_FAILED)
		return 1;
	(void)alarm(kills * 2 + 100);
	campaign_run(&c, kills);
	campaign_report(&c);
	return 0;
}
