/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What synapsed can be told: one table drives the configuration file, the
 * environment, the command line and the help.  Flags beat the environment,
 * which beats the file.
 */
#ifndef SYN_TOOLS_SYNAPSED_CONFIG_H
#define SYN_TOOLS_SYNAPSED_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SYN_CONFIG_PATH	       "/etc/synapse/synapse.conf"
#define SYN_CONFIG_TEXT_BYTES  108 /* a socket's path, with its NUL */
#define SYN_CONFIG_DEVICE_HOST "host"

/**
 * struct syn_config - everything that can be set, in its final units.
 * @socket:		path of the listening socket.
 * @device:		SYN_CONFIG_DEVICE_HOST.
 * @socket_mode:	permission bits of the socket.
 * @log_level:		enum syn_log_level.
 * @max_sessions:	sessions at once.
 * @max_pages:		page records.
 * @hbm_bytes:		budget of the HBM tier.
 * @host_bytes:		budget of the host tier.
 * @host_lock:		0 or 1: lock host memory.
 * @host_huge_pages:	0 or 1: use huge pages where there are any.
 * @low_permille:	free share at which reclaim starts.
 * @high_permille:	free share at which it stops.
 *
 * Holds no pointer: the keeper hands it to the worker as it is.
 */
struct syn_config {
	char socket[SYN_CONFIG_TEXT_BYTES];
	char device[SYN_CONFIG_TEXT_BYTES];
	uint64_t socket_mode;
	uint64_t log_level;
	uint64_t max_sessions;
	uint64_t max_pages;
	uint64_t hbm_bytes;
	uint64_t host_bytes;
	uint64_t host_lock;
	uint64_t host_huge_pages;
	uint64_t low_permille;
	uint64_t high_permille;
};

enum syn_option_type {
	SYN_OPTION_PATH,
	SYN_OPTION_DEVICE,
	SYN_OPTION_SIZE,
	SYN_OPTION_COUNT,
	SYN_OPTION_SHARE,
	SYN_OPTION_MODE,
	SYN_OPTION_BOOL,
	SYN_OPTION_LEVEL,
};

/**
 * struct syn_option - one row of the table.
 * @section:	in the file.
 * @key:	in its section.
 * @env:	environment variable.
 * @flag:	long option, without the dashes.
 * @type:	how the text is read.
 * @min:	least value, for numbers.
 * @max:	greatest value, for numbers.
 * @offset:	of the member of struct syn_config.
 * @fallback:	text of the default.
 * @help:	one line.
 */
struct syn_option {
	const char *section;
	const char *key;
	const char *env;
	const char *flag;
	enum syn_option_type type;
	uint64_t min;
	uint64_t max;
	size_t offset;
	const char *fallback;
	const char *help;
};

const struct syn_option *syn_config_options(size_t *ret_nr);

void syn_config_default(struct syn_config *ret);

/*
 * Each logs one line that says where, which key and what was expected, and
 * returns -EINVAL, or the error of the file.
 */
int syn_config_set(struct syn_config *config, const struct syn_option *option,
		   const char *text, const char *where);
int syn_config_read(struct syn_config *config, const char *path);
int syn_config_environment(struct syn_config *config);
/* What only all values together can tell. */
int syn_config_check(const struct syn_config *config);

/* As a file that would give the same. */
void syn_config_print(const struct syn_config *config, FILE *file);

#endif
