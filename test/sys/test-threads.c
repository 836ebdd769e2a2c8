/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Daemon and clients as threads of one process over one mapping, so that a
 * race detector sees both sides of every shared word.
 */
#include <stdio.h>

#include "core/base/base.h"
#include "test/sys/engine.h"
#include "test/sys/inproc.h"
#include "test/test.h"

#define NR_CLIENTS 3
#define SLOTS	   16u
#define PAGES	   48u
#define WORK_NS	   4000000000u

/**
 * struct client - one thread.
 * @path:	the daemon's socket.
 * @index:	which.
 * @rounds:	pages compared.
 * @result:	0, or what went wrong.
 */
struct client {
	const char *path;
	unsigned int index;
	unsigned int rounds;
	int result;
};

/* All clients seal the same names over the same bytes: one of them is first. */
static int client_seal(struct engine *e, uint64_t name)
{
	const uint64_t content = name * 1000003;
	uint32_t i = e->nr;
	int r;

	r = engine_grow(e, 1, content - i);
	if (r)
		return r;
	r = engine_seal(e, i, name);
	if (r && r != -EBUSY)
		return r;
	return engine_find(e, name, content);
}

/* Pages go down and come back; every byte is compared. */
static int client_round(struct engine *e, struct client *c, uint64_t *seed)
{
	int r;

	r = engine_grow(e, PAGES, *seed);
	for (int i = 0; i < 64 && !r; i++) {
		r = engine_check(e, (uint32_t)(engine_random(seed) % e->nr));
		c->rounds++;
	}
	if (!r)
		r = client_seal(e, engine_random(seed) % 8);
	return r ? r : engine_release(e);
}

static void *client_main(void *arg)
{
	const uint64_t until_ns = syn_now_ns() + WORK_NS;
	struct client *c = arg;
	uint64_t seed = c->index;
	struct engine e;
	int r = 0;

	while (!r && syn_now_ns() < until_ns) {
		r = engine_open(&e, c->path, SLOTS);
		for (int i = 0; i < 4 && !r; i++)
			r = client_round(&e, c, &seed);
		if (r)
			(void)fprintf(stderr, "client %u: %d %s\n", c->index, r,
				      e.client ? syn_client_reason(e.client)
					       : "");
		engine_close(&e);
	}
	c->result = r;
	return NULL;
}

static void test_threads(void **state)
{
	struct client clients[NR_CLIENTS];
	pthread_t threads[NR_CLIENTS];
	struct inproc p;
	int fds = test_count_fds();

	(void)state;
	assert_int_equal(inproc_init(&p, 8u << 20, 16u << 20), 0);
	assert_int_equal(inproc_start(&p), 0);
	for (unsigned int i = 0; i < NR_CLIENTS; i++) {
		clients[i] =
			(struct client){ .path = p.socket, .index = i + 1 };
		assert_int_equal(pthread_create(&threads[i], NULL, client_main,
						&clients[i]),
				 0);
	}
	for (unsigned int i = 0; i < NR_CLIENTS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(clients[i].result, 0);
		assert_true(clients[i].rounds > 0);
		print_message("client %u: %u pages compared\n", i,
			      clients[i].rounds);
	}
	assert_int_equal(inproc_end(&p), 0);
	assert_int_equal(test_count_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
	};

	return test_main(tests);
}
