/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading pages into HBM in the process that uses them: bytes by copy engine,
 * arithmetic in short bursts, on streams of our own.
 *
 * Stored pages are read from host extents that are mapped for the GPU.  A raw
 * page, or one that stays encoded, is copied to where it belongs; another into a staging ring, runs
 * of neighbours as one copy, from where a burst of many small blocks decodes
 * it, in slices, so that a kernel of the engine's is never kept waiting for
 * long.  Every tile is summed on the GPU, in what was read (decoded) or
 * written (else), and compared; what does not fit is told page by page.
 *
 * Pages whose stored bytes lie in short runs, too short for a copy engine, are
 * read by the blocks themselves, right over the link.
 *
 * A loader belongs to one thread at a time.
 */
#ifndef SYN_KERNELS_CUDA_LOAD_H
#define SYN_KERNELS_CUDA_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/codec.h>

struct syn_gpu;
struct syn_gpu_loader;

/**
 * struct syn_gpu_place - where the tiles of a page go.
 * @base:	of its first tile.
 * @layer:	bytes from a layer to the next, and so on.
 * @block:	see there.
 * @head:	see there.
 * @component:	see there.
 * @token:	from a token of a tile to the next.
 *
 * All are multiples of 16; steps that are never taken may be anything.
 *
 * syn_gpu_place_canonical() gives that of a slot whose bytes are canonical.
 */
struct syn_gpu_place {
	uint64_t base;
	uint64_t layer;
	uint64_t block;
	uint64_t head;
	uint64_t component;
	uint64_t token;
};

/**
 * struct syn_gpu_page - one page to bring in.
 * @src:	its stored bytes, device address in a host extent, a multiple of
 *		16.
 * @bytes:	how many.
 * @codec:	SYN_CODEC_RAW16 or SYN_CODEC_H4.
 * @as_stored:	with SYN_CODEC_H4: it goes to @place.base as it is.
 * @layout:	how its tiles lie; NULL: a raw page of equal tiles that go to
 *		@place.base as they are.
 * @nr_tiles:	tiles; all of one size if the page is raw, and with a layout
 *		those of a head no larger than an eighth of the staging ring.
 * @sums:	of the stored tiles, one each.
 * @place:	where it goes.
 * @status:	answer: 0.  -EILSEQ: a sum does not match.  -EIO: the GPU failed.
 */
struct syn_gpu_page {
	uint64_t src;
	uint64_t bytes;
	uint32_t codec;
	bool as_stored;
	const struct syn_layout *layout;
	uint32_t nr_tiles;
	const uint32_t *sums;
	struct syn_gpu_place place;
	int status;
};

struct syn_gpu_place syn_gpu_place_canonical(const struct syn_layout *layout,
					     uint64_t base);

/*
 * @staging_bytes: of the ring in HBM; 0: as measured to be enough.  Loads the
 * kernels into the GPU's context.  -ENOMEM, -EIO.
 */
int syn_gpu_loader_open(struct syn_gpu *gpu, uint64_t staging_bytes,
			struct syn_gpu_loader **ret);
/* Waits for what was begun.  Takes NULL. */
void syn_gpu_loader_close(struct syn_gpu_loader *loader);

/*
 * Begins with @nr pages and returns a ticket, larger than all before.  @pages
 * stay valid until syn_gpu_load_done(), what they point to until this returns;
 * they may lie anywhere, and load quickest when neighbours follow each other.
 * Allocates nothing.  Waits only while more than the staging ring is under way.
 * -EINVAL: a page that cannot be, and nothing was begun.  -EIO: the GPU failed,
 * now or before; every status says so.
 */
int syn_gpu_load_begin(struct syn_gpu_loader *loader,
		       struct syn_gpu_page *pages, unsigned int nr,
		       uint64_t *ret_ticket);
/*
 * Work given to @stream (a CUstream) from now on sees the pages of @ticket.
 * -EBUSY: it is being captured, and a graph would wait for them once and for all.
 */
int syn_gpu_load_order(struct syn_gpu_loader *loader, uint64_t ticket,
		       void *stream);
/* Whether all of @ticket is done; then each page's status is written. */
bool syn_gpu_load_done(struct syn_gpu_loader *loader, uint64_t ticket);
/* Returns when it is.  -EIO: the GPU failed; every status says so. */
int syn_gpu_load_wait(struct syn_gpu_loader *loader, uint64_t ticket);

/*
 * As a load, of stored pages that lie in HBM, and nothing is copied: only the
 * burst.  Waits.
 */
int syn_gpu_decode(struct syn_gpu_loader *loader, struct syn_gpu_page *pages,
		   unsigned int nr);

/**
 * struct syn_gpu_encoding - one page to encode, from HBM to HBM.
 * @layout:	how it is stored.
 * @place:	where its tiles are.
 * @dst:	where its stored bytes go, a multiple of 16.
 * @raw_sums:	answer: of each tile, of what was read.
 * @stored_sums: answer: of each tile, of what was stored.
 * @errors:	answer: of each tile, as of syn_page_encode().
 * @status:	answer: 0.  -EDOM: a tile is not finite.  -EIO: the GPU failed.
 */
struct syn_gpu_encoding {
	const struct syn_layout *layout;
	struct syn_gpu_place place;
	uint64_t dst;
	uint32_t *raw_sums;
	uint32_t *stored_sums;
	uint16_t *errors;
	int status;
};

/* The twin of syn_page_encode(), bit by bit.  Waits. */
int syn_gpu_encode(struct syn_gpu_loader *loader,
		   struct syn_gpu_encoding *pages, unsigned int nr);

/**
 * struct syn_gpu_spread - a page in HBM, in a slot and elsewhere.
 * @layout:	its tiles.
 * @place:	where they are, or go.
 * @slot:	where they are canonical, a multiple of 16.
 */
struct syn_gpu_spread {
	const struct syn_layout *layout;
	struct syn_gpu_place place;
	uint64_t slot;
};

/* From slots to places, and the other way.  Both wait. */
int syn_gpu_spread(struct syn_gpu_loader *loader,
		   const struct syn_gpu_spread *pages, unsigned int nr);
int syn_gpu_gather(struct syn_gpu_loader *loader,
		   const struct syn_gpu_spread *pages, unsigned int nr);

/* Sums of what lies in HBM, for a page that is sealed.  Waits. */
int syn_gpu_sum(struct syn_gpu_loader *loader, uint64_t at, uint64_t bytes,
		uint64_t tile_bytes, uint32_t *ret_sums);

#endif
