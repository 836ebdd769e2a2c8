/* SPDX-License-Identifier: Apache-2.0 */
/* A synapsed of our own, and clients of it. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "tools/bench/bench.h"
#include "tools/ctl/query.h"

#define START_TIMEOUT_NS 20000000000u
#define STOP_TIMEOUT_NS	 10000000000u
#define POLL_NS		 5000000

int syn_bench_fail(const char *what, int error)
{
	(void)fprintf(stderr, "synapse-bench: %s: %s\n", what,
		      error < 0 ? strerror(-error) : "refused");
	return error < 0 ? error : -EAGAIN;
}

static void poll_sleep(void)
{
	const struct timespec ts = { .tv_nsec = POLL_NS };

	(void)nanosleep(&ts, NULL);
}

static int config_write(const struct syn_daemon *daemon,
			const struct syn_daemon_opts *opts)
{
	char path[128];
	FILE *file;
	int r = 0;

	(void)snprintf(path, sizeof(path), "%s/conf", daemon->dir);
	file = fopen(path, "we");
	if (!file)
		return -errno;
	(void)fprintf(file,
		      "[daemon]\n"
		      "socket = %s\n"
		      "max_pages = %" PRIu32 "\n"
		      "max_sessions = %u\n"
		      "[hbm]\n"
		      "device = %s\n"
		      "budget = %" PRIu64 "M\n"
		      "[host]\n"
		      "budget = %" PRIu64 "M\n"
		      "[ladder]\n"
		      "host = %s\n",
		      daemon->socket, opts->max_pages, SYN_IDLE_SESSIONS + 16,
		      opts->device ? opts->device : "host", opts->hbm_mib,
		      opts->host_mib, opts->ladder ? opts->ladder : "raw16");
	if (ferror(file))
		r = -EIO;
	if (fclose(file) != 0)
		r = -errno;
	return r;
}

/* In the child: becomes the daemon, with its log in a file. */
__attribute__((noreturn)) static void
daemon_exec(const struct syn_bench *bench, const struct syn_daemon *daemon)
{
	char config[128], log[128];
	int fd;

	(void)snprintf(config, sizeof(config), "%s/conf", daemon->dir);
	(void)snprintf(log, sizeof(log), "%s/log", daemon->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		(void)dup2(fd, STDOUT_FILENO);
		(void)dup2(fd, STDERR_FILENO);
	}
	syn_cpu_free();
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)execl(bench->synapsed, bench->synapsed, "--config", config,
		    (char *)NULL);
	(void)fprintf(stderr, "%s: %s\n", bench->synapsed, strerror(errno));
	_exit(127);
}

static void log_copy(const struct syn_daemon *daemon)
{
	char path[128], buf[4096];
	size_t nr;
	FILE *log;

	(void)snprintf(path, sizeof(path), "%s/log", daemon->dir);
	log = fopen(path, "re");
	if (!log)
		return;
	while ((nr = fread(buf, 1, sizeof(buf), log)) > 0)
		(void)fwrite(buf, 1, nr, stderr);
	(void)fclose(log);
}

static int daemon_wait(struct syn_daemon *daemon)
{
	uint64_t end_ns = syn_now_ns() + START_TIMEOUT_NS;
	struct syn_ctl_status status;

	while (syn_now_ns() < end_ns) {
		if (waitpid(daemon->keeper, NULL, WNOHANG) == daemon->keeper) {
			daemon->keeper = -1;
			return -ECHILD;
		}
		if (syn_daemon_status(daemon, &status) == 0) {
			daemon->worker = (pid_t)status.worker_pid;
			return 0;
		}
		poll_sleep();
	}
	return -ETIMEDOUT;
}

int syn_daemon_start(const struct syn_bench *bench,
		     const struct syn_daemon_opts *opts, struct syn_daemon *ret)
{
	struct syn_daemon daemon = { .keeper = -1, .worker = -1 };
	int r;

	(void)snprintf(daemon.dir, sizeof(daemon.dir),
		       "/tmp/synapse-bench-XXXXXX");
	if (!mkdtemp(daemon.dir))
		return syn_bench_fail(daemon.dir, -errno);
	(void)snprintf(daemon.socket, sizeof(daemon.socket), "%s/sock",
		       daemon.dir);
	r = config_write(&daemon, opts);
	if (r < 0)
		goto stop_daemon;
	daemon.keeper = fork();
	if (daemon.keeper == 0)
		daemon_exec(bench, &daemon);
	r = daemon.keeper < 0 ? -errno : daemon_wait(&daemon);
	if (r < 0)
		goto stop_daemon;
	/* With a GPU, its threads wait for it, and workers need their CPUs. */
	if (!opts->device) {
		syn_cpu_bind_process(daemon.keeper, bench->daemon_cpu);
		syn_cpu_bind_process(daemon.worker, bench->daemon_cpu);
	}
	*ret = daemon;
	return 0;

stop_daemon:
	log_copy(&daemon);
	syn_daemon_stop(&daemon);
	return syn_bench_fail(bench->synapsed, r);
}

static void keeper_end(pid_t keeper)
{
	uint64_t end_ns = syn_now_ns() + STOP_TIMEOUT_NS;

	(void)kill(keeper, SIGTERM);
	while (waitpid(keeper, NULL, WNOHANG) == 0) {
		if (syn_now_ns() > end_ns)
			(void)kill(keeper, SIGKILL);
		poll_sleep();
	}
}

void syn_daemon_stop(struct syn_daemon *daemon)
{
	struct dirent *entry;
	DIR *dir;

	if (daemon->keeper > 0)
		keeper_end(daemon->keeper);
	daemon->keeper = -1;
	dir = opendir(daemon->dir);
	while (dir && (entry = readdir(dir)))
		(void)unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		(void)closedir(dir);
	(void)rmdir(daemon->dir);
}

int syn_daemon_status(const struct syn_daemon *daemon,
		      struct syn_ctl_status *ret)
{
	char reason[SYN_REASON_BYTES];
	struct syn_query *query;
	struct syn_answer answer;
	int r;

	r = syn_query_open(daemon->socket, &query, reason);
	if (r < 0)
		return r;
	r = syn_query_ask(query, SYN_CTL_STATUS, 0, 0, sizeof(*ret), &answer);
	if (r == 0 && answer.nr != 1)
		r = -EPROTO;
	if (r == 0)
		memcpy(ret, answer.records, sizeof(*ret));
	query = syn_query_close(query);
	return r;
}
