/* SPDX-License-Identifier: Apache-2.0 */
/* What a page costs that is where it should be; and what a lease costs. */
#include <pthread.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/bench/bench.h"

#define PIN_PAGE_BYTES	 4096u
#define PIN_PAGES	 100000u
#define PIN_PAGES_MANY	 1000000u
#define PIN_STRETCH	 (16 * SYN_BATCH_MAX)
#define PIN_CONTENDED	 64u /* pages that two threads fight for */
#define PIN_CONTENDED_NR 1000000u
#define LEASE_ROUNDS	 500u

/**
 * struct herd - resident pages, in the order in which they are pinned.
 * @guest:	whose.
 * @pages:	@nr handles, in random order.
 * @nr:		see there.
 */
struct herd {
	struct syn_guest guest;
	uint64_t *pages;
	uint32_t nr;
};

static void herd_shuffle(struct herd *herd, uint32_t *order)
{
	syn_shuffle(order, herd->nr, herd->nr);
	for (uint32_t i = 0; i < herd->nr; i++) {
		uint64_t swap = herd->pages[i];

		herd->pages[i] = herd->pages[order[i]];
		herd->pages[order[i]] = swap;
	}
}

/* Open pages stay resident: the daemon moves only what is committed. */
static int herd_lease(struct herd *herd)
{
	uint32_t *order = syn_alloc(herd->nr, sizeof(*order));
	int r;

	herd->pages = syn_alloc(herd->nr, sizeof(*herd->pages));
	if (!herd->pages || !order) {
		free(order);
		return -ENOMEM;
	}
	r = syn_lease(herd->guest.window, herd->nr, SYN_FOREVER, herd->pages);
	if (r == 0)
		herd_shuffle(herd, order);
	free(order);
	return r == 0 ? 0 : syn_bench_fail("lease", r);
}

static int herd_open(const struct syn_bench *bench,
		     const struct syn_daemon *daemon, uint32_t nr,
		     struct herd *ret)
{
	struct herd herd = { .nr = nr };
	int r;

	r = syn_guest_open(bench, daemon, PIN_PAGE_BYTES, nr, nr, &herd.guest);
	if (r < 0)
		return r;
	r = herd_lease(&herd);
	if (r < 0) {
		syn_guest_close(&herd.guest);
		free(herd.pages);
		return r;
	}
	*ret = herd;
	return 0;
}

static void herd_close(struct herd *herd)
{
	syn_guest_close(&herd->guest);
	free(herd->pages);
}

/*
 * Times are medians over short stretches of work: on a machine where something
 * else runs, too, most stretches are not interrupted.
 */
static int pin_stretch(const struct herd *herd, uint32_t first, uint32_t nr)
{
	struct syn_client *client = herd->guest.client;
	int refused = 0;
	void *addr;

	for (uint32_t i = first; i < first + nr; i++) {
		if (syn_pin(client, &herd->pages[i], 1, &addr) == 0)
			syn_unpin(client, herd->guest.timeline, &herd->pages[i],
				  1);
		else
			refused++;
	}
	return refused;
}

static int pin_stretch_batched(const struct herd *herd, uint32_t first,
			       uint32_t nr)
{
	struct syn_client *client = herd->guest.client;
	void *addr[SYN_BATCH_MAX];

	for (uint32_t i = first; i < first + nr; i += SYN_BATCH_MAX) {
		if (syn_pin(client, &herd->pages[i], SYN_BATCH_MAX, addr) != 0)
			return 1;
		syn_unpin(client, herd->guest.timeline, &herd->pages[i],
			  SYN_BATCH_MAX);
	}
	return 0;
}

/* ns for a pin and an unpin of one page; negative when one was refused. */
static double pin_time(const struct herd *herd,
		       int (*stretch)(const struct herd *, uint32_t, uint32_t))
{
	uint32_t nr = herd->nr / PIN_STRETCH;
	double *ns = syn_alloc(nr, sizeof(*ns));
	double median = -1;
	uint32_t i;

	for (i = 0; ns && i < nr; i++) {
		uint64_t start_ns = syn_now_ns();

		if (stretch(herd, i * PIN_STRETCH, PIN_STRETCH))
			break;
		ns[i] = (double)(syn_now_ns() - start_ns) / PIN_STRETCH;
	}
	if (ns && i == nr)
		median = syn_median(ns, nr);
	free(ns);
	return median;
}

/**
 * struct rival - one of two threads that pin the same few pages.
 * @herd:	the pages.
 * @cpu:	where it runs.
 * @go:		shared: 1 when both shall begin.
 * @random:	state of its order.
 * @ns:		what a pair cost it.
 */
struct rival {
	const struct herd *herd;
	int cpu;
	uint32_t *go;
	uint32_t random;
	double ns;
};

/* The same few pages as the other one, in an order of its own. */
static void rival_stretch(struct rival *rival)
{
	const struct syn_guest *guest = &rival->herd->guest;

	for (uint32_t i = 0; i < PIN_STRETCH; i++) {
		const uint64_t *page;
		void *addr;

		rival->random = rival->random * 1664525u + 1013904223u;
		page = &rival->herd
				->pages[(rival->random >> 16) % PIN_CONTENDED];
		if (syn_pin(guest->client, page, 1, &addr) == 0)
			syn_unpin(guest->client, guest->timeline, page, 1);
	}
}

static void *rival_run(void *arg)
{
	struct rival *rival = arg;
	double ns[PIN_CONTENDED_NR / PIN_STRETCH];

	syn_cpu_bind(rival->cpu);
	while (!syn_load_acquire(rival->go))
		syn_cpu_relax();
	for (size_t i = 0; i < syn_array_size(ns); i++) {
		uint64_t start_ns = syn_now_ns();

		rival_stretch(rival);
		ns[i] = (double)(syn_now_ns() - start_ns) / PIN_STRETCH;
	}
	rival->ns = syn_median(ns, syn_array_size(ns));
	return NULL;
}

/* The mean of both, or a negative number. */
static double pin_contended(const struct syn_bench *bench,
			    const struct herd *herd)
{
	uint32_t go = 0;
	struct rival rivals[2] = {
		{ .herd = herd,
		  .cpu = bench->client_cpu,
		  .go = &go,
		  .random = 1 },
		{ .herd = herd,
		  .cpu = bench->daemon_cpu,
		  .go = &go,
		  .random = 2 },
	};
	pthread_t threads[2];
	unsigned int nr = 0;

	while (nr < 2 &&
	       pthread_create(&threads[nr], NULL, rival_run, &rivals[nr]) == 0)
		nr++;
	syn_store_release(&go, 1u);
	for (unsigned int i = 0; i < nr; i++)
		(void)pthread_join(threads[i], NULL);
	return nr == 2 ? (rivals[0].ns + rivals[1].ns) / 2 : -1;
}

static int pin_add(struct syn_bench *bench, const char *name,
		   enum syn_goal goal, double ns)
{
	if (ns < 0)
		return syn_bench_fail(name, -EAGAIN);
	syn_figure_add(&bench->figures, "pin", name, "ns", goal, 20, ns);
	return 0;
}

static int pin_measure(struct syn_bench *bench, const struct herd *herd)
{
	int r = 0;

	(void)pin_time(herd, pin_stretch);
	for (unsigned int run = 0; run < bench->runs && r == 0; run++) {
		r = pin_add(bench, "random, 1e5 pages", SYN_GOAL_AT_MOST,
			    pin_time(herd, pin_stretch));
		if (r == 0)
			r = pin_add(bench, "batch of 64, 1e5 pages",
				    SYN_GOAL_NONE,
				    pin_time(herd, pin_stretch_batched));
		if (r == 0)
			r = pin_add(bench, "64 pages, 2 threads", SYN_GOAL_NONE,
				    pin_contended(bench, herd));
	}
	return r;
}

static int pin_measure_many(struct syn_bench *bench, const struct herd *herd)
{
	int r = 0;

	(void)pin_time(herd, pin_stretch);
	for (unsigned int run = 0; run < bench->runs && r == 0; run++)
		r = pin_add(bench, "random, 1e6 pages", SYN_GOAL_NONE,
			    pin_time(herd, pin_stretch));
	return r;
}

/* A daemon and a herd of @nr pages for @measure. */
static int pin_with(struct syn_bench *bench, uint32_t nr,
		    int (*measure)(struct syn_bench *, const struct herd *))
{
	const struct syn_daemon_opts opts = {
		.hbm_mib =
			(uint64_t)nr * PIN_PAGE_BYTES / (1u << 20) * 9 / 8 + 64,
		.host_mib = 64,
		.max_pages = nr + 1024,
	};
	struct syn_daemon daemon;
	struct herd herd;
	int r;

	r = syn_daemon_start(bench, &opts, &daemon);
	if (r < 0)
		return r;
	r = herd_open(bench, &daemon, nr, &herd);
	if (r == 0) {
		r = measure(bench, &herd);
		herd_close(&herd);
	}
	syn_daemon_stop(&daemon);
	return r;
}

int syn_bench_pin(struct syn_bench *bench)
{
	int r;

	r = pin_with(bench, PIN_PAGES, pin_measure);
	if (r == 0)
		r = pin_with(bench, PIN_PAGES_MANY, pin_measure_many);
	return r;
}

/* Medians of ns a page for leases and for releases, in batches of 64. */
static int lease_rounds(const struct syn_guest *guest, double *ret_lease_ns,
			double *ret_release_ns)
{
	double lease_ns[LEASE_ROUNDS], release_ns[LEASE_ROUNDS];
	uint64_t pages[SYN_BATCH_MAX];
	int r;

	for (unsigned int i = 0; i < LEASE_ROUNDS; i++) {
		uint64_t start_ns = syn_now_ns(), middle_ns;

		r = syn_lease(guest->window, SYN_BATCH_MAX, SYN_FOREVER, pages);
		if (r != 0)
			return syn_bench_fail("lease", r);
		middle_ns = syn_now_ns();
		r = syn_release(guest->client, pages, SYN_BATCH_MAX);
		if (r != 0)
			return syn_bench_fail("release", r);
		lease_ns[i] = (double)(middle_ns - start_ns) / SYN_BATCH_MAX;
		release_ns[i] =
			(double)(syn_now_ns() - middle_ns) / SYN_BATCH_MAX;
	}
	*ret_lease_ns = syn_median(lease_ns, LEASE_ROUNDS);
	*ret_release_ns = syn_median(release_ns, LEASE_ROUNDS);
	return 0;
}

static int lease_measure(struct syn_bench *bench, const struct syn_guest *guest)
{
	double lease_ns, release_ns;
	int r;

	r = lease_rounds(guest, &lease_ns, &release_ns);
	for (unsigned int run = 0; run < bench->runs && r == 0; run++) {
		r = lease_rounds(guest, &lease_ns, &release_ns);
		if (r < 0)
			return r;
		syn_figure_add(&bench->figures, "lease", "lease, batch of 64",
			       "ns", SYN_GOAL_AT_MOST, 100, lease_ns);
		syn_figure_add(&bench->figures, "lease", "release, batch of 64",
			       "ns", SYN_GOAL_NONE, 0, release_ns);
	}
	return r;
}

int syn_bench_lease(struct syn_bench *bench)
{
	const struct syn_daemon_opts opts = {
		.hbm_mib = 64,
		.host_mib = 64,
		.max_pages = 65536,
	};
	struct syn_daemon daemon;
	struct syn_guest guest;
	int r;

	r = syn_daemon_start(bench, &opts, &daemon);
	if (r < 0)
		return r;
	r = syn_guest_open(bench, &daemon, PIN_PAGE_BYTES, 4096, 4096, &guest);
	if (r == 0) {
		r = lease_measure(bench, &guest);
		syn_guest_close(&guest);
	}
	syn_daemon_stop(&daemon);
	return r;
}
