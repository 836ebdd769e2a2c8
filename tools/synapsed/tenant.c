/* SPDX-License-Identifier: Apache-2.0 */
/* The sections [quota] and [tenant NAME]. */
#include "tools/synapsed/tenant.h"

#include <ctype.h>
#include <inttypes.h>

#include "core/base/base.h"
#include "core/base/log.h"

#define SECTION_QUOTA  "quota"
#define SECTION_TENANT "tenant "
#define QUOTA_FIRST    2u /* rows before it are a tenant's own */

#define AT(member)    offsetof(struct syn_tenant, member)
#define LEAST(tier)   SYN_OPTION_LEAST, 0, 0, AT(quota[tier].min), "none"
#define MOST(tier, m) SYN_OPTION_MOST, 0, 0, AT(quota[tier].m), "none"

static const struct syn_option options[SYN_TENANT_OPTIONS] = {
	{ "tenant", "socket", NULL, NULL, SYN_OPTION_PATH, 1,
	  SYN_CONFIG_TEXT_BYTES, AT(socket), NULL,
	  "where its clients connect; in a directory of its own" },
	{ "tenant", "socket_mode", NULL, NULL, SYN_OPTION_MODE, 0, 0777,
	  AT(socket_mode), "0660", "who may connect, as permission bits" },
	{ "quota", "hbm_min", NULL, NULL, LEAST(0), "kept free" },
	{ "quota", "hbm_high", NULL, NULL, MOST(0, high), "gives up first" },
	{ "quota", "hbm_max", NULL, NULL, MOST(0, max), "gets no more" },
	{ "quota", "host_min", NULL, NULL, LEAST(1), "kept free" },
	{ "quota", "host_high", NULL, NULL, MOST(1, high), "gives up first" },
	{ "quota", "host_max", NULL, NULL, MOST(1, max), "gets no more" },
	{ "quota", "nvme_min", NULL, NULL, LEAST(2), "kept free" },
	{ "quota", "nvme_high", NULL, NULL, MOST(2, high), "gives up first" },
	{ "quota", "nvme_max", NULL, NULL, MOST(2, max), "gets no more" },
};

const struct syn_option *syn_tenant_options(void)
{
	return options;
}

static void tenant_default(struct syn_tenant *tenant)
{
	*tenant = (struct syn_tenant){ 0 };
	for (size_t i = 0; i < SYN_TENANT_OPTIONS; i++)
		if (options[i].fallback)
			(void)syn_option_set(tenant, &options[i],
					     options[i].fallback, "default");
}

void syn_tenant_default(struct syn_config *config)
{
	tenant_default(&config->tenant[0]);
	config->nr_tenants = 1;
}

/* ---- the file ----------------------------------------------------------- */

bool syn_tenant_section(const char *section)
{
	return !strcmp(section, SECTION_QUOTA) ||
	       !strncmp(section, SECTION_TENANT, strlen(SECTION_TENANT) - 1);
}

static bool name_sound(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("-_", name[i]))
			return false;
	return len && len < SYN_TENANT_NAME_BYTES;
}

struct syn_tenant *syn_tenant_find(struct syn_config *config,
				   const char *section, int line,
				   struct syn_tenant_lines *lines)
{
	const char *name = section + strlen(SECTION_TENANT);
	struct syn_tenant *tenant;
	uint64_t i;

	if (!strcmp(section, SECTION_QUOTA))
		return &config->tenant[0];
	if (strncmp(section, SECTION_TENANT, strlen(SECTION_TENANT)) != 0 ||
	    !name_sound(name))
		return NULL;
	for (i = 1; i < config->nr_tenants; i++)
		if (!strcmp(config->tenant[i].name, name))
			return &config->tenant[i];
	if (i == SYN_TENANTS_MAX)
		return NULL;
	tenant = &config->tenant[config->nr_tenants++];
	tenant_default(tenant);
	memcpy(tenant->name, name, strlen(name) + 1);
	lines->section[i] = line;
	return tenant;
}

const struct syn_option *syn_tenant_option(const char *section, const char *key)
{
	size_t i = strcmp(section, SECTION_QUOTA) ? 0 : QUOTA_FIRST;

	for (; i < SYN_TENANT_OPTIONS; i++)
		if (!strcmp(options[i].key, key))
			return &options[i];
	return NULL;
}

bool syn_tenant_see(const struct syn_config *config, struct syn_tenant *tenant,
		    const struct syn_option *option, int line,
		    struct syn_tenant_lines *lines)
{
	uint32_t bit = 1u << (option - options);

	if (tenant->seen & bit)
		return false;
	tenant->seen |= bit;
	lines->option[tenant - config->tenant][option - options] = line;
	return true;
}

/* ---- checks ------------------------------------------------------------- */

static void section_format(const struct syn_tenant *tenant, char *to,
			   size_t max)
{
	if (*tenant->name)
		(void)snprintf(to, max, "[tenant %s]", tenant->name);
	else
		(void)snprintf(to, max, "[quota]");
}

static uint64_t *option_value(struct syn_tenant *tenant, size_t i)
{
	return (void *)((char *)tenant + options[i].offset);
}

/* What [quota] says counts for all that do not say better. */
static void tenant_inherit(struct syn_tenant *tenant, struct syn_tenant *from)
{
	for (size_t i = QUOTA_FIRST; i < SYN_TENANT_OPTIONS; i++)
		if (!(tenant->seen >> i & 1))
			*option_value(tenant, i) = *option_value(from, i);
}

/*
 * The key in whose line the mistake is seen: the last one of the three that
 * was set, in the tenant's own section if any was there.
 */
static size_t tier_last(const struct syn_tenant_lines *lines, uint64_t *tenant,
			size_t first)
{
	size_t last = first;

	if (!lines->option[*tenant][first] &&
	    !lines->option[*tenant][first + 1] &&
	    !lines->option[*tenant][first + 2])
		*tenant = 0;
	for (size_t i = first; i < first + 3; i++)
		if (lines->option[*tenant][i] > lines->option[*tenant][last])
			last = i;
	return last;
}

static int tier_check(struct syn_config *config, uint64_t at, uint32_t tier,
		      const char *path, const struct syn_tenant_lines *lines)
{
	const struct syn_quota *quota = &config->tenant[at].quota[tier];
	size_t last;

	if (quota->min <= quota->max && quota->min <= quota->high &&
	    (quota->high == SYN_QUOTA_NONE || quota->high <= quota->max))
		return 0;
	last = tier_last(lines, &at, QUOTA_FIRST + 3 * (size_t)tier);
	syn_error("%s:%d: %s: expected min <= high <= max, those of "
		  "[quota] included",
		  path, lines->option[at][last], options[last].key);
	return -EINVAL;
}

static int tenant_complete(struct syn_config *config, uint64_t at,
			   const char *path,
			   const struct syn_tenant_lines *lines)
{
	struct syn_tenant *tenant = &config->tenant[at];
	uint32_t tier;
	int r = 0;

	if (at) {
		tenant_inherit(tenant, &config->tenant[0]);
		if (!*tenant->socket) {
			syn_error("%s:%d: socket: expected in [tenant %s]",
				  path, lines->section[at], tenant->name);
			return -EINVAL;
		}
	}
	for (tier = 0; tier < SYN_QUOTA_TIERS && !r; tier++)
		r = tier_check(config, at, tier, path, lines);
	return r;
}

static size_t dir_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

/* As they are spelt; what they really are is seen when they are opened. */
static bool same_dir(const struct syn_tenant *a, const struct syn_tenant *b)
{
	size_t len = dir_length(a->socket);

	return len == dir_length(b->socket) &&
	       !strncmp(a->socket, b->socket, len);
}

static int dirs_check(const struct syn_config *config, uint64_t from,
		      const char *path, const struct syn_tenant_lines *lines)
{
	for (uint64_t i = from + 1; i < config->nr_tenants; i++) {
		if (!same_dir(&config->tenant[from], &config->tenant[i]))
			continue;
		if (lines)
			syn_error("%s:%d: socket: expected in a directory of "
				  "its own",
				  path, lines->option[i][0]);
		else
			syn_error("[tenant %s] socket: expected in another "
				  "directory than the main socket",
				  config->tenant[i].name);
		return -EINVAL;
	}
	return 0;
}

int syn_tenant_complete(struct syn_config *config, const char *path,
			const struct syn_tenant_lines *lines)
{
	uint64_t i;
	int r = 0;

	for (i = 0; i < config->nr_tenants && !r; i++)
		r = tenant_complete(config, i, path, lines);
	for (i = 1; i < config->nr_tenants && !r; i++)
		r = dirs_check(config, i, path, lines);
	return r;
}

static int budget_check(const struct syn_tenant *tenant, uint32_t tier,
			uint64_t budget_bytes)
{
	char section[64];

	if (tenant->quota[tier].min <= budget_bytes)
		return 0;
	section_format(tenant, section, sizeof(section));
	syn_error("%s %s: expected no more than the tier's budget", section,
		  options[QUOTA_FIRST + 3 * (size_t)tier].key);
	return -EINVAL;
}

int syn_tenant_check(struct syn_config *config)
{
	struct syn_tenant *first = &config->tenant[0];
	uint64_t i;
	int r = 0;

	memcpy(first->socket, config->socket, sizeof(first->socket));
	first->socket_mode = config->socket_mode;
	for (i = 0; i < config->nr_tenants && !r; i++) {
		r = budget_check(&config->tenant[i], 0, config->hbm_bytes);
		if (!r)
			r = budget_check(&config->tenant[i], 1,
					 config->host_bytes);
	}
	return r ? r : dirs_check(config, 0, NULL, NULL);
}

void syn_tenant_print(const struct syn_config *config, FILE *file)
{
	for (uint64_t i = 0; i < config->nr_tenants; i++) {
		const struct syn_tenant *tenant = &config->tenant[i];
		char section[64];

		section_format(tenant, section, sizeof(section));
		(void)fprintf(file, "\n%s\n", section);
		for (size_t o = i ? 0 : QUOTA_FIRST; o < SYN_TENANT_OPTIONS;
		     o++)
			syn_option_print(tenant, &options[o], file);
	}
}
