/* SPDX-License-Identifier: Apache-2.0 */
/* Extents: memory of the device, who maps it, and how it is given back. */
#include "core/extent.h"

#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/base/failpoint.h"
#include "core/base/fault.h"
#include "core/domain.h"
#include "core/kept.h"
#include "core/request.h"

static uint32_t extent_id(struct syn_mm *mm)
{
	uint32_t n;

	for (n = 0; n < SYN_EXTENTS_MAX; n++) {
		uint32_t id = (mm->head->extent_cursor + n) % SYN_EXTENTS_MAX;

		if (mm->extent[id])
			continue;
		syn_commit(&mm->head->extent_cursor, id + 1);
		return id;
	}
	return SYN_NONE;
}

void syn_extent_release(struct syn_extent *ext)
{
	free(ext->link);
	free(ext->back);
	free(ext->owner);
	free(ext);
}

static struct syn_extent *extent_alloc(const struct syn_pool *pool)
{
	struct syn_extent *ext = syn_alloc(1, sizeof(*ext));
	bool below = pool->tier != SYN_TIER_HBM;
	bool host = pool->tier == SYN_TIER_HOST;
	uint32_t nr = pool->extent_frames;

	if (!ext)
		return NULL;
	ext->link = syn_alloc(nr, sizeof(*ext->link));
	if (below)
		ext->back = syn_alloc(nr, sizeof(*ext->back));
	if (host)
		ext->owner = syn_alloc(nr, sizeof(*ext->owner));
	if (!ext->link || (below && !ext->back) || (host && !ext->owner)) {
		syn_extent_release(ext);
		return NULL;
	}
	ext->nr_frames = nr;
	if (host)
		memset(ext->owner, 0xff, nr * sizeof(*ext->owner));
	syn_extent_relink(ext);
	return ext;
}

static void extent_record(struct syn_mm *mm, const struct syn_extent *ext)
{
	const struct syn_pool *pool = ext->pool;
	struct syn_rec_extent *rec = &mm->rec_extent[ext->mem.id];

	*rec = (struct syn_rec_extent){
		.tier = (uint16_t)pool->tier,
		.plane = (uint16_t)pool->plane,
		.domain = pool->domain,
		.space = pool->space,
		.ordinal = ext->ordinal,
		.nr_frames = ext->nr_frames,
		.frame_bytes = pool->frame_bytes,
		.bytes = ext->mem.bytes,
		.seq = ext->seq,
	};
	syn_commit(&rec->state, pool->tier == SYN_TIER_NVME ? SYN_EXTENT_CUTTING
							    : SYN_EXTENT_LIVE);
}

/* Its frames count from now on. */
static void extent_admit(struct syn_mm *mm, struct syn_extent *ext)
{
	struct syn_pool *pool = ext->pool;

	ext->retiring = false;
	syn_tier_of(mm, pool->tier)->nr_empty += !ext->nr_used;
	pool->nr_frames += ext->nr_frames;
	pool->nr_free += ext->nr_frames - ext->nr_used;
	if (ext->nr_used < ext->nr_frames)
		syn_list_add_tail(&pool->with_free, &ext->in_free);
}

static void extent_publish(struct syn_mm *mm, struct syn_extent *ext)
{
	struct syn_pool *pool = ext->pool;
	struct syn_tier_state *tier = syn_tier_of(mm, pool->tier);

	mm->extent[ext->mem.id] = ext;
	tier->extent_bytes += pool->extent_bytes;
	tier->nr_extents++;
	syn_list_init(&ext->in_pool);
	syn_list_init(&ext->in_free);
	syn_list_add_tail(&pool->extents, &ext->in_pool);
	pool->nr_extents++;
	if (pool->ordinal)
		pool->ordinal[ext->ordinal] = ext;
	ext->retiring = true;
}

static void mem_free(struct syn_mm *mm, struct syn_mem *mem)
{
	if (mem->tier == SYN_TIER_HOST && mm->disk)
		mm->disk->ops->mem_del(mm->disk, mem);
	mm->dev->ops->mem_free(mm->dev, mem);
}

/* None of the device's. */
static void mem_none(const struct syn_pool *pool, uint32_t id,
		     struct syn_mem *ret)
{
	*ret = (struct syn_mem){
		.id = id,
		.tier = pool->tier,
		.fd = -1,
		.bytes = pool->extent_bytes,
		.node = -1,
	};
}

/* It is the device's: the disk gets to know it, too. */
static int mem_add(struct syn_mm *mm, struct syn_mem *mem)
{
	int r;

	if (mem->tier != SYN_TIER_HOST || !mm->disk)
		return 0;
	r = mm->disk->ops->mem_add(mm->disk, mem);
	if (r)
		mm->dev->ops->mem_free(mm->dev, mem);
	return r;
}

static int mem_new(struct syn_mm *mm, const struct syn_pool *pool, uint32_t id,
		   struct syn_mem *ret)
{
	int r;

	if (pool->tier == SYN_TIER_NVME) {
		mem_none(pool, id, ret);
		return 0;
	}
	r = mm->dev->ops->mem_new(mm->dev, id, pool->tier, pool->extent_bytes,
				  ret);
	return r ? r : mem_add(mm, ret);
}

/* In the swap file domains are charged for slots. */
static int extent_charge(struct syn_mm *mm, const struct syn_pool *pool)
{
	if (pool->tier == SYN_TIER_NVME)
		return 0;
	return syn_domain_charge(mm, pool->domain, pool->tier,
				 pool->extent_bytes);
}

static void extent_uncharge(struct syn_mm *mm, const struct syn_pool *pool)
{
	if (pool->tier != SYN_TIER_NVME)
		syn_domain_uncharge(mm, pool->domain, pool->tier,
				    pool->extent_bytes);
}

int syn_extent_new(struct syn_mm *mm, struct syn_pool *pool, uint32_t ordinal,
		   uint64_t seq, struct syn_extent **ret)
{
	uint32_t id = extent_id(mm);
	struct syn_extent *ext;
	int r;

	if (id == SYN_NONE)
		return -EDQUOT;
	r = extent_charge(mm, pool);
	if (r)
		return r;
	r = -ENOMEM;
	ext = extent_alloc(pool);
	if (!ext)
		goto uncharge;
	r = mem_new(mm, pool, id, &ext->mem);
	if (r)
		goto release;
	ext->pool = pool;
	ext->ordinal = ordinal;
	ext->seq = seq;
	extent_record(mm, ext);
	extent_publish(mm, ext);
	if (pool->tier != SYN_TIER_NVME)
		extent_admit(mm, ext);
	*ret = ext;
	return 0;

release:
	syn_extent_release(ext);
uncharge:
	extent_uncharge(mm, pool);
	return r;
}

#define EXTENT_USED (SYN_NONE - 1) /* link of a frame in use, not listed yet */

void syn_extent_use(struct syn_mm *mm, struct syn_extent *ext, uint32_t frame)
{
	ext->link[frame] = EXTENT_USED;
	ext->nr_used++;
	syn_tier_of(mm, ext->pool->tier)->used_bytes += ext->pool->frame_bytes;
}

bool syn_extent_is_used(const struct syn_extent *ext, uint32_t frame)
{
	return ext->link[frame] == EXTENT_USED;
}

void syn_extent_relink(struct syn_extent *ext)
{
	uint32_t i;

	ext->free = SYN_NONE;
	for (i = ext->nr_frames; i--;) {
		if (ext->link[i] == EXTENT_USED)
			continue;
		ext->link[i] = ext->free;
		ext->free = i;
	}
}

void syn_extent_open(struct syn_mm *mm, struct syn_extent *ext)
{
	syn_commit(&mm->rec_extent[ext->mem.id].state, SYN_EXTENT_LIVE);
	syn_extent_relink(ext);
	extent_admit(mm, ext);
	mm->progress = true;
}

void syn_extent_free(struct syn_mm *mm, struct syn_extent *ext)
{
	struct syn_tier_state *tier = syn_tier_of(mm, ext->pool->tier);
	struct syn_pool *pool = ext->pool;

	if (ext->draining)
		syn_extent_undrain(ext);
	if (!ext->retiring) {
		pool->nr_frames -= ext->nr_frames;
		pool->nr_free -= ext->nr_frames - ext->nr_used;
		tier->nr_empty -= !ext->nr_used;
	}
	extent_uncharge(mm, pool);
	tier->extent_bytes -= pool->extent_bytes;
	tier->nr_extents--;
	pool->nr_extents--;
	if (pool->ordinal)
		pool->ordinal[ext->ordinal] = NULL;
	syn_list_del(&ext->in_pool);
	syn_list_del(&ext->in_free);
	mm->extent[ext->mem.id] = NULL;
	syn_commit(&mm->rec_extent[ext->mem.id].state, SYN_EXTENT_FREE);
	if (pool->tier == SYN_TIER_NVME)
		mm->segment_used[ext->ordinal] = 0;
	else if (!ext->lost)
		mem_free(mm, &ext->mem);
	syn_extent_release(ext);
	mm->progress = true;
}

static uint32_t *extent_telling(const struct syn_session *session)
{
	return &session->mm->rec_session[session->index].telling;
}

static void extent_unwant(struct syn_session *session, uint32_t id)
{
	if (!syn_bit_clear(session->want, id))
		return;
	session->nr_want--;
	if (*extent_telling(session) == id + 1)
		syn_commit(extent_telling(session), 0);
}

void syn_extent_give_up(struct syn_session *session, uint32_t extent)
{
	if (!syn_bit_test(session->told, extent) || session->ended)
		return;
	syn_bit_set(session->give_up, extent);
	session->nr_give_up++;
}

void syn_extent_retire(struct syn_mm *mm, struct syn_extent *ext)
{
	struct syn_pool *pool = ext->pool;
	uint32_t id = ext->mem.id;
	uint32_t i;

	syn_commit(&mm->rec_extent[id].state, SYN_EXTENT_RETIRING);
	ext->retiring = true;
	pool->nr_frames -= ext->nr_frames;
	pool->nr_free -= ext->nr_frames;
	syn_tier_of(mm, pool->tier)->nr_empty--;
	syn_list_del(&ext->in_free);
	for (i = 0; i < mm->cfg.max_sessions; i++) {
		struct syn_session *s = mm->session[i];

		if (!s)
			continue;
		if (!syn_bit_test(s->told, id))
			extent_unwant(s, id);
		syn_extent_give_up(s, id);
	}
	if (!ext->nr_told)
		syn_extent_free(mm, ext);
}

void syn_extent_drain(struct syn_extent *ext)
{
	ext->draining = true;
	ext->pool->nr_frames -= ext->nr_frames;
	ext->pool->nr_free -= ext->nr_frames - ext->nr_used;
	syn_list_del(&ext->in_free);
}

void syn_extent_undrain(struct syn_extent *ext)
{
	struct syn_pool *pool = ext->pool;

	ext->draining = false;
	pool->nr_frames += ext->nr_frames;
	pool->nr_free += ext->nr_frames - ext->nr_used;
	if (ext->free != SYN_NONE)
		syn_list_add_tail(&pool->with_free, &ext->in_free);
}

static void extent_want(struct syn_session *session, uint32_t id)
{
	if (syn_bit_test(session->want, id))
		return;
	syn_bit_set(session->want, id);
	session->nr_want++;
}

void syn_extent_want(struct syn_session *session, const struct syn_extent *ext)
{
	uint32_t id = ext->mem.id;

	if (!syn_bit_test(session->told, id))
		extent_want(session, id);
}

/* @session does not map the extent any more. */
static void extent_unmapped(struct syn_session *session, uint32_t id)
{
	struct syn_extent *ext = session->mm->extent[id];

	if (syn_bit_clear(session->give_up, id))
		session->nr_give_up--;
	extent_unwant(session, id);
	(void)syn_bit_clear(session->giving_up, id);
	if (syn_kept_bit_clear(session->told, id) && !--ext->nr_told &&
	    ext->retiring)
		syn_extent_free(session->mm, ext);
}

void syn_extent_forget(struct syn_session *session)
{
	uint32_t id;

	for (id = 0; id < SYN_EXTENTS_MAX; id++)
		if (syn_bit_test(session->told, id))
			extent_unmapped(session, id);
}

struct syn_extent *syn_extent_of(const struct syn_mm *mm, uint32_t frame)
{
	struct syn_extent *ext;

	if (SYN_FRAME_EXTENT(frame) >= SYN_EXTENTS_MAX)
		return NULL;
	ext = mm->extent[SYN_FRAME_EXTENT(frame)];
	return ext && SYN_FRAME_INDEX(frame) < ext->nr_frames ? ext : NULL;
}

uint32_t syn_extent_mapped(const struct syn_mm *mm, uint32_t extent)
{
	uint32_t nr = 0;
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++)
		nr += mm->session[i] &&
		      syn_bit_test(mm->session[i]->told, extent);
	return nr;
}

static uint32_t extent_window(const struct syn_session *session,
			      const struct syn_pool *pool)
{
	if (pool->tier != SYN_TIER_HBM)
		return 0;
	return session->window_of[pool->space];
}

/* It is told of one at a time, and may map that from now on. */
static struct syn_extent *extent_tell(const struct syn_session *session)
{
	uint32_t *telling = extent_telling(session);

	if (!*telling)
		syn_commit(telling, syn_bit_first(session->want) + 1);
	return session->mm->extent[*telling - 1];
}

int syn_mm_extent_next(struct syn_session *session, struct syn_msg_extent *ret,
		       const struct syn_mem **ret_mem)
{
	const struct syn_extent *ext;

	if (!session->nr_want || session->ended)
		return 0;
	ext = extent_tell(session);
	*ret = (struct syn_msg_extent){
		.msg = { .magic = SYN_ABI_MAGIC,
			 .type = SYN_MSG_EXTENT,
			 .nr_fds = 1,
			 .size = sizeof(*ret) },
		.extent = ext->mem.id,
		.tier = ext->pool->tier,
		.window = extent_window(session, ext->pool),
		.first_slot =
			syn_slot_code(ext->pool, ext->ordinal * ext->nr_frames),
		.nr_frames = ext->nr_frames,
		.flags = ext->mem.handle ? SYN_EXTENT_F_HANDLE : 0,
		.frame_bytes = ext->pool->frame_bytes,
		.bytes = ext->mem.bytes,
	};
	*ret_mem = &ext->mem;
	return 1;
}

void syn_mm_extent_told(struct syn_session *session, uint32_t extent)
{
	if (extent >= SYN_EXTENTS_MAX || !syn_bit_test(session->want, extent))
		return;
	if (!syn_bit_test(session->told, extent)) {
		syn_kept_bit_set(session->told, extent);
		session->mm->extent[extent]->nr_told++;
	}
	extent_unwant(session, extent);
}

int syn_mm_retire_next(struct syn_session *session, uint32_t *ret_extent)
{
	if (!session->nr_give_up || session->ended)
		return 0;
	*ret_extent = syn_bit_first(session->give_up);
	return 1;
}

void syn_mm_retire_told(struct syn_session *session, uint32_t extent)
{
	if (extent >= SYN_EXTENTS_MAX ||
	    !syn_bit_clear(session->give_up, extent))
		return;
	session->nr_give_up--;
	syn_bit_set(session->giving_up, extent);
}

int syn_mm_retired(struct syn_session *session, uint64_t extent)
{
	if (extent >= SYN_EXTENTS_MAX)
		return -ENOENT;
	if (!syn_bit_test(session->giving_up, (uint32_t)extent))
		return syn_request_again(session->mm) ? 0 : -ENOENT;
	syn_request_certain(session->mm, 0);
	extent_unmapped(session, (uint32_t)extent);
	return 0;
}

/* ---- adoption ----------------------------------------------------------- */

/*
 * Lost memory stays lost, whatever the next worker could have of it.  All else that
 * goes wrong may go right another time.
 */
static int mem_adopt(struct syn_mm *mm, struct syn_extent *ext, uint32_t id)
{
	const struct syn_pool *pool = ext->pool;
	uint32_t *state = &mm->rec_extent[id].state;
	int r;

	mem_none(pool, id, &ext->mem);
	if (pool->tier == SYN_TIER_NVME)
		return 0;
	ext->lost = *state == SYN_EXTENT_LOST;
	if (ext->lost)
		return 0;
	r = mm->dev->ops->mem_adopt(mm->dev, id, pool->tier, pool->extent_bytes,
				    &ext->mem);
	ext->lost = syn_mem_is_lost(r);
	if (!ext->lost)
		return r ? r : mem_add(mm, &ext->mem);
	syn_commit(state, SYN_EXTENT_LOST);
	return 0;
}

/* As syn_extent_new(), of what is recorded; the quota was asked then. */
int syn_extent_adopt(struct syn_mm *mm, struct syn_pool *pool, uint32_t id)
{
	const struct syn_rec_extent *rec = &mm->rec_extent[id];
	struct syn_extent *ext;
	int r;

	if (rec->nr_frames != pool->extent_frames ||
	    rec->bytes != pool->extent_bytes)
		return -EINVAL;
	ext = extent_alloc(pool);
	if (!ext)
		return -ENOMEM;
	ext->pool = pool;
	r = mem_adopt(mm, ext, id);
	if (r) {
		syn_extent_release(ext);
		return r;
	}
	ext->ordinal = rec->ordinal;
	ext->seq = rec->seq;
	if (pool->tier == SYN_TIER_NVME)
		mm->segment_used[ext->ordinal] = 1;
	else
		mm->domain[pool->domain].used[pool->tier - SYN_TIER_HBM] +=
			pool->extent_bytes;
	extent_publish(mm, ext);
	return 0;
}

/*
 * Whoever has it mapped is told, perhaps again, and may have answered before.  One
 * that is lost may be in use: who uses it is told later.
 */
static void extent_adopt_retiring(struct syn_mm *mm, struct syn_extent *ext)
{
	uint32_t id = ext->mem.id;
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++) {
		struct syn_session *s = mm->session[i];

		if (!s || s->ended || !syn_bit_test(s->told, id))
			continue;
		if (!ext->lost)
			syn_extent_give_up(s, id);
		syn_bit_set(s->giving_up, id);
	}
	if (!ext->nr_told && !ext->lost)
		syn_extent_free(mm, ext);
}

/* There is nothing to tell of what is lost. */
static void extent_tell_again(struct syn_session *s, uint32_t id)
{
	if (s->mm->extent[id]->lost)
		syn_commit(extent_telling(s), 0);
	else
		extent_want(s, id);
}

/* What it was being told of it is told again. */
static void extent_adopt_told(struct syn_session *s)
{
	uint32_t telling = *extent_telling(s);
	uint32_t id;

	if (telling) {
		syn_kept_bit_set(s->told, telling - 1);
		extent_tell_again(s, telling - 1);
	}
	for (id = 0; id < SYN_EXTENTS_MAX; id++)
		if (syn_bit_test(s->told, id))
			s->mm->extent[id]->nr_told++;
}

void syn_extent_adopt_open(struct syn_mm *mm)
{
	uint32_t id;
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (mm->session[i])
			extent_adopt_told(mm->session[i]);
	for (id = 0; id < SYN_EXTENTS_MAX; id++) {
		struct syn_extent *ext = mm->extent[id];

		if (!ext)
			continue;
		if (ext->lost ||
		    mm->rec_extent[id].state == SYN_EXTENT_RETIRING)
			extent_adopt_retiring(mm, ext);
		else
			syn_extent_open(mm, ext);
	}
}
