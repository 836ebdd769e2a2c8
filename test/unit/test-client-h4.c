/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: spaces that allow h4, loans that are decoded, advice,
 * persistence and floors, against a daemon's side that is played here.
 */
#include "core/base/fault.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"
#include "test/unit/client-peer.h"

#define LAYERS	    3u
#define DIM	    64u
#define TILES	    (LAYERS * 2)
#define TILE	    (SYN_TILE_TOKENS * DIM * 2)
#define PAGE	    (TILES * TILE)
#define HALVES	    (PAGE / 2)
#define HOST_EXTENT 9u
#define HOST_FRAMES 4u
#define FLOOR	    4u

static const struct syn_component components[] = {
	{ SYN_ROLE_K, SYN_DTYPE_F16, 1, DIM, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_V, SYN_DTYPE_F16, 1, DIM, SYN_CODEC_H4, 0 },
};

static struct peer peer;
static struct syn_client *client;
static struct syn_window *window;
static struct syn_space space;
static struct syn_layout layout;
static unsigned char *host; /* the host extent */
static int nr_fds;
static uint16_t page_in[HALVES];
static unsigned char stored[PAGE];
static unsigned char decoded[PAGE];
static uint32_t stored_sums[TILES];

/* What the played daemon does next, and what it was asked. */
static struct {
	struct syn_loan loan;  /* of the next FAULT; handle and slot set */
	bool raw;	       /* it is of the raw page */
	unsigned int refuse;   /* so many PERSIST are refused */
	int persist;	       /* what the others answer */
	int last_status;       /* of the last LOADED */
	uint64_t floor;	       /* of the last LOOKUP */
	uint32_t nr_advised;   /* pages */
	uint32_t advice;       /* of the last */
	uint32_t nr_persisted; /* pages */
	uint64_t persisted[3 * SYN_BATCH_MAX];
} plan;

static void pte_set(uint32_t index, uint32_t state, uint32_t slot)
{
	syn_store_seq_cst(&peer.pte[index], SYN_PTE(1, state, slot));
}

static void answer_fault(const uint64_t *in, struct syn_vec_fault *out)
{
	uint32_t index = SYN_HANDLE_INDEX(in[0]);

	peer.loan[1] = plan.loan;
	peer.loan[1].handle = in[0];
	peer.loan[1].dst_slot = index;
	for (uint32_t i = 0; i < TILES; i++)
		peer.sums[SYN_TILES_MAX + i] = stored_sums[i];
	if (plan.raw)
		for (uint32_t i = 0; i < TILES; i++)
			peer.sums[SYN_TILES_MAX + i] =
				syn_sum((char *)page_in + i * TILE, TILE);
	pte_set(index, SYN_PTE_FILLING, index);
	out[0] = (struct syn_vec_fault){ .res = SYN_FAULT_LOAN, .loan = 1 };
}

static void answer_loaded(const struct syn_vec_loaded *in)
{
	uint32_t index = SYN_HANDLE_INDEX(peer.loan[1].handle);

	plan.last_status = in->status;
	pte_set(index, in->status ? SYN_PTE_LOST : SYN_PTE_RESIDENT, index);
}

static void answer_persist(const struct syn_sqe *sqe, const uint64_t *in,
			   struct syn_cqe *cqe)
{
	if (plan.refuse) {
		plan.refuse--;
		cqe->res = SYN_E_BACKPRESSURE;
		cqe->flags = SYN_CQE_F_OUTCOME;
		cqe->val[0] = 12345;
		return;
	}
	cqe->res = plan.persist;
	for (uint32_t i = 0; i < sqe->nr && !plan.persist; i++)
		plan.persisted[plan.nr_persisted++] = in[i];
}

static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	const struct syn_vec_advise *advise = in;

	switch (sqe->op) {
	case SYN_OP_FAULT:
		answer_fault(in, out);
		break;
	case SYN_OP_LOADED:
		answer_loaded(in);
		break;
	case SYN_OP_LOOKUP:
		plan.floor = sqe->arg[0];
		cqe->val[0] = SYN_MISS_FIDELITY;
		break;
	case SYN_OP_ADVISE:
		plan.nr_advised += sqe->nr;
		plan.advice = advise[sqe->nr - 1].advice;
		cqe->res = advise[0].pad0 ? -EINVAL : 0;
		break;
	case SYN_OP_PERSIST:
		answer_persist(sqe, in, cqe);
		break;
	}
	return true;
}

/* Frame 1 holds the stored page; the mapping is kept. */
static void send_host_extent(struct peer *p)
{
	struct syn_msg_extent m = {
		.msg = { .type = SYN_MSG_EXTENT, .size = sizeof(m) },
		.extent = HOST_EXTENT,
		.tier = SYN_TIER_HOST,
		.nr_frames = HOST_FRAMES,
		.frame_bytes = PAGE,
		.bytes = (uint64_t)HOST_FRAMES * PAGE,
	};
	void *map;
	int fd = -1;

	assert_int_equal(syn_conn_segment_new("test", m.bytes, &fd), 0);
	assert_int_equal(syn_conn_segment_map(fd, m.bytes, 1, &map), 0);
	host = map;
	memcpy(host + PAGE, stored, PAGE);
	memcpy(host + 2 * PAGE, page_in, PAGE);
	peer_send(p, &m, &fd, 1);
	fd = syn_close(fd);
	peer_notice(p, SYN_NOTICE_SOCKET);
}

static void script_without_extent(struct peer *p)
{
	p->answer = answer;
	p->page_bytes = PAGE;
	p->nr_tiles = TILES;
	peer_send_welcome(p);
	peer_serve(p);
}

static void script(struct peer *p)
{
	p->answer = answer;
	p->page_bytes = PAGE;
	p->nr_tiles = TILES;
	peer_send_welcome(p);
	send_host_extent(p);
	peer_serve(p);
}

/* Halves with exponents around 1, each sign. */
static void pages_make(void)
{
	uint32_t raw_sums[TILES];
	uint16_t error[TILES];
	uint32_t tile;

	for (uint32_t i = 0; i < HALVES; i++)
		page_in[i] = (uint16_t)(0x3000 + (i * 40503u >> 7) % 0x1000 +
					(i * 7u % 3 ? 0x8000 : 0));
	assert_int_equal(syn_layout_init(&layout, SYN_TILE_TOKENS, LAYERS, 2,
					 components, 1, 0),
			 0);
	assert_int_equal(syn_page_encode(stored, page_in, &layout, 0, TILES,
					 raw_sums, stored_sums, error),
			 0);
	assert_int_equal(syn_page_decode(decoded, stored, &layout, 0, TILES,
					 stored_sums, &tile),
			 0);
}

static int define(struct syn_client *c, struct syn_space *ret)
{
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);

	opts.tokens = SYN_TILE_TOKENS;
	opts.layers_per_page = LAYERS;
	opts.nr_components = 2;
	opts.components = components;
	opts.raw_head = 1;
	return syn_space_define(c, &opts, ret);
}

static void plan_reset(void)
{
	memset(&plan, 0, sizeof(plan));
	plan.loan = (struct syn_loan){ .src_extent = HOST_EXTENT,
				       .src_frame = 1,
				       .bytes = syn_layout_bytes(&layout),
				       .codec = SYN_CODEC_H4,
				       .state = SYN_LOAN_OUT,
				       .nr_sums = TILES };
}

static void open_with(peer_script_fn how)
{
	struct syn_window_opts opts = SYN_OPTS(struct syn_window_opts);
	uint8_t uuid[SYN_UUID_BYTES];

	nr_fds = test_count_fds();
	pages_make();
	plan_reset();
	peer_start(&peer, how);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	assert_int_equal(syn_client_gpu(client, uuid), -ENODEV);
	assert_int_equal(define(client, &space), 0);
	opts.slots = 8;
	opts.fidelity = FLOOR;
	assert_int_equal(syn_window_open(client, &space, &opts, &window), 0);
}

static int setup(void **state)
{
	open_with(script);
	return 0;
}

static int teardown(void **state)
{
	(void)syn_detach(client);
	peer_stop(&peer);
	(void)munmap(host, HOST_FRAMES * PAGE);
	return test_count_fds() == nr_fds ? 0 : -1;
}

/* ---- spaces ------------------------------------------------------------- */

static void test_space_says_what_is_allowed(void **state)
{
	assert_true(peer.hello.features & SYN_FEATURE_H4);
	assert_int_equal(peer.space.raw_head, 1);
	assert_int_equal(peer.space.raw_tail, 0);
	assert_int_equal(peer.space.layers_per_page, LAYERS);
	assert_memory_equal(peer.space.component, components,
			    sizeof(components));
}

/* Decoding would write past the slot. */
static void test_reply_that_does_not_fit(void **state)
{
	struct syn_space other;

	peer.page_bytes = PAGE - TILE;
	peer.nr_tiles = TILES - 1;
	/* The known space keeps what was agreed on. */
	assert_int_equal(define(client, &other), 0);
	client = syn_detach(client);
	peer_stop(&peer);
	peer_start(&peer, peer_script_serve);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	assert_int_equal(define(client, &other), -EPROTO);
}

/* The armed failure may also hit the peer; then the client sees its end. */
static void test_define_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;

	do {
		int r;

		(void)syn_detach(client);
		peer_stop(&peer);
		peer_start(&peer, script_without_extent);
		assert_int_equal(peer_attach(&peer, &client, NULL), 0);
		syn_fault_arm(++nth);
		r = define(client, &space);
		hit = syn_fault_disarm();
		assert_true(hit || !r);
		if (r == -ENOMEM)
			assert_int_equal(define(client, &space), 0);
	} while (hit);
	assert_true(nth > 1);
}

/* ---- loans -------------------------------------------------------------- */

static int load(uint64_t *page, void **addr)
{
	*page = SYN_HANDLE(1, 3);
	pte_set(3, SYN_PTE_ABSENT, 0);
	return syn_load(client, page, 1, 0, addr);
}

static void test_loan_is_decoded(void **state)
{
	struct syn_planes planes;
	uint64_t page;
	void *addr;

	assert_int_equal(load(&page, &addr), 0);
	syn_window_planes(window, &planes);
	assert_ptr_equal(addr, (char *)planes.base + 3 * PAGE);
	assert_memory_equal(addr, decoded, PAGE);
	assert_int_equal(plan.last_status, 0);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[3]), 1);
	/* Keys of the first layer are raw, the next tile is not. */
	assert_memory_equal(addr, page_in, TILE);
	assert_memory_not_equal((char *)addr + TILE,
				(unsigned char *)page_in + TILE, TILE);
	syn_unpin(client, 0, &page, 1);
}

/* A page that was not finite, or an anchor, is stored raw in such a space. */
static void test_raw_loan_of_the_same_space(void **state)
{
	uint64_t page;
	void *addr;

	plan.raw = true;
	plan.loan.codec = SYN_CODEC_RAW16;
	plan.loan.bytes = PAGE;
	plan.loan.tile_bytes = TILE;
	plan.loan.src_frame = 2;
	assert_int_equal(load(&page, &addr), 0);
	assert_memory_equal(addr, page_in, PAGE);
	syn_unpin(client, 0, &page, 1);
}

/* One bit, anywhere: what was decoded is not handed out. */
static void test_flipped_bits(void **state)
{
	const uint64_t bytes = syn_layout_bytes(&layout);
	uint64_t page;
	void *addr;

	for (uint64_t at = 0; at < bytes; at += bytes / 23) {
		host[PAGE + at] ^= 1u << at % 8;
		assert_int_equal(load(&page, &addr), SYN_E_LOST);
		assert_null(addr);
		assert_int_equal(plan.last_status, -EILSEQ);
		assert_int_equal(SYN_PIN_COUNT(peer.pin[3]), 0);
		assert_int_equal(syn_pin(client, &page, 1, &addr), SYN_E_LOST);
		host[PAGE + at] ^= 1u << at % 8;
	}
	assert_int_equal(load(&page, &addr), 0);
	syn_unpin(client, 0, &page, 1);
}

/* Nothing is read or written for a loan that is odd in one field. */
static void assert_refused(void)
{
	struct syn_planes planes;
	uint64_t page;
	void *addr;

	assert_int_equal(load(&page, &addr), -EPROTO);
	assert_int_equal(plan.last_status, -EPROTO);
	assert_int_equal(SYN_PIN_COUNT(peer.pin[3]), 0);
	syn_window_planes(window, &planes);
	for (uint32_t i = 0; i < PAGE; i++)
		assert_int_equal(((char *)planes.base)[3 * PAGE + i], 0);
	plan_reset();
}

static void test_loans_that_make_no_sense(void **state)
{
	plan.loan.codec = 0;
	assert_refused();
	plan.loan.codec = SYN_CODEC_NR;
	assert_refused();
	plan.loan.codec = SYN_CODEC_RAW16;
	assert_refused();
	plan.loan.bytes--;
	assert_refused();
	plan.loan.bytes = PAGE;
	assert_refused();
	plan.loan.nr_sums--;
	assert_refused();
	plan.loan.nr_sums = 0;
	assert_refused();
	plan.loan.tile_bytes = 4;
	assert_refused();
	plan.loan.src_frame = HOST_FRAMES;
	assert_refused();
	plan.loan.window = 1;
	assert_refused();
	plan.loan.window = SYN_WINDOWS_MAX;
	assert_refused();
}

static void script_without_h4(struct peer *p)
{
	p->welcome.features &= ~SYN_FEATURE_H4;
	script(p);
}

static int setup_without_h4(void **state)
{
	open_with(script_without_h4);
	return 0;
}

static void test_codec_that_was_not_agreed_on(void **state)
{
	assert_refused();
}

/* ---- floors, advice, persistence ---------------------------------------- */

static void test_lookup_names_the_floor(void **state)
{
	static const uint64_t keys[1][2] = { { 1, 2 } };
	struct syn_window_opts opts = SYN_OPTS(struct syn_window_opts);
	uint32_t miss = 0;
	uint64_t page;

	assert_int_equal(syn_lookup(window, keys, 1, &page, &miss), 0);
	assert_int_equal(plan.floor, FLOOR);
	assert_int_equal(miss, SYN_MISS_FIDELITY);
	/* Whoever says nothing wants all of it. */
	opts.slots = 8;
	client = syn_detach(client);
	peer_stop(&peer);
	peer_start(&peer, script_without_extent);
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
	assert_int_equal(define(client, &space), 0);
	assert_int_equal(syn_window_open(client, &space, &opts, &window), 0);
	assert_int_equal(syn_lookup(window, keys, 1, &page, &miss), 0);
	assert_int_equal(plan.floor, 0);
}

static void pages_exist(uint64_t *pages, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		pages[i] = SYN_HANDLE(1, i);
		pte_set(i, SYN_PTE_ABSENT, 0);
	}
}

static void test_advise(void **state)
{
	uint64_t pages[3 * SYN_BATCH_MAX];
	const uint64_t wild = SYN_HANDLE(2, 0);

	pages_exist(pages, syn_array_size(pages));
	assert_int_equal(
		syn_advise(client, pages, SYN_BATCH_MAX + 1, SYN_ADVISE_ANCHOR),
		0);
	assert_int_equal(plan.nr_advised, SYN_BATCH_MAX + 1);
	assert_int_equal(plan.advice, SYN_ADVISE_ANCHOR);
	assert_int_equal(peer.nr_requests[SYN_OP_ADVISE], 2);
	assert_int_equal(syn_advise(client, &wild, 1, 0), -ESTALE);
	assert_int_equal(syn_advise(client, pages, 0, 0), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_ADVISE], 2);
}

static void test_persist(void **state)
{
	uint64_t pages[3 * SYN_BATCH_MAX];
	const uint64_t wild = SYN_HANDLE(2, 0);

	pages_exist(pages, syn_array_size(pages));
	assert_int_equal(syn_persist(client, pages, 2 * SYN_BATCH_MAX + 5, 0),
			 0);
	assert_int_equal(peer.nr_requests[SYN_OP_PERSIST], 3);
	assert_int_equal(plan.nr_persisted, 2 * SYN_BATCH_MAX + 5);
	assert_memory_equal(plan.persisted, pages,
			    (2 * SYN_BATCH_MAX + 5) * sizeof(*pages));
	assert_int_equal(syn_persist(client, &wild, 1, 0), -ESTALE);
	plan.persist = -ENODEV;
	assert_int_equal(syn_persist(client, pages, 1, SYN_FOREVER), -ENODEV);
	plan.persist = -ENOKEY;
	assert_int_equal(syn_persist(client, pages, 1, SYN_FOREVER), -ENOKEY);
}

static void test_persist_waits(void **state)
{
	uint64_t page;

	pages_exist(&page, 1);
	assert_int_equal(syn_retry_ns(client), 0);
	plan.refuse = 2;
	assert_int_equal(syn_persist(client, &page, 1, 0), SYN_E_BACKPRESSURE);
	assert_int_equal(syn_retry_ns(client), 12345);
	assert_int_equal(plan.nr_persisted, 0);
	assert_int_equal(syn_persist(client, &page, 1, SYN_FOREVER), 0);
	assert_int_equal(peer.nr_requests[SYN_OP_PERSIST], 3);
	assert_int_equal(plan.nr_persisted, 1);
}

#define h4_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		h4_test(test_space_says_what_is_allowed),
		h4_test(test_reply_that_does_not_fit),
		h4_test(test_define_fail_nth),
		h4_test(test_loan_is_decoded),
		h4_test(test_raw_loan_of_the_same_space),
		h4_test(test_flipped_bits),
		h4_test(test_loans_that_make_no_sense),
		cmocka_unit_test_setup_teardown(
			test_codec_that_was_not_agreed_on, setup_without_h4,
			teardown),
		h4_test(test_lookup_names_the_floor),
		h4_test(test_advise),
		h4_test(test_persist),
		h4_test(test_persist_waits),
	};

	return test_main(tests);
}
