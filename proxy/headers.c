/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "api/names.h"

/*
 * Fields between the hops: hop-by-hop ones go, l5d-* ones are added or stripped (wire 5.3 to 5.5).
 * A failing fields_set() means that the head is at its limit; the field is then left out, and the request
 * goes on as it would without the mesh.
 */

static void set_field(struct fields *f, const char *name, struct bytes value)
{
    (void)!fields_set(f, bytes_str(name), value);
}

/* Hop-by-hop fields go; what an upgrade is about stays, and the codec adds `connection: upgrade` (RFC 9110 7.8). */
static void strip_hop_by_hop(struct head *h)
{
    const struct field *f = h->is_upgrade ? fields_get(&h->fields, FIELD_UPGRADE) : NULL;
    struct bytes upgrade = f != NULL ? f->value : BYTES_NONE;

    fields_remove_hop_by_hop(&h->fields);
    if (upgrade.len > 0) {
        set_field(&h->fields, "upgrade", upgrade);
    }
}

/* Came as HTTP/1 inside HTTP/2: give it back its form (wire 5.3). */
static void restore_orig_proto(struct exchange *ex)
{
    const struct field *f = fields_get(&ex->request->fields, FIELD_L5D_ORIG_PROTO);

    if (f != NULL) {
        ex->request->is_absolute = bytes_ends(f->value, BYTES("absolute-form"));
        fields_remove(&ex->request->fields, FIELD_L5D_ORIG_PROTO);
    }
}

static void add_orig_proto(struct exchange *ex)
{
    bool is_10 = ex->a->version == HTTP_10;
    struct bytes value = ex->request->is_absolute
                             ? (is_10 ? BYTES("HTTP/1.0; absolute-form") : BYTES("HTTP/1.1; absolute-form"))
                             : (is_10 ? BYTES("HTTP/1.0") : BYTES("HTTP/1.1"));

    set_field(&ex->request->fields, HEADER_ORIG_PROTO, value);
}

static void default_authority(struct exchange *ex)
{
    char text[ADDR_TEXT_BYTES];
    struct arena *arena = &ex->a->arena;

    if (ex->request->authority.len > 0) {
        return;
    }
    if (ex->dest != NULL) {
        ex->request->authority = arena_bytes(arena, dest_authority(ex->dest));
    } else {
        ex->request->authority = arena_bytes(arena, bytes_str(addr_format(&ex->conn->target, text)));
    }
}

void headers_request(struct exchange *ex, enum link_kind kind)
{
    struct head *h = ex->request;
    const char *override = ex->up->endpoint->authority_override;

    strip_hop_by_hop(h);
    if (ex->conn->dir == INBOUND) {
        fields_remove(&h->fields, FIELD_L5D_CLIENT_ID);
        if (ex->conn->client_id[0] != '\0') {
            set_field(&h->fields, HEADER_CLIENT_ID, bytes_str(ex->conn->client_id));
        }
        if (ex->is_orig_proto) {
            restore_orig_proto(ex);
        }
    } else {
        fields_remove(&h->fields, FIELD_L5D_REQUIRE_ID);
        fields_remove(&h->fields, FIELD_L5D_ORIG_PROTO);
        ex->is_upgraded_hop = kind == LINK_H2 && ex->a->version != HTTP_2;
        if (ex->is_upgraded_hop) {
            add_orig_proto(ex);
        }
    }
    if (override != NULL) {
        h->authority = bytes_str(override);
        set_field(&h->fields, "host", h->authority);
        fields_remove(&h->fields, FIELD_L5D_DST_CANONICAL);
    }
    default_authority(ex);
    if (kind != LINK_H2 && fields_get(&h->fields, FIELD_HOST) == NULL) {
        set_field(&h->fields, "host", h->authority);
    }
    if (h->scheme.len == 0) {
        h->scheme = BYTES("http");
    }
    ex->forward = *h;
    ex->forward.version = kind == LINK_H2 ? HTTP_2 : HTTP_11;
}

void headers_response(struct exchange *ex, struct head *response)
{
    struct fields *f = &response->fields;

    strip_hop_by_hop(response);
    if (ex->conn->dir == OUTBOUND) {
        fields_remove(f, FIELD_L5D_ORIG_PROTO);
        fields_remove(f, FIELD_L5D_PROXY_ERROR);
        if (fields_get(f, FIELD_L5D_PROXY_CONNECTION) != NULL) {
            fields_remove(f, FIELD_L5D_PROXY_CONNECTION);
            if (ex->dest == NULL && ex->a->version != HTTP_2 && ex->conn->server != NULL) {
                http_server_close_after(ex->conn->server, ex->a);
            }
        }
    } else if (ex->is_orig_proto) {
        set_field(f, HEADER_ORIG_PROTO, response->version == HTTP_10 ? BYTES("HTTP/1.0") : BYTES("HTTP/1.1"));
    }
}
