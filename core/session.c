/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: they begin, open windows, end, and are gone. */
#include "core/session.h"

#include "core/base/base.h"
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

static void session_release(struct syn_session *s)
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
		session_release(s);
		return NULL;
	}
	s->cfg = *cfg;
	s->map_free = SYN_NONE;
	s->quarantine = SYN_NONE;
	s->gone_first = SYN_NONE;
	s->gone_last = SYN_NONE;
	memset(s->window_of, SYN_NO_WINDOW, sizeof(s->window_of));
	syn_list_init(&s->draining);
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
	rec->state = SYN_SESSION_LIVE;
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
	s->mm = mm;
	s->index = i;
	session_record(s);
	mm->session[i] = s;
	mm->nr_sessions++;
	syn_domain_enter(mm, cfg->domain);
	mm->now_ns = syn_max(mm->now_ns, cfg->now_ns);
	mm->count.attaches++;
	*ret = s;
	return 0;
}

/* ---- windows ------------------------------------------------------------ */

static void window_add(struct syn_session *s, struct syn_pool *pool,
		       uint32_t slots)
{
	struct syn_rec_session *rec = &s->mm->rec_session[s->index];
	struct syn_window *w = &s->window[s->nr_windows];
	struct syn_extent *ext;

	rec->window[s->nr_windows] = (struct syn_rec_window){
		.space = pool->space,
		.slots = slots,
	};
	rec->nr_windows++;
	*w = (struct syn_window){
		.session = s,
		.pool = pool,
		.slots = slots,
	};
	syn_lru_init(&w->lru);
	syn_list_init(&w->pressed);
	s->window_of[pool->space] = (uint8_t)s->nr_windows++;
	pool->nr_users++;
	syn_list_for_each (ext, &pool->extents, in_pool) {
		if (!ext->retiring)
			syn_extent_want(s, ext);
	}
}

int syn_mm_window_open(struct syn_session *session, uint32_t space,
		       uint32_t slots, struct syn_msg_window_reply *ret)
{
	struct syn_mm *mm = session->mm;
	struct syn_pool *pool;
	int r;

	if (space >= mm->nr_spaces)
		return -ENOENT;
	if (!slots)
		return -EINVAL;
	if (session->nr_windows == SYN_WINDOWS_MAX)
		return -EUSERS;
	if (session->window_of[space] != SYN_NO_WINDOW)
		return -EEXIST;
	r = syn_pool_get(mm, session->cfg.domain, space, &pool);
	if (r)
		return r;
	r = syn_pool_guarantee(mm, pool, slots);
	if (r) {
		if (r == -EDQUOT)
			syn_domain_refused(mm, session->cfg.domain);
		syn_pool_reap(mm);
		return r;
	}
	window_add(session, pool, slots);
	ret->window = session->nr_windows - 1;
	ret->slots = slots;
	ret->range_slots = pool->max_extents * pool->extent_frames;
	ret->pad0 = 0;
	ret->stride = pool->frame_bytes;
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

	if (session->ended)
		return;
	mm->rec_session[session->index].state = SYN_SESSION_ENDED;
	work = syn_drain_begin(session, &epoch);
	session->ended = true;
	session->dirty = session->loans_out || session_pinned(session);
	if (session->dirty)
		syn_list_del(&session->draining);
	for (i = 0; i < session->nr_windows; i++)
		syn_list_del(&session->window[i].pressed);
	syn_load_void(session);
	session_end_leases(session, work);
	mm->progress = true;
}

bool syn_mm_session_idle(const struct syn_session *session)
{
	return session->ended && session->gone_first == SYN_NONE &&
	       !session->nr_quarantined;
}

void syn_mm_session_exited(struct syn_session *session)
{
	struct syn_mm *mm = session->mm;
	bool reaped = !syn_mm_session_idle(session);
	uint32_t i;

	syn_mm_session_end(session);
	syn_quarantine_end(session);
	mm->count.reaped += reaped;
	mm->count.detaches += !reaped;
	syn_extent_forget(session);
	mm->session[session->index] = NULL;
	mm->rec_session[session->index].state = SYN_SESSION_FREE;
	mm->nr_sessions--;
	for (i = 0; i < session->nr_windows; i++) {
		struct syn_window *w = &session->window[i];

		w->pool->nr_users--;
		syn_pool_ungarantee(mm, w->pool, w->slots);
	}
	syn_pool_reap(mm);
	syn_domain_leave(mm, session->cfg.domain);
	syn_domain_reap(mm);
	mm->progress = true;
	session_release(session);
}

uint32_t syn_mm_notices(struct syn_session *session)
{
	uint32_t notices = session->notices;

	session->notices = 0;
	return notices;
}
