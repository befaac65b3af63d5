/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "net/tls.h"
#include "proxy/early.h"
#include "proxy/gateway.h"
#include "proxy/inbound.h"

#include <ctype.h>

/*
 * Inbound: who is the client, may it, and then on to the local application (wire 4.5, 4.6, 5.2,
 * 9.5).
 */

void inbound_accepted(struct conn *c)
{
    const struct config *config = c->w->config;

    c->is_direct = c->target.port == config->inbound.listen[0].port;
    if (config->inbound_ips_count > 0 && !config_is_local_ip(config, &c->target) &&
        !addr_is_loopback(&c->target)) {
        conn_fail(c, FAILURE_LOOP, E_LOOP,
                  "the connection was meant for an address that is not this pod's");
    } else if (c->is_direct) {
        conn_next(c, CONN_PEEK);
    } else {
        conn_wait_policy(c, QUESTION_INBOUND, &c->target);
    }
}

uint64_t inbound_detect_timeout_ns(const struct conn *c)
{
    const struct server_policy *p = inbound_policy(c);

    return p != NULL && p->protocol == PROTOCOL_DETECT ? p->detect_timeout_ns
                                                       : c->w->config->inbound.detect_timeout_ns;
}

void inbound_policy_known(struct conn *c)
{
    const struct server_policy *p = inbound_policy(c);

    if (c->gateway != NULL) {
        gateway_policy_known(c);
    } else if (c->has_session) {
        inbound_protocol_known(c, c->session);
    } else if (p->protocol == PROTOCOL_OPAQUE) {
        c->no_tls_reason = "port_skipped";
        inbound_protocol_known(c, DETECT_OPAQUE);
    } else {
        conn_next(c, CONN_PEEK);
    }
}

/* A name that a stranger chose becomes a label: what is no host name, and anything once
 * strangers have filled half of the series, stays out of it. */
static char *sni_label(const struct conn *c, struct bytes sni)
{
    const struct metrics *m = &c->w->stats.metrics;
    char *text = m->series_count < m->series_max / 2 ? bytes_dup(sni) : mem_strdup("");

    for (char *at = text; *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && *at != '.' && *at != '-' && *at != '_') {
            *at = '?';
        }
    }
    return text;
}

void inbound_peeked(struct conn *c, bool is_tls, struct bytes sni)
{
    bool is_ours = is_tls && bytes_eq_nocase(sni, bytes_str(c->w->config->local_name));

    if (is_ours && c->w->tls_server != NULL) {
        if (!c->is_direct) {
            early_saw_mesh_tls(c);
        }
        c->io = io_tls_server_new(c->w->tls_server, io_peeked_new(c->io, &c->head),
                                  c->is_direct ? BYTES(ALPN_TRANSPORT) : BYTES_NONE);
        conn_next(c, CONN_HANDSHAKE);
        return;
    }
    if (c->is_direct) {
        conn_fail(c, FAILURE_DENIED, E_DENIED, "the inbound port takes only mesh TLS");
        return;
    }
    if (is_tls) {
        c->tls = CONN_TLS_FOREIGN;
        c->sni = sni_label(c, sni);
        early_decided(c, SPOKE_CLIENT);
        inbound_protocol_known(c, DETECT_OPAQUE);
        return;
    }
    inbound_secured(c);
}

/* TLS or cleartext is settled: what protocol is inside? */
void inbound_secured(struct conn *c)
{
    if (c->is_direct) {
        if (!io_tls_alpn_selected(c->io) || c->client_id == NULL) {
            conn_fail(c, FAILURE_DENIED, E_DENIED,
                      "the inbound port needs a client certificate and a transport header");
            return;
        }
        conn_next(c, CONN_TRANSPORT);
        return;
    }
    switch (inbound_policy(c)->protocol) {
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

void inbound_detected(struct conn *c, enum detected protocol, bool is_certain)
{
    enum protocol p = inbound_policy(c)->protocol;

    /* Wire 5.1: where the policy says which HTTP it is, want of bytes means that: who waits in
     * silence does not get past its routes. */
    if (!is_certain && p == PROTOCOL_HTTP1) {
        protocol = DETECT_HTTP1;
    } else if (!is_certain && (p == PROTOCOL_HTTP2 || p == PROTOCOL_GRPC)) {
        protocol = DETECT_HTTP2;
    }
    inbound_protocol_known(c, protocol);
}

void inbound_transport(struct conn *c, const struct transport_header *header)
{
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "session_protocol",
              header->session == TRANSPORT_HTTP1   ? BYTES("http/1")
              : header->session == TRANSPORT_HTTP2 ? BYTES("http/2")
                                                   : BYTES(""));
    label_add_u64(&l.text, "target_port", header->port);
    label_add(&l.text, "target_name", bytes_str(header->name));
    label_add(&l.text, "client_id", conn_client_id(c));
    stat_count(&c->w->stats, STAT_INBOUND_TRANSPORT_HEADER, &l);
    if (header->name[0] == '\0' && header->port == c->w->config->inbound.listen[0].port) {
        conn_fail(c, FAILURE_LOOP, E_LOOP, "the transport header names the inbound port itself");
        return;
    }
    c->has_session = true;
    c->session = header->session == TRANSPORT_HTTP1   ? DETECT_HTTP1
                 : header->session == TRANSPORT_HTTP2 ? DETECT_HTTP2
                                                      : DETECT_OPAQUE;
    if (header->name[0] != '\0') {
        gateway_begin(c, header);
        return;
    }
    c->target.port = header->port;
    conn_wait_policy(c, QUESTION_INBOUND, &c->target);
}

/* --- opaque ----------------------------------------------------------------------------------- */

struct bytes inbound_labels(const struct conn *c)
{
    return inbound_policy(c)->labels;
}

bool inbound_may_be_opaque(const struct conn *c)
{
    return !c->has_session && inbound_policy(c)->protocol == PROTOCOL_DETECT;
}

static void to_application(struct conn *c)
{
    struct endpoint *e = endpoint_new_plain(&c->target);

    opaque_to_endpoint(c, e);
    endpoint_unref(e);
}

/* The client is authorized again when the connection is opaque indeed, and counted then. */
void inbound_opaque_early(struct conn *c)
{
    struct client_facts facts = inbound_client(c);
    struct authz_choice choice;

    if (policy_authorize(inbound_policy(c), &facts, NULL, &choice, NULL) == 0) {
        to_application(c);
    }
}

static void authz_labels(const struct conn *c, const struct authz *authz, struct labels *l)
{
    labels_init(l);
    labels_target(l, &c->target);
    labels_add(l, inbound_policy(c)->labels);
    if (authz != NULL) {
        labels_add(l, authz->labels);
    }
    conn_tls_labels(c, l);
}

static void count_tcp_authz(struct conn *c, enum stat_id id, const struct authz *authz)
{
    struct labels l;

    authz_labels(c, authz, &l);
    stat_count(&c->w->stats, id, &l);
}

int inbound_authorize(struct conn *c)
{
    struct client_facts facts = inbound_client(c);
    struct authz_choice choice;
    int rc = policy_authorize(inbound_policy(c), &facts, NULL, &choice, NULL);

    count_tcp_authz(c, rc == 0 ? STAT_INBOUND_TCP_ALLOW : STAT_INBOUND_TCP_DENY,
                    rc == 0 ? choice.authz : NULL);
    if (rc != 0) {
        conn_fail(c, FAILURE_DENIED, rc, "no authorization of the port allows this client");
    } else if (choice.authz->is_audit) {
        log_info("connection allowed by an audit policy; client_id=%s port=%u",
                 c->client_id != NULL ? c->client_id : "", c->target.port);
    }
    return rc;
}

void inbound_protocol_known(struct conn *c, enum detected protocol)
{
    (void)conn_refresh_policy(c);
    conn_open_stats(c, inbound_policy(c)->labels);
    if (protocol != DETECT_OPAQUE) {
        conn_serve_http(c, protocol);
    } else if (inbound_authorize(c) == 0) {
        if (c->opaque != NULL) {
            opaque_adopt(c);
        } else {
            to_application(c);
        }
    }
}

/* Wire 3.4: updates apply to live connections. */
void inbound_policy_changed(struct conn *c)
{
    struct client_facts facts = inbound_client(c);
    struct authz_choice choice;

    (void)conn_refresh_policy(c);
    if (policy_authorize(inbound_policy(c), &facts, NULL, &choice, NULL) != 0) {
        count_tcp_authz(c, STAT_INBOUND_TCP_TERMINATE, NULL);
        conn_fail(c, FAILURE_DENIED, E_DENIED,
                  "the policy of the port does not allow this client any more");
    }
}
