/* SPDX-License-Identifier: Apache-2.0 */
/* Why a key is not found: each cause is provoked, and has to be named. */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/depart.h"
#include "core/disk.h"
#include "core/page.h"

#define SLOTS 16u
#define MANY  500u /* more than HBM, host memory and the swap file hold */

/* Two clients of one domain, with a swap file unless @sim is NULL. */
struct why_world {
	struct syn_simdisk *sim;
	struct world world;
	struct client a;
	struct client b;
	uint32_t space;
};

static int why_open(void **state, bool swap, uint32_t codec)
{
	struct syn_mm_config config = {
		.hbm_bytes = 4 * MIB,
		.host_bytes = 2 * MIB,
		.max_pages = 1024,
		.max_sessions = 4,
		.low_permille = 100,
		.high_permille = 250,
		.codec = codec,
	};
	struct why_world *y = calloc(1, sizeof(*y));
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	assert_non_null(y);
	if (swap)
		assert_int_equal(syn_simdisk_new(&y->sim, 2 * MIB, 4, 7), 0);
	world_open_swap(&y->world, &config, y->sim);
	/* 32 KiB a page, or 64 KiB of which 17 stay. */
	space_fill(&msg, codec == SYN_CODEC_H4 ? 128 : 64, 1, 128);
	msg.component[0].codec = (uint16_t)codec;
	msg.component[1].codec = (uint16_t)codec;
	assert_int_equal(syn_mm_space_define(y->world.mm, &msg, &reply, &why),
			 0);
	y->space = reply.space;
	client_open(&y->a, &y->world, 1);
	client_open(&y->b, &y->world, 1);
	(void)client_window(&y->a, y->space, SLOTS);
	(void)client_window(&y->b, y->space, SLOTS);
	*state = y;
	return 0;
}

static int setup(void **state)
{
	return why_open(state, false, SYN_CODEC_RAW16);
}

static int setup_swap(void **state)
{
	return why_open(state, true, SYN_CODEC_RAW16);
}

static int setup_h4(void **state)
{
	return why_open(state, false, SYN_CODEC_H4);
}

static int teardown(void **state)
{
	struct why_world *y = *state;

	if (y->a.session)
		client_close(&y->a);
	if (y->b.session)
		client_close(&y->b);
	world_close(&y->world);
	assert_null(syn_simdisk_free(y->sim));
	free(y);
	return 0;
}

/* ---- questions ---------------------------------------------------------- */

static struct syn_ctl_why answer[SYN_CTL_BATCH];

static int ask_at(struct why_world *y, uint64_t key, uint32_t space,
		  uint32_t domain)
{
	const struct syn_why_ask ask = {
		.key = { key, ~key },
		.space = space,
		.domain = domain,
	};

	return syn_mm_why(y->world.mm, &ask, answer, SYN_CTL_BATCH);
}

static void expect_at(struct why_world *y, uint64_t key, uint32_t space,
		      uint32_t domain, uint32_t cause)
{
	assert_true(ask_at(y, key, space, domain) > 0);
	assert_int_equal(answer[0].cause, cause);
}

/* The first of @nr answers. */
static void expect(struct why_world *y, uint64_t key, int nr, uint32_t cause)
{
	assert_int_equal(ask_at(y, key, SYN_WHY_ANY, SYN_WHY_ANY), nr);
	assert_int_equal(answer[0].cause, cause);
}

static void expect_session(const struct client *c)
{
	assert_int_equal(answer[0].session, c->session->cfg.id);
	assert_int_equal(answer[0].pid, 1);
	assert_string_equal(answer[0].name, "fake");
}

static uint64_t sealed(struct why_world *y, uint64_t key)
{
	return client_sealed(&y->a, 0, (uint32_t)key, key);
}

static void sealed_free(struct why_world *y, uint64_t key)
{
	assert_int_equal(client_release(&y->a, sealed(y, key)), 0);
}

/* As many pages as there are room for, or @nr. */
static void press(struct client *c, uint32_t nr)
{
	uint64_t handle;

	while (nr-- && !client_lease(c, 0, 1, &handle)) {
		client_write(c, handle, nr);
		assert_int_equal(client_commit(c, handle, 64), 0);
	}
	world_settle(c->world);
}

/* Out of HBM, and leased by nobody. */
static void moved_free(struct why_world *y, uint64_t key)
{
	uint64_t handle = sealed(y, key);

	press(&y->a, 2 * SLOTS);
	assert_int_equal(client_state(&y->a, handle), SYN_PTE_ABSENT);
	assert_int_equal(client_release(&y->a, handle), 0);
}

/* ---- what was never there ----------------------------------------------- */

static void test_never(void **state)
{
	struct why_world *y = *state;

	expect(y, 1, 1, SYN_WHY_NEVER);
	assert_int_equal(answer[0].page, SYN_NONE);
	assert_int_equal(answer[0].session, SYN_NONE);
	expect_at(y, 1, y->space, 0, SYN_WHY_NEVER);
	assert_int_equal(answer[0].space, y->space);
	assert_int_equal(answer[0].domain, 0);
}

/* A page that dies unsealed has never had a key. */
static void test_never_sealed(void **state)
{
	struct why_world *y = *state;
	uint64_t handle = client_full(&y->a, 0, 1);

	expect(y, 1, 1, SYN_WHY_NEVER);
	assert_int_equal(client_release(&y->a, handle), 0);
	expect(y, 1, 1, SYN_WHY_NEVER);
}

static void test_bad_questions(void **state)
{
	struct why_world *y = *state;
	const struct syn_why_ask none = { .space = SYN_WHY_ANY,
					  .domain = SYN_WHY_ANY };

	assert_int_equal(syn_mm_why(y->world.mm, &none, answer, 1), -EINVAL);
	assert_int_equal(ask_at(y, 1, y->space + 1, SYN_WHY_ANY), -ENOENT);
	assert_int_equal(ask_at(y, 1, SYN_WHY_ANY, 1), -ENOENT);
	assert_int_equal(ask_at(y, 1, SYN_WHY_ANY, SYN_DOMAINS_MAX), -ENOENT);
}

/* ---- what is there ------------------------------------------------------ */

static void test_not_ready(void **state)
{
	struct why_world *y = *state;
	uint64_t handle = client_full(&y->a, 0, 1);

	y->a.timeline[0].issued = 5;
	assert_int_equal(client_seal(&y->a, handle, 1, 5), 0);
	expect(y, 1, 1, SYN_WHY_NOT_READY);
	expect_session(&y->a);
	assert_int_equal(answer[0].tier, SYN_TIER_HBM);
	y->a.timeline[0].done = 5;
	expect(y, 1, 1, SYN_WHY_PRESENT);
	assert_int_equal(answer[0].session, SYN_NONE);
	assert_int_equal(answer[0].fidelity, SYN_FIDELITY_RAW16);
	assert_int_equal(y->world.mm->page[answer[0].page].key[0], 1);
}

/* Small finite numbers, so that they are encoded. */
static uint64_t h4_sealed(struct why_world *y, uint64_t key)
{
	uint64_t handle;
	uint16_t *number;
	uint32_t *at;
	uint32_t i;

	assert_int_equal(client_lease(&y->a, 0, 1, &handle), 0);
	assert_int_equal(client_pin(&y->a, handle, &at), 0);
	number = (uint16_t *)at;
	for (i = 0; i < client_bytes(&y->a, handle) / 2; i++)
		number[i] = (uint16_t)(0x3400 + i * 37 % 0xc00);
	client_unpin(&y->a, handle);
	assert_int_equal(client_commit(&y->a, handle, 128), 0);
	assert_int_equal(client_seal(&y->a, handle, key, 0), 0);
	return handle;
}

static void test_fidelity(void **state)
{
	struct why_world *y = *state;
	uint64_t key;

	for (key = 1; key <= 2ull * SLOTS; key++)
		(void)h4_sealed(y, key);
	world_settle(&y->world);
	expect(y, 1, 1, SYN_WHY_FIDELITY);
	assert_int_equal(answer[0].fidelity, SYN_FIDELITY_H4);
	assert_int_equal(answer[0].tier, SYN_TIER_HOST);
	expect(y, 2ull * SLOTS, 1, SYN_WHY_PRESENT);
}

/* ---- what had to go ----------------------------------------------------- */

static void test_evicted(void **state)
{
	struct why_world *y = *state;

	moved_free(y, 1);
	press(&y->b, MANY);
	expect(y, 1, 1, SYN_WHY_EVICTED);
	assert_int_equal(answer[0].tier, SYN_TIER_HOST);
	assert_int_equal(answer[0].space, y->space);
	assert_int_equal(answer[0].domain, 0);
	assert_int_equal(answer[0].page, SYN_NONE);
	assert_true(answer[0].age_ns > 0);
	expect_session(&y->b);
	/* Also when it is long gone. */
	client_close(&y->b);
	expect(y, 1, 1, SYN_WHY_EVICTED);
	assert_string_equal(answer[0].name, "fake");
}

static void test_evicted_from_swap(void **state)
{
	struct why_world *y = *state;

	moved_free(y, 1);
	press(&y->b, MANY);
	expect(y, 1, 1, SYN_WHY_EVICTED);
	assert_int_equal(answer[0].tier, SYN_TIER_NVME);
	expect_session(&y->b);
}

/* No record is left for a page that somebody wants. */
static void test_evicted_for_a_record(void **state)
{
	struct why_world *y = *state;

	sealed_free(y, 1);
	y->world.mm->head->max_pages = y->world.mm->page_used;
	press(&y->b, 1);
	y->world.mm->head->max_pages = 1024;
	expect(y, 1, 1, SYN_WHY_EVICTED);
	assert_int_equal(answer[0].tier, SYN_TIER_HBM);
	expect_session(&y->b);
}

static void test_ordered(void **state)
{
	struct why_world *y = *state;

	sealed_free(y, 1);
	expect(y, 1, 1, SYN_WHY_PRESENT);
	y->world.now_ns += 1000;
	syn_mm_clock(y->world.mm, y->world.now_ns);
	assert_int_equal(syn_mm_evict(y->world.mm, UINT64_MAX), 1);
	syn_mm_clock(y->world.mm, y->world.now_ns + 77);
	expect(y, 1, 1, SYN_WHY_ORDERED);
	assert_int_equal(answer[0].session, SYN_NONE);
	assert_int_equal(answer[0].age_ns, 77);
	/* Sealed once more, that is history. */
	sealed_free(y, 1);
	expect(y, 1, 2, SYN_WHY_PRESENT);
	assert_int_equal(answer[1].cause, SYN_WHY_ORDERED);
}

static void test_writer_ended(void **state)
{
	struct why_world *y = *state;
	uint64_t handle = client_full(&y->a, 0, 1);
	uint32_t id = y->a.session->cfg.id;

	y->a.timeline[0].issued = 5;
	assert_int_equal(client_seal(&y->a, handle, 1, 5), 0);
	client_close(&y->a);
	expect(y, 1, 1, SYN_WHY_WRITER);
	assert_int_equal(answer[0].session, id);
	assert_int_equal(answer[0].pid, 1);
	assert_string_equal(answer[0].name, "fake");
}

/* ---- what was lost ------------------------------------------------------ */

/* Written after it was sealed: the copy out of HBM does not verify. */
static uint64_t spoiled(struct why_world *y, uint64_t key)
{
	uint64_t handle = sealed(y, key);

	client_write(&y->a, handle, 99);
	press(&y->a, 2 * SLOTS);
	assert_int_equal(client_state(&y->a, handle), SYN_PTE_LOST);
	return handle;
}

static void test_checksum(void **state)
{
	struct why_world *y = *state;
	uint64_t handle = spoiled(y, 1);

	expect(y, 1, 1, SYN_WHY_CHECKSUM);
	assert_int_equal(answer[0].tier, SYN_TIER_HBM);
	assert_int_not_equal(answer[0].page, SYN_NONE);
	assert_int_equal(client_release(&y->a, handle), 0);
	expect(y, 1, 1, SYN_WHY_CHECKSUM);
	assert_int_equal(answer[0].tier, SYN_TIER_HBM);
	assert_int_equal(answer[0].page, SYN_NONE);
}

/* What a client loads from host memory does not verify. */
static void test_checksum_of_a_load(void **state)
{
	struct why_world *y = *state;
	uint64_t handle = sealed(y, 1);
	struct syn_vec_fault fault;

	press(&y->a, 2 * SLOTS);
	assert_int_equal(client_fault(&y->a, &handle, 1, &fault), 0);
	assert_int_equal(fault.res, SYN_FAULT_LOAN);
	assert_int_equal(client_loaded(&y->a, fault.loan, -EILSEQ), 0);
	expect(y, 1, 1, SYN_WHY_CHECKSUM);
	assert_int_equal(answer[0].tier, SYN_TIER_HOST);
}

/* The first bit of what is in a page's slot. */
static uint64_t slot_bit(const struct why_world *y,
			 const struct syn_rec_page *pg)
{
	const struct syn_extent *ext =
		y->world.mm->extent[SYN_FRAME_EXTENT(pg->nvme)];

	return 8 * syn_disk_data_at(y->world.disk, ext->ordinal,
				    SYN_FRAME_INDEX(pg->nvme), ext->nr_frames,
				    ext->pool->frame_bytes);
}

static void swap_fails(struct why_world *y, uint32_t cause)
{
	uint64_t handle = sealed(y, 1);

	press(&y->a, MANY / 2);
	assert_false(syn_page_is(client_page(&y->a, handle), SYN_PAGE_F_HOST));
	if (cause == SYN_WHY_DEVICE)
		syn_simdisk_fail(y->sim, 1, -EIO);
	else
		syn_simdisk_flip(y->sim,
				 slot_bit(y, client_page(&y->a, handle)));
	assert_int_equal(client_check(&y->a, handle, 1), SYN_E_LOST);
	expect(y, 1, 1, cause);
	assert_int_equal(answer[0].tier, SYN_TIER_NVME);
	assert_int_not_equal(answer[0].page, SYN_NONE);
	/* Its record says so without the memory of it. */
	y->world.mm->nr_departures = 0;
	expect(y, 1, 1, cause);
	y->world.mm->nr_departures = 1;
	assert_int_equal(client_release(&y->a, handle), 0);
	expect(y, 1, 1, cause);
	assert_int_equal(answer[0].page, SYN_NONE);
}

static void test_device(void **state)
{
	swap_fails(*state, SYN_WHY_DEVICE);
}

static void test_checksum_of_a_slot(void **state)
{
	swap_fails(*state, SYN_WHY_CHECKSUM);
}

static void test_replaced(void **state)
{
	struct why_world *y = *state;
	uint64_t handle = spoiled(y, 1);

	y->world.now_ns += 1000;
	syn_mm_clock(y->world.mm, y->world.now_ns);
	(void)client_sealed(&y->b, 0, 1, 1);
	syn_mm_clock(y->world.mm, y->world.now_ns + 5);
	expect(y, 1, 3, SYN_WHY_PRESENT);
	assert_int_equal(answer[1].cause, SYN_WHY_REPLACED);
	assert_int_equal(answer[1].session, y->b.session->cfg.id);
	assert_int_equal(answer[1].age_ns, 5);
	assert_int_equal(answer[2].cause, SYN_WHY_CHECKSUM);
	assert_int_equal(client_release(&y->a, handle), 0);
	expect(y, 1, 3, SYN_WHY_PRESENT);
}

/* ---- what others have --------------------------------------------------- */

/* The space of the tests but for one field. */
static uint32_t other_space(struct why_world *y, uint32_t field)
{
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	space_fill(&msg, 128, 1, 128);
	msg.component[0].codec = SYN_CODEC_H4;
	msg.component[1].codec = SYN_CODEC_H4;
	if (field == SYN_FIELD_MODEL)
		msg.model[1]++;
	else if (field == SYN_FIELD_TOKENS)
		msg.tokens *= 2;
	else if (field == SYN_FIELD_LAYERS)
		msg.layers_per_page++;
	else if (field == SYN_FIELD_COMPONENTS)
		msg.component[1].role = SYN_ROLE_K;
	else if (field == SYN_FIELD_FLOOR)
		msg.raw_head++;
	else if (field == SYN_FIELD_CODED)
		msg.flags = SYN_SPACE_F_CODED;
	assert_int_equal(syn_mm_space_define(y->world.mm, &msg, &reply, &why),
			 0);
	return reply.space;
}

static void test_identity(void **state)
{
	struct why_world *y = *state;
	uint32_t field;

	assert_int_equal(other_space(y, SYN_FIELD_NONE), y->space);
	(void)h4_sealed(y, 1);
	for (field = SYN_FIELD_MODEL; field <= SYN_FIELD_CODED; field++) {
		uint32_t space = other_space(y, field);

		assert_int_equal(ask_at(y, 1, space, SYN_WHY_ANY), 1);
		assert_int_equal(answer[0].cause, SYN_WHY_IDENTITY);
		assert_int_equal(answer[0].field, field);
		assert_int_equal(answer[0].space, y->space);
	}
	expect_at(y, 1, y->space, 0, SYN_WHY_PRESENT);
}

/* That it was there once and elsewhere is told once. */
static void test_identity_of_the_gone(void **state)
{
	struct why_world *y = *state;
	uint32_t space = world_space(&y->world, 64, 1, 64);
	uint32_t i;

	for (i = 0; i < 3; i++) {
		sealed_free(y, 1);
		assert_int_equal(syn_mm_evict(y->world.mm, UINT64_MAX), 1);
	}
	assert_int_equal(ask_at(y, 1, space, SYN_WHY_ANY), 1);
	assert_int_equal(answer[0].cause, SYN_WHY_IDENTITY);
	assert_int_equal(answer[0].field, SYN_FIELD_COMPONENTS);
	assert_int_equal(answer[0].page, SYN_NONE);
	assert_int_equal(ask_at(y, 1, y->space, SYN_WHY_ANY), 3);
}

static void test_domain(void **state)
{
	struct why_world *y = *state;
	struct client other;
	uint32_t domain;

	(void)sealed(y, 1);
	client_open(&other, &y->world, 2);
	(void)client_window(&other, y->space, SLOTS);
	domain = other.session->cfg.domain;
	expect_at(y, 1, y->space, domain, SYN_WHY_DOMAIN);
	assert_int_equal(answer[0].domain, y->a.session->cfg.domain);
	/* One of its own comes first. */
	(void)client_sealed(&other, 0, 1, 1);
	assert_int_equal(ask_at(y, 1, y->space, domain), 2);
	assert_int_equal(answer[0].cause, SYN_WHY_PRESENT);
	assert_int_equal(answer[0].domain, domain);
	assert_int_equal(answer[1].cause, SYN_WHY_DOMAIN);
	expect(y, 1, 2, SYN_WHY_PRESENT);
	client_close(&other);
}

/* Another domain takes the number of one that has ended. */
static void test_ended_domain(void **state)
{
	struct why_world *y = *state;
	struct client other;
	uint32_t domain;
	uint32_t again;

	client_open(&other, &y->world, 2);
	domain = other.session->cfg.domain;
	(void)client_window(&other, y->space, SLOTS);
	(void)client_sealed(&other, 0, 1, 1);
	client_close(&other);
	assert_int_equal(syn_mm_evict(y->world.mm, UINT64_MAX), 1);
	world_settle(&y->world);
	/* The domain ends with the next session that does. */
	client_open(&other, &y->world, 1);
	client_close(&other);
	expect(y, 1, 1, SYN_WHY_ORDERED);
	assert_int_equal(answer[0].domain, SYN_NONE);
	assert_int_equal(world_domain(&y->world, 3, &again), 0);
	assert_int_equal(again, domain);
	expect_at(y, 1, SYN_WHY_ANY, again, SYN_WHY_DOMAIN);
}

/* ---- the memory --------------------------------------------------------- */

/* It remembers so many, and of those the answer has the youngest. */
static void test_forgotten(void **state)
{
	struct why_world *y = *state;
	struct syn_mm *mm = y->world.mm;
	uint32_t page;
	uint32_t i;

	sealed_free(y, 1);
	assert_int_equal(syn_mm_evict(mm, UINT64_MAX), 1);
	sealed_free(y, 2);
	expect(y, 2, 1, SYN_WHY_PRESENT);
	page = answer[0].page;
	for (i = 1; i < SYN_DEPARTURES; i++) {
		syn_mm_clock(mm, y->world.now_ns + i);
		syn_depart(mm, page, SYN_WHY_EVICTED, SYN_TIER_HOST, SYN_NONE);
	}
	expect(y, 1, 1, SYN_WHY_ORDERED);
	syn_depart(mm, page, SYN_WHY_EVICTED, SYN_TIER_HOST, SYN_NONE);
	expect(y, 1, 1, SYN_WHY_NEVER);
	expect(y, 2, SYN_CTL_BATCH, SYN_WHY_PRESENT);
	for (i = 1; i < SYN_CTL_BATCH; i++) {
		assert_int_equal(answer[i].cause, SYN_WHY_EVICTED);
		assert_int_equal(answer[i].age_ns, i < 2 ? 0 : i - 2);
	}
}

#define TEST(name, how) cmocka_unit_test_setup_teardown(name, how, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_never, setup),
		TEST(test_never_sealed, setup),
		TEST(test_bad_questions, setup),
		TEST(test_not_ready, setup),
		TEST(test_fidelity, setup_h4),
		TEST(test_evicted, setup),
		TEST(test_evicted_from_swap, setup_swap),
		TEST(test_evicted_for_a_record, setup),
		TEST(test_ordered, setup),
		TEST(test_writer_ended, setup),
		TEST(test_checksum, setup),
		TEST(test_checksum_of_a_load, setup),
		TEST(test_checksum_of_a_slot, setup_swap),
		TEST(test_device, setup_swap),
		TEST(test_replaced, setup),
		TEST(test_identity, setup_h4),
		TEST(test_identity_of_the_gone, setup),
		TEST(test_domain, setup),
		TEST(test_ended_domain, setup),
		TEST(test_forgotten, setup),
	};

	return test_main(tests);
}
