/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with descriptors, and shared segments. */
#include "ipc/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#define CONN_BACKLOG   128
#define CONN_TIMEOUT_S 5

#define CONN_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int conn_address(const char *path, struct sockaddr_un *ret)
{
	size_t len = strlen(path);

	if (!len || len >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path, path, len);
	return 0;
}

static int conn_socket(int flags, int *ret_fd)
{
	int fd = -1;

	if (syn_fault())
		errno = EMFILE;
	else
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* A socket nobody listens on is a leftover of a daemon that was killed. */
static int conn_unlink_stale(const char *path, const struct sockaddr_un *addr)
{
	syn_cleanup(syn_closep) int fd = -1;
	struct stat st;
	int r;

	/* Connecting to a file is refused in the same way. */
	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	r = conn_socket(SOCK_NONBLOCK, &fd);
	if (r)
		return r;
	if (connect(fd, (const void *)addr, sizeof(*addr)) == 0 ||
	    errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(path) && errno != ENOENT ? -errno : 0;
}

static int conn_bind(int fd, const char *path, const struct sockaddr_un *addr)
{
	int r;

	if (bind(fd, (const void *)addr, sizeof(*addr)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	r = conn_unlink_stale(path, addr);
	if (r)
		return r;
	return bind(fd, (const void *)addr, sizeof(*addr)) ? -errno : 0;
}

static int conn_open_up(int fd, const char *path, unsigned int mode)
{
	if (syn_fault())
		return -EADDRINUSE;
	/* The umask may have taken bits away. */
	if (chmod(path, (mode_t)mode) || listen(fd, CONN_BACKLOG))
		return -errno;
	return 0;
}

int syn_conn_listen(const char *path, unsigned int mode, int *ret_fd)
{
	syn_cleanup(syn_closep) int fd = -1;
	struct sockaddr_un addr;
	int r;

	r = conn_address(path, &addr);
	if (r)
		return r;
	r = conn_socket(SOCK_NONBLOCK, &fd);
	if (r)
		return r;
	/* Before bind(), so that the path is never more open than @mode. */
	if (fchmod(fd, (mode_t)mode))
		return -errno;
	r = conn_bind(fd, path, &addr);
	if (r)
		return r;
	r = conn_open_up(fd, path, mode);
	if (r) {
		(void)unlink(path);
		return r;
	}
	*ret_fd = syn_steal_fd(&fd);
	return 0;
}

int syn_conn_connect(const char *path, int *ret_fd)
{
	const struct timeval limit = { .tv_sec = CONN_TIMEOUT_S };
	syn_cleanup(syn_closep) int fd = -1;
	struct sockaddr_un addr;
	int r;

	r = conn_address(path, &addr);
	if (r)
		return r;
	r = conn_socket(0, &fd);
	if (r)
		return r;
	/* A daemon that accepts no more must not hold its callers for ever. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)))
		return -errno;
	if (syn_fault())
		return -ECONNREFUSED;
	do {
		r = connect(fd, (const void *)&addr, sizeof(addr));
	} while (r && errno == EINTR);
	if (r)
		return -errno;
	*ret_fd = syn_steal_fd(&fd);
	return 0;
}

/* Room for the descriptors of one message, aligned for its header. */
union conn_control {
	char bytes[CMSG_SPACE(SYN_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int syn_conn_send(int sock, struct syn_msg *msg, const int *fds,
		  unsigned int nr_fds)
{
	struct iovec iov = { .iov_base = msg, .iov_len = msg->size };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	union conn_control control = { 0 };
	ssize_t n;

	if (nr_fds > SYN_FDS_MAX || msg->size < sizeof(*msg))
		return -EINVAL;
	msg->magic = SYN_ABI_MAGIC;
	msg->nr_fds = (uint16_t)nr_fds;
	if (nr_fds) {
		struct cmsghdr *cmsg = &control.align;

		hdr.msg_control = control.bytes;
		hdr.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	if (syn_fault())
		return -ENOBUFS;
	do {
		n = sendmsg(sock, &hdr, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Takes every descriptor the kernel has installed; returns how many. */
static unsigned int conn_take_fds(struct msghdr *hdr, int *fds)
{
	unsigned int nr = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c;
	     c = CMSG_NXTHDR(hdr, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* The control buffer has room for SYN_FDS_MAX in all. */
		memcpy(fds + nr, CMSG_DATA(c), bytes);
		nr += (unsigned int)(bytes / sizeof(int));
	}
	return nr;
}

static int conn_check(const struct syn_msg *msg, size_t n, unsigned int nr_fds,
		      int flags)
{
	if (n < sizeof(*msg) || flags & MSG_TRUNC)
		return -EPROTO;
	if (msg->magic != SYN_ABI_MAGIC || msg->size != n)
		return -EPROTO;
	/* There was room in the buffer, so this process had none. */
	if (flags & MSG_CTRUNC && nr_fds < SYN_FDS_MAX)
		return -EMFILE;
	if (flags & MSG_CTRUNC || msg->nr_fds != nr_fds)
		return -EPROTO;
	return 0;
}

static int conn_recv(int sock, void *buf, size_t max, int *fds, int flags)
{
	union conn_control control;
	struct iovec iov = { .iov_base = buf, .iov_len = max };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	unsigned int nr_fds;
	ssize_t n;
	int r;

	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		fds[i] = -1;
	if (syn_fault())
		return -ENOMEM;
	do {
		n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC | flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	nr_fds = conn_take_fds(&hdr, fds);
	if (n == 0 && !nr_fds && !(hdr.msg_flags & MSG_CTRUNC))
		return 0;
	r = conn_check(buf, (size_t)n, nr_fds, hdr.msg_flags);
	if (!r)
		return (int)n;
	for (unsigned int i = 0; i < nr_fds; i++)
		fds[i] = syn_close(fds[i]);
	return r;
}

int syn_conn_recv(int sock, void *buf, size_t max, int *fds)
{
	return conn_recv(sock, buf, max, fds, 0);
}

int syn_conn_peek(int sock, void *buf, size_t max, int *fds)
{
	return conn_recv(sock, buf, max, fds, MSG_PEEK | MSG_DONTWAIT);
}

int syn_conn_poll(int fd, short events)
{
	struct pollfd it = { .fd = fd, .events = events };
	int r;

	/* It is interrupted even where it does not wait. */
	do {
		r = poll(&it, 1, 0);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : it.revents;
}

int syn_conn_segment_new(const char *name, uint64_t bytes, int *ret_fd)
{
	syn_cleanup(syn_closep) int fd = -1;

	if (syn_fault())
		return -ENOMEM;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600))
		return -errno;
	if (bytes > INT64_MAX)
		return -EFBIG;
	if (ftruncate(fd, (off_t)bytes))
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, CONN_SEALS))
		return -errno;
	*ret_fd = syn_steal_fd(&fd);
	return 0;
}

int syn_conn_segment_map(int fd, uint64_t bytes, int writable, void **ret)
{
	struct stat st;
	void *addr;
	int seals;

	if (fstat(fd, &st))
		return -errno;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	if (!bytes || st.st_size < 0 || (uint64_t)st.st_size < bytes)
		return -EPROTO;
	if (syn_fault())
		return -ENOMEM;
	addr = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
		    MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	*ret = addr;
	return 0;
}
