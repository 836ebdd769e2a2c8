/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levels and one sink.  Daemon code logs at any level; code that runs inside
 * the client library never logs above debug.
 */
#ifndef SYN_CORE_BASE_LOG_H
#define SYN_CORE_BASE_LOG_H

enum syn_log_level {
	SYN_LOG_ERROR,
	SYN_LOG_WARNING,
	SYN_LOG_INFO,
	SYN_LOG_DEBUG,
};

/*
 * Receives one formatted line without a newline.  Called from any thread, one
 * call at a time.
 */
typedef void (*syn_log_sink_fn)(enum syn_log_level level, const char *line);

/* NULL restores the default sink: stderr, "level: line". */
void syn_log_set_sink(syn_log_sink_fn sink);
void syn_log_set_level(enum syn_log_level max);
const char *syn_log_level_name(enum syn_log_level level);
/* 0 and *ret, or -EINVAL for a name that is no level. */
int syn_log_level_parse(const char *name, enum syn_log_level *ret);

void syn_log(enum syn_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define syn_error(...)	 syn_log(SYN_LOG_ERROR, __VA_ARGS__)
#define syn_warning(...) syn_log(SYN_LOG_WARNING, __VA_ARGS__)
#define syn_info(...)	 syn_log(SYN_LOG_INFO, __VA_ARGS__)
#define syn_debug(...)	 syn_log(SYN_LOG_DEBUG, __VA_ARGS__)

#endif
