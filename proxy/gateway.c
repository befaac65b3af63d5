/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/gateway.h"

#include "core/alloc.h"
#include "core/err.h"
#include "proxy/accept.h"
#include "proxy/forwarded.h"
#include "proxy/inbound.h"

#define FORWARDED_BYTES_MAX 2048

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

static bool is_ours(const struct conn *c)
{
    struct bytes host, port;

    (void)bytes_split(bytes_str(c->gateway), ':', &host, &port);
    return gateway_has_suffix(c->w->config->gateway_suffixes, host);
}

/* --- connections ------------------------------------------------------------------------------ */

static void refuse_domain(struct conn *c)
{
    conn_fail(c, FAILURE_GATEWAY_DOMAIN, E_DENIED, c->gateway);
}

void gateway_begin(struct conn *c, const struct transport_header *header)
{
    char name[TRANSPORT_NAME_MAX + sizeof(":65535")];

    if (c->w->config->gateway_suffixes == NULL) {
        conn_fail(c, FAILURE_DENIED, E_DENIED, "this proxy is no gateway");
        return;
    }
    (void)snprintf(name, sizeof(name), "%s:%u", header->name, header->port);
    c->gateway = mem_strdup(name);
    if (c->session == DETECT_OPAQUE && !is_ours(c)) {
        refuse_domain(c);
    } else {
        conn_wait_policy(c, QUESTION_INBOUND, &c->w->config->inbound.listen[0]);
    }
}

static void on_policy(struct discovery_waiter *waiter, const struct snapshot *answer)
{
    struct conn *c = CONTAINER_OF(waiter, struct conn, waiter);

    assert(c->entry->answer == answer);
    (void)conn_refresh_policy(c);
    outbound_opaque(c, BYTES_NONE);
}

/* The port's policy has done its part. */
static void become_outbound(struct conn *c)
{
    discovery_release(c->w->cache, c->entry);
    c->entry = NULL;
    conn_forget(c);
    snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
    c->policy = NULL;
    c->dir = OUTBOUND;
}

void gateway_policy_known(struct conn *c)
{
    conn_open_stats(c, inbound_policy(c)->labels);
    if (inbound_authorize(c) != 0) {
        return;
    }
    become_outbound(c);
    if (c->session != DETECT_OPAQUE) {
        conn_serve_http(c, c->session);
        return;
    }
    conn_next(c, CONN_POLICY);
    c->entry = discovery_ask(c->w->cache, QUESTION_NAME, bytes_str(c->gateway));
    c->waiter.on_answer = on_policy;
    discovery_wait(c->w->cache, c->entry, &c->waiter);
}

/* --- requests --------------------------------------------------------------------------------- */

static int add_forwarded(struct exchange *ex)
{
    char element[FORWARDED_BYTES_MAX];
    struct bytes copy;
    struct text t;

    text_init_fixed(&t, element, sizeof(element));
    text_printf(&t, "by=%s;for=" BYTES_FMT ";host=" BYTES_FMT ";proto=https",
                ex->conn->w->config->local_name, BYTES_ARG(conn_client_id(ex->conn)),
                BYTES_ARG(ex->request->authority));
    if (t.err != 0) {
        return E_LIMIT;
    }
    TRY(arena_copy(&ex->a->arena, text_bytes(&t), &copy));
    return fields_add(&ex->request->fields, BYTES("forwarded"), copy);
}

static bool has_looped(const struct exchange *ex)
{
    const struct fields *f = &ex->request->fields;

    for (unsigned i = 0; i < f->count; i++) {
        if (f->at[i].id == FIELD_FORWARDED &&
            forwarded_is_by(f->at[i].value, bytes_str(ex->conn->w->config->local_name))) {
            return true;
        }
    }
    return false;
}

void gateway_request(struct exchange *ex)
{
    struct conn *c = ex->conn;

    ex->is_orig_proto =
        ex->a->version == HTTP_2 && fields_get(&ex->request->fields, FIELD_L5D_ORIG_PROTO) != NULL;
    if (has_looped(ex)) {
        exchange_fail(ex, FAILURE_LOOP, 0, "the request has come through this gateway before");
    } else if (!is_ours(c)) {
        exchange_fail(ex, FAILURE_GATEWAY_DOMAIN, 0, c->gateway);
    } else if (add_forwarded(ex) != 0) {
        exchange_fail(ex, FAILURE_BAD_REQUEST, 0, "there is no room for another field");
    } else {
        outbound_to_name(ex, bytes_str(c->gateway));
    }
}
