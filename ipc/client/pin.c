/* SPDX-License-Identifier: Apache-2.0 */
/* Pin and unpin: two atomics, no lock, no message. */
#include "core/base/base.h"
#include "ipc/client/client-internal.h"

/*
 * A count that overflowed would pass through 0, where the daemon may take the
 * page.  So a pin is refused before the top, with room for every thread that
 * has added and not yet looked.
 */
#define PIN_COUNT_LIMIT (SYN_PIN_COUNT_MAX - 255u)

/* Entries ahead of the one being pinned that are fetched. */
#define PIN_AHEAD 8u

static inline void pin_prefetch(const struct syn_client *c, uint64_t page)
{
	uint32_t index = SYN_HANDLE_INDEX(page);

	__builtin_prefetch(c->pin + index, 1);
	__builtin_prefetch(c->pte + index, 0);
}

static int pin_outcome(uint64_t pte, uint64_t page, uint32_t word)
{
	if (SYN_PTE_GENERATION(pte) != SYN_HANDLE_GENERATION(page) ||
	    SYN_PTE_STATE(pte) == SYN_PTE_NONE)
		return -ESTALE;
	if (SYN_PIN_COUNT(word) >= PIN_COUNT_LIMIT)
		return -EOVERFLOW;
	return SYN_PTE_STATE(pte) == SYN_PTE_LOST ? SYN_E_LOST : SYN_E_FAULT;
}

/* What a look before the pin did not settle; the same two steps in order. */
static __attribute__((noinline, cold)) int
pin_slow(struct syn_client *c, uint64_t page, void **ret_addr)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	const struct syn_window *w = syn_page_window(c, index);
	uint32_t word;
	uint64_t pte;

	word = syn_fetch_add_seq_cst(&c->pin[index], SYN_PIN_ONE); /* A */
	pte = syn_load_seq_cst(&c->pte[index]);			   /* B */
	if (syn_pte_is_resident(pte, page) &&
	    SYN_PIN_COUNT(word) < PIN_COUNT_LIMIT &&
	    syn_window_has_slot(w, SYN_PTE_SLOT(pte))) {
		if (ret_addr)
			*ret_addr = syn_window_slot(w, SYN_PTE_SLOT(pte));
		return 0;
	}
	(void)syn_fetch_sub_release(&c->pin[index], 1u);
	return pin_outcome(pte, page, word);
}

/*
 * Full order between the count and the entry: concurrency.rst, A and B.  The
 * entry is also read before, because nothing overlaps with a locked
 * instruction: what can be computed is, and afterwards the entry only has to
 * be the same.
 */
static inline int pin_one(struct syn_client *c, uint64_t page, void **ret_addr)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	const struct syn_window *w;
	uint32_t word;
	uint32_t slot;
	uint64_t pte;

	if (syn_unlikely(index >= c->nr_pages))
		return -ESTALE;
	pin_prefetch(c, page);
	pte = syn_load_relaxed(&c->pte[index]);
	w = syn_page_window(c, index);
	slot = SYN_PTE_SLOT(pte);
	if (syn_unlikely(!syn_pte_is_resident(pte, page) ||
			 !syn_window_has_slot(w, slot)))
		goto slow;
	word = syn_fetch_add_seq_cst(&c->pin[index], SYN_PIN_ONE);  /* A */
	if (syn_unlikely(syn_load_seq_cst(&c->pte[index]) != pte || /* B */
			 SYN_PIN_COUNT(word) >= PIN_COUNT_LIMIT ||
			 !syn_window_has_slot(w, slot))) {
		(void)syn_fetch_sub_release(&c->pin[index], 1u);
		goto slow;
	}
	if (ret_addr)
		*ret_addr = syn_window_slot(w, slot);
	return 0;

slow:
	return pin_slow(c, page, ret_addr);
}

/* Apart, so that a single pin saves no registers. */
static __attribute__((noinline)) int pin_many(struct syn_client *c,
					      const uint64_t *pages,
					      unsigned int nr, void **ret_addr)
{
	for (unsigned int i = 0; i < nr; i++) {
		int r;

		if (i + PIN_AHEAD < nr)
			pin_prefetch(c, pages[i + PIN_AHEAD]);
		r = pin_one(c, pages[i], ret_addr ? &ret_addr[i] : NULL);
		if (syn_unlikely(r)) {
			syn_pin_drop(c, pages, i);
			return r;
		}
	}
	return 0;
}

int syn_pin(struct syn_client *client, const uint64_t *pages, unsigned int nr,
	    void **ret_addr)
{
	int r = syn_client_check(client);

	if (syn_unlikely(r))
		return r;
	return nr == 1 ? pin_one(client, pages[0], ret_addr)
		       : pin_many(client, pages, nr, ret_addr);
}

void syn_pin_drop(struct syn_client *c, const uint64_t *pages, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t index = SYN_HANDLE_INDEX(pages[i]);

		if (i + PIN_AHEAD < nr)
			pin_prefetch(c, pages[i + PIN_AHEAD]);
		if (syn_likely(index < c->nr_pages)) /* F */
			(void)syn_fetch_sub_release(&c->pin[index], 1u);
	}
}

/*
 * What was issued on @timeline has been published by syn_timeline_issue() (E);
 * the release here keeps it before the count.
 */
void syn_unpin(struct syn_client *client, uint32_t timeline,
	       const uint64_t *pages, unsigned int nr)
{
	if (!syn_client_check(client))
		syn_pin_drop(client, pages, nr);
}

static int pin_hold_one(struct syn_client *c, uint64_t page)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	uint32_t word;
	int r;

	if (index >= c->nr_pages)
		return -ESTALE;
	word = syn_fetch_add_seq_cst(&c->pin[index], SYN_PIN_ONE);
	r = pin_outcome(syn_load_seq_cst(&c->pte[index]), page, word);
	if (r < 0)
		(void)syn_fetch_sub_release(&c->pin[index], 1u);
	return syn_min(r, 0);
}

int syn_pin_hold(struct syn_client *c, const uint64_t *pages, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		int r = pin_hold_one(c, pages[i]);

		if (r) {
			syn_pin_drop(c, pages, i);
			return r;
		}
	}
	return 0;
}

static bool pte_is_filling(uint64_t pte, uint64_t page)
{
	return SYN_PTE_GENERATION(pte) == SYN_HANDLE_GENERATION(page) &&
	       SYN_PTE_STATE(pte) == SYN_PTE_FILLING;
}

void *syn_page_at(struct syn_client *c, uint64_t page, bool coming)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	const struct syn_window *w = syn_page_window(c, index);
	uint64_t pte = syn_load_seq_cst(&c->pte[index]);
	uint32_t slot = SYN_PTE_SLOT(pte);

	if (syn_pte_is_resident(pte, page) && syn_window_has_slot(w, slot))
		return syn_window_slot(w, slot);
	if (coming && pte_is_filling(pte, page))
		return syn_window_slot(w, slot);
	return NULL;
}

int syn_page_check(struct syn_client *c, uint64_t page)
{
	uint32_t index = SYN_HANDLE_INDEX(page);
	uint64_t pte;

	if (index >= c->nr_pages)
		return -ESTALE;
	pte = syn_load_acquire(&c->pte[index]);
	return SYN_PTE_GENERATION(pte) != SYN_HANDLE_GENERATION(page) ||
			       SYN_PTE_STATE(pte) == SYN_PTE_NONE
		       ? -ESTALE
		       : 0;
}
