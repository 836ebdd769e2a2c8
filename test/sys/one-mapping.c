/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Daemon and client in one process would map the same segment at two
 * addresses, and a race detector would see two memories.  Linked with
 * --wrap=mmap, a second whole mapping of a file is the first one.
 *
 * Mappings at an address of the caller's choice, or moved to one, are mappings
 * of their own: the detector then sees less, but nothing wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAPPINGS_MAX 1024

struct mapping {
	dev_t dev;
	ino_t ino;
	size_t bytes;
	void *addr;
	unsigned int users;
};

static pthread_mutex_t mapping_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping mappings[MAPPINGS_MAX];

/* Names that the linker gives. */
void *__real_mmap(void *addr, size_t bytes, int prot, int flags, int fd,
		  off_t off);
int __real_munmap(void *addr, size_t bytes);
void *__wrap_mmap(void *addr, size_t bytes, int prot, int flags, int fd,
		  off_t off);
void *__wrap_mmap64(void *addr, size_t bytes, int prot, int flags, int fd,
		    off_t off);
int __wrap_munmap(void *addr, size_t bytes);
void *__real_mremap(void *from, size_t old_bytes, size_t bytes, int flags, ...);
void *__wrap_mremap(void *from, size_t old_bytes, size_t bytes, int flags, ...);

static struct mapping *mapping_find(const struct stat *st, size_t bytes)
{
	for (int i = 0; i < MAPPINGS_MAX; i++) {
		struct mapping *m = &mappings[i];

		if (m->users && m->dev == st->st_dev && m->ino == st->st_ino &&
		    m->bytes == bytes)
			return m;
	}
	return NULL;
}

static struct mapping *mapping_free_one(void)
{
	for (int i = 0; i < MAPPINGS_MAX; i++)
		if (!mappings[i].users)
			return &mappings[i];
	return NULL;
}

static void *mapping_new(const struct stat *st, size_t bytes, int fd)
{
	struct mapping *m = mapping_free_one();
	void *addr;

	if (!m) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	/* Whoever comes first, the other side may write. */
	addr = __real_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
	if (addr == MAP_FAILED)
		return addr;
	*m = (struct mapping){ .dev = st->st_dev,
			       .ino = st->st_ino,
			       .bytes = bytes,
			       .addr = addr,
			       .users = 1 };
	return addr;
}

void *__wrap_mmap(void *addr, size_t bytes, int prot, int flags, int fd,
		  off_t off)
{
	struct mapping *m;
	struct stat st;
	void *result;

	if (fd < 0 || !(flags & MAP_SHARED) || addr || off || fstat(fd, &st))
		return __real_mmap(addr, bytes, prot, flags, fd, off);
	(void)pthread_mutex_lock(&mapping_lock);
	m = mapping_find(&st, bytes);
	if (m) {
		m->users++;
		result = m->addr;
	} else {
		result = mapping_new(&st, bytes, fd);
	}
	(void)pthread_mutex_unlock(&mapping_lock);
	return result;
}

void *__wrap_mmap64(void *addr, size_t bytes, int prot, int flags, int fd,
		    off_t off)
{
	return __wrap_mmap(addr, bytes, prot, flags, fd, off);
}

/* One user less at that place; how many there were. */
static unsigned int mapping_leave(const void *addr, size_t bytes)
{
	unsigned int users = 0;

	(void)pthread_mutex_lock(&mapping_lock);
	for (int i = 0; i < MAPPINGS_MAX; i++) {
		struct mapping *m = &mappings[i];

		if (m->users && m->addr == addr && m->bytes == bytes)
			users = m->users--;
	}
	(void)pthread_mutex_unlock(&mapping_lock);
	return users;
}

int __wrap_munmap(void *addr, size_t bytes)
{
	return mapping_leave(addr, bytes) > 1 ? 0 : __real_munmap(addr, bytes);
}

/* Moving away from a mapping that others use makes another of the same file. */
void *__wrap_mremap(void *from, size_t old_bytes, size_t bytes, int flags, ...)
{
	va_list ap;
	void *to;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	if (mapping_leave(from, old_bytes) > 1)
		old_bytes = 0;
	return __real_mremap(from, old_bytes, bytes, flags, to);
}
