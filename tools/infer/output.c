/* SPDX-License-Identifier: Apache-2.0 */
/* Writes results and figures as JSON. */
#include "tools/infer/output.h"

#include <json-c/json.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/audit.h"
#include "tools/infer/forward.h"
#include "tools/infer/kv.h"
#include "tools/infer/prompts.h"
#include "tools/infer/simd.h"

/* Byte n becomes code point n, so that any bytes make a JSON string. */
static struct json_object *text_new(const uint8_t *bytes, size_t nr)
{
	char *text = syn_alloc(2 * nr + 1, 1);
	struct json_object *ret;
	size_t length = 0;

	if (!text)
		return NULL;
	for (size_t i = 0; i < nr; i++) {
		if (bytes[i] < 0x80) {
			text[length++] = (char)bytes[i];
		} else {
			text[length++] = (char)(0xc0 | bytes[i] >> 6);
			text[length++] = (char)(0x80 | (bytes[i] & 0x3f));
		}
	}
	ret = json_object_new_string_len(text, (int)length);
	free(text);
	return ret;
}

static int line_write(struct json_object *object, FILE *file)
{
	const char *text = json_object_to_json_string_ext(
		object,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (!text)
		return -ENOMEM;
	if (fprintf(file, "%s\n", text) < 0 || fflush(file)) {
		syn_error("output: %s", strerror(errno));
		return -EIO;
	}
	return 0;
}

static void add(struct json_object *object, const char *key,
		struct json_object *value)
{
	if (value)
		(void)json_object_object_add(object, key, value);
}

static void add_count(struct json_object *object, const char *key, uint64_t x)
{
	add(object, key, json_object_new_uint64(x));
}

static bool answer_is_right(const struct syn_result *result)
{
	size_t nr = strlen(result->prompt->answer);

	return nr <= result->nr_tokens &&
	       memcmp(result->tokens, result->prompt->answer, nr) == 0;
}

int syn_output_result(void *data, const struct syn_result *result)
{
	struct syn_output *output = data;
	const struct syn_prompt *prompt = result->prompt;
	struct json_object *line = json_object_new_object();
	int r;

	if (!line)
		return -ENOMEM;
	add(line, "id", json_tokener_parse(prompt->id));
	add(line, "tokens", text_new(result->tokens, result->nr_tokens));
	if (prompt->answer) {
		bool right = answer_is_right(result);

		add(line, "expected", json_object_new_string(prompt->answer));
		add(line, "correct", json_object_new_boolean(right));
		output->answers++;
		output->right += right;
	}
	add_count(line, "prompt_tokens", prompt->nr_bytes);
	add_count(line, "prefix_hit_tokens", result->prefix_tokens);
	add_count(line, "needle_pages", result->needle_pages);
	add_count(line, "needle_pages_returned", result->needle_returns);
	add_count(line, "needle_pages_lossy", result->needle_lossy);
	add_count(line, "needle_pages_from_nvme", result->needle_reads);
	output->prompts++;
	output->needle_pages += result->needle_pages;
	output->needle_returns += result->needle_returns;
	output->needle_lossy += result->needle_lossy;
	output->needle_reads += result->needle_reads;
	r = line_write(line, output->file);
	json_object_put(line);
	return r;
}

/* Tokens a second, or 0 when there was no time. */
static struct json_object *rate(uint64_t tokens, uint64_t ns)
{
	double rate = ns ? (double)tokens * 1e9 / (double)ns : 0;

	return json_object_new_double(rate);
}

static void add_engine(struct json_object *object,
		       const struct syn_engine_stats *engine)
{
	add(object, "simd", json_object_new_string(syn_simd_best()->name));
	add_count(object, "prefill_tokens", engine->prefill_tokens);
	add_count(object, "prefix_hit_tokens", engine->prefix_tokens);
	add_count(object, "prefill_ns", engine->prefill_ns);
	add(object, "prefill_tokens_per_s",
	    rate(engine->prefill_tokens, engine->prefill_ns));
	add_count(object, "ttft_median_ns", engine->ttft_median_ns);
	add_count(object, "ttft_max_ns", engine->ttft_max_ns);
	add_count(object, "persist_ns", engine->persist_ns);
	add_count(object, "decode_tokens", engine->decode_tokens);
	add_count(object, "decode_ns", engine->decode_ns);
	add(object, "decode_tokens_per_s",
	    rate(engine->decode_tokens, engine->decode_ns));
}

static void add_kv(struct json_object *object, const struct syn_kv_stats *kv)
{
	add_count(object, "page_bytes", kv->page_bytes);
	add_count(object, "hbm_share_bytes", kv->slots * kv->page_bytes);
	add_count(object, "kv_peak_bytes", kv->pages_peak * kv->page_bytes);
	add_count(object, "pages_computed", kv->pages_new);
	add_count(object, "pages_found", kv->pages_found);
	add_count(object, "pages_persisted", kv->pages_persisted);
	add_count(object, "pages_sealed_by_others", kv->dups);
	add_count(object, "pages_attended", kv->pins);
	add_count(object, "pages_coded", kv->coded);
	add_count(object, "batches", kv->batches);
	add_count(object, "batches_faulted", kv->faults);
	add_count(object, "waits_for_room", kv->retries);
}

static int add_audit(struct json_object *object, struct syn_audit *audit,
		     uint32_t session)
{
	struct syn_ctl_client client;
	int r;

	r = syn_audit_client(audit, session, &client);
	if (r)
		return r;
	add_count(object, "session", session);
	add_count(object, "page_faults", client.faults);
	add_count(object, "page_demotions", client.demotions);
	add_count(object, "lookup_hits", client.lookup_hits);
	return 0;
}

int syn_output_stats(const struct syn_output *output,
		     const struct syn_engine_stats *engine,
		     const struct syn_forward *forward, const struct syn_kv *kv,
		     struct syn_audit *audit, FILE *file)
{
	struct json_object *line = json_object_new_object();
	int r = 0;

	if (!line)
		return -ENOMEM;
	add_count(line, "prompts", output->prompts);
	add_count(line, "answers", output->answers);
	add_count(line, "right", output->right);
	add(line, "device", json_object_new_string(forward->device));
	add_engine(line, engine);
	add_kv(line, syn_kv_stats(kv));
	if (audit) {
		r = add_audit(line, audit, syn_kv_session(kv));
		add_count(line, "needle_pages", output->needle_pages);
		add_count(line, "needle_pages_returned",
			  output->needle_returns);
		add_count(line, "needle_pages_lossy", output->needle_lossy);
		add_count(line, "needle_pages_from_nvme", output->needle_reads);
	}
	if (r == 0)
		r = line_write(line, file);
	json_object_put(line);
	return r;
}
