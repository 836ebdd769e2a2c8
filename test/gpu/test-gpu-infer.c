/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo model on a GPU: near what it is on the CPU, and the same bits
 * whatever was resident, whether tokens came in blocks or by a graph.  Pages
 * that stay encoded give nearly that, and the same bits each time.
 *
 * A step waits for the GPU once, whether its pages are there or all come from
 * the host.  The shares of attention that it reports are near the CPU's.
 */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/gpu/watch.h"
#include "test/sys/harness.h"
#include "tools/infer/forward.h"
#include "tools/infer/kv-internal.h"
#include "tools/infer/model.h"
#include "tools/infer/simd.h"

#define BLOCK	  SYN_PAGE_TOKENS
#define TOKENS	  1200u
#define ALONE	  (9 * BLOCK) /* from here on one by one in all runs */
#define ANSWERS	  (ALONE / BLOCK + TOKENS - ALONE)
#define RESIDENT  200u /* slots: more than all pages */
#define LAYERS	  6u
#define NEAR	  0.05f
#define HEAT_NEAR 0.01 /* of what a page has; a query head's token is 1 */
#define LOSSY	  1.0f /* the CPU, which decodes such pages, is off by 0.28 */
#define AGAIN	  4u
#define HEADS	  4u

/* Two long sequences, then a token of each in turn. */
#define FULL   24u
#define STEPS  8u
#define LENGTH (FULL * BLOCK + STEPS)
/* Slots: what grows, and all full pages of one of them, or more than both. */
#define ONE  (LAYERS * (2 + FULL + 1))
#define BOTH (LAYERS * (2 + 3 * FULL))
/* The same, where 2 * LAYERS pages of each are raw and others a quarter. */
#define ONE_CODED 93u
/* Graphs are captured by then, and what may be encoded has been. */
#define STEADY STEPS
/* All full pages but anchors and what has just become one no more. */
#define CODED (LAYERS * (ALONE / BLOCK - 3))

static const char *const daemon_args[] = { "--device",	    "cuda",   "--hbm",
					   "128M",	    "--host", "256M",
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
static uint8_t text[2 * LENGTH];

static int text_read(void)
{
	FILE *file = fopen(SYN_TEST_TEXT, "re");
	size_t nr = file ? fread(text, 1, sizeof(text), file) : 0;

	if (file)
		(void)fclose(file);
	return nr == sizeof(text) ? 0 : -ENODATA;
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

static int cache_open(const struct syn_kv_opts *want, bool h4,
		      struct syn_kv **ret)
{
	struct syn_kv_opts opts = *want;

	opts.model = model->identity;
	opts.config = &model->config;
	opts.codec = h4 ? SYN_CODEC_H4 : SYN_CODEC_RAW16;
	return syn_kv_open(&opts, ret);
}

static int run_go(struct run *run)
{
	const struct syn_kv_opts opts = {
		.socket = run->gpu ? daemon_of_test.socket : host.socket,
		.slots = run->slots,
		.sequences = 1,
	};
	struct syn_kv *kv;
	int r = cache_open(&opts, run->h4, &kv);

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

static int child_begin(void)
{
	const struct syn_cuda_api *api;
	int r = syn_cuda_load(&api);

	if (r)
		return r;
	watch_begin(api);
	r = text_read();
	return r ? r : syn_model_load(SYN_TEST_MODEL, &model);
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
	float far = 0;
	int r;

	(void)arg;
	r = child_begin();
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

/* ---- steps over absent pages -------------------------------------------- */

/**
 * struct steps - two sequences in turn.
 * @slots:	share of HBM in pages.
 * @h4:		pages may be encoded.
 * @absent:	each pushes out the other.
 * @next:	after each step.
 */
struct steps {
	unsigned int slots;
	bool h4;
	bool absent;
	struct syn_next next[2][STEPS];
};

/*
 * One wait, at the end; and there was room for all that had to come, or none
 * had to.
 */
static int step_check(const struct steps *s, unsigned int i,
		      const struct syn_kv_stats *before,
		      const struct syn_kv_stats *after)
{
	uint64_t faults = after->faults - before->faults;
	uint64_t coded = after->coded - before->coded;

	if (watch_saw_one_wait() && after->retries == before->retries &&
	    (s->absent ? faults >= LAYERS : !faults) &&
	    (s->h4 ? coded > LAYERS : !coded))
		return 0;
	print_message("step %u: %u waits, %u looks, %u copies, %llu loads, "
		      "%llu refused, %llu coded\n",
		      i, watch.waits, watch.looks, watch.copies,
		      (unsigned long long)faults,
		      (unsigned long long)(after->retries - before->retries),
		      (unsigned long long)coded);
	return -EPROTO;
}

static int step_run(struct steps *s, struct syn_kv *kv,
		    struct syn_forward *forward, struct syn_kv_seq *seq,
		    unsigned int i)
{
	const uint8_t *tokens = text + (size_t)(i % 2) * LENGTH;
	const unsigned int at = FULL * BLOCK + i / 2;
	struct syn_kv_stats before;
	int r = syn_kv_seq_grow(seq, at);

	before = *syn_kv_stats(kv);
	watch_anew();
	if (!r)
		r = syn_forward_run(forward, seq, tokens + at, 1, at,
				    &s->next[i % 2][i / 2]);
	if (!r && i >= STEADY)
		r = step_check(s, i, &before, syn_kv_stats(kv));
	return r ? r : syn_kv_seq_commit(seq, at + 1);
}

static int steps_prompt(struct syn_forward *forward, struct syn_kv_seq *seq,
			const uint8_t *tokens)
{
	int r = 0;

	for (unsigned int at = 0; at < FULL * BLOCK && !r; at += BLOCK) {
		r = syn_kv_seq_grow(seq, at);
		if (!r)
			r = syn_forward_run(forward, seq, tokens + at, BLOCK,
					    at, NULL);
		if (!r)
			r = syn_kv_seq_commit(seq, at + BLOCK);
	}
	return r;
}

static int steps_forward(struct steps *s, struct syn_kv *kv)
{
	struct syn_kv_seq *seq[2] = { NULL };
	struct syn_forward *forward = NULL;
	int r = syn_forward_gpu_new(model, kv, LENGTH, &forward);

	for (unsigned int i = 0; i < 2 && !r; i++) {
		const uint8_t *tokens = text + (size_t)i * LENGTH;

		r = syn_kv_seq_new(kv, tokens, LENGTH, &seq[i]);
		if (!r)
			r = steps_prompt(forward, seq[i], tokens);
	}
	for (unsigned int i = 0; i < 2 * STEPS && !r; i++)
		r = step_run(s, kv, forward, seq[i % 2], i);
	for (unsigned int i = 0; i < 2; i++)
		syn_kv_seq_free(seq[i]);
	syn_forward_free(forward);
	return r;
}

static int steps_go(struct steps *s)
{
	const struct syn_kv_opts opts = {
		.socket = daemon_of_test.socket,
		.slots = s->slots,
		.sequences = 2,
	};
	struct syn_kv *kv;
	int r = cache_open(&opts, s->h4, &kv);

	if (r)
		return r;
	r = steps_forward(s, kv);
	syn_kv_close(kv);
	return r;
}

static int child_steps(void *arg)
{
	static struct steps steps[] = {
		{ .slots = BOTH },
		{ .slots = ONE, .absent = true },
		{ .slots = ONE_CODED, .h4 = true, .absent = true },
	};
	int r = child_begin();

	(void)arg;
	for (unsigned int i = 0; i < syn_array_size(steps) && !r; i++) {
		r = steps_go(&steps[i]);
		print_message("steps over %u slots: %d\n", steps[i].slots, r);
	}
	if (!r && memcmp(steps[0].next, steps[1].next, sizeof(steps[0].next)))
		r = -EILSEQ;
	syn_model_free(model);
	return r;
}

/* ---- shares of attention ------------------------------------------------ */

/**
 * struct heat - what the daemon was told of a sequence.
 * @page:	attention of each full page, of one token and query head 1.
 * @total:	of all pages, also the one that grows.
 */
struct heat {
	double page[LAYERS][ALONE / BLOCK];
	double total;
};

static void heat_add(struct heat *heat, struct syn_kv_seq *seq,
		     const struct syn_ctl_page *page)
{
	double share = page->share / 65536.0;

	heat->total += share;
	for (unsigned int n = 0; n < LAYERS; n++)
		for (unsigned int i = 0; i < ALONE / BLOCK; i++) {
			uint64_t key[2];

			syn_kv_seq_key(seq, i, n, key);
			if (!memcmp(key, page->key, sizeof(key)))
				heat->page[n][i] = share;
		}
}

static void heat_read(struct heat *heat, const char *socket, uint32_t space,
		      struct syn_kv_seq *seq)
{
	struct syn_ctl_page pages[SYN_CTL_BATCH];
	uint64_t cursor = 0;

	do {
		uint32_t nr = ctl_pages(socket, &cursor, pages);

		for (uint32_t i = 0; i < nr; i++)
			if (pages[i].space == space)
				heat_add(heat, seq, &pages[i]);
	} while (cursor);
}

/* What was summed is sent once it is 10 ms old, when somebody looks. */
static int shares_send(struct syn_kv *kv, struct syn_kv_seq *seq)
{
	struct syn_shares_stats stats = { .sz = sizeof(stats) };
	int r = 0;

	for (unsigned int i = 0; i < 10 && !r; i++) {
		(void)usleep(20000);
		r = syn_kv_seq_commit(seq, TOKENS);
	}
	if (!r)
		r = syn_shares_read(kv->client, &stats);
	if (!r && (stats.batches != (uint64_t)LAYERS * ANSWERS ||
		   stats.refused || stats.invalid || stats.gone))
		r = -EPROTO;
	return r;
}

static int report_forward(struct run *run, const char *socket,
			  struct syn_kv *kv, struct heat *ret)
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
		r = shares_send(kv, seq);
	if (!r)
		heat_read(ret, socket, syn_kv_space(kv), seq);
	syn_kv_seq_free(seq);
	syn_forward_free(forward);
	return r;
}

/* In a space of its own, where nobody has sealed these keys before. */
static int report_go(struct run *run, unsigned int number, struct heat *ret)
{
	const uint64_t identity[] = { model->identity[0],
				      model->identity[1] + 1 + number };
	const struct syn_kv_opts opts = {
		.socket = run->gpu ? daemon_of_test.socket : host.socket,
		.model = identity,
		.config = &model->config,
		.slots = run->slots,
		.sequences = 1,
		.codec = SYN_CODEC_RAW16,
		.report = true,
	};
	struct syn_kv *kv;
	int r = syn_kv_open(&opts, &kv);

	if (r)
		return r;
	r = report_forward(run, opts.socket, kv, ret);
	syn_kv_close(kv);
	return r;
}

/* The largest difference, of what the CPU gave a page; 1: one has nothing. */
static double heat_apart(const struct heat *gpu, const struct heat *cpu)
{
	double far = 0;

	for (unsigned int n = 0; n < LAYERS; n++)
		for (unsigned int i = 0; i < ALONE / BLOCK; i++) {
			double x = gpu->page[n][i], y = cpu->page[n][i];

			far = fmax(far,
				   x > 0 && y > 0 ? fabs(x - y) / (y + 1) : 1);
		}
	return far;
}

/* All of it is there, and a page has what the CPU gave it. */
static int heat_near(const struct heat *gpu, const struct heat *cpu)
{
	const double all = (double)LAYERS * HEADS * TOKENS;
	double far = heat_apart(gpu, cpu);

	print_message("shares: %.3f and %.3f of %.0f, pages differ by %g\n",
		      gpu->total, cpu->total, all, far);
	if (fabs(gpu->total - all) > all / 1000 ||
	    fabs(cpu->total - all) > all / 1000)
		return -EPROTO;
	return far < HEAT_NEAR ? 0 : -EILSEQ;
}

/* Where all pages are there, and where a layer's come at a time. */
static int child_reports(void *arg)
{
	static struct run runs[] = {
		{ .slots = RESIDENT, .step = BLOCK },
		{ .gpu = true, .slots = RESIDENT, .step = BLOCK },
		{ .gpu = true, .slots = 3 * LAYERS, .step = BLOCK },
	};
	static struct heat heat[syn_array_size(runs)];
	int r = child_begin();

	(void)arg;
	for (unsigned int i = 0; i < syn_array_size(runs) && !r; i++)
		r = report_go(&runs[i], i, &heat[i]);
	for (unsigned int i = 1; i < syn_array_size(runs) && !r; i++)
		r = heat_near(&heat[i], &heat[0]);
	syn_model_free(model);
	return r;
}

/* ---- tests -------------------------------------------------------------- */

static void test_a_step_waits_once(void **state)
{
	(void)state;
	test_patience(240);
	assert_int_equal(gpu_join(gpu_fork(child_steps, NULL)), 0);
}

static void test_reports_what_the_cpu_does(void **state)
{
	(void)state;
	test_patience(240);
	daemon_start(&host, host_args);
	assert_int_equal(gpu_join(gpu_fork(child_reports, NULL)), 0);
	daemon_stop(&host);
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
		cmocka_unit_test(test_a_step_waits_once),
		cmocka_unit_test(test_reports_what_the_cpu_does),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
