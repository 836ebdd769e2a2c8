/* SPDX-License-Identifier: Apache-2.0 */
/* libnuma for nodes, CPUs and distances; the kernel's files for memory. */
#include "numa/topology.h"

#include <errno.h>
#include <numa.h>
#include <sched.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#define KIB 1024u

static void numa_single(struct syn_numa *ret)
{
	ret->memory = 1;
	ret->cpus = 1;
	ret->home = 0;
	ret->binds = false;
}

static uint64_t numa_mask(const struct bitmask *from)
{
	uint64_t mask = 0;

	for (unsigned int i = 0; i < SYN_NUMA_NODES; i++)
		if (i < numa_bitmask_nbytes((struct bitmask *)from) * 8 &&
		    numa_bitmask_isbitset(from, i))
			mask |= 1ull << i;
	return mask;
}

/* The node of the first CPU that this thread may run on; -1: unknown. */
static int numa_home(void)
{
	struct bitmask *cpus = numa_allocate_cpumask();
	int node = -1;

	if (numa_sched_getaffinity(0, cpus) >= 0)
		for (unsigned int i = 0; i < cpus->size && node < 0; i++)
			if (numa_bitmask_isbitset(cpus, i))
				node = numa_node_of_cpu((int)i);
	numa_free_cpumask(cpus);
	return node;
}

static uint64_t numa_nodes_with_cpus(void)
{
	struct bitmask *cpus = numa_allocate_cpumask();
	int max = syn_min(numa_max_node(), SYN_NUMA_NODES - 1);
	uint64_t mask = 0;

	for (int i = 0; i <= max; i++)
		if (numa_bitmask_isbitset(numa_nodes_ptr, (unsigned int)i) &&
		    numa_node_to_cpus(i, cpus) == 0 &&
		    numa_bitmask_weight(cpus))
			mask |= 1ull << i;
	numa_free_cpumask(cpus);
	return mask;
}

void syn_numa_read(struct syn_numa *ret)
{
	memset(ret, 0, sizeof(*ret));
	/* Also where a container may not ask. */
	if (numa_available() < 0) {
		numa_single(ret);
		return;
	}
	/* Only nodes that the cpuset allows. */
	ret->memory = numa_mask(numa_all_nodes_ptr);
	ret->cpus = numa_nodes_with_cpus();
	ret->home = numa_home();
	if (!ret->memory || ret->home < 0 || ret->home >= SYN_NUMA_NODES) {
		numa_single(ret);
		return;
	}
	ret->binds = true;
	for (int a = 0; a < SYN_NUMA_NODES; a++)
		for (int b = 0; b < SYN_NUMA_NODES; b++)
			if ((ret->memory | ret->cpus) >> a & 1 &&
			    ret->memory >> b & 1)
				ret->distance[a][b] =
					(uint8_t)numa_distance(a, b);
}

unsigned int syn_numa_order(const struct syn_numa *numa, int node,
			    uint64_t nodes, int ret[SYN_NUMA_NODES])
{
	const uint8_t *distance = numa->distance[node];
	unsigned int nr = 0;

	for (int i = 0; i < SYN_NUMA_NODES; i++) {
		unsigned int at = nr;

		if (!(nodes & numa->memory & 1ull << i))
			continue;
		while (at && distance[ret[at - 1]] > distance[i]) {
			ret[at] = ret[at - 1];
			at--;
		}
		ret[at] = i;
		nr++;
	}
	return nr;
}

int syn_numa_nearest(const struct syn_numa *numa, int node)
{
	int order[SYN_NUMA_NODES];

	if (numa->memory >> node & 1)
		return node;
	(void)syn_numa_order(numa, node, numa->memory, order);
	return order[0];
}

/* ---- memory ------------------------------------------------------------- */

/*
 * "Node 1 MemFree:  123 kB" of a node, "MemFree:  123 kB" of the machine, which
 * alone has MemAvailable; of a node, it is reckoned the same way.
 */
static void memory_line(const char *line, struct syn_numa_memory *to)
{
	unsigned long long kib;
	char key[32];

	if (sscanf(line, "MemAvailable: %llu", &kib) == 1) {
		to->room = kib * KIB;
		return;
	}
	if (sscanf(line, "MemTotal: %llu", &kib) == 1) {
		to->total = kib * KIB;
		return;
	}
	if (sscanf(line, "Node %*d %31[^:]: %llu", key, &kib) != 2)
		return;
	if (strcmp(key, "MemTotal") == 0)
		to->total = kib * KIB;
	else if (strcmp(key, "MemFree") == 0)
		to->room += kib * KIB;
	else if (strcmp(key, "Active(file)") == 0 ||
		 strcmp(key, "Inactive(file)") == 0)
		to->room += kib * KIB / 2;
}

int syn_numa_memory_of(const char *path, struct syn_numa_memory *ret)
{
	struct syn_numa_memory memory = { 0 };
	char line[128];
	FILE *file;

	file = syn_fault() ? (errno = EMFILE, NULL) : fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file))
		memory_line(line, &memory);
	(void)fclose(file);
	if (!memory.total)
		return -EBADMSG;
	*ret = memory;
	return 0;
}

int syn_numa_reserve_of(const char *path, uint64_t nodes, uint64_t *ret)
{
	unsigned long long pages;
	uint64_t reserve = 0;
	bool ours = false;
	char line[256];
	unsigned int node;
	FILE *file;

	file = syn_fault() ? (errno = EMFILE, NULL) : fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %u,", &node) == 1)
			ours = node < SYN_NUMA_NODES && nodes >> node & 1;
		else if (ours && sscanf(line, " high %llu", &pages) == 1)
			reserve += pages * (uint64_t)sysconf(_SC_PAGESIZE);
	}
	(void)fclose(file);
	*ret = reserve;
	return 0;
}

static int memory_sum(uint64_t nodes, struct syn_numa_memory *ret)
{
	uint64_t reserve;
	int r;

	for (int i = 0; i < SYN_NUMA_NODES; i++) {
		struct syn_numa_memory one;
		char path[64];

		if (!(nodes >> i & 1))
			continue;
		(void)snprintf(path, sizeof(path),
			       "/sys/devices/system/node/node%d/meminfo", i);
		r = syn_numa_memory_of(path, &one);
		if (r)
			return r;
		ret->total += one.total;
		ret->room += one.room;
	}
	r = syn_numa_reserve_of("/proc/zoneinfo", nodes, &reserve);
	if (!r)
		ret->room -= syn_min(ret->room, reserve);
	return r;
}

/* Of all nodes together the machine's own figures are the better ones. */
int syn_numa_memory(const struct syn_numa *numa, uint64_t nodes,
		    struct syn_numa_memory *ret)
{
	struct syn_numa_memory sum = { 0 };
	int r;

	if (!(numa->memory & ~nodes))
		return syn_numa_memory_of("/proc/meminfo", ret);
	r = memory_sum(nodes, &sum);
	if (!r)
		*ret = sum;
	return r;
}

/* ---- threads ------------------------------------------------------------ */

/* Leaves in @cpus those that this thread may run on; how many. */
static int cpus_allowed(struct bitmask *cpus, struct bitmask *allowed)
{
	int nr = 0;

	if (numa_sched_getaffinity(0, allowed) < 0)
		return -errno;
	for (unsigned int i = 0; i < cpus->size; i++) {
		if (!numa_bitmask_isbitset(cpus, i))
			continue;
		if (i < allowed->size && numa_bitmask_isbitset(allowed, i))
			nr++;
		else
			(void)numa_bitmask_clearbit(cpus, i);
	}
	return nr;
}

/* Nothing to bind to; @numa may be NULL with a @node of -1. */
static bool numa_one_node(const struct syn_numa *numa, int node)
{
	return node < 0 || !numa->binds ||
	       syn_is_pow2(numa->memory | numa->cpus);
}

/* The CPUs of @node that this thread may run on, bound to them on request. */
static int node_cpus(int node, bool bind)
{
	struct bitmask *allowed = numa_allocate_cpumask();
	struct bitmask *cpus = numa_allocate_cpumask();
	int r;

	r = numa_node_to_cpus(node, cpus) < 0 ? -errno
					      : cpus_allowed(cpus, allowed);
	if (r > 0 && bind &&
	    (syn_fault() || numa_sched_setaffinity(0, cpus) < 0))
		r = -EINVAL;
	numa_free_cpumask(allowed);
	numa_free_cpumask(cpus);
	return r;
}

int syn_numa_bind_thread(const struct syn_numa *numa, int node)
{
	int r;

	if (numa_one_node(numa, node))
		return 0;
	if (!(numa->cpus >> node & 1))
		return SYN_NUMA_E_NO_CPU;
	r = node_cpus(node, true);
	if (!r)
		return SYN_NUMA_E_NO_CPU;
	return r < 0 ? r : 0;
}

unsigned int syn_numa_cpus(const struct syn_numa *numa, int node)
{
	cpu_set_t set;
	int nr;

	if (!numa_one_node(numa, node)) {
		nr = node_cpus(node, false);
		return nr > 0 ? (unsigned int)nr : 1;
	}
	/* The one reason to fail is a machine of more CPUs than the set has. */
	if (syn_fault() || sched_getaffinity(0, sizeof(set), &set) < 0)
		return CPU_SETSIZE;
	return (unsigned int)CPU_COUNT(&set);
}
