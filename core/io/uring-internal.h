/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the io_uring disk share: uring.c and uring-run.c. */
#ifndef SYN_CORE_IO_URING_INTERNAL_H
#define SYN_CORE_IO_URING_INTERNAL_H

#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/disk.h"
#include "core/io/format.h"

#define URING_QUEUE   1024u /* submitted and not yet reaped */
#define URING_JOBS    64u   /* of these under way */
#define URING_PIECES  256u  /* requests of theirs in the kernel */
#define URING_BUFFERS 4096u /* registered: job heads, then extents by id */

/*
 * Reads are cut, so that one part is summed while the next is on its way; at
 * most 64 parts, which a word of bits counts.
 */
#define URING_PIECE_BYTES (512u << 10)
#define URING_PARTS_MAX	  64u

/**
 * struct uring_job - one io under way.
 * @io:		as submitted.
 * @active:	in use.
 * @at:		where its data lies in the file.
 * @bytes:	of whole blocks.
 * @part:	bytes of each part but the last.
 * @issued:	READ: bytes asked for.
 * @landed:	bit i: part i is in memory.
 * @summed:	bytes that are in @crc.
 * @crc:	so far.
 * @written:	WRITE, FORMAT: asked for.
 * @flying:	its requests in the kernel.
 * @tries:	requests of it that came back half done.
 * @status:	the first failure.
 */
struct uring_job {
	struct syn_disk_io io;
	bool active;
	uint64_t at;
	uint64_t bytes;
	uint64_t part;
	uint64_t issued;
	uint64_t landed;
	uint64_t summed;
	uint32_t crc;
	bool written;
	uint32_t flying;
	uint32_t tries;
	int status;
};

/**
 * struct uring_piece - one request in the kernel.
 * @job:	whose.
 * @bytes:	what it has to come back with, 0: not in use.
 * @off:	READ: from here in the job's data.
 */
struct uring_piece {
	uint32_t job;
	uint32_t bytes;
	uint64_t off;
};

enum uring_order {
	URING_ORDER_NONE,
	URING_ORDER_ADD,
	URING_ORDER_DEL,
};

/**
 * struct uring - the disk.
 * @disk:	what core sees.
 * @fd:		the file.
 * @event:	eventfd, readable exactly while completions wait.
 * @wake:	eventfd that the thread reads through its ring.
 * @thread:	does all that follows from @ring on, alone.
 * @lock:	guards what follows up to @ring.
 * @said:	the thread has done what it was told to.
 * @in:		ring of what was submitted and is not under way.
 * @in_head:	free-running, as the three below.
 * @in_tail:	see there.
 * @out:	ring of completions.
 * @out_head:	see there.
 * @out_tail:	see there.
 * @busy:	submitted and not reaped.
 * @asleep:	the thread has to be woken.
 * @stop:	the thread ends when nothing is left to do.
 * @order:	what else it shall do, answered with URING_ORDER_NONE.
 * @order_mem:	see there.
 * @started:	the thread's ring is there, or @start_error says why not.
 * @start_error: see there.
 * @ring:	of the thread alone, which made it.
 * @fixed_file:	@fd is registered as 0.
 * @fixed_buffers: there is a table of buffers, ...
 * @fixed_mem:	... and bit i: buffer i is in it.
 * @woken:	where @wake is read to.
 * @listening:	that read is in the kernel.
 * @heads:	a block for each job.
 * @job:	ios under way.
 * @nr_jobs:	how many.
 * @cursor:	the job whose data is being summed.
 * @piece:	requests in the kernel.
 * @nr_pieces:	how many.
 */
struct uring {
	struct syn_disk disk;
	int fd;
	int event;
	int wake;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t said;
	struct syn_disk_io in[URING_QUEUE];
	uint32_t in_head;
	uint32_t in_tail;
	struct syn_disk_done out[URING_QUEUE];
	uint32_t out_head;
	uint32_t out_tail;
	uint32_t busy;
	bool asleep;
	bool stop;
	enum uring_order order;
	const struct syn_mem *order_mem;
	bool started;
	int start_error;

	struct io_uring ring;
	bool fixed_file;
	bool fixed_buffers;
	uint64_t fixed_mem[URING_BUFFERS / 64];
	uint64_t woken;
	bool listening;
	char *heads;
	struct uring_job job[URING_JOBS];
	uint32_t nr_jobs;
	uint32_t cursor;
	struct uring_piece piece[URING_PIECES];
	uint32_t nr_pieces;
};

/* The thread; @arg is the struct uring. */
void *uring_main(void *arg);

#endif
