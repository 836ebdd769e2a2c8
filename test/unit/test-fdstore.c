/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of descriptors, in a store that a thread plays. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "test/test.h"
#include "tools/synapsed/fdstore.h"

#define KIND	   16u
#define NR	   3u /* descriptors of a set */
#define NAMES_MAX  64u
#define TEXT_BYTES 1024u
#define FIRST_FD   3 /* SD_LISTEN_FDS_START */

/**
 * struct manager - systemd, as far as names go.
 * @sock:	NOTIFY_SOCKET
 * @addr:	its address.
 * @len:	of that.
 * @room:	names it takes.
 * @polled:	one came without FDPOLL=0.
 * @nr:		names in the store ...
 * @name:	... and what they are ...
 * @fd:		... for.
 */
struct manager {
	int sock;
	struct sockaddr_un addr;
	socklen_t len;
	size_t room;
	bool polled;
	size_t nr;
	char name[NAMES_MAX][80];
	int fd[NAMES_MAX];
};

/* Of a test that fails a thread goes on, with what is its own. */
static struct manager *manager_new(size_t room)
{
	struct manager *m = calloc(1, sizeof(*m));
	char path[sizeof(m->addr.sun_path) + 1];

	assert_non_null(m);
	*m = (struct manager){ .room = room, .len = sizeof(m->addr) };
	m->addr.sun_family = AF_UNIX;
	m->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		bind(m->sock, (const void *)&m->addr, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(m->sock, (void *)&m->addr, &m->len), 0);
	(void)snprintf(path, sizeof(path), "@%s", m->addr.sun_path + 1);
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	return m;
}

static void manager_forget(struct manager *m, const char *name)
{
	for (size_t i = m->nr; i-- > 0;) {
		if (strcmp(m->name[i], name) != 0)
			continue;
		(void)close(m->fd[i]);
		m->fd[i] = m->fd[--m->nr];
		memmove(m->name[i], m->name[m->nr], sizeof(m->name[i]));
	}
}

static void manager_obey(struct manager *m, const char *text, int fd)
{
	const char *name = strstr(text, "FDNAME=");

	if (strstr(text, "FDSTOREREMOVE=1\n"))
		manager_forget(m, name + strlen("FDNAME="));
	if (!strstr(text, "FDSTORE=1\n") || m->nr == m->room)
		return;
	m->polled |= !strstr(text, "FDPOLL=0\n");
	m->fd[m->nr] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	(void)snprintf(m->name[m->nr++], sizeof(m->name[0]), "%s",
		       name + strlen("FDNAME="));
}

/* False when the test has said that this is the end. */
static bool manager_turn(struct manager *m)
{
	char text[256];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr hdr = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(m->sock, &hdr, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
	int fd = -1;

	text[syn_max(n, 0)] = '\0';
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	manager_obey(m, text, fd);
	syn_close(fd);
	return n > 0 && strcmp(text, "END") != 0;
}

static void *manager_main(void *arg)
{
	while (manager_turn(arg))
		;
	return NULL;
}

/* All that was said has been obeyed when this returns. */
static void manager_join(struct manager *m, pthread_t thread)
{
	assert_int_equal(
		sendto(m->sock, "END", 3, 0, (const void *)&m->addr, m->len),
		3);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void manager_close(struct manager *m)
{
	while (m->nr)
		(void)close(m->fd[--m->nr]);
	(void)close(m->sock);
	free(m);
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
}

static bool manager_has(const struct manager *m, const char *name)
{
	for (size_t i = 0; i < m->nr; i++)
		if (strcmp(m->name[i], name) == 0)
			return true;
	return false;
}

/* ---- put and drop ------------------------------------------------------- */

static int put(struct syn_fdstore *store, uint32_t id)
{
	int fds[NR];
	int r;

	for (uint32_t i = 0; i < NR; i++)
		fds[i] = eventfd(i + 1, EFD_CLOEXEC | EFD_NONBLOCK);
	r = syn_fdstore_put(store, KIND, id, fds, NR);
	for (uint32_t i = 0; i < NR; i++)
		(void)close(fds[i]);
	return r;
}

/* Runs @work with somebody who obeys. */
static struct manager *managed(size_t room,
			       void (*work)(struct syn_fdstore *store),
			       struct syn_fdstore *store)
{
	struct manager *m = manager_new(room);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, manager_main, m), 0);
	work(store);
	manager_join(m, thread);
	return m;
}

static void put_and_drop(struct syn_fdstore *store)
{
	for (uint32_t id = 1; id <= 4; id++)
		assert_int_equal(put(store, id), 0);
	syn_fdstore_drop(store, KIND, 2);
	syn_fdstore_drop(store, KIND, 2);
	syn_fdstore_drop(store, KIND + 1, 3);
	/* This takes the place of another. */
	assert_int_equal(put(store, 3), 0);
}

static void test_put(void **state)
{
	struct syn_fdstore store = { 0 };
	int before = test_count_fds();
	struct manager *m;

	(void)state;
	m = managed(NAMES_MAX, put_and_drop, &store);
	assert_false(m->polled);
	assert_int_equal(m->nr, 3);
	assert_true(manager_has(m, "16-1-1"));
	assert_true(manager_has(m, "16-3-5"));
	assert_true(manager_has(m, "16-4-4"));
	assert_int_equal(store.nr, 3);
	assert_int_equal(store.names_bytes, 3 * sizeof("16-1-1"));
	manager_close(m);
	free(store.set);
	assert_int_equal(test_count_fds(), before);
}

static void put_three(struct syn_fdstore *store)
{
	assert_int_equal(put(store, 1), 0);
	assert_int_equal(put(store, 2), 0);
	assert_int_equal(put(store, 3), -ENOSPC);
	syn_fdstore_drop(store, KIND, 1);
	assert_int_equal(put(store, 3), 0);
	assert_int_equal(put(store, 4), -ENOSPC);
}

/* So many fit, and one more does not. */
static void test_room(void **state)
{
	struct syn_fdstore store = { 0 };
	struct manager *m;

	(void)state;
	m = managed(2, put_three, &store);
	assert_int_equal(m->nr, 2);
	assert_true(manager_has(m, "16-2-2"));
	assert_true(manager_has(m, "16-3-4"));
	assert_int_equal(store.nr, 2);
	manager_close(m);
	free(store.set);
}

static void put_names(struct syn_fdstore *store)
{
	store->names_bytes = SYN_FDSTORE_NAMES_BYTES - sizeof("16-1-1");
	assert_int_equal(put(store, 1), 0);
	assert_int_equal(store->names_bytes, SYN_FDSTORE_NAMES_BYTES);
	assert_int_equal(put(store, 2), -E2BIG);
	store->names_bytes = SYN_FDSTORE_NAMES_BYTES - sizeof("16-2-2") + 1;
	assert_int_equal(put(store, 2), -E2BIG);
}

/* More names than a program can be started with. */
static void test_names(void **state)
{
	struct syn_fdstore store = { 0 };
	struct manager *m;

	(void)state;
	m = managed(NAMES_MAX, put_names, &store);
	assert_int_equal(m->nr, 1);
	manager_close(m);
	free(store.set);
}

static int put_result;
static bool put_failed;

static void put_faulty(struct syn_fdstore *store)
{
	put_result = put(store, 1);
	put_failed = syn_fault_disarm();
}

/* Each call fails once; nothing is left of what failed. */
static void test_put_fails(void **state)
{
	int before = test_count_fds();
	unsigned int nth = 0;

	(void)state;
	do {
		struct syn_fdstore store = { 0 };
		struct manager *m;

		syn_fault_arm(++nth);
		m = managed(NAMES_MAX, put_faulty, &store);
		assert_true(put_failed == (put_result != 0));
		assert_int_equal(store.nr, !put_failed);
		assert_int_equal(m->nr, !put_failed);
		manager_close(m);
		free(store.set);
	} while (put_failed);
	assert_true(nth > 5);
	assert_int_equal(test_count_fds(), before);
}

static void test_nobody_there(void **state)
{
	struct syn_fdstore store = { 0 };

	(void)state;
	assert_int_equal(put(&store, 1), -ENOTCONN);
	assert_int_equal(store.nr, 0);
	free(store.set);
}

/* ---- what comes back ---------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void text_add(char *text,
							   const char *fmt, ...)
{
	size_t len = strlen(text);
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text + len, TEXT_BYTES - len, fmt, args);
	va_end(args);
}

/* "KIND-ID:DESCRIPTORS" of each set that is held; each is to hold its index. */
static void hold_describe(const struct syn_hold *hold, char *text)
{
	for (size_t i = 0; i < hold->nr; i++) {
		const struct syn_held *held = &hold->held[i];
		uint64_t value;
		uint32_t nr = 0;

		while (nr < SYN_FDS_MAX && held->fd[nr] >= 0 &&
		       read(held->fd[nr], &value, sizeof(value)) > 0 &&
		       value == nr + 1)
			nr++;
		text_add(text, "%u-%u:%u ", held->kind, held->id, nr);
	}
}

static void number_set(const char *name, unsigned long value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lu", value);
	(void)setenv(name, text, 1);
}

/* In a child: what systemd would hand over, of what @m has. */
static void hand_over(const struct manager *m)
{
	char names[TEXT_BYTES] = "";
	int fd[NAMES_MAX];

	for (size_t i = 0; i < m->nr; i++)
		fd[i] = fcntl(m->fd[i], F_DUPFD, 200);
	for (size_t i = 0; i < m->nr; i++) {
		(void)dup2(fd[i], FIRST_FD + (int)i);
		text_add(names, "%s%s", i ? ":" : "", m->name[i]);
	}
	number_set("LISTEN_FDS", m->nr);
	number_set("LISTEN_PID", (unsigned long)getpid());
	(void)setenv("LISTEN_FDNAMES", names, 1);
}

static void take_main(const struct manager *m, int out)
{
	struct syn_fdstore store = { 0 };
	struct syn_hold hold = { 0 };
	char text[TEXT_BYTES] = "";
	int r;

	hand_over(m);
	r = syn_fdstore_take(&store, &hold);
	hold_describe(&hold, text);
	text_add(text, "= %d, %zu of %u", r, store.nr,
		 (unsigned int)store.serial);
	_exit(write(out, text, strlen(text)) > 0 ? 0 : 1);
}

/* A process that begins with what @m has takes @expected. */
static void take(struct manager *m, const char *expected)
{
	char text[TEXT_BYTES] = "";
	pthread_t thread;
	int status;
	int out[2];
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork_child();
	assert_true(pid >= 0);
	if (pid == 0)
		take_main(m, fcntl(out[1], F_DUPFD, 100));
	assert_int_equal(pthread_create(&thread, NULL, manager_main, m), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(read(out[0], text, sizeof(text) - 1) > 0);
	assert_string_equal(text, expected);
	(void)close(out[0]);
	(void)close(out[1]);
	manager_join(m, thread);
}

static void put_some(struct syn_fdstore *store)
{
	assert_int_equal(put(store, 7), 0);
	assert_int_equal(put(store, 2), 0);
	assert_int_equal(put(store, 5), 0);
}

/* Each time the same, whatever the order; nobody takes them from there. */
static void test_take(void **state)
{
	struct syn_fdstore store = { 0 };
	struct manager *m;

	(void)state;
	m = managed(NAMES_MAX, put_some, &store);
	for (int i = 0; i < 3; i++) {
		int first = m->fd[0];

		/* The values were read, and are put anew. */
		take(m, i ? "16-2:0 16-5:0 16-7:0 = 0, 3 of 3"
			  : "16-2:3 16-5:3 16-7:3 = 0, 3 of 3");
		assert_int_equal(m->nr, 3);
		m->fd[0] = m->fd[2];
		m->fd[2] = first;
	}
	manager_close(m);
	free(store.set);
}

/* Of two the later counts; what is of another make is dropped. */
static void test_take_some(void **state)
{
	static const char *const strange[] = { "stored", "synapsed.socket",
					       "16-9-9" };
	struct syn_fdstore store = { 0 };
	struct syn_fdstore again = { .serial = 7 };
	struct manager *m;
	pthread_t thread;

	(void)state;
	m = managed(NAMES_MAX, put_some, &store);
	assert_int_equal(pthread_create(&thread, NULL, manager_main, m), 0);
	assert_int_equal(put(&again, 5), 0);
	manager_join(m, thread);
	for (size_t i = 0; i < syn_array_size(strange); i++) {
		m->fd[m->nr] =
			i ? socket(AF_UNIX, SOCK_SEQPACKET, 0) : eventfd(0, 0);
		(void)snprintf(m->name[m->nr++], sizeof(m->name[0]), "%s",
			       strange[i]);
	}
	take(m, "16-2:3 16-5:3 16-7:3 = 0, 3 of 8");
	assert_int_equal(m->nr, 3);
	assert_true(manager_has(m, "16-5-8"));
	assert_false(manager_has(m, "16-5-3"));
	manager_close(m);
	free(store.set);
	free(again.set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_put_fails),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_take),
		cmocka_unit_test(test_take_some),
	};

	return test_main(tests);
}
