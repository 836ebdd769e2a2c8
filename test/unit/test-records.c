/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/records.h: what has grown is found again, what lies is refused. */
#include "core/base/records.h"

#include "core/base/base.h"
#include "test/test.h"

#define MAGIC	0x6c61796f75746d65u
#define FUZZED	20000
#define GROWN	200
#define RECORDS 40u
#define LARGEST 120u

static uint64_t seed = 88172645463325252u;

static uint64_t next_random(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

/* Two that fit: @new has what @old has, and more. */
static void pair_make(struct syn_records *old, struct syn_records *new)
{
	uint32_t i;

	*old = (struct syn_records){
		.magic = MAGIC,
		.version = 3,
		.revision = 4,
		.nr_arrays = 1 + (uint32_t)next_random(8),
	};
	*new = *old;
	new->revision += 1 + (uint32_t)next_random(3);
	new->nr_arrays += (uint32_t)next_random(3);
	for (i = 0; i < new->nr_arrays; i++) {
		uint64_t bytes = 1 + next_random(LARGEST);

		old->array[i].bytes = i ? bytes : sizeof(*old) + bytes;
		old->array[i].nr = i ? next_random(RECORDS) : 1;
		new->array[i].bytes =
			old->array[i].bytes + next_random(2) * next_random(32);
		new->array[i].nr = old->array[i].nr;
		if (i >= old->nr_arrays)
			old->array[i] = (struct syn_record_array){ 0 };
	}
}

/* No more and no less than it says, so that a sanitizer sees what is outside. */
static unsigned char *memory_make(const struct syn_records *head)
{
	size_t bytes = syn_records_bytes(head);
	unsigned char *memory = malloc(bytes);

	assert_non_null(memory);
	for (size_t i = 0; i < bytes; i++)
		memory[i] = (unsigned char)next_random(256);
	memcpy(memory, head, sizeof(*head));
	return memory;
}

static void record_check(const unsigned char *to, uint64_t to_bytes,
			 const unsigned char *from, uint64_t bytes)
{
	uint64_t i;

	assert_memory_equal(to, from, bytes);
	for (i = bytes; i < to_bytes; i++)
		assert_int_equal(to[i], 0);
}

/* Each record of @to is that of @from and zeroes, or nothing but zeroes. */
static void memory_check(const unsigned char *to, const struct syn_records *new,
			 const unsigned char *from,
			 const struct syn_records *old)
{
	for (uint32_t i = 0; i < new->nr_arrays; i++) {
		uint64_t size = new->array[i].bytes;
		uint64_t was = i < old->nr_arrays ? old->array[i].bytes : 0;
		uint64_t skip = i ? 0 : sizeof(*new);
		const unsigned char *a = to + syn_records_at(new, i);
		const unsigned char *b =
			from + (was ? syn_records_at(old, i) : 0);

		for (uint64_t k = 0; k < new->array[i].nr; k++)
			record_check(a + k * size + skip, size - skip,
				     b + k * was + skip, was ? was - skip : 0);
	}
}

/* From one end to the other, by any steps. */
static void memory_copy(unsigned char *to, const struct syn_records *new,
			const unsigned char *from, uint64_t bytes)
{
	uint64_t at = 0;

	while (at < bytes) {
		uint64_t end = syn_min(at + 1 + next_random(4096), bytes);

		syn_records_copy(to, new, from, at, end);
		at = end;
	}
}

static void test_arrays_lie_in_a_row(void **state)
{
	struct syn_records old;
	struct syn_records new;
	uint32_t i;

	(void)state;
	pair_make(&old, &new);
	assert_int_equal(syn_records_at(&new, 0), 0);
	for (i = 0; i < new.nr_arrays; i++) {
		uint64_t end = syn_records_at(&new, i) +
			       new.array[i].nr *new.array[i].bytes;

		assert_int_equal(syn_records_at(&new, i + 1) % 64, 0);
		assert_true(syn_records_at(&new, i + 1) >= end);
		assert_true(syn_records_at(&new, i + 1) < end + 64);
	}
	assert_int_equal(syn_records_bytes(&new), syn_records_at(&new, i));
}

static void test_grown(void **state)
{
	(void)state;
	for (int i = 0; i < GROWN; i++) {
		struct syn_records old;
		struct syn_records new;
		struct syn_misfit misfit;
		unsigned char *from;
		unsigned char *to;

		pair_make(&old, &new);
		from = memory_make(&old);
		to = calloc(1, syn_records_bytes(&new));
		assert_non_null(to);
		assert_int_equal(syn_records_check((void *)from,
						   syn_records_bytes(&old),
						   &new, &misfit),
				 SYN_RECORDS_OLDER);
		memory_copy(to, &new, from, syn_records_bytes(&old));
		memory_check(to, &new, from, &old);
		assert_int_equal(syn_records_check((void *)to,
						   syn_records_bytes(&new),
						   &new, &misfit),
				 0);
		free(from);
		free(to);
	}
}

/* What was never written is left out: no byte but those is looked at. */
static void test_holes(void **state)
{
	struct syn_records old = {
		MAGIC, 1, 1, 2, 0, { { 1, 448 }, { 90, 24 } }
	};
	struct syn_records new = {
		MAGIC, 1, 2, 2, 0, { { 1, 512 }, { 90, 32 } }
	};
	uint64_t at = syn_records_at(&old, 1);
	unsigned char *from;
	unsigned char *to;
	unsigned char *a;

	(void)state;
	from = memory_make(&old);
	to = calloc(1, syn_records_bytes(&new));
	assert_non_null(to);
	/* The last byte of one record, and the first of another. */
	syn_records_copy(to, &new, from, at + 10 * 24 + 23, at + 20 * 24 + 1);
	a = to + syn_records_at(&new, 1);
	record_check(a, 10 * 32 + 23, from, 0);
	assert_int_equal(a[10 * 32 + 23], from[at + 10 * 24 + 23]);
	for (uint32_t i = 11; i < 20; i++)
		record_check(a + (uint64_t)i * 32, 32,
			     from + at + (uint64_t)i * 24, 24);
	record_check(a + 20 * 32, 70 * 32, from + at + 20 * 24, 1);
	free(from);
	free(to);
}

/* ---- what is refused ---------------------------------------------------- */

static void refused(const struct syn_records *have, uint64_t room, int error,
		    const char *what)
{
	const struct syn_records want = {
		MAGIC, 3, 4, 3, 0, { { 1, 448 }, { 7, 24 }, { 9, 16 } }
	};
	struct syn_misfit misfit = { .what = "" };

	assert_int_equal(syn_records_check(have, room, &want, &misfit), error);
	assert_string_equal(misfit.what, what);
}

static void test_refused(void **state)
{
	const struct syn_records same = {
		MAGIC, 3, 4, 3, 0, { { 1, 448 }, { 7, 24 }, { 9, 16 } }
	};
	const uint64_t room = syn_records_bytes(&same);
	struct syn_records have = same;

	(void)state;
	refused(&have, room, 0, "");
	refused(&have, room - 1, -EPROTO, "bytes");
	refused(&have, sizeof(have) - 1, -EPROTO, "bytes");
	have.magic = 0;
	refused(&have, room, -ENODATA, "magic");
	have.magic = MAGIC + 1;
	refused(&have, room, -EPROTO, "magic");
	have = same;
	have.version--;
	refused(&have, room, -EPROTO, "version");
	have.version += 2;
	refused(&have, room, -EPROTO, "version");
	have = same;
	have.revision++;
	refused(&have, room, -EPROTO, "revision of a newer program");
	have.revision -= 2;
	refused(&have, room, SYN_RECORDS_OLDER, "revision");
	have.nr_arrays--;
	refused(&have, room, SYN_RECORDS_OLDER, "revision");
	have.array[1].bytes--;
	refused(&have, room, SYN_RECORDS_OLDER, "revision");
	have.revision++;
	refused(&have, room, -EPROTO, "number of arrays");
	have.nr_arrays++;
	refused(&have, room, -EPROTO, "bytes of a record");
}

static void test_older_refused(void **state)
{
	const struct syn_records older = {
		MAGIC, 3, 3, 2, 0, { { 1, 440 }, { 7, 20 } }
	};
	const uint64_t room = syn_records_bytes(&older);
	struct syn_records have = older;

	(void)state;
	refused(&have, room, SYN_RECORDS_OLDER, "revision");
	refused(&have, room - 1, -EPROTO, "bytes");
	have.nr_arrays = 0;
	refused(&have, room, -EPROTO, "number of arrays");
	have.nr_arrays = 4;
	refused(&have, room, -EPROTO, "number of arrays");
	have = older;
	have.array[1].nr++;
	refused(&have, room, -EINVAL, "number of records");
	have.array[1].nr -= 2;
	refused(&have, room, -EINVAL, "number of records");
	have = older;
	have.array[1].bytes = 25;
	refused(&have, UINT64_MAX, -EPROTO, "bytes of a record");
	have.array[1].bytes = 0;
	refused(&have, room, -EPROTO, "bytes of a record");
	have = older;
	have.array[0].bytes = sizeof(have) - 1;
	refused(&have, room, -EPROTO, "bytes of a record");
}

/* ---- what lies ---------------------------------------------------------- */

/* One to three words are anything, or nearly what they were. */
static void head_spoil(struct syn_records *head)
{
	uint64_t nr = 1 + next_random(3);

	while (nr--) {
		unsigned char *word =
			(unsigned char *)head +
			4 * next_random(16 + 4 * head->nr_arrays % 64);
		uint32_t value;

		memcpy(&value, word, sizeof(value));
		switch (next_random(4)) {
		case 0:
			value = (uint32_t)next_random(1ull << 32);
			break;
		case 1:
			value = UINT32_MAX;
			break;
		case 2:
			value ^= 1u << next_random(32);
			break;
		default:
			value += (uint32_t)next_random(5) - 2;
		}
		memcpy(word, &value, sizeof(value));
	}
}

/* What is taken is read without looking outside, whatever it says. */
static void test_lies(void **state)
{
	unsigned int taken = 0;

	(void)state;
	for (int i = 0; i < FUZZED; i++) {
		struct syn_records old;
		struct syn_records new;
		struct syn_misfit misfit;
		unsigned char *from;
		unsigned char *to;
		uint64_t room;

		pair_make(&old, &new);
		room = syn_records_bytes(&old);
		from = memory_make(&old);
		head_spoil((void *)from);
		memcpy(&old, from, sizeof(old));
		if (syn_records_check((void *)from, room, &new, &misfit) >= 0) {
			to = calloc(1, syn_records_bytes(&new));
			assert_non_null(to);
			memory_copy(to, &new, from, room);
			memory_check(to, &new, from, &old);
			free(to);
			taken++;
		}
		free(from);
	}
	print_message("%u of %d were taken\n", taken, FUZZED);
	assert_in_range(taken, FUZZED / 50, FUZZED / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arrays_lie_in_a_row),
		cmocka_unit_test(test_grown),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_older_refused),
		cmocka_unit_test(test_lies),
	};

	return test_main(tests);
}
