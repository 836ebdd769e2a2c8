/* SPDX-License-Identifier: Apache-2.0 */
/* libsynapse-client: shares of attention, written in batches and reported. */
#include <float.h>
#include <math.h>
#include <sys/wait.h>

#include "core/base/fault.h"
#include "test/unit/client-peer.h"

#define UNITS	 65536u
#define WAIT_US	 20000u /* longer than sums wait for more */
#define RING	 8192u
#define KV_HEADS 2u
#define GROUP	 2u
#define HEADS	 (KV_HEADS * GROUP)
#define NR_PAGES 80u /* more than one report takes */
#define TIMELINE 1u

static struct peer peer;
static struct syn_client *client;
static struct syn_window *window;
static uint64_t pages[NR_PAGES];
static int nr_fds;

/* What the played daemon was told; and what it does. */
static struct {
	unsigned int reports;
	unsigned int released; /* reports there were at the first RELEASE */
	uint64_t share[PEER_PAGES];
	uint64_t queries[PEER_PAGES];
	uint32_t vanish; /* a page that is gone when the next REPORT comes */
	uint32_t next;
} seen;

static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	const struct syn_vec_share *vec = in;
	uint64_t *leased = out;

	for (uint32_t i = 0; sqe->op == SYN_OP_LEASE && i < sqe->nr; i++) {
		syn_store_seq_cst(&p->pte[seen.next],
				  SYN_PTE(1, SYN_PTE_RESIDENT, seen.next));
		leased[i] = SYN_HANDLE(1, seen.next++);
	}
	if (sqe->op == SYN_OP_RELEASE)
		seen.released = seen.reports;
	if (sqe->op != SYN_OP_REPORT)
		return true;
	if (seen.vanish) {
		syn_store_seq_cst(&p->pte[seen.vanish], 0);
		seen.vanish = 0;
		cqe->res = -ESTALE;
		return true;
	}
	for (uint32_t i = 0; i < sqe->nr; i++) {
		seen.share[SYN_HANDLE_INDEX(vec[i].handle)] += vec[i].share;
		seen.queries[SYN_HANDLE_INDEX(vec[i].handle)] += vec[i].queries;
	}
	seen.reports++;
	return true;
}

static void open_shares(uint64_t bytes)
{
	struct syn_shares_opts opts = SYN_OPTS(struct syn_shares_opts);

	opts.bytes = bytes;
	assert_int_equal(syn_shares_open(client, &opts), 0);
}

static int setup(void **state)
{
	nr_fds = test_count_fds();
	memset(&seen, 0, sizeof(seen));
	peer_start(&peer, peer_script_serve);
	peer.answer = answer;
	peer_open(&peer, PEER_SLOTS, &client, &window);
	return syn_lease(window, NR_PAGES, SYN_FOREVER, pages);
}

static int teardown(void **state)
{
	(void)syn_detach(client);
	peer_stop(&peer);
	return test_count_fds() == nr_fds ? 0 : -1;
}

static struct syn_shares_batch batch_of(uint32_t nr, uint64_t value)
{
	struct syn_shares_batch b = SYN_OPTS(struct syn_shares_batch);

	b.pages = pages;
	b.nr_parts = nr;
	b.queries = 4;
	b.kv_heads = KV_HEADS;
	b.group = GROUP;
	b.timeline = TIMELINE;
	b.value = value;
	return b;
}

/* Each head gives page @i of the batch @each times @i + 1. */
static void batch_write(uint32_t nr, uint64_t value, float each)
{
	struct syn_shares_batch b = batch_of(nr, value);
	float *shares;

	assert_int_equal(syn_shares_begin(client, &b, &shares), 0);
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t h = 0; h < HEADS; h++) {
			assert_true(shares[i * HEADS + h] == 0);
			shares[i * HEADS + h] = each * (float)(i + 1);
		}
}

static void poll_once(void)
{
	uint32_t events[4];

	assert_int_equal(syn_poll(client, events, 4), 0);
}

static struct syn_shares_stats stats(void)
{
	struct syn_shares_stats s = SYN_OPTS(struct syn_shares_stats);

	assert_int_equal(syn_shares_read(client, &s), 0);
	return s;
}

/* Until sums of @nr pages were reported or dropped. */
static void poll_until(uint64_t nr)
{
	struct syn_shares_stats s;

	do {
		(void)usleep(WAIT_US / 20);
		poll_once();
		s = stats();
	} while (s.pages + s.gone < nr);
	assert_int_equal(s.pages + s.gone, nr);
}

/* ---- what is reported --------------------------------------------------- */

static void test_sums(void **state)
{
	open_shares(0);
	batch_write(NR_PAGES, 1, 1.0f / 64);
	batch_write(NR_PAGES, 2, 1.0f / 32);
	syn_timeline_done(client, TIMELINE, 2);
	/* Sums wait for more. */
	poll_once();
	assert_int_equal(stats().batches, 2);
	assert_int_equal(stats().requests, 0);
	(void)usleep(WAIT_US);
	poll_until(NR_PAGES);
	assert_int_equal(seen.reports, 2);
	assert_int_equal(stats().requests, 2);
	for (uint32_t i = 0; i < NR_PAGES; i++) {
		assert_int_equal(seen.share[i],
				 (i + 1) * HEADS * 3 * UNITS / 64);
		assert_int_equal(seen.queries[i], 8);
	}
	assert_int_equal(stats().gone, 0);
	assert_int_equal(stats().invalid, 0);
}

static void test_nothing_before_it_is_done(void **state)
{
	open_shares(0);
	batch_write(2, 1, 0.25f);
	batch_write(1, 2, 0.5f);
	poll_once();
	assert_int_equal(stats().batches, 0);
	syn_timeline_done(client, TIMELINE, 1);
	poll_until(2);
	assert_int_equal(stats().batches, 1);
	assert_int_equal(seen.share[0], HEADS * UNITS / 4);
	syn_timeline_done(client, TIMELINE, 2);
	poll_until(3);
	assert_int_equal(seen.share[0], HEADS * UNITS * 3 / 4);
	assert_int_equal(seen.queries[0], 8);
	assert_int_equal(seen.queries[1], 4);
}

/* A page of several parts is asked by each query once. */
static void test_parts_of_a_page(void **state)
{
	const uint64_t parts[] = { pages[3], pages[3], pages[5], pages[3] };
	struct syn_shares_batch b = batch_of(syn_array_size(parts), 0);
	float *shares;

	open_shares(0);
	b.pages = parts;
	/* Done already: nobody polls before it is written. */
	assert_int_equal(syn_shares_begin(client, &b, &shares), 0);
	for (unsigned int i = 0; i < syn_array_size(parts) * HEADS; i++)
		shares[i] = (float)(1 + i / HEADS) / 8;
	poll_until(2);
	assert_int_equal(seen.share[3], HEADS * UNITS * (1 + 2 + 4) / 8);
	assert_int_equal(seen.share[5], HEADS * UNITS * 3 / 8);
	assert_int_equal(seen.queries[3], 4);
	assert_int_equal(seen.queries[5], 4);
}

static void test_what_is_no_share(void **state)
{
	static const float bad[] = { NAN,     -NAN, INFINITY, -INFINITY,
				     -1e-30f, 4.1f, 1e38f,    -FLT_MAX };
	struct syn_shares_batch b = batch_of(3, 0);
	float *shares;

	open_shares(0);
	assert_int_equal(syn_shares_begin(client, &b, &shares), 0);
	memcpy(shares, bad, sizeof(bad));
	/* As much as four queries can give, and a bit for rounding. */
	for (unsigned int i = 0; i < HEADS; i++)
		shares[2 * HEADS + i] = i ? 4 : 4.03125f;
	poll_until(3);
	assert_int_equal(stats().invalid, 8);
	assert_int_equal(seen.share[0], 0);
	assert_int_equal(seen.share[1], 0);
	assert_int_equal(seen.share[2], 4 * HEADS * UNITS + UNITS / 32);
}

/* More than the message can say is the most that it can. */
static void test_sum_without_end(void **state)
{
	struct syn_shares_batch b = batch_of(1, 0);
	float *shares;

	open_shares(0);
	b.queries = SYN_SHARES_QUERIES_MAX;
	assert_int_equal(syn_shares_begin(client, &b, &shares), 0);
	for (unsigned int i = 0; i < HEADS; i++)
		shares[i] = (float)SYN_SHARES_QUERIES_MAX;
	poll_until(1);
	assert_int_equal(seen.share[0], UINT32_MAX);
	assert_int_equal(seen.queries[0], SYN_SHARES_QUERIES_MAX);
}

/* ---- pages that go ------------------------------------------------------ */

static void test_released_before_it_is_done(void **state)
{
	open_shares(0);
	batch_write(3, 1, 0.25f);
	assert_int_equal(syn_release(client, &pages[1], 1), 0);
	syn_store_seq_cst(&peer.pte[1], 0);
	syn_timeline_done(client, TIMELINE, 1);
	poll_until(3);
	assert_int_equal(stats().gone, 1);
	assert_int_equal(seen.share[1], 0);
	assert_int_equal(seen.share[2], 3 * HEADS * UNITS / 4);
}

/* The daemon refuses a report with a page that has just gone; all of it. */
static void test_released_on_the_way(void **state)
{
	open_shares(0);
	batch_write(3, 0, 0.25f);
	seen.vanish = 1;
	poll_until(3);
	assert_int_equal(stats().gone, 1);
	assert_int_equal(seen.reports, 1);
	assert_int_equal(seen.share[0], HEADS * UNITS / 4);
	assert_int_equal(seen.share[1], 0);
	assert_int_equal(seen.share[2], 3 * HEADS * UNITS / 4);
}

/* Refused for no reason that can be seen: not for ever. */
static void test_refused_for_nothing(void **state)
{
	open_shares(0);
	batch_write(3, 0, 0.25f);
	seen.vanish = PEER_PAGES - 1;
	poll_until(3);
	assert_int_equal(stats().gone, 3);
	assert_int_equal(stats().requests, 1);
}

/* The entry is another page's before the sum was reported. */
static void test_entry_of_another(void **state)
{
	open_shares(0);
	batch_write(1, 1, 0.5f);
	syn_timeline_done(client, TIMELINE, 1);
	/* This sums, and has nothing to say of the page that goes. */
	assert_int_equal(syn_release(client, &pages[1], 1), 0);
	assert_int_equal(stats().batches, 1);
	syn_store_seq_cst(&peer.pte[0], SYN_PTE(2, SYN_PTE_RESIDENT, 0));
	pages[0] = SYN_HANDLE(2, 0);
	batch_write(1, 2, 0.25f);
	syn_timeline_done(client, TIMELINE, 2);
	poll_until(2);
	assert_int_equal(stats().gone, 1);
	assert_int_equal(seen.share[0], HEADS * UNITS / 4);
	assert_int_equal(seen.queries[0], 4);
}

/* What is known of a page is said while it is leased. */
static void test_release_reports_first(void **state)
{
	open_shares(0);
	batch_write(3, 0, 0.25f);
	assert_int_equal(syn_release(client, &pages[2], 1), 0);
	assert_int_equal(seen.released, 1);
	assert_int_equal(seen.share[2], 3 * HEADS * UNITS / 4);
	/* Of others that go there is nothing to say. */
	batch_write(1, 1, 0.25f);
	syn_timeline_done(client, TIMELINE, 1);
	assert_int_equal(syn_release(client, &pages[1], 1), 0);
	assert_int_equal(seen.released, 1);
}

/* ---- limits ------------------------------------------------------------- */

static void test_open(void **state)
{
	struct syn_shares_opts opts = SYN_OPTS(struct syn_shares_opts);
	struct syn_shares_batch b = batch_of(1, 0);
	struct syn_shares_stats s = { 0 };
	float *shares;

	assert_int_equal(syn_shares_begin(client, &b, &shares), -EINVAL);
	assert_int_equal(stats().batches, 0);
	assert_int_equal(syn_shares_read(client, &s), -EINVAL);
	opts.bytes = SYN_SHARES_BYTES_MAX + 1;
	assert_int_equal(syn_shares_open(client, &opts), -EINVAL);
	opts.bytes = SYN_SHARES_BYTES_MAX;
	assert_int_equal(syn_shares_open(client, &opts), 0);
	assert_int_equal(syn_shares_open(client, &opts), -EBUSY);
	assert_int_equal(syn_shares_open(client, NULL), -EBUSY);
}

static int begin_with(uint32_t nr, uint32_t queries, uint16_t kv_heads,
		      uint16_t group, uint32_t timeline)
{
	struct syn_shares_batch b = batch_of(nr, 0);
	float *shares;

	b.queries = queries;
	b.kv_heads = kv_heads;
	b.group = group;
	b.timeline = timeline;
	return syn_shares_begin(client, &b, &shares);
}

static void test_limits(void **state)
{
	const uint64_t other = SYN_HANDLE(9, 0);
	struct syn_shares_batch b = batch_of(1, 0);
	float *shares;

	open_shares(RING);
	assert_int_equal(begin_with(0, 1, 1, 1, 0), -EINVAL);
	assert_int_equal(begin_with(1, 0, 1, 1, 0), -EINVAL);
	assert_int_equal(begin_with(1, 1, 0, 1, 0), -EINVAL);
	assert_int_equal(begin_with(1, 1, 1, 0, 0), -EINVAL);
	assert_int_equal(begin_with(1, SYN_SHARES_QUERIES_MAX, 1, 1, 0), 0);
	assert_int_equal(begin_with(1, SYN_SHARES_QUERIES_MAX + 1, 1, 1, 0),
			 -EINVAL);
	assert_int_equal(begin_with(1, 1, 64, SYN_SHARES_HEADS_MAX / 64, 0), 0);
	assert_int_equal(begin_with(1, 1, 1, SYN_SHARES_HEADS_MAX + 1, 0),
			 -EINVAL);
	assert_int_equal(begin_with(1, 1, UINT16_MAX, UINT16_MAX, 0), -EINVAL);
	assert_int_equal(begin_with(1, 1, 1, 1, PEER_TIMELINES - 1), 0);
	assert_int_equal(begin_with(1, 1, 1, 1, PEER_TIMELINES), -EINVAL);
	/* All of the ring, which the batches above have left, and one more. */
	assert_int_equal(begin_with(8, 1, 256, 1, 0), 0);
	assert_int_equal(begin_with(9, 1, 256, 1, 0), -E2BIG);
	b.pages = NULL;
	assert_int_equal(syn_shares_begin(client, &b, &shares), -EINVAL);
	b.pages = &other;
	assert_int_equal(syn_shares_begin(client, &b, &shares), -ESTALE);
}

/* Batches of a third of the ring: it is full, wraps, and is full again. */
static void test_full(void **state)
{
	const uint16_t heads = RING / 3 / 256 * 64;
	struct syn_shares_batch b = batch_of(1, 0);
	float *shares[7];

	open_shares(RING);
	b.kv_heads = heads;
	b.group = 1;
	for (unsigned int i = 0; i < 7; i++) {
		b.value = i + 1;
		if (i >= 3) {
			assert_int_equal(
				syn_shares_begin(client, &b, &shares[i]),
				-EAGAIN);
			syn_timeline_done(client, TIMELINE, i - 2);
		}
		assert_int_equal(syn_shares_begin(client, &b, &shares[i]), 0);
		for (unsigned int n = 0; n < heads; n++) {
			assert_true(shares[i][n] == 0);
			shares[i][n] = 1;
		}
		/* It lies in none that is being written. */
		for (unsigned int n = 1; n <= syn_min(i, 2u); n++)
			assert_true(shares[i] >= shares[i - n] + heads ||
				    shares[i] + heads <= shares[i - n]);
	}
	assert_int_equal(stats().refused, 4);
	assert_int_equal(stats().batches, 4);
	syn_timeline_done(client, TIMELINE, 7);
	poll_until(1);
	assert_int_equal(stats().batches, 7);
	assert_int_equal(seen.share[0], 7 * heads * UNITS);
}

/* A batch that is done waits for those before it with its room only. */
static void test_out_of_order(void **state)
{
	struct syn_shares_batch b = batch_of(2, 1);
	float *shares;

	open_shares(0);
	assert_int_equal(syn_shares_begin(client, &b, &shares), 0);
	shares[0] = 1;
	b.timeline = 2;
	assert_int_equal(syn_shares_begin(client, &b, &shares), 0);
	shares[HEADS] = 1;
	syn_timeline_done(client, 2, 1);
	poll_until(2);
	assert_int_equal(stats().batches, 1);
	assert_int_equal(seen.share[0], 0);
	assert_int_equal(seen.share[1], UNITS);
	syn_timeline_done(client, TIMELINE, 1);
	poll_until(4);
	assert_int_equal(seen.share[0], UNITS);
	assert_int_equal(seen.share[1], UNITS);
}

/* ---- failures ----------------------------------------------------------- */

static void test_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;

	do {
		struct syn_shares_batch b = batch_of(1, 0);
		float *shares;
		int r;

		syn_fault_arm(++nth);
		r = syn_shares_open(client, NULL);
		if (!r || r == -EBUSY)
			r = syn_shares_begin(client, &b, &shares);
		hit = syn_fault_disarm();
		assert_int_equal(r, hit ? -ENOMEM : 0);
	} while (hit);
	assert_true(nth > 4);
}

static int child_calls(void)
{
	struct syn_shares_stats s = SYN_OPTS(struct syn_shares_stats);
	struct syn_shares_batch b = batch_of(1, 0);
	float *shares;

	if (syn_shares_open(client, NULL) != -ECHILD ||
	    syn_shares_begin(client, &b, &shares) != -ECHILD ||
	    syn_shares_read(client, &s) != -ECHILD)
		return 1;
	return syn_detach(client) ? 2 : 0;
}

static void test_fork(void **state)
{
	int status;
	pid_t pid;

	open_shares(0);
	batch_write(1, 1, 0.25f);
	pid = fork_child();
	assert_true(pid >= 0);
	if (!pid)
		_exit(child_calls());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	syn_timeline_done(client, TIMELINE, 1);
	poll_until(1);
	assert_int_equal(seen.share[0], HEADS * UNITS / 4);
}

/* A daemon that is gone keeps nobody. */
static void test_after_the_end(void **state)
{
	struct syn_shares_batch b = batch_of(1, 2);
	uint32_t events[4];
	float *shares;

	open_shares(0);
	batch_write(2, 1, 0.25f);
	peer_send_bye(&peer, -ESHUTDOWN, "over");
	syn_timeline_done(client, TIMELINE, 1);
	while (syn_poll(client, events, 4) != 1)
		;
	assert_int_equal(events[0], SYN_EVENT_SHUTDOWN);
	assert_int_equal(syn_shares_begin(client, &b, &shares), -ESHUTDOWN);
	assert_int_equal(syn_poll(client, events, 4), 0);
}

#define shares_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		shares_test(test_sums),
		shares_test(test_nothing_before_it_is_done),
		shares_test(test_parts_of_a_page),
		shares_test(test_what_is_no_share),
		shares_test(test_sum_without_end),
		shares_test(test_released_before_it_is_done),
		shares_test(test_released_on_the_way),
		shares_test(test_refused_for_nothing),
		shares_test(test_entry_of_another),
		shares_test(test_release_reports_first),
		shares_test(test_open),
		shares_test(test_limits),
		shares_test(test_full),
		shares_test(test_out_of_order),
		shares_test(test_fail_nth),
		shares_test(test_fork),
		shares_test(test_after_the_end),
	};

	return test_main(tests);
}
