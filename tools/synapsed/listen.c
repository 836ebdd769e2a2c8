/* SPDX-License-Identifier: Apache-2.0 */
/* Opens listening sockets, removes their files. */
#include "tools/synapsed/listen.h"

#include <stdio.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "ipc/conn.h"

/* The directory is what is missing when a path to a new file is -ENOENT. */
static void listen_complain(const char *path, int error)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? (int)(slash - path) : 0;

	if (error == -EADDRINUSE)
		syn_error("%s: a daemon answers there already", path);
	else if (error == -ENOENT && len)
		syn_error("%.*s: no such directory (for the socket)", len,
			  path);
	else
		syn_error("%s: %s", path, strerror(-error));
}

/* However it is spelt, it is one directory, and one domain. */
static int socket_dir(const char *path, char *ret)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char text[SYN_CONFIG_TEXT_BYTES];
	char *real;

	(void)snprintf(text, sizeof(text), "%.*s", (int)len, path);
	if (!len)
		(void)snprintf(text, sizeof(text), "%s", slash ? "/" : ".");
	real = realpath(text, NULL);
	if (!real)
		return -errno;
	len = strlen(real);
	if (len < SYN_CONFIG_TEXT_BYTES)
		memcpy(ret, real, len + 1);
	free(real);
	return len < SYN_CONFIG_TEXT_BYTES ? 0 : -ENAMETOOLONG;
}

static int listener_look(const struct syn_tenant *tenant,
			 struct syn_listener *ret)
{
	struct stat st;

	if (stat(tenant->socket, &st) < 0)
		return -errno;
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	return socket_dir(tenant->socket, ret->dir);
}

static int listener_open(const struct syn_tenant *tenant,
			 struct syn_listener *ret)
{
	int r = 0;

	if (ret->fd < 0)
		r = syn_conn_listen(tenant->socket,
				    (unsigned int)tenant->socket_mode,
				    &ret->fd);
	if (!r)
		r = listener_look(tenant, ret);
	if (r)
		listen_complain(tenant->socket, r);
	return r;
}

static bool dir_taken(const struct syn_listener *listener, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (!strcmp(listener[i].dir, listener[nr].dir))
			return true;
	return false;
}

int syn_listeners_open(const struct syn_config *config,
		       struct syn_listener *ret)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < config->nr_tenants && !r; i++) {
		r = listener_open(&config->tenant[i], &ret[i]);
		if (!r && dir_taken(ret, i)) {
			syn_error("%s: expected a directory of its own",
				  config->tenant[i].socket);
			r = -EINVAL;
		}
	}
	return r;
}

void syn_listener_unlink(const struct syn_tenant *tenant,
			 const struct syn_listener *listener)
{
	struct stat now;

	if (stat(tenant->socket, &now) == 0 && now.st_ino == listener->ino &&
	    now.st_dev == listener->dev)
		(void)unlink(tenant->socket);
}
