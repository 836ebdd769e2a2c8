/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ipc/ring.h: two threads over one mapping, so that ThreadSanitizer sees every
 * missing order; and a peer whose indices lie.
 */
#include "ipc/ring.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <synapse/abi.h>

#include "test/test.h"

#define NR_MESSAGES 1000000u
#define NR_STRESS   20000000u
#define ENTRIES	    64u

struct entry {
	uint64_t number;
	uint64_t square;
};

static struct syn_client_ctl producer_ctl;
static struct syn_daemon_ctl consumer_ctl;
static struct entry entries[ENTRIES];
static int bell;
static uint32_t nr_messages;

static struct syn_ring producer_view(void)
{
	return (struct syn_ring){
		.mine = &producer_ctl.sq_tail,
		.theirs = &consumer_ctl.sq_head,
		.sleeps = &consumer_ctl.sq_sleeps,
		.entries = (unsigned char *)entries,
		.entry_bytes = sizeof(struct entry),
		.mask = ENTRIES - 1,
	};
}

static struct syn_ring consumer_view(void)
{
	struct syn_ring r = producer_view();

	r.mine = &consumer_ctl.sq_head;
	r.theirs = &producer_ctl.sq_tail;
	return r;
}

static int setup(void **state)
{
	memset(&producer_ctl, 0, sizeof(producer_ctl));
	memset(&consumer_ctl, 0, sizeof(consumer_ctl));
	memset(entries, 0, sizeof(entries));
	bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return bell < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	bell = syn_close(bell);
	return 0;
}

static void ring_bell(void)
{
	const uint64_t one = 1;

	assert_int_equal(write(bell, &one, sizeof(one)), sizeof(one));
}

/* Sleeps without a limit: a lost wake-up ends in the watchdog. */
static void sleep_on_bell(void)
{
	struct pollfd fd = { .fd = bell, .events = POLLIN };
	uint64_t count;

	while (poll(&fd, 1, -1) < 1)
		;
	assert_int_equal(read(bell, &count, sizeof(count)), sizeof(count));
}

/* Bursts of changing size, and now and then a pause that lets the peer sleep. */
static void *produce(void *arg)
{
	struct syn_ring r = producer_view();
	uint32_t sent = 0;

	while (sent < nr_messages) {
		uint32_t nr = syn_min(syn_ring_room(&r), sent % 7 + 1);

		nr = syn_min(nr, nr_messages - sent);
		for (uint32_t i = 0; i < nr; i++) {
			struct entry *e = syn_ring_entry(&r, r.own + i);

			e->number = sent + i;
			e->square = e->number * e->number;
		}
		if (!nr) {
			syn_cpu_relax();
			continue;
		}
		if (syn_ring_publish(&r, nr))
			ring_bell();
		sent += nr;
		if (sent % 4096 < nr)
			(void)usleep(1);
	}
	return NULL;
}

static uint32_t consume(struct syn_ring *r, uint32_t *got)
{
	int nr = syn_ring_waiting(r);

	assert_true(nr >= 0);
	for (int i = 0; i < nr; i++) {
		const struct entry *e = syn_ring_entry(r, r->own + (uint32_t)i);

		assert_int_equal(e->number, *got);
		assert_int_equal(e->square, (uint64_t)*got * *got);
		(*got)++;
	}
	if (nr)
		syn_ring_consume(r, (uint32_t)nr);
	return (uint32_t)nr;
}

static void test_every_message_once_in_order(void **state)
{
	struct syn_ring r = consumer_view();
	unsigned int sleeps = 0;
	pthread_t thread;
	uint32_t got = 0;

	nr_messages = getenv("SYN_TEST_STRESS") ? NR_STRESS : NR_MESSAGES;
	assert_int_equal(pthread_create(&thread, NULL, produce, NULL), 0);
	while (got < nr_messages) {
		if (consume(&r, &got) || !syn_ring_sleep(&r))
			continue;
		sleeps++;
		sleep_on_bell();
		syn_ring_awake(&r);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(syn_ring_waiting(&r), 0);
	assert_true(sleeps > 0);
}

static void test_full_and_empty(void **state)
{
	struct syn_ring p = producer_view();
	struct syn_ring c = consumer_view();

	assert_int_equal(syn_ring_room(&p), ENTRIES);
	assert_int_equal(syn_ring_waiting(&c), 0);
	assert_false(syn_ring_publish(&p, ENTRIES));
	assert_int_equal(syn_ring_room(&p), 0);
	assert_int_equal(syn_ring_waiting(&c), ENTRIES);
	syn_ring_consume(&c, 1);
	assert_int_equal(syn_ring_room(&p), 1);
}

static void test_indices_wrap(void **state)
{
	struct syn_ring p = producer_view();
	struct syn_ring c = consumer_view();

	p.own = c.own = UINT32_MAX - 2;
	producer_ctl.sq_tail = consumer_ctl.sq_head = UINT32_MAX - 2;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(syn_ring_room(&p), ENTRIES);
		(void)syn_ring_publish(&p, 3);
		assert_int_equal(syn_ring_waiting(&c), 3);
		syn_ring_consume(&c, 3);
	}
	assert_int_equal(p.own, 27);
}

static void test_announced_sleeper_is_woken(void **state)
{
	struct syn_ring p = producer_view();
	struct syn_ring c = consumer_view();

	assert_true(syn_ring_sleep(&c));
	assert_true(syn_ring_publish(&p, 1));
	syn_ring_awake(&c);
	assert_false(syn_ring_publish(&p, 1));
	/* Something is there: no sleep, and no announcement is left. */
	assert_false(syn_ring_sleep(&c));
	assert_int_equal(consumer_ctl.sq_sleeps, 0);
}

static void test_lying_producer(void **state)
{
	static const uint32_t lies[] = { ENTRIES + 1, 1u << 31, UINT32_MAX };
	struct syn_ring c = consumer_view();

	for (unsigned int i = 0; i < syn_array_size(lies); i++) {
		producer_ctl.sq_tail = lies[i];
		assert_int_equal(syn_ring_waiting(&c), -EPROTO);
	}
	producer_ctl.sq_tail = ENTRIES;
	assert_int_equal(syn_ring_waiting(&c), ENTRIES);
	/* It goes back over what was consumed. */
	syn_ring_consume(&c, 3);
	producer_ctl.sq_tail = 1;
	assert_int_equal(syn_ring_waiting(&c), -EPROTO);
}

/* A consumer that lies can spoil only what it is sent, never our memory. */
static void test_lying_consumer(void **state)
{
	static const uint32_t lies[] = { 1, 5, ENTRIES + 1, 1u << 31,
					 UINT32_MAX };
	struct syn_ring p = producer_view();

	for (unsigned int i = 0; i < syn_array_size(lies); i++) {
		consumer_ctl.sq_head = lies[i];
		assert_true(syn_ring_room(&p) <= ENTRIES);
		for (uint32_t at = 0; at < 3 * ENTRIES; at++) {
			const unsigned char *e = syn_ring_entry(&p, at);

			assert_true(e >= (unsigned char *)entries);
			assert_true(e < (unsigned char *)(entries + ENTRIES));
		}
	}
}

/* An entry is read from where the masked index says, and nowhere else. */
static void test_own_index_is_private(void **state)
{
	struct syn_ring p = producer_view();
	struct syn_ring c = consumer_view();

	(void)syn_ring_publish(&p, 2);
	producer_ctl.sq_tail = 77;
	(void)syn_ring_publish(&p, 1);
	assert_int_equal(producer_ctl.sq_tail, 3);
	consumer_ctl.sq_head = 99;
	assert_int_equal(syn_ring_waiting(&c), 3);
	syn_ring_consume(&c, 3);
	assert_int_equal(consumer_ctl.sq_head, 3);
}

#define ring_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(test_every_message_once_in_order),
		ring_test(test_full_and_empty),
		ring_test(test_indices_wrap),
		ring_test(test_announced_sleeper_is_woken),
		ring_test(test_lying_producer),
		ring_test(test_lying_consumer),
		ring_test(test_own_index_is_private),
	};

	return test_main(tests);
}
