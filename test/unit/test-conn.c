/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/conn.h: every descriptor is owned or closed, every message is whole. */
#include "ipc/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "test/test.h"

static int pair[2];
static int nr_fds;

static int setup(void **state)
{
	nr_fds = test_count_fds();
	return socketpair(AF_UNIX,
			  SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
			  pair);
}

static int teardown(void **state)
{
	pair[0] = syn_close(pair[0]);
	pair[1] = syn_close(pair[1]);
	return test_count_fds() == nr_fds ? 0 : -1;
}

static struct syn_msg_retire retire(void)
{
	return (struct syn_msg_retire){
		.msg = { .type = SYN_MSG_RETIRE,
			 .size = sizeof(struct syn_msg_retire) },
		.extent = 7,
	};
}

/* Sends bytes and descriptors as no honest peer would. */
static void send_raw(const void *bytes, size_t nr_bytes, int fd,
		     unsigned int nr)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes,
			     .iov_len = nr_bytes };
	union {
		char bytes[CMSG_SPACE(32 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[32];

	assert_true(nr <= 32);
	for (unsigned int i = 0; i < nr; i++)
		fds[i] = fd;
	if (nr) {
		hdr.msg_control = &control;
		hdr.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, nr * sizeof(int));
	}
	assert_int_equal(sendmsg(pair[0], &hdr, 0), nr_bytes);
}

/* The next message is refused with @error and leaves no descriptor. */
static void assert_refused(int error)
{
	int before = test_count_fds();
	int fds[SYN_FDS_MAX];
	char buf[256];

	assert_int_equal(syn_conn_recv(pair[1], buf, sizeof(buf), fds), error);
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		assert_int_equal(fds[i], -1);
	assert_int_equal(test_count_fds(), before);
}

static void test_message_and_fds_arrive(void **state)
{
	struct syn_msg_retire out = retire();
	struct syn_msg_retire in;
	int fds[SYN_FDS_MAX];
	int sent[2] = { pair[0], pair[1] };

	assert_int_equal(syn_conn_send(pair[0], &out.msg, sent, 2), 0);
	assert_int_equal(syn_conn_recv(pair[1], &in, sizeof(in), fds),
			 sizeof(in));
	assert_int_equal(in.msg.magic, SYN_ABI_MAGIC);
	assert_int_equal(in.msg.nr_fds, 2);
	assert_int_equal(in.extent, 7);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fds[2], -1);
	fds[0] = syn_close(fds[0]);
	fds[1] = syn_close(fds[1]);
}

static void test_nothing_and_the_end(void **state)
{
	int fds[SYN_FDS_MAX];
	char buf[64];

	assert_int_equal(syn_conn_recv(pair[1], buf, sizeof(buf), fds),
			 -EAGAIN);
	pair[0] = syn_close(pair[0]);
	assert_int_equal(syn_conn_recv(pair[1], buf, sizeof(buf), fds), 0);
}

static void test_bad_messages(void **state)
{
	struct syn_msg_retire m = retire();
	char large[300] = { 0 };

	m.msg.magic = SYN_ABI_MAGIC;
	send_raw(&m, sizeof(struct syn_msg) - 1, -1, 0); /* short */
	assert_refused(-EPROTO);
	send_raw(&m, sizeof(m) - 4, -1, 0); /* another size than it says */
	assert_refused(-EPROTO);
	m.msg.magic = 1;
	send_raw(&m, sizeof(m), -1, 0);
	assert_refused(-EPROTO);
	m.msg.magic = SYN_ABI_MAGIC;
	m.msg.size = sizeof(large);
	memcpy(large, &m, sizeof(m));
	send_raw(large, sizeof(large), -1, 0); /* does not fit */
	assert_refused(-EPROTO);
}

static void test_surplus_fds_are_closed(void **state)
{
	struct syn_msg_retire m = retire();

	m.msg.magic = SYN_ABI_MAGIC;
	send_raw(&m, sizeof(m), pair[0], 3); /* announces none */
	assert_refused(-EPROTO);
	m.msg.nr_fds = 2;
	send_raw(&m, sizeof(m), pair[0], 1); /* fewer than announced */
	assert_refused(-EPROTO);
	m.msg.nr_fds = SYN_FDS_MAX;
	send_raw(&m, sizeof(m), pair[0], SYN_FDS_MAX + 1);
	assert_refused(-EPROTO);
	m.msg.nr_fds = 20;
	send_raw(&m, sizeof(m), pair[0], 20);
	assert_refused(-EPROTO);
	send_raw("x", 1, pair[0], 4); /* short, with descriptors */
	assert_refused(-EPROTO);
}

/* Being out of descriptors is our trouble and not the peer's fault. */
static void test_no_room_for_fds(void **state)
{
	struct syn_msg_retire m = retire();
	int sent[2] = { pair[0], pair[1] };
	struct rlimit old;
	struct rlimit tight;

	assert_int_equal(syn_conn_send(pair[0], &m.msg, sent, 2), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	/* assert_refused() itself opens one to count them. */
	tight.rlim_cur = (rlim_t)(pair[1] > pair[0] ? pair[1] : pair[0]) + 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_refused(-EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_send_refuses_too_much(void **state)
{
	struct syn_msg_retire m = retire();
	int fds[SYN_FDS_MAX + 1] = { 0 };

	assert_int_equal(syn_conn_send(pair[0], &m.msg, fds, SYN_FDS_MAX + 1),
			 -EINVAL);
	m.msg.size = 3;
	assert_int_equal(syn_conn_send(pair[0], &m.msg, NULL, 0), -EINVAL);
}

static void test_send_to_the_dead_raises_no_signal(void **state)
{
	struct syn_msg_retire m = retire();

	pair[1] = syn_close(pair[1]);
	assert_int_equal(syn_conn_send(pair[0], &m.msg, NULL, 0), -EPIPE);
}

static void test_full_socket(void **state)
{
	struct syn_msg_retire m = retire();
	int r = 0;

	for (int i = 0; i < 100000 && !r; i++)
		r = syn_conn_send(pair[0], &m.msg, NULL, 0);
	assert_int_equal(r, -EAGAIN);
}

/* ---- listening ---------------------------------------------------------- */

static char path[64];

static void socket_path(void)
{
	(void)snprintf(path, sizeof(path), "/tmp/synapse-test-conn.%d",
		       getpid());
	(void)unlink(path);
}

static void test_listen_mode_and_stale(void **state)
{
	struct stat st;
	mode_t mask = umask(0077);
	int fd = -1;
	int again = -1;
	int conn = -1;

	socket_path();
	assert_int_equal(syn_conn_connect(path, &conn), -ENOENT);
	assert_int_equal(syn_conn_listen(path, 0666, &fd), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	(void)umask(mask);

	/* Somebody answers: theirs stays. */
	assert_int_equal(syn_conn_listen(path, 0600, &again), -EADDRINUSE);
	assert_int_equal(syn_conn_connect(path, &conn), 0);
	conn = syn_close(conn);
	fd = syn_close(fd);

	/* Nobody does: it is replaced. */
	assert_int_equal(syn_conn_connect(path, &conn), -ECONNREFUSED);
	assert_int_equal(syn_conn_listen(path, 0600, &again), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	again = syn_close(again);
	(void)unlink(path);
}

/* What is there and is no socket is never removed. */
static void test_listen_spares_files(void **state)
{
	int file;
	int fd = -1;

	socket_path();
	file = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	assert_int_equal(syn_conn_listen(path, 0600, &fd), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	file = syn_close(file);
	(void)unlink(path);
}

static void test_paths(void **state)
{
	char longest[200];
	int fd = -1;

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(syn_conn_listen(longest, 0600, &fd), -ENAMETOOLONG);
	assert_int_equal(syn_conn_connect(longest, &fd), -ENAMETOOLONG);
	assert_int_equal(syn_conn_connect("", &fd), -ENAMETOOLONG);
	assert_int_equal(syn_conn_listen("/nonexistent/x", 0600, &fd), -ENOENT);
}

/* ---- segments ----------------------------------------------------------- */

static void test_segment(void **state)
{
	struct stat st;
	int fd = -1;
	void *rw;
	void *ro;

	assert_int_equal(syn_conn_segment_new("test", 8192, &fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 8192);
	assert_int_not_equal(ftruncate(fd, 4096), 0);
	assert_int_not_equal(ftruncate(fd, 16384), 0);
	assert_int_equal(syn_conn_segment_map(fd, 8192, 1, &rw), 0);
	assert_int_equal(syn_conn_segment_map(fd, 8192, 0, &ro), 0);
	memcpy((char *)rw + 4096, "seen", 5);
	assert_string_equal((const char *)ro + 4096, "seen");
	assert_int_equal(((const char *)ro)[0], 0);
	assert_int_equal(munmap(rw, 8192), 0);
	assert_int_equal(munmap(ro, 8192), 0);
	fd = syn_close(fd);
}

static void test_segment_must_be_sealed_and_large_enough(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map = NULL;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(syn_conn_segment_map(fd, 4096, 0, &map), -EPROTO);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(syn_conn_segment_map(fd, 4096, 0, &map), -EPROTO);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(syn_conn_segment_map(fd, 4097, 0, &map), -EPROTO);
	assert_int_equal(syn_conn_segment_map(fd, 0, 0, &map), -EPROTO);
	assert_null(map);
	assert_int_equal(syn_conn_segment_map(fd, 4096, 0, &map), 0);
	assert_int_equal(munmap(map, 4096), 0);
	fd = syn_close(fd);
	/* Not a file of memory at all. */
	assert_int_equal(syn_conn_segment_map(pair[0], 4096, 0, &map), -EPROTO);
}

/* Once for each call that can fail; the teardown counts descriptors. */
static int all_calls(void)
{
	struct syn_msg_retire m = retire();
	int fds[SYN_FDS_MAX];
	char buf[64];
	void *map;
	int sock;
	int conn;
	int seg;
	int r;

	r = syn_conn_listen(path, 0600, &sock);
	if (r)
		return r;
	r = syn_conn_connect(path, &conn);
	sock = syn_close(sock);
	(void)unlink(path);
	if (r)
		return r;
	conn = syn_close(conn);
	r = syn_conn_segment_new("test", 4096, &seg);
	if (r)
		return r;
	r = syn_conn_segment_map(seg, 4096, 1, &map);
	if (!r)
		(void)munmap(map, 4096);
	if (!r)
		r = syn_conn_send(pair[0], &m.msg, &seg, 1);
	seg = syn_close(seg);
	if (r)
		return r;
	r = syn_conn_recv(pair[1], buf, sizeof(buf), fds);
	if (r < 0) {
		/* The failure was ours; the message is still there. */
		assert_int_equal(syn_conn_recv(pair[1], buf, sizeof(buf), fds),
				 sizeof(m));
		fds[0] = syn_close(fds[0]);
		return r;
	}
	fds[0] = syn_close(fds[0]);
	return 0;
}

static void test_fail_nth(void **state)
{
	unsigned int nth = 0;
	int before = test_count_fds();
	bool hit;
	int r;

	socket_path();
	do {
		syn_fault_arm(++nth);
		r = all_calls();
		hit = syn_fault_disarm();
		assert_int_equal(r < 0, hit);
		assert_int_equal(test_count_fds(), before);
	} while (hit);
	assert_true(nth > 6);
}

#define conn_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		conn_test(test_message_and_fds_arrive),
		conn_test(test_nothing_and_the_end),
		conn_test(test_bad_messages),
		conn_test(test_surplus_fds_are_closed),
		conn_test(test_no_room_for_fds),
		conn_test(test_send_refuses_too_much),
		conn_test(test_send_to_the_dead_raises_no_signal),
		conn_test(test_full_socket),
		conn_test(test_listen_mode_and_stale),
		conn_test(test_listen_spares_files),
		conn_test(test_paths),
		conn_test(test_segment),
		conn_test(test_segment_must_be_sealed_and_large_enough),
		conn_test(test_fail_nth),
	};

	return test_main(tests);
}
