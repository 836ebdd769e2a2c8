/* SPDX-License-Identifier: Apache-2.0 */
/* A device of any make with an extent of each tier. */
#include "test/unit/dev-bench.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include <synapse/abi.h>

#include "core/base/base.h"

struct bench bench;

int keep(void *ctx, uint32_t id, int fd)
{
	struct keeper *keeper = ctx;

	if (keeper->error)
		return keeper->error;
	assert_true(fcntl(fd, F_GETFD) >= 0);
	keeper->nr_kept++;
	keeper->last_id = id;
	return 0;
}

void drop(void *ctx, uint32_t id)
{
	struct keeper *keeper = ctx;

	keeper->nr_dropped++;
	keeper->last_id = id;
}

int dev_setup(void **state)
{
	(void)state;
	memset(&bench, 0, sizeof(bench));
	bench.nr_fds = test_count_fds();
	if (maker.open(&bench.dev, 0, &bench.keeper))
		return -1;
	if (bench.dev->ops->mem_new(bench.dev, 1, SYN_TIER_HBM, EXTENT_BYTES,
				    &bench.hbm))
		return -1;
	return bench.dev->ops->mem_new(bench.dev, 2, SYN_TIER_HOST,
				       EXTENT_BYTES, &bench.host);
}

int dev_teardown(void **state)
{
	(void)state;
	bench.dev->ops->mem_free(bench.dev, &bench.hbm);
	bench.dev->ops->mem_free(bench.dev, &bench.host);
	bench.dev->ops->close(bench.dev);
	return test_count_fds() == bench.nr_fds &&
			       bench.keeper.nr_kept == bench.keeper.nr_dropped
		       ? 0
		       : -1;
}

void fill(unsigned char *to, size_t bytes, unsigned int seed)
{
	for (size_t i = 0; i < bytes; i++) {
		seed = seed * 1664525u + 1013904223u;
		to[i] = (unsigned char)(seed >> 24);
	}
}

void hbm_fill(unsigned int seed)
{
	fill(bench.shadow, EXTENT_BYTES, seed);
	maker.write(&bench.hbm, 0, bench.shadow, EXTENT_BYTES);
}

struct syn_copy copy_page(unsigned int page, uint32_t *sums)
{
	return (struct syn_copy){
		.cookie = 100 + page,
		.src = &bench.hbm,
		.dst = &bench.host,
		.src_off = page * PAGE_BYTES,
		.dst_off = (PAGES - 1 - page) * PAGE_BYTES,
		.bytes = PAGE_BYTES,
		.tile_bytes = TILE_BYTES,
		.sums = sums,
	};
}

bool event_is_up(int timeout_ms)
{
	struct pollfd fd = { .fd = bench.dev->ops->event_fd(bench.dev),
			     .events = POLLIN };

	return poll(&fd, 1, timeout_ms) == 1;
}

void reap_exactly(struct syn_copy_done *done, unsigned int nr)
{
	unsigned int got = 0;

	while (got < nr) {
		assert_true(event_is_up(-1));
		got += bench.dev->ops->reap(bench.dev, done + got, nr - got);
	}
	assert_false(event_is_up(0));
}

void done_sort(struct syn_copy_done *done, unsigned int nr)
{
	for (unsigned int i = 1; i < nr; i++)
		for (unsigned int j = i;
		     j && done[j].cookie < done[j - 1].cookie; j--) {
			struct syn_copy_done swap = done[j];

			done[j] = done[j - 1];
			done[j - 1] = swap;
		}
}
