/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client for the cases with a disk; the daemon was started by the case.
 *
 * vm-nvme overflow SOCKET DISK	more pages than HBM and host memory hold; DISK
 *				must have been read, in the kernel's own count
 * vm-nvme write SOCKET		seals and persists pages, and says "durable N"
 *				of each, until the power is cut
 * vm-nvme read SOCKET		finds, with every byte, each page of which that
 *				was said on standard input
 */
#include <inttypes.h>
#include <stdio.h>

#include "core/base/base.h"
#include "test/sys/engine.h"

#define SLOTS	     16u
#define MANY	     5000u
#define SECTOR_BYTES 512u
/* Of overflow's pages, those that cannot be anywhere else. */
#define ON_DISK 64u

static uint64_t name_seed(uint64_t name)
{
	return name * 1000003 + 7;
}

static int fail(const char *what, uint64_t name, int error)
{
	(void)printf("%s %" PRIu64 ": %s\n", what, name,
		     error < 0 ? strerror(-error) : "not found");
	return 1;
}

/* The third figure: sectors read since the disk was there. */
static uint64_t disk_read_bytes(const char *disk)
{
	unsigned long long sectors = 0;
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/sys/block/%s/stat", disk);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%*u %*u %llu", &sectors) != 1)
		sectors = 0;
	(void)fclose(file);
	return sectors * SECTOR_BYTES;
}

static int overflow(struct engine *e, const char *disk)
{
	uint64_t before = disk_read_bytes(disk);
	uint64_t bytes;
	int r;

	r = engine_grow(e, ENGINE_PAGES_MAX, 3);
	if (r)
		return fail("grow", e->nr, r);
	for (uint32_t i = 0; i < e->nr; i++) {
		r = engine_check(e, i);
		if (r)
			return fail("check", i, r);
	}
	bytes = disk_read_bytes(disk) - before;
	(void)printf("%" PRIu64 " bytes read from the disk\n", bytes);
	r = engine_release(e);
	if (r)
		return fail("release", 0, r);
	return bytes < ON_DISK * e->space.page_bytes;
}

static int write_one(struct engine *e, uint64_t name)
{
	uint32_t i = e->nr;
	int r;

	r = engine_grow(e, 1, name_seed(name) - i);
	if (!r)
		r = engine_seal(e, i, name);
	if (!r)
		r = syn_persist(e->client, &e->page[i], 1, SYN_FOREVER);
	if (!r)
		r = syn_release(e->client, &e->page[i], 1);
	e->nr = i;
	return r;
}

static int write_many(struct engine *e)
{
	for (uint64_t name = 1; name <= MANY; name++) {
		int r = write_one(e, name);

		if (r)
			return fail("write", name, r);
		(void)printf("durable %" PRIu64 "\n", name);
		(void)fflush(stdout);
	}
	return 1; /* somebody was to cut the power */
}

static int read_said(struct engine *e)
{
	unsigned int nr = 0;
	uint64_t name;
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		int r;

		if (sscanf(line, "durable %" SCNu64, &name) != 1)
			continue;
		r = engine_find(e, name, name_seed(name));
		if (r)
			return fail("find", name, r);
		nr++;
	}
	(void)printf("%u durable pages found\n", nr);
	return !nr;
}

int main(int argc, char **argv)
{
	struct engine e;
	int r = 2;

	if (argc < 3)
		return 2;
	r = engine_open(&e, argv[2], SLOTS);
	if (r)
		return fail("open", 0, r);
	if (strcmp(argv[1], "overflow") == 0 && argc == 4)
		r = overflow(&e, argv[3]);
	else if (strcmp(argv[1], "write") == 0)
		r = write_many(&e);
	else if (strcmp(argv[1], "read") == 0)
		r = read_said(&e);
	engine_close(&e);
	return r;
}
