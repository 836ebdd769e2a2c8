/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo model on a GPU: near what it is on the CPU, and the same bits
 * whatever was resident, whether tokens came in blocks or by a graph.  Pages
 * that stay encoded give nearly that, and the same bits each time.
 */
#include <math.h>
#include <stdio.h>

#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/gpu/watch.h"
#include "test/sys/harness.h"
#include "tools/infer/forward.h"
#include "tools/infer/kv.h"
#include "tools/infer/model.h"
#include "tools/infer/simd.h"

#define BLOCK	 SYN_PAGE_TOKENS
#define TOKENS	 1200u
#define ALONE	 (9 * BLOCK) /* from here on one by one in all runs */
#define ANSWERS	 (ALONE / BLOCK + TOKENS - ALONE)
#define RESIDENT 200u /* slots: more than all pages */
#define LAYERS	 6u
#define NEAR	 0.05f
#define LOSSY	 1.0f /* the CPU, which decodes such pages, is off by 0.28 */
#define AGAIN	 4u
/* All full pages but anchors and what has just become one no more. */
#define CODED (LAYERS * (ALONE / BLOCK - 3))

static const char *const daemon_args[] = { "--device",	    "cuda",   "--hbm",
					   "64M",	    "--host", "256M",
					   "--ladder-host", "h4",     NULL };
static const char *const host_args[] = { "--device",	  "host",   "--hbm",
					 "64M",		  "--host", "256M",
					 "--ladder-host", "h4",	    NULL };

static struct test_daemon host;

/**
 * struct run - a way through the text.
 * @gpu:	on the GPU.
 * @h4:		pages may be encoded.
 * @slots:	share of HBM in pages.
 * @step:	tokens at once, up to ALONE.
 * @next:	after each block, and after each token from ALONE on.
 * @faults:	batches with absent pages.
 * @coded:	pages of the last tokens that were read as they are stored.
 */
struct run {
	bool gpu;
	bool h4;
	unsigned int slots;
	unsigned int step;
	struct syn_next next[ANSWERS];
	uint64_t faults;
	uint64_t coded;
};

static struct syn_model *model;
static uint8_t text[TOKENS];

static int text_read(void)
{
	FILE *file = fopen(SYN_TEST_TEXT, "re");
	size_t nr = file ? fread(text, 1, TOKENS, file) : 0;

	if (file)
		(void)fclose(file);
	return nr == TOKENS ? 0 : -ENODATA;
}

/*
 * A token by a graph, all pages there: the host waits for the GPU once, at the
 * end.  The first one captures the graph.
 */
static int token_check(const struct run *run, unsigned int at)
{
	if (!run->gpu || run->slots < RESIDENT || at <= ALONE)
		return 0;
	if (watch_saw_one_wait())
		return 0;
	print_message("token %u: %u waits, %u copies\n", at, watch.waits,
		      watch.copies);
	return -EPROTO;
}

static int run_tokens(struct run *run, struct syn_forward *forward,
		      struct syn_kv_seq *seq)
{
	unsigned int nr_answers = 0;
	int r = 0;

	for (unsigned int at = 0, nr; at < TOKENS && !r; at += nr) {
		struct syn_next next;
		unsigned int end;

		nr = at < ALONE ? run->step : 1;
		end = at + nr;
		r = syn_kv_seq_grow(seq, at);
		watch_anew();
		if (!r)
			r = syn_forward_run(forward, seq, text + at, nr, at,
					    &next);
		if (!r)
			r = token_check(run, at);
		if (!r)
			r = syn_kv_seq_commit(seq, end);
		if (!r && (end % BLOCK == 0 || end > ALONE))
			run->next[nr_answers++] = next;
	}
	return r;
}

/* What may be encoded has been by now: the last token is the same once more. */
static int run_again(struct run *run, struct syn_kv *kv,
		     struct syn_forward *forward, struct syn_kv_seq *seq)
{
	const struct syn_kv_stats *stats = syn_kv_stats(kv);
	const uint64_t before = stats->coded;
	int r = 0;

	for (unsigned int i = 0; i < AGAIN && !r; i++) {
		struct syn_next next;

		r = syn_forward_run(forward, seq, text + TOKENS - 1, 1,
				    TOKENS - 1, &next);
		if (!r && memcmp(&next, &run->next[ANSWERS - 1], sizeof(next)))
			r = -EILSEQ;
	}
	run->coded = stats->coded - before;
	return r;
}

static int run_forward(struct run *run, struct syn_kv *kv)
{
	struct syn_forward *forward = NULL;
	struct syn_kv_seq *seq = NULL;
	int r;

	r = run->gpu ? syn_forward_gpu_new(model, kv, TOKENS, &forward)
		     : syn_forward_cpu_new(model, TOKENS, &forward);
	if (!r)
		r = syn_kv_seq_new(kv, text, TOKENS, &seq);
	if (!r)
		r = run_tokens(run, forward, seq);
	if (!r)
		r = run_again(run, kv, forward, seq);
	run->faults = syn_kv_stats(kv)->faults;
	syn_kv_seq_free(seq);
	syn_forward_free(forward);
	return r;
}

static int run_go(struct run *run)
{
	const struct syn_kv_opts opts = {
		.socket = run->gpu ? daemon_of_test.socket : host.socket,
		.model = model->identity,
		.config = &model->config,
		.slots = run->slots,
		.sequences = 1,
		.codec = run->h4 ? SYN_CODEC_H4 : SYN_CODEC_RAW16,
	};
	struct syn_kv *kv;
	int r = syn_kv_open(&opts, &kv);

	if (r)
		return r;
	r = run_forward(run, kv);
	syn_kv_close(kv);
	return r;
}

static float second(const struct syn_next *next)
{
	float best = -INFINITY;

	for (uint32_t i = 0; i < SYN_VOCAB; i++)
		if (i != next->byte)
			best = fmaxf(best, next->logits[i]);
	return best;
}

/* How far apart they are; -EILSEQ: too far, or another byte for certain. */
static int runs_near(const struct run *a, const struct run *b, float near,
		     float *ret)
{
	float far = 0;

	for (unsigned int n = 0; n < ANSWERS; n++) {
		const struct syn_next *x = &a->next[n], *y = &b->next[n];

		for (uint32_t i = 0; i < SYN_VOCAB; i++) {
			float apart = fabsf(x->logits[i] - y->logits[i]);

			if (!(apart < near))
				return -EILSEQ;
			far = fmaxf(far, apart);
		}
		if (x->logits[x->byte] - second(x) > 4 * near &&
		    x->byte != y->byte)
			return -EILSEQ;
	}
	*ret = far;
	return 0;
}

/* All that is encoded fits; a layer of it does; it goes through in copies. */
static int coded_runs(const struct run *raw)
{
	static struct run coded[] = {
		{ .gpu = true, .h4 = true, .slots = 100, .step = BLOCK },
		{ .gpu = true, .h4 = true, .slots = 28, .step = BLOCK },
		{ .gpu = true, .h4 = true, .slots = 2 * LAYERS, .step = BLOCK },
	};
	float far = 0;
	int r = 0;

	for (unsigned int i = 0; i < syn_array_size(coded) && !r; i++) {
		r = run_go(&coded[i]);
		if (!r)
			r = runs_near(raw, &coded[i], LOSSY, &far);
		print_message("coded run %u: %llu pages read so, up to %g\n", i,
			      (unsigned long long)coded[i].coded, (double)far);
		if (!r && coded[i].coded < AGAIN * CODED)
			r = -ENODATA;
	}
	return r;
}

/* Blocks; one by one; a layer at a time; less than a layer at a time. */
static int child(void *arg)
{
	static struct run cpu = { .slots = RESIDENT, .step = BLOCK };
	static struct run gpu[] = {
		{ .gpu = true, .slots = RESIDENT, .step = BLOCK },
		{ .gpu = true, .slots = RESIDENT, .step = 1 },
		{ .gpu = true, .slots = 3 * LAYERS, .step = BLOCK },
		{ .gpu = true, .slots = 2 * LAYERS, .step = 2 },
	};
	const struct syn_cuda_api *api;
	float far = 0;
	int r;

	(void)arg;
	r = syn_cuda_load(&api);
	if (r)
		return r;
	watch_begin(api);
	r = text_read();
	if (!r)
		r = syn_model_load(SYN_TEST_MODEL, &model);
	if (!r)
		r = run_go(&cpu);
	for (unsigned int i = 0; i < syn_array_size(gpu) && !r; i++) {
		r = run_go(&gpu[i]);
		if (!r && memcmp(gpu[i].next, gpu[0].next, sizeof(cpu.next))) {
			print_message("run %u has other bits\n", i);
			r = -EILSEQ;
		}
		print_message("run %u: %llu batches loaded\n", i,
			      (unsigned long long)gpu[i].faults);
	}
	if (!r && (!gpu[2].faults || !gpu[3].faults))
		r = -EPROTO;
	if (!r)
		r = runs_near(&cpu, &gpu[0], NEAR, &far);
	if (!r)
		print_message("logits differ by up to %g\n", (double)far);
	if (!r)
		r = coded_runs(&gpu[0]);
	syn_model_free(model);
	return r;
}

static void test_gpu_computes_what_the_cpu_does(void **state)
{
	(void)state;
	test_patience(240);
	daemon_start(&host, host_args);
	assert_int_equal(gpu_join(gpu_fork(child, NULL)), 0);
	daemon_stop(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gpu_computes_what_the_cpu_does),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
