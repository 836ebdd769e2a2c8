/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Latency of faults, counted where it happens: synapse-lat(8) loads this and
 * reads the maps.
 *
 * The probes are attached to the program, whichever process runs it; the
 * keeper's number tells our daemon's workers from others, so that a worker
 * that takes over is heard from its first request.
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>
#include <synapse/abi.h>

#include "bpf/lat.h"

char syn_lat_license[] SEC("license") = "GPL";

/* All that we read of the kernel's; the loader finds where it is. */
struct task_struct {
	struct task_struct *real_parent;
	int tgid;
} __attribute__((preserve_access_index));

/* Written by synapse-lat; 0: no daemon runs. */
volatile __u32 keeper;
/*
 * Faults that began, and those of them whose end was seen.  Each is counted
 * after its record in a map is there, and before the record goes: who reads
 * nr_begun, faults, nr_ended, hists in this order never takes one for lost that
 * is on its way.
 */
volatile __u64 nr_begun;
volatile __u64 nr_ended;

static const struct syn_lat_hist empty;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SYN_LAT_FAULTS_MAX);
	__type(key, struct syn_lat_fault_key);
	__type(value, struct syn_lat_fault);
} faults SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SYN_LAT_KEYS_MAX);
	__type(key, struct syn_lat_key);
	__type(value, struct syn_lat_hist);
} hists SEC(".maps");

static __always_inline __u32 worker(void)
{
	return (__u32)(bpf_get_current_pid_tgid() >> 32);
}

static __always_inline bool is_ours(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	/* A worker that systemd started may have been named itself. */
	return keeper &&
	       ((__u32)BPF_CORE_READ(task, real_parent, tgid) == keeper ||
		worker() == keeper);
}

static __always_inline __u32 bucket_of(__u64 ns)
{
	__u32 bucket = 0;

	ns >>= SYN_LAT_SHIFT;
	for (int shift = 32; shift; shift /= 2) {
		if (ns >> shift) {
			ns >>= shift;
			bucket += shift;
		}
	}
	/* Here ns is 1, or 0 in the first bucket. */
	bucket += (__u32)ns;
	return bucket < SYN_LAT_BUCKETS ? bucket : SYN_LAT_BUCKETS - 1;
}

static __always_inline struct syn_lat_hist *
hist_of(const struct syn_lat_key *key)
{
	struct syn_lat_hist *hist = bpf_map_lookup_elem(&hists, key);

	if (hist)
		return hist;
	bpf_map_update_elem(&hists, key, &empty, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hists, key);
}

static __always_inline void
hist_add(struct syn_lat_hist *hist, const struct syn_lat_fault *fault, __u64 ns)
{
	__u32 bucket = bucket_of(ns);

	if (bucket < SYN_LAT_BUCKETS)
		__sync_fetch_and_add(&hist->fault[bucket], 1);
	__sync_fetch_and_add(&hist->fault_ns, ns);
	if (!fault->swap_ns)
		return;
	bucket = bucket_of(fault->swap_ns);
	if (bucket < SYN_LAT_BUCKETS)
		__sync_fetch_and_add(&hist->swap[bucket], 1);
	__sync_fetch_and_add(&hist->swap_ns, fault->swap_ns);
}

SEC("usdt")
int BPF_USDT(on_fault_begin, __u32 session, __u32 page, __u32 tier, __u32 cause)
{
	struct syn_lat_fault_key key = { worker(), session, page };
	struct syn_lat_fault fault = { .tier = tier, .cause = cause };

	if (!is_ours())
		return 0;
	fault.begin_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&faults, &key, &fault, BPF_ANY);
	__sync_fetch_and_add(&nr_begun, 1);
	return 0;
}

/*
 * An answer that needed no fault has an end only.  SYN_E_BUSY while one is
 * under way is an answer to a second request for the page.
 */
SEC("usdt")
int BPF_USDT(on_fault_end, __u32 session, __u32 page, int status)
{
	struct syn_lat_fault_key at = { worker(), session, page };
	struct syn_lat_key key = { .worker = worker(), .session = session };
	__u64 now_ns = bpf_ktime_get_ns();
	struct syn_lat_fault *fault;
	struct syn_lat_hist *hist;

	if (!is_ours() || status == SYN_E_BUSY)
		return 0;
	fault = bpf_map_lookup_elem(&faults, &at);
	if (!fault)
		return 0;
	key.tier = fault->tier;
	key.cause = fault->cause;
	hist = hist_of(&key);
	if (hist && status)
		__sync_fetch_and_add(&hist->failed, 1);
	else if (hist)
		hist_add(hist, fault, now_ns - fault->begin_ns);
	__sync_fetch_and_add(&nr_ended, 1);
	bpf_map_delete_elem(&faults, &at);
	return 0;
}

SEC("usdt")
int BPF_USDT(on_swap_in_begin, __u32 session, __u32 page)
{
	struct syn_lat_fault_key at = { worker(), session, page };
	struct syn_lat_fault *fault;

	if (!is_ours())
		return 0;
	fault = bpf_map_lookup_elem(&faults, &at);
	if (fault)
		fault->swap_begin_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("usdt")
int BPF_USDT(on_swap_in_end, __u32 session, __u32 page)
{
	struct syn_lat_fault_key at = { worker(), session, page };
	struct syn_lat_fault *fault;

	if (!is_ours())
		return 0;
	fault = bpf_map_lookup_elem(&faults, &at);
	if (fault && fault->swap_begin_ns) {
		fault->swap_ns += bpf_ktime_get_ns() - fault->swap_begin_ns;
		fault->swap_begin_ns = 0;
	}
	return 0;
}
