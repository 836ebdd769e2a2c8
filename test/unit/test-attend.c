/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/attend, the plain C form. */
#include <errno.h>

#include "core/base/fault.h"
#include "test/test.h"
#include "test/unit/attend-contract.h"

static struct attend_bench *const b = &attend_bench;

static const struct attend_form plain = {
	.run = syn_attend,
	.close = 1e-5,
};

const struct attend_form *attend_form = &plain;

/* Parts and sequences, which a GPU's form does not look at beforehand. */
static void test_parts_refused(void **state)
{
	struct syn_attend_batch batch = {
		.q = b->q,
		.parts = b->parts,
		.seqs = b->seqs,
		.nr_seqs = 1,
		.out = b->answers[0].out,
		.lse = b->answers[0].lse,
	};

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, 64, 1, 0, 2);
	b->seqs[0] = (struct syn_attend_seq){ .nr = 5, .last = 1 };
#define REFUSED(change, back)                                                  \
	do {                                                                   \
		change;                                                        \
		assert_int_equal(syn_attend(&b->shape, &batch), -EINVAL);      \
		back;                                                          \
	} while (0)
	REFUSED(b->parts[4].nr_tokens = 0, b->parts[4].nr_tokens = 2);
	REFUSED(b->parts[4].nr_tokens = SYN_TILE_TOKENS + 1,
		b->parts[4].nr_tokens = 2);
	REFUSED(b->parts[2].k.codec = SYN_CODEC_NR,
		b->parts[2].k.codec = SYN_CODEC_RAW16);
	REFUSED(b->parts[2].v.token++, b->parts[2].v.token--);
	REFUSED(b->seqs[0].last = 0, b->seqs[0].last = 1);
	REFUSED(b->seqs[0].last = 3, b->seqs[0].last = 1);
#undef REFUSED
	syn_fault_arm(1);
	assert_int_equal(syn_attend(&b->shape, &batch), -ENOMEM);
	assert_true(syn_fault_disarm());
	assert_int_equal(syn_attend(&b->shape, &batch), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_refused),
	};
	int contract = attend_contract();

	return test_main(tests) || contract;
}
