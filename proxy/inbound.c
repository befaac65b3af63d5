/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "api/names.h"
#include "core/err.h"
#include "core/log.h"

/*
 * Inbound: who is the client, may it, and then on to the local application (wire 4.5, 4.6, 5.2, 9.5).
 */

static const struct server_policy *conn_policy(const struct conn *c)
{
    return (const struct server_policy *)(const void *)c->policy;
}

/* The newest policy of the port: changes count for the requests of connections that are open. */
static const struct server_policy *refresh_policy(struct conn *c)
{
    if (c->entry != NULL && c->entry->answer != NULL && c->entry->answer != c->policy) {
        snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
        c->policy = c->entry->answer;
        snapshot_ref((struct snapshot *)(uintptr_t)c->policy);
        request_stats_free(c->requests);
        c->requests = NULL;
    }
    return conn_policy(c);
}

static struct client_facts client_facts(const struct conn *c)
{
    return (struct client_facts){
        .addr = c->peer, .is_tls = c->tls == CONN_TLS_MESH, .id = bytes_str(c->client_id)};
}

void inbound_accepted(struct conn *c)
{
    const struct config *config = c->w->config;

    c->is_direct = c->target.port == config->inbound.listen[0].port;
    if (config->inbound_ips_count > 0 && !config_is_local_ip(config, &c->target) && !addr_is_loopback(&c->target)) {
        conn_fail(c, FAILURE_LOOP, E_LOOP, "the connection was meant for an address that is not this pod's");
    } else if (c->is_direct) {
        conn_next(c, CONN_PEEK);
    } else {
        conn_wait_policy(c, QUESTION_INBOUND, &c->target);
    }
}

void inbound_policy_known(struct conn *c)
{
    const struct server_policy *p = conn_policy(c);

    if (c->has_session) {
        inbound_protocol_known(c, c->session);
    } else if (p->protocol == PROTOCOL_OPAQUE) {
        c->no_tls_reason = "port_skipped";
        inbound_protocol_known(c, DETECT_OPAQUE);
    } else {
        conn_next(c, CONN_PEEK);
    }
}

void accept_peeked(struct conn *c, bool is_tls, struct bytes sni)
{
    bool is_ours = is_tls && bytes_eq_nocase(sni, bytes_str(c->w->config->local_name));

    if (is_ours && c->w->tls_server != NULL) {
        c->io = io_tls_server_new(c->w->tls_server, io_peeked_new(c->io, &c->head),
                                  c->is_direct ? BYTES(ALPN_TRANSPORT) : BYTES_NONE);
        c->served = c->io;
        conn_next(c, CONN_HANDSHAKE);
        return;
    }
    if (c->is_direct) {
        conn_fail(c, FAILURE_DENIED, E_DENIED, "the inbound port takes only mesh TLS");
        return;
    }
    if (is_tls) {
        c->tls = CONN_TLS_FOREIGN;
        snprintf(c->sni, sizeof(c->sni), BYTES_FMT, BYTES_ARG(bytes_first(sni, MIN(sni.len, sizeof(c->sni) - 1))));
        inbound_protocol_known(c, DETECT_OPAQUE);
        return;
    }
    accept_secured(c);
}

/* TLS or cleartext is settled: what protocol is inside? */
void accept_secured(struct conn *c)
{
    if (c->is_direct) {
        if (!io_tls_alpn_selected(c->io) || c->client_id[0] == '\0') {
            conn_fail(c, FAILURE_DENIED, E_DENIED, "the inbound port needs a client certificate and a transport header");
            return;
        }
        conn_next(c, CONN_TRANSPORT);
        return;
    }
    switch (conn_policy(c)->protocol) {
    case PROTOCOL_HTTP2:
    case PROTOCOL_GRPC:
        inbound_protocol_known(c, DETECT_HTTP2);
        break;
    case PROTOCOL_HTTP1:
        if (c->tls == CONN_TLS_MESH) {
            conn_next(c, CONN_DETECT); /* peers may upgrade */
        } else {
            inbound_protocol_known(c, DETECT_HTTP1);
        }
        break;
    case PROTOCOL_TLS:
    case PROTOCOL_OPAQUE:
        inbound_protocol_known(c, DETECT_OPAQUE);
        break;
    case PROTOCOL_DETECT:
        conn_next(c, CONN_DETECT);
        break;
    }
}

void accept_transport(struct conn *c, const struct transport_header *header)
{
    char value[16];
    struct text labels;

    text_init(&labels, 512);
    label_add(&labels, "session_protocol", header->session == TRANSPORT_HTTP1   ? BYTES("http/1")
                                           : header->session == TRANSPORT_HTTP2 ? BYTES("http/2")
                                                                                : BYTES(""));
    snprintf(value, sizeof(value), "%u", header->port);
    label_add(&labels, "target_port", bytes_str(value));
    label_add(&labels, "target_name", bytes_str(header->name));
    label_add(&labels, "client_id", bytes_str(c->client_id));
    stat_count(&c->w->metrics, STAT_INBOUND_TRANSPORT_HEADER, text_bytes(&labels));
    text_clear(&labels);
    if (header->name[0] != '\0') {
        conn_fail(c, FAILURE_DENIED, E_DENIED, "this proxy is no gateway");
        return;
    }
    if (header->port == c->w->config->inbound.listen[0].port) {
        conn_fail(c, FAILURE_LOOP, E_LOOP, "the transport header names the inbound port itself");
        return;
    }
    c->target.port = header->port;
    c->has_session = true;
    c->session = header->session == TRANSPORT_HTTP1   ? DETECT_HTTP1
                 : header->session == TRANSPORT_HTTP2 ? DETECT_HTTP2
                                                      : DETECT_OPAQUE;
    conn_wait_policy(c, QUESTION_INBOUND, &c->target);
}

void accept_detected(struct conn *c, enum detected protocol)
{
    if (c->dir == INBOUND) {
        inbound_protocol_known(c, protocol);
    } else {
        outbound_protocol_known(c, protocol);
    }
}

static void count_tcp_authz(struct conn *c, const struct authz *authz)
{
    struct text t;

    text_init(&t, 4096);
    labels_target(&t, &c->target);
    text_char(&t, ',');
    text_add(&t, conn_policy(c)->labels);
    if (authz != NULL) {
        text_char(&t, ',');
        text_add(&t, authz->labels);
    }
    conn_tls_labels(c, &t);
    stat_count(&c->w->metrics, authz != NULL ? STAT_INBOUND_TCP_ALLOW : STAT_INBOUND_TCP_DENY, text_bytes(&t));
    text_clear(&t);
}

static struct upstream *application(struct conn *c)
{
    struct endpoint *e = endpoint_new_plain(&c->target);
    struct upstream *u = upstream_single(c->w, INBOUND, e);

    endpoint_unref(e);
    return u;
}

void inbound_protocol_known(struct conn *c, enum detected protocol)
{
    const struct server_policy *p = refresh_policy(c);
    struct client_facts facts = client_facts(c);
    struct authz_choice choice;
    struct endpoint *e;
    int rc;

    conn_open_stats(c, p->labels);
    if (protocol != DETECT_OPAQUE) {
        conn_serve_http(c, protocol);
        return;
    }
    rc = policy_authorize(p, &facts, NULL, &choice, NULL);
    count_tcp_authz(c, rc == 0 ? choice.authz : NULL);
    if (rc != 0) {
        conn_fail(c, FAILURE_DENIED, rc, "no authorization of the port allows this client");
        return;
    }
    if (choice.authz != NULL && choice.authz->is_audit) {
        log_info("connection allowed by an audit policy; client_id=%s port=%u", c->client_id, c->target.port);
    }
    e = endpoint_new_plain(&c->target);
    opaque_to_endpoint(c, e);
    endpoint_unref(e);
}

/* Labels of a request that was let in: target, tls, server, route, authorization. */
static void request_labels(const struct conn *c, const struct authz_choice *choice, struct text *t)
{
    label_add(t, "direction", BYTES("inbound"));
    labels_target(t, &c->target);
    conn_tls_labels(c, t);
    text_char(t, ',');
    text_add(t, conn_policy(c)->labels);
    if (choice->route != NULL) {
        text_char(t, ',');
        text_add(t, choice->route->labels);
    }
    if (choice->authz != NULL) {
        text_char(t, ',');
        text_add(t, choice->authz->labels);
    }
}

static void count_http_authz(struct conn *c, enum stat s, const struct authz_choice *choice)
{
    struct text t;

    text_init(&t, 4096);
    labels_target(&t, &c->target);
    text_char(&t, ',');
    text_add(&t, conn_policy(c)->labels);
    if (choice->route != NULL && s != STAT_INBOUND_HTTP_NO_ROUTE) {
        text_char(&t, ',');
        text_add(&t, choice->route->labels);
    }
    if (s == STAT_INBOUND_HTTP_ALLOW && choice->authz != NULL) {
        text_char(&t, ',');
        text_add(&t, choice->authz->labels);
    }
    conn_tls_labels(c, &t);
    stat_count(&c->w->metrics, s, text_bytes(&t));
    text_clear(&t);
}

/* The series of the requests that share route and authorization; kept for the next request of the connection. */
static struct request_stats *request_series(struct conn *c, const struct authz_choice *choice)
{
    struct text t;

    if (c->requests != NULL && c->requests_route == choice->route && c->requests_authz == choice->authz) {
        return c->requests;
    }
    text_init(&t, 4096);
    request_labels(c, choice, &t);
    request_stats_free(c->requests);
    c->requests = request_stats_new(&c->w->metrics, text_bytes(&t));
    c->requests_route = choice->route;
    c->requests_authz = choice->authz;
    text_clear(&t);
    return c->requests;
}

void inbound_request(struct exchange *ex)
{
    struct conn *c = ex->conn;
    const struct server_policy *p = refresh_policy(c);
    struct client_facts facts = client_facts(c);
    struct authz_choice choice = {0};
    int rc = policy_authorize(p, &facts, ex->request, &choice, NULL);

    if (rc != 0) {
        count_http_authz(c, rc == E_NOT_FOUND ? STAT_INBOUND_HTTP_NO_ROUTE : STAT_INBOUND_HTTP_DENY, &choice);
        exchange_fail(ex, rc == E_NOT_FOUND ? FAILURE_NO_ROUTE : FAILURE_DENIED, 0,
                      rc == E_NOT_FOUND ? NULL : "client is not authorized");
        return;
    }
    count_http_authz(c, STAT_INBOUND_HTTP_ALLOW, &choice);
    ex->stats = request_series(c, &choice);
    ex->is_orig_proto = ex->a->version == HTTP_2 && fields_get(&ex->request->fields, FIELD_L5D_ORIG_PROTO) != NULL;
    exchange_to_upstream(ex, application(c));
}
