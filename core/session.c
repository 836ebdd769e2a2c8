/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: they begin, open windows, end, and are gone. */
#include "core/session.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/fault.h"
#include "core/domain.h"
#include "core/extent.h"
#include "core/lease.h"
#include "core/load.h"
#include "core/page.h"
#include "core/pool.h"
#include "core/quarantine.h"

uint32_t syn_session_lease(const struct syn_session *session, uint32_t *at)
{
	while (*at < session->map_used) {
		uint32_t l = session->map[(*at)++];

		if (!(l & SYN_MAP_FREE))
			return l;
	}
	return SYN_NONE;
}

/* ---- the beginning ------------------------------------------------------ */

void syn_session_release(struct syn_session *s)
{
	free(s->map);
	free(s->target);
	free(s);
}

static struct syn_session *session_alloc(const struct syn_session_config *cfg)
{
	struct syn_session *s = syn_alloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->map = syn_alloc(cfg->nr_pages, sizeof(*s->map));
	s->target = syn_alloc((size_t)SYN_DRAINS_MAX * cfg->nr_timelines,
			      sizeof(*s->target));
	if (!s->map || !s->target) {
		syn_session_release(s);
		return NULL;
	}
	s->cfg = *cfg;
	memset(s->loans_free, 0xff, sizeof(s->loans_free));
	s->map_free = SYN_NONE;
	s->quarantine = SYN_NONE;
	s->gone_first = SYN_NONE;
	s->gone_last = SYN_NONE;
	memset(s->window_of, SYN_NO_WINDOW, sizeof(s->window_of));
	syn_list_init(&s->draining);
	syn_list_init(&s->losing);
	return s;
}

static void session_record(const struct syn_session *s)
{
	struct syn_rec_session *rec = &s->mm->rec_session[s->index];

	*rec = (struct syn_rec_session){
		.id = s->cfg.id,
		.pid = s->cfg.pid,
		.uid = s->cfg.uid,
		.domain = s->cfg.domain,
		.nr_pages = s->cfg.nr_pages,
		.nr_timelines = s->cfg.nr_timelines,
	};
	memcpy(rec->name, s->cfg.name, sizeof(rec->name));
	syn_commit(&rec->state, SYN_SESSION_LIVE);
}

static void session_join(struct syn_mm *mm, struct syn_session *s,
			 uint32_t index)
{
	s->mm = mm;
	s->index = index;
	s->told = mm->rec_session[index].told;
	mm->session[index] = s;
	mm->nr_sessions++;
	syn_domain_enter(mm, s->cfg.domain);
}

int syn_mm_session_new(struct syn_mm *mm, const struct syn_session_config *cfg,
		       struct syn_session **ret)
{
	struct syn_session *s;
	uint32_t i;

	if (cfg->domain >= SYN_DOMAINS_MAX ||
	    !syn_domain_exists(mm, cfg->domain) || !cfg->nr_pages ||
	    cfg->nr_pages > SYN_PAGES_MAX || !cfg->nr_timelines ||
	    cfg->nr_timelines > SYN_TIMELINES_MAX)
		return -EINVAL;
	for (i = 0; i < mm->cfg.max_sessions && mm->session[i]; i++)
		;
	if (i == mm->cfg.max_sessions)
		return -EUSERS;
	s = session_alloc(cfg);
	if (!s)
		return -ENOMEM;
	session_join(mm, s, i);
	session_record(s);
	mm->changes++;
	mm->now_ns = syn_max(mm->now_ns, cfg->now_ns);
	mm->count.attaches++;
	*ret = s;
	return 0;
}

/* ---- windows ------------------------------------------------------------ */

/**
 * struct opening - a window that is being opened.
 * @slots:	that are to be guaranteed, by plane; 0: the space has no such.
 * @pool:	then NULL, else the plane's pool.
 */
struct opening {
	uint32_t slots[SYN_PLANES];
	struct syn_pool *pool[SYN_PLANES];
};

/* @pool may be NULL. */
static void share_add(struct syn_session *s, struct syn_window *w,
		      struct syn_pool *pool, uint32_t slots)
{
	*w = (struct syn_window){
		.session = s,
		.pool = pool,
		.slots = slots,
	};
	syn_lru_init(&w->lru);
	syn_list_init(&w->pressed);
	if (pool)
		pool->nr_users++;
}

static void share_announce(struct syn_session *s, const struct syn_pool *pool)
{
	struct syn_extent *ext;

	syn_list_for_each (ext, &pool->extents, in_pool) {
		if (!ext->retiring)
			syn_extent_want(s, ext);
	}
}

static void window_add(struct syn_session *s, uint32_t space,
		       const struct opening *o)
{
	uint32_t p;

	for (p = 0; p < SYN_PLANES; p++)
		share_add(s, &s->window[s->nr_windows][p], o->pool[p],
			  o->slots[p]);
	s->window_of[space] = (uint8_t)s->nr_windows++;
}

static void window_announce(struct syn_session *s, const struct opening *o)
{
	uint32_t p;

	for (p = 0; p < SYN_PLANES; p++)
		if (o->pool[p])
			share_announce(s, o->pool[p]);
}

static void window_record(const struct syn_session *s, uint32_t space,
			  const struct opening *o)
{
	struct syn_rec_session *rec = &s->mm->rec_session[s->index];
	struct syn_rec_window *window = &rec->window[s->nr_windows];
	uint32_t p;

	window->space = space;
	for (p = 0; p < SYN_PLANES; p++)
		window->slots[p] = o->slots[p];
	syn_commit(&rec->nr_windows, s->nr_windows + 1);
}

static int opening_check(const struct syn_session *s, uint32_t space,
			 const struct opening *o)
{
	const struct syn_mm *mm = s->mm;
	bool coded;

	if (space >= mm->nr_spaces)
		return -ENOENT;
	coded = mm->space[space].flags & SYN_SPACE_F_CODED;
	if (!o->slots[SYN_PLANE_CANONICAL] ||
	    coded != !!o->slots[SYN_PLANE_CODED])
		return -EINVAL;
	if (s->nr_windows == SYN_WINDOWS_MAX)
		return -EUSERS;
	return s->window_of[space] != SYN_NO_WINDOW ? -EEXIST : 0;
}

/* All planes or none. */
static int opening_guarantee(struct syn_session *s, uint32_t space,
			     struct opening *o)
{
	struct syn_mm *mm = s->mm;
	uint32_t p;
	int r = 0;

	for (p = 0; p < SYN_PLANES && o->slots[p]; p++) {
		r = syn_pool_get(mm, s->cfg.domain, space, p, &o->pool[p]);
		if (!r)
			r = syn_pool_guarantee(mm, o->pool[p], o->slots[p]);
		if (r)
			break;
	}
	if (!r)
		return 0;
	while (p--)
		syn_pool_ungarantee(mm, o->pool[p], o->slots[p]);
	if (r == -EDQUOT)
		syn_domain_refused(mm, s->cfg.domain);
	syn_pool_reap(mm);
	return r;
}

static int window_open(struct syn_session *s, uint32_t space, struct opening *o)
{
	int r = opening_check(s, space, o);

	s->mm->changes++;
	if (!r)
		r = opening_guarantee(s, space, o);
	if (r)
		return r;
	window_record(s, space, o);
	window_add(s, space, o);
	window_announce(s, o);
	return 0;
}

static uint32_t pool_range(const struct syn_pool *pool)
{
	return pool->max_extents * pool->extent_frames;
}

/* It has one on @space. */
static const struct syn_window *window_on(const struct syn_session *s,
					  uint32_t space)
{
	return s->window[s->window_of[space]];
}

static void window_describe(const struct syn_session *s, uint32_t space,
			    struct syn_msg_window_reply *ret)
{
	const struct syn_window *w = window_on(s, space);

	ret->window = s->window_of[space];
	ret->slots = w[SYN_PLANE_CANONICAL].slots;
	ret->range_slots = pool_range(w[SYN_PLANE_CANONICAL].pool);
	ret->pad0 = 0;
	ret->stride = w[SYN_PLANE_CANONICAL].pool->frame_bytes;
}

static void window_describe_coded(const struct syn_session *s, uint32_t space,
				  struct syn_msg_coded_reply *ret)
{
	const struct syn_window *w = window_on(s, space);

	ret->window = s->window_of[space];
	ret->slots = w[SYN_PLANE_CANONICAL].slots;
	ret->coded_slots = w[SYN_PLANE_CODED].slots;
	ret->range_slots = pool_range(w[SYN_PLANE_CANONICAL].pool);
	ret->coded_range = pool_range(w[SYN_PLANE_CODED].pool);
	ret->pad0 = 0;
	ret->stride = w[SYN_PLANE_CANONICAL].pool->frame_bytes;
	ret->coded_stride = w[SYN_PLANE_CODED].pool->frame_bytes;
}

int syn_mm_window_open(struct syn_session *session, uint32_t space,
		       uint32_t slots, struct syn_msg_window_reply *ret)
{
	struct opening o = { .slots = { slots } };
	int r = window_open(session, space, &o);

	if (!r)
		window_describe(session, space, ret);
	return r;
}

int syn_mm_window_open_coded(struct syn_session *session, uint32_t space,
			     uint32_t slots, uint32_t coded_slots,
			     struct syn_msg_coded_reply *ret)
{
	struct opening o = { .slots = { slots, coded_slots } };
	int r;

	if (!coded_slots)
		return -EINVAL;
	r = window_open(session, space, &o);
	if (!r)
		window_describe_coded(session, space, ret);
	return r;
}

static bool window_is(const struct syn_session *s, uint32_t space,
		      uint32_t slots, uint32_t coded_slots)
{
	const struct syn_window *w;

	if (space >= s->mm->nr_spaces || s->window_of[space] == SYN_NO_WINDOW)
		return false;
	w = window_on(s, space);
	return w[SYN_PLANE_CANONICAL].slots == slots &&
	       w[SYN_PLANE_CODED].slots == coded_slots;
}

int syn_mm_window_again(const struct syn_session *session, uint32_t space,
			uint32_t slots, struct syn_msg_window_reply *ret)
{
	if (!window_is(session, space, slots, 0))
		return -EEXIST;
	window_describe(session, space, ret);
	return 0;
}

int syn_mm_window_again_coded(const struct syn_session *session, uint32_t space,
			      uint32_t slots, uint32_t coded_slots,
			      struct syn_msg_coded_reply *ret)
{
	if (!window_is(session, space, slots, coded_slots))
		return -EEXIST;
	window_describe_coded(session, space, ret);
	return 0;
}

/* ---- the end ------------------------------------------------------------ */

static bool session_pinned(const struct syn_session *s)
{
	uint32_t at = 0;
	uint32_t l;

	while ((l = syn_session_lease(s, &at)) != SYN_NONE)
		if (SYN_PIN_COUNT(syn_lease_pins(s->mm, l)))
			return true;
	return false;
}

/*
 * @work: its timelines had not drained, so it may still touch any page that
 * it leased.  Else, if nothing is clean, those that it wrote or had pinned.
 */
static void session_end_leases(struct syn_session *s, bool work)
{
	struct syn_mm *mm = s->mm;
	uint16_t epoch = 0;
	bool drains = syn_drain_begin(s, &epoch);
	uint32_t at = 0;
	uint32_t l;

	while ((l = syn_session_lease(s, &at)) != SYN_NONE) {
		bool wait = work || mm->lessee[l].flags & SYN_LESSEE_WRITE ||
			    SYN_PIN_COUNT(syn_lease_pins(mm, l));

		syn_quarantine_lease(mm, l, drains && wait, epoch);
	}
}

void syn_mm_session_end(struct syn_session *session)
{
	struct syn_mm *mm = session->mm;
	uint16_t epoch;
	bool work;
	uint32_t i;
	uint32_t p;

	if (session->ended)
		return;
	work = syn_drain_begin(session, &epoch);
	syn_list_del(&session->losing);
	session->ended = true;
	session->dirty = session->nr_loans || session_pinned(session);
	syn_commit(&mm->rec_session[session->index].state,
		   session->dirty ? SYN_SESSION_DIRTY : SYN_SESSION_ENDED);
	if (session->dirty)
		syn_list_del(&session->draining);
	for (i = 0; i < session->nr_windows; i++)
		for (p = 0; p < SYN_PLANES; p++)
			syn_list_del(&session->window[i][p].pressed);
	syn_load_void(session);
	session_end_leases(session, work);
	mm->progress = true;
}

bool syn_mm_session_idle(const struct syn_session *session)
{
	return session->ended && session->gone_first == SYN_NONE &&
	       !session->nr_quarantined;
}

/* What it was sure of, anybody may have. */
static void session_end_windows(struct syn_session *s)
{
	uint32_t i;
	uint32_t p;

	for (i = 0; i < s->nr_windows; i++)
		for (p = 0; p < SYN_PLANES; p++) {
			struct syn_window *w = &s->window[i][p];

			if (!w->pool)
				continue;
			w->pool->nr_users--;
			syn_pool_ungarantee(s->mm, w->pool, w->slots);
		}
	syn_pool_reap(s->mm);
}

void syn_mm_session_exited(struct syn_session *session)
{
	struct syn_mm *mm = session->mm;
	bool reaped = !syn_mm_session_idle(session);

	syn_mm_session_end(session);
	syn_quarantine_end(session);
	mm->count.reaped += reaped;
	mm->count.detaches += !reaped;
	syn_extent_forget(session);
	mm->session[session->index] = NULL;
	syn_commit(&mm->rec_session[session->index].state, SYN_SESSION_FREE);
	mm->nr_sessions--;
	mm->changes++;
	session_end_windows(session);
	syn_domain_leave(mm, session->cfg.domain);
	syn_domain_reap(mm);
	mm->progress = true;
	syn_session_release(session);
}

/* ---- adoption ----------------------------------------------------------- */

static void session_describe(const struct syn_mm *mm, uint32_t index,
			     struct syn_session_config *ret)
{
	const struct syn_rec_session *rec = &mm->rec_session[index];

	ret->id = rec->id;
	ret->pid = rec->pid;
	ret->uid = rec->uid;
	ret->domain = rec->domain;
	ret->nr_pages = rec->nr_pages;
	ret->nr_timelines = rec->nr_timelines;
	memcpy(ret->name, rec->name, sizeof(ret->name));
}

int syn_mm_session_next(const struct syn_mm *mm, uint32_t *at,
			struct syn_session_config *ret)
{
	while (*at < mm->cfg.max_sessions) {
		uint32_t i = (*at)++;

		if (mm->rec_session[i].state == SYN_SESSION_FREE)
			continue;
		*ret = (struct syn_session_config){ 0 };
		session_describe(mm, i, ret);
		return 1;
	}
	return 0;
}

static uint32_t session_find(const struct syn_mm *mm,
			     const struct syn_session_config *cfg)
{
	uint32_t i;

	for (i = 0; i < mm->cfg.max_sessions; i++) {
		const struct syn_rec_session *rec = &mm->rec_session[i];

		if (rec->state != SYN_SESSION_FREE && rec->id == cfg->id &&
		    rec->nr_pages == cfg->nr_pages &&
		    rec->nr_timelines == cfg->nr_timelines)
			return i;
	}
	return SYN_NONE;
}

/* Its extents are there, or lost: the guarantee was given before it was recorded. */
static int window_adopt(struct syn_session *s, uint32_t window)
{
	const struct syn_rec_window *rec =
		&s->mm->rec_session[s->index].window[window];
	struct opening o = { .slots = { rec->slots[0], rec->slots[1] } };
	uint32_t p;
	int r;

	for (p = 0; p < SYN_PLANES && o.slots[p]; p++) {
		r = syn_pool_get(s->mm, s->cfg.domain, rec->space, p,
				 &o.pool[p]);
		if (r)
			return r;
		o.pool[p]->guaranteed += o.slots[p];
	}
	window_add(s, rec->space, &o);
	return 0;
}

int syn_mm_session_adopt(struct syn_mm *mm,
			 const struct syn_session_config *cfg,
			 struct syn_session **ret)
{
	uint32_t i = session_find(mm, cfg);
	const struct syn_rec_session *rec;
	struct syn_session *s;
	uint32_t w;
	int r = 0;

	if (i == SYN_NONE)
		return -ENOENT;
	if (mm->session[i])
		return -EEXIST;
	s = session_alloc(cfg);
	if (!s)
		return -ENOMEM;
	rec = &mm->rec_session[i];
	session_describe(mm, i, &s->cfg);
	s->ended = rec->state != SYN_SESSION_LIVE;
	s->dirty = rec->state == SYN_SESSION_DIRTY;
	memset(s->map, 0xff, cfg->nr_pages * sizeof(*s->map));
	session_join(mm, s, i);
	for (w = 0; w < rec->nr_windows && !r; w++)
		r = window_adopt(s, w);
	mm->now_ns = syn_max(mm->now_ns, cfg->now_ns);
	if (!r)
		*ret = s;
	return r;
}

bool syn_mm_session_ended(const struct syn_session *session)
{
	return session->ended;
}

void syn_session_adopt_windows(struct syn_session *session)
{
	uint32_t i;
	uint32_t p;

	for (i = 0; i < session->nr_windows; i++)
		for (p = 0; p < SYN_PLANES; p++)
			if (session->window[i][p].pool)
				share_announce(session,
					       session->window[i][p].pool);
}

void syn_session_adopt_end(struct syn_session *session)
{
	uint16_t epoch;
	bool work = syn_drain_begin(session, &epoch);

	syn_load_void(session);
	session_end_leases(session, work);
}

uint32_t syn_mm_notices(struct syn_session *session)
{
	uint32_t notices = session->notices;

	session->notices = 0;
	return notices;
}
