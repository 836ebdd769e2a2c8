/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels/attend, the form for CUDA: its contract, and the plain C form beside
 * it where strips are more than a part.  What it reads and writes is memory of
 * this process.
 */
#include <math.h>
#include <stdio.h>

#include "core/base/base.h"
#include "kernels/attend/attend-gpu.h"
#include "kernels/cuda/gpu-internal.h"
#include "test/gpu/driver.h"
#include "test/test.h"
#include "test/unit/attend-contract.h"

#define SCRATCH	  (64ull << 20)
#define PARTS_MAX 600u
#define CLOSE	  5e-4

static struct attend_bench *const b = &attend_bench;
static struct syn_gpu *gpu;
static struct syn_attend_gpu *attend;
static CUdeviceptr scratch;

/**
 * struct far - many parts, and what comes out of them in both forms.
 * @parts:	those of the bench, over and over.
 * @seqs:	of several lengths.
 * @q:		a query for each.
 * @out:	see struct syn_attend_batch, and so on.
 * @lse:	see there.
 * @shares:	see there.
 */
static struct far {
	_Alignas(4096) struct syn_attend_part parts[PARTS_MAX];
	_Alignas(16) struct syn_attend_seq seqs[16];
	_Alignas(16) uint16_t q[16 * 4 * ATTEND_HEADS * ATTEND_DIM_MAX];
	_Alignas(16) float out[2][16 * 4 * ATTEND_HEADS * ATTEND_DIM_MAX];
	_Alignas(16) float lse[2][16 * 4 * ATTEND_HEADS];
	_Alignas(16) float shares[2][16 * PARTS_MAX * 4 * ATTEND_HEADS];
} far;

static int run_parts(const struct syn_attend_shape *shape,
		     const struct syn_attend_batch *batch, uint64_t nr_parts)
{
	int r;

	r = syn_attend_gpu(attend, shape, batch, nr_parts, scratch, NULL);
	if (r)
		return r;
	assert_int_equal(gpu->api->cuStreamSynchronize(NULL), 0);
	return 0;
}

static int run(const struct syn_attend_shape *shape,
	       const struct syn_attend_batch *batch)
{
	return run_parts(shape, batch, (uint64_t)batch->nr_seqs * ATTEND_PARTS);
}

static const struct attend_form cuda = { .run = run, .close = CLOSE };

const struct attend_form *attend_form = &cuda;

/* ---- many parts --------------------------------------------------------- */

/* Lengths on either side of where strips become longer. */
static uint32_t far_make(uint32_t nr)
{
	static const uint32_t lengths[] = { 1,	 31,  63,  64,	65,  95,
					    96,	 97,  255, 256, 257, 263,
					    264, 300, 599, 600 };
	uint32_t shares = 0;

	for (uint32_t i = 0; i < PARTS_MAX; i++) {
		far.parts[i] = b->parts[i % (ATTEND_PARTS - 1)];
		far.parts[i].nr_tokens = 1 + i * 37 % SYN_TILE_TOKENS;
	}
	for (uint32_t i = 0; i < nr; i++) {
		const struct syn_attend_part *last = &far.parts[lengths[i] - 1];

		far.seqs[i] = (struct syn_attend_seq){
			.nr = lengths[i],
			.last = (last->nr_tokens + 1) / 2,
			.share = shares,
		};
		shares += lengths[i];
	}
	for (uint32_t i = 0; i < syn_array_size(far.q); i++)
		far.q[i] = b->q[i % (ATTEND_QUERIES * ATTEND_DIM_MAX)];
	return shares;
}

static struct syn_attend_batch far_batch(unsigned int form, uint32_t nr)
{
	return (struct syn_attend_batch){
		.q = far.q,
		.parts = far.parts,
		.seqs = far.seqs,
		.nr_seqs = nr,
		.out = far.out[form],
		.lse = far.lse[form],
		.shares = far.shares[form],
	};
}

/* Relative to the size of all of it. */
static double off(const float *a, const float *b2, size_t nr)
{
	double apart = 0, all = 0;

	for (size_t i = 0; i < nr; i++) {
		apart += (a[i] - b2[i]) * (a[i] - b2[i]);
		all += b2[i] * b2[i];
	}
	return sqrt(apart / all);
}

static void far_check(uint16_t dtype, uint16_t dim, uint16_t group,
		      unsigned int coded)
{
	const uint32_t nr = syn_array_size(far.seqs);
	const size_t heads = (size_t)group * ATTEND_HEADS;
	struct syn_attend_batch batch;
	uint32_t shares;

	attend_bench_make(dtype, dim, group, coded, SYN_TILE_TOKENS);
	shares = far_make(nr);
	batch = far_batch(0, nr);
	assert_int_equal(syn_attend(&b->shape, &batch), 0);
	batch = far_batch(1, nr);
	assert_int_equal(run_parts(&b->shape, &batch, shares), 0);
	assert_true(off(far.out[1], far.out[0], nr * heads * dim) < CLOSE);
	assert_true(off(far.lse[1], far.lse[0], nr * heads) < CLOSE);
	assert_true(off(far.shares[1], far.shares[0], shares * heads) < CLOSE);
}

static void test_many_parts(void **state)
{
	(void)state;
	far_check(SYN_DTYPE_F16, 128, 4, 0);
	far_check(SYN_DTYPE_F16, 128, 4, 0x1f1f);
	far_check(SYN_DTYPE_BF16, 64, 3, 0x0a05);
	far_check(SYN_DTYPE_BF16, 128, 2, 0x0516);
}

/* Room for less than there is: told, and nothing else is written. */
static void test_too_many_parts(void **state)
{
	struct syn_attend_batch batch;

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, 128, 1, 0, SYN_TILE_TOKENS);
	(void)far_make(4);
	batch = far_batch(0, 4);
	/* Bands of four parts, the last one's of eight; none has fewer than one. */
	assert_int_equal(run_parts(&b->shape, &batch, 1 + 8 + 16 + 7), 0);
	for (uint32_t i = 0; i < 4 * ATTEND_HEADS; i++)
		assert_int_equal(!isfinite(far.lse[0][i]),
				 i / ATTEND_HEADS == 3);
	assert_int_equal(run_parts(&b->shape, &batch, 1 + 8 + 16 + 8), 0);
	for (uint32_t i = 0; i < 4 * ATTEND_HEADS; i++)
		assert_true(isfinite(far.lse[0][i]));
}

static void test_number_of_sequences(void **state)
{
	struct syn_attend_batch batch = far_batch(0, 0);

	(void)state;
	attend_bench_make(SYN_DTYPE_F16, 64, 1, 0, SYN_TILE_TOKENS);
	assert_int_equal(run(&b->shape, &batch), -EINVAL);
	batch.nr_seqs = SYN_ATTEND_GPU_SEQS_MAX + 1;
	assert_int_equal(run(&b->shape, &batch), -EINVAL);
}

/* ---- a GPU for it ------------------------------------------------------- */

static int open_all(void)
{
	int r;

	r = syn_gpu_open(&gpu, NULL);
	if (r)
		return r;
	r = syn_gpu_register(gpu, b, syn_align_up(sizeof(*b), 4096));
	if (!r)
		r = syn_gpu_register(gpu, &far,
				     syn_align_up(sizeof(far), 4096));
	return r ? r : syn_attend_gpu_open(gpu, &attend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_parts),
		cmocka_unit_test(test_too_many_parts),
		cmocka_unit_test(test_number_of_sequences),
	};
	struct syn_gpu_scope scope;
	int r = open_all(), contract, own;

	if (r == -ENODEV || r == -ENOSYS)
		return TEST_SKIP;
	if (r || syn_gpu_enter(gpu, &scope)) {
		(void)fprintf(stderr, "opening: %d\n", r);
		return 1;
	}
	if (gpu->api->cuMemAlloc_v2(&scratch, SCRATCH))
		return 1;
	contract = attend_contract();
	own = test_main(tests);
	(void)gpu->api->cuMemFree_v2(scratch);
	syn_gpu_leave(&scope);
	syn_attend_gpu_close(attend);
	syn_gpu_close(gpu);
	return contract || own;
}
