/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/log.h: levels, names, the sink, and that errno survives. */
#include "core/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "test/test.h"

static char last_line[2048];
static enum syn_log_level last_level;
static int nr_lines;

static void record(enum syn_log_level level, const char *line)
{
	(void)snprintf(last_line, sizeof(last_line), "%s", line);
	last_level = level;
	nr_lines++;
	errno = EDOM; /* a sink may fail inside */
}

static int setup(void **state)
{
	nr_lines = 0;
	syn_log_set_sink(record);
	syn_log_set_level(SYN_LOG_INFO);
	return 0;
}

static void test_level_filters(void **state)
{
	syn_debug("hidden");
	assert_int_equal(nr_lines, 0);
	syn_info("shown %d", 7);
	assert_int_equal(nr_lines, 1);
	assert_string_equal(last_line, "shown 7");
	assert_int_equal(last_level, SYN_LOG_INFO);
	syn_log_set_level(SYN_LOG_ERROR);
	syn_warning("hidden");
	assert_int_equal(nr_lines, 1);
	syn_error("shown");
	assert_int_equal(nr_lines, 2);
	assert_int_equal(last_level, SYN_LOG_ERROR);
	syn_log_set_level(SYN_LOG_DEBUG);
	syn_debug("shown");
	assert_int_equal(nr_lines, 3);
}

static void test_names_round_trip(void **state)
{
	enum syn_log_level level = SYN_LOG_INFO;

	for (int i = SYN_LOG_ERROR; i <= SYN_LOG_DEBUG; i++) {
		const char *name = syn_log_level_name((enum syn_log_level)i);

		assert_int_equal(syn_log_level_parse(name, &level), 0);
		assert_int_equal(level, i);
	}
	level = SYN_LOG_WARNING;
	assert_int_equal(syn_log_level_parse("verbose", &level), -EINVAL);
	assert_int_equal(syn_log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, SYN_LOG_WARNING);
}

static void test_errno_survives(void **state)
{
	errno = ENOTTY;
	syn_info("errno is %m");
	assert_int_equal(errno, ENOTTY);
	assert_non_null(strstr(last_line, strerror(ENOTTY)));
}

static void test_long_line_is_cut(void **state)
{
	char text[4096];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	syn_info("%s", text);
	assert_int_equal(nr_lines, 1);
	assert_in_range(strlen(last_line), 512, sizeof(last_line) - 2);
}

static void test_default_sink_is_stderr(void **state)
{
	char text[64] = "";
	int saved = dup(STDERR_FILENO);
	int pipe_fds[2];

	assert_int_equal(pipe(pipe_fds), 0);
	syn_log_set_sink(NULL);
	assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
	syn_warning("careful");
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_true(read(pipe_fds[0], text, sizeof(text) - 1) > 0);
	assert_string_equal(text, "warning: careful\n");
	(void)close(saved);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_level_filters, setup),
		cmocka_unit_test_setup(test_names_round_trip, setup),
		cmocka_unit_test_setup(test_errno_survives, setup),
		cmocka_unit_test_setup(test_long_line_is_cut, setup),
		cmocka_unit_test_setup(test_default_sink_is_stderr, setup),
	};

	return test_main(tests);
}
