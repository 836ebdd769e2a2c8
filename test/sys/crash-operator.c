/* SPDX-License-Identifier: Apache-2.0 */
/* An operator, who may be answered by nobody, as the worker dies meanwhile. */
#include "test/sys/crash-operator.h"

#include <stdio.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

/* Which of so many domains a quota is for; some are not there. */
#define DOMAINS 3u

static uint64_t pick(uint64_t *seed, uint64_t below)
{
	return engine_random(seed) % below;
}

static void order(const char *socket, uint32_t op, uint64_t a, uint64_t b,
		  uint64_t c)
{
	const uint64_t arg[4] = { a, b, c, SYN_QUOTA_NONE };
	struct syn_msg_ctl_reply reply;

	(void)ctl_order(socket, op, arg, &reply);
}

/* All of it, in steps or at once, if the worker lives so long. */
static void fsck(const char *socket, uint64_t at_once)
{
	static struct syn_ctl_fsck at[SYN_FSCK_MAX];
	struct syn_msg_ctl_reply reply = { 0 };

	do {
		if (ctl_ask_at(socket, SYN_CTL_FSCK, reply.next, at_once, at,
			       SYN_FSCK_MAX, sizeof(at[0]), &reply))
			return;
	} while (reply.next);
	for (uint32_t i = 0; i < reply.nr; i++)
		(void)fprintf(stderr,
			      "fsck: object %u, field %u, index %u, part %u: "
			      "expected %llu, found %llu\n",
			      at[i].object, at[i].field, at[i].index,
			      at[i].part, (unsigned long long)at[i].expected,
			      (unsigned long long)at[i].found);
	assert_true(SYN_FSCK_FOUND(reply.val) == 0);
}

/* Less than is wanted, and never less than is needed. */
static void quota(const char *socket, uint64_t *seed)
{
	uint32_t tier = SYN_TIER_HBM + (uint32_t)pick(seed, SYN_QUOTA_TIERS);
	uint32_t domain = (uint32_t)pick(seed, DOMAINS);
	uint64_t min = pick(seed, 3) << 20;
	uint64_t high =
		pick(seed, 2) ? SYN_QUOTA_NONE : min + (pick(seed, 4) << 20);

	order(socket, SYN_CTL_QUOTA, SYN_QUOTA_AT(domain, tier), min, high);
}

static void drain(const char *socket, uint64_t *seed)
{
	order(socket, SYN_CTL_DRAIN, 1, 0, 0);
	sleep_ms((unsigned int)pick(seed, 3));
	crash_operator_admit(socket);
}

void crash_operator_admit(const char *socket)
{
	order(socket, SYN_CTL_DRAIN, 0, 0, 0);
}

void crash_operator_act(const char *socket, uint64_t *seed)
{
	uint64_t what = pick(seed, 40);

	if (what == 0)
		drain(socket, seed);
	else if (what == 1)
		order(socket, SYN_CTL_UPGRADE, 0, 0, 0);
	else if (what < 5)
		order(socket, SYN_CTL_EVICT, 1 + pick(seed, 40), 0, 0);
	else if (what < 8)
		fsck(socket, pick(seed, 2));
	else if (what < 14)
		quota(socket, seed);
	else
		sleep_ms(2);
}
