/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs where.  Daemon and library spin only if they see two CPUs when they
 * begin, so both begin unbound and are bound afterwards.
 */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>

#include "core/base/base.h"
#include "tools/bench/bench.h"

static cpu_set_t all_cpus;

void syn_cpu_choose(struct syn_bench *bench)
{
	int found = 0;

	if (sched_getaffinity(0, sizeof(all_cpus), &all_cpus) < 0)
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++) {
		if (!CPU_ISSET((unsigned int)cpu, &all_cpus))
			continue;
		if (found++ == 0)
			bench->client_cpu = cpu;
		bench->daemon_cpu = cpu;
	}
}

static void task_bind(pid_t task, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned int)cpu, &set);
	(void)sched_setaffinity(task, sizeof(set), &set);
}

void syn_cpu_bind(int cpu)
{
	task_bind(0, cpu);
}

void syn_cpu_free(void)
{
	(void)sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

void syn_cpu_bind_process(pid_t pid, int cpu)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			task_bind(atoi(entry->d_name), cpu);
	if (dir)
		(void)closedir(dir);
}
