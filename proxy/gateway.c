/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/gateway.h"

#include "core/alloc.h"
#include "core/err.h"
#include "proxy/accept.h"
#include "proxy/forwarded.h"
#include "proxy/inbound.h"

#define FORWARDED_BYTES_MAX 2048
#define PORT_HTTP           80

/* --- names ------------------------------------------------------------------------------------ */

static struct bytes without_dot(struct bytes name)
{
    return bytes_ends(name, BYTES(".")) ? bytes_first(name, name.len - 1) : name;
}

bool gateway_has_suffix(const char *suffixes, struct bytes host)
{
    struct bytes rest = bytes_str(suffixes), one;

    host = without_dot(host);
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &one, &rest);
        one = bytes_trim(one, " \t");
        if (one.len == 0) {
            continue;
        }
        one = without_dot(one);
        if (one.len == 0 || (host.len > one.len && host.at[host.len - one.len - 1] == '.' &&
                             bytes_eq_nocase(bytes_from(host, host.len - one.len), one))) {
            return true;
        }
    }
    return false;
}

/* --- connections ------------------------------------------------------------------------------ */

void gateway_begin(struct conn *c, const struct transport_header *header)
{
    const char *suffixes = c->w->config->gateway_suffixes;
    struct gateway *g;

    if (suffixes == NULL) {
        conn_fail(c, FAILURE_GATEWAY_DOMAIN, E_DENIED, "this proxy is no gateway");
        return;
    }
    g = mem_new(sizeof(*g));
    c->gateway = g;
    g->conn = c;
    g->is_served = gateway_has_suffix(suffixes, bytes_str(header->name));
    (void)snprintf(g->name, sizeof(g->name), "%s:%u", header->name, header->port);
    g->authority = bytes_str(header->port == PORT_HTTP ? header->name : g->name);
    g->authority.at = g->name; /* which outlives the header */
    conn_wait_policy(c, QUESTION_INBOUND, &c->w->config->inbound.listen[0]);
}

void gateway_close(struct conn *c)
{
    struct gateway *g = c->gateway;

    if (g == NULL) {
        return;
    }
    discovery_wait_cancel(&g->waiter);
    if (g->entry != NULL) {
        discovery_release(c->w->cache, g->entry);
        g->entry = NULL;
    }
    snapshot_unref((struct snapshot *)(uintptr_t)g->policy);
    g->policy = NULL;
}

static void on_policy(struct discovery_waiter *waiter, const struct snapshot *answer)
{
    struct gateway *g = CONTAINER_OF(waiter, struct gateway, waiter);
    struct conn *c = g->conn;

    g->policy = answer;
    snapshot_ref((struct snapshot *)(uintptr_t)answer);
    outbound_opaque(c, BYTES_NONE);
}

void gateway_policy_known(struct conn *c)
{
    struct gateway *g = c->gateway;

    conn_open_stats(c, inbound_policy(c)->labels);
    if (c->session != DETECT_OPAQUE) {
        conn_serve_http(c, c->session);
        return;
    }
    if (inbound_authorize(c) != 0) {
        return;
    }
    if (!g->is_served) {
        conn_fail(c, FAILURE_GATEWAY_DOMAIN, E_DENIED, g->name);
        return;
    }
    g->entry = discovery_ask(c->w->cache, QUESTION_NAME, bytes_str(g->name));
    g->waiter.on_answer = on_policy;
    discovery_wait(c->w->cache, g->entry, &g->waiter);
}

/* --- requests --------------------------------------------------------------------------------- */

void gateway_address(struct exchange *ex)
{
    ex->request->authority = ex->conn->gateway->authority; /* the connection outlives its requests */
}

/* Who we are, for whom, and what they asked for. What had been HTTP/1 before it came here has a host
 * of where it came from. */
static int readdress(struct exchange *ex)
{
    struct bytes copy;
    struct head *h = ex->request;
    char element[FORWARDED_BYTES_MAX];
    struct text t;

    text_init_fixed(&t, element, sizeof(element));
    text_printf(&t, "by=%s;for=" BYTES_FMT ";host=" BYTES_FMT ";proto=https",
                ex->conn->w->config->local_name, BYTES_ARG(conn_client_id(ex->conn)),
                BYTES_ARG(ex->conn->gateway->authority));
    if (t.err != 0) {
        return E_LIMIT;
    }
    TRY(arena_copy(&ex->a->arena, text_bytes(&t), &copy));
    TRY(fields_add(&h->fields, BYTES("forwarded"), copy));
    if (ex->a->version == HTTP_2 && !ex->is_orig_proto) {
        return 0;
    }
    return fields_set(&h->fields, BYTES("host"), h->authority);
}

static bool has_looped(const struct exchange *ex)
{
    const struct fields *f = &ex->request->fields;
    struct bytes us = bytes_str(ex->conn->w->config->local_name);

    if (bytes_eq(conn_client_id(ex->conn), us)) {
        return true;
    }
    for (unsigned i = 0; i < f->count; i++) {
        if (f->at[i].id == FIELD_FORWARDED && forwarded_is_by(f->at[i].value, us)) {
            return true;
        }
    }
    return false;
}

void gateway_request(struct exchange *ex, const struct snapshot *held)
{
    const struct gateway *g = ex->conn->gateway;

    if (!g->is_served) {
        exchange_fail(ex, FAILURE_GATEWAY_DOMAIN, 0, g->name);
    } else if (has_looped(ex)) {
        exchange_fail(ex, FAILURE_LOOP, 0, "the request has come through this gateway before");
    } else if (readdress(ex) != 0) {
        exchange_fail(ex, FAILURE_BAD_REQUEST, 0, "there is no room for another field");
    } else {
        ex->dir = OUTBOUND;
        outbound_to_name(ex, bytes_str(g->name), held);
    }
}
