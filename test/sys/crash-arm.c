/* SPDX-License-Identifier: Apache-2.0 */
/* Linked into synapsed: a worker dies, or has a call fail, where it was told to. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "ipc/server/server.h"
#include "test/sys/crash.h"

/* Failpoints passed before one kills, at most. */
#define CRASH_PASSES 4u
/* A time is chosen, then any failpoint kills. */
#define CRASH_US 60000u
/* One worker of so many comes so far as to serve: the keeper does not give up. */
#define CRASH_SPARED   4u
#define CRASH_SPARE_US 800000u

static struct crash_table *crash;

static size_t points(void)
{
	size_t nr = (size_t)(__stop_syn_failpoints - __start_syn_failpoints);

	return syn_min(nr, (size_t)CRASH_POINTS_MAX);
}

/* splitmix64 over a word that all workers share. */
static uint64_t crash_random(uint64_t below)
{
	uint64_t z = __atomic_add_fetch(&crash->seed, 0x9e3779b97f4a7c15u,
					__ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void crash_die(void)
{
	for (size_t i = 0; i < points(); i++)
		if (__start_syn_failpoints[i].nr)
			crash->point[i].nr++;
	crash->nr_deaths++;
	crash->chosen = 0;
	(void)kill(getpid(), crash->signo ? (int)crash->signo : SIGKILL);
	for (;;)
		(void)pause();
}

static void crash_describe(void)
{
	for (size_t i = 0; i < points(); i++) {
		const struct syn_failpoint *at = &__start_syn_failpoints[i];
		const char *file = strrchr(at->file, '/');

		(void)snprintf(crash->point[i].name, CRASH_NAME_BYTES,
			       "%s:%d %s", file ? file + 1 : at->file, at->line,
			       at->func);
	}
	crash->nr_points = points();
}

/* One of those where fewest died. */
static const struct syn_failpoint *point_rarest(void)
{
	size_t first = crash_random(points());
	size_t best = first;

	for (size_t i = 0; i < points(); i++) {
		size_t at = (first + i) % points();

		if (crash->point[at].nr < crash->point[best].nr)
			best = at;
	}
	return &__start_syn_failpoints[best];
}

static void on_time(int signo)
{
	(void)signo;
	syn_failpoint_arm(NULL, 1 + crash_random(CRASH_PASSES), crash_die);
}

static void crash_arm_after(uint64_t us)
{
	const struct itimerval timer = {
		.it_value = { .tv_usec = (suseconds_t)us + 1 },
	};

	(void)signal(SIGALRM, on_time);
	(void)setitimer(ITIMER_REAL, &timer, NULL);
}

static void crash_arm(void)
{
	if (++crash->nr_workers % CRASH_SPARED == 0)
		crash_arm_after(CRASH_SPARE_US + crash_random(CRASH_US));
	else if (crash_random(2))
		crash_arm_after(crash_random(CRASH_US));
	else
		syn_failpoint_arm(point_rarest(),
				  1 + crash_random(CRASH_PASSES), crash_die);
}

/* ---- calls that fail ---------------------------------------------------- */

bool __wrap_syn_fault(void);
void *__real_syn_alloc(size_t nr, size_t size);
void *__wrap_syn_alloc(size_t nr, size_t size);
int __real_syn_server_run(struct syn_server *server);
int __wrap_syn_server_run(struct syn_server *server);

/* As syn_fault(), with a counter that the test sees. */
bool __wrap_syn_fault(void)
{
	uint64_t left = crash ? syn_load_relaxed(&crash->left) : 0;

	while (left)
		if (__atomic_compare_exchange_n(&crash->left, &left, left - 1,
						false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return left == 1;
	return false;
}

void *__wrap_syn_alloc(size_t nr, size_t size)
{
	if (__wrap_syn_fault()) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_syn_alloc(nr, size);
}

/* What fails from now on is another matter. */
int __wrap_syn_server_run(struct syn_server *server)
{
	if (crash)
		crash->spared =
			__atomic_exchange_n(&crash->left, 0, __ATOMIC_RELAXED);
	return __real_syn_server_run(server);
}

/* Before main(): the keeper has no such word. */
__attribute__((constructor)) static void crash_setup(int argc, char **argv)
{
	syn_cleanup(syn_closep) int fd = -1;
	const char *path = getenv(CRASH_ENV);
	void *map;

	if (!path || argc < 2 ||
	    (strcmp(argv[1], "--worker") != 0 &&
	     strcmp(argv[1], "--systemd") != 0))
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*crash), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   0);
	if (map == MAP_FAILED)
		return;
	crash = map;
	crash->left = crash->fails;
	crash->fails = 0;
	crash_describe();
	if (crash->chosen)
		syn_failpoint_arm(&__start_syn_failpoints[crash->chosen - 1],
				  crash->nth, crash_die);
	else if (crash->armed)
		crash_arm();
}
