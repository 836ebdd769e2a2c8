/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares of attention as an engine sees them: the calls of client.h for a test
 * that plays the library.
 */
#ifndef SYN_TEST_UNIT_FAKE_SHARES_H
#define SYN_TEST_UNIT_FAKE_SHARES_H

#include <errno.h>
#include <synapse/client.h>

#include "core/base/fault.h"
#include "test/test.h"

#define FAKE_RECORD "a recording"

static uint64_t fake_issued;   /* work that writes shares, ... */
static uint64_t fake_finished; /* ... and what of it is done */

/* Called where nothing may be outstanding. */
static void fake_shares_check(void)
{
	assert_int_equal(fake_finished, fake_issued);
}

int syn_shares_open(struct syn_client *client,
		    const struct syn_shares_opts *opts)
{
	return syn_fault() ? -EPROTO : 0;
}

/* For each fifth batch there is no room. */
int syn_shares_begin(struct syn_client *client,
		     const struct syn_shares_batch *batch, float **ret)
{
	static float shares[64];
	static unsigned int count;

	assert_int_equal(batch->value, fake_issued);
	assert_int_equal(batch->nr_parts, batch->first / 128 + 1);
	for (uint32_t i = 0; i < batch->nr_parts; i++)
		assert_true(batch->pages[i]);
	if (syn_fault())
		return -EPROTO;
	if (count++ % 5 == 4)
		return -EAGAIN;
	*ret = shares;
	return 0;
}

uint64_t syn_timeline_issue(struct syn_client *client, uint32_t timeline)
{
	return ++fake_issued;
}

void syn_timeline_done(struct syn_client *client, uint32_t timeline,
		       uint64_t value)
{
	assert_int_equal(value, fake_issued);
	fake_finished = value;
}

int syn_trace_begin(struct syn_client *client, const char *path)
{
	assert_string_equal(path, FAKE_RECORD);
	return syn_fault() ? -EACCES : 0;
}

int syn_trace_end(struct syn_client *client)
{
	return syn_fault() ? -ENOSPC : 0;
}

#endif
