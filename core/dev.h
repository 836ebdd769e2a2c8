/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that core knows of a device: where extents come from, and who copies.
 *
 * Owned by core, implemented in kernels/ (host emulation today, CUDA beside
 * it), chosen in tools/.  Calls on one device come from the control thread;
 * a backend runs its copies on threads of its own and tells by an eventfd.
 */
#ifndef SYN_CORE_DEV_H
#define SYN_CORE_DEV_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <synapse/codec.h>

struct syn_dev;

#define SYN_DEV_UUID_BYTES 16u

/**
 * struct syn_mem - memory of one extent.
 * @id:		extent id, given by core.
 * @tier:	SYN_TIER_HBM or SYN_TIER_HOST.
 * @fd:		what clients receive; the backend owns it until mem_free.
 * @bytes:	size.
 * @addr:	where this process sees it; NULL: it does not.
 * @handle:	@fd is a handle of the GPU's driver: mmap() does not take it.
 * @node:	NUMA node of its memory, -1: not bound to one.
 * @priv:	the backend's own word.
 */
struct syn_mem {
	uint32_t id;
	uint32_t tier;
	int fd;
	uint64_t bytes;
	void *addr;
	bool handle;
	int node;
	void *priv;
};

/**
 * struct syn_copy - one page to move.
 * @cookie:	core's own, returned with the completion.
 * @src:	from this extent ...
 * @src_off:	... at this byte.
 * @dst:	to this extent ...
 * @dst_off:	... at this byte.
 * @bytes:	how many are read.
 * @tile_bytes:	a sum is made of every @tile_bytes; divides @bytes.
 * @sums:	bytes / tile_bytes sums of what was read; written before the
 *		completion is seen; must stay valid until then, as the next
 *		three.
 * @encode:	NULL: the bytes are copied.  Else they are encoded as this says:
 *		syn_layout_bytes() are written, and @bytes is the canonical size.
 * @stored_sums: with @encode: one sum for each stored tile.
 * @error:	with @encode: what each tile lost, in units of 2^-16.
 */
struct syn_copy {
	uint64_t cookie;
	const struct syn_mem *src;
	const struct syn_mem *dst;
	uint64_t src_off;
	uint64_t dst_off;
	uint64_t bytes;
	uint64_t tile_bytes;
	uint32_t *sums;
	const struct syn_layout *encode;
	uint32_t *stored_sums;
	uint16_t *error;
};

/**
 * struct syn_copy_done - how it ended.
 * @cookie:	as given.
 * @status:	0.  -EIO: the device failed or is lost.  -EDOM: @encode was asked
 *		for and a number is not finite; what is at @dst means nothing.
 */
struct syn_copy_done {
	uint64_t cookie;
	int status;
};

/**
 * struct syn_dev_ops - a device backend.
 * @name:	stable name, also the value of the "device" setting.
 * @close:	waits for submitted copies; every extent is freed already.
 * @mem_new:	zeroed memory of @bytes in @tier, of HBM in whole granules.  The
 *		keeper has acknowledged the descriptor when it returns.
 *		-ENOMEM: not now.
 * @mem_adopt:	memory that a device of a worker that is gone made with these
 *		arguments and that the keeper still has; what is in it stays.
 *		-ENOENT: the keeper has none, or another size.  -EIO: what it has
 *		is not to be had.  With these two this memory is lost, and no
 *		other; the keeper has let go of it.  -ENODEV: the device is lost.
 *		All else (-ENOMEM, -EMFILE): not now, and nothing is lost.
 * @mem_free:	no copy on it is in flight; cannot fail.
 * @copy:	queues all @nr or none; they may run and end in any order.
 * @reap:	takes at most @max completions; returns their number.
 * @event_fd:	readable while completions wait; the backend's own.
 *
 * All members are mandatory.
 */
struct syn_dev_ops {
	const char *name;
	void (*close)(struct syn_dev *dev);
	int (*mem_new)(struct syn_dev *dev, uint32_t id, uint32_t tier,
		       uint64_t bytes, struct syn_mem *ret);
	int (*mem_adopt)(struct syn_dev *dev, uint32_t id, uint32_t tier,
			 uint64_t bytes, struct syn_mem *ret);
	void (*mem_free)(struct syn_dev *dev, struct syn_mem *mem);
	int (*copy)(struct syn_dev *dev, const struct syn_copy *vec,
		    unsigned int nr);
	unsigned int (*reap)(struct syn_dev *dev, struct syn_copy_done *ret,
			     unsigned int max);
	int (*event_fd)(struct syn_dev *dev);
};

/* What mem_adopt says of memory that nobody will have again. */
static inline bool syn_mem_is_lost(int error)
{
	return error == -ENOENT || error == -EIO;
}

/**
 * struct syn_dev - a backend embeds this as its first member.
 * @ops:	its calls.
 * @granule:	memory of HBM is made and mapped in multiples of it, a power of
 *		two from 4 KiB to 2 MiB.
 * @uuid:	of the GPU; all zero: emulated on the host.
 */
struct syn_dev {
	const struct syn_dev_ops *ops;
	uint64_t granule;
	uint8_t uuid[SYN_DEV_UUID_BYTES];
};

#endif
