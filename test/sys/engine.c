/* SPDX-License-Identifier: Apache-2.0 */
/* An engine that verifies every byte it gets back. */
#include "test/sys/engine.h"

#include <string.h>

#include "core/base/base.h"

#define ENGINE_TIMEOUT_NS 20000000000u
#define ENGINE_TOKENS	  128u

/* splitmix64: any state will do. */
uint64_t engine_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void page_fill(void *page, uint64_t bytes, uint64_t seed)
{
	uint64_t *word = page;

	for (uint64_t i = 0; i < bytes / sizeof(*word); i++)
		word[i] = engine_random(&seed);
}

bool page_matches(const void *page, uint64_t bytes, uint64_t seed)
{
	const uint64_t *word = page;

	for (uint64_t i = 0; i < bytes / sizeof(*word); i++)
		if (word[i] != engine_random(&seed))
			return false;
	return true;
}

/* A positive answer where only success was to be expected. */
static int plain(int r)
{
	return r > 0 ? -EBUSY : r;
}

static int engine_space(struct engine *e)
{
	static const struct syn_component components[] = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, 2, 64, SYN_CODEC_RAW16, 0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, 2, 64, SYN_CODEC_RAW16, 0 },
	};
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);

	opts.model[0] = 1;
	opts.model[1] = 2;
	opts.tokens = ENGINE_TOKENS;
	opts.nr_components = syn_array_size(components);
	opts.components = components;
	return syn_space_define(e->client, &opts, &e->space);
}

static int engine_window(struct engine *e, uint32_t slots)
{
	struct syn_window_opts opts = SYN_OPTS(struct syn_window_opts);

	opts.slots = slots;
	return syn_window_open(e->client, &e->space, &opts, &e->window);
}

int engine_open(struct engine *e, const char *path, uint32_t slots)
{
	return engine_open_on(e, NULL, path, slots);
}

static int engine_bytes(struct engine *e)
{
	if (!e->device)
		return 0;
	e->bytes = malloc(e->space.page_bytes);
	return e->bytes ? 0 : -ENOMEM;
}

int engine_attach(struct engine *e, const char *path)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);

	memset(e, 0, sizeof(*e));
	opts.path = path;
	opts.name = "engine";
	opts.nr_pages = 4096;
	return syn_attach(&opts, &e->client, NULL);
}

int engine_begin(struct engine *e, uint32_t slots)
{
	int r;

	r = syn_timeline_new(e->client, &e->timeline);
	if (!r)
		r = engine_space(e);
	if (!r)
		r = engine_bytes(e);
	if (!r)
		r = engine_window(e, slots);
	if (r)
		engine_close(e);
	return r;
}

int engine_open_on(struct engine *e, const struct engine_device *device,
		   const char *path, uint32_t slots)
{
	int r;

	r = engine_attach(e, path);
	if (r)
		return r;
	e->device = device;
	return engine_begin(e, slots);
}

void engine_close(struct engine *e)
{
	e->client = syn_detach(e->client);
	free(e->bytes);
	e->bytes = NULL;
}

static int slot_fill(struct engine *e, void *slot, uint64_t seed)
{
	uint64_t bytes = e->space.page_bytes;

	page_fill(e->device ? e->bytes : slot, bytes, seed);
	return e->device ? e->device->put(slot, e->bytes, bytes) : 0;
}

/* -EILSEQ: other bytes. */
static int slot_check(struct engine *e, const void *slot, uint64_t seed)
{
	uint64_t bytes = e->space.page_bytes;
	int r = e->device ? e->device->get(e->bytes, slot, bytes) : 0;

	if (r)
		return r;
	return page_matches(e->device ? e->bytes : slot, bytes, seed) ? 0
								      : -EILSEQ;
}

static int page_write(struct engine *e, uint32_t i)
{
	const uint32_t tokens = ENGINE_TOKENS;
	void *addr;
	int r;

	r = plain(syn_pin(e->client, &e->page[i], 1, &addr));
	if (r)
		return r;
	r = slot_fill(e, addr, e->seed[i]);
	if (!r)
		r = syn_commit(e->client, &e->page[i], &tokens, 1);
	syn_unpin(e->client, e->timeline, &e->page[i], 1);
	return r;
}

int engine_grow(struct engine *e, uint32_t nr, uint64_t seed)
{
	int r = 0;

	while (nr-- && !r) {
		uint32_t i = e->nr;

		if (i == ENGINE_PAGES_MAX)
			return -E2BIG;
		r = plain(syn_lease(e->window, 1, ENGINE_TIMEOUT_NS,
				    &e->page[i]));
		if (r)
			return r;
		e->nr++;
		e->seed[i] = seed + i;
		r = page_write(e, i);
	}
	return r;
}

static int page_check(struct engine *e, const uint64_t *page, uint64_t seed)
{
	void *addr;
	int r;

	r = plain(syn_load(e->client, page, 1, ENGINE_TIMEOUT_NS, &addr));
	if (r)
		return r;
	r = slot_check(e, addr, seed);
	syn_unpin(e->client, e->timeline, page, 1);
	return r;
}

int engine_check(struct engine *e, uint32_t i)
{
	return page_check(e, &e->page[i], e->seed[i]);
}

int engine_seal(struct engine *e, uint32_t i, uint64_t name)
{
	const uint64_t key[2] = { name, ~name };

	return plain(syn_seal(e->client, e->page[i], key, e->timeline, 0));
}

int engine_find(struct engine *e, uint64_t name, uint64_t seed)
{
	const uint64_t key[1][2] = { { name, ~name } };
	uint64_t page;
	int r;

	r = syn_lookup(e->window, key, 1, &page, NULL);
	if (r != 1)
		return r < 0 ? r : -ENOENT;
	r = page_check(e, &page, seed);
	if (r)
		return r;
	return syn_release(e->client, &page, 1);
}

int engine_release(struct engine *e)
{
	int r = syn_release(e->client, e->page, e->nr);

	if (!r)
		e->nr = 0;
	return r;
}

int engine_work(const char *path, uint32_t slots, uint32_t nr, uint32_t rounds,
		uint64_t seed)
{
	struct engine e;
	int r;

	r = engine_open(&e, path, slots);
	if (r)
		return r;
	r = engine_grow(&e, nr, seed);
	for (uint32_t i = 0; i < rounds && !r; i++)
		r = engine_check(&e, (uint32_t)(engine_random(&seed) % e.nr));
	if (!r)
		r = engine_release(&e);
	engine_close(&e);
	return r;
}
