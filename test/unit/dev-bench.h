/* SPDX-License-Identifier: Apache-2.0 */
/* A host-emulated device with an extent of each tier, and a keeper that counts. */
#ifndef SYN_TEST_UNIT_DEV_BENCH_H
#define SYN_TEST_UNIT_DEV_BENCH_H

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/dev.h"
#include "kernels/dev-host.h"
#include "numa/hostmem.h"
#include "test/test.h"

#define EXTENT_BYTES (1u << 20)

struct keeper {
	unsigned int nr_kept;
	unsigned int nr_dropped;
	uint32_t last_id;
	int error;
};

struct bench {
	struct syn_dev *dev;
	struct syn_mem hbm;
	struct syn_mem host;
	struct keeper keeper;
	int nr_fds;
};

static struct bench bench;

static inline int keep(void *ctx, uint32_t id, int fd)
{
	struct keeper *keeper = ctx;

	if (keeper->error)
		return keeper->error;
	assert_true(fcntl(fd, F_GETFD) >= 0);
	keeper->nr_kept++;
	keeper->last_id = id;
	return 0;
}

static inline void drop(void *ctx, uint32_t id)
{
	struct keeper *keeper = ctx;

	keeper->nr_dropped++;
	keeper->last_id = id;
}

static const struct syn_dev_host_config config = {
	.keep = keep,
	.drop = drop,
	.keep_ctx = &bench.keeper,
};

static inline int dev_setup(void **state)
{
	memset(&bench, 0, sizeof(bench));
	bench.nr_fds = test_count_fds();
	if (syn_dev_host_open(&bench.dev, &config))
		return -1;
	if (bench.dev->ops->mem_new(bench.dev, 1, SYN_TIER_HBM, EXTENT_BYTES,
				    &bench.hbm))
		return -1;
	return bench.dev->ops->mem_new(bench.dev, 2, SYN_TIER_HOST,
				       EXTENT_BYTES, &bench.host);
}

static inline int dev_teardown(void **state)
{
	bench.dev->ops->mem_free(bench.dev, &bench.hbm);
	bench.dev->ops->mem_free(bench.dev, &bench.host);
	bench.dev->ops->close(bench.dev);
	return test_count_fds() == bench.nr_fds &&
			       bench.keeper.nr_kept == bench.keeper.nr_dropped
		       ? 0
		       : -1;
}

static inline unsigned char *bytes_of(const struct syn_mem *mem)
{
	const struct syn_hostmem *host = mem->priv;

	return host->addr;
}

static inline void fill(unsigned char *to, size_t bytes, unsigned int seed)
{
	for (size_t i = 0; i < bytes; i++) {
		seed = seed * 1664525u + 1013904223u;
		to[i] = (unsigned char)(seed >> 24);
	}
}

static inline bool event_is_up(int timeout_ms)
{
	struct pollfd fd = { .fd = bench.dev->ops->event_fd(bench.dev),
			     .events = POLLIN };

	return poll(&fd, 1, timeout_ms) == 1;
}

static inline void reap_exactly(struct syn_copy_done *done, unsigned int nr)
{
	unsigned int got = 0;

	while (got < nr) {
		assert_true(event_is_up(-1));
		got += bench.dev->ops->reap(bench.dev, done + got, nr - got);
	}
	assert_false(event_is_up(0));
}

#define dev_test(f) cmocka_unit_test_setup_teardown(f, dev_setup, dev_teardown)

#endif
