/* SPDX-License-Identifier: Apache-2.0 */
/* Changes that take more than one store. */
#include "core/redo.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/page.h"

/* From now on its sums are those of the encoded copy. */
static void redo_encoded(struct syn_mm *mm)
{
	const struct syn_rec_redo *redo = mm->redo;
	const struct syn_rec_move *mv = &mm->move[redo->move];
	struct syn_rec_page *pg = &mm->page[mv->page];
	uint32_t nr = mm->space[pg->space].nr_tiles;

	syn_failpoint();
	memcpy(syn_page_sums(mm, mv->page), redo->sum,
	       nr * sizeof(redo->sum[0]));
	syn_failpoint();
	memcpy(syn_page_errors(mm, mv->page), redo->error,
	       nr * sizeof(redo->error[0]));
	syn_commit(&pg->codec, (uint8_t)mv->codec);
	syn_commit(&pg->fidelity, SYN_FIDELITY_H4);
	syn_commit(&pg->host, mv->host);
}

static void redo_quota(struct syn_mm *mm)
{
	const struct syn_rec_redo *redo = mm->redo;
	struct syn_quota *quota =
		&mm->rec_domain[redo->domain].quota[redo->tier - SYN_TIER_HBM];

	syn_commit(&quota->min, redo->quota.min);
	syn_commit(&quota->high, redo->quota.high);
	syn_commit(&quota->max, redo->quota.max);
}

void syn_redo_encoded(struct syn_mm *mm, uint32_t move)
{
	const struct syn_move_result *result = &mm->move_result[move];
	struct syn_rec_redo *redo = mm->redo;
	uint32_t page = mm->move[move].page;
	uint32_t nr = mm->space[mm->page[page].space].nr_tiles;

	redo->move = move;
	memcpy(redo->sum, result->stored, nr * sizeof(redo->sum[0]));
	memcpy(redo->error, result->error, nr * sizeof(redo->error[0]));
	syn_commit(&redo->state, SYN_REDO_ENCODED);
	redo_encoded(mm);
}

void syn_redo_end(struct syn_mm *mm)
{
	syn_commit(&mm->redo->state, SYN_REDO_NONE);
}

void syn_redo_quota(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		    const struct syn_quota *quota)
{
	struct syn_rec_redo *redo = mm->redo;

	redo->domain = domain;
	redo->tier = tier;
	redo->quota = *quota;
	syn_commit(&redo->state, SYN_REDO_QUOTA);
	redo_quota(mm);
	syn_redo_end(mm);
}

void syn_redo_again(struct syn_mm *mm)
{
	struct syn_rec_page *pg = &mm->page[mm->move[mm->redo->move].page];

	switch (mm->redo->state) {
	case SYN_REDO_ENCODED:
		redo_encoded(mm);
		syn_commit(&pg->flags, (uint16_t)(pg->flags | SYN_PAGE_F_HOST));
		break;
	case SYN_REDO_QUOTA:
		redo_quota(mm);
		break;
	default:
		return;
	}
	syn_redo_end(mm);
}
