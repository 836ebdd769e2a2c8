/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of a session, played by a thread of a test: a socket, two
 * segments, a ring, and whatever the test makes of them.
 */
#ifndef SYN_TEST_UNIT_CLIENT_PEER_H
#define SYN_TEST_UNIT_CLIENT_PEER_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <synapse/abi.h>
#include <synapse/client.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "ipc/ring.h"
#include "test/test.h"

#define PEER_PAGES     1024u
#define PEER_TIMELINES 4u
#define PEER_PAGE      8192u /* bytes of a page, a slot and a frame */
#define PEER_TILES     4u
#define PEER_SLOTS     128u

struct peer;

/* Plays one connection; runs in a thread of its own. */
typedef void (*peer_script_fn)(struct peer *peer);
/* Answers one request; false: later, or never. */
typedef bool (*peer_answer_fn)(struct peer *peer, const struct syn_sqe *sqe,
			       const void *in, struct syn_cqe *cqe, void *out);

struct peer {
	char path[64];
	int listen;
	int sock;
	int client_fd;
	int daemon_fd;
	int wake;
	int woken;
	unsigned char *client;
	unsigned char *daemon;
	struct syn_msg_hello hello;
	struct syn_msg_welcome welcome;
	struct syn_ring sq;
	struct syn_ring cq;
	uint64_t *pte;
	uint32_t *pin;
	struct syn_loan *loan;
	uint32_t *sums;
	struct syn_msg_space space; /* as it came */
	uint64_t page_bytes;
	uint32_t nr_tiles;
	uint64_t nr_requests[SYN_OP_NR];
	peer_script_fn script;
	peer_answer_fn answer;
	bool stop;
	void *ctx;
	pthread_t thread;
};

static inline void peer_welcome_init(struct peer *p)
{
	struct syn_msg_welcome *w = &p->welcome;

	*w = (struct syn_msg_welcome){
		.msg = { .type = SYN_MSG_WELCOME, .size = sizeof(*w) },
		.version = 1,
		.session = 42,
		.epoch = 3,
		.features = SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU |
			    SYN_FEATURE_H4,
		.nr_pages = PEER_PAGES,
		.nr_timelines = PEER_TIMELINES,
		.sqe_off = 4096,
		.timeline_off = 12288,
		.pin_off = 16384,
		.sq_vec_off = 32768,
		.client_bytes = 32768 + SYN_SQ_ENTRIES * SYN_VEC_BYTES,
		.cqe_off = 4096,
		.inflight_off = 8192,
		.loan_off = 16384,
		.pte_off = 57344, /* and room for a loan too many */
		.cq_vec_off = 65536,
		.sums_off = 65536 + SYN_CQ_ENTRIES * SYN_VEC_BYTES,
	};
	w->daemon_bytes =
		w->sums_off + sizeof(uint32_t) * SYN_LOANS_MAX * SYN_TILES_MAX;
}

static inline void peer_segments(struct peer *p)
{
	const struct syn_msg_welcome *w = &p->welcome;
	void *map;

	assert_int_equal(
		syn_conn_segment_new("test", w->client_bytes, &p->client_fd),
		0);
	assert_int_equal(
		syn_conn_segment_new("test", w->daemon_bytes, &p->daemon_fd),
		0);
	assert_int_equal(
		syn_conn_segment_map(p->client_fd, w->client_bytes, 1, &map),
		0);
	p->client = map;
	assert_int_equal(
		syn_conn_segment_map(p->daemon_fd, w->daemon_bytes, 1, &map),
		0);
	p->daemon = map;
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->woken = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(p->wake >= 0 && p->woken >= 0);
	p->pte = (void *)(p->daemon + w->pte_off);
	p->loan = (void *)(p->daemon + w->loan_off);
	p->sums = (void *)(p->daemon + w->sums_off);
	p->pin = (void *)(p->client + w->pin_off);
}

static inline void peer_rings(struct peer *p)
{
	struct syn_client_ctl *c = (void *)p->client;
	struct syn_daemon_ctl *d = (void *)p->daemon;

	d->epoch = p->welcome.epoch;
	p->sq = (struct syn_ring){ .mine = &d->sq_head,
				   .theirs = &c->sq_tail,
				   .sleeps = &d->sq_sleeps,
				   .entries = p->client + p->welcome.sqe_off,
				   .entry_bytes = sizeof(struct syn_sqe),
				   .mask = SYN_SQ_ENTRIES - 1 };
	p->cq = (struct syn_ring){ .mine = &d->cq_tail,
				   .theirs = &c->cq_head,
				   .sleeps = &c->cq_sleeps,
				   .entries = p->daemon + p->welcome.cqe_off,
				   .entry_bytes = sizeof(struct syn_cqe),
				   .mask = SYN_CQ_ENTRIES - 1 };
}

static inline void *peer_main(void *arg)
{
	struct peer *p = arg;
	struct pollfd fd = { .fd = p->listen, .events = POLLIN };
	int fds[SYN_FDS_MAX];

	while (poll(&fd, 1, -1) < 1)
		;
	p->sock = accept4(p->listen, NULL, NULL, SOCK_CLOEXEC);
	/* Woken by shutdown() of the listener: nobody came. */
	if (p->sock < 0)
		return NULL;
	if (syn_conn_recv(p->sock, &p->hello, sizeof(p->hello), fds) ==
	    sizeof(p->hello))
		p->script(p);
	p->sock = syn_close(p->sock);
	return NULL;
}

static inline void peer_start(struct peer *p, peer_script_fn script)
{
	static unsigned int count;

	memset(p, 0, sizeof(*p));
	p->sock = -1;
	p->script = script;
	p->page_bytes = PEER_PAGE;
	p->nr_tiles = PEER_TILES;
	(void)snprintf(p->path, sizeof(p->path), "/tmp/synapse-test-%d-%u",
		       getpid(), count++);
	assert_int_equal(syn_conn_listen(p->path, 0600, &p->listen), 0);
	peer_welcome_init(p);
	peer_segments(p);
	peer_rings(p);
	assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

/* Joins the script and frees everything. */
static inline void peer_stop(struct peer *p)
{
	const uint64_t one = 1;

	syn_store_release(&p->stop, true);
	(void)!write(p->wake, &one, sizeof(one));
	(void)shutdown(p->listen, SHUT_RDWR);
	assert_int_equal(pthread_join(p->thread, NULL), 0);
	p->listen = syn_close(p->listen);
	(void)unlink(p->path);
	(void)munmap(p->client, p->welcome.client_bytes);
	(void)munmap(p->daemon, p->welcome.daemon_bytes);
	p->client_fd = syn_close(p->client_fd);
	p->daemon_fd = syn_close(p->daemon_fd);
	p->wake = syn_close(p->wake);
	p->woken = syn_close(p->woken);
}

static inline int peer_attach(struct peer *p, struct syn_client **ret,
			      char *ret_reason)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);

	opts.path = p->path;
	return syn_attach(&opts, ret, ret_reason);
}

/* Twice, as a failure that a test has armed is meant for the client. */
static inline void peer_send(struct peer *p, void *msg, const int *fds,
			     unsigned int nr)
{
	if (syn_conn_send(p->sock, msg, fds, nr))
		(void)syn_conn_send(p->sock, msg, fds, nr);
}

static inline void peer_send_welcome(struct peer *p)
{
	const int fds[] = { p->client_fd, p->daemon_fd, p->wake, p->woken };

	peer_send(p, &p->welcome, fds, 4);
}

static inline void peer_send_bye(struct peer *p, int error, const char *reason)
{
	struct syn_msg_bye bye = { .msg = { .type = SYN_MSG_BYE,
					    .size = sizeof(bye),
					    .error = error } };

	(void)snprintf(bye.reason, sizeof(bye.reason), "%s", reason);
	peer_send(p, &bye, NULL, 0);
}

static inline void peer_complete(struct peer *p, const struct syn_cqe *cqe,
				 const void *out)
{
	const uint64_t one = 1;
	uint32_t at = p->cq.own;

	*(struct syn_cqe *)syn_ring_entry(&p->cq, at) = *cqe;
	memcpy(p->daemon + p->welcome.cq_vec_off +
		       (size_t)(at & p->cq.mask) * SYN_VEC_BYTES,
	       out, SYN_VEC_BYTES);
	if (syn_ring_publish(&p->cq, 1))
		(void)!write(p->woken, &one, sizeof(one));
}

static inline void peer_take(struct peer *p)
{
	unsigned char in[SYN_VEC_BYTES] __attribute__((aligned(8)));
	unsigned char out[SYN_VEC_BYTES] __attribute__((aligned(8))) = { 0 };
	uint32_t at = p->sq.own;
	struct syn_sqe sqe = *(struct syn_sqe *)syn_ring_entry(&p->sq, at);
	struct syn_cqe cqe = { .cookie = sqe.cookie };

	memcpy(in,
	       p->client + p->welcome.sq_vec_off +
		       (size_t)(at & p->sq.mask) * SYN_VEC_BYTES,
	       sizeof(in));
	syn_ring_consume(&p->sq, 1);
	p->nr_requests[sqe.op]++;
	if (p->answer(p, &sqe, in, &cqe, out))
		peer_complete(p, &cqe, out);
}

/* The same geometry whatever was asked. */
static inline void peer_send_space(struct peer *p)
{
	struct syn_msg_space_reply r = {
		.msg = { .type = SYN_MSG_SPACE_REPLY, .size = sizeof(r) },
		.space = 5,
		.nr_tiles = p->nr_tiles,
		.page_bytes = p->page_bytes,
		.identity = 99,
	};

	peer_send(p, &r, NULL, 0);
}

static inline void peer_notice(struct peer *p, uint32_t notice)
{
	struct syn_daemon_ctl *ctl = (void *)p->daemon;

	syn_store_seq_cst(&ctl->notices,
			  SYN_NOTICE_COUNT(ctl->notices, notice));
}

/* Fills a fresh extent with @byte, announces it and forgets it. */
static inline void peer_send_extent(struct peer *p, uint32_t id, uint32_t tier,
				    uint32_t first_slot, uint32_t nr_frames,
				    int byte)
{
	struct syn_msg_extent m = {
		.msg = { .type = SYN_MSG_EXTENT, .size = sizeof(m) },
		.extent = id,
		.tier = tier,
		.first_slot = first_slot,
		.nr_frames = nr_frames,
		.frame_bytes = p->page_bytes,
		.bytes = nr_frames * p->page_bytes,
	};
	void *map;
	int fd = -1;

	assert_int_equal(syn_conn_segment_new("test", m.bytes, &fd), 0);
	assert_int_equal(syn_conn_segment_map(fd, m.bytes, 1, &map), 0);
	memset(map, byte, m.bytes);
	(void)munmap(map, m.bytes);
	peer_send(p, &m, &fd, 1);
	fd = syn_close(fd);
	peer_notice(p, SYN_NOTICE_SOCKET);
}

static inline void peer_send_window(struct peer *p, uint32_t slots)
{
	struct syn_msg_window_reply r = {
		.msg = { .type = SYN_MSG_WINDOW_REPLY, .size = sizeof(r) },
		.window = 0,
		.slots = slots,
		.range_slots = PEER_SLOTS,
		.stride = p->page_bytes,
	};

	peer_send(p, &r, NULL, 0);
}

/* One message of the client; false when it has gone. */
static inline bool peer_message(struct peer *p)
{
	union {
		struct syn_msg msg;
		struct syn_msg_window window;
		struct syn_msg_space space;
	} m;
	int fds[SYN_FDS_MAX];

	if (syn_conn_recv(p->sock, &m, sizeof(m), fds) <= 0)
		return false;
	if (m.msg.type == SYN_MSG_SPACE) {
		p->space = m.space;
		peer_send_space(p);
	}
	if (m.msg.type == SYN_MSG_WINDOW) {
		/* The upper half comes later, when a test wants it. */
		peer_send_extent(p, 1, SYN_TIER_HBM, 0, PEER_SLOTS / 2, 0);
		peer_send_window(p, m.window.slots);
	}
	return m.msg.type != SYN_MSG_BYE;
}

static inline void peer_sleep(struct peer *p)
{
	struct pollfd fds[2] = { { .fd = p->wake, .events = POLLIN },
				 { .fd = p->sock, .events = POLLIN } };
	uint64_t count;

	if (!syn_ring_sleep(&p->sq))
		return;
	(void)poll(fds, 2, 1000);
	syn_ring_awake(&p->sq);
	(void)!read(p->wake, &count, sizeof(count));
	if (fds[1].revents && !peer_message(p))
		syn_store_release(&p->stop, true);
}

/* Answers until told to stop, or the client has gone. */
static inline void peer_serve(struct peer *p)
{
	while (!syn_load_acquire(&p->stop)) {
		if (syn_ring_waiting(&p->sq) > 0)
			peer_take(p);
		else
			peer_sleep(p);
	}
}

static inline void peer_script_serve(struct peer *p)
{
	peer_send_welcome(p);
	peer_serve(p);
}

/* A space of one component, and a window on it. */
static inline void peer_window(struct syn_client *client, uint64_t model,
			       uint32_t slots, struct syn_space *ret,
			       struct syn_window **ret_w)
{
	static const struct syn_component component = {
		.role = SYN_ROLE_K,
		.dtype = SYN_DTYPE_F16,
		.heads = 1,
		.dim = 32,
		.codec = SYN_CODEC_RAW16,
	};
	struct syn_space_opts sopts = SYN_OPTS(struct syn_space_opts);
	struct syn_window_opts wopts = SYN_OPTS(struct syn_window_opts);

	sopts.model[0] = model;
	sopts.tokens = 128;
	sopts.nr_components = 1;
	sopts.components = &component;
	assert_int_equal(syn_space_define(client, &sopts, ret), 0);
	wopts.slots = slots;
	assert_int_equal(syn_window_open(client, ret, &wopts, ret_w), 0);
}

static inline void peer_open(struct peer *p, uint32_t slots,
			     struct syn_client **ret, struct syn_window **ret_w)
{
	struct syn_space space;

	assert_int_equal(peer_attach(p, ret, NULL), 0);
	peer_window(*ret, 0, slots, &space, ret_w);
}

#endif
