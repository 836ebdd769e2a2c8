/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages between tiers against memcpy.  All move the same page sizes in the same
 * scattered order over working sets larger than the caches, in batches that
 * take turns; the tier moves compute the sums of every tile besides.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/dev.h"
#include "kernels/dev-host.h"
#include "tools/bench/bench.h"

#define MOVE_SET_MIB	384u /* pages in host memory */
#define MOVE_WINDOW_MIB 128u /* slots in HBM */
#define MOVE_TILE_BYTES 32768u
#define MOVE_BATCH_MIB	8u
#define MOVE_MARGIN_MIB 64u
#define MOVE_BATCHES	(MOVE_SET_MIB / MOVE_BATCH_MIB)
#define MIB		((uint64_t)1 << 20)

enum { NAME_MEMCPY, NAME_DEMOTE, NAME_LOAD, NAME_PASS, NAME_NR };

/**
 * struct size - a page size and the names of its figures.
 * @page_bytes:	bytes of a page.
 * @name:	by NAME_*: medians of a batch, and all loads of a pass.
 * @ratio:	by NAME_*: against memcpy; NULL: none.
 */
struct size {
	uint64_t page_bytes;
	const char *name[NAME_NR];
	const char *ratio[NAME_NR];
};

static const struct size sizes[] = {
	{ 128u << 10,
	  { "memcpy, 128 KiB", "demote, 128 KiB", "load, 128 KiB",
	    "load, 128 KiB, whole pass" },
	  { NULL, "demote / memcpy, 128 KiB", "load / memcpy, 128 KiB",
	    NULL } },
	{ 2u << 20,
	  { "memcpy, 2 MiB", "demote, 2 MiB", "load, 2 MiB",
	    "load, 2 MiB, whole pass" },
	  { NULL, "demote / memcpy, 2 MiB", "load / memcpy, 2 MiB", NULL } },
};

/**
 * struct plant - two extents of the device, mapped, and an order of pages.
 * @dev:	the host-emulated device.
 * @mem:	[0] host, [1] HBM.
 * @map:	the same, mapped here.
 * @order:	the pages of the set in the order in which they are moved.
 * @sums:	of one batch.
 */
struct plant {
	struct syn_dev *dev;
	struct syn_mem mem[2];
	unsigned char *map[2];
	uint32_t *order;
	uint32_t *sums;
};

static int plant_extent(struct plant *plant, unsigned int i, uint32_t tier,
			uint64_t bytes)
{
	void *map;
	int r;

	r = plant->dev->ops->mem_new(plant->dev, i + 1, tier, bytes,
				     &plant->mem[i]);
	if (r < 0)
		return r;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, plant->mem[i].fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	plant->map[i] = map;
	memset(map, (int)i + 1, bytes);
	return 0;
}

static void plant_close(struct plant *plant)
{
	for (unsigned int i = 0; i < 2; i++) {
		if (plant->map[i])
			(void)munmap(plant->map[i], plant->mem[i].bytes);
		if (plant->mem[i].bytes)
			plant->dev->ops->mem_free(plant->dev, &plant->mem[i]);
	}
	if (plant->dev)
		plant->dev->ops->close(plant->dev);
	free(plant->order);
	free(plant->sums);
}

static int plant_open(struct plant *ret)
{
	const struct syn_dev_host_config config = { 0 };
	struct plant plant = { 0 };
	int r = -ENOMEM;

	plant.order = syn_alloc(MOVE_SET_MIB * MIB / sizes[0].page_bytes,
				sizeof(*plant.order));
	plant.sums = syn_alloc(MOVE_BATCH_MIB * MIB / MOVE_TILE_BYTES,
			       sizeof(*plant.sums));
	if (plant.order && plant.sums)
		r = syn_dev_host_open(&plant.dev, &config);
	if (r == 0)
		r = plant_extent(&plant, 0, SYN_TIER_HOST, MOVE_SET_MIB * MIB);
	if (r == 0)
		r = plant_extent(&plant, 1, SYN_TIER_HBM,
				 MOVE_WINDOW_MIB * MIB);
	if (r < 0) {
		plant_close(&plant);
		return syn_bench_fail("device", r);
	}
	*ret = plant;
	return 0;
}

/* Page @i of the order is in the host extent here, and goes to slot ... */
static uint64_t host_off(const struct plant *plant, uint64_t page_bytes,
			 uint32_t i)
{
	return plant->order[i] * page_bytes;
}

/* ... here: the slots in turn. */
static uint64_t slot_off(uint64_t page_bytes, uint32_t i)
{
	return i * page_bytes % (MOVE_WINDOW_MIB * MIB);
}

/* A batch of memcpy from host pages to slots, from page @first on. */
static void memcpy_batch(const struct plant *plant, uint64_t page_bytes,
			 uint32_t first, uint32_t nr)
{
	for (uint32_t i = first; i < first + nr; i++)
		memcpy(plant->map[1] + slot_off(page_bytes, i),
		       plant->map[0] + host_off(plant, page_bytes, i),
		       page_bytes);
}

static int copies_wait(struct syn_dev *dev, unsigned int nr)
{
	struct pollfd pfd = { .fd = dev->ops->event_fd(dev), .events = POLLIN };
	struct syn_copy_done done[SYN_BATCH_MAX];

	while (nr) {
		unsigned int got;

		(void)poll(&pfd, 1, -1);
		got = dev->ops->reap(dev, done, syn_array_size(done));
		for (unsigned int i = 0; i < got; i++)
			if (done[i].status)
				return done[i].status;
		nr -= syn_min(nr, got);
	}
	return 0;
}

/* A batch of the device's copies from slots to host pages, summed. */
static int demote_batch(struct plant *plant, uint64_t page_bytes,
			uint32_t first, uint32_t nr)
{
	struct syn_copy copies[SYN_BATCH_MAX];
	int r;

	for (uint32_t i = 0; i < nr; i++)
		copies[i] = (struct syn_copy){
			.src = &plant->mem[1],
			.dst = &plant->mem[0],
			.src_off = slot_off(page_bytes, first + i),
			.dst_off = host_off(plant, page_bytes, first + i),
			.bytes = page_bytes,
			.tile_bytes = MOVE_TILE_BYTES,
			.sums = plant->sums + i * page_bytes / MOVE_TILE_BYTES,
		};
	r = plant->dev->ops->copy(plant->dev, copies, nr);
	return r ? r : copies_wait(plant->dev, nr);
}

/**
 * struct train - the pages of a client, three times what its window holds.
 * @daemon:	the daemon.
 * @guest:	the client.
 * @pages:	@nr handles in random order.
 * @nr:		see there.
 */
struct train {
	struct syn_daemon daemon;
	struct syn_guest guest;
	uint64_t *pages;
	uint32_t nr;
};

static void train_close(struct train *train)
{
	syn_guest_close(&train->guest);
	syn_daemon_stop(&train->daemon);
	free(train->pages);
}

/* Leases, writes and commits everything: most of it leaves for host memory. */
static int train_fill(struct train *train, const uint32_t *order)
{
	struct syn_guest *guest = &train->guest;
	void *addr;
	int r = 0;

	for (uint32_t i = 0; i < train->nr && r == 0; i++) {
		uint64_t *page = &train->pages[order[i]];

		r = syn_lease(guest->window, 1, SYN_FOREVER, page);
		if (r == 0)
			r = syn_pin(guest->client, page, 1, &addr);
		if (r)
			break;
		memset(addr, (int)i, guest->space.page_bytes);
		syn_unpin(guest->client, guest->timeline, page, 1);
		r = syn_commit(guest->client, page, &guest->tokens, 1);
	}
	return r == 0 ? 0 : syn_bench_fail("fill", r);
}

static int train_open(const struct syn_bench *bench, uint64_t page_bytes,
		      const uint32_t *order, struct train *ret)
{
	const struct syn_daemon_opts opts = {
		.hbm_mib = MOVE_WINDOW_MIB + MOVE_MARGIN_MIB,
		.host_mib = MOVE_SET_MIB * 2,
		.max_pages = 65536,
	};
	struct train train = {
		.nr = (uint32_t)(MOVE_SET_MIB * MIB / page_bytes),
	};
	int r;

	train.pages = syn_alloc(train.nr, sizeof(*train.pages));
	if (!train.pages)
		return -ENOMEM;
	r = syn_daemon_start(bench, &opts, &train.daemon);
	if (r < 0) {
		free(train.pages);
		return r;
	}
	r = syn_guest_open(bench, &train.daemon, page_bytes, train.nr,
			   (uint32_t)(MOVE_WINDOW_MIB * MIB / page_bytes),
			   &train.guest);
	if (r == 0)
		r = train_fill(&train, order);
	if (r < 0) {
		train_close(&train);
		return r;
	}
	*ret = train;
	return 0;
}

/* A batch of loads, whatever the daemon has to do to make room included. */
static int load_batch(struct train *train, uint32_t first, uint32_t nr)
{
	struct syn_guest *guest = &train->guest;
	void *addr[SYN_BATCH_MAX];
	int r;

	r = syn_load(guest->client, &train->pages[first], nr, SYN_FOREVER,
		     addr);
	if (r == 0)
		syn_unpin(guest->client, guest->timeline, &train->pages[first],
			  nr);
	return r;
}

/* Batch @i of each in turn; times in ns by NAME_*. */
static int turn_run(struct plant *plant, struct train *train, uint32_t i,
		    uint32_t batch, double (*ret_ns)[MOVE_BATCHES])
{
	uint64_t page_bytes = train->guest.space.page_bytes;
	uint64_t at_ns[4];
	int r;

	at_ns[0] = syn_now_ns();
	memcpy_batch(plant, page_bytes, i * batch, batch);
	at_ns[1] = syn_now_ns();
	r = demote_batch(plant, page_bytes, i * batch, batch);
	at_ns[2] = syn_now_ns();
	if (r == 0)
		r = load_batch(train, i * batch, batch);
	at_ns[3] = syn_now_ns();
	for (unsigned int j = NAME_MEMCPY; j <= NAME_LOAD; j++)
		ret_ns[j][i] = (double)(at_ns[j + 1] - at_ns[j]);
	return r;
}

/* One pass over all pages: GB/s by NAME_*. */
static int pass_run(struct plant *plant, struct train *train, double *ret)
{
	uint64_t page_bytes = train->guest.space.page_bytes;
	uint32_t batch = (uint32_t)(MOVE_BATCH_MIB * MIB / page_bytes);
	double ns[NAME_NR - 1][MOVE_BATCHES], load_ns = 0, loaded;
	struct syn_ctl_status before, after;
	int r;

	r = syn_daemon_status(&train->daemon, &before);
	for (uint32_t i = 0; i < MOVE_BATCHES && r == 0; i++)
		r = turn_run(plant, train, i, batch, ns);
	if (r == 0)
		r = syn_daemon_status(&train->daemon, &after);
	if (r != 0)
		return syn_bench_fail("move", r);
	/* A page that was still resident cost nothing and must not count. */
	loaded = (double)(after.loads - before.loads) / train->nr;
	for (uint32_t i = 0; i < MOVE_BATCHES; i++)
		load_ns += ns[NAME_LOAD][i];
	for (unsigned int i = NAME_MEMCPY; i <= NAME_LOAD; i++)
		ret[i] = MOVE_BATCH_MIB * MIB / syn_median(ns[i], MOVE_BATCHES);
	ret[NAME_LOAD] *= loaded;
	ret[NAME_PASS] = MOVE_SET_MIB * MIB / load_ns * loaded;
	return 0;
}

static int move_run(struct syn_bench *bench, const struct size *size,
		    struct plant *plant, struct train *train)
{
	double gbps[NAME_NR];
	int r;

	r = pass_run(plant, train, gbps);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < NAME_NR; i++) {
		syn_figure_add(&bench->figures, "move", size->name[i], "GB/s",
			       SYN_GOAL_NONE, 0, gbps[i]);
		if (size->ratio[i])
			syn_figure_add(&bench->figures, "move", size->ratio[i],
				       "x", SYN_GOAL_AT_LEAST, 0.9,
				       gbps[i] / gbps[NAME_MEMCPY]);
	}
	return 0;
}

static int move_size(struct syn_bench *bench, const struct size *size,
		     struct plant *plant)
{
	uint32_t nr = (uint32_t)(MOVE_SET_MIB * MIB / size->page_bytes);
	struct train train;
	double first[NAME_NR];
	int r;

	syn_shuffle(plant->order, nr, size->page_bytes);
	r = train_open(bench, size->page_bytes, plant->order, &train);
	if (r < 0)
		return r;
	/* The first touch of each mapping is no part of a move. */
	r = pass_run(plant, &train, first);
	for (unsigned int run = 0; run < bench->runs && r == 0; run++)
		r = move_run(bench, size, plant, &train);
	train_close(&train);
	return r;
}

int syn_bench_move(struct syn_bench *bench)
{
	struct plant plant;
	int r;

	r = plant_open(&plant);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < syn_array_size(sizes) && r == 0; i++)
		r = move_size(bench, &sizes[i], &plant);
	plant_close(&plant);
	return r;
}
