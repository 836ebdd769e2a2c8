/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/list.h: order, removal, and removal while walking. */
#include "core/base/list.h"

#include "test/test.h"

struct item {
	int value;
	struct syn_list link;
};

static void fill(struct syn_list *head, struct item *items, int nr)
{
	syn_list_init(head);
	for (int i = 0; i < nr; i++) {
		items[i].value = i;
		syn_list_add_tail(head, &items[i].link);
	}
}

static void test_empty(void **state)
{
	struct syn_list head;
	struct item *pos;

	syn_list_init(&head);
	assert_true(syn_list_empty(&head));
	syn_list_for_each (pos, &head, link)
		fail();
}

static void test_order(void **state)
{
	struct syn_list head;
	struct item items[5];
	struct item *pos;
	int next = 0;

	fill(&head, items, 5);
	assert_false(syn_list_empty(&head));
	syn_list_for_each (pos, &head, link)
		assert_int_equal(pos->value, next++);
	assert_int_equal(next, 5);
	for (struct syn_list *l = head.prev; l != &head; l = l->prev)
		assert_ptr_equal(l, &items[--next].link);
	assert_int_equal(next, 0);
}

static void test_del_twice_is_harmless(void **state)
{
	struct syn_list head;
	struct item items[3];

	fill(&head, items, 3);
	syn_list_del(&items[1].link);
	assert_true(syn_list_empty(&items[1].link));
	syn_list_del(&items[1].link);
	assert_ptr_equal(items[0].link.next, &items[2].link);
	assert_ptr_equal(items[2].link.prev, &items[0].link);
	syn_list_del(&items[0].link);
	syn_list_del(&items[2].link);
	assert_true(syn_list_empty(&head));
}

static void test_del_while_walking(void **state)
{
	struct syn_list head;
	struct item items[6];
	struct item *pos;
	struct item *tmp;
	int left = 0;

	fill(&head, items, 6);
	syn_list_for_each_safe (pos, tmp, &head, link) {
		if (pos->value % 2)
			syn_list_del(&pos->link);
	}
	syn_list_for_each (pos, &head, link) {
		assert_int_equal(pos->value, 2 * left);
		left++;
	}
	assert_int_equal(left, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_del_twice_is_harmless),
		cmocka_unit_test(test_del_while_walking),
	};

	return test_main(tests);
}
