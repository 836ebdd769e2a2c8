/* SPDX-License-Identifier: Apache-2.0 */
/* Fsck finds nothing, in a walk of its own; and no quota is exceeded. */
#include "test/unit/core-harness.h"

#include "core/fsck.h"

static void fsck_print(const struct syn_fsck *f)
{
	const struct syn_ctl_fsck *at;
	uint32_t nr = syn_fsck_findings(f, &at);

	for (; nr--; at++)
		print_error("object %u, field %u, index %u, part %u: expected "
			    "%llu, found %llu\n",
			    at->object, at->field, at->index, at->part,
			    (unsigned long long)at->expected,
			    (unsigned long long)at->found);
}

/* As long as none is set to less than what is taken. */
static void audit_quotas(const struct syn_mm *mm)
{
	uint32_t i;
	uint32_t t;

	for (i = 0; i < SYN_DOMAINS_MAX; i++) {
		const struct syn_rec_domain *rec = &mm->rec_domain[i];

		for (t = 0; t < 2; t++)
			assert_true(mm->domain[i].used[t] <=
					    rec->quota[t].max ||
				    mm->domain[i].used[t] <= rec->quota[t].min);
	}
}

void world_audit(const struct world *w)
{
	struct syn_fsck *f;

	assert_int_equal(syn_fsck_new(w->mm, &f), 0);
	while (syn_fsck_step(f, 4096))
		;
	if (syn_fsck_found(f))
		fsck_print(f);
	assert_true(syn_fsck_found(f) == 0);
	assert_null(syn_fsck_free(f));
	audit_quotas(w->mm);
}
