/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that dies at a failpoint, and the next one.
 *
 * Core's heap is an arena that is thrown away at a death.  What outlives it is
 * what outlives a process: kept memory, the clients' segments, the memory of
 * extents, the swap file.  The device works when it is asked for what is done,
 * so that a death finds copies begun, half done, or done and not heard of.
 */
#ifndef SYN_TEST_CORE_CRASH_H
#define SYN_TEST_CORE_CRASH_H

#include "core/base/failpoint.h"
#include "test/unit/core-harness.h"

struct syn_failpoint;

/**
 * struct crash_count - what was outstanding, over all deaths.
 * @deaths:	of workers.
 * @adopting:	of these, of one that was adopting.
 * @again:	requests that were carried out again ...
 * @answered:	... and those that had been answered.
 * @pins:	pinned entries.
 * @loans:	loans that were out.
 * @moves:	moves, and of these copies ...
 * @copies:	... that the device had been given.
 * @swaps:	requests to the swap file.
 * @seals:	pages that were sealed and not ready.
 * @quarantined: slots and leases in quarantine.
 * @redos:	changes that were done again.
 * @gone:	sessions that did not come back.
 * @lost:	extents that did not ...
 * @astray:	... and loans into these.
 */
struct crash_count {
	uint64_t deaths;
	uint64_t adopting;
	uint64_t again;
	uint64_t answered;
	uint64_t pins;
	uint64_t loans;
	uint64_t moves;
	uint64_t copies;
	uint64_t swaps;
	uint64_t seals;
	uint64_t quarantined;
	uint64_t redos;
	uint64_t gone;
	uint64_t lost;
	uint64_t astray;
};

extern struct crash_count crash_count;

/* As world_open_swap(), on a device that outlives its worker. */
void crash_world_open(struct world *w, struct syn_mm_config *config,
		      struct syn_simdisk *sim, uint64_t seed);
void crash_world_close(struct world *w);

/* The worker dies at once, and nobody adopts yet; the swap file is open again. */
void crash_die(struct world *w);
/* The keeper lets go of what the worker that runs did not ask for. */
void crash_drop_extents(void);
/* The keeper has lost an extent; or loses one of @one_in, 0: none any more. */
void crash_lose_extent(uint32_t id);
void crash_lose_some(uint32_t one_in);
/* The device answers so when the next worker asks for its first extent. */
void crash_adopt_error(int error);

/* The next death: at the @nth pass of @point, NULL: of any. */
void crash_arm(const struct syn_failpoint *point, uint64_t nth);
/* Called before each adoption, and after it, with the new worker. */
extern void (*crash_adopting)(struct world *w);
extern void (*crash_adopted)(struct world *w);

#endif
