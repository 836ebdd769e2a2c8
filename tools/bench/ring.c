/* SPDX-License-Identifier: Apache-2.0 */
/* The round trip of a real lease against a bare ring, in interleaved pairs. */
#include "core/base/atomic.h"
#include "core/base/base.h"
#include "tools/bench/bare.h"
#include "tools/bench/bench.h"

#define RING_PAGE_BYTES 4096u
#define RING_SPIN_NS	20000u /* design: look at most this long */
#define RING_BLOCKS	20u
#define RING_BLOCK	100u
#define RING_WARM	20u
#define RING_ASLEEP	100u
#define RING_REST_NS	300000u /* the other side sleeps by then */

/**
 * struct rink - both sides of the comparison.
 * @bench:	the run.
 * @guest:	a client of the daemon.
 * @bare:	a bare ring.
 */
struct rink {
	struct syn_bench *bench;
	struct syn_guest guest;
	struct syn_bare bare;
};

/* Our own CPU stays awake, so that only the other side's sleep is measured. */
static void rest(void)
{
	uint64_t end_ns = syn_now_ns() + RING_REST_NS;

	while (syn_now_ns() < end_ns)
		syn_cpu_relax();
}

/* A lease of one page in ns; its release is not counted. */
static int lease_time(struct rink *rink, double *ret_ns)
{
	uint64_t start_ns = syn_now_ns();
	uint64_t page;
	int r;

	r = syn_lease(rink->guest.window, 1, SYN_FOREVER, &page);
	*ret_ns = (double)(syn_now_ns() - start_ns);
	if (r != 0)
		return syn_bench_fail("lease", r);
	r = syn_release(rink->guest.client, &page, 1);
	return r == 0 ? 0 : syn_bench_fail("release", r);
}

static int bare_time(struct rink *rink, double *ret_ns)
{
	uint64_t start_ns = syn_now_ns();
	int r = syn_bare_ping(&rink->bare);

	*ret_ns = (double)(syn_now_ns() - start_ns);
	return r;
}

static int block_time(struct rink *rink, int (*one)(struct rink *, double *),
		      double *ret_ns)
{
	double warm;
	int r = 0;

	for (unsigned int i = 0; i < RING_WARM && r == 0; i++)
		r = one(rink, &warm);
	for (unsigned int i = 0; i < RING_BLOCK && r == 0; i++)
		r = one(rink, &ret_ns[i]);
	return r;
}

/* Medians in ns of both sides, awake: blocks in turn. */
static int awake_run(struct rink *rink, double *ret_lease, double *ret_bare)
{
	double lease[RING_BLOCKS * RING_BLOCK];
	double bare[RING_BLOCKS * RING_BLOCK];
	int r = 0;

	for (unsigned int i = 0; i < RING_BLOCKS && r == 0; i++) {
		r = block_time(rink, lease_time, &lease[i * RING_BLOCK]);
		if (r == 0)
			r = block_time(rink, bare_time, &bare[i * RING_BLOCK]);
	}
	*ret_lease = syn_median(lease, syn_array_size(lease));
	*ret_bare = syn_median(bare, syn_array_size(bare));
	return r;
}

/* The same with a rest before each request. */
static int asleep_run(struct rink *rink, double *ret_lease, double *ret_bare)
{
	double lease[RING_ASLEEP], bare[RING_ASLEEP];
	int r = 0;

	for (unsigned int i = 0; i < RING_ASLEEP && r == 0; i++) {
		rest();
		r = lease_time(rink, &lease[i]);
		rest();
		if (r == 0)
			r = bare_time(rink, &bare[i]);
	}
	*ret_lease = syn_median(lease, syn_array_size(lease));
	*ret_bare = syn_median(bare, syn_array_size(bare));
	return r;
}

/**
 * struct setting - one comparison.
 * @run:	how.
 * @target:	of the ratio.
 * @lease:	name of the lease's figure.
 * @bare:	name of the bare ring's.
 * @ratio:	name of the ratio.
 */
struct setting {
	int (*run)(struct rink *rink, double *ret_lease, double *ret_bare);
	double target;
	const char *lease;
	const char *bare;
	const char *ratio;
};

static const struct setting alone[] = {
	{ awake_run, 1.5, "lease, awake", "bare, awake", "ratio, awake" },
	{ asleep_run, 1.2, "lease, asleep", "bare, asleep", "ratio, asleep" },
};

static const struct setting crowded[] = {
	{ awake_run, 1.5, "lease, awake, 256 idle", "bare, awake, 256 idle",
	  "ratio, awake, 256 idle" },
	{ asleep_run, 1.2, "lease, asleep, 256 idle", "bare, asleep, 256 idle",
	  "ratio, asleep, 256 idle" },
};

static int setting_run(struct rink *rink, const struct setting *setting)
{
	struct syn_figures *figures = &rink->bench->figures;
	double lease, bare;
	int r;

	for (unsigned int run = 0; run < rink->bench->runs; run++) {
		r = setting->run(rink, &lease, &bare);
		if (r < 0)
			return r;
		syn_figure_add(figures, "ring", setting->lease, "us",
			       SYN_GOAL_NONE, 0, lease / 1e3);
		syn_figure_add(figures, "ring", setting->bare, "us",
			       SYN_GOAL_NONE, 0, bare / 1e3);
		syn_figure_add(figures, "ring", setting->ratio, "x",
			       SYN_GOAL_AT_MOST, setting->target, lease / bare);
	}
	return 0;
}

static int settings_run(struct rink *rink, const struct setting *settings,
			unsigned int nr)
{
	int r = 0;

	for (unsigned int i = 0; i < nr && r == 0; i++)
		r = setting_run(rink, &settings[i]);
	return r;
}

static int rink_run(struct rink *rink, const struct syn_daemon *daemon)
{
	struct syn_client *crowd[SYN_IDLE_SESSIONS];
	int r;

	r = settings_run(rink, alone, syn_array_size(alone));
	if (r < 0)
		return r;
	r = syn_crowd_open(daemon, crowd, SYN_IDLE_SESSIONS);
	if (r < 0)
		return r;
	r = settings_run(rink, crowded, syn_array_size(crowded));
	syn_crowd_close(crowd, SYN_IDLE_SESSIONS);
	return r;
}

int syn_bench_ring(struct syn_bench *bench)
{
	const struct syn_daemon_opts opts = {
		.hbm_mib = 64,
		.host_mib = 64,
		.max_pages = 65536,
	};
	struct rink rink = { .bench = bench };
	struct syn_daemon daemon;
	int r;

	/* Ends that share a CPU must not spin. */
	r = syn_bare_open(bench->daemon_cpu,
			  bench->client_cpu == bench->daemon_cpu ? 0
								 : RING_SPIN_NS,
			  &rink.bare);
	if (r < 0)
		return r;
	r = syn_daemon_start(bench, &opts, &daemon);
	if (r < 0)
		goto close_bare;
	r = syn_guest_open(bench, &daemon, RING_PAGE_BYTES, 1024, 1024,
			   &rink.guest);
	if (r == 0) {
		r = rink_run(&rink, &daemon);
		syn_guest_close(&rink.guest);
	}
	syn_daemon_stop(&daemon);
close_bare:
	syn_bare_close(&rink.bare);
	return r;
}
