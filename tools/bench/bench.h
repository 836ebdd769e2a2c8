/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmarks of synapse-bench and what they stand on: a daemon of their
 * own in a temporary directory, a client, two CPUs.
 *
 * A benchmark returns 0 or -errno; what goes wrong is explained on stderr
 * where it happens.
 */
#ifndef SYN_TOOLS_BENCH_BENCH_H
#define SYN_TOOLS_BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <synapse/client.h>

#include "tools/bench/figure.h"

#define SYN_IDLE_SESSIONS 256u

/**
 * struct syn_bench - what every benchmark is given.
 * @synapsed:	path of the daemon.
 * @runs:	how often each figure is measured.
 * @client_cpu:	where the client runs, ...
 * @daemon_cpu:	... and the daemon; the same when there is one CPU.
 * @figures:	where results go.
 */
struct syn_bench {
	const char *synapsed;
	unsigned int runs;
	int client_cpu;
	int daemon_cpu;
	struct syn_figures figures;
};

int syn_bench_pin(struct syn_bench *bench);
int syn_bench_lease(struct syn_bench *bench);
int syn_bench_ring(struct syn_bench *bench);
int syn_bench_move(struct syn_bench *bench);
int syn_bench_encode(struct syn_bench *bench);
int syn_bench_attach(struct syn_bench *bench);
int syn_bench_idle(struct syn_bench *bench);
int syn_bench_record(struct syn_bench *bench);
int syn_bench_codec(struct syn_bench *bench);
int syn_bench_swap(struct syn_bench *bench);
/* Of a GPU; left out, with a message, where there is none. */
int syn_bench_gpu_mem(struct syn_bench *bench);
int syn_bench_gpu_copy(struct syn_bench *bench);
int syn_bench_gpu_move(struct syn_bench *bench);
int syn_bench_gpu_fault(struct syn_bench *bench);
int syn_bench_gpu_load(struct syn_bench *bench);
int syn_bench_gpu_codec(struct syn_bench *bench);
int syn_bench_gpu_attend(struct syn_bench *bench);
int syn_bench_gpu_slow(struct syn_bench *bench);

/* Says on stderr what failed; returns @error. */
int syn_bench_fail(const char *what, int error);

/* Two CPUs of those we may use; the same twice when there is one. */
void syn_cpu_choose(struct syn_bench *bench);
/* The calling thread, and what it starts, runs on @cpu from now on ... */
void syn_cpu_bind(int cpu);
/* ... or anywhere again. */
void syn_cpu_free(void);
/* All threads of another process. */
void syn_cpu_bind_process(pid_t pid, int cpu);

/**
 * struct syn_daemon_opts - the daemon a benchmark wants.
 * @hbm_mib:		HBM budget.
 * @host_mib:		host budget.
 * @max_pages:		page records.
 * @device:		of HBM; NULL: emulated.
 * @ladder:		codec below HBM; NULL: raw16.
 */
struct syn_daemon_opts {
	uint64_t hbm_mib;
	uint64_t host_mib;
	uint32_t max_pages;
	const char *device;
	const char *ladder;
};

/**
 * struct syn_daemon - one that runs.
 * @dir:	its directory: socket, configuration, log.
 * @socket:	path of its socket.
 * @keeper:	our child.
 * @worker:	its child.
 */
struct syn_daemon {
	char dir[64];
	char socket[96];
	pid_t keeper;
	pid_t worker;
};

/* Returns once it answers.  Its log is copied to stderr when it does not. */
int syn_daemon_start(const struct syn_bench *bench,
		     const struct syn_daemon_opts *opts,
		     struct syn_daemon *ret);
/* Ends it and removes its directory. */
void syn_daemon_stop(struct syn_daemon *daemon);
int syn_daemon_status(const struct syn_daemon *daemon,
		      struct syn_ctl_status *ret);

/**
 * struct syn_guest - a client with one window.
 * @client:	the session.
 * @window:	the window.
 * @space:	its geometry.
 * @tokens:	tokens of a page.
 * @timeline:	of the calling thread.
 */
struct syn_guest {
	struct syn_client *client;
	struct syn_window *window;
	struct syn_space space;
	uint32_t tokens;
	uint32_t timeline;
};

/*
 * Pages of @page_bytes: 4 KiB of bytes, or 64 KiB or a multiple of 128 KiB of K
 * and V.
 * Leaves the caller bound to the client's CPU.
 */
int syn_guest_open(const struct syn_bench *bench,
		   const struct syn_daemon *daemon, uint64_t page_bytes,
		   uint32_t nr_pages, uint32_t slots, struct syn_guest *ret);
/* With pages that may have this SYN_CODEC_* below HBM, not raw16. */
int syn_guest_open_as(const struct syn_bench *bench,
		      const struct syn_daemon *daemon, uint16_t codec,
		      uint64_t page_bytes, uint32_t nr_pages, uint32_t slots,
		      struct syn_guest *ret);
void syn_guest_close(struct syn_guest *guest);

/* Sessions that do nothing, each with a small page table. */
int syn_crowd_open(const struct syn_daemon *daemon,
		   struct syn_client **ret_clients, unsigned int nr);
void syn_crowd_close(struct syn_client **clients, unsigned int nr);

/* 0..@nr-1 in an order that depends on @seed only. */
void syn_shuffle(uint32_t *ret, uint32_t nr, uint64_t seed);

#endif
