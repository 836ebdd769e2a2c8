/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of core/disk.h: one disk at a time, on a file or simulated, an extent
 * to read and write, and a scan.  Whatever fails fails the test.
 */
#ifndef SYN_TEST_UNIT_DISK_HARNESS_H
#define SYN_TEST_UNIT_DISK_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dev.h"
#include "core/disk.h"
#include "core/io/simdisk.h"
#include "core/io/swapfile.h"
#include "test/test.h"

#define SEGMENT_BYTES (2u << 20)
#define SEGMENTS      15u
#define FILE_BYTES    (32u << 20)
#define FRAME_BYTES   (64u << 10)
#define FRAMES	      30u /* of these in a segment */
#define BIG_BYTES     (1536u << 10)
#define MEM_BYTES     (8u << 20)
#define SLOTS_MAX     1024u

/**
 * struct bench - one backend with its medium.
 * @sim:	the simulated medium, NULL: the file is used.
 * @disk:	open on it.
 * @mem:	an extent to read and write.
 * @head:	heads of writes under way, by cookie.
 * @nr_fds:	before all of it.
 */
extern struct bench {
	struct syn_simdisk *sim;
	struct syn_disk *disk;
	struct syn_mem mem;
	struct syn_disk_head *head;
	int nr_fds;
} bench;

/* Of the file. */
extern char path[64];

/**
 * struct found - what a scan has told.
 * @nr_cut:	segments.
 * @nr:		heads.
 * @head:	these.
 */
extern struct found {
	unsigned int nr_cut;
	unsigned int nr;
	struct syn_disk_head head[SLOTS_MAX];
} found;

uint64_t random_next(void);
unsigned char *mem_at(uint64_t off);
void disk_open(void);
void disk_close(void);
void disk_reopen(void);
int file_setup(void **state);
int sim_setup(void **state);
int teardown(void **state);
bool event_is_up(int timeout_ms);
void reap_all(struct syn_disk_done *ret, unsigned int nr);
struct syn_disk_done run(const struct syn_disk_io *io);
struct syn_disk_io format_io(uint32_t segment, uint32_t frame_bytes,
			     uint64_t sequence);
void format(uint32_t segment, uint32_t frame_bytes, uint64_t sequence);
struct syn_disk_io wipe_io(uint32_t segment, uint32_t frame);
struct syn_disk_io write_io(uint64_t cookie, uint32_t segment, uint32_t frame,
			    uint64_t bytes, uint64_t mem_off);
struct syn_disk_io read_io(uint32_t segment, uint32_t frame, uint64_t bytes,
			   uint32_t crc, uint64_t mem_off);
void fill(void *to, size_t bytes, uint64_t seed);
uint32_t write_slot(uint32_t segment, uint32_t frame, uint64_t bytes,
		    uint64_t seed);
int read_slot(uint32_t segment, uint32_t frame, uint64_t bytes, uint32_t crc);
int on_segment(void *ctx, uint32_t segment, uint32_t nr_frames,
	       uint32_t frame_bytes, uint64_t segment_seq);
int on_head(void *ctx, const struct syn_disk_head *head);
void scan(void);
const struct syn_disk_head *found_at(uint32_t segment, uint32_t frame);
int group_setup(void **state);
int group_teardown(void **state);

#define on_file(f)                                                             \
	{                                                                      \
		"file: " #f, f, file_setup, teardown, NULL                     \
	}
#define on_sim(f)                                                              \
	{                                                                      \
		"sim: " #f, f, sim_setup, teardown, NULL                       \
	}
#define on_both(f) on_file(f), on_sim(f)

#endif
