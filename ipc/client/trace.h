/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording of a client: what it did with its pages and what attention they
 * received.  Documentation/share-trace.rst is the format; everything here is
 * little endian.
 *
 * Each of these calls does nothing unless a recording is under way, takes the
 * recording's own mutex, which is the last one, and cannot fail: the first
 * error of the file ends the recording, and syn_trace_end() tells it.
 */
#ifndef SYN_IPC_CLIENT_TRACE_H
#define SYN_IPC_CLIENT_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/abi.h>
#include <synapse/client.h>

#define SYN_TRACE_VERSION 1u

#define SYN_TRACE_SPACE	  1u
#define SYN_TRACE_LEASE	  2u
#define SYN_TRACE_LOOKUP  3u
#define SYN_TRACE_COMMIT  4u
#define SYN_TRACE_SEAL	  5u
#define SYN_TRACE_RELEASE 6u
#define SYN_TRACE_SHARES  7u
#define SYN_TRACE_REPORT  8u
#define SYN_TRACE_END	  9u

/**
 * struct syn_trace_head - begins a file.
 * @magic:	"Syntrace".
 * @version:	SYN_TRACE_VERSION.
 * @bytes:	of this head.
 * @time_ns:	since 1970, when the recording began.
 * @session:	the daemon's id.
 * @pad0:	zero.
 * @pad1:	zero.
 * @hash:	XXH32 of all before.
 */
struct syn_trace_head {
	char magic[8];
	uint32_t version;
	uint32_t bytes;
	uint64_t time_ns;
	uint32_t session;
	uint32_t pad0;
	uint32_t pad1;
	uint32_t hash;
};
SYN_ABI_SIZE(struct syn_trace_head, 40);

/**
 * struct syn_trace_block - begins a piece of the stream of records.
 * @number:	of the block, from 0 on.
 * @bytes:	of records that follow; they may go on in the next block.
 * @hash:	XXH32 of those, seeded with @number.
 * @pad0:	zero.
 */
struct syn_trace_block {
	uint32_t number;
	uint32_t bytes;
	uint32_t hash;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_trace_block, 16);

/**
 * struct syn_trace_record - begins a record.
 * @bytes:	of the record with this, a multiple of 8.
 * @type:	SYN_TRACE_*.
 * @pad0:	zero.
 * @time_ns:	since the recording began.
 */
struct syn_trace_record {
	uint32_t bytes;
	uint16_t type;
	uint16_t pad0;
	uint64_t time_ns;
};
SYN_ABI_SIZE(struct syn_trace_record, 16);

/**
 * struct syn_trace_space - SYN_TRACE_SPACE; components follow.
 * @model:		see struct syn_space_opts, as all but the next three.
 * @identity:		see struct syn_space.
 * @page_bytes:		the same.
 * @space:		its id.
 * @tokens:		of a page.
 * @layers_per_page:	see there.
 * @nr_components:	struct syn_component that follow.
 */
struct syn_trace_space {
	uint64_t model[2];
	uint64_t identity;
	uint64_t page_bytes;
	uint32_t space;
	uint32_t tokens;
	uint32_t layers_per_page;
	uint32_t nr_components;
};
SYN_ABI_SIZE(struct syn_trace_space, 48);

/**
 * struct syn_trace_pages - SYN_TRACE_LEASE, _LOOKUP, _COMMIT, _RELEASE.
 * @space:	LEASE, LOOKUP: the window's.
 * @nr:		handles that follow.  COMMIT: and as many uint32_t, their
 *		tokens.
 * @asked:	LOOKUP: keys that were looked up.
 * @nr_keys:	LOOKUP: keys of 16 bytes that follow the handles: of what was
 *		found, and of the first that was not.
 */
struct syn_trace_pages {
	uint32_t space;
	uint32_t nr;
	uint32_t asked;
	uint32_t nr_keys;
};
SYN_ABI_SIZE(struct syn_trace_pages, 16);

/**
 * struct syn_trace_seal - SYN_TRACE_SEAL.
 * @page:	which.
 * @key:	under which.
 * @dup:	1: somebody had sealed that key before.
 * @pad0:	zero.
 */
struct syn_trace_seal {
	uint64_t page;
	uint64_t key[2];
	uint32_t dup;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_trace_seal, 32);

/**
 * struct syn_trace_shares - SYN_TRACE_SHARES: one batch.
 * @sequence:	see struct syn_shares_batch.
 * @first:	the same.
 * @layer:	the same.
 * @queries:	the same.
 * @kv_heads:	the same.
 * @group:	the same.
 * @nr:		pages.
 * @same:	so many of them, the first, are all those of the batch before
 *		of this sequence and layer; handles of the others follow, then
 *		uint16_t [nr][kv_heads], the bits of an fp32 without its sign
 *		and its lowest fifteen.
 * @pad0:	zero.
 */
struct syn_trace_shares {
	uint64_t sequence;
	uint64_t first;
	uint32_t layer;
	uint32_t queries;
	uint16_t kv_heads;
	uint16_t group;
	uint32_t nr;
	uint32_t same;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_trace_shares, 40);

/**
 * struct syn_trace_report - SYN_TRACE_REPORT: struct syn_vec_share follow.
 * @nr:		how many.
 * @pad0:	zero.
 */
struct syn_trace_report {
	uint32_t nr;
	uint32_t pad0;
};
SYN_ABI_SIZE(struct syn_trace_report, 8);

void syn_trace_space(struct syn_client *c, const struct syn_msg_space *msg,
		     const struct syn_space *space);
/* LEASE or RELEASE; @space is 0 for the latter. */
void syn_trace_pages(struct syn_client *c, uint16_t type, uint32_t space,
		     const uint64_t *pages, unsigned int nr);
void syn_trace_lookup(struct syn_client *c, uint32_t space,
		      const uint64_t (*keys)[2], unsigned int asked,
		      const uint64_t *pages, unsigned int found);
void syn_trace_commit(struct syn_client *c, const uint64_t *pages,
		      const uint32_t *tokens, unsigned int nr);
void syn_trace_seal(struct syn_client *c, uint64_t page, const uint64_t key[2],
		    bool dup);
/* @info->pages and @shares [nr_parts][kv_heads] have each page once in a row. */
void syn_trace_shares(struct syn_client *c, const struct syn_shares_batch *info,
		      const float *shares);
void syn_trace_report(struct syn_client *c, const struct syn_vec_share *shares,
		      unsigned int nr);

/* Writes what has been kept for a while. */
void syn_trace_look(struct syn_client *c);
/* Ends the recording; in a child (@forked) the file is the parent's. */
void syn_trace_free(struct syn_client *c, bool forked);

#endif
