/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows over memory that an engine has already: what one client stores from
 * its layout another fetches into its own, through a daemon with little room.
 */
#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"
#include "test/sys/inproc.h"

#define LAYERS	2u
#define HEADS	2u
#define DIM	64u
#define TOKENS	256u /* two blocks */
#define SLOTS	24u
#define PASSING 8u
#define HALVES	(LAYERS * HEADS * 2 * TOKENS * DIM) /* of a page */

static struct inproc played;

/**
 * struct user - a client and its memory.
 * @client:	the session.
 * @window:	over ...
 * @memory:	... this.
 * @o:		how it is laid out.
 * @timeline:	its own.
 */
struct user {
	struct syn_client *client;
	struct syn_window *window;
	uint16_t *memory;
	struct syn_wrap_opts o;
	uint32_t timeline;
};

/* As many engines have it: tokens of all heads, keys and values apart. */
static struct syn_wrap_opts token_major(void)
{
	struct syn_wrap_opts o = SYN_OPTS(struct syn_wrap_opts);

	o.head = DIM * 2;
	o.token = HEADS * o.head;
	o.block = 128 * o.token;
	o.layer = TOKENS * o.token;
	o.component = SLOTS * LAYERS * o.layer;
	o.stride = LAYERS * o.layer;
	return o;
}

/* Another one: both components of a token side by side, with a gap behind. */
static struct syn_wrap_opts side_by_side(void)
{
	struct syn_wrap_opts o = SYN_OPTS(struct syn_wrap_opts);

	o.component = DIM * 2;
	o.token = 2 * o.component + 32;
	o.head = TOKENS * o.token;
	o.block = 128 * o.token;
	o.layer = HEADS * o.head;
	o.stride = LAYERS * o.layer;
	return o;
}

static uint16_t *element(const struct user *u, uint32_t slot, uint32_t layer,
			 uint32_t token, uint32_t head, uint32_t component,
			 uint32_t i)
{
	const struct syn_wrap_opts *o = &u->o;

	return (uint16_t *)((char *)u->memory + slot * o->stride +
			    layer * o->layer + token / 128 * o->block +
			    token % 128 * o->token + head * o->head +
			    component * o->component) +
	       i;
}

/* Different everywhere, and another for each page. */
static uint16_t value_of(uint32_t page, uint32_t at)
{
	return (uint16_t)((page * 40503u) ^ (at * 2654435761u >> 15));
}

/* Calls for each element of a page, in one order. */
static bool walk(struct user *u, uint32_t slot, uint32_t page, bool write)
{
	uint32_t at = 0;

	for (uint32_t layer = 0; layer < LAYERS; layer++)
		for (uint32_t token = 0; token < TOKENS; token++)
			for (uint32_t k = 0; k < HEADS * 2; k++)
				for (uint32_t i = 0; i < DIM; i++, at++) {
					uint16_t *e =
						element(u, slot, layer, token,
							k / 2, k % 2, i);

					if (write)
						*e = value_of(page, at);
					else if (*e != value_of(page, at))
						return false;
				}
	return true;
}

static void user_open(struct user *u, struct syn_wrap_opts o)
{
	static const struct syn_component parts[] = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, HEADS, DIM, SYN_CODEC_RAW16, 0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, HEADS, DIM, SYN_CODEC_RAW16, 0 },
	};
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_space_opts geometry = SYN_OPTS(struct syn_space_opts);
	struct syn_space space;

	attach.path = played.socket;
	geometry.tokens = TOKENS;
	geometry.layers_per_page = LAYERS;
	geometry.nr_components = 2;
	geometry.components = parts;
	u->memory = calloc(2, SLOTS * side_by_side().stride);
	assert_non_null(u->memory);
	u->o = o;
	u->o.base = u->memory;
	u->o.slots = SLOTS;
	u->o.passing = PASSING;
	assert_int_equal(syn_attach(&attach, &u->client, NULL), 0);
	assert_int_equal(syn_space_define(u->client, &geometry, &space), 0);
	assert_int_equal(space.page_bytes, HALVES * 2);
	assert_int_equal(syn_timeline_new(u->client, &u->timeline), 0);
	assert_int_equal(syn_window_wrap(u->client, &space, &u->o, &u->window),
			 0);
}

static void user_close(struct user *u)
{
	u->client = syn_detach(u->client);
	free(u->memory);
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

static void key_of(uint32_t page, uint64_t ret[2])
{
	ret[0] = page + 1;
	ret[1] = 77;
}

static void store_all(struct user *u, int *status)
{
	static uint64_t keys[SLOTS][2];
	uint32_t slots[SLOTS];

	for (uint32_t i = 0; i < SLOTS; i++) {
		slots[i] = i;
		key_of(i, keys[i]);
		(void)walk(u, i, i, true);
	}
	assert_int_equal(syn_store(u->window, slots, (const uint64_t(*)[2])keys,
				   SLOTS, u->timeline, 0, SYN_FOREVER, status),
			 0);
}

static void test_one_stores_and_another_fetches(void **state)
{
	static uint64_t keys[SLOTS][2];
	uint64_t pages[SLOTS];
	uint32_t slots[SLOTS];
	int status[SLOTS];
	struct user a, b;

	(void)state;
	user_open(&a, token_major());
	user_open(&b, side_by_side());
	store_all(&a, status);
	for (uint32_t i = 0; i < SLOTS; i++) {
		assert_int_equal(status[i], 0);
		key_of(i, keys[i]);
		slots[i] = SLOTS - 1 - i;
	}
	/* Again: it is there already, and that is no failure. */
	store_all(&a, status);
	assert_int_equal(status[5], SYN_E_DUP);
	user_close(&a);
	assert_int_equal(syn_lookup(b.window, (const uint64_t(*)[2])keys, SLOTS,
				    pages, NULL),
			 SLOTS);
	memset(b.memory, 0xee, SLOTS * b.o.stride);
	assert_int_equal(
		syn_fetch(b.window, pages, slots, SLOTS, SYN_FOREVER, status),
		0);
	for (uint32_t i = 0; i < SLOTS; i++) {
		assert_int_equal(status[i], 0);
		assert_true(walk(&b, slots[i], i, false));
	}
	/* The gap behind each token was left alone. */
	assert_int_equal(*element(&b, 0, 0, 0, 0, 1, DIM), 0xeeee);
	assert_int_equal(syn_release(b.client, pages, SLOTS), 0);
	user_close(&b);
}

/* One that is gone does not keep the others away. */
static void test_each_slot_is_told_apart(void **state)
{
	static uint64_t keys[4][2];
	const uint32_t slots[4] = { 3, 2, 1, 0 };
	uint64_t pages[4];
	int status[4];
	struct user u;

	(void)state;
	user_open(&u, token_major());
	store_all(&u, NULL);
	for (uint32_t i = 0; i < 4; i++)
		key_of(i, keys[i]);
	assert_int_equal(syn_lookup(u.window, (const uint64_t(*)[2])keys, 4,
				    pages, NULL),
			 4);
	pages[2] ^= 1ull << 40; /* of another generation */
	assert_int_equal(
		syn_fetch(u.window, pages, slots, 4, SYN_FOREVER, status), 1);
	assert_int_equal(status[2], -ESTALE);
	/* Slot 1 has what it had before. */
	assert_true(walk(&u, 1, 1, false));
	for (uint32_t i = 0; i < 4; i++)
		assert_true(i == 2 || walk(&u, slots[i], i, false));
	user_close(&u);
}

static void test_bad_arguments(void **state)
{
	struct syn_wrap_opts o = token_major();
	const uint64_t key[1][2] = { { 1, 1 } };
	const uint32_t past = SLOTS;
	const uint32_t last = SLOTS - 1;
	struct syn_window *window;
	struct syn_space opaque = { .id = 1000, .nr_tiles = 1 };
	uint64_t page = 0;
	struct user u;

	(void)state;
	user_open(&u, o);
	assert_int_equal(
		syn_store(u.window, &past, key, 1, u.timeline, 0, 0, NULL),
		-EINVAL);
	assert_int_equal(syn_store(u.window, &last, key, 1, 99, 0, 0, NULL),
			 -EINVAL);
	/* Work that is never done is not waited for without end. */
	assert_int_equal(
		syn_store(u.window, &last, key, 1, u.timeline, 1, 0, NULL),
		-EAGAIN);
	assert_int_equal(syn_fetch(u.window, &page, &past, 1, 0, NULL),
			 -EINVAL);
	assert_int_equal(syn_window_wrap(u.client, &opaque, &u.o, &window),
			 -EINVAL);
	o = u.o;
	o.slots = 0;
	assert_int_equal(syn_window_wrap(u.client, &opaque, &o, &window),
			 -EINVAL);
	o = u.o;
	o.token += 8;
	assert_int_equal(syn_window_wrap(u.client, &opaque, &o, &window),
			 -EINVAL);
	user_close(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_one_stores_and_another_fetches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_slot_is_told_apart,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_arguments, setup,
						teardown),
	};

	return test_main(tests);
}
