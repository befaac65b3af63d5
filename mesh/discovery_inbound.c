/* SPDX-License-Identifier: Apache-2.0 */
#include "api/names.h"
#include "core/alloc.h"
#include "core/log.h"
#include "mesh/discovery_private.h"
#include "mesh/rate_limit.h"

/*
 * Who may call a port: the default policy at once, then what WatchPort says. Nothing that happens
 * to the stream takes back what it said (wire 3.4).
 */
struct inbound_asked {
    struct asked asked;
    uint16_t port;
    struct control_watch watch;
    struct bytes message; /* the newest good one; owned */
};

struct server_policy *inbound_default(const struct discovery *d, uint16_t port)
{
    const struct discovery_config *c = &d->config;
    bool is_opaque = c->is_opaque_by_default != NULL && c->is_opaque_by_default(c->user, port);

    return server_policy_new_default(c->inbound_default, c->cluster_networks,
                                     c->cluster_networks_count, is_opaque,
                                     c->inbound_detect_timeout_ns, port);
}

static void on_message(struct control_watch *w, struct bytes message, bool is_first)
{
    struct inbound_asked *i = CONTAINER_OF(w, struct inbound_asked, watch);
    char problem[256];
    struct server_policy *p;

    (void)is_first;
    if (i->message.len > 0 && bytes_eq(i->message, message)) {
        return;
    }
    p = server_policy_new(message, i->port, problem, sizeof(problem));
    if (p == NULL) {
        log_debug("the policy of a port is invalid, what was known stays; port=%u reason=\"%s\"",
                  i->port, problem);
        return;
    }
    mem_free((char *)(uintptr_t)i->message.at);
    i->message = bytes_of(bytes_dup(message), message.len);
    rate_limiter_inherit(p, CONTAINER_OF(i->asked.answer, struct server_policy, ref));
    asked_publish(&i->asked, &p->ref);
}

static void inbound_start(struct asked *a)
{
    struct inbound_asked *i = CONTAINER_OF(a, struct inbound_asked, asked);
    struct discovery *d = a->discovery;
    Io__Linkerd__Proxy__Inbound__PortSpec spec;

    i->port = addr_of_key(a->key).port;
    asked_publish(a, &inbound_default(d, i->port)->ref);
    io__linkerd__proxy__inbound__port_spec__init(&spec);
    spec.workload = (char *)(uintptr_t)d->config.workload;
    spec.port = i->port;
    i->watch.path = GRPC_INBOUND_WATCH;
    i->watch.request = request_pack(&spec.base);
    i->watch.on_message = on_message;
    control_watch_start(d->policy, &i->watch);
}

static void inbound_stop(struct asked *a)
{
    struct inbound_asked *i = CONTAINER_OF(a, struct inbound_asked, asked);

    control_watch_stop(&i->watch);
    mem_free((char *)(uintptr_t)i->watch.request.at);
    mem_free((char *)(uintptr_t)i->message.at);
}

const struct asked_ops inbound_ops = {
    .bytes = sizeof(struct inbound_asked),
    .start = inbound_start,
    .stop = inbound_stop,
};
