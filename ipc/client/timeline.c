/* SPDX-License-Identifier: Apache-2.0 */
/* Timelines: what a stream or thread was given, and what it has finished. */
#include "core/base/base.h"
#include "ipc/client/client-internal.h"

int syn_timeline_new(struct syn_client *client, uint32_t *ret)
{
	SYN_KEEP_ERRNO;
	int r = syn_client_check(client);

	if (r)
		return r;
	(void)pthread_mutex_lock(&client->lock);
	if (client->next_timeline < client->nr_timelines)
		*ret = client->next_timeline++;
	else
		r = -EDQUOT;
	(void)pthread_mutex_unlock(&client->lock);
	return r;
}

/* How often a timeline is looked at by who waits for it. */
#define TIMELINE_LOOK_US 20u

/* In a forked child the words are not mapped. */
static struct syn_timeline *timeline_of(struct syn_client *c, uint32_t timeline)
{
	if (syn_load_relaxed(c->state) == SYN_CLIENT_FORKED ||
	    timeline >= c->nr_timelines)
		return NULL;
	return &c->timeline[timeline];
}

uint64_t syn_timeline_issue(struct syn_client *client, uint32_t timeline)
{
	struct syn_timeline *t = timeline_of(client, timeline);

	/* E: before the unpin that it covers */
	return t ? syn_fetch_add_seq_cst(&t->issued, (uint64_t)1) + 1 : 0;
}

void syn_timeline_done(struct syn_client *client, uint32_t timeline,
		       uint64_t value)
{
	struct syn_timeline *t = timeline_of(client, timeline);

	if (t)
		syn_store_release(&t->done, value);
}

/* The page of the kernel's with the first timeline. */
static uintptr_t timelines_begin(const struct syn_client *c)
{
	return (uintptr_t)c->timeline & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
}

/* The GPU is opened with the first window. */
int syn_client_share_locked(struct syn_client *c, void *at, uint64_t bytes)
{
	if (c->features & SYN_FEATURE_CUDA && c->device == syn_device_host())
		return -ENODEV;
	return c->device->ops->share(c->device, at, bytes);
}

static int timelines_share_locked(struct syn_client *c)
{
	uintptr_t begin = timelines_begin(c);
	uintptr_t end = syn_align_up((uintptr_t)(c->timeline + c->nr_timelines),
				     (uint64_t)sysconf(_SC_PAGESIZE));
	int r;

	if (c->shares)
		return 0;
	r = syn_client_share_locked(c, (void *)begin, end - begin);
	c->shares = !r;
	return r;
}

void syn_timelines_unshare(struct syn_client *c)
{
	if (c->shares)
		c->device->ops->unshare(c->device, (void *)timelines_begin(c));
	c->shares = false;
}

int syn_timeline_signal(struct syn_client *client, uint32_t timeline,
			void *stream, uint64_t value)
{
	SYN_KEEP_ERRNO;
	struct syn_timeline *t = timeline_of(client, timeline);
	int r = syn_client_check(client);

	if (r)
		return r;
	if (!t)
		return -EINVAL;
	(void)pthread_mutex_lock(&client->lock);
	r = timelines_share_locked(client);
	(void)pthread_mutex_unlock(&client->lock);
	return r ? r
		 : client->device->ops->signal(client->device, stream, &t->done,
					       value);
}

int syn_timeline_reach(const struct syn_client *c, uint32_t timeline,
		       uint64_t value, uint64_t deadline_ns)
{
	while (syn_load_acquire(&c->timeline[timeline].done) < value) {
		if (!deadline_ns || syn_now_ns() > deadline_ns)
			return -EAGAIN;
		(void)usleep(TIMELINE_LOOK_US);
	}
	return 0;
}
