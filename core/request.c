/* SPDX-License-Identifier: Apache-2.0 */
/* The request that is carried out. */
#include "core/request.h"

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/kept.h"

static bool request_is(const struct syn_rec_request *rec,
		       const struct syn_session *session, uint64_t cookie)
{
	return rec->state == SYN_REQUEST_CERTAIN &&
	       rec->session == session->index && rec->cookie == cookie;
}

void syn_mm_begin(struct syn_session *session, uint64_t cookie)
{
	struct syn_mm *mm = session->mm;
	struct syn_rec_request *rec = &mm->head->request;

	mm->again = request_is(rec, session, cookie);
	if (mm->again)
		return;
	syn_commit(&rec->state, SYN_REQUEST_NONE);
	rec->session = session->index;
	rec->cookie = cookie;
	memset(rec->loans, 0, sizeof(rec->loans));
	rec->nr_given = 0;
	syn_commit(&rec->state, SYN_REQUEST_BEGUN);
}

void syn_mm_end(struct syn_mm *mm)
{
	mm->again = false;
	syn_commit(&mm->head->request.state, SYN_REQUEST_NONE);
}

void syn_request_gives(struct syn_mm *mm, uint32_t lessee)
{
	struct syn_rec_request *rec = &mm->head->request;

	if (rec->state == SYN_REQUEST_NONE)
		return;
	rec->given[rec->nr_given] = lessee;
	syn_commit(&rec->nr_given, rec->nr_given + 1);
}

void syn_request_lends(struct syn_mm *mm, uint32_t loan)
{
	struct syn_rec_request *rec = &mm->head->request;

	if (rec->state != SYN_REQUEST_NONE)
		syn_kept_bit_set(rec->loans, loan);
}

void syn_request_certain(struct syn_mm *mm, uint32_t outcome)
{
	struct syn_rec_request *rec = &mm->head->request;

	if (rec->state == SYN_REQUEST_NONE)
		return;
	syn_commit(&rec->outcome, outcome);
	syn_commit(&rec->state, SYN_REQUEST_CERTAIN);
}

bool syn_request_again(const struct syn_mm *mm)
{
	return mm->again;
}
