/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/fault.h: the N-th call fails, once, in whatever thread. */
#include "core/base/fault.h"

#include <errno.h>
#include <pthread.h>

#include "core/base/atomic.h"
#include "test/test.h"

static void test_unarmed_never_fails(void **state)
{
	assert_false(syn_fault_disarm());
	for (int i = 0; i < 100; i++)
		assert_false(syn_fault());
}

static void test_exactly_the_nth(void **state)
{
	for (unsigned int nth = 1; nth <= 5; nth++) {
		syn_fault_arm(nth);
		for (unsigned int call = 1; call <= 10; call++)
			assert_int_equal(syn_fault(), call == nth);
		assert_true(syn_fault_disarm());
	}
}

static void test_not_reached_is_reported(void **state)
{
	syn_fault_arm(3);
	assert_false(syn_fault());
	assert_false(syn_fault());
	assert_false(syn_fault_disarm());
	assert_false(syn_fault());
}

static void test_alloc(void **state)
{
	unsigned char *p;

	syn_fault_arm(1);
	errno = 0;
	assert_null(syn_alloc(1, 16));
	assert_int_equal(errno, ENOMEM);
	assert_true(syn_fault_disarm());

	p = syn_alloc(4, 16);
	assert_non_null(p);
	for (int i = 0; i < 64; i++)
		assert_int_equal(p[i], 0);
	free(p);
}

#define NR_THREADS 4
#define NR_CALLS   1000

static unsigned int nr_failed;

static void *call_often(void *arg)
{
	for (int i = 0; i < NR_CALLS; i++)
		if (syn_fault())
			syn_fetch_add_seq_cst(&nr_failed, 1);
	return NULL;
}

static void test_one_failure_among_threads(void **state)
{
	pthread_t threads[NR_THREADS];

	nr_failed = 0;
	syn_fault_arm(NR_THREADS * NR_CALLS / 2);
	for (int i = 0; i < NR_THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, call_often, NULL), 0);
	for (int i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_true(syn_fault_disarm());
	assert_int_equal(nr_failed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unarmed_never_fails),
		cmocka_unit_test(test_exactly_the_nth),
		cmocka_unit_test(test_not_reached_is_reported),
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_one_failure_among_threads),
	};

	return test_main(tests);
}
