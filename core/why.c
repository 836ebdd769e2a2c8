/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a key is not found: a question of people, not of requests.  It costs a
 * look into the index for each HBM pool and a walk over the departures.
 */
#include "core/base/base.h"
#include "core/depart.h"
#include "core/domain.h"
#include "core/index.h"
#include "core/page.h"
#include "core/quarantine.h"

/**
 * struct story - the answer, in order, as it grows.
 * @mm:		the manager.
 * @ask:	the question.
 * @rec:	the best @nr records so far.
 * @nr:		see there.
 * @max:	room in @rec.
 */
struct story {
	const struct syn_mm *mm;
	const struct syn_why_ask *ask;
	struct syn_ctl_why *rec;
	unsigned int nr;
	unsigned int max;
};

/* ---- order -------------------------------------------------------------- */

/* What is there comes before what was, and what others have comes last. */
static unsigned int why_rank(const struct syn_ctl_why *rec)
{
	switch (rec->cause) {
	case SYN_WHY_PRESENT:
		return 0;
	case SYN_WHY_NOT_READY:
		return 1;
	case SYN_WHY_FIDELITY:
		return 2;
	case SYN_WHY_IDENTITY:
		return 5;
	case SYN_WHY_DOMAIN:
		return 6;
	default:
		return rec->page == SYN_NONE ? 4 : 3;
	}
}

static bool why_before(const struct syn_ctl_why *a, const struct syn_ctl_why *b)
{
	unsigned int rank_a = why_rank(a);
	unsigned int rank_b = why_rank(b);

	return rank_a != rank_b ? rank_a < rank_b : a->age_ns < b->age_ns;
}

static void story_add(struct story *story, const struct syn_ctl_why *rec)
{
	unsigned int i = story->nr;

	if (story->nr < story->max)
		story->nr++;
	else if (!i || !why_before(rec, &story->rec[--i]))
		return;
	for (; i && why_before(rec, &story->rec[i - 1]); i--)
		story->rec[i] = story->rec[i - 1];
	story->rec[i] = *rec;
}

/* ---- from where it is asked --------------------------------------------- */

static bool components_equal(const struct syn_rec_space *a,
			     const struct syn_rec_space *b)
{
	uint32_t i;

	for (i = 0; i < SYN_COMPONENTS_MAX; i++) {
		const struct syn_component *x = &a->component[i];
		const struct syn_component *y = &b->component[i];

		if (x->role != y->role || x->dtype != y->dtype ||
		    x->heads != y->heads || x->dim != y->dim)
			return false;
	}
	return true;
}

/* The first in which two spaces differ; what may be lost is all that is left. */
static uint32_t space_field(const struct syn_rec_space *a,
			    const struct syn_rec_space *b)
{
	if (a->model[0] != b->model[0] || a->model[1] != b->model[1])
		return SYN_FIELD_MODEL;
	if (a->tokens != b->tokens)
		return SYN_FIELD_TOKENS;
	if (a->layers_per_page != b->layers_per_page)
		return SYN_FIELD_LAYERS;
	if (!components_equal(a, b))
		return SYN_FIELD_COMPONENTS;
	if (a->flags != b->flags)
		return SYN_FIELD_CODED;
	return SYN_FIELD_FLOOR;
}

/* To the one who asks, a page of another domain or space is only that. */
static void why_from(const struct story *story, struct syn_ctl_why *rec)
{
	const struct syn_why_ask *ask = story->ask;
	const struct syn_rec_space *space = story->mm->space;

	if (ask->domain != SYN_WHY_ANY && ask->domain != rec->domain) {
		rec->cause = SYN_WHY_DOMAIN;
	} else if (ask->space != SYN_WHY_ANY && ask->space != rec->space) {
		rec->cause = SYN_WHY_IDENTITY;
		rec->field =
			space_field(&space[rec->space], &space[ask->space]);
	}
}

/* ---- pages that are there ----------------------------------------------- */

static void why_session(const struct syn_session *s, struct syn_ctl_why *ret)
{
	ret->session = s->cfg.id;
	ret->pid = s->cfg.pid;
	memcpy(ret->name, s->cfg.name, sizeof(ret->name));
}

/* When and where its bytes were lost, if that is not forgotten. */
static void why_lost(const struct syn_mm *mm, uint32_t page,
		     struct syn_ctl_why *ret)
{
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_departure *d;
	uint64_t at = mm->nr_departures;

	ret->cause = pg->advice & SYN_PAGE_DEVICE ? SYN_WHY_DEVICE
						  : SYN_WHY_CHECKSUM;
	ret->tier = 0;
	ret->fidelity = 0;
	while ((d = syn_depart_find(mm, pg->key, &at))) {
		if (d->page != page || d->generation != pg->generation)
			continue;
		ret->tier = d->tier;
		ret->fidelity = d->fidelity;
		ret->age_ns = mm->now_ns - d->at_ns;
		return;
	}
}

static void story_page(struct story *story, uint32_t page)
{
	const struct syn_mm *mm = story->mm;
	const struct syn_rec_page *pg = &mm->page[page];
	struct syn_ctl_why rec = {
		.cause = SYN_WHY_PRESENT,
		.page = page,
		.space = pg->space,
		.domain = pg->domain,
		.tier = syn_page_tier(pg),
		.fidelity = pg->fidelity,
		.session = SYN_NONE,
	};

	if (pg->state == SYN_PAGE_LOST) {
		why_lost(mm, page, &rec);
	} else if (!syn_page_passed(mm, page)) {
		rec.cause = SYN_WHY_NOT_READY;
		why_session(mm->session[pg->ready_session], &rec);
	} else if (pg->fidelity < SYN_FIDELITY_RAW16) {
		rec.cause = SYN_WHY_FIDELITY;
	}
	why_from(story, &rec);
	story_add(story, &rec);
}

static bool story_has(const struct story *story, uint32_t page)
{
	unsigned int i;

	for (i = 0; i < story->nr; i++)
		if (story->rec[i].page == page)
			return true;
	return false;
}

/* Every page has its HBM pool, one of at most two for a domain and space. */
static void story_pages(struct story *story)
{
	const struct syn_mm *mm = story->mm;
	uint32_t page;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		const struct syn_pool *pool = mm->pool[i];

		if (!pool || pool->tier != SYN_TIER_HBM)
			continue;
		page = syn_index_find(mm, pool->domain, pool->space,
				      story->ask->key);
		if (page != SYN_NONE && !story_has(story, page))
			story_page(story, page);
	}
}

/* ---- pages that were there ---------------------------------------------- */

/* SYN_NONE when the domain has ended. */
static uint32_t departure_domain(const struct syn_mm *mm,
				 const struct syn_departure *d)
{
	const struct syn_rec_domain *domain = &mm->rec_domain[d->domain];

	if (!syn_domain_exists(mm, d->domain) ||
	    domain->identity[0] != d->identity[0] ||
	    domain->identity[1] != d->identity[1])
		return SYN_NONE;
	return d->domain;
}

/* It has lost its bytes, but its record keeps the key: told already. */
static bool departure_stays(const struct syn_mm *mm,
			    const struct syn_departure *d)
{
	const struct syn_rec_page *pg = &mm->page[d->page];

	return pg->generation == d->generation && pg->state == SYN_PAGE_LOST &&
	       syn_page_is(pg, SYN_PAGE_F_KEYED);
}

/* That others have or had the key is worth one line for each of them. */
static bool story_tells(const struct story *story,
			const struct syn_ctl_why *rec)
{
	unsigned int i;

	if (rec->cause != SYN_WHY_DOMAIN && rec->cause != SYN_WHY_IDENTITY)
		return false;
	for (i = 0; i < story->nr; i++)
		if (story->rec[i].cause == rec->cause &&
		    story->rec[i].space == rec->space &&
		    story->rec[i].domain == rec->domain)
			return true;
	return false;
}

static void story_departures(struct story *story)
{
	const struct syn_mm *mm = story->mm;
	const struct syn_departure *d;
	uint64_t at = mm->nr_departures;

	while ((d = syn_depart_find(mm, story->ask->key, &at))) {
		struct syn_ctl_why rec = {
			.cause = d->cause,
			.page = SYN_NONE,
			.space = d->space,
			.domain = departure_domain(mm, d),
			.tier = d->tier,
			.fidelity = d->fidelity,
			.session = d->session,
			.pid = d->pid,
			.age_ns = mm->now_ns - d->at_ns,
		};

		if (departure_stays(mm, d))
			continue;
		memcpy(rec.name, d->name, sizeof(rec.name));
		why_from(story, &rec);
		if (!story_tells(story, &rec))
			story_add(story, &rec);
	}
}

int syn_mm_why(const struct syn_mm *mm, const struct syn_why_ask *ask,
	       struct syn_ctl_why *ret, unsigned int max)
{
	struct story story = { .mm = mm, .ask = ask, .rec = ret, .max = max };

	if ((!ask->key[0] && !ask->key[1]) || !max)
		return -EINVAL;
	if (ask->space != SYN_WHY_ANY && ask->space >= mm->nr_spaces)
		return -ENOENT;
	if (ask->domain != SYN_WHY_ANY && (ask->domain >= SYN_DOMAINS_MAX ||
					   !syn_domain_exists(mm, ask->domain)))
		return -ENOENT;
	story_pages(&story);
	story_departures(&story);
	if (!story.nr)
		story_add(&story, &(struct syn_ctl_why){
					  .cause = SYN_WHY_NEVER,
					  .page = SYN_NONE,
					  .space = ask->space,
					  .domain = ask->domain,
					  .session = SYN_NONE,
				  });
	return (int)story.nr;
}
