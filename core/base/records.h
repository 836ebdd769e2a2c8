/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How records lie in memory that outlives its program, and how they may grow.
 *
 * Such memory is a few arrays, one after the other.  It begins with their sizes,
 * so that another program finds each of them, and the first array is what it
 * begins with: a head, of which there is one.
 *
 * The rule of growth.  A record grows at its end only, a new array comes after
 * the last one, their numbers stay, and zero in what is new says what was so
 * before.  Padding that gets a meaning is growth, too.  Each growth raises the
 * revision.  Then memory of an older revision is copied into one of this: what
 * there was is there, and the rest is zero.  A change that is no growth makes
 * another version.  Nobody takes over another version, or a newer revision.
 */
#ifndef SYN_CORE_BASE_RECORDS_H
#define SYN_CORE_BASE_RECORDS_H

#include <stdint.h>

#include <synapse/abi.h>

#define SYN_RECORDS_ARRAYS_MAX 24u

/* @bytes: of a record. */
struct syn_record_array {
	uint64_t nr;
	uint64_t bytes;
};

/**
 * struct syn_records - what such memory begins with, the same in every version.
 * @magic:	with it the rest is valid.
 * @version:	of what records mean.
 * @revision:	times that they have grown.
 * @nr_arrays:	used entries of @array.
 * @pad0:	zero.
 * @array:	each begins at a multiple of 64.
 */
struct syn_records {
	uint64_t magic;
	uint32_t version;
	uint32_t revision;
	uint32_t nr_arrays;
	uint32_t pad0;
	struct syn_record_array array[SYN_RECORDS_ARRAYS_MAX];
};
SYN_ABI_SIZE(struct syn_records, 408);

/* What does not fit: @was, when it was kept, and @is. */
struct syn_misfit {
	const char *what;
	uint64_t was;
	uint64_t is;
};

/* Where array @i begins, counted from @records; after the last: the end. */
uint64_t syn_records_at(const struct syn_records *records, uint32_t i);
uint64_t syn_records_bytes(const struct syn_records *records);

/*
 * Whether a program that has @want can take over the @room bytes that begin
 * with @have, which need not be true.  0: as they are.  SYN_RECORDS_OLDER: once
 * they are copied.  -ENODATA: there is no magic yet.  -EPROTO, -EINVAL: never.
 * But for 0, *@ret_misfit tells more.
 */
#define SYN_RECORDS_OLDER 1
int syn_records_check(const struct syn_records *have, uint64_t room,
		      const struct syn_records *want,
		      struct syn_misfit *ret_misfit);

/*
 * Copies the bytes from @begin up to @end of @from, which was checked, to where
 * @want has them in @to, zeroed memory that becomes valid.
 */
void syn_records_copy(void *to, const struct syn_records *want,
		      const void *from, uint64_t begin, uint64_t end);

#endif
