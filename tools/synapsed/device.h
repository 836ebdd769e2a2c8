/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the device that [hbm] names, with who keeps its memory behind it. */
#ifndef SYN_TOOLS_SYNAPSED_DEVICE_H
#define SYN_TOOLS_SYNAPSED_DEVICE_H

struct syn_config;
struct syn_dev;
struct syn_keep;

/*
 * @keep must stay where it is while the device is open.  The GPU's file is kept,
 * too, so that the driver keeps its state when no worker runs.  Logs one line if
 * it fails.
 */
int syn_device_open(const struct syn_config *config, struct syn_keep *keep,
		    struct syn_dev **ret);

#endif
