/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is found on a disk after something went wrong: heads that lie, a
 * killed process, power cuts, a disk that lies.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/io/format.h"
#include "test/unit/disk-harness.h"

/* ---- the file ----------------------------------------------------------- */

static void block_put(uint64_t at, const void *block)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, block, SYN_DISK_BLOCK, (off_t)at),
			 SYN_DISK_BLOCK);
	(void)close(fd);
}

static void block_get(uint64_t at, void *block)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, block, SYN_DISK_BLOCK, (off_t)at),
			 SYN_DISK_BLOCK);
	(void)close(fd);
}

/* Sealed as they should be, and still not where or what they say. */
static void test_heads_that_lie(void **state)
{
	struct syn_disk_head good;
	struct syn_disk_head bad[8];
	unsigned int nr = 0;

	(void)state;
	format(0, FRAME_BYTES, 1);
	(void)write_slot(0, 4, 1000, 1);
	block_get(syn_disk_head_at(bench.disk, 0, 4), &good);
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		bad[i] = good;
	bad[nr++].magic++;
	bad[nr++].version++;
	bad[nr++].file[1]++;
	bad[nr++].segment++;
	bad[nr++].frame++;
	bad[nr++].segment_seq++;
	bad[nr++].bytes = 0;
	bad[nr++].bytes = FRAME_BYTES + 1;
	for (unsigned int i = 0; i < nr; i++) {
		syn_swap_seal(&bad[i]);
		block_put(syn_disk_head_at(bench.disk, 0, 4), &bad[i]);
		scan();
		assert_int_equal(found.nr, 0);
	}
	/* A copy elsewhere names the wrong place. */
	block_put(syn_disk_head_at(bench.disk, 0, 5), &good);
	scan();
	assert_int_equal(found.nr, 0);
	block_put(syn_disk_head_at(bench.disk, 0, 4), &good);
	scan();
	assert_int_equal(found.nr, 1);
}

static void test_segments_that_lie(void **state)
{
	struct syn_swap_segment good;
	struct syn_swap_segment bad[8];
	unsigned int nr = 0;

	(void)state;
	format(1, FRAME_BYTES, 1);
	(void)write_slot(1, 4, 1000, 1);
	block_get(syn_disk_segment_at(bench.disk, 1), &good);
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		bad[i] = good;
	bad[nr++].magic++;
	bad[nr++].version++;
	bad[nr++].file[0]++;
	bad[nr++].segment++;
	bad[nr++].nr_frames++;
	bad[nr++].nr_frames = 0;
	bad[nr++].frame_bytes += 512;
	bad[nr++].frame_bytes = 0;
	for (unsigned int i = 0; i < nr; i++) {
		syn_swap_seal(&bad[i]);
		block_put(syn_disk_segment_at(bench.disk, 1), &bad[i]);
		scan();
		assert_int_equal(found.nr_cut, 0);
		assert_int_equal(found.nr, 0);
	}
	block_put(syn_disk_segment_at(bench.disk, 1), &good);
	scan();
	assert_int_equal(found.nr, 1);
}

/* Extents that cannot be registered are used as they are. */
static void test_unregistered(void **state)
{
	uint32_t crc;

	(void)state;
	format(0, FRAME_BYTES, 1);
	bench.disk->ops->mem_del(bench.disk, &bench.mem);
	bench.mem.id = UINT32_MAX - 1;
	assert_int_equal(bench.disk->ops->mem_add(bench.disk, &bench.mem), 0);
	crc = write_slot(0, 0, 5000, 1);
	assert_int_equal(read_slot(0, 0, 5000, crc), 0);
	bench.disk->ops->mem_del(bench.disk, &bench.mem);
	/* Never added at all. */
	bench.mem.id = 9;
	assert_int_equal(read_slot(0, 0, 5000, crc), 0);
	assert_memory_equal(mem_at(FRAME_BYTES), mem_at(0), 5000);
	syn_fault_arm(1);
	assert_int_equal(bench.disk->ops->mem_add(bench.disk, &bench.mem), 0);
	(void)syn_fault_disarm();
	assert_int_equal(read_slot(0, 0, 5000, crc), 0);
}

#define KILLS 8u

/* In a child: reads as deep as it goes into shared memory, for ever. */
static void read_for_ever(int told)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	struct syn_disk_done done;
	struct syn_disk *disk;

	if (syn_swapfile_open(path, NULL, &disk, why) ||
	    disk->ops->mem_add(disk, &bench.mem))
		_exit(1);
	bench.disk = disk;
	for (uint32_t i = 0;; i++) {
		struct syn_disk_io io = read_io(i % SEGMENTS, 0, BIG_BYTES, 0,
						(uint64_t)(i % 5) * BIG_BYTES);

		io.frame_bytes = BIG_BYTES;
		while (disk->ops->submit(disk, &io, 1) == -EAGAIN)
			while (disk->ops->reap(disk, &done, 1))
				(void)!write(told, "", 1);
	}
}

/* Kills one in the midst of it; returns once it is gone. */
static void reader_kill(void)
{
	int told[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(told), 0);
	pid = fork_child();
	if (pid == 0)
		read_for_ever(told[1]);
	(void)close(told[1]);
	assert_int_equal(read(told[0], &c, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	(void)close(told[0]);
}

/*
 * io_uring outlives its process, and its requests write into memory that
 * others have; they also hold the lock.  Whoever has the lock is alone.
 */
static void test_lock_outlives_the_killed(void **state)
{
	unsigned char *copy = malloc(MEM_BYTES);

	(void)state;
	assert_non_null(copy);
	disk_close();
	for (unsigned int i = 0; i < KILLS; i++) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		assert_true(fd >= 0);
		reader_kill();
		assert_int_equal(flock(fd, LOCK_EX), 0);
		memset(bench.mem.addr, 0x5a, MEM_BYTES);
		memset(copy, 0x5a, MEM_BYTES);
		(void)usleep(20000);
		assert_memory_equal(bench.mem.addr, copy, MEM_BYTES);
		(void)close(fd);
	}
	free(copy);
}

/* ---- the simulated disk ------------------------------------------------- */

#define CUT_ROUNDS 400u

/**
 * struct model - what a slot may hold after a power cut.
 * @seed:	of the last write that was acknowledged as durable ...
 * @bytes:	... and its size, 0: none.
 * @touched:	another write has begun since ...
 * @busy:	... and not ended.
 */
struct model {
	uint64_t seed;
	uint64_t bytes;
	bool touched;
	bool busy;
};

#define CUT_BATCH 16u

/* Write @i of all, if no other is under way in its slot. */
static bool cut_prepare(struct model *model, uint32_t i, struct syn_disk_io *io)
{
	uint64_t off = (2ull + i) * FRAME_BYTES;
	uint32_t frame = (uint32_t)(random_next() % FRAMES);
	uint64_t bytes = 1 + random_next() % FRAME_BYTES;

	if (model[frame].busy)
		return false;
	*io = write_io(i, 0, frame, bytes, off);
	io->durable = random_next() & 1;
	io->head->sequence = random_next();
	fill(mem_at(off), bytes, io->head->sequence);
	model[frame].touched = true;
	model[frame].busy = true;
	return true;
}

/* A batch of writes, of which some are acknowledged before the power goes. */
static void cut_write(struct model *model, struct syn_disk_io *vec,
		      uint32_t batch)
{
	struct syn_disk_done done[CUT_BATCH];
	unsigned int nr;

	for (uint32_t i = batch * CUT_BATCH; i < (batch + 1) * CUT_BATCH; i++)
		if (cut_prepare(model, i, &vec[i]))
			assert_int_equal(
				bench.disk->ops->submit(bench.disk, &vec[i], 1),
				0);
	nr = bench.disk->ops->reap(
		bench.disk, done,
		(unsigned int)(random_next() % (CUT_BATCH + 1)));
	for (unsigned int i = 0; i < nr; i++) {
		const struct syn_disk_io *io = &vec[done[i].cookie];
		struct model *slot = &model[io->frame];

		assert_int_equal(done[i].status, 0);
		slot->busy = false;
		if (!io->durable)
			continue;
		slot->seed = io->head->sequence;
		slot->bytes = io->bytes;
		slot->touched = false;
	}
}

static void cut_verify(const struct model *model)
{
	static unsigned char want[FRAME_BYTES];

	for (uint32_t frame = 0; frame < FRAMES; frame++) {
		const struct syn_disk_head *head = found_at(0, frame);
		int r = -ENOENT;

		if (head)
			r = read_slot(0, frame, head->bytes, head->data_crc);
		if (!r) {
			fill(want, head->bytes, head->sequence);
			assert_memory_equal(mem_at(FRAME_BYTES), want,
					    head->bytes);
		}
		if (!model[frame].bytes || model[frame].touched)
			continue;
		assert_int_equal(r, 0);
		assert_int_equal(head->sequence, model[frame].seed);
		assert_int_equal(head->bytes, model[frame].bytes);
	}
}

/* No durable slot is lost, and nothing is served that was not written. */
static void test_power_cuts(void **state)
{
	struct syn_disk_io vec[3 * CUT_BATCH];
	struct model model[FRAMES];

	(void)state;
	for (unsigned int round = 0; round < CUT_ROUNDS; round++) {
		memset(model, 0, sizeof(model));
		format(0, FRAME_BYTES, 1);
		for (unsigned int i = 0; i < 1 + round % 3; i++)
			cut_write(model, vec, i);
		syn_simdisk_cut(bench.sim);
		disk_reopen();
		scan();
		assert_int_equal(found.nr_cut, 1);
		cut_verify(model);
	}
}

/* A disk that lies: what was not written as said is a miss. */
static void test_torn_and_lost(void **state)
{
	unsigned int nr_bad = 0;

	(void)state;
	format(0, FRAME_BYTES, 1);
	for (unsigned int i = 0; i < 200; i++) {
		uint32_t frame = i % FRAMES;
		const struct syn_disk_head *head;
		uint32_t crc;
		int r;

		if (i % 2)
			syn_simdisk_tear(bench.sim, 1 + i / 2 % 2);
		else
			syn_simdisk_lose(bench.sim, 1 + i / 2 % 2);
		crc = write_slot(0, frame, FRAME_BYTES, i + 1);
		scan();
		head = found_at(0, frame);
		r = read_slot(0, frame, FRAME_BYTES, head ? head->data_crc : 0);
		if (!r)
			assert_int_equal(head->data_crc, crc);
		if (!r)
			assert_memory_equal(mem_at(FRAME_BYTES), mem_at(0),
					    FRAME_BYTES);
		nr_bad += r != 0;
	}
	/* A head may be whole without its last sectors, which are empty. */
	assert_true(nr_bad >= 150);
}

static void test_one_disk_at_a_time(void **state)
{
	struct syn_disk *other;

	(void)state;
	assert_int_equal(syn_simdisk_open(bench.sim, &other), -EBUSY);
}

/* Nothing completes after the power has gone. */
static void test_cut_is_silence(void **state)
{
	struct syn_disk_io io = format_io(0, FRAME_BYTES, 1);
	struct syn_disk_done done;

	(void)state;
	assert_int_equal(bench.disk->ops->submit(bench.disk, &io, 1), 0);
	syn_simdisk_cut(bench.sim);
	assert_false(event_is_up(0));
	assert_int_equal(bench.disk->ops->reap(bench.disk, &done, 1), 0);
	assert_int_equal(bench.disk->ops->submit(bench.disk, &io, 1), 0);
	assert_false(event_is_up(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_file(test_heads_that_lie),
		on_file(test_segments_that_lie),
		on_file(test_unregistered),
		on_file(test_lock_outlives_the_killed),
		on_sim(test_power_cuts),
		on_sim(test_torn_and_lost),
		on_sim(test_one_disk_at_a_time),
		on_sim(test_cut_is_silence),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, group_teardown) ? 1
									  : 0;
}
