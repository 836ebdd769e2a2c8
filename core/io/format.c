/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and judging the blocks of the swap file. */
#include "core/io/format.h"

#include <isa-l.h>

#include "core/base/base.h"

/* What all blocks begin with. */
struct block_start {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;
};

/* The library's calls take an int. */
#define CRC_CALL_BYTES (1u << 30)

/* The library neither inverts what comes in nor what goes out. */
uint32_t syn_swap_crc(uint32_t crc, const void *data, size_t bytes)
{
	unsigned char *at = (unsigned char *)data;

	crc = ~crc;
	while (bytes) {
		size_t part = syn_min(bytes, (size_t)CRC_CALL_BYTES);

		crc = crc32_iscsi(at, (int)part, crc);
		at += part;
		bytes -= part;
	}
	return ~crc;
}

static uint32_t block_crc(const void *block)
{
	struct block_start start;
	uint32_t crc;

	memcpy(&start, block, sizeof(start));
	start.crc = 0;
	crc = syn_swap_crc(0, &start, sizeof(start));
	return syn_swap_crc(crc, (const char *)block + sizeof(start),
			    SYN_DISK_BLOCK - sizeof(start));
}

void syn_swap_seal(void *block)
{
	uint32_t crc = block_crc(block);

	memcpy((char *)block + offsetof(struct block_start, crc), &crc,
	       sizeof(crc));
}

bool syn_swap_is_sealed(const void *block)
{
	struct block_start start;

	memcpy(&start, block, sizeof(start));
	return start.crc == block_crc(block);
}

void syn_swap_segment_make(struct syn_swap_segment *ret, const uint64_t file[2],
			   const struct syn_disk_io *io)
{
	*ret = (struct syn_swap_segment){
		.magic = SYN_SWAP_SEGMENT_MAGIC,
		.version = SYN_SWAP_VERSION,
		.file = { file[0], file[1] },
		.sequence = io->segment_seq,
		.segment = io->segment,
		.nr_frames = io->frame,
		.frame_bytes = io->frame_bytes,
	};
	syn_swap_seal(ret);
}

/* Slots are found by the size of their frames, so their number is no choice. */
static bool cut_is_sane(const struct syn_disk *disk, uint32_t frame_bytes,
			uint32_t nr_frames)
{
	return frame_bytes && frame_bytes % SYN_DISK_BLOCK == 0 && nr_frames &&
	       nr_frames == syn_disk_frames(disk, frame_bytes);
}

bool syn_swap_segment_check(const struct syn_swap_segment *block,
			    const struct syn_disk *disk, uint32_t segment)
{
	return block->magic == SYN_SWAP_SEGMENT_MAGIC &&
	       block->version == SYN_SWAP_VERSION &&
	       syn_swap_is_sealed(block) && block->file[0] == disk->file[0] &&
	       block->file[1] == disk->file[1] && block->segment == segment &&
	       cut_is_sane(disk, block->frame_bytes, block->nr_frames);
}

void syn_swap_head_make(struct syn_disk_head *ret, const uint64_t file[2],
			const struct syn_disk_io *io, uint32_t data_crc)
{
	*ret = *io->head;
	ret->magic = SYN_DISK_HEAD_MAGIC;
	ret->version = SYN_DISK_HEAD_VERSION;
	ret->file[0] = file[0];
	ret->file[1] = file[1];
	ret->data_crc = data_crc;
	ret->segment = io->segment;
	ret->frame = io->frame;
	ret->segment_seq = io->segment_seq;
	ret->bytes = io->bytes;
	syn_swap_seal(ret);
}

enum syn_swap_state syn_swap_head_check(const struct syn_disk_head *head,
					const struct syn_swap_segment *segment,
					uint32_t frame)
{
	if (head->magic != SYN_DISK_HEAD_MAGIC)
		return SYN_SWAP_FREE;
	if (!syn_swap_is_sealed(head))
		return SYN_SWAP_CORRUPT;
	if (head->version != SYN_DISK_HEAD_VERSION ||
	    head->file[0] != segment->file[0] ||
	    head->file[1] != segment->file[1] ||
	    head->segment_seq != segment->sequence)
		return SYN_SWAP_STALE;
	if (head->segment != segment->segment || head->frame != frame ||
	    !head->bytes || head->bytes > segment->frame_bytes)
		return SYN_SWAP_CORRUPT;
	return SYN_SWAP_VALID;
}

static bool slot_is_sane(const struct syn_disk *disk,
			 const struct syn_disk_io *io)
{
	uint64_t bytes = syn_swap_data_bytes(io);

	return io->frame < syn_disk_frames(disk, io->frame_bytes) &&
	       io->bytes && io->bytes <= io->frame_bytes && io->mem &&
	       io->mem->addr && io->mem_off % SYN_DISK_BLOCK == 0 &&
	       io->mem_off <= io->mem->bytes &&
	       bytes <= io->mem->bytes - io->mem_off &&
	       (io->op == SYN_DISK_READ || io->head);
}

int syn_swap_io_check(const struct syn_disk *disk, const struct syn_disk_io *io)
{
	bool sane = io->segment < disk->nr_segments && io->frame_bytes &&
		    io->frame_bytes % SYN_DISK_BLOCK == 0;

	switch (io->op) {
	case SYN_DISK_FORMAT:
		sane = sane && cut_is_sane(disk, io->frame_bytes, io->frame);
		break;
	case SYN_DISK_WIPE:
		sane = sane &&
		       io->frame < syn_disk_frames(disk, io->frame_bytes);
		break;
	case SYN_DISK_READ:
	case SYN_DISK_WRITE:
		sane = sane && slot_is_sane(disk, io);
		break;
	default:
		sane = false;
	}
	return sane ? 0 : -EINVAL;
}
