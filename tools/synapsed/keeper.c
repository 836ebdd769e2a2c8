/* SPDX-License-Identifier: Apache-2.0 */
/* Holds descriptors, watches the worker. */
#include "tools/synapsed/keeper.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if SYN_HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "core/base/base.h"
#include "core/base/log.h"
#include "ipc/conn.h"
#include "tools/synapsed/hold.h"
#include "tools/synapsed/keep-process.h"
#include "tools/synapsed/listen.h"

/*
 * Workers that die faster than this will not do better.  One that served and
 * was killed begins the count anew: workers can serve, and somebody wanted that.
 */
#define KEEPER_DEATHS	 5
#define KEEPER_DEATHS_NS 10000000000u
/* What was short for one that takes over may be there for another, so often. */
#define KEEPER_AGAIN	5u
#define KEEPER_AGAIN_MS 100
/* A worker that was asked to stop has so long. */
#define KEEPER_PATIENCE_NS 5000000000u

/**
 * struct keeper - the parent's state.
 * @config:	checked.
 * @listener:	the tenants' listening sockets.
 * @signal_fd:	SIGTERM and SIGINT.
 * @hold:	what workers have put and not dropped.
 * @exe_fd:	the program of the worker that serves or served last.
 * @next_fd:	the program that takes over; -1: the same.
 * @path:	where an upgrade looks for it.
 * @epoch:	number of the worker that runs.
 * @pid:	the worker; 0: none.
 * @pid_fd:	the worker's.
 * @sock:	to the worker.
 * @ready:	a worker has served.
 * @serves:	the one that runs does.
 * @took:	it was given what another had put.
 * @refusal:	why it cannot go on where the other was; "": it can ...
 * @refused:	... and the error.
 * @nr_again:	workers that tried once more, in a row.
 * @leaving:	it makes place for the program of @next_fd ...
 * @replaced:	... which has laid out anew what is held: no other can go on.
 * @stopping:	asked to end.
 * @stop_ns:	when it was asked.
 * @died_ns:	when the last workers died, oldest overwritten.
 * @nr_died:	deaths so far.
 */
struct keeper {
	const struct syn_config *config;
	struct syn_listener listener[SYN_TENANTS_MAX];
	int signal_fd;
	struct syn_hold hold;
	int exe_fd;
	int next_fd;
	char path[PATH_MAX];
	uint64_t epoch;
	pid_t pid;
	int pid_fd;
	int sock;
	bool ready;
	bool serves;
	bool took;
	char refusal[SYN_REASON_BYTES];
	int refused;
	unsigned int nr_again;
	bool leaving;
	bool replaced;
	bool stopping;
	uint64_t stop_ns;
	uint64_t died_ns[KEEPER_DEATHS];
	unsigned int nr_died;
};

static void service_notify(const char *state)
{
#if SYN_HAVE_SYSTEMD
	(void)sd_notify(0, state);
#else
	(void)state;
#endif
}

/* ---- the worker --------------------------------------------------------- */

static void worker_exec(int exe_fd, int sock)
{
	char path[40];
	char text[16];
	char name[] = "synapsed";
	char flag[] = "--worker";
	char *const argv[] = { name, flag, text, NULL };
	sigset_t none;

	(void)snprintf(text, sizeof(text), "%d", sock);
	/* A file, not a name: what lies there may be half installed. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", exe_fd);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (fcntl(sock, F_SETFD, 0) == 0)
		(void)execv(path, argv);
	_exit(127);
}

static int worker_start(struct keeper *keeper)
{
	struct syn_keep_start start = {
		.msg = { .type = SYN_KEEP_START, .size = sizeof(start) },
		.epoch = keeper->epoch,
		.keeper_pid = (uint32_t)getpid(),
		.nr_held = (uint32_t)keeper->hold.nr,
		.config = *keeper->config,
	};

	return syn_conn_send(keeper->sock, &start.msg, NULL, 0);
}

static int worker_listen(struct keeper *keeper)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < keeper->config->nr_tenants && !r; i++) {
		const struct syn_listener *l = &keeper->listener[i];
		struct syn_keep_listen msg = {
			.msg = { .type = SYN_KEEP_LISTEN, .size = sizeof(msg) },
			.dev = l->dev,
			.ino = l->ino,
		};

		memcpy(msg.dir, l->dir, sizeof(msg.dir));
		r = syn_conn_send(keeper->sock, &msg.msg, &l->fd, 1);
	}
	return r;
}

static int worker_fork(struct keeper *keeper)
{
	int exe_fd = keeper->exe_fd;
	int pair[2];
	pid_t pid;

	if (keeper->next_fd >= 0)
		exe_fd = keeper->next_fd;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		worker_exec(exe_fd, pair[1]);
	syn_close(pair[1]);
	if (pid < 0) {
		syn_close(pair[0]);
		return -EAGAIN;
	}
	keeper->pid = pid;
	keeper->sock = pair[0];
	keeper->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return keeper->pid_fd < 0 ? -errno : 0;
}

/* The one before is gone, with all that it had under way. */
static int worker_spawn(struct keeper *keeper)
{
	int r;

	keeper->serves = false;
	keeper->leaving = false;
	keeper->refusal[0] = '\0';
	keeper->refused = 0;
	keeper->took = keeper->hold.nr;
	r = worker_fork(keeper);
	if (r)
		return r;
	keeper->epoch++;
	r = worker_start(keeper);
	if (!r)
		r = worker_listen(keeper);
	/* It has gone already, as its pidfd will tell. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

static void worker_forget(struct keeper *keeper)
{
	keeper->pid = 0;
	keeper->pid_fd = syn_close(keeper->pid_fd);
	keeper->sock = syn_close(keeper->sock);
}

static void worker_kill(struct keeper *keeper)
{
	if (!keeper->pid)
		return;
	(void)kill(keeper->pid, SIGKILL);
	(void)waitpid(keeper->pid, NULL, 0);
	worker_forget(keeper);
}

static bool worker_hopeless(struct keeper *keeper)
{
	const uint64_t now_ns = syn_now_ns();
	unsigned int at = keeper->nr_died++ % KEEPER_DEATHS;
	uint64_t oldest_ns = keeper->died_ns[(at + 1) % KEEPER_DEATHS];

	keeper->died_ns[at] = now_ns;
	return keeper->nr_died >= KEEPER_DEATHS &&
	       now_ns - oldest_ns < KEEPER_DEATHS_NS;
}

static void death_reason(int status, char *ret)
{
	if (WIFSIGNALED(status))
		(void)snprintf(ret, SYN_REASON_BYTES,
			       "the worker died (signal %d)", WTERMSIG(status));
	else
		(void)snprintf(ret, SYN_REASON_BYTES,
			       "the worker died (exit %d)",
			       WEXITSTATUS(status));
}

/*
 * The new program has not come so far as to serve: the old one goes on.  True
 * if that was so.
 */
static bool upgrade_failed(struct keeper *keeper)
{
	if (keeper->next_fd < 0 || keeper->leaving || keeper->replaced)
		return false;
	syn_error("%s cannot take over%s%s; the program before it goes on",
		  keeper->path, *keeper->refusal ? ": " : "", keeper->refusal);
	syn_closep(&keeper->next_fd);
	return true;
}

/* Who kills a worker does not say that it cannot do its work. */
static bool was_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Whether another worker is to try the same, a little later. */
static bool takeover_again(struct keeper *keeper)
{
	if (!keeper->took || !syn_keep_error_passes(keeper->refused) ||
	    keeper->nr_again == KEEPER_AGAIN)
		return false;
	keeper->nr_again++;
	(void)poll(NULL, 0, KEEPER_AGAIN_MS);
	return true;
}

/* Whether another worker is to begin with nothing. */
static bool takeover_failed(const struct keeper *keeper, int status)
{
	if (keeper->serves)
		return false;
	return !keeper->took || *keeper->refusal || !was_killed(status);
}

static bool death_counts(const struct keeper *keeper, int status)
{
	if (keeper->leaving || *keeper->refusal)
		return false;
	return !keeper->serves || !was_killed(status);
}

/* Then there is nothing left that only the new program could read. */
static void sessions_end(struct keeper *keeper, const char *reason)
{
	syn_error("sessions end: %s", reason);
	syn_hold_end(&keeper->hold, reason);
	syn_closep(&keeper->next_fd);
}

/* Returns the exit code when the keeper must end too, else -1. */
static int worker_gone(struct keeper *keeper)
{
	char reason[SYN_REASON_BYTES];
	int status = 0;

	(void)waitpid(keeper->pid, &status, 0);
	worker_forget(keeper);
	death_reason(status, reason);
	if (keeper->stopping ||
	    (!keeper->leaving && WIFEXITED(status) && !WEXITSTATUS(status))) {
		syn_hold_end(&keeper->hold, reason);
		return 0;
	}
	if (keeper->leaving)
		syn_info("the worker makes place for %s", keeper->path);
	else if (!*keeper->refusal)
		syn_error("%s", reason);
	if (!keeper->ready) {
		syn_error("the worker could not start");
		return 1;
	}
	if (!death_counts(keeper, status))
		keeper->nr_died = 0;
	else if (worker_hopeless(keeper)) {
		syn_error("%d workers died in a row; giving up", KEEPER_DEATHS);
		syn_hold_end(&keeper->hold, reason);
		return 1;
	}
	if (!upgrade_failed(keeper) && !takeover_again(keeper) &&
	    takeover_failed(keeper, status)) {
		if (*keeper->refusal)
			memcpy(reason, keeper->refusal, sizeof(reason));
		sessions_end(keeper, reason);
	}
	return -1;
}

/* ---- the loop ----------------------------------------------------------- */

static void put_answer(struct keeper *keeper, int error)
{
	struct syn_keep_msg ack = {
		.msg = { .type = SYN_KEEP_ACK,
			 .size = sizeof(ack),
			 .error = error },
	};

	(void)syn_conn_send(keeper->sock, &ack.msg, NULL, 0);
}

static void take_answer(struct keeper *keeper, uint32_t i)
{
	struct syn_keep_msg held = {
		.msg = { .type = SYN_KEEP_HELD, .size = sizeof(held) },
	};
	const int *fds = NULL;
	unsigned int nr = 0;

	if (i >= keeper->hold.nr) {
		held.msg.error = -ENOENT;
	} else {
		fds = keeper->hold.held[i].fd;
		while (nr < SYN_FDS_MAX && fds[nr] >= 0)
			nr++;
		held.kind = keeper->hold.held[i].kind;
		held.id = keeper->hold.held[i].id;
	}
	held.msg.error = syn_conn_send(keeper->sock, &held.msg, fds, nr);
	if (held.msg.error)
		(void)syn_conn_send(keeper->sock, &held.msg, NULL, 0);
}

/* The program is opened now: what is there later may be another. */
static void upgrade_answer(struct keeper *keeper)
{
	int fd = open(keeper->path, O_PATH | O_CLOEXEC);

	if (fd < 0) {
		put_answer(keeper, -errno);
		return;
	}
	syn_closep(&keeper->next_fd);
	keeper->next_fd = fd;
	keeper->leaving = true;
	keeper->stop_ns = syn_now_ns();
	put_answer(keeper, 0);
}

static void worker_ready(struct keeper *keeper)
{
	if (!keeper->ready)
		service_notify("READY=1");
	keeper->ready = true;
	keeper->serves = true;
	keeper->replaced = false;
	keeper->nr_again = 0;
	if (keeper->next_fd >= 0) {
		syn_closep(&keeper->exe_fd);
		keeper->exe_fd = syn_steal_fd(&keeper->next_fd);
	}
	syn_info("ready: %s, worker %d, epoch %llu",
		 keeper->config->tenant[0].socket, (int)keeper->pid,
		 (unsigned long long)keeper->epoch);
}

static void worker_asked(struct keeper *keeper, const struct syn_keep_msg *m,
			 int *fds)
{
	int r = 0;

	switch (m->msg.type) {
	case SYN_KEEP_TAKE:
		take_answer(keeper, m->id);
		break;
	case SYN_KEEP_READY:
		worker_ready(keeper);
		break;
	case SYN_KEEP_PUT:
		r = syn_hold_add(&keeper->hold, m->kind, m->id, fds);
		put_answer(keeper, r);
		break;
	case SYN_KEEP_REPLACE:
		r = syn_hold_replace(&keeper->hold, m->kind, m->id, fds);
		keeper->replaced |= !r;
		put_answer(keeper, r);
		break;
	case SYN_KEEP_DROP:
		syn_hold_drop(&keeper->hold, m->kind, m->id);
		break;
	case SYN_KEEP_UPGRADE:
		upgrade_answer(keeper);
		break;
	}
	if (r)
		syn_hold_close(fds);
}

static void worker_refused(struct keeper *keeper,
			   const struct syn_keep_refused *m)
{
	if (!keeper->took)
		return;
	memcpy(keeper->refusal, m->reason, sizeof(keeper->refusal));
	keeper->refused = m->msg.error;
}

static void worker_said(struct keeper *keeper)
{
	union {
		struct syn_keep_msg msg;
		struct syn_keep_refused refused;
	} m = { 0 };
	int fds[SYN_FDS_MAX];
	int r;

	r = syn_conn_recv(keeper->sock, &m, sizeof(m), fds);
	if (r == 0) {
		/* End of file; the pidfd tells the rest. */
		keeper->sock = syn_close(keeper->sock);
		return;
	}
	if (r < 0)
		/* Only descriptors that found no room here come so. */
		put_answer(keeper, r);
	else if (r == (int)sizeof(m.msg))
		worker_asked(keeper, &m.msg, fds);
	else if (r == (int)sizeof(m.refused) &&
		 m.refused.msg.type == SYN_KEEP_REFUSED)
		worker_refused(keeper, &m.refused);
}

static void stop_asked(struct keeper *keeper)
{
	struct signalfd_siginfo info;

	if (read(keeper->signal_fd, &info, sizeof(info)) != sizeof(info) ||
	    keeper->stopping)
		return;
	syn_info("stopping");
	service_notify("STOPPING=1");
	keeper->stopping = true;
	keeper->stop_ns = syn_now_ns();
	(void)kill(keeper->pid, SIGTERM);
}

/* Milliseconds until a worker that does not stop is killed; -1: for ever. */
static int keeper_timeout(const struct keeper *keeper)
{
	uint64_t waited_ns = syn_now_ns() - keeper->stop_ns;

	if (!keeper->stopping && !keeper->leaving)
		return -1;
	if (waited_ns >= KEEPER_PATIENCE_NS)
		return 0;
	return (int)((KEEPER_PATIENCE_NS - waited_ns) / 1000000u) + 1;
}

/* Serves one worker until it ends; the exit code, or -1 for another worker. */
static int keeper_serve(struct keeper *keeper)
{
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = keeper->sock, .events = POLLIN },
			{ .fd = keeper->pid_fd, .events = POLLIN },
			{ .fd = keeper->signal_fd, .events = POLLIN },
		};
		int r = poll(fds, syn_array_size(fds), keeper_timeout(keeper));

		if (r < 0 && errno != EINTR)
			return 1;
		if (r == 0) {
			syn_warning("the worker does not stop; killing it");
			(void)kill(keeper->pid, SIGKILL);
			keeper->stop_ns = syn_now_ns();
		}
		/* All it said before it died counts. */
		if (fds[0].revents & POLLIN)
			worker_said(keeper);
		else if (fds[1].revents)
			return worker_gone(keeper);
		if (fds[2].revents)
			stop_asked(keeper);
	}
}

/* ---- start and end ------------------------------------------------------ */

static int program_open(struct keeper *keeper)
{
	ssize_t n;

	keeper->exe_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (keeper->exe_fd < 0)
		return -errno;
	n = readlink("/proc/self/exe", keeper->path, sizeof(keeper->path) - 1);
	if (n < 0)
		return -errno;
	keeper->path[n] = '\0';
	return 0;
}

static int signals_open(struct keeper *keeper)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	keeper->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return keeper->signal_fd < 0 ? -errno : 0;
}

static void sockets_close(struct keeper *keeper)
{
	const struct syn_config *config = keeper->config;
	uint32_t i;

	for (i = 0; i < config->nr_tenants; i++) {
		if (keeper->listener[i].fd < 0)
			continue;
		syn_closep(&keeper->listener[i].fd);
		syn_listener_unlink(&config->tenant[i], &keeper->listener[i]);
	}
}

static int keeper_run(struct keeper *keeper)
{
	int code = -1;

	while (code < 0) {
		int r = worker_spawn(keeper);

		if (r) {
			syn_error("a worker cannot be started: %s",
				  strerror(-r));
			return 1;
		}
		code = keeper_serve(keeper);
	}
	return code;
}

int syn_keeper_main(const struct syn_config *config)
{
	struct keeper keeper = {
		.config = config,
		.signal_fd = -1,
		.exe_fd = -1,
		.next_fd = -1,
		.pid_fd = -1,
		.sock = -1,
	};
	int code = 1;
	uint32_t i;

	for (i = 0; i < SYN_TENANTS_MAX; i++)
		keeper.listener[i].fd = -1;
	if (program_open(&keeper) == 0 && signals_open(&keeper) == 0 &&
	    syn_listeners_open(config, keeper.listener) == 0)
		code = keeper_run(&keeper);
	worker_kill(&keeper);
	syn_hold_end(&keeper.hold, "the daemon is shutting down");
	sockets_close(&keeper);
	syn_close(keeper.signal_fd);
	syn_close(keeper.exe_fd);
	syn_close(keeper.next_fd);
	return code;
}
