/* SPDX-License-Identifier: Apache-2.0 */
/* synapsectl swap: making and checking swap files, without a daemon. */
#ifndef SYN_TOOLS_CTL_SWAP_H
#define SYN_TOOLS_CTL_SWAP_H

struct syn_options;

/* -errno once it is explained; -EUCLEAN: there is something corrupt. */
int syn_swap_run_init(const struct syn_options *opts);
int syn_swap_run_check(const struct syn_options *opts);

#endif
