/* SPDX-License-Identifier: Apache-2.0 */
/* memory.max, or memory.limit_in_bytes, of the own cgroup and all above. */
#include "numa/limit.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"

/* Version 1 says "no limit" by a number this great, or a greater one. */
#define LIMIT_GREAT (1ull << 62)

/**
 * struct hierarchy - one version's files.
 * @mount:	where it is mounted.
 * @file:	holds the limit of a cgroup.
 */
struct hierarchy {
	const char *mount;
	const char *file;
};

static const struct hierarchy version_1 = {
	.mount = "/sys/fs/cgroup/memory",
	.file = "memory.limit_in_bytes",
};

static const struct hierarchy version_2 = {
	.mount = "/sys/fs/cgroup",
	.file = "memory.max",
};

static int limit_parse(const char *text, uint64_t *ret)
{
	char *end;

	if (strcmp(text, "max\n") == 0) {
		*ret = SYN_LIMIT_NONE;
		return 0;
	}
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || end == text || *end != '\n' || *text == '-')
		return -EBADMSG;
	if (*ret >= LIMIT_GREAT)
		*ret = SYN_LIMIT_NONE;
	return 0;
}

/* No such file, no limit: the root has none, nor has what we cannot see. */
static int limit_file(const char *path, uint64_t *ret)
{
	char text[64] = "";
	FILE *file;

	*ret = SYN_LIMIT_NONE;
	file = syn_fault() ? (errno = EMFILE, NULL) : fopen(path, "re");
	if (!file)
		return errno == ENOENT || errno == EACCES ? 0 : -errno;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	(void)fclose(file);
	return limit_parse(text, ret);
}

/* @cgroup and everything above; @cgroup is cut short on the way. */
static int limit_walk(const char *root, const struct hierarchy *from,
		      char *cgroup, struct syn_limit *limit)
{
	char path[PATH_MAX + 512];
	uint64_t bytes;
	char *slash;
	int r;

	for (;;) {
		(void)snprintf(path, sizeof(path), "%s%s%s/%s", root,
			       from->mount, cgroup, from->file);
		r = limit_file(path, &bytes);
		if (r)
			return r;
		if (bytes < limit->bytes) {
			limit->bytes = bytes;
			(void)snprintf(limit->cgroup, sizeof(limit->cgroup),
				       "%.255s", *cgroup ? cgroup : "/");
		}
		slash = strrchr(cgroup, '/');
		if (!slash)
			return 0;
		*slash = '\0';
	}
}

static bool has_controller(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, len) == 0 && (at[len] == ',' || !at[len]))
			return true;
	}
	return false;
}

/* "0::/path" is version 2, "4:memory:/path" is version 1. */
static int limit_line(const char *root, char *line, struct syn_limit *limit)
{
	const struct hierarchy *from;
	char *list = strchr(line, ':');
	char *cgroup = list ? strchr(list + 1, ':') : NULL;

	if (!cgroup)
		return -EBADMSG;
	*list++ = '\0';
	*cgroup++ = '\0';
	cgroup[strcspn(cgroup, "\n")] = '\0';
	if (!*list && strcmp(line, "0") == 0)
		from = &version_2;
	else if (has_controller(list, "memory"))
		from = &version_1;
	else
		return 0;
	/* Alone, or outside what this namespace shows: the mount's own. */
	if (strcmp(cgroup, "/") == 0 || strncmp(cgroup, "/..", 3) == 0)
		*cgroup = '\0';
	return limit_walk(root, from, cgroup, limit);
}

int syn_limit_read(const char *root, struct syn_limit *ret)
{
	struct syn_limit limit = { .bytes = SYN_LIMIT_NONE };
	char line[PATH_MAX + 128];
	FILE *file;
	int r = 0;

	(void)snprintf(line, sizeof(line), "%s/proc/self/cgroup", root);
	file = syn_fault() ? (errno = EMFILE, NULL) : fopen(line, "re");
	if (!file && errno != ENOENT)
		return -errno;
	while (file && !r && fgets(line, sizeof(line), file))
		r = limit_line(root, line, &limit);
	if (file)
		(void)fclose(file);
	if (!r)
		*ret = limit;
	return r;
}
