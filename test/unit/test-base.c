/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/base.h: arithmetic at its edges, ownership, cleanup. */
#include "core/base/base.h"

#include <fcntl.h>

#include "test/test.h"

static void test_arithmetic(void **state)
{
	uint64_t r = 5;

	assert_false(syn_is_pow2(0));
	assert_true(syn_is_pow2(1));
	assert_true(syn_is_pow2(UINT64_C(1) << 63));
	assert_false(syn_is_pow2(UINT64_MAX));
	assert_int_equal(syn_align_up(0, 4096), 0);
	assert_int_equal(syn_align_up(1, 4096), 4096);
	assert_int_equal(syn_align_up(4096, 4096), 4096);
	assert_int_equal(syn_div_up(0, 3), 0);
	assert_int_equal(syn_div_up(1, 3), 1);
	assert_int_equal(syn_div_up(3, 3), 1);
	assert_true(syn_div_up(UINT64_MAX, 2) == UINT64_C(1) << 63);

	assert_true(syn_mul_overflow(UINT64_MAX, 2, &r));
	assert_true(syn_add_overflow(UINT64_MAX, 1, &r));
	assert_int_equal(r, 5); /* written on success only */
	assert_false(syn_mul_overflow(UINT64_MAX, 1, &r));
	assert_true(r == UINT64_MAX);
	assert_false(syn_add_overflow(UINT64_MAX - 1, 1, &r));
	assert_true(r == UINT64_MAX);
}

static void test_min_max_evaluate_once(void **state)
{
	int a = 1;
	int b = 2;

	assert_int_equal(syn_min(a++, b++), 1);
	assert_int_equal(syn_max(a++, b++), 3);
	assert_int_equal(a, 3);
	assert_int_equal(b, 4);
}

struct outer {
	char before;
	int inner;
};

static void test_container_of(void **state)
{
	struct outer o = { .inner = 3 };
	int *inner = &o.inner;

	assert_ptr_equal(syn_container_of(inner, struct outer, inner), &o);
}

static void test_fd_ownership(void **state)
{
	int before = test_count_fds();
	int kept;

	{
		syn_cleanup(syn_closep) int dropped =
			open("/dev/null", O_RDONLY);
		syn_cleanup(syn_closep) int stolen =
			open("/dev/null", O_RDONLY);

		assert_true(dropped >= 0);
		kept = syn_steal_fd(&stolen);
		assert_int_equal(stolen, -1);
		assert_int_equal(test_count_fds(), before + 2);
	}
	assert_int_equal(test_count_fds(), before + 1);
	errno = EDOM;
	assert_int_equal(syn_close(kept), -1);
	assert_int_equal(syn_close(-1), -1);
	assert_int_equal(syn_close(kept), -1); /* EBADF inside */
	assert_int_equal(errno, EDOM);
	assert_int_equal(test_count_fds(), before);
}

static void test_ptr_ownership(void **state)
{
	char *p = malloc(1);
	char *q;

	assert_non_null(p);
	q = syn_steal_ptr(&p);
	assert_null(p);
	syn_freep(&q); /* a leak here is the sanitizer's to find */
}

static void test_clock_never_goes_back(void **state)
{
	uint64_t last_ns = syn_now_ns();

	assert_true(last_ns > 0);
	for (int i = 0; i < 1000; i++) {
		uint64_t now_ns = syn_now_ns();

		assert_true(now_ns >= last_ns);
		last_ns = now_ns;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arithmetic),
		cmocka_unit_test(test_min_max_evaluate_once),
		cmocka_unit_test(test_container_of),
		cmocka_unit_test(test_fd_ownership),
		cmocka_unit_test(test_ptr_ownership),
		cmocka_unit_test(test_clock_never_goes_back),
	};

	return test_main(tests);
}
