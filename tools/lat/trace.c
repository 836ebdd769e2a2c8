/* SPDX-License-Identifier: Apache-2.0 */
/* libbpf's side of synapse-lat. */
#include "tools/lat/trace.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <lat.skel.h> /* generated from bpf/lat.bpf.c */

#include "core/base/base.h"
#include "core/base/fault.h"

#define TRACE_PROVIDER "synapse"
#define TRACE_PROBES   4u
#define TRACE_REASON   256

/**
 * struct syn_lat_trace - the program in the kernel and what was read of it.
 * @skel:	libbpf's.
 * @link:	probes that are attached.
 * @program:	the file they are in.
 * @fault_keys:	room for the keys of all faults under way.
 * @faults:	room for their records.
 * @keys:	room for the keys of all histograms.
 * @hists:	room for the histograms.
 * @entries:	both together, sorted.
 * @lost:	as last told: it does not go back.
 */
struct syn_lat_trace {
	struct syn_lat_bpf *skel;
	struct bpf_link *link[TRACE_PROBES];
	struct stat program;
	struct syn_lat_fault_key *fault_keys;
	struct syn_lat_fault *faults;
	struct syn_lat_key *keys;
	struct syn_lat_hist *hists;
	struct syn_lat_entry *entries;
	uint64_t lost;
};

static char trace_reason[TRACE_REASON];

__attribute__((format(printf, 2, 0))) static int
trace_note(enum libbpf_print_level level, const char *fmt, va_list args)
{
	if (level == LIBBPF_WARN) {
		(void)vsnprintf(trace_reason, sizeof(trace_reason), fmt, args);
		trace_reason[strcspn(trace_reason, "\n")] = '\0';
	}
	return 0;
}

const char *syn_lat_trace_reason(void)
{
	return trace_reason;
}

static int trace_room(struct syn_lat_trace *trace)
{
	trace->fault_keys =
		syn_alloc(SYN_LAT_FAULTS_MAX, sizeof(*trace->fault_keys));
	trace->faults = syn_alloc(SYN_LAT_FAULTS_MAX, sizeof(*trace->faults));
	trace->keys = syn_alloc(SYN_LAT_KEYS_MAX, sizeof(*trace->keys));
	trace->hists = syn_alloc(SYN_LAT_KEYS_MAX, sizeof(*trace->hists));
	trace->entries = syn_alloc(SYN_LAT_KEYS_MAX, sizeof(*trace->entries));
	if (!trace->fault_keys || !trace->faults || !trace->keys ||
	    !trace->hists || !trace->entries)
		return -ENOMEM;
	return 0;
}

int syn_lat_trace_open(struct syn_lat_trace **ret)
{
	struct syn_lat_trace *trace;
	int r;

	(void)libbpf_set_print(trace_note);
	trace = syn_alloc(1, sizeof(*trace));
	if (!trace)
		return -ENOMEM;
	r = trace_room(trace);
	if (r)
		goto close_trace;
	trace->skel = syn_lat_bpf__open_and_load();
	if (!trace->skel) {
		r = -errno;
		goto close_trace;
	}
	*ret = trace;
	return 0;

close_trace:
	(void)syn_lat_trace_close(trace);
	return r;
}

struct syn_lat_trace *syn_lat_trace_close(struct syn_lat_trace *trace)
{
	if (!trace)
		return NULL;
	syn_lat_trace_detach(trace);
	syn_lat_bpf__destroy(trace->skel);
	free(trace->fault_keys);
	free(trace->faults);
	free(trace->keys);
	free(trace->hists);
	free(trace->entries);
	free(trace);
	return NULL;
}

void syn_lat_trace_detach(struct syn_lat_trace *trace)
{
	for (unsigned int i = TRACE_PROBES; i-- > 0;) {
		(void)bpf_link__destroy(trace->link[i]);
		trace->link[i] = NULL;
	}
}

/*
 * Ends before begins, so that no begin is counted whose end nobody hears.  All
 * processes that run the program: the filter is in the BPF program.
 */
static int trace_attach(struct syn_lat_trace *trace, const char *path)
{
	const __typeof__(trace->skel->progs) *progs = &trace->skel->progs;
	const struct {
		const char *name;
		const struct bpf_program *program;
		bool needed; /* a daemon may have no swap file */
	} probes[TRACE_PROBES] = {
		{ "fault_end", progs->on_fault_end, true },
		{ "swap_in_end", progs->on_swap_in_end, false },
		{ "swap_in_begin", progs->on_swap_in_begin, false },
		{ "fault_begin", progs->on_fault_begin, true },
	};

	for (unsigned int i = 0; i < TRACE_PROBES; i++) {
		trace->link[i] = bpf_program__attach_usdt(probes[i].program, -1,
							  path, TRACE_PROVIDER,
							  probes[i].name, NULL);
		if (!trace->link[i] && (probes[i].needed || errno != ENOENT))
			return -errno;
	}
	return 0;
}

int syn_lat_trace_attach(struct syn_lat_trace *trace, pid_t keeper, pid_t runs)
{
	struct stat program;
	char path[64];
	int r;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)runs);
	if (stat(path, &program) < 0)
		return -errno;
	trace->skel->bss->keeper = (uint32_t)keeper;
	if (trace->link[0] && program.st_dev == trace->program.st_dev &&
	    program.st_ino == trace->program.st_ino)
		return 0;
	syn_lat_trace_detach(trace);
	r = trace_attach(trace, path);
	if (r)
		syn_lat_trace_detach(trace);
	else
		trace->program = program;
	return r;
}

/* All of @map; how many, or -errno. */
static int map_read(struct bpf_map *map, void *keys, void *values, uint32_t max)
{
	uint64_t batch = 0;
	uint32_t nr = max;

	if (bpf_map_lookup_batch(bpf_map__fd(map), NULL, &batch, keys, values,
				 &nr, NULL) < 0 &&
	    errno != ENOENT)
		return -errno;
	return (int)nr;
}

/* Of processes that live: the others' will not end. */
static int faults_count(struct syn_lat_trace *trace, uint64_t *ret)
{
	uint32_t asked = 0;
	bool lives = false;
	uint64_t count = 0;
	int nr;

	nr = map_read(trace->skel->maps.faults, trace->fault_keys,
		      trace->faults, SYN_LAT_FAULTS_MAX);
	for (int i = 0; i < nr; i++) {
		uint32_t worker = trace->fault_keys[i].worker;

		if (worker != asked)
			lives = kill((pid_t)worker, 0) == 0 || errno != ESRCH;
		asked = worker;
		count += lives;
	}
	*ret = count;
	return nr < 0 ? nr : 0;
}

static uint64_t missed_count(struct syn_lat_trace *trace)
{
	struct bpf_program *program = NULL;
	uint64_t missed = 0;

	while ((program =
			bpf_object__next_program(trace->skel->obj, program))) {
		struct bpf_prog_info info = { 0 };
		uint32_t size = sizeof(info);

		if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info,
					   &size) == 0)
			missed += info.recursion_misses;
	}
	return missed;
}

static int hists_read(struct syn_lat_trace *trace)
{
	int nr = map_read(trace->skel->maps.hists, trace->keys, trace->hists,
			  SYN_LAT_KEYS_MAX);

	for (int i = 0; i < nr; i++)
		trace->entries[i] = (struct syn_lat_entry){
			.key = trace->keys[i],
			.hist = trace->hists[i],
		};
	if (nr > 0)
		syn_lat_sort(trace->entries, (size_t)nr);
	return nr;
}

/* The order of reading is what lat.bpf.c asks for. */
int syn_lat_trace_read(struct syn_lat_trace *trace,
		       struct syn_lat_counts *ret_counts,
		       const struct syn_lat_entry **ret, size_t *ret_nr)
{
	const struct syn_lat_bpf__bss *bss = trace->skel->bss;
	struct syn_lat_counts counts = { 0 };
	int r;

	counts.begun = __atomic_load_n(&bss->nr_begun, __ATOMIC_ACQUIRE);
	r = faults_count(trace, &counts.unfinished);
	if (r)
		return r;
	counts.ended = __atomic_load_n(&bss->nr_ended, __ATOMIC_ACQUIRE);
	if (counts.begun > counts.ended + counts.unfinished)
		trace->lost = syn_max(trace->lost, counts.begun - counts.ended -
							   counts.unfinished);
	counts.lost = trace->lost;
	counts.missed = missed_count(trace);
	r = hists_read(trace);
	if (r < 0)
		return r;
	*ret_counts = counts;
	*ret = trace->entries;
	*ret_nr = (size_t)r;
	return 0;
}
