/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options that begin with their size.  A caller built against an older header
 * passes a shorter struct, whose missing members get their defaults; one built
 * against a newer header a longer one, which is refused only if it uses
 * members that are not known here.
 */
#ifndef SYN_IPC_CLIENT_OPTS_H
#define SYN_IPC_CLIENT_OPTS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/base/base.h"

static inline int syn_opts_read(void *own, size_t own_bytes, const void *opts)
{
	const unsigned char *tail = opts;
	size_t sz;

	if (!opts)
		return -EINVAL;
	memcpy(&sz, opts, sizeof(sz));
	if (sz < sizeof(sz))
		return -EINVAL;
	for (size_t i = own_bytes; i < sz; i++)
		if (tail[i])
			return -E2BIG;
	memset(own, 0, own_bytes);
	memcpy(own, opts, syn_min(sz, own_bytes));
	return 0;
}

#define SYN_OPTS_READ(own, opts) syn_opts_read((own), sizeof(*(own)), (opts))

#endif
