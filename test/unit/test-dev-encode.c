/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding copies of core/dev.h as kernels/dev-host.c makes them. */
#include "test/unit/dev-bench.h"

int main(void)
{
	test_watchdog();
	return dev_contract_encode() ? 1 : 0;
}
