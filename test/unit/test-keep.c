/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's table, and the worker's half of what the two say. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/conn.h"
#include "test/test.h"
#include "tools/synapsed/keep-process.h"

#define MANY 200u /* more than the table has room for at first */

/* @nr descriptors; one is like the other. */
static void fds_make(int *fds, unsigned int nr)
{
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		fds[i] = i < nr ? eventfd(0, EFD_CLOEXEC) : -1;
}

static void hold_fill(struct syn_hold *hold, uint32_t nr)
{
	int fds[SYN_FDS_MAX];

	for (uint32_t i = 0; i < nr; i++) {
		fds_make(fds, 1 + i % SYN_FDS_MAX);
		assert_int_equal(
			syn_hold_add(hold, SYN_KEEP_EXTENT + i % 2, i, fds), 0);
	}
}

static void test_hold(void **state)
{
	struct syn_hold hold = { 0 };
	int fds[SYN_FDS_MAX];
	int before = test_count_fds();

	(void)state;
	hold_fill(&hold, MANY);
	assert_int_equal(hold.nr, MANY);
	/* Kind and id together are the name. */
	assert_int_equal(syn_hold_take(&hold, SYN_KEEP_EXTENT, 7, fds),
			 -ENOENT);
	assert_int_equal(syn_hold_take(&hold, SYN_KEEP_DEVICE, 7, fds), 0);
	assert_true(fds[7] >= 0);
	syn_hold_close(fds);
	assert_int_equal(syn_hold_take(&hold, SYN_KEEP_DEVICE, 7, fds),
			 -ENOENT);
	assert_int_equal(syn_hold_take(&hold, SYN_KEEP_EXTENT, 8, fds), 0);
	assert_true(fds[0] >= 0);
	assert_int_equal(fds[1], -1);
	syn_hold_close(fds);
	syn_hold_drop(&hold, SYN_KEEP_EXTENT, 8);
	syn_hold_drop(&hold, SYN_KEEP_EXTENT, 10);
	assert_int_equal(hold.nr, MANY - 3);
	syn_hold_end(&hold, "");
	assert_int_equal(hold.nr, 0);
	assert_int_equal(test_count_fds(), before);
}

/* One thing for another, and nothing where nothing was. */
static void test_hold_replace(void **state)
{
	struct syn_hold hold = { 0 };
	int fds[SYN_FDS_MAX];
	int got[SYN_FDS_MAX];
	int before = test_count_fds();

	(void)state;
	hold_fill(&hold, 10);
	fds_make(fds, 2);
	assert_int_equal(syn_hold_replace(&hold, SYN_KEEP_EXTENT, 7, fds),
			 -ENOENT);
	assert_int_equal(syn_hold_replace(&hold, SYN_KEEP_EXTENT, 8, fds), 0);
	assert_int_equal(hold.nr, 10);
	assert_int_equal(syn_hold_take(&hold, SYN_KEEP_EXTENT, 8, got), 0);
	assert_memory_equal(got, fds, sizeof(fds));
	syn_hold_close(got);
	syn_hold_end(&hold, "");
	assert_int_equal(test_count_fds(), before);
}

/* What finds no room stays the caller's. */
static void test_hold_without_memory(void **state)
{
	struct syn_hold hold = { 0 };
	int fds[SYN_FDS_MAX];

	(void)state;
	fds_make(fds, 2);
	syn_fault_arm(1);
	assert_int_equal(syn_hold_add(&hold, SYN_KEEP_EXTENT, 1, fds), -ENOMEM);
	assert_true(syn_fault_disarm());
	assert_int_equal(hold.nr, 0);
	assert_true(fds[1] >= 0);
	syn_hold_close(fds);
}

static void test_end_tells_sessions(void **state)
{
	struct syn_hold hold = { 0 };
	struct syn_msg_bye bye;
	int fds[SYN_FDS_MAX];
	int got[SYN_FDS_MAX];
	int pair[2];

	(void)state;
	fds_make(fds, SYN_SERVER_FDS);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	syn_closep(&fds[SYN_SERVER_FD_SOCKET]);
	fds[SYN_SERVER_FD_SOCKET] = dup(pair[0]);
	assert_int_equal(syn_hold_add(&hold, SYN_SERVER_KEEP_SESSION, 1, fds),
			 0);
	syn_hold_end(&hold, "over");
	assert_int_equal(syn_conn_recv(pair[1], &bye, sizeof(bye), got),
			 sizeof(bye));
	assert_int_equal(bye.msg.type, SYN_MSG_BYE);
	assert_int_equal(bye.msg.error, -ESHUTDOWN);
	assert_string_equal(bye.reason, "over");
	/* The other duplicate does not keep the connection. */
	assert_int_equal(syn_conn_recv(pair[1], &bye, sizeof(bye), got), 0);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* ---- the conversation --------------------------------------------------- */

/**
 * struct keeper - played by a thread.
 * @sock:	its end.
 * @has:	things to be taken; another one answers -EMFILE.
 * @seen:	messages that came, by type from SYN_KEEP_START on.
 */
struct keeper {
	int sock;
	uint32_t has;
	unsigned int seen[16];
};

static void keeper_answer(const struct keeper *k, const struct syn_keep_msg *m)
{
	struct syn_keep_msg answer = {
		.msg = { .type = m->msg.type == SYN_KEEP_TAKE ? SYN_KEEP_HELD
							      : SYN_KEEP_ACK,
			 .size = sizeof(answer) },
		.kind = SYN_KEEP_EXTENT,
		.id = 100 + m->id,
	};
	int fds[SYN_FDS_MAX];
	unsigned int nr = 1 + m->id % SYN_FDS_MAX;

	fds_make(fds, nr);
	if (m->msg.type != SYN_KEEP_TAKE)
		nr = 0;
	if (m->msg.type == SYN_KEEP_TAKE && m->id >= k->has) {
		answer.msg.error = -EMFILE;
		nr = 0;
	}
	assert_int_equal(syn_conn_send(k->sock, &answer.msg, fds, nr), 0);
	syn_hold_close(fds);
}

static void *keeper_main(void *arg)
{
	struct keeper *k = arg;
	union {
		struct syn_keep_msg msg;
		struct syn_keep_refused refused;
	} m;
	int fds[SYN_FDS_MAX];

	while (syn_conn_recv(k->sock, &m, sizeof(m), fds) > 0) {
		syn_hold_close(fds);
		k->seen[m.msg.msg.type - SYN_KEEP_START]++;
		if (m.msg.msg.type == SYN_KEEP_TAKE ||
		    m.msg.msg.type == SYN_KEEP_PUT ||
		    m.msg.msg.type == SYN_KEEP_REPLACE ||
		    m.msg.msg.type == SYN_KEEP_UPGRADE)
			keeper_answer(k, &m.msg);
	}
	return NULL;
}

static void start_send(int sock, uint32_t nr_held)
{
	struct syn_keep_start start = {
		.msg = { .type = SYN_KEEP_START, .size = sizeof(start) },
		.epoch = 7,
		.nr_held = nr_held,
	};

	assert_int_equal(syn_conn_send(sock, &start.msg, NULL, 0), 0);
}

static void test_conversation(void **state)
{
	struct keeper k = { .has = MANY };
	struct syn_keep_process process;
	struct syn_keep *keep = &process.keep;
	int fds[SYN_FDS_MAX];
	int before = test_count_fds();
	pthread_t thread;
	int pair[2];

	(void)state;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	k.sock = pair[0];
	assert_int_equal(pthread_create(&thread, NULL, keeper_main, &k), 0);
	syn_keep_process_init(&process, pair[1]);
	start_send(k.sock, MANY);
	assert_int_equal(keep->ops->begin(keep), 0);
	assert_int_equal(keep->epoch, 7);
	assert_true(keep->heir);
	assert_int_equal(keep->hold.nr, MANY);
	assert_int_equal(syn_hold_take(&keep->hold, SYN_KEEP_EXTENT,
				       100 + MANY / 2, fds),
			 0);
	assert_true(fds[MANY / 2 % SYN_FDS_MAX] >= 0);
	syn_hold_close(fds);
	syn_hold_end(&keep->hold, "");
	/* One that cannot be had is the end of it. */
	start_send(k.sock, MANY + 1);
	assert_int_equal(keep->ops->begin(keep), -EMFILE);
	assert_int_equal(keep->hold.nr, MANY);
	syn_hold_end(&keep->hold, "");
	fds_make(fds, SYN_SERVER_FDS);
	assert_int_equal(keep->ops->put(keep, SYN_SERVER_KEEP_SESSION, 1, fds,
					SYN_SERVER_FDS),
			 0);
	assert_int_equal(keep->ops->replace(keep, SYN_KEEP_MEMORY, 0, fds, 1),
			 0);
	syn_hold_close(fds);
	keep->ops->drop(keep, SYN_SERVER_KEEP_SESSION, 1);
	assert_int_equal(keep->ops->upgrade(keep), 0);
	keep->ops->refuse(keep, -EINVAL, "no");
	assert_int_equal(keep->ops->ready(keep), 0);
	(void)shutdown(pair[1], SHUT_RDWR);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(k.seen[SYN_KEEP_TAKE - SYN_KEEP_START], 2 * MANY + 1);
	assert_int_equal(k.seen[SYN_KEEP_PUT - SYN_KEEP_START], 1);
	assert_int_equal(k.seen[SYN_KEEP_REPLACE - SYN_KEEP_START], 1);
	assert_int_equal(k.seen[SYN_KEEP_DROP - SYN_KEEP_START], 1);
	assert_int_equal(k.seen[SYN_KEEP_UPGRADE - SYN_KEEP_START], 1);
	assert_int_equal(k.seen[SYN_KEEP_REFUSED - SYN_KEEP_START], 1);
	assert_int_equal(k.seen[SYN_KEEP_READY - SYN_KEEP_START], 1);
	/* Nobody is there any more. */
	assert_true(keep->ops->put(keep, SYN_KEEP_EXTENT, 1, NULL, 0) < 0);
	(void)close(pair[0]);
	(void)close(pair[1]);
	assert_int_equal(test_count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_hold_replace),
		cmocka_unit_test(test_hold_without_memory),
		cmocka_unit_test(test_end_tells_sessions),
		cmocka_unit_test(test_conversation),
	};

	return test_main(tests);
}
