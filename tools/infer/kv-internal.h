/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about pages share. */
#ifndef SYN_TOOLS_INFER_KV_INTERNAL_H
#define SYN_TOOLS_INFER_KV_INTERNAL_H

#include <synapse/client.h>
#include <xxhash.h>

#include "tools/infer/kv.h"

#define SYN_KV_WAIT_NS	 1000000000ull /* for room, in one call */
#define SYN_KV_WAITS_MAX 60u	       /* such waits before giving up */

/**
 * struct syn_kv - a connection.
 * @client:	the session.
 * @window:	its share of HBM.
 * @space:	of all pages.
 * @stats:	so far.
 * @timeline:	of the one thread, or of its stream.
 * @n_layers:	of the model.
 * @n_kv_heads:	likewise.
 * @group:	query heads of each.
 * @slots:	of the window, for pages that are raw.
 * @coded_slots: for pages that are read as they are stored, or 0.
 * @tails:	pages that may grow at once.
 * @batch:	pages to pin at once.
 * @codec:	of pages below HBM.
 * @report:	tell the daemon shares.
 * @record:	where a recording goes, or NULL.
 * @nr_sequences: so far.
 * @issued:	number of the report that is being written.
 */
struct syn_kv {
	struct syn_client *client;
	struct syn_window *window;
	struct syn_space space;
	struct syn_kv_stats stats;
	uint32_t timeline;
	unsigned int n_layers;
	unsigned int n_kv_heads;
	unsigned int group;
	unsigned int slots;
	unsigned int coded_slots;
	unsigned int tails;
	unsigned int batch;
	uint32_t codec;
	bool report;
	const char *record;
	uint64_t nr_sequences;
	uint64_t issued;
};

/**
 * struct syn_kv_seq - a sequence's pages.
 * @kv:		the connection.
 * @number:	of the sequence, from 0 on.
 * @tokens:	the sequence's bytes; the owner appends to them.
 * @nr_blocks:	blocks that have pages, the same in all layers.
 * @nr_full:	of these, blocks that are full; the tail, if any, follows.
 * @max_blocks:	room in each row of @pages.
 * @recent:	the first block that is an anchor for being recent ...
 * @recent_end:	... and the one behind the last.
 * @pages:	[n_layers][max_blocks], handles.
 * @foreign:	[n_layers][max_blocks], somebody else sealed that key first.
 * @tails:	[n_layers], addresses of the tail pages.
 * @nr_chained:	entries of @chain that are known.
 * @chain:	[max_blocks], hashes of all bytes up to a block's end.
 */
struct syn_kv_seq {
	struct syn_kv *kv;
	uint64_t number;
	const uint8_t *tokens;
	unsigned int nr_blocks;
	unsigned int nr_full;
	unsigned int max_blocks;
	unsigned int recent;
	unsigned int recent_end;
	uint64_t *pages;
	bool *foreign;
	void **tails;
	unsigned int nr_chained;
	XXH128_hash_t *chain;
};

/* Logs why; returns @r. */
int syn_kv_failed(const struct syn_kv *kv, const char *what, int r);

/* Handles of a layer's pages, [max_blocks]. */
static inline uint64_t *syn_kv_seq_pages(const struct syn_kv_seq *seq,
					 unsigned int layer)
{
	return seq->pages + (size_t)layer * seq->max_blocks;
}

#endif
