/* SPDX-License-Identifier: Apache-2.0 */
/* Holds descriptors, watches the worker. */
#include "tools/synapsed/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if SYN_HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "ipc/conn.h"
#include "tools/synapsed/keep.h"
#include "tools/synapsed/worker.h"

/* Workers that die faster than this will not do better. */
#define KEEPER_DEATHS	 5
#define KEEPER_DEATHS_NS 10000000000u
/* A worker that was asked to stop has so long. */
#define KEEPER_PATIENCE_NS 5000000000u

/* @fd: those that were put together; -1 after the last. */
struct kept {
	uint32_t kind;
	uint32_t id;
	int fd[SYN_FDS_MAX];
};

/* @stat: of the socket's file; @dir: canonical, of its directory. */
struct listener {
	int fd;
	struct stat stat;
	char dir[SYN_CONFIG_TEXT_BYTES];
};

/**
 * struct keeper - the parent's state.
 * @config:	checked.
 * @listener:	the tenants' listening sockets.
 * @signal_fd:	SIGTERM and SIGINT.
 * @kept:	what the worker that runs has put.
 * @nr_kept:	their number.
 * @max_kept:	room.
 * @epoch:	number of the worker that runs.
 * @pid:	the worker; 0: none.
 * @pid_fd:	the worker's.
 * @sock:	to the worker.
 * @ready:	a worker has served.
 * @stopping:	asked to end.
 * @stop_ns:	when it was asked.
 * @died_ns:	when the last workers died, oldest overwritten.
 * @nr_died:	deaths so far.
 */
struct keeper {
	const struct syn_config *config;
	struct listener listener[SYN_TENANTS_MAX];
	int signal_fd;
	struct kept *kept;
	size_t nr_kept;
	size_t max_kept;
	uint64_t epoch;
	pid_t pid;
	int pid_fd;
	int sock;
	bool ready;
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

/* ---- kept descriptors --------------------------------------------------- */

static void fds_close(int *fds)
{
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		syn_closep(&fds[i]);
}

/* Takes @fds when it succeeds. */
static int kept_add(struct keeper *keeper, uint32_t kind, uint32_t id,
		    const int *fds)
{
	struct kept *kept;

	if (keeper->nr_kept == keeper->max_kept) {
		size_t max = keeper->max_kept ? 2 * keeper->max_kept : 64;
		struct kept *more = syn_alloc(max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (keeper->nr_kept)
			memcpy(more, keeper->kept,
			       keeper->nr_kept * sizeof(*more));
		free(keeper->kept);
		keeper->kept = more;
		keeper->max_kept = max;
	}
	kept = &keeper->kept[keeper->nr_kept++];
	kept->kind = kind;
	kept->id = id;
	memcpy(kept->fd, fds, sizeof(kept->fd));
	return 0;
}

static void kept_drop(struct keeper *keeper, uint32_t kind, uint32_t id)
{
	for (size_t i = 0; i < keeper->nr_kept; i++) {
		struct kept *kept = &keeper->kept[i];

		if (kept->kind != kind || kept->id != id)
			continue;
		fds_close(kept->fd);
		*kept = keeper->kept[--keeper->nr_kept];
		return;
	}
}

/* Tells every client that its session is over, and forgets everything. */
static void kept_end(struct keeper *keeper, const char *reason)
{
	struct syn_msg_bye bye = {
		.msg = { .type = SYN_MSG_BYE,
			 .size = sizeof(bye),
			 .error = -ESHUTDOWN },
	};

	(void)snprintf(bye.reason, sizeof(bye.reason), "%s", reason);
	for (size_t i = 0; i < keeper->nr_kept; i++) {
		struct kept *kept = &keeper->kept[i];
		int sock = kept->fd[SYN_SERVER_FD_SOCKET];

		if (kept->kind == SYN_SERVER_KEEP_SESSION) {
			(void)syn_conn_send(sock, &bye.msg, NULL, 0);
			/* The client's other duplicates must not matter. */
			(void)shutdown(sock, SHUT_RDWR);
		}
		fds_close(kept->fd);
	}
	keeper->nr_kept = 0;
}

/* ---- the worker --------------------------------------------------------- */

static void worker_exec(int sock)
{
	char text[16];
	char name[] = "synapsed";
	char flag[] = "--worker";
	char *const argv[] = { name, flag, text, NULL };
	sigset_t none;

	(void)snprintf(text, sizeof(text), "%d", sock);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (fcntl(sock, F_SETFD, 0) == 0)
		(void)execv("/proc/self/exe", argv);
	_exit(127);
}

static int worker_start(struct keeper *keeper, int kept_fd, uint64_t bytes)
{
	struct syn_keep_start start = {
		.msg = { .type = SYN_KEEP_START, .size = sizeof(start) },
		.epoch = keeper->epoch,
		.kept_bytes = bytes,
		.keeper_pid = (uint32_t)getpid(),
		.config = *keeper->config,
	};

	return syn_conn_send(keeper->sock, &start.msg, &kept_fd, 1);
}

static int worker_listen(struct keeper *keeper)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < keeper->config->nr_tenants && !r; i++) {
		const struct listener *l = &keeper->listener[i];
		struct syn_keep_listen msg = {
			.msg = { .type = SYN_KEEP_LISTEN, .size = sizeof(msg) },
			.dev = l->stat.st_dev,
			.ino = l->stat.st_ino,
		};

		memcpy(msg.dir, l->dir, sizeof(msg.dir));
		r = syn_conn_send(keeper->sock, &msg.msg, &l->fd, 1);
	}
	return r;
}

static int worker_fork(struct keeper *keeper)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		worker_exec(pair[1]);
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

/* Kept memory begins anew with each worker. */
static int worker_spawn(struct keeper *keeper)
{
	syn_cleanup(syn_closep) int kept_fd = -1;
	uint64_t bytes = syn_worker_kept_bytes(keeper->config);
	int r;

	r = syn_conn_segment_new("synapse-kept", bytes, &kept_fd);
	if (r)
		return r;
	r = worker_fork(keeper);
	if (r)
		return r;
	keeper->epoch++;
	r = worker_start(keeper, kept_fd, bytes);
	return r ? r : worker_listen(keeper);
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

/* Returns the exit code when the keeper must end too, else -1. */
static int worker_gone(struct keeper *keeper)
{
	char reason[SYN_REASON_BYTES];
	int status = 0;

	(void)waitpid(keeper->pid, &status, 0);
	worker_forget(keeper);
	if (WIFSIGNALED(status))
		(void)snprintf(reason, sizeof(reason),
			       "the worker died (signal %d); attach again",
			       WTERMSIG(status));
	else
		(void)snprintf(reason, sizeof(reason),
			       "the worker died (exit %d); attach again",
			       WEXITSTATUS(status));
	kept_end(keeper, reason);
	if (keeper->stopping || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return 0;
	syn_error("%s", reason);
	if (!keeper->ready) {
		syn_error("the worker could not start");
		return 1;
	}
	if (worker_hopeless(keeper)) {
		syn_error("%d workers died in a row; giving up", KEEPER_DEATHS);
		return 1;
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

static void worker_said(struct keeper *keeper)
{
	struct syn_keep_msg m = { 0 };
	int fds[SYN_FDS_MAX];
	int r;

	r = syn_conn_recv(keeper->sock, &m, sizeof(m), fds);
	if (r == 0) {
		/* End of file; the pidfd tells the rest. */
		keeper->sock = syn_close(keeper->sock);
		return;
	}
	if (r < 0) {
		/* Only a PUT whose descriptors found no room here comes so. */
		put_answer(keeper, r);
		return;
	}
	if (r != (int)sizeof(m))
		return;
	switch (m.msg.type) {
	case SYN_KEEP_READY:
		if (!keeper->ready)
			service_notify("READY=1");
		keeper->ready = true;
		syn_info("ready: %s, worker %d, epoch %llu",
			 keeper->config->tenant[0].socket, (int)keeper->pid,
			 (unsigned long long)keeper->epoch);
		break;
	case SYN_KEEP_PUT:
		r = kept_add(keeper, m.kind, m.id, fds);
		if (r)
			fds_close(fds);
		put_answer(keeper, r);
		break;
	case SYN_KEEP_DROP:
		kept_drop(keeper, m.kind, m.id);
		break;
	}
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

	if (!keeper->stopping)
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

/* The directory is what is missing when a path to a new file is -ENOENT. */
static void listen_complain(const char *path, int error)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? (int)(slash - path) : 0;

	if (error == -EADDRINUSE)
		syn_error("%s: a daemon answers there already", path);
	else if (error == -ENOENT && len)
		syn_error("%.*s: no such directory (for the socket)", len,
			  path);
	else
		syn_error("%s: %s", path, strerror(-error));
}

/* However it is spelt, it is one directory, and one domain. */
static int socket_dir(const char *path, char *ret)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char text[SYN_CONFIG_TEXT_BYTES];
	char *real;

	(void)snprintf(text, sizeof(text), "%.*s", (int)len, path);
	if (!len)
		(void)snprintf(text, sizeof(text), "%s", slash ? "/" : ".");
	real = realpath(text, NULL);
	if (!real)
		return -errno;
	len = strlen(real);
	if (len < SYN_CONFIG_TEXT_BYTES)
		memcpy(ret, real, len + 1);
	free(real);
	return len < SYN_CONFIG_TEXT_BYTES ? 0 : -ENAMETOOLONG;
}

static int socket_open(const struct syn_tenant *tenant, struct listener *ret)
{
	int r;

	r = syn_conn_listen(tenant->socket, (unsigned int)tenant->socket_mode,
			    &ret->fd);
	if (!r && stat(tenant->socket, &ret->stat) < 0)
		r = -errno;
	if (!r)
		r = socket_dir(tenant->socket, ret->dir);
	if (r)
		listen_complain(tenant->socket, r);
	return r;
}

static bool dir_taken(const struct keeper *keeper, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (!strcmp(keeper->listener[i].dir, keeper->listener[nr].dir))
			return true;
	return false;
}

static int sockets_open(struct keeper *keeper)
{
	const struct syn_config *config = keeper->config;
	uint32_t i;
	int r = 0;

	for (i = 0; i < config->nr_tenants && !r; i++) {
		r = socket_open(&config->tenant[i], &keeper->listener[i]);
		if (!r && dir_taken(keeper, i)) {
			syn_error("%s: expected a directory of its own",
				  config->tenant[i].socket);
			r = -EINVAL;
		}
	}
	return r;
}

static void socket_close(const struct syn_tenant *tenant,
			 struct listener *listener)
{
	struct stat now;

	if (listener->fd < 0)
		return;
	syn_closep(&listener->fd);
	/* Somebody may have put another in its place. */
	if (stat(tenant->socket, &now) == 0 &&
	    now.st_ino == listener->stat.st_ino &&
	    now.st_dev == listener->stat.st_dev)
		(void)unlink(tenant->socket);
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
		.config = config, .signal_fd = -1, .pid_fd = -1, .sock = -1
	};
	int code = 1;
	uint32_t i;

	for (i = 0; i < SYN_TENANTS_MAX; i++)
		keeper.listener[i].fd = -1;
	if (signals_open(&keeper) == 0 && sockets_open(&keeper) == 0)
		code = keeper_run(&keeper);
	worker_kill(&keeper);
	kept_end(&keeper, "the daemon is shutting down");
	for (i = 0; i < config->nr_tenants; i++)
		socket_close(&config->tenant[i], &keeper.listener[i]);
	syn_close(keeper.signal_fd);
	free(keeper.kept);
	return code;
}
