/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "api/names.h"
#include "core/err.h"
#include "proxy/filters.h"

/*
 * Fields between the hops: hop-by-hop ones go, l5d-* ones are added or stripped (wire 5.3 to 5.5).
 *
 * What is the same for every endpoint is done once, to the request's head; what depends on the
 * endpoint is done for each attempt, to the head that is sent.
 */

/* Hop-by-hop fields go; what an upgrade is about stays, and the codec adds `connection: upgrade`
 * (RFC 9110 7.8). */
static int strip_hop_by_hop(struct head *h)
{
    const struct field *f = h->is_upgrade ? fields_get(&h->fields, FIELD_UPGRADE) : NULL;
    struct bytes upgrade = f != NULL ? f->value : BYTES_NONE;

    fields_remove_hop_by_hop(&h->fields);
    return upgrade.len > 0 ? fields_set(&h->fields, BYTES("upgrade"), upgrade) : 0;
}

/* Came as HTTP/1 inside HTTP/2: give it back its form (wire 5.3). */
static void restore_orig_proto(struct exchange *ex)
{
    const struct field *f = fields_get(&ex->request->fields, FIELD_L5D_ORIG_PROTO);

    ex->request->is_absolute = f != NULL && bytes_ends(f->value, BYTES("absolute-form"));
    fields_remove(&ex->request->fields, FIELD_L5D_ORIG_PROTO);
}

/* Wire 5.4: without Host the authority is the logical name, else where the connection was going. */
static int default_authority(struct exchange *ex)
{
    char text[ADDR_TEXT_BYTES];
    struct bytes authority;

    if (ex->request->authority.len > 0) {
        return 0;
    }
    authority = ex->dest != NULL ? dest_authority(ex->dest)
                                 : bytes_str(addr_format(&ex->conn->target, text));
    return arena_copy(&ex->a->arena, authority, &ex->request->authority);
}

/* What an application says to its own proxy goes no further. */
static bool is_for_proxy(int id, bool is_ingress)
{
    switch (id) {
    case FIELD_L5D_REQUIRE_ID:
    case FIELD_L5D_ORIG_PROTO:
    case FIELD_L5D_TIMEOUT:
    case FIELD_L5D_REQUEST_TIMEOUT:
    case FIELD_L5D_RESPONSE_TIMEOUT:
    case FIELD_L5D_RETRY_HTTP:
    case FIELD_L5D_RETRY_GRPC:
    case FIELD_L5D_RETRY_LIMIT:
    case FIELD_L5D_RETRY_TIMEOUT:
        return true;
    case FIELD_L5D_DST_OVERRIDE:
        return is_ingress;
    default:
        return false;
    }
}

static void strip_own(struct fields *f, bool is_ingress)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < f->count; i++) {
        if (UNLIKELY(is_for_proxy(f->at[i].id, is_ingress))) {
            continue;
        }
        if (UNLIKELY(kept != i)) {
            f->at[kept] = f->at[i];
        }
        kept++;
    }
    f->count = kept;
}

static int headers_prepare(struct exchange *ex)
{
    struct head *h = ex->request;

    TRY(strip_hop_by_hop(h));
    if (ex->conn->dir == INBOUND) {
        /* It says who calls: nobody else may (wire 5.5). */
        fields_remove(&h->fields, FIELD_L5D_CLIENT_ID);
        if (ex->conn->client_id != NULL) {
            TRY(fields_set(&h->fields, BYTES(HEADER_CLIENT_ID), conn_client_id(ex->conn)));
        }
        if (ex->is_orig_proto) {
            restore_orig_proto(ex);
        }
    }
    if (ex->dir == OUTBOUND) { /* also through a gateway */
        strip_own(&h->fields, ex->conn->w->config->ingress_mode);
        if (ex->profile.view != NULL) { /* wire 5.5: in place of what the application said */
            TRY(fields_set(&h->fields, BYTES(HEADER_DST_CANONICAL),
                           profile_view_service(ex->profile.view)->dst));
        }
    }
    TRY(default_authority(ex));
    if (h->scheme.len == 0) {
        h->scheme = BYTES("http");
    }
    if (ex->plan != NULL && ex->plan->choice.rule != NULL) {
        const struct rule *rule = ex->plan->choice.rule;

        TRY(filters_edit_request(rule->filters, rule->filters_count, h));
    }
    return 0;
}

/* A copy of the fields, for what must not be seen by another attempt. */
static int fields_copy(struct fields *to, const struct fields *from)
{
    fields_init(to, from->arena);
    for (unsigned i = 0; i < from->count; i++) {
        TRY(fields_add(to, from->at[i].name, from->at[i].value));
        to->at[to->count - 1].never_index = from->at[i].never_index;
    }
    return 0;
}

/* A gateway knows the service by another name (wire 5.5). */
static int override_authority(struct exchange *ex, const char *override)
{
    struct head *f = &ex->forward;

    TRY(arena_copy(&ex->a->arena, bytes_str(override), &f->authority));
    TRY(fields_set(&f->fields, BYTES("host"), f->authority));
    fields_remove(&f->fields, FIELD_L5D_DST_CANONICAL);
    return 0;
}

static struct bytes orig_proto(const struct head *request)
{
    bool is_10 = request->version == HTTP_10;

    if (request->is_absolute) {
        return is_10 ? BYTES("HTTP/1.0; absolute-form") : BYTES("HTTP/1.1; absolute-form");
    }
    return is_10 ? BYTES("HTTP/1.0") : BYTES("HTTP/1.1");
}

int headers_request(struct exchange *ex, enum link_kind kind)
{
    const char *override = ex->up->endpoint->authority_override;
    const struct weighted_backend *backend = ex->plan != NULL ? ex->plan->backend : NULL;
    struct head *f = &ex->forward;

    if (!ex->is_prepared) {
        TRY(headers_prepare(ex));
        ex->is_prepared = true;
    }
    /* Fields are added to this one behind those that the two share, which are left as they are. */
    *f = *ex->request;
    f->version = kind == LINK_H2 ? HTTP_2 : HTTP_11;
    if (override != NULL || (backend != NULL && backend->filters_count > 0)) {
        TRY(fields_copy(&f->fields, &ex->request->fields));
    }
    if (backend != NULL) {
        TRY(filters_edit_request(backend->filters, backend->filters_count, f));
    }
    if (override != NULL) {
        TRY(override_authority(ex, override));
    }
    if (ex->plan != NULL && ex->plan->trace != NULL) {
        exchange_trace_sent(ex);
    }
    if (kind == LINK_H2 && (ex->a->version != HTTP_2 || ex->is_orig_proto)) {
        TRY(fields_add(&f->fields, BYTES(HEADER_ORIG_PROTO), orig_proto(ex->request)));
    }
    if (kind != LINK_H2 && fields_get(&f->fields, FIELD_HOST) == NULL) {
        TRY(fields_add(&f->fields, BYTES("host"), f->authority));
    }
    return 0;
}

/* Fields that do not fit are left out: the response is good without them. */
void headers_response(struct exchange *ex, struct head *response)
{
    struct fields *f = &response->fields;

    ex->response_bytes = response->content_length;
    (void)!strip_hop_by_hop(response);
    if (ex->dir == OUTBOUND) {
        fields_remove(f, FIELD_L5D_ORIG_PROTO);
        fields_remove(f, FIELD_L5D_PROXY_ERROR);
        if (fields_get(f, FIELD_L5D_PROXY_CONNECTION) != NULL) {
            fields_remove(f, FIELD_L5D_PROXY_CONNECTION);
            /* Wire 5.5: through a balancer the connection is not bound to the endpoint that says
             * so. */
            if (ex->dest == NULL && ex->a->version != HTTP_2 && ex->conn->server != NULL) {
                http_server_close_after(ex->conn->server, ex->a);
            }
        }
    }
    if (ex->is_orig_proto) {
        (void)!fields_set(f, BYTES(HEADER_ORIG_PROTO),
                          response->version == HTTP_10 ? BYTES("HTTP/1.0") : BYTES("HTTP/1.1"));
    }
}

int headers_filter_response(struct exchange *ex, struct head *response)
{
    const struct weighted_backend *backend = ex->plan->backend;
    const struct rule *rule = ex->plan->choice.rule;

    if (backend != NULL) { /* the nearer one first */
        TRY(filters_edit_response(backend->filters, backend->filters_count, response));
    }
    return rule != NULL ? filters_edit_response(rule->filters, rule->filters_count, response) : 0;
}
