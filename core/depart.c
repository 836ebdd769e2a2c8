/* SPDX-License-Identifier: Apache-2.0 */
/* How pages left, the last few of them. */
#include "core/depart.h"

#include "core/base/base.h"
#include "core/base/fault.h"

static struct syn_departure *departure_at(const struct syn_mm *mm, uint64_t nr)
{
	return &mm->departure[nr % SYN_DEPARTURES];
}

int syn_depart_init(struct syn_mm *mm)
{
	mm->departure = syn_alloc(SYN_DEPARTURES, sizeof(*mm->departure));
	return mm->departure ? 0 : -ENOMEM;
}

/* Who makes room drops many pages, so the last answer is likely this one. */
static void departure_session(const struct syn_mm *mm,
			      struct syn_departure *ret)
{
	const struct syn_departure *last =
		departure_at(mm, mm->nr_departures - 1);
	uint32_t i;

	if (ret->session == SYN_NONE)
		return;
	if (mm->nr_departures && last->session == ret->session) {
		ret->pid = last->pid;
		memcpy(ret->name, last->name, sizeof(ret->name));
		return;
	}
	for (i = 0; i < mm->cfg.max_sessions; i++) {
		const struct syn_session *s = mm->session[i];

		if (!s || s->cfg.id != ret->session)
			continue;
		ret->pid = s->cfg.pid;
		memcpy(ret->name, s->cfg.name, sizeof(ret->name));
		return;
	}
}

void syn_depart(struct syn_mm *mm, uint32_t page, uint32_t cause, uint32_t tier,
		uint32_t session)
{
	const struct syn_rec_page *pg = &mm->page[page];
	const struct syn_rec_domain *domain = &mm->rec_domain[pg->domain];
	struct syn_departure departure = {
		.key = { pg->key[0], pg->key[1] },
		.identity = { domain->identity[0], domain->identity[1] },
		.at_ns = mm->now_ns,
		.page = page,
		.generation = pg->generation,
		.space = pg->space,
		.domain = pg->domain,
		.session = session,
		.cause = (uint8_t)cause,
		.tier = (uint8_t)tier,
		.fidelity = pg->fidelity,
	};

	departure_session(mm, &departure);
	*departure_at(mm, mm->nr_departures++) = departure;
}

const struct syn_departure *syn_depart_find(const struct syn_mm *mm,
					    const uint64_t key[2], uint64_t *at)
{
	while ((*at)-- && mm->nr_departures - *at <= SYN_DEPARTURES) {
		const struct syn_departure *d = departure_at(mm, *at);

		if (d->key[0] == key[0] && d->key[1] == key[1])
			return d;
	}
	return NULL;
}
