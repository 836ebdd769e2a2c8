/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a socket, according to the kernel. */
#ifndef SYN_IPC_SERVER_CRED_H
#define SYN_IPC_SERVER_CRED_H

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
 * Clients of one domain may corrupt one another; no page crosses it.  Today
 * that is the uid.
 */
uint32_t syn_cred_domain(const struct syn_cred *cred);

#endif
