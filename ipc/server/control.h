/* SPDX-License-Identifier: Apache-2.0 */
/* Questions and orders of synapsectl. */
#ifndef SYN_IPC_SERVER_CONTROL_H
#define SYN_IPC_SERVER_CONTROL_H

struct syn_msg_ctl;
struct syn_peer;

/* Answers one; 0, or -errno when the answer could not be sent. */
int syn_control_answer(struct syn_peer *peer, const struct syn_msg_ctl *ctl);

#endif
