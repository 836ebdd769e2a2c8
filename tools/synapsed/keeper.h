/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent: one thread and no device.  Holds every descriptor that must
 * outlive a worker, and starts another worker when one dies.
 */
#ifndef SYN_TOOLS_SYNAPSED_KEEPER_H
#define SYN_TOOLS_SYNAPSED_KEEPER_H

struct syn_config;

/* Runs until told to stop; returns the exit code. */
int syn_keeper_main(const struct syn_config *config);

#endif
