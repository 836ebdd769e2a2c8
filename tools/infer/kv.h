/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KV pages: everything the engine keeps of a sequence, leased from synapsed.
 *
 * A page holds 128 tokens of one layer: for each KV head the keys and then the
 * values, fp16, [token][dim].  Full pages are sealed under a key that is made
 * of all tokens up to the page's end and of the layer, so that any process
 * with the same model and the same beginning of a prompt finds them.  The page
 * that still grows stays pinned; all others are pinned only while attention
 * reads them.
 *
 * Where pages may lose precision below HBM, a sequence's first block, the one
 * that grows and the last full one are anchors, which stay raw in every tier.
 * On a GPU all others come back as they are stored, and are read so.
 */
#ifndef SYN_TOOLS_INFER_KV_H
#define SYN_TOOLS_INFER_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct syn_kv;
struct syn_kv_seq;
struct syn_model_config;

/**
 * struct syn_kv_opts - a connection to the daemon.
 * @socket:	the daemon's socket; NULL: the library's default.
 * @name:	for people; NULL: the library's default.
 * @model:	identity of the model.
 * @config:	its sizes.
 * @slots:	HBM share in pages; 0: from @hbm_bytes.
 * @hbm_bytes:	HBM share in bytes.
 * @sequences:	sequences that may live at once.
 * @codec:	SYN_CODEC_*: what pages may become below HBM.
 * @report:	pass attention shares on to the daemon.
 * @record:	a file that records them; NULL: none.
 */
struct syn_kv_opts {
	const char *socket;
	const char *name;
	const uint64_t *model;
	const struct syn_model_config *config;
	unsigned int slots;
	uint64_t hbm_bytes;
	unsigned int sequences;
	uint32_t codec;
	bool report;
	const char *record;
};

/**
 * struct syn_kv_stats - what happened so far.
 * @pages:	leased now.
 * @pages_peak:	leased at once, at most.
 * @pages_new:	leased for writing.
 * @pages_found: found under their keys.
 * @pages_persisted: on disk for good.
 * @dups:	sealed by somebody else first.
 * @pins:	pages pinned for attention ...
 * @coded:	... and of these, read as they are stored.
 * @batches:	batches they were pinned in.
 * @faults:	batches in which something was not resident.
 * @retries:	times the daemon had no room.
 * @page_bytes:	bytes of a page.
 * @slots:	HBM share in pages.
 */
struct syn_kv_stats {
	uint64_t pages;
	uint64_t pages_peak;
	uint64_t pages_new;
	uint64_t pages_found;
	uint64_t pages_persisted;
	uint64_t dups;
	uint64_t pins;
	uint64_t coded;
	uint64_t batches;
	uint64_t faults;
	uint64_t retries;
	uint64_t page_bytes;
	uint64_t slots;
};

/* Errors are logged with their reason. */
int syn_kv_open(const struct syn_kv_opts *opts, struct syn_kv **ret);
/* All sequences are gone.  Takes NULL, returns NULL. */
struct syn_kv *syn_kv_close(struct syn_kv *kv);
/* Ends the recording, if there is one: 0 when all of it is in the file. */
int syn_kv_record_end(struct syn_kv *kv);
const struct syn_kv_stats *syn_kv_stats(const struct syn_kv *kv);
/* The daemon's ids of this session and of its space. */
uint32_t syn_kv_session(const struct syn_kv *kv);
uint32_t syn_kv_space(const struct syn_kv *kv);

/*
 * An empty sequence for the bytes of @tokens.  The array has room for
 * @max_tokens, is filled by its owner and outlives the sequence.
 */
int syn_kv_seq_new(struct syn_kv *kv, const uint8_t *tokens, size_t max_tokens,
		   struct syn_kv_seq **ret);
/* Gives its leases back.  Takes NULL, returns NULL. */
struct syn_kv_seq *syn_kv_seq_free(struct syn_kv_seq *seq);

/*
 * Takes over full blocks that somebody has computed, from where the sequence
 * ends and not past token @limit.  Returns how many blocks, or -errno.
 */
int syn_kv_seq_find(struct syn_kv_seq *seq, size_t limit);

/* Makes sure that token @at can be written: a tail page for each layer. */
int syn_kv_seq_grow(struct syn_kv_seq *seq, size_t at);

/* Tokens up to @nr are written in all layers; full pages are sealed. */
int syn_kv_seq_commit(struct syn_kv_seq *seq, size_t nr);

/*
 * Full blocks survive the daemon once this returns; but for pages that
 * somebody else sealed first, which are his to persist.
 */
int syn_kv_seq_persist(struct syn_kv_seq *seq);

/* The key under which layer @layer's page of full block @block is sealed. */
void syn_kv_seq_key(struct syn_kv_seq *seq, unsigned int block,
		    unsigned int layer, uint64_t ret[2]);

/* The page that grows; pinned, so it stays where it is until it is full. */
void *syn_kv_seq_tail(struct syn_kv_seq *seq, unsigned int layer);

/*
 * Pins pages of full blocks, @nr of them from @first on, or as many as may be
 * pinned at once.  Returns how many, or -errno.
 */
int syn_kv_seq_pin(struct syn_kv_seq *seq, unsigned int layer,
		   unsigned int first, unsigned int nr, void **ret_addr);
void syn_kv_seq_unpin(struct syn_kv_seq *seq, unsigned int layer,
		      unsigned int first, unsigned int nr);

/* Wants to know how attention was spread. */
bool syn_kv_reports(const struct syn_kv *kv);
bool syn_kv_seq_reports(const struct syn_kv_seq *seq);

/*
 * Room for what @queries queries, the first at token @first, give to each page
 * of a layer up to theirs: float [pages][query heads], up to @queries for each
 * head.  NULL: there is none, nothing is reported.
 */
int syn_kv_seq_report_begin(struct syn_kv_seq *seq, unsigned int layer,
			    uint64_t first, unsigned int queries, float **ret);
/* It is written. */
void syn_kv_seq_report_end(struct syn_kv_seq *seq);

#endif
