/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of any make with an extent of each tier, a keeper that counts, and
 * the contract of core/dev.h as tests.
 *
 * Host extents are seen by this process; those of HBM are reached by the
 * maker's calls only, so each has a shadow here.
 */
#ifndef SYN_TEST_UNIT_DEV_BENCH_H
#define SYN_TEST_UNIT_DEV_BENCH_H

#include <stdbool.h>

#include "core/dev.h"
#include "test/test.h"

#define EXTENT_BYTES (2u << 20)
#define PAGE_BYTES   (64u << 10)
#define TILE_BYTES   (16u << 10)
#define PAGES	     (EXTENT_BYTES / PAGE_BYTES)
#define TILES	     (PAGE_BYTES / TILE_BYTES)

struct keeper {
	unsigned int nr_kept;
	unsigned int nr_dropped;
	uint32_t last_id;
	int error;
};

/**
 * struct dev_maker - the device under test.
 * @open:	with @workers threads, 0: as it likes, and @keeper, NULL: none.
 * @write:	bytes into an extent ...
 * @read:	... and out of it.
 */
struct dev_maker {
	int (*open)(struct syn_dev **ret, unsigned int workers,
		    struct keeper *keeper);
	void (*write)(const struct syn_mem *mem, uint64_t at, const void *from,
		      uint64_t bytes);
	void (*read)(const struct syn_mem *mem, uint64_t at, void *to,
		     uint64_t bytes);
};

/* The program's own. */
extern const struct dev_maker maker;

struct bench {
	struct syn_dev *dev;
	struct syn_mem hbm;
	struct syn_mem host;
	unsigned char shadow[EXTENT_BYTES]; /* of hbm */
	struct keeper keeper;
	int nr_fds;
};

extern struct bench bench;

int keep(void *ctx, uint32_t id, int fd);
void drop(void *ctx, uint32_t id);

int dev_setup(void **state);
int dev_teardown(void **state);

/* Of a host extent. */
static inline unsigned char *bytes_of(const struct syn_mem *mem)
{
	return mem->addr;
}

void fill(unsigned char *to, size_t bytes, unsigned int seed);
/* The shadow of bench.hbm, and it. */
void hbm_fill(unsigned int seed);
/* From HBM down, to the other end. */
struct syn_copy copy_page(unsigned int page, uint32_t *sums);
bool event_is_up(int timeout_ms);
void reap_exactly(struct syn_copy_done *done, unsigned int nr);
/* They end in any order, each once. */
void done_sort(struct syn_copy_done *done, unsigned int nr);

/* Groups of tests; each returns the number that failed. */
int dev_contract(void);
int dev_contract_encode(void);

#define dev_test(f) cmocka_unit_test_setup_teardown(f, dev_setup, dev_teardown)

#endif
