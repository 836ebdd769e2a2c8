/* SPDX-License-Identifier: Apache-2.0 */
/* Ping-pong between two processes over a pair of rings. */
#include "tools/bench/bare.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "tools/bench/bench.h"

#define BARE_COOKIE_END UINT64_MAX

struct bare_shared {
	struct syn_client_ctl client;
	struct syn_daemon_ctl daemon;
	struct syn_sqe sqe[SYN_SQ_ENTRIES];
	struct syn_cqe cqe[SYN_CQ_ENTRIES];
};

static struct syn_ring sq_of(struct bare_shared *shared, bool produce)
{
	return (struct syn_ring){
		.mine = produce ? &shared->client.sq_tail
				: &shared->daemon.sq_head,
		.theirs = produce ? &shared->daemon.sq_head
				  : &shared->client.sq_tail,
		.sleeps = &shared->daemon.sq_sleeps,
		.entries = (unsigned char *)shared->sqe,
		.entry_bytes = sizeof(shared->sqe[0]),
		.mask = SYN_SQ_ENTRIES - 1,
	};
}

static struct syn_ring cq_of(struct bare_shared *shared, bool produce)
{
	return (struct syn_ring){
		.mine = produce ? &shared->daemon.cq_tail
				: &shared->client.cq_head,
		.theirs = produce ? &shared->client.cq_head
				  : &shared->daemon.cq_tail,
		.sleeps = &shared->client.cq_sleeps,
		.entries = (unsigned char *)shared->cqe,
		.entry_bytes = sizeof(shared->cqe[0]),
		.mask = SYN_CQ_ENTRIES - 1,
	};
}

static void wake(int fd)
{
	const uint64_t one = 1;
	ssize_t nr = write(fd, &one, sizeof(one));

	(void)nr; /* a full one wakes as well */
}

static void drain(int fd)
{
	char bytes[64];
	ssize_t nr = read(fd, bytes, sizeof(bytes));

	(void)nr; /* an empty one was no wake-up */
}

/* No producer may leave this out, though there is always room here. */
static void room_wait(const struct syn_ring *ring)
{
	while (!syn_ring_room(ring))
		syn_cpu_relax();
}

/* True when something waits; false when the spin is over. */
static bool ring_spin(const struct syn_ring *ring, uint64_t spin_ns)
{
	uint64_t end_ns;

	if (syn_ring_waiting(ring))
		return true;
	if (!spin_ns)
		return false;
	end_ns = syn_now_ns() + spin_ns;
	do {
		for (unsigned int i = 0; i < 32; i++) {
			if (syn_ring_waiting(ring))
				return true;
			syn_cpu_relax();
		}
	} while (syn_now_ns() < end_ns);
	return syn_ring_waiting(ring) != 0;
}

/* As the daemon: edges of the eventfds of all rings, which are never read. */
static void peer_wait(struct syn_ring *sq, int epoll_fd, uint64_t spin_ns)
{
	struct epoll_event event;

	while (!ring_spin(sq, spin_ns)) {
		if (!syn_ring_sleep(sq))
			return;
		(void)epoll_wait(epoll_fd, &event, 1, -1);
		syn_ring_awake(sq);
	}
}

__attribute__((noreturn)) static void peer_run(const struct syn_bare *bare)
{
	struct syn_ring sq = sq_of(bare->shared, false);
	struct syn_ring cq = cq_of(bare->shared, true);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct syn_sqe sqe;

	if (epoll_fd < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, bare->peer_fd, &event) < 0)
		_exit(1);
	for (;;) {
		struct syn_cqe *cqe = syn_ring_entry(&cq, cq.own);

		peer_wait(&sq, epoll_fd, bare->spin_ns);
		room_wait(&cq);
		memcpy(&sqe, syn_ring_entry(&sq, sq.own), sizeof(sqe));
		syn_ring_consume(&sq, 1);
		if (sqe.cookie == BARE_COOKIE_END)
			_exit(0);
		*cqe = (struct syn_cqe){ .cookie = sqe.cookie };
		if (syn_ring_publish(&cq, 1))
			wake(bare->our_fds[1]);
	}
}

static int bare_map(struct syn_bare *bare)
{
	syn_cleanup(syn_closep) int fd = -1;
	void *map;

	fd = memfd_create("synapse-bare", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, sizeof(struct bare_shared)) < 0)
		return -errno;
	map = mmap(NULL, sizeof(struct bare_shared), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	bare->shared = map;
	return 0;
}

int syn_bare_open(int peer_cpu, uint64_t spin_ns, struct syn_bare *ret)
{
	struct syn_bare bare = {
		.peer = -1,
		.our_fds = { -1, -1 },
		.spin_ns = spin_ns,
	};
	int r;

	bare.peer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bare.peer_fd < 0 || pipe2(bare.our_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		r = -errno;
	else
		r = bare_map(&bare);
	if (r < 0)
		goto close_bare;
	bare.sq = sq_of(bare.shared, true);
	bare.cq = cq_of(bare.shared, false);
	bare.peer = fork();
	if (bare.peer == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		syn_cpu_bind(peer_cpu);
		peer_run(&bare);
	}
	if (bare.peer < 0) {
		r = -errno;
		goto close_bare;
	}
	*ret = bare;
	return 0;

close_bare:
	syn_bare_close(&bare);
	return syn_bench_fail("bare ring", r);
}

/* True when the peer slept and had to be woken. */
static bool bare_send(struct syn_bare *bare, uint64_t cookie)
{
	struct syn_sqe *sqe = syn_ring_entry(&bare->sq, bare->sq.own);

	room_wait(&bare->sq);
	*sqe = (struct syn_sqe){ .op = SYN_OP_NOP, .cookie = cookie };
	if (!syn_ring_publish(&bare->sq, 1))
		return false;
	wake(bare->peer_fd);
	return true;
}

void syn_bare_close(struct syn_bare *bare)
{
	if (bare->peer > 0) {
		(void)bare_send(bare, BARE_COOKIE_END);
		(void)waitpid(bare->peer, NULL, 0);
	}
	if (bare->shared)
		(void)munmap(bare->shared, sizeof(*bare->shared));
	bare->shared = NULL;
	bare->peer_fd = syn_close(bare->peer_fd);
	bare->our_fds[0] = syn_close(bare->our_fds[0]);
	bare->our_fds[1] = syn_close(bare->our_fds[1]);
}

/* As the library: whoever had to wake the peer sleeps at once. */
static void our_wait(struct syn_bare *bare, bool rang)
{
	struct pollfd pfd = { .fd = bare->our_fds[0], .events = POLLIN };

	while (!ring_spin(&bare->cq, rang ? 0 : bare->spin_ns)) {
		if (!syn_ring_sleep(&bare->cq))
			return;
		if (poll(&pfd, 1, -1) > 0)
			drain(bare->our_fds[0]);
		syn_ring_awake(&bare->cq);
	}
}

int syn_bare_ping(struct syn_bare *bare)
{
	uint64_t cookie = bare->sq.own;
	struct syn_cqe cqe;

	our_wait(bare, bare_send(bare, cookie));
	memcpy(&cqe, syn_ring_entry(&bare->cq, bare->cq.own), sizeof(cqe));
	syn_ring_consume(&bare->cq, 1);
	return cqe.cookie == cookie ? 0 : -EPROTO;
}
