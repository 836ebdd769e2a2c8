/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin protocol over tables in this process: one mapping, so that
 * ThreadSanitizer sees the orders.
 */
#include <errno.h>
#include <pthread.h>

#include "ipc/client/client-internal.h"
#include "test/test.h"

#define NR_PAGES     64u
#define STRIDE	     64u
#define NR_CODED     8u
#define STRIDE_CODED 16u

static uint32_t usable;
static uint64_t pte[NR_PAGES];
static uint32_t pin[NR_PAGES];
static uint8_t window_of[NR_PAGES];
static uint64_t mapped[1];
static uint64_t mapped_coded[1];
static struct syn_timeline timeline[2];
static char memory[NR_PAGES * STRIDE];
static char memory_coded[NR_CODED * STRIDE_CODED];
static struct syn_client client;

static int setup(void **state)
{
	usable = SYN_CLIENT_USABLE;
	memset(pin, 0, sizeof(pin));
	memset(timeline, 0, sizeof(timeline));
	mapped[0] = UINT64_MAX;
	mapped_coded[0] = UINT64_MAX;
	client.state = &usable;
	client.pte = pte;
	client.pin = pin;
	client.window_of = window_of;
	client.nr_pages = NR_PAGES;
	client.timeline = timeline;
	client.nr_timelines = 2;
	client.window[0] = (struct syn_window){
		.client = &client,
		.plane[0] = { .base = memory,
			      .stride = STRIDE,
			      .range = NR_PAGES,
			      .slots = NR_PAGES,
			      .mapped = mapped },
		.plane[1] = { .base = memory_coded,
			      .stride = STRIDE_CODED,
			      .range = NR_CODED,
			      .slots = NR_CODED,
			      .mapped = mapped_coded },
	};
	for (uint32_t i = 0; i < NR_PAGES; i++)
		pte[i] = SYN_PTE(7, SYN_PTE_RESIDENT, NR_PAGES - 1 - i);
	return 0;
}

static void test_pin_and_unpin(void **state)
{
	uint64_t pages[NR_PAGES];
	void *addr[NR_PAGES];

	for (uint32_t i = 0; i < NR_PAGES; i++)
		pages[i] = SYN_HANDLE(7, i);
	assert_int_equal(syn_pin(&client, pages, NR_PAGES, addr), 0);
	for (uint32_t i = 0; i < NR_PAGES; i++) {
		assert_ptr_equal(addr[i], memory + (NR_PAGES - 1 - i) * STRIDE);
		assert_int_equal(pin[i], SYN_PIN_ONE);
	}
	assert_int_equal(syn_pin(&client, pages, 1, NULL), 0);
	assert_int_equal(pin[0], 2 * SYN_PIN_ONE);
	syn_unpin(&client, 0, pages, NR_PAGES);
	syn_unpin(&client, 0, pages, 1);
	for (uint32_t i = 0; i < NR_PAGES; i++)
		assert_int_equal(SYN_PIN_COUNT(pin[i]), 0);
	/* The daemon sees that it was used. */
	assert_int_equal(SYN_PIN_USES(pin[0]), 2);
}

/* The slot says in which range the page lies. */
static void test_pin_in_both_planes(void **state)
{
	const uint64_t pages[3] = { SYN_HANDLE(7, 0), SYN_HANDLE(7, 1),
				    SYN_HANDLE(7, 2) };
	void *addr[3];

	pte[0] = SYN_PTE(7, SYN_PTE_RESIDENT, SYN_SLOT_CODED | 5);
	pte[1] = SYN_PTE(7, SYN_PTE_RESIDENT, 5);
	pte[2] = SYN_PTE(7, SYN_PTE_RESIDENT, SYN_SLOT_CODED);
	assert_int_equal(syn_pin(&client, pages, 3, addr), 0);
	assert_ptr_equal(addr[0], memory_coded + 5 * STRIDE_CODED);
	assert_ptr_equal(addr[1], memory + 5 * STRIDE);
	assert_ptr_equal(addr[2], memory_coded);
	syn_unpin(&client, 0, pages, 3);
	/* Neither past the range nor where nothing is mapped. */
	pte[1] = SYN_PTE(7, SYN_PTE_RESIDENT, SYN_SLOT_CODED | NR_CODED);
	assert_int_equal(syn_pin(&client, pages, 2, addr), SYN_E_FAULT);
	mapped_coded[0] = ~(1ull << 5);
	assert_int_equal(syn_pin(&client, pages, 1, addr), SYN_E_FAULT);
	assert_int_equal(SYN_PIN_COUNT(pin[0]), 0);
}

/* One that cannot be pinned leaves none pinned. */
static void assert_outcome(uint64_t entry, int want)
{
	const uint64_t pages[3] = { SYN_HANDLE(7, 0), SYN_HANDLE(7, 1),
				    SYN_HANDLE(7, 2) };

	pte[1] = entry;
	assert_int_equal(syn_pin(&client, pages, 3, NULL), want);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(SYN_PIN_COUNT(pin[i]), 0);
}

static void test_outcomes(void **state)
{
	assert_outcome(SYN_PTE(7, SYN_PTE_LEAVING, 1), SYN_E_FAULT);
	assert_outcome(SYN_PTE(7, SYN_PTE_ABSENT, 0), SYN_E_FAULT);
	assert_outcome(SYN_PTE(7, SYN_PTE_FILLING, 1), SYN_E_FAULT);
	assert_outcome(SYN_PTE(7, SYN_PTE_LOST, 0), SYN_E_LOST);
	assert_outcome(SYN_PTE(7, SYN_PTE_NONE, 0), -ESTALE);
	assert_outcome(SYN_PTE(8, SYN_PTE_RESIDENT, 1), -ESTALE);
	assert_outcome(SYN_PTE(6, SYN_PTE_RESIDENT, 1), -ESTALE);
	assert_outcome(0, -ESTALE);
	/* A state without a name is no reason to touch the slot. */
	assert_outcome(SYN_PTE(7, 15, 1), SYN_E_FAULT);
	/* A slot outside, and one without memory. */
	assert_outcome(SYN_PTE(7, SYN_PTE_RESIDENT, NR_PAGES), SYN_E_FAULT);
	mapped[0] = ~(1ull << 5);
	assert_outcome(SYN_PTE(7, SYN_PTE_RESIDENT, 5), SYN_E_FAULT);
}

static void test_handles_outside(void **state)
{
	uint64_t page = SYN_HANDLE(7, NR_PAGES);

	assert_int_equal(syn_pin(&client, &page, 1, NULL), -ESTALE);
	syn_unpin(&client, 0, &page, 1);
	page = 0;
	pte[0] = 0;
	assert_int_equal(syn_pin(&client, &page, 1, NULL), -ESTALE);
}

/* A full count is refused before it could be seen as zero. */
static void test_overflow(void **state)
{
	const uint64_t page = SYN_HANDLE(7, 3);
	unsigned int nr = 0;
	int r;

	while (!(r = syn_pin(&client, &page, 1, NULL)))
		nr++;
	assert_int_equal(r, -EOVERFLOW);
	assert_true(nr > 60000 && nr <= SYN_PIN_COUNT_MAX);
	assert_int_equal(SYN_PIN_COUNT(pin[3]), nr);
	while (nr--)
		syn_unpin(&client, 0, &page, 1);
	assert_int_equal(SYN_PIN_COUNT(pin[3]), 0);
}

static void test_ended_and_forked(void **state)
{
	const uint64_t page = SYN_HANDLE(7, 3);

	usable = SYN_CLIENT_ENDED;
	assert_int_equal(syn_pin(&client, &page, 1, NULL), -ESHUTDOWN);
	usable = SYN_CLIENT_FORKED;
	assert_int_equal(syn_pin(&client, &page, 1, NULL), -ECHILD);
	syn_unpin(&client, 0, &page, 1);
	assert_int_equal(pin[3], 0);
}

/* ---- against a daemon that takes pages ---------------------------------- */

#define NR_READERS 3
#define NR_TAKES   20000

static bool stop;
static unsigned int nr_pins;
static unsigned int nr_taken;

/* Every word of a page that may be read is the same. */
static bool page_is_whole(const void *addr)
{
	const uint64_t *words = addr;

	for (unsigned int i = 1; i < STRIDE / 8; i++)
		if (words[i] != words[0])
			return false;
	return true;
}

static void *read_pages(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	void *failed = NULL;

	while (!syn_load_relaxed(&stop)) {
		uint64_t page = SYN_HANDLE(7, rand_r(&seed) % 4);
		void *addr;
		int r = syn_pin(&client, &page, 1, &addr);

		if (r == SYN_E_FAULT)
			continue;
		if (r || !page_is_whole(addr))
			failed = arg;
		syn_unpin(&client, 0, &page, 1);
		(void)__atomic_fetch_add(&nr_pins, 1, __ATOMIC_RELAXED);
	}
	return failed;
}

/* C, D of concurrency.rst; what was taken is overwritten and given back. */
static void take(uint32_t index)
{
	uint32_t slot = NR_PAGES - 1 - index;
	uint64_t *words = (uint64_t *)(void *)(memory + slot * STRIDE);

	syn_store_seq_cst(&pte[index],
			  SYN_PTE(7, SYN_PTE_LEAVING, slot)); /* C */
	if (!SYN_PIN_COUNT(syn_load_seq_cst(&pin[index]))) {  /* D */
		nr_taken++;
		for (unsigned int i = 0; i < STRIDE / 8; i++)
			words[i]++;
	}
	syn_store_release(&pte[index], SYN_PTE(7, SYN_PTE_RESIDENT, slot));
}

static void test_nothing_is_taken_while_pinned(void **state)
{
	unsigned int nr = getenv("SYN_TEST_STRESS") ? 100 * NR_TAKES : NR_TAKES;
	pthread_t threads[NR_READERS];
	unsigned int rounds = 0;

	memset(memory, 0, sizeof(memory));
	nr_pins = 0;
	nr_taken = 0;
	stop = false;
	for (uintptr_t i = 0; i < NR_READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_pages,
						(void *)(i + 1)),
				 0);
	/* Until both sides have had their way often enough. */
	while (rounds < nr || !nr_taken ||
	       syn_load_relaxed(&nr_pins) < NR_TAKES)
		take(rounds++ % 4);
	syn_store_relaxed(&stop, true);
	for (int i = 0; i < NR_READERS; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(SYN_PIN_COUNT(pin[i]), 0);
}

#define pin_test(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		pin_test(test_pin_and_unpin),
		pin_test(test_pin_in_both_planes),
		pin_test(test_outcomes),
		pin_test(test_handles_outside),
		pin_test(test_overflow),
		pin_test(test_ended_and_forked),
		pin_test(test_nothing_is_taken_while_pinned),
	};

	return test_main(tests);
}
