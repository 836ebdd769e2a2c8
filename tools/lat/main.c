/* SPDX-License-Identifier: Apache-2.0 */
/* synapse-lat: how long faults take, interval by interval. */
#include <signal.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/lat/daemon.h"
#include "tools/lat/options.h"
#include "tools/lat/show.h"
#include "tools/lat/table.h"
#include "tools/lat/trace.h"

#define EXIT_ERROR    1
#define EXIT_USAGE    2
#define EXIT_NO_TRACE 3

/**
 * struct lat - the run.
 * @opts:	what was asked for.
 * @daemon:	whom we follow.
 * @trace:	what we follow them with.
 * @before:	histograms at the last print, @nr_before of them.
 * @nr_before:	see there.
 * @news:	room for what came since.
 * @counts:	as of the last print; @counts.lost counts all that is lost.
 * @shown:	faults in all that was printed.
 * @printed_ns:	when.
 * @away:	it was said that nobody answers.
 */
struct lat {
	struct syn_lat_options opts;
	struct syn_lat_daemon *daemon;
	struct syn_lat_trace *trace;
	struct syn_lat_entry *before;
	size_t nr_before;
	struct syn_lat_entry *news;
	struct syn_lat_counts counts;
	uint64_t shown;
	uint64_t printed_ns;
	bool away;
};

static int complain(int code, int error, const char *what, const char *reason)
{
	(void)fprintf(stderr, "synapse-lat: %s: %s%s%s\n", what,
		      strerror(-error), *reason ? ": " : "", reason);
	return code;
}

/* What no histogram has although it ended, and what did not end, are lost. */
static void counts_settle(struct lat *lat, struct syn_lat_counts *now)
{
	if (now->ended > lat->shown)
		now->lost += now->ended - lat->shown;
	now->lost = syn_max(now->lost, lat->counts.lost);
}

static int lat_print(struct lat *lat)
{
	struct syn_lat_interval interval = { .by = lat->opts.by,
					     .daemon = lat->daemon };
	const struct syn_lat_entry *entries;
	struct syn_lat_counts now;
	uint64_t now_ns = syn_now_ns();
	size_t nr;
	int r;

	r = syn_lat_trace_read(lat->trace, &now, &entries, &nr);
	if (r)
		return r;
	interval.nr = syn_lat_news(lat->before, lat->nr_before, entries, nr,
				   lat->news);
	memcpy(lat->before, entries, nr * sizeof(*entries));
	lat->nr_before = nr;
	for (size_t i = 0; i < interval.nr; i++)
		lat->shown += syn_lat_hist_ended(&lat->news[i].hist);
	counts_settle(lat, &now);
	interval.length_ns = now_ns - lat->printed_ns;
	interval.counts = (struct syn_lat_counts){
		.begun = now.begun - lat->counts.begun,
		.ended = now.ended - lat->counts.ended,
		.unfinished = now.unfinished,
		.lost = now.lost - lat->counts.lost,
		.missed = now.missed - lat->counts.missed,
	};
	lat->counts = now;
	lat->printed_ns = now_ns;
	interval.nr = syn_lat_fold(lat->news, interval.nr, lat->opts.by);
	interval.entries = lat->news;
	return lat->opts.json ? syn_lat_show_json(stdout, &interval)
			      : syn_lat_show_text(stdout, &interval);
}

/* A daemon that went away may come back, as another process or program. */
static int lat_follow(struct lat *lat)
{
	pid_t keeper, runs;
	int r;

	r = syn_lat_daemon_look(lat->daemon, &keeper, &runs);
	if (r && !lat->away)
		(void)complain(0, r, "no synapsed answers",
			       syn_lat_daemon_reason(lat->daemon));
	lat->away = r != 0;
	if (r)
		return 0;
	r = syn_lat_trace_attach(lat->trace, keeper, runs);
	return r == -ENOENT || r == -ESRCH ? 0 : r;
}

/* Looks once more, for the names of clients that came since. */
static int lat_stop(struct lat *lat)
{
	pid_t keeper, runs;

	syn_lat_trace_detach(lat->trace);
	(void)syn_lat_daemon_look(lat->daemon, &keeper, &runs);
	return 0;
}

/* True when a signal has come that ends us. */
static bool lat_wait(const sigset_t *ending, uint64_t until_ns)
{
	uint64_t now_ns = syn_now_ns();

	while (now_ns < until_ns) {
		const struct timespec left = {
			.tv_sec = (time_t)((until_ns - now_ns) / 1000000000u),
			.tv_nsec = (long)((until_ns - now_ns) % 1000000000u),
		};

		if (sigtimedwait(ending, NULL, &left) > 0)
			return true;
		now_ns = syn_now_ns();
	}
	return false;
}

static int lat_run(struct lat *lat, const sigset_t *ending)
{
	uint64_t next_ns = syn_now_ns();
	bool ended = false;
	int r = 0;

	lat->printed_ns = next_ns;
	for (uint64_t i = 0; i < lat->opts.count && !ended && !r; i++) {
		next_ns += lat->opts.interval_ns;
		ended = lat_wait(ending, next_ns) || i + 1 == lat->opts.count;
		r = ended ? lat_stop(lat) : lat_follow(lat);
		if (!r)
			r = lat_print(lat);
	}
	return r;
}

static int lat_start(struct lat *lat)
{
	pid_t keeper, runs;
	int r;

	lat->before = syn_alloc(SYN_LAT_KEYS_MAX, sizeof(*lat->before));
	lat->news = syn_alloc(SYN_LAT_KEYS_MAX, sizeof(*lat->news));
	if (!lat->before || !lat->news)
		return complain(EXIT_ERROR, -ENOMEM, "no memory", "");
	r = syn_lat_daemon_new(lat->opts.socket, lat->opts.pid, &lat->daemon);
	if (r)
		return complain(EXIT_ERROR, r, "no memory", "");
	r = syn_lat_daemon_look(lat->daemon, &keeper, &runs);
	if (r)
		return complain(EXIT_ERROR, r, "no synapsed answers",
				syn_lat_daemon_reason(lat->daemon));
	r = syn_lat_trace_open(&lat->trace);
	if (r)
		return complain(EXIT_NO_TRACE, r, "cannot load the BPF program",
				syn_lat_trace_reason());
	r = syn_lat_trace_attach(lat->trace, keeper, runs);
	if (r)
		return complain(EXIT_NO_TRACE, r,
				"cannot listen to the probes of synapsed",
				syn_lat_trace_reason());
	return EXIT_SUCCESS;
}

static void lat_end(struct lat *lat)
{
	lat->trace = syn_lat_trace_close(lat->trace);
	lat->daemon = syn_lat_daemon_free(lat->daemon);
	free(lat->before);
	free(lat->news);
}

int main(int argc, char **argv)
{
	struct lat lat = { 0 };
	sigset_t ending;
	int code;
	int r;

	r = syn_lat_options_parse(argc, argv, &lat.opts);
	if (r != SYN_LAT_OPTIONS_RUN)
		return r == SYN_LAT_OPTIONS_DONE ? EXIT_SUCCESS : EXIT_USAGE;
	/* Blocked, so that one between two waits is not lost. */
	(void)sigemptyset(&ending);
	(void)sigaddset(&ending, SIGINT);
	(void)sigaddset(&ending, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &ending, NULL);
	code = lat_start(&lat);
	if (code == EXIT_SUCCESS) {
		r = lat_run(&lat, &ending);
		if (r)
			code = complain(EXIT_ERROR, r, "interval",
					syn_lat_trace_reason());
	}
	lat_end(&lat);
	return code;
}
