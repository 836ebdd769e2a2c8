/* SPDX-License-Identifier: Apache-2.0 */
/* A probe that nobody listens to computes nothing. */
#include "test/test.h"

#include "core/base/trace.h"

#if SYN_HAVE_SDT

static uint32_t nr_computed;

static uint32_t compute(void)
{
	return ++nr_computed;
}

static void fire(void)
{
	SYN_PROBE(lease, compute(), compute());
}

static void test_off_computes_no_argument(void **state)
{
	nr_computed = 0;
	assert_false(SYN_PROBE_ON(lease));
	fire();
	assert_int_equal(nr_computed, 0);
}

/* What a tracer does: it raises the semaphore while it listens. */
static void test_on_computes_each_argument_once(void **state)
{
	nr_computed = 0;
	synapse_lease_semaphore++;
	fire();
	assert_int_equal(nr_computed, 2);
	synapse_lease_semaphore--;
	fire();
	assert_int_equal(nr_computed, 2);
}

static void test_semaphores_are_apart(void **state)
{
	synapse_release_semaphore++;
	assert_true(SYN_PROBE_ON(release));
	assert_false(SYN_PROBE_ON(lease));
	synapse_release_semaphore--;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off_computes_no_argument),
		cmocka_unit_test(test_on_computes_each_argument_once),
		cmocka_unit_test(test_semaphores_are_apart),
	};

	return test_main(tests);
}

#else

int main(void)
{
	return TEST_SKIP;
}

#endif
