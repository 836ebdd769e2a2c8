/* SPDX-License-Identifier: Apache-2.0 */
/* The process that does everything: device, memory manager, server. */
#ifndef SYN_TOOLS_SYNAPSED_WORKER_H
#define SYN_TOOLS_SYNAPSED_WORKER_H

struct syn_keep;

/* Serves until it is told to end; returns the exit code. */
int syn_worker_main(struct syn_keep *keep);

#endif
