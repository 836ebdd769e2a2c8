/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which domain a client is of: the directory of the socket it came through,
 * its uid and its cgroup, as the kernel tells; never what the client says.
 */
#ifndef SYN_IPC_SERVER_TENANT_H
#define SYN_IPC_SERVER_TENANT_H

#include <stdint.h>

struct syn_peer;
struct syn_server;

/* Makes the domains that exist without clients. */
int syn_tenant_domains(struct syn_server *server);

/* The domain of @peer, made if it is new; or -errno and *ret_why. */
int syn_tenant_domain(const struct syn_peer *peer, uint32_t *ret,
		      const char **ret_why);

#endif
