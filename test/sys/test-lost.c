/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper has no descriptor of an extent any more when a worker dies. */
#include <signal.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define SLOTS 16u /* an extent's */
#define PAGES (2 * SLOTS)
#define SEED  100u

static const char *const daemon_args[] = { "--hbm", "16M", "--host", "32M",
					   NULL };

static uint64_t hbm_bytes(const struct test_daemon *d)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];

	ctl_tiers(d->socket, tier);
	return tier[0].extent_bytes;
}

static uint32_t count_lost(struct engine *e)
{
	uint32_t lost = 0;

	for (uint32_t i = 0; i < e->nr; i++) {
		void *addr;

		if (!engine_check(e, i))
			continue;
		assert_int_equal(
			syn_load(e->client, &e->page[i], 1, SYN_FOREVER, &addr),
			SYN_E_LOST);
		lost++;
	}
	return lost;
}

/* Its pages are lost, all others go on, and its memory comes back. */
static void lose(struct test_daemon *d, uint32_t extent)
{
	struct engine other;
	struct engine e;
	void *pinned;

	assert_int_equal(engine_open(&e, d->socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	assert_int_equal(engine_seal(&e, PAGES - 1, 7), 0);
	assert_int_equal(
		syn_load(e.client, &e.page[PAGES - 1], 1, SYN_FOREVER, &pinned),
		0);
	if (!daemon_put_extent(d, extent, -1))
		skip();
	daemon_kill_worker(d);
	/* It is mapped as long as somebody uses it. */
	(void)syn_poll(e.client, NULL, 0);
	assert_true(
		page_matches(pinned, e.space.page_bytes, e.seed[PAGES - 1]));
	syn_unpin(e.client, e.timeline, &e.page[PAGES - 1], 1);
	assert_in_range(count_lost(&e), 1, PAGES - 1);
	assert_int_equal(engine_open(&other, d->socket, SLOTS), 0);
	assert_int_equal(engine_grow(&other, PAGES, SEED), 0);
	assert_int_equal(count_lost(&other), 0);
	engine_close(&other);
	daemon_kill_worker(d);
	assert_int_equal(engine_release(&e), 0);
	e.nr = 0;
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	assert_int_equal(count_lost(&e), 0);
	test_wait((syn_poll(e.client, NULL, 0), hbm_bytes(d)) == 2u << 20, 20);
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(d);
}

/* The window's, which is made first, and that of the pages below. */
static void test_lost(void **state)
{
	(void)state;
	for (uint32_t extent = 0; extent < 2; extent++) {
		struct test_daemon d;

		daemon_start(&d, daemon_args);
		lose(&d, extent);
		daemon_stop(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost),
	};

	return test_main(tests);
}
