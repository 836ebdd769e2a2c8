/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/cuda/load.h: pages arrive whole, wherever they were. */
#include "kernels/cuda/load.h"

#include "core/base/fault.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"
#include "kernels/cuda/slice.h"
#include "test/gpu/bench.h"

#define HBM_BYTES  (512ull << 20)
#define HOST_BYTES (256ull << 20)
#define BACK_AT	   (192ull << 20) /* in host memory: what came out */
#define KINDS	   8u		  /* different pages that are repeated */
#define PAGES_MAX  12000u

static struct syn_gpu_loader *loader;
static struct syn_gpu_page pages[PAGES_MAX];

/**
 * struct geometry - a kind of page.
 * @dim:	of both components.
 * @heads:	heads.
 * @blocks:	of 128 tokens.
 * @layers:	layers.
 * @raw_head:	layers with raw keys.
 */
struct geometry {
	uint32_t dim, heads, blocks, layers, raw_head;
};

/* 64 KiB, 128 KiB with raw keys, 2 MiB, 8 MiB, and an odd one. */
static const struct geometry geometries[] = {
	{ 128, 1, 1, 1, 0 }, { 64, 2, 1, 2, 1 }, { 128, 8, 1, 4, 0 },
	{ 128, 8, 2, 8, 2 }, { 64, 3, 2, 3, 1 },
};

/**
 * struct source - pages of one geometry and codec.
 * @layout:	theirs.
 * @codec:	theirs.
 * @bytes:	stored.
 * @raw_bytes:	canonical.
 * @tiles:	of a page.
 * @stored:	of each kind.
 * @canonical:	of each kind: what must come out.
 * @sums:	of each kind.
 */
struct source {
	struct syn_layout layout;
	uint32_t codec;
	uint64_t bytes;
	uint64_t raw_bytes;
	uint32_t tiles;
	unsigned char *stored[KINDS];
	unsigned char *canonical[KINDS];
	uint32_t sums[KINDS][SYN_TILES_MAX];
};

static struct source source;

static void source_kind(struct source *s, uint32_t i)
{
	uint16_t *x = malloc(s->raw_bytes);
	uint32_t raw[SYN_TILES_MAX];
	uint16_t errors[SYN_TILES_MAX];
	uint32_t bad;

	s->stored[i] = malloc(s->bytes);
	s->canonical[i] = (void *)x;
	for (uint64_t k = 0; k < s->raw_bytes / 2; k++)
		x[k] = (uint16_t)(0x3c00 + (next_random() & 0x87ff));
	if (s->codec == SYN_CODEC_RAW16) {
		memcpy(s->stored[i], x, s->bytes);
		syn_sum_tiles(x, s->bytes, s->bytes / s->tiles, s->sums[i]);
		return;
	}
	assert_int_equal(syn_page_encode(s->stored[i], x, &s->layout, 0,
					 s->tiles, raw, s->sums[i], errors),
			 0);
	assert_int_equal(syn_page_decode(x, s->stored[i], &s->layout, 0,
					 s->tiles, s->sums[i], &bad),
			 0);
}

static void source_new(const struct geometry *g, uint32_t codec)
{
	const struct syn_component c[2] = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, g->heads, g->dim, SYN_CODEC_H4,
		  0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, g->heads, g->dim, SYN_CODEC_H4,
		  0 },
	};
	struct source *s = &source;

	assert_int_equal(syn_layout_init(&s->layout,
					 g->blocks * SYN_TILE_TOKENS, g->layers,
					 2, c, g->raw_head, 0),
			 0);
	s->codec = codec;
	s->tiles = syn_layout_tiles(&s->layout);
	s->raw_bytes = (uint64_t)s->tiles * syn_tile_raw_bytes(&c[0]);
	s->bytes = codec == SYN_CODEC_H4 ? syn_layout_bytes(&s->layout)
					 : s->raw_bytes;
	for (uint32_t i = 0; i < KINDS; i++)
		source_kind(s, i);
}

static void source_free(void)
{
	for (uint32_t i = 0; i < KINDS; i++) {
		free(source.stored[i]);
		free(source.canonical[i]);
	}
}

/* ---- where pages are, and where they go --------------------------------- */

/* As an engine may have it: [layer][component][block][token][head][dim]. */
static struct syn_gpu_place strided(const struct syn_layout *l, uint64_t base)
{
	struct syn_gpu_place place = { .base = base };

	place.head = l->component[0].dim * 2;
	place.token = place.head * l->heads;
	place.block = place.token * SYN_TILE_TOKENS;
	place.component = place.block * l->blocks;
	place.layer = place.component * l->nr_components;
	return place;
}

enum order { TIGHT, FRAMES, SCATTERED, ORDERS };

/**
 * struct plan - how pages lie.
 * @order:	one after the other, in frames of 4 KiB, or anywhere.
 * @strided:	they go to places with strides.
 * @nr:		how many.
 */
struct plan {
	enum order order;
	bool strided;
	unsigned int nr;
};

/* So many as there is room for, at most @most. */
static unsigned int plan_nr(unsigned int most)
{
	uint64_t frame = syn_align_up(source.bytes, 4096) + 4096;
	uint64_t in = BACK_AT / frame;
	uint64_t out = (HOST_BYTES - BACK_AT) / source.raw_bytes;
	uint64_t nr = syn_min(in, out);

	return nr < most ? (unsigned int)nr : most;
}

static uint64_t plan_src(const struct plan *plan, unsigned int i)
{
	uint64_t frame = syn_align_up(source.bytes, 4096);

	if (plan->order == TIGHT)
		return i * source.bytes;
	if (plan->order == FRAMES)
		return i * frame;
	/* 7 and the number of pages have no divisor in common, or 5. */
	i = i * (plan->nr % 7 ? 7 : 5) % plan->nr;
	return i * (frame + 4096) + (i % 3) * 16;
}

static void pages_fill(const struct plan *plan)
{
	bench_poison(bench.hbm.at, plan->nr * source.raw_bytes + 4096);
	for (unsigned int i = 0; i < plan->nr; i++) {
		uint64_t to = bench.hbm.at + i * source.raw_bytes;

		memcpy(bench_host(plan_src(plan, i)), source.stored[i % KINDS],
		       source.bytes);
		pages[i] = (struct syn_gpu_page){
			.src = bench.host.at + plan_src(plan, i),
			.bytes = source.bytes,
			.codec = source.codec,
			.layout = &source.layout,
			.nr_tiles = source.tiles,
			.sums = source.sums[i % KINDS],
			.place = plan->strided ? strided(&source.layout, to)
					       : syn_gpu_place_canonical(
							 &source.layout, to),
			.status = 1,
		};
	}
}

/* Whether page @i came out as it must. */
static bool page_is_right(const struct plan *plan, unsigned int i)
{
	const unsigned char *at = source.canonical[i % KINDS];
	const struct syn_layout *l = &source.layout;
	uint32_t row = l->component[0].dim * 2;
	const unsigned char *back = bench_host(BACK_AT + i * source.raw_bytes);
	struct syn_gpu_place p = strided(l, 0);

	if (!plan->strided)
		return !memcmp(back, at, source.raw_bytes);
	for (uint32_t t = 0; t < source.tiles; t++) {
		uint32_t c = t % 2, head = t / 2 % l->heads;
		uint32_t block = t / 2 / l->heads % l->blocks;
		uint32_t layer = t / 2 / l->heads / l->blocks;

		for (uint32_t k = 0; k < SYN_TILE_TOKENS; k++, at += row)
			if (memcmp(back + layer * p.layer + c * p.component +
					   block * p.block + head * p.head +
					   k * p.token,
				   at, row))
				return false;
	}
	return true;
}

/* All that came out; @bad: a page that need not be right, -1: none. */
static void check_pages(const struct plan *plan, int bad)
{
	const unsigned char *past =
		bench_host(BACK_AT + plan->nr * source.raw_bytes);

	bench_copy(bench.host.at + BACK_AT, bench.hbm.at,
		   plan->nr * source.raw_bytes);
	for (unsigned int i = 0; i < plan->nr; i++)
		if ((int)i != bad && !page_is_right(plan, i))
			fail_msg("page %u of %u: order %d, strided %d", i,
				 plan->nr, plan->order, plan->strided);
	bench_copy((uint64_t)(uintptr_t)past - 4096,
		   bench.hbm.at + plan->nr * source.raw_bytes, 4096);
	for (unsigned int i = 0; i < 4096; i++)
		assert_int_equal(past[(int)i - 4096], 0xa5);
}

static uint64_t load_all(unsigned int nr)
{
	uint64_t ticket = 0;

	assert_int_equal(syn_gpu_load_begin(loader, pages, nr, &ticket), 0);
	assert_int_equal(syn_gpu_load_wait(loader, ticket), 0);
	assert_true(syn_gpu_load_done(loader, ticket));
	return ticket;
}

/* ---- tests -------------------------------------------------------------- */

static void check_everywhere(const struct geometry *g, uint32_t codec)
{
	source_new(g, codec);
	for (unsigned int i = 0; i < 2 * ORDERS; i++) {
		struct plan plan = { .order = (enum order)(i / 2),
				     .strided = i & 1,
				     .nr = plan_nr(100) };

		pages_fill(&plan);
		(void)load_all(plan.nr);
		for (unsigned int k = 0; k < plan.nr; k++)
			assert_int_equal(pages[k].status, 0);
		check_pages(&plan, -1);
	}
	source_free();
}

static void test_pages_arrive(void **state)
{
	for (unsigned int i = 0; i < syn_array_size(geometries); i++) {
		check_everywhere(&geometries[i], SYN_CODEC_RAW16);
		check_everywhere(&geometries[i], SYN_CODEC_H4);
	}
}

/* A ring of 1 MiB: pages are cut, and the ring goes round many times. */
static void test_small_ring(void **state)
{
	struct syn_gpu_loader *large = loader;

	assert_int_equal(syn_gpu_loader_open(bench.gpu, 1, &loader), 0);
	for (unsigned int i = 0; i < syn_array_size(geometries); i++) {
		check_everywhere(&geometries[i], SYN_CODEC_RAW16);
		check_everywhere(&geometries[i], SYN_CODEC_H4);
	}
	syn_gpu_loader_close(loader);
	loader = large;
}

/* Raw pages without a layout: tiles of any size. */
static void test_plain_pages(void **state)
{
	static const uint32_t tiles[] = { 4,	36,   2048,  4096,
					  5000, 8192, 65536, 1u << 20 };
	static uint32_t sums[64][8];

	for (unsigned int i = 0; i < 2 * syn_array_size(tiles); i++) {
		uint32_t bytes = tiles[i / 2] * 8;
		uint32_t gap = i & 1 ? 8192 + 4 : 0;
		unsigned int nr = syn_min((64u << 20) / (bytes + gap), 64u);

		bench_poison(bench.hbm.at, 64u << 20);
		for (unsigned int k = 0; k < nr; k++) {
			uint32_t *x = bench_host((uint64_t)k * (bytes + gap));

			for (uint32_t w = 0; w < bytes / 4; w++)
				x[w] = next_random();
			syn_sum_tiles(x, bytes, tiles[i / 2], sums[k]);
			pages[k] = (struct syn_gpu_page){
				.src = (uint64_t)(uintptr_t)x,
				.bytes = bytes,
				.codec = SYN_CODEC_RAW16,
				.nr_tiles = 8,
				.sums = sums[k],
				.place.base = bench.hbm.at +
					      (uint64_t)k * (bytes + gap),
				.status = 1,
			};
		}
		(void)load_all(nr);
		bench_copy(bench.host.at + BACK_AT, bench.hbm.at, 64u << 20);
		for (unsigned int k = 0; k < nr; k++) {
			uint64_t at = (uint64_t)k * (bytes + gap);
			const unsigned char *back = bench_host(BACK_AT + at);

			assert_int_equal(pages[k].status, 0);
			assert_memory_equal(back, bench_host(at), bytes);
			for (uint32_t w = 0; w < gap; w++)
				assert_int_equal(back[bytes + w], 0xa5);
		}
	}
}

/* Every other page stays as it is stored, with poison behind it. */
static bool stays(unsigned int i)
{
	return i & 1;
}

static void check_stored(const struct plan *plan, unsigned int bad)
{
	bench_copy(bench.host.at + BACK_AT, bench.hbm.at,
		   plan->nr * source.raw_bytes);
	for (unsigned int i = 0; i < plan->nr; i++) {
		const unsigned char *back =
			bench_host(BACK_AT + i * source.raw_bytes);

		assert_int_equal(pages[i].status, i == bad ? -EILSEQ : 0);
		if (i == bad)
			continue;
		if (!stays(i)) {
			assert_true(page_is_right(plan, i));
			continue;
		}
		assert_memory_equal(back, source.stored[i % KINDS],
				    source.bytes);
		for (uint64_t k = source.bytes; k < source.raw_bytes; k++)
			assert_int_equal(back[k], 0xa5);
	}
}

/* Encoded pages that are not decoded, among others that are. */
static void test_stay_as_stored(void **state)
{
	for (unsigned int g = 0; g < syn_array_size(geometries) * 2; g++) {
		struct plan plan = { .order = (enum order)(g % ORDERS) };
		unsigned int bad;

		source_new(&geometries[g / 2], SYN_CODEC_H4);
		plan.nr = plan_nr(60);
		pages_fill(&plan);
		for (unsigned int i = 0; i < plan.nr; i++) {
			pages[i].as_stored = stays(i);
			if (stays(i))
				pages[i].place = (struct syn_gpu_place){
					.base = pages[i].place.base
				};
		}
		(void)load_all(plan.nr);
		check_stored(&plan, plan.nr);
		bad = 1;
		((unsigned char *)bench_host(plan_src(
			&plan, bad)))[next_random() % source.bytes] ^= 64;
		(void)load_all(plan.nr);
		check_stored(&plan, bad);
		source_free();
	}
}

/* One sum is wrong, or one bit of what is stored: that page, and no other. */
static void test_wrong_sum(void **state)
{
	for (unsigned int i = 0; i < 48; i++) {
		struct plan plan = { .order = (enum order)(i / 2 % ORDERS),
				     .strided = i & 1 };
		static uint32_t sums[SYN_TILES_MAX];
		unsigned int bad;

		source_new(&geometries[i / 12 % 3],
			   i / 6 & 1 ? SYN_CODEC_H4 : SYN_CODEC_RAW16);
		plan.nr = plan_nr(40);
		pages_fill(&plan);
		bad = next_random() % plan.nr;
		if (i / 24) {
			unsigned char *at = bench_host(plan_src(&plan, bad));

			at[next_random() % source.bytes] ^=
				(unsigned char)(1u << next_random() % 8);
		} else {
			memcpy(sums, pages[bad].sums, sizeof(sums));
			sums[next_random() % source.tiles] ^= 1;
			pages[bad].sums = sums;
		}
		(void)load_all(plan.nr);
		for (unsigned int k = 0; k < plan.nr; k++)
			assert_int_equal(pages[k].status,
					 k == bad ? -EILSEQ : 0);
		check_pages(&plan, (int)bad);
		source_free();
	}
}

/* What an engine gives to its stream after the order sees the pages. */
static void test_order(void **state)
{
	const struct syn_cuda_api *api = bench.gpu->api;

	for (unsigned int i = 0; i < 40; i++) {
		struct plan plan = { .order = (enum order)(i % ORDERS) };
		uint64_t ticket, bytes;

		source_new(&geometries[2],
			   i & 1 ? SYN_CODEC_H4 : SYN_CODEC_RAW16);
		plan.nr = plan_nr(30);
		pages_fill(&plan);
		bytes = plan.nr * source.raw_bytes;
		memset(bench_host(BACK_AT), 0, bytes);
		assert_int_equal(
			syn_gpu_load_begin(loader, pages, plan.nr, &ticket), 0);
		assert_int_equal(
			syn_gpu_load_order(loader, ticket, bench.stream), 0);
		assert_int_equal(api->cuMemcpyAsync(bench.host.at + BACK_AT,
						    bench.hbm.at, bytes,
						    bench.stream),
				 0);
		assert_int_equal(api->cuStreamSynchronize(bench.stream), 0);
		for (unsigned int k = 0; k < plan.nr; k++)
			assert_true(page_is_right(&plan, k));
		/* Statuses are written when somebody asks. */
		assert_true(syn_gpu_load_done(loader, ticket));
		for (unsigned int k = 0; k < plan.nr; k++)
			assert_int_equal(pages[k].status, 0);
		assert_int_equal(
			syn_gpu_load_order(loader, ticket, bench.stream), 0);
		assert_int_equal(
			syn_gpu_load_order(loader, ticket + 1, bench.stream),
			-EINVAL);
		source_free();
	}
}

/* Tickets end in order, also those of nothing. */
static void test_tickets(void **state)
{
	uint64_t tickets[50];
	struct plan plan = { .order = FRAMES };

	source_new(&geometries[1], SYN_CODEC_H4);
	plan.nr = plan_nr(49);
	pages_fill(&plan);
	for (unsigned int i = 0; i < 50; i++) {
		unsigned int nr = i != 7;

		assert_int_equal(syn_gpu_load_begin(loader, &pages[i - (i > 7)],
						    nr, &tickets[i]),
				 0);
		assert_true(!i || tickets[i] > tickets[i - 1]);
	}
	while (!syn_gpu_load_done(loader, tickets[40]))
		;
	for (unsigned int i = 0; i < 40; i++)
		assert_int_equal(pages[i].status, 0);
	assert_int_equal(syn_gpu_load_wait(loader, tickets[49]), 0);
	assert_int_equal(syn_gpu_load_wait(loader, tickets[49] + 1), -EINVAL);
	check_pages(&plan, -1);
	source_free();
}

/* More pages than there are records, tiny ones, most of them in one slice. */
static void test_more_pages_than_records(void **state)
{
	uint32_t sum;

	for (unsigned int i = 0; i < PAGES_MAX; i++) {
		uint32_t *x = bench_host(i * 4096ull);

		for (unsigned int w = 0; w < 512; w++)
			x[w] = w + i % 3;
	}
	bench_poison(bench.hbm.at, PAGES_MAX * 2048ull);
	for (unsigned int i = 0; i < PAGES_MAX; i++) {
		static uint32_t sums[3];
		const void *x = bench_host(i * 4096ull);

		sum = syn_sum(x, 2048);
		assert_true(i < 3 || sums[i % 3] == sum);
		sums[i % 3] = sum;
		pages[i] = (struct syn_gpu_page){
			.src = (uint64_t)(uintptr_t)x,
			.bytes = 2048,
			.codec = SYN_CODEC_RAW16,
			.nr_tiles = 1,
			.sums = &sums[i % 3],
			.place.base = bench.hbm.at + i * 2048ull,
			.status = 1,
		};
	}
	pages[9000].sums = &sum;
	sum = 1;
	(void)load_all(PAGES_MAX);
	bench_copy(bench.host.at + BACK_AT, bench.hbm.at, PAGES_MAX * 2048ull);
	for (unsigned int i = 0; i < PAGES_MAX; i++) {
		assert_int_equal(pages[i].status, i == 9000 ? -EILSEQ : 0);
		assert_memory_equal(bench_host(BACK_AT + i * 2048ull),
				    bench_host(i * 4096ull), 2048);
	}
}

/* Neighbours that are of two extents each, on either side. */
static void test_runs_across_extents(void **state)
{
	const uint64_t half = SYN_GPU_GRANULE;
	struct syn_gpu_mem host[2], hbm[2];
	uint64_t from, to;
	uint32_t sums[4];

	assert_int_equal(syn_gpu_reserve(bench.gpu, 2 * half, &from), 0);
	assert_int_equal(syn_gpu_reserve(bench.gpu, 2 * half, &to), 0);
	for (unsigned int i = 0; i < 2; i++) {
		int node = syn_gpu_info(bench.gpu)->node;

		assert_int_equal(syn_gpu_mem_new(bench.gpu, SYN_TIER_HOST,
						 node >= 0 ? node : 0, half,
						 &host[i]),
				 0);
		assert_int_equal(
			syn_gpu_mem_map(bench.gpu, &host[i], from + i * half),
			0);
		assert_int_equal(syn_gpu_mem_new(bench.gpu, SYN_TIER_HBM, 0,
						 half, &hbm[i]),
				 0);
		assert_int_equal(
			syn_gpu_mem_map(bench.gpu, &hbm[i], to + i * half), 0);
	}
	for (uint64_t i = 0; i < 2 * half / 4; i++)
		((uint32_t *)(uintptr_t)from)[i] = next_random();
	for (unsigned int i = 0; i < 4; i++) {
		sums[i] = syn_sum((void *)(uintptr_t)(from + i * half / 2),
				  half / 2);
		pages[i] = (struct syn_gpu_page){
			.src = from + i * half / 2,
			.bytes = half / 2,
			.codec = SYN_CODEC_RAW16,
			.nr_tiles = 1,
			.sums = &sums[i],
			.place.base = to + i * half / 2,
			.status = 1,
		};
	}
	(void)load_all(4);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pages[i].status, 0);
	bench_copy(bench.host.at, to, half);
	bench_copy(bench.host.at + half, to + half, half);
	assert_memory_equal(bench_host(0), (void *)(uintptr_t)from, 2 * half);
	for (unsigned int i = 0; i < 2; i++) {
		syn_gpu_mem_free(bench.gpu, &host[i]);
		syn_gpu_mem_free(bench.gpu, &hbm[i]);
	}
	syn_gpu_unreserve(bench.gpu, from, 2 * half);
	syn_gpu_unreserve(bench.gpu, to, 2 * half);
}

/* What cannot be is refused before anything is begun. */
static void test_refused(void **state)
{
	struct syn_gpu_page good, bad[9];
	struct plan plan = { .order = FRAMES, .nr = 1 };
	uint64_t ticket = 77;

	source_new(&geometries[0], SYN_CODEC_H4);
	pages_fill(&plan);
	good = pages[0];
	for (unsigned int i = 0; i < syn_array_size(bad); i++)
		bad[i] = good;
	bad[0].src += 8;
	bad[1].bytes -= 128;
	bad[2].nr_tiles++;
	bad[3].codec = 9;
	bad[4].layout = NULL;
	bad[5].sums = NULL;
	bad[6].place.token += 8;
	bad[7].place.base += 4;
	bad[8].codec = SYN_CODEC_RAW16;
	bad[8].bytes = source.raw_bytes;
	bad[8].as_stored = true;
	for (unsigned int i = 0; i < syn_array_size(bad); i++) {
		pages[1] = bad[i];
		assert_int_equal(syn_gpu_load_begin(loader, pages, 2, &ticket),
				 -EINVAL);
		assert_int_equal(pages[0].status, 1);
		assert_int_equal(ticket, 77);
	}
	source_free();
}

/* Each call that opening makes fails once; nothing leaks. */
static void test_open_survives_every_failure(void **state)
{
	const struct syn_cuda_api *api = bench.gpu->api;
	size_t before = 0, after = 0, total;
	unsigned int n = 0;
	int fds = 0;
	int r;

	do {
		struct syn_gpu_loader *l = NULL;

		/* The driver keeps something of the first few. */
		if (++n == 4) {
			assert_int_equal(api->cuMemGetInfo_v2(&before, &total),
					 0);
			fds = test_count_fds();
		}
		syn_fault_arm(n);
		r = syn_gpu_loader_open(bench.gpu, 64u << 20, &l);
		(void)syn_fault_disarm();
		assert_true(!r == !!l);
		syn_gpu_loader_close(l);
	} while (r);
	assert_true(n > 10);
	assert_int_equal(api->cuMemGetInfo_v2(&after, &total), 0);
	assert_true(after + (32u << 20) > before);
	assert_int_equal(test_count_fds(), fds);
}

/* The GPU fails at any slice: every status says so, and so do later calls. */
static void test_failing_gpu(void **state)
{
	struct syn_gpu_loader *large = loader;
	struct plan plan = { .order = SCATTERED };

	source_new(&geometries[2], SYN_CODEC_H4);
	plan.nr = plan_nr(20);
	for (unsigned int n = 1; n < 100; n += 9) {
		uint64_t ticket = 0;
		bool failed;
		int r;

		assert_int_equal(syn_gpu_loader_open(bench.gpu, 1, &loader), 0);
		pages_fill(&plan);
		syn_fault_arm(n);
		r = syn_gpu_load_begin(loader, pages, plan.nr, &ticket);
		failed = syn_fault_disarm();
		assert_int_equal(r, failed ? -EIO : 0);
		if (!failed) {
			assert_int_equal(syn_gpu_load_wait(loader, ticket), 0);
			check_pages(&plan, -1);
			syn_gpu_loader_close(loader);
			break;
		}
		assert_int_equal(pages[plan.nr - 1].status, -EIO);
		for (unsigned int i = 0; i < plan.nr; i++)
			assert_true(pages[i].status == -EIO ||
				    !pages[i].status);
		assert_int_equal(syn_gpu_load_begin(loader, pages, 1, &ticket),
				 -EIO);
		assert_int_equal(pages[0].status, -EIO);
		syn_gpu_loader_close(loader);
	}
	loader = large;
	source_free();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_arrive),
		cmocka_unit_test(test_small_ring),
		cmocka_unit_test(test_plain_pages),
		cmocka_unit_test(test_stay_as_stored),
		cmocka_unit_test(test_wrong_sum),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_tickets),
		cmocka_unit_test(test_more_pages_than_records),
		cmocka_unit_test(test_runs_across_extents),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_open_survives_every_failure),
		cmocka_unit_test(test_failing_gpu),
	};
	int r;

	bench_open(HBM_BYTES, HOST_BYTES);
	memset(bench_host(0), 0x5a, HOST_BYTES);
	if (syn_gpu_loader_open(bench.gpu, 0, &loader))
		return 1;
	r = test_main(tests);
	syn_gpu_loader_close(loader);
	bench_close();
	return r;
}
