/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A window that is more than HBM holds, of a daemon with a swap file: looking for
 * who could give something up, it took the file's frames, which are no domain's,
 * for those of a domain.
 */
#include "test/unit/core-harness.h"

#include <errno.h>

static void test_refused(void **state)
{
	struct syn_mm_config config = {
		.hbm_bytes = 4 * MIB,
		.host_bytes = 4 * MIB,
		.max_pages = 64,
		.max_sessions = 4,
		.codec = SYN_CODEC_RAW16,
	};
	struct syn_msg_window_reply reply;
	struct syn_simdisk *sim;
	struct world w;
	struct client c;
	uint32_t space;

	(void)state;
	assert_int_equal(syn_simdisk_new(&sim, 2 * MIB, 8, 7), 0);
	world_open_swap(&w, &config, sim);
	space = world_space(&w, 64, 4, 128);
	client_open(&c, &w, 1);
	(void)client_window(&c, space, 32);
	space = world_space(&w, 64, 4, 64);
	assert_int_equal(syn_mm_window_open(c.session, space, 1, &reply),
			 -EDQUOT);
	client_close(&c);
	world_close(&w);
	assert_null(syn_simdisk_free(sim));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
	};

	return test_main(tests);
}
