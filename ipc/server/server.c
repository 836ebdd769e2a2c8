/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread's loop.
 *
 * Rings are polled while they are busy: a ring that had a request in the last
 * 20 us is on the active list and is looked at without a system call; then it
 * is put to sleep and its client rings the bell.  epoll is looked at in
 * between, and waits once no ring is active.  There is no periodic timer: an
 * idle daemon does not run at all.
 */
#include "ipc/server/server.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/fsck.h"
#include "core/mm.h"
#include "ipc/server/kept.h"
#include "ipc/server/message.h"
#include "ipc/server/peer.h"
#include "ipc/server/request.h"
#include "ipc/server/state.h"
#include "ipc/server/tenant.h"

#define SERVER_SPIN_NS 20000u /* a quiet ring is polled for so long */
/* Who was lent pages says soon that they are loaded: about a small one's time. */
#define SERVER_LOAN_NS	 100000u
#define SERVER_LOOK_NS	 10000u /* epoll is looked at that often */
#define SERVER_CLOCK	 8u	/* turns between two looks at the clock */
#define SERVER_QUIET	 16u	/* idle turns before work in the background */
#define SERVER_BUSY	 32u	/* requests after which it is not put off */
#define SERVER_EVENTS	 64
#define SERVER_ACCEPTS	 16 /* new clients in one turn */
#define SERVER_SWEEP_NS	 100000u
#define SERVER_WAITER_NS 1000000u /* parked requests are retried that often */
/* A socket closed without BYE: most likely its process is just dying. */
#define SERVER_DYING_NS 10000000u
#define SERVER_HELLO_NS 5000000000u
#define SERVER_HALF_MAX 64u
/* A newcomer may take the place of one that has said nothing for so long. */
#define SERVER_HALF_RIPE_NS 100000000u
/* Descriptors of a session where it has most: in the keeper. */
#define SERVER_SESSION_FDS SYN_SERVER_FDS
#define SERVER_OWN_FDS	   32u

/* The server's own descriptors; peers are told by their address. */
#define WAKE_STOP     4u
#define WAKE_DEV      8u
#define WAKE_LIFELINE 12u
#define WAKE_DISK     16u
#define WAKE_LISTEN   20u /* of the first tenant; the others follow */
#define WAKE_STEP     4u
#define WAKE_OWN_MAX  (WAKE_LISTEN + WAKE_STEP * SYN_SERVER_TENANTS_MAX)

/* ---- new and free ------------------------------------------------------- */

static void listen_stop(struct syn_server *server)
{
	uint32_t i;

	for (i = 0; i < server->config.nr_tenants; i++)
		(void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL,
				server->tenant[i].listen_fd, NULL);
	server->listening = false;
}

static int server_watch(struct syn_server *server, int fd, uint64_t wake)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = wake };

	if (fd < 0)
		return 0;
	if (syn_fault())
		return -ENOMEM;
	if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	return 0;
}

/* All of them or none. */
static int listen_start(struct syn_server *server)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < server->config.nr_tenants && !r; i++)
		r = server_watch(server, server->tenant[i].listen_fd,
				 WAKE_LISTEN + WAKE_STEP * i);
	server->listening = true;
	if (r)
		listen_stop(server);
	return r;
}

static int spare_open(void)
{
	int fd;

	if (syn_fault())
		return -EMFILE;
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool cpus_shared(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return true;
	return CPU_COUNT(&set) < 2;
}

/*
 * Sessions leave a quarter of the descriptors to extents, and what handshakes
 * need, so that those who are in never fail for those who come.
 */
static void limits_set(struct syn_server *server)
{
	const uint32_t max_fds = syn_max(server->config.max_fds, 128u);
	const uint32_t fds = max_fds - max_fds / 4;
	uint32_t rest;

	server->max_half = syn_min(max_fds / 32, SERVER_HALF_MAX);
	rest = SERVER_OWN_FDS + 2 * server->max_half +
	       2 * 2 * SYN_SERVER_CONTROL_MAX;
	server->max_engines =
		fds > rest ? (fds - rest) / SERVER_SESSION_FDS : 1;
	server->max_engines =
		syn_min(server->max_engines, server->config.max_sessions);
}

static void lists_init(struct syn_server *server)
{
	struct syn_list *const lists[] = { &server->half,    &server->control,
					   &server->live,    &server->ended,
					   &server->dead,    &server->active,
					   &server->waiting, &server->refused };

	for (size_t i = 0; i < syn_array_size(lists); i++)
		syn_list_init(lists[i]);
}

static int server_open(struct syn_server *server)
{
	const struct syn_server_config *config = &server->config;
	int r;

	if (syn_fault())
		return -EMFILE;
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->epoll_fd < 0)
		return -errno;
	if (syn_fault())
		return -EMFILE;
	server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->stop_fd < 0)
		return -errno;
	r = spare_open();
	if (r < 0)
		return r;
	server->spare_fd = r;
	r = server_watch(server, server->stop_fd, WAKE_STOP);
	if (!r)
		r = server_watch(server, config->dev_event_fd, WAKE_DEV);
	if (!r)
		r = server_watch(server, config->disk_event_fd, WAKE_DISK);
	if (!r)
		r = server_watch(server, config->lifeline_fd, WAKE_LIFELINE);
	if (!r)
		r = listen_start(server);
	return r;
}

/* Nobody was here before; else syn_server_adopt() knows. */
static int server_begin(struct syn_server *server)
{
	syn_peers_format(server);
	return syn_tenant_domains(server);
}

int syn_server_new(struct syn_server **ret,
		   const struct syn_server_config *config)
{
	struct syn_server *server;
	int r;

	if (!config->nr_tenants || config->nr_tenants > SYN_SERVER_TENANTS_MAX)
		return -EINVAL;
	server = syn_alloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->config = *config;
	memcpy(server->tenant, config->tenants,
	       config->nr_tenants * sizeof(*config->tenants));
	server->config.tenants = server->tenant;
	server->head = config->kept;
	if (!server->config.hello_timeout_ns)
		server->config.hello_timeout_ns = SERVER_HELLO_NS;
	server->epoll_fd = -1;
	server->stop_fd = -1;
	server->spare_fd = -1;
	server->spin = !cpus_shared();
	server->started_ns = syn_now_ns();
	server->mm_next_ns = UINT64_MAX;
	server->sweep_at_ns = UINT64_MAX;
	lists_init(server);
	limits_set(server);
	r = config->take ? 0 : server_begin(server);
	if (!r)
		r = server_open(server);
	if (r) {
		syn_server_free(server);
		return r;
	}
	*ret = server;
	return 0;
}

static void peers_end(struct syn_server *server, struct syn_list *list,
		      const char *reason)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;

	syn_list_for_each_safe (peer, tmp, list, link)
		syn_peer_end(peer, -ESHUTDOWN, reason);
}

/* The manager outlives the server, so every session must leave it. */
static void server_clear(struct syn_server *server, const char *reason)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;

	peers_end(server, &server->half, reason);
	peers_end(server, &server->control, reason);
	peers_end(server, &server->live, reason);
	syn_list_for_each_safe (peer, tmp, &server->ended, link)
		syn_peer_gone(peer, false);
	syn_peer_bury(server);
}

struct syn_server *syn_server_free(struct syn_server *server)
{
	if (!server)
		return NULL;
	server_clear(server, "the daemon is going away");
	syn_close(server->epoll_fd);
	syn_close(server->stop_fd);
	syn_close(server->spare_fd);
	(void)syn_fsck_free(server->fsck);
	free(server);
	return NULL;
}

void syn_server_stop(struct syn_server *server)
{
	const uint64_t one = 1;

	(void)!write(server->stop_fd, &one, sizeof(one));
}

/* ---- accept ------------------------------------------------------------- */

/* True when there is room, after an overdue one has made place if need be. */
static bool half_room(struct syn_server *server, uint64_t now_ns)
{
	struct syn_peer *oldest;

	if (server->nr_half < server->max_half)
		return true;
	oldest = syn_container_of(server->half.next, struct syn_peer, link);
	if (oldest->since_ns + SERVER_HALF_RIPE_NS > now_ns)
		return false;
	syn_peer_end(oldest, -ETIMEDOUT, "no HELLO, and others wait");
	return true;
}

/*
 * No descriptor is left: the spare one is given up for a moment to tell one
 * client.  Without a spare, listening stops until some descriptor is closed.
 */
static void accept_refuse(struct syn_server *server, uint32_t tenant)
{
	int fd;

	server->spare_fd = syn_close(server->spare_fd);
	fd = accept4(server->tenant[tenant].listen_fd, NULL, NULL,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		syn_peer_refuse(fd, -EMFILE, "too many clients");
	fd = spare_open();
	if (fd >= 0) {
		server->spare_fd = fd;
		return;
	}
	listen_stop(server);
	syn_warning("out of descriptors: no new clients for now");
}

/* A descriptor has come free. */
static void listen_again(struct syn_server *server)
{
	int fd = spare_open();

	if (fd < 0)
		return;
	server->spare_fd = fd;
	if (listen_start(server))
		server->spare_fd = syn_close(server->spare_fd);
}

static void server_accept(struct syn_server *server, uint32_t tenant,
			  uint64_t now_ns)
{
	for (int i = 0; i < SERVER_ACCEPTS && server->listening; i++) {
		int fd = accept4(server->tenant[tenant].listen_fd, NULL, NULL,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			accept_refuse(server, tenant);
			continue;
		}
		if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (fd < 0)
			return;
		if (half_room(server, now_ns))
			(void)syn_peer_new(server, tenant, fd, now_ns);
		else
			syn_peer_refuse(fd, -EUSERS, "too many handshakes");
	}
}

/* ---- background --------------------------------------------------------- */

/* A session whose process lives on goes when nothing is in quarantine. */
static void ended_sweep(struct syn_server *server, struct syn_peer *peer,
			uint64_t now_ns)
{
	uint64_t from_ns = peer->since_ns;

	if (!peer->said_bye)
		from_ns += SERVER_DYING_NS;
	if (from_ns > now_ns)
		server->sweep_at_ns = syn_min(server->sweep_at_ns, from_ns);
	else if (syn_mm_session_idle(peer->session))
		syn_peer_gone(peer, false);
}

/* Tells what happened to sessions by the doing of others. */
static void server_sweep(struct syn_server *server, uint64_t now_ns)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;

	server->sweep_at_ns = UINT64_MAX;
	server->swept_ns = now_ns;
	syn_list_for_each_safe (peer, tmp, &server->live, link) {
		syn_peer_notice(peer);
		if (!syn_peer_tell(peer))
			syn_request_unhold(peer);
	}
	syn_list_for_each_safe (peer, tmp, &server->ended, link)
		ended_sweep(server, peer, now_ns);
}

static void server_sweep_soon(struct syn_server *server)
{
	server->sweep_at_ns = syn_min(server->sweep_at_ns,
				      server->swept_ns + SERVER_SWEEP_NS);
}

/* Whoever has not said HELLO in time goes; the list is in order of arrival. */
static void half_expire(struct syn_server *server, uint64_t now_ns)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;

	syn_list_for_each_safe (peer, tmp, &server->half, link) {
		if (peer->since_ns + server->config.hello_timeout_ns > now_ns)
			break;
		syn_peer_end(peer, -ETIMEDOUT, "no HELLO in time");
	}
}

/* Moves the memory manager, then whatever can move because of that. */
static void server_advance(struct syn_server *server, uint64_t now_ns)
{
	if (syn_mm_poll(server->config.mm, now_ns, &server->mm_next_ns)) {
		server->retry_due = true;
		server_sweep_soon(server);
	}
	if (server->retry_due) {
		server->retry_due = false;
		if (!syn_list_empty(&server->waiting)) {
			syn_request_retry(server);
			server_sweep_soon(server);
		}
	}
	if (server->sweep_at_ns <= now_ns)
		server_sweep(server, now_ns);
}

/* An unpin makes room without a word, so whoever waits is tried by time. */
static uint64_t waiting_deadline(struct syn_server *server, uint64_t now_ns)
{
	if (syn_list_empty(&server->waiting))
		return UINT64_MAX;
	if (server->retry_at_ns <= now_ns) {
		server->retry_due = true;
		server->retry_at_ns = now_ns + SERVER_WAITER_NS;
		return now_ns;
	}
	return server->retry_at_ns;
}

/* Ends what is overdue; returns when the loop must run again. */
static uint64_t server_deadline(struct syn_server *server, uint64_t now_ns)
{
	uint64_t at_ns = syn_request_expire(server, now_ns);
	struct syn_peer *peer;

	half_expire(server, now_ns);
	if (!syn_list_empty(&server->half)) {
		peer = syn_container_of(server->half.next, struct syn_peer,
					link);
		at_ns = syn_min(at_ns, peer->since_ns +
					       server->config.hello_timeout_ns);
	}
	at_ns = syn_min(at_ns, waiting_deadline(server, now_ns));
	at_ns = syn_min(at_ns, server->mm_next_ns);
	return syn_min(at_ns, server->sweep_at_ns);
}

/* ---- rings -------------------------------------------------------------- */

static void ring_activate(struct syn_server *server, struct syn_peer *peer,
			  uint64_t now_ns)
{
	if (peer->state != SYN_PEER_LIVE)
		return;
	if (syn_list_empty(&peer->active))
		syn_list_add_tail(&server->active, &peer->active);
	syn_ring_awake(&peer->sq);
	peer->worked_ns = now_ns;
}

/*
 * A ring whose entries cannot be taken, because its client reaps nothing,
 * sleeps all the same: such a client has more outstanding than it may, and
 * must ring again.
 */
static void ring_sleep(struct syn_peer *peer, bool stuck)
{
	if (syn_ring_sleep(&peer->sq)) {
		syn_list_del(&peer->active);
		return;
	}
	/* An entry that came between the two looks is none of those. */
	if (stuck) {
		syn_store_seq_cst(peer->sq.sleeps, 1u);
		syn_list_del(&peer->active);
	}
}

#define RINGS_BROKEN "a ring index that cannot be"

/* One look at every active ring; how many requests were taken. */
static unsigned int rings_pass(struct syn_server *server, uint64_t now_ns)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;
	unsigned int taken = 0;
	int r;

	syn_list_for_each_safe (peer, tmp, &server->active, active) {
		r = syn_request_pass(peer, now_ns);
		if (r < 0)
			syn_peer_end(peer, r, RINGS_BROKEN);
		else
			taken += (unsigned int)r;
	}
	return taken;
}

/* How long a ring that had a request is polled for the next one. */
static uint64_t ring_spin_ns(const struct syn_server *server,
			     const struct syn_peer *peer)
{
	if (!server->spin)
		return 0;
	return syn_mm_loans(peer->session) ? SERVER_LOAN_NS : SERVER_SPIN_NS;
}

static void rings_sleep(struct syn_server *server, uint64_t now_ns)
{
	struct syn_peer *peer;
	struct syn_peer *tmp;
	bool stuck;

	syn_list_for_each_safe (peer, tmp, &server->active, active) {
		if (peer->worked_ns + ring_spin_ns(server, peer) > now_ns)
			continue;
		if (syn_request_look(peer)) {
			syn_peer_end(peer, -EPROTO, RINGS_BROKEN);
			continue;
		}
		stuck = syn_ring_waiting(&peer->sq) > 0 &&
			syn_request_pass(peer, now_ns) == 0;
		ring_sleep(peer, stuck);
	}
}

/*
 * Polls active rings until epoll is due; no system call in here.  The clock
 * and the background wait for a quiet moment, so that a client which asks one
 * thing after the other does not wait for them.
 */
static void rings_poll(struct syn_server *server, uint64_t now_ns)
{
	const uint64_t until_ns = now_ns + SERVER_LOOK_NS;
	unsigned int taken = 0; /* since the background last ran */
	unsigned int quiet = 0; /* turns since something was taken */
	unsigned int turn = 0;

	while (now_ns < until_ns && !syn_list_empty(&server->active)) {
		unsigned int nr = rings_pass(server, now_ns);

		taken += nr;
		quiet = nr ? 0 : quiet + 1;
		if (taken && (quiet == SERVER_QUIET || taken >= SERVER_BUSY ||
			      !server->spin)) {
			now_ns = syn_now_ns();
			server_advance(server, now_ns);
			taken = 0;
		} else if (++turn % SERVER_CLOCK == 0) {
			now_ns = syn_now_ns();
		}
		if (!nr && !server->spin)
			break;
		if (!nr)
			syn_cpu_relax();
	}
	now_ns = syn_now_ns();
	if (taken)
		server_advance(server, now_ns);
	rings_sleep(server, now_ns);
}

/* ---- the loop ----------------------------------------------------------- */

static void peer_woken(struct syn_server *server, struct syn_peer *peer,
		       uint32_t what, uint32_t events, uint64_t now_ns)
{
	if (peer->state == SYN_PEER_DEAD)
		return;
	if (what == SYN_WAKE_PID) {
		syn_peer_gone(peer, true);
		return;
	}
	if (what == SYN_WAKE_BELL) {
		ring_activate(server, peer, now_ns);
		return;
	}
	if ((events & EPOLLOUT) && peer->state == SYN_PEER_LIVE &&
	    !syn_peer_tell(peer))
		syn_request_unhold(peer);
	/* What was sent before the end is still read. */
	if (events & EPOLLIN)
		syn_message_read(peer);
	if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		syn_peer_end(peer, -ESHUTDOWN, NULL);
}

static void server_woken(struct syn_server *server, uint64_t wake,
			 uint64_t now_ns)
{
	switch (wake) {
	case WAKE_STOP:
	case WAKE_LIFELINE:
		server->stopping = true;
		break;
	case WAKE_DEV:
	case WAKE_DISK:
		server->mm_next_ns = now_ns;
		break;
	default:
		server_accept(server,
			      (uint32_t)(wake - WAKE_LISTEN) / WAKE_STEP,
			      now_ns);
		break;
	}
}

/* Waits for events; UINT64_MAX: as long as it takes. */
static int server_epoll(struct syn_server *server, struct epoll_event *events,
			uint64_t timeout_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
			       .tv_nsec = (long)(timeout_ns % 1000000000u) };
	int r;

	r = epoll_pwait2(server->epoll_fd, events, SERVER_EVENTS,
			 timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
	if (r < 0 && errno != EINTR)
		return -errno;
	return syn_max(r, 0);
}

static int server_turn(struct syn_server *server)
{
	struct epoll_event events[SERVER_EVENTS];
	uint64_t now_ns = syn_now_ns();
	uint64_t wait_ns = 0;
	uint64_t at_ns = server_deadline(server, now_ns);
	int r;

	if (syn_list_empty(&server->active))
		wait_ns = at_ns == UINT64_MAX ? UINT64_MAX
			  : at_ns > now_ns    ? at_ns - now_ns
					      : 0;
	r = server_epoll(server, events, wait_ns);
	if (r < 0)
		return r;
	now_ns = syn_now_ns();
	syn_mm_clock(server->config.mm, now_ns);
	for (int i = 0; i < r; i++) {
		uint64_t wake = events[i].data.u64;
		uint32_t what = (uint32_t)(wake & SYN_WAKE_MASK);

		if (wake <= WAKE_OWN_MAX)
			server_woken(server, wake, now_ns);
		else
			peer_woken(server,
				   (struct syn_peer *)(uintptr_t)(wake - what),
				   what, events[i].events, now_ns);
	}
	if (server->mm_next_ns <= now_ns || server->retry_due ||
	    server->sweep_at_ns <= now_ns)
		server_advance(server, now_ns);
	rings_poll(server, now_ns);
	if (!syn_list_empty(&server->dead)) {
		syn_peer_bury(server);
		if (!server->listening)
			listen_again(server);
	}
	return 0;
}

int syn_server_run(struct syn_server *server)
{
	sigset_t pipe_set;
	int r = 0;

	/* A client may close its end of the pipe that wakes it. */
	(void)sigemptyset(&pipe_set);
	(void)sigaddset(&pipe_set, SIGPIPE);
	(void)pthread_sigmask(SIG_BLOCK, &pipe_set, NULL);
	while (!server->stopping && !r)
		r = server_turn(server);
	if (server->leaving)
		return r ? r : SYN_SERVER_LEFT;
	server_clear(server, "the daemon is shutting down");
	return r;
}
