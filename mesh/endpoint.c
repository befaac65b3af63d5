/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/endpoint.h"

#include "core/alloc.h"

static bool text_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void endpoint_bury(struct snapshot *s)
{
    struct endpoint *e = CONTAINER_OF(s, struct endpoint, ref);

    mem_free(e->labels);
    mem_free(e->identity);
    mem_free(e->server_name);
    mem_free(e->authority_override);
    mem_free(e);
}

/*
 * A reference count is the one thing that changes in a snapshot; taking one does not change what is
 * read.
 */
static struct snapshot *counted(const struct endpoint *e)
{
    return (struct snapshot *)(uintptr_t)&e->ref;
}

void endpoint_ref(const struct endpoint *e)
{
    snapshot_ref(counted(e));
}

void endpoint_unref(const struct endpoint *e)
{
    if (e != NULL) {
        snapshot_unref(counted(e));
    }
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
    return addr_eq(&a->addr, &b->addr) && a->weight == b->weight &&
           text_same(a->labels, b->labels) && text_same(a->identity, b->identity) &&
           text_same(a->server_name, b->server_name) && a->hint == b->hint &&
           a->transport_port == b->transport_port &&
           text_same(a->authority_override, b->authority_override) &&
           a->zone_locality == b->zone_locality && a->ping_interval_ns == b->ping_interval_ns &&
           a->ping_timeout_ns == b->ping_timeout_ns && a->ping_while_idle == b->ping_while_idle;
}

struct endpoint *endpoint_new_plain(const struct addr *addr)
{
    struct endpoint *e = mem_new(sizeof(*e));

    snapshot_init(&e->ref, endpoint_bury);
    e->addr = *addr;
    e->weight = 10000;
    return e;
}
