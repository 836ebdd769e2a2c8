/* SPDX-License-Identifier: Apache-2.0 */
/* A manager on the host-emulated device, with fake clients. */
#include "test/unit/core-harness.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/base/atomic.h"
#include "core/dev.h"
#include "core/disk.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"

#define STEP_NS	   3000000u
#define POLLS_MAX  200000u
#define MODEL_STEP 2654435761u

/* ---- the world ---------------------------------------------------------- */

void world_open(struct world *w, uint64_t hbm_bytes, uint64_t host_bytes,
		uint32_t max_pages, uint32_t low, uint32_t high)
{
	struct syn_mm_config config = {
		.hbm_bytes = hbm_bytes,
		.host_bytes = host_bytes,
		.max_pages = max_pages,
		.max_sessions = 8,
		.low_permille = low,
		.high_permille = high,
		.codec = SYN_CODEC_RAW16,
	};

	world_open_swap(w, &config, NULL);
}

void world_open_swap(struct world *w, struct syn_mm_config *config,
		     struct syn_simdisk *sim)
{
	world_open_granule(w, config, sim, 0);
}

void world_open_granule(struct world *w, struct syn_mm_config *config,
			struct syn_simdisk *sim, uint64_t granule)
{
	const struct syn_dev_host_config dev_config = { .granule = granule };
	uint32_t i;

	*w = (struct world){ .now_ns = 1000000000, .next_id = 1 };
	for (i = 0; i < SYN_QUOTA_TIERS; i++)
		w->quota[i] = SYN_QUOTA_FREE;
	assert_int_equal(syn_dev_host_open(&w->dev, &dev_config), 0);
	if (sim)
		assert_int_equal(syn_simdisk_open(sim, &w->disk), 0);
	w->kept = calloc(1, syn_mm_kept_bytes(config));
	assert_non_null(w->kept);
	config->kept = w->kept;
	config->dev = w->dev;
	config->disk = w->disk;
	w->config = *config;
	assert_int_equal(syn_mm_new(&w->mm, config), 0);
}

void world_close(struct world *w)
{
	world_settle(w);
	world_audit(w);
	assert_int_equal(world_stat(w).nr_sessions, 0);
	assert_int_equal(world_stat(w).nr_quarantined, 0);
	assert_int_equal(w->mm->nr_lessees, 0);
	assert_null(syn_mm_free(w->mm));
	w->dev->ops->close(w->dev);
	if (w->disk)
		w->disk->ops->close(w->disk);
	free(w->kept);
}

bool world_poll(struct world *w)
{
	uint64_t next;

	w->now_ns += STEP_NS;
	world_do(w, w->result = syn_mm_poll(w->mm, w->now_ns, &next));
	return w->result;
}

int world_quota(struct world *w, uint32_t domain, uint32_t tier,
		const struct syn_quota *quota)
{
	world_do(w, w->result = syn_mm_quota_set(w->mm, domain, tier, quota));
	return w->result;
}

uint64_t world_evict(struct world *w, uint64_t max)
{
	static uint64_t nr;

	world_do(w, nr = syn_mm_evict(w->mm, max));
	return nr;
}

static bool world_busy(const struct world *w)
{
	uint32_t i;

	for (i = 0; i < SYN_MOVES_MAX; i++)
		if (w->mm->move[i].state == SYN_MOVE_COPY)
			return true;
	return w->mm->nr_swaps;
}

void world_settle(struct world *w)
{
	uint32_t still = 0;
	uint32_t n;

	for (n = 0; n < POLLS_MAX && still < 3; n++) {
		bool moved = world_poll(w);

		if (world_busy(w))
			(void)usleep(20);
		still = moved || world_busy(w) ? 0 : still + 1;
	}
	assert_true(still >= 3);
}

struct syn_ctl_status world_stat(const struct world *w)
{
	struct syn_ctl_status stat;

	syn_mm_stat(w->mm, &stat);
	return stat;
}

struct syn_ctl_tier world_tier(const struct world *w, uint32_t tier)
{
	struct syn_ctl_tier tiers[SYN_QUOTA_TIERS];

	assert_int_equal(syn_mm_stat_tiers(w->mm, tiers, SYN_QUOTA_TIERS),
			 w->disk ? 3 : 2);
	return tiers[tier - SYN_TIER_HBM];
}

void space_fill(struct syn_msg_space *msg, uint32_t tokens, uint32_t heads,
		uint32_t dim)
{
	uint32_t i;

	*msg = (struct syn_msg_space){
		.model = { 0x1234, 0x5678 },
		.tokens = tokens,
		.layers_per_page = 1,
		.nr_components = 2,
	};
	for (i = 0; i < 2; i++)
		msg->component[i] = (struct syn_component){
			.role = i ? SYN_ROLE_V : SYN_ROLE_K,
			.dtype = SYN_DTYPE_F16,
			.heads = heads,
			.dim = dim,
			.codec = SYN_CODEC_RAW16,
		};
}

uint32_t world_space(struct world *w, uint32_t tokens, uint32_t heads,
		     uint32_t dim)
{
	struct syn_msg_space_reply reply;
	struct syn_msg_space msg;
	const char *why = "";

	space_fill(&msg, tokens, heads, dim);
	assert_int_equal(syn_mm_space_define(w->mm, &msg, &reply, &why), 0);
	return reply.space;
}

/* ---- clients ------------------------------------------------------------ */

void client_init(struct client *c, struct world *w)
{
	uint32_t i;

	*c = (struct client){ .world = w };
	for (i = 0; i < WORLD_CLIENTS && w->client[i]; i++)
		;
	if (i < WORLD_CLIENTS)
		w->client[i] = c;
	c->pte = calloc(CLIENT_PAGES, sizeof(*c->pte));
	c->pin = calloc(CLIENT_PAGES, sizeof(*c->pin));
	c->timeline = calloc(CLIENT_LINES, sizeof(*c->timeline));
	c->loan = calloc(SYN_LOANS_MAX, sizeof(*c->loan));
	c->sums =
		calloc((size_t)SYN_LOANS_MAX * SYN_TILES_MAX, sizeof(*c->sums));
	assert_true(c->pte && c->pin && c->timeline && c->loan && c->sums);
}

static struct syn_domain_config domain_config(const struct world *w,
					      uint32_t number)
{
	struct syn_domain_config config = {
		.identity = { number, ~(uint64_t)number },
		.uid = number,
		.quota = { w->quota[0], w->quota[1], w->quota[2] },
	};

	(void)snprintf(config.name, sizeof(config.name), "domain %u", number);
	return config;
}

int world_domain(struct world *w, uint32_t number, uint32_t *ret)
{
	const struct syn_domain_config config = domain_config(w, number);

	world_do(w, w->result = syn_mm_domain_get(w->mm, &config, ret));
	return w->result;
}

static struct syn_session_config client_config(const struct client *c,
					       uint32_t domain)
{
	return (struct syn_session_config){
		.id = c->id,
		.pid = 1,
		.domain = domain,
		.name = "fake",
		.nr_pages = CLIENT_PAGES,
		.nr_timelines = CLIENT_LINES,
		.pte = c->pte,
		.pin = c->pin,
		.timeline = c->timeline,
		.loan = c->loan,
		.sums = c->sums,
		.now_ns = c->world->now_ns,
	};
}

static void join_begin(struct client *c)
{
	c->id = c->world->next_id++;
	c->session = NULL;
	c->world->result = 0;
}

static int join(struct client *c, uint32_t domain)
{
	const struct syn_session_config config = client_config(c, domain);

	return syn_mm_session_new(c->world->mm, &config, &c->session);
}

int client_join_raw(struct client *c, uint32_t domain)
{
	struct world *w = c->world;

	join_begin(c);
	world_do(w, if (!c->session) w->result = join(c, domain));
	return w->result;
}

int client_adopt(struct client *c)
{
	struct syn_session_config config = client_config(c, SYN_NONE);

	return syn_mm_session_adopt(c->world->mm, &config, &c->session);
}

/* Its domain may end with a worker, as long as nobody is in it. */
static int join_domain(struct client *c, const struct syn_domain_config *config)
{
	uint32_t index;
	int r = syn_mm_domain_get(c->world->mm, config, &index);

	return r ? r : join(c, index);
}

int client_join(struct client *c, uint32_t domain)
{
	struct world *w = c->world;
	const struct syn_domain_config config = domain_config(w, domain);

	join_begin(c);
	world_do(w, if (!c->session) w->result = join_domain(c, &config));
	return w->result;
}

void client_open(struct client *c, struct world *w, uint32_t domain)
{
	client_init(c, w);
	assert_int_equal(client_join(c, domain), 0);
}

static void extent_unmap(struct client *c, uint32_t i)
{
	assert_int_equal(munmap(c->extent[i].base, c->extent[i].msg.bytes), 0);
	c->extent[i] = c->extent[--c->nr_extents];
}

void client_deinit(struct client *c)
{
	uint32_t i;

	for (i = 0; i < WORLD_CLIENTS; i++)
		if (c->world->client[i] == c)
			c->world->client[i] = NULL;
	while (c->nr_extents)
		extent_unmap(c, 0);
	free(c->pte);
	free(c->pin);
	free(c->timeline);
	free(c->loan);
	free(c->sums);
	*c = (struct client){ 0 };
}

void client_close(struct client *c)
{
	struct world *w = c->world;

	c->exited = true;
	world_do(
		w, if (c->session) {
			syn_mm_session_exited(c->session);
			c->session = NULL;
		});
	client_deinit(c);
}

void client_end(struct client *c)
{
	world_do(c->world, syn_mm_session_end(c->session));
}

static void extent_map(struct client *c, const struct syn_msg_extent *msg,
		       const struct syn_mem *mem)
{
	struct client_extent *e = &c->extent[c->nr_extents++];
	uint32_t i;

	/* Once more, because a worker died. */
	for (i = 0; i < c->nr_extents - 1; i++) {
		if (c->extent[i].msg.extent != msg->extent)
			continue;
		assert_memory_equal(&c->extent[i].msg, msg, sizeof(*msg));
		c->nr_extents--;
		return;
	}
	assert_true(c->nr_extents <= CLIENT_EXTENTS);
	e->msg = *msg;
	e->base = mmap(NULL, msg->bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		       mem->fd, 0);
	assert_true(e->base != MAP_FAILED);
}

static void client_told(struct client *c)
{
	const struct syn_mem *mem;
	struct syn_msg_extent msg;

	while (syn_mm_extent_next(c->session, &msg, &mem)) {
		extent_map(c, &msg, mem);
		syn_mm_extent_told(c->session, msg.extent);
	}
}

/* What it was told to give up, and has. */
static bool client_retires(struct client *c, uint32_t *ret)
{
	struct world *w = c->world;

	world_do(w, {
		w->result = syn_mm_retire_next(c->session, ret);
		if (w->result)
			syn_mm_retire_told(c->session, *ret);
	});
	return w->result;
}

void client_extents(struct client *c)
{
	uint32_t id;
	uint32_t i;

	world_do(c->world, client_told(c));
	while (client_retires(c, &id)) {
		for (i = 0; i < c->nr_extents; i++)
			if (c->extent[i].msg.extent == id)
				extent_unmap(c, i);
		assert_int_equal(client_ask(c, syn_mm_retired(c->session, id)),
				 0);
	}
}

int client_window_open(struct client *c, uint32_t space, uint32_t slots,
		       uint32_t *ret)
{
	struct syn_msg_window_reply reply;
	int r = client_question(
		c, syn_mm_window_open(c->session, space, slots, &reply),
		syn_mm_window_again(c->session, space, slots, &reply));

	if (!r)
		*ret = reply.window;
	return r;
}

int client_window_open_coded(struct client *c, uint32_t space, uint32_t slots,
			     uint32_t coded_slots, uint32_t *ret)
{
	struct syn_msg_coded_reply reply;
	int r = client_question(
		c,
		syn_mm_window_open_coded(c->session, space, slots, coded_slots,
					 &reply),
		syn_mm_window_again_coded(c->session, space, slots, coded_slots,
					  &reply));

	if (!r)
		*ret = reply.window;
	return r;
}

uint32_t client_window(struct client *c, uint32_t space, uint32_t slots)
{
	uint32_t window = 0;

	assert_int_equal(client_window_open(c, space, slots, &window), 0);
	client_extents(c);
	return window;
}

uint32_t client_window_coded(struct client *c, uint32_t space, uint32_t slots,
			     uint32_t coded_slots)
{
	uint32_t window = 0;

	assert_int_equal(
		client_window_open_coded(c, space, slots, coded_slots, &window),
		0);
	client_extents(c);
	return window;
}

/*
 * A request waits in the server until a poll moves something; here, while the
 * device has work: nobody's timeline advances meanwhile.
 */
static bool client_waits(struct client *c, int r)
{
	uint32_t n;

	if (r != SYN_MM_E_WAIT)
		return false;
	for (n = 0; n < POLLS_MAX; n++) {
		bool busy = world_busy(c->world);

		if (world_poll(c->world))
			return true;
		if (!busy)
			return false;
		(void)usleep(20);
	}
	return false;
}

int client_lease(struct client *c, uint32_t window, uint32_t nr,
		 uint64_t *ret_handles)
{
	uint64_t hint = 0;
	int r;

	do {
		r = client_ask(c, syn_mm_lease(c->session, window, nr,
					       ret_handles, &hint));
	} while (client_waits(c, r));
	client_extents(c);
	return r;
}

int client_fault(struct client *c, const uint64_t *handles, uint32_t nr,
		 struct syn_vec_fault *ret)
{
	uint64_t hint = 0;
	uint32_t i;
	int r;

	do {
		r = client_ask(
			c, syn_mm_fault(c->session, handles, nr, ret, &hint));
	} while (client_waits(c, r));
	for (i = 0; !r && i < nr; i++)
		if (ret[i].res == SYN_FAULT_LOAN)
			syn_bit_set(c->loans, (uint32_t)ret[i].loan);
	client_extents(c);
	return r;
}

void client_audit(const struct client *c, uint32_t nr_leases)
{
	uint32_t i;

	assert_int_equal(c->session->nr_leases, nr_leases);
	for (i = 0; i < CLIENT_PAGES; i++)
		nr_leases -= SYN_PTE_STATE(c->pte[i]) != SYN_PTE_NONE;
	assert_int_equal(nr_leases, 0);
	for (i = 0; i < SYN_LOANS_MAX; i++)
		assert_int_equal(syn_bit_test(c->loans, i),
				 c->loan[i].state == SYN_LOAN_OUT);
}

int client_release(struct client *c, uint64_t handle)
{
	return client_ask(c, syn_mm_release(c->session, &handle, 1));
}

int client_commit(struct client *c, uint64_t handle, uint32_t tokens)
{
	struct syn_vec_commit vec = { .handle = handle, .tokens = tokens };

	return client_ask(c, syn_mm_commit(c->session, &vec, 1));
}

static uint32_t client_lessee(const struct client *c, uint64_t handle)
{
	return c->session->map[SYN_HANDLE_INDEX(handle)];
}

struct syn_rec_page *client_page(const struct client *c, uint64_t handle)
{
	struct syn_mm *mm = c->world->mm;

	return &mm->page[mm->lessee[client_lessee(c, handle)].page];
}

static const struct syn_rec_space *client_space(const struct client *c,
						uint64_t handle)
{
	return &c->world->mm->space[client_page(c, handle)->space];
}

uint64_t client_bytes(const struct client *c, uint64_t handle)
{
	return client_space(c, handle)->page_bytes;
}

uint32_t client_state(const struct client *c, uint64_t handle)
{
	return SYN_PTE_STATE(c->pte[SYN_HANDLE_INDEX(handle)]);
}

uint32_t *client_slot_find(const struct client *c, uint32_t window,
			   uint32_t slot)
{
	uint32_t i;

	for (i = 0; i < c->nr_extents; i++) {
		const struct syn_msg_extent *m = &c->extent[i].msg;

		if (m->tier == SYN_TIER_HBM && m->window == window &&
		    slot - m->first_slot < m->nr_frames)
			return (void *)(c->extent[i].base +
					(slot - m->first_slot) *
						m->frame_bytes);
	}
	return NULL;
}

uint32_t *client_slot(struct client *c, uint32_t window, uint32_t slot)
{
	uint32_t *at = client_slot_find(c, window, slot);

	if (!at)
		fail_msg("slot %u of window %u is not mapped", slot, window);
	return at;
}

static uint32_t client_window_of(const struct client *c, uint64_t handle)
{
	return c->world->mm->lessee[client_lessee(c, handle)].window;
}

/* Another client may have brought it into an extent that is new. */
static void client_slot_wait(struct client *c, uint64_t handle)
{
	uint64_t pte = syn_load_seq_cst(&c->pte[SYN_HANDLE_INDEX(handle)]);

	if (SYN_PTE_STATE(pte) == SYN_PTE_RESIDENT &&
	    !client_slot_find(c, client_window_of(c, handle),
			      SYN_PTE_SLOT(pte)))
		client_extents(c);
}

int client_pin(struct client *c, uint64_t handle, uint32_t **ret)
{
	uint32_t i = SYN_HANDLE_INDEX(handle);
	uint64_t pte;

	client_slot_wait(c, handle);
	(void)syn_fetch_add_seq_cst(&c->pin[i], SYN_PIN_ONE);
	pte = syn_load_seq_cst(&c->pte[i]);
	assert_int_equal(SYN_PTE_GENERATION(pte),
			 SYN_HANDLE_GENERATION(handle));
	if (SYN_PTE_STATE(pte) == SYN_PTE_RESIDENT) {
		*ret = client_slot(c, client_window_of(c, handle),
				   SYN_PTE_SLOT(pte));
		return 0;
	}
	client_unpin(c, handle);
	return SYN_PTE_STATE(pte) == SYN_PTE_LOST ? SYN_E_LOST : SYN_E_FAULT;
}

void client_unpin(struct client *c, uint64_t handle)
{
	(void)syn_fetch_sub_release(&c->pin[SYN_HANDLE_INDEX(handle)], 1);
}

bool client_is_coded(const struct client *c, uint64_t handle)
{
	return c->pte[SYN_HANDLE_INDEX(handle)] & SYN_SLOT_CODED;
}

int client_load(struct client *c, uint64_t handle, uint32_t **ret)
{
	struct syn_vec_fault answer;
	int r = client_pin(c, handle, ret);

	if (r != SYN_E_FAULT)
		return r;
	r = client_fault(c, &handle, 1, &answer);
	if (r)
		return r;
	if (answer.res == SYN_FAULT_LOAN) {
		r = client_execute(c, answer.loan);
		assert_int_equal(client_loaded(c, answer.loan, r), 0);
	} else if (answer.res != SYN_FAULT_RESIDENT) {
		return answer.res;
	}
	return client_pin(c, handle, ret);
}

int client_seal(struct client *c, uint64_t handle, uint64_t key, uint64_t value)
{
	const struct syn_rec_space *space = client_space(c, handle);
	struct syn_sqe sqe = {
		.op = SYN_OP_SEAL,
		.nr = space->nr_tiles,
		.object = handle,
		.arg = { key, ~key, value, 0 },
	};
	uint32_t sums[SYN_TILES_MAX];
	uint32_t *at;
	int r = client_load(c, handle, &at);

	if (r)
		return r;
	if (client_is_coded(c, handle))
		sqe.nr = 0;
	else
		syn_sum_tiles(at, space->page_bytes, space->tile_bytes, sums);
	client_unpin(c, handle);
	return client_ask(c, syn_mm_seal(c->session, &sqe, sums));
}

int client_lookup_floor(struct client *c, uint32_t window, uint64_t floor,
			uint64_t key, uint64_t *ret_handle, uint64_t *ret_miss)
{
	struct syn_vec_key vec = { .key = { key, ~key } };

	return client_ask(c, syn_mm_lookup(c->session, window, floor, &vec, 1,
					   ret_handle, ret_miss));
}

int client_lookup(struct client *c, uint32_t window, uint64_t key,
		  uint64_t *ret_handle, uint64_t *ret_miss)
{
	return client_lookup_floor(c, window, 0, key, ret_handle, ret_miss);
}

void client_write(struct client *c, uint64_t handle, uint32_t seed)
{
	uint64_t words = client_bytes(c, handle) / sizeof(uint32_t);
	uint32_t *at;
	uint64_t i;

	assert_int_equal(client_pin(c, handle, &at), 0);
	for (i = 0; i < words; i++)
		at[i] = seed + (uint32_t)i * MODEL_STEP;
	client_unpin(c, handle);
}

int client_check(struct client *c, uint64_t handle, uint32_t seed)
{
	uint64_t words = client_bytes(c, handle) / sizeof(uint32_t);
	uint32_t *at;
	uint64_t i;
	int r = client_load(c, handle, &at);

	if (r)
		return r;
	for (i = 0; i < words && at[i] == seed + (uint32_t)i * MODEL_STEP; i++)
		;
	client_unpin(c, handle);
	return i == words ? 0 : -EBADMSG;
}

uint64_t client_full(struct client *c, uint32_t window, uint32_t seed)
{
	uint64_t handle;

	assert_int_equal(client_lease(c, window, 1, &handle), 0);
	client_write(c, handle, seed);
	assert_int_equal(
		client_commit(c, handle, client_space(c, handle)->tokens), 0);
	return handle;
}

uint64_t client_sealed(struct client *c, uint32_t window, uint32_t seed,
		       uint64_t key)
{
	uint64_t handle = client_full(c, window, seed);

	assert_int_equal(client_seal(c, handle, key, 0), 0);
	return handle;
}

int client_persist_step(struct client *c, uint64_t handle)
{
	return client_ask(c, syn_mm_persist(c->session, &handle, 1));
}

int client_persist(struct client *c, uint64_t handle)
{
	uint32_t n;
	int r = SYN_MM_E_WAIT;

	for (n = 0; n < 100000 && r == SYN_MM_E_WAIT; n++) {
		r = client_persist_step(c, handle);
		if (!world_poll(c->world))
			(void)usleep(20);
	}
	return r;
}
