/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk of the crash tests: the same ops as the swap file, on
 * memory, with a volatile cache and every failure at will.
 *
 * A write reaches the cache, which reads see; one that is durable reaches the
 * medium, too.  A power cut keeps or drops each sector of the cache that the
 * medium does not have, as the seed wants, and so the writes under way.
 *
 * Has no thread: what was submitted is done when it is reaped, in an order
 * that depends on the seed.  Every request counts as an operation: a read, a
 * segment's head, a slot's data, a slot's head.  One thread calls all of it.
 */
#ifndef SYN_CORE_IO_SIMDISK_H
#define SYN_CORE_IO_SIMDISK_H

#include <stdint.h>

struct syn_disk;
struct syn_simdisk;

/* The medium; outlives the disks that are opened on it one after another. */
int syn_simdisk_new(struct syn_simdisk **ret, uint64_t segment_bytes,
		    uint32_t nr_segments, uint64_t seed);
/* Not while a disk is open.  Takes NULL, returns NULL. */
struct syn_simdisk *syn_simdisk_free(struct syn_simdisk *sim);

/* -EBUSY: one is open. */
int syn_simdisk_open(struct syn_simdisk *sim, struct syn_disk **ret);

/* The @nth operation from now on ends with @error: -EIO, -ENOSPC; 0: none. */
void syn_simdisk_fail(struct syn_simdisk *sim, unsigned int nth, int error);
/*
 * The @nth write from now on looks good, but only some first sectors of it, or
 * nothing at all, reach even the cache; 0: none.
 */
void syn_simdisk_tear(struct syn_simdisk *sim, unsigned int nth);
void syn_simdisk_lose(struct syn_simdisk *sim, unsigned int nth);

uint64_t syn_simdisk_bytes(const struct syn_simdisk *sim);
/* Bit rot, at any bit of the image; that of the superblock is never read. */
void syn_simdisk_flip(struct syn_simdisk *sim, uint64_t bit);

/*
 * The process that had the disk open is killed.  What was submitted is done or
 * not, in whole, or of a write only its data is there; nobody hears of it, and the
 * disk is closed.  The memory of what was submitted is still there.
 */
void syn_simdisk_kill(struct syn_simdisk *sim);

/*
 * The power goes.  The disk that is open completes nothing any more and has to
 * be closed.
 */
void syn_simdisk_cut(struct syn_simdisk *sim);

#endif
