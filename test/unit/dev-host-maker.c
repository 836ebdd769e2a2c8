/* SPDX-License-Identifier: Apache-2.0 */
/* The host-emulated device, for the contract. */
#include <string.h>

#include "kernels/dev-host.h"
#include "test/unit/dev-bench.h"

static int host_open(struct syn_dev **ret, unsigned int workers,
		     struct keeper *keeper)
{
	const struct syn_dev_host_config config = {
		.workers = workers,
		.keep = keeper ? keep : NULL,
		.drop = keeper ? drop : NULL,
		.keep_ctx = keeper,
	};

	return syn_dev_host_open(ret, &config);
}

static void host_write(const struct syn_mem *mem, uint64_t at, const void *from,
		       uint64_t bytes)
{
	memcpy((char *)mem->addr + at, from, bytes);
}

static void host_read(const struct syn_mem *mem, uint64_t at, void *to,
		      uint64_t bytes)
{
	memcpy(to, (const char *)mem->addr + at, bytes);
}

const struct dev_maker maker = {
	.open = host_open,
	.write = host_write,
	.read = host_read,
};
