/* SPDX-License-Identifier: Apache-2.0 */
/* A test's half of what it shares with the workers that it lets die or fail. */
#include "test/sys/crash.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "test/test.h"

struct crash_table *crash_table_new(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *map;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct crash_table)), 0);
	map = mmap(NULL, sizeof(struct crash_table), PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	(void)close(fd);
	assert_int_equal(setenv(CRASH_ENV, path, 1), 0);
	return map;
}

void crash_table_arm(struct crash_table *crash, uint64_t point, uint64_t nth)
{
	crash->at = point;
	crash->nth = nth;
	crash->armed = CRASH_AT;
}
