/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that dies, and the next one. */
#include "test/unit/core-crash.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/kept.h"
#include "kernels/copy-job.h"

#define ARENA_BYTES (1ull << 30)
#define ARENA_ALIGN 64u
#define DEV_QUEUE   SYN_MOVES_MAX

struct crash_count crash_count;
void (*crash_adopting)(struct world *w);
void (*crash_adopted)(struct world *w);

static uint64_t crash_seed;

static uint64_t crash_random(uint64_t below)
{
	crash_seed ^= crash_seed << 13;
	crash_seed ^= crash_seed >> 7;
	crash_seed ^= crash_seed << 17;
	return (crash_seed >> 20) % below;
}

/* ---- the heap ----------------------------------------------------------- */

static char *arena;
static size_t arena_used;
static bool arena_on;

void *__real_syn_alloc(size_t nr, size_t size);
void __real_free(void *p);
void *__wrap_syn_alloc(size_t nr, size_t size);
void __wrap_free(void *p);

/* The linker has core's calls come here. */
void *__wrap_syn_alloc(size_t nr, size_t size)
{
	void *p = arena + arena_used;

	if (!arena_on)
		return __real_syn_alloc(nr, size);
	if (syn_fault())
		return NULL;
	arena_used += syn_align_up(nr * size, ARENA_ALIGN);
	assert_true(arena_used <= ARENA_BYTES);
	return p;
}

void __wrap_free(void *p)
{
	if ((char *)p < arena || (char *)p >= arena + ARENA_BYTES)
		__real_free(p);
}

static void arena_reset(void)
{
	(void)madvise(arena, syn_align_up(arena_used, 4096), MADV_DONTNEED);
	arena_used = 0;
}

static void arena_open(void)
{
	arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(arena != MAP_FAILED);
	arena_on = true;
}

static void arena_close(void)
{
	arena_on = false;
	arena_used = 0;
	assert_int_equal(munmap(arena, ARENA_BYTES), 0);
	arena = NULL;
}

/* ---- the device --------------------------------------------------------- */

/**
 * struct crash_dev - a device and, in one, the keeper.
 * @dev:	what core sees.
 * @mem:	extents by id; bytes is 0: there is none.
 * @taken:	the worker that runs has it.
 * @gone:	the keeper has lost it ...
 * @lost:	... so that it did not come back after this death.
 * @queue:	copies that were submitted ...
 * @nr:		... so many.
 */
static struct crash_dev {
	struct syn_dev dev;
	struct syn_mem mem[SYN_EXTENTS_MAX];
	bool taken[SYN_EXTENTS_MAX];
	bool gone[SYN_EXTENTS_MAX];
	bool lost[SYN_EXTENTS_MAX];
	struct syn_copy queue[DEV_QUEUE];
	unsigned int nr;
} crash_dev;

static int crash_mem_new(struct syn_dev *dev, uint32_t id, uint32_t tier,
			 uint64_t bytes, struct syn_mem *ret)
{
	struct syn_mem *mem = &crash_dev.mem[id];

	assert_int_equal(mem->bytes, 0);
	*mem = (struct syn_mem){ .id = id, .tier = tier, .bytes = bytes };
	mem->fd = memfd_create("crash", MFD_CLOEXEC);
	assert_true(mem->fd >= 0);
	assert_int_equal(ftruncate(mem->fd, (off_t)bytes), 0);
	mem->addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			 mem->fd, 0);
	assert_true(mem->addr != MAP_FAILED);
	crash_dev.taken[id] = true;
	crash_dev.gone[id] = false;
	*ret = *mem;
	return 0;
}

static void crash_mem_free(struct syn_dev *dev, struct syn_mem *mem)
{
	struct syn_mem *own = &crash_dev.mem[mem->id];

	assert_int_equal(munmap(own->addr, own->bytes), 0);
	(void)close(own->fd);
	*own = (struct syn_mem){ 0 };
	crash_dev.taken[mem->id] = false;
}

void crash_lose_extent(uint32_t id)
{
	struct syn_mem mem = { .id = id };

	crash_mem_free(&crash_dev.dev, &mem);
	crash_dev.gone[id] = true;
}

static uint32_t crash_loses; /* one of so many */
static int crash_error;
static bool snapshot_tells(uint32_t id);

void crash_lose_some(uint32_t one_in)
{
	crash_loses = one_in;
}

void crash_adopt_error(int error)
{
	crash_error = error;
}

/* Rather one that somebody is being told of. */
static bool loses(uint32_t id)
{
	return crash_loses &&
	       crash_random(snapshot_tells(id) ? 2 : crash_loses) == 0;
}

static int crash_mem_adopt(struct syn_dev *dev, uint32_t id, uint32_t tier,
			   uint64_t bytes, struct syn_mem *ret)
{
	const struct syn_mem *mem = &crash_dev.mem[id];
	int r = crash_error;

	crash_error = 0;
	if (mem->bytes && loses(id))
		crash_lose_extent(id);
	if (!r && crash_dev.gone[id])
		r = -ENOENT;
	if (r) {
		crash_dev.lost[id] = syn_mem_is_lost(r);
		crash_count.lost += crash_dev.lost[id];
		return r;
	}
	assert_int_equal(mem->bytes, bytes);
	assert_int_equal(mem->tier, tier);
	crash_dev.taken[id] = true;
	*ret = *mem;
	return 0;
}

static int crash_copy(struct syn_dev *dev, const struct syn_copy *vec,
		      unsigned int nr)
{
	assert_true(crash_dev.nr + nr <= DEV_QUEUE);
	for (unsigned int i = 0; i < nr; i++) {
		assert_true(syn_copy_is_sane(&vec[i]));
		crash_dev.queue[crash_dev.nr++] = vec[i];
	}
	return 0;
}

static struct syn_copy copy_take(void)
{
	unsigned int i = (unsigned int)crash_random(crash_dev.nr);
	struct syn_copy copy = crash_dev.queue[i];

	crash_dev.queue[i] = crash_dev.queue[--crash_dev.nr];
	return copy;
}

static int copy_do(const struct syn_copy *copy)
{
	struct syn_copy_job job = {
		.dst = (char *)copy->dst->addr + copy->dst_off,
		.src = (const char *)copy->src->addr + copy->src_off,
		.copy = *copy,
	};

	syn_copy_job_cut(&job, true);
	return syn_copy_job_task(&job, 0);
}

/* Not always at once. */
static unsigned int crash_reap(struct syn_dev *dev, struct syn_copy_done *ret,
			       unsigned int max)
{
	unsigned int nr = 0;

	while (nr < max && crash_dev.nr && (!nr || crash_random(3))) {
		struct syn_copy copy = copy_take();

		ret[nr].cookie = copy.cookie;
		ret[nr++].status = copy_do(&copy);
	}
	return nr;
}

static int crash_event_fd(struct syn_dev *dev)
{
	return -1;
}

static void crash_dev_close(struct syn_dev *dev)
{
}

static const struct syn_dev_ops crash_dev_ops = {
	.name = "crash",
	.close = crash_dev_close,
	.mem_new = crash_mem_new,
	.mem_adopt = crash_mem_adopt,
	.mem_free = crash_mem_free,
	.copy = crash_copy,
	.reap = crash_reap,
	.event_fd = crash_event_fd,
};

/* Copies end with their process: done, not begun, or half done. */
static void dev_kill(void)
{
	while (crash_dev.nr) {
		struct syn_copy copy = copy_take();
		uint64_t bytes = copy.encode ? syn_layout_bytes(copy.encode)
					     : copy.bytes;

		switch (crash_random(3)) {
		case 0:
			(void)copy_do(&copy);
			break;
		case 1:
			memset((char *)copy.dst->addr + copy.dst_off, 0x5a,
			       crash_random(bytes));
			break;
		}
	}
	memset(crash_dev.taken, 0, sizeof(crash_dev.taken));
}

void crash_drop_extents(void)
{
	for (uint32_t i = 0; i < SYN_EXTENTS_MAX; i++)
		if (crash_dev.mem[i].bytes && !crash_dev.taken[i])
			crash_mem_free(&crash_dev.dev, &crash_dev.mem[i]);
}

/* ---- what must be found again ------------------------------------------- */

static uint32_t count_pins(const struct client *c)
{
	uint32_t nr = 0;
	uint32_t i;

	for (i = 0; i < CLIENT_PAGES; i++)
		nr += !!SYN_PIN_COUNT(c->pin[i]);
	return nr;
}

static uint32_t count_loans(const struct client *c)
{
	uint32_t nr = 0;
	uint32_t i;

	for (i = 0; i < SYN_LOANS_MAX; i++)
		nr += c->loan[i].state == SYN_LOAN_OUT;
	return nr;
}

static void count_requests(const struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < SYN_MOVES_MAX; i++) {
		crash_count.moves += mm->move[i].state != SYN_MOVE_FREE;
		crash_count.copies += mm->move[i].state == SYN_MOVE_COPY;
	}
	for (i = 0; i < SYN_SWAPS_MAX; i++)
		crash_count.swaps += mm->swap[i].state != SYN_SWAP_FREE;
	for (i = 0; i < mm->head->max_quarantine; i++)
		crash_count.quarantined +=
			mm->quarantine[i].state != SYN_QUARANTINE_FREE;
	crash_count.redos += mm->redo->state != SYN_REDO_NONE;
}

static void count_seals(const struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->head->max_pages; i++)
		crash_count.seals += mm->page[i].state == SYN_PAGE_SEALED &&
				     (mm->page[i].flags &
				      (SYN_PAGE_F_KEYED | SYN_PAGE_F_READY)) ==
					     SYN_PAGE_F_KEYED;
}

/* Kept memory as it was found, and what it says. */
static struct snapshot {
	struct syn_mm mm;
	void *kept;
	uint64_t bytes;
} snapshot;

static void snapshot_take(const struct world *w)
{
	memcpy(snapshot.kept, w->kept, snapshot.bytes);
	memset(crash_dev.lost, 0, sizeof(crash_dev.lost));
}

static bool snapshot_tells(uint32_t id)
{
	uint32_t i;

	for (i = 0; i < snapshot.mm.cfg.max_sessions; i++)
		if (snapshot.mm.rec_session[i].telling == id + 1)
			return true;
	return false;
}

static bool snapshot_there(const struct world *w, uint32_t session)
{
	return w->mm->session[session];
}

static bool extent_stands(uint32_t id)
{
	return !crash_dev.lost[id] &&
	       snapshot.mm.rec_extent[id].state != SYN_EXTENT_LOST;
}

static bool slot_stands(const struct syn_rec_page *pg)
{
	uint32_t i;

	for (i = 0; i < SYN_EXTENTS_MAX; i++) {
		const struct syn_rec_extent *rec = &snapshot.mm.rec_extent[i];

		if (rec->state != SYN_EXTENT_FREE &&
		    rec->tier == SYN_TIER_HBM && rec->domain == pg->domain &&
		    rec->space == pg->space &&
		    rec->plane == syn_slot_plane(pg->slot) &&
		    rec->ordinal == SYN_SLOT_INDEX(pg->slot) / rec->nr_frames)
			return extent_stands(i);
	}
	fail_msg("slot %u has no extent", pg->slot);
	return false;
}

/* What was meant of it is done. */
static struct syn_rec_page snapshot_page(uint32_t i)
{
	const struct syn_rec_redo *redo = snapshot.mm.redo;
	const struct syn_rec_move *move = &snapshot.mm.move[redo->move];
	struct syn_rec_page pg = snapshot.mm.page[i];

	if (redo->state == SYN_REDO_ENCODED && move->page == i) {
		pg.flags |= SYN_PAGE_F_HOST;
		pg.host = move->host;
		pg.codec = SYN_CODEC_H4;
	}
	return pg;
}

/* Its bytes are in one place at least from which it can go on. */
static bool page_stands(const struct syn_rec_page *pg)
{
	if (pg->flags & SYN_PAGE_F_NVME)
		return true;
	if (pg->flags & SYN_PAGE_F_HOST &&
	    extent_stands(SYN_FRAME_EXTENT(pg->host)))
		return true;
	return pg->flags & SYN_PAGE_F_HBM && pg->codec == SYN_CODEC_RAW16 &&
	       slot_stands(pg);
}

/* Of one that is being filled from a frame that is lost nothing is certain. */
static bool page_is_filled(const struct syn_rec_page *pg)
{
	return pg->flags & SYN_PAGE_F_FILLING && pg->flags & SYN_PAGE_F_HOST &&
	       !extent_stands(SYN_FRAME_EXTENT(pg->host));
}

/* Nobody reads it any more, and it says why. */
static void check_page_lost(const struct syn_rec_page *was,
			    const struct syn_rec_page *is)
{
	if (is->state == SYN_PAGE_FREE || is->generation != was->generation)
		return;
	assert_int_equal(is->state, SYN_PAGE_LOST);
	assert_true(is->advice & SYN_PAGE_DEVICE);
	assert_false(is->flags & (SYN_PAGE_F_HOST | SYN_PAGE_F_NVME));
}

/* A page with a key has it still, unless it was lost or never became ready. */
static void check_page(const struct world *w, uint32_t i)
{
	const struct syn_rec_page snap = snapshot_page(i);
	const struct syn_rec_page *was = &snap;
	const struct syn_rec_page *is = &w->mm->page[i];

	if (was->state == SYN_PAGE_FREE || was->state == SYN_PAGE_LOST ||
	    !(was->flags &
	      (SYN_PAGE_F_HBM | SYN_PAGE_F_HOST | SYN_PAGE_F_NVME)) ||
	    page_is_filled(was))
		return;
	if (!page_stands(was)) {
		check_page_lost(was, is);
		return;
	}
	if (!(was->flags & SYN_PAGE_F_KEYED))
		return;
	if (!(was->flags & SYN_PAGE_F_READY) &&
	    (!snapshot_there(w, was->ready_session) ||
	     w->mm->session[was->ready_session]->ended))
		return;
	assert_int_equal(is->state, SYN_PAGE_SEALED);
	assert_true(is->flags & SYN_PAGE_F_KEYED);
	assert_memory_equal(is->key, was->key, sizeof(is->key));
	assert_int_equal(is->generation, was->generation);
}

static bool was_given(uint32_t lessee)
{
	const struct syn_rec_request *r = &snapshot.mm.head->request;
	uint32_t i;

	for (i = 0; r->state == SYN_REQUEST_BEGUN && i < r->nr_given; i++)
		if (r->given[i] == lessee)
			return true;
	return false;
}

/* A lease stands, on the same page, unless nobody was told of it. */
static void check_lessee(const struct world *w, uint32_t i)
{
	const struct syn_rec_lessee *was = &snapshot.mm.lessee[i];
	const struct syn_rec_lessee *is = &w->mm->lessee[i];

	if (!was->flags || was->flags & SYN_LESSEE_GONE || was_given(i) ||
	    !snapshot_there(w, was->session) ||
	    w->mm->session[was->session]->ended)
		return;
	assert_true(is->flags & SYN_LESSEE_USED);
	assert_false(is->flags & SYN_LESSEE_GONE);
	assert_int_equal(is->page, was->page);
	assert_int_equal(is->session, was->session);
	assert_int_equal(is->pte, was->pte);
	assert_int_equal(is->generation, was->generation);
}

static void snapshot_check(const struct world *w)
{
	uint32_t i;

	for (i = 0; i < w->mm->head->max_pages; i++)
		check_page(w, i);
	for (i = 0; i < w->mm->head->max_lessees; i++)
		check_lessee(w, i);
}

/* ---- the next worker ---------------------------------------------------- */

static struct world *crash_world;
static struct syn_simdisk *crash_sim;

static void die(void)
{
	struct world *w = crash_world;

	assert_true(w->guarded);
	w->guarded = false;
	_longjmp(w->env, 1);
}

void crash_arm(const struct syn_failpoint *point, uint64_t nth)
{
	syn_failpoint_arm(point, nth, die);
}

static void count_astray(const struct world *w)
{
	uint32_t s;
	uint32_t i;

	for (s = 0; s < w->config.max_sessions; s++)
		for (i = 0; w->mm->session[s] && i < SYN_LOANS_MAX; i++)
			crash_count.astray +=
				!syn_bit_test(w->mm->session[s]->loans_free,
					      i) &&
				w->mm->session[s]->loan_page[i] == SYN_NONE;
}

static void count_death(const struct world *w)
{
	uint32_t i;

	crash_count.deaths++;
	count_requests(&snapshot.mm);
	count_seals(&snapshot.mm);
	for (i = 0; i < WORLD_CLIENTS; i++) {
		if (!w->client[i])
			continue;
		crash_count.pins += count_pins(w->client[i]);
		crash_count.loans += count_loans(w->client[i]);
	}
}

static struct client *client_of(const struct world *w, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < WORLD_CLIENTS; i++)
		if (w->client[i] && w->client[i]->id == id)
			return w->client[i];
	return NULL;
}

/* Everything of the old one goes. */
static void worker_end(struct world *w)
{
	uint32_t i;

	dev_kill();
	if (w->disk)
		syn_simdisk_kill(crash_sim);
	arena_reset();
	w->mm = NULL;
	for (i = 0; i < WORLD_CLIENTS; i++)
		if (w->client[i])
			w->client[i]->session = NULL;
}

/* Of a process that has exited, nobody may have kept the segments. */
static void sessions_adopt(struct world *w)
{
	struct syn_session_config config;
	uint32_t at = 0;

	while (syn_mm_session_next(w->mm, &at, &config)) {
		struct client *c = client_of(w, config.id);

		assert_non_null(c);
		if (c->exited && crash_random(2)) {
			crash_count.gone++;
			continue;
		}
		assert_int_equal(client_adopt(c), 0);
	}
}

static void request_adopt(struct world *w)
{
	uint32_t session;
	uint64_t cookie;

	if (!syn_mm_at_hand(w->mm, &session, &cookie))
		return;
	assert_int_equal(cookie, w->cookie);
	if (w->answered)
		syn_mm_end(w->mm);
	crash_count.answered += w->answered;
	crash_count.again += !w->answered;
}

void crash_die(struct world *w)
{
	worker_end(w);
	if (crash_sim)
		assert_int_equal(syn_simdisk_open(crash_sim, &w->disk), 0);
	w->config.disk = w->disk;
}

/* It had not begun; then there is nothing of anybody. */
static void worker_anew(struct world *w)
{
	memset(w->kept, 0, syn_mm_kept_bytes(&w->config));
	assert_int_equal(syn_mm_new(&w->mm, &w->config), 0);
	crash_drop_extents();
}

static void worker_begin(struct world *w)
{
	struct syn_misfit misfit;
	int r;

	crash_die(w);
	r = syn_mm_adopt(&w->mm, &w->config, &misfit);
	if (r == -ENODATA) {
		worker_anew(w);
		return;
	}
	assert_int_equal(r, 0);
	crash_drop_extents();
	sessions_adopt(w);
	request_adopt(w);
	assert_int_equal(syn_mm_adopted(w->mm), 0);
	w->mm->now_ns = w->now_ns;
}

static void worker_next(struct world *w)
{
	crash_arm(NULL, 0);
	if (crash_adopting)
		crash_adopting(w);
	w->guarded = true;
	worker_begin(w);
	w->guarded = false;
	crash_arm(NULL, 0);
}

/* It may die, too; what it must find is what the first one left. */
static void world_recover(struct world *w)
{
	snapshot_take(w);
	count_death(w);
	while (_setjmp(w->env)) {
		crash_count.deaths++;
		crash_count.adopting++;
	}
	worker_next(w);
	snapshot_check(w);
	world_audit(w);
	count_astray(w);
	if (crash_adopted)
		crash_adopted(w);
}

/* ---- the world ---------------------------------------------------------- */

static void snapshot_open(const struct world *w)
{
	snapshot.bytes = syn_mm_kept_bytes(&w->config);
	snapshot.kept = malloc(snapshot.bytes);
	assert_non_null(snapshot.kept);
	snapshot.mm.cfg = w->config;
	snapshot.mm.cfg.kept = snapshot.kept;
	syn_kept_carve(&snapshot.mm);
}

void crash_world_open(struct world *w, struct syn_mm_config *config,
		      struct syn_simdisk *sim, uint64_t seed)
{
	uint32_t i;

	*w = (struct world){ .now_ns = 1000000000, .next_id = 1 };
	for (i = 0; i < SYN_QUOTA_TIERS; i++)
		w->quota[i] = SYN_QUOTA_FREE;
	crash_seed = seed;
	crash_world = w;
	crash_sim = sim;
	crash_dev = (struct crash_dev){ .dev = { .ops = &crash_dev_ops,
						 .granule = 4096 } };
	if (sim)
		assert_int_equal(syn_simdisk_open(sim, &w->disk), 0);
	arena_open();
	w->dev = &crash_dev.dev;
	w->kept = calloc(1, syn_mm_kept_bytes(config));
	assert_non_null(w->kept);
	config->kept = w->kept;
	config->dev = w->dev;
	config->disk = w->disk;
	w->config = *config;
	w->recover = world_recover;
	snapshot_open(w);
	world_do(w, if (!w->mm) w->result = syn_mm_new(&w->mm, config));
	assert_int_equal(w->result, 0);
}

void crash_world_close(struct world *w)
{
	uint32_t i;

	free(snapshot.kept);
	for (i = 0; i < SYN_EXTENTS_MAX; i++)
		assert_int_equal(crash_dev.mem[i].bytes, 0);
	arena_close();
}
