/* SPDX-License-Identifier: Apache-2.0 */
/* Which failpoint kills, and when. */
#include "core/base/failpoint.h"

#ifdef SYN_FAILPOINTS
static const struct syn_failpoint *failpoint_at;
static uint64_t failpoint_left;
static void (*failpoint_die)(void);

void syn_failpoint_arm(const struct syn_failpoint *point, uint64_t nth,
		       void (*die)(void))
{
	failpoint_at = point;
	failpoint_left = nth;
	failpoint_die = die;
}

void syn_failpoint_pass(struct syn_failpoint *point)
{
	point->passed++;
	if (!failpoint_left || (failpoint_at && failpoint_at != point) ||
	    --failpoint_left)
		return;
	point->nr++;
	failpoint_die();
}
#endif
