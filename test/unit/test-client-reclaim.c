/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: loads of a page that the daemon's side, played here, tries
 * to take all the time.
 */
#include "test/unit/client-peer.h"

#define NR_LOADS 5000
#define NR_TURNS 300000 /* meanwhile */

static struct peer peer;
static struct syn_client *client;
static struct syn_window *window;

static void pte_set(uint32_t state)
{
	syn_store_seq_cst(&peer.pte[0], SYN_PTE(1, state, 0));
}

/* Of FAULT every answer is SYN_FAULT_RESIDENT: what was leaving stays. */
static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	const uint64_t page = SYN_HANDLE(1, 0);

	if (sqe->op == SYN_OP_LEASE) {
		pte_set(SYN_PTE_RESIDENT);
		memcpy(out, &page, sizeof(page));
	}
	return true;
}

static void script(struct peer *p)
{
	p->answer = answer;
	peer_script_serve(p);
}

static int setup(void **state)
{
	peer_start(&peer, script);
	peer_open(&peer, PEER_SLOTS, &client, &window);
	return 0;
}

static int teardown(void **state)
{
	(void)syn_detach(client);
	peer_stop(&peer);
	return 0;
}

struct reclaimer {
	bool stop;
	uint64_t turns;
};

/* Marks the page as leaving, sees that it is pinned, and lets it stay. */
static void *reclaimer_main(void *arg)
{
	struct reclaimer *r = arg;

	while (!syn_load_relaxed(&r->stop)) {
		pte_set(SYN_PTE_LEAVING);
		pte_set(SYN_PTE_RESIDENT);
		syn_store_relaxed(&r->turns, r->turns + 1);
		for (int i = 0; i < 8; i++)
			syn_cpu_relax();
	}
	return NULL;
}

/* Whether a load of the page, ended at once or later, says where it is. */
static bool loads_say(uint64_t page, const void *at)
{
	struct syn_loading *load = NULL;
	void *addr[2];
	bool ok;

	ok = !syn_load(client, &page, 1, SYN_FOREVER, &addr[0]) &&
	     !syn_load_begin(client, &page, 1, SYN_FOREVER, &addr[1], &load) &&
	     !syn_load_end(load) && addr[0] == at && addr[1] == at;
	syn_unpin(client, 0, &page, 1);
	syn_unpin(client, 0, &page, 1);
	return ok;
}

static void test_load(void **state)
{
	struct reclaimer reclaimer = { 0 };
	unsigned int nr_wrong = 0;
	pthread_t thread;
	uint64_t page;
	void *at;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(syn_pin(client, &page, 1, &at), 0);
	assert_int_equal(
		pthread_create(&thread, NULL, reclaimer_main, &reclaimer), 0);
	for (int i = 0;
	     i < NR_LOADS || syn_load_relaxed(&reclaimer.turns) < NR_TURNS; i++)
		nr_wrong += !loads_say(page, at);
	syn_store_relaxed(&reclaimer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(nr_wrong, 0);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_load, setup, teardown),
	};

	return test_main(tests);
}
