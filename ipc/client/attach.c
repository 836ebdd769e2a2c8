/* SPDX-License-Identifier: Apache-2.0 */
/* A session begins with a handshake and ends with detach. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/client-internal.h"
#include "ipc/client/opts.h"
#include "ipc/client/trace.h"
#include "ipc/conn.h"

#define ATTACH_PATH	  "/run/synapse/synapse.sock"
#define ATTACH_PAGES	  65536u
#define ATTACH_TIMELINES  8u
#define ATTACH_TIMEOUT_NS 5000000000u
#define ATTACH_FDS	  4u

/* Without the first there is no session; the rest is used if the daemon has it. */
static uint64_t attach_features(void)
{
	return SYN_FEATURE_RAW16 | SYN_FEATURE_HOST_CPU | SYN_FEATURE_H4 |
	       SYN_FEATURE_CODED |
	       (syn_device_has_cuda() ? SYN_FEATURE_CUDA : 0);
}

/* Extents are of one kind. */
static bool features_are_sane(uint64_t features)
{
	return !(features & ~attach_features()) &&
	       features & SYN_FEATURE_RAW16 &&
	       !(features & SYN_FEATURE_HOST_CPU) ==
		       !!(features & SYN_FEATURE_CUDA);
}

/* The kernel fills the word with zero in a child. */
static int state_new(uint32_t **ret)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	void *page;

	if (syn_fault())
		return -ENOMEM;
	page = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -errno;
	if (madvise(page, bytes, MADV_WIPEONFORK)) {
		int r = -errno;

		(void)munmap(page, bytes);
		return r;
	}
	*ret = page;
	**ret = SYN_CLIENT_USABLE;
	return 0;
}

/* Takes what attach has left half done; a child unmaps nothing of its parent. */
static struct syn_client *client_free(struct syn_client *c)
{
	bool forked = c->state && *c->state == SYN_CLIENT_FORKED;

	syn_extent_free_all(c, forked);
	syn_window_free_all(c, forked);
	syn_shares_free(c, forked);
	syn_trace_free(c, forked);
	if (!forked) {
		syn_timelines_unshare(c);
		c->device->ops->close(c->device);
	}
	if (c->client_map && !forked)
		(void)munmap(c->client_map, c->client_bytes);
	if (c->daemon_map && !forked)
		(void)munmap(c->daemon_map, c->daemon_bytes);
	if (c->state)
		(void)munmap(c->state, (size_t)sysconf(_SC_PAGESIZE));
	syn_closep(&c->sock);
	syn_closep(&c->wake);
	syn_closep(&c->woken);
	free(c->window_of);
	free(c->layout);
	/* A child may have been born while another thread held them. */
	if (!forked) {
		(void)pthread_cond_destroy(&c->turn);
		(void)pthread_mutex_destroy(&c->lock);
	}
	free(c);
	return NULL;
}

static int client_new(struct syn_client **ret)
{
	struct syn_client *c = syn_alloc(1, sizeof(*c));
	cpu_set_t cpus;
	int r;

	if (!c)
		return -ENOMEM;
	c->sock = -1;
	c->wake = -1;
	c->woken = -1;
	c->idle = UINT64_MAX;
	c->device = syn_device_host();
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->turn, NULL);
	/* More CPUs than the set holds are more than one. */
	c->spins = sched_getaffinity(0, sizeof(cpus), &cpus) ||
		   CPU_COUNT(&cpus) > 1;
	r = state_new(&c->state);
	if (r) {
		(void)client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static int attach_wait(const struct syn_client *c, short events,
		       uint64_t deadline_ns)
{
	struct pollfd fd = { .fd = c->sock, .events = events };
	uint64_t now_ns = syn_now_ns();
	int nr;

	if (now_ns >= deadline_ns)
		return -ETIMEDOUT;
	nr = poll(&fd, 1,
		  (int)syn_min((deadline_ns - now_ns) / 1000000u + 1,
			       (uint64_t)INT32_MAX));
	return nr < 0 && errno != EINTR ? -errno : 0;
}

static void hello_init(struct syn_msg_hello *hello,
		       const struct syn_attach_opts *opts)
{
	const char *name =
		opts->name ? opts->name : program_invocation_short_name;

	*hello = (struct syn_msg_hello){
		.msg = { .type = SYN_MSG_HELLO, .size = sizeof(*hello) },
		.version_min = SYN_ABI_VERSION_MIN,
		.version_max = SYN_ABI_VERSION_MAX,
		.kind = SYN_KIND_ENGINE,
		.features = attach_features(),
		.sqe_size = sizeof(struct syn_sqe),
		.cqe_size = sizeof(struct syn_cqe),
		.loan_size = sizeof(struct syn_loan),
		.nr_pages = opts->nr_pages ? opts->nr_pages : ATTACH_PAGES,
		.nr_timelines = opts->nr_timelines ? opts->nr_timelines
						   : ATTACH_TIMELINES,
		.job_ranks = 1,
	};
	memcpy(hello->name, name, strnlen(name, sizeof(hello->name) - 1));
}

static int hello_send(struct syn_client *c, const struct syn_attach_opts *opts,
		      uint64_t deadline_ns)
{
	struct syn_msg_hello hello;
	int r;

	hello_init(&hello, opts);
	do {
		r = syn_conn_send(c->sock, &hello.msg, NULL, 0);
		if (r == -EAGAIN) {
			r = attach_wait(c, POLLOUT, deadline_ns);
			if (!r)
				r = -EAGAIN;
		}
	} while (r == -EAGAIN);
	/* A refusal may have been quicker; its reason is there to be read. */
	return r == -EPIPE ? 0 : r;
}

union attach_answer {
	struct syn_msg msg;
	struct syn_msg_welcome welcome;
	struct syn_msg_bye bye;
};

/* On success @fds are the caller's. */
static int welcome_receive(struct syn_client *c, union attach_answer *ret,
			   int *fds, uint64_t deadline_ns)
{
	for (;;) {
		int n = syn_conn_recv(c->sock, ret, sizeof(*ret), fds);

		if (n > 0)
			return n;
		if (n == 0)
			return -ECONNRESET;
		if (n != -EAGAIN)
			return n;
		n = attach_wait(c, POLLIN, deadline_ns);
		if (n)
			return n;
	}
}

/* Inside a segment of @bytes, behind its control block, and aligned. */
static bool table_fits(uint64_t off, uint64_t nr, uint64_t each,
		       uint64_t ctl_bytes, uint64_t bytes)
{
	uint64_t end;

	/* The limits on counts keep the product small. */
	return off % sizeof(uint64_t) == 0 && off >= ctl_bytes &&
	       !syn_add_overflow(off, nr * each, &end) && end <= bytes;
}

static bool client_tables_fit(const struct syn_msg_welcome *w)
{
	const uint64_t ctl = sizeof(struct syn_client_ctl);

	return table_fits(w->sqe_off, SYN_SQ_ENTRIES, sizeof(struct syn_sqe),
			  ctl, w->client_bytes) &&
	       table_fits(w->sq_vec_off, SYN_SQ_ENTRIES, SYN_VEC_BYTES, ctl,
			  w->client_bytes) &&
	       table_fits(w->timeline_off, w->nr_timelines,
			  sizeof(struct syn_timeline), ctl, w->client_bytes) &&
	       table_fits(w->pin_off, w->nr_pages, sizeof(uint32_t), ctl,
			  w->client_bytes);
}

static bool daemon_tables_fit(const struct syn_msg_welcome *w)
{
	const uint64_t ctl = sizeof(struct syn_daemon_ctl);

	return table_fits(w->cqe_off, SYN_CQ_ENTRIES, sizeof(struct syn_cqe),
			  ctl, w->daemon_bytes) &&
	       table_fits(w->cq_vec_off, SYN_CQ_ENTRIES, SYN_VEC_BYTES, ctl,
			  w->daemon_bytes) &&
	       table_fits(w->loan_off, SYN_LOANS_MAX, sizeof(struct syn_loan),
			  ctl, w->daemon_bytes) &&
	       table_fits(w->sums_off, SYN_LOANS_MAX * SYN_TILES_MAX,
			  sizeof(uint32_t), ctl, w->daemon_bytes) &&
	       table_fits(w->pte_off, w->nr_pages, sizeof(uint64_t), ctl,
			  w->daemon_bytes);
}

static int welcome_check(const union attach_answer *answer, int bytes)
{
	const struct syn_msg_welcome *w = &answer->welcome;

	if (answer->msg.type != SYN_MSG_WELCOME || answer->msg.error ||
	    (size_t)bytes != sizeof(*w) || answer->msg.nr_fds != ATTACH_FDS)
		return -EPROTO;
	if (w->version < SYN_ABI_VERSION_MIN ||
	    w->version > SYN_ABI_VERSION_MAX || w->pad0 ||
	    !features_are_sane(w->features))
		return -EPROTO;
	if (!w->nr_pages || w->nr_pages > SYN_PAGES_MAX || !w->nr_timelines ||
	    w->nr_timelines > SYN_TIMELINES_MAX)
		return -EPROTO;
	return client_tables_fit(w) && daemon_tables_fit(w) ? 0 : -EPROTO;
}

static int segment_map(int fd, uint64_t bytes, int writable, void **ret)
{
	int r = syn_conn_segment_map(fd, bytes, writable, ret);

	if (r)
		return r;
	return madvise(*ret, bytes, MADV_DONTFORK) ? -errno : 0;
}

static void rings_init(struct syn_client *c, const struct syn_msg_welcome *w)
{
	unsigned char *mine = c->client_map;
	unsigned char *theirs = c->daemon_map;
	struct syn_client_ctl *client_ctl = c->client_map;
	struct syn_daemon_ctl *daemon_ctl = c->daemon_map;

	c->sq = (struct syn_ring){
		.mine = &client_ctl->sq_tail,
		.theirs = &daemon_ctl->sq_head,
		.sleeps = &daemon_ctl->sq_sleeps,
		.entries = mine + w->sqe_off,
		.entry_bytes = sizeof(struct syn_sqe),
		.mask = SYN_SQ_ENTRIES - 1,
	};
	c->cq = (struct syn_ring){
		.mine = &client_ctl->cq_head,
		.theirs = &daemon_ctl->cq_tail,
		.sleeps = &client_ctl->cq_sleeps,
		.entries = theirs + w->cqe_off,
		.entry_bytes = sizeof(struct syn_cqe),
		.mask = SYN_CQ_ENTRIES - 1,
	};
	c->sq_vec = mine + w->sq_vec_off;
	c->cq_vec = theirs + w->cq_vec_off;
	c->ctl = daemon_ctl;
}

static void tables_init(struct syn_client *c, const struct syn_msg_welcome *w)
{
	unsigned char *mine = c->client_map;
	unsigned char *theirs = c->daemon_map;

	c->timeline = (void *)(mine + w->timeline_off);
	c->pin = (void *)(mine + w->pin_off);
	c->loan = (void *)(theirs + w->loan_off);
	c->sums = (void *)(theirs + w->sums_off);
	c->pte = (void *)(theirs + w->pte_off);
	c->nr_pages = w->nr_pages;
	c->nr_timelines = w->nr_timelines;
	c->session = w->session;
	c->features = w->features;
	c->notices = syn_load_acquire(&c->ctl->notices);
	c->inbox_seen = c->notices;
	c->epoch = w->epoch;
}

static int welcome_apply(struct syn_client *c, const struct syn_msg_welcome *w,
			 int *fds)
{
	int r;

	c->client_bytes = w->client_bytes;
	c->daemon_bytes = w->daemon_bytes;
	r = segment_map(fds[0], w->client_bytes, 1, &c->client_map);
	if (r)
		return r;
	r = segment_map(fds[1], w->daemon_bytes, 0, &c->daemon_map);
	if (r)
		return r;
	c->window_of = syn_alloc(w->nr_pages, sizeof(*c->window_of));
	if (!c->window_of)
		return -ENOMEM;
	c->wake = syn_steal_fd(&fds[2]);
	c->woken = syn_steal_fd(&fds[3]);
	rings_init(c, w);
	tables_init(c, w);
	return 0;
}

static int bye_result(union attach_answer *answer, int bytes, char *ret_reason)
{
	struct syn_msg_bye *bye = &answer->bye;

	if ((size_t)bytes != sizeof(*bye))
		return -EPROTO;
	bye->reason[sizeof(bye->reason) - 1] = '\0';
	if (ret_reason)
		memcpy(ret_reason, bye->reason, sizeof(bye->reason));
	return bye->msg.error < 0 ? bye->msg.error : -ECONNREFUSED;
}

static int attach_handshake(struct syn_client *c,
			    const struct syn_attach_opts *opts,
			    char *ret_reason)
{
	uint64_t deadline_ns = syn_deadline_ns(
		opts->timeout_ns ? opts->timeout_ns : ATTACH_TIMEOUT_NS);
	union attach_answer answer;
	int fds[SYN_FDS_MAX];
	int n;
	int r;

	r = hello_send(c, opts, deadline_ns);
	if (r)
		return r;
	n = welcome_receive(c, &answer, fds, deadline_ns);
	if (n < 0)
		return n;
	if (answer.msg.type == SYN_MSG_BYE)
		r = bye_result(&answer, n, ret_reason);
	else
		r = welcome_check(&answer, n);
	if (!r)
		r = welcome_apply(c, &answer.welcome, fds);
	for (unsigned int i = 0; i < SYN_FDS_MAX; i++)
		syn_closep(&fds[i]);
	return r;
}

static const char *attach_path(const struct syn_attach_opts *opts)
{
	const char *path = opts->path;

	if (!path)
		path = secure_getenv("SYNAPSE_SOCKET");
	return path ? path : ATTACH_PATH;
}

static int attach_connect(struct syn_client *c, const char *path)
{
	int r = syn_conn_connect(path, &c->sock);

	if (r)
		return r;
	return fcntl(c->sock, F_SETFL, O_NONBLOCK) ? -errno : 0;
}

int syn_attach(const struct syn_attach_opts *opts, struct syn_client **ret,
	       char *ret_reason)
{
	SYN_KEEP_ERRNO;
	const struct syn_attach_opts none = SYN_OPTS(struct syn_attach_opts);
	struct syn_attach_opts own;
	struct syn_client *c;
	int r;

	if (ret_reason)
		ret_reason[0] = '\0';
	r = SYN_OPTS_READ(&own, opts ? opts : &none);
	if (r)
		return r;
	r = client_new(&c);
	if (r)
		return r;
	r = attach_connect(c, attach_path(&own));
	if (!r)
		r = attach_handshake(c, &own, ret_reason);
	if (r) {
		(void)client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

/* Everything is unmapped before the daemon hears of it. */
static void detach_unmap(struct syn_client *c)
{
	syn_extent_free_all(c, false);
	syn_window_free_all(c, false);
	(void)munmap(c->client_map, c->client_bytes);
	(void)munmap(c->daemon_map, c->daemon_bytes);
	c->client_map = NULL;
	c->daemon_map = NULL;
}

struct syn_client *syn_detach(struct syn_client *client)
{
	SYN_KEEP_ERRNO;
	struct syn_msg_bye bye = {
		.msg = { .type = SYN_MSG_BYE, .size = sizeof(bye) },
		.reason = "detached",
	};

	if (!client)
		return NULL;
	if (syn_load_relaxed(client->state) != SYN_CLIENT_FORKED) {
		detach_unmap(client);
		(void)syn_conn_send(client->sock, &bye.msg, NULL, 0);
	}
	return client_free(client);
}

const char *syn_client_reason(struct syn_client *client)
{
	return syn_load_acquire(client->state) == SYN_CLIENT_ENDED
		       ? client->reason
		       : "";
}

uint32_t syn_client_session(const struct syn_client *client)
{
	return client->session;
}
