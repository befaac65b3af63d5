/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"

/*
 * Outbound connections: what is the destination, what protocol does it speak (wire 11.3). Requests
 * go on in outbound_request.c.
 */

static const struct outbound_policy *conn_policy(const struct conn *c)
{
    return (const struct outbound_policy *)(const void *)c->policy;
}

void outbound_accepted(struct conn *c)
{
    const struct config *config = c->w->config;

    for (size_t i = 0; i < config->outbound.listen_count; i++) {
        if (addr_eq(&c->target, &config->outbound.listen[i])) {
            conn_fail(c, FAILURE_LOOP, E_LOOP, "the connection was made to the proxy's own port");
            return;
        }
    }
    conn_wait_policy(c, QUESTION_OUTBOUND, &c->target);
}

static_assert(PROTOCOL_GRPC < KNOWN_PROTOCOLS, "known.protocols");

static NOINLINE struct series *protocol_series(struct conn *c, enum protocol protocol)
{
    static const char *const names[] = {
        [PROTOCOL_DETECT] = "detect", [PROTOCOL_OPAQUE] = "opaq",  [PROTOCOL_TLS] = "tls",
        [PROTOCOL_HTTP1] = "http/1",  [PROTOCOL_HTTP2] = "http/2", [PROTOCOL_GRPC] = "http/2",
    };
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "protocol", bytes_str(names[protocol]));
    outbound_labels(c, &l);
    return stat_series(&c->w->stats, STAT_OUT_PROTOCOL, &l);
}

static void count_protocol(struct conn *c, enum protocol protocol)
{
    struct series **series = &conn_own(c)->protocols[protocol];

    if (*series == NULL) {
        *series = protocol_series(c, protocol);
    }
    series_add(*series, 1);
}

void outbound_policy_known(struct conn *c)
{
    enum protocol protocol;
    const struct outbound_policy *p = conn_policy(c);

    if (p->is_refused) {
        conn_fail(c, FAILURE_RESOLVE, E_DENIED,
                  "the control plane has no policy for this destination");
        return;
    }
    protocol = p->is_fallback ? PROTOCOL_DETECT : p->protocol;
    if (p->profile.is_opaque && protocol != PROTOCOL_TLS) {
        protocol = PROTOCOL_OPAQUE;
    }
    count_protocol(c, protocol);
    switch (protocol) {
    case PROTOCOL_OPAQUE:
        outbound_protocol_known(c, DETECT_OPAQUE);
        break;
    case PROTOCOL_TLS:
        conn_next(c, CONN_PEEK);
        break;
    case PROTOCOL_HTTP1:
        outbound_protocol_known(c, DETECT_HTTP1);
        break;
    case PROTOCOL_HTTP2:
    case PROTOCOL_GRPC:
        outbound_protocol_known(c, DETECT_HTTP2);
        break;
    case PROTOCOL_DETECT:
        conn_next(c, CONN_DETECT);
        break;
    }
}

void outbound_protocol_known(struct conn *c, enum detected protocol)
{
    if (conn_refresh_policy(c) && c->opaque != NULL) {
        opaque_drop(c); /* the new one may say something else */
    }
    conn_open_stats(c, BYTES_NONE);
    if (protocol == DETECT_OPAQUE) {
        outbound_opaque(c, BYTES_NONE);
    } else {
        conn_serve_http(c, protocol);
    }
}

/* Wire 5.1: TLS routes are for TLS. */
void outbound_peeked(struct conn *c, bool is_tls, struct bytes sni)
{
    (void)conn_refresh_policy(c);
    conn_open_stats(c, BYTES_NONE);
    if (is_tls) {
        outbound_opaque(c, sni);
    } else {
        conn_fail(c, FAILURE_NO_ROUTE, E_SYNTAX,
                  "the destination has only TLS routes, and the client does not speak TLS");
    }
}
