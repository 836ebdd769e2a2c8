/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a page is after it went through the daemon and back on a GPU: encoded
 * pages are, bit by bit, what the CPU makes of them, and pages of wrapped
 * memory are in the places of the engine that fetched them.
 */
#include <stdio.h>

#include "core/base/base.h"
#include "kernels/codec/element.h"
#include "kernels/codec/page.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define LAYERS	     3u
#define HEADS	     2u
#define DIM	     128u
#define TOKENS	     256u
#define BYTES	     (LAYERS * HEADS * 2 * TOKENS * DIM * 2)
#define SLOTS	     16u
#define PAGES	     64u
#define ROW	     (DIM * 2u)
#define ENGINE_SLOTS 24u

static const char *const daemon_args[] = { "--device",	    "cuda",   "--hbm",
					   "64M",	    "--host", "256M",
					   "--ladder-host", "h4",     NULL };

static const struct syn_component parts[] = {
	{ SYN_ROLE_K, SYN_DTYPE_F16, HEADS, DIM, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_V, SYN_DTYPE_F16, HEADS, DIM, SYN_CODEC_H4, 0 },
};

/**
 * struct client - one, of a process of its own.
 * @c:		the session.
 * @space:	its pages, ...
 * @layout:	... and their tiles.
 * @coded:	slots for pages as they are stored: where encoded ones are.
 * @timeline:	its own.
 */
struct client {
	struct syn_client *c;
	struct syn_space space;
	struct syn_layout layout;
	struct syn_planes coded;
	uint32_t timeline;
};

static int client_open(struct client *t, bool h4, bool coded)
{
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_space_opts geometry = SYN_OPTS(struct syn_space_opts);
	struct syn_component own[2] = { parts[0], parts[1] };
	int r;

	own[0].codec = own[1].codec = h4 ? SYN_CODEC_H4 : SYN_CODEC_RAW16;
	attach.path = daemon_of_test.socket;
	geometry.tokens = TOKENS;
	geometry.layers_per_page = LAYERS;
	geometry.raw_head = h4;
	geometry.coded = coded;
	geometry.nr_components = 2;
	geometry.components = own;
	if (syn_layout_init(&t->layout, TOKENS, LAYERS, 2, own, 1, 0))
		return -EINVAL;
	r = syn_attach(&attach, &t->c, NULL);
	if (!r)
		r = syn_space_define(t->c, &geometry, &t->space);
	if (!r)
		r = syn_timeline_new(t->c, &t->timeline);
	return r ? r : t->space.page_bytes == BYTES ? 0 : -EPROTO;
}

/* Sums of four numbers are near enough to a normal distribution. */
static void elements_fill(uint16_t *to, uint32_t nr, uint64_t seed)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t x = engine_random(&seed);
		int sum = (int)((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) +
				(x >> 24 & 255)) -
			  510;

		syn_f16_store(&to[i], (float)sum / 147.0f);
	}
}

/* ---- encoded pages ------------------------------------------------------ */

static int h4_write(struct client *t, struct syn_window *w, uint64_t *pages)
{
	const uint32_t tokens = TOKENS;
	static uint16_t bytes[BYTES / 2];
	void *addr;
	int r = 0;

	for (uint32_t i = 0; i < PAGES && !r; i++) {
		elements_fill(bytes, BYTES / 2, i);
		r = syn_lease(w, 1, SYN_FOREVER, &pages[i]);
		if (!r)
			r = syn_pin(t->c, &pages[i], 1, &addr);
		if (!r)
			r = gpu_engine_device.put(addr, bytes, BYTES);
		if (!r)
			r = syn_commit(t->c, &pages[i], &tokens, 1);
		if (!r)
			syn_unpin(t->c, t->timeline, &pages[i], 1);
	}
	return r;
}

/* What the CPU makes of page @i when it goes to four bits, and back if @decode. */
static int h4_expect(const struct client *t, uint32_t i, bool decode,
		     unsigned char *ret)
{
	static uint16_t canonical[BYTES / 2];
	static unsigned char stored[BYTES];
	static uint32_t raw[SYN_TILES_MAX], sums[SYN_TILES_MAX];
	static uint16_t error[SYN_TILES_MAX];
	uint32_t tiles = syn_layout_tiles(&t->layout);
	uint32_t bad;
	int r;

	elements_fill(canonical, BYTES / 2, i);
	r = syn_page_encode(stored, canonical, &t->layout, 0, tiles, raw, sums,
			    error);
	if (!r && decode)
		return syn_page_decode(ret, stored, &t->layout, 0, tiles, sums,
				       &bad);
	memcpy(ret, stored, syn_layout_bytes(&t->layout));
	return r;
}

/* Loads page @i: 1 if it is what the CPU makes of it, 0 if nothing was lost. */
static int h4_check(struct client *t, uint64_t page, uint32_t i)
{
	static unsigned char want[BYTES], got[BYTES];
	uint64_t bytes = BYTES;
	bool stays;
	void *addr;
	int r = syn_load(t->c, &page, 1, SYN_FOREVER, &addr);

	if (r)
		return r < 0 ? r : -EBUSY;
	stays = syn_planes_have(&t->coded, addr);
	if (stays)
		bytes = syn_layout_bytes(&t->layout);
	r = gpu_engine_device.get(got, addr, bytes);
	syn_unpin(t->c, t->timeline, &page, 1);
	if (!r)
		r = h4_expect(t, i, !stays, want);
	if (r)
		return r;
	if (t->coded.slots && !stays)
		memset(want, 0, sizeof(want));
	if (!memcmp(got, want, bytes))
		return 1;
	elements_fill((uint16_t *)want, BYTES / 2, i);
	return memcmp(got, want, BYTES) ? -EILSEQ : 0;
}

static int h4_run(void *arg)
{
	struct syn_window_opts share = SYN_OPTS(struct syn_window_opts);
	static uint64_t pages[PAGES];
	struct client t = { 0 };
	struct syn_window *w;
	unsigned int decoded = 0;
	int r = client_open(&t, true, arg);

	share.slots = SLOTS;
	share.coded_slots = arg ? SLOTS : 0;
	if (!r)
		r = syn_window_open(t.c, &t.space, &share, &w);
	if (!r) {
		syn_window_coded(w, &t.coded);
		r = h4_write(&t, w, pages);
	}
	for (uint32_t k = 0; k < 2 * PAGES && r >= 0; k++) {
		r = h4_check(&t, pages[k % PAGES], k % PAGES);
		decoded += r > 0;
	}
	(void)printf("%u of %u loads of encoded pages\n", decoded, 2 * PAGES);
	t.c = syn_detach(t.c);
	return r < 0 ? r : decoded >= PAGES ? 0 : -ENODATA;
}

static void test_encoded_pages_are_the_cpus(void **state)
{
	struct syn_ctl_status status;

	(void)state;
	assert_int_equal(gpu_join(gpu_fork(h4_run, NULL)), 0);
	ctl_status(daemon_of_test.socket, &status);
	assert_true(status.encoded >= PAGES - SLOTS);
	assert_int_equal(status.sum_failures, 0);
	assert_int_equal(status.raw_fallbacks, 0);
}

/* The same, resident as they are stored: a decoded one is a failure. */
static void test_encoded_pages_stay_so(void **state)
{
	struct syn_ctl_status status;

	(void)state;
	assert_int_equal(gpu_join(gpu_fork(h4_run, (void *)1)), 0);
	ctl_status(daemon_of_test.socket, &status);
	assert_int_equal(status.sum_failures, 0);
}

/* ---- wrapped memory ----------------------------------------------------- */

/* Tokens of all heads, keys and values apart: @pad behind each token. */
static struct syn_wrap_opts wrap_opts(void *base, uint64_t pad)
{
	struct syn_wrap_opts o = SYN_OPTS(struct syn_wrap_opts);

	o.base = base;
	o.slots = ENGINE_SLOTS;
	o.head = ROW;
	o.token = HEADS * ROW + pad;
	o.block = 128 * o.token;
	o.layer = TOKENS * o.token;
	o.stride = LAYERS * o.layer;
	o.component = ENGINE_SLOTS * o.stride;
	o.passing = SLOTS;
	return o;
}

static uint64_t wrap_bytes(const struct syn_wrap_opts *o)
{
	return 2 * o->component;
}

/* Row @at of a page, in canonical order. */
static unsigned char *row_at(unsigned char *memory,
			     const struct syn_wrap_opts *o, uint32_t slot,
			     uint32_t at)
{
	uint32_t token = at % 128;
	uint32_t component = at / 128 % 2;
	uint32_t head = at / 256 % HEADS;
	uint32_t block = at / 256 / HEADS % (TOKENS / 128);
	uint32_t layer = at / 256 / HEADS / (TOKENS / 128);

	return memory + slot * o->stride + layer * o->layer + block * o->block +
	       token * o->token + head * o->head + component * o->component;
}

static bool page_rows(unsigned char *memory, const struct syn_wrap_opts *o,
		      uint32_t slot, uint32_t page, bool write)
{
	static uint16_t canonical[BYTES / 2];

	elements_fill(canonical, BYTES / 2, 1000 + page);
	for (uint32_t at = 0; at < BYTES / ROW; at++) {
		unsigned char *row = row_at(memory, o, slot, at);
		const uint16_t *want = canonical + at * (ROW / 2);

		if (write)
			memcpy(row, want, ROW);
		else if (memcmp(row, want, ROW))
			return false;
	}
	return true;
}

static void keys_make(uint64_t keys[ENGINE_SLOTS][2], uint32_t *slots)
{
	for (uint32_t i = 0; i < ENGINE_SLOTS; i++) {
		keys[i][0] = 5000 + i;
		keys[i][1] = 1;
		slots[i] = i;
	}
}

static int store(struct client *t, struct syn_window *w, uint64_t device,
		 unsigned char *memory, const struct syn_wrap_opts *o)
{
	uint64_t keys[ENGINE_SLOTS][2];
	uint32_t slots[ENGINE_SLOTS];
	uint64_t value;
	int r;

	keys_make(keys, slots);
	for (uint32_t i = 0; i < ENGINE_SLOTS; i++)
		(void)page_rows(memory, o, i, i, true);
	value = syn_timeline_issue(t->c, t->timeline);
	r = syn_cuda_errno(gpu_api(),
			   gpu_api()->cuMemcpyAsync(device, (uintptr_t)memory,
						    wrap_bytes(o),
						    gpu_stream()),
			   "cuMemcpyAsync");
	if (!r)
		r = syn_timeline_signal(t->c, t->timeline, gpu_stream(), value);
	if (!r)
		r = syn_store(w, slots, (const uint64_t(*)[2])keys,
			      ENGINE_SLOTS, t->timeline, value, SYN_FOREVER,
			      NULL);
	return r > 0 ? -EBUSY : r;
}

/* Page i into the slot that counts from the end. */
static int fetch(struct client *t, struct syn_window *w, uint64_t device,
		 unsigned char *memory, const struct syn_wrap_opts *o)
{
	uint64_t keys[ENGINE_SLOTS][2], pages[ENGINE_SLOTS];
	uint32_t slots[ENGINE_SLOTS];
	int r;

	keys_make(keys, slots);
	if (syn_lookup(w, (const uint64_t(*)[2])keys, ENGINE_SLOTS, pages,
		       NULL) != ENGINE_SLOTS)
		return -ENOENT;
	for (uint32_t i = 0; i < ENGINE_SLOTS; i++)
		slots[i] = ENGINE_SLOTS - 1 - i;
	r = syn_fetch(w, pages, slots, ENGINE_SLOTS, SYN_FOREVER, NULL);
	if (!r)
		r = gpu_engine_device.get(memory, (void *)(uintptr_t)device,
					  wrap_bytes(o));
	for (uint32_t i = 0; i < ENGINE_SLOTS && !r; i++)
		if (!page_rows(memory, o, slots[i], i, false))
			r = -EILSEQ;
	return r > 0 ? -EBUSY : r;
}

static int wrap_run(void *arg)
{
	const bool writes = arg;
	struct client t = { 0 };
	struct syn_wrap_opts o = wrap_opts(NULL, writes ? 0 : 48);
	unsigned char *memory = malloc(wrap_bytes(&o));
	struct syn_window *w;
	CUdeviceptr device;
	int r = memory ? client_open(&t, false, false) : -ENOMEM;

	if (!r)
		r = syn_cuda_errno(
			gpu_api(),
			gpu_api()->cuMemAlloc_v2(&device, wrap_bytes(&o)),
			"cuMemAlloc");
	if (r)
		return r;
	o.base = (void *)(uintptr_t)device;
	r = syn_window_wrap(t.c, &t.space, &o, &w);
	if (!r)
		r = writes ? store(&t, w, device, memory, &o)
			   : fetch(&t, w, device, memory, &o);
	t.c = syn_detach(t.c);
	(void)gpu_api()->cuMemFree_v2(device);
	free(memory);
	return r;
}

static void test_wrapped_memory(void **state)
{
	(void)state;
	assert_int_equal(gpu_join(gpu_fork(wrap_run, (void *)1)), 0);
	assert_int_equal(gpu_join(gpu_fork(wrap_run, NULL)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encoded_pages_are_the_cpus),
		cmocka_unit_test(test_encoded_pages_stay_so),
		cmocka_unit_test(test_wrapped_memory),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
