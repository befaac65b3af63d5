/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/span.h"

#include "api/otlp.pb-c.h"
#include "core/text.h"
#include "mesh/route.h"

#define ATTRIBUTES_MAX 18
#define SCRATCH_BYTES  7168
#define KEY_BYTES      56 /* the longest key, and what frames an attribute */

static_assert(2 * SPAN_PATH_MAX + SPAN_URL_MAX + 9 * SPAN_TEXT_MAX <= SCRATCH_BYTES,
              "name, query, URL and nine short texts fit");
/* The path is written twice: it is the name, too. */
static_assert(SCRATCH_BYTES + SPAN_PATH_MAX + ATTRIBUTES_MAX * KEY_BYTES + 200 <= SPAN_BYTES_MAX,
              "a span fits");

#define FLAG_IS_REMOTE_KNOWN 0x100u
#define FLAG_IS_REMOTE       0x200u

static struct bytes value_of(const struct fields *f, enum field_id id)
{
    const struct field *field = fields_get(f, id);

    return field != NULL ? field->value : BYTES_NONE;
}

void span_request_note(struct span_request *r, const struct head *h)
{
    const struct field *host = fields_find(&h->fields, BYTES("x-forwarded-host"));

    *r = (struct span_request){
        .method = h->method,
        .scheme = h->scheme,
        .authority = h->authority,
        .path = h->path,
        .host = host != NULL ? host->value : h->authority,
        .user_agent = value_of(&h->fields, FIELD_USER_AGENT),
        .content_length = value_of(&h->fields, FIELD_CONTENT_LENGTH),
        .content_type = value_of(&h->fields, FIELD_CONTENT_TYPE),
        .orig_proto = value_of(&h->fields, FIELD_L5D_ORIG_PROTO),
    };
}

/* --- attributes ------------------------------------------------------------------------------- */

struct writer {
    Opentelemetry__Span span;
    Opentelemetry__KeyValue pairs[ATTRIBUTES_MAX], *attributes[ATTRIBUTES_MAX];
    Opentelemetry__AnyValue values[ATTRIBUTES_MAX];
    struct text text; /* of all values */
    char scratch[SCRATCH_BYTES + 1];
};

static ProtobufCBinaryData binary(struct bytes b)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)b.at, .len = b.len};
}

static struct bytes clean(struct writer *w, struct bytes b, size_t bytes_max)
{
    size_t at = w->text.len;

    text_utf8(&w->text, b, bytes_max);
    return bytes_from(text_bytes(&w->text), at);
}

/* What is empty is left out. */
static void add(struct writer *w, struct bytes key, struct bytes value)
{
    size_t n = w->span.n_attributes;

    if (value.len == 0) {
        return;
    }
    assert(n < ATTRIBUTES_MAX);
    opentelemetry__key_value__init(&w->pairs[n]);
    opentelemetry__any_value__init(&w->values[n]);
    w->pairs[n].key = binary(key);
    w->pairs[n].value = &w->values[n];
    w->values[n].value_case = OPENTELEMETRY__ANY_VALUE__VALUE_STRING_VALUE;
    w->values[n].string_value = binary(value);
    w->attributes[n] = &w->pairs[n];
    w->span.n_attributes = n + 1;
}

static void add_text(struct writer *w, struct bytes key, struct bytes value)
{
    add(w, key, clean(w, value, SPAN_TEXT_MAX));
}

/* An authority has no user information: both codecs refuse it (RFC 9110 4.2.4, RFC 9113 8.3.1). */
static void add_url(struct writer *w, const struct span_request *r)
{
    char url[SPAN_URL_MAX + 1];
    struct text t;

    text_init_fixed(&t, url, sizeof(url));
    if (r->scheme.len > 0) {
        text_utf8(&t, r->scheme, SPAN_TEXT_MAX);
        text_str(&t, "://");
        text_utf8(&t, r->authority, SPAN_TEXT_MAX);
    }
    text_utf8(&t, r->path, SPAN_URL_MAX - t.len);
    add(w, BYTES("url.full"), clean(w, text_bytes(&t), SPAN_URL_MAX));
}

/* X-Forwarded-Host may hold anything; a password in it stays where it is. */
static void add_server(struct writer *w, struct bytes host)
{
    struct bytes port, name;
    size_t at;

    if (bytes_find(host, BYTES("@"), &at)) {
        host = bytes_from(host, at + 1);
    }
    name = authority_host(host, &port);
    add_text(w, BYTES("server.address"), name);
    add_text(w, BYTES("server.port"), port);
}

static void add_request(struct writer *w, const struct span_request *r)
{
    struct bytes path, query;

    (void)bytes_split(r->path, '?', &path, &query);
    w->span.name = binary(clean(w, path.len > 0 ? path : r->method, SPAN_PATH_MAX));
    add_text(w, BYTES("http.request.method"), r->method);
    add_text(w, BYTES("url.scheme"), r->scheme);
    add(w, BYTES("url.path"), bytes_of(w->span.name.data, path.len > 0 ? w->span.name.len : 0));
    add(w, BYTES("url.query"), clean(w, query, SPAN_PATH_MAX));
    add_url(w, r);
    add(w, BYTES("network.transport"), BYTES("tcp"));
    add_server(w, r->host);
    add_text(w, BYTES("user_agent.original"), r->user_agent);
    add_text(w, BYTES("http.request.header.content-length"), r->content_length);
    add_text(w, BYTES("http.request.header.content-type"), r->content_type);
    add_text(w, BYTES("http.request.header.l5d-orig-proto"), r->orig_proto);
}

/* --- the whole -------------------------------------------------------------------------------- */

size_t span_pack(const struct span *s, uint8_t to[SPAN_BYTES_MAX])
{
    Opentelemetry__Status status;
    char code[16];
    struct writer w;
    size_t bytes;

    opentelemetry__span__init(&w.span);
    text_init_fixed(&w.text, w.scratch, sizeof(w.scratch));
    w.span.attributes = w.attributes;
    w.span.trace_id = binary(bytes_of(s->trace_id, sizeof(s->trace_id)));
    w.span.span_id = binary(bytes_of(s->span_id, sizeof(s->span_id)));
    w.span.parent_span_id = binary(bytes_of(s->parent_id, sizeof(s->parent_id)));
    w.span.flags = s->flags | FLAG_IS_REMOTE_KNOWN | (s->is_client ? 0 : FLAG_IS_REMOTE);
    w.span.kind = s->is_client ? OPENTELEMETRY__SPAN__SPAN_KIND__CLIENT
                               : OPENTELEMETRY__SPAN__SPAN_KIND__SERVER;
    w.span.start_time_unix_nano = s->begin_wall_ns;
    w.span.end_time_unix_nano = s->end_wall_ns;
    add(&w, BYTES("direction"), s->is_outbound ? BYTES("outbound") : BYTES("inbound"));
    add_request(&w, s->request);
    if (s->status != 0) {
        (void)snprintf(code, sizeof(code), "%u", s->status);
        add(&w, BYTES("http.response.status_code"), bytes_str(code));
    }
    add_text(&w, BYTES("error.type"), bytes_str(s->cause));
    if (s->is_error) {
        opentelemetry__status__init(&status);
        status.code = OPENTELEMETRY__STATUS__STATUS_CODE__ERROR;
        w.span.status = &status;
    }
    assert(w.text.err == 0);
    bytes = opentelemetry__span__pack(&w.span, to);
    assert(bytes <= SPAN_BYTES_MAX);
    return bytes;
}
