/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk over all heads.  First the head of every segment, then the head
 * tables of those that are cut, which lie dense at the segment's beginning.
 */
#include "core/io/scan.h"

#include <liburing.h>

#include "core/base/base.h"
#include "core/base/fault.h"

/* ---- reading ------------------------------------------------------------ */

#define READ_DEPTH 16u

/**
 * struct reader - reads under way.
 * @ring:	their ring.
 * @fd:		the file.
 * @reads:	what is wanted.
 * @data:	READ_DEPTH buffers.
 * @at:		where in the file each is read from.
 * @bytes:	its size, 0: not in use.
 * @more:	@reads may have more.
 */
struct reader {
	struct io_uring ring;
	int fd;
	const struct syn_swap_reads *reads;
	char *data;
	uint64_t at[READ_DEPTH];
	uint32_t bytes[READ_DEPTH];
	bool more;
};

static char *reader_buffer(const struct reader *reader, unsigned int i)
{
	return reader->data + (size_t)i * SYN_SWAP_READ_BYTES;
}

static void reader_prepare(struct reader *reader)
{
	for (unsigned int i = 0; i < READ_DEPTH && reader->more; i++) {
		struct io_uring_sqe *sqe;

		if (reader->bytes[i])
			continue;
		reader->more = reader->reads->next(
			reader->reads->ctx, &reader->at[i], &reader->bytes[i]);
		if (!reader->more)
			return;
		sqe = io_uring_get_sqe(&reader->ring);
		io_uring_prep_read(sqe, reader->fd, reader_buffer(reader, i),
				   reader->bytes[i], reader->at[i]);
		io_uring_sqe_set_data64(sqe, i);
	}
}

/* A bad block costs its own head only: the others are read one by one. */
static int reader_block(struct reader *reader, uint64_t at, char *to)
{
	const struct syn_swap_reads *reads = reader->reads;
	ssize_t n = -1;

	if (!syn_fault())
		n = pread(reader->fd, to, SYN_DISK_BLOCK, (off_t)at);
	return reads->got(reads->ctx, at, n == SYN_DISK_BLOCK ? to : NULL,
			  SYN_DISK_BLOCK);
}

static int reader_take(struct reader *reader, unsigned int i, int res)
{
	const struct syn_swap_reads *reads = reader->reads;
	uint32_t bytes = reader->bytes[i];
	char *data = reader_buffer(reader, i);
	int r = 0;

	reader->bytes[i] = 0;
	if (!syn_fault() && res == (int)bytes)
		return reads->got(reads->ctx, reader->at[i], data, bytes);
	for (uint32_t off = 0; off < bytes && !r; off += SYN_DISK_BLOCK)
		r = reader_block(reader, reader->at[i] + off, data + off);
	return r;
}

static bool reader_is_busy(const struct reader *reader)
{
	for (unsigned int i = 0; i < READ_DEPTH; i++)
		if (reader->bytes[i])
			return true;
	return false;
}

/* The kernel writes into the buffers until the last one is back. */
static int reader_run(struct reader *reader)
{
	int r = 0;

	for (;;) {
		struct io_uring_cqe *cqe;

		if (!r)
			reader_prepare(reader);
		if (!reader_is_busy(reader))
			return r;
		/* What fails here is tried again: nothing else ends a read. */
		(void)io_uring_submit_and_wait(&reader->ring, 1);
		while (io_uring_peek_cqe(&reader->ring, &cqe) == 0) {
			unsigned int i = (unsigned int)cqe->user_data;
			int res = cqe->res;

			io_uring_cqe_seen(&reader->ring, cqe);
			if (r)
				reader->bytes[i] = 0;
			else
				r = reader_take(reader, i, res);
		}
	}
}

int syn_swap_read(int fd, const struct syn_swap_reads *reads)
{
	struct reader reader = { .fd = fd, .reads = reads, .more = true };
	void *data = NULL;
	int r;

	r = syn_fault()
		    ? ENOMEM
		    : posix_memalign(&data, SYN_DISK_BLOCK,
				     (size_t)READ_DEPTH * SYN_SWAP_READ_BYTES);
	if (r)
		return -r;
	reader.data = data;
	r = syn_fault() ? -ENOMEM
			: io_uring_queue_init(READ_DEPTH, &reader.ring, 0);
	if (r)
		goto free_data;
	r = reader_run(&reader);
	io_uring_queue_exit(&reader.ring);
free_data:
	free(data);
	return r;
}

/* ---- walking ------------------------------------------------------------ */

/* Head tables are read in parts of so many blocks. */
#define WALK_FRAMES (SYN_SWAP_READ_BYTES / SYN_DISK_BLOCK)

/**
 * struct walker - a walk under way.
 * @walk:	as asked for.
 * @segment:	one of each segment; nr_frames is 0 if it is not cut.
 * @at:		the next segment to read from ...
 * @frame:	... and the next head in it.
 */
struct walker {
	const struct syn_swap_walk *walk;
	struct walker_segment {
		uint64_t sequence;
		uint32_t nr_frames;
		uint32_t frame_bytes;
	} * segment;
	uint32_t at;
	uint32_t frame;
};

static bool segment_next(void *ctx, uint64_t *ret_at, uint32_t *ret_bytes)
{
	struct walker *walker = ctx;
	const struct syn_disk *disk = walker->walk->disk;

	if (walker->at == disk->nr_segments)
		return false;
	*ret_at = syn_disk_segment_at(disk, walker->at++);
	*ret_bytes = SYN_DISK_BLOCK;
	return true;
}

static uint32_t segment_of(const struct walker *walker, uint64_t at)
{
	return (uint32_t)((at - SYN_DISK_BLOCK) /
			  walker->walk->disk->segment_bytes);
}

static int segment_got(void *ctx, uint64_t at, const void *data, uint32_t bytes)
{
	const struct walker *walker = ctx;
	const struct syn_swap_walk *walk = walker->walk;
	const struct syn_swap_segment *block = data;
	uint32_t segment = segment_of(walker, at);

	(void)bytes;
	if (!block || !syn_swap_segment_check(block, walk->disk, segment))
		return 0;
	walker->segment[segment] = (struct walker_segment){
		.sequence = block->sequence,
		.nr_frames = block->nr_frames,
		.frame_bytes = block->frame_bytes,
	};
	return walk->segment(walk->ctx, block);
}

static bool table_next(void *ctx, uint64_t *ret_at, uint32_t *ret_bytes)
{
	struct walker *walker = ctx;
	const struct syn_disk *disk = walker->walk->disk;
	uint32_t nr;

	while (walker->at < disk->nr_segments &&
	       walker->frame == walker->segment[walker->at].nr_frames) {
		walker->at++;
		walker->frame = 0;
	}
	if (walker->at == disk->nr_segments)
		return false;
	nr = syn_min(walker->segment[walker->at].nr_frames - walker->frame,
		     WALK_FRAMES);
	*ret_at = syn_disk_head_at(disk, walker->at, walker->frame);
	*ret_bytes = nr * SYN_DISK_BLOCK;
	walker->frame += nr;
	return true;
}

static int table_got(void *ctx, uint64_t at, const void *data, uint32_t bytes)
{
	const struct walker *walker = ctx;
	const struct syn_swap_walk *walk = walker->walk;
	const struct syn_disk_head *head = data;
	uint32_t index = segment_of(walker, at);
	const struct walker_segment *cut = &walker->segment[index];
	const struct syn_swap_segment segment = {
		.file = { walk->disk->file[0], walk->disk->file[1] },
		.sequence = cut->sequence,
		.segment = index,
		.nr_frames = cut->nr_frames,
		.frame_bytes = cut->frame_bytes,
	};
	uint32_t frame =
		(uint32_t)((at - syn_disk_head_at(walk->disk, index, 0)) /
			   SYN_DISK_BLOCK);
	int r = 0;

	for (uint32_t i = 0; i < bytes / SYN_DISK_BLOCK && !r; i++)
		r = walk->head(walk->ctx, &segment, frame + i,
			       head ? &head[i] : NULL);
	return r;
}

int syn_swap_walk(const struct syn_swap_walk *walk)
{
	struct walker walker = { .walk = walk };
	struct syn_swap_reads reads = { segment_next, segment_got, &walker };
	int r;

	walker.segment =
		syn_alloc(walk->disk->nr_segments, sizeof(*walker.segment));
	if (!walker.segment)
		return -ENOMEM;
	r = walk->read(walk->from, &reads);
	if (!r) {
		walker.at = 0;
		reads.next = table_next;
		reads.got = table_got;
		r = walk->read(walk->from, &reads);
	}
	free(walker.segment);
	return r;
}

/* ---- scanning ----------------------------------------------------------- */

struct scan {
	syn_disk_segment_fn segment;
	syn_disk_found_fn found;
	void *ctx;
};

static int scan_segment(void *ctx, const struct syn_swap_segment *segment)
{
	const struct scan *scan = ctx;

	return scan->segment(scan->ctx, segment->segment, segment->nr_frames,
			     segment->frame_bytes, segment->sequence);
}

static int scan_head(void *ctx, const struct syn_swap_segment *segment,
		     uint32_t frame, const struct syn_disk_head *head)
{
	const struct scan *scan = ctx;

	if (!head ||
	    syn_swap_head_check(head, segment, frame) != SYN_SWAP_VALID)
		return 0;
	return scan->found(scan->ctx, head);
}

int syn_swap_scan(struct syn_swap_walk *walk, syn_disk_segment_fn segment,
		  syn_disk_found_fn found, void *ctx)
{
	struct scan scan = { segment, found, ctx };

	walk->segment = scan_segment;
	walk->head = scan_head;
	walk->ctx = &scan;
	return syn_swap_walk(walk);
}
