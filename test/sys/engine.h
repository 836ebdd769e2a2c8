/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client as an engine would be: leases, writes, pins, loads, seals, through
 * the library.  Every call returns 0 or a negative errno and asserts nothing,
 * so that it can run in a child.
 */
#ifndef SYN_TEST_SYS_ENGINE_H
#define SYN_TEST_SYS_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/client.h>

#define ENGINE_PAGES_MAX 256u

/**
 * struct engine_device - how the bytes of a slot are reached.
 * @put:	writes @bytes to a slot; they are there when it returns.
 * @get:	reads them.
 */
struct engine_device {
	int (*put)(void *slot, const void *from, uint64_t bytes);
	int (*get)(void *to, const void *slot, uint64_t bytes);
};

/**
 * struct engine - one session and its pages.
 * @device:	NULL: slots are memory like any other.
 * @bytes:	of a page, with a @device: to be put or got.
 * @client:	the session.
 * @window:	its window.
 * @space:	the tests' space.
 * @timeline:	its own.
 * @nr:		pages.
 * @page:	their handles.
 * @seed:	what each is filled with.
 */
struct engine {
	const struct engine_device *device;
	void *bytes;
	struct syn_client *client;
	struct syn_window *window;
	struct syn_space space;
	uint32_t timeline;
	uint32_t nr;
	uint64_t page[ENGINE_PAGES_MAX];
	uint64_t seed[ENGINE_PAGES_MAX];
};

int engine_open(struct engine *e, const char *path, uint32_t slots);
/* The two halves of it: until there is a session, and then. */
int engine_attach(struct engine *e, const char *path);
int engine_begin(struct engine *e, uint32_t slots);
/* With a window of HBM that is reached through @device. */
int engine_open_on(struct engine *e, const struct engine_device *device,
		   const char *path, uint32_t slots);
void engine_close(struct engine *e);

/* @nr more pages, filled from @seed on and committed. */
int engine_grow(struct engine *e, uint32_t nr, uint64_t seed);
/* Loads page @i, compares every byte, unpins it.  -EILSEQ: another byte. */
int engine_check(struct engine *e, uint32_t i);
/* Seals page @i under a key made of @name. */
int engine_seal(struct engine *e, uint32_t i, uint64_t name);
/* Finds that page: leases, loads, compares with @seed, releases. */
int engine_find(struct engine *e, uint64_t name, uint64_t seed);
int engine_release(struct engine *e);

/* Grows to @nr pages and checks random ones @rounds times, then ends. */
int engine_work(const char *path, uint32_t slots, uint32_t nr, uint32_t rounds,
		uint64_t seed);

void page_fill(void *page, uint64_t bytes, uint64_t seed);
bool page_matches(const void *page, uint64_t bytes, uint64_t seed);
uint64_t engine_random(uint64_t *state);

#endif
