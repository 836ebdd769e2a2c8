/* SPDX-License-Identifier: Apache-2.0 */
/* Kept memory that another program has laid out: gone on with, copied, refused. */
#include "tools/synapsed/memory.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/conn.h"
#include "test/test.h"
#include "tools/synapsed/keep-process.h"

#define MAGIC	0x6b657074u
#define PEERS	40u
#define PAGES	200000u /* more than are ever written */
#define WRITTEN 3u	/* of them, far from each other */
#define STRIDE	66000u

/* What an older program had, and what this one has. */
static const struct syn_records older[SYN_MEMORY_PARTS] = {
	{ MAGIC, 1, 1, 2, 0, { { 1, 416 }, { PEERS, 240 } } },
	{ MAGIC, 1, 1, 2, 0, { { 1, 824 }, { PAGES, 112 } } },
};
static const struct syn_records newer[SYN_MEMORY_PARTS] = {
	{ MAGIC, 1, 2, 2, 0, { { 1, 424 }, { PEERS, 264 } } },
	{ MAGIC, 1, 2, 3, 0, { { 1, 824 }, { PAGES, 120 }, { 7, 8 } } },
};

/**
 * struct fixture - a worker that begins, and the test for its keeper.
 * @process:	the worker's end.
 * @sock:	the keeper's.
 * @fd:		of the memory that is held, a duplicate.
 * @old:	it, mapped.
 * @memory:	what the worker makes of it.
 * @nr_fds:	descriptors before anything was there.
 */
struct fixture {
	struct syn_keep_process process;
	int sock;
	int fd;
	struct syn_memory_map old;
	struct syn_memory memory;
	int nr_fds;
};

static unsigned char *record(const struct syn_memory_map *map,
			     const struct syn_records *records, uint32_t part,
			     uint32_t array, uint32_t i)
{
	return (unsigned char *)map->base + map->at[part] +
	       syn_records_at(&records[part], array) +
	       i * records[part].array[array].bytes;
}

static void old_fill(struct fixture *f)
{
	uint32_t i;

	for (i = 0; i < SYN_MEMORY_PARTS; i++)
		memcpy(f->old.base + f->old.at[i], &older[i], sizeof(older[i]));
	for (i = 0; i < PEERS; i++)
		memset(record(&f->old, older, SYN_MEMORY_SERVER, 1, i),
		       (int)i + 1, 240);
	for (i = 0; i < WRITTEN; i++)
		memset(record(&f->old, older, SYN_MEMORY_CORE, 1, i * STRIDE),
		       (int)i + 1, 112);
}

static void old_make(struct fixture *f)
{
	int fds[SYN_FDS_MAX];
	uint32_t i;
	void *base;

	for (i = 0; i < SYN_MEMORY_PARTS; i++) {
		f->old.at[i] = f->old.bytes;
		f->old.bytes +=
			syn_align_up(syn_records_bytes(&older[i]), 4096);
	}
	assert_int_equal(syn_conn_segment_new("old", f->old.bytes, &f->fd), 0);
	assert_int_equal(syn_conn_segment_map(f->fd, f->old.bytes, 1, &base),
			 0);
	f->old.base = base;
	old_fill(f);
	for (i = 0; i < SYN_FDS_MAX; i++)
		fds[i] = -1;
	fds[0] = dup(f->fd);
	assert_int_equal(
		syn_hold_add(&f->process.keep.hold, SYN_KEEP_MEMORY, 0, fds),
		0);
}

static int setup(void **state)
{
	static struct fixture f;
	int pair[2];

	f = (struct fixture){ .nr_fds = test_count_fds(), .memory.fd = -1 };
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	syn_keep_process_init(&f.process, pair[0]);
	f.sock = pair[1];
	old_make(&f);
	memcpy(f.memory.want, newer, sizeof(newer));
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	syn_memory_close(&f->memory);
	syn_hold_end(&f->process.keep.hold, "");
	(void)munmap(f->old.base, f->old.bytes);
	syn_closep(&f->fd);
	syn_closep(&f->process.sock);
	syn_closep(&f->sock);
	assert_int_equal(test_count_fds(), f->nr_fds);
	return 0;
}

static uint64_t bytes_used(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static bool same_file(int a, int b)
{
	struct stat st[2];

	assert_int_equal(fstat(a, &st[0]), 0);
	assert_int_equal(fstat(b, &st[1]), 0);
	return st[0].st_ino == st[1].st_ino;
}

static void filled(const unsigned char *rec, uint64_t bytes, uint64_t all,
		   int with)
{
	uint64_t i;

	for (i = 0; i < all; i++)
		assert_int_equal(rec[i], i < bytes ? with : 0);
}

/* All that was kept, and nothing else. */
static void memory_check(const struct fixture *f)
{
	const struct syn_memory_map *map = &f->memory.map;
	uint32_t i;

	for (i = 0; i < PEERS; i++)
		filled(record(map, newer, SYN_MEMORY_SERVER, 1, i), 240, 264,
		       (int)i + 1);
	for (i = 0; i < WRITTEN; i++)
		filled(record(map, newer, SYN_MEMORY_CORE, 1, i * STRIDE), 112,
		       120, (int)i + 1);
	filled(record(map, newer, SYN_MEMORY_CORE, 2, 0), 0, 7 * 8, 0);
	for (i = 0; i < SYN_MEMORY_PARTS; i++)
		assert_memory_equal(syn_memory_part(&f->memory, i), &newer[i],
				    sizeof(newer[i]));
}

/* ---- what is taken ------------------------------------------------------ */

static void test_new(void **state)
{
	struct fixture *f = *state;
	struct syn_keep_msg ack = {
		.msg = { .type = SYN_KEEP_ACK, .size = sizeof(ack) },
	};
	struct syn_keep_msg put;
	int fds[SYN_FDS_MAX];

	assert_int_equal(syn_conn_send(f->sock, &ack.msg, NULL, 0), 0);
	assert_int_equal(syn_memory_new(&f->memory, &f->process.keep), 0);
	assert_int_equal(syn_conn_recv(f->sock, &put, sizeof(put), fds),
			 sizeof(put));
	assert_int_equal(put.msg.type, SYN_KEEP_PUT);
	assert_int_equal(put.kind, SYN_KEEP_MEMORY);
	assert_int_equal(f->memory.fd, -1);
	assert_true(syn_align_up(f->memory.map.bytes, 4096) ==
		    f->memory.map.bytes);
	syn_hold_close(fds);
}

static void test_same(void **state)
{
	struct fixture *f = *state;
	char why[SYN_MEMORY_WHY_BYTES] = "";

	memcpy(f->memory.want, older, sizeof(older));
	assert_int_equal(syn_memory_adopt(&f->memory, &f->process.keep, why),
			 0);
	f->old.base[5000]++;
	assert_memory_equal(f->memory.map.base, f->old.base, 100000);
	/* Nobody answers: nothing is asked. */
	assert_int_equal(syn_memory_hand_over(&f->memory, &f->process.keep), 0);
}

/* It is copied, and the old one is as it was until all is there. */
static void test_older(void **state)
{
	struct fixture *f = *state;
	char why[SYN_MEMORY_WHY_BYTES] = "";
	uint64_t used = bytes_used(f->fd);
	struct syn_keep_msg ack = {
		.msg = { .type = SYN_KEEP_ACK, .size = sizeof(ack) },
	};
	struct syn_keep_msg replace;
	int fds[SYN_FDS_MAX];

	assert_int_equal(syn_memory_adopt(&f->memory, &f->process.keep, why),
			 0);
	assert_true(f->memory.fd >= 0);
	assert_false(same_file(f->memory.fd, f->fd));
	/* Before anything is looked at: that would take room, too. */
	assert_int_equal(bytes_used(f->fd), used);
	assert_in_range(bytes_used(f->memory.fd), used, 2 * used);
	memory_check(f);
	for (uint32_t i = 0; i < SYN_MEMORY_PARTS; i++)
		assert_memory_equal(f->old.base + f->old.at[i], &older[i],
				    sizeof(older[i]));
	assert_int_equal(recv(f->sock, &replace, 1, MSG_DONTWAIT), -1);
	assert_int_equal(syn_conn_send(f->sock, &ack.msg, NULL, 0), 0);
	assert_int_equal(syn_memory_hand_over(&f->memory, &f->process.keep), 0);
	assert_int_equal(syn_conn_recv(f->sock, &replace, sizeof(replace), fds),
			 sizeof(replace));
	assert_int_equal(replace.msg.type, SYN_KEEP_REPLACE);
	assert_int_equal(replace.kind, SYN_KEEP_MEMORY);
	assert_int_equal(replace.id, 0);
	assert_int_equal(f->memory.fd, -1);
	memory_check(f);
	syn_hold_close(fds);
}

/* One part has grown, the other has not. */
static void test_one_part(void **state)
{
	struct fixture *f = *state;
	char why[SYN_MEMORY_WHY_BYTES] = "";

	f->memory.want[SYN_MEMORY_CORE] = older[SYN_MEMORY_CORE];
	assert_int_equal(syn_memory_adopt(&f->memory, &f->process.keep, why),
			 0);
	assert_true(f->memory.fd >= 0);
	for (uint32_t i = 0; i < PEERS; i++)
		filled(record(&f->memory.map, newer, SYN_MEMORY_SERVER, 1, i),
		       240, 264, (int)i + 1);
	for (uint32_t i = 0; i < WRITTEN; i++)
		filled(record(&f->memory.map, older, SYN_MEMORY_CORE, 1,
			      i * STRIDE),
		       112, 112, (int)i + 1);
}

/* ---- what is not -------------------------------------------------------- */

static void refused(struct fixture *f, int error, const char *expect)
{
	char why[SYN_MEMORY_WHY_BYTES] = "";
	int fds[SYN_FDS_MAX];

	for (uint32_t i = 0; i < SYN_FDS_MAX; i++)
		fds[i] = -1;
	assert_int_equal(syn_memory_adopt(&f->memory, &f->process.keep, why),
			 error);
	assert_string_equal(why, expect);
	assert_null(f->memory.map.base);
	assert_int_equal(f->memory.fd, -1);
	fds[0] = dup(f->fd);
	assert_int_equal(
		syn_hold_add(&f->process.keep.hold, SYN_KEEP_MEMORY, 0, fds),
		0);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct syn_records *core = (void *)(f->old.base + f->old.at[1]);
	struct syn_records *server = (void *)f->old.base;

	core->revision = 3;
	refused(f, -EPROTO,
		"records of pages: revision of a newer program (was 3, is 2)");
	core->revision = 1;
	core->array[1].bytes = 121;
	refused(f, -EPROTO,
		"records of pages: bytes of a record (was 121, is 120)");
	core->array[1].bytes = 112;
	core->array[1].nr++;
	refused(f, -EINVAL,
		"records of pages: number of records (was 200001, is 200000)");
	core->array[1].nr--;
	server->version++;
	refused(f, -EPROTO, "records of sessions: version (was 2, is 1)");
	server->version--;
	/* Then the other part would lie among the first one's records. */
	server->array[1].bytes = 100;
	refused(f, -EPROTO,
		"records of pages: magic "
		"(was 2387225703656530209, is 1801810036)");
}

/* The other part is not there, or not all of what says how it lies. */
static void test_cut_off(void **state)
{
	struct fixture *f = *state;
	uint64_t first = syn_records_bytes(&older[0]);
	uint64_t enough = f->old.at[1] + sizeof(struct syn_records);
	void *base;
	int fd;

	for (uint64_t bytes = first; bytes < enough; bytes += 8) {
		struct syn_hold *hold = &f->process.keep.hold;
		char why[SYN_MEMORY_WHY_BYTES] = "";

		assert_int_equal(syn_conn_segment_new("cut", bytes, &fd), 0);
		assert_int_equal(syn_conn_segment_map(fd, bytes, 1, &base), 0);
		memcpy(base, &older[0], sizeof(older[0]));
		(void)munmap(base, bytes);
		syn_closep(&hold->held[0].fd[0]);
		hold->held[0].fd[0] = fd;
		assert_int_equal(
			syn_memory_adopt(&f->memory, &f->process.keep, why),
			-EPROTO);
		assert_non_null(strstr(why, "records of pages: bytes"));
		refused(f, -ENOENT, "");
	}
}

static void test_fail_nth(void **state)
{
	struct fixture *f = *state;
	char why[SYN_MEMORY_WHY_BYTES];
	unsigned int nth = 0;
	bool failed;
	int r;

	do {
		int fds[SYN_FDS_MAX];

		for (uint32_t i = 0; i < SYN_FDS_MAX; i++)
			fds[i] = -1;
		fds[0] = dup(f->fd);
		syn_hold_drop(&f->process.keep.hold, SYN_KEEP_MEMORY, 0);
		assert_int_equal(syn_hold_add(&f->process.keep.hold,
					      SYN_KEEP_MEMORY, 0, fds),
				 0);
		syn_fault_arm(++nth);
		r = syn_memory_adopt(&f->memory, &f->process.keep, why);
		failed = syn_fault_disarm();
		assert_int_equal(r < 0, failed);
		syn_memory_close(&f->memory);
		f->memory.fd = -1;
	} while (r < 0);
	assert_true(nth > 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_new),	     TEST(test_same),	 TEST(test_older),
		TEST(test_one_part), TEST(test_refused), TEST(test_cut_off),
		TEST(test_fail_nth),
	};

	return test_main(tests);
}
