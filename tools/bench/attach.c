/* SPDX-License-Identifier: Apache-2.0 */
/* What a session costs to get, and what many cost that do nothing. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/base/base.h"
#include "tools/bench/bench.h"

#define ATTACH_NR     20u
#define IDLE_SETTLE_S 1
#define IDLE_S	      10

static const struct syn_daemon_opts small_daemon = {
	.hbm_mib = 64,
	.host_mib = 64,
	.max_pages = 65536,
};

static int attach_time(const struct syn_daemon *daemon, double *ret_ms)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);
	struct syn_client *client;
	uint64_t start_ns = syn_now_ns();
	int r;

	opts.path = daemon->socket;
	r = syn_attach(&opts, &client, NULL);
	*ret_ms = (double)(syn_now_ns() - start_ns) / 1e6;
	if (r < 0)
		return syn_bench_fail("attach", r);
	client = syn_detach(client);
	return 0;
}

static int attach_run(struct syn_bench *bench, const struct syn_daemon *daemon)
{
	double ms[ATTACH_NR];
	int r = 0;

	for (unsigned int run = 0; run < bench->runs && r == 0; run++) {
		for (unsigned int i = 0; i < ATTACH_NR && r == 0; i++)
			r = attach_time(daemon, &ms[i]);
		if (r == 0)
			syn_figure_add(&bench->figures, "attach", "attach",
				       "ms", SYN_GOAL_AT_MOST, 5,
				       syn_median(ms, ATTACH_NR));
	}
	return r;
}

int syn_bench_attach(struct syn_bench *bench)
{
	struct syn_daemon daemon;
	int r;

	r = syn_daemon_start(bench, &small_daemon, &daemon);
	if (r < 0)
		return r;
	r = attach_run(bench, &daemon);
	syn_daemon_stop(&daemon);
	return r;
}

/* Switches of one thread, both kinds. */
static uint64_t task_switches(pid_t pid, const char *task)
{
	char path[300], line[128];
	uint64_t sum = 0, nr;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid,
		       task);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &nr) == 1)
			sum += nr;
		if (sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &nr) ==
		    1)
			sum += nr;
	}
	(void)fclose(file);
	return sum;
}

/* Of all threads of @pid; -errno when it is not there. */
static int process_switches(pid_t pid, uint64_t *ret)
{
	struct dirent *entry;
	uint64_t sum = 0;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			sum += task_switches(pid, entry->d_name);
	(void)closedir(dir);
	*ret = sum;
	return 0;
}

static int idle_run(struct syn_bench *bench, const struct syn_daemon *daemon)
{
	uint64_t before[2], after[2];
	int r;

	(void)sleep(IDLE_SETTLE_S);
	r = process_switches(daemon->worker, &before[0]);
	if (r == 0)
		r = process_switches(daemon->keeper, &before[1]);
	(void)sleep(IDLE_S);
	if (r == 0)
		r = process_switches(daemon->worker, &after[0]);
	if (r == 0)
		r = process_switches(daemon->keeper, &after[1]);
	if (r < 0)
		return syn_bench_fail("/proc", r);
	syn_figure_add(&bench->figures, "idle", "worker's switches in 10 s", "",
		       SYN_GOAL_AT_MOST, 0, (double)(after[0] - before[0]));
	syn_figure_add(&bench->figures, "idle", "keeper's switches in 10 s", "",
		       SYN_GOAL_AT_MOST, 0, (double)(after[1] - before[1]));
	return 0;
}

/* Once: a run takes long, and a single switch is a miss. */
int syn_bench_idle(struct syn_bench *bench)
{
	struct syn_client *crowd[SYN_IDLE_SESSIONS];
	struct syn_daemon daemon;
	int r;

	r = syn_daemon_start(bench, &small_daemon, &daemon);
	if (r < 0)
		return r;
	r = syn_crowd_open(&daemon, crowd, SYN_IDLE_SESSIONS);
	if (r == 0) {
		r = idle_run(bench, &daemon);
		syn_crowd_close(crowd, SYN_IDLE_SESSIONS);
	}
	syn_daemon_stop(&daemon);
	return r;
}
