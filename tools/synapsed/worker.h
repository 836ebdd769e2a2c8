/* SPDX-License-Identifier: Apache-2.0 */
/* The child that does everything: device, memory manager, server. */
#ifndef SYN_TOOLS_SYNAPSED_WORKER_H
#define SYN_TOOLS_SYNAPSED_WORKER_H

/* Serves over @sock, the keeper's; returns the exit code. */
int syn_worker_main(int sock);

#endif
