/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: loads of a page that the daemon's side, played here, tries
 * to take for just one look at its entry.
 */
#include <signal.h>
#include <ucontext.h>

#include "ipc/client/client-internal.h"
#include "test/unit/client-peer.h"

#define PEER_ENTRIES (PEER_PAGES * sizeof(uint64_t)) /* bytes: whole pages */

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

/* ---- a look after the other ------------------------------------------------ */

/* The processor's trap flag: SIGTRAP after an instruction. */
#define FLAG_TRAP 0x100

/* Looks at the page's entry until one finds it leaving, and none after that. */
static long left;

static void entry_protect(int prot)
{
	if (mprotect(client->pte, PEER_ENTRIES, prot) < 0)
		abort();
}

static void flag_set(void *context, greg_t flag)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	*flags = (*flags & ~(greg_t)FLAG_TRAP) | flag;
}

/* A look is let through, ... */
static void on_look(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	if (info->si_addr == client->pte && --left == 0)
		pte_set(SYN_PTE_LEAVING);
	entry_protect(PROT_READ);
	flag_set(context, FLAG_TRAP);
}

/* ... and when it is over the page stays. */
static void on_looked(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)info;
	pte_set(SYN_PTE_RESIDENT);
	entry_protect(PROT_NONE);
	flag_set(context, 0);
}

static void on_signal(int signo, void (*handler)(int signo, siginfo_t *info,
						 void *context))
{
	const struct sigaction action = {
		.sa_sigaction = handler,
		.sa_flags = SA_SIGINFO,
	};

	assert_int_equal(sigaction(signo, &action, NULL), 0);
}

static int load_at_once(const uint64_t *page, void **ret_addr)
{
	return syn_load(client, page, 1, SYN_FOREVER, ret_addr);
}

static int load_in_two(const uint64_t *page, void **ret_addr)
{
	struct syn_loading *load = NULL;
	int r;

	r = syn_load_begin(client, page, 1, SYN_FOREVER, ret_addr, &load);
	return r ? r : syn_load_end(load);
}

/* Whichever look finds the page leaving: a load says where it is. */
static void loads_try(int (*load)(const uint64_t *page, void **ret_addr))
{
	bool reached = true;
	uint64_t page;
	void *addr;
	void *at;
	long nth;
	int r;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(syn_pin(client, &page, 1, &at), 0);
	on_signal(SIGSEGV, on_look);
	on_signal(SIGTRAP, on_looked);
	for (nth = 0; reached; nth++) {
		addr = NULL;
		left = nth + 1;
		entry_protect(PROT_NONE);
		r = load(&page, &addr);
		entry_protect(PROT_READ);
		reached = left <= 0;
		assert_int_equal(r, 0);
		assert_ptr_equal(addr, at);
		syn_unpin(client, 0, &page, 1);
	}
	(void)signal(SIGSEGV, SIG_DFL);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 1);
	/* One to see whether it must be asked for, and one that says where it is. */
	assert_true(nth > 2);
}

static void test_load(void **state)
{
	(void)state;
	loads_try(load_at_once);
}

static void test_load_in_two(void **state)
{
	(void)state;
	loads_try(load_in_two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_in_two, setup,
						teardown),
	};

	return test_main(tests);
}
