/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long walk: clients do whatever comes, die now and then, and every page that
 * is read holds the bytes that were written, in its own domain.
 */
#ifndef SYN_TEST_CORE_WALK_H
#define SYN_TEST_CORE_WALK_H

#include "test/unit/core-harness.h"

struct syn_fsck;

#define WALK_CLIENTS 6u
#define WALK_HELD    96u /* leases of a client */
#define WALK_KEYS    64u
#define WALK_SLOTS   24u
#define WALK_TOKENS  128u
#define WALK_BYTES   (32u << 10) /* of a page */
#define WALK_CODED   8u

/**
 * struct walk_config - which walk.
 * @seed:	of all that is random.
 * @nr_domains:	three clients of each, up to the most there may be.
 * @host_bytes:	of the host tier.
 * @nr_segments: of the swap file; 0: there is none.
 * @coded:	pages are encoded, and read as they are stored.
 * @mortal:	clients die more often.
 * @lossy:	loads fail for good now and then, or extents are lost where workers
 *		die: and pages with them.
 */
struct walk_config {
	uint64_t seed;
	uint32_t nr_domains;
	uint64_t host_bytes;
	uint32_t nr_segments;
	bool coded;
	bool mortal;
	bool lossy;
};

struct held {
	uint64_t handle;
	uint32_t seed;
	bool full;
	bool sealed;
	bool pinned;
	bool coded; /* then: what lies at @at */
	const void *at;
};

struct walker {
	struct client client;
	struct held held[WALK_HELD];
	uint32_t nr;
	uint32_t window;
	uint32_t domain;
	bool alive;
	/* Ended, but its process still lives. */
	bool lingers;
	uint64_t loans; /* left out on purpose */
};

struct walk {
	struct walk_config config;
	struct world world;
	struct syn_simdisk *sim;
	struct walker walker[WALK_CLIENTS];
	uint32_t space;
	uint32_t nr_clients;
	uint64_t random;
	uint32_t key_seed[WALK_KEYS];
	uint64_t quotas;
	uint64_t refused;
	uint64_t loads;
	uint64_t read_coded;
	uint64_t found;
	uint64_t deaths;
	uint64_t lost;
	struct syn_fsck *fsck; /* in steps, between all that happens */
	uint64_t fscks;
};

/* What is random in it, below @below. */
uint32_t walk_random(struct walk *k, uint32_t below);

/* The world as the walk wants it, but with whatever device it has then. */
void walk_prepare(struct walk *k, const struct walk_config *config,
		  struct syn_mm_config *ret);
void walk_begin(struct walk *k);
void walk_turn(struct walk *k, uint32_t n);
/* Everybody leaves and everything is dropped; then nothing is left. */
void walk_leave(struct walk *k);
void walk_end(struct walk *k);

#endif
