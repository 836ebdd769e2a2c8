/* SPDX-License-Identifier: Apache-2.0 */
/* An interval on a stream, for people or for programs. */
#ifndef SYN_TOOLS_LAT_SHOW_H
#define SYN_TOOLS_LAT_SHOW_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/lat/daemon.h"
#include "tools/lat/table.h"
#include "tools/lat/trace.h"

/**
 * struct syn_lat_interval - what is to be shown.
 * @length_ns:	of the interval.
 * @by:		SYN_LAT_BY_*: the members of keys that mean something.
 * @counts:	of the interval, @counts.unfinished at its end.
 * @entries:	what came in it.
 * @nr:		of them.
 * @daemon:	knows the clients' names.
 */
struct syn_lat_interval {
	uint64_t length_ns;
	unsigned int by;
	struct syn_lat_counts counts;
	const struct syn_lat_entry *entries;
	size_t nr;
	const struct syn_lat_daemon *daemon;
};

/* 0 or -EIO. */
int syn_lat_show_text(FILE *out, const struct syn_lat_interval *interval);
/* One object in one line.  0, -EIO or -ENOMEM. */
int syn_lat_show_json(FILE *out, const struct syn_lat_interval *interval);

/* @ret has SYN_LAT_WORD_MAX bytes. */
#define SYN_LAT_WORD_MAX 16u
void syn_lat_cause_word(uint32_t cause, char *ret);
void syn_lat_tier_word(uint32_t tier, char *ret);

#endif
