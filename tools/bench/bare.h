/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that two processes can do over a ring: what a request is compared
 * with.  The same ring, entries, spin and wake-ups as the daemon's, and nothing
 * between taking a submission and answering it.
 */
#ifndef SYN_TOOLS_BENCH_BARE_H
#define SYN_TOOLS_BENCH_BARE_H

#include <stdint.h>
#include <sys/types.h>

#include "ipc/ring.h"

struct bare_shared;

/**
 * struct syn_bare - our side; the peer is a child process.
 * @shared:	both rings.
 * @sq:		we produce.
 * @cq:		we consume.
 * @peer:	the child.
 * @peer_fd:	eventfd that wakes it.
 * @our_fds:	pipe that wakes us.
 * @spin_ns:	how long a side looks before it sleeps.
 */
struct syn_bare {
	struct bare_shared *shared;
	struct syn_ring sq;
	struct syn_ring cq;
	pid_t peer;
	int peer_fd;
	int our_fds[2];
	uint64_t spin_ns;
};

/* The peer runs on @peer_cpu.  Call it while there is one thread. */
int syn_bare_open(int peer_cpu, uint64_t spin_ns, struct syn_bare *ret);
void syn_bare_close(struct syn_bare *bare);

/* One request and its answer. */
int syn_bare_ping(struct syn_bare *bare);

#endif
