/* SPDX-License-Identifier: Apache-2.0 */
/* The swap file: what is made, what is refused and with which words. */
#include "core/io/swapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "core/io/format.h"
#include "test/test.h"

#define MIB	  (1ull << 20)
#define OTHER_UID 65534

static char dir[] = "/tmp/synapse-swapfile-XXXXXX";
static char path[64];
static char why[SYN_SWAPFILE_WHY_BYTES];

static int group_setup(void **state)
{
	int r;

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/swap", dir);
	r = syn_swapfile_init(path, 4 * MIB, false, why);
	(void)unlink(path);
	if (r == -EOPNOTSUPP) {
		(void)rmdir(dir);
		exit(TEST_SKIP);
	}
	return r;
}

static int group_teardown(void **state)
{
	(void)state;
	return rmdir(dir);
}

static int setup(void **state)
{
	(void)state;
	return syn_swapfile_init(path, 8 * MIB, false, why);
}

static int teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	return 0;
}

static void super_get(struct syn_swap_super *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, ret, sizeof(*ret)), sizeof(*ret));
	(void)close(fd);
}

static void super_put(const struct syn_swap_super *super)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, super, sizeof(*super)), sizeof(*super));
	(void)close(fd);
}

/* open() ends so, and says @what and the path in one line. */
static void expect_refused(int error, const char *what)
{
	struct syn_disk *disk = NULL;
	int before = test_count_fds();

	memset(why, 0, sizeof(why));
	assert_int_equal(syn_swapfile_open(path, NULL, &disk, why), error);
	assert_null(disk);
	if (!strstr(why, what))
		print_message("got: %s\n", why);
	assert_non_null(strstr(why, what));
	assert_non_null(strstr(why, path));
	assert_null(strchr(why, '\n'));
	assert_int_equal(test_count_fds(), before);
}

static void expect_open(void)
{
	struct syn_disk *disk;
	int r = syn_swapfile_open(path, NULL, &disk, why);

	if (r)
		print_message("got: %s\n", why);
	assert_int_equal(r, 0);
	disk->ops->close(disk);
}

/* ---- init --------------------------------------------------------------- */

static void test_geometry(void **state)
{
	static const struct {
		uint64_t bytes;
		uint64_t segment_bytes;
		uint32_t nr_segments;
	} sizes[] = {
		{ 2 * MIB + 4096, 2 * MIB, 1 }, { 4 * MIB, 2 * MIB, 1 },
		{ 64 * MIB, 2 * MIB, 31 },	{ 128 * MIB, 4 * MIB, 31 },
		{ 192 * MIB + 1, 6 * MIB, 31 },
	};

	(void)state;
	for (unsigned int i = 0; i < syn_array_size(sizes); i++) {
		struct syn_swap_super super;
		struct syn_disk *disk;
		struct stat st;

		assert_int_equal(
			syn_swapfile_init(path, sizes[i].bytes, true, why), 0);
		super_get(&super);
		assert_int_equal(super.segment_bytes, sizes[i].segment_bytes);
		assert_int_equal(super.nr_segments, sizes[i].nr_segments);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, super.bytes);
		assert_true((uint64_t)st.st_size <= sizes[i].bytes);
		/* Written, not only promised; and nobody else's business. */
		assert_true((uint64_t)st.st_blocks * 512 >= super.bytes);
		assert_int_equal(st.st_mode & 0777, 0600);
		assert_int_equal(syn_swapfile_open(path, NULL, &disk, why), 0);
		assert_int_equal(disk->nr_segments, sizes[i].nr_segments);
		assert_int_equal(disk->segment_bytes, sizes[i].segment_bytes);
		disk->ops->close(disk);
	}
	assert_int_equal(syn_swapfile_init(path, 2 * MIB, true, why), -ERANGE);
	assert_int_equal(syn_swapfile_init(path, UINT64_MAX, true, why),
			 -ERANGE);
	assert_non_null(strstr(why, "expected a size"));
	/* What was there is there: the size was wrong before all else. */
	expect_open();
}

static void test_identities_differ(void **state)
{
	struct syn_swap_super one;
	struct syn_swap_super two;

	(void)state;
	super_get(&one);
	assert_int_equal(syn_swapfile_init(path, 8 * MIB, true, why), 0);
	super_get(&two);
	assert_memory_not_equal(one.file, two.file, sizeof(one.file));
	assert_memory_equal(one.machine, two.machine, sizeof(one.machine));
}

static void text_put(const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void test_init_overwrites_nothing(void **state)
{
	struct syn_swap_super before;
	struct syn_swap_super after;
	struct stat st;

	(void)state;
	super_get(&before);
	assert_int_equal(syn_swapfile_init(path, 8 * MIB, false, why), -EEXIST);
	assert_non_null(strstr(why, "is a swap file already"));
	assert_non_null(strstr(why, "--force"));
	super_get(&after);
	assert_memory_equal(&before, &after, sizeof(before));
	text_put("my thesis");
	assert_int_equal(syn_swapfile_init(path, 8 * MIB, false, why), -EEXIST);
	assert_non_null(strstr(why, "is there already"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 9);
	assert_int_equal(syn_swapfile_init(path, 8 * MIB, true, why), 0);
	expect_open();
	/* Neither is what is in use, whatever is said. */
	{
		struct syn_disk *disk;

		assert_int_equal(syn_swapfile_open(path, NULL, &disk, why), 0);
		assert_int_equal(syn_swapfile_init(path, 4 * MIB, true, why),
				 -EBUSY);
		disk->ops->close(disk);
	}
	expect_open();
}

static void test_no_file(void **state)
{
	(void)state;
	(void)unlink(path);
	expect_refused(-ENOENT, "synapsectl swap init");
	assert_int_equal(mkdir(path, 0700), 0);
	expect_refused(-EINVAL, "not a regular file");
	assert_int_equal(syn_swapfile_init(path, 8 * MIB, true, why), -EINVAL);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused(-EINVAL, "not a regular file");
	assert_int_equal(
		syn_swapfile_init("/nowhere/at/all", 8 * MIB, false, why),
		-ENOENT);
}

/* ---- bad files ---------------------------------------------------------- */

static void test_foreign(void **state)
{
	(void)state;
	text_put("");
	expect_refused(-EMEDIUMTYPE, "not a swap file");
	text_put("my thesis");
	expect_refused(-EMEDIUMTYPE, "not a swap file");
	assert_int_equal(truncate(path, (off_t)(8 * MIB)), 0);
	expect_refused(-EMEDIUMTYPE, "synapsectl swap init");
}

static void test_other_version(void **state)
{
	struct syn_swap_super super;

	(void)state;
	super_get(&super);
	super.version = 2;
	super_put(&super);
	expect_refused(-EPROTONOSUPPORT, "format 2, this is for 1");
	expect_refused(-EPROTONOSUPPORT, "synapsectl swap init");
}

static void test_other_machine(void **state)
{
	struct syn_swap_super super;

	(void)state;
	super_get(&super);
	super.machine[1]++;
	syn_swap_seal(&super);
	super_put(&super);
	expect_refused(-EXDEV, "another machine");
	expect_refused(-EXDEV, "synapsectl swap init");
}

static void test_other_size(void **state)
{
	(void)state;
	assert_int_equal(truncate(path, (off_t)(4 * MIB)), 0);
	expect_refused(-ERANGE, "bytes and has");
	assert_int_equal(truncate(path, (off_t)(64 * MIB)), 0);
	expect_refused(-ERANGE, "synapsectl swap init");
	assert_int_equal(truncate(path, 4096), 0);
	expect_refused(-ERANGE, "bytes and has");
	assert_int_equal(truncate(path, 100), 0);
	expect_refused(-ERANGE, "bytes and has 100");
	assert_int_equal(truncate(path, 20), 0);
	expect_refused(-EBADMSG, "damaged");
}

static void test_other_geometry(void **state)
{
	struct syn_swap_super good;
	struct syn_swap_super bad[7];
	unsigned int nr = 0;

	(void)state;
	super_get(&good);
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		bad[i] = good;
	bad[nr++].block_bytes = 512;
	bad[nr++].nr_segments++;
	bad[nr++].nr_segments = 0;
	bad[nr++].segment_bytes = 0;
	bad[nr++].segment_bytes += 4096;
	bad[nr++].bytes = UINT64_MAX;
	bad[nr++].bytes = 0;
	for (unsigned int i = 0; i < nr; i++) {
		syn_swap_seal(&bad[i]);
		super_put(&bad[i]);
		expect_refused(-ERANGE, "geometry");
	}
	/* A product that wraps around to what is wanted. */
	good.nr_segments = 1u << 15;
	good.segment_bytes += 1ull << 49;
	syn_swap_seal(&good);
	super_put(&good);
	expect_refused(-ERANGE, "geometry");
}

/* Any bit of the first block. */
static void test_damaged(void **state)
{
	struct syn_swap_super good;

	(void)state;
	super_get(&good);
	for (unsigned int bit = 0; bit < SYN_DISK_BLOCK * 8; bit += 37) {
		struct syn_swap_super bad = good;
		struct syn_disk *disk;
		int r;

		((unsigned char *)&bad)[bit / 8] ^=
			(unsigned char)(1u << bit % 8);
		super_put(&bad);
		r = syn_swapfile_open(path, NULL, &disk, why);
		assert_true(r == -EBADMSG || (bit < 96 && r < 0));
	}
	super_put(&good);
	expect_open();
}

/* What another process has known is enough where the device does not say it. */
static void test_unreadable(void **state)
{
	struct syn_disk *disk;
	struct syn_disk was;
	unsigned int recalled = 0;
	unsigned int nth = 0;
	bool hit;
	int r;

	(void)state;
	assert_int_equal(syn_swapfile_open(path, NULL, &disk, why), 0);
	was = (struct syn_disk){
		.nr_segments = disk->nr_segments,
		.segment_bytes = disk->segment_bytes,
		.file = { disk->file[0], disk->file[1] },
	};
	disk->ops->close(disk);
	do {
		syn_fault_arm(++nth);
		r = syn_swapfile_open(path, &was, &disk, why);
		hit = syn_fault_disarm();
		assert_true(!r || (hit && why[0]));
		if (r)
			continue;
		recalled += !!strstr(why, "its first block");
		assert_true(hit || !why[0]);
		assert_int_equal(disk->nr_segments, was.nr_segments);
		assert_int_equal(disk->segment_bytes, was.segment_bytes);
		assert_memory_equal(disk->file, was.file, sizeof(was.file));
		disk->ops->close(disk);
	} while (hit);
	assert_int_equal(recalled, 1);
}

static void test_locked(void **state)
{
	struct syn_disk *disk;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(syn_swapfile_open(path, NULL, &disk, why), 0);
	pid = fork_child();
	if (pid == 0) {
		struct syn_disk *other;

		_exit(syn_swapfile_open(path, NULL, &other, why) == -EBUSY &&
				      strstr(why, "in use")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	disk->ops->close(disk);
	/* Once it is closed it is free at once. */
	expect_open();
}

/* In a child, because a uid once given up does not come back. */
static void test_no_permission(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (getuid() != 0)
		skip();
	assert_int_equal(chmod(dir, 0755), 0);
	pid = fork_child();
	if (pid == 0) {
		struct syn_disk *disk;

		if (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0)
			_exit(3);
		_exit(syn_swapfile_open(path, NULL, &disk, why) == -EACCES &&
				      strstr(why, "Permission denied")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(chmod(dir, 0700), 0);
	assert_int_equal(status, 0);
}

/* ---- no room ------------------------------------------------------------ */

static void test_file_size_limit(void **state)
{
	struct rlimit limit;
	struct rlimit old;
	int r;

	(void)state;
	(void)unlink(path);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 6 * MIB;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	r = syn_swapfile_init(path, 16 * MIB, false, why);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	(void)signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(r, -ENOSPC);
	/* Nothing is left of it. */
	assert_int_equal(access(path, F_OK), -1);
}

/* 0, 77, or the line that failed. */
static int full_filesystem(void)
{
	char inner[96];
	struct syn_disk *disk;
	int fd;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, "tmpfs", 0, "size=8m") < 0)
		return TEST_SKIP;
	(void)snprintf(inner, sizeof(inner), "%s/x", dir);
	fd = open(inner, O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		/* A kernel whose tmpfs has no direct I/O. */
		if (syn_swapfile_init(path, 4 * MIB, false, why) != -EOPNOTSUPP)
			return __LINE__ & 0x3f;
		return strstr(why, "no direct I/O") ? 0 : 1;
	}
	(void)close(fd);
	if (syn_swapfile_init(path, 16 * MIB, false, why) != -ENOSPC)
		return 1;
	if (access(path, F_OK) == 0 || !strstr(why, "No space"))
		return 2;
	if (syn_swapfile_init(path, 4 * MIB, false, why))
		return 3;
	if (syn_swapfile_open(path, NULL, &disk, why))
		return 4;
	disk->ops->close(disk);
	return 0;
}

static void test_full_filesystem(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork_child();
	if (pid == 0)
		_exit(full_filesystem());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status == TEST_SKIP << 8)
		skip();
	assert_int_equal(status, 0);
}

/* ---- fail-nth ----------------------------------------------------------- */

static void test_init_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;
	int r;

	(void)state;
	(void)unlink(path);
	do {
		int before = test_count_fds();

		why[0] = '\0';
		syn_fault_arm(++nth);
		r = syn_swapfile_init(path, 8 * MIB, false, why);
		hit = syn_fault_disarm();
		assert_int_equal(!r, !hit);
		assert_true(!r || why[0]);
		assert_int_equal(access(path, F_OK) == 0, !r);
		assert_int_equal(test_count_fds(), before);
	} while (r);
	assert_true(nth > 8);
	expect_open();
}

/* ---- check -------------------------------------------------------------- */

#define SLOT_BYTES 16384u
#define SLOTS	   100u

static void wait_done(struct syn_disk *disk, unsigned int nr)
{
	struct syn_disk_done done;

	for (unsigned int got = 0; got < nr;) {
		if (!disk->ops->reap(disk, &done, 1)) {
			(void)usleep(100);
			continue;
		}
		assert_int_equal(done.status, 0);
		got++;
	}
}

/* Segment 0 full of slots, every third h4, every fourth sealed. */
static void slots_write(void)
{
	static struct syn_disk_head head[SLOTS];
	struct syn_mem mem = { .id = 1, .bytes = SLOT_BYTES };
	struct syn_disk_io io;
	struct syn_disk *disk;
	void *addr = NULL;

	assert_int_equal(posix_memalign(&addr, 4096, SLOT_BYTES), 0);
	memset(addr, 7, SLOT_BYTES);
	mem.addr = addr;
	assert_int_equal(syn_swapfile_open(path, NULL, &disk, why), 0);
	io = (struct syn_disk_io){
		.op = SYN_DISK_FORMAT,
		.frame_bytes = SLOT_BYTES,
		.frame = syn_disk_frames(disk, SLOT_BYTES),
		.segment_seq = 1,
	};
	assert_int_equal(disk->ops->submit(disk, &io, 1), 0);
	wait_done(disk, 1);
	for (uint32_t i = 0; i < SLOTS; i++) {
		head[i].codec = i % 3 ? SYN_CODEC_RAW16 : SYN_CODEC_H4;
		head[i].flags = i % 4 ? 0 : SYN_DISK_HEAD_SEALED;
		io.op = SYN_DISK_WRITE;
		io.frame = i;
		io.bytes = 10000;
		io.mem = &mem;
		io.head = &head[i];
		assert_int_equal(disk->ops->submit(disk, &io, 1), 0);
	}
	wait_done(disk, SLOTS);
	disk->ops->close(disk);
	free(addr);
}

static void byte_change(uint64_t at)
{
	unsigned char byte;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	(void)close(fd);
}

static void test_check(void **state)
{
	const struct syn_disk disk = { .nr_segments = 3,
				       .segment_bytes = 2 * MIB };
	uint32_t frames = syn_disk_frames(&disk, SLOT_BYTES);
	struct syn_swapfile_stats stats;

	(void)state;
	assert_int_equal(syn_swapfile_check(path, &stats, why), 0);
	assert_int_equal(stats.nr_segments, 3);
	assert_int_equal(stats.nr_cut, 0);
	assert_int_equal(stats.nr_valid, 0);
	slots_write();
	assert_int_equal(syn_swapfile_check(path, &stats, why), 0);
	assert_int_equal(stats.bytes, 4096 + 6 * MIB);
	assert_int_equal(stats.nr_cut, 1);
	assert_int_equal(stats.nr_slots, frames);
	assert_int_equal(stats.nr_valid, SLOTS);
	assert_int_equal(stats.nr_sealed, SLOTS / 4);
	assert_int_equal(stats.valid_bytes, SLOTS * 10000);
	assert_int_equal(stats.nr_codec[SYN_CODEC_H4], 34);
	assert_int_equal(stats.codec_bytes[SYN_CODEC_RAW16], 660000);
	assert_int_equal(
		stats.nr_stale + stats.nr_corrupt + stats.nr_unreadable, 0);
	/* One head, the data of another, and what is no slot's at all. */
	byte_change(syn_disk_head_at(&disk, 0, 5) + 100);
	byte_change(syn_disk_data_at(&disk, 0, 9, frames, SLOT_BYTES) + 9999);
	byte_change(syn_disk_data_at(&disk, 0, 11, frames, SLOT_BYTES) + 10000);
	assert_int_equal(syn_swapfile_check(path, &stats, why), 0);
	assert_int_equal(stats.nr_valid, SLOTS - 2);
	assert_int_equal(stats.nr_corrupt, 2);
}

static void test_check_fail_nth(void **state)
{
	struct syn_swapfile_stats stats;
	unsigned int nth = 0;
	bool hit;

	(void)state;
	slots_write();
	do {
		int before = test_count_fds();
		int r;

		why[0] = '\0';
		syn_fault_arm(++nth);
		r = syn_swapfile_check(path, &stats, why);
		hit = syn_fault_disarm();
		assert_true(hit || !r);
		assert_true(!r || why[0]);
		if (!r) {
			assert_int_equal(stats.nr_corrupt, 0);
			assert_int_equal(stats.nr_valid + stats.nr_unreadable,
					 SLOTS);
		}
		assert_int_equal(test_count_fds(), before);
	} while (hit);
	assert_true(nth > 100);
}

#define swap_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		swap_test(test_geometry),
		swap_test(test_identities_differ),
		swap_test(test_init_overwrites_nothing),
		swap_test(test_no_file),
		swap_test(test_foreign),
		swap_test(test_other_version),
		swap_test(test_other_machine),
		swap_test(test_other_size),
		swap_test(test_other_geometry),
		swap_test(test_damaged),
		swap_test(test_unreadable),
		swap_test(test_locked),
		swap_test(test_no_permission),
		swap_test(test_file_size_limit),
		swap_test(test_full_filesystem),
		swap_test(test_init_fail_nth),
		swap_test(test_check),
		swap_test(test_check_fail_nth),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, group_setup, group_teardown) ? 1
									  : 0;
}
