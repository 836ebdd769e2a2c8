/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bottom of the tree: attributes, cleanup, checked arithmetic, and the
 * few macros that every layer writes anyway.  Includes libc only.
 */
#ifndef SYN_CORE_BASE_BASE_H
#define SYN_CORE_BASE_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define syn_container_of(ptr, type, member)                                    \
	((type *)((char *)(ptr)-offsetof(type, member)))

#define syn_array_size(a) (sizeof(a) / sizeof((a)[0]))

#define syn_min(a, b)                                                          \
	({                                                                     \
		__typeof__(a) syn_a_ = (a);                                    \
		__typeof__(b) syn_b_ = (b);                                    \
		syn_a_ < syn_b_ ? syn_a_ : syn_b_;                             \
	})

#define syn_max(a, b)                                                          \
	({                                                                     \
		__typeof__(a) syn_a_ = (a);                                    \
		__typeof__(b) syn_b_ = (b);                                    \
		syn_a_ > syn_b_ ? syn_a_ : syn_b_;                             \
	})

#define syn_likely(x)	__builtin_expect(!!(x), 1)
#define syn_unlikely(x) __builtin_expect(!!(x), 0)

/* Scope-bound cleanup for locals; never mixed with goto in one function. */
#define syn_cleanup(fn) __attribute__((cleanup(fn)))

static inline int syn_steal_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

#define syn_steal_ptr(pp)                                                      \
	({                                                                     \
		__typeof__(*(pp)) syn_p_ = *(pp);                              \
		*(pp) = NULL;                                                  \
		syn_p_;                                                        \
	})

/* Takes -1; keeps errno. */
static inline int syn_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return -1;
}

static inline void syn_closep(int *fd)
{
	*fd = syn_close(*fd);
}

/* @pp points to a pointer of any type; a void ** would alias it wrongly. */
static inline void syn_freep(void *pp)
{
	void *p;

	memcpy(&p, pp, sizeof(p));
	free(p);
}

static inline bool syn_is_pow2(uint64_t x)
{
	return x && !(x & (x - 1));
}

/* @to is a power of two; wraps to 0 past the top, so check the sum first. */
static inline uint64_t syn_align_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

static inline uint64_t syn_div_up(uint64_t x, uint64_t by)
{
	return x / by + !!(x % by);
}

/* True when the result does not fit; *ret is written on success only. */
static inline bool syn_mul_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t r;

	if (__builtin_mul_overflow(a, b, &r))
		return true;
	*ret = r;
	return false;
}

static inline bool syn_add_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t r;

	if (__builtin_add_overflow(a, b, &r))
		return true;
	*ret = r;
	return false;
}

static inline uint64_t syn_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
