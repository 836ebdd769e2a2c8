/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How client and daemon agree on the kind of device: a server that says it has
 * a GPU, which is only a name here, and clients that can use one or cannot.
 */
#include "core/base/base.h"
#include "ipc/client/device.h"
#include "ipc/conn.h"
#include "test/sys/harness.h"
#include "test/sys/inproc.h"

#include <synapse/client.h>

static const uint8_t uuid[16] = { 0xaa, 1, 2,  3,  4,  5,  6,  7,
				  8,	9, 10, 11, 12, 13, 14, 15 };

static struct inproc played;

static int setup(void **state)
{
	(void)state;
	if (inproc_init(&played, 16u << 20, 16u << 20))
		return -1;
	memcpy(played.config.dev_uuid, uuid, sizeof(uuid));
	return inproc_start(&played);
}

static int teardown(void **state)
{
	(void)state;
	return inproc_end(&played);
}

/* The answer to a HELLO with these features; descriptors are closed. */
static int greet(uint64_t features, int *ret_sock, void *ret, size_t max)
{
	struct syn_msg_hello hello;
	int fds[SYN_FDS_MAX];
	int n;

	raw_hello(&hello);
	hello.features = features;
	assert_int_equal(syn_conn_connect(played.socket, ret_sock), 0);
	assert_int_equal(syn_conn_send(*ret_sock, &hello.msg, NULL, 0), 0);
	n = syn_conn_recv(*ret_sock, ret, max, fds);
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		syn_closep(&fds[i]);
	return n;
}

static void test_a_client_without_cuda_is_refused(void **state)
{
	struct syn_msg_bye bye;
	int sock;

	(void)state;
	assert_int_equal(greet(SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU, &sock,
			       &bye, sizeof(bye)),
			 sizeof(bye));
	assert_int_equal(bye.msg.type, SYN_MSG_BYE);
	assert_int_equal(bye.msg.error, -EOPNOTSUPP);
	assert_non_null(strstr(bye.reason, "GPU"));
	(void)close(sock);
}

static void test_the_gpu_is_named_before_all_else(void **state)
{
	const uint64_t all = SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU |
			     SYN_FEATURE_H4 | SYN_FEATURE_CUDA;
	struct syn_msg_welcome welcome;
	struct syn_msg_device device;
	int fds[SYN_FDS_MAX];
	int sock;

	(void)state;
	assert_int_equal(greet(all, &sock, &welcome, sizeof(welcome)),
			 sizeof(welcome));
	assert_int_equal(welcome.msg.type, SYN_MSG_WELCOME);
	assert_int_equal(welcome.features, all & ~SYN_FEATURE_HOST_CPU);
	assert_int_equal(syn_conn_recv(sock, &device, sizeof(device), fds),
			 sizeof(device));
	assert_int_equal(device.msg.type, SYN_MSG_DEVICE);
	assert_int_equal(device.device, 0);
	assert_memory_equal(device.uuid, uuid, sizeof(uuid));
	(void)close(sock);
}

/* A GPU that is not there is an answer, and the session goes on. */
static void test_no_such_gpu(void **state)
{
	const struct syn_component part = { .role = SYN_ROLE_OPAQUE,
					    .dtype = SYN_DTYPE_U8,
					    .heads = 1,
					    .dim = 4096,
					    .codec = SYN_CODEC_RAW16 };
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_window_opts share = SYN_OPTS(struct syn_window_opts);
	struct syn_space_opts geometry = SYN_OPTS(struct syn_space_opts);
	struct syn_client *client = NULL;
	struct syn_window *window;
	struct syn_space space;
	uint32_t timeline;

	(void)state;
	attach.path = played.socket;
	if (!syn_device_has_cuda()) {
		assert_int_equal(syn_attach(&attach, &client, NULL),
				 -EOPNOTSUPP);
		return;
	}
	assert_int_equal(syn_attach(&attach, &client, NULL), 0);
	geometry.tokens = 1;
	geometry.nr_components = 1;
	geometry.components = &part;
	assert_int_equal(syn_space_define(client, &geometry, &space), 0);
	share.slots = 1;
	/* Nor has it done what its streams were given. */
	assert_int_equal(syn_timeline_new(client, &timeline), 0);
	assert_int_equal(syn_timeline_signal(client, timeline, NULL, 1),
			 -ENODEV);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			syn_window_open(client, &space, &share, &window),
			-ENODEV);
	assert_string_equal(syn_client_reason(client), "");
	client = syn_detach(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_client_without_cuda_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_gpu_is_named_before_all_else, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_such_gpu, setup,
						teardown),
	};

	return test_main(tests);
}
