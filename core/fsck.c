/* SPDX-License-Identifier: Apache-2.0 */
/* Fsck: its steps, and what is found. */
#include "core/fsck-internal.h"

#include "core/base/base.h"
#include "core/base/bits.h"
#include "core/base/fault.h"

/* ---- findings ----------------------------------------------------------- */

void syn_fsck_look(struct syn_fsck *f, uint32_t object, uint64_t index)
{
	f->what = (struct syn_ctl_fsck){
		.object = object,
		.index = (uint32_t)index,
	};
}

void syn_fsck_part(struct syn_fsck *f, uint32_t part)
{
	f->what.part = part;
}

static void fsck_note(struct syn_fsck *f, uint32_t field, uint64_t expected,
		      uint64_t found)
{
	f->what.field = field;
	f->what.expected = expected;
	f->what.found = found;
	if (f->nr_found < SYN_FSCK_MAX)
		f->finding[f->nr_found] = f->what;
	f->nr_found++;
}

bool syn_fsck_same(struct syn_fsck *f, uint32_t field, uint64_t expected,
		   uint64_t found)
{
	if (expected != found)
		fsck_note(f, field, expected, found);
	return expected == found;
}

bool syn_fsck_counted(struct syn_fsck *f, uint32_t field, uint64_t expected,
		      uint64_t found)
{
	return f->changed || syn_fsck_same(f, field, expected, found);
}

bool syn_fsck_missing(struct syn_fsck *f, uint64_t index)
{
	fsck_note(f, SYN_FSCK_REFERENCE, SYN_NONE, index);
	return false;
}

uint64_t syn_fsck_found(const struct syn_fsck *fsck)
{
	return fsck->nr_found | (fsck->changed ? SYN_FSCK_MOVED : 0);
}

uint32_t syn_fsck_findings(const struct syn_fsck *fsck,
			   const struct syn_ctl_fsck **ret)
{
	*ret = fsck->finding;
	return (uint32_t)syn_min(fsck->nr_found, (uint64_t)SYN_FSCK_MAX);
}

/* ---- what belongs to whom ----------------------------------------------- */

void syn_fsck_own(struct syn_fsck *f, const struct syn_extent *ext,
		  uint32_t frame)
{
	const struct syn_fsck_extent *e = &f->extent[ext->mem.id];

	if (syn_fsck_owned(f, ext, frame))
		(void)syn_fsck_counted(f, SYN_FSCK_TWICE, 1, 2);
	/* Else it is younger than the walk. */
	if (frame < e->nr_frames)
		syn_bit_set(f->owned, e->base + frame);
}

bool syn_fsck_owned(const struct syn_fsck *f, const struct syn_extent *ext,
		    uint32_t frame)
{
	const struct syn_fsck_extent *e = &f->extent[ext->mem.id];

	return frame < e->nr_frames && syn_bit_test(f->owned, e->base + frame);
}

bool syn_fsck_own_sums(struct syn_fsck *f, uint32_t run, uint32_t words)
{
	uint32_t i;

	if (run % 16 || run >= f->mm->sum_used || f->mm->sum_used - run < words)
		return syn_fsck_missing(f, run);
	for (i = run / 16; i < (run + words) / 16; i++) {
		if (syn_bit_test(f->runs, i))
			return syn_fsck_counted(f, SYN_FSCK_TWICE, 1, 2);
		syn_bit_set(f->runs, i);
	}
	return true;
}

struct syn_extent *syn_fsck_slot(const struct syn_pool *pool, uint32_t slot,
				 uint32_t *ret_frame)
{
	uint32_t n = SYN_SLOT_INDEX(slot);

	*ret_frame = n % pool->extent_frames;
	if (syn_slot_plane(slot) != pool->plane ||
	    n / pool->extent_frames >= pool->max_extents)
		return NULL;
	return pool->ordinal[n / pool->extent_frames];
}

struct syn_session *syn_fsck_session_at(const struct syn_mm *mm,
					uint32_t session)
{
	return session < mm->cfg.max_sessions ? mm->session[session] : NULL;
}

const struct syn_window *syn_fsck_window_of(const struct syn_session *s,
					    const struct syn_pool *pool)
{
	uint32_t window = s->window_of[pool->space];

	return window < s->nr_windows ? &s->window[window][pool->plane] : NULL;
}

struct syn_fsck_window *syn_fsck_count_of(struct syn_fsck *f,
					  const struct syn_window *w)
{
	ptrdiff_t i = w - &w->session->window[0][0];

	return &f->session[w->session->index]
			.window[i / SYN_PLANES][i % SYN_PLANES];
}

/* ---- the walk ----------------------------------------------------------- */

/* What is looked at later counts on what was counted before. */
static bool (*const stages[])(struct syn_fsck *f) = {
	syn_fsck_pages,	    syn_fsck_departures, syn_fsck_lessees,
	syn_fsck_moves,	    syn_fsck_swaps,	 syn_fsck_quarantine,
	syn_fsck_sessions,  syn_fsck_buckets,	 syn_fsck_free_lists,
	syn_fsck_free_sums, syn_fsck_extents,	 syn_fsck_pools,
	syn_fsck_totals,
};

bool syn_fsck_step(struct syn_fsck *fsck, int64_t work)
{
	fsck->changed |= fsck->mm->changes != fsck->changes;
	fsck->left = work;
	while (fsck->left > 0 && fsck->stage < syn_array_size(stages)) {
		if (stages[fsck->stage](fsck))
			continue;
		fsck->stage++;
		fsck->at = 0;
	}
	return fsck->stage < syn_array_size(stages);
}

static uint64_t extents_begin(struct syn_fsck *f)
{
	uint64_t nr = 0;
	uint32_t i;

	for (i = 0; i < SYN_EXTENTS_MAX; i++) {
		const struct syn_extent *ext = f->mm->extent[i];

		if (!ext)
			continue;
		f->extent[i].base = (uint32_t)nr;
		f->extent[i].nr_frames = ext->nr_frames;
		nr += ext->nr_frames;
	}
	return nr;
}

static int fsck_alloc(struct syn_fsck *f)
{
	f->pool = syn_alloc(SYN_POOLS_MAX, sizeof(*f->pool));
	f->session = syn_alloc(f->mm->cfg.max_sessions, sizeof(*f->session));
	f->extent = syn_alloc(SYN_EXTENTS_MAX, sizeof(*f->extent));
	f->runs = syn_alloc(f->mm->head->max_sums / 16 / 64 + 1,
			    sizeof(*f->runs));
	if (!f->pool || !f->session || !f->extent || !f->runs)
		return -ENOMEM;
	f->owned = syn_alloc(extents_begin(f) / 64 + 1, sizeof(*f->owned));
	return f->owned ? 0 : -ENOMEM;
}

int syn_fsck_new(const struct syn_mm *mm, struct syn_fsck **ret)
{
	struct syn_fsck *f = syn_alloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->mm = mm;
	f->changes = mm->changes;
	if (fsck_alloc(f)) {
		(void)syn_fsck_free(f);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}

struct syn_fsck *syn_fsck_free(struct syn_fsck *fsck)
{
	if (!fsck)
		return NULL;
	free(fsck->pool);
	free(fsck->session);
	free(fsck->extent);
	free(fsck->runs);
	free(fsck->owned);
	free(fsck);
	return NULL;
}
