/* SPDX-License-Identifier: Apache-2.0 */
/* Refuses at start what the kernel would refuse, or kill for, later. */
#include "tools/synapsed/budget.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "kernels/dev-cuda.h"
#include "numa/limit.h"
#include "numa/place.h"
#include "numa/topology.h"
#include "tools/synapsed/config.h"

#define MIB ((uint64_t)1024 * 1024)

/**
 * struct budget - what there is.
 * @numa:	nodes.
 * @nodes:	those that are used.
 * @limit:	of the cgroup.
 */
struct budget {
	struct syn_numa numa;
	struct syn_budget_nodes nodes;
	struct syn_limit limit;
};

void syn_budget_nodes(const struct syn_config *config,
		      const struct syn_numa *numa, struct syn_budget_nodes *ret)
{
	uint64_t near;

	ret->device = numa->home;
	if (config->hbm_node != SYN_CONFIG_NODE_AUTO)
		ret->device = (int)config->hbm_node;
	near = 1ull << syn_numa_nearest(numa, ret->device);
	ret->hbm = syn_config_on_gpu(config) ? 0 : near;
	ret->host = config->host_nodes ? config->host_nodes : near;
}

static int device_check(const struct syn_config *config)
{
	if (!syn_config_on_gpu(config) || syn_dev_cuda_built())
		return 0;
	syn_error("[hbm] device: %s: this build has no CUDA backend",
		  config->device);
	return -EINVAL;
}

static int nodes_check(const struct syn_config *config,
		       const struct syn_numa *numa)
{
	uint64_t device = config->hbm_node == SYN_CONFIG_NODE_AUTO
				  ? 0
				  : 1ull << config->hbm_node;
	char text[256];

	if (device & ~(numa->memory | numa->cpus)) {
		syn_numa_format(numa->memory | numa->cpus, text, sizeof(text));
		syn_error("[hbm] node: %" PRIu64 ": this machine has %s only",
			  config->hbm_node, text);
		return -EINVAL;
	}
	if (config->host_nodes & ~numa->memory) {
		syn_numa_format(numa->memory, text, sizeof(text));
		syn_error("[host] nodes: this machine has memory on %s only",
			  text);
		return -EINVAL;
	}
	return 0;
}

static int total_of(const struct budget *budget, uint64_t nodes, uint64_t *ret)
{
	struct syn_numa_memory memory;
	int r;

	r = syn_numa_memory(&budget->numa, nodes, &memory);
	if (r)
		syn_error("the kernel's figures of memory: %s", strerror(-r));
	else
		*ret = memory.total;
	return r;
}

static int share_settle(struct syn_config *config, const struct budget *budget)
{
	uint64_t permille = config->host_bytes & ~SYN_CONFIG_OF_LIMIT;
	uint64_t total;
	int r;

	if (!(config->host_bytes & SYN_CONFIG_OF_LIMIT))
		return 0;
	r = total_of(budget, budget->nodes.host, &total);
	if (r)
		return r;
	total = syn_min(total, budget->limit.bytes);
	config->host_bytes = total * permille / 1000 / MIB * MIB;
	if (config->host_bytes >= 4 * MIB)
		return 0;
	syn_error("[host] budget: %" PRIu64 "%% of %" PRIu64
		  " MiB is less than 4 MiB",
		  permille / 10, total / MIB);
	return -EINVAL;
}

static int fit_one(const char *key, uint64_t want, const char *whose,
		   uint64_t bytes)
{
	if (want <= bytes)
		return 0;
	syn_error("%s: expected no more than %s's %" PRIu64 " MiB, got %" PRIu64
		  " MiB",
		  key, whose, bytes / MIB, want / MIB);
	return -EINVAL;
}

/* HBM of a GPU is none of the host's. */
static int fit_together(const struct syn_config *config, const char *whose,
			uint64_t bytes)
{
	if (syn_config_on_gpu(config))
		return fit_one("[host] budget", config->host_bytes, whose,
			       bytes);
	if (config->hbm_bytes + config->host_bytes <= bytes)
		return 0;
	syn_error("[hbm] budget and [host] budget: expected no more than "
		  "%s's %" PRIu64 " MiB together, got %" PRIu64 " + %" PRIu64
		  " MiB",
		  whose, bytes / MIB, config->hbm_bytes / MIB,
		  config->host_bytes / MIB);
	return -EINVAL;
}

static int fit_nodes(const struct budget *budget, const char *key,
		     uint64_t want, uint64_t nodes)
{
	uint64_t total;
	char text[256];
	int r;

	r = total_of(budget, nodes, &total);
	if (r)
		return r;
	syn_numa_format(nodes, text, sizeof(text));
	return fit_one(key, want, text, total);
}

static int fit_all_nodes(const struct syn_config *config,
			 const struct budget *budget)
{
	uint64_t both = budget->nodes.hbm | budget->nodes.host;
	uint64_t total;
	char text[256];
	int r = 0;

	if (budget->nodes.hbm)
		r = fit_nodes(budget, "[hbm] budget", config->hbm_bytes,
			      budget->nodes.hbm);
	if (!r)
		r = fit_nodes(budget, "[host] budget", config->host_bytes,
			      budget->nodes.host);
	if (!r)
		r = total_of(budget, both, &total);
	if (r)
		return r;
	syn_numa_format(both, text, sizeof(text));
	return fit_together(config, text, total);
}

static int fit_cgroup(const struct syn_config *config,
		      const struct syn_limit *limit)
{
	char text[300];

	(void)snprintf(text, sizeof(text), "cgroup %s", limit->cgroup);
	return fit_together(config, text, limit->bytes);
}

static int budget_fit(const struct syn_config *config,
		      const struct budget *budget)
{
	uint64_t total;
	int r;

	r = total_of(budget, budget->numa.memory, &total);
	if (!r)
		r = fit_together(config, "this machine", total);
	if (!r)
		r = fit_all_nodes(config, budget);
	if (!r)
		r = fit_cgroup(config, &budget->limit);
	return r;
}

int syn_budget_settle(struct syn_config *config)
{
	struct budget budget;
	int r;

	r = device_check(config);
	if (r)
		return r;
	syn_numa_read(&budget.numa);
	r = nodes_check(config, &budget.numa);
	if (r)
		return r;
	syn_budget_nodes(config, &budget.numa, &budget.nodes);
	r = syn_limit_read("", &budget.limit);
	if (r) {
		syn_error("the memory limit of the cgroup: %s", strerror(-r));
		return r;
	}
	r = share_settle(config, &budget);
	return r ? r : budget_fit(config, &budget);
}

void syn_budget_log(const struct syn_config *config)
{
	struct syn_budget_nodes nodes;
	struct syn_numa numa;

	syn_numa_read(&numa);
	syn_budget_nodes(config, &numa, &nodes);
	for (int i = 0; i < SYN_NUMA_NODES; i++) {
		bool hbm = nodes.hbm >> i & 1;
		bool host = nodes.host >> i & 1;
		struct syn_numa_memory memory = { 0 };

		if (!hbm && !host)
			continue;
		(void)syn_numa_memory(&numa, 1ull << i, &memory);
		syn_info("node %d: %s%s%s memory, %" PRIu64
			 " MiB, room for %" PRIu64 " MiB",
			 i, hbm ? "HBM" : "", hbm && host ? " and " : "",
			 host ? "host" : "", memory.total / MIB,
			 memory.room / MIB);
	}
}
