/* SPDX-License-Identifier: Apache-2.0 */
/* A client whose daemon's worker is replaced; both workers are played here. */
#include "test/unit/client-peer.h"

#define HOST_EXTENT 9u

static struct peer peer;
static struct syn_client *client;

/* What the client has asked on the socket; the script counts. */
static unsigned int nr_asked;

static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	return true;
}

static bool question_read(struct peer *p)
{
	union {
		struct syn_msg msg;
		struct syn_msg_space space;
	} m;
	int fds[SYN_FDS_MAX];

	if (syn_conn_recv(p->sock, &m, sizeof(m), fds) != sizeof(m.space) ||
	    m.msg.type != SYN_MSG_SPACE)
		return false;
	p->space = m.space;
	nr_asked++;
	return true;
}

/* Another worker, before which @asked questions had been taken. */
static void worker_replace(struct peer *p, uint32_t asked)
{
	struct syn_daemon_ctl *ctl = (void *)p->daemon;
	const uint64_t one = 1;

	syn_store_relaxed(&ctl->asked, asked);
	syn_store_release(&ctl->epoch, ctl->epoch + 1);
	(void)!write(p->woken, &one, sizeof(one));
}

static int space_define(uint64_t model, struct syn_space *ret)
{
	static const struct syn_component component = {
		.role = SYN_ROLE_K,
		.dtype = SYN_DTYPE_F16,
		.heads = 1,
		.dim = 32,
		.codec = SYN_CODEC_RAW16,
	};
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);

	opts.model[0] = model;
	opts.tokens = 128;
	opts.nr_components = 1;
	opts.components = &component;
	return syn_space_define(client, &opts, ret);
}

static void play(peer_script_fn script)
{
	struct syn_space space;

	nr_asked = 0;
	peer_start(&peer, script);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	assert_int_equal(space_define(7, &space), 0);
	assert_int_equal(peer.space.model[0], 7);
	client = syn_detach(client);
	peer_stop(&peer);
}

/* ---- questions ---------------------------------------------------------- */

/* Taken, and the worker died. */
static void script_lost(struct peer *p)
{
	peer_send_welcome(p);
	if (!question_read(p))
		return;
	worker_replace(p, 1);
	if (!question_read(p))
		return;
	/* And so did the next one. */
	worker_replace(p, 2);
	if (question_read(p))
		peer_send_space(p);
}

static void test_lost_question_is_asked_again(void **state)
{
	play(script_lost);
	assert_int_equal(nr_asked, 3);
}

/* The worker died before it took it. */
static void script_on_its_way(struct peer *p)
{
	struct pollfd fd = { .events = POLLIN };

	peer_send_welcome(p);
	fd.fd = p->sock;
	(void)poll(&fd, 1, -1);
	worker_replace(p, 0);
	(void)usleep(50000);
	if (!question_read(p))
		return;
	peer_send_space(p);
	/* What comes next is its goodbye. */
	assert_false(question_read(p));
}

static void test_question_on_its_way_is_not(void **state)
{
	play(script_on_its_way);
	assert_int_equal(nr_asked, 1);
}

/* It died right after its answer. */
static void script_answered(struct peer *p)
{
	peer_send_welcome(p);
	if (!question_read(p))
		return;
	peer_send_space(p);
	worker_replace(p, 1);
	assert_false(question_read(p));
}

static void test_answered_question_is_not(void **state)
{
	play(script_answered);
	assert_int_equal(nr_asked, 1);
}

/* ---- extents ------------------------------------------------------------ */

static void script_serve(struct peer *p)
{
	p->answer = answer;
	peer_send_welcome(p);
	peer_serve(p);
}

static int poll_events(uint32_t *events)
{
	(void)usleep(10000);
	return syn_poll(client, events, 4);
}

static void test_extent_told_again(void **state)
{
	uint32_t events[4];

	peer_start(&peer, script_serve);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	peer_send_extent(&peer, HOST_EXTENT, SYN_TIER_HOST, 0, 4, 0x5a);
	worker_replace(&peer, 0);
	peer_send_extent(&peer, HOST_EXTENT, SYN_TIER_HOST, 0, 4, 0x5a);
	assert_int_equal(poll_events(events), 1);
	assert_int_equal(events[0], SYN_EVENT_EPOCH);
	/* Another one with its number is a mistake. */
	peer_send_extent(&peer, HOST_EXTENT, SYN_TIER_HOST, 0, 5, 0x5a);
	assert_int_equal(poll_events(events), 1);
	assert_int_equal(events[0], SYN_EVENT_SHUTDOWN);
	client = syn_detach(client);
	peer_stop(&peer);
}

/* Whoever asked is gone, and with it the answer. */
static void test_retired_again(void **state)
{
	struct syn_msg_retire m = { .msg = { .type = SYN_MSG_RETIRE,
					     .size = sizeof(m) },
				    .extent = HOST_EXTENT };
	uint32_t events[4];

	peer_start(&peer, script_serve);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	peer_send_extent(&peer, HOST_EXTENT, SYN_TIER_HOST, 0, 4, 0x5a);
	for (uint64_t n = 1; n < 4; n++) {
		peer_send(&peer, &m, NULL, 0);
		while (syn_load_acquire(&peer.nr_requests[SYN_OP_RETIRED]) < n)
			assert_int_equal(poll_events(events), 0);
	}
	/* The number means another extent now. */
	peer_send_extent(&peer, HOST_EXTENT, SYN_TIER_HOST, 0, 8, 0x5b);
	assert_int_equal(poll_events(events), 0);
	client = syn_detach(client);
	peer_stop(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost_question_is_asked_again),
		cmocka_unit_test(test_question_on_its_way_is_not),
		cmocka_unit_test(test_answered_question_is_not),
		cmocka_unit_test(test_extent_told_again),
		cmocka_unit_test(test_retired_again),
	};

	return test_main(tests);
}
