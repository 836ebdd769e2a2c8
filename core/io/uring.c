/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's half of the io_uring disk: queues, orders, completions. */
#include "core/io/uring.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/file.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/thread.h"
#include "core/dev.h"
#include "core/io/uring-internal.h"

static struct uring *uring_of(struct syn_disk *disk)
{
	return syn_container_of(disk, struct uring, disk);
}

/* The thread sleeps in its ring, where it reads this. */
static void uring_wake(struct uring *u)
{
	const uint64_t one = 1;

	(void)!write(u->wake, &one, sizeof(one));
}

static void uring_free(struct uring *u)
{
	(void)pthread_cond_destroy(&u->said);
	(void)pthread_mutex_destroy(&u->lock);
	syn_close(u->event);
	syn_close(u->wake);
	free(u->heads);
	free(u);
}

static void uring_close(struct syn_disk *disk)
{
	struct uring *u = uring_of(disk);

	(void)pthread_mutex_lock(&u->lock);
	u->stop = true;
	(void)pthread_mutex_unlock(&u->lock);
	uring_wake(u);
	(void)pthread_join(u->thread, NULL);
	/* The kernel takes its ring apart later, and the file with it. */
	(void)flock(u->fd, LOCK_UN);
	syn_close(u->fd);
	uring_free(u);
}

static int uring_read(void *from, const struct syn_swap_reads *reads)
{
	const struct uring *u = from;

	return syn_swap_read(u->fd, reads);
}

static void walk_aim(struct uring *u, struct syn_swap_walk *walk)
{
	walk->disk = &u->disk;
	walk->read = uring_read;
	walk->from = u;
}

int syn_uring_walk(struct syn_disk *disk, struct syn_swap_walk *walk)
{
	walk_aim(uring_of(disk), walk);
	return syn_swap_walk(walk);
}

static int uring_scan(struct syn_disk *disk, syn_disk_segment_fn segment,
		      syn_disk_found_fn found, void *ctx)
{
	struct syn_swap_walk walk = { 0 };

	walk_aim(uring_of(disk), &walk);
	return syn_swap_scan(&walk, segment, found, ctx);
}

/* The ring belongs to the thread, so it registers, and we wait for it. */
static void uring_order(struct uring *u, enum uring_order order,
			const struct syn_mem *mem)
{
	(void)pthread_mutex_lock(&u->lock);
	u->order = order;
	u->order_mem = mem;
	uring_wake(u);
	while (u->order != URING_ORDER_NONE)
		(void)pthread_cond_wait(&u->said, &u->lock);
	(void)pthread_mutex_unlock(&u->lock);
}

static int uring_mem_add(struct syn_disk *disk, const struct syn_mem *mem)
{
	uring_order(uring_of(disk), URING_ORDER_ADD, mem);
	return 0;
}

static void uring_mem_del(struct syn_disk *disk, const struct syn_mem *mem)
{
	uring_order(uring_of(disk), URING_ORDER_DEL, mem);
}

/* -EAGAIN: too much waits to be reaped.  -EINVAL: nobody could do that. */
static int uring_submit(struct syn_disk *disk, const struct syn_disk_io *vec,
			unsigned int nr)
{
	struct uring *u = uring_of(disk);
	bool wake = false;
	int r = 0;

	for (unsigned int i = 0; i < nr; i++)
		if (syn_swap_io_check(disk, &vec[i]))
			return -EINVAL;
	if (syn_fault())
		return -EAGAIN;
	(void)pthread_mutex_lock(&u->lock);
	if (nr > URING_QUEUE - u->busy) {
		r = -EAGAIN;
	} else {
		for (unsigned int i = 0; i < nr; i++)
			u->in[u->in_tail++ % URING_QUEUE] = vec[i];
		u->busy += nr;
		wake = u->asleep;
		u->asleep = false;
	}
	(void)pthread_mutex_unlock(&u->lock);
	if (wake)
		uring_wake(u);
	return r;
}

static unsigned int uring_reap(struct syn_disk *disk, struct syn_disk_done *ret,
			       unsigned int max)
{
	struct uring *u = uring_of(disk);
	unsigned int nr = 0;
	uint64_t count;

	(void)pthread_mutex_lock(&u->lock);
	while (nr < max && u->out_head != u->out_tail)
		ret[nr++] = u->out[u->out_head++ % URING_QUEUE];
	u->busy -= nr;
	if (nr && u->out_head == u->out_tail)
		(void)!read(u->event, &count, sizeof(count));
	(void)pthread_mutex_unlock(&u->lock);
	return nr;
}

static int uring_event_fd(struct syn_disk *disk)
{
	return uring_of(disk)->event;
}

static const struct syn_disk_ops uring_ops = {
	.name = "io_uring",
	.close = uring_close,
	.scan = uring_scan,
	.mem_add = uring_mem_add,
	.mem_del = uring_mem_del,
	.submit = uring_submit,
	.reap = uring_reap,
	.event_fd = uring_event_fd,
};

static int uring_start_thread(struct uring *u)
{
	int r = syn_thread_start(&u->thread, "syn-disk", uring_main, u);

	if (r)
		return r;
	(void)pthread_mutex_lock(&u->lock);
	while (!u->started)
		(void)pthread_cond_wait(&u->said, &u->lock);
	(void)pthread_mutex_unlock(&u->lock);
	if (u->start_error)
		(void)pthread_join(u->thread, NULL);
	return u->start_error;
}

static int uring_prepare(struct uring *u)
{
	void *heads = NULL;
	int r;

	u->event = syn_fault() ? (errno = EMFILE, -1)
			       : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->event < 0)
		return -errno;
	/* Blocks, so that a read in the ring waits instead of failing. */
	u->wake = syn_fault() ? (errno = EMFILE, -1) : eventfd(0, EFD_CLOEXEC);
	if (u->wake < 0)
		return -errno;
	r = syn_fault() ? ENOMEM
			: posix_memalign(&heads, SYN_DISK_BLOCK,
					 URING_JOBS * SYN_DISK_BLOCK);
	u->heads = heads;
	return -r;
}

int syn_uring_open(struct syn_disk **ret, int fd,
		   const struct syn_swap_super *super)
{
	struct uring *u = syn_alloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->disk.ops = &uring_ops;
	u->disk.nr_segments = super->nr_segments;
	u->disk.segment_bytes = super->segment_bytes;
	u->disk.file[0] = super->file[0];
	u->disk.file[1] = super->file[1];
	u->fd = fd;
	u->event = -1;
	u->wake = -1;
	(void)pthread_mutex_init(&u->lock, NULL);
	(void)pthread_cond_init(&u->said, NULL);
	r = uring_prepare(u);
	if (!r)
		r = uring_start_thread(u);
	if (r) {
		uring_free(u);
		return r;
	}
	*ret = &u->disk;
	return 0;
}
