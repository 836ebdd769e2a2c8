/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory behind a descriptor: what extents are made of.
 *
 * A memfd of mode 0600, sealed against any change of size, mapped read-write
 * here, of zeroes.  Called from any thread; the caller owns the object.
 */
#ifndef SYN_NUMA_HOSTMEM_H
#define SYN_NUMA_HOSTMEM_H

#include <stdint.h>

/* Huge pages if the system has that many free and @bytes is a multiple. */
#define SYN_HOSTMEM_HUGE (1u << 0)
/* Not swapped out, and present from the start. */
#define SYN_HOSTMEM_LOCK (1u << 1)

struct syn_hostmem {
	void *addr;
	uint64_t bytes;
	int fd;
};

/* -ENOMEM also when @flags asks for a lock that the limits do not allow. */
int syn_hostmem_init(struct syn_hostmem *mem, const char *name, uint64_t bytes,
		     unsigned int flags);
void syn_hostmem_deinit(struct syn_hostmem *mem);

#endif
