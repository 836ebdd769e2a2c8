/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels/cuda: no driver, one that is too old, lacks a symbol that is needed,
 * or one that is not.  A process loads a driver once, so each is in its own.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sys/wait.h>

#include "core/base/fault.h"
#include "kernels/cuda/api.h"
#include "test/test.h"

#define X(name)	    +1
#define NR_REQUIRED (0 SYN_CUDA_REQUIRED(X))

static const char *fake;

/* What @body returns, in a process of its own. */
static int in_child(int (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(body());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* From now on "libcuda.so.1" is this one: it has that name. */
static void fake_take(int version)
{
	void *dl = dlopen(fake, RTLD_NOW | RTLD_LOCAL);
	int *at = dl ? dlsym(dl, "fake_version") : NULL;

	if (!at)
		_exit(100);
	*at = version;
}

static int load_none(void)
{
	const struct syn_cuda_api *api;

	if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL))
		return TEST_SKIP;
	return -syn_cuda_load(&api);
}

static int load_whole(void)
{
	const struct syn_cuda_api *api = NULL;

	fake_take(SYN_CUDA_DRIVER_MIN);
	if (syn_cuda_load(&api))
		return 1;
	return api->batch || api->version != SYN_CUDA_DRIVER_MIN ? 2 : 0;
}

static int load_old(void)
{
	const struct syn_cuda_api *api;

	fake_take(SYN_CUDA_DRIVER_MIN - 10);
	return -syn_cuda_load(&api);
}

/* The library, each required symbol, the one that may be missing. */
static int load_failing(void)
{
	const struct syn_cuda_api *api;
	unsigned int nth = 0;
	int r;

	fake_take(SYN_CUDA_DRIVER_MIN);
	do {
		syn_fault_arm(++nth);
		r = syn_cuda_load(&api);
		if (!syn_fault_disarm())
			return 1;
		if (nth == 1 && r != -ENODEV)
			return 2;
		if (nth > 1 && nth <= 1 + NR_REQUIRED && r != -ENOSYS)
			return 3;
	} while (r);
	return nth == 1 + NR_REQUIRED + 1 && !api->batch ? 0 : 4;
}

static void test_no_driver(void **state)
{
	int r = in_child(load_none);

	(void)state;
	if (r == TEST_SKIP)
		skip();
	assert_int_equal(r, ENODEV);
}

static void test_without_what_is_optional(void **state)
{
	(void)state;
	assert_int_equal(in_child(load_whole), 0);
}

static void test_too_old(void **state)
{
	(void)state;
	assert_int_equal(in_child(load_old), ENOSYS);
}

static void test_all_symbols_or_none(void **state)
{
	(void)state;
	assert_int_equal(in_child(load_failing), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_driver),
		cmocka_unit_test(test_without_what_is_optional),
		cmocka_unit_test(test_too_old),
		cmocka_unit_test(test_all_symbols_or_none),
	};

	if (argc != 2)
		return 2;
	fake = argv[1];
	return test_main(tests);
}
