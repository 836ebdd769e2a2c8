/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays of records, in memory that outlives its program. */
#include "core/base/records.h"

#include "core/base/base.h"

#define RECORDS_ALIGN 64u

uint64_t syn_records_at(const struct syn_records *records, uint32_t i)
{
	const struct syn_record_array *array = records->array;
	uint64_t at = 0;

	for (; i--; array++)
		at = syn_align_up(at + array->nr * array->bytes, RECORDS_ALIGN);
	return at;
}

uint64_t syn_records_bytes(const struct syn_records *records)
{
	return syn_records_at(records, records->nr_arrays);
}

/* ---- what was laid out by another --------------------------------------- */

/* @error unless @fits. */
static int misfit(bool fits, int error, const char *what, uint64_t was,
		  uint64_t is, struct syn_misfit *ret)
{
	if (fits)
		return 0;
	*ret = (struct syn_misfit){ .what = what, .was = was, .is = is };
	return error;
}

static int check_program(const struct syn_records *have,
			 const struct syn_records *want, struct syn_misfit *ret)
{
	int r;

	r = misfit(have->magic == want->magic, have->magic ? -EPROTO : -ENODATA,
		   "magic", have->magic, want->magic, ret);
	if (!r)
		r = misfit(have->version == want->version, -EPROTO, "version",
			   have->version, want->version, ret);
	if (!r)
		r = misfit(have->revision <= want->revision, -EPROTO,
			   "revision of a newer program", have->revision,
			   want->revision, ret);
	if (!r)
		r = misfit(have->revision == want->revision, SYN_RECORDS_OLDER,
			   "revision", have->revision, want->revision, ret);
	return r;
}

static int check_array(const struct syn_record_array *have,
		       const struct syn_record_array *want, uint64_t least,
		       struct syn_misfit *ret)
{
	int r;

	r = misfit(have->nr == want->nr, -EINVAL, "number of records", have->nr,
		   want->nr, ret);
	return r ? r
		 : misfit(have->bytes >= least && have->bytes <= want->bytes,
			  -EPROTO, "bytes of a record", have->bytes,
			  want->bytes, ret);
}

/* None is larger than wanted, so nothing overflows if nothing of @want does. */
static int check_arrays(const struct syn_records *have,
			const struct syn_records *want, bool older,
			struct syn_misfit *ret)
{
	uint32_t i;
	int r;

	r = misfit(older ? have->nr_arrays && have->nr_arrays <= want->nr_arrays
			 : have->nr_arrays == want->nr_arrays,
		   -EPROTO, "number of arrays", have->nr_arrays,
		   want->nr_arrays, ret);
	for (i = 0; i < have->nr_arrays && !r; i++) {
		uint64_t least = i ? 1 : sizeof(*have);

		if (!older)
			least = want->array[i].bytes;
		r = check_array(&have->array[i], &want->array[i], least, ret);
	}
	return r;
}

int syn_records_check(const struct syn_records *have, uint64_t room,
		      const struct syn_records *want,
		      struct syn_misfit *ret_misfit)
{
	int older;
	int r;

	r = misfit(room >= sizeof(*have), -EPROTO, "bytes", room,
		   syn_records_bytes(want), ret_misfit);
	if (r)
		return r;
	older = check_program(have, want, ret_misfit);
	if (older < 0)
		return older;
	r = check_arrays(have, want, older, ret_misfit);
	if (!r)
		r = misfit(room >= syn_records_bytes(have), -EPROTO, "bytes",
			   room, syn_records_bytes(have), ret_misfit);
	return r ? r : older;
}

/* ---- and is laid out anew ----------------------------------------------- */

static void array_copy(char *to, uint64_t to_bytes, const char *from,
		       const struct syn_record_array *array, uint64_t begin,
		       uint64_t end)
{
	uint64_t bytes = array->bytes;

	end = syn_min(end, array->nr * bytes);
	/* What has not grown is one piece. */
	if (to_bytes == bytes)
		bytes = end;
	while (begin < end) {
		uint64_t i = begin / bytes;
		uint64_t next = syn_min((i + 1) * bytes, end);

		memcpy(to + i * to_bytes + begin % bytes, from + begin,
		       next - begin);
		begin = next;
	}
}

void syn_records_copy(void *to, const struct syn_records *want,
		      const void *from, uint64_t begin, uint64_t end)
{
	const struct syn_records *have = from;
	uint32_t i;

	for (i = 0; i < have->nr_arrays; i++) {
		uint64_t at = syn_records_at(have, i);

		if (end <= at)
			break;
		array_copy((char *)to + syn_records_at(want, i),
			   want->array[i].bytes, (const char *)from + at,
			   &have->array[i], begin > at ? begin - at : 0,
			   end - at);
	}
	memcpy(to, want, sizeof(*want));
}
