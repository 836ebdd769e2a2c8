/* SPDX-License-Identifier: Apache-2.0 */
/* What a test and the workers that it lets die or fail share, in a file. */
#ifndef SYN_TEST_SYS_CRASH_H
#define SYN_TEST_SYS_CRASH_H

#include <stdint.h>

/* The environment of the daemon: where the file is. */
#define CRASH_ENV	 "SYN_TEST_CRASH"
#define CRASH_POINTS_MAX 1024u
#define CRASH_NAME_BYTES 56u

/**
 * struct crash_point - a failpoint, as the first worker found it.
 * @name:	file, function and line.
 * @nr:		workers that died there.
 */
struct crash_point {
	char name[CRASH_NAME_BYTES];
	uint64_t nr;
};

/**
 * struct crash_table - the file.
 * @armed:	workers are to die.
 * @chosen:	the next one at this point, counted from 1, ...
 * @nth:	... when it comes by so many times (0: @armed says) ...
 * @signo:	... by this signal; 0: SIGKILL.
 * @fails:	of the next worker this call fails, of those that can; 0: none.
 * @left:	calls until then, while it does not serve yet.
 * @seed:	of the next worker's choice.
 * @nr_workers:	that were armed.
 * @nr_deaths:	at a failpoint.
 * @spared:	of the last that came so far as to serve: what @left was then.
 * @nr_points:	of the program.
 * @point:	each.
 */
struct crash_table {
	uint64_t armed;
	uint64_t chosen;
	uint64_t nth;
	uint64_t signo;
	uint64_t fails;
	uint64_t left;
	uint64_t seed;
	uint64_t nr_workers;
	uint64_t nr_deaths;
	uint64_t spared;
	uint64_t nr_points;
	struct crash_point point[CRASH_POINTS_MAX];
};

#endif
