/* SPDX-License-Identifier: Apache-2.0 */
/* SEAL: a page becomes immutable and gets a key. */
#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/trace.h"
#include "core/depart.h"
#include "core/index.h"
#include "core/lease.h"
#include "core/page.h"
#include "core/quarantine.h"
#include "core/request.h"

/* It was sealed, and perhaps lost since, and a worker died before it said so. */
static bool seal_again(const struct syn_session *s, const struct syn_sqe *sqe)
{
	const struct syn_mm *mm = s->mm;
	uint32_t lessee;

	return syn_request_again(mm) &&
	       !syn_lease_find(s, sqe->object, &lessee) &&
	       mm->page[mm->lessee[lessee].page].state != SYN_PAGE_FULL;
}

static int seal_check_page(const struct syn_session *s,
			   const struct syn_sqe *sqe, uint32_t *ret_lessee)
{
	const struct syn_mm *mm = s->mm;
	const struct syn_rec_page *pg;
	int r;

	r = syn_lease_find(s, sqe->object, ret_lessee);
	if (r)
		return r;
	pg = &mm->page[mm->lessee[*ret_lessee].page];
	if (!(mm->lessee[*ret_lessee].flags & SYN_LESSEE_WRITE))
		return -EPERM;
	if (pg->state == SYN_PAGE_LOST)
		return -EILSEQ;
	if (pg->state != SYN_PAGE_FULL)
		return -EINVAL;
	if (sqe->nr != mm->space[pg->space].nr_tiles &&
	    (sqe->nr || !syn_page_is(pg, SYN_PAGE_F_SUMS)))
		return -EINVAL;
	return 0;
}

static int seal_check(const struct syn_session *s, const struct syn_sqe *sqe,
		      uint32_t *ret_lessee)
{
	uint64_t timeline = sqe->arg[3];

	if (!sqe->arg[0] && !sqe->arg[1])
		return -EINVAL;
	if (timeline >= s->cfg.nr_timelines ||
	    sqe->arg[2] > syn_load_acquire(&s->cfg.timeline[timeline].issued))
		return -EINVAL;
	return seal_check_page(s, sqe, ret_lessee);
}

/* A page that is lost keeps its key until somebody brings the bytes again. */
static bool key_taken(struct syn_session *s, const struct syn_rec_page *pg,
		      const uint64_t key[2])
{
	struct syn_mm *mm = s->mm;
	uint32_t other = syn_index_find(mm, pg->domain, pg->space, key);

	if (other == SYN_NONE)
		return false;
	if (mm->page[other].state != SYN_PAGE_LOST)
		return true;
	syn_depart(mm, other, SYN_WHY_REPLACED, 0, s->cfg.id);
	syn_page_unkey(mm, other);
	return false;
}

static void seal_key(struct syn_session *s, uint32_t page,
		     const struct syn_sqe *sqe)
{
	struct syn_rec_page *pg = &s->mm->page[page];

	pg->key[0] = sqe->arg[0];
	pg->key[1] = sqe->arg[1];
	pg->ready_value = sqe->arg[2];
	pg->ready_timeline = (uint8_t)sqe->arg[3];
	pg->ready_session = (uint16_t)s->index;
	syn_index_add(s->mm, page);
	syn_page_change(s->mm, page, SYN_PAGE_F_KEYED, 0);
}

int syn_mm_seal(struct syn_session *session, const struct syn_sqe *sqe,
		const uint32_t *sums)
{
	struct syn_mm *mm = session->mm;
	struct syn_rec_page *pg;
	uint32_t tile = 0;
	uint32_t lessee;
	uint32_t page;
	bool dup;
	int r;

	if (seal_again(session, sqe))
		return (int)mm->head->request.outcome;
	r = seal_check(session, sqe, &lessee);
	if (r)
		return r;
	page = mm->lessee[lessee].page;
	pg = &mm->page[page];
	/* Of an encoded page the sums are those of what is stored. */
	if (sqe->nr && pg->codec == SYN_CODEC_RAW16) {
		r = syn_page_verify(mm, page, sums, &tile);
		if (r) {
			syn_page_lost(mm, page, tile, SYN_TIER_HBM,
				      SYN_WHY_CHECKSUM);
			return r;
		}
	}
	dup = key_taken(session, pg, sqe->arg);
	syn_request_certain(mm, dup ? SYN_E_DUP : 0);
	/* With its key it is sealed, whatever happens. */
	if (!dup)
		seal_key(session, page, sqe);
	syn_commit(&pg->state, SYN_PAGE_SEALED);
	syn_commit(&mm->lessee[lessee].flags,
		   (uint8_t)(mm->lessee[lessee].flags & ~SYN_LESSEE_WRITE));
	mm->changes++;
	mm->count.seals++;
	mm->count.nr_sealed++;
	mm->count.dups += dup;
	SYN_PROBE(seal, session->cfg.id, page, dup ? SYN_E_DUP : 0);
	return dup ? SYN_E_DUP : 0;
}
