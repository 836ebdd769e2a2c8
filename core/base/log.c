/* SPDX-License-Identifier: Apache-2.0 */
/* The one log sink. */
#include "core/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/atomic.h"
#include "core/base/base.h"

#define LINE_BYTES 1024

static const char *const level_names[] = {
	[SYN_LOG_ERROR] = "error",
	[SYN_LOG_WARNING] = "warning",
	[SYN_LOG_INFO] = "info",
	[SYN_LOG_DEBUG] = "debug",
};

static void sink_stderr(enum syn_log_level level, const char *line)
{
	(void)fprintf(stderr, "%s: %s\n", level_names[level], line);
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static syn_log_sink_fn log_sink = sink_stderr; /* under log_lock */
static enum syn_log_level log_max = SYN_LOG_INFO;

void syn_log_set_sink(syn_log_sink_fn sink)
{
	pthread_mutex_lock(&log_lock);
	log_sink = sink ? sink : sink_stderr;
	pthread_mutex_unlock(&log_lock);
}

void syn_log_set_level(enum syn_log_level max)
{
	syn_store_relaxed(&log_max, max);
}

const char *syn_log_level_name(enum syn_log_level level)
{
	return level_names[level];
}

int syn_log_level_parse(const char *name, enum syn_log_level *ret)
{
	for (size_t i = 0; i < syn_array_size(level_names); i++) {
		if (strcmp(name, level_names[i]))
			continue;
		*ret = (enum syn_log_level)i;
		return 0;
	}
	return -EINVAL;
}

void syn_log(enum syn_log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES];
	int saved = errno;
	va_list ap;

	if (level > syn_load_relaxed(&log_max))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&log_lock);
	log_sink(level, line);
	pthread_mutex_unlock(&log_lock);
	errno = saved;
}
