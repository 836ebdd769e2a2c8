/* SPDX-License-Identifier: Apache-2.0 */
/* Adoption, case by case: what is refused, what is found, what is let go. */
#include "test/unit/core-crash.h"

#include <errno.h>

#include "core/base/base.h"
#include "core/base/fault.h"

#define SEGMENTS 4u
#define PAGES	 8u

/* A client with a window of 16 slots, and a swap file. */
struct fixture {
	struct world world;
	struct syn_simdisk *sim;
	struct client a;
	uint32_t space;
	uint32_t window;
};

static struct syn_mm_config fixture_config(void)
{
	return (struct syn_mm_config){
		.hbm_bytes = 16 * MIB,
		.host_bytes = 16 * MIB,
		.max_pages = 128,
		.max_sessions = 4,
		.low_permille = 0,
		.high_permille = 0,
		.codec = SYN_CODEC_RAW16,
	};
}

static void fixture_world(struct fixture *f)
{
	struct syn_mm_config config = fixture_config();

	crash_world_open(&f->world, &config, f->sim, 1);
	f->space = world_space(&f->world, 128, 1, 256);
}

static void fixture_open(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(syn_simdisk_new(&f->sim, 2 * MIB, SEGMENTS, 1), 0);
	fixture_world(f);
	client_open(&f->a, &f->world, 1);
	f->window = client_window(&f->a, f->space, 16);
}

static int setup(void **state)
{
	static struct fixture fixture;

	fixture_open(&fixture);
	*state = &fixture;
	return 0;
}

static void fixture_close(struct fixture *f)
{
	if (f->a.world)
		client_close(&f->a);
	(void)world_evict(&f->world, UINT64_MAX);
	world_close(&f->world);
	crash_world_close(&f->world);
	assert_null(syn_simdisk_free(f->sim));
}

static int teardown(void **state)
{
	fixture_close(*state);
	return 0;
}

/* ---- what is refused ---------------------------------------------------- */

static void refused(struct world *w, int error, const char *what, uint64_t was,
		    uint64_t is)
{
	struct syn_misfit misfit;

	crash_die(w);
	assert_int_equal(syn_mm_adopt(&w->mm, &w->config, &misfit), error);
	assert_string_equal(misfit.what, what);
	assert_int_equal(misfit.was, was);
	assert_int_equal(misfit.is, is);
}

/* Each is put right again afterwards. */
static void test_another_version(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct syn_rec_head *head = w->mm->head;
	uint64_t magic = head->records.magic;
	uint64_t bytes = sizeof(struct syn_rec_page);
	struct syn_record_array *pages = &head->records.array[SYN_KEPT_PAGE];

	head->records.version--;
	refused(w, -EPROTO, "version", SYN_KEPT_VERSION - 1, SYN_KEPT_VERSION);
	head->records.version += 2;
	refused(w, -EPROTO, "version", SYN_KEPT_VERSION + 1, SYN_KEPT_VERSION);
	head->records.version--;
	head->records.revision++;
	refused(w, -EPROTO, "revision of a newer program",
		SYN_KEPT_REVISION + 1, SYN_KEPT_REVISION);
	head->records.revision--;
	pages->bytes--;
	refused(w, -EPROTO, "bytes of a record", bytes - 1, bytes);
	pages->bytes++;
	head->records.magic++;
	refused(w, -EPROTO, "magic", magic + 1, magic);
	head->records.magic = 0;
	refused(w, -ENODATA, "magic", 0, magic);
	head->records.magic = magic;
	w->recover(w);
}

static void test_another_geometry(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;

	w->config.hbm_bytes += 2 * MIB;
	refused(w, -EINVAL, "HBM bytes", 16 * MIB, 18 * MIB);
	w->config.hbm_bytes -= 2 * MIB;
	w->config.host_bytes += 2 * MIB;
	refused(w, -EINVAL, "host bytes", 16 * MIB, 18 * MIB);
	w->config.host_bytes -= 2 * MIB;
	w->config.max_sessions++;
	refused(w, -EINVAL, "number of records", 4, 5);
	w->config.max_sessions--;
	w->config.max_pages--;
	refused(w, -EINVAL, "number of records", 256, 254);
	w->config.max_pages++;
	w->dev->granule = 65536;
	refused(w, -EINVAL, "bytes of a granule", 4096, 65536);
	w->dev->granule = 4096;
	w->recover(w);
}

/* As a program kept it whose records had not the last words of these. */
static char *older_make(const struct world *w, struct syn_records *ret)
{
	const struct syn_records *is = w->kept;
	char *older;

	*ret = *is;
	ret->revision--;
	ret->array[SYN_KEPT_SESSION].bytes -= sizeof(uint32_t);
	ret->array[SYN_KEPT_REDO].bytes -= SYN_TILES_MAX * sizeof(uint16_t);
	older = calloc(1, syn_records_bytes(ret));
	assert_non_null(older);
	for (uint32_t i = 0; i < is->nr_arrays; i++)
		for (uint64_t k = 0; k < is->array[i].nr; k++)
			memcpy(older + syn_records_at(ret, i) +
				       k * ret->array[i].bytes,
			       (const char *)w->kept + syn_records_at(is, i) +
				       k * is->array[i].bytes,
			       ret->array[i].bytes);
	memcpy(older, ret, sizeof(*ret));
	return older;
}

/* It is copied before anybody goes on from it. */
static void test_older_revision(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct syn_records is = w->mm->head->records;
	struct syn_misfit misfit;
	struct syn_records was;
	uint64_t handle[PAGES];
	char *older;
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		handle[i] = client_sealed(&f->a, f->window, i, i + 1);
	crash_die(w);
	older = older_make(w, &was);
	w->config.kept = older;
	refused(w, -EPROTO, "revision", SYN_KEPT_REVISION - 1,
		SYN_KEPT_REVISION);
	w->config.kept = w->kept;
	assert_int_equal(syn_records_check((void *)older,
					   syn_records_bytes(&was), &is,
					   &misfit),
			 SYN_RECORDS_OLDER);
	memset(w->kept, 0, syn_records_bytes(&is));
	syn_records_copy(w->kept, &is, older, 0, syn_records_bytes(&was));
	free(older);
	w->recover(w);
	assert_int_equal(world_stat(w).nr_sealed, PAGES);
	for (i = 0; i < PAGES; i++)
		assert_int_equal(client_check(&f->a, handle[i], i), 0);
}

/* ---- what is found ------------------------------------------------------ */

/* A lease, a seal, a pin, a key: all of it is there. */
static void test_pages_stand(void **state)
{
	struct fixture *f = *state;
	uint64_t handle[PAGES];
	uint64_t found;
	uint64_t miss;
	uint32_t *at;
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		handle[i] = i % 2 ? client_full(&f->a, f->window, i)
				  : client_sealed(&f->a, f->window, i, i + 1);
	assert_int_equal(client_pin(&f->a, handle[0], &at), 0);
	f->world.recover(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, PAGES);
	assert_int_equal(world_stat(&f->world).nr_sealed, PAGES / 2);
	assert_int_equal(client_release(&f->a, handle[0]), -EBUSY);
	client_unpin(&f->a, handle[0]);
	for (i = 0; i < PAGES; i++)
		assert_int_equal(client_check(&f->a, handle[i], i), 0);
	assert_int_equal(client_lookup(&f->a, f->window, 3, &found, &miss), 1);
	assert_int_equal(client_check(&f->a, found, 2), 0);
	assert_int_not_equal(found, handle[2]);
}

/* Pages with many sums have runs of their own, and none gets another's. */
static void test_sums_stand(void **state)
{
	struct fixture *f = *state;
	uint32_t space = world_space(&f->world, 128, 8, 64);
	uint32_t window = client_window(&f->a, space, 4);
	uint64_t handle[4];
	uint32_t i;

	assert_true(f->world.mm->space[space].nr_tiles > SYN_SUMS_INLINE);
	for (i = 0; i < 2; i++)
		handle[i] = client_sealed(&f->a, window, i, i + 1);
	f->world.recover(&f->world);
	for (; i < 4; i++)
		handle[i] = client_sealed(&f->a, window, i, i + 1);
	world_audit(&f->world);
	for (i = 0; i < 4; i++)
		assert_int_equal(client_check(&f->a, handle[i], i), 0);
}

/* Sums of another size behind them stay; where they were is free, and found so. */
static void test_sums_are_cut_anew(void **state)
{
	struct fixture *f = *state;
	uint32_t window[2];
	uint64_t handle;
	uint32_t i;

	for (i = 0; i < 2; i++)
		window[i] = client_window(
			&f->a, world_space(&f->world, 128, 8u << i, 64), 4);
	handle = client_full(&f->a, window[0], 0);
	(void)client_sealed(&f->a, window[1], 1, 11);
	assert_int_equal(client_release(&f->a, handle), 0);
	f->world.recover(&f->world);
	world_audit(&f->world);
	for (i = 0; i < 2; i++)
		(void)client_sealed(&f->a, window[i], i, 21 + i);
	world_audit(&f->world);
}

/* What only they had goes, what has a key that counts stays. */
static void test_sessions_that_are_gone(void **state)
{
	struct fixture *f = *state;
	struct syn_misfit misfit;
	uint64_t found;
	uint64_t miss;

	(void)client_full(&f->a, f->window, 1);
	(void)client_sealed(&f->a, f->window, 2, 22);
	assert_int_equal(client_lookup(&f->a, f->window, 22, &found, &miss), 1);
	f->a.timeline[0].issued = 5;
	assert_int_equal(
		client_seal(&f->a, client_full(&f->a, f->window, 3), 33, 5), 0);
	crash_die(&f->world);
	assert_int_equal(syn_mm_adopt(&f->world.mm, &f->world.config, &misfit),
			 0);
	assert_int_equal(syn_mm_adopted(f->world.mm), 0);
	world_audit(&f->world);
	assert_int_equal(world_stat(&f->world).nr_sessions, 0);
	assert_int_equal(world_stat(&f->world).nr_pages, 1);
	client_deinit(&f->a);
	client_open(&f->a, &f->world, 1);
	f->window = client_window(&f->a, f->space, 16);
	assert_int_equal(client_lookup(&f->a, f->window, 33, &found, &miss), 0);
	assert_int_equal(client_lookup(&f->a, f->window, 22, &found, &miss), 1);
	assert_int_equal(client_check(&f->a, found, 2), 0);
}

/* It had lost its slot for bytes that are wrong, and died before it said so. */
static void lose_page(struct fixture *f, const struct syn_failpoint *point)
{
	uint64_t deaths = crash_count.deaths;
	uint64_t handle[17];
	uint32_t *at;
	uint32_t i;

	handle[16] = client_sealed(&f->a, f->window, 1,
				   11 + (uint64_t)point->line + deaths);
	assert_int_equal(client_pin(&f->a, handle[16], &at), 0);
	at[0]++;
	client_unpin(&f->a, handle[16]);
	crash_arm(point, 1);
	for (i = 0; i < 16; i++)
		handle[i] = client_full(&f->a, f->window, i);
	world_settle(&f->world);
	crash_arm(NULL, 0);
	assert_int_equal(crash_count.deaths, deaths + 1);
	assert_int_equal(client_load(&f->a, handle[16], &at), SYN_E_LOST);
	for (i = 0; i < 17; i++)
		assert_int_equal(client_release(&f->a, handle[i]), 0);
}

static void test_page_that_is_nowhere(void **state)
{
	const struct syn_failpoint *p;

	for (p = __start_syn_failpoints; p < __stop_syn_failpoints; p++)
		if (!strcmp(p->func, "syn_page_lost"))
			lose_page(*state, p);
}

/* Its work may still touch what it gave back: that waits on, for a new drain. */
static void test_quarantine_stands(void **state)
{
	struct fixture *f = *state;
	uint64_t handle = client_full(&f->a, f->window, 1);

	f->a.timeline[1].issued = 7;
	assert_int_equal(client_release(&f->a, handle), 0);
	f->world.recover(&f->world);
	world_settle(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, 1);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
	f->a.timeline[1].done = 7;
	world_settle(&f->world);
	assert_int_equal(world_stat(&f->world).nr_pages, 0);
	assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
}

/* Who ended with pins out proves nothing by its timelines. */
static void test_dirty_stays_dirty(void **state)
{
	struct fixture *f = *state;
	uint64_t handle = client_full(&f->a, f->window, 1);
	uint32_t *at;

	assert_int_equal(client_pin(&f->a, handle, &at), 0);
	client_end(&f->a);
	f->world.recover(&f->world);
	assert_true(syn_mm_session_ended(f->a.session));
	client_unpin(&f->a, handle);
	world_settle(&f->world);
	assert_false(syn_mm_session_idle(f->a.session));
	assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
}

/* One page more than there are slots: the absent one, whose seed is its index. */
static uint32_t absent_page(struct fixture *f, uint64_t *handle)
{
	uint32_t i;

	for (i = 0; i < 17; i++)
		handle[i] = client_full(&f->a, f->window, i);
	for (i = 0; client_state(&f->a, handle[i]) != SYN_PTE_ABSENT; i++)
		;
	assert_int_equal(client_release(&f->a, handle[i ? 0 : 1]), 0);
	return i;
}

static uint32_t loan_of(struct fixture *f, uint64_t handle)
{
	struct syn_vec_fault answer;

	assert_int_equal(client_fault(&f->a, &handle, 1, &answer), 0);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	return answer.loan;
}

/* A loan that is out is ended as if nothing had been. */
static void test_loan_stands(void **state)
{
	struct fixture *f = *state;
	uint64_t handle[17];
	uint32_t i = absent_page(f, handle);
	uint32_t loan = loan_of(f, handle[i]);

	f->world.recover(&f->world);
	assert_int_equal(client_state(&f->a, handle[i]), SYN_PTE_FILLING);
	assert_int_equal(syn_mm_loans(f->a.session), 1);
	assert_int_equal(
		client_loaded(&f->a, loan, client_execute(&f->a, loan)), 0);
	assert_int_equal(client_state(&f->a, handle[i]), SYN_PTE_RESIDENT);
	assert_int_equal(client_check(&f->a, handle[i], i), 0);
}

/* The slot of one that failed waits, whenever the worker dies over it. */
static void test_failed_loan_waits(void **state)
{
	struct fixture *f = *state;
	const struct syn_failpoint *p;
	uint64_t handle[17];
	uint64_t deaths = crash_count.deaths;
	uint32_t i = absent_page(f, handle);
	uint32_t loan;

	for (p = __start_syn_failpoints; p < __stop_syn_failpoints; p++) {
		if (strcmp(p->func, "slot_record"))
			continue;
		loan = loan_of(f, handle[i]);
		f->a.timeline[1].issued++;
		crash_arm(p, 1);
		assert_int_equal(client_loaded(&f->a, loan, -EIO), 0);
		crash_arm(NULL, 0);
		assert_int_equal(crash_count.deaths, ++deaths);
		assert_int_equal(world_stat(&f->world).nr_quarantined, 1);
		f->a.timeline[1].done++;
		world_settle(&f->world);
		assert_int_equal(world_stat(&f->world).nr_quarantined, 0);
	}
	assert_int_equal(client_check(&f->a, handle[i], i), 0);
}

/* What was answered is not taken back, what was not is. */
static void test_request_at_hand(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct syn_misfit misfit;
	uint64_t handle[2];
	uint64_t cookie;
	uint64_t hint;
	uint32_t session;

	syn_mm_begin(f->a.session, 77);
	assert_int_equal(
		syn_mm_lease(f->a.session, f->window, 2, handle, &hint), 0);
	crash_die(w);
	assert_int_equal(syn_mm_adopt(&w->mm, &w->config, &misfit), 0);
	assert_int_equal(client_adopt(&f->a), 0);
	assert_int_equal(syn_mm_at_hand(w->mm, &session, &cookie), 1);
	assert_int_equal(session, f->a.id);
	assert_int_equal(cookie, 77);
	assert_int_equal(syn_mm_adopted(w->mm), 0);
	client_audit(&f->a, 0);
	assert_int_equal(world_stat(w).nr_pages, 0);
	syn_mm_begin(f->a.session, 77);
	assert_int_equal(
		syn_mm_lease(f->a.session, f->window, 2, handle, &hint), 0);
	crash_die(w);
	assert_int_equal(syn_mm_adopt(&w->mm, &w->config, &misfit), 0);
	assert_int_equal(client_adopt(&f->a), 0);
	syn_mm_end(w->mm);
	assert_int_equal(syn_mm_at_hand(w->mm, &session, &cookie), 0);
	assert_int_equal(syn_mm_adopted(w->mm), 0);
	client_audit(&f->a, 2);
	assert_int_equal(client_release(&f->a, handle[0]), 0);
}

/* Whoever may not have heard of an extent hears of it again. */
static void test_extent_told_again(void **state)
{
	struct fixture *f = *state;
	const struct syn_failpoint *p;
	uint64_t deaths = crash_count.deaths;
	struct client c;
	uint32_t window;

	for (p = __start_syn_failpoints; p < __stop_syn_failpoints; p++) {
		if (strcmp(p->func, "extent_tell"))
			continue;
		client_open(&c, &f->world, 1);
		crash_arm(p, 1);
		window = client_window(&c, f->space, 16);
		crash_arm(NULL, 0);
		assert_int_equal(crash_count.deaths, ++deaths);
		assert_int_equal(
			client_check(&c, client_full(&c, window, 5), 5), 0);
		client_close(&c);
	}
}

/* Who was asked to give an extent up may say so to the next worker. */
static void test_retiring_stands(void **state)
{
	struct fixture *f = *state;
	struct client c;
	uint32_t id;

	client_open(&c, &f->world, 1);
	(void)client_window(&c, f->space, 32);
	client_extents(&f->a);
	assert_int_equal(f->a.nr_extents, 3);
	client_close(&c);
	assert_int_equal(syn_mm_retire_next(f->a.session, &id), 1);
	syn_mm_retire_told(f->a.session, id);
	f->world.recover(&f->world);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 3);
	assert_int_equal(syn_mm_retired(f->a.session, id), 0);
	client_extents(&f->a);
	assert_int_equal(world_tier(&f->world, SYN_TIER_HBM).nr_extents, 1);
}

static void test_adopt_once(void **state)
{
	struct fixture *f = *state;
	struct syn_session_config config = { .id = 4711 };
	struct syn_session *session;
	struct syn_misfit misfit;

	crash_die(&f->world);
	assert_int_equal(syn_mm_adopt(&f->world.mm, &f->world.config, &misfit),
			 0);
	assert_int_equal(syn_mm_session_adopt(f->world.mm, &config, &session),
			 -ENOENT);
	assert_int_equal(client_adopt(&f->a), 0);
	assert_false(syn_mm_session_ended(f->a.session));
	assert_int_equal(client_adopt(&f->a), -EEXIST);
	assert_int_equal(syn_mm_adopted(f->world.mm), 0);
	world_audit(&f->world);
}

/* ---- what is let go ----------------------------------------------------- */

static int adopt_all(struct fixture *f)
{
	struct syn_misfit misfit;
	int r = syn_mm_adopt(&f->world.mm, &f->world.config, &misfit);

	if (r)
		return r;
	r = client_adopt(&f->a);
	if (!r)
		r = syn_mm_adopted(f->world.mm);
	if (r)
		f->world.mm = syn_mm_free(f->world.mm);
	return r;
}

/* Memory may be short at any step. */
static void test_fail_nth(void **state)
{
	uint64_t handle[PAGES];
	struct fixture f;
	unsigned int nth = 0;
	uint32_t i;
	int r;

	do {
		fixture_open(&f);
		for (i = 0; i < PAGES; i++)
			handle[i] = client_sealed(&f.a, f.window, i, i + 1);
		assert_int_equal(client_persist(&f.a, handle[0]), 0);
		crash_die(&f.world);
		syn_fault_arm(++nth);
		r = adopt_all(&f);
		(void)syn_fault_disarm();
		assert_true(!r || r == -ENOMEM);
		/* The next worker finds all of it. */
		f.world.recover(&f.world);
		for (i = 0; i < PAGES; i++)
			assert_int_equal(client_check(&f.a, handle[i], i), 0);
		fixture_close(&f);
	} while (r);
	assert_true(nth > 10);
}

/* ---- the swap file -------------------------------------------------------- */

/* Whoever adopts can tell before he has opened it. */
static void test_file_is_known(void **state)
{
	struct fixture *f = *state;
	struct world *w = &f->world;
	struct syn_disk was;

	w->recover(w);
	assert_true(syn_mm_kept_disk(w->kept, &was));
	assert_null(was.ops);
	assert_int_equal(was.nr_segments, SEGMENTS);
	assert_int_equal(was.segment_bytes, w->disk->segment_bytes);
	assert_memory_equal(was.file, w->disk->file, sizeof(was.file));
	/* As a program kept it that did not say so, until this one adopts. */
	memset(w->mm->head->file, 0, sizeof(was.file));
	assert_false(syn_mm_kept_disk(w->kept, &was));
	w->recover(w);
	assert_true(syn_mm_kept_disk(w->kept, &was));
	w->mm->head->records.magic = 0;
	assert_false(syn_mm_kept_disk(w->kept, &was));
	w->mm->head->records.magic = SYN_KEPT_MAGIC;
}

/* ---- what was being written ----------------------------------------------- */

#define CUT_TURNS 60u

/* The worker ends, and another one begins with what is in the swap file. */
static void fixture_restart(struct fixture *f)
{
	client_close(&f->a);
	world_close(&f->world);
	crash_world_close(&f->world);
	fixture_world(f);
	client_open(&f->a, &f->world, 1);
	f->window = client_window(&f->a, f->space, 16);
}

/*
 * Of a page whose slot came free, and in which somebody wrote who died, nothing is
 * found after a restart: its head is wiped, by the next worker or by the one after.
 */
static void test_write_cut_off(void **state)
{
	struct fixture *f = *state;
	uint64_t handle;
	uint64_t miss;

	for (uint32_t key = 1; key < 2 * CUT_TURNS; key += 2) {
		/* In an empty segment both are written at its beginning. */
		(void)world_evict(&f->world, UINT64_MAX);
		handle = client_sealed(&f->a, f->window, key, key);
		assert_int_equal(client_persist(&f->a, handle), 0);
		assert_int_equal(client_release(&f->a, handle), 0);
		(void)world_evict(&f->world, UINT64_MAX);
		handle = client_sealed(&f->a, f->window, 0, key + 1);
		/* It is copied to host memory first. */
		while (!f->world.mm->nr_swaps) {
			(void)world_poll(&f->world);
			assert_int_not_equal(client_persist_step(&f->a, handle),
					     0);
		}
		for (uint32_t deaths = key % 4; deaths; deaths--)
			f->world.recover(&f->world);
		assert_int_equal(f->world.mm->nr_swaps, 1);
		assert_int_equal(client_check(&f->a, handle, 0), 0);
		world_settle(&f->world);
		world_audit(&f->world);
		fixture_restart(f);
		assert_int_equal(
			client_lookup(&f->a, f->window, key, &handle, &miss),
			0);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_another_version),
		TEST(test_another_geometry),
		TEST(test_older_revision),
		TEST(test_pages_stand),
		TEST(test_sums_stand),
		TEST(test_sums_are_cut_anew),
		TEST(test_sessions_that_are_gone),
		TEST(test_page_that_is_nowhere),
		TEST(test_quarantine_stands),
		TEST(test_dirty_stays_dirty),
		TEST(test_loan_stands),
		TEST(test_failed_loan_waits),
		TEST(test_request_at_hand),
		TEST(test_extent_told_again),
		TEST(test_retiring_stands),
		TEST(test_adopt_once),
		TEST(test_file_is_known),
		TEST(test_write_cut_off),
		cmocka_unit_test(test_fail_nth),
	};

	return test_main(tests);
}
