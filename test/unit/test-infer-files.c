/* SPDX-License-Identifier: Apache-2.0 */
/* What the demo engine reads: weight files and prompt files, good and bad. */
#include "test/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/model.h"
#include "tools/infer/panels.h"
#include "tools/infer/prompts.h"
#include "tools/infer/safetensors.h"
#include "tools/infer/simd.h"

static char path[] = "/tmp/syn-test-infer-XXXXXX";
static unsigned int complaints;

static void count_complaint(enum syn_log_level level, const char *line)
{
	complaints++;
}

static int setup(void **state)
{
	int fd = mkstemp(path);

	syn_log_set_sink(count_complaint);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	syn_log_set_sink(NULL);
	return unlink(path);
}

static void put(const void *bytes, size_t nr)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, nr, file), nr);
	assert_int_equal(fclose(file), 0);
}

/* ---- weight files ------------------------------------------------------- */

/* @header with its length in front and @nr_data bytes behind. */
static void put_weights(const char *header, size_t nr_data)
{
	static unsigned char bytes[4096];
	size_t length = strlen(header);

	memset(bytes, 0, sizeof(bytes));
	assert_true(8 + length + nr_data <= sizeof(bytes));
	for (unsigned int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
	memcpy(bytes + 8, header, length);
	for (size_t i = 0; i < nr_data; i++)
		bytes[8 + length + i] = (unsigned char)i;
	put(bytes, 8 + length + nr_data);
}

static int open_weights(struct syn_safetensors **ret)
{
	complaints = 0;
	return syn_safetensors_open(path, ret);
}

static void test_weights(void **state)
{
	struct syn_safetensors *file = NULL;
	const uint16_t *x;
	uint64_t identity[2][2];

	put_weights("{\"__metadata__\":{\"a\":\"b\",\"n\":1},\"t\":{\"dtype\":"
		    "\"F16\",\"shape\":[2,3],\"data_offsets\":[2,14]}}  ",
		    14);
	assert_int_equal(open_weights(&file), 0);
	assert_string_equal(syn_safetensors_meta(file, "a"), "b");
	assert_null(syn_safetensors_meta(file, "n"));
	assert_null(syn_safetensors_meta(file, "c"));
	assert_int_equal(syn_safetensors_tensor(file, "t", 2, 3, &x), 0);
	assert_int_equal(x[0], 0x0302);
	assert_int_equal(complaints, 0);
	assert_int_equal(syn_safetensors_tensor(file, "t", 3, 2, &x), -EBADMSG);
	assert_int_equal(syn_safetensors_tensor(file, "t", 0, 6, &x), -EBADMSG);
	assert_int_equal(syn_safetensors_tensor(file, "u", 2, 3, &x), -ENOENT);
	assert_int_equal(complaints, 3);
	syn_safetensors_identity(file, identity[0]);
	assert_null(syn_safetensors_close(file));

	put_weights("{} ", 14);
	assert_int_equal(open_weights(&file), 0);
	syn_safetensors_identity(file, identity[1]);
	assert_memory_not_equal(identity[0], identity[1], 16);
	syn_safetensors_close(file);
}

static void test_broken_weights(void **state)
{
	const char *const headers[] = { "[]", "{", "", "7", "{\"a\":}" };
	struct syn_safetensors *file = NULL;

	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
		put_weights(headers[i], 8);
		assert_int_equal(open_weights(&file), -EBADMSG);
		assert_int_equal(complaints, 1);
	}
	put("1234567", 7);
	assert_int_equal(open_weights(&file), -EBADMSG);
	put("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
	assert_int_equal(open_weights(&file), -EBADMSG);
	put("\x03\0\0\0\0\0\0\0{}", 10);
	assert_int_equal(open_weights(&file), -EBADMSG);
	complaints = 0;
	assert_int_equal(syn_safetensors_open("/nonexistent", &file), -ENOENT);
	assert_int_equal(syn_safetensors_open("/dev", &file), -EBADMSG);
	assert_int_equal(complaints, 2);
	assert_null(file);
}

static void test_broken_tensors(void **state)
{
	const char *const entries[] = {
		"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,8]}",
		"{\"shape\":[4],\"data_offsets\":[0,8]}",
		"{\"dtype\":\"F16\",\"shape\":4,\"data_offsets\":[0,8]}",
		"{\"dtype\":\"F16\",\"shape\":[4.0],\"data_offsets\":[0,8]}",
		"{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,7]}",
		"{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[8,0]}",
		"{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[-8,0]}",
		"{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[10,18]}",
		"{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0]}",
		"{\"dtype\":\"F16\",\"shape\":[4]}",
		"[]",
	};

	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		struct syn_safetensors *file;
		const uint16_t *x = NULL;
		char header[256];

		(void)snprintf(header, sizeof(header), "{\"t\":%s}",
			       entries[i]);
		put_weights(header, 16);
		assert_int_equal(open_weights(&file), 0);
		assert_true(syn_safetensors_tensor(file, "t", 0, 4, &x) < 0);
		assert_null(x);
		assert_int_equal(complaints, 1);
		syn_safetensors_close(file);
	}
}

static void check_metadata(const char *key, const char *value)
{
	static const char *const good[][2] = {
		{ "vocab", "256" },	 { "d_model", "256" },
		{ "n_layers", "6" },	 { "n_heads", "4" },
		{ "n_kv_heads", "2" },	 { "head_dim", "128" },
		{ "d_ff", "704" },	 { "rope_theta", "1e6" },
		{ "norm_eps", "1e-05" },
	};
	struct syn_model *model = NULL;
	char header[1024] = "{\"__metadata__\":{";

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		bool bad = strcmp(good[i][0], key) == 0;
		size_t at = strlen(header);

		(void)snprintf(header + at, sizeof(header) - at,
			       "%s\"%s\":\"%s\"", i ? "," : "", good[i][0],
			       bad ? value : good[i][1]);
	}
	(void)strcat(header, "}}");
	put_weights(header, 0);
	complaints = 0;
	/* With good metadata it is the first tensor that is missing. */
	assert_int_equal(syn_model_load(path, &model),
			 *key ? -EBADMSG : -ENOENT);
	assert_int_equal(complaints, 1);
	assert_null(model);
}

static void test_metadata(void **state)
{
	check_metadata("", "");
	check_metadata("vocab", "257");
	check_metadata("d_model", "255");
	check_metadata("d_model", "1e9");
	check_metadata("n_layers", "0");
	check_metadata("n_layers", "many");
	check_metadata("n_heads", "3");
	check_metadata("n_kv_heads", "2.5");
	check_metadata("head_dim", "64");
	check_metadata("d_ff", "700");
	check_metadata("rope_theta", "nan");
	check_metadata("norm_eps", "-1");
	check_metadata("norm_eps", "");
}

static void test_model_survives_every_failure(void **state)
{
	int before = test_count_fds();
	unsigned int nth = 0;
	int r;

	do {
		struct syn_model *model = NULL;
		struct syn_panels *panels = NULL;

		syn_fault_arm(++nth);
		r = syn_model_load(SYN_TEST_MODEL, &model);
		if (r == 0)
			r = syn_panels_new(model, syn_simd_best(), &panels);
		(void)syn_fault_disarm();
		assert_true(r == 0 || (r == -ENOMEM && !panels));
		panels = syn_panels_free(panels);
		model = syn_model_free(model);
		assert_int_equal(test_count_fds(), before);
	} while (r);
	assert_true(nth > 10);
}

/* ---- prompt files ------------------------------------------------------- */

static int load_prompts(const char *text, struct syn_prompts **ret)
{
	put(text, strlen(text));
	complaints = 0;
	return syn_prompts_load(path, ret);
}

static void test_prompts(void **state)
{
	struct syn_prompts *prompts = NULL;
	const struct syn_prompt *p;

	assert_int_equal(
		load_prompts("{\"id\":7,\"prompt\":\"a. bc.\\nz\",\"answer\":"
			     "\"x\",\"needles\":[1,5],\"asked\":0}\n"
			     "\n"
			     "{\"prompt\":\"q\",\"question\":0,\"id\":\"n\"}\n"
			     "{\"prompt\":\"\\u00e9\"}",
			     &prompts),
		0);
	assert_int_equal(prompts->nr, 3);
	p = &prompts->all[0];
	assert_string_equal(p->id, "7");
	assert_int_equal(p->nr_bytes, 8);
	assert_memory_equal(p->text, "a. bc.\nz", 8);
	assert_string_equal(p->answer, "x");
	assert_int_equal(p->question, 6);
	assert_int_equal(p->nr_needles, 2);
	assert_int_equal(p->needles[1], 5);
	assert_int_equal(syn_prompt_needle_end(p, 1), 2);
	assert_int_equal(syn_prompt_needle_end(p, 2), 6);
	assert_int_equal(syn_prompt_needle_end(p, 6), 8);
	assert_string_equal(prompts->all[1].id, "\"n\"");
	assert_null(prompts->all[1].answer);
	assert_string_equal(prompts->all[2].id, "4");
	assert_int_equal(prompts->all[2].nr_bytes, 2);
	assert_int_equal(complaints, 0);
	assert_null(syn_prompts_free(prompts));

	assert_int_equal(load_prompts("", &prompts), 0);
	assert_int_equal(prompts->nr, 0);
	syn_prompts_free(prompts);
}

static void test_broken_prompts(void **state)
{
	const char *const texts[] = {
		"{\"prompt\":\"a\"}\nno",
		"[]",
		"{}",
		"null",
		"{\"prompt\":\"\"}",
		"{\"prompt\":1}",
		"{\"prompt\":\"a\",\"id\":[]}",
		"{\"prompt\":\"a\",\"answer\":1}",
		"{\"prompt\":\"a\",\"question\":1}",
		"{\"prompt\":\"a\",\"question\":\"0\"}",
		"{\"prompt\":\"a\",\"needles\":0}",
		"{\"prompt\":\"a\",\"needles\":[-1]}",
		"{\"prompt\":\"a\",\"needles\":[1]}",
		"{\"prompt\":\"a\",\"needles\":[\"0\"]}",
	};
	struct syn_prompts *prompts = NULL;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		assert_int_equal(load_prompts(texts[i], &prompts), -EBADMSG);
		assert_int_equal(complaints, 1);
	}
	assert_int_equal(syn_prompts_load("/nonexistent", &prompts), -ENOENT);
	assert_null(prompts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_broken_weights),
		cmocka_unit_test(test_broken_tensors),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_model_survives_every_failure),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test(test_broken_prompts),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;
}
