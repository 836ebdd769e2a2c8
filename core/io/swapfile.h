/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The swap file: making one, opening it, reading all of it.
 *
 * A file belongs to the machine that made it, and to one process at a time.
 * What is not understood is refused, never overwritten: each call that fails
 * explains it in one line for people, with the command that would help.
 *
 * Called from any thread.  A build without liburing or ISA-L answers -ENOSYS.
 */
#ifndef SYN_CORE_IO_SWAPFILE_H
#define SYN_CORE_IO_SWAPFILE_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/abi.h>

#include "core/disk.h"

#define SYN_SWAPFILE_WHY_BYTES 512
#define SYN_SWAPFILE_BYTES_MIN (2048ull * 1024 + SYN_DISK_BLOCK)
#define SYN_SWAPFILE_BYTES_MAX (64ull << 40)

/*
 * Writes a file of at most @bytes full of zeroes, then its superblock.  A file
 * that exists is overwritten only with @force, and not while it is in use.  A
 * new file that cannot be completed is removed.
 *
 * -EEXIST, -EBUSY, -ERANGE (@bytes), -EOPNOTSUPP (no direct I/O there), -ENOSPC
 * and what open(2) and write(2) say.
 */
int syn_swapfile_init(const char *path, uint64_t bytes, bool force,
		      char *ret_why);

/*
 * @was: as another process has had it open, or NULL.  Then a superblock that the
 * device does not give is as it was, and @ret_why says so; with 0 it is empty else.
 *
 * Waits a few seconds for the lock: what a killed process has submitted holds
 * it until the last of its requests has ended, so whoever has the lock knows
 * that nobody writes into host memory any more.
 *
 * -EBUSY: in use.  -EMEDIUMTYPE: no swap file.  -EPROTONOSUPPORT: of another
 * version.  -EIO: its superblock cannot be read.  -EBADMSG: that is damaged.
 * -ERANGE: it is not as large as it says.  -EXDEV: made on another machine.
 * -EOPNOTSUPP: no direct I/O there.  And what open(2) says.
 */
int syn_swapfile_open(const char *path, const struct syn_disk *was,
		      struct syn_disk **ret, char *ret_why);

/**
 * struct syn_swapfile_stats - what is in a swap file.
 * @bytes:	size of the file.
 * @nr_segments: segments ...
 * @nr_cut:	... and those that are cut into ...
 * @nr_slots:	... so many slots.
 * @nr_valid:	slots whose head and data are what was written; of these ...
 * @nr_sealed:	... pages that are found again after a restart.
 * @nr_stale:	heads of an older cut of their segment: free.
 * @nr_corrupt:	heads or data that are not what was written.
 * @nr_unreadable: blocks or data that the device does not give.
 * @valid_bytes: stored bytes of valid slots.
 * @nr_codec:	valid slots by SYN_CODEC_*; others are under 0.
 * @codec_bytes: their stored bytes.
 */
struct syn_swapfile_stats {
	uint64_t bytes;
	uint64_t nr_segments;
	uint64_t nr_cut;
	uint64_t nr_slots;
	uint64_t nr_valid;
	uint64_t nr_sealed;
	uint64_t nr_stale;
	uint64_t nr_corrupt;
	uint64_t nr_unreadable;
	uint64_t valid_bytes;
	uint64_t nr_codec[SYN_CODEC_NR];
	uint64_t codec_bytes[SYN_CODEC_NR];
};

/* Opens it, reads every head and the data of every used slot; as above. */
int syn_swapfile_check(const char *path, struct syn_swapfile_stats *ret,
		       char *ret_why);

#endif
