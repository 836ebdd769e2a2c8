/* SPDX-License-Identifier: Apache-2.0 */
/* JSON for programs: members are named as in the wire's structs. */
#include "tools/ctl/show.h"

#include <json-c/json.h>

#include "core/base/base.h"

static struct json_object *json_flags(const struct syn_column *column,
				      uint64_t flags)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int bit = 0; list && bit < 16; bit++) {
		const char *word = syn_form_word(column->form, bit);

		if (word && flags >> bit & 1)
			(void)json_object_array_add(
				list, json_object_new_string(word));
	}
	return list;
}

static struct json_object *json_text(const struct syn_column *column,
				     const void *record)
{
	char text[SYN_FORM_TEXT_MAX];

	syn_column_text(column, record, text);
	if (column->form == SYN_FORM_KEY && !strcmp(text, "-"))
		return NULL;
	return json_object_new_string(text);
}

/* NULL is JSON's null. */
static struct json_object *json_member(const struct syn_column *column,
				       const void *record)
{
	uint64_t value;
	const char *word;

	if (column->form == SYN_FORM_TEXT || column->form == SYN_FORM_KEY)
		return json_text(column, record);
	value = syn_column_value(column, record);
	if (column->form == SYN_FORM_FLAGS)
		return json_flags(column, value);
	if (syn_form_empty(column->form, value))
		return NULL;
	if (column->form == SYN_FORM_BOOL)
		return json_object_new_boolean(value != 0);
	word = syn_form_word(column->form, value);
	if (word)
		return json_object_new_string(word);
	return json_object_new_uint64(value);
}

static struct json_object *json_record(const struct syn_record_type *type,
				       const void *record)
{
	struct json_object *object = json_object_new_object();

	for (unsigned int i = 0; object && i < type->nr_columns; i++)
		(void)json_object_object_add(
			object, type->columns[i].member,
			json_member(&type->columns[i], record));
	return object;
}

/* Takes @object. */
static int json_print(FILE *out, struct json_object *object)
{
	const char *text = NULL;
	int r = 0;

	if (object)
		text = json_object_to_json_string_ext(
			object, JSON_C_TO_STRING_PLAIN |
					JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		r = -ENOMEM;
	else if (fprintf(out, "%s\n", text) < 0 || fflush(out) != 0)
		r = -EIO;
	(void)json_object_put(object);
	return r;
}

static struct json_object *json_table(const struct syn_record_type *type,
				      const void *records, size_t nr)
{
	const unsigned char *at = records;
	struct json_object *object = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; list && i < nr; i++)
		(void)json_object_array_add(
			list, json_record(type, at + i * type->bytes));
	if (object)
		(void)json_object_object_add(object, type->name, list);
	return object;
}

int syn_show_json_table(FILE *out, const struct syn_record_type *type,
			const void *records, size_t nr)
{
	return json_print(out, json_table(type, records, nr));
}

int syn_show_json_why(FILE *out, const struct syn_ctl_page *page,
		      const struct syn_ctl_why *records, size_t nr)
{
	struct json_object *object = json_table(&syn_record_why, records, nr);

	if (object && page)
		(void)json_object_object_add(
			object, "page", json_record(&syn_record_pages, page));
	return json_print(out, object);
}

int syn_show_json_fsck(FILE *out, const struct syn_ctl_fsck *records, size_t nr,
		       uint64_t val)
{
	struct json_object *object = json_table(&syn_record_fsck, records, nr);

	if (object) {
		(void)json_object_object_add(
			object, "found",
			json_object_new_uint64(SYN_FSCK_FOUND(val)));
		(void)json_object_object_add(
			object, "moved",
			json_object_new_boolean(!!(val & SYN_FSCK_MOVED)));
	}
	return json_print(out, object);
}

int syn_show_json_record(FILE *out, const struct syn_record_type *type,
			 const void *record)
{
	return json_print(out, json_record(type, record));
}

int syn_show_json_evict(FILE *out, uint64_t nr_pages)
{
	struct json_object *object = json_object_new_object();

	if (object)
		(void)json_object_object_add(object, "evicted",
					     json_object_new_uint64(nr_pages));
	return json_print(out, object);
}

int syn_show_json_quota(FILE *out, uint32_t domain)
{
	struct json_object *object = json_object_new_object();

	if (object)
		(void)json_object_object_add(object, "domain",
					     json_object_new_uint64(domain));
	return json_print(out, object);
}

int syn_show_json_upgrade(FILE *out, const struct syn_ctl_status *status)
{
	struct json_object *object = json_object_new_object();

	if (object) {
		(void)json_object_object_add(
			object, "epoch", json_object_new_uint64(status->epoch));
		(void)json_object_object_add(
			object, "worker_pid",
			json_object_new_uint64(status->worker_pid));
	}
	return json_print(out, object);
}

int syn_show_json_drain(FILE *out, bool on, uint64_t nr_sessions)
{
	struct json_object *object = json_object_new_object();

	if (object) {
		(void)json_object_object_add(object, "draining",
					     json_object_new_boolean(on));
		(void)json_object_object_add(
			object, "nr_sessions",
			json_object_new_uint64(nr_sessions));
	}
	return json_print(out, object);
}
