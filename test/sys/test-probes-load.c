/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that makes every probe of pages fire: test-probes-load SOCKET
 * ROUNDS LEAK.  Three times more pages than slots, ROUNDS random loads, some
 * pages sealed; then all leases but LEAK go back, one line of JSON says what
 * was done, and the end of stdin ends it.
 */
#include <inttypes.h>
#include <stdio.h>

#include <synapse/client.h>

#include "core/base/base.h"

#define LOAD_PAGES  96u
#define LOAD_SLOTS  32u
#define LOAD_SEALED 8u
#define LOAD_TOKENS 128u

static const struct syn_component component = {
	.role = SYN_ROLE_OPAQUE,
	.dtype = SYN_DTYPE_U8,
	.heads = 1,
	.dim = 32,
	.codec = SYN_CODEC_RAW16,
};

/**
 * struct load - the client and its pages.
 * @client:	the session.
 * @window:	LOAD_SLOTS slots.
 * @space:	pages of 4 KiB.
 * @timeline:	ours.
 * @pages:	handles.
 */
struct load {
	struct syn_client *client;
	struct syn_window *window;
	struct syn_space space;
	uint32_t timeline;
	uint64_t pages[LOAD_PAGES];
};

static int load_attach(struct load *load, const char *socket)
{
	struct syn_attach_opts attach = SYN_OPTS(struct syn_attach_opts);
	struct syn_space_opts space = SYN_OPTS(struct syn_space_opts);
	struct syn_window_opts window = SYN_OPTS(struct syn_window_opts);
	int r;

	attach.path = socket;
	attach.name = "load";
	space.model[0] = 0x6c6f6164;
	space.tokens = LOAD_TOKENS;
	space.nr_components = 1;
	space.components = &component;
	window.slots = LOAD_SLOTS;
	r = syn_attach(&attach, &load->client, NULL);
	if (r == 0)
		r = syn_space_define(load->client, &space, &load->space);
	if (r == 0)
		r = syn_window_open(load->client, &load->space, &window,
				    &load->window);
	if (r == 0)
		r = syn_timeline_new(load->client, &load->timeline);
	return r;
}

static int load_fill(struct load *load)
{
	const uint32_t tokens = LOAD_TOKENS;
	void *addr;
	int r = 0;

	for (uint32_t i = 0; i < LOAD_PAGES && r == 0; i++) {
		uint64_t *page = &load->pages[i];

		r = syn_lease(load->window, 1, SYN_FOREVER, page);
		if (r == 0)
			r = syn_pin(load->client, page, 1, &addr);
		if (r)
			return r;
		memset(addr, (int)i, load->space.page_bytes);
		syn_unpin(load->client, load->timeline, page, 1);
		r = syn_commit(load->client, page, &tokens, 1);
	}
	return r;
}

/* An earlier one may have left its pages under the same keys. */
static int load_seal(struct load *load)
{
	int r = 0;

	for (uint64_t i = 0; i < LOAD_SEALED && r == 0; i++) {
		const uint64_t key[2] = { 0xfeed, i + 1 };

		r = syn_seal(load->client, load->pages[i], key, load->timeline,
			     0);
		if (r == SYN_E_DUP)
			r = 0;
	}
	return r;
}

static int load_rounds(struct load *load, unsigned int rounds)
{
	uint32_t x = 1;
	int r = 0;

	for (unsigned int i = 0; i < rounds && r == 0; i++) {
		const unsigned char *bytes;
		uint32_t nr;
		void *addr;

		x = x * 1664525u + 1013904223u;
		nr = (x >> 16) % LOAD_PAGES;
		r = syn_load(load->client, &load->pages[nr], 1, SYN_FOREVER,
			     &addr);
		if (r)
			break;
		bytes = addr;
		if (bytes[0] != nr || bytes[load->space.page_bytes - 1] != nr)
			r = -EILSEQ;
		syn_unpin(load->client, load->timeline, &load->pages[nr], 1);
	}
	return r;
}

static int load_run(struct load *load, unsigned int rounds, unsigned int leak)
{
	int r = load_fill(load);

	if (r == 0)
		r = load_seal(load);
	if (r == 0)
		r = load_rounds(load, rounds);
	if (r == 0)
		r = syn_release(load->client, load->pages, LOAD_PAGES - leak);
	return r;
}

int main(int argc, char **argv)
{
	struct load load = { 0 };
	unsigned int rounds, leak;
	int r;

	if (argc != 4)
		return 2;
	rounds = (unsigned int)atoi(argv[2]);
	leak = syn_min((unsigned int)atoi(argv[3]), LOAD_PAGES);
	r = load_attach(&load, argv[1]);
	if (r == 0)
		r = load_run(&load, rounds, leak);
	if (r == 0) {
		(void)printf("{\"session\":%" PRIu32 ",\"pages\":%u,"
			     "\"sealed\":%u,\"leak\":%u,\"page_bytes\":%" PRIu64
			     "}\n",
			     syn_client_session(load.client), LOAD_PAGES,
			     LOAD_SEALED, leak, load.space.page_bytes);
		(void)fflush(stdout);
		while (getchar() != EOF)
			;
	} else {
		(void)fprintf(stderr, "load: %d, %s\n", r,
			      r < 0 ? strerror(-r) : "an outcome");
	}
	load.client = syn_detach(load.client);
	return r == 0 ? 0 : 1;
}
