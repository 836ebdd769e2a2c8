/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of the io_uring disk.
 *
 * Each turn takes what was submitted, gives the kernel what there is room for,
 * collects what came back, and computes the checksum of one part, so that the
 * next requests never wait for a checksum.
 */
#include <errno.h>
#include <sys/uio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "core/io/uring-internal.h"

/* A request that comes back half done this often is given up. */
#define URING_TRIES_MAX 8u
/* user_data of the read of the wake-up; pieces are told by their index. */
#define URING_WAKE    URING_PIECES
#define URING_ENTRIES (2 * URING_PIECES)

/* ---- the ring ----------------------------------------------------------- */

/*
 * What the kernel has of it: all since 6.1, less before.  Completions wait
 * until we look for them, and the flag tells whether there is any.
 */
static int ring_init(struct io_uring *ring)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int r = -EINVAL;

	if (syn_fault())
		return -ENOMEM;
	for (size_t i = 0; i < syn_array_size(flags) && r == -EINVAL; i++)
		r = io_uring_queue_init(URING_ENTRIES, ring, flags[i]);
	return r;
}

static bool buffer_set(struct uring *u, unsigned int index, void *addr,
		       uint64_t bytes)
{
	const struct iovec iov = { .iov_base = addr, .iov_len = bytes };

	if (syn_fault())
		return false;
	return io_uring_register_buffers_update_tag(&u->ring, index, &iov, NULL,
						    1) == 1;
}

/* Whatever cannot be registered is used without: slower, not wrong. */
static int ring_open(struct uring *u)
{
	int r = ring_init(&u->ring);

	if (r)
		return r;
	u->fixed_file = !syn_fault() &&
			io_uring_register_files(&u->ring, &u->fd, 1) == 0;
	u->fixed_buffers =
		!syn_fault() &&
		io_uring_register_buffers_sparse(&u->ring, URING_BUFFERS) == 0;
	if (u->fixed_buffers &&
	    buffer_set(u, 0, u->heads, URING_JOBS * SYN_DISK_BLOCK))
		u->fixed_mem[0] |= 1;
	return 0;
}

static bool buffer_is_fixed(const struct uring *u, unsigned int index)
{
	return index < URING_BUFFERS &&
	       u->fixed_mem[index / 64] >> index % 64 & 1;
}

/* Buffer 0 are the heads. */
static unsigned int buffer_of(const struct syn_mem *mem)
{
	return mem->id < URING_BUFFERS - 1 ? mem->id + 1 : URING_BUFFERS;
}

static void order_do(struct uring *u)
{
	const struct syn_mem *mem = u->order_mem;
	unsigned int index = buffer_of(mem);
	uint64_t bit = 1ull << index % 64;

	if (!u->fixed_buffers || index == URING_BUFFERS || !mem->addr)
		return;
	if (u->order == URING_ORDER_DEL && buffer_is_fixed(u, index)) {
		/* A place that is not cleared is overwritten by the next. */
		(void)buffer_set(u, index, NULL, 0);
		u->fixed_mem[index / 64] &= ~bit;
	} else if (u->order == URING_ORDER_ADD &&
		   buffer_set(u, index, mem->addr, mem->bytes)) {
		u->fixed_mem[index / 64] |= bit;
	}
}

/* ---- jobs --------------------------------------------------------------- */

static void job_init(struct uring *u, struct uring_job *job,
		     const struct syn_disk_io *io)
{
	uint64_t part = URING_PIECE_BYTES;

	*job = (struct uring_job){ .io = *io, .active = true };
	if (io->op == SYN_DISK_FORMAT || io->op == SYN_DISK_WIPE)
		return;
	job->at = syn_swap_data_at(&u->disk, io);
	job->bytes = syn_swap_data_bytes(io);
	if (part * URING_PARTS_MAX < job->bytes)
		part = syn_align_up(syn_div_up(job->bytes, URING_PARTS_MAX),
				    SYN_DISK_BLOCK);
	job->part = part;
	if (io->op == SYN_DISK_WRITE)
		job->landed = UINT64_MAX;
}

static uint32_t job_free(const struct uring *u)
{
	uint32_t i = 0;

	while (u->job[i].active)
		i++;
	return i;
}

/* From the caller: orders and ios.  False when the thread shall end. */
static bool uring_take(struct uring *u)
{
	bool more;

	(void)pthread_mutex_lock(&u->lock);
	if (u->order != URING_ORDER_NONE) {
		order_do(u);
		u->order = URING_ORDER_NONE;
		(void)pthread_cond_signal(&u->said);
	}
	while (u->in_head != u->in_tail && u->nr_jobs < URING_JOBS) {
		job_init(u, &u->job[job_free(u)],
			 &u->in[u->in_head++ % URING_QUEUE]);
		u->nr_jobs++;
	}
	more = !u->stop || u->nr_jobs;
	(void)pthread_mutex_unlock(&u->lock);
	return more;
}

static void job_end(struct uring *u, struct uring_job *job)
{
	const uint64_t one = 1;
	struct syn_disk_done *done;

	if (!job->status && job->io.op == SYN_DISK_READ &&
	    job->crc != job->io.crc)
		job->status = -EILSEQ;
	job->active = false;
	u->nr_jobs--;
	(void)pthread_mutex_lock(&u->lock);
	done = &u->out[u->out_tail % URING_QUEUE];
	*done = (struct syn_disk_done){
		.cookie = job->io.cookie,
		.status = job->status,
		.crc = job->io.op == SYN_DISK_WRITE ? job->crc : 0,
	};
	if (u->out_tail++ == u->out_head)
		(void)!write(u->event, &one, sizeof(one));
	(void)pthread_mutex_unlock(&u->lock);
}

static bool job_is_over(const struct uring_job *job)
{
	if (!job->active || job->flying)
		return false;
	if (job->status)
		return true;
	return job->io.op == SYN_DISK_READ ? job->summed == job->bytes
					   : job->written;
}

/* ---- requests ----------------------------------------------------------- */

static void *block_of(const struct uring *u, uint32_t job)
{
	return u->heads + (size_t)job * SYN_DISK_BLOCK;
}

/* A request for the kernel, which piece_add() makes one of a job's. */
static struct io_uring_sqe *request_new(struct uring *u, bool write,
					unsigned int buffer, void *addr,
					uint32_t bytes, uint64_t at)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	int fd = u->fixed_file ? 0 : u->fd;

	if (buffer_is_fixed(u, buffer) && write)
		io_uring_prep_write_fixed(sqe, fd, addr, bytes, at,
					  (int)buffer);
	else if (buffer_is_fixed(u, buffer))
		io_uring_prep_read_fixed(sqe, fd, addr, bytes, at, (int)buffer);
	else if (write)
		io_uring_prep_write(sqe, fd, addr, bytes, at);
	else
		io_uring_prep_read(sqe, fd, addr, bytes, at);
	if (u->fixed_file)
		sqe->flags |= IOSQE_FIXED_FILE;
	return sqe;
}

static void piece_add(struct uring *u, struct io_uring_sqe *sqe, uint32_t job,
		      uint64_t off)
{
	uint32_t i = 0;

	while (u->piece[i].bytes)
		i++;
	u->piece[i] = (struct uring_piece){
		.job = job,
		.bytes = sqe->len,
		.off = off,
	};
	u->nr_pieces++;
	u->job[job].flying++;
	io_uring_sqe_set_data64(sqe, i);
}

static void read_issue(struct uring *u, uint32_t index, uint64_t off)
{
	struct uring_job *job = &u->job[index];
	uint64_t bytes = syn_min(job->bytes - off, job->part);
	struct io_uring_sqe *sqe;

	sqe = request_new(u, false, buffer_of(job->io.mem),
			  syn_swap_data(&job->io) + off, (uint32_t)bytes,
			  job->at + off);
	piece_add(u, sqe, index, off);
}

/* The kernel begins with the head once the data is complete. */
static void data_issue(struct uring *u, uint32_t index)
{
	struct uring_job *job = &u->job[index];
	struct io_uring_sqe *sqe;

	sqe = request_new(u, true, buffer_of(job->io.mem),
			  syn_swap_data(&job->io), (uint32_t)job->bytes,
			  job->at);
	sqe->flags |= IOSQE_IO_LINK;
	sqe->rw_flags = job->io.durable ? RWF_DSYNC : 0;
	piece_add(u, sqe, index, 0);
}

static void block_issue(struct uring *u, uint32_t index, uint64_t at,
			bool durable)
{
	struct io_uring_sqe *sqe;

	sqe = request_new(u, true, 0, block_of(u, index), SYN_DISK_BLOCK, at);
	sqe->rw_flags = durable ? RWF_DSYNC : 0;
	piece_add(u, sqe, index, 0);
}

static void write_issue(struct uring *u, uint32_t index)
{
	struct uring_job *job = &u->job[index];
	const struct syn_disk_io *io = &job->io;
	void *block = block_of(u, index);
	uint64_t head = syn_disk_head_at(&u->disk, io->segment, io->frame);

	job->written = true;
	if (io->op == SYN_DISK_WRITE) {
		syn_swap_head_make(block, u->disk.file, io, job->crc);
		data_issue(u, index);
		block_issue(u, index, head, io->durable);
		return;
	}
	if (io->op == SYN_DISK_WIPE) {
		memset(block, 0, SYN_DISK_BLOCK);
		block_issue(u, index, head, io->durable);
		return;
	}
	/* Else a durable slot could outlive the cut it belongs to. */
	syn_swap_segment_make(block, u->disk.file, io);
	block_issue(u, index, syn_disk_segment_at(&u->disk, io->segment), true);
}

/* True when all of it has been asked for. */
static bool job_issue(struct uring *u, uint32_t index)
{
	struct uring_job *job = &u->job[index];

	if (job->status)
		return true;
	if (job->io.op != SYN_DISK_READ) {
		if (job->written || job->summed < job->bytes)
			return true;
		if (u->nr_pieces + 2 > URING_PIECES)
			return false;
		write_issue(u, index);
		return true;
	}
	while (job->issued < job->bytes && u->nr_pieces < URING_PIECES) {
		read_issue(u, index, job->issued);
		job->issued += syn_min(job->bytes - job->issued, job->part);
	}
	return job->issued == job->bytes;
}

static void uring_issue(struct uring *u)
{
	uint32_t left = u->nr_jobs;

	for (uint32_t i = 0; i < URING_JOBS && left; i++) {
		if (!u->job[i].active)
			continue;
		left--;
		if (!job_issue(u, i))
			break;
	}
	if (!u->listening) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

		io_uring_prep_read(sqe, u->wake, &u->woken, sizeof(u->woken),
				   0);
		io_uring_sqe_set_data64(sqe, URING_WAKE);
		u->listening = true;
	}
}

/* ---- completions -------------------------------------------------------- */

/* Whether to try again what came back with @res instead of @bytes. */
static bool is_half_done(int res, uint32_t bytes)
{
	return res == -EAGAIN || res == -EINTR || res == -ECANCELED ||
	       (res > 0 && (uint32_t)res < bytes);
}

static int status_of(int res)
{
	switch (res) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return -ENOSPC;
	default: /* 0: the file ends here, which it should not */
		return -EIO;
	}
}

static void piece_failed(struct uring *u, const struct uring_piece *piece,
			 int res)
{
	struct uring_job *job = &u->job[piece->job];
	bool again = is_half_done(res, piece->bytes) &&
		     ++job->tries < URING_TRIES_MAX;

	/* The head behind data that failed is cancelled: that is no news. */
	if (job->status)
		return;
	if (!again)
		job->status = status_of(res);
	else if (job->io.op == SYN_DISK_READ)
		read_issue(u, piece->job, piece->off);
	else
		job->written = false;
}

static void piece_end(struct uring *u, uint32_t index, int res)
{
	const struct uring_piece piece = u->piece[index];
	struct uring_job *job = &u->job[piece.job];

	u->piece[index].bytes = 0;
	u->nr_pieces--;
	job->flying--;
	if (syn_fault())
		res = -EIO;
	if (res != (int)piece.bytes)
		piece_failed(u, &piece, res);
	else if (job->io.op == SYN_DISK_READ)
		job->landed |= 1ull << piece.off / job->part;
}

static void uring_collect(struct uring *u)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		uint64_t what = cqe->user_data;
		int res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		if (what == URING_WAKE)
			u->listening = false;
		else
			piece_end(u, (uint32_t)what, res);
	}
}

/* ---- checksums ---------------------------------------------------------- */

static bool job_can_sum(const struct uring_job *job)
{
	return job->active && !job->status && job->summed < job->bytes &&
	       job->landed >> job->summed / job->part & 1;
}

/* The next part that is there; one job's before another's. */
static struct uring_job *job_to_sum(struct uring *u)
{
	for (uint32_t n = 0; n < URING_JOBS && u->nr_jobs; n++) {
		struct uring_job *job = &u->job[u->cursor];

		if (job_can_sum(job))
			return job;
		u->cursor = (u->cursor + 1) % URING_JOBS;
	}
	return NULL;
}

/* Blocks are summed as far as they are stored bytes. */
static void job_sum(struct uring_job *job)
{
	uint64_t next = syn_min(job->bytes, job->summed + job->part);
	uint64_t end = syn_min(next, job->io.bytes);

	job->crc = syn_swap_crc(job->crc, syn_swap_data(&job->io) + job->summed,
				end - job->summed);
	job->summed = next;
}

/* ---- turns -------------------------------------------------------------- */

/* Ends what is over; true when there is something to do without the kernel. */
static bool uring_settle(struct uring *u)
{
	bool busy = false;

	for (uint32_t i = 0; i < URING_JOBS; i++) {
		struct uring_job *job = &u->job[i];

		if (job_is_over(job))
			job_end(u, job);
		if (!job->active)
			continue;
		busy = busy || job_can_sum(job) || !job->flying;
	}
	return busy;
}

static void uring_enter(struct uring *u, bool wait)
{
	int r = 0;

	if (syn_fault())
		r = -EAGAIN;
	else if (wait)
		r = io_uring_submit_and_wait(&u->ring, 1);
	else if (io_uring_sq_ready(&u->ring))
		r = io_uring_submit(&u->ring);
	/* The kernel is short of something: tried again with the next turn. */
	if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
		(void)usleep(1000);
}

/* Sleep is announced after a last look, so whoever submits then wakes us. */
static bool uring_may_sleep(struct uring *u)
{
	bool empty;

	(void)pthread_mutex_lock(&u->lock);
	empty = u->in_head == u->in_tail;
	u->asleep = empty;
	(void)pthread_mutex_unlock(&u->lock);
	return empty || u->nr_jobs == URING_JOBS;
}

static int uring_start(struct uring *u)
{
	int r = ring_open(u);

	(void)pthread_mutex_lock(&u->lock);
	u->start_error = r;
	u->started = true;
	(void)pthread_cond_signal(&u->said);
	(void)pthread_mutex_unlock(&u->lock);
	return r;
}

void *uring_main(void *arg)
{
	struct uring *u = arg;
	bool busy = false;

	if (uring_start(u))
		return NULL;
	while (uring_take(u)) {
		struct uring_job *job;

		uring_issue(u);
		busy = busy || job_to_sum(u);
		uring_enter(u, !busy && uring_may_sleep(u));
		uring_collect(u);
		job = job_to_sum(u);
		if (job)
			job_sum(job);
		busy = uring_settle(u);
	}
	io_uring_queue_exit(&u->ring);
	return NULL;
}
