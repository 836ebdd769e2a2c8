/* SPDX-License-Identifier: Apache-2.0 */
/* The disk of a test, and what is done with it. */
#include "test/unit/disk-harness.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/io/format.h"

struct bench bench;

static char dir[] = "/tmp/synapse-disk-XXXXXX";
char path[64];

static uint64_t random_seed = 1;

uint64_t random_next(void)
{
	uint64_t x = random_seed += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

unsigned char *mem_at(uint64_t off)
{
	return (unsigned char *)bench.mem.addr + off;
}

/* ---- setting up --------------------------------------------------------- */

void disk_open(void)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int r;

	if (bench.sim)
		r = syn_simdisk_open(bench.sim, &bench.disk);
	else
		r = syn_swapfile_open(path, NULL, &bench.disk, why);
	assert_int_equal(r, 0);
	assert_int_equal(bench.disk->ops->mem_add(bench.disk, &bench.mem), 0);
}

void disk_close(void)
{
	bench.disk->ops->mem_del(bench.disk, &bench.mem);
	bench.disk->ops->close(bench.disk);
	bench.disk = NULL;
}

void disk_reopen(void)
{
	disk_close();
	disk_open();
}

static void mem_setup(void)
{
	memset(&bench, 0, sizeof(bench));
	bench.nr_fds = test_count_fds();
	bench.mem.id = 7;
	bench.mem.bytes = MEM_BYTES;
	bench.mem.addr = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(bench.mem.addr, MAP_FAILED);
	bench.head = calloc(SLOTS_MAX, sizeof(*bench.head));
	assert_non_null(bench.head);
}

int file_setup(void **state)
{
	char why[SYN_SWAPFILE_WHY_BYTES];

	(void)state;
	mem_setup();
	assert_int_equal(syn_swapfile_init(path, FILE_BYTES, true, why), 0);
	disk_open();
	return 0;
}

int sim_setup(void **state)
{
	(void)state;
	mem_setup();
	assert_int_equal(
		syn_simdisk_new(&bench.sim, SEGMENT_BYTES, SEGMENTS, 1), 0);
	disk_open();
	return 0;
}

int teardown(void **state)
{
	(void)state;
	if (bench.disk)
		disk_close();
	bench.sim = syn_simdisk_free(bench.sim);
	(void)munmap(bench.mem.addr, MEM_BYTES);
	free(bench.head);
	return test_count_fds() == bench.nr_fds ? 0 : -1;
}

/* ---- ios ---------------------------------------------------------------- */

bool event_is_up(int timeout_ms)
{
	struct pollfd fd = { .fd = bench.disk->ops->event_fd(bench.disk),
			     .events = POLLIN };

	return poll(&fd, 1, timeout_ms) == 1;
}

/* Waits for the ios of cookies 0..@nr-1, each of which ends exactly once. */
void reap_all(struct syn_disk_done *ret, unsigned int nr)
{
	bool seen[SLOTS_MAX] = { false };
	unsigned int got = 0;

	while (got < nr) {
		struct syn_disk_done done[16];
		unsigned int n;

		assert_true(event_is_up(-1));
		n = bench.disk->ops->reap(bench.disk, done, 16);
		for (unsigned int i = 0; i < n; i++) {
			assert_true(done[i].cookie < nr);
			assert_false(seen[done[i].cookie]);
			seen[done[i].cookie] = true;
			ret[done[i].cookie] = done[i];
		}
		got += n;
	}
	assert_false(event_is_up(0));
	assert_int_equal(bench.disk->ops->reap(bench.disk, ret, 1), 0);
}

struct syn_disk_done run(const struct syn_disk_io *io)
{
	struct syn_disk_io copy = *io;
	struct syn_disk_done done;

	copy.cookie = 0;
	assert_int_equal(bench.disk->ops->submit(bench.disk, &copy, 1), 0);
	reap_all(&done, 1);
	return done;
}

struct syn_disk_io format_io(uint32_t segment, uint32_t frame_bytes,
			     uint64_t sequence)
{
	return (struct syn_disk_io){
		.op = SYN_DISK_FORMAT,
		.segment = segment,
		.frame = syn_disk_frames(bench.disk, frame_bytes),
		.frame_bytes = frame_bytes,
		.segment_seq = sequence,
	};
}

void format(uint32_t segment, uint32_t frame_bytes, uint64_t sequence)
{
	struct syn_disk_io io = format_io(segment, frame_bytes, sequence);

	assert_int_equal(run(&io).status, 0);
}

static struct syn_disk_io slot_io(uint32_t op, uint32_t segment, uint32_t frame,
				  uint64_t bytes, uint64_t mem_off)
{
	return (struct syn_disk_io){
		.op = op,
		.segment = segment,
		.frame = frame,
		.frame_bytes = FRAME_BYTES,
		.segment_seq = 1,
		.bytes = bytes,
		.mem = &bench.mem,
		.mem_off = mem_off,
	};
}

struct syn_disk_io wipe_io(uint32_t segment, uint32_t frame)
{
	return (struct syn_disk_io){
		.op = SYN_DISK_WIPE,
		.segment = segment,
		.frame = frame,
		.frame_bytes = FRAME_BYTES,
	};
}

struct syn_disk_io write_io(uint64_t cookie, uint32_t segment, uint32_t frame,
			    uint64_t bytes, uint64_t mem_off)
{
	struct syn_disk_io io =
		slot_io(SYN_DISK_WRITE, segment, frame, bytes, mem_off);

	io.cookie = cookie;
	io.head = &bench.head[cookie];
	memset(io.head, 0, sizeof(*io.head));
	io.head->key[0] = segment;
	io.head->key[1] = frame;
	io.head->sequence = cookie + 1;
	io.head->segment_seq = 1;
	io.head->bytes = bytes;
	io.head->codec = SYN_CODEC_RAW16;
	return io;
}

struct syn_disk_io read_io(uint32_t segment, uint32_t frame, uint64_t bytes,
			   uint32_t crc, uint64_t mem_off)
{
	struct syn_disk_io io =
		slot_io(SYN_DISK_READ, segment, frame, bytes, mem_off);

	io.crc = crc;
	return io;
}

void fill(void *to, size_t bytes, uint64_t seed)
{
	unsigned char *at = to;

	for (size_t i = 0; i < bytes; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		at[i] = (unsigned char)(seed >> 56);
	}
}

/* Writes what fill() gives for @seed, from the memory's beginning. */
uint32_t write_slot(uint32_t segment, uint32_t frame, uint64_t bytes,
		    uint64_t seed)
{
	struct syn_disk_io io = write_io(0, segment, frame, bytes, 0);
	struct syn_disk_done done;

	fill(mem_at(0), bytes, seed);
	done = run(&io);
	assert_int_equal(done.status, 0);
	assert_int_equal(done.crc, syn_swap_crc(0, mem_at(0), bytes));
	return done.crc;
}

int read_slot(uint32_t segment, uint32_t frame, uint64_t bytes, uint32_t crc)
{
	struct syn_disk_io io =
		read_io(segment, frame, bytes, crc, FRAME_BYTES);

	memset(mem_at(FRAME_BYTES), 0xee, FRAME_BYTES);
	return run(&io).status;
}

/* ---- scans -------------------------------------------------------------- */

struct found found;

int on_segment(void *ctx, uint32_t segment, uint32_t nr_frames,
	       uint32_t frame_bytes, uint64_t segment_seq)
{
	struct found *to = ctx;

	assert_int_equal(to->nr, 0);
	assert_true(segment < bench.disk->nr_segments);
	assert_int_equal(nr_frames, syn_disk_frames(bench.disk, frame_bytes));
	assert_true(segment_seq > 0);
	to->nr_cut++;
	return 0;
}

int on_head(void *ctx, const struct syn_disk_head *head)
{
	struct found *to = ctx;

	assert_true(to->nr < SLOTS_MAX);
	to->head[to->nr++] = *head;
	return 0;
}

void scan(void)
{
	found.nr_cut = 0;
	found.nr = 0;
	assert_int_equal(
		bench.disk->ops->scan(bench.disk, on_segment, on_head, &found),
		0);
}

const struct syn_disk_head *found_at(uint32_t segment, uint32_t frame)
{
	for (unsigned int i = 0; i < found.nr; i++)
		if (found.head[i].segment == segment &&
		    found.head[i].frame == frame)
			return &found.head[i];
	return NULL;
}

int group_setup(void **state)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int r;

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/swap", dir);
	r = syn_swapfile_init(path, FILE_BYTES, false, why);
	if (r)
		print_message("no file: %s\n", why);
	if (r == -EOPNOTSUPP) {
		(void)rmdir(dir);
		exit(TEST_SKIP);
	}
	return r;
}

int group_teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}
