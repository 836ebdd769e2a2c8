/* SPDX-License-Identifier: Apache-2.0 */
/* Kept memory, and its copy for records that have grown. */
#include "tools/synapsed/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "ipc/conn.h"
#include "tools/synapsed/keep.h"

#define MEMORY_ALIGN 4096u

static const char *const part_name[SYN_MEMORY_PARTS] = {
	[SYN_MEMORY_SERVER] = "records of sessions",
	[SYN_MEMORY_CORE] = "records of pages",
};

/* ---- this program's ----------------------------------------------------- */

/* New memory for what is wanted; @ret_fd is the caller's. */
static int memory_make(struct syn_memory *memory, int *ret_fd)
{
	struct syn_memory_map *map = &memory->map;
	syn_cleanup(syn_closep) int fd = -1;
	void *base;
	uint32_t i;
	int r;

	map->bytes = 0;
	for (i = 0; i < SYN_MEMORY_PARTS; i++) {
		map->at[i] = map->bytes;
		map->bytes += syn_align_up(syn_records_bytes(&memory->want[i]),
					   MEMORY_ALIGN);
	}
	r = syn_conn_segment_new("synapse-kept", map->bytes, &fd);
	if (!r)
		r = syn_conn_segment_map(fd, map->bytes, 1, &base);
	if (r)
		return r;
	map->base = base;
	*ret_fd = syn_steal_fd(&fd);
	return 0;
}

int syn_memory_new(struct syn_memory *memory, struct syn_keep *keep)
{
	syn_cleanup(syn_closep) int fd = -1;
	int r;

	r = memory_make(memory, &fd);
	return r ? r : keep->ops->put(keep, SYN_KEEP_MEMORY, 0, &fd, 1);
}

void *syn_memory_part(const struct syn_memory *memory, uint32_t part)
{
	return memory->map.base + memory->map.at[part];
}

static void map_close(struct syn_memory_map *map)
{
	if (map->base)
		(void)munmap(map->base, map->bytes);
	map->base = NULL;
}

void syn_memory_close(struct syn_memory *memory)
{
	map_close(&memory->map);
	syn_closep(&memory->fd);
}

/* ---- another's ---------------------------------------------------------- */

static int memory_find(struct syn_keep *keep, int *ret_fd,
		       struct syn_memory_map *ret)
{
	int fds[SYN_FDS_MAX];
	struct stat st;
	void *base;
	int r;

	r = syn_hold_take(&keep->hold, SYN_KEEP_MEMORY, 0, fds);
	if (r)
		return r;
	*ret_fd = fds[0];
	if (fstat(fds[0], &st) < 0)
		return -errno;
	r = syn_conn_segment_map(fds[0], (uint64_t)st.st_size, 1, &base);
	if (!r)
		*ret = (struct syn_memory_map){
			.base = base,
			.bytes = (uint64_t)st.st_size,
		};
	return r;
}

static int part_check(const struct syn_memory *memory,
		      const struct syn_memory_map *map, uint32_t part,
		      char *ret_why)
{
	uint64_t at = syn_min(map->at[part], map->bytes);
	struct syn_misfit misfit;
	int r;

	r = syn_records_check((const void *)(map->base + at), map->bytes - at,
			      &memory->want[part], &misfit);
	if (r < 0)
		(void)snprintf(ret_why, SYN_MEMORY_WHY_BYTES,
			       "%s: %s (was %" PRIu64 ", is %" PRIu64 ")",
			       part_name[part], misfit.what, misfit.was,
			       misfit.is);
	else if (r)
		syn_info("%s: from revision %" PRIu64 " to %" PRIu64,
			 part_name[part], misfit.was, misfit.is);
	return r;
}

/* Finds the parts of @map; SYN_RECORDS_OLDER: one at least is to be copied. */
static int parts_check(const struct syn_memory *memory,
		       struct syn_memory_map *map, char *ret_why)
{
	uint64_t at = 0;
	int older = 0;
	uint32_t i;

	for (i = 0; i < SYN_MEMORY_PARTS; i++) {
		int r;

		map->at[i] = at;
		r = part_check(memory, map, i, ret_why);
		if (r < 0)
			return r;
		older |= r;
		at += syn_align_up(syn_records_bytes((void *)(map->base + at)),
				   MEMORY_ALIGN);
	}
	return older;
}

/* ---- and its copy ------------------------------------------------------- */

static uint64_t behind(uint64_t x, uint64_t at)
{
	return x > at ? x - at : 0;
}

static void range_copy(const struct syn_memory *memory,
		       const struct syn_memory_map *from, uint64_t begin,
		       uint64_t end)
{
	uint32_t i;

	for (i = 0; i < SYN_MEMORY_PARTS; i++)
		syn_records_copy(syn_memory_part(memory, i), &memory->want[i],
				 from->base + from->at[i],
				 behind(begin, from->at[i]),
				 behind(end, from->at[i]));
}

/* Most of it was never written: that takes no room, neither there nor here. */
static int memory_copy(const struct syn_memory *memory,
		       const struct syn_memory_map *from, int fd)
{
	off_t begin;
	off_t end = 0;

	while ((begin = lseek(fd, end, SEEK_DATA)) >= 0) {
		end = lseek(fd, begin, SEEK_HOLE);
		if (end < 0)
			break;
		syn_failpoint();
		range_copy(memory, from, (uint64_t)begin, (uint64_t)end);
	}
	return errno == ENXIO ? 0 : -errno;
}

static int memory_grow(struct syn_memory *memory,
		       const struct syn_memory_map *from, int fd)
{
	int r;

	r = memory_make(memory, &memory->fd);
	return r ? r : memory_copy(memory, from, fd);
}

int syn_memory_adopt(struct syn_memory *memory, struct syn_keep *keep,
		     char *ret_why)
{
	syn_cleanup(syn_closep) int fd = -1;
	struct syn_memory_map map = { .base = NULL };
	int r;

	r = memory_find(keep, &fd, &map);
	if (!r)
		r = parts_check(memory, &map, ret_why);
	if (!r) {
		memory->map = map;
		return 0;
	}
	if (r == SYN_RECORDS_OLDER)
		r = memory_grow(memory, &map, fd);
	map_close(&map);
	return r;
}

int syn_memory_hand_over(struct syn_memory *memory, struct syn_keep *keep)
{
	int r;

	if (memory->fd < 0)
		return 0;
	r = keep->ops->replace(keep, SYN_KEEP_MEMORY, 0, &memory->fd, 1);
	syn_failpoint();
	syn_closep(&memory->fd);
	return r;
}
