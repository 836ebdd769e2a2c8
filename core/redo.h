/* SPDX-License-Identifier: Apache-2.0 */
/* Changes that take more than one store: meant first, then done. */
#ifndef SYN_CORE_REDO_H
#define SYN_CORE_REDO_H

#include "core/mm-internal.h"

/*
 * The page of @move gets the encoded copy in its frame: all but its flag, which
 * the caller sets before syn_redo_end().
 */
void syn_redo_encoded(struct syn_mm *mm, uint32_t move);
void syn_redo_end(struct syn_mm *mm);

void syn_redo_quota(struct syn_mm *mm, uint32_t domain, uint32_t tier,
		    const struct syn_quota *quota);

/* What a worker that is gone meant is done, and nothing is left to do again. */
void syn_redo_again(struct syn_mm *mm);

#endif
