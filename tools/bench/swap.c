/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of swap slots, checksums and all, beside fio on the same file with the
 * same size, depth, flags and memory, in turn; and the scan at start.
 */
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#include <json-c/json.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "core/disk.h"
#include "core/io/swapfile.h"
#include "numa/hostmem.h"
#include "tools/bench/bench.h"

#define YARD_BYTES  (1ull << 30)
#define YARD_DEPTH  32u				      /* at most */
#define MEM_BYTES   ((YARD_DEPTH + 1) * (2ull << 20)) /* fio maps a page more */
#define YARD_RUN_S  "1"
#define YARD_RUN_NS 1000000000u
#define SCAN_SLOTS  100000u
#define SCAN_FRAME  4096u

extern char **environ;

/**
 * struct slot - one that is written.
 * @segment:	where it is ...
 * @frame:	... in there.
 * @crc:	of its data.
 */
struct slot {
	uint32_t segment;
	uint32_t frame;
	uint32_t crc;
};

/**
 * struct yard - a swap file to measure.
 * @dir:	temporary directory, on a disk.
 * @path:	the file in it.
 * @out:	what fio writes.
 * @disk:	open.
 * @mem:	YARD_DEPTH buffers of the largest size, fio's, too, made of ...
 * @host:	... this.
 * @huge:	in huge pages.
 * @head:	a head for each.
 * @frame_bytes: size of all slots.
 * @segment_seq: of all segments.
 * @slot:	all slots, @nr of them.
 * @nr:		see there.
 * @seed:	of the order in which they are read.
 * @compare:	there is a fio.
 */
struct yard {
	char dir[64];
	char path[96];
	char out[96];
	struct syn_disk *disk;
	struct syn_mem mem;
	struct syn_hostmem host;
	bool huge;
	struct syn_disk_head *head;
	uint32_t frame_bytes;
	uint64_t segment_seq;
	struct slot *slot;
	uint32_t nr;
	uint64_t seed;
	bool compare;
};

static uint32_t yard_random(struct yard *yard)
{
	yard->seed = yard->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(yard->seed >> 33) % yard->nr;
}

/* ---- ios ---------------------------------------------------------------- */

/**
 * struct pump - ios that are kept under way.
 * @yard:	where.
 * @op:		SYN_DISK_WRITE: every slot once.  SYN_DISK_READ: any, until ...
 * @until_ns:	... then.
 * @depth:	so many at once.
 * @next:	WRITE: the next slot.
 * @slot:	what each buffer is used for.
 * @flying:	under way.
 * @bytes:	done.
 */
struct pump {
	struct yard *yard;
	uint32_t op;
	uint64_t until_ns;
	unsigned int depth;
	uint32_t next;
	uint32_t slot[YARD_DEPTH];
	unsigned int flying;
	uint64_t bytes;
};

static bool pump_next(struct pump *pump, uint32_t *ret)
{
	if (pump->op == SYN_DISK_READ) {
		*ret = yard_random(pump->yard);
		return syn_now_ns() < pump->until_ns;
	}
	*ret = pump->next++;
	return *ret < pump->yard->nr;
}

static int pump_submit(struct pump *pump, unsigned int buffer)
{
	struct yard *yard = pump->yard;
	struct syn_disk_io io;
	const struct slot *slot;
	int r;

	if (!pump_next(pump, &pump->slot[buffer]))
		return 0;
	slot = &yard->slot[pump->slot[buffer]];
	io = (struct syn_disk_io){
		.cookie = buffer,
		.op = pump->op,
		.segment = slot->segment,
		.frame = slot->frame,
		.crc = slot->crc,
		.frame_bytes = yard->frame_bytes,
		.segment_seq = yard->segment_seq,
		.bytes = yard->frame_bytes,
		.mem = &yard->mem,
		.mem_off = (uint64_t)buffer * yard->frame_bytes,
		.head = &yard->head[buffer],
	};
	r = yard->disk->ops->submit(yard->disk, &io, 1);
	pump->flying += !r;
	return r;
}

static int pump_reap(struct pump *pump)
{
	struct yard *yard = pump->yard;
	struct pollfd fd = { .fd = yard->disk->ops->event_fd(yard->disk),
			     .events = POLLIN };
	struct syn_disk_done done[YARD_DEPTH];
	unsigned int nr;
	int r = 0;

	(void)poll(&fd, 1, -1);
	nr = yard->disk->ops->reap(yard->disk, done, YARD_DEPTH);
	pump->flying -= nr;
	for (unsigned int i = 0; i < nr && !r; i++) {
		unsigned int buffer = (unsigned int)done[i].cookie;

		r = done[i].status;
		if (pump->op == SYN_DISK_WRITE)
			yard->slot[pump->slot[buffer]].crc = done[i].crc;
		pump->bytes += yard->frame_bytes;
		if (!r)
			r = pump_submit(pump, buffer);
	}
	return r;
}

static int pump_run(struct pump *pump)
{
	int r = 0;

	for (unsigned int i = 0; i < pump->depth && !r; i++)
		r = pump_submit(pump, i);
	while (pump->flying) {
		int bad = pump_reap(pump);

		r = r ? r : bad;
	}
	return r;
}

/* ---- the file ----------------------------------------------------------- */

static int segment_cut(struct yard *yard, uint32_t segment)
{
	struct pollfd fd = { .fd = yard->disk->ops->event_fd(yard->disk),
			     .events = POLLIN };
	const struct syn_disk_io io = {
		.op = SYN_DISK_FORMAT,
		.segment = segment,
		.frame = syn_disk_frames(yard->disk, yard->frame_bytes),
		.frame_bytes = yard->frame_bytes,
		.segment_seq = yard->segment_seq,
	};
	struct syn_disk_done done;
	int r;

	r = yard->disk->ops->submit(yard->disk, &io, 1);
	if (r)
		return r;
	(void)poll(&fd, 1, -1);
	while (!yard->disk->ops->reap(yard->disk, &done, 1))
		;
	return done.status;
}

/* Cuts all of it into slots of @frame_bytes and writes them, @max at most. */
static int yard_fill(struct yard *yard, uint32_t frame_bytes, uint32_t max)
{
	uint32_t frames = syn_disk_frames(yard->disk, frame_bytes);
	struct pump pump = { .yard = yard,
			     .op = SYN_DISK_WRITE,
			     .depth = YARD_DEPTH };
	int r = 0;

	yard->frame_bytes = frame_bytes;
	yard->segment_seq++;
	yard->nr = 0;
	for (uint32_t s = 0; s < yard->disk->nr_segments && !r; s++) {
		r = segment_cut(yard, s);
		for (uint32_t f = 0; f < frames && yard->nr < max; f++)
			yard->slot[yard->nr++] = (struct slot){ s, f, 0 };
	}
	return r ? r : pump_run(&pump);
}

static void yard_close(struct yard *yard)
{
	if (!yard->disk)
		return;
	yard->disk->ops->mem_del(yard->disk, &yard->mem);
	yard->disk->ops->close(yard->disk);
	yard->disk = NULL;
}

static int yard_open(struct yard *yard)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int r = syn_swapfile_open(yard->path, NULL, &yard->disk, why);

	if (r) {
		(void)fprintf(stderr, "synapse-bench: %s\n", why);
		return r;
	}
	return yard->disk->ops->mem_add(yard->disk, &yard->mem);
}

/* Of 2 MiB. */
static unsigned long huge_pages_free(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/"
			   "free_hugepages",
			   "re");
	unsigned long nr = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lu", &nr) != 1)
		nr = 0;
	(void)fclose(file);
	return nr;
}

static int yard_init(struct yard *yard)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int r;

	/* What is kept there lies on a disk, and is not used up by this. */
	(void)snprintf(yard->dir, sizeof(yard->dir),
		       "/var/tmp/synapse-bench-XXXXXX");
	if (!mkdtemp(yard->dir))
		return -errno;
	(void)snprintf(yard->path, sizeof(yard->path), "%s/swap", yard->dir);
	(void)snprintf(yard->out, sizeof(yard->out), "%s/fio", yard->dir);
	yard->slot = syn_alloc(SCAN_SLOTS, sizeof(*yard->slot));
	yard->head = syn_alloc(YARD_DEPTH, sizeof(*yard->head));
	if (!yard->slot || !yard->head)
		return -ENOMEM;
	yard->huge = huge_pages_free() >= MEM_BYTES >> 21;
	r = syn_hostmem_init(&yard->host, "bench", MEM_BYTES,
			     yard->huge ? SYN_HOSTMEM_HUGE : 0, -1);
	if (r)
		return r;
	yard->mem = (struct syn_mem){ .id = 1,
				      .bytes = MEM_BYTES,
				      .addr = yard->host.addr };
	memset(yard->mem.addr, 0x5a, yard->mem.bytes);
	(void)fprintf(stderr, "synapse-bench: pages of %s\n",
		      yard->huge ? "2 MiB" : "4 KiB");
	r = syn_swapfile_init(yard->path, YARD_BYTES, false, why);
	if (r) {
		(void)fprintf(stderr, "synapse-bench: %s\n", why);
		return r;
	}
	return yard_open(yard);
}

static void yard_deinit(struct yard *yard)
{
	yard_close(yard);
	(void)unlink(yard->path);
	(void)unlink(yard->out);
	(void)rmdir(yard->dir);
	if (yard->host.addr)
		syn_hostmem_deinit(&yard->host);
	free(yard->slot);
	free(yard->head);
}

/* ---- fio ---------------------------------------------------------------- */

/* Bytes a second of its only job. */
static int fio_parse(const char *path, double *ret)
{
	struct json_object *root = json_object_from_file(path);
	struct json_object *at = NULL;
	int r = -EPROTO;

	if (json_object_object_get_ex(root, "jobs", &at) &&
	    json_object_object_get_ex(json_object_array_get_idx(at, 0), "read",
				      &at) &&
	    json_object_object_get_ex(at, "bw_bytes", &at)) {
		*ret = (double)json_object_get_int64(at);
		r = *ret > 0 ? 0 : -EPROTO;
	}
	(void)json_object_put(root);
	return r;
}

/*
 * fio reads into the very pages that we read into: how scattered these are in
 * physical memory decides more than who reads.
 */
static int fio_run(const struct yard *yard, unsigned int depth, double *ret)
{
	char output[128], filename[128], bs[32], iodepth[32], iomem[64];
	const char *const argv[] = {
		"fio",
		"--name=swap",
		"--rw=randread",
		"--readonly",
		"--direct=1",
		"--ioengine=io_uring",
		"--fixedbufs",
		"--registerfiles",
		"--numjobs=1",
		"--time_based",
		"--offset=4096",
		"--runtime=" YARD_RUN_S,
		"--norandommap",
		"--output-format=json",
		output,
		filename,
		bs,
		iodepth,
		iomem,
		NULL,
	};
	int status = 0;
	pid_t pid;
	int r;

	(void)snprintf(output, sizeof(output), "--output=%s", yard->out);
	(void)snprintf(filename, sizeof(filename), "--filename=%s", yard->path);
	(void)snprintf(bs, sizeof(bs), "--bs=%u", yard->frame_bytes);
	(void)snprintf(iodepth, sizeof(iodepth), "--iodepth=%u", depth);
	(void)snprintf(iomem, sizeof(iomem),
		       "--iomem=mmapshared:/proc/%d/fd/%d", getpid(),
		       yard->host.fd);
	r = posix_spawnp(&pid, "fio", NULL, NULL, (char *const *)argv, environ);
	if (r)
		return -r;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status ? -EPROTO : fio_parse(yard->out, ret);
}

static bool fio_is_there(void)
{
	static const char *const argv[] = { "fio", "--version", NULL };
	posix_spawn_file_actions_t quiet;
	int status = -1;
	pid_t pid;

	(void)posix_spawn_file_actions_init(&quiet);
	(void)posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO,
					       "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, "fio", &quiet, NULL, (char *const *)argv,
			 environ) == 0)
		(void)waitpid(pid, &status, 0);
	(void)posix_spawn_file_actions_destroy(&quiet);
	return status == 0;
}

/* ---- figures ------------------------------------------------------------ */

enum { NAME_FIO, NAME_READ, NAME_RATIO, NAME_NR };

#define SIZE(bytes, text)                                                      \
	{                                                                      \
		bytes,                                                         \
		{                                                              \
			{ 8, NAMES(text, "8") }, { 16, NAMES(text, "16") },    \
				{ 32, NAMES(text, "32") },                     \
		}                                                              \
	}
#define NAMES(size, depth)                                                     \
	{                                                                      \
		"fio, " size " at " depth, "read, " size " at " depth,         \
			"read / fio, " size " at " depth                       \
	}

/**
 * struct size - slots of one size and the names of their figures.
 * @frame_bytes: of a slot.
 * @depth:	ios at once, with names by NAME_*.
 */
static const struct size {
	uint32_t frame_bytes;
	struct {
		unsigned int depth;
		const char *name[NAME_NR];
	} depth[3];
} sizes[] = {
	SIZE(64u << 10, "64 KiB"),
	SIZE(512u << 10, "512 KiB"),
	SIZE(2u << 20, "2 MiB"),
};

static int depth_run(struct syn_bench *bench, struct yard *yard,
		     unsigned int depth, const char *const *name)
{
	struct pump pump = { .yard = yard,
			     .op = SYN_DISK_READ,
			     .depth = depth };
	double fio = 0, own;
	uint64_t began_ns;
	int r;

	r = yard->compare ? fio_run(yard, depth, &fio) : 0;
	if (r)
		return r;
	began_ns = syn_now_ns();
	pump.until_ns = began_ns + YARD_RUN_NS;
	r = pump_run(&pump);
	if (r)
		return r;
	own = (double)pump.bytes * 1e9 / (double)(syn_now_ns() - began_ns);
	syn_figure_add(&bench->figures, "swap", name[NAME_READ], "GB/s",
		       SYN_GOAL_NONE, 0, own / 1e9);
	if (!yard->compare)
		return 0;
	syn_figure_add(&bench->figures, "swap", name[NAME_FIO], "GB/s",
		       SYN_GOAL_NONE, 0, fio / 1e9);
	syn_figure_add(&bench->figures, "swap", name[NAME_RATIO], "x",
		       SYN_GOAL_AT_LEAST, 0.95, own / fio);
	return 0;
}

static int size_run(struct syn_bench *bench, struct yard *yard,
		    const struct size *size)
{
	int r;

	r = yard_fill(yard, size->frame_bytes, SCAN_SLOTS);
	for (unsigned int run = 0; run < bench->runs && !r; run++)
		for (unsigned int i = 0; i < syn_array_size(size->depth) && !r;
		     i++)
			r = depth_run(bench, yard, size->depth[i].depth,
				      size->depth[i].name);
	return r;
}

static int on_segment(void *ctx, uint32_t segment, uint32_t nr_frames,
		      uint32_t frame_bytes, uint64_t segment_seq)
{
	return 0;
}

static int on_head(void *ctx, const struct syn_disk_head *head)
{
	uint32_t *nr = ctx;

	++*nr;
	return 0;
}

/* From the file's name to the last head. */
static int scan_run(struct syn_bench *bench, struct yard *yard)
{
	int r = 0;

	for (unsigned int run = 0; run < bench->runs && !r; run++) {
		uint64_t began_ns;
		uint32_t nr = 0;

		yard_close(yard);
		began_ns = syn_now_ns();
		r = yard_open(yard);
		if (!r)
			r = yard->disk->ops->scan(yard->disk, on_segment,
						  on_head, &nr);
		if (!r && nr != SCAN_SLOTS)
			r = -EILSEQ;
		syn_figure_add(&bench->figures, "swap",
			       "open and scan, 100000 slots", "s",
			       SYN_GOAL_AT_MOST, 2,
			       (double)(syn_now_ns() - began_ns) / 1e9);
	}
	return r;
}

int syn_bench_swap(struct syn_bench *bench)
{
	struct yard yard = { .seed = 1 };
	int r;

	/* The disk's thread and fio run where the scheduler likes. */
	syn_cpu_free();
	r = yard_init(&yard);
	if (r == -ENOSYS || r == -EOPNOTSUPP) {
		(void)fprintf(stderr, "synapse-bench: swap is left out\n");
		r = 0;
		goto deinit;
	}
	yard.compare = fio_is_there();
	if (!r && !yard.compare)
		(void)fprintf(stderr, "synapse-bench: fio is not installed: "
				      "nothing to compare with\n");
	for (unsigned int i = 0; i < syn_array_size(sizes) && !r; i++)
		r = size_run(bench, &yard, &sizes[i]);
	if (!r)
		r = yard_fill(&yard, SCAN_FRAME, SCAN_SLOTS);
	if (!r)
		r = scan_run(bench, &yard);
	if (r)
		(void)syn_bench_fail("swap", r);
deinit:
	yard_deinit(&yard);
	syn_cpu_bind(bench->client_cpu);
	return r;
}
