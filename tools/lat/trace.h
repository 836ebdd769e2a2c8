/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF program: loads it, attaches it to a daemon's probes, reads its maps. */
#ifndef SYN_TOOLS_LAT_TRACE_H
#define SYN_TOOLS_LAT_TRACE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tools/lat/table.h"

struct syn_lat_trace;

/**
 * struct syn_lat_counts - all since the tracing began, but for @unfinished.
 * @begun:	faults whose begin was seen.
 * @ended:	those of them whose end was seen.
 * @unfinished:	those that are under way now.
 * @lost:	the others: the worker died, or a map had no room; at least.
 * @missed:	probes that the kernel could not deliver.
 */
struct syn_lat_counts {
	uint64_t begun;
	uint64_t ended;
	uint64_t unfinished;
	uint64_t lost;
	uint64_t missed;
};

/* -errno of the kernel that does not let us; syn_lat_trace_reason() has more. */
int syn_lat_trace_open(struct syn_lat_trace **ret);
/* Takes NULL, returns NULL. */
struct syn_lat_trace *syn_lat_trace_close(struct syn_lat_trace *trace);

/*
 * Listens to the workers of @keeper, those to come included; to the program
 * that @runs has, if another was attached before.  -ENOENT: it has no such
 * probes.
 */
int syn_lat_trace_attach(struct syn_lat_trace *trace, pid_t keeper, pid_t runs);
/* The probes cost nothing any more; what was counted can be read. */
void syn_lat_trace_detach(struct syn_lat_trace *trace);

/* At most SYN_LAT_KEYS_MAX entries, sorted, valid until the next call. */
int syn_lat_trace_read(struct syn_lat_trace *trace,
		       struct syn_lat_counts *ret_counts,
		       const struct syn_lat_entry **ret, size_t *ret_nr);

/* The library's last warning, one line, or "". */
const char *syn_lat_trace_reason(void);

#endif
