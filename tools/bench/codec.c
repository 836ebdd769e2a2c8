/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GB/s of 16-bit elements through codec h4 on one core, each form that the CPU
 * has: one tile again and again, and as many as no cache holds.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "kernels/codec/h4-form.h"
#include "tools/bench/bench.h"

#define CODEC_SET_MIB 256u
#define CODEC_DIM     128u
#define CODEC_TILE    (SYN_TILE_TOKENS * CODEC_DIM * 2)
#define CODEC_TILES   ((CODEC_SET_MIB << 20) / CODEC_TILE)
#define CODEC_SPAN    128u /* streamed tiles that are timed together */
#define CODEC_SPANS   (CODEC_TILES / CODEC_SPAN)
#define CODEC_REPEAT  8u /* of the one tile that are timed together */

enum { OP_ENCODE, OP_DECODE, OP_MEMCPY };

/**
 * struct work - what is timed.
 * @form:	NULL for memcpy.
 * @c:		keys or values.
 * @op:		OP_*.
 * @streamed:	over the whole set.
 */
struct work {
	const struct syn_h4_form *form;
	struct syn_component c;
	unsigned int op;
	bool streamed;
};

/**
 * struct yard - three sets of tiles.
 * @raw:	elements.
 * @stored:	encoded, in steps of CODEC_TILE.
 * @back:	elements.
 */
struct yard {
	unsigned char *raw;
	unsigned char *stored;
	unsigned char *back;
};

/* Both signs, from 0.5 to 2. */
static void elements_fill(unsigned char *at, size_t bytes)
{
	uint64_t seed = 88172645463325252u;

	for (size_t i = 0; i < bytes; i += 2) {
		uint16_t x;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		x = (uint16_t)(0x3800 + (seed >> 16 & 0x87ff));
		memcpy(at + i, &x, sizeof(x));
	}
}

static void tile_work(const struct yard *yard, const struct work *work,
		      size_t tile)
{
	unsigned char *raw = yard->raw + tile * CODEC_TILE;
	unsigned char *stored = yard->stored + tile * CODEC_TILE;
	unsigned char *back = yard->back + tile * CODEC_TILE;
	uint16_t error;

	if (work->op == OP_ENCODE)
		(void)work->form->encode(stored, raw, &work->c, &error);
	else if (work->op == OP_DECODE)
		work->form->decode(back, stored, &work->c);
	else
		memcpy(back, raw, CODEC_TILE);
}

/* The median of many spans, in GB/s. */
static double work_measure(const struct yard *yard, const struct work *work)
{
	uint32_t per_span = work->streamed ? CODEC_SPAN : CODEC_REPEAT;
	double rate[CODEC_SPANS];

	for (uint32_t i = 0; i < CODEC_SPANS; i++) {
		uint64_t begin = syn_now_ns();

		for (uint32_t k = 0; k < per_span; k++)
			tile_work(yard, work,
				  work->streamed ? i * per_span + k : 0);
		rate[i] = (double)per_span * CODEC_TILE /
			  (double)(syn_now_ns() - begin);
	}
	return syn_median(rate, syn_array_size(rate));
}

/* What a form has to reach; the others are reported only. */
static double work_target(const struct work *work)
{
	if (work->streamed || strcmp(work->form->name, "avx512") != 0)
		return 0;
	return work->op == OP_ENCODE ? 6 : 13;
}

/* Figures keep the names that they are given. */
static const char *work_name(unsigned int form, const struct work *work,
			     const char *suffix)
{
	static char names[SYN_H4_FORMS_MAX * 16][48];
	bool values = work->c.role == SYN_ROLE_V;
	char *name = names[form * 16 + work->op * 8 + values * 4 +
			   work->streamed * 2 + (*suffix != '\0')];

	(void)snprintf(
		name, sizeof(names[0]), "%s %s %c, %s%s", work->form->name,
		work->op == OP_ENCODE ? "encode" : "decode", values ? 'V' : 'K',
		work->streamed ? "streamed" : "cached", suffix);
	return name;
}

static void form_measure(struct syn_bench *bench, const struct yard *yard,
			 unsigned int form, const struct work *work,
			 double memcpy_rate)
{
	double rate = work_measure(yard, work);
	double target = work_target(work);

	syn_figure_add(&bench->figures, "codec", work_name(form, work, ""),
		       "GB/s", target > 0 ? SYN_GOAL_AT_LEAST : SYN_GOAL_NONE,
		       target, rate);
	if (work->streamed)
		syn_figure_add(&bench->figures, "codec",
			       work_name(form, work, " / memcpy"), "x",
			       SYN_GOAL_NONE, 0, rate / memcpy_rate);
}

/* Encoding first: it writes what decoding reads. */
static void role_measure(struct syn_bench *bench, const struct yard *yard,
			 unsigned int form, struct work *work,
			 double memcpy_rate)
{
	for (work->op = OP_ENCODE; work->op <= OP_DECODE; work->op++)
		form_measure(bench, yard, form, work, memcpy_rate);
}

static void yard_measure(struct syn_bench *bench, const struct yard *yard,
			 bool streamed)
{
	const struct syn_h4_form *forms[SYN_H4_FORMS_MAX];
	unsigned int nr = syn_h4_forms(forms);
	struct work work = { .op = OP_MEMCPY, .streamed = streamed };
	double memcpy_rate = work_measure(yard, &work);

	syn_figure_add(&bench->figures, "codec",
		       streamed ? "memcpy, streamed" : "memcpy, cached", "GB/s",
		       SYN_GOAL_NONE, 0, memcpy_rate);
	/* Plain C is the definition, and a hundred times slower. */
	for (unsigned int i = nr > 1 && streamed; i < nr; i++) {
		for (uint16_t role = SYN_ROLE_K; role <= SYN_ROLE_V; role++) {
			work.form = forms[i];
			work.c = (struct syn_component){
				.role = role,
				.dtype = SYN_DTYPE_F16,
				.heads = 1,
				.dim = CODEC_DIM,
				.codec = SYN_CODEC_H4,
			};
			role_measure(bench, yard, i, &work, memcpy_rate);
		}
	}
}

int syn_bench_codec(struct syn_bench *bench)
{
	const size_t bytes = (size_t)CODEC_SET_MIB << 20;
	struct yard yard;
	unsigned char *all;

	all = mmap(NULL, 3 * bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (all == MAP_FAILED)
		return syn_bench_fail("memory", -errno);
	yard = (struct yard){ all, all + bytes, all + 2 * bytes };
	elements_fill(yard.raw, bytes);
	for (unsigned int i = 0; i < bench->runs; i++) {
		yard_measure(bench, &yard, false);
		yard_measure(bench, &yard, true);
	}
	(void)munmap(all, 3 * bytes);
	return 0;
}
