/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_MESH_DISCOVERY_PROBE_H
#define UNIT_MESH_DISCOVERY_PROBE_H

/*
 * A discovery and one cache of it, new for each test, with a control plane and a name server that answer what
 * the test says; and somebody who asks.
 */
#include "plane.h"

#include "mesh/discovery_private.h"
#include "mesh/profile.h"
#include "wire.h"

#define WEB      "web.app.svc.cluster.local:80"
#define TOKEN    "{\"ns\":\"app\"}\n"
#define WORKLOAD "{\"ns\":\"app\",\"pod\":\"p\"}"
#define IDLE_NS  (50 * NS_PER_MS)
#define GET      GRPC_DESTINATION_GET
#define PROFILE  GRPC_DESTINATION_PROFILE
#define INBOUND  GRPC_INBOUND_WATCH
#define OUTBOUND GRPC_OUTBOUND_WATCH

/* --- the stage: one loop is control thread and worker at once --------------------------------- */

static struct loop loop;
static struct dns *dns;
static struct names names;
static struct name_rule rules[4];
static struct plane plane;
static struct control *channel;
static struct discovery *discovery;
static struct discovery_cache *cache;
static struct cidr networks[1];

static inline bool is_opaque(const void *user, uint16_t port)
{
    assert_ptr_equal(user, &plane);
    return port == 3306;
}

static inline int setup(void **state)
{
    struct control_config config = {.name = "destination", .host = "localhost."};
    struct discovery_config d = {
        .context_token = TOKEN,
        .workload = WORKLOAD,
        .profile_suffixes = "svc.cluster.local.",
        .profile_networks = networks,
        .profile_networks_count = 1,
        .inbound_default = DEFAULT_ALL_UNAUTHENTICATED,
        .is_opaque_by_default = is_opaque,
        .user = &plane,
        .inbound_detect_timeout_ns = 10 * NS_PER_S,
    };

    wire_setup(state);
    probe_open(&loop);
    plane_open(&plane, &loop, NULL);
    names_open(&names, &loop, rules, 0);
    assert_int_equal(dns_open_at(&loop, names.at, &dns), 0);
    assert_int_equal(cidr_parse(BYTES("10.0.0.0/8"), &networks[0]), 0);
    config.port = plane.at.port;
    channel = control_new(&loop, dns, &config);
    discovery = discovery_new(&loop, dns, channel, channel, &d);
    cache = discovery_cache_new(&loop, &loop, discovery, IDLE_NS, IDLE_NS);
    return 0;
}

static inline int teardown(void **state)
{
    if (cache != NULL) {
        discovery_cache_free(cache);
        cache = NULL;
    }
    discovery_free(discovery);
    control_free(channel);
    plane_down(&plane);
    dns_close(dns);
    names_close(&names);
    settle(&loop);
    probe_close(&loop);
    return wire_teardown(state);
}

/* --- somebody who asks ------------------------------------------------------------------------ */

struct asker {
    struct discovery_entry *entry;
    struct discovery_waiter waiter;
    struct discovery_user user;
    unsigned answers, changes;
};

static inline void on_answer(struct discovery_waiter *w, const struct snapshot *answer)
{
    struct asker *a = CONTAINER_OF(w, struct asker, waiter);

    assert_ptr_equal(answer, a->entry->answer);
    a->answers++;
}

static inline void on_change(struct discovery_user *u, const struct snapshot *answer)
{
    struct asker *a = CONTAINER_OF(u, struct asker, user);

    assert_ptr_equal(answer, a->entry->answer);
    a->changes++;
}

static struct asker asker;

static inline void ask(struct asker *a, enum question q, struct bytes key)
{
    memset(a, 0, sizeof(*a));
    a->waiter.on_answer = on_answer;
    a->user.on_change = on_change;
    a->entry = discovery_ask(cache, q, key);
    discovery_follow(a->entry, &a->user);
    discovery_wait(cache, a->entry, &a->waiter);
}

static inline void let_go(struct asker *a)
{
    discovery_wait_cancel(&a->waiter);
    discovery_unfollow(&a->user);
    discovery_release(cache, a->entry);
    a->entry = NULL;
}

static inline struct bytes target(const char *text)
{
    static struct addr addr;

    memset(&addr, 0, sizeof(addr));
    assert_int_equal(addr_parse(bytes_str(text), &addr), 0);
    return addr_key(&addr);
}

static inline struct bytes port(uint16_t number)
{
    static struct addr addr;

    memset(&addr, 0, sizeof(addr));
    addr.port = number;
    return addr_key(&addr);
}

static inline const struct outbound_policy *policy_of(const struct asker *a)
{
    return (const struct outbound_policy *)(const void *)a->entry->answer;
}

static inline const struct endpoint_set *set_of(const struct asker *a)
{
    return (const struct endpoint_set *)(const void *)a->entry->answer;
}

static inline const struct server_policy *server_of(const struct asker *a)
{
    return (const struct server_policy *)(const void *)a->entry->answer;
}

#define CALLED(path) (plane_call(&plane, (path), 0) != NULL)

/* --- endpoints (wire 3.2) --------------------------------------------------------------------- */

#define EP(n)       MSG(1, TCP4(1, 10, 0, 0, n, 80))
#define ADD(...)    MSG(1, __VA_ARGS__)
#define REMOVE(...) MSG(2, __VA_ARGS__)
#define GONE(n)     TCP4(1, 10, 0, 0, n, 80)

/* The last bytes of the addresses, "1 2 3", and the state. */
static inline bool knows(const struct asker *a, const char *want, enum endpoint_set_state want_state)
{
    struct text t;
    const struct endpoint_set *set = set_of(a);
    bool same;

    if (set == NULL) {
        return false;
    }
    text_init(&t, 1000);
    for (size_t i = 0; i < set->count; i++) {
        text_printf(&t, i > 0 ? " %u" : "%u", set->at[i]->addr.ip[3]);
    }
    same = set->state == want_state && bytes_eq(text_bytes(&t), bytes_str(want));
    text_clear(&t);
    return same;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
