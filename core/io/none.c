/* SPDX-License-Identifier: Apache-2.0 */
/* The swap file of a build without liburing or ISA-L: there is none. */
#include <errno.h>
#include <stdio.h>

#include "core/io/swapfile.h"

static int refuse(const char *path, char *ret_why)
{
	(void)snprintf(
		ret_why, SYN_SWAPFILE_WHY_BYTES,
		"%.200s: this build has no swap store; it needs liburing "
		"and ISA-L",
		path);
	return -ENOSYS;
}

int syn_swapfile_init(const char *path, uint64_t bytes, bool force,
		      char *ret_why)
{
	return refuse(path, ret_why);
}

int syn_swapfile_open(const char *path, const struct syn_disk *was,
		      struct syn_disk **ret, char *ret_why)
{
	return refuse(path, ret_why);
}

int syn_swapfile_check(const char *path, struct syn_swapfile_stats *ret,
		       char *ret_why)
{
	return refuse(path, ret_why);
}
