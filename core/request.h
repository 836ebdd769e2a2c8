/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request that is carried out, as the next worker must know it.
 *
 * What a request gives out counts before anybody has been told of it.  Until
 * syn_mm_end() it can be taken back, or, once the request is certain, what is
 * missing of it can be done.  Without syn_mm_begin() nothing is noted.
 */
#ifndef SYN_CORE_REQUEST_H
#define SYN_CORE_REQUEST_H

#include "core/mm-internal.h"

/* Before the lessee, or the loan of the session, counts. */
void syn_request_gives(struct syn_mm *mm, uint32_t lessee);
void syn_request_lends(struct syn_mm *mm, uint32_t loan);

/* Nothing can refuse it any more, and nothing of it has been done yet. */
void syn_request_certain(struct syn_mm *mm, uint32_t outcome);

/* It was certain when a worker died: some of it may have been done. */
bool syn_request_again(const struct syn_mm *mm);

#endif
