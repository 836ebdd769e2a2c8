/* SPDX-License-Identifier: Apache-2.0 */
/* The swap store on a file: a disk whose one thread has an io_uring. */
#ifndef SYN_CORE_IO_URING_H
#define SYN_CORE_IO_URING_H

#include "core/disk.h"
#include "core/io/format.h"
#include "core/io/scan.h"

/*
 * @fd is open for direct I/O and locked; taken on success.  @super has been
 * checked.  -ENOSYS, -EPERM: io_uring cannot be used here.
 */
int syn_uring_open(struct syn_disk **ret, int fd,
		   const struct syn_swap_super *super);

/* All heads, whatever they say; @walk needs only its callbacks. */
int syn_uring_walk(struct syn_disk *disk, struct syn_swap_walk *walk);

#endif
