/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The swap file's own blocks: superblock, segment heads, slot heads.
 *
 * Documentation/swap-format.rst shows where they lie.  Each begins with magic,
 * version and the CRC32C of the whole block, and names the file by its 128
 * random bits, so that no page's bytes can pass for one of them.
 */
#ifndef SYN_CORE_IO_FORMAT_H
#define SYN_CORE_IO_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

#include "core/dev.h"
#include "core/disk.h"

#define SYN_SWAP_MAGIC	       0x00706177736e7953ull /* "Synswap" in memory */
#define SYN_SWAP_VERSION       1u
#define SYN_SWAP_SEGMENT_MAGIC 0x746d6765736e7953ull /* "Synsegmt" */
#define SYN_SWAP_SEGMENTS_MAX  65536u

/**
 * struct syn_swap_super - block 0.
 * @magic:	SYN_SWAP_MAGIC.
 * @version:	SYN_SWAP_VERSION; of everything in the file but slot heads.
 * @crc:	CRC32C of this block, with this member 0.
 * @file:	identity of the file, random.
 * @machine:	identity of the machine that may use it.
 * @bytes:	size of the file.
 * @segment_bytes: size of a segment.
 * @nr_segments: segments, behind one another from block 1 on.
 * @block_bytes: SYN_DISK_BLOCK.
 * @pad:	zero.
 */
struct syn_swap_super {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;
	uint64_t file[2];
	uint64_t machine[2];
	uint64_t bytes;
	uint64_t segment_bytes;
	uint32_t nr_segments;
	uint32_t block_bytes;
	uint8_t pad[4024];
};
SYN_ABI_SIZE(struct syn_swap_super, SYN_DISK_BLOCK);

/**
 * struct syn_swap_segment - first block of a segment that is cut.
 * @magic:	SYN_SWAP_SEGMENT_MAGIC.
 * @version:	SYN_SWAP_VERSION.
 * @crc:	CRC32C of this block, with this member 0.
 * @file:	identity of the file.
 * @sequence:	grows each time a segment is cut; older slot heads are void.
 * @segment:	its own index.
 * @nr_frames:	slots: syn_disk_frames().
 * @frame_bytes: bytes of a slot, a multiple of the block.
 * @pad0:	zero.
 * @pad:	zero.
 */
struct syn_swap_segment {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;
	uint64_t file[2];
	uint64_t sequence;
	uint32_t segment;
	uint32_t nr_frames;
	uint32_t frame_bytes;
	uint32_t pad0;
	uint8_t pad[4040];
};
SYN_ABI_SIZE(struct syn_swap_segment, SYN_DISK_BLOCK);

/* CRC32C, to be continued: the first call gets 0. */
uint32_t syn_swap_crc(uint32_t crc, const void *data, size_t bytes);

/* Any block of the three kinds: writes its checksum ... */
void syn_swap_seal(void *block);
/* ... and compares it. */
bool syn_swap_is_sealed(const void *block);

void syn_swap_segment_make(struct syn_swap_segment *ret, const uint64_t file[2],
			   const struct syn_disk_io *io);
/* Whether @block is the head of @segment, of this file and of good geometry. */
bool syn_swap_segment_check(const struct syn_swap_segment *block,
			    const struct syn_disk *disk, uint32_t segment);

/* The block that is written for @io, whose data has @data_crc. */
void syn_swap_head_make(struct syn_disk_head *ret, const uint64_t file[2],
			const struct syn_disk_io *io, uint32_t data_crc);

enum syn_swap_state {
	SYN_SWAP_FREE,	  /* no head at all */
	SYN_SWAP_STALE,	  /* of another file or an older cut */
	SYN_SWAP_CORRUPT, /* checksum, place or size is wrong */
	SYN_SWAP_VALID,
};

/* What @head says as head of slot @frame of @segment. */
enum syn_swap_state syn_swap_head_check(const struct syn_disk_head *head,
					const struct syn_swap_segment *segment,
					uint32_t frame);

/* -EINVAL for an io that no disk of this size can do. */
int syn_swap_io_check(const struct syn_disk *disk,
		      const struct syn_disk_io *io);

/* Where the data of @io lies, and how many whole blocks of bytes it has. */
static inline uint64_t syn_swap_data_at(const struct syn_disk *disk,
					const struct syn_disk_io *io)
{
	return syn_disk_data_at(disk, io->segment, io->frame,
				syn_disk_frames(disk, io->frame_bytes),
				io->frame_bytes);
}

static inline uint64_t syn_swap_data_bytes(const struct syn_disk_io *io)
{
	return (io->bytes + SYN_DISK_BLOCK - 1) & ~(SYN_DISK_BLOCK - 1ull);
}

static inline char *syn_swap_data(const struct syn_disk_io *io)
{
	return (char *)io->mem->addr + io->mem_off;
}

#endif
