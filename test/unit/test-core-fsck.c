/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One member of one record is not what it should be: fsck names the record.
 * What is counted over all records it names only if nothing moved meanwhile.
 */
#include "test/unit/core-harness.h"

#include <errno.h>

#include "core/base/fault.h"
#include "core/fsck.h"
#include "core/index.h"
#include "core/move.h"
#include "core/swap.h"

#define SLOTS 16u

/* Pages, each in a state of its own. */
enum {
	RESIDENT,
	OTHER, /* resident, too */
	HOST,
	NVME,
	NVME_TOO,
	FILLING, /* a loan is out */
	FAILED,	 /* its loan failed: the slot is in quarantine */
	LEAVING, /* a move waits for a timeline */
	WRITTEN, /* to the swap file, at the moment */
	GONE,	 /* released, but work on it has not finished */
	GONE_TOO,
	FREED,
	NR,
};

struct fixture {
	struct syn_simdisk *sim;
	struct world world;
	struct client client;
	struct syn_mm *mm;
	struct syn_session *session;
	uint64_t handle[NR];
	uint32_t page[NR];
	uint32_t lessee[NR];
	uint32_t loan;
};

static struct syn_rec_page *page_of(const struct fixture *f, unsigned int i)
{
	return &f->mm->page[f->page[i]];
}

static struct syn_rec_lessee *lessee_of(const struct fixture *f, unsigned int i)
{
	return &f->mm->lessee[f->lessee[i]];
}

/* ---- pages in all states ------------------------------------------------ */

static void pages_seal(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < NR; i++) {
		f->handle[i] = client_sealed(&f->client, 0, i, i + 1);
		f->lessee[i] = f->session->map[SYN_HANDLE_INDEX(f->handle[i])];
		f->page[i] = f->mm->lessee[f->lessee[i]].page;
	}
	assert_int_equal(client_release(&f->client, f->handle[FREED]), 0);
	assert_int_equal(syn_mm_evict(f->mm, 1), 1);
	assert_int_equal(page_of(f, FREED)->state, SYN_PAGE_FREE);
}

static void pages_out(struct fixture *f)
{
	static const unsigned int below[] = { HOST,    NVME,   NVME_TOO,
					      FILLING, FAILED, WRITTEN };
	unsigned int i;

	for (i = 0; i < syn_array_size(below); i++)
		assert_int_equal(
			syn_move_out(f->mm, f->page[below[i]], SYN_NONE), 0);
	world_settle(&f->world);
	/* The first has its segment cut. */
	for (i = NVME; i <= NVME_TOO; i++)
		while (syn_swap_out(f->mm, f->page[i], false, SYN_NONE))
			world_settle(&f->world);
	world_settle(&f->world);
}

static uint32_t loan_of(struct fixture *f, unsigned int i)
{
	struct syn_vec_fault answer;

	assert_int_equal(client_fault(&f->client, &f->handle[i], 1, &answer),
			 0);
	assert_int_equal(answer.res, SYN_FAULT_LOAN);
	return answer.loan;
}

/* Work that does not finish holds up all that waits for it. */
static void pages_wait(struct fixture *f)
{
	uint32_t failed;

	f->loan = loan_of(f, FILLING);
	failed = loan_of(f, FAILED);
	f->client.timeline[0].issued = 1;
	assert_int_equal(client_loaded(&f->client, failed, -EIO), 0);
	assert_int_equal(syn_move_out(f->mm, f->page[LEAVING], SYN_NONE), 0);
	assert_int_equal(client_release(&f->client, f->handle[GONE]), 0);
	assert_int_equal(client_release(&f->client, f->handle[GONE_TOO]), 0);
	assert_int_equal(syn_swap_out(f->mm, f->page[WRITTEN], true, SYN_NONE),
			 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct syn_mm_config config = {
		.hbm_bytes = 4 * MIB,
		.host_bytes = 8 * MIB,
		.max_pages = 64,
		.max_sessions = 4,
		.codec = SYN_CODEC_RAW16,
	};
	uint32_t space;

	assert_non_null(f);
	assert_int_equal(syn_simdisk_new(&f->sim, 2 * MIB, 4, 7), 0);
	world_open_swap(&f->world, &config, f->sim);
	f->mm = f->world.mm;
	/* 64 KiB in 16 tiles: their sums have a run. */
	space = world_space(&f->world, 128, 8, 16);
	assert_true(f->mm->space[space].nr_tiles > SYN_SUMS_INLINE);
	client_open(&f->client, &f->world, 1);
	f->session = f->client.session;
	(void)client_window(&f->client, space, SLOTS);
	pages_seal(f);
	pages_out(f);
	pages_wait(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	client_close(&f->client);
	world_close(&f->world);
	assert_null(syn_simdisk_free(f->sim));
	free(f);
	return 0;
}

/* ---- damage ------------------------------------------------------------- */

/**
 * struct damage - what a member is changed to, and what fsck says of it.
 * @what:	the member.
 * @at:		where it is.
 * @bytes:	how large.
 * @value:	what it becomes.
 * @object:	who is named.
 * @index:	which one.
 * @field:	what of it.
 * @counted:	only if nothing moves.
 */
struct damage {
	const char *what;
	void *at;
	size_t bytes;
	uint64_t value;
	uint32_t object;
	uint32_t index;
	uint32_t field;
	bool counted;
};

#define WRONG(member, value, object, index, field)                             \
	{                                                                      \
#member, &(member), sizeof(member), value, SYN_FSCK_##object,  \
			index, SYN_FSCK_##field, false                         \
	}
#define MISCOUNTED(member, value, object, index, field)                        \
	{                                                                      \
#member, &(member), sizeof(member), value, SYN_FSCK_##object,  \
			index, SYN_FSCK_##field, true                          \
	}

static bool fsck_names(struct fixture *f, const struct damage *d, bool moved)
{
	const struct syn_ctl_fsck *at;
	struct syn_fsck *fsck;
	bool named = false;
	uint32_t nr;

	assert_int_equal(syn_fsck_new(f->mm, &fsck), 0);
	f->mm->changes += moved;
	while (syn_fsck_step(fsck, 4096))
		;
	assert_int_equal(!(syn_fsck_found(fsck) & SYN_FSCK_MOVED), !moved);
	for (nr = syn_fsck_findings(fsck, &at); nr && !named; nr--, at++)
		named = at->object == d->object && at->index == d->index &&
			at->field == d->field && at->expected != at->found;
	assert_null(syn_fsck_free(fsck));
	return named;
}

static void damage_one(struct fixture *f, const struct damage *d)
{
	uint64_t saved = 0;

	memcpy(&saved, d->at, d->bytes);
	assert_true(saved != d->value);
	memcpy(d->at, &d->value, d->bytes);
	if (!fsck_names(f, d, false))
		fail_msg("%s: not named", d->what);
	if (fsck_names(f, d, true) == d->counted)
		fail_msg("%s: %s", d->what,
			 d->counted ? "named while things move"
				    : "not named while things move");
	memcpy(d->at, &saved, d->bytes);
}

static void damage_all(struct fixture *f, const struct damage *d, size_t nr)
{
	world_audit(&f->world);
	while (nr--)
		damage_one(f, d++);
	world_audit(&f->world);
}
#define DAMAGE_ALL(f, table) damage_all(f, table, syn_array_size(table))

static struct syn_extent *hbm_of(const struct fixture *f, uint32_t *ret_frame)
{
	const struct syn_rec_page *pg = page_of(f, RESIDENT);

	*ret_frame =
		SYN_SLOT_INDEX(pg->slot) % f->mm->pool[pg->pool]->extent_frames;
	return f->mm->pool[pg->pool]->ordinal[0];
}

static uint32_t quarantined(const struct fixture *f)
{
	uint32_t q = f->session->quarantine;

	assert_true(q != SYN_NONE);
	return q;
}

static uint32_t swapping(const struct fixture *f)
{
	uint32_t i;

	for (i = 0; f->mm->swap[i].state == SYN_SWAP_FREE; i++)
		;
	return i;
}

static uint32_t moving(const struct fixture *f)
{
	uint32_t i;

	for (i = 0; f->mm->move[i].state == SYN_MOVE_FREE; i++)
		;
	return i;
}

/* ---- tests -------------------------------------------------------------- */

static void test_page(void **state)
{
	struct fixture *f = *state;
	struct syn_rec_page *pg = page_of(f, RESIDENT);
	struct syn_rec_page *leaves = page_of(f, LEAVING);
	const uint32_t m = moving(f);
	const uint32_t i = f->page[RESIDENT];
	const struct damage all[] = {
		WRONG(pg->state, 99, PAGE, i, STATE),
		WRONG(pg->state, SYN_PAGE_FULL, PAGE, i, STATE),
		WRONG(pg->space, 200, PAGE, i, REFERENCE),
		WRONG(pg->domain, 7, PAGE, i, REFERENCE),
		WRONG(pg->pool, 1023, PAGE, i, REFERENCE),
		WRONG(pg->codec, 9, PAGE, i, REFERENCE),
		WRONG(pg->charged, 3, PAGE, i, REFERENCE),
		WRONG(pg->charged, SYN_NONE16, PAGE, i, LINK),
		WRONG(pg->flags, pg->flags | SYN_PAGE_F_HELD, PAGE, i, FLAGS),
		WRONG(pg->flags, pg->flags | SYN_PAGE_F_DURABLE, PAGE, i,
		      FLAGS),
		WRONG(pg->flags, pg->flags ^ SYN_PAGE_F_LRU, PAGE, i, LIST),
		WRONG(pg->flags, pg->flags ^ SYN_PAGE_F_HBM, PAGE, i, PLACE),
		WRONG(pg->flags, pg->flags ^ SYN_PAGE_F_KEYED, PAGE, i, KEY),
		WRONG(pg->flags, pg->flags | SYN_PAGE_F_MOVING, PAGE, i,
		      REQUEST),
		WRONG(pg->flags, pg->flags | SYN_PAGE_F_IO, PAGE, i, REQUEST),
		WRONG(pg->flags, pg->flags | SYN_PAGE_F_FILLING, PAGE, i,
		      REQUEST),
		WRONG(pg->key[0], 12345, PAGE, i, KEY),
		WRONG(pg->nr_lessees, 2, PAGE, i, LEASES),
		WRONG(pg->lessee, SYN_NONE, PAGE, i, LEASES),
		WRONG(pg->lessee, f->lessee[OTHER], PAGE, i, BACK),
		WRONG(pg->lessee, 5000, PAGE, i, REFERENCE),
		WRONG(pg->sum_run, 5, PAGE, i, REFERENCE),
		WRONG(page_of(f, FREED)->generation, UINT32_MAX, PAGE,
		      f->page[FREED], GENERATION),
		WRONG(leaves->flags, leaves->flags ^ SYN_PAGE_F_MOVING, MOVE, m,
		      BACK),
		WRONG(leaves->generation, 99, MOVE, m, GENERATION),
	};

	DAMAGE_ALL(f, all);
}

static void test_where(void **state)
{
	struct fixture *f = *state;
	struct syn_rec_page *pg = page_of(f, RESIDENT);
	struct syn_rec_page *host = page_of(f, HOST);
	struct syn_rec_page *nvme = page_of(f, NVME);
	struct syn_rec_page *too = page_of(f, NVME_TOO);
	struct syn_extent *frames = f->mm->extent[SYN_FRAME_EXTENT(host->host)];
	const uint32_t at = SYN_FRAME_INDEX(host->host);
	const uint32_t i = f->page[RESIDENT];
	uint32_t frame;
	struct syn_extent *hbm = hbm_of(f, &frame);
	const struct damage all[] = {
		WRONG(pg->slot, page_of(f, OTHER)->slot, PAGE, i, BACK),
		WRONG(pg->slot, 1u << 20, PAGE, i, PLACE),
		WRONG(hbm->link[frame], f->page[OTHER], PAGE, i, BACK),
		WRONG(host->host, SYN_NONE, PAGE, f->page[HOST], PLACE),
		WRONG(host->host, nvme->nvme, PAGE, f->page[HOST], PLACE),
		WRONG(host->host, page_of(f, NVME)->host, PAGE, f->page[HOST],
		      BACK),
		WRONG(frames->owner[at], SYN_NONE, PAGE, f->page[HOST], BACK),
		WRONG(nvme->nvme, SYN_NONE, PAGE, f->page[NVME], PLACE),
		WRONG(nvme->nvme, 9u << 16, PAGE, f->page[NVME], PLACE),
		MISCOUNTED(nvme->nvme, too->nvme, PAGE, f->page[NVME_TOO],
			   TWICE),
		MISCOUNTED(pg->sum_run, page_of(f, OTHER)->sum_run, PAGE,
			   f->page[OTHER], TWICE),
		WRONG(host->below, 0, PAGE, f->page[HOST], LIST),
		WRONG(frames->back[at], 44, PAGE, f->page[HOST], LINK),
		WRONG(f->mm->links[i].next, 5000, PAGE, i, LINK),
		WRONG(f->mm->links[i].prev, i, PAGE, i, LINK),
		WRONG(f->session->window[0][0].lru.cold, 9, PAGE, i, LINK),
	};

	DAMAGE_ALL(f, all);
}

static void test_index(void **state)
{
	struct fixture *f = *state;
	struct syn_rec_page *pg = page_of(f, RESIDENT);
	const uint32_t i = f->page[RESIDENT];
	const uint32_t b =
		syn_index_bucket(f->mm, pg->domain, pg->space, pg->key);
	const struct damage all[] = {
		WRONG(f->mm->bucket[b], SYN_NONE, PAGE, i, KEY),
		WRONG(f->mm->bucket[b], 5000, PAGE, i, KEY),
		WRONG(f->mm->bucket[b], 5000, BUCKET, b, REFERENCE),
		WRONG(f->mm->links[i].hash_next, i, BUCKET, b, REFERENCE),
		WRONG(f->mm->links[i].hash_next, f->page[FREED], BUCKET, b,
		      REFERENCE),
		WRONG(pg->key[1], 7, BUCKET, b, KEY),
		MISCOUNTED(f->mm->bucket[b], SYN_NONE, MANAGER, 0, NUMBER),
	};

	DAMAGE_ALL(f, all);
}

static void test_lessee(void **state)
{
	struct fixture *f = *state;
	struct syn_rec_lessee *l = lessee_of(f, RESIDENT);
	struct syn_rec_lessee *gone = lessee_of(f, GONE);
	struct syn_session *s = f->session;
	const uint32_t i = f->lessee[RESIDENT];
	const uint32_t pte = l->pte;
	const struct damage all[] = {
		WRONG(l->page, 5000, LESSEE, i, REFERENCE),
		WRONG(l->page, f->page[FREED], LESSEE, i, REFERENCE),
		WRONG(l->page, f->page[OTHER], PAGE, f->page[RESIDENT], BACK),
		WRONG(l->session, 3, LESSEE, i, REFERENCE),
		WRONG(l->window, 9, LESSEE, i, REFERENCE),
		WRONG(l->flags, 0, PAGE, f->page[RESIDENT], REFERENCE),
		WRONG(l->flags, l->flags | SYN_LESSEE_BATCH, LESSEE, i, FLAGS),
		WRONG(l->flags, l->flags | SYN_LESSEE_WRITE, LESSEE, i, STATE),
		WRONG(l->next, 5000, LESSEE, i, LINK),
		WRONG(l->prev, f->lessee[OTHER], LESSEE, i, LINK),
		WRONG(l->pte, 5000, LESSEE, i, REFERENCE),
		WRONG(l->pte, lessee_of(f, OTHER)->pte, LESSEE, i, BACK),
		WRONG(l->generation, 77, LESSEE, i, GENERATION),
		WRONG(s->map[pte], f->lessee[OTHER], LESSEE, i, BACK),
		WRONG(s->cfg.pte[pte], 0, LESSEE, i, ENTRY),
		WRONG(gone->pte, 5000, LESSEE, f->lessee[GONE], REFERENCE),
		WRONG(gone->pte, SYN_NONE, LESSEE, f->lessee[GONE], LINK),
		WRONG(s->gone_last, f->lessee[GONE], LESSEE,
		      f->lessee[GONE_TOO], LINK),
	};

	DAMAGE_ALL(f, all);
}

static void test_request(void **state)
{
	struct fixture *f = *state;
	const uint32_t m = moving(f);
	struct syn_rec_move *move = &f->mm->move[m];
	const uint32_t i = swapping(f);
	struct syn_rec_swap *swap = &f->mm->swap[i];
	const uint32_t q = quarantined(f);
	struct syn_rec_quarantine *held = &f->mm->quarantine[q];
	const struct damage all[] = {
		WRONG(move->state, 9, MOVE, m, STATE),
		WRONG(move->state, SYN_MOVE_FREE, PAGE, f->page[LEAVING],
		      REQUEST),
		WRONG(move->page, 5000, MOVE, m, REFERENCE),
		WRONG(move->page, f->page[OTHER], MOVE, m, BACK),
		WRONG(move->generation, 99, MOVE, m, GENERATION),
		WRONG(move->host, page_of(f, HOST)->host, MOVE, m, BACK),
		WRONG(move->host, 4000u << 16, MOVE, m, PLACE),
		WRONG(move->codec, SYN_CODEC_H4, MOVE, m, PLACE),
		WRONG(swap->state, 9, SWAP, i, STATE),
		WRONG(swap->state, SYN_SWAP_READ, SWAP, i, PLACE),
		WRONG(swap->state, SYN_SWAP_WIPE, SWAP, i, REQUEST),
		WRONG(swap->page, 5000, SWAP, i, REFERENCE),
		WRONG(swap->generation, 99, SWAP, i, GENERATION),
		WRONG(swap->host, page_of(f, HOST)->host, SWAP, i, PLACE),
		WRONG(swap->slot, page_of(f, HOST)->host, SWAP, i, PLACE),
		MISCOUNTED(swap->slot, page_of(f, NVME)->nvme, SWAP, i, TWICE),
		WRONG(held->state, 9, QUARANTINE, q, STATE),
		WRONG(held->session, 3, QUARANTINE, q, REFERENCE),
		WRONG(held->space, 7, QUARANTINE, q, REFERENCE),
		WRONG(held->slot, page_of(f, RESIDENT)->slot, QUARANTINE, q,
		      BACK),
		WRONG(held->slot, 1u << 20, QUARANTINE, q, PLACE),
		WRONG(f->mm->nr_draining_moves, 0, MANAGER, 0, NUMBER),
		WRONG(f->mm->nr_swaps, 0, MANAGER, 0, NUMBER),
	};

	DAMAGE_ALL(f, all);
}

static void test_session(void **state)
{
	struct fixture *f = *state;
	struct syn_session *s = f->session;
	struct syn_window *w = &s->window[0][0];
	struct syn_rec_session *rec = &f->mm->rec_session[0];
	const struct damage all[] = {
		WRONG(rec->state, SYN_SESSION_FREE, SESSION, 0, STATE),
		WRONG(rec->nr_windows, 0, SESSION, 0, NUMBER),
		WRONG(rec->domain, 9, SESSION, 0, REFERENCE),
		WRONG(rec->id, 9, SESSION, 0, REFERENCE),
		WRONG(rec->nr_pages, 9, SESSION, 0, NUMBER),
		WRONG(rec->nr_timelines, 9, SESSION, 0, NUMBER),
		WRONG(rec->window[0].space, 9, WINDOW, 0, REFERENCE),
		WRONG(f->mm->rec_session[1].state, SYN_SESSION_LIVE, SESSION, 1,
		      STATE),
		WRONG(rec->window[0].slots[0], 9, WINDOW, 0, SLOTS),
		WRONG(w->slots, 1, WINDOW, 0, CHARGED),
		MISCOUNTED(w->charged, 0, WINDOW, 0, CHARGED),
		MISCOUNTED(w->going, 9, WINDOW, 0, GOING),
		MISCOUNTED(w->moves, 9, WINDOW, 0, REQUEST),
		MISCOUNTED(w->lru.nr, 9, WINDOW, 0, LIST),
		MISCOUNTED(s->nr_leases, 1, SESSION, 0, LEASES),
		WRONG(s->nr_quarantined, 0, SESSION, 0, WAITING),
		WRONG(s->quarantine, SYN_NONE, SESSION, 0, WAITING),
		WRONG(s->quarantine, 5000, SESSION, 0, LINK),
		WRONG(s->gone_first, SYN_NONE, SESSION, 0, LINK),
		WRONG(s->loans_free[0], ~0ull, PAGE, f->page[FILLING], REQUEST),
		WRONG(s->loan_page[f->loan], f->page[OTHER], SESSION, 0,
		      REFERENCE),
		WRONG(f->client.loan[f->loan].state, SYN_LOAN_FREE, SESSION, 0,
		      REQUEST),
	};

	DAMAGE_ALL(f, all);
}

static void test_extent(void **state)
{
	struct fixture *f = *state;
	const uint32_t host = page_of(f, HOST)->host;
	struct syn_extent *ext = f->mm->extent[SYN_FRAME_EXTENT(host)];
	const uint32_t i = ext->mem.id;
	struct syn_rec_extent *rec = &f->mm->rec_extent[i];
	const struct damage all[] = {
		WRONG(rec->state, SYN_EXTENT_FREE, EXTENT, i, STATE),
		WRONG(rec->state, SYN_EXTENT_RETIRING, EXTENT, i, STATE),
		WRONG(f->mm->rec_extent[99].state, SYN_EXTENT_LIVE, EXTENT, 99,
		      STATE),
		WRONG(rec->domain, 7, EXTENT, i, REFERENCE),
		WRONG(rec->space, 7, EXTENT, i, REFERENCE),
		WRONG(rec->tier, SYN_TIER_HBM, EXTENT, i, PLACE),
		WRONG(rec->plane, 1, EXTENT, i, PLACE),
		WRONG(rec->ordinal, 7, EXTENT, i, PLACE),
		WRONG(rec->nr_frames, 7, EXTENT, i, NUMBER),
		WRONG(rec->frame_bytes, 7, EXTENT, i, BYTES),
		WRONG(rec->bytes, 7, EXTENT, i, BYTES),
		WRONG(ext->free, SYN_NONE, EXTENT, i, USED),
		WRONG(ext->free, 5000, EXTENT, i, FREE),
		WRONG(ext->link[ext->free], ext->free, EXTENT, i, FREE),
		MISCOUNTED(ext->free, SYN_FRAME_INDEX(host), EXTENT, i, TWICE),
		WRONG(ext->nr_used, 1, EXTENT, i, USED),
		MISCOUNTED(ext->nr_loose, 0, EXTENT, i, LIST),
		WRONG(ext->nr_told, 9, EXTENT, i, MAPPED),
	};

	DAMAGE_ALL(f, all);
}

static void test_pool(void **state)
{
	struct fixture *f = *state;
	const uint32_t i = page_of(f, RESIDENT)->pool;
	struct syn_pool *pool = f->mm->pool[i];
	struct syn_pool *host = pool->below[0][SYN_CODEC_RAW16];
	struct syn_pool *nvme = pool->below[1][SYN_CODEC_RAW16];
	const struct damage all[] = {
		WRONG(pool->nr_extents, 0, POOL, i, EXTENTS),
		WRONG(pool->nr_frames, 0, POOL, i, NUMBER),
		WRONG(pool->nr_free, 0, POOL, i, FREE),
		MISCOUNTED(pool->nr_users, 0, POOL, i, USERS),
		MISCOUNTED(pool->going, 99, POOL, i, GOING),
		MISCOUNTED(pool->moves, 99, POOL, i, REQUEST),
		MISCOUNTED(pool->guaranteed, 1, POOL, i, SLOTS),
		MISCOUNTED(pool->cached.nr, 99, POOL, i, LIST),
		MISCOUNTED(host->list[SYN_LIST_LEASED].nr, 99, POOL,
			   host->index, LIST),
		MISCOUNTED(host->nr_users, 9, POOL, host->index, USERS),
		MISCOUNTED(nvme->cutting, 9, POOL, nvme->index, REQUEST),
	};

	DAMAGE_ALL(f, all);
}

static void test_total(void **state)
{
	struct fixture *f = *state;
	struct syn_mm *mm = f->mm;
	const struct damage all[] = {
		WRONG(mm->rec_domain[0].state, SYN_DOMAIN_FREE, PAGE,
		      f->page[RESIDENT], REFERENCE),
		WRONG(mm->domain[0].used[0], 0, DOMAIN, 0, BYTES),
		WRONG(mm->domain[0].used[1], 0, DOMAIN, 0, BYTES),
		MISCOUNTED(mm->domain[0].used[2], 0, DOMAIN, 0, BYTES),
		MISCOUNTED(mm->domain[0].nr_sessions, 0, DOMAIN, 0, USERS),
		WRONG(mm->domain[9].used[1], 1, DOMAIN, 9, STATE),
		WRONG(mm->tier[1].extent_bytes, 0, TIER, 2, BYTES),
		WRONG(mm->tier[1].used_bytes, 0, TIER, 2, USED),
		WRONG(mm->tier[1].nr_extents, 0, TIER, 2, EXTENTS),
		WRONG(mm->tier[1].nr_empty, 9, TIER, 2, FREE),
		WRONG(mm->tier[0].budget_bytes, 1, TIER, 1, BYTES),
		MISCOUNTED(mm->tier[0].quarantine_bytes, 0, MANAGER, 0, BYTES),
		MISCOUNTED(mm->nr_pages, 0, MANAGER, 0, NUMBER),
		MISCOUNTED(mm->nr_lessees, 0, MANAGER, 0, NUMBER),
		MISCOUNTED(mm->nr_sessions, 0, MANAGER, 0, NUMBER),
		MISCOUNTED(mm->count.nr_sealed, 0, MANAGER, 0, STATE),
		MISCOUNTED(mm->count.nr_quarantined, 0, MANAGER, 0, WAITING),
		MISCOUNTED(mm->count.swap_retired, 9, MANAGER, 0, USED),
	};

	DAMAGE_ALL(f, all);
}

/* Lists that lose a record, and lists without an end. */
static void test_free_lists(void **state)
{
	struct fixture *f = *state;
	struct syn_mm *mm = f->mm;
	const uint32_t page = f->page[FREED];
	const uint32_t run = mm->sum_free[0];
	const uint32_t second = mm->move_next[mm->move_free];
	const struct damage all[] = {
		MISCOUNTED(mm->page_free, SYN_NONE, PAGE, SYN_NONE, FREE),
		MISCOUNTED(mm->page[page].lessee, page, PAGE, page, FREE),
		MISCOUNTED(mm->page_free, f->page[HOST], PAGE, f->page[HOST],
			   FREE),
		MISCOUNTED(mm->lessee_free, SYN_NONE, LESSEE, SYN_NONE, FREE),
		MISCOUNTED(mm->move_free, SYN_NONE, MOVE, SYN_NONE, FREE),
		MISCOUNTED(mm->move_next[mm->move_free], mm->move_free, MOVE,
			   mm->move_free, FREE),
		MISCOUNTED(mm->move_next[second], mm->move_free, MOVE, second,
			   FREE),
		MISCOUNTED(mm->swap_free, 999, SWAP, SYN_NONE, FREE),
		MISCOUNTED(mm->quarantine_free, quarantined(f), QUARANTINE,
			   quarantined(f), FREE),
		MISCOUNTED(mm->sum_free[0], SYN_NONE, SUMS, run, USERS),
		MISCOUNTED(mm->sums[run], 3, SUMS, 3, REFERENCE),
		MISCOUNTED(mm->sums[run], run, SUMS, run, TWICE),
	};

	DAMAGE_ALL(f, all);
}

static uint64_t fsck_found(struct fixture *f)
{
	struct syn_fsck *fsck;
	uint64_t found;

	assert_int_equal(syn_fsck_new(f->mm, &fsck), 0);
	while (syn_fsck_step(fsck, SYN_FSCK_STEP))
		;
	found = syn_fsck_found(fsck);
	assert_null(syn_fsck_free(fsck));
	return found;
}

/* Every bit of a record: whatever it says then, it is not trusted. */
static void flip_all(struct fixture *f, const char *what, void *records,
		     size_t bytes)
{
	unsigned char *at = records;
	size_t named = 0;
	size_t i;

	for (i = 0; i < bytes * 8; i++) {
		at[i / 8] ^= (unsigned char)(1u << (i % 8));
		named += fsck_found(f) != 0;
		at[i / 8] ^= (unsigned char)(1u << (i % 8));
	}
	print_message("%s: %zu of %zu bits named\n", what, named, bytes * 8);
	assert_true(named > bytes * 8 / 4);
}

static void test_every_bit(void **state)
{
	struct fixture *f = *state;
	struct syn_mm *mm = f->mm;
	const uint32_t m = moving(f);
	const uint32_t w = swapping(f);
	const uint32_t q = quarantined(f);
	const uint32_t i = f->page[RESIDENT];
	const uint32_t l = f->lessee[RESIDENT];

	flip_all(f, "page", &mm->page[i], sizeof(mm->page[i]));
	flip_all(f, "lessee", &mm->lessee[l], sizeof(mm->lessee[l]));
	flip_all(f, "move", &mm->move[m], sizeof(mm->move[m]));
	flip_all(f, "request", &mm->swap[w], sizeof(mm->swap[w]));
	flip_all(f, "quarantine", &mm->quarantine[q],
		 sizeof(mm->quarantine[q]));
	flip_all(f, "extent", &mm->rec_extent[0], sizeof(mm->rec_extent[0]));
	flip_all(f, "links", &mm->links[i], sizeof(mm->links[i]));
	world_audit(&f->world);
}

static struct syn_fsck *fsck_begin(struct fixture *f)
{
	struct syn_fsck *fsck;

	assert_int_equal(syn_fsck_new(f->mm, &fsck), 0);
	return fsck;
}

/* Something was done since the walk began; nothing is found in any case. */
static bool fsck_moved(struct syn_fsck *fsck)
{
	uint64_t found;

	while (syn_fsck_step(fsck, 4096))
		;
	found = syn_fsck_found(fsck);
	assert_null(syn_fsck_free(fsck));
	assert_true(SYN_FSCK_FOUND(found) == 0);
	return found & SYN_FSCK_MOVED;
}

/* Whatever changes what is counted is noticed, and the order of lists is not. */
static void test_moved(void **state)
{
	struct fixture *f = *state;
	struct syn_vec_advise advice = {
		.handle = f->handle[RESIDENT],
		.advice = SYN_ADVISE_COLD,
	};
	struct syn_fsck *fsck = fsck_begin(f);
	struct client other;
	uint64_t handle;

	assert_int_equal(syn_mm_advise(f->session, &advice, 1), 0);
	assert_false(fsck_moved(fsck));
	fsck = fsck_begin(f);
	assert_int_equal(client_lease(&f->client, 0, 1, &handle), 0);
	assert_true(fsck_moved(fsck));
	fsck = fsck_begin(f);
	assert_int_equal(client_commit(&f->client, handle, 128), 0);
	assert_true(fsck_moved(fsck));
	fsck = fsck_begin(f);
	assert_int_equal(client_seal(&f->client, handle, RESIDENT + 1, 0),
			 SYN_E_DUP);
	assert_true(fsck_moved(fsck));
	fsck = fsck_begin(f);
	client_open(&other, &f->world, 1);
	assert_true(fsck_moved(fsck));
	client_close(&other);
}

/* Each allocation fails in turn. */
static void test_no_memory(void **state)
{
	struct fixture *f = *state;
	struct syn_fsck *fsck = NULL;
	unsigned int nth = 0;
	int r;

	do {
		syn_fault_arm(++nth);
		r = syn_fsck_new(f->mm, &fsck);
		assert_int_equal(syn_fault_disarm(), r != 0);
		assert_true(!r || (r == -ENOMEM && !fsck));
	} while (r);
	assert_true(nth > 5);
	assert_null(syn_fsck_free(fsck));
	assert_null(syn_fsck_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_where, setup, teardown),
		cmocka_unit_test_setup_teardown(test_index, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lessee, setup, teardown),
		cmocka_unit_test_setup_teardown(test_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_session, setup, teardown),
		cmocka_unit_test_setup_teardown(test_extent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pool, setup, teardown),
		cmocka_unit_test_setup_teardown(test_total, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_lists, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_every_bit, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup,
						teardown),
	};

	return test_main(tests);
}
