/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the daemon. */
#ifndef SYN_CORE_BASE_THREAD_H
#define SYN_CORE_BASE_THREAD_H

#include <pthread.h>

/*
 * Runs @main(@arg) in a thread of that @name, of 15 bytes at most, with every
 * signal blocked: those, a file size limit's too, are the control thread's
 * business.  Returns 0 or -errno, then nothing runs.  The caller joins it.
 */
int syn_thread_start(pthread_t *ret, const char *name, void *(*main)(void *arg),
		     void *arg);

#endif
