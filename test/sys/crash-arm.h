/* SPDX-License-Identifier: Apache-2.0 */
/* What is linked into synapsed, so that its workers die and its disk fails. */
#ifndef SYN_TEST_SYS_CRASH_ARM_H
#define SYN_TEST_SYS_CRASH_ARM_H

#include <stdint.h>

#include "test/sys/crash.h"

/* Shared with the campaign; NULL: nobody plays with this daemon. */
extern struct crash_table *crash;

/* splitmix64 over a word that all workers share. */
uint64_t crash_random(uint64_t below);

#endif
