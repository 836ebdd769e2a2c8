/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: requests, batches, windows, extents and loads, against a
 * daemon's side that is played here.
 */
#include "kernels/codec/sum.h"
#include "test/unit/client-peer.h"

#define HOST_EXTENT 9u
#define LATE_EXTENT 2u
#define TILE	    (PEER_PAGE / PEER_TILES)

static struct peer peer;
static struct syn_client *client;
static struct syn_window *window;
static int nr_fds;

/* What the played daemon does next; set before the call under test. */
static struct {
	uint32_t next;		/* page-table entry */
	unsigned int refuse;	/* so many LEASE or FAULT find no room */
	unsigned int busy;	/* so many FAULT entries are busy */
	bool spoil_sum;		/* the next loan's sums are wrong */
	bool lose;		/* FAULT answers SYN_E_LOST */
	uint32_t first_loan;	/* FAULT names no smaller one */
	bool late_extent;	/* LEASE sends the extent it needs first */
	unsigned int fail_at;	/* the nth LEASE fails with -EDQUOT */
	unsigned int nr_lookup; /* keys that are present */
	int last_status;	/* of the last LOADED */
	uint32_t nr_released;
	struct syn_sqe seal;
	uint32_t seal_sums[PEER_TILES];
	uint32_t commit_tokens;
} plan;

static void pte_set(uint32_t index, uint32_t state, uint32_t slot)
{
	syn_store_seq_cst(&peer.pte[index], SYN_PTE(1, state, slot));
}

static bool no_room(struct syn_cqe *cqe)
{
	if (!plan.refuse)
		return false;
	plan.refuse--;
	cqe->res = SYN_E_BACKPRESSURE;
	cqe->flags = SYN_CQE_F_OUTCOME;
	cqe->val[0] = 1000;
	return true;
}

static void answer_lease(struct peer *p, const struct syn_sqe *sqe,
			 struct syn_cqe *cqe, uint64_t *out)
{
	if (no_room(cqe))
		return;
	if (plan.fail_at && !--plan.fail_at) {
		cqe->res = -EDQUOT;
		return;
	}
	if (plan.late_extent)
		peer_send_extent(p, LATE_EXTENT, SYN_TIER_HBM, PEER_SLOTS / 2,
				 PEER_SLOTS / 2, 0);
	plan.late_extent = false;
	for (uint32_t i = 0; i < sqe->nr; i++) {
		pte_set(plan.next, SYN_PTE_RESIDENT, plan.next % PEER_SLOTS);
		out[i] = SYN_HANDLE(1, plan.next++);
	}
}

/* The page with entry i is frame i of the host extent, and goes to slot i. */
/* No client may have more under way than there are. */
static uint32_t loan_free(void)
{
	uint32_t loan = plan.first_loan;

	while (loan < SYN_LOANS_MAX && peer.loan[loan].state != SYN_LOAN_FREE)
		assert_true(++loan < SYN_LOANS_MAX);
	return loan;
}

static void lend(uint32_t loan, uint64_t page)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	unsigned char bytes[TILE];

	peer.loan[loan] = (struct syn_loan){ .handle = page,
					     .src_extent = HOST_EXTENT,
					     .src_frame = index,
					     .dst_slot = index,
					     .bytes = PEER_PAGE,
					     .codec = SYN_CODEC_RAW16,
					     .state = SYN_LOAN_OUT,
					     .nr_sums = PEER_TILES,
					     .tile_bytes = TILE };
	memset(bytes, 0x5a, sizeof(bytes));
	for (uint32_t i = 0; i < PEER_TILES && loan < SYN_LOANS_MAX; i++)
		peer.sums[loan * SYN_TILES_MAX + i] =
			syn_sum(bytes, TILE) ^ plan.spoil_sum;
	plan.spoil_sum = false;
	pte_set(index, SYN_PTE_FILLING, index);
}

static void answer_fault(const struct syn_sqe *sqe, const uint64_t *in,
			 struct syn_cqe *cqe, struct syn_vec_fault *out)
{
	if (no_room(cqe))
		return;
	for (uint32_t i = 0; i < sqe->nr; i++) {
		uint64_t pte = peer.pte[SYN_HANDLE_INDEX(in[i])];

		if (SYN_PTE_STATE(pte) == SYN_PTE_RESIDENT)
			continue;
		if (plan.lose) {
			out[i].res = SYN_E_LOST;
		} else if (plan.busy) {
			plan.busy--;
			out[i].res = SYN_E_BUSY;
		} else {
			out[i].res = SYN_FAULT_LOAN;
			out[i].loan = loan_free();
			lend(out[i].loan, in[i]);
		}
	}
}

static void answer_loaded(const struct syn_sqe *sqe,
			  const struct syn_vec_loaded *in)
{
	for (uint32_t i = 0; i < sqe->nr; i++) {
		uint32_t index = SYN_HANDLE_INDEX(peer.loan[in[i].loan].handle);

		plan.last_status = in[i].status;
		pte_set(index, in[i].status ? SYN_PTE_LOST : SYN_PTE_RESIDENT,
			index);
		peer.loan[in[i].loan].state = SYN_LOAN_FREE;
	}
}

static void answer_lookup(const struct syn_sqe *sqe, struct syn_cqe *cqe,
			  uint64_t *out)
{
	uint32_t found = syn_min(sqe->nr, plan.nr_lookup);

	for (uint32_t i = 0; i < found; i++) {
		pte_set(plan.next, SYN_PTE_ABSENT, 0);
		out[i] = SYN_HANDLE(1, plan.next++);
	}
	plan.nr_lookup -= found;
	cqe->res = (int32_t)found;
	cqe->val[0] = found < sqe->nr ? SYN_MISS_NEVER : SYN_MISS_NONE;
}

static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	const struct syn_vec_commit *commit = in;

	switch (sqe->op) {
	case SYN_OP_LEASE:
		answer_lease(p, sqe, cqe, out);
		break;
	case SYN_OP_FAULT:
		answer_fault(sqe, in, cqe, out);
		break;
	case SYN_OP_LOADED:
		answer_loaded(sqe, in);
		break;
	case SYN_OP_LOOKUP:
		answer_lookup(sqe, cqe, out);
		break;
	case SYN_OP_RELEASE:
		plan.nr_released += sqe->nr;
		break;
	case SYN_OP_COMMIT:
		for (uint32_t i = 0; i < sqe->nr; i++)
			plan.commit_tokens += commit[i].tokens;
		break;
	case SYN_OP_SEAL:
		plan.seal = *sqe;
		memcpy(plan.seal_sums, in, sizeof(plan.seal_sums));
		break;
	}
	return true;
}

static void script(struct peer *p)
{
	p->answer = answer;
	peer_send_welcome(p);
	peer_send_extent(p, HOST_EXTENT, SYN_TIER_HOST, 0, PEER_SLOTS, 0x5a);
	peer_serve(p);
}

static int setup(void **state)
{
	nr_fds = test_count_fds();
	memset(&plan, 0, sizeof(plan));
	peer_start(&peer, script);
	peer_open(&peer, PEER_SLOTS, &client, &window);
	return 0;
}

static int teardown(void **state)
{
	(void)syn_detach(client);
	peer_stop(&peer);
	return test_count_fds() == nr_fds ? 0 : -1;
}

/* ---- windows and leases ------------------------------------------------- */

static void test_window(void **state)
{
	struct syn_planes planes;
	uint64_t pages[4];
	void *addr[4];

	syn_window_planes(window, &planes);
	assert_int_equal(planes.stride, PEER_PAGE);
	assert_int_equal(planes.range, PEER_SLOTS);
	assert_int_equal(planes.slots, PEER_SLOTS);
	assert_int_equal(syn_lease(window, 4, 0, pages), 0);
	assert_int_equal(syn_pin(client, pages, 4, addr), 0);
	for (uint32_t i = 0; i < 4; i++) {
		assert_ptr_equal(addr[i], (char *)planes.base + i * PEER_PAGE);
		memset(addr[i], 1 + (int)i, PEER_PAGE);
	}
	assert_int_equal(syn_release(client, pages, 4), -EBUSY);
	syn_unpin(client, 0, pages, 4);
	assert_int_equal(syn_release(client, pages, 4), 0);
	assert_int_equal(plan.nr_released, 4);
}

/* The memory behind a fresh lease may have been announced a moment before. */
static void test_extent_that_comes_late(void **state)
{
	uint64_t page;
	void *addr;

	plan.next = PEER_SLOTS / 2 + 3;
	pte_set(plan.next, SYN_PTE_RESIDENT, plan.next);
	page = SYN_HANDLE(1, plan.next);
	/* Resident by the entry, but there is nothing mapped here yet. */
	assert_int_equal(syn_pin(client, &page, 1, &addr), SYN_E_FAULT);
	plan.late_extent = true;
	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(syn_pin(client, &page, 1, &addr), 0);
	memset(addr, 1, PEER_PAGE);
	syn_unpin(client, 0, &page, 1);
}

/* Large batches go out in pieces and come back as one. */
static void test_large_lease(void **state)
{
	uint64_t pages[PEER_SLOTS];
	uint32_t tokens[PEER_SLOTS];

	plan.late_extent = true;
	assert_int_equal(syn_lease(window, PEER_SLOTS, 0, pages), 0);
	for (uint32_t i = 0; i < PEER_SLOTS; i++) {
		assert_int_equal(pages[i], SYN_HANDLE(1, i));
		tokens[i] = 1;
	}
	assert_int_equal(peer.nr_requests[SYN_OP_LEASE], 2);
	assert_int_equal(syn_commit(client, pages, tokens, PEER_SLOTS), 0);
	assert_int_equal(plan.commit_tokens, PEER_SLOTS);
	assert_int_equal(syn_release(client, pages, PEER_SLOTS), 0);
	assert_int_equal(plan.nr_released, PEER_SLOTS);
	assert_int_equal(syn_lease(window, PEER_SLOTS + 1, 0, pages), -E2BIG);
}

static void test_large_lease_is_all_or_nothing(void **state)
{
	uint64_t pages[PEER_SLOTS] = { 77 };

	plan.fail_at = 2;
	plan.late_extent = true;
	assert_int_equal(syn_lease(window, PEER_SLOTS, 0, pages), -EDQUOT);
	assert_int_equal(plan.nr_released, SYN_BATCH_MAX);
	assert_int_equal(pages[0], 77);
}

static void test_backpressure(void **state)
{
	uint64_t page = 77;

	plan.refuse = 3;
	assert_int_equal(syn_lease(window, 1, 0, &page), SYN_E_BACKPRESSURE);
	assert_int_equal(page, 77);
	assert_int_equal(plan.refuse, 2);
	assert_int_equal(syn_lease(window, 1, SYN_FOREVER, &page), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_LEASE], 4);
	assert_int_equal(page, SYN_HANDLE(1, 0));
}

static void test_stale_handles(void **state)
{
	uint64_t pages[2] = { 0, SYN_HANDLE(2, 0) };
	uint32_t tokens[2] = { 1, 1 };
	uint64_t wild = SYN_HANDLE(1, PEER_PAGES);

	assert_int_equal(syn_lease(window, 1, 0, pages), 0);
	assert_int_equal(syn_commit(client, pages, tokens, 2), -ESTALE);
	assert_int_equal(syn_release(client, pages, 2), -ESTALE);
	assert_int_equal(syn_pin(client, pages, 2, NULL), -ESTALE);
	assert_int_equal(syn_load(client, pages, 2, 0, NULL), -ESTALE);
	assert_int_equal(syn_load(client, &wild, 1, 0, NULL), -ESTALE);
	assert_int_equal(peer.pin[0] & 0xffff, 0);
	assert_int_equal(peer.nr_requests[SYN_OP_COMMIT], 0);
	assert_int_equal(peer.nr_requests[SYN_OP_RELEASE], 0);
}

/* ---- loads -------------------------------------------------------------- */

static void assert_loaded(const uint64_t *pages, void *const *addr,
			  unsigned int nr)
{
	unsigned char want[PEER_PAGE];

	memset(want, 0x5a, sizeof(want));
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t index = SYN_HANDLE_INDEX(pages[i]);

		assert_memory_equal(addr[i], want, sizeof(want));
		assert_int_equal(SYN_PIN_COUNT(peer.pin[index]), 1);
	}
}

/* Half here, half not. */
static void test_load(void **state)
{
	uint64_t pages[8];
	void *addr[8];

	assert_int_equal(syn_lease(window, 8, 0, pages), 0);
	assert_int_equal(syn_load(client, pages, 8, 0, addr), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_FAULT], 0);
	syn_unpin(client, 0, pages, 8);
	for (uint32_t i = 0; i < 8; i += 2)
		pte_set(i, SYN_PTE_ABSENT, 0);
	assert_int_equal(syn_pin(client, pages, 8, addr), SYN_E_FAULT);
	assert_int_equal(syn_load(client, pages, 8, 0, addr), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_FAULT], 1);
	assert_int_equal(peer.nr_requests[SYN_OP_LOADED], 1);
	for (unsigned int i = 0; i < 8; i += 2)
		assert_loaded(&pages[i], &addr[i], 1);
	syn_unpin(client, 0, pages, 8);
}

static void test_load_many(void **state)
{
	static uint64_t pages[PEER_SLOTS];
	static void *addr[PEER_SLOTS];

	plan.late_extent = true;
	assert_int_equal(syn_lease(window, PEER_SLOTS, 0, pages), 0);
	for (uint32_t i = 0; i < PEER_SLOTS; i++)
		pte_set(i, SYN_PTE_ABSENT, 0);
	assert_int_equal(syn_load(client, pages, PEER_SLOTS, 0, addr), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_FAULT], 2);
	assert_loaded(pages, addr, PEER_SLOTS);
	syn_unpin(client, 0, pages, PEER_SLOTS);
}

/* Pages whose copies are under way have addresses, and count as pinned. */
static void test_load_that_is_ended_later(void **state)
{
	static uint64_t pages[PEER_SLOTS];
	static void *addr[PEER_SLOTS];
	struct syn_loading *load = NULL;

	plan.late_extent = true;
	assert_int_equal(syn_lease(window, PEER_SLOTS, 0, pages), 0);
	for (uint32_t i = 1; i < PEER_SLOTS; i++)
		pte_set(i, SYN_PTE_ABSENT, 0);
	assert_int_equal(
		syn_load_begin(client, pages, PEER_SLOTS, 0, addr, &load), 0);
	for (uint32_t i = 0; i < PEER_SLOTS; i++) {
		assert_non_null(addr[i]);
		assert_int_equal(SYN_PIN_COUNT(peer.pin[i]), 1);
	}
	/* The last of them are still out. */
	assert_int_equal(peer.nr_requests[SYN_OP_LOADED], 1);
	assert_int_equal(syn_pin(client, &pages[PEER_SLOTS - 1], 1, NULL),
			 SYN_E_FAULT);
	assert_int_equal(syn_load_order(load, NULL), 0);
	/* It may hold what others need: those are not made to wait. */
	plan.refuse = 1;
	pte_set(0, SYN_PTE_ABSENT, 0);
	assert_int_equal(syn_load(client, pages, 1, SYN_FOREVER, NULL),
			 SYN_E_BACKPRESSURE);
	pte_set(0, SYN_PTE_RESIDENT, 0);
	assert_int_equal(syn_load_end(load), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_LOADED], 2);
	assert_loaded(pages + 1, addr + 1, PEER_SLOTS - 1);
	syn_unpin(client, 0, pages, PEER_SLOTS);
}

/* What did not verify is found out at the end, and then nothing is pinned. */
static void test_load_that_ends_badly(void **state)
{
	struct syn_loading *load = NULL;
	uint64_t pages[2];
	void *addr[2];

	assert_int_equal(syn_lease(window, 2, 0, pages), 0);
	pte_set(0, SYN_PTE_ABSENT, 0);
	pte_set(1, SYN_PTE_ABSENT, 0);
	plan.spoil_sum = true;
	assert_int_equal(syn_load_begin(client, pages, 2, 0, addr, &load), 0);
	assert_int_equal(syn_load_end(load), SYN_E_LOST);
	assert_int_equal(plan.last_status, 0);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[1]), 0);
	plan.lose = true;
	pte_set(0, SYN_PTE_ABSENT, 0);
	load = NULL;
	assert_int_equal(syn_load_begin(client, pages, 1, 0, addr, &load),
			 SYN_E_LOST);
	assert_null(load);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
	plan.lose = false;
}

static void test_load_busy_and_backpressure(void **state)
{
	uint64_t pages[2];
	void *addr[2];

	assert_int_equal(syn_lease(window, 2, 0, pages), 0);
	pte_set(0, SYN_PTE_ABSENT, 0);
	pte_set(1, SYN_PTE_ABSENT, 0);
	plan.busy = 1;
	assert_int_equal(syn_load(client, pages, 2, 0, addr),
			 SYN_E_BACKPRESSURE);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[1]), 0);
	pte_set(0, SYN_PTE_ABSENT, 0);
	pte_set(1, SYN_PTE_ABSENT, 0);
	plan.busy = 3;
	plan.refuse = 2;
	assert_int_equal(syn_load(client, pages, 2, SYN_FOREVER, addr), 0);
	assert_loaded(pages, addr, 2);
	syn_unpin(client, 0, pages, 2);
	plan.refuse = 1;
	pte_set(0, SYN_PTE_ABSENT, 0);
	assert_int_equal(syn_load(client, pages, 1, 0, NULL),
			 SYN_E_BACKPRESSURE);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
}

/* What does not verify is not handed out; the others are told apart. */
static void test_load_with_a_wrong_sum(void **state)
{
	uint64_t pages[2];
	void *addr[2];

	assert_int_equal(syn_lease(window, 2, 0, pages), 0);
	pte_set(0, SYN_PTE_ABSENT, 0);
	plan.spoil_sum = true;
	assert_int_equal(syn_load(client, pages, 2, SYN_FOREVER, addr),
			 SYN_E_LOST);
	assert_int_equal(plan.last_status, -EILSEQ);
	assert_null(addr[0]);
	assert_non_null(addr[1]);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[1]), 0);
	assert_int_equal(syn_pin(client, pages, 1, NULL), SYN_E_LOST);
}

static void test_load_of_the_lost(void **state)
{
	uint64_t page;
	void *addr;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	pte_set(0, SYN_PTE_ABSENT, 0);
	plan.lose = true;
	assert_int_equal(syn_load(client, &page, 1, SYN_FOREVER, &addr),
			 SYN_E_LOST);
	assert_null(addr);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
}

/* Loans that point outside of what is known are ended, not executed. */
static void test_loan_that_makes_no_sense(void **state)
{
	uint64_t page;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	plan.next = PEER_SLOTS;
	pte_set(plan.next, SYN_PTE_ABSENT, 0);
	page = SYN_HANDLE(1, plan.next);
	/* Slot and frame of the loan will be PEER_SLOTS, one too many. */
	assert_int_equal(syn_load(client, &page, 1, 0, NULL), -EPROTO);
	assert_int_equal(plan.last_status, -EPROTO);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[plan.next]), 0);
}

/* The last loan that there is, and one past it. */
static void test_loan_numbers(void **state)
{
	uint64_t page;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	pte_set(0, SYN_PTE_ABSENT, 0);
	plan.first_loan = SYN_LOANS_MAX - 1;
	assert_int_equal(syn_load(client, &page, 1, 0, NULL), 0);
	assert_int_equal(plan.last_status, 0);
	syn_unpin(client, 0, &page, 1);
	pte_set(0, SYN_PTE_ABSENT, 0);
	plan.first_loan = SYN_LOANS_MAX;
	assert_int_equal(syn_load(client, &page, 1, 0, NULL), -EPROTO);
	assert_int_equal(plan.last_status, -EPROTO);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
}

/* ---- seal and lookup ---------------------------------------------------- */

static void test_seal(void **state)
{
	const uint64_t key[2] = { 11, 22 };
	uint32_t want[PEER_TILES];
	uint64_t page;
	void *addr;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(syn_pin(client, &page, 1, &addr), 0);
	for (unsigned int i = 0; i < PEER_PAGE; i++)
		((unsigned char *)addr)[i] = (unsigned char)(i * 7 >> 3);
	syn_unpin(client, 0, &page, 1);
	assert_int_equal(syn_seal(client, page, key, PEER_TIMELINES, 0),
			 -EINVAL);
	assert_int_equal(syn_seal(client, page, key, 1, 5), 0);
	assert_int_equal(plan.seal.object, page);
	assert_int_equal(plan.seal.nr, PEER_TILES);
	assert_int_equal(plan.seal.arg[0], 11);
	assert_int_equal(plan.seal.arg[1], 22);
	assert_int_equal(plan.seal.arg[2], 5);
	assert_int_equal(plan.seal.arg[3], 1);
	syn_sum_tiles(addr, PEER_PAGE, TILE, want);
	assert_memory_equal(plan.seal_sums, want, sizeof(want));
	assert_int_equal(SYN_PIN_COUNT(peer.pin[0]), 0);
}

static void test_lookup(void **state)
{
	static uint64_t keys[200][2];
	static uint64_t pages[200];
	uint32_t miss = 99;

	plan.nr_lookup = 130;
	assert_int_equal(syn_lookup(window, (const uint64_t(*)[2])keys, 200,
				    pages, &miss),
			 130);
	assert_int_equal(miss, SYN_MISS_NEVER);
	assert_int_equal(peer.nr_requests[SYN_OP_LOOKUP], 3);
	assert_int_equal(pages[129], SYN_HANDLE(1, 129));
	assert_int_equal(pages[130], 0);
	plan.nr_lookup = 64;
	assert_int_equal(syn_lookup(window, (const uint64_t(*)[2])keys, 64,
				    pages, &miss),
			 64);
	assert_int_equal(miss, SYN_MISS_NONE);
	assert_int_equal(
		syn_lookup(window, (const uint64_t(*)[2])keys, 1, pages, NULL),
		0);
}

/* ---- extents given up --------------------------------------------------- */

static void test_retire(void **state)
{
	struct syn_msg_retire m = { .msg = { .type = SYN_MSG_RETIRE,
					     .size = sizeof(m) },
				    .extent = 1 };
	uint32_t events[4];
	uint64_t page;

	assert_int_equal(syn_lease(window, 1, 0, &page), 0);
	assert_int_equal(syn_pin(client, &page, 1, NULL), 0);
	syn_unpin(client, 0, &page, 1);
	peer_send(&peer, &m, NULL, 0);
	assert_int_equal(syn_poll(client, events, 4), 0);
	/* The slot is still reserved, and holds nothing. */
	assert_int_equal(syn_pin(client, &page, 1, NULL), SYN_E_FAULT);
	m.extent = HOST_EXTENT;
	peer_send(&peer, &m, NULL, 0);
	while (syn_load_acquire(&peer.nr_requests[SYN_OP_RETIRED]) < 2)
		assert_int_equal(syn_poll(client, events, 4), 0);
	/* And it can come back. */
	peer_send_extent(&peer, 4, SYN_TIER_HBM, 0, PEER_SLOTS / 2, 0);
	assert_int_equal(syn_poll(client, events, 4), 0);
	assert_int_equal(syn_pin(client, &page, 1, NULL), 0);
	syn_unpin(client, 0, &page, 1);
}

static void test_extent_that_does_not_fit(void **state)
{
	uint32_t events[4];

	peer_send_extent(&peer, 5, SYN_TIER_HBM, PEER_SLOTS - 1, 2, 0);
	assert_int_equal(syn_poll(client, events, 4), 1);
	assert_int_equal(events[0], SYN_EVENT_SHUTDOWN);
	assert_string_not_equal(syn_client_reason(client), "");
}

static void test_completion_nobody_asked_for(void **state)
{
	const struct syn_vec_share share = { .handle = 1 };
	const struct syn_cqe cqe = { .cookie = 12345 };
	unsigned char out[SYN_VEC_BYTES] = { 0 };

	peer_complete(&peer, &cqe, out);
	assert_int_equal(syn_report(client, &share, 1), -ESHUTDOWN);
}

/* ---- many threads ------------------------------------------------------- */

#define NR_THREADS 4
#define NR_ROUNDS  300

static struct syn_cqe parked[64];
static unsigned int nr_parked;

/* Answers each request late, and the later ones first. */
static bool answer_reversed(struct peer *p, const struct syn_sqe *sqe,
			    const void *in, struct syn_cqe *cqe, void *out)
{
	unsigned char none[SYN_VEC_BYTES] = { 0 };

	cqe->res = -(int32_t)sqe->nr;
	parked[nr_parked++] = *cqe;
	if (nr_parked < 2 && p->nr_requests[SYN_OP_REPORT] % 3)
		return false;
	while (nr_parked)
		peer_complete(p, &parked[--nr_parked], none);
	return false;
}

static void script_reversed(struct peer *p)
{
	p->answer = answer_reversed;
	peer_send_welcome(p);
	while (!syn_load_acquire(&p->stop)) {
		unsigned char none[SYN_VEC_BYTES] = { 0 };

		if (syn_ring_waiting(&p->sq) > 0) {
			peer_take(p);
			continue;
		}
		while (nr_parked)
			peer_complete(p, &parked[--nr_parked], none);
		peer_sleep(p);
	}
}

/* Each thread asks for something else and must get its own answer. */
static void *report_often(void *arg)
{
	unsigned int nr = (unsigned int)(uintptr_t)arg;
	struct syn_vec_share shares[NR_THREADS + 1] = { 0 };

	for (int i = 0; i < NR_ROUNDS; i++)
		if (syn_report(client, shares, nr) != -(int)nr)
			return arg;
	return NULL;
}

static void test_answers_out_of_order(void **state)
{
	pthread_t threads[NR_THREADS];

	nr_fds = test_count_fds();
	nr_parked = 0;
	peer_start(&peer, script_reversed);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, report_often,
						(void *)(i + 1)),
				 0);
	for (int i = 0; i < NR_THREADS; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(peer.nr_requests[SYN_OP_REPORT],
			 NR_THREADS * NR_ROUNDS);
	(void)syn_detach(client);
	peer_stop(&peer);
	assert_int_equal(test_count_fds(), nr_fds);
}

static bool answer_never(struct peer *p, const struct syn_sqe *sqe,
			 const void *in, struct syn_cqe *cqe, void *out)
{
	return false;
}

static void script_die_later(struct peer *p)
{
	p->answer = answer_never;
	peer_send_welcome(p);
	while (p->nr_requests[SYN_OP_REPORT] < NR_THREADS) {
		if (syn_ring_waiting(&p->sq) > 0)
			peer_take(p);
		else
			peer_sleep(p);
	}
	peer_send_bye(p, -ESHUTDOWN, "killed");
}

static void *report_until_the_end(void *arg)
{
	const struct syn_vec_share share = { .handle = 1 };

	return (void *)(intptr_t)syn_report(client, &share, 1);
}

static void test_death_frees_all_who_wait(void **state)
{
	pthread_t threads[NR_THREADS];

	peer_start(&peer, script_die_later);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	for (int i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						report_until_the_end, NULL),
				 0);
	for (int i = 0; i < NR_THREADS; i++) {
		void *r;

		assert_int_equal(pthread_join(threads[i], &r), 0);
		assert_int_equal((intptr_t)r, -ESHUTDOWN);
	}
	assert_string_equal(syn_client_reason(client), "killed");
	(void)syn_detach(client);
	peer_stop(&peer);
}

#define page_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		page_test(test_window),
		page_test(test_extent_that_comes_late),
		page_test(test_large_lease),
		page_test(test_large_lease_is_all_or_nothing),
		page_test(test_backpressure),
		page_test(test_stale_handles),
		page_test(test_load),
		page_test(test_load_many),
		page_test(test_load_that_is_ended_later),
		page_test(test_load_that_ends_badly),
		page_test(test_load_busy_and_backpressure),
		page_test(test_load_with_a_wrong_sum),
		page_test(test_load_of_the_lost),
		page_test(test_loan_that_makes_no_sense),
		page_test(test_loan_numbers),
		page_test(test_seal),
		page_test(test_lookup),
		page_test(test_retire),
		page_test(test_extent_that_does_not_fit),
		page_test(test_completion_nobody_asked_for),
		cmocka_unit_test(test_answers_out_of_order),
		cmocka_unit_test(test_death_frees_all_who_wait),
	};

	return test_main(tests);
}
