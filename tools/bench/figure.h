/* SPDX-License-Identifier: Apache-2.0 */
/* What was measured: values of several runs beside a target. */
#ifndef SYN_TOOLS_BENCH_FIGURE_H
#define SYN_TOOLS_BENCH_FIGURE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SYN_RUNS_MAX	25u
#define SYN_FIGURES_MAX 256u

enum syn_goal {
	SYN_GOAL_NONE, /* reported only */
	SYN_GOAL_AT_MOST,
	SYN_GOAL_AT_LEAST,
};

/**
 * struct syn_figure - one line of the result.
 * @group:	the benchmark.
 * @name:	what was measured, unique in its group.
 * @unit:	of the values; "x" is a ratio.
 * @goal:	how to read @target.
 * @target:	what it has to reach.
 * @nr:		runs so far.
 * @value:	one of each run.
 */
struct syn_figure {
	const char *group;
	const char *name;
	const char *unit;
	enum syn_goal goal;
	double target;
	unsigned int nr;
	double value[SYN_RUNS_MAX];
};

/**
 * struct syn_figures - all of them, in the order of their first value.
 * @nr:		used entries.
 * @figure:	each.
 */
struct syn_figures {
	unsigned int nr;
	struct syn_figure figure[SYN_FIGURES_MAX];
};

/*
 * Adds one run's value to the figure @group/@name, which begins to exist with
 * its first.  Strings are literals.  More than SYN_RUNS_MAX are dropped.
 */
void syn_figure_add(struct syn_figures *figures, const char *group,
		    const char *name, const char *unit, enum syn_goal goal,
		    double target, double value);

double syn_figure_median(const struct syn_figure *figure);
double syn_figure_min(const struct syn_figure *figure);
double syn_figure_max(const struct syn_figure *figure);
/* The median reaches the target, or there is none. */
int syn_figure_is_met(const struct syn_figure *figure);

void syn_figure_table(FILE *out, const struct syn_figures *figures);
/* -ENOMEM, or -errno of writing @path. */
int syn_figure_json(const char *path, const struct syn_figures *figures);

/* The middle of @nr values, which it sorts. */
double syn_median(double *values, size_t nr);

#endif
