/* SPDX-License-Identifier: Apache-2.0 */
#include "control/destination/private.h"

#include "api/names.h"
#include "core/clock.h"
#include "core/log.h"

#define WEIGHT_ONE 10000 /* wire 11.1 */

typedef Io__Linkerd__Proxy__Destination__TlsIdentity tls_identity;
typedef Io__Linkerd__Proxy__Destination__TlsIdentity__DnsLikeIdentity dns_identity;
typedef Io__Linkerd__Proxy__Destination__ProtocolHint protocol_hint;

/* What decides how the endpoint is spoken to. */
struct manner {
    bool is_meshed; /* a proxy takes this port */
    bool is_opaque;
    uint16_t inbound_port; /* of the proxy; 0: not by transport header */
};

static dns_identity *dns_name(struct arena *a, const char *name)
{
    dns_identity *m = message_new(
        a, &io__linkerd__proxy__destination__tls_identity__dns_like_identity__descriptor);

    m->name = message_text(name);
    return m;
}

static tls_identity *identity_dns(struct arena *a, const char *name)
{
    tls_identity *m = message_new(a, &io__linkerd__proxy__destination__tls_identity__descriptor);

    m->strategy_case = IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY_DNS_LIKE_IDENTITY;
    m->dns_like_identity = dns_name(a, name);
    m->server_name = dns_name(a, name);
    return m;
}

/* A URI cannot be a server name, so it always comes with one (wire 3.2). */
static tls_identity *identity_uri(struct arena *a, const char *uri, const char *server_name)
{
    tls_identity *m = message_new(a, &io__linkerd__proxy__destination__tls_identity__descriptor);
    Io__Linkerd__Proxy__Destination__TlsIdentity__UriLikeIdentity *id = message_new(
        a, &io__linkerd__proxy__destination__tls_identity__uri_like_identity__descriptor);

    id->uri = message_text(uri);
    m->strategy_case = IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY_URI_LIKE_IDENTITY;
    m->uri_like_identity = id;
    m->server_name = dns_name(a, server_name);
    return m;
}

static void set_hint(const struct destination *d, weighted_addr *m, const struct manner *how,
                     struct arena *a)
{
    protocol_hint *hint;

    if (!how->is_meshed) {
        return;
    }
    hint = message_new(a, &io__linkerd__proxy__destination__protocol_hint__descriptor);
    if (how->is_opaque) {
        hint->protocol_case = IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_OPAQUE;
        hint->opaque =
            message_new(a, &io__linkerd__proxy__destination__protocol_hint__opaque__descriptor);
    } else if (d->env->h2_upgrade) {
        hint->protocol_case = IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_H2;
        hint->h2 = message_new(a, &io__linkerd__proxy__destination__protocol_hint__h2__descriptor);
    }
    if (how->inbound_port != 0 && (how->is_opaque || d->env->transport_header)) {
        hint->opaque_transport = message_new(
            a, &io__linkerd__proxy__destination__protocol_hint__opaque_transport__descriptor);
        hint->opaque_transport->inbound_port = how->inbound_port;
    }
    m->protocol_hint = hint;
}

/* Proxies find dead peers by pings, also between requests. */
static void set_http2(weighted_addr *m, struct arena *a)
{
    Io__Linkerd__Proxy__Destination__Http2ClientParams *http2 =
        message_new(a, &io__linkerd__proxy__destination__http2_client_params__descriptor);
    Io__Linkerd__Proxy__Destination__Http2ClientParams__KeepAlive *alive = message_new(
        a, &io__linkerd__proxy__destination__http2_client_params__keep_alive__descriptor);

    alive->interval = message_duration(a, 10 * NS_PER_S);
    alive->timeout = message_duration(a, 3 * NS_PER_S);
    alive->while_idle = true;
    http2->keep_alive = alive;
    m->http2 = http2;
}

/* --- labels -------------------------------------------------------------------------------------- */

#define LABELS_MAX 10

struct labels {
    const char *pairs[2 * LABELS_MAX + 1];
    size_t count;
};

static void label(struct labels *l, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        assert(l->count < LABELS_MAX);
        l->pairs[2 * l->count] = key;
        l->pairs[2 * l->count + 1] = value;
        l->count++;
    }
}

static const char *locality(const struct endpoint_facts *f)
{
    if (f->zone[0] == '\0' || f->client_zone[0] == '\0') {
        return "unknown";
    }
    return strcmp(f->zone, f->client_zone) == 0 ? "local" : "remote";
}

static void set_labels(weighted_addr *m, struct labels *l, const struct endpoint_facts *f,
                       struct arena *a)
{
    label(l, "namespace", f->with_ns ? f->of->ns : NULL);
    label(l, "zone", f->zone);
    label(l, "zone_locality", locality(f));
    m->metric_labels = message_labels(
        a, &io__linkerd__proxy__destination__weighted_addr__metric_labels_entry__descriptor,
        l->pairs, &m->n_metric_labels);
}

/* --- pods ---------------------------------------------------------------------------------------- */

/* The port of one of the proxy's listeners; 0 when the manifest does not say it. Where it listens on both
 * families, the ports are the same. */
static uint16_t proxy_port(const struct object *pod, const char *variable)
{
    struct bytes value = bytes_str(pod_proxy_env(pod, variable)), first, rest;
    struct addr at;

    (void)bytes_split(value, ',', &first, &rest);
    return addr_parse(first, &at) == 0 ? at.port : 0;
}

static bool pod_manner(const struct destination *d, const struct endpoint_facts *f,
                       const struct pod_view *v, struct manner *out)
{
    uint16_t port = f->addr.port, admin, control;

    out->is_opaque =
        port_set_has(v->has_opaque_ports ? &v->opaque_ports : &d->env->opaque_ports, port) ||
        server_is_opaque(servers_pick(&d->servers, f->of, v, port));
    out->is_meshed = object_label(f->of, LABEL_CONTROL_NS) != NULL &&
                     !port_set_has(&v->skip_inbound_ports, port);
    if (!out->is_meshed) {
        return true;
    }
    out->inbound_port = proxy_port(f->of, "LINKERD2_PROXY_INBOUND_LISTEN_ADDR");
    if (out->inbound_port == 0) {
        log_warn("an endpoint is left out: its pod is labelled as meshed, but has no container "
                 "linkerd-proxy with "
                 "an address in LINKERD2_PROXY_INBOUND_LISTEN_ADDR; pod=%s/%s",
                 f->of->ns, f->of->name);
        return false;
    }
    /* The proxy's own servers are not behind its inbound port. */
    admin = proxy_port(f->of, "LINKERD2_PROXY_ADMIN_LISTEN_ADDR");
    control = proxy_port(f->of, "LINKERD2_PROXY_CONTROL_LISTEN_ADDR");
    if (port == (admin != 0 ? admin : PORT_ADMIN) ||
        port == (control != 0 ? control : PORT_CONTROL)) {
        out->inbound_port = 0;
    }
    return true;
}

static bool pod_message(const struct destination *d, const struct endpoint_facts *f,
                        weighted_addr *m, struct arena *a, struct manner *how)
{
    const struct control_env *env = d->env;
    struct workload *owner = arena_new(a, sizeof(*owner));
    struct labels labels = {.count = 0};
    struct pod_view v;

    pod_view_read(f->of, a, &v);
    if (!pod_manner(d, f, &v, how)) {
        return false;
    }
    pod_workload(env->cluster, f->of, owner);
    label(&labels, "pod", f->of->name);
    if (owner->kind[0] != '\0') {
        /* Prometheus has a label `job` of its own. */
        label(&labels, strcmp(owner->kind, "job") == 0 ? "k8s_job" : owner->kind, owner->name);
    }
    label(&labels, "serviceaccount", v.service_account);
    label(&labels, "control_plane_ns", object_label(f->of, LABEL_CONTROL_NS));
    label(&labels, "pod_template_hash", object_label(f->of, "pod-template-hash"));
    set_labels(m, &labels, f, a);
    if (how->is_meshed && pod_is_meshed(f->of, env->control_ns)) {
        m->tls_identity = identity_dns(a, arena_printf(a, "%s.%s.serviceaccount.identity.%s.%s",
                                                       v.service_account, f->of->ns,
                                                       env->control_ns, env->trust_domain));
    }
    return true;
}

/* --- machines outside the cluster ---------------------------------------------------------------- */

static uint16_t external_inbound_port(const struct object *workload)
{
    const json_t *ports = json_object_get(workload->spec, "ports");
    struct json_iter it = JSON_ITER(ports);

    while (json_is_array(ports) && json_next(&it)) {
        const char *name = json_text(it.value, "name");
        int64_t port = json_number(it.value, "port", 0);

        if (name != NULL && strcmp(name, PORT_NAME_PROXY) == 0 && port > 0 && port <= UINT16_MAX) {
            return (uint16_t)port;
        }
    }
    return PORT_INBOUND;
}

static void external_message(const struct destination *d, const struct endpoint_facts *f,
                             weighted_addr *m, struct arena *a, struct manner *how)
{
    const char *uri = json_text(f->of->spec, "meshTLS.identity");
    const char *server_name = json_text(f->of->spec, "meshTLS.serverName");
    const char *opaque = object_annotation(f->of, ANNOTATION_OPAQUE_PORTS);
    struct labels labels = {.count = 0};
    struct port_set ports = {.count = 0};

    if (opaque == NULL || port_set_parse(bytes_str(opaque), &ports) != 0) {
        ports = d->env->opaque_ports;
    }
    how->is_opaque = port_set_has(&ports, f->addr.port) ||
                     server_is_opaque(servers_pick(&d->servers, f->of, NULL, f->addr.port));
    how->is_meshed = uri != NULL && server_name != NULL;
    how->inbound_port = external_inbound_port(f->of);
    label(&labels, "external_workload", f->of->name);
    set_labels(m, &labels, f, a);
    if (how->is_meshed) {
        m->tls_identity = identity_uri(a, uri, server_name);
    }
}

/* --- gateways and unknown addresses -------------------------------------------------------------- */

static void foreign_message(const struct endpoint_facts *f, weighted_addr *m, struct arena *a,
                            struct manner *how)
{
    struct labels labels = {.count = 0};

    if (f->zone[0] != '\0') {
        set_labels(m, &labels, f, a);
    }
    if (f->authority != NULL) {
        m->authority_override =
            message_new(a, &io__linkerd__proxy__destination__authority_override__descriptor);
        m->authority_override->authority_override = message_text(f->authority);
    }
    if (f->gateway_identity != NULL && f->gateway_identity[0] != '\0') {
        m->tls_identity = identity_dns(a, f->gateway_identity);
        how->is_meshed = true; /* it speaks HTTP/2, but its inbound port is what the address says */
    }
}

weighted_addr *endpoint_message(const struct destination *d, const struct endpoint_facts *f,
                                struct arena *a, bool *out_is_opaque)
{
    weighted_addr *m = message_new(a, &io__linkerd__proxy__destination__weighted_addr__descriptor);
    struct manner how = {.is_meshed = false};

    m->addr = message_addr(a, &f->addr);
    m->weight = WEIGHT_ONE;
    if (f->of == NULL) {
        how.is_opaque = port_set_has(&d->env->opaque_ports, f->addr.port);
        foreign_message(f, m, a, &how);
        *out_is_opaque = how.is_opaque;
        how.is_opaque = false;
    } else if (f->of->kind == KIND_POD) {
        if (!pod_message(d, f, m, a, &how)) {
            return NULL;
        }
        *out_is_opaque = how.is_opaque;
    } else {
        external_message(d, f, m, a, &how);
        *out_is_opaque = how.is_opaque;
    }
    set_hint(d, m, &how, a);
    if (how.is_meshed) {
        set_http2(m, a);
    }
    return m;
}
