/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What synapsed can be told: one table drives the configuration file, the
 * environment, the command line and the help.  Flags beat the environment,
 * which beats the file.
 */
#ifndef SYN_TOOLS_SYNAPSED_CONFIG_H
#define SYN_TOOLS_SYNAPSED_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/mm.h"

#define SYN_CONFIG_PATH	       "/etc/synapse/synapse.conf"
#define SYN_CONFIG_TEXT_BYTES  108 /* a socket's path, with its NUL */
#define SYN_CONFIG_FILE_BYTES  512 /* any other path */
#define SYN_CONFIG_DEVICE_HOST "host"
#define SYN_CONFIG_DEVICE_CUDA "cuda" /* the first GPU */
#define SYN_TENANTS_MAX	       16u    /* the main socket's included */
#define SYN_TENANT_NAME_BYTES  32u

/**
 * struct syn_tenant - one socket, and what each domain that comes through it
 * may have.
 * @name:		from its section; "" for the main socket.
 * @socket:		path; "": not given yet.
 * @socket_mode:	permission bits of the socket.
 * @quota:		by tier, SYN_TIER_* - 1.
 * @seen:		options set so far, one bit each.
 * @pad0:		zero.
 */
struct syn_tenant {
	char name[SYN_TENANT_NAME_BYTES];
	char socket[SYN_CONFIG_TEXT_BYTES];
	uint64_t socket_mode;
	struct syn_quota quota[SYN_QUOTA_TIERS];
	uint32_t seen;
	uint32_t pad0;
};

/* [hbm] node, when nobody chose. */
#define SYN_CONFIG_NODE_AUTO UINT64_MAX
/* A budget given as a share: this, and permille; see budget.h. */
#define SYN_CONFIG_OF_LIMIT (1ull << 63)

/**
 * struct syn_config - everything that can be set, in its final units.
 * @socket:		path of the listening socket.
 * @device:		SYN_CONFIG_DEVICE_*, or a GPU's UUID.
 * @nvme_file:		path of the swap file, empty: no NVMe tier.
 * @socket_mode:	permission bits of the socket.
 * @log_level:		enum syn_log_level.
 * @max_sessions:	sessions at once.
 * @max_pages:		page records.
 * @hbm_bytes:		budget of the HBM tier.
 * @hbm_node:		NUMA node of the device, or SYN_CONFIG_NODE_AUTO.
 * @host_bytes:		budget of the host tier.
 * @host_nodes:		nodes it may lie on, one bit each; 0: the nearest.
 * @host_lock:		0 or 1: lock host memory.
 * @host_huge_pages:	0 or 1: use huge pages where there are any.
 * @low_permille:	free share at which reclaim starts.
 * @high_permille:	free share at which it stops.
 * @domain_by:		SYN_SERVER_BY_*.
 * @codec:		SYN_CODEC_* of pages below HBM.
 * @nr_tenants:		used entries of @tenant.
 * @tenant:		the first is the main socket with the quotas that all
 *			others begin with.
 *
 * Holds no pointer: the keeper hands it to the worker as it is.  The keeper may be
 * of an older program: what is new comes last, and zero there says what was so
 * before.
 */
struct syn_config {
	char socket[SYN_CONFIG_TEXT_BYTES];
	char device[SYN_CONFIG_TEXT_BYTES];
	char nvme_file[SYN_CONFIG_FILE_BYTES];
	uint64_t socket_mode;
	uint64_t log_level;
	uint64_t max_sessions;
	uint64_t max_pages;
	uint64_t hbm_bytes;
	uint64_t hbm_node;
	uint64_t host_bytes;
	uint64_t host_nodes;
	uint64_t host_lock;
	uint64_t host_huge_pages;
	uint64_t low_permille;
	uint64_t high_permille;
	uint64_t domain_by;
	uint64_t codec;
	uint64_t nr_tenants;
	struct syn_tenant tenant[SYN_TENANTS_MAX];
};
SYN_ABI_AT(struct syn_config, tenant, 848, 3712);
#define SYN_CONFIG_LEAST_BYTES (848u + 3712u)

enum syn_option_type {
	SYN_OPTION_PATH,
	SYN_OPTION_DEVICE,
	SYN_OPTION_SIZE,
	SYN_OPTION_BUDGET,
	SYN_OPTION_COUNT,
	SYN_OPTION_SHARE,
	SYN_OPTION_MODE,
	SYN_OPTION_BOOL,
	SYN_OPTION_LEVEL,
	SYN_OPTION_DOMAIN,
	SYN_OPTION_LEAST, /* a size; "none" is 0 */
	SYN_OPTION_MOST,  /* a size; "none" is SYN_QUOTA_NONE */
	SYN_OPTION_NODE,
	SYN_OPTION_NODES,
	SYN_OPTION_CODEC,
};

/**
 * struct syn_option - one row of the table.
 * @section:	in the file.
 * @key:	in its section.
 * @env:	environment variable; NULL: in the file only.
 * @flag:	long option, without the dashes; NULL with @env.
 * @type:	how the text is read.
 * @min:	least value, for numbers; least length, for texts.
 * @max:	greatest value, for numbers; bytes with the NUL, for texts.
 * @offset:	of the member of struct syn_config or struct syn_tenant.
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

/* "host", "cuda", or what has the form of a GPU's UUID. */
bool syn_config_device_known(const char *text);
/* Its HBM is a GPU's, not ordinary memory. */
bool syn_config_on_gpu(const struct syn_config *config);

const struct syn_option *syn_config_options(size_t *ret_nr);

void syn_config_default(struct syn_config *ret);

/* One value in @to, which holds the option's member. */
int syn_option_set(void *to, const struct syn_option *option, const char *text,
		   const char *where);
void syn_option_print(const void *from, const struct syn_option *option,
		      FILE *file);

/*
 * Each logs one line that says where, which key and what was expected, and
 * returns -EINVAL, or the error of the file.
 */
int syn_config_read(struct syn_config *config, const char *path);
int syn_config_environment(struct syn_config *config);
/* What only all values together can tell; completes the first tenant. */
int syn_config_check(struct syn_config *config);

/* A number of bytes, or one with K, M, G or T behind it. */
int syn_config_size(const char *text, uint64_t *ret);

/* As a file that would give the same. */
void syn_config_print(const struct syn_config *config, FILE *file);

#endif
