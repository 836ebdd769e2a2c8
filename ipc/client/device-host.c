/* SPDX-License-Identifier: Apache-2.0 */
/* The host-emulated device: memfds, and the CPU that copies and decodes. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/device.h"
#include "ipc/conn.h"
#include "kernels/codec/page.h"
#include "kernels/codec/sum.h"

/* So that huge pages of the kernel's could back it. */
#define HOST_ALIGN (2ull << 20)

static void host_close(struct syn_device *dev)
{
	(void)dev;
}

/* Extents can come and go behind the addresses. */
static int host_reserve(struct syn_device *dev, uint64_t bytes, char **ret)
{
	char *base;
	size_t head;

	(void)dev;
	if (syn_fault())
		return -ENOMEM;
	base = mmap(NULL, bytes + HOST_ALIGN, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	head = syn_align_up((uintptr_t)base, HOST_ALIGN) - (uintptr_t)base;
	if (head)
		(void)munmap(base, head);
	if (head < HOST_ALIGN)
		(void)munmap(base + head + bytes, HOST_ALIGN - head);
	*ret = base + head;
	return 0;
}

static void host_unreserve(struct syn_device *dev, char *at, uint64_t bytes)
{
	(void)dev;
	(void)munmap(at, bytes);
}

static int host_map(struct syn_device *dev, const struct syn_msg_extent *msg,
		    int fd, struct syn_mapping *ret)
{
	bool hbm = msg->tier == SYN_TIER_HBM;
	struct syn_mapping m = {
		.bytes = hbm ? msg->nr_frames * msg->frame_bytes : msg->bytes,
	};
	void *at;
	int r;

	(void)dev;
	/* Announced as something else, it cannot be a file. */
	if (msg->flags)
		return -EPROTO;
	r = syn_conn_segment_map(fd, m.bytes, hbm, &at);
	if (r)
		return r;
	if (madvise(at, m.bytes, MADV_DONTFORK)) {
		r = -errno;
		(void)munmap(at, m.bytes);
		return r;
	}
	m.at = at;
	*ret = m;
	return 0;
}

/* Slots are whole pages, so neighbours do not share one. */
static int host_place(struct syn_device *dev, struct syn_mapping *m, char *to)
{
	void *at;

	(void)dev;
	if (syn_fault())
		return -ENOMEM;
	at = mremap(m->at, m->bytes, m->bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		    to);
	if (at == MAP_FAILED)
		return -errno;
	m->at = at;
	m->placed = true;
	return 0;
}

static void host_unmap(struct syn_device *dev, struct syn_mapping *m)
{
	(void)dev;
	if (m->placed)
		(void)mmap(m->at, m->bytes, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				   MAP_FIXED,
			   -1, 0);
	else
		(void)munmap(m->at, m->bytes);
}

/* What arrived is what is summed. */
static int transfer_run(const struct syn_transfer *t)
{
	uint32_t sums[SYN_TILES_MAX];
	uint32_t tile;

	if (t->as_stored)
		return syn_page_copy(t->dst, t->src, t->layout, t->want, &tile);
	if (t->codec == SYN_CODEC_H4)
		return syn_page_decode(t->dst, t->src, t->layout, 0, t->nr_sums,
				       t->want, &tile);
	syn_sum_copy(t->dst, t->src, t->bytes, t->tile_bytes, sums);
	return memcmp(sums, t->want, t->nr_sums * sizeof(*sums)) ? -EILSEQ : 0;
}

static int host_load(struct syn_device *dev, struct syn_transfer *vec,
		     unsigned int nr, uint64_t *ret_ticket)
{
	(void)dev;
	for (unsigned int i = 0; i < nr; i++)
		vec[i].status = transfer_run(&vec[i]);
	*ret_ticket = 0;
	return 0;
}

/* All is done when host_load() returns. */
static void host_wait(struct syn_device *dev, uint64_t ticket)
{
	(void)dev;
	(void)ticket;
}

static int host_order(struct syn_device *dev, uint64_t ticket, void *stream)
{
	(void)dev;
	(void)ticket;
	(void)stream;
	return 0;
}

static int host_sum(struct syn_device *dev, const void *at, uint64_t bytes,
		    uint64_t tile_bytes, uint32_t *ret_sums)
{
	(void)dev;
	syn_sum_tiles(at, bytes, tile_bytes, ret_sums);
	return 0;
}

/* One row, that is one token of a tile. */
static void row_move(char *spread, char *slot, uint64_t bytes, bool out)
{
	if (out)
		memcpy(spread, slot, bytes);
	else
		memcpy(slot, spread, bytes);
}

/* All tiles of a block, in canonical order; returns where the next begin. */
static char *block_move(const struct syn_spread *s, char *at, char *slot,
			bool out)
{
	const struct syn_layout *l = s->layout;
	uint64_t bytes = l->component[0].dim * 2ull;

	for (uint32_t head = 0; head < l->heads; head++)
		for (uint32_t i = 0; i < l->nr_components; i++)
			for (uint32_t t = 0; t < SYN_TILE_TOKENS; t++) {
				row_move(at + head * s->head +
						 i * s->component +
						 t * s->token,
					 slot, bytes, out);
				slot += bytes;
			}
	return slot;
}

static int spread_all(const struct syn_spread *vec, unsigned int nr, bool out)
{
	for (unsigned int i = 0; i < nr; i++) {
		const struct syn_layout *l = vec[i].layout;
		char *slot = vec[i].slot;

		for (uint32_t layer = 0; layer < l->layers; layer++)
			for (uint32_t block = 0; block < l->blocks; block++)
				slot = block_move(&vec[i],
						  vec[i].at +
							  layer * vec[i].layer +
							  block * vec[i].block,
						  slot, out);
	}
	return 0;
}

static int host_spread(struct syn_device *dev, const struct syn_spread *vec,
		       unsigned int nr)
{
	(void)dev;
	return spread_all(vec, nr, true);
}

static int host_gather(struct syn_device *dev, const struct syn_spread *vec,
		       unsigned int nr)
{
	(void)dev;
	return spread_all(vec, nr, false);
}

static int host_share(struct syn_device *dev, void *at, uint64_t bytes)
{
	(void)dev;
	(void)at;
	(void)bytes;
	return 0;
}

static void host_unshare(struct syn_device *dev, void *at)
{
	(void)dev;
	(void)at;
}

/* There are no streams: what was given to one is done. */
static int host_signal(struct syn_device *dev, void *stream, uint64_t *word,
		       uint64_t value)
{
	(void)dev;
	(void)stream;
	syn_store_release(word, value);
	return 0;
}

static const struct syn_device_ops host_ops = {
	.close = host_close,
	.reserve = host_reserve,
	.unreserve = host_unreserve,
	.map = host_map,
	.place = host_place,
	.unmap = host_unmap,
	.load = host_load,
	.wait = host_wait,
	.order = host_order,
	.sum = host_sum,
	.spread = host_spread,
	.gather = host_gather,
	.share = host_share,
	.unshare = host_unshare,
	.signal = host_signal,
};

struct syn_device *syn_device_host(void)
{
	static struct syn_device host = { .ops = &host_ops };

	return &host;
}
