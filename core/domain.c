/* SPDX-License-Identifier: Apache-2.0 */
/* Domains: who may corrupt whom, and who may have how much. */
#include "core/domain.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"

/* Ranks of those above their high mark are above all others. */
#define RANK_HIGH (1ull << 63)

static const struct syn_quota *domain_quota(const struct syn_mm *mm,
					    uint32_t domain, uint32_t tier)
{
	return &mm->rec_domain[domain].quota[tier - SYN_TIER_HBM];
}

static uint64_t domain_used(const struct syn_mm *mm, uint32_t domain,
			    uint32_t tier)
{
	return mm->domain[domain].used[tier - SYN_TIER_HBM];
}

/* How much more @a is. */
static uint64_t over(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* ---- minimums ----------------------------------------------------------- */

/* @min is at most the budget. */
static uint64_t promise(const struct syn_tier_state *tier, uint64_t min)
{
	uint64_t unit = tier->unit_bytes;

	return (min + unit - 1) / unit * unit;
}

static uint64_t domain_promise(const struct syn_mm *mm, uint32_t domain,
			       uint32_t tier)
{
	if (!syn_domain_exists(mm, domain))
		return 0;
	return promise(&mm->tier[tier - SYN_TIER_HBM],
		       domain_quota(mm, domain, tier)->min);
}

bool syn_domain_promised(const struct syn_mm *mm, uint32_t domain,
			 uint32_t tier, uint64_t bytes)
{
	return domain_used(mm, domain, tier) + bytes <=
	       domain_promise(mm, domain, tier);
}

bool syn_domain_spare(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		      uint64_t bytes)
{
	return domain_used(mm, domain, tier) >=
	       domain_promise(mm, domain, tier) + bytes;
}

bool syn_domain_high(const struct syn_mm *mm, uint32_t domain, uint32_t tier)
{
	return domain_used(mm, domain, tier) >
	       domain_quota(mm, domain, tier)->high;
}

/* ---- charges ------------------------------------------------------------ */

/* Bytes that all have, and those that others than @domain lack. */
static void tier_sums(const struct syn_mm *mm, uint32_t tier, uint32_t domain,
		      uint64_t *ret_used, uint64_t *ret_lacking)
{
	uint32_t i;

	*ret_used = 0;
	*ret_lacking = 0;
	for (i = 0; i < mm->nr_domains; i++) {
		uint64_t used = domain_used(mm, i, tier);

		*ret_used += used;
		if (i != domain)
			*ret_lacking += over(domain_promise(mm, i, tier), used);
	}
}

bool syn_domain_full(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		     uint64_t bytes)
{
	uint64_t max = domain_quota(mm, domain, tier)->max;

	return bytes > over(max, domain_used(mm, domain, tier));
}

/* *ret_denied: although there are @bytes left. */
static bool domain_fits(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
			uint64_t bytes, bool *ret_denied)
{
	uint64_t lacking;
	uint64_t left;
	uint64_t used;

	tier_sums(mm, tier, domain, &used, &lacking);
	left = over(mm->tier[tier - SYN_TIER_HBM].budget_bytes, used);
	/* Minimums that could not be kept free do not block each other. */
	if (syn_domain_promised(mm, domain, tier, bytes))
		lacking = 0;
	*ret_denied = syn_domain_full(mm, domain, tier, bytes) ||
		      (bytes <= left && bytes > over(left, lacking));
	return !*ret_denied && bytes <= left;
}

bool syn_domain_fits(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		     uint64_t bytes)
{
	bool denied;

	return domain_fits(mm, domain, tier, bytes, &denied);
}

int syn_domain_charge(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		      uint64_t bytes)
{
	struct syn_domain *d = &mm->domain[domain];

	if (!domain_fits(mm, domain, tier, bytes, &d->denied))
		return -EDQUOT;
	d->used[tier - SYN_TIER_HBM] += bytes;
	return 0;
}

void syn_domain_uncharge(struct syn_mm *mm, uint32_t domain, uint32_t tier,
			 uint64_t bytes)
{
	mm->domain[domain].used[tier - SYN_TIER_HBM] -= bytes;
}

void syn_domain_refused(struct syn_mm *mm, uint32_t domain)
{
	mm->domain[domain].refused += mm->domain[domain].denied;
}

/* ---- who gives up ------------------------------------------------------- */

uint64_t syn_domain_rank(const struct syn_mm *mm, uint32_t tier,
			 uint32_t victim, uint64_t gives, uint32_t asker,
			 uint64_t takes)
{
	uint64_t had = domain_used(mm, victim, tier);
	uint64_t gets = domain_used(mm, asker, tier) + takes;
	uint64_t above = over(had, domain_quota(mm, victim, tier)->high);
	uint64_t asks_above = over(gets, domain_quota(mm, asker, tier)->high);
	uint64_t rest;

	if (!syn_domain_spare(mm, victim, tier, gives))
		return 0;
	if (above && (!asks_above || over(above, gives) >= asks_above))
		return RANK_HIGH | above;
	if (asks_above)
		return 0;
	rest = had - gives - domain_promise(mm, victim, tier);
	/* Whoever has nothing at all, or not yet its minimum, comes first. */
	if (gets > takes && rest < over(gets, domain_promise(mm, asker, tier)))
		return 0;
	return rest + gives;
}

/* ---- quotas ------------------------------------------------------------- */

/* What the windows of @domain are sure of. */
static uint64_t domain_windows(const struct syn_mm *mm, uint32_t domain)
{
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++) {
		const struct syn_pool *pool = mm->pool[i];

		if (pool && pool->domain == domain)
			bytes += (pool->guaranteed + pool->extent_frames - 1) /
				 pool->extent_frames * pool->extent_bytes;
	}
	return bytes;
}

/* @domain: SYN_NONE for one that is new. */
static int quota_check(const struct syn_mm *mm, uint32_t domain, uint32_t tier,
		       const struct syn_quota *quota)
{
	const struct syn_tier_state *t = &mm->tier[tier - SYN_TIER_HBM];
	uint64_t budget = t->budget_bytes - t->budget_bytes % t->unit_bytes;
	uint64_t promised = 0;
	uint32_t i;

	if (quota->min > quota->max || quota->min > quota->high ||
	    (quota->high != SYN_QUOTA_NONE && quota->high > quota->max))
		return -EINVAL;
	for (i = 0; i < mm->nr_domains; i++)
		if (i != domain)
			promised += domain_promise(mm, i, tier);
	if (quota->min && (quota->min > budget ||
			   promise(t, quota->min) > over(budget, promised)))
		return -ENOSPC;
	if (tier == SYN_TIER_HBM && quota->max < domain_windows(mm, domain))
		return -EBUSY;
	return 0;
}

/* Its three words are what they are meant to be, all of them. */
static void quota_redo(struct syn_mm *mm)
{
	struct syn_rec_redo *redo = mm->redo;
	struct syn_quota *quota =
		&mm->rec_domain[redo->domain].quota[redo->tier - SYN_TIER_HBM];

	syn_commit(&quota->min, redo->quota.min);
	syn_commit(&quota->high, redo->quota.high);
	syn_commit(&quota->max, redo->quota.max);
	syn_commit(&redo->state, SYN_REDO_NONE);
}

static void quota_mean(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		       const struct syn_quota *quota)
{
	struct syn_rec_redo *redo = mm->redo;

	redo->domain = domain;
	redo->tier = tier;
	redo->quota = *quota;
	syn_commit(&redo->state, SYN_REDO_QUOTA);
}

void syn_domain_redo(struct syn_mm *mm)
{
	if (mm->redo->state == SYN_REDO_QUOTA)
		quota_redo(mm);
}

int syn_mm_quota_set(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		     const struct syn_quota *quota)
{
	int r;

	if (tier < SYN_TIER_HBM || tier > SYN_QUOTA_TIERS)
		return -EINVAL;
	if (domain >= SYN_DOMAINS_MAX || !syn_domain_exists(mm, domain))
		return -ENOENT;
	r = quota_check(mm, domain, tier, quota);
	if (r)
		return r;
	quota_mean(mm, domain, tier, quota);
	quota_redo(mm);
	/* Who waits may have room now. */
	mm->progress = true;
	return 0;
}

/* ---- life --------------------------------------------------------------- */

bool syn_domain_exists(const struct syn_mm *mm, uint32_t domain)
{
	return mm->rec_domain[domain].state != SYN_DOMAIN_FREE;
}

void syn_domain_enter(struct syn_mm *mm, uint32_t domain)
{
	mm->domain[domain].nr_sessions++;
}

void syn_domain_leave(struct syn_mm *mm, uint32_t domain)
{
	mm->domain[domain].nr_sessions--;
}

static bool domain_ended(const struct syn_mm *mm, uint32_t domain)
{
	const struct syn_domain *d = &mm->domain[domain];
	uint32_t state = mm->rec_domain[domain].state;
	uint32_t i;

	if (state == SYN_DOMAIN_FREE || state == SYN_DOMAIN_STAYS ||
	    d->nr_sessions || d->used[0] || d->used[1] || d->used[2])
		return false;
	for (i = 0; i < SYN_POOLS_MAX; i++)
		if (mm->pool[i] && mm->pool[i]->domain == domain)
			return false;
	return true;
}

void syn_domain_reap(struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < mm->nr_domains; i++)
		if (domain_ended(mm, i))
			syn_commit(&mm->rec_domain[i].state, SYN_DOMAIN_FREE);
}

static uint32_t domain_find(const struct syn_mm *mm, const uint64_t *identity)
{
	uint32_t i;

	for (i = 0; i < mm->nr_domains; i++)
		if (syn_domain_exists(mm, i) &&
		    mm->rec_domain[i].identity[0] == identity[0] &&
		    mm->rec_domain[i].identity[1] == identity[1])
			return i;
	return SYN_NONE;
}

static uint32_t domain_unused(const struct syn_mm *mm)
{
	uint32_t i;

	for (i = 0; i < SYN_DOMAINS_MAX; i++)
		if (!syn_domain_exists(mm, i))
			return i;
	return SYN_NONE;
}

/* All that a client says of it, in a record that has nothing or less. */
static int domain_fill(struct syn_mm *mm, uint32_t domain,
		       const struct syn_domain_config *config)
{
	struct syn_rec_domain *rec = &mm->rec_domain[domain];
	uint32_t tier;
	int r;

	for (tier = SYN_TIER_HBM; tier <= SYN_QUOTA_TIERS; tier++) {
		r = quota_check(mm, domain, tier,
				&config->quota[tier - SYN_TIER_HBM]);
		if (r)
			return r;
	}
	memcpy(rec->identity, config->identity, sizeof(rec->identity));
	memcpy(rec->quota, config->quota, sizeof(rec->quota));
	memcpy(rec->name, config->name, sizeof(rec->name));
	rec->name[sizeof(rec->name) - 1] = '\0';
	rec->uid = config->uid;
	mm->nr_domains = syn_max(mm->nr_domains, domain + 1);
	syn_commit(&rec->state, config->stays	? SYN_DOMAIN_STAYS
				: config->found ? SYN_DOMAIN_FOUND
						: SYN_DOMAIN_USED);
	return 0;
}

int syn_mm_domain_get(struct syn_mm *mm, const struct syn_domain_config *config,
		      uint32_t *ret)
{
	uint32_t i = domain_find(mm, config->identity);
	bool fresh = i == SYN_NONE;
	int r;

	if (fresh)
		i = domain_unused(mm);
	if (i == SYN_NONE) {
		syn_domain_reap(mm);
		i = domain_unused(mm);
	}
	if (i == SYN_NONE)
		return -EUSERS;
	if (fresh)
		mm->domain[i] = (struct syn_domain){ 0 };
	if (fresh ||
	    (mm->rec_domain[i].state == SYN_DOMAIN_FOUND && !config->found)) {
		r = domain_fill(mm, i, config);
		if (r)
			return r;
	}
	*ret = i;
	return 0;
}

/* ---- for synapsectl ----------------------------------------------------- */

static uint32_t session_shares(const struct syn_session *s)
{
	uint32_t nr = 0;
	uint32_t w;
	uint32_t p;

	for (w = 0; w < s->nr_windows; w++)
		for (p = 0; p < SYN_PLANES; p++)
			nr += !!s->window[w][p].pool;
	return nr;
}

/* A pool's users are its pages and windows. */
static uint32_t domain_pages(const struct syn_mm *mm, uint32_t domain)
{
	uint64_t nr = 0;
	uint32_t i;

	for (i = 0; i < SYN_POOLS_MAX; i++)
		if (mm->pool[i] && mm->pool[i]->domain == domain &&
		    mm->pool[i]->tier == SYN_TIER_HBM)
			nr += mm->pool[i]->nr_users;
	for (i = 0; i < mm->cfg.max_sessions; i++)
		if (mm->session[i] && mm->session[i]->cfg.domain == domain)
			nr -= session_shares(mm->session[i]);
	return (uint32_t)nr;
}

static void stat_domain(const struct syn_mm *mm, uint32_t domain,
			struct syn_ctl_domain *ret)
{
	const struct syn_rec_domain *rec = &mm->rec_domain[domain];
	const struct syn_domain *d = &mm->domain[domain];
	uint32_t i;

	*ret = (struct syn_ctl_domain){
		.domain = domain,
		.uid = rec->uid,
		.nr_sessions = d->nr_sessions,
		.nr_pages = domain_pages(mm, domain),
		.refused = d->refused,
	};
	for (i = 0; i < SYN_QUOTA_TIERS; i++)
		ret->tier[i] = (struct syn_ctl_quota){
			.used = d->used[i],
			.min = rec->quota[i].min,
			.high = rec->quota[i].high,
			.max = rec->quota[i].max,
		};
	memcpy(ret->name, rec->name, sizeof(ret->name));
}

unsigned int syn_mm_stat_domains(const struct syn_mm *mm, uint64_t cursor,
				 struct syn_ctl_domain *ret, unsigned int max,
				 uint64_t *ret_next)
{
	unsigned int nr = 0;
	uint64_t i;

	for (i = cursor; i < mm->nr_domains && nr < max; i++)
		if (syn_domain_exists(mm, (uint32_t)i))
			stat_domain(mm, (uint32_t)i, &ret[nr++]);
	*ret_next = i < mm->nr_domains ? i : 0;
	return nr;
}
