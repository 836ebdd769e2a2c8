/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that are encoded when they leave HBM, and those that must not be. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/disk.h"
#include "core/page.h"
#include "core/swap.h"

#define H4_PAGES 40u

struct h4_world {
	struct syn_simdisk *sim;
	struct world world;
	struct client client;
	uint32_t space;
};

static void h4_join(struct h4_world *h)
{
	struct syn_mm_config config = {
		.hbm_bytes = 4 * MIB,
		.host_bytes = 4 * MIB,
		.max_pages = 512,
		.max_sessions = 4,
		.low_permille = 100,
		.high_permille = 250,
		.codec = SYN_CODEC_H4,
	};
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	world_open_swap(&h->world, &config, h->sim);
	/* 128 KiB a page, 34 KiB encoded. */
	space_fill(&msg, 128, 2, 128);
	msg.component[0].codec = SYN_CODEC_H4;
	msg.component[1].codec = SYN_CODEC_H4;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 0);
	h->space = reply.space;
	client_open(&h->client, &h->world, 1);
	(void)client_window(&h->client, h->space, 8);
}

static int h4_setup(void **state)
{
	struct h4_world *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	assert_int_equal(syn_simdisk_new(&h->sim, 2 * MIB, 8, 7), 0);
	h4_join(h);
	*state = h;
	return 0;
}

/* Without a swap file. */
static int h4_setup_bare(void **state)
{
	struct h4_world *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	h4_join(h);
	*state = h;
	return 0;
}

static int h4_teardown(void **state)
{
	struct h4_world *h = *state;

	client_close(&h->client);
	world_close(&h->world);
	assert_null(syn_simdisk_free(h->sim));
	free(h);
	return 0;
}

/* Small finite numbers of both signs: fp16 between 2^-2 and 2. */
static uint16_t h4_number(uint32_t seed, uint32_t i)
{
	uint32_t x = (seed + i) * 2654435761u;

	return (uint16_t)((x >> 31 << 15) | (0x3400 + (x >> 16) % 0xc00));
}

static uint64_t h4_page(struct h4_world *h, uint32_t seed, bool nan)
{
	uint16_t *number;
	uint32_t *at;
	uint64_t handle;
	uint32_t i;

	assert_int_equal(client_lease(&h->client, 0, 1, &handle), 0);
	assert_int_equal(client_pin(&h->client, handle, &at), 0);
	number = (uint16_t *)at;
	for (i = 0; i < 65536; i++)
		number[i] = h4_number(seed, i);
	if (nan)
		number[40000] = 0x7e00;
	client_unpin(&h->client, handle);
	assert_int_equal(client_commit(&h->client, handle, 128), 0);
	return handle;
}

/* How many numbers of the page differ from what was written. */
static uint32_t h4_differ(struct h4_world *h, uint64_t handle, uint32_t seed)
{
	const uint16_t *number;
	uint32_t differ = 0;
	uint32_t *at;
	uint32_t i;

	assert_int_equal(client_load(&h->client, handle, &at), 0);
	number = (const uint16_t *)at;
	for (i = 0; i < 65536; i++)
		differ += number[i] != h4_number(seed, i);
	client_unpin(&h->client, handle);
	return differ;
}

static void h4_push(struct h4_world *h)
{
	uint32_t i;

	for (i = 0; i < H4_PAGES; i++)
		(void)h4_page(h, 1000 + i, false);
	world_settle(&h->world);
}

/* What leaves HBM is encoded once, and then stays as it is. */
static void test_h4_leaves(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	uint32_t sums[4];
	struct syn_rec_page *pg;

	h4_push(h);
	pg = client_page(&h->client, handle);
	assert_int_equal(pg->codec, SYN_CODEC_H4);
	assert_int_equal(pg->fidelity, 4);
	memcpy(sums, pg->sum, sizeof(sums));
	assert_true(syn_page_errors(h->world.mm, 0)[0]);
	assert_true(h4_differ(h, handle, 1) > 60000);
	h4_push(h);
	assert_memory_equal(sums, pg->sum, sizeof(sums));
	assert_true(h4_differ(h, handle, 1) > 60000);
	assert_int_equal(world_stat(&h->world).sum_failures, 0);
	world_audit(&h->world);
}

static void test_h4_anchor_stays_raw(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	struct syn_vec_advise advise = { .handle = handle,
					 .advice = SYN_ADVISE_ANCHOR };

	assert_int_equal(syn_mm_advise(h->client.session, &advise, 1), 0);
	h4_push(h);
	assert_int_equal(client_page(&h->client, handle)->codec,
			 SYN_CODEC_RAW16);
	assert_int_equal(h4_differ(h, handle, 1), 0);
	advise.advice = SYN_ADVISE_COLD + 1;
	assert_int_equal(syn_mm_advise(h->client.session, &advise, 1), -EINVAL);
}

/* What was copied raw for an anchor is not kept when it is none any more. */
static void test_h4_anchor_no_more(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	struct syn_vec_advise advise = { .handle = handle,
					 .advice = SYN_ADVISE_ANCHOR };

	assert_int_equal(syn_mm_advise(h->client.session, &advise, 1), 0);
	h4_push(h);
	assert_int_equal(h4_differ(h, handle, 1), 0);
	advise.advice = SYN_ADVISE_NORMAL;
	assert_int_equal(syn_mm_advise(h->client.session, &advise, 1), 0);
	h4_push(h);
	assert_int_equal(client_page(&h->client, handle)->codec, SYN_CODEC_H4);
}

static void test_h4_not_finite_stays_raw(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, true);

	h4_push(h);
	assert_int_equal(client_page(&h->client, handle)->codec,
			 SYN_CODEC_RAW16);
	assert_int_equal(world_stat(&h->world).raw_fallbacks, 1);
	assert_int_equal(h4_differ(h, handle, 1), 1);
}

/* Sealed after it was encoded: the sums of its canonical bytes are no matter. */
static void test_h4_sealed_late(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	uint64_t miss;

	h4_push(h);
	assert_int_equal(client_seal(&h->client, handle, 6, 0), 0);
	h4_push(h);
	assert_true(h4_differ(h, handle, 1) > 60000);
	assert_int_equal(client_lookup(&h->client, 0, 6, &handle, &miss), 0);
	assert_int_equal(miss, SYN_MISS_FIDELITY);
}

/* Who asked for every bit keeps it, as long as the lease lasts. */
static void test_h4_exact_lease(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	uint64_t exact;
	uint64_t miss;

	assert_int_equal(client_seal(&h->client, handle, 6, 0), 0);
	assert_int_equal(client_lookup(&h->client, 0, 6, &exact, &miss), 1);
	h4_push(h);
	assert_int_equal(h4_differ(h, exact, 1), 0);
	assert_int_equal(client_release(&h->client, exact), 0);
	world_settle(&h->world);
}

static void test_h4_found_again(void **state)
{
	struct h4_world *h = *state;
	struct syn_vec_key key = { .key = { 6, ~6ull } };
	uint64_t handle = h4_page(h, 1, false);
	uint64_t miss;

	assert_int_equal(client_seal(&h->client, handle, 6, 0), 0);
	assert_int_equal(client_persist(&h->client, handle), 0);
	client_close(&h->client);
	world_close(&h->world);
	h4_join(h);
	assert_int_equal(client_lookup(&h->client, 0, 6, &handle, &miss), 0);
	assert_int_equal(miss, SYN_MISS_FIDELITY);
	assert_int_equal(
		syn_mm_lookup(h->client.session, 0, 4, &key, 1, &handle, &miss),
		1);
	assert_true(h4_differ(h, handle, 1) > 60000);
	assert_int_equal(client_page(&h->client, handle)->codec, SYN_CODEC_H4);
}

/* Of a resident page the slot is written again, never what was decoded. */
static void test_h4_persist_resident(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	struct syn_rec_page *pg;
	uint32_t *at;

	assert_int_equal(client_seal(&h->client, handle, 6, 0), 0);
	h4_push(h);
	pg = client_page(&h->client, handle);
	while (!syn_page_is(pg, SYN_PAGE_F_NVME)) {
		(void)syn_swap_out(h->world.mm, 0, false, SYN_NONE);
		world_settle(&h->world);
	}
	assert_int_equal(client_load(&h->client, handle, &at), 0);
	world_settle(&h->world);
	/* What happens when host memory is short. */
	assert_int_equal(syn_lists_host(pg), SYN_LIST_DUP);
	syn_page_host_free(h->world.mm, 0);
	assert_int_equal(client_persist(&h->client, handle), 0);
	assert_int_equal(pg->state, SYN_PAGE_SEALED);
	assert_int_equal(world_stat(&h->world).sum_failures, 0);
	client_unpin(&h->client, handle);
}

/* However short host memory is, no page is encoded from what it had lost. */
static void test_h4_not_twice(void **state)
{
	struct h4_world *h = *state;
	uint64_t handle = h4_page(h, 1, false);
	struct syn_rec_page *pg;
	uint64_t more[300];
	uint16_t errors[4];
	uint32_t *at;
	uint32_t nr;
	uint32_t i;

	h4_push(h);
	pg = client_page(&h->client, handle);
	memcpy(errors, syn_page_errors(h->world.mm, 0), sizeof(errors));
	assert_true(errors[0]);
	assert_int_equal(client_load(&h->client, handle, &at), 0);
	for (nr = 0; nr < 300; nr++) {
		if (client_lease(&h->client, 0, 1, &more[nr]))
			break;
		assert_int_equal(client_commit(&h->client, more[nr], 128), 0);
	}
	assert_true(nr > 40 && nr < 300);
	client_unpin(&h->client, handle);
	for (i = 0; i < 40; i++)
		assert_int_equal(client_release(&h->client, more[i]), 0);
	world_settle(&h->world);
	for (i = 0; i < 20; i++)
		(void)h4_page(h, i, false);
	assert_false(syn_page_is(pg, SYN_PAGE_F_HBM));
	assert_memory_equal(errors, syn_page_errors(h->world.mm, 0),
			    sizeof(errors));
	assert_int_equal(world_stat(&h->world).sum_failures, 0);
}

static void test_h4_spaces(void **state)
{
	struct h4_world *h = *state;
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	space_fill(&msg, 64, 2, 128);
	msg.component[0].codec = SYN_CODEC_H4;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 -EINVAL);
	space_fill(&msg, 128, 2, 96);
	msg.component[0].codec = SYN_CODEC_H4;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 -EINVAL);
	space_fill(&msg, 128, 2, 128);
	msg.raw_head = 1;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 -EINVAL);
	msg.component[0].codec = SYN_CODEC_H4;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 0);
	msg.raw_tail = 2;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 -EINVAL);
	msg.component[0].codec = SYN_CODEC_NR;
	assert_int_equal(syn_mm_space_define(h->world.mm, &msg, &reply, &why),
			 -EINVAL);
}

#define H4_TEST(name)                                                          \
	cmocka_unit_test_setup_teardown(name, h4_setup, h4_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		H4_TEST(test_h4_leaves),
		H4_TEST(test_h4_anchor_stays_raw),
		H4_TEST(test_h4_anchor_no_more),
		H4_TEST(test_h4_not_finite_stays_raw),
		H4_TEST(test_h4_sealed_late),
		H4_TEST(test_h4_exact_lease),
		H4_TEST(test_h4_found_again),
		H4_TEST(test_h4_persist_resident),
		H4_TEST(test_h4_spaces),
		cmocka_unit_test_setup_teardown(test_h4_not_twice,
						h4_setup_bare, h4_teardown),
	};

	return test_main(tests);
}
