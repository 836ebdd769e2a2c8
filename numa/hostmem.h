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

/**
 * struct syn_hostmem - one piece of memory.
 * @addr:	where this process sees it.
 * @bytes:	size.
 * @page_bytes:	of the kernel's pages it is made of.
 * @node:	NUMA node that all of it lies on, -1: bound to none.
 * @fd:		what others map.
 */
struct syn_hostmem {
	void *addr;
	uint64_t bytes;
	uint64_t page_bytes;
	int node;
	int fd;
};

/*
 * @node: -1, or the node that the memory is bound to.  Bound memory is
 * present when this returns, and was looked at.  -ENOMEM: not now, also when
 * @flags asks for a lock that the limits do not allow.  -EINVAL: no such
 * node, or one that is not ours.  -EXDEV: the kernel put a page elsewhere.
 */
int syn_hostmem_init(struct syn_hostmem *mem, const char *name, uint64_t bytes,
		     unsigned int flags, int node);
/*
 * The same from @fd, which another process made so and which is @mem's now: what
 * is in it stays.  @flags: SYN_HOSTMEM_LOCK or 0.  -EINVAL: it has not @bytes;
 * @fd is the caller's still, as after every error.
 */
int syn_hostmem_adopt(struct syn_hostmem *mem, int fd, uint64_t bytes,
		      unsigned int flags);
void syn_hostmem_deinit(struct syn_hostmem *mem);

/*
 * 0 when every page is present and on @node, whatever @mem->node says.
 * -EXDEV: one is on another node.  -ENOENT: one is not present.
 */
int syn_hostmem_verify(const struct syn_hostmem *mem, int node);
/* The same of any mapped memory in pages of @page_bytes. */
int syn_hostmem_verify_range(void *addr, uint64_t bytes, uint64_t page_bytes,
			     int node);

#endif
