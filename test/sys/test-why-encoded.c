/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon in this process that has encoded pages: says {"socket":S,"sealed":N}
 * and serves until the end of stdin.  Pages 1 to N are sealed under {0xc0de, i},
 * each with numbers of a spread of its own, and all of them have left HBM.
 */
#include <inttypes.h>
#include <stdio.h>

#include <synapse/client.h>

#include "core/base/base.h"
#include "test/sys/inproc.h"

#define SLOTS  8u
#define SEALED 24u
#define TOKENS 128u

static const struct syn_component components[] = {
	{ SYN_ROLE_K, SYN_DTYPE_F16, 1, 128, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_V, SYN_DTYPE_F16, 1, 128, SYN_CODEC_H4, 0 },
};

struct maker {
	struct syn_client *client;
	struct syn_window *window;
	struct syn_space space;
	uint32_t timeline;
};

static int maker_attach(struct maker *m, const char *path)
{
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_space_opts space = SYN_OPTS(struct syn_space_opts);
	struct syn_window_opts window = SYN_OPTS(struct syn_window_opts);
	int r;

	attach.path = path;
	space.model[0] = 4;
	space.tokens = TOKENS;
	space.nr_components = syn_array_size(components);
	space.components = components;
	window.slots = SLOTS;
	r = syn_attach(&attach, &m->client, NULL);
	if (r == 0)
		r = syn_space_define(m->client, &space, &m->space);
	if (r == 0)
		r = syn_window_open(m->client, &m->space, &window, &m->window);
	if (r == 0)
		r = syn_timeline_new(m->client, &m->timeline);
	return r;
}

/* Finite numbers, of more and more different sizes. */
static uint16_t number(uint32_t page, uint32_t i)
{
	uint32_t x = i * 2654435761u;

	return (uint16_t)((x >> 31 << 15) | (0x3c00 - (x >> 8) % (page * 256)));
}

static int maker_page(struct maker *m, uint32_t n)
{
	const uint64_t key[2] = { 0xc0de, n };
	const uint32_t tokens = TOKENS;
	uint16_t *at;
	uint64_t page;
	void *addr;
	int r;

	r = syn_lease(m->window, 1, SYN_FOREVER, &page);
	if (r == 0)
		r = syn_pin(m->client, &page, 1, &addr);
	if (r)
		return r;
	at = addr;
	for (uint32_t i = 0; i < m->space.page_bytes / sizeof(*at); i++)
		at[i] = number(n, i);
	syn_unpin(m->client, m->timeline, &page, 1);
	r = syn_commit(m->client, &page, &tokens, 1);
	if (r == 0 && n <= SEALED)
		r = syn_seal(m->client, page, key, m->timeline, 0);
	return r;
}

static int maker_run(struct maker *m, const char *path)
{
	int r = maker_attach(m, path);

	/* Those behind push the sealed ones out. */
	for (uint32_t n = 1; n <= SEALED + 2 * SLOTS && r == 0; n++)
		r = maker_page(m, n);
	return r;
}

int main(void)
{
	struct maker maker = { 0 };
	struct inproc daemon;
	int r = inproc_init(&daemon, 8 << 20, 16 << 20);

	if (r == 0)
		r = inproc_start(&daemon);
	if (r == 0)
		r = maker_run(&maker, daemon.socket);
	if (r == 0) {
		(void)printf("{\"socket\":\"%s\",\"sealed\":%u}\n",
			     daemon.socket, SEALED);
		(void)fflush(stdout);
		while (getchar() != EOF)
			;
	} else {
		(void)fprintf(stderr, "why-encoded: %d\n", r);
	}
	maker.client = syn_detach(maker.client);
	(void)inproc_end(&daemon);
	return r ? 1 : 0;
}
