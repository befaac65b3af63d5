/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_PROXY_BALANCE_RIG_H
#define UNIT_PROXY_BALANCE_RIG_H

/*
 * A worker whose outbound target is a service of two applications, `one` and `two`. A test says what the
 * policy asks for, which of the two are endpoints, and what each of them answers by itself.
 */
#include "peers.h"
#include "proxy/dest_private.h"

#define PATH "web.app.svc.cluster.local:80"
#define GET  "GET / HTTP/1.1\r\nHost: web\r\n\r\n"

static struct app one, two;
static struct outbound_policy *policy; /* borrowed from what the worker knows */

static inline int setup(void **state)
{
    rig_setup(state);
    app_open(&one);
    app_open(&two);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    return 0;
}

static inline int teardown(void **state)
{
    app_close(&one);
    app_close(&two);
    return rig_teardown(state);
}

#define BALANCE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static inline struct backend *new_policy(enum protocol protocol)
{
    policy = policy_to(protocol, NULL, PATH);
    policy->meta = (struct meta){.group = BYTES("core"),
                                 .kind = BYTES("Service"),
                                 .name = BYTES("web"),
                                 .ns = BYTES("app"),
                                 .port = 80};
    policy->backends[0].meta = policy->meta;
    policy->backends[0].decay_ns =
        NS_PER_MS; /* whatever a busy machine measures is soon forgotten */
    return &policy->backends[0];
}

/* Taken out after two failures in a row, for 100 ms. */
static inline struct backend *new_policy_accruing(enum protocol protocol)
{
    struct backend *b = new_policy(protocol);

    b->max_failures = 2;
    b->backoff_min_ns = 100 * NS_PER_MS;
    b->backoff_max_ns = 100 * NS_PER_MS;
    return b;
}

static inline void know_policy(void)
{
    rig_know_target(&rig.target[OUTBOUND], policy);
}

static inline void know_endpoints(bool with_one, bool with_two)
{
    struct endpoint *at[2];
    size_t n = 0;

    if (with_one) {
        at[n++] = endpoint_at(&one.at, "dst_pod=\"one\"");
    }
    if (with_two) {
        at[n++] = endpoint_at(&two.at, "dst_pod=\"two\"");
    }
    rig_know_endpoints(PATH, at, n);
}

static inline struct dest *the_dest(void)
{
    struct map_iter it = MAP_ITER(&rig.w.dests);

    assert_int_equal(map_count(&rig.w.dests), 1);
    assert_true(map_next(&it));
    return it.value;
}

static inline struct seat *seat_at(const struct app *a)
{
    LIST_FOREACH(node, &the_dest()->seats)
    {
        struct seat *s = LIST_ITEM(node, struct seat, node);

        if (addr_eq(&s->member->endpoint->addr, &a->at)) {
            return s;
        }
    }
    fail_msg("no such endpoint");
    return NULL;
}

/* --- applications that answer by themselves --------------------------------------------------- */

#define HANDS_MAX 64
struct host {
    struct app *app;
    const char *answer; /* NULL: it reads and says nothing */
    struct peer *hands[HANDS_MAX];
    unsigned count, requests;
};

static inline void host_turn(struct host *h)
{
    int fd = accept4(h->app->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0) {
        assert_true(h->count < HANDS_MAX);
        h->hands[h->count++] = peer_new(fd);
    }
    for (unsigned i = 0; i < h->count; i++) {
        struct peer *p = h->hands[i];

        if (p->fd >= 0 && peer_has(p, "\r\n\r\n")) {
            text_reset(&p->in);
            h->requests++;
            if (h->answer != NULL) {
                peer_send(p, h->answer);
            }
        }
    }
}

#define OK   "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define BAD  "HTTP/1.1 500 Bad\r\ncontent-length: 2\r\n\r\nno"
#define BUSY "HTTP/1.1 503 Busy\r\nretry-after: 20\r\ncontent-length: 2\r\n\r\nno"

static struct host first, second;

#define HOSTS_UNTIL(condition) RIG_UNTIL((host_turn(&first), host_turn(&second), (condition)))

static inline void hosts(const char *of_one, const char *of_two)
{
    first = (struct host){.app = &one, .answer = of_one};
    second = (struct host){.app = &two, .answer = of_two};
}

/* The status of one request more on this connection. */
static inline unsigned ask(struct peer *client)
{
    unsigned status;

    peer_send(client, GET);
    HOSTS_UNTIL(peer_has(client, "\r\n\r\n") && (peer_has(client, "content-length: 0") ||
                                                 client->in.at[client->in.len - 1] != '\n'));
    status = (unsigned)strtoul(client->in.at + strlen("HTTP/1.1 "), NULL, 10);
    text_reset(&client->in);
    return status;
}

#endif
