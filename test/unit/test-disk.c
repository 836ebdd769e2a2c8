/* SPDX-License-Identifier: Apache-2.0 */
/* core/disk.h as core/io/ implements it: the same on a file and simulated. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/io/format.h"
#include "test/unit/disk-harness.h"

static void test_round_trip(void **state)
{
	static const uint64_t sizes[] = { 1, 511, 4096, 4097, 65535, 65536 };

	(void)state;
	format(2, FRAME_BYTES, 1);
	for (unsigned int i = 0; i < syn_array_size(sizes); i++) {
		uint32_t crc = write_slot(2, i, sizes[i], i);

		assert_int_equal(read_slot(2, i, sizes[i], crc), 0);
		assert_memory_equal(mem_at(FRAME_BYTES), mem_at(0), sizes[i]);
	}
}

/* In several parts, of which the last is not whole. */
static void test_large(void **state)
{
	struct syn_disk_io io;
	struct syn_disk_done done;

	(void)state;
	format(0, BIG_BYTES, 1);
	io = write_io(0, 0, 0, BIG_BYTES - 5000, 0);
	io.frame_bytes = BIG_BYTES;
	fill(mem_at(0), BIG_BYTES, 3);
	done = run(&io);
	assert_int_equal(done.status, 0);
	assert_int_equal(done.crc,
			 syn_swap_crc(0, mem_at(0), BIG_BYTES - 5000));
	io = read_io(0, 0, BIG_BYTES - 5000, done.crc, 4u << 20);
	io.frame_bytes = BIG_BYTES;
	assert_int_equal(run(&io).status, 0);
	assert_memory_equal(mem_at(4u << 20), mem_at(0), BIG_BYTES - 5000);
}

static void test_wrong_bytes(void **state)
{
	uint32_t crc;

	(void)state;
	format(0, FRAME_BYTES, 1);
	crc = write_slot(0, 0, 9999, 1);
	assert_int_equal(read_slot(0, 0, 9999, crc ^ 1), -EILSEQ);
	assert_int_equal(read_slot(0, 0, 9998, crc), -EILSEQ);
	assert_int_equal(read_slot(0, 1, 9999, crc), -EILSEQ);
	assert_int_equal(read_slot(0, 0, 9999, crc), 0);
}

/* All 1024 at once, none more, and each ends once. */
static void test_many_in_flight(void **state)
{
	static struct syn_disk_io vec[SLOTS_MAX];
	static struct syn_disk_done done[SLOTS_MAX];

	(void)state;
	fill(mem_at(0), MEM_BYTES, 5);
	for (uint32_t i = 0; i < SEGMENTS; i++)
		format(i, FRAME_BYTES, 1);
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		vec[i] = write_io(i, i / FRAMES % SEGMENTS, i % FRAMES,
				  (i % 450) + 1,
				  (uint64_t)(i % 450) * SYN_DISK_BLOCK);
	assert_int_equal(bench.disk->ops->submit(bench.disk, vec, 450), 0);
	assert_int_equal(
		bench.disk->ops->submit(bench.disk, vec + 450, SLOTS_MAX - 450),
		0);
	assert_int_equal(bench.disk->ops->submit(bench.disk, vec, 1), -EAGAIN);
	reap_all(done, SLOTS_MAX);
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		assert_int_equal(done[i].status, 0);
	/* Of the first 450 slots each was written twice or thrice or once. */
	for (uint32_t i = 0; i < 450; i++) {
		vec[i].op = SYN_DISK_READ;
		vec[i].crc = done[i].crc;
	}
	assert_int_equal(bench.disk->ops->submit(bench.disk, vec, 450), 0);
	reap_all(done, 450);
	for (uint32_t i = 0; i < 450; i++)
		assert_int_equal(done[i].status, 0);
}

static void test_refuses_nonsense(void **state)
{
	struct syn_disk_io good = write_io(0, 1, 0, 4096, 0);
	struct syn_disk_io bad[12];
	unsigned int nr = 0;

	(void)state;
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		bad[i] = good;
	bad[nr++].op = 0;
	bad[nr++].op = 5;
	bad[nr++].segment = SEGMENTS;
	bad[nr++].frame = FRAMES + 1;
	bad[nr++].frame_bytes = FRAME_BYTES + 512;
	bad[nr++].frame_bytes = 0;
	bad[nr++].bytes = 0;
	bad[nr++].bytes = FRAME_BYTES + 1;
	bad[nr++].mem = NULL;
	bad[nr++].mem_off = 512;
	bad[nr++].mem_off = MEM_BYTES;
	bad[nr++].head = NULL;
	for (unsigned int i = 0; i < nr; i++) {
		struct syn_disk_io vec[2] = { good, bad[i] };

		assert_int_equal(bench.disk->ops->submit(bench.disk, vec, 2),
				 -EINVAL);
	}
	good = wipe_io(0, syn_disk_frames(bench.disk, FRAME_BYTES));
	assert_int_equal(bench.disk->ops->submit(bench.disk, &good, 1),
			 -EINVAL);
	good = format_io(0, FRAME_BYTES, 1);
	good.frame--;
	assert_int_equal(bench.disk->ops->submit(bench.disk, &good, 1),
			 -EINVAL);
	assert_false(event_is_up(20));
}

static void test_close_waits(void **state)
{
	struct syn_disk_io vec[64];
	uint32_t crc[64];

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		format(i, FRAME_BYTES, 1);
	for (uint32_t i = 0; i < 64; i++) {
		uint64_t off = (uint64_t)i * FRAME_BYTES;

		fill(mem_at(off), FRAME_BYTES, i);
		crc[i] = syn_swap_crc(0, mem_at(off), FRAME_BYTES);
		vec[i] = write_io(i, i / FRAMES, i % FRAMES, FRAME_BYTES, off);
	}
	assert_int_equal(bench.disk->ops->submit(bench.disk, vec, 64), 0);
	disk_reopen();
	scan();
	assert_int_equal(found.nr, 64);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(
			read_slot(i / FRAMES, i % FRAMES, FRAME_BYTES, crc[i]),
			0);
}

static void test_scan_finds_what_was_written(void **state)
{
	uint32_t crc;

	(void)state;
	scan();
	assert_int_equal(found.nr_cut, 0);
	assert_int_equal(found.nr, 0);
	format(1, FRAME_BYTES, 1);
	format(SEGMENTS - 1, FRAME_BYTES, 1);
	crc = write_slot(1, 0, 100, 1);
	(void)write_slot(1, FRAMES - 1, 200, 2);
	(void)write_slot(SEGMENTS - 1, 11, FRAME_BYTES, 3);
	/* Of two writes into one slot the later is there. */
	crc = write_slot(1, 0, 101, 4);
	disk_reopen();
	scan();
	assert_int_equal(found.nr_cut, 2);
	assert_int_equal(found.nr, 3);
	assert_int_equal(found_at(1, 0)->bytes, 101);
	assert_int_equal(found_at(1, 0)->data_crc, crc);
	assert_int_equal(found_at(1, 0)->key[0], 1);
	assert_int_equal(found_at(1, FRAMES - 1)->bytes, 200);
	assert_int_equal(found_at(SEGMENTS - 1, 11)->bytes, FRAME_BYTES);
}

/* That slot and no other. */
static void test_wiped(void **state)
{
	struct syn_disk_io io = wipe_io(1, 4);

	(void)state;
	format(1, FRAME_BYTES, 1);
	for (uint32_t i = 3; i < 6; i++)
		(void)write_slot(1, i, FRAME_BYTES, i);
	assert_int_equal(run(&io).status, 0);
	disk_reopen();
	scan();
	assert_int_equal(found.nr, 2);
	assert_int_equal(found_at(1, 3)->bytes, FRAME_BYTES);
	assert_int_equal(found_at(1, 5)->bytes, FRAME_BYTES);
	(void)write_slot(1, 4, 100, 1);
	disk_reopen();
	scan();
	assert_int_equal(found_at(1, 4)->bytes, 100);
}

/* Whatever an older cut has left is free, also where the slots lie anew. */
static void test_stale_heads(void **state)
{
	(void)state;
	format(0, FRAME_BYTES, 1);
	for (uint32_t i = 0; i < FRAMES; i++)
		(void)write_slot(0, i, FRAME_BYTES, i);
	format(0, FRAME_BYTES, 2);
	disk_reopen();
	scan();
	assert_int_equal(found.nr_cut, 1);
	assert_int_equal(found.nr, 0);
	format(0, 4096, 3);
	disk_reopen();
	scan();
	assert_int_equal(found.nr, 0);
}

static int stop_found(void *ctx, const struct syn_disk_head *head)
{
	(void)ctx;
	(void)head;
	return -ECANCELED;
}

static void test_scan_can_be_ended(void **state)
{
	(void)state;
	format(0, FRAME_BYTES, 1);
	(void)write_slot(0, 0, 1, 1);
	(void)write_slot(0, 1, 1, 1);
	assert_int_equal(bench.disk->ops->scan(bench.disk, on_segment,
					       stop_found, &found),
			 -ECANCELED);
}

/* The @nth request of what follows fails. */
static void fail_at(unsigned int nth, int error)
{
	if (bench.sim)
		syn_simdisk_fail(bench.sim, nth, error);
	else
		syn_fault_arm(nth);
}

static void test_eio_at_every_operation(void **state)
{
	static struct syn_disk_done done[FRAMES];
	struct syn_disk_io vec[FRAMES];
	uint32_t crc[FRAMES];
	unsigned int nr_failed = 0;
	bool again = true;

	(void)state;
	format(0, FRAME_BYTES, 1);
	for (unsigned int nth = 1; again; nth++) {
		unsigned int nr_bad = 0;

		for (uint32_t i = 0; i < 8; i++) {
			uint64_t off = (uint64_t)i * FRAME_BYTES;

			fill(mem_at(off), 20000, nth * 100 + i);
			crc[i] = syn_swap_crc(0, mem_at(off), 20000);
			vec[i] = write_io(i, 0, i, 20000, off);
		}
		fail_at(nth, -EIO);
		while (bench.disk->ops->submit(bench.disk, vec, 8) == -EAGAIN)
			;
		reap_all(done, 8);
		for (uint32_t i = 0; i < 8; i++) {
			assert_true(done[i].status == 0 ||
				    done[i].status == -EIO);
			nr_bad += done[i].status != 0;
			vec[i] = read_io(0, i, 20000, crc[i],
					 (uint64_t)i * FRAME_BYTES);
			vec[i].cookie = i;
		}
		assert_true(nr_bad <= 1);
		while (bench.disk->ops->submit(bench.disk, vec, 8) == -EAGAIN)
			;
		for (uint32_t i = 0; i < 8; i++)
			crc[i] = (uint32_t)done[i].status;
		reap_all(done, 8);
		for (uint32_t i = 0; i < 8; i++) {
			nr_bad += done[i].status != 0;
			/* What was written can be read, or there was a fault. */
			if (!crc[i] && done[i].status)
				assert_int_equal(done[i].status, -EIO);
		}
		nr_failed += nr_bad > 0;
		again = bench.sim ? nth < 24 : syn_fault_disarm();
	}
	assert_true(nr_failed >= 8);
}

static void test_no_space(void **state)
{
	struct syn_disk_io io;
	struct rlimit limit;
	struct rlimit old;
	uint32_t crc;

	(void)state;
	format(0, FRAME_BYTES, 1);
	format(9, FRAME_BYTES, 1);
	crc = write_slot(0, 0, 7777, 1);
	io = write_io(0, 9, 0, 5000, 0);
	/* A limit of the process is what a full filesystem is, for the file. */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 4u << 20;
	if (!bench.sim)
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	fail_at(bench.sim ? 1 : 0, -ENOSPC);
	assert_int_equal(run(&io).status, -ENOSPC);
	assert_int_equal(read_slot(0, 0, 7777, crc), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(run(&io).status, 0);
}

static void image_flip(uint64_t bit)
{
	unsigned char byte;
	int fd;

	if (bench.sim) {
		syn_simdisk_flip(bench.sim, bit);
		return;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
	byte ^= (unsigned char)(1u << bit % 8);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
	(void)close(fd);
}

#define FLIP_ROUNDS 100u
#define FLIPS	    100u

/* Reads all that a scan finds; right bytes or a failure. */
static void verify_found(const struct syn_disk_head *wrote,
			 unsigned int *ret_bad)
{
	static unsigned char want[FRAME_BYTES];

	for (unsigned int i = 0; i < found.nr; i++) {
		const struct syn_disk_head *head = &found.head[i];
		int r;

		assert_memory_equal(
			&head->flags, &wrote[head->frame].flags,
			offsetof(struct syn_disk_head, pad1) -
				offsetof(struct syn_disk_head, flags));
		r = read_slot(head->segment, head->frame, head->bytes,
			      head->data_crc);
		if (r) {
			assert_int_equal(r, -EILSEQ);
			++*ret_bad;
			continue;
		}
		fill(want, head->bytes, head->frame);
		assert_memory_equal(mem_at(FRAME_BYTES), want, head->bytes);
	}
}

/* Bits rot anywhere, 10,000 of them: what is served is right. */
static void test_bit_rot(void **state)
{
	static struct syn_disk_head wrote[FRAMES];
	unsigned int nr_lost = 0;
	unsigned int nr_bad = 0;

	(void)state;
	format(0, FRAME_BYTES, 1);
	for (uint32_t i = 0; i < FRAMES; i++) {
		(void)write_slot(0, i, FRAME_BYTES - i, i);
		wrote[i] = bench.head[0];
	}
	for (unsigned int round = 0; round < FLIP_ROUNDS; round++) {
		uint64_t bit[FLIPS];

		/* Some of them in the heads, which are few. */
		for (unsigned int i = 0; i < FLIPS; i++) {
			uint64_t bytes = i % 8 == 0
						 ? (FRAMES + 1) * SYN_DISK_BLOCK
						 : SEGMENT_BYTES;

			bit[i] = (SYN_DISK_BLOCK + random_next() % bytes) * 8 +
				 random_next() % 8;
			image_flip(bit[i]);
		}
		disk_reopen();
		scan();
		nr_lost += FRAMES - found.nr;
		verify_found(wrote, &nr_bad);
		for (unsigned int i = 0; i < FLIPS; i++)
			image_flip(bit[i]);
	}
	assert_true(nr_lost > FLIP_ROUNDS);
	assert_true(nr_bad > FLIP_ROUNDS);
	disk_reopen();
	scan();
	nr_bad = 0;
	verify_found(wrote, &nr_bad);
	assert_int_equal(found.nr, FRAMES);
	assert_int_equal(nr_bad, 0);
}

static int use_once(void)
{
	struct syn_disk_io io = format_io(0, FRAME_BYTES, 1);
	struct syn_disk_done done = { 0 };
	int r;

	r = bench.disk->ops->mem_add(bench.disk, &bench.mem);
	if (r)
		return r;
	for (unsigned int step = 0; step < 3 && !r; step++) {
		r = bench.disk->ops->submit(bench.disk, &io, 1);
		if (r)
			break;
		reap_all(&done, 1);
		r = done.status;
		io = step ? read_io(0, 3, 33333, done.crc, FRAME_BYTES)
			  : write_io(0, 0, 3, 33333, 0);
	}
	if (!r)
		r = bench.disk->ops->scan(bench.disk, on_segment, on_head,
					  &found);
	bench.disk->ops->mem_del(bench.disk, &bench.mem);
	return r;
}

/* From open to close; what can be done without is done without. */
static void test_fail_nth(void **state)
{
	unsigned int nr_failed = 0;
	unsigned int nth = 0;
	bool hit;

	(void)state;
	disk_close();
	do {
		char why[SYN_SWAPFILE_WHY_BYTES] = "";
		int before = test_count_fds();
		int r;

		found.nr = 0;
		fill(mem_at(0), 33333, nth);
		syn_fault_arm(++nth);
		r = bench.sim ? syn_simdisk_open(bench.sim, &bench.disk)
			      : syn_swapfile_open(path, NULL, &bench.disk, why);
		assert_true(bench.sim || !r == !why[0]);
		if (!r) {
			r = use_once();
			bench.disk->ops->close(bench.disk);
		}
		bench.disk = NULL;
		hit = syn_fault_disarm();
		assert_true(hit || !r);
		if (!r)
			assert_memory_equal(mem_at(FRAME_BYTES), mem_at(0),
					    33333);
		nr_failed += r < 0;
		assert_int_equal(test_count_fds(), before);
	} while (hit);
	assert_true(nr_failed >= (bench.sim ? 7 : 15));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_both(test_round_trip),
		on_both(test_large),
		on_both(test_wrong_bytes),
		on_both(test_many_in_flight),
		on_both(test_refuses_nonsense),
		on_both(test_close_waits),
		on_both(test_scan_finds_what_was_written),
		on_both(test_wiped),
		on_both(test_stale_heads),
		on_both(test_scan_can_be_ended),
		on_both(test_eio_at_every_operation),
		on_both(test_no_space),
		on_both(test_bit_rot),
		on_both(test_fail_nth),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, group_teardown) ? 1
									  : 0;
}
