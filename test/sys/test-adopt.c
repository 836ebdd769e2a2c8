/* SPDX-License-Identifier: Apache-2.0 */
/* The worker dies: another goes on, and clients hardly notice. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/record.h"
#include "ipc/conn.h"
#include "ipc/server/kept.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define SLOTS	 16u
#define PAGES	 (3 * SLOTS)
#define SEED	 100u
#define NAME	 7000u /* of sealed pages */
#define DEATHS	 5
#define CHILDREN 3
#define KILLS	 40
#define ROUNDS	 40
#define BURST	 24u /* requests under way */

static const char *const daemon_args[] = { "--hbm", "16M", "--host", "32M",
					   NULL };

static bool epoch_told(struct syn_client *c)
{
	uint32_t events[8];
	int nr = syn_poll(c, events, 8);

	assert_true(nr >= 0);
	for (int i = 0; i < nr; i++)
		if (events[i] == SYN_EVENT_EPOCH)
			return true;
	return false;
}

/* ---- one client --------------------------------------------------------- */

/* Pinned, sealed, below, new: all of it goes on, and nothing is asked twice. */
static void test_session_goes_on(void **state)
{
	struct syn_ctl_status status;
	struct test_daemon d;
	struct engine other;
	struct engine e;
	void *addr;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(engine_seal(&e, i, NAME + i), 0);
	assert_false(epoch_told(e.client));
	for (uint64_t epoch = 2; epoch < 2 + DEATHS; epoch++) {
		uint32_t last = e.nr - 1;

		assert_int_equal(syn_load(e.client, &e.page[last], 1,
					  SYN_FOREVER, &addr),
				 0);
		daemon_worker_away(&d);
		assert_true(
			page_matches(addr, e.space.page_bytes, e.seed[last]));
		syn_unpin(e.client, e.timeline, &e.page[last], 1);
		/* A pin of what is resident needs nobody. */
		assert_int_equal(syn_pin(e.client, &e.page[last], 1, &addr), 0);
		syn_unpin(e.client, e.timeline, &e.page[last], 1);
		daemon_worker_return(&d);
		ctl_status(d.socket, &status);
		assert_int_equal(status.epoch, epoch);
		assert_int_equal(status.nr_sessions, 1);
		assert_int_equal(status.nr_pages, e.nr);
		assert_true(epoch_told(e.client));
		assert_false(epoch_told(e.client));
		for (uint32_t i = 0; i < e.nr; i++)
			assert_int_equal(engine_check(&e, i), 0);
		assert_int_equal(engine_grow(&e, 2, SEED), 0);
	}
	assert_int_equal(engine_open(&other, d.socket, SLOTS), 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(engine_find(&other, NAME + i, SEED + i), 0);
	engine_close(&other);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* What an operator has ordered counts for the next worker, too. */
static void test_orders_stand(void **state)
{
	const uint64_t quota[4] = { SYN_QUOTA_AT(0, SYN_TIER_HOST), 0,
				    SYN_QUOTA_NONE, 8u << 20 };
	struct syn_ctl_domain domain[SYN_CTL_BATCH];
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;
	struct test_daemon d;
	struct raw_client c;
	struct raw_client other;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(ctl_order(d.socket, SYN_CTL_QUOTA, quota, &reply), 0);
	assert_int_equal(
		ctl_ask(d.socket, SYN_CTL_DRAIN, 1, NULL, 0, 0, &reply), 0);
	daemon_kill_worker(&d);
	ctl_status(d.socket, &status);
	assert_int_equal(status.draining, 1);
	assert_int_equal(raw_attach(&other, d.socket), -ESHUTDOWN);
	assert_int_equal(ctl_ask(d.socket, SYN_CTL_DOMAINS, 0, domain,
				 SYN_CTL_BATCH, sizeof(domain[0]), &reply),
			 0);
	assert_int_equal(reply.nr, 1);
	assert_int_equal(domain[0].tier[SYN_TIER_HOST - 1].max, 8u << 20);
	assert_int_equal(domain[0].nr_sessions, 1);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* What is rung, asked and sent while nobody listens is answered later. */
static void test_nobody_listens(void **state)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1, .cookie = 5 };
	struct syn_sqe nop = { .op = SYN_OP_NOP, .cookie = 6 };
	struct test_daemon d;
	struct raw_client asks;
	struct raw_client c;
	struct raw_client late;
	struct syn_ctl_status status;
	struct syn_cqe cqe;
	uint64_t page;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	assert_int_equal(raw_attach(&asks, d.socket), 0);
	/* Who asks is answered after the handshake has ended. */
	ctl_status(d.socket, &status);
	assert_int_equal(status.nr_sessions, 2);
	/* Its ring sleeps, so that the bell is rung. */
	test_wait(syn_load_seq_cst(c.sq.sleeps), 10);
	daemon_worker_away(&d);
	lease.object = c.window.window;
	raw_submit(&c, &lease, NULL, 0);
	raw_submit(&c, &nop, NULL, 0);
	assert_false(raw_reap(&c, &cqe, NULL, 0, 50));
	daemon_worker_return(&d);
	assert_true(raw_reap(&c, &cqe, &page, sizeof(page), 20000));
	assert_int_equal(cqe.cookie, 5);
	assert_int_equal(cqe.res, 0);
	assert_true(page != 0);
	assert_true(raw_reap(&c, &cqe, NULL, 0, 20000));
	assert_int_equal(cqe.cookie, 6);
	assert_int_equal(raw_window(&asks, SLOTS), 0);
	assert_int_equal(raw_attach(&late, d.socket), 0);
	raw_close(&late);
	raw_close(&asks);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* ---- requests in flight ------------------------------------------------- */

/* What the answers of one burst gave. */
struct burst {
	uint64_t page[BURST];
	uint32_t nr_pages;
	uint32_t answered; /* one bit each */
};

static void burst_submit(struct raw_client *c, uint64_t cookie)
{
	for (uint32_t i = 0; i < BURST; i++) {
		struct syn_sqe sqe = { .op = i % 3 ? SYN_OP_LEASE : SYN_OP_NOP,
				       .nr = i % 3 ? 1 : 0,
				       .object = i % 3 ? c->window.window : 0,
				       .cookie = cookie + i };

		raw_submit(c, &sqe, NULL, 0);
	}
}

static void burst_reap(struct raw_client *c, uint64_t cookie, struct burst *b)
{
	struct syn_cqe cqe;
	uint64_t page;

	for (uint32_t i = 0; i < BURST; i++) {
		uint64_t which;

		assert_true(raw_reap(c, &cqe, &page, sizeof(page), 20000));
		which = cqe.cookie - cookie;
		assert_true(which < BURST);
		assert_false(b->answered >> which & 1);
		b->answered |= 1u << which;
		if (which % 3 && cqe.res == 0)
			b->page[b->nr_pages++] = page;
	}
	for (uint32_t i = 0; i < b->nr_pages; i++)
		for (uint32_t j = 0; j < i; j++)
			assert_true(b->page[i] != b->page[j]);
	assert_int_equal(syn_ring_waiting(&c->cq), 0);
}

/* Each is answered once, and what was leased is what the answers say. */
static void test_requests_in_flight(void **state)
{
	struct syn_ctl_status status;
	uint64_t cookie = 1000;
	struct test_daemon d;
	struct raw_client c;
	uint32_t leased = 0;
	uint64_t seed = 1;

	(void)state;
	test_patience(180);
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, 2 * BURST), 0);
	for (int round = 0; round < ROUNDS; round++, cookie += BURST) {
		struct syn_sqe release = { .op = SYN_OP_RELEASE, .cookie = 1 };
		struct burst b = { .nr_pages = 0 };
		uint64_t until_ns = engine_random(&seed) % 100000;

		burst_submit(&c, cookie);
		until_ns += syn_now_ns();
		while (syn_now_ns() < until_ns)
			;
		daemon_kill_worker(&d);
		burst_reap(&c, cookie, &b);
		ctl_status(d.socket, &status);
		assert_int_equal(status.nr_pages, b.nr_pages);
		release.nr = b.nr_pages;
		leased += b.nr_pages;
		if (b.nr_pages)
			assert_int_equal(raw_ask(&c, &release, b.page,
						 b.nr_pages * sizeof(b.page[0]),
						 NULL, 0)
						 .res,
					 0);
	}
	assert_true(leased > ROUNDS);
	ctl_status(d.socket, &status);
	assert_int_equal(status.epoch, 1 + ROUNDS);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Pages of which the first are below; their handles. */
static void pages_push_down(struct raw_client *c, uint64_t *pages)
{
	struct syn_sqe lease = { .op = SYN_OP_LEASE,
				 .nr = SLOTS,
				 .object = c->window.window,
				 .cookie = 1 };
	struct syn_sqe commit = { .op = SYN_OP_COMMIT,
				  .nr = SLOTS,
				  .cookie = 2 };
	struct syn_vec_commit full[SLOTS] = { 0 };
	uint64_t more[SLOTS / 2];
	struct syn_cqe cqe;

	assert_int_equal(
		raw_ask(c, &lease, NULL, 0, pages, SLOTS * sizeof(pages[0]))
			.res,
		0);
	for (uint32_t i = 0; i < SLOTS; i++)
		full[i] = (struct syn_vec_commit){ pages[i], TEST_TOKENS, 0 };
	assert_int_equal(raw_ask(c, &commit, full, sizeof(full), NULL, 0).res,
			 0);
	lease.nr = SLOTS / 2;
	do {
		cqe = raw_ask(c, &lease, NULL, 0, more, sizeof(more));
	} while (cqe.res == SYN_E_BACKPRESSURE);
	assert_int_equal(cqe.res, 0);
}

/* Asks and does not read, until the daemon cannot answer. */
static void socket_fill(struct raw_client *c)
{
	struct syn_msg_space space = {
		.msg = { .type = SYN_MSG_SPACE, .size = sizeof(space) },
	};
	unsigned int full = 0;

	assert_int_equal(fcntl(c->sock, F_SETFL, O_NONBLOCK), 0);
	while (full < 3) {
		if (!syn_conn_send(c->sock, &space.msg, NULL, 0)) {
			full = 0;
			continue;
		}
		full++;
		sleep_ms(20);
	}
}

static void socket_drain(struct raw_client *c)
{
	struct syn_msg_space_reply reply;

	while (raw_read(c, SYN_MSG_SPACE_REPLY, &reply, sizeof(reply)))
		;
}

/* Loans are made, and what they lie in cannot be told of: another worker does. */
static void test_answer_waits_for_the_socket(void **state)
{
	struct syn_sqe fault = { .op = SYN_OP_FAULT, .nr = 4, .cookie = 77 };
	struct syn_sqe loaded = { .op = SYN_OP_LOADED, .cookie = 78 };
	struct syn_vec_loaded void_loan[4];
	struct syn_vec_fault out[4];
	uint64_t pages[SLOTS];
	struct test_daemon d;
	struct raw_client c;
	struct syn_cqe cqe;
	bool answered = false;

	(void)state;
	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(raw_window(&c, SLOTS), 0);
	pages_push_down(&c, pages);
	socket_fill(&c);
	raw_submit(&c, &fault, pages, 4 * sizeof(pages[0]));
	assert_false(raw_reap(&c, &cqe, out, sizeof(out), 300));
	for (int i = 0; i < 3; i++) {
		daemon_kill_worker(&d);
		assert_false(raw_reap(&c, &cqe, out, sizeof(out), 100));
	}
	for (int i = 0; i < 400 && !answered; i++) {
		socket_drain(&c);
		answered = raw_reap(&c, &cqe, out, sizeof(out), 20);
	}
	assert_true(answered);
	assert_int_equal(cqe.cookie, 77);
	assert_int_equal(cqe.res, 0);
	assert_int_equal(out[0].res, SYN_FAULT_LOAN);
	assert_false(raw_reap(&c, &cqe, NULL, 0, 100));
	/* With loans its frames would wait for the end of this process. */
	for (uint32_t i = 0; i < 4; i++)
		if (out[i].res == SYN_FAULT_LOAN)
			void_loan[loaded.nr++] =
				(struct syn_vec_loaded){ out[i].loan,
							 -ECANCELED };
	assert_int_equal(raw_ask(&c, &loaded, void_loan,
				 loaded.nr * sizeof(void_loan[0]), NULL, 0)
				 .res,
			 0);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* ---- many clients ------------------------------------------------------- */

/* The worker may die in the middle of it: then there is no session. */
static int open_at_last(struct engine *e, const char *path)
{
	int r = -EAGAIN;

	for (int i = 0; i < 100 && r; i++)
		r = engine_open(e, path, SLOTS);
	return r;
}

static int client_once(const char *path, uint64_t *seed, uint64_t name)
{
	struct engine e;
	int r;

	r = open_at_last(&e, path);
	if (r)
		return r;
	r = engine_grow(&e, PAGES, *seed);
	for (uint32_t i = 0; i < 40 && !r; i++)
		r = engine_check(&e, (uint32_t)(engine_random(seed) % e.nr));
	if (!r)
		r = engine_seal(&e, 0, name);
	if (!r)
		r = engine_find(&e, name, e.seed[0]);
	if (!r)
		r = engine_release(&e);
	engine_close(&e);
	return r;
}

static void client_main(const char *path, uint32_t child, const bool *stop)
{
	uint64_t seed = child;
	uint64_t name = child << 20;
	int r = 0;

	while (!syn_load_relaxed(stop) && !r)
		r = client_once(path, &seed, name++);
	_exit(-r);
}

static void children_join(const pid_t *pid)
{
	for (uint32_t i = 0; i < CHILDREN; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* They come and go, fault and seal, and no death of a worker is an error. */
static void test_many_clients(void **state)
{
	struct syn_ctl_status status;
	pid_t pid[CHILDREN];
	struct test_daemon d;
	uint64_t seed = 3;
	bool *stop;

	(void)state;
	test_patience(240);
	stop = mmap(NULL, sizeof(*stop), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(stop, MAP_FAILED);
	daemon_start(&d, daemon_args);
	for (uint32_t i = 0; i < CHILDREN; i++) {
		pid[i] = fork_child();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0)
			client_main(d.socket, i + 1, stop);
	}
	for (int i = 0; i < KILLS; i++) {
		sleep_ms((unsigned int)(engine_random(&seed) % 40));
		daemon_kill_worker(&d);
	}
	syn_store_relaxed(stop, true);
	children_join(pid);
	ctl_status(d.socket, &status);
	assert_int_equal(status.epoch, 1 + KILLS);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
	assert_int_equal(munmap(stop, sizeof(*stop)), 0);
}

/* ---- clients that die, records that do not fit -------------------------- */

static int hang_up(void)
{
	/* The library has no call for this, but a broken engine may do it. */
	for (int fd = 3; fd < 64; fd++)
		if (shutdown(fd, SHUT_RDWR) == 0)
			return 0;
	return -ENOENT;
}

/* Leases, a pin and a sealed page. */
static int hold_pages(const char *path)
{
	static struct engine e;
	int r = engine_open(&e, path, SLOTS);

	if (!r)
		r = engine_grow(&e, PAGES, SEED);
	if (!r)
		r = engine_seal(&e, 0, NAME);
	if (!r)
		r = syn_load(e.client, &e.page[e.nr - 1], 1, SYN_FOREVER, NULL);
	return r;
}

static int hold_and_hang_up(const char *path)
{
	int r = hold_pages(path);

	return r ? r : hang_up();
}

static void test_client_dies_meanwhile(void **state)
{
	struct syn_ctl_status status;
	struct test_daemon d;
	struct engine e;
	pid_t pid;

	(void)state;
	daemon_start(&d, daemon_args);
	pid = child_of(hold_pages, d.socket);
	daemon_worker_away(&d);
	child_kill(pid, SIGKILL);
	daemon_worker_return(&d);
	daemon_wait_quiet(&d);
	ctl_status(d.socket, &status);
	assert_int_equal(status.reaped, 1);
	assert_int_equal(status.nr_pages, 1);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_find(&e, NAME, SEED), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static bool quarantined(const char *path, struct syn_ctl_status *ret)
{
	ctl_status(path, ret);
	return ret->nr_quarantined > 0;
}

/* Its frames wait in quarantine while it lives, whatever workers do. */
static void test_quarantine_goes_on(void **state)
{
	struct syn_ctl_status before;
	struct syn_ctl_status status;
	struct test_daemon d;
	pid_t pid;

	(void)state;
	daemon_start(&d, daemon_args);
	pid = child_of(hold_and_hang_up, d.socket);
	test_wait(quarantined(d.socket, &before), 20);
	for (int i = 0; i < DEATHS; i++) {
		daemon_kill_worker(&d);
		ctl_status(d.socket, &status);
		assert_int_equal(status.nr_sessions, 1);
		assert_true(status.nr_quarantined > 0);
	}
	child_kill(pid, SIGKILL);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* The kept memory, which only the keeper holds now, mapped. */
static void *kept_map(const struct test_daemon *d, size_t *ret_bytes)
{
	char path[64];
	char name[64];
	void *map;

	for (int i = 0; i < 256; i++) {
		off_t bytes;
		ssize_t n;
		int fd;

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d",
			       (int)d->keeper, i);
		n = readlink(path, name, sizeof(name) - 1);
		if (n <= 0)
			continue;
		name[n] = '\0';
		if (!strstr(name, "synapse-kept"))
			continue;
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		bytes = lseek(fd, 0, SEEK_END);
		map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
		assert_ptr_not_equal(map, MAP_FAILED);
		(void)close(fd);
		*ret_bytes = (size_t)bytes;
		return map;
	}
	*ret_bytes = 0;
	fail_msg("the keeper holds no kept memory");
	return NULL;
}

static void damage_server(void *kept, size_t bytes)
{
	struct syn_rec_server *head = kept;

	(void)bytes;
	assert_true(head->records.magic == SYN_PEERS_MAGIC);
	head->records.version++;
}

static void damage_core(void *kept, size_t bytes)
{
	for (size_t at = 0; at + 4096 < bytes; at += 4096) {
		struct syn_rec_head *head = (void *)((char *)kept + at);

		if (head->records.magic != SYN_KEPT_MAGIC)
			continue;
		head->records.version++;
		return;
	}
	fail();
}

static void refused(void (*damage)(void *kept, size_t bytes))
{
	struct syn_ctl_status status;
	struct test_daemon d;
	struct raw_client c;
	struct engine e;
	size_t bytes;
	void *kept;

	daemon_start(&d, daemon_args);
	assert_int_equal(raw_attach(&c, d.socket), 0);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	daemon_worker_away(&d);
	kept = kept_map(&d, &bytes);
	damage(kept, bytes);
	assert_int_equal(munmap(kept, bytes), 0);
	daemon_worker_return(&d);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	assert_non_null(strstr(c.bye.reason, "version"));
	assert_int_equal(engine_grow(&e, 1, SEED), -ESHUTDOWN);
	raw_close(&c);
	engine_close(&e);
	/* One has refused, the next has begun. */
	ctl_status(d.socket, &status);
	assert_int_equal(status.epoch, 3);
	assert_int_equal(engine_work(d.socket, SLOTS, PAGES, 10, 1), 0);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static void test_refused_server(void **state)
{
	(void)state;
	refused(damage_server);
}

static void test_refused_core(void **state)
{
	(void)state;
	refused(damage_core);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session_goes_on),
		cmocka_unit_test(test_orders_stand),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_requests_in_flight),
		cmocka_unit_test(test_answer_waits_for_the_socket),
		cmocka_unit_test(test_many_clients),
		cmocka_unit_test(test_client_dies_meanwhile),
		cmocka_unit_test(test_quarantine_goes_on),
		cmocka_unit_test(test_refused_server),
		cmocka_unit_test(test_refused_core),
	};

	return test_main(tests);
}
