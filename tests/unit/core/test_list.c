/* SPDX-License-Identifier: Apache-2.0 */
#include "core/list.h"
#include "tests/unit/unit.h"

struct item {
    int value;
    struct list node;
};

static void expect(const struct list *head, const char *values)
{
    LIST_FOREACH(node, head)
    {
        assert_int_equal(LIST_ITEM(node, struct item, node)->value, *values);
        values++;
    }
    assert_int_equal(*values, 0);
}

static void zeroed_nodes_and_heads_are_empty(void **state UNUSED)
{
    struct list head = {0}, node = {0};

    assert_true(list_is_empty(&head));
    assert_false(list_is_linked(&node));
    list_unlink(&node);
    list_unlink(&node);
    assert_null(list_pop(&head));
    expect(&head, "");
}

static void order_is_kept(void **state UNUSED)
{
    struct item a = {'a', {0}}, b = {'b', {0}}, c = {'c', {0}};
    struct list head;

    list_init(&head);
    list_append(&head, &b.node);
    list_append(&head, &c.node);
    list_prepend(&head, &a.node);
    expect(&head, "abc");
    list_unlink(&b.node);
    assert_false(list_is_linked(&b.node));
    expect(&head, "ac");
    assert_ptr_equal(list_pop(&head), &a.node);
    list_insert_before(&c.node, &a.node);
    expect(&head, "ac");
}

static void move_appends_everything(void **state UNUSED)
{
    struct item a = {'a', {0}}, b = {'b', {0}}, c = {'c', {0}};
    struct list to, from, zeroed = {0};

    list_init(&to);
    list_init(&from);
    list_append(&to, &a.node);
    list_append(&from, &b.node);
    list_append(&from, &c.node);
    list_move(&to, &from);
    expect(&to, "abc");
    assert_true(list_is_empty(&from));
    list_move(&to, &from);
    list_move(&to, &zeroed);
    expect(&to, "abc");
    list_move(&from, &to);
    expect(&from, "abc");
    list_unlink(&c.node);
    list_append(&from, &c.node);
    expect(&from, "abc");
}

static void the_visited_node_may_go(void **state UNUSED)
{
    struct item items[4] = {{'a', {0}}, {'b', {0}}, {'c', {0}}, {'d', {0}}};
    struct list head;

    list_init(&head);
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        list_append(&head, &items[i].node);
    }
    LIST_FOREACH(node, &head)
    {
        if (LIST_ITEM(node, struct item, node)->value != 'c') {
            list_unlink(node);
        }
    }
    expect(&head, "c");
}

static void link_twice(void)
{
    struct list head, node = {0};

    list_init(&head);
    list_append(&head, &node);
    list_append(&head, &node);
}

static void a_linked_node_cannot_be_linked_again(void **state UNUSED)
{
    assert_aborts(link_twice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_nodes_and_heads_are_empty),
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(move_appends_everything),
        cmocka_unit_test(the_visited_node_may_go),
        cmocka_unit_test(a_linked_node_cannot_be_linked_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
