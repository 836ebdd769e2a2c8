/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: recordings.  With an argument this makes one there, which
 * test-trace.py reads; else it tests what does not need a reader.
 */
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/fault.h"
#include "test/unit/client-peer.h"

#define NR_PAGES 4u
#define HEADS	 2u
#define GROUP	 2u
#define TIMELINE 1u
#define BATCHES	 3000u /* more than a block holds */

static struct peer peer;
static struct syn_client *client;
static struct syn_window *window;
static struct syn_space space = { .id = 5 };
static char path[64];
static int nr_fds;
static uint32_t next_page;
static bool seal_dup;

static void lease(struct peer *p, uint32_t nr, uint64_t *out)
{
	for (uint32_t i = 0; i < nr; i++) {
		syn_store_seq_cst(&p->pte[next_page],
				  SYN_PTE(1, SYN_PTE_RESIDENT, next_page));
		out[i] = SYN_HANDLE(1, next_page++);
	}
}

static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	if (sqe->op == SYN_OP_LEASE)
		lease(p, sqe->nr, out);
	if (sqe->op == SYN_OP_LOOKUP) {
		lease(p, 1, out);
		cqe->res = 1;
	}
	if (sqe->op == SYN_OP_SEAL && seal_dup) {
		cqe->res = SYN_E_DUP;
		cqe->flags = SYN_CQE_F_OUTCOME;
	}
	return true;
}

static int setup(void **state)
{
	nr_fds = test_count_fds();
	next_page = 0;
	seal_dup = false;
	(void)snprintf(path, sizeof(path), "/tmp/synapse-test-%d.trace",
		       getpid());
	peer_start(&peer, peer_script_serve);
	peer.answer = answer;
	return peer_attach(&peer, &client, NULL);
}

static int teardown(void **state)
{
	(void)syn_detach(client);
	peer_stop(&peer);
	(void)unlink(path);
	return test_count_fds() == nr_fds ? 0 : -1;
}

static void open_window(void)
{
	peer_window(client, 0x1122334455667788, PEER_SLOTS, &space, &window);
}

static int64_t file_bytes(void)
{
	struct stat st;

	return stat(path, &st) ? -1 : st.st_size;
}

/* ---- a recording to be read --------------------------------------------- */

/* Page @i gets (i + 1) / 2^@shift of each query, in KV head 1 twice that. */
static void shares(const uint64_t *pages, uint32_t nr, uint64_t first,
		   uint32_t queries, uint32_t layer, unsigned int shift)
{
	struct syn_shares_batch b = SYN_OPTS(struct syn_shares_batch);
	float *at;

	b.pages = pages;
	b.nr_parts = nr;
	b.queries = queries;
	b.kv_heads = HEADS;
	b.group = GROUP;
	b.timeline = TIMELINE;
	b.value = syn_timeline_issue(client, TIMELINE);
	b.sequence = 7;
	b.first = first;
	b.layer = layer;
	assert_int_equal(syn_shares_begin(client, &b, &at), 0);
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t h = 0; h < HEADS * GROUP; h++)
			*at++ = (float)((i + 1) * queries << h / GROUP) /
				(float)(1u << shift);
	syn_timeline_done(client, TIMELINE, b.value);
}

static void poll_once(void)
{
	uint32_t events[4];

	assert_int_equal(syn_poll(client, events, 4), 0);
}

static void play_pages(uint64_t *pages)
{
	static const uint64_t keys[3][2] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
	const uint32_t tokens[2] = { 128, 128 };
	uint64_t found[3];

	assert_int_equal(syn_lease(window, NR_PAGES, 0, pages), 0);
	assert_int_equal(syn_commit(client, pages, tokens, 2), 0);
	assert_int_equal(syn_seal(client, pages[0], keys[0], 0, 0), 0);
	seal_dup = true;
	assert_int_equal(syn_seal(client, pages[1], keys[1], 0, 0), SYN_E_DUP);
	assert_int_equal(syn_lookup(window, keys, 3, found, NULL), 1);
	assert_int_equal(syn_release(client, found, 1), 0);
}

static void play_shares(const uint64_t *pages)
{
	const uint64_t parts[3] = { pages[0], pages[0], pages[2] };
	const struct syn_vec_share told = { .handle = pages[3],
					    .share = 0x18000,
					    .queries = 2 };

	assert_int_equal(syn_shares_open(client, NULL), 0);
	shares(pages, 2, 0, 128, 0, 4);
	shares(pages, 2, 0, 128, 1, 4);
	shares(pages, 3, 256, 1, 0, 5);
	/* Others than before. */
	shares(pages + 1, 2, 257, 1, 0, 6);
	/* Two parts of a page are one page. */
	shares(parts, 3, 258, 1, 1, 3);
	/* More digits than a code has. */
	shares(pages, 1, 259, 1027, 2, 20);
	poll_once();
	assert_int_equal(syn_report(client, &told, 1), 0);
	for (unsigned int i = 0; i < BATCHES; i++)
		shares(pages, NR_PAGES, 300 + i, 1, 3, 8);
	poll_once();
	assert_int_equal(syn_release(client, pages, NR_PAGES), 0);
}

static void record(void)
{
	uint64_t pages[NR_PAGES];

	assert_int_equal(syn_trace_begin(client, path), 0);
	open_window();
	play_pages(pages);
	play_shares(pages);
}

static void test_record(void **state)
{
	struct syn_shares_stats s = SYN_OPTS(struct syn_shares_stats);

	record();
	assert_int_equal(syn_shares_read(client, &s), 0);
	assert_int_equal(s.batches, 6 + BATCHES);
	/* Whole blocks are there already; the rest when it ends. */
	assert_true(file_bytes() > 65536);
	assert_int_equal(syn_trace_end(client), 0);
	assert_true(file_bytes() % 65552 != 40);
}

/* ---- what needs no reader ----------------------------------------------- */

static void test_once_a_session(void **state)
{
	uint64_t page;
	int64_t bytes;

	assert_int_equal(syn_trace_end(client), -EINVAL);
	assert_int_equal(syn_trace_begin(client, "/nonexistent/file"), -ENOENT);
	assert_int_equal(syn_trace_begin(client, path), 0);
	assert_int_equal(syn_trace_begin(client, path), -EBUSY);
	open_window();
	assert_int_equal(syn_trace_end(client), 0);
	bytes = file_bytes();
	assert_true(bytes > 0);
	assert_int_equal(syn_trace_begin(client, path), -EBUSY);
	/* What comes later is not recorded, and is no error. */
	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(syn_trace_end(client), 0);
	assert_int_equal(file_bytes(), bytes);
}

/* Nobody loses more than a second of records. */
static void test_kept_for_a_second(void **state)
{
	assert_int_equal(syn_trace_begin(client, path), 0);
	open_window();
	assert_int_equal(file_bytes(), 40);
	(void)usleep(1100000);
	poll_once();
	assert_true(file_bytes() > 40);
}

static void test_detach_ends_it(void **state)
{
	assert_int_equal(syn_trace_begin(client, path), 0);
	open_window();
	client = syn_detach(client);
	assert_true(file_bytes() > 40);
}

/* A full disk is told at the end, and nothing else knows of it. */
static void test_full_disk(void **state)
{
	uint64_t page;

	if (syn_trace_begin(client, "/dev/full") == -ENOSPC)
		assert_int_equal(syn_trace_end(client), -EINVAL);
	(void)snprintf(path, sizeof(path), "/tmp/synapse-test-%d.fifo",
		       getpid());
	assert_int_equal(syn_trace_begin(client, path), 0);
	open_window();
	syn_fault_arm(1);
	assert_int_equal(syn_trace_end(client), -EIO);
	assert_true(syn_fault_disarm());
	assert_int_equal(syn_trace_end(client), -EIO);
	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(file_bytes(), 40);
}

static void test_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;

	do {
		int fds = test_count_fds();
		int r;

		syn_fault_arm(++nth);
		r = syn_trace_begin(client, path);
		hit = syn_fault_disarm();
		assert_true(hit ? r == -ENOMEM || r == -EIO : !r);
		assert_int_equal(test_count_fds(), fds + !hit);
	} while (hit);
	assert_int_equal(nth, 4);
}

/* The file is the parent's alone. */
static void test_fork(void **state)
{
	int status;
	pid_t pid;

	assert_int_equal(syn_trace_begin(client, path), 0);
	open_window();
	pid = fork_child();
	assert_true(pid >= 0);
	if (!pid)
		_exit(syn_trace_begin(client, path) != -ECHILD ||
		      syn_trace_end(client) != -ECHILD || syn_detach(client));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(file_bytes(), 40);
	assert_int_equal(syn_trace_end(client), 0);
	assert_true(file_bytes() > 40);
}

static int record_for_reader(const char *to)
{
	test_watchdog();
	if (setup(NULL))
		return 1;
	(void)snprintf(path, sizeof(path), "%s", to);
	record();
	(void)syn_detach(client);
	peer_stop(&peer);
	return 0;
}

#define trace_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		trace_test(test_record),
		trace_test(test_once_a_session),
		trace_test(test_kept_for_a_second),
		trace_test(test_detach_ends_it),
		trace_test(test_full_disk),
		trace_test(test_fail_nth),
		trace_test(test_fork),
	};

	return argc > 1 ? record_for_reader(argv[1]) : test_main(tests);
}
