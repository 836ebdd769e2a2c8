/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked into synapsed: a worker dies at a failpoint where too few have died.
 *
 * Where one can come by only after a death somewhere else, that place is chosen
 * again and again: a worker remembers where the one before it died.
 */
#include "test/sys/crash-arm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/base/failpoint.h"
#include "core/lease.h"
#include "core/mm-internal.h"
#include "ipc/server/server.h"

/* Places passed before one kills, at most, ... */
#define CRASH_PASSES 4u
/* ... where so many have come by. */
#define CRASH_OFTEN 1000u
/* A worker that serves does so for so long, at most. */
#define CRASH_US 30000u
/* The keeper gives up after five in a row that did not serve. */
#define CRASH_UNSERVED 3u

struct crash_table *crash;

static const struct syn_mm *crash_mm;
static bool armed;
static bool served;
static uint64_t passes;
static size_t target = CRASH_POINTS_MAX;

static size_t points(void)
{
	size_t nr = (size_t)(__stop_syn_failpoints - __start_syn_failpoints);

	return syn_min(nr, (size_t)CRASH_POINTS_MAX);
}

uint64_t crash_random(uint64_t below)
{
	uint64_t z = __atomic_add_fetch(&crash->seed, 0x9e3779b97f4a7c15u,
					__ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

/* ---- what is outstanding ------------------------------------------------ */

static bool lease_pinned(const struct syn_mm *mm, uint32_t lessee)
{
	const struct syn_rec_lessee *l = &mm->lessee[lessee];

	return l->flags & SYN_LESSEE_USED && !(l->flags & SYN_LESSEE_GONE) &&
	       mm->session[l->session] &&
	       SYN_PIN_COUNT(syn_lease_pins(mm, lessee));
}

static void held_leases(const struct syn_mm *mm, bool *held)
{
	for (uint32_t i = 0; i < mm->lessee_used; i++) {
		held[CRASH_LEASES] |= mm->lessee[i].flags;
		held[CRASH_PINS] |= lease_pinned(mm, i);
	}
	for (uint32_t i = 0; i < mm->cfg.max_sessions; i++)
		held[CRASH_LOANS] |= mm->session[i] && mm->session[i]->nr_loans;
}

static void held_count(void)
{
	const struct syn_mm *mm = crash_mm;
	bool held[CRASH_HELD_NR] = { false };

	held_leases(mm, held);
	for (uint32_t i = 0; i < SYN_MOVES_MAX; i++)
		held[CRASH_MOVES] |= mm->move[i].state != SYN_MOVE_FREE;
	for (uint32_t i = 0; i < SYN_SWAPS_MAX; i++)
		held[CRASH_SWAPS] |= mm->swap[i].state != SYN_SWAP_FREE;
	for (uint32_t i = 0; i < mm->quarantine_used; i++)
		held[CRASH_QUARANTINE] |=
			mm->quarantine[i].state == SYN_QUARANTINE_HELD;
	for (uint32_t i = 0; i < CRASH_CLIENTS; i++)
		held[CRASH_SEALS] |= syn_load_relaxed(&crash->sealing[i]);
	held[CRASH_REQUESTS] = mm->head->request.state != SYN_REQUEST_NONE;
	held[CRASH_REDO] = mm->redo->state != SYN_REDO_NONE;
	for (uint32_t i = 0; i < CRASH_HELD_NR; i++)
		crash->held[i] += held[i];
}

/* ---- death -------------------------------------------------------------- */

static void crash_die(size_t point)
{
	if (crash->armed == CRASH_AT)
		crash->armed = CRASH_OFF;
	crash->point[point].nr++;
	/* What one that served has left is there until another one serves. */
	if (served)
		crash->last = point + 1;
	crash->unserved += !served;
	if (crash_mm)
		held_count();
	crash->nr_deaths++;
	(void)kill(getpid(), crash->signo ? (int)crash->signo : SIGKILL);
	for (;;)
		(void)pause();
}

static bool point_kills(size_t i)
{
	if (i == target)
		return true;
	return crash->armed != CRASH_AT && crash->point[i].nr < crash->every;
}

void __wrap_syn_failpoint_pass(struct syn_failpoint *point);
void __wrap_syn_failpoint_pass(struct syn_failpoint *point)
{
	size_t i = (size_t)(point - __start_syn_failpoints);

	if (!crash || i >= points())
		return;
	crash->point[i].passed++;
	if (!served && crash->last)
		crash->point[i].after = crash->last;
	if (!armed || !point_kills(i))
		return;
	if (passes &&
	    (crash->armed == CRASH_AT || crash->point[i].passed > CRASH_OFTEN))
		passes--;
	else
		crash_die(i);
}

int __real_syn_mm_new(struct syn_mm **ret, const struct syn_mm_config *config);
int __wrap_syn_mm_new(struct syn_mm **ret, const struct syn_mm_config *config);
int __wrap_syn_mm_new(struct syn_mm **ret, const struct syn_mm_config *config)
{
	int r = __real_syn_mm_new(ret, config);

	crash_mm = r ? NULL : *ret;
	return r;
}

int __real_syn_mm_adopt(struct syn_mm **ret, const struct syn_mm_config *config,
			struct syn_misfit *ret_misfit);
int __wrap_syn_mm_adopt(struct syn_mm **ret, const struct syn_mm_config *config,
			struct syn_misfit *ret_misfit);
int __wrap_syn_mm_adopt(struct syn_mm **ret, const struct syn_mm_config *config,
			struct syn_misfit *ret_misfit)
{
	int r = __real_syn_mm_adopt(ret, config, ret_misfit);

	crash_mm = r ? NULL : *ret;
	return r;
}

struct syn_mm *__real_syn_mm_free(struct syn_mm *mm);
struct syn_mm *__wrap_syn_mm_free(struct syn_mm *mm);
struct syn_mm *__wrap_syn_mm_free(struct syn_mm *mm)
{
	crash_mm = NULL;
	return __real_syn_mm_free(mm);
}

/* ---- when and where ----------------------------------------------------- */

static void on_time(int signo)
{
	(void)signo;
	armed = true;
}

static void crash_arm_after(uint64_t us)
{
	const struct itimerval timer = {
		.it_value = { .tv_usec = (suseconds_t)us + 1 },
	};

	(void)signal(SIGALRM, on_time);
	(void)setitimer(ITIMER_REAL, &timer, NULL);
}

/* One that somebody has come by, where fewest died. */
static size_t point_rarest(void)
{
	size_t first = crash_random(points());
	size_t best = CRASH_POINTS_MAX;

	for (size_t i = 0; i < points(); i++) {
		size_t at = (first + i) % points();

		if (crash->point[at].passed &&
		    (best == CRASH_POINTS_MAX ||
		     crash->point[at].nr < crash->point[best].nr))
			best = at;
	}
	return best;
}

/* Besides all where too few died: any, or what leads to the rarest. */
static void target_choose(void)
{
	size_t rarest = point_rarest();

	if (crash_random(3) == 0)
		target = crash_random(points());
	else if (rarest < points() && crash->point[rarest].after)
		target = crash->point[rarest].after - 1;
}

static void crash_arm(void)
{
	armed = true;
	if (crash->armed == CRASH_AT) {
		target = crash->at;
		passes = crash->nth - 1;
	} else if (crash->armed == CRASH_RUN) {
		target_choose();
		passes = crash_random(CRASH_PASSES);
		armed = crash->unserved < CRASH_UNSERVED;
	}
}

int __real_syn_server_new(struct syn_server **ret,
			  const struct syn_server_config *config);
int __wrap_syn_server_new(struct syn_server **ret,
			  const struct syn_server_config *config);
int __wrap_syn_server_new(struct syn_server **ret,
			  const struct syn_server_config *config)
{
	int r = __real_syn_server_new(ret, config);

	if (crash && crash->armed == CRASH_START) {
		crash->started = 1;
		(void)kill(getpid(), SIGKILL);
	}
	return r;
}

static void crash_serves(void)
{
	crash->unserved = 0;
	/* What fails from now on is another matter. */
	crash->spared = __atomic_exchange_n(&crash->left, 0, __ATOMIC_RELAXED);
	if (crash->armed == CRASH_RUN) {
		armed = false;
		crash_arm_after(crash_random(CRASH_US));
	}
}

int __real_syn_server_run(struct syn_server *server);
int __wrap_syn_server_run(struct syn_server *server);
int __wrap_syn_server_run(struct syn_server *server)
{
	served = true;
	if (crash)
		crash_serves();
	return __real_syn_server_run(server);
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
	if (crash->armed != CRASH_OFF)
		crash_arm();
}
