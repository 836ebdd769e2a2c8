/* SPDX-License-Identifier: Apache-2.0 */
/* Tries nodes by distance; binds only where there is a choice. */
#include "numa/place.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "numa/hostmem.h"

#define MIB (1024u * 1024u)

void syn_numa_format(uint64_t nodes, char *to, unsigned int max)
{
	const char *before = syn_is_pow2(nodes) ? "node " : "nodes ";
	unsigned int at = 0;

	to[0] = '\0';
	for (int i = 0; i < SYN_NUMA_NODES && at < max; i++) {
		if (!(nodes >> i & 1))
			continue;
		at += (unsigned int)snprintf(to + at, max - at, "%s%d", before,
					     i);
		before = ",";
	}
}

void syn_place_init(struct syn_place *place, const struct syn_numa *numa,
		    const char *what, int near, uint64_t nodes)
{
	*place = (struct syn_place){ .numa = numa, .what = what };
	if (near < 0 && !nodes)
		return;
	if (near < 0)
		near = numa->home;
	if (!nodes)
		nodes = 1ull << syn_numa_nearest(numa, near);
	place->nr = syn_numa_order(numa, near, nodes, place->order);
}

static void place_refuse(struct syn_place *place, uint64_t bytes)
{
	uint64_t nodes = 0;
	char text[256];

	if (place->refused)
		return;
	place->refused = true;
	for (unsigned int i = 0; i < place->nr; i++)
		nodes |= 1ull << place->order[i];
	syn_numa_format(nodes, text, sizeof(text));
	syn_warning("%s: no room for %" PRIu64 " MiB more of %s", text,
		    bytes / MIB, place->what);
}

/* Huge pages are set aside: no other figure counts them. */
static uint64_t huge_room(int node)
{
	unsigned long long nr = 0;
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path),
		       "/sys/devices/system/node/node%d/hugepages/"
		       "hugepages-2048kB/free_hugepages",
		       node);
	file = syn_fault() ? NULL : fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &nr) != 1)
		nr = 0;
	(void)fclose(file);
	return nr * 2 * MIB;
}

bool syn_place_room(const struct syn_place *place, int node, uint64_t bytes)
{
	struct syn_numa_memory memory;

	return !syn_numa_memory(place->numa, 1ull << node, &memory) &&
	       memory.room >= bytes;
}

int syn_place_each(struct syn_place *place, uint64_t bytes,
		   int (*make)(void *ctx, int node, bool bind), void *ctx)
{
	int r = -ENOMEM;

	/* One node is where everything is, bound or not. */
	if (!place->nr || !place->numa->binds ||
	    syn_is_pow2(place->numa->memory))
		return make(ctx, place->nr ? place->order[0] : -1, false);
	for (unsigned int i = 0; i < place->nr && r == -ENOMEM; i++)
		r = make(ctx, place->order[i], true);
	if (r == -ENOMEM)
		place_refuse(place, bytes);
	else
		place->refused = false;
	return r;
}

/**
 * struct place_memory - what syn_place_new() was asked for.
 * @place:	where.
 * @mem:	answer.
 * @name:	see syn_hostmem_init(), as the two below.
 * @bytes:	see there.
 * @flags:	see there.
 */
struct place_memory {
	const struct syn_place *place;
	struct syn_hostmem *mem;
	const char *name;
	uint64_t bytes;
	unsigned int flags;
};

static int place_make(void *ctx, int node, bool bind)
{
	const struct place_memory *want = ctx;
	int r;

	if (bind && !syn_place_room(want->place, node, want->bytes) &&
	    (!(want->flags & SYN_HOSTMEM_HUGE) ||
	     huge_room(node) < want->bytes))
		return -ENOMEM;
	r = syn_hostmem_init(want->mem, want->name, want->bytes, want->flags,
			     bind ? node : -1);
	if (!r)
		want->mem->node = node;
	return r;
}

int syn_place_new(struct syn_place *place, struct syn_hostmem *mem,
		  const char *name, uint64_t bytes, unsigned int flags)
{
	struct place_memory want = {
		.place = place,
		.mem = mem,
		.name = name,
		.bytes = bytes,
		.flags = flags,
	};

	return syn_place_each(place, bytes, place_make, &want);
}
