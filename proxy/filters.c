/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filters.h"

#include "core/err.h"
#include "core/text.h"
#include "mesh/route.h"

#define LOCATION_BYTES_MAX 8192

/* --- header modifiers ------------------------------------------------------------------------- */

/* RFC 9110 7.6.1, RFC 9113 8.2.2; and what tells a proxy's peer how to frame it (wire 5.3). */
static bool is_editable(struct bytes name)
{
    switch ((int)field_id_of(name)) {
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_CONTENT_LENGTH:
    case FIELD_UPGRADE:
    case FIELD_EXPECT:
    case FIELD_TE:
    case FIELD_TRAILER:
    case FIELD_HTTP2_SETTINGS:
    case FIELD_L5D_ORIG_PROTO:
    case FIELD_HOST: /* where it may be edited, its place is the authority */
        return false;
    default:
        return name.len > 0 && name.at[0] != ':';
    }
}

static int edit_fields(const struct filter *f, struct fields *to)
{
    for (size_t i = 0; i < f->add_count; i++) {
        if (is_editable(f->add[i].name)) {
            TRY(fields_add(to, f->add[i].name, f->add[i].value));
        }
    }
    for (size_t i = 0; i < f->set_count; i++) {
        if (is_editable(f->set[i].name)) {
            TRY(fields_set(to, f->set[i].name, f->set[i].value));
        }
    }
    for (size_t i = 0; i < f->remove_count; i++) {
        if (is_editable(f->remove[i])) {
            fields_remove_name(to, f->remove[i]);
        }
    }
    return 0;
}

static int edit_host(const struct header_edit *edits, size_t count, struct head *h)
{
    for (size_t i = 0; i < count; i++) {
        if (field_id_of(edits[i].name) == FIELD_HOST && edits[i].value.len > 0) {
            h->authority = edits[i].value;
            if (fields_get(&h->fields, FIELD_HOST) != NULL) {
                TRY(fields_set(&h->fields, BYTES("host"), edits[i].value));
            }
        }
    }
    return 0;
}

int filters_edit_request(const struct filter *filters, size_t count, struct head *h)
{
    for (size_t i = 0; i < count; i++) {
        const struct filter *f = &filters[i];

        if (f->kind == FILTER_REQUEST_HEADERS) {
            TRY(edit_host(f->add, f->add_count, h));
            TRY(edit_host(f->set, f->set_count, h));
            TRY(edit_fields(f, &h->fields));
        }
    }
    return 0;
}

int filters_edit_response(const struct filter *filters, size_t count, struct head *h)
{
    for (size_t i = 0; i < count; i++) {
        if (filters[i].kind == FILTER_RESPONSE_HEADERS) {
            TRY(edit_fields(&filters[i], &h->fields));
        }
    }
    return 0;
}

bool filters_have(const struct filter *filters, size_t count, enum filter_kind kind)
{
    for (size_t i = 0; i < count; i++) {
        if (filters[i].kind == kind) {
            return true;
        }
    }
    return false;
}

/* --- failure injectors ------------------------------------------------------------------------ */

bool filter_strikes(const struct filter *f, struct rand *rand)
{
    return f->denominator == 0 || rand_below(rand, f->denominator) < f->numerator;
}

/* --- redirects -------------------------------------------------------------------------------- */

static struct bytes scheme_port(struct bytes scheme)
{
    return bytes_eq_nocase(scheme, BYTES("http"))    ? BYTES("80")
           : bytes_eq_nocase(scheme, BYTES("https")) ? BYTES("443")
                                                     : BYTES_NONE;
}

/*
 * The filter's port; else that of its scheme, if it names one; else the request's own. A port that
 * the scheme implies is left out.
 */
static void add_port(struct text *to, const struct filter *f, struct bytes scheme,
                     struct bytes request_port)
{
    char number[8];
    struct bytes port = f->scheme.len > 0 ? BYTES_NONE : request_port;

    if (f->port != 0) {
        (void)snprintf(number, sizeof(number), "%u", f->port);
        port = bytes_str(number);
    }
    if (port.len > 0 && !bytes_eq(port, scheme_port(scheme))) {
        text_char(to, ':');
        text_add(to, port);
    }
}

/* The prefix that matched, by whole segments, gives way to another one. */
static int add_replaced_prefix(struct text *to, const struct filter *f,
                               const struct route_match *match, struct bytes path)
{
    struct bytes prefix, replacement = f->path_prefix, rest;

    if (match == NULL || !match->has_path || match->path.op != MATCH_PREFIX) {
        return E_SYNTAX;
    }
    prefix = match->path.text;
    if (bytes_ends(prefix, BYTES("/"))) {
        prefix.len--;
    }
    if (!bytes_starts(path, prefix)) {
        return E_SYNTAX;
    }
    rest = bytes_from(path, prefix.len); /* nothing, or from a slash on */
    if (bytes_ends(replacement, BYTES("/")) && (rest.len > 0 || replacement.len > 1)) {
        replacement.len--;
    }
    text_add(to, replacement);
    text_add(to, rest);
    return 0;
}

static int add_path(struct text *to, const struct filter *f, const struct route_match *match,
                    struct bytes target)
{
    struct bytes path, query;
    bool has_query = bytes_split(target, '?', &path, &query);

    if (f->path.len > 0) {
        text_add(to, f->path);
    } else if (f->path_prefix.len > 0) {
        TRY(add_replaced_prefix(to, f, match, path));
    } else {
        text_add(to, path);
    }
    if (has_query) {
        text_char(to, '?');
        text_add(to, query);
    }
    return 0;
}

int filter_location(const struct filter *f, const struct route_match *match,
                    const struct head *request, struct arena *arena, struct bytes *out_location)
{
    char buffer[LOCATION_BYTES_MAX];
    struct bytes scheme = request->scheme.len > 0 ? request->scheme : BYTES("http"), port;
    struct bytes host = authority_host(request->authority, &port);
    bool stays = (f->scheme.len == 0 || bytes_eq_nocase(f->scheme, scheme)) &&
                 (f->host.len == 0 || bytes_eq_nocase(f->host, host));
    struct text t;
    size_t before_port, before_path;

    scheme = f->scheme.len > 0 ? f->scheme : scheme;
    host = f->host.len > 0 ? f->host : host;
    if (host.len == 0) {
        return E_SYNTAX;
    }
    text_init_fixed(&t, buffer, sizeof(buffer));
    text_add(&t, scheme);
    text_str(&t, "://");
    text_add(&t, host);
    before_port = t.len;
    add_port(&t, f, scheme, port);
    before_path = t.len;
    TRY(add_path(&t, f, match, request->path));
    if (t.err != 0) {
        return E_LIMIT;
    }
    if (bytes_eq(port, scheme_port(scheme))) {
        port = BYTES_NONE;
    }
    if (before_path > before_port) {
        before_port++; /* the colon */
    }
    if (stays && bytes_eq(bytes_of(buffer + before_port, before_path - before_port), port) &&
        bytes_eq(bytes_from(text_bytes(&t), before_path), request->path)) {
        return E_NOT_FOUND;
    }
    return arena_copy(arena, text_bytes(&t), out_location);
}
