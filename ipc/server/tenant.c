/* SPDX-License-Identifier: Apache-2.0 */
/* Which domain a client is of. */
#include "ipc/server/tenant.h"

#include <ctype.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/mm.h"
#include "ipc/server/state.h"

/* A path and what the other hierarchies say before it. */
#define TENANT_CGROUP_BYTES 16384
#define TENANT_UID_BYTES    16

/* Texts of the parts; "" for one that does not count. */
struct parts {
	const char *dir;
	char uid[TENANT_UID_BYTES];
	char cgroup[TENANT_CGROUP_BYTES];
};

/* Each part with its NUL, so that none can look like two. */
static void domain_identify(const struct parts *parts, uint64_t ret[2])
{
	const char *const text[] = { parts->dir, parts->uid, parts->cgroup };
	XXH3_state_t state;
	XXH128_hash_t hash;

	(void)XXH3_128bits_reset(&state);
	for (size_t i = 0; i < syn_array_size(text); i++)
		(void)XXH3_128bits_update(&state, text[i], strlen(text[i]) + 1);
	hash = XXH3_128bits_digest(&state);
	ret[0] = hash.low64;
	ret[1] = hash.high64;
}

static char shown(char c)
{
	return (char)(isprint((unsigned char)c) ? c : '?');
}

/* DIR:UID:CGROUP; what does not fit is left out of the middle. */
static void domain_name(const struct parts *parts, char *ret)
{
	static const char gap[] = "...";
	const size_t most = SYN_DOMAIN_BYTES - 1;
	const size_t head = (most - strlen(gap)) / 2;
	const size_t tail = most - strlen(gap) - head;
	char text[SYN_SERVER_DIR_BYTES + sizeof(*parts)];
	size_t len;
	size_t i;

	len = (size_t)snprintf(text, sizeof(text), "%s:%s:%s",
			       *parts->dir ? parts->dir : "*",
			       *parts->uid ? parts->uid : "*",
			       *parts->cgroup ? parts->cgroup : "*");
	if (len > most) {
		memcpy(text + head, gap, strlen(gap));
		memmove(text + head + strlen(gap), text + len - tail, tail + 1);
	}
	for (i = 0; text[i]; i++)
		ret[i] = shown(text[i]);
	ret[i] = '\0';
}

static int domain_get(const struct syn_server *server, uint32_t tenant,
		      const struct parts *parts,
		      struct syn_domain_config *config, uint32_t *ret)
{
	domain_identify(parts, config->identity);
	domain_name(parts, config->name);
	memcpy(config->quota, server->tenant[tenant].quota,
	       sizeof(config->quota));
	return syn_mm_domain_get(server->config.mm, config, ret);
}

static const char *part_dir(const struct syn_server *server, uint32_t tenant)
{
	return server->config.domain_by & SYN_SERVER_BY_SOCKET
		       ? server->tenant[tenant].dir
		       : "";
}

int syn_tenant_domains(struct syn_server *server)
{
	uint32_t ret;
	uint32_t i;
	int r = 0;

	if (server->config.domain_by != SYN_SERVER_BY_SOCKET)
		return 0;
	for (i = 0; i < server->config.nr_tenants && !r; i++) {
		const struct parts parts = { .dir = part_dir(server, i) };
		struct syn_domain_config config = { .stays = true };

		r = domain_get(server, i, &parts, &config, &ret);
		if (r)
			syn_error("%s: its quota does not fit beside the "
				  "others': %s",
				  parts.dir, strerror(-r));
	}
	return r;
}

static const char *domain_why(int error)
{
	switch (error) {
	case -EUSERS:
		return "there are too many domains";
	case -ENOSPC:
		return "the minimum of its domain does not fit beside the "
		       "others'";
	default:
		return "its domain is not to be had";
	}
}

int syn_tenant_domain(const struct syn_peer *peer, uint32_t *ret,
		      const char **ret_why)
{
	const struct syn_server *server = peer->server;
	const uint32_t by = server->config.domain_by;
	struct syn_domain_config config = { .uid = (uint32_t)peer->cred.uid };
	struct parts parts = { .dir = part_dir(server, peer->tenant) };
	int r = 0;

	if (by & SYN_SERVER_BY_UID)
		(void)snprintf(parts.uid, sizeof(parts.uid), "%u",
			       (unsigned int)peer->cred.uid);
	if (by & SYN_SERVER_BY_CGROUP)
		r = syn_cred_cgroup(peer->cred.pid, peer->pid_fd, parts.cgroup,
				    sizeof(parts.cgroup));
	if (r) {
		*ret_why = "its cgroup cannot be told";
		return r;
	}
	r = domain_get(server, peer->tenant, &parts, &config, ret);
	if (r)
		*ret_why = domain_why(r);
	return r;
}
