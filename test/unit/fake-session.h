/* SPDX-License-Identifier: Apache-2.0 */
/* A session of client.h in which nothing is asked of anybody; for one test. */
#ifndef SYN_TEST_UNIT_FAKE_SESSION_H
#define SYN_TEST_UNIT_FAKE_SESSION_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <synapse/client.h>

#include "core/base/fault.h"

struct syn_client {
	uint32_t session;
};

static struct syn_client the_client;
static bool on_gpu; /* HBM is */

int syn_attach(const struct syn_attach_opts *opts, struct syn_client **ret,
	       char *ret_reason)
{
	if (syn_fault()) {
		(void)strcpy(ret_reason, "full");
		return -EUSERS;
	}
	*ret = &the_client;
	return 0;
}

struct syn_client *syn_detach(struct syn_client *client)
{
	return NULL;
}

const char *syn_client_reason(struct syn_client *client)
{
	return "";
}

uint32_t syn_client_session(const struct syn_client *client)
{
	return client->session;
}

int syn_client_gpu(struct syn_client *client, uint8_t ret_uuid[SYN_UUID_BYTES])
{
	if (syn_fault())
		return -ESHUTDOWN;
	memset(ret_uuid, 1, SYN_UUID_BYTES);
	return on_gpu ? 0 : -ENODEV;
}

int syn_timeline_new(struct syn_client *client, uint32_t *ret)
{
	if (syn_fault())
		return -EDQUOT;
	*ret = 0;
	return 0;
}

#endif
