/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that does as it is told, one word and number a line:
 * test-why-client SOCKET NAME MODEL TOKENS DIM.  It says {"session":N,"space":N}
 * first, and after each line what came of it; the end of stdin ends it.
 *
 *	seal N		a page of its own under {0xfeed, N}, ready at once
 *	unready N	one that is ready when some work is done ...
 *	finish N	... which number N of it is now
 *	spoil N		writes into page N, which is sealed
 *	drop N		gives page N back
 *	fill N		N more pages without a key; says how many there was room for
 *	unfill N	gives all those back
 *	lookup N	what the miss is, 0: found and given back
 */
#include <inttypes.h>
#include <stdio.h>

#include <synapse/client.h>

#include "core/base/base.h"

#define SLOTS	   8u
#define KEYS_MAX   64u
#define PAGES_MAX  512u
#define PATIENT_NS 2000000000u

struct told {
	struct syn_client *client;
	struct syn_window *window;
	struct syn_space space;
	uint32_t tokens;
	uint32_t timeline;
	uint32_t stuck;
	uint64_t key[KEYS_MAX];
	uint64_t page[PAGES_MAX];
	uint32_t nr;
};

static int told_attach(struct told *t, char **argv)
{
	const struct syn_component component = {
		.role = SYN_ROLE_OPAQUE,
		.dtype = SYN_DTYPE_U8,
		.heads = 1,
		.dim = (uint32_t)atoi(argv[5]),
		.codec = SYN_CODEC_RAW16,
	};
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_space_opts space = SYN_OPTS(struct syn_space_opts);
	struct syn_window_opts window = SYN_OPTS(struct syn_window_opts);
	int r;

	attach.path = argv[1];
	attach.name = argv[2];
	space.model[0] = (uint64_t)atoi(argv[3]);
	space.tokens = t->tokens = (uint32_t)atoi(argv[4]);
	space.nr_components = 1;
	space.components = &component;
	window.slots = SLOTS;
	r = syn_attach(&attach, &t->client, NULL);
	if (r == 0)
		r = syn_space_define(t->client, &space, &t->space);
	if (r == 0)
		r = syn_window_open(t->client, &t->space, &window, &t->window);
	if (r == 0)
		r = syn_timeline_new(t->client, &t->timeline);
	if (r == 0)
		r = syn_timeline_new(t->client, &t->stuck);
	return r;
}

static int told_write(struct told *t, const uint64_t *page, uint32_t seed)
{
	void *addr;
	int r = syn_load(t->client, page, 1, PATIENT_NS, &addr);

	if (r)
		return r;
	memset(addr, (int)seed, t->space.page_bytes);
	syn_unpin(t->client, t->timeline, page, 1);
	return 0;
}

static int told_page(struct told *t, uint32_t seed, uint64_t *ret)
{
	int r = syn_lease(t->window, 1, PATIENT_NS, ret);

	if (r == 0)
		r = told_write(t, ret, seed);
	if (r == 0)
		r = syn_commit(t->client, ret, &t->tokens, 1);
	return r;
}

static int told_seal(struct told *t, uint32_t n, uint32_t timeline,
		     uint64_t value)
{
	const uint64_t key[2] = { 0xfeed, n };
	int r = told_page(t, n, &t->key[n]);

	return r ? r : syn_seal(t->client, t->key[n], key, timeline, value);
}

static int told_fill(struct told *t, uint32_t n)
{
	uint32_t i = 0;

	while (i < n && t->nr < PAGES_MAX &&
	       !told_page(t, i, &t->page[t->nr])) {
		t->nr++;
		i++;
	}
	return (int)i;
}

static int told_unfill(struct told *t)
{
	int r = t->nr ? syn_release(t->client, t->page, t->nr) : 0;

	t->nr = 0;
	return r;
}

static int told_lookup(struct told *t, uint32_t n)
{
	const uint64_t key[1][2] = { { 0xfeed, n } };
	uint32_t miss = 0;
	uint64_t page;
	int r = syn_lookup(t->window, key, 1, &page, &miss);

	if (r == 1)
		r = syn_release(t->client, &page, 1);
	return r ? r : (int)miss;
}

static int told_do(struct told *t, const char *word, uint32_t n)
{
	if (!strcmp(word, "fill"))
		return told_fill(t, n);
	if (!strcmp(word, "unfill"))
		return told_unfill(t);
	if (n >= KEYS_MAX)
		return -EINVAL;
	if (!strcmp(word, "finish")) {
		syn_timeline_done(t->client, t->stuck, n);
		return 0;
	}
	if (!strcmp(word, "seal"))
		return told_seal(t, n, t->timeline, 0);
	if (!strcmp(word, "unready"))
		return told_seal(t, n, t->stuck,
				 syn_timeline_issue(t->client, t->stuck));
	if (!strcmp(word, "spoil"))
		return told_write(t, &t->key[n], n + 1);
	if (!strcmp(word, "drop"))
		return syn_release(t->client, &t->key[n], 1);
	if (!strcmp(word, "lookup"))
		return told_lookup(t, n);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct told told = { 0 };
	char word[16];
	uint32_t n;
	int r;

	if (argc != 6)
		return 2;
	r = told_attach(&told, argv);
	if (r) {
		(void)fprintf(stderr, "why-client: %d\n", r);
		return 1;
	}
	(void)printf("{\"session\":%" PRIu32 ",\"space\":%" PRIu32 "}\n",
		     syn_client_session(told.client), told.space.id);
	(void)fflush(stdout);
	while (scanf("%15s %" SCNu32, word, &n) == 2) {
		(void)printf("%d\n", told_do(&told, word, n));
		(void)fflush(stdout);
	}
	told.client = syn_detach(told.client);
	return 0;
}
