/* SPDX-License-Identifier: Apache-2.0 */
/* Pages pinned for work of a stream. */
#include "tools/infer/kv-stream.h"

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/infer/kv-internal.h"

/* Under way where a pass does not fit. */
#define LOADS_MAX 2u
#define BATCH_MAX (SYN_BATCH_MAX / LOADS_MAX)

/**
 * struct batch - pages that were pinned together.
 * @pages:	which.
 * @layer:	of the model.
 * @nr:		how many ...
 * @nr_coded:	... and of these, as they are stored.
 * @load:	brings them in, until it is ended; or NULL.
 */
struct batch {
	const uint64_t *pages;
	unsigned int layer;
	unsigned int nr;
	unsigned int nr_coded;
	struct syn_loading *load;
};

/**
 * struct syn_kv_stream - pages of a pass.
 * @kv:		whose.
 * @stream:	of the GPU.
 * @max_blocks:	of a sequence.
 * @batch_max:	pages of a batch.
 * @coded:	where pages are as they are stored.
 * @value:	of the timeline: work that was begun and not given; or 0.
 * @batches:	of the pass: all that are pinned.
 * @nr:		how many there were ...
 * @nr_ordered:	... of which the stream is behind so many, ...
 * @nr_given:	... so many were given to work, ...
 * @nr_back:	... and so many given back.
 * @nr_loading:	loads under way.
 */
struct syn_kv_stream {
	struct syn_kv *kv;
	void *stream;
	unsigned int max_blocks;
	unsigned int batch_max;
	struct syn_planes coded;
	uint64_t value;
	struct batch *batches;
	size_t nr;
	size_t nr_ordered;
	size_t nr_given;
	size_t nr_back;
	unsigned int nr_loading;
};

int syn_kv_gpu(const struct syn_kv *kv, uint8_t *ret_uuid)
{
	return syn_client_gpu(kv->client, ret_uuid);
}

/*
 * Pages that fit whatever they are: what an absent one will be only the daemon
 * knows.
 */
static unsigned int stream_room(const struct syn_kv *kv)
{
	unsigned int raw = kv->slots - kv->tails;

	return kv->coded_slots ? syn_min(raw, kv->coded_slots) : raw;
}

bool syn_kv_stream_fits(const struct syn_kv_stream *s)
{
	return stream_room(s->kv) >= s->max_blocks;
}

/* Of either kind as many as there is room for: the daemon knows better. */
bool syn_kv_stream_holds(const struct syn_kv_stream *s, uint64_t nr)
{
	const struct syn_kv *kv = s->kv;

	return syn_kv_stream_fits(s) &&
	       nr <= (uint64_t)kv->slots - kv->tails + kv->coded_slots;
}

bool syn_kv_stream_coded(const struct syn_kv_stream *s, const void *addr)
{
	return syn_planes_have(&s->coded, addr);
}

int syn_kv_stream_new(struct syn_kv *kv, void *stream, unsigned int max_blocks,
		      struct syn_kv_stream **ret)
{
	struct syn_kv_stream *s = syn_alloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->kv = kv;
	s->stream = stream;
	s->max_blocks = max_blocks;
	/* Two of them, where the share is small. */
	s->batch_max = syn_min(stream_room(kv) / LOADS_MAX, BATCH_MAX);
	s->batch_max = syn_max(s->batch_max, 1u);
	syn_window_coded(kv->window, &s->coded);
	s->batches = syn_alloc((size_t)kv->n_layers * max_blocks,
			       sizeof(*s->batches));
	if (!s->batches) {
		free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

struct syn_kv_stream *syn_kv_stream_free(struct syn_kv_stream *s)
{
	if (!s)
		return NULL;
	free(s->batches);
	free(s);
	return NULL;
}

static void stream_push(struct syn_kv_stream *s, const uint64_t *pages,
			unsigned int layer, unsigned int nr,
			struct syn_loading *load, void *const *addr)
{
	struct batch *batch = &s->batches[s->nr++];

	*batch = (struct batch){
		.pages = pages,
		.layer = layer,
		.nr = nr,
		.load = load,
	};
	for (unsigned int i = 0; i < nr; i++)
		batch->nr_coded += syn_kv_stream_coded(s, addr[i]);
	s->nr_loading += load != NULL;
	s->kv->stats.batches++;
	s->kv->stats.faults += load != NULL;
}

static void stream_unpin(struct syn_kv_stream *s, const struct batch *batch)
{
	syn_unpin(s->kv->client, s->kv->timeline, batch->pages, batch->nr);
}

/* They have been read. */
static void stream_give_back(struct syn_kv_stream *s, const struct batch *batch)
{
	s->kv->stats.pins += batch->nr;
	s->kv->stats.coded += batch->nr_coded;
	stream_unpin(s, batch);
}

/* A load that fails has pinned nothing. */
static int stream_end_load(struct syn_kv_stream *s, struct batch *batch)
{
	int r = syn_load_end(batch->load);

	batch->load = NULL;
	s->nr_loading--;
	if (r == 0)
		return 0;
	batch->nr = 0;
	batch->nr_coded = 0;
	return syn_kv_failed(s->kv, "load", r < 0 ? r : -EIO);
}

/* Ends loads until @keep are left; gives back what work was given. */
static int stream_retire(struct syn_kv_stream *s, unsigned int keep)
{
	int r = 0;

	for (size_t i = s->nr_back; s->nr_loading > keep; i++) {
		int bad = 0;

		if (s->batches[i].load)
			bad = stream_end_load(s, &s->batches[i]);
		r = r ? r : bad;
	}
	while (s->nr_back < s->nr_given && !s->batches[s->nr_back].load)
		stream_give_back(s, &s->batches[s->nr_back++]);
	return r;
}

/* ---- pinning ------------------------------------------------------------ */

int syn_kv_stream_pin(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		      unsigned int nr, void **ret_addr)
{
	for (unsigned int n = 0; n < s->kv->n_layers && nr; n++) {
		const uint64_t *pages = syn_kv_seq_pages(seq, n);
		void **addr = ret_addr + (size_t)n * s->max_blocks;
		int r = syn_pin(s->kv->client, pages, nr, addr);

		if (r == 0) {
			stream_push(s, pages, n, nr, NULL, addr);
			continue;
		}
		while (s->nr > s->nr_back)
			stream_unpin(s, &s->batches[--s->nr]);
		return r < 0 ? syn_kv_failed(s->kv, "pin", r) : 0;
	}
	s->nr_ordered = s->nr;
	return 1;
}

static int stream_load(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		       unsigned int layer, unsigned int first, unsigned int nr,
		       void **ret_addr)
{
	const uint64_t *pages = syn_kv_seq_pages(seq, layer) + first;
	struct syn_loading *load = NULL;
	int r = syn_pin(s->kv->client, pages, nr, ret_addr);

	if (r == SYN_E_FAULT)
		r = syn_load_begin(s->kv->client, pages, nr, SYN_KV_WAIT_NS,
				   ret_addr, &load);
	if (!r)
		stream_push(s, pages, layer, nr, load, ret_addr);
	if (r == SYN_E_LOST) {
		syn_error("load: a page of layer %u is lost", layer);
		return -EIO;
	}
	return r < 0 ? syn_kv_failed(s->kv, "load", r) : r;
}

int syn_kv_stream_ask(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		      unsigned int layer, unsigned int first, unsigned int nr,
		      void **ret_addr)
{
	int r;

	nr = syn_min(nr, s->batch_max);
	r = stream_load(s, seq, layer, first, nr, ret_addr);
	if (r > 0) {
		s->kv->stats.retries++;
		return 0;
	}
	return r ? r : (int)nr;
}

/* Without room: what waits for its load, or for work, makes some. */
int syn_kv_stream_load(struct syn_kv_stream *s, const struct syn_kv_seq *seq,
		       unsigned int layer, unsigned int first, unsigned int nr,
		       void **ret_addr)
{
	nr = syn_min(nr, s->batch_max);
	for (unsigned int n = 0; n < SYN_KV_WAITS_MAX; n++) {
		int r = stream_retire(s, n ? 0 : LOADS_MAX - 1);

		if (!r)
			r = stream_load(s, seq, layer, first, nr, ret_addr);
		if (r <= 0)
			return r ? r : (int)nr;
		s->kv->stats.retries++;
	}
	syn_error("load: no room in %u seconds", SYN_KV_WAITS_MAX);
	return -EBUSY;
}

/* ---- work --------------------------------------------------------------- */

int syn_kv_stream_order(struct syn_kv_stream *s, unsigned int layer)
{
	int r = 0;

	for (; s->nr_ordered < s->nr && !r; s->nr_ordered++) {
		const struct batch *batch = &s->batches[s->nr_ordered];

		if (batch->layer > layer)
			break;
		if (batch->load)
			r = syn_load_order(batch->load, s->stream);
	}
	return r ? syn_kv_failed(s->kv, "order", r) : 0;
}

/* Nothing may be waited for before the work is given. */
void syn_kv_stream_begin(struct syn_kv_stream *s)
{
	s->value = syn_timeline_issue(s->kv->client, s->kv->timeline);
}

int syn_kv_stream_given(struct syn_kv_stream *s)
{
	int r = syn_timeline_signal(s->kv->client, s->kv->timeline, s->stream,
				    s->value);

	s->value = 0;
	s->nr_given = s->nr_ordered;
	return r ? syn_kv_failed(s->kv, "signal", r) : 0;
}

int syn_kv_stream_end(struct syn_kv_stream *s)
{
	int r = s->value ? syn_kv_stream_given(s) : 0;
	int bad;

	s->nr_given = s->nr;
	bad = stream_retire(s, 0);
	s->nr = 0;
	s->nr_ordered = 0;
	s->nr_given = 0;
	s->nr_back = 0;
	return r ? r : bad;
}
