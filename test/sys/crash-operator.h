/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator does to a daemon whose workers die. */
#ifndef SYN_TEST_SYS_CRASH_OPERATOR_H
#define SYN_TEST_SYS_CRASH_OPERATOR_H

#include <stdint.h>

/* One thing, or a look at nothing for a while. */
void crash_operator_act(const char *socket, uint64_t *seed);
/* New sessions are let in again. */
void crash_operator_admit(const char *socket);

#endif
