/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and checking the configuration. */
#include "tools/synapsed/config.h"

#include <inttypes.h>
#include <stdarg.h>

#include <ini.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "ipc/server/server.h"
#include "numa/topology.h"
#include "tools/synapsed/tenant.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define AT(member) offsetof(struct syn_config, member)

static const struct syn_option options[] = {
	{ "daemon", "socket", "SYNAPSE_SOCKET", "socket", SYN_OPTION_PATH, 1,
	  SYN_CONFIG_TEXT_BYTES, AT(socket), "/run/synapse/synapse.sock",
	  "where clients connect; its directory must exist" },
	{ "daemon", "socket_mode", "SYNAPSE_SOCKET_MODE", "socket-mode",
	  SYN_OPTION_MODE, 0, 0777, AT(socket_mode), "0660",
	  "who may connect, as permission bits" },
	{ "daemon", "log_level", "SYNAPSE_LOG_LEVEL", "log-level",
	  SYN_OPTION_LEVEL, 0, 0, AT(log_level), "info",
	  "how much is written to standard error" },
	{ "daemon", "max_sessions", "SYNAPSE_MAX_SESSIONS", "max-sessions",
	  SYN_OPTION_COUNT, 1, 65536, AT(max_sessions), "1024",
	  "clients attached at once" },
	{ "daemon", "max_pages", "SYNAPSE_MAX_PAGES", "max-pages",
	  SYN_OPTION_COUNT, 64, 1ull << 24, AT(max_pages), "262144",
	  "pages that may exist at once" },
	{ "daemon", "domain", "SYNAPSE_DOMAIN", "domain", SYN_OPTION_DOMAIN, 0,
	  0, AT(domain_by), "socket,uid,cgroup",
	  "what clients of one domain have in common" },
	{ "hbm", "budget", "SYNAPSE_HBM_BUDGET", "hbm", SYN_OPTION_SIZE,
	  4 * MIB, 64 * TIB, AT(hbm_bytes), "256M",
	  "memory of the first tier" },
	{ "hbm", "device", "SYNAPSE_HBM_DEVICE", "device", SYN_OPTION_DEVICE, 1,
	  SYN_CONFIG_TEXT_BYTES, AT(device), SYN_CONFIG_DEVICE_HOST,
	  "what the first tier is made of" },
	{ "hbm", "node", "SYNAPSE_HBM_NODE", "hbm-node", SYN_OPTION_NODE, 0, 0,
	  AT(hbm_node), "auto", "NUMA node of the first tier" },
	{ "host", "budget", "SYNAPSE_HOST_BUDGET", "host", SYN_OPTION_BUDGET,
	  4 * MIB, 64 * TIB, AT(host_bytes), "1G",
	  "memory of the second tier" },
	{ "host", "nodes", "SYNAPSE_HOST_NODES", "host-nodes", SYN_OPTION_NODES,
	  0, 0, AT(host_nodes), "auto", "NUMA nodes of the second tier" },
	{ "host", "lock", "SYNAPSE_HOST_LOCK", "lock", SYN_OPTION_BOOL, 0, 1,
	  AT(host_lock), "no", "lock it, so that it is never swapped" },
	{ "host", "huge_pages", "SYNAPSE_HOST_HUGE_PAGES", "huge-pages",
	  SYN_OPTION_BOOL, 0, 1, AT(host_huge_pages), "no",
	  "use huge pages where the system has them" },
	{ "nvme", "file", "SYNAPSE_NVME_FILE", "nvme-file", SYN_OPTION_PATH, 0,
	  SYN_CONFIG_FILE_BYTES, AT(nvme_file), "",
	  "swap file of the third tier; none without" },
	{ "ladder", "host", "SYNAPSE_LADDER_HOST", "ladder-host",
	  SYN_OPTION_CODEC, 0, 0, AT(codec), "raw16",
	  "codec of pages that leave HBM, where their space allows it" },
	{ "reclaim", "low", "SYNAPSE_RECLAIM_LOW", "low", SYN_OPTION_SHARE, 0,
	  1000, AT(low_permille), "10%",
	  "free share of a client's slots below which reclaim starts" },
	{ "reclaim", "high", "SYNAPSE_RECLAIM_HIGH", "high", SYN_OPTION_SHARE,
	  0, 1000, AT(high_permille), "20%", "free share at which it stops" },
};

const struct syn_option *syn_config_options(size_t *ret_nr)
{
	*ret_nr = syn_array_size(options);
	return options;
}

/* ---- values ------------------------------------------------------------- */

/* Decimal digits, then one of @units; *ret_unit is 0 for none. */
static int number_parse(const char *text, const char *units, uint64_t *ret,
			char *ret_unit)
{
	uint64_t value = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (syn_mul_overflow(value, 10, &value) ||
		    syn_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return -ERANGE;
	}
	*ret_unit = *text;
	if (*text && (!strchr(units, *text) || text[1]))
		return -EINVAL;
	*ret = value;
	return 0;
}

int syn_config_size(const char *text, uint64_t *ret)
{
	uint64_t scale = 1;
	uint64_t value;
	char unit;
	int r;

	r = number_parse(text, "KMGT", &value, &unit);
	if (r)
		return r;
	switch (unit) {
	case 'K':
		scale = KIB;
		break;
	case 'M':
		scale = MIB;
		break;
	case 'G':
		scale = GIB;
		break;
	case 'T':
		scale = TIB;
		break;
	}
	return syn_mul_overflow(value, scale, ret) ? -ERANGE : 0;
}

static int share_parse(const char *text, uint64_t *ret)
{
	uint64_t value;
	char unit;
	int r;

	r = number_parse(text, "%", &value, &unit);
	if (r)
		return r;
	if (unit != '%')
		return -EINVAL;
	return syn_mul_overflow(value, 10, ret) ? -ERANGE : 0;
}

static int budget_parse(const char *text, uint64_t *ret)
{
	uint64_t permille;

	if (!strchr(text, '%'))
		return syn_config_size(text, ret);
	if (share_parse(text, &permille) || !permille || permille > 1000)
		return -EINVAL;
	*ret = SYN_CONFIG_OF_LIMIT | permille;
	return 0;
}

static int node_parse(const char *text, uint64_t *ret)
{
	uint64_t node;
	char unit;

	if (strcmp(text, "auto") == 0) {
		*ret = SYN_CONFIG_NODE_AUTO;
		return 0;
	}
	if (number_parse(text, "", &node, &unit) || node >= SYN_NUMA_NODES)
		return -EINVAL;
	*ret = node;
	return 0;
}

static int nodes_parse(const char *text, uint64_t *ret)
{
	uint64_t mask = 0;
	char *end;

	if (strcmp(text, "auto") == 0) {
		*ret = 0;
		return 0;
	}
	for (;;) {
		unsigned long node;

		if (*text < '0' || *text > '9')
			return -EINVAL;
		node = strtoul(text, &end, 10);
		if (node >= SYN_NUMA_NODES || mask >> node & 1)
			return -EINVAL;
		mask |= 1ull << node;
		if (*end != ',')
			break;
		text = end + 1;
	}
	if (*end)
		return -EINVAL;
	*ret = mask;
	return 0;
}

static int mode_parse(const char *text, uint64_t *ret)
{
	char *end;
	unsigned long value;

	if (*text < '0' || *text > '7')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 8);
	if (*end || errno)
		return -EINVAL;
	*ret = value;
	return 0;
}

static int bool_parse(const char *text, uint64_t *ret)
{
	if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
		return -EINVAL;
	*ret = text[0] == 'y';
	return 0;
}

static int level_parse(const char *text, uint64_t *ret)
{
	enum syn_log_level level;
	int r;

	r = syn_log_level_parse(text, &level);
	if (!r)
		*ret = level;
	return r;
}

static const struct {
	const char *text;
	uint64_t by;
} domain_words[] = {
	{ "socket,uid,cgroup",
	  SYN_SERVER_BY_SOCKET | SYN_SERVER_BY_UID | SYN_SERVER_BY_CGROUP },
	{ "socket,uid", SYN_SERVER_BY_SOCKET | SYN_SERVER_BY_UID },
	{ "socket,cgroup", SYN_SERVER_BY_SOCKET | SYN_SERVER_BY_CGROUP },
	{ "socket", SYN_SERVER_BY_SOCKET },
};

static int domain_parse(const char *text, uint64_t *ret)
{
	for (size_t i = 0; i < syn_array_size(domain_words); i++) {
		if (strcmp(text, domain_words[i].text) != 0)
			continue;
		*ret = domain_words[i].by;
		return 0;
	}
	return -EINVAL;
}

static const char *domain_format(uint64_t by)
{
	size_t i = 0;

	while (domain_words[i].by != by)
		i++;
	return domain_words[i].text;
}

static const struct {
	const char *name;
	uint64_t codec;
} codecs[] = {
	{ "raw16", SYN_CODEC_RAW16 },
	{ "h4", SYN_CODEC_H4 },
};

static int codec_parse(const char *text, uint64_t *ret)
{
	for (size_t i = 0; i < syn_array_size(codecs); i++) {
		if (strcmp(text, codecs[i].name) != 0)
			continue;
		*ret = codecs[i].codec;
		return 0;
	}
	return -EINVAL;
}

static const char *codec_format(uint64_t codec)
{
	size_t i = 0;

	while (codecs[i].codec != codec)
		i++;
	return codecs[i].name;
}

static uint64_t limit_none(const struct syn_option *option)
{
	return option->type == SYN_OPTION_LEAST ? 0 : SYN_QUOTA_NONE;
}

static int limit_parse(const struct syn_option *option, const char *text,
		       uint64_t *ret)
{
	if (strcmp(text, "none") != 0)
		return syn_config_size(text, ret);
	*ret = limit_none(option);
	return 0;
}

static int count_parse(const char *text, uint64_t *ret)
{
	char unit;

	return number_parse(text, "", ret, &unit);
}

static int value_parse(const struct syn_option *option, const char *text,
		       uint64_t *ret)
{
	switch (option->type) {
	case SYN_OPTION_SIZE:
		return syn_config_size(text, ret);
	case SYN_OPTION_BUDGET:
		return budget_parse(text, ret);
	case SYN_OPTION_COUNT:
		return count_parse(text, ret);
	case SYN_OPTION_SHARE:
		return share_parse(text, ret);
	case SYN_OPTION_MODE:
		return mode_parse(text, ret);
	case SYN_OPTION_BOOL:
		return bool_parse(text, ret);
	case SYN_OPTION_LEVEL:
		return level_parse(text, ret);
	case SYN_OPTION_DOMAIN:
		return domain_parse(text, ret);
	case SYN_OPTION_LEAST:
	case SYN_OPTION_MOST:
		return limit_parse(option, text, ret);
	case SYN_OPTION_NODE:
		return node_parse(text, ret);
	case SYN_OPTION_NODES:
		return nodes_parse(text, ret);
	case SYN_OPTION_CODEC:
		return codec_parse(text, ret);
	case SYN_OPTION_PATH:
	case SYN_OPTION_DEVICE:
		break;
	}
	return -EINVAL;
}

static void size_format(uint64_t bytes, char *to, size_t max)
{
	static const char units[] = "TGMK";
	uint64_t scale = TIB;

	for (int i = 0; units[i]; i++, scale /= KIB) {
		if (bytes && bytes % scale == 0) {
			(void)snprintf(to, max, "%" PRIu64 "%c", bytes / scale,
				       units[i]);
			return;
		}
	}
	(void)snprintf(to, max, "%" PRIu64, bytes);
}

static void expect_format(const struct syn_option *option, char *to, size_t max)
{
	char low[32];
	char high[32];

	switch (option->type) {
	case SYN_OPTION_PATH:
		(void)snprintf(to, max,
			       "a path of %" PRIu64 " to %" PRIu64 " bytes",
			       option->min, option->max - 1);
		break;
	case SYN_OPTION_DEVICE:
		(void)snprintf(to, max,
			       "\"host\", \"cuda\" or a GPU's UUID as "
			       "nvidia-smi -L prints it");
		break;
	case SYN_OPTION_SIZE:
	case SYN_OPTION_BUDGET:
		size_format(option->min, low, sizeof(low));
		size_format(option->max, high, sizeof(high));
		(void)snprintf(to, max,
			       "a size from %s to %s, as in 64M or 2G%s", low,
			       high,
			       option->type == SYN_OPTION_BUDGET
				       ? ", or a share from 1% to 100%"
				       : "");
		break;
	case SYN_OPTION_COUNT:
		(void)snprintf(to, max, "a number from %" PRIu64 " to %" PRIu64,
			       option->min, option->max);
		break;
	case SYN_OPTION_SHARE:
		(void)snprintf(to, max, "a share from 0%% to 100%%");
		break;
	case SYN_OPTION_MODE:
		(void)snprintf(to, max, "octal permission bits, as in 0660");
		break;
	case SYN_OPTION_BOOL:
		(void)snprintf(to, max, "\"yes\" or \"no\"");
		break;
	case SYN_OPTION_LEVEL:
		(void)snprintf(to, max,
			       "\"error\", \"warning\", \"info\" or \"debug\"");
		break;
	case SYN_OPTION_CODEC:
		(void)snprintf(to, max, "\"raw16\" or \"h4\"");
		break;
	case SYN_OPTION_DOMAIN:
		(void)snprintf(to, max,
			       "\"socket\", then \",uid\", \",cgroup\" or "
			       "\",uid,cgroup\" or nothing");
		break;
	case SYN_OPTION_LEAST:
	case SYN_OPTION_MOST:
		(void)snprintf(to, max, "a size, as in 64M or 2G, or \"none\"");
		break;
	case SYN_OPTION_NODE:
		(void)snprintf(to, max, "\"auto\" or a node from 0 to %d",
			       SYN_NUMA_NODES - 1);
		break;
	case SYN_OPTION_NODES:
		(void)snprintf(to, max,
			       "\"auto\" or nodes from 0 to %d, as in 0,1",
			       SYN_NUMA_NODES - 1);
		break;
	}
}

static bool text_set(char *to, const struct syn_option *option,
		     const char *text)
{
	size_t len = strlen(text);

	if (len < option->min || len >= option->max)
		return false;
	if (option->type == SYN_OPTION_DEVICE && !syn_config_device_known(text))
		return false;
	memset(to, 0, option->max);
	memcpy(to, text, len);
	return true;
}

static bool value_set(uint64_t *to, const struct syn_option *option,
		      const char *text)
{
	uint64_t value;

	if (value_parse(option, text, &value))
		return false;
	if (option->type == SYN_OPTION_BUDGET && value & SYN_CONFIG_OF_LIMIT)
		;
	else if (option->max && (value < option->min || value > option->max))
		return false;
	*to = value;
	return true;
}

int syn_option_set(void *to, const struct syn_option *option, const char *text,
		   const char *where)
{
	char expect[128];
	bool good;

	to = (char *)to + option->offset;
	if (option->type == SYN_OPTION_PATH ||
	    option->type == SYN_OPTION_DEVICE)
		good = text_set(to, option, text);
	else
		good = value_set(to, option, text);
	if (good)
		return 0;
	expect_format(option, expect, sizeof(expect));
	syn_error("%s: \"%.64s\": expected %s", where, text, expect);
	return -EINVAL;
}

void syn_config_default(struct syn_config *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < syn_array_size(options); i++)
		(void)syn_option_set(ret, &options[i], options[i].fallback,
				     "default");
	syn_tenant_default(ret);
}

/* ---- the file ----------------------------------------------------------- */

/**
 * struct reader - one file being read.
 * @config:	what it sets.
 * @path:	for messages.
 * @file:	open.
 * @line:	number of the last line read.
 * @error:	0, or what is wrong; only the first is reported.
 * @seen:	options set so far, one bit each.
 * @lines:	where quotas were set.
 */
struct reader {
	struct syn_config *config;
	const char *path;
	FILE *file;
	int line;
	int error;
	uint64_t seen;
	struct syn_tenant_lines lines;
};

static int __attribute__((format(printf, 2, 3)))
reader_fail(struct reader *reader, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!reader->error) {
		va_start(ap, fmt);
		(void)vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		syn_error("%s:%d: %s", reader->path, reader->line, text);
	}
	reader->error = -EINVAL;
	return 0;
}

/* The library goes on after an error and would complain of a later line. */
static bool line_sound(const char *line)
{
	line += strspn(line, " \t\r\n");
	if (!*line || strchr(";#", *line))
		return true;
	return *line == '[' ? strchr(line, ']') : strpbrk(line, "=:");
}

/* One that has no key must not go unseen. */
static void reader_section(struct reader *reader, const char *line)
{
	char section[64];

	(void)snprintf(section, sizeof(section), "%.*s",
		       (int)strcspn(line + 1, "]"), line + 1);
	if (syn_tenant_section(section) &&
	    !syn_tenant_find(reader->config, section, reader->line,
			     &reader->lines))
		reader_fail(reader, "[%s]: expected [tenant NAME], %s", section,
			    SYN_TENANT_EXPECTED);
}

/* The library has no line numbers of its own, so lines are counted here. */
static char *reader_line(char *to, int max, void *ctx)
{
	struct reader *reader = ctx;
	size_t len;

	if (reader->error || !fgets(to, max, reader->file))
		return NULL;
	reader->line++;
	len = strlen(to);
	if (len + 1 == (size_t)max && to[len - 1] != '\n')
		reader_fail(reader, "the line is longer than %d bytes",
			    max - 2);
	else if (!line_sound(to) && to[0] != ' ' && to[0] != '\t')
		reader_fail(reader,
			    "expected \"[section]\" or \"key = value\"");
	else if (to[0] == '[')
		reader_section(reader, to);
	return reader->error ? NULL : to;
}

static bool section_known(const char *section)
{
	for (size_t i = 0; i < syn_array_size(options); i++)
		if (strcmp(options[i].section, section) == 0)
			return true;
	return false;
}

static const struct syn_option *option_find(const char *section,
					    const char *key)
{
	for (size_t i = 0; i < syn_array_size(options); i++)
		if (strcmp(options[i].section, section) == 0 &&
		    strcmp(options[i].key, key) == 0)
			return &options[i];
	return NULL;
}

static int reader_set(struct reader *reader, void *to,
		      const struct syn_option *option, const char *value)
{
	char where[320];

	if (reader->error)
		return 0;
	(void)snprintf(where, sizeof(where), "%s:%d: %s", reader->path,
		       reader->line, option->key);
	reader->error = syn_option_set(to, option, value, where);
	return !reader->error;
}

/* Of [quota] or of a tenant's section. */
static int reader_tenant(struct reader *reader, const char *section,
			 const char *key, const char *value)
{
	struct syn_tenant *tenant = syn_tenant_find(
		reader->config, section, reader->line, &reader->lines);
	const struct syn_option *option = syn_tenant_option(section, key);

	if (!tenant)
		return reader_fail(reader, "[%s]: expected [tenant NAME], %s",
				   section, SYN_TENANT_EXPECTED);
	if (!option)
		return reader_fail(reader, "%s: unknown key in [%s]", key,
				   section);
	if (!syn_tenant_see(reader->config, tenant, option, reader->line,
			    &reader->lines))
		return reader_fail(reader, "%s: expected once", key);
	return reader_set(reader, tenant, option, value);
}

/* Returns 1 when all is well: the library's convention. */
static int reader_value(void *ctx, const char *section, const char *key,
			const char *value)
{
	struct reader *reader = ctx;
	const struct syn_option *option = option_find(section, key);
	uint64_t bit;

	if (syn_tenant_section(section))
		return reader_tenant(reader, section, key, value);

	if (!option && !section_known(section))
		return reader_fail(reader,
				   "[%s]: expected [daemon], [hbm], [host], "
				   "[nvme], [ladder], [reclaim], [quota] or "
				   "[tenant NAME]",
				   section);
	if (!option)
		return reader_fail(reader, "%s: unknown key in [%s]", key,
				   section);
	bit = 1ull << (option - options);
	if (reader->seen & bit)
		return reader_fail(reader, "%s: expected once", key);
	reader->seen |= bit;
	return reader_set(reader, reader->config, option, value);
}

int syn_config_read(struct syn_config *config, const char *path)
{
	struct reader reader = { .config = config, .path = path };
	int r;

	reader.file = fopen(path, "re");
	if (!reader.file) {
		r = -errno;
		syn_error("%s: %s", path, strerror(-r));
		return r;
	}
	r = ini_parse_stream(reader_line, &reader, reader_value, &reader);
	if (!reader.error && ferror(reader.file)) {
		syn_error("%s: cannot be read", path);
		reader.error = -EIO;
	}
	if (!reader.error && r)
		(void)reader_fail(&reader,
				  "expected \"[section]\" or \"key = value\"");
	(void)fclose(reader.file);
	if (!reader.error)
		reader.error = syn_tenant_complete(config, path, &reader.lines);
	return reader.error;
}

/* ---- the rest ----------------------------------------------------------- */

int syn_config_environment(struct syn_config *config)
{
	int r = 0;

	for (size_t i = 0; i < syn_array_size(options) && !r; i++) {
		const char *text = getenv(options[i].env);

		if (text)
			r = syn_option_set(config, &options[i], text,
					   options[i].env);
	}
	return r;
}

int syn_config_check(struct syn_config *config)
{
	if (config->low_permille >= config->high_permille) {
		syn_error("[reclaim] low: expected less than high");
		return -EINVAL;
	}
	return syn_tenant_check(config);
}

static void nodes_print(uint64_t nodes, FILE *file)
{
	const char *before = "";

	for (int i = 0; i < SYN_NUMA_NODES; i++) {
		if (!(nodes >> i & 1))
			continue;
		(void)fprintf(file, "%s%d", before, i);
		before = ",";
	}
}

void syn_option_print(const void *from, const struct syn_option *option,
		      FILE *file)
{
	const uint64_t *value;
	char text[32];

	from = (const char *)from + option->offset;
	value = from;
	(void)fprintf(file, "%s = ", option->key);

	switch (option->type) {
	case SYN_OPTION_PATH:
	case SYN_OPTION_DEVICE:
		(void)fprintf(file, "%s", (const char *)from);
		break;
	case SYN_OPTION_SIZE:
	case SYN_OPTION_BUDGET:
		size_format(*value, text, sizeof(text));
		(void)fprintf(file, "%s", text);
		break;
	case SYN_OPTION_COUNT:
		(void)fprintf(file, "%" PRIu64, *value);
		break;
	case SYN_OPTION_SHARE:
		(void)fprintf(file, "%" PRIu64 "%%", *value / 10);
		break;
	case SYN_OPTION_MODE:
		(void)fprintf(file, "%04" PRIo64, *value);
		break;
	case SYN_OPTION_BOOL:
		(void)fprintf(file, "%s", *value ? "yes" : "no");
		break;
	case SYN_OPTION_LEVEL:
		(void)fprintf(file, "%s",
			      syn_log_level_name((enum syn_log_level) * value));
		break;
	case SYN_OPTION_CODEC:
		(void)fprintf(file, "%s", codec_format(*value));
		break;
	case SYN_OPTION_DOMAIN:
		(void)fprintf(file, "%s", domain_format(*value));
		break;
	case SYN_OPTION_LEAST:
	case SYN_OPTION_MOST:
		size_format(*value, text, sizeof(text));
		(void)fprintf(file, "%s",
			      *value == limit_none(option) ? "none" : text);
		break;
	case SYN_OPTION_NODE:
		if (*value == SYN_CONFIG_NODE_AUTO)
			(void)fprintf(file, "auto");
		else
			(void)fprintf(file, "%" PRIu64, *value);
		break;
	case SYN_OPTION_NODES:
		if (*value)
			nodes_print(*value, file);
		else
			(void)fprintf(file, "auto");
		break;
	}
	(void)fprintf(file, "\n");
}

void syn_config_print(const struct syn_config *config, FILE *file)
{
	const char *section = "";

	for (size_t i = 0; i < syn_array_size(options); i++) {
		const struct syn_option *option = &options[i];

		if (strcmp(section, option->section) != 0) {
			(void)fprintf(file, "%s[%s]\n", *section ? "\n" : "",
				      option->section);
			section = option->section;
		}
		syn_option_print(config, option, file);
	}
	syn_tenant_print(config, file);
}
