/* SPDX-License-Identifier: Apache-2.0 */
/* Reading all of a swap file, through the disk that the daemon uses. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "core/io/format.h"
#include "core/io/swapfile.h"
#include "core/io/uring.h"

#define CHECK_DEPTH 16u
/* Extents have ids of their own; this one is only ours. */
#define CHECK_MEM_ID 0u

/**
 * struct check_slot - a slot whose head is valid.
 * @segment:	where it is ...
 * @frame:	... in there.
 * @crc:	of its data.
 * @frame_bytes: see struct syn_disk_io.
 * @segment_seq: see there.
 * @bytes:	stored.
 * @codec:	SYN_CODEC_*, 0: not known here.
 * @sealed:	found again after a restart.
 */
struct check_slot {
	uint32_t segment;
	uint32_t frame;
	uint32_t crc;
	uint32_t frame_bytes;
	uint64_t segment_seq;
	uint64_t bytes;
	uint32_t codec;
	bool sealed;
};

/**
 * struct check - a check under way.
 * @disk:	the file.
 * @stats:	so far.
 * @slot:	what has to be read, @nr of them, @max allocated.
 * @nr:		see there.
 * @max:	see there.
 * @frame_max:	the largest slot's bytes.
 * @mem:	CHECK_DEPTH buffers of @frame_max.
 */
struct check {
	struct syn_disk *disk;
	struct syn_swapfile_stats *stats;
	struct check_slot *slot;
	size_t nr;
	size_t max;
	uint64_t frame_max;
	struct syn_mem mem;
};

static int check_segment(void *ctx, const struct syn_swap_segment *segment)
{
	struct check *check = ctx;

	check->stats->nr_cut++;
	check->stats->nr_slots += segment->nr_frames;
	return 0;
}

static int slot_add(struct check *check, const struct check_slot *slot)
{
	if (check->nr == check->max) {
		size_t max = check->max ? 2 * check->max : 1024;
		struct check_slot *more = syn_alloc(max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (check->nr)
			memcpy(more, check->slot, check->nr * sizeof(*more));
		free(check->slot);
		check->slot = more;
		check->max = max;
	}
	check->slot[check->nr++] = *slot;
	check->frame_max =
		syn_max(check->frame_max, (uint64_t)slot->frame_bytes);
	return 0;
}

static int check_head(void *ctx, const struct syn_swap_segment *segment,
		      uint32_t frame, const struct syn_disk_head *head)
{
	struct check *check = ctx;
	struct check_slot slot;

	if (!head) {
		check->stats->nr_unreadable++;
		return 0;
	}
	switch (syn_swap_head_check(head, segment, frame)) {
	case SYN_SWAP_FREE:
		return 0;
	case SYN_SWAP_STALE:
		check->stats->nr_stale++;
		return 0;
	case SYN_SWAP_CORRUPT:
		check->stats->nr_corrupt++;
		return 0;
	case SYN_SWAP_VALID:
		break;
	}
	slot = (struct check_slot){
		.segment = segment->segment,
		.frame = frame,
		.crc = head->data_crc,
		.frame_bytes = segment->frame_bytes,
		.segment_seq = segment->sequence,
		.bytes = head->bytes,
		.codec = head->codec < SYN_CODEC_NR ? head->codec : 0,
		.sealed = head->flags & SYN_DISK_HEAD_SEALED,
	};
	return slot_add(check, &slot);
}

static int slot_submit(struct check *check, size_t index, unsigned int buffer)
{
	const struct check_slot *slot = &check->slot[index];
	const struct syn_disk_io io = {
		.cookie = (uint64_t)index * CHECK_DEPTH + buffer,
		.op = SYN_DISK_READ,
		.segment = slot->segment,
		.frame = slot->frame,
		.crc = slot->crc,
		.frame_bytes = slot->frame_bytes,
		.segment_seq = slot->segment_seq,
		.bytes = slot->bytes,
		.mem = &check->mem,
		.mem_off = buffer * check->frame_max,
	};

	return check->disk->ops->submit(check->disk, &io, 1);
}

static void slot_count(struct check *check, const struct check_slot *slot,
		       int status)
{
	struct syn_swapfile_stats *stats = check->stats;

	if (status == -EILSEQ) {
		stats->nr_corrupt++;
		return;
	}
	if (status) {
		stats->nr_unreadable++;
		return;
	}
	stats->nr_valid++;
	stats->nr_sealed += slot->sealed;
	stats->valid_bytes += slot->bytes;
	stats->nr_codec[slot->codec]++;
	stats->codec_bytes[slot->codec] += slot->bytes;
}

static void slots_wait(const struct check *check)
{
	struct pollfd fd = { .fd = check->disk->ops->event_fd(check->disk),
			     .events = POLLIN };

	(void)poll(&fd, 1, -1);
}

/* Each buffer goes on with the next slot once it is free. */
static int slots_read(struct check *check)
{
	struct syn_disk_done done[CHECK_DEPTH];
	size_t next = 0;
	size_t ended = 0;
	int r = 0;

	while (next < check->nr && next < CHECK_DEPTH && !r) {
		r = slot_submit(check, next, (unsigned int)next);
		next += !r;
	}
	while (ended < next) {
		unsigned int nr;

		slots_wait(check);
		nr = check->disk->ops->reap(check->disk, done, CHECK_DEPTH);
		for (unsigned int i = 0; i < nr; i++) {
			slot_count(check,
				   &check->slot[done[i].cookie / CHECK_DEPTH],
				   done[i].status);
			ended++;
			if (next == check->nr || r)
				continue;
			r = slot_submit(check, next,
					done[i].cookie % CHECK_DEPTH);
			next += !r;
		}
	}
	return r;
}

static int check_data(struct check *check)
{
	void *addr;
	int r;

	if (!check->nr)
		return 0;
	check->mem.id = CHECK_MEM_ID;
	check->mem.bytes = CHECK_DEPTH * check->frame_max;
	addr = syn_fault()
		       ? MAP_FAILED
		       : mmap(NULL, check->mem.bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED)
		return -ENOMEM;
	check->mem.addr = addr;
	r = check->disk->ops->mem_add(check->disk, &check->mem);
	if (!r) {
		r = slots_read(check);
		check->disk->ops->mem_del(check->disk, &check->mem);
	}
	(void)munmap(addr, check->mem.bytes);
	return r;
}

int syn_swapfile_check(const char *path, struct syn_swapfile_stats *ret,
		       char *ret_why)
{
	struct check check = { .stats = ret };
	struct syn_swap_walk walk = {
		.segment = check_segment,
		.head = check_head,
		.ctx = &check,
	};
	int r;

	memset(ret, 0, sizeof(*ret));
	r = syn_swapfile_open(path, NULL, &check.disk, ret_why);
	if (r)
		return r;
	ret->nr_segments = check.disk->nr_segments;
	ret->bytes = syn_disk_segment_at(check.disk, check.disk->nr_segments);
	r = syn_uring_walk(check.disk, &walk);
	if (!r)
		r = check_data(&check);
	if (r)
		(void)snprintf(ret_why, SYN_SWAPFILE_WHY_BYTES, "%.200s: %s",
			       path, strerror(-r));
	check.disk->ops->close(check.disk);
	free(check.slot);
	return r;
}
