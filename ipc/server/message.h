/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on the socket. */
#ifndef SYN_IPC_SERVER_MESSAGE_H
#define SYN_IPC_SERVER_MESSAGE_H

struct syn_peer;

/* Reads and answers what has come; the peer may be ended afterwards. */
void syn_message_read(struct syn_peer *peer);

#endif
