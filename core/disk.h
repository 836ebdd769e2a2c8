/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that core knows of the swap store: a file of segments, and who reads
 * and writes it.
 *
 * Owned by core, implemented twice in core/io/: io_uring on a file, and a
 * simulated disk for crash tests.  Calls on one disk come from the control
 * thread; the backend works on a thread of its own and tells by an eventfd.
 *
 * Layout.  Block 0 is the superblock (the backend's own); segment s begins at
 * syn_disk_segment_at(disk, s).  The first block of a segment is its own head,
 * the next @nr_frames blocks are the heads of its slots, then the slots follow,
 * each of @frame_bytes.  What a head says is written with its slot: data
 * first, then the head.
 *
 * Trust.  A head counts only if its checksum is right and it names this file,
 * this segment's sequence and its own place.  Data counts only if its CRC32C
 * is the one that its head (or the page's record) names.  Everything else is
 * free space.
 */
#ifndef SYN_CORE_DISK_H
#define SYN_CORE_DISK_H

#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

struct syn_disk;
struct syn_mem;

#define SYN_DISK_BLOCK	      4096u
#define SYN_DISK_HEAD_MAGIC   0x6461656870616e53ull /* "Snaphead" in memory */
#define SYN_DISK_HEAD_VERSION 1u

/**
 * struct syn_disk_head - what stands before a slot: which page it holds.
 * @magic:	SYN_DISK_HEAD_MAGIC; written by the backend, as the next four.
 * @version:	SYN_DISK_HEAD_VERSION.
 * @crc:	CRC32C of this block, with this member 0.
 * @file:	identity of the file.
 * @data_crc:	CRC32C of the slot's first @bytes.
 * @segment:	index of the segment.
 * @frame:	index of the slot in it.
 * @flags:	SYN_DISK_HEAD_*.
 * @segment_seq: sequence of the segment when it was cut.
 * @sequence:	grows with every slot written; of two with one key the larger
 *		counts.
 * @key:	of the page.
 * @domain:	identity of its domain.
 * @model:	and what follows to @component: its space.
 * @bytes:	stored bytes.
 * @codec:	SYN_CODEC_*.
 * @fidelity:	bits of the best copy.
 * @nr_tiles:	used entries of @sum and @error.
 * @pad0:	zero.
 * @domain_name: for people.
 * @sum:	sums of the stored tiles.
 * @error:	errors of the tiles, units of 2^-16.
 * @pad1:	zero.
 */
struct syn_disk_head {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;
	uint64_t file[2];
	uint32_t data_crc;
	uint32_t segment;
	uint32_t frame;
	uint32_t flags;
	uint64_t segment_seq;
	uint64_t sequence;
	uint64_t key[2];
	uint64_t domain[2];
	uint64_t model[2];
	uint32_t tokens;
	uint32_t layers_per_page;
	uint32_t nr_components;
	uint8_t raw_head;
	uint8_t raw_tail;
	uint16_t space_flags;
	struct syn_component component[SYN_COMPONENTS_MAX];
	uint64_t bytes;
	uint32_t codec;
	uint32_t fidelity;
	uint32_t nr_tiles;
	uint32_t pad0;
	char domain_name[64];
	uint32_t sum[SYN_TILES_MAX];
	uint16_t error[SYN_TILES_MAX];
	uint8_t pad1[680];
};
SYN_ABI_SIZE(struct syn_disk_head, SYN_DISK_BLOCK);

#define SYN_DISK_HEAD_SEALED  1u /* found again after a restart */
#define SYN_DISK_HEAD_DURABLE 2u /* written so that it outlives a power cut */

#define SYN_DISK_READ	1
#define SYN_DISK_WRITE	2
#define SYN_DISK_FORMAT 3 /* cuts a segment */
#define SYN_DISK_WIPE	4 /* a slot has no head any more */

/**
 * struct syn_disk_io - one thing to do.
 * @cookie:	core's own, returned with the completion.
 * @op:		SYN_DISK_*.
 * @durable:	WRITE: complete only when a power cut cannot undo it.
 * @segment:	segment ...
 * @frame:	... and slot in it.  FORMAT: number of slots.
 * @crc:	READ: what the data must have.
 * @frame_bytes: bytes of a slot of this segment, a multiple of the block.
 * @segment_seq: sequence of the segment.
 * @bytes:	READ, WRITE: stored bytes, at most @frame_bytes.
 * @mem:	host extent ...
 * @mem_off:	... and first byte in it, a multiple of the block; up to
 *		@frame_bytes from there belong to the caller.
 * @head:	WRITE: filled in by the caller from @flags on except @data_crc,
 *		@segment and @frame; must stay valid until completion.
 */
struct syn_disk_io {
	uint64_t cookie;
	uint32_t op;
	uint32_t durable;
	uint32_t segment;
	uint32_t frame;
	uint32_t crc;
	uint32_t frame_bytes;
	uint64_t segment_seq;
	uint64_t bytes;
	const struct syn_mem *mem;
	uint64_t mem_off;
	struct syn_disk_head *head;
};

/**
 * struct syn_disk_done - how it ended.
 * @cookie:	as given.
 * @status:	0.  -EIO: the device failed there.  -EILSEQ: READ, the bytes are
 *		not those that were written.  -ENOSPC: the filesystem is full.
 * @crc:	WRITE: of the data.
 */
struct syn_disk_done {
	uint64_t cookie;
	int status;
	uint32_t crc;
};

/* One valid head, in any order.  Other than 0 ends the scan with it. */
typedef int (*syn_disk_found_fn)(void *ctx, const struct syn_disk_head *head);
/* One segment that is cut, before its heads. */
typedef int (*syn_disk_segment_fn)(void *ctx, uint32_t segment,
				   uint32_t nr_frames, uint32_t frame_bytes,
				   uint64_t segment_seq);

/**
 * struct syn_disk_ops - a swap store.
 * @name:	stable name.
 * @close:	waits for what was submitted.
 * @scan:	reads all heads; may block; called once, before anything is
 *		submitted.
 * @mem_add:	@mem will be read from and written into; may register it.
 * @mem_del:	no more; nothing on it is in flight.
 * @submit:	queues all @nr or none (-EAGAIN); no order among them.
 * @reap:	takes at most @max completions; returns their number.
 * @event_fd:	readable while completions wait; the backend's own.
 *
 * All members are mandatory.
 */
struct syn_disk_ops {
	const char *name;
	void (*close)(struct syn_disk *disk);
	int (*scan)(struct syn_disk *disk, syn_disk_segment_fn segment,
		    syn_disk_found_fn found, void *ctx);
	int (*mem_add)(struct syn_disk *disk, const struct syn_mem *mem);
	void (*mem_del)(struct syn_disk *disk, const struct syn_mem *mem);
	int (*submit)(struct syn_disk *disk, const struct syn_disk_io *vec,
		      unsigned int nr);
	unsigned int (*reap)(struct syn_disk *disk, struct syn_disk_done *ret,
			     unsigned int max);
	int (*event_fd)(struct syn_disk *disk);
};

/**
 * struct syn_disk - a backend embeds this as its first member.
 * @ops:	see there.
 * @nr_segments: segments ...
 * @segment_bytes: ... and their size.
 * @file:	identity of the file.
 */
struct syn_disk {
	const struct syn_disk_ops *ops;
	uint32_t nr_segments;
	uint64_t segment_bytes;
	uint64_t file[2];
};

/* Slots of @frame_bytes that a segment holds. */
static inline uint32_t syn_disk_frames(const struct syn_disk *disk,
				       uint64_t frame_bytes)
{
	uint64_t nr = (disk->segment_bytes - SYN_DISK_BLOCK) /
		      (frame_bytes + SYN_DISK_BLOCK);

	return nr > 65536 ? 65536 : (uint32_t)nr;
}

/* First byte of a segment in the file. */
static inline uint64_t syn_disk_segment_at(const struct syn_disk *disk,
					   uint32_t segment)
{
	return SYN_DISK_BLOCK + (uint64_t)segment * disk->segment_bytes;
}

/* First byte of the head of a slot, and of its data. */
static inline uint64_t syn_disk_head_at(const struct syn_disk *disk,
					uint32_t segment, uint32_t frame)
{
	return syn_disk_segment_at(disk, segment) +
	       (1ull + frame) * SYN_DISK_BLOCK;
}

static inline uint64_t syn_disk_data_at(const struct syn_disk *disk,
					uint32_t segment, uint32_t frame,
					uint32_t nr_frames,
					uint64_t frame_bytes)
{
	return syn_disk_head_at(disk, segment, nr_frames) + frame * frame_bytes;
}

#endif
