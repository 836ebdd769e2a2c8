/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and JSON of synapsectl from records with known members. */
#include "test/test.h"

#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "core/base/base.h"
#include "tools/ctl/show.h"

static const struct syn_record_type *const types[] = {
	&syn_record_status, &syn_record_tiers,	 &syn_record_clients,
	&syn_record_pages,  &syn_record_domains, &syn_record_why,
	&syn_record_fsck,
};

static const struct syn_column *column_of(const struct syn_record_type *type,
					  const char *member)
{
	for (unsigned int i = 0; i < type->nr_columns; i++)
		if (!strcmp(type->columns[i].member, member))
			return &type->columns[i];
	fail_msg("no column %s", member);
	return NULL;
}

static void assert_text(const struct syn_record_type *type, const void *record,
			const char *member, const char *want)
{
	char text[SYN_FORM_TEXT_MAX];

	syn_column_text(column_of(type, member), record, text);
	assert_string_equal(text, want);
}

/* A function's output as text. */
#define CAPTURE(ret, max, call)                                                \
	do {                                                                   \
		memset(ret, 0, max);                                           \
		FILE *out = fmemopen(ret, max, "w");                           \
		assert_non_null(out);                                          \
		call;                                                          \
		assert_int_equal(fclose(out), 0);                              \
	} while (0)

static void test_bytes_are_human(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} cases[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ 1u << 20, "1.0 MiB" },
		{ (uint64_t)5 << 30, "5.0 GiB" },
		{ UINT64_MAX, "16384.0 PiB" },
	};
	char text[SYN_FORM_TEXT_MAX];

	for (size_t i = 0; i < syn_array_size(cases); i++) {
		syn_form_bytes(cases[i].bytes, text);
		assert_string_equal(text, cases[i].want);
	}
}

static void test_times_are_human(void **state)
{
	static const struct {
		uint64_t s;
		const char *want;
	} cases[] = {
		{ 0, "0.0s" },	     { 59, "59.0s" },	{ 60, "1m 0s" },
		{ 3599, "59m 59s" }, { 7260, "2h 1m" }, { 90000, "1d 1h" },
	};
	char text[SYN_FORM_TEXT_MAX];

	for (size_t i = 0; i < syn_array_size(cases); i++) {
		syn_form_time(cases[i].s * 1000000000u, text);
		assert_string_equal(text, cases[i].want);
	}
}

/* Members lie without a gap or an overlap; what is left is padding. */
static void test_columns_cover_records(void **state)
{
	static const unsigned int pad_bytes[] = { 0, 8, 8, 0, 0, 4, 0 };

	for (size_t i = 0; i < syn_array_size(types); i++) {
		const struct syn_record_type *type = types[i];
		unsigned char seen[256] = { 0 };
		unsigned int bytes = 0;

		assert_true(type->bytes <= sizeof(seen));
		for (unsigned int j = 0; j < type->nr_columns; j++) {
			const struct syn_column *column = &type->columns[j];

			for (unsigned int k = 0; k < column->bytes; k++)
				assert_int_equal(seen[column->offset + k]++, 0);
			bytes += column->bytes;
		}
		assert_int_equal(bytes + pad_bytes[i], type->bytes);
	}
}

static void test_page_members(void **state)
{
	const struct syn_ctl_page page = {
		.index = 7,
		.key = { 0xfeed, 1 },
		.state = SYN_PAGE_SEALED,
		.flags = SYN_PAGE_F_HOST | SYN_PAGE_F_KEYED,
		.codec = SYN_CODEC_RAW16,
		.slot = UINT32_MAX,
		.session = 3,
		.share = 98304,
	};
	const struct syn_ctl_page nothing = { .state = 99 };
	const struct syn_record_type *type = &syn_record_pages;

	assert_text(type, &page, "key", "000000000000feed0000000000000001");
	assert_text(type, &page, "state", "sealed");
	assert_text(type, &page, "flags", "host,keyed");
	assert_text(type, &page, "codec", "raw16");
	assert_text(type, &page, "slot", "-");
	assert_text(type, &page, "session", "3");
	assert_text(type, &page, "share", "1.500");
	assert_text(type, &nothing, "key", "-");
	assert_text(type, &nothing, "flags", "-");
	assert_text(type, &nothing, "codec", "-");
	assert_text(type, &nothing, "state", "99");
}

/* A peer chooses its name: no byte of it may reach a terminal as a command. */
static void test_names_are_harmless(void **state)
{
	struct syn_ctl_client client = { .name = "a\033[2J\n\xff" };

	assert_text(&syn_record_clients, &client, "name", "a?[2J??");
	memset(client.name, 'x', sizeof(client.name));
	assert_text(&syn_record_clients, &client, "name",
		    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}

static void test_table_is_aligned(void **state)
{
	const struct syn_ctl_tier tiers[] = {
		{ .tier = SYN_TIER_HBM, .budget_bytes = 1u << 30 },
		{ .tier = SYN_TIER_HOST, .nr_extents = 123456789 },
	};
	char text[1024] = "";
	char *line[3], *save;

	CAPTURE(text, sizeof(text),
		syn_show_table(out, &syn_record_tiers, tiers, 2));
	line[0] = strtok_r(text, "\n", &save);
	line[1] = strtok_r(NULL, "\n", &save);
	line[2] = strtok_r(NULL, "\n", &save);
	assert_non_null(line[2]);
	assert_null(strtok_r(NULL, "\n", &save));
	assert_int_equal(strlen(line[0]), strlen(line[1]));
	assert_int_equal(strlen(line[0]), strlen(line[2]));
	assert_int_equal(strncmp(line[1], "hbm ", 4), 0);
	assert_non_null(strstr(line[1], "1.0 GiB"));
	assert_non_null(strstr(line[2], "123456789"));
	CAPTURE(text, sizeof(text),
		syn_show_table(out, &syn_record_tiers, tiers, 0));
	assert_string_equal(text, "");
}

static void test_why_members(void **state)
{
	const struct syn_ctl_why why = { .cause = SYN_WHY_IDENTITY,
					 .field = SYN_FIELD_FLOOR,
					 .page = UINT32_MAX,
					 .tier = SYN_TIER_HOST };
	const struct syn_ctl_why last = { .cause = SYN_WHY_REPLACED };
	const struct syn_ctl_why other = { .cause = SYN_WHY_IDENTITY,
					   .field = SYN_FIELD_CODED };
	const struct syn_ctl_page coded = { .flags = SYN_PAGE_F_HBM |
						     SYN_PAGE_F_HOST |
						     SYN_PAGE_F_CODED };
	const struct syn_ctl_page page = {
		.flags = SYN_PAGE_F_DURABLE | SYN_PAGE_F_NOT_FINITE,
		.error = 6554,
	};

	assert_text(&syn_record_why, &why, "cause", "identity");
	assert_text(&syn_record_why, &why, "field", "floor");
	assert_text(&syn_record_why, &why, "page", "-");
	assert_text(&syn_record_why, &why, "tier", "host");
	assert_text(&syn_record_why, &last, "cause", "replaced");
	assert_text(&syn_record_why, &last, "field", "-");
	assert_text(&syn_record_why, &last, "tier", "-");
	assert_text(&syn_record_pages, &page, "flags", "durable,not-finite");
	assert_text(&syn_record_pages, &coded, "flags", "hbm,host,coded");
	assert_text(&syn_record_why, &other, "field", "coded");
	assert_text(&syn_record_errors, &page, "error", "10.00 %");
	assert_text(&syn_record_errors, &page, "error_mean", "0.00 %");
}

static void test_why_sentences(void **state)
{
	static const struct {
		struct syn_ctl_why why;
		const char *want;
	} cases[] = {
		{ { .cause = SYN_WHY_NEVER },
		  "never sealed, or so long ago that it is forgotten\n" },
		{ { .cause = SYN_WHY_PRESENT,
		    .page = 5,
		    .tier = SYN_TIER_NVME },
		  "present in the swap file: a lookup finds it (page 5, space "
		  "0, domain 0)\n" },
		{ { .cause = SYN_WHY_EVICTED,
		    .page = UINT32_MAX,
		    .space = 1,
		    .domain = UINT32_MAX,
		    .tier = SYN_TIER_HOST,
		    .session = 7,
		    .pid = 9,
		    .age_ns = 3200000000,
		    .name = "b\033" },
		  "evicted 3.2s ago from host memory to make room for session "
		  "7 (b?, pid 9) (space 1, a domain that has ended)\n" },
		{ { .cause = SYN_WHY_EVICTED,
		    .page = UINT32_MAX,
		    .session = UINT32_MAX,
		    .tier = SYN_TIER_HBM },
		  "evicted 0.0s ago from HBM to make room (space 0, domain "
		  "0)\n" },
		{ { .cause = SYN_WHY_IDENTITY,
		    .field = SYN_FIELD_MODEL,
		    .page = UINT32_MAX },
		  "was under this key in a space of another model (space 0, "
		  "domain 0)\n" },
		{ { .cause = SYN_WHY_DOMAIN, .page = 1, .domain = 2 },
		  "is under this key in another domain (page 1, space 0, "
		  "domain 2)\n" },
		{ { .cause = SYN_WHY_DEVICE, .page = 1, .tier = SYN_TIER_NVME },
		  "lost 0.0s ago: the swap file failed (page 1, space 0, domain "
		  "0)\n" },
	};
	char text[512];

	for (size_t i = 0; i < syn_array_size(cases); i++) {
		CAPTURE(text, sizeof(text), syn_show_why(out, &cases[i].why));
		assert_string_equal(text, cases[i].want);
	}
}

/* Every cause has a word and a sentence of its own. */
static void test_why_is_told_apart(void **state)
{
	char text[SYN_WHY_REPLACED + 1][512];

	for (uint32_t i = SYN_WHY_PRESENT; i <= SYN_WHY_REPLACED; i++) {
		const struct syn_ctl_why why = { .cause = i };

		assert_non_null(syn_form_word(SYN_FORM_CAUSE, i));
		CAPTURE(text[i], sizeof(text[i]), syn_show_why(out, &why));
		assert_non_null(strchr(text[i], '\n'));
		for (uint32_t j = SYN_WHY_PRESENT; j < i; j++)
			assert_string_not_equal(text[i], text[j]);
	}
}

static void test_why_page(void **state)
{
	struct syn_ctl_page page = {
		.index = 3,
		.state = SYN_PAGE_SEALED,
		.flags = SYN_PAGE_F_HOST | SYN_PAGE_F_NVME | SYN_PAGE_F_KEYED,
		.codec = SYN_CODEC_RAW16,
		.advice = SYN_ADVISE_ANCHOR,
	};
	static const char want[] =
		"page 3 is sealed, with 0 leases (space 0, domain 0)\n"
		"in host memory\n"
		"in the swap file\n"
		"kept raw: it is an anchor\n"
		"not durable: a power cut may lose it\n";
	char text[512];

	CAPTURE(text, sizeof(text), syn_show_why_page(out, &page));
	assert_string_equal(text, want);
	page.flags |= SYN_PAGE_F_NOT_FINITE | SYN_PAGE_F_DURABLE;
	CAPTURE(text, sizeof(text), syn_show_why_page(out, &page));
	assert_non_null(strstr(text, "not all of its numbers are finite\n"));
	assert_non_null(strstr(text, "\ndurable:"));
	assert_null(strstr(text, "read in place"));
	page.flags |= SYN_PAGE_F_HBM | SYN_PAGE_F_CODED;
	CAPTURE(text, sizeof(text), syn_show_why_page(out, &page));
	assert_non_null(strstr(text, "in HBM as it is stored: read"));
	page = (struct syn_ctl_page){ .state = SYN_PAGE_LOST,
				      .flags = SYN_PAGE_F_HBM };
	CAPTURE(text, sizeof(text), syn_show_why_page(out, &page));
	assert_string_equal(text, "page 0 is lost, with 0 leases (space 0, "
				  "domain 0)\nwithout a key: no lookup finds "
				  "it\n");
}

static void test_fsck_words(void **state)
{
	const struct syn_ctl_fsck found = {
		.object = SYN_FSCK_LESSEE,
		.field = SYN_FSCK_BACK,
		.index = 7,
		.expected = UINT32_MAX,
		.found = UINT64_MAX,
	};
	const struct syn_record_type *type = &syn_record_fsck;

	assert_text(type, &found, "object", "lessee");
	assert_text(type, &found, "field", "back");
	assert_text(type, &found, "index", "7");
	assert_text(type, &found, "expected", "-");
	assert_text(type, &found, "found", "18446744073709551615");
	for (uint32_t i = SYN_FSCK_PAGE; i <= SYN_FSCK_MANAGER; i++)
		assert_non_null(syn_form_word(SYN_FORM_OBJECT, i));
	for (uint32_t i = SYN_FSCK_STATE; i <= SYN_FSCK_MAPPED; i++)
		assert_non_null(syn_form_word(SYN_FORM_WHAT, i));
	assert_null(syn_form_word(SYN_FORM_OBJECT, SYN_FSCK_MANAGER + 1));
	assert_null(syn_form_word(SYN_FORM_WHAT, SYN_FSCK_MAPPED + 1));
}

static struct json_object *member_of(struct json_object *object,
				     const char *name)
{
	struct json_object *value = NULL;

	assert_true(json_object_object_get_ex(object, name, &value));
	return value;
}

static void test_json_reads_back(void **state)
{
	const struct syn_ctl_page pages[] = {
		{ .key = { 1, 2 },
		  .flags = SYN_PAGE_F_HBM | SYN_PAGE_F_MOVING,
		  .slot = 5,
		  .session = UINT32_MAX,
		  .share = UINT32_MAX },
		{ .slot = UINT32_MAX },
	};
	struct json_object *root, *list, *page;
	char text[2048] = "";
	int r = -1;

	CAPTURE(text, sizeof(text),
		r = syn_show_json_table(out, &syn_record_pages, pages, 2));
	assert_int_equal(r, 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	root = json_tokener_parse(text);
	assert_non_null(root);
	list = member_of(root, "pages");
	assert_int_equal(json_object_array_length(list), 2);
	page = json_object_array_get_idx(list, 0);
	assert_int_equal(json_object_get_int(member_of(page, "slot")), 5);
	assert_null(member_of(page, "session"));
	assert_true(json_object_get_uint64(member_of(page, "share")) ==
		    UINT32_MAX);
	assert_int_equal(json_object_array_length(member_of(page, "flags")), 2);
	page = json_object_array_get_idx(list, 1);
	assert_null(member_of(page, "key"));
	assert_null(member_of(page, "slot"));
	(void)json_object_put(root);
}

static void test_json_fsck(void **state)
{
	const struct syn_ctl_fsck found = { .object = SYN_FSCK_PAGE,
					    .field = SYN_FSCK_STATE,
					    .expected = 3 };
	struct json_object *root, *one;
	char text[512] = "";
	int r = -1;

	CAPTURE(text, sizeof(text),
		r = syn_show_json_fsck(out, &found, 1, SYN_FSCK_MOVED | 9));
	assert_int_equal(r, 0);
	root = json_tokener_parse(text);
	assert_non_null(root);
	assert_int_equal(json_object_get_int(member_of(root, "found")), 9);
	assert_true(json_object_get_boolean(member_of(root, "moved")));
	one = json_object_array_get_idx(member_of(root, "fsck"), 0);
	assert_string_equal(json_object_get_string(member_of(one, "object")),
			    "page");
	assert_int_equal(json_object_get_int(member_of(one, "expected")), 3);
	(void)json_object_put(root);
}

static void test_json_keeps_64_bits(void **state)
{
	const struct syn_ctl_status status = { .leases = UINT64_MAX,
					       .draining = 1 };
	struct json_object *root;
	char text[2048] = "";
	int r = -1;

	CAPTURE(text, sizeof(text),
		r = syn_show_json_record(out, &syn_record_status, &status));
	assert_int_equal(r, 0);
	root = json_tokener_parse(text);
	assert_non_null(root);
	assert_true(json_object_get_uint64(member_of(root, "leases")) ==
		    UINT64_MAX);
	assert_true(json_object_get_boolean(member_of(root, "draining")));
	(void)json_object_put(root);
}

static void test_json_says_when_it_cannot_write(void **state)
{
	const struct syn_ctl_status status = { 0 };
	FILE *full = fopen("/dev/full", "w");

	if (!full)
		skip();
	assert_int_equal(
		syn_show_json_record(full, &syn_record_status, &status), -EIO);
	(void)fclose(full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_are_human),
		cmocka_unit_test(test_times_are_human),
		cmocka_unit_test(test_columns_cover_records),
		cmocka_unit_test(test_page_members),
		cmocka_unit_test(test_names_are_harmless),
		cmocka_unit_test(test_table_is_aligned),
		cmocka_unit_test(test_why_members),
		cmocka_unit_test(test_why_sentences),
		cmocka_unit_test(test_why_is_told_apart),
		cmocka_unit_test(test_why_page),
		cmocka_unit_test(test_fsck_words),
		cmocka_unit_test(test_json_reads_back),
		cmocka_unit_test(test_json_fsck),
		cmocka_unit_test(test_json_keeps_64_bits),
		cmocka_unit_test(test_json_says_when_it_cannot_write),
	};

	return test_main(tests);
}
