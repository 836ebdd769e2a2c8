/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of kv.h for work of a GPU's stream: the work is ordered behind what
 * brings them in, and they are given back behind the work.  The caller waits
 * for neither.
 *
 * A pass: pages are pinned or loaded, the stream is ordered behind the loads,
 * work that reads them is begun and given to it, and so on; then it ends.
 *
 * Where there is room for a pass, all of it is asked for before any work is
 * given, as pages that must leave for it wait for work that was, and the loads
 * are ended with the pass: the host waits neither for work nor for a copy.  Else
 * at most two loads are under way, so that the next one is asked for while one
 * copies.
 */
#ifndef SYN_TOOLS_INFER_KV_STREAM_H
#define SYN_TOOLS_INFER_KV_STREAM_H

#include <stdbool.h>
#include <stdint.h>

struct syn_kv;
struct syn_kv_seq;
struct syn_kv_stream;

/* The GPU that pages are in, 16 bytes.  -ENODEV: they are in none. */
int syn_kv_gpu(const struct syn_kv *kv, uint8_t *ret_uuid);

/*
 * @stream is a CUstream, the only one that reads pages of @kv; sequences have
 * at most @max_blocks blocks.
 */
int syn_kv_stream_new(struct syn_kv *kv, void *stream, unsigned int max_blocks,
		      struct syn_kv_stream **ret);
/* Between passes.  Takes NULL, returns NULL. */
struct syn_kv_stream *syn_kv_stream_free(struct syn_kv_stream *s);

/* All full pages of a layer can be there at once, whatever else must be. */
bool syn_kv_stream_fits(const struct syn_kv_stream *s);

/* And so can @nr of a pass, or the daemon will say that it has no room. */
bool syn_kv_stream_holds(const struct syn_kv_stream *s, uint64_t nr);

/* Whether what was pinned at @addr lies there as it is stored, in h4. */
bool syn_kv_stream_coded(const struct syn_kv_stream *s, const void *addr);

/*
 * Pins the first @nr pages of every layer, if all of them are resident: 1,
 * else 0.  @ret_addr [n_layers][max_blocks].
 */
int syn_kv_stream_pin(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		      unsigned int nr, void **ret_addr);

/*
 * Pages of full blocks, @nr of them from @first on, or as many as may be asked
 * for at once, are pinned and on their way.  Layer by layer.  Returns how many,
 * 0: there is no room; or -errno.
 */
int syn_kv_stream_ask(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		      unsigned int layer, unsigned int first, unsigned int nr,
		      void **ret_addr);
/* The same, and waits for room, which what was given so far makes. */
int syn_kv_stream_load(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		       unsigned int layer, unsigned int first, unsigned int nr,
		       void **ret_addr);

/* The stream goes on when what is pinned of layers up to this one is there. */
int syn_kv_stream_order(struct syn_kv_stream *s, unsigned int layer);

/* Around giving the stream work that reads what it is behind. */
void syn_kv_stream_begin(struct syn_kv_stream *s);
int syn_kv_stream_given(struct syn_kv_stream *s);

/*
 * The pass ends, also one that failed.  0: what was read were the pages; the
 * work may go on.
 */
int syn_kv_stream_end(struct syn_kv_stream *s);

#endif
