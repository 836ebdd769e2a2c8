/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adoption: what a worker that is gone has kept is made whole again.
 *
 * Nothing is trusted to be finished, and nothing that is derived to be there.
 * Each store here follows from one record alone and is made again by who comes
 * next, so that their order does not count.
 */
#ifndef SYN_CORE_ADOPT_H
#define SYN_CORE_ADOPT_H

#include "core/mm-internal.h"

/* All that needs no session, as syn_mm_adopt(). */
int syn_adopt_begin(struct syn_mm *mm, struct syn_misfit *ret_misfit);

#endif
