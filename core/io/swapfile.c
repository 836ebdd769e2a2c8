/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock: written once, believed only when all of it fits. */
#include "core/io/swapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include <xxhash.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/io/format.h"
#include "core/io/uring.h"

#define SEGMENT_STEP (2048ull * 1024)
#define SEGMENT_MAX  (1ull << 30)
#define SEGMENTS     32u
#define ZERO_BYTES   (4u << 20)
#define LOCK_WAIT_NS 3000000000u
#define LOCK_STEP_NS 5000000u

/* Says it and returns it. */
static int __attribute__((format(printf, 3, 4)))
refuse(char *ret_why, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(ret_why, SYN_SWAPFILE_WHY_BYTES, fmt, ap);
	va_end(ap);
	return error;
}

static int refuse_errno(char *ret_why, int error, const char *path)
{
	return refuse(ret_why, error, "%.200s: %s", path, strerror(-error));
}

#define REMAKE "to make it anew: synapsectl swap init %.100s SIZE --force"

/* ---- the file ----------------------------------------------------------- */

/* -ENXIO stands for what is there, but no file. */
static int file_open(const char *path, int flags)
{
	struct stat st;
	int fd;

	if (syn_fault())
		return -EMFILE;
	fd = open(path, flags | O_RDWR | O_DIRECT | O_CLOEXEC | O_NONBLOCK,
		  0600);
	/* Not every kind of file says so itself when it is opened like this. */
	if (fd < 0 && errno == EINVAL && stat(path, &st) == 0 &&
	    !S_ISREG(st.st_mode))
		return -ENXIO;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	syn_close(fd);
	return -ENXIO;
}

static int refuse_open(char *ret_why, int error, const char *path)
{
	switch (error) {
	case -ENOENT:
		return refuse(ret_why, error,
			      "%.200s: no such file or directory; to make it: "
			      "synapsectl swap init %.100s SIZE",
			      path, path);
	case -EINVAL:
		return refuse(
			ret_why, -EOPNOTSUPP,
			"%.200s: its filesystem has no direct I/O; choose "
			"another, as ext4 or xfs",
			path);
	case -ENXIO:
	case -EISDIR:
		return refuse(ret_why, -EINVAL, "%.200s: not a regular file",
			      path);
	default:
		return refuse_errno(ret_why, error, path);
	}
}

static int file_lock(int fd, char *ret_why, const char *path)
{
	const struct timespec step = { .tv_nsec = LOCK_STEP_NS };
	uint64_t until_ns = syn_now_ns() + LOCK_WAIT_NS;

	if (syn_fault())
		return refuse_errno(ret_why, -ENOLCK, path);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return refuse_errno(ret_why, -errno, path);
		if (syn_now_ns() > until_ns)
			return refuse(ret_why, -EBUSY,
				      "%.200s: in use by another process; each "
				      "daemon needs a file of its own",
				      path);
		(void)nanosleep(&step, NULL);
	}
	return 0;
}

static int block_alloc(void **ret, size_t bytes)
{
	int r = syn_fault() ? ENOMEM
			    : posix_memalign(ret, SYN_DISK_BLOCK, bytes);

	if (!r)
		memset(*ret, 0, bytes);
	return -r;
}

static int block_write(int fd, const void *data, size_t bytes, uint64_t at)
{
	while (bytes) {
		ssize_t n;

		if (syn_fault())
			return -EIO;
		n = pwrite(fd, data, bytes, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EFBIG ? -ENOSPC : -errno;
		data = (const char *)data + n;
		bytes -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* ---- identities --------------------------------------------------------- */

/* Where there is none, all machines without one are the same. */
static void machine_id(uint64_t ret[2])
{
	char text[64] = "";
	XXH128_hash_t hash;
	ssize_t n = -1;
	int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		n = read(fd, text, sizeof(text));
	syn_close(fd);
	/* The id itself is confidential: machine-id(5). */
	hash = XXH3_128bits_withSeed(text, n > 0 ? (size_t)n : 0,
				     SYN_SWAP_MAGIC);
	ret[0] = hash.low64;
	ret[1] = hash.high64;
}

static int file_id(uint64_t ret[2])
{
	const size_t bytes = 2 * sizeof(*ret);

	if (syn_fault())
		return -EAGAIN;
	return getrandom(ret, bytes, 0) == (ssize_t)bytes ? 0 : -EAGAIN;
}

/* ---- init --------------------------------------------------------------- */

static int geometry_set(struct syn_swap_super *super, uint64_t bytes)
{
	uint64_t segment = syn_min(bytes / SEGMENTS, SEGMENT_MAX);

	if (bytes < SYN_SWAPFILE_BYTES_MIN || bytes > SYN_SWAPFILE_BYTES_MAX)
		return -ERANGE;
	segment = syn_max(segment - segment % SEGMENT_STEP, SEGMENT_STEP);
	super->segment_bytes = segment;
	super->nr_segments = (uint32_t)((bytes - SYN_DISK_BLOCK) / segment);
	super->block_bytes = SYN_DISK_BLOCK;
	super->bytes = SYN_DISK_BLOCK + super->nr_segments * segment;
	return 0;
}

/*
 * Zeroes are written, not only allocated: a write into allocated space that
 * was never written has to change the filesystem's tables.
 */
static int file_fill(int fd, uint64_t bytes)
{
	void *zero = NULL;
	int r;

	if (ftruncate(fd, 0) < 0)
		return -errno;
	/* In one piece if it can be had, and no surprise half way. */
	if (fallocate(fd, 0, 0, (off_t)bytes) < 0 && errno == ENOSPC)
		return -ENOSPC;
	r = block_alloc(&zero, ZERO_BYTES);
	for (uint64_t at = 0; at < bytes && !r; at += ZERO_BYTES)
		r = block_write(fd, zero,
				syn_min(bytes - at, (uint64_t)ZERO_BYTES), at);
	free(zero);
	if (!r && (syn_fault() || fsync(fd) < 0))
		r = -EIO;
	return r;
}

static int super_write(int fd, struct syn_swap_super *super)
{
	int r;

	super->magic = SYN_SWAP_MAGIC;
	super->version = SYN_SWAP_VERSION;
	machine_id(super->machine);
	r = file_id(super->file);
	if (r)
		return r;
	syn_swap_seal(super);
	r = block_write(fd, super, sizeof(*super), 0);
	if (!r && (syn_fault() || fsync(fd) < 0))
		r = -EIO;
	return r;
}

/* The name must be as durable as the file. */
static void directory_sync(const char *path)
{
	char copy[PATH_MAX];
	int fd;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)fsync(fd);
	syn_close(fd);
}

static bool is_swap_file(int fd)
{
	struct syn_swap_super *super;
	void *block = NULL;
	bool is = false;

	if (block_alloc(&block, SYN_DISK_BLOCK))
		return false;
	super = block;
	is = pread(fd, super, sizeof(*super), 0) == (ssize_t)sizeof(*super) &&
	     super->magic == SYN_SWAP_MAGIC;
	free(block);
	return is;
}

static int refuse_existing(char *ret_why, const char *path)
{
	int fd = file_open(path, 0);
	bool is = fd >= 0 && is_swap_file(fd);

	syn_close(fd);
	return refuse(ret_why, -EEXIST,
		      "%.200s: is %s; to overwrite it: synapsectl swap init "
		      "%.100s SIZE --force",
		      path, is ? "a swap file already" : "there already", path);
}

static int init_file(int fd, uint64_t bytes, char *ret_why, const char *path)
{
	struct syn_swap_super *super;
	void *block = NULL;
	int r;

	r = block_alloc(&block, SYN_DISK_BLOCK);
	if (r)
		return refuse_errno(ret_why, r, path);
	super = block;
	r = geometry_set(super, bytes);
	if (r)
		r = refuse(ret_why, r,
			   "%.200s: expected a size from 2052K to 64T", path);
	if (!r)
		r = file_lock(fd, ret_why, path);
	if (!r) {
		r = file_fill(fd, super->bytes);
		if (!r)
			r = super_write(fd, super);
		if (r)
			(void)refuse_errno(ret_why, r, path);
	}
	free(block);
	return r;
}

int syn_swapfile_init(const char *path, uint64_t bytes, bool force,
		      char *ret_why)
{
	bool created = true;
	int fd;
	int r;

	fd = file_open(path, O_CREAT | O_EXCL);
	if (fd == -EEXIST && !force)
		return refuse_existing(ret_why, path);
	if (fd == -EEXIST) {
		created = false;
		fd = file_open(path, 0);
	}
	if (fd == -ENOENT) /* the directory, that is */
		return refuse_errno(ret_why, fd, path);
	if (fd < 0)
		return refuse_open(ret_why, fd, path);
	r = init_file(fd, bytes, ret_why, path);
	if (r && created)
		(void)unlink(path);
	if (!r)
		directory_sync(path);
	syn_close(fd);
	return r;
}

/* ---- open --------------------------------------------------------------- */

static bool geometry_is_ours(const struct syn_swap_super *super)
{
	return super->block_bytes == SYN_DISK_BLOCK && super->nr_segments &&
	       super->nr_segments <= SYN_SWAP_SEGMENTS_MAX &&
	       super->segment_bytes >= SEGMENT_STEP &&
	       super->segment_bytes <= SEGMENT_MAX &&
	       super->segment_bytes % SEGMENT_STEP == 0 &&
	       super->bytes == SYN_DISK_BLOCK + super->nr_segments *
							super->segment_bytes;
}

static int super_check(const struct syn_swap_super *super, uint64_t bytes,
		       char *ret_why, const char *path)
{
	uint64_t machine[2];

	if (super->magic != SYN_SWAP_MAGIC)
		return refuse(ret_why, -EMEDIUMTYPE,
			      "%.200s: not a swap file; " REMAKE, path, path);
	if (super->version != SYN_SWAP_VERSION)
		return refuse(ret_why, -EPROTONOSUPPORT,
			      "%.200s: format %" PRIu32
			      ", this is for %u; " REMAKE,
			      path, super->version, SYN_SWAP_VERSION, path);
	if (!syn_swap_is_sealed(super))
		return refuse(ret_why, -EBADMSG,
			      "%.200s: its first block is damaged; " REMAKE,
			      path, path);
	if (!geometry_is_ours(super))
		return refuse(ret_why, -ERANGE,
			      "%.200s: of a geometry that is not ours; " REMAKE,
			      path, path);
	if (super->bytes != bytes)
		return refuse(ret_why, -ERANGE,
			      "%.200s: should have %" PRIu64 " bytes and has "
			      "%" PRIu64 "; " REMAKE,
			      path, super->bytes, bytes, path);
	machine_id(machine);
	if (super->machine[0] != machine[0] || super->machine[1] != machine[1])
		return refuse(ret_why, -EXDEV,
			      "%.200s: made on another machine; " REMAKE, path,
			      path);
	return 0;
}

static int super_read(int fd, struct syn_swap_super *super, char *ret_why,
		      const char *path)
{
	struct stat st;
	ssize_t n = -1;

	if (fstat(fd, &st) < 0)
		return refuse_errno(ret_why, -errno, path);
	errno = EIO;
	if (!syn_fault())
		n = pread(fd, super, sizeof(*super), 0);
	/* A device says in many words that it cannot. */
	if (n < 0)
		return refuse(ret_why, -EIO, "%.200s: its first block: %s",
			      path, strerror(errno));
	/* What is too short to tell has no magic. */
	return super_check(super, (uint64_t)st.st_size, ret_why, path);
}

/* Everything that its users need, and no more. */
static void super_recall(const struct syn_disk *was, struct syn_swap_super *ret)
{
	*ret = (struct syn_swap_super){
		.file = { was->file[0], was->file[1] },
		.segment_bytes = was->segment_bytes,
		.nr_segments = was->nr_segments,
	};
}

static int disk_open(int fd, const struct syn_swap_super *super,
		     struct syn_disk **ret, char *ret_why, const char *path)
{
	int r = syn_uring_open(ret, fd, super);

	if (r == -ENOSYS || r == -EPERM)
		return refuse(
			ret_why, r,
			"%.200s: this system does not allow io_uring; see "
			"kernel.io_uring_disabled and seccomp",
			path);
	return r ? refuse_errno(ret_why, r, path) : 0;
}

int syn_swapfile_open(const char *path, const struct syn_disk *was,
		      struct syn_disk **ret, char *ret_why)
{
	void *block = NULL;
	int fd;
	int r;

	ret_why[0] = '\0';
	fd = file_open(path, 0);
	if (fd < 0)
		return refuse_open(ret_why, fd, path);
	r = block_alloc(&block, SYN_DISK_BLOCK);
	if (r)
		(void)refuse_errno(ret_why, r, path);
	else
		r = file_lock(fd, ret_why, path);
	if (!r)
		r = super_read(fd, block, ret_why, path);
	if (r == -EIO && was) {
		super_recall(was, block);
		r = 0;
	}
	if (!r)
		r = disk_open(fd, block, ret, ret_why, path);
	free(block);
	if (r)
		syn_close(fd);
	return r;
}
