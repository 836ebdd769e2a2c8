/* SPDX-License-Identifier: Apache-2.0 */
/* Events and housekeeping. */
#include "core/base/base.h"
#include "ipc/client/client-internal.h"
#include "ipc/client/trace.h"

static void poll_facts_locked(struct syn_client *c)
{
	uint32_t notices = syn_load_acquire(&c->ctl->notices);
	uint64_t epoch = syn_load_acquire(&c->ctl->epoch);

	if (SYN_NOTICE_SINCE(c->notices, notices, SYN_NOTICE_RECLAIM))
		c->events |= 1u << SYN_EVENT_RECLAIM;
	if (SYN_NOTICE_SINCE(c->notices, notices, SYN_NOTICE_SUM))
		c->events |= 1u << SYN_EVENT_LOST;
	if (epoch != c->epoch)
		c->events |= 1u << SYN_EVENT_EPOCH;
	c->notices = notices;
	c->epoch = epoch;
}

uint64_t syn_retry_ns(const struct syn_client *client)
{
	return syn_load_relaxed(&client->retry_ns);
}

int syn_poll(struct syn_client *client, uint32_t *ret_events, unsigned int max)
{
	SYN_KEEP_ERRNO;
	unsigned int nr = 0;

	if (syn_client_check(client) == -ECHILD)
		return -ECHILD;
	(void)pthread_mutex_lock(&client->lock);
	if (!client->ended) {
		syn_inbox_read_locked(client);
		syn_reap_locked(client);
		poll_facts_locked(client);
	}
	while (client->events && nr < max) {
		uint32_t event = (uint32_t)__builtin_ctz(client->events);

		client->events &= client->events - 1;
		ret_events[nr++] = event;
	}
	(void)pthread_mutex_unlock(&client->lock);
	syn_shares_look(client);
	syn_trace_look(client);
	return (int)nr;
}
