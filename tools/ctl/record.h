/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the records of a control reply are made of: one table a record type,
 * from which both the table for people and the JSON for programs come.
 */
#ifndef SYN_TOOLS_CTL_RECORD_H
#define SYN_TOOLS_CTL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

enum syn_form {
	SYN_FORM_COUNT,
	SYN_FORM_BYTES,
	SYN_FORM_TIME,	/* nanoseconds */
	SYN_FORM_SHARE, /* units of 2^-16 */
	SYN_FORM_ID,	/* ~0: none */
	SYN_FORM_BOOL,
	SYN_FORM_TEXT, /* a peer's bytes: never trusted */
	SYN_FORM_KEY,  /* 128 bits, 0: none */
	SYN_FORM_TIER, /* 0: none */
	SYN_FORM_CLIENT,
	SYN_FORM_PAGE,
	SYN_FORM_FLAGS,
	SYN_FORM_CODEC,
	SYN_FORM_LIMIT,	  /* bytes; ~0: none */
	SYN_FORM_PERCENT, /* units of 2^-16 */
	SYN_FORM_CAUSE,
	SYN_FORM_FIELD,	 /* 0: none */
	SYN_FORM_OBJECT, /* of fsck */
	SYN_FORM_WHAT,	 /* of an object */
};

/**
 * struct syn_column - one member of a record.
 * @member:	its name, which is its name in JSON.
 * @title:	its heading for people; NULL: for programs only.
 * @offset:	where it is in the record.
 * @bytes:	its size.
 * @form:	what it means.
 */
struct syn_column {
	const char *member;
	const char *title;
	uint16_t offset;
	uint16_t bytes;
	enum syn_form form;
};

/**
 * struct syn_record_type - the records of one SYN_CTL_* reply.
 * @name:	in JSON and in the summary: "tiers".
 * @op:		the question.
 * @bytes:	size of a record.
 * @nr_columns:	entries of @columns.
 * @columns:	all members but padding, in the order shown.
 */
struct syn_record_type {
	const char *name;
	uint32_t op;
	uint32_t bytes;
	unsigned int nr_columns;
	const struct syn_column *columns;
};

extern const struct syn_record_type syn_record_status;
extern const struct syn_record_type syn_record_tiers;
extern const struct syn_record_type syn_record_clients;
extern const struct syn_record_type syn_record_pages;
extern const struct syn_record_type syn_record_domains;
/* struct syn_swapfile_stats: nobody is asked for it. */
extern const struct syn_record_type syn_record_swap;
extern const struct syn_record_type syn_record_why;
extern const struct syn_record_type syn_record_fsck;
/* The same records as pages, of which it shows what they have lost. */
extern const struct syn_record_type syn_record_errors;

/* A number member; not for SYN_FORM_TEXT and SYN_FORM_KEY. */
uint64_t syn_column_value(const struct syn_column *column, const void *record);

/* @value says that there is none. */
bool syn_form_empty(enum syn_form form, uint64_t value);

/* The word for value @value of a named form, or NULL when it has none. */
const char *syn_form_word(enum syn_form form, uint64_t value);

#define SYN_FORM_TEXT_MAX 80u
/* Printable text of any member, cut to SYN_FORM_TEXT_MAX. */
void syn_column_text(const struct syn_column *column, const void *record,
		     char *ret);
/* @bytes as "1.5 GiB"; @ret has SYN_FORM_TEXT_MAX bytes. */
void syn_form_bytes(uint64_t bytes, char *ret);
/* @ns as "2h 3m"; @ret has SYN_FORM_TEXT_MAX bytes. */
void syn_form_time(uint64_t ns, char *ret);

#endif
