/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked list for objects that live in process memory.
 * Records in kept memory are linked by index instead, never by pointer.
 */
#ifndef SYN_CORE_BASE_LIST_H
#define SYN_CORE_BASE_LIST_H

#include <stdbool.h>

#include "core/base/base.h"

struct syn_list {
	struct syn_list *next;
	struct syn_list *prev;
};

static inline void syn_list_init(struct syn_list *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool syn_list_empty(const struct syn_list *head)
{
	return head->next == head;
}

static inline void syn_list_add_tail(struct syn_list *head, struct syn_list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

/* Leaves @n an empty list of its own, so a second removal is harmless. */
static inline void syn_list_del(struct syn_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	syn_list_init(n);
}

#define syn_list_for_each(pos, head, member)                                   \
	for (pos = syn_container_of((head)->next, __typeof__(*pos), member);   \
	     &pos->member != (head);                                           \
	     pos = syn_container_of(pos->member.next, __typeof__(*pos),        \
				    member))

#define syn_list_for_each_safe(pos, tmp, head, member)                         \
	for (pos = syn_container_of((head)->next, __typeof__(*pos), member),   \
	    tmp = syn_container_of(pos->member.next, __typeof__(*pos),         \
				   member);                                    \
	     &pos->member != (head);                                           \
	     pos = tmp, tmp = syn_container_of(pos->member.next,               \
					       __typeof__(*pos), member))

#endif
