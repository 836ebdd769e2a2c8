/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces: KV geometries that make sense, each once. */
#ifndef SYN_CORE_SPACE_H
#define SYN_CORE_SPACE_H

#include "core/mm-internal.h"

/* Bytes from one frame to the next in every tier. */
uint64_t syn_space_frame_bytes(const struct syn_rec_space *space);

#endif
