/* SPDX-License-Identifier: Apache-2.0 */
/* Starting, watching and stopping a real daemon; a bare client. */
#include "test/sys/harness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "test/sys/play-systemd.h"
#include "tools/synapsed/keep-process.h"

#define ARGS_MAX  32
#define RAW_PAGES 4096u

pid_t child_of(int (*fn)(const char *path), const char *path)
{
	int pipe_fds[2];
	char byte = 1;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork_child();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(pipe_fds[0]);
		byte = (char)-fn(path);
		(void)!write(pipe_fds[1], &byte, 1);
		for (;;)
			(void)pause();
	}
	(void)close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	(void)close(pipe_fds[0]);
	assert_int_equal(byte, 0);
	return pid;
}

void child_kill(pid_t pid, int signo)
{
	assert_int_equal(kill(pid, signo), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000,
			       .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

int proc_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int nr = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	while (readdir(dir))
		nr++;
	(void)closedir(dir);
	return nr - 2; /* "." and ".." */
}

/* ---- processes ---------------------------------------------------------- */

const char *daemon_program = TEST_SYNAPSED;

static const char *daemon_manager(void)
{
	return getenv(DAEMON_MANAGER_ENV);
}

static void daemon_exec(const char *const *args, const char *socket, int log_fd,
			unsigned int nofile)
{
	const char *argv[ARGS_MAX] = { "synapsed" };
	struct rlimit limit = { .rlim_cur = nofile, .rlim_max = nofile };
	int nr = 1;

	if (socket) {
		argv[nr++] = "--socket";
		argv[nr++] = socket;
	}
	for (; args && *args && nr < ARGS_MAX - 1; args++)
		argv[nr++] = *args;
	if (nofile && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		_exit(126);
	(void)dup2(log_fd, STDERR_FILENO);
	(void)dup2(log_fd, STDOUT_FILENO);
	if (daemon_manager())
		(void)setenv(PLAY_PROGRAM_ENV, daemon_program, 1);
	(void)execv(daemon_manager() ? daemon_manager() : daemon_program,
		    (char *const *)(uintptr_t)argv);
	_exit(127);
}

static pid_t daemon_fork(const char *const *args, const char *socket,
			 int log_fd, unsigned int nofile)
{
	pid_t pid = fork_child();

	assert_true(pid >= 0);
	if (pid == 0)
		daemon_exec(args, socket, log_fd, nofile);
	return pid;
}

static size_t log_read(int fd, char *to, size_t max)
{
	ssize_t n = pread(fd, to, max - 1, 0);

	to[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* The end of it. */
void daemon_log_print(const struct test_daemon *d)
{
	char text[8192];
	off_t bytes = lseek(d->log_fd, 0, SEEK_END);
	ssize_t n;

	n = pread(d->log_fd, text, sizeof(text) - 1,
		  bytes < (off_t)sizeof(text) ? 0
					      : bytes - (off_t)sizeof(text));
	text[syn_max(n, 0)] = '\0';
	/* More than cmocka prints. */
	(void)fprintf(stderr, "synapsed wrote:\n%s\n", text);
}

int daemon_run(const char *const *args, char *ret_log, size_t max)
{
	int log_fd = memfd_create("log", MFD_CLOEXEC);
	int status = 0;
	pid_t pid;

	assert_true(log_fd >= 0);
	pid = daemon_fork(args, NULL, log_fd, 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	log_read(log_fd, ret_log, max);
	(void)close(log_fd);
	return status;
}

/* The end of its socket that the worker has: the last word of its arguments. */
static int worker_sock(const struct test_daemon *d)
{
	char path[64];
	char text[256];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)d->worker);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 1);
	(void)close(fd);
	text[n] = '\0';
	while (n > 1 && text[n - 2])
		n--;
	return atoi(&text[n - 1]);
}

static int worker_sock_get(const struct test_daemon *d)
{
	int pid_fd = (int)syscall(SYS_pidfd_open, d->worker, 0);
	int sock;

	assert_true(pid_fd >= 0);
	sock = (int)syscall(SYS_pidfd_getfd, pid_fd, worker_sock(d), 0);
	(void)close(pid_fd);
	return sock;
}

bool daemon_put_extent(const struct test_daemon *d, uint32_t id, int fd)
{
	struct syn_keep_msg m = {
		.msg = { .type = SYN_KEEP_DROP, .size = sizeof(m) },
		.kind = SYN_KEEP_EXTENT,
		.id = id,
	};
	int before = proc_fds(d->keeper);
	int sock = worker_sock_get(d);

	if (sock < 0)
		return false;
	assert_int_equal(syn_conn_send(sock, &m.msg, NULL, 0), 0);
	test_wait(proc_fds(d->keeper) == before - 1, 20);
	m.msg.type = SYN_KEEP_PUT;
	/* What it did not ask for would be the keeper's end to it. */
	assert_int_equal(kill(d->worker, SIGSTOP), 0);
	if (fd >= 0)
		assert_int_equal(syn_conn_send(sock, &m.msg, &fd, 1), 0);
	(void)close(sock);
	test_wait(proc_fds(d->keeper) == before - (fd < 0), 20);
	return true;
}

/* Whether somebody serves, and who. */
static bool daemon_answers(struct test_daemon *d, struct syn_ctl_status *ret)
{
	struct syn_msg_ctl_reply reply;
	int status;

	if (waitpid(d->keeper, &status, WNOHANG) == d->keeper) {
		daemon_log_print(d);
		fail_msg("synapsed ended: %x", status);
	}
	return ctl_ask(d->socket, SYN_CTL_STATUS, 0, ret, 1, sizeof(*ret),
		       &reply) == 0;
}

void daemon_wait_worker(struct test_daemon *d, pid_t old)
{
	struct syn_ctl_status status = { 0 };

	test_wait(daemon_answers(d, &status) && (pid_t)status.worker_pid != old,
		  20);
	d->worker = (pid_t)status.worker_pid;
	assert_int_equal(status.keeper_pid, d->keeper);
}

void daemon_worker_away(struct test_daemon *d)
{
	assert_int_equal(kill(d->keeper, SIGSTOP), 0);
	assert_int_equal(kill(d->worker, SIGKILL), 0);
}

void daemon_worker_return(struct test_daemon *d)
{
	assert_int_equal(kill(d->keeper, SIGCONT), 0);
	daemon_wait_worker(d, d->worker);
	(void)ctl_fsck(d->socket);
}

void daemon_kill_worker(struct test_daemon *d)
{
	assert_int_equal(kill(d->worker, SIGKILL), 0);
	daemon_wait_worker(d, d->worker);
	(void)ctl_fsck(d->socket);
}

void daemon_start_limited(struct test_daemon *d, const char *const *args,
			  unsigned int nofile)
{
	int fds;

	memset(d, 0, sizeof(*d));
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)snprintf(d->dir, sizeof(d->dir), "/tmp/synapse-test-XXXXXX");
	assert_non_null(mkdtemp(d->dir));
	assert_int_equal(chmod(d->dir, 0755), 0);
	(void)snprintf(d->socket, sizeof(d->socket), "%s/s", d->dir);
	d->log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(d->log_fd >= 0);
	d->keeper = daemon_fork(args, d->socket, d->log_fd, nofile);
	daemon_wait_worker(d, 0);
	/* The connection that asked is gone when its descriptors are. */
	do {
		fds = proc_fds(d->worker);
		sleep_ms(20);
		d->worker_fds = proc_fds(d->worker);
	} while (fds != d->worker_fds);
	d->keeper_fds = proc_fds(d->keeper);
}

void daemon_start(struct test_daemon *d, const char *const *args)
{
	daemon_start_limited(d, args, 0);
}

/* A worker whose keeper was killed becomes our child. */
static bool process_gone(pid_t pid)
{
	(void)waitpid(pid, NULL, WNOHANG);
	return kill(pid, 0) < 0;
}

void daemon_gone(struct test_daemon *d, int expected)
{
	int status = 0;
	pid_t worker = d->worker;

	assert_int_equal(waitpid(d->keeper, &status, 0), d->keeper);
	if (status != expected)
		daemon_log_print(d);
	assert_int_equal(status, expected);
	test_wait(!worker || process_gone(worker), 20);
	/* Fails unless it is empty. */
	test_wait(rmdir(d->dir) == 0 || errno != ENOTEMPTY, 5);
	assert_true(access(d->dir, F_OK) < 0);
	(void)close(d->log_fd);
}

void daemon_stop(struct test_daemon *d)
{
	assert_int_equal(kill(d->keeper, SIGTERM), 0);
	daemon_gone(d, 0);
}

static bool daemon_quiet(const struct test_daemon *d)
{
	struct syn_ctl_status status;

	ctl_status(d->socket, &status);
	return !status.nr_sessions && status.nr_pages == status.nr_sealed &&
	       !status.nr_quarantined;
}

/* Extents stay, so descriptors may be more than at first, but not for long. */
static bool daemon_fds_match(const struct test_daemon *d)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];
	int extents;

	ctl_tiers(d->socket, tier);
	extents = (int)(tier[0].nr_extents + tier[1].nr_extents);
	/* The connection that asked must be gone, too. */
	sleep_ms(10);
	return proc_fds(d->worker) <= d->worker_fds + extents &&
	       proc_fds(d->keeper) <= d->keeper_fds + extents;
}

void daemon_wait_quiet(struct test_daemon *d)
{
	test_wait(daemon_quiet(d), 20);
	(void)ctl_fsck(d->socket);
	test_wait(daemon_fds_match(d), 20);
}

struct test_daemon daemon_of_test;
const char *const *daemon_of_test_args;

int daemon_group_setup(void **state)
{
	daemon_start(&daemon_of_test, daemon_of_test_args);
	return 0;
}

int daemon_group_teardown(void **state)
{
	daemon_wait_quiet(&daemon_of_test);
	daemon_stop(&daemon_of_test);
	return 0;
}

/* ---- control ------------------------------------------------------------ */

struct ctl_answer {
	struct syn_msg_ctl_reply reply;
	unsigned char records[SYN_CTL_BATCH * 256];
};

static int ctl_hello(int sock)
{
	struct syn_msg_hello hello;
	struct syn_msg_welcome welcome;
	int fds[SYN_FDS_MAX];

	raw_hello(&hello);
	hello.kind = SYN_KIND_CONTROL;
	if (syn_conn_send(sock, &hello.msg, NULL, 0))
		return -EPIPE;
	if (syn_conn_recv(sock, &welcome, sizeof(welcome), fds) !=
	    (int)sizeof(welcome))
		return -EPIPE;
	return welcome.msg.type == SYN_MSG_WELCOME ? 0 : -EPIPE;
}

static int ctl_exchange(int sock, struct syn_msg_ctl *ctl,
			struct ctl_answer *answer)
{
	int fds[SYN_FDS_MAX];
	int r = ctl_hello(sock);

	if (!r)
		r = syn_conn_send(sock, &ctl->msg, NULL, 0);
	if (r)
		return r;
	r = syn_conn_recv(sock, answer, sizeof(*answer), fds);
	return r < (int)sizeof(answer->reply) ? -EPIPE : 0;
}

static int ctl_once(const char *path, struct syn_msg_ctl *ctl,
		    struct ctl_answer *ret)
{
	int sock = -1;
	int r;

	ctl->msg =
		(struct syn_msg){ .type = SYN_MSG_CTL, .size = sizeof(*ctl) };
	r = syn_conn_connect(path, &sock);
	if (r)
		return r;
	r = ctl_exchange(sock, ctl, ret);
	(void)close(sock);
	return r;
}

int ctl_order(const char *path, uint32_t op, const uint64_t arg[4],
	      struct syn_msg_ctl_reply *ret)
{
	struct syn_msg_ctl ctl = { .op = op };
	struct ctl_answer answer = { 0 };
	int r;

	memcpy(ctl.arg, arg, sizeof(ctl.arg));
	r = ctl_once(path, &ctl, &answer);
	*ret = answer.reply;
	return r ? r : ret->msg.error;
}

int ctl_ask_at(const char *path, uint32_t op, uint64_t cursor, uint64_t arg,
	       void *ret_records, uint32_t max, uint32_t each,
	       struct syn_msg_ctl_reply *ret)
{
	struct syn_msg_ctl ctl = {
		.op = op,
		.cursor = cursor,
		.arg = { arg },
	};
	struct ctl_answer answer = { 0 };
	int r;

	r = ctl_once(path, &ctl, &answer);
	if (r)
		return r;
	*ret = answer.reply;
	if (!ret->msg.error && ret->nr) {
		assert_int_equal(ret->record_bytes, each);
		memcpy(ret_records, answer.records,
		       (size_t)syn_min(ret->nr, max) * each);
	}
	return ret->msg.error;
}

int ctl_ask(const char *path, uint32_t op, uint64_t arg, void *ret_records,
	    uint32_t max, uint32_t each, struct syn_msg_ctl_reply *ret)
{
	return ctl_ask_at(path, op, 0, arg, ret_records, max, each, ret);
}

uint32_t ctl_pages(const char *path, uint64_t *cursor,
		   struct syn_ctl_page ret[SYN_CTL_BATCH])
{
	struct syn_msg_ctl_reply reply;

	assert_int_equal(ctl_ask_at(path, SYN_CTL_PAGES, *cursor, 0, ret,
				    SYN_CTL_BATCH, sizeof(*ret), &reply),
			 0);
	*cursor = reply.next;
	return reply.nr;
}

void ctl_status(const char *path, struct syn_ctl_status *ret)
{
	struct syn_msg_ctl_reply reply;

	assert_int_equal(
		ctl_ask(path, SYN_CTL_STATUS, 0, ret, 1, sizeof(*ret), &reply),
		0);
	assert_int_equal(reply.nr, 1);
}

bool ctl_fsck(const char *path)
{
	struct syn_ctl_fsck at[SYN_FSCK_MAX];
	struct syn_msg_ctl_reply reply = { 0 };

	do {
		assert_int_equal(ctl_ask_at(path, SYN_CTL_FSCK, reply.next, 0,
					    at, SYN_FSCK_MAX, sizeof(at[0]),
					    &reply),
				 0);
	} while (reply.next);
	for (uint32_t i = 0; i < reply.nr; i++)
		print_error("object %u, field %u, index %u, part %u: expected "
			    "%llu, found %llu\n",
			    at[i].object, at[i].field, at[i].index, at[i].part,
			    (unsigned long long)at[i].expected,
			    (unsigned long long)at[i].found);
	assert_true(SYN_FSCK_FOUND(reply.val) == 0);
	return !(reply.val & SYN_FSCK_MOVED);
}

void ctl_tiers(const char *path, struct syn_ctl_tier ret[SYN_QUOTA_TIERS])
{
	struct syn_msg_ctl_reply reply;

	memset(ret, 0, SYN_QUOTA_TIERS * sizeof(*ret));
	assert_int_equal(ctl_ask(path, SYN_CTL_TIERS, 0, ret, SYN_QUOTA_TIERS,
				 sizeof(*ret), &reply),
			 0);
	assert_true(reply.nr == 2 || reply.nr == SYN_QUOTA_TIERS);
}

/* ---- the bare client ---------------------------------------------------- */

void raw_hello(struct syn_msg_hello *ret)
{
	*ret = (struct syn_msg_hello){
		.msg = { .magic = SYN_ABI_MAGIC,
			 .type = SYN_MSG_HELLO,
			 .size = sizeof(*ret) },
		.version_min = SYN_ABI_VERSION_MIN,
		.version_max = SYN_ABI_VERSION_MAX,
		.kind = SYN_KIND_ENGINE,
		.features = SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU |
			    SYN_FEATURE_CUDA,
		.sqe_size = sizeof(struct syn_sqe),
		.cqe_size = sizeof(struct syn_cqe),
		.loan_size = sizeof(struct syn_loan),
		.nr_pages = RAW_PAGES,
		.nr_timelines = 4,
		.job_ranks = 1,
		.name = "raw",
	};
}

static void raw_map(struct raw_client *c)
{
	const struct syn_msg_welcome *w = &c->welcome;
	struct syn_client_ctl *mine = (void *)c->mine;
	struct syn_daemon_ctl *theirs = (void *)c->theirs;

	c->sq = (struct syn_ring){ .mine = &mine->sq_tail,
				   .theirs = &theirs->sq_head,
				   .sleeps = &theirs->sq_sleeps,
				   .entries = c->mine + w->sqe_off,
				   .entry_bytes = sizeof(struct syn_sqe),
				   .mask = SYN_SQ_ENTRIES - 1 };
	c->cq = (struct syn_ring){ .mine = &mine->cq_head,
				   .theirs = &theirs->cq_tail,
				   .sleeps = &mine->cq_sleeps,
				   .entries = c->theirs + w->cqe_off,
				   .entry_bytes = sizeof(struct syn_cqe),
				   .mask = SYN_CQ_ENTRIES - 1 };
}

static int raw_welcome(struct raw_client *c)
{
	union {
		struct syn_msg msg;
		struct syn_msg_welcome welcome;
		struct syn_msg_bye bye;
	} m;
	int fds[SYN_FDS_MAX];
	void *map;
	int r;

	r = syn_conn_recv(c->sock, &m, sizeof(m), fds);
	if (r > 0 && m.msg.type == SYN_MSG_BYE) {
		c->bye = m.bye;
		return m.bye.msg.error;
	}
	if (r != (int)sizeof(m.welcome))
		return -EPIPE;
	c->welcome = m.welcome;
	assert_int_equal(m.msg.nr_fds, 4);
	assert_int_equal(
		syn_conn_segment_map(fds[0], m.welcome.client_bytes, 1, &map),
		0);
	c->mine = map;
	assert_int_equal(
		syn_conn_segment_map(fds[1], m.welcome.daemon_bytes, 0, &map),
		0);
	c->theirs = map;
	(void)close(fds[0]);
	(void)close(fds[1]);
	c->bell_fd = fds[2];
	c->wake_fd = fds[3];
	raw_map(c);
	return 0;
}

int raw_attach(struct raw_client *c, const char *path)
{
	return raw_attach_pages(c, path, RAW_PAGES);
}

int raw_attach_pages(struct raw_client *c, const char *path, uint32_t nr_pages)
{
	struct syn_msg_hello hello;

	raw_hello(&hello);
	hello.nr_pages = nr_pages;
	return raw_attach_hello(c, path, &hello);
}

int raw_attach_hello(struct raw_client *c, const char *path,
		     const struct syn_msg_hello *as)
{
	const struct timeval patience = { .tv_sec = 20 };
	struct syn_msg_hello hello = *as;
	int r;

	memset(c, 0, sizeof(*c));
	c->sock = -1;
	c->bell_fd = -1;
	c->wake_fd = -1;
	r = syn_conn_connect(path, &c->sock);
	if (r)
		return r;
	/* An answer that never comes fails the test, not only its watchdog. */
	assert_int_equal(setsockopt(c->sock, SOL_SOCKET, SO_RCVTIMEO, &patience,
				    sizeof(patience)),
			 0);
	r = syn_conn_send(c->sock, &hello.msg, NULL, 0);
	/* A refusal may have been quicker. */
	if (!r || r == -EPIPE)
		r = raw_welcome(c);
	if (r)
		raw_close(c);
	return r;
}

void raw_close(struct raw_client *c)
{
	struct syn_msg_bye bye = {
		.msg = { .type = SYN_MSG_BYE, .size = sizeof(bye) },
	};

	if (c->mine)
		(void)syn_conn_send(c->sock, &bye.msg, NULL, 0);
	if (c->mine)
		(void)munmap(c->mine, c->welcome.client_bytes);
	if (c->theirs)
		(void)munmap(c->theirs, c->welcome.daemon_bytes);
	c->mine = NULL;
	c->theirs = NULL;
	c->sock = syn_close(c->sock);
	c->bell_fd = syn_close(c->bell_fd);
	c->wake_fd = syn_close(c->wake_fd);
}

bool raw_read(struct raw_client *c, uint16_t type, void *ret, size_t bytes)
{
	union {
		struct syn_msg msg;
		unsigned char room[512];
	} m;
	int fds[SYN_FDS_MAX];
	int r;

	for (;;) {
		r = syn_conn_recv(c->sock, &m, sizeof(m), fds);
		if (r <= 0)
			return false;
		for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
			syn_closep(&fds[i]);
		if (m.msg.type == SYN_MSG_EXTENT)
			c->nr_extents++;
		if (m.msg.type == SYN_MSG_BYE)
			memcpy(&c->bye, &m, sizeof(c->bye));
		if (m.msg.type != type)
			continue;
		if (ret)
			memcpy(ret, &m, bytes);
		return true;
	}
}

int raw_wait_bye(struct raw_client *c)
{
	if (!c->bye.msg.type)
		assert_true(raw_read(c, SYN_MSG_BYE, NULL, 0));
	return c->bye.msg.error;
}

int raw_window(struct raw_client *c, uint32_t slots)
{
	struct syn_msg_space space = {
		.msg = { .type = SYN_MSG_SPACE, .size = sizeof(space) },
		.model = { 1, 2 },
		.tokens = TEST_TOKENS,
		.layers_per_page = 1,
		.nr_components = 2,
		.component = { { SYN_ROLE_K, SYN_DTYPE_F16, 2, 64,
				 SYN_CODEC_RAW16, 0 },
			       { SYN_ROLE_V, SYN_DTYPE_F16, 2, 64,
				 SYN_CODEC_RAW16, 0 } },
	};
	struct syn_msg_window window = {
		.msg = { .type = SYN_MSG_WINDOW, .size = sizeof(window) },
		.slots = slots,
	};

	assert_int_equal(syn_conn_send(c->sock, &space.msg, NULL, 0), 0);
	assert_true(
		raw_read(c, SYN_MSG_SPACE_REPLY, &c->space, sizeof(c->space)));
	assert_int_equal(c->space.msg.error, 0);
	assert_int_equal(c->space.page_bytes, TEST_PAGE_BYTES);
	assert_int_equal(c->space.nr_tiles, TEST_TILES);
	window.space = c->space.space;
	assert_int_equal(syn_conn_send(c->sock, &window.msg, NULL, 0), 0);
	assert_true(raw_read(c, SYN_MSG_WINDOW_REPLY, &c->window,
			     sizeof(c->window)));
	return c->window.msg.error;
}

void raw_submit(struct raw_client *c, const struct syn_sqe *sqe,
		const void *vec, size_t bytes)
{
	const uint64_t one = 1;

	memcpy(syn_ring_entry(&c->sq, c->sq.own), sqe, sizeof(*sqe));
	if (bytes)
		memcpy(c->mine + c->welcome.sq_vec_off +
			       (size_t)(c->sq.own & c->sq.mask) * SYN_VEC_BYTES,
		       vec, bytes);
	if (syn_ring_publish(&c->sq, 1))
		(void)!write(c->bell_fd, &one, sizeof(one));
}

static bool raw_wait(struct raw_client *c, int ms)
{
	struct pollfd fds[] = { { .fd = c->wake_fd, .events = POLLIN },
				{ .fd = c->sock, .events = POLLRDHUP } };
	char drain[64];
	int r;

	if (!syn_ring_sleep(&c->cq))
		return true;
	r = poll(fds, 2, ms);
	syn_ring_awake(&c->cq);
	if (r > 0 && fds[0].revents & POLLIN)
		(void)!read(c->wake_fd, drain, sizeof(drain));
	return r > 0 && !fds[1].revents;
}

bool raw_reap(struct raw_client *c, struct syn_cqe *ret, void *ret_vec,
	      size_t bytes, int ms)
{
	while (syn_ring_waiting(&c->cq) <= 0)
		if (!raw_wait(c, ms) && syn_ring_waiting(&c->cq) <= 0)
			return false;
	memcpy(ret, syn_ring_entry(&c->cq, c->cq.own), sizeof(*ret));
	if (bytes)
		memcpy(ret_vec,
		       c->theirs + c->welcome.cq_vec_off +
			       (size_t)(c->cq.own & c->cq.mask) * SYN_VEC_BYTES,
		       bytes);
	syn_ring_consume(&c->cq, 1);
	return true;
}

struct syn_cqe raw_ask(struct raw_client *c, const struct syn_sqe *sqe,
		       const void *in, size_t in_bytes, void *out,
		       size_t out_bytes)
{
	struct syn_cqe cqe;

	raw_submit(c, sqe, in, in_bytes);
	assert_true(raw_reap(c, &cqe, out, out_bytes, 20000));
	assert_int_equal(cqe.cookie, sqe->cookie);
	return cqe;
}
