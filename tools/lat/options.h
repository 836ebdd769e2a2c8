/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of synapse-lat. */
#ifndef SYN_TOOLS_LAT_OPTIONS_H
#define SYN_TOOLS_LAT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SYN_LAT_BY_CAUSE  1u
#define SYN_LAT_BY_CLIENT 2u
#define SYN_LAT_BY_TIER	  4u

/**
 * struct syn_lat_options - what was asked for.
 * @socket:	path, or NULL for the default.
 * @pid:	the daemon's worker or keeper; 0: whoever answers at @socket.
 * @json:	for programs.
 * @by:		SYN_LAT_BY_*: faults that are alike in these go together.
 * @interval_ns: print this often, ...
 * @count:	... and so many times.
 */
struct syn_lat_options {
	const char *socket;
	pid_t pid;
	bool json;
	unsigned int by;
	uint64_t interval_ns;
	uint64_t count;
};

#define SYN_LAT_OPTIONS_RUN   0
#define SYN_LAT_OPTIONS_DONE  1 /* help or version was printed */
#define SYN_LAT_OPTIONS_USAGE 2 /* a mistake was explained on stderr */

/* One of the above. */
int syn_lat_options_parse(int argc, char **argv, struct syn_lat_options *ret);

#endif
