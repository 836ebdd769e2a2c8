/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsynapse-client: windows with slots for pages as they are stored, and loans
 * into them, against a daemon's side that is played here.
 */
#include "core/base/fault.h"
#include "kernels/codec/page.h"
#include "test/unit/client-peer.h"

#define DIM	    64u
#define TILES	    2u
#define TILE	    (SYN_TILE_TOKENS * DIM * 2)
#define PAGE	    (TILES * TILE)
#define STORED	    12288u /* a frame for an encoded page */
#define SLOTS	    4u
#define CODED_SLOTS 8u
#define HOST_EXTENT 9u
#define HBM_EXTENT  10u

static const struct syn_component components[] = {
	{ SYN_ROLE_K, SYN_DTYPE_F16, 1, DIM, SYN_CODEC_H4, 0 },
	{ SYN_ROLE_V, SYN_DTYPE_F16, 1, DIM, SYN_CODEC_H4, 0 },
};

static struct peer peer;
static struct syn_client *client;
static struct syn_layout layout;
static unsigned char *host; /* the host extent: one stored page */
static unsigned char stored[PAGE];
static uint32_t stored_sums[TILES];
static int nr_fds;

/* What the played daemon says. */
static struct {
	struct syn_msg_coded_reply reply;
	struct syn_loan loan;
	uint32_t hbm_first; /* of the extent of coded slots */
	uint64_t hbm_frame; /* likewise */
	int last_status;    /* of the last LOADED */
} plan;

static void pte_set(uint32_t index, uint32_t state, uint32_t slot)
{
	syn_store_seq_cst(&peer.pte[index], SYN_PTE(1, state, slot));
}

static bool answer(struct peer *p, const struct syn_sqe *sqe, const void *in,
		   struct syn_cqe *cqe, void *out)
{
	const uint64_t *handle = in;
	const struct syn_vec_loaded *loaded = in;
	struct syn_vec_fault *fault = out;

	if (sqe->op == SYN_OP_FAULT) {
		p->loan[1] = plan.loan;
		p->loan[1].handle = handle[0];
		for (uint32_t i = 0; i < TILES; i++)
			p->sums[SYN_TILES_MAX + i] = stored_sums[i];
		pte_set(SYN_HANDLE_INDEX(handle[0]), SYN_PTE_FILLING,
			plan.loan.dst_slot);
		*fault = (struct syn_vec_fault){ .res = SYN_FAULT_LOAN,
						 .loan = 1 };
	} else if (sqe->op == SYN_OP_LOADED) {
		plan.last_status = loaded->status;
		pte_set(SYN_HANDLE_INDEX(p->loan[1].handle),
			loaded->status ? SYN_PTE_LOST : SYN_PTE_RESIDENT,
			plan.loan.dst_slot);
	}
	cqe->res = 0;
	return true;
}

/* Made before anything can be made to fail. */
static void extent_make(uint64_t bytes, int *ret_fd, unsigned char **ret)
{
	void *map;

	*ret_fd = -1;
	assert_int_equal(syn_conn_segment_new("test", bytes, ret_fd), 0);
	assert_int_equal(syn_conn_segment_map(*ret_fd, bytes, 1, &map), 0);
	*ret = map;
}

static void extent_send(struct peer *p, struct syn_msg_extent m, int *fd)
{
	m.msg = (struct syn_msg){ .type = SYN_MSG_EXTENT, .size = sizeof(m) };
	m.bytes = m.nr_frames * m.frame_bytes;
	peer_send(p, &m, fd, 1);
}

static void window_send(struct peer *p, int *host_fd, int *hbm_fd)
{
	const struct syn_msg_extent below = { .extent = HOST_EXTENT,
					      .tier = SYN_TIER_HOST,
					      .nr_frames = 1,
					      .frame_bytes = PAGE };
	const struct syn_msg_extent hbm = { .extent = HBM_EXTENT,
					    .tier = SYN_TIER_HBM,
					    .first_slot = plan.hbm_first,
					    .nr_frames = CODED_SLOTS,
					    .frame_bytes = plan.hbm_frame };

	extent_send(p, below, host_fd);
	extent_send(p, hbm, hbm_fd);
	peer_send(p, &plan.reply, NULL, 0);
}

/* Everything that is asked before the window, then that; false: it has gone. */
static bool script_socket(struct peer *p, int *host_fd, int *hbm_fd)
{
	union {
		struct syn_msg msg;
		struct syn_msg_space space;
		struct syn_msg_coded coded;
	} m;
	int fds[SYN_FDS_MAX];

	while (syn_conn_recv(p->sock, &m, sizeof(m), fds) > 0) {
		if (m.msg.type == SYN_MSG_CODED) {
			window_send(p, host_fd, hbm_fd);
			return true;
		}
		p->space = m.space;
		peer_send_space(p);
	}
	return false;
}

static void script(struct peer *p)
{
	unsigned char *hbm;
	int host_fd;
	int hbm_fd;
	bool lives;

	p->answer = answer;
	p->page_bytes = PAGE;
	p->nr_tiles = TILES;
	extent_make(PAGE, &host_fd, &host);
	extent_make(CODED_SLOTS * STORED, &hbm_fd, &hbm);
	memcpy(host, stored, syn_layout_bytes(&layout));
	(void)munmap(hbm, CODED_SLOTS * STORED);
	peer_send_welcome(p);
	lives = script_socket(p, &host_fd, &hbm_fd);
	host_fd = syn_close(host_fd);
	hbm_fd = syn_close(hbm_fd);
	if (lives)
		peer_serve(p);
}

static void script_without_coded(struct peer *p)
{
	p->welcome.features &= ~SYN_FEATURE_CODED;
	script(p);
}

static void page_make(void)
{
	static uint16_t page[PAGE / 2];
	uint32_t raw_sums[TILES];
	uint16_t error[TILES];

	for (uint32_t i = 0; i < PAGE / 2; i++)
		page[i] = (uint16_t)(0x3000 + (i * 40503u >> 7) % 0x1000);
	assert_int_equal(syn_layout_init(&layout, SYN_TILE_TOKENS, 1, 2,
					 components, 0, 0),
			 0);
	assert_true(syn_layout_bytes(&layout) <= STORED);
	assert_int_equal(syn_page_encode(stored, page, &layout, 0, TILES,
					 raw_sums, stored_sums, error),
			 0);
}

static void plan_reset(void)
{
	memset(&plan, 0, sizeof(plan));
	plan.hbm_first = SYN_SLOT_CODED;
	plan.hbm_frame = STORED;
	plan.reply = (struct syn_msg_coded_reply){
		.msg = { .type = SYN_MSG_CODED_REPLY,
			 .size = sizeof(plan.reply) },
		.slots = SLOTS,
		.coded_slots = CODED_SLOTS,
		.range_slots = 2 * SLOTS,
		.coded_range = 2 * CODED_SLOTS,
		.stride = PAGE,
		.coded_stride = STORED,
	};
	plan.loan = (struct syn_loan){
		.src_extent = HOST_EXTENT,
		.dst_slot = SYN_SLOT_CODED | 3,
		.bytes = syn_layout_bytes(&layout),
		.codec = SYN_CODEC_H4,
		.state = SYN_LOAN_OUT,
		.nr_sums = TILES,
	};
}

static void start_with(peer_script_fn how)
{
	peer_start(&peer, how);
	if (how == script)
		peer.welcome.features |= SYN_FEATURE_CODED;
	assert_int_equal(peer_attach(&peer, &client, NULL), 0);
}

static void stop(void)
{
	client = syn_detach(client);
	peer_stop(&peer);
	if (host)
		(void)munmap(host, PAGE);
	host = NULL;
}

static int setup(void **state)
{
	nr_fds = test_count_fds();
	page_make();
	plan_reset();
	start_with(script);
	return 0;
}

static int teardown(void **state)
{
	stop();
	return test_count_fds() == nr_fds ? 0 : -1;
}

static int define(struct syn_space *ret)
{
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);

	opts.tokens = SYN_TILE_TOKENS;
	opts.nr_components = 2;
	opts.components = components;
	opts.coded = 1;
	return syn_space_define(client, &opts, ret);
}

static int open_window(struct syn_window **ret)
{
	struct syn_window_opts opts = SYN_OPTS(struct syn_window_opts);
	struct syn_space space;
	int r = define(&space);

	if (r)
		return r;
	opts.slots = SLOTS;
	opts.coded_slots = CODED_SLOTS;
	return syn_window_open(client, &space, &opts, ret);
}

static int load(void **ret_addr)
{
	const uint64_t page = SYN_HANDLE(1, 3);

	pte_set(3, SYN_PTE_ABSENT, 0);
	return syn_load(client, &page, 1, 0, ret_addr);
}

/* ---- windows ------------------------------------------------------------ */

static void test_two_ranges(void **state)
{
	struct syn_planes planes[2];
	struct syn_window *window;

	assert_int_equal(open_window(&window), 0);
	assert_int_equal(peer.space.flags, SYN_SPACE_F_CODED);
	syn_window_planes(window, &planes[0]);
	syn_window_coded(window, &planes[1]);
	assert_int_equal(planes[0].range, 2 * SLOTS);
	assert_int_equal(planes[0].stride, PAGE);
	assert_int_equal(planes[1].range, 2 * CODED_SLOTS);
	assert_int_equal(planes[1].stride, STORED);
	assert_int_equal(planes[1].slots, CODED_SLOTS);
	assert_false(syn_planes_have(&planes[0], planes[1].base));
	assert_true(syn_planes_have(&planes[1], planes[1].base));
	assert_false(syn_planes_have(
		&planes[1], (char *)planes[1].base + 2 * CODED_SLOTS * STORED));
}

static void test_daemon_too_old(void **state)
{
	struct syn_space space;

	stop();
	start_with(script_without_coded);
	assert_int_equal(define(&space), -EOPNOTSUPP);
}

static void assert_window_refused(void)
{
	struct syn_window *window;

	assert_int_equal(open_window(&window), -EPROTO);
	stop();
	plan_reset();
	start_with(script);
}

static void test_replies_that_make_no_sense(void **state)
{
	plan.reply.coded_stride = STORED - 4096;
	plan.hbm_frame = STORED - 4096;
	assert_window_refused();
	plan.reply.coded_stride = STORED + 1;
	assert_window_refused();
	plan.reply.coded_slots = 0;
	assert_window_refused();
	plan.reply.coded_slots = 2 * CODED_SLOTS + 1;
	assert_window_refused();
	plan.reply.coded_range = SYN_SLOT_CODED + 1;
	assert_window_refused();
	plan.reply.stride = STORED;
	assert_window_refused();
	plan.reply.window = SYN_WINDOWS_MAX;
	assert_window_refused();
	/* Memory for slots that there are not. */
	plan.hbm_first = 0;
	assert_window_refused();
	plan.hbm_first = SYN_SLOT_CODED + CODED_SLOTS + 1;
	assert_window_refused();
	plan.hbm_first = 2 * SYN_SLOT_CODED;
	assert_window_refused();
}

/* The armed failure may also hit the peer; then the client sees its end. */
static void test_open_fail_nth(void **state)
{
	unsigned int nth = 0;
	bool hit;

	do {
		struct syn_window *window;
		int r;

		stop();
		start_with(script);
		syn_fault_arm(++nth);
		r = open_window(&window);
		hit = syn_fault_disarm();
		assert_true(hit || !r);
	} while (hit);
	assert_true(nth > 4);
}

/* ---- loans -------------------------------------------------------------- */

static void test_loan_stays_as_it_is_stored(void **state)
{
	const uint64_t page = SYN_HANDLE(1, 3);
	struct syn_window *window;
	struct syn_planes coded;
	void *addr;

	assert_int_equal(open_window(&window), 0);
	syn_window_coded(window, &coded);
	assert_int_equal(load(&addr), 0);
	assert_ptr_equal(addr, (char *)coded.base + 3 * STORED);
	assert_memory_equal(addr, stored, syn_layout_bytes(&layout));
	assert_int_equal(plan.last_status, 0);
	syn_unpin(client, 0, &page, 1);
}

/* One bit, anywhere: what was copied is not handed out. */
static void test_flipped_bits(void **state)
{
	const uint64_t bytes = syn_layout_bytes(&layout);
	struct syn_window *window;
	void *addr;

	assert_int_equal(open_window(&window), 0);
	for (uint64_t at = 0; at < bytes; at += bytes / 23) {
		host[at] ^= 1u << at % 8;
		assert_int_equal(load(&addr), SYN_E_LOST);
		assert_null(addr);
		assert_int_equal(plan.last_status, -EILSEQ);
		host[at] ^= 1u << at % 8;
	}
}

static void assert_loan_refused(void)
{
	void *addr;

	assert_int_equal(load(&addr), -EPROTO);
	assert_int_equal(plan.last_status, -EPROTO);
	plan_reset();
}

static void test_loans_that_make_no_sense(void **state)
{
	struct syn_window *window;

	assert_int_equal(open_window(&window), 0);
	plan.loan.dst_slot = SYN_SLOT_CODED | 2 * CODED_SLOTS;
	assert_loan_refused();
	plan.loan.dst_slot = 2 * SLOTS;
	assert_loan_refused();
	plan.loan.dst_slot = 2 * SYN_SLOT_CODED;
	assert_loan_refused();
	plan.loan.dst_slot = UINT32_MAX;
	assert_loan_refused();
	/* A raw page is larger than such a slot. */
	plan.loan.codec = SYN_CODEC_RAW16;
	plan.loan.bytes = PAGE;
	plan.loan.tile_bytes = TILE;
	assert_loan_refused();
}

#define coded_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		coded_test(test_two_ranges),
		coded_test(test_daemon_too_old),
		coded_test(test_replies_that_make_no_sense),
		coded_test(test_open_fail_nth),
		coded_test(test_loan_stays_as_it_is_stored),
		coded_test(test_flipped_bits),
		coded_test(test_loans_that_make_no_sense),
	};

	return test_main(tests);
}
