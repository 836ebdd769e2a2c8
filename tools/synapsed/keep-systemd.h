/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd keeps, and there is no other process of ours: the worker is the main
 * process of a service, and what it puts is in the service's descriptor store.
 *
 * Besides what the worker puts there are its listening sockets, so that clients
 * wait while no worker runs, and a record in which a worker reads how the one
 * before it ended.
 */
#ifndef SYN_TOOLS_SYNAPSED_KEEP_SYSTEMD_H
#define SYN_TOOLS_SYNAPSED_KEEP_SYSTEMD_H

#include <limits.h>
#include <stdbool.h>

#include "tools/synapsed/fdstore.h"
#include "tools/synapsed/keep.h"

struct worker_record;

/**
 * struct syn_keep_systemd - systemd keeps.
 * @keep:	what the worker knows of it.
 * @store:	what is in the store.
 * @record:	mapped.
 * @path:	the program that was started.
 * @full_said:	that the store is full has been logged.
 */
struct syn_keep_systemd {
	struct syn_keep keep;
	struct syn_fdstore store;
	struct worker_record *record;
	char path[PATH_MAX];
	bool full_said;
};

/* @config: checked; copied. */
void syn_keep_systemd_init(struct syn_keep_systemd *systemd,
			   const struct syn_config *config);
/* Once the worker has ended. */
void syn_keep_systemd_deinit(struct syn_keep_systemd *systemd);

#endif
