/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed memfds: huge, locked, on one node, where asked and possible. */
#include "numa/hostmem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <numaif.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#define HOSTMEM_HUGE_BYTES (2ull << 20)
#define HOSTMEM_HUGE_FLAGS (MFD_HUGETLB | MFD_HUGE_2MB)

#define HOSTMEM_PAGE_BYTES 4096ull
/* Pages asked about with one call. */
#define HOSTMEM_BATCH 512u
#define HOSTMEM_NODES 64

#define HOSTMEM_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int hostmem_file(const char *name, uint64_t bytes, unsigned int flags,
			int *ret_fd)
{
	syn_cleanup(syn_closep) int fd = -1;

	if (syn_fault())
		return -EMFILE;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600))
		return -errno;
	if (ftruncate(fd, (off_t)bytes))
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, HOSTMEM_SEALS))
		return -errno;
	*ret_fd = syn_steal_fd(&fd);
	return 0;
}

/* Mapping a file of huge pages reserves them, so touching cannot fail later. */
static int hostmem_map(struct syn_hostmem *mem, int fd, uint64_t bytes,
		       uint64_t page_bytes)
{
	void *addr;

	if (syn_fault())
		return -ENOMEM;
	addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	*mem = (struct syn_hostmem){
		.addr = addr,
		.bytes = bytes,
		.page_bytes = page_bytes,
		.node = -1,
		.fd = fd,
	};
	return 0;
}

static int hostmem_make(struct syn_hostmem *mem, const char *name,
			uint64_t bytes, unsigned int flags)
{
	syn_cleanup(syn_closep) int fd = -1;
	int r;

	r = hostmem_file(name, bytes, flags, &fd);
	if (!r)
		r = hostmem_map(mem, fd, bytes,
				flags & MFD_HUGETLB ? HOSTMEM_HUGE_BYTES
						    : HOSTMEM_PAGE_BYTES);
	if (!r)
		(void)syn_steal_fd(&fd);
	return r;
}

/* The nodes of @nr pages from @addr on must be @node. */
static int hostmem_look(char *addr, uint64_t page_bytes, unsigned int nr,
			int node)
{
	void *pages[HOSTMEM_BATCH];
	int status[HOSTMEM_BATCH];

	for (unsigned int i = 0; i < nr; i++)
		pages[i] = addr + i * page_bytes;
	if (syn_fault())
		return -ENOMEM;
	/* Without nodes to move to, it only says where they are. */
	if (move_pages(0, nr, pages, NULL, status, 0) < 0)
		return -errno;
	for (unsigned int i = 0; i < nr; i++) {
		if (status[i] < 0)
			return status[i];
		if (status[i] != node)
			return -EXDEV;
	}
	return 0;
}

int syn_hostmem_verify_range(void *addr, uint64_t bytes, uint64_t page_bytes,
			     int node)
{
	uint64_t nr = syn_div_up(bytes, page_bytes);
	int r = 0;

	for (uint64_t i = 0; i < nr && !r; i += HOSTMEM_BATCH)
		r = hostmem_look(
			(char *)addr + i * page_bytes, page_bytes,
			(unsigned int)syn_min(nr - i, (uint64_t)HOSTMEM_BATCH),
			node);
	return r;
}

int syn_hostmem_verify(const struct syn_hostmem *mem, int node)
{
	return syn_hostmem_verify_range(mem->addr, mem->bytes, mem->page_bytes,
					node);
}

static int hostmem_policy(const struct syn_hostmem *mem, int mode, int node,
			  unsigned int flags)
{
	const unsigned long mask = 1ul << node;

	if (syn_fault())
		return -EIO;
	return mbind(mem->addr, mem->bytes, mode, &mask, HOSTMEM_NODES + 1,
		     flags) < 0
		       ? -errno
		       : 0;
}

/*
 * Touching memory that is bound to a full node makes the kernel kill somebody.
 * So it is touched while the node is only preferred, and then bound: what had
 * to go elsewhere is moved, for which the kernel reclaims, but never kills.
 * The policy is the file's own from then on, whoever maps it.
 */
static int hostmem_bind(struct syn_hostmem *mem, int node)
{
	int r;

	r = hostmem_policy(mem, MPOL_PREFERRED, node, 0);
	if (r)
		return r;
	if (syn_fault())
		return -ENOMEM;
	/* No huge page left would be a SIGBUS: EFAULT here. */
	if (madvise(mem->addr, mem->bytes, MADV_POPULATE_WRITE) < 0)
		return errno == EFAULT ? -ENOMEM : -errno;
	r = hostmem_policy(mem, MPOL_BIND, node, MPOL_MF_STRICT | MPOL_MF_MOVE);
	if (r)
		return r == -EIO ? -ENOMEM : r;
	r = syn_hostmem_verify(mem, node);
	if (!r)
		mem->node = node;
	return r;
}

static int hostmem_lock(struct syn_hostmem *mem)
{
	if (syn_fault())
		return -ENOMEM;
	if (mlock(mem->addr, mem->bytes) == 0)
		return 0;
	/* The limit is 0: the same to the caller as one too low. */
	return errno == EPERM ? -ENOMEM : -errno;
}

static int hostmem_open(struct syn_hostmem *mem, const char *name,
			uint64_t bytes, unsigned int flags, int node)
{
	int r;

	r = hostmem_make(mem, name, bytes, flags);
	if (r || node < 0)
		return r;
	r = hostmem_bind(mem, node);
	if (r)
		syn_hostmem_deinit(mem);
	return r;
}

int syn_hostmem_init(struct syn_hostmem *mem, const char *name, uint64_t bytes,
		     unsigned int flags, int node)
{
	int r = -ENOMEM;

	if (!bytes || bytes > INT64_MAX || node < -1 || node >= HOSTMEM_NODES)
		return -EINVAL;
	if (flags & SYN_HOSTMEM_HUGE && bytes % HOSTMEM_HUGE_BYTES == 0)
		r = hostmem_open(mem, name, bytes, HOSTMEM_HUGE_FLAGS, node);
	if (r)
		r = hostmem_open(mem, name, bytes, 0, node);
	if (r || !(flags & SYN_HOSTMEM_LOCK))
		return r;
	r = hostmem_lock(mem);
	if (r)
		syn_hostmem_deinit(mem);
	return r;
}

/* The policy is the file's own, see hostmem_bind(). */
static int hostmem_node(const struct syn_hostmem *mem)
{
	unsigned long mask = 0;
	int mode;

	if (get_mempolicy(&mode, &mask, HOSTMEM_NODES + 1, mem->addr,
			  MPOL_F_ADDR) < 0 ||
	    mode != MPOL_BIND || !mask)
		return -1;
	return __builtin_ctzl(mask);
}

int syn_hostmem_adopt(struct syn_hostmem *mem, int fd, uint64_t bytes,
		      unsigned int flags)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!bytes || (uint64_t)st.st_size != bytes)
		return -EINVAL;
	/* Of a file of huge pages that is the block. */
	r = hostmem_map(mem, fd, bytes, (uint64_t)st.st_blksize);
	if (r)
		return r;
	mem->node = hostmem_node(mem);
	if (flags & SYN_HOSTMEM_LOCK)
		r = hostmem_lock(mem);
	if (r)
		(void)munmap(mem->addr, bytes);
	return r;
}

void syn_hostmem_deinit(struct syn_hostmem *mem)
{
	(void)munmap(mem->addr, mem->bytes);
	mem->addr = NULL;
	mem->fd = syn_close(mem->fd);
}
