/* SPDX-License-Identifier: Apache-2.0 */
/* Going over all heads of a swap store: for the index and for the check. */
#ifndef SYN_CORE_IO_SCAN_H
#define SYN_CORE_IO_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/disk.h"
#include "core/io/format.h"

/* No read is larger. */
#define SYN_SWAP_READ_BYTES (1u << 20)

/**
 * struct syn_swap_reads - many reads, of which several may be under way.
 * @next:	the next one: whole blocks, at most SYN_SWAP_READ_BYTES.  False
 *		when there is none any more.
 * @got:	one of them or a part of one, in any order.  @data NULL: the
 *		device failed there.  Other than 0 ends it all.
 * @ctx:	first argument of both.
 */
struct syn_swap_reads {
	bool (*next)(void *ctx, uint64_t *ret_at, uint32_t *ret_bytes);
	int (*got)(void *ctx, uint64_t at, const void *data, uint32_t bytes);
	void *ctx;
};

/* Does them through direct I/O on @fd. */
int syn_swap_read(int fd, const struct syn_swap_reads *reads);

/**
 * struct syn_swap_walk - a walk over all heads.
 * @disk:	of this geometry and identity.
 * @read:	does reads; first argument @from.
 * @from:	see there.
 * @segment:	a segment that is cut; all of them before any head.
 * @head:	one block of a head table; @head is NULL when the device failed.
 * @ctx:	first argument of both, which end it all with other than 0.
 */
struct syn_swap_walk {
	const struct syn_disk *disk;
	int (*read)(void *from, const struct syn_swap_reads *reads);
	void *from;
	int (*segment)(void *ctx, const struct syn_swap_segment *segment);
	int (*head)(void *ctx, const struct syn_swap_segment *segment,
		    uint32_t frame, const struct syn_disk_head *head);
	void *ctx;
};

int syn_swap_walk(const struct syn_swap_walk *walk);

/* A walk that tells of valid heads only: scan of struct syn_disk_ops. */
int syn_swap_scan(struct syn_swap_walk *walk, syn_disk_segment_fn segment,
		  syn_disk_found_fn found, void *ctx);

#endif
