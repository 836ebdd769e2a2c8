/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory the cgroups of this process allow. */
#ifndef SYN_NUMA_LIMIT_H
#define SYN_NUMA_LIMIT_H

#include <stdint.h>

#define SYN_LIMIT_NONE UINT64_MAX

/**
 * struct syn_limit - the lowest limit of all cgroups above a process.
 * @bytes:	SYN_LIMIT_NONE: there is none.
 * @cgroup:	path of the one that sets it, from the root of its hierarchy;
 *		cut to fit.
 */
struct syn_limit {
	uint64_t bytes;
	char cgroup[256];
};

/*
 * Version 2 and version 1 alike: of a hybrid system the lower limit counts.
 * @root: "", or a directory that stands for / in a test.  -EBADMSG: a file
 * says what no kernel would say.  A system without cgroups has no limit.
 */
int syn_limit_read(const char *root, struct syn_limit *ret);

#endif
