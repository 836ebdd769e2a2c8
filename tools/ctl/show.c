/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people, driven by the columns of the record type. */
#include "tools/ctl/show.h"

#include "core/base/base.h"

#define SHOW_COLUMNS_MAX 32u

static bool column_is_left(const struct syn_column *column)
{
	switch (column->form) {
	case SYN_FORM_TEXT:
	case SYN_FORM_KEY:
	case SYN_FORM_TIER:
	case SYN_FORM_CLIENT:
	case SYN_FORM_PAGE:
	case SYN_FORM_FLAGS:
	case SYN_FORM_CODEC:
	case SYN_FORM_CAUSE:
	case SYN_FORM_FIELD:
	case SYN_FORM_OBJECT:
	case SYN_FORM_WHAT:
		return true;
	default:
		return false;
	}
}

static const void *record_at(const struct syn_record_type *type,
			     const void *records, size_t i)
{
	return (const unsigned char *)records + i * type->bytes;
}

static size_t column_width(const struct syn_record_type *type,
			   const struct syn_column *column, const void *records,
			   size_t nr)
{
	char text[SYN_FORM_TEXT_MAX];
	size_t width = strlen(column->title);

	for (size_t i = 0; i < nr; i++) {
		syn_column_text(column, record_at(type, records, i), text);
		width = syn_max(width, strlen(text));
	}
	return width;
}

/* No blanks before the line's end. */
static void cell_print(FILE *out, const struct syn_column *column,
		       const char *text, size_t width, bool first, bool last)
{
	if (!first)
		(void)fputs("  ", out);
	if (!column_is_left(column))
		(void)fprintf(out, "%*s", (int)width, text);
	else if (last)
		(void)fputs(text, out);
	else
		(void)fprintf(out, "%-*s", (int)width, text);
	if (last)
		(void)fputc('\n', out);
}

/* @record NULL: the headings. */
static void row_print(FILE *out, const struct syn_record_type *type,
		      const size_t *widths, const void *record)
{
	char text[SYN_FORM_TEXT_MAX];
	unsigned int last = 0;

	for (unsigned int i = 0; i < type->nr_columns; i++)
		last = type->columns[i].title ? i : last;
	for (unsigned int i = 0, shown = 0; i < type->nr_columns; i++) {
		const struct syn_column *column = &type->columns[i];

		if (!column->title)
			continue;
		if (record)
			syn_column_text(column, record, text);
		cell_print(out, column, record ? text : column->title,
			   widths[i], shown++ == 0, i == last);
	}
}

void syn_show_table(FILE *out, const struct syn_record_type *type,
		    const void *records, size_t nr)
{
	size_t widths[SHOW_COLUMNS_MAX] = { 0 };

	if (!nr)
		return;
	for (unsigned int i = 0; i < type->nr_columns; i++)
		if (type->columns[i].title)
			widths[i] = column_width(type, &type->columns[i],
						 records, nr);
	row_print(out, type, widths, NULL);
	for (size_t i = 0; i < nr; i++)
		row_print(out, type, widths, record_at(type, records, i));
}

void syn_show_list(FILE *out, const struct syn_record_type *type,
		   const void *record)
{
	char text[SYN_FORM_TEXT_MAX];
	size_t width = 0;

	for (unsigned int i = 0; i < type->nr_columns; i++)
		width = syn_max(width, strlen(type->columns[i].title));
	for (unsigned int i = 0; i < type->nr_columns; i++) {
		syn_column_text(&type->columns[i], record, text);
		(void)fprintf(out, "%-*s  %s\n", (int)width,
			      type->columns[i].title, text);
	}
}
