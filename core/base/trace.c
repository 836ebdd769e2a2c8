/* SPDX-License-Identifier: Apache-2.0 */
/* Storage of the probes' semaphores. */
#include "core/base/trace.h"

#if SYN_HAVE_SDT
#define SYN_PROBE_DEFINE(name)                                                 \
	volatile unsigned short synapse_##name##_semaphore __attribute__((     \
		section(".probes"), visibility("hidden"), used));
SYN_PROBES(SYN_PROBE_DEFINE)
#endif
