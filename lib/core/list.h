/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_LIST_H
#define CORE_LIST_H

/*
 * Intrusive doubly linked list. A zeroed node is unlinked; unlinking is idempotent. A list head is
 * a node that points to itself once initialised; a zeroed head reads as empty.
 */
#include "core/macros.h"

#include <stdbool.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_is_linked(const struct list *node)
{
    return node->next != NULL;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == NULL || head->next == head;
}

static inline void list_unlink(struct list *node)
{
    if (node->next != NULL) {
        node->prev->next = node->next;
        node->next->prev = node->prev;
        node->next = node->prev = NULL;
    }
}

static inline void list_insert_before(struct list *at, struct list *node)
{
    assert(!list_is_linked(node) && at->next != NULL);
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_append(struct list *head, struct list *node)
{
    list_insert_before(head, node);
}

static inline void list_prepend(struct list *head, struct list *node)
{
    list_insert_before(head->next, node);
}

/* First node, unlinked; NULL when empty. */
static inline struct list *list_pop(struct list *head)
{
    struct list *node = list_is_empty(head) ? NULL : head->next;

    if (node != NULL) {
        list_unlink(node);
    }
    return node;
}

/* Move everything to the end of `to`; `from` is empty afterwards. */
static inline void list_move(struct list *to, struct list *from)
{
    if (list_is_empty(from)) {
        return;
    }
    assert(to != from && to->next != NULL);
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_ITEM(node, type, member) CONTAINER_OF(node, type, member)

/* Safe against unlinking `node` itself, not its successor. */
#define LIST_FOREACH(node, head)                                                                   \
    for (struct list *node = (head)->next, *node##_next = node != NULL ? node->next : NULL;        \
         node != NULL && node != (head); node = node##_next, node##_next = node->next)

#endif
