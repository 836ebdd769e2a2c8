/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for room is served in order: the server's side of it, with a
 * memory manager whose room is a number that the test sets.
 *
 * Requests that are parked are refused after a while, and a machine that is
 * busy enough makes that come too early: then a scenario is tried again.
 */
#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/mm.h"
#include "test/sys/harness.h"
#include "test/sys/inproc.h"

#define CLIENTS	    6u
#define LOG_MAX	    64u
#define TRIALS	    50
#define PATIENCE_NS 50000000u /* half of the server's */

/**
 * struct tag - a request: the object of a LEASE names it.
 * @tries:	how often the manager was asked.
 * @first_ns:	when it was asked first.
 * @granted_ns:	when it was granted; 0: not.
 * @place:	how many were granted before.
 */
struct tag {
	uint32_t tries;
	uint64_t first_ns;
	uint64_t granted_ns;
	uint32_t place;
};

/* The manager that is played; the server's thread writes what is not atomic. */
static struct {
	uint32_t room;
	uint32_t durable;
	int answer; /* to a LEASE without room */
	uint32_t nr_granted;
	uint32_t nr_persist;
	uint32_t nr_advised;
	struct tag tag[LOG_MAX];
} mm;

static struct inproc played;
static struct raw_client client[CLIENTS];

/* ---- the manager -------------------------------------------------------- */

int __wrap_syn_mm_lease(struct syn_session *session, uint64_t window,
			uint32_t nr, uint64_t *ret_handles,
			uint64_t *ret_hint_ns);
int __wrap_syn_mm_release(struct syn_session *session, const uint64_t *handles,
			  uint32_t nr);
int __wrap_syn_mm_persist(struct syn_session *session, const uint64_t *handles,
			  uint32_t nr);
int __wrap_syn_mm_advise(struct syn_session *session,
			 const struct syn_vec_advise *vec, uint32_t nr);

int __wrap_syn_mm_lease(struct syn_session *session, uint64_t window,
			uint32_t nr, uint64_t *ret_handles,
			uint64_t *ret_hint_ns)
{
	struct tag *tag = &mm.tag[window];
	uint32_t room = syn_load_acquire(&mm.room);

	(void)session;
	if (!tag->tries)
		tag->first_ns = syn_now_ns();
	syn_store_release(&tag->tries, tag->tries + 1);
	if (room < nr) {
		*ret_hint_ns = 1;
		return mm.answer;
	}
	syn_store_release(&mm.room, room - nr);
	tag->place = mm.nr_granted++;
	tag->granted_ns = syn_now_ns();
	memset(ret_handles, 0xff, nr * sizeof(*ret_handles));
	return 0;
}

/* Frees as many as it names. */
int __wrap_syn_mm_release(struct syn_session *session, const uint64_t *handles,
			  uint32_t nr)
{
	(void)session;
	(void)handles;
	syn_store_release(&mm.room, syn_load_acquire(&mm.room) + nr);
	return 0;
}

int __wrap_syn_mm_persist(struct syn_session *session, const uint64_t *handles,
			  uint32_t nr)
{
	(void)session;
	(void)handles;
	(void)nr;
	syn_store_release(&mm.nr_persist, mm.nr_persist + 1);
	return syn_load_acquire(&mm.durable) ? 0 : SYN_MM_E_WAIT;
}

int __wrap_syn_mm_advise(struct syn_session *session,
			 const struct syn_vec_advise *vec, uint32_t nr)
{
	(void)session;
	mm.nr_advised += nr;
	return vec[nr - 1].advice > SYN_ADVISE_COLD ? -EINVAL : 0;
}

/* ---- its clients -------------------------------------------------------- */

static int setup(void **state)
{
	(void)state;
	memset(&mm, 0, sizeof(mm));
	mm.answer = SYN_MM_E_WAIT;
	assert_int_equal(inproc_init(&played, 8u << 20, 8u << 20), 0);
	assert_int_equal(inproc_start(&played), 0);
	for (unsigned int i = 0; i < CLIENTS; i++)
		assert_int_equal(raw_attach(&client[i], played.socket), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < CLIENTS; i++)
		raw_close(&client[i]);
	assert_int_equal(inproc_end(&played), 0);
	return 0;
}

static struct syn_sqe lease_of(uint32_t tag, uint32_t nr)
{
	return (struct syn_sqe){
		.op = SYN_OP_LEASE, .nr = nr, .object = tag, .cookie = tag
	};
}

static void lease(unsigned int i, uint32_t tag, uint32_t nr)
{
	const struct syn_sqe sqe = lease_of(tag, nr);

	raw_submit(&client[i], &sqe, NULL, 0);
}

/* Returns when the manager has been asked. */
static void lease_parked(unsigned int i, uint32_t tag, uint32_t nr)
{
	lease(i, tag, nr);
	test_wait(syn_load_acquire(&mm.tag[tag].tries), 20);
}

static struct syn_cqe reap(unsigned int i)
{
	struct syn_cqe cqe;

	assert_true(raw_reap(&client[i], &cqe, NULL, 0, 20000));
	return cqe;
}

/* Whether that one was granted, not refused. */
static bool granted(unsigned int i, uint32_t tag)
{
	struct syn_cqe cqe = reap(i);

	assert_int_equal(cqe.cookie, tag);
	assert_true(!cqe.res || cqe.res == SYN_E_BACKPRESSURE);
	return !cqe.res;
}

static void release(unsigned int i, uint32_t nr)
{
	const struct syn_sqe sqe = { .op = SYN_OP_RELEASE, .nr = nr };
	const uint64_t handles[SYN_BATCH_MAX] = { 0 };
	struct syn_cqe cqe;

	cqe = raw_ask(&client[i], &sqe, handles, nr * sizeof(*handles), NULL,
		      0);
	assert_int_equal(cqe.res, 0);
}

/* Both at once, so that nothing happens between them. */
static void release_and_lease(unsigned int i, uint32_t tag)
{
	struct raw_client *c = &client[i];
	const struct syn_sqe both[] = { { .op = SYN_OP_RELEASE, .nr = 1 },
					lease_of(tag, 1) };
	const uint64_t one = 1;

	for (uint32_t k = 0; k < 2; k++)
		memcpy(syn_ring_entry(&c->sq, c->sq.own + k), &both[k],
		       sizeof(both[k]));
	if (syn_ring_publish(&c->sq, 2))
		(void)!write(c->bell_fd, &one, sizeof(one));
	assert_int_equal(reap(i).res, 0);
}

static void again(void)
{
	memset(&mm.tag, 0, sizeof(mm.tag));
	mm.nr_granted = 0;
	syn_store_release(&mm.room, 0);
}

#define try_until(cond)                                                        \
	do {                                                                   \
		int trial_ = 0;                                                \
		again();                                                       \
		while (!(cond)) {                                              \
			assert_true(++trial_ < TRIALS);                        \
			again();                                               \
		}                                                              \
	} while (0)

/* ---- order -------------------------------------------------------------- */

/* As they came; and whoever was served goes behind the others. */
static bool turns(void)
{
	bool all = true;

	for (uint32_t i = 0; i < 3; i++)
		lease_parked(i, 1 + i, 1);
	lease(0, 4, 1);
	for (uint32_t i = 0; i < 4; i++)
		release(5, 1);
	for (uint32_t i = 0; i < 3; i++)
		all &= granted(i, 1 + i);
	all &= granted(0, 4);
	for (uint32_t i = 1; i <= 4 && all; i++)
		assert_int_equal(mm.tag[i].place, i - 1);
	return all;
}

static void test_sessions_take_turns(void **state)
{
	(void)state;
	try_until(turns());
}

/* Room for the second, not for the first. */
static bool own_order(void)
{
	bool all;
	uint32_t tries;

	lease_parked(0, 1, 8);
	lease(0, 2, 1);
	release(5, 1);
	tries = syn_load_acquire(&mm.tag[1].tries);
	test_wait(syn_load_acquire(&mm.tag[1].tries) > tries + 2, 20);
	release(5, 8);
	all = granted(0, 1);
	all &= granted(0, 2);
	if (all)
		assert_true(mm.tag[1].place < mm.tag[2].place);
	return all;
}

static void test_session_keeps_its_order(void **state)
{
	(void)state;
	try_until(own_order());
}

/* What one frees goes to the one who waits, not back to the first. */
static bool overtaken(void)
{
	const struct tag *waits = &mm.tag[1];
	const struct tag *asks = &mm.tag[2];
	bool first;

	lease_parked(0, 1, 1);
	release_and_lease(1, 2);
	first = granted(0, 1);
	(void)granted(1, 2);
	if (asks->granted_ns && !first)
		assert_true(asks->granted_ns > waits->first_ns + PATIENCE_NS);
	return first;
}

static void test_nobody_overtakes(void **state)
{
	(void)state;
	try_until(overtaken());
}

/* ---- persistence -------------------------------------------------------- */

static void persist(unsigned int i)
{
	const struct syn_sqe sqe = { .op = SYN_OP_PERSIST,
				     .nr = 1,
				     .cookie = 99 };
	const uint64_t handle = 1;

	raw_submit(&client[i], &sqe, &handle, sizeof(handle));
}

/* The disk holds up nobody who wants room, of the same session neither. */
static bool persisted(void)
{
	struct syn_cqe cqe;

	syn_store_release(&mm.durable, 0u);
	mm.nr_persist = 0;
	persist(0);
	test_wait(syn_load_acquire(&mm.nr_persist) > 1, 20);
	syn_store_release(&mm.room, 1u);
	lease(0, 1, 1);
	cqe = reap(0);
	if (cqe.cookie != 1) {
		assert_int_equal(cqe.res, SYN_E_BACKPRESSURE);
		assert_true(granted(0, 1));
		return false;
	}
	assert_int_equal(cqe.res, 0);
	syn_store_release(&mm.durable, 1u);
	cqe = reap(0);
	assert_int_equal(cqe.cookie, 99);
	return !cqe.res;
}

static void test_persist_waits_apart(void **state)
{
	(void)state;
	try_until(persisted());
}

/* Nor does room that is missing hold up the disk. */
static bool persisted_before(void)
{
	struct syn_cqe cqe;

	syn_store_release(&mm.durable, 0u);
	mm.nr_persist = 0;
	lease_parked(0, 1, 1);
	persist(0);
	test_wait(syn_load_acquire(&mm.nr_persist), 20);
	syn_store_release(&mm.durable, 1u);
	cqe = reap(0);
	if (cqe.cookie == 99)
		assert_int_equal(granted(0, 1), false);
	else
		assert_int_equal(reap(0).cookie, 99);
	return cqe.cookie == 99 && !cqe.res;
}

static void test_persist_overtakes(void **state)
{
	(void)state;
	try_until(persisted_before());
}

static void test_persist_is_refused_in_time(void **state)
{
	struct syn_cqe cqe;

	(void)state;
	persist(0);
	cqe = reap(0);
	assert_int_equal(cqe.res, SYN_E_BACKPRESSURE);
	assert_int_equal(cqe.flags, SYN_CQE_F_OUTCOME);
	assert_true(cqe.val[0] > 0);
}

static void test_advise(void **state)
{
	struct syn_sqe sqe = { .op = SYN_OP_ADVISE, .nr = 2 };
	struct syn_vec_advise vec[2] = { { .handle = 1 }, { .handle = 2 } };

	(void)state;
	assert_int_equal(
		raw_ask(&client[0], &sqe, vec, sizeof(vec), NULL, 0).res, 0);
	assert_int_equal(mm.nr_advised, 2);
	vec[1].pad0 = 1;
	assert_int_equal(
		raw_ask(&client[0], &sqe, vec, sizeof(vec), NULL, 0).res,
		-EINVAL);
	sqe.nr = 0;
	assert_int_equal(
		raw_ask(&client[0], &sqe, vec, sizeof(vec), NULL, 0).res,
		-EINVAL);
	assert_int_equal(mm.nr_advised, 2);
}

/* ---- hints -------------------------------------------------------------- */

static uint64_t hint(unsigned int i)
{
	const struct syn_sqe sqe = lease_of(1, 1);
	struct syn_cqe cqe = raw_ask(&client[i], &sqe, NULL, 0, NULL, 0);

	assert_int_equal(cqe.res, SYN_E_BACKPRESSURE);
	assert_int_equal(cqe.flags, SYN_CQE_F_OUTCOME);
	return cqe.val[0];
}

/* Who has not come back for a second does not count any more. */
static void hints_forget(void)
{
	sleep_ms(1100);
}

/* The more want room, the longer; each counts once, and not once served. */
static bool hints(void)
{
	const uint64_t from_ns = syn_now_ns();
	const struct syn_sqe sqe = lease_of(1, 1);
	uint64_t first = hint(0);
	uint64_t last = first;
	uint64_t all;

	assert_true(first > 0);
	assert_int_equal(hint(0), first);
	for (unsigned int i = 1; i < CLIENTS; i++) {
		uint64_t next = hint(i);

		if (syn_now_ns() - from_ns > 900000000u)
			return false;
		assert_true(next > last && next <= 1000000000u);
		last = next;
	}
	syn_store_release(&mm.room, 1u);
	assert_int_equal(raw_ask(&client[0], &sqe, NULL, 0, NULL, 0).res, 0);
	raw_close(&client[1]);
	test_wait(hint(2) < last, 20);
	all = hint(2);
	assert_int_equal(raw_attach(&client[1], played.socket), 0);
	return all == last - 2 * (last - first) / (CLIENTS - 1);
}

static void test_hints_grow(void **state)
{
	uint64_t first;

	(void)state;
	mm.answer = SYN_E_BACKPRESSURE;
	first = hint(0);
	try_until((hints_forget(), hints()));
	hints_forget();
	assert_int_equal(hint(0), first);
}

#define queue_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		queue_test(test_sessions_take_turns),
		queue_test(test_session_keeps_its_order),
		queue_test(test_nobody_overtakes),
		queue_test(test_persist_waits_apart),
		queue_test(test_persist_overtakes),
		queue_test(test_persist_is_refused_in_time),
		queue_test(test_advise),
		queue_test(test_hints_grow),
	};

	return test_main(tests);
}
