/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets and NUMA nodes of a configuration, against what the machine has. */
#ifndef SYN_TOOLS_SYNAPSED_BUDGET_H
#define SYN_TOOLS_SYNAPSED_BUDGET_H

#include <stdint.h>

struct syn_config;
struct syn_numa;

/**
 * struct syn_budget_nodes - where the tiers lie, nothing left open.
 * @device:	node of the device; may have no memory.
 * @hbm:	node of HBM extents, as a mask of one; 0: they are a GPU's.
 * @host:	nodes of host extents.
 */
struct syn_budget_nodes {
	int device;
	uint64_t hbm;
	uint64_t host;
};

void syn_budget_nodes(const struct syn_config *config,
		      const struct syn_numa *numa,
		      struct syn_budget_nodes *ret);

/*
 * Turns shares into bytes.  Logs one line and returns -EINVAL when this build
 * cannot open the device, when a node does not exist, or when the budgets do not
 * fit in the machine, in their nodes or in the cgroup.  What a GPU has only who
 * opens it can tell.
 */
int syn_budget_settle(struct syn_config *config);

/* One line for each node in use. */
void syn_budget_log(const struct syn_config *config);

#endif
