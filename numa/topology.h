/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which NUMA nodes there are, how far apart, with how much memory.
 *
 * A machine without NUMA, or one that does not let this process ask, is one
 * node, number 0, that is never bound.  Numbers may have gaps; a node may
 * lack memory or CPUs.  All calls may be made from any thread; a snapshot
 * belongs to the caller and is not written after syn_numa_read().
 */
#ifndef SYN_NUMA_TOPOLOGY_H
#define SYN_NUMA_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers go from 0 to 63: sets of nodes are 64-bit masks. */
#define SYN_NUMA_NODES 64

/* Positive outcome of syn_numa_bind_thread(). */
enum {
	SYN_NUMA_E_NO_CPU = 1, /* the node has none that we may use */
};

/**
 * struct syn_numa - the machine, as far as this process may use it.
 * @memory:	nodes with memory, one bit each; at least one.
 * @cpus:	nodes with CPUs, one bit each.
 * @home:	the node of the first CPU that this thread may run on.
 * @binds:	the kernel binds memory to nodes.
 * @distance:	as the firmware tells it: 10 is near, 0 unknown.
 */
struct syn_numa {
	uint64_t memory;
	uint64_t cpus;
	int home;
	bool binds;
	uint8_t distance[SYN_NUMA_NODES][SYN_NUMA_NODES];
};

/**
 * struct syn_numa_memory - bytes of some nodes together.
 * @total:	what the kernel manages.
 * @room:	what new extents may take: free, or held by files' pages, less
 *		what the kernel keeps free.
 */
struct syn_numa_memory {
	uint64_t total;
	uint64_t room;
};

void syn_numa_read(struct syn_numa *ret);

/*
 * Nodes of @nodes with memory, nearest to @node first, the lower number first
 * among equals.  Returns how many.
 */
unsigned int syn_numa_order(const struct syn_numa *numa, int node,
			    uint64_t nodes, int ret[SYN_NUMA_NODES]);
/* The node with memory that is nearest to @node: itself, if it has some. */
int syn_numa_nearest(const struct syn_numa *numa, int node);

/* -errno when the kernel's figures cannot be read. */
int syn_numa_memory(const struct syn_numa *numa, uint64_t nodes,
		    struct syn_numa_memory *ret);
/*
 * The kernel's files that it is made of, for tests of their format: meminfo of
 * a node or of the machine; zoneinfo, with what the kernel keeps free of
 * @nodes, without which it would rather kill.
 */
int syn_numa_memory_of(const char *path, struct syn_numa_memory *ret);
int syn_numa_reserve_of(const char *path, uint64_t nodes, uint64_t *ret);

/*
 * The calling thread, to those CPUs of @node that it may run on already.
 * -1, or a machine of one node: stays as it is.
 */
int syn_numa_bind_thread(const struct syn_numa *numa, int node);

/* How many CPUs that would be, at least 1. */
unsigned int syn_numa_cpus(const struct syn_numa *numa, int node);

#endif
