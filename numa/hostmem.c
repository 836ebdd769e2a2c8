/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed memfds, with huge pages and locked where asked and possible. */
#include "numa/hostmem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#define HOSTMEM_HUGE_BYTES (2ull << 20)
#define HOSTMEM_HUGE_FLAGS (MFD_HUGETLB | MFD_HUGE_2MB)

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
static int hostmem_open(struct syn_hostmem *mem, const char *name,
			uint64_t bytes, unsigned int flags)
{
	syn_cleanup(syn_closep) int fd = -1;
	void *addr;
	int r;

	r = hostmem_file(name, bytes, flags, &fd);
	if (r)
		return r;
	if (syn_fault())
		return -ENOMEM;
	addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	mem->addr = addr;
	mem->bytes = bytes;
	mem->fd = syn_steal_fd(&fd);
	return 0;
}

int syn_hostmem_init(struct syn_hostmem *mem, const char *name, uint64_t bytes,
		     unsigned int flags)
{
	int r = -ENOMEM;

	if (!bytes || bytes > INT64_MAX)
		return -EINVAL;
	if (flags & SYN_HOSTMEM_HUGE && bytes % HOSTMEM_HUGE_BYTES == 0)
		r = hostmem_open(mem, name, bytes, HOSTMEM_HUGE_FLAGS);
	if (r)
		r = hostmem_open(mem, name, bytes, 0);
	if (r || !(flags & SYN_HOSTMEM_LOCK))
		return r;
	if (syn_fault()) {
		r = -ENOMEM;
	} else if (mlock(mem->addr, mem->bytes)) {
		/* The limit is 0: the same to the caller as one too low. */
		r = errno == EPERM ? -ENOMEM : -errno;
	}
	if (r)
		syn_hostmem_deinit(mem);
	return r;
}

void syn_hostmem_deinit(struct syn_hostmem *mem)
{
	(void)munmap(mem->addr, mem->bytes);
	mem->addr = NULL;
	mem->fd = syn_close(mem->fd);
}
