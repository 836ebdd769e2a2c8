/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake: what is welcome, and what is refused with which reason. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/harness.h"

static void test_good(void **state)
{
	const struct syn_sqe nop = { .op = SYN_OP_NOP, .cookie = 7 };
	struct raw_client c;
	struct syn_cqe cqe;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	assert_int_equal(c.welcome.version, SYN_ABI_VERSION_MAX);
	assert_int_equal(c.welcome.epoch, 1);
	assert_int_equal(c.welcome.nr_pages, 4096);
	assert_int_not_equal(c.welcome.session, 0);
	assert_int_equal(c.welcome.features,
			 SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU);
	cqe = raw_ask(&c, &nop, NULL, 0, NULL, 0);
	assert_int_equal(cqe.res, 0);
	assert_int_equal(cqe.flags, 0);
	raw_close(&c);
}

/* The client's descriptor of the daemon's segment is for reading. */
static void test_daemon_segment_readonly(void **state)
{
	struct syn_msg_welcome welcome;
	struct syn_msg_hello hello;
	int fds[SYN_FDS_MAX];
	int sock;

	(void)state;
	assert_int_equal(syn_conn_connect(daemon_of_test.socket, &sock), 0);
	raw_hello(&hello);
	assert_int_equal(syn_conn_send(sock, &hello.msg, NULL, 0), 0);
	assert_int_equal(syn_conn_recv(sock, &welcome, sizeof(welcome), fds),
			 sizeof(welcome));
	assert_ptr_equal(mmap(NULL, welcome.daemon_bytes,
			      PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0),
			 MAP_FAILED);
	assert_int_equal(errno, EACCES);
	assert_true(ftruncate(fds[0], 0) < 0);
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
	(void)close(sock);
}

/* ---- what is refused ---------------------------------------------------- */

/* Sends bytes as they are; expects BYE with @error and a reason, then EOF. */
static void expect_refusal(const void *bytes, size_t size, int error)
{
	struct syn_msg_bye bye = { 0 };
	int fds[SYN_FDS_MAX];
	int sock;

	assert_int_equal(syn_conn_connect(daemon_of_test.socket, &sock), 0);
	assert_int_equal(send(sock, bytes, size, MSG_NOSIGNAL), size);
	assert_int_equal(syn_conn_recv(sock, &bye, sizeof(bye), fds),
			 sizeof(bye));
	assert_int_equal(bye.msg.type, SYN_MSG_BYE);
	if (bye.msg.error != error)
		print_message("reason: %s\n", bye.reason);
	assert_int_equal(bye.msg.error, error);
	assert_true(strlen(bye.reason) > 0);
	assert_int_equal(syn_conn_recv(sock, &bye, sizeof(bye), fds), 0);
	(void)close(sock);
}

static void test_sizes(void **state)
{
	struct {
		struct syn_msg_hello hello;
		char more[4096];
	} large = { 0 };

	(void)state;
	raw_hello(&large.hello);
	for (size_t n = 1; n < sizeof(large.hello); n++)
		expect_refusal(&large, n, -EPROTO);
	expect_refusal(&large, sizeof(large.hello) + 1, -EPROTO);
	expect_refusal(&large, sizeof(large), -EPROTO);
	/* Sizes that agree with the packet, but not with HELLO. */
	large.hello.msg.size = sizeof(large.hello) + 8;
	expect_refusal(&large, sizeof(large.hello) + 8, -EPROTO);
	large.hello.msg.size = sizeof(large);
	expect_refusal(&large, sizeof(large), -EPROTO);
	large.hello.msg.size = sizeof(large.hello) - 8;
	expect_refusal(&large, sizeof(large.hello) - 8, -EPROTO);
	large.hello.msg.size = sizeof(struct syn_msg);
	expect_refusal(&large, sizeof(struct syn_msg), -EPROTO);
}

#define REFUSE(error, ...)                                                     \
	do {                                                                   \
		struct syn_msg_hello hello;                                    \
		raw_hello(&hello);                                             \
		__VA_ARGS__;                                                   \
		expect_refusal(&hello, sizeof(hello), error);                  \
	} while (0)

static void test_fields(void **state)
{
	(void)state;
	REFUSE(-EPROTO, hello.msg.magic ^= 1);
	REFUSE(-EPROTO, hello.msg.magic = 0);
	REFUSE(-EPROTO, hello.msg.nr_fds = 1);
	REFUSE(-EPROTO, hello.msg.error = -1);
	REFUSE(-EPROTO, hello.msg.type = SYN_MSG_SPACE);
	REFUSE(-EPROTO, hello.msg.type = 0);
	REFUSE(-EPROTO, hello.msg.type = 999);
	REFUSE(-EPROTO, hello.pad0 = 1);
	REFUSE(-EPROTO, memset(hello.name, 'a', sizeof(hello.name)));
	REFUSE(-EPROTO, hello.version_min = 2, hello.version_max = 1);
	REFUSE(-EPROTONOSUPPORT, hello.version_max = 0, hello.version_min = 0);
	REFUSE(-EPROTONOSUPPORT, hello.version_min = 2, hello.version_max = 9);
	REFUSE(-EPROTO, hello.sqe_size++);
	REFUSE(-EPROTO, hello.cqe_size = 16);
	REFUSE(-EPROTO, hello.loan_size = 0);
	REFUSE(-EINVAL, hello.kind = 0);
	REFUSE(-EINVAL, hello.kind = 3);
	REFUSE(-EOPNOTSUPP, hello.features = 0);
	REFUSE(-EOPNOTSUPP, hello.features = SYN_FEATURE_HOST_CPU);
	REFUSE(-EOPNOTSUPP, hello.features = SYN_FEATURE_RAW16);
	REFUSE(-EOPNOTSUPP,
	       hello.features = SYN_FEATURE_RAW16 | SYN_FEATURE_CUDA);
	REFUSE(-EINVAL, hello.nr_pages = 0);
	REFUSE(-EINVAL, hello.nr_pages = SYN_PAGES_MAX + 1);
	REFUSE(-EINVAL, hello.nr_timelines = 0);
	REFUSE(-EINVAL, hello.nr_timelines = SYN_TIMELINES_MAX + 1);
	REFUSE(-EINVAL, hello.job_ranks = 0);
	REFUSE(-EINVAL, hello.job_rank = 1);
}

static void test_wider_range_is_welcome(void **state)
{
	struct syn_msg_welcome welcome;
	struct syn_msg_hello hello;
	int fds[SYN_FDS_MAX];
	int sock;

	(void)state;
	raw_hello(&hello);
	hello.version_max = 900;
	hello.features |= 1ull << 63;
	assert_int_equal(syn_conn_connect(daemon_of_test.socket, &sock), 0);
	assert_int_equal(syn_conn_send(sock, &hello.msg, NULL, 0), 0);
	assert_int_equal(syn_conn_recv(sock, &welcome, sizeof(welcome), fds),
			 sizeof(welcome));
	assert_int_equal(welcome.msg.type, SYN_MSG_WELCOME);
	assert_int_equal(welcome.version, SYN_ABI_VERSION_MAX);
	assert_int_equal(welcome.features,
			 SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU);
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
	(void)close(sock);
}

/* Its loans would be ones that the client cannot decode. */
static void test_codec_that_was_not_agreed_on(void **state)
{
	struct syn_msg_space space = {
		.msg = { .type = SYN_MSG_SPACE, .size = sizeof(space) },
		.tokens = TEST_TOKENS,
		.layers_per_page = 1,
		.nr_components = 1,
		.component = { { SYN_ROLE_K, SYN_DTYPE_F16, 1, 64, SYN_CODEC_H4,
				 0 } },
	};
	struct syn_msg_space_reply reply;
	struct raw_client c;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	assert_int_equal(syn_conn_send(c.sock, &space.msg, NULL, 0), 0);
	assert_true(raw_read(&c, SYN_MSG_SPACE_REPLY, &reply, sizeof(reply)));
	assert_int_equal(reply.msg.error, -EOPNOTSUPP);
	raw_close(&c);
}

static void test_descriptors_attached(void **state)
{
	struct syn_msg_hello hello;
	struct syn_msg_bye bye;
	int fds[SYN_FDS_MAX];
	const int extra[] = { 0, 1 };
	int sock;

	(void)state;
	raw_hello(&hello);
	assert_int_equal(syn_conn_connect(daemon_of_test.socket, &sock), 0);
	assert_int_equal(syn_conn_send(sock, &hello.msg, extra, 2), 0);
	assert_int_equal(syn_conn_recv(sock, &bye, sizeof(bye), fds),
			 sizeof(bye));
	assert_int_equal(bye.msg.type, SYN_MSG_BYE);
	assert_int_equal(bye.msg.error, -EPROTO);
	(void)close(sock);
}

static void test_second_hello(void **state)
{
	struct syn_msg_hello hello;
	struct raw_client c;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	raw_hello(&hello);
	assert_int_equal(syn_conn_send(c.sock, &hello.msg, NULL, 0), 0);
	assert_int_equal(raw_wait_bye(&c), -EPROTO);
	raw_close(&c);
}

/* What a session may not say ends it with a reason. */
static void test_messages_of_a_session(void **state)
{
	static const uint16_t types[] = { 0,
					  SYN_MSG_WELCOME,
					  SYN_MSG_SPACE_REPLY,
					  SYN_MSG_EXTENT,
					  SYN_MSG_CTL,
					  SYN_MSG_SPACE,
					  SYN_MSG_WINDOW,
					  SYN_MSG_CODED,
					  SYN_MSG_CODED_REPLY,
					  SYN_MSG_BYE,
					  77 };

	(void)state;
	for (size_t i = 0; i < syn_array_size(types); i++) {
		struct syn_msg msg = { .type = types[i], .size = sizeof(msg) };
		struct raw_client c;

		assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
		assert_int_equal(syn_conn_send(c.sock, &msg, NULL, 0), 0);
		assert_int_equal(raw_wait_bye(&c), -EPROTO);
		raw_close(&c);
	}
}

static void test_bad_space_and_window(void **state)
{
	struct syn_msg_space space = { .msg = { .type = SYN_MSG_SPACE,
						.size = sizeof(space) } };
	struct syn_msg_window window = { .msg = { .type = SYN_MSG_WINDOW,
						  .size = sizeof(window) },
					 .slots = 1 };
	struct raw_client c;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	assert_int_equal(syn_conn_send(c.sock, &space.msg, NULL, 0), 0);
	assert_true(
		raw_read(&c, SYN_MSG_SPACE_REPLY, &c.space, sizeof(c.space)));
	assert_int_equal(c.space.msg.error, -EINVAL);
	window.space = 12345;
	assert_int_equal(syn_conn_send(c.sock, &window.msg, NULL, 0), 0);
	assert_true(raw_read(&c, SYN_MSG_WINDOW_REPLY, &c.window,
			     sizeof(c.window)));
	assert_int_equal(c.window.msg.error, -ENOENT);
	window.flags = 1;
	assert_int_equal(syn_conn_send(c.sock, &window.msg, NULL, 0), 0);
	assert_true(raw_read(&c, SYN_MSG_WINDOW_REPLY, &c.window,
			     sizeof(c.window)));
	assert_int_equal(c.window.msg.error, -EINVAL);
	window.flags = 0;
	window.device = 1;
	assert_int_equal(syn_conn_send(c.sock, &window.msg, NULL, 0), 0);
	assert_true(raw_read(&c, SYN_MSG_WINDOW_REPLY, &c.window,
			     sizeof(c.window)));
	assert_int_equal(c.window.msg.error, -ENODEV);
	/* None of it has ended the session. */
	assert_int_equal(raw_window(&c, 8), 0);
	assert_true(c.nr_extents > 0);
	raw_close(&c);
}

static int space_with_flags(struct raw_client *c, uint16_t flags)
{
	struct syn_msg_space space = { .msg = { .type = SYN_MSG_SPACE,
						.size = sizeof(space) },
				       .tokens = 128,
				       .layers_per_page = 1,
				       .nr_components = 1,
				       .flags = flags };

	space.component[0] = (struct syn_component){ .role = SYN_ROLE_K,
						     .dtype = SYN_DTYPE_F16,
						     .heads = 1,
						     .dim = 64 };
	space.component[0].codec = SYN_CODEC_H4;
	assert_int_equal(syn_conn_send(c->sock, &space.msg, NULL, 0), 0);
	assert_true(
		raw_read(c, SYN_MSG_SPACE_REPLY, &c->space, sizeof(c->space)));
	return c->space.msg.error;
}

static int window_coded(struct raw_client *c, const struct syn_msg_coded *want)
{
	struct syn_msg_coded coded = *want;
	struct syn_msg_coded_reply reply;

	coded.msg = (struct syn_msg){ .type = SYN_MSG_CODED,
				      .size = sizeof(coded) };
	assert_int_equal(syn_conn_send(c->sock, &coded.msg, NULL, 0), 0);
	assert_true(raw_read(c, SYN_MSG_CODED_REPLY, &reply, sizeof(reply)));
	return reply.msg.error;
}

/* Only in a session that knows of it, and of a space that is so. */
static void test_coded_space_and_window(void **state)
{
	struct syn_msg_coded want = { .slots = 1, .coded_slots = 1 };
	struct syn_msg_hello hello;
	struct raw_client c;

	(void)state;
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	assert_int_equal(space_with_flags(&c, SYN_SPACE_F_CODED), -EOPNOTSUPP);
	raw_close(&c);
	raw_hello(&hello);
	hello.features |= SYN_FEATURE_H4;
	assert_int_equal(raw_attach_hello(&c, daemon_of_test.socket, &hello),
			 0);
	assert_int_equal(space_with_flags(&c, SYN_SPACE_F_CODED), -EOPNOTSUPP);
	raw_close(&c);
	hello.features |= SYN_FEATURE_CODED;
	assert_int_equal(raw_attach_hello(&c, daemon_of_test.socket, &hello),
			 0);
	assert_int_equal(space_with_flags(&c, 2), -EINVAL);
	assert_int_equal(space_with_flags(&c, 0), 0);
	want.space = c.space.space;
	assert_int_equal(window_coded(&c, &want), -EINVAL);
	assert_int_equal(space_with_flags(&c, SYN_SPACE_F_CODED), 0);
	want.space = c.space.space;
	want.device = 1;
	assert_int_equal(window_coded(&c, &want), -ENODEV);
	want.device = 0;
	want.coded_slots = UINT32_MAX;
	assert_int_equal(window_coded(&c, &want), -EDQUOT);
	want.coded_slots = 1;
	assert_int_equal(window_coded(&c, &want), 0);
	assert_int_equal(c.nr_extents, 2);
	raw_close(&c);
}

static void test_too_many(void **state)
{
	struct raw_client c[17];
	struct syn_ctl_status status;

	(void)state;
	daemon_wait_quiet(&daemon_of_test);
	for (int i = 0; i < 16; i++)
		assert_int_equal(raw_attach(&c[i], daemon_of_test.socket), 0);
	ctl_status(daemon_of_test.socket, &status);
	assert_int_equal(status.nr_sessions, 16);
	assert_int_equal(raw_attach(&c[16], daemon_of_test.socket), -EUSERS);
	for (int i = 0; i < 16; i++)
		raw_close(&c[i]);
	daemon_wait_quiet(&daemon_of_test);
	assert_int_equal(raw_attach(&c[16], daemon_of_test.socket), 0);
	raw_close(&c[16]);
}

/* Those who say nothing neither hold others up nor stay. */
static void test_silent(void **state)
{
	struct raw_client c;
	int socks[80];
	char byte;

	(void)state;
	for (size_t i = 0; i < syn_array_size(socks); i++)
		assert_int_equal(
			syn_conn_connect(daemon_of_test.socket, &socks[i]), 0);
	sleep_ms(200);
	assert_int_equal(raw_attach(&c, daemon_of_test.socket), 0);
	raw_close(&c);
	for (size_t i = 0; i < syn_array_size(socks); i++) {
		struct pollfd fd = { .fd = socks[i], .events = POLLIN };

		/* A BYE comes, at the latest when the handshake's time is up. */
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_true(recv(socks[i], &byte, 1, 0) == 1);
		(void)close(socks[i]);
	}
}

int main(void)
{
	static const char *const args[] = {
		"--hbm", "16M", "--host", "32M", "--max-sessions", "16", NULL
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_daemon_segment_readonly),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_wider_range_is_welcome),
		cmocka_unit_test(test_codec_that_was_not_agreed_on),
		cmocka_unit_test(test_descriptors_attached),
		cmocka_unit_test(test_second_hello),
		cmocka_unit_test(test_messages_of_a_session),
		cmocka_unit_test(test_bad_space_and_window),
		cmocka_unit_test(test_coded_space_and_window),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_silent),
	};

	test_watchdog();
	return daemon_run_tests(tests, args);
}
