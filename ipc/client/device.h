/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device as a client uses it: how the daemon's memory comes into this
 * process, and how pages are brought into slots.
 *
 * Implemented twice: device-host.c, where both tiers are memfds and the CPU
 * copies, and device-cuda.c, where they are handles of a GPU's driver and its
 * copy engine and kernels do.  Mapping calls are made with the client's mutex
 * held; the others from any thread.
 */
#ifndef SYN_IPC_CLIENT_DEVICE_H
#define SYN_IPC_CLIENT_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/abi.h>
#include <synapse/codec.h>

struct syn_device;

/**
 * struct syn_mapping - an extent's memory in this process.
 * @at:		its first byte; NULL: it is mapped when it is placed.
 * @bytes:	mapped from there.
 * @placed:	it lies in its window.
 * @priv:	the device's own.
 */
struct syn_mapping {
	char *at;
	uint64_t bytes;
	bool placed;
	void *priv;
};

/**
 * struct syn_transfer - one page on its way into a slot.
 * @dst:	the slot.
 * @src:	the stored bytes, in a mapped host extent.
 * @bytes:	how many.
 * @codec:	SYN_CODEC_*.
 * @as_stored:	with SYN_CODEC_H4: it stays so, else it is decoded.
 * @layout:	with SYN_CODEC_H4: how its tiles lie.
 * @nr_sums:	tiles.
 * @tile_bytes:	stored bytes of a tile, where all are equal.
 * @want:	sums of the stored tiles.
 * @status:	answer: 0.  -EILSEQ: a sum does not match.  -EIO: the device
 *		failed.
 */
struct syn_transfer {
	char *dst;
	const char *src;
	uint64_t bytes;
	uint32_t codec;
	bool as_stored;
	const struct syn_layout *layout;
	uint32_t nr_sums;
	uint32_t tile_bytes;
	const uint32_t *want;
	int status;
};

/**
 * struct syn_spread - a page in a slot and in memory of the engine.
 * @layout:	its tiles.
 * @slot:	where it is canonical.
 * @at:		its first tile elsewhere, and ...
 * @layer:	... from there, bytes from a layer to the next, and so on.
 * @block:	see there.
 * @head:	see there.
 * @component:	see there.
 * @token:	see there.
 */
struct syn_spread {
	const struct syn_layout *layout;
	char *slot;
	char *at;
	uint64_t layer;
	uint64_t block;
	uint64_t head;
	uint64_t component;
	uint64_t token;
};

/**
 * struct syn_device_ops - a kind of device.
 * @close:	nothing is mapped and no transfer is under way.
 * @reserve:	addresses without memory, for a window.
 * @unreserve:	nothing is placed there any more.
 * @map:	an extent as it was announced; @fd stays the caller's.
 * @place:	moves it to reserved addresses.
 * @unmap:	undoes both; addresses of a window stay reserved.
 * @load:	begins with @nr transfers, which stay valid until @wait returns.
 * @wait:	returns when all of @ticket are done and their status is written.
 * @order:	work given to @stream from now on sees the pages of @ticket.
 * @sum:	sums of a page in a slot.
 * @spread:	pages from slots to where they are spread.  Waits.
 * @gather:	the other way.  Waits.
 * @share:	streams may write this memory, whole pages of the kernel's, by
 *		the same addresses.
 * @unshare:	not any more.
 * @signal:	once the work given to @stream so far is done, a word of it
 *		becomes @value.  -EBUSY: the stream is captured.
 *
 * All members are mandatory.
 */
struct syn_device_ops {
	void (*close)(struct syn_device *dev);
	int (*reserve)(struct syn_device *dev, uint64_t bytes, char **ret);
	void (*unreserve)(struct syn_device *dev, char *at, uint64_t bytes);
	int (*map)(struct syn_device *dev, const struct syn_msg_extent *msg,
		   int fd, struct syn_mapping *ret);
	int (*place)(struct syn_device *dev, struct syn_mapping *mapping,
		     char *to);
	void (*unmap)(struct syn_device *dev, struct syn_mapping *mapping);
	int (*load)(struct syn_device *dev, struct syn_transfer *vec,
		    unsigned int nr, uint64_t *ret_ticket);
	void (*wait)(struct syn_device *dev, uint64_t ticket);
	int (*order)(struct syn_device *dev, uint64_t ticket, void *stream);
	int (*sum)(struct syn_device *dev, const void *at, uint64_t bytes,
		   uint64_t tile_bytes, uint32_t *ret_sums);
	int (*spread)(struct syn_device *dev, const struct syn_spread *vec,
		      unsigned int nr);
	int (*gather)(struct syn_device *dev, const struct syn_spread *vec,
		      unsigned int nr);
	int (*share)(struct syn_device *dev, void *at, uint64_t bytes);
	void (*unshare)(struct syn_device *dev, void *at);
	int (*signal)(struct syn_device *dev, void *stream, uint64_t *word,
		      uint64_t value);
};

/**
 * struct syn_device - a kind of device embeds this as its first member.
 * @ops:	its calls.
 * @behind:	work that was given to it may not be done yet.
 */
struct syn_device {
	const struct syn_device_ops *ops;
	bool behind;
};

/* The host-emulated one: has no state, is never closed in earnest. */
struct syn_device *syn_device_host(void);
/* This build can use GPUs. */
bool syn_device_has_cuda(void);
/*
 * The GPU of that UUID, in the caller's context.  -ENOSYS: this build has no
 * CUDA, or the driver is too old.  -ENODEV: no such GPU is visible here.
 */
int syn_device_cuda_open(const uint8_t *uuid, struct syn_device **ret);

#endif
