/* SPDX-License-Identifier: Apache-2.0 */
/* Reads prompt files. */
#include "tools/infer/prompts.h"

#include <json-c/json.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define NEEDLES_MAX 4096u
#define DEPTH_MAX   8

/**
 * struct place - where in which file, for complaints.
 * @path:	the file.
 * @line:	counts from 1.
 */
struct place {
	const char *path;
	size_t line;
};

static int place_bad(const struct place *place, const char *why)
{
	syn_error("%s:%zu: %s", place->path, place->line, why);
	return -EBADMSG;
}

/* 1 and *ret, 0 when there is no such member, -EBADMSG. */
static int member_get(const struct place *place, struct json_object *object,
		      const char *key, enum json_type type,
		      struct json_object **ret)
{
	struct json_object *value;
	char why[64];

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, type)) {
		(void)snprintf(why, sizeof(why), "\"%s\" is no %s", key,
			       json_type_to_name(type));
		return place_bad(place, why);
	}
	*ret = value;
	return 1;
}

/* An offset into the prompt, or SIZE_MAX. */
static size_t offset_of(const struct syn_prompt *prompt,
			struct json_object *value)
{
	int64_t x;

	if (!json_object_is_type(value, json_type_int))
		return SIZE_MAX;
	x = json_object_get_int64(value);
	return x < 0 || (uint64_t)x >= prompt->nr_bytes ? SIZE_MAX : (size_t)x;
}

static int prompt_text(const struct place *place, struct syn_prompt *prompt,
		       struct json_object *object)
{
	struct json_object *value;
	int r;

	r = member_get(place, object, "prompt", json_type_string, &value);
	if (r < 0)
		return r;
	if (r == 0 || json_object_get_string_len(value) < 1)
		return place_bad(place, "no prompt");
	prompt->nr_bytes = (size_t)json_object_get_string_len(value);
	prompt->text = syn_alloc(prompt->nr_bytes, 1);
	if (!prompt->text)
		return -ENOMEM;
	memcpy(prompt->text, json_object_get_string(value), prompt->nr_bytes);
	return 0;
}

static int prompt_id(const struct place *place, struct syn_prompt *prompt,
		     struct json_object *object)
{
	struct json_object *value;
	char number[24];

	if (json_object_object_get_ex(object, "id", &value)) {
		if (!json_object_is_type(value, json_type_int) &&
		    !json_object_is_type(value, json_type_string))
			return place_bad(place,
					 "\"id\" is no number and no string");
		prompt->id = strdup(json_object_to_json_string_ext(
			value, JSON_C_TO_STRING_PLAIN));
	} else {
		(void)snprintf(number, sizeof(number), "%zu", place->line);
		prompt->id = strdup(number);
	}
	return prompt->id ? 0 : -ENOMEM;
}

static int prompt_answer(const struct place *place, struct syn_prompt *prompt,
			 struct json_object *object)
{
	struct json_object *value;
	int r;

	r = member_get(place, object, "answer", json_type_string, &value);
	if (r <= 0)
		return r;
	prompt->answer = strdup(json_object_get_string(value));
	return prompt->answer ? 0 : -ENOMEM;
}

static int prompt_question(const struct place *place, struct syn_prompt *prompt,
			   struct json_object *object)
{
	struct json_object *value;
	const uint8_t *line;
	int r;

	r = member_get(place, object, "question", json_type_int, &value);
	if (r < 0)
		return r;
	if (r > 0) {
		prompt->question = offset_of(prompt, value);
		if (prompt->question == SIZE_MAX)
			return place_bad(place, "\"question\" is not in it");
		return 0;
	}
	line = memrchr(prompt->text, '\n', prompt->nr_bytes);
	prompt->question = line ? (size_t)(line - prompt->text) : 0;
	return 0;
}

static int prompt_needles(const struct place *place, struct syn_prompt *prompt,
			  struct json_object *object)
{
	struct json_object *value;
	size_t nr;
	int r;

	r = member_get(place, object, "needles", json_type_array, &value);
	if (r <= 0)
		return r;
	nr = json_object_array_length(value);
	if (nr > NEEDLES_MAX)
		return place_bad(place, "too many needles");
	prompt->needles = syn_alloc(nr ? nr : 1, sizeof(*prompt->needles));
	if (!prompt->needles)
		return -ENOMEM;
	for (size_t i = 0; i < nr; i++) {
		size_t at =
			offset_of(prompt, json_object_array_get_idx(value, i));

		if (at == SIZE_MAX)
			return place_bad(place, "a needle is not in it");
		prompt->needles[i] = at;
	}
	prompt->nr_needles = (unsigned int)nr;
	return 0;
}

static void prompt_deinit(struct syn_prompt *prompt)
{
	free(prompt->id);
	free(prompt->text);
	free(prompt->answer);
	free(prompt->needles);
}

static int prompt_read(const struct place *place, struct json_object *object,
		       struct syn_prompt *ret)
{
	struct syn_prompt prompt = { 0 };
	int r;

	if (!json_object_is_type(object, json_type_object))
		return place_bad(place, "not a JSON object");
	r = prompt_text(place, &prompt, object);
	if (r == 0)
		r = prompt_id(place, &prompt, object);
	if (r == 0)
		r = prompt_answer(place, &prompt, object);
	if (r == 0)
		r = prompt_question(place, &prompt, object);
	if (r == 0)
		r = prompt_needles(place, &prompt, object);
	if (r) {
		prompt_deinit(&prompt);
		return r;
	}
	*ret = prompt;
	return 0;
}

static int prompts_add(struct syn_prompts *prompts,
		       const struct syn_prompt *prompt)
{
	struct syn_prompt *all = NULL;

	if (!syn_fault())
		all = reallocarray(prompts->all, prompts->nr + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	prompts->all = all;
	all[prompts->nr++] = *prompt;
	return 0;
}

static int line_read(const struct place *place, const char *line, int length,
		     struct syn_prompts *prompts)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct json_object *object = NULL;
	struct syn_prompt prompt;
	int r = -ENOMEM;

	if (!tokener)
		return r;
	object = json_tokener_parse_ex(tokener, line, length);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		r = place_bad(place, "not JSON");
		goto free_tokener;
	}
	r = prompt_read(place, object, &prompt);
	if (r)
		goto free_tokener;
	r = prompts_add(prompts, &prompt);
	if (r)
		prompt_deinit(&prompt);

free_tokener:
	json_object_put(object);
	json_tokener_free(tokener);
	return r;
}

static int file_read(FILE *file, const char *path, struct syn_prompts *prompts)
{
	struct place place = { .path = path };
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	int r = 0;

	while (r == 0 && (length = getline(&line, &room, file)) >= 0) {
		place.line++;
		if (length > INT32_MAX)
			r = place_bad(&place, "line is too long");
		else if (line[strspn(line, " \t\r\n")])
			r = line_read(&place, line, (int)length, prompts);
	}
	if (r == 0 && ferror(file))
		r = -EIO;
	free(line);
	return r;
}

int syn_prompts_load(const char *path, struct syn_prompts **ret)
{
	struct syn_prompts *prompts = NULL;
	FILE *file;
	int r;

	file = fopen(path, "re");
	if (!file) {
		r = -errno;
		syn_error("%s: %s", path, strerror(-r));
		return r;
	}
	prompts = syn_alloc(1, sizeof(*prompts));
	r = prompts ? file_read(file, path, prompts) : -ENOMEM;
	if (r) {
		if (r != -EBADMSG)
			syn_error("%s: %s", path, strerror(-r));
		syn_prompts_free(prompts);
	} else {
		*ret = prompts;
	}
	(void)fclose(file);
	return r;
}

struct syn_prompts *syn_prompts_free(struct syn_prompts *prompts)
{
	if (!prompts)
		return NULL;
	for (size_t i = 0; i < prompts->nr; i++)
		prompt_deinit(&prompts->all[i]);
	free(prompts->all);
	free(prompts);
	return NULL;
}

size_t syn_prompts_longest(const struct syn_prompts *prompts)
{
	size_t longest = 0;

	for (size_t i = 0; i < prompts->nr; i++)
		longest = syn_max(longest, prompts->all[i].nr_bytes);
	return longest;
}

size_t syn_prompt_needle_end(const struct syn_prompt *prompt, size_t offset)
{
	const uint8_t *from = prompt->text + offset;
	const uint8_t *stop = memchr(from, '.', prompt->nr_bytes - offset);

	return stop ? (size_t)(stop - prompt->text) + 1 : prompt->nr_bytes;
}
