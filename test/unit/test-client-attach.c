/* SPDX-License-Identifier: Apache-2.0 */
/* libsynapse-client: the handshake, its refusals, and the end of a session. */
#include <sys/wait.h>

#include "core/base/fault.h"
#include "test/unit/client-peer.h"

static struct peer peer;
static int nr_fds;

static int setup(void **state)
{
	nr_fds = test_count_fds();
	return 0;
}

static int teardown(void **state)
{
	return test_count_fds() == nr_fds ? 0 : -1;
}

static bool answer_ok(struct peer *p, const struct syn_sqe *sqe, const void *in,
		      struct syn_cqe *cqe, void *out)
{
	return true;
}

static void test_no_daemon(void **state)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);
	struct syn_client *c = NULL;
	char reason[SYN_REASON_BYTES] = "old";

	opts.path = "/tmp/synapse-test-nobody";
	errno = 77;
	assert_int_equal(syn_attach(&opts, &c, reason), -ENOENT);
	assert_int_equal(errno, 77);
	assert_null(c);
	assert_string_equal(reason, "");
	assert_null(syn_detach(NULL));
}

static void test_attach_and_detach(void **state)
{
	struct syn_client *c;

	peer_start(&peer, peer_script_serve);
	assert_int_equal(peer_attach(&peer, &c, NULL), 0);
	assert_int_equal(syn_client_session(c), 42);
	assert_string_equal(syn_client_reason(c), "");
	assert_string_equal(peer.hello.name, program_invocation_short_name);
	assert_int_equal(peer.hello.kind, SYN_KIND_ENGINE);
	assert_int_equal(peer.hello.nr_pages, 65536);
	assert_int_equal(peer.hello.nr_timelines, 8);
	assert_int_equal(peer.hello.job_ranks, 1);
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

static void test_options(void **state)
{
	struct {
		struct syn_attach_opts known;
		uint64_t newer;
	} large = { .known = { .sz = sizeof(large) } };
	struct syn_attach_opts small = { .sz = offsetof(struct syn_attach_opts,
							nr_pages) };
	struct syn_client *c;

	peer_start(&peer, peer_script_serve);
	large.known.path = peer.path;
	large.newer = 1;
	assert_int_equal(syn_attach(&large.known, &c, NULL), -E2BIG);
	small.sz = 3;
	assert_int_equal(syn_attach(&small, &c, NULL), -EINVAL);

	/* A caller that knows less: what is behind its end is not read. */
	small.sz = offsetof(struct syn_attach_opts, nr_pages);
	small.path = peer.path;
	small.name = "a name of more than thirty-one bytes";
	small.nr_pages = 7;
	assert_int_equal(syn_attach(&small, &c, NULL), 0);
	assert_int_equal(peer.hello.nr_pages, 65536);
	assert_string_equal(peer.hello.name, "a name of more than thirty-one ");
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

static void test_environment(void **state)
{
	struct syn_client *c;

	peer_start(&peer, peer_script_serve);
	assert_int_equal(setenv("SYNAPSE_SOCKET", peer.path, 1), 0);
	assert_int_equal(syn_attach(NULL, &c, NULL), 0);
	assert_int_equal(unsetenv("SYNAPSE_SOCKET"), 0);
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

static void script_refuse(struct peer *p)
{
	peer_send_bye(p, -EUSERS, "too many clients");
}

static void test_refused(void **state)
{
	char reason[SYN_REASON_BYTES];
	struct syn_client *c;

	peer_start(&peer, script_refuse);
	assert_int_equal(peer_attach(&peer, &c, reason), -EUSERS);
	assert_string_equal(reason, "too many clients");
	peer_stop(&peer);
}

static void script_hang_up(struct peer *p)
{
}

static void test_hung_up(void **state)
{
	struct syn_client *c;

	peer_start(&peer, script_hang_up);
	assert_int_equal(peer_attach(&peer, &c, NULL), -ECONNRESET);
	peer_stop(&peer);
}

static void script_silent(struct peer *p)
{
	while (!syn_load_acquire(&p->stop))
		(void)usleep(1000);
}

static void test_silence(void **state)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);
	struct syn_client *c;

	peer_start(&peer, script_silent);
	opts.path = peer.path;
	opts.timeout_ns = 20000000;
	assert_int_equal(syn_attach(&opts, &c, NULL), -ETIMEDOUT);
	peer_stop(&peer);
}

/* ---- WELCOME that must not be believed ---------------------------------- */

static void (*spoil)(struct peer *p);
static unsigned int welcome_fds;

static void script_spoiled(struct peer *p)
{
	const int fds[] = { p->client_fd, p->daemon_fd, p->wake, p->woken,
			    p->wake };

	spoil(p);
	peer_send(p, &p->welcome, fds, welcome_fds);
	while (peer_message(p))
		;
}

static void assert_spoiled(void (*how)(struct peer *p), unsigned int nr)
{
	uint64_t client_bytes;
	uint64_t daemon_bytes;
	struct syn_client *c;

	spoil = how;
	welcome_fds = nr;
	peer_start(&peer, script_spoiled);
	client_bytes = peer.welcome.client_bytes;
	daemon_bytes = peer.welcome.daemon_bytes;
	assert_int_equal(peer_attach(&peer, &c, NULL), -EPROTO);
	peer.welcome.client_bytes = client_bytes;
	peer.welcome.daemon_bytes = daemon_bytes;
	peer_stop(&peer);
	assert_int_equal(test_count_fds(), nr_fds);
}

#define SPOIL(name, change)                                                    \
	static void spoil_##name(struct peer *p)                               \
	{                                                                      \
		struct syn_msg_welcome *w = &p->welcome;                       \
                                                                               \
		(void)w;                                                       \
		change;                                                        \
	}
SPOIL(nothing, (void)0)
SPOIL(type, w->msg.type = SYN_MSG_EXTENT)
SPOIL(error, w->msg.error = -1)
SPOIL(short, w->msg.size = 80)
SPOIL(version, w->version = 2)
SPOIL(version0, w->version = 0)
SPOIL(padding, w->pad0 = 1)
SPOIL(features, w->features |= 1ull << 40)
SPOIL(fewer_features, w->features = SYN_FEATURE_RAW16 | SYN_FEATURE_H4)
SPOIL(two_kinds, w->features |= SYN_FEATURE_CUDA)
SPOIL(no_pages, w->nr_pages = 0)
SPOIL(many_pages, w->nr_pages = SYN_PAGES_MAX + 1)
SPOIL(pages_outside, w->nr_pages = SYN_PAGES_MAX)
SPOIL(no_timelines, w->nr_timelines = 0)
SPOIL(many_timelines, w->nr_timelines = SYN_TIMELINES_MAX + 1)
SPOIL(sqe, w->sqe_off = w->client_bytes - 8)
SPOIL(sqe_in_ctl, w->sqe_off = 0)
SPOIL(unaligned, w->sqe_off += 4)
SPOIL(wraps, w->sq_vec_off = UINT64_MAX - 7)
SPOIL(timelines, w->timeline_off = w->client_bytes)
SPOIL(pin, w->pin_off = w->client_bytes - 4 * PEER_PAGES + 8)
SPOIL(cqe, w->cqe_off = w->daemon_bytes)
SPOIL(cqe_in_ctl, w->cqe_off = 128)
SPOIL(cq_vec, w->cq_vec_off = w->daemon_bytes - 8)
SPOIL(loan, w->loan_off = w->daemon_bytes - 64)
SPOIL(sums, w->sums_off += 8)
SPOIL(pte, w->pte_off = w->daemon_bytes - 8)
SPOIL(client_size, w->client_bytes += 4096)
SPOIL(daemon_size, w->daemon_bytes += 4096)
SPOIL(huge_size, w->daemon_bytes = UINT64_MAX)

static void test_welcome_is_checked(void **state)
{
	static void (*const how[])(struct peer *) = {
		spoil_type,	    spoil_error,
		spoil_short,	    spoil_version,
		spoil_version0,	    spoil_padding,
		spoil_features,	    spoil_two_kinds,
		spoil_no_pages,	    spoil_fewer_features,
		spoil_many_pages,   spoil_pages_outside,
		spoil_no_timelines, spoil_many_timelines,
		spoil_sqe,	    spoil_sqe_in_ctl,
		spoil_unaligned,    spoil_wraps,
		spoil_timelines,    spoil_pin,
		spoil_cqe,	    spoil_cqe_in_ctl,
		spoil_cq_vec,	    spoil_loan,
		spoil_sums,	    spoil_pte,
		spoil_client_size,  spoil_daemon_size,
		spoil_huge_size,
	};

	for (unsigned int i = 0; i < syn_array_size(how); i++)
		assert_spoiled(how[i], 4);
	for (unsigned int nr = 0; nr < 6; nr++)
		if (nr != 4)
			assert_spoiled(spoil_nothing, nr);
}

static void script_unsealed(struct peer *p)
{
	int plain = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const int fds[] = { p->client_fd, plain, p->wake, p->woken };

	if (ftruncate(plain, (off_t)p->welcome.daemon_bytes) == 0)
		peer_send(p, &p->welcome, fds, 4);
	plain = syn_close(plain);
}

static void test_segments_must_be_sealed(void **state)
{
	struct syn_client *c;

	peer_start(&peer, script_unsealed);
	assert_int_equal(peer_attach(&peer, &c, NULL), -EPROTO);
	peer_stop(&peer);
}

/* ---- the end ------------------------------------------------------------ */

static void script_end(struct peer *p)
{
	peer_send_welcome(p);
	while (!syn_load_acquire(&p->stop))
		(void)usleep(1000);
	peer_send_bye(p, -ESHUTDOWN, "the worker stops");
}

static void test_bye_ends_the_session(void **state)
{
	uint32_t events[4];
	uint64_t page = SYN_HANDLE(1, 0);
	struct syn_client *c;
	uint32_t timeline;

	peer_start(&peer, script_end);
	assert_int_equal(peer_attach(&peer, &c, NULL), 0);
	assert_int_equal(syn_poll(c, events, 4), 0);
	peer_stop(&peer);
	assert_int_equal(syn_poll(c, events, 4), 1);
	assert_int_equal(events[0], SYN_EVENT_SHUTDOWN);
	assert_int_equal(syn_poll(c, events, 4), 0);
	assert_string_equal(syn_client_reason(c), "the worker stops");
	assert_int_equal(syn_pin(c, &page, 1, NULL), -ESHUTDOWN);
	assert_int_equal(syn_load(c, &page, 1, 0, NULL), -ESHUTDOWN);
	assert_int_equal(syn_release(c, &page, 1), -ESHUTDOWN);
	assert_int_equal(syn_timeline_new(c, &timeline), -ESHUTDOWN);
	assert_null(syn_detach(c));
}

static void script_vanish(struct peer *p)
{
	peer_send_welcome(p);
	while (syn_ring_waiting(&p->sq) <= 0)
		(void)usleep(1000);
	/* Taken, never answered. */
	syn_ring_consume(&p->sq, 1);
	(void)usleep(50000);
}

static void test_death_while_waiting(void **state)
{
	const struct syn_vec_share share = { .handle = 1 };
	struct syn_client *c;

	peer_start(&peer, script_vanish);
	assert_int_equal(peer_attach(&peer, &c, NULL), 0);
	assert_int_equal(syn_report(c, &share, 1), -ESHUTDOWN);
	assert_string_equal(syn_client_reason(c), "the daemon has gone");
	assert_int_equal(syn_report(c, &share, 1), -ESHUTDOWN);
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

/* Every call answers in a child; the parent goes on. */
static int child_calls(struct syn_client *c)
{
	const struct syn_vec_share share = { .handle = 1 };
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);
	uint64_t page = SYN_HANDLE(1, 0);
	struct syn_space space;
	uint32_t word;

	if (syn_pin(c, &page, 1, NULL) != -ECHILD ||
	    syn_load(c, &page, 1, 0, NULL) != -ECHILD ||
	    syn_release(c, &page, 1) != -ECHILD ||
	    syn_commit(c, &page, &word, 1) != -ECHILD ||
	    syn_report(c, &share, 1) != -ECHILD ||
	    syn_poll(c, &word, 1) != -ECHILD ||
	    syn_timeline_new(c, &word) != -ECHILD ||
	    syn_space_define(c, &opts, &space) != -ECHILD ||
	    syn_seal(c, page, (uint64_t[2]){ 1, 2 }, 0, 0) != -ECHILD)
		return 1;
	syn_unpin(c, 0, &page, 1);
	syn_timeline_done(c, 0, 1);
	if (syn_timeline_issue(c, 0))
		return 2;
	return syn_detach(c) ? 3 : 0;
}

static void test_fork(void **state)
{
	const struct syn_vec_share share = { .handle = 1 };
	struct syn_client *c;
	int status;
	pid_t pid;

	peer_start(&peer, peer_script_serve);
	peer.answer = answer_ok;
	assert_int_equal(peer_attach(&peer, &c, NULL), 0);
	pid = fork_child();
	assert_true(pid >= 0);
	if (!pid)
		_exit(child_calls(c));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(syn_report(c, &share, 1), 0);
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

static void test_timelines(void **state)
{
	struct syn_timeline *shared;
	struct syn_client *c;
	uint32_t t;

	peer_start(&peer, peer_script_serve);
	assert_int_equal(peer_attach(&peer, &c, NULL), 0);
	shared = (void *)(peer.client + peer.welcome.timeline_off);
	for (uint32_t i = 0; i < PEER_TIMELINES; i++) {
		assert_int_equal(syn_timeline_new(c, &t), 0);
		assert_int_equal(t, i);
	}
	assert_int_equal(syn_timeline_new(c, &t), -EDQUOT);
	assert_int_equal(syn_timeline_issue(c, 2), 1);
	assert_int_equal(syn_timeline_issue(c, 2), 2);
	syn_timeline_done(c, 2, 1);
	assert_int_equal(shared[2].issued, 2);
	assert_int_equal(shared[2].done, 1);
	assert_int_equal(syn_timeline_issue(c, PEER_TIMELINES), 0);
	syn_timeline_done(c, PEER_TIMELINES, 9);
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

static void test_events(void **state)
{
	struct syn_daemon_ctl *ctl;
	struct syn_client *c;
	uint32_t events[4];

	peer_start(&peer, peer_script_serve);
	assert_int_equal(peer_attach(&peer, &c, NULL), 0);
	ctl = (void *)peer.daemon;
	assert_int_equal(syn_poll(c, events, 4), 0);
	syn_store_release(&ctl->notices, SYN_NOTICE_RECLAIM | SYN_NOTICE_SUM);
	syn_store_release(&ctl->epoch, peer.welcome.epoch + 1);
	/* What does not fit waits. */
	assert_int_equal(syn_poll(c, events, 1), 1);
	assert_int_equal(events[0], SYN_EVENT_RECLAIM);
	assert_int_equal(syn_poll(c, events, 4), 2);
	assert_int_equal(events[0], SYN_EVENT_EPOCH);
	assert_int_equal(events[1], SYN_EVENT_LOST);
	assert_int_equal(syn_poll(c, events, 4), 0);
	/* Twice between two looks is once, and not never. */
	syn_store_release(&ctl->notices,
			  3 * SYN_NOTICE_RECLAIM | SYN_NOTICE_SUM);
	assert_int_equal(syn_poll(c, events, 4), 1);
	assert_int_equal(events[0], SYN_EVENT_RECLAIM);
	assert_null(syn_detach(c));
	peer_stop(&peer);
}

/* The armed failure may also hit the peer; then the client sees its end. */
static void test_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;

	do {
		struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);
		struct syn_client *c;
		int r;

		peer_start(&peer, peer_script_serve);
		opts.path = peer.path;
		opts.timeout_ns = 200000000;
		syn_fault_arm(++nth);
		r = syn_attach(&opts, &c, NULL);
		if (!r)
			assert_null(syn_detach(c));
		hit = syn_fault_disarm();
		assert_true(hit || !r);
		peer_stop(&peer);
		assert_int_equal(test_count_fds(), nr_fds);
	} while (hit);
	assert_true(nth > 8);
}

#define attach_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		attach_test(test_no_daemon),
		attach_test(test_attach_and_detach),
		attach_test(test_options),
		attach_test(test_environment),
		attach_test(test_refused),
		attach_test(test_hung_up),
		attach_test(test_silence),
		attach_test(test_welcome_is_checked),
		attach_test(test_segments_must_be_sealed),
		attach_test(test_bye_ends_the_session),
		attach_test(test_death_while_waiting),
		attach_test(test_fork),
		attach_test(test_timelines),
		attach_test(test_events),
		attach_test(test_fail_nth),
	};

	return test_main(tests);
}
