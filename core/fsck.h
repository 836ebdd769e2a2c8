/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fsck: a walk over all records, to see that they agree with each other and
 * with what is derived of them, while clients go on.
 *
 * It goes in steps of bounded work.  What one record says of its neighbours
 * (a frame of its owner, a lessee of its page and its entry) holds at any
 * moment and is compared in each step.  What is counted over all records
 * (charges, frames that have an owner, lists of free records) is compared only
 * if nothing has changed since the walk began; small managers are walked in
 * one step, and any with SYN_FSCK_ALL.  Nothing that is found is put right, and
 * nothing that is read is trusted: an index is looked at before it is followed.
 *
 * The bytes of pages are not read: sums are compared whenever bytes move.
 */
#ifndef SYN_CORE_FSCK_H
#define SYN_CORE_FSCK_H

#include "core/mm.h"

struct syn_fsck;

/* A walk that is about to begin.  -ENOMEM. */
int syn_fsck_new(const struct syn_mm *mm, struct syn_fsck **ret);
/* Takes NULL, returns NULL. */
struct syn_fsck *syn_fsck_free(struct syn_fsck *fsck);

/*
 * One step of about @work, in units of about a nanosecond; false: it was the
 * last.  An extent, a session and the sums over all are not divided.
 */
bool syn_fsck_step(struct syn_fsck *fsck, int64_t work);
#define SYN_FSCK_STEP 1048576 /* a millisecond or two */
#define SYN_FSCK_ALL  INT64_MAX

/* How many things were found so far, with SYN_FSCK_MOVED. */
uint64_t syn_fsck_found(const struct syn_fsck *fsck);
/* The first of them: their number, and an array that lives as long as @fsck. */
uint32_t syn_fsck_findings(const struct syn_fsck *fsck,
			   const struct syn_ctl_fsck **ret);

#endif
