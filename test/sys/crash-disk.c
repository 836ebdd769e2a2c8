/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked into synapsed: operations of its disk that go wrong.
 *
 * What the thread of the disk gives to the kernel is looked at just before, and
 * one operation is made another one, which fails or does something else.  And the
 * superblock, which is read before that.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>

#include "core/base/base.h"
#include "core/io/uring-internal.h"
#include "core/io/uring.h"
#include "test/sys/crash-arm.h"

#define BOUNCES 64u

static int disk_fd = -1;
static int full_fd = -1;
/* What is written instead; each stays until so many others were. */
static void *bounce[BOUNCES];
static uint32_t bounce_at;

int __real_syn_uring_open(struct syn_disk **ret, int fd,
			  const struct syn_swap_super *super);
int __wrap_syn_uring_open(struct syn_disk **ret, int fd,
			  const struct syn_swap_super *super);
int __wrap_syn_uring_open(struct syn_disk **ret, int fd,
			  const struct syn_swap_super *super)
{
	disk_fd = fd;
	return __real_syn_uring_open(ret, fd, super);
}

/* As pread() is called where a file may be large. */
ssize_t __real_pread64(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread64(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread64(int fd, void *to, size_t bytes, off_t at)
{
	if (!crash || !crash->disk.blind || at)
		return __real_pread64(fd, to, bytes, at);
	errno = EREMOTEIO;
	return -1;
}

static bool sqe_writes(const struct io_uring_sqe *sqe)
{
	return sqe->opcode == IORING_OP_WRITE ||
	       sqe->opcode == IORING_OP_WRITE_FIXED;
}

static void sqe_aim(struct io_uring_sqe *sqe, int fd)
{
	sqe->flags &= (uint8_t)~IOSQE_FIXED_FILE;
	sqe->fd = fd;
}

static void sqe_unfix(struct io_uring_sqe *sqe)
{
	sqe->opcode = sqe_writes(sqe) ? IORING_OP_WRITE : IORING_OP_READ;
	sqe->buf_index = 0;
}

/*
 * Open until the kernel has it: the campaign counts descriptors.  A head may be
 * behind its data, and then the kernel looks for the file when that has been
 * written, so it gets none.
 */
static void fail_enospc(struct io_uring_sqe *sqe)
{
	if (sqe->len == SYN_DISK_BLOCK) {
		sqe_aim(sqe, -1);
		return;
	}
	if (full_fd < 0)
		full_fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	sqe_aim(sqe, sqe_writes(sqe) ? full_fd : -1);
}

static void fail_short(struct io_uring_sqe *sqe)
{
	if (sqe->len > SYN_DISK_BLOCK)
		sqe->len -= SYN_DISK_BLOCK;
	else
		sqe_aim(sqe, -1);
}

/* A copy of what would be written, NULL: no memory, and nothing goes wrong. */
static char *bounce_new(const struct io_uring_sqe *sqe)
{
	void **at = &bounce[bounce_at++ % BOUNCES];

	free(*at);
	*at = NULL;
	if (posix_memalign(at, SYN_DISK_BLOCK, sqe->len))
		return NULL;
	memcpy(*at, (const void *)(uintptr_t)sqe->addr, sqe->len);
	return *at;
}

static void sqe_bounce(struct io_uring_sqe *sqe, const char *from)
{
	sqe_unfix(sqe);
	sqe->addr = (uintptr_t)from;
}

/* The second half is what it was, and the disk says that all is well. */
static void write_torn(struct io_uring_sqe *sqe)
{
	char *copy = bounce_new(sqe);
	uint32_t half = sqe->len / 2;
	void *old = NULL;

	if (!copy || posix_memalign(&old, SYN_DISK_BLOCK, sqe->len))
		return;
	if (pread(disk_fd, old, sqe->len, (off_t)sqe->off) == (int)sqe->len) {
		memcpy(copy + half, (char *)old + half, sqe->len - half);
		sqe_bounce(sqe, copy);
	}
	free(old);
}

static void write_flipped(struct io_uring_sqe *sqe)
{
	char *copy = bounce_new(sqe);

	if (!copy)
		return;
	copy[crash_random(sqe->len)] ^= 16;
	sqe_bounce(sqe, copy);
}

/* A bit of the first block rots before it is read. */
static void read_rotten(const struct io_uring_sqe *sqe)
{
	void *block = NULL;

	if (posix_memalign(&block, SYN_DISK_BLOCK, SYN_DISK_BLOCK))
		return;
	if (pread(disk_fd, block, SYN_DISK_BLOCK, (off_t)sqe->off) ==
	    SYN_DISK_BLOCK) {
		((char *)block)[crash_random(SYN_DISK_BLOCK)] ^= 4;
		(void)!pwrite(disk_fd, block, SYN_DISK_BLOCK, (off_t)sqe->off);
	}
	free(block);
}

static void sqe_fail(struct io_uring_sqe *sqe, uint64_t kind)
{
	switch (kind) {
	case CRASH_DISK_EIO:
		sqe_aim(sqe, -1);
		break;
	case CRASH_DISK_ENOSPC:
		fail_enospc(sqe);
		break;
	case CRASH_DISK_SHORT:
		fail_short(sqe);
		break;
	default:
		if (!sqe_writes(sqe))
			read_rotten(sqe);
		else if (kind == CRASH_DISK_TORN)
			write_torn(sqe);
		else
			write_flipped(sqe);
	}
}

static void disk_look(struct io_uring_sqe *sqe)
{
	struct crash_disk *disk = &crash->disk;
	uint64_t kind = disk->kind;

	if (!disk->nth || --disk->nth)
		return;
	disk->nr[kind]++;
	if (disk->again) {
		disk->kind = crash_random(CRASH_DISK_NR);
		disk->nth = 1 + crash_random(disk->again);
	}
	sqe_fail(sqe, kind);
}

/* All that the kernel has not seen yet, but the read of the wake-up. */
static void ring_look(struct io_uring *ring)
{
	struct io_uring_sq *sq = &ring->sq;

	for (unsigned int at = sq->sqe_head; at != sq->sqe_tail; at++) {
		struct io_uring_sqe *sqe = &sq->sqes[at & *sq->kring_mask];

		if (crash && sqe->user_data < URING_PIECES)
			disk_look(sqe);
	}
}

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
	int r;

	ring_look(ring);
	r = __real_io_uring_submit(ring);
	full_fd = syn_close(full_fd);
	return r;
}

int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned int nr);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned int nr);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned int nr)
{
	int r;

	ring_look(ring);
	r = __real_io_uring_submit_and_wait(ring, nr);
	full_fd = syn_close(full_fd);
	return r;
}
