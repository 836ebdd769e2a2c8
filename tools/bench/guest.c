/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the benchmarks' daemon: one that works, many that idle. */
#include "core/base/base.h"
#include "tools/bench/bench.h"

#define KV_PAGE_BYTES (128u << 10)
#define KV_TOKENS     128u
#define KV_DIM	      128u
#define SMALL_BYTES   4096u
#define SMALL_TOKENS  16u
#define CROWD_PAGES   256u

static const struct syn_component small_components[] = {
	{ .role = SYN_ROLE_OPAQUE,
	  .dtype = SYN_DTYPE_U8,
	  .heads = 1,
	  .dim = SMALL_BYTES / SMALL_TOKENS,
	  .codec = SYN_CODEC_RAW16 },
};

/* A layer of K and V: 128 tokens, 2 heads of 128 (1 in the smallest pages). */
static int guest_define(struct syn_guest *guest, uint64_t page_bytes,
			uint16_t codec)
{
	const uint32_t heads = page_bytes < KV_PAGE_BYTES ? 1 : 2;
	const struct syn_component kv_components[] = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, heads, KV_DIM, codec, 0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, heads, KV_DIM, codec, 0 },
	};
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);
	int r;

	opts.model[0] = 0x73796e62656e6368;
	if (page_bytes == SMALL_BYTES) {
		opts.tokens = SMALL_TOKENS;
		opts.layers_per_page = 1;
		opts.components = small_components;
		opts.nr_components = syn_array_size(small_components);
	} else {
		opts.tokens = KV_TOKENS;
		opts.layers_per_page = (uint32_t)syn_max(
			page_bytes / KV_PAGE_BYTES, (uint64_t)1);
		opts.components = kv_components;
		opts.nr_components = syn_array_size(kv_components);
	}
	guest->tokens = opts.tokens;
	r = syn_space_define(guest->client, &opts, &guest->space);
	if (r == 0 && guest->space.page_bytes != page_bytes)
		return -EPROTO;
	return r;
}

static int guest_attach(const struct syn_daemon *daemon, uint32_t nr_pages,
			struct syn_client **ret)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);

	opts.path = daemon->socket;
	opts.name = "synapse-bench";
	opts.nr_pages = nr_pages;
	return syn_attach(&opts, ret, NULL);
}

int syn_guest_open(const struct syn_bench *bench,
		   const struct syn_daemon *daemon, uint64_t page_bytes,
		   uint32_t nr_pages, uint32_t slots, struct syn_guest *ret)
{
	return syn_guest_open_as(bench, daemon, SYN_CODEC_RAW16, page_bytes,
				 nr_pages, slots, ret);
}

int syn_guest_open_as(const struct syn_bench *bench,
		      const struct syn_daemon *daemon, uint16_t codec,
		      uint64_t page_bytes, uint32_t nr_pages, uint32_t slots,
		      struct syn_guest *ret)
{
	struct syn_window_opts opts = SYN_OPTS(struct syn_window_opts);
	struct syn_guest guest = { 0 };
	int r;

	opts.slots = slots;
	syn_cpu_free();
	r = guest_attach(daemon, nr_pages, &guest.client);
	syn_cpu_bind(bench->client_cpu);
	if (r < 0)
		return syn_bench_fail("attach", r);
	r = guest_define(&guest, page_bytes, codec);
	if (r == 0)
		r = syn_window_open(guest.client, &guest.space, &opts,
				    &guest.window);
	if (r == 0)
		r = syn_timeline_new(guest.client, &guest.timeline);
	if (r != 0) {
		syn_guest_close(&guest);
		return syn_bench_fail("window", r);
	}
	*ret = guest;
	return 0;
}

void syn_guest_close(struct syn_guest *guest)
{
	guest->client = syn_detach(guest->client);
}

int syn_crowd_open(const struct syn_daemon *daemon,
		   struct syn_client **ret_clients, unsigned int nr)
{
	int r;

	for (unsigned int i = 0; i < nr; i++) {
		r = guest_attach(daemon, CROWD_PAGES, &ret_clients[i]);
		if (r < 0) {
			syn_crowd_close(ret_clients, i);
			return syn_bench_fail("idle session", r);
		}
	}
	return 0;
}

void syn_crowd_close(struct syn_client **clients, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		clients[i] = syn_detach(clients[i]);
}

void syn_shuffle(uint32_t *ret, uint32_t nr, uint64_t seed)
{
	uint64_t x = seed * 2 + 1;

	for (uint32_t i = 0; i < nr; i++)
		ret[i] = i;
	for (uint32_t i = nr; i > 1; i--) {
		uint32_t j, swap;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		j = (uint32_t)((x >> 32) * i >> 32);
		swap = ret[i - 1];
		ret[i - 1] = ret[j];
		ret[j] = swap;
	}
}
