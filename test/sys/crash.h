/* SPDX-License-Identifier: Apache-2.0 */
/* What a test and the workers that it lets die or fail share, in a file. */
#ifndef SYN_TEST_SYS_CRASH_H
#define SYN_TEST_SYS_CRASH_H

#include <stdbool.h>
#include <stdint.h>

/* The environment of the daemon: where the file is. */
#define CRASH_ENV	 "SYN_TEST_CRASH"
#define CRASH_POINTS_MAX 1024u
#define CRASH_NAME_BYTES 56u
#define CRASH_CLIENTS	 7u

/**
 * struct crash_point - a failpoint, as the first worker found it.
 * @name:	file, function and line.
 * @nr:		workers that died there.
 * @passed:	times that workers came by.
 * @after:	where the last one that served had died, counted from 1, when
 *		one came by that did not yet; 0: none did.
 */
struct crash_point {
	char name[CRASH_NAME_BYTES];
	uint64_t nr;
	uint64_t passed;
	uint64_t after;
};

/* @armed of struct crash_table. */
#define CRASH_OFF   0u
#define CRASH_RUN   1u /* workers that take over, or serve */
#define CRASH_START 2u /* the first of a daemon, before it serves */
#define CRASH_AT    3u /* the next one, and only at a chosen place */

/* What was outstanding when a worker died. */
enum {
	CRASH_PINS,
	CRASH_LOANS,
	CRASH_LEASES,
	CRASH_MOVES,
	CRASH_SWAPS,
	CRASH_SEALS,
	CRASH_REQUESTS,
	CRASH_QUARANTINE,
	CRASH_REDO,
	CRASH_HELD_NR,
};

/* How an operation of the disk goes wrong. */
enum {
	CRASH_DISK_EIO,
	CRASH_DISK_ENOSPC,
	CRASH_DISK_SHORT,
	CRASH_DISK_TORN,
	CRASH_DISK_FLIPPED,
	CRASH_DISK_NR,
};

/**
 * struct crash_disk - what is wrong with the disk.
 * @nth:	operation from now on that fails; 0: none will.
 * @kind:	CRASH_DISK_*.
 * @again:	at most so many operations later the next one fails; 0: none.
 * @blind:	its first block cannot be read.
 * @nr:		operations that failed, by kind.
 */
struct crash_disk {
	uint64_t nth;
	uint64_t kind;
	uint64_t again;
	uint64_t blind;
	uint64_t nr[CRASH_DISK_NR];
};

/**
 * struct crash_table - the file.
 * @armed:	CRASH_*.
 * @every:	a worker dies where fewer than so many have died.
 * @at:	with CRASH_AT: the place ...
 * @nth:	... and when, counted from 1.
 * @signo:	by which signal they die; 0: SIGKILL.
 * @fails:	of the next worker this call fails, of those that can; 0: none.
 * @left:	calls until then, while it does not serve yet.
 * @spared:	of the last that came so far as to serve: what @left was then.
 * @seed:	of all choices.
 * @last:	where the last one that served died, counted from 1; 0: elsewhere.
 * @unserved:	workers in a row that died before they served.
 * @started:	with CRASH_START one came so far as to serve.
 * @nr_deaths:	at a failpoint.
 * @nr_points:	of the program.
 * @sealing:	by client: it asks for that.
 * @held:	deaths while such a thing was outstanding.
 * @disk:	see there.
 * @point:	each.
 */
struct crash_table {
	uint64_t armed;
	uint64_t every;
	uint64_t at;
	uint64_t nth;
	uint64_t signo;
	uint64_t fails;
	uint64_t left;
	uint64_t spared;
	uint64_t seed;
	uint64_t last;
	uint64_t unserved;
	uint64_t started;
	uint64_t nr_deaths;
	uint64_t nr_points;
	bool sealing[CRASH_CLIENTS];
	uint64_t held[CRASH_HELD_NR];
	struct crash_disk disk;
	struct crash_point point[CRASH_POINTS_MAX];
};

/* A file of zeroes at @path, of which the daemons to come are told. */
struct crash_table *crash_table_new(const char *path);
/* A worker that begins from now on dies when it comes by @point the @nth time. */
void crash_table_arm(struct crash_table *crash, uint64_t point, uint64_t nth);

#endif
