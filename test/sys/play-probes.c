/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fires the probes that it is told to, as a daemon would that has a reason:
 * what listens to them can be tested exactly.
 *
 * As in synapsed, a parent watches a child that does the work.  The child reads
 * lines "NAME ARG..." (at most four numbers), fires the probe, and answers "PID
 * NAME".  "sleep MS" sleeps; "flood N" begins faults of N pages.  At "die" it dies, and another one goes on.  The
 * end of stdin ends both.
 */
#include <stdio.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/trace.h"

#define PLAY_ARGS 4
#define PLAY_DIED 1

static bool fire(const char *name, const long long *arg)
{
#if SYN_HAVE_SDT
#define FIRE(probe)                                                            \
	if (!strcmp(name, #probe)) {                                           \
		SYN_PROBE(probe, arg[0], arg[1], arg[2], arg[3]);              \
		return true;                                                   \
	}
	SYN_PROBES(FIRE)
#undef FIRE
#endif
	return false;
}

static bool flood(long long nr)
{
	for (long long page = 0; page < nr; page++)
		if (!fire("fault_begin", (const long long[]){ 1, page, 2, 1 }))
			return false;
	return true;
}

static bool play(const char *name, const long long *arg)
{
	if (!strcmp(name, "sleep"))
		return usleep((useconds_t)arg[0] * 1000u) == 0;
	if (!strcmp(name, "flood"))
		return flood(arg[0]);
	if (!strcmp(name, "die"))
		_exit(PLAY_DIED);
	return fire(name, arg);
}

/* Byte by byte: what follows is for the next child, if this one dies. */
static bool line_read(char *line, size_t max)
{
	size_t nr = 0;

	while (nr + 1 < max && read(STDIN_FILENO, &line[nr], 1) == 1) {
		if (line[nr] == '\n') {
			line[nr] = '\0';
			return true;
		}
		nr++;
	}
	return false;
}

static int child_run(void)
{
	char line[128];

	(void)printf("%d ready\n", (int)getpid());
	while (!fflush(stdout) && line_read(line, sizeof(line))) {
		long long arg[PLAY_ARGS] = { 0 };
		char name[32];

		if (sscanf(line, "%31s %lld %lld %lld %lld", name, &arg[0],
			   &arg[1], &arg[2], &arg[3]) < 1 ||
		    !play(name, arg))
			return 2;
		(void)printf("%d %s\n", (int)getpid(), name);
	}
	return 0;
}

int main(void)
{
	int status;
	pid_t pid;

	do {
		pid = fork();
		if (pid == 0)
			_exit(child_run());
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return 2;
	} while (WIFEXITED(status) && WEXITSTATUS(status) == PLAY_DIED);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
