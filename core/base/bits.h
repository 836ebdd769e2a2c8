/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of small numbers: a bit for each, in words that their owner has. */
#ifndef SYN_CORE_BASE_BITS_H
#define SYN_CORE_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

static inline bool syn_bit_test(const uint64_t *map, uint32_t i)
{
	return map[i / 64] >> (i % 64) & 1;
}

static inline void syn_bit_set(uint64_t *map, uint32_t i)
{
	map[i / 64] |= 1ull << (i % 64);
}

/* Returns whether it was set. */
static inline bool syn_bit_clear(uint64_t *map, uint32_t i)
{
	bool was = syn_bit_test(map, i);

	map[i / 64] &= ~(1ull << (i % 64));
	return was;
}

/* There is one. */
static inline uint32_t syn_bit_first(const uint64_t *map)
{
	uint32_t i = 0;

	while (!map[i])
		i++;
	return i * 64 + (uint32_t)__builtin_ctzll(map[i]);
}

#endif
