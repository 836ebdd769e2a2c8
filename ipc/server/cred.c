/* SPDX-License-Identifier: Apache-2.0 */
/* Peer credentials and pidfds. */
#include "ipc/server/cred.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/conn.h"

/* Newer than the C library's headers; the same number on every port we run. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* Field 22 of /proc/PID/stat, after a name that may contain anything. */
#define STAT_START_TIME 20

static int pid_start_time(pid_t pid, unsigned long long *ret)
{
	syn_cleanup(syn_closep) int fd = -1;
	char path[32];
	char text[1024];
	char *at;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	at = strrchr(text, ')');
	for (int field = 0; at && field < STAT_START_TIME; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -EIO;
	*ret = strtoull(at + 1, NULL, 10);
	return 0;
}

int syn_cred_pidfd(pid_t pid, int *ret_pid_fd)
{
	syn_cleanup(syn_closep) int fd = -1;
	unsigned long long before;
	unsigned long long after;
	int r;

	r = pid_start_time(pid, &before);
	if (r)
		return r;
	if (syn_fault())
		return -EMFILE;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -errno;
	r = pid_start_time(pid, &after);
	if (r)
		return r;
	if (before != after)
		return -ESRCH;
	*ret_pid_fd = syn_steal_fd(&fd);
	return 0;
}

static int peer_pidfd(int sock, pid_t pid, int *ret)
{
	socklen_t len = sizeof(int);
	int fd = -1;

	if (syn_fault())
		return -EMFILE;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0) {
		*ret = fd;
		return 0;
	}
	if (errno == ENOPROTOOPT)
		return syn_cred_pidfd(pid, ret);
	return errno == EINVAL || errno == ENODATA ? -ESRCH : -errno;
}

int syn_cred_get(int sock, struct syn_cred *ret, int *ret_pid_fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int r;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	/* 0: a process of another pid namespace. */
	if (cred.pid <= 0)
		return -EACCES;
	r = peer_pidfd(sock, cred.pid, ret_pid_fd);
	if (r)
		return r;
	ret->pid = cred.pid;
	ret->uid = cred.uid;
	ret->gid = cred.gid;
	return 0;
}

/* The whole file, with a NUL. */
static int cgroup_read(pid_t pid, char *ret, size_t max)
{
	syn_cleanup(syn_closep) int fd = -1;
	char path[32];
	size_t used = 0;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (syn_fault())
		return -EMFILE;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	do {
		n = read(fd, ret + used, max - used);
		if (n < 0)
			return -errno;
		used += (size_t)n;
		if (used == max)
			return -ENAMETOOLONG;
	} while (n);
	ret[used] = '\0';
	return 0;
}

/* The line of the unified hierarchy, without what stands before the path. */
static void cgroup_keep_path(char *text)
{
	char *line = text;
	size_t len;

	while (line && strncmp(line, "0::", 3) != 0) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	len = line ? strcspn(line + 3, "\n") : 0;
	if (len)
		memmove(text, line + 3, len);
	text[len] = '\0';
}

int syn_cred_cgroup(pid_t pid, int pid_fd, char *ret, size_t max)
{
	int r;

	r = cgroup_read(pid, ret, max);
	if (r)
		return r;
	/* It lives still, so the number was its own when it was looked up. */
	r = syn_conn_poll(pid_fd, POLLIN);
	if (r)
		return r < 0 ? r : -ESRCH;
	cgroup_keep_path(ret);
	return 0;
}
