/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk. */
#include "core/io/simdisk.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/disk.h"
#include "core/io/format.h"
#include "core/io/scan.h"

#define SIM_QUEUE	  1024u
#define SIM_SECTOR	  512u
#define SIM_BLOCK_SECTORS (SYN_DISK_BLOCK / SIM_SECTOR)

/**
 * struct syn_simdisk - the medium and the disk on it.
 * @disk:	what core sees.
 * @is_open:	@disk is in use.
 * @is_dead:	the power is gone.
 * @event:	eventfd, readable exactly while something is queued.
 * @bytes:	of both images.
 * @medium:	what a power cut cannot touch.
 * @cache:	what is read.
 * @dirty:	one for each sector: the medium does not have it.
 * @seed:	of all that is random.
 * @fail_in:	the operation that fails, counted from 1, 0: none ...
 * @fail_error:	... with this.
 * @tear_in:	the write that is torn.
 * @lose_in:	the write that is lost.
 * @queue:	submitted and not reaped, @nr of them.
 * @nr:		see there.
 */
struct syn_simdisk {
	struct syn_disk disk;
	bool is_open;
	bool is_dead;
	int event;
	uint64_t bytes;
	unsigned char *medium;
	unsigned char *cache;
	bool *dirty;
	uint64_t seed;
	unsigned int fail_in;
	int fail_error;
	unsigned int tear_in;
	unsigned int lose_in;
	struct syn_disk_io queue[SIM_QUEUE];
	unsigned int nr;
};

static struct syn_simdisk *sim_of(struct syn_disk *disk)
{
	return syn_container_of(disk, struct syn_simdisk, disk);
}

/* splitmix64. */
static uint64_t sim_random(struct syn_simdisk *sim)
{
	uint64_t x = sim->seed += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static bool count_down(unsigned int *nth)
{
	return *nth && --*nth == 0;
}

/* ---- sectors ------------------------------------------------------------ */

static void sector_put(struct syn_simdisk *sim, uint64_t sector,
		       const void *data, bool durable)
{
	memcpy(sim->cache + sector * SIM_SECTOR, data, SIM_SECTOR);
	sim->dirty[sector] = !durable;
	if (durable)
		memcpy(sim->medium + sector * SIM_SECTOR, data, SIM_SECTOR);
}

/* 0 or what it fails with; @data NULL is a read. */
static int sim_operate(struct syn_simdisk *sim, uint64_t at, const void *data,
		       uint64_t bytes, bool durable)
{
	uint64_t nr = bytes / SIM_SECTOR;

	if (count_down(&sim->fail_in) || syn_fault())
		return sim->fail_error ? sim->fail_error : -EIO;
	if (!data)
		return 0;
	if (count_down(&sim->lose_in))
		nr = 0;
	if (count_down(&sim->tear_in))
		nr = sim_random(sim) % nr;
	for (uint64_t i = 0; i < nr; i++)
		sector_put(sim, at / SIM_SECTOR + i,
			   (const char *)data + i * SIM_SECTOR, durable);
	return 0;
}

/* ---- ios ---------------------------------------------------------------- */

static int sim_format(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	struct syn_swap_segment block;

	syn_swap_segment_make(&block, sim->disk.file, io);
	return sim_operate(sim, syn_disk_segment_at(&sim->disk, io->segment),
			   &block, sizeof(block), true);
}

static int sim_head(struct syn_simdisk *sim, const struct syn_disk_io *io,
		    const struct syn_disk_head *head)
{
	return sim_operate(sim,
			   syn_disk_head_at(&sim->disk, io->segment, io->frame),
			   head, sizeof(*head), io->durable);
}

static int sim_data(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	return sim_operate(sim, syn_swap_data_at(&sim->disk, io),
			   syn_swap_data(io), syn_swap_data_bytes(io),
			   io->durable);
}

static int sim_write(struct syn_simdisk *sim, const struct syn_disk_io *io,
		     uint32_t *ret_crc)
{
	struct syn_disk_head head;
	int r;

	*ret_crc = syn_swap_crc(0, syn_swap_data(io), io->bytes);
	syn_swap_head_make(&head, sim->disk.file, io, *ret_crc);
	r = sim_data(sim, io);
	return r ? r : sim_head(sim, io, &head);
}

static int sim_wipe(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	static const struct syn_disk_head none;

	return sim_head(sim, io, &none);
}

static int sim_read(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	uint64_t at = syn_swap_data_at(&sim->disk, io);
	int r;

	r = sim_operate(sim, at, NULL, syn_swap_data_bytes(io), false);
	/* A disk does not fail on space when it is read. */
	if (r)
		return -EIO;
	memcpy(syn_swap_data(io), sim->cache + at, syn_swap_data_bytes(io));
	if (syn_swap_crc(0, syn_swap_data(io), io->bytes) != io->crc)
		return -EILSEQ;
	return 0;
}

static struct syn_disk_done sim_do(struct syn_simdisk *sim,
				   const struct syn_disk_io *io)
{
	struct syn_disk_done done = { .cookie = io->cookie };

	switch (io->op) {
	case SYN_DISK_FORMAT:
		done.status = sim_format(sim, io);
		break;
	case SYN_DISK_WRITE:
		done.status = sim_write(sim, io, &done.crc);
		break;
	case SYN_DISK_WIPE:
		done.status = sim_wipe(sim, io);
		break;
	default:
		done.status = sim_read(sim, io);
	}
	return done;
}

/* ---- the disk ----------------------------------------------------------- */

static void event_raise(struct syn_simdisk *sim)
{
	const uint64_t one = 1;

	(void)!write(sim->event, &one, sizeof(one));
}

static void event_lower(struct syn_simdisk *sim)
{
	uint64_t count;

	(void)!read(sim->event, &count, sizeof(count));
}

static int sim_submit(struct syn_disk *disk, const struct syn_disk_io *vec,
		      unsigned int nr)
{
	struct syn_simdisk *sim = sim_of(disk);

	for (unsigned int i = 0; i < nr; i++)
		if (syn_swap_io_check(disk, &vec[i]))
			return -EINVAL;
	if (syn_fault() || nr > SIM_QUEUE - sim->nr)
		return -EAGAIN;
	if (nr && !sim->nr && !sim->is_dead)
		event_raise(sim);
	memcpy(&sim->queue[sim->nr], vec, nr * sizeof(*vec));
	sim->nr += nr;
	return 0;
}

static struct syn_disk_io sim_take(struct syn_simdisk *sim)
{
	unsigned int i = (unsigned int)(sim_random(sim) % sim->nr);
	struct syn_disk_io io = sim->queue[i];

	sim->queue[i] = sim->queue[--sim->nr];
	return io;
}

static unsigned int sim_reap(struct syn_disk *disk, struct syn_disk_done *ret,
			     unsigned int max)
{
	struct syn_simdisk *sim = sim_of(disk);
	unsigned int nr = 0;

	if (sim->is_dead)
		return 0;
	while (nr < max && sim->nr) {
		struct syn_disk_io io = sim_take(sim);

		ret[nr++] = sim_do(sim, &io);
	}
	if (nr && !sim->nr)
		event_lower(sim);
	return nr;
}

static void sim_close(struct syn_disk *disk)
{
	struct syn_simdisk *sim = sim_of(disk);
	struct syn_disk_done done;

	while (sim_reap(disk, &done, 1))
		;
	sim->event = syn_close(sim->event);
	sim->nr = 0;
	sim->is_open = false;
}

static int sim_reads(void *from, const struct syn_swap_reads *reads)
{
	struct syn_simdisk *sim = from;
	uint32_t bytes;
	uint64_t at;
	int r = 0;

	while (!r && reads->next(reads->ctx, &at, &bytes)) {
		for (uint32_t off = 0; off < bytes && !r;
		     off += SYN_DISK_BLOCK) {
			int bad = sim_operate(sim, at + off, NULL,
					      SYN_DISK_BLOCK, false);

			r = reads->got(reads->ctx, at + off,
				       bad ? NULL : sim->cache + at + off,
				       SYN_DISK_BLOCK);
		}
	}
	return r;
}

static int sim_scan(struct syn_disk *disk, syn_disk_segment_fn segment,
		    syn_disk_found_fn found, void *ctx)
{
	struct syn_simdisk *sim = sim_of(disk);
	struct syn_swap_walk walk = {
		.disk = disk,
		.read = sim_reads,
		.from = sim,
	};

	return syn_swap_scan(&walk, segment, found, ctx);
}

static int sim_mem_add(struct syn_disk *disk, const struct syn_mem *mem)
{
	(void)disk;
	(void)mem;
	return 0;
}

static void sim_mem_del(struct syn_disk *disk, const struct syn_mem *mem)
{
	(void)disk;
	(void)mem;
}

static int sim_event_fd(struct syn_disk *disk)
{
	return sim_of(disk)->event;
}

static const struct syn_disk_ops sim_ops = {
	.name = "simulated",
	.close = sim_close,
	.scan = sim_scan,
	.mem_add = sim_mem_add,
	.mem_del = sim_mem_del,
	.submit = sim_submit,
	.reap = sim_reap,
	.event_fd = sim_event_fd,
};

int syn_simdisk_open(struct syn_simdisk *sim, struct syn_disk **ret)
{
	if (sim->is_open)
		return -EBUSY;
	sim->event = syn_fault() ? (errno = EMFILE, -1)
				 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sim->event < 0)
		return -errno;
	sim->is_open = true;
	sim->is_dead = false;
	*ret = &sim->disk;
	return 0;
}

/* ---- the medium --------------------------------------------------------- */

int syn_simdisk_new(struct syn_simdisk **ret, uint64_t segment_bytes,
		    uint32_t nr_segments, uint64_t seed)
{
	struct syn_simdisk *sim = syn_alloc(1, sizeof(*sim));

	if (!sim)
		return -ENOMEM;
	sim->disk.ops = &sim_ops;
	sim->disk.nr_segments = nr_segments;
	sim->disk.segment_bytes = segment_bytes;
	sim->event = -1;
	sim->seed = seed;
	sim->disk.file[0] = sim_random(sim);
	sim->disk.file[1] = sim_random(sim);
	sim->bytes = syn_disk_segment_at(&sim->disk, nr_segments);
	sim->medium = syn_alloc(1, sim->bytes);
	sim->cache = syn_alloc(1, sim->bytes);
	sim->dirty = syn_alloc(sim->bytes / SIM_SECTOR, sizeof(*sim->dirty));
	if (!sim->medium || !sim->cache || !sim->dirty) {
		syn_simdisk_free(sim);
		return -ENOMEM;
	}
	*ret = sim;
	return 0;
}

struct syn_simdisk *syn_simdisk_free(struct syn_simdisk *sim)
{
	if (!sim)
		return NULL;
	free(sim->medium);
	free(sim->cache);
	free(sim->dirty);
	free(sim);
	return NULL;
}

void syn_simdisk_fail(struct syn_simdisk *sim, unsigned int nth, int error)
{
	sim->fail_in = nth;
	sim->fail_error = error;
}

void syn_simdisk_tear(struct syn_simdisk *sim, unsigned int nth)
{
	sim->tear_in = nth;
}

void syn_simdisk_lose(struct syn_simdisk *sim, unsigned int nth)
{
	sim->lose_in = nth;
}

uint64_t syn_simdisk_bytes(const struct syn_simdisk *sim)
{
	return sim->bytes;
}

void syn_simdisk_flip(struct syn_simdisk *sim, uint64_t bit)
{
	unsigned char mask = (unsigned char)(1u << bit % 8);

	sim->cache[bit / 8] ^= mask;
	sim->medium[bit / 8] ^= mask;
}

/* Not done, done, or of a write its data alone: the head is linked behind it. */
static void kill_io(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	unsigned int stage = (unsigned int)(sim_random(sim) % 3);

	if (stage == 1 && io->op == SYN_DISK_WRITE)
		(void)sim_data(sim, io);
	else if (stage)
		(void)sim_do(sim, io);
}

void syn_simdisk_kill(struct syn_simdisk *sim)
{
	for (unsigned int i = 0; i < sim->nr; i++)
		kill_io(sim, &sim->queue[i]);
	sim->nr = 0;
	sim->is_dead = true;
	sim_close(&sim->disk);
}

/* ---- the power cut ------------------------------------------------------ */

/* Some sectors of a write that was under way. */
static void cut_write(struct syn_simdisk *sim, uint64_t at, const void *data,
		      uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes / SIM_SECTOR; i++)
		if (sim_random(sim) & 1)
			sector_put(sim, at / SIM_SECTOR + i,
				   (const char *)data + i * SIM_SECTOR, false);
}

static void cut_format(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	struct syn_swap_segment segment;

	syn_swap_segment_make(&segment, sim->disk.file, io);
	cut_write(sim, syn_disk_segment_at(&sim->disk, io->segment), &segment,
		  sizeof(segment));
}

static void cut_head(struct syn_simdisk *sim, const struct syn_disk_io *io,
		     const struct syn_disk_head *head)
{
	cut_write(sim, syn_disk_head_at(&sim->disk, io->segment, io->frame),
		  head, sizeof(*head));
}

/* It was in its data, or in its head. */
static void cut_slot(struct syn_simdisk *sim, const struct syn_disk_io *io,
		     bool in_data)
{
	struct syn_disk_head head;
	uint32_t crc;

	crc = syn_swap_crc(0, syn_swap_data(io), io->bytes);
	syn_swap_head_make(&head, sim->disk.file, io, crc);
	if (in_data) {
		cut_write(sim, syn_swap_data_at(&sim->disk, io),
			  syn_swap_data(io), syn_swap_data_bytes(io));
		return;
	}
	/* Data that was durable is there when the head is begun. */
	for (uint64_t off = 0; off < syn_swap_data_bytes(io); off += SIM_SECTOR)
		sector_put(sim,
			   (syn_swap_data_at(&sim->disk, io) + off) /
				   SIM_SECTOR,
			   syn_swap_data(io) + off, io->durable);
	cut_head(sim, io, &head);
}

/* It had not begun, or was somewhere. */
static void cut_io(struct syn_simdisk *sim, const struct syn_disk_io *io)
{
	static const struct syn_disk_head none;
	unsigned int stage = (unsigned int)(sim_random(sim) % 3);

	if (!stage)
		return;
	switch (io->op) {
	case SYN_DISK_FORMAT:
		cut_format(sim, io);
		break;
	case SYN_DISK_WRITE:
		cut_slot(sim, io, stage == 1);
		break;
	case SYN_DISK_WIPE:
		cut_head(sim, io, &none);
		break;
	default: /* a read */
		break;
	}
}

void syn_simdisk_cut(struct syn_simdisk *sim)
{
	for (unsigned int i = 0; i < sim->nr; i++)
		cut_io(sim, &sim->queue[i]);
	if (sim->nr)
		event_lower(sim);
	sim->nr = 0;
	sim->is_dead = true;
	for (uint64_t i = 0; i < sim->bytes / SIM_SECTOR; i++) {
		unsigned char *medium = sim->medium + i * SIM_SECTOR;
		unsigned char *cache = sim->cache + i * SIM_SECTOR;

		if (!sim->dirty[i])
			continue;
		if (sim_random(sim) & 1)
			memcpy(medium, cache, SIM_SECTOR);
		else
			memcpy(cache, medium, SIM_SECTOR);
		sim->dirty[i] = false;
	}
}
