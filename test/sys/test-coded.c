/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that read encoded pages as they are stored, through a daemon that keeps
 * its pages so: the bytes are the encoder's, and what stays raw is canonical.
 */
#include "core/base/base.h"
#include "kernels/codec/page.h"
#include "test/sys/harness.h"
#include "test/sys/inproc.h"

#include <synapse/client.h>
#include <synapse/codec.h>

#define LAYERS	    2u
#define HEADS	    2u
#define DIM	    64u
#define TOKENS	    128u
#define TILES	    (LAYERS * HEADS * 2)
#define HALVES	    (TILES * TOKENS * DIM) /* of a page */
#define SLOTS	    4u
#define CODED_SLOTS 40u
#define PAGES	    CODED_SLOTS

static const struct syn_component parts[] = {
	{ SYN_ROLE_K, SYN_DTYPE_F16, HEADS, DIM, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_V, SYN_DTYPE_F16, HEADS, DIM, SYN_CODEC_H4, 0 },
};

static struct inproc played;

/**
 * struct reader - a client of a space whose pages are read as they are stored.
 * @client:	the session.
 * @space:	the space, and how its pages lie ...
 * @layout:	... when they are encoded.
 * @window:	its window.
 * @raw:	canonical slots.
 * @coded:	the others.
 * @timeline:	its own.
 */
struct reader {
	struct syn_client *client;
	struct syn_space space;
	struct syn_layout layout;
	struct syn_window *window;
	struct syn_planes raw;
	struct syn_planes coded;
	uint32_t timeline;
};

static int space_define(struct syn_client *client, uint8_t coded,
			struct syn_space *ret)
{
	struct syn_space_opts geometry = SYN_OPTS(struct syn_space_opts);

	geometry.tokens = TOKENS;
	geometry.layers_per_page = LAYERS;
	geometry.nr_components = 2;
	geometry.components = parts;
	geometry.raw_head = 1;
	geometry.coded = coded;
	return syn_space_define(client, &geometry, ret);
}

static void reader_open(struct reader *r)
{
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_window_opts window = SYN_OPTS(struct syn_window_opts);

	attach.path = played.socket;
	window.slots = SLOTS;
	window.coded_slots = CODED_SLOTS;
	window.fidelity = 4;
	assert_int_equal(syn_attach(&attach, &r->client, NULL), 0);
	assert_int_equal(space_define(r->client, 1, &r->space), 0);
	assert_int_equal(
		syn_layout_init(&r->layout, TOKENS, LAYERS, 2, parts, 1, 0), 0);
	assert_int_equal(
		syn_window_open(r->client, &r->space, &window, &r->window), 0);
	syn_window_planes(r->window, &r->raw);
	syn_window_coded(r->window, &r->coded);
	assert_int_equal(syn_timeline_new(r->client, &r->timeline), 0);
}

static int setup(void **state)
{
	(void)state;
	if (inproc_init(&played, 16u << 20, 32u << 20))
		return -1;
	return inproc_start(&played);
}

static int teardown(void **state)
{
	(void)state;
	return inproc_end(&played);
}

/* Finite, of both signs, another for each page. */
static void page_fill_halves(uint16_t *to, uint32_t page)
{
	for (uint32_t i = 0; i < HALVES; i++) {
		uint32_t x = (page * 77777 + i) * 2654435761u;

		to[i] = (uint16_t)((x >> 31 << 15) |
				   (0x3400 + (x >> 16) % 0xc00));
	}
}

static uint64_t page_new(struct reader *r, uint32_t page)
{
	const uint32_t tokens = TOKENS;
	uint64_t handle;
	void *addr;

	assert_int_equal(syn_lease(r->window, 1, SYN_FOREVER, &handle), 0);
	assert_int_equal(syn_pin(r->client, &handle, 1, &addr), 0);
	assert_true(syn_planes_have(&r->raw, addr));
	assert_false(syn_planes_have(&r->coded, addr));
	page_fill_halves(addr, page);
	syn_unpin(r->client, r->timeline, &handle, 1);
	assert_int_equal(syn_commit(r->client, &handle, &tokens, 1), 0);
	return handle;
}

static bool is_encoded_page(const struct reader *r, const void *addr,
			    uint32_t page)
{
	static unsigned char want[HALVES * 2];
	static uint16_t halves[HALVES];
	uint32_t sums[2][TILES];
	uint16_t error[TILES];

	page_fill_halves(halves, page);
	assert_int_equal(syn_page_encode(want, halves, &r->layout, 0, TILES,
					 sums[0], sums[1], error),
			 0);
	return syn_planes_have(&r->coded, addr) &&
	       memcmp(addr, want, syn_layout_bytes(&r->layout)) == 0;
}

static bool is_raw_page(const struct reader *r, const void *addr, uint32_t page)
{
	static uint16_t want[HALVES];

	page_fill_halves(want, page);
	return syn_planes_have(&r->raw, addr) &&
	       memcmp(addr, want, sizeof(want)) == 0;
}

/* Page 3 is an anchor; the others leave their slots encoded. */
static void pages_make(struct reader *r, uint64_t *handles)
{
	uint64_t more[SLOTS];

	for (uint32_t i = 0; i < PAGES; i++) {
		handles[i] = page_new(r, i);
		if (i == 3)
			assert_int_equal(syn_advise(r->client, &handles[i], 1,
						    SYN_ADVISE_ANCHOR),
					 0);
	}
	assert_int_equal(syn_lease(r->window, SLOTS, SYN_FOREVER, more), 0);
	assert_int_equal(syn_release(r->client, more, SLOTS), 0);
}

static void check_all(struct reader *r, void *const *addr)
{
	for (uint32_t i = 0; i < PAGES; i++)
		assert_true(i == 3 ? is_raw_page(r, addr[i], i)
				   : is_encoded_page(r, addr[i], i));
}

/* Ten times as many as there are canonical slots are pinned at once. */
static void test_pages_come_as_they_are_stored(void **state)
{
	uint64_t handles[PAGES];
	struct syn_loading *load;
	void *addr[PAGES];
	struct reader r;

	(void)state;
	reader_open(&r);
	pages_make(&r, handles);
	assert_int_equal(syn_pin(r.client, handles, PAGES, addr), SYN_E_FAULT);
	assert_int_equal(syn_load(r.client, handles, PAGES, SYN_FOREVER, addr),
			 0);
	check_all(&r, addr);
	syn_unpin(r.client, r.timeline, handles, PAGES);
	memset(addr, 0, sizeof(addr));
	assert_int_equal(syn_pin(r.client, handles, PAGES, addr), 0);
	check_all(&r, addr);
	syn_unpin(r.client, r.timeline, handles, PAGES);
	assert_int_equal(syn_load_begin(r.client, handles, PAGES, SYN_FOREVER,
					addr, &load),
			 0);
	assert_int_equal(syn_load_end(load), 0);
	check_all(&r, addr);
	syn_unpin(r.client, r.timeline, handles, PAGES);
	r.client = syn_detach(r.client);
}

/* What synapsectl sees of the page. */
static bool page_is_shown_coded(const uint64_t key[2])
{
	static struct syn_ctl_page page[SYN_CTL_BATCH];
	uint64_t cursor = 0;
	uint32_t nr = ctl_pages(played.socket, &cursor, page);

	for (uint32_t i = 0; i < nr; i++)
		if (page[i].key[0] == key[0] && page[i].key[1] == key[1])
			return page[i].flags & SYN_PAGE_F_CODED &&
			       page[i].slot & SYN_SLOT_CODED;
	return false;
}

/* Sealed where it lies encoded, and read so by somebody else, at one place. */
static void test_shared_as_they_are_stored(void **state)
{
	static const uint64_t keys[1][2] = { { 5, 6 } };
	uint64_t handles[PAGES];
	struct reader a;
	struct reader b;
	uint64_t found;
	void *mine;
	void *addr;

	(void)state;
	reader_open(&a);
	reader_open(&b);
	pages_make(&a, handles);
	assert_int_equal(syn_load(a.client, &handles[7], 1, SYN_FOREVER, &mine),
			 0);
	syn_unpin(a.client, a.timeline, &handles[7], 1);
	assert_int_equal(syn_seal(a.client, handles[7], keys[0], a.timeline, 0),
			 0);
	assert_int_equal(syn_lookup(b.window, keys, 1, &found, NULL), 1);
	assert_int_equal(syn_load(b.client, &found, 1, SYN_FOREVER, &addr), 0);
	assert_true(is_encoded_page(&b, addr, 7));
	assert_int_equal((char *)addr - (char *)b.coded.base,
			 (char *)mine - (char *)a.coded.base);
	a.client = syn_detach(a.client);
	assert_true(is_encoded_page(&b, addr, 7));
	syn_unpin(b.client, b.timeline, &found, 1);
	assert_true(page_is_shown_coded(keys[0]));
	b.client = syn_detach(b.client);
}

static void test_windows_that_cannot_be(void **state)
{
	struct syn_window_opts o = SYN_OPTS(struct syn_window_opts);
	struct syn_wrap_opts wrap = SYN_OPTS(struct syn_wrap_opts);
	static char memory[HALVES * 2];
	struct syn_planes planes;
	struct syn_window *window;
	struct syn_space plain;
	struct reader r;

	(void)state;
	reader_open(&r);
	assert_int_equal(space_define(r.client, 2, &plain), -EINVAL);
	assert_int_equal(space_define(r.client, 0, &plain), 0);
	assert_int_not_equal(plain.id, r.space.id);
	assert_int_not_equal(plain.identity, r.space.identity);
	o.slots = 1;
	assert_int_equal(syn_window_open(r.client, &r.space, &o, &window),
			 -EINVAL);
	o.coded_slots = 1;
	assert_int_equal(syn_window_open(r.client, &r.space, &o, &window),
			 -EEXIST);
	assert_int_equal(syn_window_open(r.client, &plain, &o, &window),
			 -EINVAL);
	o.coded_slots = 0;
	assert_int_equal(syn_window_open(r.client, &plain, &o, &window), 0);
	syn_window_coded(window, &planes);
	assert_int_equal(planes.range, 0);
	assert_false(syn_planes_have(&planes, memory));
	assert_false(syn_planes_have(&planes, NULL));
	wrap.base = memory;
	wrap.slots = 1;
	wrap.token = DIM * 2;
	assert_int_equal(syn_window_wrap(r.client, &r.space, &wrap, &window),
			 -EINVAL);
	r.client = syn_detach(r.client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_pages_come_as_they_are_stored, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_as_they_are_stored,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_windows_that_cannot_be,
						setup, teardown),
	};

	return test_main(tests);
}
