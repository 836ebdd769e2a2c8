/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory orders of words that two processes share.
 *
 * The wire headers declare plain integers (a C++ engine includes them), so the
 * order lives at the access and not in the type.  These are the only orders
 * in the tree; Documentation/concurrency.rst says which pairs with which.
 */
#ifndef SYN_CORE_BASE_ATOMIC_H
#define SYN_CORE_BASE_ATOMIC_H

#define syn_load_relaxed(p)	__atomic_load_n((p), __ATOMIC_RELAXED)
#define syn_load_acquire(p)	__atomic_load_n((p), __ATOMIC_ACQUIRE)
#define syn_load_seq_cst(p)	__atomic_load_n((p), __ATOMIC_SEQ_CST)
#define syn_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define syn_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define syn_store_seq_cst(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define syn_fetch_add_seq_cst(p, v)                                            \
	__atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define syn_fetch_sub_release(p, v)                                            \
	__atomic_fetch_sub((p), (v), __ATOMIC_RELEASE)

/* One turn of a bounded spin. */
#if defined(__x86_64__)
#define syn_cpu_relax() __builtin_ia32_pause()
#else
#define syn_cpu_relax() __asm__ volatile("yield" ::: "memory")
#endif

#endif
