/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where extents go: the nearest allowed node that has room.
 *
 * One object for each kind of extent; its owner calls from one thread.
 */
#ifndef SYN_NUMA_PLACE_H
#define SYN_NUMA_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/topology.h"

struct syn_hostmem;

/**
 * struct syn_place - where one kind of extent may lie.
 * @numa:	the machine; outlives this.
 * @what:	for the log, as in "host memory".
 * @nr:		nodes; 0: anywhere, nothing is bound.
 * @order:	the nodes, in the order they are tried.
 * @refused:	the last extent found no room, and the log says so.
 */
struct syn_place {
	const struct syn_numa *numa;
	const char *what;
	unsigned int nr;
	int order[SYN_NUMA_NODES];
	bool refused;
};

/*
 * @near: node of the device, -1: memory may be anywhere.  @nodes: a mask,
 * 0: the one with memory that is nearest to @near.
 */
void syn_place_init(struct syn_place *place, const struct syn_numa *numa,
		    const char *what, int near, uint64_t nodes);

/*
 * As syn_hostmem_init(), on the first node with room.  -ENOMEM: none of them
 * has; the log says it once, and again after it was otherwise.
 */
int syn_place_new(struct syn_place *place, struct syn_hostmem *mem,
		  const char *name, uint64_t bytes, unsigned int flags);

/*
 * The same for memory of any make: calls @make for each node in turn until it
 * answers other than -ENOMEM.  @bind: there is a choice, so the memory must lie
 * on @node; else it is where all memory is, and @node may be -1.
 */
int syn_place_each(struct syn_place *place, uint64_t bytes,
		   int (*make)(void *ctx, int node, bool bind), void *ctx);
/* Whether @node has room for @bytes, as far as the kernel can tell. */
bool syn_place_room(const struct syn_place *place, int node, uint64_t bytes);

/* "node 1" or "nodes 0,1". */
void syn_numa_format(uint64_t nodes, char *to, unsigned int max);

#endif
