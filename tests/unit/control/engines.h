/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_ENGINES_H
#define CONTROL_ENGINES_H

/*
 * Both engines over a real folder of manifests, those who ask them, and answers as text, so that a wrong one
 * can be read:
 *   add service=web namespace=default
 *    10.1.0.1:8080 10000 id=... sni=... h2 via=4143 ping pod=web-1 ...
 */
#include "tests/unit/cluster/fixture.h"

#include "api/destination.pb-c.h"
#include "api/inbound.pb-c.h"
#include "api/outbound.pb-c.h"
#include "control/destination/destination.h"
#include "control/policy/policy.h"

struct engines {
    struct fixture *f;
    struct metrics metrics;
    struct cluster_index index;
    struct control_env env;
    struct cidr networks[2], probes[1];
};

struct asker {
    struct subscriber subscriber;
    struct bytes messages[64];
    size_t count, read;
    bool ended;
    enum grpc_status status;
    char why[128];
};

/* --- asking -------------------------------------------------------------------------------------- */

UNUSED static void asker_on_message(struct subscriber *s, struct bytes message)
{
    struct asker *a = CONTAINER_OF(s, struct asker, subscriber);

    assert_false(a->ended);
    assert_true(a->count < ARRAY_LEN(a->messages));
    a->messages[a->count++] = bytes_of(bytes_dup(message), message.len);
}

UNUSED static void asker_on_end(struct subscriber *s, enum grpc_status status, const char *why)
{
    struct asker *a = CONTAINER_OF(s, struct asker, subscriber);

    assert_false(a->ended);
    a->ended = true;
    a->status = status;
    (void)snprintf(a->why, sizeof(a->why), "%s", why);
}

UNUSED static void asker_init(struct asker *a)
{
    memset(a, 0, sizeof(*a));
    a->subscriber.on_message = asker_on_message;
    a->subscriber.on_end = asker_on_end;
}

UNUSED static void asker_clear(struct asker *a)
{
    topic_unsubscribe(&a->subscriber);
    for (size_t i = 0; i < a->count; i++) {
        mem_free((void *)(uintptr_t)a->messages[i].at);
    }
    a->count = a->read = 0;
}

typedef enum grpc_status ask_destination(struct destination *d, struct bytes request, struct subscriber *s,
                                         const char **out_why);

UNUSED static enum grpc_status ask(struct engines *e, ask_destination *method, struct asker *a,
                                   const char *path, const char *token)
{
    Io__Linkerd__Proxy__Destination__GetDestination m;
    uint8_t packed[4096];
    const char *why = "";
    size_t len;

    io__linkerd__proxy__destination__get_destination__init(&m);
    m.path = (char *)(uintptr_t)path;
    m.context_token = (char *)(uintptr_t)token;
    len = io__linkerd__proxy__destination__get_destination__pack(&m, packed);
    asker_init(a);
    return method(e->env.destination, bytes_of(packed, len), &a->subscriber, &why);
}

#define TOKEN "{\"ns\":\"default\",\"nodeName\":\"n1\",\"pod\":\"client\"}\n"

/* --- waiting ------------------------------------------------------------------------------------- */

/* The next message that was not read yet; waits for it. */
UNUSED static struct bytes asker_next(struct engines *e, struct asker *a)
{
    WAIT_UNTIL(e->f, a->count > a->read || a->ended);
    assert_false(a->ended && a->count == a->read);
    return a->messages[a->read++];
}

UNUSED static enum grpc_status asker_end(struct engines *e, struct asker *a)
{
    WAIT_UNTIL(e->f, a->ended);
    assert_int_equal(a->count, a->read);
    return a->status;
}

/* Everything that happened to the folder until now has been answered, and nothing more came. */
#define assert_quiet(e, a)                                                                         \
    do {                                                                                           \
        mark((e)->f);                                                                              \
        (void)loop_turn(&(e)->f->loop, 0);                                                         \
        assert_int_equal((a)->count, (a)->read);                                                   \
        assert_false((a)->ended);                                                                  \
    } while (0)

UNUSED static uint64_t counted(struct engines *e, const char *name, const char *engine)
{
    const struct series *s;
    char labels[64];

    (void)snprintf(labels, sizeof(labels), "engine=\"%s\"", engine);
    s = metrics_find(&e->metrics, name, bytes_str(labels));
    if (s == NULL) {
        fail_msg("no series %s{%s}", name, labels);
    }
    return s->count;
}

/* --- answers as text ----------------------------------------------------------------------------- */

UNUSED static struct addr addr_of(const Io__Linkerd__Proxy__Net__TcpAddress *m)
{
    struct addr a;

    memset(&a, 0, sizeof(a));
    assert_non_null(m);
    assert_non_null(m->ip);
    if (m->ip->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4) {
        return addr_v4(m->ip->ipv4, (uint16_t)m->port);
    }
    for (unsigned i = 0; i < 8; i++) {
        a.ip[i] = (uint8_t)(m->ip->ipv6->first >> (56 - 8 * i));
        a.ip[8 + i] = (uint8_t)(m->ip->ipv6->last >> (56 - 8 * i));
    }
    a.family = AF_INET6;
    a.port = (uint16_t)m->port;
    return a;
}

UNUSED static void describe_endpoint(struct text *t, const Io__Linkerd__Proxy__Destination__WeightedAddr *m)
{
    struct addr at = addr_of(m->addr);
    char text[ADDR_TEXT_BYTES];

    text_printf(t, "%s %u", addr_format(&at, text), m->weight);
    if (m->tls_identity != NULL) {
        bool is_uri = m->tls_identity->strategy_case ==
                      IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY_URI_LIKE_IDENTITY;

        text_printf(t, " id=%s sni=%s",
                    is_uri ? m->tls_identity->uri_like_identity->uri
                           : m->tls_identity->dns_like_identity->name,
                    m->tls_identity->server_name->name);
    }
    if (m->protocol_hint != NULL) {
        const Io__Linkerd__Proxy__Destination__ProtocolHint *h = m->protocol_hint;

        text_str(t, h->protocol_case == IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_H2 ? " h2"
                    : h->protocol_case == IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_OPAQUE
                        ? " opaque"
                        : " any");
        if (h->opaque_transport != NULL) {
            text_printf(t, " via=%u", h->opaque_transport->inbound_port);
        }
    }
    if (m->http2 != NULL) {
        assert_int_equal(m->http2->keep_alive->interval->seconds, 10);
        assert_int_equal(m->http2->keep_alive->timeout->seconds, 3);
        assert_true(m->http2->keep_alive->while_idle);
        text_str(t, " ping");
    }
    if (m->authority_override != NULL) {
        text_printf(t, " authority=%s", m->authority_override->authority_override);
    }
    for (size_t i = 0; i < m->n_metric_labels; i++) {
        text_printf(t, " %s=%s", m->metric_labels[i]->key, m->metric_labels[i]->value);
    }
    text_char(t, '\n');
}

UNUSED static int line_cmp(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* One Update; endpoints in the order of their texts. */
UNUSED static const char *describe_update(struct bytes message)
{
    static char text[8192];
    Io__Linkerd__Proxy__Destination__Update *m =
        io__linkerd__proxy__destination__update__unpack(NULL, message.len, (const uint8_t *)message.at);
    char *lines[64];
    size_t count = 0;
    struct text to, line;

    assert_non_null(m);
    text_init_fixed(&to, text, sizeof(text));
    if (m->update_case == IO__LINKERD__PROXY__DESTINATION__UPDATE__UPDATE_ADD) {
        text_str(&to, "add");
        for (size_t i = 0; i < m->add->n_metric_labels; i++) {
            text_printf(&to, " %s=%s", m->add->metric_labels[i]->key, m->add->metric_labels[i]->value);
        }
        for (size_t i = 0; i < m->add->n_addrs; i++) {
            text_init(&line, 1024);
            describe_endpoint(&line, m->add->addrs[i]);
            assert_true(count < ARRAY_LEN(lines));
            assert_int_equal(text_finish(&line, &lines[count++]), 0);
        }
    } else {
        assert_int_equal(m->update_case, IO__LINKERD__PROXY__DESTINATION__UPDATE__UPDATE_REMOVE);
        text_str(&to, "remove");
        for (size_t i = 0; i < m->remove->n_addrs; i++) {
            struct addr at = addr_of(m->remove->addrs[i]);
            char name[ADDR_TEXT_BYTES];

            assert_true(count < ARRAY_LEN(lines));
            lines[count++] = mem_printf("%s\n", addr_format(&at, name));
        }
    }
    text_char(&to, '\n');
    qsort(lines, count, sizeof(lines[0]), line_cmp);
    for (size_t i = 0; i < count; i++) {
        text_printf(&to, " %s", lines[i]);
        mem_free(lines[i]);
    }
    assert_int_equal(to.err, 0);
    io__linkerd__proxy__destination__update__free_unpacked(m, NULL);
    return text;
}

#define assert_update(e, a, expected) assert_string_equal(describe_update(asker_next((e), (a))), (expected))

/* --- life ---------------------------------------------------------------------------------------- */

UNUSED static void engines_open(struct engines *e)
{
    cluster_index_open(&e->index, e->f->cluster);
    e->env.cluster = e->f->cluster;
    e->env.destination = destination_new(&e->env);
    e->env.policy = policy_new(&e->env);
}

/* The cluster is known once this returns. */
UNUSED static void engines_sync(struct engines *e)
{
    WAIT_UNTIL(e->f, destination_is_synced(e->env.destination) && policy_is_synced(e->env.policy));
}

UNUSED static int engines_setup(void **state)
{
    struct engines *e = mem_new(sizeof(*e));

    (void)fixture_setup((void **)&e->f);
    fixture_open(e->f);
    metrics_init(&e->metrics, 100, 600 * NS_PER_S);
    assert_int_equal(cidr_parse(BYTES("10.0.0.0/8"), &e->networks[0]), 0);
    assert_int_equal(cidr_parse(BYTES("fd00::/8"), &e->networks[1]), 0);
    assert_int_equal(cidr_parse(BYTES("0.0.0.0/0"), &e->probes[0]), 0);
    e->env = (struct control_env){
        .loop = &e->f->loop,
        .index = &e->index,
        .metrics = &e->metrics,
        .control_ns = "linkerd",
        .trust_domain = "cluster.local",
        .cluster_domain = "cluster.local",
        .cluster_networks = e->networks,
        .cluster_networks_count = 2,
        .default_policy = "all-unauthenticated",
        .probe_networks = e->probes,
        .probe_networks_count = 1,
        .transport_header = true,
        .h2_upgrade = true,
    };
    assert_int_equal(port_set_parse(BYTES("3306,4444"), &e->env.opaque_ports), 0);
    engines_open(e);
    *state = e;
    return 0;
}

UNUSED static int engines_teardown(void **state)
{
    struct engines *e = *state;

    destination_free(e->env.destination);
    policy_free(e->env.policy);
    cluster_index_close(&e->index);
    (void)fixture_teardown((void **)&e->f);
    metrics_clear(&e->metrics);
    mem_free(e);
    return 0;
}

#define ENGINES_TEST(name) cmocka_unit_test_setup_teardown(name, engines_setup, engines_teardown)

UNUSED static void put(struct engines *e, const char *file, const char *text)
{
    write_by_rename(e->f, file, text);
}

/* --- manifests ----------------------------------------------------------------------------------- */

#define WEB_SERVICE                                                                                \
    "{apiVersion: v1, kind: Service, metadata: {name: web}, "                                      \
    "spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}}\n"

#define PROXY_CONTAINER                                                                            \
    "{name: linkerd-proxy, env: ["                                                                 \
    "{name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:4143'}, "                          \
    "{name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR, value: '0.0.0.0:4191'}, "                            \
    "{name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR, value: '0.0.0.0:4190'}]}"

/* `more`: further members of the metadata, each with a comma before it. */
#define MESHED_POD(name, ip, more)                                                                 \
    "{apiVersion: v1, kind: Pod, metadata: {name: " name                                           \
    ", labels: {app: web, linkerd.io/control-plane-ns: linkerd}" more                              \
    "}, spec: {serviceAccountName: web, nodeName: n1, containers: [{name: app, ports: [{name: http, "   \
    "containerPort: 8080}]}, " PROXY_CONTAINER "]}, status: {phase: Running, podIP: " ip "}}\n"
#define PLAIN_POD(name, ip)                                                                        \
    "{apiVersion: v1, kind: Pod, metadata: {name: " name                                           \
    "}, spec: {containers: [{name: app}]}, status: {phase: Running, podIP: " ip "}}\n"

/* `endpoints`: items of the list. */
#define SLICE(name, service, type, ports, endpoints)                                               \
    "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: " type                    \
    ", metadata: {name: " name ", labels: {kubernetes.io/service-name: " service                    \
    "}}, ports: [" ports "], endpoints: [" endpoints "]}\n"
#define WEB_SLICE(endpoints) SLICE("web-4", "web", "IPv4", "{name: http, port: 8080}", endpoints)
#define OF_POD(ip, pod)      "{addresses: [" ip "], targetRef: {kind: Pod, name: " pod "}}"

#define WEB_ID "id=web.default.serviceaccount.identity.linkerd.cluster.local " \
               "sni=web.default.serviceaccount.identity.linkerd.cluster.local"
/* What a meshed endpoint of the default kind looks like. */
#define MESHED_LINE(at, pod)                                                                       \
    " " at " 10000 " WEB_ID " h2 via=4143 ping pod=" pod                                           \
    " serviceaccount=web control_plane_ns=linkerd zone_locality=unknown\n"
#define ADD "add service=web namespace=default\n"
#define WEB "web.default.svc.cluster.local:80"

#endif
