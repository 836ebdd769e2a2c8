/* SPDX-License-Identifier: Apache-2.0 */
/* A control session with synapsed: one question, one answer, blocking. */
#ifndef SYN_TOOLS_CTL_QUERY_H
#define SYN_TOOLS_CTL_QUERY_H

#include <stddef.h>
#include <stdint.h>

#include <synapse/abi.h>

struct syn_query;

/**
 * struct syn_answer - what the daemon said.
 * @nr:		records.
 * @next:	cursor of the rest, 0: that was all.
 * @val:	by op, see struct syn_msg_ctl_reply.
 * @records:	@nr of them; valid until the next question.
 */
struct syn_answer {
	uint32_t nr;
	uint64_t next;
	uint64_t val;
	const void *records;
};

/*
 * @path NULL: $SYNAPSE_SOCKET, else the default.  The session is refused or
 * nobody answers: -errno, and *ret_reason (SYN_REASON_BYTES) says why.
 */
int syn_query_open(const char *path, struct syn_query **ret, char *ret_reason);
/* Takes NULL, returns NULL. */
struct syn_query *syn_query_close(struct syn_query *query);

/*
 * @args: four, NULL for none.  -EPROTO: records are not of @record_bytes.  -ETIMEDOUT: no answer in 5 s.
 * Others are the daemon's refusals; syn_query_reason() may say more.
 */
int syn_query_ask(struct syn_query *query, uint32_t op, uint64_t cursor,
		  const uint64_t *args, size_t record_bytes,
		  struct syn_answer *ret);

/* The daemon's own words for the last failure, or "". */
const char *syn_query_reason(const struct syn_query *query);

#endif
