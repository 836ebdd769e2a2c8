/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares of attention.  Kernels write them into batches, which lie in a ring;
 * once the work that writes a batch is done, its shares are summed by page, and
 * the sums are reported a while later.  Nobody waits for any of it: what finds
 * no room is left out, because a report is advice.
 *
 * What a kernel has written is believed no more than what a peer has.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/list.h"
#include "ipc/client/client-internal.h"
#include "ipc/client/opts.h"
#include "ipc/client/trace.h"

#define SHARES_BYTES (16ull << 20)
/* Batches begin where no two of them share a line of any device's. */
#define SHARES_ALIGN 256u
/* How long sums wait for more. */
#define SHARES_WAIT_NS 10000000u
/* Reports under way at once. */
#define SHARES_REPORTS 16u
/* struct syn_vec_share counts in 2^-16. */
#define SHARES_UNITS 65536.0
/* What rounding may add to a share. */
#define SHARES_SLACK 1.01f

/**
 * struct batch - shares that are being written, or were.
 * @link:	in the order of the ring.
 * @number:	of this batch, from 1 on.
 * @summed:	done with; its room is free once all before it are.
 * @at:		bytes from the ring's begin to the shares.
 * @bytes:	that they take.
 * @info:	as it was begun; @info.pages are @pages.
 * @pages:	of the parts; once summed, without repetitions.
 */
struct batch {
	struct syn_list link;
	uint64_t number;
	bool summed;
	uint64_t at;
	uint64_t bytes;
	struct syn_shares_batch info;
	uint64_t pages[];
};

/**
 * struct sum - what a page received and nobody was told.
 * @page:	which.
 * @share:	so much.
 * @queries:	of so many queries; 0: nothing was summed.
 * @last:	the last batch whose queries were counted.
 */
struct sum {
	uint64_t page;
	double share;
	uint64_t queries;
	uint64_t last;
};

enum report_state {
	REPORT_IDLE,
	/* There was no room to send it. */
	REPORT_WAITS,
	REPORT_SENT,
};

/**
 * struct report - a request.
 * @state:	see above.
 * @req:	the request.
 * @vec:	what it says.
 */
struct report {
	enum report_state state;
	struct syn_request req;
	struct syn_vec_share vec[SYN_BATCH_MAX];
};

/**
 * struct syn_reports - shares of a client.
 * @client:	whose.
 * @lock:	guards all that follows.
 * @ring:	memory that kernels write.
 * @bytes:	of it.
 * @batches:	in the order of their begin; the first frees room first.
 * @tail:	where the next one may begin.
 * @number:	of the last one.
 * @sum:	by page-table entry.
 * @due:	a queue of entries that have something to report, ...
 * @first_due:	... its first ...
 * @nr_due:	... and its length.
 * @since_ns:	when the queue began to fill.
 * @report:	to the daemon.
 * @stats:	so far.
 */
struct syn_reports {
	struct syn_client *client;
	pthread_mutex_t lock;
	char *ring;
	uint64_t bytes;
	struct syn_list batches;
	uint64_t tail;
	uint64_t number;
	struct sum *sum;
	uint32_t *due;
	uint32_t first_due;
	uint32_t nr_due;
	uint64_t since_ns;
	struct report report[SHARES_REPORTS];
	struct syn_shares_stats stats;
};

/* ---- the ring ----------------------------------------------------------- */

static struct batch *batch_first(struct syn_reports *rp)
{
	return syn_container_of(rp->batches.next, struct batch, link);
}

/* Where @bytes are free; UINT64_MAX: nowhere. */
static uint64_t ring_find(struct syn_reports *rp, uint64_t bytes)
{
	uint64_t head;

	if (syn_list_empty(&rp->batches))
		return 0;
	head = batch_first(rp)->at;
	/* A full ring has its tail at its head. */
	if (rp->tail <= head)
		return bytes <= head - rp->tail ? rp->tail : UINT64_MAX;
	if (bytes <= rp->bytes - rp->tail)
		return rp->tail;
	return bytes <= head ? 0 : UINT64_MAX;
}

static void ring_retire(struct syn_reports *rp)
{
	while (!syn_list_empty(&rp->batches) && batch_first(rp)->summed) {
		struct batch *b = batch_first(rp);

		syn_list_del(&b->link);
		free(b);
	}
}

/* ---- sums --------------------------------------------------------------- */

static void sum_add(struct syn_reports *rp, const struct batch *b,
		    uint64_t page, double share)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	uint32_t max = rp->client->nr_pages;
	struct sum *s = &rp->sum[index];

	if (!s->queries) {
		rp->due[(rp->first_due + rp->nr_due++) % max] = index;
		s->share = 0;
		s->last = 0;
	} else if (s->page != page) {
		/* The entry has become another page's. */
		rp->stats.gone++;
		s->share = 0;
		s->queries = 0;
		s->last = 0;
	}
	s->page = page;
	s->share += share;
	if (s->last != b->number)
		s->queries += b->info.queries;
	s->last = b->number;
}

/* All query heads of a KV head; what is no share is none. */
static float group_sum(struct syn_reports *rp, const struct batch *b,
		       const float *shares)
{
	float most = (float)b->info.queries * SHARES_SLACK;
	float sum = 0;

	for (uint32_t g = 0; g < b->info.group; g++) {
		if (shares[g] >= 0 && shares[g] <= most)
			sum += shares[g];
		else
			rp->stats.invalid++;
	}
	return sum;
}

/*
 * By page and KV head, in the batch's own memory: what is written lies before
 * what is read next.  Parts of a page that follow one another become one.
 */
static void batch_fold(struct syn_reports *rp, struct batch *b)
{
	struct syn_shares_batch *info = &b->info;
	float *shares = (float *)(void *)(rp->ring + b->at);
	size_t heads = info->kv_heads;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < info->nr_parts; i++) {
		bool same = nr && b->pages[nr - 1] == b->pages[i];
		float *to = shares + (nr - same) * heads;

		for (size_t h = 0; h < heads; h++) {
			float sum = group_sum(
				rp, b, shares + (i * heads + h) * info->group);

			to[h] = same ? to[h] + sum : sum;
		}
		if (!same)
			b->pages[nr++] = b->pages[i];
	}
	info->nr_parts = nr;
}

static void batch_sum(struct syn_reports *rp, struct batch *b)
{
	const float *shares = (const float *)(void *)(rp->ring + b->at);

	batch_fold(rp, b);
	syn_trace_shares(rp->client, &b->info, shares);
	for (uint32_t i = 0; i < b->info.nr_parts; i++) {
		double sum = 0;

		for (uint32_t h = 0; h < b->info.kv_heads; h++)
			sum += (double)*shares++;
		sum_add(rp, b, b->pages[i], sum);
	}
	b->summed = true;
	rp->stats.batches++;
}

/* Returns when that was. */
static uint64_t sum_complete(struct syn_reports *rp)
{
	uint64_t now_ns = syn_now_ns();
	struct batch *b;

	if (!rp->nr_due)
		rp->since_ns = now_ns;
	syn_list_for_each (b, &rp->batches, link) {
		const struct syn_timeline *t =
			&rp->client->timeline[b->info.timeline];

		/* Pairs with who said so: the shares are there. */
		if (!b->summed && syn_load_acquire(&t->done) >= b->info.value)
			batch_sum(rp, b);
	}
	ring_retire(rp);
	return now_ns;
}

/* ---- reports ------------------------------------------------------------ */

/* A kernel that writes when it should be done may have made @x anything. */
static uint32_t to_u32(double x)
{
	if (!(x > 0))
		return 0;
	return x < (double)UINT32_MAX ? (uint32_t)x : UINT32_MAX;
}

/* The daemon takes all of a request or nothing: none of it has gone. */
static void report_filter(struct syn_reports *rp, struct report *report)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < report->req.sqe.nr; i++) {
		if (syn_page_check(rp->client, report->vec[i].handle))
			rp->stats.gone++;
		else
			report->vec[nr++] = report->vec[i];
	}
	report->req.sqe.nr = nr;
	report->req.in_bytes = nr * sizeof(report->vec[0]);
	report->state = nr ? REPORT_WAITS : REPORT_IDLE;
}

static void report_fill(struct syn_reports *rp, struct report *report)
{
	uint32_t nr = 0;

	for (; rp->nr_due && nr < SYN_BATCH_MAX; nr++, rp->nr_due--) {
		struct sum *s = &rp->sum[rp->due[rp->first_due]];

		report->vec[nr] = (struct syn_vec_share){
			.handle = s->page,
			.share = to_u32(s->share * SHARES_UNITS + 0.5),
			.queries = to_u32((double)s->queries),
		};
		s->queries = 0;
		rp->first_due = (rp->first_due + 1) % rp->client->nr_pages;
	}
	report->req = (struct syn_request){
		.sqe = { .op = SYN_OP_REPORT, .nr = nr },
		.in = report->vec,
	};
	report_filter(rp, report);
}

/* Pages may have been released on the way; without those it is sent again. */
static void report_end_locked(struct syn_reports *rp, struct report *report)
{
	uint32_t nr = report->req.sqe.nr;

	report->state = REPORT_IDLE;
	if (report->req.res >= 0) {
		rp->stats.pages += nr;
		return;
	}
	report_filter(rp, report);
	if (report->req.sqe.nr < nr)
		return;
	rp->stats.gone += nr;
	report->state = REPORT_IDLE;
}

static void report_run_locked(struct syn_reports *rp, struct report *report,
			      bool due)
{
	if (report->state == REPORT_SENT && report->req.done)
		report_end_locked(rp, report);
	if (report->state == REPORT_IDLE && due && rp->nr_due)
		report_fill(rp, report);
	if (report->state != REPORT_WAITS)
		return;
	report->req.done = false;
	if (!syn_request_post_locked(rp->client, &report->req))
		return;
	report->state = REPORT_SENT;
	rp->stats.requests++;
}

static void report_all(struct syn_reports *rp, bool due)
{
	(void)pthread_mutex_lock(&rp->client->lock);
	syn_reap_locked(rp->client);
	for (unsigned int i = 0; i < SHARES_REPORTS; i++)
		report_run_locked(rp, &rp->report[i], due);
	(void)pthread_mutex_unlock(&rp->client->lock);
}

static struct syn_reports *reports_of(struct syn_client *c)
{
	return syn_load_acquire(&c->reports);
}

void syn_shares_look(struct syn_client *c)
{
	struct syn_reports *rp = reports_of(c);
	uint64_t now_ns;

	if (syn_likely(!rp) || syn_client_check(c))
		return;
	(void)pthread_mutex_lock(&rp->lock);
	now_ns = sum_complete(rp);
	report_all(rp, now_ns - rp->since_ns >= SHARES_WAIT_NS);
	(void)pthread_mutex_unlock(&rp->lock);
}

void syn_shares_leave(struct syn_client *c, const uint64_t *pages,
		      unsigned int nr)
{
	struct syn_reports *rp = reports_of(c);
	bool due = false;

	if (syn_likely(!rp))
		return;
	(void)pthread_mutex_lock(&rp->lock);
	(void)sum_complete(rp);
	for (unsigned int i = 0; i < nr && !due; i++)
		due = rp->sum[SYN_HANDLE_INDEX(pages[i])].queries;
	if (due)
		report_all(rp, true);
	(void)pthread_mutex_unlock(&rp->lock);
}

/* ---- for engines -------------------------------------------------------- */

static int batch_check(const struct syn_reports *rp,
		       const struct syn_shares_batch *info)
{
	uint64_t heads = (uint64_t)info->kv_heads * info->group;
	int r = 0;

	if (!info->pages || !info->nr_parts || !info->queries ||
	    info->queries > SYN_SHARES_QUERIES_MAX || !heads ||
	    heads > SYN_SHARES_HEADS_MAX ||
	    info->timeline >= rp->client->nr_timelines)
		return -EINVAL;
	if (info->nr_parts > rp->bytes / (heads * sizeof(float)))
		return -E2BIG;
	for (uint32_t i = 0; i < info->nr_parts && !r; i++)
		r = syn_page_check(rp->client, info->pages[i]);
	return r;
}

static int batch_new(const struct syn_shares_batch *info, struct batch **ret)
{
	size_t pages = info->nr_parts * sizeof(uint64_t);
	struct batch *b = syn_alloc(1, sizeof(*b) + pages);

	if (!b)
		return -ENOMEM;
	b->info = *info;
	memcpy(b->pages, info->pages, pages);
	b->info.pages = b->pages;
	b->bytes = syn_align_up((uint64_t)info->nr_parts * info->kv_heads *
					info->group * sizeof(float),
				SHARES_ALIGN);
	*ret = b;
	return 0;
}

/* Takes @b, unless there is no room. */
static int batch_put(struct syn_reports *rp, struct batch *b, float **ret)
{
	uint64_t at = ring_find(rp, b->bytes);

	if (at == UINT64_MAX) {
		(void)sum_complete(rp);
		at = ring_find(rp, b->bytes);
	}
	if (at == UINT64_MAX) {
		rp->stats.refused++;
		return -EAGAIN;
	}
	b->at = at;
	b->number = ++rp->number;
	syn_list_add_tail(&rp->batches, &b->link);
	rp->tail = at + b->bytes;
	memset(rp->ring + at, 0, b->bytes);
	*ret = (float *)(void *)(rp->ring + at);
	return 0;
}

int syn_shares_begin(struct syn_client *client,
		     const struct syn_shares_batch *batch, float **ret)
{
	SYN_KEEP_ERRNO;
	struct syn_reports *rp = reports_of(client);
	struct syn_shares_batch own;
	struct batch *b;
	int r = syn_client_check(client);

	if (!r)
		r = SYN_OPTS_READ(&own, batch);
	if (!r)
		r = rp ? batch_check(rp, &own) : -EINVAL;
	if (!r)
		r = batch_new(&own, &b);
	if (r)
		return r;
	(void)pthread_mutex_lock(&rp->lock);
	r = batch_put(rp, b, ret);
	(void)pthread_mutex_unlock(&rp->lock);
	if (r)
		free(b);
	return r;
}

int syn_shares_read(struct syn_client *client, struct syn_shares_stats *ret)
{
	struct syn_reports *rp = reports_of(client);
	struct syn_shares_stats stats = { 0 };

	if (syn_client_check(client) == -ECHILD)
		return -ECHILD;
	if (ret->sz < sizeof(ret->sz))
		return -EINVAL;
	if (rp) {
		(void)pthread_mutex_lock(&rp->lock);
		stats = rp->stats;
		(void)pthread_mutex_unlock(&rp->lock);
	}
	stats.sz = ret->sz;
	memset(ret, 0, ret->sz);
	memcpy(ret, &stats, syn_min(stats.sz, sizeof(stats)));
	return 0;
}

/* ---- begin and end ------------------------------------------------------ */

static void reports_free(struct syn_reports *rp, bool forked)
{
	struct batch *b;
	struct batch *next;

	syn_list_for_each_safe (b, next, &rp->batches, link) {
		free(b);
	}
	if (!forked) {
		if (rp->ring)
			(void)munmap(rp->ring, rp->bytes);
		(void)pthread_mutex_destroy(&rp->lock);
	}
	free(rp->sum);
	free(rp->due);
	free(rp);
}

static int ring_map(struct syn_reports *rp)
{
	void *at;

	if (syn_fault())
		return -ENOMEM;
	at = mmap(NULL, rp->bytes, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	rp->ring = at;
	return madvise(at, rp->bytes, MADV_DONTFORK) ? -errno : 0;
}

static int reports_new(struct syn_client *c, uint64_t bytes,
		       struct syn_reports **ret)
{
	struct syn_reports *rp = syn_alloc(1, sizeof(*rp));
	int r = -ENOMEM;

	if (!rp)
		return r;
	rp->client = c;
	rp->bytes = syn_align_up(bytes, (uint64_t)sysconf(_SC_PAGESIZE));
	syn_list_init(&rp->batches);
	(void)pthread_mutex_init(&rp->lock, NULL);
	rp->sum = syn_alloc(c->nr_pages, sizeof(*rp->sum));
	rp->due = syn_alloc(c->nr_pages, sizeof(*rp->due));
	if (rp->sum && rp->due)
		r = ring_map(rp);
	if (r) {
		reports_free(rp, false);
		return r;
	}
	*ret = rp;
	return 0;
}

int syn_shares_open(struct syn_client *client,
		    const struct syn_shares_opts *opts)
{
	SYN_KEEP_ERRNO;
	const struct syn_shares_opts none = SYN_OPTS(struct syn_shares_opts);
	struct syn_shares_opts own;
	struct syn_reports *rp;
	int r = syn_client_check(client);

	if (!r)
		r = SYN_OPTS_READ(&own, opts ? opts : &none);
	if (!r && own.bytes > SYN_SHARES_BYTES_MAX)
		r = -EINVAL;
	if (!r)
		r = reports_new(client, own.bytes ? own.bytes : SHARES_BYTES,
				&rp);
	if (r)
		return r;
	(void)pthread_mutex_lock(&client->lock);
	if (client->reports)
		r = -EBUSY;
	else
		r = syn_client_share_locked(client, rp->ring, rp->bytes);
	if (!r)
		syn_store_release(&client->reports, rp);
	(void)pthread_mutex_unlock(&client->lock);
	if (r)
		reports_free(rp, false);
	return r;
}

void syn_shares_free(struct syn_client *c, bool forked)
{
	if (!c->reports)
		return;
	if (!forked)
		c->device->ops->unshare(c->device, c->reports->ring);
	reports_free(c->reports, forked);
	c->reports = NULL;
}
