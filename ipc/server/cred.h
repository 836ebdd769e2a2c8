/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a socket, according to the kernel. */
#ifndef SYN_IPC_SERVER_CRED_H
#define SYN_IPC_SERVER_CRED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct syn_cred {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/*
 * The process that connected @sock, and a pidfd of it, which the caller
 * closes.  -ESRCH: it has exited already.
 */
int syn_cred_get(int sock, struct syn_cred *ret, int *ret_pid_fd);

/*
 * A pidfd of @pid where the kernel has no SO_PEERPIDFD: the start time must be
 * the same before and after, else the number was used again meanwhile.
 */
int syn_cred_pidfd(pid_t pid, int *ret_pid_fd);

/*
 * The cgroup (v2) of the process behind @pid_fd, as this process sees it; ""
 * where there is none.  -ESRCH: the process has exited, so that @pid may be
 * another one's by now.  -ENAMETOOLONG: the kernel has more to say than @max.
 */
int syn_cred_cgroup(pid_t pid, int pid_fd, char *ret, size_t max);

#endif
