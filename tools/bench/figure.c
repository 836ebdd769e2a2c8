/* SPDX-License-Identifier: Apache-2.0 */
/* Medians, the table, and the same as JSON. */
#include "tools/bench/figure.h"

#include <json-c/json.h>

#include "core/base/base.h"

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

double syn_median(double *values, size_t nr)
{
	if (!nr)
		return 0;
	qsort(values, nr, sizeof(*values), compare);
	if (nr % 2)
		return values[nr / 2];
	return (values[nr / 2 - 1] + values[nr / 2]) / 2;
}

static struct syn_figure *figure_find(struct syn_figures *figures,
				      const char *group, const char *name)
{
	for (unsigned int i = 0; i < figures->nr; i++) {
		struct syn_figure *figure = &figures->figure[i];

		if (!strcmp(figure->group, group) &&
		    !strcmp(figure->name, name))
			return figure;
	}
	return NULL;
}

void syn_figure_add(struct syn_figures *figures, const char *group,
		    const char *name, const char *unit, enum syn_goal goal,
		    double target, double value)
{
	struct syn_figure *figure = figure_find(figures, group, name);

	if (!figure) {
		if (figures->nr == SYN_FIGURES_MAX)
			return;
		figure = &figures->figure[figures->nr++];
		*figure = (struct syn_figure){ .group = group,
					       .name = name,
					       .unit = unit,
					       .goal = goal,
					       .target = target };
	}
	if (figure->nr < SYN_RUNS_MAX)
		figure->value[figure->nr++] = value;
}

double syn_figure_median(const struct syn_figure *figure)
{
	double values[SYN_RUNS_MAX];

	memcpy(values, figure->value, sizeof(values));
	return syn_median(values, figure->nr);
}

double syn_figure_min(const struct syn_figure *figure)
{
	double least = figure->value[0];

	for (unsigned int i = 1; i < figure->nr; i++)
		least = syn_min(least, figure->value[i]);
	return least;
}

double syn_figure_max(const struct syn_figure *figure)
{
	double most = figure->value[0];

	for (unsigned int i = 1; i < figure->nr; i++)
		most = syn_max(most, figure->value[i]);
	return most;
}

int syn_figure_is_met(const struct syn_figure *figure)
{
	double median = syn_figure_median(figure);

	if (figure->goal == SYN_GOAL_AT_MOST)
		return median <= figure->target;
	if (figure->goal == SYN_GOAL_AT_LEAST)
		return median >= figure->target;
	return 1;
}

/* Three significant digits at every size. */
static void value_print(FILE *out, double value)
{
	int digits = value >= 100 || value == 0 ? 0 : value >= 10 ? 1 : 2;

	(void)fprintf(out, " %10.*f", digits, value);
}

static void goal_print(FILE *out, const struct syn_figure *figure)
{
	double median = syn_figure_median(figure);

	if (figure->goal == SYN_GOAL_NONE) {
		(void)fprintf(out, " %10s %8s  -\n", "-", "-");
		return;
	}
	(void)fprintf(
		out, " %s %7g",
		figure->goal == SYN_GOAL_AT_MOST ? "<=" : ">=", figure->target);
	if (figure->target > 0)
		(void)fprintf(out, " %8.2f", median / figure->target);
	else
		(void)fprintf(out, " %8s", "-");
	(void)fprintf(out, "  %s\n",
		      syn_figure_is_met(figure) ? "met" : "MISSED");
}

void syn_figure_table(FILE *out, const struct syn_figures *figures)
{
	(void)fprintf(out, "%-44s %-6s %10s %10s %10s %10s %8s\n", "figure",
		      "unit", "median", "min", "max", "target", "ratio");
	for (unsigned int i = 0; i < figures->nr; i++) {
		const struct syn_figure *figure = &figures->figure[i];
		char name[64];

		(void)snprintf(name, sizeof(name), "%s/%s", figure->group,
			       figure->name);
		(void)fprintf(out, "%-44s %-6s", name, figure->unit);
		value_print(out, syn_figure_median(figure));
		value_print(out, syn_figure_min(figure));
		value_print(out, syn_figure_max(figure));
		goal_print(out, figure);
	}
}

static void json_add_number(struct json_object *object, const char *name,
			    double value)
{
	(void)json_object_object_add(object, name,
				     json_object_new_double(value));
}

static void json_add_text(struct json_object *object, const char *name,
			  const char *text)
{
	(void)json_object_object_add(object, name,
				     json_object_new_string(text));
}

static struct json_object *figure_json(const struct syn_figure *figure)
{
	struct json_object *object = json_object_new_object();
	struct json_object *values = json_object_new_array();

	if (!object)
		return NULL;
	json_add_text(object, "group", figure->group);
	json_add_text(object, "name", figure->name);
	json_add_text(object, "unit", figure->unit);
	json_add_number(object, "median", syn_figure_median(figure));
	json_add_number(object, "min", syn_figure_min(figure));
	json_add_number(object, "max", syn_figure_max(figure));
	if (figure->goal != SYN_GOAL_NONE) {
		json_add_text(object, "goal",
			      figure->goal == SYN_GOAL_AT_MOST ? "at most"
							       : "at least");
		json_add_number(object, "target", figure->target);
		(void)json_object_object_add(
			object, "met",
			json_object_new_boolean(syn_figure_is_met(figure)));
	}
	for (unsigned int i = 0; values && i < figure->nr; i++)
		(void)json_object_array_add(
			values, json_object_new_double(figure->value[i]));
	(void)json_object_object_add(object, "runs", values);
	return object;
}

int syn_figure_json(const char *path, const struct syn_figures *figures)
{
	struct json_object *root = json_object_new_object();
	struct json_object *list = json_object_new_array();
	int r = 0;

	if (!root || !list) {
		(void)json_object_put(root);
		(void)json_object_put(list);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < figures->nr; i++)
		(void)json_object_array_add(list,
					    figure_json(&figures->figure[i]));
	(void)json_object_object_add(root, "figures", list);
	errno = EIO;
	if (json_object_to_file_ext(path, root, JSON_C_TO_STRING_PRETTY) < 0)
		r = -errno;
	(void)json_object_put(root);
	return r;
}
