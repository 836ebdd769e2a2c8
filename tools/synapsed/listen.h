/* SPDX-License-Identifier: Apache-2.0 */
/* The tenants' listening sockets and their files. */
#ifndef SYN_TOOLS_SYNAPSED_LISTEN_H
#define SYN_TOOLS_SYNAPSED_LISTEN_H

#include <stdint.h>

#include "tools/synapsed/config.h"

/**
 * struct syn_listener - one of them.
 * @fd:		listens and does not block; -1: not open.
 * @dev:	device and ...
 * @ino:	... inode of its file, to remove no other.
 * @dir:	canonical path of its directory.
 */
struct syn_listener {
	int fd;
	uint64_t dev;
	uint64_t ino;
	char dir[SYN_CONFIG_TEXT_BYTES];
};

/*
 * One for each tenant, in directories of their own; whose @fd is open already
 * stays.  Logs what is wrong.
 */
int syn_listeners_open(const struct syn_config *config,
		       struct syn_listener *ret);

/* Removes the file, unless somebody has put another in its place. */
void syn_listener_unlink(const struct syn_tenant *tenant,
			 const struct syn_listener *listener);

#endif
