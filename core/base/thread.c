/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that no signal reaches. */
#include "core/base/thread.h"

#include <errno.h>
#include <signal.h>

#include "core/base/fault.h"

int syn_thread_start(pthread_t *ret, const char *name, void *(*main)(void *arg),
		     void *arg)
{
	sigset_t all;
	sigset_t old;
	int r = EAGAIN;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!syn_fault())
		r = pthread_create(ret, NULL, main, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		(void)pthread_setname_np(*ret, name);
	return -r;
}
