/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads onto the wire. Two steps: everything is checked and a bound of the size computed first,
 * then it is copied into one chunk without further checks. A head too large for a chunk goes piece
 * by piece.
 */
#include "core/chain.h"
#include "core/err.h"
#include "http/http1_private.h"
#include "http/http1_scan.h"

#define FRAME_BYTES_MAX 256 /* what the printer itself adds to the lines of the head */

/* --- writing ------------------------------------------------------------------------------------- */

struct sink {
    char *at; /* into `chunk`; NULL: pieces go to `parts` */
    struct chunk *chunk;
    struct chain parts;
    struct chunk_pool *pool;
    int err; /* sticky */
};

static void put(struct sink *s, struct bytes b)
{
    if (b.len == 0) {
        return;
    }
    if (s->at != NULL) {
        memcpy(s->at, b.at, b.len);
        s->at += b.len;
    } else if (s->err == 0) {
        s->err = chain_append(&s->parts, s->pool, b);
    }
}

#define PUT(s, literal) put((s), BYTES(literal))

static void put_decimal(struct sink *s, uint64_t value)
{
    char text[20];
    size_t at = sizeof(text);

    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    put(s, bytes_of(text + at, sizeof(text) - at));
}

static void put_field(struct sink *s, struct bytes name, struct bytes value)
{
    put(s, name);
    PUT(s, ": ");
    put(s, value);
    PUT(s, "\r\n");
}

static struct chunk *last_chunk(const struct chain *c)
{
    return list_is_empty(&c->chunks) ? NULL : LIST_ITEM(c->chunks.prev, struct chunk, node);
}

static int sink_open(struct sink *s, size_t bound, struct chain *to, struct chunk_pool *pool)
{
    struct chunk *last = last_chunk(to);

    *s = (struct sink){.pool = pool};
    chain_init(&s->parts);
    if (last != NULL && bound <= CHUNK_BYTES - last->end) {
        s->chunk = last;
    } else if (bound <= CHUNK_BYTES) {
        s->chunk = chunk_new(pool);
        if (s->chunk == NULL) {
            return E_LIMIT;
        }
    }
    if (s->chunk != NULL) {
        s->at = s->chunk->data + s->chunk->end;
    }
    return 0;
}

static int sink_close(struct sink *s, struct chain *to)
{
    if (s->at == NULL) {
        if (s->err == 0) {
            chain_move_all(to, &s->parts);
        }
        chain_clear(&s->parts);
        return s->err;
    }
    if (s->chunk == last_chunk(to)) {
        size_t grown = (size_t)(s->at - (s->chunk->data + s->chunk->end));

        s->chunk->end += (unsigned)grown;
        to->bytes += grown;
    } else {
        s->chunk->end = (unsigned)(s->at - s->chunk->data);
        chain_push(to, s->chunk);
    }
    assert(s->chunk->end <= CHUNK_BYTES);
    return 0;
}

/* --- checking ------------------------------------------------------------------------------------ */

/* Does this field go out as it is? The printer's own and those of another hop do not. */
static bool is_printed(const struct head *h, const struct field *f)
{
    switch (f->id) {
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_CONTENT_LENGTH:
    case FIELD_HTTP2_SETTINGS: /* RFC 9113 3.1: part of the obsolete upgrade */
        return false;
    case FIELD_UPGRADE:
        return h->is_upgrade;
    case FIELD_HOST:
        return h->status != 0 || h->authority.len == 0;
    default:
        return true;
    }
}

/* Add the bytes of a field line. RFC 9110 5.5: what holds CR, LF or NUL is not to be sent on. */
static int check_field(const struct field *f, size_t *io_bytes)
{
    bool is_known = f->id != FIELD_OTHER; /* then the name is one of ours */

    if ((!is_known && !http_is_token(f->name)) || !http_is_field_value(f->value)) {
        return E_SYNTAX;
    }
    *io_bytes += f->name.len + f->value.len + 4;
    return 0;
}

static bool is_target_text(struct bytes b)
{
    return b.len == 0 || scan_target_end(b.at, b.at + b.len) == b.at + b.len;
}

static int check_request_line(const struct head *h, enum http1_framing framing, size_t *io_bytes)
{
    bool has_path = h->path.len > 0 && (h->path.at[0] == '/' || bytes_eq(h->path, BYTES("*")));

    if (!http_is_token(h->method) || !is_target_text(h->authority) || !is_target_text(h->path) ||
        !is_target_text(h->scheme)) {
        return E_SYNTAX;
    }
    if (h->is_connect ? h->authority.len == 0 : !has_path) {
        return E_SYNTAX;
    }
    if (h->is_absolute && (h->authority.len == 0 || h->scheme.len == 0)) {
        return E_SYNTAX;
    }
    /* RFC 9110 9.3.6: CONNECT has no content. A stream of HTTP/2 may have some; as a body of HTTP/1 its
     * bytes would be a tunnel's for one server and a request for the next. */
    if (h->is_connect && framing != HTTP1_NO_BODY) {
        return E_SYNTAX;
    }
    /* RFC 9112 6.3: a request's body cannot end with the connection. */
    if (framing == HTTP1_UNTIL_CLOSE || (framing == HTTP1_NO_BODY && h->content_length > 0)) {
        return E_SYNTAX;
    }
    *io_bytes += h->method.len + h->scheme.len + h->path.len + 2 * h->authority.len;
    return 0;
}

static int check_head(const struct head *h, enum http1_framing framing, size_t *out_bound)
{
    size_t bytes = FRAME_BYTES_MAX;

    if (h->status == 0) {
        TRY(check_request_line(h, framing, &bytes));
    } else if (h->status < 100 || h->status > 999) {
        return E_SYNTAX;
    }
    for (unsigned i = 0; i < h->fields.count; i++) {
        if (is_printed(h, &h->fields.at[i])) {
            TRY(check_field(&h->fields.at[i], &bytes));
        }
    }
    *out_bound = bytes;
    return 0;
}

/* --- heads --------------------------------------------------------------------------------------- */

static void put_request_line(struct sink *s, const struct head *h, bool is_10)
{
    put(s, h->method);
    PUT(s, " ");
    if (h->is_connect) {
        put(s, h->authority);
    } else if (h->is_absolute) {
        put(s, h->scheme);
        PUT(s, "://");
        put(s, h->authority);
        if (h->path.at[0] != '*') { /* RFC 9112 3.2.4: it is no part of the absolute form */
            put(s, h->path);
        }
    } else {
        put(s, h->path);
    }
    put(s, is_10 ? BYTES(" HTTP/1.0\r\n") : BYTES(" HTTP/1.1\r\n"));
    if (h->authority.len > 0) {
        put_field(s, BYTES("host"), h->authority); /* RFC 9110 7.2: first */
    } else if (!is_10 && fields_get(&h->fields, FIELD_HOST) == NULL) {
        put_field(s, BYTES("host"), BYTES_NONE); /* RFC 9112 3.2: with an empty value */
    }
}

static void put_status_line(struct sink *s, const struct head *h)
{
    PUT(s, "HTTP/1.1 ");
    put_decimal(s, h->status);
    PUT(s, " "); /* RFC 9112 4: also where no reason follows */
    put(s, bytes_str(http_reason(h->status)));
    PUT(s, "\r\n");
}

/* Methods that have a body as a rule: without one they say so (RFC 9110 8.6). */
static bool expects_body(struct bytes method)
{
    return bytes_eq(method, BYTES("POST")) || bytes_eq(method, BYTES("PUT")) ||
           bytes_eq(method, BYTES("PATCH"));
}

static void put_framing(struct sink *s, const struct head *h, enum http1_framing framing)
{
    int64_t length = h->content_length;

    if (framing == HTTP1_CHUNKED) {
        PUT(s, "transfer-encoding: chunked\r\n");
        return;
    }
    if (framing == HTTP1_UNTIL_CLOSE) {
        return;
    }
    if (framing == HTTP1_LENGTH) {
        length = MAX(length, 0);
    } else if (h->status == 0) {
        /* HTTP/2 says that a body is missing with the stream's end; here it takes a length. */
        if (h->version == HTTP_2 && expects_body(h->method)) {
            length = 0;
        }
    } else if (h->status < 200 || h->status == 204 || h->is_upgrade) {
        return; /* RFC 9110 8.6 and 9.3.6: must not be sent */
    }
    if (length >= 0) {
        PUT(s, "content-length: ");
        put_decimal(s, (uint64_t)length);
        PUT(s, "\r\n");
    }
}

/* RFC 9110 7.6.1: Connection names what is for this hop alone. */
static void put_connection(struct sink *s, const struct head *h, const struct http1_print *how)
{
    bool close_after = how->close_after || how->framing == HTTP1_UNTIL_CLOSE;
    const struct {
        bool is_on;
        struct bytes word;
    } options[] = {
        {close_after, BYTES("close")},
        {how->says_keep_alive && !close_after, BYTES("keep-alive")},
        {h->is_upgrade && fields_get(&h->fields, FIELD_UPGRADE) != NULL, BYTES("upgrade")},
        {h->status == 0 && fields_get(&h->fields, FIELD_TE) != NULL, BYTES("te")},
    };
    bool is_first = true;

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (options[i].is_on) {
            put(s, is_first ? BYTES("connection: ") : BYTES(", "));
            put(s, options[i].word);
            is_first = false;
        }
    }
    if (!is_first) {
        PUT(s, "\r\n");
    }
}

int http1_print_head(const struct head *h, const struct http1_print *how, struct chain *to,
                     struct chunk_pool *pool)
{
    struct sink s;
    size_t bound = 0;

    TRY(check_head(h, how->framing, &bound));
    TRY(sink_open(&s, bound, to, pool));
    if (h->status == 0) {
        /* A peer of HTTP/1.0 is answered for as it asked (wire 5.4), unless its body needs chunks. */
        put_request_line(&s, h, h->version == HTTP_10 && how->framing != HTTP1_CHUNKED);
    } else {
        put_status_line(&s, h);
    }
    for (unsigned i = 0; i < h->fields.count; i++) {
        if (is_printed(h, &h->fields.at[i])) {
            put_field(&s, h->fields.at[i].name, h->fields.at[i].value);
        }
    }
    put_framing(&s, h, how->framing);
    if (how->date.len > 0 && fields_get(&h->fields, FIELD_DATE) == NULL) {
        put_field(&s, BYTES("date"), how->date); /* RFC 9110 6.6.1 */
    }
    put_connection(&s, h, how);
    PUT(&s, "\r\n");
    return sink_close(&s, to);
}

int http1_print_request(const struct head *h, enum http1_framing framing, struct chain *to,
                        struct chunk_pool *pool)
{
    assert(h->status == 0);
    return http1_print_head(h, &(struct http1_print){.framing = framing}, to, pool);
}

int http1_print_response(const struct head *h, enum http1_framing framing, bool close_after,
                         struct chain *to, struct chunk_pool *pool)
{
    struct http1_print how = {.framing = framing, .close_after = close_after};

    assert(h->status != 0);
    return http1_print_head(h, &how, to, pool);
}

int http1_print_trailers(const struct fields *f, struct chain *to, struct chunk_pool *pool)
{
    struct sink s;
    size_t bound = FRAME_BYTES_MAX;

    for (unsigned i = 0; f != NULL && i < f->count; i++) {
        TRY(check_field(&f->at[i], &bound));
    }
    TRY(sink_open(&s, bound, to, pool));
    for (unsigned i = 0; f != NULL && i < f->count; i++) {
        if (!http1_is_forbidden_trailer(&f->at[i])) {
            put_field(&s, f->at[i].name, f->at[i].value);
        }
    }
    PUT(&s, "\r\n");
    return sink_close(&s, to);
}
